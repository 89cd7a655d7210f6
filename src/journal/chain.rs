//! The chain of records, followed from one to the next: whether each is as it was written, and what is missing.
//!
//! Who can write the folder can write records whose hashes are right. So a record that says that others were dropped is
//! believed as far as the writer would have dropped them: from the beginning alone, and only as many files as are too
//! many. Against an anchor, what came after it must not keep less than what was there before.

use std::{collections::BTreeSet, fs, path::Path};

use jiff::{SignedDuration, Timestamp};

use super::{
    files::{self, LinePosition},
    line::{Anchor, Line},
    verified::{Broken, Missing, Problem, Rotated, Tail, Verified, Why, kept},
    writer::{self, LEAST_FILES},
};
use crate::model::{
    Entry, Record,
    record::{DroppedSegment, Recovered, SegmentLimits, SegmentStart},
};

/// How many breaks, and how many remarks, are kept. The others are counted.
const KEPT: usize = 100;

/// How far a clock must be set back to be reported.
const CLOCK: SignedDuration = SignedDuration::from_secs(1);

/// The chain as far as it was followed.
#[derive(Default)]
pub(super) struct Chain<'a> {
    expected: Option<&'a Anchor>,
    records: u64,
    /// The first record, with what it has for the hash of the one before and its time.
    first: Option<(u64, String, Option<Timestamp>)>,
    head: Option<Anchor>,
    /// When the last record was written.
    time: Option<Timestamp>,
    /// Where the last line ends in its file, in bytes.
    length: u64,
    files: Vec<Begun>,
    set_aside: Vec<Recovered>,
    /// A line was no record: what comes next follows from something that is not known.
    lost: bool,
    breaks: Vec<Broken>,
    more_breaks: u64,
    remarks: Vec<String>,
    more_remarks: u64,
}

/// A file's first record.
struct Begun {
    seq: u64,
    time: Option<Timestamp>,
    limits: Option<SegmentLimits>,
    dropped: Vec<DroppedSegment>,
    /// How long the file before is, as far as it was read.
    before: Option<u64>,
}

impl<'a> Chain<'a> {
    pub(super) fn new(expected: Option<&'a Anchor>) -> Self {
        Self { expected, ..Self::default() }
    }

    /// The number of the record that should come next.
    pub(super) fn next(&self, place: &LinePosition) -> u64 {
        if place.line == 1 { place.first } else { self.head.as_ref().map_or(1, Anchor::next) }
    }

    /// Whether what is missing was dropped while the files were read: the oldest one that was read is there no more.
    pub(super) fn was_overtaken(&self, folder: &Path) -> bool {
        let is_missing = self.breaks.iter().any(|broken| matches!(broken.problem, Problem::Missing(_)));
        is_missing && self.files.first().is_some_and(|oldest| !folder.join(files::name(oldest.seq)).exists())
    }

    /// Takes in that something is wrong at a place.
    pub(super) fn broken(&mut self, place: &LinePosition, problem: Problem) {
        let broken = Broken::at(place, self.next(place), problem);
        self.breaks_at(broken);
    }

    /// Takes in a line that is no record.
    pub(super) fn no_record(&mut self, place: &LinePosition, problem: Problem) {
        self.broken(place, problem);
        self.lost = true;
    }

    fn breaks_at(&mut self, broken: Broken) {
        match self.breaks.len() < KEPT {
            true => self.breaks.push(broken),
            false => self.more_breaks += 1,
        }
    }

    fn remark(&mut self, remark: impl FnOnce() -> String) {
        match self.remarks.len() < KEPT {
            true => self.remarks.push(remark()),
            false => self.more_remarks += 1,
        }
    }

    /// Takes in a record.
    pub(super) fn add(&mut self, place: &LinePosition, line: &Line<'_>, bytes: &[u8]) {
        self.follow(place, line);
        match &*line.kind {
            Entry::SEGMENT | Entry::RECOVERED | Entry::LOST => self.entry(place, line, bytes),
            _ => {}
        }
        if let Some(anchor) = self.expected.filter(|anchor| anchor.seq == line.seq)
            && anchor.hash != line.hash
        {
            self.broken(place, Problem::OtherHash(anchor.seq));
        }
        if let (Some(before), Some(time)) = (self.time, line.time)
            && before.duration_since(time) > CLOCK
        {
            let by = before.duration_since(time).as_secs();
            self.remark(|| format!("the clock was set back by {by} s before record {}, which is of {time}", line.seq));
        }
        if self.first.is_none() {
            self.first = Some((line.seq, line.prev.to_owned(), line.time));
        }
        self.records += 1;
        self.time = line.time.or(self.time);
        self.length = place.offset.saturating_add(bytes.len() as u64 + 1);
        self.head = Some(line.anchor());
        self.lost = false;
    }

