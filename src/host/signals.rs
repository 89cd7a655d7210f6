//! Signals, and notifications to systemd.

use std::{
    os::fd::{BorrowedFd, OwnedFd},
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
    notified_alive: Option<Instant>,
}

impl Signals {
    /// Listens for the signals that end the process or have it read its settings again.
    ///
    /// # Errors
    /// The system refuses to report signals.
    pub fn listen() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
            notified_alive: None,
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

    /// Waits for work of a bounded length, and notifies the watchdog meanwhile.
    pub async fn alive_while<T>(&mut self, work: impl Future<Output = T>) -> T {
        notifying(work, || self.alive()).await
    }

    /// Notifies the watchdog that the loop goes round.
    pub fn alive(&mut self) {
        if self.notified_alive.is_none_or(|notified| notified.elapsed() >= ALIVE) {
            self.notified_alive = Some(Instant::now());
            let _ = sd_notify::notify(&[NotifyState::Watchdog]);
        }
    }
}

/// How often systemd's watchdog is notified at most. Its limit in `systemd/tenantd.service` is far longer.
const ALIVE: Duration = Duration::from_secs(1);

/// How much longer a start may take from each time on that systemd is notified of it.
const MORE: Duration = Duration::from_secs(60);

// Without systemd there is nobody to notify, and that is no error.

/// Waits for work of a bounded length before the start is over, and has systemd wait for it as well.
pub async fn starting_while<T>(work: impl Future<Output = T>) -> T {
    let micros = u32::try_from(MORE.as_micros()).unwrap_or(u32::MAX);
    notifying(work, || drop(sd_notify::notify(&[NotifyState::ExtendTimeoutUsec(micros)]))).await
}

/// Waits for work, and notifies systemd of it at its begin and again and again meanwhile.
async fn notifying<T>(work: impl Future<Output = T>, mut notify: impl FnMut()) -> T {
    let mut work = pin!(work);
    loop {
        notify();
        if let Ok(done) = tokio::time::timeout(ALIVE, work.as_mut()).await {
            return done;
        }
    }
}

/// Notifies systemd that the process does its work.
pub fn ready() {
    let _ = sd_notify::notify(&[NotifyState::Ready]);
}

/// Notifies systemd that the process ends.
pub fn stopping() {
    let _ = sd_notify::notify(&[NotifyState::Stopping]);
}

/// Has systemd keep a socket for the next process of the unit.
pub fn keep(name: &str, socket: BorrowedFd<'_>) {
    let _ = sd_notify::notify_with_fds(&[NotifyState::FdStore, NotifyState::FdName(name)], &[socket]);
}

/// The sockets that systemd passed to this process, with their names: those that it kept, and those that it listens on for the
/// unit. They can be taken once.
pub fn passed() -> Vec<(Option<String>, OwnedFd)> {
    let passed = sd_listen_fds::get().inspect_err(|error| tracing::warn!(%error, "systemd's sockets cannot be taken"));
    passed.unwrap_or_default().into_iter().map(|(name, socket)| (name, socket.into_std())).collect()
}

/// Has systemd close a socket that it keeps.
pub fn forget(name: &str) {
    let _ = sd_notify::notify(&[NotifyState::FdStoreRemove, NotifyState::FdName(name)]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_takes_long_has_gateway_files_again_and_again() {
        let (end, ended) = tokio::sync::oneshot::channel();
        let (mut end, mut notified) = (Some(end), 0);
        let notify = || {
            notified += 1;
            if notified == 3 {
                end.take().unwrap().send("done").unwrap();
            }
        };
        assert_eq!(notifying(ended, notify).await, Ok("done"));
        assert_eq!(notified, 3);
    }
}
