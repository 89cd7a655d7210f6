//! The journal as the binary shows it, killed writers, and disks that are really full.

use std::{
    env, fs,
    io::{BufRead, BufReader, Read, Write},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
    time::Duration,
};

use serde_json::{Value, json};
use tenantd::{
    journal::{Anchor, Journal, JournalError, read, verify},
    model::{
        Bytes, Entry, Revision,
        host::JournalLimits,
        record::{
            FieldChange, OutcomeRecord, RevisionRecord, SegmentStart, StepRecord, StepResult, Trigger, Verdict, Why,
        },
    },
};

use crate::cli::{Ended, bare, end};

const LIMITS: JournalLimits = JournalLimits { file_size: Bytes::mib(16), files: 64 };

fn revision() -> Revision {
    Revision { branch: "main".to_owned(), commit: "abcdef1234".repeat(4) }
}

fn step(tenant: &str) -> StepRecord {
    let field = |name: &str, before: Value, after: Value| FieldChange { name: name.to_owned(), before, after };
    StepRecord {
        tenant: tenant.to_owned(),
        resource: "container".to_owned(),
        step: "update the limits".to_owned(),
        object: "f".repeat(64),
        fields: vec![
            field("memory", json!(4_i64 << 30), json!(1536 << 20)),
            field("nano_cpus", json!(0), json!(500_000_000)),
        ],
        why: Why::Drift,
        trigger: Trigger::Event {
            event: "container update".to_owned(),
            object: "f".repeat(64),
            time: "2026-11-21T12:00:00.912Z".parse().unwrap(),
        },
        revision: Some(revision().to_string()),
        signer: Some("alice".to_owned()),
        plan: "0a1b2c".to_owned(),
    }
}

fn done(intent: u64, tenant: &str) -> Entry {
    Entry::Outcome(OutcomeRecord {
        intent,
        tenant: tenant.to_owned(),
        result: StepResult::Done,
        error: None,
        took_ms: 12,
    })
}

fn failed(intent: u64, tenant: &str, error: &str) -> Entry {
    Entry::Outcome(OutcomeRecord {
        intent,
        tenant: tenant.to_owned(),
        result: StepResult::Failed,
        error: Some(error.to_owned()),
        took_ms: 30_001,
    })
}

/// A journal on a host whose settings name its data root.
struct Host {
    folder: tempfile::TempDir,
}

impl Host {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let settings = format!("apiVersion: tenantd/v1\nkind: Host\ndataRoot: {}\n", folder.path().display());
        fs::write(folder.path().join("host.yaml"), settings).unwrap();
        Self { folder }
    }

    fn journal(&self) -> PathBuf {
        self.folder.path().join("journal")
    }

    fn open(&self) -> Journal {
        Journal::open(&self.journal(), LIMITS).unwrap().0
    }

    fn file(&self) -> PathBuf {
        self.journal().join("00000000000000000001.jsonl")
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = bare(arguments);
        command.arg("--host").arg(self.folder.path().join("host.yaml"));
        command
    }

    fn run(&self, arguments: &[&str]) -> Ended {
        end(self.command(arguments))
    }

    /// The lines of `tenantd events`, without their times.
    fn events(&self, options: &[&str]) -> Vec<String> {
        let ended = self.run(&[&["events"], options].concat()).with(0);
        assert_eq!(ended.err, "");
        ended.out.lines().map(|line| line["2026-11-21 12:00:00Z  ".len()..].to_owned()).collect()
    }
}

