//! Reaching a tenant that may have to be woken: who asks is held until it is ready, or told why not.

use std::{
    collections::{BTreeMap, VecDeque},
    io,
    net::{Ipv4Addr, SocketAddrV4},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use futures_util::{
    FutureExt,
    future::{BoxFuture, Shared},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
    time::timeout,
};

use crate::{
    answer::Refused,
    counters::{Counters, WakeResult},
    daemon::{Daemon, Known, NotWoken, is_running},
    gateway::listening::namespace_worker::NamespaceWorker,
    model::{Power, TenantName, host::Ingress, ingress::HealthPath},
    served::Served,
};

/// How long a tenant's port may take to accept, once it runs, before that is tried anew.
const CONNECT: Duration = Duration::from_secs(2);

/// How long to wait between two tries, at first and at most: a port that is not there yet refuses at once.
const RETRY: Duration = Duration::from_millis(2);
const MAX_RETRY: Duration = Duration::from_millis(100);

/// How long an answer on the path that tells readiness may take, and how much of it is read, in bytes.
const PROBE: Duration = Duration::from_secs(2);
const MAX_PROBED: usize = 1 << 10;

/// How long to wait for news after a wake that the daemon has agreed to, before it is asked again.
const AGREED: Duration = Duration::from_secs(1);

/// What the rate of wakes without a token is counted over.
const MINUTE: Duration = Duration::from_secs(60);

/// What came of asking the daemon to wake a tenant.
type Woken = Shared<BoxFuture<'static, Result<(), NotWoken>>>;

/// Reaches tenants.
pub struct Waker {
    daemon: Arc<Daemon>,
    inside: NamespaceWorker,
    counters: Arc<Counters>,
    served: Arc<Served>,
    held: Mutex<Held>,
    /// The wakes that the daemon is being asked for: one for each tenant, whoever waits.
    asked: Arc<Mutex<BTreeMap<TenantName, Woken>>>,
    /// Which container of each tenant was ready on each port that has a path to tell.
    ready: Mutex<BTreeMap<(TenantName, u16), String>>,
    /// How often each tenant is woken by those who need no token.
    public: Mutex<BTreeMap<TenantName, VecDeque<Instant>>>,
}

/// How many requests wait.
#[derive(Debug, Default)]
struct Held {
    all: u32,
    of: BTreeMap<TenantName, u32>,
}

/// A request that waits. It has its place until this is dropped.
struct Place<'a> {
    waker: &'a Waker,
    tenant: TenantName,
}

/// A tenant's port that is to be reached, and by whom.
#[derive(Clone, Debug)]
pub struct Destination {
    /// The tenant.
    pub tenant: TenantName,
    /// Its port.
    pub port: u16,
    /// Whether whoever asks needed no token.
    pub is_public: bool,
}

/// How far a tenant has come on its way to a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// There is no memory for it yet.
    Waiting,
    /// It does not run yet.
    Creating,
    /// It runs, and its app does not accept yet.
    Starting,
    /// Its app accepts.
    Ready,
}

impl Step {
    /// The word in events.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Creating => "creating",
            Self::Starting => "starting",
            Self::Ready => "ready",
        }
    }
}

/// Hears of steps.
type Report<'a> = &'a (dyn Fn(Step) + Send + Sync);

/// A tenant's port that accepts connections.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Reached {
    /// Where.
    pub address: SocketAddrV4,
    /// Its container: what was opened to another one is dead.
    pub container: String,
    /// How often the tenant had stopped running before: what was opened before it last did may be dead.
    pub stops: u64,
}

impl Waker {
    /// Reaches tenants by sockets that are made `inside`, and has the daemon wake them.
    pub fn new(daemon: Arc<Daemon>, inside: NamespaceWorker, counters: Arc<Counters>, served: Arc<Served>) -> Self {
        Self {
            daemon,
            inside,
            counters,
            served,
            held: Mutex::default(),
            asked: Arc::default(),
            ready: Mutex::default(),
            public: Mutex::default(),
        }
    }

    /// Where a tenant is at this moment, if it runs.
    pub fn found(&self, to: &Destination) -> Option<Reached> {
        let known = self.daemon.now()?;
        reached(&known, to)
    }

    /// Connects with a tenant's port, and wakes the tenant if it does not run. It takes until the port accepts, or
    /// answers on the path that tells readiness where the tenant had to be waited for, `wakeTimeout` at most.
    ///
    /// # Errors
    /// The tenant is not to be woken, is not ready in time, or too many wait.
    pub async fn connect(&self, to: &Destination, settings: &Ingress) -> Result<(TcpStream, Reached), Refused> {
        self.reach(to, settings, &|_: Step| {}).await
    }

