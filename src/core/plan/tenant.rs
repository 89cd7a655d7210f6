//! One tenant: from what was found to the steps that make it as declared.

use std::{collections::BTreeSet, net::Ipv4Addr, path::PathBuf};

use ipnet::Ipv4Net;
use serde_json::json;

use super::{
    desired_container::{ContainerInputs, Inherited, desired_container},
    desired_network::desired_network,
    diff, egress, engine_defaults, files,
    found::Found,
    obstacle::{image_missing, image_unknown, image_volumes, mount_refused, obstacle, unobserved},
    peer::Peer,
    power::{self, Wanted},
    removal::{End, disconnect_foreign, leave_foreign, remove_container, remove_network},
    workspace,
};
use crate::model::{
    Container, EngineDefaults, Host, Network, Observed, PlannedStep, Power, RuntimeClass, Step, Tenant, TenantPlan,
    attribute::{container, network},
    change::{Action, AttributeChange, Change, Object},
    container::OWN_HOME,
    observed::{ImageFacts, ImageState, ObservedContainer, ObservedNetwork, RunState},
    plan::{Located, Note},
    record::Why,
    resource::Resource,
    step::{LiveLimits, Target},
};

/// Plans one declared tenant.
pub(super) fn converge(
    tenant: &Tenant,
    host: &Host,
    observed: &Observed,
    found: &Found<'_>,
    subnet: Option<Ipv4Net>,
) -> TenantPlan {
    let wanted = power::wanted(tenant, observed, found);
    let unreachable = !tenant.expose.is_empty() && host.ingress.is_none();
    let notes = || unreachable.then_some(Note::NoIngress).into_iter().collect();
    let empty =
        || TenantPlan { tenant: tenant.name.to_string(), power: wanted.power, notes: notes(), ..TenantPlan::default() };
    let asleep = || {
        let mut plan = TenantPlan { power: Power::Asleep, ..empty() };
        power::asleep(tenant, host, observed, found, subnet, wanted, &mut plan);
        plan
    };
    // What cannot be observed is contained, whatever it is to do.
    match wanted.power {
        Power::Running => awake(tenant, host, observed, found, subnet, wanted, empty()),
        Power::Paused => {
            let plan = awake(tenant, host, observed, found, subnet, wanted, empty());
            if plan.blocked.is_some() || power::can_pause(found, &plan) { plan } else { asleep() }
        }
        Power::Asleep if found.unobserved.is_some() => awake(tenant, host, observed, found, subnet, wanted, empty()),
        Power::Asleep => asleep(),
    }
}

/// Plans what is taken away from a tenant whose declaration is not carried out, wherever it is more than that declares.
pub(super) fn contain(
    tenant: &Tenant,
    host: &Host,
    observed: &Observed,
    found: &Found<'_>,
    subnet: Option<Ipv4Net>,
) -> TenantPlan {
    let plan = converge(tenant, host, observed, found, subnet);
    let (tenant, located) = (plan.tenant, plan.located);
    let held = TenantPlan { tenant, located, notes: vec![Note::Held], ..TenantPlan::default() };
    match plan.contain.is_empty() {
        true => held,
        false => TenantPlan { changes: plan.changes, contain: plan.contain, ..held },
    }
}