#[test]
fn events_are_shown_as_a_person_reads_them() {
    let host = Host::new();
    let journal = host.open();
    let add = |entry: Entry| journal.append_blocking(&entry).unwrap();
    add(Entry::Started { program: "daemon".to_owned(), version: "1.2.3".to_owned() });
    add(Entry::Revision(RevisionRecord {
        revision: revision(),
        verdict: Verdict::Held,
        signer: Some("alice".to_owned()),
        reason: Some("it removes 2 of 3 tenants".to_owned()),
        tenants: vec!["cat".to_owned(), "dog".to_owned()],
        plan: Some("77aa".to_owned()),
        by: None,
    }));
    let ant = add(Entry::Intent(step("acme-dental")));
    let plain = StepRecord {
        step: "start the container".to_owned(),
        fields: Vec::new(),
        why: Why::Intent,
        trigger: Trigger::Commit { revision: revision() },
        signer: None,
        ..step("bee")
    };
    let bee = add(Entry::Intent(plain.clone()));
    add(failed(bee, "bee", "no \u{1b}[31mspace\nleft"));
    add(done(ant, "acme-dental"));
    add(Entry::Suspended {
        tenant: "bee".to_owned(),
        reason: "moving".to_owned(),
        until: "2027-01-01T00:00:00Z".parse().unwrap(),
        by: "uid 0".to_owned(),
    });
    add(Entry::Intent(plain));

    let bee = [
        "bee               intent   start the container   failed after 30001 ms: no \\u{1b}[31mspace\\nleft   \
         (commit main@sha1:abcdef1234ab; plan 0a1b2c)",
        "bee               suspend  until 2027-01-01 00:00:00Z: moving (by uid 0)",
        "bee               intent   start the container   no outcome yet   (commit main@sha1:abcdef1234ab; plan 0a1b2c)",
    ];
    let acme = "acme-dental       drift    update the limits: memory 4GiB -> 1536MiB; cpus unlimited -> 0.5   \
                done in 12 ms   (container update event 12:00:00.912Z; main@sha1:abcdef1234ab; signed by alice; plan 0a1b2c)";
    let all = [
        "-                 start    daemon 1.2.3",
        "-                 commit   main@sha1:abcdef1234ab held, signed by alice: it removes 2 of 3 tenants; plan 77aa; \
         it would remove cat, dog",
        bee[0],
        acme,
        bee[1],
        bee[2],
    ];
    assert_eq!(host.events(&[]), all);
    assert_eq!(host.events(&["--tenant", "bee"]), bee);
    assert_eq!(host.events(&["--tenant", "cat"]), [all[1]]);
    assert_eq!(host.events(&["--since", "1h"]), all);
    assert!(host.events(&["--since", "9999-01-01T00:00:00Z"]).is_empty());
    host.run(&["events", "--since", "yesterday"]).with(2);

    // As JSON each record is the line that is stored.
    let stored = fs::read_to_string(host.file()).unwrap();
    assert_eq!(host.run(&["events", "--format", "json"]).with(0).out, stored);
    let of_ant: Vec<&str> = stored.lines().filter(|line| line.contains("acme-dental")).collect();
    let ended = host.run(&["events", "--format", "json", "--tenant", "acme-dental"]).with(0);
    assert_eq!(ended.out.lines().collect::<Vec<_>>(), of_ant);
}

