//! When everything is observed, and what is known of such a full scan while it goes on. Pure: the clock comes in as an argument.

#![cfg_attr(not(test), deny(clippy::disallowed_methods, clippy::disallowed_types))]

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use crate::model::record::Trigger;

/// How long a full scan makes others wait. One that takes longer goes on beside them.
const YIELD_AFTER: Duration = Duration::from_secs(3);

/// How soon whoever waits for a scan that goes on looks whether it is still young, at the earliest.
const RECHECK: Duration = Duration::from_millis(500);

/// The longest rest after a scan, and the rest after one that failed.
const LONGEST_REST: Duration = Duration::from_secs(5);
const RETRY: Duration = Duration::from_secs(1);

/// Full scans: at most one at a time.
pub(super) struct FullScan {
    /// Whether one succeeded since the engine answers: before that, nothing is known of the engine.
    complete: bool,
    running: Option<Running>,
    /// From when on one is asked for, and why the first time.
    asked: Option<Instant>,
    trigger: Option<Trigger>,
    next_resync: Instant,
    /// From when on another one may begin only because many tenants are marked.
    rested: Instant,
}

struct Running {
    began: Instant,
    /// Tenants that something happened to meanwhile: what it finds of them may not hold any more.
    touched: BTreeSet<String>,
}

impl FullScan {
    /// The first one is due at once.
    pub(super) fn new(now: Instant) -> Self {
        Self { complete: false, running: None, asked: None, trigger: None, next_resync: now, rested: now }
    }

    /// Asks for one from a time on. The first of several reasons stays.
    pub(super) fn ask(&mut self, trigger: Trigger, at: Instant) {
        self.ask_without_reason(at);
        self.trigger.get_or_insert(trigger);
    }

    /// Asks for one whose reason is this, whatever else was asked before.
    pub(super) fn ask_because(&mut self, trigger: Trigger, at: Instant) {
        self.ask_without_reason(at);
        self.trigger = Some(trigger);
    }

    /// Asks for one whose reason is that of whoever else asks, or the time.
    pub(super) fn ask_without_reason(&mut self, at: Instant) {
        self.asked = Some(self.asked.map_or(at, |earlier| earlier.min(at)));
    }

    /// Says why the next one is made, without asking for it.
    pub(super) fn because(&mut self, trigger: Trigger) {
        self.trigger = Some(trigger);
    }

    /// Begins one and says why, where one is due by what was asked, by time, or because `many` tenants are marked.
    pub(super) fn begin(&mut self, now: Instant, many: bool, resync: Duration) -> Option<Trigger> {
        let is_asked = self.asked.is_some_and(|at| at <= now) || self.next_resync <= now;
        if self.running.is_some() || !(is_asked || (many && self.rested <= now)) {
            return None;
        }
        self.running = Some(Running { began: now, touched: BTreeSet::new() });
        self.asked = None;
        self.next_resync = now + resync;
        Some(self.trigger.take().unwrap_or(Trigger::FullPass))
    }

    /// Something happened to a tenant.
    pub(super) fn touch(&mut self, tenant: &str) {
        if let Some(running) = &mut self.running {
            running.touched.insert(tenant.to_owned());
        }
    }

    /// The one that was going on has ended. Returns the tenants that something happened to meanwhile.
    pub(super) fn ended(&mut self, now: Instant) -> BTreeSet<String> {
        let Some(Running { began, touched }) = self.running.take() else { return BTreeSet::new() };
        // Not more than half of the time, however much happens.
        self.rested = now + now.saturating_duration_since(began).min(LONGEST_REST);
        touched
    }

    /// It found everything.
    pub(super) fn succeeded(&mut self) {
        self.complete = true;
    }

    /// It found nothing: another one is asked for, for the same reason.
    pub(super) fn failed(&mut self, trigger: Trigger, now: Instant) {
        self.ask(trigger, now + RETRY);
        self.rested = now + RETRY;
    }

