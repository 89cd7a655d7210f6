//! What operators may ask: root, and the members of `socketGroup`. Nothing can be declared here.

use std::path::Path;

use jiff::{SignedDuration, Timestamp};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    call::{Call, Callers, Effect, PeerKind, calls},
    refusal::Refusal,
};
use crate::model::{Host, Power, Revision, Status, finding::is_invisible};

/// The longest reason of a suspension, in characters.
const MAX_REASON: usize = 500;

/// The longest suspension.
const MAX_SUSPENSION: SignedDuration = SignedDuration::from_hours(30 * 24);

calls! {
    /// A call of an operator.
    Operator: ReadStatus, Suspend, Resume, SetPower, Approve, Reconcile,
}

impl PeerKind for Operator {
    fn socket(host: &Host) -> (&Path, Callers) {
        let callers = host.socket_group.clone().map_or(Callers::Root, Callers::Group);
        (&host.socket, callers)
    }
}

/// Shows the daemon and all tenants, or one.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ReadStatus {
    /// The only tenant that is shown.
    pub tenant: Option<String>,
}

impl Call for ReadStatus {
    type Peer = Operator;
    type Answer = Status;

    const EFFECT: Effect = Effect::Reads;
    const PATHS: &'static [&'static str] = &["/v1/status", "/v1/status/{tenant}"];
}

/// Leaves a tenant alone until a time.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Suspend {
    /// The tenant, by its name.
    pub tenant: String,
    /// Why: one line of at most 500 characters.
    pub reason: String,
    /// Until when, at most 30 days from now.
    pub until: Timestamp,
}

impl Call for Suspend {
    type Peer = Operator;
    type Answer = Suspended;

    const EFFECT: Effect = Effect::Changes;
    const PATHS: &'static [&'static str] = &["/v1/tenants/{tenant}/suspend"];

    fn check(&self) -> Result<(), Refusal> {
        let Self { reason, until, .. } = self;
        if reason.trim().is_empty() {
            return Err(Refusal::invalid("a reason is needed"));
        }
        if reason.chars().count() > MAX_REASON {
            return Err(Refusal::invalid(format!("the reason is longer than {MAX_REASON} characters")));
        }
        if reason.chars().any(is_invisible) {
            return Err(
                Refusal::invalid("the reason holds a control or invisible character").hint("write one line of text")
            );
        }
        let length = until.duration_since(Timestamp::now());
        if !length.is_positive() {
            return Err(Refusal::invalid(format!("{until} is over")));
        }
        if length > MAX_SUSPENSION {
            return Err(Refusal::invalid("a tenant is suspended for 30 days at most"));
        }
        Ok(())
    }
}

/// A tenant is left alone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Suspended {
    /// The tenant, by its name.
    pub tenant: String,
    /// Why.
    pub reason: String,
    /// Until when.
    pub until: Timestamp,
    /// Who asked for it, as the kernel knows it.
    pub by: String,
}

/// Ends the suspension of a tenant.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Resume {
    /// The tenant, by its name.
    pub tenant: String,
}

impl Call for Resume {
    type Peer = Operator;
    type Answer = Resumed;

    const EFFECT: Effect = Effect::Changes;
    const PATHS: &'static [&'static str] = &["/v1/tenants/{tenant}/resume"];
}

/// A tenant is no longer left alone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Resumed {
    /// The tenant, by its name.
    pub tenant: String,
    /// Who asked for it, as the kernel knows it.
    pub by: String,
}

/// Has a tenant run, frozen or asleep.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SetPower {
    /// The tenant, by its name.
    pub tenant: String,
    /// What it is to do.
    pub power: Power,
    /// Until when; without it until somebody asks for something else.
    pub until: Option<Timestamp>,
}

impl Call for SetPower {
    type Peer = Operator;
    type Answer = PowerSet;

    const EFFECT: Effect = Effect::Changes;
    const PATHS: &'static [&'static str] = &["/v1/tenants/{tenant}/power"];
}

/// What a tenant is to do is kept. It is done afterwards.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PowerSet {
    /// The tenant, by its name.
    pub tenant: String,
    /// What it is to do.
    pub power: Power,
    /// Until when, if it ends by itself.
    pub until: Option<Timestamp>,
    /// Who asked for it, as the kernel knows it.
    pub by: String,
}

/// Brings a held commit into force.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Approve {
    /// The whole id that the status shows beside the held commit.
    pub plan: String,
}

impl Call for Approve {
    type Peer = Operator;
    type Answer = Approved;

    const EFFECT: Effect = Effect::Changes;
    const PATHS: &'static [&'static str] = &["/v1/approve/{plan}"];
}

/// A held commit is in force.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Approved {
    /// The id by which it was approved.
    pub plan: String,
    /// The commit.
    pub revision: Revision,
    /// Who approved it, as the kernel knows it.
    pub by: String,
}

/// Has all tenants, or one, observed now and put right.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Reconcile {
    /// The only tenant.
    pub tenant: Option<String>,
}

impl Call for Reconcile {
    type Peer = Operator;
    type Answer = Reconciling;

    const EFFECT: Effect = Effect::Begins;
    const PATHS: &'static [&'static str] = &["/v1/reconcile", "/v1/reconcile/{tenant}"];
}

/// It is about to be done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Reconciling {
    /// The only tenant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant: Option<String>,
}
