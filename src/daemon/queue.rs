//! Which tenant is looked at next. Pure: the clock comes in as an argument.
//!
//! A tenant is marked as often as something happens to it and looked at once: marks merge, and the
//! first one stays the reason. One that failed waits by itself; nobody waits for it.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use crate::model::{policy::Retry, record::Trigger};

/// Tenants to be looked at.
#[derive(Debug, Default)]
pub(super) struct Queue {
    entries: BTreeMap<String, Entry>,
}

#[derive(Debug, Default)]
struct Entry {
    mark: Option<Mark>,
    busy: bool,
    failures: u32,
    waits_until: Option<Instant>,
}

/// Why and since when a tenant is to be looked at.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Mark {
    pub(super) trigger: Trigger,
    pub(super) since: Instant,
    ready: Instant,
}

impl Queue {
    /// Asks for a look at a tenant, after a pause in which further events of the same cause arrive.
    pub(super) fn mark(&mut self, tenant: &str, trigger: Trigger, now: Instant, pause: Duration) {
        let entry = self.entry(tenant);
        match &mut entry.mark {
            Some(mark) => mark.ready = mark.ready.min(now + pause),
            None => entry.mark = Some(Mark { trigger, since: now, ready: now + pause }),
        }
    }

    /// Hands out the tenants that are to be looked at now, those first that wait longest.
    pub(super) fn take(&mut self, now: Instant, at_most: usize) -> Vec<(String, Mark)> {
        let mut ready: Vec<(Instant, String)> = self
            .entries
            .iter()
            .filter(|(_, entry)| !entry.busy && entry.due().is_some_and(|due| due <= now))
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
                Some((name, mark))
            })
            .collect()
    }

    /// Takes one tenant because everything was looked at, and says why it was marked, if it was.
    /// `None` where it is being worked on already, or waits after failures.
    pub(super) fn seize(&mut self, tenant: &str, now: Instant) -> Option<Option<Mark>> {
        let entry = self.entry(tenant);
        if entry.busy || entry.waits_until.is_some_and(|until| until > now) {
            return None;
        }
        entry.busy = true;
        Some(entry.mark.take())
    }

    /// Forgets why a tenant was to be looked at: it was.
    pub(super) fn looked_at(&mut self, tenant: &str) {
        if !self.is_busy(tenant) {
            self.entries.remove(tenant);
        }
    }

    /// Forgets why tenants were to be looked at of which a look at everything found nothing.
    pub(super) fn not_found(&mut self, found: impl Fn(&str) -> bool) {
        let gone = |(name, entry): (&String, &Entry)| (entry.mark.is_some() && !found(name)).then(|| name.clone());
        let gone: Vec<String> = self.entries.iter().filter_map(gone).collect();
        for tenant in gone {
            self.looked_at(&tenant);
        }
    }

    /// How many could be handed out now.
    pub(super) fn ready(&self, now: Instant) -> usize {
        self.entries.values().filter(|entry| !entry.busy && entry.due().is_some_and(|due| due <= now)).count()
    }

    /// When the next tenant is due, if one is.
    pub(super) fn next_due(&self) -> Option<Instant> {
        self.entries.values().filter(|entry| !entry.busy).filter_map(Entry::due).min()
    }

    /// Says that work on a tenant has ended as it should.
    pub(super) fn succeeded(&mut self, tenant: &str) {
        let entry = self.entry(tenant);
        *entry = Entry { mark: entry.mark.take(), ..Entry::default() };
        self.forget_if_idle(tenant);
    }

    /// Says that work on a tenant has ended without a result, good or bad.
    pub(super) fn released(&mut self, tenant: &str) {
        self.entry(tenant).busy = false;
        self.forget_if_idle(tenant);
    }

    /// Says that work on a tenant has failed. It is looked at again after a while, which doubles.
    pub(super) fn failed(&mut self, tenant: &str, retry: Retry, now: Instant) {
        let entry = self.entry(tenant);
        entry.busy = false;
        entry.failures = entry.failures.saturating_add(1);
        let until = now + retry.wait(entry.failures);
        entry.waits_until = Some(until);
        entry.mark.get_or_insert(Mark { trigger: Trigger::Retry, since: now, ready: until });
    }

    /// Makes a tenant wait as after so many failures, without any work in between: it ended by itself.
    pub(super) fn strike(&mut self, tenant: &str, strikes: u32, retry: Retry, now: Instant) {
        let entry = self.entry(tenant);
        let busy = entry.busy;
        // Each start in between succeeded, and it is their number that counts.
        entry.failures = entry.failures.max(strikes.saturating_sub(1));
        self.failed(tenant, retry, now);
        self.entry(tenant).busy = busy;
    }

    /// Ends a tenant's waiting: a newer commit or an operator changed its chances.
    pub(super) fn forgive(&mut self, tenant: &str) {
        let entry = self.entry(tenant);
        entry.failures = 0;
        entry.waits_until = None;
        if let Some(mark) = &mut entry.mark {
            mark.ready = mark.since;
        }
        self.forget_if_idle(tenant);
    }

    /// Ends the waiting of all tenants: what they failed by is over.
    pub(super) fn forgive_all(&mut self) {
        let waiting: Vec<String> =
            self.entries.iter().filter(|(_, entry)| entry.failures > 0).map(|(name, _)| name.clone()).collect();
        for tenant in waiting {
            self.forgive(&tenant);
        }
    }

    /// Whether a tenant is being worked on.
    pub(super) fn is_busy(&self, tenant: &str) -> bool {
        self.entries.get(tenant).is_some_and(|entry| entry.busy)
    }

    /// Whether a tenant is to be looked at.
    pub(super) fn is_marked(&self, tenant: &str) -> bool {
        self.entries.get(tenant).is_some_and(|entry| entry.mark.is_some())
    }

    /// Until when a tenant waits after failures.
    pub(super) fn waits(&self, tenant: &str) -> Option<Instant> {
        self.entries.get(tenant)?.waits_until
    }

    fn entry(&mut self, tenant: &str) -> &mut Entry {
        if !self.entries.contains_key(tenant) {
            self.entries.insert(tenant.to_owned(), Entry::default());
        }
        self.entries.entry(tenant.to_owned()).or_default()
    }

    fn forget_if_idle(&mut self, tenant: &str) {
        let idle = |entry: &Entry| entry.mark.is_none() && !entry.busy && entry.failures == 0;
        if self.entries.get(tenant).is_some_and(idle) {
            self.entries.remove(tenant);
        }
    }
}

impl Entry {
    fn due(&self) -> Option<Instant> {
        let ready = self.mark.as_ref()?.ready;
        Some(self.waits_until.map_or(ready, |until| until.max(ready)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAUSE: Duration = Duration::from_millis(10);

    fn names(taken: &[(String, Mark)]) -> Vec<&str> {
        taken.iter().map(|(name, _)| name.as_str()).collect()
    }

    #[test]
    fn marks_merge_and_the_first_stays_the_reason() {
        let (mut queue, start) = (Queue::default(), Instant::now());
        queue.mark("ant", Trigger::FullPass, start, PAUSE);
        queue.mark("ant", Trigger::Start, start + PAUSE, PAUSE);
        assert_eq!(queue.take(start, 9), []);
        let taken = queue.take(start + PAUSE, 9);
        assert_eq!(taken.iter().map(|(_, mark)| &mark.trigger).collect::<Vec<_>>(), [&Trigger::FullPass]);
        assert_eq!(queue.take(start + PAUSE * 9, 9), []);
    }

    #[test]
    fn a_mark_during_the_work_leads_to_another_look() {
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
        for strikes in 1..5 {
            queue.strike("ant", strikes, Retry::default(), now);
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
        queue.forgive("ant");
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
}
