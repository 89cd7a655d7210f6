//! What tenants are to do: asked for, kept, reached, over.

use std::time::{Duration, Instant};

use ipnet::Ipv4Net;
use jiff::Timestamp;

use super::{Daemon, events::PowerGiven, tenants::TenantRuntime};
use crate::{
    model::{Power, PowerHold, PowerReason, TenantPlan, record::Trigger},
    web::{
        Refusal,
        operators::{PowerSet, SetPower},
    },
};

impl Daemon {
    /// Has a tenant be something until a time, or for good.
    pub(super) async fn set_power(
        &mut self,
        SetPower { tenant, power, until }: SetPower,
        by: String,
    ) -> Result<PowerSet, Refusal> {
        self.knows(&tenant)?;
        if let Some(suspension) = self.in_force.suspension(&tenant) {
            let until = suspension.until;
            return Err(Refusal::conflict(format!("{tenant} is left alone until {until}"))
                .hint(format!("`tenantd resume {tenant}` comes first")));
        }
        let now = Timestamp::now();
        if let Some(until) = until.filter(|until| *until <= now) {
            return Err(Refusal::invalid(format!("{until} has passed")));
        }
        let reason = PowerReason::Operator { by: by.clone() };
        let powers = self.in_force.powers();
        let former = powers.holds.get(&tenant);
        let waits = self.in_force.wakes().waiting.contains_key(&tenant);
        if !waits
            && former.is_some_and(|former| (former.power, former.until, &former.reason) == (power, until, &reason))
        {
            // Nothing to keep, and nothing new to write down.
            return Ok(PowerSet { tenant, power, until, by });
        }
        if former.is_none() && power == Power::Running && until.is_none() && !powers.lost {
            return Err(Refusal::conflict(format!("{tenant} is neither paused nor asleep")));
        }
        let hold = PowerHold { power, reason, since: now, until, reached: false };
        let trigger = Trigger::Operator { by: by.clone() };
        match power {
            Power::Running => self.wake_within_memory(&tenant, hold, trigger).await?,
            Power::Paused | Power::Asleep => self.give_power(&tenant, hold, trigger).await?,
        }
        self.timer.hasten(Instant::now());
        Ok(PowerSet { tenant, power, until, by })
    }

    /// Gives a tenant a power, writes that down, and has it observed.
    ///
    /// # Errors
    /// It cannot be kept, so that nothing was changed.
    pub(super) async fn give_power(&mut self, tenant: &str, hold: PowerHold, trigger: Trigger) -> Result<(), Refusal> {
        if !self.in_force.give_power(tenant, &hold) {
            return Err(self.not_kept());
        }
        self.power_given(tenant, hold, trigger).await;
        Ok(())
    }

    /// Writes down what a tenant is to do from now on, and why.
    pub(super) async fn report_power(&mut self, tenant: &str, hold: &PowerHold) {
        self.reporter.report(&PowerGiven { tenant, hold }).await;
    }

    /// Writes down what a tenant is to do from now on, and has it observed.
    pub(super) async fn power_given(&mut self, tenant: &str, hold: PowerHold, trigger: Trigger) {
        self.report_power(tenant, &hold).await;
        self.scan.touch(tenant);
        self.tenants.power_changed(tenant, trigger, Instant::now());
        self.note_conditions(tenant);
    }

    /// Ends powers whose time is over: such a tenant runs again.
    pub(super) async fn end_powers(&mut self) {
        let now = Timestamp::now();
        let over = self.in_force.powers().holds.iter().filter(|(_, hold)| hold.until.is_some_and(|until| until <= now));
        let over: Vec<String> = over.map(|(tenant, _)| tenant.clone()).collect();
        for tenant in over {
            let hold = PowerHold {
                power: Power::Running,
                reason: PowerReason::TimeUp,
                since: now,
                until: None,
                reached: false,
            };
            // One for which there is no memory, or that cannot be kept, is tried again.
            drop(self.wake_within_memory(&tenant, hold, Trigger::FullPass).await);
        }
    }

