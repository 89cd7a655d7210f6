//! Opening: the end is looked at, and put in order where a crash or a full disk cut it off.

use std::{
    collections::BTreeMap,
    fs::{self, DirBuilder},
    io,
    os::unix::fs::DirBuilderExt,
    path::Path,
};

use jiff::Timestamp;

use super::{
    JournalError,
    files::{self, Lines, Piece, name, sync_folder},
    line::{self, Anchor, Body, Line, LineError},
    writer::{self, Segment, Writer, begin, set_aside},
};
use crate::model::{
    Entry, Record,
    host::JournalLimits,
    record::{DroppedSegment, OutcomeRecord, Recovered, StepRecord, StepResult},
};

/// How many fields are kept of each tenant's last step.
const FIELDS: usize = 8;

/// What was found when the journal was opened.
#[derive(Debug, Default)]
pub struct Opened {
    /// The damaged end that was set aside, if there was one.
    pub recovered: Option<Recovered>,
    /// Damage that was left as it is, if there is some in the last file.
    pub damage: Option<String>,
    /// Steps whose outcome was not known, by the numbers of their records. It is recorded as unknown
    /// now.
    pub unfinished: Vec<(u64, StepRecord)>,
    /// The last step of each tenant that was done, and when, as far as the last two files show. For
    /// display: of its fields only the first few are kept.
    pub last: BTreeMap<String, (Timestamp, StepRecord, OutcomeRecord)>,
}

/// See [`super::Journal::open`].
pub(super) fn open(folder: &Path, limits: JournalLimits) -> Result<(Writer, Opened), JournalError> {
    make(folder)?;
    let all = files::list(folder)?;
    let mut seen = Seen::default();
    let mut opened = Opened::default();
    let Some((&last, before)) = all.split_last() else {
        let begun = begin(folder, limits, &Anchor::genesis(), None)?;
        return Ok((Writer::new(folder, limits, begun.segment, begun.head), opened));
    };
    let before = before.last().map(|first| scan(folder, *first, &mut seen)).transpose()?;
    let scanned = scan(folder, last, &mut seen)?;
    seen.dropped.retain(|dropped| dropped.first < last);
    writer::remove(folder, &seen.dropped);

    let (segment, head, ends) = match scanned.end {
        End::Damaged(damage) => {
            // Whatever numbers the damaged file has, the next one is named after it.
            let sound = scanned.sound.unwrap_or_else(Anchor::genesis);
            let head = Anchor { seq: sound.seq.max(last), ..sound };
            let begun = begin(folder, limits, &head, Some(damage.clone()))?;
            opened.damage = Some(damage);
            (begun.segment, begun.head, None)
        }
        End::Torn if scanned.length > 0 => {
            set_aside(folder, last, scanned.length, scanned.head.next())?;
            (Segment::resume(folder, last, scanned.length)?, scanned.head, Some(scanned.length))
        }
        End::Whole if scanned.length > 0 => {
            (Segment::resume(folder, last, scanned.length)?, scanned.head, Some(scanned.length))
        }
        End::Torn | End::Whole => {
            // A crash came while the file was begun.
            let known = before.and_then(|before| before.sound).unwrap_or_else(Anchor::genesis);
            if known.next() != last {
                opened.damage = Some(format!("the records {} to {} are missing", known.next(), last - 1));
            }
            let head = Anchor { seq: last - 1, ..known };
            let begun = begin(folder, limits, &head, opened.damage.clone())?;
            (begun.segment, begun.head, Some(0))
        }
    };

    let mut entries = Vec::new();
    if let Some(offset) = ends {
        for (_, aside) in writer::torn(folder, head.next())? {
            let path = folder.join(&aside);
            let bytes = fs::metadata(&path).map_err(|e| JournalError::io("read", &path, e))?.len();
            let recovered = Recovered { file: name(last), offset, bytes, aside };
            entries.push(Entry::Recovered(recovered.clone()));
            opened.recovered = Some(recovered);
        }
    }
    entries.extend(seen.unfinished.iter().map(|(intent, step)| {
        Entry::Outcome(OutcomeRecord {
            intent: *intent,
            tenant: step.tenant.clone(),
            result: StepResult::Unknown,
            error: Some("the program ended before the outcome was recorded".to_owned()),
            took_ms: 0,
        })
    }));
    let mut writer = Writer::new(folder, limits, segment, head);
    if !entries.is_empty() {
        let bodies: Result<Vec<Body>, usize> = entries.iter().map(Body::new).collect();
        writer.append(&bodies.map_err(JournalError::TooLong)?)?;
    }
    opened.unfinished = seen.unfinished.into_iter().collect();
    opened.last = seen.last;
    Ok((writer, opened))
}

