//! What a fleet lets the daemon do by itself, and where it must stop and ask.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::quantity::Timespan;

/// What is done about a tenant that someone changed behind tenantd's back.
///
/// Ordered: a later one is stricter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum DriftMode {
    /// It is not looked for. What a commit changes is carried out.
    Disabled,
    /// It is recorded and shown, and left as it is.
    Warn,
    /// It is repaired.
    #[default]
    Enabled,
}

impl DriftMode {
    /// The word in files.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Disabled => "disabled",
            Self::Warn => "warn",
            Self::Enabled => "enabled",
        }
    }
}

/// A kind of change that can loosen, by the name of its rule in reviews.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[expect(missing_docs, reason = "docs/reviewing.md has the table")]
pub enum Loosening {
    Runtime,
    Limit,
    Allowlist,
    Ingress,
    Credential,
    Budget,
    Source,
    Workspace,
    Hardening,
    Variable,
    Image,
    Detection,
    Rule,
}

impl Loosening {
    /// All of them.
    pub const ALL: [Self; 13] = [
        Self::Runtime,
        Self::Limit,
        Self::Allowlist,
        Self::Ingress,
        Self::Credential,
        Self::Budget,
        Self::Source,
        Self::Workspace,
        Self::Hardening,
        Self::Variable,
        Self::Image,
        Self::Detection,
        Self::Rule,
    ];

    /// The rule's name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Runtime => "runtime",
            Self::Limit => "limit",
            Self::Allowlist => "allowlist",
            Self::Ingress => "ingress",
            Self::Credential => "credential",
            Self::Budget => "budget",
            Self::Source => "source",
            Self::Workspace => "workspace",
            Self::Hardening => "hardening",
            Self::Variable => "variable",
            Self::Image => "image",
            Self::Detection => "detection",
            Self::Rule => "rule",
        }
    }
}

/// When a commit that removes tenants is held until a person agrees.
///
/// It is held where it, with the commits that were accepted within `window` before, removes at least `at_least` tenants
/// and more than `percent` of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Guards {
    /// The share of the tenants that may be removed within the window, in percent.
    pub percent: u32,
    /// The number of removals below which no commit is held.
    pub at_least: u32,
    /// How long a removal counts.
    pub window: Timespan,
}

impl Guards {
    /// The stricter of two, number by number.
    #[must_use]
    pub fn strictest(self, other: Self) -> Self {
        Self {
            percent: self.percent.min(other.percent),
            at_least: self.at_least.min(other.at_least),
            window: self.window.max(other.window),
        }
    }
}

/// The default of `fleet.yaml`.
impl Default for Guards {
    fn default() -> Self {
        Self { percent: 10, at_least: 2, window: Timespan::seconds(86_400) }
    }
}

/// How long a tenant waits after a failure before it is tried again: `initial`, then twice as long
/// each time, up to `max`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Retry {
    /// After the first failure.
    pub initial: Timespan,
    /// At most.
    pub max: Timespan,
}

impl Retry {
    /// How long the wait after so many failures is, at least one.
    pub fn wait(self, failures: u32) -> Duration {
        let doubled = 1u32.checked_shl(failures.saturating_sub(1)).unwrap_or(u32::MAX);
        self.initial.get().saturating_mul(doubled).min(self.max.get())
    }
}

impl Default for Retry {
    fn default() -> Self {
        Self { initial: Timespan::seconds(1), max: Timespan::seconds(300) }
    }
}

/// What `fleet.yaml` says about the daemon.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Policy {
    /// When a commit is held.
    pub guards: Guards,
    /// How failures are tried again.
    pub retry: Retry,
    /// How long a tenant that a commit changed must run without ending before the commit counts as
    /// good for it.
    pub healthy_after: Timespan,
    /// Whether a browser sees a page while a tenant is started for it.
    pub waiting_page: bool,
}

impl Default for Policy {
    fn default() -> Self {
        let healthy_after = Timespan::seconds(10);
        Self { guards: Guards::default(), retry: Retry::default(), healthy_after, waiting_page: false }
    }
}