/// Plans a declared tenant that has a container: it runs, or it is frozen.
fn awake(
    tenant: &Tenant,
    host: &Host,
    observed: &Observed,
    found: &Found<'_>,
    subnet: Option<Ipv4Net>,
    wanted: Wanted,
    mut plan: TenantPlan,
) -> TenantPlan {
    if wanted.power == Power::Paused {
        plan.notes.push(Note::Paused);
    }
    if tenant.limits.cpus > observed.engine.cpus {
        plan.notes.push(Note::CpusCapped);
    }
    if let Some((object, reason)) = found.unobserved {
        plan.blocked = Some(unobserved(object, reason));
        isolate(tenant.name.as_str(), found, observed, &mut plan);
        egress::converge(tenant, host, observed, subnet, Peer::Unobserved, &mut plan);
        plan.steps.clear();
        return plan;
    }
    plan.blocked = obstacle(tenant, host, observed, found, subnet);

    let image = match observed.images.get(tenant.image.as_str()) {
        Some(ImageState::Present(facts)) => Ok(facts),
        Some(ImageState::Unknown(reason)) => Err(image_unknown(tenant, reason)),
        Some(ImageState::Missing) | None => Err(image_missing(tenant)),
    };
    // One that the host does not offer has no name at the engine: the class is shown in its place.
    let runtime = host.runtimes.get(&tenant.class).map_or(tenant.class.as_str(), String::as_str);
    let mut world = World::sort(tenant, found, observed);
    let masked = world.container.filter(|_| image.is_err()).map(|actual| mask(actual, tenant));
    world.container = masked.as_ref().or(world.container);
    // Without a free subnet nothing is made, only compared: any one of the pool will do for that.
    let (allotted, subnet) = (subnet, subnet.unwrap_or(host.pool));
    let facts = match &image {
        Ok(facts) => (*facts).clone(),
        Err(_) => facts_of(world.container.and_then(|c| c.spec.as_deref())),
    };
    let path = workspace::declared_path(tenant, host, &observed.workspaces, found.workspace);
    let source = tenant.source.as_ref().and_then(|name| host.sources.get(name)).map(PathBuf::as_path);
    let folder = host.files(tenant.name.as_str());
    let provided = host.provided();
    let inputs = ContainerInputs {
        runtime,
        image: &facts,
        subnet,
        cpus: observed.engine.cpus,
        workspace: &path,
        files: (!tenant.files.is_empty()).then_some(folder.as_path()),
        source,
        provided: &provided,
    };
    let declared = DesiredObjects {
        network: desired_network(tenant, subnet),
        container: desired_container(tenant, &inputs),
        inherited: Inherited::of(tenant, &facts),
    };
    let refused = mount_refused(&declared.container, &observed.engine.root);
    let mut outcome = workspace::converge(
        tenant,
        host,
        &observed.workspaces,
        observed.engine.tenant_owner(),
        found.workspace,
        &mut plan,
    );
    let in_use = outcome.in_use.take();
    let files_update = files::converge(tenant, host, found.files, &mut plan);
    world.converge(
        tenant.class,
        declared,
        DependentChanges { workspace: outcome, files: files_update },
        wanted,
        &mut plan,
    );
    let peer = Peer::of(world.container, world.network, allotted, &plan);
    egress::converge(tenant, host, observed, allotted, peer, &mut plan);
    plan.located = located(world.container, peer, &plan);

    if plan.blocked.is_none() && plan.replaces_container() {
        plan.blocked = refused.or(image.err()).or_else(|| image_volumes(tenant, &facts));
    }
    if plan.blocked.is_some() {
        plan.steps.clear();
    }
    plan.blocked = plan.blocked.or(in_use);
    plan
}

/// Where the container is, before a plan that says whether it is to be frozen.
fn located(container: Option<&ObservedContainer>, peer: Peer, plan: &TenantPlan) -> Option<Located> {
    let (container, address) = container.zip(peer.holds())?;
    let freezes = |planned: &PlannedStep| matches!(planned.step, Step::Pause { .. });
    let runs = match container.state {
        RunState::Running => !plan.contain.iter().any(freezes),
        RunState::Paused => false,
        RunState::Created | RunState::Restarting | RunState::Stopped | RunState::Dead | RunState::Hung => return None,
    };
    Some(Located { container: container.id.clone(), address, runs })
}

