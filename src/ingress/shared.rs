//! What all connections share.

use std::sync::Arc;

use hyper::body::Incoming;
use tokio::{sync::watch, time::timeout};

use crate::{
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
    served::Served,
    verified::Verified,
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
    /// Tokens that were verified before.
    pub verified: Verified,
    /// Ends connections when the process does.
    pub ending: watch::Sender<bool>,
    /// The tenants that requests go to.
    pub served: Arc<Served>,
}

impl Shared {
    /// Begins with the host's settings and as many descriptors as the process may have. `strangers` is a name that no tenant
    /// has; whether the daemon `is_told` which tenants have requests in hand is the host's choice too.
    pub fn new(
        settings: Ingress,
        inside: NamespaceWorker,
        strangers: TenantName,
        descriptors: u64,
        is_told: bool,
    ) -> Self {
        let daemon = Arc::new(Daemon::new(settings.socket.clone()));
        let counters = Arc::new(Counters::default());
        let pools = Arc::new(Pools::new(descriptors));
        let stall = settings.limits.stall.get();
        let at_most = settings.limits.requests_per_tenant;
        let served = Arc::new(Served::new(Arc::clone(&pools), strangers.clone(), at_most, is_told));
        Self {
            in_flight: InFlight::new(Arc::clone(&daemon), Arc::clone(&counters), stall),
            places: Places::new(settings.limits.connections),
            waker: Waker::new(Arc::clone(&daemon), inside, Arc::clone(&counters), Arc::clone(&served)),
            strangers: Arc::new(Account::new(strangers, pools)),
            settings,
            daemon,
            kept: Upstreams::new(),
            counters,
            usage: Usage::default(),
            verified: Verified::default(),
            ending: watch::Sender::new(false),
            served,
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
