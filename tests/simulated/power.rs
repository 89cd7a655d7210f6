//! Tenants that are frozen or asleep: what a plan does, and what it never does.

use std::{collections::BTreeMap, sync::Arc};

use jiff::Timestamp;
use serde_json::{Value, json};
use tenantd::model::{Power, PowerHold, PowerReason, RuntimeClass, Tenant, TenantPlan, plan::Note, record::Why};

use crate::world::{World, fleet, tenant, text};

fn hold(power: Power, reached: bool) -> PowerHold {
    let reason = PowerReason::Operator { by: "ada".to_owned() };
    PowerHold { power, reason, since: Timestamp::UNIX_EPOCH, until: None, reached }
}

impl World {
    fn ask(&mut self, name: &str, power: Power) {
        let powers = Arc::make_mut(&mut self.powers);
        powers.holds.insert(name.to_owned(), hold(power, false));
    }

    /// The addresses of a network.
    fn subnet(&self, name: &str) -> String {
        let networks = self.engine.networks();
        let network = networks.iter().find(|network| network["Name"] == name).unwrap();
        network["IPAM"]["Config"][0]["Subnet"].as_str().unwrap().to_owned()
    }

    fn reserve(&mut self, plan: &TenantPlan) {
        let subnet = plan.reserve.unwrap();
        Arc::make_mut(&mut self.powers).reserved.insert(plan.tenant.clone(), subnet);
    }
}

fn of(class: RuntimeClass) -> Tenant {
    Tenant { class, ..tenant("ant") }
}

#[test]
fn one_that_is_paused_is_frozen_and_one_that_somebody_thawed_is_frozen_again() {
    for class in [RuntimeClass::Container, RuntimeClass::Gvisor] {
        let mut world = World::new();
        let desired = fleet(vec![of(class), tenant("bee")]);
        world.converge(&desired);
        let id = world.id("tenantd-ant");

        world.ask("ant", Power::Paused);
        let run = world.converge(&desired);
        let plan = &run.plan.tenants[0];
        assert!(plan.power == Power::Paused && plan.notes.contains(&Note::Paused), "{}", text(&run.plan));
        let causes = |plan: &TenantPlan| {
            let attributes = plan.changes.iter().flat_map(|change| &change.attributes);
            attributes.map(|it| (it.attribute.name, it.before.clone(), it.after.clone(), it.why)).collect::<Vec<_>>()
        };
        assert_eq!(causes(plan), [("state", json!("running"), json!("paused"), Why::Intent)]);
        assert_eq!(world.state("tenantd-ant"), "paused");
        assert_eq!(world.state("tenantd-bee"), "running");

        let powers = Arc::make_mut(&mut world.powers);
        powers.holds.insert("ant".to_owned(), hold(Power::Paused, true));
        world.act("POST", "/containers/tenantd-ant/unpause", Value::Null);
        let run = world.converge(&desired);
        assert_eq!(causes(&run.plan.tenants[0]), [("state", json!("running"), json!("paused"), Why::Drift)]);

        world.ask("ant", Power::Running);
        world.converge(&desired);
        assert_eq!(world.state("tenantd-ant"), "running");
        assert_eq!(world.id("tenantd-ant"), id, "it is the same container all the time");
    }
}

#[test]
fn one_that_cannot_stay_frozen_sleeps() {
    type Change = fn(&World, &mut Tenant);
    let cases: [(&str, Change); 4] = [
        ("it ended", |world, _| world.engine.with(|state| state.exit("tenantd-ant", 0, false))),
        ("it was removed", |world, _| drop(world.act("DELETE", "/containers/tenantd-ant?force=1", Value::Null))),
        ("another image is declared", |_, tenant| tenant.command = Some(vec!["/serve".to_owned()])),
        ("it is privileged", |world, _| {
            world.tamper("tenantd-ant", |doc| doc["HostConfig"]["Privileged"] = json!(true));
        }),
    ];
    for (case, change) in cases {
        let mut world = World::new();
        let mut ant = tenant("ant");
        world.converge(&fleet(vec![ant.clone()]));
        change(&world, &mut ant);
        world.ask("ant", Power::Paused);
        let run = world.converge(&fleet(vec![ant]));
        assert!(run.plan.tenants[0].notes.contains(&Note::Asleep), "{case}: {}", text(&run.plan));
        assert!(world.engine.containers().is_empty(), "{case}");
    }
}