#[test]
fn a_follower_is_notified_when_a_step_has_ended() {
    let host = Host::new();
    let journal = host.open();
    let mut follower = host.command(&["events", "-f"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(follower.stdout.take().unwrap()).lines();
    for tenant in ["ant", "bee"] {
        let seq = journal.append_blocking(&Entry::Intent(step(tenant))).unwrap();
        journal.append_blocking(&done(seq, tenant)).unwrap();
        let line = lines.next().unwrap().unwrap();
        assert!(line.contains(&format!("  {tenant} ")) && line.contains("done in 12 ms"), "{line}");
    }
    follower.kill().unwrap();
    follower.wait().unwrap();
}

#[test]
fn a_reader_that_goes_away_is_no_error() {
    let host = Host::new();
    let journal = host.open();
    let long = "x".repeat(100_000);
    for _ in 0..20 {
        journal.append_blocking(&Entry::Stopped { program: long.clone() }).unwrap();
    }
    for options in [&["events"][..], &["events", "-f"]] {
        let mut child = host.command(options).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut first = [0; 10];
        child.stdout.take().unwrap().read_exact(&mut first).unwrap();
        let ended = child.wait_with_output().unwrap();
        assert_eq!((ended.status.code(), ended.stderr.len()), (Some(0), 0));
    }
}

#[test]
fn an_audit_says_whether_and_where_the_chain_breaks() {
    let host = Host::new();
    let ended = host.run(&["audit", "verify"]).with(1);
    assert!(ended.err.starts_with("error: cannot read "), "{}", ended.err);

    let journal = host.open();
    for tenant in ["ant", "bee", "cat"] {
        journal.append_blocking(&Entry::Resumed { tenant: tenant.to_owned(), by: "expiry".to_owned() }).unwrap();
    }
    let head = format!("1..{}", journal.head());
    let ended = host.run(&["audit", "verify"]).with(0);
    let lines: Vec<&str> = ended.out.lines().collect();
    assert_eq!((lines.len(), lines[1]), (2, format!("Head: {head}").as_str()));
    assert!(lines[0].starts_with("The chain holds: 4 records in 1 file, written from 20"), "{}", ended.out);
    assert_eq!(host.run(&["audit", "verify", "--anchor"]).with(0).out, format!("{head}\n"));
    let ended = host.run(&["audit", "verify", "--against", &head]).with(0);
    assert!(ended.out.contains("\nRecord 4 is as the anchor says.\n"), "{}", ended.out);
    host.run(&["audit", "verify", "--against", "4:nonsense"]).with(2);
    let other = host.run(&["audit", "verify", "--against", &format!("4:{}", "0".repeat(64))]).with(1);
    assert!(other.err.contains("record 4 has another hash than the anchor\nhint: keep a copy"), "{}", other.err);

    // A copy, as an auditor has it: torn, cut off, altered.
    let copy = host.folder.path().join("copy");
    let whole = fs::read_to_string(host.file()).unwrap();
    let audit = |text: &str, options: &[&str]| {
        fs::create_dir_all(&copy).unwrap();
        fs::write(copy.join(host.file().file_name().unwrap()), text).unwrap();
        end(bare(&[&["audit", "verify", "--journal", copy.to_str().unwrap()], options].concat()))
    };
    let torn = &whole[..whole.len() - 10];
    let ended = audit(torn, &[]).with(0);
    let shown = ended.out.lines().nth(1).unwrap();
    assert!(shown.starts_with("Torn: ") && shown.contains(", after record 3, are not a whole record."), "{shown}");
    let shorter: String = whole.lines().take(3).map(|line| format!("{line}\n")).collect();
    audit(&shorter, &[]).with(0);
    let ended = audit(&shorter, &["--against", &head]).with(1);
    assert!(
        ended.err.contains("the journal was cut off: it ends with record 3, and the anchor is record 4"),
        "{}",
        ended.err
    );
    let ended = audit(&whole.replace("\"bee\"", "\"bea\""), &["--anchor"]).with(1);
    let place =
        "00000000000000000001.jsonl, line 3, record 3: the record was altered: its hash does not match its bytes";
    assert!(ended.err.contains(place) && ended.out.is_empty(), "{}", ended.err);
    // What is altered is not shown as if it were true.
    let ended = end(bare(&["events", "--journal", copy.to_str().unwrap()])).with(0);
    assert!(ended.err.contains("line 3 is not shown") && !ended.out.contains("bea"), "{}{}", ended.out, ended.err);

    // A torn end of the host's own journal: the next start sets it aside, and it is told.
    drop(journal);
    fs::OpenOptions::new().append(true).open(host.file()).unwrap().write_all(b"{\"v\":1,\"se").unwrap();
    host.open();
    let ended = host.run(&["audit", "verify", "--against", &head]).with(0);
    let printed = format!(
        "Moved: 10 bytes at {} of 00000000000000000001.jsonl were not a whole record; see torn-5-1.",
        whole.len()
    );
    assert_eq!(ended.out.lines().nth(1), Some(printed.as_str()));
    assert_eq!(fs::read_to_string(host.journal().join("torn-5-1")).unwrap(), "{\"v\":1,\"se");
}

/// This test program again, to do one thing and nothing else.
fn child(test: &str, journal: &Path) -> Command {
    let mut command = Command::new(env::current_exe().unwrap());
    command.args([&format!("journal::{test}"), "--exact", "--nocapture"]).env(FOLDER, journal);
    command
}

/// Names the journal's folder to a child.
const FOLDER: &str = "TENANTD_TEST_JOURNAL";

/// Names the size of its files to a child.
const FILE_SIZE: &str = "TENANTD_TEST_FILE_SIZE";

fn folder_of_child() -> Option<PathBuf> {
    env::var_os(FOLDER).map(PathBuf::from)
}

const SMALL: JournalLimits = JournalLimits { file_size: Bytes::new(400_000), files: 5 };

/// A part of [`killed_writers_leave_a_chain_that_holds`]; by itself it does nothing.
#[test]
fn write_until_killed() {
    let Some(folder) = folder_of_child() else { return };
    let (journal, _) = Journal::open(&folder, SMALL).unwrap();
    let writers: Vec<_> = (0..4)
        .map(|writer| {
            let journal = journal.clone();
            thread::spawn(move || {
                for size in [10, 100, 5_000, 100_000].into_iter().cycle() {
                    let program = format!("{writer}{}", "x".repeat(size));
                    let seq = journal.append_blocking(&Entry::Stopped { program }).unwrap();
                    std::io::stdout().write_all(format!("\n{seq}\n").as_bytes()).unwrap();
                }
            })
        })
        .collect();
    writers.into_iter().for_each(|writer| writer.join().unwrap());
}

#[test]
fn killed_writers_leave_a_chain_that_holds() {
    let folder = tempfile::tempdir().unwrap();
    let journal = folder.path().join("journal");
    let mut known = 0;
    for round in 0..50 {
        let mut writer = child("write_until_killed", &journal).stdout(Stdio::piped()).spawn().unwrap();
        let mut output = BufReader::new(writer.stdout.take().unwrap());
        let mut lines = String::new();
        while lines.lines().all(|line| line.parse::<u64>().is_err()) {
            assert_ne!(output.read_line(&mut lines).unwrap(), 0, "round {round}: {lines}");
        }
        let killer = thread::spawn(move || {
            thread::sleep(Duration::from_micros(fastrand::u64(0..30_000)));
            writer.kill().unwrap();
            writer.wait().unwrap();
        });
        output.read_to_string(&mut lines).unwrap();
        killer.join().unwrap();
        // The last line may be cut off.
        let whole = lines.rsplit_once('\n').unwrap().0;
        known = whole.lines().filter_map(|line| line.parse::<u64>().ok()).max().unwrap().max(known);
        let verified = verify(&journal, None).unwrap();
        assert!(
            verified.head.seq >= known,
            "round {round}: {} records where {known} were on the disk",
            verified.head.seq
        );
    }
    let (open, _) = Journal::open(&journal, SMALL).unwrap();
    let verified = verify(&journal, Some(&open.head())).unwrap();
    assert_eq!(verified.tail, None);
    end(bare(&["audit", "verify", "--journal", journal.to_str().unwrap(), "--against", &open.head().to_string()]))
        .with(0);
}

/// A part of [`a_full_disk_loses_nothing_unseen`]; by itself it does nothing.
#[test]
fn write_on_a_disk_that_fills_up() {
    let Some(disk) = folder_of_child() else { return };
    let folder = disk.join("journal");
    let file_size = env::var(FILE_SIZE).unwrap().parse().unwrap();
    let limits = JournalLimits { file_size: Bytes::new(file_size), files: 64 };
    let (journal, _) = Journal::open(&folder, limits).unwrap();
    let ballast = disk.join("ballast");
    fs::write(&ballast, vec![1; 100_000]).unwrap();
    let add = |size| journal.append_blocking(&Entry::Stopped { program: "x".repeat(size) });

    let mut known = journal.head();
    let full = loop {
        match add(9_000) {
            Ok(seq) => known = Anchor { seq, ..journal.head() },
            Err(e) => break e,
        }
    };
    assert!(
        matches!(&full, JournalError::Io { source, .. } if source.kind() == std::io::ErrorKind::StorageFull),
        "{full}"
    );
    assert!(add(9_000).is_err() && journal.error().is_some());
    assert_eq!(journal.head(), known);
    assert_eq!(verify(&folder, Some(&known)).unwrap().tail, None);

    // With room again it goes on, and says what is missing.
    fs::remove_file(&ballast).unwrap();
    add(10).unwrap();
    assert!(journal.error().is_none());
    let verified = verify(&folder, Some(&known)).unwrap();
    assert_eq!((verified.tail, verified.set_aside.len(), verified.head), (None, 0, journal.head()));
    let (mut lost, mut damaged) = (Vec::new(), 0);
    read(&folder, None, |record| {
        match &record.entry {
            Entry::Lost { records, reason } => lost.push((*records, reason.clone())),
            Entry::Segment(SegmentStart { damage: Some(_), .. }) => damaged += 1,
            _ => {}
        }
        std::ops::ControlFlow::Continue(())
    })
    .unwrap();
    assert_eq!((lost.len(), damaged, lost[0].0), (1, 0, 2));
    assert!(lost[0].1.starts_with("No space left on device"), "{lost:?}");

    // A start on a full disk fails where it has something to write, and does no harm.
    journal.append_blocking(&Entry::Intent(step("ant"))).unwrap();
    let known = journal.head();
    drop(journal);
    let mut filler = fs::File::create(&ballast).unwrap();
    while filler.write_all(&[1; 512]).is_ok() {}
    fs::OpenOptions::new().append(true).open(last_file(&folder)).unwrap().write_all(b"torn").unwrap_or_default();
    Journal::open(&folder, JournalLimits { file_size: Bytes::new(1), ..limits }).unwrap_err();
    verify(&folder, Some(&known)).unwrap();
    drop(filler);
    fs::remove_file(&ballast).unwrap();
    let (journal, opened) = Journal::open(&folder, limits).unwrap();
    assert_eq!(opened.unfinished.len(), 1);
    assert_eq!(verify(&folder, Some(&known)).unwrap().head, journal.head());
}

fn last_file(folder: &Path) -> PathBuf {
    let names = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    names.filter(|path| path.extension().is_some_and(|end| end == "jsonl")).max().unwrap()
}

/// A journal as the first version of the format has it: its records lack all that was added since.
#[test]
fn a_journal_of_the_first_version_is_read_verified_and_added_to() {
    const FILE: &str = "00000000000000000001.jsonl";
    let sample = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/samples/journals/first").join(FILE);
    let folder = tempfile::tempdir().unwrap();
    fs::copy(&sample, folder.path().join(FILE)).unwrap();
    let journal = folder.path().to_str().unwrap();
    let before = verify(folder.path(), None).unwrap();
    assert_eq!((before.records, before.head.seq), (22, 22));
    let ended = end(bare(&["audit", "verify", "--journal", journal])).with(0);
    assert!(ended.out.contains("22"), "{}", ended.out);
    let ended = end(bare(&["events", "--journal", journal])).with(0);
    for words in ["update the limits", "pause the container", "debugging", "it removes 3 of 4 tenants", "it ended"] {
        assert!(ended.out.contains(words), "{words}: {}", ended.out);
    }
    let (journal, opened) = Journal::open(folder.path(), LIMITS).unwrap();
    assert!(opened.damage.is_none() && opened.unfinished.is_empty());
    journal.append_blocking(&done(20, "acme")).unwrap();
    let after = verify(folder.path(), Some(&before.head)).unwrap();
    assert_eq!(after.head.seq, before.head.seq + 1);
    assert!(fs::read(folder.path().join(FILE)).unwrap().starts_with(&fs::read(&sample).unwrap()));
}

#[test]
fn a_full_disk_loses_nothing_unseen() {
    // Full in the middle of a file, and where the next one would begin.
    for file_size in ["1000000", "20000"] {
        let folder = tempfile::tempdir().unwrap();
        let test = child("write_on_a_disk_that_fills_up", folder.path());
        let mut command = Command::new("unshare");
        command.args(["--mount", "--propagation", "private", "sh", "-c"]);
        command.arg("mount -t tmpfs -o size=400k tmpfs \"$0\" && exec \"$@\"").arg(folder.path());
        command.arg(test.get_program()).args(test.get_args()).env(FOLDER, folder.path()).env(FILE_SIZE, file_size);
        let ended = command.output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        assert!(ended.status.success(), "{}\n{}", text(&ended.stdout), text(&ended.stderr));
        assert!(text(&ended.stdout).contains("1 passed"), "{}", text(&ended.stdout));
    }
}
