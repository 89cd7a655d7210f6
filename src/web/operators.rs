//! What operators may ask: root, and the members of `socketGroup`. Nothing can be declared here.

use std::{collections::BTreeSet, fmt, path::Path};

use jiff::{SignedDuration, Timestamp};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    call::{Call, Callers, Effect, PeerKind, calls},
    refusal::Refusal,
};
use crate::model::{Host, Power, Revision, Status, TenantName, TokenId, finding::is_invisible, token::Right};

/// The longest reason of a suspension, in characters.
const MAX_REASON: usize = 500;

/// The longest suspension.
const MAX_SUSPENSION: SignedDuration = SignedDuration::from_hours(30 * 24);

/// How long a token counts at most. So long is remembered that one was revoked.
pub const MAX_LIFETIME: SignedDuration = SignedDuration::from_hours(30 * 24);

calls! {
    /// A call of an operator.
    Operator: ReadStatus, Suspend, Resume, SetPower, Approve, Reconcile,
    MintToken, RevokeToken,
}

impl PeerKind for Operator {
    fn socket(host: &Host) -> Option<(&Path, Callers)> {
        let callers = host.socket_group.clone().map_or(Callers::Root, Callers::Group);
        Some((&host.socket, callers))
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

/// Has a token made that lets its bearer in to a tenant through ingress.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MintToken {
    /// The tenant.
    pub tenant: String,
    /// What its bearer may do, at least one thing.
    pub may: BTreeSet<Right>,
    /// From when on it counts for nothing, at most 30 days from now.
    pub expires: Timestamp,
}

impl Call for MintToken {
    type Peer = Operator;
    type Answer = Minted;

    const EFFECT: Effect = Effect::Changes;
    const PATHS: &'static [&'static str] = &["/v1/tenants/{tenant}/tokens"];

    fn check(&self) -> Result<(), Refusal> {
        let Self { may, expires, .. } = self;
        if may.is_empty() {
            return Err(Refusal::invalid("a token that lets its bearer do nothing is of no use"));
        }
        let length = expires.duration_since(Timestamp::now());
        if !length.is_positive() {
            return Err(Refusal::invalid(format!("{expires} is over")));
        }
        if length > MAX_LIFETIME {
            return Err(Refusal::invalid("a token counts for 30 days at most"));
        }
        Ok(())
    }
}

/// A token. It is shown this once and kept nowhere.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Minted {
    /// The tenant.
    pub tenant: String,
    /// By which it is revoked and recorded.
    pub id: TokenId,
    /// The token itself.
    pub token: TokenText,
    /// What its bearer may do.
    pub may: BTreeSet<Right>,
    /// From when on it counts for nothing.
    pub expires: Timestamp,
    /// Who asked for it, as the kernel knows it.
    pub by: String,
}

/// A token's text, which no log shows.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct TokenText(pub String);

impl fmt::Debug for TokenText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(token)")
    }
}

/// Has a token count no more.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RevokeToken {
    /// The tenant that it was made for, which need not be there any more.
    pub tenant: String,
    /// The id that was shown with the token.
    pub id: TokenId,
}

impl Call for RevokeToken {
    type Peer = Operator;
    type Answer = Revoked;

    const EFFECT: Effect = Effect::Changes;
    const PATHS: &'static [&'static str] = &["/v1/tenants/{tenant}/tokens/{id}/revoke"];

    fn check(&self) -> Result<(), Refusal> {
        // It goes on record, whether there is such a tenant or not.
        self.tenant.parse::<TenantName>().map(drop).map_err(|e| Refusal::invalid(e.message).hint(e.help))
    }
}

/// A token counts no more.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Revoked {
    /// The tenant.
    pub tenant: String,
    /// The token's id.
    pub id: TokenId,
    /// Who asked for it, as the kernel knows it.
    pub by: String,
}
