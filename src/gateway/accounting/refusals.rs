//! What was refused: counted by tenant and rule, and written into a journal.
//!
//! What is refused for the first time is written at once. What comes again is added up and written once
//! a minute, so that a tenant that tries without end fills no disk. Each tenant may fill so much of the
//! journal (see `allowance.rs`); what it is refused beyond that is counted, and recorded
//! as one number.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use tokio::sync::Notify;

use super::allowance::{Allowance, NOT_RECORDED};
use crate::{
    model::{
        Entry, TenantName,
        host::JournalLimits,
        record::{OTHER_DESTINATIONS, RefusedRecord},
    },
    policy::{Refusal, Rule},
};

/// How long what comes again is added up before it is written.
const REPEAT: Duration = Duration::from_secs(60);

/// How many destinations of one tenant are distinguished in that time.
const MAX_DESTINATIONS: usize = 64;

/// Counts for all tenants, and what is to be written.
#[derive(Debug)]
pub struct Refusals {
    tables: Mutex<Tables>,
    /// Told when something is to be written at once.
    pub(crate) fresh: Notify,
    /// How much the journal keeps.
    pub(crate) limits: JournalLimits,
    begun: Instant,
}

#[derive(Debug, Default)]
struct Tables {
    counts: BTreeMap<(TenantName, Rule), u64>,
    pending: BTreeMap<TenantName, BTreeMap<Key, Pending>>,
    allowances: BTreeMap<TenantName, Allowance>,
}

type Key = (String, Rule);

#[derive(Debug, Default)]
struct Pending {
    count: u64,
    written: Option<Instant>,
}

/// What a line of the journal holds beside its entry, in bytes: its number, the time and two hashes.
const ENVELOPE: usize = 256;

impl Refusals {
    /// None yet. They will lie in a journal of which so much is kept.
    pub fn new(limits: JournalLimits) -> Self {
        Self { tables: Mutex::default(), fresh: Notify::new(), limits, begun: Instant::now() }
    }

    /// Takes note of one.
    pub fn note(&self, refusal: &Refusal) {
        let Refusal { tenant, destination, rule } = refusal;
        let mut tables = self.tables.lock().unwrap_or_else(PoisonError::into_inner);
        *tables.counts.entry((tenant.clone(), *rule)).or_default() += 1;
        let known = tables.pending.entry(tenant.clone()).or_default();
        let mut key = (destination.clone(), *rule);
        if known.len() >= MAX_DESTINATIONS && !known.contains_key(&key) {
            OTHER_DESTINATIONS.clone_into(&mut key.0);
        }
        let pending = known.entry(key).or_default();
        pending.count += 1;
        if pending.written.is_none() {
            self.fresh.notify_one();
        }
    }

    /// How many there were, by tenant and rule.
    pub fn counts(&self) -> BTreeMap<(TenantName, Rule), u64> {
        self.tables.lock().unwrap_or_else(PoisonError::into_inner).counts.clone()
    }

    /// How many were not recorded one by one, by tenant.
    pub fn unrecorded(&self) -> BTreeMap<TenantName, u64> {
        let tables = self.tables.lock().unwrap_or_else(PoisonError::into_inner);
        tables.allowances.iter().map(|(tenant, allowance)| (tenant.clone(), allowance.unrecorded)).collect()
    }

    /// What is to be written now, while there are so many tenants. All of it, where `all` says so.
    pub(crate) fn due(&self, now: Instant, tenants: usize, all: bool) -> Vec<Entry> {
        let mut due = Vec::new();
        let since = now.saturating_duration_since(self.begun);
        let mut tables = self.tables.lock().unwrap_or_else(PoisonError::into_inner);
        let Tables { pending, allowances, .. } = &mut *tables;
        pending.retain(|tenant, known| {
            let allowance = match allowances.get_mut(tenant) {
                Some(allowance) => allowance,
                None => allowances.entry(tenant.clone()).or_default(),
            };
            known.retain(|(destination, rule), pending| {
                let is_over = pending.written.is_none_or(|written| now.duration_since(written) >= REPEAT);
                if !is_over && !all {
                    return true;
                }
                if pending.count == 0 {
                    return false;
                }
                let count = std::mem::take(&mut pending.count);
                let entry = refused(tenant, destination, rule.as_str(), count);
                let bytes = serde_json::to_vec(&entry).map_or(0, |entry| entry.len()) + ENVELOPE;
                if allowance.records(bytes, count, since, self.limits, tenants) {
                    due.push(entry);
                }
                pending.written = Some(now);
                true
            });
            !known.is_empty()
        });
        for (tenant, allowance) in allowances {
            let sum = allowance.sum(since, self.limits, tenants, all);
            due.extend(sum.map(|count| refused(tenant, OTHER_DESTINATIONS, NOT_RECORDED, count)));
        }
        due
    }
}

