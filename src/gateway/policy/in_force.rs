//! What is in force for a tenant, and hears of its changes.

use std::{fmt, sync::Arc};

use tokio::sync::watch;

use crate::model::{EgressPolicy, egress::SecretValues};

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

/// The newest of what is in force for a tenant.
#[derive(Clone, Debug)]
pub struct Newest(watch::Receiver<Arc<InForce>>);

impl Newest {
    /// What comes this way is in force. It is in force no longer when the sender is gone.
    pub fn new(changes: watch::Receiver<Arc<InForce>>) -> Self {
        Self(changes)
    }

    /// What is in force now: nothing is allowed where its policy is gone.
    pub fn now(&self) -> Arc<InForce> {
        let last = Arc::clone(&self.0.borrow());
        if !self.is_gone() {
            return last;
        }
        let mut policy = last.policy.clone();
        policy.allow.clear();
        policy.routes.clear();
        Arc::new(InForce { policy, secrets: SecretValues::new() })
    }

    /// Whether the tenant's policy is gone: nothing is allowed any more.
    pub fn is_gone(&self) -> bool {
        self.0.has_changed().is_err()
    }

    /// Hears of changes. The sender goes away with the tenant: an error is a policy that allows nothing.
    pub fn changes(&self) -> watch::Receiver<Arc<InForce>> {
        self.0.clone()
    }
}
