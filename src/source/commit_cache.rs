//! What was found of commits before: kept in the repository's own folder, for the next command that asks about them.
//!
//! Each finding is kept by the [`Trace`] of its commit, which says all that it follows from but for the folder with fleet.yaml
//! and this program: these make the name and the first line of a file. One that has another first line, is not whole or
//! could be somebody else's is not used. Where nothing can be written, everything is found anew.

use std::{collections::HashMap, env, fs, ops::Range, os::unix::fs::MetadataExt, path::Path};

use crate::{host::Cache, model::files::digest};

/// The folder within that of the repository.
const FOLDER: &str = "tenantd";

/// The format, beside the program itself.
const FORMAT: &str = "tenantd commits 2";

/// The most bytes of one file.
const MAX_SIZE: usize = 32 << 20;

/// The most bytes of findings, which leaves room for the first line and what stands before the last.
const MAX_FINDINGS: usize = MAX_SIZE - 1_000;

/// What all that is found of a commit of a history follows from: a hash of its id, and of the same of those that it follows
/// from. The same one in another history stands for the same findings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Trace(pub [u8; 16]);

/// Findings of one kind about the commits of a repository.
pub struct CommitCache {
    cache: Cache,
    kind: &'static str,
    key: String,
    found: Findings,
    /// Where each finding stands.
    places: HashMap<Trace, Range<usize>>,
}

impl CommitCache {
    /// What is kept of a kind in a repository's own folder, where fleet.yaml lies in a folder below its top. `None` where
    /// nothing can be.
    pub(super) fn open(repository: &Path, below: &str, kind: &'static str) -> Option<Self> {
        let cache = Cache::within(repository, FOLDER)?;
        let empty = Self { cache, kind, key: key(below)?, found: Findings::default(), places: HashMap::new() };
        let (found, places) = empty.read().unwrap_or_default();
        Some(Self { found, places, ..empty })
    }

    fn name(&self) -> String {
        format!("{}-{}", self.kind, self.key.get(..16).unwrap_or_default())
    }

    fn first_line(&self, rest: &[u8]) -> String {
        format!("{FORMAT} {} {} {}\n", self.kind, self.key, digest(rest))
    }

    fn read(&self) -> Option<(Findings, HashMap<Trace, Range<usize>>)> {
        let mut bytes = self.cache.read(&self.name(), MAX_SIZE as u64)?;
        let end = bytes.iter().position(|byte| *byte == b'\n')? + 1;
        let (first, rest) = bytes.split_at_checked(end)?;
        if first != self.first_line(rest).as_bytes() {
            return None;
        }
        bytes.drain(..end);
        let found = Findings { bytes };
        let places = found.places()?;
        Some((found, places))
    }

    /// What was found of a commit.
    pub fn get(&self, of: Trace) -> Option<&[u8]> {
        self.found.bytes.get(self.places.get(&of)?.clone())
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.found.bytes.clear();
        self.places.clear();
    }

    /// Keeps what was found as well. Where there is no room for both, what was kept before goes.
    pub fn keep(mut self, new: &Findings) {
        if new.bytes.is_empty() {
            return;
        }
        if self.found.bytes.len() + new.bytes.len() > MAX_FINDINGS {
            self.clear();
        }
        self.found.bytes.extend_from_slice(&new.bytes);
        let first_line = self.first_line(&self.found.bytes);
        let _found_anew = self.cache.keep(&self.name(), &[first_line.as_bytes(), &self.found.bytes].concat());
    }
}

/// Findings, each behind its trace and how many bytes it has.
#[derive(Default)]
pub struct Findings {
    bytes: Vec<u8>,
}

impl Findings {
    /// Adds what was found of a commit. What would be too much to be kept is left out.
    pub fn add(&mut self, of: Trace, what: &[u8]) {
        let Ok(length) = u32::try_from(what.len()) else { return };
        if self.bytes.len() + what.len() <= MAX_FINDINGS {
            self.bytes.extend_from_slice(&of.0);
            self.bytes.extend_from_slice(&length.to_le_bytes());
            self.bytes.extend_from_slice(what);
        }
    }

    fn places(&self) -> Option<HashMap<Trace, Range<usize>>> {
        let mut places = HashMap::new();
        let mut at = 0;
        while at < self.bytes.len() {
            let (of, rest) = self.bytes.get(at..)?.split_first_chunk()?;
            let (length, _) = rest.split_first_chunk()?;
            let begin = at + of.len() + length.len();
            at = begin + usize::try_from(u32::from_le_bytes(*length)).ok()?;
            places.insert(Trace(*of), begin..at);
        }
        Some(places)
    }
}

/// All but the commits that a finding follows from. `None` where this program cannot be distinguished from another one.
fn key(below: &str) -> Option<String> {
    let program = fs::metadata(env::current_exe().ok()?).ok()?;
    let program =
        [program.ino(), program.size(), program.mtime().cast_unsigned(), program.mtime_nsec().cast_unsigned()];
    Some(digest(format!("{}\0{program:?}\0{}", env!("CARGO_PKG_VERSION"), below).as_bytes()))
}
