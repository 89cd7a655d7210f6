//! File events of folders.

use std::{
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use notify::{
    Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher,
    event::{AccessKind, AccessMode},
};

/// What is called with each file that came, changed or went.
type Tell = Arc<dyn Fn(&Path) + Send + Sync>;

/// Watches what lies directly in folders, as long as the kernel gives events: a poll must go on beside.
pub struct FolderWatch {
    folders: Vec<PathBuf>,
    tell: Tell,
    /// The watcher, and the folders' inodes when it began.
    begun: Option<(RecommendedWatcher, Vec<Option<u64>>)>,
}

impl FolderWatch {
    /// Watches nothing yet: [`FolderWatch::ensure`] begins.
    pub fn new(folders: Vec<PathBuf>, tell: impl Fn(&Path) + Send + Sync + 'static) -> Self {
        Self { folders, tell: Arc::new(tell), begun: None }
    }

    /// Begins to watch, or begins anew where a folder came or was replaced since.
    pub fn ensure(&mut self) {
        let inodes: Vec<_> = self.folders.iter().map(|folder| fs::metadata(folder).ok().map(|it| it.ino())).collect();
        if self.begun.as_ref().is_some_and(|(_, begun)| *begun == inodes) {
            return;
        }
        let tell = Arc::clone(&self.tell);
        let take = move |event: notify::Result<Event>| {
            if let Ok(event) = event.as_ref()
                && changes(&event.kind)
            {
                event.paths.iter().for_each(|path| tell(path));
            }
        };
        let watcher = notify::recommended_watcher(take)
            .inspect_err(|error| tracing::warn!(%error, "file events cannot be had; only polls show changes"));
        self.begun = watcher.ok().map(|mut watcher| {
            for folder in &self.folders {
                // One that is not there yet is watched once it is.
                let _ = watcher.watch(folder, RecursiveMode::NonRecursive);
            }
            (watcher, inodes)
        });
    }
}

/// Whether a file may be another one now. To read one is an event as well.
fn changes(kind: &EventKind) -> bool {
    !matches!(kind, EventKind::Access(access) if *access != AccessKind::Close(AccessMode::Write))
}
