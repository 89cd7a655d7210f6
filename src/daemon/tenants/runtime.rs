//! What is remembered of one tenant.

use std::time::{Duration, Instant};

use super::tried::Tried;
use crate::model::{
    observed::Health,
    plan::{Blocked, Located},
    status::Correction,
};

/// How long a health check that has not succeeded yet keeps a trial from ending: as long as `health.trialPeriod` may be. The image,
/// which is the tenant's, says how long that takes.
const LONGEST_START: Duration = Duration::from_secs(600);

/// An exit so soon after a start counts against the tenant; one after so long clears it.
pub(super) const RAPID: Duration = Duration::from_secs(10);

/// How long after a kill by somebody an exit is that somebody's doing. An engine that comes back ends
/// what still runs from before as well, and what was killed before the daemon began to listen may
/// end after that.
const KILLED: Duration = Duration::from_secs(30);

/// What is wrong where the image's health check says so.
pub(in crate::daemon) const UNHEALTHY: &str = "the health check of its image fails";

/// What is remembered of a tenant between two observations.
#[derive(Debug, Default)]
pub(in crate::daemon) struct TenantRuntime {
    /// Whether the declaration in force was reached before; `None` where that is not known.
    pub(in crate::daemon) reached: Option<bool>,
    /// Whether it was observed since the daemon began.
    pub(in crate::daemon) seen: bool,
    /// What differs from the declaration.
    pub(in crate::daemon) differs: Vec<String>,
    /// What is in the way.
    pub(in crate::daemon) blocked: Option<Blocked>,
    /// Why the last try failed.
    pub(in crate::daemon) failure: Option<String>,
    /// Repairs since it was last as declared: one that does not last is no repair.
    pub(in crate::daemon) repairs: u32,
    /// Failures of the declaration in force that may be the declaration's own fault.
    pub(in crate::daemon) faults: u32,
    /// Since when it is as declared.
    pub(in crate::daemon) in_order: Option<Instant>,
    /// What the health check of its image says, where it runs as declared.
    pub(in crate::daemon) health: Health,
    /// Where its container is, as far as nothing was done since that replaced it.
    pub(in crate::daemon) located: Option<Located>,
    /// The container that ended last, by its id, if it was not started again.
    pub(in crate::daemon) ended: Option<String>,
    /// When what its container is started with became another, if it did.
    pub(in crate::daemon) declared: Option<Instant>,
    /// When its container was last started, and killed by somebody.
    pub(in crate::daemon) started: Option<Instant>,
    pub(in crate::daemon) killed: Option<Instant>,
    /// Whether its container has ended since that start.
    pub(in crate::daemon) has_ended: bool,
    /// Exits by itself, each shortly after a start.
    pub(in crate::daemon) exits: u32,
    /// The last exit by itself that was not judged yet, and from when on it may be.
    pub(in crate::daemon) exit: Option<(Instant, String)>,
    /// Whether its repair waits until its runtime is tested, because of that exit.
    pub(in crate::daemon) held: bool,
    /// The last correction.
    pub(in crate::daemon) last: Option<Correction>,
    /// Steps of containments that were taken lately.
    pub(in crate::daemon) tried: Tried,
    /// Drift that is on record and not repaired.
    pub(in crate::daemon) warned: Vec<String>,
}

impl TenantRuntime {
    /// Whether it is as declared, as far as is known.
    pub(in crate::daemon) fn is_in_order(&self) -> bool {
        self.seen && self.differs.is_empty() && self.blocked.is_none() && self.failure.is_none()
    }

    /// Whether it has been as declared for so long, and the health check of its image has nothing against it. One that has
    /// not succeeded yet is waited for, if anything is.
    pub(in crate::daemon) fn has_run_well(&self, time: Duration, now: Instant) -> bool {
        let lasts = self.in_order.map(|since| now.saturating_duration_since(since));
        let Some(lasts) = lasts.filter(|lasts| *lasts >= time) else { return false };
        match self.health {
            Health::Unchecked | Health::Healthy => true,
            Health::Starting => time.is_zero() || lasts >= LONGEST_START,
            Health::Unhealthy => time.is_zero(),
        }
    }

    /// Whether what ended was started after its declaration became what it is, as far as is known: what ran before says
    /// nothing of it.
    pub(in crate::daemon) fn ran_as_declared(&self) -> bool {
        self.declared.is_none_or(|declared| self.started.is_some_and(|started| started >= declared))
    }

    /// Whether its container began so shortly before that an end says something of how it is started.
    pub(super) fn has_just_started(&self, now: Instant) -> bool {
        self.started.is_some_and(|started| now.saturating_duration_since(started) < RAPID)
    }

    /// Whether its end is somebody's doing, or may be: it was killed, or ran since before the engine's events arrived, which
    /// was at `back`, so that a kill may not have been heard of.
    pub(super) fn end_is_explained(&self, back: Option<Instant>, now: Instant) -> bool {
        let lately = |time: Instant| now.saturating_duration_since(time) < KILLED;
        let unheard = |back: Instant| lately(back) && self.started.is_none_or(|started| started < back);
        self.killed.is_some_and(lately) || back.is_some_and(unheard)
    }

    /// Its declaration became another one: how it fared with the former says nothing of this one.
    pub(super) fn declaration_changed(&mut self) {
        (self.reached, self.faults, self.exits, self.repairs, self.in_order) = (Some(false), 0, 0, 0, None);
    }

    /// Whether something differs that no commit changed.
    pub(in crate::daemon) fn has_drifted(&self) -> bool {
        !self.differs.is_empty() && self.reached != Some(false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trial_ends_by_time_and_by_what_the_health_check_says() -> Result<(), &'static str> {
        let now = Instant::now();
        let ago = |seconds| now.checked_sub(Duration::from_secs(seconds)).ok_or("the machine has just begun");
        let after = Duration::from_secs(10);
        for (health, lasts, time, is_over) in [
            (Health::Unchecked, 5, after, false),
            (Health::Unchecked, 15, after, true),
            (Health::Healthy, 5, after, false),
            (Health::Healthy, 15, after, true),
            (Health::Starting, 15, after, false),
            (Health::Starting, 601, after, true),
            (Health::Unhealthy, 601, after, false),
            (Health::Starting, 0, Duration::ZERO, true),
            (Health::Unhealthy, 0, Duration::ZERO, true),
        ] {
            let run = TenantRuntime { health, in_order: Some(ago(lasts)?), ..TenantRuntime::default() };
            assert_eq!(run.has_run_well(time, now), is_over, "{health:?} for {lasts} s");
        }
        assert!(!TenantRuntime::default().has_run_well(Duration::ZERO, now));
        Ok(())
    }
}
