//! What a commit would put in force, whether it needs an operator, and how it comes into force.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use jiff::Timestamp;

use super::{
    InForce, approved,
    declaration::{Composition, Declaration},
    fleet::{Fleet, FleetChange},
    state::{Accepted, Pin, State, StateError},
    waits::Waits,
};
use crate::{
    model::{Desired, Host, Revision, TenantName, policy::Guards},
    plan::guard::{self, Hold},
    source::{Approval, ApprovalHistory},
};

/// How many tenants that are gone are remembered.
const MOST_REMOVED: usize = 100_000;

/// What a commit would put in force.
pub(in crate::daemon) struct Next {
    pub(in crate::daemon) change: FleetChange,
    /// The approvals that let something in: by tenant, who approved, and what.
    pub(in crate::daemon) agreed: BTreeMap<String, (String, Waits)>,
    /// What its removals are counted by: the tenants that are declared so far or found on the engine, the guard, and the
    /// time.
    known: BTreeSet<String>,
    guards: Guards,
    now: Timestamp,
}

impl Next {
    fn in_force(&self, name: &str) -> bool {
        self.change.fleet.effective.tenants.contains_key(name)
    }

    fn window(&self) -> Duration {
        self.guards.window.get()
    }
}

/// What became of tenants' waits for approvals.
pub(in crate::daemon) struct WaitChanges {
    /// Those that wait since now, what for, and where they stand.
    pub(in crate::daemon) begun: Vec<(String, Waits, Option<Composition>)>,
    /// Those that do no more: what they waited for is declared no more.
    pub(in crate::daemon) withdrawn: Vec<String>,
}

impl InForce {
    /// What a commit would put in force, with the approvals that came with it. `returning` are the last declarations of
    /// tenants that come back; `present` are the tenants that have something on the engine.
    pub(in crate::daemon) fn next(
        &self,
        revision: &Revision,
        desired: &Arc<Desired>,
        approvals: &[Approval],
        returning: &BTreeMap<String, Declaration>,
        present: &BTreeSet<String>,
        host: &Host,
    ) -> Next {
        let (fleet, pins, now) = (self.fleet.as_ref(), &self.state.pins, self.clock.now());
        let mut waiting = Fleet::loosened(fleet, desired, &host.approvals, returning, pins);
        let agreed = approved::take(&mut waiting, approvals, &host.approvals, &self.state.spent, now.as_second());
        Next {
            change: Fleet::succeed(fleet, revision.clone(), Arc::clone(desired), pins, waiting),
            agreed,
            known: self.known(present),
            guards: Fleet::guards(fleet, desired, host.guards),
            now,
        }
    }

    /// The tenants that are declared so far, or found on the engine; without those that an accepted commit has removed
    /// already and that are leaving.
    fn known(&self, present: &BTreeSet<String>) -> BTreeSet<String> {
        let is_leaving = |name: &&String| !self.state.removed.contains_key(*name);
        let mut known: BTreeSet<String> = present.iter().filter(is_leaving).cloned().collect();
        known.extend(self.effective().into_iter().flat_map(|now| now.tenants.keys().map(TenantName::to_string)));
        known
    }

    /// Why a commit needs an operator, if it does.
    pub(in crate::daemon) fn hold(&self, desired: &Desired, is_non_fast_forward: bool, next: &Next) -> Option<Hold> {
        let recent = self.state.removals.within(next.window(), next.now);
        if is_non_fast_forward {
            let reason = "it does not descend from the commit in force: an old signed commit may have been put back";
            let removed = guard::gone(&next.known, &recent, desired, |name| next.in_force(name));
            return Some(Hold { reason: reason.to_owned(), removed: removed.into_iter().collect() });
        }
        guard::hold(&next.known, &recent, desired, |name| next.in_force(name), next.guards)
    }

