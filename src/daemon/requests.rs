//! What clients ask, and the host's settings read anew.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use jiff::Timestamp;
use tokio::sync::Semaphore;

use super::{
    Daemon, Link,
    gateway::Gateway,
    intake::Intake,
    open_mirror,
    tenant::{Around, Run, condition},
};
use crate::{
    fault::chain,
    host::Changes,
    model::{
        DriftMode, Entry, Host, Status, TenantName,
        record::Trigger,
        status::{Condition, ConditionKind, JournalStatus, Suspension, TenantStatus, Truth},
    },
    source::shown_url,
    web::{Refusal, Request},
};

impl Daemon {
    pub(super) async fn answer(&mut self, request: Request) {
        match request {
            // Who waited too long was told that it may not be done: it is not.
            Request::Suspend { ref reply, .. } | Request::Resume { ref reply, .. } if reply.is_closed() => {}
            Request::Approve { ref reply, .. } if reply.is_closed() => {}
            Request::Status { tenant, reply } => drop(reply.send(self.status(tenant.as_deref()))),
            Request::Health { reply } => drop(reply.send(Ok(self.conditions()))),
            Request::Suspend { tenant, reason, until, by, reply } => {
                drop(reply.send(self.suspend(&tenant, Suspension { reason, until, by }).await));
            }
            Request::Resume { tenant, by, reply } => drop(reply.send(self.resume(&tenant, by).await)),
            Request::Approve { plan, by, reply } => drop(reply.send(self.approve(&plan, &by).await)),
            Request::Reconcile { tenant, by, reply } => drop(reply.send(self.look_now(tenant.as_deref(), by))),
            Request::Fetch => self.intake.kick(),
        }
    }

    fn knows(&self, tenant: &str) -> Result<(), Refusal> {
        let fleet = self.fleet.as_ref();
        let declared = fleet.is_some_and(|fleet| fleet.effective.mentions(tenant));
        if declared || self.present.contains(tenant) || self.state.suspended.contains_key(tenant) {
            return Ok(());
        }
        let names = fleet.into_iter().flat_map(|fleet| fleet.effective.tenants.keys()).map(TenantName::as_str);
        let meant = crate::model::finding::suggest(tenant, names);
        let meant = meant.map_or_else(String::new, |meant| format!("; did you mean {meant}?"));
        Err(Refusal::not_found(format!("there is no tenant {tenant:?}{meant}")))
    }

    async fn suspend(&mut self, tenant: &str, suspension: Suspension) -> Result<(), Refusal> {
        self.knows(tenant)?;
        if suspension.until <= Timestamp::now() {
            return Err(Refusal::invalid(format!("{} has passed", suspension.until)));
        }
        let former = self.state.suspended.insert(tenant.to_owned(), suspension.clone());
        if !self.save() {
            match former {
                Some(former) => self.state.suspended.insert(tenant.to_owned(), former),
                None => self.state.suspended.remove(tenant),
            };
            return Err(self.not_kept());
        }
        self.hasten();
        let Suspension { reason, until, by } = suspension;
        tracing::info!(tenant, reason, %until, by, "suspended");
        self.record(Entry::Suspended { tenant: tenant.to_owned(), reason, until, by }).await;
        self.note_conditions(tenant);
        Ok(())
    }

    async fn resume(&mut self, tenant: &str, by: String) -> Result<(), Refusal> {
        let Some(former) = self.state.suspended.remove(tenant) else {
            self.knows(tenant)?;
            return Err(Refusal::conflict(format!("{tenant} is not suspended")));
        };
        if !self.save() {
            self.state.suspended.insert(tenant.to_owned(), former);
            return Err(self.not_kept());
        }
        tracing::info!(tenant, by, "resumed");
        self.record(Entry::Resumed { tenant: tenant.to_owned(), by: by.clone() }).await;
        self.queue.forgive(tenant);
        self.queue.mark(tenant, Trigger::Operator { by }, Instant::now(), Duration::ZERO);
        self.note_conditions(tenant);
        Ok(())
    }

    fn not_kept(&self) -> Refusal {
        let error = self.state_error.clone().unwrap_or_default();
        Refusal::unavailable(format!("the state cannot be kept, so nothing was changed: {error}"))
    }