/// Makes the folder for its owner alone, where there is none.
fn make(folder: &Path) -> Result<(), JournalError> {
    let parent = folder.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let made = DirBuilder::new().recursive(true).mode(0o700).create(parent);
    let made = made.and_then(|()| DirBuilder::new().mode(0o700).create(folder));
    match made {
        Ok(()) => sync_folder(parent),
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(e) => Err(JournalError::io("make", folder, e)),
    }
}

/// What is remembered of the records that are passed on the way.
#[derive(Default)]
struct Seen {
    unfinished: BTreeMap<u64, StepRecord>,
    last: BTreeMap<String, (Timestamp, StepRecord, OutcomeRecord)>,
    /// What the last files say was dropped.
    dropped: Vec<DroppedSegment>,
}

impl Seen {
    fn record(&mut self, record: Record) {
        match record.entry {
            Entry::Segment(start) => self.dropped.extend(start.dropped),
            Entry::Intent(step) => {
                self.unfinished.insert(record.seq, step);
            }
            Entry::Outcome(outcome) => {
                let step = self.unfinished.remove(&outcome.intent);
                if let Some(mut step) = step.filter(|_| outcome.result == StepResult::Done) {
                    step.fields.truncate(FIELDS);
                    self.last.insert(step.tenant.clone(), (record.time, step, outcome));
                }
            }
            // Nothing is remembered of any other.
            _ => {}
        }
    }
}

/// What one file holds.
struct Scanned {
    /// The last record up to which everything is sound; number 0 where not even the first is.
    head: Anchor,
    /// Where it ends, in bytes.
    length: u64,
    /// The last line that is sound in itself, wherever it stands.
    sound: Option<Anchor>,
    end: End,
}

enum End {
    /// After the last record.
    Whole,
    /// In bytes that are no record.
    Torn,
    /// There are sound lines after what is wrong.
    Damaged(String),
}

/// Reads a file from its beginning to its end.
fn scan(folder: &Path, first: u64, seen: &mut Seen) -> Result<Scanned, JournalError> {
    let path = folder.join(name(first));
    let failed = |e| JournalError::io("read", &path, e);
    let mut lines = Lines::open(&path).map_err(failed)?;
    let mut scanned = Scanned { head: Anchor::genesis(), length: 0, sound: None, end: End::Whole };
    let mut wrong: Option<String> = None;
    let mut buffer = Vec::new();
    for number in 1_u64.. {
        let parsed = match lines.next(&mut buffer).map_err(failed)? {
            Piece::End => break,
            Piece::Line => match line::parse(&buffer) {
                Err(LineError::Newer(version)) => return Err(JournalError::Newer { path, version }),
                parsed => parsed.map_err(|e| e.to_string()),
            },
            Piece::TooLong(bytes) => Err(format!("it is {bytes} bytes long")),
            Piece::Partial(bytes) => {
                wrong.get_or_insert_with(|| format!("{bytes} bytes at its end are not a whole record"));
                break;
            }
        };
        let wrong_line = |what: &str| format!("line {number} of {} is wrong: {what}", name(first));
        match parsed {
            Err(why) => {
                wrong.get_or_insert_with(|| wrong_line(&why));
            }
            Ok(line) => {
                scanned.sound = Some(line.anchor());
                if wrong.is_none() && !comes_next(&line, first, &scanned) {
                    wrong = Some(wrong_line("it does not follow from the one before"));
                }
                match &wrong {
                    Some(wrong) => scanned.end = End::Damaged(wrong.clone()),
                    None => {
                        scanned.head = line.anchor();
                        scanned.length = lines.offset;
                    }
                }
                // A record whose entry is not known says nothing here.
                if let Ok(record) = serde_json::from_slice(&buffer) {
                    seen.record(record);
                }
            }
        }
    }
    if wrong.is_some() && matches!(scanned.end, End::Whole) {
        scanned.end = End::Torn;
    }
    Ok(scanned)
}

/// Whether a line has its place after those that were read of its file.
fn comes_next(line: &Line<'_>, first: u64, scanned: &Scanned) -> bool {
    match scanned.length {
        0 => line.seq == first && line.kind == Entry::SEGMENT,
        _ => scanned.head.is_followed_by(line.seq, line.prev),
    }
}
