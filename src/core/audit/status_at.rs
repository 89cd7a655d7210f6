//! A tenant's status on a host at a point in time, by the journal: what was in force, and what had drifted.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::Serialize;

use super::words;
use crate::model::{
    Entry, Record, Revision,
    record::{
        DriftRecord, FieldChange, OutcomeRecord, RevisionRecord, StepRecord, StepResult, Verdict, Why, only_shown,
    },
};

/// How many steps may wait for their outcome.
const PENDING: usize = 1_000;

/// How many attributes of one drift are kept.
const FIELDS: usize = 20;

/// How many kinds of resources are followed.
const RESOURCES: usize = 100;

/// The status of one tenant at a point in time.
#[derive(Clone, Debug, Serialize)]
pub struct StatusAt {
    #[serde(skip)]
    tenant: String,
    #[serde(skip)]
    at: Timestamp,
    /// How many records were read up to then.
    pub records: u64,
    /// When the first of them was written.
    pub begins: Option<Timestamp>,
    /// The commit that the daemon had brought into force.
    pub in_force: Option<InForce>,
    /// The commit that was bad for the tenant, if one was: it went back to an older one.
    pub bad: Option<Bad>,
    /// The commit that it waited for an approval of, if it did.
    pub waits: Option<Waits>,
    /// Whether and why it was left alone.
    pub suspended: Option<Suspended>,
    /// The last drift before that time.
    pub last_drift: Option<Drift>,
    /// The drift that was not put right by then, by resource.
    pub open_drift: BTreeMap<String, Drift>,
    #[serde(skip)]
    pending: BTreeMap<u64, (String, Drift)>,
}

/// A commit that was in force.
#[derive(Clone, Debug, Serialize)]
pub struct InForce {
    /// The commit.
    pub revision: Revision,
    /// Since when.
    pub since: Timestamp,
    /// Who approved it, if it was held before.
    pub by: Option<String>,
}

/// A commit that was bad for the tenant.
#[derive(Clone, Debug, Serialize)]
pub struct Bad {
    /// The commit.
    pub revision: Revision,
    /// The one that the tenant went back to; `None` where it was left as it was.
    pub back_to: Option<Revision>,
    /// Those that narrow it: of each setting the strictest is in force.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub narrowed_by: Vec<Revision>,
    /// Since when.
    pub since: Timestamp,
    /// What went wrong.
    pub reason: String,
}

/// A commit that loosens the tenant, and that nobody had approved.
#[derive(Clone, Debug, Serialize)]
pub struct Waits {
    /// The commit.
    pub revision: Revision,
    /// The one that the tenant stayed at; `None` where it was not made.
    pub at: Option<Revision>,
    /// Those that narrow it: of each setting the strictest is in force.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub narrowed_by: Vec<Revision>,
    /// Since when.
    pub since: Timestamp,
    /// What loosens.
    pub loosens: Vec<String>,
}

/// Why a tenant was left alone.
#[derive(Clone, Debug, Serialize)]
pub struct Suspended {
    /// Since when.
    pub since: Timestamp,
    /// Until when it was meant to last.
    pub until: Timestamp,
    /// Why.
    pub reason: String,
    /// Who said so.
    pub by: String,
}

/// What had drifted.
#[derive(Clone, Debug, Serialize)]
pub struct Drift {
    /// When it was seen.
    pub time: Timestamp,
    /// The resource.
    pub resource: String,
    /// What differed.
    pub fields: Vec<FieldChange>,
    /// What became of it: `done`, `failed`, `unknown`, `open` where no outcome was on record, `left` where it was left as
    /// it was.
    pub became: &'static str,
}

impl Drift {
    fn new(time: Timestamp, resource: &str, fields: &[FieldChange], became: &'static str) -> Self {
        let fields = fields.iter().take(FIELDS).cloned().collect();
        Self { time, resource: resource.to_owned(), fields, became }
    }

    /// What differed, in words.
    pub fn words(&self) -> String {
        words::fields(&self.fields)
    }
}

impl StatusAt {
    /// That of a tenant at a time; no record is known yet.
    pub const fn new(tenant: String, at: Timestamp) -> Self {
        Self {
            tenant,
            at,
            records: 0,
            begins: None,
            in_force: None,
            bad: None,
            waits: None,
            suspended: None,
            last_drift: None,
            open_drift: BTreeMap::new(),
            pending: BTreeMap::new(),
        }
    }

