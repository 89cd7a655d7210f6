//! A config repo and a host's settings for one private engine, and the real binary on both.

use std::{
    fs,
    panic::{AssertUnwindSafe, catch_unwind},
    path::PathBuf,
    process::{Command, Output},
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use crate::engine::{IMAGE, PrivateEngine, said, text};

/// The tenants of one engine.
pub struct Fleet {
    pub engine: PrivateEngine,
    /// Whether tenantd runs on the engine's own machine, in all of its namespaces; else beside it, with
    /// nothing but the engine's socket.
    pub within: bool,
}

/// Something to try, and its name.
pub type Case<'a> = (String, Box<dyn Fn(&Fleet) + 'a>);

/// A case by its name.
pub fn case<'a>(name: &str, work: impl Fn(&Fleet) + 'a) -> Case<'a> {
    (name.to_owned(), Box::new(work))
}

/// What the tenants' policy is, unless a test says otherwise.
const POLICY: &str = "\
apiVersion: tenantd/v1
kind: Fleet
defaults: {tier: free, image: IMAGE}
hardening: {openFiles: 1024}
";

impl Fleet {
    /// A fleet without tenants on an engine of its own.
    pub fn start(name: &str) -> Self {
        Self::on(PrivateEngine::start(name, &[]))
    }

    /// A fleet without tenants.
    pub fn on(engine: PrivateEngine) -> Self {
        let fleet = Self { engine, within: false };
        fs::create_dir_all(fleet.repo().join("tenants")).unwrap();
        fleet.policy("");
        fleet.host("");
        fleet
    }

    /// The config repo.
    pub fn repo(&self) -> PathBuf {
        self.engine.dir().join("fleet")
    }

    /// The data root.
    pub fn data(&self) -> PathBuf {
        self.engine.dir().join("state")
    }

    /// Writes fleet.yaml with further lines.
    pub fn policy(&self, further: &str) {
        fs::write(self.repo().join("fleet.yaml"), POLICY.replace("IMAGE", IMAGE) + further).unwrap();
    }

    /// Writes host.yaml with further lines.
    pub fn host(&self, further: &str) {
        let engine = format!("engine: unix://{}\n", self.engine.socket().display());
        self.host_file(&(engine + further));
    }

    /// Writes host.yaml without an engine's socket.
    pub fn host_file(&self, further: &str) {
        let mut file = format!("apiVersion: tenantd/v1\nkind: Host\ndataRoot: {}\n{further}", self.data().display());
        // What is mounted in the engine's own mount namespace is not seen by the test.
        if self.within && !further.contains("workspaces:") {
            file.push_str("workspaces: {backend: folder, unenforced: accept}\n");
        }
        if !further.contains("deadlines:") {
            file.push_str("deadlines: {stop: 2s}\n");
        }
        fs::write(self.engine.dir().join("host.yaml"), file).unwrap();
    }

