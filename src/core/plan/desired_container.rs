//! A declared tenant's container, in the engine's terms.

use std::path::{Component, Path};

use ipnet::Ipv4Net;

use super::{
    desired_network::{gateway, own_address},
    diff,
    fingerprint::hash,
};
use crate::model::{
    Container, Cpus, LIMITS_LABEL, Mount, Pairs, SPEC_LABEL, TENANT_LABEL, Tenant,
    attribute::container,
    container::{OWN_HOME, PROVIDED, PathSet, SHARED, variable_name},
    desired::Sandbox,
    files::CONFIG,
    observed::ImageFacts,
};

/// The user and group that every tenant runs as.
const USER: &str = "1000:1000";

/// Where a tenant is at home and works, unless its image says where it can: the one place that it can write for good.
const WORKSPACE: &str = "/workspace";

/// Where a tenant can write at all.
const WRITABLE: [&str; 2] = [WORKSPACE, "/tmp"];

/// The variable that says where somebody is at home.
const HOME: &str = "HOME";

/// What a container is made from beside its tenant's declaration.
pub(super) struct ContainerInputs<'a> {
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
    /// Where that lies on the host which every container gets.
    pub(super) provided: &'a Path,
}

/// The tenant's container, hardened, with what its image brings.
pub(super) fn desired_container(tenant: &Tenant, inputs: &ContainerInputs<'_>) -> Container {
    let image = inputs.image;
    let mut container = declared(tenant, inputs);
    let labels = Pairs::from([
        (TENANT_LABEL.to_owned(), tenant.name.to_string()),
        (SPEC_LABEL.to_owned(), container_fingerprint(&container)),
        (LIMITS_LABEL.to_owned(), container.limits_label()),
    ]);
    container.mounts.push(mount(PROVIDED, inputs.provided, false));
    container.mounts.sort();
    container.address = own_address(inputs.subnet);
    container.image_id.clone_from(&image.id);
    container.entrypoint.clone_from(&image.entrypoint);
    container.working_dir.clone_from(&image.working_dir);
    if container.working_dir.is_empty() {
        container.working_dir = WORKSPACE.to_owned();
    }
    if tenant.command.is_none() {
        container.command.clone_from(&image.command);
    }
    let is_own = |entry: &&String| {
        let name = variable_name(entry);
        !tenant.environment.contains_key(name) && (name != HOME || is_usable_home(entry))
    };
    container.environment.extend(image.environment.iter().filter(is_own).cloned());
    if home(&container.environment).is_none() {
        container.environment.push(OWN_HOME.to_owned());
    }
    container.environment.sort();
    container.labels = image.labels.clone();
    container.labels.extend(labels);
    container
}

/// Whether an entry of `HOME` names a place that a tenant can write. The rest of its root is read-only.
fn is_usable_home(entry: &str) -> bool {
    let path = Path::new(entry.split_once('=').map_or("", |(_, path)| path));
    let is_plain = !path.components().any(|part| part == Component::ParentDir);
    is_plain && WRITABLE.iter().any(|writable| path.starts_with(writable))
}

/// The entry of `HOME`, if there is one.
fn home(environment: &[String]) -> Option<&String> {
    environment.iter().find(|entry| variable_name(entry) == HOME)
}

/// What a container of an earlier version has in place of what tenants get by now: the home and the working directory of its
/// image alone, nothing at [`PROVIDED`], and an address that the engine hands out. It keeps that until it is replaced for
/// another reason.
#[derive(Default)]
pub(super) struct Inherited {
    home: Option<Option<String>>,
    working_dir: Option<String>,
}

impl Inherited {
    pub(super) fn of(tenant: &Tenant, image: &ImageFacts) -> Self {
        let own = home(&image.environment);
        let has_other_home = !tenant.environment.contains_key(HOME) && !own.is_some_and(|entry| is_usable_home(entry));
        Self {
            home: has_other_home.then(|| own.cloned()),
            working_dir: image.working_dir.is_empty().then(|| image.working_dir.clone()),
        }
    }

    /// The declared container with what of this the actual one has; `None` where it has nothing of it.
    pub(super) fn kept_by(&self, declared: &Container, actual: &Container) -> Option<Container> {
        let home_of = self.home.as_ref().filter(|own| own.as_ref() == home(&actual.environment));
        let working_dir = self.working_dir.as_ref().filter(|own| **own == actual.working_dir);
        let has_nothing_there = !actual.mounts.iter().any(|mount| mount.target == PROVIDED);
        if home_of.is_none() && working_dir.is_none() && !has_nothing_there && actual.address.is_some() {
            return None;
        }
        let mut kept = declared.clone();
        kept.address = actual.address.and(kept.address);
        if has_nothing_there {
            kept.mounts.retain(|mount| mount.target != PROVIDED);
        }
        if let Some(own) = home_of {
            kept.environment.retain(|entry| variable_name(entry) != HOME);
            kept.environment.extend(own.clone());
            kept.environment.sort();
        }
        if let Some(own) = working_dir {
            kept.working_dir.clone_from(own);
        }
        Some(kept)
    }
}

