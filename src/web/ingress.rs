//! What ingress may ask: its own user, and root. It lets nobody in that is not listed here.

use std::{collections::BTreeSet, path::Path};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    call::{Call, Callers, Effect, PeerKind, calls},
    refusal::Refusal,
};
use crate::model::{
    Host, TenantName,
    ingress::{IngressState, MAX_NAMED, Waking},
};

calls! {
    /// A call of ingress.
    IngressPeer: ReadState, Wake, ReportInHand,
}

impl PeerKind for IngressPeer {
    fn socket(host: &Host) -> Option<(&Path, Callers)> {
        let ingress = host.ingress.as_ref()?;
        Some((&ingress.socket, Callers::User(ingress.user.clone())))
    }
}

/// Shows the tenants that expose a port, and by which key and revocations their tokens are judged: at once where the version is
/// another than the one that the asker has, else when it becomes another, or without content after 3 s.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ReadState {
    /// The version that the asker has.
    pub after: Option<String>,
}

impl Call for ReadState {
    type Peer = IngressPeer;
    type Answer = IngressState;

    const EFFECT: Effect = Effect::Reads;
    const PATHS: &'static [&'static str] = &["/v1/state", "/v1/state/{after}"];
}

/// Has a tenant run that is paused or asleep, since a request came for it. Of one that runs, or is being woken, nothing changes.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Wake {
    /// The tenant.
    pub tenant: String,
    /// The tenants that have requests in hand at this moment, so that none of them sleeps for this one.
    #[serde(default)]
    pub in_hand: Option<BTreeSet<TenantName>>,
}

impl Call for Wake {
    type Peer = IngressPeer;
    type Answer = Waking;

    const EFFECT: Effect = Effect::Changes;
    // It is all one user's, for clients of all tenants, and each tenant wakes once.
    const IS_PACED: bool = false;
    const PATHS: &'static [&'static str] = &["/v1/tenants/{tenant}/wake"];

    fn check(&self) -> Result<(), Refusal> {
        check_in_hand(self.in_hand.as_ref())
    }
}

/// Says which tenants have requests in hand: they are not put to sleep to make room in memory for another one.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ReportInHand {
    /// Which; left out where they are more than 1000.
    #[serde(default)]
    pub in_hand: Option<BTreeSet<TenantName>>,
}

/// It was taken note of.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct InHandNoted {}

impl Call for ReportInHand {
    type Peer = IngressPeer;
    type Answer = InHandNoted;

    const EFFECT: Effect = Effect::Changes;
    const IS_PACED: bool = false;
    const PATHS: &'static [&'static str] = &["/v1/in-hand"];

    fn check(&self) -> Result<(), Refusal> {
        check_in_hand(self.in_hand.as_ref())
    }
}

fn check_in_hand(names: Option<&BTreeSet<TenantName>>) -> Result<(), Refusal> {
    match names {
        Some(names) if names.len() > MAX_NAMED => {
            Err(Refusal::invalid(format!("more than {MAX_NAMED} tenants are named")))
        }
        Some(_) | None => Ok(()),
    }
}
