//! A declaration that a tenant does not run well with.

use std::{thread::sleep, time::Duration};

use rustix::process::Signal;
use serde_json::{Value, json};
use tenantd::model::{Entry, Revision, record::Why, status::ConditionKind};
use tenantd_test_support::Call;

use super::{Daemon, at, condition, object, shown};
use crate::lookalikes;

/// What makes the simulated engine's container end right after its start.
const ENDS: &str = "environment: {SIM_EXIT: \"3\"}\n";

fn bad(daemon: &Daemon, tenant: &str) -> Vec<(Option<Revision>, String)> {
    let of = |record: &tenantd::model::Record| match &record.entry {
        Entry::Bad { tenant: name, back_to, reason, .. } if name == tenant => Some((back_to.clone(), reason.clone())),
        _ => None,
    };
    daemon.records().iter().filter_map(of).collect()
}

fn creates(daemon: &Daemon, tenant: &str) -> usize {
    let of = |call: &&Call| {
        call.path == "/containers/create"
            && call.parameter("name").is_some_and(|name| name.starts_with(&object(tenant)))
    };
    daemon.engine.calls().iter().filter(of).count()
}

#[test]
fn a_bad_commit_goes_back_for_those_that_it_is_bad_for() {
    let mut daemon = Daemon::running(&["ant", "bee"]);
    daemon.proved();
    let good = daemon.git(&["rev-parse", "HEAD"]);
    daemon.tenant("ant", ENDS);
    daemon.tenant("bee", "limits: {memory: 256MiB}\n");
    daemon.tenant("new", ENDS);
    let wrong = daemon.push();
    daemon.wait("it is bad for ant", || (daemon.reason("ant") == "BadCommit").then_some(()));
    daemon.runs("ant");
    daemon.wait("it is bad for new", || (daemon.reason("new") == "BadCommit").then_some(()));
    let status = daemon.status();
    assert_eq!(shown(&status, "ant").unwrap().revision, at(&good));
    assert_eq!(status.source.applied, at(&wrong));
    daemon.wait("others stay at the new one", || (daemon.limit("bee", "Memory") == 256 << 20).then_some(()));
    let [(back_to, reason)] = &*bad(&daemon, "ant") else { panic!("{:?}", bad(&daemon, "ant")) };
    assert_eq!(back_to.as_ref().map(|revision| revision.commit.as_str()), Some(good.as_str()));
    assert!(reason.contains("exit code 3"), "{reason}");
    // One that never ran has nowhere to go back to.
    assert_eq!(bad(&daemon, "new").len(), 1);
    assert_eq!(bad(&daemon, "new")[0].0, None);

    // It stays so: over restarts, over a crash, over commits about others.
    let made = (creates(&daemon, "ant"), creates(&daemon, "new"));
    daemon.restart();
    daemon.end(Signal::KILL);
    daemon.start();
    daemon.tenant("bee", "limits: {memory: 128MiB}\n");
    daemon.push();
    daemon.wait("bee follows", || (daemon.limit("bee", "Memory") == 128 << 20).then_some(()));
    daemon.ask(&["reconcile"]).with(0);
    sleep(Duration::from_millis(500));
    assert_eq!((creates(&daemon, "ant"), creates(&daemon, "new")), made);
    assert_eq!((daemon.reason("ant").as_str(), daemon.reason("new").as_str()), ("BadCommit", "BadCommit"));
    // Its drift is repaired.
    daemon.update("ant", 64 << 20);
    daemon.wait("drift is repaired", || (daemon.limit("ant", "Memory") == 512 << 20).then_some(()));
    daemon.remove("ant");
    daemon.runs("ant");

    // Another declaration is another chance.
    daemon.tenant("ant", "limits: {memory: 100MiB}\n");
    daemon.tenant("new", "");
    daemon.push();
    daemon.settled();
    daemon.proved();
    assert_eq!(daemon.limit("ant", "Memory"), 100 << 20);
    daemon.runs("new");
    daemon.converged();
}