    /// Waits as a request does, and reports each step.
    ///
    /// # Errors
    /// The same.
    pub async fn wait(&self, to: &Destination, settings: &Ingress, report: Report<'_>) -> Result<(), Refused> {
        let last = Mutex::new(None);
        let changed = |step| {
            if lock(&last).replace(step) != Some(step) {
                report(step);
            }
        };
        self.reach(to, settings, &changed).await?;
        changed(Step::Ready);
        Ok(())
    }

    async fn reach(
        &self,
        to: &Destination,
        settings: &Ingress,
        report: Report<'_>,
    ) -> Result<(TcpStream, Reached), Refused> {
        let begun = Instant::now();
        let patience = settings.wake_timeout.get();
        let late = || Refused::NotReady(patience);
        let waiting = timeout(patience, self.connect_when_ready(to, settings, begun, report));
        waiting.await.unwrap_or_else(|_| Err(late()))
    }

    async fn connect_when_ready(
        &self,
        to: &Destination,
        settings: &Ingress,
        begun: Instant,
        report: Report<'_>,
    ) -> Result<(TcpStream, Reached), Refused> {
        let mut changes = self.daemon.changes();
        let (mut place, mut had_to_wake, mut wait) = (None, false, RETRY);
        loop {
            let known = changes.borrow_and_update().clone().ok_or(Refused::DaemonUnavailable)?;
            let found = known.tenants.get(&to.tenant).ok_or(Refused::Revoked)?;
            if let Some(reached) = reached(&known, to) {
                let path = found.ports.get(&to.port).and_then(|port| port.path.as_ref());
                let path = path.filter(|_| !self.was_ready(to, &reached));
                if let Some(stream) = self.try_port(&reached, path.map(HealthPath::as_str)).await {
                    if path.is_some() {
                        lock(&self.ready).insert((to.tenant.clone(), to.port), reached.container.clone());
                    }
                    if had_to_wake {
                        self.counters.woken(WakeResult::Ready, begun.elapsed());
                    }
                    return Ok((stream, reached));
                }
            }
            report(match (found.waits_for_memory, found.running) {
                (true, _) => Step::Waiting,
                (false, false) => Step::Creating,
                (false, true) => Step::Starting,
            });
            if place.is_none() {
                place = Some(self.hold(&to.tenant, settings)?);
            }
            if found.power != Power::Running {
                if let Some(closed) = found.closed {
                    return Err(Refused::Closed(closed));
                }
                let is_first = !had_to_wake;
                had_to_wake = true;
                match self.ask(to, settings, is_first).await {
                    Ok(()) => {}
                    // One that restarts is back within moments.
                    Err(Refused::DaemonUnavailable) => {
                        let _ = timeout(MAX_RETRY, changes.changed()).await;
                        continue;
                    }
                    Err(error) => {
                        self.counters.woken(WakeResult::Refused, begun.elapsed());
                        return Err(error);
                    }
                }
                let is_awake =
                    |known: &Known| known.tenants.get(&to.tenant).is_none_or(|found| found.power == Power::Running);
                let news = changes.wait_for(|known| known.as_deref().is_some_and(is_awake));
                // Where the time passes it is asked again.
                let _ = timeout(AGREED, news).await;
                continue;
            }
            if let Some(closed) = found.closed.filter(|_| !found.running) {
                return Err(Refused::Closed(closed));
            }
            // It is about to run, or its port is about to accept.
            let _ = timeout(if found.running { wait } else { AGREED }, changes.changed()).await;
            wait = (wait * 2).min(MAX_RETRY);
        }
    }

    /// Whether a port of this very container has answered before that all is well.
    fn was_ready(&self, to: &Destination, reached: &Reached) -> bool {
        lock(&self.ready).get(&(to.tenant.clone(), to.port)) == Some(&reached.container)
    }

