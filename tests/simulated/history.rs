//! The commits that changed what is in force, out of real repositories.

use std::{collections::BTreeSet, path::Path};

use serde_json::Value;

use crate::{
    cli::{Cli, file},
    origin::git,
    signatures::{Gpg, Key},
};

fn json(cli: &Cli, options: &[&str]) -> Value {
    let repo = cli.repo.to_str().unwrap();
    let ended = cli.run(&[&["history", "--repo", repo, "--format", "json"], options].concat()).with(0);
    serde_json::from_str(&ended.out).unwrap()
}

/// Each commit's first line with what it did to whom.
fn printed(cli: &Cli, options: &[&str]) -> Vec<String> {
    let json = json(cli, options);
    let of = |tenant: &Value| {
        let effects = tenant["effects"].as_array().unwrap().iter();
        let effects: Vec<String> = effects
            .map(|effect| format!("{} {}", effect["mark"].as_str().unwrap(), effect["field"].as_str().unwrap()))
            .collect();
        format!(
            "{} {} [{}]",
            tenant["tenant"].as_str().unwrap(),
            tenant["change"].as_str().unwrap(),
            effects.join(", ")
        )
    };
    let one = |commit: &Value| {
        let tenants = commit["tenants"].as_array().unwrap().iter().map(of);
        let tenants: Vec<String> = tenants.collect();
        let broken = if commit["broken"] == true { " broken" } else { "" };
        let side = if commit["side"] == true { "beside " } else { "" };
        let mut line = format!("{side}{}{broken}: {}", commit["subject"].as_str().unwrap(), tenants.join("; "));
        for against in commit["against"].as_array().unwrap() {
            line += &format!(
                " | takes back {}",
                against["tenants"].as_array().unwrap().iter().map(of).collect::<Vec<_>>().join("; ")
            );
        }
        line
    };
    json["commits"].as_array().unwrap().iter().map(one).collect()
}

fn commit(cli: &Cli, subject: &str) -> String {
    git(&cli.repo, &["add", "--all", "."]);
    git(&cli.repo, &["commit", "--quiet", "--allow-empty", "--message", subject]);
    git(&cli.repo, &["rev-parse", "HEAD"]).trim().to_owned()
}

fn begin() -> Cli {
    let cli = Cli::uncommitted(&["ant", "bee"]);
    git(&cli.repo, &["init", "--quiet", "--initial-branch=main", "."]);
    commit(&cli, "first");
    cli
}

fn remove(path: &Path) {
    std::fs::remove_file(path).unwrap();
}

#[test]
fn each_commit_is_shown_by_what_it_changed() {
    let cli = begin();
    cli.write("README.md", "words");
    commit(&cli, "words alone");
    cli.tenant("ant", "allowlist: [\"a.example.com:443\"]\n");
    commit(&cli, "out");
    cli.write("tenants/ant.yaml", &format!("# a remark\n{}", file("ant", "allowlist: [\"a.example.com:443\"]\n")));
    commit(&cli, "a remark");
    cli.tenant("bee", "limits: {memory: 256MiB}\n");
    cli.tenant("cat", "");
    commit(&cli, "less for bee");
    cli.tenant("cat", "limits: {memory: plenty}\n");
    commit(&cli, "wrong");
    cli.tenant("cat", "");
    commit(&cli, "right again");
    cli.write("fleet.yaml", "nonsense\n");
    cli.tenant("bee", "");
    commit(&cli, "broken");
    cli.write("fleet.yaml", "apiVersion: tenantd/v1\nkind: Fleet\ndefaults: {tier: free, image: \"tenantd/test:1\"}\n");
    commit(&cli, "mended");
    remove(&cli.repo.join("tenants/cat.yaml"));
    cli.tenant("dog", "");
    commit(&cli, "cat is dog now");

    assert_eq!(
        printed(&cli, &[]),
        [
            "cat is dog now: cat removed []; dog added []",
            "mended: bee changed [loosens limits.memory]",
            "broken broken: ",
            "wrong: cat held []",
            "less for bee: bee changed [tightens limits.memory]; cat added []",
            "out: ant changed [loosens allowlist]",
            "first: ant added []; bee added []",
        ]
    );
    assert_eq!(printed(&cli, &["ant"]), ["out: ant changed [loosens allowlist]", "first: ant added []"]);
    assert_eq!(
        printed(&cli, &["--loosened"]),
        ["mended: bee changed [loosens limits.memory]", "out: ant changed [loosens allowlist]"]
    );
    assert_eq!(printed(&cli, &["--field", "limits"]).len(), 2);
    assert_eq!(printed(&cli, &["--field", "runtime"]), Vec::<String>::new());
    assert_eq!(printed(&cli, &["--since", "1h"]).len(), 7);
    assert_eq!(printed(&cli, &["--since", "2199-01-01T00:00:00Z"]), Vec::<String>::new());

    let repo = cli.repo.to_str().unwrap();
    let text = cli.run(&["history", "--repo", repo]).with(0).out;
    assert!(
        text.contains("dog is new, as cat was")
            && text.contains("its policy has errors: what was in force before stayed"),
        "{text}"
    );
    assert!(text.contains("  by test <test@example.com>, unsigned\n"), "{text}");
    assert!(text.contains("    loosens  ant: allowlist + a.example.com:443\n"), "{text}");
    let csv = cli.run(&["history", "--repo", repo, "--format", "csv", "--loosened"]).with(0).out;
    assert_eq!(csv.lines().count(), 3, "{csv}");
    assert!(csv.contains("\"ant\",\"changed\",\"allowlist\",\"none\",\"a.example.com:443\",\"loosens\"\r\n"), "{csv}");
}

