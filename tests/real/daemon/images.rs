//! What images say of themselves, on a real engine: their health check, their home and their working directory.

use std::process::Stdio;

use serde_json::json;

use super::{HOST, Service};
use crate::{
    engine::{IMAGE, PrivateEngine, succeed},
    fleet::Fleet,
};

/// An image that says neither where its programs are at home nor where they work.
const BARE: &str = "bare:1";

/// One at home and at work where a tenant may write.
const HOUSED: &str = "housed:1";

/// One whose check asks once a second for a file that the tenant may write.
const CHECKED: &str = "checked:1";

/// A tenant of each class: its name, and the line that has it run there.
fn tenants(fleet: &Fleet) -> [(&'static str, &'static str); 2] {
    [("acme", ""), ("zeta", fleet.gvisor())]
}

/// Makes an image of the agent's files with nothing but these instructions.
fn image(engine: &PrivateEngine, tag: &str, instructions: &[&str]) {
    let (id, _) = engine.create(&format!("for-{}", tag.replace(':', "-")), &json!({"Image": IMAGE}));
    let mut export = engine.docker(&["export", &id]).stdout(Stdio::piped()).spawn().unwrap();
    let every = ["ENTRYPOINT [\"/agent\"]", "CMD [\"serve\"]", "ENV PATH=/"];
    let changes = every.iter().chain(instructions).flat_map(|instruction| ["--change", instruction]);
    let words: Vec<&str> = ["import"].into_iter().chain(changes).chain(["-", tag]).collect();
    let mut import = engine.docker(&words);
    import.stdin(export.stdout.take().unwrap());
    succeed(import);
    assert!(export.wait().unwrap().success());
    engine.remove(&id);
}

/// Where a tenant's programs are at home, and that they work at `place`, as the kernel has it.
fn lives(engine: &PrivateEngine, tenant: &str, home: &str, place: &str) {
    let (succeeded, variables) = engine.agent(tenant, &["env"]);
    assert!(succeeded, "{variables}");
    let homes: Vec<&str> = variables.lines().filter(|line| line.starts_with("HOME=")).collect();
    assert_eq!(homes, [format!("HOME={home}")], "{tenant}");
    for folder in [home, place] {
        let file = format!("{folder}/written");
        let (succeeded, printed) = engine.agent(tenant, &["write", &file, "x"]);
        assert!(succeeded, "{tenant} writes {file}: {printed}");
    }
    let (succeeded, printed) = engine.agent(tenant, &["write", "here", "x"]);
    assert!(succeeded, "{tenant} writes where it works: {printed}");
    let (succeeded, printed) = engine.agent(tenant, &["cat", &format!("{place}/here")]);
    assert!(succeeded && printed.contains('x'), "{tenant} works at {place}: {printed}");
}

#[test]
fn a_tenant_is_at_home_and_works_where_its_image_says_if_it_can_write_there() {
    let service = Service::new("homes", HOST);
    let fleet = &service.fleet;
    let tenants = tenants(fleet);
    image(&fleet.engine, BARE, &[]);
    image(&fleet.engine, HOUSED, &["ENV HOME=/tmp/me", "WORKDIR /tmp"]);
    for (tenant, class) in tenants {
        fleet.declare(tenant, &format!("{class}image: {BARE}\n"));
    }
    fleet.converge();
    for (tenant, _) in tenants {
        lives(&fleet.engine, tenant, "/workspace", "/workspace");
    }

    // As a version made it before there was either: nobody is replaced for it, and gets both with another change.
    for (tenant, _) in tenants {
        fleet.recreate(tenant, true, |body| {
            body["Env"].as_array_mut().unwrap().retain(|entry| !entry.as_str().unwrap().starts_with("HOME="));
            body["WorkingDir"] = json!("");
        });
    }
    let before = tenants.map(|(tenant, _)| fleet.engine.identity(&format!("tenantd-{tenant}")));
    fleet.in_order();
    for (tenant, class) in tenants {
        fleet.declare(tenant, &format!("{class}image: {BARE}\nenvironment: {{A: b}}\n"));
    }
    fleet.converge();
    for ((tenant, _), before) in tenants.into_iter().zip(before) {
        assert_ne!(fleet.engine.identity(&format!("tenantd-{tenant}")), before);
        lives(&fleet.engine, tenant, "/workspace", "/workspace");
    }

    for (tenant, class) in tenants {
        fleet.declare(tenant, &format!("{class}image: {HOUSED}\n"));
    }
    fleet.converge();
    for (tenant, _) in tenants {
        let (_, variables) = fleet.engine.agent(tenant, &["env"]);
        assert!(variables.contains("HOME=/tmp/me\n"), "{variables}");
        let (succeeded, printed) = fleet.engine.agent(tenant, &["write", "here", "x"]);
        assert!(succeeded, "{printed}");
        assert!(fleet.engine.agent(tenant, &["cat", "/tmp/here"]).0, "{tenant} works in /tmp");
    }
    service.end();
}

