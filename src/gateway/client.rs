//! A tenant as the gateway knows it.

use std::sync::Arc;

use tokio::sync::watch;

use crate::{
    accounting::{account::Account, limits::Pools},
    model::TenantName,
    names::dial::Remembered,
    policy::in_force::{InForce, Newest},
};

/// A tenant that is served. It lives as long as any connection of it does.
#[derive(Debug)]
pub struct Client {
    /// What it uses of the gateway.
    pub(crate) account: Arc<Account>,
    /// What it may reach.
    pub(crate) in_force: Newest,
    /// What is remembered of the names that it asked for.
    pub(crate) remembered: Remembered,
}

impl Client {
    /// A tenant, and what is in force for it from now on.
    pub fn new(name: TenantName, in_force: watch::Receiver<Arc<InForce>>, pools: Arc<Pools>) -> Self {
        Self {
            account: Arc::new(Account::new(name, pools)),
            in_force: Newest::new(in_force),
            remembered: Remembered::default(),
        }
    }

    /// Its name.
    pub fn name(&self) -> &TenantName {
        self.account.tenant()
    }

    /// What is in force now: nothing is allowed where its policy is gone.
    pub fn now(&self) -> Arc<InForce> {
        self.in_force.now()
    }
}