/// Plans the end of a tenant that no file declares any more. Its workspace is archived.
pub(super) fn remove(name: &str, host: &Host, observed: &Observed, found: &Found<'_>) -> TenantPlan {
    let mut plan = TenantPlan { tenant: name.to_owned(), ..TenantPlan::default() };
    if let Some((object, reason)) = found.unobserved {
        plan.blocked = Some(unobserved(object, reason));
        isolate(name, found, observed, &mut plan);
        egress::remove(name, &observed.egress, &mut plan);
        return plan;
    }
    for container in &found.containers {
        remove_container(name, container, End::InTime, &mut plan);
    }
    egress::remove(name, &observed.egress, &mut plan);
    if let Some(files) = found.files {
        files::remove(name, host, files, &mut plan);
    }
    for network in &found.networks {
        remove_network(name, network, &mut plan);
    }
    if let Some(workspace) = found.workspace {
        workspace::remove(name, host, &observed.workspaces.capability, workspace, &mut plan);
    }
    plan
}

/// Contains what can be seen of a tenant whose container cannot be observed: nobody else stays on its network, and it
/// stays on nobody else's.
fn isolate(name: &str, found: &Found<'_>, observed: &Observed, plan: &mut TenantPlan) {
    for network in &found.networks {
        disconnect_foreign(name, network, None, plan);
    }
    leave_foreign(name, observed, plan);
}

/// What is declared, in the engine's terms.
struct DesiredObjects {
    network: Network,
    container: Container,
    inherited: Inherited,
}

/// Changes of what a container gets from the host, which the container's own steps depend on.
struct DependentChanges {
    workspace: workspace::WorkspaceOutcome,
    files: Option<files::FilesUpdate>,
}

impl DependentChanges {
    /// How a container differs by it.
    fn attributes(&self, state: RunState) -> impl Iterator<Item = AttributeChange> {
        let files = self.files.as_ref().map(|files_update| files_update.attribute.clone());
        self.workspace.attribute(state).into_iter().chain(files)
    }

    /// Steps for which nothing may use it.
    fn offline(self) -> Vec<PlannedStep> {
        let mut steps = self.workspace.offline;
        steps.extend(self.files.map(|files_update| files_update.step));
        steps
    }
}

/// What exists of one tenant, sorted into what it should have and what is beyond that.
struct World<'a> {
    name: String,
    tenant: &'a str,
    container: Option<&'a ObservedContainer>,
    network: Option<&'a ObservedNetwork>,
    extra_containers: Vec<&'a ObservedContainer>,
    extra_networks: Vec<&'a ObservedNetwork>,
    known_networks: &'a [ObservedNetwork],
    /// Containers whose limits the engine refused to lower.
    refused_limits: &'a BTreeSet<String>,
    /// What the engine adds to what is declared.
    defaults: &'a EngineDefaults,
    /// The name of a container until the one that it replaces is gone, if nobody else has it.
    temporary_name: Option<String>,
}

impl<'a> World<'a> {
    fn sort(tenant: &'a Tenant, found: &Found<'a>, observed: &'a Observed) -> Self {
        let name = tenant.name.object_name();
        let mut containers = found.containers.clone();
        containers.sort_by_key(|c| (c.name != name, c.state != RunState::Running, c.id.as_str()));
        let mut networks = found.networks.clone();
        networks.sort_by_key(|n| (n.spec.name != name, n.id.as_str()));
        let mut containers = containers.into_iter();
        let mut networks = networks.into_iter();
        Self {
            tenant: tenant.name.as_str(),
            container: containers.next(),
            network: networks.next(),
            extra_containers: containers.collect(),
            extra_networks: networks.collect(),
            known_networks: &observed.networks,
            refused_limits: &observed.refused_limits,
            defaults: &observed.engine.defaults,
            temporary_name: (!found.replacement_name_taken).then(|| tenant.name.replacement_name()),
            name,
        }
    }

    fn converge(
        &self,
        class: RuntimeClass,
        declared: DesiredObjects,
        dependent: DependentChanges,
        wanted: Wanted,
        plan: &mut TenantPlan,
    ) {
        for extra in &self.extra_containers {
            remove_container(self.tenant, extra, End::AtOnce, plan);
        }
        for extra in &self.extra_networks {
            remove_network(self.tenant, extra, plan);
        }
        let network = self.network(&declared.network, plan);
        self.container(class, declared, network, dependent, wanted, plan);
    }

