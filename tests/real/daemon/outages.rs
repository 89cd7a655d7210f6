//! The daemon or the engine goes away: what runs goes on or comes back, and nothing is made twice.

use std::{collections::BTreeMap, thread, time::Duration};

use serde_json::Value;

use super::{
    Case, Service, case,
    manual_changes::{GVISOR, JournalPosition, RUNC, proper},
    signal,
};
use crate::{
    engine::text,
    soak::faults::{dockerd, kill_engine},
};

pub fn cases<'a>() -> Vec<Case<'a>> {
    vec![
        case("the daemon is stopped and started", |service| {
            restart(service, |service| {
                service.terminate();
            })
        }),
        case("the daemon is killed and started", |service| {
            restart(service, |service| {
                service.kill();
            })
        }),
        case("the daemon is replaced by another binary", |service| {
            restart(service, |service| {
                service.terminate();
                service.use_copy();
            })
        }),
        case("the engine is killed", engine_killed),
        case("the engine stands still", engine_stopped),
    ]
}

/// Each container of the engine: name, id and last start.
fn containers(service: &Service) -> BTreeMap<String, (String, String)> {
    let engine = &service.fleet.engine;
    let listed = engine.get("/containers/json?all=1");
    let names = listed.as_array().unwrap().iter().map(|container| text(&container["Names"][0]));
    names.map(|name| (name.clone(), engine.identity(name.trim_start_matches('/')))).collect()
}

fn steps(records: &[Value]) -> Vec<&Value> {
    records.iter().filter(|record| record["type"] == "intent").collect()
}

/// Nothing is done to what runs, and the new daemon has looked at it.
fn restart(service: &mut Service, end: impl Fn(&mut Service)) {
    let before = containers(service);
    let mark = JournalPosition::now(service);
    end(service);
    thread::sleep(Duration::from_millis(500));
    assert_eq!(containers(service), before, "without the daemon everything goes on");
    service.start();
    service.wait_until_in_order(&service.head());
    assert_eq!(containers(service), before, "the new daemon touches nothing");
    let records = mark.records(service);
    assert!(steps(&records).is_empty(), "and takes no step: {:#?}", steps(&records));
    assert!(records.iter().any(|record| record["type"] == "started"), "its start is on record");
    // It listens as the former one did.
    let mark = JournalPosition::now(service);
    service.fleet.engine.remove("tenantd-acme");
    mark.correction(service, RUNC, "container", &["name", "state"]);
    service.wait_until_in_order(&service.head());
}

fn engine_killed(service: &mut Service) {
    let before = containers(service);
    let mark = JournalPosition::now(service);
    kill_engine(&service.fleet.engine);
    service.wait("the daemon says that the engine is away", || {
        service
            .condition("", "Ready")
            .is_some_and(|(status, reason, _)| status == "False" && reason == "DependencyNotReady")
    });
    service.wait_until_in_order(&service.head());
    let after = containers(service);
    let ids = |of: &BTreeMap<String, (String, String)>| -> Vec<(String, String)> {
        of.iter().map(|(name, (id, _))| (name.clone(), id.clone())).collect()
    };
    assert_eq!(ids(&after), ids(&before), "the same containers run again, and no other");
    proper(service, RUNC);
    proper(service, GVISOR);
    let records = mark.records(service);
    let made: Vec<&Value> = steps(&records).into_iter().filter(|step| text(&step["step"]).contains("create")).collect();
    assert!(made.is_empty(), "nothing is made: {made:#?}");
}

fn engine_stopped(service: &mut Service) {
    service.settings("resync: 1s\ndeadlines: {call: 2s, stop: 1s}\n");
    signal("HUP", service.pid());
    service.wait_until_in_order(&service.head());
    let before = containers(service);
    let mark = JournalPosition::now(service);
    let engine = dockerd(&service.fleet.engine);
    signal("STOP", engine);
    let said = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        service.wait("the daemon says that the engine does not answer", || {
            service.condition("", "Ready").is_some_and(|(status, reason, message)| {
                status == "False" && reason == "DependencyNotReady" && message.contains("did not answer")
            })
        });
        thread::sleep(Duration::from_secs(5));
        assert!(service.status().is_some(), "the daemon answers meanwhile");
    }));
    signal("CONT", engine);
    said.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    service.wait_until_in_order(&service.head());
    assert_eq!(containers(service), before, "nothing is made anew");
    let records = mark.records(service);
    assert!(steps(&records).is_empty(), "and nothing is done: {:#?}", steps(&records));
    // Events arrive again.
    service.settings(super::HOST);
    signal("HUP", service.pid());
    let mark = JournalPosition::now(service);
    service.fleet.engine.remove("tenantd-acme");
    mark.correction(service, RUNC, "container", &["name", "state"]);
    service.wait_until_in_order(&service.head());
}
