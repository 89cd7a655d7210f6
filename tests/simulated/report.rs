//! What `tenantd audit report` counts, against git and the journal themselves.

use std::{collections::BTreeMap, fs, path::PathBuf, thread::sleep, time::Duration};

use jiff::Timestamp;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::{
    cli::{Cli, Ended, bare, end},
    daemon::{Daemon, at},
    origin::{command, git},
};

const FROM: &str = "2026-10-01T00:00:00Z";
const TO: &str = "2026-10-31T00:00:00Z";

/// A journal with records of chosen times, whose chain holds.
#[derive(Default)]
pub struct Written {
    text: String,
    seq: u64,
    prev: Option<String>,
}

impl Written {
    pub fn new(time: &str) -> Self {
        let mut written = Self::default();
        written.add(time, json!({"type": "segment", "previous": ""}));
        written
    }

    /// Adds a record, and returns its number.
    pub fn add(&mut self, time: &str, entry: Value) -> u64 {
        self.seq += 1;
        let prev = self.prev.clone().unwrap_or("0".repeat(64));
        let entry = entry.to_string();
        let inner = &entry[1..entry.len() - 1];
        let hashed = format!("{{\"v\":1,\"seq\":{},\"time\":\"{time}\",{inner},\"prev\":\"{prev}\"", self.seq);
        let hash: String = Sha256::digest(hashed.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect();
        self.text += &format!("{hashed},\"hash\":\"{hash}\"}}\n");
        self.prev = Some(hash);
        self.seq
    }

    /// Adds a step and what became of it; empty where nothing is known.
    pub fn step(&mut self, time: &str, tenant: &str, why: &str, result: &str) {
        let field = json!({"name": "memory", "before": 1 << 30, "after": 1 << 29});
        let intent = self.add(
            time,
            json!({"type": "intent", "tenant": tenant, "resource": "container", "step": "update the limits",
                "object": "f", "fields": [field], "why": why, "trigger": {"kind": "full-pass"}, "plan": "0a1b2c"}),
        );
        if !result.is_empty() {
            let outcome =
                json!({"type": "outcome", "intent": intent, "tenant": tenant, "result": result, "took_ms": 12});
            self.add(time, outcome);
        }
    }

    /// Writes it into a folder.
    pub fn into_folder(self, folder: PathBuf) -> PathBuf {
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("00000000000000000001.jsonl"), self.text).unwrap();
        folder
    }
}

/// A commit at a time.
fn commit(cli: &Cli, subject: &str, time: &str) -> String {
    git(&cli.repo, &["add", "--all", "."]);
    let mut command = command(&cli.repo, &["commit", "--quiet", "--allow-empty", "--message", subject]);
    command.env("GIT_COMMITTER_DATE", time).env("GIT_AUTHOR_DATE", time);
    assert!(command.status().unwrap().success());
    git(&cli.repo, &["rev-parse", "HEAD"])
}

fn begin(tenants: &[&str]) -> Cli {
    let cli = Cli::uncommitted(tenants);
    git(&cli.repo, &["init", "--quiet", "--initial-branch=main", "."]);
    commit(&cli, "first", "2026-09-01T00:00:00Z");
    cli
}

fn report(cli: &Cli, options: &[&str]) -> Ended {
    cli.run(&[&["audit", "report", "--repo", cli.repo.to_str().unwrap()], options].concat())
}

fn of_month(cli: &Cli, journal: &str, options: &[&str]) -> Ended {
    report(cli, &[&["--journal", journal, "--from", FROM, "--to", TO], options].concat())
}

fn parsed(ended: &Ended) -> Value {
    serde_json::from_str(&ended.out).unwrap()
}

fn count(value: &Value) -> u64 {
    value.as_u64().unwrap_or_else(|| panic!("{value} is no number"))
}

/// The sum of something over all tenants.
fn sum(report: &Value, pointer: &str) -> u64 {
    let rows = report["tenants"].as_array().unwrap().iter();
    rows.map(|row| row.pointer(pointer).unwrap()).map(count).sum()
}

