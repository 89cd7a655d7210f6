//! What the journal is told of each step: first the intent, then what became of it.

use std::time::Duration;

use crate::{
    journal::{Journal, JournalError},
    model::{
        Entry, PlannedStep,
        record::{OutcomeRecord, StepRecord, StepResult, Trigger, Why},
    },
};

/// Why a tenant is worked on: goes into each record and decides nothing.
#[derive(Clone, Debug)]
pub struct Context {
    /// What led to looking.
    pub trigger: Trigger,
    /// Why something is made or removed that has no attribute to tell by.
    pub why: Why,
    /// Why limits are changed in place, where that is known: the engine's labels cannot follow such a
    /// change, and tell it from a commit only once.
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
/// counts what it could not write, and tells of the gap as soon as it can be written again.
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

    pub(super) async fn intent(
        &self,
        tenant: &str,
        step: &PlannedStep,
        context: &Context,
        made: Option<&str>,
        contains: bool,
    ) -> Result<Ticket, JournalError> {
        match self.journal.append(Entry::Intent(step_record(tenant, step, context, made))).await {
            Ok(seq) => Ok(Some(seq)),
            Err(_) if contains => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// Writes what became of a step: `error` is why it failed, if it did.
    pub(super) async fn outcome(&self, tenant: &str, ticket: Ticket, error: Option<String>, took: Duration) {
        let Some(intent) = ticket else { return };
        let outcome = OutcomeRecord {
            intent,
            tenant: tenant.to_owned(),
            result: if error.is_some() { StepResult::Failed } else { StepResult::Done },
            error,
            took_ms: u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
        };
        // An intent without an outcome says that it is unknown; the gap that is told later says why.
        let _ = self.journal.append(Entry::Outcome(outcome)).await;
    }
}

/// The record of a step. `made` is the container that an earlier step made.
fn step_record(tenant: &str, planned: &PlannedStep, context: &Context, made: Option<&str>) -> StepRecord {
    let PlannedStep { step, facts } = planned;
    let def = step.def();
    StepRecord {
        tenant: tenant.to_owned(),
        resource: def.resource.as_str().to_owned(),
        step: def.words.to_owned(),
        object: step.object(made).into_owned(),
        fields: facts.fields.clone(),
        why: context.live.filter(|_| step.changes_limits()).or(facts.why).unwrap_or(context.why),
        trigger: context.trigger.clone(),
        revision: context.revision.clone(),
        signer: context.signer.clone(),
        plan: context.plan.clone(),
    }
}
