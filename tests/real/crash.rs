//! `kill -9` at any moment, then another apply.

use std::{
    process::Stdio,
    time::{Duration, Instant},
};

use serde_json::Value;

use crate::{
    engine::{PrivateEngine, text},
    fleet::Fleet,
};

const TENANTS: [&str; 4] = ["acme", "beta", "city", "delta"];

/// Moments of the kill as parts of the time that an apply takes when it is left alone.
const MOMENTS: [f32; 8] = [0.02, 0.1, 0.2, 0.35, 0.5, 0.65, 0.8, 0.95];

#[test]
fn an_apply_that_was_killed_is_carried_on() {
    let fleet = Fleet::start("crash");
    for tenant in TENANTS {
        fleet.declare(tenant, "");
    }
    // The last one also with the other runtime.
    fleet.declare("delta", fleet.gvisor());
    let begun = Instant::now();
    fleet.converge();
    let whole = begun.elapsed();
    let mut seen = Vec::new();
    for (round, moment) in MOMENTS.into_iter().enumerate() {
        if round % 2 == 0 {
            // A first up, from nothing.
            for tenant in TENANTS {
                fleet.engine.remove(&format!("tenantd-{tenant}"));
                fleet.engine.must("DELETE", &format!("/networks/tenantd-{tenant}"), None);
            }
        } else {
            // A replacement of all.
            for tenant in TENANTS {
                let class = if tenant == "delta" { fleet.gvisor() } else { "" };
                fleet.declare(tenant, &format!("{class}environment: {{ROUND: '{round}'}}\n"));
            }
        }
        let mut apply = fleet.tenantd_itself(&["apply", "--yes", "--worktree", "fleet"]);
        let mut apply = apply.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        std::thread::sleep(Duration::from_secs_f32(whole.as_secs_f32() * moment));
        apply.kill().unwrap();
        let killed = apply.wait().unwrap().code().is_none();
        seen.extend(ids(&fleet));
        println!("round {round}, killed at {moment}: {}", if killed { "in the middle" } else { "it was done already" });
        fleet.carried_on(&format!("round {round}"));
        one_of_each(&fleet, round);
    }
    let existing = ids(&fleet);
    for id in seen.iter().filter(|id| !existing.contains(id)) {
        crate::fleet::eventually(&format!("nothing of the former {id} runs"), || {
            PrivateEngine::processes(id).is_empty()
        });
    }
    fleet.end();
}

/// All containers of the engine, none of which is foreign here.
fn ids(fleet: &Fleet) -> Vec<String> {
    fleet.engine.get("/containers/json?all=1").as_array().unwrap().iter().map(|c| text(&c["Id"])).collect()
}

fn one_of_each(fleet: &Fleet, round: usize) {
    let containers: Value = fleet.engine.get("/containers/json?all=1");
    let mut names: Vec<String> = containers.as_array().unwrap().iter().map(|c| text(&c["Names"][0])).collect();
    names.sort();
    assert_eq!(names, TENANTS.map(|tenant| format!("/tenantd-{tenant}")), "round {round}: one container for each");
    let networks: Value = fleet.engine.get("/networks");
    let mut names: Vec<String> = networks.as_array().unwrap().iter().map(|n| text(&n["Name"])).collect();
    names.retain(|name| name.starts_with("tenantd-"));
    names.sort();
    assert_eq!(names, TENANTS.map(|tenant| format!("tenantd-{tenant}")), "round {round}: one network for each");
}
