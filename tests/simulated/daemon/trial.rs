//! A declaration that a tenant does not run well with.

use std::{thread::sleep, time::Duration};

use rustix::process::Signal;
use serde_json::Value;
use tenantd::model::{Entry, Revision, record::Why};

use super::{Daemon, object, shown};

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
    let of = |call: &&tenantd_test_support::Call| {
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
    assert_eq!(shown(&status, "ant").unwrap()["revision"], format!("main@sha1:{good}"));
    assert_eq!(status["source"]["applied"], format!("main@sha1:{wrong}"));
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
    daemon.policy("health: {after: 5s}\n");
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
    assert!(!daemon.engine.with(|state| environment(state.container("tenantd-ant").unwrap())).contains("A=b"));
    assert!(bad(&daemon, "ant")[0].1.contains("exit code 1"));
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
fn exits_after_the_trial_slow_a_tenant_down_and_condemn_nothing() {
    let daemon = Daemon::running(&["ant", "bee"]);
    daemon.policy("health: {after: 200ms}\nretry: {initial: 300ms, max: 10m}\n");
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
            let (now, next) = (status["time"].as_str()?, ant["next_try"].as_str()?);
            let (now, next): (jiff::Timestamp, jiff::Timestamp) = (now.parse().unwrap(), next.parse().unwrap());
            Some(next.duration_since(now))
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

#[test]
fn a_weaker_runtime_never_stands_in() {
    let daemon = Daemon::running(&["ant"]);
    daemon.proved();
    daemon.tenant("ant", &format!("runtime: gvisor\n{ENDS}"));
    daemon.push();
    daemon.wait("it fails", || (daemon.reason("ant") == "ReconciliationFailed").then_some(()));
    sleep(Duration::from_secs(1));
    let runtime = |doc: &Value| doc["HostConfig"]["Runtime"].as_str().unwrap().to_owned();
    let found = daemon.engine.with(|state| state.container("tenantd-ant").map(runtime));
    assert_ne!(found.as_deref(), Some("runc"));
    assert!(bad(&daemon, "ant").is_empty());
}
