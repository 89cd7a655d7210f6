//! Which tenant is observed next. Pure: the clock comes in as an argument.
//!
//! A tenant is marked as often as something happens to it and observed once: marks merge, and the
//! first one stays the reason. One that failed is repaired after a while, and observed meanwhile whenever
//! something happens to it: what contains does not wait. Nobody waits for another.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use crate::model::{policy::Retry, record::Trigger};

/// Tenants to be observed.
#[derive(Debug, Default)]
pub(in crate::daemon) struct Queue {
    entries: BTreeMap<String, QueuedTenant>,
}

#[derive(Debug, Default)]
struct QueuedTenant {
    mark: Option<PendingObservation>,
    busy: bool,
    failures: u32,
    /// Until when repairs wait after failures.
    waits_until: Option<Instant>,
    /// From when on something that happened during the work may be observed beside it.
    urgent: Option<Instant>,
    /// Whether it is observed beside the work.
    beside: bool,
}

/// Why and since when a tenant is to be observed.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::daemon) struct PendingObservation {
    pub(in crate::daemon) trigger: Trigger,
    pub(in crate::daemon) since: Instant,
    ready: Instant,
}

impl PendingObservation {
    /// One without a pause.
    pub(in crate::daemon) fn new(trigger: Trigger, now: Instant) -> Self {
        Self { trigger, since: now, ready: now }
    }
}

/// A tenant that is to be observed now.
#[derive(Debug, PartialEq)]
pub(in crate::daemon) struct Taken {
    pub(in crate::daemon) name: String,
    pub(in crate::daemon) mark: PendingObservation,
    /// Whether its repair waits after failures.
    pub(in crate::daemon) waits: bool,
}

impl Queue {
    /// Asks for an observation of a tenant, after a pause in which further events of the same cause arrive.
    pub(in crate::daemon) fn mark(&mut self, tenant: &str, trigger: Trigger, now: Instant, pause: Duration) {
        let entry = self.entry(tenant);
        let ready = now + pause;
        if entry.busy {
            entry.urgent = Some(entry.urgent.map_or(ready, |urgent| urgent.min(ready)));
        }
        match &mut entry.mark {
            // A repair that waits for its time is no reason for an observation before it.
            Some(mark) if mark.trigger != Trigger::Retry => mark.ready = mark.ready.min(ready),
            _ => entry.mark = Some(PendingObservation { trigger, since: now, ready }),
        }
    }

    /// Hands out the tenants that are to be observed now, those first that wait longest.
    pub(in crate::daemon) fn take(&mut self, now: Instant, at_most: usize) -> Vec<Taken> {
        let mut ready: Vec<(Instant, String)> = self
            .entries
            .iter()
            .filter(|(_, entry)| entry.due().is_some_and(|due| due <= now))
            .filter_map(|(name, entry)| Some((entry.mark.as_ref()?.since, name.clone())))
            .collect();
        ready.sort();
        ready.truncate(at_most);
        ready
            .into_iter()
            .filter_map(|(_, name)| {
                let entry = self.entries.get_mut(&name)?;
                let mark = entry.mark.take()?;
                entry.busy = true;
                Some(Taken { name, mark, waits: entry.waits(now) })
            })
            .collect()
    }

    /// Hands out tenants that something happened to while work on them goes on and makes no progress, as `stuck` says
    /// from when on. They are observed beside it, and again after it.
    pub(in crate::daemon) fn take_beside(
        &mut self,
        now: Instant,
        at_most: usize,
        stuck: impl Fn(&str) -> Option<Instant>,
    ) -> Vec<(String, PendingObservation)> {
        let mut taken = Vec::new();
        for (name, entry) in &mut self.entries {
            let due = entry.urgent_due(|| stuck(name));
            if taken.len() < at_most
                && due.is_some_and(|due| due <= now)
                && let Some(mark) = &entry.mark
            {
                (entry.beside, entry.urgent) = (true, None);
                taken.push((name.clone(), mark.clone()));
            }
        }
        taken
    }

    /// When the next tenant is to be observed beside the work on it, if one is.
    pub(in crate::daemon) fn next_beside(&self, stuck: impl Fn(&str) -> Option<Instant>) -> Option<Instant> {
        self.entries.iter().filter_map(|(name, entry)| entry.urgent_due(|| stuck(name))).min()
    }

    /// Says that an observation beside the work has ended.
    pub(in crate::daemon) fn ended_beside(&mut self, tenant: &str) {
        self.entry(tenant).beside = false;
        self.forget_if_idle(tenant);
    }

