//! Bytes both ways between a client and where it was let through to.
//!
//! A connection that carries nothing holds no buffer: what is read goes through one buffer of the
//! thread, and only what the other side does not take at once is kept until it does.

use std::{
    cell::RefCell,
    future::poll_fn,
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpStream, tcp::ReadHalf as TcpReadHalf},
    time::{Sleep, sleep},
};

use super::{
    activity::Activity,
    limits::Limits,
    waiting::{self, Backlog, Waiting},
};
use crate::{
    accounting::{
        account::Account,
        buffers::{INSIDE, OUTSIDE},
        usage::Use,
    },
    policy::Rule,
};

/// The size of a thread's buffer: what a socket is read and written with at once, in bytes.
const BUFFER: usize = 64 << 10;

thread_local! {
    static SHARED: RefCell<Box<[u8]>> = RefCell::new(vec![0; BUFFER].into());
}

/// A connection that was let through.
#[derive(Debug)]
pub struct Session {
    /// On whose account it goes.
    pub account: Arc<Account>,
    /// What it carries.
    pub counts: Arc<Use>,
    /// What bounds it.
    pub limits: Limits,
}

/// How a relay ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Both sides said all.
    Closed,
    /// A side broke off.
    Broken,
    /// Nothing went for too long.
    Idle,
    /// A side took nothing of what waited for it, for too long or where too much waits.
    Stalled,
    /// What is in force now does not let it through.
    Revoked,
    /// The tenant asked within the connection for something else than it was opened for.
    Refused(Rule),
}

impl Session {
    /// Relays between a client and a destination until both sides end, one breaks off, or `revoked` ends.
    ///
    /// The client's first bytes go when `from_client` has brought them, with the side that the rest is read from, or
    /// says how all ends. What the destination says, and what was read of that already, goes through meanwhile.
    pub async fn relay<R: AsyncRead + Unpin>(
        &self,
        from_client: impl Future<Output = Result<(R, Vec<u8>), End>>,
        to_client: impl AsyncWrite + Unpin,
        destination: &mut TcpStream,
        begun: Vec<u8>,
        revoked: impl Future<Output = ()>,
    ) -> End {
        let (from_destination, to_destination) = destination.split();
        let activity = Activity::default();
        let up = async {
            let (from_client, first) = from_client.await?;
            let direction = Direction { count: Use::sent, beside: OUTSIDE, source: |_| None };
            self.pump(from_client, to_destination, first, &activity, direction).await.map_err(ended)
        };
        let down = async {
            let direction = Direction { count: Use::received, beside: INSIDE, source: socket };
            self.pump(from_destination, to_client, begun, &activity, direction).await.map_err(ended)
        };
        let both = async {
            match tokio::try_join!(up, down) {
                Ok(_) => End::Closed,
                Err(end) => end,
            }
        };
        tokio::select! {
            end = both => end,
            () = revoked => End::Revoked,
            () = activity.idle(self.limits.idle) => End::Idle,
        }
    }

    async fn pump<R: AsyncRead + Unpin>(
        &self,
        mut from: R,
        mut to: impl AsyncWrite + Unpin,
        rest: Vec<u8>,
        activity: &Activity,
        Direction { count, beside, source }: Direction<R>,
    ) -> io::Result<()> {
        count(&self.counts, rest.len() as u64);
        let waiting = Waiting::new(Arc::clone(&self.account), self.limits.stall);
        let mut pump = Pump { rest, written: 0, is_over: false, pause: None, waiting };
        poll_fn(|cx| {
            SHARED.with_borrow_mut(|buffer| {
                let meter = |bytes| {
                    activity.note();
                    count(&self.counts, bytes);
                    let bandwidth = self.limits.bandwidth?;
                    Some(self.account.load.bandwidth.spend(bytes, bandwidth)).filter(|wait| !wait.is_zero())
                };
                pump.poll(cx, &mut from, &mut to, buffer, meter, (beside, source))
            })
        })
        .await
    }
}

/// Of bytes that come from an `R`: how they are counted, how much memory what waits takes beside them, and which socket has
/// received what waits.
struct Direction<R> {
    count: fn(&Use, u64),
    beside: u64,
    source: fn(&R) -> Option<&TcpStream>,
}

/// One direction at work.
struct Pump {
    /// What the other side did not take at once, and how much of it that has taken since.
    rest: Vec<u8>,
    written: usize,
    is_over: bool,
    /// Until when the tenant's bandwidth is used up.
    pause: Option<Pin<Box<Sleep>>>,
    waiting: Waiting,
}

fn socket<'a>(half: &'a TcpReadHalf<'_>) -> Option<&'a TcpStream> {
    Some(half.as_ref())
}

/// How a relay ends with an error of one direction.
fn ended(error: io::Error) -> End {
    if waiting::is_cut(&error) { End::Stalled } else { End::Broken }
}

impl Pump {
    fn poll<R: AsyncRead + Unpin>(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut R,
        to: &mut (impl AsyncWrite + Unpin),
        buffer: &mut [u8],
        meter: impl Fn(u64) -> Option<Duration>,
        (beside, source): (u64, fn(&R) -> Option<&TcpStream>),
    ) -> Poll<io::Result<()>> {
        loop {
            let Poll::Ready(flushed) = self.flush(cx, to) else {
                let backlog = Backlog { bytes: self.rest.len() as u64 + beside, source: source(from) };
                self.waiting.blocked(cx, backlog)?;
                return Poll::Pending;
            };
            flushed?;
            self.waiting.taken();
            if self.is_over {
                return Pin::new(to).poll_shutdown(cx);
            }
            if let Some(pause) = &mut self.pause {
                ready!(pause.as_mut().poll(cx));
                self.pause = None;
            }
            let mut read = ReadBuf::new(buffer);
            let Poll::Ready(has_read) = Pin::new(&mut *from).poll_read(cx, &mut read) else {
                self.waiting.drained();
                return Poll::Pending;
            };
            has_read?;
            let read = read.filled();
            if read.is_empty() {
                self.is_over = true;
                continue;
            }
            self.pause = meter(read.len() as u64).map(|wait| Box::pin(sleep(wait)));
            self.write(cx, to, read)?;
        }
    }

    fn write(&mut self, cx: &mut Context<'_>, to: &mut (impl AsyncWrite + Unpin), bytes: &[u8]) -> io::Result<()> {
        let mut left = bytes;
        while !left.is_empty() {
            match Pin::new(&mut *to).poll_write(cx, left) {
                Poll::Ready(Ok(0)) => return Err(io::ErrorKind::WriteZero.into()),
                Poll::Ready(written) => left = left.get(written?..).unwrap_or_default(),
                Poll::Pending => {
                    self.rest.extend_from_slice(left);
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    fn flush(&mut self, cx: &mut Context<'_>, to: &mut (impl AsyncWrite + Unpin)) -> Poll<io::Result<()>> {
        while let Some(left) = self.rest.get(self.written..).filter(|left| !left.is_empty()) {
            match ready!(Pin::new(&mut *to).poll_write(cx, left))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                written => self.written += written,
            }
        }
        // Gives the memory back: it may be long until this is needed again.
        (self.rest, self.written) = (Vec::new(), 0);
        Poll::Ready(Ok(()))
    }
}
