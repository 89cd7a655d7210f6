//! On whose account something goes.

use std::sync::Arc;

use super::limits::{Lease, Load, Pools};
use crate::model::TenantName;

/// A tenant as everything knows it that counts, bounds and shares: by its name, however it was recognized. What is taken
/// on its account is taken from its part of what all share.
#[derive(Debug)]
pub struct Account {
    tenant: TenantName,
    /// How fast it uses what is bounded in time.
    pub(crate) load: Load,
    pools: Arc<Pools>,
}

impl Account {
    /// A tenant that uses nothing yet, and shares these with all others.
    pub fn new(tenant: TenantName, pools: Arc<Pools>) -> Self {
        Self { tenant, load: Load::default(), pools }
    }

    /// The tenant.
    pub fn tenant(&self) -> &TenantName {
        &self.tenant
    }

    /// Reserves so many bytes of memory, if they are its own part or nobody's.
    pub fn memory(&self, bytes: u64) -> Option<Lease> {
        self.pools.memory.take(&self.tenant, bytes)
    }

    /// Has so many bytes of memory reserved by `lease`, which may hold some or none already. False where that is more than it has, and
    /// not to be had; then it keeps what it had.
    pub fn reserve(&self, lease: &mut Option<Lease>, bytes: u64) -> bool {
        match lease {
            Some(lease) => lease.resize(bytes),
            None => {
                *lease = self.memory(bytes);
                lease.is_some()
            }
        }
    }

    /// Whether it has more memory than is its own part: some of it is lent.
    pub(crate) fn is_beyond_its_memory(&self) -> bool {
        self.pools.memory.is_beyond_part(&self.tenant)
    }

    /// A place for a name that is looked up at a resolver.
    pub(crate) fn lookup(&self) -> Option<Lease> {
        self.pools.lookups.take(&self.tenant, 1)
    }

    /// A place for an attempt to connect beside a connection's first.
    pub(crate) fn attempt(&self) -> Option<Lease> {
        self.pools.attempts.take(&self.tenant, 1)
    }

    /// A place for a connection that is kept for the next request.
    pub(crate) fn keep(&self) -> Option<Lease> {
        self.pools.kept.take(&self.tenant, 1)
    }
}
