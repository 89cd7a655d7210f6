//! Which address of its network is a tenant's own, and whom its policy serves meanwhile.

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;
use serde_json::{Value, json};
use tenantd::{
    model::{
        Desired, EgressPolicy, ImageRef, Observed, PlannedStep, Step, Tenant, TenantPlan,
        egress::{EgressCapability, Filed, FoundFiles, FoundLink, POLICY_VERSION},
    },
    plan,
};

use crate::world::{World, fleet, image, named, tenant};

const CONTAINER: &str = "tenantd-ant";

fn listed(destination: &str) -> Tenant {
    Tenant { allowlist: [destination.parse().unwrap()].into(), ..tenant("ant") }
}

fn desired() -> Desired {
    fleet([listed("api.example.com:443")])
}

/// A tenant that was made as declared, with a network whose first address is the gateway's.
fn world() -> World {
    let world = World::new();
    world.converge(&named(&["ant"]));
    world
}

fn subnet(world: &World) -> Ipv4Net {
    let networks = world.engine.networks();
    let own = networks.iter().find(|doc| doc["Name"] == CONTAINER).unwrap();
    own["IPAM"]["Config"][0]["Subnet"].as_str().unwrap().parse().unwrap()
}

/// The address of that number in the tenant's network; the last one is its own.
fn address(world: &World, number: usize) -> Option<Ipv4Addr> {
    subnet(world).hosts().nth(number - 1)
}

const OWN: usize = 14;

/// As a container of an earlier version is: the engine hands out an address at each start.
fn made_before(world: &World) {
    world.tamper(CONTAINER, |doc| doc["NetworkSettings"]["Networks"][CONTAINER]["IPAMConfig"] = Value::Null);
    restart(world);
}

fn restart(world: &World) {
    world.act("POST", &format!("/containers/{CONTAINER}/restart"), Value::Null);
}

fn stop(world: &World) {
    world.act("POST", &format!("/containers/{CONTAINER}/stop"), Value::Null);
}

/// What is found where a policy of that version serves that address.
fn observed(world: &World, desired: &Desired, v: u32, served: Option<Ipv4Addr>) -> Observed {
    let mut observed = world.observe(desired);
    let ant = tenant("ant").name;
    let policy = EgressPolicy {
        v,
        tenant: ant.clone(),
        subnet: subnet(world),
        address: served,
        allow: listed("api.example.com:443").allowlist,
        routes: Vec::new(),
        budget: Default::default(),
    };
    let link = FoundLink {
        alias: "ant".to_owned(),
        joined: true,
        up: true,
        bridge: ant.interface_name(),
        addresses: [format!("{}/28", address(world, 1).unwrap())].into(),
        ..FoundLink::default()
    };
    observed.egress.capability = EgressCapability::Ready;
    observed.egress.links.insert(ant.link_name(), link);
    let policy = Filed::Present(policy);
    observed.egress.files.insert("ant".to_owned(), FoundFiles { policy, ..FoundFiles::default() });
    observed
}

fn plan_for(world: &World, desired: &Desired, v: u32, served: Option<Ipv4Addr>) -> TenantPlan {
    let observed = observed(world, desired, v, served);
    plan::plan(desired, &world.host, &observed).tenants.into_iter().find(|plan| plan.tenant == "ant").unwrap()
}

/// The steps in words: a policy with the number of the address that it serves, else the step's kind.
fn words(world: &World, steps: &[PlannedStep]) -> Vec<String> {
    let first = u32::from(subnet(world).network());
    let number = |served: Option<Ipv4Addr>| {
        served.map_or_else(|| "nobody".to_owned(), |address| (u32::from(address) - first).to_string())
    };
    let word = |step: &Step| match step {
        Step::OpenEgress { egress } => format!("open to {}", number(egress.policy.address)),
        Step::NarrowEgress { policy: Some(policy), .. } => format!("narrow to {}", number(policy.address)),
        Step::Connect { address, .. } => format!("connect as {}", number(*address)),
        other => json!(other)["step"].as_str().unwrap().to_owned(),
    };
    steps.iter().map(|planned| word(&planned.step)).collect()
}

/// What is contained and then done about a tenant, where its policy serves that address.
fn planned(world: &World, desired: &Desired, served: Option<usize>) -> [Vec<String>; 2] {
    let plan = plan_for(world, desired, POLICY_VERSION, served.and_then(|number| address(world, number)));
    [words(world, &plan.contain), words(world, &plan.steps)]
}

#[test]
fn a_container_has_the_last_address_of_its_network_and_its_policy_names_it() {
    let world = world();
    assert_eq!(planned(&world, &desired(), Some(OWN)), [[""; 0]; 2], "all is as declared");
    assert_eq!(planned(&world, &desired(), None), [vec![], vec!["open to 14"]]);
    for _ in 0..3 {
        restart(&world);
        assert_eq!(planned(&world, &desired(), Some(OWN)), [[""; 0]; 2], "a restart changes no address");
    }
    let other = Tenant { image: other_image(&world), ..listed("api.example.com:443") };
    let [contained, done] = planned(&world, &fleet([other]), Some(OWN));
    assert_eq!((contained.len(), done), (0, words_of(&["create-container", "stop", "remove", "rename", "start"])));
}