#[test]
fn one_that_ends_during_its_trial_goes_back_too() {
    let daemon = Daemon::running(&["ant"]);
    daemon.policy("health: {trialPeriod: 5s}\n");
    daemon.push();
    daemon.settled();
    daemon.proved();
    // The change replaces the container: the old one is killed by tenantd itself.
    daemon.tenant("ant", "environment: {A: b}\n");
    daemon.push();
    daemon.settled();
    daemon.runs("ant");
    daemon.engine.with(|state| state.exit("tenantd-ant", 1, false));
    daemon.wait("it is bad", || (daemon.reason("ant") == "BadCommit").then_some(()));
    daemon.runs("ant");
    let environment = |doc: &Value| doc["Config"]["Env"].to_string();
    daemon.wait("it runs as before", || {
        let found = daemon.engine.with(|state| state.container("tenantd-ant").map(environment))?;
        (!found.contains("A=b")).then_some(())
    });
    assert!(bad(&daemon, "ant")[0].1.contains("exit code 1"));
}

/// The status, reason and message of a tenant's condition `Healthy`.
fn health(daemon: &Daemon, tenant: &str) -> [String; 3] {
    let status = daemon.status();
    let healthy = condition(&shown(&status, tenant).unwrap().conditions, ConditionKind::Healthy);
    [healthy.status.to_string(), healthy.reason.to_string(), healthy.message.clone()]
}

fn says(daemon: &Daemon, tenant: &str, word: &str) {
    daemon.engine.with(|state| state.health(&object(tenant), word));
}

#[test]
fn what_the_health_check_of_the_image_says_is_shown() {
    let daemon = Daemon::running(&["ant", "bee"]);
    daemon.proved();
    for (word, expected) in [
        ("starting", ["Unknown", "Progressing"]),
        ("healthy", ["True", "Running"]),
        ("unhealthy", ["False", "Unhealthy"]),
        ("healthy", ["True", "Running"]),
    ] {
        says(&daemon, "ant", word);
        daemon.wait(&format!("ant is {word}"), || (health(&daemon, "ant")[..2] == expected).then_some(()));
        assert_eq!(health(&daemon, "bee")[..2], ["True", "Running"]);
    }
    says(&daemon, "ant", "unhealthy");
    let message = daemon.wait("it is printed", || {
        let [status, _, message] = health(&daemon, "ant");
        (status == "False").then_some(message)
    });
    assert!(message.contains("health check of its image fails"), "{message}");
    // It is as declared all the same, and what ran well before is no bad commit.
    assert_eq!(daemon.reason("ant"), "ReconciliationSucceeded");
    assert!(bad(&daemon, "ant").is_empty());
    // Without events the next observation finds it.
    daemon.engine.with(|state| state.silence_events(true));
    says(&daemon, "bee", "unhealthy");
    daemon.engine.with(|state| state.silence_events(false));
    daemon.ask(&["reconcile", "bee"]).with(0);
    daemon.wait("bee is unhealthy", || (health(&daemon, "bee")[1] == "Unhealthy").then_some(()));
}

#[test]
fn one_whose_health_check_fails_during_its_trial_goes_back_and_one_that_starts_waits() {
    let daemon = Daemon::running(&["ant", "bee"]);
    daemon.policy("health: {trialPeriod: 200ms}\n");
    daemon.push();
    daemon.settled();
    daemon.proved();
    // The first check has not been made: the trial goes on until it is.
    daemon.policy("health: {trialPeriod: 5s}\n");
    daemon.push();
    daemon.settled();
    for tenant in ["ant", "bee"] {
        daemon.tenant(tenant, "environment: {A: b}\n");
    }
    daemon.push();
    daemon.settled();
    for tenant in ["ant", "bee"] {
        daemon.runs(tenant);
        says(&daemon, tenant, "starting");
        daemon.wait("it starts", || health(&daemon, tenant)[2].contains("not succeeded yet").then_some(()));
    }
    sleep(Duration::from_secs(6));
    for tenant in ["ant", "bee"] {
        assert_eq!(health(&daemon, tenant)[..2], ["Unknown", "Progressing"]);
    }
    says(&daemon, "ant", "unhealthy");
    says(&daemon, "bee", "healthy");
    daemon.wait("it is bad for ant", || (daemon.reason("ant") == "BadCommit").then_some(()));
    daemon.runs("ant");
    daemon.wait("ant goes back", || (!has_variable(&daemon, "ant", "A=b")).then_some(()));
    assert_eq!(bad(&daemon, "ant").len(), 1);
    assert!(bad(&daemon, "ant")[0].1.contains("health check of its image fails"));
    daemon.wait("bee has proved good", || (health(&daemon, "bee")[1] == "Running").then_some(()));
    assert!(has_variable(&daemon, "bee", "A=b") && bad(&daemon, "bee").is_empty());
}

