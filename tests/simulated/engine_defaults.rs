//! What the engine's own configuration adds is neither drift nor an obstacle; what weakens blocks and pauses nobody.

use std::{
    fs,
    os::unix::fs::{MetadataExt, lchown, symlink},
    path::Path,
};

use serde_json::{Value, json};
use tenantd::model::{PlannedStep, RuntimeClass, Step, Tenant, plan::Blocked};
use tenantd_test_support::{Call, Options, State};

use crate::world::{Run, World, fleet, named, tenant, text};

fn limit(name: &str, hard: i64) -> Value {
    json!({"Name": name, "Soft": hard, "Hard": hard})
}

/// Restarts the engine with another configuration; containers live on.
fn configure(world: &World, change: impl FnOnce(&mut Options)) {
    world.engine.with(|state| change(&mut state.options));
}

fn blocked<'a>(run: &'a Run, name: &str) -> &'a Blocked {
    let blocked = run.plan.blocked().find(|(tenant, _)| *tenant == name).map(|(_, blocked)| blocked);
    blocked.unwrap_or_else(|| panic!("{name} is not blocked:\n{}", text(&run.plan)))
}

fn of_container(world: &World, name: &str, pointer: &str) -> Value {
    world.engine.with(|state| state.container(name).unwrap().pointer(pointer).cloned().unwrap_or_default())
}

/// No container is left that was made to be inspected.
fn no_sample(world: &World) {
    let samples = |state: &mut State| {
        let all = state.containers().filter(|doc| doc["Config"]["Labels"]["io.tenantd.sample"].is_string());
        all.count()
    };
    assert_eq!(world.engine.with(samples), 0);
}

#[test]
fn limits_of_the_engine_are_no_drift_of_what_runs_and_no_obstacle_for_what_comes() {
    let world = World::new();
    world.converge(&named(&["ant", "bee"]));
    let (ids, calm) = (world.ids(), world.engine.mutations());
    assert!(world.plan(&named(&["ant", "bee"])).is_empty());
    assert_eq!(world.engine.mutations(), calm, "nothing is made to be inspected where nothing is unexplained");
    configure(&world, |options| options.default_ulimits = vec![limit("nproc", 4096), limit("memlock", -1)]);
    for desired in [named(&["ant", "bee"]), named(&["ant", "bee", "cat"])] {
        world.converge(&desired);
        assert!(world.survey(&desired, 1).is_empty());
    }
    assert_eq!(world.ids()["ant"], ids["ant"]);
    assert_eq!(world.ids()["bee"], ids["bee"]);

    // A replacement works, drift is found beside it, and taking the setting back changes nobody either.
    let mut changed = fleet([Tenant { command: Some(vec!["/serve".to_owned()]), ..tenant("ant") }, tenant("bee")]);
    world.converge(&changed);
    world.act("POST", "/containers/tenantd-bee/update", json!({"PidsLimit": 4096}));
    let run = world.converge(&changed);
    assert!(matches!(&*run.steps, [(_, Step::Update { .. })]), "{:?}", run.steps);
    let ids = world.ids();
    configure(&world, |options| options.default_ulimits = vec![limit("nproc", 64)]);
    world.converge(&changed);
    configure(&world, |options| options.default_ulimits.clear());
    world.converge(&changed);
    assert_eq!(world.ids(), ids);
    changed.tenants.clear();
    world.apply(&changed);
    no_sample(&world);
}

#[test]
fn a_limit_that_somebody_gave_a_container_is_drift_with_and_without_limits_of_the_engine() {
    for defaults in [vec![], vec![limit("memlock", -1)], vec![limit("nproc", 4096)]] {
        let world = World::of(Options { default_ulimits: defaults, ..Options::default() });
        world.converge(&named(&["ant", "bee"]));
        let ids = world.ids();
        world.tamper("tenantd-ant", |doc| {
            doc["HostConfig"]["Ulimits"].as_array_mut().unwrap().push(limit("nproc", 100_000));
        });
        for plan in [world.plan(&named(&["ant", "bee"])), world.survey(&named(&["ant", "bee"]), 1)] {
            assert!(text(&plan).contains("ulimits"), "{}", text(&plan));
            assert!(plan.tenants.iter().all(|one| one.tenant == "ant" || !one.will_change()), "{}", text(&plan));
            let contain = &plan.tenants.iter().find(|one| one.tenant == "ant").unwrap().contain;
            assert!(matches!(&**contain, [PlannedStep { step: Step::Pause { .. }, .. }]), "it weakens: {contain:?}");
        }
        world.converge(&named(&["ant", "bee"]));
        assert_ne!(world.ids()["ant"], ids["ant"]);
        assert_eq!(world.ids()["bee"], ids["bee"]);
        no_sample(&world);
    }
}

