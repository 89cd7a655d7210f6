//! Waking tenants within the memory that the host gives to those that are awake, and putting others to sleep for it.

use std::time::Instant;

use jiff::Timestamp;

use super::{
    Daemon,
    capacity::{self, Holder, Holding, Room},
    in_force::give,
    workers::WAKE,
};
use crate::{
    model::{Bytes, Power, PowerHold, PowerReason, Tenant, TenantName, record::Trigger, status::MemoryStatus},
    web::Refusal,
};

impl Daemon {
    /// Has a tenant run as `hold` says. One that sleeps waits until there is memory for it, and others are put to sleep for it
    /// where there is none; that it waits is kept, so that a kill loses neither it nor them.
    ///
    /// # Errors
    /// There is no memory for it, whoever sleeps, or that cannot be kept. Then nobody was put to sleep.
    pub(super) async fn wake_within_memory(
        &mut self,
        tenant: &str,
        hold: PowerHold,
        trigger: Trigger,
    ) -> Result<(), Refusal> {
        let sleeps = self.power_of(tenant) == Power::Asleep;
        let Some(bound) = self.host.power.memory.filter(|_| sleeps) else {
            return self.give_power(tenant, hold, trigger).await;
        };
        if !self.scan.is_complete() {
            return Err(Refusal::unavailable("what tenants hold is not known yet").hint("ask again"));
        }
        let asleep = match self.room_for(tenant, bound) {
            Room::Free => return self.give_power(tenant, hold, trigger).await,
            Room::Leaving => Vec::new(),
            Room::Evict(names) => names,
            Room::Full => return Err(self.no_room(tenant, bound, hold.reason != PowerReason::TimeUp).await),
        };
        let is_known = self.in_force.wakes().waiting.get(tenant).is_some_and(|waits| waits.reason == hold.reason);
        if is_known && asleep.is_empty() {
            return Ok(());
        }
        self.put_to_sleep_for(tenant, Some(hold), asleep).await
    }

    /// Wakes those who wait and for whom there is memory by now, those first who have waited the longest.
    pub(super) async fn wake_who_waits(&mut self) {
        if self.in_force.wakes().waiting.is_empty() || !self.scan.is_complete() || !self.demand.take_changed() {
            return;
        }
        let mut waiting: Vec<(Timestamp, String)> =
            self.in_force.wakes().waiting.iter().map(|(tenant, hold)| (hold.since, tenant.clone())).collect();
        waiting.sort_unstable();
        for (_, tenant) in waiting {
            let Some(hold) = self.in_force.wakes().waiting.get(&tenant).cloned() else { continue };
            if self.power_of(&tenant) != Power::Asleep || self.in_force.suspension(&tenant).is_some() {
                self.in_force.change_powers(|_, wakes| drop(wakes.waiting.remove(&tenant)));
                self.note_conditions(&tenant);
                continue;
            }
            let room = self.host.power.memory.map_or(Room::Free, |bound| self.room_for(&tenant, bound));
            match room {
                Room::Free => {
                    let trigger = trigger_of(&tenant, &hold.reason);
                    let hold = PowerHold { since: Timestamp::now(), ..hold };
                    // What cannot be kept is tried again as it can be.
                    drop(self.give_power(&tenant, hold, trigger).await);
                }
                Room::Leaving => {}
                Room::Evict(names) => drop(self.put_to_sleep_for(&tenant, None, names).await),
                Room::Full => {
                    let bound = self.host.power.memory.unwrap_or(Bytes::new(0));
                    drop(self.no_room(&tenant, bound, true).await);
                }
            }
        }
    }

    /// The memory that tenants hold, where that is bounded.
    pub(super) fn memory_status(&self) -> Option<MemoryStatus> {
        let limit = self.host.power.memory?;
        let is_held = |holder: &&Holder<'_>| !self.in_force.wakes().waiting.contains_key(holder.tenant);
        let holders = self.holders("");
        let held = capacity::sum(holders.iter().filter(is_held));
        Some(MemoryStatus { limit: limit.get(), held: u64::try_from(held).unwrap_or(u64::MAX) })
    }

    /// What a tenant is to do.
    pub(super) fn power_of(&self, tenant: &str) -> Power {
        self.in_force.powers().holds.get(tenant).map(|hold| hold.power).unwrap_or_default()
    }

    fn room_for(&self, tenant: &str, bound: Bytes) -> Room {
        capacity::room(bound.get(), self.memory_of(tenant), &self.holders(tenant))
    }

    /// The memory that a tenant may hold, in bytes.
    fn memory_of(&self, tenant: &str) -> u64 {
        let Some(effective) = self.in_force.effective() else { return 0 };
        let declared = effective.tenants.get(tenant).or_else(|| effective.held_back.get(tenant));
        declared.map_or(0, |tenant| tenant.limits.memory.get())
    }

