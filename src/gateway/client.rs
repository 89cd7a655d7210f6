//! A tenant as the gateway knows it.

use std::{fmt, sync::Arc};

use tokio::sync::watch;

use crate::model::{EgressPolicy, TenantName, egress::SecretValues};

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
}

impl Client {
    /// A tenant, and what is in force for it from now on.
    pub fn new(name: TenantName, in_force: watch::Receiver<Arc<InForce>>) -> Self {
        Self { name, in_force }
    }

    /// Its name.
    pub fn name(&self) -> &TenantName {
        &self.name
    }

    /// What is in force now.
    pub fn now(&self) -> Arc<InForce> {
        Arc::clone(&self.in_force.borrow())
    }

    /// Hears of changes. The sender goes away with the tenant: an error is a policy that allows nothing.
    pub fn changes(&self) -> watch::Receiver<Arc<InForce>> {
        self.in_force.clone()
    }
}
