//! Connections to destinations that speak HTTP/1, and those that are kept for the next request.

use std::{
    collections::BTreeMap,
    error::Error,
    io,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};

use hyper::{
    Request, Response,
    body::{Body, Bytes, Frame, Incoming, SizeHint},
    client::conn::http1::{Builder, SendRequest},
};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    task::JoinHandle,
    time::{sleep, timeout},
};

use super::{metered::Metered, wire::Seen};
use crate::{
    accounting::{account::Account, limits::Lease},
    policy::{Rule, refusal::unanswered},
};

/// How long a connection is kept that nobody uses: less than servers commonly do.
const IDLE: Duration = Duration::from_secs(20);

/// How many are kept for one key, at most; all tenants share what is kept for all.
const KEPT: usize = 8;

/// The smallest buffer that hyper takes, in bytes.
pub(super) const SMALLEST_BUFFER: usize = 8 << 10;

/// A connection to a destination, for one request at a time. It is closed when this is dropped.
pub struct Connection<B> {
    sender: SendRequest<B>,
    seen: Seen,
    _driver: Driver,
}

/// The task that moves a connection's bytes. It ends with this.
struct Driver(JoinHandle<()>);

impl Drop for Driver {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl<B> Connection<B>
where
    B: Body<Data: Send, Error: Into<Box<dyn Error + Send + Sync>>> + Send + 'static,
{
    /// Speaks HTTP/1 over a stream to a destination, with heads of answers of so many bytes at most. `seen` is what
    /// others may see of the stream.
    ///
    /// # Errors
    /// It broke off.
    pub async fn open(
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        seen: Seen,
        max_head: usize,
    ) -> Result<Self, Rule> {
        let handshake = Builder::new().max_buf_size(max_head.max(SMALLEST_BUFFER)).handshake(TokioIo::new(stream));
        let (sender, connection) = handshake.await.map_err(|_| Rule::Unreachable)?;
        let drive = async move {
            // Whoever sent a request hears of its errors.
            let _ = connection.with_upgrades().await;
        };
        Ok(Self { sender, seen, _driver: Driver(tokio::spawn(drive)) })
    }

    /// This connection, once the answer before was read. `None` where it is closed.
    pub async fn ready(mut self) -> Option<Self> {
        self.sender.ready().await.ok().map(|()| self)
    }

    /// What others may see of it.
    pub fn seen(&self) -> Seen {
        self.seen.clone()
    }
}

/// What became of a request that could not be answered.
#[derive(Debug)]
pub struct Failed<B> {
    /// Why.
    pub rule: Rule,
    /// The request, where nothing of it can have reached the destination.
    pub unsent: Option<Box<Request<B>>>,
}

/// Sends a request and waits for the head of the answer, for so long at most.
///
/// It goes over a connection of `kept`. Where that turns out to be closed before anything was sent, the next is taken,
/// and a new one at last. `begins` is called when the destination may get to see something of it from now on.
///
/// # Errors
/// No connection is to be had, or it brings no answer.
pub async fn exchange<B>(
    mut kept: impl FnMut() -> Option<Connection<B>>,
    open: impl Future<Output = Result<Connection<B>, Rule>>,
    mut request: Request<B>,
    request_timeout: Option<Duration>,
    mut begins: impl FnMut(),
) -> Result<(Response<Incoming>, Connection<B>), Failed<B>>
where
    B: Body<Data: Send, Error: Into<Box<dyn Error + Send + Sync>>> + Send + 'static,
{
    while let Some(connection) = kept() {
        begins();
        match send(connection, request, request_timeout).await {
            Ok(answered) => return Ok(answered),
            Err((_, Some(unsent))) => request = unsent,
            Err((rule, None)) => return Err(Failed { rule, unsent: None }),
        }
    }
    let connection = match open.await {
        Ok(connection) => connection,
        Err(rule) => return Err(Failed { rule, unsent: Some(Box::new(request)) }),
    };
    begins();
    let sent = send(connection, request, request_timeout).await;
    sent.map_err(|(rule, unsent)| Failed { rule, unsent: unsent.map(Box::new) })
}

/// Sends a request over one connection. What fails comes back with the request, where nothing of it was sent.
async fn send<B>(
    mut connection: Connection<B>,
    request: Request<B>,
    request_timeout: Option<Duration>,
) -> Result<(Response<Incoming>, Connection<B>), (Rule, Option<Request<B>>)>
where
    B: Body<Data: Send, Error: Into<Box<dyn Error + Send + Sync>>> + Send + 'static,
{
    let sending = connection.sender.try_send_request(request);
    let answered = match request_timeout {
        Some(request_timeout) => timeout(request_timeout, sending).await.map_err(|_| (Rule::Unreachable, None))?,
        None => sending.await,
    };
    match answered {
        Ok(answer) => Ok((answer, connection)),
        Err(mut error) => {
            let unsent = error.take_message();
            tracing::debug!(error = %error.error(), "a request got no answer");
            Err((unanswered(error.error()), unsent))
        }
    }
}

/// Connections that are kept for the next request to the same place on the same account.
///
/// What a key holds is never used for another one, so it holds all that identifies whose connection it is: the tenant, and
/// what it was opened for.
pub struct Upstreams<K, B>(Mutex<Pool<K, B>>);

struct Pool<K, B> {
    kept: BTreeMap<K, Vec<Kept<B>>>,
    /// Whether somebody looks after them.
    watched: bool,
}

struct Kept<B> {
    connection: Connection<B>,
    since: Instant,
    _lease: Lease,
}

/// An answer's body. When it was read to its end, the connection that it comes from is kept for another request; ends it
/// otherwise, that is closed.
pub struct Answered<K, B> {
    body: Metered<Incoming>,
    lent: Option<Lent<K, B>>,
}

/// A connection on its way back.
struct Lent<K, B> {
    pool: Weak<Upstreams<K, B>>,
    account: Arc<Account>,
    key: K,
    connection: Connection<B>,
}

impl<K: Ord + Send + 'static, B: Send + 'static> Upstreams<K, B> {
    /// None is kept yet.
    pub fn new() -> Arc<Self> {
        Arc::new(Self(Mutex::new(Pool { kept: BTreeMap::new(), watched: false })))
    }

