//! Carrying a plan out: containment first and for all, then each tenant by itself.

use std::{
    cell::Cell,
    collections::BTreeMap,
    fmt,
    pin::pin,
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use futures_util::{StreamExt, stream::FuturesUnordered};
use tokio::sync::{Semaphore, SemaphorePermit};

use crate::{
    engine::{CallError, Engine},
    fault::chain,
    host::{
        ArchiveStamp, ConfigFiles, EgressError, EgressPaths, FilesError, ProvidedError, WorkspaceError, Workspaces,
        provide, reap,
    },
    journal::JournalError,
    model::{
        Container, EngineDefaults, Host, Network, Pairs, Plan, PlannedStep, RuntimeClass, Step, TenantName, TenantPlan,
        change::Object,
        observed::RunState,
        plan::Blocked,
        step::{START, Target},
    },
    plan::{compare_containers, daemon_settings, engine_defaults},
};

use super::{
    record::{Context, Recorder, StepBegun, StepEnded},
    removal::remove_hung,
    selftest::Runtimes,
};

/// How long a step keeps others waiting for its turn. One that takes longer goes on beside them.
const YIELD_AFTER: Duration = Duration::from_secs(3);

/// How often, and how far apart, something is looked for that the engine may still be making.
const ATTEMPTS: u32 = 30;
const ATTEMPT_PAUSE: Duration = Duration::from_millis(100);

/// What is reported while a plan is carried out.
#[derive(Debug)]
pub enum Event<'a> {
    /// A step of a tenant begins.
    Step {
        /// The tenant, by its name.
        tenant: &'a str,
        /// The step.
        step: &'a Step,
    },
    /// A tenant's steps have ended.
    Done(&'a Outcome),
}

/// What became of one tenant.
#[derive(Debug)]
pub struct Outcome {
    /// The tenant, by its name.
    pub tenant: String,
    /// Why it was not made as declared, if so.
    pub failure: Option<Failure>,
    /// How long it took.
    pub took: Duration,
}

/// What became of all tenants that the plan changed.
#[derive(Debug, Default)]
pub struct Applied {
    /// One entry for each, in the order in which they ended.
    pub outcomes: Vec<Outcome>,
}

impl Applied {
    /// The tenants whose limits were not lowered while their containers ran, each with its container's id.
    pub fn refused_limits(&self) -> BTreeMap<String, String> {
        let refused = self.outcomes.iter().filter_map(|outcome| match &outcome.failure {
            Some(Failure::LimitRefused { container, .. }) => Some((outcome.tenant.clone(), container.clone())),
            _ => None,
        });
        refused.collect()
    }

    /// Takes what became of some tenants in a later plan in the place of what became of them in this one.
    pub fn follow(&mut self, later: Self) {
        self.outcomes.retain(|outcome| later.outcomes.iter().all(|later| later.tenant != outcome.tenant));
        self.outcomes.extend(later.outcomes);
    }
}

/// Why a step failed.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The engine did not do it.
    #[error("{step}")]
    Engine {
        /// The step, as a person names it.
        step: StepName,
        /// What the engine said.
        source: CallError,
    },
    /// The engine did not make or start a container.
    #[error("{step}")]
    Start {
        /// The step, as a person names it.
        step: StepName,
        /// What the engine said.
        source: CallError,
    },
    /// The host did not do it.
    #[error(transparent)]
    Workspace(#[from] WorkspaceError),
    /// The config files were not written or removed.
    #[error(transparent)]
    Files(#[from] FilesError),
    /// What every container gets was not prepared.
    #[error(transparent)]
    Provided(#[from] ProvidedError),
    /// Egress was not made or closed.
    #[error("{step}")]
    Egress {
        /// The step, as a person names it.
        step: StepName,
        /// Why.
        source: EgressError,
    },
    /// The engine made something else than what was asked for, and it was removed again. That is the engine's doing or its
    /// configuration's, and says nothing of the declaration.
    #[error("the engine did not keep to what was declared, so the container was removed again: {0}")]
    NotAsDeclared(String),
    /// The engine's own configuration weakens what it makes, which was removed again.
    #[error("{reason}; {help}")]
    EngineSetting {
        /// The setting, and what it does.
        reason: String,
        /// What to do about it.
        help: String,
    },
    /// The journal cannot be written, and what cannot be recorded is not done.
    #[error("the step was not taken, because it could not be recorded")]
    Journal(#[from] JournalError),
    /// The program was asked to end before the step.
    #[error("tenantd was asked to end before it was done")]
    Stopped,
    /// The workspace is not there to be mounted.
    #[error("the workspace is missing")]
    WorkspaceMissing,
    /// Limits were not lowered while the container ran, as where it uses more memory than that: a container is made
    /// anew then.
    #[error("could not lower the limits of the container while it runs")]
    LimitRefused {
        /// The container's id.
        container: String,
        /// What the engine said.
        source: CallError,
    },
    /// The container started and ended at once.
    #[error("the container ended right after its start, with exit code {0}; `tenantd logs` shows what it printed")]
    Ended(i64),
    /// The container started, and the engine did not say what became of it.
    #[error("could not see whether the container runs: {0}")]
    Unseen(String),
    /// The container did not start or ended at once, and so does any other of its runtime.
    #[error("the runtime {runtime} cannot start anything on this engine: {reason}")]
    RuntimeFails {
        /// The engine's name of it.
        runtime: String,
        /// What a test of it showed.
        reason: String,
    },
    /// The plan names a tenant that is none, or a container that no step made.
    #[error("the plan cannot be carried out as it is: {0}")]
    Plan(&'static str),
}

impl Failure {
    /// Whether it may be for what a declaration has a container started with: its image, its command, its files. A limit
    /// that is not taken, a network and all that is the host's to do say nothing of that.
    pub fn is_of_start(&self) -> bool {
        match self {
            Self::Ended(_) => true,
            Self::Start { source, .. } => matches!(source, CallError::Refused { .. } | CallError::TimedOut { .. }),
            Self::NotAsDeclared(_)
            | Self::EngineSetting { .. }
            | Self::Engine { .. }
            | Self::Workspace(_)
            | Self::Files(_)
            | Self::Provided(_)
            | Self::Egress { .. }
            | Self::LimitRefused { .. }
            | Self::Journal(_)
            | Self::Stopped
            | Self::WorkspaceMissing
            | Self::Unseen(_)
            | Self::RuntimeFails { .. }
            | Self::Plan(_) => false,
        }
    }

    /// Whether it may be for a runtime that cannot start anything: of what may be the declaration's fault, what came when the
    /// container was to run.
    fn may_be_the_runtimes(&self) -> bool {
        let is_earlier = matches!(self, Self::Start { step, .. } if step.0 != START);
        self.is_of_start() && !is_earlier
    }
}

/// A step, as a person names it.
#[derive(Clone, Copy, Debug)]
pub struct StepName(&'static str);

impl fmt::Display for StepName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "could not {}", self.0)
    }
}

/// Carries a plan out.
///
/// What weakens isolation is contained first, for all tenants. Then each tenant's steps run in their
/// order; tenants run side by side, at most `host.parallelism` at once, and one that hangs gives its
/// place away. A failed step ends its tenant alone. To be cut off at any point is safe: another observation
/// and another plan end where this one would have.
///
/// `report` hears of each step and each end; `record` has them written to the journal.
pub async fn apply(
    engine: &Engine,
    host: &Host,
    plan: &Plan,
    record: Option<(&Recorder, &Context)>,
    report: &dyn Fn(Event<'_>),
) -> Applied {
    let [turns, containing] = [(); 2].map(|()| Semaphore::new(host.parallelism.max(1)));
    let (stop, hand, runtimes) = (AtomicBool::new(false), InHand::default(), Runtimes::default());
    let worker = Worker {
        engine,
        host,
        runtimes: &runtimes,
        turns: &turns,
        containing: &containing,
        hand: &hand,
        record,
        stop: &stop,
        report,
    };
    let changed = || plan.tenants.iter().filter(|tenant| tenant.will_change());

    let contained = futures_util::future::join_all(changed().map(|tenant| worker.contain(tenant))).await;
    let mut runs: FuturesUnordered<_> =
        changed().zip(contained).map(|(tenant, contained)| worker.converge(tenant, contained.failure)).collect();
    let mut outcomes = Vec::new();
    while let Some(outcome) = runs.next().await {
        outcomes.push(outcome);
    }
    Applied { outcomes }
}

/// Work on a tenant, for those who wait for its end.
#[derive(Debug)]
pub struct InHand {
    begun: Instant,
    superseded: Cell<bool>,
    stepped: Cell<bool>,
    progress: Cell<Instant>,
}

impl Default for InHand {
    fn default() -> Self {
        let begun = Instant::now();
        Self { begun, superseded: Cell::new(false), stepped: Cell::new(false), progress: Cell::new(begun) }
    }
}

impl InHand {
    /// Has the work end after the step in hand: something else is declared or set now.
    pub fn supersede(&self) {
        self.superseded.set(true);
    }

    /// Whether it was asked to.
    pub fn is_superseded(&self) -> bool {
        self.superseded.get()
    }

    /// When it began.
    pub fn begun(&self) -> Instant {
        self.begun
    }

    /// Whether a step was taken: before that, nothing that happens to the tenant is this work's doing.
    pub fn has_stepped(&self) -> bool {
        self.stepped.get()
    }

    /// When its last step began or ended.
    pub fn progress(&self) -> Instant {
        self.progress.get()
    }
}

/// What a step is for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum StepPurpose {
    Containment,
    Repair,
}

/// What became of a containment.
#[derive(Debug, Default)]
pub struct Contained {
    /// The steps that were taken, and whether they succeeded.
    pub taken: Vec<(Step, bool)>,
    /// The first failure.
    pub failure: Option<Failure>,
}

/// Carries out the steps of one tenant at a time.
pub struct Worker<'a> {
    /// The engine.
    pub engine: &'a Engine,
    /// The host's settings.
    pub host: &'a Host,
    /// What is known of the engine's runtimes.
    pub runtimes: &'a Runtimes,
    /// As many places as tenants are worked on at once.
    pub turns: &'a Semaphore,
    /// As many places again for containment, which waits for no repair.
    pub containing: &'a Semaphore,
    /// The work on the tenant, as others see it.
    pub hand: &'a InHand,
    /// Where steps are recorded, and with what beside them.
    pub record: Option<(&'a Recorder, &'a Context)>,
    /// Once it is set, no further step begins.
    pub stop: &'a AtomicBool,
    /// Who hears of each step.
    pub report: &'a dyn Fn(Event<'_>),
}

impl<'a> Worker<'a> {
    /// Takes away what weakens isolation or is not declared any more; repairs of others are not waited for. A step that
    /// fails is no reason to leave out the next.
    pub async fn contain(&self, tenant: &TenantPlan) -> Contained {
        self.contain_but_for(tenant, &[]).await
    }

    /// The same without some steps.
    pub async fn contain_but_for(&self, tenant: &TenantPlan, skip: &[Step]) -> Contained {
        let (mut made, mut turn, mut contained) = (None, None, Contained::default());
        for planned in tenant.contain.iter().filter(|planned| !skip.contains(&planned.step)) {
            let step = &planned.step;
            let result = self.step(tenant, planned, StepPurpose::Containment, &mut made, &mut turn).await;
            contained.taken.push((step.clone(), result.is_ok()));
            match result.map_err(|failure| not_contained(step, failure)) {
                // It says what is to be done next.
                Err(refused @ Failure::LimitRefused { .. }) => contained.failure = Some(refused),
                Err(failure) => _ = contained.failure.get_or_insert(failure),
                Ok(()) => {}
            }
        }
        contained
    }

    /// Takes the steps of a tenant in their order, up to the first that fails, and looks at what was
    /// started once more. `failure` is that of its containment.
    pub async fn converge(&self, tenant: &TenantPlan, failure: Option<Failure>) -> Outcome {
        let mut turn = self.turns.acquire().await.ok();
        let begun = Instant::now();
        let mut failure = failure;
        let mut made = None;
        let mut started = None;
        // Where limits do not hold, another plan is to be made: nothing is thawed or started before.
        let steps = if matches!(failure, Some(Failure::LimitRefused { .. })) { &[] } else { tenant.steps.as_slice() };
        for planned in steps {
            if let Err(e) = self.step(tenant, planned, StepPurpose::Repair, &mut made, &mut turn).await {
                failure = Some(e);
                break;
            }
            if let Step::Start { container } = &planned.step {
                started = target(container, &made).map(str::to_owned);
            }
        }
        drop(turn);
        if let (None, Some(id)) = (&failure, started) {
            failure = self.confirm(&id).await.err();
        }
        if let Some(found) = self.test_runtime(tenant, failure.as_ref(), begun).await {
            failure = Some(found);
        }
        let outcome = Outcome { tenant: tenant.tenant.clone(), failure, took: begun.elapsed() };
        (self.report)(Event::Done(&outcome));
        outcome
    }

    /// Finds out whether a start failed because its runtime can start nothing at all.
    async fn test_runtime(&self, tenant: &TenantPlan, failure: Option<&Failure>, begun: Instant) -> Option<Failure> {
        let runtime = tenant.changes.iter().find_map(|change| match &change.after {
            Some(Object::Container(container)) => Some(container.runtime.clone()),
            _ => None,
        });
        let runtime = runtime.filter(|_| failure.is_some_and(Failure::may_be_the_runtimes))?;
        if self.stop.load(Ordering::Relaxed) {
            return None;
        }
        let reason = self.runtimes.test(self.engine, self.host, &runtime, begun).await?;
        Some(Failure::RuntimeFails { runtime, reason })
    }

    /// Runs one step. One that takes long gives its turn away, and takes a new one before the next.
    async fn step(
        &self,
        tenant: &TenantPlan,
        planned: &PlannedStep,
        kind: StepPurpose,
        made: &mut Option<String>,
        turn: &mut Option<SemaphorePermit<'a>>,
    ) -> Result<(), Failure> {
        let (tenant, step) = (tenant.tenant.as_str(), &planned.step);
        let contains = kind == StepPurpose::Containment;
        if turn.is_none() {
            *turn = if contains { self.containing } else { self.turns }.acquire().await.ok();
        }
        if self.stop.load(Ordering::Relaxed) || self.hand.is_superseded() {
            return Err(Failure::Stopped);
        }
        self.hand.stepped.set(true);
        self.hand.progress.set(Instant::now());
        (self.report)(Event::Step { tenant, step });
        let ticket = match self.record {
            Some((recorder, context)) => {
                recorder.begun(&StepBegun { tenant, planned, context, made: made.as_deref() }, contains).await?
            }
            None => None,
        };
        let begun = Instant::now();
        let mut work = pin!(self.carry_out(tenant, step, made));
        let result = match tokio::time::timeout(YIELD_AFTER, &mut work).await {
            Ok(result) => result,
            Err(_) => {
                *turn = None;
                work.await
            }
        };
        if let Some((recorder, _)) = self.record {
            let (error, took) = (result.as_ref().err().map(chain), begun.elapsed());
            recorder.ended(&StepEnded { tenant, step, ticket, error, took }).await;
        }
        self.hand.progress.set(Instant::now());
        result
    }

    fn workspaces(&self) -> Workspaces {
        Workspaces::new(self.host)
    }

    /// What is archived now bears the commit that is carried out.
    fn mark(&self) -> ArchiveStamp {
        ArchiveStamp::now(self.record.and_then(|(_, context)| context.revision.as_deref()))
    }

    fn files(&self) -> ConfigFiles {
        ConfigFiles::new(&self.host.data_root)
    }

    fn egress_paths(&self) -> EgressPaths<'_> {
        EgressPaths::new(self.host)
    }

    async fn carry_out(&self, tenant: &str, step: &Step, made: &mut Option<String>) -> Result<(), Failure> {
        let engine = self.engine;
        let name = || tenant.parse::<TenantName>().map_err(|_| Failure::Plan("a step names no tenant"));
        let container = |of: &Target| {
            target(of, made).map(str::to_owned).ok_or(Failure::Plan("a step needs a container that none made"))
        };
        let result = match step {
            Step::PrepareWorkspace { owner, .. } => return Ok(self.workspaces().prepare_folder(&name()?, *owner)?),
            Step::MakeVolume { spec, .. } => return Ok(self.workspaces().make(&name()?, *spec).await?),
            Step::MountVolume { spec, .. } => return Ok(self.workspaces().mount(&name()?, *spec).await?),
            Step::UnmountVolume { .. } => return Ok(self.workspaces().unmount(&name()?).await?),
            Step::ResizeVolume { spec, .. } => return Ok(self.workspaces().resize(&name()?, *spec).await?),
            Step::GrowImage { spec, .. } => return Ok(self.workspaces().grow(&name()?, *spec).await?),
            Step::RescueImage { .. } => return Ok(self.workspaces().rescue(&name()?).await?),
            Step::RepairImage { .. } => return Ok(self.workspaces().repair(&name()?, self.mark()).await?),
            Step::MoveIntoVolume { .. } => return Ok(self.workspaces().move_in(&name()?, self.mark()).await?),
            Step::ArchiveWorkspace { .. } => {
                return Ok(self.workspaces().archive(&name()?, self.mark()).await?);
            }
            Step::RestoreWorkspace { name: archived, .. } => {
                return Ok(self.workspaces().restore(&name()?, archived).await?);
            }
            Step::DeleteArchived { tenant, name } => {
                let tenant = tenant.parse().map_err(|_| Failure::Plan("a step names no tenant"))?;
                return Ok(self.workspaces().delete(&tenant, name).await?);
            }
            Step::WriteFiles { files, .. } => return Ok(self.files().write(&name()?, files).await?),
            Step::RemoveFiles { .. } => return Ok(self.files().remove(&name()?).await?),
            Step::OpenEgress { egress: declared } => {
                return self.egress_paths().open(declared).await.map_err(|source| egress(step, source));
            }
            Step::NarrowEgress { policy, secrets, .. } => {
                let (egress_paths, name) = (self.egress_paths(), name()?);
                let narrowed = egress_paths.narrow(&name, policy.as_deref(), secrets.as_ref()).await;
                return narrowed.map_err(|source| egress(step, source));
            }
            Step::GuardEgress { link, bridge, .. } => {
                return self.egress_paths().guard(link, bridge).await.map_err(|source| egress(step, source));
            }
            Step::CloseEgress { tenant, link } => {
                return self.egress_paths().close(tenant, link).await.map_err(|source| egress(step, source));
            }
            Step::CreateContainer { spec, temporary_name } => {
                provide(&self.host.provided())?;
                let id = self.create(spec, temporary_name.as_deref()).await?;
                *made = Some(id);
                return Ok(());
            }
            Step::Start { container: which } => {
                let id = container(which)?;
                provide(&self.host.provided())?;
                if !self.workspaces().is_ready(&name()?).await? {
                    return Err(Failure::WorkspaceMissing);
                }
                return self.start(&id, *which == Target::Created).await;
            }
            Step::Disconnect { network, container } => engine.disconnect_container(network, container).await,
            Step::Pause { container } => engine.pause_container(container).await,
            Step::CreateNetwork { spec } => return self.create_network(spec).await,
            Step::RemoveNetwork { network } => engine.remove_network(network).await,
            Step::Stop { container } => engine.stop_container(container, self.host.deadlines.stop.get()).await,
            Step::Remove { container } => remove_hung(engine, container).await,
            Step::Update { container, limits } => engine.update_container(container, limits).await,
            Step::Connect { network, container, address } => {
                engine.connect_container(network, container, *address).await
            }
            Step::Rename { container: which, to } => engine.rename_container(&container(which)?, to).await,
            Step::Unpause { container } => engine.unpause_container(container).await,
        };
        result.map_err(|source| Failure::Engine { step: StepName(step.def().words), source })
    }

    /// Makes a container and looks at it before it ever runs: an engine that leaves out a limit says
    /// so in a warning at best.
    ///
    /// What it has beyond what was sent is what the engine's own configuration adds. Options that the engine stores in it
    /// stand in its label, so that they are distinguished from somebody's later on: where they were not known, it is made once more.
    async fn create(&self, spec: &Container, temporary_name: Option<&str>) -> Result<String, Failure> {
        let name = temporary_name.unwrap_or(&spec.name);
        let declared = Container { name: name.to_owned(), ..spec.clone() };
        match self.try_create(&declared, &self.engine.defaults()).await? {
            Made::AsDeclared(id) => Ok(id),
            Made::WithOther(found) => match self.try_create(&declared, &found).await? {
                Made::AsDeclared(id) => Ok(id),
                Made::WithOther(found) => Err(other_options(&found.log_options)),
            },
        }
    }

    /// Makes a container with what the engine is known to add to it, and removes it unless that is what it has.
    async fn try_create(&self, declared: &Container, known: &EngineDefaults) -> Result<Made, Failure> {
        let failed = |source| Failure::Start { step: StepName("create the container"), source };
        let sent = engine_defaults::label_container(declared, known);
        let created = match self.engine.create_container(&declared.name, &sent).await {
            Err(taken @ CallError::Refused { status: 409, .. }) => {
                return self.made_already(declared).await.map(Made::AsDeclared).ok_or_else(|| failed(taken));
            }
            Err(refused @ CallError::Refused { .. }) => return Err(self.refused(declared, refused).await),
            other => other.map_err(failed)?,
        };
        let actual = match self.engine.inspect_container(&created.id).await {
            Ok(Some(actual)) => actual.spec.ok_or_else(|| "it could not be inspected".to_owned()),
            Ok(None) => Err("it was gone before it could be inspected".to_owned()),
            Err(e) => Err(format!("it could not be inspected: {e}")),
        };
        let mut found = known.clone();
        if let Ok(actual) = &actual {
            engine_defaults::learn(&mut found, actual);
            self.engine.learn(|known| engine_defaults::learn(known, actual));
        }
        let setting = daemon_settings::weakened_container(&found);
        let setting = setting.or_else(|| daemon_settings::conflict(&found, declared));
        let is_known = found.log_options == known.log_options;
        let problem = match &actual {
            Ok(actual) => deviation(&engine_defaults::with_share(declared, actual, &found), actual),
            Err(problem) => Some(problem.clone()),
        };
        let dropped = created.warnings.into_iter().find(|warning| drops_something(warning));
        if let (true, None, None, None) = (is_known, &setting, &problem, &dropped) {
            return Ok(Made::AsDeclared(created.id));
        }
        self.engine.remove_container(&created.id).await.map_err(failed)?;
        match (setting, problem.or(dropped)) {
            (Some(Blocked { reason, help, .. }), _) => Err(Failure::EngineSetting { reason, help }),
            (None, _) if !is_known => Ok(Made::WithOther(found)),
            (None, problem) => {
                // Its kernel may have lost a limit since it said what it is like.
                self.engine.forget_facts();
                Err(Failure::NotAsDeclared(problem.unwrap_or_default()))
            }
        }
    }

    /// Why the engine refused to make a container: where it refuses one of the same image as well that asks for nothing, its
    /// own configuration is at fault.
    async fn refused(&self, declared: &Container, refused: CallError) -> Failure {
        let of_engine = match self.engine.sample(&declared.image).await {
            // The image may be gone by now, and nothing is known of the engine then.
            Err(CallError::Refused { status, message }) if status != 404 => {
                Some(daemon_settings::makes_nothing(&message))
            }
            Ok(_) | Err(_) => None,
        };
        match of_engine {
            Some(Blocked { reason, help, .. }) => Failure::EngineSetting { reason, help },
            None => Failure::Start { step: StepName("create the container"), source: refused },
        }
    }

    /// Starts a container. After a failure nothing of it is left behind: a runtime that hangs or dies
    /// half-way leaves processes that the engine has lost.
    async fn start(&self, id: &str, made_here: bool) -> Result<(), Failure> {
        let result = self.engine.start_container(id, self.host.deadlines.start.get()).await;
        let Err(source) = result else { return Ok(()) };
        reap(id).await;
        if made_here {
            // The failure that is reported is that of the start; a rest is found by the next observation.
            let _ = self.engine.remove_container(id).await;
        }
        Err(Failure::Start { step: StepName(START), source })
    }

    /// Makes a network, and looks at it: what it has beyond what was sent is what the engine's own configuration adds. That
    /// stands in its label, so that it is made once more where it was not known.
    async fn create_network(&self, spec: &Network) -> Result<(), Failure> {
        let failed = |source| Failure::Engine { step: StepName("create the network"), source };
        let mut known = self.engine.defaults();
        for _ in 0..2 {
            self.send_network(&engine_defaults::label_network(spec, &known)).await.map_err(failed)?;
            // One that cannot be observed now is compared by the next observation.
            let Some(made) = self.engine.inspect_network(&spec.name).await.ok().flatten() else { return Ok(()) };
            let mut found = known.clone();
            engine_defaults::learn_network(&mut found, spec, &made);
            self.engine.learn(|known| engine_defaults::learn_network(known, spec, &made));
            let weakened = daemon_settings::weakened_network(&found);
            if weakened.is_none() && found.network_options == known.network_options {
                return Ok(());
            }
            self.engine.remove_network(&spec.name).await.map_err(failed)?;
            if let Some(Blocked { reason, help, .. }) = weakened {
                return Err(Failure::EngineSetting { reason, help });
            }
            known = found;
        }
        Err(other_options(&known.network_options))
    }

    /// Has a network made. One that is there just as declared was made by an apply that was killed: the
    /// engine may finish a call long after its client has gone.
    async fn send_network(&self, spec: &Network) -> Result<(), CallError> {
        let Err(refused) = self.engine.create_network(spec).await else { return Ok(()) };
        if matches!(refused, CallError::Refused { .. }) {
            for _ in 0..ATTEMPTS {
                let found = self.engine.find_network(&spec.name).await.ok().flatten();
                if let Some(found) = found {
                    let alike = engine_defaults::network_with_share(spec, &found.spec) == found.spec;
                    return if alike { Ok(()) } else { Err(refused) };
                }
                tokio::time::sleep(ATTEMPT_PAUSE).await;
            }
        }
        Err(refused)
    }

    /// The container that has the declared name and is just as declared, and never ran.
    async fn made_already(&self, declared: &Container) -> Option<String> {
        for _ in 0..ATTEMPTS {
            if let Some(found) = self.engine.inspect_container(&declared.name).await.ok().flatten() {
                let known = self.engine.defaults();
                let expected = |actual: &Container| engine_defaults::with_share(declared, actual, &known);
                let alike = found.spec.is_some_and(|actual| deviation(&expected(&actual), &actual).is_none());
                return (alike && found.state == RunState::Created).then_some(found.id);
            }
            tokio::time::sleep(ATTEMPT_PAUSE).await;
        }
        None
    }

    /// Looks once more at what was started, after a while: a command that cannot work ends at once.
    async fn confirm(&self, id: &str) -> Result<(), Failure> {
        tokio::time::sleep(self.host.deadlines.min_running.get()).await;
        match self.engine.inspect_container(id).await {
            Err(e) => Err(Failure::Unseen(e.to_string())),
            Ok(Some(container)) if matches!(container.state, RunState::Stopped | RunState::Dead) => {
                Err(Failure::Ended(container.exit_code))
            }
            Ok(_) => Ok(()),
        }
    }
}

