//! What several commands read out of the history of a config repo.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use jiff::Timestamp;
use serde::Serialize;

use super::{
    args::{Global, JournalFolder},
    events,
    outcomes::{Gathered, Outcome, Outcomes},
    output, setup,
};
use crate::{
    journal,
    model::{
        Desired, Entry,
        finding::Location,
        record::Verdict,
        shown::short_id,
        tree::{Moment, Rewritten},
    },
    review::{
        self, Review,
        history::{Against, Brought, Commit, InForce},
    },
    source::{At, History, Keys, SourceError},
    spec::{self, Compiler, TenantSource},
};

/// How many commits are named where a few words must do.
const NAMED: usize = 5;

/// How many times are compared at which a branch was rewritten.
const REWINDS: usize = 100;

/// The keys that count on this host. Elsewhere there are none, and signatures are only told of.
pub fn keys(global: &Global) -> Keys {
    Keys::new(setup::host(global).map(|host| host.verify).unwrap_or_default())
}

/// One commit of a history, brought into force after those that it follows from.
pub struct Step<'a> {
    history: &'a History,
    keys: &'a Keys,
    /// Its place in the history.
    pub place: usize,
    /// What it brought; `None` where it concerns nobody.
    pub brought: Option<Brought>,
    /// What it took back of parents other than its first.
    pub against: Vec<Against>,
    /// Who made it, and whether it is signed, where that was read already.
    moment: Option<(Moment, bool)>,
}

impl Step<'_> {
    /// Whether it changed something, or would have and is broken.
    pub fn is_told(&self) -> bool {
        let is_told = |brought: &Brought| !brought.review.is_empty() || brought.breaks;
        self.brought.as_ref().is_some_and(is_told) || !self.against.is_empty()
    }

    /// The commit with what it brought.
    ///
    /// # Errors
    /// The repository is damaged.
    pub fn into_commit(mut self) -> Result<Option<Commit>, SourceError> {
        let Some((mut moment, is_signed)) = self.moment()? else { return Ok(None) };
        if is_signed {
            moment.signature = self.history.signature(self.place, self.keys)?;
        }
        let side = self.history.is_side(self.place);
        Ok(Some(Commit::new(moment, side, self.brought.unwrap_or_default(), self.against)))
    }

    fn moment(&mut self) -> Result<Option<(Moment, bool)>, SourceError> {
        match self.moment.take() {
            None => self.history.moment(self.place),
            known => Ok(known),
        }
    }

    /// What is kept of it for the next time.
    fn into_outcome(mut self) -> Result<Option<Outcome>, SourceError> {
        let Some((moment, is_signed)) = self.moment()? else { return Ok(None) };
        let Self { place, brought, against, .. } = self;
        Ok(Some(Outcome { place, brought, against, moment, is_signed }))
    }
}

