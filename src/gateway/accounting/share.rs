//! How what there is so much of is shared: places, bytes, look-ups. Pure.
//!
//! Half of everything is reserved, in equal parts, for the tenants that are served: a tenant's part is its
//! own whatever the others do. The other half is lent to whoever asks first. What is lent beyond that,
//! because a tenant came whose part was lent already, can be called back.
//!
//! A part is a unit at least, without which a tenant can do nothing, as long as there are as many units as
//! tenants. Where there are more tenants, half of what is lent is for those who have less than a unit: the
//! others leave it to them.

use std::collections::BTreeMap;

/// Who has how much of something.
#[derive(Clone, Debug)]
pub struct Shares<K> {
    total: u64,
    unit: u64,
    /// How many are served.
    served: u64,
    holders: BTreeMap<K, Holder>,
    /// What all have, and what of it is beyond the holders' own parts.
    used: u64,
    lent: u64,
}

#[derive(Clone, Copy, Debug, Default)]
struct Holder {
    used: u64,
    is_served: bool,
}

/// What is said to one who asks for more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// It has it now.
    Given,
    /// Its part is not used up, but lent to others.
    Lent,
    /// It would be more than is left to be lent.
    Refused,
}

impl<K: Ord + Clone> Shares<K> {
    /// So much, of which nobody has anything. With less than `unit` a tenant can do nothing.
    pub fn new(total: u64, unit: u64) -> Self {
        Self { total, unit, served: 0, holders: BTreeMap::new(), used: 0, lent: 0 }
    }

    /// How much there is.
    pub fn total(&self) -> u64 {
        self.total
    }

    /// What all have.
    #[cfg(test)]
    pub fn used(&self) -> u64 {
        self.used
    }

    /// What one has.
    pub fn of(&self, who: &K) -> u64 {
        self.holders.get(who).map_or(0, |holder| holder.used)
    }

    /// What each who is served can always have: half of an equal share, and a unit where that is less and
    /// there are enough of them.
    pub fn part(&self) -> u64 {
        let Some(equal) = self.total.checked_div(self.served) else { return 0 };
        let half = equal / 2;
        if equal < self.unit { half } else { half.max(self.unit) }
    }

    /// Whether one has more than is its own part.
    pub fn is_beyond_part(&self, who: &K) -> bool {
        self.holders.get(who).is_some_and(|holder| self.beyond(holder.used, holder.is_served) > 0)
    }

    /// How much can be lent in all: to one who is not to have more than a unit, or to one who is.
    fn to_lend(&self, beyond_unit: bool) -> u64 {
        let part = self.part();
        let all = self.total.saturating_sub(part.saturating_mul(self.served));
        if beyond_unit && self.served > 0 && part < self.unit { all / 2 } else { all }
    }

    /// From now on there is so much, and these are served. Nobody else has a part; what they have is lent.
    pub fn serve(&mut self, total: u64, served: impl IntoIterator<Item = K>) {
        self.total = total;
        self.holders.values_mut().for_each(|holder| holder.is_served = false);
        for who in served {
            self.holders.entry(who).or_default().is_served = true;
        }
        self.holders.retain(|_, holder| holder.is_served || holder.used > 0);
        self.served = self.holders.values().filter(|holder| holder.is_served).count() as u64;
        self.lent = self.holders.values().map(|holder| self.beyond(holder.used, holder.is_served)).sum();
    }

    /// Gives one so much more, if that takes nothing from another's part.
    pub fn take(&mut self, who: &K, amount: u64) -> Admission {
        if amount == 0 {
            return Admission::Given;
        }
        let holder = self.holders.get(who).copied().unwrap_or_default();
        let wanted = holder.used.saturating_add(amount);
        let before = self.beyond(holder.used, holder.is_served);
        let after = self.beyond(wanted, holder.is_served);
        let lent = self.lent.saturating_sub(before).saturating_add(after);
        if after > 0 && lent > self.to_lend(!holder.is_served || wanted > self.unit) {
            return Admission::Refused;
        }
        if self.used.saturating_add(amount) > self.total {
            return if after > 0 { Admission::Refused } else { Admission::Lent };
        }
        match self.holders.get_mut(who) {
            Some(holder) => holder.used = wanted,
            None => drop(self.holders.insert(who.clone(), Holder { used: wanted, is_served: false })),
        }
        self.used += amount;
        self.lent = lent;
        Admission::Given
    }

