//! Bytes both ways between a tenant and where it was let through to.
//!
//! A connection that carries nothing holds no buffer: what is read goes through one buffer of the
//! thread, and only what the other side does not take at once is kept until it does.

use std::{
    cell::RefCell,
    future::poll_fn,
    io,
    pin::{Pin, pin},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf},
    net::{
        TcpStream,
        tcp::{ReadHalf, WriteHalf},
    },
    time::{Sleep, sleep, timeout},
};

use super::waiting::{self, Waiting, unread};
use crate::{
    accounting::{
        buffers::{INSIDE, OUTSIDE},
        usage::Use,
    },
    client::Client,
    policy::{
        Rule,
        authority::{Authority, Host},
        decide::decide,
    },
    protocols::client_hello::{self, MAX_BYTES},
};

/// The size of a thread's buffer: what a socket is read and written with at once, in bytes.
const BUFFER: usize = 64 << 10;

thread_local! {
    static SHARED: RefCell<Box<[u8]>> = RefCell::new(vec![0; BUFFER].into());
}

/// A connection that was let through.
#[derive(Debug)]
pub(crate) struct Session {
    /// Whose it is.
    pub client: Arc<Client>,
    /// Where it goes.
    pub to: Authority,
    /// What it carries.
    pub counts: Use,
    /// Bytes that the tenant may have in a second, if that is bounded.
    pub bandwidth: Option<u64>,
    /// How long it may carry nothing.
    pub idle: Duration,
    /// How long a side may take nothing of what waits for it.
    pub stall: Duration,
}

/// What was read already when the relay begins.
#[derive(Debug, Default)]
pub(crate) struct Begun {
    /// From the tenant.
    pub near: Vec<u8>,
    /// From the destination.
    pub far: Vec<u8>,
}

/// A hello of TLS that may be the first in a tunnel.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Awaited {
    /// How long it may take once it has begun.
    pub time: Duration,
    /// Whether it may carry an encrypted one.
    pub may_be_encrypted: bool,
}

/// How a relay ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
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
    /// Relays until both sides end, one breaks off, or it may not go on.
    ///
    /// With `hello`, the tenant's first bytes wait until it is sure that they are no TLS for another
    /// name. What the destination says goes through meanwhile.
    pub async fn relay(&self, near: &mut TcpStream, far: &mut TcpStream, begun: Begun, hello: Option<Awaited>) -> End {
        let (mut near_read, near_write) = near.split();
        let (far_read, far_write) = far.split();
        let active = AtomicBool::new(false);
        let up = async {
            let mut first = begun.near;
            if let Some(hello) = hello {
                admit(&mut near_read, &mut first, &self.to.host, hello).await?;
            }
            self.pump(near_read, far_write, first, &active, Use::sent, |_| OUTSIDE).await.map_err(ended)
        };
        let down = async {
            let held = |far: &TcpStream| INSIDE + unread(far);
            self.pump(far_read, near_write, begun.far, &active, Use::received, held).await.map_err(ended)
        };
        let both = async {
            match tokio::try_join!(up, down) {
                Ok(_) => End::Closed,
                Err(end) => end,
            }
        };
        tokio::select! {
            end = both => end,
            () = self.revoked() => End::Revoked,
            () = self.is_idle(&active) => End::Idle,
        }
    }

    /// Ends when what is in force does not let the session through any more.
    pub async fn revoked(&self) {
        let mut changes = self.client.changes();
        loop {
            if changes.has_changed().is_err() || decide(&changes.borrow_and_update().policy, &self.to).is_err() {
                return;
            }
            if changes.changed().await.is_err() {
                return;
            }
        }
    }

    /// Ends when nothing went for the time that this may take, give or take a quarter.
    async fn is_idle(&self, active: &AtomicBool) {
        let mut quiet = 0;
        while quiet < 4 {
            sleep(self.idle / 4).await;
            quiet = if active.swap(false, Ordering::Relaxed) { 0 } else { quiet + 1 };
        }
    }

    async fn pump(
        &self,
        mut from: ReadHalf<'_>,
        mut to: WriteHalf<'_>,
        rest: Vec<u8>,
        active: &AtomicBool,
        count: fn(&Use, u64),
        held: impl Fn(&TcpStream) -> u64,
    ) -> io::Result<()> {
        count(&self.counts, rest.len() as u64);
        let waiting = Waiting::new(Arc::clone(&self.client), self.stall);
        let mut pump = Pump { rest, written: 0, is_over: false, pause: None, waiting };
        poll_fn(|cx| {
            SHARED.with_borrow_mut(|buffer| {
                let meter = |bytes| {
                    active.store(true, Ordering::Relaxed);
                    count(&self.counts, bytes);
                    let bandwidth = self.bandwidth?;
                    Some(self.client.load.bandwidth.spend(bytes, bandwidth)).filter(|wait| !wait.is_zero())
                };
                pump.poll(cx, &mut from, &mut to, buffer, meter, &held)
            })
        })
        .await
    }
}

