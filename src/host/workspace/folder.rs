//! Plain folders, and the links that lead people to the files in volumes.

use std::{
    fs, io,
    os::unix::fs::{MetadataExt, PermissionsExt, lchown, symlink},
    path::{Path, PathBuf},
};

use super::{
    WorkspaceError, Workspaces,
    archive::{ArchiveStamp, archive_folder},
    layout::FILES,
    mount_table::MountTable,
    paths::{gone, make},
    program,
    tenant_files::hand_over,
};
use crate::model::workspace::Owner;

/// Makes a tenant's folder, or corrects its owner and mode.
pub(super) fn prepare(
    mount_table: &MountTable,
    parent: &Path,
    tenant: &str,
    owner: Owner,
) -> Result<(), WorkspaceError> {
    make(parent)?;
    let path = parent.join(tenant);
    let failed = |source| WorkspaceError::io("prepare", &path)(source);
    make(&path)?;
    let found = fs::symlink_metadata(&path).map_err(failed)?;
    if !found.is_dir() {
        return Err(failed(io::Error::from(io::ErrorKind::NotADirectory)));
    }
    hand_over(mount_table, &path, found.uid(), owner)?;
    lchown(&path, Some(owner.uid), Some(owner.gid)).map_err(failed)?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o700)).map_err(failed)
}

/// What the link for people leads to.
pub(super) fn link_target(tenant: &str) -> PathBuf {
    Path::new("../mounts").join(tenant).join(FILES)
}

/// Makes the link for people from `workspaces/NAME` to what the tenant sees. A folder that lies there is left alone.
pub(super) fn link(workspaces: &Workspaces, tenant: &str) -> Result<(), WorkspaceError> {
    let parent = workspaces.folder();
    make(&parent)?;
    let (path, target) = (parent.join(tenant), link_target(tenant));
    match fs::symlink_metadata(&path) {
        Ok(found) if found.is_dir() => return Ok(()),
        Ok(_) if fs::read_link(&path).is_ok_and(|found| found == target) => return Ok(()),
        _ => {}
    }
    let new = parent.join(format!(".{tenant}.new"));
    gone(&new, fs::remove_file(&new))?;
    symlink(&target, &new).map_err(WorkspaceError::io("make the link", &new))?;
    fs::rename(&new, &path).map_err(WorkspaceError::io("make the link", &path))
}

/// Copies a plain folder into a mounted volume, then archives the folder.
///
/// The copy is made beside what the tenant sees and takes its place when it is whole, so that one that was cut off is
/// begun anew. `cp -a` copies links as links and follows none.
pub(super) fn move_in(workspaces: &Workspaces, tenant: &str, mark: &ArchiveStamp) -> Result<(), WorkspaceError> {
    let old = workspaces.folder().join(tenant);
    if !fs::symlink_metadata(&old).is_ok_and(|found| found.is_dir()) {
        return link(workspaces, tenant);
    }
    let mount = workspaces.mount_point(tenant);
    let (files, new) = (mount.join(FILES), mount.join(format!("{FILES}.new")));
    // Links in it are removed and not followed.
    gone(&new, fs::remove_dir_all(&new))?;
    let words = ["-a", "--one-file-system", "-T", "--"].map(std::ffi::OsStr::new);
    program::succeed("cp", words.into_iter().chain([old.as_os_str(), new.as_os_str()]))?;
    rustix::fs::syncfs(fs::File::open(&mount).map_err(WorkspaceError::io("open", &mount))?)
        .map_err(io::Error::from)
        .map_err(WorkspaceError::io("write", &mount))?;
    gone(&files, fs::remove_dir_all(&files))?;
    fs::rename(&new, &files).map_err(WorkspaceError::io("put into place", &files))?;
    archive_folder(workspaces, tenant, mark)?;
    link(workspaces, tenant)
}
