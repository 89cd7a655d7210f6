//! What keeps a tenant from being made as declared: said, with what to do, and nothing is touched.

use std::{collections::BTreeMap, fs, os::unix::fs::symlink};

use serde_json::{Value, json};
use tenantd::{
    model::{
        Access, Desired, Expose, RuntimeClass, Tenant,
        host::{Domain, Ingress},
        plan::Blocked,
    },
    plan,
};
use tenantd_test_support::Image;

use crate::world::{IMAGE, Run, World, fleet, named, tenant, text};

/// Why a tenant is blocked in this plan.
fn blocked<'a>(run: &'a Run, name: &str) -> &'a Blocked {
    let blocked = run.plan.blocked().find(|(tenant, _)| *tenant == name).map(|(_, blocked)| blocked);
    blocked.unwrap_or_else(|| panic!("{name} is not blocked:\n{}", text(&run.plan)))
}

/// Applies to a world in which `ant` is blocked: of it nothing is made and nothing of others is
/// touched, and `bee` converges beside it.
fn blocks_ant(world: &World, ant: Tenant) -> Run {
    let without = world.engine.dump();
    let run = world.apply(&fleet([ant]));
    assert_eq!(run.steps, [], "{}", text(&run.plan));
    assert_eq!(world.engine.dump(), without, "{}", text(&run.plan));
    let ant = run.plan.tenants.iter().find(|plan| plan.tenant == "ant").unwrap();
    assert!(ant.blocked.is_some() && ant.steps.is_empty());
    run
}

#[test]
fn a_container_of_somebody_else_under_our_name_is_never_touched() {
    let world = World::new();
    let foreign = world.foreign("tenantd-ant", "bridge");
    let run = blocks_ant(&world, tenant("ant"));
    let Blocked { code, reason, help } = blocked(&run, "ant");
    let short = &foreign[..12];
    assert_eq!(code.as_str(), "name-taken");
    assert_eq!(*reason, format!("the container tenantd-ant ({short}) exists and does not carry this tenant's label"));
    assert!(help.contains(&format!("docker rename {short} other-name")), "{help}");

    // Resolved as the help says, the tenant converges and the other container lives on.
    world.act("POST", &format!("/containers/{foreign}/rename?name=other-name"), Value::Null);
    world.converge(&named(&["ant"]));
    assert_eq!((world.id("other-name"), world.state("other-name")), (foreign, "running".into()));
}

#[test]
fn a_container_with_our_name_and_another_tenants_label_blocks_as_well() {
    let world = World::new();
    let body = json!({"Image": IMAGE, "Labels": {"io.tenantd.tenant": "bee"}});
    world.act("POST", "/containers/create?name=tenantd-ant", body);
    let run = world.apply(&named(&["ant", "bee"]));
    assert_eq!(blocked(&run, "ant").code.as_str(), "name-taken");
    // It is bee's by its label, and one more than bee declares.
    world.converge(&named(&["ant", "bee"]));
}

#[test]
fn a_network_of_somebody_else_under_our_name_is_never_touched() {
    let world = World::new();
    world.act("POST", "/networks/create", json!({"Name": "tenantd-ant"}));
    world.foreign("web", "tenantd-ant");
    let run = blocks_ant(&world, tenant("ant"));
    let Blocked { code, reason, help } = blocked(&run, "ant");
    assert_eq!(code.as_str(), "name-taken");
    assert!(reason.starts_with("the network tenantd-ant ("), "{reason}");
    assert!(help.contains("docker network rm"), "{help}");
}

#[test]
fn a_foreign_container_under_the_replacements_name_lives_through_the_replacement() {
    let world = World::new();
    world.converge(&named(&["ant"]));
    let foreign = world.foreign("tenantd-ant.new", "bridge");
    let changed = fleet([Tenant { command: Some(vec!["/serve".to_owned()]), ..tenant("ant") }]);
    world.converge(&changed);
    assert_eq!((world.id("tenantd-ant.new"), world.state("tenantd-ant.new")), (foreign, "running".into()));
}

