//! What would be done, and why: complete data, so that carrying it out has no choice left.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Serialize, Serializer};
use serde_json::Value;

use super::{
    Bytes, Container, EgressPolicy, Network, SecretName,
    egress::{Sealed, WayOut},
    files::ConfigFile,
    workspace::{Backend, Folder, VolumeSpec},
};

/// Everything that one plan would do, tenant by tenant in the order of their names.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plan {
    /// One entry for each tenant that is declared, held or found.
    pub tenants: Vec<TenantPlan>,
}

/// What would be done for one tenant. No step of it touches another tenant's objects.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TenantPlan {
    /// The tenant's name, as declared or as found on a label.
    pub tenant: String,
    /// What differs, resource by resource.
    pub changes: Vec<Change>,
    /// Steps that stop what weakens isolation. They run first, for all tenants, also for blocked ones.
    pub contain: Vec<Step>,
    /// Steps that make the tenant as declared, in order. Empty for a blocked tenant.
    pub steps: Vec<Step>,
    /// Why nothing can be done, if so.
    pub blocked: Option<Blocked>,
    /// What a person should know beside.
    pub notes: Vec<Note>,
}

/// A remark on a tenant that changes nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Note {
    /// `limits.disk` is not enforced by the host, which accepts that.
    DiskUnenforced,
    /// The tenant may have more processors than the engine has: it is given all of them.
    CpusCapped,
    /// The tenant's file has errors: what runs is left as it is.
    Held,
}

/// Why a tenant cannot be made as declared.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Blocked {
    /// The rule's name in kebab case.
    pub code: &'static str,
    /// What is in the way.
    pub reason: String,
    /// What to do about it.
    pub help: String,
}

/// The kinds of resource that a tenant is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Resource {
    /// Its sandbox.
    Container,
    /// Its network.
    Network,
    /// Its files.
    Workspace,
    /// What it finds at /config.
    Files,
    /// Its way out.
    Egress,
    /// What lies aside of an earlier workspace.
    Aside,
}

impl Resource {
    /// The word in plans.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Container => "container",
            Self::Network => "network",
            Self::Workspace => "workspace",
            Self::Files => "files",
            Self::Egress => "egress",
            Self::Aside => "aside",
        }
    }
}

/// What would happen to a resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// It is made.
    Create,
    /// It is changed and keeps its id.
    Update,
    /// It is removed and made anew.
    Replace,
    /// It is removed.
    Delete,
}

/// One resource that differs.
#[derive(Clone, Debug, PartialEq)]
pub struct Change {
    /// Its kind.
    pub resource: Resource,
    /// Its name within the plan: the tenant's, or the engine's name for an object beyond the one declared.
    pub name: String,
    /// What would happen to it.
    pub action: Action,
    /// The attributes that differ; empty for one that is made or removed.
    pub attributes: Vec<AttributeChange>,
    /// As it is; `None` for one that is made.
    pub before: Option<Object>,
    /// As it would be; `None` for one that is removed.
    pub after: Option<Object>,
}

/// A resource's whole state, in the form that plans show.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Object {
    /// A container.
    Container(Box<Container>),
    /// A network.
    Network(Box<Network>),
    /// A workspace.
    Workspace(ShownWorkspace),
    /// Config files.
    Files(ShownFiles),
    /// A way out.
    Egress(Box<WayOut>),
}

/// Config files in the form that plans show.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ShownFiles {
    /// The folder that the container gets as /config.
    pub path: String,
    /// The hash of each file, by its path below.
    pub content: BTreeMap<String, String>,
}

/// A workspace in the form that plans show.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ShownWorkspace {
    /// Where the container finds it on the host.
    pub path: String,
    /// What bounds it.
    pub backend: Backend,
    /// Its size in bytes; `None` where nothing bounds it, or it is not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<Bytes>,
    /// Whose it is and who may enter.
    #[serde(flatten)]
    pub folder: Folder,
}

/// Why an attribute differs. It explains and decides nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Cause {
    /// The declaration changed.
    Intent,
    /// Something changed behind tenantd's back.
    Drift,
}

