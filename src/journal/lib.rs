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

mod chain;
mod error;
mod files;
mod line;
mod open;
mod read;
#[cfg(test)]
mod tests;
mod verified;
mod verify;
mod writer;

use std::{
    path::{Path, PathBuf},
    thread,
};

use tenantd_core::model;
use tokio::sync::{mpsc, oneshot, watch};

pub use error::JournalError;
pub use line::{Anchor, NotAnAnchor};
pub use open::Opened;
pub use read::{Item, Reader, read};
pub use verified::{Broken, Missing, Problem, Rotated, Tail, Verified, Why};
pub use verify::{check, verify};

use crate::model::{Entry, host::JournalLimits};
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

/// The journal, open to be added to. A clone adds to the same one. When the last is gone, what still
/// waits is written, and the file is closed soon after.
#[derive(Clone, Debug)]
pub struct Journal {
    queue: mpsc::Sender<Request>,
    state: watch::Receiver<WriterState>,
}

#[derive(Clone, Debug)]
struct WriterState {
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
        let (state_sender, state) = watch::channel(WriterState { head: writer.head().clone(), error: None });
        thread::Builder::new()
            .name("journal".to_owned())
            .spawn(move || serve(writer, requests, &state_sender))
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

    /// [`Journal::append`] of many, in their order: all are handed over before the first is waited for, so that they cost
    /// as many writes as the queue is filled, and not one each.
    pub async fn append_all(&self, entries: impl IntoIterator<Item = Entry>) -> Vec<Result<u64, JournalError>> {
        let mut answers = Vec::new();
        for entry in entries {
            // One after the other: futures that wait side by side would take their places in any order.
            answers.push(match Request::new(&entry) {
                Ok((request, answer)) => match self.queue.send(request).await {
                    Ok(()) => Ok(answer),
                    Err(_) => Err(JournalError::Closed),
                },
                Err(e) => Err(e),
            });
        }
        let mut results = Vec::with_capacity(answers.len());
        for answer in answers {
            results.push(match answer {
                Ok(answer) => answer.await.map_err(|_| JournalError::Closed).flatten(),
                Err(e) => Err(e),
            });
        }
        results
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
fn serve(mut writer: Writer, mut requests: mpsc::Receiver<Request>, state_sender: &watch::Sender<WriterState>) {
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
        state_sender.send_replace(WriterState { head: writer.head().clone(), error: result.as_ref().err().cloned() });
        for (reply, place) in replies {
            // Who no longer waits need not know.
            let _ = reply.send(result.clone().map(|first| first.saturating_add(place)));
        }
    }
}
