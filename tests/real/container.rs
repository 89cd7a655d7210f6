//! Every attribute of a container, tampered with one at a time.

use std::{collections::BTreeSet, fs};

use serde_json::{Value, json};
use tenantd::model::Container;

use crate::{
    drift::Drift,
    engine::{IMAGE, text},
    fleet::{Case, Fleet, attribute, case, names},
};

/// The tenant that is tampered with.
pub const TENANT: &str = "acme";

/// A container that is nobody's, for links and shared volumes.
const NEIGHBOUR: &str = "neighbour";

const GIB: i64 = 1 << 30;
const FREE: i64 = GIB / 2;
const TMPFS: &str = "gid=1000,mode=0700,nodev,noexec,nosuid,rw,size=67108864,uid=1000";

/// Attributes that no call can tamper with on every kernel; the engine's own files can.
const BY_FILE: [&str; 3] = ["blkio_weight", "cpu_realtime_runtime", "storage_opt"];

/// What `docker update` can do to a container that runs.
fn updates() -> Vec<Drift> {
    let mib = |n: i64| n << 20;
    vec![
        Drift::update("memory", "raised", json!({"Memory": 4 * GIB, "MemorySwap": 4 * GIB}))
            .values(json!(4 * GIB), json!(FREE))
            .shown("\"4GiB\"", "\"512MiB\"")
            .also(&["memory_swap"]),
        Drift::update("memory", "lowered", json!({"Memory": mib(256)}))
            .values(json!(mib(256)), json!(FREE))
            .shown("\"256MiB\"", "\"512MiB\"")
            .harmless(),
        Drift::update("memory_swap", "raised", json!({"MemorySwap": GIB}))
            .values(json!(GIB), json!(FREE))
            .shown("\"1GiB\"", "\"512MiB\""),
        Drift::update("memory_swap", "unlimited", json!({"MemorySwap": -1}))
            .values(json!(-1), json!(FREE))
            .shown("unlimited", "\"512MiB\""),
        Drift::update("nano_cpus", "raised", json!({"NanoCpus": 1_500_000_000_i64}))
            .values(json!(1_500_000_000_i64), json!(1_000_000_000))
            .shown("1.5", "1"),
        Drift::update("pids_limit", "raised", json!({"PidsLimit": 4096}))
            .values(json!(4096), json!(256))
            .shown("4096", "256"),
        Drift::update("pids_limit", "unlimited", json!({"PidsLimit": -1}))
            .values(json!(0), json!(256))
            .shown("unlimited", "256"),
        Drift::update("restart_policy", "always", json!({"RestartPolicy": {"Name": "always"}}))
            .values(json!("always"), json!("no"))
            .harmless(),
        Drift::update(
            "restart_policy",
            "a number of attempts",
            json!({"RestartPolicy": {"Name": "on-failure", "MaximumRetryCount": 3}}),
        )
        .values(json!("on-failure:3"), json!("no"))
        .harmless(),
        Drift::update("memory_reservation", "set", json!({"MemoryReservation": mib(128)}))
            .values(json!(mib(128)), json!(0))
            .shown("\"128MiB\"", "\"0B\"")
            .harmless()
            .replaces(),
        Drift::update("cpu_shares", "set", json!({"CpuShares": 512}))
            .values(json!(512), json!(0))
            .shown("512", "0")
            .harmless()
            .replaces(),
        Drift::update("cpuset_cpus", "set", json!({"CpusetCpus": "0"}))
            .values(json!("0"), json!(""))
            .harmless()
            .replaces(),
        Drift::update("cpuset_mems", "set", json!({"CpusetMems": "0"}))
            .values(json!("0"), json!(""))
            .harmless()
            .replaces(),
        Drift::other("name", "renamed", |fleet| {
            fleet.engine.must("POST", "/containers/tenantd-acme/rename?name=hidden", None);
        })
        .values(json!("hidden"), json!("tenantd-acme"))
        .harmless()
        .in_place(),
    ]
}

