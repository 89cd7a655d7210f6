//! From a push to what runs, and what stays in force when a commit cannot be used.

use std::{
    fs,
    io::Write,
    process::{Command, Stdio},
};

use serde_json::json;
use tenantd::model::record::{StepResult, Trigger, Verdict, Why};

use super::{Daemon, at, reason};

const MIB: i64 = 1 << 20;

#[test]
fn a_push_is_carried_out_and_on_record() {
    let mut daemon = Daemon::stopped(&["ant", "bee"], "");
    daemon.start();
    daemon.settled();
    let first = daemon.verdicts();
    assert_eq!(first.iter().map(|one| one.verdict).collect::<Vec<_>>(), [Verdict::Accepted]);

    // A limit changes in place: the same container goes on.
    let ant = daemon.id("tenantd-ant");
    daemon.proved();
    let before = daemon.head();
    daemon.tenant("ant", "limits: {memory: 256MiB}\n");
    let commit = daemon.push();
    daemon.settled();
    assert_eq!((daemon.limit("ant", "Memory"), daemon.id("tenantd-ant")), (256 * MIB, ant.clone()));
    let steps = daemon.steps("ant", before);
    let [(step, Some(outcome))] = &*steps else { panic!("{steps:#?}") };
    assert_eq!((step.resource.as_str(), step.step.as_str()), ("container", "update the limits"));
    let field = step.fields.iter().find(|field| field.name == "memory").unwrap();
    assert_eq!((&field.before, &field.after), (&json!(512 * MIB), &json!(256 * MIB)));
    assert_eq!(step.why, Why::Intent);
    assert!(matches!(&step.trigger, Trigger::Commit { revision } if revision.commit == commit), "{step:?}");
    assert_eq!(step.revision, Some(format!("main@sha1:{commit}")));
    assert!(!step.plan.is_empty());
    assert_eq!((outcome.result, outcome.error.as_ref()), (StepResult::Done, None));
    assert!(daemon.steps("bee", before).is_empty());

    // A file that goes takes its tenant with it, and the status forgets it.
    let before = daemon.head();
    daemon.without("bee");
    daemon.push();
    daemon.wait("bee is gone", || (!daemon.ids().contains_key("bee")).then_some(()));
    daemon.settled();
    assert!(daemon.steps("bee", before).iter().all(|(step, _)| step.why == Why::Intent));
    daemon.wait("bee is not shown", || reason(&daemon.status(), "bee").is_empty().then_some(()));
    assert_eq!(daemon.id("tenantd-ant"), ant);
    daemon.converged();
    daemon.verified();
}

#[test]
fn a_commit_that_comes_during_work_is_carried_out_as_intent() {
    let daemon = Daemon::running(&["ant", "bee"]);
    daemon.proved();
    // While ant is looked at for something else, a commit changes it and its neighbour.
    daemon.engine.slow(|_| true, std::time::Duration::from_millis(100));
    for round in 1..=3 {
        let before = daemon.head();
        daemon.update("ant", 64 * MIB);
        daemon.tenant("ant", &format!("limits: {{memory: {}MiB}}\ndriftDetection: {{mode: warn}}\n", 100 + round));
        daemon.tenant("bee", &format!("limits: {{memory: {}MiB}}\ndriftDetection: {{mode: warn}}\n", 200 + round));
        daemon.push();
        daemon.wait("both are as declared", || {
            let (ant, bee) = (daemon.limit("ant", "Memory"), daemon.limit("bee", "Memory"));
            (ant == (100 + round) * MIB && bee == (200 + round) * MIB).then_some(())
        });
        daemon.settled();
        assert!(daemon.steps("bee", before).iter().all(|(step, _)| step.why == Why::Intent));
    }
}

#[test]
fn a_wrong_file_keeps_the_last_good_declaration() {
    let mut daemon = Daemon::running(&["ant", "bee"]);
    daemon.proved();
    let good = daemon.status().source.applied;
    daemon.tenant("ant", "limits: {memory: much}\n");
    daemon.tenant("bee", "limits: {memory: 256MiB}\n");
    daemon.push();
    daemon.wait("bee changes", || (daemon.limit("bee", "Memory") == 256 * MIB).then_some(()));
    daemon.wait("ant's file is printed of", || (daemon.reason("ant") == "InvalidFile").then_some(()));
    let status = daemon.status();
    assert_eq!(super::shown(&status, "ant").unwrap().revision, good);
    assert!(status.source.findings[0].contains("tenants/ant.yaml"), "{status:?}");
    // What it stands at is still looked after, and after a restart as well.
    for restart in [false, true] {
        if restart {
            daemon.restart();
        }
        daemon.remove("ant");
        daemon.runs("ant");
        daemon.wait("it is printed of still", || (daemon.reason("ant") == "InvalidFile").then_some(()));
        assert_eq!(daemon.limit("ant", "Memory"), 512 * MIB);
    }
    daemon.tenant("ant", "limits: {memory: 128MiB}\n");
    daemon.push();
    daemon.settled();
    assert_eq!(daemon.limit("ant", "Memory"), 128 * MIB);
}

