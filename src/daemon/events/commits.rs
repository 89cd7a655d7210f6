//! What becomes of commits, and of the tenants whose declarations they are.

use super::{DaemonEvent, notification};
use crate::{
    daemon::in_force::Composition,
    metrics::Metrics,
    model::{
        Entry, Revision,
        host::NotifyEvent,
        record::{RevisionRecord, Verdict},
    },
    notify::Notification,
};

/// A commit is in force.
pub(in crate::daemon) struct CommitAccepted {
    pub(in crate::daemon) revision: Revision,
    pub(in crate::daemon) signer: Option<String>,
    /// How many tenants have another declaration now, and how many files are wrong.
    pub(in crate::daemon) changed: usize,
    pub(in crate::daemon) wrong: usize,
    /// The id that was approved and who did, where the commit was held.
    pub(in crate::daemon) approved: Option<(String, String)>,
}

impl CommitAccepted {
    fn verdict(&self) -> Verdict {
        if self.approved.is_some() { Verdict::Approved } else { Verdict::Accepted }
    }
}

impl DaemonEvent for CommitAccepted {
    fn log(&self) {
        let Self { revision, signer, changed, wrong, .. } = self;
        tracing::info!(%revision, signer, changed, wrong, "a commit is in force");
    }

    fn count(&self, metrics: &Metrics) {
        metrics.judged(self.verdict());
    }

    fn records(&self) -> Vec<Entry> {
        let (plan, by) = self.approved.clone().unzip();
        vec![Entry::Revision(RevisionRecord {
            revision: self.revision.clone(),
            verdict: self.verdict(),
            signer: self.signer.clone(),
            reason: None,
            tenants: Vec::new(),
            plan,
            by,
        })]
    }
}

/// A commit waits for an operator.
pub(in crate::daemon) struct CommitHeld {
    pub(in crate::daemon) revision: Revision,
    pub(in crate::daemon) signer: Option<String>,
    pub(in crate::daemon) reason: String,
    /// The tenants that it would remove.
    pub(in crate::daemon) removed: Vec<String>,
    /// What `approve` takes.
    pub(in crate::daemon) plan: String,
    pub(in crate::daemon) in_force: Option<Revision>,
}

impl DaemonEvent for CommitHeld {
    fn log(&self) {
        let Self { revision, reason, plan, .. } = self;
        let tenants = self.removed.join(", ");
        tracing::warn!(%revision, reason, plan, tenants, "holding a commit; `tenantd approve` lets it in");
    }

    fn count(&self, metrics: &Metrics) {
        metrics.judged(Verdict::Held);
    }

    fn records(&self) -> Vec<Entry> {
        vec![Entry::Revision(RevisionRecord {
            revision: self.revision.clone(),
            verdict: Verdict::Held,
            signer: self.signer.clone(),
            reason: Some(self.reason.clone()),
            tenants: self.removed.clone(),
            plan: Some(self.plan.clone()),
            by: None,
        })]
    }

    fn notification(&self) -> Option<Notification> {
        let Self { revision, reason, plan, .. } = self;
        let message = format!("{revision} is held: {reason}; `tenantd approve {plan}` lets it in");
        notification(NotifyEvent::Held, None, &self.in_force, message)
    }
}

/// A commit cannot be carried out.
pub(in crate::daemon) struct CommitRefused {
    pub(in crate::daemon) revision: Revision,
    /// One word.
    pub(in crate::daemon) kind: &'static str,
    pub(in crate::daemon) reason: String,
    pub(in crate::daemon) in_force: Option<Revision>,
}

impl DaemonEvent for CommitRefused {
    fn log(&self) {
        let Self { revision, kind, reason, .. } = self;
        tracing::warn!(%revision, kind, reason, "refused a commit; the last one stays in force");
    }

    fn count(&self, metrics: &Metrics) {
        metrics.judged(Verdict::Refused);
    }

    fn records(&self) -> Vec<Entry> {
        vec![Entry::Revision(RevisionRecord {
            revision: self.revision.clone(),
            verdict: Verdict::Refused,
            signer: None,
            reason: Some(self.reason.clone()),
            tenants: Vec::new(),
            plan: None,
            by: None,
        })]
    }

    fn notification(&self) -> Option<Notification> {
        let message = format!("{} is refused: {}", self.revision, self.reason);
        notification(NotifyEvent::Held, None, &self.in_force, message)
    }
}

/// What loosens a tenant came into force because somebody approved it who may.
pub(in crate::daemon) struct TenantApproved {
    pub(in crate::daemon) tenant: String,
    pub(in crate::daemon) revision: Revision,
    pub(in crate::daemon) loosens: Vec<String>,
    pub(in crate::daemon) by: String,
}

