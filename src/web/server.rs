//! Listening, and the bounds of every connection.

use std::{
    collections::{BTreeMap, btree_map::Entry},
    convert::Infallible,
    future::poll_fn,
    io,
    net::{SocketAddr, TcpListener},
    sync::Arc,
    time::Duration,
};

use axum::{
    Router,
    extract::Request,
    response::{IntoResponse, Response},
};
use futures_util::future::join_all;
use hyper::{
    body::Incoming,
    server::conn::http1,
    service::{Service, service_fn},
};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt},
    sync::{Notify, Semaphore},
    task::JoinSet,
    time::{sleep, timeout},
};

use super::{
    peers::{self, PeerSocket},
    refusal::{Refusal, RefusalKind},
    request::Handle,
    routes::{self, App, Peer},
    settings::{Settings, SettingsError},
    socket::SocketError,
};
use crate::{metrics::Metrics, model::Host};

/// How many connections are served at once, of one user and over TCP; further ones wait.
const CONNECTIONS: usize = 64;

/// How many connections of one user, and of all but root, are kept at once; further ones are refused.
const KEPT_OF_ONE: usize = 256;
const KEPT: usize = 512;

/// How many connections a user may have all the same while others have all there are, within twice as many in all.
const SURE: usize = 8;

/// How many connections are answered at once that they are refused; others end without a word.
const REFUSING: usize = 64;

/// How long the headers of a request may take, the request until its answer begins, and the connection
/// until its answer is read.
const HEADERS: Duration = Duration::from_secs(5);
const REQUEST: Duration = Duration::from_secs(10);
const CONNECTION: Duration = Duration::from_secs(30);

/// How long a client that is answered is listened to.
const CLIENT_DRAIN_TIMEOUT: Duration = Duration::from_secs(1);

/// The longest headers, in bytes.
const MAX_HEADERS: usize = 16 << 10;

/// How long running requests are waited for at the end.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(1);

/// How often the source is asked for news at most, whoever calls the hook.
const NEWS: Duration = Duration::from_secs(1);

/// How long is waited where a connection cannot be accepted, as without a free descriptor.
const PAUSE: Duration = Duration::from_millis(100);

