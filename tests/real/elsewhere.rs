//! Plans of a real engine that are made without it, and plans that are carried out later.

use std::{fs, process::Command};

use serde_json::json;

use crate::{
    engine::{said, succeed},
    fleet::{Fleet, case, code, run},
};

/// What somebody put into a container by hand.
const KEY: &str = "sk-live-4f9a8b7c6d5e";

#[test]
fn a_snapshot_plans_as_its_host_does_and_a_saved_plan_is_kept_to() {
    let fleet = Fleet::start("elsewhere");
    fleet.declare("acme", "environment: {GREETING: hello}\nlimits: {disk: 32MiB}\n");
    fleet.declare("beta", fleet.gvisor());
    git(&fleet, &["init", "--quiet", "--initial-branch=main"]);
    commit(&fleet);
    fleet.converge();
    fleet.cases(vec![
        case("with nothing to do", |fleet| drop(same(fleet, "No changes."))),
        case("with what a commit brings", what_a_commit_brings),
        case("with what somebody did by hand", what_somebody_did),
        case("it says whose it is", whose_it_is),
        case("a saved plan is refused once something moved, and else carried out", saved),
    ]);
    fleet.end();
}

fn git(fleet: &Fleet, words: &[&str]) {
    let identity = ["-c", "user.name=Ada", "-c", "user.email=ada@example.com", "-c", "commit.gpgsign=false"];
    let mut command = Command::new("git");
    command.arg("-C").arg(fleet.repo()).args(identity).args(words);
    succeed(command);
}

fn commit(fleet: &Fleet) {
    git(fleet, &["add", "--all"]);
    git(fleet, &["commit", "--quiet", "--allow-empty", "-m", "tenants"]);
}

/// Plans on the host, and out of a snapshot by a process that knows neither the host's settings nor its engine. Returns
/// the plan, which is the same and says something.
#[track_caller]
fn same(fleet: &Fleet, says: &str) -> String {
    let snapshot = fleet.engine.dir().join("host.snapshot");
    let taken = run(fleet.tenantd(&["snapshot", "--out", "host.snapshot"]));
    assert_eq!(code(&taken), 0, "{}", said(&taken));
    let mut text = String::new();
    for format in ["json", "text"] {
        let here = run(fleet.tenantd(&["plan", "fleet", "--detailed-exitcode", "--format", format]));
        let mut command = Command::new(env!("CARGO_BIN_EXE_tenantd"));
        command.env_clear().current_dir("/").arg("plan").arg(fleet.repo()).arg("--snapshot").arg(&snapshot);
        command.args(["--detailed-exitcode", "--format", format]);
        let elsewhere = run(command);
        text = String::from_utf8(here.stdout).unwrap();
        assert_eq!(text, String::from_utf8(elsewhere.stdout).unwrap(), "byte for byte");
        assert_eq!(here.status, elsewhere.status);
    }
    let snapshot = fs::read_to_string(snapshot).unwrap();
    assert!(!snapshot.contains(KEY) && !text.contains(KEY), "no secret is shown");
    assert!(text.contains(says), "the plan says {says:?}:\n{text}");
    text
}

fn what_a_commit_brings(fleet: &Fleet) {
    fleet.declare("acme", "environment: {GREETING: goodbye}\nlimits: {disk: 64MiB, memory: 64MiB}\n");
    fleet.declare("gamma", "");
    fleet.undeclare("beta");
    commit(fleet);
    let text = same(fleet, "container.acme must be replaced");
    assert!(
        text.contains("container.gamma will be created") && text.contains("workspace.beta will be archived"),
        "{text}"
    );
    fleet.undeclare("gamma");
    fleet.declare("acme", "environment: {GREETING: hello}\nlimits: {disk: 32MiB}\n");
    fleet.declare("beta", fleet.gvisor());
    commit(fleet);
    same(fleet, "No changes.");
}

fn what_somebody_did(fleet: &Fleet) {
    fleet.recreate("acme", true, |body| {
        body["Env"].as_array_mut().unwrap().push(json!(format!("TOKEN={KEY}")));
        body["HostConfig"]["Privileged"] = json!(true);
    });
    fleet.engine.must("POST", "/containers/tenantd-beta/stop?t=1", None);
    let text = same(fleet, "TOKEN=(hidden)");
    assert!(text.contains("weakens isolation") && text.contains("\"stopped\" -> \"running\""), "{text}");
    fleet.converge();
}

fn whose_it_is(fleet: &Fleet) {
    let key = run(fleet.tenantd(&["snapshot", "--public-key"]));
    let key = String::from_utf8(key.stdout).unwrap();
    let plan = |key: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tenantd"));
        command.env_clear().current_dir(fleet.engine.dir()).args(["plan", "fleet", "--snapshot", "host.snapshot"]);
        command.args(["--host-key", key, "--max-age", "1h"]);
        run(command)
    };
    let good = plan(key.trim());
    assert_eq!(code(&good), 0, "{}", said(&good));
    let other = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f";
    let bad = plan(other);
    assert_eq!(code(&bad), 1, "{}", said(&bad));
}

fn saved(fleet: &Fleet) {
    fleet.declare("acme", "environment: {GREETING: goodbye}\nlimits: {disk: 32MiB}\n");
    commit(fleet);
    let save = || {
        let saved = run(fleet.tenantd(&["plan", "fleet", "--out", "plan.json"]));
        assert_eq!(code(&saved), 0, "{}", said(&saved));
    };
    let apply = || {
        let applied = run(fleet.tenantd(&["apply", "plan.json", "--repo", "fleet"]));
        (code(&applied), said(&applied))
    };
    save();
    let identity = fleet.engine.identity("tenantd-acme");
    fleet.engine.must("POST", "/containers/tenantd-acme/pause", None);
    let (refused, printed) = apply();
    assert!(refused == 1 && printed.contains("moved: container tenantd-acme ("), "{printed}");
    fleet.engine.must("POST", "/containers/tenantd-acme/unpause", None);
    assert_eq!(fleet.engine.identity("tenantd-acme"), identity, "nothing was changed");
    // What happens to another tenant is none of the plan's.
    fleet.engine.must("POST", "/containers/tenantd-beta/pause", None);
    let (done, printed) = apply();
    assert!(done == 0 && printed.contains("1 tenant converged"), "{printed}");
    assert_ne!(fleet.engine.identity("tenantd-acme"), identity);
    let (again, printed) = apply();
    assert!(again == 1 && printed.contains("is refused"), "{printed}");
    fleet.converge();
}
