//! When a commit removes so much that a person should agree first.

use std::collections::BTreeSet;

use serde::Serialize;

use crate::model::{Desired, TenantPlan, files::digest, policy::Guards};

/// How many hexadecimal digits of a commit an id begins with.
const COMMIT_DIGITS: usize = 12;

/// How many hexadecimal digits of a hash an id carries: 128 bits.
const HASH_DIGITS: usize = 32;

/// Why a commit is held, and what it would remove.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hold {
    /// Why, in one line.
    pub reason: String,
    /// The tenants that it would remove, and those that were removed within the window before, sorted.
    pub removed: Vec<String>,
}

/// The tenants that came and went by the commits that were accepted within the window.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recent {
    /// Those that were removed and are not back.
    pub removed: BTreeSet<String>,
    /// Those that were not there when the window began.
    pub added: BTreeSet<String>,
}

/// The tenants that are gone once a commit is in force: those that it removes, and those that were removed within the
/// window. `known` are the tenants that are declared so far or found on the engine. One whose file is wrong is not removed.
/// One that was removed is back only if something of it comes into force with the commit: a file that is wrong, or waits
/// for an approval, brings nobody back.
pub fn gone(
    known: &BTreeSet<String>,
    recent: &Recent,
    next: &Desired,
    comes_into_force: impl Fn(&str) -> bool,
) -> BTreeSet<String> {
    let removed = known.iter().filter(|name| !next.mentions(name));
    removed.chain(recent.removed.iter().filter(|name| !comes_into_force(name))).cloned().collect()
}

/// Judges what a commit removes, together with what was removed within the window before. One that removes nobody is
/// never held.
///
/// What counts is the share of all tenants that there are or were within the window, and that of the tenants that
/// there were when it began: so neither many small commits nor tenants that are added for the purpose get around it.
///
/// A commit without any tenant is always held where there were some: a moved or emptied folder is
/// more likely than a fleet that ends.
pub fn hold(
    known: &BTreeSet<String>,
    recent: &Recent,
    next: &Desired,
    comes_into_force: impl Fn(&str) -> bool,
    guards: Guards,
) -> Option<Hold> {
    let now = known.iter().filter(|name| !next.mentions(name)).count();
    if now == 0 {
        return None;
    }
    let gone = gone(known, recent, next, comes_into_force);
    let all = known.union(&recent.removed).count();
    let begun = known.union(&recent.removed).filter(|name| !recent.added.contains(*name)).count();
    let of_them = gone.iter().filter(|name| !recent.added.contains(*name)).count();
    let Guards { percent, at_least, window } = guards;
    let many = |count: usize, of: usize| count >= at_least as usize && count * 100 > of * percent as usize;
    let bound = format!("{at_least} or more, and more than {percent} %, are held");
    let removes = match gone.len() - now {
        0 => "it removes".to_owned(),
        before => format!("with the {before} that were removed within {window} before, it removes"),
    };
    let reason = if next.tenants.is_empty() && next.held.is_empty() {
        format!("it declares no tenant at all, where there are {}", known.len())
    } else if many(gone.len(), all) {
        format!("{removes} {} of {all} tenants; {bound}", gone.len())
    } else if many(of_them, begun) {
        format!("{removes} {of_them} of the {begun} tenants that there were {window} ago; {bound}")
    } else {
        return None;
    };
    Some(Hold { reason, removed: gone.into_iter().collect() })
}

/// The id by which a held commit is approved, `COMMIT-HASH`: another commit, or another list, is another id.
///
/// A person copies it, and who wrote the commit may have tried many: 128 bits of hash and 48 of the commit must meet.
/// There is no short form. One that is unique among what is held now may have been read off another commit, which
/// this one took the place of.
pub fn hold_id(commit: &str, hold: &Hold) -> String {
    commit_id(commit, &(commit, &hold.removed))
}

/// The id of something that is of a commit.
pub(super) fn commit_id(commit: &str, value: &impl Serialize) -> String {
    format!("{}-{}", commit.get(..COMMIT_DIGITS).unwrap_or(commit), id(value))
}

/// The id of what is done to tenants: the same steps for the same revision have the same id.
pub fn plan_id<'a>(revision: Option<&str>, plans: impl IntoIterator<Item = &'a TenantPlan>) -> String {
    let steps: Vec<_> = plans.into_iter().map(|plan| (&plan.tenant, &plan.contain, &plan.steps)).collect();
    id(&(revision, steps))
}