#[test]
fn a_class_that_the_host_does_not_offer_gets_no_weaker_one() {
    let world = World::new();
    let run = blocks_ant(&world, Tenant { class: RuntimeClass::Microvm, ..tenant("ant") });
    let Blocked { code, reason, help } = blocked(&run, "ant");
    assert_eq!(code.as_str(), "runtime-not-offered");
    assert_eq!(reason, "this host offers no runtime of the class microvm");
    assert!(help.contains("no weaker class is used"), "{help}");
}

#[test]
fn a_runtime_that_the_engine_has_not_registered_gets_no_weaker_one() {
    let world = World::new();
    world.engine.with(|state| state.options.runtimes.retain(|runtime| runtime.name == "runc"));
    let run = blocks_ant(&world, Tenant { class: RuntimeClass::Gvisor, ..tenant("ant") });
    let Blocked { code, reason, help } = blocked(&run, "ant");
    assert_eq!(code.as_str(), "runtime-not-registered");
    assert!(reason.contains("has not registered the runtime runsc"), "{reason}");
    assert!(help.contains("(it has: runc)"), "{help}");
}

#[test]
fn a_data_root_that_begins_as_the_engines_own_blocks_and_says_what_to_change() {
    let mut world = World::new();
    let data_root = world.host.data_root.display().to_string();
    let shared = tempfile::Builder::new().prefix("shared").tempdir().unwrap();
    world.host.sources.insert("docs".to_owned(), shared.path().to_owned());
    for (root, ant, what) in [
        (data_root.strip_suffix('a').unwrap().to_owned(), tenant("ant"), "another dataRoot"),
        (data_root.clone(), tenant("ant"), "another dataRoot"),
        (
            format!("{}-of-the-engine", shared.path().display()),
            Tenant { source: Some("docs".to_owned()), ..tenant("ant") },
            "another folder under sources",
        ),
    ] {
        world.engine.with(|state| state.options.root.clone_from(&root));
        let run = blocks_ant(&world, ant.clone());
        let Blocked { code, reason, help } = blocked(&run, "ant");
        assert_eq!(code.as_str(), "mount-refused");
        assert!(reason.contains(&root) && help.contains(what), "{reason}; {help}");
        // What was made before goes on, and is repaired where nothing is made anew.
        world.engine.with(|state| state.options.root = "/var/lib/docker".to_owned());
        world.converge(&fleet([ant.clone()]));
        world.engine.with(|state| state.options.root.clone_from(&root));
        world.act("POST", "/containers/tenantd-ant/pause", Value::Null);
        world.converge(&fleet([ant]));
        world.converge(&fleet([]));
    }
}

#[test]
fn an_image_that_is_not_there_blocks_a_first_run_and_not_what_runs() {
    let world = World::new();
    let run = blocks_ant(&world, Tenant { image: "tenantd/none:1".parse().unwrap(), ..tenant("ant") });
    assert_eq!(blocked(&run, "ant").code.as_str(), "image-missing");

    // One that runs goes on without its image, and its limits are still healed.
    world.converge(&named(&["ant"]));
    world.engine.with(|state| state.options.images.clear());
    assert!(world.plan(&named(&["ant"])).is_empty());
    world.act("POST", "/containers/tenantd-ant/update", json!({"PidsLimit": 4096}));
    let id = world.id("tenantd-ant");
    world.converge(&named(&["ant"]));
    assert_eq!(world.id("tenantd-ant"), id);
}

