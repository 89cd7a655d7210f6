//! What operators ask.

use std::{
    collections::BTreeSet,
    sync::Arc,
    time::{Duration, Instant},
};

use jiff::{SignedDuration, Timestamp};

use super::{
    Daemon,
    conditions::{DaemonContext, TenantContext},
    events::{TenantResumed, TenantSuspended},
    tenants::TenantRuntime,
};
use crate::{
    model::{
        Desired, DriftMode, Status, TenantName,
        record::Trigger,
        status::{Condition, JournalStatus, SourceStatus, Suspension, TenantStatus},
    },
    web::{
        Asked, Calls as _, Refusal, Request,
        operators::{Operator, Reconcile, Reconciling, Resume, Resumed, Suspend, Suspended},
    },
};

impl Daemon {
    pub(super) async fn answer(&mut self, request: Request) {
        match request {
            Request::Operator(call) => self.answer_operator(call).await,
            Request::Ingress(call) => self.answer_ingress(call).await,
            Request::Health { reply } => drop(reply.send(Ok(self.daemon_conditions()))),
            Request::Fetch => self.repo.intake.trigger_fetch(),
        }
    }

    async fn answer_operator(&mut self, call: Operator) {
        if call.is_given_up() {
            // Who waited too long was answered that it may not be done: it is not.
            return;
        }
        match call {
            Operator::ReadStatus(Asked { call, reply, .. }) => {
                drop(reply.send(self.status(call.tenant.as_deref())));
            }
            Operator::Suspend(Asked { call, by, reply }) => drop(reply.send(self.suspend(call, by).await)),
            Operator::Resume(Asked { call, by, reply }) => drop(reply.send(self.resume(call, by).await)),
            Operator::SetPower(Asked { call, by, reply }) => drop(reply.send(self.set_power(call, by).await)),
            Operator::Approve(Asked { call, by, reply }) => drop(reply.send(self.approve(call, by).await)),
            Operator::MintToken(Asked { call, by, reply }) => drop(reply.send(self.mint_token(call, by).await)),
            Operator::RevokeToken(Asked { call, by, reply }) => drop(reply.send(self.revoke_token(call, by).await)),
            Operator::Reconcile(Asked { call, by, reply }) => drop(reply.send(self.reconcile_now(call, by))),
        }
    }

    pub(super) fn knows(&self, tenant: &str) -> Result<(), Refusal> {
        let is_present = self.view.objects.present.contains(tenant);
        if self.in_force.mentions(tenant) || is_present || self.in_force.suspension(tenant).is_some() {
            return Ok(());
        }
        let names = self.in_force.effective().into_iter().flat_map(|now| now.tenants.keys()).map(TenantName::as_str);
        let meant = crate::model::finding::suggest(tenant, names);
        let hint = meant.map(|meant| format!("did you mean {meant}?"));
        Err(Refusal { hint, ..Refusal::not_found(format!("there is no tenant {tenant:?}")) })
    }

    async fn suspend(&mut self, Suspend { tenant, reason, until }: Suspend, by: String) -> Result<Suspended, Refusal> {
        self.knows(&tenant)?;
        if until <= Timestamp::now() {
            return Err(Refusal::invalid(format!("{until} has passed")));
        }
        let suspension = Suspension { reason, until, by };
        let is_news = self.in_force.suspend(&tenant, suspension.clone()).ok_or_else(|| self.not_kept())?;
        let Suspension { reason, until, by } = suspension.clone();
        if is_news {
            self.timer.hasten(Instant::now());
            self.reporter.report(&TenantSuspended { tenant: &tenant, suspension }).await;
            self.note_conditions(&tenant);
        }
        Ok(Suspended { tenant, reason, until, by })
    }

    async fn resume(&mut self, Resume { tenant }: Resume, by: String) -> Result<Resumed, Refusal> {
        if !self.in_force.resume(&tenant).ok_or_else(|| self.not_kept())? {
            self.knows(&tenant)?;
            return Err(Refusal::conflict(format!("{tenant} is not suspended")));
        }
        self.reporter.report(&TenantResumed { tenant: &tenant, by: Some(&by) }).await;
        self.tenants.reset_backoff(&tenant);
        self.tenants.mark(&tenant, Trigger::Operator { by: by.clone() }, Instant::now(), Duration::ZERO);
        self.note_conditions(&tenant);
        Ok(Resumed { tenant, by })
    }

    pub(super) fn not_kept(&self) -> Refusal {
        let error = self.in_force.error().cloned().unwrap_or_default();
        Refusal::unavailable(format!("the state cannot be kept, so nothing was changed: {error}"))
    }

    fn reconcile_now(&mut self, Reconcile { tenant }: Reconcile, by: String) -> Result<Reconciling, Refusal> {
        let (trigger, now) = (Trigger::Operator { by }, Instant::now());
        match &tenant {
            Some(tenant) => {
                self.knows(tenant)?;
                self.tenants.reset_backoff(tenant);
                self.tenants.mark(tenant, trigger, now, Duration::ZERO);
            }
            None => {
                self.tenants.reset_known_backoffs();
                self.scan.ask(trigger, now);
            }
        }
        Ok(Reconciling { tenant })
    }