#[test]
fn what_holds_for_many_and_what_files_bring_is_reported() {
    let cli = begin();
    cli.tenant("ant", "files: [{path: x, from: files/ant/x}]\n");
    cli.write("files/ant/x", "one");
    commit(&cli, "a file");
    cli.write("files/ant/x", "two");
    commit(&cli, "another content");
    cli.write("files/ant/y", "nobody's");
    commit(&cli, "a file of nobody");
    remove(&cli.repo.join("files/ant/x"));
    commit(&cli, "gone");
    cli.write("files/ant/x", "three");
    commit(&cli, "back");
    let tier = "apiVersion: tenantd/v1\nkind: Tiers\ntiers: {free: {cpus: 1, memory: 1GiB, disk: 2GiB, sessions: 1}}\n";
    cli.write("tiers.yaml", tier);
    commit(&cli, "a larger tier");
    assert_eq!(
        printed(&cli, &[]),
        [
            "a larger tier: ant changed [loosens limits.memory]; bee changed [loosens limits.memory]",
            "back: ant changed [neutral files.x]",
            "gone: ant held []",
            "another content: ant changed [neutral files.x]",
            "a file: ant changed [neutral files.x]",
            "first: ant added []; bee added []",
        ]
    );
}

#[test]
fn merges_and_rewritten_branches_are_reported() {
    let cli = begin();
    git(&cli.repo, &["checkout", "--quiet", "-b", "topic"]);
    cli.tenant("ant", "limits: {memory: 256MiB}\n");
    commit(&cli, "topic one");
    cli.tenant("ant", "limits: {memory: 384MiB}\n");
    commit(&cli, "topic two");
    git(&cli.repo, &["checkout", "--quiet", "main"]);
    cli.tenant("bee", "allowlist: [\"a.example.com:443\"]\n");
    let before = commit(&cli, "beside");
    git(&cli.repo, &["merge", "--quiet", "--no-ff", "--message", "merge the topic", "topic"]);
    assert_eq!(
        printed(&cli, &[]),
        [
            "merge the topic: ant changed [tightens limits.memory]",
            "beside topic two: ant changed [loosens limits.memory]",
            "beside topic one: ant changed [tightens limits.memory]",
            "beside: bee changed [loosens allowlist]",
            "first: ant added []; bee added []",
        ]
    );
    assert_eq!(json(&cli, &[])["commits"][0]["merged"][0]["email"], "test@example.com");

    git(&cli.repo, &["reset", "--quiet", "--hard", "HEAD~1"]);
    cli.tenant("ant", "runtime: gvisor\n");
    commit(&cli, "otherwise");
    let json = json(&cli, &["--rev", "main"]);
    assert_eq!(json["rewritten"].as_array().unwrap().len(), 1, "{json:#}");
    assert_eq!(json["rewritten"][0]["to"], before);
    let repo = cli.repo.to_str().unwrap();
    let ended = cli.run(&["history", "--repo", repo, "--rev", "main"]).with(0);
    assert!(ended.err.contains("the branch was rewritten at"), "{}", ended.err);

    // What was in force is loosened by going back alone: no commit does it.
    cli.tenant("ant", "runtime: gvisor\nlimits: {memory: 64MiB}\n");
    let tight = commit(&cli, "tight");
    git(&cli.repo, &["reset", "--quiet", "--hard", "HEAD~1"]);
    let json = self::json(&cli, &["--rev", "main", "--loosened"]);
    assert_eq!(json["rewritten"][0]["from"], tight, "{json:#}");
    assert_eq!(json["rewritten"][0]["tenants"][0]["effects"][0]["field"], "limits.memory", "{json:#}");
    let text = cli.run(&["history", "--repo", repo, "--rev", "main"]).with(0).out;
    assert!(text.contains(&format!("  from {} to ", &tight[..12])), "{text}");
    assert!(text.contains("    loosens  ant: limits.memory 64MiB -> 512MiB\n"), "{text}");
}

