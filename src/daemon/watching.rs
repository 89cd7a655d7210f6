//! What the engine tells, and what time brings.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use futures_util::FutureExt;
use jiff::Timestamp;

use super::{Daemon, Ended, IDLE_TICK, PAUSE, TICK, link::LinkNews, tenant::Run, work};
use crate::{
    engine::{Engine, EngineEvent},
    host::Change,
    model::{Entry, NAME_PREFIX, REPLACEMENT_SUFFIX, TenantName, quantity::Timespan, record::Trigger},
};

/// An exit so soon after a start counts against the tenant; one after so long clears it.
const RAPID: Duration = Duration::from_secs(10);

/// How long after a kill by somebody an exit is that somebody's doing. An engine that comes back ends
/// what still runs from before as well, and what was killed before the daemon began to listen may
/// end after that.
const KILLED: Duration = Duration::from_secs(30);

/// How many rapid exits are repaired at once.
const FREE_EXITS: u32 = 2;

/// Images change in bursts: how long they are waited for.
const IMAGES: Duration = Duration::from_secs(1);

/// What containers do that changes nothing: reading, and running commands in them.
const HARMLESS: [&str; 9] =
    ["exec_", "top", "attach", "detach", "resize", "export", "archive-path", "extract-to-dir", "health_status"];

impl Daemon {
    pub(super) fn engine_news(&mut self, news: LinkNews) {
        match news {
            LinkNews::Up(engine) => {
                tracing::info!(api = %engine.api(), "the engine answers");
                self.engine_back = Some(Instant::now());
                // Whatever was known of it may have changed while its events did not arrive.
                self.surveyed = false;
                self.engine = Some(engine);
                self.engine_status.up = true;
                self.engine_status.events = true;
                self.engine_status.error = None;
                // What failed while it was away may succeed now.
                self.queue.forgive_all();
                self.ask_survey(Trigger::Start, Duration::ZERO);
            }
            LinkNews::Deaf(engine, reason) => {
                if self.engine.is_none() {
                    tracing::warn!(
                        reason,
                        "the engine answers and tells no events; only looks at everything show drift"
                    );
                    self.engine_status.error = None;
                    self.queue.forgive_all();
                    self.ask_survey(Trigger::Start, Duration::ZERO);
                }
                self.engine = Some(engine);
                self.engine_status.up = true;
                self.engine_status.events = false;
            }
            LinkNews::Down(reason) => {
                if self.engine_status.up || self.engine_status.error.is_none() {
                    tracing::warn!(reason, "the engine is away; waiting for it");
                }
                self.engine = None;
                self.engine_status.up = false;
                self.engine_status.events = false;
                self.engine_status.error = Some(reason);
            }
            LinkNews::Event(event) => self.event(*event),
        }
    }

    fn event(&mut self, event: EngineEvent) {
        let known = HARMLESS.iter().any(|harmless| event.action.starts_with(harmless));
        if known {
            return;
        }
        self.metrics.engine_event(&event.kind);
        let now = Instant::now();
        let trigger = Trigger::Event {
            event: format!("{} {}", event.kind, event.action),
            object: event.id.clone(),
            time: event.time,
        };
        let tenants: Vec<String> = match event.kind.as_str() {
            "container" => event.tenant.clone().or_else(|| self.named(&event.name)).into_iter().collect(),
            "network" => {
                let by_name = self.named(&event.name);
                let by_container = event.container.as_ref().and_then(|id| self.containers.get(id)).cloned();
                if event.container.is_some() && by_container.is_none() && !self.surveyed {
                    self.ask_survey(trigger, PAUSE);
                    return;
                }
                by_name.into_iter().chain(by_container).collect()
            }
            _ => {
                self.ask_survey(trigger, IMAGES);
                return;
            }
        };
        for tenant in tenants {
            if tenant.parse::<TenantName>().is_err() {
                // Whatever carries such a label is removed by a look at everything.
                self.ask_survey(trigger.clone(), PAUSE);
                continue;
            }
            if event.tenant.is_some() {
                self.container_event(&tenant, &event, now);
            }
            self.touch(&tenant);
            self.queue.mark(&tenant, trigger.clone(), now, PAUSE);
        }
    }

    /// Something may have happened beside the engine.
    pub(super) fn host_news(&mut self, change: Change) {
        let now = Instant::now();
        let trigger = |event: &str, object: &str| Trigger::Event {
            event: event.to_owned(),
            object: object.to_owned(),
            time: Timestamp::now(),
        };
        let desired = self.fleet.as_ref().map(|fleet| Arc::clone(&fleet.effective)).unwrap_or_default();
        let (trigger, tenants): (Trigger, Vec<String>) = match change {
            Change::Interface(name) => {
                let is_its = |tenant: &&TenantName| [tenant.link_name(), tenant.interface_name()].contains(&name);
                let tenant = desired.tenants.keys().find(is_its);
                (trigger("egress link", &name), tenant.map(ToString::to_string).into_iter().collect())
            }
            Change::Workspace(name) => (trigger("workspace mount", &name), vec![name]),
            Change::Tenant(name) => (trigger("egress file", &name), vec![name]),
            Change::Secrets => {
                let routed = desired.tenants.values().filter(|tenant| !tenant.routes.is_empty());
                let routed: Vec<String> = routed.map(|tenant| tenant.name.to_string()).collect();
                if routed.is_empty() {
                    return;
                }
                (trigger("egress secret", ""), routed)
            }
        };
        // What is nobody's is found by a look at everything.
        if tenants.is_empty() || tenants.iter().any(|tenant| !desired.mentions(tenant)) {
            self.ask_survey(trigger, PAUSE);
            return;
        }
        for tenant in tenants {
            self.touch(&tenant);
            self.queue.mark(&tenant, trigger.clone(), now, PAUSE);
        }
    }