/// What the tables count for each tenant adds up to the totals.
#[track_caller]
fn adds_up(report: &Value) {
    let totals = &report["totals"];
    for mark in ["loosens", "tightens", "neutral"] {
        let own = count(&totals["changes"][mark]) - count(&totals["fleet_changes"][mark]);
        assert_eq!(sum(report, &format!("/changes/{mark}")), own, "{mark}");
    }
    for (part, names) in [
        ("intent", &["begun", "done", "failed", "unknown", "open"][..]),
        ("drift", &["seen", "corrected", "failed", "unknown", "open", "left"]),
    ] {
        for name in names {
            assert_eq!(sum(report, &format!("/{part}/{name}")), count(&totals[part][name]), "{part} {name}");
        }
        let parts: u64 = names[1..].iter().map(|name| count(&totals[part][name])).sum();
        assert_eq!(parts, count(&totals[part][names[0]]), "{part}");
    }
    for name in ["suspensions", "bad", "refused"] {
        assert_eq!(sum(report, &format!("/{name}")), count(&totals[name]), "{name}");
    }
    let rows = |name: &str| -> u64 { report["drift"].as_array().unwrap().iter().map(|row| count(&row[name])).sum() };
    assert_eq!(rows("seen"), count(&totals["drift"]["seen"]));
    let lists = &totals["allowlists"];
    assert_eq!(count(&lists["from"]) + count(&lists["added"]) - count(&lists["removed"]), count(&lists["to"]));
    let (from, to) = (count(&totals["tenants_at_from"]), count(&totals["tenants_at_to"]));
    assert_eq!(from + count(&totals["tenants_added"]) - count(&totals["tenants_removed"]), to);
    let refusals = report["refusals"].as_array().unwrap().iter().map(|row| count(&row["count"]));
    assert_eq!(refusals.sum::<u64>(), count(&totals["refused"]));
    assert_eq!(report["gaps"]["kept"].as_array().unwrap().len() as u64, count(&totals["gaps"]));
}

