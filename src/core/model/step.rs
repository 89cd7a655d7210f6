//! The steps of a plan, each with all that is known of it: what it does, to what, and what it is for.

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
};

use serde::{Serialize, Serializer};
use serde_json::{Value, json};

use super::{
    Container, EgressPolicy, Network, SecretName, TenantName,
    attribute::{Attribute, container, egress, network, workspace},
    change::{AttributeChange, Change},
    egress::Sealed,
    files::ConfigFile,
    record::{FieldChange, Why},
    resource::Resource,
    workspace::{Owner, VolumeSpec},
};

/// A step of a plan, with what the planner knows of it.
///
/// It serializes as the step alone: two plans that do the same have the same id, whatever they are made for.
#[derive(Clone, Debug, PartialEq)]
pub struct PlannedStep {
    /// What is done.
    pub step: Step,
    /// What it is for.
    pub facts: StepFacts,
}

/// What a step is for. It explains and decides nothing.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct StepFacts {
    /// The change of its tenant's plan that it is part of; `None` for one that only takes away, of a tenant that nothing
    /// more is known of.
    pub change: Option<ChangeId>,
    /// What it changes of that, before and after.
    pub fields: Vec<FieldChange>,
    /// Whether a declaration changed or something behind tenantd's back, as far as an attribute shows.
    pub why: Option<Why>,
}

/// A change of a tenant's plan, by its place there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChangeId(pub(super) usize);

impl PlannedStep {
    /// A step that is part of a change.
    pub fn of(id: ChangeId, change: &Change, step: Step) -> Self {
        let facts = StepFacts { change: Some(id), fields: step.def().share(change), why: change.why() };
        Self { step, facts }
    }

    /// A step that is part of no change.
    pub fn alone(step: Step) -> Self {
        Self { step, facts: StepFacts::default() }
    }
}

impl Serialize for PlannedStep {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.step.serialize(serializer)
    }
}

/// What starting a container is called.
pub const START: &str = "start the container";

/// What stands for a container that an earlier step makes.
const CREATED: &str = "(created)";

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
            Self::Created => serializer.serialize_str(CREATED),
        }
    }
}

/// One call that changes something. Each is idempotent, or harmless when it is repeated after a new observation.
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
        /// Whose it is on the host.
        #[serde(skip_serializing_if = "Owner::is_tenant")]
        owner: Owner,
    },
    /// Makes the volume of a workspace.
    MakeVolume {
        /// The tenant, by its name.
        tenant: String,
        /// What it is made for.
        spec: VolumeSpec,
    },
    /// Mounts the volume of a workspace, and sets all that it must have.
    MountVolume {
        /// The tenant, by its name.
        tenant: String,
        /// As it must be.
        spec: VolumeSpec,
    },
    /// Unmounts the volume of a workspace, while nothing uses it.
    UnmountVolume {
        /// The tenant, by its name.
        tenant: String,
    },
    /// Sets the limit of a mounted workspace, while the tenant runs.
    ResizeVolume {
        /// The tenant, by its name.
        tenant: String,
        /// As it must be.
        spec: VolumeSpec,
    },
    /// Makes the image of a workspace larger, while nothing uses it.
    GrowImage {
        /// The tenant, by its name.
        tenant: String,
        /// What it is made for.
        spec: VolumeSpec,
    },
    /// Writes an image back whose file was removed, from the device that still has it open.
    RescueImage {
        /// The tenant, by its name.
        tenant: String,
    },
    /// Has the file system of an image checked and put right, with a copy kept, while nothing uses it.
    RepairImage {
        /// The tenant, by its name.
        tenant: String,
    },
    /// Copies a plain folder into the mounted volume, and archives the folder.
    MoveIntoVolume {
        /// The tenant, by its name.
        tenant: String,
    },
    /// Writes the files of /config, each of which takes its place at once, and removes what else lies there.
    WriteFiles {
        /// The tenant, by its name.
        tenant: String,
        /// All of them.
        files: Vec<ConfigFile>,
    },
    /// Removes the folder of /config with all that lies in it.
    RemoveFiles {
        /// The tenant, by its name.
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
        /// The address that it has there whenever it runs.
        address: Option<Ipv4Addr>,
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
    /// Makes a workspace that is archived the tenant's own.
    RestoreWorkspace {
        /// The tenant, by its name.
        tenant: String,
        /// Its name in the archive.
        name: String,
    },
    /// Removes for good what is archived.
    DeleteArchived {
        /// The tenant that it was of.
        tenant: String,
        /// Its name in the archive.
        name: String,
    },
    /// Archives a workspace, with everything in it.
    ArchiveWorkspace {
        /// The tenant's folder name.
        tenant: String,
    },
    /// Makes the link to the gateway as declared, then writes what the tenant may reach for the gateway.
    OpenEgress {
        /// What is declared.
        egress: Box<DeclaredEgress>,
    },
    /// Takes away what a policy allows beyond its declaration, and secrets that it does not need. What it allows
    /// rightly stays open, with the values of secrets as they are now.
    NarrowEgress {
        /// The tenant, by its name.
        tenant: TenantName,
        /// What is left of the policy; `None` where it stays as it is.
        policy: Option<Box<EgressPolicy>>,
        /// What is left of the secrets; `None` where they stay as they are.
        secrets: Option<LeftSecrets>,
    },
    /// Closes what leads from a tenant's bridge to the host itself, and sets the sysctls of the gateway's
    /// namespace.
    GuardEgress {
        /// The tenant, by its name.
        tenant: String,
        /// The link.
        link: String,
        /// The bridge that it leads from.
        bridge: String,
    },
    /// Tells the gateway that a tenant may reach nothing, and removes its secrets and its link.
    CloseEgress {
        /// The tenant, by its name.
        tenant: String,
        /// The link.
        link: String,
    },
}

