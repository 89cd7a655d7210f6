//! What a tenant is to do, and the plan of one that sleeps.

use ipnet::Ipv4Net;

use super::{
    Found, egress,
    removal::{End, disconnect_foreign, leave_foreign, remove_container, remove_network},
    subnets, workspace,
};
use crate::model::{Host, Observed, Power, Step, Tenant, TenantPlan, observed::RunState, plan::Note};

/// What a tenant is to do, and whether it was found so before, so that what differs is drift.
#[derive(Clone, Copy)]
pub(super) struct Wanted {
    pub(super) power: Power,
    pub(super) reached: bool,
}

/// What a tenant is to do: what it was asked to, else to run. Where nobody knows what was asked, one that was there before does what it was
/// found to do, so that nothing starts because something was forgotten.
pub(super) fn wanted(tenant: &Tenant, observed: &Observed, found: &Found<'_>) -> Wanted {
    let powers = &observed.powers;
    if let Some(hold) = powers.holds.get(tenant.name.as_str()) {
        return Wanted { power: hold.power, reached: hold.reached };
    }
    let power = if powers.lost && found.is_ours() { as_found(found) } else { Power::Running };
    Wanted { power, reached: true }
}

fn as_found(found: &Found<'_>) -> Power {
    let is = |wanted: &[RunState]| found.containers.iter().any(|container| wanted.contains(&container.state));
    if is(&[RunState::Running, RunState::Restarting]) {
        Power::Running
    } else if is(&[RunState::Paused]) {
        Power::Paused
    } else {
        Power::Asleep
    }
}

/// Whether a tenant that should be frozen can be: its container is there and stays what it is.
pub(super) fn can_pause(found: &Found<'_>, plan: &TenantPlan) -> bool {
    let lives = |state| matches!(state, RunState::Running | RunState::Restarting | RunState::Paused);
    found.containers.iter().any(|container| lives(container.state))
        && !plan.steps.iter().any(|planned| matches!(planned.step, Step::CreateContainer { .. }))
}

/// Plans that nothing of a declared tenant runs. It keeps its workspace, which is unmounted, its config files, and its addresses: its
/// network stays until these are reserved, because a network is what else keeps them. `subnet` is that of its network.
pub(super) fn asleep(
    tenant: &Tenant,
    host: &Host,
    observed: &Observed,
    found: &Found<'_>,
    subnet: Option<Ipv4Net>,
    Wanted { reached, .. }: Wanted,
    plan: &mut TenantPlan,
) {
    let name = tenant.name.as_str();
    plan.notes.push(Note::Asleep);
    egress::remove(name, &observed.egress, plan);
    leave_foreign(name, observed, plan);
    // What somebody started has no time to finish.
    let end = if reached { End::AtOnce } else { End::InTime };
    for container in &found.containers {
        remove_container(name, container, end, plan);
    }
    if let Some(workspace) = found.workspace {
        workspace::asleep(tenant, workspace, plan);
    }
    let is_reserved = subnet.is_some() && observed.powers.reserved.get(name).copied() == subnet;
    for network in &found.networks {
        // Only one that is as declared is the tenant's for good.
        let keeps = subnet.is_some() && subnets::kept(tenant, host, network) == subnet;
        if keeps && !is_reserved {
            plan.reserve = subnet;
            disconnect_foreign(name, network, None, plan);
        } else {
            remove_network(name, network, plan);
        }
    }
}
