//! What a tenant uses of the gateway, and how much is too much.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use prometheus_client::metrics::counter::Counter;
use tokio::sync::Notify;

use super::{
    buffers::{HTTP, INSIDE},
    share::{Admission, Shares},
};
use crate::model::TenantName;

/// How fast a tenant uses what is bounded in time.
#[derive(Debug, Default)]
pub struct Load {
    /// Bytes in both directions.
    pub(crate) bandwidth: Bucket,
    /// Names that a resolver is asked for.
    pub(crate) lookups: Bucket,
    /// Questions to the name server inside.
    pub(crate) questions: Bucket,
    /// Questions beyond those that are answered that they are too many.
    pub(crate) too_many: Bucket,
    /// How many questions got no answer at all.
    pub(crate) dropped: Counter,
    /// How many connections ended because of what waited.
    pub(crate) stalled: Counter,
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

/// What all tenants share, each kind by `Shares`.
#[derive(Debug)]
pub struct Pools {
    /// Connections of tenants.
    pub(crate) connections: Connections,
    /// Bytes that wait in memory: beginnings of requests and of bodies, and what somebody does not take.
    pub(crate) memory: Arc<Pool>,
    /// Names that resolvers are asked for at this moment.
    pub(crate) lookups: Arc<Pool>,
    /// Addresses that are tried while another of the same name is: each has a socket beside its connection's own.
    pub(crate) attempts: Arc<Pool>,
    /// Connections to upstreams that are kept for the next request.
    pub(crate) kept: Arc<Pool>,
    descriptors: u64,
}

/// Descriptors that are nobody's: the control socket, files, listeners of ports.
const SPARE_DESCRIPTORS: u64 = 256;

/// The most look-ups at once, the most attempts to connect beside the first, and the most connections that are kept.
const LOOKUPS: u64 = 1024;
const ATTEMPTS: u64 = 1024;
const KEPT: u64 = 1024;

/// How many bytes may wait in memory for all tenants together, the kernel's buffers of those who do not
/// read included: a third of what the gateway's unit may use before the kernel slows it down.
const MEMORY: u64 = 256 << 20;

/// What a connection needs that speaks HTTP and whose client is slow: the least that a tenant must have.
const CONNECTION: u64 = HTTP + INSIDE;

impl Pools {
    /// As much as the process may have descriptors for: each connection has one on either side.
    pub fn new(descriptors: u64) -> Self {
        let part = |most: u64| Arc::new(Pool::new(most.min(descriptors / 8).max(1), 1));
        let pools = Self {
            connections: Connections::default(),
            memory: Arc::new(Pool::new(MEMORY, CONNECTION)),
            lookups: part(LOOKUPS),
            attempts: part(ATTEMPTS),
            kept: part(KEPT),
            descriptors,
        };
        pools.serve(&BTreeSet::new());
        pools
    }

    /// These tenants are served from now on: each has its part of everything.
    pub fn serve(&self, tenants: &BTreeSet<TenantName>) {
        for pool in [&self.memory, &self.lookups, &self.attempts, &self.kept] {
            let mut shares = pool.shares();
            let total = shares.total();
            shares.serve(total, tenants.iter().cloned());
        }
        self.connections.open().shares.serve(self.most_connections(tenants.len() as u64), tenants.iter().cloned());
    }

    /// What is left for connections. Each tenant has a socket for its questions.
    fn most_connections(&self, tenants: u64) -> u64 {
        let pools = [&self.lookups, &self.attempts, &self.kept].map(|pool| pool.total());
        let others = SPARE_DESCRIPTORS + pools.into_iter().sum::<u64>() + tenants;
        (self.descriptors.saturating_sub(others.min(self.descriptors / 2)) / 2).max(1)
    }
}

/// So much of something, shared by all tenants.
#[derive(Debug)]
pub struct Pool(Mutex<Shares<TenantName>>);

/// What a tenant has of a pool; it is given back when this is dropped.
#[derive(Debug)]
pub struct Lease {
    pool: Arc<Pool>,
    tenant: TenantName,
    amount: u64,
}

impl Pool {
    fn new(total: u64, unit: u64) -> Self {
        Self(Mutex::new(Shares::new(total, unit)))
    }

    fn shares(&self) -> MutexGuard<'_, Shares<TenantName>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn total(&self) -> u64 {
        self.shares().total()
    }

    /// What a tenant has of it now.
    pub(crate) fn of(&self, tenant: &TenantName) -> u64 {
        self.shares().of(tenant)
    }

    /// Whether a tenant has more of it than is its own part.
    pub(super) fn is_beyond_part(&self, tenant: &TenantName) -> bool {
        self.shares().is_beyond_part(tenant)
    }

