//! How one tenant stands, and the conditions that say so.

use std::time::Instant;

use jiff::Timestamp;

use super::state::{Bad, Waits};
use crate::model::{
    Revision,
    plan::Blocked,
    status::{Condition, ConditionKind, Correction, Suspension, TenantStatus, Truth},
};

/// What is remembered of a tenant between two looks.
#[derive(Debug, Default)]
pub(super) struct Run {
    /// Whether the declaration in force was reached before; `None` where that is not known.
    pub(super) reached: Option<bool>,
    /// Whether it was looked at since the daemon began.
    pub(super) seen: bool,
    /// What differs from the declaration.
    pub(super) differs: Vec<String>,
    /// What is in the way.
    pub(super) blocked: Option<Blocked>,
    /// Why the last try failed.
    pub(super) failure: Option<String>,
    /// Repairs since it was last as declared: one that does not last is no repair.
    pub(super) repairs: u32,
    /// Failures of the declaration in force that may be the declaration's own fault.
    pub(super) faults: u32,
    /// Since when it is as declared.
    pub(super) in_order: Option<Instant>,
    /// When its container was last started, and killed by somebody.
    pub(super) started: Option<Instant>,
    pub(super) killed: Option<Instant>,
    /// Exits by itself, each shortly after a start.
    pub(super) exits: u32,
    /// The last exit by itself that was not judged yet, and from when on it may be.
    pub(super) exit: Option<(Instant, String)>,
    /// The last correction.
    pub(super) last: Option<Correction>,
    /// Drift that is on record and not repaired.
    pub(super) warned: Vec<String>,
    /// The conditions as they were last, and since when.
    shown: Vec<Shown>,
}

