//! The conditions of the daemon and of each tenant, as operators know them from Kubernetes. All that is known of a kind or of
//! a reason stands here: who has it, its word, and when a person should look.

use std::fmt;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// One condition, as `status`, the metrics and the socket show it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Condition {
    /// Its name, such as `Ready`.
    #[serde(rename = "type")]
    pub kind: ConditionKind,
    /// Whether it holds.
    pub status: Truth,
    /// Why, in one word.
    pub reason: Reason,
    /// Why, in one line.
    pub message: String,
    /// Since when.
    pub since: Timestamp,
}

impl Condition {
    /// Whether nobody need look at it.
    pub fn is_fine(&self) -> bool {
        match self.kind.facts().fine {
            Fine::WhenTrue => self.status == Truth::True,
            Fine::UnlessTrue => self.status != Truth::True,
            Fine::UnlessFalse => self.status != Truth::False,
        }
    }
}

/// An enumeration whose variants are the words on the wire, and the list of them.
macro_rules! words {
    ($(#[$of_all:meta])* $all:ident: $($(#[$of_one:meta])* $one:ident,)*) => {
        $(#[$of_all])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
        pub enum $all { $($(#[$of_one])* $one,)* }

        impl $all {
            /// All of them, in the order in which they are shown.
            pub const ALL: [Self; [$(Self::$one),*].len()] = [$(Self::$one),*];

            /// Its word.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$one => stringify!($one),)* }
            }
        }

        impl fmt::Display for $all {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }
    };
}

words! {
    /// The conditions; docs/operations.md has the table.
    ConditionKind:
    /// The commit in force is carried out.
    Ready,
    /// Work is under way.
    Reconciling,
    /// A person should look.
    Stalled,
    /// It runs.
    Healthy,
    /// Something differs that no commit changed.
    Drifted,
    /// The newest commit's signatures count.
    SourceVerified,
}

words! {
    /// Whether a condition holds.
    Truth:
    /// It does.
    True,
    /// It does not.
    False,
    /// That is not known.
    Unknown,
}

words! {
    /// Why a condition is as it is; docs/operations.md has the table.
    Reason:
    /// What is in force is carried out.
    ReconciliationSucceeded,
    /// It is about to be, or is not known yet.
    Progressing,
    /// The engine does not answer.
    DependencyNotReady,
    /// The journal cannot be written.
    JournalUnavailable,
    /// The state cannot be kept.
    StateUnavailable,
    /// The config repo cannot be read.
    SourceUnavailable,
    /// The newest commit waits for an operator.
    RevisionHeld,
    /// The newest commit cannot be used.
    RevisionRefused,
    /// The newest commit's signatures count.
    Verified,
    /// They do not.
    Unverified,
    /// Signatures are not checked.
    NotVerified,
    /// An operator asked to leave the tenant alone.
    Suspended,
    /// The tenant is frozen, because it was asked to be.
    Paused,
    /// Nothing of the tenant runs, because it was asked to sleep.
    Asleep,
    /// Something is in the way of the tenant.
    Blocked,
    /// A step failed.
    ReconciliationFailed,
    /// The newest declaration did not run well.
    BadCommit,
    /// The newest declaration loosens, and waits for an approval.
    ApprovalNeeded,
    /// The tenant's file is wrong in the newest commit.
    InvalidFile,
    /// Something differs.
    DriftDetected,
    /// Nothing differs.
    InSync,
    /// Nothing is to be done.
    Idle,
    /// No person is needed.
    NotStalled,
    /// It runs as declared.
    Running,
    /// The health check of its image fails.
    Unhealthy,
    /// It does not run as declared.
    NotAsDeclared,
    /// It was not observed yet.
    NotLookedAt,
}

/// What is known of a kind of condition.
struct Facts {
    of_tenants: bool,
    of_daemon: bool,
    fine: Fine,
}

/// When nobody need look at a condition.
enum Fine {
    WhenTrue,
    UnlessTrue,
    UnlessFalse,
}

impl ConditionKind {
    const fn facts(self) -> Facts {
        match self {
            Self::Ready => Facts { of_tenants: true, of_daemon: true, fine: Fine::WhenTrue },
            Self::Reconciling => Facts { of_tenants: true, of_daemon: false, fine: Fine::UnlessTrue },
            Self::Stalled => Facts { of_tenants: true, of_daemon: true, fine: Fine::UnlessTrue },
            Self::Healthy => Facts { of_tenants: true, of_daemon: false, fine: Fine::WhenTrue },
            Self::Drifted => Facts { of_tenants: true, of_daemon: false, fine: Fine::UnlessTrue },
            Self::SourceVerified => Facts { of_tenants: false, of_daemon: true, fine: Fine::UnlessFalse },
        }
    }

    /// Whether each tenant has it.
    pub const fn is_of_tenants(self) -> bool {
        self.facts().of_tenants
    }

    /// Whether the daemon as a whole has it.
    pub const fn is_of_daemon(self) -> bool {
        self.facts().of_daemon
    }
}

/// What a reason does to whose it is.
enum Effect {
    /// What is in force is carried out, or will be.
    None,
    /// The tenant needs a person.
    StallsTenant,
    /// The daemon can carry out nothing.
    StopsDaemon,
}

impl Reason {
    const fn effect(self) -> Effect {
        match self {
            Self::StateUnavailable | Self::JournalUnavailable | Self::DependencyNotReady => Effect::StopsDaemon,
            Self::Blocked | Self::ReconciliationFailed | Self::BadCommit | Self::ApprovalNeeded | Self::InvalidFile => {
                Effect::StallsTenant
            }
            Self::ReconciliationSucceeded
            | Self::Progressing
            | Self::SourceUnavailable
            | Self::RevisionHeld
            | Self::RevisionRefused
            | Self::Verified
            | Self::Unverified
            | Self::NotVerified
            | Self::Suspended
            | Self::Paused
            | Self::Asleep
            | Self::DriftDetected
            | Self::InSync
            | Self::Idle
            | Self::NotStalled
            | Self::Running
            | Self::Unhealthy
            | Self::NotAsDeclared
            | Self::NotLookedAt => Effect::None,
        }
    }

    /// Whether a tenant that is not ready because of it needs a person.
    pub const fn stalls_tenant(self) -> bool {
        matches!(self.effect(), Effect::StallsTenant)
    }

    /// Whether what stalls the daemon for this reason also keeps it from carrying out what is in force. A commit that is not
    /// taken in does not.
    pub const fn stops_daemon(self) -> bool {
        matches!(self.effect(), Effect::StopsDaemon)
    }
}

impl From<bool> for Truth {
    fn from(holds: bool) -> Self {
        if holds { Self::True } else { Self::False }
    }
}
