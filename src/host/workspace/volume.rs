//! Volumes: file systems or parts of one that hold a workspace and bound it, mounted for it alone.
//!
//! What differs from one kind to the other is behind [`Volume`]. How they are mounted, what tenants see of them, and what
//! takes them off their place again, is the same for all.

use std::{
    fs, io,
    os::{fd::OwnedFd, unix::fs::PermissionsExt},
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use rustix::{
    fs::{Mode, OFlags, XattrFlags, fchmod, fchown, mkdirat},
    io::Errno,
    mount::{MountFlags, UnmountFlags, mount_remount, unmount as kernel_unmount},
};

use super::{
    OWNER, WorkspaceError, Workspaces, folder,
    ground::{Entry, Ground},
    look,
};
use crate::model::workspace::{Backend, Declared, VolumeSpec};

/// What the tenant sees: a folder right below the mount.
pub(super) const FILES: &str = "files";

/// Where the limit that was last set is noted, on the mount's own root.
pub(super) const NOTE: &str = "trusted.tenantd";

/// How long a volume may stay in use after it was unmounted: its last user may be about to end.
const PATIENCE: Duration = Duration::from_secs(5);
const PAUSE: Duration = Duration::from_millis(20);

/// The most mounts that are taken off one place.
const LAYERS: usize = 16;

/// What one tenant's workspace is kept in.
pub(super) trait Volume {
    /// Which kind this is.
    fn backend(&self) -> Backend;

    /// Where it lies, whether mounted or not.
    fn path(&self) -> PathBuf;

    /// Makes it, unless it is there. It appears at its path when it is whole.
    fn make(&self, spec: &VolumeSpec) -> Result<(), WorkspaceError>;

    /// Whether a mount is of this volume, as it lies at its path now.
    fn is(&self, entry: &Entry) -> bool;

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
    fn damage(&self, mounted: Option<&Entry>) -> Result<Option<String>, WorkspaceError>;

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

/// Mounts a volume unless it is, and settles what is in it.
pub(super) fn mount(
    workspaces: &Workspaces,
    ground: &Ground,
    tenant: &str,
    spec: &VolumeSpec,
) -> Result<(), WorkspaceError> {
    let place = workspaces.mount_point(tenant);
    ground.within(|| {
        let volume = workspaces.volume(tenant, spec.backend);
        if !volume.path().exists() {
            return Err(WorkspaceError::NoVolume(volume.path()));
        }
        if !uncover(workspaces, ground, tenant, &*volume, spec.noexec)? {
            prepare_mount_point(workspaces, &place)?;
            volume.mount(&place, spec)?;
        }
        settle(workspaces, ground, tenant, &*volume, spec)
    })?;
    let volume = workspaces.volume(tenant, spec.backend);
    if look::seen(workspaces, ground, tenant)?.is_some_and(|entry| volume.is(&entry)) {
        Ok(())
    } else {
        Err(WorkspaceError::Unseen(place))
    }
}

/// Takes whatever lies over a tenant's volume off its place, and a mount of it that has other options: those of a mount
/// that the engine has a copy of cannot be changed. Returns whether the volume is mounted there.
fn uncover(
    workspaces: &Workspaces,
    ground: &Ground,
    tenant: &str,
    volume: &dyn Volume,
    noexec: bool,
) -> Result<bool, WorkspaceError> {
    let place = workspaces.mount_point(tenant);
    for _ in 0..LAYERS {
        let Some(entry) = look::made(workspaces, ground, tenant)? else { return Ok(false) };
        let seen = look::seen(workspaces, ground, tenant)?;
        let is_proper = |entry: &Entry| entry.is_confined() && entry.has("noexec") == noexec;
        if volume.is(&entry)
            && is_proper(&entry)
            && seen.is_some_and(|seen| seen.device == entry.device && is_proper(&seen))
        {
            return Ok(true);
        }
        kernel_unmount(&place, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW)
            .map_err(io::Error::from)
            .map_err(WorkspaceError::io("unmount what lies over", &place))?;
    }
    Err(WorkspaceError::Busy(place))
}

/// Makes the folder that is mounted over. It belongs to root, is closed, and must be empty: nothing may ever have been
/// written there in place of the volume.
fn prepare_mount_point(workspaces: &Workspaces, place: &Path) -> Result<(), WorkspaceError> {
    folder::make(&workspaces.mounts())?;
    folder::make(place)?;
    let failed = |source| WorkspaceError::io("prepare", place)(source);
    if !fs::symlink_metadata(place).map_err(failed)?.is_dir() {
        return Err(failed(io::Error::from(io::ErrorKind::NotADirectory)));
    }
    if fs::read_dir(place).map_err(failed)?.next().is_some() {
        return Err(WorkspaceError::NotEmpty(place.to_owned()));
    }
    fs::set_permissions(place, fs::Permissions::from_mode(0o0)).map_err(failed)
}

/// The flags of every mount of a volume.
pub(super) fn flags(noexec: bool) -> MountFlags {
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOATIME;
    if noexec { flags | MountFlags::NOEXEC } else { flags }
}

/// Sets everything that a mounted volume must have: options, limit, owner and mode, and the link for people.
pub(super) fn settle(
    workspaces: &Workspaces,
    ground: &Ground,
    tenant: &str,
    volume: &dyn Volume,
    spec: &VolumeSpec,
) -> Result<(), WorkspaceError> {
    let place = workspaces.mount_point(tenant);
    let entry = look::made(workspaces, ground, tenant)?.filter(|entry| volume.is(entry));
    let entry = entry.ok_or_else(|| WorkspaceError::io("use", &place)(io::Error::from(io::ErrorKind::NotFound)))?;
    let failed = |source: Errno| WorkspaceError::io("prepare", &place)(source.into());
    if entry.is("ro") {
        mount_remount(&place, flags(spec.noexec), "").map_err(failed)?;
    }
    let root = look::open_folder(&place).map_err(failed)?;
    fchmod(&root, Mode::from_raw_mode(0o700)).map_err(failed)?;
    volume.set_limit(&root, spec)?;
    match mkdirat(&root, FILES, Mode::from_raw_mode(0o700)) {
        Ok(()) | Err(Errno::EXIST) => {}
        Err(e) => return Err(failed(e)),
    }
    let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::RDONLY;
    let files = rustix::fs::openat(&root, FILES, flags, Mode::empty()).map_err(failed)?;
    let owner = (rustix::fs::Uid::from_raw(OWNER), rustix::fs::Gid::from_raw(OWNER));
    fchown(&files, Some(owner.0), Some(owner.1)).map_err(failed)?;
    fchmod(&files, Mode::from_raw_mode(0o700)).map_err(failed)?;
    // What was made before the limit was noted is on disk by then.
    let note = format!("limit={};noexec={}", spec.limit_in_blocks(), u8::from(spec.noexec));
    rustix::fs::fsetxattr(&root, NOTE, note.as_bytes(), XattrFlags::empty()).map_err(failed)?;
    volume.finish(spec)?;
    folder::link(workspaces, tenant)
}

/// Reads a note of what was last declared.
pub(super) fn noted(text: &str) -> Option<Declared> {
    let (limit, noexec) = text.split_once(';')?;
    Some(Declared {
        limit: limit.strip_prefix("limit=")?.parse().ok()?,
        noexec: noexec.strip_prefix("noexec=")? == "1",
    })
}

/// Unmounts a volume where the host and the engine see it, with all that was written on disk.
///
/// A mount namespace that somebody made meanwhile may keep a copy of the mount, which nobody writes to.
pub(super) fn unmount(workspaces: &Workspaces, ground: &Ground, tenant: &str) -> Result<(), WorkspaceError> {
    let place = workspaces.mount_point(tenant);
    let deadline = Instant::now() + PATIENCE;
    for _ in 0..LAYERS {
        if look::made(workspaces, ground, tenant)?.is_none() {
            break;
        }
        if let Ok(root) = look::open_folder(&place) {
            // One with errors writes nothing more: it is unmounted all the same.
            let _unwritten = rustix::fs::syncfs(&root);
        }
        loop {
            match kernel_unmount(&place, UnmountFlags::NOFOLLOW) {
                Ok(()) => break,
                Err(Errno::BUSY) if Instant::now() < deadline => thread::sleep(PAUSE),
                Err(Errno::BUSY) => return Err(WorkspaceError::Busy(place)),
                Err(e) => return Err(WorkspaceError::io("unmount", &place)(e.into())),
            }
        }
    }
    for volume in workspaces.volumes(tenant) {
        volume.release()?;
    }
    while look::seen(workspaces, ground, tenant)?.is_some() {
        if Instant::now() >= deadline {
            return Err(WorkspaceError::Busy(place));
        }
        thread::sleep(PAUSE);
    }
    Ok(())
}
