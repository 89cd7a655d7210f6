//! What is taken away: containers and networks of a tenant that go, and whoever is on a network that is not its own.

use super::diff;
use crate::model::{
    Container, NAME_PREFIX, Observed, Step, TenantPlan,
    change::{Action, Change, Object},
    observed::{ObservedContainer, ObservedNetwork, RunState},
    resource::Resource,
    step::ChangeId,
};

/// How a container that runs ends.
#[derive(Clone, Copy)]
pub(super) enum End {
    /// With time to finish.
    InTime,
    /// Frozen before anything else is done for anybody.
    AtOnce,
}

/// Plans the end of a container of a tenant's.
pub(super) fn remove_container(tenant: &str, container: &ObservedContainer, end: End, plan: &mut TenantPlan) {
    let change = plan.add_change(Change {
        resource: Resource::Container,
        name: name_in_plan(tenant, &container.name),
        action: Action::Delete,
        attributes: Vec::new(),
        before: container.spec.as_deref().map(|spec| {
            let environment = diff::hide_undeclared(&spec.environment, &[]);
            Object::Container(Box::new(Container { environment, ..spec.clone() }))
        }),
        after: None,
    });
    let id = || container.id.clone();
    if container.state == RunState::Running {
        match end {
            End::InTime => plan.push_step(change, Step::Stop { container: id() }),
            End::AtOnce => plan.push_containment(change, Step::Pause { container: id() }),
        }
    }
    plan.push_step(change, Step::Remove { container: id() });
}

/// Plans the removal of a network of ours, with everybody else taken off it first.
pub(super) fn remove_network(tenant: &str, network: &ObservedNetwork, plan: &mut TenantPlan) {
    let change = plan.add_change(Change {
        resource: Resource::Network,
        name: name_in_plan(tenant, &network.spec.name),
        action: Action::Delete,
        attributes: Vec::new(),
        before: Some(Object::Network(Box::new(network.spec.clone()))),
        after: None,
    });
    disconnect_foreign(tenant, network, Some(change), plan);
    plan.push_step(change, Step::RemoveNetwork { network: network.id.clone() });
}

/// Plans that everybody else is taken off a network of a tenant's, as part of a change if it is.
pub(super) fn disconnect_foreign(
    tenant: &str,
    network: &ObservedNetwork,
    change: Option<ChangeId>,
    plan: &mut TenantPlan,
) {
    for foreign in network.members.iter().filter(|member| member.tenant.as_deref() != Some(tenant)) {
        let (network, container) = (network.id.clone(), foreign.id.clone());
        plan.push_containment(change, Step::Disconnect { network, container });
    }
}

/// Plans that a tenant is taken off all networks that are not its own.
pub(super) fn leave_foreign(name: &str, observed: &Observed, plan: &mut TenantPlan) {
    let is_own = |network: &&ObservedNetwork| network.tenant.as_deref() == Some(name);
    // No engine takes a container off the host's own network.
    for network in observed.networks.iter().filter(|network| !is_own(network) && network.spec.driver != "host") {
        for member in network.members.iter().filter(|member| member.tenant.as_deref() == Some(name)) {
            let (network, container) = (network.id.clone(), member.id.clone());
            plan.push_containment(None, Step::Disconnect { network, container });
        }
    }
}

/// The name in a plan: that of the tenant for the object that it declares, else the engine's.
fn name_in_plan(tenant: &str, object: &str) -> String {
    if object.strip_prefix(NAME_PREFIX) == Some(tenant) { tenant.to_owned() } else { object.to_owned() }
}