    /// Whether a record comes right after the one before it.
    fn follow(&mut self, place: &LinePosition, line: &Line<'_>) {
        let begins = place.line == 1;
        if begins && (line.seq != place.first || line.kind != Entry::SEGMENT) {
            self.broken(place, Problem::Misnamed);
        }
        let Some(before) = self.head.clone() else {
            if line.seq == 1 && !Anchor::genesis().is_followed_by(1, line.prev) {
                self.broken(place, Problem::Unlinked);
            }
            return;
        };
        if self.lost || before.is_followed_by(line.seq, line.prev) {
            return;
        }
        let expected = before.next();
        if line.seq == expected {
            self.broken(place, Problem::Unlinked);
        } else if begins && line.seq > expected {
            let missing =
                Missing { first: expected, last: line.seq - 1, after: self.time, before: line.time, why: Why::Between };
            let missing = Problem::Missing(Box::new(missing));
            self.breaks_at(Broken::at(place, line.seq, missing));
        } else {
            self.broken(place, Problem::Order { expected, found: line.seq });
        }
    }

    /// Takes in a record that is about the journal itself.
    fn entry(&mut self, place: &LinePosition, line: &Line<'_>, bytes: &[u8]) {
        let altered = |why: String| Problem::Altered(why);
        match serde_json::from_slice::<Record>(bytes).map(|record| record.entry) {
            Ok(Entry::Segment(start)) if place.line == 1 => self.begin(place, line, start),
            Ok(Entry::Recovered(recovered)) => self.set_aside.push(recovered),
            Ok(Entry::Lost { records, reason }) => {
                self.remark(|| format!("{records} records before record {} could not be written: {reason}", line.seq))
            }
            Ok(_) => self.broken(place, altered("a file begins in the middle of another".to_owned())),
            Err(e) => self.broken(place, altered(format!("it is no record that is known here: {e}"))),
        }
    }

    fn begin(&mut self, place: &LinePosition, line: &Line<'_>, start: SegmentStart) {
        let is_first_of_all = start.previous.is_empty() && Anchor::genesis().is_followed_by(line.seq, line.prev);
        if start.previous != line.prev && !is_first_of_all {
            let why = "the hash of the file before is not the one of the record before";
            self.broken(place, Problem::Altered(why.to_owned()));
        }
        let SegmentStart { dropped, limits, damage, .. } = start;
        let before = self.head.as_ref().map(|_| self.length);
        let seq = line.seq;
        match (&damage, before, limits) {
            (Some(damage), ..) => self.remark(|| format!("record {seq} begins a new file: {damage}")),
            (None, Some(length), Some(limits)) if length < limits.file_size => self.remark(|| {
                let full = limits.file_size;
                format!("record {seq} begins a new file, though the one before it has {length} of {full} bytes")
            }),
            _ => {}
        }
        if let (Some(then), Some(now)) = (self.files.last().and_then(|file| file.limits), limits)
            && (now.files < then.files || now.file_size < then.file_size)
        {
            self.remark(|| format!("record {seq} keeps {}, and {} were kept before", kept(now), kept(then)));
        }
        self.files.push(Begun { seq: line.seq, time: line.time, limits, dropped, before });
    }

    /// What there is to say of the whole.
    pub(super) fn end(mut self, folder: &Path, tail: Option<Tail>) -> Result<Verified, Broken> {
        let Some(head) = self.head.clone() else {
            return Err(self.first_break().unwrap_or_else(|| Broken::whole(Problem::Empty(folder.to_owned()))));
        };
        let first = self.first.as_ref().map_or(1, |(first, ..)| *first);
        let rotated = (first > 1).then(|| self.beginning(first)).transpose();
        let rotated = rotated.unwrap_or_else(|missing| {
            self.breaks_at(Broken::whole(Problem::Missing(Box::new(missing))));
            None
        });
        if let Some(anchor) = self.expected {
            if anchor.seq > head.seq {
                self.breaks_at(Broken::whole(Problem::CutOff { head: head.seq, anchor: anchor.seq }));
            } else if anchor.seq < first {
                self.breaks_at(Broken::whole(Problem::AnchorDropped(anchor.seq)));
            }
        }
        if let Some(broken) = self.first_break() {
            return Err(broken);
        }
        self.folder(folder);
        let Self { records, files, set_aside, remarks, more_remarks, time, .. } = self;
        Ok(Verified {
            records,
            files: files.len() as u64,
            first,
            begins: self.first.and_then(|(.., time)| time),
            ends: time,
            rotated,
            head,
            set_aside,
            tail,
            remarks,
            more_remarks,
        })
    }

