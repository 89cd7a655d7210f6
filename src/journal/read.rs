//! Reading the records, also while others are written.

use std::{ops::ControlFlow, path::Path};

use jiff::Timestamp;

use super::{
    JournalError,
    files::{self, LinePosition, Lines, Next, Piece, Walk, name},
    line::{self, LineError},
};
use crate::model::Record;

/// Reads the records of a journal in their order, and those that come later.
pub struct Reader {
    folder: std::path::PathBuf,
    walk: Walk,
    buffer: Vec<u8>,
    /// The number of the last record that was read.
    last: u64,
    /// Records up to the last one are passed over: their file is read a second time.
    again: bool,
}

/// What was read.
#[derive(Debug)]
pub enum Item<'a> {
    /// A record.
    Record {
        /// As data.
        record: Box<Record>,
        /// As it stands in the file, without its newline.
        line: &'a str,
    },
    /// Something that cannot be shown.
    Unreadable {
        /// The file's name.
        file: String,
        /// The line in it, counted from 1.
        line: u64,
        /// What is wrong.
        why: String,
    },
}

impl Reader {
    /// Reads from the first record on.
    ///
    /// With a time, it begins in a file that was begun before it, with one file to spare: steps have
    /// begun before they ended, and clocks are set back. Which records are old enough to be left out
    /// is for the caller to say.
    ///
    /// # Errors
    /// The folder or a file cannot be read.
    pub fn new(folder: &Path, from: Option<Timestamp>) -> Result<Self, JournalError> {
        let all = files::list(folder)?;
        let mut begin = 0;
        if let Some(from) = from {
            for (place, first) in all.iter().enumerate() {
                if began(&folder.join(name(*first))).is_some_and(|began| began < from) {
                    begin = place.saturating_sub(1);
                }
            }
        }
        let after = all.get(begin).map_or(0, |first| first - 1);
        let walk = Walk::new(folder, after);
        Ok(Self { folder: folder.to_owned(), walk, buffer: Vec::new(), last: 0, again: false })
    }

    /// The next record. `None` where there is none yet: asked later, there may be.
    ///
    /// # Errors
    /// A file cannot be read, or was written by a newer version of the program.
    pub fn read_next(&mut self) -> Result<Option<Item<'_>>, JournalError> {
        loop {
            match self.walk.next(&mut self.buffer)? {
                Next::Line(place) => match self.check(&place)? {
                    Checked::Known => {}
                    Checked::Fine => return Ok(Some(item(&place, &self.buffer))),
                    Checked::Wrong(why) => return Ok(Some(unreadable(&place, &why))),
                },
                Next::NoLine(place, bytes) => {
                    return Ok(Some(unreadable(&place, &format!("{bytes} bytes are not a record"))));
                }
                Next::End(..) => return Ok(None),
                Next::Shrunk(_) => self.again = true,
            }
        }
    }

    /// Whether the line in the buffer is as it was written.
    fn check(&mut self, place: &LinePosition) -> Result<Checked, JournalError> {
        let parsed = match line::parse(&self.buffer) {
            Err(LineError::Newer(version)) => {
                return Err(JournalError::Newer { path: self.folder.join(name(place.first)), version });
            }
            Err(e) => return Ok(Checked::Wrong(e.to_string())),
            Ok(parsed) => parsed,
        };
        if self.again && parsed.seq <= self.last {
            return Ok(Checked::Known);
        }
        self.again = false;
        self.last = parsed.seq;
        Ok(Checked::Fine)
    }
}

/// What a line is.
enum Checked {
    /// As it was written.
    Fine,
    /// Read before.
    Known,
    /// Not as it was written.
    Wrong(String),
}

pub(super) fn unreadable(place: &LinePosition, why: &str) -> Item<'static> {
    Item::Unreadable { file: name(place.first), line: place.line, why: why.to_owned() }
}

/// The record of a line whose hash was checked.
pub(super) fn item<'a>(place: &LinePosition, line: &'a [u8]) -> Item<'a> {
    match (serde_json::from_slice(line), std::str::from_utf8(line)) {
        (Ok(record), Ok(line)) => Item::Record { record: Box::new(record), line },
        (Err(e), _) => unreadable(place, &format!("it is no record that is known here: {e}")),
        (_, Err(_)) => unreadable(place, "it is not UTF-8"),
    }
}

/// When a file was begun.
fn began(path: &Path) -> Option<Timestamp> {
    let mut buffer = Vec::new();
    match Lines::open(path).ok()?.next(&mut buffer).ok()? {
        Piece::Line => serde_json::from_slice::<Record>(&buffer).ok().map(|record| record.time),
        _ => None,
    }
}

/// Calls `visit` with each record that is there and not older than `from`, until it breaks off. What
/// cannot be read as a record is passed over; [`super::verify`] finds it.
///
/// # Errors
/// A file cannot be read, or was written by a newer version of the program.
pub fn read(
    folder: &Path,
    from: Option<Timestamp>,
    mut visit: impl FnMut(&Record) -> ControlFlow<()>,
) -> Result<(), JournalError> {
    let mut reader = Reader::new(folder, from)?;
    while let Some(item) = reader.read_next()? {
        if let Item::Record { record, .. } = item
            && from.is_none_or(|from| record.time >= from)
            && visit(&record).is_break()
        {
            break;
        }
    }
    Ok(())
}
