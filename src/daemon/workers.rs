//! The work itself: an observation of one tenant or of everything, and the steps that follow from it.

use std::{
    cell::Cell,
    rc::Rc,
    sync::{Arc, atomic::AtomicBool},
    time::{Duration, Instant},
};

use tokio::sync::{Notify, Semaphore};

use crate::{
    engine::Engine,
    fault::chain,
    host,
    model::{
        Desired, DriftMode, Host, Powers, Revision, Step, TenantName, TenantPlan, observed::EngineFacts,
        record::Trigger, record::Why,
    },
    plan::{self, brief, guard::plan_id},
    reconcile::{self, Contained, Context, InHand, Known, Outcome, Recorder, Runtimes, Worker},
};

/// How long a tenant waits for the containment of others before it goes on.
const BARRIER_TIMEOUT: Duration = Duration::from_secs(3);

/// How many tenants are inspected and planned at a time in a full scan.
const PART: usize = 500;

/// What work is done with.
#[derive(Clone)]
pub(super) struct WorkerContext {
    pub(super) engine: Arc<Engine>,
    pub(super) host: Arc<Host>,
    pub(super) recorder: Arc<Recorder>,
    pub(super) runtimes: Arc<Runtimes>,
    /// Places for observations, and for tenants whose steps run.
    pub(super) observing: Arc<Semaphore>,
    pub(super) turns: Arc<Semaphore>,
    pub(super) containing: Arc<Semaphore>,
    pub(super) stop: Arc<AtomicBool>,
}

/// How far work on a tenant goes.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Extent {
    /// Containment, then repair.
    Repair,
    /// Containment alone: a repair waits after failures, or is under way. These steps are left out for now.
    Contain(Vec<Step>),
}

/// What is asked for one tenant.
pub(super) struct ReconcileRequest {
    pub(super) name: String,
    pub(super) desired: Arc<Desired>,
    pub(super) revision: Option<Revision>,
    pub(super) signer: Option<String>,
    pub(super) trigger: Trigger,
    pub(super) since: Instant,
    /// Whether the declaration is known to have been reached before, so that all that differs is drift;
    /// `None` where that is not known.
    pub(super) reached: Option<bool>,
    pub(super) mode: DriftMode,
    pub(super) suspended: bool,
    pub(super) extent: Extent,
    pub(super) known: Known,
    /// The work as others see it.
    pub(super) hand: Rc<InHand>,
}

/// Why a tenant was observed, since when that was due, and whether it may be repaired now.
#[derive(Clone, Copy)]
pub(super) struct Occasion<'a> {
    pub(super) trigger: &'a Trigger,
    pub(super) since: Instant,
    pub(super) repairs: bool,
}

/// The event by which a tenant is observed that is to run since a request came for it.
pub(super) const WAKE: &str = "request";

impl ReconcileRequest {
    /// Whether somebody waits for the tenant to run.
    pub(super) fn is_awaited(&self) -> bool {
        matches!(&self.trigger, Trigger::Event { event, .. } if event == WAKE)
    }

    /// Why it is given.
    pub(super) fn occasion(&self) -> Occasion<'_> {
        Occasion { trigger: &self.trigger, since: self.since, repairs: self.extent == Extent::Repair }
    }
}

/// What became of a tenant.
pub(super) struct ReconcileResult {
    pub(super) request: ReconcileRequest,
    pub(super) result: Result<Reconciled, String>,
}

/// A tenant as it was observed, and what was done.
pub(super) struct Reconciled {
    pub(super) plan: TenantPlan,
    pub(super) why: Why,
    /// `None` where nothing was to be done, or nothing may be.
    pub(super) outcome: Option<Outcome>,
    /// The steps of the containment that were taken, and whether they succeeded.
    pub(super) contained: Vec<(Step, bool)>,
}

/// What a full scan found.
pub(super) struct FullScanResult {
    /// What was compared with.
    pub(super) desired: Option<Arc<Desired>>,
    pub(super) found: reconcile::Survey,
    pub(super) took: Duration,
}

/// Writes what there is for those who plan elsewhere.
pub(super) async fn snapshot(engine: Arc<Engine>, host: Arc<Host>, powers: Arc<Powers>) -> Result<(), String> {
    let text = reconcile::take_snapshot(&engine, &host, powers).await.map_err(|e| chain(&e))?;
    let path = host.snapshot_file();
    let write = move || host::replace(&path, text.as_bytes()).map_err(|e| format!("{}: {e}", path.display()));
    tokio::task::spawn_blocking(write).await.map_err(|e| e.to_string())?
}

/// Tests runtimes, unless that was done since then.
pub(super) async fn test_runtimes(
    engine: Arc<Engine>,
    host: Arc<Host>,
    runtimes: Arc<Runtimes>,
    names: Vec<String>,
    since: Instant,
) {
    futures_util::future::join_all(names.iter().map(|name| runtimes.test(&engine, &host, name, since))).await;
}

/// Observes everything. Without declarations nothing is planned.
pub(super) async fn full_scan(
    engine: Arc<Engine>,
    host: Arc<Host>,
    desired: Option<Arc<Desired>>,
    known: Known,
) -> Result<FullScanResult, String> {
    let begun = Instant::now();
    let found = reconcile::survey(&engine, &host, desired.as_deref(), PART, known);
    let found = found.await.map_err(|e| chain(&e))?;
    Ok(FullScanResult { desired, found, took: begun.elapsed() })
}

