//! What is archived: workspaces of tenants that are gone, and copies of what was repaired or moved.

use std::{
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use super::{
    WorkspaceError, Workspaces,
    kinds::{volume_of, volumes_of},
    mount_table::MountTable,
    paths::{gone, make, names},
    subvolume, tenant_files,
};
use crate::model::workspace::Backend;

/// What distinguishes one archived thing from another of the same tenant: when it was archived, and by which commit.
#[derive(Clone, Debug)]
pub struct ArchiveStamp {
    time: jiff::Timestamp,
    commit: String,
}

impl ArchiveStamp {
    /// Now, by a revision such as `main@sha1:…`.
    pub fn now(revision: Option<&str>) -> Self {
        let commit = revision.and_then(|revision| revision.rsplit_once(':')).map(|(_, commit)| commit);
        let is_commit = |commit: &&str| commit.len() >= 12 && commit.bytes().all(|byte| byte.is_ascii_hexdigit());
        let commit = commit.filter(is_commit).and_then(|commit| commit.get(..12)).unwrap_or("uncommitted");
        Self { time: jiff::Timestamp::now(), commit: commit.to_owned() }
    }
}

/// Where something of a tenant's comes to lie.
pub(super) fn path(
    workspaces: &Workspaces,
    tenant: &str,
    mark: &ArchiveStamp,
    ending: &str,
) -> Result<PathBuf, WorkspaceError> {
    let folder = workspaces.archives();
    make(&folder)?;
    let stamp = mark.time.strftime("%Y%m%dT%H%M%S%.3fZ");
    Ok(folder.join(format!("{tenant}.{stamp}.{}{ending}", mark.commit)))
}

/// Archives what is left of a workspace: its volume, or its folder.
pub(super) fn archive(workspaces: &Workspaces, tenant: &str, mark: &ArchiveStamp) -> Result<(), WorkspaceError> {
    // The volume goes last: as long as it is there, it is found and archived by the next observation.
    let point = workspaces.mount_point(tenant);
    gone(&point, fs::remove_dir(&point))?;
    let place = workspaces.folder().join(tenant);
    match fs::symlink_metadata(&place) {
        Ok(found) if found.is_dir() => archive_folder(workspaces, tenant, mark)?,
        _ => gone(&place, fs::remove_file(&place))?,
    }
    for note in [workspaces.mark_of_damage(tenant), workspaces.request_of(tenant)] {
        gone(&note, fs::remove_file(&note))?;
    }
    for volume in volumes_of(workspaces, tenant) {
        let from = volume.path();
        if from.exists() {
            let to = path(workspaces, tenant, mark, volume.backend().ending())?;
            fs::rename(&from, &to).map_err(WorkspaceError::io("archive", &from))?;
        }
    }
    Ok(())
}

pub(super) fn archive_folder(workspaces: &Workspaces, tenant: &str, mark: &ArchiveStamp) -> Result<(), WorkspaceError> {
    let (from, to) = (workspaces.folder().join(tenant), path(workspaces, tenant, mark, "")?);
    fs::rename(&from, to).map_err(WorkspaceError::io("archive", &from))
}

/// Something archived by its name, which is no path.
fn entry(workspaces: &Workspaces, name: &str) -> Result<PathBuf, WorkspaceError> {
    let is_plain = !name.is_empty() && !name.starts_with('.') && !name.contains(['/', '\0']);
    let path = workspaces.archives().join(name);
    match fs::symlink_metadata(&path) {
        Ok(_) if is_plain => Ok(path),
        _ => Err(WorkspaceError::NotArchived(name.to_owned())),
    }
}

/// Makes something archived a tenant's workspace. To do it again, when it is done, changes nothing.
pub(super) fn restore(workspaces: &Workspaces, tenant: &str, name: &str) -> Result<(), WorkspaceError> {
    let to = match Backend::of_archived(name) {
        Backend::Folder => workspaces.folder().join(tenant),
        backend => volume_of(workspaces, tenant, backend).path(),
    };
    let request = workspaces.request_of(tenant);
    let from = match entry(workspaces, name) {
        Err(_) if fs::symlink_metadata(&to).is_ok() => return gone(&request, fs::remove_file(&request)),
        other => other?,
    };
    if fs::symlink_metadata(&to).is_ok() {
        return Err(WorkspaceError::Taken(to));
    }
    make(to.parent().unwrap_or(Path::new(".")))?;
    fs::rename(&from, &to).map_err(WorkspaceError::io("restore", &from))?;
    gone(&request, fs::remove_file(&request))
}

/// Deletes something archived.
pub(super) fn delete(
    workspaces: &Workspaces,
    mount_table: &MountTable,
    tenant: &str,
    name: &str,
) -> Result<(), WorkspaceError> {
    if let Ok(path) = entry(workspaces, name) {
        match Backend::of_archived(name) {
            Backend::Btrfs => subvolume::delete(&path)?,
            Backend::Image => gone(&path, fs::remove_file(&path))?,
            Backend::Folder => tenant_files::remove(mount_table, &path)?,
        }
    }
    let request = workspaces.request_of(tenant);
    gone(&request, fs::remove_file(&request))
}

/// What is archived, and what each volume takes.
pub(super) fn list(workspaces: &Workspaces) -> Result<Vec<(String, Option<u64>)>, WorkspaceError> {
    let mut names = names(&workspaces.archives())?;
    names.retain(|name| !name.starts_with('.'));
    names.sort();
    let size = |name: &str| {
        let path = workspaces.archives().join(name);
        match Backend::of_archived(name) {
            Backend::Image => fs::symlink_metadata(&path).ok().map(|found| found.blocks() * 512),
            Backend::Btrfs => subvolume::used(&path),
            Backend::Folder => None,
        }
    };
    Ok(names.into_iter().map(|name| (name.clone(), size(&name))).collect())
}
