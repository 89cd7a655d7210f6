//! `tenantd run`: follows the config repo and the engine, and makes the one as the other says.
//!
//! One loop owns everything that is known and decides; it never waits. Commits come in from
//! `intake`, the engine's events from `link`, questions from the socket. Work on tenants runs
//! beside it and reports its end. Whatever leads to a look is recorded and has no say in what is
//! done: a tenant is looked at, compared and repaired the same way every time.

mod commits;
mod fleet;
mod gateway;
mod intake;
mod link;
mod outcomes;
mod queue;
mod requests;
mod state;
mod tenant;
mod watching;
mod work;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::Context as _;
use futures_util::{FutureExt, StreamExt, future::LocalBoxFuture, stream::FuturesUnordered};
use jiff::Timestamp;
use tokio::{
    sync::{Semaphore, mpsc, oneshot, watch},
    task::JoinHandle,
};

use crate::{
    engine::Engine,
    fault::chain,
    host::{Changes, Lock, LockError},
    journal::{self, Journal},
    metrics::Metrics,
    model::{
        DriftMode, Entry, Host,
        host::NotifyEvent,
        observed::EngineFacts,
        record::Trigger,
        status::{Correction, EngineStatus, SourceStatus},
        workspace::Site,
    },
    notify::{Notification, Notifier},
    reconcile::{Recorder, correction_of},
    signals::{self, Signals},
    source::{Mirror, shown_url},
    web::{self, Request, Server},
};
use commits::Held;
use fleet::Fleet;
use gateway::Gateway;
use intake::{Candidate, Intake};
use link::Link;
use queue::Queue;
use state::State;
use tenant::Run;
use work::{Done, Order, Survey, Tools};

/// How long the events of one cause are waited for before a tenant is looked at.
const PAUSE: Duration = Duration::from_millis(10);

/// How many tenants are looked at one by one, or wait for that. Where there are more, one look at
/// everything is cheaper: it lists once.
const MANY: usize = 16;

/// How long a look at everything makes others wait. One that takes longer goes on beside them.
const PATIENCE: Duration = Duration::from_secs(3);

/// How many tenants are looked at side by side; more gain nothing on one engine.
const LOOKS: usize = 8;

/// How often a repair may be followed by another before it counts as a failure.
const REPAIRS: u32 = 3;

/// How long notifications that wait may take at the end.
const FAREWELL: Duration = Duration::from_secs(2);

/// The most tenants that are remembered: as many as files are read.
const MOST_RUNS: usize = crate::source::MAX_FILES;

/// How long the steps in hand may take to end after a signal. `systemd/tenantd.service` waits longer.
const GRACE: Duration = Duration::from_secs(20);

/// How long another process may still hold the data root. One that was killed while it started git holds
/// it until git has begun.
const TAKEOVER: Duration = Duration::from_secs(5);

/// How often the loop looks at what is due by time: with something that is, and without.
const TICK: Duration = Duration::from_millis(500);
const IDLE_TICK: Duration = Duration::from_secs(5);

/// Reads the host's settings anew.
pub type Reload = Box<dyn Fn() -> anyhow::Result<Host>>;

/// Runs until a signal ends it, within a [`tokio::task::LocalSet`].
///
/// # Errors
/// The settings name no config repo, another process has the data root, or the journal, the state,
/// the mirror of the repo or the socket cannot be used.
pub async fn run(host: Host, reload: Reload) -> anyhow::Result<()> {
    let mut daemon = Daemon::begin(host, reload).await?;
    daemon.main_loop().await;
    daemon.end().await;
    daemon.notifier.finish(FAREWELL).await;
    Ok(())
}

/// What ends beside the loop.
enum Ended {
    Tenant(Box<Done>),
    Survey(Trigger, Box<Result<Survey, String>>),
    Snapshot(Result<(), String>),
}

struct Daemon {
    host: Arc<Host>,
    reload: Reload,
    _lock: Lock,
    journal: Journal,
    recorder: Arc<Recorder>,
    metrics: Metrics,
    notifier: Notifier,
    server: Option<(oneshot::Sender<()>, JoinHandle<std::io::Result<()>>)>,
    web_settings: web::Settings,
    requests: mpsc::Receiver<Request>,
    signals: Signals,

    mirror: Arc<Mirror>,
    intake: Intake,
    accepted: watch::Sender<Option<String>>,
    source: SourceStatus,
    source_verified: Option<Result<String, String>>,
    pending: Option<Candidate>,
    held: Option<Held>,
    refused: Option<String>,

    changes: Changes,
    gateway: Gateway,

