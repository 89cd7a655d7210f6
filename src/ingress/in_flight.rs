//! Answers on their way to clients: each is cut when it may not go on, whether its client takes anything or not.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use jiff::Timestamp;
use tokio::sync::Notify;

use crate::{
    counters::{Counters, CutReason},
    daemon::{Daemon, Known},
    deciding::{
        admission::{Admitted, may_go_on},
        target::Target,
    },
    gateway::{
        Lease,
        accounting::account::Account,
        proxy::{waiting::Backlog, wire::Seen},
    },
};

/// How often expiry and what waits are checked.
pub const CHECK_INTERVAL: Duration = Duration::from_millis(500);

/// Ends an answer, or the connection that it goes over, from elsewhere.
#[derive(Debug, Default)]
pub struct Cut(Notify);

impl Cut {
    /// Ends it.
    fn cut(&self) {
        self.0.notify_one();
    }

    /// Ends when it must end. One at a time may wait for it.
    pub async fn wait(&self) {
        self.0.notified().await;
    }
}

/// What an answer is passed on by.
#[derive(Clone, Debug)]
pub struct Grant {
    /// Where its request went.
    pub target: Target,
    /// What let it in.
    pub admitted: Admitted,
    /// The container that answers.
    pub container: String,
}

impl Grant {
    fn reason_to_cut(&self, known: &Known, now: Timestamp) -> Option<CutReason> {
        if !may_go_on(known, &self.target, &self.admitted, now) {
            return Some(CutReason::Revoked);
        }
        let container = known.tenants.get(&self.target.tenant).and_then(|found| found.container.as_ref());
        (container != Some(&self.container)).then_some(CutReason::Gone)
    }
}

/// Whether an answer waits for its client or for its tenant.
#[derive(Debug, Default)]
pub struct Flow(AtomicU64);

impl Flow {
    /// A part was handed on, and the next is not asked for yet.
    pub fn handed_on(&self) {
        self.0.fetch_add(2, Ordering::Relaxed);
        self.0.fetch_or(1, Ordering::Relaxed);
    }

    /// The tenant has nothing more at this moment.
    pub fn waits_for_tenant(&self) {
        self.0.fetch_and(!1, Ordering::Relaxed);
    }

    /// What was seen, if it waits for the client: the same again means that nothing was taken in between.
    fn waits_for_client(&self) -> Option<u64> {
        let seen = self.0.load(Ordering::Relaxed);
        (seen & 1 == 1).then_some(seen)
    }
}

/// What an answer that its client does not take keeps in memory, where nothing else watches that.
#[derive(Debug)]
pub struct Unread {
    /// On whose account.
    pub account: Arc<Account>,
    /// The connection that it comes from.
    pub from: Seen,
    /// What is kept beside what that has received, in bytes.
    pub buffer: u64,
}

#[derive(Debug)]
struct Entry {
    grant: Grant,
    cut: Arc<Cut>,
    flow: Arc<Flow>,
    unread: Option<Unread>,
    /// Since when nothing is taken, and by what that is known.
    blocked: Option<(u64, Instant)>,
    lease: Option<Lease>,
}

impl Entry {
    fn reason_to_cut(
        &mut self,
        known: Option<&Known>,
        now: (Timestamp, Instant),
        stall: Duration,
    ) -> Option<CutReason> {
        let revoked = known.and_then(|known| self.grant.reason_to_cut(known, now.0));
        revoked.or_else(|| self.is_stalled(now.1, stall).then_some(CutReason::Stalled))
    }

    /// Whether nothing was taken for too long, or where more waits than its account can have.
    fn is_stalled(&mut self, now: Instant, stall: Duration) -> bool {
        let Some(unread) = &self.unread else { return false };
        let Some(seen) = self.flow.waits_for_client() else {
            (self.blocked, self.lease) = (None, None);
            return false;
        };
        match self.blocked {
            Some((before, since)) if before == seen => {
                let source = unread.from.stream();
                let bytes = Backlog { bytes: unread.buffer, source: source.as_deref() }.memory();
                !unread.account.reserve(&mut self.lease, bytes) || now.saturating_duration_since(since) >= stall
            }
            _ => {
                self.blocked = Some((seen, now));
                false
            }
        }
    }
}

/// All answers on their way.
pub struct InFlight {
    daemon: Arc<Daemon>,
    counters: Arc<Counters>,
    stall: Duration,
    all: Mutex<Entries>,
}

#[derive(Default)]
struct Entries {
    of: BTreeMap<u64, Entry>,
    next: u64,
}

/// An answer's place among them. It leaves when this is dropped.
pub struct Tracked {
    all: Arc<InFlight>,
    id: u64,
    flow: Arc<Flow>,
}

impl InFlight {
    /// None yet. A client may take nothing for so long.
    pub fn new(daemon: Arc<Daemon>, counters: Arc<Counters>, stall: Duration) -> Arc<Self> {
        Arc::new(Self { daemon, counters, stall, all: Mutex::default() })
    }

    fn all(&self) -> MutexGuard<'_, Entries> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An answer is on its way, until `cut` ends it. `unread` is for those whose client is not watched otherwise.
    pub fn add(self: &Arc<Self>, grant: Grant, cut: Arc<Cut>, unread: Option<Unread>) -> Tracked {
        let flow = Arc::new(Flow::default());
        let entry = Entry {
            grant: grant.clone(),
            cut: Arc::clone(&cut),
            flow: Arc::clone(&flow),
            unread,
            blocked: None,
            lease: None,
        };
        let id = {
            let mut all = self.all();
            let id = all.next;
            all.next += 1;
            all.of.insert(id, entry);
            id
        };
        // What changed before it was added is seen here, and what changes from now on by whoever judges all.
        let reason = self.daemon.now().and_then(|known| grant.reason_to_cut(&known, Timestamp::now()));
        if let Some(reason) = reason {
            self.all().of.remove(&id);
            self.counters.cut(reason);
            cut.cut();
        }
        Tracked { all: Arc::clone(self), id, flow }
    }

    /// Cuts what may not go on.
    pub fn judge(&self) {
        let known = self.daemon.now();
        let now = (Timestamp::now(), Instant::now());
        let mut all = self.all();
        let judged = all.of.iter_mut().filter_map(|(id, entry)| {
            let reason = entry.reason_to_cut(known.as_deref(), now, self.stall)?;
            self.counters.cut(reason);
            entry.cut.cut();
            Some(*id)
        });
        // Each is cut once.
        for id in judged.collect::<Vec<_>>() {
            all.of.remove(&id);
        }
    }
}

impl Tracked {
    /// By what is known whether its client takes it.
    pub fn flow(&self) -> &Flow {
        &self.flow
    }
}

impl Drop for Tracked {
    fn drop(&mut self) {
        let ended = self.all.all().of.remove(&self.id);
        // What it has reserved is given back without holding up others.
        drop(ended);
    }
}
