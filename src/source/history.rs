//! The commits that led to one, each after those that it follows from, with what differs between them: so that whoever
//! follows them reads only that.

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet, HashMap},
    ops::Range,
    sync::Arc,
};

use git2::{Commit, ObjectType, Oid, Repository, Sort, Tree as GitTree};
use jiff::Timestamp;
use serde::Serialize;

use super::{
    Keys, Opened, Place, SourceError, budget,
    entries::{FILES, TENANTS, TOP},
    git,
    repository::time,
    signature::{Fault, Signed},
    text::decode,
};
use crate::model::tree::{Carried, Moment, Person, Rewritten, Signature, Tree, tenant_of};

/// The most commits of a merged branch whose authors are named.
const MERGED: usize = 20;

/// All commits that led to one, whether by a first parent or by another: any of them may have been in force, since the
/// branch may have stood there. Or those that were in force, where that is known.
pub struct History {
    opened: Opened,
    /// Oldest first: each comes after those that it follows from.
    steps: Vec<Step>,
    newest: Oid,
    /// The folder with fleet.yaml in it; empty for the top.
    below: String,
    /// What lies under `files/` of the tree that was read last.
    carried: RefCell<Option<Given>>,
    rewritten: Vec<Rewritten>,
}

/// One commit of a history.
struct Step {
    id: Oid,
    /// Those that it follows from, by their places: its parents, the first first, or the one that was in force before it.
    before: Vec<usize>,
    /// It came in by a merge. The branch may have stood there or not.
    is_side: bool,
    /// When it was made, as it says itself, or when it came into force.
    time: Timestamp,
}

/// A commit that says that it is older than one that it follows from.
#[derive(Clone, Debug, Serialize)]
pub struct Misdated {
    /// The commit.
    pub commit: String,
    /// When it says that it was made.
    pub time: Timestamp,
    /// The one before it.
    pub after: String,
    /// When that one says that it was.
    pub after_time: Timestamp,
}

/// What lies under `files/`, and the tree that it is of.
struct Given {
    of: Option<Oid>,
    carried: Arc<BTreeMap<String, Carried>>,
}

