//! What the engine and the host report.

use std::time::{Duration, Instant};

use jiff::Timestamp;

use super::{
    Daemon,
    link::LinkNews,
    tenants::{ContainerEvent, PAUSE},
};
use crate::{
    engine::EngineEvent,
    host::HostChange,
    model::{TenantName, record::Trigger},
};

/// Images change in bursts: how long they are waited for.
const IMAGES: Duration = Duration::from_secs(1);

/// What containers do that changes nothing: reading, and running commands in them.
const HARMLESS: [&str; 8] = ["exec_", "top", "attach", "detach", "resize", "export", "archive-path", "extract-to-dir"];

impl Daemon {
    pub(super) fn engine_news(&mut self, news: LinkNews) {
        let now = Instant::now();
        match news {
            LinkNews::Up(engine) => {
                tracing::info!(api = %engine.api(), "the engine answers");
                self.view.is_up(engine, now);
                // Whatever was known of it may have changed while its events did not arrive.
                self.scan.forget();
                // What failed while it was away may succeed now.
                self.tenants.reset_all_backoffs();
                self.scan.ask(Trigger::Start, now);
            }
            LinkNews::EventsUnavailable(engine, reason) => {
                if self.view.is_up_without_events(engine) {
                    tracing::warn!(reason, "the engine answers and its event stream fails; only full scans show drift");
                    self.tenants.reset_all_backoffs();
                    self.scan.ask(Trigger::Start, now);
                }
            }
            LinkNews::Down(reason) => {
                if self.view.is_down(reason.clone()) {
                    tracing::warn!(reason, "the engine is away; waiting for it");
                }
            }
            LinkNews::Event(event) => self.event(*event),
        }
    }

    fn event(&mut self, event: EngineEvent) {
        let known = HARMLESS.iter().any(|harmless| event.action.starts_with(harmless));
        if known {
            return;
        }
        self.reporter.metrics.engine_event(&event.kind);
        let now = Instant::now();
        let trigger = Trigger::Event {
            event: format!("{} {}", event.kind, event.action),
            object: event.id.clone(),
            time: event.time,
        };
        let tenants: Vec<String> = match event.kind.as_str() {
            "container" => event.tenant.clone().or_else(|| self.tenant_by_name(&event.name)).into_iter().collect(),
            "network" => {
                let by_name = self.tenant_by_name(&event.name);
                let by_container = event.container.as_ref().and_then(|id| self.view.objects.owner(id)).cloned();
                if event.container.is_some() && by_container.is_none() && !self.scan.is_complete() {
                    self.scan.ask(trigger, now + PAUSE);
                    return;
                }
                by_name.into_iter().chain(by_container).collect()
            }
            // The engine read its configuration again: it may have other runtimes now.
            "daemon" => {
                self.scan.ask(trigger, now + PAUSE);
                return;
            }
            _ => {
                if !self.view.runtimes.is_image_of_test(&event.id, &event.name) {
                    self.scan.ask(trigger, now + IMAGES);
                }
                return;
            }
        };
        for tenant in tenants {
            if tenant.parse::<TenantName>().is_err() {
                // Whatever carries such a label is removed by a full scan.
                self.scan.ask(trigger.clone(), now + PAUSE);
                continue;
            }
            if event.tenant.is_some() && self.view.objects.is_of(&tenant, &event.id, &event.name) {
                self.container_event(&tenant, &event, now);
            }
            self.scan.touch(&tenant);
            self.tenants.mark(&tenant, trigger.clone(), now, PAUSE);
        }
    }

    /// Something may have happened beside the engine.
    pub(super) fn host_news(&mut self, change: HostChange) {
        let now = Instant::now();
        let trigger = |event: &str, object: &str| Trigger::Event {
            event: event.to_owned(),
            object: object.to_owned(),
            time: Timestamp::now(),
        };
        let desired = self.in_force.effective().cloned().unwrap_or_default();
        let (trigger, tenants): (Trigger, Vec<String>) = match change {
            HostChange::Interface(name) => {
                let is_its = |tenant: &&TenantName| [tenant.link_name(), tenant.interface_name()].contains(&name);
                let tenant = desired.tenants.keys().find(is_its);
                (trigger("egress link", &name), tenant.map(ToString::to_string).into_iter().collect())
            }
            HostChange::Workspace(name) => (trigger("workspace mount", &name), vec![name]),
            HostChange::Tenant(name) => (trigger("egress file", &name), vec![name]),
            HostChange::Secrets => {
                let routed = desired.tenants.values().filter(|tenant| !tenant.routes.is_empty());
                let routed: Vec<String> = routed.map(|tenant| tenant.name.to_string()).collect();
                if routed.is_empty() {
                    return;
                }
                (trigger("egress secret", ""), routed)
            }
        };
        // What is nobody's is found by a full scan.
        if tenants.is_empty() || tenants.iter().any(|tenant| !desired.mentions(tenant)) {
            self.scan.ask(trigger, now + PAUSE);
            return;
        }
        for tenant in tenants {
            self.scan.touch(&tenant);
            self.tenants.mark(&tenant, trigger.clone(), now, PAUSE);
        }
    }

    /// The tenant that an object of this name is, or pretends to be.
    fn tenant_by_name(&self, name: &str) -> Option<String> {
        self.view.objects.tenant_by_name(name, |name| self.in_force.tenant(name).is_some())
    }

    /// Something happened to a tenant's container.
    fn container_event(&mut self, tenant: &str, event: &EngineEvent, now: Instant) {
        if event.action == "destroy" {
            self.view.objects.vanished(&event.id);
        } else {
            self.view.objects.appeared(&event.id, tenant);
        }
        let what = match event.action.as_str() {
            "start" => ContainerEvent::Started,
            "kill" => ContainerEvent::Killed,
            "die" => ContainerEvent::Died { exit_code: event.exit_code },
            _ => ContainerEvent::Other,
        };
        let runs = match what {
            ContainerEvent::Started => Some(true),
            ContainerEvent::Died { .. } => Some(false),
            ContainerEvent::Killed | ContainerEvent::Other => None,
        };
        if runs.is_some_and(|runs| self.tenants.container_runs(tenant, &event.id, runs)) {
            self.note_conditions(tenant);
        }
        if let Some(at) = self.tenants.container_event(tenant, what, self.view.back, self.in_force.retry(), now) {
            self.timer.check_at(at);
        }
    }
}
