//! What a report holds.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;

use super::{
    bounded::{Newest, Table},
    period::Period,
    timeline::Timeline,
};
use crate::{
    model::{
        record::{StepResult, Verdict},
        tree::Rewritten,
    },
    review::{Effect, Mark, history::Commit},
};

/// The version of the report's shape as JSON. A change that could break a reader raises the first number.
pub const FORMAT_VERSION: &str = "1.0";

/// What an auditor reads who was not there.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Report {
    /// The version of this shape.
    pub format_version: &'static str,
    /// The version of the program.
    pub tenantd_version: &'static str,
    /// When it was made.
    pub made: Timestamp,
    /// What it is about.
    pub period: Period,
    /// What was read.
    pub sources: Sources,
    /// All that is counted.
    pub totals: Totals,
    /// The commits that changed what was in force, oldest first.
    pub changes: Vec<Commit>,
    /// What was decided about commits.
    pub approvals: Newest<Approval>,
    /// What loosened a tenant and needed an approval.
    pub loosenings: Newest<Loosening>,
    /// What drifted, by tenant and resource.
    pub drift: Vec<DriftRow>,
    /// The stretches of time in which a tenant was left alone.
    pub suspensions: Newest<Suspension>,
    /// Commits that a tenant did not run well with.
    pub bad: Newest<BadCommit>,
    /// What the gateway refused, what was refused most first.
    pub refusals: Vec<RefusedDestination>,
    /// Each tenant that is declared in the period or that the journal names.
    pub tenants: Vec<TenantRow>,
    /// What was counted of tenants beyond the bound of the table.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub other_tenants: Option<Counts>,
    /// Where the record of what happened is not whole.
    pub gaps: Newest<Gap>,
    /// Single events of the journals, but for steps that a declaration asked for and that were done, and for refusals.
    pub events: Newest<Event>,
    /// What is drawn.
    #[serde(skip)]
    pub timeline: Timeline,
}

/// What a report was made from.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Sources {
    /// The config repo.
    pub repo: Repo,
    /// The journals.
    pub journals: Vec<Journal>,
    /// What the gateway counted.
    pub usage: Usage,
}

/// A config repo.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Repo {
    /// Where it lies.
    pub path: String,
    /// The revision whose history was read.
    pub rev: String,
    /// Its newest commit; `None` where there is none.
    pub head: Option<String>,
    /// How many commits led to that.
    pub commits: usize,
    /// The commit before the period; `None` where there was none yet.
    pub before: Option<String>,
    /// The newest commit of the period, or before it.
    pub at_end: Option<String>,
    /// How many of them carry a time before that of the commit before them. Such a commit, and those around it, are reported in
    /// each period that they may be of.
    pub backwards: usize,
    /// Whether older commits are missing, as in a shallow clone.
    pub shallow: bool,
    /// When the branch was rewritten, as far as the repository's log of it shows.
    pub rewritten: Vec<Rewritten>,
}

/// A journal that was read.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Journal {
    /// Its folder.
    pub folder: String,
    /// Whose it is, in a word.
    pub name: &'static str,
    /// Whether there is one.
    pub found: bool,
    /// How many records it has.
    pub records: u64,
    /// How many of them lie in the period.
    pub in_period: u64,
    /// Its first record.
    pub first: Option<u64>,
    /// When that was written.
    pub begins: Option<Timestamp>,
    /// When its last record was written.
    pub ends: Option<Timestamp>,
    /// Its first and last record as `FIRST..SEQ:HASH`, where the chain holds.
    pub head: Option<String>,
    /// Where the chain breaks, if it does.
    pub broken: Option<String>,
}

/// What is known of the use of allowlists.
#[derive(Clone, Debug, Default, Serialize, JsonSchema)]
pub struct Usage {
    /// Since when there have been counts.
    pub since: Option<Timestamp>,
    /// Why there are none, or what they lack.
    pub note: Option<String>,
    /// The destinations that each tenant used in the period.
    #[serde(skip)]
    pub used: BTreeMap<String, BTreeSet<String>>,
}

/// Counts of changes of settings.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Marks {
    /// Those that loosen.
    pub loosens: u64,
    /// Those that tighten.
    pub tightens: u64,
    /// Those that do neither.
    pub neutral: u64,
}

