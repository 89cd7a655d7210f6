//! What is found of a chain: that it holds, or where it breaks and why.

use std::{fmt, path::PathBuf};

use jiff::Timestamp;

use super::{
    error::JournalError,
    files::{LinePosition, name},
    line::Anchor,
};
use crate::model::record::{Recovered, SegmentLimits};

/// A journal whose chain holds.
#[derive(Debug)]
pub struct Verified {
    /// How many records there are.
    pub records: u64,
    /// In how many files.
    pub files: u64,
    /// The number of the first record; more than 1 where old files were dropped.
    pub first: u64,
    /// When the first record was written.
    pub begins: Option<Timestamp>,
    /// When the last record was written.
    pub ends: Option<Timestamp>,
    /// What says that the records before the first were dropped, where there were any.
    pub rotated: Option<Rotated>,
    /// The last record.
    pub head: Anchor,
    /// The torn ends that were set aside.
    pub set_aside: Vec<Recovered>,
    /// Bytes after the last record that are not a whole one: it is being written just now, or a crash
    /// cut it off and the next start sets it aside.
    pub tail: Option<Tail>,
    /// What else a person should know, each in a line: records that could not be written, a clock that was set back, a
    /// file that was begun early, fewer files kept than before, files that no record reports.
    pub remarks: Vec<String>,
    /// How many remarks there are beyond these.
    pub more_remarks: u64,
}

impl Verified {
    /// What to keep elsewhere: the last record, and the first.
    pub fn anchor(&self) -> Anchor {
        Anchor { first: Some(self.first), ..self.head.clone() }
    }
}

/// A record that says that those before the first were dropped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rotated {
    /// Its number.
    pub record: u64,
    /// When it was written.
    pub time: Option<Timestamp>,
    /// What was kept then.
    pub limits: Option<SegmentLimits>,
}

/// Bytes at the end that are not a whole record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tail {
    /// The file's name.
    pub file: String,
    /// Where in the file they begin, in bytes.
    pub offset: u64,
    /// How many.
    pub bytes: u64,
}

/// Where the chain breaks.
#[derive(Debug, thiserror::Error)]
#[error("{}{problem}", place(file.as_deref(), *line, *record))]
pub struct Broken {
    /// The file, where it is about one.
    pub file: Option<String>,
    /// The line in it, counted from 1.
    pub line: Option<u64>,
    /// The record that should be there.
    pub record: Option<u64>,
    /// What is wrong.
    #[source]
    pub problem: Problem,
    /// What else is wrong.
    pub others: Vec<Broken>,
    /// How much more beyond these.
    pub more: u64,
}

fn place(file: Option<&str>, line: Option<u64>, record: Option<u64>) -> String {
    match (file, line, record) {
        (Some(file), Some(line), Some(record)) => format!("{file}, line {line}, record {record}: "),
        _ => String::new(),
    }
}

/// What is wrong with a chain.
#[derive(Debug, thiserror::Error)]
pub enum Problem {
    /// There is nothing.
    #[error("there is no journal in {}", .0.display())]
    Empty(PathBuf),
    /// A line is not as it was written.
    #[error("the record was altered: {0}")]
    Altered(String),
    /// Records are missing, or not in their order.
    #[error("records were removed or reordered: record {expected} should be here, and record {found} is")]
    Order {
        /// The number that comes next.
        expected: u64,
        /// The number that is there.
        found: u64,
    },
    /// A record does not carry the hash of the one before.
    #[error("the record before it was altered or replaced: its hash is not the one that this record carries")]
    Unlinked,
    /// A file begins with something else than what its name says.
    #[error("the file was removed, renamed or replaced: it does not begin with the record that it is named by")]
    Misnamed,
    /// Records before a file are missing, and were not dropped as the oldest are.
    #[error("{0}")]
    Missing(Box<Missing>),
    /// The record of an anchor is not there.
    #[error("the journal was cut off: it ends with record {head}, and the anchor is record {anchor}")]
    CutOff {
        /// The last record.
        head: u64,
        /// The anchor's.
        anchor: u64,
    },
    /// The record of an anchor is another one.
    #[error("the journal was replaced: record {0} has another hash than the anchor")]
    OtherHash(u64),
    /// The record of an anchor was dropped with its file.
    #[error("record {0} of the anchor was dropped with its file long ago; keep a newer anchor")]
    AnchorDropped(u64),
    /// A newer version of the program wrote it.
    #[error("the record cannot be checked: {0}")]
    Newer(String),
    /// The file became shorter meanwhile.
    #[error("the file became shorter while it was read; verify it again")]
    Shrunk,
    /// A file cannot be read.
    #[error(transparent)]
    Unreadable(Box<JournalError>),
}

