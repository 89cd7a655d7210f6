//! HTTP over the socket: what a call meets on its way to the state and back.

use std::convert::Infallible;
use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use http_body_util::BodyExt as _;
use hyper::body::{Body, Bytes, Frame, Incoming, SizeHint};
use hyper::{Request, Response, header};
use hyper_util::rt::TokioIo;
use tokio::net::UnixListener;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::sync::watch;

use crate::faults::{Call, Faults, Verdict, When};
use crate::routes::{self, Answer};
use crate::state::State;

/// What the server and the tests share.
pub(crate) struct Shared {
    state: Mutex<State>,
    traffic: Mutex<Traffic>,
    /// Moves when calls that wait should look again.
    pub wake: watch::Sender<()>,
}

/// What passes over the socket.
#[derive(Default)]
pub(crate) struct Traffic {
    pub faults: Faults,
    pub calls: Vec<Call>,
    /// Calls that have no answer yet, and the most of them that there were at once.
    pub open: u64,
    pub most_open: u64,
    /// Connections that neither side has ended.
    pub connections: usize,
}

/// A connection that neither side has ended.
struct Connected(Arc<Shared>);

impl Connected {
    fn new(shared: &Arc<Shared>) -> Self {
        shared.traffic().connections += 1;
        Self(Arc::clone(shared))
    }
}

impl Drop for Connected {
    fn drop(&mut self) {
        self.0.traffic().connections -= 1;
    }
}

/// A call that has no answer yet.
struct Open(Arc<Shared>);

impl Open {
    fn new(shared: &Arc<Shared>) -> Self {
        let mut traffic = shared.traffic();
        traffic.open += 1;
        traffic.most_open = traffic.most_open.max(traffic.open);
        Self(Arc::clone(shared))
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.traffic().open -= 1;
    }
}

impl Shared {
    pub fn new(state: State) -> Self {
        Self { state: Mutex::new(state), traffic: Mutex::default(), wake: watch::Sender::new(()) }
    }

    /// The state. A test that panicked while it held it does not take the engine down.
    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn traffic(&self) -> MutexGuard<'_, Traffic> {
        self.traffic.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The connection ends without an answer.
#[derive(Debug)]
struct Cut;

impl fmt::Display for Cut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the connection is cut")
    }
}

impl std::error::Error for Cut {}

/// Serves connections until the future is dropped.
pub(crate) async fn serve(listener: UnixListener, shared: Arc<Shared>) {
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            continue;
        };
        let shared = Arc::clone(&shared);
        let connected = Connected::new(&shared);
        tokio::spawn(async move {
            let _connected = connected;
            let service = hyper::service::service_fn(move |request| answer(Arc::clone(&shared), request));
            let connection = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service);
            // An error here is a connection that was cut, by either side.
            let _ = connection.await;
        });
    }
}

async fn answer(shared: Arc<Shared>, request: Request<Incoming>) -> Result<Response<ReplyBody>, Cut> {
    let (head, body) = request.into_parts();
    let target = head.uri.path_and_query().map_or("/", |target| target.as_str());
    let call = Call::new(head.method.as_str(), target);
    let body = body.collect().await.map_err(|_| Cut)?.to_bytes();
    let _open = Open::new(&shared);
    let verdict = {
        let mut traffic = shared.traffic();
        traffic.calls.push(call.clone());
        traffic.faults.admit(&call)
    };
    if verdict.cut.is_some() {
        let mut state = shared.state();
        if verdict.cut == Some(When::AfterEffect) {
            routes::route(&mut state, &call, &body);
        }
        state.events.hang_up();
        return Err(Cut);
    }
    let (delay, server, api) = {
        let options = &shared.state().options;
        let server = format!("Docker/{} (linux)", options.version["Version"].as_str().unwrap_or_default());
        (options.latency + verdict.delay, server, options.api_version().to_owned())
    };
    let quick = delay.is_zero() && !verdict.hang && verdict.fail.is_none();
    let mut answer = if quick { routes::route(&mut shared.state(), &call, &body) } else { Answer::Stuck };
    if matches!(answer, Answer::Stuck) {
        // On a task of its own, for a call takes effect even when its client has gone.
        let task = tokio::spawn(perform(shared, call, body, verdict, delay));
        answer = task.await.map_err(|_| Cut)?;
    }
    let reply = Response::builder()
        .header("Api-Version", api)
        .header("Docker-Experimental", "false")
        .header("Ostype", "linux")
        .header(header::SERVER, server);
    let json = "application/json";
    let (status, kind, body) = match answer {
        Answer::Json(status, text) => (status, Some(json), ReplyBody::Full(Some(text.into()))),
        Answer::Empty(status) => (status, None, ReplyBody::Full(None)),
        Answer::Text { status, kind, body } => (status, Some(kind), ReplyBody::Full(Some(body.into()))),
        Answer::Stream(lines) => (200, Some(json), ReplyBody::Lines(lines)),
        Answer::Stuck => unreachable!("perform waits until there is an answer"),
    };
    let reply = kind
        .map(|kind| (header::CONTENT_TYPE, kind))
        .into_iter()
        .fold(reply, |reply, (key, value)| reply.header(key, value));
    Ok(reply.status(status).body(body).expect("the headers are plain text"))
}

/// A call that takes its time.
async fn perform(shared: Arc<Shared>, call: Call, body: Bytes, verdict: Verdict, delay: Duration) -> Answer {
    if !delay.is_zero() {
        tokio::time::sleep(delay).await;
    }
    if let Some((status, message)) = verdict.fail {
        return routes::error(status, &message);
    }
    let mut wake = shared.wake.subscribe();
    loop {
        if !shared.traffic().faults.hangs(&call) {
            let answer = routes::route(&mut shared.state(), &call, &body);
            if !matches!(answer, Answer::Stuck) {
                // Others may have waited for this one.
                shared.wake.send_replace(());
                return answer;
            }
        }
        // The sender lives as long as `shared`.
        let _ = wake.changed().await;
    }
}

/// An answer's body: in one piece, or line by line.
enum ReplyBody {
    Full(Option<Bytes>),
    Lines(UnboundedReceiver<Bytes>),
}

impl Body for ReplyBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let data = match self.get_mut() {
            Self::Full(data) => Poll::Ready(data.take()),
            Self::Lines(lines) => lines.poll_recv(context),
        };
        data.map(|data| data.map(|data| Ok(Frame::data(data))))
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Self::Full(None))
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Full(data) => SizeHint::with_exact(data.as_ref().map_or(0, |data| data.len() as u64)),
            Self::Lines(_) => SizeHint::default(),
        }
    }
}