/// A condition as it was last.
pub(super) type Shown = (ConditionKind, Truth, &'static str, Timestamp);

/// A condition as it is judged: its kind, status, reason and message.
pub(super) type Judged = (ConditionKind, Truth, &'static str, String);

/// A condition as it is shown, with the time since when it is so.
pub(super) fn condition(shown: &mut Vec<Shown>, (kind, status, reason, message): Judged) -> Condition {
    Condition { kind, status, reason: reason.to_owned(), message, since: since(shown, kind, status, reason) }
}

/// Since when a condition is as it is.
fn since(shown: &mut Vec<Shown>, kind: ConditionKind, status: Truth, reason: &'static str) -> Timestamp {
    let former = shown.iter().position(|(former, ..)| *former == kind);
    let since = match former.map(|index| shown.swap_remove(index)) {
        Some((_, was, why, since)) if (was, why) == (status, reason) => since,
        _ => Timestamp::now(),
    };
    shown.push((kind, status, reason, since));
    since
}

/// What is known of a tenant from elsewhere.
pub(super) struct Around<'a> {
    pub(super) name: &'a str,
    pub(super) revision: Option<&'a Revision>,
    /// Whether a commit declares it, and the declaration can be used.
    pub(super) declared: bool,
    /// Whether its file is wrong in the newest commit.
    pub(super) file_wrong: bool,
    pub(super) bad: Option<&'a Bad>,
    /// What its newest declaration waits for.
    pub(super) waits: Option<&'a Waits>,
    /// Whether the declaration in force has yet to prove good.
    pub(super) on_trial: bool,
    pub(super) suspended: Option<&'a Suspension>,
    /// Whether it is worked on or waits for that.
    pub(super) working: bool,
    /// When it is tried again after failures.
    pub(super) next_try: Option<Timestamp>,
    /// Whether drift is left as it is.
    pub(super) only_warned: bool,
}

impl Run {
    /// Whether it is as declared, as far as is known.
    pub(super) fn is_in_order(&self) -> bool {
        self.seen && self.differs.is_empty() && self.blocked.is_none() && self.failure.is_none()
    }

    /// How it stands, in the form that is shown. Conditions keep their time as long as they do not change.
    pub(super) fn status(&mut self, around: &Around<'_>) -> TenantStatus {
        let judged = self.judge(around);
        TenantStatus {
            tenant: around.name.to_owned(),
            revision: around.revision.cloned(),
            conditions: judged.into_iter().map(|judged| condition(&mut self.shown, judged)).collect(),
            drift: if self.has_drifted() { self.differs.clone() } else { Vec::new() },
            last_correction: self.last.clone(),
            suspended: around.suspended.cloned(),
            next_try: around.next_try,
        }
    }

    /// Takes note of how it stands, so that its conditions tell since when, whoever asks later.
    pub(super) fn note(&mut self, around: &Around<'_>) {
        for (kind, status, reason, _) in self.judge(around) {
            since(&mut self.shown, kind, status, reason);
        }
    }

    fn has_drifted(&self) -> bool {
        !self.differs.is_empty() && self.reached != Some(false)
    }

    fn judge(&self, around: &Around<'_>) -> [Judged; 5] {
        let (ready, reason, message) = self.ready(around);
        let drifted = self.has_drifted();
        let stalled =
            matches!(reason, "Blocked" | "ReconciliationFailed" | "BadCommit" | "ApprovalNeeded" | "InvalidFile");
        let healthy = match (self.seen, self.is_in_order() && self.reached != Some(false), around.on_trial) {
            (true, true, false) => (Truth::True, "Running"),
            (true, true, true) => (Truth::Unknown, "Progressing"),
            (true, false, _) => (Truth::False, "NotAsDeclared"),
            (false, ..) => (Truth::Unknown, "NotLookedAt"),
        };
        let (stall, stalled_by) = if stalled { (reason, message.clone()) } else { ("NotStalled", String::new()) };
        let progress = if around.working { "Progressing" } else { "Idle" };
        let drift = if drifted { ("DriftDetected", self.differs.join(", ")) } else { ("InSync", String::new()) };
        [
            (ConditionKind::Ready, ready, reason, message),
            (ConditionKind::Reconciling, around.working.into(), progress, String::new()),
            (ConditionKind::Stalled, stalled.into(), stall, stalled_by),
            (ConditionKind::Healthy, healthy.0, healthy.1, String::new()),
            (ConditionKind::Drifted, drifted.into(), drift.0, drift.1),
        ]
    }

    fn ready(&self, around: &Around<'_>) -> (Truth, &'static str, String) {
        if let Some(suspended) = around.suspended {
            let Suspension { reason, until, by } = suspended;
            return (Truth::False, "Suspended", format!("left alone until {until} by {by}: {reason}"));
        }
        if let Some(blocked) = &self.blocked {
            let Blocked { code, reason, help } = blocked;
            return (Truth::False, "Blocked", format!("{code}: {reason}; {help}"));
        }
        if let Some(failure) = &self.failure {
            return (Truth::False, "ReconciliationFailed", failure.clone());
        }
        if let Some(waits) = around.waits {
            return (Truth::False, "ApprovalNeeded", waits.to_string());
        }
        if let Some(bad) = around.bad {
            let stands = around.revision.as_ref().filter(|_| around.declared);
            let stands =
                stands.map_or_else(|| "it is left as it is".to_owned(), |at| format!("it stands at {}", at.short()));
            return (
                Truth::False,
                "BadCommit",
                format!("{} is bad for it: {}; {stands}", bad.revision.short(), bad.reason),
            );
        }
        if around.file_wrong {
            let stands = match (&around.revision, around.declared) {
                (Some(revision), true) => format!("its file has errors; it stands at {}", revision.short()),
                _ => "its file has errors, and no older one is known; it is left as it is".to_owned(),
            };
            return (Truth::False, "InvalidFile", stands);
        }
        if !self.seen {
            return (Truth::Unknown, "Progressing", "it has not been looked at yet".to_owned());
        }
        if self.reached == Some(false) && self.differs.is_empty() {
            return (Truth::False, "Progressing", "its declaration changed, and is about to be carried out".to_owned());
        }
        if !self.differs.is_empty() {
            return if around.only_warned && self.reached != Some(false) {
                (Truth::False, "DriftDetected", "drift is not repaired, because driftDetection.mode says so".to_owned())
            } else {
                (Truth::False, "Progressing", "it is being made as declared".to_owned())
            };
        }
        if around.on_trial {
            return (Truth::True, "ReconciliationSucceeded", "as declared, and watched for a while".to_owned());
        }
        (Truth::True, "ReconciliationSucceeded", "as declared".to_owned())
    }
}