    fn look_now(&mut self, tenant: Option<&str>, by: String) -> Result<(), Refusal> {
        let trigger = Trigger::Operator { by };
        match tenant {
            Some(tenant) => {
                self.knows(tenant)?;
                self.queue.forgive(tenant);
                self.queue.mark(tenant, trigger, Instant::now(), Duration::ZERO);
            }
            None => {
                let waiting: Vec<String> = self.runs.keys().cloned().collect();
                for tenant in waiting {
                    self.queue.forgive(&tenant);
                }
                self.ask_survey(trigger, Duration::ZERO);
            }
        }
        Ok(())
    }

    fn status(&mut self, only: Option<&str>) -> Result<Status, Refusal> {
        if let Some(tenant) = only {
            self.knows(tenant)?;
        }
        let names: Vec<String> = match (only, &self.fleet) {
            (Some(tenant), _) => vec![tenant.to_owned()],
            (None, Some(fleet)) => {
                let declared = fleet.effective.tenants.keys().map(TenantName::to_string);
                let mut names: Vec<String> =
                    declared.chain(fleet.effective.held.iter().cloned()).chain(self.present.iter().cloned()).collect();
                names.sort_unstable();
                names.dedup();
                names
            }
            (None, None) => self.present.iter().cloned().collect(),
        };
        let tenants = names.iter().map(|name| self.tenant_status(name)).collect();
        let records = self.journal.head().seq;
        self.metrics.journaled(records.saturating_sub(self.journaled));
        self.journaled = records;
        Ok(Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            started: self.started,
            time: Timestamp::now(),
            source: self.source.clone(),
            engine: self.engine_status.clone(),
            gateway: self.has_ways_out().then(|| self.gateway.status()),
            workspaces: self.site.clone(),
            journal: JournalStatus { records, error: self.journal_error() },
            conditions: self.conditions(),
            tenants,
        })
    }

    /// Takes note of how a tenant stands, so that its conditions tell since when, whoever asks later.
    pub(super) fn note_conditions(&mut self, name: &str) {
        self.of_run(name, Run::note);
    }

    fn has_ways_out(&self) -> bool {
        self.fleet.as_ref().is_some_and(|fleet| fleet.effective.tenants.values().any(|tenant| tenant.has_way_out()))
    }

    fn tenant_status(&mut self, name: &str) -> TenantStatus {
        self.of_run(name, Run::status)
    }

    /// Hands what is remembered of a tenant what is known of it from elsewhere.
    fn of_run<T>(&mut self, name: &str, ask: impl FnOnce(&mut Run, &Around<'_>) -> T) -> T {
        let mut run = self.runs.remove(name).unwrap_or_default();
        let fleet = self.fleet.as_ref();
        let pin = self.state.pins.get(name);
        let declared = fleet.is_some_and(|fleet| fleet.effective.tenants.contains_key(name));
        let older = fleet.is_some_and(|fleet| fleet.older.contains_key(name));
        let now = Instant::now();
        let next_try = self.queue.waits(name).filter(|until| *until > now).map(|until| {
            let wait = i64::try_from((until - now).as_millis()).unwrap_or(i64::MAX);
            Timestamp::now() + jiff::SignedDuration::from_millis(wait)
        });
        let around = Around {
            name,
            revision: fleet.map(|fleet| fleet.revision_of(name)),
            declared,
            file_wrong: fleet.is_some_and(|fleet| fleet.declared.held.contains(name)),
            bad: pin.and_then(|pin| pin.bad.as_ref()),
            waits: pin.and_then(|pin| pin.waits.as_ref()),
            on_trial: pin.is_some_and(|pin| pin.bad.is_none()) && declared && !older,
            suspended: self.state.suspended.get(name),
            working: self.queue.is_busy(name) || (self.queue.is_marked(name) && next_try.is_none()),
            next_try,
            only_warned: self.drift_mode(name) != DriftMode::Enabled,
        };
        let answer = ask(&mut run, &around);
        if self.runs.len() < super::MOST_RUNS {
            self.runs.insert(name.to_owned(), run);
        }
        answer
    }

    /// The conditions of the daemon as a whole.
    pub(super) fn conditions(&mut self) -> Vec<Condition> {
        let source = &self.source;
        let stalled = if let Some(error) = &self.state_error {
            Some(("StateUnavailable", error.clone()))
        } else if let Some(error) = self.journal_error() {
            Some(("JournalUnavailable", error))
        } else if let Some(error) = &self.engine_status.error {
            Some(("DependencyNotReady", error.clone()))
        } else if let Some(error) = &source.error {
            Some(("SourceUnavailable", error.clone()))
        } else {
            source.held.as_ref().map(|held| {
                let reason = if held.plan.is_some() { "RevisionHeld" } else { "RevisionRefused" };
                (reason, format!("{}: {}", held.revision, held.reason))
            })
        };
        let ready = match (&self.fleet, self.surveyed, &stalled) {
            (None, ..) => (Truth::False, "Progressing", "no commit is in force yet".to_owned()),
            (_, false, None) => {
                (Truth::False, "Progressing", "the engine has not been looked at since it answers".to_owned())
            }
            (_, _, Some((reason @ ("StateUnavailable" | "JournalUnavailable" | "DependencyNotReady"), message))) => {
                (Truth::False, *reason, message.clone())
            }
            (_, false, Some((reason, message))) => (Truth::False, *reason, message.clone()),
            (Some(fleet), true, _) => {
                (Truth::True, "ReconciliationSucceeded", format!("{} is in force", fleet.revision))
            }
        };
        let verified = match &self.source_verified {
            None => (Truth::Unknown, "NotVerified", "verify.mode is none: signatures are not looked at".to_owned()),
            Some(Ok(signer)) => (Truth::True, "Verified", format!("signed by {signer}")),
            Some(Err(reason)) => (Truth::False, "Unverified", reason.clone()),
        };
        let (is_stalled, reason, message) = match stalled {
            Some((reason, message)) => (Truth::True, reason, message),
            None => (Truth::False, "NotStalled", String::new()),
        };
        let judged = [
            (ConditionKind::Ready, ready.0, ready.1, ready.2),
            (ConditionKind::Stalled, is_stalled, reason, message),
            (ConditionKind::SourceVerified, verified.0, verified.1, verified.2),
        ];
        judged.into_iter().map(|judged| condition(&mut self.shown, judged)).collect()
    }

    /// Reads the host's settings again. Wrong ones are refused, and the old ones stay in force.
    pub(super) async fn reload_settings(&mut self) {
        let result = match (self.reload)() {
            Ok(host) => self.take_settings(host).await,
            Err(error) => Err(format!("{error:#}")),
        };
        match &result {
            Ok(()) => tracing::info!("the host's settings are read again"),
            Err(error) => tracing::error!(error, "the host's settings are refused; the former ones stay in force"),
        }
        self.record(Entry::Reloaded { error: result.err() }).await;
    }

    async fn take_settings(&mut self, host: Host) -> Result<(), String> {
        let fixed = |host: &Host| {
            let Host { engine, data_root, socket, socket_group, journal, listen, .. } = host.clone();
            (engine, data_root, socket, socket_group, journal, listen.map(|listen| listen.address))
        };
        if fixed(&host) != fixed(&self.host) {
            return Err("engine, dataRoot, socket, socketGroup, journal and listen.address need a restart".to_owned());
        }
        let source = host.source.clone().ok_or_else(|| "the settings name no config repo".to_owned())?;
        let mirror = match host.source == self.host.source {
            true => None,
            false => Some(open_mirror(&host, &source).await.map_err(|error| format!("{error:#}"))?),
        };
        self.web_settings.update(&host).map_err(|e| chain(&e))?;
        let host = Arc::new(host);
        if mirror.is_some() || host.verify != self.host.verify || host.approvals != self.host.approvals {
            if let Some(mirror) = mirror {
                self.mirror = Arc::new(mirror);
            }
            self.source.url = shown_url(&source.url);
            // What waits was judged by the former settings.
            (self.refused, self.held, self.pending, self.source.held) = (None, None, None, None);
            let accepted = self.accepted.subscribe();
            self.intake = Intake::begin(Arc::clone(&host), source, Arc::clone(&self.mirror), accepted);
        }
        if host.egress != self.host.egress {
            self.changes = Changes::begin(&host);
            self.gateway = Gateway::begin(&host.egress.state);
        }
        if host.notify != self.host.notify {
            self.notifier.set(host.notify.clone());
        }
        if host.parallelism != self.host.parallelism {
            self.turns = Arc::new(Semaphore::new(host.parallelism.max(1)));
        }
        if host.deadlines.call != self.host.deadlines.call {
            self.link = Link::begin(host.engine.clone(), host.deadlines.call.get());
        }
        if host.snapshot != self.host.snapshot && self.next_snapshot.is_some() {
            self.next_snapshot = Some(Instant::now());
        }
        self.host = host;
        self.ask_survey(Trigger::Operator { by: "reload".to_owned() }, Duration::ZERO);
        Ok(())
    }
}
