//! One apply at a time for each data root.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read, Seek, Write},
    path::{Path, PathBuf},
    time::Duration,
};

use rustix::fs::{FlockOperation, flock};

/// Held while something is changed. The kernel lets go of it when the process ends, however it ends.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

/// Why the lock was not taken.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another process holds it.
    #[error("another tenantd holds {path}: {holder}", path = path.display())]
    Held {
        /// The lock's file.
        path: PathBuf,
        /// What the holder wrote about itself.
        holder: String,
    },
    /// The file cannot be made or locked.
    #[error("cannot lock {path}", path = path.display())]
    Io {
        /// The lock's file.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
}

/// How often a held lock is tried again.
const RETRY: Duration = Duration::from_millis(100);

impl Lock {
    /// Takes the lock, or fails at once where another process holds it.
    ///
    /// # Errors
    /// The lock is held, or its file cannot be made.
    pub fn take(data_root: &Path) -> Result<Self, LockError> {
        let path = data_root.join("lock");
        let failed = |source| LockError::Io { path: path.clone(), source };
        fs::create_dir_all(data_root).map_err(failed)?;
        let mut file =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path).map_err(failed)?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => {
                let mut holder = String::new();
                let _ = (&mut file).take(200).read_to_string(&mut holder);
                return Err(LockError::Held { path, holder: holder.trim().to_owned() });
            }
            Err(e) => return Err(failed(e.into())),
        }
        file.set_len(0).and_then(|()| file.rewind()).map_err(failed)?;
        writeln!(file, "process {}", std::process::id()).map_err(failed)?;
        Ok(Self { _file: file })
    }

    /// Takes the lock, and waits for it as long as `patience`.
    ///
    /// `waiting` is called once, when it has to wait.
    ///
    /// # Errors
    /// The lock is still held when patience ends, or its file cannot be made.
    pub async fn wait(
        data_root: &Path,
        patience: Duration,
        waiting: impl FnOnce(&LockError),
    ) -> Result<Self, LockError> {
        let deadline = tokio::time::Instant::now() + patience;
        let mut waiting = Some(waiting);
        loop {
            match Self::take(data_root) {
                Err(held @ LockError::Held { .. }) if tokio::time::Instant::now() < deadline => {
                    if let Some(waiting) = waiting.take() {
                        waiting(&held);
                    }
                    tokio::time::sleep(RETRY).await;
                }
                result => return result,
            }
        }
    }
}
