//! Mounts of workspaces, as the kernel reports that they come and go.

use std::{
    collections::{BTreeMap, BTreeSet},
    convert::Infallible,
    fs::File,
    io::{self, PipeReader},
    sync::Arc,
    thread,
    time::Duration,
};

use rustix::event::{PollFd, PollFlags, poll};
use tokio::{sync::mpsc, time};

use super::{
    WorkspaceError, Workspaces, listener,
    mount_table::{MountEntry, MountTable, entries},
    paths::canonical,
};

/// How long changes are gathered before the table is read: each container that starts or ends changes it as well.
const PAUSE: Duration = Duration::from_millis(500);

/// How often is looked whether another engine listens, with mounts of its own.
const AGAIN: Duration = Duration::from_secs(5);

type Mounts = BTreeMap<String, MountEntry>;

impl Workspaces {
    /// Reports the names of tenants whose mounts came, went or became others, for as long as it is polled. Where the
    /// kernel does not report that, nothing is heard.
    pub(crate) async fn follow_mounts(&self, notify: impl Fn(String)) -> Infallible {
        let mut known: Option<Mounts> = None;
        loop {
            // One that cannot be listened to now may be there again later.
            let _unheard = self.follow_table(&mut known, &notify).await;
            time::sleep(AGAIN).await;
        }
    }

    /// Follows one table for as long as the engine that sees it listens.
    async fn follow_table(&self, known: &mut Option<Mounts>, notify: &impl Fn(String)) -> Result<(), WorkspaceError> {
        let engine = listener(&self.engine).await;
        let folder = canonical(&self.mounts());
        let table = Arc::new(MountTable::of(engine, &folder)?.into_seen());
        let (sender, mut news) = mpsc::channel(1);
        // The thread ends with this end of the pipe.
        let (end, _open) = io::pipe().map_err(WorkspaceError::io("wait for changes of", &folder))?;
        let watched = Arc::clone(&table);
        let thread = thread::Builder::new().name("mount-table".to_owned());
        thread
            .spawn(move || wait(&watched, &end, &sender))
            .map_err(WorkspaceError::io("wait for changes of", &folder))?;
        loop {
            let now = entries(&table, &folder)?;
            if let Some(before) = known.as_ref() {
                changed(before, &now).into_iter().for_each(notify);
            }
            *known = Some(now);
            while time::timeout(AGAIN, news.recv()).await.is_err() {
                if listener(&self.engine).await != engine {
                    return Ok(());
                }
            }
            time::sleep(PAUSE).await;
        }
    }
}

/// Reports each change of a table of mounts, until the pipe's other end is closed.
fn wait(table: &File, end: &PipeReader, sender: &mpsc::Sender<()>) {
    loop {
        // The table can always be read; what is new in it is urgent.
        let mut both = [PollFd::new(table, PollFlags::PRI), PollFd::new(end, PollFlags::IN)];
        match poll(&mut both, None) {
            Ok(_) if both[1].revents().is_empty() => {
                // One that waits already reports this one too.
                let _ = sender.try_send(());
            }
            Err(rustix::io::Errno::INTR) => {}
            _ => return,
        }
    }
}

fn changed(before: &Mounts, now: &Mounts) -> BTreeSet<String> {
    let names = before.keys().chain(now.keys());
    names.filter(|name| before.get(*name) != now.get(*name)).cloned().collect()
}
