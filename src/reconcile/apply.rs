//! Carrying a plan out: containment first and for all, then each tenant by itself.

use std::{
    fmt,
    pin::pin,
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use futures_util::{StreamExt, stream::FuturesUnordered};
use tokio::sync::{Semaphore, SemaphorePermit};

use crate::{
    engine::{CallError, Engine},
    host::{ConfigFiles, EgressError, FilesError, Mark, WaysOut, WorkspaceError, Workspaces, reap},
    journal::JournalError,
    model::{
        Container, Host, Network, Plan, RuntimeClass, Step, TenantName, TenantPlan, observed::RunState, plan::Target,
    },
    plan::compare_containers,
};

use super::record::{Context, Recorder};

/// How long a step keeps others waiting for its turn. One that takes longer goes on beside them.
const PATIENCE: Duration = Duration::from_secs(3);

/// How long a removal may take before the container's runtime is killed.
const REMOVAL_PATIENCE: Duration = Duration::from_secs(2);

/// How often, and how far apart, something is looked for that the engine may still be making.
const LOOKS: u32 = 30;
const LOOK_PAUSE: Duration = Duration::from_millis(100);

/// What is told while a plan is carried out.
#[derive(Debug)]
pub enum Event<'a> {
    /// A step of a tenant begins.
    Step {
        /// The tenant.
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
    /// The tenant.
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
    /// The host did not do it.
    #[error(transparent)]
    Workspace(#[from] WorkspaceError),
    /// The config files were not written or removed.
    #[error(transparent)]
    Files(#[from] FilesError),
    /// The way out was not made or closed.
    #[error("{step}")]
    Egress {
        /// The step, as a person names it.
        step: StepName,
        /// Why.
        source: EgressError,
    },
    /// The engine made something else than what was asked for, and it was removed again.
    #[error("the engine did not keep to what was declared, so the container was removed again: {0}")]
    NotAsDeclared(String),
    /// The journal cannot be written, and what cannot be recorded is not done.
    #[error("the step was not taken, because it could not be recorded")]
    Journal(#[from] JournalError),
    /// The program was told to end before the step.
    #[error("tenantd was told to end before it was done")]
    Stopped,
    /// The workspace is not there to be mounted.
    #[error("the workspace is missing")]
    WorkspaceMissing,
    /// The container started and ended at once.
    #[error("the container ended right after its start, with exit code {0}; `tenantd logs` shows what it printed")]
    Ended(i64),
    /// The container started, and the engine did not say what became of it.
    #[error("could not see whether the container runs: {0}")]
    Unseen(String),
    /// The plan names a tenant that is none, or a container that no step made.
    #[error("the plan cannot be carried out as it is: {0}")]
    Plan(&'static str),
}

/// A step, as a person names it.
#[derive(Clone, Copy, Debug)]
pub struct StepName(&'static str);

impl fmt::Display for StepName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "could not {}", self.0)
    }
}

/// A step in the words of a log line.
pub fn describe(step: &Step) -> &'static str {
    match step {
        Step::Disconnect { .. } => "disconnect a container from a network",
        Step::Pause { .. } => "pause the container",
        Step::PrepareWorkspace { .. } => "prepare the workspace",
        Step::MakeVolume { .. } => "make the workspace",
        Step::MountVolume { .. } => "mount the workspace",
        Step::ResizeVolume { .. } => "resize the workspace",
        Step::GrowImage { .. } => "enlarge the workspace's file system",
        Step::RescueImage { .. } => "write the workspace's image back",
        Step::RepairImage { .. } => "repair the workspace",
        Step::MoveIntoVolume { .. } => "move the workspace into its volume",
        Step::WriteFiles { .. } => "write the config files",
        Step::RemoveFiles { .. } => "remove the config files",
        Step::CreateNetwork { .. } => "create the network",
        Step::RemoveNetwork { .. } => "remove the network",
        Step::CreateContainer { .. } => "create the container",
        Step::Start { .. } => "start the container",
        Step::Stop { .. } => "stop the container",
        Step::Remove { .. } => "remove the container",
        Step::Update { .. } => "update the limits",
        Step::Connect { .. } => "connect the container to its network",
        Step::Rename { .. } => "rename the container",
        Step::Unpause { .. } => "unpause the container",
        Step::AdoptWorkspace { .. } => "take the workspace back",
        Step::PurgeAside { .. } => "remove what lies aside",
        Step::SetAside { .. } => "set the workspace aside",
        Step::OpenEgress { .. } => "open the way out",
        Step::NarrowEgress { .. } => "narrow the way out",
        Step::GuardEgress { .. } => "guard the way out",
        Step::CloseEgress { .. } => "close the way out",
    }
}

/// Carries a plan out.
///
/// What weakens isolation is contained first, for all tenants. Then each tenant's steps run in their
/// order; tenants run side by side, at most `host.parallelism` at once, and one that hangs gives its
/// place away. A failed step ends its tenant alone. To be cut off at any point is safe: another look
/// and another plan end where this one would have.
///
/// `tell` hears of each step and each end; `record` has them written to the journal.
pub async fn apply(
    engine: &Engine,
    host: &Host,
    plan: &Plan,
    record: Option<(&Recorder, &Context)>,
    tell: &dyn Fn(Event<'_>),
) -> Applied {
    let turns = Semaphore::new(host.parallelism.max(1));
    let stop = AtomicBool::new(false);
    let worker = Worker { engine, host, turns: &turns, record, stop: &stop, tell };
    let changed = || plan.tenants.iter().filter(|tenant| tenant.will_change());

    let contained: Vec<Option<Failure>> =
        futures_util::future::join_all(changed().map(|tenant| worker.contain(tenant))).await;
    let mut runs: FuturesUnordered<_> =
        changed().zip(contained).map(|(tenant, failure)| worker.converge(tenant, failure)).collect();
    let mut outcomes = Vec::new();
    while let Some(outcome) = runs.next().await {
        outcomes.push(outcome);
    }
    Applied { outcomes }
}

/// Carries out the steps of one tenant at a time.
pub struct Worker<'a> {
    /// The engine.
    pub engine: &'a Engine,
    /// The host's settings.
    pub host: &'a Host,
    /// As many places as tenants are worked on at once.
    pub turns: &'a Semaphore,
    /// Where steps are recorded, and with what beside them.
    pub record: Option<(&'a Recorder, &'a Context)>,
    /// Once it is set, no further step begins.
    pub stop: &'a AtomicBool,
    /// Who hears of each step.
    pub tell: &'a dyn Fn(Event<'_>),
}

impl<'a> Worker<'a> {
    /// Stops what weakens isolation. Returns the first failure; the other steps are taken all the same.
    pub async fn contain(&self, tenant: &TenantPlan) -> Option<Failure> {
        if tenant.contain.is_empty() {
            return None;
        }
        let mut turn = self.turns.acquire().await.ok();
        let (mut made, mut first) = (None, None);
        for step in &tenant.contain {
            // One that fails is no reason to leave out the next.
            if let Err(failure) = self.step(tenant, step, true, &mut made, &mut turn).await {
                first.get_or_insert(failure);
            }
        }
        first
    }

    /// Takes the steps of a tenant in their order, up to the first that fails, and looks at what was
    /// started once more. `failure` is that of its containment.
    pub async fn converge(&self, tenant: &TenantPlan, failure: Option<Failure>) -> Outcome {
        let mut turn = self.turns.acquire().await.ok();
        let begun = Instant::now();
        let mut failure = failure;
        let mut made = None;
        let mut started = None;
        for step in &tenant.steps {
            if let Err(e) = self.step(tenant, step, false, &mut made, &mut turn).await {
                failure = Some(e);
                break;
            }
            if let Step::Start { container } = step {
                started = target(container, &made).map(str::to_owned);
            }
        }
        drop(turn);
        if let (None, Some(id)) = (&failure, started) {
            failure = self.confirm(&id).await.err();
        }
        let outcome = Outcome { tenant: tenant.tenant.clone(), failure, took: begun.elapsed() };
        (self.tell)(Event::Done(&outcome));
        outcome
    }

    /// Runs one step. One that takes long gives its turn away, and takes a new one before the next.
    async fn step(
        &self,
        tenant: &TenantPlan,
        step: &Step,
        contains: bool,
        made: &mut Option<String>,
        turn: &mut Option<SemaphorePermit<'a>>,
    ) -> Result<(), Failure> {
        if turn.is_none() {
            *turn = self.turns.acquire().await.ok();
        }
        if self.stop.load(Ordering::Relaxed) {
            return Err(Failure::Stopped);
        }
        (self.tell)(Event::Step { tenant: &tenant.tenant, step });
        let ticket = match self.record {
            Some((recorder, context)) => recorder.intent(tenant, step, context, made.as_deref(), contains).await?,
            None => None,
        };
        let begun = Instant::now();
        let mut work = pin!(self.carry_out(&tenant.tenant, step, made));
        let result = match tokio::time::timeout(PATIENCE, &mut work).await {
            Ok(result) => result,
            Err(_) => {
                *turn = None;
                work.await
            }
        };
        if let Some((recorder, _)) = self.record {
            recorder.outcome(&tenant.tenant, ticket, &result, begun.elapsed()).await;
        }
        result
    }

    fn workspaces(&self) -> Workspaces {
        Workspaces::new(self.host)
    }

    /// What is set aside now bears the commit that is carried out.
    fn mark(&self) -> Mark {
        Mark::now(self.record.and_then(|(_, context)| context.revision.as_deref()))
    }

    fn files(&self) -> ConfigFiles {
        ConfigFiles::new(&self.host.data_root)
    }

    fn ways_out(&self) -> WaysOut<'_> {
        WaysOut::new(&self.host.egress)
    }

    async fn carry_out(&self, tenant: &str, step: &Step, made: &mut Option<String>) -> Result<(), Failure> {
        let engine = self.engine;
        let name = || tenant.parse::<TenantName>().map_err(|_| Failure::Plan("a step names no tenant"));
        let container = |of: &Target| {
            target(of, made).map(str::to_owned).ok_or(Failure::Plan("a step needs a container that none made"))
        };
        let result = match step {
            Step::PrepareWorkspace { .. } => return Ok(self.workspaces().prepare_folder(&name()?)?),
            Step::MakeVolume { spec, .. } => return Ok(self.workspaces().make(&name()?, *spec).await?),
            Step::MountVolume { spec, .. } => return Ok(self.workspaces().mount(&name()?, *spec).await?),
            Step::ResizeVolume { spec, .. } => return Ok(self.workspaces().resize(&name()?, *spec).await?),
            Step::GrowImage { spec, .. } => return Ok(self.workspaces().grow(&name()?, *spec).await?),
            Step::RescueImage { .. } => return Ok(self.workspaces().rescue(&name()?).await?),
            Step::RepairImage { .. } => return Ok(self.workspaces().repair(&name()?, self.mark()).await?),
            Step::MoveIntoVolume { .. } => return Ok(self.workspaces().move_in(&name()?, self.mark()).await?),
            Step::SetAside { .. } => {
                return Ok(self.workspaces().set_aside(&name()?, self.mark()).await?);
            }
            Step::AdoptWorkspace { name: aside, .. } => return Ok(self.workspaces().adopt(&name()?, aside).await?),
            Step::PurgeAside { tenant, name } => {
                let tenant = tenant.parse().map_err(|_| Failure::Plan("a step names no tenant"))?;
                return Ok(self.workspaces().purge(&tenant, name).await?);
            }
            Step::WriteFiles { files, .. } => return Ok(self.files().write(&name()?, files).await?),
            Step::RemoveFiles { .. } => return Ok(self.files().remove(&name()?).await?),
            Step::OpenEgress { way } => return self.ways_out().open(way).await.map_err(|source| egress(step, source)),
            Step::NarrowEgress { policy } => {
                return self.ways_out().narrow(policy).map_err(|source| egress(step, source));
            }
            Step::GuardEgress { link, bridge, .. } => {
                return self.ways_out().guard(link, bridge).await.map_err(|source| egress(step, source));
            }
            Step::CloseEgress { tenant, link } => {
                return self.ways_out().close(tenant, link).await.map_err(|source| egress(step, source));
            }
            Step::CreateContainer { spec, temporary_name } => {
                let id = self.create(spec, temporary_name.as_deref()).await?;
                *made = Some(id);
                return Ok(());
            }
            Step::Start { container: which } => {
                let id = container(which)?;
                if !self.workspaces().is_ready(&name()?).await? {
                    return Err(Failure::WorkspaceMissing);
                }
                return self.start(&id, *which == Target::Created).await;
            }
            Step::Disconnect { network, container } => engine.disconnect_container(network, container).await,
            Step::Pause { container } => engine.pause_container(container).await,
            Step::CreateNetwork { spec } => self.create_network(spec).await,
            Step::RemoveNetwork { network } => engine.remove_network(network).await,
            Step::Stop { container } => engine.stop_container(container, self.host.deadlines.stop.get()).await,
            Step::Remove { container } => self.remove(container).await,
            Step::Update { container, limits } => engine.update_container(container, limits).await,
            Step::Connect { network, container } => engine.connect_container(network, container).await,
            Step::Rename { container: which, to } => engine.rename_container(&container(which)?, to).await,
            Step::Unpause { container } => engine.unpause_container(container).await,
        };
        result.map_err(|source| Failure::Engine { step: StepName(describe(step)), source })
    }

    /// Makes a container and looks at it before it ever runs: an engine that leaves out a limit says
    /// so in a warning at best.
    async fn create(&self, spec: &Container, temporary_name: Option<&str>) -> Result<String, Failure> {
        let failed = |source| Failure::Engine { step: StepName("create the container"), source };
        let name = temporary_name.unwrap_or(&spec.name);
        let declared = Container { name: name.to_owned(), ..spec.clone() };
        let created = match self.engine.create_container(name, spec).await {
            Err(taken @ CallError::Refused { status: 409, .. }) => {
                return self.made_already(&declared).await.ok_or_else(|| failed(taken));
            }
            other => other.map_err(failed)?,
        };
        let problem = match self.engine.inspect_container(&created.id).await {
            Ok(Some(actual)) => deviation(&declared, actual.spec.as_deref()),
            Ok(None) => Some("it was gone before it could be looked at".to_owned()),
            Err(e) => Some(format!("it could not be looked at: {e}")),
        };
        let dropped = created.warnings.into_iter().flatten().find(|warning| drops_something(warning));
        match problem.or(dropped) {
            None => Ok(created.id),
            Some(problem) => {
                self.engine.remove_container(&created.id).await.map_err(failed)?;
                Err(Failure::NotAsDeclared(problem))
            }
        }
    }

    /// Starts a container. After a failure nothing of it is left behind: a runtime that hangs or dies
    /// half-way leaves processes that the engine has lost.
    async fn start(&self, id: &str, made_here: bool) -> Result<(), Failure> {
        let result = self.engine.start_container(id, self.host.deadlines.start.get()).await;
        let Err(source) = result else { return Ok(()) };
        reap(id).await;
        if made_here {
            // The failure that is told is that of the start; a rest is found by the next look.
            let _ = self.engine.remove_container(id).await;
        }
        Err(Failure::Engine { step: StepName("start the container"), source })
    }

    /// Makes a network. One that is there just as declared was made by an apply that was killed: the
    /// engine may finish a call long after its client has gone.
    async fn create_network(&self, spec: &Network) -> Result<(), CallError> {
        let Err(refused) = self.engine.create_network(spec).await else { return Ok(()) };
        if matches!(refused, CallError::Refused { .. }) {
            for _ in 0..LOOKS {
                let found = self.engine.find_network(&spec.name).await.ok().flatten();
                if let Some(found) = found {
                    return if found.spec == *spec { Ok(()) } else { Err(refused) };
                }
                tokio::time::sleep(LOOK_PAUSE).await;
            }
        }
        Err(refused)
    }

    /// The container that has the declared name and is just as declared, and never ran.
    async fn made_already(&self, declared: &Container) -> Option<String> {
        for _ in 0..LOOKS {
            if let Some(found) = self.engine.inspect_container(&declared.name).await.ok().flatten() {
                let alike = deviation(declared, found.spec.as_deref()).is_none();
                return (alike && found.state == RunState::Created).then_some(found.id);
            }
            tokio::time::sleep(LOOK_PAUSE).await;
        }
        None
    }

    /// Removes a container. Where that takes long its runtime is killed: it hangs in its start, or it is
    /// gVisor's and paused, for which the engine waits ten seconds.
    async fn remove(&self, id: &str) -> Result<(), CallError> {
        let mut removal = pin!(self.engine.remove_container(id));
        match tokio::time::timeout(REMOVAL_PATIENCE, &mut removal).await {
            Ok(result) => result,
            Err(_) => {
                reap(id).await;
                removal.await
            }
        }
    }

    /// Looks once more at what was started, after a while: a command that cannot work ends at once.
    async fn confirm(&self, id: &str) -> Result<(), Failure> {
        tokio::time::sleep(self.host.deadlines.settle.get()).await;
        match self.engine.inspect_container(id).await {
            Err(e) => Err(Failure::Unseen(e.to_string())),
            Ok(Some(container)) if matches!(container.state, RunState::Stopped | RunState::Dead) => {
                Err(Failure::Ended(container.exit_code))
            }
            Ok(_) => Ok(()),
        }
    }
}

fn egress(step: &Step, source: EgressError) -> Failure {
    Failure::Egress { step: StepName(describe(step)), source }
}

fn target<'a>(of: &'a Target, made: &'a Option<String>) -> Option<&'a str> {
    match of {
        Target::Existing(id) => Some(id),
        Target::Created => made.as_deref(),
    }
}

/// The first attribute in which a new container differs from its declaration.
fn deviation(declared: &Container, actual: Option<&Container>) -> Option<String> {
    let Some(actual) = actual else { return Some("it could not be looked at".to_owned()) };
    let changes = compare_containers(declared, actual, RuntimeClass::Container);
    let first = changes.first()?;
    Some(format!("{} is {} where {} was declared", first.name, first.before, first.after))
}

/// Whether a warning says that something asked for was left out.
fn drops_something(warning: &str) -> bool {
    ["discarded", "does not support", "not supported", "not enabled", "unable to"]
        .iter()
        .any(|word| warning.to_lowercase().contains(word))
}