#[test]
fn an_image_with_volumes_is_refused() {
    let world = World::new();
    let config = json!({"Cmd": ["/serve"], "Volumes": {"/var/lib/data": {}, "/cache": {}}});
    world.engine.with(|state| state.options.images.push(Image { config, ..Image::new("tenantd/data:1") }));
    let run = blocks_ant(&world, Tenant { image: "tenantd/data:1".parse().unwrap(), ..tenant("ant") });
    let Blocked { code, reason, .. } = blocked(&run, "ant");
    assert_eq!(code.as_str(), "image-volumes");
    assert!(reason.contains("(/cache, /var/lib/data)"), "{reason}");
}

#[test]
fn no_commit_goes_above_the_hosts_ceilings() {
    let mut world = World::new();
    world.host.ceilings.cpus = Some("0.5".parse().unwrap());
    world.host.ceilings.memory = Some("128MiB".parse().unwrap());
    world.host.ceilings.pids = Some("64".parse().unwrap());
    world.host.ceilings.disk = Some("1GiB".parse().unwrap());
    world.converge(&named(&["bee"]));
    for (what, change) in [
        ("cpus 0.75", (|ant: &mut Tenant| ant.limits.cpus = "0.75".parse().unwrap()) as fn(&mut Tenant)),
        ("memory 129MiB", |ant| ant.limits.memory = "129MiB".parse().unwrap()),
        ("pids 65", |ant| ant.limits.pids = "65".parse().unwrap()),
        ("disk 2GiB", |ant| ant.limits.disk = "2GiB".parse().unwrap()),
    ] {
        let mut ant = tenant("ant");
        change(&mut ant);
        let run = world.apply(&fleet([ant, tenant("bee")]));
        let Blocked { code, reason, .. } = blocked(&run, "ant");
        assert_eq!(code.as_str(), "above-ceiling");
        assert!(reason.starts_with(what), "{reason}");
        assert_eq!(world.state("tenantd-ant"), "");
    }
}

#[test]
fn no_commit_lets_in_more_than_the_host() {
    let mut world = World::new();
    let exposes =
        |access: Access| Tenant { expose: BTreeMap::from([(8080, Expose::default())]), access, ..tenant("ant") };
    let planned = |world: &World, access: Access| {
        let desired = fleet([exposes(access)]);
        let plan = world.plan(&desired);
        let (host, seen) = world.snapshot().view(&desired);
        assert_eq!(text(&plan::plan(&desired, &host, &seen)), text(&plan), "a snapshot has what the plan needs");
        (plan.blocked().next().map(|(_, blocked)| blocked.code.as_str()), text(&plan))
    };
    let domain: Domain = "agents.example.com".parse().unwrap();
    world.host.ingress = Some(Ingress::new(vec!["127.0.0.1:8080".parse().unwrap()], domain));
    assert_eq!(planned(&world, Access::Public).0, Some("access-not-allowed"));
    let run = blocks_ant(&world, exposes(Access::Public));
    let Blocked { reason, help, .. } = blocked(&run, "ant");
    assert_eq!(reason, "the access to its ports is public, and host.yaml says ingress.access: token");
    assert!(help.starts_with("write access: token in the tenant's file"), "{help}");
    // Where nothing is exposed, nobody is let in.
    assert_eq!(world.plan(&fleet([Tenant { access: Access::Public, ..tenant("ant") }])).blocked().count(), 0);

    // There is no gateway, so that no link can be made: that is another obstacle.
    world.host.ingress.as_mut().unwrap().access = Access::Public;
    let (code, plan) = planned(&world, Access::Public);
    assert!(code != Some("access-not-allowed") && !plan.contains("exposed to nobody"), "{plan}");
    world.host.ingress = None;
    let (code, plan) = planned(&world, Access::Public);
    let note = "Note: ant: its ports are exposed to nobody, as this host has no ingress";
    assert!(code != Some("access-not-allowed") && plan.contains(note), "{plan}");
}

