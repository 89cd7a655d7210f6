//! Plans that once were wrong, or that could easily become so.

use serde_json::json;
use tenantd::model::{Bytes, RuntimeClass, Step, TENANT_LABEL, Tenant};

use crate::world::{Run, World, fleet, named, tenant, text};

/// The kinds of the steps of one tenant, in their order.
fn steps(run: &Run, tenant: &str) -> Vec<String> {
    let kind = |step: &Step| serde_json::to_value(step).unwrap()["step"].as_str().unwrap().to_owned();
    run.steps.iter().filter(|(name, _)| name == tenant).map(|(_, step)| kind(step)).collect()
}

#[test]
fn addresses_that_another_tenant_is_about_to_give_up_are_not_given_yet() {
    let mut world = World::new();
    world.host.pool = "10.77.0.0/26".parse().unwrap();
    // A network of ant's that ant will not keep, on each subnet but one.
    for third in [0, 16, 32] {
        let ipam = json!({"Config": [{"Subnet": format!("10.77.0.{third}/28")}]});
        let labels = json!({TENANT_LABEL: "ant"});
        world.act("POST", "/networks/create", json!({"Name": format!("old-{third}"), "IPAM": ipam, "Labels": labels}));
    }
    world.converge(&named(&["ant", "bee"]));
}

#[test]
fn a_second_network_of_a_tenant_goes_even_where_its_own_is_made_anew() {
    let world = World::new();
    let desired = named(&["ant"]);
    world.converge(&desired);
    world.act("POST", "/networks/create", json!({"Name": "second", "Labels": {TENANT_LABEL: "ant"}}));
    world.act("POST", "/networks/second/connect", json!({"Container": "tenantd-ant"}));
    world.engine.with(|state| state.network_mut("tenantd-ant")["Internal"] = false.into());
    let run = world.converge(&desired);
    assert_eq!(steps(&run, "ant")[..2], ["disconnect", "pause"], "{}", text(&run.plan));
    assert_eq!(world.network_ids()["ant"].len(), 1);
}

#[test]
fn a_commit_that_asks_for_less_is_no_drift_and_stops_a_tenant_with_grace() {
    let world = World::new();
    for class in [RuntimeClass::Container, RuntimeClass::Gvisor] {
        let before = Tenant { class, ..tenant("ant") };
        world.converge(&fleet([before.clone()]));
        let mut less = before;
        less.sandbox.open_files = 1024;
        less.sandbox.tmp_size = Bytes::mib(8);
        less.sandbox.shm_size = Bytes::mib(8);
        less.limits.memory = Bytes::mib(64);
        let run = world.converge(&fleet([less]));
        let shown = text(&run.plan);
        assert!(!shown.contains("drift") && !shown.contains("weakens"), "{shown}");
        assert_eq!(steps(&run, "ant"), ["create-container", "stop", "remove", "rename", "start"], "{shown}");
    }
}

#[test]
fn what_weakens_is_contained_also_where_a_commit_comes_with_it() {
    let world = World::new();
    world.converge(&named(&["ant"]));
    world.spoil("tenantd-ant", |doc| doc["HostConfig"]["Privileged"] = true.into());
    let changed = Tenant { command: Some(vec!["/serve".to_owned()]), ..tenant("ant") };
    let run = world.converge(&fleet([changed]));
    assert_eq!(steps(&run, "ant"), ["pause", "create-container", "remove", "rename", "start"]);
}

#[test]
fn live_limits_are_changed_in_place_with_runc_and_by_a_new_container_with_runsc() {
    let world = World::new();
    for (class, in_place) in [(RuntimeClass::Container, true), (RuntimeClass::Gvisor, false)] {
        let before = Tenant { class, ..tenant("ant") };
        world.converge(&fleet([before.clone()]));
        let id = world.id("tenantd-ant");
        let mut more = before;
        more.limits.memory = Bytes::mib(512);
        more.limits.cpus = "1".parse().unwrap();
        more.limits.pids = "128".parse().unwrap();
        let run = world.converge(&fleet([more]));
        assert_eq!(world.id("tenantd-ant") == id, in_place);
        assert_eq!(text(&run.plan).contains("will be updated in-place"), in_place, "{}", text(&run.plan));
        assert_eq!(steps(&run, "ant").contains(&"update".to_owned()), in_place);
    }
}

#[test]
fn a_tenants_coming_and_going_moves_nobody() {
    let world = World::new();
    world.converge(&named(&["ant", "bee", "cat"]));
    let before = (world.id("tenantd-ant"), world.id("tenantd-cat"), world.network_ids());
    world.converge(&named(&["ant", "cat", "dog", "elk"]));
    let networks = world.network_ids();
    assert_eq!((world.id("tenantd-ant"), world.id("tenantd-cat")), (before.0, before.1));
    assert_eq!((&networks["ant"], &networks["cat"]), (&before.2["ant"], &before.2["cat"]));
}

#[test]
fn processors_beyond_those_of_the_engine_are_capped_and_said() {
    let world = World::new();
    world.engine.with(|state| state.options.cpus = 2);
    let mut ant = tenant("ant");
    ant.limits.cpus = "8".parse().unwrap();
    let run = world.converge(&fleet([ant]));
    assert!(text(&run.plan).contains("limits.cpus is more than the engine has"), "{}", text(&run.plan));
    let nano = world.engine.with(|state| state.container("tenantd-ant").unwrap()["HostConfig"]["NanoCpus"].clone());
    assert_eq!(nano, 2_000_000_000_i64);
}
