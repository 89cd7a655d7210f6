//! A crash at any point: the connection is cut at each call in turn, and the next apply ends where
//! the first one would have.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
};

use serde_json::{Value, json};
use tenantd::model::{Desired, RuntimeClass, Tenant};
use tenantd_test_support::When;

use crate::world::{World, fleet, image, named, tenant, text};

/// A bystander that no scenario touches: its container must live through everything.
const BYSTANDER: &str = "zoo";

/// Brings a world to where a scenario begins, and says what is to be applied there.
type Scenario = fn(&World) -> Desired;

fn with_bystander(tenants: impl IntoIterator<Item = Tenant>) -> Desired {
    fleet(tenants.into_iter().chain([tenant(BYSTANDER)]))
}

fn first_up(world: &World) -> Desired {
    world.converge(&named(&[BYSTANDER]));
    named(&["ant", "bee", "cat", BYSTANDER])
}

fn replacement(world: &World) -> Desired {
    world.engine.with(|state| state.options.images.push(image("tenantd/test:2", "2")));
    world.converge(&named(&["ant", "bee", BYSTANDER]));
    let mut ant = tenant("ant");
    ant.image = "tenantd/test:2".parse().unwrap();
    with_bystander([ant, tenant("bee")])
}

fn replacement_on_gvisor(world: &World) -> Desired {
    let mut ant = Tenant { class: RuntimeClass::Gvisor, ..tenant("ant") };
    world.converge(&with_bystander([ant.clone()]));
    ant.limits.memory = "256MiB".parse().unwrap();
    with_bystander([ant])
}

fn network_made_anew(world: &World) -> Desired {
    let desired = named(&["ant", BYSTANDER]);
    world.converge(&desired);
    world.engine.with(|state| state.network_mut("tenantd-ant")["Internal"] = false.into());
    desired
}

fn removal(world: &World) -> Desired {
    world.converge(&named(&["ant", "bee", BYSTANDER]));
    named(&[BYSTANDER])
}

fn drift_heal(world: &World) -> Desired {
    let desired = named(&["ant", "bee", "cat", "dog", BYSTANDER]);
    world.converge(&desired);
    world.act("POST", "/containers/tenantd-ant/update", json!({"PidsLimit": 4096}));
    world.act("POST", "/networks/create", json!({"Name": "shared"}));
    world.act("POST", "/networks/shared/connect", json!({"Container": "tenantd-bee"}));
    world.act("POST", "/containers/tenantd-cat/stop", Value::Null);
    world.act("POST", "/containers/tenantd-dog/rename?name=doggy", Value::Null);
    world.foreign("foreign", "tenantd-ant");
    desired
}

fn weakened_and_replaced(world: &World) -> Desired {
    let desired = named(&["ant", "bee", BYSTANDER]);
    world.converge(&desired);
    world.tamper("tenantd-ant", |doc| doc["HostConfig"]["Privileged"] = true.into());
    world.tamper("tenantd-bee", |doc| doc["HostConfig"]["CapAdd"] = json!(["SYS_ADMIN"]));
    desired
}

#[test]
fn a_first_apply_cut_at_any_call_is_finished_by_the_next() {
    survives_a_cut_at_every_call(first_up);
}

#[test]
fn a_replacement_cut_at_any_call_is_finished_by_the_next() {
    survives_a_cut_at_every_call(replacement);
    survives_a_cut_at_every_call(replacement_on_gvisor);
    survives_a_cut_at_every_call(weakened_and_replaced);
}

#[test]
fn a_network_made_anew_and_cut_at_any_call_is_finished_by_the_next() {
    survives_a_cut_at_every_call(network_made_anew);
}

#[test]
fn a_removal_cut_at_any_call_is_finished_by_the_next() {
    survives_a_cut_at_every_call(removal);
}

#[test]
fn a_repair_cut_at_any_call_is_finished_by_the_next() {
    survives_a_cut_at_every_call(drift_heal);
}

fn survives_a_cut_at_every_call(scenario: Scenario) {
    for when in [When::BeforeEffect, When::AfterEffect] {
        let calls = (1..).find(|calls| !is_cut_and_recovers(scenario, *calls, when)).unwrap();
        // The look alone takes five calls and a change at least one more.
        assert!(calls > 6, "the apply took {calls} calls only");
    }
}

/// Cuts the connection at one call and applies again. False where the apply took fewer calls.
fn is_cut_and_recovers(scenario: Scenario, calls: u64, when: When) -> bool {
    let world = World::new();
    let desired = scenario(&world);
    let bystander = world.id(&format!("tenantd-{BYSTANDER}"));
    let foreign = world.ids().remove("");

    world.engine.cut_after(calls, when);
    let first = world.try_apply(&desired);
    let was_cut = world.engine.is_cut();
    world.engine.heal();
    let at = format!("cut at call {calls}, {when:?}");

    if was_cut {
        assert!(first.is_err() || first.is_ok_and(|run| !run.failures().is_empty()), "{at}: nobody noticed");
        let second = world.apply(&desired);
        assert_eq!(second.failures(), Vec::<String>::new(), "{at}: {}", text(&second.plan));
    }
    let next = world.plan(&desired);
    assert!(next.is_empty(), "{at}: the plan after is not empty:\n{}", text(&next));
    assert_eq!(next.blocked().count(), 0, "{at}");

    let one_each = || desired.tenants.keys().map(|name| (name.to_string(), 1)).collect::<BTreeMap<_, _>>();
    let count = |ids: BTreeMap<String, Vec<String>>| -> BTreeMap<String, usize> {
        ids.into_iter().filter(|(tenant, _)| !tenant.is_empty()).map(|(tenant, ids)| (tenant, ids.len())).collect()
    };
    assert_eq!(count(world.ids()), one_each(), "{at}: containers");
    assert_eq!(count(world.network_ids()), one_each(), "{at}: networks");
    assert_eq!(world.ids().remove(""), foreign, "{at}: containers of others");
    assert_eq!(world.id(&format!("tenantd-{BYSTANDER}")), bystander, "{at}: the bystander was made anew");
    let folders = fs::read_dir(world.host.data_root.join("workspaces")).unwrap();
    let folders: BTreeSet<String> = folders.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    assert!(folders.iter().eq(desired.tenants.keys().map(|name| name.as_str())), "{at}: {folders:?}");
    for name in desired.tenants.keys() {
        assert_eq!(world.state(&name.object_name()), "running", "{at}: {name}");
    }
    was_cut
}
