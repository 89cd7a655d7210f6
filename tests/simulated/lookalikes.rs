//! Containers that have a tenant's labels from an image that somebody made of that tenant.

use serde_json::{Value, json};
use tenantd::model::{CREATION_LABEL, ImageRef, SPEC_LABEL, TENANT_LABEL, Tenant};
use tenantd_test_support::Image;

use crate::world::{World, fleet, named, tenant, text};

/// What `docker commit CONTAINER REFERENCE` makes.
pub fn commit(world: &World, container: &str, reference: &str) {
    world.engine.with(|state| {
        let config = state.container(container).unwrap()["Config"].clone();
        state.tag_image(Image { config, ..Image::new(reference) });
    });
}

/// `docker run -d --name NAME --network NETWORK IMAGE`, with further labels.
pub fn run(world: &World, name: &str, image: &str, network: &str, labels: Value) -> String {
    let body = json!({"Image": image, "Labels": labels, "HostConfig": {"NetworkMode": network}});
    world.act("POST", &format!("/containers/create?name={name}"), body);
    world.act("POST", &format!("/containers/{name}/start"), Value::Null);
    world.id(name)
}

fn label(world: &World, container: &str, name: &str) -> Option<String> {
    let labels = world.engine.with(|state| state.container(container).unwrap()["Config"]["Labels"].clone());
    labels[name].as_str().map(str::to_owned)
}

#[test]
fn what_was_run_of_a_commit_of_a_tenant_is_left_alone_but_for_tenants_networks() {
    let world = World::new();
    let desired = named(&["ant", "bee"]);
    world.converge(&desired);
    commit(&world, "tenantd-ant", "x:1");
    let labels = |tenant: &str| json!({TENANT_LABEL: tenant});
    for (name, network, more) in [
        ("mydebug", "bridge", json!({})),
        ("on-its-network", "tenantd-ant", json!({})),
        ("on-anothers", "tenantd-bee", json!({})),
        ("as-another", "tenantd-bee", labels("bee")),
        ("as-nobody", "bridge", labels("ghost")),
    ] {
        let id = run(&world, name, "x:1", network, more);
        let plan = world.plan(&desired);
        let planned = text(&plan);
        assert_eq!(plan, world.survey(&desired, 1), "{name}");
        assert!(name == "as-nobody" || planned.contains(&format!("the container {name} (")), "{planned}");
        let done = world.converge(&desired);
        let only_networks = done.steps.iter().all(|(_, step)| {
            let step = serde_json::to_value(step).unwrap();
            (&step["step"], &step["container"]) == (&json!("disconnect"), &json!(id))
        });
        assert_eq!((only_networks, done.steps.is_empty()), (true, network == "bridge"), "{name}: {planned}");
        assert_eq!((world.state(name).as_str(), world.id(name)), ("running", id), "{name}");
    }
    // The tenant's end is none of theirs.
    let done = world.converge(&named(&["bee"]));
    assert!(done.steps.iter().any(|(tenant, _)| tenant == "ant"));
    assert_eq!((world.state("mydebug"), world.state("tenantd-ant")), ("running".to_owned(), String::new()));
}

#[test]
fn a_commit_of_a_tenant_may_be_an_image_of_tenants() {
    let world = World::new();
    world.converge(&named(&["ant"]));
    let of = |name: &str, image: &str| Tenant { image: image.parse::<ImageRef>().unwrap(), ..tenant(name) };
    // Each image stems from a tenant that stems from the one before.
    for reference in ["x:1", "x:2", "x:3"] {
        commit(&world, "tenantd-ant", reference);
        let desired = fleet([of("ant", reference), of("bee", reference)]);
        world.converge(&desired);
        run(&world, &format!("debug-{}", &reference[2..]), reference, "bridge", json!({}));
        world.act("POST", "/containers/tenantd-bee/rename?name=somewhere", Value::Null);
        assert_eq!(world.plan(&desired), world.survey(&desired, 1));
        let done = world.converge(&desired);
        assert!(done.steps.iter().all(|(tenant, _)| tenant == "bee"), "{}", text(&done.plan));
        assert_eq!(done.steps.len(), 1, "a renamed tenant is still ours: {}", text(&done.plan));
    }
    let values: Vec<Option<String>> =
        ["tenantd-ant", "tenantd-bee"].map(|name| label(&world, name, CREATION_LABEL)).into();
    assert!(values[0].is_some() && values[1].is_some() && values[0] != values[1], "{values:?}");
    for name in ["debug-1", "debug-2", "debug-3"] {
        assert_eq!(world.state(name), "running");
    }
    world.converge(&fleet([]));
    assert_eq!(world.engine.containers().len(), 3);
}

#[test]
fn a_tenant_of_an_earlier_version_stays_ours_unless_its_image_has_the_very_labels() {
    let world = World::new();
    let desired = named(&["ant", "bee"]);
    world.converge(&desired);
    let older = |name: &str| {
        world.tamper(name, |doc| drop(doc["Config"]["Labels"].as_object_mut().unwrap().remove(CREATION_LABEL)));
    };
    older("tenantd-ant");
    older("tenantd-bee");
    assert!(world.plan(&desired).is_empty(), "nobody is replaced for a label: {}", text(&world.plan(&desired)));
    commit(&world, "tenantd-ant", "x:1");
    run(&world, "mydebug", "x:1", "bridge", json!({}));
    assert!(world.plan(&desired).is_empty(), "{}", text(&world.plan(&desired)));
    // What somebody labels by hand is claimed as a tenant's, whatever its image.
    run(&world, "by-hand", "x:1", "bridge", json!({TENANT_LABEL: "ant", SPEC_LABEL: "0123"}));
    world.converge(&desired);
    assert_eq!((world.state("mydebug"), world.state("by-hand")), ("running".to_owned(), String::new()));
}

#[test]
fn a_copy_under_the_tenants_own_name_blocks_it_and_says_why() {
    let world = World::new();
    let desired = named(&["ant"]);
    world.converge(&desired);
    commit(&world, "tenantd-ant", "x:1");
    world.act("DELETE", "/containers/tenantd-ant?force=1", Value::Null);
    let id = run(&world, "tenantd-ant", "x:1", "bridge", json!({}));
    let plan = world.plan(&desired);
    assert_eq!(plan, world.survey(&desired, 1));
    let (_, blocked) = plan.blocked().next().unwrap();
    assert_eq!(blocked.code.as_str(), "name-taken");
    assert!(blocked.reason.contains("has this tenant's labels from its image alone"), "{}", blocked.reason);
    world.apply(&desired);
    assert_eq!(world.id("tenantd-ant"), id);
}

#[test]
fn without_its_image_a_copy_is_not_removed_and_the_tenant_itself_stays_ours() {
    let world = World::new();
    let desired = named(&["ant"]);
    world.converge(&desired);
    commit(&world, "tenantd-ant", "x:1");
    run(&world, "mydebug", "x:1", "bridge", json!({}));
    world.engine.with(|state| state.remove_image("x:1"));
    let plan = world.plan(&desired);
    let (_, blocked) = plan.blocked().next().unwrap();
    assert_eq!(blocked.code.as_str(), "unobserved");
    assert!(blocked.reason.contains("container mydebug") && blocked.reason.contains("is gone"), "{}", blocked.reason);
    world.apply(&desired);
    assert_eq!(world.state("mydebug"), "running");
    world.act("DELETE", "/containers/mydebug?force=1", Value::Null);
    world.engine.with(|state| state.remove_image("tenantd/test:1"));
    let plan = world.plan(&desired);
    assert!(plan.is_empty() && plan.blocked().count() == 0, "{}", text(&plan));
}
