//! Plans that once were wrong, or that could easily become so.

use std::{fs, os::unix::fs::PermissionsExt, path::PathBuf};

use serde_json::{Value, json};
use tenantd::model::{Bytes, RuntimeClass, Step, TENANT_LABEL, Tenant};
use tenantd_test_support::Image;

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
        let mut taken = steps(&run, "ant");
        // What can be lowered in place does not wait for the new container.
        if class.changes_live() {
            assert_eq!(taken.remove(0), "update");
        }
        assert_eq!(taken, ["create-container", "stop", "remove", "rename", "start"], "{shown}");
    }
}

#[test]
fn what_weakens_is_contained_also_where_a_commit_comes_with_it() {
    let world = World::new();
    world.converge(&named(&["ant"]));
    world.tamper("tenantd-ant", |doc| doc["HostConfig"]["Privileged"] = true.into());
    let changed = Tenant { command: Some(vec!["/serve".to_owned()]), ..tenant("ant") };
    let run = world.converge(&fleet([changed]));
    assert_eq!(steps(&run, "ant"), ["pause", "create-container", "remove", "rename", "start"]);
}

#[test]
fn logs_are_compressed_where_the_policy_says_so_and_there_is_a_second_file() {
    let world = World::new();
    world.converge(&named(&["ant", "bee"]));
    let compressed = |name: &str, files: u32| {
        let mut tenant = tenant(name);
        (tenant.sandbox.log_compress, tenant.sandbox.log_files) = (true, files);
        tenant
    };
    // The engine refuses to compress where one file is kept.
    let run = world.converge(&fleet([compressed("ant", 3), compressed("bee", 1)]));
    let shown = text(&run.plan);
    assert!(shown.contains("log_options") && !shown.contains("drift"), "{shown}");
    let option = |name: &str| {
        let config = "/HostConfig/LogConfig/Config/compress";
        world.engine.with(|state| state.container(name).unwrap().pointer(config).cloned().unwrap_or_default())
    };
    assert_eq!((option("tenantd-ant"), option("tenantd-bee")), (json!("true"), Value::Null));
}