    /// Takes one tenant because of a full scan, and says why it was marked, if it was.
    /// `None` where it is being worked on already.
    pub(in crate::daemon) fn claim(&mut self, tenant: &str) -> Option<Option<PendingObservation>> {
        let entry = self.entry(tenant);
        if entry.busy || entry.beside {
            return None;
        }
        entry.busy = true;
        Some(entry.mark.take().filter(|mark| mark.trigger != Trigger::Retry))
    }

    /// Forgets why a tenant was to be observed: it was. A repair that waits is not forgotten.
    pub(in crate::daemon) fn looked_at(&mut self, tenant: &str, now: Instant) {
        let entry = self.entry(tenant);
        if entry.busy || entry.beside {
            return;
        }
        entry.mark = None;
        if entry.waits(now) {
            entry.wait_for_repair(now);
        } else {
            self.entries.remove(tenant);
        }
    }

    /// Forgets why tenants were to be observed of which a full scan found nothing.
    pub(in crate::daemon) fn not_found(&mut self, now: Instant, found: impl Fn(&str) -> bool) {
        let gone =
            |(name, entry): (&String, &QueuedTenant)| (entry.mark.is_some() && !found(name)).then(|| name.clone());
        let gone: Vec<String> = self.entries.iter().filter_map(gone).collect();
        for tenant in gone {
            self.looked_at(&tenant, now);
        }
    }

    /// How many could be handed out now.
    pub(in crate::daemon) fn ready(&self, now: Instant) -> usize {
        self.entries.values().filter(|entry| entry.due().is_some_and(|due| due <= now)).count()
    }

    /// When the next tenant is due, if one is.
    pub(in crate::daemon) fn next_due(&self) -> Option<Instant> {
        self.entries.values().filter_map(QueuedTenant::due).min()
    }

    /// Says that work on a tenant has ended as it should.
    pub(in crate::daemon) fn succeeded(&mut self, tenant: &str) {
        let entry = self.entry(tenant);
        *entry = QueuedTenant { mark: entry.mark.take(), beside: entry.beside, ..QueuedTenant::default() };
        self.forget_if_idle(tenant);
    }

    /// Says that work on a tenant has ended without a result, good or bad.
    pub(in crate::daemon) fn released(&mut self, tenant: &str) {
        let entry = self.entry(tenant);
        (entry.busy, entry.urgent) = (false, None);
        self.forget_if_idle(tenant);
    }

    /// Says that a tenant was observed and contained, whose repair waits.
    pub(in crate::daemon) fn contained(&mut self, tenant: &str, now: Instant) {
        let entry = self.entry(tenant);
        (entry.busy, entry.urgent) = (false, None);
        entry.wait_for_repair(now);
        self.forget_if_idle(tenant);
    }

    /// Says that work on a tenant has failed. It is repaired again after a while, which doubles.
    pub(in crate::daemon) fn failed(&mut self, tenant: &str, retry: Retry, now: Instant) {
        let entry = self.entry(tenant);
        (entry.busy, entry.urgent) = (false, None);
        entry.failures = entry.failures.saturating_add(1);
        entry.waits_until = Some(now + retry.wait(entry.failures));
        entry.wait_for_repair(now);
    }

    /// Has a tenant observed earlier than its repair is tried again: something of it is not contained.
    pub(in crate::daemon) fn hurry(&mut self, tenant: &str, at: Instant) {
        if let Some(mark) = self.entries.get_mut(tenant).and_then(|entry| entry.mark.as_mut()) {
            mark.ready = mark.ready.min(at);
        }
    }

    /// Makes a tenant wait as after so many failures, without any work in between: it ended by itself.
    pub(in crate::daemon) fn back_off(&mut self, tenant: &str, failures: u32, retry: Retry, now: Instant) {
        let entry = self.entry(tenant);
        let busy = entry.busy;
        // Each start in between succeeded, and it is their number that counts.
        entry.failures = entry.failures.max(failures.saturating_sub(1));
        self.failed(tenant, retry, now);
        self.entry(tenant).busy = busy;
    }

    /// Ends a tenant's waiting: a newer commit or an operator changed its chances.
    pub(in crate::daemon) fn reset_backoff(&mut self, tenant: &str) {
        let entry = self.entry(tenant);
        entry.failures = 0;
        entry.waits_until = None;
        if let Some(mark) = &mut entry.mark {
            mark.ready = mark.since;
        }
        self.forget_if_idle(tenant);
    }

    /// Ends the waiting of all tenants: what they failed by is over.
    pub(in crate::daemon) fn reset_all_backoffs(&mut self) {
        let waiting: Vec<String> =
            self.entries.iter().filter(|(_, entry)| entry.failures > 0).map(|(name, _)| name.clone()).collect();
        for tenant in waiting {
            self.reset_backoff(&tenant);
        }
    }