/// What runs, and as whom.
fn programs() -> Vec<Drift> {
    vec![
        Drift::body("image", "named otherwise", |fleet, body| {
            body["Image"] = fleet.engine.get(&format!("/images/{IMAGE}/json"))["Id"].clone();
        })
        .holding("sha256:", json!(IMAGE))
        .harmless(),
        Drift::other("image_id", "another image had the tag meanwhile", |fleet| {
            let proper = text(&fleet.engine.get(&format!("/images/{IMAGE}/json"))["Id"]);
            // The same content and settings, with another time: only the id tells it apart.
            let (source, _) = fleet.engine.create("source", &json!({"Image": IMAGE}));
            fleet.engine.must("POST", &format!("/commit?container={source}&repo=tenantd-agent&tag=1"), None);
            fleet.engine.remove(&source);
            fleet.recreate(TENANT, false, |_| {});
            fleet.engine.must("POST", &format!("/images/{proper}/tag?repo=tenantd-agent&tag=1"), None);
        })
        .holding("sha256:", Value::Null)
        .any_declared()
        .harmless(),
        Drift::host("runtime", "another", "Runtime", json!("runsc")).values(json!("runsc"), json!("runc")),
        Drift::config("entrypoint", "longer", "Entrypoint", json!(["/agent", "sleep"]))
            .values(json!(["/agent", "sleep"]), json!(["/agent"]))
            .harmless(),
        Drift::config("command", "another", "Cmd", json!(["sleep", "7"]))
            .values(json!(["sleep", "7"]), json!(["serve"]))
            .harmless(),
        Drift::config(
            "environment",
            "a declared variable",
            "Env",
            json!(["GREETING=tampered", "AGENT_INTERVAL=10", "PATH=/"]),
        )
        .values(
            json!(["AGENT_INTERVAL=10", "GREETING=(hidden)", "PATH=/"]),
            json!(["AGENT_INTERVAL=10", "GREETING=hello", "HOME=/workspace", "PATH=/"]),
        )
        .harmless(),
        Drift::config("user", "root", "User", json!("0:0")).values(json!("0:0"), json!("1000:1000")),
        Drift::config("user", "none", "User", json!("")).values(json!(""), json!("1000:1000")),
        Drift::config("working_dir", "another", "WorkingDir", json!("/tmp"))
            .values(json!("/tmp"), json!("/"))
            .harmless(),
        Drift::config("hostname", "another", "Hostname", json!("other"))
            .values(json!("other"), json!("acme"))
            .harmless(),
        Drift::config("domainname", "set", "Domainname", json!("example.org"))
            .values(json!("example.org"), json!(""))
            .harmless(),
        Drift::body("labels", "one more", |_, body| body["Labels"]["owner"] = json!("mallory"))
            .values(json!({"io.tenantd.tenant": "acme", "owner": "mallory"}), json!({"io.tenantd.tenant": "acme"}))
            .harmless(),
        Drift::body("declaration", "the hash is another", |_, body| {
            body["Labels"]["io.tenantd.spec"] = json!("0123");
        })
        .holding("0123", Value::Null)
        .any_declared()
        .harmless()
        .intended(),
        Drift::body("declaration", "the hash is gone", |_, body| {
            body["Labels"].as_object_mut().unwrap().remove("io.tenantd.spec");
        })
        .harmless(),
        Drift::host("init", "off", "Init", json!(false)).values(json!(false), json!(true)).harmless(),
        Drift::host("auto_remove", "on", "AutoRemove", json!(true)).values(json!(true), json!(false)).harmless(),
        Drift::host("log_driver", "none", "LogConfig", json!({"Type": "none", "Config": {}}))
            .values(json!("none"), json!("json-file"))
            .also(&["log_options"])
            .harmless(),
        Drift::host(
            "log_options",
            "without a bound",
            "LogConfig",
            json!({"Type": "json-file", "Config": {"max-file": "3"}}),
        )
        .values(json!({"max-file": "3"}), json!({"max-file": "3", "max-size": "10485760"}))
        .harmless(),
    ]
}

