//! What observations and repairs led to.

use std::{
    collections::BTreeSet,
    rc::Rc,
    sync::Arc,
    time::{Duration, Instant},
};

use jiff::Timestamp;

use super::{
    Daemon,
    events::{CorrectionFailed, DriftLeft, TenantBlocked, TenantCorrected, millis},
    tenants::{Decision, Facts, Taken},
    workers::{Extent, FullScanResult, Occasion, ReconcileRequest, ReconcileResult, Reconciled},
};
use crate::{
    model::{
        plan::Lookalike,
        record::{Trigger, Why},
        status::Correction,
    },
    plan::brief::{containment, correction},
    reconcile::Failure,
};

impl Daemon {
    pub(super) async fn full_scan_done(&mut self, trigger: Trigger, result: Result<FullScanResult, String>) {
        let now = Instant::now();
        let touched = self.scan.ended(now);
        let FullScanResult { desired: planned_for, found, took } = match result {
            Ok(scan) => scan,
            Err(error) => {
                tracing::warn!(error, "the full scan failed");
                self.view.status.error = Some(error);
                self.scan.failed(trigger, now);
                return;
            }
        };
        self.reporter.metrics.full_pass(took);
        self.view.status.error = None;
        self.view.status.full_pass = Some(Timestamp::now());
        self.view.status.version.clone_from(&found.facts.version);
        self.view.facts = Arc::new(found.facts);
        self.view.capability = found.capability;
        self.view.objects.scanned(found.containers, found.present, &found.lookalikes, &touched);
        self.report_lookalikes(&found.lookalikes).await;
        self.scan.succeeded();
        if self.in_force.fleet.is_none()
            && let Some(candidate) = self.repo.pending.take()
        {
            self.decide(candidate).await;
        }
        let Some(desired) = self.in_force.effective().cloned() else { return };
        if !planned_for.is_some_and(|planned| Arc::ptr_eq(&planned, &desired)) {
            // Something else is in force since it began.
            self.scan.ask(trigger, Instant::now());
            return;
        }
        let present = &self.view.objects.present;
        let is_there = |name: &str| desired.mentions(name) || present.contains(name);
        self.tenants.retain(is_there);
        self.conditions.retain(is_there);
        self.demand.retain(is_there);
        self.settle_powers(&found.plan.tenants).await;
        let now = Instant::now();
        let mut jobs = Vec::new();
        let planned: BTreeSet<&str> = found.plan.tenants.iter().map(|plan| plan.tenant.as_str()).collect();
        self.tenants.not_found(now, |name| planned.contains(name) || touched.contains(name));
        for plan in found.plan.tenants {
            let name = plan.tenant.clone();
            if touched.contains(&name) || self.tenants.is_busy(&name) {
                if plan.will_change() {
                    self.tenants.mark(&name, Trigger::FullPass, now, Duration::ZERO);
                }
                continue;
            }
            if !plan.will_change() {
                let done = Reconciled { plan, why: Why::Drift, outcome: None, contained: Vec::new() };
                self.tenants.needs_nothing(&name, now);
                let facts = self.facts(&name, false, false);
                let decisions = self.tenants.observed(&name, &done, true, &facts, now);
                let occasion = Occasion { trigger: &trigger, since: now, repairs: true };
                self.observed(&name, &done, decisions, occasion).await;
                continue;
            }
            let Some(Taken { mark, waits, .. }) = self.tenants.claim(&name, &trigger, now) else { continue };
            let request = self.request(&name, mark.trigger, mark.since, waits);
            self.tenants.work_begins(&name, Rc::clone(&request.hand));
            jobs.push((request, plan));
        }
        match &self.view.engine {
            Some(engine) => self.workers.repair_all(&self.host, &self.view, engine, jobs),
            None => jobs.iter().for_each(|(request, _)| self.tenants.released(&request.name)),
        }
    }

    pub(super) async fn tenant_done(&mut self, done: ReconcileResult) {
        let ReconcileResult { request, result } = done;
        self.scan.touch(&request.name);
        let is_stale = self.is_stale(&request);
        // What was begun by other declarations says nothing of what is in force, but for containment.
        let counts = request.extent != Extent::Repair || !is_stale;
        let is_refused = counts && self.is_limit_newly_refused(&result);
        let facts = self.facts(&request.name, is_stale, is_refused);
        let decisions = self.tenants.work_ended(&request, &result, &facts, Instant::now());
        self.work_ended(&request, result, is_stale, decisions).await;
    }

