//! Tenants that cannot be made, fail or hang: told with a reason, alone, and with nothing left behind.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use crate::{
    engine::{IMAGE, PrivateEngine, said, text},
    fleet::{Fleet, attribute, case, code, eventually, names, run},
};

#[test]
fn tenants_that_cannot_be_made_or_fail_are_reported_and_leave_nothing() {
    let fleet = Fleet::start("fail");
    fleet.declare("beta", "");
    fleet.converge();
    fleet.cases(vec![
        case("a runtime that is not registered", not_registered),
        case("a runtime class that the host does not offer", not_offered),
        case("an image that the engine does not have", no_image),
        case("a folder whose path begins as the engine's own", refused_folder),
        case("a command that exits at once", exits_at_once),
        case("a command that does not exist, behind an init", no_command),
        case("a command that does not exist, without an init", no_command_without_init),
        case("a sysctl that cannot be set", no_sysctl),
        case("a file with an error", held),
    ]);
    fleet.end();
}

#[test]
fn an_engine_that_drops_a_limit_gets_no_tenant() {
    let fleet = Fleet::on(PrivateEngine::start("nopids", &["--without-pids"]));
    fleet.declare("acme", "");
    fleet.declare("zeta", "runtime: gvisor\n");
    let plan = fleet.plan();
    assert_eq!(plan.code, 1, "the plan exits with 1");
    for tenant in ["acme", "zeta"] {
        let (found, reason, help) = plan.blocked(tenant);
        assert_eq!(found, "limit-unsupported", "{tenant} is blocked: {reason}; {help}");
        assert!(reason.contains("pids"), "the reason names the limit: {reason}");
    }
    let (code, printed) = fleet.apply();
    assert_eq!(code, 1, "the apply exits with 1:\n{printed}");
    assert!(printed.contains("limit-unsupported"), "and says why:\n{printed}");
    nothing_of(&fleet, "acme");
    nothing_of(&fleet, "zeta");
    fleet.end();
}

/// Nothing of a tenant stands in the engine, not even half.
fn nothing_of(fleet: &Fleet, tenant: &str) {
    for list in ["/containers/json?all=1", "/networks"] {
        let all = fleet.engine.get(list).to_string();
        assert!(!all.contains(&format!("tenantd-{tenant}")), "nothing of {tenant} was made in {list}: {all}");
    }
    assert!(!fleet.data().join("workspaces").join(tenant).exists(), "{tenant} has no workspace");
}

/// A container that failed leaves no container and no process; its id stands in what the engine says of it.
fn no_container_of(fleet: &Fleet, tenant: &str, since: Duration) {
    let events = fleet.engine.events(since);
    let of =
        |event: &&Value| event["Actor"]["Attributes"]["io.tenantd.tenant"] == tenant && event["Action"] == "create";
    let made: Vec<String> = events.iter().filter(of).map(|event| text(&event["Actor"]["ID"])).collect();
    assert!(!made.is_empty(), "a container of {tenant} was made: {events:#?}");
    let all = fleet.engine.get("/containers/json?all=1").to_string();
    for id in made {
        assert!(!all.contains(&id), "the container that did not start is gone: {all}");
        eventually(&format!("no runtime, shim or sandbox of {tenant} is left"), || {
            PrivateEngine::processes(&id).is_empty()
        });
    }
}

/// Applies, with `beta` tampered with: it is repaired whatever becomes of the others.
fn apply_beside_beta(fleet: &Fleet) -> String {
    fleet.engine.must("POST", "/containers/tenantd-beta/update", Some(&json!({"PidsLimit": 999})));
    let (code, printed) = fleet.apply();
    assert_eq!(code, 1, "the apply exits with 1:\n{printed}");
    assert_eq!(
        fleet.engine.inspect("tenantd-beta")["HostConfig"]["PidsLimit"],
        256,
        "another tenant converges:\n{printed}"
    );
    printed
}

fn not_registered(fleet: &Fleet) {
    fleet.host("runtimes: {container: runc, gvisor: runsc-of-tomorrow}\n");
    fleet.declare("acme", "runtime: gvisor\n");
    let (found, reason, help) = fleet.plan().blocked("acme");
    assert_eq!(found, "runtime-not-registered", "the tenant is blocked: {reason}");
    assert!(reason.contains("runsc-of-tomorrow"), "the reason names the runtime: {reason}");
    assert!(help.contains("runsc") && help.contains("no weaker runtime"), "and what there is: {help}");
    apply_beside_beta(fleet);
    nothing_of(fleet, "acme");
    fleet.undeclare("acme");
    fleet.host("");
}

