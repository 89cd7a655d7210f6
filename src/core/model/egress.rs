//! Egress: where a tenant may go, and with which keys.

pub mod address;
pub mod name;

mod destination;
mod found;
mod route;
mod sealed;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
};

use ipnet::Ipv4Net;
use serde::{Deserialize, Serialize};

pub use destination::{Destination, HostPattern};
pub use found::{
    EgressCapability, EgressPath, Filed, Fingerprint, FoundFiles, FoundLink, FoundSecrets, ObservedEgress,
};
pub use route::{Cost, Inject, Part, Route, RouteName, SecretName, StreamMode, Template, Upstream};
pub use sealed::Sealed;

use super::TenantName;

/// The name by which a tenant reaches the gateway itself; routes have names below it.
pub const GATEWAY_NAME: &str = "gateway.internal";

/// The version of a policy's format. A gateway refuses a newer one.
pub const POLICY_VERSION: u32 = 2;

/// What one tenant may reach, as the gateway gets it. It holds no secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EgressPolicy {
    /// The version of the format.
    pub v: u32,
    /// The tenant, by its name.
    pub tenant: TenantName,
    /// The addresses of its network. The first one of a host is the gateway's, and says whose
    /// connections come there.
    pub subnet: Ipv4Net,
    /// The address that its container has there. Whoever comes from any other is refused; `None` refuses everybody.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<Ipv4Addr>,
    /// Where it may go.
    pub allow: BTreeSet<Destination>,
    /// The services that it reaches through the gateway's keys.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub routes: Vec<Route>,
    /// How many credits it may use.
    #[serde(default, skip_serializing_if = "Budget::is_unbounded")]
    pub budget: Budget,
}

/// The values of a tenant's secrets by name.
pub type SecretValues = BTreeMap<SecretName, String>;

/// How many credits a tenant may use; `None` for no bound.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Budget {
    /// In a day of UTC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub day: Option<u64>,
    /// In a month of UTC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub month: Option<u64>,
}

impl Budget {
    /// Whether nothing is bounded.
    pub fn is_unbounded(&self) -> bool {
        *self == Self::default()
    }
}