/// The container as the repo and the host alone say it is.
fn declared(tenant: &Tenant, inputs: &ContainerInputs<'_>) -> Container {
    let sandbox = &tenant.sandbox;
    let strings = |items: &[&str]| items.iter().map(|&item| item.to_owned()).collect::<Vec<_>>();
    let memory = signed(tenant.limits.memory.get());
    Container {
        name: tenant.name.object_name(),
        image: tenant.image.to_string(),
        runtime: inputs.runtime.to_owned(),
        command: tenant.command.clone().unwrap_or_default(),
        environment: tenant.variables().collect(),
        user: USER.to_owned(),
        hostname: tenant.name.to_string(),
        memory,
        memory_swap: memory,
        nano_cpus: signed(tenant.limits.cpus.min(inputs.cpus).nanos()),
        pids_limit: i64::from(tenant.limits.pids.get()),
        shm_size: signed(sandbox.shm_size.get()),
        // Of these names (`engine_defaults::SENT_ULIMITS`) the engine adds none.
        ulimits: vec!["core=0:0".to_owned(), format!("nofile={0}:{0}", sandbox.open_files)],
        cap_drop: strings(&["ALL"]),
        security_opt: strings(&["no-new-privileges"]),
        read_only: true,
        masked_paths: PathSet::Standard,
        readonly_paths: PathSet::Standard,
        ipc_mode: "private".to_owned(),
        cgroupns_mode: "private".to_owned(),
        mounts: mounts(inputs),
        tmpfs: Pairs::from([("/tmp".to_owned(), tmpfs_options(sandbox.tmp_size.get()))]),
        network_mode: tenant.name.object_name(),
        dns: vec![gateway(inputs.subnet)],
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
        log_options: log_options(sandbox),
        ..Container::default()
    }
}

/// A tenant's container as its declaration alone makes it: what the host, the engine and the image add is left empty, and
/// its processors are not cut to those of a host.
pub fn hardened(tenant: &Tenant) -> Container {
    let inputs = ContainerInputs {
        runtime: "",
        image: &ImageFacts::default(),
        subnet: Ipv4Net::default(),
        cpus: tenant.limits.cpus,
        workspace: Path::new(""),
        files: None,
        source: None,
        provided: Path::new(""),
    };
    declared(tenant, &inputs)
}

/// A folder of the host inside.
fn mount(target: &str, source: &Path, writable: bool) -> Mount {
    Mount {
        target: target.to_owned(),
        kind: "bind".to_owned(),
        source: source.to_string_lossy().into_owned(),
        writable,
        propagation: "rprivate".to_owned(),
    }
}

/// The workspace, and before it what is read-only, as far as that is declared.
fn mounts(inputs: &ContainerInputs<'_>) -> Vec<Mount> {
    let files = inputs.files.map(|folder| mount(CONFIG, folder, false));
    let shared = inputs.source.map(|source| mount(SHARED, source, false));
    files.into_iter().chain(shared).chain([mount("/workspace", inputs.workspace, true)]).collect()
}

/// Options of `/tmp` in the canonical order. Owner and mode apply where the image has no `/tmp`.
fn tmpfs_options(size: u64) -> String {
    format!("gid=1000,mode=0700,nodev,noexec,nosuid,rw,size={size},uid=1000")
}

/// How logs are kept. Of one file alone none is ever rotated, and the engine refuses to compress it.
fn log_options(sandbox: &Sandbox) -> Pairs {
    let mut options = Pairs::from([
        ("max-file".to_owned(), sandbox.log_files.to_string()),
        ("max-size".to_owned(), sandbox.log_size.get().to_string()),
    ]);
    if sandbox.log_compress && sandbox.log_files > 1 {
        options.insert("compress".to_owned(), "true".to_owned());
    }
    options
}

fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn container_fingerprint(container: &Container) -> String {
    let limits = container::ALL.iter().filter(|attribute| attribute.is_limit());
    hash(&diff::of_container(container), &limits.map(|attribute| attribute.name).collect::<Vec<_>>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_home_is_usable_where_a_tenant_can_write() {
        for (entry, usable) in [
            ("HOME=/workspace", true),
            ("HOME=/workspace/app", true),
            ("HOME=/tmp", true),
            ("HOME=/tmp/home/", true),
            ("HOME=/workspace/./x", true),
            ("HOME=/workspaces", false),
            ("HOME=/workspace/../root", false),
            ("HOME=/tmpfs", false),
            ("HOME=/root", false),
            ("HOME=/home/node", false),
            ("HOME=/", false),
            ("HOME=tmp", false),
            ("HOME=", false),
        ] {
            assert_eq!(is_usable_home(entry), usable, "{entry}");
        }
    }
}
