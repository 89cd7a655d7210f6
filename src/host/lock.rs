//! One apply at a time for each data root.

use std::{
    fs::File,
    io::{self, Read, Seek, Write},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    time::Duration,
};

use rustix::fs::{FlockOperation, flock};

use super::{
    modes,
    version::{self, VersionError},
};

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
    /// A newer program keeps what it guards.
    #[error(transparent)]
    Version(#[from] VersionError),
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
    /// The lock is held, its file cannot be made, or a newer program keeps the folder.
    pub fn take(data_root: &Path) -> Result<Self, LockError> {
        let path = data_root.join("lock");
        let failed = |source| LockError::Io { path: path.clone(), source };
        modes::make(data_root, modes::FOLDER).map_err(failed)?;
        let mut file = modes::file(&path).map_err(failed)?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => {
                let holder = holder(&mut file);
                return Err(LockError::Held { path, holder });
            }
            Err(e) => return Err(failed(e.into())),
        }
        file.set_len(0).and_then(|()| file.rewind()).map_err(failed)?;
        writeln!(file, "process {}", std::process::id()).map_err(failed)?;
        version::claim(data_root)?;
        Ok(Self { _file: file })
    }

    /// Takes the lock, and waits for it as long as `lock_timeout`.
    ///
    /// `waiting` is called once, when it has to wait.
    ///
    /// # Errors
    /// The lock is still held when `lock_timeout` ends, its file cannot be made, or a newer program keeps the folder.
    pub async fn wait(
        data_root: &Path,
        lock_timeout: Duration,
        waiting: impl FnOnce(&LockError),
    ) -> Result<Self, LockError> {
        let deadline = tokio::time::Instant::now() + lock_timeout;
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

/// Who holds the lock: what it wrote about itself, unless the kernel names another. A process of another user's took it
/// while the file was open to everyone, and keeps it until it ends.
fn holder(file: &mut File) -> String {
    let mut written = String::new();
    let _ = file.take(200).read_to_string(&mut written);
    let table = std::fs::read_to_string("/proc/locks").unwrap_or_default();
    let inode = file.metadata().map_or(0, |found| found.ino());
    let process = table.lines().find_map(|line| flocked(line, inode));
    let owner = process.and_then(|process| std::fs::metadata(format!("/proc/{process}")).ok()).map(|found| found.uid());
    match (process, owner) {
        (Some(process), Some(uid)) if uid != rustix::process::geteuid().as_raw() => {
            format!("process {process} of user {uid}, which is no tenantd of ours and has to be ended")
        }
        _ => written.trim().to_owned(),
    }
}

/// The process that holds the whole file of this number, by a line of `/proc/locks`.
fn flocked(line: &str, inode: u64) -> Option<u32> {
    let mut words = line.split_whitespace().skip(1);
    let (kind, process) = (words.next()?, words.nth(2)?);
    let place = words.next()?;
    (kind == "FLOCK" && place.rsplit(':').next()? == inode.to_string()).then(|| process.parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_the_kernels_locks_names_who_has_a_file() {
        let line = "3: FLOCK  ADVISORY  WRITE 4711 fe:00:1234 0 EOF";
        assert_eq!(flocked(line, 1234), Some(4711));
        assert_eq!(flocked(line, 34), None);
        assert_eq!(flocked("3: -> FLOCK  ADVISORY  WRITE 4712 fe:00:1234 0 EOF", 1234), None);
        assert_eq!(flocked("1: POSIX  ADVISORY  WRITE 4711 fe:00:1234 0 EOF", 1234), None);
        assert_eq!(flocked("", 0), None);
    }
}
