//! What the journal keeps: one entry for each thing that happened or was about to.

use std::{collections::BTreeSet, fmt};

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Power, PowerReason, Revision, TokenId, token::Right};

/// An entry with its place in the journal.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// The version of the format; see [`RECORD_VERSION`].
    pub v: u32,
    /// Its number, counted from 1 without gaps over all files.
    pub seq: u64,
    /// When it was written, by the host's clock. It may step back; `seq` never does.
    pub time: Timestamp,
    /// What happened.
    #[serde(flatten)]
    pub entry: Entry,
}

/// The version of the format that is written. Records of a newer one are not read.
pub const RECORD_VERSION: u32 = 1;

/// What happened.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub enum Entry {
    /// The first record of each file.
    Segment(SegmentStart),
    /// A damaged end of the file before was set aside.
    Recovered(Recovered),
    /// Records could not be written and are missing here.
    Lost {
        /// How many.
        records: u64,
        /// Why.
        reason: String,
    },
    /// A program that changes things began to run.
    Started {
        /// The program: `daemon` or `apply`.
        program: String,
        /// Its version.
        version: String,
    },
    /// It ended in good order.
    Stopped {
        /// The program.
        program: String,
    },
    /// The host's settings were read again.
    Reloaded {
        /// What was refused, if so; the former ones stay in force then.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        error: Option<String>,
    },
    /// A commit was judged.
    Revision(RevisionRecord),
    /// A step is about to be carried out.
    Intent(StepRecord),
    /// What became of it.
    Outcome(OutcomeRecord),
    /// Drift was seen that is not repaired.
    Drift(DriftRecord),
    /// A tenant was left alone by an operator, until a time.
    Suspended {
        /// The tenant, by its name.
        tenant: String,
        /// Why.
        reason: String,
        /// Until when.
        until: Timestamp,
        /// Who said so.
        by: String,
    },
    /// A tenant is reconciled again.
    Resumed {
        /// The tenant, by its name.
        tenant: String,
        /// Who said so; `expiry` where its time was over.
        by: String,
    },
    /// A tenant is to run, to be frozen or to sleep from now on.
    Power {
        /// The tenant, by its name.
        tenant: String,
        /// What it is to do.
        power: Power,
        /// Why.
        reason: PowerReason,
        /// Until when; `None` until somebody says otherwise.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        until: Option<Timestamp>,
    },
    /// A token was made that lets its bearer in to a tenant. The token itself is kept nowhere.
    TokenMinted {
        /// The tenant.
        tenant: String,
        /// The token's id.
        id: TokenId,
        /// What its bearer may do.
        may: BTreeSet<Right>,
        /// From when on it counts for nothing.
        expires: Timestamp,
        /// Who asked for it.
        by: String,
    },
    /// A token counts no more.
    TokenRevoked {
        /// The tenant.
        tenant: String,
        /// The token's id.
        id: TokenId,
        /// Who said so.
        by: String,
    },
    /// A commit is bad for a tenant, which goes back to an older one as far as that is not looser.
    Bad {
        /// The tenant, by its name.
        tenant: String,
        /// The commit.
        revision: Revision,
        /// The one that it goes back to, if there is one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        back_to: Option<Revision>,
        /// The commits that narrow the one that it goes back to: of each setting the strictest is in force.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        narrowed_by: Vec<Revision>,
        /// What went wrong.
        reason: String,
    },
    /// A commit loosens a tenant, which stays as it was until somebody approves that.
    Waiting {
        /// The tenant, by its name.
        tenant: String,
        /// The commit.
        revision: Revision,
        /// The one that it stays at, if there is one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        at: Option<Revision>,
        /// The commits that narrow it: of each setting the strictest is in force.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        narrowed_by: Vec<Revision>,
        /// What loosens.
        loosens: Vec<String>,
        /// Who may approve.
        approvers: Vec<String>,
    },
    /// What loosens a tenant came into force because somebody approved it who may.
    Approved {
        /// The tenant, by its name.
        tenant: String,
        /// The commit.
        revision: Revision,
        /// What loosens.
        loosens: Vec<String>,
        /// Who signed the approval.
        by: String,
    },
    /// A tenant waits for no approval any more: what it waited for is declared no more.
    Withdrawn {
        /// The tenant, by its name.
        tenant: String,
        /// The commit.
        revision: Revision,
    },
    /// The gateway refused something. It keeps these in a journal of its own.
    Refused(RefusedRecord),
}

