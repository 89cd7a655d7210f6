//! What a tenant's objects are doing, whose they are, and what becomes of files: all but attributes.

use std::{
    fs,
    os::unix::fs::{MetadataExt, PermissionsExt, lchown, symlink},
    path::PathBuf,
};

use serde_json::{Value, json};

use crate::{
    engine::{IMAGE, clock, said, succeed, text},
    fleet::{Fleet, attribute, case, code, eventually, names, run},
};

/// Plain folders, which are tampered with here; images are in `workspace`.
const FOLDERS: &str = "workspaces: {backend: folder, unenforced: accept}\n";

/// The tenant that is tampered with, and one that is not.
const OURS: &str = "tenantd-acme";
const OTHER: &str = "tenantd-beta";

#[test]
fn states_and_foreign_objects_are_found_and_repaired() {
    let fleet = Fleet::start("state");
    fleet.host(FOLDERS);
    fleet.declare("acme", "");
    fleet.declare("beta", "");
    fleet.converge();
    fleet.cases(vec![
        case("missing", missing),
        case("stopped", stopped),
        case("paused", paused),
        case("paused with a limit raised", paused_and_raised),
        case("made and never started", never_started),
        case("renamed, and its name taken by a foreign object", name_taken),
        case("its network's name taken by a foreign object", network_name_taken),
        case("a tenant that is blocked is contained", blocked_is_contained),
        case("a second container with the tenant's label", surplus),
        case("what was run of a commit of the tenant", copy_of_a_commit),
        case("a foreign container with a name that we would use next", temporary_name_taken),
        case("what weakens is paused before anything else", paused_first),
        case("containment comes first for all tenants", contained_first),
        case("the workspace open to others", workspace_open),
        case("the workspace gone", workspace_gone),
        case("the workspace a link", workspace_link),
        case("a tag that now means another image", moved_tag),
        case("limits that a commit changed", limits_changed),
        case("a declaration that a commit changed", redeclared),
        case("only one tenant", only_one),
        case("the engine named on the command line", engine_named),
        case("a removed tenant", removed),
    ]);
    fleet.end();
}

/// What happened to one object since `start`.
fn actions(fleet: &Fleet, start: std::time::Duration, id: &str) -> Vec<String> {
    let events = fleet.engine.events(start);
    let of = |event: &&Value| event["Actor"]["ID"] == id || event["Actor"]["Attributes"]["container"] == id;
    events.iter().filter(of).map(|event| text(&event["Action"])).collect()
}

fn missing(fleet: &Fleet) {
    let network = fleet.engine.network(OURS).unwrap()["Id"].clone();
    fleet.engine.remove(OURS);
    let plan = fleet.plan();
    assert_eq!(plan.addresses(), ["container.acme"], "only the container is missing");
    assert_eq!(plan.change("container.acme")["actions"], json!(["create"]), "it is made");
    let other = fleet.engine.identity(OTHER);
    fleet.converge();
    assert_eq!(fleet.engine.network(OURS).unwrap()["Id"], network, "the network stays");
    assert_eq!(fleet.engine.identity(OTHER), other, "another tenant is not touched");
}

/// The plan names the state alone, in place; after the repair it is the same container.
fn state_alone(fleet: &Fleet, actual: &str) {
    let id = fleet.engine.identity(OURS).0;
    let plan = fleet.plan();
    let change = plan.change("container.acme");
    assert_eq!(names(change), ["state"], "the plan names the state");
    let found = attribute(change, "state");
    assert_eq!((&found["before"], &found["after"]), (&json!(actual), &json!("running")), "with both values");
    assert_eq!((&found["cause"], &found["weakens"]), (&json!("drift"), &json!(false)), "and what it means");
    assert_eq!(change["actions"], json!(["update"]), "the container stays");
    let (_, printed) = fleet.plan_text();
    assert!(printed.contains(&format!("~ state = \"{actual}\" -> \"running\" # drift")), "people see it:\n{printed}");
    fleet.converge();
    assert_eq!(fleet.engine.identity(OURS).0, id, "it is the same container");
    assert_eq!(fleet.engine.inspect(OURS)["State"]["Status"], "running", "and it runs");
}

