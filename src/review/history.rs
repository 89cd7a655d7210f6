//! What was in force after each commit, and what each one changed of it.

use std::{collections::BTreeSet, sync::Arc};

use serde::Serialize;

use super::{Review, review};
use crate::model::{Desired, Tenant, TenantName, finding::Location, tree::Moment};

/// A commit, and what it changed of what was in force.
#[derive(Clone, Debug, Serialize)]
pub struct Commit {
    /// Who made it, and when.
    #[serde(flatten)]
    pub moment: Moment,
    /// Its policy has errors: nothing of it came into force.
    pub broken: bool,
    /// What it changed.
    #[serde(flatten)]
    pub review: Review,
    /// Tenants that were only given another name: the new one and the former.
    pub renamed: Vec<(String, String)>,
}

/// What is in force at one point of a line of commits.
#[derive(Default)]
pub struct InForce {
    desired: Desired,
    /// The newest commit's policy has errors. What that held back comes with the next one that has none.
    is_broken: bool,
}

/// What a commit brought.
#[derive(Debug, Default)]
pub struct Brought {
    /// What it changed. Of a wrong file nothing: what was in force before it stays.
    pub review: Review,
    /// Whether the policy of all had errors, so that nothing of the commit came into force.
    pub is_broken: bool,
    /// Whether it is the first of a row of such commits.
    pub breaks: bool,
    /// Tenants that were only given another name: the new one and the former.
    pub renamed: Vec<(String, String)>,
}

impl InForce {
    /// What is declared there, without findings.
    pub const fn desired(&self) -> &Desired {
        &self.desired
    }

    /// The tenants that must be compiled anew after a change; `None` for all.
    pub fn concerned(&self, policy: bool, files: bool, tenants: &BTreeSet<String>) -> Option<BTreeSet<String>> {
        if policy || self.is_broken {
            return None;
        }
        let mut concerned = tenants.clone();
        if files {
            // What these are given changes with it. One that is held may be so for a file that was not there.
            let given = self.desired.tenants.values().filter(|tenant| !tenant.files.is_empty());
            concerned.extend(given.map(|tenant| tenant.name.to_string()).chain(self.desired.held.iter().cloned()));
        }
        Some(concerned)
    }

    /// Takes what a commit declares of some tenants, or of all.
    pub fn take(&mut self, concerned: Option<&BTreeSet<String>>, declared: Desired) -> Brought {
        let was_broken = std::mem::replace(&mut self.is_broken, !declared.policy_usable);
        if self.is_broken {
            return Brought { is_broken: true, breaks: !was_broken, ..Brought::default() };
        }
        let is_concerned = |name: &str| concerned.is_none_or(|names| names.contains(name));
        let before = self.part(&is_concerned);
        // A wrong file leaves its tenant as it was.
        let mut after = declared;
        for (name, tenant) in &before.tenants {
            if after.held.contains(name.as_str()) {
                after.tenants.insert(name.clone(), Arc::clone(tenant));
            }
        }
        let review = review(&before, &after, &|_, _, _| Location::default());
        let renamed = renamed(&before, &after);
        self.desired.tenants.retain(|name, _| !is_concerned(name.as_str()));
        self.desired.held.retain(|name| !is_concerned(name));
        self.desired.policy = after.policy;
        self.desired.tenants.extend(after.tenants);
        self.desired.held.extend(after.held);
        Brought { review, is_broken: false, breaks: false, renamed }
    }

    fn part(&self, is_wanted: &impl Fn(&str) -> bool) -> Desired {
        let tenants = self.desired.tenants.iter().filter(|(name, _)| is_wanted(name.as_str()));
        Desired {
            tenants: tenants.map(|(name, tenant)| (name.clone(), Arc::clone(tenant))).collect(),
            held: self.desired.held.iter().filter(|name| is_wanted(name)).cloned().collect(),
            policy: self.desired.policy,
            policy_usable: true,
            ..Desired::default()
        }
    }
}

/// Tenants that came as others went, the same but for the name.
fn renamed(before: &Desired, after: &Desired) -> Vec<(String, String)> {
    let only_in = |one: &Desired, other: &Desired| -> Vec<Arc<Tenant>> {
        let only = one.tenants.iter().filter(|(name, _)| !other.tenants.contains_key(*name));
        only.map(|(_, tenant)| Arc::clone(tenant)).collect()
    };
    let as_named = |tenant: &Tenant, name: &TenantName| Tenant { name: name.clone(), ..tenant.clone() };
    let gone = only_in(before, after);
    let new = only_in(after, before);
    let pairs = new.iter().filter_map(|new| {
        let old = gone.iter().find(|old| as_named(old, &new.name) == **new)?;
        Some((new.name.to_string(), old.name.to_string()))
    });
    pairs.collect()
}
