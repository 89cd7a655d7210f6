//! Credits: reserved before a request goes out, settled when its answer has come.
//!
//! A file that is only added to holds every change, and what is reserved is on the disk before the
//! request is sent. Whatever was in hand when the gateway was killed has cost what was reserved.

mod book;
mod error;
mod file;

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
};

use jiff::{Timestamp, civil::Date, tz::TimeZone};
use tokio::sync::{mpsc, oneshot};

use self::{
    book::LedgerEntry,
    file::{COMPACT_AT, LedgerFile},
};
use crate::model::{
    TenantName,
    egress::{Budget, RouteName},
};

pub use book::{Book, MAX_COST};
pub use error::LedgerError;

/// How many entries are written at once.
const GROUP: usize = 1024;

/// Where the ledger lies in the gateway's folder.
pub fn folder(state: &Path) -> PathBuf {
    state.join("ledger")
}

/// Why credits are not reserved.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ReserveError {
    /// The tenant has not as many left.
    #[error("the budget is used up")]
    OverBudget,
    /// They cannot be recorded.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
}

/// The ledger, open. Clones use the same one; when the last is gone, what waits is written.
#[derive(Clone, Debug)]
pub struct Ledger {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    book: Mutex<Book>,
    /// As long as there are reservations: their number bounds it.
    queue: mpsc::UnboundedSender<Request>,
}

#[derive(Debug)]
struct Request {
    entry: LedgerEntry,
    reply: Option<oneshot::Sender<Result<(), LedgerError>>>,
}

/// Credits that were reserved. Dropped without being settled, they are spent if the request has begun
/// to be sent, and given back otherwise.
#[derive(Debug)]
pub struct Reservation {
    shared: Arc<Shared>,
    tenant: TenantName,
    id: u64,
    day: Date,
    budget: Budget,
    held: u64,
    /// What it has cost if nothing more is heard.
    at_least: u64,
}

/// Reads the ledger without taking part in it: half an entry at its end is left out.
///
/// # Errors
/// It cannot be read, is damaged, or was written by a newer version. There being none is no error.
pub fn read(folder: &Path) -> Result<Book, LedgerError> {
    file::read(folder).map(|(book, _)| book)
}

/// The day in UTC.
pub fn day(time: Timestamp) -> Date {
    time.to_zoned(TimeZone::UTC).date()
}

impl Ledger {
    /// Opens the ledger in a folder, which is made where there is none. What was in hand when it was
    /// last used has cost what was reserved. It blocks.
    ///
    /// # Errors
    /// The folder cannot be read or written, another process uses it, or it is damaged.
    pub fn open(folder: &Path) -> Result<Self, LedgerError> {
        Self::open_compacting(folder, COMPACT_AT)
    }

    /// [`Ledger::open`], with the size in bytes at which the file is written anew.
    ///
    /// # Errors
    /// As those of [`Ledger::open`].
    pub fn open_compacting(folder: &Path, compact_at: u64) -> Result<Self, LedgerError> {
        let file = LedgerFile::open(folder, compact_at)?;
        let book = Mutex::new(file.book().clone());
        let (queue, requests) = mpsc::unbounded_channel();
        thread::Builder::new()
            .name("ledger".to_owned())
            .spawn(move || serve(file, requests))
            .map_err(|e| LedgerError::io("start the writer of", folder, e))?;
        Ok(Self { shared: Arc::new(Shared { book, queue }) })
    }

