//! Whether the host has memory for one more tenant, and who sleeps for it. Pure: the clock comes in as an argument.

#![cfg_attr(not(test), deny(clippy::disallowed_methods, clippy::disallowed_types))]

use std::{
    collections::{BTreeMap, BTreeSet},
    mem,
    time::{Duration, Instant},
};

use jiff::Timestamp;

use crate::model::TenantName;

/// How long what ingress said of its requests holds: it says so every two seconds. Of an ingress that has said nothing for so
/// long, none is in hand any more.
const REPORTED: Duration = Duration::from_secs(6);

/// A tenant that holds memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Holder<'a> {
    pub(super) tenant: &'a str,
    /// By its declared limit, in bytes.
    pub(super) memory: u64,
    pub(super) holding: Holding,
}

/// How long a tenant goes on holding its memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Holding {
    /// Until somebody asks for something else.
    Kept,
    /// It is being put to sleep.
    Leaving,
    /// It may be put to sleep, and nobody has used it since then.
    Idle(Timestamp),
}

/// Whether there is room for one more tenant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Room {
    /// There is.
    Free,
    /// There is once those that are leaving have gone.
    Leaving,
    /// There is once these are put to sleep as well, the longest idle one first.
    Evict(Vec<String>),
    /// There is none, whoever may be put to sleep is.
    Full,
}

/// Whether a tenant that wants so much memory finds it within the host's bound, beside those who hold some. Nobody is named in
/// vain: neither where that does not make room enough, nor where the others alone make it.
pub(super) fn room(bound: u64, wanted: u64, holders: &[Holder<'_>]) -> Room {
    let fits = |held: u128| held + u128::from(wanted) <= u128::from(bound);
    if fits(sum(holders.iter())) {
        return Room::Free;
    }
    let mut held = sum(holders.iter().filter(|holder| holder.holding != Holding::Leaving));
    if fits(held) {
        return Room::Leaving;
    }
    let mut idle = Vec::new();
    for Holder { tenant, memory, holding } in holders {
        if let Holding::Idle(since) = holding {
            idle.push((*since, *tenant, u128::from(*memory)));
        }
    }
    idle.sort_unstable();
    let mut evicted = Vec::new();
    for one in idle {
        held -= one.2;
        evicted.push(one);
        if !fits(held) {
            continue;
        }
        let mut named = Vec::new();
        for (_, tenant, memory) in evicted.into_iter().rev() {
            if fits(held + memory) {
                held += memory;
            } else {
                named.push(tenant.to_owned());
            }
        }
        named.reverse();
        return Room::Evict(named);
    }
    Room::Full
}

/// The memory that all of them hold, in bytes.
pub(super) fn sum<'a, 'b: 'a>(holders: impl Iterator<Item = &'a Holder<'b>>) -> u128 {
    holders.map(|holder| u128::from(holder.memory)).sum()
}

/// What ingress says of the tenants that are used.
pub(super) struct Demand {
    /// Those with requests in hand; `None` where that is not known.
    in_hand: Option<BTreeSet<TenantName>>,
    /// When that was said, or this daemon began.
    reported: Instant,
    last_used: BTreeMap<TenantName, Timestamp>,
    /// Whether somebody may have become idle, or gone, since those who wait were looked at.
    is_changed: bool,
}

impl Demand {
    pub(super) fn new(now: Instant) -> Self {
        Self { in_hand: None, reported: now, last_used: BTreeMap::new(), is_changed: true }
    }

    /// Takes in which tenants have requests in hand; `None` for too many to be named.
    pub(super) fn report(&mut self, in_hand: Option<BTreeSet<TenantName>>, now: Instant, time: Timestamp) {
        let known = |names: &Option<BTreeSet<TenantName>>| names.iter().flatten().cloned().collect::<Vec<_>>();
        for name in known(&self.in_hand).into_iter().chain(known(&in_hand)) {
            self.last_used.insert(name, time);
        }
        self.is_changed |= self.in_hand != in_hand;
        (self.in_hand, self.reported) = (in_hand, now);
    }

    /// Since when nobody uses a tenant that was `woken` at that time; `None` for one that is used, or may be.
    pub(super) fn idle_since(&self, tenant: &TenantName, woken: Timestamp, now: Instant) -> Option<Timestamp> {
        let is_recent = now.saturating_duration_since(self.reported) < REPORTED;
        let may_be_used = match &self.in_hand {
            Some(names) => names.contains(tenant),
            None => true,
        };
        if is_recent && may_be_used {
            return None;
        }
        Some(self.last_used.get(tenant).map_or(woken, |used| woken.max(*used)))
    }

    /// Forgets tenants that are gone.
    pub(super) fn retain(&mut self, is_there: impl Fn(&str) -> bool) {
        self.last_used.retain(|name, _| is_there(name.as_str()));
    }

    /// Something about a tenant may be otherwise by now.
    pub(super) fn changed(&mut self) {
        self.is_changed = true;
    }

    /// Whether something may be otherwise since this was last asked.
    pub(super) fn take_changed(&mut self) -> bool {
        mem::take(&mut self.is_changed)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn holder(tenant: &str, memory: u64, holding: Holding) -> Holder<'_> {
        Holder { tenant, memory, holding }
    }

    fn idle(second: i64) -> Holding {
        Holding::Idle(Timestamp::from_second(second).unwrap())
    }

    fn evict(names: &[&str]) -> Room {
        Room::Evict(names.iter().map(|name| (*name).to_owned()).collect())
    }

