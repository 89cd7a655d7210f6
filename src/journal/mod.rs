//! The journal: what was changed, when, why, and what became of it.
//!
//! A folder of files of JSON lines, each named by the number of its first record. A line holds a
//! record, the hash of the record before it, and its own hash; the chain goes on from file to file.
//! Records are added and never changed. Only whole files are removed, the oldest ones, and a later
//! record names them.
//!
//! One process writes, the one that holds the lock of the data root. Anyone may read meanwhile.
//!
//! A write that was cut off, by a crash or a full disk, leaves bytes at the end that are no record.
//! The next start moves them into a file `torn-…` beside, and a record says so. Any other damage is
//! left as it is, for [`verify`] to point at, and a new file is begun after it.

mod files;
mod line;
mod open;
mod read;
#[cfg(test)]
mod tests;
mod verify;
mod writer;

use std::{
    collections::BTreeMap,
    fs::File,
    io,
    path::{Path, PathBuf},
    sync::Arc,
    thread,
};

use jiff::Timestamp;
use tokio::sync::{mpsc, oneshot, watch};

pub use line::{Anchor, NotAnAnchor};
pub use read::{Item, Reader, read};
pub use verify::{Broken, Problem, Tail, Verified, check, verify};

use crate::model::{
    Entry,
    host::JournalLimits,
    record::{OutcomeRecord, RECORD_VERSION, Recovered, StepRecord},
};
use line::Body;
use writer::Writer;

/// How many records may wait to be written. Who adds another waits as well.
const QUEUE: usize = 256;

/// How many bytes are gathered for one write.
const GROUP: usize = 1 << 20;

/// Where the journal lies under a data root.
pub fn folder(data_root: &Path) -> PathBuf {
    data_root.join("journal")
}

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
    fn io(action: &'static str, path: &Path, source: io::Error) -> Self {
        Self::Io { action, path: path.to_owned(), source: Arc::new(source) }
    }
}

/// The journal, open to be added to. A clone adds to the same one. When the last is gone, what still
/// waits is written, and the file is closed soon after.
#[derive(Clone, Debug)]
pub struct Journal {
    queue: mpsc::Sender<Request>,
    state: watch::Receiver<State>,
}

/// What was found when the journal was opened.
#[derive(Debug, Default)]
pub struct Opened {
    /// The damaged end that was set aside, if there was one.
    pub recovered: Option<Recovered>,
    /// Damage that was left as it is, if there is some in the last file.
    pub damage: Option<String>,
    /// Steps whose outcome was not known, by the numbers of their records. It is recorded as unknown
    /// now.
    pub unfinished: Vec<(u64, StepRecord)>,
    /// The last step of each tenant that was done, and when, as far as the last two files tell. For
    /// display: of its fields only the first few are kept.
    pub last: BTreeMap<String, (Timestamp, StepRecord, OutcomeRecord)>,
}

#[derive(Clone, Debug)]
struct State {
    head: Anchor,
    error: Option<JournalError>,
}

#[derive(Debug)]
struct Request {
    /// `None` asks for what is owed alone.
    body: Option<Body>,
    reply: oneshot::Sender<Result<u64, JournalError>>,
}

impl Journal {
    /// Opens the journal in a folder, which is made where there is none, and puts its end in order:
    /// what is torn is set aside, and steps without an outcome get one that says it is unknown.
    ///
    /// It blocks. The caller holds the lock of the data root, so that no other process writes.
    ///
    /// # Errors
    /// The folder cannot be read or written, or a newer version of the program wrote it. To try again
    /// later does no harm.
    pub fn open(folder: &Path, limits: JournalLimits) -> Result<(Self, Opened), JournalError> {
        let (writer, opened) = open::open(folder, limits)?;
        let (queue, requests) = mpsc::channel(QUEUE);
        let (told, state) = watch::channel(State { head: writer.head().clone(), error: None });
        thread::Builder::new()
            .name("journal".to_owned())
            .spawn(move || serve(writer, requests, &told))
            .map_err(|e| JournalError::io("start the writer of", folder, e))?;
        Ok((Self { queue, state }, opened))
    }

    /// Adds a record, and returns its number once it is on the disk.
    ///
    /// Records that are added at the same time are written together. An intent or a drift that is too
    /// long goes without its fields, and says so. To drop the future does not undo the record.
    ///
    /// # Errors
    /// It could not be written, and is not in the journal; the next one is tried anew. Or it is too
    /// long.
    pub async fn append(&self, entry: Entry) -> Result<u64, JournalError> {
        let (request, answer) = Request::new(&entry)?;
        self.queue.send(request).await.map_err(|_| JournalError::Closed)?;
        answer.await.map_err(|_| JournalError::Closed)?
    }

    /// [`Journal::append`] for where nothing is asynchronous.
    ///
    /// # Errors
    /// As those of [`Journal::append`].
    ///
    /// # Panics
    /// On a thread that runs asynchronous code.
    pub fn append_blocking(&self, entry: &Entry) -> Result<u64, JournalError> {
        let (request, answer) = Request::new(entry)?;
        self.queue.blocking_send(request).map_err(|_| JournalError::Closed)?;
        answer.blocking_recv().map_err(|_| JournalError::Closed)?
    }

    /// Writes nothing but what is owed after a failure: how many records are missing.
    ///
    /// # Errors
    /// The journal cannot be written yet.
    pub async fn retry(&self) -> Result<(), JournalError> {
        let (reply, answer) = oneshot::channel();
        self.queue.send(Request { body: None, reply }).await.map_err(|_| JournalError::Closed)?;
        answer.await.map_err(|_| JournalError::Closed)?.map(drop)
    }

    /// The last record that is on the disk.
    pub fn head(&self) -> Anchor {
        self.state.borrow().head.clone()
    }

    /// Why the last write failed, if it did.
    pub fn error(&self) -> Option<JournalError> {
        self.state.borrow().error.clone()
    }
}

impl Request {
    fn new(entry: &Entry) -> Result<(Self, oneshot::Receiver<Result<u64, JournalError>>), JournalError> {
        let body = Body::new(entry).map_err(JournalError::TooLong)?;
        let (reply, answer) = oneshot::channel();
        Ok((Self { body: Some(body), reply }, answer))
    }
}

/// Writes what is asked for, all that waits at once, until nobody can ask any more.
fn serve(mut writer: Writer, mut requests: mpsc::Receiver<Request>, told: &watch::Sender<State>) {
    while let Some(first) = requests.blocking_recv() {
        let (mut bodies, mut replies) = (Vec::new(), Vec::new());
        let mut size = 0;
        let mut next = Some(first);
        while let Some(Request { body, reply }) = next {
            replies.push((reply, bodies.len() as u64));
            size += body.as_ref().map_or(0, Body::len);
            bodies.extend(body);
            next = if size < GROUP { requests.try_recv().ok() } else { None };
        }
        let result = writer.append(&bodies);
        told.send_replace(State { head: writer.head().clone(), error: result.as_ref().err().cloned() });
        for (reply, place) in replies {
            // Who no longer waits need not know.
            let _ = reply.send(result.clone().map(|first| first.saturating_add(place)));
        }
    }
}

/// Makes what was created, renamed or removed in a folder last.
fn sync_folder(folder: &Path) -> Result<(), JournalError> {
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(|e| JournalError::io("write", folder, e))
}
