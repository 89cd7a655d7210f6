//! Bytes that nobody takes: whoever does not read keeps what was sent to it in the kernel's buffers and in
//! the gateway's, for as long as its connection lives.
//!
//! What waits is checked once a second while it waits, and counted as memory of the tenant's. Where that is more than
//! the tenant's own part, no more is received ahead than a small buffer holds. A connection ends where it is still more
//! than the tenant can have, and where nothing was taken for a time.

use std::{io, pin::Pin, sync::Arc, task::Context, time::Duration};

use rustix::io::ioctl_fionread;
use tokio::{
    net::TcpStream,
    time::{Instant, Sleep, sleep},
};

use crate::accounting::{account::Account, buffers::AHEAD, limits::Lease};

/// How often what waits is checked.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// One direction of a tenant's connection.
#[derive(Debug)]
pub struct Waiting {
    account: Arc<Account>,
    /// How long nothing may be taken.
    stall: Duration,
    /// What waits, since the last time that nothing did.
    now: Option<Box<Held>>,
}

#[derive(Debug)]
struct Held {
    next_check: Pin<Box<Sleep>>,
    lease: Option<Lease>,
    /// When bytes were last taken.
    taken: Instant,
    /// Whether no more than a small buffer holds is received ahead.
    is_bounded: bool,
}

/// What waits for a receiver that takes nothing.
#[derive(Clone, Copy, Debug)]
pub struct Backlog<'a> {
    /// So many bytes of memory, and beside them
    pub bytes: u64,
    /// what this socket has received and nobody has read.
    pub source: Option<&'a TcpStream>,
}

impl Waiting {
    /// Nothing waits yet.
    pub fn new(account: Arc<Account>, stall: Duration) -> Self {
        Self { account, stall, now: None }
    }

    /// From now on what waits is on this account.
    pub fn charge(&mut self, account: Arc<Account>) {
        if account.tenant() != self.account.tenant()
            && let Some(held) = &mut self.now
        {
            held.lease = None;
        }
        self.account = account;
    }

    /// The receiver takes nothing at this moment, while so much waits for it.
    ///
    /// # Errors
    /// The connection must end ([`is_cut`] says so): it has waited for too long, or too much waits.
    pub fn blocked(&mut self, cx: &mut Context<'_>, backlog: Backlog<'_>) -> io::Result<()> {
        let fresh = || {
            let next_check = Box::pin(sleep(CHECK_INTERVAL));
            Box::new(Held { next_check, lease: None, taken: Instant::now(), is_bounded: false })
        };
        let held = self.now.get_or_insert_with(fresh);
        while held.next_check.as_mut().poll(cx).is_ready() {
            if held.taken.elapsed() >= self.stall || !held.reserve(&self.account, backlog) {
                self.account.load.stalled.inc();
                return Err(io::ErrorKind::QuotaExceeded.into());
            }
            held.next_check.as_mut().reset(Instant::now() + CHECK_INTERVAL);
        }
        Ok(())
    }

    /// The receiver took something. What was reserved stays, for as long as anything waits: who reads a
    /// little now and then has no less in the buffers.
    pub fn taken(&mut self) {
        if let Some(held) = &mut self.now {
            held.taken = Instant::now();
        }
    }

    /// Nothing waits any more.
    pub fn drained(&mut self) {
        self.now = None;
    }

    /// Whether anything waited when that was last looked at.
    pub fn is_waiting(&self) -> bool {
        self.now.is_some()
    }
}

impl Held {
    /// False where the connection must end. Once it may have more than can be had, until the next check: by then whoever
    /// reads at all has read what was received ahead.
    fn reserve(&mut self, account: &Account, backlog: Backlog<'_>) -> bool {
        let is_had = account.reserve(&mut self.lease, backlog.memory());
        if self.is_bounded || (is_had && !account.is_beyond_its_memory()) {
            return is_had;
        }
        self.is_bounded = true;
        backlog.bound() || is_had
    }
}

