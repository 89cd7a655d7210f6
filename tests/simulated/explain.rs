//! Every setting of a tenant, and where it comes from.

use serde_json::{Value, json};

use crate::{
    cli::{Cli, FLEET, file},
    daemon::Daemon,
    origin::git,
    report::Written,
};

fn commit(cli: &Cli, who: &str, when: &str) {
    git(&cli.repo, &["add", "--all", "."]);
    let author = format!("{who} <{who}@example.com>");
    let time = format!("2026-01-0{when}T00:00:00Z");
    let mut command =
        crate::origin::command(&cli.repo, &["commit", "--quiet", "--message", "change", "--author", &author]);
    command.env("GIT_COMMITTER_DATE", &time).env("GIT_AUTHOR_DATE", &time);
    assert!(command.status().unwrap().success());
}

fn explained(cli: &Cli, options: &[&str]) -> Value {
    let words = [&["explain", "ant", "--repo", cli.repo.to_str().unwrap(), "--format", "json"], options].concat();
    serde_json::from_str(&cli.run(&words).with(0).out).unwrap()
}

/// A setting's value, where it stands, and who wrote that.
fn setting(of: &Value, field: &str) -> Vec<(String, String, String)> {
    let settings = of["settings"].as_array().unwrap().iter().filter(|one| one["field"] == field);
    let one = |setting: &Value| {
        let at = &setting["at"];
        let place = match at.is_null() {
            true => "built in".to_owned(),
            false => format!("{}:{}", at["file"].as_str().unwrap(), at["line"]),
        };
        let by = setting["by"]["author"]["name"].as_str().unwrap_or_default().to_owned();
        (setting["value"].to_string(), place, by)
    };
    settings.map(one).collect()
}

#[test]
fn each_setting_is_shown_with_its_line_and_who_wrote_it() {
    let cli = Cli::uncommitted(&["ant"]);
    git(&cli.repo, &["init", "--quiet", "--initial-branch=main", "."]);
    cli.write("fleet.yaml", &format!("{FLEET}hardening: {{tmpSize: 32MiB}}\n"));
    cli.write(
        "tiers.yaml",
        "apiVersion: tenantd/v1\nkind: Tiers\ntiers:\n  free:\n    cpus: 1\n    memory: 512MiB\n    disk: 1GiB\n    sessions: 3\n    access: public\n",
    );
    commit(&cli, "ada", "1");
    cli.tenant("ant", "limits: {memory: 256MiB}\nallowlist:\n  - a.example.com:443\n");
    commit(&cli, "bob", "2");
    cli.tenant(
        "ant",
        "limits: {memory: 256MiB}\nallowlist:\n  - a.example.com:443\n  - B.example.com:443\n\
         expose:\n  - {port: 80, path: /8080}\n  - {port: 8080}\n",
    );
    commit(&cli, "eve", "3");

    let now = explained(&cli, &[]);
    let printed = |field: &str, value: &str, at: &str, by: &str| {
        let wanted = (value.to_owned(), at.to_owned(), by.to_owned());
        assert!(setting(&now, field).contains(&wanted), "{field}: {:?}, not {wanted:?}", setting(&now, field));
    };
    printed("tier", "\"free\"", "fleet.yaml:4", "ada");
    printed("image", "\"tenantd/test:1\"", "fleet.yaml:5", "ada");
    printed("runtime", "\"container\"", "built in", "");
    printed("limits.cpus", "1", "tiers.yaml:5", "ada");
    printed("limits.memory", "\"256MiB\"", "tenants/ant.yaml:4", "bob");
    printed("sessions", "3", "tiers.yaml:8", "ada");
    printed("allowlist", "\"a.example.com:443\"", "tenants/ant.yaml:6", "bob");
    printed("allowlist", "\"b.example.com:443\"", "tenants/ant.yaml:7", "eve");
    printed("expose", "80", "tenants/ant.yaml:9", "eve");
    printed("expose.80.path", "\"/8080\"", "tenants/ant.yaml:9", "eve");
    printed("expose", "8080", "tenants/ant.yaml:10", "eve");
    printed("access", "\"public\"", "tiers.yaml:9", "ada");
    printed("hardening.tmpSize", "\"32MiB\"", "fleet.yaml:6", "ada");
    printed("hardening.shmSize", "\"64MiB\"", "built in", "");
    printed("source", "null", "built in", "");

    let then = explained(&cli, &["--at", "2026-01-02T12:00:00Z"]);
    assert_eq!(setting(&then, "allowlist").len(), 1);
    assert_eq!(then, explained(&cli, &["--rev", "HEAD~1"]));
    let repo = cli.repo.to_str().unwrap();
    let fails = |words: &[&str]| cli.run(&[&["explain", "--repo", repo], words].concat()).with(1).err;
    assert!(fails(&["ant", "--at", "2025-01-01T00:00:00Z"]).contains("there was no commit yet"));
    assert!(fails(&["ants"]).contains("did you mean ant?"));

    let text = cli.run(&["explain", "ant", "--repo", repo]).with(0).out;
    assert!(
        text.lines().any(|line| line.starts_with("  limits.memory ")
            && line.contains("256MiB")
            && line.ends_with("2026-01-02 bob")),
        "{text}"
    );

    cli.write("tenants/ant.yaml", &file("ant", "limits: {memory: plenty}\n"));
    commit(&cli, "bob", "4");
    assert!(fails(&["ant"]).contains("an earlier commit says what was in force\nhint: `tenantd history ant` shows it"));
}