    /// Who holds memory beside a tenant, or will before it does.
    fn holders(&self, except: &str) -> Vec<Holder<'_>> {
        let waiting = &self.in_force.wakes().waiting;
        let first = waiting.get(except).map(|hold| (hold.since, except));
        let Some(effective) = self.in_force.effective() else { return Vec::new() };
        let now = Instant::now();
        let others = effective.tenants.iter().chain(&effective.held_back).filter(|(name, _)| name.as_str() != except);
        let mut holders = Vec::new();
        for (name, tenant) in others {
            let waits = waiting.get(name.as_str()).map(|hold| (hold.since, name.as_str()));
            // Who has waited longer comes first.
            let is_before = waits.is_some_and(|waits| first.is_none_or(|first| waits < first));
            let holding = if is_before { Some(Holding::Kept) } else { self.holding(name, tenant, now) };
            if let Some(holding) = holding {
                holders.push(Holder { tenant: name.as_str(), memory: tenant.limits.memory.get(), holding });
            }
        }
        holders
    }

    /// Whether a tenant holds memory, and how long it goes on.
    fn holding(&self, name: &TenantName, tenant: &Tenant, now: Instant) -> Option<Holding> {
        let hold = self.in_force.powers().holds.get(name.as_str());
        let runtime = self.tenants.get(name.as_str());
        let is_blocked = runtime.is_some_and(|runtime| runtime.blocked.is_some());
        if is_blocked {
            // What runs of it is left as it is, and nothing is started.
            return runtime.is_some_and(|runtime| runtime.located.is_some()).then_some(Holding::Kept);
        }
        match hold.map(|hold| (hold.power, hold.reached)).unwrap_or_default() {
            (Power::Asleep, reached) => (!reached).then_some(Holding::Leaving),
            (Power::Paused, _) => Some(Holding::Kept),
            (Power::Running, _) => {
                // Nobody is put to sleep whom the next request would not wake.
                let is_free = hold.is_none_or(|hold| hold.reason == PowerReason::Wake)
                    && !tenant.expose.is_empty()
                    && self.in_force.tenant(name.as_str()).is_some()
                    && self.in_force.suspension(name.as_str()).is_none();
                let woken = self.in_force.wakes().woken.get(name.as_str()).filter(|_| is_free);
                let since = woken.and_then(|woken| self.demand.idle_since(name, *woken, now));
                Some(since.map_or(Holding::Kept, Holding::Idle))
            }
        }
    }

    /// Puts tenants to sleep so that another one finds memory, and has it wait for that as `waits` says, or as it does.
    async fn put_to_sleep_for(
        &mut self,
        tenant: &str,
        waits: Option<PowerHold>,
        asleep: Vec<String>,
    ) -> Result<(), Refusal> {
        let now = Timestamp::now();
        let reason = PowerReason::MadeRoom { woken: tenant.to_owned() };
        let hold = PowerHold { power: Power::Asleep, reason, since: now, until: None, reached: false };
        let kept = self.in_force.change_powers(|powers, wakes| {
            asleep.iter().for_each(|name| give(powers, wakes, name, &hold));
            if let Some(waits) = waits {
                let since = wakes.waiting.get(tenant).map_or(waits.since, |former| former.since);
                wakes.waiting.insert(tenant.to_owned(), PowerHold { since, ..waits });
            }
        });
        if !kept {
            return Err(self.not_kept());
        }
        for name in asleep {
            self.reporter.metrics.evicted();
            let trigger = Trigger::Event { event: "eviction".to_owned(), object: tenant.to_owned(), time: now };
            self.power_given(&name, hold.clone(), trigger).await;
        }
        self.demand.changed();
        self.note_conditions(tenant);
        Ok(())
    }

    /// Takes note that a tenant is not woken, and says why. It is written down once for each sleep.
    async fn no_room(&mut self, tenant: &str, bound: Bytes, counts: bool) -> Refusal {
        if counts {
            self.reporter.metrics.wake_refused();
        }
        if let Some(former) = self.in_force.powers().holds.get(tenant).filter(|hold| hold.reason != PowerReason::NoRoom)
        {
            let hold = PowerHold { reason: PowerReason::NoRoom, ..former.clone() };
            if self.in_force.give_power(tenant, &hold) {
                self.report_power(tenant, &hold).await;
            }
        } else if self.in_force.wakes().waiting.contains_key(tenant) {
            self.in_force.change_powers(|_, wakes| drop(wakes.waiting.remove(tenant)));
        }
        self.note_conditions(tenant);
        let wanted = Bytes::new(self.memory_of(tenant));
        Refusal::capacity(format!(
            "{tenant} may hold {wanted}, and power.memory of this host ({bound}) leaves no room for it: who holds the rest was \
             not woken by a request, or is in use"
        ))
    }
}

/// What a tenant is observed for that has waited for memory.
fn trigger_of(tenant: &str, reason: &PowerReason) -> Trigger {
    match reason {
        PowerReason::Operator { by } => Trigger::Operator { by: by.clone() },
        PowerReason::Wake => {
            Trigger::Event { event: WAKE.to_owned(), object: tenant.to_owned(), time: Timestamp::now() }
        }
        PowerReason::StateLost
        | PowerReason::TimeUp
        | PowerReason::NotKept
        | PowerReason::MadeRoom { .. }
        | PowerReason::NoRoom => Trigger::FullPass,
    }
}
