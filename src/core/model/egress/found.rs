//! What exists of egress paths: links, files, secrets.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    net::Ipv4Addr,
};

use ipnet::Ipv4Net;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::{EgressPolicy, SecretName};

/// Everything that exists of egress paths on a host.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ObservedEgress {
    /// Whether an egress path can be made here.
    pub capability: EgressCapability,
    /// Sysctls of the gateway's namespace that are not as they must be, such as `ipv4/ip_forward = 1`.
    pub sysctls: Vec<String>,
    /// Links by the name of their interface on the host.
    pub links: BTreeMap<String, FoundLink>,
    /// What the gateway is given, by tenant.
    pub files: BTreeMap<String, FoundFiles>,
    /// The secrets of the host that were asked for, as they are now, or why they cannot be read.
    pub secrets: BTreeMap<SecretName, Result<Fingerprint, String>>,
}

/// Whether an egress path can be made on this host.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EgressCapability {
    /// The engine is this host's own, and the gateway's namespace is there.
    Ready,
    /// The engine's networks are those of another machine or of another network namespace.
    #[default]
    EngineElsewhere,
    /// The gateway has not made its namespace.
    GatewayMissing,
    /// The gateway's folder or namespace is another data root's, as this says: nothing there was observed.
    Taken(String),
    /// It could not be found out, for this reason.
    Unknown(String),
}

/// A link as it was found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FoundLink {
    /// The tenant that it says it is for.
    pub alias: String,
    /// Whether both of its ends are there, one here and one in the gateway's namespace.
    pub joined: bool,
    /// The bridge that its end here is a port of; empty for none.
    pub bridge: String,
    /// Whether both ends are up.
    pub up: bool,
    /// The addresses of its end in the gateway's namespace.
    pub addresses: BTreeSet<String>,
    /// By what the host itself could be reached from the bridge, such as `ipv6 on td-obcv7735trd7`.
    pub host_side: BTreeSet<String>,
    /// Sysctls of its end in the gateway's namespace that are not as they must be.
    pub sysctls: BTreeSet<String>,
}

/// What the gateway is given of one tenant, as it was found.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct FoundFiles {
    /// The policy.
    pub policy: Filed<EgressPolicy>,
    /// Whether somebody else changed the policy since it was written.
    pub edited: bool,
    /// The secrets' values.
    pub secrets: Filed<FoundSecrets>,
}

/// The secrets that the gateway is given, as they were found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FoundSecrets {
    /// Each value.
    pub values: BTreeMap<SecretName, Fingerprint>,
    /// The encrypted text that a value came from, for those that came from one.
    pub sealed: BTreeMap<SecretName, Fingerprint>,
    /// Whether somebody else changed the file since it was written.
    pub edited: bool,
}

/// A file's content, as far as it can be used.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Filed<T> {
    /// There is no such file.
    #[default]
    Missing,
    /// It is there and of no use, for this reason.
    Wrong(String),
    /// It holds this.
    Present(T),
}

impl<T> Filed<T> {
    /// The content, where it can be used.
    pub fn present(&self) -> Option<&T> {
        match self {
            Self::Present(content) => Some(content),
            Self::Missing | Self::Wrong(_) => None,
        }
    }

    /// Whether there is no such file.
    pub fn is_missing(&self) -> bool {
        matches!(self, Self::Missing)
    }
}

/// Tells whether two secrets are the same, and nothing else. It is never shown, since a short secret could be
/// guessed from it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Fingerprint([u8; 32]);

impl Fingerprint {
    /// That of a secret.
    pub fn of(secret: &str) -> Self {
        Self(Sha256::digest(secret.as_bytes()).into())
    }

    /// One that is no secret's, but the same for the same number.
    pub fn numbered(number: u64) -> Self {
        let mut bytes = [0; 32];
        let (_, end) = bytes.split_at_mut(24);
        end.copy_from_slice(&number.to_be_bytes());
        Self(bytes)
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(fingerprint)")
    }
}

/// An egress path in the form that plans show, declared or found.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct EgressPath {
    /// The name of the link's two ends; empty where there is no link.
    pub link: String,
    /// The bridge that it leads from.
    pub bridge: String,
    /// The addresses of its end in the gateway's namespace.
    pub addresses: BTreeSet<String>,
    /// The addresses of the tenant's network.
    pub subnet: Option<Ipv4Net>,
    /// The one of them that is the tenant's own.
    pub address: Option<Ipv4Addr>,
    /// Where the tenant may go.
    pub allow: Vec<String>,
    /// Routes with keys and where they lead, such as `crm -> https://services.example.com`.
    pub routes: Vec<String>,
    /// How many credits it may use, such as `1000 a day`.
    pub budget: Vec<String>,
    /// The secrets that its routes need, by name.
    pub secrets: BTreeSet<SecretName>,
}
