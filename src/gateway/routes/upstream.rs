//! Connections to upstreams, over TLS, kept for the next request of the same tenant and route.

use std::{
    collections::BTreeMap,
    future::Future,
    io,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError, Weak},
    time::{Duration, Instant},
};

use hyper::{Request, Response, body::Incoming, client::conn::http1};
use hyper_util::rt::TokioIo;
use rustls::{
    ClientConfig, RootCertStore,
    crypto::ring,
    pki_types::{CertificateDer, ServerName, pem::PemObject},
};
use tokio::{
    net::TcpStream,
    time::{sleep, timeout},
};
use tokio_rustls::TlsConnector;

use super::sent::Sent;
use crate::{
    accounting::limits::Lease,
    client::Client,
    model::{
        TenantName,
        egress::{RouteName, Upstream},
        host::Egress,
    },
    policy::{Rule, refusal::unanswered},
    proxy::wire::{Seen, Wire},
};

/// How long connecting may take, and TLS after it.
const CONNECT: Duration = Duration::from_secs(15);
const TLS: Duration = Duration::from_secs(10);

/// How long a connection is kept that nobody uses: less than servers commonly do.
const IDLE: Duration = Duration::from_secs(20);

/// How many of one tenant's route are kept, at most; all tenants share what is kept for all.
const KEPT: usize = 8;

/// The largest head of an answer, in bytes and in lines.
const MAX_HEAD: usize = 64 << 10;
const MAX_HEADERS: usize = 100;

/// Opens a connection to a host and port for a tenant, as the gateway's decisions allow it.
pub type Connect = Arc<dyn Fn(Arc<Client>, String, u16) -> Connecting + Send + Sync>;

/// A connection that is being opened.
pub type Connecting = Pin<Box<dyn Future<Output = Result<TcpStream, Rule>> + Send>>;

/// Why upstreams cannot be trusted.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The settings of `egress.authorities` name a file that cannot be used.
    #[error("cannot read the authorities in {path}", path = path.display())]
    Authorities {
        /// The file.
        path: std::path::PathBuf,
        /// Why.
        source: rustls::pki_types::pem::Error,
    },
    /// A certificate in it is none.
    #[error("{path} holds a certificate that cannot be used", path = path.display())]
    Certificate {
        /// The file.
        path: std::path::PathBuf,
        /// Why.
        source: rustls::Error,
    },
    /// The cryptography is not there.
    #[error("cannot use TLS")]
    Provider(#[source] rustls::Error),
}

/// The TLS settings for upstreams: the host's own authorities and those of the settings. A host without
/// any has no trusted upstream.
///
/// # Errors
/// The file in the settings cannot be read, or holds something else.
pub fn tls(settings: &Egress) -> Result<ClientConfig, TlsError> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if let Some(path) = &settings.authorities {
        let unreadable = |source| TlsError::Authorities { path: path.clone(), source };
        for certificate in CertificateDer::pem_file_iter(path).map_err(unreadable)? {
            let certificate = certificate.map_err(unreadable)?;
            roots.add(certificate).map_err(|source| TlsError::Certificate { path: path.clone(), source })?;
        }
    }
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
    let builder = builder.with_safe_default_protocol_versions().map_err(TlsError::Provider)?;
    let mut config = builder.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

/// Whose connections are one another's: never another tenant's, nor another route's.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Key {
    pub tenant: TenantName,
    pub route: RouteName,
    pub upstream: Upstream,
}

type Sender = http1::SendRequest<Sent>;

struct Kept {
    sender: Sender,
    seen: Seen,
    since: Instant,
    _lease: Lease,
}

/// The connections of all tenants.
pub(super) struct Upstreams {
    connect: Connect,
    tls: TlsConnector,
    stall: Duration,
    kept: Mutex<Pool>,
}

#[derive(Default)]
struct Pool {
    kept: BTreeMap<Key, Vec<Kept>>,
    /// Whether somebody looks after them.
    watched: bool,
}

/// A connection in use. It is closed when this is dropped.
pub(super) struct Connection {
    client: Arc<Client>,
    key: Key,
    sender: Sender,
    seen: Seen,
    pool: Weak<Upstreams>,
}

/// What became of a request that could not be answered.
#[derive(Debug)]
pub(super) struct Failed {
    /// Why.
    pub rule: Rule,
    /// Whether nothing of it can have reached the upstream.
    pub unsent: bool,
}

impl Upstreams {
    /// Opens connections with `connect`. An upstream may take nothing of a request for `stall`.
    pub(super) fn new(connect: Connect, tls: ClientConfig, stall: Duration) -> Arc<Self> {
        Arc::new(Self { connect, tls: TlsConnector::from(Arc::new(tls)), stall, kept: Mutex::default() })
    }

