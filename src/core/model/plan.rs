//! What would be done, and why: complete data, so that carrying it out has no choice left.

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;
use schemars::JsonSchema;
use serde::Serialize;

use super::{
    Obstacle, Power,
    change::{Action, Change},
    observed::{Health, ObservedContainer},
    resource::Resource,
    step::{ChangeId, PlannedStep, Step},
};

/// Everything that one plan would do, tenant by tenant in the order of their names.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plan {
    /// One entry for each tenant that is declared, held or found.
    pub tenants: Vec<TenantPlan>,
}

/// What would be done for one tenant. No step of it touches another tenant's objects.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TenantPlan {
    /// The tenant's name, as declared or as found on a label.
    pub tenant: String,
    /// What differs, resource by resource.
    pub changes: Vec<Change>,
    /// Steps that only take away: they stop what weakens isolation, narrow and revoke. They run first, for all
    /// tenants, also for blocked ones and for those whose repair waits after failures.
    pub contain: Vec<PlannedStep>,
    /// Steps that make the tenant as declared, in order. Empty for a blocked tenant, but for one whose disk limit alone
    /// cannot be lowered.
    pub steps: Vec<PlannedStep>,
    /// Why nothing can be done, if so.
    pub blocked: Option<Blocked>,
    /// What a person should know beside.
    pub notes: Vec<Note>,
    /// Containers that merely look like the tenant's: they are left alone, but for its network.
    pub lookalikes: Vec<Lookalike>,
    /// What the health check of its image says of what runs.
    pub health: Health,
    /// Its container, where it was found running or frozen on its network.
    pub located: Option<Located>,
    /// What it is to do: for one that should be frozen and cannot be kept, to sleep.
    pub power: Power,
    /// The addresses of its network, which stays while it sleeps until they are reserved for it.
    pub reserve: Option<Ipv4Net>,
}

/// Where a tenant's container was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Located {
    /// Its full id.
    pub container: String,
    /// The address that it has in its network. As long as it has it, nobody else can.
    pub address: Ipv4Addr,
    /// Whether it ran, and nothing is to freeze it.
    pub runs: bool,
}

/// A container that has a tenant's labels from its image, as one that was run of a `docker commit` of the tenant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Lookalike {
    /// Its full id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// The tenant that its labels name.
    pub tenant: String,
}

impl Lookalike {
    /// What a container looks like, if it is such a one.
    pub fn of(container: &ObservedContainer) -> Option<Self> {
        let tenant = container.looks_like.clone()?;
        Some(Self { id: container.id.clone(), name: container.name.clone(), tenant })
    }

    /// What there is to know, in a line.
    pub fn remark(&self) -> String {
        format!(
            "the container {} ({}) has this tenant's labels from its image and is left alone, but for tenants' networks",
            self.name,
            super::shown::short_id(&self.id)
        )
    }
}

/// A remark on a tenant that changes nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Note {
    /// `limits.disk` is not enforced by the host, which accepts that.
    DiskUnenforced,
    /// The tenant may have more processors than the engine has: it is given all of them.
    CpusCapped,
    /// The tenant exposes ports, and the host has no ingress: nobody can reach them.
    NoIngress,
    /// Nothing of the tenant's file can be carried out: what runs is left as it is, and at most contained.
    Held,
    /// The tenant is frozen, as somebody asked.
    Paused,
    /// Nothing of the tenant runs, as somebody asked or because nobody knows better.
    Asleep,
}

/// Why a tenant cannot be made as declared.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Blocked {
    /// The rule.
    pub code: Obstacle,
    /// What is in the way.
    pub reason: String,
    /// What to do about it.
    pub help: String,
}

impl Plan {
    /// How many resources would be added, changed and destroyed; a replacement is one of each end.
    /// Of a blocked tenant nothing is, at most it is contained.
    pub fn totals(&self) -> Totals {
        let contained = self.tenants.iter().filter(|t| t.is_stopped() && !t.contain.is_empty());
        let mut totals = Totals { contain: contained.count(), ..Totals::default() };
        for change in self.tenants.iter().filter(|t| !t.is_stopped()).flat_map(|t| &t.changes) {
            match change.action {
                Action::Create => totals.add += 1,
                Action::Update => totals.change += 1,
                Action::Delete if change.resource == Resource::Workspace => totals.archive += 1,
                Action::Delete => totals.destroy += 1,
                Action::Replace => {
                    totals.add += 1;
                    totals.destroy += 1;
                }
            }
        }
        totals
    }

    /// Whether carrying it out would change anything.
    pub fn is_empty(&self) -> bool {
        self.tenants.iter().all(|t| !t.will_change())
    }

    /// The tenants that cannot be made as declared.
    pub fn blocked(&self) -> impl Iterator<Item = (&str, &Blocked)> {
        self.tenants.iter().filter_map(|t| t.blocked.as_ref().map(|blocked| (t.tenant.as_str(), blocked)))
    }
}

impl TenantPlan {
    /// Adds what differs, for the steps that are part of it.
    pub fn add_change(&mut self, change: Change) -> ChangeId {
        self.changes.push(change);
        ChangeId(self.changes.len() - 1)
    }

    /// A step with what it is for.
    pub fn planned(&self, part_of: impl Into<Option<ChangeId>>, step: Step) -> PlannedStep {
        match part_of.into().and_then(|id| self.changes.get(id.0).map(|change| (id, change))) {
            Some((id, change)) => PlannedStep::of(id, change, step),
            None => PlannedStep::alone(step),
        }
    }

    /// Adds a step that only takes away.
    pub fn push_containment(&mut self, part_of: impl Into<Option<ChangeId>>, step: Step) {
        let step = self.planned(part_of, step);
        self.contain.push(step);
    }

    /// Adds a step after all others.
    pub fn push_step(&mut self, part_of: impl Into<Option<ChangeId>>, step: Step) {
        let step = self.planned(part_of, step);
        self.steps.push(step);
    }

    /// All changes, with what steps call them.
    pub fn changes(&self) -> impl Iterator<Item = (ChangeId, &Change)> {
        self.changes.iter().enumerate().map(|(at, change)| (ChangeId(at), change))
    }

    /// All that is done, in its order.
    pub fn all_steps(&self) -> impl Iterator<Item = &Step> {
        self.contain.iter().chain(&self.steps).map(|planned| &planned.step)
    }

    /// Whether carrying it out puts another container into the place of the one that was found.
    pub fn replaces_container(&self) -> bool {
        self.all_steps().any(|step| matches!(step, Step::CreateContainer { .. }))
    }

    /// Whether nothing of it is made as declared, because something is in the way. At most it is contained.
    pub fn is_stopped(&self) -> bool {
        (self.blocked.is_some() || self.notes.contains(&Note::Held)) && self.steps.is_empty()
    }

    /// Whether carrying it out would change anything.
    pub fn will_change(&self) -> bool {
        !(self.steps.is_empty() && self.contain.is_empty())
    }
}

/// The counts of a plan's last line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Totals {
    /// Made.
    pub add: usize,
    /// Changed in place.
    pub change: usize,
    /// Removed.
    pub destroy: usize,
    /// Workspaces that are archived, with everything in them.
    pub archive: usize,
    /// Tenants that are blocked or held, and of which something is stopped that weakens isolation.
    pub contain: usize,
}