impl Entry {
    /// The types of the entries that are about the journal itself, as lines have them before they are read as a whole.
    pub const SEGMENT: &str = "segment";
    /// See [`Entry::SEGMENT`].
    pub const RECOVERED: &str = "recovered";
    /// See [`Entry::SEGMENT`].
    pub const LOST: &str = "lost";

    /// The one tenant that it is about; `None` for what is about the daemon, the journal or a commit.
    pub fn tenant(&self) -> Option<&str> {
        match self {
            Self::Intent(StepRecord { tenant, .. })
            | Self::Outcome(OutcomeRecord { tenant, .. })
            | Self::Drift(DriftRecord { tenant, .. })
            | Self::Refused(RefusedRecord { tenant, .. })
            | Self::Suspended { tenant, .. }
            | Self::Resumed { tenant, .. }
            | Self::Power { tenant, .. }
            | Self::TokenMinted { tenant, .. }
            | Self::TokenRevoked { tenant, .. }
            | Self::Waiting { tenant, .. }
            | Self::Withdrawn { tenant, .. }
            | Self::Approved { tenant, .. }
            | Self::Bad { tenant, .. } => Some(tenant),
            Self::Segment(_)
            | Self::Recovered(_)
            | Self::Lost { .. }
            | Self::Started { .. }
            | Self::Stopped { .. }
            | Self::Reloaded { .. }
            | Self::Revision(_) => None,
        }
    }
}

/// The entries that are shown and no more: no report counts them, and how a tenant stood does not follow from them. A
/// pattern, so that whoever counts entries has to think of every other one.
macro_rules! only_shown {
    () => {
        $crate::model::Entry::Reloaded { .. }
            | $crate::model::Entry::Power { .. }
            | $crate::model::Entry::TokenMinted { .. }
            | $crate::model::Entry::TokenRevoked { .. }
    };
}

pub(crate) use only_shown;

/// What stands for the destinations of a tenant that are not distinguished.
pub const OTHER_DESTINATIONS: &str = "other destinations";

/// Something that the gateway refused.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RefusedRecord {
    /// The tenant, by its name.
    pub tenant: String,
    /// Where it wanted to, cut to a length.
    pub destination: String,
    /// The rule that says no, such as `not-listed`; `not-recorded` for those that had no record of their own because
    /// the tenant had filled its part of the journal.
    pub rule: String,
    /// How often since the last record of the same.
    pub count: u64,
}

/// What a file of the journal begins with.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SegmentStart {
    /// The hash of the last record of the file before; empty in the first file of all.
    pub previous: String,
    /// Files that are removed because there are more than are kept.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub dropped: Vec<DroppedSegment>,
    /// When files are begun and dropped, since this one was begun; `None` where an older version wrote it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limits: Option<SegmentLimits>,
    /// Why the file before could not be gone on with, if it is damaged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub damage: Option<String>,
}

/// What `journal` in host.yaml said when a file was begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SegmentLimits {
    /// How many files are kept, the new one among them.
    pub files: u32,
    /// The size at which a file is closed, in bytes.
    pub file_size: u64,
}

/// A file of the journal that was removed because its time was over.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DroppedSegment {
    /// The number of its first record.
    pub first: u64,
    /// The number of its last record.
    pub last: u64,
    /// The hash of its last record.
    pub head: String,
}

/// The damaged end of a file: a write that a crash or a full disk cut off.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Recovered {
    /// The journal's file that it was found in.
    pub file: String,
    /// Where in the file it began, in bytes.
    pub offset: u64,
    /// How long it was, in bytes.
    pub bytes: u64,
    /// The file, beside the journal, that it lies in now.
    pub aside: String,
}

/// What became of a commit.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RevisionRecord {
    /// The commit.
    pub revision: Revision,
    /// What was decided.
    pub verdict: Verdict,
    /// Who signed it, where signatures are checked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signer: Option<String>,
    /// Why it was held or refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The tenants that it would remove, where that is why it was held.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tenants: Vec<String>,
    /// What `approve` takes, where it was held.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plan: Option<String>,
    /// Who approved it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
}