impl Approval {
    /// Whether it brought a commit into force that the history does not have.
    pub const fn is_foreign(&self) -> bool {
        !self.in_history && matches!(self.verdict, Verdict::Accepted | Verdict::Approved)
    }
}

impl Marks {
    pub(super) fn count(&mut self, effects: &[Effect]) {
        for effect in effects {
            *match effect.mark {
                Mark::Loosens => &mut self.loosens,
                Mark::Tightens => &mut self.tightens,
                Mark::Neutral => &mut self.neutral,
            } += 1;
        }
    }

    /// How many there are.
    pub const fn all(&self) -> u64 {
        self.loosens + self.tightens + self.neutral
    }
}

/// What became of steps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Steps {
    /// Steps that were begun.
    pub begun: u64,
    /// Of them: done.
    pub done: u64,
    /// Failed.
    pub failed: u64,
    /// Not known, because the program ended.
    pub unknown: u64,
    /// No outcome is on record.
    pub open: u64,
}

impl Steps {
    pub(super) const fn end(&mut self, result: StepResult) {
        match result {
            StepResult::Done => self.done += 1,
            StepResult::Failed => self.failed += 1,
            StepResult::Unknown => self.unknown += 1,
        }
    }

    pub(super) const fn close(&mut self) {
        self.open = self.begun.saturating_sub(self.done + self.failed + self.unknown);
    }

    pub(super) const fn add(&mut self, other: &Self) {
        self.begun += other.begun;
        self.done += other.done;
        self.failed += other.failed;
        self.unknown += other.unknown;
        self.open += other.open;
    }
}

/// What drifted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Drift {
    /// What was seen: the steps that were begun because of drift, and the records of drift that was left.
    pub seen: u64,
    /// Of it: put right.
    pub corrected: u64,
    /// The step failed.
    pub failed: u64,
    /// What became of the step is not known.
    pub unknown: u64,
    /// No outcome is on record.
    pub open: u64,
    /// Left as it was, as the declaration says.
    pub left: u64,
}

impl Drift {
    pub(super) const fn of(steps: &Steps, left: u64) -> Self {
        let Steps { begun, done, failed, unknown, open } = *steps;
        Self { seen: begun + left, corrected: done, failed, unknown, open, left }
    }
}

/// What the journals count of one tenant, or of all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Counts {
    /// Steps that a declaration asked for.
    pub intent: Steps,
    /// Drift.
    pub drift: Drift,
    /// Suspensions that lie in the period, or reach into it.
    pub suspensions: u64,
    /// Commits that were bad for it.
    pub bad: u64,
    /// Commits that loosened it and had to wait for an approval.
    pub waited: u64,
    /// Loosenings of it that somebody approved.
    pub agreed: u64,
    /// How often the gateway refused it something.
    pub refused: u64,
}

/// What is counted of one tenant while the journal is read.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tally {
    pub(super) intent: Steps,
    pub(super) drift: Steps,
    pub(super) left: u64,
    pub(super) suspensions: u64,
    pub(super) bad: u64,
    pub(super) waited: u64,
    pub(super) agreed: u64,
    pub(super) refused: u64,
}

impl Tally {
    pub(super) fn add(&mut self, other: &Self) {
        self.intent.add(&other.intent);
        self.drift.add(&other.drift);
        self.left += other.left;
        self.suspensions += other.suspensions;
        self.bad += other.bad;
        self.waited += other.waited;
        self.agreed += other.agreed;
        self.refused = self.refused.saturating_add(other.refused);
    }

    pub(super) const fn counts(&self) -> Counts {
        let Self { intent, drift, left, suspensions, bad, waited, agreed, refused } = *self;
        Counts { intent, drift: Drift::of(&drift, left), suspensions, bad, waited, agreed, refused }
    }
}

/// All that is counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Totals {
    /// Commits that changed what was in force, or would have and had errors.
    pub commits: u64,
    /// Of them: without a signature that a signer of this host made.
    pub unsigned: u64,
    /// Of them: with errors in what holds for all, so that nothing of them came into force.
    pub broken: u64,
    /// Changes of settings, of all tenants and of the fleet.
    pub changes: Marks,
    /// Of them: of the fleet's own policy.
    pub fleet_changes: Marks,
    /// Tenants at the begin of the period.
    pub tenants_at_from: u64,
    /// Tenants at its end.
    pub tenants_at_to: u64,
    /// How often a tenant was added.
    pub tenants_added: u64,
    /// How often one was removed.
    pub tenants_removed: u64,
    /// What was decided about commits.
    pub verdicts: Verdicts,
    /// Commits that were brought into force and that the history does not have.
    pub not_in_history: u64,
    /// What the journals count.
    #[serde(flatten)]
    pub counts: Counts,
    /// Suspensions that were not over at the end of the period.
    pub suspensions_open: u64,
    /// Entries of allowlists.
    pub allowlists: Growth,
    /// Gaps in the record.
    pub gaps: u64,
}

