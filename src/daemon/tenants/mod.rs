//! What is remembered of each tenant between two observations, which one is observed next, and what follows from what
//! happens to it. Pure: the clock comes in as an argument, and what is to be done goes out as a [`Decision`].

#![cfg_attr(not(test), deny(clippy::disallowed_methods, clippy::disallowed_types))]

mod ended;
mod exits;
mod queue;
mod runtime;
mod tried;

use std::{
    collections::BTreeMap,
    rc::Rc,
    time::{Duration, Instant},
};

pub(super) use ended::{Decision, Facts};
pub(super) use exits::{ContainerEvent, Suspect};
use queue::Queue;
pub(super) use queue::{PendingObservation, Taken};
pub(super) use runtime::{TenantRuntime, UNHEALTHY};

use crate::{
    model::{Step, policy::Retry, record::Trigger, status::Correction},
    reconcile::InHand,
};

/// How long the events of one cause are waited for before a tenant is observed.
pub(super) const PAUSE: Duration = Duration::from_millis(10);

/// How long work on a tenant may make no progress until something else that happens to it is observed beside.
const STUCK: Duration = Duration::from_secs(1);

/// All tenants.
#[derive(Default)]
pub(super) struct Tenants {
    runtimes: BTreeMap<String, TenantRuntime>,
    queue: Queue,
    /// The work on each tenant.
    in_hand: BTreeMap<String, Rc<InHand>>,
}

impl Tenants {
    /// What is remembered of a tenant, if anything is.
    pub(super) fn get(&self, tenant: &str) -> Option<&TenantRuntime> {
        self.runtimes.get(tenant)
    }

    fn runtime(&mut self, tenant: &str) -> &mut TenantRuntime {
        if !self.runtimes.contains_key(tenant) {
            self.runtimes.insert(tenant.to_owned(), TenantRuntime::default());
        }
        self.runtimes.entry(tenant.to_owned()).or_default()
    }

    /// The daemon ended before it was known whether the declaration in force is carried out.
    pub(super) fn may_not_be_reached(&mut self, tenant: &str) {
        self.runtime(tenant).reached = Some(false);
    }

    /// A correction is the last one.
    pub(super) fn corrected(&mut self, tenant: &str, correction: Correction) {
        self.runtime(tenant).last = Some(correction);
    }

    /// Forgets a tenant that is gone.
    pub(super) fn forget(&mut self, tenant: &str) {
        self.runtimes.remove(tenant);
    }

    /// Forgets the tenants that are gone.
    pub(super) fn retain(&mut self, is_there: impl Fn(&str) -> bool) {
        self.runtimes.retain(|name, _| is_there(name));
    }

    /// Asks for an observation of a tenant, after a pause in which further events of the same cause arrive.
    pub(super) fn mark(&mut self, tenant: &str, trigger: Trigger, now: Instant, pause: Duration) {
        self.queue.mark(tenant, trigger, now, pause);
    }

    /// Ends a tenant's waiting: a newer commit or an operator changed its chances.
    pub(super) fn reset_backoff(&mut self, tenant: &str) {
        self.queue.reset_backoff(tenant);
    }

    /// Ends the waiting of all tenants: what they failed by is over.
    pub(super) fn reset_all_backoffs(&mut self) {
        self.queue.reset_all_backoffs();
    }

    /// The steps of its containment that are not taken for now.
    pub(super) fn steps_that_wait(&self, tenant: &str, now: Instant) -> Vec<Step> {
        self.runtimes.get(tenant).map(|runtime| runtime.tried.waiting(now)).unwrap_or_default()
    }

    /// Hands out the tenants that are to be observed now.
    pub(super) fn take(&mut self, now: Instant, at_most: usize) -> Vec<Taken> {
        self.queue.take(now, at_most)
    }

    /// Hands out tenants that something happened to while the work on them makes no progress: what contains does not wait
    /// for the end of that.
    pub(super) fn take_beside(&mut self, now: Instant, at_most: usize) -> Vec<(String, PendingObservation)> {
        let Self { queue, in_hand, .. } = self;
        queue.take_beside(now, at_most, |name| stuck(in_hand, name))
    }

    /// Takes a tenant because a full scan found that something is to be done, with why and since when, and whether its repair
    /// waits. `None` where it is being worked on already.
    pub(super) fn claim(&mut self, tenant: &str, trigger: &Trigger, now: Instant) -> Option<Taken> {
        let mark = self.queue.claim(tenant)?;
        let waits = self.queue.waits(tenant).is_some_and(|until| until > now);
        let mark = mark.unwrap_or_else(|| PendingObservation::new(trigger.clone(), now));
        Some(Taken { name: tenant.to_owned(), mark, waits })
    }

    /// Work on a tenant begins.
    pub(super) fn work_begins(&mut self, tenant: &str, hand: Rc<InHand>) {
        self.in_hand.insert(tenant.to_owned(), hand);
    }

