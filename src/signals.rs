//! Signals, and what systemd is told.

use std::{
    os::fd::BorrowedFd,
    time::{Duration, Instant},
};

use sd_notify::NotifyState;
use tokio::signal::unix::{Signal as Unix, SignalKind, signal};

/// What a signal asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Signal {
    /// To end.
    End,
    /// To read the settings again.
    Reload,
}

/// The signals that are heard.
pub(crate) struct Signals {
    terminate: Unix,
    interrupt: Unix,
    hangup: Unix,
    told_alive: Option<Instant>,
}

impl Signals {
    pub(crate) fn listen() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
            told_alive: None,
        })
    }

    pub(crate) async fn next(&mut self) -> Signal {
        tokio::select! {
            _ = self.terminate.recv() => Signal::End,
            _ = self.interrupt.recv() => Signal::End,
            _ = self.hangup.recv() => Signal::Reload,
        }
    }

    /// Tells the watchdog that the loop goes round.
    pub(crate) fn alive(&mut self) {
        if self.told_alive.is_none_or(|told| told.elapsed() >= ALIVE) {
            self.told_alive = Some(Instant::now());
            let _ = sd_notify::notify(&[NotifyState::Watchdog]);
        }
    }
}

/// How often systemd's watchdog is told at most. Its limit in `systemd/tenantd.service` is far longer.
const ALIVE: Duration = Duration::from_secs(1);

// Without systemd there is nobody to tell, and that is no error.

pub(crate) fn ready() {
    let _ = sd_notify::notify(&[NotifyState::Ready]);
}

pub(crate) fn stopping() {
    let _ = sd_notify::notify(&[NotifyState::Stopping]);
}

/// Has systemd keep a socket for the next process of the unit.
pub(crate) fn keep(name: &str, socket: BorrowedFd<'_>) {
    let _ = sd_notify::notify_with_fds(&[NotifyState::FdStore, NotifyState::FdName(name)], &[socket]);
}

/// Has systemd close a socket that it keeps.
pub(crate) fn forget(name: &str) {
    let _ = sd_notify::notify(&[NotifyState::FdStoreRemove, NotifyState::FdName(name)]);
}