    /// The line by which a tenant runs in gVisor. Where that cannot be tested, it is one more of runc's.
    pub fn gvisor(&self) -> &'static str {
        if self.engine.tests_gvisor() { "runtime: gvisor\n" } else { "" }
    }

    /// Settings with which each class has a runtime that starts something.
    pub fn runtimes(&self) -> &'static str {
        if self.engine.tests_gvisor() { "" } else { "runtimes: {container: runc, gvisor: runc}\n" }
    }

    /// Declares a tenant, with further lines in its file. What is archived from an earlier time stays there.
    pub fn declare(&self, tenant: &str, further: &str) {
        self.declare_bare(tenant, &format!("{further}workspace: {{restore: none}}\n"));
    }

    /// Declares a tenant with these lines in its file and no others.
    pub fn declare_bare(&self, tenant: &str, further: &str) {
        let file = format!("apiVersion: tenantd/v1\nkind: Tenant\ntenant: {tenant}\n{further}");
        fs::write(self.repo().join(format!("tenants/{tenant}.yaml")), file).unwrap();
    }

    /// Removes a tenant's file.
    pub fn undeclare(&self, tenant: &str) {
        fs::remove_file(self.repo().join(format!("tenants/{tenant}.yaml"))).unwrap();
    }

    /// The binary with this fleet's settings. Nothing that hangs keeps a test for more than two minutes.
    pub fn tenantd(&self, words: &[&str]) -> Command {
        let bounded = ["timeout", "--kill-after=1", "120", env!("CARGO_BIN_EXE_tenantd")];
        let mut command = match self.within {
            // Whoever enters a mount namespace is at its root.
            true => self.engine.within(&["env", "-C", &self.engine.dir().display().to_string()]),
            false => Command::new(bounded[0]),
        };
        command.args(&bounded[usize::from(!self.within)..]);
        self.settings(&mut command, words);
        command
    }

    /// The same as a direct child, to be killed.
    pub fn tenantd_itself(&self, words: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tenantd"));
        self.settings(&mut command, words);
        command
    }

    fn settings(&self, command: &mut Command, words: &[&str]) {
        command.env_remove("DOCKER_HOST").env("NO_COLOR", "1").current_dir(self.engine.dir());
        command.arg("--host").arg(self.engine.dir().join("host.yaml")).args(words);
    }

    /// Plans, for programs.
    pub fn plan(&self) -> Plan {
        let output = self.tenantd(&["plan", "--worktree", "fleet", "--detailed-exitcode", "--format", "json"]);
        Plan::of(&run(output))
    }

    /// Plans, for people.
    pub fn plan_text(&self) -> (i32, String) {
        let output = run(self.tenantd(&["plan", "--worktree", "fleet", "--detailed-exitcode"]));
        (code(&output), said(&output))
    }

    /// Applies; returns the exit code and both streams.
    pub fn apply(&self) -> (i32, String) {
        let output = run(self.tenantd(&["apply", "--yes", "--worktree", "fleet"]));
        (code(&output), said(&output))
    }

    /// Applies, and looks that everything is as declared and nothing is left to do.
    pub fn converge(&self) {
        let (code, printed) = self.apply();
        assert_eq!(code, 0, "apply succeeds:\n{printed}");
        self.in_order();
    }

    /// Applies after an apply that was killed, and looks that everything is as declared. The engine may still be at what the
    /// killed one asked for, such as a removal, and take away what the next one saw: then one more has the last word.
    #[track_caller]
    pub fn carried_on(&self, when: &str) {
        for _ in 0..3 {
            let (code, printed) = self.apply();
            let removed = ["No such container", "removal", "is not paused", "is not running"];
            let is_overtaken = removed.iter().any(|words| printed.contains(words));
            assert!(code == 0 || is_overtaken, "{when}: the next apply succeeds:\n{printed}");
            if code == 0 && self.plan_text().0 == 0 {
                break;
            }
        }
        self.in_order();
    }

    /// Looks that the plan is empty.
    pub fn in_order(&self) {
        let (code, printed) = self.plan_text();
        assert_eq!(code, 0, "after an apply the plan is empty:\n{printed}");
        assert!(printed.contains("No changes. The engine matches the configuration."), "the plan says so:\n{printed}");
    }

    /// Makes a tenant's container anew with the same body but for one change, as someone would by hand.
    /// Returns the engine's warnings.
    pub fn recreate(&self, tenant: &str, start: bool, change: impl FnOnce(&mut Value)) -> Vec<String> {
        let name = format!("tenantd-{tenant}");
        let old = self.engine.inspect(&name);
        let mut body = old["Config"].clone();
        body["HostConfig"] = old["HostConfig"].clone();
        let address = &old["NetworkSettings"]["Networks"][&name]["IPAMConfig"];
        body["NetworkingConfig"] = json!({"EndpointsConfig": {&name: {"IPAMConfig": address}}});
        change(&mut body);
        if body["HostConfig"]["NetworkMode"] != json!(name) {
            body.as_object_mut().unwrap().remove("NetworkingConfig");
        }
        self.engine.remove(&name);
        let (id, warnings) = self.engine.create(&name, &body);
        if start {
            self.engine.must("POST", &format!("/containers/{id}/start"), None);
        }
        warnings
    }

    /// Makes a tenant's network anew with the same body but for one change, and its container on it.
    pub fn recreate_network(&self, tenant: &str, change: impl FnOnce(&mut Value)) {
        let name = format!("tenantd-{tenant}");
        let mut body = self.engine.network(&name).expect("the tenant has a network");
        for key in ["Id", "Created", "Scope", "Containers", "ConfigFrom"] {
            body.as_object_mut().unwrap().remove(key);
        }
        self.engine.attach("disconnect", &name, &name);
        self.engine.must("DELETE", &format!("/networks/{name}"), None);
        change(&mut body);
        let made = self.engine.must("POST", "/networks/create", Some(&body));
        let made_under_another_name = body["Name"] != json!(name);
        if body["ConfigOnly"] != true && body["Ingress"] != true {
            let body = json!({"Container": name});
            let (status, answer) =
                self.engine.call("POST", &format!("/networks/{}/connect", text(&made["Id"])), Some(&body));
            // Later engines connect nothing whose own network's name is gone.
            assert!(status == 200 || made_under_another_name, "{status}: {answer}");
        }
    }

    /// Runs cases one after the other. One that fails is cleaned away, and all failures are told at the end.
    pub fn cases(&self, cases: Vec<Case<'_>>) {
        let mut failed = Vec::new();
        for (name, case) in cases {
            let begun = Instant::now();
            let result = catch_unwind(AssertUnwindSafe(|| case(self)));
            let took = begun.elapsed().as_secs_f32();
            match result {
                Ok(()) => println!("case {name}: ok, {took:.1} s"),
                Err(_) => {
                    println!("case {name}: FAILED");
                    failed.push(name);
                    self.clean();
                }
            }
        }
        assert!(failed.is_empty(), "{} cases failed, see above: {failed:#?}", failed.len());
    }

    /// Removes every container and network that is ours by label or name, and converges again.
    fn clean(&self) {
        for (list, kind) in [("/containers/json?all=1", "containers"), ("/networks", "networks")] {
            for object in self.engine.get(list).as_array().into_iter().flatten() {
                let name = text(if kind == "containers" { &object["Names"][0] } else { &object["Name"] });
                if object["Labels"]["io.tenantd.tenant"].is_string() || name.contains("tenantd-") {
                    let path = format!("/{kind}/{}?force=1", text(&object["Id"]));
                    let _ = self.engine.call("DELETE", &path, None);
                }
            }
        }
        let (code, printed) = self.apply();
        if code != 0 {
            println!("after a failed case apply fails as well:\n{printed}");
        }
    }

    /// Ends all tenants, and looks that nothing of them is left: no container, network, mount, process.
    pub fn end(self) {
        let engine = &self.engine;
        let ids: Vec<String> = engine
            .get("/containers/json?all=1")
            .as_array()
            .into_iter()
            .flatten()
            .filter(|container| container["Labels"]["io.tenantd.tenant"].is_string())
            .map(|container| text(&container["Id"]))
            .collect();
        for file in fs::read_dir(self.repo().join("tenants")).unwrap().flatten() {
            fs::remove_file(file.path()).unwrap();
        }
        self.converge();
        for list in ["/containers/json?all=1", "/networks"] {
            let ours: Vec<Value> = engine.get(list).as_array().unwrap().clone();
            let ours: Vec<&Value> = ours.iter().filter(|o| o["Labels"]["io.tenantd.tenant"].is_string()).collect();
            assert!(ours.is_empty(), "without tenants the engine has nothing of ours: {ours:#?}");
        }
        for id in ids {
            // The shim of a container goes a moment after it.
            eventually(&format!("no process of {id} is left"), || PrivateEngine::processes(&id).is_empty());
        }
        let links = String::from_utf8_lossy(&run(engine.in_network(&["ip", "-o", "link"])).stdout).into_owned();
        assert!(
            !links.contains("td-") && !links.contains("tg-") && !links.contains("veth"),
            "no interface of a tenant is left:\n{links}"
        );
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        let state = format!("{}/", self.data().display());
        assert!(!mounts.contains(&state), "no mount below the data root is left:\n{mounts}");
    }
}

