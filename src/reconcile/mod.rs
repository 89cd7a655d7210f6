//! Observing the engine and the host, and carrying a plan out.

mod apply;
mod record;
mod removal;
mod selftest;
mod snapshot;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

pub use apply::{Applied, Contained, Event, Failure, InHand, Outcome, Worker, apply};
pub use record::{Context, Recorder};
pub use selftest::Runtimes;
pub use snapshot::{TakeError, take_snapshot};

use crate::{
    engine::{CallError, Engine, Listed},
    host::{
        ConfigFiles, EgressError, EgressPaths, FilesError, WorkspaceError, Workspaces, engine_is_here, runtime_works_on,
    },
    model::{
        Desired, Host, NAME_PREFIX, Observed, Plan, Powers, REPLACEMENT_SUFFIX, Tenant, TenantName,
        files::FoundFiles,
        observed::{EngineFacts, ImageState, ObservedContainer, RunState, Unobserved},
        plan::Lookalike,
        workspace::{ObservedWorkspaces, WorkspaceCapability},
    },
    plan::{
        self, Planner,
        engine_defaults::{learn, unexplained},
    },
};

/// Why the world could not be observed.
#[derive(Debug, thiserror::Error)]
pub enum ObserveError {
    /// The engine did not answer.
    #[error(transparent)]
    Engine(#[from] CallError),
    /// The data root cannot be read.
    #[error(transparent)]
    Workspace(#[from] WorkspaceError),
    /// The config files cannot be read.
    #[error(transparent)]
    Files(#[from] FilesError),
    /// What the gateway is given cannot be read.
    #[error(transparent)]
    Egress(#[from] EgressError),
}

/// Observes everything that a plan for `desired` needs: the engine and the host's folders.
///
/// # Errors
/// The engine does not answer, or the data root cannot be read. One container that cannot be
/// inspected is no error; it is in the result.
pub async fn observe(engine: &Engine, host: &Host, desired: &Desired) -> Result<Observed, ObserveError> {
    let (observed, images) = tokio::join!(observe_all_but_images(engine, host), observe_images(engine, desired));
    Ok(Observed { images, ..observed? })
}

/// The part of [`observe`] that can be done before anything is known of the declarations.
///
/// # Errors
/// As those of [`observe`].
pub async fn observe_all_but_images(engine: &Engine, host: &Host) -> Result<Observed, ObserveError> {
    let (observed, data) = tokio::join!(engine.observe(), observe_data(host));
    let mut observed = observed?;
    (observed.workspaces, observed.files) = data?;
    observe_egress(host, &mut observed).await?;
    mark_hung_starts(&mut observed);
    learn_defaults(engine, &mut observed).await;
    Ok(observed)
}

/// What a full scan leads to.
pub struct Survey {
    /// What would make the engine as declared.
    pub plan: Plan,
    /// What the engine said of itself.
    pub facts: EngineFacts,
    /// The tenant of each container of ours, by the container's id.
    pub containers: BTreeMap<String, String>,
    /// Tenants that have a container or a network.
    pub present: BTreeSet<String>,
    /// Containers that have a tenant's labels from their image, and are nobody's of ours.
    pub lookalikes: Vec<Lookalike>,
    /// How new workspaces are made.
    pub capability: WorkspaceCapability,
}

/// What is known beside what an observation shows.
#[derive(Clone, Debug, Default)]
pub struct Known {
    /// Containers whose limits the engine refused to lower.
    pub refused_limits: BTreeSet<String>,
    /// Runtimes that cannot start anything, and why.
    pub failing_runtimes: BTreeMap<String, String>,
    /// What tenants were asked to do.
    pub powers: Arc<Powers>,
}

impl Known {
    /// Adds it to an observation.
    pub fn complete(self, observed: &mut Observed) {
        observed.refused_limits = self.refused_limits;
        observed.engine.failing_runtimes = self.failing_runtimes;
        observed.powers = self.powers;
    }
}

/// Scans everything and plans for all tenants, as [`plan::plan`] does after [`observe`], but holds
/// no more than the containers of so many tenants `at_a_time`. Without declarations nothing is planned.
///
/// # Errors
/// As those of [`observe`].
pub async fn survey(
    engine: &Engine,
    host: &Host,
    desired: Option<&Desired>,
    at_a_time: usize,
    known: Known,
) -> Result<Survey, ObserveError> {
    let references = desired.map(references).unwrap_or_default();
    let (overview, images, data) = tokio::join!(engine.overview(), engine.images(&references), observe_data(host));
    let (mut observed, listed) = overview?;
    observed.images = images;
    known.complete(&mut observed);
    (observed.workspaces, observed.files) = data?;
    observe_egress(host, &mut observed).await?;

    let (mut containers, mut of_tenants, mut elsewhere) =
        (BTreeMap::new(), BTreeMap::<_, Vec<Listed>>::new(), Vec::new());
    for one in listed {
        if is_in_the_way(&one) || one.looks_like().is_some() {
            elsewhere.push((one.tenant().cloned(), one.as_foreign()));
        }
        if let Some(tenant) = one.tenant().cloned() {
            containers.insert(one.id.clone(), tenant.clone());
            of_tenants.entry(tenant).or_default().push(one);
        }
    }
    let networks = observed.networks.iter().filter_map(|network| network.tenant.clone());
    let present = of_tenants.keys().cloned().chain(networks).collect();
    let lookalikes = elsewhere.iter().filter_map(|(_, container)| Lookalike::of(container)).collect();
    let Some(desired) = desired else {
        let capability = observed.workspaces.capability;
        return Ok(Survey {
            plan: Plan::default(),
            facts: observed.engine,
            containers,
            present,
            lookalikes,
            capability,
        });
    };
    let mut names = plan::names(desired, &observed);
    names.extend(of_tenants.keys().cloned());

    let mut planner = Planner::new(desired, host, &observed);
    let mut plan = Plan::default();
    let mut names = names.into_iter();
    loop {
        let some: BTreeSet<String> = names.by_ref().take(at_a_time.max(1)).collect();
        if some.is_empty() {
            drop(planner);
            let capability = observed.workspaces.capability;
            return Ok(Survey { plan, facts: observed.engine, containers, present, lookalikes, capability });
        }
        let is_others = |tenant: &Option<String>| tenant.as_ref().is_none_or(|tenant| !some.contains(tenant));
        let others = elsewhere.iter().filter(|(tenant, _)| is_others(tenant));
        let others = others.map(|(_, container)| container.clone()).collect();
        let mut part = Observed { containers: others, ..Observed::default() };
        let own = some.iter().filter_map(|name| of_tenants.remove(name)).flatten().collect();
        engine.inspect_listed(own, &mut part).await;
        mark_hung_starts(&mut part);
        part.engine.defaults.clone_from(&observed.engine.defaults);
        learn_defaults(engine, &mut part).await;
        if part.engine.defaults != observed.engine.defaults {
            // The engine shows its share in each container: those before had none that was not known.
            drop(planner);
            observed.engine.defaults = part.engine.defaults.clone();
            planner = Planner::new(desired, host, &observed);
        }
        plan.tenants.extend(planner.tenants(&some, &part));
    }
}

/// Finds out what the engine's own configuration adds to containers, where one of ours shows something else than is known.
/// Where that fails nobody can distinguish the engine's share from somebody's change: such containers count as not observed.
async fn learn_defaults(engine: &Engine, observed: &mut Observed) {
    let Some(image) = unexplained(&observed.engine.defaults, &observed.containers).map(|one| one.image_id.clone())
    else {
        return;
    };
    match engine.sample(&image).await {
        Ok(sample) => {
            engine.learn(|known| learn(known, &sample));
            learn(&mut observed.engine.defaults, &sample);
        }
        Err(e) => {
            let reason = format!("what the engine's daemon.json adds to each container cannot be found out: {e}");
            leave_unexplained(observed, &reason);
        }
    }
}

/// Counts containers as not observed that show something else than the engine is known to add.
fn leave_unexplained(observed: &mut Observed, reason: &str) {
    let known = observed.engine.defaults.clone();
    let (containers, unobserved) = (&mut observed.containers, &mut observed.unobserved);
    containers.retain(|one| {
        let Some(tenant) = one.tenant.clone().filter(|_| unexplained(&known, [one]).is_some()) else { return true };
        let object = format!("container {}", one.name);
        unobserved.push(Unobserved { tenant, object, reason: reason.to_owned(), listed: None });
        false
    });
}

/// Whether a container has a name that is another tenant's, or would be.
fn is_in_the_way(listed: &Listed) -> bool {
    listed.name.strip_prefix(NAME_PREFIX).is_some_and(|name| {
        let meant = name.strip_suffix(REPLACEMENT_SUFFIX).unwrap_or(name);
        listed.tenant().map(String::as_str) != Some(meant)
    })
}

/// Observes one tenant, and the list of all networks. `facts` is what the engine said of itself.
///
/// # Errors
/// As those of [`observe`].
pub async fn observe_tenant(
    engine: &Engine,
    host: &Host,
    name: &TenantName,
    declared: Option<&Tenant>,
    facts: &EngineFacts,
) -> Result<Observed, ObserveError> {
    let images: BTreeSet<String> = declared.map(|tenant| tenant.image.to_string()).into_iter().collect();
    let (observed, images) = tokio::join!(engine.observe_tenant(name, facts), engine.images(&images));
    let mut observed = Observed { images, ..observed? };
    let secrets =
        declared.into_iter().flat_map(|tenant| &tenant.routes).flat_map(|route| route.inject.template().secrets());
    observed.egress = EgressPaths::new(host).observe_tenant(name, secrets, facts.is_here).await;
    observed.workspaces = Workspaces::new(host).observe_tenant(name.as_str()).await?;
    let files = ConfigFiles::new(&host.data_root).observe_tenant(name.as_str()).await?;
    observed.files = files.map(|found| (name.to_string(), found)).into_iter().collect();
    mark_hung_starts(&mut observed);
    learn_defaults(engine, &mut observed).await;
    Ok(observed)
}

/// Observes all that lies in the data root, beside what is asked of the engine meanwhile.
async fn observe_data(host: &Host) -> Result<(ObservedWorkspaces, BTreeMap<String, FoundFiles>), ObserveError> {
    // The engine works while the disk is read, if it is asked first.
    tokio::task::yield_now().await;
    let workspaces = Workspaces::new(host).list().await?;
    Ok((workspaces, ConfigFiles::new(&host.data_root).list().await?))
}

/// Finds out whether the engine is this host's own, and observes all egress paths.
async fn observe_egress(host: &Host, observed: &mut Observed) -> Result<(), ObserveError> {
    let bridges = observed.networks.iter().filter_map(|network| network.interface());
    let bridges: Vec<String> = bridges.collect();
    observed.engine.is_here = engine_is_here(&host.engine, bridges.iter().map(String::as_str)).await;
    observed.egress = EgressPaths::new(host).observe(observed.engine.is_here).await?;
    Ok(())
}

/// A container that does not run, does not answer, and whose runtime is at work hangs in a start that
/// nobody waits for any more. It was seen well enough to be made anew.
fn mark_hung_starts(observed: &mut Observed) {
    let not_running = |state| matches!(state, RunState::Created | RunState::Stopped);
    let (containers, unobserved) = (&mut observed.containers, &mut observed.unobserved);
    unobserved.retain_mut(|one| match one.listed.take() {
        Some(listed) if not_running(listed.state) && runtime_works_on(&listed.id) => {
            containers.push(ObservedContainer { state: RunState::Hung, ..listed });
            false
        }
        _ => true,
    });
}

/// The other part of [`observe`]: the images that are asked for, by reference.
pub async fn observe_images(engine: &Engine, desired: &Desired) -> BTreeMap<String, ImageState> {
    engine.images(&references(desired)).await
}

/// The images that are asked for.
fn references(desired: &Desired) -> BTreeSet<String> {
    desired.tenants.values().chain(desired.held_back.values()).map(|tenant| tenant.image.to_string()).collect()
}