#[test]
fn a_full_pool_blocks_who_comes_last_and_moves_nobody() {
    let mut world = World::new();
    world.host.pool = "10.77.0.0/27".parse().unwrap();
    world.converge(&named(&["bee", "cat"]));
    let before = (world.ids(), world.network_ids());
    let run = world.apply(&named(&["ant", "bee", "cat"]));
    let Blocked { code, reason, .. } = blocked(&run, "ant");
    assert_eq!((code.as_str(), reason.as_str()), ("pool-exhausted", "no free subnet of /28 is left in 10.77.0.0/27"));
    assert_eq!((world.ids(), world.network_ids()), before);
    world.converge(&named(&["bee"]));
    world.converge(&named(&["ant", "bee"]));
}

#[test]
fn addresses_that_another_network_has_are_passed_over() {
    let mut world = World::new();
    world.host.pool = "10.77.0.0/26".parse().unwrap();
    let ipam = json!({"Config": [{"Subnet": "10.77.0.0/27"}]});
    world.act("POST", "/networks/create", json!({"Name": "office", "IPAM": ipam}));
    world.converge(&named(&["ant", "bee"]));
    let subnets: Vec<Value> = world
        .engine
        .networks()
        .iter()
        .filter(|doc| doc["Name"].as_str().is_some_and(|name| name.starts_with("tenantd-")))
        .map(|doc| doc["IPAM"]["Config"][0]["Subnet"].clone())
        .collect();
    assert_eq!(subnets.len(), 2);
    assert!(subnets.iter().all(|subnet| ["10.77.0.32/28", "10.77.0.48/28"].contains(&subnet.as_str().unwrap())));
}

#[test]
fn a_workspace_that_is_a_link_or_a_file_is_never_followed() {
    let cases: [fn(&World); 2] = [
        |world| symlink(world.folder(), world.workspace("ant")).unwrap(),
        |world| fs::write(world.workspace("ant"), "not a folder").unwrap(),
    ];
    for put in cases {
        let world = World::new();
        fs::create_dir_all(world.host.data_root.join("workspaces")).unwrap();
        put(&world);
        let kind = fs::symlink_metadata(world.workspace("ant")).unwrap().file_type();
        let run = blocks_ant(&world, tenant("ant"));
        let Blocked { code, reason, .. } = blocked(&run, "ant");
        assert_eq!(code.as_str(), "workspace-not-a-folder");
        assert_eq!(*reason, format!("{} is not a folder", world.workspace("ant").display()));
        assert_eq!(fs::symlink_metadata(world.workspace("ant")).unwrap().file_type(), kind);
    }
}

#[test]
fn what_weakens_a_blocked_tenant_is_contained_and_nothing_else_of_it_changes() {
    let world = World::new();
    world.converge(&named(&["ant", "bee"]));
    let id = world.id("tenantd-ant");
    world.tamper("tenantd-ant", |doc| doc["HostConfig"]["Privileged"] = true.into());
    world.act("POST", "/networks/create", json!({"Name": "shared"}));
    world.act("POST", "/networks/shared/connect", json!({"Container": "tenantd-ant"}));
    world.engine.with(|state| state.options.images.clear());

    let desired: Desired = named(&["ant", "bee"]);
    let run = world.apply(&desired);
    assert_eq!(blocked(&run, "ant").code.as_str(), "image-missing");
    assert_eq!(run.failures(), Vec::<String>::new());
    assert_eq!((world.id("tenantd-ant"), world.state("tenantd-ant")), (id, "paused".into()));
    let endpoints = |state: &mut tenantd_test_support::State| {
        let doc = state.container("tenantd-ant").unwrap();
        doc["NetworkSettings"]["Networks"].as_object().unwrap().keys().cloned().collect::<Vec<_>>()
    };
    assert_eq!(world.engine.with(endpoints), ["tenantd-ant"]);
    let next = world.plan(&desired);
    assert!(next.is_empty(), "it is contained once: {}", text(&next));

    // With the image back, the tenant is made good.
    world.engine.with(|state| state.options.images.push(Image::new(IMAGE)));
    world.converge(&desired);
    assert_eq!(world.state("tenantd-ant"), "running");
}