fn not_offered(fleet: &Fleet) {
    fleet.declare("acme", "runtime: microvm\n");
    let (found, reason, _) = fleet.plan().blocked("acme");
    assert_eq!(found, "runtime-not-offered", "the tenant is blocked: {reason}");
    apply_beside_beta(fleet);
    nothing_of(fleet, "acme");
    fleet.undeclare("acme");
}

fn no_image(fleet: &Fleet) {
    fleet.declare("acme", "image: agency/nowhere:1\n");
    let (found, reason, _) = fleet.plan().blocked("acme");
    assert_eq!(found, "image-missing", "the tenant is blocked: {reason}");
    assert!(reason.contains("agency/nowhere:1"), "the reason names the image: {reason}");
    apply_beside_beta(fleet);
    nothing_of(fleet, "acme");
    fleet.undeclare("acme");
}

/// The engine compares paths as texts: what it says itself of such a folder is tried beside.
fn refused_folder(fleet: &Fleet) {
    let root = text(&fleet.engine.get("/info")["DockerRootDir"]);
    let folder = format!("{root}-of-tenants");
    fs::create_dir(&folder).unwrap();
    let mount =
        json!({"Type": "bind", "Source": folder, "Target": "/source", "BindOptions": {"Propagation": "rprivate"}});
    let body = json!({"Image": IMAGE, "HostConfig": {"Mounts": [mount]}});
    let (status, answer) = fleet.engine.call("POST", "/containers/create?name=tried", Some(&body));
    assert!(status == 400 && answer.to_string().contains("within the daemon root"), "{status} {answer}");
    fleet.host(&format!("sources: {{docs: {folder}}}\n"));
    fleet.declare("acme", "source: docs\n");
    let (found, reason, help) = fleet.plan().blocked("acme");
    assert_eq!(found, "mount-refused", "the tenant is blocked: {reason}");
    assert!(reason.contains(&folder) && help.contains("under sources"), "with what to change: {reason}; {help}");
    apply_beside_beta(fleet);
    nothing_of(fleet, "acme");
    fleet.undeclare("acme");
    fleet.host("");
    fs::remove_dir(&folder).unwrap();
}

/// The classes whose runtimes can be tested here.
fn classes(fleet: &Fleet) -> impl Iterator<Item = &'static str> {
    let gvisor = fleet.engine.tests_gvisor().then_some("gvisor");
    ["container"].into_iter().chain(gvisor)
}

/// With both runtimes: what the apply says of a tenant whose command ends with this code.
fn ends_with(fleet: &Fleet, keys: &str, exit: i32) {
    for class in classes(fleet) {
        fleet.declare("acme", &format!("runtime: {class}\n{keys}"));
        // A busy machine may take longer to end the command than an apply watches it; then the next tells.
        let printed: Vec<(i32, String)> = (0..3).map(|_| fleet.apply()).collect();
        let reported = |(code, printed): &(i32, String)| {
            let line = printed.lines().find(|line| line.starts_with("error: acme: failed"));
            *code == 1 && line.is_some_and(|line| line.contains(&format!("exit code {exit}")))
        };
        assert!(printed.iter().any(reported), "{class}: the exit code is reported: {printed:#?}");
        let plan = fleet.plan();
        assert_eq!(plan.code, 2, "{class}: the next plan tries again: {:#}", plan.json);
        fleet.undeclare("acme");
        fleet.converge();
    }
}

fn exits_at_once(fleet: &Fleet) {
    ends_with(fleet, "command: [no-such-word]\n", 2);
}

/// An image whose entry point is not there.
fn bare_image(fleet: &Fleet) {
    let (source, _) = fleet.engine.create("source", &json!({"Image": IMAGE, "Entrypoint": ["/no/such/program"]}));
    fleet.engine.must("POST", &format!("/commit?container={source}&repo=bare&tag=1"), None);
    fleet.engine.remove("source");
}

fn no_command(fleet: &Fleet) {
    bare_image(fleet);
    ends_with(fleet, "image: bare:1\n", 127);
}

fn no_command_without_init(fleet: &Fleet) {
    let policy = fs::read_to_string(fleet.repo().join("fleet.yaml")).unwrap();
    fs::write(fleet.repo().join("fleet.yaml"), policy.replace("openFiles: 1024", "openFiles: 1024, init: false"))
        .unwrap();
    fleet.converge();
    for class in classes(fleet) {
        fleet.declare("acme", &format!("runtime: {class}\nimage: bare:1\n"));
        let begun = crate::engine::clock();
        let printed = apply_beside_beta(fleet);
        let line = printed.lines().find(|line| line.starts_with("error: acme: failed")).unwrap_or_default();
        assert!(line.contains("/no/such/program"), "{class}: the runtime's own reason is reported:\n{printed}");
        no_container_of(fleet, "acme", begun);
        fleet.undeclare("acme");
        fleet.converge();
    }
    fleet.policy("");
    fleet.converge();
}