/// The secrets that a tenant keeps.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LeftSecrets {
    /// Their names.
    pub names: BTreeSet<SecretName>,
    /// Those of them that the tenant's file holds, encrypted to this host.
    pub sealed: BTreeMap<SecretName, Sealed>,
}

/// An egress path as it is declared.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct DeclaredEgress {
    /// The name of both ends of the link.
    pub link: String,
    /// The bridge that it leads from.
    pub bridge: String,
    /// What the gateway is given. Its subnet's first address is that of the link's end inside.
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

/// What is fixed for a kind of step.
#[derive(Clone, Copy, Debug)]
pub struct StepDef {
    /// The kind of resource that its record is about.
    pub resource: Resource,
    /// What it does, as records and log lines say it.
    pub words: &'static str,
    /// What its object is afterwards, for a step that can only take away: no other may contain.
    pub contains: Option<&'static str>,
    /// What it brings about of a change of attributes.
    corrects: Corrects,
    /// What it brings about of a change that makes or removes something as a whole.
    whole: Whole,
}

/// What a step brings about of a change of attributes.
#[derive(Clone, Copy, Debug)]
enum Corrects {
    /// All of it.
    All,
    /// Nothing by itself.
    Nothing,
    /// What isolates less than declared.
    Weakening,
    /// What isolates less than declared, and these attributes.
    WeakeningAnd(&'static [&'static Attribute]),
    /// What the engine's update of a container puts right.
    Updated,
    /// These attributes.
    Only(&'static [&'static Attribute]),
    /// All but these attributes.
    AllBut(&'static [&'static Attribute]),
}

/// What a step brings about of a change that makes or removes something as a whole.
#[derive(Clone, Copy, Debug)]
enum Whole {
    /// Nothing by itself.
    Nothing,
    /// That it is there, or is not.
    Exists,
    /// That what was made runs.
    Runs,
}

impl StepDef {
    const fn new(resource: Resource, words: &'static str) -> Self {
        Self { resource, words, contains: None, corrects: Corrects::Nothing, whole: Whole::Nothing }
    }

    const fn contains(self, afterwards: &'static str) -> Self {
        Self { contains: Some(afterwards), ..self }
    }

    const fn corrects(self, corrects: Corrects) -> Self {
        Self { corrects, ..self }
    }

    const fn brings(self, whole: Whole) -> Self {
        Self { whole, ..self }
    }

