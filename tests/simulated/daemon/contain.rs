//! What contains, narrows and revokes waits for nothing: not for a repair that fails, and not for one that hangs.

use std::{thread::sleep, time::Duration};

use rustix::process::Signal;
use serde_json::{Value, json};
use tenantd::model::{Entry, record::StepRecord};
use tenantd_test_support::Call;

use super::{Daemon, at, object, shown};

const MIB: i64 = 1 << 20;

/// Repairs that failed wait for longer than any test.
const PATIENT: &str = "health: {trialPeriod: 400ms}\nretry: {initial: 1h, max: 1h}\n";

fn updates(call: &Call) -> bool {
    call.method == "POST" && call.path.ends_with("/update")
}

fn creates(call: &Call) -> bool {
    call.method == "POST" && call.path == "/containers/create"
}

/// A daemon whose tenant `ant` is repaired in an hour.
fn waiting(settings: &str) -> Daemon {
    let mut daemon = Daemon::stopped(&["ant", "bee"], settings);
    daemon.policy(PATIENT);
    daemon.push();
    daemon.start();
    daemon.settled();
    daemon.proved();
    daemon.act("POST", "/networks/create", json!({"Name": "office"}));
    daemon.engine.fail(updates, 500, "not today");
    daemon.update("ant", 64 * MIB);
    daemon.wait("its repair waits", || waits(&daemon).then_some(()));
    daemon
}

/// Whether ant's repair waits for more than half an hour.
fn waits(daemon: &Daemon) -> bool {
    let status = daemon.status();
    let next = shown(&status, "ant").and_then(|ant| ant.next_try);
    next.is_some_and(|next| next.duration_since(jiff::Timestamp::now()) > jiff::SignedDuration::from_mins(30))
}

fn connect(daemon: &Daemon, tenant: &str) {
    daemon.act("POST", "/networks/office/connect", json!({"Container": object(tenant)}));
}

#[track_caller]
fn is_taken_off(daemon: &Daemon, tenant: &str) {
    daemon.wait("it is taken off the foreign network", || (daemon.networks(tenant) == [object(tenant)]).then_some(()));
}

/// A tenant whose first declaration is bad has nothing that could be made of it, and is no less watched.
#[test]
fn one_that_never_ran_well_is_contained_by_what_it_declares() {
    let mut daemon = Daemon::running(&["ant", "bee"]);
    daemon.proved();
    daemon.act("POST", "/networks/create", json!({"Name": "office"}));
    daemon.tenant("new", "environment: {SIM_EXIT: \"3\"}\n");
    daemon.push();
    daemon.wait("its only declaration is bad", || (daemon.reason("new") == "BadCommit").then_some(()));
    for _ in 0..2 {
        connect(&daemon, "new");
        // Engines do not tell of networks of what does not run.
        daemon.ask(&["reconcile", "new"]).with(0);
        is_taken_off(&daemon, "new");
        // What takes nothing away is not done: nothing of it is carried out.
        daemon.update("new", 64 * MIB);
        daemon.ask(&["reconcile", "new"]).with(0);
        sleep(Duration::from_millis(300));
        assert_eq!(daemon.limit("new", "Memory"), 64 * MIB);
        assert_eq!(daemon.reason("new"), "BadCommit");
        daemon.restart();
    }
    daemon.runs("ant");
}

fn named(daemon: &Daemon, after: u64, step: &str) -> Vec<StepRecord> {
    let steps = daemon.steps("ant", after).into_iter().map(|(intent, _)| intent);
    steps.filter(|intent| intent.step == step).collect()
}

#[test]
fn a_repair_that_waits_holds_up_no_containment() {
    let daemon = waiting("");
    let before = daemon.head();
    connect(&daemon, "ant");
    is_taken_off(&daemon, "ant");
    assert!(waits(&daemon), "the repair waits on");
    assert_eq!(daemon.reason("ant"), "ReconciliationFailed");
    assert_eq!(daemon.limit("ant", "Memory"), 64 * MIB);
    assert!(named(&daemon, before, "update the limits").is_empty(), "containment alone is done");

    // A limit that is raised by hand is narrowed at once; what was lowered waits.
    daemon.engine.heal();
    daemon.act("POST", "/containers/tenantd-ant/update", json!({"PidsLimit": 9999}));
    daemon.wait("the limit is lowered", || (daemon.limit("ant", "PidsLimit") < 9999).then_some(()));
    assert_eq!(daemon.limit("ant", "Memory"), 64 * MIB);
    assert!(waits(&daemon));

    // Contained is contained: there is nothing to do again and again.
    daemon.wait("it is looked at", || (!daemon.status().tenants[0].conditions.is_empty()).then_some(()));
    sleep(Duration::from_millis(300));
    let head = daemon.head();
    sleep(Duration::from_secs(1));
    assert_eq!(daemon.head(), head, "{:#?}", daemon.records().last());

    // Settings that are read again end the waiting.
    daemon.signal(Signal::HUP);
    daemon.wait("it is repaired", || (daemon.limit("ant", "Memory") == 512 * MIB).then_some(()));
    daemon.settled();
}

