//! What the commits of a history changed, as it was found before.

use std::{collections::BTreeSet, ops::Range, thread};

use serde::{Deserialize, Serialize};

use crate::{
    model::tree::Moment,
    review::{
        TenantChange,
        history::{Against, Brought, InForce},
    },
    source::{CommitCache, Findings, History, SourceError, Trace},
};

/// What one commit changed; others changed nothing.
#[derive(Deserialize, Serialize)]
pub struct CommitOutcome {
    /// What it brought.
    pub brought: Option<Brought>,
    /// What it took back of parents other than its first.
    pub against: Vec<Against>,
    /// Who made it, without a signature.
    pub moment: Moment,
    /// Whether it has a signature, for the keys that count now.
    pub is_signed: bool,
}

/// What is kept of every commit, so that what was in force after it can be found.
#[derive(Default, Deserialize, Serialize)]
#[serde(default)]
pub struct After {
    /// It has no folder of the name that holds fleet.yaml.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub is_missing: bool,
    /// Nothing of it came into force.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub is_broken: bool,
    /// The tenants whose files are wrong.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub held: BTreeSet<String>,
    /// The tenants that it added, removed or holds.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub became: Vec<(String, TenantChange)>,
}

/// Why something cannot be collected from what is kept.
pub enum NotCollected {
    /// What is kept is not enough, or does not agree with the files.
    Unknown,
    /// The repository is damaged.
    Damaged(SourceError),
}

impl From<SourceError> for NotCollected {
    fn from(error: SourceError) -> Self {
        Self::Damaged(error)
    }
}

/// What is kept of the outcomes of a history.
pub struct Outcomes<'h> {
    /// The history.
    pub history: &'h History,
    traces: Vec<Trace>,
    cache: Option<CommitCache>,
}

impl<'h> Outcomes<'h> {
    /// What is kept.
    pub fn of(history: &'h History) -> Self {
        Self { history, traces: history.traces(), cache: history.kept("outcomes") }
    }

    /// Forgets what is kept.
    pub fn clear(&mut self) {
        if let Some(cache) = &mut self.cache {
            cache.clear();
        }
    }

    /// The places of the commits of which nothing is kept.
    pub fn unknown(&self) -> Vec<usize> {
        (0..self.traces.len()).filter(|place| self.bytes(*place).is_none()).collect()
    }

    fn bytes(&self, place: usize) -> Option<&[u8]> {
        self.cache.as_ref()?.get(*self.traces.get(place)?)
    }

    /// What is kept of a commit beside its outcome.
    pub fn after(&self, place: usize) -> Option<After> {
        After::deserialize(&mut serde_json::Deserializer::from_slice(self.bytes(place)?)).ok()
    }

    /// What is kept of the commits at some places that changed anything, each with its place.
    ///
    /// # Errors
    /// Something else than outcomes is kept.
    pub fn known(&self, places: Range<usize>) -> Result<Vec<(usize, CommitOutcome)>, NotCollected> {
        let kept: Vec<(usize, &[u8])> = places.filter_map(|place| Some((place, self.bytes(place)?))).collect();
        let (first, second) = kept.split_at(kept.len() / 2);
        let both = thread::scope(|scope| {
            let first = scope.spawn(|| outcomes(first));
            (outcomes(second), first.join())
        });
        match both {
            (Ok(second), Ok(Ok(mut all))) => {
                all.extend(second);
                Ok(all)
            }
            _ => Err(NotCollected::Unknown),
        }
    }

    /// Whether any commit is kept that has a folder of the name that holds fleet.yaml.
    pub fn has_folder(&self) -> bool {
        (0..self.traces.len()).any(|place| self.after(place).is_some_and(|after| !after.is_missing))
    }

    /// Adds the outcome of a commit, and what is in force after it, to what is to be kept.
    pub fn add(
        &self,
        to: &mut Findings,
        place: usize,
        is_missing: bool,
        in_force: &InForce,
        outcome: Option<&CommitOutcome>,
    ) {
        let Some(of) = self.traces.get(place).filter(|_| self.cache.is_some()) else { return };
        let brought = outcome.and_then(|outcome| outcome.brought.as_ref());
        let tenants = brought.into_iter().flat_map(|brought| &brought.review.tenants);
        let after = After {
            is_missing,
            is_broken: in_force.is_broken(),
            held: in_force.desired().held.clone(),
            became: tenants
                .filter(|one| one.change != TenantChange::Changed)
                .map(|one| (one.tenant.clone(), one.change))
                .collect(),
        };
        let mut bytes = Vec::new();
        let after = serde_json::to_writer(&mut bytes, &after);
        if after.and_then(|()| serde_json::to_writer(&mut bytes, &outcome)).is_ok() {
            to.add(*of, &bytes);
        }
    }

    /// Keeps what was found as well. Where that cannot be written it is found anew.
    pub fn keep(self, found: &Findings) {
        if let Some(cache) = self.cache {
            cache.keep(found);
        }
    }
}

fn outcomes(kept: &[(usize, &[u8])]) -> Result<Vec<(usize, CommitOutcome)>, serde_json::Error> {
    let outcome = |(place, bytes): &(usize, &[u8])| {
        let mut values = serde_json::Deserializer::from_slice(bytes);
        let outcome = After::deserialize(&mut values).and_then(|_| Option::<CommitOutcome>::deserialize(&mut values));
        outcome.transpose().map(|outcome| outcome.map(|outcome| (*place, outcome)))
    };
    kept.iter().filter_map(outcome).collect()
}