/// How much it may use, where `docker update` does not reach.
fn limits() -> Vec<Drift> {
    vec![
        Drift::body("cpu_quota", "in place of cpus", |_, body| {
            body["HostConfig"]["NanoCpus"] = json!(0);
            body["HostConfig"]["CpuQuota"] = json!(50_000);
        })
        .values(json!(50_000), json!(0))
        .shown("50000", "0")
        .also(&["nano_cpus"])
        .harmless(),
        Drift::body("cpu_period", "in place of cpus", |_, body| {
            body["HostConfig"]["NanoCpus"] = json!(0);
            body["HostConfig"]["CpuPeriod"] = json!(50_000);
        })
        .values(json!(50_000), json!(0))
        .shown("50000", "0")
        .also(&["nano_cpus"])
        .harmless(),
        Drift::host("oom_kill_disable", "on", "OomKillDisable", json!(true)).values(json!(true), json!(false)),
        Drift::host("oom_score_adj", "set", "OomScoreAdj", json!(-500)).values(json!(-500), json!(0)),
        Drift::host("shm_size", "raised", "ShmSize", json!(GIB))
            .values(json!(GIB), json!(64 << 20))
            .shown("\"1GiB\"", "\"64MiB\""),
        Drift::host("ulimits", "gone", "Ulimits", json!([])).values(json!([]), json!(["core=0:0", "nofile=1024:1024"])),
        Drift::host(
            "ulimits",
            "raised",
            "Ulimits",
            json!([{"Name": "core", "Soft": 0, "Hard": 0}, {"Name": "nofile", "Soft": 1024, "Hard": 4096}]),
        )
        .values(json!(["core=0:0", "nofile=1024:4096"]), json!(["core=0:0", "nofile=1024:1024"])),
    ]
}

/// What it may do.
fn privileges() -> Vec<Drift> {
    const NO_NEW: &str = "no-new-privileges";
    vec![
        Drift::host("privileged", "on", "Privileged", json!(true)).values(json!(true), json!(false)).also(&[
            "security_opt",
            "apparmor",
            "masked_paths",
            "readonly_paths",
        ]),
        Drift::host("cap_add", "one more", "CapAdd", json!(["CAP_SYS_ADMIN"]))
            .values(json!(["CAP_SYS_ADMIN"]), json!([])),
        Drift::host("cap_drop", "none", "CapDrop", json!([])).values(json!([]), json!(["ALL"])),
        Drift::host("cap_drop", "only one", "CapDrop", json!(["CAP_NET_RAW"]))
            .values(json!(["CAP_NET_RAW"]), json!(["ALL"])),
        Drift::host("security_opt", "no seccomp", "SecurityOpt", json!([NO_NEW, "seccomp=unconfined"]))
            .values(json!([NO_NEW, "seccomp=unconfined"]), json!([NO_NEW])),
        Drift::host("security_opt", "new privileges", "SecurityOpt", json!([])).values(json!([]), json!([NO_NEW])),
        Drift::host("security_opt", "new privileges said aloud", "SecurityOpt", json!(["no-new-privileges=false"]))
            .values(json!(["no-new-privileges=false"]), json!([NO_NEW])),
        Drift::host("apparmor", "unconfined", "SecurityOpt", json!([NO_NEW, "apparmor=unconfined"]))
            .values(json!("unconfined"), json!(""))
            .also(&["security_opt"]),
        Drift::host("read_only", "off", "ReadonlyRootfs", json!(false)).values(json!(false), json!(true)),
        // What `--security-opt systempaths=unconfined` sends.
        Drift::host("masked_paths", "none", "MaskedPaths", json!([])).values(json!([]), json!("standard")),
        // What engines hide by themselves does not hide disks.
        Drift::host("masked_paths", "fewer", "MaskedPaths", json!(["/proc/kcore", "/sys/firmware"]))
            .values(json!(["/proc/kcore", "/sys/firmware"]), json!("standard")),
        Drift::host("readonly_paths", "none", "ReadonlyPaths", json!([])).values(json!([]), json!("standard")),
        Drift::host(
            "devices",
            "one",
            "Devices",
            json!([{"PathOnHost": "/dev/null", "PathInContainer": "/dev/disk", "CgroupPermissions": "rwm"}]),
        )
        .values(json!(["/dev/null:/dev/disk:rwm"]), json!([])),
        Drift::host("device_requests", "one", "DeviceRequests", json!([{"Count": -1, "Capabilities": [["gpu"]]}]))
            .holding("gpu", json!([])),
        Drift::host("device_cgroup_rules", "one", "DeviceCgroupRules", json!(["b 8:0 rwm"]))
            .values(json!(["b 8:0 rwm"]), json!([])),
        Drift::host("group_add", "root", "GroupAdd", json!(["0"])).values(json!(["0"]), json!([])),
        Drift::host("annotations", "set", "Annotations", json!({"com.example.note": "by hand"}))
            .values(json!({"com.example.note": "by hand"}), json!({}))
            .newer("Annotations"),
    ]
}

