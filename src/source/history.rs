//! The commits of a branch, oldest first, with what differs between one and the next: so that whoever follows them
//! reads only that.

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
    ops::Range,
    path::Path,
    sync::Arc,
};

use git2::{Commit, ObjectType, Oid, Repository, Sort, Tree as GitTree};
use jiff::Timestamp;
use serde::Serialize;

use super::{
    FILES, Keys, SourceError, TENANTS, TOP, git,
    signature::{Fault, Signed},
};
use crate::model::tree::{Carried, Moment, Person, Signature, Tree, tenant_of};

/// The most commits of a merged branch whose authors are named.
const MERGED: usize = 20;

/// The line of commits that led to one: of a merge the branch that was merged into.
pub struct History {
    repository: Repository,
    /// Oldest first.
    line: Vec<Oid>,
    path: String,
    /// What lies under `files/` of the tree that was read last.
    carried: RefCell<Option<Given>>,
    rewritten: Vec<Rewritten>,
}

/// What lies under `files/`, and the tree that it is of.
struct Given {
    of: Option<Oid>,
    carried: Arc<BTreeMap<String, Carried>>,
}

/// A time when a branch was set to a commit that does not descend from the one before.
#[derive(Clone, Debug, Serialize)]
pub struct Rewritten {
    /// When.
    pub time: Timestamp,
    /// The commit that it was at.
    pub from: String,
    /// The one that it was set to.
    pub to: String,
}

impl History {
    /// The commits that led to a revision.
    ///
    /// # Errors
    /// There is no repository, or the revision names no commit.
    pub fn open(path: &Path, rev: &str) -> Result<Self, SourceError> {
        let shown = path.display().to_string();
        let repository = git::open(path)?;
        let commit = git::commit(&repository, rev, &shown)?.id();
        let damaged = |source| SourceError::Repository { path: shown.clone(), source };
        let mut walk = repository.revwalk().map_err(damaged)?;
        walk.push(commit).and_then(|()| walk.simplify_first_parent()).map_err(damaged)?;
        walk.set_sorting(Sort::TOPOLOGICAL | Sort::REVERSE).map_err(damaged)?;
        let line = walk.by_ref().collect::<Result<Vec<Oid>, _>>().map_err(damaged)?;
        drop(walk);
        let rewritten = rewritten(&repository, rev);
        Ok(Self { repository, line, path: shown, carried: RefCell::default(), rewritten })
    }

    /// The newest commit of the line, or the newest that is not later than a time; `None` where there was none yet.
    ///
    /// # Errors
    /// The repository is damaged.
    pub fn newest(&self, until: Option<Timestamp>) -> Result<Option<String>, SourceError> {
        for id in self.line.iter().rev() {
            let commit = self.repository.find_commit(*id).map_err(|e| self.damaged(e))?;
            if until.is_none_or(|until| commit.time().seconds() <= until.as_second()) {
                return Ok(Some(id.to_string()));
            }
        }
        Ok(None)
    }

    /// Which commits of the line, by their places, may have been made within a time: from the first that is not older than
    /// its begin to the last that is not newer than its end, whatever the times of those between say. Without an end, to
    /// the last. Beside it, how many of the line are older than the one before them.
    ///
    /// # Errors
    /// The repository is damaged.
    pub fn between(&self, from: Timestamp, to: Option<Timestamp>) -> Result<(Range<usize>, usize), SourceError> {
        let (mut begin, mut end) = (self.line.len(), 0);
        let mut last = Timestamp::MIN;
        let mut backwards = 0;
        for (place, id) in self.line.iter().enumerate() {
            let at = time(self.repository.find_commit(*id).map_err(|e| self.damaged(e))?.time());
            if to.is_none_or(|to| at <= to) {
                end = place + 1;
            }
            if at >= from {
                begin = begin.min(place);
            }
            backwards += usize::from(at < last);
            last = at;
        }
        Ok((begin.min(end)..end, backwards))
    }

    /// The commit at a place of the line.
    pub fn at(&self, place: usize) -> Option<String> {
        self.line.get(place).map(Oid::to_string)
    }

    /// How many commits the line has.
    pub fn len(&self) -> usize {
        self.line.len()
    }

    /// Whether the line has no commit.
    pub fn is_empty(&self) -> bool {
        self.line.is_empty()
    }

