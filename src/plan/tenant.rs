//! One tenant: from what was found to the steps that make it as declared.

use std::path::PathBuf;

use ipnet::Ipv4Net;
use serde_json::json;

use super::{
    Found, diff, egress, files,
    obstacle::{image_missing, image_unknown, image_volumes, obstacle, unobserved},
    realize, workspace,
};
use crate::model::{
    Container, Host, NAME_PREFIX, Network, Observed, RuntimeClass, Step, Tenant, TenantPlan,
    observed::{ImageFacts, ImageState, Member, ObservedContainer, ObservedNetwork, RunState},
    plan::{Action, AttributeChange, Cause, Change, LiveLimits, Note, Object, Resource, Target},
};

/// Plans one declared tenant.
pub(super) fn converge(
    tenant: &Tenant,
    host: &Host,
    observed: &Observed,
    found: &Found<'_>,
    subnet: Option<Ipv4Net>,
) -> TenantPlan {
    let mut plan = TenantPlan { tenant: tenant.name.to_string(), ..TenantPlan::default() };
    if tenant.limits.cpus > observed.engine.cpus {
        plan.notes.push(Note::CpusCapped);
    }
    if let Some((object, reason)) = found.unobserved {
        plan.blocked = Some(unobserved(object, reason));
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
    let ground = realize::Ground {
        runtime,
        image: &facts,
        subnet,
        cpus: observed.engine.cpus,
        workspace: &path,
        files: (!tenant.files.is_empty()).then_some(folder.as_path()),
        source,
    };
    let declared =
        Declared { network: realize::network(tenant, subnet), container: realize::container(tenant, &ground) };
    let fate = workspace::converge(tenant, host, &observed.workspaces, found.workspace, &mut plan);
    let renewal = files::converge(tenant, host, found.files, &mut plan);
    world.converge(tenant.class, declared, Around { workspace: fate, files: renewal }, &mut plan);
    egress::converge(tenant, host, observed, allotted, &mut plan);

    let creates = plan.steps.iter().any(|step| matches!(step, Step::CreateContainer { .. }));
    if plan.blocked.is_none() && creates {
        plan.blocked = image.err().or_else(|| image_volumes(tenant, &facts));
    }
    if plan.blocked.is_some() {
        plan.steps.clear();
    }
    plan
}

/// Plans the end of a tenant that no file declares any more. Its workspace is kept aside.
pub(super) fn remove(name: &str, host: &Host, observed: &Observed, found: &Found<'_>) -> TenantPlan {
    let mut plan = TenantPlan { tenant: name.to_owned(), ..TenantPlan::default() };
    if let Some((object, reason)) = found.unobserved {
        plan.blocked = Some(unobserved(object, reason));
        return plan;
    }
    for container in &found.containers {
        plan.changes.push(deleted_container(name, container));
        if container.state == RunState::Running {
            plan.steps.push(Step::Stop { container: container.id.clone() });
        }
        plan.steps.push(Step::Remove { container: container.id.clone() });
    }
    egress::remove(name, &observed.egress, &mut plan);
    if let Some(files) = found.files {
        files::remove(name, host, files, &mut plan);
    }
    for network in &found.networks {
        remove_network(name, network, &mut plan);
    }
    if let Some(workspace) = found.workspace {
        workspace::remove(name, host, &observed.workspaces.site, workspace, &mut plan);
    }
    plan
}

/// What is declared, in the engine's terms.
struct Declared {
    network: Network,
    container: Container,
}

/// What a container gets from the host, and what becomes of the container by that.
struct Around {
    workspace: workspace::Fate,
    files: Option<files::Renewal>,
}

impl Around {
    /// How a container differs by it.
    fn attributes(&self, state: RunState) -> impl Iterator<Item = AttributeChange> {
        let files = self.files.as_ref().map(|renewal| renewal.attribute.clone());
        self.workspace.attribute(state).into_iter().chain(files)
    }

    /// Steps for which nothing may use it.
    fn offline(self) -> Vec<Step> {
        let mut steps = self.workspace.offline;
        steps.extend(self.files.map(|renewal| renewal.step));
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
            temporary_name: (!found.replacement_name_taken).then(|| tenant.name.replacement_name()),
            name,
        }
    }

    fn converge(&self, class: RuntimeClass, declared: Declared, around: Around, plan: &mut TenantPlan) {
        for extra in &self.extra_containers {
            plan.changes.push(deleted_container(self.tenant, extra));
            if extra.state == RunState::Running {
                plan.contain.push(Step::Pause { container: extra.id.clone() });
            }
            plan.steps.push(Step::Remove { container: extra.id.clone() });
        }
        for extra in &self.extra_networks {
            remove_network(self.tenant, extra, plan);
        }
        let network = self.network(&declared.network, plan);
        self.container(class, declared.container, network, around, plan);
    }

    /// Plans the network, and says what becomes of it.
    fn network(&self, declared: &Network, plan: &mut TenantPlan) -> NetworkFate<'a> {
        let Some(network) = self.network else {
            plan.changes.push(change(self.tenant, Action::Create, Vec::new(), None, declared.clone()));
            return NetworkFate::Made { create: declared.clone(), remove: None, weakened: false };
        };
        let strangers: Vec<&Member> =
            network.members.iter().filter(|member| member.tenant.as_deref() != Some(self.tenant)).collect();
        for stranger in &strangers {
            plan.contain.push(Step::Disconnect { network: network.id.clone(), container: stranger.id.clone() });
        }
        let mut attributes = diff::compare_networks(declared, &network.spec);
        let replaced = !attributes.is_empty();
        let weakened = attributes.iter().any(|a| a.weakens);
        if !strangers.is_empty() {
            attributes.push(AttributeChange {
                name: "members",
                before: json!(network.members.iter().map(|m| m.name.as_str()).collect::<Vec<_>>()),
                after: json!([self.name]),
                forces_replacement: false,
                weakens: true,
                cause: Cause::Drift,
                remark: Some("a container of nobody's or of another tenant's is on it"),
            });
        }
        if !attributes.is_empty() {
            let action = if replaced { Action::Replace } else { Action::Update };
            plan.changes.push(change(self.tenant, action, attributes, Some(network.spec.clone()), declared.clone()));
        }
        if replaced {
            NetworkFate::Made { create: declared.clone(), remove: Some(network), weakened }
        } else {
            NetworkFate::Kept(network)
        }
    }

    fn container(
        &self,
        class: RuntimeClass,
        declared: Container,
        network: NetworkFate<'_>,
        around: Around,
        plan: &mut TenantPlan,
    ) {
        let Some(actual) = self.container else {
            plan.changes.push(container_change(self.tenant, Action::Create, Vec::new(), None, &declared));
            plan.steps.extend(network.steps());
            plan.steps.extend(around.offline());
            plan.steps.push(create(declared, None));
            plan.steps.push(Step::Start { container: Target::Created });
            return;
        };
        // Of one whose start hangs no more is known than that.
        let spec = actual.spec.as_deref();
        let mut attributes = spec.map(|spec| diff::compare_containers(&declared, spec, class)).unwrap_or_default();
        let connections = spec.map(|_| self.connections(actual, &network, class)).unwrap_or_default();
        attributes.extend(connections.attribute);
        attributes.extend(state_change(actual.state));
        attributes.extend(around.attributes(actual.state));
        let (replaced, weakened) = (
            attributes.iter().any(|a| a.forces_replacement),
            attributes.iter().any(|a| a.weakens && a.forces_replacement) || network.weakened(),
        );
        plan.contain.extend(connections.contain);
        let frozen = weakened && actual.state == RunState::Running;
        if frozen {
            plan.contain.push(Step::Pause { container: actual.id.clone() });
        }
        if attributes.is_empty() {
            return;
        }
        let action = if replaced { Action::Replace } else { Action::Update };
        let limits = live_limits(&declared);
        let needs_update = attributes.iter().any(|a| realize::LIVE.contains(&a.name) || a.name == "restart_policy");
        let needs_rename = attributes.iter().any(|a| a.name == "name");
        plan.changes.push(container_change(self.tenant, action, attributes, spec, &declared));

        let id = || actual.id.clone();
        let stop_and_remove = [
            (actual.state == RunState::Running && !frozen).then(|| Step::Stop { container: id() }),
            Some(Step::Remove { container: id() }),
        ];
        if replaced {
            let temporary = self.temporary_name.clone().filter(|name| actual.name != *name);
            // A replacement is made before the old one goes, so that a refusal leaves the old one in
            // place. That needs the network that both are on, the workspace, and the second name, to be free.
            let offline = around.offline();
            let is_free = offline.is_empty() && matches!(network, NetworkFate::Kept(_));
            if is_free && temporary.is_some() {
                plan.steps.push(create(declared, temporary));
                plan.steps.extend(stop_and_remove.into_iter().flatten());
                plan.steps.push(Step::Rename { container: Target::Created, to: self.name.clone() });
            } else {
                plan.steps.extend(stop_and_remove.into_iter().flatten());
                plan.steps.extend(network.steps());
                plan.steps.extend(offline);
                plan.steps.push(create(declared, None));
            }
            plan.steps.push(Step::Start { container: Target::Created });
            return;
        }
        if needs_rename {
            plan.steps.push(Step::Rename { container: Target::Existing(id()), to: self.name.clone() });
        }
        if needs_update {
            plan.steps.push(Step::Update { container: id(), limits });
        }
        plan.steps.extend(connections.connect);
        match actual.state {
            RunState::Created | RunState::Stopped => {
                plan.steps.push(Step::Start { container: Target::Existing(id()) });
            }
            RunState::Paused => plan.steps.push(Step::Unpause { container: id() }),
            RunState::Running | RunState::Restarting | RunState::Dead | RunState::Hung => {}
        }
    }

    /// Compares the networks that a container is on with the one that it should be on.
    fn connections(&self, actual: &ObservedContainer, own: &NetworkFate<'_>, class: RuntimeClass) -> Connections {
        let mut result = Connections::default();
        let names = || actual.networks.names().collect::<Vec<_>>();
        let mut attribute = |forces_replacement, weakens, remark| {
            result.attribute = Some(AttributeChange {
                name: "networks",
                before: json!(names()),
                after: json!([self.name]),
                forces_replacement,
                weakens,
                cause: Cause::Drift,
                remark,
            });
        };
        let (is_kept, own) = match own {
            NetworkFate::Kept(own) => (true, Some(*own)),
            NetworkFate::Made { remove, .. } => (false, *remove),
        };
        let mut on_own = false;
        let mut gone = false;
        let mut strange = Vec::new();
        for (name, id) in &actual.networks {
            // A container that never ran knows its network by name alone.
            let is_it = |network: &ObservedNetwork| match id.is_empty() {
                true => network.spec.name == *name,
                false => network.id == *id,
            };
            // All networks are gone through for a strange one only: there are as many as tenants.
            if own.is_some_and(is_it) {
                on_own = true;
            } else if let Some(network) = self.known_networks.iter().find(|network| is_it(network)) {
                strange.push(network);
            } else {
                gone = true;
            }
        }
        if !is_kept {
            attribute(true, !strange.is_empty(), Some("its network is made anew"));
        } else if gone {
            attribute(true, !strange.is_empty(), Some("a network that it was on is gone"));
        } else if !on_own && !class.changes_live() {
            attribute(true, !strange.is_empty(), None);
        } else if !on_own || !strange.is_empty() {
            attribute(false, !strange.is_empty(), None);
        }
        let disconnect =
            |network: &ObservedNetwork| Step::Disconnect { network: network.id.clone(), container: actual.id.clone() };
        // No engine takes a container off the host's own network; it is paused and made anew.
        result.contain = strange.into_iter().filter(|network| network.spec.driver != "host").map(disconnect).collect();
        if let Some(own) = own.filter(|_| !on_own) {
            result.connect = Some(Step::Connect { network: own.id.clone(), container: actual.id.clone() });
        }
        result
    }
}

