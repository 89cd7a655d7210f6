//! What was in force after each commit, and what each one changed of it.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Effect, Review, TenantChange, TenantReview, render::came_or_went, review};
use crate::model::{Desired, Tenant, TenantName, finding::Location, tree::Moment};

/// A commit, and what it changed of what was in force.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Commit {
    /// Who made it, and when.
    #[serde(flatten)]
    pub moment: Moment,
    /// Its policy has errors, or its folder is not there: nothing of it came into force.
    pub broken: bool,
    /// It has no folder of the name that holds fleet.yaml.
    pub missing: bool,
    /// It came in by a merge: it was in force only if the branch stood there.
    pub side: bool,
    /// What it changed of its first parent.
    #[serde(flatten)]
    pub review: Review,
    /// Tenants that were only given another name: the new one and the former.
    pub renamed: Vec<(String, String)>,
    /// Tenants that were there before, were gone, and are judged by what they last were.
    pub returned: Vec<String>,
    /// What it changed of its other parents, or of where the branch stood before, beyond what it should have.
    pub against: Vec<Against>,
}

/// What a commit changed of one that it did not, by itself, have to change anything of.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
pub struct Against {
    /// That one, which may have been in force as well.
    pub commit: String,
    /// What was changed of it.
    #[serde(flatten)]
    pub review: Review,
}

impl Commit {
    /// A commit, with what it brought.
    pub fn new(moment: Moment, side: bool, brought: Brought, against: Vec<Against>) -> Self {
        let Brought { review, is_broken, is_missing, breaks: _, renamed, returned } = brought;
        Self { moment, broken: is_broken, missing: is_missing, side, review, renamed, returned, against }
    }

    /// Why nothing of it came into force, in words.
    pub const fn unusable(&self) -> Option<&'static str> {
        match (self.missing, self.broken) {
            (true, _) => Some("it has no folder with fleet.yaml: what was in force before stayed"),
            (false, true) => Some("its policy has errors: what was in force before stayed"),
            (false, false) => None,
        }
    }

    /// Whether a tenant came, went or came back, in words.
    pub fn became(&self, tenant: &TenantReview) -> Option<String> {
        match self.returned.contains(&tenant.tenant) {
            true => Some("is back, and judged by what it last was".to_owned()),
            false => came_or_went(tenant, &self.renamed),
        }
    }
}

/// What is in force at one point of a history.
#[derive(Clone, Default)]
pub struct InForce {
    desired: Desired,
    /// What tenants last were that are gone.
    gone: BTreeMap<TenantName, Last>,
    /// The newest commit's policy has errors. What that held back comes with the next one that has none.
    is_broken: bool,
}

/// What a tenant last was.
#[derive(Clone)]
enum Last {
    Known(Arc<Tenant>),
    /// What was in force of it after the commit at a place.
    At(usize),
}

/// What a commit brought.
#[derive(Debug, Default, Deserialize, Serialize)]
pub struct Brought {
    /// What it changed. Of a wrong file nothing: what was in force before it stays.
    pub review: Review,
    /// Whether the policy of all had errors, or was not there, so that nothing of the commit came into force.
    pub is_broken: bool,
    /// Whether there is no folder that could hold it.
    pub is_missing: bool,
    /// Whether it is the first of a row of such commits.
    pub breaks: bool,
    /// Tenants that were only given another name: the new one and the former.
    pub renamed: Vec<(String, String)>,
    /// Tenants that are back.
    pub returned: Vec<String>,
}

impl InForce {
    /// What is declared, and the tenants that are gone, each with the place of the last commit after which it was there.
    pub fn restored(desired: Desired, gone: BTreeMap<TenantName, usize>, is_broken: bool) -> Self {
        let Desired { tenants, held, policy, .. } = desired;
        let desired = Desired { tenants, held, policy, ..Desired::default() };
        let gone = gone.into_iter().map(|(name, place)| (name, Last::At(place))).collect();
        Self { desired, gone, is_broken }
    }

    /// Whether the newest commit did not come into force.
    pub const fn is_broken(&self) -> bool {
        self.is_broken
    }

    /// The tenants that come back with what a commit declares and of which it is only known where they last were.
    pub fn returning(&self, declared: &Desired) -> Vec<(TenantName, usize)> {
        let gone = declared.tenants.keys().filter_map(|name| self.gone.get_key_value(name));
        let places = gone.filter_map(|(name, last)| match last {
            Last::At(place) => Some((name.clone(), *place)),
            Last::Known(_) => None,
        });
        places.collect()
    }

