//! Who wrote a line.
//!
//! libgit2 compares the folders of each commit with those of the one before it, for each file anew. Most commits change
//! other files: those are left out of what it looks through. A line of commits is made in memory for that, each with the
//! folders of one that may have changed the file and followed by one with those of its parent, so that libgit2 compares
//! what it would have compared.

use std::collections::BTreeMap;

use git2::{BlameOptions, Oid, Repository};
use jiff::Timestamp;

use super::{
    Changed, History, SourceError, ahead,
    entries::{TENANTS, TOP},
    moment::author,
    objects,
    repository::time,
};
use crate::model::tree::{Person, tenant_of};

/// Where in the order of those that keep objects the one in memory is asked, so that it takes what is made.
const FIRST: i32 = 1_000;

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
    /// The commits that led to it by first parents, newest first.
    line: Vec<OnLine>,
}

/// A commit of the line, and what it changed of its parent; `None` where that is not known.
struct OnLine {
    id: Oid,
    parent: Option<Oid>,
    changed: Option<Changed>,
}

impl<'a> Blame<'a> {
    /// That of the files at the commit at a place. `changed` is what those that led to it by first parents changed, by their
    /// places; where it does not say, they may have changed anything.
    /// `None` where the history has no such commit.
    pub fn new(history: &'a History, place: usize, mut changed: BTreeMap<usize, Changed>) -> Option<Self> {
        let id = |place: usize| history.steps.get(place).map(|step| step.id);
        let parent = |place: usize| history.before(place).first().and_then(|parent| id(*parent));
        let on_line = |at: usize| Some(OnLine { id: id(at)?, parent: parent(at), changed: changed.remove(&at) });
        let line = history.line(place).filter_map(on_line).collect();
        Some(Self { history, at: id(place)?, files: BTreeMap::new(), line })
    }

    /// Who wrote a line, counted from 1. `None` where the file has no such line.
    ///
    /// # Errors
    /// The repository is damaged.
    pub fn line(&mut self, file: &str, line: u32) -> Result<Option<Line>, SourceError> {
        let damaged = |source| self.history.damaged(source);
        if !self.files.contains_key(file) {
            let lines = self.lines(file).map_err(damaged)?;
            self.files.insert(file.to_owned(), lines);
        }
        let at = usize::try_from(line).ok().and_then(|line| line.checked_sub(1));
        let id = self.files.get(file).and_then(|lines| lines.get(at?).copied());
        let Some(id) = id else { return Ok(None) };
        let commit = self.history.repository().find_commit(id).map_err(damaged)?;
        let (author, time) = (author(&commit), time(commit.time()));
        Ok(Some(Line { commit: id.to_string(), author, time }))
    }

    /// The commit that each line of a file is of.
    fn lines(&self, file: &str) -> Result<Vec<Oid>, git2::Error> {
        let repository = self.history.opened.again()?;
        let objects = repository.odb()?;
        let _in_memory = objects.add_new_mempack_backend(FIRST)?;
        let path = std::path::Path::new(self.history.below()).join(file);
        let (newest, real) = self.shortened(&repository, file, &path)?;
        let mut options = BlameOptions::new();
        options.newest_commit(newest).first_parent(true);
        let blame = repository.blame_file(&path, Some(&mut options))?;
        let real = |id: Oid| real.get(&id).copied().unwrap_or(id);
        let lines = blame.iter().flat_map(|hunk| std::iter::repeat_n(hunk.final_commit_id(), hunk.lines_in_hunk()));
        Ok(lines.map(real).collect())
    }

    /// The newest of a line of commits in which those are left out that did not change a file, and the real commit for each
    /// that was made for that.
    fn shortened(
        &self,
        repository: &Repository,
        file: &str,
        path: &std::path::Path,
    ) -> Result<(Oid, BTreeMap<Oid, Oid>), git2::Error> {
        let mut real = BTreeMap::new();
        let mut may_change = self.line.iter().filter(|commit| commit.may_change(file));
        // Where the file came from another place, all that led there is looked through.
        let mut taken: Vec<&OnLine> = Vec::new();
        for commit in may_change.by_ref() {
            taken.push(commit);
            let Some(parent) = commit.parent else { break };
            if repository.find_commit(parent)?.tree()?.get_path(path).is_err() {
                break;
            }
        }
        let mut newer_of: Option<Oid> = None;
        for commit in taken.into_iter().rev() {
            let parent = match (commit.parent, newer_of) {
                (Some(parent), Some(before)) => Some(copy(repository, parent, Some(before), &mut real)?),
                (parent, _) => parent,
            };
            newer_of = Some(copy(repository, commit.id, parent, &mut real)?);
        }
        Ok((newer_of.unwrap_or(self.at), real))
    }
}

impl OnLine {
    /// Whether it may have changed a file. Of tenants' files it is known which tenant's.
    fn may_change(&self, file: &str) -> bool {
        let Some(changed) = &self.changed else { return true };
        match file.strip_prefix(TENANTS).is_some_and(|rest| rest.starts_with('/')) {
            true => changed.tenants.contains(tenant_of(file)),
            false => changed.policy || !TOP.contains(&file),
        }
    }
}

/// A commit in memory with the folders of a real one, which follows from another one.
fn copy(
    repository: &Repository,
    of: Oid,
    parent: Option<Oid>,
    real: &mut BTreeMap<Oid, Oid>,
) -> Result<Oid, git2::Error> {
    let commit = repository.find_commit(of)?;
    let parent = parent.map(|parent| repository.find_commit(parent)).transpose()?;
    let parents: Vec<&git2::Commit<'_>> = parent.iter().collect();
    let nobody = git2::Signature::new("nobody", "nobody", &git2::Time::new(0, 0))?;
    let made = repository.commit(None, &nobody, &nobody, &of.to_string(), &commit.tree()?, &parents)?;
    real.insert(made, of);
    Ok(made)
}

impl History {
    /// What commits changed of their first parents, by their places. Those are left out of which it is not known.
    pub fn changed_at(&self, places: &[usize]) -> BTreeMap<usize, Changed> {
        let _hashed_here = objects::HashedHere::begin();
        let tree = |place: usize| self.steps.get(place).map(|step| step.tree);
        let steps = || places.iter().filter_map(|place| Some((*place, tree(*place)?)));
        let parent = |place: usize| self.before(place).first().and_then(|parent| tree(*parent));
        let pairs: Vec<ahead::Pair> = steps().map(|(place, tree)| (tree, parent(place))).collect();
        let mut steps = steps();
        let mut all = BTreeMap::new();
        let found = ahead::each::<(), std::convert::Infallible>(
            &pairs,
            self.below(),
            || self.opened.again().ok(),
            None,
            |difference| {
                let changed = steps.next().zip(difference);
                all.extend(changed.map(|((place, _), difference)| (place, difference.changed)));
                Ok(())
            },
        );
        match found {
            Ok(()) => all,
            Err(never) => match never {},
        }
    }
}
