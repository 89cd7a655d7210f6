//! What follows from work on a tenant that has ended, and from what was seen of it.

use std::time::{Duration, Instant};

use super::{PAUSE, Tenants, runtime::UNHEALTHY};
use crate::{
    daemon::workers::{Extent, ReconcileRequest, Reconciled},
    fault::chain,
    model::{
        DriftMode, Obstacle, Power, observed::Health, plan::Blocked, policy::Retry, quantity::Timespan, record::Why,
    },
    plan::brief::differences,
    reconcile::{Failure, Outcome},
};

/// How long a step of a containment waits at most until it is tried again.
const CONTAINMENT_RETRY: Timespan = Timespan::seconds(10);

/// How often a repair may be followed by another before it counts as a failure.
const REPAIRS: u32 = 3;

/// How many failures of one declaration make it bad, where one alone may have another cause.
const FAULTS: u32 = 3;

/// How long the engine's events may take to arrive.
const NEWS: Duration = Duration::from_millis(100);

/// What is to be done about a tenant.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::daemon) enum Decision {
    /// To say what is in its way since now.
    ReportBlocked(Blocked),
    /// To say what differs since now and is left as it is.
    ReportDrift(Vec<String>),
    /// To say what its steps led to.
    ReportOutcome,
    /// To judge its declaration in force as bad, for this reason, if it is not confirmed healthy yet.
    MarkFailed(String),
    /// To look at this time what is due.
    CheckAt(Instant),
    /// To forget it: nothing of it is left, and nobody declares it.
    Forget,
}

/// What is known of a tenant from elsewhere when its work ends.
pub(in crate::daemon) struct Facts {
    /// Whether another declaration, or other settings, are in force than when the work began.
    pub(in crate::daemon) is_stale: bool,
    /// Whether the engine refused to lower a limit of a container of which that was not known.
    pub(in crate::daemon) is_limit_refused: bool,
    /// Whether anybody declares it.
    pub(in crate::daemon) is_mentioned: bool,
    pub(in crate::daemon) mode: DriftMode,
    pub(in crate::daemon) is_suspended: bool,
    pub(in crate::daemon) retry: Retry,
}

impl Tenants {
    /// Work on a tenant has ended.
    pub(in crate::daemon) fn work_ended(
        &mut self,
        request: &ReconcileRequest,
        result: &Result<Reconciled, String>,
        facts: &Facts,
        now: Instant,
    ) -> Vec<Decision> {
        let name = request.name.as_str();
        self.in_hand.remove(name);
        if request.extent != Extent::Repair {
            self.queue.contained(name, now);
            return self.contained(request, result, facts, now);
        }
        if facts.is_stale {
            self.queue.released(name);
            self.queue.mark(name, request.trigger.clone(), now, Duration::ZERO);
            let outcome = result.as_ref().ok().and_then(|done| done.outcome.as_ref());
            let succeeded = outcome.is_some_and(|outcome| outcome.failure.is_none());
            return if succeeded { vec![Decision::ReportOutcome] } else { Vec::new() };
        }
        let done = match result {
            Ok(done) => done,
            Err(error) => {
                self.runtime(name).failure = Some(error.clone());
                self.queue.failed(name, facts.retry, now);
                return Vec::new();
            }
        };
        let failure = done.outcome.as_ref().and_then(|outcome| outcome.failure.as_ref());
        match (failure, done.outcome.is_some()) {
            (None, false) => self.queue.succeeded(name),
            (None, true) if self.runtime(name).repairs + 1 < REPAIRS => {
                self.queue.succeeded(name);
                // What a step did is learnt only by observing again: at once where somebody waits for it.
                let pause = if request.is_awaited() { Duration::ZERO } else { PAUSE };
                self.queue.mark(name, request.trigger.clone(), now, pause);
            }
            (Some(Failure::Stopped), _) => self.queue.released(name),
            // It is blocked from now on, which the next observation shows.
            (Some(Failure::RuntimeFails { .. }), _) => {
                self.queue.failed(name, facts.retry, now);
                self.queue.hurry(name, now + PAUSE);
            }
            // A new container has the limits that this one does not take: it is made at once.
            (Some(Failure::LimitRefused { .. }), _) if facts.is_limit_refused => {
                self.queue.released(name);
                self.queue.mark(name, request.trigger.clone(), now, PAUSE);
            }
            (None | Some(_), _) => self.queue.failed(name, facts.retry, now),
        }
        self.tried(name, done, facts.retry, now);
        let mut decisions = self.observed(name, done, true, facts, now);
        if done.plan.changes.is_empty() && done.plan.blocked.is_none() && !facts.is_mentioned {
            decisions.push(Decision::Forget);
        }
        decisions
    }

    /// An observation beside the work on a tenant has ended.
    pub(in crate::daemon) fn beside_ended(
        &mut self,
        request: &ReconcileRequest,
        result: &Result<Reconciled, String>,
        facts: &Facts,
        now: Instant,
    ) -> Vec<Decision> {
        self.queue.ended_beside(&request.name);
        self.contained(request, result, facts, now)
    }

