//! Which tenants came and went lately, so that the guard against mass removal counts over time.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{model::Desired, plan::guard::Recent};

/// The most names of each kind that are kept, the newest. The most tenants that a commit declares.
const MOST: usize = 100_000;

/// What accepted commits did to tenants, and when: the part of it that may still count.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(in crate::daemon) struct Removals {
    /// Tenants that were removed and are not back in force.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    removed: BTreeMap<String, Timestamp>,
    /// Tenants that were new.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    added: BTreeMap<String, Timestamp>,
}

impl Removals {
    pub(in crate::daemon) fn is_empty(&self) -> bool {
        self.removed.is_empty() && self.added.is_empty()
    }

    /// What happened within a time before now.
    pub(in crate::daemon) fn within(&self, window: Duration, now: Timestamp) -> Recent {
        let recent = |all: &BTreeMap<String, Timestamp>| -> BTreeSet<String> {
            all.iter().filter(|(_, at)| counts(**at, window, now)).map(|(name, _)| name.clone()).collect()
        };
        Recent { removed: recent(&self.removed), added: recent(&self.added) }
    }

    /// Notes what an accepted commit does, and forgets what is older than the window, and of the tenants that were removed
    /// those that are in force again.
    pub(in crate::daemon) fn note(
        &mut self,
        known: &BTreeSet<String>,
        next: &Desired,
        comes_into_force: impl Fn(&str) -> bool,
        window: Duration,
        now: Timestamp,
    ) {
        self.removed.retain(|_, at| counts(*at, window, now));
        self.added.retain(|_, at| counts(*at, window, now));
        // Where nothing was there, nothing can be thinned out.
        if !known.is_empty() {
            let names = next.tenants.keys().map(|name| name.as_str()).chain(next.held.iter().map(String::as_str));
            for name in names.filter(|name| !known.contains(*name) && !self.removed.contains_key(*name)) {
                self.added.entry(name.to_owned()).or_insert(now);
            }
        }
        self.removed.retain(|name, _| !comes_into_force(name));
        for name in known.iter().filter(|name| !next.mentions(name)) {
            self.removed.entry(name.clone()).or_insert(now);
        }
        keep_newest(&mut self.removed);
        keep_newest(&mut self.added);
    }

    /// Forgets removals that an operator has agreed to.
    pub(in crate::daemon) fn agreed(&mut self, names: &[String]) {
        for name in names {
            self.removed.remove(name);
        }
    }

    fn newest(&self) -> Option<Timestamp> {
        self.removed.values().chain(self.added.values()).max().copied()
    }
}

/// Whether something that happened then lies within the window. What lies ahead does, too.
fn counts(at: Timestamp, window: Duration, now: Timestamp) -> bool {
    at.checked_add(window).is_ok_and(|until| until > now)
}

fn keep_newest(all: &mut BTreeMap<String, Timestamp>) {
    if all.len() > MOST {
        let mut times: Vec<Timestamp> = all.values().copied().collect();
        times.sort_unstable();
        let oldest = times.get(times.len() - MOST).copied().unwrap_or_default();
        all.retain(|_, at| *at >= oldest);
    }
}

/// The time that removals are counted by. It is the host's at the start, or that of the newest record where the host's is
/// before it, and from then on it only passes: a host's clock that is set opens nothing while the daemon runs, and never
/// by being set back. What happened while it did not run is known by the host's clock alone.
pub(in crate::daemon) struct Clock {
    begun: Timestamp,
    since: Instant,
}

impl Clock {
    pub(in crate::daemon) fn begin(removals: &Removals, host: Timestamp) -> Self {
        Self { begun: removals.newest().map_or(host, |newest| newest.max(host)), since: Instant::now() }
    }

    pub(in crate::daemon) fn now(&self) -> Timestamp {
        self.begun.checked_add(self.since.elapsed()).unwrap_or(Timestamp::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3_600);

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(seconds).unwrap()
    }

