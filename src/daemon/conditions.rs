//! How the conditions of the daemon and of each tenant are judged, and since when they are as they are. Pure.

#![cfg_attr(not(test), deny(clippy::disallowed_methods, clippy::disallowed_types))]

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::{
    in_force::{Bad, Composition, Waits, stands_at},
    tenants::{TenantRuntime, UNHEALTHY},
};
use crate::model::{
    Power, PowerHold, Revision,
    observed::Health,
    plan::Blocked,
    status::{Condition, ConditionKind, EngineStatus, HeldRevision, Reason, SourceStatus, Suspension, Truth},
};

/// The most tenants whose conditions are remembered: as many as files are read.
const MOST_TENANTS: usize = crate::source::MAX_FILES;

/// The conditions as they were last, and since when: they keep their time as long as status and reason do.
#[derive(Debug, Default)]
pub(super) struct Conditions {
    daemon: History,
    tenants: BTreeMap<String, History>,
}

#[derive(Debug, Default)]
struct History(Vec<(ConditionKind, Truth, Reason, Timestamp)>);

impl Conditions {
    /// How the daemon as a whole is judged.
    pub(super) fn of_daemon(&mut self, context: &DaemonContext<'_>, now: Timestamp) -> Vec<Condition> {
        judge_daemon(context).map(|(kind, judged)| self.daemon.note(kind, judged, now)).collect()
    }

    /// How a tenant is judged.
    pub(super) fn of_tenant(
        &mut self,
        runtime: &TenantRuntime,
        context: &TenantContext<'_>,
        now: Timestamp,
    ) -> Vec<Condition> {
        let mut history = self.tenants.remove(context.name).unwrap_or_default();
        let judged = judge_tenant(runtime, context).map(|(kind, judged)| history.note(kind, judged, now)).collect();
        if self.tenants.len() < MOST_TENANTS {
            self.tenants.insert(context.name.to_owned(), history);
        }
        judged
    }

    /// Forgets the tenants that are gone.
    pub(super) fn retain(&mut self, is_there: impl Fn(&str) -> bool) {
        self.tenants.retain(|name, _| is_there(name));
    }

    /// Forgets a tenant that is gone.
    pub(super) fn forget(&mut self, tenant: &str) {
        self.tenants.remove(tenant);
    }
}

impl History {
    fn note(&mut self, kind: ConditionKind, judged: Judgement, now: Timestamp) -> Condition {
        let Judgement { status, reason, message } = judged;
        let former = self.0.iter().position(|(former, ..)| *former == kind);
        let since = match former.map(|index| self.0.swap_remove(index)) {
            Some((_, was, why, since)) if (was, why) == (status, reason) => since,
            _ => now,
        };
        self.0.push((kind, status, reason, since));
        Condition { kind, status, reason, message, since }
    }
}

/// A condition as it is judged.
#[derive(Clone)]
struct Judgement {
    status: Truth,
    reason: Reason,
    message: String,
}

impl Judgement {
    fn new(status: impl Into<Truth>, reason: Reason, message: impl Into<String>) -> Self {
        Self { status: status.into(), reason, message: message.into() }
    }
}

/// What is known of a tenant, beside what is remembered of it.
pub(super) struct TenantContext<'a> {
    pub(super) name: &'a str,
    /// The commits whose declaration is in force.
    pub(super) stands: Option<&'a Composition>,
    /// Whether a commit declares it, and the declaration can be used.
    pub(super) declared: bool,
    /// Whether its file is wrong in the newest commit.
    pub(super) file_wrong: bool,
    pub(super) bad: Option<&'a Bad>,
    /// What its newest declaration waits for.
    pub(super) waits: Option<&'a Waits>,
    /// Whether the declaration in force is not confirmed healthy yet.
    pub(super) on_trial: bool,
    pub(super) suspended: Option<&'a Suspension>,
    /// What it was asked to do, if it was.
    pub(super) power: Option<&'a PowerHold>,
    /// Whether it is worked on or waits for that.
    pub(super) working: bool,
    /// When it is tried again after failures.
    pub(super) next_try: Option<Timestamp>,
    /// Whether drift is left as it is.
    pub(super) only_warned: bool,
}

/// A tenant's conditions.
fn judge_tenant(
    runtime: &TenantRuntime,
    context: &TenantContext<'_>,
) -> impl Iterator<Item = (ConditionKind, Judgement)> {
    let ready = ready(runtime, context);
    ConditionKind::ALL.into_iter().filter_map(move |kind| {
        let judged = match kind {
            ConditionKind::Ready => ready.clone(),
            ConditionKind::Reconciling => {
                let reason = if context.working { Reason::Progressing } else { Reason::Idle };
                Judgement::new(context.working, reason, "")
            }
            ConditionKind::Stalled if ready.reason.stalls_tenant() => {
                Judgement::new(true, ready.reason, ready.message.as_str())
            }
            ConditionKind::Stalled => Judgement::new(false, Reason::NotStalled, ""),
            ConditionKind::Healthy => healthy(runtime, context),
            ConditionKind::Drifted if runtime.has_drifted() => {
                Judgement::new(true, Reason::DriftDetected, runtime.differs.join(", "))
            }
            ConditionKind::Drifted => Judgement::new(false, Reason::InSync, ""),
            ConditionKind::SourceVerified => return None,
        };
        Some((kind, judged))
    })
}

