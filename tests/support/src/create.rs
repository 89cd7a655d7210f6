//! `POST /containers/create`: from a request to the document that inspect answers.

use std::path::Path;
use std::sync::LazyLock;

use serde_json::{Map, Value, json};

use crate::Call;
use crate::options::with_default_tag;
use crate::routes::{json_answer, template};
use crate::state::{Container, Outcome, Refusal, State, refuse, rfc3339};

const MIB: i64 = 1024 * 1024;

/// Fields that inspect shows only when they are set.
const HOST_OPTIONAL: [&str; 6] = ["Mounts", "Tmpfs", "Sysctls", "Init", "StorageOpt", "Annotations"];
const CONFIG_OPTIONAL: [&str; 7] =
    ["Healthcheck", "StopSignal", "StopTimeout", "ExposedPorts", "NetworkDisabled", "MacAddress", "Shell"];

pub(crate) fn create(state: &mut State, call: &Call, body: &Value) -> Outcome {
    static BLANK: LazyLock<Value> = LazyLock::new(|| template(include_str!("../templates/container.json")));
    let mut doc = BLANK.clone();
    overlay(&mut doc["Config"], body, &CONFIG_OPTIONAL);
    overlay(&mut doc["HostConfig"], &body["HostConfig"], &HOST_OPTIONAL);
    let warnings = settle_limits(state, &mut doc["HostConfig"])?;
    settle_host(state, &mut doc["HostConfig"], &body["HostConfig"])?;

    let reference = doc["Config"]["Image"].as_str().unwrap_or_default();
    let Some(image) = state.options.image(reference).cloned() else {
        return refuse(404, format!("No such image: {}", with_default_tag(reference)));
    };
    doc["Image"] = image.id().into();
    merge_image(&mut doc["Config"], &image.config);
    let mut command = strings(&doc["Config"]["Entrypoint"]);
    command.extend(strings(&doc["Config"]["Cmd"]));
    if command.is_empty() {
        return refuse(400, "No command specified");
    }
    doc["Path"] = command.remove(0).into();
    doc["Args"] = command.into();

    let id = state.ids.next_id();
    let name =
        call.parameter("name").map(|name| name.trim_start_matches('/').to_owned()).filter(|name| !name.is_empty());
    let name = name.unwrap_or_else(|| format!("nameless_{}", &id[..8]));
    check_name(state, &name)?;

    if doc["Config"]["Hostname"] == "" && doc["HostConfig"]["NetworkMode"] != "host" {
        doc["Config"]["Hostname"] = id[..12].into();
    }
    doc["Mounts"] = mounts(state, &doc);
    doc["NetworkSettings"]["Networks"] = networks(state, &doc["HostConfig"], &body["NetworkingConfig"])?;
    let created = state.tick();
    doc["Id"] = id.as_str().into();
    doc["Name"] = format!("/{name}").into();
    doc["Created"] = rfc3339(created).into();
    state.container_names.insert(name, id.clone());
    state.containers.insert(id.clone(), Container { doc, created });
    state.changed = true;
    state.container_event(&id, "create", &[]);
    let further = state.options.create_warnings.iter().map(String::as_str);
    let warnings: Vec<&str> = warnings.into_iter().chain(further).collect();
    json_answer(201, &json!({"Id": id, "Warnings": warnings}))
}

/// Checks a name for a container that is about to take it.
pub(crate) fn check_name(state: &State, name: &str) -> Result<(), Refusal> {
    let tail = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
    if name.len() < 2 || !name.starts_with(|c: char| c.is_ascii_alphanumeric()) || !name.chars().all(tail) {
        return refuse(400, format!("Invalid container name ({name}), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed"));
    }
    match state.container_names.get(name) {
        None => Ok(()),
        Some(id) => refuse(
            409,
            format!(
                "Conflict. The container name \"/{name}\" is already in use by container \"{id}\". You have to remove (or rename) that container to be able to reuse that name."
            ),
        ),
    }
}