#[test]
fn the_health_check_of_an_image_counts() {
    let service = Service::new("health", HOST);
    let fleet = &service.fleet;
    let tenants = tenants(fleet);
    let check = "HEALTHCHECK --interval=1s --timeout=10s --retries=2 CMD [\"/agent\", \"cat\", \"/workspace/fine\"]";
    image(&fleet.engine, CHECKED, &[check]);
    fleet.policy("health: {trialPeriod: 2s}\n");
    for (tenant, class) in tenants {
        fleet.declare(tenant, class);
    }
    let good = service.push();
    service.start();
    service.wait_until_in_order(&good);
    let healthy = |tenant: &str| service.condition(tenant, "Healthy").unwrap_or_default();
    let reason = |tenant: &str| service.condition(tenant, "Ready").unwrap_or_default().1;
    let says = |what: &str, status: &str| {
        for (tenant, _) in tenants {
            service.wait(&format!("{tenant} {what}"), || healthy(tenant).0 == status);
        }
    };
    says("has proved good", "True");

    // With a check that fails, a commit is bad, and the image before it is used again.
    for (tenant, class) in tenants {
        fleet.declare(tenant, &format!("{class}image: {CHECKED}\n"));
    }
    service.push();
    for (tenant, _) in tenants {
        service.wait(&format!("the commit is bad for {tenant}"), || reason(tenant) == "BadCommit");
        let inspect = || fleet.engine.call("GET", &format!("/containers/tenantd-{tenant}/json"), None).1;
        service.wait(&format!("{tenant} goes back"), || {
            let found = inspect();
            found["Config"]["Image"] == IMAGE && found["State"]["Running"] == true
        });
    }
    let bad: Vec<_> = service.records().into_iter().filter(|record| record["type"] == "bad").collect();
    assert_eq!(bad.len(), tenants.len(), "{bad:#?}");
    assert!(bad.iter().all(|record| record.to_string().contains("health check of its image fails")), "{bad:#?}");

    // With one that succeeds, the same image is good.
    for (tenant, class) in tenants {
        let (succeeded, printed) = fleet.engine.agent(tenant, &["write", "/workspace/fine", "yes"]);
        assert!(succeeded, "{printed}");
        fleet.declare(tenant, &format!("{class}image: {CHECKED}\nenvironment: {{A: b}}\n"));
    }
    let commit = service.push();
    service.wait_until_in_order(&commit);
    says("is healthy", "True");
    // One that fails later is shown, and blames no commit.
    let before = tenants.map(|(tenant, _)| fleet.engine.identity(&format!("tenantd-{tenant}")));
    for (tenant, _) in tenants {
        assert!(fleet.engine.agent(tenant, &["remove", "/workspace/fine"]).0);
    }
    says("is unhealthy", "False");
    for (tenant, _) in tenants {
        let (_, why, message) = healthy(tenant);
        assert_eq!(why, "Unhealthy");
        assert!(message.contains("health check of its image fails"), "{message}");
        assert_eq!(reason(tenant), "ReconciliationSucceeded");
        assert!(fleet.engine.agent(tenant, &["write", "/workspace/fine", "yes"]).0);
    }
    says("is healthy again", "True");
    assert_eq!(tenants.map(|(tenant, _)| fleet.engine.identity(&format!("tenantd-{tenant}"))), before);
    assert_eq!(service.records().iter().filter(|record| record["type"] == "bad").count(), tenants.len());
    service.end();
}
