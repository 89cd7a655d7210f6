//! An engine that is away, comes back, is slow, or has a tenant that hangs.

use std::{thread::sleep, time::Duration};

use serde_json::{Value, json};
use tenantd::model::{
    Entry,
    status::{ConditionKind, Reason, Truth},
};
use tenantd_test_support::{Call, Runtime};

use super::{Daemon, condition, object, shown};
use crate::world::image;

fn up(daemon: &Daemon) -> bool {
    daemon.status().engine.up
}

/// How often all containers were listed.
fn full_scans(calls: &[Call]) -> usize {
    calls.iter().filter(|call| call.path == "/containers/json" && call.query == "all=1").count()
}

/// How often the engine was asked what it is like.
fn questions(calls: &[Call]) -> usize {
    calls.iter().filter(|call| call.path == "/info").count()
}

#[test]
fn an_engine_that_is_away_is_waited_for() {
    let mut daemon = Daemon::stopped(&["ant", "bee"], "");
    daemon.engine.leave();
    daemon.start();
    daemon.wait("it says so", || {
        let status = daemon.status();
        let ready = condition(&status.conditions, ConditionKind::Ready);
        (status.engine.error.is_some() && ready.status == Truth::False).then_some(())
    });
    daemon.engine.come_back();
    daemon.settled();

    daemon.engine.leave();
    daemon.wait("it is noticed", || (!up(&daemon)).then_some(()));
    assert_eq!(condition(&daemon.status().conditions, ConditionKind::Ready).reason, Reason::DependencyNotReady);
    daemon.remove("ant");
    daemon.tenant("cat", "");
    daemon.push();
    sleep(Duration::from_millis(500));
    daemon.engine.come_back();
    daemon.settled();
    for name in ["ant", "bee", "cat"] {
        daemon.runs(name);
    }
    daemon.converged();
}

