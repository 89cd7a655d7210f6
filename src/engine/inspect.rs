//! The engine's documents, brought to the canonical form.
//!
//! Only what is owned is read. A field that is absent or null is the same as an empty one, a word
//! that this version does not know is kept as text: no answer of a newer engine fails a whole list.

use std::{collections::BTreeMap, net::Ipv4Addr};

use serde::{Deserialize, Deserializer, de::IgnoredAny};
use serde_json::Value;

use crate::model::{
    CREATION_LABEL, Claim, Container, Mount, Network, Pairs,
    container::{MASKED_PATHS, PathSet, READONLY_PATHS},
    network::Range,
    observed::{Health, ImageFacts, RunState, UserNamespace},
    workspace::Owner,
};

/// Takes null for the type's default.
fn or_default<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(deserializer: D) -> Result<T, D::Error> {
    Option::<T>::deserialize(deserializer).map(Option::unwrap_or_default)
}

/// A row of `GET /containers/json`.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct ListedContainer {
    pub(super) id: String,
    #[serde(default, deserialize_with = "or_default")]
    pub(super) names: Vec<String>,
    #[serde(default, deserialize_with = "or_default")]
    pub(super) labels: Pairs,
    #[serde(rename = "ImageID", default, deserialize_with = "or_default")]
    pub(super) image_id: String,
    #[serde(default, deserialize_with = "or_default")]
    pub(super) state: String,
    #[serde(default, deserialize_with = "or_default")]
    pub(super) network_settings: NetworkSettings,
}

/// A row of `GET /containers/json` of a container that was made to be inspected.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct ListedSample {
    pub(super) id: String,
    pub(super) created: u64,
}

impl ListedContainer {
    /// The name without the slash; links add names with a second one.
    pub(super) fn name(&self) -> String {
        let own = self.names.iter().filter_map(|name| name.strip_prefix('/')).find(|name| !name.contains('/'));
        own.unwrap_or_default().to_owned()
    }
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct NetworkSettings {
    #[serde(default, deserialize_with = "or_default")]
    pub(super) networks: BTreeMap<String, Endpoint>,
}

impl NetworkSettings {
    /// The ids of the networks, by their names.
    pub(super) fn ids(&self) -> Pairs {
        self.networks.iter().map(|(name, endpoint)| (name.clone(), endpoint.network_id.clone())).collect()
    }

