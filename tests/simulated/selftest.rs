//! Runtimes that can start nothing: found out by a test of their own, and no tenant's fault.

use tenantd::model::{RuntimeClass, Tenant, quantity::Timespan, status::ConditionKind};
use tenantd_test_support::{Options, Runtime};

use crate::{
    daemon::{Daemon, condition, shown},
    world::{World, fleet, named, tenant},
};

/// Has a runtime end all that it starts with a code, or hang, or work.
fn set(world: &World, name: &str, change: impl Fn(&mut Runtime)) {
    world.engine.with(|state| {
        state.options.runtimes.iter_mut().filter(|runtime| runtime.name == name).for_each(change);
    });
}

fn world() -> World {
    let mut world = World::of(Options { imports: true, ..Options::default() });
    world.host.deadlines.start = Timespan::milliseconds(300);
    world.host.deadlines.call = Timespan::seconds(1);
    world
}

/// Nothing of a test is left.
fn is_clean(world: &World) -> bool {
    let images = world.engine.with(|state| state.options.images.len());
    let foreign = world.ids().get("").map_or(0, Vec::len);
    (images, foreign) == (1, 0)
}

fn tests(world: &World) -> usize {
    world.engine.calls().iter().filter(|call| call.path == "/images/create").count()
}

#[test]
fn a_healthy_runtime_is_not_tested_and_a_failing_tenant_stays_its_own_fault() {
    let world = world();
    world.converge(&named(&["ant", "bee"]));
    assert_eq!(tests(&world), 0);
    let ends = Tenant { environment: [("SIM_EXIT".to_owned(), "3".to_owned())].into(), ..tenant("cat") };
    let run = world.apply(&fleet([tenant("ant"), tenant("bee"), ends]));
    assert!(run.failures()[0].contains("exit code 3"), "{:?}", run.failures());
    assert_eq!((tests(&world), is_clean(&world)), (1, true));
}

#[test]
fn a_runtime_that_can_start_nothing_is_named_once_for_all_its_tenants() {
    for (what, change, reason) in [
        ("ends", (|runtime| runtime.ends_with = Some(2)) as fn(&mut Runtime), "ended with exit code 2"),
        ("hangs", |runtime| runtime.hangs = true, "it started nothing within 0.3 s"),
    ] {
        let world = world();
        set(&world, "runsc", change);
        let gvisor = |name: &str| Tenant { class: RuntimeClass::Gvisor, ..tenant(name) };
        let run = world.apply(&fleet([gvisor("ant"), gvisor("bee"), tenant("cat")]));
        let failures = run.failures();
        assert_eq!(failures.len(), 2, "{what}: {failures:?}");
        for failure in &failures {
            assert!(
                failure.contains("the runtime runsc cannot start anything") && failure.contains(reason),
                "{failure}"
            );
        }
        assert_eq!(world.state("tenantd-cat"), "running");
        assert_eq!(tests(&world), 1, "{what}: many that fail have one test");
        if what == "ends" {
            assert!(is_clean(&world));
        }
    }
}

#[test]
fn the_daemon_blocks_the_tenants_of_a_failing_runtime_and_finds_out_when_it_works() {
    let mut daemon = Daemon::stopped(&["ant"], "");
    daemon.engine.with(|state| state.options.imports = true);
    daemon.tenant("bee", "runtime: gvisor\n");
    daemon.push();
    set(&daemon, "runsc", |runtime| runtime.ends_with = Some(2));
    daemon.start();
    daemon.wait("bee is blocked", || (daemon.reason("bee") == "Blocked").then_some(()));
    let status = daemon.status();
    let message = &condition(&shown(&status, "bee").unwrap().conditions, ConditionKind::Ready).message;
    assert!(message.starts_with("runtime-fails: the runtime runsc cannot start anything"), "{message}");
    assert!(message.contains("exit code 2") && message.contains("no weaker runtime"), "{message}");
    daemon.wait("ant runs", || (daemon.state("tenantd-ant") == "running").then_some(()));
    // No commit is blamed, however often it is tried.
    assert!(daemon.records().iter().all(|record| !matches!(record.entry, tenantd::model::Entry::Bad { .. })));
    let creates = || daemon.engine.calls().iter().filter(|call| call.to_string().contains("name=tenantd-bee")).count();
    let before = creates();
    daemon.ask(&["reconcile"]).with(0);
    daemon.wait("bee is blocked still", || (daemon.reason("bee") == "Blocked").then_some(()));
    assert_eq!(creates(), before, "nothing of it is tried");
    // A connection that was made anew has everything tested anew.
    set(&daemon, "runsc", |runtime| runtime.ends_with = None);
    daemon.engine.end_event_streams();
    daemon.settled();
    assert_eq!(daemon.state("tenantd-bee"), "running");
    daemon.proved();
    assert!(is_clean(&daemon));
}
