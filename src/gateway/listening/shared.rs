//! What all connections of the gateway share.

use std::sync::{
    Arc, PoisonError, RwLock,
    atomic::{AtomicU64, Ordering},
};

use rustls::ClientConfig;

use super::tenants::Tenants;
use crate::{
    accounting::{ledger::Ledger, limits::Pools, refusals::Refusals, usage::Usage},
    model::{self, host::Egress},
    names::dial::{Dialer, Rules},
    policy::authority::{Authority, Host},
    routes::{Connect, Routes},
};

/// What all connections share.
pub struct Shared {
    settings: RwLock<Arc<Egress>>,
    /// Who is served.
    pub tenants: Tenants,
    /// Looks names up and dials.
    pub dialer: Arc<Dialer>,
    /// Serves routes with credentials.
    pub routes: Routes,
    /// What is sent and received.
    pub usage: Usage,
    /// Credits.
    pub ledger: Ledger,
    /// What was refused.
    pub refusals: Refusals,
    /// What the tenants share.
    pub pools: Arc<Pools>,
    /// How many connections were accepted.
    pub accepted: Count,
    /// How many questions were asked of the name server inside.
    pub questions: Count,
    /// How many connections were cut because of a change of what is in force.
    pub cut: Count,
    /// How many connections were cut because another tenant needed the place that they were lent.
    pub called_back: Count,
}

/// What is counted, and kept over restarts.
#[derive(Debug)]
pub struct Counted {
    /// Requests and bytes.
    pub usage: Usage,
    /// Credits.
    pub ledger: Ledger,
}

/// A number that grows.
#[derive(Debug, Default)]
pub struct Count(AtomicU64);

impl Count {
    /// Adds one.
    pub fn add(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    /// The number now.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl Shared {
    /// Begins with the host's settings, TLS for upstreams, what was counted before, and as many connections
    /// as `descriptors` allow. Nobody is served yet.
    pub fn new(host: &model::Host, upstreams: ClientConfig, counted: Counted, descriptors: u64) -> Self {
        let (dialer, Counted { usage, ledger }) = (Arc::new(Dialer::new(rules(host))), counted);
        let pools = Arc::new(Pools::new(descriptors));
        Self {
            settings: RwLock::new(Arc::new(host.egress.clone())),
            tenants: Tenants::new(Arc::clone(&pools)),
            routes: Routes::new(&host.egress, upstreams, connect(Arc::clone(&dialer)), usage.clone(), ledger.clone()),
            dialer,
            usage,
            ledger,
            refusals: Refusals::new(host.journal),
            pools,
            accepted: Count::default(),
            questions: Count::default(),
            cut: Count::default(),
            called_back: Count::default(),
        }
    }

    /// The settings that are in force.
    pub fn settings(&self) -> Arc<Egress> {
        Arc::clone(&self.settings.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Takes resolvers, limits and who may encrypt its hello of new settings from now on. Where the gateway listens, what it reads
    /// and who it is stay as they are until it is started again.
    pub fn reload(&self, host: &model::Host) {
        let mut settings = self.settings.write().unwrap_or_else(PoisonError::into_inner);
        let mut next = settings.as_ref().clone();
        next.resolvers.clone_from(&host.egress.resolvers);
        next.limits = host.egress.limits;
        next.encrypted_hello.clone_from(&host.egress.encrypted_hello);
        *settings = Arc::new(next);
        drop(settings);
        self.dialer.set_rules(rules(host));
    }
}

/// How routes reach their upstreams: their addresses are judged as all others are.
fn connect(dialer: Arc<Dialer>) -> Connect {
    Arc::new(move |client, host, port| {
        let dialer = Arc::clone(&dialer);
        Box::pin(async move {
            let to = Authority { host: Host::Name(host), port };
            dialer.connect(&client, &to).await.map_err(|refusal| refusal.rule)
        })
    })
}

fn rules(host: &model::Host) -> Rules {
    Rules { pool: host.pool, resolvers: host.egress.resolvers.clone(), lookups: host.egress.limits.lookups }
}