fn stopped(fleet: &Fleet) {
    fleet.engine.must("POST", &format!("/containers/{OURS}/stop?t=2"), None);
    state_alone(fleet, "stopped");
}

fn paused(fleet: &Fleet) {
    let proper = fleet.engine.identity(OURS);
    fleet.engine.must("POST", &format!("/containers/{OURS}/pause"), None);
    state_alone(fleet, "paused");
    assert_eq!(fleet.engine.identity(OURS), proper, "it was not started anew");
}

fn paused_and_raised(fleet: &Fleet) {
    let proper = fleet.engine.identity(OURS);
    fleet.engine.must("POST", &format!("/containers/{OURS}/pause"), None);
    fleet.engine.must("POST", &format!("/containers/{OURS}/update"), Some(&json!({"PidsLimit": 999})));
    assert_eq!(names(fleet.plan().change("container.acme")), ["pids_limit", "state"], "both are named");
    let start = clock();
    fleet.converge();
    assert_eq!(fleet.engine.identity(OURS), proper, "both are repaired in place");
    assert_eq!(actions(fleet, start, &proper.0), ["update", "unpause"], "it runs again once its limits hold");
}

fn never_started(fleet: &Fleet) {
    fleet.recreate("acme", false, |_| {});
    state_alone(fleet, "created");
}

/// What a blocked tenant looks like: code and help are told, and apply goes on with the others.
fn blocked(fleet: &Fleet, code: &str, shown_in_help: &str) {
    fleet.engine.must("POST", &format!("/containers/{OTHER}/update"), Some(&json!({"PidsLimit": 999})));
    let plan = fleet.plan();
    assert_eq!(plan.code, 1, "a plan with a blocked tenant exits with 1");
    let (found, reason, help) = plan.blocked("acme");
    assert_eq!(found, code, "the plan says why the tenant is blocked: {reason}");
    assert!(help.contains(shown_in_help), "and what to do about it: {help}");
    let (_, printed) = fleet.plan_text();
    assert!(printed.contains("Blocked: acme") && printed.contains(shown_in_help), "people see it as well:\n{printed}");
    let (code, printed) = fleet.apply();
    assert_eq!(code, 1, "an apply with a blocked tenant exits with 1:\n{printed}");
    assert!(printed.contains("1 tenant converged, 0 failed, 1 blocked"), "the others converge:\n{printed}");
    assert_eq!(fleet.engine.inspect(OTHER)["HostConfig"]["PidsLimit"], 256, "another tenant is repaired");
}

fn name_taken(fleet: &Fleet) {
    let proper = fleet.engine.identity(OURS);
    fleet.engine.must("POST", &format!("/containers/{OURS}/rename?name=hidden"), None);
    fleet.engine.foreign(OURS, "bridge");
    let foreign = fleet.engine.identity(OURS);
    blocked(fleet, "name-taken", "docker rename");
    assert_eq!(fleet.engine.identity(OURS), foreign, "the foreign container is not touched");
    assert_eq!(fleet.engine.identity("hidden"), proper, "the tenant's own is left as it is");
    // As the help says.
    fleet.engine.must("POST", &format!("/containers/{}/rename?name=other-name", foreign.0), None);
    fleet.converge();
    assert_eq!(fleet.engine.identity(OURS), proper, "then the tenant's own gets its name back");
    fleet.engine.remove("other-name");
}

fn network_name_taken(fleet: &Fleet) {
    fleet.engine.remove(OURS);
    fleet.engine.must("DELETE", &format!("/networks/{OURS}"), None);
    let foreign = fleet.engine.must("POST", "/networks/create", Some(&json!({"Name": OURS})));
    blocked(fleet, "name-taken", "docker network rm");
    assert_eq!(fleet.engine.network(OURS).unwrap()["Id"], foreign["Id"], "the foreign network is not touched");
    assert_eq!(fleet.engine.call("GET", &format!("/containers/{OURS}/json"), None).0, 404, "nothing is put on it");
    fleet.engine.must("DELETE", &format!("/networks/{OURS}"), None);
    fleet.converge();
}