/// What has a tenant do anything but run, and the reason as conditions have it.
fn rest<'a>(context: &TenantContext<'a>) -> Option<(&'a PowerHold, Reason)> {
    let hold = context.power?;
    match hold.power {
        Power::Running => None,
        Power::Paused => Some((hold, Reason::Paused)),
        Power::Asleep => Some((hold, Reason::Asleep)),
    }
}

fn healthy(runtime: &TenantRuntime, context: &TenantContext<'_>) -> Judgement {
    if !runtime.seen {
        return Judgement::new(Truth::Unknown, Reason::NotLookedAt, "");
    }
    if !runtime.is_in_order() || runtime.reached == Some(false) {
        return Judgement::new(false, Reason::NotAsDeclared, "");
    }
    if let Some((_, reason)) = rest(context) {
        return Judgement::new(Truth::Unknown, reason, "");
    }
    match runtime.health {
        Health::Unhealthy => {
            Judgement::new(false, Reason::Unhealthy, format!("{UNHEALTHY}; `docker inspect` shows what it said"))
        }
        Health::Starting => {
            let message = "the health check of its image has not succeeded yet";
            Judgement::new(Truth::Unknown, Reason::Progressing, message)
        }
        Health::Unchecked | Health::Healthy if context.on_trial => {
            Judgement::new(Truth::Unknown, Reason::Progressing, "")
        }
        Health::Unchecked | Health::Healthy => Judgement::new(true, Reason::Running, ""),
    }
}

fn ready(runtime: &TenantRuntime, context: &TenantContext<'_>) -> Judgement {
    if let Some(Suspension { reason, until, by }) = context.suspended {
        return Judgement::new(false, Reason::Suspended, format!("left alone until {until} by {by}: {reason}"));
    }
    if let Some(Blocked { code, reason, help }) = &runtime.blocked {
        return Judgement::new(false, Reason::Blocked, format!("{code}: {reason}; {help}"));
    }
    if let Some(failure) = &runtime.failure {
        return Judgement::new(false, Reason::ReconciliationFailed, failure.clone());
    }
    let declared_at = context.stands.filter(|_| context.declared);
    if let Some(waits) = context.waits {
        let stands = match declared_at {
            None if context.bad.is_some() => "it is left as it is".to_owned(),
            stands => stands_at(stands),
        };
        return Judgement::new(false, Reason::ApprovalNeeded, format!("{waits}; {stands}"));
    }
    if let Some(bad) = context.bad {
        let stands = declared_at.map_or_else(|| "it is left as it is".to_owned(), |at| stands_at(Some(at)));
        let message = format!("{} is bad for it: {}; {stands}", bad.revision.short(), bad.reason);
        return Judgement::new(false, Reason::BadCommit, message);
    }
    if context.file_wrong {
        let stands = match declared_at {
            Some(at) => format!("its file has errors; {}", stands_at(Some(at))),
            None => "its file has errors, and no older one is known; it is left as it is".to_owned(),
        };
        return Judgement::new(false, Reason::InvalidFile, stands);
    }
    if !runtime.seen {
        return Judgement::new(Truth::Unknown, Reason::Progressing, "it has not been observed yet");
    }
    if runtime.reached == Some(false) && runtime.differs.is_empty() {
        let message = "its declaration changed, and is about to be carried out";
        return Judgement::new(false, Reason::Progressing, message);
    }
    if !runtime.differs.is_empty() {
        return if context.only_warned && runtime.reached != Some(false) {
            let message = "drift is not repaired, because driftDetection.mode says so";
            Judgement::new(false, Reason::DriftDetected, message)
        } else {
            Judgement::new(false, Reason::Progressing, "it is being made as declared")
        };
    }
    if let Some((PowerHold { power, reason: why, until, .. }, reason)) = rest(context) {
        let until = until.map_or_else(String::new, |until| format!(" until {until}"));
        return Judgement::new(true, reason, format!("{}{until}, {why}", power.as_str()));
    }
    let message = if context.on_trial { "as declared, and watched for a while" } else { "as declared" };
    Judgement::new(true, Reason::ReconciliationSucceeded, message)
}

/// What is known of the daemon as a whole.
pub(super) struct DaemonContext<'a> {
    /// Why the state cannot be kept, and why the journal cannot be written.
    pub(super) state_error: Option<String>,
    pub(super) journal_error: Option<String>,
    pub(super) engine: &'a EngineStatus,
    pub(super) source: &'a SourceStatus,
    /// The commit in force.
    pub(super) in_force: Option<&'a Revision>,
    /// Whether everything was observed since the engine answers.
    pub(super) scanned: bool,
    /// What the signatures of the newest commit said; `None` where they are not checked.
    pub(super) verified: Option<&'a Result<String, String>>,
}

