//! What an engine and its host really have.

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
    sync::Arc,
};

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize};

use super::{
    Container, Cpus, EngineDefaults, Network, Pairs, Powers,
    egress::ObservedEgress,
    files::FoundFiles,
    workspace::{ObservedWorkspaces, Owner},
};

/// One observation of the engine and the host.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Observed {
    /// The engine itself.
    pub engine: EngineFacts,
    /// Containers that carry our label or one of our names.
    pub containers: Vec<ObservedContainer>,
    /// All networks of the engine: ours by label, the others for the addresses they hold.
    pub networks: Vec<ObservedNetwork>,
    /// The images that were asked for, by the reference used.
    #[serde(skip)]
    pub images: BTreeMap<String, ImageState>,
    /// Workspaces under the data root.
    pub workspaces: ObservedWorkspaces,
    /// Config files, by the tenant's name.
    pub files: BTreeMap<String, FoundFiles>,
    /// Egress paths of tenants.
    pub egress: ObservedEgress,
    /// Containers of ours that exist and could not be inspected.
    pub unobserved: Vec<Unobserved>,
    /// The ids of containers whose limits the engine refused to lower while they ran.
    #[serde(skip)]
    pub refused_limits: BTreeSet<String>,
    /// What tenants were asked to do: the one thing here that only the host's state knows.
    #[serde(default, skip_serializing_if = "Powers::is_empty")]
    pub powers: Arc<Powers>,
}

/// What an engine says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EngineFacts {
    /// What it calls itself, since it was first begun on its data root.
    pub id: String,
    /// Its version, such as `20.10.24`.
    pub version: String,
    /// The version of the API that is spoken with it.
    pub api_version: String,
    /// The processors that it has: no container can be given more.
    #[serde(deserialize_with = "nanos")]
    pub cpus: Cpus,
    /// The folder of its own data; empty where it does not say.
    #[serde(default)]
    pub root: String,
    /// The runtimes that it has registered.
    pub runtimes: BTreeSet<String>,
    /// Those of them that were found to be unable to start anything, and why.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub failing_runtimes: BTreeMap<String, String>,
    /// Limits that it says it cannot enforce: `memory`, `swap`, `cpus`, `pids`.
    pub missing_limits: BTreeSet<Cow<'static, str>>,
    /// Whether containers are confined by a seccomp profile.
    pub seccomp: bool,
    /// The file of that profile, where it is not the engine's default one.
    #[serde(default)]
    pub seccomp_profile: Option<String>,
    /// Which users of the host those of containers are.
    #[serde(default)]
    pub userns: UserNamespace,
    /// Whether it confines containers by SELinux.
    #[serde(default)]
    pub selinux: bool,
    /// What its own configuration is known to add to containers and networks.
    #[serde(default)]
    pub defaults: EngineDefaults,
    /// Whether its networks are in the network namespace of this process.
    #[serde(skip)]
    pub is_here: bool,
}

impl EngineFacts {
    /// Whose the files of tenants are on the host.
    pub fn tenant_owner(&self) -> Owner {
        let Owner { uid, gid } = Owner::TENANT;
        match self.userns {
            UserNamespace::Host | UserNamespace::Unknown => Owner::TENANT,
            UserNamespace::Remapped(root) => {
                Owner { uid: root.uid.saturating_add(uid), gid: root.gid.saturating_add(gid) }
            }
        }
    }
}

/// Which users of the host those of containers are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum UserNamespace {
    /// The same ones.
    #[default]
    Host,
    /// Others (`userns-remap`): root of containers is this one, and the rest follows it.
    Remapped(Owner),
    /// Others, and the engine does not say which.
    Unknown,
}

fn nanos<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Cpus, D::Error> {
    u64::deserialize(deserializer).map(Cpus::from_nanos)
}

/// What a container is doing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RunState {
    /// Made and never started.
    #[default]
    Created,
    /// Its main process runs.
    Running,
    /// Frozen.
    Paused,
    /// Between two runs by the engine's own policy.
    Restarting,
    /// Ended.
    Stopped,
    /// Half removed, or in a state that this version does not know.
    Dead,
    /// In a start that does not end: its runtime hangs, and the engine waits for it.
    Hung,
}

/// What the health check of a container's image says. The engine runs it as the image declares it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Health {
    /// The image has none, or it is not known.
    #[default]
    Unchecked,
    /// It has not succeeded yet, nor failed often enough.
    Starting,
    /// It succeeded last.
    Healthy,
    /// It fails.
    Unhealthy,
}

/// A container as observed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ObservedContainer {
    /// Its full id.
    pub id: String,
    /// The tenant that its label names, if it has one of its own.
    pub tenant: Option<String>,
    /// The tenant that a label names which it has from its image: it merely looks like that tenant's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub looks_like: Option<String>,
    /// What it is doing.
    pub state: RunState,
    /// The code that it ended with, where it ended.
    pub exit_code: i64,
    /// What its image's health check says. Nothing is planned by it.
    #[serde(skip)]
    pub health: Health,
    /// Names and ids of the networks that it is on; the id is empty where the engine keeps none.
    pub networks: Pairs,
    /// The addresses that it has now, by the names of those networks: none while it does not run.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub addresses: BTreeMap<String, Ipv4Addr>,
    /// What it is made of; `None` for one that is not ours by label and so was not inspected.
    pub spec: Option<Box<Container>>,
    /// Its name, without the engine's slash.
    pub name: String,
}

/// A network as observed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ObservedNetwork {
    /// Its full id.
    pub id: String,
    /// The tenant that its label names, if it has one.
    pub tenant: Option<String>,
    /// What it is made of.
    pub spec: Network,
    /// Containers on it, by id: their names and the tenant that they are labelled with.
    pub members: Vec<Member>,
}

impl ObservedNetwork {
    /// The name of its bridge's interface on the engine's host, where it has one.
    pub fn interface(&self) -> Option<String> {
        const BRIDGE_NAME: &str = "com.docker.network.bridge.name";
        let named = || self.spec.options.get(BRIDGE_NAME).cloned();
        (self.spec.driver == "bridge").then(|| named().or_else(|| Some(format!("br-{}", self.id.get(..12)?))))?
    }
}

/// A container on a network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// The container's full id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// The tenant that its label names, if it has one of its own.
    pub tenant: Option<String>,
}

/// An image that a tenant asks for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ImageState {
    /// The engine has it.
    Present(ImageFacts),
    /// The engine does not have it.
    Missing,
    /// The engine did not say.
    Unknown(String),
}

/// An image that the engine has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KnownImage {
    /// Its id, `sha256:…`.
    pub id: String,
    /// What it is called: `name:tag` and `name@sha256:…`.
    pub names: BTreeSet<String>,
    /// What it brings into a container.
    pub state: ImageState,
}

/// What an image brings into a container.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageFacts {
    /// Its id, `sha256:…`.
    pub id: String,
    /// `KEY=value` in the image's order.
    pub environment: Vec<String>,
    /// Entry point.
    pub entrypoint: Vec<String>,
    /// Command.
    pub command: Vec<String>,
    /// Working directory.
    pub working_dir: String,
    /// Labels.
    pub labels: Pairs,
    /// Paths that it declares as volumes.
    pub volumes: Vec<String>,
}

/// Something of ours that exists and could not be observed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Unobserved {
    /// The tenant that its label names.
    pub tenant: String,
    /// The object, such as a container's name.
    pub object: String,
    /// Why.
    pub reason: String,
    /// What the list says of a container that did not answer in time.
    #[serde(skip)]
    pub listed: Option<ObservedContainer>,
}