/// What was decided about commits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Verdicts {
    /// In force without anybody's doing.
    pub accepted: u64,
    /// Waiting for an operator.
    pub held: u64,
    /// In force by an operator.
    pub approved: u64,
    /// Not applied.
    pub refused: u64,
}

impl Verdicts {
    pub(super) const fn count(&mut self, verdict: Verdict) {
        match verdict {
            Verdict::Accepted => self.accepted += 1,
            Verdict::Held => self.held += 1,
            Verdict::Approved => self.approved += 1,
            Verdict::Refused => self.refused += 1,
        }
    }

    pub(super) const fn add(&mut self, other: &Self) {
        self.accepted += other.accepted;
        self.held += other.held;
        self.approved += other.approved;
        self.refused += other.refused;
    }
}

/// How many entries allowlists have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Growth {
    /// At the begin of the period.
    pub from: u64,
    /// At its end.
    pub to: u64,
    /// There at the end and not at the begin.
    pub added: u64,
    /// There at the begin and not at the end.
    pub removed: u64,
    /// There at the end, and not used in the period. `None` where that is not known.
    pub unused: Option<u64>,
}

/// What was decided about a commit.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Approval {
    /// When.
    pub time: Timestamp,
    /// The number of the record.
    pub seq: u64,
    /// The commit, as `main@sha1:…`.
    pub revision: String,
    /// What was decided.
    pub verdict: Verdict,
    /// Who signed it, where signatures are checked.
    pub signer: Option<String>,
    /// Why it was held or refused.
    pub reason: Option<String>,
    /// The id that `approve` takes.
    pub plan: Option<String>,
    /// Who approved it.
    pub by: Option<String>,
    /// How many tenants it would remove, where that is why it was held.
    pub removes: u64,
    /// Whether the history that was read has it.
    pub in_history: bool,
}

/// What drifted of one resource of one tenant.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct DriftRow {
    /// The tenant; `None` for what is beyond the bound of the table.
    pub tenant: Option<String>,
    /// The resource.
    pub resource: String,
    /// How often, and what became of it.
    #[serde(flatten)]
    pub drift: Drift,
    /// What differed, by the names of attributes, a few of them.
    pub fields: BTreeSet<String>,
    /// The last time.
    pub last: Option<Timestamp>,
}

/// A stretch of time in which a tenant was left alone.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Suspension {
    /// The tenant, by its name.
    pub tenant: String,
    /// Since when.
    pub from: Timestamp,
    /// Until when it was meant to last.
    pub until: Timestamp,
    /// When it was over; `None` where it was not at the end of the period.
    pub ended: Option<Timestamp>,
    /// How long it lasted, within the period or not, up to its end, in seconds.
    pub seconds: i64,
    /// Why.
    pub reason: String,
    /// Who said so.
    pub by: String,
    /// Who ended it.
    pub ended_by: Option<String>,
    /// What it means for the boundary: what drifts meanwhile stays, so that it loosens.
    pub mark: Mark,
}

/// What loosened a tenant, and waited for an approval or had it.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Loosening {
    /// When.
    pub time: Timestamp,
    /// The tenant, by its name.
    pub tenant: String,
    /// The commit.
    pub revision: String,
    /// What loosens.
    pub loosens: Vec<String>,
    /// Who signed the approval; `None` where it waits.
    pub approved_by: Option<String>,
    /// Who may approve, where it waits.
    pub approvers: Vec<String>,
}

/// A commit that a tenant did not run well with.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct BadCommit {
    /// When that was found.
    pub time: Timestamp,
    /// The tenant, by its name.
    pub tenant: String,
    /// The commit.
    pub revision: String,
    /// The one that the tenant went back to.
    pub back_to: Option<String>,
    /// Those that narrow it: of each setting the strictest is in force.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub narrowed_by: Vec<String>,
    /// What went wrong.
    pub reason: String,
}

