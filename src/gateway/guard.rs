//! A client's side of HTTP/1: what a server reads of it was judged before, byte by byte.
//!
//! Requests are read here with [`head`](super::head), and passed on only when they can be read in one
//! way. One that cannot be is replaced by a request that asks for its refusal.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, ready},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    time::{Sleep, sleep},
};

use super::{
    Client, Rule,
    answer::MAX_DISCARDED,
    head::{self, Body},
};

/// How much is read at once, in bytes.
const PIECE: usize = 16 << 10;

/// What a server reads in place of a head that is refused.
const REPLACED: &[u8] = b"GET / HTTP/1.1\r\nHost: gateway.internal\r\n\r\n";

/// What a connection and those who serve it both know.
#[derive(Debug, Default)]
pub struct Watched {
    /// Why the request that is being served is refused, if it is, and what it asked for.
    refused: Mutex<Option<(Rule, Vec<u8>)>>,
    /// Whether bytes went since this was last looked at.
    pub active: AtomicBool,
}

impl Watched {
    /// Why the last request that was passed on is refused, and its beginning.
    pub fn refused(&self) -> Option<(Rule, Vec<u8>)> {
        self.refused.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// A connection of a client.
#[derive(Debug)]
pub struct Guard {
    stream: TcpStream,
    client: Arc<Client>,
    bandwidth: Option<u64>,
    max_head: usize,
    watched: Arc<Watched>,
    /// What was read and not passed on, and how much of it is judged.
    held: Vec<u8>,
    judged: usize,
    state: State,
    pause: Option<Pin<Box<Sleep>>>,
}

#[derive(Debug)]
enum State {
    /// So much of a head was looked at.
    Head(usize),
    Body(Body),
    /// Another protocol follows, or nothing that is read.
    Raw,
    /// Nothing more is passed on. So many bytes were thrown away.
    Over(usize),
}

impl Guard {
    /// A connection of which `held` was read already.
    pub fn new(
        stream: TcpStream,
        held: Vec<u8>,
        client: Arc<Client>,
        bandwidth: Option<u64>,
        max_head: usize,
        watched: Arc<Watched>,
    ) -> Self {
        Self { stream, client, bandwidth, max_head, watched, held, judged: 0, state: State::Head(0), pause: None }
    }

    /// The connection, and what was read of it and not passed on.
    pub fn into_parts(self) -> (TcpStream, Vec<u8>) {
        (self.stream, self.held)
    }

    /// Judges what is held, as far as it can be.
    fn judge(&mut self) -> io::Result<()> {
        while self.judged < self.held.len() {
            let fresh = self.held.get(self.judged..).unwrap_or_default();
            match &mut self.state {
                State::Raw => self.judged = self.held.len(),
                State::Over(_) => {
                    self.held.truncate(self.judged);
                    return Ok(());
                }
                State::Body(body) => {
                    self.judged += body.advance(fresh).map_err(|_| io::Error::from(io::ErrorKind::InvalidData))?;
                    if body.is_over() {
                        self.state = State::Head(0);
                    }
                }
                // Who serves the request before must have begun with it before the next is judged.
                State::Head(_) if self.judged > 0 => return Ok(()),
                // What stands alone between two requests is passed over, as RFC 9112 has it.
                State::Head(0) if fresh.starts_with(b"\r\n") => {
                    self.held.drain(..2);
                }
                State::Head(0) if fresh == b"\r" => return Ok(()),
                State::Head(looked_at) => {
                    let found = head::end(fresh, *looked_at);
                    *looked_at = fresh.len();
                    match found {
                        Ok(None) if fresh.len() > self.max_head => self.refuse(Rule::OverLimit),
                        Ok(None) => return Ok(()),
                        Ok(Some(length)) => self.judge_head(length),
                        Err(rule) => self.refuse(rule),
                    }
                }
            }
        }
        Ok(())
    }

    fn judge_head(&mut self, length: usize) {
        let bytes = self.held.get(self.judged..self.judged + length).unwrap_or_default();
        if length > self.max_head {
            return self.refuse(Rule::OverLimit);
        }
        match head::parse(bytes) {
            // A tunnel is asked for with a connection's first request alone.
            Ok(head) if head.method == "CONNECT" => self.refuse(Rule::UnknownProtocol),
            Ok(head) if head.target.parse::<hyper::Uri>().is_err() => self.refuse(Rule::Malformed),
            Ok(head) => {
                self.judged += length;
                self.state = if head.upgrade { State::Raw } else { State::Body(Body::new(head.framing)) };
                if let State::Body(body) = &self.state
                    && body.is_over()
                {
                    self.state = State::Head(0);
                }
            }
            Err(rule) => self.refuse(rule),
        }
    }

    fn refuse(&mut self, rule: Rule) {
        let asked = self.held.split_off(self.judged);
        let line = asked.split(|b| matches!(b, b'\r' | b'\n')).next().unwrap_or_default().to_vec();
        *self.watched.refused.lock().unwrap_or_else(PoisonError::into_inner) = Some((rule, line));
        self.held.extend_from_slice(REPLACED);
        self.judged = self.held.len();
        self.state = State::Over(0);
    }

    fn spent(&mut self, bytes: usize) {
        self.watched.active.store(true, Ordering::Relaxed);
        if let Some(bandwidth) = self.bandwidth {
            let wait = self.client.load.bandwidth.spend(bytes as u64, bandwidth);
            self.pause = Some(wait).filter(|wait| !wait.is_zero()).map(|wait| Box::pin(sleep(wait)));
        }
    }

    fn paused(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if let Some(pause) = &mut self.pause {
            ready!(pause.as_mut().poll(cx));
            self.pause = None;
        }
        Poll::Ready(())
    }
}

impl AsyncRead for Guard {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, to: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let guard = self.get_mut();
        loop {
            guard.judge()?;
            if guard.judged > 0 {
                let length = guard.judged.min(to.remaining());
                to.put_slice(guard.held.get(..length).unwrap_or_default());
                guard.held.drain(..length);
                guard.judged -= length;
                return Poll::Ready(Ok(()));
            }
            ready!(guard.paused(cx));
            let mut piece = [0; PIECE];
            let mut read = ReadBuf::new(&mut piece);
            ready!(Pin::new(&mut guard.stream).poll_read(cx, &mut read))?;
            let read = read.filled();
            if let State::Over(discarded) = &mut guard.state {
                *discarded += read.len();
                // The refusal is written and the connection closed. To leave bytes unread would take it back.
                if read.is_empty() || *discarded > MAX_DISCARDED {
                    return Poll::Pending;
                }
                continue;
            }
            if read.is_empty() {
                return Poll::Ready(Ok(()));
            }
            guard.held.extend_from_slice(read);
            guard.spent(read.len());
        }
    }
}

impl AsyncWrite for Guard {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let guard = self.get_mut();
        ready!(guard.paused(cx));
        let written = ready!(Pin::new(&mut guard.stream).poll_write(cx, bytes))?;
        guard.spent(written);
        Poll::Ready(Ok(written))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}
