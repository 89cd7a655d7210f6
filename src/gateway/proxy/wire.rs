//! A connection to a destination, of which others can see how much was received and not read.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    sync::{Arc, Weak},
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};

use super::waiting::{Backlog, Waiting};
use crate::accounting::{
    account::Account,
    buffers::{OUTSIDE, UNSENT},
};

/// A connection to a destination.
#[derive(Debug)]
pub struct Wire {
    stream: Arc<TcpStream>,
    waiting: Waiting,
}

/// What is seen of a connection by those who do not have it.
#[derive(Clone, Debug, Default)]
pub struct Seen(Weak<TcpStream>);

impl Seen {
    /// Its socket, while it is open.
    pub fn stream(&self) -> Option<Arc<TcpStream>> {
        self.0.upgrade()
    }
}

/// Bounds what a socket takes that it cannot send yet.
pub fn bound(stream: &TcpStream) -> io::Result<()> {
    socket2::SockRef::from(stream).set_tcp_notsent_lowat(UNSENT)
}

impl Wire {
    /// A connection on this account, whose far side may take nothing for so long.
    pub fn new(stream: TcpStream, account: Arc<Account>, stall: Duration) -> Self {
        Self { stream: Arc::new(stream), waiting: Waiting::new(account, stall) }
    }

    /// What others may see of it.
    pub fn seen(&self) -> Seen {
        Seen(Arc::downgrade(&self.stream))
    }

    /// The connection itself.
    pub fn into_inner(self) -> Option<TcpStream> {
        Arc::into_inner(self.stream)
    }

    fn poll_try_write(
        &mut self,
        cx: &mut Context<'_>,
        write: impl Fn(&TcpStream) -> io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        loop {
            if self.stream.poll_write_ready(cx)?.is_pending() {
                self.waiting.blocked(cx, Backlog { bytes: OUTSIDE, source: None })?;
                return Poll::Pending;
            }
            match write(&self.stream) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                written => {
                    self.waiting.taken();
                    return Poll::Ready(written);
                }
            }
        }
    }
}

impl AsyncRead for Wire {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, to: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let wire = self.get_mut();
        loop {
            ready!(wire.stream.poll_read_ready(cx))?;
            match wire.stream.try_read_buf(to) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                read => return Poll::Ready(read.map(drop)),
            }
        }
    }
}

impl AsyncWrite for Wire {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.get_mut().poll_try_write(cx, |stream| stream.try_write(bytes))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.get_mut().poll_try_write(cx, |stream| stream.try_write_vectored(pieces))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        // Whoever flushes has written all.
        self.get_mut().waiting.drained();
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        let shut = rustix::net::shutdown(&self.stream, rustix::net::Shutdown::Write);
        Poll::Ready(shut.or_else(|error| if error == rustix::io::Errno::NOTCONN { Ok(()) } else { Err(error.into()) }))
    }
}