/// What it shares with others.
fn namespaces() -> Vec<Drift> {
    vec![
        Drift::host("ipc_mode", "host", "IpcMode", json!("host"))
            .values(json!("host"), json!("private"))
            .also(&["security_opt"]),
        Drift::host("ipc_mode", "shareable", "IpcMode", json!("shareable"))
            .values(json!("shareable"), json!("private")),
        Drift::host("pid_mode", "host", "PidMode", json!("host"))
            .values(json!("host"), json!(""))
            .also(&["security_opt"]),
        Drift::body("uts_mode", "host", |_, body| {
            body["HostConfig"]["UTSMode"] = json!("host");
            body["Hostname"] = json!("");
        })
        .values(json!("host"), json!(""))
        .also(&["hostname", "domainname"]),
        Drift::host("userns_mode", "host", "UsernsMode", json!("host")).values(json!("host"), json!("")),
        Drift::host("cgroupns_mode", "host", "CgroupnsMode", json!("host")).values(json!("host"), json!("private")),
        Drift::host("cgroup_parent", "another", "CgroupParent", json!("/elsewhere"))
            .values(json!("/elsewhere"), json!("")),
        Drift::host(
            "sysctls",
            "IPv6 on",
            "Sysctls",
            json!({"net.ipv6.conf.all.disable_ipv6": "0", "net.ipv6.conf.default.disable_ipv6": "1"}),
        )
        .values(
            json!({"net.ipv6.conf.all.disable_ipv6": "0", "net.ipv6.conf.default.disable_ipv6": "1"}),
            json!({"net.ipv6.conf.all.disable_ipv6": "1", "net.ipv6.conf.default.disable_ipv6": "1"}),
        ),
        Drift::host("sysctls", "gone", "Sysctls", json!({})).values(
            json!({}),
            json!({"net.ipv6.conf.all.disable_ipv6": "1", "net.ipv6.conf.default.disable_ipv6": "1"}),
        ),
    ]
}

/// The mount of the workspace among those that a container is made with.
fn workspace_of(mounts: &mut Value) -> &mut Value {
    let mut mounts = mounts.as_array_mut().unwrap().iter_mut();
    mounts.find(|mount| mount["Target"] == "/workspace").unwrap()
}

/// What it sees of files.
fn files() -> Vec<Drift> {
    let mount = |change: fn(&mut Value)| move |_: &Fleet, body: &mut Value| change(&mut body["HostConfig"]["Mounts"]);
    vec![
        Drift::host("mounts", "a folder of the host", "Binds", json!(["/etc:/host:ro"]))
            .holding("bind /etc -> /host (ro", Value::Null)
            .any_declared(),
        Drift::body(
            "mounts",
            "a volume",
            mount(|mounts| {
                mounts.as_array_mut().unwrap().push(json!({"Type": "volume", "Source": "extra", "Target": "/extra"}));
            }),
        )
        .holding("volume extra -> /extra (rw", Value::Null)
        .any_declared(),
        Drift::body(
            "mounts",
            "a tmpfs that is no declared one",
            mount(|mounts| {
                mounts.as_array_mut().unwrap().push(json!({"Type": "tmpfs", "Target": "/run"}));
            }),
        )
        .holding("tmpfs  -> /run", Value::Null)
        .any_declared(),
        Drift::body(
            "mounts",
            "the workspace read-only",
            mount(|mounts| workspace_of(mounts)["ReadOnly"] = json!(true)),
        )
        .holding("-> /workspace (ro,rprivate)", Value::Null)
        .any_declared(),
        Drift::body(
            "mounts",
            "the workspace from elsewhere",
            mount(|mounts| workspace_of(mounts)["Source"] = json!("/usr/share")),
        )
        .holding("bind /usr/share -> /workspace", Value::Null)
        .any_declared(),
        Drift::body(
            "mounts",
            "the workspace shared with later mounts",
            mount(|mounts| {
                workspace_of(mounts)["BindOptions"]["Propagation"] = json!("rshared");
            }),
        )
        .holding("(rw,rshared)", Value::Null)
        .any_declared(),
        Drift::host("mounts", "no workspace", "Mounts", json!([])).values(json!([]), Value::Null).any_declared(),
        Drift::host("tmpfs", "other options", "Tmpfs", json!({"/tmp": "rw,exec,size=1g"}))
            .values(json!({"/tmp": "exec,rw,size=1g"}), json!({"/tmp": TMPFS})),
        Drift::host("tmpfs", "one more", "Tmpfs", json!({"/tmp": TMPFS, "/run": ""}))
            .values(json!({"/tmp": TMPFS, "/run": ""}), json!({"/tmp": TMPFS})),
        Drift::host("tmpfs", "none", "Tmpfs", json!({})).values(json!({}), json!({"/tmp": TMPFS})),
        Drift::host("volumes_from", "another container's", "VolumesFrom", json!([NEIGHBOUR]))
            .values(json!([NEIGHBOUR]), json!([])),
    ]
}

