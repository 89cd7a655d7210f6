//! The same tenants as docker-compose projects, hardened as far as its files can say it.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::{Map, Value, json};
use tenantd::model::{Container, Network};

use crate::{
    fleet::{Fleet, Member},
    measure::{self, Run},
};

/// How many projects are brought up at once where each tenant is one.
const AT_ONCE: usize = 4;

/// Tenants as one project, or each as a project of its own.
pub struct Compose {
    pub name: String,
    folder: PathBuf,
    command: Vec<String>,
    projects: Vec<String>,
}

impl Compose {
    /// Both ways, or neither where there is no docker-compose.
    pub fn all(fleet: &Fleet, folder: &Path) -> anyhow::Result<Vec<Self>> {
        let Some(command) = command() else { return Ok(Vec::new()) };
        let make = |name: &str, groups: Vec<&[Member]>| {
            let folder = folder.join(name.replace(' ', "-"));
            fs::create_dir_all(&folder)?;
            let mut projects = Vec::new();
            for (number, group) in groups.into_iter().enumerate() {
                let project = format!("project{number}");
                fs::write(folder.join(format!("{project}.json")), serde_json::to_vec_pretty(&file(group))?)?;
                projects.push(project);
            }
            anyhow::Ok(Self {
                name: format!("{} {name}", command.join(" ")),
                folder,
                command: command.clone(),
                projects,
            })
        };
        Ok(vec![make("one project", vec![&fleet.members])?, make("per tenant", fleet.members.chunks(1).collect())?])
    }

    /// `up -d` of every project.
    pub fn up(&self) -> anyhow::Result<Run> {
        let compose = self.command.join(" ");
        let mut command = Command::new("xargs");
        let each = format!("exec {compose} -p \"$1\" -f {}/\"$1\".json up -d", self.folder.display());
        command.args(["-a", &self.list()?, "-n1", "-P", &AT_ONCE.to_string(), "sh", "-c", &each, "sh"]);
        command.env("COMPOSE_HTTP_TIMEOUT", "300");
        measure::run(&command, &self.folder)
    }

    fn list(&self) -> anyhow::Result<String> {
        let path = self.folder.join("projects");
        fs::write(&path, self.projects.join("\n"))?;
        Ok(path.display().to_string())
    }
}

/// The plugin, or the program that was before it.
fn command() -> Option<Vec<String>> {
    let candidates: [&[&str]; 2] = [&["docker", "compose"], &["docker-compose"]];
    candidates.into_iter().find_map(|words| {
        let output = Command::new(words[0]).args(&words[1..]).arg("version").output().ok()?;
        output.status.success().then(|| words.iter().map(|&word| word.to_owned()).collect())
    })
}

/// One project's file. Every YAML reader reads JSON.
fn file(members: &[Member]) -> Value {
    let mut services = Map::new();
    let mut networks = Map::new();
    for Member { network, container, .. } in members {
        services.insert(container.hostname.clone(), service(container));
        networks.insert(container.hostname.clone(), json_network(network));
    }
    json!({"version": "2.4", "services": services, "networks": networks})
}

/// Masked paths and the control-group namespace cannot be said here.
fn service(container: &Container) -> Value {
    let mounts: Vec<Value> = container
        .mounts
        .iter()
        .map(|mount| json!({"type": mount.kind, "source": mount.source, "target": mount.target}))
        .collect();
    let tmpfs: Vec<String> = container.tmpfs.iter().map(|(target, options)| format!("{target}:{options}")).collect();
    let ulimits: Map<String, Value> = container
        .ulimits
        .iter()
        .filter_map(|limit| {
            let (name, range) = limit.split_once('=')?;
            let (soft, hard) = range.split_once(':')?;
            Some((name.to_owned(), json!({"soft": soft.parse::<i64>().ok()?, "hard": hard.parse::<i64>().ok()?})))
        })
        .collect();
    json!({
        "container_name": container.name,
        "image": container.image,
        "runtime": container.runtime,
        "user": container.user,
        "hostname": container.hostname,
        "environment": container.environment,
        "mem_limit": container.memory,
        "memswap_limit": container.memory_swap,
        "cpus": f64::from(u32::try_from(container.nano_cpus / 1_000_000).unwrap_or(1000)) / 1000.0,
        "pids_limit": container.pids_limit,
        "shm_size": container.shm_size,
        "ulimits": ulimits,
        "cap_drop": container.cap_drop,
        "security_opt": container.security_opt,
        "read_only": container.read_only,
        "ipc": container.ipc_mode,
        "volumes": mounts,
        "tmpfs": tmpfs,
        "networks": [container.hostname],
        "dns": container.dns,
        "dns_search": container.dns_search,
        "sysctls": container.sysctls,
        "restart": container.restart_policy,
        "init": container.init,
        "logging": {"driver": container.log_driver, "options": container.log_options},
    })
}

fn json_network(network: &Network) -> Value {
    let ranges: Vec<Value> =
        network.ranges.iter().map(|range| json!({"subnet": range.subnet, "gateway": range.gateway})).collect();
    json!({
        "name": network.name,
        "driver": network.driver,
        "internal": network.internal,
        "driver_opts": network.options,
        "ipam": {"driver": network.ipam_driver, "config": ranges},
    })
}
