//! Who has used how many credits. Pure: what the file says, and nothing else.

use std::collections::BTreeMap;

use jiff::civil::Date;
use serde::{Deserialize, Serialize};

use crate::model::{
    TenantName,
    egress::{Budget, RouteName},
};

/// The most that one request can cost: sums of these do not overflow.
pub const MAX_COST: u64 = 1 << 40;

/// How many days are distinguished for each tenant: the longest month and the one before it. Credits of
/// older days are added up.
const MAX_DAYS: usize = 62;

/// One line of the ledger.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum LedgerEntry {
    /// The version of the format.
    Format { v: u32 },
    /// Credits are reserved, and are spent unless another entry says otherwise.
    Reserve { id: u64, tenant: TenantName, route: RouteName, day: Date, credits: u64 },
    /// They are more by now.
    Raise { id: u64, credits: u64 },
    /// They were so many in the end.
    Settle { id: u64, credits: u64 },
    /// In a file that was written anew: what was used on a day, or before all days that are distinguished.
    Used { tenant: TenantName, route: RouteName, day: Option<Date>, credits: u64 },
    /// In a file that was written anew: the next reservation's number is not lower.
    Next { id: u64 },
}

/// Who has used how many credits.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Book {
    next: u64,
    accounts: BTreeMap<TenantName, Account>,
    open: BTreeMap<u64, Open>,
}

/// Credits by route.
type Routes = BTreeMap<RouteName, u64>;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Account {
    days: BTreeMap<Date, Routes>,
    before: Routes,
}

/// What was reserved and counts as used until it is settled.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Open {
    tenant: TenantName,
    route: RouteName,
    day: Date,
    credits: u64,
}

impl Account {
    /// What a route used on a day, to be changed.
    fn used(&mut self, day: Option<Date>, route: &RouteName) -> &mut u64 {
        let routes = match day {
            Some(day) if self.days.contains_key(&day) || !self.is_before(day) => {
                if self.days.len() >= MAX_DAYS && !self.days.contains_key(&day) {
                    self.fold();
                }
                self.days.entry(day).or_default()
            }
            _ => &mut self.before,
        };
        routes.entry(route.clone()).or_default()
    }

    /// Whether a day is older than all that are distinguished.
    fn is_before(&self, day: Date) -> bool {
        self.days.len() >= MAX_DAYS && self.days.keys().next().is_some_and(|first| day < *first)
    }

    fn fold(&mut self) {
        if let Some((_, routes)) = self.days.pop_first() {
            for (route, credits) in routes {
                *self.before.entry(route).or_default() += credits;
            }
        }
    }

    fn sum(&self, holds: impl Fn(Date) -> bool) -> u64 {
        let days = self.days.iter().filter(|(day, _)| holds(**day));
        days.flat_map(|(_, routes)| routes.values()).fold(0, |sum, credits| sum.saturating_add(*credits))
    }
}

impl Book {
    pub(super) fn apply(&mut self, entry: &LedgerEntry) {
        match entry {
            LedgerEntry::Format { .. } => {}
            LedgerEntry::Reserve { id, tenant, route, day, credits } => {
                self.next = self.next.max(id.saturating_add(1));
                *self.used(tenant, Some(*day), route) += credits;
                let open = Open { tenant: tenant.clone(), route: route.clone(), day: *day, credits: *credits };
                self.open.insert(*id, open);
            }
            LedgerEntry::Raise { id, credits } => {
                if let Some(mut open) = self.open.remove(id) {
                    let credits = open.credits.max(*credits);
                    *self.used(&open.tenant, Some(open.day), &open.route) += credits - open.credits;
                    open.credits = credits;
                    self.open.insert(*id, open);
                }
            }
            LedgerEntry::Settle { id, credits } => {
                if let Some(open) = self.open.remove(id) {
                    let used = self.used(&open.tenant, Some(open.day), &open.route);
                    *used = used.saturating_sub(open.credits).saturating_add(*credits);
                }
            }
            LedgerEntry::Used { tenant, route, day, credits } => *self.used(tenant, *day, route) += credits,
            LedgerEntry::Next { id } => self.next = self.next.max(*id),
        }
    }

