//! What a commit does on a real engine: the first one, one that changes a limit, and bad ones.

use serde_json::{Value, json};

use super::{
    Case, Service, case,
    manual_changes::{FOREIGN, GVISOR, JournalPosition, LIMITS, RUNC, proper},
};
use crate::engine::succeed;

/// Declares the tenants of all cases and brings them up.
pub fn first(service: &mut Service) {
    succeed(service.fleet.engine.docker(&["network", "create", FOREIGN]));
    // Longer than the command of a bad commit runs.
    service.fleet.policy("health: {trialPeriod: 5s}\n");
    declare(service, "");
    service.fleet.declare(GVISOR, &format!("{}{LIMITS}", service.fleet.gvisor()));
    service.start();
    let commit = service.push();
    service.wait_until_in_order(&commit);
    proper(service, RUNC);
    proper(service, GVISOR);
    let records = service.records();
    let accepted = records.iter().find(|record| record["type"] == "revision").expect("the commit is on record");
    assert_eq!((&accepted["verdict"], &accepted["revision"]), (&json!("accepted"), &json!(shown(&commit))));
    for tenant in [RUNC, GVISOR] {
        let starts = |record: &&Value| record["tenant"] == tenant && record["step"] == "start the container";
        let record = records.iter().find(starts).expect("the start is on record");
        assert_eq!((&record["why"], &record["trigger"]["kind"]), (&json!("intent"), &json!("commit")), "{record:#}");
    }
}

pub fn cases<'a>() -> Vec<Case<'a>> {
    vec![
        case("a commit changes limits", limits),
        case("a commit's command ends at once", |service| bad(service, "command: [cat, /nowhere]\n")),
        case("a commit's command ends after a while", |service| bad(service, "command: [sleep, '3']\n")),
    ]
}

fn declare(service: &Service, further: &str) {
    service.fleet.declare(RUNC, &format!("{LIMITS}{further}"));
}

/// A commit as records name it.
fn shown(commit: &str) -> String {
    format!("main@sha1:{commit}")
}

fn limits(service: &mut Service) {
    let engine = &service.fleet.engine;
    let before = engine.identity("tenantd-acme");
    let mark = JournalPosition::now(service);
    service.fleet.declare(RUNC, "limits: {memory: 192MiB, cpus: 0.25, pids: 64}\n");
    let commit = service.push();
    service.wait_until_in_order(&commit);
    let host = &engine.inspect("tenantd-acme")["HostConfig"];
    assert_eq!(
        [&host["Memory"], &host["NanoCpus"], &host["PidsLimit"]],
        [&json!(192 << 20), &json!(250_000_000), &json!(64)],
        "the limits are the new ones"
    );
    assert_eq!(engine.identity("tenantd-acme"), before, "the container goes on");
    let records = mark.records(service);
    let update = records.iter().find(|record| record["step"] == "update the limits").expect("it is on record");
    assert_eq!((&update["why"], &update["trigger"]["kind"]), (&json!("intent"), &json!("commit")), "{update:#}");
    declare(service, "");
    service.wait_until_in_order(&service.push());
    assert_eq!(engine.identity("tenantd-acme"), before, "and back");
}

/// A commit with which a tenant does not become healthy: the declaration before stands in for it.
fn bad(service: &mut Service, command: &str) {
    let good = service.head();
    service.wait("the declaration before has proved good", || {
        service.condition(RUNC, "Healthy").is_some_and(|(status, ..)| status == "True")
    });
    let mark = JournalPosition::now(service);
    declare(service, command);
    let commit = service.push();
    service.wait("the tenant goes back to the last good commit", || {
        service.condition(RUNC, "Ready").is_some_and(|(status, reason, message)| {
            status == "False"
                && reason == "BadCommit"
                && message.contains(&commit[..12])
                && message.contains(&good[..12])
        })
    });
    service.wait("and runs with what that declares", || {
        let (_, inspected) = service.fleet.engine.call("GET", "/containers/tenantd-acme/json", None);
        inspected["State"]["Running"] == true && inspected["Config"]["Cmd"] == json!(["serve"])
    });
    proper(service, RUNC);
    let records = mark.records(service);
    let judged: Vec<&Value> = records.iter().filter(|record| record["type"] == "bad").collect();
    assert_eq!(judged.len(), 1, "it is judged once: {judged:#?}");
    assert_eq!((&judged[0]["tenant"], &judged[0]["revision"]), (&json!(RUNC), &json!(shown(&commit))));
    assert_eq!(judged[0]["back_to"], shown(&good), "the record says where it goes back to");
    let other = |record: &&Value| record["type"] == "intent" && record["tenant"] == GVISOR;
    assert!(records.iter().find(other).is_none(), "the other tenant is not touched");

    // It is not tried again, drift is repaired meanwhile, and a newer commit is given its chance.
    let mark = JournalPosition::now(service);
    succeed(service.fleet.engine.docker(&["kill", "tenantd-acme"]));
    service.wait("the stand-in is repaired", || {
        mark.records(service).iter().any(|record| record["type"] == "outcome" && record["result"] == "done")
    });
    service.wait("and runs", || service.fleet.engine.inspect("tenantd-acme")["State"]["Running"] == true);
    assert_eq!(service.fleet.engine.inspect("tenantd-acme")["Config"]["Cmd"], json!(["serve"]));
    declare(service, "");
    service.wait_until_in_order(&service.push());
    proper(service, RUNC);
}