/// One direction.
struct Pump {
    /// What the other side did not take at once, and how much of it that has taken since.
    rest: Vec<u8>,
    written: usize,
    is_over: bool,
    /// Until when the tenant's bandwidth is used up.
    pause: Option<Pin<Box<Sleep>>>,
    waiting: Waiting,
}

/// How a relay ends with an error of one direction.
fn ended(error: io::Error) -> End {
    if waiting::is_cut(&error) { End::Stalled } else { End::Broken }
}

impl Pump {
    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut ReadHalf<'_>,
        to: &mut WriteHalf<'_>,
        buffer: &mut [u8],
        meter: impl Fn(u64) -> Option<Duration>,
        held: impl Fn(&TcpStream) -> u64,
    ) -> Poll<io::Result<()>> {
        loop {
            let Poll::Ready(flushed) = self.flush(cx, to) else {
                let bytes = || self.rest.len() as u64 + held(from.as_ref());
                self.waiting.blocked(cx, bytes)?;
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

    fn write(&mut self, cx: &mut Context<'_>, to: &mut WriteHalf<'_>, bytes: &[u8]) -> io::Result<()> {
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

    fn flush(&mut self, cx: &mut Context<'_>, to: &mut WriteHalf<'_>) -> Poll<io::Result<()>> {
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

/// Reads the first bytes of a tunnel until it is sure that they are not TLS for another host.
async fn admit(from: &mut ReadHalf<'_>, first: &mut Vec<u8>, host: &Host, hello: Awaited) -> Result<(), End> {
    if first.is_empty() {
        from.readable().await.map_err(|_| End::Broken)?;
        first.reserve(1 << 10);
        if read_some(from, first).await? == 0 {
            return Ok(());
        }
    }
    if !client_hello::looks_like_tls(first) {
        return Ok(());
    }
    let mut whole = pin!(async {
        loop {
            match client_hello::parse(first).map_err(End::Refused)? {
                Some(found) => {
                    let name = found.judged_name(hello.may_be_encrypted).map_err(End::Refused)?;
                    // Nobody asks for an address by name.
                    let is_same = name.as_ref().map_or(host.name().is_none(), |name| name == host);
                    return if is_same { Ok(()) } else { Err(End::Refused(Rule::NameDiffers)) };
                }
                None if first.len() >= MAX_BYTES => return Err(End::Refused(Rule::MalformedHello)),
                None if !client_hello::looks_like_tls(first) => return Ok(()),
                None if read_some(from, first).await? == 0 => return Err(End::Broken),
                None => {}
            }
        }
    });
    timeout(hello.time, whole.as_mut()).await.unwrap_or(Err(End::Refused(Rule::TooLate)))
}

async fn read_some(from: &mut ReadHalf<'_>, bytes: &mut Vec<u8>) -> Result<usize, End> {
    from.read_buf(bytes).await.map_err(|_| End::Broken)
}