#[test]
fn limits_that_weaken_block_by_name_and_pause_nobody() {
    let world = World::new();
    world.converge(&named(&["ant"]));
    configure(&world, |options| options.default_ulimits = vec![limit("nproc", 4096), limit("rtprio", 99)]);
    let before = world.engine.dump();
    let run = world.apply(&named(&["ant", "bee"]));
    for name in ["ant", "bee"] {
        let Blocked { code, reason, help } = blocked(&run, name);
        assert_eq!(code.as_str(), "engine-setting");
        assert!(reason.starts_with("default-ulimits in the engine's daemon.json gives"), "{reason}");
        assert!(reason.contains("rtprio=99:99") && help.contains("daemon.json"), "{reason} {help}");
    }
    assert_eq!((run.steps.len(), world.engine.dump()), (0, before));

    // What weakens beside is contained as before.
    world.tamper("tenantd-ant", |doc| doc["HostConfig"]["Privileged"] = true.into());
    world.apply(&named(&["ant", "bee"]));
    assert_eq!(world.state("tenantd-ant"), "paused");
    configure(&world, |options| options.default_ulimits.clear());
    world.converge(&named(&["ant", "bee"]));
}

#[test]
fn what_weakens_the_first_tenant_of_all_is_found_as_it_is_made() {
    let world = World::of(Options { default_ulimits: vec![limit("rtprio", 99)], ..Options::default() });
    let run = world.apply(&named(&["ant"]));
    let [failure] = &*run.failures() else { panic!("{:?}", run.failures()) };
    assert!(failure.contains("rtprio=99:99") && failure.contains("daemon.json"), "{failure}");
    assert!(run.applied.outcomes.iter().all(|one| !one.failure.as_ref().unwrap().is_of_start()));
    assert_eq!(world.state("tenantd-ant"), "");
}

#[test]
fn log_options_of_the_engine_stay_what_they_were_when_the_container_was_made() {
    let world = World::new();
    world.converge(&named(&["old"]));
    configure(&world, |options| options.log_options = json!({"compress": "true", "max-size": "1g"}));
    let desired = named(&["new", "old"]);
    world.converge(&desired);
    let old = world.ids();
    let config = "/HostConfig/LogConfig/Config";
    assert_eq!(of_container(&world, "tenantd-new", config)["compress"], "true");
    assert_eq!(of_container(&world, "tenantd-old", config)["compress"], Value::Null);
    assert_ne!(of_container(&world, "tenantd-new", config)["max-size"], "1g", "what is sent stays");
    // Another configuration changes nobody that is there.
    configure(&world, |options| options.log_options = json!({"tag": "x"}));
    world.converge(&desired);
    assert_eq!(world.ids(), old);
    // Somebody's option is drift.
    world.tamper("tenantd-old", |doc| doc["HostConfig"]["LogConfig"]["Config"]["compress"] = "true".into());
    let run = world.converge(&desired);
    assert!(run.steps.iter().all(|(name, _)| name == "old") && !run.steps.is_empty(), "{:?}", run.steps);
    assert_eq!(of_container(&world, "tenantd-old", config)["tag"], "x");
    no_sample(&world);
}