    /// What the step brings about of a change that it is part of.
    fn share(self, change: &Change) -> Vec<FieldChange> {
        if change.attributes.is_empty() {
            return match self.whole {
                Whole::Nothing => Vec::new(),
                Whole::Exists => change.fields(),
                Whole::Runs => {
                    vec![FieldChange {
                        name: container::STATE.name.to_owned(),
                        before: Value::Null,
                        after: json!("running"),
                    }]
                }
            };
        }
        let corrects = |attribute: &&AttributeChange| match self.corrects {
            Corrects::All => true,
            Corrects::Nothing => false,
            Corrects::Weakening => attribute.weakens,
            Corrects::WeakeningAnd(these) => attribute.weakens || these.contains(&attribute.attribute),
            Corrects::Updated => attribute.attribute.is_updated(),
            Corrects::Only(these) => these.contains(&attribute.attribute),
            Corrects::AllBut(others) => !others.contains(&attribute.attribute),
        };
        change.attributes.iter().filter(corrects).map(AttributeChange::field).collect()
    }
}

impl Step {
    /// What is known of each kind of step.
    pub fn def(&self) -> StepDef {
        use Corrects::{All, AllBut, Only, Updated, Weakening, WeakeningAnd};
        use Resource::{Archive, Container, Egress, Files, Network, Workspace};
        use Whole::{Exists, Runs};
        const fn def(resource: Resource, words: &'static str) -> StepDef {
            StepDef::new(resource, words)
        }
        match self {
            Self::Disconnect { .. } => def(Container, "disconnect a container from a network")
                .corrects(Only(const { &[&container::NETWORKS, &network::MEMBERS] }))
                .contains("disconnected"),
            Self::Pause { .. } => def(Container, "pause the container")
                .corrects(WeakeningAnd(const { &[&container::STATE] }))
                .contains("paused"),
            Self::CreateContainer { .. } => def(Container, "create the container").corrects(All).brings(Exists),
            Self::Start { .. } => def(Container, START).corrects(Only(const { &[&container::STATE] })).brings(Runs),
            Self::Stop { .. } => def(Container, "stop the container"),
            Self::Remove { .. } => def(Container, "remove the container").brings(Exists),
            Self::Update { .. } => def(Container, "update the limits").corrects(Updated).contains("limits lowered"),
            Self::Connect { .. } => def(Container, "connect the container to its network")
                .corrects(Only(const { &[&container::NETWORKS, &network::MEMBERS] })),
            Self::Rename { .. } => def(Container, "rename the container").corrects(Only(const { &[&container::NAME] })),
            Self::Unpause { .. } => {
                def(Container, "unpause the container").corrects(Only(const { &[&container::STATE] }))
            }
            Self::CreateNetwork { .. } => def(Network, "create the network").corrects(All).brings(Exists),
            Self::RemoveNetwork { .. } => def(Network, "remove the network").brings(Exists),
            Self::PrepareWorkspace { .. } => def(Workspace, "prepare the workspace").corrects(All).brings(Exists),
            Self::MakeVolume { .. } => def(Workspace, "make the workspace").corrects(All).brings(Exists),
            Self::MountVolume { .. } => def(Workspace, "mount the workspace").corrects(AllBut(
                const { &[&workspace::IMAGE_SIZE, &workspace::BACKEND, &workspace::STATE, &workspace::RESTORED] },
            )),
            Self::ResizeVolume { .. } => {
                def(Workspace, "resize the workspace").corrects(Only(const { &[&workspace::LIMIT] }))
            }
            Self::UnmountVolume { .. } => {
                def(Workspace, "unmount the workspace").corrects(Only(const { &[&workspace::MOUNT] }))
            }
            Self::GrowImage { .. } => def(Workspace, "enlarge the workspace's file system")
                .corrects(Only(const { &[&workspace::IMAGE_SIZE] })),
            Self::RescueImage { .. } => {
                def(Workspace, "write the workspace's image back").corrects(Only(const { &[&workspace::STATE] }))
            }
            Self::RepairImage { .. } => {
                def(Workspace, "repair the workspace").corrects(Only(const { &[&workspace::STATE] }))
            }
            Self::MoveIntoVolume { .. } => {
                def(Workspace, "move the workspace into its volume").corrects(Only(const { &[&workspace::BACKEND] }))
            }
            Self::RestoreWorkspace { .. } => def(Workspace, "restore the workspace")
                .corrects(Only(const { &[&workspace::RESTORED] }))
                .brings(Exists),
            Self::ArchiveWorkspace { .. } => def(Workspace, "archive the workspace").corrects(All).brings(Exists),
            Self::DeleteArchived { .. } => def(Archive, "delete an archived workspace").corrects(All).brings(Exists),
            Self::WriteFiles { .. } => def(Files, "write the config files").corrects(All).brings(Exists),
            Self::RemoveFiles { .. } => def(Files, "remove the config files").corrects(All).brings(Exists),
            Self::OpenEgress { .. } => def(Egress, "open egress").corrects(All).brings(Exists),
            Self::NarrowEgress { policy, secrets, .. } => def(Egress, "narrow egress")
                .corrects(match (policy, secrets) {
                    (Some(_), Some(_)) => {
                        Only(const { &[&egress::ADDRESS, &egress::ALLOW, &egress::ROUTES, &egress::BUDGET, &egress::SECRETS] })
                    }
                    (Some(_), None) => Only(const { &[&egress::ADDRESS, &egress::ALLOW, &egress::ROUTES, &egress::BUDGET] }),
                    (None, Some(_)) => Only(const { &[&egress::SECRETS] }),
                    (None, None) => Corrects::Nothing,
                })
                .contains("narrowed"),
            Self::GuardEgress { .. } => def(Egress, "guard egress")
                .corrects(Only(const { &[&egress::HOST_SIDE, &egress::SYSCTLS] }))
                .contains("guarded"),
            Self::CloseEgress { .. } => {
                def(Egress, "close egress").corrects(Weakening).brings(Exists).contains("closed")
            }
        }
    }

