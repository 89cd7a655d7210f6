//! One setting that changes, and what that means.

use serde::Serialize;
use serde_json::Value;

use crate::model::finding::Location;

/// Whether a change makes the boundary around tenants stronger or weaker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Mark {
    /// A tenant may do, use or reach more than before.
    Loosens,
    /// Less than before.
    Tightens,
    /// Neither.
    Neutral,
}

impl Mark {
    /// All of them, what matters most first.
    pub const ALL: [Self; 3] = [Self::Loosens, Self::Tightens, Self::Neutral];

    /// The word in plans.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Loosens => "loosens",
            Self::Tightens => "tightens",
            Self::Neutral => "neutral",
        }
    }

    /// The mark of the change back.
    #[must_use]
    pub const fn reversed(self) -> Self {
        match self {
            Self::Loosens => Self::Tightens,
            Self::Tightens => Self::Loosens,
            Self::Neutral => Self::Neutral,
        }
    }
}

/// One setting that is another one now.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Effect {
    /// The setting, as a tenant's file or `fleet.yaml` names it: `limits.memory`.
    pub field: String,
    /// What it was; null for nothing.
    pub before: Value,
    /// What it is; null for nothing.
    pub after: Value,
    /// Whether that is stronger or weaker.
    pub mark: Mark,
    /// Why, by a name of [`RULES`](super::RULES).
    pub rule: &'static str,
    /// Where it stands in the files of the newer side, or where it would stand.
    pub at: Location,
}
