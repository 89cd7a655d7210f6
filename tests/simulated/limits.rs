//! An engine that drops a limit: never a weaker sandbox.

use std::sync::Arc;

use tenantd_test_support::{Limits, Options};

use crate::world::{World, named};

#[test]
fn a_limit_that_the_engine_cannot_enforce_blocks_before_anything_is_made() {
    let cases: [(&str, Limits); 4] = [
        ("memory", Limits { memory: false, ..Limits::default() }),
        ("swap", Limits { swap: false, ..Limits::default() }),
        ("pids", Limits { pids: false, ..Limits::default() }),
        ("cpus", Limits { cpu: false, ..Limits::default() }),
    ];
    for (name, limits) in cases {
        let world = World::of(Options { limits, ..Options::default() });
        let run = world.apply(&named(&["ant", "bee"]));
        for tenant in ["ant", "bee"] {
            let blocked = run.plan.blocked().find(|(blocked, _)| *blocked == tenant).map(|(_, blocked)| blocked);
            let blocked = blocked.unwrap_or_else(|| panic!("{name}: {tenant} is not blocked"));
            assert_eq!(blocked.code.as_str(), "limit-unsupported");
            assert_eq!(blocked.reason, format!("the engine cannot enforce a limit on {name}"));
        }
        assert_eq!(world.engine.mutations(), 0, "{name}");
        assert!(!world.host.data_root.exists(), "{name}: no folder is made either");
    }
}

#[test]
fn a_limit_that_is_dropped_at_create_against_the_engines_word_removes_the_container_again() {
    let cases: [(Limits, &str); 3] = [
        (Limits { memory: false, ..Limits::default() }, "memory is 0 where 134217728 was declared"),
        (Limits { swap: false, ..Limits::default() }, "memory_swap is -1 where 134217728 was declared"),
        (Limits { pids: false, ..Limits::default() }, "pids_limit is 0 where 64 was declared"),
    ];
    for (limits, expected) in cases {
        let world = World::new();
        world.converge(&named(&["bee"]));
        let bystander = world.id("tenantd-bee");
        let plan = world.plan(&named(&["ant", "bee"]));
        // /info said that all limits are there; the kernel that creates has one less.
        world.engine.with(|state| state.options.limits = limits);
        let run = world.carry_out(plan).unwrap();
        let reason = "the engine did not keep to what was declared, so the container was removed again";
        assert_eq!(run.failures(), [format!("ant: {reason}: {expected}")]);
        assert_eq!(world.state("tenantd-ant"), "", "it was never started");
        assert_eq!(world.id("tenantd-bee"), bystander);
    }
}

#[test]
fn a_limit_that_is_dropped_at_a_replacement_leaves_the_old_container_in_place() {
    let world = World::new();
    world.converge(&named(&["ant"]));
    let old = world.id("tenantd-ant");
    let mut desired = named(&["ant"]);
    for tenant in desired.tenants.values_mut().map(Arc::make_mut) {
        tenant.command = Some(vec!["/serve".to_owned()]);
    }
    let plan = world.plan(&desired);
    world.engine.with(|state| state.options.limits.pids = false);
    let run = world.carry_out(plan).unwrap();
    assert_eq!(run.failures().len(), 1, "{:?}", run.failures());
    assert_eq!((world.id("tenantd-ant"), world.state("tenantd-ant")), (old, "running".into()));
    assert_eq!(world.ids()["ant"].len(), 1, "the replacement is gone again");
}

#[test]
fn a_warning_that_something_was_left_out_removes_the_container_again() {
    for (warning, is_kept) in [
        ("Your kernel does not support Block I/O weight or the cgroup is not mounted. Weight discarded.", false),
        ("IPv4 forwarding is disabled. Networking will not work.", true),
    ] {
        let world = World::of(Options { create_warnings: vec![warning.to_owned()], ..Options::default() });
        let run = world.apply(&named(&["ant"]));
        assert_eq!(run.failures().is_empty(), is_kept, "{:?}", run.failures());
        assert!(is_kept || run.failures().iter().any(|failure| failure.contains(warning)), "{:?}", run.failures());
        assert_eq!(world.state("tenantd-ant"), if is_kept { "running" } else { "" });
    }
}

#[test]
fn an_engine_without_a_system_call_filter_is_refused() {
    let world = World::of(Options { seccomp: false, ..Options::default() });
    let run = world.apply(&named(&["ant"]));
    assert_eq!(run.plan.blocked().map(|(_, b)| b.code.as_str()).collect::<Vec<_>>(), ["seccomp-unsupported"]);
    assert_eq!(world.engine.mutations(), 0);
}
