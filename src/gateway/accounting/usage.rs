//! What each tenant sends and receives, by destination, day by day.
//!
//! Counts are kept in memory and written to files of the gateway's own every few seconds: a kill loses
//! the counts of those seconds. Credits are the ledger's, which loses none.

mod count;
mod store;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use jiff::Timestamp;

use super::ledger::day;
use crate::model::TenantName;

pub use count::{Count, Days};
pub use store::{UsageError, counted_since, read};

/// How often changed counts are written, and so how much of them a kill loses.
pub const WRITTEN_EVERY: Duration = Duration::from_secs(5);

/// How many months are kept, counted from the one in hand.
const MONTHS: usize = 13;

/// Where the counts lie in the gateway's folder.
pub fn folder(state: &Path) -> PathBuf {
    state.join("usage")
}

/// Counts for all tenants. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct Usage {
    counts: Arc<Mutex<ByTenant>>,
}

/// The counts of each tenant, by destination.
type ByTenant = BTreeMap<TenantName, BTreeMap<String, Arc<Counts>>>;

/// What goes to one destination of one tenant, since it was last written.
#[derive(Debug, Default)]
struct Counts {
    requests: AtomicU64,
    sent: AtomicU64,
    received: AtomicU64,
    millis: AtomicU64,
    /// In milliseconds since 1970.
    last: AtomicU64,
    /// What was there before this process, and what of its own was written.
    before: Mutex<Count>,
}

/// What is about to be written.
struct Taken {
    destination: String,
    counts: Arc<Counts>,
    count: Count,
}

/// One connection or request; it ends when this is dropped.
#[derive(Debug)]
pub struct Use {
    counts: Arc<Counts>,
    begun: Instant,
}

impl Usage {
    /// Goes on with the counts in a folder, which is made where there is none. It blocks.
    ///
    /// # Errors
    /// The folder or a file in it cannot be read or made.
    pub fn open(folder: &Path) -> Result<Self, UsageError> {
        store::begin(folder, Timestamp::now())?;
        let usage = Self::default();
        for (tenant, days) in read(folder)? {
            for (destination, count) in days.into_values().flatten() {
                usage.counts(&tenant, &destination).before().add(&count);
            }
        }
        Ok(usage)
    }

    /// Begins to count one more. `destination` is the entry of the allowlist that let it through, or
    /// `route:NAME`: what a tenant makes up must not grow the table.
    pub fn begin(&self, tenant: &TenantName, destination: &str) -> Use {
        let counts = self.counts(tenant, destination);
        counts.requests.fetch_add(1, Ordering::Relaxed);
        counts.used();
        Use { counts, begun: Instant::now() }
    }

    fn counts(&self, tenant: &TenantName, destination: &str) -> Arc<Counts> {
        let mut all = self.all();
        let tenant = match all.get_mut(tenant) {
            Some(counts) => counts,
            None => all.entry(tenant.clone()).or_default(),
        };
        match tenant.get(destination) {
            Some(counts) => Arc::clone(counts),
            None => Arc::clone(tenant.entry(destination.to_owned()).or_default()),
        }
    }

    fn all(&self) -> MutexGuard<'_, ByTenant> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes what was counted since the last time, to the day that it is now. It blocks, and is called by
    /// one at a time.
    ///
    /// # Errors
    /// A file cannot be read or written; its counts are kept for the next time.
    pub fn write(&self, folder: &Path, now: Timestamp) -> Result<(), UsageError> {
        let mut result = Ok(());
        for (tenant, counts) in self.taken() {
            let fresh = counts.iter().map(|taken| (taken.destination.clone(), taken.count)).collect();
            match store::add(folder, &tenant, day(now), &fresh, MONTHS) {
                Ok(()) => counts.iter().for_each(|taken| taken.counts.written(&taken.count)),
                Err(error) => result = Err(error),
            }
        }
        result
    }

    /// What of each tenant was counted and not written.
    fn taken(&self) -> Vec<(TenantName, Vec<Taken>)> {
        let all = self.all();
        let tenants = all.iter().map(|(tenant, destinations)| {
            let changed = destinations.iter().filter_map(|(destination, counts)| {
                let count = counts.fresh();
                let is_new = count.requests > 0 || count.sent > 0 || count.received > 0 || count.millis > 0;
                is_new.then(|| Taken { destination: destination.clone(), counts: Arc::clone(counts), count })
            });
            (tenant.clone(), changed.collect::<Vec<_>>())
        });
        tenants.filter(|(_, changed)| !changed.is_empty()).collect()
    }

    /// Everything that is known, by tenant and destination.
    pub fn totals(&self) -> BTreeMap<(TenantName, String), Count> {
        let all = self.all();
        let each = all.iter().flat_map(|(tenant, destinations)| {
            let of_tenant = |(destination, counts): (&String, &Arc<Counts>)| {
                ((tenant.clone(), destination.clone()), counts.total())
            };
            destinations.iter().map(of_tenant)
        });
        each.collect()
    }
}

