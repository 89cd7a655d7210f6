//! What is in force: which commit, which declaration for which tenant, and what must be known of that after a restart.

mod approved;
mod declaration;
mod fleet;
mod next;
mod reading;
mod removals;
mod state;
mod waits;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use jiff::Timestamp;

pub(super) use declaration::{Composition, Declaration, stands_at};
pub(super) use fleet::{Fleet, FleetChange};
pub(super) use next::{Next, WaitChanges};
pub(super) use reading::{AT_A_START, RETURNING, declarations, read, some_of};
pub use state::StateError;
pub(super) use state::{Bad, Pin, State, Wakes, mirror, path as state_path, powers};
pub(super) use waits::Waits;

use crate::{
    fault::chain,
    model::{
        Desired, DriftMode, PowerHold, PowerReason, Powers, Revision, Tenant, TokenId, policy::Retry,
        status::Suspension,
    },
};
use removals::Clock;

/// How many revoked tokens are remembered.
const MOST_REVOKED: usize = 10_000;

/// What is in force, and the file that keeps what no engine can report.
pub(super) struct InForce {
    /// `None` before a commit came into force, and where it cannot be read.
    pub(super) fleet: Option<Fleet>,
    state: State,
    /// The time that removals are counted by.
    clock: Clock,
    data_root: PathBuf,
    /// Whether the file lacks something of the state, and why it cannot be written.
    is_unsaved: bool,
    error: Option<String>,
}

impl InForce {
    /// What the state file says. The second value is where a damaged one was kept.
    ///
    /// # Errors
    /// The file cannot be read, is larger than any that is written, or was written by a newer version.
    pub(super) fn load(data_root: &Path) -> Result<(Self, Option<PathBuf>), StateError> {
        let (state, moved_to) = State::load(data_root)?;
        let clock = Clock::begin(&state.removals, Timestamp::now());
        let data_root = data_root.to_path_buf();
        Ok((Self { fleet: None, state, clock, data_root, is_unsaved: false, error: None }, moved_to))
    }

    pub(super) fn state(&self) -> &State {
        &self.state
    }

    /// What is carried out.
    pub(super) fn effective(&self) -> Option<&Arc<Desired>> {
        self.fleet.as_ref().map(|fleet| &fleet.effective)
    }

    /// The declaration of a tenant that is carried out.
    pub(super) fn tenant(&self, name: &str) -> Option<&Arc<Tenant>> {
        self.effective()?.tenants.get(name)
    }

    /// Whether anybody declares a tenant, rightly or wrongly.
    pub(super) fn mentions(&self, name: &str) -> bool {
        self.effective().is_some_and(|effective| effective.mentions(name))
    }

    /// The commit in force, or that of one tenant.
    pub(super) fn revision(&self, tenant: Option<&str>) -> Option<Revision> {
        let fleet = self.fleet.as_ref()?;
        Some(tenant.map_or_else(|| fleet.revision.clone(), |name| fleet.composition_of(name).base))
    }

    /// Whether a tenant's declaration is another one now than in `then`.
    pub(super) fn has_changed(&self, name: &str, then: &Arc<Desired>) -> bool {
        let Some(now) = self.effective() else { return true };
        !Arc::ptr_eq(then, now)
            && (then.tenants.get(name) != now.tenants.get(name) || then.held.contains(name) != now.held.contains(name))
    }

    /// What is done about a tenant's drift: what it declares, and never less than the host wants.
    pub(super) fn drift_mode(&self, name: &str, weakest: DriftMode) -> DriftMode {
        self.fleet.as_ref().map_or(DriftMode::Enabled, |fleet| fleet.drift_mode(name, weakest))
    }

    /// How long tenants that fail wait.
    pub(super) fn retry(&self) -> Retry {
        self.fleet.as_ref().map(|fleet| fleet.declared.policy.retry).unwrap_or_default()
    }

    /// Whether a tenant's declaration in force is not confirmed healthy yet.
    pub(super) fn is_on_trial(&self, name: &str) -> bool {
        let pin = self.state.pins.get(name);
        pin.zip(self.fleet.as_ref()).is_some_and(|(pin, fleet)| fleet.is_on_trial(name, pin))
    }