    link: Link,
    engine: Option<Arc<Engine>>,
    /// Since when its events arrive: the daemon began, or the engine was away.
    engine_back: Option<Instant>,
    engine_status: EngineStatus,
    facts: Arc<EngineFacts>,
    site: Site,
    containers: BTreeMap<String, String>,
    present: BTreeSet<String>,
    surveyed: bool,
    surveying: bool,
    survey_began: Instant,
    survey_at: Option<Instant>,
    survey_trigger: Option<Trigger>,
    touched: BTreeSet<String>,
    next_pass: Instant,
    /// When the next snapshot is due; `None` while one is made.
    next_snapshot: Option<Instant>,
    /// From when on another look at everything may begin only because many tenants are marked.
    rested: Instant,
    /// Held by each look at one tenant that has begun, or waits for its place.
    looking: Rc<()>,

    fleet: Option<Fleet>,
    state: State,
    state_unsaved: bool,
    state_error: Option<String>,
    journaled: u64,
    runs: BTreeMap<String, Run>,
    queue: Queue,
    looks: Arc<Semaphore>,
    turns: Arc<Semaphore>,
    stop: Arc<AtomicBool>,
    work: FuturesUnordered<LocalBoxFuture<'static, Ended>>,
    started: Timestamp,
    shown: Vec<tenant::Shown>,
    next_tick: Instant,
}

impl Daemon {
    async fn begin(host: Host, reload: Reload) -> anyhow::Result<Self> {
        let source = host.source.clone().context(
            "the host's settings name no config repo; write `source: {url: …}` into host.yaml, with a path or a URL",
        )?;
        // First of all: a signal that comes before the loop runs ends it in good order, too.
        let signals = Signals::listen()?;
        let host = Arc::new(host);
        let waiting = |held: &LockError| tracing::warn!(error = chain(held), "waiting");
        let lock = Lock::wait(&host.data_root, TAKEOVER, waiting).await?;
        let (journal, opened) = Journal::open(&journal::folder(&host.data_root), host.journal)?;
        if let Some(recovered) = &opened.recovered {
            tracing::warn!(file = recovered.file, aside = recovered.aside, "set a torn end of the journal aside");
        }
        if let Some(damage) = &opened.damage {
            tracing::error!(damage, "the journal is damaged; `tenantd audit verify` says where");
        }
        let (state, damaged) = State::load(&host.data_root)?;
        if let Some(aside) = damaged {
            tracing::error!(aside = %aside.display(), "the state could not be read and was set aside");
        }
        let mirror = Arc::new(open_mirror(&host, &source).await?);
        let recorder = Arc::new(Recorder::new(journal.clone()));
        journal
            .append(Entry::Started { program: "daemon".to_owned(), version: env!("CARGO_PKG_VERSION").to_owned() })
            .await?;

        let server = Server::bind(&host)?;
        let web_settings = server.settings();
        let (handle, requests) = web::channel();
        let metrics = Metrics::new();
        let (accepted, accepted_now) = watch::channel(state.accepted.as_ref().map(|one| one.revision.commit.clone()));
        let (end_server, ending) = oneshot::channel();
        let serving = server.run(handle, metrics.clone(), async move { drop(ending.await) });
        let server = tokio::task::spawn_local(serving);
        let mut daemon = Self {
            notifier: Notifier::start(host.notify.clone(), metrics.clone()),
            intake: Intake::begin(Arc::clone(&host), source.clone(), Arc::clone(&mirror), accepted_now),
            changes: Changes::begin(&host),
            gateway: Gateway::begin(&host.egress.state),
            link: Link::begin(host.engine.clone(), host.deadlines.call.get()),
            source: SourceStatus { url: shown_url(&source.url), ..SourceStatus::default() },
            looks: Arc::new(Semaphore::new(LOOKS)),
            turns: Arc::new(Semaphore::new(host.parallelism.max(1))),
            signals,
            host,
            reload,
            _lock: lock,
            journal,
            recorder,
            metrics,
            server: Some((end_server, server)),
            web_settings,
            requests,
            mirror,
            accepted,
            source_verified: None,
            pending: None,
            held: None,
            refused: None,
            engine: None,
            engine_back: None,
            engine_status: EngineStatus::default(),
            facts: Arc::default(),
            site: Site::default(),
            containers: BTreeMap::new(),
            present: BTreeSet::new(),
            surveyed: false,
            surveying: false,
            survey_began: Instant::now(),
            survey_at: None,
            survey_trigger: None,
            touched: BTreeSet::new(),
            next_pass: Instant::now(),
            next_snapshot: Some(Instant::now()),
            rested: Instant::now(),
            looking: Rc::new(()),
            fleet: None,
            state,
            state_unsaved: false,
            state_error: None,
            journaled: 0,
            runs: BTreeMap::new(),
            queue: Queue::default(),
            stop: Arc::new(AtomicBool::new(false)),
            work: FuturesUnordered::new(),
            started: Timestamp::now(),
            shown: Vec::new(),
            next_tick: Instant::now(),
        };
        daemon.restore().await;
        for (tenant, (time, step, outcome)) in opened.last {
            let what = correction_of(&step);
            let correction = Correction { time, what, why: step.why, took_ms: outcome.took_ms };
            daemon.run_of(&tenant).last = Some(correction);
        }
        Ok(daemon)
    }