    /// An observation beside the work on a tenant has ended.
    pub(super) async fn beside_done(&mut self, done: ReconcileResult) {
        let ReconcileResult { request, result } = done;
        self.scan.touch(&request.name);
        let is_stale = self.is_stale(&request);
        let is_refused = self.is_limit_newly_refused(&result);
        let facts = self.facts(&request.name, is_stale, is_refused);
        let decisions = self.tenants.beside_ended(&request, &result, &facts, Instant::now());
        self.work_ended(&request, result, is_stale, decisions).await;
    }

    async fn work_ended(
        &mut self,
        request: &ReconcileRequest,
        result: Result<Reconciled, String>,
        is_stale: bool,
        decisions: Vec<Decision>,
    ) {
        let Ok(done) = result else { return };
        if is_stale {
            self.carry_out(&request.name, &done, decisions, request.occasion()).await;
        } else {
            self.observed(&request.name, &done, decisions, request.occasion()).await;
        }
    }

    /// Whether a tenant's declaration is another one now than when work on it began, or the host's settings are.
    fn is_stale(&self, request: &ReconcileRequest) -> bool {
        request.hand.is_superseded() || self.in_force.has_changed(&request.name, &request.desired)
    }

    /// Remembers a container whose limits the engine refused to lower, and says whether it is a new one.
    fn is_limit_newly_refused(&mut self, result: &Result<Reconciled, String>) -> bool {
        let failure = result.as_ref().ok().and_then(|done| done.outcome.as_ref()?.failure.as_ref());
        match failure {
            Some(Failure::LimitRefused { container, .. }) => self.view.objects.refused_limits.insert(container.clone()),
            Some(_) | None => false,
        }
    }

    fn facts(&self, name: &str, is_stale: bool, is_limit_refused: bool) -> Facts {
        Facts {
            is_stale,
            is_limit_refused,
            is_mentioned: self.in_force.fleet.is_none() || self.in_force.mentions(name),
            mode: self.in_force.drift_mode(name, self.host.weakest_drift),
            is_suspended: self.in_force.suspension(name).is_some(),
            retry: self.in_force.retry(),
        }
    }

    /// Takes in what was seen of a tenant, and does what follows from it.
    async fn observed(&mut self, name: &str, done: &Reconciled, decisions: Vec<Decision>, occasion: Occasion<'_>) {
        self.report_lookalikes(&done.plan.lookalikes).await;
        let (forget, others): (Vec<_>, Vec<_>) = decisions.into_iter().partition(|one| *one == Decision::Forget);
        self.carry_out(name, done, others, occasion).await;
        self.power_seen(name, done.plan.power, done.plan.reserve).await;
        self.note_conditions(name);
        self.carry_out(name, done, forget, occasion).await;
    }

    async fn carry_out(&mut self, name: &str, done: &Reconciled, decisions: Vec<Decision>, occasion: Occasion<'_>) {
        for decision in decisions {
            let in_force = self.in_force.revision(Some(name));
            match decision {
                Decision::ReportBlocked(blocked) => {
                    self.reporter.report(&TenantBlocked { tenant: name, blocked: &blocked, in_force }).await;
                }
                Decision::ReportDrift(differs) => {
                    let (plan, trigger) = (&done.plan, occasion.trigger);
                    let event = DriftLeft { tenant: name, plan, differs: &differs, trigger, in_force };
                    self.reporter.report(&event).await;
                }
                Decision::ReportOutcome => self.report_outcome(name, done, occasion).await,
                Decision::MarkFailed(reason) => self.mark_failed(name, &reason).await,
                Decision::CheckAt(at) => self.timer.check_at(at),
                Decision::Forget => {
                    self.view.objects.present.remove(name);
                    self.tenants.forget(name);
                    self.conditions.forget(name);
                }
            }
        }
    }

    /// Reports each container that merely looks like a tenant's once.
    async fn report_lookalikes(&mut self, found: &[Lookalike]) {
        for one in self.view.objects.note_lookalikes(found) {
            self.reporter.report(one).await;
        }
    }

    async fn report_outcome(&mut self, name: &str, done: &Reconciled, occasion: Occasion<'_>) {
        let Some(outcome) = &done.outcome else { return };
        let (plan, why, took) = (&done.plan, done.why, occasion.since.elapsed());
        let in_force = self.in_force.revision(Some(name));
        match &outcome.failure {
            None => {
                let what = if occasion.repairs { correction(plan) } else { containment(plan) };
                let repairs = occasion.repairs;
                let event = TenantCorrected { tenant: name, plan, why, what: &what, repairs, took, in_force };
                self.reporter.report(&event).await;
                let correction = Correction { time: Timestamp::now(), what, why, took_ms: millis(took) };
                self.tenants.corrected(name, correction);
            }
            Some(failure) => {
                let event = CorrectionFailed { tenant: name, plan, why, failure, took, in_force };
                self.reporter.report(&event).await;
            }
        }
    }
}