/// Why the daemon cannot be reached.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// The unix socket cannot be had.
    #[error(transparent)]
    Socket(#[from] SocketError),
    /// The address can be reached from elsewhere.
    #[error("{0} is not a loopback address")]
    NotLoopback(SocketAddr),
    /// The address cannot be listened on.
    #[error("cannot listen on {address}")]
    Listen {
        /// Where it was to listen.
        address: SocketAddr,
        /// What the kernel said.
        source: io::Error,
    },
    /// The token or the hook's secret cannot be read.
    #[error(transparent)]
    Settings(#[from] SettingsError),
}

/// A server that has its socket and serves nobody yet.
#[derive(Debug)]
pub struct Server {
    /// One for each kind of peer.
    sockets: Vec<PeerSocket>,
    loopback: Option<TcpListener>,
    settings: Settings,
}

impl Server {
    /// Listens where the host's settings say. Whoever connects waits until [`Server::run`].
    ///
    /// # Errors
    /// A daemon listens there already, an address or a group cannot be used, or a secret cannot be read.
    pub fn bind(host: &Host) -> Result<Self, BindError> {
        let settings = Settings::of(host)?;
        let loopback = host.listen.as_ref().map(|listen| loopback(listen.address)).transpose()?;
        let sockets = peers::sockets(host)?;
        Ok(Self { sockets, loopback, settings })
    }

    /// The settings that can change while the server runs.
    pub fn settings(&self) -> Settings {
        self.settings.clone()
    }

    /// Where it listens over TCP, if anywhere. The port is the real one where port 0 was asked for.
    pub fn address(&self) -> Option<SocketAddr> {
        self.loopback.as_ref().and_then(|listener| listener.local_addr().ok())
    }

    /// Serves until `shutdown`, and then a second longer for who is being served. The sockets are gone
    /// when it returns.
    ///
    /// # Errors
    /// The event loop does not take the listeners.
    pub async fn run(
        self,
        handle: Handle,
        metrics: Metrics,
        shutdown: impl Future<Output = ()>,
    ) -> Result<(), io::Error> {
        let Self { sockets, loopback, settings } = self;
        let local = sockets.iter().map(|one| one.socket.listener()).collect::<io::Result<Vec<_>>>()?;
        let loopback = loopback.map(tokio::net::TcpListener::from_std).transpose()?;
        let news = Arc::new(Notify::new());
        let app = App { handle: handle.clone(), metrics, settings, rates: Arc::default(), news: Arc::clone(&news) };

        let mut users: Vec<JoinSet<_>> = sockets.iter().map(|_| JoinSet::new()).collect();
        let mut clients = JoinSet::new();
        let serve_users = join_all(users.iter_mut().zip(&sockets).zip(&local).map(|((users, one), listener)| {
            let router = (one.router)(app.clone(), one.admitted);
            accept_users(users, router, listener)
        }));
        let serve_clients = async {
            match &loopback {
                Some(listener) => accept(&mut clients, routes::on_loopback(app.clone()), listener).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = serve_users => {}
            () = serve_clients => {}
            () = pass_on(&news, &handle) => {}
            () = shutdown => {}
        }
        drop((sockets, local, loopback));
        let drain = async {
            for users in &mut users {
                while users.join_next().await.is_some() {}
            }
            while clients.join_next().await.is_some() {}
        };
        // Who has no answer by now gets none.
        let _ = timeout(DRAIN_TIMEOUT, drain).await;
        Ok(())
    }
}

fn loopback(address: SocketAddr) -> Result<TcpListener, BindError> {
    if !address.ip().is_loopback() {
        return Err(BindError::NotLoopback(address));
    }
    let listener = TcpListener::bind(address).and_then(|listener| {
        listener.set_nonblocking(true)?;
        Ok(listener)
    });
    listener.map_err(|source| BindError::Listen { address, source })
}

/// Accepts for ever, as many connections at once as are allowed.
async fn accept(connections: &mut JoinSet<()>, router: Router, listener: &tokio::net::TcpListener) {
    loop {
        let is_full = connections.len() >= CONNECTIONS;
        tokio::select! {
            Some(_) = connections.join_next() => {}
            accepted = listener.accept(), if !is_full => match accepted {
                Ok((stream, _)) => drop(connections.spawn(serve(stream, None, router.clone()))),
                Err(error) => cannot_accept(&error).await,
            },
        }
    }
}

/// Accepts the users of one socket for ever. Nobody's connections keep another's from being accepted and served.
async fn accept_users(connections: &mut JoinSet<Option<u32>>, router: Router, listener: &tokio::net::UnixListener) {
    let mut places = Places::default();
    loop {
        tokio::select! {
            Some(ended) = connections.join_next() => places.free(ended.ok().flatten()),
            accepted = listener.accept() => match accepted.and_then(|(stream, _)| {
                let user = stream.peer_cred()?.uid();
                Ok((stream, user))
            }) {
                Ok((stream, user)) => match places.take(user) {
                    Some(turns) => {
                        let router = router.clone();
                        connections.spawn(async move {
                            // Those of one user are served in the order in which they came.
                            let _turn = turns.acquire_owned().await;
                            serve(stream, Some(Peer(user)), router).await;
                            Some(user)
                        });
                    }
                    None if connections.len() < places.kept + REFUSING => {
                        connections.spawn(async move {
                            refuse(stream).await;
                            None
                        });
                    }
                    None => {}
                },
                Err(error) => cannot_accept(&error).await,
            },
        }
    }
}

/// The connections that are kept of each user.
#[derive(Default)]
struct Places {
    kept: usize,
    of: BTreeMap<u32, (usize, Arc<Semaphore>)>,
}

impl Places {
    /// A place for one more connection of a user, and the turns of that user's connections; `None` where there are
    /// too many.
    fn take(&mut self, user: u32) -> Option<Arc<Semaphore>> {
        let own = self.of.get(&user).map_or(0, |(kept, _)| *kept);
        let is_full = self.kept >= 2 * KEPT || (self.kept >= KEPT && own >= SURE);
        if is_full && user != 0 {
            return None;
        }
        let (kept, turns) = self.of.entry(user).or_insert_with(|| (0, Arc::new(Semaphore::new(CONNECTIONS))));
        if *kept >= KEPT_OF_ONE {
            return None;
        }
        *kept += 1;
        self.kept += 1;
        Some(Arc::clone(turns))
    }

    /// A connection has ended, if it had a place.
    fn free(&mut self, user: Option<u32>) {
        let Some(user) = user else { return };
        self.kept = self.kept.saturating_sub(1);
        if let Entry::Occupied(mut place) = self.of.entry(user) {
            let kept = &mut place.get_mut().0;
            *kept = kept.saturating_sub(1);
            if *kept == 0 {
                place.remove();
            }
        }
    }
}

async fn cannot_accept(error: &io::Error) {
    tracing::warn!(error = error as &dyn std::error::Error, "cannot accept a connection");
    sleep(PAUSE).await;
}

/// Says that there are too many connections, whatever is asked.
async fn refuse(mut stream: tokio::net::UnixStream) {
    let answer = Refusal::too_many_connections().to_http();
    if let Ok(Ok(())) = timeout(CLIENT_DRAIN_TIMEOUT, stream.write_all(answer.as_bytes())).await {
        part(stream).await;
    }
}

/// Serves one request and closes the connection.
async fn serve<S: AsyncRead + AsyncWrite + Unpin>(stream: S, peer: Option<Peer>, router: Router) {
    let service = TowerToHyperService::new(router);
    let answer = service_fn(move |mut request: Request<Incoming>| {
        if let Some(peer) = peer {
            request.extensions_mut().insert(peer);
        }
        let answering = service.call(request);
        Box::pin(async move { Ok::<_, Infallible>(in_time(answering).await) })
    });
    let mut connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADERS)
        .max_buf_size(MAX_HEADERS)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), answer);
    // What goes wrong on a connection is the client's affair: it sees no answer.
    if timeout(CONNECTION, poll_fn(|context| connection.poll_without_shutdown(context))).await.is_ok() {
        part(connection.into_parts().io.into_inner()).await;
    }
}