/// What becomes of a tenant's network.
enum NetworkFate<'a> {
    /// It stays as it is.
    Kept(&'a ObservedNetwork),
    /// It is made, after another of its name was removed.
    Made { create: Network, remove: Option<&'a ObservedNetwork>, weakened: bool },
}

impl NetworkFate<'_> {
    fn steps(self) -> Vec<Step> {
        match self {
            Self::Kept(_) => Vec::new(),
            Self::Made { create, remove, .. } => {
                let remove = remove.map(|network| Step::RemoveNetwork { network: network.id.clone() });
                remove.into_iter().chain([Step::CreateNetwork { spec: Box::new(create) }]).collect()
            }
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
}

/// Hides the values of the variables that are not as the tenant declares them. Without its image nobody knows
/// which of them somebody set by hand.
fn mask(actual: &ObservedContainer, tenant: &Tenant) -> ObservedContainer {
    let mut masked = actual.clone();
    let declared: Vec<String> = tenant.variables().collect();
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

fn create(spec: Container, temporary_name: Option<String>) -> Step {
    Step::CreateContainer { spec: Box::new(spec), temporary_name }
}

fn state_change(state: RunState) -> Option<AttributeChange> {
    let (before, forces_replacement) = match state {
        RunState::Running | RunState::Restarting => return None,
        RunState::Created => ("created", false),
        RunState::Paused => ("paused", false),
        RunState::Stopped => ("stopped", false),
        RunState::Dead => ("dead", true),
        RunState::Hung => ("hung in its start", true),
    };
    Some(AttributeChange {
        name: "state",
        before: json!(before),
        after: json!("running"),
        forces_replacement,
        weakens: false,
        cause: Cause::Drift,
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

/// The name in a plan: that of the tenant for the object that it declares, else the engine's.
fn name_in_plan(tenant: &str, object: &str) -> String {
    if object.strip_prefix(NAME_PREFIX) == Some(tenant) { tenant.to_owned() } else { object.to_owned() }
}

fn deleted_container(tenant: &str, actual: &ObservedContainer) -> Change {
    Change {
        resource: Resource::Container,
        name: name_in_plan(tenant, &actual.name),
        action: Action::Delete,
        attributes: Vec::new(),
        before: actual.spec.as_deref().map(|spec| {
            let environment = diff::hide_undeclared(&spec.environment, &[]);
            Object::Container(Box::new(Container { environment, ..spec.clone() }))
        }),
        after: None,
    }
}

/// Plans the removal of a network of ours, with everybody else taken off it first.
fn remove_network(tenant: &str, network: &ObservedNetwork, plan: &mut TenantPlan) {
    plan.changes.push(Change {
        resource: Resource::Network,
        name: name_in_plan(tenant, &network.spec.name),
        action: Action::Delete,
        attributes: Vec::new(),
        before: Some(Object::Network(Box::new(network.spec.clone()))),
        after: None,
    });
    let strangers = network.members.iter().filter(|member| member.tenant.as_deref() != Some(tenant));
    plan.steps
        .extend(strangers.map(|member| Step::Disconnect { network: network.id.clone(), container: member.id.clone() }));
    plan.steps.push(Step::RemoveNetwork { network: network.id.clone() });
}