    /// The tenant that an object of this name is, or pretends to be.
    fn named(&self, name: &str) -> Option<String> {
        let name = name.strip_prefix(NAME_PREFIX)?;
        let name = name.strip_suffix(REPLACEMENT_SUFFIX).unwrap_or(name);
        let declared = self.fleet.as_ref().is_some_and(|fleet| fleet.effective.tenants.contains_key(name));
        (declared || self.present.contains(name)).then(|| name.to_owned())
    }

    /// Something happened to a container that carries a tenant's label.
    fn container_event(&mut self, tenant: &str, event: &EngineEvent, now: Instant) {
        if event.action == "destroy" {
            self.containers.remove(&event.id);
        } else if !self.containers.contains_key(&event.id) {
            self.containers.insert(event.id.clone(), tenant.to_owned());
        }
        let busy = self.queue.is_busy(tenant);
        let run = self.run_of(tenant);
        match event.action.as_str() {
            // Whoever killed what ran before has no part in what becomes of this.
            "start" => (run.started, run.killed) = (Some(now), None),
            "kill" => (run.killed, run.exit) = (Some(now), None),
            "die" if !busy => self.exited(tenant, event.exit_code, now),
            _ => {}
        }
    }

    /// A container ended. One that nobody killed may do so again: its next starts are slowed down.
    fn exited(&mut self, tenant: &str, code: Option<i64>, now: Instant) {
        let (retry, back) = (self.retry(), self.engine_back);
        let run = self.run_of(tenant);
        if is_explained(run, back) {
            return;
        }
        let rapid = run.started.is_some_and(|started| now.duration_since(started) < RAPID);
        run.exits = if rapid { run.exits + 1 } else { 0 };
        let exits = run.exits;
        let code = code.map_or_else(String::new, |code| format!(" with exit code {code}"));
        let reason = format!("its container ended by itself{code}; `tenantd logs` shows what it printed");
        run.exit = Some((now, reason));
        self.next_tick = now;
        if exits > FREE_EXITS {
            self.queue.strike(tenant, exits - FREE_EXITS, retry, now);
        }
    }

    /// What is due by time alone.
    pub(super) async fn time_passed(&mut self) {
        let busy = !(self.state.pins.is_empty() && self.state.suspended.is_empty())
            || self.state_error.is_some()
            || self.journal.error().is_some();
        self.next_tick = Instant::now() + if busy { TICK } else { IDLE_TICK };
        // So that they tell since when, whoever asks later.
        drop(self.conditions());
        self.settle_exits().await;
        self.prove();
        self.retry_pending().await;
        if self.state_error.is_some() {
            self.save();
        }
        if self.journal.error().is_some() && self.journal.retry().await.is_ok() {
            tracing::info!("the journal can be written again");
            self.queue.forgive_all();
        }
        let now = Timestamp::now();
        let expired: Vec<String> = self
            .state
            .suspended
            .iter()
            .filter(|(_, suspension)| suspension.until <= now)
            .map(|(name, _)| name.clone())
            .collect();
        for tenant in expired {
            self.state.suspended.remove(&tenant);
            self.state_unsaved = true;
            tracing::info!(tenant, "its suspension is over");
            self.record(Entry::Resumed { tenant: tenant.clone(), by: "expiry".to_owned() }).await;
            self.queue.mark(&tenant, Trigger::FullPass, Instant::now(), Duration::ZERO);
        }
    }

    /// Begins a snapshot where the host's settings say that it is time for one. A daemon that is busy makes one later.
    pub(super) fn snapshot_if_due(&mut self, engine: &Arc<Engine>) {
        let is_due = self.next_snapshot.is_some_and(|due| due <= Instant::now());
        if self.host.snapshot.every.is_some() && is_due && self.surveyed && !self.surveying {
            self.next_snapshot = None;
            let making = work::snapshot(Arc::clone(engine), Arc::clone(&self.host));
            self.work.push(making.map(Ended::Snapshot).boxed_local());
        }
    }

    pub(super) fn snapshot_done(&mut self, result: Result<(), String>) {
        match result {
            Ok(()) => tracing::debug!("wrote a snapshot"),
            Err(error) => tracing::warn!(error, "cannot write a snapshot; the former one stands"),
        }
        let pause = self.host.snapshot.every.map_or(IDLE_TICK, Timespan::get);
        self.next_snapshot = Some(Instant::now() + pause);
    }

    /// A tenant that ended while its declaration had yet to prove good did not become healthy.
    async fn settle_exits(&mut self) {
        let (now, back, away) = (Instant::now(), self.engine_back, self.engine.is_none());
        let mut ended = Vec::new();
        for (name, run) in &mut self.runs {
            match &run.exit {
                Some((due, _)) if *due > now => self.next_tick = self.next_tick.min(*due),
                Some(_) => {
                    let reason = run.exit.take().map(|(_, reason)| reason).unwrap_or_default();
                    if !away && !is_explained(run, back) {
                        ended.push((name.clone(), reason));
                    }
                }
                None => {}
            }
        }
        for (name, reason) in ended {
            self.condemn(&name, &reason).await;
        }
    }
}

/// Whether a tenant's end is somebody's doing, or may be: it was killed, or ran since before the
/// engine's events arrived, so that a kill may not have been heard of.
fn is_explained(run: &Run, back: Option<Instant>) -> bool {
    let lately = |time: Instant| time.elapsed() < KILLED;
    let unheard = |back: Instant| lately(back) && run.started.is_none_or(|started| started < back);
    run.killed.is_some_and(lately) || back.is_some_and(unheard)
}
