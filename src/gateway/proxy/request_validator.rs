//! A client's side of HTTP/1: what a server reads of it was judged before, byte by byte.
//!
//! Requests are read here with [`http_head`], and passed on only when they can be read in one
//! way. One that cannot be is replaced by a request that asks for its refusal.

use std::{
    io,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker, ready},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    time::{Sleep, sleep},
};

use super::{
    activity::Activity,
    answer::{DRAIN_TIMEOUT, MAX_DISCARDED},
    gathered::Gathered,
    limits::Limits,
    waiting::{Backlog, Waiting},
    wire::Seen,
};
use crate::{
    accounting::{account::Account, buffers::INSIDE},
    policy::Rule,
    protocols::http_head::{self, Body},
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
    /// Whether bytes go.
    pub activity: Activity,
    /// What became of a WebSocket that was offered.
    upgrade: Mutex<Upgrade>,
    /// Where the answer in hand comes from, and on whose account it goes if not on the connection's own.
    far: Mutex<(Seen, Option<Arc<Account>>)>,
}

/// A WebSocket on a connection.
#[derive(Debug, Default)]
enum Upgrade {
    /// None was asked for.
    #[default]
    None,
    /// One was, and whoever serves the request has not answered yet. Who reads waits for that.
    Asked(Option<Waker>),
    /// The answer was 101.
    Agreed,
    /// It was another one.
    Declined,
}