    /// Plans the network, and says what becomes of it.
    fn network(&self, declared: &Network, plan: &mut TenantPlan) -> NetworkOutcome<'a> {
        let Some(network) = self.network else {
            let change = plan.add_change(change(self.tenant, Action::Create, Vec::new(), None, declared.clone()));
            let create = plan.planned(change, create_network(declared));
            return NetworkOutcome::Made { steps: vec![create], former: None, weakened: false };
        };
        let has_foreign = network.members.iter().any(|member| member.tenant.as_deref() != Some(self.tenant));
        let expected = engine_defaults::network_with_share(declared, &network.spec);
        let mut attributes = diff::compare_networks(&expected, &network.spec);
        let replaced = !attributes.is_empty();
        let weakened = attributes.iter().any(|a| a.weakens);
        if has_foreign {
            attributes.push(AttributeChange {
                attribute: &network::MEMBERS,
                before: json!(network.members.iter().map(|m| m.name.as_str()).collect::<Vec<_>>()),
                after: json!([self.name]),
                forces_replacement: false,
                weakens: true,
                why: Why::Drift,
                remark: Some("a container of nobody's or of another tenant's is on it"),
            });
        }
        if attributes.is_empty() {
            return NetworkOutcome::Kept(network);
        }
        let action = if replaced { Action::Replace } else { Action::Update };
        let before = Some(network.spec.clone());
        let change = plan.add_change(change(self.tenant, action, attributes, before, declared.clone()));
        disconnect_foreign(self.tenant, network, Some(change), plan);
        if !replaced {
            return NetworkOutcome::Kept(network);
        }
        let remove = plan.planned(change, Step::RemoveNetwork { network: network.id.clone() });
        let create = plan.planned(change, create_network(declared));
        NetworkOutcome::Made { steps: vec![remove, create], former: Some(network), weakened }
    }

    fn container(
        &self,
        class: RuntimeClass,
        DesiredObjects { container: declared, inherited, .. }: DesiredObjects,
        network: NetworkOutcome<'_>,
        dependent: DependentChanges,
        wanted: Wanted,
        plan: &mut TenantPlan,
    ) {
        let Some(actual) = self.container else {
            let change = plan.add_change(container_change(self.tenant, Action::Create, Vec::new(), None, &declared));
            plan.steps.extend(network.steps());
            plan.steps.extend(dependent.offline());
            plan.push_step(change, create(declared, None));
            plan.push_step(change, Step::Start { container: Target::Created });
            return;
        };
        // Of one whose start hangs no more is known than that.
        let spec = actual.spec.as_deref();
        if actual.state == RunState::Running {
            plan.health = actual.health;
        }
        let expected = |spec: &Container| engine_defaults::with_share(&declared, spec, self.defaults);
        let compare = |spec: &Container| self::attributes(&expected(spec), spec, &inherited, class);
        let mut attributes = spec.map(compare).unwrap_or_default();
        let connections = spec.map(|_| self.connections(actual, &declared, &network, class)).unwrap_or_default();
        let in_place = spec.filter(|spec| class.changes_live() && spec.runtime == declared.runtime);
        let narrowed = in_place.and_then(|spec| narrowed_limits(&declared, spec));
        let refused = narrowed.is_some() && self.refused_limits.contains(&actual.id);
        if refused {
            let limits = attributes.iter_mut().filter(|change| change.attribute.is_limit());
            limits.for_each(refuse_in_place);
        }
        attributes.extend(connections.attribute);
        attributes.extend(state_change(actual.state, wanted));
        attributes.extend(dependent.attributes(actual.state));
        let (replaced, weakened) = (
            attributes.iter().any(|a| a.forces_replacement),
            attributes.iter().any(|a| a.weakens && a.forces_replacement) || network.weakened(),
        );
        let action = if replaced { Action::Replace } else { Action::Update };
        let limits = live_limits(&declared);
        let needs_update = attributes.iter().any(|change| change.attribute.is_updated());
        let needs_rename = attributes.iter().any(|change| *change.attribute == container::NAME);
        let change = (!attributes.is_empty())
            .then(|| plan.add_change(container_change(self.tenant, action, attributes, spec, &declared)));
        for step in connections.contain {
            plan.push_containment(change, step);
        }
        let frozen = (weakened || wanted.power == Power::Paused) && actual.state == RunState::Running;
        if frozen {
            plan.push_containment(change, Step::Pause { container: actual.id.clone() });
        }
        let runs = matches!(actual.state, RunState::Running | RunState::Paused);
        let narrowed = narrowed.filter(|_| runs && !weakened && !refused);
        if let Some(limits) = narrowed {
            plan.push_containment(change, Step::Update { container: actual.id.clone(), limits });
        }
        let Some(change) = change else { return };

        let id = || actual.id.clone();
        if replaced {
            let stop = (actual.state == RunState::Running && !frozen).then(|| Step::Stop { container: id() });
            let stop_and_remove = stop.into_iter().chain([Step::Remove { container: id() }]);
            let stop_and_remove = stop_and_remove.map(|step| plan.planned(change, step)).collect::<Vec<_>>();
            let temporary = self.temporary_name.clone().filter(|name| actual.name != *name);
            // A replacement is made before the old one goes, so that a refusal leaves the old one in
            // place. That needs the network that both are on, the workspace, and the second name, to be free.
            let offline = dependent.offline();
            let is_free = offline.is_empty() && matches!(network, NetworkOutcome::Kept(_));
            if is_free && temporary.is_some() {
                plan.push_step(change, create(declared, temporary));
                plan.steps.extend(stop_and_remove);
                plan.push_step(change, Step::Rename { container: Target::Created, to: self.name.clone() });
            } else {
                plan.steps.extend(stop_and_remove);
                plan.steps.extend(network.steps());
                plan.steps.extend(offline);
                plan.push_step(change, create(declared, None));
            }
            plan.push_step(change, Step::Start { container: Target::Created });
            return;
        }
        if needs_rename {
            plan.push_step(change, Step::Rename { container: Target::Existing(id()), to: self.name.clone() });
        }
        if needs_update && narrowed != Some(limits) {
            plan.push_step(change, Step::Update { container: id(), limits });
        }
        if let Some(connect) = connections.connect {
            plan.push_step(change, connect);
        }
        match (actual.state, wanted.power) {
            (RunState::Created | RunState::Stopped, Power::Running) => {
                for step in connections.readdress {
                    plan.push_step(change, step);
                }
                plan.push_step(change, Step::Start { container: Target::Existing(id()) });
            }
            (RunState::Paused, Power::Running) => plan.push_step(change, Step::Unpause { container: id() }),
            (RunState::Created | RunState::Stopped | RunState::Paused, Power::Paused | Power::Asleep)
            | (RunState::Running | RunState::Restarting | RunState::Dead | RunState::Hung, _) => {}
        }
    }

    /// Compares the networks that a container is on with the one that it should be on.
    fn connections(
        &self,
        actual: &ObservedContainer,
        declared: &Container,
        own: &NetworkOutcome<'_>,
        class: RuntimeClass,
    ) -> Connections {
        let mut result = Connections::default();
        let names = || actual.networks.names().collect::<Vec<_>>();
        let mut attribute = |forces_replacement, weakens, remark| {
            result.attribute = Some(AttributeChange {
                attribute: &container::NETWORKS,
                before: json!(names()),
                after: json!([self.name]),
                forces_replacement,
                weakens,
                why: Why::Drift,
                remark,
            });
        };
        let (is_kept, own) = match own {
            NetworkOutcome::Kept(own) => (true, Some(*own)),
            NetworkOutcome::Made { former, .. } => (false, *former),
        };
        let mut on_own = false;
        let mut gone = false;
        let mut others = Vec::new();
        for (name, id) in &actual.networks {
            // A container that never ran knows its network by name alone.
            let is_it = |network: &ObservedNetwork| match id.is_empty() {
                true => network.spec.name == *name,
                false => network.id == *id,
            };
            // All networks are gone through for another one only: there are as many as tenants.
            if own.is_some_and(is_it) {
                on_own = true;
            } else if let Some(network) = self.known_networks.iter().find(|network| is_it(network)) {
                others.push(network);
            } else {
                gone = true;
            }
        }
        if !is_kept {
            attribute(true, !others.is_empty(), Some("its network is made anew"));
        } else if gone {
            attribute(true, !others.is_empty(), Some("a network that it was on is gone"));
        } else if !on_own && !class.changes_live() {
            attribute(true, !others.is_empty(), None);
        } else if !on_own || !others.is_empty() {
            attribute(false, !others.is_empty(), None);
        }
        let address = declared.address;
        let disconnect =
            |network: &ObservedNetwork| Step::Disconnect { network: network.id.clone(), container: actual.id.clone() };
        // No engine takes a container off the host's own network; it is paused and made anew.
        result.contain = others.into_iter().filter(|network| network.spec.driver != "host").map(disconnect).collect();
        if let Some(own) = own.filter(|_| !on_own) {
            result.connect = Some(connect(own, actual, address));
        }
        // One that the engine gives an address at each start gets one of its own while it does not run.
        let is_placed = actual.spec.as_ref().is_none_or(|spec| spec.address.is_some());
        if let Some(own) = own.filter(|_| on_own && !is_placed) {
            result.readdress = vec![disconnect(own), connect(own, actual, address)];
        }
        result
    }
}

