//! Adding to the last file, and beginning the next.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read, Seek, SeekFrom, Write},
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use jiff::Timestamp;

use super::{
    JournalError,
    files::{self, Lines, Piece, name, sync_folder},
    line::{self, Anchor, Body},
};
use crate::model::{
    Entry,
    host::JournalLimits,
    record::{DroppedSegment, Recovered, SegmentLimits, SegmentStart},
};

/// What a write into the journal's folder is called in errors.
const WRITE: &str = "write";

/// How many files are kept at least.
pub(super) const LEAST_FILES: u32 = 2;

/// How many files one record names as dropped. More are dropped with the next file.
const MAX_DROPPED: usize = 1000;

/// The one who writes.
#[derive(Debug)]
pub(super) struct Writer {
    folder: PathBuf,
    limits: JournalLimits,
    segment: Segment,
    head: Anchor,
    /// A write failed, and the file could not be cut back to its length before it.
    torn: bool,
    /// What is to be said with the next records, in records of its own.
    notes: Vec<Body>,
    /// How many records could not be written since the last that could, and why.
    lost: Option<(u64, String)>,
}

/// The file that is added to.
#[derive(Debug)]
pub(super) struct Segment {
    first: u64,
    file: File,
    /// The length of its whole records, in bytes.
    length: u64,
}

impl Segment {
    /// Opens a file that exists and goes on after its first `length` bytes.
    pub(super) fn resume(folder: &Path, first: u64, length: u64) -> Result<Self, JournalError> {
        let path = folder.join(name(first));
        let file = OpenOptions::new().read(true).append(true).open(&path);
        Ok(Self { first, file: file.map_err(|e| JournalError::io("open", &path, e))?, length })
    }
}

impl Writer {
    pub(super) fn new(folder: &Path, limits: JournalLimits, segment: Segment, head: Anchor) -> Self {
        Self { folder: folder.to_owned(), limits, segment, head, torn: false, notes: Vec::new(), lost: None }
    }

    /// The last record that is on the disk.
    pub(super) fn head(&self) -> &Anchor {
        &self.head
    }

    /// Adds records and returns the number of the first. All of them are on the disk then, or none
    /// is in the journal.
    pub(super) fn append(&mut self, bodies: &[Body]) -> Result<u64, JournalError> {
        let result = self.try_append(bodies);
        match &result {
            Ok(_) => self.lost = None,
            Err(e) => {
                let already = self.lost.as_ref().map_or(0, |(records, _)| *records);
                self.lost = Some((already + bodies.len() as u64, reason(e)));
            }
        }
        result
    }

    fn try_append(&mut self, bodies: &[Body]) -> Result<u64, JournalError> {
        self.prepare()?;
        let lost = self.lost.clone().map(|(records, reason)| Entry::Lost { records, reason });
        let lost = lost.and_then(|entry| Body::new(&entry).ok());
        let time = now();
        let (mut bytes, mut head) = (Vec::new(), self.head.clone());
        for body in self.notes.iter().chain(&lost) {
            head = line::write(&mut bytes, &head, time, body);
        }
        let first = head.next();
        for body in bodies {
            head = line::write(&mut bytes, &head, time, body);
        }
        let segment = &mut self.segment;
        if let Err(e) = segment.file.write_all(&bytes).and_then(|()| segment.file.sync_data()) {
            self.torn = segment.file.set_len(segment.length).is_err();
            return Err(JournalError::io(WRITE, &self.folder.join(name(segment.first)), e));
        }
        segment.length += bytes.len() as u64;
        self.head = head;
        self.notes.clear();
        Ok(first)
    }

    /// Sees to it that the file is as it was left, and not full.
    fn prepare(&mut self) -> Result<(), JournalError> {
        let Segment { first, file, length } = &self.segment;
        let file_name = name(*first);
        let path = self.folder.join(&file_name);
        let found = file.metadata().map_err(|e| JournalError::io("read", &path, e))?;
        let is_same = |named: fs::Metadata| (named.dev(), named.ino()) == (found.dev(), found.ino());
        if !fs::symlink_metadata(&path).is_ok_and(is_same) {
            return self.begin(Some(format!("{file_name} was removed or replaced while it was written to")));
        }
        if self.torn {
            if found.len() > *length {
                let aside = set_aside(&self.folder, *first, *length, self.head.next())?;
                self.notes.extend(Body::new(&Entry::Recovered(aside)).ok());
            }
            self.torn = false;
        } else if found.len() != *length {
            let damage = format!("{file_name} is {} bytes long where {length} were written", found.len());
            return self.begin(Some(damage));
        }
        if *length >= self.limits.file_size.get() { self.begin(None) } else { Ok(()) }
    }