    /// Takes a record in. They come in the order of the journal; those that are newer count for nothing.
    pub fn record(&mut self, record: &Record) {
        let Record { seq, time, entry, .. } = record;
        if *time > self.at {
            return;
        }
        self.records += 1;
        self.begins.get_or_insert(*time);
        if entry.tenant().is_some_and(|tenant| tenant != self.tenant) {
            return;
        }
        match entry {
            Entry::Revision(record) => self.verdict(*time, record),
            Entry::Bad { revision, back_to, narrowed_by, reason, .. } => {
                let (revision, back_to, narrowed_by) = (revision.clone(), back_to.clone(), narrowed_by.clone());
                self.bad = Some(Bad { revision, back_to, narrowed_by, since: *time, reason: reason.clone() });
            }
            Entry::Waiting { revision, at, narrowed_by, loosens, .. } => {
                let (revision, at, narrowed_by) = (revision.clone(), at.clone(), narrowed_by.clone());
                self.waits = Some(Waits { revision, at, narrowed_by, since: *time, loosens: loosens.clone() });
            }
            Entry::Approved { .. } | Entry::Withdrawn { .. } => self.waits = None,
            Entry::Suspended { reason, until, by, .. } => {
                let (reason, by) = (reason.clone(), by.clone());
                self.suspended = Some(Suspended { since: *time, until: *until, reason, by });
            }
            Entry::Resumed { .. } => self.suspended = None,
            Entry::Drift(DriftRecord { resource, fields, .. }) => {
                self.drifted(resource, Drift::new(*time, resource, fields, "left"));
            }
            Entry::Intent(step) => self.step(*seq, *time, step),
            Entry::Outcome(outcome) => self.outcome(outcome),
            Entry::Segment(_)
            | Entry::Recovered(_)
            | Entry::Lost { .. }
            | Entry::Started { .. }
            | Entry::Stopped { .. }
            | Entry::Refused(_)
            | only_shown!() => {}
        }
    }

    fn step(&mut self, seq: u64, time: Timestamp, step: &StepRecord) {
        let StepRecord { resource, fields, why, revision, .. } = step;
        // Steps of a tenant that stands at an older commit name that one.
        let in_force = self.in_force.as_ref().map(|in_force| (in_force.since, in_force.revision.to_string()));
        let is_over = |bad: &Bad| in_force.is_some_and(|(since, now)| since > bad.since && *revision == Some(now));
        if self.bad.as_ref().is_some_and(is_over) {
            self.bad = None;
        }
        if *why == Why::Drift {
            let drift = Drift::new(time, resource, fields, "open");
            self.pending.insert(seq, (resource.clone(), drift.clone()));
            if self.pending.len() > PENDING {
                self.pending.pop_first();
            }
            self.drifted(resource, drift);
        }
    }

    /// All was read.
    #[must_use]
    pub fn end(mut self) -> Self {
        // A time that passed ended it, though nobody was there to write that down.
        self.suspended = self.suspended.filter(|suspended| suspended.until > self.at);
        self
    }

    fn verdict(&mut self, time: Timestamp, record: &RevisionRecord) {
        if matches!(record.verdict, Verdict::Accepted | Verdict::Approved) {
            let (revision, by) = (record.revision.clone(), record.by.clone());
            self.in_force = Some(InForce { revision, since: time, by });
        }
    }

    fn drifted(&mut self, resource: &str, drift: Drift) {
        if self.open_drift.len() < RESOURCES || self.open_drift.contains_key(resource) {
            self.open_drift.insert(resource.to_owned(), drift.clone());
        }
        self.last_drift = Some(drift);
    }

    fn outcome(&mut self, outcome: &OutcomeRecord) {
        let Some((resource, mut drift)) = self.pending.remove(&outcome.intent) else { return };
        drift.became = match outcome.result {
            StepResult::Done => "done",
            StepResult::Failed => "failed",
            StepResult::Unknown => "unknown",
        };
        // Of several steps the newest speaks.
        let is_newest = |known: &Drift| known.time <= drift.time && known.resource == drift.resource;
        if self.last_drift.as_ref().is_some_and(is_newest) {
            self.last_drift = Some(drift.clone());
        }
        if self.open_drift.get(&resource).is_some_and(is_newest) {
            match outcome.result {
                StepResult::Done => drop(self.open_drift.remove(&resource)),
                StepResult::Failed | StepResult::Unknown => drop(self.open_drift.insert(resource, drift)),
            }
        }
    }
}