    /// So much for a tenant, if that takes nothing from another's part. What is another's and lent cannot
    /// be called back here: it is there again when whoever has it is done.
    pub fn take(self: &Arc<Self>, tenant: &TenantName, amount: u64) -> Option<Lease> {
        let admission = self.shares().take(tenant, amount);
        let is_given = admission == Admission::Given;
        is_given.then(|| Lease { pool: Arc::clone(self), tenant: tenant.clone(), amount })
    }
}

impl Lease {
    /// Has so much from now on. False where that is more, and not to be had.
    pub fn resize(&mut self, amount: u64) -> bool {
        let mut shares = self.pool.shares();
        if let Some(more) = amount.checked_sub(self.amount) {
            if shares.take(&self.tenant, more) != Admission::Given {
                return false;
            }
        } else {
            shares.give_back(&self.tenant, self.amount - amount);
        }
        self.amount = amount;
        true
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.pool.shares().give_back(&self.tenant, self.amount);
    }
}

/// The connections of all tenants.
#[derive(Debug, Default)]
pub struct Connections(Arc<Mutex<Open>>);

#[derive(Debug)]
struct Open {
    shares: Shares<TenantName>,
    /// Each place, by its tenant and the order in which they were taken, and what calls it back.
    places: BTreeMap<(TenantName, u64), Arc<Notify>>,
    next: u64,
}

impl Default for Open {
    fn default() -> Self {
        Self { shares: Shares::new(0, 1), places: BTreeMap::new(), next: 0 }
    }
}

/// A connection's place; it is free again when this is dropped.
#[derive(Debug)]
pub struct ConnectionSlot {
    connections: Arc<Mutex<Open>>,
    key: (TenantName, u64),
    called_back: Arc<Notify>,
}

impl Connections {
    fn open(&self) -> MutexGuard<'_, Open> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many there may be.
    pub fn most(&self) -> u64 {
        self.open().shares.total()
    }

    /// How many a tenant has.
    pub fn of(&self, tenant: &TenantName) -> u64 {
        self.open().shares.of(tenant)
    }

    /// A place for one more of a tenant, which may have `limit` of them.
    ///
    /// A tenant gets what is its own part in any case: where that is lent to others because there were fewer
    /// tenants before, the newest place of whoever has most beyond its own is called back.
    pub fn enter(&self, tenant: &TenantName, limit: u32) -> Option<ConnectionSlot> {
        let mut open = self.open();
        if open.shares.of(tenant) >= limit.into() {
            return None;
        }
        while match open.shares.take(tenant, 1) {
            Admission::Given => false,
            Admission::Refused => return None,
            Admission::Lent => true,
        } {
            open.call_back()?;
        }
        let key = (tenant.clone(), open.next);
        open.next += 1;
        let called_back = Arc::new(Notify::new());
        open.places.insert(key.clone(), Arc::clone(&called_back));
        Some(ConnectionSlot { connections: Arc::clone(&self.0), key, called_back })
    }
}

impl Open {
    /// Frees a place that was lent.
    fn call_back(&mut self) -> Option<()> {
        let debtor = self.shares.debtor()?.clone();
        let newest = self.places.range((debtor.clone(), 0)..=(debtor, u64::MAX)).next_back();
        let key = newest.map(|(key, _)| key.clone())?;
        self.places.remove(&key)?.notify_one();
        self.shares.give_back(&key.0, 1);
        Some(())
    }
}

impl ConnectionSlot {
    /// Ends when the connection must end, because another tenant needs the place.
    pub async fn called_back(&self) {
        self.called_back.notified().await;
    }
}

