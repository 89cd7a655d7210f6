//! What is declared, as the body of a call that makes it.

use std::net::Ipv4Addr;

use serde_json::{Map, Value, json};

use crate::model::{
    CREATION_LABEL, Container, Network,
    container::{MASKED_PATHS, PathSet, READONLY_PATHS},
};

/// The body of `POST /containers/create`. `creation` is the value that distinguishes this creation from all others.
///
/// Only what a declaration can hold is sent: there is no way to ask for a capability, a device, a
/// host namespace or a published port.
pub fn container(spec: &Container, creation: &str) -> Value {
    let mounts: Vec<Value> = spec
        .mounts
        .iter()
        .map(|mount| {
            // A mount of this kind fails where its source is missing; a "bind" string would make an
            // empty folder there, owned by root.
            json!({
                "Type": mount.kind,
                "Source": mount.source,
                "Target": mount.target,
                "ReadOnly": !mount.writable,
                // What is mounted below a shared folder could be written to: it is left out.
                "BindOptions": {"Propagation": mount.propagation, "NonRecursive": !mount.writable},
            })
        })
        .collect();
    let mut body = json!({
        "Hostname": spec.hostname,
        "User": spec.user,
        "Env": spec.environment,
        "WorkingDir": spec.working_dir,
        "Image": spec.image,
        "Labels": spec.labels,
        "HostConfig": {
            "Runtime": spec.runtime,
            "Memory": spec.memory,
            "MemorySwap": spec.memory_swap,
            "NanoCpus": spec.nano_cpus,
            "PidsLimit": spec.pids_limit,
            "ShmSize": spec.shm_size,
            "Ulimits": spec.ulimits.iter().filter_map(|limit| ulimit(limit)).collect::<Vec<_>>(),
            "CapDrop": spec.cap_drop,
            "SecurityOpt": spec.security_opt,
            "ReadonlyRootfs": spec.read_only,
            "MaskedPaths": paths(&spec.masked_paths, &MASKED_PATHS),
            "ReadonlyPaths": paths(&spec.readonly_paths, &READONLY_PATHS),
            "IpcMode": spec.ipc_mode,
            "CgroupnsMode": spec.cgroupns_mode,
            "Mounts": mounts,
            "Tmpfs": spec.tmpfs,
            "NetworkMode": spec.network_mode,
            "Dns": spec.dns,
            "DnsSearch": spec.dns_search,
            "Sysctls": spec.sysctls,
            "RestartPolicy": {"Name": spec.restart_policy},
            "Init": spec.init,
            "LogConfig": {"Type": spec.log_driver, "Config": spec.log_options},
        },
    });
    body["Labels"][CREATION_LABEL] = creation.into();
    if let Some(address) = spec.address {
        body["NetworkingConfig"]["EndpointsConfig"][&spec.network_mode] = endpoint(address);
    }
    if let Some(body) = body.as_object_mut() {
        insert_list(body, "Entrypoint", &spec.entrypoint);
        insert_list(body, "Cmd", &spec.command);
    }
    body
}

/// How a container is to be on a network.
pub fn endpoint(address: Ipv4Addr) -> Value {
    json!({"IPAMConfig": {"IPv4Address": address}})
}

/// The label of a container that is made to be inspected.
pub const SAMPLE_LABEL: &str = "io.tenantd.sample";

/// The body of `POST /containers/create` for a container that shows what the engine adds by itself.
pub fn sample(image: &str) -> Value {
    json!({
        "Image": image,
        "Cmd": ["none"],
        "Labels": {SAMPLE_LABEL: "1"},
        "HostConfig": {"NetworkMode": "none", "LogConfig": {"Type": "json-file", "Config": {}}},
    })
}

/// The body of `POST /networks/create`.
pub fn network(spec: &Network) -> Value {
    let ranges: Vec<Value> =
        spec.ranges.iter().map(|range| json!({"Subnet": range.subnet, "Gateway": range.gateway})).collect();
    json!({
        "Name": spec.name,
        "CheckDuplicate": true,
        "Driver": spec.driver,
        "Internal": spec.internal,
        "Attachable": spec.attachable,
        "EnableIPv6": spec.ipv6,
        "IPAM": {"Driver": spec.ipam_driver, "Config": ranges},
        "Options": spec.options,
        "Labels": spec.labels,
    })
}

/// An empty list means the image's own to the engine, and here as well: then nothing is sent.
fn insert_list(body: &mut Map<String, Value>, key: &str, list: &[String]) {
    if !list.is_empty() {
        body.insert(key.to_owned(), json!(list));
    }
}

fn paths(set: &PathSet, standard: &[&str]) -> Value {
    match set {
        PathSet::Standard => json!(standard),
        PathSet::Other(paths) => json!(paths),
    }
}

/// `name=soft:hard` as the engine's object.
fn ulimit(text: &str) -> Option<Value> {
    let (name, range) = text.split_once('=')?;
    let (soft, hard) = range.split_once(':')?;
    Some(json!({"Name": name, "Soft": soft.parse::<i64>().ok()?, "Hard": hard.parse::<i64>().ok()?}))
}
