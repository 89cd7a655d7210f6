//! An answer's body on its way: watched, and rid of keys.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use hyper::{
    HeaderMap,
    body::{Body, Bytes, Frame, SizeHint},
};
use tokio::time::{Instant, Sleep, sleep};

use super::{inject::Injection, meter::Meter, redact::Redactor, sent::Sent, upstream::Key};
use crate::proxy::{metered::Metered, revocation::Revoked, upstreams::Answered};

/// An answer's body as it comes from the upstream.
type Answer = Answered<Key, Metered<Sent>>;

/// An answer's body on its way to the caller.
pub(super) struct Received {
    body: Answer,
    redactor: Redactor,
    injection: Injection,
    meter: Option<Meter>,
    revoked: Revoked,
    quiet: Pin<Box<Sleep>>,
    idle: Duration,
    next: Next,
}

/// What comes next.
enum Next {
    /// More of the upstream's.
    Body,
    /// The trailers, and then the end.
    Trailers(HeaderMap),
    /// Nothing: why it is cut.
    Cut(&'static str),
    End,
}

/// What a body is watched with.
pub(super) struct Watch {
    /// What reads its cost, if it costs anything.
    pub meter: Option<Meter>,
    /// When it must end.
    pub revoked: Revoked,
    /// How long nothing may come.
    pub idle: Duration,
}

impl Received {
    pub(super) fn new(body: Answer, injection: Injection, watch: Watch) -> Self {
        let Watch { meter, revoked, idle } = watch;
        let redactor = Redactor::new(injection.keys.clone());
        let quiet = Box::pin(sleep(idle));
        let mut received = Self { body, redactor, injection, meter, revoked, quiet, idle, next: Next::Body };
        if received.body.is_end_stream() {
            received.end();
        }
        received
    }

    /// The upstream's body has ended well.
    fn end(&mut self) {
        self.next = Next::End;
        if let Some(meter) = self.meter.take() {
            meter.settle();
        }
    }

    /// Takes a piece, and returns what can be given out of it.
    fn take(&mut self, data: Bytes) -> Bytes {
        let over = self.meter.as_mut().and_then(|meter| meter.observe(&data)).filter(|_| !self.body.is_end_stream());
        let mut given = self.redactor.push(data);
        if let Some(why) = over {
            self.next = Next::Cut(why);
        }
        if self.body.is_end_stream() {
            self.end();
        }
        if !matches!(self.next, Next::Body) {
            given = joined(given, self.redactor.finish());
        }
        given
    }

    fn take_trailers(&mut self, mut trailers: HeaderMap) -> Bytes {
        redact_headers(&mut trailers, &self.injection);
        self.end();
        self.next = Next::Trailers(trailers);
        self.redactor.finish()
    }

    fn cut(&mut self, why: &'static str) -> Option<io::Result<Frame<Bytes>>> {
        self.next = Next::End;
        self.body.close();
        self.meter = None;
        Some(Err(io::Error::other(why)))
    }

    fn poll_upstream(&mut self, cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        if self.revoked.as_mut().poll(cx).is_ready() {
            return Poll::Ready(self.cut("the route is no more"));
        }
        loop {
            let frame = match Pin::new(&mut self.body).poll_frame(cx) {
                Poll::Ready(frame) => frame,
                Poll::Pending => {
                    ready!(self.quiet.as_mut().poll(cx));
                    return Poll::Ready(self.cut("the upstream fell silent"));
                }
            };
            let idle = self.idle;
            self.quiet.as_mut().reset(Instant::now() + idle);
            let given = match frame.map(|frame| frame.map(Frame::into_data)) {
                Some(Ok(Ok(data))) => self.take(data),
                Some(Ok(Err(frame))) => match frame.into_trailers() {
                    Ok(trailers) => self.take_trailers(trailers),
                    Err(_) => continue,
                },
                None => {
                    self.end();
                    self.redactor.finish()
                }
                Some(Err(_)) => return Poll::Ready(self.cut("the upstream broke off")),
            };
            if !given.is_empty() {
                return Poll::Ready(Some(Ok(Frame::data(given))));
            }
            if !matches!(self.next, Next::Body) {
                return Poll::Ready(self.last());
            }
        }
    }

    /// What comes after all data.
    fn last(&mut self) -> Option<io::Result<Frame<Bytes>>> {
        match std::mem::replace(&mut self.next, Next::End) {
            Next::Trailers(trailers) => Some(Ok(Frame::trailers(trailers))),
            Next::Cut(why) => self.cut(why),
            Next::Body | Next::End => None,
        }
    }
}

impl Body for Received {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        match self.next {
            Next::Body => self.poll_upstream(cx),
            _ => Poll::Ready(self.last()),
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self.next, Next::End)
    }

    fn size_hint(&self) -> SizeHint {
        // Redaction changes no length, and what is held back was counted at the beginning.
        self.body.size_hint()
    }
}

fn joined(a: Bytes, b: Bytes) -> Bytes {
    match (a.is_empty(), b.is_empty()) {
        (_, true) => a,
        (true, false) => b,
        (false, false) => Bytes::from([a, b].concat()),
    }
}

/// Masks keys in the values of headers. A header whose name holds one, or whose value would not be one
/// any more, is left out.
pub(super) fn redact_headers(headers: &mut HeaderMap, injection: &Injection) {
    let keys = &injection.keys;
    let named: Vec<_> = headers.keys().filter(|name| keys.are_in(name.as_str().as_bytes())).cloned().collect();
    for name in named {
        headers.remove(name);
    }
    for value in headers.values_mut() {
        if let Some(masked) = keys.masked(value.as_bytes()) {
            // The mask is visible ASCII, but for keys that hold all of it.
            *value = masked.try_into().unwrap_or(hyper::header::HeaderValue::from_static(""));
        }
    }
}
