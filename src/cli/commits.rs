//! What several commands read out of the history of a config repo.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Range,
    path::Path,
    sync::Arc,
};

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::Serialize;

use super::{
    args::{Global, JournalFolder},
    events,
    outcomes::{CommitOutcome, NotCollected, Outcomes},
    output, past, setup,
};
use crate::{
    journal,
    model::{Desired, Entry, Tenant, finding::Location, record::Verdict, shown::short_id, tree::Rewritten},
    review::{
        self, Review,
        history::{Against, Brought, Commit, InForce},
    },
    source::{At, Findings, History, Keys, SourceError},
    spec::{self, Compiler, TenantSource},
};

/// How many commits are named where a few words must do.
const NAMED: usize = 5;

/// The most commits from which what is not kept is followed. Each takes as long as reading a whole commit.
const MAX_BEGIN: usize = 16;

/// How many times are compared at which a branch was rewritten.
const MOST_REWRITES: usize = 100;

/// The keys that count on this host. Elsewhere there are none, and signatures are only reported.
pub fn keys(global: &Global) -> Keys {
    Keys::new(setup::host(global).map(|host| host.verify).unwrap_or_default())
}

/// One commit of a history that changed something, or would have and is broken.
pub struct Step<'a> {
    history: &'a History,
    keys: &'a Keys,
    /// Its place in the history.
    pub place: usize,
    /// What it changed.
    pub outcome: CommitOutcome,
}

impl Step<'_> {
    /// The commit with what it brought.
    ///
    /// # Errors
    /// The repository is damaged.
    pub fn into_commit(self) -> Result<Commit, SourceError> {
        let CommitOutcome { brought, against, mut moment, is_signed } = self.outcome;
        if is_signed {
            moment.signature = self.history.signature(self.place, self.keys)?;
        }
        Ok(Commit::new(moment, self.history.is_side(self.place), brought.unwrap_or_default(), against))
    }
}

/// What is asked of a history.
pub struct Asked {
    /// The commits that are collected, by their places.
    pub commits: Range<usize>,
    /// The places of commits after which what was in force is collected.
    pub states: Vec<usize>,
}