    async fn main_loop(&mut self) {
        signals::ready();
        tracing::info!(source = self.source.url, engine = %self.host.engine.display(), "following");
        loop {
            if self.next_tick <= Instant::now() {
                self.time_passed().await;
            }
            self.pump();
            self.save_if_due();
            self.signals.alive();
            let wake = self.next_wake();
            tokio::select! {
                biased;
                signal = self.signals.next() => match signal {
                    signals::Signal::End => break,
                    signals::Signal::Reload => self.reload_settings().await,
                },
                Some(request) = self.requests.recv() => self.answer(request).await,
                Some(ended) = self.work.next(), if !self.work.is_empty() => match ended {
                    Ended::Tenant(done) => self.tenant_done(*done).await,
                    Ended::Survey(trigger, result) => self.survey_done(trigger, *result).await,
                    Ended::Snapshot(result) => self.snapshot_done(result),
                },
                Some(news) = self.link.news.recv() => self.engine_news(news),
                Some(change) = self.changes.next() => self.host_news(change),
                Some(news) = self.intake.news.recv() => self.source_news(news).await,
                () = tokio::time::sleep_until(wake.into()) => {}
            }
        }
    }

    /// Lets the steps in hand end, within a bound.
    async fn end(&mut self) {
        signals::stopping();
        tracing::info!("ending; steps in hand are finished first");
        self.stop.store(true, Ordering::Relaxed);
        if let Some((end, server)) = self.server.take() {
            drop(end);
            // Who asks now is told that the daemon is ending.
            self.requests.close();
            let _ = server.await;
        }
        let work = async { while self.work.next().await.is_some() {} };
        tokio::select! {
            () = work => {}
            () = tokio::time::sleep(GRACE) => tracing::warn!("some steps did not end in time; the next start looks at what they did"),
            _ = self.signals.next() => tracing::warn!("ended at once by a second signal"),
        }
        self.save();
        self.record(Entry::Stopped { program: "daemon".to_owned() }).await;
    }

    /// Begins all work that can begin now.
    fn pump(&mut self) {
        let Some(engine) = self.engine.clone() else { return };
        let now = Instant::now();
        if self.link.take_overflow() {
            self.ask_survey(Trigger::Start, Duration::ZERO);
        }
        let room = self.room();
        let many = self.queue.ready(now) > room;
        let asked = self.survey_at.is_some_and(|at| at <= now) || self.next_pass <= now;
        if !self.surveying && (asked || (many && self.rested <= now)) {
            self.surveying = true;
            self.survey_began = now;
            self.survey_at = None;
            self.touched.clear();
            self.next_pass = now + self.host.resync.get();
            let trigger = self.survey_trigger.take().unwrap_or(Trigger::FullPass);
            let desired = self.fleet.as_ref().map(|fleet| Arc::clone(&fleet.effective));
            let host = Arc::clone(&self.host);
            let look = work::survey(engine, host, desired).map(|result| Ended::Survey(trigger, Box::new(result)));
            self.work.push(look.boxed_local());
            return;
        }
        self.snapshot_if_due(&engine);
        // Before everything was looked at once, nothing is known of the engine itself.
        if !self.surveyed || self.fleet.is_none() || (many && self.survey_is_young(now)) {
            return;
        }
        for (name, mark) in self.queue.take(now, room) {
            self.touch(&name);
            let order = self.order(&name, mark.trigger, mark.since);
            let (tools, facts) = (self.tools(Arc::clone(&engine)), Arc::clone(&self.facts));
            let look = work::look_and_repair(tools, order, facts, Rc::clone(&self.looking));
            self.work.push(look.map(|done| Ended::Tenant(Box::new(done))).boxed_local());
        }
    }

    /// What a look at everything that is under way says of this tenant may not hold any more.
    fn touch(&mut self, name: &str) {
        if self.surveying {
            self.touched.insert(name.to_owned());
        }
    }

    /// How many more tenants may be looked at one by one.
    fn room(&self) -> usize {
        // One place is the daemon's own.
        MANY.saturating_sub(Rc::strong_count(&self.looking) - 1)
    }

    /// Whether a look at everything is on its way that will soon answer what is asked.
    fn survey_is_young(&self, now: Instant) -> bool {
        self.surveying && now < self.survey_began + PATIENCE
    }