    /// The first break, with the others in it.
    fn first_break(&mut self) -> Option<Broken> {
        let mut breaks = std::mem::take(&mut self.breaks).into_iter();
        let mut broken = breaks.next()?;
        (broken.others, broken.more) = (breaks.collect(), self.more_breaks);
        Some(broken)
    }

    /// Whether the records before the first were dropped as the writer would have dropped them.
    fn beginning(&self, first: u64) -> Result<Rotated, Missing> {
        let missing = |why| {
            let before = self.first.as_ref().and_then(|(.., time)| *time);
            Missing { first: 1, last: first - 1, after: None, before, why }
        };
        let hash = self.first.as_ref().map_or("", |(_, hash, _)| hash);
        // Files are dropped oldest first, so that the last of a row stands for those before it.
        let is_meant = |dropped: &DroppedSegment| dropped.last == first - 1 && dropped.head == hash;
        let mut why = Why::Unsaid;
        for (place, begun) in self.files.iter().enumerate() {
            if !begun.dropped.iter().any(is_meant) {
                continue;
            }
            match self.is_believed(place, begun).and_then(|()| self.is_anchored(first, place, begun)) {
                Ok(()) => return Ok(Rotated { record: begun.seq, time: begun.time, limits: begun.limits }),
                Err(wrong) => why = wrong,
            }
        }
        Err(missing(why))
    }

    /// Whether as many files were left as are kept. `place` is that of the file which says what was dropped.
    fn is_believed(&self, place: usize, begun: &Begun) -> Result<(), Why> {
        let (record, left) = (begun.seq, place as u64 + 1);
        let kept = match begun.limits {
            Some(limits) => limits.files.max(LEAST_FILES),
            // Once records say how many are kept, all do.
            None if self.files.iter().take(place).any(|file| file.limits.is_some()) => {
                return Err(Why::Unlimited { record });
            }
            None => LEAST_FILES,
        };
        if left < u64::from(kept) { Err(Why::Few { record, left, kept }) } else { Ok(()) }
    }

    /// Whether files were dropped since an anchor was taken only as they would have been with what was kept then.
    fn is_anchored(&self, first: u64, place: usize, begun: &Begun) -> Result<(), Why> {
        let Some(anchor) = self.expected.filter(|anchor| anchor.seq < begun.seq) else { return Ok(()) };
        if anchor.first.is_some_and(|before| first <= before) {
            return Ok(());
        }
        let record = begun.seq;
        let Some(file) = self.files.iter().rfind(|file| file.seq <= anchor.seq) else { return Ok(()) };
        let Some(then) = file.limits else {
            // An anchor that does not say the first record was taken when no file said more.
            return anchor.first.map_or(Ok(()), |_| Err(Why::Unknown { record, then: file.seq }));
        };
        let now = begun.limits.unwrap_or(SegmentLimits { files: 0, file_size: 0 });
        if now.files < then.files || now.file_size < then.file_size {
            return Err(Why::Lowered { record, then, now });
        }
        let since = self.files.iter().take(place + 1).filter(|file| file.seq > anchor.seq);
        match since.into_iter().find(|file| file.before.is_some_and(|length| length < then.file_size)) {
            Some(early) => Err(Why::Early { record: early.seq }),
            None => Ok(()),
        }
    }

    /// Remarks on what else lies in the folder, or should.
    fn folder(&mut self, folder: &Path) {
        let names = files::entries(folder).unwrap_or_default();
        let mut others: BTreeSet<String> = names.into_iter().filter(|name| !files::is_of_journal(name)).collect();
        for Recovered { aside, bytes, .. } in self.set_aside.clone() {
            let length = fs::symlink_metadata(folder.join(&aside)).ok().map(|found| found.len());
            others.remove(&aside);
            match length {
                Some(length) if length == bytes => {}
                Some(length) => self.remark(|| format!("{aside} has {length} bytes, and {bytes} were set aside")),
                None => self.remark(|| format!("{aside}, which was set aside, is not there")),
            }
        }
        // What is reported by a record that was dropped is as old.
        let first = self.first.as_ref().map_or(0, |(first, ..)| *first);
        let is_old = |name: &str| writer::told_of_by(name).is_some_and(|seq| seq < first);
        for name in others.into_iter().filter(|name| !is_old(name)) {
            self.remark(|| format!("{name} lies in the folder, and no record reports it"));
        }
    }
}