    /// Takes note of what an observation of a tenant says of its power: that it is reached or could not be kept, and which addresses
    /// are to be reserved before its network goes.
    pub(super) async fn power_seen(&mut self, tenant: &str, power: Power, reserve: Option<Ipv4Net>) {
        let in_order = self.tenants.get(tenant).is_some_and(TenantRuntime::is_in_order);
        if in_order && power == Power::Asleep {
            self.not_kept_frozen(tenant).await;
        }
        let powers = self.in_force.powers();
        let hold = powers.holds.get(tenant).filter(|hold| hold.power == power && in_order);
        let reached = hold.is_some_and(|hold| !hold.reached);
        let is_over = hold.is_some_and(|hold| hold.power == Power::Running && hold.until.is_none());
        let awake = in_order && power == Power::Running && powers.reserved.contains_key(tenant);
        let reserves = reserve.filter(|subnet| powers.reserved.get(tenant) != Some(subnet));
        if !(reached || is_over || awake || reserves.is_some()) {
            return;
        }
        let kept = self.in_force.change_powers(|powers, _| {
            if is_over {
                powers.holds.remove(tenant);
            } else if let Some(hold) = powers.holds.get_mut(tenant).filter(|_| reached) {
                hold.reached = true;
            }
            if awake {
                powers.reserved.remove(tenant);
            }
            if let Some(subnet) = reserves {
                powers.reserved.insert(tenant.to_owned(), subnet);
            }
        });
        if kept && reserves.is_some() {
            // Now its network may go.
            self.tenants.mark(tenant, Trigger::FullPass, Instant::now(), Duration::ZERO);
        }
    }

    /// Writes down that a tenant sleeps that should have been frozen.
    async fn not_kept_frozen(&mut self, tenant: &str) {
        let frozen = self.in_force.powers().holds.get(tenant).filter(|hold| hold.power == Power::Paused);
        let Some(until) = frozen.map(|hold| hold.until) else { return };
        let (since, reason) = (Timestamp::now(), PowerReason::NotKept);
        let hold = PowerHold { power: Power::Asleep, reason, since, until, reached: true };
        if self.in_force.give_power(tenant, &hold) {
            self.report_power(tenant, &hold).await;
        }
    }

    /// Settles after a full scan what every tenant is to do: where nobody knew, each does from now on what it was found to
    /// do. Of tenants that are neither declared nor there nothing is kept.
    pub(super) async fn settle_powers(&mut self, plans: &[TenantPlan]) {
        let now = Timestamp::now();
        let powers = self.in_force.powers();
        let unknown = |TenantPlan { tenant, power, .. }: &TenantPlan| {
            let is_new = *power != Power::Running && !powers.holds.contains_key(tenant);
            is_new.then(|| {
                let reason = PowerReason::StateLost;
                (tenant.clone(), PowerHold { power: *power, reason, since: now, until: None, reached: false })
            })
        };
        let found: Vec<(String, PowerHold)> =
            if powers.lost { plans.iter().filter_map(unknown).collect() } else { Vec::new() };
        let present = &self.view.objects.present;
        let is_known = |name: &String| self.in_force.mentions(name) || present.contains(name);
        let wakes = self.in_force.wakes();
        let kept =
            powers.holds.keys().chain(powers.reserved.keys()).chain(wakes.woken.keys()).chain(wakes.waiting.keys());
        let gone: Vec<String> = kept.filter(|name| !is_known(name)).cloned().collect();
        if !powers.lost && gone.is_empty() {
            return;
        }
        let kept = self.in_force.change_powers(|powers, wakes| {
            powers.lost = false;
            powers.holds.extend(found.iter().cloned());
            for name in &gone {
                powers.holds.remove(name);
                powers.reserved.remove(name);
                wakes.woken.remove(name);
                wakes.waiting.remove(name);
            }
        });
        if kept {
            for (tenant, hold) in found {
                self.power_given(&tenant, hold, Trigger::Start).await;
            }
        }
    }
}
