//! What all connections of the gateway share.

use std::sync::{Arc, PoisonError, RwLock};

use rustls::ClientConfig;
use tokio::net::TcpStream;

use super::tenants::Tenants;
use crate::{
    accounting::{counters::Counters, ledger::Ledger, limits::Pools, refusals::Refusals, usage::Usage},
    client::Client,
    model::{self, host::Egress},
    names::dial::{Dialer, Rules},
    policy::{
        Refusal,
        authority::{Authority, Host},
        decide::decide,
    },
    proxy::limits::Limits,
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
    /// What is counted for all tenants together.
    pub counters: Counters,
}

/// What is counted, and kept over restarts.
#[derive(Debug)]
pub struct Counted {
    /// Requests and bytes.
    pub usage: Usage,
    /// Credits.
    pub ledger: Ledger,
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
            counters: Counters::default(),
        }
    }

    /// The settings that are in force.
    pub fn settings(&self) -> Arc<Egress> {
        Arc::clone(&self.settings.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// What bounds each connection.
    pub fn limits(&self) -> Limits {
        let limits = self.settings().limits;
        Limits {
            head: usize::try_from(limits.head.get()).unwrap_or(usize::MAX),
            head_time: limits.handshake_timeout.get(),
            idle: limits.idle.get(),
            stall: limits.stall.get(),
            bandwidth: limits.bandwidth.map(|bytes| bytes.get()),
        }
    }

    /// Connects a tenant with a destination on its allowlist, and names the entry that lets it through.
    ///
    /// # Errors
    /// No entry does, its addresses may not be dialled, or it does not answer.
    pub(crate) async fn dial(&self, client: &Client, to: &Authority) -> Result<(TcpStream, String), Refusal> {
        let refused = |rule| Refusal { tenant: client.name().clone(), destination: to.to_string(), rule };
        let entry = decide(&client.now().policy, to).map(ToString::to_string).map_err(refused)?;
        let connecting = self.dialer.connect(&client.account, &client.remembered, &client.in_force, to);
        Ok((connecting.await.map_err(refused)?, entry))
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
            dialer.connect(&client.account, &client.remembered, &client.in_force, &to).await
        })
    })
}

fn rules(host: &model::Host) -> Rules {
    Rules { pool: host.pool, resolvers: host.egress.resolvers.clone(), lookups: host.egress.limits.lookups }
}
