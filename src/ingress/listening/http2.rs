//! HTTP/2 with a client: a bounded number of requests at a time, none of them a WebSocket.

use std::{
    convert::Infallible,
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
};

use hyper::{Request, body::Incoming, rt::Executor, server::conn::http2, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::sleep,
};

use crate::{
    gateway::{
        accounting::{account::Account, buffers},
        proxy::{activity::Activity, limits::Limits, server::Service},
    },
    in_flight::Cut,
};

/// How many requests a client may have in hand on one connection.
const STREAMS: u32 = 128;

/// What is received of one request, and of a connection, before somebody reads it, in bytes.
const STREAM_WINDOW: u32 = 64 << 10;
const CONNECTION_WINDOW: u32 = 256 << 10;

/// What waits to be sent on one request, in bytes.
const SEND_BUFFER: usize = 64 << 10;

tokio::task_local! {
    /// Resets the stream that a task serves.
    static RESET: Arc<Cut>;
}

/// Serves each stream on a task of its own, which ends when the stream is to be reset, whatever hyper waits for.
#[derive(Clone, Copy)]
struct Streams;

impl<F: Future<Output: Send> + Send + 'static> Executor<F> for Streams {
    fn execute(&self, stream: F) {
        let reset = Arc::new(Cut::default());
        let watched = Arc::clone(&reset);
        tokio::spawn(RESET.scope(reset, async move {
            tokio::select! {
                _ = stream => {}
                () = watched.wait() => {}
            }
        }));
    }
}

/// A stream of which is known whether bytes go over it.
struct Watched<S> {
    stream: S,
    activity: Arc<Activity>,
}

/// Serves a connection until it ends, on the account of those who are not known yet. It is closed when no request came in the
/// time of a head, or when nothing goes over it for too long, whatever is in hand. A request carries a [`Cut`] that resets its
/// stream.
pub async fn serve(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    account: &Account,
    limits: Limits,
    service: Arc<impl Service>,
) {
    // What comes of bodies and is not taken by tenants is on their accounts, at the connections there.
    let Some(_buffers) = account.memory(buffers::HTTP) else { return };
    let has_begun = Arc::new(AtomicBool::new(false));
    let answers = {
        let (service, has_begun) = (Arc::clone(&service), Arc::clone(&has_begun));
        service_fn(move |mut request: Request<Incoming>| {
            has_begun.store(true, Ordering::Relaxed);
            let service = Arc::clone(&service);
            async move {
                request.extensions_mut().insert(RESET.with(Arc::clone));
                Ok::<_, Infallible>(service.answer(request).await.response)
            }
        })
    };
    let mut builder = http2::Builder::new(Streams);
    builder
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS)
        .max_header_list_size(u32::try_from(limits.head).unwrap_or(u32::MAX))
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_send_buf_size(SEND_BUFFER)
        .auto_date_header(false);
    let activity = Arc::new(Activity::default());
    let stream = Watched { stream, activity: Arc::clone(&activity) };
    let begins_late = async {
        sleep(limits.head_time).await;
        if has_begun.load(Ordering::Relaxed) {
            std::future::pending::<()>().await;
        }
    };
    tokio::select! {
        // What goes wrong here is the client's affair, who is told by hyper.
        _ = builder.serve_connection(TokioIo::new(stream), answers) => {}
        () = service.revoked() => {}
        () = begins_late => {}
        () = activity.idle(limits.idle) => {}
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, to: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let read = Pin::new(&mut self.stream).poll_read(cx, to);
        if read.is_ready() {
            self.activity.note();
        }
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        if written.is_ready() {
            self.activity.note();
        }
        written
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