/// What becomes of a tenant's network.
enum NetworkOutcome<'a> {
    /// It stays as it is.
    Kept(&'a ObservedNetwork),
    /// It is made, after another of its name was removed.
    Made { steps: Vec<PlannedStep>, former: Option<&'a ObservedNetwork>, weakened: bool },
}

impl NetworkOutcome<'_> {
    fn steps(self) -> Vec<PlannedStep> {
        match self {
            Self::Kept(_) => Vec::new(),
            Self::Made { steps, .. } => steps,
        }
    }

    fn weakened(&self) -> bool {
        matches!(self, Self::Made { weakened: true, .. })
    }
}

#[derive(Default)]
struct Connections {
    attribute: Option<AttributeChange>,
    contain: Vec<Step>,
    connect: Option<Step>,
    /// What gives a container that does not run an address of its own.
    readdress: Vec<Step>,
}

/// Hides the values of the variables that are not as the tenant declares them. Without its image nobody knows
/// which of them somebody set by hand.
fn mask(actual: &ObservedContainer, tenant: &Tenant) -> ObservedContainer {
    let mut masked = actual.clone();
    let declared: Vec<String> = tenant.variables().chain([OWN_HOME.to_owned()]).collect();
    if let Some(spec) = &mut masked.spec {
        spec.environment = diff::hide_undeclared(&spec.environment, &declared);
    }
    masked
}