#[test]
fn one_that_sleeps_has_nothing_but_its_files_and_its_addresses() {
    for class in [RuntimeClass::Container, RuntimeClass::Gvisor] {
        let mut world = World::new();
        let desired = fleet(vec![of(class)]);
        world.converge(&desired);
        let subnet = world.subnet("tenantd-ant");
        std::fs::write(world.workspace("ant").join("work"), "kept").unwrap();

        world.ask("ant", Power::Asleep);
        let run = world.converge(&desired);
        assert!(world.engine.containers().is_empty());
        assert_eq!(world.subnet("tenantd-ant"), subnet, "its network keeps its addresses until they are reserved");
        world.reserve(&run.plan.tenants[0]);
        world.converge(&desired);
        assert!(!world.engine.networks().iter().any(|network| network["Name"] == "tenantd-ant"));
        assert_eq!(std::fs::read_to_string(world.workspace("ant").join("work")).unwrap(), "kept");

        // Somebody starts one by hand: it is drift, and ends.
        let body = json!({"Image": crate::world::IMAGE, "Labels": {"io.tenantd.tenant": "ant"}});
        world.act("POST", "/containers/create?name=tenantd-ant", body);
        world.act("POST", "/containers/tenantd-ant/start", Value::Null);
        world.converge(&desired);
        assert!(world.engine.containers().is_empty());

        world.ask("ant", Power::Running);
        world.converge(&desired);
        assert_eq!((world.state("tenantd-ant").as_str(), world.subnet("tenantd-ant")), ("running", subnet));
    }
}

#[test]
fn a_network_that_is_not_as_declared_keeps_no_addresses_for_one_that_sleeps() {
    let mut world = World::new();
    let desired = fleet(vec![tenant("ant")]);
    let labels = json!({"io.tenantd.tenant": "ant"});
    let ipam = json!({"Config": [{"Subnet": "10.77.0.16/28"}]});
    world.act("POST", "/networks/create", json!({"Name": "by-hand", "IPAM": ipam, "Labels": labels}));
    world.ask("ant", Power::Asleep);
    let run = world.converge(&desired);
    assert_eq!((run.plan.tenants[0].reserve, world.network_ids().len()), (None, 0));
}

#[test]
fn the_addresses_of_one_that_sleeps_go_to_nobody_else() {
    let mut world = World::new();
    // Room for four networks.
    world.host.pool = "10.77.0.0/26".parse().unwrap();
    let names = ["ant", "bee", "cat", "dog"];
    let all = fleet(names.map(tenant).to_vec());
    world.converge(&all);
    world.ask("ant", Power::Asleep);
    let run = world.converge(&all);
    world.reserve(&run.plan.tenants[0]);
    world.converge(&all);

    let with_elk = fleet(names.into_iter().chain(["elk"]).map(tenant).collect::<Vec<_>>());
    let plan = world.plan(&with_elk);
    let blocked: BTreeMap<&str, &str> = plan.blocked().map(|(name, blocked)| (name, blocked.code.as_str())).collect();
    assert_eq!(blocked, BTreeMap::from([("elk", "pool-exhausted")]), "{}", text(&plan));
    // The same seen from the newcomer alone, as the daemon looks at it.
    let alone = fleet(vec![tenant("elk")]);
    let observed = world.observe(&with_elk);
    let plan = tenantd::plan::plan_tenant("elk", &alone, &world.host, &observed);
    assert_eq!(plan.blocked.map(|blocked| blocked.code.as_str()), Some("pool-exhausted"));
}

#[test]
fn what_is_contained_or_blocked_is_not_thawed_by_being_asked_to_run() {
    let mut world = World::new();
    let desired = fleet(vec![tenant("ant")]);
    world.converge(&desired);
    world.ask("ant", Power::Paused);
    world.converge(&desired);
    world.tamper("tenantd-ant", |doc| doc["HostConfig"]["Privileged"] = json!(true));
    // Its image is gone: it cannot be made anew, so it is blocked.
    let mut other = tenant("ant");
    other.image = "tenantd/gone:1".parse().unwrap();
    world.ask("ant", Power::Running);
    let run = world.apply(&fleet(vec![other]));
    assert_eq!(run.plan.blocked().count(), 1, "{}", text(&run.plan));
    assert_eq!(world.state("tenantd-ant"), "paused");
}

#[test]
fn where_nobody_knows_what_was_asked_nothing_starts() {
    let mut world = World::new();
    let desired = fleet(["ant", "bee", "cat"].map(tenant).to_vec());
    world.converge(&desired);
    world.engine.with(|state| state.exit("tenantd-ant", 0, false));
    world.act("POST", "/containers/tenantd-bee/pause", Value::Null);
    Arc::make_mut(&mut world.powers).lost = true;
    let all = fleet(["ant", "bee", "cat", "new"].map(tenant).to_vec());
    let run = world.converge(&all);
    let powers: Vec<Power> = run.plan.tenants.iter().map(|plan| plan.power).collect();
    assert_eq!(powers, [Power::Asleep, Power::Paused, Power::Running, Power::Running]);
    assert_eq!(world.state("tenantd-bee"), "paused");
    assert_eq!(world.state("tenantd-cat"), "running");
    assert_eq!(world.state("tenantd-new"), "running");
    assert_eq!(world.engine.containers().len(), 3);
}