    fn begin(&mut self, damage: Option<String>) -> Result<(), JournalError> {
        let begun = begin(&self.folder, self.limits, &self.head, damage)?;
        (self.segment, self.head, self.torn) = (begun.segment, begun.head, false);
        self.notes.extend(begun.aside.and_then(|aside| Body::new(&Entry::Recovered(aside)).ok()));
        Ok(())
    }
}

/// A file that was begun.
pub(super) struct Begun {
    pub segment: Segment,
    pub head: Anchor,
    /// What was found in the file and set aside: an earlier try that was cut off.
    aside: Option<Recovered>,
}

/// Begins the file that comes after `head`, and removes the oldest files where there are too many.
pub(super) fn begin(
    folder: &Path,
    limits: JournalLimits,
    head: &Anchor,
    damage: Option<String>,
) -> Result<Begun, JournalError> {
    let first = head.next();
    let dropped = surplus(folder, limits, first)?;
    let previous = if head.is_genesis() { String::new() } else { head.hash.clone() };
    let kept = SegmentLimits { files: kept(limits), file_size: limits.file_size.get() };
    let entry = Entry::Segment(SegmentStart { previous, dropped: dropped.clone(), limits: Some(kept), damage });
    let body = Body::new(&entry).map_err(JournalError::TooLong)?;
    let mut bytes = Vec::new();
    let new_head = line::write(&mut bytes, head, now(), &body);

    let path = folder.join(name(first));
    let failed = |e| JournalError::io(WRITE, &path, e);
    let mut options = OpenOptions::new();
    let mut file = options.read(true).append(true).create(true).mode(0o600).open(&path).map_err(failed)?;
    let aside = match file.metadata().map_err(failed)?.len() {
        0 => None,
        _ => Some(set_aside(folder, first, 0, new_head.next())?),
    };
    let written = file.write_all(&bytes).and_then(|()| file.sync_all()).map_err(failed);
    if let Err(e) = written.and_then(|()| sync_folder(folder)) {
        // What can be done here failed already; the next try finds the rest.
        let _ = fs::remove_file(&path);
        return Err(e);
    }
    remove(folder, &dropped);
    let segment = Segment { first, file, length: bytes.len() as u64 };
    Ok(Begun { segment, head: new_head, aside })
}

/// The files that are too many once the one that begins with `next` is there, oldest first.
fn surplus(folder: &Path, limits: JournalLimits, next: u64) -> Result<Vec<DroppedSegment>, JournalError> {
    let mut all: Vec<u64> = files::list(folder)?.into_iter().filter(|first| *first < next).collect();
    all.push(next);
    let kept = usize::try_from(kept(limits)).unwrap_or(usize::MAX);
    let count = all.len().saturating_sub(kept).min(MAX_DROPPED);
    let dropped = all.iter().zip(all.iter().skip(1)).take(count);
    dropped
        .map(|(first, following)| {
            let head = hash_before(&folder.join(name(*following)))?;
            Ok(DroppedSegment { first: *first, last: following - 1, head })
        })
        .collect()
}

/// How many files are kept. The one before the last stays, so that steps without an outcome are found in it.
fn kept(limits: JournalLimits) -> u32 {
    limits.files.max(LEAST_FILES)
}

/// What the first record of a file has for the hash of the one before; empty where that cannot be read.
fn hash_before(path: &Path) -> Result<String, JournalError> {
    let failed = |e| JournalError::io("read", path, e);
    let mut buffer = Vec::new();
    Ok(match Lines::open(path).map_err(failed)?.next(&mut buffer).map_err(failed)? {
        Piece::Line => line::parse(&buffer).map(|line| line.prev.to_owned()).unwrap_or_default(),
        _ => String::new(),
    })
}