    /// Says what a tenant last was.
    pub fn recall(&mut self, name: TenantName, last: Option<Arc<Tenant>>) {
        match last {
            Some(last) => self.gone.insert(name, Last::Known(last)),
            None => self.gone.remove(&name),
        };
    }

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
        let before = self.part(concerned);
        // A wrong file leaves its tenant as it was.
        let mut after = declared;
        for (name, tenant) in &before.tenants {
            if after.held.contains(name.as_str()) {
                after.tenants.insert(name.clone(), Arc::clone(tenant));
            }
        }
        let mut review = compare(&before, &after);
        let returned = self.returned(&mut review, &after);
        let renamed = renamed(&before, &after);
        let left = before.tenants.iter().filter(|(name, _)| !after.tenants.contains_key(*name));
        self.gone.extend(left.map(|(name, tenant)| (name.clone(), Last::Known(Arc::clone(tenant)))));
        if !self.gone.is_empty() {
            for name in after.tenants.keys() {
                self.gone.remove(name);
            }
        }
        match concerned {
            None => {
                self.desired.tenants.clear();
                self.desired.held.clear();
            }
            Some(names) => names.iter().for_each(|name| {
                self.desired.tenants.remove(name.as_str());
                self.desired.held.remove(name);
            }),
        }
        self.desired.policy = after.policy;
        self.desired.tenants.extend(after.tenants);
        self.desired.held.extend(after.held);
        Brought { review, renamed, returned, ..Brought::default() }
    }

    /// Takes in that a commit has nothing to declare anything in.
    pub fn miss(&mut self) -> Brought {
        let was_broken = std::mem::replace(&mut self.is_broken, true);
        Brought { is_broken: true, is_missing: true, breaks: !was_broken, ..Brought::default() }
    }

    /// Judges tenants that are back by what they last were, beside what their files open.
    fn returned(&self, review: &mut Review, after: &Desired) -> Vec<String> {
        let mut names = Vec::new();
        for one in review.tenants.iter_mut().filter(|one| one.change == TenantChange::Added) {
            let last = self.gone.get_key_value(one.tenant.as_str());
            let now = after.tenants.get(one.tenant.as_str());
            let (Some((name, Last::Known(last))), Some(now)) = (last, now) else { continue };
            let alone = |tenant: &Arc<Tenant>| Desired {
                tenants: BTreeMap::from([(name.clone(), Arc::clone(tenant))]),
                policy: after.policy,
                ..Desired::default()
            };
            let since = compare(&alone(last), &alone(now)).tenants.into_iter().flat_map(|one| one.effects);
            let new: Vec<Effect> = since.filter(|effect| !one.effects.iter().any(|own| is_same(own, effect))).collect();
            one.effects.extend(new);
            one.effects.sort_by(|a, b| (a.mark, &a.field).cmp(&(b.mark, &b.field)));
            names.push(one.tenant.clone());
        }
        names
    }

    /// What a merge changed of one of its parents beyond what a clean merge would have: that has what any side changed
    /// since they parted. `others` are its other parents, each with what was declared where it parted from this one.
    ///
    /// A change that another side made is shown at the commit which made it. One that this side made and the merge does not
    /// have was taken back, whatever the merge's first parent says.
    pub fn taken_back(&self, parent: &Self, others: &[(&Self, Desired)]) -> Review {
        let mut all = compare(&parent.desired, &self.desired);
        if all.is_empty() {
            return all;
        }
        let names: BTreeSet<String> = all.tenants.iter().map(|one| one.tenant.clone()).collect();
        let made: Vec<Review> = others.iter().map(|(other, base)| compare(base, &other.part(Some(&names)))).collect();
        let is_made = |tenant: Option<&TenantReview>, effect: &Effect| {
            let mut effects = made.iter().flat_map(Review::effects);
            effects.any(|(of, one)| of.map(|of| &of.tenant) == tenant.map(|it| &it.tenant) && is_same(one, effect))
        };
        let is_same_change = |one: &TenantReview| {
            let mut changes = made.iter().flat_map(|review| &review.tenants);
            changes.any(|other| other.tenant == one.tenant && other.change == one.change)
        };
        all.fleet.retain(|effect| !is_made(None, effect));
        for one in &mut all.tenants {
            let own = one.clone();
            one.effects.retain(|effect| !is_made(Some(&own), effect));
        }
        all.tenants.retain(|one| match one.change {
            // A wrong file leaves what was there.
            TenantChange::Held => false,
            TenantChange::Changed => !one.effects.is_empty(),
            TenantChange::Added | TenantChange::Removed => !one.effects.is_empty() || !is_same_change(one),
        });
        all
    }

    /// What is declared of some tenants, or of all.
    fn part(&self, of: Option<&BTreeSet<String>>) -> Desired {
        let Desired { tenants, held, policy, .. } = &self.desired;
        let (tenants, held) = match of {
            None => (tenants.clone(), held.clone()),
            Some(names) => {
                let found = names.iter().filter_map(|name| tenants.get_key_value(name.as_str()));
                let tenants = found.map(|(name, tenant)| (name.clone(), Arc::clone(tenant))).collect();
                (tenants, names.intersection(held).cloned().collect())
            }
        };
        Desired { tenants, held, policy: *policy, policy_usable: true, ..Desired::default() }
    }
}

fn compare(before: &Desired, after: &Desired) -> Review {
    review(before, after, &|_, _, _| Location::default())
}

/// Whether two effects change the same in the same way.
fn is_same(one: &Effect, other: &Effect) -> bool {
    (&one.field, &one.before, &one.after) == (&other.field, &other.before, &other.after)
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
