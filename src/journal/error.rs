//! Why the journal could not be read or written.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use crate::model::record::RECORD_VERSION;

/// Why the journal could not be read or written.
#[derive(Clone, Debug, thiserror::Error)]
pub enum JournalError {
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
    /// A newer version of the program wrote it.
    #[error(
        "{path} holds records of version {version}, and this tenantd knows versions up to {RECORD_VERSION}; \
         use the version of tenantd that wrote them",
        path = path.display()
    )]
    Newer {
        /// The file.
        path: PathBuf,
        /// The records' version.
        version: u32,
    },
    /// The entry is longer than a record may be.
    #[error("an entry of {0} bytes is too long for the journal")]
    TooLong(usize),
    /// Nothing is written any more.
    #[error("the journal is closed")]
    Closed,
}

impl JournalError {
    pub(super) fn io(action: &'static str, path: &Path, source: io::Error) -> Self {
        Self::Io { action, path: path.to_owned(), source: Arc::new(source) }
    }
}