#[test]
fn one_that_ends_while_it_is_observed_goes_back_too() {
    let daemon = Daemon::running(&["ant"]);
    daemon.policy("health: {trialPeriod: 1m}\n");
    daemon.push();
    daemon.settled();
    daemon.tenant("ant", "environment: {A: b}\n");
    daemon.push();
    daemon.settled();
    let inspects =
        |call: &Call| call.method == "GET" && call.path.starts_with("/containers/") && call.path != "/containers/json";
    daemon.engine.hang(inspects);
    drop(daemon.engine.take_calls());
    daemon.update("ant", 64 << 20);
    daemon.wait("it is observed", || daemon.engine.calls().iter().any(inspects).then_some(()));
    daemon.engine.with(|state| state.exit("tenantd-ant", 1, false));
    daemon.engine.release();
    daemon.wait("it is bad", || (daemon.reason("ant") == "BadCommit").then_some(()));
    assert!(bad(&daemon, "ant")[0].1.contains("exit code 1"));
}

#[test]
fn the_end_of_a_copy_says_nothing_of_a_tenant_and_a_copy_is_reported_once() {
    let daemon = Daemon::running(&["ant"]);
    daemon.policy("health: {trialPeriod: 2s}\n");
    daemon.push();
    daemon.settled();
    daemon.proved();
    lookalikes::commit(&daemon, "tenantd-ant", "x:1");
    daemon.tenant("ant", "environment: {A: b}\n");
    daemon.push();
    daemon.settled();
    daemon.runs("ant");
    let before = (daemon.id("tenantd-ant"), daemon.head());
    for name in ["copy-1", "copy-2", "copy-3", "copy-4"] {
        lookalikes::run(&daemon, name, "x:1", "bridge", json!({}));
        daemon.engine.with(|state| state.exit(name, 1, false));
    }
    daemon.proved();
    let reported =
        |name: &str| daemon.log().lines().filter(|line| line.contains(&format!("container {name} ("))).count();
    daemon.wait("all are reported", || (reported("copy-1") + reported("copy-4") == 2).then_some(()));
    // Another full scan reports nothing anew.
    daemon.ask(&["reconcile"]).with(0);
    daemon.settled();
    assert_eq!((reported("copy-1"), reported("copy-4")), (1, 1));
    assert!(bad(&daemon, "ant").is_empty() && daemon.steps("ant", before.1).is_empty());
    assert_eq!((daemon.id("tenantd-ant"), daemon.state("copy-1")), (before.0, "exited".to_owned()));
}

#[test]
fn a_kill_by_somebody_is_not_counted() {
    let daemon = Daemon::running(&["ant"]);
    daemon.proved();
    daemon.tenant("ant", "environment: {A: b}\n");
    daemon.push();
    daemon.settled();
    for _ in 0..5 {
        daemon.runs("ant");
        daemon.act("POST", "/containers/tenantd-ant/kill", Value::Null);
        daemon.wait("it is repaired", || (daemon.state("tenantd-ant") == "running").then_some(()));
    }
    daemon.settled();
    daemon.proved();
    assert!(bad(&daemon, "ant").is_empty());
}

#[test]
fn exits_after_the_trial_slow_a_tenant_down_and_mark_nothing_failed() {
    let daemon = Daemon::running(&["ant", "bee"]);
    daemon.policy("health: {trialPeriod: 200ms}\nretry: {initial: 300ms, max: 10m}\n");
    daemon.push();
    daemon.settled();
    daemon.proved();
    let before = daemon.head();
    // Without a pause this would be a loop; each wait is twice the one before. One that is seen late has little left
    // of it, so that the next one tells.
    let mut exits = 0;
    loop {
        daemon.runs("ant");
        daemon.engine.with(|state| state.exit("tenantd-ant", 1, false));
        exits += 1;
        if exits < 6 {
            continue;
        }
        let next = daemon.wait("it waits", || {
            let status = daemon.status();
            let ant = shown(&status, "ant").unwrap();
            Some(ant.next_try?.duration_since(status.time))
        });
        if next > jiff::SignedDuration::from_millis(1200) {
            break;
        }
        assert!(exits < 10, "after {exits} exits it waits {next}");
    }
    assert!(bad(&daemon, "ant").is_empty());
    assert!(daemon.steps("ant", before).iter().all(|(step, _)| step.why == Why::Drift));
    // bee waits for nobody.
    daemon.remove("bee");
    daemon.runs("bee");
    daemon.ask(&["reconcile", "ant"]).with(0);
    daemon.runs("ant");
}

