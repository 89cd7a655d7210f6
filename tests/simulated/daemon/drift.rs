//! What somebody does behind tenantd's back is undone, by events and without them.

use std::time::Duration;

use serde_json::{Value, json};
use tenantd::model::{
    Entry,
    record::{Trigger, Why},
    status::{ConditionKind, Truth},
};

use super::{Daemon, cause, condition, object, reason, shown};
use crate::world::{IMAGE, image};

const MIB: i64 = 1 << 20;

/// Waits until a tenant is as declared again, and returns the causes of what was done to it.
#[track_caller]
fn repaired(daemon: &Daemon, tenant: &str, after: u64) -> Vec<String> {
    daemon.wait("it is put right", || (!daemon.steps(tenant, after).is_empty()).then_some(()));
    daemon.converged();
    daemon.settled();
    let steps = daemon.steps(tenant, after);
    assert!(steps.iter().all(|(step, _)| step.why == Why::Drift), "{steps:#?}");
    steps.iter().map(|(step, _)| cause(step)).collect()
}

#[test]
fn each_kind_of_event_leads_to_a_repair() {
    let daemon = Daemon::running(&["ant", "bee"]);
    let container = object("ant");
    let path = |action: &str| format!("/containers/{container}/{action}");
    let network = |action: &str| format!("/networks/tenantd-ant/{action}");
    daemon.act("POST", "/networks/create", json!({"Name": "office"}));
    let cases: [(&str, &dyn Fn()); 10] = [
        ("container ", &|| daemon.remove("ant")),
        ("container update", &|| daemon.update("ant", 64 * MIB)),
        ("container rename", &|| drop(daemon.act("POST", &path("rename?name=other"), Value::Null))),
        ("container ", &|| drop(daemon.act("POST", &path("stop"), Value::Null))),
        ("container pause", &|| drop(daemon.act("POST", &path("pause"), Value::Null))),
        ("network connect", &|| drop(daemon.act("POST", "/networks/office/connect", json!({"Container": container})))),
        ("network disconnect", &|| {
            drop(daemon.act("POST", &network("disconnect"), json!({"Container": container, "Force": true})));
        }),
        ("", &|| {
            daemon.engine.with(|state| {
                for (method, path) in [
                    ("DELETE", format!("/containers/{container}?force=1")),
                    ("DELETE", "/networks/tenantd-ant".to_owned()),
                ] {
                    assert!(state.act(method, &path, &Value::Null).0 < 300);
                }
            });
        }),
        ("", &|| drop(daemon.foreign("foreign", "tenantd-ant"))),
        // A limit that the list of events does not tell of shows with the next event of the tenant.
        ("container ", &|| {
            daemon.tamper(&container, |doc| doc["HostConfig"]["PidsLimit"] = json!(9));
            daemon.act("POST", &path("kill?signal=HUP"), Value::Null);
        }),
    ];
    for (event, tamper) in cases {
        let before = daemon.head();
        tamper();
        let causes = repaired(&daemon, "ant", before);
        let (kind, _) = event.split_once(' ').unwrap_or((event, ""));
        assert!(causes.iter().all(|cause| cause.starts_with(kind) && cause != "full pass"), "{event}: {causes:?}");
        if !event.ends_with(' ') {
            assert!(causes.iter().any(|cause| cause.starts_with(event)), "{event}: {causes:?}");
        }
        assert!(daemon.steps("bee", before).is_empty(), "{event}");
    }
    // The foreign container was taken off the network and is otherwise left alone.
    assert_eq!(daemon.state("foreign"), "running");
    let last = shown(&daemon.status(), "ant").unwrap().last_correction.clone().unwrap();
    assert_eq!((last.why, last.what.is_empty()), (Why::Drift, false), "{last:?}");
    daemon.verified();
}

#[test]
fn an_image_that_changes_or_goes_is_noticed() {
    let daemon = Daemon::running(&["ant"]);
    let before = daemon.head();
    let old = daemon.id("tenantd-ant");
    daemon.engine.with(|state| state.tag_image(image(IMAGE, "new")));
    let causes = repaired(&daemon, "ant", before);
    assert!(causes.iter().all(|cause| cause == "image tag"), "{causes:?}");
    assert_ne!(daemon.id("tenantd-ant"), old);
    daemon.engine.with(|state| state.remove_image(IMAGE));
    // What runs of it goes on; what has to be made anew cannot be.
    let old = daemon.id("tenantd-ant");
    daemon.ask(&["reconcile"]).with(0);
    daemon.settled();
    assert_eq!(daemon.id("tenantd-ant"), old);
    daemon.remove("ant");
    daemon.wait("it is blocked", || (daemon.reason("ant") == "Blocked").then_some(()));
    daemon.engine.with(|state| state.tag_image(image(IMAGE, "new")));
    daemon.settled();
}

