//! What is reported of each step: that it begins, then what became of it.

use std::time::Duration;

use crate::{
    journal::{Journal, JournalError},
    model::{
        Entry, PlannedStep, Step,
        record::{OutcomeRecord, StepRecord, StepResult, Trigger, Why},
    },
};

/// Why a tenant is worked on: goes into each record and decides nothing.
#[derive(Clone, Debug)]
pub struct Context {
    /// What led to the observation.
    pub trigger: Trigger,
    /// Why something is made or removed that has no attribute to say so.
    pub why: Why,
    /// Why limits are changed in place, where that is known: the engine's labels cannot follow such a
    /// change, and to distinguish it from a commit only once.
    pub live: Option<Why>,
    /// The commit that declares the tenant, or another word for what was read.
    pub revision: Option<String>,
    /// Who signed it.
    pub signer: Option<String>,
    /// The plan that the steps are part of.
    pub plan: String,
}

/// Writes steps to the journal.
///
/// Without a record nothing is changed, except that what weakens isolation is contained: the journal
/// counts what it could not write, and reports the gap as soon as it can be written again.
#[derive(Debug)]
pub struct Recorder {
    journal: Journal,
}

/// An intent on record. `None` for a containment that could not be recorded.
pub(super) type Ticket = Option<u64>;

impl Recorder {
    /// Writes to a journal.
    pub fn new(journal: Journal) -> Self {
        Self { journal }
    }

    /// Reports that a step begins. Without a record nothing is changed, but for a containment.
    pub(super) async fn begun(&self, step: &StepBegun<'_>, contains: bool) -> Result<Ticket, JournalError> {
        step.log();
        match self.journal.append(step.record()).await {
            Ok(seq) => Ok(Some(seq)),
            Err(_) if contains => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// Reports what became of a step.
    pub(super) async fn ended(&self, step: &StepEnded<'_>) {
        step.log();
        if let Some(record) = step.record() {
            // An intent without an outcome says that it is unknown; the gap that is reported later says why.
            let _ = self.journal.append(record).await;
        }
    }
}

/// A step begins: its line of the log and its record. What became of the tenant is counted and notified once, by the daemon.
pub(super) struct StepBegun<'a> {
    pub(super) tenant: &'a str,
    pub(super) planned: &'a PlannedStep,
    pub(super) context: &'a Context,
    /// The container that an earlier step made.
    pub(super) made: Option<&'a str>,
}

impl StepBegun<'_> {
    fn log(&self) {
        let Self { tenant, planned: PlannedStep { step, .. }, .. } = self;
        tracing::debug!(tenant, object = &*step.object(self.made), "{}", step.def().words);
    }

    fn record(&self) -> Entry {
        let Self { tenant, planned: PlannedStep { step, facts }, context, made } = self;
        let def = step.def();
        Entry::Intent(StepRecord {
            tenant: (*tenant).to_owned(),
            resource: def.resource.as_str().to_owned(),
            step: def.words.to_owned(),
            object: step.object(*made).into_owned(),
            fields: facts.fields.clone(),
            why: context.live.filter(|_| step.changes_limits()).or(facts.why).unwrap_or(context.why),
            trigger: context.trigger.clone(),
            revision: context.revision.clone(),
            signer: context.signer.clone(),
            plan: context.plan.clone(),
        })
    }
}

/// A step ended, the same way.
pub(super) struct StepEnded<'a> {
    pub(super) tenant: &'a str,
    pub(super) step: &'a Step,
    pub(super) ticket: Ticket,
    /// Why it failed, if it did.
    pub(super) error: Option<String>,
    pub(super) took: Duration,
}

impl StepEnded<'_> {
    fn took_ms(&self) -> u64 {
        u64::try_from(self.took.as_millis()).unwrap_or(u64::MAX)
    }

    fn log(&self) {
        let (tenant, took_ms, words) = (self.tenant, self.took_ms(), self.step.def().words);
        match &self.error {
            None => tracing::debug!(tenant, took_ms, "{words}: done"),
            Some(error) => tracing::debug!(tenant, took_ms, error, "{words}: failed"),
        }
    }

    /// `None` where it had no record when it began.
    fn record(&self) -> Option<Entry> {
        Some(Entry::Outcome(OutcomeRecord {
            intent: self.ticket?,
            tenant: self.tenant.to_owned(),
            result: if self.error.is_some() { StepResult::Failed } else { StepResult::Done },
            error: self.error.clone(),
            took_ms: self.took_ms(),
        }))
    }
}
