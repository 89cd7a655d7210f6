//! One connection to the engine, which bounds what it reads for a call.
//!
//! bollard takes answers from hyper alone and reads them whole: the bound cannot be on their bodies.

use std::{
    error::Error,
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll, ready},
};

use bollard::BollardRequest;
use futures_util::Stream;
use http_body_util::{Either, Full, StreamBody};
use hyper::{
    Response,
    body::{Bytes, Frame, Incoming},
    client::conn::http1::{self, SendRequest},
};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, ReadBuf, join},
    net::UnixStream,
};

/// What bollard's requests carry.
type Body = Either<Full<Bytes>, StreamBody<Pin<Box<dyn Stream<Item = io::Result<Frame<Bytes>>> + Send>>>>;

/// A connection that serves one call at a time.
pub(super) struct Connection {
    sender: SendRequest<Body>,
    /// How many bytes may still be read.
    left: Arc<AtomicUsize>,
}

/// Speaks HTTP on a stream to the engine.
pub(super) async fn open(stream: UnixStream) -> hyper::Result<Connection> {
    let (reader, writer) = stream.into_split();
    let left = Arc::new(AtomicUsize::new(0));
    let bounded = Bounded { reader, left: Arc::clone(&left) };
    let (sender, connection) = http1::handshake(TokioIo::new(join(bounded, writer))).await?;
    // Its end shows on the next use of the sender.
    tokio::spawn(connection);
    Ok(Connection { sender, left })
}

impl Connection {
    /// Sets how many bytes may be read from now on.
    pub(super) fn allow(&self, bytes: usize) {
        self.left.store(bytes, Ordering::Relaxed);
    }

    pub(super) async fn send(&mut self, request: BollardRequest) -> hyper::Result<Response<Incoming>> {
        self.sender.send_request(request).await
    }

    /// Waits until its answer was read; `false` where it ended.
    pub(super) async fn ready(&mut self) -> bool {
        self.sender.ready().await.is_ok()
    }

    pub(super) fn is_ready(&self) -> bool {
        self.sender.is_ready()
    }

    pub(super) fn is_closed(&self) -> bool {
        self.sender.is_closed()
    }
}

/// Whether an answer was longer than was allowed.
pub(super) fn is_too_long(error: &hyper::Error) -> bool {
    let cause = error.source().and_then(|cause| cause.downcast_ref::<io::Error>());
    cause.and_then(io::Error::get_ref).is_some_and(|cause| cause.is::<TooLong>())
}

/// More was sent than may be read.
#[derive(Debug, thiserror::Error)]
#[error("the answer is too long")]
struct TooLong;

/// A reader that fails once more was sent than may be read.
struct Bounded<R> {
    reader: R,
    left: Arc<AtomicUsize>,
}

impl<R: AsyncRead + Unpin> AsyncRead for Bounded<R> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.reader).poll_read(cx, buffer))?;
        let read = buffer.filled().len() - before;
        let left = self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(read));
        Poll::Ready(left.map(drop).map_err(|_| io::Error::other(TooLong)))
    }
}
