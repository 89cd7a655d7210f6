//! Reads the commits of a history on threads of their own, ahead of whoever follows it one by one.

use std::{
    collections::BTreeMap,
    sync::{
        Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
    thread,
};

use git2::{Oid, Repository};

use super::reader::{Difference, Make, Reader};

/// How many commits in a row one thread reads: each is compared with the one that it has read before.
const ROW: usize = 32;

/// How many rows are read ahead at most.
const AHEAD: usize = 16;

/// The most threads.
const THREADS: usize = 4;

/// About how many bytes may wait to be taken. What is beyond is read by who takes it.
const MAX_WAITING: usize = 32 << 20;

/// What is to be read: the top folders of commits, each with that of the one that it is compared with.
pub(super) type Pair = (Oid, Option<Oid>);

/// Reads commits in their order, and gives each to `take`; `None` where it was not read.
///
/// `open` opens the repository once more, for a thread of its own. `make` is called on those threads.
///
/// # Errors
/// Those of `take`, whose first one ends it.
pub(super) fn each<T: Send + Sync, E>(
    pairs: &[Pair],
    below: &str,
    open: impl Fn() -> Option<Repository>,
    make: Option<Make<'_, T>>,
    mut take: impl FnMut(Option<Difference<T>>) -> Result<(), E>,
) -> Result<(), E> {
    let threads = thread::available_parallelism().map_or(1, usize::from).min(THREADS).min(pairs.len() / ROW + 1);
    let shared = Shared::default();
    let (sender, receiver) = mpsc::channel();
    thread::scope(|scope| {
        let _ending = Ending(&shared);
        for repository in (0..threads).map_while(|_| open()) {
            let (sender, shared) = (sender.clone(), &shared);
            scope.spawn(move || {
                let Ok(objects) = repository.odb() else { return };
                let mut reader = Reader::new(objects, below);
                while let Some(row) = shared.next_row(pairs.len()) {
                    let pairs = pairs.get(row * ROW..).unwrap_or_default().iter().take(ROW);
                    let read = |&(commit, before): &Pair| shared.load(reader.difference(commit, before, make).ok()??);
                    let read: Vec<_> = pairs.map(read).collect();
                    if sender.send((row, read)).is_err() {
                        return;
                    }
                }
            });
        }
        drop(sender);
        let mut arrived = BTreeMap::new();
        for row in 0..pairs.len().div_ceil(ROW) {
            let read = loop {
                match arrived.remove(&row) {
                    Some(read) => break read,
                    None => match receiver.recv() {
                        Ok((row, read)) => drop(arrived.insert(row, read)),
                        // No thread could be begun.
                        Err(mpsc::RecvError) => break Vec::new(),
                    },
                }
            };
            let mut read = read.into_iter();
            for _ in row * ROW..pairs.len().min((row + 1) * ROW) {
                let difference = read.next().flatten();
                shared.unload(difference.as_ref());
                take(difference)?;
            }
            shared.done();
        }
        Ok(())
    })
}

/// What the threads know of one another.
#[derive(Default)]
struct Shared {
    rows: Mutex<Rows>,
    moved: Condvar,
    waiting: AtomicUsize,
}

#[derive(Default)]
struct Rows {
    next: usize,
    done: usize,
    is_ended: bool,
}

impl Shared {
    /// The next row to read, once it is not too far ahead.
    fn next_row(&self, commits: usize) -> Option<usize> {
        let mut rows = self.rows();
        while rows.next >= rows.done + AHEAD && !rows.is_ended {
            rows = self.moved.wait(rows).unwrap_or_else(PoisonError::into_inner);
        }
        let row = rows.next;
        rows.next += 1;
        (!rows.is_ended && row * ROW < commits).then_some(row)
    }

    fn done(&self) {
        self.rows().done += 1;
        self.moved.notify_all();
    }

    /// Takes in what was read, or as much of it as there is room for.
    fn load<T>(&self, mut difference: Difference<T>) -> Option<Difference<T>> {
        let has_room =
            |difference: &Difference<T>| self.waiting.load(Ordering::Relaxed) + difference.weight() <= MAX_WAITING;
        if !has_room(&difference) {
            difference.files = None;
        }
        if !has_room(&difference) {
            return None;
        }
        self.waiting.fetch_add(difference.weight(), Ordering::Relaxed);
        Some(difference)
    }

    fn unload<T>(&self, difference: Option<&Difference<T>>) {
        self.waiting.fetch_sub(difference.map_or(0, Difference::weight), Ordering::Relaxed);
    }

    fn rows(&self) -> MutexGuard<'_, Rows> {
        self.rows.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Lets the threads end, whatever ends who takes what they read.
struct Ending<'s>(&'s Shared);

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        self.0.rows().is_ended = true;
        self.0.moved.notify_all();
    }
}
