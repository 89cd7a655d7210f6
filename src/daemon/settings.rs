//! The host's settings read anew.

use std::{sync::Arc, time::Instant};

use super::{Daemon, HostView, config_repo::open_mirror, events::SettingsReloaded};
use crate::{
    fault::chain,
    model::{Host, record::Trigger},
};

impl Daemon {
    /// Reads the host's settings again. Wrong ones are refused, and the old ones stay in force.
    pub(super) async fn reload_settings(&mut self) {
        let result = match (self.reload)() {
            Ok(host) => self.take_settings(host).await,
            Err(error) => Err(format!("{error:#}")),
        };
        self.reporter.report(&SettingsReloaded { error: result.err() }).await;
    }

    async fn take_settings(&mut self, host: Host) -> Result<(), String> {
        let fixed = |host: &Host| {
            let Host { engine, data_root, socket, socket_group, journal, listen, ingress, .. } = host.clone();
            let ingress = ingress.map(|ingress| (ingress.socket, ingress.user));
            (engine, data_root, socket, socket_group, journal, listen.map(|listen| listen.address), ingress)
        };
        if fixed(&host) != fixed(&self.host) {
            let what =
                "engine, dataRoot, socket, socketGroup, journal, listen.address, and ingress with its socket and user";
            return Err(format!("{what} need a restart"));
        }
        let source = host.source.clone().ok_or_else(|| "the settings name no config repo".to_owned())?;
        let mirror = match host.source == self.host.source {
            true => None,
            false => Some(open_mirror(&host, &source).await.map_err(|error| format!("{error:#}"))?),
        };
        self.web.settings.update(&host).map_err(|e| chain(&e))?;
        let host = Arc::new(host);
        if mirror.is_some() || host.verify != self.host.verify || host.approvals != self.host.approvals {
            self.repo.follow_anew(&host, &source, mirror);
        }
        if host.egress != self.host.egress {
            self.host_view = HostView::begin(&host);
        }
        if host.notify != self.host.notify {
            self.reporter.notifier.set(host.notify.clone());
        }
        if host.parallelism != self.host.parallelism {
            self.workers.resize(host.parallelism);
        }
        if host.deadlines.call != self.host.deadlines.call {
            self.view.connect_anew(&host);
        }
        if host.snapshot != self.host.snapshot {
            self.timer.snapshot_now(Instant::now());
        }
        if let Some(ingress) = &mut self.ingress {
            ingress.board.all_changed();
        }
        let approvals_differ = host.approvals != self.host.approvals;
        self.host = host;
        if approvals_differ {
            self.judge_waiting().await;
        }
        // What was refused or failed may be granted now, and what is under way may be granted no more.
        self.tenants.reset_all_backoffs();
        self.tenants.supersede_all();
        self.scan.ask(Trigger::Operator { by: "reload".to_owned() }, Instant::now());
        Ok(())
    }
}
