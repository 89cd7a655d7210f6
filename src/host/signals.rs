//! Signals, and what systemd is told.

use std::{
    os::fd::BorrowedFd,
    pin::pin,
    time::{Duration, Instant},
};

use sd_notify::NotifyState;
use tokio::signal::unix::{Signal as Unix, SignalKind, signal};

/// What a signal asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// To end.
    End,
    /// To read the settings again.
    Reload,
}

/// The signals that are heard.
pub struct Signals {
    terminate: Unix,
    interrupt: Unix,
    hangup: Unix,
    told_alive: Option<Instant>,
}

impl Signals {
    /// Listens for the signals that end the process or have it read its settings again.
    ///
    /// # Errors
    /// The system refuses to tell of signals.
    pub fn listen() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
            told_alive: None,
        })
    }

    /// Waits for the next signal.
    pub async fn next(&mut self) -> Signal {
        tokio::select! {
            _ = self.terminate.recv() => Signal::End,
            _ = self.interrupt.recv() => Signal::End,
            _ = self.hangup.recv() => Signal::Reload,
        }
    }

    /// Waits for work of a bounded length, and tells the watchdog meanwhile.
    pub async fn alive_while<T>(&mut self, work: impl Future<Output = T>) -> T {
        telling(work, || self.alive()).await
    }

    /// Tells the watchdog that the loop goes round.
    pub fn alive(&mut self) {
        if self.told_alive.is_none_or(|told| told.elapsed() >= ALIVE) {
            self.told_alive = Some(Instant::now());
            let _ = sd_notify::notify(&[NotifyState::Watchdog]);
        }
    }
}

/// How often systemd's watchdog is told at most. Its limit in `systemd/tenantd.service` is far longer.
const ALIVE: Duration = Duration::from_secs(1);

/// How much longer a start may take from each time on that systemd is told so.
const MORE: Duration = Duration::from_secs(60);

// Without systemd there is nobody to tell, and that is no error.

/// Waits for work of a bounded length before the start is over, and has systemd wait for it as well.
pub async fn starting_while<T>(work: impl Future<Output = T>) -> T {
    let micros = u32::try_from(MORE.as_micros()).unwrap_or(u32::MAX);
    telling(work, || drop(sd_notify::notify(&[NotifyState::ExtendTimeoutUsec(micros)]))).await
}

/// Waits for work, and tells of it at its begin and again and again meanwhile.
async fn telling<T>(work: impl Future<Output = T>, mut tell: impl FnMut()) -> T {
    let mut work = pin!(work);
    loop {
        tell();
        if let Ok(done) = tokio::time::timeout(ALIVE, work.as_mut()).await {
            return done;
        }
    }
}

/// Tells systemd that the process does its work.
pub fn ready() {
    let _ = sd_notify::notify(&[NotifyState::Ready]);
}

/// Tells systemd that the process ends.
pub fn stopping() {
    let _ = sd_notify::notify(&[NotifyState::Stopping]);
}

/// Has systemd keep a socket for the next process of the unit.
pub fn keep(name: &str, socket: BorrowedFd<'_>) {
    let _ = sd_notify::notify_with_fds(&[NotifyState::FdStore, NotifyState::FdName(name)], &[socket]);
}

/// Has systemd close a socket that it keeps.
pub fn forget(name: &str) {
    let _ = sd_notify::notify(&[NotifyState::FdStoreRemove, NotifyState::FdName(name)]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_takes_long_is_told_of_again_and_again() {
        let (end, ended) = tokio::sync::oneshot::channel();
        let (mut end, mut told) = (Some(end), 0);
        let tell = || {
            told += 1;
            if told == 3 {
                end.take().unwrap().send("done").unwrap();
            }
        };
        assert_eq!(telling(ended, tell).await, Ok("done"));
        assert_eq!(told, 3);
    }
}
