//! Where events are reported: the log, the counters, the webhook and the journal.

use super::events::DaemonEvent;
use crate::{
    fault::chain,
    host::signals::Signals,
    journal::{Journal, JournalError},
    metrics::Metrics,
    model::Entry,
    notify::Notifier,
};

/// How many records are handed to the journal at once, until the watchdog is notified.
const RECORDS: usize = 1_024;

pub(super) struct Reporter {
    journal: Journal,
    pub(super) metrics: Metrics,
    pub(super) notifier: Notifier,
    /// The number of the last record that was counted.
    counted: u64,
}

impl Reporter {
    pub(super) fn new(journal: Journal, metrics: Metrics, notifier: Notifier) -> Self {
        Self { journal, metrics, notifier, counted: 0 }
    }

    /// Reports an event to the log, the counters, the webhook and the journal.
    pub(super) async fn report(&mut self, event: &impl DaemonEvent) {
        self.distribute(event);
        for entry in event.records() {
            self.record(entry).await;
        }
    }

    /// The same of many, in this order; they cost no write of the journal each. Systemd is notified meanwhile that the loop is
    /// alive.
    pub(super) async fn report_all(&mut self, events: &[Box<dyn DaemonEvent>], signals: &mut Signals) {
        events.iter().for_each(|event| self.distribute(event.as_ref()));
        let mut entries = events.iter().flat_map(|event| event.records());
        loop {
            let some: Vec<Entry> = entries.by_ref().take(RECORDS).collect();
            if some.is_empty() {
                return;
            }
            let failed = self.journal.append_all(some).await.into_iter().filter_map(Result::err);
            failed.for_each(|error| self.not_recorded(&error));
            signals.alive();
        }
    }

    fn distribute(&self, event: &dyn DaemonEvent) {
        event.log();
        event.count(&self.metrics);
        if let Some(notification) = event.notification() {
            self.notifier.notify(notification);
        }
    }

    /// Writes an entry. Where that fails it is said; a later one reports the gap.
    async fn record(&mut self, entry: Entry) {
        if let Err(error) = self.journal.append(entry).await {
            self.not_recorded(&error);
        }
    }

    fn not_recorded(&self, error: &JournalError) {
        self.metrics.journal_failed();
        tracing::error!(error = chain(error), "cannot write the journal");
    }

    /// Why the journal cannot be written, if so.
    pub(super) fn journal_error(&self) -> Option<String> {
        self.journal.error().map(|error| chain(&error))
    }

    /// Tries again to write what the journal lacks. Whether it can be written again.
    pub(super) async fn retry_journal(&mut self) -> bool {
        self.journal.error().is_some() && self.journal.retry().await.is_ok()
    }

    /// The number of the journal's last record. Those that came since the last question are counted.
    pub(super) fn count_records(&mut self) -> u64 {
        let records = self.journal.head().seq;
        self.metrics.journaled(records.saturating_sub(self.counted));
        self.counted = records;
        records
    }
}
