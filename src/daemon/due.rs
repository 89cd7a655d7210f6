//! What time brings.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use jiff::Timestamp;

use super::{
    Daemon,
    events::TenantResumed,
    tenants::{Suspect, Tenants},
    timer::{IDLE_TICK, TICK},
};
use crate::model::{quantity::Timespan, record::Trigger};

impl Daemon {
    /// What is due by time alone.
    pub(super) async fn time_passed(&mut self) {
        let is_busy = self.in_force.changes_by_time() || self.reporter.journal_error().is_some();
        self.timer.ticked(Instant::now(), if is_busy { TICK } else { IDLE_TICK });
        // So that they say since when, whoever asks later.
        drop(self.daemon_conditions());
        self.judge_exits().await;
        self.test_failing_runtimes();
        let (tenants, now) = (&self.tenants, Instant::now());
        self.in_force.confirm_healthy(|name, time| tenants.has_run_well(name, time, now));
        self.retry_pending().await;
        if self.in_force.error().is_some() {
            drop(self.in_force.save());
        }
        if self.reporter.retry_journal().await {
            tracing::info!("the journal can be written again");
            self.tenants.reset_all_backoffs();
        }
        for tenant in self.in_force.end_suspensions(Timestamp::now()) {
            self.reporter.report(&TenantResumed { tenant: &tenant, by: None }).await;
            self.tenants.mark(&tenant, Trigger::FullPass, Instant::now(), Duration::ZERO);
            self.note_conditions(&tenant);
        }
        self.end_powers().await;
    }

    /// Begins a snapshot where the host's settings say that it is time for one. A daemon that is busy makes one later.
    pub(super) fn snapshot_if_due(&mut self, now: Instant) {
        let Some(engine) = &self.view.engine else { return };
        let is_wanted = self.host.snapshot.every.is_some() && self.timer.is_snapshot_due(now);
        if is_wanted && self.scan.is_complete() && !self.scan.is_running() {
            self.timer.snapshot_begins();
            self.workers.snapshot(&self.host, engine, Arc::clone(self.in_force.powers()));
        }
    }

    pub(super) fn snapshot_done(&mut self, result: Result<(), String>) {
        match result {
            Ok(()) => tracing::debug!("wrote a snapshot"),
            Err(error) => tracing::warn!(error, "cannot write a snapshot; the former one stays"),
        }
        let pause = self.host.snapshot.every.map_or(IDLE_TICK, Timespan::get);
        self.timer.snapshot_ended(Instant::now(), pause);
    }

    /// Judges what ended by itself, once it is known whether its runtime works.
    async fn judge_exits(&mut self) {
        let now = Instant::now();
        let since = Tenants::tested_since(now);
        let (in_force, host, runtimes) = (&self.in_force, &self.host, &self.view.runtimes);
        let suspect = |name: &str| {
            let tenant = in_force.tenant(name).filter(|_| in_force.is_on_trial(name))?;
            let runtime = host.runtimes.get(&tenant.class)?;
            match runtimes.since(runtime, since) {
                None => Some(Suspect::Untested(runtime.clone())),
                Some(Some(_)) => Some(Suspect::Runtime),
                Some(None) => None,
            }
        };
        let (is_away, retry) = (self.view.engine.is_none(), self.in_force.retry());
        let exits = self.tenants.judge_exits(is_away, self.view.back, suspect, retry, now);
        exits.check_at.into_iter().for_each(|at| self.timer.check_at(at));
        for (name, reason) in exits.failed {
            self.mark_failed(&name, &reason).await;
        }
        self.test_runtimes(exits.untested.into_iter().collect());
    }

    /// Tests runtimes beside the loop, unless that is being done.
    fn test_runtimes(&mut self, names: Vec<String>) {
        let Some(engine) = self.view.engine.clone().filter(|_| !names.is_empty() && !self.view.testing) else { return };
        self.view.testing = true;
        self.workers.test_runtimes(&self.host, &self.view, &engine, names);
    }

    /// Finds out whether runtimes that could start nothing work again.
    fn test_failing_runtimes(&mut self) {
        if !self.view.runtimes.failing().is_empty() {
            self.timer.hasten(Instant::now());
        }
        self.test_runtimes(self.view.runtimes.due());
    }

    /// Has everything observed where a runtime works again, or does no more.
    pub(super) fn runtimes_tested(&mut self, before: &BTreeMap<String, String>) {
        self.view.testing = false;
        self.timer.check_at(Instant::now());
        let now = self.view.runtimes.failing();
        for runtime in before.keys().filter(|runtime| !now.contains_key(*runtime)) {
            tracing::info!(runtime, "the runtime works again");
        }
        if !before.keys().eq(now.keys()) {
            self.tenants.reset_all_backoffs();
            self.scan.ask(Trigger::Retry, Instant::now());
        }
    }
}