#[test]
fn processor_time_that_goes_before_all_others_is_contained_and_taken_away() {
    let world = World::new();
    world.converge(&named(&["ant"]));
    // What `docker update --cpu-rt-runtime` does to a container that runs.
    world.tamper("tenantd-ant", |doc| doc["HostConfig"]["CpuRealtimeRuntime"] = 950_000.into());
    let run = world.converge(&named(&["ant"]));
    assert_eq!(steps(&run, "ant"), ["pause", "create-container", "remove", "rename", "start"]);
    let shown = text(&run.plan);
    assert!(shown.contains("cpu_realtime_runtime") && shown.contains("950000 -> 0"), "{shown}");
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

/// A tenant with an image that has these variables and this working directory.
fn with_image(world: &World, number: usize, variables: &[&str], working_dir: &str) -> Tenant {
    let reference = format!("tenantd/home:{number}");
    let config = json!({"Cmd": ["/sleep"], "Env": variables, "WorkingDir": working_dir});
    world.engine.with(|state| state.tag_image(Image { config, ..Image::new(&reference) }));
    Tenant { image: reference.parse().unwrap(), ..tenant("ant") }
}

/// The variables and the working directory of a container.
fn home_and_place(world: &World) -> (Vec<String>, String) {
    world.engine.with(|state| {
        let config = &state.container("tenantd-ant").unwrap()["Config"];
        let variables = config["Env"].as_array().unwrap().iter().map(|entry| entry.as_str().unwrap().to_owned());
        let home = variables.filter(|entry| entry.starts_with("HOME=")).collect();
        (home, config["WorkingDir"].as_str().unwrap().to_owned())
    })
}

#[test]
fn a_tenant_is_at_home_and_works_where_it_can_write_and_none_is_replaced_for_it() {
    let world = World::new();
    let cases: [(&[&str], &str, &str, &str); 7] = [
        (&["PATH=/bin"], "", "HOME=/workspace", "/workspace"),
        (&["PATH=/bin", "HOME=/root"], "", "HOME=/workspace", "/workspace"),
        (&["PATH=/bin", "HOME=/home/node"], "/app", "HOME=/workspace", "/app"),
        (&["HOME=/workspace/me", "PATH=/bin"], "/", "HOME=/workspace/me", "/"),
        (&["PATH=/bin", "HOME=/tmp"], "", "HOME=/tmp", "/workspace"),
        (&["HOME=/workspace/../etc"], "/tmp", "HOME=/workspace", "/tmp"),
        (&[], "/workspace", "HOME=/workspace", "/workspace"),
    ];
    for (number, (variables, working_dir, home, place)) in cases.into_iter().enumerate() {
        let ant = with_image(&world, number, variables, working_dir);
        world.converge(&fleet([ant.clone()]));
        assert_eq!(home_and_place(&world), (vec![home.to_owned()], place.to_owned()), "{variables:?} {working_dir:?}");

        // As it was made before tenants got a home: it stays as it is.
        let id = world.id("tenantd-ant");
        let own: Vec<&str> = variables.iter().copied().filter(|entry| entry.starts_with("HOME=")).collect();
        let as_before = |world: &World| {
            world.tamper("tenantd-ant", |doc| {
                let config = &mut doc["Config"];
                let entries = config["Env"].as_array_mut().unwrap();
                entries.retain(|entry| !entry.as_str().unwrap().starts_with("HOME="));
                entries.extend(own.iter().map(|entry| json!(entry)));
                config["WorkingDir"] = working_dir.into();
            });
        };
        as_before(&world);
        let kept = home_and_place(&world);
        let plan = world.plan(&fleet([ant.clone()]));
        assert!(plan.is_empty(), "{}", text(&plan));
        // Nor is it replaced by what can be changed while it runs.
        let mut more = ant.clone();
        more.limits.memory = Bytes::mib(256);
        world.converge(&fleet([more.clone()]));
        assert_eq!((world.id("tenantd-ant"), home_and_place(&world)), (id.clone(), kept));
        // With its replacement it gets both.
        more.environment.insert("A".to_owned(), "b".to_owned());
        world.converge(&fleet([more.clone()]));
        assert_ne!(world.id("tenantd-ant"), id);
        assert_eq!(home_and_place(&world), (vec![home.to_owned()], place.to_owned()));
        // Any other home or place is drift.
        for (key, value) in [("Env", json!(["HOME=/elsewhere"])), ("WorkingDir", json!("/elsewhere"))] {
            world.tamper("tenantd-ant", |doc| doc["Config"][key] = value);
            assert!(!world.plan(&fleet([more.clone()])).is_empty(), "{key}");
            world.converge(&fleet([more.clone()]));
        }
    }
}

#[test]
fn a_home_that_a_tenant_declares_is_its_own() {
    let world = World::new();
    let mut ant = with_image(&world, 0, &["HOME=/root"], "");
    ant.environment.insert("HOME".to_owned(), "/opt/app".to_owned());
    world.converge(&fleet([ant]));
    assert_eq!(home_and_place(&world), (vec!["HOME=/opt/app".to_owned()], "/workspace".to_owned()));
}

/// Tampers with what a container has at /run/tenantd, by what the engine shows of each mount there.
fn tamper_provided(world: &World, change: impl Fn(&mut Vec<Value>)) {
    world.tamper("tenantd-ant", |doc| change(doc["Mounts"].as_array_mut().unwrap()));
}

/// What a container has at /run/tenantd: source, and whether it can be written.
fn provided(world: &World) -> Option<(PathBuf, bool)> {
    let mounts = world.engine.with(|state| state.container("tenantd-ant").unwrap()["Mounts"].clone());
    let mount = mounts.as_array().unwrap().iter().find(|mount| mount["Destination"] == "/run/tenantd")?;
    Some((mount["Source"].as_str().unwrap().into(), mount["RW"].as_bool().unwrap()))
}

#[test]
fn what_tenantd_brings_along_is_given_at_the_next_replacement_and_replaces_nobody() {
    let world = World::new();
    for class in [RuntimeClass::Container, RuntimeClass::Gvisor] {
        let ant = Tenant { class, ..tenant("ant") };
        world.converge(&fleet([ant.clone()]));
        let folder = world.host.provided();
        assert_eq!(provided(&world), Some((folder.clone(), false)));
        assert_eq!(fs::metadata(&folder).unwrap().permissions().mode() & 0o7777, 0o755);

        // As it was made before there was that: it stays as it is.
        let id = world.id("tenantd-ant");
        let without = |world: &World| {
            tamper_provided(world, |mounts| mounts.retain(|mount| mount["Destination"] != "/run/tenantd"));
        };
        without(&world);
        assert_eq!(provided(&world), None);
        let plan = world.plan(&fleet([ant.clone()]));
        assert!(plan.is_empty(), "{}", text(&plan));
        if class.changes_live() {
            let mut more = ant.clone();
            more.limits.memory = Bytes::mib(256);
            world.converge(&fleet([more]));
            world.converge(&fleet([ant.clone()]));
            assert_eq!((world.id("tenantd-ant"), provided(&world)), (id.clone(), None));
        }
        // With another drift, which does not weaken, it is replaced: that weakens nothing either, so nobody is paused.
        world.tamper("tenantd-ant", |doc| doc["Config"]["Hostname"] = "other".into());
        let run = world.converge(&fleet([ant.clone()]));
        assert!(!steps(&run, "ant").contains(&"pause".to_owned()), "{}", text(&run.plan));
        assert_ne!(world.id("tenantd-ant"), id);
        assert_eq!(provided(&world), Some((folder.clone(), false)));

        // Whatever else is there is drift that weakens, and so is a folder that can be written.
        let others: [(&str, Value); 3] = [("RW", json!(true)), ("Source", json!("/etc")), ("Type", json!("volume"))];
        for (key, value) in others {
            let set = |mounts: &mut Vec<Value>| {
                let mount = mounts.iter_mut().find(|mount| mount["Destination"] == "/run/tenantd").unwrap();
                mount[key] = value.clone();
            };
            tamper_provided(&world, set);
            let run = world.converge(&fleet([ant.clone()]));
            assert!(text(&run.plan).contains("drift, weakens isolation"), "{key}: {}", text(&run.plan));
            assert_eq!(steps(&run, "ant")[0], "pause", "{key}");
            assert_eq!(provided(&world), Some((folder.clone(), false)));
        }
        // Beside another mount that nobody declared, the missing one hides nothing.
        without(&world);
        tamper_provided(&world, |mounts| {
            let mut other = mounts[0].clone();
            other["Destination"] = "/host".into();
            mounts.push(other);
        });
        let run = world.converge(&fleet([ant.clone()]));
        assert_eq!(steps(&run, "ant")[0], "pause", "{}", text(&run.plan));
    }
}
