//! One that hangs: its tenant ends in its own deadline and is reported, the others go on.

use std::time::{Duration, Instant};

use tenantd::model::{Desired, RuntimeClass, Tenant};
use tenantd_test_support::{Options, Runtime};

use crate::world::{World, fleet, named, tenant, text};

/// An engine on which tenants of the class gVisor never start.
fn world() -> World {
    let mut options = Options::default();
    options.runtimes.push(Runtime { hangs: true, ..Runtime::new("stuck") });
    let mut world = World::of(options);
    world.host.runtimes.insert(RuntimeClass::Gvisor, "stuck".to_owned());
    world.host.deadlines.start = "500ms".parse().unwrap();
    world.host.deadlines.call = "500ms".parse().unwrap();
    world
}

fn stuck(name: &str) -> Tenant {
    Tenant { class: RuntimeClass::Gvisor, ..tenant(name) }
}

#[test]
fn a_start_that_hangs_ends_in_its_deadline_and_the_others_converge() {
    let world = world();
    let desired = fleet([stuck("bee"), tenant("ant"), tenant("cat")]);
    let run = world.apply(&desired);

    let [failure] = &run.failures()[..] else { panic!("one failure: {:?}", run.failures()) };
    assert!(failure.starts_with("bee: could not start the container: the engine did not answer"), "{failure}");
    assert!(failure.ends_with("/start within 0.5 s"), "{failure}");
    assert_eq!((world.state("tenantd-ant"), world.state("tenantd-cat")), ("running".into(), "running".into()));

    // The engine still holds the container, so that it cannot be observed: said, and left alone.
    let left = world.id("tenantd-bee");
    let mutations = world.engine.mutations();
    let next = world.apply(&desired);
    assert!(next.plan.is_empty(), "{}", text(&next.plan));
    assert_eq!(
        next.plan.blocked().map(|(name, b)| (name, b.code.as_str())).collect::<Vec<_>>(),
        [("bee", "unobserved")]
    );
    assert_eq!((world.id("tenantd-bee"), world.engine.mutations()), (left, mutations));

    // Once the engine lets go, the abandoned calls end, and the next apply makes it good.
    world.engine.release();
    world.engine.with(|state| state.options.runtimes.iter_mut().for_each(|runtime| runtime.hangs = false));
    wait_until(|| world.try_plan(&desired).is_ok_and(|(plan, _)| plan.blocked().count() == 0));
    world.converge(&desired);
    assert_eq!(world.ids().values().map(Vec::len).collect::<Vec<_>>(), [1, 1, 1]);
}

#[test]
fn a_start_that_hangs_gives_its_turn_away_before_its_deadline() {
    let mut world = world();
    world.host.parallelism = 1;
    world.host.deadlines.start = "5s".parse().unwrap();
    let run = world.apply(&fleet([stuck("ant"), tenant("bee"), tenant("cat")]));
    assert_eq!(run.done, ["bee", "cat", "ant"]);
    assert_eq!(run.failures().len(), 1);
}

#[test]
fn many_that_hang_cost_the_others_no_more_than_their_turns() {
    let mut world = world();
    world.host.parallelism = 1;
    let hung: Vec<String> = (0..4).map(|number| format!("a{number}")).collect();
    let begun = Instant::now();
    let run = world.apply(&fleet(hung.iter().map(|name| stuck(name)).chain([tenant("ox"), tenant("yak")])));
    assert_eq!(run.failures().len(), hung.len());
    assert!(run.failures().iter().all(|failure| failure.contains("could not start the container")));
    assert_eq!((world.state("tenantd-ox"), world.state("tenantd-yak")), ("running".into(), "running".into()));
    assert!(begun.elapsed() < Duration::from_secs(30), "{:?}", begun.elapsed());
}

#[test]
fn a_container_whose_inspection_hangs_is_unobserved_and_nothing_of_it_changes() {
    let world = world();
    let before = named(&["ant", "bee", "cat"]);
    world.converge(&before);
    let id = world.id("tenantd-bee");
    let path = format!("/containers/{id}/json");
    world.engine.hang(move |call| call.path == path);

    // Declared otherwise, and no longer declared at all: in both cases it stays.
    let mut other = tenant("bee");
    other.limits.pids = "99".parse().unwrap();
    let changed = fleet([tenant("ant"), other, tenant("dog")]);
    let removed = named(&["ant", "dog"]);
    for desired in [&changed, &removed] {
        let run = world.apply(desired);
        assert_eq!(run.failures(), Vec::<String>::new());
        assert_eq!(
            run.plan.blocked().map(|(name, b)| (name, b.code.as_str())).collect::<Vec<_>>(),
            [("bee", "unobserved")]
        );
        assert!(text(&run.plan).contains("container tenantd-bee could not be observed"), "{}", text(&run.plan));
        assert_eq!((world.id("tenantd-bee"), world.state("tenantd-bee")), (id.clone(), "running".into()));
        assert_eq!(world.state("tenantd-dog"), "running");
        assert!(world.workspace("bee").is_dir());
    }
    assert_eq!(world.state("tenantd-cat"), "", "the others go on");
    world.engine.heal();
    world.converge(&removed);
    assert_eq!(world.state("tenantd-bee"), "");
}

#[test]
fn an_engine_that_hangs_is_an_error_and_not_an_empty_world() {
    let world = world();
    world.converge(&named(&["ant"]));
    for hanging in ["/_ping", "/info", "/networks", "/containers/json"] {
        world.engine.hang(move |call| call.path == hanging);
        let error = world.try_plan(&Desired::default()).err().unwrap();
        assert!(error.contains("did not answer"), "{hanging}: {error}");
        world.engine.heal();
    }
}

#[test]
fn a_container_that_ends_right_after_its_start_is_a_failure() {
    let world = World::of(Options { latency: Duration::from_millis(100), ..Options::default() });
    let run = std::thread::scope(|scope| {
        scope.spawn(|| {
            wait_until(|| world.state("tenantd-ant") == "running");
            world.engine.with(|state| state.exit("tenantd-ant", 3, false));
        });
        world.apply(&named(&["ant"]))
    });
    assert_eq!(
        run.failures(),
        ["ant: the container ended right after its start, with exit code 3; `tenantd logs` shows what it printed"]
    );
    world.engine.with(|state| state.options.latency = Duration::ZERO);
    let plan = world.plan(&named(&["ant"]));
    assert!(text(&plan).contains("state = \"stopped\" -> \"running\""), "{}", text(&plan));
}

fn wait_until(holds: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !holds() {
        assert!(Instant::now() < deadline, "it never came to hold");
        std::thread::sleep(Duration::from_millis(2));
    }
}