impl History {
    /// The commits that led to a revision. `below` is the folder of the repository with fleet.yaml in it; empty for the top.
    ///
    /// # Errors
    /// There is no repository, or the revision names no commit.
    pub fn open<'a>(place: impl Into<Place<'a>>, rev: &str, below: &str) -> Result<Self, SourceError> {
        let opened = Opened::open(place.into())?;
        let newest = opened.commit(rev)?.id();
        let steps = ancestors(opened.objects(), newest).map_err(|e| opened.damaged(e))?;
        let rewritten = opened.rewritten(rev);
        let parts: Vec<&str> = below.split('/').filter(|part| !matches!(*part, "" | ".")).collect();
        let below = parts.join("/");
        Ok(Self { opened, steps, newest, below, carried: RefCell::default(), rewritten })
    }

    /// The same as it was in force: `accepted` are commits and when each came into force, in that order. What led to
    /// the first of them is told by the repository. Returned beside it are those that the repository does not have;
    /// `None` where it has none of them.
    ///
    /// # Errors
    /// The repository is damaged.
    pub fn in_force(
        mut self,
        accepted: &[(String, Timestamp)],
    ) -> Result<Result<(Self, Vec<String>), Self>, SourceError> {
        let (mut known, mut unknown): (Vec<(Oid, Timestamp)>, Vec<String>) = (Vec::new(), Vec::new());
        for (commit, time) in accepted {
            match Oid::from_str(commit).ok().filter(|id| self.repository().find_commit(*id).is_ok()) {
                Some(id) if known.last().is_some_and(|(last, _)| *last == id) => {}
                Some(id) => known.push((id, *time)),
                None => unknown.push(commit.clone()),
            }
        }
        let mut known = known.into_iter();
        let Some((first, time)) = known.next() else { return Ok(Err(self)) };
        self.steps = ancestors(self.repository(), first).map_err(|e| self.damaged(e))?;
        if let Some(step) = self.steps.last_mut() {
            step.time = time;
        }
        for (id, time) in known {
            let before = self.steps.len().checked_sub(1).into_iter().collect();
            self.steps.push(Step { id, before, is_side: false, time });
        }
        Ok(Ok((self, unknown)))
    }

    /// The newest commit of the branch itself, or the newest that is not later than a time; `None` where there was none yet.
    pub fn newest(&self, until: Option<Timestamp>) -> Option<String> {
        let mut line = self.steps.iter().rev().filter(|step| !step.is_side);
        line.find(|step| until.is_none_or(|until| step.time <= until)).map(|step| step.id.to_string())
    }

    /// Which commits, by their places, may have been made within a time: from the first that is not older than its begin
    /// to the last that is not newer than its end, whatever the times of those between say. Those right before the first
    /// that say that they are older than what they follow from may have been made then as well. Without an end, to the
    /// last.
    pub fn between(&self, from: Timestamp, to: Option<Timestamp>) -> Range<usize> {
        let mut begin = self.steps.iter().position(|step| step.time >= from).unwrap_or(self.steps.len());
        let mut newest = Timestamp::MIN;
        let credible: Vec<bool> = self
            .steps
            .iter()
            .map(|step| {
                let is_credible = step.time >= newest;
                newest = newest.max(step.time);
                is_credible
            })
            .collect();
        while begin.checked_sub(1).and_then(|before| credible.get(before)).is_some_and(|is_credible| !is_credible) {
            begin -= 1;
        }
        let end = match to {
            Some(to) => self.steps.iter().rposition(|step| step.time <= to).map_or(0, |last| last + 1),
            None => self.steps.len(),
        };
        begin.min(end)..end
    }

    /// The commits that say that they are older than one that they follow from, oldest first.
    pub fn misdated(&self) -> Vec<Misdated> {
        let wrong = self.steps.iter().filter_map(|step| {
            let before = step.before.iter().filter_map(|place| self.steps.get(*place)).max_by_key(|step| step.time)?;
            (before.time > step.time).then(|| Misdated {
                commit: step.id.to_string(),
                time: step.time,
                after: before.id.to_string(),
                after_time: before.time,
            })
        });
        wrong.collect()
    }

    /// The last place before one that is of the branch itself.
    pub fn line_before(&self, place: usize) -> Option<usize> {
        self.steps.iter().take(place).rposition(|step| !step.is_side)
    }

    /// How many commits follow from each, by their places.
    pub fn followers(&self) -> Vec<usize> {
        let mut followers = vec![0; self.steps.len()];
        for place in self.steps.iter().flat_map(|step| &step.before) {
            if let Some(count) = followers.get_mut(*place) {
                *count += 1;
            }
        }
        followers
    }

    /// The commit at a place.
    pub fn at(&self, place: usize) -> Option<String> {
        self.steps.get(place).map(|step| step.id.to_string())
    }

    /// How many commits there are.
    pub fn len(&self) -> usize {
        self.steps.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }

    /// Whether a commit is the revision's or led to it, on whatever branch it was made.
    pub fn holds(&self, commit: &str) -> bool {
        let Ok(commit) = Oid::from_str(commit) else { return false };
        self.newest == commit || self.repository().graph_descendant_of(self.newest, commit).unwrap_or(false)
    }

    /// The revision's commit.
    pub fn head(&self) -> String {
        self.newest.to_string()
    }

    /// The folder with fleet.yaml in it; empty for the top.
    pub fn below(&self) -> &str {
        &self.below
    }

    pub(super) fn repository(&self) -> &Repository {
        self.opened.objects()
    }

    pub(super) fn damaged(&self, source: git2::Error) -> SourceError {
        self.opened.explain(self.opened.damaged(source))
    }

    /// Whether commits before the oldest are missing here, as in a shallow clone.
    pub fn is_cut(&self) -> bool {
        self.repository().is_shallow()
    }

    /// When the branch was rewritten, newest first, as far as the repository's log of it tells.
    pub fn rewritten(&self) -> &[Rewritten] {
        &self.rewritten
    }

    /// Follows all commits, each after those that it follows from. `visit` is told of each and may read the files of some
    /// tenants at it.
    ///
    /// # Errors
    /// The repository is damaged.
    pub fn follow<E: From<SourceError>>(
        &self,
        keys: &Keys,
        mut visit: impl FnMut(At<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut is_found = false;
        for (place, step) in self.steps.iter().enumerate() {
            let commit = self.repository().find_commit(step.id).map_err(|source| self.damaged(source))?;
            let root = self.root(&commit)?;
            is_found |= root.is_some();
            visit(At { history: self, commit: &commit, root: root.as_ref(), keys, place, step })?;
        }
        if !is_found && !self.steps.is_empty() {
            let (path, commit) = (self.below.clone(), self.newest.to_string());
            return Err(SourceError::PathMissing { path, commit }.into());
        }
        Ok(())
    }

    /// The folder with fleet.yaml in it at a commit, if it has one.
    fn root<'r>(&'r self, commit: &Commit<'r>) -> Result<Option<GitTree<'r>>, SourceError> {
        // Whoever follows a history goes on over one that is too large, and says so where it is read.
        let open = |id| self.repository().find_tree(id).map_err(|e| self.damaged(e));
        git::below(commit.tree_id(), &self.below, open)?.map(open).transpose()
    }

    /// Reads any commit of the repository, also one that is not of this history any more.
    ///
    /// # Errors
    /// There is none of this id, it has no folder of the name that holds fleet.yaml, or holds more files than the bound.
    pub fn read(&self, commit: &str) -> Result<Tree, SourceError> {
        let found = self.opened.commit(commit)?;
        let missing = || SourceError::PathMissing { path: self.below.clone(), commit: commit.to_owned() };
        let root = self.root(&found)?.ok_or_else(missing)?;
        git::read_root(self.repository(), root.id(), format!("sha1:{}", found.id())).map_err(|e| self.opened.explain(e))
    }

    /// What some tenants were where two commits parted, with what holds for all. `None` where they have nothing in common,
    /// or no folder there.
    ///
    /// # Errors
    /// The repository is damaged, or holds more files than the bound.
    pub fn parting(&self, one: usize, other: usize, only: &BTreeSet<String>) -> Result<Option<Tree>, SourceError> {
        let (Some(one), Some(other)) = (self.steps.get(one), self.steps.get(other)) else { return Ok(None) };
        let base = match self.repository().merge_base(one.id, other.id) {
            Ok(base) => self.repository().find_commit(base).map_err(|e| self.damaged(e))?,
            Err(e) if e.code() == git2::ErrorCode::NotFound => return Ok(None),
            Err(e) => return Err(self.damaged(e)),
        };
        let Some(root) = self.root(&base)? else { return Ok(None) };
        let read = || {
            let tree = git::read_some(self.repository(), &root, format!("sha1:{}", base.id()), Some(only))?;
            Ok(Some(Tree { carried: git::carried(self.repository(), &root, None)?, ..tree }))
        };
        read().map_err(|e| self.opened.explain(e))
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
                Some((Some(ObjectType::Tree), id)) => self.repository().find_tree(id).map(Some).map_err(damaged),
                _ => Ok(None),
            }
        };
        let (old, new) = (folder(before)?, folder(Some(after))?);
        let diff = self.repository().diff_tree_to_tree(old.as_ref(), new.as_ref(), None).map_err(damaged)?;
        for delta in diff.deltas() {
            for file in [delta.old_file(), delta.new_file()] {
                let path = file.path_bytes().map(String::from_utf8_lossy).unwrap_or_default();
                changed.tenants.insert(tenant_of(&path).to_owned());
            }
        }
        Ok(changed)
    }
}