    fn set(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    /// A commit that mentions some tenants, of which some are in force. Returns those.
    fn note(
        removals: &mut Removals,
        known: &BTreeSet<String>,
        names: &[&str],
        in_force: &[&str],
        time: i64,
    ) -> BTreeSet<String> {
        let (next, in_force) = (Desired { held: set(names), ..Desired::default() }, set(in_force));
        removals.note(known, &next, |name| in_force.contains(name), HOUR, at(time));
        in_force
    }

    /// Commits that declare these tenants, each at its time, one after the other.
    fn after(commits: &[(i64, &[&str])]) -> Removals {
        let mut removals = Removals::default();
        let mut known = BTreeSet::new();
        for (time, names) in commits {
            known = note(&mut removals, &known, names, names, *time);
        }
        removals
    }

    #[test]
    fn removals_add_up_within_the_window_and_then_count_no_more() {
        let removals = after(&[(0, &["a", "b", "c", "d"]), (100, &["b", "c", "d"]), (200, &["c", "d"])]);
        for (now, removed) in [(200, &["a", "b"][..]), (3699, &["a", "b"]), (3700, &["b"]), (3799, &["b"]), (3800, &[])]
        {
            assert_eq!(removals.within(HOUR, at(now)), Recent { removed: set(removed), added: set(&[]) }, "{now}");
        }
        assert!(after(&[(0, &["a", "b"]), (1, &["b"]), (3601, &["b"])]).is_empty());
    }

    #[test]
    fn who_came_back_is_not_gone_and_not_new() {
        let removals = after(&[(0, &["a", "b"]), (1, &["b"]), (2, &["a", "b"]), (3, &["b"])]);
        assert_eq!(removals.within(HOUR, at(3)), Recent { removed: set(&["a"]), added: set(&[]) });
        // One that came and went within the window was not there at its start.
        let removals = after(&[(0, &["a"]), (1, &["a", "n"]), (2, &["a"])]);
        assert_eq!(removals.within(HOUR, at(2)), Recent { removed: set(&["n"]), added: set(&["n"]) });
    }

    #[test]
    fn one_that_is_declared_and_not_in_force_is_not_back() {
        let mut removals = Removals::default();
        let mut known = set(&["a", "b", "c", "d"]);
        // Each commit has something wrong in the place of those that went before.
        for (time, in_force) in [(1, &["b", "c", "d"][..]), (2, &["c", "d"]), (3, &["d"])] {
            known = note(
                &mut removals,
                &known,
                &[&["a", "b"][..usize::from(time > 1) + usize::from(time > 2)], in_force].concat(),
                in_force,
                time,
            );
        }
        assert_eq!(removals.within(HOUR, at(3)), Recent { removed: set(&["a", "b", "c"]), added: set(&[]) });
        note(&mut removals, &known, &["a", "b", "d"], &["a", "d"], 4);
        assert_eq!(removals.within(HOUR, at(4)), Recent { removed: set(&["b", "c"]), added: set(&[]) });
    }

    #[test]
    fn what_an_operator_agreed_to_counts_no_more() {
        let mut removals = after(&[(0, &["a", "b", "c"]), (1, &["c"])]);
        removals.agreed(&["a".to_owned()]);
        assert_eq!(removals.within(HOUR, at(1)).removed, set(&["b"]));
    }

    #[test]
    fn a_clock_that_is_set_back_opens_nothing() {
        let removals = after(&[(10_000, &["a", "b"]), (10_001, &["b"])]);
        for host in [0, 10_001] {
            let clock = Clock::begin(&removals, at(host));
            let now = clock.now();
            assert!(now >= at(10_001) && now < at(10_100), "{now}");
            assert_eq!(removals.within(HOUR, now).removed, set(&["a"]));
        }
        assert!(Clock::begin(&removals, at(20_000)).now() >= at(20_000));
        assert_eq!(removals.within(HOUR, at(0)).removed, set(&["a"]));
    }

    #[test]
    fn the_newest_are_kept() {
        let names: Vec<String> = (0..MOST + 10).map(|n| format!("t{n}")).collect();
        let mut removals = Removals::default();
        note(&mut removals, &names[..10].iter().cloned().collect(), &[], &[], 0);
        note(&mut removals, &names[10..].iter().cloned().collect(), &[], &[], 1);
        assert_eq!(removals.removed.len(), MOST);
        assert!(!removals.removed.contains_key("t0"));
    }
}