/// Whom it reaches, and who reaches it.
fn network() -> Vec<Drift> {
    vec![
        Drift::host("network_mode", "bridge", "NetworkMode", json!("bridge"))
            .values(json!("bridge"), json!("tenantd-acme"))
            .also(&["networks", "address"]),
        Drift::host("network_mode", "none", "NetworkMode", json!("none"))
            .values(json!("none"), json!("tenantd-acme"))
            .also(&["networks", "address"]),
        Drift::host("network_mode", "host", "NetworkMode", json!("host"))
            .values(json!("host"), json!("tenantd-acme"))
            .also(&["networks", "address", "hostname"]),
        Drift::body("network_mode", "another container's", |_, body| {
            body["HostConfig"]["NetworkMode"] = json!(format!("container:{NEIGHBOUR}"));
            for key in ["Dns", "DnsSearch", "ExtraHosts", "PortBindings"] {
                body["HostConfig"].as_object_mut().unwrap().remove(key);
            }
            body["Hostname"] = json!("");
        })
        .holding("container:", json!("tenantd-acme"))
        .also(&["networks", "address", "hostname", "domainname", "dns", "dns_search"]),
        Drift::other("address", "another", |fleet| {
            let (name, body) = ("tenantd-acme", json!({"Container": "tenantd-acme"}));
            let own = text(&fleet.engine.inspect(name)["NetworkSettings"]["Networks"][name]["IPAddress"]);
            let own: std::net::Ipv4Addr = own.parse().unwrap();
            let other = std::net::Ipv4Addr::from(u32::from(own) - 1);
            fleet.engine.must("POST", &format!("/networks/{name}/disconnect"), Some(&body));
            let mut body = body;
            body["EndpointConfig"] = json!({"IPAMConfig": {"IPv4Address": other}});
            fleet.engine.must("POST", &format!("/networks/{name}/connect"), Some(&body));
        })
        .harmless(),
        Drift::host("ports", "one", "PortBindings", json!({"8080/tcp": [{"HostPort": "80"}]}))
            .values(json!(["8080/tcp -> :80"]), json!([])),
        Drift::host("publish_all_ports", "on", "PublishAllPorts", json!(true)).values(json!(true), json!(false)),
        Drift::host("dns", "another", "Dns", json!(["1.1.1.1"])).holding("1.1.1.1", Value::Null).any_declared(),
        Drift::host("dns", "the engine's", "Dns", json!([])).values(json!([]), Value::Null).any_declared(),
        Drift::host("dns_search", "one more", "DnsSearch", json!([".", "example.org"]))
            .values(json!([".", "example.org"]), json!(["."])),
        Drift::host("dns_options", "one", "DnsOptions", json!(["ndots:5"])).values(json!(["ndots:5"]), json!([])),
        Drift::host("extra_hosts", "one", "ExtraHosts", json!(["api.openai.com:10.0.0.1"]))
            .values(json!(["api.openai.com:10.0.0.1"]), json!([])),
        // The engine keeps links only on its own bridge.
        Drift::body("links", "to a neighbour", |_, body| {
            body["HostConfig"]["NetworkMode"] = json!("bridge");
            body["HostConfig"]["Links"] = json!([format!("{NEIGHBOUR}:near")]);
        })
        .holding("near", json!([]))
        .also(&["network_mode", "networks", "address"]),
    ]
}

fn all() -> Vec<Drift> {
    [updates(), programs(), limits(), privileges(), namespaces(), files(), network()].into_iter().flatten().collect()
}