#[test]
fn a_full_scan_contains_whose_repair_waits() {
    let daemon = waiting("resync: 1s");
    daemon.engine.with(|state| state.silence_events(true));
    for _ in 0..2 {
        connect(&daemon, "ant");
        is_taken_off(&daemon, "ant");
    }
    assert!(waits(&daemon), "the repair waits on");
    assert_eq!(daemon.limit("ant", "Memory"), 64 * MIB);
}

#[test]
fn a_commit_that_concerns_the_tenant_ends_the_waiting() {
    let daemon = waiting("");
    daemon.engine.heal();
    daemon.tenant("bee", "environment: {A: b}\n");
    daemon.push();
    daemon.wait("bee follows", || {
        (daemon.status().source.applied == at(&daemon.git(&["rev-parse", "HEAD"]))).then_some(())
    });
    assert!(waits(&daemon), "another tenant's commit changes nothing for it");
    daemon.tenant("ant", "limits: {memory: 256MiB}\n");
    daemon.push();
    daemon.settled();
    assert_eq!(daemon.limit("ant", "Memory"), 256 * MIB);
}

#[test]
fn a_commit_with_another_time_to_wait_ends_the_waiting_by_the_former_one() {
    let daemon = waiting("");
    daemon.engine.heal();
    daemon.policy("health: {trialPeriod: 400ms}\nretry: {initial: 1h, max: 2h}\n");
    daemon.push();
    daemon.settled();
    assert_eq!(daemon.limit("ant", "Memory"), 512 * MIB);
}

/// A containment that the engine refuses is tried again before long, and however often something happens meanwhile, no
/// more often than that.
#[test]
fn a_containment_that_fails_is_tried_again_and_never_without_end() {
    let daemon = waiting("");
    daemon.engine.fail(|call| call.path.ends_with("/disconnect"), 500, "not now");
    let before = daemon.head();
    connect(&daemon, "ant");
    daemon.wait("it is tried", || {
        (!named(&daemon, before, "disconnect a container from a network").is_empty()).then_some(())
    });
    for _ in 0..100 {
        for what in ["pause", "unpause"] {
            daemon.act("POST", &format!("/containers/tenantd-ant/{what}"), Value::Null);
        }
        sleep(Duration::from_millis(10));
    }
    let tried = named(&daemon, before, "disconnect a container from a network").len();
    assert!(tried <= 4, "{tried} tries");
    daemon.engine.heal();
    is_taken_off(&daemon, "ant");
    assert!(waits(&daemon));
}

/// Somebody who undoes a containment over and over fills no journal.
#[test]
fn a_containment_that_does_not_last_is_not_repeated_without_end() {
    let daemon = waiting("");
    let before = daemon.head();
    for _ in 0..200 {
        let (_, _) = daemon.engine.act("POST", "/networks/office/connect", &json!({"Container": object("ant")}));
        sleep(Duration::from_millis(10));
    }
    let taken = named(&daemon, before, "disconnect a container from a network").len();
    assert!((3..=8).contains(&taken), "{taken} times");
    is_taken_off(&daemon, "ant");
}