impl Watched {
    /// Why the last request that was passed on is refused, and its beginning.
    pub fn refused(&self) -> Option<(Rule, Vec<u8>)> {
        self.refused.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether the request that is being served offers a WebSocket. To be asked as [`Self::refused`]
    /// is: before anything else of the connection is read.
    pub fn is_upgrade_asked(&self) -> bool {
        matches!(*self.upgrade(), Upgrade::Asked(_))
    }

    /// Takes note how an offer of a WebSocket was answered. Without 101 nothing is read of the
    /// connection any more: what follows is of that protocol or of nothing, and never a request.
    pub fn answered(&self, agreed: bool) {
        let next = if agreed { Upgrade::Agreed } else { Upgrade::Declined };
        if let Upgrade::Asked(Some(reader)) = std::mem::replace(&mut *self.upgrade(), next) {
            reader.wake();
        }
    }

    /// Takes note of where the answer in hand comes from, and of the account that what waits of it is on.
    pub fn reads_from(&self, far: Seen, account: Option<Arc<Account>>) {
        *self.far() = (far, account);
    }

    /// The socket that the answer in hand comes from, while it is open.
    fn source(&self) -> Option<Arc<TcpStream>> {
        self.far().0.stream()
    }

    /// On whose account an answer in hand goes, if not on the connection's own.
    fn account(&self) -> Option<Arc<Account>> {
        self.far().1.clone()
    }

    fn far(&self) -> MutexGuard<'_, (Seen, Option<Arc<Account>>)> {
        self.far.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn upgrade(&self) -> MutexGuard<'_, Upgrade> {
        self.upgrade.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A connection of a client.
#[derive(Debug)]
pub struct RequestValidator<S> {
    stream: S,
    waiting: Waiting,
    account: Arc<Account>,
    bandwidth: Option<u64>,
    max_head: usize,
    watched: Arc<Watched>,
    /// What was read and not passed on, and how much of it is judged.
    held: Gathered,
    judged: usize,
    state: ParserState,
    pause: Option<Pin<Box<Sleep>>>,
    /// Until when a client that was answered may go on sending, once nothing more is written to it.
    drain: Option<Pin<Box<Sleep>>>,
}

#[derive(Debug)]
enum ParserState {
    /// So much of a head was looked at.
    Head(usize),
    Body(Body),
    /// A WebSocket was offered: nothing is passed on until that is answered.
    Asked,
    /// Frames follow.
    Raw,
    /// Nothing more is passed on. So many bytes were thrown away.
    Over(usize),
}

/// Whether bytes of a client wait for an answer to it.
enum Waits {
    /// More may be read.
    Not,
    /// No more may be read.
    Full,
    /// It was answered meanwhile.
    Over,
}

impl<S> RequestValidator<S> {
    /// A connection of which `held` was read already.
    pub fn new(stream: S, held: Gathered, account: Arc<Account>, limits: &Limits, watched: Arc<Watched>) -> Self {
        let held = held.and(PIECE);
        Self {
            stream,
            waiting: Waiting::new(Arc::clone(&account), limits.stall),
            account,
            bandwidth: limits.bandwidth,
            max_head: limits.head,
            watched,
            held,
            judged: 0,
            state: ParserState::Head(0),
            pause: None,
            drain: None,
        }
    }

    /// The connection, and what was read of it and not passed on.
    pub fn into_parts(mut self) -> (S, Vec<u8>) {
        (self.stream, std::mem::take(self.held.bytes()))
    }

    /// Judges what is held, as far as it can be.
    fn judge(&mut self) -> io::Result<()> {
        if matches!(self.state, ParserState::Asked) {
            match &*self.watched.upgrade() {
                Upgrade::Agreed => self.state = ParserState::Raw,
                Upgrade::Declined => self.state = ParserState::Over(0),
                Upgrade::None | Upgrade::Asked(_) => {}
            }
        }
        while self.judged < self.held.as_ref().len() {
            let fresh = self.held.as_ref().get(self.judged..).unwrap_or_default();
            match &mut self.state {
                ParserState::Asked => return Ok(()),
                ParserState::Raw => self.judged = self.held.as_ref().len(),
                ParserState::Over(_) => {
                    self.held.bytes().truncate(self.judged);
                    return Ok(());
                }
                ParserState::Body(body) => {
                    self.judged += body.advance(fresh).map_err(|_| io::Error::from(io::ErrorKind::InvalidData))?;
                    if body.is_over() {
                        self.state = ParserState::Head(0);
                    }
                }
                // Who serves the request before must have begun with it before the next is judged.
                ParserState::Head(_) if self.judged > 0 => return Ok(()),
                // What stands alone between two requests is passed over, as RFC 9112 has it.
                ParserState::Head(0) if fresh.starts_with(b"\r\n") => {
                    self.held.consume(2);
                }
                ParserState::Head(0) if fresh == b"\r" => return Ok(()),
                ParserState::Head(looked_at) => {
                    let found = http_head::end(fresh, *looked_at);
                    *looked_at = fresh.len();
                    match found {
                        Ok(None) if fresh.len() > self.max_head => self.refuse(Rule::HeadTooLarge),
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
        let bytes = self.held.as_ref().get(self.judged..self.judged + length).unwrap_or_default();
        if length > self.max_head {
            return self.refuse(Rule::HeadTooLarge);
        }
        match http_head::parse(bytes) {
            // A tunnel is asked for with a connection's first request alone.
            Ok(head) if head.method == "CONNECT" => self.refuse(Rule::LateTunnel),
            Ok(head) if head.target.parse::<hyper::Uri>().is_err() => self.refuse(Rule::MalformedRequest),
            Ok(head) => {
                self.judged += length;
                if head.upgrade {
                    *self.watched.upgrade() = Upgrade::Asked(None);
                    self.state = ParserState::Asked;
                    return;
                }
                let body = Body::new(head.framing);
                self.state = if body.is_over() { ParserState::Head(0) } else { ParserState::Body(body) };
            }
            Err(rule) => self.refuse(rule),
        }
    }

    fn refuse(&mut self, rule: Rule) {
        let asked = self.held.as_ref().get(self.judged..).unwrap_or_default();
        let line = asked.split(|b| matches!(b, b'\r' | b'\n')).next().unwrap_or_default().to_vec();
        let held = self.held.bytes();
        held.truncate(self.judged);
        held.extend_from_slice(REPLACED);
        self.judged = held.len();
        *self.watched.refused.lock().unwrap_or_else(PoisonError::into_inner) = Some((rule, line));
        self.state = ParserState::Over(0);
    }

    /// What follows an offer of a WebSocket waits until that is answered. Of it no more is read than
    /// shows whether the client is still there.
    fn waits(&self, cx: &Context<'_>) -> Waits {
        if !matches!(self.state, ParserState::Asked) {
            return Waits::Not;
        }
        match &mut *self.watched.upgrade() {
            Upgrade::Asked(reader) => *reader = Some(cx.waker().clone()),
            _ => return Waits::Over,
        }
        if self.held.as_ref().len() < PIECE { Waits::Not } else { Waits::Full }
    }

    fn spent(&mut self, bytes: usize) {
        self.watched.activity.note();
        if let Some(bandwidth) = self.bandwidth {
            let wait = self.account.load.bandwidth.spend(bytes as u64, bandwidth);
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

impl<S: AsyncRead + Unpin> AsyncRead for RequestValidator<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, to: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let validator = self.get_mut();
        loop {
            validator.judge()?;
            if validator.judged > 0 {
                let length = validator.judged.min(to.remaining());
                to.put_slice(validator.held.as_ref().get(..length).unwrap_or_default());
                validator.held.consume(length);
                validator.judged -= length;
                return Poll::Ready(Ok(()));
            }
            ready!(validator.paused(cx));
            match validator.waits(cx) {
                Waits::Not => {}
                Waits::Full => return Poll::Pending,
                Waits::Over => continue,
            }
            let mut piece = [0; PIECE];
            let mut read = ReadBuf::new(&mut piece);
            ready!(Pin::new(&mut validator.stream).poll_read(cx, &mut read))?;
            let read = read.filled();
            if let ParserState::Over(discarded) = &mut validator.state {
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
            let length = read.len();
            match validator.held.add(&validator.account, read) {
                true => {}
                false if matches!(validator.state, ParserState::Head(_)) => validator.refuse(Rule::OverLimit),
                false => return Poll::Ready(Err(io::ErrorKind::OutOfMemory.into())),
            }
            validator.spent(length);
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for RequestValidator<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let validator = self.get_mut();
        ready!(validator.paused(cx));
        let Poll::Ready(written) = Pin::new(&mut validator.stream).poll_write(cx, bytes) else {
            validator.waiting.charge(validator.watched.account().unwrap_or_else(|| Arc::clone(&validator.account)));
            let source = validator.watched.source();
            validator.waiting.blocked(cx, Backlog { bytes: INSIDE, source: source.as_deref() })?;
            return Poll::Pending;
        };
        let written = written?;
        validator.waiting.taken();
        validator.spent(written);
        Poll::Ready(Ok(written))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let validator = self.get_mut();
        // Whoever flushes has written all; more may wait behind that.
        if validator.waiting.is_waiting() {
            let source = validator.watched.source();
            if (Backlog { bytes: 0, source: source.as_deref() }).memory() == 0 {
                validator.waiting.drained();
            }
        }
        Pin::new(&mut validator.stream).poll_flush(cx)
    }

    /// Who was answered before it had sent all is read from until it ends, or for a moment: to close with bytes unread
    /// would take the answer back.
    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let validator = self.get_mut();
        if validator.drain.is_none() {
            ready!(Pin::new(&mut validator.stream).poll_shutdown(cx))?;
            if !matches!(validator.state, ParserState::Body(_) | ParserState::Over(_)) {
                return Poll::Ready(Ok(()));
            }
        }
        let drain = validator.drain.get_or_insert_with(|| Box::pin(sleep(DRAIN_TIMEOUT)));
        let mut piece = [0; PIECE];
        while drain.as_mut().poll(cx).is_pending() {
            let mut read = ReadBuf::new(&mut piece);
            // One that breaks off has what it wanted.
            if ready!(Pin::new(&mut validator.stream).poll_read(cx, &mut read)).is_err() || read.filled().is_empty() {
                break;
            }
        }
        Poll::Ready(Ok(()))
    }
}