    /// Whatever was known of the engine may have changed.
    pub(super) fn forget(&mut self) {
        self.complete = false;
    }

    pub(super) fn is_complete(&self) -> bool {
        self.complete
    }

    pub(super) fn is_running(&self) -> bool {
        self.running.is_some()
    }

    /// Whether one goes on that will soon answer what is asked.
    pub(super) fn is_young(&self, now: Instant) -> bool {
        self.running.as_ref().is_some_and(|running| now < running.began + YIELD_AFTER)
    }

    /// When the next one is due, as far as no tenants ask for it.
    pub(super) fn due(&self) -> Option<Instant> {
        let due = self.asked.map_or(self.next_resync, |at| at.min(self.next_resync));
        self.running.is_none().then_some(due)
    }

    /// When something can be done about many marked tenants.
    pub(super) fn due_for_many(&self, now: Instant) -> Instant {
        self.running.as_ref().map_or(self.rested, |running| (running.began + YIELD_AFTER).max(now + RECHECK))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);
    const RESYNC: Duration = Duration::from_secs(300);

    /// One that began and ended with nothing asked for.
    fn settled(now: Instant) -> FullScan {
        let mut scan = FullScan::new(now);
        assert_eq!(scan.begin(now, false, RESYNC), Some(Trigger::FullPass), "the first is due at once");
        scan.ended(now);
        scan.succeeded();
        scan
    }

    #[test]
    fn the_first_reason_stays_and_the_earliest_time_counts() {
        let start = Instant::now();
        let mut scan = settled(start);
        assert_eq!(scan.due(), Some(start + RESYNC));
        scan.ask(Trigger::Start, start + SECOND * 2);
        scan.ask(Trigger::Retry, start + SECOND);
        assert_eq!((scan.begin(start, false, RESYNC), scan.due()), (None, Some(start + SECOND)));
        assert_eq!(scan.begin(start + SECOND, false, RESYNC), Some(Trigger::Start));
        assert_eq!(scan.due(), None);
        scan.ask(Trigger::Retry, start + SECOND);
        assert_eq!(scan.begin(start + SECOND, true, RESYNC), None, "one at a time");
        scan.ended(start + SECOND);
        assert_eq!(scan.begin(start + SECOND, false, RESYNC), Some(Trigger::Retry), "what was asked meanwhile is kept");
    }

    #[test]
    fn many_marked_tenants_wait_for_a_rest_as_long_as_the_scan() {
        let start = Instant::now();
        let mut scan = settled(start);
        assert!(scan.begin(start, true, RESYNC).is_some());
        assert!(scan.is_young(start + SECOND) && !scan.is_young(start + YIELD_AFTER));
        scan.ended(start + SECOND * 4);
        assert_eq!(scan.begin(start + SECOND * 7, true, RESYNC), None);
        assert_eq!(scan.due_for_many(start + SECOND * 7), start + SECOND * 8);
        assert!(scan.begin(start + SECOND * 8, true, RESYNC).is_some());
    }

    #[test]
    fn only_what_happens_during_a_scan_overtakes_it() {
        let start = Instant::now();
        let mut scan = settled(start);
        scan.touch("ant");
        scan.ask(Trigger::Start, start);
        assert!(scan.begin(start, false, RESYNC).is_some());
        scan.touch("bee");
        assert_eq!(scan.ended(start), BTreeSet::from(["bee".to_owned()]));
    }

    #[test]
    fn one_that_failed_is_tried_again_for_the_same_reason_after_a_while() {
        let start = Instant::now();
        let mut scan = FullScan::new(start);
        assert!(scan.begin(start, false, RESYNC).is_some());
        scan.ended(start);
        scan.failed(Trigger::Start, start);
        assert!(!scan.is_complete());
        assert_eq!(scan.begin(start, true, RESYNC), None);
        assert_eq!(scan.begin(start + RETRY, false, RESYNC), Some(Trigger::Start));
    }
}
