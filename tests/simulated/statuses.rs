//! Statuses that a daemon could give, made by hand.

use jiff::{SignedDuration, Timestamp};
use tenantd::model::{
    Revision, Status,
    record::Why,
    status::{
        Condition, ConditionKind, Correction, EngineStatus, GatewayStatus, HeldRevision, JournalStatus, Reason,
        SourceStatus, Suspension, TenantStatus, Truth,
    },
    workspace::{Backend, WorkspaceCapability},
};

/// The moment at which they are given.
fn now() -> Timestamp {
    "2026-11-21T12:00:00Z".parse().unwrap()
}

fn ago(seconds: i64) -> Timestamp {
    now() - SignedDuration::from_secs(seconds)
}

fn revision(digit: &str) -> Revision {
    Revision { branch: "main".to_owned(), commit: digit.repeat(40) }
}

fn condition(kind: ConditionKind, status: Truth, reason: Reason, message: &str) -> Condition {
    Condition { kind, status, reason, message: message.to_owned(), since: ago(3 * 3600) }
}

/// A tenant for which all is well.
fn ready(name: &str) -> TenantStatus {
    TenantStatus {
        tenant: name.to_owned(),
        revision: Some(revision("a")),
        narrowed_by: Vec::new(),
        conditions: vec![
            condition(ConditionKind::Ready, Truth::True, Reason::ReconciliationSucceeded, "as declared"),
            condition(ConditionKind::Reconciling, Truth::False, Reason::Idle, "nothing is to be done"),
            condition(ConditionKind::Stalled, Truth::False, Reason::NotStalled, "nothing is in the way"),
            condition(ConditionKind::Healthy, Truth::True, Reason::Running, "the container runs"),
            condition(ConditionKind::Drifted, Truth::False, Reason::InSync, "nothing differs"),
        ],
        drift: Vec::new(),
        last_correction: None,
        suspended: None,
        power: None,
        next_try: None,
    }
}

fn with(mut tenant: TenantStatus, changed: Condition) -> TenantStatus {
    let place = tenant.conditions.iter_mut().find(|condition| condition.kind == changed.kind).unwrap();
    *place = changed;
    tenant
}

/// A daemon with two tenants, and nothing to complain about.
pub fn fine() -> Status {
    Status {
        version: "0.1.0".to_owned(),
        started: ago(5 * 86_400),
        time: now(),
        source: SourceStatus {
            url: "/srv/fleet.git".to_owned(),
            seen: Some(revision("a")),
            applied: Some(revision("a")),
            signer: Some("alice".to_owned()),
            fetched: Some(ago(12)),
            ..SourceStatus::default()
        },
        engine: EngineStatus {
            version: "29.0.1".to_owned(),
            up: true,
            events: true,
            error: None,
            full_pass: Some(ago(48)),
        },
        gateway: Some(GatewayStatus { error: None }),
        memory: None,
        workspaces: WorkspaceCapability {
            backend: Backend::Image,
            why: "mounted images work on any file system".to_owned(),
            ..WorkspaceCapability::default()
        },
        journal: JournalStatus { records: 1234, error: None },
        conditions: vec![
            condition(ConditionKind::Ready, Truth::True, Reason::ReconciliationSucceeded, "everything is as declared"),
            condition(ConditionKind::SourceVerified, Truth::True, Reason::Verified, "signed by alice"),
            condition(ConditionKind::Stalled, Truth::False, Reason::Progressing, "nothing is in the way"),
        ],
        tenants: vec![ready("ant"), ready("bee")],
    }
}

/// A daemon that holds a commit and cannot reach its repo, with a tenant of each kind.
pub fn troubled() -> Status {
    let mut status = fine();
    status.source.seen = Some(revision("b"));
    status.source.fetched = Some(ago(720));
    status.source.error = Some("fatal: unable to access \u{1b}]0;the repo\u{7}: timed out".to_owned());
    status.source.held = Some(HeldRevision {
        revision: revision("b"),
        reason: "it removes 30 of 100 tenants, more than 10 % and at least 2".to_owned(),
        plan: Some("4f2a9c1d".to_owned()),
        tenants: (0..30).map(|number| format!("customer-{number}")).collect(),
    });
    status.source.findings =
        vec!["tenants/fly.yaml:4:1: error[unknown-key]: unknown key \"teir\"; did you mean tier?".to_owned()];
    status.engine.events = false;
    status.gateway = Some(GatewayStatus { error: Some("gateway.sock: Connection refused".to_owned()) });
    status.journal.error = Some("No space left on device (os error 28)".to_owned());
    status.conditions[0] = condition(
        ConditionKind::Ready,
        Truth::False,
        Reason::SourceUnavailable,
        "the config repo has not answered for 12 minutes",
    );
    let mut suspended =
        with(ready("ant"), condition(ConditionKind::Ready, Truth::False, Reason::Suspended, "left alone"));
    suspended.suspended = Some(Suspension {
        reason: "disk \u{202e}is replaced".to_owned(),
        until: now() + SignedDuration::from_hours(26),
        by: "alice".to_owned(),
    });
    let mut blocked = with(
        with(ready("wasp"), condition(ConditionKind::Ready, Truth::False, Reason::DependencyNotReady, "blocked")),
        condition(
            ConditionKind::Stalled,
            Truth::True,
            Reason::Blocked,
            "the image agency/agent:2 is not on this host\u{1b}[2J",
        ),
    );
    blocked.drift = ["container.image", "container.command", "container.memory"].map(str::to_owned).to_vec();
    blocked.next_try = Some(now() + SignedDuration::from_secs(40));
    let mut drifted = with(
        ready("cat"),
        condition(ConditionKind::Drifted, Truth::True, Reason::DriftDetected, "left as it is: driftDetection is warn"),
    );
    drifted.drift = vec!["container.memory".to_owned()];
    let mut corrected = ready("dog");
    corrected.last_correction =
        Some(Correction { time: ago(95), what: "update the limits".to_owned(), why: Why::Drift, took_ms: 83 });
    status.tenants = vec![suspended, drifted, corrected, blocked];
    status
}
