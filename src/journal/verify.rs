//! Following the chain from the first record to the last.

use std::path::{Path, PathBuf};

use super::{
    Item, JournalError,
    files::{Next, Place, TRIES, Walk, name},
    line::{self, Anchor, Line, LineError},
    read::{item, unreadable},
};
use crate::model::{
    Entry, Record,
    record::{DroppedSegment, Recovered, SegmentStart},
};

/// A journal whose chain holds.
#[derive(Debug)]
pub struct Verified {
    /// How many records there are.
    pub records: u64,
    /// In how many files.
    pub files: u64,
    /// The number of the first record; more than 1 where old files were dropped.
    pub first: u64,
    /// The last record.
    pub head: Anchor,
    /// The torn ends that were set aside.
    pub set_aside: Vec<Recovered>,
    /// Bytes after the last record that are not a whole one: it is being written just now, or a crash
    /// cut it off and the next start sets it aside.
    pub tail: Option<Tail>,
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
    /// Records before a file are missing, and no record says that they were dropped.
    #[error("records {first} to {last} were removed: no later record says that they were dropped")]
    Missing {
        /// The first that is missing.
        first: u64,
        /// The last.
        last: u64,
    },
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

impl Broken {
    fn at(place: &Place, record: u64, problem: Problem) -> Self {
        Self { file: Some(name(place.first)), line: Some(place.line), record: Some(record), problem }
    }