/// A commit that says that it was made then.
fn dated(cli: &Cli, subject: &str, time: &str) -> String {
    git(&cli.repo, &["add", "--all", "."]);
    let mut command = crate::origin::command(&cli.repo, &["commit", "--quiet", "--allow-empty", "--message", subject]);
    command.env("GIT_COMMITTER_DATE", time).env("GIT_AUTHOR_DATE", time);
    assert!(command.status().unwrap().success());
    git(&cli.repo, &["rev-parse", "HEAD"]).trim().to_owned()
}

/// A merge that has the files of its first parent, whatever the others have.
fn merge_ours(cli: &Cli, subject: &str, others: &[&str]) {
    let words =
        ["merge", "--quiet", "--no-ff", "--allow-unrelated-histories", "--strategy", "ours", "--message", subject];
    git(&cli.repo, &[&words, others].concat());
}

#[test]
fn a_merge_hides_nothing_that_its_other_parents_had_in_force() {
    let cli = begin();
    // What was in force: a host is open, is closed again, and less memory.
    cli.tenant("ant", "allowlist: [\"evil.example.com:443\"]\n");
    commit(&cli, "open");
    cli.tenant("ant", "");
    commit(&cli, "closed");
    cli.tenant("bee", "limits: {memory: 64MiB}\n");
    commit(&cli, "less");
    // Somebody begins again at the first commit, merges the old main as a second parent, and has the branch set there.
    git(&cli.repo, &["checkout", "--quiet", "-b", "other", "HEAD~3"]);
    cli.write("README.md", "words");
    commit(&cli, "words alone");
    merge_ours(&cli, "an innocent merge", &["main"]);
    git(&cli.repo, &["branch", "--force", "main", "HEAD"]);
    git(&cli.repo, &["checkout", "--quiet", "main"]);
    assert_eq!(
        printed(&cli, &[]),
        [
            "an innocent merge:  | takes back bee changed [loosens limits.memory]",
            "beside less: bee changed [tightens limits.memory]",
            "beside closed: ant changed [tightens allowlist]",
            "beside open: ant changed [loosens allowlist]",
            "first: ant added []; bee added []",
        ]
    );
    assert_eq!(
        printed(&cli, &["--loosened"]),
        [
            "an innocent merge:  | takes back bee changed [loosens limits.memory]",
            "beside open: ant changed [loosens allowlist]"
        ]
    );
    let repo = cli.repo.to_str().unwrap();
    let text = cli.run(&["history", "--repo", repo]).with(0).out;
    assert!(text.contains("  came in by a merge: in force only if the branch stood there\n"), "{text}");
    assert!(
        text.contains("which may have been in force:\n    loosens  bee: limits.memory 64MiB -> 512MiB\n"),
        "{text}"
    );
    let csv = cli.run(&["history", "--repo", repo, "--format", "csv", "--loosened"]).with(0).out;
    assert!(csv.contains("\"bee\",\"changed\",\"limits.memory\",\"64MiB\",\"512MiB\",\"loosens\""), "{csv}");
    // The report tells the same.
    let report = cli.run(&["audit", "report", "--repo", repo, "--from", "1h", "--format", "json"]).with(0).out;
    let report: Value = serde_json::from_str(&report).unwrap();
    assert_eq!(report["totals"]["changes"]["loosens"], 2, "{report:#}");
}