/// Tells `visit` of each commit of a history that changes something, or would have and is broken. What was found before is
/// not found anew.
///
/// # Errors
/// The repository is damaged, or no commit has the folder.
pub fn changes(
    history: &History,
    keys: &Keys,
    mut visit: impl FnMut(Step<'_>) -> Result<(), SourceError>,
) -> Result<(), SourceError> {
    let outcomes = Outcomes::of(history);
    let step = |Outcome { place, brought, against, moment, is_signed }| Step {
        history,
        keys,
        place,
        brought,
        against,
        moment: Some((moment, is_signed)),
    };
    if let Some(known) = outcomes.as_ref().and_then(Outcomes::read) {
        return known.into_iter().map(step).try_for_each(visit);
    }
    let mut gathered = Gathered::new(outcomes.is_some());
    walk(history, keys, |found, _| {
        if !found.is_told() || !gathered.is_open() {
            return visit(found);
        }
        match found.into_outcome()? {
            Some(outcome) => {
                gathered.add(&outcome);
                visit(step(outcome))
            }
            None => Ok(()),
        }
    })?;
    if let Some(outcomes) = outcomes {
        outcomes.keep(gathered);
    }
    Ok(())
}

/// Follows a history, and tells `visit` of each commit, with what is in force then.
///
/// What is in force is kept for each commit until all are done that follow from it, so that each is compared with what it
/// came from, on whatever branch.
///
/// # Errors
/// The repository is damaged, or no commit has the folder.
pub fn walk(
    history: &History,
    keys: &Keys,
    mut visit: impl FnMut(Step<'_>, &InForce) -> Result<(), SourceError>,
) -> Result<(), SourceError> {
    let mut followers = history.followers();
    let mut states: BTreeMap<usize, InForce> = BTreeMap::new();
    let mut compiler = Compiler::default();
    history.follow(&TenantSource::read, |at| {
        let (place, before) = (at.place, at.before().to_vec());
        let others: BTreeSet<usize> =
            before.iter().skip(1).filter(|place| Some(*place) != before.first()).copied().collect();
        let mut own = match before.first() {
            // The last that follows from it takes it.
            Some(first) if others.is_empty() && followers.get(*first) == Some(&1) => states.remove(first),
            Some(first) => states.get(first).cloned(),
            None => None,
        }
        .unwrap_or_default();
        let brought = bring(&mut own, &at, &mut compiler)?;
        let mut against = Vec::new();
        for place in others {
            against.extend(taken_back(history, &own, &before, place, &states)?);
        }
        for place in before {
            if let Some(left) = followers.get_mut(place) {
                *left = left.saturating_sub(1);
                if *left == 0 {
                    states.remove(&place);
                }
            }
        }
        visit(Step { history, keys, place, brought, against, moment: None }, &own)?;
        if followers.get(place).is_some_and(|left| *left > 0) {
            states.insert(place, own);
        }
        Ok(())
    })
}

/// What a merge took back of the parent at a place.
fn taken_back(
    history: &History,
    merge: &InForce,
    parents: &[usize],
    place: usize,
    states: &BTreeMap<usize, InForce>,
) -> Result<Option<Against>, SourceError> {
    let (Some(parent), Some(commit)) = (states.get(&place), history.at(place)) else { return Ok(None) };
    let all = merge.taken_back(parent, &[]);
    if all.is_empty() {
        return Ok(None);
    }
    let names: BTreeSet<String> = all.tenants.iter().map(|one| one.tenant.clone()).collect();
    let mut others = Vec::new();
    for other in parents.iter().filter(|other| **other != place) {
        let Some(state) = states.get(other) else { continue };
        let base = history.parting(place, *other, &names)?.map_or_else(Desired::default, |tree| spec::compile(&tree));
        others.push((state, base));
    }
    let review = merge.taken_back(parent, &others);
    Ok((!review.is_empty()).then_some(Against { commit, review }))
}

/// Brings a commit into force, and says what that changed of what it follows from; `None` where it concerns nobody.
fn bring(
    in_force: &mut InForce,
    at: &At<'_, TenantSource>,
    compiler: &mut Compiler,
) -> Result<Option<Brought>, SourceError> {
    if at.is_missing() {
        let brought = in_force.miss();
        return Ok(brought.breaks.then_some(brought));
    }
    let changed = at.changed()?;
    let concerned = in_force.concerned(changed.policy, changed.files, &changed.tenants);
    if concerned.as_ref().is_some_and(|tenants| tenants.is_empty()) {
        return Ok(None);
    }
    let read = at.read(concerned.as_ref())?;
    let declared = compiler.compile(&read.tree, &read.tenants);
    Ok(Some(in_force.take(concerned.as_ref(), declared)))
}

/// What the daemon brought into force.
pub struct Accepted {
    /// The journal that tells it.
    pub journal: String,
    /// The commits in their order, and when each came into force.
    pub commits: Vec<(String, Timestamp)>,
}

/// What the daemon brought into force, as a journal tells it. `None` where no journal can be read; one that was named by hand must be there.
///
/// # Errors
/// The journal that was named cannot be read.
pub fn accepted(journal: &JournalFolder, global: &Global) -> anyhow::Result<Option<Accepted>> {
    let is_named = journal.folder.is_some();
    let folders = match events::journals(journal, global) {
        Ok(folders) => folders,
        Err(error) if is_named => return Err(error),
        Err(_) => return Ok(None),
    };
    let Some(folder) = folders.first() else { return Ok(None) };
    match read_accepted(folder) {
        Ok(commits) => Ok(Some(Accepted { journal: folder.display().to_string(), commits })),
        Err(error) if is_named => Err(error.into()),
        Err(_) => Ok(None),
    }
}

fn read_accepted(folder: &Path) -> Result<Vec<(String, Timestamp)>, journal::JournalError> {
    let mut commits = Vec::new();
    journal::read(folder, None, |record| {
        if let Entry::Revision(revision) = &record.entry
            && matches!(revision.verdict, Verdict::Accepted | Verdict::Approved)
        {
            commits.push((revision.revision.commit.clone(), record.time));
        }
        std::ops::ControlFlow::Continue(())
    })?;
    Ok(commits)
}

/// A time when a branch was set to a commit that does not descend from where it stood, and what that changed.
#[derive(Serialize)]
pub struct Rewind {
    /// When, and between which commits.
    #[serde(flatten)]
    pub rewritten: Rewritten,
    /// What it changed; `None` where one of them cannot be read any more, or has errors.
    #[serde(flatten)]
    pub review: Option<Review>,
}

/// What the branch's being rewritten changed, newest first, as far as the repository tells. It does not come after either
/// commit, so that no comparison with parents shows it.
pub fn rewinds(history: &History, since: Option<Timestamp>) -> Vec<Rewind> {
    let declared = |commit: &str| {
        let desired = spec::compile(&history.read(commit).ok()?);
        desired.policy_usable.then_some(desired)
    };
    let new = history.rewritten().iter().filter(|one| since.is_none_or(|since| one.time >= since)).take(REWINDS);
    let compared = new.map(|one| {
        let sides = declared(&one.from).zip(declared(&one.to));
        let review = sides.map(|(from, to)| review::review(&from, &to, &|_, _, _| Location::default()));
        Rewind { rewritten: one.clone(), review }
    });
    compared.collect()
}

/// Warns of what makes a history less than certain: commits that are missing, a branch that was rewritten, and dates that
/// do not follow the order.
pub fn warn(history: &History) {
    if history.is_cut() {
        output::tell("warning: the repository is shallow; what was before its oldest commit is not known");
    }
    for rewritten in history.rewritten() {
        let (from, to) = (short_id(&rewritten.from), short_id(&rewritten.to));
        output::tell(&format!(
            "warning: the branch was rewritten at {}, from {from} to {to}; what was in force in between is not in its history",
            rewritten.time
        ));
    }
    let misdated = history.misdated();
    if !misdated.is_empty() {
        let named = named(misdated.iter().map(|one| one.commit.as_str()));
        output::tell(&format!(
            "warning: order and dates disagree: {} say that they are older than a commit that they follow from, or follow \
             from one that is dated ahead: {named}",
            counted(misdated.len())
        ));
    }
}

/// So many commits.
pub fn counted(count: usize) -> String {
    format!("{count} commit{}", if count == 1 { "" } else { "s" })
}

/// A few commits by the beginnings of their ids.
pub fn named<'a>(commits: impl ExactSizeIterator<Item = &'a str>) -> String {
    let more = commits.len().saturating_sub(NAMED);
    let shown: Vec<&str> = commits.take(NAMED).map(short_id).collect();
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    shown.join(", ") + &more
}