/// A plan as its JSON says it.
pub struct Plan {
    pub code: i32,
    pub json: Value,
}

impl Plan {
    pub fn of(output: &Output) -> Self {
        let json = serde_json::from_slice(&output.stdout);
        Self { code: code(output), json: json.unwrap_or_else(|e| panic!("the plan is JSON ({e}): {}", said(output))) }
    }

    /// The change of a resource, such as `container.acme`.
    pub fn change(&self, address: &str) -> &Value {
        let changes = self.json["resource_changes"].as_array().unwrap();
        let found = changes.iter().find(|change| change["address"] == address);
        found.map_or_else(|| panic!("the plan changes {address}: {:#}", self.json), |found| &found["change"])
    }

    /// All resources that change.
    pub fn addresses(&self) -> Vec<&str> {
        self.json["resource_changes"].as_array().unwrap().iter().filter_map(|c| c["address"].as_str()).collect()
    }

    /// Why a tenant is blocked: code, reason, help.
    pub fn blocked(&self, tenant: &str) -> (String, String, String) {
        let blocked = self.json["blocked"].as_array().unwrap().iter().find(|b| b["tenant"] == tenant);
        let blocked = blocked.unwrap_or_else(|| panic!("the plan says that {tenant} is blocked: {:#}", self.json));
        (text(&blocked["code"]), text(&blocked["reason"]), text(&blocked["help"]))
    }
}

/// The names of a change's attributes that differ.
pub fn names(change: &Value) -> Vec<&str> {
    change["attributes"].as_array().unwrap().iter().filter_map(|attribute| attribute["name"].as_str()).collect()
}

/// One attribute of a change.
pub fn attribute<'a>(change: &'a Value, name: &str) -> &'a Value {
    let attributes = change["attributes"].as_array().unwrap();
    let found = attributes.iter().find(|attribute| attribute["name"] == name);
    found.unwrap_or_else(|| panic!("the plan names {name}: {attributes:#?}"))
}

/// Runs a command to its end.
pub fn run(mut command: Command) -> Output {
    command.output().unwrap_or_else(|e| panic!("{command:?} cannot be run: {e}"))
}

/// The exit code; a signal is none.
pub fn code(output: &Output) -> i32 {
    output.status.code().unwrap_or(-1)
}

/// Waits for something that happens soon by itself.
pub fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !holds() {
        assert!(Instant::now() < deadline, "{what}, within 10 s");
        std::thread::sleep(Duration::from_millis(50));
    }
}