#[test]
fn the_figures_are_those_of_git_and_of_the_journal() {
    let begin = Timestamp::now();
    let mut daemon = Daemon::running(&["ant", "bee", "cat", "dog"]);
    daemon.proved();
    for memory in [64, 80, 96] {
        let seq = daemon.head();
        daemon.update("ant", memory << 20);
        daemon.wait("it is put right", || (!daemon.steps("ant", seq).is_empty()).then_some(()));
        daemon.settled();
    }
    daemon.remove("bee");
    daemon.runs("bee");
    daemon.settled();
    daemon.ask(&["suspend", "bee", "--reason", "disk check", "--until", "1h"]).with(0);
    sleep(Duration::from_millis(1100));
    daemon.ask(&["resume", "bee"]).with(0);
    daemon.ask(&["suspend", "ant", "--reason", "<b>=1+1", "--until", "1h"]).with(0);
    daemon.tenant("dog", "allowlist: [\"a.example.com:443\"]\nlimits: {memory: 256MiB}\n");
    daemon.tenant("elk", "");
    let accepted = daemon.push();
    daemon.wait("it is in force", || (daemon.status().source.applied == at(&accepted)).then_some(()));
    daemon.without("cat");
    daemon.without("elk");
    let held = daemon.push();
    let plan = daemon.wait("it is held", || daemon.status().source.held?.plan);
    daemon.ask(&["approve", &plan]).with(0);
    daemon.wait("they are gone", || (!daemon.ids().contains_key("cat")).then_some(()));
    daemon.stop();
    sleep(Duration::from_millis(50));
    daemon.start();
    daemon.wait("bee is looked after", || (daemon.reason("bee") == "ReconciliationSucceeded").then_some(()));
    daemon.stop();

    let repo = daemon.bare();
    let repo = repo.to_str().unwrap();
    let options =
        ["audit", "report", "--repo", repo, "--rev", "main", "--from", "2023-01-01T00:00:00Z", "--format", "json"];
    let report = parsed(&daemon.ask(&options).with(0));
    adds_up(&report);
    let totals = &report["totals"];

    let history: Value = serde_json::from_str(
        &daemon.ask(&["history", "--repo", repo, "--rev", "main", "--format", "json"]).with(0).out,
    )
    .unwrap();
    let commits = history["commits"].as_array().unwrap();
    assert_eq!(report["changes"].as_array().unwrap().len(), commits.len());
    for (ours, theirs) in report["changes"].as_array().unwrap().iter().rev().zip(commits) {
        assert_eq!(ours, theirs);
    }
    let log = daemon.git(&["--git-dir", repo, "rev-list", "--count", "main"]);
    assert_eq!(report["sources"]["repo"]["commits"].to_string(), log);
    let effects = |mark: &str| {
        let tenants = commits.iter().flat_map(|commit| commit["tenants"].as_array().unwrap());
        let effects = tenants.flat_map(|tenant| tenant["effects"].as_array().unwrap());
        effects.filter(|effect| effect["mark"] == mark).count() as u64
    };
    for mark in ["loosens", "tightens", "neutral"] {
        let own = count(&totals["changes"][mark]) - count(&totals["fleet_changes"][mark]);
        assert_eq!(own, effects(mark), "{mark}");
    }

    let events = daemon.ask(&["events", "--format", "json"]).with(0).out;
    let records: Vec<Value> = events.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let all = |holds: &dyn Fn(&Value) -> bool| records.iter().filter(|record| holds(record)).count() as u64;
    let outcome = |why: &str, result: &str| {
        let of = |intent: &Value| records.iter().find(|one| one["seq"] == *intent).unwrap()["why"] == why;
        all(&|one| one["type"] == "outcome" && one["result"] == result && of(&one["intent"]))
    };
    assert_eq!(count(&report["sources"]["journals"][0]["records"]), records.len() as u64);
    for (part, why, done) in [("drift", "drift", "corrected"), ("intent", "intent", "done")] {
        assert_eq!(count(&totals[part][done]), outcome(why, "done"), "{part}");
        assert_eq!(count(&totals[part]["failed"]), outcome(why, "failed"), "{part}");
        assert_eq!(count(&totals[part]["unknown"]), outcome(why, "unknown"), "{part}");
    }
    assert_eq!(count(&totals["intent"]["begun"]), all(&|one| one["type"] == "intent" && one["why"] == "intent"));
    let begun = all(&|one| one["type"] == "intent" && one["why"] == "drift");
    assert_eq!(count(&totals["drift"]["seen"]), begun + all(&|one| one["type"] == "drift"));
    assert!(begun >= 4, "{begun}");
    for verdict in ["accepted", "held", "approved", "refused"] {
        let wanted = all(&|one| one["type"] == "revision" && one["verdict"] == verdict);
        assert_eq!(count(&totals["verdicts"][verdict]), wanted, "{verdict}");
    }
    let approved = &report["approvals"]["kept"].as_array().unwrap().iter().find(|one| one["verdict"] == "approved");
    let approved = approved.unwrap();
    assert_eq!((&approved["plan"], &approved["in_history"]), (&json!(plan), &json!(true)));
    assert_eq!(approved["revision"], format!("main@sha1:{held}"));
    assert_eq!(count(&totals["suspensions"]), all(&|one| one["type"] == "suspended"));
    assert_eq!(count(&totals["suspensions_open"]), 1);
    let of_bee = report["suspensions"]["kept"].as_array().unwrap().iter().find(|one| one["tenant"] == "bee").unwrap();
    assert_eq!(of_bee["reason"], "disk check");
    assert!((1..10).contains(&of_bee["seconds"].as_i64().unwrap()), "{of_bee}");

    // What the containers are made of, as the simulated engine has it.
    let dog = report["tenants"].as_array().unwrap().iter().find(|row| row["tenant"] == "dog").unwrap();
    let engine = daemon.engine.with(|state| state.container("tenantd-dog").unwrap()["HostConfig"].clone());
    assert_eq!(dog["isolation"]["capabilities_dropped"], engine["CapDrop"]);
    assert_eq!(dog["isolation"]["capabilities_added"], json!([]));
    assert_eq!((&dog["isolation"]["runtime"], &dog["limits"]["memory"]), (&json!("container"), &json!("256MiB")));
    assert_eq!(dog["allowlist"]["added"], json!(["a.example.com:443"]));
    assert_eq!(dog["allowlist"]["unused"], Value::Null);
    let note = report["sources"]["usage"]["note"].as_str().unwrap();
    assert!(note.contains("no gateway has counted"), "{note}");

    // Between the two runs nobody observed, and nobody does now.
    let idle: Vec<&Value> =
        report["gaps"]["kept"].as_array().unwrap().iter().filter(|gap| gap["kind"] == "no-daemon").collect();
    assert_eq!(idle.len(), 2, "{idle:?}");
    // An hour before the first of all nothing is known.
    let before = begin.to_string();
    let empty = parsed(&daemon.ask(&[&options[..6], &["--from", "2h", "--to", &before, "--format", "json"]].concat()));
    assert_eq!((count(&empty["totals"]["commits"]), count(&empty["totals"]["drift"]["seen"])), (0, 0));
    assert_eq!(empty["gaps"]["kept"][0]["kind"], "begins-late");
}

