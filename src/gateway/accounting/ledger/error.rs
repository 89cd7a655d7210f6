//! Why the ledger cannot be used.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

/// Why the ledger cannot be used.
#[derive(Clone, Debug, thiserror::Error)]
pub enum LedgerError {
    /// A file or folder refused.
    #[error("cannot {action} {path}", path = path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// What the kernel said.
        source: Arc<io::Error>,
    },
    /// Another process writes it.
    #[error("another process uses {path}", path = .0.display())]
    Locked(PathBuf),
    /// A line before the last is not what was written.
    #[error("line {line} of {path} is damaged", path = path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// The line, counted from 1.
        line: u64,
    },
    /// A newer version of the program wrote it.
    #[error("{path} was written by a newer tenantd", path = .0.display())]
    Newer(PathBuf),
    /// Nothing is written any more.
    #[error("the ledger is closed")]
    Closed,
}

impl LedgerError {
    pub(super) fn io(action: &'static str, path: &Path, source: io::Error) -> Self {
        Self::Io { action, path: path.to_owned(), source: Arc::new(source) }
    }
}
