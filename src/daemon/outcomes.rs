//! What looks and repairs led to.

use std::{
    collections::BTreeSet,
    rc::Rc,
    sync::Arc,
    time::{Duration, Instant},
};

use futures_util::FutureExt;
use jiff::Timestamp;

use super::{
    Daemon, Ended, PAUSE, REPAIRS,
    work::{self, Done, Muster, Order, Survey},
};
use crate::{
    fault::chain,
    model::{
        DriftMode, Entry, TenantPlan,
        host::NotifyEvent,
        record::{DriftRecord, StepResult, Trigger, Why},
        status::Correction,
    },
    reconcile::{Failure, Outcome, correction, differences, drift_fields},
};

impl Daemon {
    pub(super) async fn survey_done(&mut self, trigger: Trigger, result: Result<Survey, String>) {
        self.surveying = false;
        // Not more than half of the time, however much happens.
        self.rested = Instant::now() + self.survey_began.elapsed().min(Duration::from_secs(5));
        let survey = match result {
            Ok(survey) => survey,
            Err(error) => {
                tracing::warn!(error, "could not look at everything");
                self.engine_status.error = Some(error);
                self.ask_survey(trigger, Duration::from_secs(1));
                self.rested = Instant::now() + Duration::from_secs(1);
                return;
            }
        };
        let Survey { desired: planned_for, found, took } = survey;
        self.metrics.full_pass(took);
        self.engine_status.error = None;
        self.engine_status.full_pass = Some(Timestamp::now());
        self.engine_status.version.clone_from(&found.facts.version);
        self.facts = Arc::new(found.facts);
        self.site = found.site;
        // What changed since the engine listed them is known from events.
        let touched = &self.touched;
        self.containers.retain(|id, tenant| found.containers.contains_key(id) || touched.contains(tenant));
        self.containers.extend(found.containers);
        self.present = found.present;
        self.surveyed = true;
        if self.fleet.is_none()
            && let Some(candidate) = self.pending.take()
        {
            self.decide(candidate).await;
        }
        let Some(desired) = self.fleet.as_ref().map(|fleet| Arc::clone(&fleet.effective)) else { return };
        if !planned_for.is_some_and(|planned| Arc::ptr_eq(&planned, &desired)) {
            // Something else is in force since it began.
            self.ask_survey(trigger, Duration::ZERO);
            return;
        }
        self.runs.retain(|name, _| desired.mentions(name) || self.present.contains(name));
        let now = Instant::now();
        let mut jobs = Vec::new();
        let planned: BTreeSet<&str> = found.plan.tenants.iter().map(|plan| plan.tenant.as_str()).collect();
        self.queue.not_found(|name| planned.contains(name) || self.touched.contains(name));
        for plan in found.plan.tenants {
            let name = plan.tenant.clone();
            if self.touched.contains(&name) || self.queue.is_busy(&name) {
                if plan.will_change() {
                    self.queue.mark(&name, Trigger::FullPass, now, Duration::ZERO);
                }
                continue;
            }
            if !plan.will_change() {
                let look = work::Look { plan, why: Why::Drift, outcome: None };
                self.queue.looked_at(&name);
                self.looked(&name, look, &trigger, now).await;
                continue;
            }
            let Some(mark) = self.queue.seize(&name, now) else { continue };
            let (trigger, since) = mark.map_or((trigger.clone(), now), |mark| (mark.trigger, mark.since));
            jobs.push((self.order(&name, trigger, since), plan));
        }
        let Some(engine) = self.engine.clone() else {
            for (order, _) in jobs {
                self.queue.released(&order.name);
            }
            return;
        };
        let muster = Muster::new(jobs.len());
        for (order, plan) in jobs {
            let job = work::repair(self.tools(Arc::clone(&engine)), order, plan, Rc::clone(&muster));
            self.work.push(job.map(|done| Ended::Tenant(Box::new(done))).boxed_local());
        }
    }

    pub(super) async fn tenant_done(&mut self, done: Done) {
        let Done { order, result } = done;
        let (name, now) = (order.name.clone(), Instant::now());
        self.touch(&name);
        let retry = self.retry();
        if self.is_stale(&order) {
            // Another declaration came into force during the work.
            self.queue.released(&name);
            self.queue.mark(&name, order.trigger.clone(), now, Duration::ZERO);
            if let Ok(work::Look { plan, why, outcome: Some(outcome) }) = result
                && outcome.failure.is_none()
            {
                self.carried_out(&name, &plan, why, outcome, order.since).await;
            }
            return;
        }
        let look = match result {
            Ok(look) => look,
            Err(error) => {
                self.run_of(&name).failure = Some(error);
                self.queue.failed(&name, retry, now);
                return;
            }
        };
        let failed = look.outcome.as_ref().and_then(|outcome| outcome.failure.as_ref());
        match (failed, look.outcome.is_some()) {
            (None, false) => self.queue.succeeded(&name),
            (None, true) if self.run_of(&name).repairs + 1 < REPAIRS => {
                self.queue.succeeded(&name);
                // What a step did is learnt only by looking again.
                self.queue.mark(&name, order.trigger.clone(), now, PAUSE);
            }
            (Some(Failure::Stopped), _) => self.queue.released(&name),
            _ => self.queue.failed(&name, retry, now),
        }
        let gone = look.plan.changes.is_empty() && look.plan.blocked.is_none();
        self.looked(&name, look, &order.trigger, order.since).await;
        if gone && self.fleet.as_ref().is_some_and(|fleet| !fleet.effective.mentions(&name)) {
            self.present.remove(&name);
            self.runs.remove(&name);
        }
    }