fn blocked_is_contained(fleet: &Fleet) {
    let proper = fleet.engine.identity(OURS);
    fleet.engine.must("POST", &format!("/containers/{OURS}/rename?name=hidden"), None);
    fleet.engine.foreign(OURS, "bridge");
    fleet.engine.attach("connect", "bridge", "hidden");
    let (code, printed) = fleet.apply();
    assert_eq!(code, 1, "the tenant is blocked:\n{printed}");
    let networks = fleet.engine.inspect("hidden")["NetworkSettings"]["Networks"].clone();
    assert_eq!(networks.as_object().unwrap().keys().collect::<Vec<_>>(), [OURS], "it is off the strange network");
    assert_eq!(fleet.engine.identity("hidden"), proper, "and runs on otherwise");
    fleet.engine.remove(OURS);
    fleet.converge();
}

fn surplus(fleet: &Fleet) {
    let proper = fleet.engine.identity(OURS);
    let body = json!({"Image": IMAGE, "Labels": {"io.tenantd.tenant": "acme"}});
    let (extra, _) = fleet.engine.create("copy", &body);
    fleet.engine.must("POST", "/containers/copy/start", None);
    let plan = fleet.plan();
    assert_eq!(plan.addresses(), ["container.copy"], "only the one too many changes");
    assert_eq!(plan.change("container.copy")["actions"], json!(["delete"]), "it is removed");
    let start = clock();
    fleet.converge();
    let printed = actions(fleet, start, &extra);
    assert_eq!(printed.first().map(String::as_str), Some("pause"), "what nobody declared is paused first: {printed:?}");
    assert_eq!(fleet.engine.identity(OURS), proper, "the declared one runs on");
}

fn copy_of_a_commit(fleet: &Fleet) {
    let engine = &fleet.engine;
    let commit = |image: &str| succeed(engine.docker(&["commit", OURS, image]));
    let copy = |name: &str, image: &str, network: &str| {
        succeed(engine.docker(&["run", "--detach", "--name", name, "--network", network, image, "sleep"]));
        engine.identity(name)
    };
    commit("x:1");
    let (beside, inside) = (copy("mydebug", "x:1", "bridge"), copy("intruder", "x:1", OURS));
    let proper = engine.identity(OURS);
    let start = clock();
    fleet.converge();
    assert_eq!(actions(fleet, start, &beside.0), Vec::<String>::new(), "it is left alone");
    let printed = actions(fleet, start, &inside.0);
    assert!(!printed.is_empty() && printed.iter().all(|action| action == "disconnect"), "it is taken off: {printed:?}");
    assert_eq!((engine.identity("mydebug"), engine.identity("intruder")), (beside.clone(), inside));
    assert_eq!(engine.identity(OURS), proper);
    // The commit is an image like any other: for the tenant itself, for another one, and for a commit of that.
    for image in ["x:1", "x:2"] {
        fleet.declare("acme", &format!("image: {image}\n"));
        fleet.declare("beta", &format!("image: {image}\n"));
        fleet.converge();
        assert_eq!(engine.identity("mydebug"), beside, "it is left alone beside tenants of {image}");
        engine.must("POST", "/containers/tenantd-beta/rename?name=elsewhere", None);
        let renamed = engine.identity("elsewhere");
        fleet.converge();
        assert_eq!(engine.identity(OTHER), renamed, "a renamed tenant is still ours");
        commit("x:2");
    }
    // A network cannot have its labels from one of ours, and a commit brings no volume.
    let refused = run(engine.docker(&["network", "create", "--config-from", OURS, "copy"]));
    assert_ne!(code(&refused), 0, "{}", said(&refused));
    for name in ["mydebug", "intruder"] {
        engine.remove(name);
    }
    fleet.declare("acme", "");
    fleet.declare("beta", "");
    fleet.converge();
    succeed(engine.docker(&["image", "rm", "--force", "x:1", "x:2"]));
    fleet.in_order();
}