#[test]
fn a_clean_merge_of_a_branch_that_lags_behind_takes_nothing_back() {
    let cli = begin();
    git(&cli.repo, &["checkout", "--quiet", "-b", "topic"]);
    cli.tenant("cat", "");
    commit(&cli, "a cat");
    git(&cli.repo, &["checkout", "--quiet", "main"]);
    cli.tenant("ant", "allowlist: [\"a.example.com:443\"]\nlimits: {memory: 64MiB}\n");
    commit(&cli, "other things");
    remove(&cli.repo.join("tenants/bee.yaml"));
    cli.tenant("dog", "");
    commit(&cli, "a dog for a bee");
    git(&cli.repo, &["merge", "--quiet", "--no-ff", "--message", "merge", "topic"]);
    assert_eq!(printed(&cli, &[])[..2], ["merge: cat added []", "beside a cat: cat added []"]);
    // The branch is set to a merge the other way round: the same holds.
    git(&cli.repo, &["checkout", "--quiet", "topic"]);
    git(&cli.repo, &["merge", "--quiet", "--no-ff", "--message", "other way", "main~1"]);
    let lines = printed(&cli, &["--rev", "topic"]);
    assert_eq!(
        lines[0],
        "other way: ant changed [loosens allowlist, tightens limits.memory]; bee removed []; dog added []"
    );
    assert!(lines.iter().all(|line| !line.contains("takes back")), "{lines:?}");
    // A merge with an edit of its own, which no side made.
    git(&cli.repo, &["checkout", "--quiet", "main"]);
    git(&cli.repo, &["checkout", "--quiet", "-b", "evil"]);
    cli.write("README.md", "words");
    commit(&cli, "words");
    git(&cli.repo, &["checkout", "--quiet", "main"]);
    git(&cli.repo, &["merge", "--quiet", "--no-ff", "--no-commit", "evil"]);
    cli.tenant("dog", "allowlist: [\"evil.example.com:443\"]\n");
    commit(&cli, "evil merge");
    assert_eq!(
        printed(&cli, &["--loosened"])[0],
        "evil merge: dog changed [loosens allowlist] | takes back dog changed [loosens allowlist]"
    );
}

#[test]
fn merges_of_many_and_of_what_has_nothing_in_common_are_followed() {
    let cli = begin();
    for name in ["one", "two", "three"] {
        git(&cli.repo, &["checkout", "--quiet", "-b", name, "main"]);
        cli.tenant(name, "allowlist: [\"a.example.com:443\"]\n");
        commit(&cli, name);
    }
    git(&cli.repo, &["checkout", "--quiet", "main"]);
    git(&cli.repo, &["merge", "--quiet", "--no-ff", "--message", "octopus", "one", "two", "three"]);
    let lines = printed(&cli, &[]);
    assert_eq!(lines.len(), 5, "{lines:?}");
    assert_eq!(lines[0].matches("added [loosens allowlist]").count(), 3, "{lines:?}");
    assert!(!lines[0].contains("takes back"), "{lines:?}");
    // Another root, with a tenant that the merge does not take over.
    git(&cli.repo, &["checkout", "--quiet", "--orphan", "apart"]);
    cli.tenant("fox", "");
    commit(&cli, "apart");
    git(&cli.repo, &["checkout", "--quiet", "main"]);
    merge_ours(&cli, "unrelated", &["apart"]);
    let lines = printed(&cli, &[]);
    assert_eq!(lines[0], "unrelated:  | takes back fox removed []");
    assert!(
        lines.iter().any(|line| line.starts_with("beside apart: ant added") && line.contains("fox added")),
        "{lines:?}"
    );
}

