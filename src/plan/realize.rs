//! What a declared tenant is made of, in the engine's terms.

use std::{collections::BTreeMap, path::Path};

use ipnet::Ipv4Net;
use serde::Serialize;
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use super::diff;
use crate::model::{
    Container, Cpus, LIMITS_LABEL, Mount, Network, Pairs, SPEC_LABEL, TENANT_LABEL, Tenant, container::PathSet,
    files::CONFIG, network::Range, observed::ImageFacts,
};

/// The user and group that every tenant runs as.
const USER: &str = "1000:1000";

/// The option that keeps the engine from giving the bridge an address on the host.
const INHIBIT_IPV4: &str = "com.docker.network.bridge.inhibit_ipv4";

/// The option that names the bridge's interface on the host.
const BRIDGE_NAME: &str = "com.docker.network.bridge.name";

/// The first address of a tenant's network, where its default route leads.
pub(super) fn gateway(subnet: Ipv4Net) -> String {
    subnet.hosts().next().unwrap_or_else(|| subnet.network()).to_string()
}

/// The tenant's network: no way out, no address of the host on it, no IPv6.
pub(super) fn network(tenant: &Tenant, subnet: Ipv4Net) -> Network {
    let mut network = Network {
        name: tenant.name.object_name(),
        driver: "bridge".to_owned(),
        internal: true,
        ranges: vec![Range { subnet: subnet.to_string(), gateway: gateway(subnet), range: String::new() }],
        ipam_driver: "default".to_owned(),
        options: Pairs::from([
            (INHIBIT_IPV4.to_owned(), "true".to_owned()),
            (BRIDGE_NAME.to_owned(), tenant.name.interface_name()),
        ]),
        ..Network::default()
    };
    let spec = fingerprint(&network);
    network.labels = Pairs::from([(TENANT_LABEL.to_owned(), tenant.name.to_string()), (SPEC_LABEL.to_owned(), spec)]);
    network
}

/// What a container stands on beside its tenant's declaration.
pub(super) struct Ground<'a> {
    /// The engine's runtime for the tenant's class.
    pub(super) runtime: &'a str,
    /// What the image brings.
    pub(super) image: &'a ImageFacts,
    /// The addresses of the tenant's network.
    pub(super) subnet: Ipv4Net,
    /// The processors that the engine has; it refuses to give more.
    pub(super) cpus: Cpus,
    /// Where the workspace lies on the host.
    pub(super) workspace: &'a Path,
    /// Where the config files lie on the host, if the tenant has any.
    pub(super) files: Option<&'a Path>,
    /// Where the shared folder lies on the host, if the tenant has one.
    pub(super) source: Option<&'a Path>,
}

/// The tenant's container, hardened, with what its image brings.
pub(super) fn container(tenant: &Tenant, ground: &Ground<'_>) -> Container {
    let image = ground.image;
    let mut container = declared(tenant, ground);
    let labels = Pairs::from([
        (TENANT_LABEL.to_owned(), tenant.name.to_string()),
        (SPEC_LABEL.to_owned(), container_fingerprint(&container)),
        (LIMITS_LABEL.to_owned(), limits_label(&container)),
    ]);
    container.image_id.clone_from(&image.id);
    container.entrypoint.clone_from(&image.entrypoint);
    container.working_dir.clone_from(&image.working_dir);
    if tenant.command.is_none() {
        container.command.clone_from(&image.command);
    }
    let inherited = image.environment.iter().filter(|entry| !tenant.environment.contains_key(variable_name(entry)));
    container.environment.extend(inherited.cloned());
    container.environment.sort();
    container.labels = image.labels.clone();
    container.labels.extend(labels);
    container
}

/// The name of a `KEY=value` entry.
pub(super) fn variable_name(entry: &str) -> &str {
    entry.split('=').next().unwrap_or_default()
}

/// The limits at creation, as their label has them.
pub(super) fn limits_label(container: &Container) -> String {
    format!("memory={};nano_cpus={};pids={}", container.memory, container.nano_cpus, container.pids_limit)
}