fn temporary_name_taken(fleet: &Fleet) {
    let (foreign, _) = fleet.engine.create("tenantd-acme.new", &json!({"Image": IMAGE}));
    fleet.in_order();
    let proper = fleet.engine.identity(OURS);
    fleet.recreate("acme", true, |body| body["User"] = json!("0:0"));
    let (_, printed) = fleet.apply();
    assert_eq!(fleet.engine.inspect("tenantd-acme.new")["Id"], foreign.as_str(), "it is not touched:\n{printed}");
    fleet.engine.remove("tenantd-acme.new");
    fleet.converge();
    assert_ne!(fleet.engine.identity(OURS).0, proper.0, "the container was made anew");
}

fn paused_first(fleet: &Fleet) {
    fleet.recreate("acme", true, |body| body["HostConfig"]["CapAdd"] = json!(["CAP_SYS_ADMIN"]));
    let id = fleet.engine.identity(OURS).0;
    let (_, printed) = fleet.plan_text();
    assert!(printed.contains("# contained first: paused"), "the plan says so:\n{printed}");
    let start = clock();
    fleet.converge();
    let all: Vec<(String, String)> =
        fleet.engine.events(start).iter().map(|event| (text(&event["Actor"]["ID"]), text(&event["Action"]))).collect();
    assert_eq!(all.first(), Some(&(id.clone(), "pause".to_owned())), "the very first thing: {all:?}");
    let own = actions(fleet, start, &id);
    assert!(own.contains(&"destroy".to_owned()), "then it is removed: {own:?}");
    assert!(!own.contains(&"unpause".to_owned()), "it never runs again: {own:?}");
}

fn contained_first(fleet: &Fleet) {
    fleet.engine.must("POST", "/networks/create", Some(&json!({"Name": "office"})));
    fleet.engine.attach("connect", "office", OTHER);
    fleet.recreate("acme", true, |body| body["HostConfig"]["ReadonlyRootfs"] = json!(false));
    let start = clock();
    fleet.converge();
    let all: Vec<String> = fleet.engine.events(start).iter().map(|event| text(&event["Action"])).collect();
    let first = |names: &[&str]| all.iter().position(|action| names.contains(&action.as_str()));
    let repair = first(&["create", "kill", "die", "destroy", "start"]);
    assert!(first(&["pause"]) < repair && first(&["pause"]).is_some(), "one is paused first: {all:?}");
    assert!(first(&["disconnect"]) < repair && first(&["disconnect"]).is_some(), "and one is cut off: {all:?}");
    fleet.engine.must("DELETE", "/networks/office", None);
}

fn workspace(fleet: &Fleet) -> PathBuf {
    fleet.data().join("workspaces/acme")
}

fn workspace_open(fleet: &Fleet) {
    let proper = fleet.engine.identity(OURS);
    fs::set_permissions(workspace(fleet), fs::Permissions::from_mode(0o777)).unwrap();
    lchown(workspace(fleet), Some(0), Some(0)).unwrap();
    let plan = fleet.plan();
    let change = plan.change("workspace.acme");
    assert_eq!(names(change), ["uid", "mode"], "the plan names both");
    assert_eq!(attribute(change, "mode")["before"], "0777", "with the actual value");
    assert_eq!(attribute(change, "mode")["weakens"], true, "and what it means");
    fleet.converge();
    let found = fs::symlink_metadata(workspace(fleet)).unwrap();
    assert_eq!((found.mode() & 0o7777, found.uid(), found.gid()), (0o700, 1000, 1000), "it is closed again");
    assert_eq!(fleet.engine.identity(OURS), proper, "the tenant ran on");
}