fn runtime(daemon: &Daemon, tenant: &str) -> String {
    let runtime = |doc: &Value| doc["HostConfig"]["Runtime"].as_str().unwrap_or_default().to_owned();
    daemon.engine.with(|state| state.container(&object(tenant)).map(runtime)).unwrap_or_default()
}

fn has_variable(daemon: &Daemon, tenant: &str, variable: &str) -> bool {
    let environment = |doc: &Value| doc["Config"]["Env"].to_string().contains(variable);
    daemon.engine.with(|state| state.container(&object(tenant)).is_some_and(environment))
}

/// The commits that a tenant's status names: the one that it stands at, and those that narrow it.
fn commits(daemon: &Daemon, tenant: &str) -> Vec<String> {
    let status = daemon.status();
    let shown = shown(&status, tenant).unwrap();
    let all = std::iter::once(shown.revision.as_ref().unwrap()).chain(&shown.narrowed_by);
    all.map(|revision| revision.commit.clone()).collect()
}

/// What a tenant stands at does not change: not by a while, not by a look, not by a restart, not by a crash.
fn stays(daemon: &mut Daemon, holds: impl Fn(&Daemon) -> bool) {
    for end in [None, Some(Signal::TERM), Some(Signal::KILL)] {
        if let Some(end) = end {
            daemon.end(end);
            daemon.start();
        }
        daemon.ask(&["reconcile"]).with(0);
        sleep(Duration::from_millis(700));
        daemon.runs("ant");
        assert!(holds(daemon), "{}", daemon.ask(&["status", "ant"]).out);
    }
}

#[test]
fn what_is_gone_back_to_keeps_what_the_bad_commit_tightened() {
    let mut daemon = Daemon::running(&["ant"]);
    daemon.tenant("ant", "limits: {memory: 256MiB}\n");
    let first = daemon.push();
    daemon.settled();
    daemon.proved();
    // One commit tightens, and has something in it with which the tenant ends.
    daemon.tenant("ant", &format!("runtime: gvisor\nlimits: {{memory: 64MiB}}\n{ENDS}"));
    let second = daemon.push();
    daemon.wait("it is bad", || (daemon.reason("ant") == "BadCommit").then_some(()));
    daemon.runs("ant");
    let is_narrow = |daemon: &Daemon| {
        runtime(daemon, "ant") == "runsc"
            && daemon.limit("ant", "Memory") == 64 << 20
            && !has_variable(daemon, "ant", "SIM_EXIT")
    };
    daemon.wait("it stands at the stricter of both", || is_narrow(&daemon).then_some(()));
    assert_eq!(commits(&daemon, "ant"), [first.clone(), second.clone()]);
    let message = daemon.ask(&["status", "ant"]).with(0).out;
    assert!(message.contains(&format!("the stricter of {} and {}", &first[..12], &second[..12])), "{message}");
    let events = daemon.ask(&["events"]).out;
    assert!(events.contains("the stricter of"), "{events}");
    stays(&mut daemon, is_narrow);
    assert_eq!(commits(&daemon, "ant"), [first, second]);
    assert_eq!(bad(&daemon, "ant").len(), 1);
    // What it stands at has nowhere else to go: its end brings nothing back.
    daemon.engine.with(|state| state.exit("tenantd-ant", 1, false));
    daemon.runs("ant");
    assert!(is_narrow(&daemon) && bad(&daemon, "ant").len() == 1);
}

#[test]
fn an_end_by_itself_undoes_no_limit() {
    let mut daemon = Daemon::running(&["ant"]);
    daemon.tenant("ant", "limits: {memory: 256MiB}\n");
    daemon.push();
    daemon.settled();
    daemon.proved();
    daemon.policy("health: {trialPeriod: 1m}\nretry: {initial: 100ms, max: 200ms}\n");
    daemon.tenant("ant", "limits: {memory: 64MiB, pids: 50}\n");
    let commit = daemon.push();
    daemon.settled();
    for _ in 0..3 {
        daemon.runs("ant");
        daemon.engine.with(|state| state.exit("tenantd-ant", 137, true));
        daemon.runs("ant");
    }
    daemon.settled();
    stays(&mut daemon, |daemon| daemon.limit("ant", "Memory") == 64 << 20 && daemon.limit("ant", "PidsLimit") == 50);
    assert_eq!(commits(&daemon, "ant"), [commit]);
    assert!(bad(&daemon, "ant").is_empty());
}

