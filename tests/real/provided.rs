//! What tenantd brings along, at /run/tenantd in each sandbox of a real engine.

use std::fs;

use serde_json::{Value, json};

use crate::fleet::{Fleet, attribute};

/// A tenant of each class: its name, and the line that has it run there.
fn tenants(fleet: &Fleet) -> [(&'static str, &'static str); 2] {
    [("acme", ""), ("zeta", fleet.gvisor())]
}

/// Each tenant reads what root put there, and writes nothing.
fn reads_and_writes_nothing(fleet: &Fleet) {
    for (tenant, _) in tenants(fleet) {
        let (succeeded, printed) = fleet.engine.agent(tenant, &["cat", "/run/tenantd/brought"]);
        assert!(succeeded && printed.trim() == "for all", "{tenant} reads it: {printed}");
        for path in ["/run/tenantd/new", "/run/tenantd/brought"] {
            let (succeeded, printed) = fleet.engine.agent(tenant, &["write", path, "mine"]);
            assert!(!succeeded, "{tenant} writes {path}: {printed}");
        }
        let (_, printed) = fleet.engine.agent(tenant, &["remove", "/run/tenantd/brought"]);
        assert!(!printed.is_empty(), "{tenant} removes it");
        let (_, mounts) = fleet.engine.agent(tenant, &["mounts"]);
        let line = mounts.lines().find(|line| line.split(' ').nth(1) == Some("/run/tenantd")).unwrap_or_default();
        let options = line.split(' ').nth(3).unwrap_or_default();
        assert!(options.split(',').any(|option| option == "ro"), "{tenant}: {mounts}");
    }
}

/// Makes a tenant's container anew by hand, with other mounts.
fn with_mounts(fleet: &Fleet, tenant: &str, change: impl FnOnce(&mut Vec<Value>)) {
    fleet.recreate(tenant, true, |body| change(body["HostConfig"]["Mounts"].as_array_mut().unwrap()));
}

fn is_there(mount: &Value) -> bool {
    mount["Target"] == "/run/tenantd"
}

#[test]
fn what_tenantd_brings_along_is_read_only_and_comes_with_the_next_replacement() {
    let fleet = Fleet::start("provided");
    for (tenant, class) in tenants(&fleet) {
        fleet.declare(tenant, class);
    }
    fleet.converge();
    fs::write(fleet.data().join("provided/run/brought"), "for all").unwrap();
    reads_and_writes_nothing(&fleet);

    // As an earlier version made them: they stay, until they are replaced for another reason.
    for (tenant, _) in tenants(&fleet) {
        with_mounts(&fleet, tenant, |mounts| mounts.retain(|mount| !is_there(mount)));
        assert!(!fleet.engine.agent(tenant, &["cat", "/run/tenantd/brought"]).0, "{tenant} has it not");
    }
    fleet.in_order();
    for (tenant, class) in tenants(&fleet) {
        fleet.declare(tenant, &format!("{class}environment: {{A: b}}\n"));
    }
    let plan = fleet.plan();
    for (tenant, _) in tenants(&fleet) {
        let mounts = attribute(plan.change(&format!("container.{tenant}")), "mounts");
        assert_eq!(mounts["weakens"], false, "{mounts:#}");
    }
    fleet.converge();
    reads_and_writes_nothing(&fleet);

    // What else lies there, or can be written, weakens.
    let changes: [fn(&mut Value); 2] =
        [|mount| mount["ReadOnly"] = json!(false), |mount| mount["Source"] = json!("/etc")];
    for change in changes {
        for (tenant, _) in tenants(&fleet) {
            with_mounts(&fleet, tenant, |mounts| change(mounts.iter_mut().find(|mount| is_there(mount)).unwrap()));
            let plan = fleet.plan();
            let mounts = attribute(plan.change(&format!("container.{tenant}")), "mounts");
            assert_eq!((&mounts["weakens"], &mounts["forces_replacement"]), (&json!(true), &json!(true)), "{mounts:#}");
        }
        fleet.converge();
        reads_and_writes_nothing(&fleet);
    }

    // The folder is made again where it is gone, before anything is started with it.
    fs::remove_dir_all(fleet.data().join("provided")).unwrap();
    for (tenant, _) in tenants(&fleet) {
        fleet.engine.must("POST", &format!("/containers/tenantd-{tenant}/stop?t=1"), None);
    }
    fleet.converge();
    assert!(fleet.data().join("provided/run").is_dir());
    fleet.end();
}
