//! What each tenant sends and receives, by destination.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

use crate::model::TenantName;

/// Counts for all tenants. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct Usage {
    counts: Arc<Mutex<BTreeMap<(TenantName, String), Arc<Counts>>>>,
}

/// What went to one destination of one tenant.
#[derive(Debug, Default)]
pub struct Counts {
    /// Connections, or requests where they are told apart.
    pub requests: AtomicU64,
    /// Bytes towards the destination.
    pub sent: AtomicU64,
    /// Bytes from it.
    pub received: AtomicU64,
    /// How long they took, added up, in milliseconds.
    pub millis: AtomicU64,
}

/// One connection or request; it ends when this is dropped.
#[derive(Debug)]
pub struct Use {
    counts: Arc<Counts>,
    begun: Instant,
}

impl Usage {
    /// Begins to count one more. `destination` is the entry of the allowlist that let it through, or
    /// `route:NAME`: what a tenant makes up must not grow the table.
    pub fn begin(&self, tenant: &TenantName, destination: &str) -> Use {
        let mut all = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let counts = Arc::clone(all.entry((tenant.clone(), destination.to_owned())).or_default());
        counts.requests.fetch_add(1, Ordering::Relaxed);
        Use { counts, begun: Instant::now() }
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
    }
}
