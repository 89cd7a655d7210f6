//! What a tenant uses of the gateway, and how much is too much.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

use super::Client;

/// What a tenant uses now.
#[derive(Debug, Default)]
pub struct Load {
    connections: AtomicU32,
    /// Bytes in both directions.
    pub(super) bandwidth: Bucket,
    /// Names that a resolver is asked for.
    pub(super) lookups: Bucket,
    /// Questions to the name server inside.
    pub(super) questions: Bucket,
}

impl Load {
    /// How many connections it has.
    pub(super) fn connections(&self) -> u32 {
        self.connections.load(Ordering::Relaxed)
    }
}

/// A bucket of tokens that fills at a rate and holds those of one second.
#[derive(Debug, Default)]
pub struct Bucket(Mutex<Option<Level>>);

#[derive(Debug)]
struct Level {
    tokens: f64,
    at: Instant,
}

impl Bucket {
    /// Takes one token, if there is one.
    pub fn try_take(&self, per_second: u32) -> bool {
        let rate = f64::from(per_second);
        self.with(rate, |tokens| {
            let is_enough = *tokens >= 1.0;
            if is_enough {
                *tokens -= 1.0;
            }
            is_enough
        })
    }

    /// Takes what was used already, and says how long to wait until that was not too much.
    pub fn spend(&self, amount: u64, per_second: u64) -> Duration {
        let precise = |number: u64| number as f64;
        let rate = precise(per_second).max(1.0);
        self.with(rate, |tokens| {
            *tokens -= precise(amount);
            Duration::try_from_secs_f64((-*tokens / rate).max(0.0)).unwrap_or(Duration::MAX)
        })
    }

    fn with<T>(&self, rate: f64, work: impl FnOnce(&mut f64) -> T) -> T {
        let mut level = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let level = level.get_or_insert(Level { tokens: rate, at: now });
        let filled = level.tokens + now.duration_since(level.at).as_secs_f64() * rate;
        *level = Level { tokens: filled.min(rate), at: now };
        work(&mut level.tokens)
    }
}

/// All connections of the gateway, and how many there may be.
#[derive(Debug)]
pub struct Connections {
    all: Arc<AtomicU32>,
    most: u32,
}

/// A connection's place; it is free again when this is dropped.
#[derive(Debug)]
pub struct Place {
    client: Arc<Client>,
    all: Arc<AtomicU32>,
}

/// Descriptors that are not connections': listeners, files, look-ups, the control socket.
const SPARE_DESCRIPTORS: u64 = 256;

impl Connections {
    /// As many as the process may have descriptors for: each connection has one on either side.
    pub fn new(descriptors: u64) -> Self {
        let most = descriptors.saturating_sub(SPARE_DESCRIPTORS.min(descriptors / 2)) / 2;
        Self { all: Arc::default(), most: u32::try_from(most).unwrap_or(u32::MAX).max(1) }
    }

    /// How many there are.
    pub fn now(&self) -> u32 {
        self.all.load(Ordering::Relaxed)
    }

    /// How many there may be.
    pub fn most(&self) -> u32 {
        self.most
    }

    /// A place for one more of a tenant, which may have `limit` of them.
    ///
    /// Where three quarters of all are taken, nobody gets more than an equal share of all `tenants`, so
    /// that the last quarter is there for who has few.
    pub fn enter(&self, client: &Arc<Client>, limit: u32, tenants: usize) -> Option<Place> {
        let tenants = u32::try_from(tenants).unwrap_or(u32::MAX).max(1);
        let is_tight = self.now() >= self.most - self.most / 4;
        let limit = if is_tight { limit.min((self.most / tenants).max(1)) } else { limit };
        let mine = &client.load.connections;
        add_below(&self.all, self.most)?;
        if add_below(mine, limit).is_none() {
            self.all.fetch_sub(1, Ordering::Relaxed);
            return None;
        }
        Some(Place { client: Arc::clone(client), all: Arc::clone(&self.all) })
    }
}

fn add_below(counter: &AtomicU32, limit: u32) -> Option<u32> {
    counter.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |now| (now < limit).then_some(now + 1)).ok()
}

impl Drop for Place {
    fn drop(&mut self) {
        self.client.load.connections.fetch_sub(1, Ordering::Relaxed);
        self.all.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::watch;

    use super::*;
    use crate::{
        gateway::InForce,
        model::{EgressPolicy, egress::POLICY_VERSION},
    };

    fn client(name: &str) -> Arc<Client> {
        let policy = EgressPolicy {
            v: POLICY_VERSION,
            tenant: name.parse().unwrap(),
            subnet: "10.77.0.0/28".parse().unwrap(),
            allow: Default::default(),
            routes: Vec::new(),
            budget: Default::default(),
        };
        let in_force = Arc::new(InForce { policy, secrets: Default::default() });
        Arc::new(Client::new(name.parse().unwrap(), watch::channel(in_force).1))
    }

    #[test]
    fn a_bucket_lets_a_seconds_worth_through_and_then_waits() {
        let bucket = Bucket::default();
        assert_eq!((0..20).filter(|_| bucket.try_take(10)).count(), 10);
        let bucket = Bucket::default();
        assert_eq!(bucket.spend(1000, 1000), Duration::ZERO);
        let wait = bucket.spend(500, 1000);
        assert!(wait > Duration::from_millis(400) && wait <= Duration::from_millis(500), "{wait:?}");
    }

    #[test]
    fn nobody_takes_the_last_places_of_others() {
        let connections = Connections::new(2 * 1000 + SPARE_DESCRIPTORS);
        let (greedy, modest) = (client("greedy"), client("modest"));
        let held: Vec<_> = std::iter::from_fn(|| connections.enter(&greedy, 2000, 4)).collect();
        assert_eq!(held.len(), 750);
        let others: Vec<_> = std::iter::from_fn(|| connections.enter(&modest, 2000, 4)).collect();
        assert_eq!(others.len(), 250);
        drop((held, others));
        assert_eq!((connections.now(), greedy.load.connections()), (0, 0));
        assert_eq!(std::iter::from_fn(|| connections.enter(&modest, 3, 4)).collect::<Vec<_>>().len(), 3);
    }
}