impl Counts {
    fn before(&self) -> MutexGuard<'_, Count> {
        self.before.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn used(&self) {
        let now = u64::try_from(Timestamp::now().as_millisecond()).unwrap_or_default();
        self.last.fetch_max(now, Ordering::Relaxed);
    }

    /// What was counted and not written.
    fn fresh(&self) -> Count {
        let last = i64::try_from(self.last.load(Ordering::Relaxed)).unwrap_or_default();
        Count {
            requests: self.requests.load(Ordering::Relaxed),
            sent: self.sent.load(Ordering::Relaxed),
            received: self.received.load(Ordering::Relaxed),
            millis: self.millis.load(Ordering::Relaxed),
            last: (last > 0).then(|| Timestamp::from_millisecond(last).unwrap_or_default()),
        }
    }

    /// Moves what was written to what was there before.
    fn written(&self, count: &Count) {
        let mut before = self.before();
        before.add(count);
        self.requests.fetch_sub(count.requests, Ordering::Relaxed);
        self.sent.fetch_sub(count.sent, Ordering::Relaxed);
        self.received.fetch_sub(count.received, Ordering::Relaxed);
        self.millis.fetch_sub(count.millis, Ordering::Relaxed);
    }

    fn total(&self) -> Count {
        let mut total = *self.before();
        total.add(&self.fresh());
        total
    }
}

impl Use {
    /// Adds bytes towards the destination.
    pub fn sent(&self, bytes: u64) {
        self.counts.sent.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Adds bytes from it.
    pub fn received(&self, bytes: u64) {
        self.counts.received.fetch_add(bytes, Ordering::Relaxed);
    }
}

impl Drop for Use {
    fn drop(&mut self) {
        let millis = u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.counts.millis.fetch_add(millis, Ordering::Relaxed);
        self.counts.used();
    }
}

#[cfg(test)]
mod tests {
    use std::error::Error;

    use super::*;

    #[test]
    fn counts_go_on_after_a_restart_and_are_told_apart_by_day() -> Result<(), Box<dyn Error>> {
        let folder = tempfile::tempdir()?;
        let ant: TenantName = "ant".parse()?;
        let time = |text: &str| text.parse::<Timestamp>();
        let usage = Usage::open(folder.path())?;
        for (bytes, at) in [(10, "2026-05-31T23:59:59Z"), (5, "2026-06-01T00:00:00Z"), (1, "2026-06-01T00:00:01Z")] {
            let one = usage.begin(&ant, "api.example.com:443");
            one.sent(bytes);
            one.received(2 * bytes);
            drop(one);
            usage.write(folder.path(), time(at)?)?;
            usage.write(folder.path(), time(at)?)?;
        }
        let days = read(folder.path())?.remove(&ant).ok_or("no tenant")?;
        let of = |date: &str| -> Result<(u64, u64, u64), Box<dyn Error>> {
            let count = days.get(&date.parse()?).and_then(|day| day.get("api.example.com:443")).ok_or("no day")?;
            Ok((count.requests, count.sent, count.received))
        };
        assert_eq!((of("2026-05-31")?, of("2026-06-01")?), ((1, 10, 20), (2, 6, 12)));
        let again = Usage::open(folder.path())?;
        again.begin(&ant, "api.example.com:443").sent(4);
        let totals = again.totals();
        let total = totals.get(&(ant, "api.example.com:443".to_owned())).ok_or("no total")?;
        assert_eq!((total.requests, total.sent, total.received), (4, 20, 32));
        Ok(())
    }

    #[test]
    fn half_a_file_of_a_killed_gateway_counts_for_nothing() -> Result<(), Box<dyn Error>> {
        let folder = tempfile::tempdir()?;
        let ant: TenantName = "ant".parse()?;
        let usage = Usage::open(folder.path())?;
        usage.begin(&ant, "route:crm").sent(7);
        usage.write(folder.path(), "2026-06-01T00:00:00Z".parse()?)?;
        std::fs::write(folder.path().join("ant/2026-06.json.new"), "{\"2026-0")?;
        let again = Usage::open(folder.path())?;
        let total = again.totals().remove(&(ant, "route:crm".to_owned())).ok_or("no total")?;
        assert_eq!(total.sent, 7);
        Ok(())
    }

    #[test]
    fn no_more_than_thirteen_months_are_kept() -> Result<(), Box<dyn Error>> {
        let folder = tempfile::tempdir()?;
        let ant: TenantName = "ant".parse()?;
        let usage = Usage::open(folder.path())?;
        for month in 0..20 {
            usage.begin(&ant, "route:crm").sent(1);
            let time = format!("{}-{:02}-01T00:00:00Z", 2025 + month / 12, month % 12 + 1);
            usage.write(folder.path(), time.parse()?)?;
        }
        let days = read(folder.path())?.remove(&ant).ok_or("no tenant")?;
        assert_eq!((days.len(), days.keys().next().copied()), (13, Some("2025-08-01".parse()?)));
        Ok(())
    }
}
