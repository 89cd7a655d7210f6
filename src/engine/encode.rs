//! What is declared, as the body of a call that makes it.

use std::{collections::HashMap, net::Ipv4Addr, str::FromStr};

use bollard::models::{
    ContainerCreateBody, EndpointIpamConfig, EndpointSettings, HostConfig, HostConfigLogConfig, Mount as SentMount,
    MountBindOptions, NetworkingConfig, ResourcesUlimits, RestartPolicy,
};
use serde_json::{Value, json};

use super::CallError;
use crate::model::{
    CREATION_LABEL, Container, Network, Pairs,
    container::{MASKED_PATHS, Mount, PathSet, READONLY_PATHS},
};

/// The body of `POST /containers/create`. `creation` is the value that distinguishes this creation from all others.
///
/// Only what a declaration can hold is sent: there is no way to ask for a capability, a device, a
/// host namespace or a published port.
///
/// # Errors
/// It has a value that the engine's API does not have.
pub fn container(spec: &Container, creation: &str) -> Result<ContainerCreateBody, CallError> {
    let mut labels = map(&spec.labels);
    labels.insert(CREATION_LABEL.to_owned(), creation.to_owned());
    let networking = |address| NetworkingConfig {
        endpoints_config: Some(HashMap::from([(spec.network_mode.clone(), endpoint(address))])),
    };
    let host_config = HostConfig {
        runtime: Some(spec.runtime.clone()),
        memory: Some(spec.memory),
        memory_swap: Some(spec.memory_swap),
        nano_cpus: Some(spec.nano_cpus),
        pids_limit: Some(spec.pids_limit),
        shm_size: Some(spec.shm_size),
        ulimits: Some(spec.ulimits.iter().filter_map(|limit| ulimit(limit)).collect()),
        cap_drop: Some(spec.cap_drop.clone()),
        security_opt: Some(spec.security_opt.clone()),
        readonly_rootfs: Some(spec.read_only),
        masked_paths: Some(paths(&spec.masked_paths, &MASKED_PATHS)),
        readonly_paths: Some(paths(&spec.readonly_paths, &READONLY_PATHS)),
        ipc_mode: Some(spec.ipc_mode.clone()),
        cgroupns_mode: Some(named("control-group namespace", &spec.cgroupns_mode)?),
        mounts: Some(spec.mounts.iter().map(mount).collect::<Result<_, _>>()?),
        tmpfs: Some(map(&spec.tmpfs)),
        network_mode: Some(spec.network_mode.clone()),
        dns: Some(spec.dns.clone()),
        dns_search: Some(spec.dns_search.clone()),
        sysctls: Some(map(&spec.sysctls)),
        restart_policy: Some(RestartPolicy {
            name: Some(named("restart policy", &spec.restart_policy)?),
            maximum_retry_count: None,
        }),
        init: Some(spec.init),
        log_config: Some(HostConfigLogConfig {
            typ: Some(spec.log_driver.clone()),
            config: Some(map(&spec.log_options)),
        }),
        ..HostConfig::default()
    };
    // An empty list means the image's own to the engine, and here as well: then nothing is sent.
    let list = |list: &[String]| (!list.is_empty()).then(|| list.to_owned());
    Ok(ContainerCreateBody {
        hostname: Some(spec.hostname.clone()),
        user: Some(spec.user.clone()),
        env: Some(spec.environment.clone()),
        working_dir: Some(spec.working_dir.clone()),
        image: Some(spec.image.clone()),
        entrypoint: list(&spec.entrypoint),
        cmd: list(&spec.command),
        labels: Some(labels),
        host_config: Some(host_config),
        networking_config: spec.address.map(networking),
        ..ContainerCreateBody::default()
    })
}

/// How a container is to be on a network.
pub fn endpoint(address: Ipv4Addr) -> EndpointSettings {
    let ipam = EndpointIpamConfig { ipv4_address: Some(address.to_string()), ..EndpointIpamConfig::default() };
    EndpointSettings { ipam_config: Some(ipam), ..EndpointSettings::default() }
}

/// The label of a container that is made to be inspected.
pub const SAMPLE_LABEL: &str = "io.tenantd.sample";

/// The body of `POST /containers/create` for a container that shows what the engine adds by itself.
pub fn sample(image: &str) -> ContainerCreateBody {
    ContainerCreateBody {
        image: Some(image.to_owned()),
        cmd: Some(vec!["none".to_owned()]),
        labels: Some(HashMap::from([(SAMPLE_LABEL.to_owned(), "1".to_owned())])),
        host_config: Some(HostConfig {
            network_mode: Some("none".to_owned()),
            log_config: Some(HostConfigLogConfig { typ: Some("json-file".to_owned()), config: Some(HashMap::new()) }),
            ..HostConfig::default()
        }),
        ..ContainerCreateBody::default()
    }
}

/// The body of `POST /networks/create`. bollard has no `CheckDuplicate`, without which engines before 25 make two networks of
/// one name.
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

fn map(pairs: &Pairs) -> HashMap<String, String> {
    pairs.iter().cloned().collect()
}

fn mount(mount: &Mount) -> Result<SentMount, CallError> {
    // A mount of this kind fails where its source is missing; a "bind" string would make an
    // empty folder there, owned by root.
    Ok(SentMount {
        typ: Some(named("kind of mount", &mount.kind)?),
        source: Some(mount.source.clone()),
        target: Some(mount.target.clone()),
        read_only: Some(!mount.writable),
        bind_options: Some(MountBindOptions {
            propagation: Some(named("propagation of mounts", &mount.propagation)?),
            // What is mounted below a shared folder could be written to: it is left out.
            non_recursive: Some(!mount.writable),
            ..MountBindOptions::default()
        }),
        ..SentMount::default()
    })
}

