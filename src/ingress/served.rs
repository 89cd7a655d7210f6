//! The tenants that requests go to, and those that have some in hand.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use crate::{
    answer::Refused,
    daemon::BusyTenants,
    gateway::{Pools, accounting::account::Account},
    model::TenantName,
};

/// The tenants that requests go to.
pub struct Served {
    pools: Arc<Pools>,
    strangers: TenantName,
    /// How many requests a tenant may have in hand.
    at_most: usize,
    /// Whether the daemon wants to know which have any.
    is_told: bool,
    tenants: Mutex<BTreeMap<TenantName, One>>,
}

/// A tenant that requests go to.
struct One {
    account: Arc<Account>,
    requests: Arc<()>,
}

/// A request's place among those of its tenant. It is free again when this is dropped.
#[derive(Debug)]
pub struct Place(#[expect(dead_code, reason = "how many there are is counted")] Arc<()>);

impl Served {
    /// None so far. Clients of whom nobody knows yet for which tenant they come share the `pools` under a name that no tenant has.
    pub fn new(pools: Arc<Pools>, strangers: TenantName, at_most: u32, is_told: bool) -> Self {
        Self { pools, strangers, at_most: at_most as usize, is_told, tenants: Mutex::default() }
    }

    /// A tenant's account, and a place for one more request of it.
    ///
    /// # Errors
    /// It has as many as it may have.
    pub fn enter(&self, tenant: &TenantName) -> Result<(Arc<Account>, Place), Refused> {
        let mut tenants = self.tenants();
        if !tenants.contains_key(tenant) {
            // Those who have no request and are gone need no account.
            tenants.retain(|_, one| one.in_hand() > 0);
            let account = Arc::new(Account::new(tenant.clone(), Arc::clone(&self.pools)));
            tenants.insert(tenant.clone(), One { account, requests: Arc::default() });
            let mut names: BTreeSet<TenantName> = tenants.keys().cloned().collect();
            names.insert(self.strangers.clone());
            self.pools.serve(&names);
        }
        let one = tenants.get(tenant).ok_or(Refused::TooMany)?;
        if one.in_hand() >= self.at_most {
            return Err(Refused::TooMany);
        }
        Ok((Arc::clone(&one.account), Place(Arc::clone(&one.requests))))
    }

    /// The tenants that have requests in hand, as the daemon wants to know it.
    pub fn in_hand(&self) -> BusyTenants {
        if !self.is_told {
            return BusyTenants::default();
        }
        let tenants = self.tenants();
        BusyTenants::new(tenants.iter().filter(|(_, one)| one.in_hand() > 0).map(|(name, _)| name.clone()).collect())
    }

    fn tenants(&self) -> MutexGuard<'_, BTreeMap<TenantName, One>> {
        self.tenants.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl One {
    fn in_hand(&self) -> usize {
        Arc::strong_count(&self.requests) - 1
    }
}
