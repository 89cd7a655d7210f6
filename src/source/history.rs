//! The commits that led to one, each after those that it follows from, with what differs between them: so that whoever
//! follows them reads only that.

use std::{
    collections::{BTreeSet, HashMap},
    ops::Range,
};

use git2::{Commit, Oid, Repository, Tree as GitTree};
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::Serialize;
use sha2::{Digest, Sha256};

use super::{
    CommitCache, Keys, Opened, Place, SourceError, Trace, budget, git, graph::Graph, moment, objects, repository::time,
};
use crate::model::tree::{Moment, Rewritten, Signature, Tree};

/// All commits that led to one, whether by a first parent or by another: any of them may have been in force, since the
/// branch may have stood there. Or those that were in force, where that is known.
pub struct History {
    pub(super) opened: Opened,
    /// Oldest first: each comes after those that it follows from.
    pub(super) steps: Vec<Step>,
    pub(super) newest: Oid,
    /// The folder with fleet.yaml in it; empty for the top.
    pub(super) below: String,
    rewritten: Vec<Rewritten>,
}

/// One commit of a history.
pub(super) struct Step {
    pub(super) id: Oid,
    /// The top folder of it.
    pub(super) tree: Oid,
    /// Those that it follows from, by their places: its parents, the first first, or the one that was in force before it.
    pub(super) before: Vec<usize>,
    /// It came in by a merge. The branch may have stood there or not.
    pub(super) is_side: bool,
    /// When it was made, as it says itself, or when it came into force.
    pub(super) time: Timestamp,
}

/// A commit that says that it is older than one that it follows from.
#[derive(Clone, Debug, Serialize, JsonSchema)]
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

