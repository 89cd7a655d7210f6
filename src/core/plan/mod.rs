//! Desired against observed: what differs, and the steps that make it equal. Pure.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

pub mod brief;
pub mod daemon_settings;
pub mod engine_defaults;
pub mod guard;
pub mod saved;
pub mod settings;

mod desired_container;
mod desired_network;
mod diff;
mod egress;
mod files;
mod fingerprint;
mod found;
mod obstacle;
mod peer;
mod power;
mod removal;
mod subnets;
mod tenant;
mod workspace;

pub mod render;

use std::collections::{BTreeMap, BTreeSet};

use ipnet::Ipv4Net;
use schemars::JsonSchema;
use serde::Serialize;

pub use desired_container::hardened;
pub use diff::compare_containers;

use found::{Found, index, index_containers, index_existing};

use crate::model::{Bytes, Desired, Host, Observed, Plan, TenantName, TenantPlan, plan::Note, workspace::Backend};

/// Plans what would make the engine as declared.
///
/// The result depends on the arguments alone, and after it was carried out the next plan is empty.
/// A tenant whose file has errors keeps what it has. An object that carries a tenant's name and not
/// its label is never touched.
pub fn plan(desired: &Desired, host: &Host, observed: &Observed) -> Plan {
    let names = names(desired, observed);
    Plan { tenants: Planner::new(desired, host, observed).tenants(&names, observed) }
}

/// What the limits of all tenants commit, where the host can keep a limit at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Commitment {
    /// The sum of all `limits.disk`, in bytes.
    pub committed: u64,
    /// What the data root's disk has for workspaces: what is free and what they take, in bytes.
    pub disk: u64,
    /// What may be committed of it, in bytes.
    pub allowed: u64,
}

/// What is committed, declared for all tenants together. `None` where nothing bounds workspaces.
pub fn commitment(desired: &Desired, host: &Host, observed: &Observed) -> Option<Commitment> {
    let workspaces = &observed.workspaces;
    if workspaces.capability.backend == Backend::Folder {
        return None;
    }
    let taken: u64 = workspaces.found.values().filter_map(|found| Some(found.volume.as_ref()?.allocated)).sum();
    let disk = workspaces.disk?.free.saturating_add(taken);
    let committed = desired.tenants.values().map(|tenant| tenant.limits.disk.get()).fold(0, u64::saturating_add);
    Some(Commitment { committed, disk, allowed: host.workspaces.overcommit.of(disk) })
}

impl Commitment {
    /// In a line, where more is committed than the host allows.
    pub fn warning(&self) -> Option<String> {
        let Self { committed, disk, allowed } = *self;
        let round = |bytes: u64| Bytes::new(bytes).rounded();
        (committed > allowed).then(|| {
            format!(
                "limits.disk commits {} to all tenants together, and the data root's disk has {} for them; \
                 workspaces.overcommit in host.yaml allows {}",
                round(committed),
                round(disk),
                round(allowed)
            )
        })
    }
}

/// All who have a plan: who is declared, and who has something that is ours.
pub fn names(desired: &Desired, observed: &Observed) -> BTreeSet<String> {
    let declared = desired.tenants.keys().map(TenantName::as_str).chain(desired.held.iter().map(String::as_str));
    let found = index(observed);
    let found = found.iter().filter(|(_, found)| found.is_ours()).map(|(name, _)| *name);
    let mut names: BTreeSet<String> = declared.chain(found).map(str::to_owned).collect();
    names.extend(egress::undeclared(&observed.egress, &names));
    names
}

/// Plans for some tenants at a time, so that no observation need hold the containers of all.
pub struct Planner<'a> {
    desired: &'a Desired,
    host: &'a Host,
    /// All but the containers.
    observed: &'a Observed,
    existing: BTreeMap<&'a str, Found<'a>>,
    subnets: BTreeMap<&'a str, Ipv4Net>,
}

impl<'a> Planner<'a> {
    /// Begins with all networks; containers have no say in who gets which addresses.
    pub fn new(desired: &'a Desired, host: &'a Host, observed: &'a Observed) -> Self {
        let mut existing = BTreeMap::new();
        index_existing(observed, &mut existing);
        let subnets = subnets::allocate(desired, host, observed, &existing);
        Self { desired, host, observed, existing, subnets }
    }

    /// The parts of [`plan`] for some tenants, in the order of their names. `part` has all containers
    /// that have a label or a name of these tenants; the rest is what the planner began with.
    pub fn tenants(&self, names: &BTreeSet<String>, part: &Observed) -> Vec<TenantPlan> {
        let mut found = BTreeMap::new();
        index_containers(part, &mut found);
        let mut one = |name: &str| {
            let mut found = found.remove(name).unwrap_or_default();
            if let Some(existing) = self.existing.get(name) {
                found.networks.clone_from(&existing.networks);
                found.workspace = existing.workspace;
                found.files = existing.files;
                found.has_gateway_files = existing.has_gateway_files;
                found.name_conflict = existing.name_conflict.or(found.name_conflict);
            }
            plan_one(name, self.desired, self.host, self.observed, Some(&found), self.subnets.get(name).copied())
        };
        names.iter().map(|name| one(name)).collect()
    }
}

/// Plans for one tenant alone, out of an observation of that tenant and at all networks.
///
/// `desired` holds that tenant or nobody. The result is the tenant's part of [`plan`], except that it
/// knows nothing of networks that are about to be made for others.
pub fn plan_tenant(name: &str, desired: &Desired, host: &Host, observed: &Observed) -> TenantPlan {
    let found = index(observed);
    let subnets = subnets::allocate(desired, host, observed, &found);
    plan_one(name, desired, host, observed, found.get(name), subnets.get(name).copied())
}

fn plan_one(
    name: &str,
    desired: &Desired,
    host: &Host,
    observed: &Observed,
    found: Option<&Found<'_>>,
    subnet: Option<Ipv4Net>,
) -> TenantPlan {
    let nothing = Found::default();
    let found = found.unwrap_or(&nothing);
    let plan = match desired.tenants.get(name) {
        _ if desired.held.contains(name) => match desired.held_back.get(name) {
            Some(tenant) => tenant::contain(tenant, host, observed, found, subnet),
            None => TenantPlan { tenant: name.to_owned(), notes: vec![Note::Held], ..TenantPlan::default() },
        },
        Some(tenant) => tenant::converge(tenant, host, observed, found, subnet),
        None => tenant::remove(name, host, observed, found),
    };
    TenantPlan { lookalikes: found.lookalikes.clone(), ..plan }
}