    /// Whether a commit is the newest of the line or led to it, on whatever branch it was made.
    pub fn holds(&self, commit: &str) -> bool {
        let (Some(newest), Ok(commit)) = (self.line.last(), Oid::from_str(commit)) else { return false };
        *newest == commit || self.repository.graph_descendant_of(*newest, commit).unwrap_or(false)
    }

    pub(super) fn repository(&self) -> &Repository {
        &self.repository
    }

    pub(super) fn damaged(&self, source: git2::Error) -> SourceError {
        SourceError::Repository { path: self.path.clone(), source }
    }

    /// Whether commits before the oldest are missing here, as in a shallow clone.
    pub fn is_cut(&self) -> bool {
        self.repository.is_shallow()
    }

    /// When the branch was rewritten, newest first, as far as the repository's log of it tells.
    pub fn rewritten(&self) -> &[Rewritten] {
        &self.rewritten
    }

    /// Follows the line. `visit` is told of each commit and may read the files of some tenants at it.
    ///
    /// # Errors
    /// The repository is damaged, or a commit holds more files than the bound.
    pub fn follow<E: From<SourceError>>(
        &self,
        keys: &Keys,
        mut visit: impl FnMut(At<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        let damaged = |source| self.damaged(source);
        let mut before: Option<GitTree<'_>> = None;
        for (place, id) in self.line.iter().enumerate() {
            let commit = self.repository.find_commit(*id).map_err(damaged)?;
            let root = commit.tree().map_err(damaged)?;
            if before.as_ref().is_some_and(|before| before.id() == root.id()) {
                continue;
            }
            let changed = self.changed(before.as_ref(), &root)?;
            visit(At { history: self, commit: &commit, root: &root, keys, place, changed })?;
            before = Some(root);
        }
        Ok(())
    }

    fn changed(&self, before: Option<&GitTree<'_>>, after: &GitTree<'_>) -> Result<Changed, SourceError> {
        let damaged = |source| self.damaged(source);
        let id = |tree: Option<&GitTree<'_>>, name: &str| Some(tree?.get_name(name)?.id());
        let differs = |name: &&str| id(before, name) != id(Some(after), name);
        let mut changed = Changed {
            policy: TOP.iter().any(differs) || before.is_none(),
            files: differs(&FILES),
            tenants: BTreeSet::new(),
        };
        if !differs(&TENANTS) {
            return Ok(changed);
        }
        let folder = |tree: Option<&GitTree<'_>>| -> Result<Option<GitTree<'_>>, SourceError> {
            let entry = tree.and_then(|tree| tree.get_name(TENANTS).map(|entry| (entry.kind(), entry.id())));
            match entry {
                Some((Some(ObjectType::Tree), id)) => self.repository.find_tree(id).map(Some).map_err(damaged),
                _ => Ok(None),
            }
        };
        let (old, new) = (folder(before)?, folder(Some(after))?);
        let diff = self.repository.diff_tree_to_tree(old.as_ref(), new.as_ref(), None).map_err(damaged)?;
        for delta in diff.deltas() {
            for file in [delta.old_file(), delta.new_file()] {
                let path = file.path_bytes().map(String::from_utf8_lossy).unwrap_or_default();
                changed.tenants.insert(tenant_of(&path).to_owned());
            }
        }
        Ok(changed)
    }
}

/// A time as git has it. One that no calendar has is as good as none.
pub(super) fn time(of: git2::Time) -> Timestamp {
    Timestamp::from_second(of.seconds()).unwrap_or_default()
}

/// Somebody as a commit names them.
pub(super) fn person(one: &git2::Signature<'_>) -> Person {
    Person {
        name: String::from_utf8_lossy(one.name_bytes()).into_owned(),
        email: String::from_utf8_lossy(one.email_bytes()).into_owned(),
    }
}

/// What the log of a branch tells of rewriting. A repository that keeps none tells nothing.
fn rewritten(repository: &Repository, rev: &str) -> Vec<Rewritten> {
    let reference = repository.resolve_reference_from_short_name(rev).and_then(|reference| reference.resolve());
    let name = reference.ok().and_then(|reference| reference.name().ok().map(str::to_owned));
    let Some(log) = name.and_then(|name| repository.reflog(&name).ok()) else { return Vec::new() };
    let moves = log.iter().filter_map(|entry| {
        let (from, to) = (entry.id_old(), entry.id_new());
        let descends = from == to || repository.graph_descendant_of(to, from).unwrap_or(false);
        let is_move = !from.is_zero() && !to.is_zero() && !descends;
        is_move.then(|| Rewritten { time: time(entry.committer().when()), from: from.to_string(), to: to.to_string() })
    });
    moves.collect()
}

/// What differs between a commit and the one before it.
#[derive(Clone, Debug, Default)]
pub struct Changed {
    /// What holds for all tenants.
    pub policy: bool,
    /// Something that tenants' files name.
    pub files: bool,
    /// Tenants, by the names of their files.
    pub tenants: BTreeSet<String>,
}

/// One commit of a line.
pub struct At<'a> {
    history: &'a History,
    commit: &'a Commit<'a>,
    root: &'a GitTree<'a>,
    keys: &'a Keys,
    /// Its place in the line, counted from 0.
    pub place: usize,
    /// What it changes.
    pub changed: Changed,
}