/// Observes one tenant, and makes it as declared where that is allowed.
///
/// `place` is let go of when the observation is over.
pub(super) async fn observe_and_repair(
    context: WorkerContext,
    request: ReconcileRequest,
    facts: Arc<EngineFacts>,
    place: Rc<()>,
) -> ReconcileResult {
    let result = async {
        let name: TenantName = request.name.parse().map_err(|_| "its label is no tenant's name".to_owned())?;
        let declared = request.desired.tenants.get(request.name.as_str()).map(Arc::as_ref);
        let turn = context.observing.acquire().await.ok();
        let observed = reconcile::observe_tenant(&context.engine, &context.host, &name, declared, &facts);
        let mut observed = observed.await.map_err(|e| chain(&e))?;
        let failing_runtimes = context.runtimes.failing();
        Known { failing_runtimes, ..request.known.clone() }.complete(&mut observed);
        drop((turn, place));
        let one = alone(&request.desired, &request.name);
        let plan = plan::plan_tenant(&request.name, &one, &context.host, &observed);
        Ok(carry_out(&context, &request, plan, None).await)
    };
    let result = result.await;
    ReconcileResult { request, result }
}

/// Makes a tenant as declared out of a plan that a full scan led to.
pub(super) async fn repair(
    context: WorkerContext,
    request: ReconcileRequest,
    plan: TenantPlan,
    barrier: Rc<ContainmentBarrier>,
) -> ReconcileResult {
    let done = carry_out(&context, &request, plan, Some(&barrier)).await;
    ReconcileResult { request, result: Ok(done) }
}

async fn carry_out(
    context: &WorkerContext,
    request: &ReconcileRequest,
    plan: TenantPlan,
    barrier: Option<&ContainmentBarrier>,
) -> Reconciled {
    let why = why(request, &plan);
    let allowed = is_allowed(request, &plan, why);
    if !allowed {
        if let Some(barrier) = barrier {
            barrier.done();
        }
        return Reconciled { plan, why, outcome: None, contained: Vec::new() };
    }
    let revision = request.revision.as_ref().map(ToString::to_string);
    let recorded = Context {
        trigger: request.trigger.clone(),
        why,
        live: request.reached.map(|reached| if reached { Why::Drift } else { Why::Intent }),
        plan: plan_id(revision.as_deref(), [&plan]),
        revision,
        signer: request.signer.clone(),
    };
    let worker = Worker {
        engine: &context.engine,
        host: &context.host,
        runtimes: &context.runtimes,
        turns: &context.turns,
        containing: &context.containing,
        hand: &request.hand,
        record: Some((&context.recorder, &recorded)),
        stop: &context.stop,
        report: &|_| {},
    };
    let (skip, repairs): (&[Step], _) = match &request.extent {
        Extent::Repair => (&[], true),
        Extent::Contain(failed) => (failed, false),
    };
    let begun = Instant::now();
    let Contained { taken, failure } = worker.contain_but_for(&plan, skip).await;
    if let Some(barrier) = barrier {
        barrier.done();
    }
    let outcome = if repairs {
        if let Some(barrier) = barrier {
            barrier.all().await;
        }
        Some(worker.converge(&plan, failure).await)
    } else {
        let took = begun.elapsed();
        (!taken.is_empty()).then(|| Outcome { tenant: plan.tenant.clone(), failure, took })
    };
    Reconciled { plan, why, outcome, contained: taken }
}

/// Whether a plan carries out a declaration or repairs drift.
fn why(request: &ReconcileRequest, plan: &TenantPlan) -> Why {
    match request.reached {
        Some(true) => Why::Drift,
        Some(false) if plan.all_steps().any(Step::changes_limits) => Why::Intent,
        Some(false) => brief::why(plan, Why::Intent),
        // A workspace that is there already says that the tenant was made before.
        None => {
            let new = plan.all_steps().any(Step::makes_workspace);
            brief::why(plan, if new { Why::Intent } else { Why::Drift })
        }
    }
}

/// Whether a plan is carried out, or only shown.
fn is_allowed(request: &ReconcileRequest, plan: &TenantPlan, why: Why) -> bool {
    plan.will_change() && !request.suspended && (why == Why::Intent || request.mode == DriftMode::Enabled)
}

/// The part of the declarations that concerns one tenant.
fn alone(desired: &Desired, name: &str) -> Desired {
    let mut one = Desired { policy_usable: desired.policy_usable, ..Desired::default() };
    if let Some((name, tenant)) = desired.tenants.get_key_value(name) {
        one.tenants.insert(name.clone(), tenant.clone());
    }
    if desired.held.contains(name) {
        one.held.insert(name.to_owned());
        one.held_back
            .extend(desired.held_back.get_key_value(name).map(|(name, tenant)| (name.clone(), tenant.clone())));
    }
    one
}

/// Where the tenants of one full scan wait until what weakens isolation is contained for all of them.
pub(super) struct ContainmentBarrier {
    left: Cell<usize>,
    nobody_left: Notify,
}

impl ContainmentBarrier {
    pub(super) fn new(tenants: usize) -> Rc<Self> {
        Rc::new(Self { left: Cell::new(tenants), nobody_left: Notify::new() })
    }

    fn done(&self) {
        self.left.set(self.left.get().saturating_sub(1));
        if self.left.get() == 0 {
            self.nobody_left.notify_waiters();
        }
    }

    /// Waits for the others, and not for one that hangs.
    async fn all(&self) {
        let notified = self.nobody_left.notified();
        if self.left.get() > 0 {
            let _ = tokio::time::timeout(BARRIER_TIMEOUT, notified).await;
        }
    }
}