/// What is decided about a commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// It is in force.
    Accepted,
    /// It waits for an operator, or for a newer commit.
    Held,
    /// It is not applied: its signature or its policy is wrong.
    Refused,
    /// It was held, and an operator agreed: it is in force.
    Approved,
}

impl Verdict {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Accepted, Self::Held, Self::Refused, Self::Approved];

    /// The word in records and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Held => "held",
            Self::Refused => "refused",
            Self::Approved => "approved",
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One step of a tenant.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StepRecord {
    /// The tenant, by its name.
    pub tenant: String,
    /// The kind of resource: `container`, `network`, `workspace` or `egress`.
    pub resource: String,
    /// What is done, such as `update the limits`.
    pub step: String,
    /// The object: the engine's id, or a name where it has none yet.
    pub object: String,
    /// What changes, attribute by attribute.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub fields: Vec<FieldChange>,
    /// Whether a declaration changed or something behind tenantd's back: `intent` or `drift`.
    pub why: Why,
    /// What led to the observation.
    pub trigger: Trigger,
    /// The commit that declares the tenant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<String>,
    /// Who signed that commit, where signatures are checked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signer: Option<String>,
    /// The plan that the step is part of.
    pub plan: String,
}

/// Why something differs, and why a step is taken. It explains and decides nothing of what is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Why {
    /// A declaration changed.
    Intent,
    /// Something changed behind tenantd's back.
    Drift,
}

impl Why {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Intent, Self::Drift];

    /// The word in records, plans and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Intent => "intent",
            Self::Drift => "drift",
        }
    }

    /// A difference is drift where nothing of the declaration changed.
    pub const fn drift_if(is_drift: bool) -> Self {
        if is_drift { Self::Drift } else { Self::Intent }
    }
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One attribute before and after.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FieldChange {
    /// The attribute's name.
    pub name: String,
    /// As it was; null where there was no object.
    pub before: Value,
    /// As declared; null where the object goes.
    pub after: Value,
}

/// What led to the observation at a tenant. It is recorded and decides nothing.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Trigger {
    /// The engine reported something, or the kernel of an egress path.
    Event {
        /// What, such as `container update` or `egress link`.
        event: String,
        /// The object that it is about, by id or name.
        object: String,
        /// When it happened, by the clock of who reported it.
        time: Timestamp,
    },
    /// A commit came into force.
    Commit {
        /// Which.
        revision: Revision,
    },
    /// The daemon began, or the engine was away.
    Start,
    /// It was time for a full scan.
    FullPass,
    /// An earlier try failed.
    Retry,
    /// A person asked for it.
    Operator {
        /// Who, as far as the kernel or the shell knows.
        by: String,
    },
}

/// What became of a step.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OutcomeRecord {
    /// The number of the record with the intent.
    pub intent: u64,
    /// The tenant, by its name.
    pub tenant: String,
    /// What became of it.
    pub result: StepResult,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// How long it took, in milliseconds.
    pub took_ms: u64,
}

/// How a step ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum StepResult {
    /// As it should.
    Done,
    /// It failed.
    Failed,
    /// The program ended before it was known.
    Unknown,
}

impl StepResult {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Done, Self::Failed, Self::Unknown];

    /// The word in records and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Failed => "failed",
            Self::Unknown => "unknown",
        }
    }
}

impl fmt::Display for StepResult {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Drift that is left as it is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DriftRecord {
    /// The tenant, by its name.
    pub tenant: String,
    /// The kind of resource.
    pub resource: String,
    /// What differs, attribute by attribute.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub fields: Vec<FieldChange>,
    /// What led to the observation.
    pub trigger: Trigger,
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_types_of_what_is_about_the_journal_are_those_that_are_written() {
        let torn = Recovered { file: String::new(), offset: 0, bytes: 0, aside: String::new() };
        for (word, entry) in [
            (Entry::SEGMENT, Entry::Segment(SegmentStart::default())),
            (Entry::RECOVERED, Entry::Recovered(torn)),
            (Entry::LOST, Entry::Lost { records: 1, reason: String::new() }),
        ] {
            assert_eq!(json!(entry)["type"], word);
        }
    }
}