impl Drop for ConnectionSlot {
    fn drop(&mut self) {
        let mut open = self.connections.lock().unwrap_or_else(PoisonError::into_inner);
        // One that was called back is another's already.
        if open.places.remove(&self.key).is_some() {
            open.shares.give_back(&self.key.0, 1);
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    fn name(name: &str) -> TenantName {
        name.parse().unwrap()
    }

    fn pools(connections: u64, tenants: &[&str]) -> Pools {
        let others = SPARE_DESCRIPTORS + LOOKUPS + ATTEMPTS + KEPT + tenants.len() as u64;
        let pools = Pools::new(2 * connections + others);
        pools.serve(&tenants.iter().copied().map(name).collect());
        pools
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
    fn nobody_takes_the_places_of_others() {
        let pools = pools(4800, &["greedy", "second", "modest"]);
        let connections = &pools.connections;
        assert_eq!(connections.most(), 4800);
        let all_of = |who: &str| -> Vec<ConnectionSlot> {
            std::iter::from_fn(|| connections.enter(&name(who), 100_000)).collect()
        };
        let held = [all_of("greedy"), all_of("second")];
        assert_eq!(held.iter().map(Vec::len).collect::<Vec<_>>(), [3200, 800]);
        let others = all_of("modest");
        assert_eq!((others.len(), connections.of(&name("modest"))), (800, 800));
        drop((held, others));
        assert_eq!((connections.of(&name("greedy")), connections.open().shares.used()), (0, 0));
        assert_eq!(std::iter::from_fn(|| connections.enter(&name("modest"), 3)).collect::<Vec<_>>().len(), 3);
    }

    #[test]
    fn what_was_lent_is_called_back_for_who_comes() {
        let pools = pools(4800, &["greedy"]);
        let connections = &pools.connections;
        let held: Vec<ConnectionSlot> = std::iter::from_fn(|| connections.enter(&name("greedy"), 100_000)).collect();
        assert_eq!(held.len(), 4800);
        pools.serve(&["greedy", "comes"].into_iter().map(name).collect());
        let theirs: Vec<ConnectionSlot> = std::iter::from_fn(|| connections.enter(&name("comes"), 100_000)).collect();
        let most = connections.most() as usize;
        assert_eq!(theirs.len(), most / 4);
        // The newest ones end.
        let ended: Vec<bool> = held.iter().map(|place| place.called_back().now_or_never().is_some()).collect();
        assert!(ended.is_sorted());
        assert_eq!(ended.iter().filter(|has_ended| **has_ended).count(), 4800 - most + most / 4);
        assert_eq!(connections.of(&name("greedy")) as usize + theirs.len(), most);
        // What was called back is not given back twice.
        drop(held);
        assert_eq!((connections.of(&name("greedy")), connections.open().shares.used() as usize), (0, theirs.len()));
    }

    #[test]
    fn what_is_reserved_grows_and_shrinks_with_its_lease() {
        let pools = pools(4800, &["ant", "bee"]);
        let memory = &pools.memory;
        let mut lease = memory.take(&name("ant"), 1000).unwrap();
        assert!(lease.resize(MEMORY / 4 * 3) && !lease.resize(MEMORY / 4 * 3 + 1));
        assert_eq!(memory.of(&name("ant")), MEMORY / 4 * 3);
        assert!(memory.take(&name("ant"), 1).is_none() && memory.take(&name("bee"), MEMORY / 4).is_some());
        assert!(lease.resize(10));
        assert_eq!(memory.of(&name("ant")), 10);
        drop(lease);
        assert_eq!(memory.of(&name("ant")), 0);
    }

    #[test]
    fn each_of_many_tenants_has_a_connection_and_a_look_up_whatever_the_others_take() {
        for count in [3, 455, 512, 600, 900, 910] {
            let names: Vec<TenantName> = (0..count).map(|number| name(&format!("t{number}"))).collect();
            let pools = pools(4800, &[]);
            pools.serve(&names.iter().cloned().collect());
            let (greedy, modest) = names.split_at(2);
            let all_of = |pool: &Arc<Pool>, amount| -> Vec<Lease> {
                greedy.iter().flat_map(|who| std::iter::from_fn(move || pool.take(who, amount))).collect()
            };
            let _taken = [all_of(&pools.memory, HTTP), all_of(&pools.lookups, 1)];
            let _leases: Vec<[Lease; 2]> = modest
                .iter()
                .map(|who| {
                    let mut memory = pools.memory.take(who, HTTP).unwrap();
                    assert!(memory.resize(CONNECTION), "{who} of {count}");
                    [memory, pools.lookups.take(who, 1).unwrap()]
                })
                .collect();
        }
    }

    #[test]
    fn a_few_of_too_many_tenants_take_no_more_than_half_of_what_is_lent() {
        let names: Vec<TenantName> = (0..2000).map(|number| name(&format!("t{number}"))).collect();
        let pools = pools(4800, &[]);
        pools.serve(&names.iter().cloned().collect());
        let (greedy, others) = names.split_at(20);
        let taken: Vec<Lease> =
            greedy.iter().flat_map(|who| std::iter::from_fn(|| pools.lookups.take(who, 1))).collect();
        assert!(taken.len() <= 512 + greedy.len(), "{}", taken.len());
        let given = others.iter().filter_map(|who| pools.lookups.take(who, 1)).collect::<Vec<_>>();
        assert_eq!(taken.len() + given.len(), 1024);
        assert!(given.len() >= 490, "{}", given.len());
    }

    #[test]
    fn few_descriptors_are_enough_for_a_connection() {
        for descriptors in [0, 1, 16, 128, 1024] {
            let pools = Pools::new(descriptors);
            let most = pools.connections.most();
            assert!(most >= 1 && 2 * most <= descriptors.max(2), "{descriptors}");
        }
    }
}