    /// Takes so much back from one.
    pub fn give_back(&mut self, who: &K, amount: u64) {
        let Some(Holder { used, is_served }) = self.holders.get(who).copied() else { return };
        let left = used.saturating_sub(amount);
        self.lent = self.lent.saturating_sub(self.beyond(used, is_served)) + self.beyond(left, is_served);
        self.used = self.used.saturating_sub(used - left);
        match self.holders.get_mut(who) {
            Some(holder) if left > 0 || is_served => holder.used = left,
            _ => drop(self.holders.remove(who)),
        }
    }

    /// Who has the most beyond its own part: from whom something is called back.
    pub fn debtor(&self) -> Option<&K> {
        let debts = self.holders.iter().map(|(who, holder)| (self.beyond(holder.used, holder.is_served), who));
        debts.filter(|(debt, _)| *debt > 0).max_by_key(|(debt, _)| *debt).map(|(_, who)| who)
    }

    fn beyond(&self, used: u64, is_served: bool) -> u64 {
        used.saturating_sub(if is_served { self.part() } else { 0 })
    }
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;

    #[test]
    fn two_of_three_cannot_take_what_is_the_thirds() {
        let mut shares = Shares::new(384, 1);
        shares.serve(384, ["ant", "bee", "cat"]);
        let mut held = BTreeMap::new();
        for who in ["ant", "bee"].into_iter().cycle().take(1000) {
            if shares.take(&who, 1) == Admission::Given {
                *held.entry(who).or_insert(0) += 1;
            }
        }
        assert_eq!(shares.used(), 384 - 64);
        assert!((0..64).all(|_| shares.take(&"cat", 1) == Admission::Given));
        assert_eq!(shares.take(&"cat", 1), Admission::Refused);
    }

    #[test]
    fn who_is_alone_can_have_everything_until_others_come() {
        let mut shares = Shares::new(100, 1);
        shares.serve(100, ["ant"]);
        assert_eq!((shares.take(&"ant", 100), shares.take(&"ant", 1)), (Admission::Given, Admission::Refused));
        shares.serve(100, ["ant", "bee"]);
        assert_eq!((shares.take(&"bee", 25), shares.debtor()), (Admission::Lent, Some(&"ant")));
        shares.give_back(&"ant", 25);
        assert_eq!((shares.take(&"bee", 25), shares.take(&"bee", 1)), (Admission::Given, Admission::Refused));
        // Who is served no longer owes all that it still has.
        shares.serve(100, ["bee"]);
        assert_eq!((shares.part(), shares.debtor()), (50, Some(&"ant")));
        assert_eq!(shares.take(&"bee", 1), Admission::Lent);
        shares.give_back(&"ant", 75);
        assert_eq!((shares.used(), shares.of(&"ant"), shares.debtor()), (25, 0, None));
    }

    #[test]
    fn there_may_be_more_tenants_than_there_is_to_share() {
        for total in [0, 1, 2, 3, 7] {
            let mut shares = Shares::new(total, 1);
            shares.serve(total, 0..5);
            assert!(shares.part() * 5 <= total, "{total}");
            assert_eq!(shares.part(), u64::from(total >= 5), "{total}");
        }
    }

    #[test]
    fn what_one_has_already_is_not_refused_to_it_later() {
        let mut shares = Shares::new(100, 1);
        shares.serve(100, ["ant"]);
        assert_eq!(shares.take(&"ant", 100), Admission::Given);
        shares.serve(100, ["ant", "bee"]);
        assert_eq!((shares.take(&"ant", 0), shares.take(&"ant", 1)), (Admission::Given, Admission::Refused));
    }

    #[test]
    fn a_part_is_a_unit_while_there_are_enough() {
        let part = |tenants: u64| {
            let mut shares = Shares::new(1000, 10);
            shares.serve(1000, 0..tenants);
            shares.part()
        };
        assert_eq!([0, 1, 10, 50, 51, 99, 100].map(part), [0, 500, 50, 10, 10, 10, 10]);
        // Nobody could have a unit of its own.
        assert_eq!([101, 500, 501, 2000].map(part), [4, 1, 0, 0]);
    }

