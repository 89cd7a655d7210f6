//! The work that goes on beside the loop: how much of it at once, and how its end comes back.

use std::{
    collections::BTreeMap,
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Instant,
};

use futures_util::{FutureExt, StreamExt, future::LocalBoxFuture, stream::FuturesUnordered};
use tokio::sync::Semaphore;

use super::{
    engine_view::EngineView,
    workers::{self, ContainmentBarrier, FullScanResult, ReconcileRequest, ReconcileResult, WorkerContext},
};
use crate::{
    engine::Engine,
    model::{Desired, Host, Powers, TenantPlan, record::Trigger},
    reconcile::{Known, Recorder},
};

/// How many tenants are observed one by one, or wait for that. Where there are more, one full scan is cheaper: it lists once.
const MANY: usize = 16;

/// How many tenants are observed beside the work on them.
const BESIDE: usize = 8;

/// How many tenants are observed side by side; more gain nothing on one engine.
const OBSERVATIONS: usize = 8;

/// What ends beside the loop.
pub(super) enum Ended {
    Tenant(Box<ReconcileResult>),
    Beside(Box<ReconcileResult>),
    FullScan(Trigger, Box<Result<FullScanResult, String>>),
    Snapshot(Result<(), String>),
    /// Runtimes were tested; these could start nothing before.
    Tested(BTreeMap<String, String>),
}

pub(super) struct Workers {
    recorder: Arc<Recorder>,
    observing: Arc<Semaphore>,
    turns: Arc<Semaphore>,
    containing: Arc<Semaphore>,
    stop: Arc<AtomicBool>,
    jobs: FuturesUnordered<LocalBoxFuture<'static, Ended>>,
    /// Held by each observation of one tenant that has begun, or waits for its place.
    one_by_one: Rc<()>,
    /// Held by each observation beside the work on a tenant.
    beside: Rc<()>,
}

impl Workers {
    pub(super) fn new(recorder: Recorder, parallelism: usize) -> Self {
        Self {
            recorder: Arc::new(recorder),
            observing: Arc::new(Semaphore::new(OBSERVATIONS)),
            turns: Arc::new(Semaphore::new(parallelism.max(1))),
            containing: Arc::new(Semaphore::new(parallelism.max(1))),
            stop: Arc::new(AtomicBool::new(false)),
            jobs: FuturesUnordered::new(),
            one_by_one: Rc::new(()),
            beside: Rc::new(()),
        }
    }

    /// Has so many tenants worked on at once from now on.
    pub(super) fn resize(&mut self, parallelism: usize) {
        self.turns = Arc::new(Semaphore::new(parallelism.max(1)));
        self.containing = Arc::new(Semaphore::new(parallelism.max(1)));
    }

    /// How many more tenants may be observed one by one.
    pub(super) fn room(&self) -> usize {
        // One holder is the pool itself.
        MANY.saturating_sub(Rc::strong_count(&self.one_by_one) - 1)
    }

    /// How many more tenants may be observed beside the work on them.
    pub(super) fn room_beside(&self) -> usize {
        BESIDE.saturating_sub(Rc::strong_count(&self.beside) - 1)
    }

    pub(super) fn is_idle(&self) -> bool {
        self.jobs.is_empty()
    }

    /// What ends next; `None` where nothing goes on.
    pub(super) async fn next(&mut self) -> Option<Ended> {
        self.jobs.next().await
    }

    /// Has no further step begin.
    pub(super) fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    fn context(&self, host: &Arc<Host>, view: &EngineView, engine: &Arc<Engine>) -> WorkerContext {
        WorkerContext {
            engine: Arc::clone(engine),
            host: Arc::clone(host),
            recorder: Arc::clone(&self.recorder),
            runtimes: Arc::clone(&view.runtimes),
            observing: Arc::clone(&self.observing),
            turns: Arc::clone(&self.turns),
            containing: Arc::clone(&self.containing),
            stop: Arc::clone(&self.stop),
        }
    }

    /// Observes a tenant, and makes it as declared where that is allowed.
    pub(super) fn reconcile(
        &self,
        host: &Arc<Host>,
        view: &EngineView,
        engine: &Arc<Engine>,
        request: ReconcileRequest,
    ) {
        self.observe(host, view, engine, request, &self.one_by_one, Ended::Tenant);
    }

    /// Observes a tenant beside the work on it.
    pub(super) fn reconcile_beside(
        &self,
        host: &Arc<Host>,
        view: &EngineView,
        engine: &Arc<Engine>,
        request: ReconcileRequest,
    ) {
        self.observe(host, view, engine, request, &self.beside, Ended::Beside);
    }

    /// Observes a tenant in one of these places. How it ended is reported in this form.
    fn observe(
        &self,
        host: &Arc<Host>,
        view: &EngineView,
        engine: &Arc<Engine>,
        request: ReconcileRequest,
        places: &Rc<()>,
        ended: fn(Box<ReconcileResult>) -> Ended,
    ) {
        let (context, facts) = (self.context(host, view, engine), Arc::clone(&view.facts));
        let job = workers::observe_and_repair(context, request, facts, Rc::clone(places));
        self.jobs.push(job.map(move |result| ended(Box::new(result))).boxed_local());
    }

    /// Makes tenants as declared that a full scan planned for. None is repaired before all are contained.
    pub(super) fn repair_all(
        &self,
        host: &Arc<Host>,
        view: &EngineView,
        engine: &Arc<Engine>,
        requests: Vec<(ReconcileRequest, TenantPlan)>,
    ) {
        let barrier = ContainmentBarrier::new(requests.len());
        for (request, plan) in requests {
            let job = workers::repair(self.context(host, view, engine), request, plan, Rc::clone(&barrier));
            self.jobs.push(job.map(|result| Ended::Tenant(Box::new(result))).boxed_local());
        }
    }

    /// Observes everything, and plans for what is desired.
    pub(super) fn full_scan(
        &self,
        host: &Arc<Host>,
        engine: &Arc<Engine>,
        desired: Option<Arc<Desired>>,
        known: Known,
        trigger: Trigger,
    ) {
        let job = workers::full_scan(Arc::clone(engine), Arc::clone(host), desired, known);
        self.jobs.push(job.map(|result| Ended::FullScan(trigger, Box::new(result))).boxed_local());
    }

    /// Writes what there is for those who plan elsewhere.
    pub(super) fn snapshot(&self, host: &Arc<Host>, engine: &Arc<Engine>, powers: Arc<Powers>) {
        let job = workers::snapshot(Arc::clone(engine), Arc::clone(host), powers);
        self.jobs.push(job.map(Ended::Snapshot).boxed_local());
    }

    /// Tests runtimes.
    pub(super) fn test_runtimes(&self, host: &Arc<Host>, view: &EngineView, engine: &Arc<Engine>, names: Vec<String>) {
        let before = view.runtimes.failing();
        let (host, runtimes) = (Arc::clone(host), Arc::clone(&view.runtimes));
        let job = workers::test_runtimes(Arc::clone(engine), host, runtimes, names, Instant::now());
        self.jobs.push(job.map(|()| Ended::Tested(before)).boxed_local());
    }
}
