//! Many tenants, many rounds, and everything at once.

use std::{fs, thread::sleep, time::Duration};

use fastrand::Rng;
use rustix::process::Signal;
use serde_json::{Value, json};
use tenantd::model::Entry;

use super::{Daemon, object};

const MIB: i64 = 1 << 20;

/// The most connections to the engine at rest: those that are kept for the next calls, and one on
/// which it tells its events.
const CONNECTIONS: usize = 16 + 1;

#[test]
fn a_large_fleet_converges_and_then_rests() {
    const TENANTS: usize = 600;
    let mut daemon = Daemon::stopped(&[], "resync: 2s\nparallelism: 32");
    for n in 0..TENANTS {
        daemon.tenant(&format!("t{n:04}"), "");
    }
    daemon.push();
    daemon.start();
    daemon.wait_long("all are made", || {
        let running = |state: &mut tenantd_test_support::State| {
            state.containers().filter(|doc| doc["State"]["Running"] == true).count()
        };
        (daemon.engine.with(running) == TENANTS).then_some(())
    });
    let rest = || daemon.settled_within(Duration::from_secs(120), Duration::from_secs(1));
    rest();
    let mutations = daemon.engine.mutations();
    let full_scans = || {
        let calls = daemon.engine.calls();
        calls.iter().filter(|call| call.path == "/containers/json" && call.query == "all=1").count()
    };
    for _ in 0..2 {
        let before = full_scans();
        daemon.wait_long("everything is looked at", || (full_scans() > before).then_some(()));
    }
    rest();
    assert_eq!(daemon.engine.mutations(), mutations);
    daemon.converged();
}

/// Descriptors beside those of connections to the engine, threads and KiB of a daemon: without pages of its program, which the kernel maps as it likes.
fn held(daemon: &Daemon) -> (usize, usize, usize) {
    let pid = daemon.pid();
    let count = |what: &str| fs::read_dir(format!("/proc/{pid}/{what}")).unwrap().count();
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let resident = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
    let connections = daemon.wait("no call is under way", || {
        let connections = daemon.engine.connections();
        (connections <= CONNECTIONS).then_some(connections)
    });
    (count("fd") - connections, count("task"), resident.trim().trim_end_matches(" kB").parse().unwrap())
}

#[test]
fn rounds_of_commits_and_drift_leave_nothing_behind() {
    let daemon = Daemon::running(&["ant", "bee", "cat"]);
    let mut first = None;
    for round in 0..200_i64 {
        let memory = 100 + round - round % 5;
        daemon.update("bee", 64 * MIB);
        if round % 5 == 0 {
            daemon.tenant("ant", &format!("limits: {{memory: {memory}MiB}}\n"));
            daemon.push();
            daemon.remove("cat");
        }
        if round % 10 == 0 {
            daemon.engine.end_event_streams();
        }
        daemon.wait("all is as declared", || {
            let limits = daemon.limit("ant", "Memory") == memory * MIB && daemon.limit("bee", "Memory") == 512 * MIB;
            (limits && daemon.state("tenantd-cat") == "running").then_some(())
        });
        // What is tampered with again before it was looked at is taken for a repair that does not last.
        sleep(Duration::from_millis(50));
        if round == 40 {
            daemon.settled();
            first = Some(held(&daemon));
        }
    }
    daemon.settled();
    let (before, after) = (first.unwrap(), held(&daemon));
    assert!(after.0 <= before.0 + 3 && after.1 <= before.1 + 3, "descriptors and threads: {before:?}, then {after:?}");
    assert!(after.2 <= before.2 + 6 * 1024, "resident KiB: {before:?}, then {after:?}");
    daemon.verified();
}

/// Everything that can happen, in an order that a seed gives; at the end all is as declared.
fn interleave(seed: u64) {
    let names: Vec<String> = (0..10).map(|n| format!("t{n}")).collect();
    let mut daemon = Daemon::stopped(
        &names.iter().map(String::as_str).collect::<Vec<_>>(),
        "resync: 2s\nguards: {removals: {percent: 100, atLeast: 1000}}",
    );
    daemon.policy("guards: {removals: {percent: 100, atLeast: 1000}}\n");
    daemon.push();
    daemon.start();
    daemon.engine.act("POST", "/networks/create", &json!({"Name": "office"}));
    let mut random = Rng::with_seed(seed);
    let mut away = false;
    for _ in 0..100 {
        let name = &names[random.usize(..names.len())];
        let container = object(name);
        // Whoever acts finds things as they are: what is not there cannot be changed.
        let act = |method: &str, path: String, body: Value| drop(daemon.engine.act(method, &path, &body));
        match random.u32(..20) {
            0 | 1 => act("DELETE", format!("/containers/{container}?force=1"), Value::Null),
            2 | 3 => act(
                "POST",
                format!("/containers/{container}/update"),
                json!({"Memory": 64 * MIB, "MemorySwap": 64 * MIB}),
            ),
            4 => act("POST", "/networks/office/connect".to_owned(), json!({"Container": container})),
            5 => {
                act("POST", format!("/networks/{container}/disconnect"), json!({"Container": container, "Force": true}))
            }
            6 => act("POST", format!("/containers/{container}/rename?name=odd{}", random.u32(..)), Value::Null),
            7 => act("POST", format!("/containers/{container}/stop"), Value::Null),
            8 => act("POST", format!("/containers/{container}/pause"), Value::Null),
            9 => act("POST", format!("/containers/{container}/kill"), Value::Null),
            10 => {
                act("DELETE", format!("/containers/{container}?force=1"), Value::Null);
                act("DELETE", format!("/networks/{container}"), Value::Null);
            }
            11 => daemon.engine.end_event_streams(),
            12 if away => {
                daemon.engine.come_back();
                away = false;
            }
            12 => {
                daemon.engine.leave();
                away = true;
            }
            13 => {
                daemon.end(Signal::KILL);
                daemon.start();
            }
            14 => {
                daemon.end(Signal::TERM);
                daemon.start();
            }
            15 if daemon.cli.repo.join(format!("tenants/{name}.yaml")).exists() && name != "t0" => {
                daemon.without(name);
                daemon.push();
            }
            16 => {
                daemon.tenant(name, &format!("environment: {{A: \"{}\"}}\n", random.u32(..)));
                daemon.push();
            }
            _ => {
                daemon.tenant(name, &format!("limits: {{memory: {}MiB}}\n", random.u32(100..400)));
                daemon.push();
            }
        }
        sleep(Duration::from_millis(random.u64(..40)));
    }
    if away {
        daemon.engine.come_back();
    }
    daemon.settled();
    daemon.converged();
    daemon.verified();
    let bad = daemon.records().into_iter().find(|record| matches!(record.entry, Entry::Bad { .. }));
    assert!(bad.is_none(), "nothing that was declared was bad: {bad:?}");
}

#[test]
fn everything_at_once_ends_as_declared() {
    // TENANTD_SEED=N tries another order.
    let asked = std::env::var("TENANTD_SEED").ok().map(|seed| vec![seed.parse().unwrap()]);
    for seed in asked.unwrap_or(vec![1, 2]) {
        interleave(seed);
    }
}
