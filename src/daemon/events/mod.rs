//! What happens, and all that is said of it: one type for each event has the line of the log, the count, the record of the
//! journal and the notification, so that they cannot drift apart.

mod commits;
mod tenants;

pub(super) use commits::{
    CommitAccepted, CommitHeld, CommitRefused, NothingToGoBackTo, TenantApproved, TenantMarkedBad, TenantWaiting,
    WaitWithdrawn,
};
pub(super) use tenants::{
    CorrectionFailed, DriftLeft, PowerGiven, TenantBlocked, TenantCorrected, TenantResumed, TenantSuspended,
    TokenMinted, TokenRevoked, millis,
};

use crate::{
    metrics::Metrics,
    model::{Entry, Revision, host::NotifyEvent},
    notify::Notification,
};

/// Something that happened. Where nothing is counted, recorded or notified, nobody needs that.
pub(super) trait DaemonEvent {
    fn log(&self);

    fn count(&self, _metrics: &Metrics) {}

    fn records(&self) -> Vec<Entry> {
        Vec::new()
    }

    fn notification(&self) -> Option<Notification> {
        None
    }
}

/// The daemon began; its first record is what shows that the journal can be written.
pub(super) fn started() -> Entry {
    Entry::Started { program: "daemon".to_owned(), version: env!("CARGO_PKG_VERSION").to_owned() }
}

/// The daemon ended in good order.
pub(super) struct DaemonStopped;

impl DaemonEvent for DaemonStopped {
    fn log(&self) {
        tracing::debug!("ended");
    }

    fn records(&self) -> Vec<Entry> {
        vec![Entry::Stopped { program: "daemon".to_owned() }]
    }
}

/// The host's settings were read again.
pub(super) struct SettingsReloaded {
    /// What was refused, if so.
    pub(super) error: Option<String>,
}

impl DaemonEvent for SettingsReloaded {
    fn log(&self) {
        match &self.error {
            None => tracing::info!("the host's settings are read again"),
            Some(error) => {
                tracing::error!(error, "the host's settings are refused; the former ones stay in force");
            }
        }
    }

    fn records(&self) -> Vec<Entry> {
        vec![Entry::Reloaded { error: self.error.clone() }]
    }
}

fn notification(
    event: NotifyEvent,
    tenant: Option<&str>,
    in_force: &Option<Revision>,
    message: String,
) -> Option<Notification> {
    Some(Notification { event, tenant: tenant.map(str::to_owned), revision: in_force.clone(), message })
}