    /// A place among those who wait.
    fn hold(&self, tenant: &TenantName, settings: &Ingress) -> Result<Place<'_>, Refused> {
        let mut held = lock(&self.held);
        let of = held.of.get(tenant).copied().unwrap_or_default();
        if held.all >= settings.limits.held || of >= settings.limits.held_per_tenant {
            return Err(Refused::TooManyHeld);
        }
        held.all += 1;
        held.of.insert(tenant.clone(), of + 1);
        self.counters.held.inc();
        Ok(Place { waker: self, tenant: tenant.clone() })
    }

    /// Has the daemon wake a tenant; those who want the same meanwhile hear what it answers.
    ///
    /// # Errors
    /// It refuses, or does not answer, or the tenant was woken too often without a token.
    pub async fn wake(&self, to: &Destination, settings: &Ingress) -> Result<(), Refused> {
        self.ask(to, settings, true).await
    }

    /// The same. Who asks again for the same request spends nothing.
    async fn ask(&self, to: &Destination, settings: &Ingress, is_first: bool) -> Result<(), Refused> {
        let asking = {
            let mut asked = lock(&self.asked);
            match asked.get(&to.tenant) {
                Some(asking) => asking.clone(),
                None => {
                    if to.is_public && is_first {
                        self.spend_public_wake(&to.tenant, settings.limits.public_wakes)?;
                    }
                    let (daemon, tenant, all) = (Arc::clone(&self.daemon), to.tenant.clone(), Arc::clone(&self.asked));
                    let in_hand = self.served.in_hand();
                    // It goes on when nobody waits for it any more.
                    let task = tokio::spawn(async move {
                        let answer = daemon.wake(&tenant, &in_hand).await;
                        lock(&all).remove(&tenant);
                        answer
                    });
                    let failed = |error: tokio::task::JoinError| Err(NotWoken::Unavailable(error.to_string()));
                    let asking = async move { task.await.unwrap_or_else(failed) }.boxed().shared();
                    asked.insert(to.tenant.clone(), asking.clone());
                    asking
                }
            }
        };
        asking.await.map_err(|error| {
            tracing::info!(tenant = %to.tenant, %error, "a request waits in vain");
            match error {
                NotWoken::Refused(_) => {
                    let known = self.daemon.now();
                    let found = known.as_ref().and_then(|known| known.tenants.get(&to.tenant));
                    found.and_then(|found| found.closed).map_or(Refused::DaemonUnavailable, Refused::Closed)
                }
                NotWoken::Capacity(_) => Refused::Capacity,
                NotWoken::Unavailable(_) => Refused::DaemonUnavailable,
            }
        })
    }

    /// Counts a wake by somebody who needs no token, if the last minute had not too many.
    fn spend_public_wake(&self, tenant: &TenantName, per_minute: u32) -> Result<(), Refused> {
        let now = Instant::now();
        let mut all = lock(&self.public);
        let lately = all.entry(tenant.clone()).or_default();
        while lately.front().is_some_and(|wake| now.saturating_duration_since(*wake) >= MINUTE) {
            lately.pop_front();
        }
        if lately.len() >= per_minute as usize {
            let oldest = lately.front().map_or(Duration::ZERO, |wake| now.saturating_duration_since(*wake));
            return Err(Refused::TooManyWakes(MINUTE.saturating_sub(oldest)));
        }
        lately.push_back(now);
        Ok(())
    }

    /// A connection with a port, if it accepts and `path` answers that all is well.
    async fn try_port(&self, reached: &Reached, path: Option<&str>) -> Option<TcpStream> {
        if let Some(path) = path {
            let probe = async { is_ready(&mut self.dial(reached.address).await?, reached.address, path).await };
            if !timeout(PROBE, probe).await.is_ok_and(|answer| answer.unwrap_or(false)) {
                return None;
            }
        }
        timeout(CONNECT, self.dial(reached.address)).await.ok()?.ok()
    }

    async fn dial(&self, address: SocketAddrV4) -> io::Result<TcpStream> {
        let socket = TcpSocket::from_std_stream(self.inside.stream()?);
        let stream = socket.connect(address.into()).await?;
        stream.set_nodelay(true)?;
        crate::gateway::proxy::wire::bound(&stream)?;
        Ok(stream)
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut held = lock(&self.waker.held);
        held.all = held.all.saturating_sub(1);
        let is_last = held.of.get_mut(&self.tenant).is_some_and(|of| {
            *of = of.saturating_sub(1);
            *of == 0
        });
        if is_last {
            held.of.remove(&self.tenant);
        }
        self.waker.counters.held.dec();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Where a port of a tenant is, if the tenant runs.
fn reached(known: &Known, to: &Destination) -> Option<Reached> {
    let found = known.tenants.get(&to.tenant).filter(|found| is_running(found))?;
    let address: Ipv4Addr = found.address?;
    let (address, container) = (SocketAddrV4::new(address, to.port), found.container.clone()?);
    Some(Reached { address, container, stops: known.stops(&to.tenant) })
}

/// Whether a tenant's app answers on a path that all is well: 2xx or 3xx.
async fn is_ready(stream: &mut TcpStream, address: SocketAddrV4, path: &str) -> io::Result<bool> {
    let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nUser-Agent: tenantd\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut head = Vec::new();
    while head.len() < MAX_PROBED && !head.contains(&b'\n') {
        if stream.read_buf(&mut head).await? == 0 {
            break;
        }
    }
    let status = head.strip_prefix(b"HTTP/1.").and_then(|rest| rest.get(2));
    Ok(matches!(status, Some(b'2' | b'3')))
}
