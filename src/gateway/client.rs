//! A tenant as the gateway knows it.

use std::{fmt, sync::Arc};

use tokio::sync::watch;

use crate::{
    accounting::limits::{Lease, Load, Pools},
    model::{EgressPolicy, TenantName, egress::SecretValues},
    names::{race::Worked, resolved::Names},
};

/// What is in force for a tenant. A change replaces it as a whole.
pub struct InForce {
    /// What it may reach.
    pub policy: EgressPolicy,
    /// The values of its secrets. They are never shown.
    pub secrets: SecretValues,
}

impl fmt::Debug for InForce {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InForce").field("policy", &self.policy).finish_non_exhaustive()
    }
}

/// A tenant that is served. It lives as long as any connection of it does.
#[derive(Debug)]
pub struct Client {
    name: TenantName,
    in_force: watch::Receiver<Arc<InForce>>,
    /// What it uses of the gateway now.
    pub(crate) load: Load,
    /// What it shares with all others.
    pub(crate) pools: Arc<Pools>,
    /// The names that were looked up for it.
    pub(crate) names: Names,
    /// Which addresses worked where others did not.
    pub(crate) worked: Worked,
}

impl Client {
    /// A tenant, and what is in force for it from now on.
    pub fn new(name: TenantName, in_force: watch::Receiver<Arc<InForce>>, pools: Arc<Pools>) -> Self {
        Self { name, in_force, load: Load::default(), pools, names: Names::default(), worked: Worked::default() }
    }

    /// Sets so many bytes of memory aside for it, if they are its own part or nobody's.
    pub(crate) fn memory(&self, bytes: u64) -> Option<Lease> {
        self.pools.memory.take(&self.name, bytes)
    }

    /// Its name.
    pub fn name(&self) -> &TenantName {
        &self.name
    }

    /// What is in force now: nothing is allowed where its policy is gone.
    pub fn now(&self) -> Arc<InForce> {
        let last = Arc::clone(&self.in_force.borrow());
        if !self.is_gone() {
            return last;
        }
        let mut policy = last.policy.clone();
        policy.allow.clear();
        policy.routes.clear();
        Arc::new(InForce { policy, secrets: SecretValues::new() })
    }

    /// Whether its policy is gone: nothing is allowed any more.
    pub fn is_gone(&self) -> bool {
        self.in_force.has_changed().is_err()
    }

    /// Hears of changes. The sender goes away with the tenant: an error is a policy that allows nothing.
    pub fn changes(&self) -> watch::Receiver<Arc<InForce>> {
        self.in_force.clone()
    }
}