#[test]
fn a_limit_that_is_refused_marks_nothing_failed() {
    let mut daemon = Daemon::running(&["ant"]);
    daemon.tenant("ant", "limits: {memory: 256MiB}\n");
    daemon.push();
    daemon.settled();
    daemon.proved();
    daemon.engine.fail(|call| call.path.ends_with("/update"), 500, "unable to set memory limit");
    daemon.tenant("ant", "limits: {memory: 64MiB}\n");
    let commit = daemon.push();
    let refused = |daemon: &Daemon| daemon.engine.calls().iter().filter(|call| call.path.ends_with("/update")).count();
    daemon.wait("the limit is refused, or set otherwise", || {
        (refused(&daemon) > 4 || daemon.limit("ant", "Memory") == 64 << 20).then_some(())
    });
    assert!(bad(&daemon, "ant").is_empty());
    assert_eq!(commits(&daemon, "ant"), std::slice::from_ref(&commit));
    if daemon.limit("ant", "Memory") != 64 << 20 {
        assert_ne!(daemon.reason("ant"), "ReconciliationSucceeded");
    }
    daemon.restart();
    daemon.engine.heal();
    daemon.ask(&["reconcile"]).with(0);
    daemon.wait("it is set", || (daemon.limit("ant", "Memory") == 64 << 20).then_some(()));
    assert_eq!(commits(&daemon, "ant"), [commit]);
    assert!(bad(&daemon, "ant").is_empty());
}

#[test]
fn a_wrong_file_brings_nothing_back() {
    for (older, newer) in [("", "runtime: gvisor\n"), ("limits: {memory: 256MiB}\n", "limits: {memory: 64MiB}\n")] {
        let mut daemon = Daemon::running(&["ant"]);
        daemon.policy("health: {trialPeriod: 3s}\n");
        daemon.tenant("ant", older);
        daemon.push();
        daemon.settled();
        daemon.proved();
        daemon.tenant("ant", &format!("environment: {{A: b}}\n{newer}"));
        let second = daemon.push();
        daemon.settled();
        let now = (runtime(&daemon, "ant"), daemon.limit("ant", "Memory"));
        // Before its trial is over, a commit has a typo, and would make the trial longer.
        daemon.policy("health: {trialPeriod: 10m}\n");
        daemon.tenant("ant", "wrong: key\n");
        daemon.push();
        daemon.wait("the file is wrong", || (daemon.reason("ant") == "InvalidFile").then_some(()));
        let is_kept = |daemon: &Daemon| {
            (runtime(daemon, "ant"), daemon.limit("ant", "Memory")) == now && has_variable(daemon, "ant", "A=b")
        };
        stays(&mut daemon, is_kept);
        assert_eq!(commits(&daemon, "ant"), [second]);
        // Its trial went on, and is over in time.
        daemon.proved();
        daemon.engine.with(|state| state.exit("tenantd-ant", 1, false));
        daemon.runs("ant");
        assert!(is_kept(&daemon) && bad(&daemon, "ant").is_empty());
    }
}

#[test]
fn an_end_while_the_file_is_wrong_goes_back_no_further_than_it_may() {
    let mut daemon = Daemon::running(&["ant"]);
    daemon.policy("health: {trialPeriod: 1m}\n");
    daemon.tenant("ant", "limits: {memory: 256MiB}\n");
    daemon.push();
    daemon.settled();
    daemon.policy("health: {trialPeriod: 400ms}\n");
    daemon.push();
    daemon.settled();
    daemon.proved();
    daemon.policy("health: {trialPeriod: 1m}\n");
    daemon.push();
    daemon.settled();
    daemon.tenant("ant", "environment: {A: b}\nlimits: {memory: 64MiB}\n");
    daemon.push();
    daemon.settled();
    daemon.tenant("ant", "wrong: key\n");
    daemon.push();
    daemon.wait("the file is wrong", || (daemon.reason("ant") == "InvalidFile").then_some(()));
    daemon.engine.with(|state| state.exit("tenantd-ant", 1, false));
    daemon.wait("it is bad", || (bad(&daemon, "ant").len() == 1).then_some(()));
    daemon.wait("what it is started with is the older one's", || {
        (daemon.state("tenantd-ant") == "running" && !has_variable(&daemon, "ant", "A=b")).then_some(())
    });
    stays(&mut daemon, |daemon| daemon.limit("ant", "Memory") == 64 << 20 && !has_variable(daemon, "ant", "A=b"));
}

