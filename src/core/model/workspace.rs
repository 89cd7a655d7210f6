//! Workspaces: how their size is enforced, what was found of them, and what one must be.

use std::collections::{BTreeMap, BTreeSet};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Bytes;

/// How the size of a workspace is enforced.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Backend {
    /// By an ext4 file system of its own, in a sparse file that is mounted.
    Image,
    /// By the quota group of a btrfs subvolume of its own.
    Btrfs,
    /// Not at all: it is a folder of the data root's file system.
    #[default]
    Folder,
}

impl Backend {
    /// The word in plans and settings.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Image => "image",
            Self::Btrfs => "btrfs",
            Self::Folder => "folder",
        }
    }

    /// What kept something that is archived, by its name there.
    pub fn of_archived(name: &str) -> Self {
        [Self::Image, Self::Btrfs].into_iter().find(|backend| name.ends_with(backend.ending())).unwrap_or(Self::Folder)
    }

    /// How the name of what is archived ends.
    pub const fn ending(self) -> &'static str {
        match self {
            Self::Image => ".img",
            Self::Btrfs => ".subvol",
            Self::Folder => "",
        }
    }
}

/// Which backend `host.yaml` asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum BackendChoice {
    /// The strongest that the host can do.
    #[default]
    Auto,
    /// A mounted image, or nothing.
    Image,
    /// A btrfs subvolume, or nothing. Quotas are turned on where they are off.
    Btrfs,
    /// A plain folder, whose size nothing bounds.
    Folder,
}

/// What becomes of a tenant whose `limits.disk` cannot be enforced.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Unenforced {
    /// It is blocked.
    #[default]
    Refuse,
    /// It is made all the same, and plans say so.
    Accept,
}

/// How this host makes new workspaces.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct WorkspaceCapability {
    /// The backend in force.
    pub backend: Backend,
    /// Why it is this one.
    pub why: String,
    /// Why others cannot be used here at all, not even for what there is of them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub lacks: BTreeMap<Backend, String>,
}

/// Everything that exists of workspaces on a host.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ObservedWorkspaces {
    /// How new ones are made.
    pub capability: WorkspaceCapability,
    /// By the tenant's name.
    pub found: BTreeMap<String, FoundWorkspace>,
    /// The names of what is archived, in their order.
    pub archived: Vec<String>,
    /// The shared folders of the host that are there, by name. What is a link or a file is not.
    pub sources: BTreeSet<String>,
    /// The disk that they share; `None` where it could not be observed.
    pub disk: Option<Disk>,
}

/// The file system of the data root.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Disk {
    /// Its size, in bytes.
    pub size: u64,
    /// How many bytes of it are free.
    pub free: u64,
}

/// What was found of one workspace.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct FoundWorkspace {
    /// What lies at the tenant's path under `workspaces`.
    pub place: WorkspacePath,
    /// What keeps it within its limit, where it has or had such a thing.
    pub volume: Option<FoundVolume>,
    /// What an operator asked for.
    pub request: Option<OperatorRequest>,
}

impl FoundWorkspace {
    /// Whether there is a workspace at all, and not a request alone.
    pub fn exists(&self) -> bool {
        self.place != WorkspacePath::Nothing || self.volume.is_some()
    }

    /// What is to be taken back, as an operator asked, and who that was.
    pub fn restoration(&self) -> Option<(&str, &str)> {
        match self.request.as_ref()? {
            OperatorRequest { what: RequestedAction::Restore { name }, by } => Some((name, by)),
            _ => None,
        }
    }

    /// Who asked for a repair, if somebody did.
    pub fn repair(&self) -> Option<&str> {
        self.request
            .as_ref()
            .filter(|request| request.what == RequestedAction::Repair)
            .map(|request| request.by.as_str())
    }
}

/// What an operator asked for, until it is done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OperatorRequest {
    /// What is asked for.
    #[serde(flatten)]
    pub what: RequestedAction,
    /// Who asked.
    pub by: String,
}

/// What can be asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "wish", rename_all = "lowercase")]
pub enum RequestedAction {
    /// That the image be repaired.
    Repair,
    /// That an archived workspace be restored.
    Restore {
        /// Its name there.
        name: String,
    },
    /// That an archived workspace be deleted.
    Delete {
        /// Its name there.
        name: String,
    },
}

/// What a tenant's file says about workspaces of its name that are archived.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Restore {
    /// They stay there: the tenant begins with an empty one.
    Nothing,
    /// This one is taken back.
    Entry(String),
}

/// The tenant that something archived was of, by its name there.
pub fn owner_of(archived: &str) -> &str {
    archived.split('.').next().unwrap_or_default()
}

/// What lies at a tenant's path under `workspaces`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum WorkspacePath {
    /// Nothing.
    #[default]
    Nothing,
    /// A folder.
    Folder(Folder),
    /// The link to the folder in its volume.
    Link,
    /// Anything else, such as a file or a link that leads elsewhere.
    Other,
}

