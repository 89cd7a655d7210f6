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
type Notify = Arc<dyn Fn(&Path) + Send + Sync>;

/// Watches what lies directly in folders, as long as the kernel gives events: a poll must go on beside.
pub struct FolderWatch {
    folders: Vec<PathBuf>,
    notify: Notify,
    /// The watcher, and what it began with.
    begun: Option<(RecommendedWatcher, Vec<WatchedFolder>)>,
}

/// What is watched for a folder: itself, or where it will come to be.
#[derive(Debug, PartialEq, Eq)]
struct WatchedFolder {
    path: PathBuf,
    inode: u64,
}

impl WatchedFolder {
    /// The folder, or the nearest one above it that is there.
    fn of(folder: &Path) -> Option<Self> {
        let found = |path: &Path| Some(Self { path: path.to_owned(), inode: fs::metadata(path).ok()?.ino() });
        folder.ancestors().find_map(found)
    }
}

impl FolderWatch {
    /// Watches nothing yet: [`FolderWatch::ensure`] begins.
    pub fn new(folders: Vec<PathBuf>, notify: impl Fn(&Path) + Send + Sync + 'static) -> Self {
        Self { folders, notify: Arc::new(notify), begun: None }
    }

    /// Begins to watch, or begins anew where a folder came or was replaced since. A folder that is not there yet is
    /// reported as it comes: its parent is watched for it. Call this again then.
    pub fn ensure(&mut self) {
        loop {
            let places: Vec<_> = self.folders.iter().filter_map(|folder| WatchedFolder::of(folder)).collect();
            if self.begun.as_ref().is_some_and(|(_, begun)| *begun == places) {
                return;
            }
            self.begun = self.begin(places);
            // What came before it was watched would not be reported: it is read once more.
            if self.begun.is_none() {
                return;
            }
        }
    }

    fn begin(&self, places: Vec<WatchedFolder>) -> Option<(RecommendedWatcher, Vec<WatchedFolder>)> {
        let notify = Arc::clone(&self.notify);
        let take = move |event: notify::Result<Event>| {
            if let Ok(event) = event.as_ref()
                && changes(&event.kind)
            {
                event.paths.iter().for_each(|path| notify(path));
            }
        };
        let mut watcher = notify::recommended_watcher(take)
            .inspect_err(|error| tracing::warn!(%error, "file events cannot be had; only polls show changes"))
            .ok()?;
        for place in &places {
            // One that went since is another place at the next observation.
            let _ = watcher.watch(&place.path, RecursiveMode::NonRecursive);
        }
        Some((watcher, places))
    }
}

/// Whether a file may be another one now. To read one is an event as well.
fn changes(kind: &EventKind) -> bool {
    !matches!(kind, EventKind::Access(access) if *access != AccessKind::Close(AccessMode::Write))
}

#[cfg(test)]
mod tests {
    use std::{sync::mpsc, time::Duration};

    use super::*;

    /// Longer than any event takes; the test fails after it.
    const TIMEOUT: Duration = Duration::from_secs(20);

    #[test]
    fn a_folder_that_comes_later_is_reported_and_then_its_files() -> Result<(), Box<dyn std::error::Error>> {
        let place = tempfile::tempdir()?;
        let folder = place.path().join("above/folder");
        let (sender, receiver) = mpsc::channel();
        let mut watch = FolderWatch::new(vec![folder.clone()], move |path| drop(sender.send(path.to_owned())));
        let comes = |watch: &mut FolderWatch, wanted: &Path| -> Result<(), mpsc::RecvTimeoutError> {
            while receiver.recv_timeout(TIMEOUT)? != wanted {}
            watch.ensure();
            Ok(())
        };
        watch.ensure();
        for made in folder.ancestors().take(2).collect::<Vec<_>>().into_iter().rev() {
            fs::create_dir(made)?;
            comes(&mut watch, made)?;
        }
        let file = folder.join("file");
        fs::write(&file, "")?;
        comes(&mut watch, &file)?;
        // Replaced, as by a rename.
        fs::rename(&folder, place.path().join("old"))?;
        fs::create_dir(&folder)?;
        comes(&mut watch, &folder)?;
        fs::write(&file, "")?;
        comes(&mut watch, &file)?;
        Ok(())
    }
}