    fn used(&mut self, tenant: &TenantName, day: Option<Date>, route: &RouteName) -> &mut u64 {
        self.accounts.entry(tenant.clone()).or_default().used(day, route)
    }

    /// Entries that make the same book. What is open stays open.
    pub(super) fn entries(&self) -> impl Iterator<Item = LedgerEntry> {
        let mut open: BTreeMap<(&TenantName, &RouteName, Option<Date>), u64> = BTreeMap::new();
        for one in self.open.values() {
            let is_apart = self.accounts.get(&one.tenant).is_some_and(|account| account.days.contains_key(&one.day));
            *open.entry((&one.tenant, &one.route, is_apart.then_some(one.day))).or_default() += one.credits;
        }
        let used = self.accounts.iter().flat_map(move |(tenant, account)| {
            // What is before all days comes last: until then there is room for every day.
            let days = account.days.iter().map(|(day, routes)| (Some(*day), routes));
            let mut entries = Vec::new();
            for (day, routes) in days.chain([(None, &account.before)]) {
                for (route, credits) in routes {
                    let still_open = open.get(&(tenant, route, day)).copied().unwrap_or_default();
                    let credits = credits.saturating_sub(still_open);
                    entries.push(LedgerEntry::Used { tenant: tenant.clone(), route: route.clone(), day, credits });
                }
            }
            entries
        });
        let open = self.open.iter().map(|(id, open)| {
            let Open { tenant, route, day, credits } = open.clone();
            LedgerEntry::Reserve { id: *id, tenant, route, day, credits }
        });
        [LedgerEntry::Next { id: self.next }].into_iter().chain(used).chain(open)
    }

    /// Forgets what is open: it has cost what was reserved.
    pub(super) fn close(&mut self) {
        self.open.clear();
    }

    pub(super) fn next_id(&self) -> u64 {
        self.next
    }

    /// The day that something is charged to: the clock's, or the oldest that is distinguished.
    pub(super) fn day(&self, tenant: &TenantName, day: Date) -> Date {
        let oldest = self.accounts.get(tenant).filter(|account| account.is_before(day));
        oldest.and_then(|account| account.days.keys().next().copied()).unwrap_or(day)
    }

    /// How many credits a tenant has left on a day; `None` where nothing bounds them.
    pub fn left(&self, tenant: &TenantName, budget: Budget, day: Date) -> Option<u64> {
        let (of_day, of_month) = self.used_in(tenant, day);
        let day = budget.day.map(|most| most.saturating_sub(of_day));
        let month = budget.month.map(|most| most.saturating_sub(of_month));
        day.into_iter().chain(month).min()
    }

    pub(super) fn is_over(&self, tenant: &TenantName, budget: Budget, day: Date) -> bool {
        let (of_day, of_month) = self.used_in(tenant, day);
        budget.day.is_some_and(|most| of_day > most) || budget.month.is_some_and(|most| of_month > most)
    }

    /// The credits that a tenant used on a day, and in its month.
    pub fn used_in(&self, tenant: &TenantName, day: Date) -> (u64, u64) {
        let Some(account) = self.accounts.get(tenant) else { return (0, 0) };
        let in_month = |other: Date| (other.year(), other.month()) == (day.year(), day.month());
        (account.sum(|other| other == day), account.sum(in_month))
    }

    /// The credits of each tenant's routes, from a day on where one is given. Older days than the last
    /// 62 count only where none is.
    pub fn credits(&self, since: Option<Date>) -> BTreeMap<(TenantName, RouteName), u64> {
        let mut all = BTreeMap::new();
        for (tenant, account) in &self.accounts {
            let days = account.days.iter().filter(|(day, _)| since.is_none_or(|since| **day >= since));
            let before = since.is_none().then_some(&account.before);
            for (route, credits) in days.map(|(_, routes)| routes).chain(before).flatten() {
                *all.entry((tenant.clone(), route.clone())).or_default() += credits;
            }
        }
        all
    }
}
