//! What was refused: counted by tenant and rule, and written into a journal.
//!
//! What is refused for the first time is written at once. What comes again is added up and written once
//! a minute, so that a tenant that tries without end fills no disk.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use tokio::{
    sync::{Notify, oneshot},
    time::sleep,
};

use super::{Refusal, Rule};
use crate::{
    host::Lock,
    journal::{self, Journal},
    model::{Entry, TenantName, host::JournalLimits, record::RefusedRecord},
};

/// How long what comes again is added up before it is written.
const REPEAT: Duration = Duration::from_secs(60);

/// How many destinations of one tenant are told apart in that time.
const MAX_DESTINATIONS: usize = 64;

/// What all further ones are called.
const OTHERS: &str = "other destinations";

/// How often it is looked at whether something is to be written.
const TICK: Duration = Duration::from_secs(5);

/// How long another gateway, which this one takes over from, may write on.
const PATIENCE: Duration = Duration::from_secs(60);

/// Counts for all tenants, and what is to be written.
#[derive(Debug, Default)]
pub struct Refusals {
    tables: Mutex<Tables>,
    fresh: Notify,
}

#[derive(Debug, Default)]
struct Tables {
    counts: BTreeMap<(TenantName, Rule), u64>,
    pending: BTreeMap<TenantName, BTreeMap<Key, Pending>>,
}

type Key = (String, Rule);

#[derive(Debug, Default)]
struct Pending {
    count: u64,
    written: Option<Instant>,
}

impl Refusals {
    /// Takes note of one.
    pub fn note(&self, refusal: &Refusal) {
        let Refusal { tenant, destination, rule } = refusal;
        let mut tables = self.tables.lock().unwrap_or_else(PoisonError::into_inner);
        *tables.counts.entry((tenant.clone(), *rule)).or_default() += 1;
        let known = tables.pending.entry(tenant.clone()).or_default();
        let mut key = (destination.clone(), *rule);
        if known.len() >= MAX_DESTINATIONS && !known.contains_key(&key) {
            OTHERS.clone_into(&mut key.0);
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

    /// What is to be written now. All of it, where `all` says so.
    fn due(&self, now: Instant, all: bool) -> Vec<Entry> {
        let mut due = Vec::new();
        let mut tables = self.tables.lock().unwrap_or_else(PoisonError::into_inner);
        tables.pending.retain(|tenant, known| {
            known.retain(|(destination, rule), pending| {
                let is_over = pending.written.is_none_or(|written| now.duration_since(written) >= REPEAT);
                if !is_over && !all {
                    return true;
                }
                if pending.count == 0 {
                    return false;
                }
                due.push(Entry::Refused(RefusedRecord {
                    tenant: tenant.to_string(),
                    destination: destination.clone(),
                    rule: rule.to_string(),
                    count: std::mem::take(&mut pending.count),
                }));
                pending.written = Some(now);
                true
            });
            !known.is_empty()
        });
        due
    }
}

/// Writes refusals into the journal of the gateway's own folder until `end`, and then what is left. Where
/// that cannot be written, it is tried again, and nobody is let through for it.
pub(super) async fn record(
    refusals: Arc<Refusals>,
    state: PathBuf,
    limits: JournalLimits,
    mut end: oneshot::Receiver<()>,
) {
    let (_lock, journal) = tokio::select! {
        opened = open_at_last(&state, limits) => opened,
        _ = &mut end => return,
    };
    loop {
        write(&journal, refusals.due(Instant::now(), false)).await;
        tokio::select! {
            () = refusals.fresh.notified() => {}
            () = sleep(TICK) => {}
            _ = &mut end => return write(&journal, refusals.due(Instant::now(), true)).await,
        }
    }
}

async fn open_at_last(state: &Path, limits: JournalLimits) -> (Lock, Journal) {
    let folder = journal::folder(state);
    loop {
        match open(state, &folder, limits).await {
            Ok(journal) => return journal,
            Err(error) => tracing::error!(error = format!("{error:#}"), "the journal of refusals cannot be written"),
        }
        sleep(TICK).await;
    }
}

async fn open(state: &Path, folder: &Path, limits: JournalLimits) -> anyhow::Result<(Lock, Journal)> {
    let lock = Lock::wait(state, PATIENCE, |held| tracing::info!(%held, "waiting for the journal of refusals")).await?;
    let folder = folder.to_owned();
    let (journal, _) = tokio::task::spawn_blocking(move || Journal::open(&folder, limits)).await??;
    Ok((lock, journal))
}

async fn write(journal: &Journal, entries: Vec<Entry>) {
    let written = entries.into_iter().map(|entry| journal.append(entry));
    for result in futures_util::future::join_all(written).await {
        if let Err(error) = result {
            tracing::error!(%error, "a refusal could not be recorded");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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

    #[test]
    fn the_first_is_written_at_once_and_others_are_added_up() {
        let refusals = Refusals::default();
        let begin = Instant::now();
        refusals.note(&refusal("ant", "evil.example:443"));
        assert_eq!(counts(&refusals.due(begin, false)), [("ant", "evil.example:443", 1)]);
        for _ in 0..5 {
            refusals.note(&refusal("ant", "evil.example:443"));
        }
        assert_eq!(refusals.due(begin + Duration::from_secs(59), false), []);
        assert_eq!(counts(&refusals.due(begin + REPEAT, false)), [("ant", "evil.example:443", 5)]);
        assert_eq!(refusals.due(begin + 2 * REPEAT, false), []);
        assert!(refusals.tables.lock().unwrap().pending.is_empty());
        assert_eq!(refusals.counts().into_values().collect::<Vec<_>>(), [6]);
    }

    #[test]
    fn a_tenant_that_makes_names_up_fills_nothing() {
        let refusals = Refusals::default();
        for number in 0..1000 {
            refusals.note(&refusal("ant", &format!("{number}.evil.example:443")));
        }
        refusals.note(&refusal("bee", "a.example:443"));
        let entries = refusals.due(Instant::now(), false);
        let counts = counts(&entries);
        assert_eq!(counts.len(), MAX_DESTINATIONS + 2);
        assert!(counts.contains(&("ant", OTHERS, 1000 - MAX_DESTINATIONS as u64)));
        assert!(counts.contains(&("bee", "a.example:443", 1)));
    }
}