/// All that led to a commit, each after its parents.
fn ancestors(repository: &Repository, newest: Oid) -> Result<Vec<Step>, git2::Error> {
    let mut walk = repository.revwalk()?;
    walk.push(newest)?;
    walk.set_sorting(Sort::TOPOLOGICAL | Sort::REVERSE)?;
    let mut places: HashMap<Oid, usize> = HashMap::new();
    let mut steps: Vec<Step> = Vec::new();
    for id in walk {
        let id = id?;
        let commit = repository.find_commit(id)?;
        // Of a shallow clone, parents may be missing.
        let before = commit.parent_ids().filter_map(|parent| places.get(&parent).copied()).collect();
        places.insert(id, steps.len());
        steps.push(Step { id, before, is_side: true, time: time(commit.time()) });
    }
    let mut place = steps.len().checked_sub(1);
    while let Some(step) = place.and_then(|place| steps.get_mut(place)) {
        step.is_side = false;
        place = step.before.first().copied();
    }
    Ok(steps)
}

/// Somebody as a commit names them.
fn person(one: &git2::Signature<'_>, encoding: Option<&str>) -> Person {
    Person { name: decode(one.name_bytes(), encoding), email: decode(one.email_bytes(), encoding) }
}

/// Who wrote a commit.
pub(super) fn author(of: &Commit<'_>) -> Person {
    person(&of.author(), encoding(of))
}