/// A world of fixed times: a month with something of everything.
fn month() -> (Cli, PathBuf) {
    let cli = begin(&["ant", "bee", "cat"]);
    cli.tenant("ant", "allowlist: [\"a.example.com:443\"]\n");
    let loose = commit(&cli, "out", "2026-10-05T10:00:00Z");
    cli.tenant("bee", "limits: {memory: 256MiB}\n");
    cli.tenant("dog", "runtime: gvisor\n");
    commit(&cli, "less for bee, and a dog", "2026-10-10T10:00:00Z");
    fs::remove_file(cli.repo.join("tenants/cat.yaml")).unwrap();
    let last = commit(&cli, "no cat", "2026-10-12T10:00:00Z");
    cli.tenant("bee", "");
    commit(&cli, "after the month", "2026-11-02T10:00:00Z");

    let mut journal = Written::new("2026-10-03T00:00:00Z");
    journal.add("2026-10-03T00:00:00Z", json!({"type": "started", "program": "daemon", "version": "0.1.0"}));
    let revision = |commit: &str| format!("main@sha1:{commit}");
    journal
        .add("2026-10-05T10:01:00Z", json!({"type": "revision", "revision": revision(&loose), "verdict": "accepted"}));
    journal.step("2026-10-06T08:00:00Z", "ant", "intent", "done");
    journal.step("2026-10-07T08:00:00Z", "ant", "drift", "done");
    journal.step("2026-10-07T09:00:00Z", "bee", "drift", "failed");
    journal.step("2026-10-07T10:00:00Z", "bee", "intent", "unknown");
    let drift = json!({"type": "drift", "tenant": "cat", "resource": "network", "trigger": {"kind": "full-pass"}});
    journal.add("2026-10-08T00:00:00Z", drift);
    let suspended = |tenant: &str, until: &str| json!({"type": "suspended", "tenant": tenant, "reason": "disk check", "until": until, "by": "ada"});
    journal.add("2026-10-09T00:00:00Z", suspended("ant", "2026-10-20T00:00:00Z"));
    journal.add("2026-10-09T06:00:00Z", json!({"type": "resumed", "tenant": "ant", "by": "ada"}));
    let held = json!({"type": "revision", "revision": revision(&last), "verdict": "held", "plan": "77aa",
        "reason": "it removes 1 of 4 tenants", "tenants": ["cat"]});
    journal.add("2026-10-12T10:01:00Z", held);
    journal.add(
        "2026-10-12T11:00:00Z",
        json!({"type": "revision", "revision": revision(&last), "verdict": "approved", "plan": "77aa", "by": "ada"}),
    );
    journal.add("2026-10-13T00:00:00Z", json!({"type": "stopped", "program": "daemon"}));
    journal.add("2026-10-14T00:00:00Z", json!({"type": "started", "program": "daemon", "version": "0.1.0"}));
    let bad = json!({"type": "bad", "tenant": "dog", "revision": revision(&last), "back_to": revision(&loose), "reason": "it ended"});
    journal.add("2026-10-15T00:00:00Z", bad);
    let refused = json!({"type": "refused", "tenant": "ant", "destination": "b.example.com:443", "rule": "not-listed", "count": 7});
    journal.add("2026-10-16T00:00:00Z", refused);
    journal.add("2026-10-15T12:00:00Z", suspended("bee", "2026-11-20T00:00:00Z"));
    journal.step("2026-10-20T00:00:00Z", "dog", "drift", "");
    journal.add("2026-10-21T00:00:00Z", json!({"type": "lost", "records": 3, "reason": "no space left"}));
    journal.add("2026-11-01T00:00:00Z", json!({"type": "resumed", "tenant": "bee", "by": "ada"}));
    journal.step("2026-11-02T00:00:00Z", "ant", "drift", "done");
    let folder = journal.into_folder(cli.world.folder().join("copy"));
    (cli, folder)
}