#[test]
fn a_tenant_that_comes_back_is_judged_by_what_it_last_was() {
    let cli = begin();
    cli.tenant("ant", "runtime: gvisor\nlimits: {memory: 64MiB}\n");
    commit(&cli, "strict");
    remove(&cli.repo.join("tenants/ant.yaml"));
    commit(&cli, "gone");
    cli.tenant("bee", "limits: {memory: 256MiB}\n");
    commit(&cli, "something else");
    cli.tenant("ant", "limits: {memory: plenty}\n");
    commit(&cli, "wrong");
    cli.tenant("ant", "limits: {memory: 64MiB}\n");
    commit(&cli, "back");
    assert_eq!(printed(&cli, &["--loosened", "ant"])[0], "back: ant added [loosens runtime]");
    let json = json(&cli, &["ant"]);
    assert_eq!(json["commits"][0]["returned"], serde_json::json!(["ant"]));
    let text = cli.run(&["history", "--repo", cli.repo.to_str().unwrap(), "ant"]).with(0).out;
    assert!(text.contains("    ant is back, and judged by what it last was\n    loosens  ant: runtime"), "{text}");
    // As it was, nothing is loosened.
    remove(&cli.repo.join("tenants/ant.yaml"));
    commit(&cli, "gone again");
    cli.tenant("ant", "limits: {memory: 64MiB}\n");
    commit(&cli, "back again");
    assert_eq!(printed(&cli, &["ant"])[0], "back again: ant added []");
}

#[test]
fn the_order_goes_before_the_dates() {
    let cli = Cli::uncommitted(&["ant", "bee"]);
    git(&cli.repo, &["init", "--quiet", "--initial-branch=main", "."]);
    dated(&cli, "first", "2026-09-01T00:00:00Z");
    cli.tenant("ant", "allowlist: [\"a.example.com:443\"]\n");
    dated(&cli, "september", "2026-09-02T00:00:00Z");
    cli.tenant("ant", "allowlist: [\"a.example.com:443\", \"b.example.com:443\"]\n");
    let back = dated(&cli, "dated back", "1999-01-01T00:00:00Z");
    assert_eq!(printed(&cli, &["--since", "2026-10-01T00:00:00Z"]), ["dated back: ant changed [loosens allowlist]"]);
    cli.tenant("bee", "limits: {memory: 64MiB}\n");
    dated(&cli, "october", "2026-10-05T00:00:00Z");
    cli.tenant("bee", "limits: {memory: 128MiB}\n");
    dated(&cli, "dated back as well", "2020-01-01T00:00:00Z");
    let since = |time: &str| printed(&cli, &["--since", time]).len();
    // Between September and October, and after it.
    assert_eq!((since("2026-10-01T00:00:00Z"), since("2026-10-05T00:00:00Z")), (3, 3));
    assert_eq!(
        (since("2026-10-06T00:00:00Z"), since("2026-09-02T00:00:00Z"), since("2026-08-01T00:00:00Z")),
        (1, 4, 5)
    );
    let json = json(&cli, &[]);
    assert_eq!(json["misdated"].as_array().unwrap().len(), 2, "{json:#}");
    assert_eq!(
        (&json["misdated"][0]["commit"], &json["misdated"][0]["time"]),
        (&back.clone().into(), &"1999-01-01T00:00:00Z".into())
    );
    let err = cli.run(&["history", "--repo", cli.repo.to_str().unwrap()]).with(0).err;
    assert!(err.contains("warning: order and dates disagree: 2 commits say") && err.contains(&back[..12]), "{err}");
    let err =
        cli.run(&["explain", "ant", "--repo", cli.repo.to_str().unwrap(), "--at", "2026-10-06T00:00:00Z"]).with(0).err;
    assert!(err.contains("order and dates disagree"), "{err}");
}