fn workspace_gone(fleet: &Fleet) {
    let away = fleet.engine.dir().join("moved-away");
    fs::rename(workspace(fleet), &away).unwrap();
    let plan = fleet.plan();
    assert_eq!(plan.change("workspace.acme")["actions"], json!(["create"]), "the folder is made");
    assert_eq!(names(plan.change("container.acme")), ["workspace"], "who runs in the old one is made anew");
    fleet.converge();
    let (written, printed) = fleet.engine.agent("acme", &["write", "/workspace/new", "text"]);
    assert!(written, "the tenant writes to its workspace: {printed}");
    assert_eq!(fs::read_to_string(workspace(fleet).join("new")).unwrap(), "text", "which is the new folder");
}

fn workspace_link(fleet: &Fleet) {
    let proper = fleet.engine.identity(OURS);
    let away = fleet.engine.dir().join("away");
    fs::rename(workspace(fleet), &away).unwrap();
    symlink("/etc", workspace(fleet)).unwrap();
    blocked(fleet, "workspace-not-a-folder", "move it away");
    assert_eq!(fleet.engine.identity(OURS), proper, "the tenant is left as it is");
    assert_eq!(fs::symlink_metadata("/etc").unwrap().uid(), 0, "what the link leads to is not touched");
    fs::remove_file(workspace(fleet)).unwrap();
    fs::rename(&away, workspace(fleet)).unwrap();
    fleet.converge();
}

fn moved_tag(fleet: &Fleet) {
    let running = text(&fleet.engine.inspect(OURS)["Image"]);
    let other = fleet.engine.build_image(IMAGE, Some("two"));
    assert_ne!(running, other, "the variant is another image");
    let plan = fleet.plan();
    for tenant in ["acme", "beta"] {
        let change = plan.change(&format!("container.{tenant}"));
        let found = attribute(change, "image_id");
        assert_eq!(found["before"], running.as_str(), "the plan names the image that runs");
        assert_eq!(found["after"], other.as_str(), "and the one that the tag means now");
        assert_eq!(change["actions"], json!(["delete", "create"]), "and what will be done");
    }
    let (_, printed) = fleet.plan_text();
    assert!(printed.contains("the reference now means another image"), "people are printed why:\n{printed}");
    fleet.converge();
    assert_eq!(fleet.engine.inspect(OURS)["Image"], other.as_str(), "the tenant runs the other image");
    let logged = fleet.engine.docker(&["logs", OURS]).output().unwrap();
    assert!(String::from_utf8_lossy(&logged.stdout).contains("agent two"), "which is the other program");
    fleet.engine.build_image(IMAGE, None);
    fleet.converge();
}

fn limits_changed(fleet: &Fleet) {
    let proper = fleet.engine.identity(OURS);
    fleet.declare("acme", "limits: {cpus: 0.5, memory: 256MiB, pids: 100}\n");
    let plan = fleet.plan();
    let change = plan.change("container.acme");
    assert_eq!(names(change), ["memory", "memory_swap", "nano_cpus", "pids_limit"], "the plan names all of them");
    for name in names(change) {
        assert_eq!(attribute(change, name)["cause"], "intent", "{name} is what a commit changed");
    }
    assert_eq!(plan.json["resource_drift"], json!([]), "and no drift");
    assert_eq!(change["actions"], json!(["update"]), "the container stays");
    fleet.converge();
    assert_eq!(fleet.engine.identity(OURS), proper, "id and start time stay");
    fleet.declare("acme", "");
    fleet.converge();
    assert_eq!(fleet.engine.identity(OURS), proper, "back again as well");
}

fn redeclared(fleet: &Fleet) {
    fleet.declare("acme", "environment: {GREETING: hello}\n");
    let plan = fleet.plan();
    let change = plan.change("container.acme");
    assert_eq!(names(change), ["environment"], "the plan names what the commit changed");
    assert_eq!(attribute(change, "environment")["cause"], "intent", "and that it was a commit");
    let old = fleet.engine.identity(OURS).0;
    let start = clock();
    fleet.converge();
    assert!(!actions(fleet, start, &old).contains(&"pause".to_owned()), "what is not weaker is stopped, not paused");
    fleet.declare("acme", "");
    fleet.converge();
}