    fn whole(problem: Problem) -> Self {
        Self { file: None, line: None, record: None, problem }
    }
}

/// Checks each record against its own hash and the one before, and that none is missing.
///
/// A record that was taken off the end leaves no trace in the chain: `expected`, an anchor that was
/// kept elsewhere, shows it. It is safe while another process writes.
///
/// # Errors
/// The first place where the chain breaks; or a file cannot be read.
pub fn verify(folder: &Path, expected: Option<&Anchor>) -> Result<Verified, Broken> {
    for _ in 0..TRIES {
        match verify_once(folder, expected) {
            // The record that would say what was dropped before the file was dropped itself, before it
            // was reached.
            Err(Broken { file: Some(file), problem: Problem::Missing { .. }, .. }) if !folder.join(&file).exists() => {}
            result => return result,
        }
    }
    verify_once(folder, expected)
}

fn verify_once(folder: &Path, expected: Option<&Anchor>) -> Result<Verified, Broken> {
    let mut walk = Walk::new(folder, 0);
    let mut chain = Chain { expected, ..Chain::default() };
    let mut buffer = Vec::new();
    let tail = loop {
        match walk.next(&mut buffer).map_err(|e| Broken::whole(Problem::Unreadable(Box::new(e))))? {
            Next::Line(place) => {
                let line = line::parse(&buffer).map_err(|e| Broken::at(&place, chain.next(&place), problem(&e)))?;
                chain.add(&place, &line, &buffer)?;
            }
            Next::NoLine(place, bytes) => {
                let altered = Problem::Altered(format!("{bytes} bytes are not a whole record"));
                return Err(Broken::at(&place, chain.next(&place), altered));
            }
            Next::Shrunk(place) => return Err(Broken::at(&place, chain.next(&place), Problem::Shrunk)),
            Next::End(_, 0) => break None,
            Next::End(place, bytes) => break Some(Tail { file: name(place.first), offset: place.offset, bytes }),
        }
    };
    chain.end(folder, tail)
}

fn problem(error: &LineError) -> Problem {
    match error {
        LineError::Newer(_) => Problem::Newer(error.to_string()),
        other => Problem::Altered(other.to_string()),
    }
}

/// Reads all records in their order, once, and follows the chain on the way. Where it breaks, reading goes on: the first
/// break is returned beside what was gathered of all records that can be read.
///
/// What is gathered is begun anew where files went away meanwhile. It is safe while another process writes.
///
/// # Errors
/// The folder or a file cannot be read.
pub fn check<V>(
    folder: &Path,
    begin: impl Fn() -> V,
    mut visit: impl FnMut(&mut V, &Item<'_>),
) -> Result<(V, Result<Verified, Broken>), JournalError> {
    let mut tries = 0;
    loop {
        tries += 1;
        let mut gathered = begin();
        let result = check_once(folder, |item| visit(&mut gathered, item))?;
        let again = match &result {
            Err(Broken { problem: Problem::Shrunk, .. }) => true,
            Err(Broken { file: Some(file), problem: Problem::Missing { .. }, .. }) => !folder.join(file).exists(),
            _ => false,
        };
        if !again || tries >= TRIES {
            return Ok((gathered, result));
        }
    }
}

fn check_once(folder: &Path, mut visit: impl FnMut(&Item<'_>)) -> Result<Result<Verified, Broken>, JournalError> {
    let mut walk = Walk::new(folder, 0);
    let mut chain = Chain::default();
    let mut broken = None;
    let mut buffer = Vec::new();
    let tail = loop {
        match walk.next(&mut buffer)? {
            Next::Line(place) => {
                let parsed = line::parse(&buffer);
                if broken.is_none() {
                    let linked = match &parsed {
                        Ok(line) => chain.add(&place, line, &buffer),
                        Err(e) => Err(Broken::at(&place, chain.next(&place), problem(e))),
                    };
                    broken = linked.err();
                }
                visit(&match parsed {
                    Ok(_) => item(&place, &buffer),
                    Err(e) => unreadable(&place, &e.to_string()),
                });
            }
            Next::NoLine(place, bytes) => {
                let why = format!("{bytes} bytes are not a whole record");
                visit(&unreadable(&place, &why));
                broken.get_or_insert_with(|| Broken::at(&place, chain.next(&place), Problem::Altered(why)));
            }
            Next::Shrunk(place) => return Ok(Err(Broken::at(&place, chain.next(&place), Problem::Shrunk))),
            Next::End(_, 0) => break None,
            Next::End(place, bytes) => break Some(Tail { file: name(place.first), offset: place.offset, bytes }),
        }
    };
    Ok(match broken {
        Some(broken) => Err(broken),
        None => chain.end(folder, tail),
    })
}

/// The chain as far as it was followed.
#[derive(Default)]
struct Chain<'a> {
    expected: Option<&'a Anchor>,
    records: u64,
    files: u64,
    first: u64,
    head: Option<Anchor>,
    set_aside: Vec<Recovered>,
    /// Where records are missing before a file.
    gaps: Vec<Gap>,
    dropped: Vec<DroppedSegment>,
}

struct Gap {
    place: Place,
    /// The first record that is missing.
    from: u64,
    /// The first that is there again.
    to: u64,
    /// The hash of the last one that is missing.
    head: String,
}

impl Chain<'_> {
    /// The number of the record that should come next.
    fn next(&self, place: &Place) -> u64 {
        if place.line == 1 { place.first } else { self.head.as_ref().map_or(1, Anchor::next) }
    }

    fn add(&mut self, place: &Place, line: &Line<'_>, bytes: &[u8]) -> Result<(), Broken> {
        let record = self.next(place);
        let broken = |problem| Err(Broken::at(place, record, problem));
        let before = self.head.clone().unwrap_or_else(Anchor::genesis);
        let begins = place.line == 1;
        if begins && (line.seq != place.first || line.kind != "segment") {
            return broken(Problem::Misnamed);
        }
        if !before.is_followed_by(line.seq, line.prev) {
            if line.seq == before.next() {
                return broken(Problem::Unlinked);
            }
            if !begins || line.seq < before.next() {
                return broken(Problem::Order { expected: before.next(), found: line.seq });
            }
            let head = line.prev.to_owned();
            self.gaps.push(Gap { place: place.clone(), from: before.next(), to: line.seq, head });
        }
        if matches!(&*line.kind, "segment" | "recovered") {
            let record: Result<Record, _> = serde_json::from_slice(bytes);
            match record.map(|record| record.entry) {
                Ok(Entry::Segment(start)) if begins => self.begin(place, line, start)?,
                Ok(Entry::Recovered(recovered)) => self.set_aside.push(recovered),
                Ok(_) => return broken(Problem::Altered("a file begins in the middle of another".to_owned())),
                Err(e) => return broken(Problem::Altered(format!("it is no record that is known here: {e}"))),
            }
        }
        if let Some(anchor) = self.expected.filter(|anchor| anchor.seq == line.seq)
            && anchor.hash != line.hash
        {
            return broken(Problem::OtherHash(anchor.seq));
        }
        if self.records == 0 {
            self.first = line.seq;
        }
        self.records += 1;
        self.head = Some(line.anchor());
        Ok(())
    }

    fn begin(&mut self, place: &Place, line: &Line<'_>, start: SegmentStart) -> Result<(), Broken> {
        let is_first_of_all = start.previous.is_empty() && Anchor::genesis().is_followed_by(line.seq, line.prev);
        if start.previous != line.prev && !is_first_of_all {
            let why = "the hash of the file before is not the one of the record before";
            return Err(Broken::at(place, line.seq, Problem::Altered(why.to_owned())));
        }
        self.files += 1;
        self.dropped.extend(start.dropped);
        Ok(())
    }

    /// Whether a record says that what is missing was dropped. Files are dropped oldest first, so that
    /// the last of a row stands for those before it.
    fn was_dropped(&self, last: u64, hash: &str) -> bool {
        self.dropped.iter().any(|dropped| dropped.last == last && dropped.head == hash)
    }

    fn end(self, folder: &Path, tail: Option<Tail>) -> Result<Verified, Broken> {
        for gap in &self.gaps {
            if !self.was_dropped(gap.to - 1, &gap.head) {
                let missing = Problem::Missing { first: gap.from, last: gap.to - 1 };
                return Err(Broken::at(&gap.place, gap.to, missing));
            }
        }
        let Some(head) = self.head.clone() else {
            return Err(Broken::whole(Problem::Empty(folder.to_owned())));
        };
        if let Some(anchor) = self.expected {
            if anchor.seq > head.seq {
                return Err(Broken::whole(Problem::CutOff { head: head.seq, anchor: anchor.seq }));
            }
            let is_missing =
                anchor.seq < self.first || self.gaps.iter().any(|gap| (gap.from..gap.to).contains(&anchor.seq));
            if is_missing && !self.was_dropped(anchor.seq, &anchor.hash) {
                return Err(Broken::whole(Problem::AnchorDropped(anchor.seq)));
            }
        }
        let Self { records, files, first, set_aside, .. } = self;
        Ok(Verified { records, files, first, head, set_aside, tail })
    }
}
