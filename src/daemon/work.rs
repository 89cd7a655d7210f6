//! The work itself: a look at one tenant or at everything, and the steps that follow from it.

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
        Desired, DriftMode, Host, Revision, Step, TenantName, TenantPlan, observed::EngineFacts, record::Trigger,
        record::Why,
    },
    plan::{self, guard::plan_id},
    reconcile::{self, Context, Outcome, Recorder, Worker},
};

/// How long a tenant waits for the containment of others before it goes on.
const MUSTER: Duration = Duration::from_secs(3);

/// How many tenants are inspected and planned at a time where everything is looked at.
const PART: usize = 500;

/// What work is done with.
#[derive(Clone)]
pub(super) struct Tools {
    pub(super) engine: Arc<Engine>,
    pub(super) host: Arc<Host>,
    pub(super) recorder: Arc<Recorder>,
    /// Places for looks, and for tenants whose steps run.
    pub(super) looks: Arc<Semaphore>,
    pub(super) turns: Arc<Semaphore>,
    pub(super) stop: Arc<AtomicBool>,
}

/// What is asked for one tenant.
pub(super) struct Order {
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
}

/// What became of a tenant.
pub(super) struct Done {
    pub(super) order: Order,
    pub(super) result: Result<Look, String>,
}

/// A tenant as it was found, and what was done.
pub(super) struct Look {
    pub(super) plan: TenantPlan,
    pub(super) why: Why,
    /// `None` where nothing was to be done, or nothing may be.
    pub(super) outcome: Option<Outcome>,
}

/// A look at everything.
pub(super) struct Survey {
    /// What was compared with.
    pub(super) desired: Option<Arc<Desired>>,
    pub(super) found: reconcile::Survey,
    pub(super) took: Duration,
}

/// Writes what there is for those who plan elsewhere.
pub(super) async fn snapshot(engine: Arc<Engine>, host: Arc<Host>) -> Result<(), String> {
    let text = reconcile::take_snapshot(&engine, &host).await.map_err(|e| chain(&e))?;
    let path = host.snapshot_file();
    let write = move || host::replace(&path, text.as_bytes()).map_err(|e| format!("{}: {e}", path.display()));
    tokio::task::spawn_blocking(write).await.map_err(|e| e.to_string())?
}

/// Looks at everything. Without declarations nothing is planned.
pub(super) async fn survey(
    engine: Arc<Engine>,
    host: Arc<Host>,
    desired: Option<Arc<Desired>>,
) -> Result<Survey, String> {
    let begun = Instant::now();
    let found = reconcile::survey(&engine, &host, desired.as_deref(), PART).await.map_err(|e| chain(&e))?;
    Ok(Survey { desired, found, took: begun.elapsed() })
}

/// Looks at one tenant, and makes it as declared where that is allowed.
///
/// `looking` is let go of when the look is over.
pub(super) async fn look_and_repair(tools: Tools, order: Order, facts: Arc<EngineFacts>, looking: Rc<()>) -> Done {
    let result = async {
        let name: TenantName = order.name.parse().map_err(|_| "its label is no tenant's name".to_owned())?;
        let declared = order.desired.tenants.get(order.name.as_str()).map(Arc::as_ref);
        let place = tools.looks.acquire().await.ok();
        let observed = reconcile::observe_tenant(&tools.engine, &tools.host, &name, declared, &facts);
        let observed = observed.await.map_err(|e| chain(&e))?;
        drop((place, looking));
        let one = alone(&order.desired, &order.name);
        let plan = plan::plan_tenant(&order.name, &one, &tools.host, &observed);
        Ok(carry_out(&tools, &order, plan, None).await)
    };
    let result = result.await;
    Done { order, result }
}

/// Makes a tenant as declared out of a plan that a survey led to.
pub(super) async fn repair(tools: Tools, order: Order, plan: TenantPlan, muster: Rc<Muster>) -> Done {
    let look = carry_out(&tools, &order, plan, Some(&muster)).await;
    Done { order, result: Ok(look) }
}

async fn carry_out(tools: &Tools, order: &Order, plan: TenantPlan, muster: Option<&Muster>) -> Look {
    let why = why(order, &plan);
    let allowed = is_allowed(order, &plan, why);
    if !allowed {
        if let Some(muster) = muster {
            muster.done();
        }
        return Look { plan, why, outcome: None };
    }
    let revision = order.revision.as_ref().map(ToString::to_string);
    let context = Context {
        trigger: order.trigger.clone(),
        why,
        live: order.reached.map(|reached| if reached { Why::Drift } else { Why::Intent }),
        plan: plan_id(revision.as_deref(), [&plan]),
        revision,
        signer: order.signer.clone(),
    };
    let worker = Worker {
        engine: &tools.engine,
        host: &tools.host,
        turns: &tools.turns,
        record: Some((&tools.recorder, &context)),
        stop: &tools.stop,
        tell: &|_| {},
    };
    let failure = worker.contain(&plan).await;
    if let Some(muster) = muster {
        muster.done();
        muster.all().await;
    }
    let outcome = worker.converge(&plan, failure).await;
    Look { plan, why, outcome: Some(outcome) }
}

/// Whether a plan carries out a declaration or repairs drift.
fn why(order: &Order, plan: &TenantPlan) -> Why {
    match order.reached {
        Some(true) => Why::Drift,
        Some(false) if plan.steps.iter().any(|step| matches!(step, Step::Update { .. })) => Why::Intent,
        Some(false) => reconcile::why(plan, Why::Intent),
        // A workspace that is there already says that the tenant was made before.
        None => {
            let makes = |step: &Step| matches!(step, Step::PrepareWorkspace { .. } | Step::MakeVolume { .. });
            let new = plan.steps.iter().any(makes);
            reconcile::why(plan, if new { Why::Intent } else { Why::Drift })
        }
    }
}

/// Whether a plan is carried out, or only shown.
fn is_allowed(order: &Order, plan: &TenantPlan, why: Why) -> bool {
    plan.will_change() && !order.suspended && (why == Why::Intent || order.mode == DriftMode::Enabled)
}

/// The part of the declarations that concerns one tenant.
fn alone(desired: &Desired, name: &str) -> Desired {
    let mut one = Desired { policy_usable: desired.policy_usable, ..Desired::default() };
    if let Some((name, tenant)) = desired.tenants.get_key_value(name) {
        one.tenants.insert(name.clone(), tenant.clone());
    }
    if desired.held.contains(name) {
        one.held.insert(name.to_owned());
    }
    one
}

/// Where the tenants of one survey wait until what weakens isolation is contained for all of them.
pub(super) struct Muster {
    left: Cell<usize>,
    nobody_left: Notify,
}

impl Muster {
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
            let _ = tokio::time::timeout(MUSTER, notified).await;
        }
    }
}