/// The conditions of the daemon as a whole.
fn judge_daemon(context: &DaemonContext<'_>) -> impl Iterator<Item = (ConditionKind, Judgement)> {
    let stalled = stalled(context);
    ConditionKind::ALL.into_iter().filter_map(move |kind| {
        let judged = match kind {
            ConditionKind::Ready => daemon_ready(context, stalled.as_ref()),
            ConditionKind::Stalled => match &stalled {
                Some((reason, message)) => Judgement::new(true, *reason, message.as_str()),
                None => Judgement::new(false, Reason::NotStalled, ""),
            },
            ConditionKind::SourceVerified => match context.verified {
                None => {
                    let message = "verify.mode is none: signatures are not checked";
                    Judgement::new(Truth::Unknown, Reason::NotVerified, message)
                }
                Some(Ok(signer)) => Judgement::new(true, Reason::Verified, format!("signed by {signer}")),
                Some(Err(reason)) => Judgement::new(false, Reason::Unverified, reason.as_str()),
            },
            ConditionKind::Reconciling | ConditionKind::Healthy | ConditionKind::Drifted => return None,
        };
        Some((kind, judged))
    })
}

fn stalled(context: &DaemonContext<'_>) -> Option<(Reason, String)> {
    let held = |held: &HeldRevision| {
        let reason = if held.plan.is_some() { Reason::RevisionHeld } else { Reason::RevisionRefused };
        (reason, format!("{}: {}", held.revision, held.reason))
    };
    let because = |reason: Reason, error: &Option<String>| error.clone().map(|error| (reason, error));
    because(Reason::StateUnavailable, &context.state_error)
        .or_else(|| because(Reason::JournalUnavailable, &context.journal_error))
        .or_else(|| because(Reason::DependencyNotReady, &context.engine.error))
        .or_else(|| because(Reason::SourceUnavailable, &context.source.error))
        .or_else(|| context.source.held.as_ref().map(held))
}

fn daemon_ready(context: &DaemonContext<'_>, stalled: Option<&(Reason, String)>) -> Judgement {
    match (context.in_force, context.scanned, stalled) {
        (None, ..) => Judgement::new(false, Reason::Progressing, "no commit is in force yet"),
        (_, false, None) => {
            Judgement::new(false, Reason::Progressing, "the engine answers, and the full scan is not done yet")
        }
        (_, scanned, Some((reason, message))) if !scanned || reason.stops_daemon() => {
            Judgement::new(false, *reason, message.as_str())
        }
        (Some(revision), ..) => {
            Judgement::new(true, Reason::ReconciliationSucceeded, format!("{revision} is in force"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn context() -> TenantContext<'static> {
        TenantContext {
            name: "ant",
            stands: None,
            declared: true,
            file_wrong: false,
            bad: None,
            waits: None,
            on_trial: false,
            suspended: None,
            power: None,
            working: false,
            next_try: None,
            only_warned: false,
        }
    }

    /// What metrics and documents expect of each condition is what is judged.
    #[test]
    fn each_condition_is_judged_for_whoever_has_it() {
        let (engine, source) = (EngineStatus::default(), SourceStatus::default());
        let daemon = DaemonContext {
            state_error: None,
            journal_error: None,
            engine: &engine,
            source: &source,
            in_force: None,
            scanned: false,
            verified: None,
        };
        let of_tenants: Vec<_> = judge_tenant(&TenantRuntime::default(), &context()).map(|(kind, _)| kind).collect();
        let of_daemon: Vec<_> = judge_daemon(&daemon).map(|(kind, _)| kind).collect();
        let expected = |holds: fn(ConditionKind) -> bool| -> Vec<_> {
            ConditionKind::ALL.into_iter().filter(|kind| holds(*kind)).collect()
        };
        assert_eq!(of_tenants, expected(ConditionKind::is_of_tenants));
        assert_eq!(of_daemon, expected(ConditionKind::is_of_daemon));
    }

    #[test]
    fn a_condition_keeps_its_time_until_its_status_or_reason_changes() {
        let at = |second| Timestamp::from_second(second).unwrap_or_default();
        let mut history = History::default();
        let mut note = |status: bool, reason, message, second| {
            history.note(ConditionKind::Ready, Judgement::new(status, reason, message), at(second)).since
        };
        assert_eq!(note(false, Reason::Progressing, "a", 1), at(1));
        assert_eq!(note(false, Reason::Progressing, "b", 2), at(1));
        assert_eq!(note(false, Reason::Blocked, "b", 3), at(3));
        assert_eq!(note(true, Reason::Blocked, "b", 4), at(4));
    }

    #[test]
    fn a_person_is_called_for_what_goes_on_by_itself_never() {
        let failed = TenantRuntime { failure: Some("refused".to_owned()), ..TenantRuntime::default() };
        for (run, stalled) in [(&failed, Truth::True), (&TenantRuntime::default(), Truth::False)] {
            let judged = judge_tenant(run, &context()).find(|(kind, _)| *kind == ConditionKind::Stalled);
            assert_eq!(judged.map(|(_, judged)| judged.status), Some(stalled));
        }
    }
}
