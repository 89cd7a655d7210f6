//! The same with gVisor, which changes nothing live: what runc repairs in place is made anew here.

use serde_json::json;

use crate::{
    container,
    daemon::Service,
    drift::Drift,
    engine::PrivateEngine,
    fleet::{Case, Fleet, attribute, case, names},
};

const OURS: &str = "tenantd-acme";
const GIB: i64 = 1 << 30;
const FREE: i64 = GIB / 2;

/// What `docker update` can do to a sandbox that is stopped; runsc refuses while it runs.
fn updates() -> Vec<Drift> {
    fn stopped(attribute: &'static str, what: &'static str, body: serde_json::Value) -> Drift {
        Drift::other(attribute, what, move |fleet| {
            fleet.engine.must("POST", &format!("/containers/{OURS}/stop?t=2"), None);
            fleet.engine.must("POST", &format!("/containers/{OURS}/update"), Some(&body));
            fleet.engine.must("POST", &format!("/containers/{OURS}/start"), None);
        })
    }
    vec![
        stopped("memory", "raised", json!({"Memory": 4 * GIB, "MemorySwap": 4 * GIB}))
            .values(json!(4 * GIB), json!(FREE))
            .shown("\"4GiB\"", "\"512MiB\"")
            .also(&["memory_swap"]),
        stopped("memory_swap", "raised", json!({"MemorySwap": GIB})).values(json!(GIB), json!(FREE)),
        stopped("nano_cpus", "lowered", json!({"NanoCpus": 500_000_000}))
            .values(json!(500_000_000), json!(1_000_000_000))
            .shown("0.5", "1")
            .harmless(),
        stopped("pids_limit", "unlimited", json!({"PidsLimit": -1}))
            .values(json!(0), json!(256))
            .shown("unlimited", "256"),
        stopped("restart_policy", "always", json!({"RestartPolicy": {"Name": "always"}}))
            .values(json!("always"), json!("no"))
            .harmless(),
    ]
}

/// What a sandbox made anew can differ in: what could lead out of it first.
fn anew() -> Vec<Drift> {
    vec![
        Drift::host("runtime", "a weaker one", "Runtime", json!("runc")).values(json!("runc"), json!("runsc")),
        Drift::host("read_only", "off", "ReadonlyRootfs", json!(false)).values(json!(false), json!(true)),
        Drift::host("cap_add", "one more", "CapAdd", json!(["CAP_SYS_ADMIN"]))
            .values(json!(["CAP_SYS_ADMIN"]), json!([])),
        Drift::config("user", "root", "User", json!("0:0")).values(json!("0:0"), json!("1000:1000")),
        Drift::host("pid_mode", "host", "PidMode", json!("host"))
            .values(json!("host"), json!(""))
            .also(&["security_opt"]),
        Drift::host("mounts", "a folder of the host", "Binds", json!(["/etc:/host"]))
            .holding("bind /etc -> /host", serde_json::Value::Null)
            .any_declared(),
        Drift::host("network_mode", "host", "NetworkMode", json!("host"))
            .values(json!("host"), json!(OURS))
            .also(&["networks", "address", "hostname"]),
    ]
}

#[test]
fn gvisor_is_found_and_repaired() {
    let service = Service::new("gvisor", "deadlines: {stop: 2s}\n");
    if !service.fleet.engine.tests_gvisor() {
        return blocked(service);
    }
    let fleet = &service.fleet;
    fleet.declare(container::TENANT, "runtime: gvisor\n");
    fleet.converge();
    let drifts: Vec<Drift> = [updates(), anew()].into_iter().flatten().collect();
    let mut cases: Vec<Case<'_>> =
        drifts.iter().map(|drift| case(&drift.name(), |fleet| drift.case(fleet, container::TENANT))).collect();
    cases.extend([
        case("missing", missing),
        case("stopped", stopped),
        case("paused", paused),
        case("on a second network", second_network),
        case("off its own network", off_its_own),
        case("the network not internal", not_internal),
        case("limits that a commit changed", limits_changed),
        case("from gVisor to runc and back", other_class),
    ]);
    fleet.cases(cases);
    service.end();
}

/// Where the host's own runtime starts nothing, the daemon finds that out and says so of the tenant, and blames no commit.
fn blocked(service: Service) {
    service.fleet.declare(container::TENANT, "runtime: gvisor\n");
    service.push();
    service.start();
    service.wait("the tenant is blocked", || {
        service.condition(container::TENANT, "Ready").is_some_and(|(_, reason, message)| {
            reason == "Blocked"
                && message.starts_with("runtime-fails: the runtime runsc cannot start anything on this engine")
        })
    });
    assert!(service.records().iter().all(|record| record["type"] != "bad"), "no commit is blamed");
    service.end();
}