/// A word as bollard has it, which knows those of the API alone.
fn named<T: FromStr>(what: &'static str, value: &str) -> Result<T, CallError> {
    value.parse().map_err(|_| CallError::Unnamed { what, value: value.to_owned() })
}

fn paths(set: &PathSet, standard: &[&str]) -> Vec<String> {
    match set {
        PathSet::Standard => standard.iter().map(|path| (*path).to_owned()).collect(),
        PathSet::Other(paths) => paths.clone(),
    }
}

/// `name=soft:hard` as the engine's object.
fn ulimit(text: &str) -> Option<ResourcesUlimits> {
    let (name, range) = text.split_once('=')?;
    let (soft, hard) = range.split_once(':')?;
    let (soft, hard) = (soft.parse().ok()?, hard.parse().ok()?);
    Some(ResourcesUlimits { name: Some(name.to_owned()), soft: Some(soft), hard: Some(hard) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn declared() -> Container {
        let pairs = |name: &str, value: &str| Pairs::from_iter([(name.to_owned(), value.to_owned())]);
        let texts = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
        Container {
            image: "img:1".to_owned(),
            runtime: "runsc".to_owned(),
            nano_cpus: 500_000_000,
            memory: 1 << 28,
            memory_swap: 1 << 28,
            pids_limit: 64,
            user: "1000:1000".to_owned(),
            read_only: true,
            command: texts(&["run", "it"]),
            environment: texts(&["A=1"]),
            working_dir: "/workspace".to_owned(),
            hostname: "acme".to_owned(),
            labels: pairs("io.tenantd.tenant", "acme"),
            shm_size: 1 << 26,
            ulimits: texts(&["nofile=1024:2048"]),
            cap_drop: texts(&["ALL"]),
            security_opt: texts(&["no-new-privileges"]),
            masked_paths: PathSet::Other(texts(&["/proc/kcore"])),
            readonly_paths: PathSet::Other(Vec::new()),
            ipc_mode: "private".to_owned(),
            cgroupns_mode: "private".to_owned(),
            mounts: vec![Mount {
                target: "/source".to_owned(),
                kind: "bind".to_owned(),
                source: "/srv/source".to_owned(),
                writable: false,
                propagation: "rprivate".to_owned(),
            }],
            tmpfs: pairs("/tmp", "size=1m"),
            network_mode: "t-acme".to_owned(),
            address: Some(Ipv4Addr::new(10, 0, 0, 2)),
            dns: texts(&["10.0.0.1"]),
            sysctls: pairs("net.ipv4.ping_group_range", "1 0"),
            restart_policy: "no".to_owned(),
            init: true,
            log_driver: "json-file".to_owned(),
            log_options: pairs("max-size", "10m"),
            ..Container::default()
        }
    }

    #[test]
    fn what_is_declared_is_sent_and_nothing_else() -> Result<(), Box<dyn std::error::Error>> {
        let sent = serde_json::to_value(container(&declared(), "c1")?)?;
        let expected = json!({
            "Hostname": "acme",
            "User": "1000:1000",
            "Env": ["A=1"],
            "WorkingDir": "/workspace",
            "Image": "img:1",
            "Cmd": ["run", "it"],
            "Labels": {"io.tenantd.tenant": "acme", CREATION_LABEL: "c1"},
            "HostConfig": {
                "Runtime": "runsc",
                "Memory": 1 << 28,
                "MemorySwap": 1 << 28,
                "NanoCpus": 500_000_000,
                "PidsLimit": 64,
                "ShmSize": 1 << 26,
                "Ulimits": [{"Name": "nofile", "Soft": 1024, "Hard": 2048}],
                "CapDrop": ["ALL"],
                "SecurityOpt": ["no-new-privileges"],
                "ReadonlyRootfs": true,
                "MaskedPaths": ["/proc/kcore"],
                // To leave it out would ask for the engine's own list.
                "ReadonlyPaths": [],
                "IpcMode": "private",
                "CgroupnsMode": "private",
                "Mounts": [{
                    "Type": "bind",
                    "Source": "/srv/source",
                    "Target": "/source",
                    "ReadOnly": true,
                    "BindOptions": {"Propagation": "rprivate", "NonRecursive": true},
                }],
                "Tmpfs": {"/tmp": "size=1m"},
                "NetworkMode": "t-acme",
                "Dns": ["10.0.0.1"],
                "DnsSearch": [],
                "Sysctls": {"net.ipv4.ping_group_range": "1 0"},
                "RestartPolicy": {"Name": "no"},
                "Init": true,
                "LogConfig": {"Type": "json-file", "Config": {"max-size": "10m"}},
            },
            "NetworkingConfig": {"EndpointsConfig": {"t-acme": {"IPAMConfig": {"IPv4Address": "10.0.0.2"}}}},
        });
        assert_eq!(sent, expected);
        Ok(())
    }

    #[test]
    fn a_word_that_the_api_does_not_have_is_an_error_and_not_left_out() {
        let spec = Container { cgroupns_mode: "shared".to_owned(), ..declared() };
        let error = container(&spec, "c1").map(drop).map_err(|error| error.to_string());
        assert_eq!(error, Err("the engine's API has no control-group namespace \"shared\"".to_owned()));
    }
}