/// A user and a group of the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owner {
    /// The user.
    pub uid: u32,
    /// The group.
    pub gid: u32,
}

impl Owner {
    /// The user and group that tenants run as, where those of containers are the host's.
    pub const TENANT: Self = Self { uid: 1000, gid: 1000 };

    /// Whether it is that one: steps name another only.
    pub(super) fn is_tenant(&self) -> bool {
        *self == Self::TENANT
    }
}

/// A folder that tenants write to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Folder {
    /// Who owns it.
    pub uid: u32,
    /// Permission bits.
    pub mode: u32,
}

impl Folder {
    /// As it must be: the tenant's user's, closed to others.
    pub const fn proper(owner: Owner) -> Self {
        Self { uid: owner.uid, mode: 0o700 }
    }
}

/// A volume as found: what a workspace is kept in by itself, an image or a subvolume.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FoundVolume {
    /// Which of them it is.
    pub backend: Backend,
    /// The length of an image's file in bytes; `None` where it is none, or gone.
    pub length: Option<u64>,
    /// How many bytes it takes on the host.
    pub allocated: u64,
    /// Whether it can be used.
    pub state: VolumeState,
}

/// Whether a volume can be used.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum VolumeState {
    /// It is gone; `attached` says whether a device still holds what was in it.
    Gone {
        /// Whether the kernel still has it open.
        attached: bool,
    },
    /// It is there and not mounted, or something else lies over it, by this name.
    Unmounted {
        /// The file system in its place, if any.
        covered: Option<String>,
    },
    /// Its file system has errors; `mounted` says whether it is in use all the same.
    Damaged {
        /// What is wrong with it.
        reason: String,
        /// Whether it is mounted.
        mounted: bool,
    },
    /// It is mounted.
    Mounted(Mounted),
}

/// A mounted volume.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Mounted {
    /// The most bytes that any limit could give, without another file system; `None` where any can be given.
    pub capacity: Option<u64>,
    /// The limit in force, in bytes; `None` where none is.
    pub limit: Option<u64>,
    /// What is used of it, in bytes.
    pub used: u64,
    /// The limit that was last set, and whether programs may run from it. `None` where none was.
    pub declared: Option<DeclaredVolume>,
    /// Whether programs in it cannot be run.
    pub noexec: bool,
    /// Whether setuid programs and devices in it count for nothing.
    pub confined: bool,
    /// The folder that the tenant sees; `None` where there is none.
    pub files: Option<Folder>,
}

/// What was last declared of a volume, as it is noted in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeclaredVolume {
    /// The limit in bytes.
    pub limit: u64,
    /// Whether programs in it cannot be run.
    pub noexec: bool,
}

/// A volume as it must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct VolumeSpec {
    /// Which it is.
    pub backend: Backend,
    /// What the tenant may use.
    pub limit: Bytes,
    /// What a new image makes room for, so that the limit can grow to it while the tenant runs.
    pub room: Bytes,
    /// Whether programs in it cannot be run.
    pub noexec: bool,
    /// Whose what the tenant sees is on the host.
    #[serde(skip_serializing_if = "Owner::is_tenant")]
    pub owner: Owner,
}

/// The size of a block of a file system, in bytes. Limits are rounded up to it.
pub const BLOCK: u64 = 4096;

impl VolumeSpec {
    /// The limit in whole blocks, in bytes.
    pub const fn limit_in_blocks(&self) -> u64 {
        self.limit.get().div_ceil(BLOCK) * BLOCK
    }

    /// The length of the image's file that holds its room, in bytes: beside the room itself a 64th for inodes
    /// (256 bytes for each 16 KiB), as much again for bitmaps and rounding, and the journal and the 16 MiB at most that
    /// the kernel keeps for itself.
    pub const fn image_size(&self) -> u64 {
        const MIB: u64 = 1 << 20;
        let limit = self.limit_in_blocks();
        let room = if self.room.get() > limit { self.room.get() } else { limit };
        let size = room + room / 32 + (self.journal_mib() + 24) * MIB;
        size.div_ceil(MIB) * MIB
    }

    /// The size of the file system's journal, in MiB.
    pub const fn journal_mib(&self) -> u64 {
        if self.room.get() >= 512 << 20 { 16 } else { 4 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_is_larger_than_its_room_and_a_limit_is_whole_blocks() {
        let (limit, room, owner) = (Bytes::new(5000), Bytes::new(1), Owner::TENANT);
        let spec = VolumeSpec { backend: Backend::Image, limit, room, noexec: false, owner };
        assert_eq!(spec.limit_in_blocks(), 8192);
        let spec = VolumeSpec { room: Bytes::gib(2), ..spec };
        assert!(spec.image_size() > (2 << 30) + (64 << 20));
        assert_eq!(spec.image_size() % (1 << 20), 0);
    }
}