/// What the gateway refused.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct RefusedDestination {
    /// The tenant; `None` for what is beyond the bound of the table.
    pub tenant: Option<String>,
    /// Where it wanted to.
    pub destination: String,
    /// The rule that says no.
    pub rule: String,
    /// How often.
    pub count: u64,
}

/// What a tenant's container may do, as its declaration makes it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Isolation {
    /// The class of its runtime.
    pub runtime: String,
    /// The capabilities that are taken from it.
    pub capabilities_dropped: Vec<String>,
    /// Those that it is given.
    pub capabilities_added: Vec<String>,
    /// Whether it is privileged.
    pub privileged: bool,
    /// The user that it runs as.
    pub user: String,
    /// Whether its root is read-only.
    pub read_only: bool,
    /// Further options, such as `no-new-privileges`.
    pub security: Vec<String>,
}

/// One tenant.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct TenantRow {
    /// Its name.
    pub tenant: String,
    /// Whether it was declared at the begin of the period.
    pub at_from: bool,
    /// Whether it is at its end.
    pub at_to: bool,
    /// Whether its file has errors at the end, so that what was declared before stays.
    pub held: bool,
    /// What its container may do at the end.
    pub isolation: Option<Isolation>,
    /// Its limits at the end, by name.
    pub limits: BTreeMap<String, Value>,
    /// Commits that changed it.
    pub commits: u64,
    /// Changes of its settings.
    pub changes: Marks,
    /// What the journals count of it.
    #[serde(flatten)]
    pub counts: Counts,
    /// Its allowlist.
    pub allowlist: Allowlist,
}

/// What a tenant may reach.
#[derive(Clone, Debug, Default, Serialize, JsonSchema)]
pub struct Allowlist {
    /// How many entries at the begin of the period.
    pub from: u64,
    /// At its end.
    pub to: u64,
    /// There at the end and not at the begin.
    pub added: Vec<String>,
    /// There at the begin and not at the end.
    pub removed: Vec<String>,
    /// There at the end, and not used in the period. `None` where that is not known.
    pub unused: Option<Vec<String>>,
}

/// What kind of gap it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum GapKind {
    /// There is no journal.
    NoJournal,
    /// The chain of records does not hold.
    Chain,
    /// The journal begins later than the period.
    BeginsLate,
    /// Files were dropped because there were more than are kept.
    Dropped,
    /// Records are not there.
    Missing,
    /// Lines are no records.
    Unreadable,
    /// Records could not be written.
    Lost,
    /// The end of a file was torn and set aside.
    Torn,
    /// A file was damaged, and another was begun.
    Damage,
    /// No daemon ran.
    NoDaemon,
    /// The clock was set back.
    Clock,
}

impl GapKind {
    /// The words in tables.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NoJournal => "no journal",
            Self::Chain => "chain broken",
            Self::BeginsLate => "begins late",
            Self::Dropped => "dropped",
            Self::Missing => "missing",
            Self::Unreadable => "unreadable",
            Self::Lost => "lost",
            Self::Torn => "torn",
            Self::Damage => "damage",
            Self::NoDaemon => "no daemon",
            Self::Clock => "clock",
        }
    }
}

/// Where the record of what happened is not whole.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Gap {
    /// The journal.
    pub journal: &'static str,
    /// What kind it is.
    pub kind: GapKind,
    /// Since when.
    pub from: Timestamp,
    /// Until when.
    pub to: Timestamp,
    /// What is known of it.
    pub what: String,
}

/// One event of a journal.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Event {
    /// When.
    pub time: Timestamp,
    /// The journal.
    pub journal: &'static str,
    /// The number of its record.
    pub seq: u64,
    /// The tenant, if it is about one.
    pub tenant: Option<String>,
    /// A word for what it is.
    pub kind: String,
    /// What happened.
    pub what: String,
    /// How it ended, where it is a step.
    pub result: Option<String>,
    /// What led to it, where it is a step.
    pub because: Option<String>,
}

/// Drift by tenant and resource, while the journal is read.
pub(super) type DriftTable = Table<(String, String), DriftTally>;

/// What is counted of one resource of one tenant.
#[derive(Clone, Debug, Default)]
pub struct DriftTally {
    pub(super) steps: Steps,
    pub(super) left: u64,
    pub(super) fields: BTreeSet<String>,
    pub(super) last: Option<Timestamp>,
}