/// What is told of this host.
fn on_host(cli: &Cli, journal: &str, options: &[&str]) -> Value {
    explained(cli, &[&["--journal", journal], options].concat())["on_host"].clone()
}

fn head(cli: &Cli) -> String {
    format!("main@sha1:{}", git(&cli.repo, &["rev-parse", "HEAD"]))
}

#[test]
fn what_was_in_force_on_the_host_and_what_had_drifted_is_shown_beside() {
    let cli = Cli::uncommitted(&["ant", "bee"]);
    git(&cli.repo, &["init", "--quiet", "--initial-branch=main", "."]);
    commit(&cli, "ada", "1");
    let first = head(&cli);
    cli.tenant("ant", "limits: {memory: 256MiB}\n");
    commit(&cli, "ada", "2");
    let second = head(&cli);
    cli.tenant("bee", "limits: {memory: 256MiB}\n");
    commit(&cli, "ada", "3");
    let third = head(&cli);
    cli.tenant("ant", "limits: {memory: 128MiB}\n");
    commit(&cli, "ada", "4");
    let fourth = head(&cli);

    let mut journal = Written::new("2026-01-01T00:00:00Z");
    let revision = |journal: &mut Written, time: &str, revision: &str, verdict: &str| {
        journal.add(time, json!({"type": "revision", "revision": revision, "verdict": verdict, "by": null}));
    };
    revision(&mut journal, "2026-01-01T01:00:00Z", &first, "accepted");
    journal.step("2026-01-01T02:00:00Z", "ant", "drift", "done");
    revision(&mut journal, "2026-01-02T01:00:00Z", &second, "held");
    revision(&mut journal, "2026-01-02T02:00:00Z", &second, "approved");
    let bad =
        json!({"type": "bad", "tenant": "ant", "revision": second, "back_to": first, "reason": "it ended at once"});
    journal.add("2026-01-02T03:00:00Z", bad);
    revision(&mut journal, "2026-01-03T01:00:00Z", &third, "accepted");
    let suspended = json!({"type": "suspended", "tenant": "ant", "reason": "disk\u{1b}[2J", "until": "2026-01-03T12:00:00Z", "by": "ada"});
    journal.add("2026-01-03T02:00:00Z", suspended);
    journal.step("2026-01-03T03:00:00Z", "ant", "drift", "failed");
    journal.step("2026-01-03T03:30:00Z", "bee", "drift", "");
    let left = json!({"type": "drift", "tenant": "ant", "resource": "network", "trigger": {"kind": "full-pass"}});
    journal.add("2026-01-03T04:00:00Z", left);
    revision(&mut journal, "2026-01-04T01:00:00Z", &fourth, "accepted");
    journal.step("2026-01-04T02:00:00Z", "ant", "drift", "done");
    let folder = journal.into_folder(cli.world.folder().join("copy"));
    let folder = folder.to_str().unwrap();
    let at = |time: &str| on_host(&cli, folder, &["--at", time]);

    let one = at("2026-01-01T12:00:00Z");
    assert_eq!((&one["in_force"]["revision"], &one["as_shown"]), (&json!(first), &json!(true)));
    assert_eq!((&one["bad"], &one["suspended"], &one["open_drift"]), (&Value::Null, &Value::Null, &json!({})));
    assert_eq!((&one["last_drift"]["became"], &one["records"]), (&json!("done"), &json!(4)));

    // Declared, and not in force yet: it was held.
    let held = at("2026-01-02T01:30:00Z");
    assert_eq!((&held["in_force"]["revision"], &held["as_shown"]), (&json!(first), &json!(false)));
    assert_eq!(at("2026-01-02T02:30:00Z")["as_shown"], true);

    // The next commit declares the same of it, so that it still stands at the older one.
    let three = at("2026-01-03T06:00:00Z");
    assert_eq!(three["in_force"]["revision"], third);
    assert_eq!((&three["bad"]["revision"], &three["bad"]["back_to"]), (&json!(second), &json!(first)));
    assert_eq!(three["suspended"]["by"], "ada");
    assert_eq!(three["last_drift"]["resource"], "network");
    let open: Vec<&Value> = three["open_drift"].as_object().unwrap().values().map(|one| &one["became"]).collect();
    assert_eq!(open, ["failed", "left"]);

    // A time that passed ended the suspension, another declaration the fall-back, a step the drift.
    let now = on_host(&cli, folder, &[]);
    assert_eq!(
        (&now["in_force"]["revision"], &now["bad"], &now["suspended"]),
        (&json!(fourth), &Value::Null, &Value::Null)
    );
    assert_eq!(now["open_drift"].as_object().unwrap().keys().collect::<Vec<_>>(), ["network"]);

    let repo = cli.repo.to_str().unwrap();
    let text = |time: &str| {
        let words = ["explain", "ant", "--repo", repo, "--journal", folder, "--at", time];
        let text = cli.run(&words).with(0).out;
        text[text.find("\nOn this host at ").unwrap()..].replace(folder, "[FOLDER]")
    };
    insta::assert_snapshot!("explain_on_host", text("2026-01-03T06:00:00Z") + &text("2026-01-02T01:30:00Z"));
    assert!(text("2026-01-01T00:00:00Z").contains("  in force    nothing that a daemon has put on record\n"));
}