/// Without what differs from run to run. Columns beside a folder are as wide as its name.
fn golden(cli: &Cli, text: &str) -> String {
    let text = text.replace(cli.world.folder().to_str().unwrap(), "[FOLDER]");
    let (before, after) = text.split_once("WHAT WAS READ").unwrap_or((&text, ""));
    let squeezed = |line: &str| line.split("  ").filter(|part| !part.is_empty()).collect::<Vec<_>>().join("  ") + "\n";
    let made = before.lines().map(|line| match line.find("made 20") {
        Some(at) => format!("{}made [NOW]\n", &line[..at]),
        None => format!("{line}\n"),
    });
    made.collect::<String>() + &after.lines().map(squeezed).collect::<String>()
}

#[test]
fn a_month_as_people_read_it() {
    let (cli, journal) = month();
    let journal = journal.to_str().unwrap();
    insta::assert_snapshot!("report_text", golden(&cli, &of_month(&cli, journal, &[]).with(0).out));
    insta::assert_snapshot!("report_markdown", golden(&cli, &of_month(&cli, journal, &["--format", "md"]).with(0).out));
    let csv = of_month(&cli, journal, &["--format", "csv"]).with(0).out;
    insta::assert_snapshot!("report_csv", csv.replace("\r\n", "\n"));
    let report = parsed(&of_month(&cli, journal, &["--format", "json"]).with(0));
    adds_up(&report);
    let totals = &report["totals"];
    assert_eq!(totals["drift"], json!({"seen": 4, "corrected": 1, "failed": 1, "unknown": 0, "open": 1, "left": 1}));
    assert_eq!(totals["intent"], json!({"begun": 2, "done": 1, "failed": 0, "unknown": 1, "open": 0}));
    assert_eq!((&totals["suspensions"], &totals["suspensions_open"]), (&json!(2), &json!(1)));
    let seconds: Vec<&Value> =
        report["suspensions"]["kept"].as_array().unwrap().iter().map(|one| &one["seconds"]).collect();
    assert_eq!(seconds, [&json!(6 * 3600), &json!(1_339_200)], "6 hours, and 15.5 days up to the end of the month");
    let kinds: Vec<&str> =
        report["gaps"]["kept"].as_array().unwrap().iter().map(|gap| gap["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["begins-late", "no-daemon", "clock", "lost"]);

    // The half before and the half after add up to the whole.
    let half = "2026-10-11T12:00:00Z";
    let part = |from: &str, to: &str| parsed(&report_of(&cli, journal, from, to));
    let (first, second) = (part(FROM, half), part(half, TO));
    for pointer in
        ["/commits", "/changes/loosens", "/changes/tightens", "/drift/seen", "/intent/begun", "/refused", "/bad"]
    {
        let of = |report: &Value| count(report["totals"].pointer(pointer).unwrap());
        assert_eq!(of(&first) + of(&second), of(&report), "{pointer}");
    }
}

fn report_of(cli: &Cli, journal: &str, from: &str, to: &str) -> Ended {
    report(cli, &["--journal", journal, "--from", from, "--to", to, "--format", "json"]).with(0)
}

#[test]
fn a_page_stands_for_itself_and_nothing_in_it_is_markup() {
    let hostile = "</title><script>alert(1)</script>\" onload=\"x\u{202e}|`=cmd()\u{1b}[2J";
    let cli = begin(&["ant"]);
    cli.tenant("ant", "environment: {A: \"</style><script>x\"}\n");
    commit(&cli, hostile, "2026-10-05T10:00:00Z");
    let mut journal = Written::new("2026-10-03T00:00:00Z");
    journal.step("2026-10-04T00:00:00Z", hostile, "drift", "failed");
    let suspended = json!({"type": "suspended", "tenant": hostile, "reason": hostile, "until": TO, "by": hostile});
    journal.add("2026-10-05T00:00:00Z", suspended);
    let refused = json!({"type": "refused", "tenant": "ant", "destination": hostile, "rule": "=x", "count": u64::MAX});
    journal.add("2026-10-06T00:00:00Z", refused.clone());
    journal.add("2026-10-06T00:00:00Z", refused);
    let reason = json!({"type": "lost", "records": 1, "reason": hostile});
    journal.add("2026-10-07T00:00:00Z", reason);
    let journal = journal.into_folder(cli.world.folder().join("copy"));
    let journal = journal.to_str().unwrap();

    let page = of_month(&cli, journal, &["--format", "html"]).with(0).out;
    assert!(page.contains("default-src 'none'; style-src 'sha256-"), "{page}");
    for tag in ["<script", "onload=\"", "http:", "https:", "url(h", "style=\"", "\u{202e}", "\u{1b}", "src="] {
        assert!(!page.contains(tag), "{tag}");
    }
    for tag in ["<html", "<style>", "</style>", "<title>Audit", "<svg class=\"timeline\"", "</body>"] {
        assert_eq!(page.matches(tag).count(), 1, "{tag}");
    }
    assert!(page.contains("&lt;/title&gt;&lt;script&gt;alert(1)"), "{page}");
    assert!(page.contains("environment.A + &lt;/style&gt;&lt;script&gt;x"), "{page}");

    let csv = of_month(&cli, journal, &["--format", "csv"]).with(0).out;
    for line in csv.split("\r\n").filter(|line| !line.is_empty()) {
        assert!(!line.contains("\"=") && line.starts_with('"') && line.ends_with('"'), "{line}");
    }
    assert!(csv.contains("\"'=x\""), "{csv}");
    let md = of_month(&cli, journal, &["--format", "md"]).with(0).out;
    assert!(!md.contains('\u{1b}') && !md.contains('\u{202e}'), "{md}");
    assert!(md.lines().all(|line| !line.contains("<script") || line.contains('`')), "{md}");
    let text = of_month(&cli, journal, &[]).with(0).out;
    assert!(!text.contains('\u{1b}') && text.contains("\\u{1b}[2J"), "{text}");
    let json = parsed(&of_month(&cli, journal, &["--format", "json"]).with(0));
    assert_eq!(json["totals"]["refused"], u64::MAX);
}

#[test]
fn a_thousand_tenants_have_sixty_lanes() {
    let cli = begin(&["ant"]);
    let mut journal = Written::new("2026-10-03T00:00:00Z");
    for number in 0..1000 {
        journal.step("2026-10-04T00:00:00Z", &format!("t{number:04}"), "drift", "done");
    }
    journal.step("2026-10-05T00:00:00Z", "t0999", "drift", "failed");
    let journal = journal.into_folder(cli.world.folder().join("copy"));
    let page = of_month(&cli, journal.to_str().unwrap(), &["--format", "html"]).with(0).out;
    assert_eq!(page.matches("class=\"row").count(), 62, "the fleet, sixty tenants, and the others");
    assert!(page.contains(">940 more tenants<"), "they are summed up");
    assert!(page.contains("<title>t0999</title>"), "what failed comes first");
    assert!(page.len() < 2 << 20, "{}", page.len());
}

#[test]
fn a_journal_that_does_not_hold_is_reported_and_read_all_the_same() {
    let (cli, journal) = month();
    let file = journal.join("00000000000000000001.jsonl");
    let whole = fs::read_to_string(&file).unwrap();
    let json = |text: &str, code: i32| {
        fs::write(&file, text).unwrap();
        parsed(&of_month(&cli, journal.to_str().unwrap(), &["--format", "json"]).with(code))
    };
    let gaps = |report: &Value| -> BTreeMap<String, u64> {
        let kinds =
            report["gaps"]["kept"].as_array().unwrap().iter().map(|gap| gap["kind"].as_str().unwrap().to_owned());
        kinds.fold(BTreeMap::new(), |mut all, kind| {
            *all.entry(kind).or_default() += 1;
            all
        })
    };
    let before = json(&whole, 0);

    let altered = json(&whole.replacen("disk check", "disk chuck", 1), 1);
    let broken = altered["sources"]["journals"][0]["broken"].as_str().unwrap();
    assert!(broken.contains("its hash does not match its bytes"), "{broken}");
    assert_eq!((gaps(&altered)["chain"], gaps(&altered)["unreadable"]), (1, 1));
    assert_eq!(altered["totals"]["drift"], before["totals"]["drift"], "the rest is read");
    assert_eq!(altered["sources"]["journals"][0]["head"], Value::Null);

    let lines: Vec<&str> = whole.lines().collect();
    let removed: String =
        lines.iter().enumerate().filter(|(n, _)| *n != 4).map(|(_, line)| format!("{line}\n")).collect();
    let removed = json(&removed, 1);
    assert_eq!((gaps(&removed)["chain"], gaps(&removed)["missing"]), (1, 1));

    let torn = json(&whole[..whole.len() - 10], 0);
    assert_eq!(torn["sources"]["journals"][0]["broken"], Value::Null);
    fs::write(&file, format!("{}nonsense\n{whole}", "x".repeat(2 << 20))).unwrap();
    let ended = of_month(&cli, journal.to_str().unwrap(), &[]).with(1);
    assert!(
        ended.out.contains("The journal's chain does not hold") && ended.err.contains("does not hold"),
        "{ended:?}"
    );
}

#[test]
fn where_there_is_no_journal_that_is_said() {
    let cli = begin(&["ant"]);
    let ended = report(&cli, &["--from", FROM, "--to", TO]).with(0);
    assert!(ended.out.contains("There is no journal: drift, approvals and suspensions"), "{}", ended.out);
    assert!(ended.out.contains("No commit changed what is in force."), "{}", ended.out);
    let json = parsed(&report(&cli, &["--from", FROM, "--to", TO, "--format", "json"]).with(0));
    assert_eq!(json["sources"]["journals"][0]["found"], false);
    assert_eq!(json["gaps"]["kept"][0]["kind"], "no-journal");
    adds_up(&json);
    report(&cli, &["--from", FROM, "--to", TO, "--format", "html"]).with(0);

    // One that was named by hand must be there, and so must the repository.
    let empty = cli.world.folder().join("empty");
    fs::create_dir(&empty).unwrap();
    for folder in ["/no/such/folder", empty.to_str().unwrap()] {
        let ended = report(&cli, &["--journal", folder]).with(1);
        assert!(ended.err.contains("there is no journal in"), "{}", ended.err);
    }
    let mut elsewhere = bare(&["audit", "report", "--repo", "/no/such/repo"]);
    elsewhere.arg("--from").arg("1d");
    end(elsewhere).with(1);
    let ended = report(&cli, &["--from", TO, "--to", FROM]).with(1);
    assert!(ended.err.contains("the period ends before it begins"), "{}", ended.err);
    report(&cli, &["--from", "yesterday"]).with(2);

    // The longest period that can be written, and the shortest.
    for to in ["9999-12-30T00:00:00Z", "-009998-01-02T00:00:00Z"] {
        for format in ["text", "html", "csv"] {
            report(&cli, &["--from=-009998-01-02T00:00:00Z", &format!("--to={to}"), "--format", format]).with(0);
        }
    }
}

#[test]
fn a_commit_hides_from_no_period_by_its_time() {
    let cli = begin(&["ant"]);
    cli.tenant("ant", "allowlist: [\"a.example.com:443\"]\n");
    commit(&cli, "in october", "2026-10-05T00:00:00Z");
    cli.tenant("ant", "allowlist: [\"a.example.com:443\", \"b.example.com:443\"]\n");
    commit(&cli, "dated back", "1999-01-01T00:00:00Z");
    cli.tenant(
        "ant",
        &format!("allowlist: [{}]\n", (0..3).map(|n| format!("\"{n}.example.com:443\"")).collect::<Vec<_>>().join(",")),
    );
    commit(&cli, "dated forward", "2090-01-01T00:00:00Z");
    let of = |options: &[&str]| {
        let report = parsed(&report(&cli, &[options, &["--format", "json"]].concat()).with(0));
        let subjects =
            report["changes"].as_array().unwrap().iter().map(|one| one["subject"].as_str().unwrap().to_owned());
        subjects.collect::<Vec<_>>()
    };
    assert_eq!(of(&["--from", FROM, "--to", TO]), ["in october", "dated back"]);
    assert_eq!(of(&["--from", FROM]), ["in october", "dated back", "dated forward"]);
    // The one that was dated back, and what came before it, may have been made then.
    assert_eq!(of(&["--from", "2026-09-15T00:00:00Z", "--to", FROM]), ["in october", "dated back"]);
    // It lies between one of October and one that says it is of 2090, so that it may be of any time between.
    assert_eq!(of(&["--from", "2026-11-15T00:00:00Z", "--to", "2026-11-16T00:00:00Z"]), ["dated back"]);
    assert!(report(&cli, &["--from", FROM]).with(0).out.contains("1 commit carries a time before"));
}

#[test]
fn what_is_not_used_is_reported_where_a_gateway_counted() {
    let cli = begin(&["ant"]);
    cli.tenant("ant", "allowlist: [\"used.example.com:443\", \"unused.example.com:443\"]\n");
    commit(&cli, "out", "2026-10-05T00:00:00Z");
    let state = cli.world.folder().join("state");
    cli.host_file(&format!("engine: {}\negress: {{state: {}}}\n", cli.world.engine.url(), state.display()));
    let usage = state.join("usage");
    fs::create_dir_all(usage.join("ant")).unwrap();
    fs::write(usage.join(".since"), "2026-09-01T00:00:00Z\n").unwrap();
    let count = json!({"requests": 3, "sent": 1, "received": 1, "millis": 1, "last": "2026-10-07T00:00:00Z"});
    let days = json!({"2026-10-07": {"used.example.com:443": count}, "2026-11-07": {"unused.example.com:443": count}});
    let month = |text: &str| json!({"v": 1, "days": {text: days[text]}}).to_string();
    fs::write(usage.join("ant/2026-10.json"), month("2026-10-07")).unwrap();
    fs::write(usage.join("ant/2026-11.json"), month("2026-11-07")).unwrap();
    let unused = |from: &str, to: &str| {
        let report = parsed(&report(&cli, &["--from", from, "--to", to, "--format", "json"]).with(0));
        adds_up(&report);
        (report["tenants"][0]["allowlist"]["unused"].clone(), report["sources"]["usage"]["note"].clone())
    };
    let mut journal = Written::new("2026-10-01T00:00:00Z");
    let refused = json!({"type": "refused", "tenant": "ant", "destination": "x.example.com:443", "rule": "not-listed", "count": 2});
    journal.add("2026-10-02T00:00:00Z", refused.clone());
    journal.add("2026-10-03T00:00:00Z", refused.clone());
    journal.add("2026-11-03T00:00:00Z", refused);
    journal.into_folder(state.join("journal"));
    let both = parsed(&report(&cli, &["--from", FROM, "--to", TO, "--format", "json"]).with(0));
    assert_eq!((&both["totals"]["refused"], &both["tenants"][0]["refused"]), (&json!(4), &json!(4)));
    let names: Vec<&Value> = both["sources"]["journals"].as_array().unwrap().iter().map(|one| &one["name"]).collect();
    assert_eq!(names, ["daemon", "gateway"]);
    assert_eq!(both["gaps"]["kept"].as_array().unwrap().len(), 1, "the daemon has none, the gateway's has no gap");
    assert_eq!(unused(FROM, TO), (json!(["unused.example.com:443"]), Value::Null));
    let (all, note) = unused("2026-08-01T00:00:00Z", "2026-11-30T00:00:00Z");
    assert_eq!(all, json!([]));
    assert!(note.as_str().unwrap().contains("what was used before is not known"), "{note}");
}