/// One attribute that differs.
#[derive(Clone, Debug, PartialEq)]
pub struct AttributeChange {
    /// The attribute's name.
    pub name: &'static str,
    /// The actual value.
    pub before: Value,
    /// The declared value.
    pub after: Value,
    /// Whether it can only change with a new object.
    pub forces_replacement: bool,
    /// Whether the actual value isolates less than the declared one.
    pub weakens: bool,
    /// Why it differs.
    pub cause: Cause,
    /// A remark, such as that a tag has moved.
    pub remark: Option<&'static str>,
}

/// A container that a step acts on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// One that exists, by its full id.
    Existing(String),
    /// The one that an earlier step of the same tenant made.
    Created,
}

impl Serialize for Target {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Existing(id) => serializer.serialize_str(id),
            Self::Created => serializer.serialize_str("(created)"),
        }
    }
}

/// One call that changes something. Each is idempotent, or harmless when it is repeated after a new look.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "step", rename_all = "kebab-case")]
pub enum Step {
    /// Takes a container off a network.
    Disconnect {
        /// The network's id.
        network: String,
        /// The container's id.
        container: String,
    },
    /// Freezes a container.
    Pause {
        /// Its id.
        container: String,
    },
    /// Makes the workspace folder, or corrects its owner and mode.
    PrepareWorkspace {
        /// The tenant's folder name.
        tenant: String,
    },
    /// Makes the volume of a workspace.
    MakeVolume {
        /// The tenant.
        tenant: String,
        /// What it is made for.
        spec: VolumeSpec,
    },
    /// Mounts the volume of a workspace, and sets all that it must have.
    MountVolume {
        /// The tenant.
        tenant: String,
        /// As it must be.
        spec: VolumeSpec,
    },
    /// Sets the limit of a mounted workspace, while the tenant runs.
    ResizeVolume {
        /// The tenant.
        tenant: String,
        /// As it must be.
        spec: VolumeSpec,
    },
    /// Makes the image of a workspace larger, while nothing uses it.
    GrowImage {
        /// The tenant.
        tenant: String,
        /// What it is made for.
        spec: VolumeSpec,
    },
    /// Writes an image back whose file was removed, from the device that still has it open.
    RescueImage {
        /// The tenant.
        tenant: String,
    },
    /// Has the file system of an image checked and put right, with a copy kept, while nothing uses it.
    RepairImage {
        /// The tenant.
        tenant: String,
    },
    /// Copies a plain folder into the mounted volume, and keeps the folder aside.
    MoveIntoVolume {
        /// The tenant.
        tenant: String,
    },
    /// Writes the files of /config, each of which takes its place at once, and removes what else lies there.
    WriteFiles {
        /// The tenant.
        tenant: String,
        /// All of them.
        files: Vec<ConfigFile>,
    },
    /// Removes the folder of /config with all that lies in it.
    RemoveFiles {
        /// The tenant.
        tenant: String,
    },
    /// Makes a network.
    CreateNetwork {
        /// What it is made of.
        spec: Box<Network>,
    },
    /// Removes a network.
    RemoveNetwork {
        /// Its id.
        network: String,
    },
    /// Makes a container, and refuses it unless the engine holds exactly what was asked for.
    CreateContainer {
        /// What it is made of.
        spec: Box<Container>,
        /// The name at first; it differs from the declared one until the container that it replaces is gone.
        temporary_name: Option<String>,
    },
    /// Starts a container.
    Start {
        /// Which.
        container: Target,
    },
    /// Stops a container, with time to finish.
    Stop {
        /// Its id.
        container: String,
    },
    /// Removes a container, killed if it runs.
    Remove {
        /// Its id.
        container: String,
    },
    /// Changes limits and the restart policy of a container in place.
    Update {
        /// Its id.
        container: String,
        /// The limits.
        limits: LiveLimits,
    },
    /// Puts a container on a network.
    Connect {
        /// The network's id.
        network: String,
        /// The container's id.
        container: String,
    },
    /// Gives a container its declared name.
    Rename {
        /// Which.
        container: Target,
        /// The name.
        to: String,
    },
    /// Thaws a container.
    Unpause {
        /// Its id.
        container: String,
    },
    /// Makes a workspace that lies aside the tenant's own.
    AdoptWorkspace {
        /// The tenant.
        tenant: String,
        /// Its name aside.
        name: String,
    },
    /// Removes for good what lies aside.
    PurgeAside {
        /// The tenant that it was of.
        tenant: String,
        /// Its name aside.
        name: String,
    },
    /// Moves a workspace aside, with everything in it.
    SetAside {
        /// The tenant's folder name.
        tenant: String,
    },
    /// Makes the link to the gateway as declared, then tells the gateway what the tenant may reach.
    OpenEgress {
        /// What is declared.
        way: Box<OpenWay>,
    },
    /// Takes away what a policy allows beyond its declaration. What it allows rightly stays open.
    NarrowEgress {
        /// What is left.
        policy: Box<EgressPolicy>,
    },
    /// Closes what leads from a tenant's bridge to the host itself, and sets the switches of the gateway's
    /// namespace.
    GuardEgress {
        /// The tenant.
        tenant: String,
        /// The link.
        link: String,
        /// The bridge that it leads from.
        bridge: String,
    },
    /// Tells the gateway that a tenant may reach nothing, and removes its secrets and its link.
    CloseEgress {
        /// The tenant.
        tenant: String,
        /// The link.
        link: String,
    },
}