#[test]
fn where_no_journal_was_read_that_is_said() {
    let cli = Cli::uncommitted(&["ant"]);
    git(&cli.repo, &["init", "--quiet", "--initial-branch=main", "."]);
    commit(&cli, "ada", "1");
    let repo = cli.repo.to_str().unwrap();
    let text = cli.run(&["explain", "ant", "--repo", repo]).with(0).out;
    assert!(text.contains("\nNo journal was read: cannot read "), "{text}");
    assert_eq!(explained(&cli, &[])["on_host"]["journal"], Value::Null);
    cli.host_file("nonsense: yes\n");
    let text = cli.run(&["explain", "ant", "--repo", repo]).with(0).out;
    assert!(text.contains("\nNo journal was read: the host's settings cannot be read"), "{text}");
    let ended = cli.run(&["explain", "ant", "--repo", repo, "--journal", "/no/such/folder"]).with(1);
    assert!(ended.err.contains("cannot read /no/such/folder"), "{}", ended.err);
}

/// The commit that the daemon says is in force is the one that is told.
#[test]
fn a_daemons_host_is_shown_as_its_status_has_it() {
    let daemon = Daemon::running(&["ant"]);
    daemon.proved();
    daemon.ask(&["suspend", "ant", "--reason", "disk check", "--until", "1h"]).with(0);
    let repo = daemon.bare();
    let words = ["explain", "ant", "--repo", repo.to_str().unwrap(), "--rev", "main", "--format", "json"];
    let printed: Value = serde_json::from_str(&daemon.ask(&words).with(0).out).unwrap();
    let host = &printed["on_host"];
    assert_eq!(host["in_force"]["revision"], json!(daemon.status().source.applied));
    assert_eq!((&host["as_shown"], &host["suspended"]["reason"]), (&json!(true), &json!("disk check")));
}
