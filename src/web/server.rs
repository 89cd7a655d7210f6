//! Listening, and the bounds of every connection.

use std::{
    convert::Infallible,
    future::poll_fn,
    io,
    net::{SocketAddr, TcpListener},
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use axum::{
    Router,
    extract::Request,
    http::StatusCode,
    response::{IntoResponse, Response},
};
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
    sync::Notify,
    task::JoinSet,
    time::{sleep, timeout},
};

use super::{
    request::Handle,
    routes::{self, App, Failure, Peer},
    socket::{Socket, SocketError},
};
use crate::{
    host::secret::{self, SecretError},
    metrics::Metrics,
    model::{Host, host::Secret},
};

/// How many connections a listener serves at once; further ones wait in its queue.
const CONNECTIONS: usize = 64;

/// How long the headers of a request may take, the request until its answer begins, and the connection
/// until its answer is read.
const HEADERS: Duration = Duration::from_secs(5);
const REQUEST: Duration = Duration::from_secs(10);
const CONNECTION: Duration = Duration::from_secs(30);

/// How long a client that is answered is listened to.
const LINGER: Duration = Duration::from_secs(1);

/// The longest headers, in bytes.
const MAX_HEADERS: usize = 16 << 10;

/// How long running requests are waited for at the end.
const FAREWELL: Duration = Duration::from_secs(1);

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
        /// The address.
        address: SocketAddr,
        /// What the kernel said.
        source: io::Error,
    },
    /// The token or the hook's secret cannot be read.
    #[error("cannot use {setting}")]
    Secret {
        /// The setting that points to it.
        setting: &'static str,
        /// Why.
        source: SecretError,
    },
}

/// The settings that can change while the server runs.
#[derive(Clone, Debug)]
pub struct Settings(Arc<RwLock<Secrets>>);

#[derive(Debug, PartialEq, Eq)]
struct Secrets {
    token: Option<Secret>,
    webhook: Option<Secret>,
}

impl Secrets {
    /// The secrets that the host's settings name, each of which can be read.
    fn of(host: &Host) -> Result<Self, BindError> {
        let token = host.listen.as_ref().map(|listen| listen.token.clone());
        let webhook = host.source.as_ref().and_then(|source| source.webhook_secret.clone());
        for (setting, secret) in [("the token of listen", &token), ("the webhook secret of source", &webhook)] {
            if let Some(secret) = secret {
                secret::read(secret).map_err(|source| BindError::Secret { setting, source })?;
            }
        }
        Ok(Self { token, webhook })
    }
}

impl Settings {
    /// Takes the token and the hook's secret of new settings from now on. Where the daemon listens
    /// stays as it is until it is started again.
    ///
    /// # Errors
    /// One of them cannot be read; the former ones stay in force then.
    pub fn update(&self, host: &Host) -> Result<(), BindError> {
        let secrets = Secrets::of(host)?;
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = secrets;
        Ok(())
    }

    pub(super) fn token(&self) -> Option<Secret> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).token.clone()
    }

    pub(super) fn webhook_secret(&self) -> Option<Secret> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).webhook.clone()
    }
}

/// A server that has its socket and serves nobody yet.
#[derive(Debug)]
pub struct Server {
    socket: Socket,
    loopback: Option<TcpListener>,
    settings: Settings,
}

impl Server {
    /// Listens where the host's settings say. Whoever connects waits until [`Server::run`].
    ///
    /// # Errors
    /// A daemon listens there already, an address or a group cannot be used, or a secret cannot be read.
    pub fn bind(host: &Host) -> Result<Self, BindError> {
        let settings = Settings(Arc::new(RwLock::new(Secrets::of(host)?)));
        let loopback = host.listen.as_ref().map(|listen| loopback(listen.address)).transpose()?;
        let socket = Socket::listen(&host.socket, host.socket_group.as_deref())?;
        Ok(Self { socket, loopback, settings })
    }

    /// The settings that can change while the server runs.
    pub fn settings(&self) -> Settings {
        self.settings.clone()
    }

    /// Where it listens over TCP, if anywhere. The port is the real one where port 0 was asked for.
    pub fn address(&self) -> Option<SocketAddr> {
        self.loopback.as_ref().and_then(|listener| listener.local_addr().ok())
    }

    /// Serves until `shutdown`, and then a second longer for who is being served. The socket is gone
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
        let Self { socket, loopback, settings } = self;
        let local = socket.listener()?;
        let loopback = loopback.map(tokio::net::TcpListener::from_std).transpose()?;
        let news = Arc::new(Notify::new());
        let app = App { handle: handle.clone(), metrics, settings, news: Arc::clone(&news) };
        let (on_socket, on_loopback) = (routes::on_socket(app.clone()), routes::on_loopback(app));

        let (mut users, mut clients) = (JoinSet::new(), JoinSet::new());
        let serve_users = accept(&mut users, on_socket, async || {
            let (stream, _) = local.accept().await?;
            let peer = Peer(stream.peer_cred()?.uid());
            Ok((stream, Some(peer)))
        });
        let serve_clients = async {
            match &loopback {
                Some(listener) => {
                    accept(&mut clients, on_loopback, async || Ok((listener.accept().await?.0, None))).await;
                }
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = serve_users => {}
            () = serve_clients => {}
            () = pass_on(&news, &handle) => {}
            () = shutdown => {}
        }
        drop((socket, local, loopback));
        let farewell = async {
            while users.join_next().await.is_some() {}
            while clients.join_next().await.is_some() {}
        };
        // Who has no answer by now gets none.
        let _ = timeout(FAREWELL, farewell).await;
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
async fn accept<S: AsyncRead + AsyncWrite + Send + Unpin + 'static>(
    connections: &mut JoinSet<()>,
    router: Router,
    next: impl AsyncFn() -> io::Result<(S, Option<Peer>)>,
) {
    loop {
        let is_full = connections.len() >= CONNECTIONS;
        tokio::select! {
            Some(_) = connections.join_next() => {}
            accepted = next(), if !is_full => match accepted {
                Ok((stream, peer)) => {
                    connections.spawn(serve(stream, peer, router.clone()));
                }
                Err(error) => {
                    tracing::warn!(error = &error as &dyn std::error::Error, "cannot accept a connection");
                    sleep(PAUSE).await;
                }
            },
        }
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
    let _ = timeout(LINGER, reading).await;
}

async fn in_time(answering: impl Future<Output = Result<Response, Infallible>>) -> Response {
    match timeout(REQUEST, answering).await {
        Ok(Ok(response)) => response,
        Ok(Err(never)) => match never {},
        Err(_) => Failure::new(StatusCode::REQUEST_TIMEOUT, "the request was not there in time").into_response(),
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