/// The encoding that a commit names; one that is not written in ASCII is none.
fn encoding<'c>(of: &'c Commit<'_>) -> Option<&'c str> {
    of.message_encoding().ok().flatten()
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

/// One commit of a history.
pub struct At<'a> {
    history: &'a History,
    commit: &'a Commit<'a>,
    /// The folder with fleet.yaml in it.
    root: Option<&'a GitTree<'a>>,
    keys: &'a Keys,
    step: &'a Step,
    /// Its place in the history, counted from 0.
    pub place: usize,
}

impl At<'_> {
    /// The places of the commits that it follows from, the first parent first.
    pub fn before(&self) -> &[usize] {
        &self.step.before
    }

    /// Whether it came in by a merge, so that the branch may have stood there or not.
    pub const fn is_side(&self) -> bool {
        self.step.is_side
    }

    /// Whether it has no folder of the name that holds fleet.yaml.
    pub const fn is_missing(&self) -> bool {
        self.root.is_none()
    }

    /// What differs from the commit at another place; from nothing without one.
    ///
    /// # Errors
    /// The repository is damaged.
    pub fn changed(&self, before: Option<usize>) -> Result<Changed, SourceError> {
        let damaged = |source| self.history.damaged(source);
        let before = before.and_then(|place| self.history.steps.get(place));
        let before = before.map(|step| self.history.repository().find_commit(step.id).map_err(damaged)).transpose()?;
        let before = before.as_ref().map(|commit| self.history.root(commit)).transpose()?.flatten();
        match (&before, self.root) {
            (Some(before), Some(root)) if before.id() == root.id() => Ok(Changed::default()),
            (before, Some(root)) => self.history.changed(before.as_ref(), root),
            (_, None) => Ok(Changed::default()),
        }
    }

    /// Reads what holds for all tenants, and the files of some, or of all.
    ///
    /// # Errors
    /// The repository is damaged, or has no such folder.
    pub fn read(&self, only: Option<&BTreeSet<String>>) -> Result<Tree, SourceError> {
        let commit = self.commit.id();
        let Some(root) = self.root else {
            return Err(SourceError::PathMissing { path: self.history.below.clone(), commit: commit.to_string() });
        };
        let revision = format!("sha1:{commit}");
        let read = || {
            let tree = git::read_some(self.history.repository(), root, revision.clone(), only)?;
            Ok(Tree { carried: self.carried(root)?, ..tree })
        };
        budget::within(revision.clone(), read()).map_err(|e| self.history.opened.explain(e))
    }

    fn carried(&self, root: &GitTree<'_>) -> Result<Arc<BTreeMap<String, Carried>>, SourceError> {
        let id = root.get_name(FILES).map(|entry| entry.id());
        let mut last = self.history.carried.borrow_mut();
        if let Some(given) = last.as_ref().filter(|given| given.of == id) {
            return Ok(Arc::clone(&given.carried));
        }
        let carried = git::carried(self.history.repository(), root, None)?;
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
            author: author(commit),
            committer: person(&commit.committer(), encoding(commit)),
            subject: decode(subject, encoding(commit)),
            signature: self.signature().map_err(damaged)?,
            merged: self.merged().map_err(damaged)?,
        })
    }

    fn signature(&self) -> Result<Signature, git2::Error> {
        let objects = self.history.repository().odb()?;
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
        let mut walk = self.history.repository().revwalk()?;
        self.commit.parent_ids().skip(1).try_for_each(|parent| walk.push(parent))?;
        self.commit.parent_ids().take(1).try_for_each(|parent| walk.hide(parent))?;
        for id in walk.take(MERGED) {
            let commit = self.history.repository().find_commit(id?)?;
            let person = author(&commit);
            if !people.contains(&person) {
                people.push(person);
            }
        }
        Ok(people)
    }
}