    /// Whether a tenant is being worked on.
    pub(in crate::daemon) fn is_busy(&self, tenant: &str) -> bool {
        self.entries.get(tenant).is_some_and(|entry| entry.busy)
    }

    /// Whether a tenant is to be observed.
    pub(in crate::daemon) fn is_marked(&self, tenant: &str) -> bool {
        self.entries.get(tenant).is_some_and(|entry| entry.mark.is_some())
    }

    /// Until when a tenant's repair waits after failures.
    pub(in crate::daemon) fn waits(&self, tenant: &str) -> Option<Instant> {
        self.entries.get(tenant)?.waits_until
    }

    fn entry(&mut self, tenant: &str) -> &mut QueuedTenant {
        if !self.entries.contains_key(tenant) {
            self.entries.insert(tenant.to_owned(), QueuedTenant::default());
        }
        self.entries.entry(tenant.to_owned()).or_default()
    }

    fn forget_if_idle(&mut self, tenant: &str) {
        let idle = |entry: &QueuedTenant| entry.mark.is_none() && !entry.busy && !entry.beside && entry.failures == 0;
        if self.entries.get(tenant).is_some_and(idle) {
            self.entries.remove(tenant);
        }
    }
}

impl QueuedTenant {
    /// When it may be observed; `None` where nothing asks for that, or it is being observed.
    fn due(&self) -> Option<Instant> {
        let mark = self.mark.as_ref().filter(|_| !self.busy && !self.beside);
        mark.map(|mark| mark.ready)
    }

    /// When it may be observed beside the work.
    fn urgent_due(&self, stuck: impl FnOnce() -> Option<Instant>) -> Option<Instant> {
        let urgent = self.urgent.filter(|_| self.busy && !self.beside)?;
        Some(urgent.max(stuck()?))
    }

    fn waits(&self, now: Instant) -> bool {
        self.waits_until.is_some_and(|until| until > now)
    }