impl History {
    /// The commits that led to a revision. `below` is the folder of the repository with fleet.yaml in it; empty for the top.
    ///
    /// # Errors
    /// There is no repository, or the revision names no commit.
    pub fn open<'a>(place: impl Into<Place<'a>>, rev: &str, below: &str) -> Result<Self, SourceError> {
        let opened = Opened::open(place.into())?;
        let newest = opened.commit(rev)?.id();
        let steps = ancestors(&opened, newest).map_err(|e| opened.damaged(e))?;
        let rewritten = opened.rewritten(rev);
        let parts: Vec<&str> = below.split('/').filter(|part| !matches!(*part, "" | ".")).collect();
        let below = parts.join("/");
        Ok(Self { opened, steps, newest, below, rewritten })
    }

    /// The same as it was in force: `accepted` are commits and when each came into force, in that order. What led to
    /// the first of them is named by the repository. Returned beside it are those that the repository does not have;
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
        self.steps = ancestors(&self.opened, first).map_err(|e| self.damaged(e))?;
        if let Some(step) = self.steps.last_mut() {
            step.time = time;
        }
        for (id, time) in known {
            let before = self.steps.len().checked_sub(1).into_iter().collect();
            let tree = self.repository().find_commit(id).map_err(|e| self.damaged(e))?.tree_id();
            self.steps.push(Step { id, tree, before, is_side: false, time });
        }
        Ok(Ok((self, unknown)))
    }

    /// The place of the newest commit of the branch itself, or of the newest that is not later than a time; `None` where
    /// there was none yet.
    pub fn newest(&self, until: Option<Timestamp>) -> Option<usize> {
        self.steps.iter().rposition(|step| !step.is_side && until.is_none_or(|until| step.time <= until))
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

    /// How many of some commits follow from each, by their places.
    pub fn followers(&self, of: &[usize]) -> Vec<usize> {
        let mut followers = vec![0; self.steps.len()];
        for place in of.iter().flat_map(|place| self.before(*place)) {
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

    /// For each commit, by its place, what all that is found of it follows from.
    pub fn traces(&self) -> Vec<Trace> {
        let mut traces: Vec<Trace> = Vec::with_capacity(self.steps.len());
        let mut bytes = Vec::new();
        for Step { id, before, .. } in &self.steps {
            bytes.clear();
            bytes.extend_from_slice(id.as_bytes());
            before
                .iter()
                .filter_map(|place| traces.get(*place))
                .for_each(|Trace(trace)| bytes.extend_from_slice(trace));
            let digest = Sha256::digest(&bytes);
            traces.push(Trace(std::array::from_fn(|at| digest[at])));
        }
        traces
    }

    /// The commits that led to the one at a place by first parents, newest first, and that one itself.
    pub fn line(&self, place: usize) -> impl Iterator<Item = usize> {
        std::iter::successors(Some(place), |place| self.steps.get(*place)?.before.first().copied())
    }

    /// The commits that the one at a place follows from, by their places: the first parent first.
    pub fn before(&self, place: usize) -> &[usize] {
        self.steps.get(place).map_or(&[], |step| &step.before)
    }

    /// What is kept of a kind of findings about its commits. `None` where nothing can be.
    pub fn kept(&self, kind: &'static str) -> Option<CommitCache> {
        CommitCache::open(&self.opened.folder_of_kept()?, &self.below, kind)
    }

    /// Whether the commit at a place came in by a merge, so that the branch may have stood there or not.
    pub fn is_side(&self, place: usize) -> bool {
        self.steps.get(place).is_some_and(|step| step.is_side)
    }

    /// Who made the commit at a place, and when, as if it were not signed; and whether it is.
    ///
    /// # Errors
    /// The repository is damaged.
    pub fn moment(&self, place: usize) -> Result<Option<(Moment, bool)>, SourceError> {
        let Some(step) = self.steps.get(place) else { return Ok(None) };
        moment::unsigned(self.repository(), step.id).map(Some).map_err(|source| self.damaged(source))
    }

    /// Who signed the commit at a place.
    ///
    /// # Errors
    /// The repository is damaged.
    pub fn signature(&self, place: usize, keys: &Keys) -> Result<Signature, SourceError> {
        let Some(step) = self.steps.get(place) else { return Ok(Signature::None) };
        moment::signature(self.repository(), step.id, keys).map_err(|source| self.damaged(source))
    }

    /// No commit of it has a folder of the name that holds fleet.yaml.
    pub fn without_folder(&self) -> SourceError {
        SourceError::PathMissing { path: self.below.clone(), commit: self.newest.to_string() }
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

    /// When the branch was rewritten, newest first, as far as the repository's log of it shows.
    pub fn rewritten(&self) -> &[Rewritten] {
        &self.rewritten
    }

    /// The folder with fleet.yaml in it at a commit, if it has one.
    pub(super) fn root<'r>(&'r self, commit: &Commit<'r>) -> Result<Option<GitTree<'r>>, SourceError> {
        // Whoever follows a history goes on over one that is too large, and says so where it is read.
        let open = |id| self.tree(id);
        git::below(commit.tree_id(), &self.below, open)?.map(open).transpose()
    }

    /// A folder by its id.
    pub(super) fn tree(&self, id: Oid) -> Result<GitTree<'_>, SourceError> {
        let repository = self.repository();
        let checked = repository.odb().and_then(|objects| objects::check(&objects, id));
        checked.and_then(|()| repository.find_tree(id)).map_err(|e| self.damaged(e))
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

    /// Reads what holds for all tenants at the commit at a place, and the files of some, or of all. `None` where it has no
    /// folder of the name that holds fleet.yaml.
    ///
    /// # Errors
    /// The repository is damaged.
    pub fn read_at(&self, place: usize, only: Option<&BTreeSet<String>>) -> Result<Option<Tree>, SourceError> {
        let Some(step) = self.steps.get(place) else { return Ok(None) };
        let commit = self.repository().find_commit(step.id).map_err(|e| self.damaged(e))?;
        let Some(root) = self.root(&commit)? else { return Ok(None) };
        let revision = format!("sha1:{}", step.id);
        let read = || {
            let tree = git::read_some(self.repository(), &root, revision.clone(), only)?;
            Ok(Tree { carried: git::carried(self.repository(), &root, None)?, ..tree })
        };
        budget::within(revision.clone(), read()).map(Some).map_err(|e| self.opened.explain(e))
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
}

/// All that led to a commit, each after its parents, in the order in which `git rev-list --topo-order --reverse` has them.
fn ancestors(opened: &Opened, newest: Oid) -> Result<Vec<Step>, git2::Error> {
    let mut graph = Graph::open(opened);
    let mut found = CommitOrder::default();
    found.place(newest);
    let (mut parents, mut read): (Vec<Vec<usize>>, Vec<(Oid, Timestamp)>) = (Vec::new(), Vec::new());
    while let Some(id) = found.ids.get(parents.len()) {
        let node = graph.node(*id)?;
        parents.push(node.parents.into_iter().map(|parent| found.place(parent)).collect());
        read.push((node.tree, time(git2::Time::new(node.seconds, 0))));
    }
    graph.keep();
    let order = topological(&parents);
    let mut places = vec![0; order.len()];
    for (place, was) in order.iter().enumerate() {
        places[*was] = place;
    }
    let step = |was: &usize| {
        let before = parents[*was].iter().map(|parent| places[*parent]).collect();
        let (tree, time) = read[*was];
        Step { id: found.ids[*was], tree, before, is_side: true, time }
    };
    let mut steps: Vec<Step> = order.iter().map(step).collect();
    let mut place = steps.len().checked_sub(1);
    while let Some(step) = place.and_then(|place| steps.get_mut(place)) {
        step.is_side = false;
        place = step.before.first().copied();
    }
    Ok(steps)
}

/// Commits in the order in which they were found.
#[derive(Default)]
struct CommitOrder {
    ids: Vec<Oid>,
    places: HashMap<Oid, usize>,
}

impl CommitOrder {
    fn place(&mut self, id: Oid) -> usize {
        let ids = &mut self.ids;
        *self.places.entry(id).or_insert_with(|| {
            ids.push(id);
            ids.len() - 1
        })
    }
}

/// The order in which each commit comes after its parents, which are given by their places; the first one has no child.
fn topological(parents: &[Vec<usize>]) -> Vec<usize> {
    let mut children = vec![0_usize; parents.len()];
    parents.iter().flatten().for_each(|parent| children[*parent] += 1);
    let mut order = Vec::with_capacity(parents.len());
    let mut open: Vec<usize> = (0..parents.len().min(1)).collect();
    while let Some(place) = open.pop() {
        order.push(place);
        for parent in &parents[place] {
            children[*parent] -= 1;
            if children[*parent] == 0 {
                open.push(*parent);
            }
        }
    }
    order.reverse();
    order
}
