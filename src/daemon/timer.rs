//! When the loop looks at what is due by time alone. Pure: the clock comes in as an argument.

#![cfg_attr(not(test), deny(clippy::disallowed_methods, clippy::disallowed_types))]

use std::time::{Duration, Instant};

/// How often the loop looks at what is due by time: with something that is, and without.
pub(super) const TICK: Duration = Duration::from_millis(500);
pub(super) const IDLE_TICK: Duration = Duration::from_secs(5);

/// When the loop looks at what is due, and when a snapshot is.
pub(super) struct Timer {
    next_tick: Instant,
    /// `None` while a snapshot is made.
    next_snapshot: Option<Instant>,
}

impl Timer {
    /// All is due at once.
    pub(super) fn new(now: Instant) -> Self {
        Self { next_tick: now, next_snapshot: Some(now) }
    }

    pub(super) fn next_tick(&self) -> Instant {
        self.next_tick
    }

    /// The loop looks at what is due, and again after a pause.
    pub(super) fn ticked(&mut self, now: Instant, pause: Duration) {
        self.next_tick = now + pause;
    }

    /// Something is due at a time.
    pub(super) fn check_at(&mut self, at: Instant) {
        self.next_tick = self.next_tick.min(at);
    }

    /// Something may be due before long.
    pub(super) fn hasten(&mut self, now: Instant) {
        self.check_at(now + TICK);
    }

    pub(super) fn is_snapshot_due(&self, now: Instant) -> bool {
        self.next_snapshot.is_some_and(|due| due <= now)
    }

    /// A snapshot is being made.
    pub(super) fn snapshot_begins(&mut self) {
        self.next_snapshot = None;
    }

    /// A snapshot was made, or could not be.
    pub(super) fn snapshot_ended(&mut self, now: Instant, pause: Duration) {
        self.next_snapshot = Some(now + pause);
    }

    /// Has the next snapshot made at once, unless one is being made.
    pub(super) fn snapshot_now(&mut self, now: Instant) {
        if self.next_snapshot.is_some() {
            self.next_snapshot = Some(now);
        }
    }
}