impl Backlog<'_> {
    /// How much memory it takes, in bytes: the kernel keeps up to as much again around what a socket has received.
    pub fn memory(&self) -> u64 {
        let unread = |socket| ioctl_fionread(socket).unwrap_or_default().saturating_mul(2);
        self.bytes + self.source.map_or(0, unread)
    }

    /// Lets the socket receive no more than a small buffer holds. False where there is none.
    fn bound(&self) -> bool {
        self.source.is_some_and(|socket| socket2::SockRef::from(socket).set_recv_buffer_size(AHEAD).is_ok())
    }
}

/// Whether a connection ends because of what waited.
pub fn is_cut(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::QuotaExceeded
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use super::*;
    use crate::accounting::limits::Pools;

    fn account(pools: &Arc<Pools>) -> Arc<Account> {
        Arc::new(Account::new("ant".parse().unwrap(), Arc::clone(pools)))
    }

    fn of(bytes: u64) -> Backlog<'static> {
        Backlog { bytes, source: None }
    }

    fn run(test: impl Future<Output = ()>) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(test);
    }

    #[test]
    fn what_waits_is_reserved_until_nothing_does() {
        run(async {
            let pools = Arc::new(Pools::new(1 << 14));
            let account = account(&pools);
            let held = || pools.memory.of(account.tenant());
            let mut waiting = Waiting::new(Arc::clone(&account), Duration::from_secs(60));
            let cx = &mut Context::from_waker(Waker::noop());
            waiting.blocked(cx, of(1000)).unwrap();
            assert_eq!(held(), 0, "a moment is nothing");
            sleep(CHECK_INTERVAL + CHECK_INTERVAL / 10).await;
            waiting.blocked(cx, of(1000)).unwrap();
            assert_eq!(held(), 1000);
            waiting.taken();
            assert_eq!(held(), 1000, "as long as something waits");
            sleep(CHECK_INTERVAL + CHECK_INTERVAL / 10).await;
            waiting.blocked(cx, of(5000)).unwrap();
            assert_eq!(held(), 5000);
            waiting.drained();
            assert_eq!((held(), waiting.is_waiting()), (0, false));
        });
    }

    #[test]
    fn what_waits_is_on_the_account_that_it_was_charged_to_last() {
        run(async {
            let pools = Arc::new(Pools::new(1 << 14));
            let other = Arc::new(Account::new("bee".parse().unwrap(), Arc::clone(&pools)));
            let account = account(&pools);
            let mut waiting = Waiting::new(Arc::clone(&account), Duration::from_secs(60));
            let cx = &mut Context::from_waker(Waker::noop());
            let held = |account: &Account| pools.memory.of(account.tenant());
            waiting.blocked(cx, of(1000)).unwrap();
            for (on, off) in [(&account, &other), (&other, &account)] {
                waiting.charge(Arc::clone(on));
                sleep(CHECK_INTERVAL + CHECK_INTERVAL / 10).await;
                waiting.blocked(cx, of(1000)).unwrap();
                assert_eq!((held(on), held(off)), (1000, 0));
            }
        });
    }

    #[test]
    fn too_much_and_too_long_end_a_connection() {
        run(async {
            let pools = Arc::new(Pools::new(1 << 14));
            let account = account(&pools);
            let cx = &mut Context::from_waker(Waker::noop());
            let mut much = Waiting::new(Arc::clone(&account), Duration::from_secs(60));
            let mut long = Waiting::new(Arc::clone(&account), CHECK_INTERVAL);
            let mut slow = Waiting::new(Arc::clone(&account), 2 * CHECK_INTERVAL);
            for waiting in [&mut much, &mut long, &mut slow] {
                waiting.blocked(cx, of(1)).unwrap();
            }
            sleep(CHECK_INTERVAL + CHECK_INTERVAL / 10).await;
            slow.taken();
            assert!(much.blocked(cx, of(1 << 40)).is_err_and(|error| is_cut(&error)));
            assert!(long.blocked(cx, of(1)).is_err_and(|error| is_cut(&error)));
            slow.blocked(cx, of(1)).unwrap();
            sleep(CHECK_INTERVAL + CHECK_INTERVAL / 10).await;
            slow.blocked(cx, of(1)).unwrap();
            assert_eq!(account.load.stalled.get(), 2);
        });
    }
}