    /// What it is done to: the engine's id, or a name where it has none yet. `made` is the container that an earlier step of
    /// the same tenant made.
    pub fn object<'a>(&'a self, made: Option<&'a str>) -> Cow<'a, str> {
        let name = match self {
            Self::Disconnect { container, .. }
            | Self::Connect { container, .. }
            | Self::Pause { container }
            | Self::Unpause { container }
            | Self::Stop { container }
            | Self::Remove { container }
            | Self::Update { container, .. } => container,
            Self::PrepareWorkspace { tenant, .. }
            | Self::MakeVolume { tenant, .. }
            | Self::MountVolume { tenant, .. }
            | Self::UnmountVolume { tenant }
            | Self::ResizeVolume { tenant, .. }
            | Self::GrowImage { tenant, .. }
            | Self::RescueImage { tenant }
            | Self::RepairImage { tenant }
            | Self::MoveIntoVolume { tenant }
            | Self::ArchiveWorkspace { tenant }
            | Self::WriteFiles { tenant, .. }
            | Self::RemoveFiles { tenant } => tenant,
            Self::RestoreWorkspace { name, .. } | Self::DeleteArchived { name, .. } => name,
            Self::OpenEgress { egress } => &egress.link,
            Self::GuardEgress { link, .. } | Self::CloseEgress { link, .. } => link,
            Self::NarrowEgress { tenant, .. } => return tenant.link_name().into(),
            Self::CreateNetwork { spec } => &spec.name,
            Self::RemoveNetwork { network } => network,
            Self::CreateContainer { spec, temporary_name } => temporary_name.as_ref().unwrap_or(&spec.name),
            Self::Start { container } | Self::Rename { container, .. } => match container {
                Target::Existing(id) => id,
                Target::Created => made.unwrap_or(CREATED),
            },
        };
        name.into()
    }

    /// Whether it changes limits of a container that lives, of which the engine's labels say nothing afterwards.
    pub const fn changes_limits(&self) -> bool {
        matches!(self, Self::Update { .. })
    }

    /// Whether it makes a workspace that was not there.
    pub const fn makes_workspace(&self) -> bool {
        matches!(self, Self::PrepareWorkspace { .. } | Self::MakeVolume { .. })
    }
}