/// Calls `visit` with each commit of a history that changes something, or would have and is broken, and returns what was in
/// force after those that were asked for. What was found before is not found anew.
///
/// # Errors
/// The repository is damaged, or no commit has the folder.
pub fn changes(
    history: &History,
    keys: &Keys,
    asked: &Asked,
    mut visit: impl FnMut(Step<'_>) -> Result<(), SourceError>,
) -> Result<BTreeMap<usize, Desired>, SourceError> {
    let mut outcomes = Outcomes::of(history);
    let Collected { found, states, new, .. } = match collect_from_cache(&outcomes, asked) {
        Ok(collected) => collected,
        Err(NotCollected::Damaged(error)) => return Err(error),
        Err(NotCollected::Unknown) => {
            outcomes.clear();
            collect_anew(&outcomes, asked)?
        }
    };
    for (place, mut outcome) in found {
        // Which parent comes first among those of a merge differs from head to head.
        let place_of =
            |commit: &str| history.before(place).iter().find(|at| history.at(**at).as_deref() == Some(commit));
        if outcome.against.len() > 1 {
            outcome.against.sort_by_key(|against| place_of(&against.commit));
        }
        visit(Step { history, keys, place, outcome })?;
    }
    outcomes.keep(&new);
    Ok(states)
}

/// What was collected of a history.
#[derive(Default)]
struct Collected {
    /// What was asked for of commits, each with its place.
    found: Vec<(usize, CommitOutcome)>,
    states: BTreeMap<usize, Desired>,
    /// What was not kept yet.
    new: Findings,
    has_folder: bool,
}

/// Finds what is not kept, from what was in force after commits that are.
fn collect_from_cache(outcomes: &Outcomes<'_>, asked: &Asked) -> Result<Collected, NotCollected> {
    let history = outcomes.history;
    let places = outcomes.unknown();
    let unknown: BTreeSet<usize> = places.iter().copied().collect();
    let is_known = |place: &usize| !unknown.contains(place);
    let begin: BTreeSet<usize> =
        places.iter().flat_map(|place| history.before(*place)).copied().filter(is_known).collect();
    if begin.len() > MAX_BEGIN || (begin.is_empty() && !places.is_empty()) {
        return Err(NotCollected::Unknown);
    }
    let in_force = |place: usize| Ok((place, past::in_force(outcomes, place)?));
    let states = begin.into_iter().map(in_force).collect::<Result<_, NotCollected>>()?;
    let asked_known = asked.states.iter().copied().filter(is_known).map(in_force);
    let known = asked_known.map(|known| known.map(|(place, state)| (place, state.desired().clone())));
    let known = known.collect::<Result<BTreeMap<usize, Desired>, NotCollected>>()?;
    let mut collected = collect(outcomes, &places, states, asked, |place, name| past::tenant(outcomes, place, name))?;
    if !collected.has_folder && !outcomes.has_folder() {
        return Err(history.without_folder().into());
    }
    collected.states.extend(known);
    collected.found.extend(outcomes.known(asked.commits.clone())?);
    collected.found.sort_by_key(|(place, _)| *place);
    Ok(collected)
}

/// Finds everything.
fn collect_anew(outcomes: &Outcomes<'_>, asked: &Asked) -> Result<Collected, SourceError> {
    let all: Vec<usize> = (0..outcomes.history.len()).collect();
    let collected = collect(outcomes, &all, BTreeMap::new(), asked, |_, _| Ok::<_, SourceError>(None))?;
    match collected.has_folder {
        true => Ok(collected),
        false => Err(outcomes.history.without_folder()),
    }
}

/// Follows the commits at some places, from what was in force after those before them.
///
/// What is in force is kept for each commit until all are done that follow from it, so that each is compared with what it
/// came from, on whatever branch.
fn collect<E: From<SourceError>>(
    outcomes: &Outcomes<'_>,
    places: &[usize],
    mut states: BTreeMap<usize, InForce>,
    asked: &Asked,
    last: impl Fn(usize, &str) -> Result<Option<Arc<Tenant>>, E>,
) -> Result<Collected, E> {
    let history = outcomes.history;
    let mut followers = history.followers(places);
    let mut compiler = Compiler::default();
    let mut collected = Collected::default();
    history.follow(places, &TenantSource::read, |at| -> Result<(), E> {
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
        let brought = bring(&mut own, &at, &mut compiler, &last)?;
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
        collected.has_folder |= !at.is_missing();
        let outcome = outcome(history, place, brought, against)?;
        outcomes.add(&mut collected.new, place, at.is_missing(), &own, outcome.as_ref());
        if asked.commits.contains(&place) {
            collected.found.extend(outcome.map(|outcome| (place, outcome)));
        }
        if asked.states.contains(&place) {
            collected.states.insert(place, own.desired().clone());
        }
        if followers.get(place).is_some_and(|left| *left > 0) {
            states.insert(place, own);
        }
        Ok(())
    })?;
    Ok(collected)
}

/// What a commit changed; `None` where it changed nothing, and is not the first of a row of broken ones.
fn outcome(
    history: &History,
    place: usize,
    brought: Option<Brought>,
    against: Vec<Against>,
) -> Result<Option<CommitOutcome>, SourceError> {
    let is_shown = |brought: &Brought| !brought.review.is_empty() || brought.breaks;
    if !brought.as_ref().is_some_and(is_shown) && against.is_empty() {
        return Ok(None);
    }
    let moment = history.moment(place)?;
    Ok(moment.map(|(moment, is_signed)| CommitOutcome { brought, against, moment, is_signed }))
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
fn bring<E: From<SourceError>>(
    in_force: &mut InForce,
    at: &At<'_, TenantSource>,
    compiler: &mut Compiler,
    last: impl Fn(usize, &str) -> Result<Option<Arc<Tenant>>, E>,
) -> Result<Option<Brought>, E> {
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
    for (name, place) in in_force.returning(&declared) {
        let last = last(place, name.as_str())?;
        in_force.recall(name, last);
    }
    Ok(Some(in_force.take(concerned.as_ref(), declared)))
}

/// What the daemon brought into force.
pub struct Accepted {
    /// The journal that says which.
    pub journal: String,
    /// The commits in their order, and when each came into force.
    pub commits: Vec<(String, Timestamp)>,
}

/// What the daemon brought into force, by a journal. `None` where no journal can be read; one that was named by hand must be there.
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
#[derive(Serialize, JsonSchema)]
pub struct Rewrite {
    /// When, and between which commits.
    #[serde(flatten)]
    pub rewritten: Rewritten,
    /// What it changed; `None` where one of them cannot be read any more, or has errors.
    #[serde(flatten)]
    pub review: Option<Review>,
}

/// What the branch's being rewritten changed, newest first, as far as the repository shows. It does not come after either
/// commit, so that no comparison with parents shows it.
pub fn rewrites(history: &History, since: Option<Timestamp>) -> Vec<Rewrite> {
    let declared = |commit: &str| {
        let desired = spec::compile(&history.read(commit).ok()?);
        desired.policy_usable.then_some(desired)
    };
    let new = history.rewritten().iter().filter(|one| since.is_none_or(|since| one.time >= since)).take(MOST_REWRITES);
    let compared = new.map(|one| {
        let sides = declared(&one.from).zip(declared(&one.to));
        let review = sides.map(|(from, to)| review::review(&from, &to, &|_, _, _| Location::default()));
        Rewrite { rewritten: one.clone(), review }
    });
    compared.collect()
}

/// Warns of what makes a history less than certain: commits that are missing, a branch that was rewritten, and dates that
/// do not follow the order.
pub fn warn(history: &History) {
    if history.is_cut() {
        output::message("warning: the repository is shallow; what was before its oldest commit is not known");
    }
    for rewritten in history.rewritten() {
        let (from, to) = (short_id(&rewritten.from), short_id(&rewritten.to));
        output::message(&format!(
            "warning: the branch was rewritten at {}, from {from} to {to}; what was in force in between is not in its history",
            rewritten.time
        ));
    }
    let misdated = history.misdated();
    if !misdated.is_empty() {
        let named = named(misdated.iter().map(|one| one.commit.as_str()));
        output::message(&format!(
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