#[test]
fn what_the_daemon_brought_into_force_is_what_was_in_force() {
    let cli = begin();
    let first = git(&cli.repo, &["rev-parse", "HEAD"]).trim().to_owned();
    cli.tenant("ant", "limits: {memory: 64MiB}\n");
    let tight = commit(&cli, "tight");
    cli.tenant("ant", "limits: {memory: 128MiB}\n");
    commit(&cli, "never in force");
    cli.tenant("ant", "limits: {memory: 64MiB}\n");
    cli.tenant("bee", "allowlist: [\"a.example.com:443\"]\n");
    let last = commit(&cli, "last");
    let mut journal = crate::report::Written::new("2026-10-03T00:00:00Z");
    let mut judged = |time: &str, commit: &str, verdict: &str| {
        let revision = format!("main@sha1:{commit}");
        journal.add(time, serde_json::json!({"type": "revision", "revision": revision, "verdict": verdict}));
    };
    judged("2026-10-04T00:00:00Z", &first, "accepted");
    judged("2026-10-05T00:00:00Z", &tight, "accepted");
    // The branch was set back, and forward again; one is not in this repository, one was never in force.
    judged("2026-10-06T00:00:00Z", &first, "approved");
    judged("2026-10-07T00:00:00Z", &"a".repeat(40), "accepted");
    judged("2026-10-08T00:00:00Z", &last, "refused");
    judged("2026-10-09T00:00:00Z", &tight, "accepted");
    let folder = journal.into_folder(cli.world.folder().join("copy"));
    let folder = folder.to_str().unwrap();
    let in_force = [
        "tight: ant changed [tightens limits.memory]",
        "first: ant changed [loosens limits.memory]",
        "tight: ant changed [tightens limits.memory]",
        "first: ant added []; bee added []",
    ];
    assert_eq!(printed(&cli, &["--journal", folder]), in_force);
    // By when it came into force, whatever the commits say.
    assert_eq!(printed(&cli, &["--journal", folder, "--since", "2026-10-05T12:00:00Z"]), in_force[..2]);
    let repo = cli.repo.to_str().unwrap();
    let err = cli.run(&["history", "--repo", repo, "--journal", folder]).with(0).err;
    assert!(
        err.contains("warning: this repository lacks 1 commit that the daemon brought into force: aaaaaaaaaa"),
        "{err}"
    );
    assert!(err.contains(&format!("warning: {} is not in force, and not shown", &last[..12])), "{err}");
    // This host's own journal needs not be named, and can be left aside.
    std::fs::create_dir_all(cli.world.host.data_root.join("journal")).unwrap();
    let name = "00000000000000000001.jsonl";
    std::fs::copy(Path::new(folder).join(name), cli.world.host.data_root.join("journal").join(name)).unwrap();
    assert_eq!(printed(&cli, &[]), in_force);
    assert_eq!(printed(&cli, &["--all"]).len(), 4);
    assert!(printed(&cli, &["--all"])[0].starts_with("last: "));
    let other = Cli::uncommitted(&["fox"]);
    git(&other.repo, &["init", "--quiet", "--initial-branch=main", "."]);
    commit(&other, "another fleet");
    let ended = other.run(&["history", "--repo", other.repo.to_str().unwrap(), "--journal", folder]).with(1);
    assert!(ended.err.contains("has none of the commits that the journal in"), "{}", ended.err);
}

