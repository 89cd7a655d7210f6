//! How often one user may have something changed or written down. Pure: the clock comes in as an argument.
//!
//! A user's requests are let through at a steady rate, after a number at once. One that comes too soon waits for its
//! turn, behind the same user's earlier ones and nobody else's; where that would take too long it is refused.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

/// The steady rate: one request in so long.
const INTERVAL: Duration = Duration::from_millis(100);

/// How many come at once before that.
const AT_ONCE: u32 = 50;

/// How long a request waits for its turn. Together with the daemon's answer it stays within what a client waits.
const LONGEST: Duration = Duration::from_secs(4);

/// The rates of all users who ask.
#[derive(Debug, Default)]
pub(super) struct Rates {
    /// By user, when all that was let through is worked off at the steady rate. Those in the past are forgotten.
    busy_until: Mutex<BTreeMap<u32, Instant>>,
}

impl Rates {
    /// How long the request of a user waits.
    ///
    /// # Errors
    /// It would wait too long; after so much time it would not.
    pub(super) fn wait(&self, user: u32, now: Instant) -> Result<Duration, Duration> {
        let mut all = self.busy_until.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|_, until| *until > now);
        let until = all.get(&user).copied().unwrap_or(now);
        let wait = until.duration_since(now).saturating_sub(INTERVAL * (AT_ONCE - 1));
        if wait > LONGEST {
            return Err(wait - LONGEST);
        }
        all.insert(user, until + INTERVAL);
        Ok(wait)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn some_at_once_then_a_steady_rate_then_no_more() {
        let (rates, now) = (Rates::default(), Instant::now());
        for _ in 0..AT_ONCE {
            assert_eq!(rates.wait(7, now), Ok(Duration::ZERO));
        }
        for n in 1..=40 {
            assert_eq!(rates.wait(7, now), Ok(INTERVAL * n));
        }
        let refused = rates.wait(7, now);
        assert_eq!(refused, Err(INTERVAL));
        assert_eq!(rates.wait(7, now), refused, "what is refused takes no turn");
        assert_eq!(rates.wait(7, now + INTERVAL), Ok(LONGEST));
        // Nobody waits for another.
        assert_eq!(rates.wait(0, now), Ok(Duration::ZERO));
    }

    #[test]
    fn in_any_minute_no_user_has_more_than_the_rate_allows() {
        let (rates, start) = (Rates::default(), Instant::now());
        let minute = Duration::from_secs(60);
        let mut through = 0_u32;
        for n in 0..60_000 {
            let at = start + Duration::from_millis(n);
            through += u32::from(rates.wait(7, at).is_ok_and(|wait| at + wait < start + minute));
        }
        assert!(through <= 600 + AT_ONCE, "{through}");
        assert!(through >= 600, "{through}");
    }

    #[test]
    fn users_who_do_not_ask_any_more_are_forgotten() {
        let (rates, now) = (Rates::default(), Instant::now());
        for user in 0..100 {
            let _ = rates.wait(user, now);
        }
        let _ = rates.wait(7, now + Duration::from_secs(60));
        assert_eq!(rates.busy_until.lock().unwrap().len(), 1);
    }
}