    /// Reserves credits for a request that is about to be sent, and returns when that is on the disk.
    ///
    /// A day or a month has its budget once, whichever way the clock goes.
    ///
    /// # Errors
    /// The tenant has not as many left, or they cannot be recorded; then nothing is reserved. Dropping
    /// the future reserves nothing either.
    pub async fn reserve(
        &self,
        tenant: &TenantName,
        route: &RouteName,
        credits: u64,
        budget: Budget,
        now: Timestamp,
    ) -> Result<Reservation, ReserveError> {
        let credits = credits.min(MAX_COST);
        let (reservation, written) = {
            let mut book = self.shared.book();
            let day = book.day(tenant, day(now));
            let left = book.left(tenant, budget, day);
            if left.is_some_and(|left| left == 0 || left < credits) {
                return Err(ReserveError::OverBudget);
            }
            let id = book.next_id();
            let entry = LedgerEntry::Reserve { id, tenant: tenant.clone(), route: route.clone(), day, credits };
            let (reply, written) = oneshot::channel();
            self.shared.enter(&mut book, entry, Some(reply));
            let (shared, tenant) = (Arc::clone(&self.shared), tenant.clone());
            (Reservation { shared, tenant, id, day, budget, held: credits, at_least: 0 }, written)
        };
        written.await.map_err(|_| LedgerError::Closed)??;
        Ok(reservation)
    }

    /// Returns when everything that was entered until now is on the disk.
    ///
    /// # Errors
    /// It cannot be written.
    pub async fn flush(&self) -> Result<(), LedgerError> {
        self.last_entry().await.map_err(|_| LedgerError::Closed)?
    }

    /// [`Ledger::flush`] at the end of a process, where nothing can wait but the thread itself.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn finish(&self) -> Result<(), LedgerError> {
        self.last_entry().blocking_recv().map_err(|_| LedgerError::Closed)?
    }

    /// Hears when all that was entered until now is written.
    fn last_entry(&self) -> oneshot::Receiver<Result<(), LedgerError>> {
        let (reply, written) = oneshot::channel();
        self.shared.enter(&mut self.shared.book(), LedgerEntry::Next { id: 0 }, Some(reply));
        written
    }

    /// How many credits a tenant has left; `None` where nothing bounds them.
    pub fn left(&self, tenant: &TenantName, budget: Budget, now: Timestamp) -> Option<u64> {
        let book = self.shared.book();
        book.left(tenant, budget, book.day(tenant, day(now)))
    }

    /// Who used how many credits, as it stands now.
    pub fn book(&self) -> Book {
        self.shared.book().clone()
    }
}

impl Shared {
    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Enters something into the book and, in the same order, into the file.
    fn enter(&self, book: &mut Book, entry: LedgerEntry, reply: Option<oneshot::Sender<Result<(), LedgerError>>>) {
        book.apply(&entry);
        // Where the writer is gone, whoever waits for it hears so by its reply.
        let _ = self.queue.send(Request { entry, reply });
    }
}

impl Reservation {
    /// The upstream may get to see the request from now on.
    pub fn begin(&mut self) {
        self.at_least = self.held;
    }

    /// Hears what the request has cost so far, and says whether the budget is overdrawn by now.
    pub fn observe(&mut self, credits: u64) -> bool {
        let credits = credits.min(MAX_COST);
        let shared = Arc::clone(&self.shared);
        let mut book = shared.book();
        if credits > self.held {
            self.held = credits;
            self.at_least = credits;
            shared.enter(&mut book, LedgerEntry::Raise { id: self.id, credits }, None);
        }
        book.is_over(&self.tenant, self.budget, self.day)
    }

    /// Says what the request has cost in the end. What was reserved beyond that is given back; what
    /// it cost beyond is taken as well.
    pub fn settle(mut self, credits: u64) {
        self.at_least = credits.min(MAX_COST);
    }

    /// Gives everything back: the upstream has never got the request.
    pub fn refund(self) {
        self.settle(0);
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        let mut book = self.shared.book();
        self.shared.enter(&mut book, LedgerEntry::Settle { id: self.id, credits: self.at_least }, None);
    }
}

/// Writes what is entered, all that waits at once, until nobody can enter anything more.
fn serve(mut file: LedgerFile, mut requests: mpsc::UnboundedReceiver<Request>) {
    let mut group = Vec::new();
    while requests.blocking_recv_many(&mut group, GROUP) > 0 {
        let entries: Vec<&LedgerEntry> = group.iter().map(|request| &request.entry).collect();
        let result = file.append(&entries);
        for reply in group.drain(..).filter_map(|request| request.reply) {
            // Who no longer waits need not know.
            let _ = reply.send(result.clone());
        }
    }
}

#[cfg(test)]
mod tests;
