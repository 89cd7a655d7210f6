//! What ingress may ask: its own user, and root. It lets nobody in that is not listed here.

use std::path::Path;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::call::{Call, Callers, Effect, PeerKind, calls};
use crate::model::{
    Host,
    ingress::{IngressState, Waking},
};

calls! {
    /// A call of ingress.
    IngressPeer: ReadState, Wake,
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
}

impl Call for Wake {
    type Peer = IngressPeer;
    type Answer = Waking;

    const EFFECT: Effect = Effect::Changes;
    // It is all one user's, for clients of all tenants, and each tenant wakes once.
    const IS_PACED: bool = false;
    const PATHS: &'static [&'static str] = &["/v1/tenants/{tenant}/wake"];
}
