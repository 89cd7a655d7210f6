//! File events of a local repository: the moment of a push.

use std::{
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use notify::{
    Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher,
    event::{AccessKind, AccessMode, ModifyKind, RemoveKind},
};
use tokio::{sync::Notify, time::Instant};

use super::place;

/// How long nothing more must have happened. One push is many events.
const QUIET: Duration = Duration::from_millis(20);

/// How long events that go on and on are waited for.
const MAX_DELAY: Duration = Duration::from_millis(200);

/// Why a repository cannot be watched. The poll beside goes on.
#[derive(Debug, thiserror::Error)]
pub enum WatchError {
    /// There is none at its place.
    #[error("there is no git repository at {path}", path = .0.display())]
    Missing(PathBuf),
    /// The kernel gives no events.
    #[error("cannot watch {path}", path = path.display())]
    Notify {
        /// The repository.
        path: PathBuf,
        /// What the kernel said.
        source: notify::Error,
    },
}

/// Watches where a repository keeps its branches: `refs/heads`, `packed-refs` and `reftable`.
///
/// Nothing is read. It reports that something may have changed, and never that nothing did: events can
/// be lost, so that a poll runs beside it.
pub struct Watch {
    path: PathBuf,
    signal: Arc<Signal>,
    watched: Option<Watched>,
    pending: Option<Pending>,
}

#[derive(Default)]
struct Signal {
    changed: Notify,
    /// The kernel reported that a folder is gone, or that it cannot report everything.
    lost: AtomicBool,
}

/// A watcher and the folders that it looks at.
struct Watched {
    _watcher: RecommendedWatcher,
    folders: Vec<Folder>,
}

/// A folder with what distinguishes it from another that took its place.
#[derive(PartialEq)]
struct Folder {
    path: PathBuf,
    device: u64,
    number: u64,
}

/// Events that were seen and not reported yet.
struct Pending {
    first: Instant,
    last: Instant,
}

impl Watch {
    /// Watches nothing yet: [`Watch::ensure`] begins.
    pub fn new(repository: &Path) -> Self {
        Self { path: repository.to_owned(), signal: Arc::default(), watched: None, pending: None }
    }

    /// Begins to watch, or begins anew where the repository came, went or was replaced since.
    ///
    /// To be called before each look at the repository, so that what happens from then on is seen. It
    /// costs a few calls of the kernel.
    ///
    /// # Errors
    /// There is no repository, or the kernel has no watch left to give.
    pub fn ensure(&mut self) -> Result<(), WatchError> {
        let Some(folders) = folders(&self.path) else {
            self.watched = None;
            return Err(WatchError::Missing(self.path.clone()));
        };
        let lost = self.signal.lost.swap(false, Ordering::Relaxed);
        if !lost && self.watched.as_ref().is_some_and(|watched| watched.folders == folders) {
            return Ok(());
        }
        self.watched = None;
        self.watched = Some(self.begin(folders).map_err(|source| {
            self.signal.lost.store(true, Ordering::Relaxed);
            WatchError::Notify { path: self.path.clone(), source }
        })?);
        Ok(())
    }

    fn begin(&self, folders: Vec<Folder>) -> notify::Result<Watched> {
        let signal = self.signal.clone();
        let repository = folders.first().map(|folder| folder.path.clone()).unwrap_or_default();
        let take = move |event: notify::Result<Event>| signal.take(&event, &repository);
        let mut watcher = notify::recommended_watcher(take)?;
        for (position, folder) in folders.iter().enumerate() {
            // The first is the repository itself, with objects that nobody needs to hear of.
            let depth = if position == 0 { RecursiveMode::NonRecursive } else { RecursiveMode::Recursive };
            watcher.watch(&folder.path, depth)?;
        }
        Ok(Watched { _watcher: watcher, folders })
    }

    /// Waits until something may have changed: 20 ms after the last event, or 200 ms after the first.
    ///
    /// What happened while nobody waited counts. When it is dropped, nothing is lost.
    pub async fn changed(&mut self) {
        loop {
            let Some(pending) = &mut self.pending else {
                self.signal.changed.notified().await;
                let now = Instant::now();
                self.pending = Some(Pending { first: now, last: now });
                continue;
            };
            let due = (pending.last + QUIET).min(pending.first + MAX_DELAY);
            tokio::select! {
                () = tokio::time::sleep_until(due) => {
                    self.pending = None;
                    return;
                }
                () = self.signal.changed.notified() => pending.last = Instant::now(),
            }
        }
    }
}

impl Signal {
    fn take(&self, event: &notify::Result<Event>, repository: &Path) {
        let is_gone = |event: &Event| matches!(event.kind, EventKind::Remove(RemoveKind::Folder | RemoveKind::Other));
        let is_full = |event: &Event| event.need_rescan();
        if event.as_ref().map_or(true, |event| is_gone(event) || is_full(event)) {
            self.lost.store(true, Ordering::Relaxed);
        }
        if event.as_ref().map_or(true, |event| is_full(event) || matters(event, repository)) {
            self.changed.notify_one();
        }
    }
}

/// Whether a branch may have changed. Reading is an event as well, and locks come and go.
fn matters(event: &Event, repository: &Path) -> bool {
    let changes = match event.kind {
        EventKind::Access(kind) => kind == AccessKind::Close(AccessMode::Write),
        EventKind::Modify(ModifyKind::Metadata(_)) => false,
        _ => true,
    };
    changes && event.paths.iter().filter_map(|path| path.strip_prefix(repository).ok()).any(is_of_branches)
}

/// Whether a path in the repository is one of those that branches are kept in, or above them.
fn is_of_branches(path: &Path) -> bool {
    let is_lock = path.extension().is_some_and(|extension| extension == "lock");
    let is_itself = path.as_os_str().is_empty();
    !is_lock && (is_itself || ["packed-refs", "refs", "reftable"].iter().any(|name| path.starts_with(name)))
}

/// The repository's folder, and those with its branches.
fn folders(path: &Path) -> Option<Vec<Folder>> {
    let repository = place::common_folder(path)?;
    let identity = |path: PathBuf| {
        let metadata = fs::metadata(&path).ok().filter(fs::Metadata::is_dir)?;
        Some(Folder { path, device: metadata.dev(), number: metadata.ino() })
    };
    let below = ["refs/heads", "reftable"].map(|name| repository.join(name));
    let mut folders = vec![identity(repository)?];
    folders.extend(below.into_iter().filter_map(identity));
    Some(folders)
}