    /// A tenant that was claimed is not worked on.
    pub(super) fn released(&mut self, tenant: &str) {
        self.in_hand.remove(tenant);
        self.queue.released(tenant);
    }

    /// A full scan found nothing to be done for a tenant.
    pub(super) fn needs_nothing(&mut self, tenant: &str, now: Instant) {
        self.queue.looked_at(tenant, now);
    }

    /// Forgets why tenants were to be observed of which a full scan found nothing.
    pub(super) fn not_found(&mut self, now: Instant, found: impl Fn(&str) -> bool) {
        self.queue.not_found(now, found);
    }

    /// Has the work that was begun by other declarations or settings end after the step in hand.
    pub(super) fn supersede<'a>(&self, tenants: impl Iterator<Item = &'a str>) {
        tenants.filter_map(|name| self.in_hand.get(name)).for_each(|hand| hand.supersede());
    }

    /// The same for all work.
    pub(super) fn supersede_all(&self) {
        self.in_hand.values().for_each(|hand| hand.supersede());
    }

    /// Another declaration is in force. One that is started with something else begins with a clean record.
    pub(super) fn declaration_changed(&mut self, tenant: &str, starts_alike: bool, now: Instant) {
        let runtime = self.runtime(tenant);
        if !starts_alike {
            (runtime.declared, runtime.exit) = (Some(now), None);
        }
        runtime.declaration_changed();
        self.queue.reset_backoff(tenant);
        self.supersede(std::iter::once(tenant));
    }

    /// Its declaration was judged as bad, and another one is in force.
    pub(super) fn went_back(&mut self, tenant: &str, trigger: Trigger, now: Instant) {
        self.supersede(std::iter::once(tenant));
        let runtime = self.runtime(tenant);
        runtime.declaration_changed();
        (runtime.failure, runtime.declared) = (None, Some(now));
        self.queue.reset_backoff(tenant);
        self.queue.mark(tenant, trigger, now, Duration::ZERO);
    }

    /// It is to do something else from now on. Work that was begun before goes on by what it knew: it ends after the step in
    /// hand.
    pub(super) fn power_changed(&mut self, tenant: &str, trigger: Trigger, now: Instant) {
        let runtime = self.runtime(tenant);
        (runtime.reached, runtime.in_order) = (Some(false), None);
        // Only what is seen from now on counts.
        runtime.located.iter_mut().for_each(|located| located.runs = false);
        self.supersede(std::iter::once(tenant));
        self.queue.reset_backoff(tenant);
        self.queue.mark(tenant, trigger, now, Duration::ZERO);
    }

    /// Whether a tenant has been as declared, and well, for so long.
    pub(super) fn has_run_well(&self, tenant: &str, time: Duration, now: Instant) -> bool {
        let runtime = self.runtimes.get(tenant).filter(|runtime| runtime.is_in_order());
        runtime.is_some_and(|runtime| runtime.has_run_well(time, now))
    }

    /// Whether a tenant is being worked on.
    pub(super) fn is_busy(&self, tenant: &str) -> bool {
        self.queue.is_busy(tenant)
    }

    /// Whether a tenant is worked on or is about to be, and when it is tried again after failures.
    pub(super) fn progress(&self, tenant: &str, now: Instant) -> (bool, Option<Instant>) {
        let next_try = self.queue.waits(tenant).filter(|until| *until > now);
        (self.queue.is_busy(tenant) || (self.queue.is_marked(tenant) && next_try.is_none()), next_try)
    }

    /// How many could be handed out now.
    pub(super) fn ready(&self, now: Instant) -> usize {
        self.queue.ready(now)
    }

    /// When the next tenant is due.
    pub(super) fn next_due(&self) -> Option<Instant> {
        self.queue.next_due()
    }

    /// When the next tenant is due beside the work on it.
    pub(super) fn next_beside(&self) -> Option<Instant> {
        self.queue.next_beside(|name| stuck(&self.in_hand, name))
    }

    /// Everybody may be tried at once: an operator asks for it.
    pub(super) fn reset_known_backoffs(&mut self) {
        let Self { runtimes, queue, .. } = self;
        runtimes.keys().for_each(|tenant| queue.reset_backoff(tenant));
    }

    /// Makes a tenant wait as after so many failures.
    fn back_off(&mut self, tenant: &str, failures: u32, retry: Retry, now: Instant) {
        self.queue.back_off(tenant, failures, retry, now);
    }
}

/// From when on work on a tenant counts as one that makes no progress.
fn stuck(in_hand: &BTreeMap<String, Rc<InHand>>, name: &str) -> Option<Instant> {
    in_hand.get(name).map(|hand| hand.progress() + STUCK)
}

#[cfg(test)]
mod tests;
