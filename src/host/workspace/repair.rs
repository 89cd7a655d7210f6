//! Images that were removed or are damaged.

use std::{ffi::OsStr, fs, path::Path};

use super::{
    WorkspaceError, Workspaces,
    archive::{self, ArchiveStamp},
    image,
    mount_table::MountTable,
    mounting::made,
    paths::gone,
    program,
};

/// Writes a removed image back from the device that has it open.
pub(super) fn rescue(workspaces: &Workspaces, tenant: &str) -> Result<(), WorkspaceError> {
    let path = workspaces.image(tenant);
    if path.exists() {
        return Ok(());
    }
    let (device, _) = image::device_of(&path).ok_or_else(|| WorkspaceError::NoVolume(path.clone()))?;
    // What the file system has in memory goes to the device first.
    rustix::fs::sync();
    let new = workspaces.new_image(tenant);
    image::copy(&device, &new)?;
    fs::rename(&new, &path).map_err(WorkspaceError::io("put into place", &path))
}

/// Has a copy of an image put right, which takes its place; the image as it was is archived.
pub(super) fn repair(workspaces: &Workspaces, tenant: &str, mark: &ArchiveStamp) -> Result<(), WorkspaceError> {
    let path = workspaces.image(tenant);
    if !path.exists() {
        return Err(WorkspaceError::NoVolume(path));
    }
    let new = workspaces.new_image(tenant);
    image::copy(&path, &new)?;
    let request = workspaces.request_of(tenant);
    if let Err(error) = put_right(&new) {
        let reason = format!("it could not be repaired: {error}");
        image::mark_damaged(workspaces, tenant, &reason)?;
        gone(&request, fs::remove_file(&request))?;
        return Err(WorkspaceError::Damaged(reason));
    }
    // A second name for what was damaged, so that at no moment there is no image.
    let kept = archive::path(workspaces, tenant, mark, ".damaged.img")?;
    fs::hard_link(&path, &kept).map_err(WorkspaceError::io("keep a copy as", &kept))?;
    fs::rename(&new, &path).map_err(WorkspaceError::io("put into place", &path))?;
    let note = workspaces.mark_of_damage(tenant);
    gone(&note, fs::remove_file(&note))?;
    gone(&request, fs::remove_file(&request))
}

/// Runs e2fsck, and once more: what it leaves must be clean.
fn put_right(image: &Path) -> Result<(), WorkspaceError> {
    let output = program::run("e2fsck", [OsStr::new("-f"), "-y".as_ref(), image.as_os_str()])?;
    if !matches!(output.status.code(), Some(0..=2)) {
        return Err(program::failure("e2fsck", &output));
    }
    program::succeed("e2fsck", [OsStr::new("-f"), "-n".as_ref(), image.as_os_str()]).map(drop)
}

/// Checks an image and changes nothing.
pub(super) fn check(
    workspaces: &Workspaces,
    mount_table: &MountTable,
    tenant: &str,
) -> Result<(bool, String), WorkspaceError> {
    let path = workspaces.image(tenant);
    if !path.exists() {
        return Err(WorkspaceError::NoVolume(path));
    }
    if made(workspaces, mount_table, tenant)?.is_some() {
        return Ok((true, "it is mounted, and the kernel found no errors so far".to_owned()));
    }
    let output = program::run("e2fsck", [OsStr::new("-f"), "-n".as_ref(), path.as_os_str()])?;
    let said = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    Ok((output.status.success(), said))
}