    /// Who signed the commit whose declaration of a tenant is carried out, where it is the newest.
    pub(super) fn signer(&self, name: &str) -> Option<&String> {
        let is_older = self.fleet.as_ref().is_some_and(|fleet| fleet.is_stand_in(name));
        self.state.accepted.as_ref().filter(|_| !is_older).and_then(|accepted| accepted.signer.as_ref())
    }

    /// Whether something of it may change by time alone.
    pub(super) fn changes_by_time(&self) -> bool {
        let has_end = self.state.powers.holds.values().any(|hold| hold.until.is_some());
        !(self.state.pins.is_empty() && self.state.suspended.is_empty()) || has_end || self.error.is_some()
    }

    /// Until when, and why, a tenant is left alone.
    pub(super) fn suspension(&self, name: &str) -> Option<&Suspension> {
        self.state.suspended.get(name)
    }

    /// Leaves a tenant alone, and says whether that is news. `None` where it cannot be kept, so that nothing was changed.
    pub(super) fn suspend(&mut self, name: &str, suspension: Suspension) -> Option<bool> {
        if self.state.suspended.get(name) == Some(&suspension) {
            // Nothing to keep.
            return Some(false);
        }
        let former = self.state.suspended.insert(name.to_owned(), suspension);
        if self.save().is_ok() {
            return Some(true);
        }
        match former {
            Some(former) => self.state.suspended.insert(name.to_owned(), former),
            None => self.state.suspended.remove(name),
        };
        None
    }

    /// Looks after a tenant again, and says whether it was left alone. `None` where that cannot be kept, so that nothing was
    /// changed.
    pub(super) fn resume(&mut self, name: &str) -> Option<bool> {
        let Some(former) = self.state.suspended.remove(name) else { return Some(false) };
        if self.save().is_ok() {
            return Some(true);
        }
        self.state.suspended.insert(name.to_owned(), former);
        None
    }

    /// Ends the suspensions whose time is over.
    pub(super) fn end_suspensions(&mut self, now: Timestamp) -> Vec<String> {
        let over = self.state.suspended.iter().filter(|(_, suspension)| suspension.until <= now);
        let over: Vec<String> = over.map(|(name, _)| name.clone()).collect();
        for name in &over {
            self.state.suspended.remove(name);
            self.is_unsaved = true;
        }
        over
    }

    /// What tenants were asked to do.
    pub(super) fn powers(&self) -> &Arc<Powers> {
        &self.state.powers
    }

    /// Whom requests woke, and who waits for memory.
    pub(super) fn wakes(&self) -> &Wakes {
        &self.state.wakes
    }

    /// Gives a tenant a power, if that can be kept. It waits for no other one any more.
    pub(super) fn give_power(&mut self, tenant: &str, hold: &PowerHold) -> bool {
        self.change_powers(|powers, wakes| give(powers, wakes, tenant, hold))
    }

    /// Changes what tenants are to do, if that can be kept: what is not on disk does not count.
    pub(super) fn change_powers(&mut self, change: impl FnOnce(&mut Powers, &mut Wakes)) -> bool {
        let former = (Arc::clone(&self.state.powers), self.state.wakes.clone());
        change(Arc::make_mut(&mut self.state.powers), &mut self.state.wakes);
        let is_kept = self.save().is_ok();
        if !is_kept {
            (self.state.powers, self.state.wakes) = former;
        }
        is_kept
    }

    /// The tokens that count no more.
    pub(super) fn revoked_tokens(&self) -> impl Iterator<Item = &TokenId> {
        self.state.revoked_tokens.keys()
    }

    /// Has a token count no more, as is remembered `until` it has expired.
    pub(super) fn revoke_token(&mut self, id: &TokenId, now: Timestamp, until: Timestamp) -> Revocation {
        let revoked = &mut self.state.revoked_tokens;
        if revoked.contains_key(id) {
            return Revocation::Known;
        }
        revoked.retain(|_, until| *until > now);
        if revoked.len() >= MOST_REVOKED {
            return Revocation::TooMany;
        }
        revoked.insert(id.clone(), until);
        if self.save().is_ok() {
            return Revocation::New;
        }
        self.state.revoked_tokens.remove(id);
        Revocation::NotKept
    }