#[test]
fn what_the_engine_refuses_for_its_own_settings_names_them_and_is_no_commits_fault() {
    // Tenants end in any order.
    let is_of_start =
        |run: &Run| run.applied.outcomes.iter().find_map(|one| one.failure.as_ref()).unwrap().is_of_start();
    let world = World::of(Options { log_options: json!({"compress": "true"}), ..Options::default() });
    let mut ant = tenant("ant");
    ant.sandbox.log_files = 1;
    let run = world.apply(&fleet([ant.clone(), tenant("bee")]));
    let [failure] = &*run.failures() else { panic!("{:?}", run.failures()) };
    assert!(failure.starts_with("ant: log-opts in the engine's daemon.json gives"), "{failure}");
    assert_eq!(world.state("tenantd-bee"), "running");
    // What nothing can be made with, is not the declaration's fault either; what only this one meets is.
    configure(&world, |options| options.log_options = json!({}));
    world.engine.fail(|call| call.path == "/containers/create", 403, "authorization denied by plugin policy");
    let run = world.apply(&fleet([ant.clone()]));
    assert!(run.failures()[0].contains("authorization denied by plugin policy"), "{:?}", run.failures());
    assert!(!is_of_start(&run));
    world.engine.heal();
    let own = |call: &Call| call.path == "/containers/create" && call.query.contains("name=tenantd-ant");
    world.engine.fail(own, 400, "no such option");
    let run = world.apply(&fleet([ant]));
    assert!(is_of_start(&run));
    no_sample(&world);
}

#[test]
fn network_options_of_the_engine_are_kept_and_those_that_weaken_refused() {
    let world = World::of(Options {
        network_options: json!({"com.docker.network.driver.mtu": "1400"}),
        ..Options::engine("25.0")
    });
    world.converge(&named(&["ant", "bee"]));
    let networks = world.network_ids();
    configure(&world, |options| options.network_options = json!({"com.docker.network.driver.mtu": "1300"}));
    world.converge(&named(&["ant", "bee", "cat"]));
    assert_eq!(world.network_ids()["ant"], networks["ant"]);

    // One that weakens: who has a network keeps what it is, and nobody gets a new one.
    let routed = json!({"com.docker.network.bridge.gateway_mode_ipv4": "routed"});
    configure(&world, |options| options.network_options = routed);
    let run = world.apply(&named(&["ant", "bee", "cat", "dog"]));
    let [failure] = &*run.failures() else { panic!("{:?}", run.failures()) };
    assert!(failure.starts_with("dog: default-network-opts in the engine's daemon.json"), "{failure}");
    assert!(!world.network_ids().contains_key("dog"));
    world.converge(&named(&["ant", "bee", "cat"]));
    world.engine.with(|state| state.network_mut("tenantd-ant")["Options"]["mtu"] = "9".into());
    assert!(!world.plan(&named(&["ant", "bee", "cat"])).is_empty(), "somebody's option is drift");
}

#[test]
fn a_profile_of_system_calls_of_the_engines_own_blocks_unless_the_host_names_it() {
    const FILE: &str = "/etc/docker/seccomp.json";
    let mut world = World::new();
    world.converge(&named(&["ant"]));
    configure(&world, |options| options.seccomp_profile = Some(FILE.to_owned()));
    for accepted in [None, Some("/etc/docker/other.json")] {
        world.host.seccomp_profile = accepted.map(Into::into);
        let run = world.apply(&named(&["ant", "bee"]));
        let Blocked { code, reason, help } = blocked(&run, "ant");
        assert_eq!(code.as_str(), "engine-setting");
        assert!(reason.starts_with("seccomp-profile in the engine's daemon.json") && reason.contains(FILE), "{reason}");
        assert!(help.contains(&format!("seccompProfile: {FILE}")), "{help}");
        assert_eq!((world.state("tenantd-ant"), world.state("tenantd-bee")), ("running".to_owned(), String::new()));
    }
    world.host.seccomp_profile = Some(FILE.into());
    world.converge(&named(&["ant", "bee"]));
    for own in ["default", "builtin"] {
        world.host.seccomp_profile = None;
        configure(&world, |options| options.seccomp_profile = Some(own.to_owned()));
        world.converge(&named(&["ant", "bee"]));
    }
}