/// Work that hangs keeps its tenant busy; what happens to the tenant meanwhile is contained beside it.
#[test]
fn a_repair_that_hangs_holds_up_no_containment() {
    let daemon = Daemon::running(&["ant", "bee"]);
    daemon.proved();
    daemon.act("POST", "/networks/create", json!({"Name": "office"}));
    daemon.engine.hang(creates);
    daemon.tenant("ant", "environment: {A: b}\n");
    daemon.push();
    let before = daemon.head();
    daemon.wait("a replacement is made", || (!named(&daemon, before, "create the container").is_empty()).then_some(()));
    connect(&daemon, "ant");
    is_taken_off(&daemon, "ant");
    let steps = daemon.steps("ant", before);
    let outcome =
        |step: &str| steps.iter().find(|(intent, _)| intent.step == step).map(|(_, outcome)| outcome.is_some());
    assert_eq!(outcome("create the container"), Some(false), "it hangs still: {steps:#?}");
    assert_eq!(outcome("disconnect a container from a network"), Some(true), "{steps:#?}");
    daemon.engine.release();
    daemon.settled();
    daemon.converged();
}

/// Work that was begun for an older declaration ends where a newer one comes into force.
#[test]
fn a_newer_commit_ends_work_on_the_older_one() {
    let daemon = Daemon::running(&["ant", "bee"]);
    daemon.proved();
    daemon.engine.slow(creates, Duration::from_secs(3));
    let before = daemon.head();
    daemon.tenant("ant", "environment: {A: older}\n");
    let older = daemon.push();
    daemon.wait("a replacement is made", || (!named(&daemon, before, "create the container").is_empty()).then_some(()));
    daemon.tenant("ant", "environment: {A: newer}\n");
    daemon.push();
    daemon.engine.heal();
    daemon.settled();
    let of_older: Vec<String> = daemon
        .steps("ant", before)
        .into_iter()
        .filter(|(intent, _)| intent.revision.as_deref() == Some(&format!("main@sha1:{older}")))
        .map(|(intent, _)| intent.step)
        .collect();
    assert_eq!(of_older, ["create the container"]);
    daemon.converged();
}

/// A limit that a hand raised and the tenant filled is not lowered in place: the container is paused, and made anew.
#[test]
fn a_limit_that_the_engine_does_not_lower_leads_to_a_new_container() {
    let daemon = Daemon::running(&["ant", "bee"]);
    daemon.proved();
    let (old, bystander) = (daemon.id("tenantd-ant"), daemon.id("tenantd-bee"));
    let before = daemon.head();
    daemon.engine.with(|state| state.use_memory("tenantd-ant", 800 * MIB));
    daemon.update("ant", 1024 * MIB);
    daemon.wait("a new container has the limit", || {
        let new = daemon.engine.with(|state| state.container("tenantd-ant").map(|doc| doc["Id"] != old.as_str()));
        (new == Some(true) && daemon.limit("ant", "Memory") == 512 * MIB).then_some(())
    });
    daemon.settled();
    daemon.converged();
    let steps: Vec<String> = daemon.steps("ant", before).into_iter().map(|(intent, _)| intent.step).collect();
    assert_eq!(
        steps,
        [
            "update the limits",
            "pause the container",
            "create the container",
            "remove the container",
            "rename the container",
            "start the container"
        ]
    );
    assert_eq!(daemon.id("tenantd-bee"), bystander);
}

/// Where the kernel kills instead, the tenant runs again with its limit.
#[test]
fn a_kernel_that_kills_what_does_not_fit_leads_to_the_same() {
    let daemon = Daemon::stopped(&["ant"], "");
    daemon.engine.with(|state| state.options.cgroup_version = 2);
    let mut daemon = daemon;
    daemon.start();
    daemon.settled();
    daemon.proved();
    daemon.engine.with(|state| state.use_memory("tenantd-ant", 800 * MIB));
    daemon.update("ant", 1024 * MIB);
    daemon.wait("it has the limit", || (daemon.limit("ant", "Memory") == 512 * MIB).then_some(()));
    daemon.runs("ant");
    daemon.settled();
    daemon.converged();
}

/// So it is with a commit that asks for less than the tenant uses: it is carried out, and bad for nobody.
#[test]
fn a_commit_that_asks_for_less_than_is_used_is_carried_out() {
    let daemon = Daemon::running(&["ant"]);
    daemon.proved();
    daemon.engine.with(|state| state.use_memory("tenantd-ant", 400 * MIB));
    daemon.tenant("ant", "limits: {memory: 256MiB}\n");
    daemon.push();
    daemon.settled();
    assert_eq!(daemon.limit("ant", "Memory"), 256 * MIB);
    daemon.proved();
    assert!(!daemon.records().iter().any(|record| matches!(record.entry, Entry::Bad { .. })));
}