fn only_one(fleet: &Fleet) {
    for name in [OURS, OTHER] {
        fleet.engine.must("POST", &format!("/containers/{name}/update"), Some(&json!({"PidsLimit": 999})));
    }
    let output = run(fleet.tenantd(&["apply", "--yes", "--worktree", "fleet", "--tenant", "beta"]));
    assert!(output.status.success(), "one tenant is applied: {output:?}");
    assert_eq!(fleet.engine.inspect(OTHER)["HostConfig"]["PidsLimit"], 256, "it is repaired");
    assert_eq!(fleet.engine.inspect(OURS)["HostConfig"]["PidsLimit"], 999, "the other one is left as it is");
    fleet.converge();
}

/// `--engine` goes before DOCKER_HOST, which goes before host.yaml.
fn engine_named(fleet: &Fleet) {
    let real = format!("unix://{}", fleet.engine.socket().display());
    fleet.host_file(&format!("engine: unix:///nonexistent/one.sock\n{FOLDERS}"));
    let plan = |environment: Option<&str>, option: Option<&str>| {
        let mut command = fleet.tenantd(&["plan", "--worktree", "fleet", "--detailed-exitcode"]);
        command.envs(environment.map(|url| ("DOCKER_HOST", url)));
        command.args(option.into_iter().flat_map(|url| ["--engine", url]));
        let output = run(command);
        (crate::fleet::code(&output), crate::engine::said(&output))
    };
    let (code, printed) = plan(None, None);
    assert_eq!(code, 1, "host.yaml names an engine that is not there:\n{printed}");
    assert!(printed.contains("/nonexistent/one.sock"), "which is said:\n{printed}");
    assert_eq!(plan(Some(&real), None).0, 0, "DOCKER_HOST goes before host.yaml");
    assert_eq!(plan(Some("unix:///nonexistent/two.sock"), Some(&real)).0, 0, "--engine goes before DOCKER_HOST");
    fleet.host(FOLDERS);
}

fn removed(fleet: &Fleet) {
    let (written, printed) = fleet.engine.agent("acme", &["write", "/workspace/kept.txt", "precious"]);
    assert!(written, "the tenant writes to its workspace: {printed}");
    let inode = fs::metadata(workspace(fleet)).unwrap().ino();
    fleet.undeclare("acme");
    let plan = fleet.plan();
    for address in ["container.acme", "network.acme", "workspace.acme"] {
        assert_eq!(plan.change(address)["actions"], json!(["delete"]), "{address} goes");
    }
    let (_, printed) = fleet.plan_text();
    assert!(printed.contains("# workspace.acme will be archived"), "people are printed that files stay:\n{printed}");
    let other = fleet.engine.identity(OTHER);
    fleet.converge();
    assert_eq!(fleet.engine.call("GET", &format!("/containers/{OURS}/json"), None).0, 404, "the container is gone");
    assert!(fleet.engine.network(OURS).is_none(), "the network is gone");
    assert!(!workspace(fleet).exists(), "the workspace is not in its place any more");
    let kept: Vec<PathBuf> = fs::read_dir(fleet.data().join("archive")).unwrap().flatten().map(|e| e.path()).collect();
    let kept = kept.iter().find(|path| path.file_name().unwrap().to_string_lossy().starts_with("acme."));
    let kept = kept.expect("the workspace is archived");
    assert_eq!(fs::metadata(kept).unwrap().ino(), inode, "it is the very same folder");
    assert_eq!(fs::read_to_string(kept.join("kept.txt")).unwrap(), "precious", "with everything in it");
    assert_eq!(fleet.engine.identity(OTHER), other, "another tenant is not touched");

    fleet.declare("acme", "");
    fleet.converge();
    assert!(!workspace(fleet).join("kept.txt").exists(), "a tenant of the same name begins with an empty folder");
    assert!(kept.join("kept.txt").exists(), "and what was archived stays there");
    eventually("the new tenant serves", || fleet.engine.agent("acme", &["connect", "127.0.0.1:8080"]).0);
}