impl At<'_> {
    /// Reads what holds for all tenants, and the files of some, or of all.
    ///
    /// # Errors
    /// The repository is damaged, or holds more files than the bound.
    pub fn read(&self, only: Option<&BTreeSet<String>>) -> Result<Tree, SourceError> {
        let revision = format!("sha1:{}", self.commit.id());
        let tree = git::read_some(&self.history.repository, self.root, revision, only)?;
        Ok(Tree { carried: self.carried()?, ..tree })
    }

    fn carried(&self) -> Result<Arc<BTreeMap<String, Carried>>, SourceError> {
        let id = self.root.get_name(FILES).map(|entry| entry.id());
        let mut last = self.history.carried.borrow_mut();
        if let Some(given) = last.as_ref().filter(|given| given.of == id) {
            return Ok(Arc::clone(&given.carried));
        }
        let carried = git::carried(&self.history.repository, self.root)?;
        *last = Some(Given { of: id, carried: Arc::clone(&carried) });
        Ok(carried)
    }

    /// When it was committed.
    pub fn time(&self) -> Timestamp {
        time(self.commit.time())
    }

    /// Who made the commit, and when.
    ///
    /// # Errors
    /// The repository is damaged.
    pub fn moment(&self) -> Result<Moment, SourceError> {
        let damaged = |source| self.history.damaged(source);
        let commit = self.commit;
        let subject = commit.message_bytes().split(|byte| *byte == b'\n').next().unwrap_or_default();
        Ok(Moment {
            commit: commit.id().to_string(),
            time: self.time(),
            author: person(&commit.author()),
            committer: person(&commit.committer()),
            subject: String::from_utf8_lossy(subject).into_owned(),
            signature: self.signature().map_err(damaged)?,
            merged: self.merged().map_err(damaged)?,
        })
    }

    fn signature(&self) -> Result<Signature, git2::Error> {
        let objects = self.history.repository.odb()?;
        let object = objects.read(self.commit.id())?;
        let signed = match Signed::of(object.data()) {
            Ok(signed) => signed,
            Err(Fault::Unsigned) => return Ok(Signature::None),
            Err(fault) => return Ok(Signature::Bad(fault.to_string())),
        };
        let kind = if signed.is_pgp() { "GnuPG" } else { "SSH" };
        if !self.keys.may_know(&signed) {
            return Ok(Signature::Unknown(kind.to_owned()));
        }
        Ok(match self.keys.signer(&signed) {
            Ok(Ok(signer)) => Signature::By(signer),
            Ok(Err(fault)) => Signature::Bad(fault.to_string()),
            Err(error) => Signature::Unknown(format!("{kind}: {error}")),
        })
    }

    /// The authors of what a merge brought, newest first.
    fn merged(&self) -> Result<Vec<Person>, git2::Error> {
        let mut people: Vec<Person> = Vec::new();
        if self.commit.parent_count() < 2 {
            return Ok(people);
        }
        let mut walk = self.history.repository.revwalk()?;
        self.commit.parent_ids().skip(1).try_for_each(|parent| walk.push(parent))?;
        self.commit.parent_ids().take(1).try_for_each(|parent| walk.hide(parent))?;
        for id in walk.take(MERGED) {
            let commit = self.history.repository.find_commit(id?)?;
            let person = person(&commit.author());
            if !people.contains(&person) {
                people.push(person);
            }
        }
        Ok(people)
    }
}