#[test]
fn without_its_state_nothing_is_looser_than_the_newest_commit() {
    let mut daemon = Daemon::running(&["ant"]);
    daemon.tenant("ant", "limits: {memory: 256MiB}\n");
    daemon.push();
    daemon.settled();
    daemon.proved();
    daemon.tenant("ant", &format!("runtime: gvisor\nlimits: {{memory: 64MiB}}\n{ENDS}"));
    daemon.push();
    daemon.wait("it is bad", || (daemon.reason("ant") == "BadCommit").then_some(()));
    for damage in ["", "{\"version\": 1, \"pins\": ["] {
        daemon.end(Signal::KILL);
        let state = daemon.host.data_root.join("state.json");
        match damage {
            "" => std::fs::remove_file(&state).unwrap(),
            text => std::fs::write(&state, text).unwrap(),
        }
        daemon.start();
        daemon.wait("it is judged again", || match daemon.reason("ant").as_str() {
            "BadCommit" => Some(()),
            // It did not run, and nobody knows what it was asked to do.
            "Asleep" => {
                daemon.ask(&["start", "ant"]).with(0);
                None
            }
            _ => None,
        });
        sleep(Duration::from_millis(500));
        let there = daemon.engine.with(|state| state.container("tenantd-ant").is_some());
        assert!(!there || (runtime(&daemon, "ant") == "runsc" && daemon.limit("ant", "Memory") == 64 << 20));
    }
}

#[test]
fn a_commit_in_force_that_is_back_only_after_a_fetch_keeps_what_is_gone_back_to() {
    let mut daemon = Daemon::running(&["ant", "bee"]);
    daemon.proved();
    let good = daemon.git(&["rev-parse", "HEAD"]);
    daemon.tenant("ant", ENDS);
    let bad = daemon.push();
    daemon.wait("it is bad for ant", || (daemon.reason("ant") == "BadCommit").then_some(()));
    daemon.runs("ant");
    let stands = |daemon: &Daemon| {
        let status = daemon.status();
        let revision = shown(&status, "ant").and_then(|tenant| tenant.revision.clone());
        revision == at(&good) && daemon.reason("ant") == "BadCommit"
    };
    assert!(stands(&daemon));
    let made = creates(&daemon, "ant");

    // A tree that libgit2 cannot read, then a start.
    let blob = daemon.git(&["rev-parse", "HEAD:fleet.yaml"]);
    let id: Vec<u8> = (0..20).map(|at| u8::from_str_radix(&blob[2 * at..2 * at + 2], 16).unwrap()).collect();
    std::fs::write(daemon.folder().join("raw"), [b"1100644 fleet.yaml\0".as_slice(), &id].concat()).unwrap();
    let raw = daemon.folder().join("raw");
    let tree = daemon.git(&["hash-object", "-t", "tree", "-w", "--literally", raw.to_str().unwrap()]);
    let wrong = daemon.git(&["commit-tree", &tree, "-p", "HEAD", "-m", "wrong"]);
    daemon.push_ref(&wrong);
    let refused = |daemon: &Daemon| {
        daemon.wait("it is refused in words", || {
            let error = daemon.status().source.error;
            error.filter(|error| error.contains("cannot be read")).map(drop)
        });
    };
    refused(&daemon);
    daemon.end(Signal::KILL);
    daemon.start();
    refused(&daemon);
    assert!(stands(&daemon));

    // The mirror is gone as well, and comes back with the repaired branch.
    daemon.end(Signal::TERM);
    std::fs::remove_dir_all(daemon.host.data_root.join("source.git")).unwrap();
    daemon.start();
    refused(&daemon);
    daemon.push_ref(&bad);
    daemon.wait("what was in force is again", || stands(&daemon).then_some(()));
    daemon.ask(&["reconcile"]).with(0);
    sleep(Duration::from_millis(500));
    assert!(stands(&daemon));
    assert_eq!(creates(&daemon, "ant"), made);
    daemon.remove("ant");
    daemon.runs("ant");
}
