//! What is done to the files of a journal by who can write them, and what is then said of it.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tenantd::{
    journal::Journal,
    model::{Bytes, Entry, host::JournalLimits},
};

use crate::cli::{Cli, Ended, bare, end};

const fn limits(files: u32) -> JournalLimits {
    JournalLimits { file_size: Bytes::new(900), files }
}

/// A journal of several small files, and what `--anchor` printed of it.
struct Case {
    folder: tempfile::TempDir,
    anchor: String,
}

impl Case {
    /// Of so many records, with no more files than this.
    fn new(records: u32, files: u32) -> Self {
        let case = Self { folder: tempfile::tempdir().unwrap(), anchor: String::new() };
        case.write(records, files);
        let anchor = case.verify(&["--anchor"]).with(0).out.trim().to_owned();
        Self { anchor, ..case }
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Has the daemon's own code go on with it.
    fn write(&self, records: u32, files: u32) {
        let (journal, _) = Journal::open(self.path(), limits(files)).unwrap();
        for number in 0..records {
            journal.append_blocking(&Entry::Stopped { program: format!("program {number:03}") }).unwrap();
        }
    }

    fn verify(&self, options: &[&str]) -> Ended {
        end(bare(&[&["audit", "verify", "--journal", self.path().to_str().unwrap()], options].concat()))
    }

    fn against(&self, code: i32) -> Ended {
        self.verify(&["--against", &self.anchor]).with(code)
    }

    /// The files in their order.
    fn files(&self) -> Vec<PathBuf> {
        let mut files: Vec<PathBuf> = fs::read_dir(self.path()).unwrap().map(|entry| entry.unwrap().path()).collect();
        files.retain(|path| path.extension().is_some_and(|ending| ending == "jsonl"));
        files.sort();
        files
    }

    fn remove(&self, places: std::ops::Range<usize>) {
        self.files()[places].iter().for_each(|path| fs::remove_file(path).unwrap());
    }

    fn lines(&self) -> Vec<Value> {
        let text: String = self.files().iter().map(|path| fs::read_to_string(path).unwrap()).collect();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// The record before a file, as a record that drops all before it names it.
    fn dropped_before(&self, place: usize) -> Value {
        let text = fs::read_to_string(&self.files()[place]).unwrap();
        let first: Value = serde_json::from_str(text.lines().next().unwrap()).unwrap();
        json!([{"first": 1, "last": first["seq"].as_u64().unwrap() - 1, "head": first["prev"]}])
    }

    /// Adds a record whose hash is right; a segment's in a file of its own.
    fn forge(&self, time: &str, mut entry: Value) {
        let lines = self.lines();
        let last = lines.last().unwrap();
        let (seq, prev) = (last["seq"].as_u64().unwrap() + 1, last["hash"].as_str().unwrap());
        let is_segment = entry["type"] == "segment";
        if is_segment {
            entry["previous"] = json!(prev);
        }
        let entry = entry.to_string();
        let inner = &entry[1..entry.len() - 1];
        let hashed = format!("{{\"v\":1,\"seq\":{seq},\"time\":\"{time}\",{inner},\"prev\":\"{prev}\"");
        let hash: String = Sha256::digest(hashed.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect();
        let line = format!("{hashed},\"hash\":\"{hash}\"}}\n");
        match is_segment {
            true => fs::write(self.path().join(format!("{seq:020}.jsonl")), line).unwrap(),
            false => {
                let path = self.files().pop().unwrap();
                fs::write(&path, fs::read_to_string(&path).unwrap() + &line).unwrap();
            }
        }
    }
}

const LATER: &str = "2199-01-01T00:00:00Z";

/// What is to be done, and what is then said without an anchor and against the one from before. An exit code, and words.
type Row = (&'static str, fn(&Case), (i32, &'static str), (i32, &'static str));

#[test]
fn whatever_is_done_to_the_files_is_said() {
    let rows: &[Row] = &[
        ("nothing", |_| {}, (0, "The chain holds: "), (0, "is as the anchor says.\n")),
        (
            "a middle file goes",
            |case| case.remove(4..5),
            (1, "there are older ones, and only the oldest are ever dropped"),
            (1, "records "),
        ),
        (
            "a middle file goes, and a forged record says that it was dropped",
            |case| {
                let dropped = case.dropped_before(5);
                case.remove(4..5);
                case.forge(
                    LATER,
                    json!({"type": "segment", "dropped": dropped, "limits": {"files": 2, "file_size": 1}}),
                );
            },
            (1, "only the oldest are ever dropped"),
            (1, "only the oldest are ever dropped"),
        ),
        (
            "the same, in the form of an older version",
            |case| {
                let dropped = case.dropped_before(5);
                case.remove(4..5);
                case.forge(LATER, json!({"type": "segment", "dropped": dropped}));
            },
            (1, "only the oldest are ever dropped"),
            (1, "only the oldest are ever dropped"),
        ),
        (
            "two middle files go: both are named",
            |case| {
                case.remove(6..7);
                case.remove(3..4);
            },
            (1, "; 00000000"),
            (1, "; 00000000"),
        ),
        ("the oldest go", |case| case.remove(0..3), (1, "no later record says that"), (1, "no later record says that")),
        (
            "the oldest go, and a forged record says so in the form of an older version",
            |case| {
                let dropped = case.dropped_before(3);
                case.remove(0..3);
                case.forge(LATER, json!({"type": "segment", "dropped": dropped}));
            },
            (1, "and not how many files are kept"),
            (1, "and not how many files are kept"),
        ),
        (
            "the oldest go, and a forged record says so that keeps as many as ever",
            |case| {
                let dropped = case.dropped_before(3);
                case.remove(0..3);
                case.forge(
                    LATER,
                    json!({"type": "segment", "dropped": dropped, "limits": {"files": 64, "file_size": 900}}),
                );
            },
            (1, ", and 64 are kept"),
            (1, ", and 64 are kept"),
        ),
        (
            "the oldest go, and a forged record says so that keeps fewer",
            |case| {
                let dropped = case.dropped_before(3);
                case.remove(0..3);
                case.forge(
                    LATER,
                    json!({"type": "segment", "dropped": dropped, "limits": {"files": 4, "file_size": 900}}),
                );
            },
            (0, "keeps 4 files of 900 bytes, and 64 files of 900 bytes were kept before"),
            (1, "with 4 files of 900 bytes kept, and 64 files of 900 bytes were when the anchor was taken"),
        ),
        (
            "the oldest go, and so many forged files come that they had to",
            |case| {
                let dropped = case.dropped_before(3);
                case.remove(0..3);
                for number in 0..64 {
                    let dropped = if number == 63 { dropped.clone() } else { json!([]) };
                    let limits = json!({"files": 64, "file_size": 900});
                    case.forge(LATER, json!({"type": "segment", "dropped": dropped, "limits": limits}));
                }
            },
            (0, "begins a new file, though the one before it has "),
            (1, "begins a file before the one before it was full"),
        ),
        ("the newest goes", |case| case.remove(9..10), (0, "The chain holds"), (1, "the journal was cut off")),
        (
            "the newest is cut off at a record, and the daemon goes on",
            |case| {
                let path = case.files().pop().unwrap();
                let text = fs::read_to_string(&path).unwrap();
                fs::write(&path, text.split_inclusive('\n').take(2).collect::<String>()).unwrap();
                case.write(20, 64);
            },
            (0, "The chain holds"),
            (1, "has another hash than the anchor"),
        ),
        (
            "the newest goes, and the daemon goes on",
            |case| {
                case.remove(9..10);
                case.write(20, 64);
            },
            (0, "The chain holds"),
            (1, "has another hash than the anchor"),
        ),
        (
            "a file gets another's number",
            |case| fs::rename(&case.files()[4], case.path().join("00000000000000000777.jsonl")).unwrap(),
            (1, "the file was removed, renamed or replaced"),
            (1, "the file was removed, renamed or replaced"),
        ),
        (
            "a file gets a name that is none",
            |case| fs::rename(&case.files()[4], case.files()[4].with_extension("old")).unwrap(),
            (1, "only the oldest are ever dropped"),
            (1, "only the oldest are ever dropped"),
        ),
        (
            "a file is there twice",
            |case| assert!(fs::copy(&case.files()[4], case.path().join("00000000000000000777.jsonl")).is_ok()),
            (1, "the file was removed, renamed or replaced"),
            (1, "the file was removed, renamed or replaced"),
        ),
        (
            "two files are swapped",
            |case| {
                let (a, b) = (case.files()[3].clone(), case.files()[6].clone());
                let (one, other) = (fs::read(&a).unwrap(), fs::read(&b).unwrap());
                fs::write(a, other).unwrap();
                fs::write(b, one).unwrap();
            },
            (1, "the file was removed, renamed or replaced"),
            (1, "the file was removed, renamed or replaced"),
        ),
        (
            "all but the newest go, so that the head is the same",
            |case| case.remove(0..9),
            (1, "records 1 to "),
            (1, "records 1 to "),
        ),
        (
            "another journal, as long, lies there",
            |case| {
                case.remove(0..10);
                case.write(40, 64);
            },
            (0, "The chain holds"),
            (1, "has another hash than the anchor"),
        ),
        (
            "a clock was set back",
            |case| case.forge("2020-01-01T00:00:00Z", json!({"type": "stopped", "program": "x"})),
            (0, "Note: the clock was set back by "),
            (0, "Note: the clock was set back by "),
        ),
        (
            "records were not written",
            |case| case.forge(LATER, json!({"type": "lost", "records": 7, "reason": "no\u{1b}[2Jspace"})),
            (0, "7 records before record "),
            (0, "could not be written: no\\u{1b}[2Jspace."),
        ),
        (
            "something else lies in the folder",
            |case| fs::write(case.path().join("torn-5-1"), "x").unwrap(),
            (0, "Note: torn-5-1 lies in the folder, and no record reports it."),
            (0, "Note: torn-5-1 lies"),
        ),
        (
            "what was set aside goes",
            |case| {
                let path = case.files().pop().unwrap();
                fs::write(&path, fs::read_to_string(&path).unwrap() + "half a rec").unwrap();
                case.write(1, 64);
                let aside = fs::read_dir(case.path()).unwrap().map(|entry| entry.unwrap().path());
                let aside = aside.filter(|path| path.to_str().unwrap().contains("torn-"));
                aside.for_each(|path| fs::remove_file(path).unwrap());
            },
            (0, ", which was set aside, is not there."),
            (0, ", which was set aside, is not there."),
        ),
    ];
    for (what, act, alone, anchored) in rows {
        let case = Case::new(30, 64);
        assert_eq!(case.files().len(), 10, "{what}");
        act(&case);
        for (ended, (code, words)) in [(case.verify(&[]), alone), (case.verify(&["--against", &case.anchor]), anchored)]
        {
            let printed = if *code == 0 { &ended.out } else { &ended.err };
            assert!(
                ended.code == *code && printed.contains(words),
                "{what}: {}\n{}\n{}",
                ended.code,
                ended.out,
                ended.err
            );
            assert!(*code == 0 || !ended.out.contains("The chain holds"), "{what}");
        }
    }
}

#[test]
fn what_is_missing_is_named_with_the_times_around_it() {
    let case = Case::new(30, 64);
    let lines = case.lines();
    let first = |place: usize| case.files()[place].file_stem().unwrap().to_str().unwrap().parse::<u64>().unwrap();
    let seconds = |seq: u64| {
        let time: jiff::Timestamp = lines[usize::try_from(seq).unwrap() - 1]["time"].as_str().unwrap().parse().unwrap();
        time.strftime("%Y-%m-%d %H:%M:%SZ").to_string()
    };
    let (from, to, again) = (first(4), first(5) - 1, first(7));
    let between =
        format!("records {from} to {to} are missing, written from {} to {}: ", seconds(from - 1), seconds(to + 1));
    let before = format!("records {} to {} are missing, written from ", again, first(8) - 1);
    case.remove(7..8);
    case.remove(4..5);
    let err = case.verify(&[]).with(1).err;
    assert!(err.contains(&between) && err.contains(&before), "{err}");
    case.remove(0..1);
    let err = case.verify(&[]).with(1).err;
    let begin = format!(
        "records 1 to {} are missing, written until {}: ",
        case.lines()[0]["seq"].as_u64().unwrap() - 1,
        seconds(5)
    );
    assert!(err.contains(&between) && err.contains(&before) && err.contains(&begin), "{err}");
}

#[test]
fn old_files_are_dropped_without_alarm() {
    let case = Case::new(30, 4);
    assert_eq!(case.files().len(), 4);
    let out = case.verify(&[]).with(0).out;
    assert!(out.contains(" says that they were dropped with their files, when 4 files were kept.\n"), "{out}");
    assert!(!out.contains("Note"), "{out}");
    assert!(case.against(0).out.ends_with(&format!("Head: {}\n", case.anchor)));

    // Some more go, and the anchor's record is still there.
    case.write(5, 4);
    let out = case.against(0).out;
    assert!(out.contains(" were dropped since the anchor was taken.\n"), "{out}");
    // An anchor of an older version does not say where the journal began.
    let old = case.anchor.split_once("..").unwrap().1.to_owned();
    let out = case.verify(&["--against", &old]).with(0).out;
    assert!(out.contains("The anchor does not say which record was the first then"), "{out}");
    // Then its record goes as well.
    case.write(30, 4);
    let err = case.against(1).err;
    assert!(err.contains("of the anchor was dropped with its file long ago; keep a newer anchor"), "{err}");

    // A person keeps fewer: that is for a person to know of, and a new anchor takes it as it is.
    let case = Case::new(30, 6);
    while case.files().len() > 3 {
        case.write(1, 3);
    }
    assert!(
        case.verify(&[]).with(0).out.contains("keeps 3 files of 900 bytes, and 6 files of 900 bytes were kept before")
    );
    let err = case.against(1).err;
    assert!(err.contains("where a person set that, take a new anchor"), "{err}");
    let anchor = case.verify(&["--anchor"]).with(0).out;
    case.verify(&["--against", anchor.trim()]).with(0);

    // A file that cannot be removed keeps those after it, so that nothing is missing between others.
    let case = Case::new(30, 6);
    let oldest = case.files()[0].clone();
    let bytes = fs::read(&oldest).unwrap();
    fs::remove_file(&oldest).unwrap();
    fs::create_dir(&oldest).unwrap();
    fs::set_permissions(&oldest, fs::Permissions::from_mode(0o700)).unwrap();
    case.write(3, 6);
    fs::remove_dir(&oldest).unwrap();
    fs::write(&oldest, bytes).unwrap();
    case.verify(&[]).with(0);
}

#[test]
fn a_journal_of_an_older_version_is_verified_as_before() {
    // Three files of the older form: the third says that the first was dropped.
    let case = Case::new(3, 64);
    case.remove(0..case.files().len());
    let hash =
        |text: &str| -> String { Sha256::digest(text.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect() };
    let zero = "0".repeat(64);
    let hashed =
        format!("{{\"v\":1,\"seq\":1,\"time\":\"{LATER}\",\"type\":\"segment\",\"previous\":\"\",\"prev\":\"{zero}\"");
    let line = format!("{hashed},\"hash\":\"{}\"}}\n", hash(&hashed));
    fs::write(case.path().join("00000000000000000001.jsonl"), line).unwrap();
    case.forge(LATER, json!({"type": "segment"}));
    let dropped = case.dropped_before(1);
    case.forge(LATER, json!({"type": "segment", "dropped": dropped}));
    case.verify(&[]).with(0);
    case.remove(0..1);
    let out = case.verify(&[]).with(0).out;
    assert!(out.contains("The records before 2 are not there: record 3 of 2199-01-01 00:00:00Z says that"), "{out}");
    // It is gone on with by this one.
    case.write(8, 64);
    case.verify(&[]).with(0);
    // Fewer than two are never left.
    case.remove(0..1);
    case.verify(&[]).with(1);
}

#[test]
fn the_report_and_the_events_say_the_same_gaps() {
    let cli = Cli::new(&["ant"]);
    let case = Case::new(30, 64);
    let dropped = case.dropped_before(5);
    let lines = case.lines();
    let from = case.files()[4].file_stem().unwrap().to_str().unwrap().parse::<u64>().unwrap();
    let to = dropped[0]["last"].as_u64().unwrap();
    case.remove(4..5);
    let now = lines.last().unwrap()["time"].as_str().unwrap().to_owned();
    case.forge(&now, json!({"type": "segment", "dropped": dropped, "limits": {"files": 2, "file_size": 1}}));
    let folder = case.path().to_str().unwrap();

    let events = cli.run(&["events", "--journal", folder]).with(0);
    assert!(
        events.err.contains(&format!("warning: the records {from} to {to} are not in {folder};")),
        "{}",
        events.err
    );
    let repo = cli.repo.to_str().unwrap();
    let report = cli.run(&["audit", "report", "--repo", repo, "--journal", folder, "--format", "json"]).with(1);
    assert!(report.err.contains(&format!("records {from} to {to} are missing")), "{}", report.err);
    let report: Value = serde_json::from_str(&report.out).unwrap();
    assert!(report["sources"]["journals"][0]["broken"].as_str().unwrap().contains("only the oldest are ever dropped"));
    let gaps = report["gaps"]["kept"].as_array().unwrap();
    let missing: Vec<&Value> = gaps.iter().filter(|gap| gap["kind"] == "missing").collect();
    assert_eq!(missing.len(), 1, "{gaps:?}");
    assert_eq!(missing[0]["what"], format!("the records {from} to {to} are not there"));
    // What the forged record claims is told as its claim.
    let claimed = gaps.iter().find(|gap| gap["kind"] == "dropped").unwrap()["what"].as_str().unwrap();
    assert!(claimed.starts_with("record ") && claimed.contains(" says that the records 1 to "), "{claimed}");
    let explained = cli.run(&["explain", "ant", "--repo", repo, "--journal", folder]).with(0).out;
    assert!(
        explained.contains("its chain is broken, and it may be incomplete: ") && explained.contains("are missing"),
        "{explained}"
    );

    // The beginning, without a word.
    let case = Case::new(30, 64);
    case.remove(0..3);
    let folder = case.path().to_str().unwrap();
    let report = cli.run(&["audit", "report", "--repo", repo, "--journal", folder, "--format", "json"]).with(1);
    let report: Value = serde_json::from_str(&report.out).unwrap();
    let whats: Vec<&str> =
        report["gaps"]["kept"].as_array().unwrap().iter().map(|gap| gap["what"].as_str().unwrap()).collect();
    assert!(whats.iter().any(|what| what.contains("no later record says that they were dropped")), "{whats:?}");
    assert!(!whats.iter().any(|what| what.contains("with their files")), "{whats:?}");
    // And as it should be.
    let case = Case::new(30, 4);
    let report = cli.run(&["audit", "report", "--repo", repo, "--journal", case.path().to_str().unwrap()]).with(0);
    assert!(report.out.contains("; record ") && report.out.contains("were dropped with their files"), "{}", report.out);
    assert!(report.out.contains(&format!("head {}", case.anchor)), "{}", report.out);
}

#[test]
fn the_gateways_journal_is_looked_at_alike() {
    let cli = Cli::new(&["ant"]);
    let (own, gateway) = (Case::new(3, 64), Case::new(30, 64));
    let (root, state) = (cli.world.host.data_root.clone(), cli.world.folder().join("state"));
    for (case, folder) in [(&own, root.join("journal")), (&gateway, state.join("journal"))] {
        fs::create_dir_all(&folder).unwrap();
        for path in case.files() {
            fs::copy(&path, folder.join(path.file_name().unwrap())).unwrap();
        }
    }
    cli.host_file(&format!("engine: {}\negress: {{state: {}}}\n", cli.world.engine.url(), state.display()));
    let out = cli.run(&["audit", "verify"]).with(0).out;
    assert_eq!(out.matches("The chain holds: ").count(), 2, "{out}");
    fs::remove_file(state.join("journal").join(gateway.files()[4].file_name().unwrap())).unwrap();
    let ended = cli.run(&["audit", "verify"]).with(1);
    assert!(
        ended.out.contains("The chain holds: 4 records") && ended.err.contains("only the oldest are ever"),
        "{}",
        ended.err
    );
    // Where both are wrong, both are told.
    fs::remove_file(root.join("journal").join(own.files()[0].file_name().unwrap())).unwrap();
    let ended = cli.run(&["audit", "verify"]).with(1);
    assert_eq!(ended.err.matches("error: ").count(), 2, "{}", ended.err);
    // What this host's own settings keep is known, so that a record which kept less stands out.
    let small = Case::new(30, 4);
    fs::remove_dir_all(root.join("journal")).unwrap();
    fs::create_dir(root.join("journal")).unwrap();
    for path in small.files() {
        fs::copy(&path, root.join("journal").join(path.file_name().unwrap())).unwrap();
    }
    let note = "Note: host.yaml keeps 64 files now, and record ";
    assert!(cli.run(&["audit", "verify"]).out.contains(note));
    assert!(!small.verify(&[]).with(0).out.contains(note));
    // And each can be anchored.
    gateway.verify(&["--anchor"]).with(0);
}

#[test]
fn an_anchor_in_a_file_that_does_not_say_what_is_kept_holds_what_was_there() {
    let mut case = Case::new(1, 64);
    for _ in 0..3 {
        case.forge(LATER, json!({"type": "segment"}));
    }
    case.anchor = case.verify(&["--anchor"]).with(0).out.trim().to_owned();
    case.against(0);
    let dropped = case.dropped_before(3);
    case.remove(0..3);
    case.forge(LATER, json!({"type": "segment", "dropped": dropped, "limits": {"files": 2, "file_size": 1}}));
    let printed = case.against(1).err;
    assert!(printed.contains("though the anchor had them"), "{printed}");
}