/// Why a step of a containment failed. The engine refuses limits with 409 while a container comes or goes, and with 404
/// once it is gone; else they are too low for what the container uses, or it was not seen to take them.
fn not_contained(step: &Step, failure: Failure) -> Failure {
    match (step, failure) {
        (
            Step::Update { container, .. },
            Failure::Engine { source: source @ (CallError::Refused { .. } | CallError::TimedOut { .. }), .. },
        ) if !matches!(source, CallError::Refused { status: 404 | 409, .. }) => {
            Failure::LimitRefused { container: container.clone(), source }
        }
        (_, failure) => failure,
    }
}

fn egress(step: &Step, source: EgressError) -> Failure {
    Failure::Egress { step: StepName(step.def().words), source }
}

fn target<'a>(of: &'a Target, made: &'a Option<String>) -> Option<&'a str> {
    match of {
        Target::Existing(id) => Some(id),
        Target::Created => made.as_deref(),
    }
}

/// What became of the making of a container.
enum Made {
    /// It is there, by its id.
    AsDeclared(String),
    /// The engine's configuration gave it options that were not known, so it was removed again.
    WithOther(EngineDefaults),
}

/// The engine adds something else each time.
fn other_options(options: &Pairs) -> Failure {
    let options: Vec<String> = options.iter().map(|(name, value)| format!("{name}={value}")).collect();
    Failure::NotAsDeclared(format!(
        "the engine's configuration gave it other options each time, now {}",
        options.join(", ")
    ))
}

/// The first attribute in which a new container differs from its declaration.
fn deviation(declared: &Container, actual: &Container) -> Option<String> {
    let changes = compare_containers(declared, actual, RuntimeClass::Container);
    let first = changes.first()?;
    Some(format!("{} is {} where {} was declared", first.attribute.name, first.before, first.after))
}

/// Whether a warning says that something asked for was left out.
fn drops_something(warning: &str) -> bool {
    ["discarded", "does not support", "not supported", "not enabled", "unable to"]
        .iter()
        .any(|word| warning.to_lowercase().contains(word))
}