#[test]
fn a_repository_whose_fleet_lies_in_a_folder_is_read_there() {
    let cli = Cli::uncommitted(&[]);
    let tenant = |name: &str, more: &str| cli.write(&format!("fleets/eu/tenants/{name}.yaml"), &file(name, more));
    git(&cli.repo, &["init", "--quiet", "--initial-branch=main", "."]);
    // At the top lies another fleet, which is nobody's business here.
    cli.tenant("fox", "");
    commit(&cli, "a fleet at the top");
    cli.write("fleets/eu/fleet.yaml", crate::cli::FLEET);
    tenant("ant", "limits: {memory: 64MiB}\n");
    let first = commit(&cli, "a fleet in a folder");
    tenant("ant", "");
    commit(&cli, "more");
    git(&cli.repo, &["mv", "fleets/eu", "fleets/us"]);
    commit(&cli, "moved away");
    git(&cli.repo, &["mv", "fleets/us", "fleets/eu"]);
    tenant("ant", "runtime: gvisor\n");
    commit(&cli, "moved back");
    let expected = [
        "moved back: ant changed [tightens runtime]",
        "moved away broken: ",
        "more: ant changed [loosens limits.memory]",
        "a fleet in a folder: ant added []",
        "a fleet at the top broken: ",
    ];
    assert_eq!(printed(&cli, &["--path", "fleets/eu"]), expected);
    assert_eq!(printed(&cli, &["--path", "./fleets/eu/"]), expected);
    assert_eq!(json(&cli, &["--path", "fleets/eu"])["commits"][1]["missing"], true);
    let repo = cli.repo.to_str().unwrap();
    let text = cli.run(&["history", "--repo", repo, "--path", "fleets/eu"]).with(0).out;
    assert!(text.contains("  it has no folder with fleet.yaml: what was in force before stayed\n"), "{text}");

    // Or as the host has it, for every command.
    let engine = cli.world.engine.url();
    cli.host_file(&format!("engine: {engine}\nsource: {{url: {repo}, path: fleets/eu}}\n"));
    assert_eq!(printed(&cli, &[]), expected);
    assert_eq!(printed(&cli, &["--path", "."]), ["a fleet at the top: fox added []"]);
    let explained = cli.run(&["explain", "ant", "--repo", repo]).with(0).out;
    assert!(explained.contains("gvisor") && explained.contains("tenants/ant.yaml:"), "{explained}");
    let head = git(&cli.repo, &["rev-parse", "HEAD"]);
    let runtime = explained.lines().find(|line| line.contains("gvisor")).unwrap();
    assert!(runtime.contains(&head.trim()[..12]), "{runtime}");
    let report = cli.run(&["audit", "report", "--repo", repo, "--from", "1h", "--format", "json"]).with(0).out;
    let report: Value = serde_json::from_str(&report).unwrap();
    assert_eq!((&report["totals"]["tenants_at_to"], &report["totals"]["broken"]), (&1.into(), &2.into()), "{report:#}");
    assert_eq!(report["tenants"][0]["tenant"], "ant");
    let plan = |options: &[&str]| cli.run(&[&["plan", repo], options].concat());
    assert!(plan(&["--base", &first]).with(0).out.contains("tightens  runtime container -> gvisor"));
    // A side without the folder is not one without tenants.
    let ended = plan(&["--base", "HEAD~1"]).with(1);
    assert!(ended.err.contains("there is no folder \"fleets/eu\" in the commit"), "{}", ended.err);
    let ended = plan(&["--rev", "HEAD~1"]).with(1);
    assert!(ended.err.contains("there is no folder"), "{}", ended.err);
    cli.run(&["apply", repo, "--yes", "--rev", &first]).with(0);
    assert_eq!(cli.world.state("tenantd-ant"), "running");
    plan(&["--detailed-exitcode", "--rev", &first]).with(0);
    // Nowhere at all.
    for command in ["history", "explain"] {
        let words: &[&str] = if command == "explain" { &["explain", "ant"] } else { &["history"] };
        let ended = cli.run(&[words, &["--repo", repo, "--path", "elsewhere"]].concat()).with(1);
        assert!(ended.err.contains("there is no folder \"elsewhere\" in the commit"), "{command}: {}", ended.err);
    }
    let ended = cli.run(&["audit", "report", "--repo", repo, "--path", "elsewhere"]).with(1);
    assert!(ended.err.contains("there is no folder \"elsewhere\""), "{}", ended.err);
}

#[test]
fn signatures_are_shown_by_whom_the_host_knows() {
    let cli = begin();
    let (ada, eve) = (
        Key::new(cli.world.folder(), "ada", &["-t", "ed25519"]),
        Key::new(cli.world.folder(), "eve", &["-t", "ed25519"]),
    );
    for (number, key) in [&ada, &eve].into_iter().enumerate() {
        signed(&cli, number, &key.options());
    }
    let engine = cli.world.engine.url();
    cli.host_file(&format!(
        "engine: {engine}\nverify: {{mode: all, signers: [{{name: ada@example.com, key: {:?}}}]}}\n",
        ada.public()
    ));
    let json = json(&cli, &["ant"]);
    let signature = |commit: usize| json["commits"][commit]["signature"].clone();
    assert_eq!(signature(1), serde_json::json!({"kind": "by", "of": "ada@example.com"}));
    assert_eq!((signature(0)["kind"].clone(), signature(2)["kind"].clone()), ("bad".into(), "none".into()));
    let text = cli.run(&["history", "--repo", cli.repo.to_str().unwrap(), "ant"]).with(0).out;
    assert!(text.contains("signed by ada@example.com") && text.contains("signature does not count: it"), "{text}");
}

/// Commits something of the tenant's, signed.
fn signed(cli: &Cli, number: usize, options: &[String]) {
    cli.tenant("ant", &format!("limits: {{memory: {}MiB}}\n", 100 + number));
    let mut words: Vec<&str> = options.iter().map(String::as_str).collect();
    words.extend(["commit", "--quiet", "--all", "--message", "signed"]);
    git(&cli.repo, &words);
}