#[test]
fn an_engine_that_confines_by_selinux_blocks_by_name() {
    let world = World::of(Options { selinux: true, ..Options::default() });
    let run = world.apply(&named(&["ant"]));
    let Blocked { code, reason, .. } = blocked(&run, "ant");
    assert_eq!(code.as_str(), "engine-setting");
    assert!(reason.starts_with("selinux-enabled in the engine's daemon.json"), "{reason}");
    assert_eq!(world.engine.mutations(), 0);
}

#[test]
fn with_remapped_users_a_workspace_belongs_to_the_mapped_owner_and_changes_hands_with_all_that_is_its_owners() {
    let world = World::of(Options { userns: Some((231_072, 331_072)), ..Options::default() });
    world.converge(&named(&["ant"]));
    let folder = world.workspace("ant");
    let owner = |path: &Path| {
        let found = fs::symlink_metadata(path).unwrap();
        (found.uid(), found.gid())
    };
    assert_eq!(owner(&folder), (232_072, 332_072));
    let outside = world.folder().join("outside");
    fs::write(&outside, "").unwrap();
    let (made, link, rooted) = (folder.join("a/made"), folder.join("a/link"), folder.join("a/rooted"));
    fs::create_dir(folder.join("a")).unwrap();
    fs::write(&made, "text").unwrap();
    fs::write(&rooted, "text").unwrap();
    symlink(&outside, &link).unwrap();
    for path in [&folder.join("a"), &made, &link, &outside] {
        lchown(path, Some(232_072), Some(332_072)).unwrap();
    }
    // The engine keeps other data now, and has nothing of ours.
    let elsewhere = |userns| {
        world.act("DELETE", "/containers/tenantd-ant?force=1", Value::Null);
        world.act("DELETE", "/networks/tenantd-ant", Value::Null);
        configure(&world, |options| options.userns = userns);
        world.converge(&named(&["ant"]));
    };
    for (userns, proper) in [(None, (1000, 1000)), (Some((500_000, 600_000)), (501_000, 601_000))] {
        elsewhere(userns);
        for path in [&folder, &folder.join("a"), &made, &link] {
            assert_eq!(owner(path), proper, "{}", path.display());
        }
        assert_eq!(owner(&outside), (232_072, 332_072), "no link is followed");
        assert_eq!(owner(&rooted), (0, 0), "what is not the tenant's stays what it is");
    }
}

#[test]
fn classes_that_cannot_run_with_remapped_users_are_blocked_by_name() {
    let world = World::of(Options { userns: Some((231_072, 331_072)), ..Options::default() });
    let run = world.apply(&fleet([Tenant { class: RuntimeClass::Gvisor, ..tenant("ant") }, tenant("bee")]));
    let Blocked { code, reason, help } = blocked(&run, "ant");
    assert_eq!(code.as_str(), "runtime-not-remapped");
    assert!(reason.contains("userns-remap in the engine's daemon.json") && reason.contains("gvisor"), "{reason}");
    assert!(help.contains("no weaker class"), "{help}");
    assert_eq!((world.state("tenantd-ant"), world.state("tenantd-bee")), (String::new(), "running".to_owned()));
}

#[test]
fn without_a_sample_nobody_is_judged_by_limits_that_may_be_the_engines() {
    let world = World::new();
    world.converge(&named(&["ant", "bee"]));
    configure(&world, |options| options.default_ulimits = vec![limit("nproc", 4096)]);
    world.engine.fail(|call| call.path == "/containers/create", 500, "no space left on device");
    let before = world.engine.dump();
    for plan in [world.plan(&named(&["ant", "bee"])), world.survey(&named(&["ant", "bee"]), 1)] {
        let codes: Vec<&str> = plan.blocked().map(|(_, blocked)| blocked.code.as_str()).collect();
        assert_eq!(codes, ["unobserved", "unobserved"], "{}", text(&plan));
        assert!(plan.blocked().all(|(_, blocked)| blocked.reason.contains("daemon.json")), "{}", text(&plan));
        assert!(plan.tenants.iter().all(|one| one.contain.is_empty()), "{}", text(&plan));
    }
    assert_eq!(world.engine.dump(), before);
    world.engine.heal();
    assert!(world.plan(&named(&["ant", "bee"])).is_empty());
}