/// Lays what was sent over the defaults: what is absent or null stays as it is, what the engine
/// does not know is left out.
fn overlay(defaults: &mut Value, sent: &Value, optional: &[&str]) {
    let (Some(fields), Some(sent)) = (defaults.as_object_mut(), sent.as_object()) else {
        return;
    };
    for (key, value) in sent {
        let empty = value.as_array().is_some_and(Vec::is_empty) || value.as_object().is_some_and(Map::is_empty);
        let known = fields.contains_key(key) || (optional.contains(&key.as_str()) && !empty);
        if known && !value.is_null() {
            fields.insert(key.clone(), value.clone());
        }
    }
}

fn number(host: &Value, key: &str) -> i64 {
    host[key].as_i64().unwrap_or_default()
}

/// What both create and update refuse in a set of limits.
fn check_limits(state: &State, limits: &Value) -> Result<(), Refusal> {
    let (memory, swap, nano) = (number(limits, "Memory"), number(limits, "MemorySwap"), number(limits, "NanoCpus"));
    if memory != 0 && memory < 6 * MIB {
        return refuse(400, "Minimum memory limit allowed is 6MB");
    }
    if memory > 0 && swap > 0 && swap < memory {
        return refuse(400, "Minimum memoryswap limit should be larger than memory limit, see usage");
    }
    for (key, what) in [("CpuPeriod", "CPU Period"), ("CpuQuota", "CPU Quota")] {
        if nano > 0 && number(limits, key) > 0 {
            return refuse(400, format!("Conflicting options: Nano CPUs and {what} cannot both be set"));
        }
    }
    let cpus = state.options.cpus;
    if nano < 0 || nano > i64::from(cpus) * 1_000_000_000 {
        return refuse(
            400,
            format!("Range of CPUs is from 0.01 to {cpus}.00, as there are only {cpus} CPUs available"),
        );
    }
    Ok(())
}

/// Checks the limits of a create or an update, and drops those that the kernel lacks with the
/// warnings that say so.
pub(crate) fn settle_limits(state: &State, limits: &mut Value) -> Result<Vec<&'static str>, Refusal> {
    let there = &state.options.limits;
    let mut warnings = Vec::new();
    let mut drop = |limits: &mut Value, key: &str, value: Value, warning| {
        limits[key] = value;
        warnings.push(warning);
    };
    if number(limits, "Memory") > 0 && !there.memory {
        limits["MemorySwap"] = (-1).into();
        drop(
            limits,
            "Memory",
            0.into(),
            "Your kernel does not support memory limit capabilities or the cgroup is not mounted. Limitation discarded.",
        );
    }
    if number(limits, "Memory") > 0 && number(limits, "MemorySwap") != -1 && !there.swap {
        drop(
            limits,
            "MemorySwap",
            (-1).into(),
            "Your kernel does not support swap limit capabilities or the cgroup is not mounted. Memory limited without swap.",
        );
    }
    check_limits(state, limits)?;
    if number(limits, "PidsLimit") > 0 && !there.pids {
        drop(
            limits,
            "PidsLimit",
            Value::Null,
            "Your kernel does not support PIDs limit capabilities or the cgroup is not mounted. PIDs limit discarded.",
        );
    }
    if number(limits, "NanoCpus") > 0 && !there.cpu {
        return refuse(
            400,
            "NanoCPUs can not be set, as your kernel does not support CPU CFS scheduler or the cgroup is not mounted",
        );
    }
    if number(limits, "CpuQuota") > 0 && !there.cpu {
        drop(
            limits,
            "CpuQuota",
            0.into(),
            "Your kernel does not support CPU CFS scheduler. CPU period/quota discarded.",
        );
    }
    if number(limits, "CpuShares") > 0 && !there.cpu {
        drop(
            limits,
            "CpuShares",
            0.into(),
            "Your kernel does not support CPU shares or the cgroup is not mounted. Shares discarded.",
        );
    }
    Ok(warnings)
}

