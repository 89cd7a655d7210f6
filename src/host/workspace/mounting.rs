//! How volumes are mounted, what tenants see of them, and what takes them off their place again: the same for all kinds.

use std::{
    fs, io,
    os::unix::fs::PermissionsExt,
    path::Path,
    thread,
    time::{Duration, Instant},
};

use rustix::{
    fs::{Mode, OFlags, XattrFlags, fchmod, fchown, mkdirat},
    io::Errno,
    mount::{UnmountFlags, mount_remount, unmount as kernel_unmount},
};

use super::{
    WorkspaceError, Workspaces, folder,
    kinds::{volume_of, volumes_of},
    layout::FILES,
    mount_table::{MountEntry, MountTable},
    paths::{canonical, make, open_folder},
    tenant_files::hand_over,
    volume::{NOTE, Volume, flags},
};
use crate::model::workspace::VolumeSpec;

/// How long a volume may stay in use after it was unmounted: its last user may be about to end.
const UNMOUNT_TIMEOUT: Duration = Duration::from_secs(5);
const PAUSE: Duration = Duration::from_millis(20);

/// The most mounts that are taken off one place.
const LAYERS: usize = 16;

/// The uppermost mount at a tenant's place, in the namespace that is worked in.
pub(super) fn made(
    workspaces: &Workspaces,
    mount_table: &MountTable,
    tenant: &str,
) -> Result<Option<MountEntry>, WorkspaceError> {
    mount_table.made_at(&canonical(&workspaces.mounts()).join(tenant))
}

/// The same as the engine sees it.
fn seen(workspaces: &Workspaces, mount_table: &MountTable, tenant: &str) -> Result<Option<MountEntry>, WorkspaceError> {
    mount_table.seen_at(&canonical(&workspaces.mounts()).join(tenant))
}

/// Mounts a volume unless it is, and settles what is in it.
pub(super) fn mount(
    workspaces: &Workspaces,
    mount_table: &MountTable,
    tenant: &str,
    spec: &VolumeSpec,
) -> Result<(), WorkspaceError> {
    let place = workspaces.mount_point(tenant);
    mount_table.within(|| {
        let volume = volume_of(workspaces, tenant, spec.backend);
        if !volume.path().exists() {
            return Err(WorkspaceError::NoVolume(volume.path()));
        }
        if !uncover(workspaces, mount_table, tenant, &*volume, spec.noexec)? {
            prepare_mount_point(workspaces, &place)?;
            volume.mount(&place, spec)?;
        }
        settle(workspaces, mount_table, tenant, &*volume, spec)
    })?;
    let volume = volume_of(workspaces, tenant, spec.backend);
    if seen(workspaces, mount_table, tenant)?.is_some_and(|entry| volume.is(&entry)) {
        Ok(())
    } else {
        Err(WorkspaceError::Unseen(place))
    }
}

/// Takes whatever lies over a tenant's volume off its place, and a mount of it that has other options: those of a mount
/// that the engine has a copy of cannot be changed. Returns whether the volume is mounted there.
fn uncover(
    workspaces: &Workspaces,
    mount_table: &MountTable,
    tenant: &str,
    volume: &dyn Volume,
    noexec: bool,
) -> Result<bool, WorkspaceError> {
    let place = workspaces.mount_point(tenant);
    for _ in 0..LAYERS {
        let Some(entry) = made(workspaces, mount_table, tenant)? else { return Ok(false) };
        let seen = seen(workspaces, mount_table, tenant)?;
        let is_proper = |entry: &MountEntry| entry.is_confined() && entry.has("noexec") == noexec;
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
    make(&workspaces.mounts())?;
    make(place)?;
    let failed = |source| WorkspaceError::io("prepare", place)(source);
    if !fs::symlink_metadata(place).map_err(failed)?.is_dir() {
        return Err(failed(io::Error::from(io::ErrorKind::NotADirectory)));
    }
    if fs::read_dir(place).map_err(failed)?.next().is_some() {
        return Err(WorkspaceError::NotEmpty(place.to_owned()));
    }
    fs::set_permissions(place, fs::Permissions::from_mode(0o0)).map_err(failed)
}

/// Sets everything that a mounted volume must have: options, limit, owner and mode, and the link for people.
pub(super) fn settle(
    workspaces: &Workspaces,
    mount_table: &MountTable,
    tenant: &str,
    volume: &dyn Volume,
    spec: &VolumeSpec,
) -> Result<(), WorkspaceError> {
    let place = workspaces.mount_point(tenant);
    let entry = made(workspaces, mount_table, tenant)?.filter(|entry| volume.is(entry));
    let entry = entry.ok_or_else(|| WorkspaceError::io("use", &place)(io::Error::from(io::ErrorKind::NotFound)))?;
    let failed = |source: Errno| WorkspaceError::io("prepare", &place)(source.into());
    if entry.is("ro") {
        mount_remount(&place, flags(spec.noexec), "").map_err(failed)?;
    }
    let root = open_folder(&place).map_err(failed)?;
    fchmod(&root, Mode::from_raw_mode(0o700)).map_err(failed)?;
    volume.set_limit(&root, spec)?;
    match mkdirat(&root, FILES, Mode::from_raw_mode(0o700)) {
        Ok(()) | Err(Errno::EXIST) => {}
        Err(e) => return Err(failed(e)),
    }
    let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::RDONLY;
    let files = rustix::fs::openat(&root, FILES, flags, Mode::empty()).map_err(failed)?;
    let found = rustix::fs::fstat(&files).map_err(failed)?.st_uid;
    hand_over(mount_table, &place.join(FILES), found, spec.owner)?;
    let owner = (rustix::fs::Uid::from_raw(spec.owner.uid), rustix::fs::Gid::from_raw(spec.owner.gid));
    fchown(&files, Some(owner.0), Some(owner.1)).map_err(failed)?;
    fchmod(&files, Mode::from_raw_mode(0o700)).map_err(failed)?;
    // What was made before the limit was noted is on disk by then.
    let note = format!("limit={};noexec={}", spec.limit_in_blocks(), u8::from(spec.noexec));
    rustix::fs::fsetxattr(&root, NOTE, note.as_bytes(), XattrFlags::empty()).map_err(failed)?;
    volume.finish(spec)?;
    folder::link(workspaces, tenant)
}

/// Unmounts a volume where the host and the engine see it, with all that was written on disk.
///
/// A mount namespace that somebody made meanwhile may keep a copy of the mount, which nobody writes to.
pub(super) fn unmount(workspaces: &Workspaces, mount_table: &MountTable, tenant: &str) -> Result<(), WorkspaceError> {
    let place = workspaces.mount_point(tenant);
    let deadline = Instant::now() + UNMOUNT_TIMEOUT;
    for _ in 0..LAYERS {
        if made(workspaces, mount_table, tenant)?.is_none() {
            break;
        }
        if let Ok(root) = open_folder(&place) {
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
    for volume in volumes_of(workspaces, tenant) {
        volume.release()?;
    }
    while seen(workspaces, mount_table, tenant)?.is_some() {
        if Instant::now() >= deadline {
            return Err(WorkspaceError::Busy(place));
        }
        thread::sleep(PAUSE);
    }
    Ok(())
}
