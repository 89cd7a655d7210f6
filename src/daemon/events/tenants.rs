//! What happens to tenants.

use std::{collections::BTreeSet, time::Duration};

use jiff::Timestamp;

use super::{DaemonEvent, notification};
use crate::{
    fault::chain,
    metrics::Metrics,
    model::{
        Entry, PowerHold, Revision, TenantPlan, TokenId,
        host::NotifyEvent,
        plan::{Blocked, Lookalike},
        record::{DriftRecord, StepResult, Trigger, Why},
        resource::Resource,
        status::Suspension,
        token::Right,
    },
    notify::Notification,
    plan::brief::{differences, drift_fields},
    reconcile::Failure,
};

/// An operator asked to leave a tenant alone.
pub(in crate::daemon) struct TenantSuspended<'a> {
    pub(in crate::daemon) tenant: &'a str,
    pub(in crate::daemon) suspension: Suspension,
}

impl DaemonEvent for TenantSuspended<'_> {
    fn log(&self) {
        let Suspension { reason, until, by } = &self.suspension;
        tracing::info!(tenant = self.tenant, reason, %until, by, "suspended");
    }

    fn records(&self) -> Vec<Entry> {
        let Suspension { reason, until, by } = self.suspension.clone();
        vec![Entry::Suspended { tenant: self.tenant.to_owned(), reason, until, by }]
    }
}

/// A tenant is reconciled again.
pub(in crate::daemon) struct TenantResumed<'a> {
    pub(in crate::daemon) tenant: &'a str,
    /// Who said so; `None` where the time of its suspension was over.
    pub(in crate::daemon) by: Option<&'a str>,
}

impl DaemonEvent for TenantResumed<'_> {
    fn log(&self) {
        let tenant = self.tenant;
        match self.by {
            Some(by) => tracing::info!(tenant, by, "resumed"),
            None => tracing::info!(tenant, "its suspension is over"),
        }
    }

    fn records(&self) -> Vec<Entry> {
        let by = self.by.unwrap_or("expiry").to_owned();
        vec![Entry::Resumed { tenant: self.tenant.to_owned(), by }]
    }
}

/// A tenant is to run, to be frozen or to sleep from now on.
pub(in crate::daemon) struct PowerGiven<'a> {
    pub(in crate::daemon) tenant: &'a str,
    pub(in crate::daemon) hold: &'a PowerHold,
}

impl DaemonEvent for PowerGiven<'_> {
    fn log(&self) {
        let PowerHold { power, reason, until, .. } = self.hold;
        tracing::info!(tenant = self.tenant, power = power.as_str(), why = %reason, until = ?until, "power");
    }

    fn records(&self) -> Vec<Entry> {
        let PowerHold { power, reason, until, .. } = self.hold.clone();
        vec![Entry::Power { tenant: self.tenant.to_owned(), power, reason, until }]
    }
}

/// A token was made that lets its bearer in to a tenant.
pub(in crate::daemon) struct TokenMinted<'a> {
    pub(in crate::daemon) tenant: &'a str,
    pub(in crate::daemon) id: &'a TokenId,
    pub(in crate::daemon) may: &'a BTreeSet<Right>,
    pub(in crate::daemon) expires: Timestamp,
    pub(in crate::daemon) by: &'a str,
}

impl DaemonEvent for TokenMinted<'_> {
    fn log(&self) {
        let Self { tenant, id, expires, by, .. } = self;
        tracing::info!(tenant, %id, %expires, by, "token made");
    }

    fn records(&self) -> Vec<Entry> {
        vec![Entry::TokenMinted {
            tenant: self.tenant.to_owned(),
            id: self.id.clone(),
            may: self.may.clone(),
            expires: self.expires,
            by: self.by.to_owned(),
        }]
    }
}

/// A token counts no more.
pub(in crate::daemon) struct TokenRevoked<'a> {
    pub(in crate::daemon) tenant: &'a str,
    pub(in crate::daemon) id: &'a TokenId,
    pub(in crate::daemon) by: &'a str,
}

impl DaemonEvent for TokenRevoked<'_> {
    fn log(&self) {
        let Self { tenant, id, by } = self;
        tracing::info!(tenant, %id, by, "token revoked");
    }

    fn records(&self) -> Vec<Entry> {
        let (tenant, by) = (self.tenant.to_owned(), self.by.to_owned());
        vec![Entry::TokenRevoked { tenant, id: self.id.clone(), by }]
    }
}

/// Something is in the way of a tenant.
pub(in crate::daemon) struct TenantBlocked<'a> {
    pub(in crate::daemon) tenant: &'a str,
    pub(in crate::daemon) blocked: &'a Blocked,
    pub(in crate::daemon) in_force: Option<Revision>,
}

impl DaemonEvent for TenantBlocked<'_> {
    fn log(&self) {
        let Blocked { code, reason, .. } = self.blocked;
        tracing::warn!(tenant = self.tenant, code = code.as_str(), reason, "blocked");
    }

    fn notification(&self) -> Option<Notification> {
        let message = format!("{}: {}", self.blocked.code, self.blocked.reason);
        notification(NotifyEvent::Blocked, Some(self.tenant), &self.in_force, message)
    }
}