#[test]
fn every_attribute_of_a_container_has_a_case() {
    let known = serde_json::to_value(Container::default()).unwrap();
    let known: BTreeSet<&str> = known.as_object().unwrap().keys().map(String::as_str).collect();
    let cases = all();
    let covered: BTreeSet<&str> = cases.iter().map(|case| case.attribute).chain(BY_FILE).collect();
    let missing: Vec<&&str> = known.difference(&covered).collect();
    assert!(missing.is_empty(), "these attributes have no case that tampers with them on a real engine: {missing:?}");
}

fn fleet(name: &str) -> Fleet {
    let fleet = Fleet::start(name);
    fleet.declare(TENANT, "environment: {GREETING: hello}\n");
    fleet.engine.foreign(NEIGHBOUR, "bridge");
    fleet.converge();
    fleet
}

/// Runs each drift as a case, and further cases after them.
fn run(name: &str, drifts: &[Drift], further: Vec<Case<'_>>) {
    let fleet = fleet(name);
    let mut cases: Vec<Case<'_>> =
        drifts.iter().map(|drift| case(&drift.name(), |fleet| drift.case(fleet, TENANT))).collect();
    cases.extend(further);
    fleet.cases(cases);
    fleet.engine.remove(NEIGHBOUR);
    fleet.end();
}

#[test]
fn what_update_can_change_is_found_and_repaired() {
    run("update", &updates(), Vec::new());
}

#[test]
fn what_a_container_made_anew_can_differ_in_is_found_and_repaired() {
    let further = vec![
        case("the very same body is no drift", made_anew_alike),
        case("a variable that nobody declared", hidden_variable),
        case("what only the engine's files can hold", engine_files),
    ];
    let drifts: Vec<Drift> = [programs(), limits(), privileges(), namespaces()].into_iter().flatten().collect();
    run("anew", &drifts, further);
}

#[test]
fn other_files_and_networks_of_a_container_are_found_and_repaired() {
    let drifts: Vec<Drift> = [files(), network()].into_iter().flatten().collect();
    run("reach", &drifts, Vec::new());
}

/// The control of all cases: whatever the others find was found for what they changed.
fn made_anew_alike(fleet: &Fleet) {
    fleet.recreate(TENANT, true, |_| {});
    fleet.in_order();
}

fn hidden_variable(fleet: &Fleet) {
    fleet.recreate(TENANT, true, |body| {
        body["Env"].as_array_mut().unwrap().push(json!("API_KEY=sk-very-secret"));
    });
    let plan = fleet.plan();
    let change = plan.change("container.acme");
    assert_eq!(names(change), ["environment"], "the plan names the environment");
    let before = attribute(change, "environment")["before"].to_string();
    assert!(before.contains("API_KEY=(hidden)"), "the variable is named: {before}");
    let (_, printed) = fleet.plan_text();
    assert!(printed.contains("API_KEY"), "the plan for people names it:\n{printed}");
    for plan in [plan.json.to_string(), printed] {
        assert!(!plan.contains("sk-very-secret"), "a value that nobody declared is shown nowhere:\n{plan}");
    }
    fleet.converge();
}

/// Settings that this engine's kernel or disk refuses at a create, written where the engine keeps them.
fn engine_files(fleet: &Fleet) {
    let id = fleet.engine.identity("tenantd-acme").0;
    fleet.engine.stop();
    let path = fleet.engine.dir().join(format!("engine/data/containers/{id}/hostconfig.json"));
    let mut config: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    config["BlkioWeight"] = json!(300);
    config["CpuRealtimeRuntime"] = json!(950_000);
    config["StorageOpt"] = json!({"size": "10G"});
    fs::write(&path, config.to_string()).unwrap();
    fleet.engine.up(&[]);
    let plan = fleet.plan();
    let change = plan.change("container.acme");
    let mut named = names(change);
    named.retain(|name| *name != "state");
    assert_eq!(named, BY_FILE, "the plan names what was written");
    for (name, before, after, weakens) in [
        (BY_FILE[0], json!(300), json!(0), false),
        (BY_FILE[1], json!(950_000), json!(0), true),
        (BY_FILE[2], json!({"size": "10G"}), json!({}), true),
    ] {
        let found = attribute(change, name);
        assert_eq!((&found["before"], &found["after"]), (&before, &after), "both values of {name}");
        assert_eq!((&found["cause"], &found["weakens"]), (&json!("drift"), &json!(weakens)), "what {name} means");
    }
    assert_eq!(change["actions"], json!(["delete", "create"]), "the container is made anew");
    fleet.converge();
}