/// Closes a connection whose answer is sent. What the client still sends is read for a moment: the
/// kernel takes the answer back where a connection is closed with something unread.
async fn part(mut stream: impl AsyncRead + AsyncWrite + Unpin) {
    let reading = async {
        stream.shutdown().await?;
        tokio::io::copy(&mut stream, &mut tokio::io::sink()).await
    };
    let _ = timeout(CLIENT_DRAIN_TIMEOUT, reading).await;
}

async fn in_time(answering: impl Future<Output = Result<Response, Infallible>>) -> Response {
    match timeout(REQUEST, answering).await {
        Ok(Ok(response)) => response,
        Ok(Err(never)) => match never {},
        Err(_) => Refusal::new(RefusalKind::TimedOut, "the request was not there in time").into_response(),
    }
}

/// Passes calls of the hook on, those that come close together as one.
async fn pass_on(news: &Notify, handle: &Handle) {
    loop {
        news.notified().await;
        handle.fetch().await;
        sleep(NEWS).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_has_no_connection_gets_one_whatever_others_hold() {
        let mut places = Places::default();
        let users = [1, 2, 3];
        for user in users {
            while places.take(user).is_some() {}
        }
        let held: Vec<usize> = users.iter().map(|user| places.of[user].0).collect();
        assert_eq!(held, [KEPT_OF_ONE, KEPT_OF_ONE, SURE]);
        // All that there can be is bounded for everybody but root.
        for user in 4..1000 {
            while places.take(user).is_some() {}
        }
        assert_eq!(places.kept, 2 * KEPT);
        assert!(places.take(1000).is_none() && places.take(0).is_some());
        places.free(Some(0));
        places.free(Some(3));
        assert!(places.take(3).is_some(), "what ends makes room");
    }
}