/// 128 bits of the SHA-256 of a value's JSON.
fn id(value: &impl Serialize) -> String {
    let mut id = digest(&serde_json::to_vec(value).unwrap_or_default());
    id.truncate(HASH_DIGITS);
    id
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(known: usize, left: usize, wrong: usize) -> Option<(String, usize)> {
        let names: BTreeSet<String> = (0..known).map(|n| format!("t{n:03}")).collect();
        let held: BTreeSet<String> = names.iter().take(left + wrong).cloned().collect();
        let next = Desired { held, ..Desired::default() };
        hold(&names, &Recent::default(), &next, |_| false, Guards::default())
            .map(|hold| (hold.reason, hold.removed.len()))
    }

    #[test]
    fn one_removal_passes_and_more_than_a_tenth_is_held() {
        for (known, left, is_held) in [
            (0, 0, false),
            (1, 1, false),
            (1, 0, true),
            (3, 2, false),
            (3, 1, true),
            (20, 18, false),
            (20, 17, true),
            (100, 90, false),
            (100, 89, true),
        ] {
            assert_eq!(judged(known, left, 0).is_some(), is_held, "{known} tenants, {left} left");
        }
    }

    fn set(names: &[String]) -> BTreeSet<String> {
        names.iter().cloned().collect()
    }

    /// `count` names with a letter in front.
    fn named(letter: char, count: usize) -> Vec<String> {
        (0..count).map(|n| format!("{letter}{n:03}")).collect()
    }

    #[test]
    fn what_was_removed_within_the_window_counts_as_if_it_were_one_commit() {
        let guards = Guards::default();
        let old = named('o', 100);
        // Of a hundred, `before` are gone by commits of their own; `added` came within the window; `now` go.
        for (before, added, now, is_held) in [
            (0, 0, 10, false),
            (0, 0, 11, true),
            (10, 0, 1, true),
            (9, 0, 1, false),
            (5, 0, 6, true),
            // Tenants that are added for the purpose do not thin out the share.
            (10, 1000, 1, true),
            (0, 1000, 11, true),
            (9, 1000, 1, false),
        ] {
            let known = set(&[&old[before..], &named('n', added)].concat());
            let recent = Recent { removed: set(&old[..before]), added: set(&named('n', added)) };
            let next = Desired {
                held: known.iter().filter(|name| !set(&old[before..before + now]).contains(*name)).cloned().collect(),
                ..Desired::default()
            };
            let hold = hold(&known, &recent, &next, |_| false, guards);
            assert_eq!(hold.is_some(), is_held, "{before} before, {added} added, {now} now: {hold:?}");
            if let Some(hold) = hold {
                assert_eq!(hold.removed, old[..before + now]);
            }
        }
    }

    #[test]
    fn tenants_that_came_within_the_window_are_guarded_too() {
        let new = named('n', 50);
        let judged = |before: usize| {
            let recent = Recent { removed: set(&new[..before]), added: set(&new) };
            let next = Desired { held: set(&new[before + 1..]), ..Desired::default() };
            hold(&set(&new[before..]), &recent, &next, |_| false, Guards::default()).is_some()
        };
        assert_eq!((judged(0), judged(4), judged(5), judged(20)), (false, false, true, true));
    }

    #[test]
    fn one_that_removes_nobody_is_not_held_and_one_that_brings_back_counts_less() {
        let old = named('o', 10);
        let recent = Recent { removed: set(&old[..4]), added: BTreeSet::new() };
        let with = |next: &[String], in_force: &[String]| {
            let next = Desired { held: set(next), ..Desired::default() };
            let in_force = set(in_force);
            let hold = hold(&set(&old[4..]), &recent, &next, |name| in_force.contains(name), Guards::default());
            hold.map(|hold| hold.removed.len())
        };
        let judged = |next: &[String]| with(next, next);
        assert_eq!(judged(&old[4..]), None);
        assert_eq!(judged(&old[5..]), Some(5));
        // All four are back, and one goes.
        let back = [&old[..4], &old[5..]].concat();
        assert_eq!(judged(&back), None);
        // All four are declared, and nothing, or one alone, of them comes into force.
        assert_eq!((with(&back, &old[5..]), with(&back, &[&old[..1], &old[5..]].concat())), (Some(5), Some(4)));
        // A new name in an old one's place is a removal.
        assert_eq!(judged(&[&old[5..], &named('n', 5)].concat()), Some(5));
    }

    #[test]
    fn a_tenant_whose_file_is_wrong_is_not_removed() {
        assert_eq!(judged(10, 0, 10), None);
    }

    #[test]
    fn the_id_follows_the_commit_and_the_list() {
        let hold =
            |names: &[&str]| Hold { reason: String::new(), removed: names.iter().map(|n| (*n).to_owned()).collect() };
        let ids: BTreeSet<String> =
            [hold_id("a", &hold(&["x"])), hold_id("b", &hold(&["x"])), hold_id("a", &hold(&["x", "y"]))].into();
        assert_eq!(ids.len(), 3);
        // A list that reads like a part of another is another one.
        assert_ne!(hold_id("a", &hold(&["x", "y"])), hold_id("a", &hold(&["x\",\"y"])));
    }

    #[test]
    fn an_id_carries_the_commit_and_128_bits() {
        let commit = "f3893f067ad7201b7e6f7e9f767e31c79f4a7b2b";
        let id = hold_id(commit, &Hold { reason: String::new(), removed: Vec::new() });
        let (begin, hash) = id.split_once('-').unwrap_or_default();
        assert_eq!((begin, hash.len()), ("f3893f067ad7", 32));
        assert!(hash.bytes().all(|digit| digit.is_ascii_hexdigit()), "{id}");
        // Of two commits that begin alike, and that remove the same, the hashes differ.
        let other = hold_id(&commit.replace("7b2b", "7b2c"), &Hold { reason: String::new(), removed: Vec::new() });
        assert!(other.starts_with("f3893f067ad7-") && other != id, "{other}");
        assert_eq!(plan_id(None, []).len(), 32);
    }
}
