//! Engines with a configuration of their own.

use std::{
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::{Value, json};

use crate::{
    engine::{IMAGE, PrivateEngine},
    fleet::{Fleet, attribute, eventually},
    soak::faults::{dockerd, kill_engine},
};

/// Restarts the engine with these settings in its daemon.json; with live-restore its containers live on.
fn configure(fleet: &Fleet, change: impl FnOnce(&mut Value)) {
    let file = fleet.engine.dir().join("engine/daemon.json");
    let mut settings: Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
    change(&mut settings);
    fs::write(&file, settings.to_string()).unwrap();
    let former = dockerd(&fleet.engine);
    kill_engine(&fleet.engine);
    eventually("the engine is another process and answers", || {
        let answers = || fleet.engine.docker(&["version"]).output().is_ok_and(|output| output.status.success());
        dockerd(&fleet.engine) != former && answers()
    });
}

/// A limit of the first process in a container, as the kernel has it: soft and hard.
fn kernel_limit(fleet: &Fleet, container: &str, name: &str) -> (String, String) {
    let pid = &fleet.engine.inspect(container)["State"]["Pid"];
    // The engine tells the process in its own namespace of processes.
    let output = fleet.engine.within(&["cat", &format!("/proc/{pid}/limits")]).output().unwrap();
    let limits = String::from_utf8_lossy(&output.stdout).into_owned();
    let line = limits.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_else(|| panic!("{name}: {limits}"));
    let mut values = line.split_whitespace().map(str::to_owned);
    (values.next().unwrap(), values.next().unwrap())
}

#[test]
fn limits_and_log_options_of_the_engine_are_neither_drift_nor_an_obstacle() {
    let fleet = Fleet::on(PrivateEngine::start("settings", &["--live-restore"]));
    fleet.declare("acme", "");
    fleet.converge();
    let acme = fleet.engine.identity("tenantd-acme");
    let nproc = json!({"nproc": {"Name": "nproc", "Hard": 4096, "Soft": 4096}});
    configure(&fleet, |settings| {
        settings["default-ulimits"] = nproc.clone();
        settings["log-opts"] = json!({"compress": "true"});
    });
    let shown = &fleet.engine.inspect("tenantd-acme")["HostConfig"]["Ulimits"];
    assert!(shown.to_string().contains("nproc"), "the engine shows it in what ran before: {shown}");
    fleet.in_order();
    fleet.declare("beta", "");
    fleet.converge();
    assert_eq!(fleet.engine.identity("tenantd-acme"), acme, "what runs is left as it is");
    assert_eq!(kernel_limit(&fleet, "tenantd-beta", "Max processes"), ("4096".to_owned(), "4096".to_owned()));
    let beta = fleet.engine.identity("tenantd-beta");
    assert_eq!(fleet.engine.inspect("tenantd-beta")["HostConfig"]["LogConfig"]["Config"]["compress"], "true");

    // What somebody changes is drift beside it.
    fleet.recreate("beta", true, |body| {
        body["HostConfig"]["Ulimits"] = json!([
            {"Name": "core", "Soft": 0, "Hard": 0},
            {"Name": "nofile", "Soft": 1024, "Hard": 1024},
            {"Name": "nproc", "Soft": 9999, "Hard": 9999},
        ]);
    });
    let plan = fleet.plan();
    let limits = attribute(plan.change("container.beta"), "ulimits");
    assert_eq!(limits["before"], json!(["core=0:0", "nofile=1024:1024", "nproc=9999:9999"]));
    assert_eq!(limits["after"], json!(["core=0:0", "nofile=1024:1024", "nproc=4096:4096"]));
    assert_eq!(plan.addresses(), ["container.beta"]);
    fleet.converge();
    assert_ne!(fleet.engine.identity("tenantd-beta"), beta);

    // Without the settings everybody stays what they are; with one that weakens nobody is paused, and nobody comes.
    let before = ["acme", "beta"].map(|name| fleet.engine.identity(&format!("tenantd-{name}")));
    configure(&fleet, |settings| {
        settings.as_object_mut().unwrap().retain(|name, _| name != "default-ulimits" && name != "log-opts");
    });
    fleet.in_order();
    configure(&fleet, |settings| {
        settings["default-ulimits"] = json!({"rtprio": {"Name": "rtprio", "Hard": 99, "Soft": 99}});
    });
    fleet.declare("cato", "");
    let (code, printed) = fleet.apply();
    assert_ne!(code, 0, "{printed}");
    let plan = fleet.plan();
    for name in ["acme", "beta", "cato"] {
        let (code, reason, _) = plan.blocked(name);
        assert_eq!(code, "engine-setting");
        assert!(reason.contains("daemon.json") && reason.contains("rtprio=99:99"), "{reason}");
    }
    for (name, before) in ["acme", "beta"].into_iter().zip(before) {
        let container = format!("tenantd-{name}");
        assert_eq!(fleet.engine.identity(&container), before);
        assert_eq!(fleet.engine.inspect(&container)["State"]["Status"], "running");
        assert_eq!(kernel_limit(&fleet, &container, "Max realtime priority").1, "0", "it runs as it ran");
    }

    // So does a profile of system calls of its own, until the host names it.
    let profile = fleet.engine.dir().join("seccomp.json");
    fs::write(&profile, r#"{"defaultAction": "SCMP_ACT_ALLOW"}"#).unwrap();
    configure(&fleet, |settings| {
        settings["default-ulimits"] = json!({});
        settings["seccomp-profile"] = json!(profile);
    });
    let (code, reason, help) = fleet.plan().blocked("cato");
    assert_eq!(code, "engine-setting");
    assert!(reason.contains("seccomp-profile in the engine's daemon.json"), "{reason}");
    assert!(help.contains(&format!("seccompProfile: {}", profile.display())), "{help}");
    fleet.host(&format!("seccompProfile: {}\n", profile.display()));
    fleet.converge();
    fleet.end();
}

/// What this host's engine can be told is in the table that says what each setting does to tenants.
#[test]
fn every_setting_of_this_engine_is_documented() {
    let help = Command::new("dockerd").arg("--help").output().unwrap();
    let help = String::from_utf8(help.stdout).unwrap();
    let options = help.lines().filter_map(|line| line.split_once("--").filter(|(before, _)| before.len() < 8));
    let options: Vec<&str> = options.filter_map(|(_, option)| option.split(' ').next()).collect();
    assert!(options.len() > 60, "{help}");
    let text = include_str!("../../docs/operations.md");
    let table: Vec<&str> = text
        .lines()
        .skip_while(|line| *line != "| setting | effect | why |")
        .take_while(|line| !line.is_empty())
        .collect();
    // What may be said more than once is a list of another name in the file, and what is about a run of the program is in none.
    let missing: Vec<&&str> = options
        .iter()
        .filter(|option| !["config-file", "help", "validate", "version"].contains(option))
        .filter(|option| {
            let name = match **option {
                "add-runtime" => "runtimes".to_owned(),
                "containerd-plugins-namespace" => "containerd-plugin-namespace".to_owned(),
                other => other.to_owned(),
            };
            let names = [format!("`{name}`"), format!("`{name}s`"), format!("`{}ies`", name.trim_end_matches('y'))];
            !table.iter().any(|row| names.iter().any(|name| row.contains(name)))
        })
        .collect();
    assert!(missing.is_empty(), "{missing:?}");
}

/// The user and group of the host that own a path.
fn owner(path: &Path) -> (u32, u32) {
    let found = fs::symlink_metadata(path).unwrap();
    (found.uid(), found.gid())
}

/// Starts the engine on the same data anew, with these options. What it has of an engine with other users is not this one's.
fn begin_again(fleet: &Fleet, options: &[&str]) {
    fleet.engine.stop();
    fleet.engine.up(options);
    fleet.engine.build_image(IMAGE, None);
}

#[test]
fn tenants_work_with_remapped_users_and_keep_their_files_when_that_changes() {
    let fleet = Fleet::on(PrivateEngine::start("remapped", &[]));
    fleet.engine.let_pass();
    let folder = fleet.repo().join("files/shared");
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join("rules.md"), "be kind").unwrap();
    let files = "limits: {disk: 32MiB}\nfiles: [{path: rules.md, from: files/shared/rules.md}]\n";
    fleet.declare("acme", files);
    fleet.converge();
    let write = |name: &str| {
        let (succeeded, printed) = fleet.engine.agent("acme", &["write", &format!("/workspace/{name}"), name]);
        assert!(succeeded, "{printed}");
    };
    let reads = |path: &str, text: &str| {
        let (succeeded, printed) = fleet.engine.agent("acme", &["cat", path]);
        assert!(succeeded && printed.contains(text), "{path}: {printed}");
    };
    let on_host = |name: &str| -> PathBuf { fleet.data().join("mounts/acme/files").join(name) };
    write("plain");
    assert_eq!(owner(&on_host("plain")), (1000, 1000));

    begin_again(&fleet, &["--userns-remap"]);
    fleet.converge();
    for name in ["", "plain"] {
        assert_eq!(owner(&on_host(name)), (232_072, 332_072), "{name} belongs to the mapped owner");
    }
    reads("/workspace/plain", "plain");
    write("plain");
    write("remapped");
    reads("/config/rules.md", "be kind");
    fs::write(fleet.data().join("provided/run/brought"), "for all").unwrap();
    reads("/run/tenantd/brought", "for all");
    let (_, printed) = fleet.engine.agent("acme", &["id"]);
    for line in ["Uid 1000 1000 1000 1000", "Gid 1000 1000 1000 1000", "NoNewPrivs 1", "Seccomp 2"] {
        assert!(printed.contains(line), "{line}: {printed}");
    }
    let pid = &fleet.engine.inspect("tenantd-acme")["State"]["Pid"];
    let kernel = fleet.engine.within(&["cat", &format!("/proc/{pid}/uid_map")]).output().unwrap();
    let map: Vec<String> = String::from_utf8_lossy(&kernel.stdout).split_whitespace().map(str::to_owned).collect();
    assert_eq!(map, ["0", "231072", "65536"], "its root is nobody of the host");

    // Its limits, its drift and its replacement are what they were.
    fleet.engine.must("POST", "/containers/tenantd-acme/update", Some(&json!({"PidsLimit": 999})));
    fleet.converge();
    fleet.declare("acme", &format!("{files}environment: {{A: b}}\n"));
    fleet.converge();
    reads("/workspace/remapped", "remapped");
    fleet.recreate("acme", false, |body| body["HostConfig"]["UsernsMode"] = json!("host"));
    let plan = fleet.plan();
    assert_eq!(attribute(plan.change("container.acme"), "userns_mode")["before"], "host");
    fleet.converge();

    // gVisor does not start with other users, and gets no weaker class.
    fleet.declare("zeta", "runtime: gvisor\n");
    let (code, reason, _) = fleet.plan().blocked("zeta");
    assert_eq!(code, "runtime-not-remapped");
    assert!(reason.contains("userns-remap in the engine's daemon.json"), "{reason}");
    fleet.undeclare("zeta");

    begin_again(&fleet, &[]);
    fleet.converge();
    for name in ["", "plain", "remapped"] {
        assert_eq!(owner(&on_host(name)), (1000, 1000), "{name} changed hands again");
    }
    reads("/workspace/remapped", "remapped");
    fleet.end();
}