    fn tools(&self, engine: Arc<Engine>) -> Tools {
        Tools {
            engine,
            host: Arc::clone(&self.host),
            recorder: Arc::clone(&self.recorder),
            looks: Arc::clone(&self.looks),
            turns: Arc::clone(&self.turns),
            stop: Arc::clone(&self.stop),
        }
    }

    fn order(&self, name: &str, trigger: Trigger, since: Instant) -> Order {
        let fleet = self.fleet.as_ref();
        let accepted = self.state.accepted.as_ref();
        let older = fleet.is_some_and(|fleet| fleet.older.contains_key(name));
        Order {
            name: name.to_owned(),
            desired: fleet.map(|fleet| Arc::clone(&fleet.effective)).unwrap_or_default(),
            revision: fleet.map(|fleet| fleet.revision_of(name).clone()),
            signer: accepted.filter(|_| !older).and_then(|accepted| accepted.signer.clone()),
            trigger,
            since,
            reached: self.runs.get(name).and_then(|run| run.reached),
            mode: self.drift_mode(name),
            suspended: self.state.suspended.contains_key(name),
        }
    }

    fn drift_mode(&self, name: &str) -> DriftMode {
        self.fleet.as_ref().map_or(DriftMode::Enabled, |fleet| fleet.drift_mode(name, self.host.weakest_drift))
    }

    fn run_of(&mut self, name: &str) -> &mut Run {
        if !self.runs.contains_key(name) {
            self.runs.insert(name.to_owned(), Run::default());
        }
        self.runs.entry(name.to_owned()).or_default()
    }

    /// Something may be due by time before long.
    fn hasten(&mut self) {
        self.next_tick = self.next_tick.min(Instant::now() + TICK);
    }

    /// Asks for a look at everything, after a pause.
    fn ask_survey(&mut self, trigger: Trigger, pause: Duration) {
        let at = Instant::now() + pause;
        self.survey_at = Some(self.survey_at.map_or(at, |earlier| earlier.min(at)));
        self.survey_trigger.get_or_insert(trigger);
    }

    fn retry(&self) -> crate::model::policy::Retry {
        self.fleet.as_ref().map(|fleet| fleet.declared.policy.retry).unwrap_or_default()
    }

    fn tell(&self, event: NotifyEvent, tenant: Option<&str>, message: &str) {
        let revision = self.fleet.as_ref().map(|fleet| tenant.map_or(&fleet.revision, |name| fleet.revision_of(name)));
        self.notifier.tell(Notification {
            event,
            tenant: tenant.map(str::to_owned),
            revision: revision.cloned(),
            message: message.to_owned(),
        });
    }

    /// Writes an entry. Where that fails it is said; a later one tells of the gap.
    async fn record(&mut self, entry: Entry) {
        if let Err(e) = self.journal.append(entry).await {
            self.metrics.journal_failed();
            tracing::error!(error = chain(&e), "cannot write the journal");
        }
    }

    fn journal_error(&self) -> Option<String> {
        self.journal.error().map(|error| chain(&error))
    }

    fn save(&mut self) -> bool {
        match self.state.save(&self.host.data_root) {
            Ok(()) => {
                self.state_unsaved = false;
                self.state_error = None;
                true
            }
            Err(e) => {
                let error = chain(&e);
                tracing::error!(error, "cannot keep the state");
                self.state_error = Some(error);
                self.state_unsaved = true;
                false
            }
        }
    }

    fn save_if_due(&mut self) {
        if self.state_unsaved && self.state_error.is_none() {
            self.save();
        }
    }

    /// When the loop must look around, if nothing comes in before.
    fn next_wake(&self) -> Instant {
        let now = Instant::now();
        let mut wake = self.next_tick;
        if self.engine.is_none() {
            return wake;
        }
        let room = self.room();
        let many = self.queue.ready(now) > room;
        if !self.surveying {
            wake = self.survey_at.map_or(wake, |at| wake.min(at)).min(self.next_pass);
        }
        if self.surveyed && self.fleet.is_some() {
            if many && self.surveying {
                wake = wake.min((self.survey_began + PATIENCE).max(now + TICK));
            } else if many {
                wake = wake.min(self.rested);
            } else {
                wake = self.queue.next_due().map_or(wake, |due| wake.min(due));
            }
        }
        wake.max(now)
    }
}

async fn open_mirror(host: &Host, source: &crate::model::host::Source) -> anyhow::Result<Mirror> {
    let (folder, source): (PathBuf, _) = (host.data_root.join("source.git"), source.clone());
    let opened = tokio::task::spawn_blocking(move || Mirror::open(&folder, &source)).await;
    opened.context("cannot open the mirror of the config repo")?.context("cannot open the mirror of the config repo")
}