#[test]
fn a_config_file_or_a_setting_that_a_schema_refuses_holds_its_tenant_alone() {
    let mut daemon = Daemon::stopped(&["ant", "bee"], "");
    let files = "files: [{path: a.json, from: files/shared/a.json, schema: schemas/a.json}]\n";
    let write = |path: &str, text: &str| crate::repo::write(&daemon.folder().join("repo"), &[(path, text)]);
    write("schemas/a.json", r#"{"properties": {"port": {"type": "integer"}}}"#);
    write("files/shared/a.json", r#"{"port": 80}"#);
    let rule = r#"{"title": "Few processes", "properties": {"limits": {"properties": {"pids": {"maximum": 500}}}}}"#;
    write("rules/house.json", rule);
    daemon.policy("rules: [rules/house.json]\n");
    daemon.tenant("ant", files);
    daemon.push();
    daemon.start();
    daemon.settled();
    daemon.proved();
    let good = daemon.status().source.applied;
    let stricter = rule.replace("500", "100");
    let wrong = [
        (64, "files/shared/a.json", r#"{"port": "80"}"#, r#"{"port": 80}"#, "files/shared/a.json:1:10: error[schema]"),
        (65, "rules/house.json", stricter.as_str(), rule, "error[rule]: Few processes"),
    ];
    for (pids, path, wrong, right, printed) in wrong {
        let is_rule = path.starts_with("rules/");
        crate::repo::write(&daemon.folder().join("repo"), &[(path, wrong)]);
        daemon.tenant("cow", &format!("limits: {{pids: {pids}}}\n"));
        daemon.push();
        daemon.wait("ant is held", || (daemon.reason("ant") == "InvalidFile").then_some(()));
        daemon.wait("cow goes on", || {
            (daemon.ids().contains_key("cow") && daemon.limit("cow", "PidsLimit") == pids).then_some(())
        });
        // The rule refuses bee as well.
        let is_held = || (daemon.reason("bee") == "InvalidFile") == is_rule;
        daemon.wait("bee is held by the rule alone", || is_held().then_some(()));
        let status = daemon.status();
        assert!(status.source.findings.iter().any(|finding| finding.contains(printed)), "{status:?}");
        if !is_rule {
            assert_eq!(super::shown(&status, "ant").unwrap().revision, good);
        }
        // What it stands at is still looked after.
        daemon.remove("ant");
        daemon.runs("ant");
        crate::repo::write(&daemon.folder().join("repo"), &[(path, right)]);
        daemon.push();
        daemon.settled();
    }
}

#[test]
fn a_wrong_policy_is_refused_as_a_whole() {
    let daemon = Daemon::running(&["ant", "bee"]);
    let good = daemon.status().source.applied;
    daemon.tenant("ant", "limits: {memory: 256MiB}\n");
    daemon.policy("teirs: {}\n");
    let wrong = daemon.push();
    let status = daemon.wait("it is refused", || {
        let status = daemon.status();
        (status.source.held.as_ref().map(|held| &held.revision) == at(&wrong).as_ref()).then_some(status)
    });
    assert_eq!(status.source.applied, good);
    assert_eq!(status.source.held.as_ref().unwrap().plan, None);
    assert!(status.source.findings[0].contains("fleet.yaml"), "{status:?}");
    assert_eq!(daemon.verdicts().last().unwrap().verdict, Verdict::Refused);
    daemon.update("bee", 64 * MIB);
    daemon.wait("drift is repaired", || (daemon.limit("bee", "Memory") == 512 * MIB).then_some(()));
    assert_eq!(daemon.limit("ant", "Memory"), 512 * MIB);
    // Back to the commit in force: nothing is told of the wrong one any more.
    daemon.push_ref("HEAD~1");
    daemon.wait("nothing waits", || {
        let source = daemon.status().source;
        (source.held.is_none() && source.findings.is_empty()).then_some(())
    });
}

#[test]
fn a_source_that_cannot_be_read_changes_nothing() {
    let settings = |daemon: &Daemon| format!("source: {{url: {}, interval: 1s}}", daemon.bare().display());
    let mut daemon = Daemon::stopped(&["ant"], "");
    daemon.settings(&settings(&daemon));
    daemon.start();
    daemon.settled();
    let bare = daemon.bare();
    let (branch, kept) = (bare.join("refs/heads/main"), daemon.folder().join("kept"));
    let objects = bare.join("objects");
    let broken = |daemon: &Daemon, what: &str| daemon.wait(what, || daemon.status().source.error);
    let whole =
        |daemon: &Daemon| daemon.wait("it is read again", || daemon.status().source.error.is_none().then_some(()));

    fs::rename(&branch, &kept).unwrap();
    assert!(broken(&daemon, "the branch is gone").contains("main"));
    daemon.remove("ant");
    daemon.runs("ant");
    fs::rename(&kept, &branch).unwrap();
    whole(&daemon);

    daemon.tenant("ant", "limits: {memory: 256MiB}\n");
    fs::rename(&objects, &kept).unwrap();
    fs::create_dir(&objects).unwrap();
    let head = fs::read(&branch).unwrap();
    fs::write(&branch, format!("{}\n", "1".repeat(40))).unwrap();
    broken(&daemon, "the repository is damaged");
    daemon.remove("ant");
    daemon.runs("ant");
    assert_eq!(daemon.limit("ant", "Memory"), 512 * MIB);
    fs::remove_dir_all(&objects).unwrap();
    fs::rename(&kept, &objects).unwrap();
    fs::write(&branch, head).unwrap();
    daemon.push();
    whole(&daemon);
    daemon.settled();
    assert_eq!(daemon.limit("ant", "Memory"), 256 * MIB);

    // History that was rewritten is the history now.
    daemon.git(&["reset", "--quiet", "--soft", "HEAD~1"]);
    daemon.tenant("ant", "limits: {memory: 300MiB}\n");
    daemon.push();
    daemon.settled();
    assert_eq!(daemon.limit("ant", "Memory"), 300 * MIB);
}

#[test]
fn a_thousand_commits_end_at_the_newest() {
    let daemon = Daemon::running(&["ant"]);
    for n in 0..1000 {
        daemon.tenant("ant", &format!("limits: {{memory: {}MiB}}\n", 100 + n % 300));
        daemon.cli.commit();
        if n % 10 == 9 {
            daemon.push_ref("HEAD");
        }
    }
    daemon.tenant("ant", "limits: {memory: 64MiB}\n");
    daemon.push();
    daemon.settled();
    assert_eq!(daemon.limit("ant", "Memory"), 64 * MIB);
    daemon.converged();
}

/// git on the working repository with something to read.
fn git_reading(daemon: &Daemon, arguments: &[&str], input: &str) -> String {
    let mut git = Command::new("git");
    git.current_dir(&daemon.cli.repo).args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = git.spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{arguments:?}");
    String::from_utf8(output.stdout).unwrap().trim_end().to_owned()
}

/// A folder with these entries: kind, object and name.
fn folder(daemon: &Daemon, entries: impl IntoIterator<Item = (&'static str, String, String)>) -> String {
    let line = |(kind, id, name)| {
        let mode = if kind == "tree" { "040000" } else { "100644" };
        format!("{mode} {kind} {id}\t{name}\n")
    };
    git_reading(daemon, &["mktree"], &entries.into_iter().map(line).collect::<String>())
}

/// Pushes a commit on top of the newest, with other things at its top, beside or in place of what is there.
fn push_with(daemon: &Daemon, entries: &[(&'static str, String, &str)]) -> String {
    let there = daemon.git(&["ls-tree", "HEAD"]);
    let mut all: Vec<(&'static str, String, String)> = Vec::new();
    for line in there.lines() {
        let (head, name) = line.split_once('\t').unwrap();
        let words: Vec<&str> = head.split(' ').collect();
        if entries.iter().all(|(.., other)| *other != name) {
            let kind = if words[1] == "tree" { "tree" } else { "blob" };
            all.push((kind, words[2].to_owned(), name.to_owned()));
        }
    }
    all.extend(entries.iter().map(|(kind, id, name)| (*kind, id.clone(), (*name).to_owned())));
    let tree = folder(daemon, all);
    let commit = daemon.git(&["commit-tree", &tree, "-p", "HEAD", "-m", "large"]);
    daemon.push_ref(&commit);
    commit
}

/// A figure of the daemon's memory, in MiB, without the pages of files: of the program itself, which the kernel maps as it likes.
fn memory(daemon: &Daemon, what: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", daemon.pid())).unwrap();
    let kib = |what: &str| {
        let line = status.lines().find(|line| line.starts_with(what)).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap()
    };
    kib(what).saturating_sub(kib("RssFile")) >> 10
}

/// The most that the daemon may ever have taken, in MiB.
const MOST_MEMORY: u64 = 100;

#[test]
fn a_small_push_that_says_a_lot_is_refused_and_takes_no_memory() {
    let daemon = Daemon::running(&["ant", "bee"]);
    daemon.proved();
    let blob = |text: &str| git_reading(&daemon, &["hash-object", "-w", "--stdin"], text);
    let names =
        |id: &str, count: usize| folder(&daemon, (0..count).map(|n| ("blob", id.to_owned(), format!("t{n:06}.yaml"))));
    // A folder that names the same one below a hundred times, and so on: 10^14 names.
    let nested = |leaf: String, depth: usize| {
        let below = |id: String| folder(&daemon, (0..100).map(|n| ("tree", id.clone(), format!("d{n:02}"))));
        (0..depth).fold(leaf, |id, _| below(id))
    };
    let head = "apiVersion: tenantd/v1\nkind: Tenant\ntenant: ant\n";
    let large = blob(&format!("{head}#{}\n", "x".repeat(255 << 10)));
    let small = blob(head);
    let empty = blob("");
    let fleet = format!(
        "apiVersion: tenantd/v1\nkind: Fleet\ndefaults: {{tier: free, image: tenantd/test:1, environment: {{A: {}}}}}\n",
        "x".repeat(200_000)
    );
    let passed = folder(&daemon, (0..1000).map(|n| ("blob", empty.clone(), format!(".{n}"))));
    let unseen = folder(&daemon, (0..1000).map(|n| ("blob", empty.clone(), format!("{}{n}", "n".repeat(3_900)))));
    let cases = [
        // The attack that was seen.
        (vec![("tree", names(&large, 8_000), "tenants")], "more than 32 MiB together"),
        (vec![("tree", names(&small, 20_000), "tenants"), ("blob", blob(&fleet), "fleet.yaml")], "64 MiB together"),
        (vec![("tree", names(&empty, 150_000), "tenants")], "more than 100000 files"),
        (vec![("tree", nested(passed.clone(), 7), "tenants")], "more than"),
        (vec![("tree", nested(passed, 7), "files")], "more than"),
        (vec![("tree", nested(unseen.clone(), 2), "tenants")], "the paths in the folders"),
        (vec![("tree", nested(unseen, 7), "files")], "the paths in the folders"),
    ];
    let good = daemon.status().source.applied;
    for (entries, words) in &cases {
        let commit = push_with(&daemon, entries);
        let held = daemon.wait_long("it is refused", || {
            let held = daemon.status().source.held?;
            (Some(&held.revision) == at(&commit).as_ref()).then_some(held)
        });
        let reason = &held.reason;
        assert!(held.plan.is_none() && reason.contains(words), "{words}: {reason}");
        assert_eq!(daemon.status().source.applied, good);
        daemon.remove("ant");
        daemon.runs("ant");
        let most = memory(&daemon, "VmHWM");
        assert!(most < MOST_MEMORY, "{words}: {most} MiB");
    }
    // It is given back, and the next commit is carried out.
    daemon.wait_long("the memory is given back", || (memory(&daemon, "VmRSS") < 32).then_some(()));
    daemon.tenant("bee", "limits: {memory: 256MiB}\n");
    daemon.push();
    daemon.settled();
    assert_eq!(daemon.limit("bee", "Memory"), 256 * MIB);
    // The commands say the same.
    let bare = daemon.bare();
    for (entries, words) in cases.iter().take(2) {
        push_with(&daemon, entries);
        let plan = daemon.ask(&["plan", bare.to_str().unwrap(), "--rev", "main"]);
        assert!(plan.code == 1 && format!("{}{}", plan.out, plan.err).contains(words), "{}{}", plan.out, plan.err);
    }
}
