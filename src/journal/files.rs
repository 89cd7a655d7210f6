//! The files of a journal, and their lines one after the other, bounded in memory.

use std::{
    fs::{self, File},
    io::{self, BufRead, BufReader, Seek, SeekFrom},
    path::{Path, PathBuf},
};

use super::{JournalError, line::MAX_LINE};

/// How often a reader tries again whose files were dropped while it looked: a writer that makes files
/// faster than they are read does not go on for so long.
pub(super) const TRIES: u32 = 100;

/// The name of the file that begins with this record.
pub(super) fn name(first: u64) -> String {
    format!("{first:020}.jsonl")
}

/// Makes what was created, renamed or removed in a folder last.
pub(super) fn sync_folder(folder: &Path) -> Result<(), JournalError> {
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(|e| JournalError::io("write", folder, e))
}

/// The numbers of the first records of all files, in order.
pub(super) fn list(folder: &Path) -> Result<Vec<u64>, JournalError> {
    let mut firsts: Vec<u64> = entries(folder)?.iter().filter_map(|entry| first(entry)).collect();
    firsts.sort_unstable();
    Ok(firsts)
}

fn first(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(".jsonl")?;
    let is_number = digits.len() == 20 && digits.bytes().all(|b| b.is_ascii_digit());
    digits.parse().ok().filter(|first| is_number && *first > 0)
}

/// Whether a name is that of a file of the journal.
pub(super) fn is_of_journal(name: &str) -> bool {
    first(name).is_some()
}

/// The names of everything in the folder that is a file.
pub(super) fn entries(folder: &Path) -> Result<Vec<String>, JournalError> {
    let failed = |e| JournalError::io("read", folder, e);
    let mut names = Vec::new();
    for entry in fs::read_dir(folder).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        if entry.file_type().map_err(failed)?.is_file() {
            names.extend(entry.file_name().into_string().ok());
        }
    }
    Ok(names)
}

/// What a file holds next.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Piece {
    /// A line, without its newline, in the buffer.
    Line,
    /// A line of so many bytes, too long to be read. It was passed over.
    TooLong(u64),
    /// So many bytes without a newline at the end. They are read again next time.
    Partial(u64),
    /// Nothing.
    End,
}

/// The lines of one file.
pub(super) struct Lines {
    reader: BufReader<File>,
    /// Where the next line begins, in bytes.
    pub offset: u64,
}

impl Lines {
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        Ok(Self { reader: BufReader::with_capacity(64 << 10, File::open(path)?), offset: 0 })
    }

    /// Reads the next line into `line`.
    pub(super) fn next(&mut self, line: &mut Vec<u8>) -> io::Result<Piece> {
        line.clear();
        let mut length = 0;
        loop {
            let available = match self.reader.fill_buf() {
                Ok(available) => available,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                Err(e) => return Err(e),
            };
            if available.is_empty() {
                if length == 0 {
                    return Ok(Piece::End);
                }
                self.reader.seek(SeekFrom::Start(self.offset))?;
                return Ok(Piece::Partial(length));
            }
            let newline = available.iter().position(|b| *b == b'\n');
            let taken = newline.map_or(available.len(), |at| at + 1);
            let text = available.get(..newline.unwrap_or(taken)).unwrap_or_default();
            let room = (MAX_LINE + 1).saturating_sub(line.len());
            line.extend_from_slice(text.get(..room.min(text.len())).unwrap_or_default());
            self.reader.consume(taken);
            length += taken as u64;
            if newline.is_some() {
                self.offset += length;
                return Ok(if line.len() > MAX_LINE { Piece::TooLong(length) } else { Piece::Line });
            }
        }
    }

    /// Whether the file has become shorter than what was read of it.
    fn has_shrunk(&self) -> io::Result<bool> {
        Ok(self.reader.get_ref().metadata()?.len() < self.offset)
    }
}

/// A line's place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct LinePosition {
    /// The number that the file is named by.
    pub first: u64,
    /// The line, counted from 1.
    pub line: u64,
    /// Where it begins in the file, in bytes.
    pub offset: u64,
}

/// What comes next in the files.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// A line, in the buffer.
    Line(LinePosition),
    /// So many bytes that are no line, with others after them: too long, or the end of a file that
    /// is not the last.
    NoLine(LinePosition, u64),
    /// All was read, but for so many bytes that are no whole line yet. There may be more later.
    End(LinePosition, u64),
    /// The file became shorter: what was read last may be there no more. It is read from its
    /// beginning again.
    Shrunk(LinePosition),
}

/// All lines of all files in order. A writer may be at work, and files may come and go.
pub(super) struct Walk {
    folder: PathBuf,
    after: u64,
    current: Option<Current>,
}

struct Current {
    first: u64,
    lines: Lines,
    line: u64,
    /// There is a later file, so nothing more is written to this one.
    closed: bool,
}

impl Walk {
    /// Begins with the first file whose number is greater than `after`.
    pub(super) fn new(folder: &Path, after: u64) -> Self {
        Self { folder: folder.to_owned(), after, current: None }
    }

    /// Goes on by one line.
    ///
    /// # Errors
    /// The folder or a file cannot be read. A file that was removed meanwhile is passed over.
    pub(super) fn next(&mut self, buffer: &mut Vec<u8>) -> Result<Next, JournalError> {
        loop {
            let Some(current) = &mut self.current else {
                if !self.open_next()? {
                    return Ok(Next::End(LinePosition { first: self.after, line: 1, offset: 0 }, 0));
                }
                continue;
            };
            let failed = |e| JournalError::io("read", &self.folder.join(name(current.first)), e);
            let place = LinePosition { first: current.first, line: current.line + 1, offset: current.lines.offset };
            let rest = match current.lines.next(buffer).map_err(failed)? {
                Piece::Line => {
                    current.line += 1;
                    return Ok(Next::Line(place));
                }
                Piece::TooLong(bytes) => {
                    current.line += 1;
                    return Ok(Next::NoLine(place, bytes));
                }
                Piece::Partial(bytes) => bytes,
                Piece::End => 0,
            };
            if current.lines.has_shrunk().map_err(failed)? {
                let path = self.folder.join(name(current.first));
                current.lines = Lines::open(&path).map_err(failed)?;
                current.line = 0;
                return Ok(Next::Shrunk(place));
            }
            if current.closed {
                self.after = current.first;
                self.current = None;
                if rest > 0 {
                    return Ok(Next::NoLine(place, rest));
                }
            } else if list(&self.folder)?.last().is_some_and(|last| *last > current.first) {
                // What was written to this one before the next was begun is read first.
                current.closed = true;
            } else {
                return Ok(Next::End(place, rest));
            }
        }
    }

    /// Opens the next file. False where there is none yet.
    fn open_next(&mut self) -> Result<bool, JournalError> {
        // All of a list may be dropped before they are opened; then there are newer ones.
        for _ in 0..TRIES {
            let mut dropped = false;
            for first in list(&self.folder)?.into_iter().filter(|first| *first > self.after) {
                let path = self.folder.join(name(first));
                match Lines::open(&path) {
                    Ok(lines) => {
                        self.current = Some(Current { first, lines, line: 0, closed: false });
                        return Ok(true);
                    }
                    Err(e) if e.kind() == io::ErrorKind::NotFound => dropped = true,
                    Err(e) => return Err(JournalError::io("read", &path, e)),
                }
            }
            if !dropped {
                break;
            }
        }
        Ok(false)
    }
}