    /// The addresses on them, by their names.
    pub(super) fn addresses(&self) -> BTreeMap<String, Ipv4Addr> {
        self.networks
            .iter()
            .filter_map(|(name, endpoint)| Some((name.clone(), endpoint.ip_address.parse().ok()?)))
            .collect()
    }
}

#[derive(Default, Deserialize)]
pub(super) struct Endpoint {
    #[serde(rename = "NetworkID", default, deserialize_with = "or_default")]
    pub(super) network_id: String,
    #[serde(rename = "IPAddress", default, deserialize_with = "or_default")]
    ip_address: String,
    #[serde(rename = "IPAMConfig", default, deserialize_with = "or_default")]
    asked: AskedAddress,
}

/// What was asked for when a container was put on a network.
#[derive(Default, Deserialize)]
struct AskedAddress {
    #[serde(rename = "IPv4Address", default, deserialize_with = "or_default")]
    ipv4: String,
}

/// `GET /containers/{id}/json`.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Inspected {
    pub(super) id: String,
    name: String,
    image: String,
    pub(super) state: InspectedState,
    config: Config,
    host_config: HostConfig,
    #[serde(default, deserialize_with = "or_default")]
    mounts: Vec<MountPoint>,
    #[serde(default, deserialize_with = "or_default")]
    pub(super) network_settings: NetworkSettings,
    #[serde(default, deserialize_with = "or_default")]
    app_armor_profile: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct InspectedState {
    status: String,
    #[serde(default, deserialize_with = "or_default")]
    pub(super) exit_code: i64,
    #[serde(default, deserialize_with = "or_default")]
    health: HealthState,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct HealthState {
    #[serde(default, deserialize_with = "or_default")]
    status: String,
}

impl InspectedState {
    /// A word that is not known says nothing.
    pub(super) fn health(&self) -> Health {
        match self.health.status.as_str() {
            "starting" => Health::Starting,
            "healthy" => Health::Healthy,
            "unhealthy" => Health::Unhealthy,
            _ => Health::Unchecked,
        }
    }
}

/// The state's word. One that is not known is taken for `dead`, which is never left alone.
pub(super) fn run_state(word: &str) -> RunState {
    match word {
        "created" => RunState::Created,
        "running" => RunState::Running,
        "paused" => RunState::Paused,
        "restarting" => RunState::Restarting,
        "exited" => RunState::Stopped,
        _ => RunState::Dead,
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Config {
    #[serde(default, deserialize_with = "or_default")]
    image: String,
    #[serde(default, deserialize_with = "or_default")]
    hostname: String,
    #[serde(default, deserialize_with = "or_default")]
    domainname: String,
    #[serde(default, deserialize_with = "or_default")]
    user: String,
    #[serde(default, deserialize_with = "or_default")]
    env: Vec<String>,
    #[serde(default, deserialize_with = "or_default")]
    cmd: Vec<String>,
    #[serde(default, deserialize_with = "or_default")]
    entrypoint: Vec<String>,
    #[serde(default, deserialize_with = "or_default")]
    working_dir: String,
    #[serde(default, deserialize_with = "or_default")]
    labels: Pairs,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct MountPoint {
    #[serde(rename = "Type", default, deserialize_with = "or_default")]
    kind: String,
    #[serde(default, deserialize_with = "or_default")]
    name: String,
    #[serde(default, deserialize_with = "or_default")]
    source: String,
    #[serde(default, deserialize_with = "or_default")]
    destination: String,
    #[serde(rename = "RW", default)]
    rw: bool,
    #[serde(default, deserialize_with = "or_default")]
    propagation: String,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct HostConfig {
    runtime: Option<String>,
    memory: Option<i64>,
    memory_swap: Option<i64>,
    memory_reservation: Option<i64>,
    nano_cpus: Option<i64>,
    cpu_quota: Option<i64>,
    cpu_period: Option<i64>,
    cpu_shares: Option<i64>,
    cpu_realtime_runtime: Option<i64>,
    cpuset_cpus: Option<String>,
    cpuset_mems: Option<String>,
    pids_limit: Option<i64>,
    oom_kill_disable: Option<bool>,
    oom_score_adj: Option<i64>,
    blkio_weight: Option<i64>,
    shm_size: Option<i64>,
    ulimits: Option<Vec<Ulimit>>,
    privileged: bool,
    cap_add: Option<Vec<String>>,
    cap_drop: Option<Vec<String>>,
    security_opt: Option<Vec<String>>,
    readonly_rootfs: bool,
    masked_paths: Option<Vec<String>>,
    readonly_paths: Option<Vec<String>>,
    devices: Option<Vec<Device>>,
    device_requests: Option<Vec<Value>>,
    device_cgroup_rules: Option<Vec<String>>,
    group_add: Option<Vec<String>>,
    annotations: Option<Pairs>,
    ipc_mode: Option<String>,
    pid_mode: Option<String>,
    #[serde(rename = "UTSMode")]
    uts_mode: Option<String>,
    userns_mode: Option<String>,
    cgroupns_mode: Option<String>,
    cgroup_parent: Option<String>,
    tmpfs: Option<Pairs>,
    volumes_from: Option<Vec<String>>,
    storage_opt: Option<Pairs>,
    network_mode: Option<String>,
    port_bindings: Option<BTreeMap<String, Option<Vec<PortBinding>>>>,
    publish_all_ports: bool,
    dns: Option<Vec<String>>,
    dns_search: Option<Vec<String>>,
    dns_options: Option<Vec<String>>,
    extra_hosts: Option<Vec<String>>,
    links: Option<Vec<String>>,
    sysctls: Option<Pairs>,
    restart_policy: Option<RestartPolicy>,
    auto_remove: bool,
    init: Option<bool>,
    log_config: Option<LogConfig>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Ulimit {
    name: String,
    soft: i64,
    hard: i64,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Device {
    path_on_host: String,
    path_in_container: String,
    cgroup_permissions: String,
}

impl Device {
    fn canonical(self) -> String {
        format!("{}:{}:{}", self.path_on_host, self.path_in_container, self.cgroup_permissions)
    }
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct PortBinding {
    host_ip: String,
    host_port: String,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct RestartPolicy {
    name: String,
    maximum_retry_count: i64,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct LogConfig {
    #[serde(rename = "Type")]
    driver: String,
    #[serde(deserialize_with = "or_default")]
    config: Pairs,
}

impl Inspected {
    pub(super) fn run_state(&self) -> RunState {
        run_state(&self.state.status)
    }

    /// Its name, without the slash.
    pub(super) fn name(&self) -> &str {
        self.name.trim_start_matches('/')
    }

    /// Whose it says that it is, and the id of the image that it may have that from.
    pub(super) fn claim(&self) -> (Claim, &str) {
        (Claim::of(&self.config.labels), &self.image)
    }

    /// The canonical form.
    pub(super) fn container(self) -> (Container, NetworkSettings) {
        let Self {
            name,
            image: image_id,
            mut config,
            host_config: host,
            mounts,
            network_settings,
            app_armor_profile,
            ..
        } = self;
        config.labels.remove(CREATION_LABEL);
        let mut mounts: Vec<Mount> = mounts.into_iter().map(MountPoint::canonical).collect();
        mounts.sort();
        let log = host.log_config.unwrap_or_default();
        let network_mode = host.network_mode.unwrap_or_default();
        let own = network_settings.networks.get(&network_mode);
        let container = Container {
            name: name.trim_start_matches('/').to_owned(),
            image: config.image,
            image_id,
            runtime: host.runtime.unwrap_or_default(),
            entrypoint: config.entrypoint,
            command: config.cmd,
            environment: sorted(config.env),
            user: config.user,
            working_dir: config.working_dir,
            hostname: config.hostname,
            domainname: config.domainname,
            labels: config.labels,
            memory: host.memory.unwrap_or_default(),
            memory_swap: host.memory_swap.unwrap_or_default(),
            memory_reservation: host.memory_reservation.unwrap_or_default(),
            nano_cpus: host.nano_cpus.unwrap_or_default(),
            cpu_quota: host.cpu_quota.unwrap_or_default(),
            cpu_period: host.cpu_period.unwrap_or_default(),
            cpu_shares: host.cpu_shares.unwrap_or_default(),
            cpu_realtime_runtime: host.cpu_realtime_runtime.unwrap_or_default(),
            cpuset_cpus: host.cpuset_cpus.unwrap_or_default(),
            cpuset_mems: host.cpuset_mems.unwrap_or_default(),
            pids_limit: host.pids_limit.unwrap_or_default().max(0),
            oom_kill_disable: host.oom_kill_disable.unwrap_or_default(),
            oom_score_adj: host.oom_score_adj.unwrap_or_default(),
            blkio_weight: host.blkio_weight.unwrap_or_default(),
            shm_size: host.shm_size.unwrap_or_default(),
            ulimits: sorted(
                host.ulimits.into_iter().flatten().map(|limit| format!("{}={}:{}", limit.name, limit.soft, limit.hard)),
            ),
            privileged: host.privileged,
            cap_add: sorted(host.cap_add.into_iter().flatten()),
            cap_drop: sorted(host.cap_drop.into_iter().flatten()),
            security_opt: sorted(host.security_opt.into_iter().flatten().map(security_option)),
            // The engine's own profile has this name, and none where the kernel has no AppArmor.
            apparmor: if app_armor_profile == "docker-default" { String::new() } else { app_armor_profile },
            read_only: host.readonly_rootfs,
            masked_paths: path_set(host.masked_paths, &MASKED_PATHS),
            readonly_paths: path_set(host.readonly_paths, &READONLY_PATHS),
            devices: sorted(host.devices.into_iter().flatten().map(Device::canonical)),
            device_requests: sorted(host.device_requests.into_iter().flatten().map(|request| request.to_string())),
            device_cgroup_rules: sorted(host.device_cgroup_rules.into_iter().flatten()),
            group_add: sorted(host.group_add.into_iter().flatten()),
            annotations: host.annotations.unwrap_or_default(),
            ipc_mode: host.ipc_mode.unwrap_or_default(),
            pid_mode: host.pid_mode.unwrap_or_default(),
            uts_mode: host.uts_mode.unwrap_or_default(),
            userns_mode: host.userns_mode.unwrap_or_default(),
            cgroupns_mode: host.cgroupns_mode.unwrap_or_default(),
            cgroup_parent: host.cgroup_parent.unwrap_or_default(),
            mounts,
            tmpfs: host
                .tmpfs
                .into_iter()
                .flatten()
                .map(|(target, options)| (target, sorted(options.split(',').map(str::to_owned)).join(",")))
                .collect(),
            volumes_from: host.volumes_from.unwrap_or_default(),
            storage_opt: host.storage_opt.unwrap_or_default(),
            address: own.and_then(|endpoint| endpoint.asked.ipv4.parse().ok()),
            network_mode,
            ports: sorted(host.port_bindings.into_iter().flatten().flat_map(|(port, bindings)| {
                bindings.into_iter().flatten().map(move |to| format!("{port} -> {}:{}", to.host_ip, to.host_port))
            })),
            publish_all_ports: host.publish_all_ports,
            dns: host.dns.unwrap_or_default(),
            dns_search: host.dns_search.unwrap_or_default(),
            dns_options: host.dns_options.unwrap_or_default(),
            extra_hosts: host.extra_hosts.unwrap_or_default(),
            links: host.links.unwrap_or_default(),
            sysctls: host.sysctls.unwrap_or_default(),
            restart_policy: restart_policy(host.restart_policy.unwrap_or_default()),
            auto_remove: host.auto_remove,
            init: host.init.unwrap_or_default(),
            log_driver: log.driver,
            log_options: log.config,
        };
        (container, network_settings)
    }
}

impl MountPoint {
    fn canonical(self) -> Mount {
        let named = self.kind == "volume" && !self.name.is_empty();
        Mount {
            target: self.destination,
            kind: self.kind,
            source: if named { self.name } else { self.source },
            writable: self.rw,
            propagation: self.propagation,
        }
    }
}

fn sorted(items: impl IntoIterator<Item = String>) -> Vec<String> {
    let mut items: Vec<String> = items.into_iter().collect();
    items.sort();
    items
}

/// The option's forms that mean the same, in one.
fn security_option(option: String) -> String {
    match option.as_str() {
        "no-new-privileges:true" | "no-new-privileges=true" => "no-new-privileges".to_owned(),
        _ => option,
    }
}

fn path_set(paths: Option<Vec<String>>, standard: &[&str]) -> PathSet {
    let paths = sorted(paths.into_iter().flatten());
    if paths == standard { PathSet::Standard } else { PathSet::Other(paths) }
}

fn restart_policy(policy: RestartPolicy) -> String {
    match (policy.name.as_str(), policy.maximum_retry_count) {
        ("", _) => "no".to_owned(),
        (name, count) if count > 0 => format!("{name}:{count}"),
        (name, _) => name.to_owned(),
    }
}

/// A row of `GET /networks`.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct ListedNetwork {
    pub(super) id: String,
    name: String,
    #[serde(default, deserialize_with = "or_default")]
    driver: String,
    #[serde(default)]
    internal: bool,
    #[serde(default)]
    attachable: bool,
    #[serde(default)]
    ingress: bool,
    #[serde(default)]
    config_only: bool,
    #[serde(rename = "EnableIPv6", default)]
    ipv6: bool,
    #[serde(rename = "IPAM", default, deserialize_with = "or_default")]
    ipam: Ipam,
    #[serde(default, deserialize_with = "or_default")]
    options: Pairs,
    #[serde(default, deserialize_with = "or_default")]
    labels: Pairs,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Ipam {
    #[serde(default, deserialize_with = "or_default")]
    driver: String,
    #[serde(default, deserialize_with = "or_default")]
    options: Pairs,
    #[serde(default, deserialize_with = "or_default")]
    config: Vec<IpamRange>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct IpamRange {
    #[serde(default, deserialize_with = "or_default")]
    subnet: String,
    #[serde(default, deserialize_with = "or_default")]
    gateway: String,
    #[serde(rename = "IPRange", default, deserialize_with = "or_default")]
    range: String,
}

impl ListedNetwork {
    /// The canonical form.
    pub(super) fn network(self) -> Network {
        let mut ranges: Vec<Range> = self
            .ipam
            .config
            .into_iter()
            .map(|IpamRange { subnet, gateway, range }| Range { subnet, gateway, range })
            .collect();
        ranges.sort();
        Network {
            name: self.name,
            driver: self.driver,
            internal: self.internal,
            attachable: self.attachable,
            ingress: self.ingress,
            config_only: self.config_only,
            ipv6: self.ipv6,
            ranges,
            ipam_driver: self.ipam.driver,
            ipam_options: self.ipam.options,
            options: self.options,
            labels: self.labels,
        }
    }
}

/// `GET /networks/{name}`: who is on it. An endpoint without a container has a key that begins with `ep-`.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct InspectedNetwork {
    pub(super) id: String,
    #[serde(default, deserialize_with = "or_default")]
    pub(super) containers: BTreeMap<String, IgnoredAny>,
}

/// A row of `GET /images/json`.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct ListedImage {
    pub(super) id: String,
    #[serde(default, deserialize_with = "or_default")]
    repo_tags: Vec<String>,
    #[serde(default, deserialize_with = "or_default")]
    repo_digests: Vec<String>,
}

impl ListedImage {
    /// What it is called. One without a name has `<none>` in its place.
    pub(super) fn names(self) -> impl Iterator<Item = String> {
        self.repo_tags.into_iter().chain(self.repo_digests).filter(|name| !name.contains("<none>"))
    }
}

/// `GET /images/{name}/json`.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct InspectedImage {
    id: String,
    #[serde(default, deserialize_with = "or_default")]
    config: ImageConfig,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ImageConfig {
    #[serde(default, deserialize_with = "or_default")]
    env: Vec<String>,
    #[serde(default, deserialize_with = "or_default")]
    entrypoint: Vec<String>,
    #[serde(default, deserialize_with = "or_default")]
    cmd: Vec<String>,
    #[serde(default, deserialize_with = "or_default")]
    working_dir: String,
    #[serde(default, deserialize_with = "or_default")]
    labels: Pairs,
    #[serde(default, deserialize_with = "or_default")]
    volumes: BTreeMap<String, Value>,
}

impl InspectedImage {
    /// Whose it says that its containers are.
    pub(super) fn claim(&self) -> Claim {
        Claim::of(&self.config.labels)
    }

    /// What it brings into a container.
    pub(super) fn facts(mut self) -> ImageFacts {
        self.config.labels.remove(CREATION_LABEL);
        ImageFacts {
            id: self.id,
            environment: self.config.env,
            entrypoint: self.config.entrypoint,
            command: self.config.cmd,
            working_dir: self.config.working_dir,
            labels: self.config.labels,
            volumes: self.config.volumes.into_keys().collect(),
        }
    }
}

/// `GET /info`.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Info {
    #[serde(rename = "ID", default)]
    pub(super) id: String,
    #[serde(default)]
    pub(super) server_version: String,
    #[serde(default)]
    pub(super) architecture: String,
    #[serde(default)]
    pub(super) docker_root_dir: String,
    #[serde(default)]
    pub(super) runtimes: BTreeMap<String, Value>,
    #[serde(rename = "NCPU", default)]
    pub(super) cpus: u64,
    #[serde(default)]
    pub(super) memory_limit: bool,
    #[serde(default)]
    pub(super) swap_limit: bool,
    #[serde(default)]
    pub(super) cpu_cfs_quota: bool,
    #[serde(default)]
    pub(super) cpu_cfs_period: bool,
    #[serde(default)]
    pub(super) pids_limit: bool,
    #[serde(default, deserialize_with = "or_default")]
    pub(super) security_options: Vec<String>,
}

/// What engines call their own profile of system calls, and none at all; any other word is a file.
pub(super) const OWN_PROFILES: [&str; 4] = ["", "default", "builtin", "unconfined"];

impl Info {
    /// The profile of system calls that confines containers, if the kernel can do that.
    pub(super) fn seccomp(&self) -> Option<&str> {
        let said = self.security_options.iter().find_map(|option| option.strip_prefix("name=seccomp"));
        said.map(|more| more.split_once("profile=").map_or("", |(_, profile)| profile))
    }

    /// Which users of the host those of containers are. An engine that remaps them keeps its data in a folder that is called
    /// by the user and group that root of containers is.
    pub(super) fn userns(&self) -> UserNamespace {
        let has = |name: &str| self.security_options.iter().any(|option| option.split(',').next() == Some(name));
        if has("name=rootless") {
            return UserNamespace::Unknown;
        }
        if !has("name=userns") {
            return UserNamespace::Host;
        }
        let folder = self.docker_root_dir.rsplit('/').next().and_then(|name| name.split_once('.'));
        let owner = folder.and_then(|(uid, gid)| Some(Owner { uid: uid.parse().ok()?, gid: gid.parse().ok()? }));
        owner.map_or(UserNamespace::Unknown, UserNamespace::Remapped)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_profile_of_system_calls_is_the_engines_own_or_a_file() -> serde_json::Result<()> {
        for (options, expected) in [
            (r#"["name=apparmor"]"#, None),
            (r#"["name=seccomp"]"#, Some("")),
            (r#"["name=apparmor", "name=seccomp,profile=default"]"#, Some("default")),
            (r#"["name=seccomp,profile=builtin"]"#, Some("builtin")),
            (r#"["name=seccomp,profile=/etc/docker/a,b=c.json"]"#, Some("/etc/docker/a,b=c.json")),
        ] {
            let info = format!(r#"{{"SecurityOptions": {options}}}"#);
            assert_eq!(serde_json::from_str::<Info>(&info)?.seccomp(), expected, "{info}");
        }
        Ok(())
    }

    #[test]
    fn the_name_of_the_engines_folder_tells_whose_files_its_containers_make() -> serde_json::Result<()> {
        for (options, folder, expected) in [
            (r#"["name=seccomp,profile=default"]"#, "/var/lib/docker", UserNamespace::Host),
            (r#"["name=seccomp"]"#, "/srv/1.2", UserNamespace::Host),
            (r#"["name=userns"]"#, "/d/231072.331072", UserNamespace::Remapped(Owner { uid: 231_072, gid: 331_072 })),
            (r#"["name=userns"]"#, "/var/lib/docker", UserNamespace::Unknown),
            (r#"["name=rootless"]"#, "/home/ada/.local/share/docker", UserNamespace::Unknown),
        ] {
            let info = format!(r#"{{"SecurityOptions": {options}, "DockerRootDir": "{folder}"}}"#);
            assert_eq!(serde_json::from_str::<Info>(&info)?.userns(), expected, "{info}");
        }
        Ok(())
    }
}
