//! A request's body on its way to the upstream.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, ready},
};

use hyper::body::{Body, Bytes, Frame, Incoming, SizeHint};

/// A request's body on its way to the upstream. Trailers stay behind.
pub(super) struct Sent {
    /// What was read already.
    read: Option<Bytes>,
    rest: Incoming,
    left: u64,
    too_long: Arc<AtomicBool>,
}

impl Sent {
    /// At most `limit` bytes of a body, of which some were read.
    pub(super) fn new(read: Bytes, rest: Incoming, limit: u64) -> Self {
        let read = (!read.is_empty()).then_some(read);
        Self { read, rest, left: limit, too_long: Arc::default() }
    }

    /// Turns true when the body turns out to be too long.
    pub(super) fn too_long(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.too_long)
    }

    fn pass(&mut self, data: Bytes) -> io::Result<Frame<Bytes>> {
        let length = data.len() as u64;
        match self.left.checked_sub(length) {
            Some(left) => {
                self.left = left;
                Ok(Frame::data(data))
            }
            None => {
                self.too_long.store(true, Ordering::Relaxed);
                Err(io::Error::other("the body is too long"))
            }
        }
    }
}

impl Body for Sent {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        if let Some(data) = self.read.take() {
            return Poll::Ready(Some(self.pass(data)));
        }
        loop {
            return Poll::Ready(match ready!(Pin::new(&mut self.rest).poll_frame(cx)) {
                None => None,
                Some(Err(_)) => Some(Err(io::Error::other("the caller broke off"))),
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => Some(self.pass(data)),
                    Err(_trailers) => continue,
                },
            });
        }
    }

    fn is_end_stream(&self) -> bool {
        self.read.is_none() && self.rest.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let read = self.read.as_ref().map_or(0, |data| data.len() as u64);
        match self.rest.size_hint().exact() {
            Some(rest) => SizeHint::with_exact(rest.saturating_add(read)),
            None => SizeHint::default(),
        }
    }
}
