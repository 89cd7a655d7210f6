//! Who wrote a line.

use std::collections::BTreeMap;

use git2::{BlameOptions, Oid};
use jiff::Timestamp;

use super::{History, SourceError, history::author, repository::time};
use crate::model::tree::Person;

/// The commit that a line is of.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Line {
    /// The commit, 40 hexadecimal digits.
    pub commit: String,
    /// Who wrote it.
    pub author: Person,
    /// When it was committed.
    pub time: Timestamp,
}

/// The lines of files at a commit, each with the commit that it is of. Each file is looked into once.
pub struct Blame<'a> {
    history: &'a History,
    at: Oid,
    files: BTreeMap<String, Vec<Oid>>,
}

impl<'a> Blame<'a> {
    /// That of the files at the newest commit of a history.
    ///
    /// # Errors
    /// The history has no commit.
    pub fn new(history: &'a History, commit: &str) -> Result<Self, SourceError> {
        let at = Oid::from_str(commit).map_err(|e| history.damaged(e))?;
        Ok(Self { history, at, files: BTreeMap::new() })
    }

    /// Who wrote a line, counted from 1. `None` where the file has no such line.
    ///
    /// # Errors
    /// The repository is damaged.
    pub fn line(&mut self, file: &str, line: u32) -> Result<Option<Line>, SourceError> {
        let damaged = |source| self.history.damaged(source);
        if !self.files.contains_key(file) {
            let mut options = BlameOptions::new();
            options.newest_commit(self.at).first_parent(true);
            let path = std::path::Path::new(self.history.below()).join(file);
            let blame = self.history.repository().blame_file(&path, Some(&mut options));
            let blame = blame.map_err(damaged)?;
            let lines = blame.iter().flat_map(|hunk| std::iter::repeat_n(hunk.final_commit_id(), hunk.lines_in_hunk()));
            self.files.insert(file.to_owned(), lines.collect());
        }
        let at = usize::try_from(line).ok().and_then(|line| line.checked_sub(1));
        let id = self.files.get(file).and_then(|lines| lines.get(at?).copied());
        let Some(id) = id else { return Ok(None) };
        let commit = self.history.repository().find_commit(id).map_err(damaged)?;
        let (author, time) = (author(&commit), time(commit.time()));
        Ok(Some(Line { commit: id.to_string(), author, time }))
    }
}