    fn status(&mut self, only: Option<&str>) -> Result<Status, Refusal> {
        if let Some(tenant) = only {
            self.knows(tenant)?;
        }
        let names: BTreeSet<String> = match (only, self.in_force.effective()) {
            (Some(tenant), _) => BTreeSet::from([tenant.to_owned()]),
            (None, effective) => {
                let declared = effective.into_iter().flat_map(|now| now.tenants.keys().map(TenantName::to_string));
                let held = effective.into_iter().flat_map(|now| now.held.iter().cloned());
                declared.chain(held).chain(self.view.objects.present.iter().cloned()).collect()
            }
        };
        let tenants = names.iter().map(|name| self.tenant_status(name)).collect();
        let has_egress = |now: &Arc<Desired>| now.tenants.values().any(|tenant| tenant.has_egress());
        let gateway = self.in_force.effective().is_some_and(has_egress).then(|| self.host_view.gateway.status());
        let approve = self.in_force.line_for_all(&self.host.approvals.fleet);
        Ok(Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            started: self.started,
            time: Timestamp::now(),
            source: SourceStatus { approve, ..self.repo.status.clone() },
            engine: self.view.status.clone(),
            gateway,
            memory: self.memory_status(),
            workspaces: self.view.capability.clone(),
            journal: JournalStatus { records: self.reporter.count_records(), error: self.reporter.journal_error() },
            conditions: self.daemon_conditions(),
            tenants,
        })
    }

    /// How one tenant stands, in the form that is shown.
    fn tenant_status(&mut self, name: &str) -> TenantStatus {
        let mut status = TenantStatus {
            tenant: name.to_owned(),
            revision: None,
            narrowed_by: Vec::new(),
            conditions: Vec::new(),
            drift: Vec::new(),
            last_correction: None,
            suspended: None,
            power: None,
            next_try: None,
        };
        status.conditions = self.judge_tenant(name, |runtime, context| {
            status.revision = context.stands.map(|at| at.base.clone());
            status.narrowed_by = context.stands.map(|at| at.narrowed_by.clone()).unwrap_or_default();
            status.suspended = context.suspended.cloned();
            status.power = context.power.cloned();
            status.next_try = context.next_try;
            status.last_correction.clone_from(&runtime.last);
            if runtime.has_drifted() {
                status.drift.clone_from(&runtime.differs);
            }
        });
        status
    }

    /// Takes note of how a tenant stands, so that its conditions say since when, whoever asks later, and ingress hears of it.
    pub(super) fn note_conditions(&mut self, name: &str) {
        if let Some(ingress) = &mut self.ingress {
            ingress.board.tenant_changed(name);
        }
        self.demand.changed();
        drop(self.judge_tenant(name, |_, _| {}));
    }

    /// The conditions of a tenant. What they were judged by is shown to `see` as well.
    fn judge_tenant(&mut self, name: &str, see: impl FnOnce(&TenantRuntime, &TenantContext<'_>)) -> Vec<Condition> {
        let (fleet, pin) = (self.in_force.fleet.as_ref(), self.in_force.state().pins.get(name));
        let stands = fleet.map(|fleet| fleet.composition_of(name));
        let (now, time) = (Instant::now(), Timestamp::now());
        let (is_working, next_try) = self.tenants.progress(name, now);
        let next_try = next_try.map(|until| {
            let wait = i64::try_from((until - now).as_millis()).unwrap_or(i64::MAX);
            time + SignedDuration::from_millis(wait)
        });
        let context = TenantContext {
            name,
            stands: stands.as_ref(),
            declared: self.in_force.tenant(name).is_some(),
            file_wrong: fleet.is_some_and(|fleet| fleet.declared.held.contains(name)),
            bad: pin.and_then(|pin| pin.bad.as_ref()),
            waits: pin.and_then(|pin| pin.waits.as_ref()),
            on_trial: self.in_force.is_on_trial(name),
            suspended: self.in_force.suspension(name),
            power: self.in_force.powers().holds.get(name),
            working: is_working,
            next_try,
            only_warned: self.in_force.drift_mode(name, self.host.weakest_drift) != DriftMode::Enabled,
        };
        let unknown = TenantRuntime::default();
        let runtime = self.tenants.get(name).unwrap_or(&unknown);
        see(runtime, &context);
        self.conditions.of_tenant(runtime, &context, time)
    }

    /// The conditions of the daemon as a whole.
    pub(super) fn daemon_conditions(&mut self) -> Vec<Condition> {
        let context = DaemonContext {
            state_error: self.in_force.error().cloned(),
            journal_error: self.reporter.journal_error(),
            engine: &self.view.status,
            source: &self.repo.status,
            in_force: self.in_force.fleet.as_ref().map(|fleet| &fleet.revision),
            scanned: self.scan.is_complete(),
            verified: self.repo.verified.as_ref(),
        };
        self.conditions.of_daemon(&context, Timestamp::now())
    }
}
