//! What a tenant made in a folder, taken as a whole: given to another user, or removed.

use std::path::Path;

use super::{WorkspaceError, mount_table::MountTable, paths::canonical, program};
use crate::model::workspace::Owner;

/// Gives what a tenant made in a folder to another user of the host, which the tenant is since the engine's users are others.
/// Links are not followed, and what is mounted in it is not gone into. The folder itself comes last: one that was cut off is
/// begun anew. What belongs to root or to anybody else stays theirs.
pub(super) fn hand_over(mount_table: &MountTable, path: &Path, from: u32, to: Owner) -> Result<(), WorkspaceError> {
    if from == to.uid || from == 0 {
        return Ok(());
    }
    if mount_table.has_mounts_below(&canonical(path))? {
        return Err(WorkspaceError::Covered(path.to_owned()));
    }
    let (from, to) = (format!("--from=+{from}"), format!("+{}:+{}", to.uid, to.gid));
    let words = ["-R", "-P", "-h", from.as_str(), to.as_str(), "--"].map(std::ffi::OsStr::new);
    program::succeed("chown", words.into_iter().chain([path.as_os_str()])).map(drop)
}

/// Removes a folder with all that a tenant put into it, however deep that is. Links are removed and not followed; what is
/// mounted in it is not gone into.
pub(super) fn remove(mount_table: &MountTable, path: &Path) -> Result<(), WorkspaceError> {
    if mount_table.has_mounts_below(&canonical(path))? {
        return Err(WorkspaceError::Covered(path.to_owned()));
    }
    let words = ["-rf", "--one-file-system", "--"].map(std::ffi::OsStr::new);
    program::succeed("rm", words.into_iter().chain([path.as_os_str()])).map(drop)
}