fn words_of(words: &[&str]) -> Vec<String> {
    words.iter().map(|&word| word.to_owned()).collect()
}

fn other_image(world: &World) -> ImageRef {
    world.engine.with(|state| state.options.images.push(image("tenantd/other:1", "other")));
    "tenantd/other:1".parse().unwrap()
}

#[test]
fn a_policy_follows_the_container_of_an_earlier_version_and_nobody_is_replaced() {
    let world = world();
    made_before(&world);
    assert_eq!(planned(&world, &desired(), Some(2)), [[""; 0]; 2]);
    assert_eq!(planned(&world, &desired(), Some(3)), [vec!["narrow to 2"], vec!["open to 2"]]);
    // It keeps its egress path until another container takes its place.
    let other = Tenant { image: other_image(&world), ..listed("api.example.com:443") };
    let [contained, done] = planned(&world, &fleet([other]), Some(2));
    assert_eq!(contained.len(), 0);
    assert_eq!(done, words_of(&["create-container", "stop", "remove", "rename", "open to 14", "start"]));
}

#[test]
fn a_container_of_an_earlier_version_gets_an_address_of_its_own_at_its_next_start() {
    let world = world();
    made_before(&world);
    let id = world.id(CONTAINER);
    stop(&world);
    let [contained, done] = planned(&world, &desired(), Some(2));
    assert_eq!(contained, ["narrow to 14"]);
    assert_eq!(done, ["open to 14", "disconnect", "connect as 14", "start"]);
    world.converge(&named(&["ant"]));
    assert_eq!(world.id(CONTAINER), id);
    assert_eq!(planned(&world, &desired(), Some(OWN)), [[""; 0]; 2]);
}

#[test]
fn a_policy_of_an_earlier_version_is_narrowed_to_the_container_at_once() {
    let world = world();
    made_before(&world);
    let plan = plan_for(&world, &desired(), 1, None);
    assert_eq!(words(&world, &plan.contain), ["narrow to 2"]);
    // For blocked tenants as well.
    let blocked = plan_for(&world, &fleet([listed("10.30.0.1:443")]), 1, None);
    assert!(blocked.blocked.is_some() && blocked.steps.is_empty());
    assert_eq!(words(&world, &blocked.contain), ["narrow to 2"]);
    stop(&world);
    let plan = plan_for(&world, &desired(), 1, None);
    assert_eq!(words(&world, &plan.contain), ["narrow to 14"]);
}

#[test]
fn a_foreign_container_on_the_network_of_a_container_that_does_not_run_is_served_no_more() {
    let world = world();
    world.foreign("foreign", CONTAINER);
    let [contained, done] = planned(&world, &desired(), Some(OWN));
    assert_eq!((contained, done.len()), (words_of(&["disconnect"]), 0), "nobody can have the address of who runs");
    stop(&world);
    let [contained, done] = planned(&world, &desired(), Some(OWN));
    assert!(contained.contains(&"narrow to nobody".to_owned()), "{contained:?}");
    assert_eq!(done, ["open to 14", "start"]);
}

#[test]
fn engines_give_whoever_joins_by_hand_another_address() {
    let world = world();
    stop(&world);
    for number in 0..5 {
        world.foreign(&format!("foreign-{number}"), CONTAINER);
        let own = address(&world, OWN).unwrap().to_string();
        let given = world.engine.with(|state| {
            let doc = state.container(&format!("foreign-{number}")).unwrap();
            doc["NetworkSettings"]["Networks"][CONTAINER]["IPAddress"].as_str().unwrap().to_owned()
        });
        assert!(!given.is_empty() && given != own, "{given}");
    }
    world.converge(&named(&["ant"]));
    assert_eq!(planned(&world, &desired(), Some(OWN)), [[""; 0]; 2]);
}

/// Somebody put the container back on its network by hand. The engine's choice is followed; another's is undone.
#[test]
fn an_endpoint_that_was_made_by_hand_serves_no_other_address() {
    let world = world();
    let network = format!("/networks/{CONTAINER}");
    let again = |settings: Value| {
        world.act("POST", &format!("{network}/disconnect"), json!({"Container": CONTAINER}));
        world.act("POST", &format!("{network}/connect"), json!({"Container": CONTAINER, "EndpointConfig": settings}));
    };
    again(Value::Null);
    assert_eq!(planned(&world, &desired(), Some(OWN)), [vec!["narrow to 2"], vec!["open to 2"]]);
    again(json!({"IPAMConfig": {"IPv4Address": address(&world, 9).unwrap()}}));
    let [contained, done] = planned(&world, &desired(), Some(OWN));
    // Its own address is nobody's until the new container has it.
    assert_eq!(contained.len(), 0);
    assert!(done.contains(&"create-container".to_owned()), "{done:?}");
    world.act("POST", &format!("{network}/disconnect"), json!({"Container": CONTAINER}));
    let [contained, done] = planned(&world, &desired(), Some(OWN));
    assert_eq!((contained.len(), done), (0, words_of(&["connect as 14"])));
}