/// The container as the repo and the host alone say it is.
fn declared(tenant: &Tenant, ground: &Ground<'_>) -> Container {
    let sandbox = &tenant.sandbox;
    let strings = |items: &[&str]| items.iter().map(|&item| item.to_owned()).collect::<Vec<_>>();
    let memory = signed(tenant.limits.memory.get());
    Container {
        name: tenant.name.object_name(),
        image: tenant.image.to_string(),
        runtime: ground.runtime.to_owned(),
        command: tenant.command.clone().unwrap_or_default(),
        environment: tenant.variables().collect(),
        user: USER.to_owned(),
        hostname: tenant.name.to_string(),
        memory,
        memory_swap: memory,
        nano_cpus: signed(tenant.limits.cpus.min(ground.cpus).nanos()),
        pids_limit: i64::from(tenant.limits.pids.get()),
        shm_size: signed(sandbox.shm_size.get()),
        ulimits: vec!["core=0:0".to_owned(), format!("nofile={0}:{0}", sandbox.open_files)],
        cap_drop: strings(&["ALL"]),
        security_opt: strings(&["no-new-privileges"]),
        read_only: true,
        masked_paths: PathSet::Standard,
        readonly_paths: PathSet::Standard,
        ipc_mode: "private".to_owned(),
        cgroupns_mode: "private".to_owned(),
        mounts: mounts(ground),
        tmpfs: Pairs::from([("/tmp".to_owned(), tmpfs_options(sandbox.tmp_size.get()))]),
        network_mode: tenant.name.object_name(),
        dns: vec![gateway(ground.subnet)],
        // A lone dot keeps the host's own search domains out of the container.
        dns_search: strings(&["."]),
        sysctls: Pairs::from([
            ("net.ipv6.conf.all.disable_ipv6".to_owned(), "1".to_owned()),
            ("net.ipv6.conf.default.disable_ipv6".to_owned(), "1".to_owned()),
        ]),
        // The engine must never start a tenant by itself.
        restart_policy: "no".to_owned(),
        init: sandbox.init,
        log_driver: "json-file".to_owned(),
        log_options: Pairs::from([
            ("max-file".to_owned(), sandbox.log_files.to_string()),
            ("max-size".to_owned(), sandbox.log_size.get().to_string()),
        ]),
        ..Container::default()
    }
}

/// A tenant's container as its declaration alone makes it: what the host, the engine and the image add is left empty, and
/// its processors are not cut to those of a host.
pub fn hardened(tenant: &Tenant) -> Container {
    let ground = Ground {
        runtime: "",
        image: &ImageFacts::default(),
        subnet: Ipv4Net::default(),
        cpus: tenant.limits.cpus,
        workspace: Path::new(""),
        files: None,
        source: None,
    };
    declared(tenant, &ground)
}

/// The workspace, and before it what is read-only.
fn mounts(ground: &Ground<'_>) -> Vec<Mount> {
    let mount = |target: &str, source: &Path, writable| Mount {
        target: target.to_owned(),
        kind: "bind".to_owned(),
        source: source.to_string_lossy().into_owned(),
        writable,
        propagation: "rprivate".to_owned(),
    };
    let files = ground.files.map(|folder| mount(CONFIG, folder, false));
    let shared = ground.source.map(|source| mount("/source", source, false));
    files.into_iter().chain(shared).chain([mount("/workspace", ground.workspace, true)]).collect()
}

/// Options of `/tmp` in the canonical order. Owner and mode apply where the image has no `/tmp`.
fn tmpfs_options(size: u64) -> String {
    format!("gid=1000,mode=0700,nodev,noexec,nosuid,rw,size={size},uid=1000")
}

fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// The attributes that an engine can change on a running container; they are not part of its
/// fingerprint, which stands in a label and so cannot follow them.
pub const LIVE: [&str; 4] = ["memory", "memory_swap", "nano_cpus", "pids_limit"];

fn container_fingerprint(container: &Container) -> String {
    hash(&diff::of_container(container), &LIVE)
}

/// The hash of what is declared. What is empty, zero or false is left out: an attribute that a later
/// version adds changes no hash until it is used, and so recreates nothing.
fn fingerprint<T: Serialize>(object: &T) -> String {
    hash(&diff::attributes(object), &[])
}

fn hash(attributes: &Map<String, Value>, without: &[&str]) -> String {
    let mut hash = Sha256::new();
    let told = attributes.iter().filter(|(name, value)| !without.contains(&name.as_str()) && !is_empty(value));
    for (name, value) in told.collect::<BTreeMap<_, _>>() {
        hash.update(name.as_bytes());
        hash.update(b"=");
        hash.update(value.to_string().as_bytes());
        hash.update(b"\n");
    }
    hash.finalize().iter().take(16).map(|byte| format!("{byte:02x}")).collect()
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(on) => !on,
        Value::Number(number) => number.as_i64() == Some(0),
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(entries) => entries.is_empty(),
    }
}
