//! Connections to upstreams, over TLS.

use std::{error::Error, io, pin::Pin, sync::Arc, time::Duration};

use hyper::body::Body;
use rustls::{
    ClientConfig, RootCertStore,
    crypto::ring,
    pki_types::{CertificateDer, ServerName, pem::PemObject},
};
use tokio::{net::TcpStream, time::timeout};
use tokio_rustls::TlsConnector;

use crate::{
    client::Client,
    model::{
        TenantName,
        egress::{RouteName, Upstream},
        host::Egress,
    },
    policy::Rule,
    proxy::{upstreams::Connection, wire::Wire},
};

/// How long connecting may take, and TLS after it.
const CONNECT: Duration = Duration::from_secs(15);
const TLS: Duration = Duration::from_secs(10);

/// The largest head of an answer, in bytes.
const MAX_HEAD: usize = 64 << 10;

/// Opens a connection to a host and port for a tenant, as the gateway's decisions allow it.
pub type Connect = Arc<dyn Fn(Arc<Client>, String, u16) -> Connecting + Send + Sync>;

/// A connection that is being opened.
pub type Connecting = Pin<Box<dyn Future<Output = Result<TcpStream, Rule>> + Send>>;

/// Why upstreams cannot be trusted.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The settings of `egress.caBundle` name a file that cannot be used.
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

/// Opens connections to upstreams.
pub(super) struct Connector {
    connect: Connect,
    tls: TlsConnector,
    stall: Duration,
}

impl Connector {
    /// Opens connections with `connect`. An upstream may take nothing of a request for `stall`.
    pub(super) fn new(connect: Connect, tls: ClientConfig, stall: Duration) -> Self {
        Self { connect, tls: TlsConnector::from(Arc::new(tls)), stall }
    }

    /// Opens one to an upstream, over TLS.
    ///
    /// # Errors
    /// It does not answer, or is not trusted.
    pub(super) async fn open<B>(&self, client: &Arc<Client>, upstream: &Upstream) -> Result<Connection<B>, Rule>
    where
        B: Body<Data: Send, Error: Into<Box<dyn Error + Send + Sync>>> + Send + 'static,
    {
        let connecting = (self.connect)(Arc::clone(client), upstream.host().to_owned(), upstream.port());
        let stream = timeout(CONNECT, connecting).await.map_err(|_| Rule::Unreachable)??;
        // Answers are streamed in small pieces, and requests are; a delay of either would show.
        let _ = stream.set_nodelay(true);
        let wire = Wire::new(stream, Arc::clone(&client.account), self.stall);
        let seen = wire.seen();
        let name = ServerName::try_from(upstream.host().to_owned()).map_err(|_| Rule::Malformed)?;
        let stream = timeout(TLS, self.tls.connect(name, wire)).await;
        let stream = stream.map_err(|_| Rule::Unreachable)?.map_err(|error| untrusted(&error))?;
        Connection::open(stream, seen, MAX_HEAD).await
    }
}

/// A certificate that is not accepted is distinguished from an upstream that does not answer.
fn untrusted(error: &io::Error) -> Rule {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    match inner {
        Some(rustls::Error::InvalidCertificate(_)) => Rule::Untrusted,
        Some(_) => Rule::NoTls,
        None => Rule::Unreachable,
    }
}
