//! What was in force after a commit whose outcome is kept.
//!
//! Declarations are not kept. The files at the commit have them, and those at an earlier one for a tenant whose file was
//! wrong by then. What the files say must be held in the same way as what was found; else nothing is said.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use super::outcomes::{After, NotCollected, Outcomes};
use crate::{
    model::{Desired, Tenant, TenantName},
    review::{TenantChange, history::InForce},
    source::History,
    spec,
};

/// The commits that led to one by first parents, newest first, each with its place and what is kept of it.
struct Line<'h> {
    history: &'h History,
    commits: Vec<(usize, After)>,
}

/// What was in force after the commit at a place.
///
/// # Errors
/// It cannot be found from what is kept.
pub fn in_force(outcomes: &Outcomes<'_>, place: usize) -> Result<InForce, NotCollected> {
    let line = Line::to(outcomes, place)?;
    let is_broken = line.commits.first().is_some_and(|(_, after)| after.is_broken);
    let Some((at, place, after)) = line.usable(0) else {
        return Ok(InForce::restored(Desired::default(), BTreeMap::new(), is_broken));
    };
    let tree = line.history.read_at(place, None)?.ok_or(NotCollected::Unknown)?;
    let mut desired = spec::compile(&tree);
    if !desired.policy_usable || desired.held != after.held {
        return Err(NotCollected::Unknown);
    }
    for name in &after.held {
        if let Some(tenant) = line.tenant(at, name)? {
            desired.tenants.insert(tenant.name.clone(), tenant);
        }
    }
    let mut became: BTreeMap<&str, Option<usize>> = BTreeMap::new();
    let before = line.commits.iter().skip(1).map(|(place, _)| Some(*place)).chain([None]);
    for ((_, after), before) in line.commits.iter().zip(before) {
        for (name, change) in &after.became {
            match change {
                TenantChange::Added => drop(became.entry(name).or_insert(None)),
                TenantChange::Removed => drop(became.entry(name).or_insert(before)),
                TenantChange::Changed | TenantChange::Held => {}
            }
        }
    }
    let gone = became.into_iter().filter_map(|(name, before)| Some((name.parse::<TenantName>().ok()?, before?)));
    let gone = gone.collect();
    Ok(InForce::restored(desired, gone, is_broken))
}

/// A tenant as it was in force after the commit at a place.
///
/// # Errors
/// It cannot be found from what is kept.
pub fn tenant(outcomes: &Outcomes<'_>, place: usize, name: &str) -> Result<Option<Arc<Tenant>>, NotCollected> {
    Line::to(outcomes, place)?.tenant(0, name)
}

impl<'h> Line<'h> {
    fn to(outcomes: &Outcomes<'h>, place: usize) -> Result<Self, NotCollected> {
        let commits = outcomes.history.line(place).map(|place| Some((place, outcomes.after(place)?)));
        let commits = commits.collect::<Option<_>>().ok_or(NotCollected::Unknown)?;
        Ok(Self { history: outcomes.history, commits })
    }

    /// The newest commit, from one on, that came into force.
    fn usable(&self, from: usize) -> Option<(usize, usize, &After)> {
        let mut commits = self.commits.iter().enumerate().skip(from);
        commits.find(|(_, (_, after))| !after.is_broken).map(|(at, (place, after))| (at, *place, after))
    }

    fn tenant(&self, from: usize, name: &str) -> Result<Option<Arc<Tenant>>, NotCollected> {
        let Some((mut at, mut place, after)) = self.usable(from) else { return Ok(None) };
        if after.held.contains(name) {
            // It stays as it was before its file became wrong.
            let is_since = |(_, after): &(usize, After)| {
                after.became.iter().any(|(of, change)| of == name && *change == TenantChange::Held)
            };
            at +=
                self.commits.get(at..).and_then(|line| line.iter().position(is_since)).ok_or(NotCollected::Unknown)?;
            match self.usable(at + 1) {
                Some((_, before, _)) => place = before,
                None => return Ok(None),
            }
        }
        let tree =
            self.history.read_at(place, Some(&BTreeSet::from([name.to_owned()])))?.ok_or(NotCollected::Unknown)?;
        let desired = spec::compile(&tree);
        if !desired.policy_usable || desired.held.contains(name) {
            return Err(NotCollected::Unknown);
        }
        Ok(desired.tenants.get(name).cloned())
    }
}