#[test]
fn without_events_the_full_pass_repairs() {
    let daemon = Daemon::running_with(&["ant", "bee"], "resync: 1s");
    // Open and silent, as behind a proxy that has lost the engine.
    daemon.engine.with(|state| state.silence_events(true));
    let before = daemon.head();
    daemon.remove("ant");
    assert_eq!(repaired(&daemon, "ant", before)[0], "full pass");
    // The engine answers everything but refuses to tell events.
    daemon.engine.fail(|call| call.path == "/events", 500, "no events today");
    daemon.engine.end_event_streams();
    daemon.wait("it is printed of", || (!daemon.status().engine.events).then_some(()));
    let before = daemon.head();
    daemon.update("bee", 64 * MIB);
    daemon.wait("it is repaired", || (daemon.limit("bee", "Memory") == 512 * MIB).then_some(()));
    assert!(daemon.status().engine.up);
    assert!(!daemon.steps("bee", before).is_empty());
    daemon.engine.with(|state| state.silence_events(false));
    daemon.engine.heal();
    daemon.wait("events arrive again", || daemon.status().engine.events.then_some(()));
}

#[test]
fn events_that_were_missed_are_made_good_by_a_full_scan() {
    let daemon = Daemon::running(&["ant", "bee"]);
    for _ in 0..3 {
        // The stream ends, and what happens before the next is told to nobody.
        daemon.engine.with(|state| state.silence_events(true));
        daemon.remove("ant");
        daemon.act("POST", "/networks/create", json!({"Name": "office"}));
        daemon.act("POST", "/networks/office/connect", json!({"Container": "tenantd-bee"}));
        daemon.engine.with(|state| state.silence_events(false));
        daemon.engine.end_event_streams();
        daemon.runs("ant");
        daemon.wait("bee is taken off", || (daemon.networks("bee") == ["tenantd-bee"]).then_some(()));
        daemon.act("DELETE", "/networks/office", Value::Null);
        daemon.settled();
    }
}

#[test]
fn a_flood_of_events_hides_nothing() {
    let daemon = Daemon::running(&["ant", "bee"]);
    daemon.foreign("busy", "bridge");
    for _ in 0..5 {
        daemon.engine.with(|state| {
            for n in 0..3000 {
                let action = if n % 2 == 0 { "pause" } else { "unpause" };
                state.act("POST", &format!("/containers/busy/{action}"), &Value::Null);
                if n == 1500 {
                    state.act("DELETE", "/containers/tenantd-ant?force=1", &Value::Null);
                }
            }
        });
        daemon.wait("ant is there again", || (daemon.state("tenantd-ant") == "running").then_some(()));
    }
    daemon.settled();
    daemon.converged();
}

#[test]
fn drift_can_be_left_as_it_is() {
    let daemon = Daemon::stopped(&["ant", "bee", "cat"], "guards: {driftDetection: {mode: warn}}");
    let mut daemon = daemon;
    daemon.tenant("ant", "driftDetection: {mode: warn}\n");
    daemon.tenant("bee", "driftDetection: {mode: disabled}\n");
    daemon.push();
    daemon.start();
    daemon.settled();
    for name in ["ant", "bee", "cat"] {
        daemon.update(name, 64 * MIB);
    }
    daemon.wait("cat is repaired", || (daemon.limit("cat", "Memory") == 512 * MIB).then_some(()));
    // The host's floor makes a warning of what the repo would not look for.
    for name in ["ant", "bee"] {
        let status = daemon.wait("it is shown", || {
            let status = daemon.status();
            (reason(&status, name) == "DriftDetected").then_some(status)
        });
        let tenant = shown(&status, name).unwrap();
        assert_eq!(condition(&tenant.conditions, ConditionKind::Drifted).status, Truth::True);
        assert_eq!(tenant.drift, ["container.memory", "container.memory_swap"]);
        assert_eq!(daemon.limit(name, "Memory"), 64 * MIB);
    }
    // It is on record once, however often it is looked at.
    for _ in 0..3 {
        daemon.ask(&["reconcile"]).with(0);
        std::thread::sleep(Duration::from_millis(100));
    }
    let drifts = |name: &str| {
        let of = |record: &tenantd::model::Record| match &record.entry {
            Entry::Drift(drift) if drift.tenant == name => Some(drift.clone()),
            _ => None,
        };
        daemon.records().iter().filter_map(of).collect::<Vec<_>>()
    };
    let [drift] = &*drifts("ant") else { panic!("{:#?}", drifts("ant")) };
    assert_eq!(drift.fields[0].name, "memory");
    assert!(matches!(&drift.trigger, Trigger::Event { event, .. } if event == "container update"), "{drift:?}");
    assert_eq!(drifts("bee").len(), 1);
    // What a commit changes is carried out.
    daemon.tenant("ant", "driftDetection: {mode: warn}\nlimits: {memory: 256MiB}\n");
    daemon.push();
    daemon.wait("the commit is carried out", || (daemon.limit("ant", "Memory") == 256 * MIB).then_some(()));
    // Without the floor nothing is looked for.
    daemon.settings("");
    daemon.signal(rustix::process::Signal::HUP);
    daemon.wait("bee counts as in order", || (daemon.reason("bee") == "ReconciliationSucceeded").then_some(()));
    assert_eq!(daemon.limit("bee", "Memory"), 64 * MIB);
}