/// Fills in the rest of what the engine fills in, and refuses what it refuses.
fn settle_host(state: &State, host: &mut Value, sent: &Value) -> Result<(), Refusal> {
    let options = &state.options;
    let cgroupns = if options.cgroup_version == 1 { "host" } else { "private" };
    for (key, default) in [
        ("Runtime", options.default_runtime.as_str()),
        ("CgroupnsMode", cgroupns),
        ("IpcMode", "private"),
        ("NetworkMode", "default"),
    ] {
        let unset = sent[key].as_str().is_none_or(str::is_empty);
        if unset {
            host[key] = default.into();
        }
    }
    let runtime = host["Runtime"].as_str().unwrap_or_default();
    if !options.runtimes.iter().any(|known| known.name == runtime) {
        return refuse(400, format!("Unknown runtime specified {runtime}"));
    }
    let (memory, swap) = (number(host, "Memory"), number(host, "MemorySwap"));
    if swap > 0 && memory == 0 {
        return refuse(400, "You should always set the Memory limit when using Memoryswap limit, see usage");
    }
    if swap == 0 && memory > 0 {
        host["MemorySwap"] = (2 * memory).into();
    }
    if number(host, "PidsLimit") <= 0 {
        host["PidsLimit"] = Value::Null;
    }
    if number(host, "ShmSize") == 0 {
        host["ShmSize"] = (64 * MIB).into();
    }
    host["RestartPolicy"] = restart_policy(&host["RestartPolicy"])?;
    let log = &mut host["LogConfig"];
    if log["Type"].as_str().is_none_or(str::is_empty) {
        log["Type"] = "json-file".into();
    }
    if log["Config"].is_null() {
        log["Config"] = json!({});
    }
    add_missing(&mut log["Config"], &options.log_options);
    let unmasked = sent["MaskedPaths"].is_null();
    if host["Privileged"] == true {
        host["MaskedPaths"] = Value::Null;
        host["ReadonlyPaths"] = Value::Null;
    } else if unmasked && let Some(paths) = host["MaskedPaths"].as_array_mut() {
        if options.api_at_least(44) {
            paths.push("/sys/devices/virtual/powercap".into());
        }
        if options.api_at_least(52) {
            paths.push("/proc/interrupts".into());
        }
    }
    for mount in host["Mounts"].as_array().into_iter().flatten().filter(|mount| mount["Type"] == "bind") {
        let source = mount["Source"].as_str().unwrap_or_default();
        let problem = if !source.starts_with('/') {
            format!("invalid mount path: '{source}' mount path must be absolute")
        } else if options.check_bind_sources && !Path::new(source).exists() {
            format!("bind source path does not exist: {source}")
        } else if source.starts_with(&options.root) || options.root.starts_with(source) {
            format!(
                "must use either propagation mode \"rslave\" or \"rshared\" when mount source is within the daemon root, daemon root: {:?}, bind mount source: {source:?}",
                options.root
            )
        } else {
            continue;
        };
        return refuse(400, format!("invalid mount config for type \"bind\": {problem}"));
    }
    Ok(())
}

/// Adds the entries of one object that another does not have.
pub(crate) fn add_missing(to: &mut Value, defaults: &Value) {
    for (key, value) in defaults.as_object().into_iter().flatten() {
        if to.get(key).is_none() {
            to[key] = value.clone();
        }
    }
}

/// A restart policy in full, or what the engine says of a name that it does not know.
pub(crate) fn restart_policy(sent: &Value) -> Result<Value, Refusal> {
    let name = sent["Name"].as_str().unwrap_or_default();
    if !matches!(name, "" | "no" | "always" | "on-failure" | "unless-stopped") {
        return refuse(400, format!("invalid restart policy '{name}'"));
    }
    Ok(json!({"Name": name, "MaximumRetryCount": sent["MaximumRetryCount"].as_i64().unwrap_or_default()}))
}

fn strings(list: &Value) -> Vec<String> {
    list.as_array().into_iter().flatten().filter_map(|item| item.as_str().map(str::to_owned)).collect()
}

