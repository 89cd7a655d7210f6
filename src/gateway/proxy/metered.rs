//! Bodies whose bytes are counted as they go.

use std::{
    error::Error,
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use hyper::body::{Body, Bytes, Frame, SizeHint};

use crate::accounting::usage::Use;

/// A body that is counted as it goes.
pub struct Metered<B> {
    body: B,
    counts: Arc<Use>,
    count: fn(&Use, u64),
}

impl<B> Metered<B> {
    /// A request's body, on its way to a destination.
    pub fn sent(body: B, counts: Arc<Use>) -> Self {
        Self { body, counts, count: Use::sent }
    }

    /// An answer's body, as it comes from a destination.
    pub fn received(body: B, counts: Arc<Use>) -> Self {
        Self { body, counts, count: Use::received }
    }
}

impl<B: Body<Data = Bytes, Error: Into<Box<dyn Error + Send + Sync>>> + Unpin> Body for Metered<B> {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        if let Some(data) = frame.as_ref().and_then(|frame| frame.as_ref().ok()?.data_ref()) {
            (self.count)(&self.counts, data.len() as u64);
        }
        Poll::Ready(frame.map(|frame| frame.map_err(io::Error::other)))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
