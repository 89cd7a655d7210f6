//! Why a workspace could not be read or made.

use std::{
    io,
    path::{Path, PathBuf},
};

/// Why a workspace could not be read or made.
#[derive(Debug, thiserror::Error)]
pub enum WorkspaceError {
    /// The kernel refuses.
    #[error("cannot {action} {path}", path = path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// A program is missing.
    #[error("the program {0} is missing; images need e2fsprogs and util-linux, subvolumes btrfs-progs")]
    NoProgram(&'static str),
    /// A program failed.
    #[error("{name} failed with {end}: {said}")]
    Program {
        /// Its name.
        name: &'static str,
        /// How it ended.
        end: String,
        /// What it printed.
        said: String,
    },
    /// The file system cannot be used.
    #[error("the workspace's file system is damaged: {0}; look at it with `tenantd workspace check`")]
    Damaged(String),
    /// Something was written where the volume belongs.
    #[error("{path} is not empty although nothing is mounted there; move away what it holds", path = .0.display())]
    NotEmpty(PathBuf),
    /// Somebody uses it.
    #[error("{path} is still in use; end what uses it", path = .0.display())]
    Busy(PathBuf),
    /// Something is mounted in what is to be removed.
    #[error("something is mounted below {path}; unmount it first", path = .0.display())]
    Covered(PathBuf),
    /// The engine does not see what is mounted.
    #[error(
        "the engine does not see what is mounted at {path}: it has a mount namespace of its own, which mounts of the \
         host do not reach",
        path = .0.display()
    )]
    Unseen(PathBuf),
    /// The image or subvolume is not there.
    #[error("there is no {path}", path = .0.display())]
    NoVolume(PathBuf),
    /// Nothing of that name is archived.
    #[error("nothing is archived as {0}")]
    NotArchived(String),
    /// The tenant has a workspace.
    #[error("the tenant has a workspace at {path}", path = .0.display())]
    Taken(PathBuf),
    /// The thread that did it ended.
    #[error("the work on the workspace ended early")]
    Ended,
}

impl WorkspaceError {
    /// What was tried on a path, once the kernel says why not.
    pub(super) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { action, path, source }
    }
}