/// What the image brought into a container, where the image itself cannot be asked.
fn facts_of(actual: Option<&Container>) -> ImageFacts {
    actual.map_or_else(ImageFacts::default, |actual| ImageFacts {
        id: actual.image_id.clone(),
        environment: actual.environment.clone(),
        entrypoint: actual.entrypoint.clone(),
        command: actual.command.clone(),
        working_dir: actual.working_dir.clone(),
        labels: actual.labels.clone(),
        volumes: Vec::new(),
    })
}

fn live_limits(declared: &Container) -> LiveLimits {
    LiveLimits { memory: declared.memory, nano_cpus: declared.nano_cpus, pids_limit: declared.pids_limit }
}

/// The limits of a container without what they allow beyond its declaration; `None` where they allow no more.
fn narrowed_limits(declared: &Container, actual: &Container) -> Option<LiveLimits> {
    // None of a limit is the highest of all.
    let least = |actual: i64, declared: i64| if actual > 0 { actual.min(declared) } else { declared };
    let exceeds = |actual: i64, declared: i64| least(actual, declared) != actual;
    let narrowed = LiveLimits {
        // It becomes the limit of memory and swap together as well, and must not raise that one.
        memory: least(actual.memory_swap, least(actual.memory, declared.memory)),
        nano_cpus: least(actual.nano_cpus, declared.nano_cpus),
        pids_limit: least(actual.pids_limit, declared.pids_limit),
    };
    let more = exceeds(actual.memory, declared.memory)
        || exceeds(actual.memory_swap, declared.memory_swap)
        || exceeds(actual.nano_cpus, declared.nano_cpus)
        || exceeds(actual.pids_limit, declared.pids_limit);
    more.then_some(narrowed)
}