fn refused(tenant: &TenantName, destination: &str, rule: &str, count: u64) -> Entry {
    let (tenant, destination, rule) = (tenant.to_string(), destination.to_owned(), rule.to_owned());
    Entry::Refused(RefusedRecord { tenant, destination, rule, count })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Bytes;

    fn refusal(tenant: &str, destination: &str) -> Refusal {
        let (tenant, destination) = (tenant.parse().unwrap(), destination.to_owned());
        Refusal { tenant, destination, rule: Rule::NotListed }
    }

    fn counts(entries: &[Entry]) -> Vec<(&str, &str, u64)> {
        let mut counts = Vec::new();
        for entry in entries {
            match entry {
                Entry::Refused(record) => counts.push((&*record.tenant, &*record.destination, record.count)),
                other => panic!("{other:?}"),
            }
        }
        counts
    }

    fn refusals() -> Refusals {
        Refusals::new(JournalLimits { file_size: Bytes::mib(16), files: 64 })
    }

    #[test]
    fn the_first_is_written_at_once_and_others_are_added_up() {
        let refusals = refusals();
        let begin = Instant::now();
        refusals.note(&refusal("ant", "evil.example:443"));
        assert_eq!(counts(&refusals.due(begin, 1, false)), [("ant", "evil.example:443", 1)]);
        for _ in 0..5 {
            refusals.note(&refusal("ant", "evil.example:443"));
        }
        assert_eq!(refusals.due(begin + Duration::from_secs(59), 1, false), []);
        assert_eq!(counts(&refusals.due(begin + REPEAT, 1, false)), [("ant", "evil.example:443", 5)]);
        assert_eq!(refusals.due(begin + 2 * REPEAT, 1, false), []);
        assert!(refusals.tables.lock().unwrap().pending.is_empty());
        assert_eq!(refusals.counts().into_values().collect::<Vec<_>>(), [6]);
    }

    #[test]
    fn a_tenant_that_makes_names_up_fills_nothing() {
        let refusals = refusals();
        for number in 0..1000 {
            refusals.note(&refusal("ant", &format!("{number}.evil.example:443")));
        }
        refusals.note(&refusal("bee", "a.example:443"));
        let entries = refusals.due(Instant::now(), 2, false);
        let counts = counts(&entries);
        assert_eq!(counts.len(), MAX_DESTINATIONS + 2);
        assert!(counts.contains(&("ant", OTHER_DESTINATIONS, 1000 - MAX_DESTINATIONS as u64)));
        assert!(counts.contains(&("bee", "a.example:443", 1)));
    }

    /// Seventy names a minute for two days: a hundred times what the journal keeps, where nobody bounds it.
    #[test]
    fn made_up_names_push_nobody_off_the_record() {
        const MINUTES: u32 = 2 * 24 * 60;
        let limits = JournalLimits { file_size: Bytes::mib(1), files: 2 };
        let refusals = Refusals::new(limits);
        let (begin, long) = (Instant::now(), "x".repeat(250));
        let (mut written, mut recorded, mut others) = (0, 0, Vec::new());
        for minute in 0..MINUTES {
            for number in 0..70 {
                refusals.note(&refusal("ant", &format!("{minute}-{number}.{long}.example:443")));
            }
            if minute % 1000 == 0 {
                refusals.note(&refusal("bee", &format!("{minute}.example:443")));
            }
            let due = refusals.due(begin + minute * REPEAT, 2, false);
            written += due.iter().map(|entry| serde_json::to_vec(entry).unwrap().len() + ENVELOPE).sum::<usize>();
            for (tenant, destination, count) in counts(&due) {
                match tenant {
                    "ant" => recorded += count,
                    _ => others.push(destination.to_owned()),
                }
            }
        }
        assert!(written < 1 << 20, "{written}");
        assert_eq!(others, ["0.example:443", "1000.example:443", "2000.example:443"]);
        // None is lost: what has no record of its own is in a sum.
        let last = refusals.due(begin + MINUTES * REPEAT, 2, true);
        let total = recorded + counts(&last).iter().map(|(_, _, count)| count).sum::<u64>();
        assert_eq!(total, 70 * u64::from(MINUTES));
        let unrecorded = refusals.unrecorded();
        assert!(unrecorded["ant"] > 60 * u64::from(MINUTES) && unrecorded["bee"] == 0, "{unrecorded:?}");
    }
}