/// Takes from the image what the request leaves open.
fn merge_image(config: &mut Value, image: &Value) {
    if strings(&config["Entrypoint"]).is_empty() {
        if strings(&config["Cmd"]).is_empty() {
            config["Cmd"] = image["Cmd"].clone();
        }
        if config["Entrypoint"].is_null() {
            config["Entrypoint"] = image["Entrypoint"].clone();
        }
    }
    for key in ["User", "WorkingDir"] {
        if config[key] == "" && image[key].is_string() {
            config[key] = image[key].clone();
        }
    }
    let mut env = strings(&config["Env"]);
    let key = |entry: &str| entry.split('=').next().unwrap_or_default().to_owned();
    let set: Vec<String> = env.iter().map(|entry| key(entry)).collect();
    env.extend(strings(&image["Env"]).into_iter().filter(|entry| !set.contains(&key(entry))));
    config["Env"] = if env.is_empty() { config["Env"].take() } else { env.into() };
    for key in ["Labels", "Volumes"] {
        if let Some(mut merged) = image[key].as_object().cloned() {
            merged.extend(config[key].as_object().cloned().unwrap_or_default());
            config[key] = merged.into();
        }
    }
}

/// The `Mounts` at the top level: binds, mounts and the image's volumes; not `HostConfig.Tmpfs`.
fn mounts(state: &mut State, doc: &Value) -> Value {
    let host = &doc["HostConfig"];
    let mut mounts = Vec::new();
    for bind in strings(&host["Binds"]) {
        let mut parts = bind.splitn(3, ':');
        let (source, target, mode) = (parts.next(), parts.next(), parts.next().unwrap_or_default());
        let read_only = mode.split(',').any(|flag| flag == "ro");
        mounts.push(json!({
            "Type": "bind", "Source": source, "Destination": target, "Mode": mode, "RW": !read_only,
            "Propagation": "rprivate",
        }));
    }
    for mount in host["Mounts"].as_array().into_iter().flatten() {
        let propagation = mount["BindOptions"]["Propagation"].as_str().filter(|text| !text.is_empty());
        let default = if mount["Type"] == "bind" { "rprivate" } else { "" };
        mounts.push(json!({
            "Type": mount["Type"],
            "Source": mount["Source"].as_str().unwrap_or_default(),
            "Destination": mount["Target"],
            "Mode": "",
            "RW": mount["ReadOnly"] != true,
            "Propagation": propagation.unwrap_or(default),
        }));
    }
    for target in doc["Config"]["Volumes"].as_object().into_iter().flat_map(Map::keys) {
        let covered = mounts.iter().any(|mount| mount["Destination"] == target.as_str());
        if !covered && host["Tmpfs"].get(target).is_none() {
            let name = state.ids.next_id();
            mounts.push(json!({
                "Type": "volume", "Name": name, "Source": format!("/var/lib/docker/volumes/{name}/_data"),
                "Destination": target, "Driver": "local", "Mode": "", "RW": true, "Propagation": "",
            }));
        }
    }
    mounts.into()
}

/// The endpoints of a container that never ran: by the names that were given, without ids.
fn networks(state: &State, host: &Value, sent: &Value) -> Result<Value, Refusal> {
    let mut networks = Map::new();
    let endpoints = sent["EndpointsConfig"].as_object();
    for (name, settings) in endpoints.into_iter().flatten() {
        networks.insert(name.clone(), crate::networks::blank_endpoint(settings));
    }
    if networks.len() > 1 && !state.options.api_at_least(44) {
        let names: Vec<&str> = networks.keys().map(String::as_str).collect();
        return refuse(400, format!("Container cannot be connected to network endpoints: {}", names.join(", ")));
    }
    match host["NetworkMode"].as_str().unwrap_or_default() {
        mode if mode.starts_with("container:") => networks.clear(),
        mode => {
            let name = if mode == "default" { "bridge" } else { mode };
            networks.entry(name).or_insert_with(|| crate::networks::blank_endpoint(&Value::Null));
        }
    }
    Ok(networks.into())
}