/// A way out as it is declared.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct OpenWay {
    /// The name of both ends of the link.
    pub link: String,
    /// The bridge that it leads from.
    pub bridge: String,
    /// What the gateway is told. Its subnet's first address is that of the link's end inside.
    pub policy: EgressPolicy,
    /// The secrets whose values the gateway is given.
    pub secrets: BTreeSet<SecretName>,
    /// Those of them that the tenant's file holds, encrypted to this host.
    pub sealed: BTreeMap<SecretName, Sealed>,
}

/// The settings that an engine can change on a container that runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct LiveLimits {
    /// Memory in bytes, with no swap beside.
    pub memory: i64,
    /// Billionths of a processor.
    pub nano_cpus: i64,
    /// Processes and threads.
    pub pids_limit: i64,
}

impl Plan {
    /// How many resources would be added, changed and destroyed; a replacement is one of each end.
    /// Of a blocked tenant nothing is, at most it is contained.
    pub fn totals(&self) -> Totals {
        let contained = self.tenants.iter().filter(|t| t.blocked.is_some() && !t.contain.is_empty());
        let mut totals = Totals { contain: contained.count(), ..Totals::default() };
        for change in self.tenants.iter().filter(|t| t.blocked.is_none()).flat_map(|t| &t.changes) {
            match change.action {
                Action::Create => totals.add += 1,
                Action::Update => totals.change += 1,
                Action::Delete if change.resource == Resource::Workspace => totals.keep_aside += 1,
                Action::Delete => totals.destroy += 1,
                Action::Replace => {
                    totals.add += 1;
                    totals.destroy += 1;
                }
            }
        }
        totals
    }

    /// Whether carrying it out would change anything.
    pub fn is_empty(&self) -> bool {
        self.tenants.iter().all(|t| !t.will_change())
    }

    /// The tenants that cannot be made as declared.
    pub fn blocked(&self) -> impl Iterator<Item = (&str, &Blocked)> {
        self.tenants.iter().filter_map(|t| t.blocked.as_ref().map(|blocked| (t.tenant.as_str(), blocked)))
    }
}

impl TenantPlan {
    /// Whether carrying it out would change anything.
    pub fn will_change(&self) -> bool {
        !(self.steps.is_empty() && self.contain.is_empty())
    }
}

/// The counts of a plan's last line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Totals {
    /// Made.
    pub add: usize,
    /// Changed in place.
    pub change: usize,
    /// Removed.
    pub destroy: usize,
    /// Workspaces that are moved aside, with everything in them.
    pub keep_aside: usize,
    /// Blocked tenants of which something is stopped that weakens isolation.
    pub contain: usize,
}
