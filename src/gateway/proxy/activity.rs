//! Idle time: whether bytes go over a connection.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use tokio::time::sleep;

/// How often it is looked at within the time that may pass: what is idle ends at most a quarter of that late.
const CHECKS: u32 = 4;

/// Whether bytes went over a connection since that was last asked.
#[derive(Debug, Default)]
pub struct Activity(AtomicBool);

impl Activity {
    /// Takes note that bytes went.
    pub fn note(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Ends when nothing went for the time that this may take, or a quarter longer. One at a time may wait for it.
    pub async fn idle(&self, limit: Duration) {
        let mut quiet = 0;
        while quiet < CHECKS {
            sleep(limit / CHECKS).await;
            quiet = if self.0.swap(false, Ordering::Relaxed) { 0 } else { quiet + 1 };
        }
    }
}
