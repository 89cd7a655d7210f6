//! What a tenant does to keep what a manual change gave it: it is contained at once, and made anew.

use serde_json::{Value, json};

use super::{
    HOST, Service,
    manual_changes::{FOREIGN, JournalPosition},
    signal,
};
use crate::engine::{succeed, text};

const TENANT: &str = "acme";
const OURS: &str = "tenantd-acme";
const MIB: u64 = 1 << 20;

#[test]
fn a_limit_that_a_tenant_has_filled_is_contained_and_then_replaced() {
    let service = Service::new("filled", HOST);
    service.fleet.declare(TENANT, "limits: {memory: 64MiB}\n");
    let commit = service.push();
    service.start();
    service.wait_until_in_order(&commit);
    succeed(service.fleet.engine.docker(&["network", "create", FOREIGN]));

    println!("case the daemon finds it");
    let (mark, before) = (JournalPosition::now(&service), service.fleet.engine.identity(OURS));
    // The tenant is faster than the daemon.
    signal("STOP", service.pid());
    raise_and_fill(&service);
    succeed(service.fleet.engine.docker(&["network", "connect", FOREIGN, OURS]));
    signal("CONT", service.pid());
    service.wait("a new container has the limit", || limit_holds(&service) && identity_changed(&service, &before));
    service.wait_until_in_order(&commit);
    let records = mark.records(&service);
    let is_step = |record: &&Value| record["type"] == "intent" && record["tenant"] == TENANT;
    let steps: Vec<(String, Value)> = records
        .iter()
        .filter(is_step)
        .map(|intent| {
            let outcome = |record: &&Value| record["type"] == "outcome" && record["intent"] == intent["seq"];
            (text(&intent["step"]), records.iter().find(outcome).map_or(Value::Null, |one| one["result"].clone()))
        })
        .collect();
    let at = |step: &str, result: &str| {
        let found = steps.iter().position(|(name, became)| name == step && became == result);
        found.unwrap_or_else(|| panic!("{step} {result}: {steps:#?}"))
    };
    let refused = at("update the limits", "failed");
    assert!(at("disconnect a container from a network", "done") < refused + 2, "{steps:#?}");
    let (paused, made) = (at("pause the container", "done"), at("create the container", "done"));
    assert!(refused < paused && paused < made, "{steps:#?}");
    assert!(made < at("start the container", "done"), "{steps:#?}");

    println!("case apply finds it");
    service.terminate();
    let before = service.fleet.engine.identity(OURS);
    raise_and_fill(&service);
    let (code, printed) = service.fleet.apply();
    assert_eq!(code, 0, "{printed}");
    assert!(limit_holds(&service) && identity_changed(&service, &before), "{printed}");
    assert!(printed.contains("pause the container"), "{printed}");
    assert_eq!(service.fleet.plan().code, 0);

    println!("case a commit asks for less than the tenant uses");
    service.fleet.declare(TENANT, "limits: {memory: 256MiB}\n");
    service.start();
    service.wait_until_in_order(&service.push());
    fill(&service);
    service.wait("the declaration has proved good", || {
        service.condition(TENANT, "Healthy").is_some_and(|(status, ..)| status == "True")
    });
    service.fleet.declare(TENANT, "limits: {memory: 64MiB}\n");
    service.wait_until_in_order(&service.push());
    assert!(limit_holds(&service));
    service.wait("it is good for it", || {
        service.condition(TENANT, "Healthy").is_some_and(|(status, ..)| status == "True")
    });
    assert!(!service.records().iter().any(|record| record["type"] == "bad"));
    service.end();
}

/// A manual change gives the tenant more memory, and the tenant uses it.
fn raise_and_fill(service: &Service) {
    succeed(service.fleet.engine.docker(&["update", "--memory", "1g", "--memory-swap", "1g", OURS]));
    fill(service);
}

fn fill(service: &Service) {
    let engine = &service.fleet.engine;
    for path in ["/tmp/big", "/dev/shm/big"] {
        // It is refused in the end, when the file system is full.
        let _ = engine.agent(TENANT, &["fill", path, "1073741824"]);
    }
    // As the engine's own kernel says.
    let lower = json!({"Memory": 64 * MIB, "MemorySwap": 64 * MIB});
    let (status, said) = engine.call("POST", &format!("/containers/{OURS}/update"), Some(&lower));
    assert!(status == 500 && text(&said["message"]).contains("unable to set memory limit"), "{status} {said}");
}

fn limit_holds(service: &Service) -> bool {
    let (_, inspected) = service.fleet.engine.call("GET", &format!("/containers/{OURS}/json"), None);
    let networks: Vec<&String> =
        inspected["NetworkSettings"]["Networks"].as_object().into_iter().flat_map(|all| all.keys()).collect();
    inspected["HostConfig"]["Memory"] == 64 * MIB && inspected["State"]["Status"] == "running" && networks == [OURS]
}

fn identity_changed(service: &Service, before: &(String, String)) -> bool {
    let (_, inspected) = service.fleet.engine.call("GET", &format!("/containers/{OURS}/json"), None);
    !text(&inspected["Id"]).is_empty() && text(&inspected["Id"]) != before.0
}