/// A runtime that asks the kernel for a setting which it does not have. The rest of it is runc.
fn no_sysctl(fleet: &Fleet) {
    let wrapper = "#!/bin/bash\nbefore=\nfor word; do\n\
        [ \"$before\" != --bundle ] || sed -i s/conf.default.disable_ipv6/conf.default.no_such/ \"$word/config.json\"\n\
        before=$word\ndone\nexec runc \"$@\"\n";
    register(fleet, "strict", wrapper);
    fleet.host("runtimes: {container: runc, gvisor: strict}\n");
    fleet.declare("acme", "runtime: gvisor\n");
    let begun = crate::engine::clock();
    let printed = apply_beside_beta(fleet);
    let line = printed.lines().find(|line| line.starts_with("error: acme: failed")).unwrap_or_default();
    assert!(line.contains("no_such"), "the setting is reported:\n{printed}");
    no_container_of(fleet, "acme", begun);
    fleet.undeclare("acme");
    fleet.converge();
    fleet.host("");
}

/// Registers a program as a runtime of the engine that runs.
pub fn register(fleet: &Fleet, name: &str, program: &str) {
    let path = fleet.engine.dir().join(format!("{name}-runtime"));
    fs::write(&path, program).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    let file = fleet.engine.dir().join("engine/daemon.json");
    let mut settings: Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
    settings["runtimes"][name] = json!({"path": path});
    fs::write(&file, settings.to_string()).unwrap();
    let socket = format!("--host unix://{}", fleet.engine.socket().display());
    let daemons = PrivateEngine::processes(&socket);
    let daemon = daemons.iter().find(|(_, line)| line.starts_with("dockerd")).expect("the engine's process is found");
    crate::engine::succeed({
        let mut command = Command::new("kill");
        command.args(["-HUP", &daemon.0.to_string()]);
        command
    });
    eventually(&format!("the engine has the runtime {name}"), || {
        fleet.engine.get("/info")["Runtimes"][name].is_object()
    });
}

fn held(fleet: &Fleet) {
    fleet.declare("acme", "");
    fleet.converge();
    let proper = fleet.engine.identity("tenantd-acme");
    fleet.declare("acme", "limits: {memory: 256MB}\n");
    fleet.engine.must("POST", "/containers/tenantd-acme/update", Some(&json!({"PidsLimit": 999})));
    let printed = apply_beside_beta(fleet);
    assert!(printed.contains("tenants/acme.yaml:4:"), "the mistake is reported with its place:\n{printed}");
    assert_eq!(fleet.engine.identity("tenantd-acme"), proper, "what runs is left as it is");
    fleet.undeclare("acme");
    fleet.converge();
}

#[test]
fn a_start_that_never_returns_holds_up_nobody() {
    let fleet = Fleet::start("stuck");
    fleet.cases(vec![
        case("a runtime that hangs", hangs),
        case("a second apply meanwhile", second_apply),
        case("kill -9 while a start hangs", killed_while_hanging),
        case("a replacement that hangs", replacement_hangs),
    ]);
    fleet.host(fleet.runtimes());
    fleet.end();
}

const STUCK: &str = "runtimes: {container: runc, gvisor: stuck}\ndeadlines: {start: 2s, stop: 2s, call: 2s}\n";

fn hangs(fleet: &Fleet) {
    fleet.host(STUCK);
    fleet.declare("hang", "runtime: gvisor\n");
    fleet.declare("acme", "");
    fleet.declare("beta", "");
    for round in 1..=2 {
        let since = crate::engine::clock();
        let begun = Instant::now();
        let (code, printed) = fleet.apply();
        let took = begun.elapsed();
        assert_eq!(code, 1, "round {round}: the apply exits with 1:\n{printed}");
        let line = printed.lines().find(|line| line.starts_with("error: hang: failed")).unwrap_or_default();
        assert!(line.contains("within 2 s"), "round {round}: the deadline is reported:\n{printed}");
        assert!(line.contains("the runtime stuck cannot start anything"), "round {round}: it was tested:\n{printed}");
        assert!(
            took < Duration::from_secs(30),
            "round {round}: the apply ends soon after the deadline, not in {took:?}"
        );
        no_container_of(fleet, "hang", since);
        if round == 1 {
            let at = |what: &str| printed.find(what).unwrap_or_else(|| panic!("{what} is printed:\n{printed}"));
            for tenant in ["acme", "beta"] {
                let name = format!("tenantd-{tenant}");
                assert_eq!(fleet.engine.inspect(&name)["State"]["Status"], "running", "{tenant} runs");
                let (converged, failed) = (at(&format!("{tenant}: converged")), at("hang: failed"));
                assert!(converged < failed, "{tenant} did not wait for the one that hangs:\n{printed}");
            }
        }
        let plan = fleet.plan();
        assert_eq!(plan.code, 2, "round {round}: only the tenant that hangs is left to do");
        assert_eq!(plan.addresses(), ["container.hang"], "round {round}: and nothing else");
    }
    fleet.host(fleet.runtimes());
    fleet.converge();
}

