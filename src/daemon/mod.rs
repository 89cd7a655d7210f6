//! `tenantd run`: follows the config repo and the engine, and makes the one as the other says.
//!
//! One loop owns all parts and decides with them; it never waits. Commits come in from `intake`, the engine's events from
//! `link`, questions from the socket. Work on tenants runs beside it and reports its end. Whatever leads to an observation
//! is recorded and has no say in what is done: a tenant is observed, compared and repaired the same way every time.

mod board;
mod capacity;
mod commits;
mod conditions;
mod config_repo;
mod due;
mod engine_view;
mod events;
mod full_scan;
mod gateway;
mod host_view;
mod in_force;
mod ingress;
mod ingress_view;
mod intake;
mod link;
mod making_room;
mod outcomes;
mod pool;
mod power;
mod reporter;
mod requests;
mod settings;
mod tenants;
mod timer;
mod tokens;
mod watching;
mod web_server;
mod workers;

use std::{
    path::Path,
    rc::Rc,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use futures_util::FutureExt;
use jiff::Timestamp;

use crate::{
    fault::chain,
    host::{
        EgressPaths, HostChange, Lock, LockError, modes,
        signals::{self, Signals},
    },
    journal::{self, Journal},
    metrics::Metrics,
    model::{Host, Powers, record::Trigger, status::Correction},
    notify::Notifier,
    plan::brief,
    reconcile::{Known, Recorder},
    web::Request,
};
pub use in_force::StateError;

use capacity::Demand;
use conditions::Conditions;
use config_repo::ConfigRepo;
use engine_view::EngineView;
use events::{DaemonStopped, started};
use full_scan::FullScan;
use host_view::HostView;
use in_force::InForce;
use ingress_view::IngressView;
use intake::SourceNews;
use link::LinkNews;
use pool::{Ended, Workers};
use reporter::Reporter;
use tenants::{PAUSE, Taken, Tenants};
use timer::Timer;
use web_server::WebServer;
use workers::{Extent, ReconcileRequest};

/// How much of what has come is taken in from each source before the others have their turn, and how many requests,
/// each of which may compose the status of all tenants or wait for the disk; no further one begins after so long.
const SHARE: usize = 256;
const REQUESTS: usize = 4;
const REQUESTS_TIME: Duration = Duration::from_millis(20);

/// How long notifications that wait may take at the end.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(2);

/// How long the steps in hand may take to end after a signal. `systemd/tenantd.service` waits longer.
const GRACE: Duration = Duration::from_secs(20);

/// How long another process may still hold the data root. One that was killed while it started git holds
/// it until git has begun.
const TAKEOVER: Duration = Duration::from_secs(5);

/// Reads the host's settings anew.
pub type Reload = Box<dyn Fn() -> anyhow::Result<Host>>;

/// What tenants were asked to do, as the daemon of this host last noted it.
///
/// # Errors
/// The note is there and cannot be read, or a newer version wrote it.
pub fn powers(data_root: &Path) -> anyhow::Result<Arc<Powers>> {
    in_force::powers(data_root).context("cannot read which tenants are asleep")
}

/// Runs until a signal ends it, within a [`tokio::task::LocalSet`].
///
/// # Errors
/// The settings name no config repo, another process has the data root, or the journal, the state,
/// the mirror of the repo or the socket cannot be used.
pub async fn run(host: Host, reload: Reload) -> anyhow::Result<()> {
    let mut daemon = Daemon::begin(host, reload).await?;
    daemon.main_loop().await;
    daemon.end().await;
    daemon.reporter.notifier.finish(DRAIN_TIMEOUT).await;
    Ok(())
}

/// What the loop waits for.
enum Came {
    Signal(signals::Signal),
    Request(Request),
    Ended(Ended),
    Link(LinkNews),
    Change(HostChange),
    Source(SourceNews),
}

/// The parts of the daemon, each with what it knows; what one of them does never reaches into another.
struct Daemon {
    host: Arc<Host>,
    reload: Reload,
    _lock: Lock,
    started: Timestamp,
    signals: Signals,
    web: WebServer,
    repo: ConfigRepo,
    host_view: HostView,
    view: EngineView,
    scan: FullScan,
    in_force: InForce,
    /// `None` where the host has no ingress.
    ingress: Option<IngressView>,
    demand: Demand,
    tenants: Tenants,
    workers: Workers,
    conditions: Conditions,
    reporter: Reporter,
    timer: Timer,
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
        let closed = modes::data_root(&host.data_root);
        closed.with_context(|| format!("cannot use the data root {}", host.data_root.display()))?;
        let lock = Lock::wait(&host.data_root, TAKEOVER, waiting).await?;
        EgressPaths::new(&host).begin().await.context("cannot use the gateway's folder and namespace")?;
        let (journal, opened) = Journal::open(&journal::folder(&host.data_root), host.journal)?;
        if let Some(recovered) = &opened.recovered {
            tracing::warn!(
                file = recovered.file,
                moved_to = recovered.aside,
                "moved a torn end of the journal to a file beside it"
            );
        }
        if let Some(damage) = &opened.damage {
            tracing::error!(damage, "the journal is damaged; `tenantd audit verify` says where");
        }
        let (in_force, damaged) = InForce::load(&host.data_root)?;
        if let Some(moved_to) = damaged {
            tracing::error!(moved_to = %moved_to.display(), "the state could not be read and was moved to a file beside it");
        }
        let accepted = in_force.state().accepted.as_ref().map(|one| one.revision.commit.clone());
        let ingress = IngressView::begin(&host, Instant::now())?;
        let repo = ConfigRepo::begin(&host, &source, accepted).await?;
        journal.append(started()).await?;

        let (metrics, now) = (Metrics::new(), Instant::now());
        let notifier = Notifier::start(host.notify.clone(), metrics.clone());
        let mut daemon = Self {
            web: WebServer::begin(&host, metrics.clone())?,
            host_view: HostView::begin(&host),
            view: EngineView::begin(&host),
            workers: Workers::new(Recorder::new(journal.clone()), host.parallelism),
            reporter: Reporter::new(journal, metrics, notifier),
            host,
            reload,
            _lock: lock,
            started: Timestamp::now(),
            signals,
            repo,
            scan: FullScan::new(now),
            in_force,
            ingress,
            demand: Demand::new(now),
            tenants: Tenants::default(),
            conditions: Conditions::default(),
            timer: Timer::new(now),
        };
        daemon.restore().await;
        for (tenant, (time, step, outcome)) in opened.last {
            let what = brief::correction_of(&step);
            let correction = Correction { time, what, why: step.why, took_ms: outcome.took_ms };
            daemon.tenants.corrected(&tenant, correction);
        }
        Ok(daemon)
    }

    async fn main_loop(&mut self) {
        signals::ready();
        tracing::info!(source = self.repo.status.url, engine = %self.host.engine.display(), "following");
        loop {
            if self.timer.next_tick() <= Instant::now() {
                self.time_passed().await;
            }
            self.wake_who_waits().await;
            self.pump();
            self.tell_ingress();
            self.in_force.save_if_due();
            self.signals.alive();
            let came = match self.signals.next().now_or_never() {
                Some(signal) => Some(Came::Signal(signal)),
                None if self.round().await => {
                    // Those who serve the sources run in the same thread.
                    tokio::task::yield_now().await;
                    None
                }
                None => self.wait().await,
            };
            match came {
                Some(Came::Signal(signals::Signal::End)) => break,
                Some(Came::Signal(signals::Signal::Reload)) => self.reload_settings().await,
                Some(Came::Request(request)) => self.answer(request).await,
                Some(Came::Ended(ended)) => self.ended(ended).await,
                Some(Came::Link(news)) => self.engine_news(news),
                Some(Came::Change(change)) => self.host_news(change),
                Some(Came::Source(news)) => self.source_news(news).await,
                None => {}
            }
        }
    }

    /// Takes in what has come, of each source no more than a share, so that none keeps the others waiting. False where
    /// nothing has.
    async fn round(&mut self) -> bool {
        let mut any = false;
        for _ in 0..SHARE {
            let Some(Some(ended)) = self.workers.next().now_or_never() else { break };
            any = true;
            self.ended(ended).await;
        }
        for _ in 0..SHARE {
            let Ok(news) = self.view.link.news.try_recv() else { break };
            any = true;
            self.engine_news(news);
        }
        for _ in 0..SHARE {
            let Some(Some(change)) = self.host_view.changes.next().now_or_never() else { break };
            any = true;
            self.host_news(change);
        }
        if let Ok(news) = self.repo.intake.news.try_recv() {
            any = true;
            self.source_news(news).await;
        }
        let until = Instant::now() + REQUESTS_TIME;
        for _ in 0..REQUESTS {
            if Instant::now() > until {
                break;
            }
            let Ok(request) = self.web.requests.try_recv() else { break };
            any = true;
            self.answer(request).await;
        }
        any
    }

    /// Waits for what comes next, or until something is due.
    async fn wait(&mut self) -> Option<Came> {
        let wake = self.next_wake();
        let is_idle = self.workers.is_idle();
        tokio::select! {
            signal = self.signals.next() => Some(Came::Signal(signal)),
            Some(request) = self.web.requests.recv() => Some(Came::Request(request)),
            Some(ended) = self.workers.next(), if !is_idle => Some(Came::Ended(ended)),
            Some(news) = self.view.link.news.recv() => Some(Came::Link(news)),
            Some(change) = self.host_view.changes.next() => Some(Came::Change(change)),
            Some(news) = self.repo.intake.news.recv() => Some(Came::Source(news)),
            () = tokio::time::sleep_until(wake.into()) => None,
        }
    }

    async fn ended(&mut self, ended: Ended) {
        match ended {
            Ended::Tenant(done) => self.tenant_done(*done).await,
            Ended::Beside(done) => self.beside_done(*done).await,
            Ended::FullScan(trigger, result) => self.full_scan_done(trigger, *result).await,
            Ended::Snapshot(result) => self.snapshot_done(result),
            Ended::Tested(before) => self.runtimes_tested(&before),
        }
    }

    /// Lets the steps in hand end, within a bound.
    async fn end(&mut self) {
        signals::stopping();
        tracing::info!("ending; running steps are finished first");
        self.workers.stop();
        // Nobody waits there for news any more.
        self.ingress = None;
        self.web.end().await;
        let work = async { while self.workers.next().await.is_some() {} };
        tokio::select! {
            () = work => {}
            () = tokio::time::sleep(GRACE) => tracing::warn!("some steps did not end in time; the next start observes what they did"),
            _ = self.signals.next() => tracing::warn!("ended at once by a second signal"),
        }
        drop(self.in_force.save());
        self.reporter.report(&DaemonStopped).await;
    }

    /// Begins all work that can begin now.
    fn pump(&mut self) {
        let Some(engine) = self.view.engine.clone() else { return };
        let now = Instant::now();
        if self.view.link.take_overflow() {
            self.scan.ask(Trigger::Start, now);
        }
        let room = self.workers.room();
        let many = self.tenants.ready(now) > room;
        if let Some(trigger) = self.scan.begin(now, many, self.host.resync.get()) {
            let desired = self.in_force.effective().cloned();
            self.workers.full_scan(&self.host, &engine, desired, self.known(), trigger);
            return;
        }
        self.snapshot_if_due(now);
        // Before everything was observed once, nothing is known of the engine itself.
        if !self.scan.is_complete() || self.in_force.fleet.is_none() {
            return;
        }
        for (name, mark) in self.tenants.take_beside(now, self.workers.room_beside()) {
            self.scan.touch(&name);
            let request = self.request(&name, mark.trigger, mark.since, true);
            self.workers.reconcile_beside(&self.host, &self.view, &engine, request);
        }
        if many && self.scan.is_young(now) {
            return;
        }
        for Taken { name, mark, waits } in self.tenants.take(now, room) {
            self.scan.touch(&name);
            let request = self.request(&name, mark.trigger, mark.since, waits);
            self.tenants.work_begins(&name, Rc::clone(&request.hand));
            self.workers.reconcile(&self.host, &self.view, &engine, request);
        }
    }

    /// What is asked for a tenant; containment alone where its repair `waits`.
    fn request(&self, name: &str, trigger: Trigger, since: Instant, waits: bool) -> ReconcileRequest {
        let skip = || self.tenants.steps_that_wait(name, Instant::now());
        ReconcileRequest {
            name: name.to_owned(),
            desired: self.in_force.effective().cloned().unwrap_or_default(),
            revision: self.in_force.revision(Some(name)),
            signer: self.in_force.signer(name).cloned(),
            trigger,
            since,
            reached: match self.in_force.powers().holds.get(name) {
                Some(hold) if !hold.reached => Some(false),
                Some(_) | None => self.tenants.get(name).and_then(|runtime| runtime.reached),
            },
            mode: self.in_force.drift_mode(name, self.host.weakest_drift),
            suspended: self.in_force.suspension(name).is_some(),
            extent: if waits { Extent::Contain(skip()) } else { Extent::Repair },
            known: self.known(),
            hand: Rc::default(),
        }
    }

    /// What is known beside what an observation shows.
    fn known(&self) -> Known {
        Known {
            refused_limits: self.view.objects.refused_limits.clone(),
            failing_runtimes: self.view.runtimes.failing(),
            powers: Arc::clone(self.in_force.powers()),
        }
    }

    /// When the loop must look around, if nothing comes in before.
    fn next_wake(&self) -> Instant {
        let (now, mut wake) = (Instant::now(), self.timer.next_tick());
        wake = self.ingress.as_ref().and_then(|ingress| ingress.board.due()).map_or(wake, |due| wake.min(due));
        if self.view.engine.is_none() {
            return wake;
        }
        wake = self.scan.due().map_or(wake, |due| wake.min(due));
        if self.scan.is_complete() && self.in_force.fleet.is_some() {
            wake = self.tenants.next_beside().map_or(wake, |at| wake.min(at.max(now + PAUSE)));
            let next = if self.tenants.ready(now) > self.workers.room() {
                Some(self.scan.due_for_many(now))
            } else {
                self.tenants.next_due()
            };
            wake = next.map_or(wake, |due| wake.min(due));
        }
        wake.max(now)
    }
}
