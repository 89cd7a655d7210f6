//! A tenant that ends itself after a commit took something from it: what was taken does not come back, on a real engine.

use serde_json::json;

use super::{HOST, Service};
use crate::egress::{WAY_OUT, policy_file, secrets_and_settings, shell};

const TENANT: &str = "acme";

/// What is declared first, and what is left of it.
const WIDE: &str = "limits: {memory: 256MiB, cpus: 0.5, pids: 64}\n";
const NARROW: &str = "limits: {memory: 96MiB, cpus: 0.5, pids: 64}\nallowlist: ['api.example.com:443']\n";

/// Where a tenant may go by the gateway's file: destinations and routes.
fn open(service: &Service) -> (Vec<String>, usize) {
    let policy = policy_file(&service.fleet, TENANT).unwrap_or_default();
    let allowed = policy["allow"].as_array().cloned().unwrap_or_default();
    let routes = policy["routes"].as_array().map_or(0, Vec::len);
    let mut allowed: Vec<String> = allowed.iter().map(|one| one.as_str().unwrap().to_owned()).collect();
    allowed.sort();
    (allowed, routes)
}

/// The tenant ends its own container, as any program in it can.
fn ends_itself(service: &Service) {
    let engine = &service.fleet.engine;
    let started = engine.inspect("tenantd-acme")["State"]["StartedAt"].clone();
    let _ = engine.agent(TENANT, &["end"]);
    service.wait("it ended, and runs again", || {
        let (_, found) = engine.call("GET", "/containers/tenantd-acme/json", None);
        found["State"]["Running"] == true && found["State"]["StartedAt"] != started
    });
}

#[test]
fn a_tenant_that_ends_itself_opens_nothing_again() {
    let mut service = Service::new("back", "");
    service.run_within();
    service.settings(&format!("{HOST}{}", secrets_and_settings(&service.fleet)));
    shell(&service.fleet, "ip netns add tenantd");
    service.fleet.policy("health: {trialPeriod: 10s}\n");
    service.fleet.declare(TENANT, &format!("{WIDE}{WAY_OUT}"));
    let first = service.push();
    service.start();
    service.wait_until_in_order(&first);
    service.wait("it has proved good", || {
        service.condition(TENANT, "Healthy").is_some_and(|(status, ..)| status == "True")
    });
    assert_eq!(open(&service), (vec!["10.20.0.0/24:5432".to_owned(), "api.example.com:443".to_owned()], 1));

    // A commit takes a range, a key and memory from it, and gives it another variable to start with.
    service.fleet.declare(TENANT, &format!("{NARROW}environment: {{NEW: '1'}}\n"));
    let second = service.push();
    service.wait_until_in_order(&second);
    let is_narrow = |service: &Service| {
        let host = service.fleet.engine.inspect("tenantd-acme")["HostConfig"].clone();
        open(service) == (vec!["api.example.com:443".to_owned()], 0) && host["Memory"] == json!(96 << 20)
    };
    assert!(is_narrow(&service));
    ends_itself(&service);
    service.wait("the commit is bad for it", || {
        service.condition(TENANT, "Ready").is_some_and(|(_, reason, message)| {
            let stands = format!("the stricter of {} and {}", &first[..12], &second[..12]);
            reason == "BadCommit" && message.contains(&stands)
        })
    });
    let starts_as_before = |service: &Service| {
        let (_, found) = service.fleet.engine.call("GET", "/containers/tenantd-acme/json", None);
        found["State"]["Running"] == true && !found["Config"]["Env"].to_string().contains("NEW=1")
    };
    service.wait("it is started with what it was before", || starts_as_before(&service));
    service.wait("and has what the commit left it", || is_narrow(&service));
    for _ in 0..2 {
        ends_itself(&service);
        assert!(is_narrow(&service) && starts_as_before(&service), "its end brings nothing back");
    }
    service.terminate();
    service.start();
    service.wait("the daemon has looked around", || {
        service.condition(TENANT, "Ready").is_some_and(|(_, reason, _)| reason == "BadCommit")
    });
    assert!(is_narrow(&service) && starts_as_before(&service), "nor does a restart");

    // One that takes the rest, and changes nothing that the container is started with, is not on trial at all.
    service.fleet.declare(TENANT, "limits: {memory: 96MiB, cpus: 0.5, pids: 64}\n");
    let third = service.push();
    service.wait_until_in_order(&third);
    ends_itself(&service);
    service.wait_until_in_order(&third);
    assert_eq!(open(&service), (Vec::new(), 0));
    let judged = service.records().iter().filter(|record| record["type"] == "bad").count();
    assert_eq!(judged, 1, "one commit was bad, and once");
    service.end();
}