#[test]
fn signatures_of_gnupg_are_shown_by_the_keyring_of_the_host() {
    let cli = begin();
    let [ada, eve] = ["Ada <ada@example.com>", "Ada <eve@example.com>"].map(|user| Gpg::new(user, false));
    signed(&cli, 0, &ada.options(false));
    signed(&cli, 1, &eve.options(false));
    let engine = cli.world.engine.url();
    let printed = || {
        let json = json(&cli, &["ant"]);
        let one = |commit: usize| {
            let signature = &json["commits"][commit]["signature"];
            (signature["kind"].as_str().unwrap().to_owned(), signature["of"].as_str().unwrap_or_default().to_owned())
        };
        [one(1), one(0)]
    };
    let unknown = ("unknown".to_owned(), "GnuPG".to_owned());
    assert_eq!(printed(), [unknown.clone(), unknown], "nobody's keys are known");

    cli.host_file(&format!("engine: {engine}\nverify: {{mode: all, gnupgHome: {:?}}}\n", ada.home));
    let [by_ada, by_eve] = printed();
    assert!(by_ada.0 == "by" && by_ada.1.starts_with("Ada <ada@example.com> "), "{by_ada:?}");
    assert!(by_eve.0 == "bad" && by_eve.1.contains("its key is not in the keyring"), "{by_eve:?}");
    let own = |entry: &std::fs::DirEntry| entry.file_name().to_string_lossy().starts_with("tenantd-keys-");
    let left = std::fs::read_dir(std::env::temp_dir()).unwrap().flatten().filter(own).count();
    assert_eq!(left, 0, "the copy of the keyring is gone");

    cli.host_file(&format!("engine: {engine}\nverify: {{mode: all, gnupgHome: /nonexistent}}\n"));
    let [one, _] = printed();
    assert!(one.0 == "unknown" && one.1.contains("neither pubring.kbx nor pubring.gpg"), "{one:?}");
}

/// What is told commit by commit is what two readings of the whole tell.
#[test]
fn a_long_history_adds_up_to_what_is_declared() {
    let cli = begin();
    let mut random = fastrand::Rng::with_seed(7);
    let names = ["ant", "bee", "cat", "dog", "elk"];
    let memory = ["128MiB", "256MiB", "384MiB", "512MiB", "plenty"];
    for number in 0..60 {
        let name = names[random.usize(..names.len())];
        match random.u8(..10) {
            0 => drop(std::fs::remove_file(cli.repo.join(format!("tenants/{name}.yaml")))),
            1 => cli.write("fleet.yaml", if random.bool() { "nonsense\n" } else { crate::cli::FLEET }),
            2 => cli.write("tenants/odd.yml", "x"),
            3 => drop(std::fs::remove_file(cli.repo.join("tenants/odd.yml"))),
            _ => cli.tenant(name, &format!("limits: {{memory: {}}}\n", memory[random.usize(..memory.len())])),
        }
        commit(&cli, &format!("change {number}"));
    }
    cli.write("fleet.yaml", crate::cli::FLEET);
    commit(&cli, "last");
    let history = json(&cli, &[]);
    let mut declared = BTreeSet::new();
    for commit in history["commits"].as_array().unwrap().iter().rev() {
        for tenant in commit["tenants"].as_array().unwrap() {
            let name = tenant["tenant"].as_str().unwrap().to_owned();
            match tenant["change"].as_str().unwrap() {
                "added" => assert!(declared.insert(name.clone()), "{name} was not there: {commit:#}"),
                "removed" => assert!(declared.remove(&name), "{name} was there: {commit:#}"),
                _ => {}
            }
        }
    }
    let tree = tenantd::source::read_commit(&cli.repo, "HEAD").unwrap();
    let now = tenantd::spec::compile(&tree);
    let valid = now.tenants.keys().map(ToString::to_string).collect::<BTreeSet<_>>();
    let held = declared.difference(&valid).all(|name| now.held.contains(name));
    assert!(held && valid.is_subset(&declared), "{declared:?} {valid:?} {:?}", now.held);
}