    /// Sends a request and waits for the head of the answer.
    ///
    /// Where a kept connection turns out to be closed before anything was sent, another is taken.
    /// `begins` is called when the upstream may get to see something of it from now on.
    pub(super) async fn send(
        self: &Arc<Self>,
        client: &Arc<Client>,
        key: Key,
        mut request: Request<Sent>,
        patience: Duration,
        mut begins: impl FnMut(),
    ) -> Result<(Response<Incoming>, Connection), Failed> {
        loop {
            let kept = self.take(&key);
            let is_new = kept.is_none();
            let (mut sender, seen) = match kept {
                Some(kept) => kept,
                None => self.open(client, &key.upstream).await.map_err(|rule| Failed { rule, unsent: true })?,
            };
            begins();
            match timeout(patience, sender.try_send_request(request)).await {
                Ok(Ok(answer)) => {
                    return Ok((
                        answer,
                        Connection { client: Arc::clone(client), key, sender, seen, pool: Arc::downgrade(self) },
                    ));
                }
                Ok(Err(mut error)) => match error.take_message() {
                    Some(unsent) if !is_new => request = unsent,
                    unsent => {
                        return Err(Failed { rule: unanswered(error.error()), unsent: unsent.is_some() });
                    }
                },
                Err(_) => return Err(Failed { rule: Rule::Unreachable, unsent: false }),
            }
        }
    }

    /// A kept connection that still stands.
    fn take(&self, key: &Key) -> Option<(Sender, Seen)> {
        let mut pool = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let kept = pool.kept.get_mut(key)?;
        let found =
            std::iter::from_fn(|| kept.pop()).find(|kept| kept.sender.is_ready() && kept.since.elapsed() < IDLE);
        if kept.is_empty() {
            pool.kept.remove(key);
        }
        found.map(|kept| (kept.sender, kept.seen))
    }

    async fn open(&self, client: &Arc<Client>, upstream: &Upstream) -> Result<(Sender, Seen), Rule> {
        let connecting = (self.connect)(Arc::clone(client), upstream.host().to_owned(), upstream.port());
        let stream = timeout(CONNECT, connecting).await.map_err(|_| Rule::Unreachable)??;
        // Answers are streamed in small pieces, and requests are; a delay of either would show.
        let _ = stream.set_nodelay(true);
        let wire = Wire::new(stream, Arc::clone(client), self.stall);
        let seen = wire.seen();
        let name = ServerName::try_from(upstream.host().to_owned()).map_err(|_| Rule::Malformed)?;
        let stream = timeout(TLS, self.tls.connect(name, wire)).await;
        let stream = stream.map_err(|_| Rule::Unreachable)?.map_err(|error| untrusted(&error))?;
        let mut http = http1::Builder::new();
        http.max_headers(MAX_HEADERS).max_buf_size(MAX_HEAD);
        let (sender, connection) = http.handshake(TokioIo::new(stream)).await.map_err(|_| Rule::Unreachable)?;
        tokio::spawn(async move {
            // Whoever sent a request hears of its errors.
            let _ = connection.with_upgrades().await;
        });
        Ok((sender, seen))
    }

    fn keep(self: &Arc<Self>, Connection { client, key, sender, seen, .. }: Connection) {
        if sender.is_closed() {
            return;
        }
        let Some(lease) = client.pools.kept.take(client.name(), 1) else { return };
        let mut pool = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let kept = pool.kept.entry(key).or_default();
        if kept.len() < KEPT {
            kept.push(Kept { sender, seen, since: Instant::now(), _lease: lease });
        }
        if !std::mem::replace(&mut pool.watched, true) {
            tokio::spawn(watch(Arc::downgrade(self)));
        }
    }

    /// Closes what was kept for too long, and says whether anything is left.
    fn expire(&self) -> bool {
        let mut pool = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        pool.kept.retain(|_, kept| {
            kept.retain(|kept| kept.since.elapsed() < IDLE && !kept.sender.is_closed());
            !kept.is_empty()
        });
        pool.watched = !pool.kept.is_empty();
        pool.watched
    }
}

/// Looks after kept connections until there are none.
async fn watch(upstreams: Weak<Upstreams>) {
    loop {
        sleep(IDLE / 4).await;
        let goes_on = upstreams.upgrade().is_some_and(|upstreams| upstreams.expire());
        if !goes_on {
            return;
        }
    }
}

impl Connection {
    /// Keeps it for another request: its answer was read to the end.
    pub(super) fn keep(self) {
        if let Some(upstreams) = self.pool.upgrade() {
            upstreams.keep(self);
        }
    }

    /// What others may see of it.
    pub(super) fn seen(&self) -> Seen {
        self.seen.clone()
    }
}

/// A certificate that is not accepted is told from an upstream that does not answer.
fn untrusted(error: &io::Error) -> Rule {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    match inner {
        Some(rustls::Error::InvalidCertificate(_)) => Rule::Untrusted,
        Some(_) => Rule::NoTls,
        None => Rule::Unreachable,
    }
}