/// Removes the files that a record names as dropped, from the oldest on. One that cannot be removed is harmless, and named
/// again with the next file; those after it stay, so that nothing is ever missing between two files.
pub(super) fn remove(folder: &Path, dropped: &[DroppedSegment]) {
    for first in files::list(folder).unwrap_or_default() {
        let is_dropped = dropped.iter().any(|segment| segment.first == first);
        if !is_dropped || fs::remove_file(folder.join(name(first))).is_err() {
            return;
        }
    }
}

/// Moves the end of a file, from `offset` on, into a file of its own.
///
/// It is named by `seq`, the number of the record that will report it, so that it is known for one
/// that was not reported where a crash comes in between.
pub(super) fn set_aside(folder: &Path, first: u64, offset: u64, seq: u64) -> Result<Recovered, JournalError> {
    let source = folder.join(name(first));
    let failed = |e| JournalError::io("set aside the end of", &source, e);
    let number = torn(folder, seq)?.last().map_or(1, |(number, _)| number + 1);
    let aside = format!("torn-{seq}-{number}");
    let temporary = folder.join("torn.tmp");
    let mut from = OpenOptions::new().read(true).write(true).open(&source).map_err(failed)?;
    let copied = copy_end(&mut from, offset, &temporary);
    let bytes = copied.inspect_err(|_| drop(fs::remove_file(&temporary))).map_err(failed)?;
    fs::rename(&temporary, folder.join(&aside)).map_err(failed)?;
    sync_folder(folder)?;
    from.set_len(offset).and_then(|()| from.sync_all()).map_err(failed)?;
    Ok(Recovered { file: name(first), offset, bytes, aside })
}

fn copy_end(from: &mut File, offset: u64, to: &Path) -> io::Result<u64> {
    from.seek(SeekFrom::Start(offset))?;
    let mut to = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(to)?;
    let bytes = io::copy(&mut from.take(u64::MAX), &mut to)?;
    to.sync_all()?;
    Ok(bytes)
}

/// The number of the record that is to report an end that was set aside, by the name that it was given.
pub(super) fn told_of_by(name: &str) -> Option<u64> {
    name.strip_prefix("torn-")?.split_once('-')?.0.parse().ok()
}

/// The ends that were set aside to be reported by the record `seq`: their numbers and names, in order.
pub(super) fn torn(folder: &Path, seq: u64) -> Result<Vec<(u64, String)>, JournalError> {
    let prefix = format!("torn-{seq}-");
    let numbered = |name: String| name.strip_prefix(&prefix).and_then(|n| n.parse().ok()).map(|n: u64| (n, name));
    let mut found: Vec<_> = files::entries(folder)?.into_iter().filter_map(numbered).collect();
    found.sort();
    Ok(found)
}

/// The time in thousandths of a second.
fn now() -> Timestamp {
    let now = Timestamp::now();
    Timestamp::from_millisecond(now.as_millisecond()).unwrap_or(now)
}

/// What the kernel said.
fn reason(error: &JournalError) -> String {
    match error {
        JournalError::Io { source, .. } => source.to_string(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{open::open, tests::stopped, verify};

    #[test]
    fn what_a_failed_write_left_is_set_aside_before_the_next() -> Result<(), Box<dyn std::error::Error>> {
        let folder = tempfile::tempdir()?;
        let limits = JournalLimits { file_size: crate::model::Bytes::mib(1), files: 2 };
        let (mut writer, _) = open(folder.path(), limits)?;
        let body = || Body::new(&stopped("daemon")).map_err(JournalError::TooLong);
        writer.append(&[body()?])?;
        // As if the disk had refused the write, and then to cut off what had come of it.
        writer.segment.file.write_all(b"{\"v\":1,")?;
        writer.torn = true;

        assert_eq!(writer.append(&[body()?, body()?])?, 4, "the record that says so comes first");
        let verified = verify(folder.path(), Some(writer.head()))?;
        assert_eq!((verified.records, verified.tail), (5, None));
        let [aside] = &*verified.set_aside else { panic!("{:?}", verified.set_aside) };
        assert_eq!((aside.bytes, aside.aside.as_str()), (7, "torn-3-1"));
        assert_eq!(fs::read(folder.path().join("torn-3-1"))?, b"{\"v\":1,");
        Ok(())
    }
}