    /// Keeps that a commit is accepted, with the removals of it that an operator agreed to. What is carried out changes only
    /// with [`InForce::carry_out`]. Returns what was known before.
    ///
    /// # Errors
    /// It cannot be kept: nothing was changed.
    pub(in crate::daemon) fn accept(
        &mut self,
        next: &Next,
        signer: Option<String>,
        approvals: &ApprovalHistory,
        agreed_removals: &[String],
        host: &Host,
    ) -> Result<State, StateError> {
        let former = self.state.clone();
        let desired = &next.change.fleet.declared;
        let gone = self.fleet.iter().flat_map(|fleet| {
            let gone = fleet.effective.tenants.keys().filter(|name| !desired.mentions(name.as_str()));
            gone.map(|name| (name.to_string(), fleet.composition_of(name.as_str())))
        });
        let gone: Vec<(String, Composition)> = gone.collect();
        let state = &mut self.state;
        state.removals.note(&next.known, desired, |name| next.in_force(name), next.window(), next.now);
        state.removals.agreed(agreed_removals);
        state.pins.clone_from(&next.change.pins);
        state.spent.add(approvals, host.approvals.max_age, next.now.as_second());
        state.removed.retain(|name, _| !next.in_force(name));
        // Nobody can have others forgotten: what finds no place is judged as new when it returns.
        for (name, at) in gone {
            if state.removed.len() < MOST_REMOVED {
                state.removed.insert(name, at);
            }
        }
        state.accepted = Some(Accepted { revision: next.change.fleet.revision.clone(), signer });
        self.save_or_restore(former)
    }

    /// Keeps how those who wait for an approval are judged now. Returns what was known before; `None` where nothing changes.
    ///
    /// # Errors
    /// It cannot be kept: nothing was changed.
    pub(in crate::daemon) fn judge_anew(&mut self, next: &Next) -> Result<Option<State>, StateError> {
        if next.change.pins == self.state.pins {
            return Ok(None);
        }
        let former = self.state.clone();
        self.state.pins.clone_from(&next.change.pins);
        self.save_or_restore(former).map(Some)
    }

    fn save_or_restore(&mut self, former: State) -> Result<State, StateError> {
        match self.save() {
            Ok(()) => Ok(former),
            Err(error) => {
                (self.state, self.is_unsaved) = (former, false);
                Err(error)
            }
        }
    }

    /// Has all that begins from now on go by other declarations. Returns the tenants whose declaration is another one now, and
    /// whether each is started with the same.
    pub(in crate::daemon) fn carry_out(&mut self, change: FleetChange) -> Vec<(String, bool)> {
        let FleetChange { fleet, changed, .. } = change;
        let starts_alike = |name: &str| {
            let tenant = |fleet: &Fleet| fleet.effective.tenants.get(name).cloned();
            let before_and_after = self.fleet.as_ref().and_then(tenant).zip(tenant(&fleet));
            before_and_after.is_some_and(|(before, after)| before.starts_like(&after))
        };
        let changed = changed.into_iter().map(|name| (starts_alike(&name), name)).map(|(alike, name)| (name, alike));
        let changed = changed.collect();
        self.fleet = Some(fleet);
        changed
    }

    /// What became of the waits for approvals since a former state, but for those that were approved.
    pub(in crate::daemon) fn wait_changes(&self, former: &State, is_agreed: impl Fn(&str) -> bool) -> WaitChanges {
        let waits = |state: &State, name: &str| state.pins.get(name).is_some_and(|pin| pin.waits.is_some());
        let is_over = |name: &&String| waits(former, name) && !waits(&self.state, name) && !is_agreed(name);
        let known =
            |name: &str| former.pins.get(name).and_then(|pin| pin.waits.as_ref()).map(|waits| &waits.declaration);
        let begun = self.state.pins.iter().filter_map(|(name, pin): (&String, &Pin)| {
            let waits = pin.waits.clone().filter(|waits| known(name) != Some(&waits.declaration))?;
            Some((name.clone(), waits, pin.stands_at()))
        });
        WaitChanges { begun: begun.collect(), withdrawn: former.pins.keys().filter(is_over).cloned().collect() }
    }
}
