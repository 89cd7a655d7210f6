//! Tenants that are paused and put to sleep on a real engine.

use serde_json::json;

use super::{HOST, Service};
use crate::fleet::run;

fn mounts() -> String {
    std::fs::read_to_string("/proc/self/mounts").unwrap()
}

#[test]
fn a_tenant_is_frozen_sleeps_and_wakes_where_it_was() {
    let service = Service::new("power", &format!("{HOST}workspaces: {{backend: image}}\n"));
    let fleet = &service.fleet;
    let tenants = [("acme", ""), ("zeta", fleet.gvisor())];
    for (tenant, class) in tenants {
        fleet.declare(tenant, class);
    }
    let commit = service.push();
    service.start();
    service.wait_until_in_order(&commit);
    let ready = |tenant: &str| service.condition(tenant, "Ready").unwrap_or_default().1;
    let ask = |words: &[&str]| {
        let output = run(fleet.tenantd(words));
        assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
    };
    let state = |name: &str| fleet.engine.inspect(name)["State"]["Status"].as_str().unwrap_or_default().to_owned();

    for (tenant, _) in tenants {
        let name = format!("tenantd-{tenant}");
        let before = fleet.engine.identity(&name);
        let addresses = fleet.engine.network(&name).unwrap()["IPAM"]["Config"].clone();
        let place = fleet.data().join("mounts").join(tenant);
        let is_mounted = || mounts().contains(place.to_str().unwrap());
        assert!(is_mounted(), "{}", place.display());
        let (written, printed) = fleet.engine.agent(tenant, &["write", "/workspace/work", "kept"]);
        assert!(written, "{printed}");

        ask(&["pause", tenant]);
        service.wait("it is paused", || ready(tenant) == "Paused");
        assert_eq!(state(&name), "paused");
        fleet.in_order();
        fleet.engine.must("POST", &format!("/containers/{name}/unpause"), None);
        service.wait("who thawed it is undone", || state(&name) == "paused");
        ask(&["start", tenant]);
        service.wait("it goes on", || ready(tenant) == "ReconciliationSucceeded");
        assert_eq!(fleet.engine.identity(&name), before, "{tenant} was neither replaced nor started again");

        ask(&["sleep", tenant]);
        service.wait("it sleeps", || ready(tenant) == "Asleep");
        service.wait("nothing of it is left at the engine", || {
            fleet.engine.network(&name).is_none()
                && fleet.engine.call("GET", &format!("/containers/{name}/json"), None).0 == 404
        });
        assert!(!is_mounted(), "{}", place.display());
        fleet.in_order();
        // Somebody makes one of its containers by hand.
        let body = json!({"Image": crate::engine::IMAGE, "Labels": {"io.tenantd.tenant": tenant}});
        let (id, _) = fleet.engine.create("by-hand", &body);
        fleet.engine.must("POST", &format!("/containers/{id}/start"), None);
        service.wait("it is gone again", || fleet.engine.call("GET", &format!("/containers/{id}/json"), None).0 == 404);

        service.terminate();
        service.start();
        service.wait("it still sleeps", || ready(tenant) == "Asleep");
        ask(&["start", tenant]);
        service.wait("it is awake", || ready(tenant) == "ReconciliationSucceeded");
        assert_eq!(fleet.engine.network(&name).unwrap()["IPAM"]["Config"], addresses, "{tenant} has its own addresses");
        let (read, printed) = fleet.engine.agent(tenant, &["cat", "/workspace/work"]);
        assert!(read && printed.contains("kept"), "{printed}");
    }
    fleet.in_order();
    service.end();
}