/// Starts an apply that hangs for `seconds`, and returns once it holds the lock and starts the container.
fn hanging_apply(fleet: &Fleet, seconds: u32) -> std::process::Child {
    fleet.engine.call("DELETE", "/containers/tenantd-hang?force=1", None);
    fleet.host(&STUCK.replace("start: 2s", &format!("start: {seconds}s")));
    let mut command = fleet.tenantd_itself(&["apply", "--yes", "--worktree", "fleet"]);
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    eventually("the runtime hangs", || {
        let all = fleet.engine.get("/containers/json?all=1");
        let ids = all.as_array().unwrap().iter().filter(|c| c["Names"][0] == "/tenantd-hang").map(|c| text(&c["Id"]));
        ids.into_iter().any(|id| PrivateEngine::processes(&id).iter().any(|(_, line)| line.contains(" create ")))
    });
    child
}

fn second_apply(fleet: &Fleet) {
    let first = hanging_apply(fleet, 5);
    let output = run(fleet.tenantd(&["apply", "--yes", "--worktree", "fleet"]));
    assert_eq!(code(&output), 1, "a second apply is refused");
    let printed = said(&output);
    assert!(printed.contains(&format!("process {}", first.id())), "it says which holds it up:\n{printed}");
    assert!(printed.contains("--lock-timeout"), "and how to wait:\n{printed}");
    let (code_of_plan, printed) = fleet.plan_text();
    assert_ne!(code_of_plan, 0, "a plan meanwhile is not kept waiting:\n{printed}");
    let begun = Instant::now();
    let output = run(fleet.tenantd(&["apply", "--yes", "--worktree", "fleet", "--lock-timeout", "200ms"]));
    assert_eq!(code(&output), 1, "one that waits too short is refused as well");
    assert!(begun.elapsed() >= Duration::from_millis(200), "after it has waited");
    // The one that waits finds a fleet that can converge.
    fleet.host(fleet.runtimes());
    let waited = run(fleet.tenantd(&["apply", "--yes", "--worktree", "fleet", "--lock-timeout", "60s"]));
    let printed = said(&waited);
    assert!(printed.contains("waiting: another tenantd holds"), "one that waits says so:\n{printed}");
    assert_eq!(code(&waited), 0, "and then does its work:\n{printed}");
    let first = first.wait_with_output().unwrap();
    assert_eq!(code(&first), 1, "the first ended by its deadline:\n{}", said(&first));
    fleet.in_order();
}

fn killed_while_hanging(fleet: &Fleet) {
    let mut first = hanging_apply(fleet, 60);
    first.kill().unwrap();
    first.wait().unwrap();
    let id = fleet.engine.get("/containers/json?all=1");
    let id = id.as_array().unwrap().iter().find(|c| c["Names"][0] == "/tenantd-hang").map(|c| text(&c["Id"])).unwrap();
    fleet.host(&format!("{}deadlines: {{call: 3s, stop: 2s}}\n", fleet.runtimes()));
    let plan = fleet.plan();
    let change = plan.change("container.hang");
    assert_eq!(names(change), ["state"], "the plan knows the one that was left hanging");
    assert_eq!(attribute(change, "state")["before"], "hung in its start", "and says so");
    assert_eq!(change["actions"], json!(["delete", "create"]), "it is made anew");
    fleet.converge();
    eventually("nothing of the killed one is left", || PrivateEngine::processes(&id).is_empty());
}

fn replacement_hangs(fleet: &Fleet) {
    let gvisor = if fleet.engine.tests_gvisor() { "runsc" } else { "runc" };
    fleet.host(&STUCK.replace("container: runc, gvisor: stuck", &format!("container: stuck, gvisor: {gvisor}")));
    let since = crate::engine::clock();
    let (code, printed) = fleet.apply();
    assert_eq!(code, 1, "the apply exits with 1:\n{printed}");
    for tenant in ["acme", "beta"] {
        assert!(printed.contains(&format!("error: {tenant}: failed")), "{tenant} is reported:\n{printed}");
        no_container_of(fleet, tenant, since);
    }
    fleet.host(fleet.runtimes());
    fleet.converge();
}
