//! Places for the connections of clients. Where none is left, the connection that has had no request in hand for longest
//! makes place for a new one.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    sync::{Notify, OwnedSemaphorePermit, Semaphore},
    time::timeout,
};

/// How long to wait for a place until another connection is looked for that can be closed.
const WAIT: Duration = Duration::from_millis(100);

/// So many connections at once.
#[derive(Debug)]
pub struct Places {
    free: Arc<Semaphore>,
    idle: Mutex<Idle>,
}

/// Connections that have no request in hand, in the order in which that began.
#[derive(Debug, Default)]
struct Idle {
    of: BTreeMap<u64, Arc<Notify>>,
    next: u64,
}

impl Idle {
    fn add(&mut self, called_back: &Arc<Notify>) -> u64 {
        let number = self.next;
        self.next += 1;
        self.of.insert(number, Arc::clone(called_back));
        number
    }
}

/// A connection's place. It is free again when this is dropped.
#[derive(Debug)]
pub struct Place {
    places: Arc<Places>,
    called_back: Arc<Notify>,
    state: Mutex<State>,
    _permit: OwnedSemaphorePermit,
}

#[derive(Debug)]
struct State {
    in_hand: u32,
    /// Its number among those that have no request in hand, while it has none.
    idle: u64,
}

/// A request in hand on a connection, until this is dropped. So long the connection keeps its place.
#[derive(Debug)]
pub struct InHand(Arc<Place>);

impl Places {
    /// So many.
    pub fn new(most: u32) -> Arc<Self> {
        Arc::new(Self { free: Arc::new(Semaphore::new(most as usize)), idle: Mutex::default() })
    }

    fn idle(&self) -> MutexGuard<'_, Idle> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A place for a new connection, once there is one. `calls_back` is called for each connection that is to be closed for it.
    /// `None` where there will be none.
    pub async fn enter(self: &Arc<Self>, calls_back: impl Fn()) -> Option<Arc<Place>> {
        let mut permit = Arc::clone(&self.free).try_acquire_owned().ok();
        while permit.is_none() {
            if let Some((_, oldest)) = self.idle().of.pop_first() {
                oldest.notify_one();
                calls_back();
            }
            if let Ok(acquired) = timeout(WAIT, Arc::clone(&self.free).acquire_owned()).await {
                permit = Some(acquired.ok()?);
            }
        }
        let called_back = Arc::new(Notify::new());
        let idle = self.idle().add(&called_back);
        let state = Mutex::new(State { in_hand: 0, idle });
        Some(Arc::new(Place { places: Arc::clone(self), called_back, state, _permit: permit? }))
    }
}

impl Place {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends when the connection is to be closed for another one.
    pub async fn called_back(&self) {
        self.called_back.notified().await;
    }

    /// A request that is in hand from now on.
    pub fn begin(self: &Arc<Self>) -> InHand {
        let mut state = self.state();
        if state.in_hand == 0 {
            self.places.idle().of.remove(&state.idle);
        }
        state.in_hand += 1;
        InHand(Arc::clone(self))
    }
}

impl Drop for InHand {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.in_hand -= 1;
        if state.in_hand == 0 {
            state.idle = self.0.places.idle().add(&self.0.called_back);
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let idle = self.state().idle;
        self.places.idle().of.remove(&idle);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use futures_util::FutureExt;

    use super::*;

    fn run(test: impl Future<Output = ()>) {
        tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(test);
    }

    #[test]
    fn a_new_connection_takes_the_place_of_who_has_asked_nothing_for_longest() {
        run(async {
            let (places, closed) = (Places::new(3), AtomicU32::new(0));
            let calls_back = || {
                closed.fetch_add(1, Ordering::Relaxed);
            };
            let enter = || places.enter(calls_back);
            let mut held = Vec::new();
            for _ in 0..3 {
                held.push(enter().await.unwrap());
            }
            let is_called = |place: &Arc<Place>| place.called_back().now_or_never().is_some();
            // The first asks, the second has asked, the third has never.
            let first = held[0].begin();
            drop(held[1].begin());
            assert!(timeout(WAIT / 2, enter()).await.is_err(), "whoever is called back ends by itself");
            assert_eq!(held.iter().map(is_called).collect::<Vec<_>>(), [false, false, true]);
            held.truncate(2);
            let third = enter().await.unwrap();
            assert_eq!(closed.load(Ordering::Relaxed), 1);
            assert!(timeout(WAIT / 2, enter()).await.is_err());
            assert_eq!(held.iter().map(is_called).collect::<Vec<_>>(), [false, true]);
            // Who asks keeps its place, and is waited for.
            let second = third.begin();
            held.truncate(1);
            let fourth = enter().await.unwrap().begin();
            assert!(timeout(3 * WAIT, enter()).await.is_err());
            drop(fourth);
            assert!(enter().await.is_some());
            drop((first, second));
        });
    }
}