/// Has a limit put right by a new container.
fn refuse_in_place(attribute: &mut AttributeChange) {
    attribute.forces_replacement = true;
    attribute.remark = Some("the engine does not lower it while the container runs");
}

fn connect(network: &ObservedNetwork, container: &ObservedContainer, address: Option<Ipv4Addr>) -> Step {
    Step::Connect { network: network.id.clone(), container: container.id.clone(), address }
}

fn create_network(spec: &Network) -> Step {
    Step::CreateNetwork { spec: Box::new(spec.clone()) }
}

fn create(spec: Container, temporary_name: Option<String>) -> Step {
    Step::CreateContainer { spec: Box::new(spec), temporary_name }
}

/// What a container does that it should not.
fn state_change(state: RunState, Wanted { power, reached }: Wanted) -> Option<AttributeChange> {
    let (before, is, forces_replacement) = match state {
        RunState::Running | RunState::Restarting => ("running", Some(Power::Running), false),
        RunState::Paused => ("paused", Some(Power::Paused), false),
        RunState::Created => ("created", None, false),
        RunState::Stopped => ("stopped", None, false),
        RunState::Dead => ("dead", None, true),
        RunState::Hung => ("hung in its start", None, true),
    };
    (is != Some(power)).then(|| AttributeChange {
        attribute: &container::STATE,
        before: json!(before),
        after: json!(power.as_str()),
        forces_replacement,
        weakens: false,
        why: if reached { Why::Drift } else { Why::Intent },
        remark: None,
    })
}

fn change(
    tenant: &str,
    action: Action,
    attributes: Vec<AttributeChange>,
    before: Option<Network>,
    after: Network,
) -> Change {
    let object = |network| Object::Network(Box::new(network));
    Change {
        resource: Resource::Network,
        name: tenant.to_owned(),
        action,
        attributes,
        before: before.map(object),
        after: Some(object(after)),
    }
}

fn container_change(
    tenant: &str,
    action: Action,
    attributes: Vec<AttributeChange>,
    before: Option<&Container>,
    after: &Container,
) -> Change {
    Change {
        resource: Resource::Container,
        name: tenant.to_owned(),
        action,
        attributes,
        before: before.map(|actual| {
            let environment = diff::hide_undeclared(&actual.environment, &after.environment);
            Object::Container(Box::new(Container { environment, ..actual.clone() }))
        }),
        after: Some(Object::Container(Box::new(after.clone()))),
    }
}

/// What differs. What a container of an earlier version has in place of what tenants get by now is no difference: it gets that
/// when it is replaced for another reason, and never weakens anything.
fn attributes(
    declared: &Container,
    actual: &Container,
    inherited: &Inherited,
    class: RuntimeClass,
) -> Vec<AttributeChange> {
    let mut all = diff::compare_containers(declared, actual, class);
    let kept = (!all.is_empty()).then(|| inherited.kept_by(declared, actual)).flatten();
    let Some(kept) = kept else { return all };
    let but_for_those = diff::compare_containers(&kept, actual, class);
    if !but_for_those.iter().any(|change| change.forces_replacement) {
        return but_for_those;
    }
    for change in &mut all {
        change.weakens &= but_for_those.iter().any(|other| other.attribute == change.attribute && other.weakens);
    }
    all
}
