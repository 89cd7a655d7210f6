//! Volumes: file systems or parts of one that hold a workspace and bound it, mounted for it alone.
//!
//! What differs from one kind to the other is behind [`Volume`]; the rest is in `mounting.rs`.

use std::{
    os::fd::OwnedFd,
    path::{Path, PathBuf},
};

use rustix::{io::Errno, mount::MountFlags};

use super::{WorkspaceError, mount_table::MountEntry};
use crate::model::workspace::{Backend, DeclaredVolume, VolumeSpec};

/// Where the limit that was last set is noted, on the mount's own root.
pub(super) const NOTE: &str = "trusted.tenantd";

/// What one tenant's workspace is kept in.
pub(super) trait Volume {
    /// Which kind this is.
    fn backend(&self) -> Backend;

    /// Where it lies, whether mounted or not.
    fn path(&self) -> PathBuf;

    /// Makes it, unless it is there. It appears at its path when it is whole.
    fn make(&self, spec: &VolumeSpec) -> Result<(), WorkspaceError>;

    /// Whether a mount is of this volume, as it lies at its path now.
    fn is(&self, entry: &MountEntry) -> bool;

    /// Mounts it with nosuid and nodev.
    fn mount(&self, place: &Path, spec: &VolumeSpec) -> Result<(), WorkspaceError>;

    /// Sets its limit. It is mounted, and `root` is its mount's root. Where it is so full that nothing could be settled
    /// in it, there may be more until [`Self::finish`].
    fn set_limit(&self, root: &OwnedFd, spec: &VolumeSpec) -> Result<(), WorkspaceError>;

    /// Makes the limit what it must be, after everything was settled.
    fn finish(&self, _: &VolumeSpec) -> Result<(), WorkspaceError> {
        Ok(())
    }

    /// Lets go of what may be left of a mount.
    fn release(&self) -> Result<(), WorkspaceError> {
        Ok(())
    }

    /// The length of its file, if it is one, and how many bytes it takes on the host.
    fn size(&self) -> Result<(Option<u64>, u64), WorkspaceError>;

    /// Why it is not to be used. `mounted` is the mount of it that the engine sees.
    fn damage(&self, mounted: Option<&MountEntry>) -> Result<Option<String>, WorkspaceError>;

    /// What a mounted one allows and holds.
    fn measure(&self, root: &OwnedFd) -> Result<Measured, Errno>;
}

/// What a mounted volume allows and holds, in bytes.
pub(super) struct Measured {
    /// The most that any limit could give; `None` where any can be given.
    pub(super) capacity: Option<u64>,
    /// The limit in force; `None` where none is.
    pub(super) limit: Option<u64>,
    /// What is used.
    pub(super) used: u64,
}

/// The flags of every mount of a volume.
pub(super) fn flags(noexec: bool) -> MountFlags {
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOATIME;
    if noexec { flags | MountFlags::NOEXEC } else { flags }
}

/// Reads a note of what was last declared.
pub(super) fn noted(text: &str) -> Option<DeclaredVolume> {
    let (limit, noexec) = text.split_once(';')?;
    Some(DeclaredVolume {
        limit: limit.strip_prefix("limit=")?.parse().ok()?,
        noexec: noexec.strip_prefix("noexec=")? == "1",
    })
}