    fn pool(&self) -> MutexGuard<'_, Pool<K, B>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A kept connection that is still open.
    pub fn take(&self, key: &K) -> Option<Connection<B>> {
        let mut pool = self.pool();
        let kept = pool.kept.get_mut(key)?;
        let is_open = |kept: &Kept<B>| kept.connection.sender.is_ready() && kept.since.elapsed() < IDLE;
        let found = std::iter::from_fn(|| kept.pop()).find(is_open);
        if kept.is_empty() {
            pool.kept.remove(key);
        }
        found.map(|kept| kept.connection)
    }

    /// Closes the kept connections whose keys are not wanted any more.
    pub fn retain(&self, is_wanted: impl Fn(&K) -> bool) {
        self.pool().kept.retain(|key, _| is_wanted(key));
    }

    /// The body of an answer that came over a connection to what `key` says.
    pub fn answered(
        self: &Arc<Self>,
        body: Metered<Incoming>,
        account: &Arc<Account>,
        key: K,
        connection: Connection<B>,
    ) -> Answered<K, B> {
        let lent = Lent { pool: Arc::downgrade(self), account: Arc::clone(account), key, connection };
        let mut answered = Answered { body, lent: Some(lent) };
        if answered.body.is_end_stream() {
            answered.end();
        }
        answered
    }

    fn keep(self: &Arc<Self>, account: &Account, key: K, connection: Connection<B>) {
        if connection.sender.is_closed() {
            return;
        }
        let Some(lease) = account.keep() else { return };
        let mut pool = self.pool();
        let kept = pool.kept.entry(key).or_default();
        if kept.len() < KEPT {
            kept.push(Kept { connection, since: Instant::now(), _lease: lease });
        }
        if !std::mem::replace(&mut pool.watched, true) {
            tokio::spawn(watch(Arc::downgrade(self)));
        }
    }

    /// Closes what was kept for too long, and says whether anything is left.
    fn expire(&self) -> bool {
        let mut pool = self.pool();
        pool.kept.retain(|_, kept| {
            kept.retain(|kept| kept.since.elapsed() < IDLE && !kept.connection.sender.is_closed());
            !kept.is_empty()
        });
        pool.watched = !pool.kept.is_empty();
        pool.watched
    }
}

/// Looks after kept connections until there are none.
async fn watch<K: Ord + Send + 'static, B: Send + 'static>(upstreams: Weak<Upstreams<K, B>>) {
    loop {
        sleep(IDLE / 4).await;
        let goes_on = upstreams.upgrade().is_some_and(|upstreams| upstreams.expire());
        if !goes_on {
            return;
        }
    }
}

impl<K, B> Answered<K, B> {
    /// Ends it before its end.
    pub fn close(&mut self) {
        self.lent = None;
    }
}

impl<K: Ord + Send + 'static, B: Send + 'static> Answered<K, B> {
    fn end(&mut self) {
        if let Some(Lent { pool, account, key, connection }) = self.lent.take()
            && let Some(pool) = pool.upgrade()
        {
            pool.keep(&account, key, connection);
        }
    }
}

// Nothing in it is ever pinned.
impl<K, B> Unpin for Answered<K, B> {}

impl<K: Ord + Send + 'static, B: Send + 'static> Body for Answered<K, B> {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        match &frame {
            Some(Err(_)) => self.close(),
            Some(Ok(frame)) if !frame.is_trailers() && !self.body.is_end_stream() => {}
            _ => self.end(),
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