    /// Judges the declaration in force of a tenant as bad, if it is not confirmed healthy yet.
    pub(super) fn mark_failed(&mut self, name: &str, reason: &str) -> Failed {
        let Some(fleet) = &mut self.fleet else { return Failed::NotOnTrial };
        let revision = fleet.composition_of(name).base;
        if !self.state.pins.get(name).is_some_and(|pin| fleet.is_on_trial(name, pin)) {
            return Failed::NotOnTrial;
        }
        match fleet.mark_failed(name, reason, &mut self.state.pins) {
            None => Failed::NothingElse,
            Some(back_to) => {
                self.is_unsaved = true;
                Failed::BackTo { revision, back_to }
            }
        }
    }

    /// Ends the trial of declarations that have run well for long enough, as `has_run_well` says.
    pub(super) fn confirm_healthy(&mut self, has_run_well: impl Fn(&str, Duration) -> bool) {
        let Some(fleet) = &mut self.fleet else { return };
        let at_most = fleet.declared.policy.healthy_after;
        let is_confirmed = |(name, pin): &(&String, &Pin)| {
            let after = pin.healthy_after.map_or(at_most, |after| after.min(at_most));
            fleet.can_be_confirmed(name, pin) && has_run_well(name, after.get())
        };
        let confirmed: Vec<String> =
            self.state.pins.iter().filter(is_confirmed).map(|(name, _)| name.clone()).collect();
        for name in confirmed {
            fleet.confirm_healthy(&name, &mut self.state.pins);
            self.is_unsaved = true;
        }
    }

    /// The line that approves everything that waits for an approval.
    pub(super) fn line_for_all(&self, fleet: &str) -> Option<String> {
        let waiting = self.state.pins.iter();
        let waiting: BTreeMap<_, _> =
            waiting.filter_map(|(name, pin)| Some((name.clone(), pin.waits.as_ref()?.declaration.clone()))).collect();
        approved::line_for_all(&waiting, fleet)
    }

    /// Writes the state, whole or not at all.
    pub(super) fn save(&mut self) -> Result<(), StateError> {
        let saved = self.state.save(&self.data_root);
        self.is_unsaved = saved.is_err();
        self.error = saved.as_ref().err().map(chain);
        if let Some(error) = &self.error {
            tracing::error!(error, "cannot keep the state");
        }
        saved
    }

    /// Writes what is not written yet, where no write has failed.
    pub(super) fn save_if_due(&mut self) {
        if self.is_unsaved && self.error.is_none() {
            drop(self.save());
        }
    }

    /// Why the state cannot be kept, if so.
    pub(super) fn error(&self) -> Option<&String> {
        self.error.as_ref()
    }
}

/// Gives a tenant a power. Where a request led to that, it is remembered.
pub(super) fn give(powers: &mut Powers, wakes: &mut Wakes, tenant: &str, hold: &PowerHold) {
    powers.holds.insert(tenant.to_owned(), hold.clone());
    wakes.waiting.remove(tenant);
    if hold.reason == PowerReason::Wake {
        wakes.woken.insert(tenant.to_owned(), hold.since);
    } else {
        wakes.woken.remove(tenant);
    }
}

/// What came of revoking a token.
pub(super) enum Revocation {
    /// It counts no more.
    New,
    /// It was revoked before.
    Known,
    /// As many are revoked as are remembered.
    TooMany,
    /// That cannot be kept, so that nothing was changed.
    NotKept,
}

/// What came of judging a declaration as bad.
pub(super) enum Failed {
    /// It is not judged: it was confirmed healthy, or is known to be bad.
    NotOnTrial,
    /// It is not judged: as far as what last ran well is not looser, it starts nothing else.
    NothingElse,
    /// The tenant goes back from that of a commit to what last ran well, if anything did.
    BackTo { revision: Revision, back_to: Option<Composition> },
}