    /// A tenant was contained whose repair waits.
    fn contained(
        &mut self,
        request: &ReconcileRequest,
        result: &Result<Reconciled, String>,
        facts: &Facts,
        now: Instant,
    ) -> Vec<Decision> {
        let name = request.name.as_str();
        let done = match result {
            Ok(done) => done,
            Err(error) => {
                self.runtime(name).failure = Some(error.clone());
                return Vec::new();
            }
        };
        if facts.is_limit_refused {
            // What it waits for is another repair than the one that this calls for.
            self.queue.reset_backoff(name);
            self.queue.mark(name, request.trigger.clone(), now, PAUSE);
        } else if done.outcome.is_some() || facts.is_stale {
            // What a step did is learnt only by observing again.
            self.queue.mark(name, request.trigger.clone(), now, PAUSE);
        }
        self.tried(name, done, facts.retry, now);
        if facts.is_stale {
            return Vec::new();
        }
        self.observed(name, done, request.extent == Extent::Repair, facts, now)
    }

    /// Takes note of the containment that was tried. What did not succeed, or does not last, is tried again before long,
    /// however long the repair waits.
    fn tried(&mut self, name: &str, done: &Reconciled, retry: Retry, now: Instant) {
        let retry = Retry { max: retry.max.min(CONTAINMENT_RETRY), ..retry };
        let tried = &mut self.runtime(name).tried;
        for (step, succeeded) in &done.contained {
            tried.note(step, *succeeded, retry, now);
        }
        if let Some(again) = tried.again(&done.plan.contain, now) {
            self.queue.hurry(name, again);
        }
    }

    /// Takes in what was seen of a tenant and done to it, where `repairs` says that it might be repaired.
    pub(in crate::daemon) fn observed(
        &mut self,
        name: &str,
        done: &Reconciled,
        repairs: bool,
        facts: &Facts,
        now: Instant,
    ) -> Vec<Decision> {
        let mut decisions = Vec::new();
        let waits = !repairs && done.plan.will_change();
        let runtime = self.runtime(name);
        runtime.seen = true;
        let former = std::mem::replace(&mut runtime.blocked, done.plan.blocked.clone());
        if let Some(blocked) = runtime.blocked.clone().filter(|blocked| former.as_ref() != Some(blocked)) {
            decisions.push(Decision::ReportBlocked(blocked));
        }
        runtime.differs = match (&done.outcome, done.why, facts.mode) {
            (Some(outcome), ..) if !waits && outcome.failure.is_none() && done.plan.blocked.is_none() => Vec::new(),
            (None, Why::Drift, DriftMode::Disabled) => Vec::new(),
            (Some(_) | None, Why::Drift | Why::Intent, _) => differences(&done.plan),
        };
        match &done.outcome {
            // It is contained; why its repair waits is still so.
            _ if waits => {}
            None => {
                runtime.failure = None;
                runtime.repairs = 0;
            }
            Some(outcome) => {
                runtime.in_order = None;
                runtime.failure = outcome.failure.as_ref().map(chain);
                if outcome.failure.is_none() {
                    runtime.repairs += 1;
                }
            }
        }
        // What was seen before something was done is of what ran before.
        runtime.health = if done.outcome.is_none() { done.plan.health } else { Health::Unchecked };
        let is_replaced = |outcome: &Outcome| outcome.failure.is_none() && done.plan.replaces_container();
        // What could not be observed this time is where it was.
        let is_unobserved = done.plan.blocked.as_ref().is_some_and(|blocked| blocked.code == Obstacle::Unobserved);
        if !is_unobserved {
            let located = done.plan.located.clone().filter(|_| !done.outcome.as_ref().is_some_and(is_replaced));
            // It may have ended since it was observed.
            runtime.located = located.filter(|located| runtime.ended.as_ref() != Some(&located.container));
        }
        let ails = runtime.is_in_order() && runtime.health == Health::Unhealthy && runtime.ran_as_declared();
        if runtime.is_in_order() {
            runtime.reached = Some(true);
            runtime.faults = 0;
            runtime.warned.clear();
            // How long it runs well counts while it runs.
            runtime.in_order = (done.plan.power == Power::Running).then(|| runtime.in_order.unwrap_or(now));
        } else {
            runtime.in_order = None;
        }
        let only_warns = facts.mode == DriftMode::Warn && !facts.is_suspended;
        let is_new = !runtime.differs.is_empty() && runtime.warned != runtime.differs;
        if done.outcome.is_none() && done.why == Why::Drift && only_warns && is_new {
            runtime.warned.clone_from(&runtime.differs);
            decisions.push(Decision::ReportDrift(runtime.differs.clone()));
        }
        if let Some(outcome) = &done.outcome {
            decisions.push(Decision::ReportOutcome);
            decisions.extend(outcome.failure.as_ref().filter(|_| repairs).and_then(|why| self.fault(name, why, now)));
        }
        if ails {
            decisions.push(Decision::MarkFailed(UNHEALTHY.to_owned()));
        }
        decisions
    }

    /// Counts a failure against the declaration in force, where it may be the declaration's own fault.
    fn fault(&mut self, name: &str, failure: &Failure, now: Instant) -> Option<Decision> {
        let runtime = self.runtime(name);
        if runtime.reached == Some(true) {
            return None;
        }
        if matches!(failure, Failure::Ended(_)) {
            // Somebody may have ended it, which the engine is about to report.
            runtime.started = Some(now);
            runtime.exit = Some((now + NEWS, chain(failure)));
            return Some(Decision::CheckAt(now + NEWS));
        }
        if failure.is_of_start() {
            runtime.faults += 1;
        }
        (failure.is_of_start() && runtime.faults >= FAULTS).then(|| Decision::MarkFailed(chain(failure)))
    }
}