/// The steps of a tenant were carried out.
pub(in crate::daemon) struct TenantCorrected<'a> {
    pub(in crate::daemon) tenant: &'a str,
    pub(in crate::daemon) plan: &'a TenantPlan,
    pub(in crate::daemon) why: Why,
    /// What was done, in a few words.
    pub(in crate::daemon) what: &'a str,
    /// Whether it was repaired, beside being contained.
    pub(in crate::daemon) repairs: bool,
    pub(in crate::daemon) took: Duration,
    pub(in crate::daemon) in_force: Option<Revision>,
}

impl DaemonEvent for TenantCorrected<'_> {
    fn log(&self) {
        let Self { tenant, plan, why, what, repairs, .. } = self;
        let took_ms = millis(self.took);
        let done = match &plan.blocked {
            _ if !repairs || plan.is_stopped() => "contained",
            Some(_) => "made as declared, but for its disk limit",
            None => "made as declared",
        };
        tracing::info!(tenant, %why, what, took_ms, "{done}");
    }

    fn count(&self, metrics: &Metrics) {
        metrics.corrected(self.why, StepResult::Done);
        metrics.reconciled(self.took);
        if self.why == Why::Drift {
            self.plan.changes.iter().for_each(|change| metrics.drifted(change.resource));
        }
    }

    fn notification(&self) -> Option<Notification> {
        if self.why != Why::Drift {
            return None;
        }
        notification(NotifyEvent::Drift, Some(self.tenant), &self.in_force, self.what.to_owned())
    }
}

/// The steps of a tenant could not be carried out.
pub(in crate::daemon) struct CorrectionFailed<'a> {
    pub(in crate::daemon) tenant: &'a str,
    pub(in crate::daemon) plan: &'a TenantPlan,
    pub(in crate::daemon) why: Why,
    pub(in crate::daemon) failure: &'a Failure,
    pub(in crate::daemon) took: Duration,
    pub(in crate::daemon) in_force: Option<Revision>,
}

impl CorrectionFailed<'_> {
    /// Whether that is nobody's fault: the daemon ends.
    fn is_stopped(&self) -> bool {
        matches!(self.failure, Failure::Stopped)
    }
}

impl DaemonEvent for CorrectionFailed<'_> {
    fn log(&self) {
        if self.is_stopped() {
            return;
        }
        let Self { tenant, why, .. } = self;
        let took_ms = millis(self.took);
        let (differs, error) = (differences(self.plan).join(", "), chain(self.failure));
        tracing::warn!(tenant, %why, differs, error, took_ms, "could not be made as declared");
    }

    fn count(&self, metrics: &Metrics) {
        metrics.corrected(self.why, StepResult::Failed);
        metrics.reconciled(self.took);
    }

    fn notification(&self) -> Option<Notification> {
        if self.is_stopped() {
            return None;
        }
        notification(NotifyEvent::Failed, Some(self.tenant), &self.in_force, chain(self.failure))
    }
}

/// Drift was seen that is left as it is.
pub(in crate::daemon) struct DriftLeft<'a> {
    pub(in crate::daemon) tenant: &'a str,
    pub(in crate::daemon) plan: &'a TenantPlan,
    /// What differs, attribute by attribute.
    pub(in crate::daemon) differs: &'a [String],
    pub(in crate::daemon) trigger: &'a Trigger,
    pub(in crate::daemon) in_force: Option<Revision>,
}

impl DaemonEvent for DriftLeft<'_> {
    fn log(&self) {
        tracing::warn!(tenant = self.tenant, what = self.differs.join(", "), "drift, left as it is");
    }

    fn count(&self, metrics: &Metrics) {
        drift_fields(self.plan).iter().for_each(|(resource, _)| metrics.drifted(*resource));
    }

    fn records(&self) -> Vec<Entry> {
        let record = |(resource, fields): (Resource, _)| {
            Entry::Drift(DriftRecord {
                tenant: self.tenant.to_owned(),
                resource: resource.as_str().to_owned(),
                fields,
                trigger: self.trigger.clone(),
            })
        };
        drift_fields(self.plan).into_iter().map(record).collect()
    }

    fn notification(&self) -> Option<Notification> {
        let message = format!("{} differs and is left as it is", self.differs.join(", "));
        notification(NotifyEvent::Drift, Some(self.tenant), &self.in_force, message)
    }
}

/// A container was found that merely looks like a tenant's.
impl DaemonEvent for Lookalike {
    fn log(&self) {
        tracing::warn!(tenant = self.tenant, container = self.name, "{}", self.remark());
    }
}

/// A time in milliseconds, as records and logs have it.
pub(in crate::daemon) fn millis(took: Duration) -> u64 {
    u64::try_from(took.as_millis()).unwrap_or(u64::MAX)
}