#[test]
fn the_return_of_the_engine_is_no_stampede() {
    let names: Vec<String> = (0..60).map(|n| format!("t{n:02}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let daemon = Daemon::running(&names);
    daemon.proved();
    for _ in 0..2 {
        daemon.engine.leave();
        daemon.wait("it is noticed", || (!up(&daemon)).then_some(()));
        for name in &names[..30] {
            daemon.remove(name);
        }
        let _ = (daemon.engine.take_calls(), daemon.engine.take_most_open());
        daemon.engine.come_back();
        daemon.engine.slow(|_| true, Duration::from_millis(5));
        for name in &names {
            daemon.runs(name);
        }
        daemon.settled();
        let (calls, most) = (daemon.engine.take_calls(), daemon.engine.take_most_open());
        // Eight tenants at work, eight looks of five calls each, a survey's eight, and the stream of
        // events: however many tenants there are.
        assert!(most <= 60, "{most} calls at once");
        // One full scan for the return, and one after it for the repaired.
        assert!(full_scans(&calls) <= 6, "{} full scans", full_scans(&calls));
        let looks = calls.iter().filter(|call| call.path == "/networks" && call.method == "GET").count();
        assert!(looks <= 120, "{looks} looks");
        daemon.engine.heal();
    }
    // With everything in order nobody is asked anything.
    sleep(Duration::from_millis(300));
    let _ = daemon.engine.take_calls();
    sleep(Duration::from_secs(1));
    assert_eq!(daemon.engine.take_calls(), []);
}

#[test]
fn an_engine_is_asked_what_it_is_like_when_it_answers_and_when_it_says_that_it_changed() {
    let mut daemon = Daemon::stopped(&["ant", "bee"], "runtimes: {container: runc, gvisor: runsc}\nresync: 1s");
    daemon.tenant("bee", "runtime: gvisor\n");
    daemon.engine.with(|state| state.options.runtimes.retain(|runtime| runtime.name != "runsc"));
    daemon.push();
    daemon.start();
    daemon.runs("ant");
    daemon.wait("bee is blocked", || (daemon.reason("bee") == "Blocked").then_some(()));
    let _ = daemon.engine.take_calls();
    daemon.wait("everything is observed again", || (full_scans(&daemon.engine.calls()) >= 3).then_some(()));
    assert!(questions(&daemon.engine.take_calls()) <= 1, "nothing happened to the engine");

    daemon.engine.with(|state| {
        state.options.runtimes.push(Runtime::new("runsc"));
        state.reload_event();
    });
    daemon.runs("bee");

    daemon.engine.leave();
    daemon.wait("it is noticed", || (!up(&daemon)).then_some(()));
    daemon.engine.with(|state| state.options.limits.pids = false);
    daemon.engine.come_back();
    daemon.wait("it is another one", || (daemon.reason("ant") == "Blocked").then_some(()));
}

#[test]
fn a_limit_that_a_new_container_lacks_has_the_engine_asked_what_it_is_like() {
    let daemon = Daemon::running_with(&["ant"], "resync: 1s");
    daemon.engine.with(|state| state.options.limits.pids = false);
    daemon.tenant("bee", "");
    daemon.push();
    daemon.wait("bee is blocked, and so is ant", || {
        ["ant", "bee"].iter().all(|name| daemon.reason(name) == "Blocked").then_some(())
    });
}

#[test]
fn an_engine_without_events_is_asked_each_time_what_it_is_like() {
    let mut daemon = Daemon::stopped(&["ant"], "resync: 1s");
    daemon.engine.fail(|call| call.path == "/events", 403, "no");
    daemon.start();
    daemon.runs("ant");
    let _ = daemon.engine.take_calls();
    daemon.wait("everything is observed again", || (full_scans(&daemon.engine.calls()) >= 3).then_some(()));
    assert!(questions(&daemon.engine.take_calls()) >= 2);
}

#[test]
fn a_slow_engine_is_slow_and_nothing_more() {
    let daemon = Daemon::running(&["ant", "bee"]);
    daemon.engine.slow(|_| true, Duration::from_millis(300));
    daemon.remove("ant");
    daemon.tenant("bee", "limits: {memory: 256MiB}\n");
    daemon.push();
    daemon.wait("both are as declared", || {
        (daemon.state("tenantd-ant") == "running" && daemon.limit("bee", "Memory") == 256 << 20).then_some(())
    });
    daemon.settled();
}

#[test]
fn a_tenant_that_hangs_holds_up_nobody() {
    let mut daemon = Daemon::stopped(&["ant", "bee", "cat"], "parallelism: 1");
    daemon.tenant("ant", "image: tenantd/hangs:1\n");
    daemon.engine.with(|state| state.tag_image(image("tenantd/hangs:1", "h")));
    daemon.push();
    daemon.engine.hang(|call| call.method == "POST" && call.path.ends_with("/start") && call.query.is_empty());
    daemon.start();
    // All starts hang, each gives its place away; then only that of ant.
    daemon.wait("all are made", || (daemon.engine.containers().len() == 3).then_some(()));
    daemon.engine.release();
    daemon.settled();
    let ant = daemon.id("tenantd-ant");
    daemon.engine.hang(move |call| call.path.ends_with("/restart") || call.path == format!("/containers/{ant}/start"));
    daemon.act("POST", "/containers/tenantd-ant/stop", Value::Null);
    daemon.wait("ant is being started", || {
        let calls = daemon.engine.calls();
        calls.iter().any(|call| call.path.ends_with("/start")).then_some(())
    });
    for _ in 0..3 {
        for name in ["bee", "cat"] {
            daemon.remove(name);
        }
        for name in ["bee", "cat"] {
            daemon.runs(name);
        }
    }
    assert_ne!(daemon.state("tenantd-ant"), "running");
    daemon.engine.release();
    daemon.settled();
    assert_eq!(daemon.state("tenantd-ant"), "running");
}

#[test]
fn one_that_fails_waits_until_a_commit_or_a_person_changes_its_chances() {
    let daemon = Daemon::running(&["ant", "bee"]);
    daemon.policy("health: {trialPeriod: 400ms}\nretry: {initial: 1h, max: 1h}\n");
    daemon.push();
    daemon.settled();
    daemon.proved();
    let starts = |daemon: &Daemon| {
        let creates = |call: &Call| call.path == "/containers/create" && call.query.contains("ant");
        daemon.engine.calls().iter().filter(|call| creates(call)).count()
    };
    let waits = |daemon: &Daemon| {
        daemon.wait("ant waits", || {
            let status = daemon.status();
            shown(&status, "ant").unwrap().next_try.is_some().then_some(())
        });
    };
    daemon.engine.fail(|call| call.path == "/containers/create" && call.query.contains("ant"), 500, "no room");
    daemon.remove("ant");
    waits(&daemon);
    assert_eq!(daemon.reason("ant"), "ReconciliationFailed");
    let tried = starts(&daemon);
    // Events of its own do not end the waiting, and others do not wait.
    daemon.act("POST", "/networks/tenantd-ant/connect", serde_json::json!({"Container": object("bee")}));
    daemon.wait("bee is taken off", || (daemon.networks("bee") == ["tenantd-bee"]).then_some(()));
    sleep(Duration::from_millis(300));
    assert_eq!(starts(&daemon), tried);

    daemon.ask(&["reconcile", "ant"]).with(0);
    daemon.wait("it is tried again", || (starts(&daemon) > tried).then_some(()));
    waits(&daemon);
    daemon.engine.heal();
    daemon.tenant("ant", "limits: {memory: 256MiB}\n");
    daemon.push();
    daemon.runs("ant");
    daemon.settled();
    assert_eq!(daemon.limit("ant", "Memory"), 256 << 20);
}

#[test]
fn a_setting_of_the_engine_is_no_commits_fault_and_pauses_nobody() {
    let daemon = Daemon::running(&["ant", "bee"]);
    daemon.proved();
    let configure = |limits: serde_json::Value| {
        daemon.engine.with(|state| state.options.default_ulimits = limits.as_array().unwrap().clone());
        // As a restart does.
        daemon.engine.end_event_streams();
    };
    let limit = |name: &str| json!([{"Name": name, "Soft": 99, "Hard": 99}]);
    let before = daemon.ids();
    configure(limit("nproc"));
    daemon.tenant("cat", "");
    daemon.push();
    daemon.settled();
    daemon.runs("cat");
    daemon.proved();
    assert_eq!((&daemon.ids()["ant"], &daemon.ids()["bee"]), (&before["ant"], &before["bee"]));

    configure(limit("rtprio"));
    daemon.tenant("ant", "environment: {A: b}\n");
    daemon.tenant("new", "");
    daemon.push();
    for name in ["ant", "bee", "cat", "new"] {
        daemon.wait("it is blocked", || (daemon.reason(name) == "Blocked").then_some(()));
        let message =
            condition(&shown(&daemon.status(), name).unwrap().conditions, ConditionKind::Ready).message.clone();
        assert!(message.contains("daemon.json"), "{message}");
    }
    for name in ["ant", "bee", "cat"] {
        assert_eq!(daemon.state(&object(name)), "running");
    }
    assert!(daemon.records().iter().all(|record| !matches!(record.entry, Entry::Bad { .. })));

    configure(json!([]));
    daemon.settled();
    daemon.runs("new");
    assert_eq!(daemon.ids()["bee"], before["bee"]);
    daemon.converged();
}
