//! What the daemon says of itself and of each tenant.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use super::condition::{Condition, ConditionKind, Reason, Truth};
use super::{PowerHold, Revision, workspace::WorkspaceCapability};

/// The commits whose declaration a tenant stands at, in words: one, or several of which the strictest is in force.
pub fn at_which(base: &Revision, narrowed_by: &[Revision], short: impl Fn(&Revision) -> String) -> String {
    let Some((last, others)) = narrowed_by.split_last() else { return short(base) };
    let first: Vec<String> = std::iter::once(base).chain(others).map(&short).collect();
    let word = if others.is_empty() { "stricter" } else { "strictest" };
    format!("the {word} of {} and {}", first.join(", "), short(last))
}

/// Everything at one moment.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Status {
    /// The daemon's version.
    pub version: String,
    /// When the daemon began.
    pub started: Timestamp,
    /// When this was said.
    pub time: Timestamp,
    /// The config repo.
    pub source: SourceStatus,
    /// The engine.
    pub engine: EngineStatus,
    /// The gateway, where a tenant has an egress path.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gateway: Option<GatewayStatus>,
    /// The memory that tenants hold, where `power.memory` bounds it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<MemoryStatus>,
    /// How new workspaces are made, and why so; empty before the first scan.
    #[serde(default)]
    pub workspaces: WorkspaceCapability,
    /// The journal.
    pub journal: JournalStatus,
    /// Conditions of the daemon as a whole: Ready, SourceVerified, Stalled.
    pub conditions: Vec<Condition>,
    /// Each tenant, by name.
    pub tenants: Vec<TenantStatus>,
}

/// How the config repo stands.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub struct SourceStatus {
    /// Where it is, without credentials.
    pub url: String,
    /// The newest commit that was seen.
    pub seen: Option<Revision>,
    /// The commit that is in force.
    pub applied: Option<Revision>,
    /// Who signed the commit in force, where signatures are checked.
    pub signer: Option<String>,
    /// When the source last answered.
    pub fetched: Option<Timestamp>,
    /// Why the newest commit is not in force, if so.
    pub held: Option<HeldRevision>,
    /// Why the source cannot be read, if so.
    pub error: Option<String>,
    /// Wrong files of the commit in force, one line for each.
    pub findings: Vec<String>,
    /// The line of a signed commit that approves everything that waits for an approval, where that is more than one
    /// tenant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approve: Option<String>,
}

/// A commit that waits.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct HeldRevision {
    /// The commit.
    pub revision: Revision,
    /// Why.
    pub reason: String,
    /// What `tenantd approve` takes; `None` where only a newer commit helps.
    pub plan: Option<String>,
    /// The tenants that it would remove.
    pub tenants: Vec<String>,
}

/// How the gateway stands.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct GatewayStatus {
    /// Why it does not answer, if so. Nobody gets out then.
    pub error: Option<String>,
}

/// The memory that tenants hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct MemoryStatus {
    /// Beyond this nobody is woken, in bytes.
    pub limit: u64,
    /// What those that run, are paused or are being put to sleep may hold, by their declared limits, in bytes.
    pub held: u64,
}

/// How the engine stands.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub struct EngineStatus {
    /// Its version; empty before it has answered.
    pub version: String,
    /// Whether it answers.
    pub up: bool,
    /// Whether its events arrive.
    pub events: bool,
    /// Why it does not answer, if so.
    pub error: Option<String>,
    /// When everything was last scanned.
    pub full_pass: Option<Timestamp>,
}

/// How the journal stands.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub struct JournalStatus {
    /// The number of the last record.
    pub records: u64,
    /// Why nothing can be written, if so.
    pub error: Option<String>,
}

/// How one tenant stands.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct TenantStatus {
    /// Its name.
    pub tenant: String,
    /// The commit whose declaration is in force for it, as far as no later one is stricter.
    pub revision: Option<Revision>,
    /// The later commits, if any: of each setting the strictest is in force.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub narrowed_by: Vec<Revision>,
    /// Ready, Reconciling, Stalled, Healthy, Drifted.
    pub conditions: Vec<Condition>,
    /// Attributes that differ from the declaration, such as `container.memory`.
    pub drift: Vec<String>,
    /// The last correction.
    pub last_correction: Option<Correction>,
    /// How long, and why, it is left alone.
    pub suspended: Option<Suspension>,
    /// What it was asked to do in the place of running, or to do again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub power: Option<PowerHold>,
    /// When it is tried again after a failure.
    pub next_try: Option<Timestamp>,
}

/// Something that was put right.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Correction {
    /// When it was done.
    pub time: Timestamp,
    /// What was done, in a few words.
    pub what: String,
    /// `intent` or `drift`.
    pub why: super::record::Why,
    /// From the trigger to the end, in milliseconds.
    pub took_ms: u64,
}

/// A tenant that an operator asked to leave alone.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Suspension {
    /// Why.
    pub reason: String,
    /// Until when.
    pub until: Timestamp,
    /// Who asked.
    pub by: String,
}

impl TenantStatus {
    /// One of its conditions.
    pub fn condition(&self, kind: ConditionKind) -> Option<&Condition> {
        self.conditions.iter().find(|condition| condition.kind == kind)
    }
}