    /// Whether a tenant's declaration is another one now than when work on it began.
    fn is_stale(&self, order: &Order) -> bool {
        let Some(fleet) = &self.fleet else { return true };
        let name = order.name.as_str();
        let (then, now) = (&order.desired, &fleet.effective);
        !Arc::ptr_eq(then, now)
            && (then.tenants.get(name) != now.tenants.get(name) || then.held.contains(name) != now.held.contains(name))
    }

    /// Takes in what was seen of a tenant and done to it.
    async fn looked(&mut self, name: &str, look: work::Look, trigger: &Trigger, since: Instant) {
        let now = Instant::now();
        let (mode, suspended) = (self.drift_mode(name), self.state.suspended.contains_key(name));
        let differs = differences(&look.plan);
        let blocked = look.plan.blocked.clone();
        let newly_blocked = blocked.is_some() && self.run_of(name).blocked != blocked;
        let run = self.run_of(name);
        run.seen = true;
        run.blocked = blocked;
        run.differs = match (&look.outcome, look.why, mode) {
            (Some(outcome), ..) if outcome.failure.is_none() && look.plan.blocked.is_none() => Vec::new(),
            (None, Why::Drift, DriftMode::Disabled) => Vec::new(),
            _ => differs,
        };
        match &look.outcome {
            None => {
                run.failure = None;
                run.repairs = 0;
            }
            Some(outcome) => {
                run.in_order = None;
                run.failure = outcome.failure.as_ref().map(chain);
                if outcome.failure.is_none() {
                    run.repairs += 1;
                }
            }
        }
        if run.is_in_order() {
            run.reached = Some(true);
            run.faults = 0;
            run.warned.clear();
            run.in_order.get_or_insert(now);
        } else {
            run.in_order = None;
        }
        if let Some(blocked) = self.runs.get(name).and_then(|run| run.blocked.clone()).filter(|_| newly_blocked) {
            tracing::warn!(tenant = name, code = blocked.code, reason = blocked.reason, "blocked");
            self.tell(NotifyEvent::Blocked, Some(name), &format!("{}: {}", blocked.code, blocked.reason));
        }
        if look.outcome.is_none() && look.why == Why::Drift && mode == DriftMode::Warn && !suspended {
            self.warn_of_drift(name, &look.plan, trigger).await;
        }
        if let Some(outcome) = look.outcome {
            self.carried_out(name, &look.plan, look.why, outcome, since).await;
        }
        self.note_conditions(name);
    }

    async fn carried_out(&mut self, name: &str, plan: &TenantPlan, why: Why, outcome: Outcome, since: Instant) {
        let took = since.elapsed();
        let took_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
        let result = if outcome.failure.is_none() { StepResult::Done } else { StepResult::Failed };
        self.metrics.corrected(why, result);
        self.metrics.reconciled(took);
        match &outcome.failure {
            None => {
                let what = correction(plan);
                if why == Why::Drift {
                    for change in &plan.changes {
                        self.metrics.drifted(change.resource.as_str());
                    }
                    self.tell(NotifyEvent::Drift, Some(name), &what);
                }
                let done = if plan.blocked.is_some() { "contained" } else { "made as declared" };
                tracing::info!(tenant = name, why = %why, what, took_ms, "{done}");
                self.run_of(name).last = Some(Correction { time: Timestamp::now(), what, why, took_ms });
            }
            Some(Failure::Stopped) => {}
            Some(failure) => {
                let error = chain(failure);
                let differs = differences(plan).join(", ");
                tracing::warn!(tenant = name, why = %why, differs, error, took_ms, "could not be made as declared");
                self.tell(NotifyEvent::Failed, Some(name), &error);
                self.fault(name, failure, &error).await;
            }
        }
    }

    async fn warn_of_drift(&mut self, name: &str, plan: &TenantPlan, trigger: &Trigger) {
        let differs = self.runs.get(name).map(|run| run.differs.clone()).unwrap_or_default();
        if differs.is_empty() || self.runs.get(name).is_some_and(|run| run.warned == differs) {
            return;
        }
        for (resource, fields) in drift_fields(plan) {
            self.metrics.drifted(resource.as_str());
            let record = DriftRecord {
                tenant: name.to_owned(),
                resource: resource.as_str().to_owned(),
                fields,
                trigger: trigger.clone(),
            };
            self.record(Entry::Drift(record)).await;
        }
        let what = differs.join(", ");
        tracing::warn!(tenant = name, what, "drift, left as it is");
        self.tell(NotifyEvent::Drift, Some(name), &format!("{what} differs and is left as it is"));
        self.run_of(name).warned = differs;
    }
}