    /// What can happen: somebody asks for something, gives something back, or other tenants are served.
    #[derive(Clone, Debug)]
    enum Step {
        Take(u8, u64),
        GiveBack(u8, u64),
        Serve(u64, Vec<u8>),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            6 => (0..8_u8, 1..40_u64).prop_map(|(who, amount)| Step::Take(who, amount)),
            3 => (0..8_u8, 1..60_u64).prop_map(|(who, amount)| Step::GiveBack(who, amount)),
            1 => (0..500_u64, vec(0..8_u8, 0..8)).prop_map(|(total, who)| Step::Serve(total, who)),
        ]
    }

    /// Asks as the gateway does: what was lent is called back for whose part it is.
    fn take(shares: &mut Shares<u8>, model: &mut BTreeMap<u8, u64>, who: u8, amount: u64) -> bool {
        loop {
            match shares.take(&who, amount) {
                Admission::Given => {
                    *model.entry(who).or_default() += amount;
                    return true;
                }
                Admission::Refused => return false,
                Admission::Lent => {
                    let Some(debtor) = shares.debtor().copied() else { return false };
                    shares.give_back(&debtor, 1);
                    *model.entry(debtor).or_default() -= 1;
                }
            }
        }
    }

    proptest! {
        #[test]
        fn nobody_below_its_part_is_refused_and_no_more_is_given_than_there_is(
            (total, unit) in (0..500_u64, 0..80_u64),
            steps in vec(step(), 1..200),
        ) {
            let mut shares = Shares::new(total, unit);
            let (mut model, mut served) = (BTreeMap::<u8, u64>::new(), Vec::new());
            for step in steps {
                match step {
                    Step::Take(who, amount) => {
                        let had = shares.of(&who);
                        let is_within = served.contains(&who) && had + amount <= shares.part();
                        let is_given = take(&mut shares, &mut model, who, amount);
                        prop_assert!(is_given || !is_within, "{} of {} had {}", who, shares.part(), had);
                        prop_assert!(!is_given || shares.used() <= shares.total());
                    }
                    Step::GiveBack(who, amount) => {
                        let held = model.entry(who).or_default();
                        *held -= amount.min(*held);
                        shares.give_back(&who, amount);
                    }
                    Step::Serve(total, who) => {
                        served.clone_from(&who);
                        shares.serve(total, who);
                    }
                }
                prop_assert_eq!(shares.used(), model.values().sum::<u64>());
                for (who, held) in &model {
                    prop_assert_eq!(shares.of(who), *held);
                }
            }
        }

        #[test]
        fn whose_part_is_free_gets_it_at_once_while_the_same_are_served(
            (total, unit) in (8..500_u64, 0..80_u64),
            steps in vec((0..8_u8, 1..40_u64, any::<bool>()), 1..200),
        ) {
            let mut shares = Shares::new(total, unit);
            shares.serve(total, 0..8_u8);
            for (who, amount, is_more) in steps {
                if !is_more {
                    shares.give_back(&who, amount);
                    continue;
                }
                let is_within = shares.of(&who) + amount <= shares.part();
                let admission = shares.take(&who, amount);
                prop_assert!(!is_within || admission == Admission::Given);
                prop_assert!(admission != Admission::Lent && shares.used() <= total);
            }
        }

        #[test]
        fn who_has_nothing_gets_its_first_unit_however_the_others_act(
            (total, unit, served) in (1..500_u64, 1..120_u64, 1..24_u8),
            steps in vec((0..24_u8, 1..200_u64, 0..4_u8), 1..300),
        ) {
            let mut shares = Shares::new(total, unit);
            shares.serve(total, 0..served);
            for (who, amount, kind) in steps {
                if kind == 0 {
                    shares.give_back(&who, amount);
                } else {
                    shares.take(&who, amount);
                }
                let holding = (0..24).filter(|who| shares.of(who) > 0).count() as u64;
                let is_enough = u64::from(served) * unit <= total;
                // Beyond that, as long as so many have something that half of what is lent is enough for them.
                let is_left = (holding + 1) * unit <= shares.to_lend(false) - shares.to_lend(false) / 2;
                let Some(newcomer) = (0..served).find(|who| shares.of(who) == 0) else { continue };
                if is_enough || is_left {
                    prop_assert_eq!(shares.clone().take(&newcomer, unit), Admission::Given, "{:?}", shares);
                }
            }
        }
    }
}
