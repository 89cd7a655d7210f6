//! One setting that changes, and what that means.

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, de};
use serde_json::Value;

use super::rules::RULES;
use crate::model::finding::Location;

/// Whether a change makes the boundary around tenants stronger or weaker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize, JsonSchema)]
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

/// A name of [`RULES`], which outlives whatever it is read from.
type RuleName = &'static str;

/// One setting that is another one now. It is read back without its place.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
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
    #[serde(deserialize_with = "rule")]
    pub rule: RuleName,
    /// Where it stands in the files of the newer side, or where it would stand.
    #[serde(skip_deserializing)]
    pub at: Location,
}

/// One of the rules by its name.
fn rule<'de, D: Deserializer<'de>>(deserializer: D) -> Result<&'static str, D::Error> {
    let name = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
    let known = RULES.iter().map(|(rule, _)| *rule).find(|rule| *rule == name);
    known.ok_or_else(|| de::Error::custom(format!("there is no rule {name}")))
}
