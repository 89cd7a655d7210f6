//! Whether a tenant runs, is frozen or sleeps, and who asked for it.

use std::{collections::BTreeMap, fmt};

use ipnet::Ipv4Net;
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What a tenant is to do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Power {
    /// It runs.
    #[default]
    Running,
    /// It is frozen, and keeps its memory. One that cannot be kept, since it ended or must be made anew, sleeps.
    Paused,
    /// Nothing of it runs. It has its files and its addresses, and neither a container nor a network.
    Asleep,
}

impl Power {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Running, Self::Paused, Self::Asleep];

    /// The word in plans, records and requests.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Asleep => "asleep",
        }
    }
}

/// Why a tenant has its power.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum PowerReason {
    /// A person asked for it.
    Operator {
        /// Who, as far as the kernel knows.
        by: String,
    },
    /// It did not run when the host's state was found to be lost: what it should do is not known.
    StateLost,
    /// The time that it was given another power for is over.
    TimeUp,
    /// It was frozen, and ended or had to be made anew.
    NotKept,
    /// Somebody sent it a request.
    Wake,
    /// It was the one that nobody had asked for the longest, and another one needed memory of `power.memory`.
    MadeRoom {
        /// The one that was woken.
        woken: String,
    },
    /// It was to be woken, and `power.memory` left no room for it.
    NoRoom,
}

impl fmt::Display for PowerReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Operator { by } => write!(f, "as {by} asked"),
            Self::StateLost => f.write_str("as it was found when the host's state was lost"),
            Self::NotKept => f.write_str("since it was frozen and could not be kept"),
            Self::Wake => f.write_str("since a request came for it"),
            Self::TimeUp => f.write_str("since the time of what it was asked is over"),
            Self::MadeRoom { woken } => write!(f, "to make room in memory for {woken}"),
            Self::NoRoom => f.write_str("since power.memory of this host leaves no room for it"),
        }
    }
}

/// A power that a tenant was given.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PowerHold {
    /// Which.
    pub power: Power,
    /// Why.
    pub reason: PowerReason,
    /// Since when.
    pub since: Timestamp,
    /// Until when; `None` until somebody says otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
    /// Whether the tenant was found so since: what differs from then on is drift.
    #[serde(default)]
    pub reached: bool,
}

/// The power of all tenants that were given one. No engine knows it, so it is kept in the host's state.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Powers {
    /// By the tenant's name. Nobody else is anything but running.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub holds: BTreeMap<String, PowerHold>,
    /// The addresses of those that have no network because they sleep: nobody else gets them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub reserved: BTreeMap<String, Ipv4Net>,
    /// Whether what stood here was lost: of a tenant that has something on the host and no hold, what it was found to do is
    /// what it should do.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub lost: bool,
}

impl Powers {
    /// Whether there is nothing to know.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}
