//! Paths and folders, whosever they are.

use std::{
    fs, io,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
};

use rustix::{
    fs::{Mode, OFlags},
    io::Errno,
};

use super::WorkspaceError;
use crate::modes;

/// A path as the kernel writes it, without links.
pub(super) fn canonical(folder: &Path) -> PathBuf {
    fs::canonicalize(folder).unwrap_or_else(|_| canonical_file(folder))
}

/// The same for a file that may be gone.
pub(super) fn canonical_file(file: &Path) -> PathBuf {
    let folder = file.parent().and_then(|folder| fs::canonicalize(folder).ok());
    match (folder, file.file_name()) {
        (Some(folder), Some(name)) => folder.join(name),
        _ => file.to_owned(),
    }
}

/// Opens a folder that is no link.
pub(super) fn open_folder(path: &Path) -> Result<OwnedFd, Errno> {
    let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::RDONLY;
    rustix::fs::open(path, flags, Mode::empty())
}

/// The names in a folder. None where it does not exist.
pub(super) fn names(folder: &Path) -> Result<Vec<String>, WorkspaceError> {
    let failed = |source| WorkspaceError::io("read", folder)(source);
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(failed(e)),
    };
    let mut names = Vec::new();
    for entry in entries {
        names.extend(entry.map_err(failed)?.file_name().into_string().ok());
    }
    Ok(names)
}

/// Makes a folder, and its parents, for its owner alone.
pub(super) fn make(path: &Path) -> Result<(), WorkspaceError> {
    modes::make(path, modes::FOLDER).map_err(WorkspaceError::io("make", path))
}

/// What is gone already need not be removed.
pub(super) fn gone(path: &Path, removed: io::Result<()>) -> Result<(), WorkspaceError> {
    match removed {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(WorkspaceError::io("remove", path)(e)),
        _ => Ok(()),
    }
}

pub(super) fn sync_folder(path: &Path) -> Result<(), WorkspaceError> {
    fs::File::open(path).and_then(|folder| folder.sync_all()).map_err(WorkspaceError::io("write", path))
}
