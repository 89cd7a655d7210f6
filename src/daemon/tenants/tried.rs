//! The steps of a tenant's containment that were taken lately. Pure: the clock comes in as an argument.
//!
//! Containment waits for nothing, so something must keep it from being tried without end: a step that failed, or that
//! was asked for again and again, waits a while by itself. Other steps are taken at once all the same.

use std::time::{Duration, Instant};

use crate::model::{PlannedStep, Step, policy::Retry};

/// How often a step that succeeds is taken again at once.
const FREE: u32 = 3;

/// How long after it might have been taken again a step counts as a new one.
const FORGOTTEN: Duration = Duration::from_secs(60);

/// The most steps that are remembered.
const MOST: usize = 64;

/// Steps that were taken.
#[derive(Debug, Default)]
pub(in crate::daemon) struct Tried(Vec<One>);

#[derive(Debug)]
struct One {
    step: Step,
    times: u32,
    until: Instant,
}

impl Tried {
    /// Takes note of a step.
    pub(in crate::daemon) fn note(&mut self, step: &Step, succeeded: bool, retry: Retry, now: Instant) {
        self.0.retain(|one| now < one.until + FORGOTTEN);
        let known = self.0.iter().position(|one| one.step == *step).map(|at| self.0.remove(at).times);
        let times = known.unwrap_or(0).saturating_add(1);
        let free = if succeeded { FREE } else { 0 };
        let until = if times > free { now + retry.wait(times - free) } else { now };
        if self.0.len() >= MOST {
            self.0.remove(0);
        }
        self.0.push(One { step: step.clone(), times, until });
    }

    /// The steps that wait.
    pub(in crate::daemon) fn waiting(&self, now: Instant) -> Vec<Step> {
        self.0.iter().filter(|one| one.until > now).map(|one| one.step.clone()).collect()
    }

    /// When the first of these steps that wait is taken again.
    pub(in crate::daemon) fn again(&self, plan: &[PlannedStep], now: Instant) -> Option<Instant> {
        let waiting =
            self.0.iter().filter(|one| one.until > now && plan.iter().any(|planned| planned.step == one.step));
        waiting.map(|one| one.until).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::quantity::Timespan;

    fn retry() -> Retry {
        Retry { initial: Timespan::seconds(1), max: Timespan::seconds(10) }
    }

    fn pause(id: usize) -> Step {
        Step::Pause { container: id.to_string() }
    }

    fn planned(id: usize) -> PlannedStep {
        PlannedStep::alone(pause(id))
    }

    /// The waits after taking a step as often as it may be.
    fn waits(succeeded: bool) -> Vec<u64> {
        let (mut tried, mut now) = (Tried::default(), Instant::now());
        let mut waits = Vec::new();
        for _ in 0..8 {
            tried.note(&pause(1), succeeded, retry(), now);
            let again = tried.again(&[planned(1)], now);
            assert_eq!(tried.waiting(now), again.map(|_| pause(1)).into_iter().collect::<Vec<_>>());
            assert_eq!(tried.again(&[planned(2)], now), None, "others are not held up");
            waits.push(again.map_or(0, |again| (again - now).as_secs()));
            now = again.unwrap_or(now);
        }
        waits
    }

    #[test]
    fn what_fails_waits_longer_each_time_and_what_does_not_last_after_a_few() {
        assert_eq!(waits(false), [1, 2, 4, 8, 10, 10, 10, 10]);
        assert_eq!(waits(true), [0, 0, 0, 1, 2, 4, 8, 10]);
    }

    #[test]
    fn what_lasted_for_a_while_is_a_new_step() {
        let (mut tried, now) = (Tried::default(), Instant::now());
        for _ in 0..5 {
            tried.note(&pause(1), true, retry(), now);
        }
        let later = now + FORGOTTEN + Duration::from_secs(11);
        tried.note(&pause(1), true, retry(), later);
        assert_eq!(tried.again(&[planned(1)], later), None);
    }

    #[test]
    fn no_more_than_a_bound_is_remembered() {
        let (mut tried, now) = (Tried::default(), Instant::now());
        for id in 0..MOST * 3 {
            tried.note(&pause(id), false, retry(), now);
        }
        assert_eq!(tried.waiting(now).len(), MOST);
        assert!(tried.waiting(now).contains(&pause(MOST * 3 - 1)));
    }
}