/// Records that are missing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Missing {
    /// The first that is missing.
    pub first: u64,
    /// The last.
    pub last: u64,
    /// When the record before them was written.
    pub after: Option<Timestamp>,
    /// When the one after them was.
    pub before: Option<Timestamp>,
    /// Why that is no dropping of old files.
    pub why: Why,
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { first, last, after, before, why } = self;
        let seconds = |time: &Timestamp| time.strftime("%Y-%m-%d %H:%M:%SZ").to_string();
        write!(f, "records {first} to {last} are missing")?;
        match (after, before) {
            (Some(after), Some(before)) => write!(f, ", written from {} to {}", seconds(after), seconds(before))?,
            (None, Some(before)) => write!(f, ", written until {}", seconds(before))?,
            (_, None) => {}
        }
        write!(f, ": {why}")
    }
}

/// Why records that are missing are no old ones that were dropped.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Why {
    /// There are older ones.
    #[error("there are older ones, and only the oldest are ever dropped")]
    Between,
    /// No record says so.
    #[error("no later record says that they were dropped")]
    Unsaid,
    /// A record says so that left fewer files than it keeps.
    #[error("record {record} says that they were dropped; that would have left {left} files, and {kept} are kept")]
    Few {
        /// Its number.
        record: u64,
        /// How many files there were with it.
        left: u64,
        /// How many are kept.
        kept: u32,
    },
    /// A record says so that does not say how much is kept, as those before it do.
    #[error("record {record} says that they were dropped, and not how many files are kept, as those before it do")]
    Unlimited {
        /// Its number.
        record: u64,
    },
    /// A record says so that is newer than the anchor and keeps less.
    #[error(
        "record {record} says that they were dropped, with {} kept, and {} were when the anchor was taken; where a person \
         set that, take a new anchor",
        kept(*now),
        kept(*then)
    )]
    Lowered {
        /// Its number.
        record: u64,
        /// What was kept at the anchor.
        then: SegmentLimits,
        /// What it keeps.
        now: SegmentLimits,
    },
    /// A record says so that is newer than the anchor, and how much was kept at the anchor is not known.
    #[error(
        "record {record} says that they were dropped, though the anchor had them, and record {then}, in whose file the anchor \
         lies, does not say how many files were kept; where that is known to be right, take a new anchor"
    )]
    Unknown {
        /// Its number.
        record: u64,
        /// The first record of the anchor's file.
        then: u64,
    },
    /// Since the anchor a file was begun too early, so that more were dropped.
    #[error("they were dropped since the anchor, and record {record} begins a file before the one before it was full")]
    Early {
        /// The file's first record.
        record: u64,
    },
}

impl Broken {
    pub(super) fn at(place: &LinePosition, record: u64, problem: Problem) -> Self {
        let (file, line) = (Some(name(place.first)), Some(place.line));
        Self { file, line, record: Some(record), problem, others: Vec::new(), more: 0 }
    }

    pub(super) fn whole(problem: Problem) -> Self {
        Self { file: None, line: None, record: None, problem, others: Vec::new(), more: 0 }
    }

    /// Everything that is wrong, in the order in which it was found.
    pub fn all(&self) -> impl Iterator<Item = &Self> {
        std::iter::once(self).chain(&self.others)
    }
}

/// How much is kept, in words.
pub(super) fn kept(limits: SegmentLimits) -> String {
    format!("{} files of {} bytes", limits.files, limits.file_size)
}