impl DaemonEvent for TenantApproved {
    fn log(&self) {
        let Self { tenant, revision, by, .. } = self;
        tracing::info!(tenant, %revision, by, "what loosens is approved");
    }

    fn records(&self) -> Vec<Entry> {
        let Self { tenant, revision, loosens, by } = self;
        vec![Entry::Approved {
            tenant: tenant.clone(),
            revision: revision.clone(),
            loosens: loosens.clone(),
            by: by.clone(),
        }]
    }
}

/// A tenant waits for no approval any more: what it waited for is declared no more.
pub(in crate::daemon) struct WaitWithdrawn {
    pub(in crate::daemon) tenant: String,
    pub(in crate::daemon) revision: Revision,
}

impl DaemonEvent for WaitWithdrawn {
    fn log(&self) {
        tracing::debug!(tenant = self.tenant, revision = %self.revision, "waits for no approval any more");
    }

    fn records(&self) -> Vec<Entry> {
        vec![Entry::Withdrawn { tenant: self.tenant.clone(), revision: self.revision.clone() }]
    }
}

/// A commit loosens a tenant, which stays as it was until somebody approves that.
pub(in crate::daemon) struct TenantWaiting {
    pub(in crate::daemon) tenant: String,
    pub(in crate::daemon) revision: Revision,
    /// What it waits for and where it stands, in words.
    pub(in crate::daemon) text: String,
    pub(in crate::daemon) stands: Option<Composition>,
    pub(in crate::daemon) loosens: Vec<String>,
    pub(in crate::daemon) approvers: Vec<String>,
    pub(in crate::daemon) in_force: Option<Revision>,
}

impl DaemonEvent for TenantWaiting {
    fn log(&self) {
        tracing::warn!(tenant = self.tenant, revision = %self.revision, "{}", self.text);
    }

    fn records(&self) -> Vec<Entry> {
        vec![Entry::Waiting {
            tenant: self.tenant.clone(),
            revision: self.revision.clone(),
            at: self.stands.as_ref().map(|at| at.base.clone()),
            narrowed_by: narrowed_by(self.stands.as_ref()),
            loosens: self.loosens.clone(),
            approvers: self.approvers.clone(),
        }]
    }

    fn notification(&self) -> Option<Notification> {
        notification(NotifyEvent::Held, Some(&self.tenant), &self.in_force, self.text.clone())
    }
}

/// A commit is bad for a tenant, which goes back to an older one as far as that is not looser.
pub(in crate::daemon) struct TenantMarkedBad {
    pub(in crate::daemon) tenant: String,
    pub(in crate::daemon) revision: Revision,
    pub(in crate::daemon) back_to: Option<Composition>,
    pub(in crate::daemon) reason: String,
    pub(in crate::daemon) in_force: Option<Revision>,
}

impl TenantMarkedBad {
    fn target(&self) -> String {
        self.back_to.as_ref().map_or_else(|| "nothing; it is left as it is".to_owned(), Composition::words)
    }
}

impl DaemonEvent for TenantMarkedBad {
    fn log(&self) {
        let Self { tenant, revision, reason, .. } = self;
        tracing::warn!(tenant, %revision, reason, back_to = self.target(), "a commit is bad for a tenant");
    }

    fn records(&self) -> Vec<Entry> {
        vec![Entry::Bad {
            tenant: self.tenant.clone(),
            revision: self.revision.clone(),
            back_to: self.back_to.as_ref().map(|at| at.base.clone()),
            narrowed_by: narrowed_by(self.back_to.as_ref()),
            reason: self.reason.clone(),
        }]
    }

    fn notification(&self) -> Option<Notification> {
        let Self { tenant, revision, reason, in_force, .. } = self;
        let message = format!("{revision} is bad for it: {reason}; back to {}", self.target());
        notification(NotifyEvent::Failed, Some(tenant), in_force, message)
    }
}

/// A tenant did not run well, and nothing else can be started in the place of what is in force.
pub(in crate::daemon) struct NothingToGoBackTo<'a> {
    pub(in crate::daemon) tenant: &'a str,
    pub(in crate::daemon) reason: &'a str,
}

impl DaemonEvent for NothingToGoBackTo<'_> {
    fn log(&self) {
        let Self { tenant, reason } = self;
        tracing::warn!(
            tenant,
            reason,
            "what last ran well is looser; as far as it is not, it starts nothing else than what is in force"
        );
    }
}

fn narrowed_by(at: Option<&Composition>) -> Vec<Revision> {
    at.map(|at| at.narrowed_by.clone()).unwrap_or_default()
}
