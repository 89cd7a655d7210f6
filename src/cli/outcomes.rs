//! What the commits of a history changed, as it was found before: kept in the repository's own folder, for the next command
//! that asks about the same commits.
//!
//! All of it follows from the ids of the commits, from which of them follow from which, from the folder with fleet.yaml and
//! from this program: these make the name and the first line of a file. One that has another first line, is not whole or
//! could be somebody else's is not used. Where nothing can be written, everything is found anew.

use std::{env, fs, os::unix::fs::MetadataExt};

use serde::{Deserialize, Serialize};

use crate::{
    host::Cache,
    model::{files::digest, tree::Moment},
    review::history::{Against, Brought},
    source::History,
};

/// The folder within that of the repository.
const FOLDER: &str = "tenantd";

/// The format, beside the program itself.
const FORMAT: &str = "tenantd history 1";

/// The most bytes of one file.
const MAX_SIZE: usize = 32 << 20;

/// What one commit changed; others changed nothing.
#[derive(Deserialize, Serialize)]
pub struct Outcome {
    /// Its place in the history.
    pub place: usize,
    /// What it brought.
    pub brought: Option<Brought>,
    /// What it took back of parents other than its first.
    pub against: Vec<Against>,
    /// Who made it, without a signature.
    pub moment: Moment,
    /// Whether it has a signature, for the keys that count now.
    pub is_signed: bool,
}

/// Where the outcomes of a history are kept.
pub struct Outcomes {
    cache: Cache,
    key: String,
}

impl Outcomes {
    /// `None` where nothing is kept.
    pub fn of(history: &History) -> Option<Self> {
        let cache = Cache::within(&history.folder()?, FOLDER)?;
        Some(Self { cache, key: key(history)? })
    }

    fn name(&self) -> String {
        format!("history-{}", self.key.get(..16).unwrap_or_default())
    }

    fn first_line(&self, rest: &[u8]) -> String {
        format!("{FORMAT} {} {}\n", self.key, digest(rest))
    }

    /// What is kept.
    pub fn read(&self) -> Option<Vec<Outcome>> {
        let bytes = self.cache.read(&self.name(), MAX_SIZE as u64)?;
        let end = bytes.iter().position(|byte| *byte == b'\n')? + 1;
        let (first, rest) = bytes.split_at_checked(end)?;
        if first != self.first_line(rest).as_bytes() {
            return None;
        }
        serde_json::Deserializer::from_slice(rest).into_iter().collect::<Result<_, _>>().ok()
    }

    /// Keeps what was gathered. Where that cannot be written it is found anew.
    pub fn keep(&self, gathered: Gathered) {
        let Some(rest) = gathered.lines else { return };
        let bytes = [self.first_line(&rest).as_bytes(), &rest].concat();
        if bytes.len() <= MAX_SIZE {
            let _found_anew = self.cache.keep(&self.name(), &bytes);
        }
    }
}

/// Outcomes that are to be kept.
pub struct Gathered {
    /// `None` where they are too many, or are not to be kept.
    lines: Option<Vec<u8>>,
}

impl Gathered {
    /// Begins without any.
    pub fn new(is_kept: bool) -> Self {
        Self { lines: is_kept.then(Vec::new) }
    }

    /// Adds one.
    pub fn add(&mut self, outcome: &Outcome) {
        let Some(lines) = &mut self.lines else { return };
        if serde_json::to_writer(&mut *lines, outcome).is_err() || lines.len() > MAX_SIZE {
            self.lines = None;
        }
    }

    /// Whether any would still be kept.
    pub fn is_open(&self) -> bool {
        self.lines.is_some()
    }
}

/// All that the outcomes of a history follow from. `None` where this program cannot be told from another one.
fn key(history: &History) -> Option<String> {
    let program = fs::metadata(env::current_exe().ok()?).ok()?;
    let program =
        [program.ino(), program.size(), program.mtime().cast_unsigned(), program.mtime_nsec().cast_unsigned()];
    let text = format!("{}\0{program:?}\0{}\0", env!("CARGO_PKG_VERSION"), history.below());
    Some(digest(&[text.as_bytes(), &history.trace()].concat()))
}