    #[test]
    fn the_longest_idle_sleeps_first_and_nobody_in_vain() {
        let (kept, leaving) = (Holding::Kept, Holding::Leaving);
        let all = [holder("ant", 4, kept), holder("bee", 2, idle(20)), holder("cat", 2, idle(10))];
        for (bound, wanted, holders, expected) in [
            (10, 2, &all[..], Room::Free),
            (8, 0, &all, Room::Free),
            (9, 2, &all, evict(&["cat"])),
            (9, 4, &all, evict(&["cat", "bee"])),
            (9, 6, &all, Room::Full),
            (3, 1, &[], Room::Free),
            (3, 4, &[], Room::Full),
            (4, 1, &[holder("ant", 4, kept)], Room::Full),
            (4, 1, &[holder("ant", 4, leaving)], Room::Leaving),
            (4, 2, &[holder("ant", 1, leaving), holder("bee", 3, idle(1))], evict(&["bee"])),
            // The large one alone makes the room that is needed.
            (5, 4, &[holder("ant", 1, idle(1)), holder("bee", 4, idle(2))], evict(&["bee"])),
            (5, 4, &[holder("ant", 4, idle(1)), holder("bee", 1, idle(2))], evict(&["ant"])),
            // A host whose declared tenants hold more than the bound wakes nobody.
            (4, 1, &[holder("ant", 9, kept), holder("bee", 1, idle(1))], Room::Full),
            (u64::MAX, u64::MAX, &[holder("ant", u64::MAX, idle(1))], evict(&["ant"])),
        ] {
            assert_eq!(room(bound, wanted, holders), expected, "{wanted} of {bound} beside {holders:?}");
        }
    }

    #[test]
    fn who_has_requests_in_hand_is_not_idle_nor_is_anybody_of_whom_that_is_not_known() {
        let (began, time) = (Instant::now(), |second| Timestamp::from_second(second).unwrap());
        let (ant, bee): (TenantName, TenantName) = ("ant".parse().unwrap(), "bee".parse().unwrap());
        let after = |seconds| began + Duration::from_secs(seconds);
        let mut demand = Demand::new(began);
        assert_eq!(demand.idle_since(&ant, time(1), began), None, "nobody has said so yet");
        assert_eq!(
            demand.idle_since(&ant, time(1), after(6)),
            Some(time(1)),
            "there is no ingress that could have any"
        );
        demand.report(Some(BTreeSet::from([ant.clone()])), after(10), time(10));
        assert_eq!(demand.idle_since(&ant, time(1), after(11)), None);
        assert_eq!(demand.idle_since(&bee, time(1), after(11)), Some(time(1)));
        demand.report(Some(BTreeSet::from([bee.clone()])), after(12), time(12));
        assert_eq!(demand.idle_since(&ant, time(1), after(13)), Some(time(12)), "since its last request ended");
        demand.report(None, after(14), time(14));
        assert_eq!(demand.idle_since(&ant, time(1), after(15)), None, "too many to be named");
        assert_eq!(demand.idle_since(&bee, time(30), after(30)), Some(time(30)), "since it was woken");
        demand.retain(|name| name == "bee");
        assert_eq!(demand.idle_since(&ant, time(1), after(30)), Some(time(1)));
    }

    prop_compose! {
        fn holders()(of in prop::collection::vec((0..50u64, 0..3u8, 0..9i64), 0..12)) -> Vec<(u64, Holding)> {
            of.into_iter().map(|(memory, kind, second)| (memory, match kind {
                0 => Holding::Kept,
                1 => Holding::Leaving,
                _ => Holding::Idle(Timestamp::from_second(second).unwrap_or_default()),
            })).collect()
        }
    }

    proptest! {
        #[test]
        fn no_wake_leads_beyond_the_bound_and_none_is_refused_that_fits(
            bound in 0..200u64,
            wanted in 0..60u64,
            of in holders(),
        ) {
            let names: Vec<String> = (0..of.len()).map(|n| format!("t{n}")).collect();
            let mut all: Vec<Holder<'_>> =
                names.iter().zip(&of).map(|(name, (memory, holding))| holder(name, *memory, *holding)).collect();
            let found = room(bound, wanted, &all);
            let left = |gone: &dyn Fn(&Holder<'_>) -> bool| sum(all.iter().filter(|holder| !gone(holder)));
            let fits = |held: u128| held + u128::from(wanted) <= u128::from(bound);
            let leaves = |holder: &Holder<'_>| holder.holding == Holding::Leaving;
            let may_go = |holder: &Holder<'_>| holder.holding != Holding::Kept;
            match &found {
                Room::Free => prop_assert!(fits(left(&|_| false))),
                Room::Leaving => prop_assert!(fits(left(&leaves)) && !fits(left(&|_| false))),
                Room::Evict(evicted) => {
                    let is_named = |one: &Holder<'_>| evicted.iter().any(|name| name == one.tenant);
                    prop_assert!(fits(left(&|one| leaves(one) || is_named(one))));
                    for spared in evicted {
                        let others = left(&|one| leaves(one) || (one.tenant != *spared && is_named(one)));
                        prop_assert!(!fits(others), "{} sleeps in vain", spared);
                    }
                    for holder in all.iter().filter(|holder| is_named(holder)) {
                        prop_assert!(matches!(holder.holding, Holding::Idle(_)), "{:?} is not idle", holder);
                    }
                }
                Room::Full => prop_assert!(!fits(left(&may_go))),
            }
            // In whatever order they are found.
            all.reverse();
            prop_assert_eq!(room(bound, wanted, &all), found);
        }
    }
}