    /// Has it repaired when it has waited, unless something asks for an observation before.
    fn wait_for_repair(&mut self, now: Instant) {
        let Some(until) = self.waits_until else { return };
        self.mark.get_or_insert(PendingObservation { trigger: Trigger::Retry, since: now, ready: until });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAUSE: Duration = Duration::from_millis(10);

    fn names(taken: &[Taken]) -> Vec<&str> {
        taken.iter().map(|one| one.name.as_str()).collect()
    }

    #[test]
    fn marks_merge_and_the_first_stays_the_reason() {
        let (mut queue, start) = (Queue::default(), Instant::now());
        queue.mark("ant", Trigger::FullPass, start, PAUSE);
        queue.mark("ant", Trigger::Start, start + PAUSE, PAUSE);
        assert_eq!(queue.take(start, 9), []);
        let taken = queue.take(start + PAUSE, 9);
        assert_eq!(taken.iter().map(|one| &one.mark.trigger).collect::<Vec<_>>(), [&Trigger::FullPass]);
        assert_eq!(queue.take(start + PAUSE * 9, 9), []);
    }

    #[test]
    fn a_mark_during_the_work_leads_to_another_observation() {
        let (mut queue, start) = (Queue::default(), Instant::now());
        queue.mark("ant", Trigger::Start, start, Duration::ZERO);
        queue.take(start, 9);
        queue.mark("ant", Trigger::FullPass, start, Duration::ZERO);
        assert_eq!(queue.take(start, 9), []);
        queue.succeeded("ant");
        assert_eq!(names(&queue.take(start, 9)), ["ant"]);
    }

    #[test]
    fn one_that_fails_waits_longer_each_time_and_holds_up_nobody() {
        let (mut queue, mut now) = (Queue::default(), Instant::now());
        let retry = Retry::default();
        queue.mark("ant", Trigger::Start, now, Duration::ZERO);
        let mut waits = Vec::new();
        for _ in 0..12 {
            assert_eq!(names(&queue.take(now, 9)), ["ant"]);
            queue.failed("ant", retry, now);
            queue.mark("bee", Trigger::Start, now, Duration::ZERO);
            assert_eq!(names(&queue.take(now, 9)), ["bee"]);
            queue.succeeded("bee");
            let due = queue.next_due().unwrap_or(now);
            waits.push((due - now).as_secs());
            now = due;
        }
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300, 300]);
    }

    #[test]
    fn one_that_starts_and_ends_again_and_again_waits_longer_each_time() {
        let (mut queue, mut now) = (Queue::default(), Instant::now());
        let mut waits = Vec::new();
        for failures in 1..5 {
            queue.back_off("ant", failures, Retry::default(), now);
            let due = queue.next_due().unwrap_or(now);
            waits.push((due - now).as_secs());
            now = due;
            assert_eq!(names(&queue.take(now, 9)), ["ant"]);
            queue.succeeded("ant");
        }
        assert_eq!(waits, [1, 2, 4, 8]);
    }

    #[test]
    fn a_newer_commit_ends_the_waiting() {
        let (mut queue, now) = (Queue::default(), Instant::now());
        queue.failed("ant", Retry::default(), now);
        assert_eq!(queue.ready(now), 0);
        queue.reset_backoff("ant");
        assert_eq!(queue.ready(now), 1);
    }

    #[test]
    fn those_who_wait_longest_come_first() {
        let (mut queue, start) = (Queue::default(), Instant::now());
        queue.mark("zoo", Trigger::Start, start, Duration::ZERO);
        queue.mark("ant", Trigger::Start, start + PAUSE, Duration::ZERO);
        queue.mark("bee", Trigger::Start, start + PAUSE * 2, Duration::ZERO);
        assert_eq!(names(&queue.take(start + PAUSE * 2, 2)), ["zoo", "ant"]);
    }

    #[test]
    fn what_is_in_order_takes_no_room() {
        let (mut queue, now) = (Queue::default(), Instant::now());
        queue.mark("ant", Trigger::Start, now, Duration::ZERO);
        queue.take(now, 1);
        queue.succeeded("ant");
        assert!(queue.entries.is_empty());
    }

    #[test]
    fn one_whose_repair_waits_is_observed_at_once() {
        let (mut queue, start) = (Queue::default(), Instant::now());
        let retry = Retry::default();
        queue.mark("ant", Trigger::Start, start, Duration::ZERO);
        queue.take(start, 9);
        queue.failed("ant", retry, start);
        // However often something happens: each time it is observed, and the repair keeps its time.
        for n in 1..9 {
            let now = start + PAUSE * n * 2;
            assert_eq!(queue.take(now, 9), []);
            queue.mark("ant", Trigger::FullPass, now, PAUSE);
            let taken = queue.take(now + PAUSE, 9);
            assert_eq!(
                (names(&taken), taken[0].waits, &taken[0].mark.trigger),
                (vec!["ant"], true, &Trigger::FullPass)
            );
            queue.contained("ant", now + PAUSE);
            assert_eq!(queue.next_due(), Some(start + retry.initial.get()));
        }
        let taken = queue.take(start + retry.initial.get(), 9);
        assert_eq!((names(&taken), taken[0].waits, &taken[0].mark.trigger), (vec!["ant"], false, &Trigger::Retry));
    }

    #[test]
    fn a_full_scan_passes_over_nobody_who_waits() {
        let (mut queue, now) = (Queue::default(), Instant::now());
        queue.failed("ant", Retry::default(), now);
        assert_eq!(queue.claim("ant"), Some(None), "the repair that waits is not why");
        assert!(queue.waits("ant").is_some_and(|until| until > now));
        queue.contained("ant", now);
        // One that is in order by then has not proved that it lasts.
        queue.looked_at("ant", now);
        queue.not_found(now, |_| false);
        assert!(queue.waits("ant").is_some_and(|until| until > now));
        assert_eq!(queue.next_due(), queue.waits("ant"));
    }

    #[test]
    fn what_happens_during_work_that_makes_no_progress_is_observed_beside_it() {
        let (mut queue, start) = (Queue::default(), Instant::now());
        let stuck = |at: Instant| move |_: &str| Some(at);
        queue.mark("ant", Trigger::Start, start, Duration::ZERO);
        queue.take(start, 9);
        let later = start + PAUSE * 100;
        assert_eq!(queue.next_beside(stuck(later)), None, "nothing happened");
        queue.mark("ant", Trigger::FullPass, start, PAUSE);
        assert_eq!(queue.next_beside(stuck(later)), Some(later));
        assert_eq!(queue.take_beside(later - PAUSE, 9, stuck(later)), []);
        assert_eq!(queue.take_beside(later, 9, |_| None), [], "nobody knows of the work");
        assert_eq!(queue.take_beside(later, 0, stuck(later)), []);
        let taken = queue.take_beside(later, 9, stuck(later));
        assert_eq!(taken.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), ["ant"]);
        // Not twice for one thing, and not two at a time.
        queue.mark("ant", Trigger::FullPass, later, Duration::ZERO);
        assert_eq!(queue.take_beside(later, 9, stuck(later)), []);
        queue.ended_beside("ant");
        assert_eq!(queue.take_beside(later, 9, stuck(later)).len(), 1);
        // The work may end before it; what is then done waits for the end of both.
        queue.succeeded("ant");
        assert_eq!((queue.take(later, 9), queue.claim("ant")), (vec![], None));
        queue.ended_beside("ant");
        assert_eq!(names(&queue.take(later, 9)), ["ant"]);
    }
}
