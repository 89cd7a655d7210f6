//! What all connections share.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, PoisonError},
};

use hyper::body::Incoming;
use tokio::{sync::watch, time::timeout};

use crate::{
    answer::Refused,
    counters::Counters,
    daemon::{Daemon, is_running},
    gateway::{
        Pools,
        accounting::{account::Account, usage::Usage},
        listening::namespace_worker::NamespaceWorker,
        proxy::{limits::Limits, metered::Metered, upstreams::Upstreams},
    },
    in_flight::{CHECK_INTERVAL, InFlight},
    model::{TenantName, host::Ingress},
    places::Places,
    waking::{Reached, Waker},
};

/// Connections to apps that are kept for the next request: by tenant, address, container, and how often it had stopped before.
pub type Kept = Arc<Upstreams<(TenantName, Reached), Metered<Incoming>>>;

/// What all connections share.
pub struct Shared {
    /// The host's settings.
    pub settings: Ingress,
    /// What is known of tenants.
    pub daemon: Arc<Daemon>,
    /// Reaches tenants.
    pub waker: Waker,
    /// Connections to apps.
    pub kept: Kept,
    /// Answers on their way to clients.
    pub in_flight: Arc<InFlight>,
    /// Places of clients' connections.
    pub places: Arc<Places>,
    /// What is counted.
    pub counters: Arc<Counters>,
    /// What goes over connections.
    pub usage: Usage,
    /// Whose account clients are on before anybody knows for which tenant they come: all of them are strangers.
    pub strangers: Arc<Account>,
    /// Ends connections when the process does.
    pub ending: watch::Sender<bool>,
    pools: Arc<Pools>,
    served: Mutex<BTreeMap<TenantName, Served>>,
}

/// A tenant that requests go to.
struct Served {
    account: Arc<Account>,
    requests: Arc<()>,
}

/// A request's place among those of its tenant. It is free again when this is dropped.
#[derive(Debug)]
pub struct Place(#[expect(dead_code, reason = "how many there are is counted")] Arc<()>);

impl Shared {
    /// Begins with the host's settings and as many descriptors as the process may have.
    /// `strangers` is a name that no tenant has.
    pub fn new(settings: Ingress, inside: NamespaceWorker, strangers: TenantName, descriptors: u64) -> Self {
        let daemon = Arc::new(Daemon::new(settings.socket.clone()));
        let counters = Arc::new(Counters::default());
        let pools = Arc::new(Pools::new(descriptors));
        let stall = settings.limits.stall.get();
        Self {
            in_flight: InFlight::new(Arc::clone(&daemon), Arc::clone(&counters), stall),
            places: Places::new(settings.limits.connections),
            waker: Waker::new(Arc::clone(&daemon), inside, Arc::clone(&counters)),
            strangers: Arc::new(Account::new(strangers, Arc::clone(&pools))),
            settings,
            daemon,
            kept: Upstreams::new(),
            counters,
            usage: Usage::default(),
            ending: watch::Sender::new(false),
            pools,
            served: Mutex::default(),
        }
    }

    /// What bounds each connection.
    pub fn limits(&self) -> Limits {
        let limits = &self.settings.limits;
        Limits {
            head: usize::try_from(limits.head.get()).unwrap_or(usize::MAX),
            head_time: limits.hello.get(),
            idle: limits.idle.get(),
            stall: limits.stall.get(),
            bandwidth: None,
        }
    }

    /// A tenant's account, and a place for one more request of it.
    ///
    /// # Errors
    /// It has as many as it may have.
    pub fn enter(&self, tenant: &TenantName) -> Result<(Arc<Account>, Place), Refused> {
        let mut served = self.served.lock().unwrap_or_else(PoisonError::into_inner);
        if !served.contains_key(tenant) {
            // Those who have no request and are gone need no account.
            served.retain(|_, one| Arc::strong_count(&one.requests) > 1);
            let account = Arc::new(Account::new(tenant.clone(), Arc::clone(&self.pools)));
            served.insert(tenant.clone(), Served { account, requests: Arc::default() });
            let mut names: BTreeSet<TenantName> = served.keys().cloned().collect();
            names.insert(self.strangers.tenant().clone());
            self.pools.serve(&names);
        }
        let one = served.get(tenant).ok_or(Refused::TooMany)?;
        if Arc::strong_count(&one.requests) > self.settings.limits.requests_per_tenant as usize {
            return Err(Refused::TooMany);
        }
        Ok((Arc::clone(&one.account), Place(Arc::clone(&one.requests))))
    }

    /// Cuts what may not go on, and closes what was kept from before a tenant stopped, for ever.
    pub async fn watch(&self) {
        let mut changes = self.daemon.changes();
        loop {
            let is_news = timeout(CHECK_INTERVAL, changes.changed()).await.is_ok();
            self.in_flight.judge();
            let known = self.daemon.now().filter(|_| is_news);
            if let Some(known) = known {
                let is_current = |tenant: &TenantName, at: &Reached| {
                    known.stops(tenant) == at.stops && known.tenants.get(tenant).is_some_and(is_running)
                };
                self.kept.retain(|(tenant, at)| is_current(tenant, at));
            }
        }
    }

    /// Ends when the process is about to.
    pub async fn ends(&self) {
        let mut ending = self.ending.subscribe();
        let _ = ending.wait_for(|ends| *ends).await;
    }
}
