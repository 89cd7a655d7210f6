//! The ledger's file: one entry per line, each with a checksum before it.

use std::{
    fs::{self, DirBuilder, File, OpenOptions, TryLockError},
    io::{self, BufRead, BufReader, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use super::{
    LedgerError,
    book::{Book, LedgerEntry},
};
use crate::model::files::short_digest;

/// The version of the format. A newer one is refused.
const VERSION: u32 = 1;

/// The size in bytes at which the file is written anew, and how many times larger it is then at least
/// than when it was last written anew.
pub(super) const COMPACT_AT: u64 = 4 << 20;
const GROWTH: u64 = 4;

/// The longest line, in bytes.
const MAX_LINE: usize = 4 << 10;

/// How many digits of a line's SHA-256 stand before it.
const CHECKSUM: usize = 16;

/// The file, open to be added to.
#[derive(Debug)]
pub(super) struct LedgerFile {
    folder: PathBuf,
    path: PathBuf,
    file: File,
    /// What the file says.
    book: Book,
    /// How much of it holds.
    length: u64,
    /// Whether there may be more than that.
    is_torn: bool,
    compact_at: u64,
    least: u64,
    /// Held for as long as this is.
    _lock: File,
}

fn path_in(folder: &Path) -> PathBuf {
    folder.join("ledger")
}

/// What a folder's ledger says, and how many bytes of it hold.
pub(super) fn read(folder: &Path) -> Result<(Book, u64), LedgerError> {
    let path = path_in(folder);
    let failed = |e| LedgerError::io("read", &path, e);
    let mut book = Book::default();
    let mut reader = match File::open(&path) {
        Ok(file) => BufReader::new(file),
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok((book, 0)),
        Err(e) => return Err(failed(e)),
    };
    let (mut length, mut number, mut line) = (0, 0, Vec::new());
    let mut torn = None;
    loop {
        line.clear();
        let read = reader.read_until(b'\n', &mut line).map_err(failed)?;
        if read == 0 {
            return Ok((book, length));
        }
        number += 1;
        // A kill leaves the beginning of what was being written, at the very end.
        if let Some(line) = torn {
            return Err(LedgerError::Damaged { path, line });
        }
        match entry(&line) {
            Some(LedgerEntry::Format { v }) if v > VERSION => return Err(LedgerError::Newer(path)),
            Some(entry) => {
                book.apply(&entry);
                length += read as u64;
            }
            None => torn = Some(number),
        }
    }
}

fn entry(line: &[u8]) -> Option<LedgerEntry> {
    let (sum, text) = line.strip_suffix(b"\n")?.split_at_checked(CHECKSUM)?;
    let text = text.strip_prefix(b" ")?;
    if text.len() > MAX_LINE || short_digest(text, CHECKSUM).as_bytes() != sum {
        return None;
    }
    serde_json::from_slice(text).ok()
}

fn write_entry(lines: &mut Vec<u8>, entry: &LedgerEntry) -> io::Result<()> {
    let text = serde_json::to_string(entry)?;
    writeln!(lines, "{} {text}", short_digest(text.as_bytes(), CHECKSUM))
}

impl LedgerFile {
    /// Opens the ledger in a folder for this process alone, without what is torn at its end.
    pub(super) fn open(folder: &Path, compact_at: u64) -> Result<Self, LedgerError> {
        let failed = |e| LedgerError::io("open", folder, e);
        DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(failed)?;
        let mut options = OpenOptions::new();
        options.create(true).append(true).mode(0o600);
        let lock = options.open(folder.join("lock")).map_err(failed)?;
        lock.try_lock().map_err(|error| match error {
            TryLockError::WouldBlock => LedgerError::Locked(folder.to_owned()),
            TryLockError::Error(error) => failed(error),
        })?;
        let (mut book, length) = read(folder)?;
        book.close();
        let path = path_in(folder);
        let file = options.open(&path).map_err(failed)?;
        let folder = folder.to_owned();
        let mut ledger = Self { folder, path, file, book, length, is_torn: true, compact_at, least: 0, _lock: lock };
        // It begins with what counts: what was open is so no more.
        ledger.compact()?;
        Ok(ledger)
    }

    pub(super) fn book(&self) -> &Book {
        &self.book
    }

    /// Adds entries, and returns when they are on the disk. All of them are there, or none counts.
    pub(super) fn append(&mut self, entries: &[&LedgerEntry]) -> Result<(), LedgerError> {
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |e| LedgerError::io("write", &path, e)
        };
        if self.is_torn {
            self.file.set_len(self.length).map_err(failed(&self.path))?;
        }
        self.is_torn = true;
        let mut lines = Vec::new();
        entries.iter().try_for_each(|entry| write_entry(&mut lines, entry)).map_err(failed(&self.path))?;
        if let Err(error) = self.file.write_all(&lines).and_then(|()| self.file.sync_data()) {
            // What cannot be taken back now is before the next entries are written.
            self.is_torn = self.file.set_len(self.length).is_err();
            return Err(failed(&self.path)(error));
        }
        self.is_torn = false;
        self.length += lines.len() as u64;
        for entry in entries {
            self.book.apply(entry);
        }
        if self.length >= self.compact_at.max(self.least.saturating_mul(GROWTH)) {
            // It only grows where that fails, and is tried again with the next entries.
            let _ = self.compact();
        }
        Ok(())
    }

    /// Writes the file anew, with what its entries add up to.
    fn compact(&mut self) -> Result<(), LedgerError> {
        let new = self.folder.join("ledger.new");
        let failed = |e| LedgerError::io("write", &new, e);
        let mut lines = Vec::new();
        write_entry(&mut lines, &LedgerEntry::Format { v: VERSION }).map_err(failed)?;
        self.book.entries().try_for_each(|entry| write_entry(&mut lines, &entry)).map_err(failed)?;
        let mut options = OpenOptions::new();
        let mut file = options.create(true).write(true).truncate(true).mode(0o600).open(&new).map_err(failed)?;
        file.write_all(&lines).and_then(|()| file.sync_all()).map_err(failed)?;
        let file = OpenOptions::new().append(true).open(&new).map_err(failed)?;
        fs::rename(&new, &self.path).map_err(failed)?;
        self.file = file;
        self.length = lines.len() as u64;
        self.least = self.length;
        self.is_torn = false;
        File::open(&self.folder).and_then(|folder| folder.sync_all()).map_err(failed)
    }
}
