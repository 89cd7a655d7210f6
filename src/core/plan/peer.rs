//! Which address of a tenant's network is the tenant's own: the gateway serves no other.

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;

use super::desired_network::own_address;
use crate::model::{
    EgressPolicy, Step, TenantPlan,
    egress::POLICY_VERSION,
    observed::{ObservedContainer, ObservedNetwork, RunState},
};

/// What is known of the address of a tenant's container.
#[derive(Clone, Copy, Debug)]
pub(super) enum Peer {
    /// Its container could not be observed: what is in force is neither right nor wrong.
    Unobserved,
    /// It could.
    Known {
        /// The address that its container has now. As long as it has it, nobody else can.
        holds: Option<Ipv4Addr>,
        /// The address that its container has once the plan is carried out.
        will_have: Option<Ipv4Addr>,
        /// Whether somebody else is on the network, who may have what the container does not hold.
        contested: bool,
    },
}

impl Peer {
    /// What is known of the container and its network, where these are, before a plan whose steps for both are there already.
    pub(super) fn of(
        container: Option<&ObservedContainer>,
        network: Option<&ObservedNetwork>,
        subnet: Option<Ipv4Net>,
        plan: &TenantPlan,
    ) -> Self {
        let holds = container.zip(network).and_then(|(c, n)| c.addresses.get(&n.spec.name)).copied();
        let is_placed =
            |step: &Step| matches!(step, Step::CreateContainer { .. } | Step::Connect { address: Some(_), .. });
        let will_have = if plan.steps.iter().any(|planned| is_placed(&planned.step)) {
            subnet.and_then(own_address)
        } else {
            container.and_then(|container| match container.state {
                // It has its address back as it starts, if it was given one of its own.
                RunState::Created | RunState::Stopped => container.spec.as_ref().and_then(|spec| spec.address),
                RunState::Running | RunState::Paused | RunState::Restarting | RunState::Dead | RunState::Hung => holds,
            })
        };
        let is_foreign = |owner: Option<&str>| owner != Some(plan.tenant.as_str());
        let contested = network.is_some_and(|n| n.members.iter().any(|member| is_foreign(member.tenant.as_deref())));
        Self::Known { holds, will_have, contested }
    }

    /// The address that the container has now, as far as that is known.
    pub(super) fn holds(self) -> Option<Ipv4Addr> {
        match self {
            Self::Unobserved => None,
            Self::Known { holds, .. } => holds,
        }
    }

    /// The address that a policy should name, where another one is in force.
    pub(super) fn declared(self, in_force: Option<Ipv4Addr>) -> Option<Ipv4Addr> {
        match self {
            Self::Unobserved => in_force,
            Self::Known { will_have, .. } => will_have,
        }
    }

    /// What may stay in force of a policy, by its version and its address: where others can have that, or where an earlier
    /// version names none, the container's own takes its place. A policy that serves nobody is left as it is.
    pub(super) fn left_of(self, policy: &EgressPolicy) -> (u32, Option<Ipv4Addr>) {
        let current = match self {
            Self::Unobserved => return (policy.v.min(POLICY_VERSION), policy.address),
            Self::Known { holds, will_have, contested } => holds.or(will_have.filter(|_| !contested)),
        };
        let address = match policy.address {
            None if policy.v >= POLICY_VERSION => None,
            Some(address) if self.is_own(address) => Some(address),
            None | Some(_) => current,
        };
        (POLICY_VERSION, address)
    }

    /// Whether nobody but the tenant can come from an address now.
    pub(super) fn is_own(self, address: Ipv4Addr) -> bool {
        match self {
            Self::Unobserved => true,
            Self::Known { holds, will_have, contested } => {
                holds == Some(address) || (will_have == Some(address) && !contested)
            }
        }
    }

    /// Whether the container keeps the address that it has until another one takes its place.
    pub(super) fn moves(self) -> bool {
        match self {
            Self::Unobserved => false,
            Self::Known { holds, will_have, .. } => holds.is_some() && holds != will_have,
        }
    }
}