fn missing(fleet: &Fleet) {
    let id = fleet.engine.identity(OURS).0;
    fleet.engine.remove(OURS);
    assert_eq!(fleet.plan().change("container.acme")["actions"], json!(["create"]), "it is made");
    fleet.converge();
    crate::fleet::eventually("nothing of the old sandbox is left", || PrivateEngine::processes(&id).is_empty());
}

fn stopped(fleet: &Fleet) {
    let id = fleet.engine.identity(OURS).0;
    fleet.engine.must("POST", &format!("/containers/{OURS}/stop?t=2"), None);
    let plan = fleet.plan();
    assert_eq!(names(plan.change("container.acme")), ["state"], "the plan names the state");
    assert_eq!(plan.change("container.acme")["actions"], json!(["update"]), "it is started again");
    fleet.converge();
    assert_eq!(fleet.engine.identity(OURS).0, id, "as the same container");
}

fn paused(fleet: &Fleet) {
    let proper = fleet.engine.identity(OURS);
    fleet.engine.must("POST", &format!("/containers/{OURS}/pause"), None);
    assert_eq!(names(fleet.plan().change("container.acme")), ["state"], "the plan names the state");
    fleet.converge();
    assert_eq!(fleet.engine.identity(OURS), proper, "it was not started anew");
    assert!(fleet.engine.agent("acme", &["connect", "127.0.0.1:8080"]).0, "and it answers again");
}

/// To take an interface away needs no help of the sandbox, so that is done in place.
fn second_network(fleet: &Fleet) {
    let proper = fleet.engine.identity(OURS);
    fleet.engine.attach("connect", "bridge", OURS);
    let plan = fleet.plan();
    let change = plan.change("container.acme");
    assert_eq!(names(change), ["networks"], "the plan names the networks");
    assert_eq!(attribute(change, "networks")["weakens"], true, "and that it weakens");
    assert_eq!(change["actions"], json!(["update"]), "the container stays");
    fleet.converge();
    assert_eq!(fleet.engine.identity(OURS), proper, "id and start time stay");
}

fn off_its_own(fleet: &Fleet) {
    let proper = fleet.engine.identity(OURS);
    fleet.engine.attach("disconnect", OURS, OURS);
    let plan = fleet.plan();
    let change = plan.change("container.acme");
    assert_eq!(names(change), ["networks"], "the plan names the networks");
    assert_eq!(change["actions"], json!(["delete", "create"]), "the sandbox would not see a new interface");
    fleet.converge();
    assert_ne!(fleet.engine.identity(OURS).0, proper.0, "it was made anew");
}

fn not_internal(fleet: &Fleet) {
    fleet.recreate_network("acme", |body| body["Internal"] = json!(false));
    let plan = fleet.plan();
    assert_eq!(names(plan.change("network.acme")), ["internal"], "the plan names what was tampered with");
    fleet.converge();
    assert_eq!(fleet.engine.network(OURS).unwrap()["Internal"], true, "it is internal again");
}

fn limits_changed(fleet: &Fleet) {
    fleet.declare("acme", "runtime: gvisor\nlimits: {memory: 256MiB}\n");
    let plan = fleet.plan();
    let change = plan.change("container.acme");
    assert_eq!(names(change), ["memory", "memory_swap"], "the plan names both");
    assert_eq!(attribute(change, "memory")["cause"], "intent", "and that a commit changed them");
    assert_eq!(change["actions"], json!(["delete", "create"]), "and says that the sandbox is made anew");
    fleet.converge();
}

fn other_class(fleet: &Fleet) {
    fleet.declare("acme", "runtime: container\n");
    let plan = fleet.plan();
    let found = attribute(plan.change("container.acme"), "runtime");
    assert_eq!((&found["before"], &found["after"]), (&json!("runsc"), &json!("runc")), "the plan names both");
    assert_eq!(found["cause"], "intent", "and that a commit changed it");
    fleet.converge();
    assert_eq!(fleet.engine.inspect(OURS)["HostConfig"]["Runtime"], "runc", "it runs there");
    fleet.declare("acme", "runtime: gvisor\n");
    fleet.converge();
    assert_eq!(fleet.engine.inspect(OURS)["HostConfig"]["Runtime"], "runsc", "and back");
}
