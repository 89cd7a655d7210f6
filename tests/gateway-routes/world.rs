//! An upstream that plays a script, a gateway that serves routes alone, and a tenant that speaks to it.

use std::{
    collections::BTreeMap,
    future::Future,
    net::SocketAddr,
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use http_body_util::{BodyExt, Full};
use hyper::{Request, Response, body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use tempfile::TempDir;
use tenantd::{
    gateway::{
        Client, InForce, Pools,
        accounting::{
            ledger::{self, Ledger},
            usage::Usage,
        },
        proxy::server::Answer,
        routes::{self, Connect, Routes},
    },
    model::{
        EgressPolicy,
        egress::{Budget, Inject, POLICY_VERSION, Route},
        host::Egress,
    },
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::watch,
    time::{sleep, timeout},
};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        ServerConfig,
        crypto::ring,
        pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer},
    },
};

pub const SECRET: &str = "s3cret-k3y/with+odd=chars";

/// What a test waits for at most.
pub const TIMEOUT: Duration = Duration::from_secs(20);

/// What an upstream does with a request.
#[derive(Clone, Debug)]
pub enum Piece {
    Write(Vec<u8>),
    Pause(u64),
    Close,
    /// Sends back whatever comes, until the end.
    Echo,
    /// Reads until the end, then says this, and ends.
    AtEnd(Vec<u8>),
}

pub fn text(text: &str) -> Vec<Piece> {
    vec![Piece::Write(text.as_bytes().to_vec())]
}

pub fn answer(head: &str, body: &str) -> Vec<Piece> {
    text(&format!("HTTP/1.1 {head}\r\nContent-Length: {}\r\n\r\n{body}", body.len()))
}

/// A request as it came.
#[derive(Clone, Debug)]
pub struct Seen {
    pub connection: usize,
    pub head: String,
    pub body: Vec<u8>,
}

impl Seen {
    /// The values of a header, in order.
    pub fn header(&self, name: &str) -> Vec<&str> {
        let lines = self.head.lines().skip(1).filter_map(|line| line.split_once(':'));
        lines.filter(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim()).collect()
    }

    pub fn line(&self) -> &str {
        self.head.lines().next().unwrap()
    }
}

pub type Script = Arc<dyn Fn(&Seen) -> Vec<Piece> + Send + Sync>;

/// Everything of one test.
pub struct World {
    /// Where the ledger lies, for as long as the test runs.
    _folder: TempDir,
    pub gateway: SocketAddr,
    pub seen: Arc<Mutex<Vec<Seen>>>,
    pub in_force: watch::Sender<Arc<InForce>>,
    pub ledger: Ledger,
}

/// Runs a test with an upstream named api.example.com.
pub fn run<F: Future<Output = ()>>(
    settings: impl FnOnce(&mut Egress, &mut Vec<Route>),
    script: impl Fn(&Seen) -> Vec<Piece> + Send + Sync + 'static,
    test: impl FnOnce(World) -> F,
) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let world = World::start(settings, Arc::new(script)).await;
        timeout(3 * TIMEOUT, test(world)).await.unwrap();
    });
    runtime.shutdown_timeout(Duration::from_secs(1));
}

pub fn header_route(upstream: &str) -> Route {
    let value = "Bearer ${secret:acme/crm}".parse().unwrap();
    let inject = Inject::Header { name: "authorization".to_owned(), value };
    Route { name: "crm".parse().unwrap(), upstream: upstream.parse().unwrap(), inject, cost: None }
}

pub fn policy(tenant: &str, routes: &[Route], budget: Budget) -> EgressPolicy {
    let subnet = "10.77.0.0/28".parse().unwrap();
    let (tenant, routes) = (tenant.parse().unwrap(), routes.to_vec());
    let address = Some([10, 77, 0, 14].into());
    EgressPolicy { v: POLICY_VERSION, tenant, subnet, address, allow: Default::default(), routes, budget }
}

pub fn in_force(routes: &[Route], secret: &str) -> Arc<InForce> {
    let secrets = BTreeMap::from([("acme/crm".parse().unwrap(), secret.to_owned())]);
    Arc::new(InForce { policy: policy("ant", routes, Budget::default()), secrets })
}

impl World {
    async fn start(change: impl FnOnce(&mut Egress, &mut Vec<Route>), script: Script) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let authorities = folder.path().join("ca.pem");
        let tls = certificates(&authorities, "api.example.com");
        let seen: Arc<Mutex<Vec<Seen>>> = Arc::default();
        let upstream = upstream(tls, script, Arc::clone(&seen)).await;

        let mut settings = Egress {
            authorities: Some(authorities),
            state: folder.path().join("state"),
            policies: folder.path().join("egress"),
            ..Egress::default()
        };
        let mut list = vec![header_route("https://api.example.com/v1")];
        change(&mut settings, &mut list);
        let connect: Connect = Arc::new(move |_, host, port| {
            Box::pin(async move {
                assert!(host.ends_with(".example.com") && port == 443, "{host}:{port}");
                TcpStream::connect(upstream).await.map_err(|_| tenantd::gateway::Rule::Unreachable)
            })
        });
        let usage = Usage::default();
        let ledger = Ledger::open(&ledger::folder(&settings.state)).unwrap();
        let routes =
            Arc::new(Routes::new(&settings, routes::tls(&settings).unwrap(), connect, usage.clone(), ledger.clone()));
        let (in_force, watched) = watch::channel(in_force(&list, SECRET));
        let client = Arc::new(Client::new("ant".parse().unwrap(), watched, Arc::new(Pools::new(1 << 16))));
        let gateway = gateway(Arc::clone(&routes), client).await;
        Self { _folder: folder, gateway, seen, in_force, ledger }
    }

    /// What the upstream saw.
    pub fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    /// Sends a request as it is written here, and reads the answer until the connection ends.
    pub async fn call(&self, request: &str) -> String {
        let mut stream = self.open(request).await;
        let mut bytes = Vec::new();
        // A body that is cut ends with an error or without one.
        let _ = timeout(TIMEOUT, stream.read_to_end(&mut bytes)).await.unwrap();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Asks for a path, with further headers.
    pub async fn get(&self, path: &str, headers: &str) -> String {
        self.call(&format!("GET {path} HTTP/1.1\r\nHost: gateway.internal\r\nConnection: close\r\n{headers}\r\n")).await
    }

    pub async fn open(&self, request: &str) -> TcpStream {
        let mut stream = TcpStream::connect(self.gateway).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        stream
    }
}

/// Reads until the text is there, and returns everything that was read.
pub async fn read_until(stream: &mut (impl AsyncReadExt + Unpin), wanted: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    while !bytes.windows(wanted.len()).any(|window| window == wanted) {
        let read = timeout(TIMEOUT, stream.read_buf(&mut bytes)).await;
        let read = read.unwrap_or_else(|_| panic!("only {:?} came", String::from_utf8_lossy(&bytes))).unwrap();
        assert!(read > 0, "it ended after {:?}", String::from_utf8_lossy(&bytes));
    }
    bytes
}

fn certificates(authorities: &Path, name: &str) -> ServerConfig {
    let mut ca = CertificateParams::new(Vec::new()).unwrap();
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca_key = KeyPair::generate().unwrap();
    std::fs::write(authorities, ca.self_signed(&ca_key).unwrap().pem()).unwrap();
    let issuer = Issuer::new(ca, ca_key);
    let key = KeyPair::generate().unwrap();
    let leaf = CertificateParams::new(vec![name.to_owned()]).unwrap().signed_by(&key, &issuer).unwrap();
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![leaf.der().clone()], key)
        .unwrap()
}

async fn upstream(tls: ServerConfig, script: Script, seen: Arc<Mutex<Vec<Seen>>>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(tls));
    let connections = AtomicUsize::new(0);
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let connection = connections.fetch_add(1, Ordering::Relaxed);
            let (acceptor, script, seen) = (acceptor.clone(), Arc::clone(&script), Arc::clone(&seen));
            tokio::spawn(async move {
                if let Ok(stream) = acceptor.accept(stream).await {
                    // What the gateway breaks off ends here with an error.
                    let _ = play(stream, connection, &script, &seen).await;
                }
            });
        }
    });
    address
}

async fn play(
    mut stream: tokio_rustls::server::TlsStream<TcpStream>,
    connection: usize,
    script: &Script,
    log: &Mutex<Vec<Seen>>,
) -> std::io::Result<()> {
    let mut buffer = Vec::new();
    while let Some(seen) = request(&mut stream, &mut buffer, connection).await? {
        log.lock().unwrap().push(seen.clone());
        for piece in script(&seen) {
            match piece {
                Piece::Write(bytes) => {
                    stream.write_all(&bytes).await?;
                    stream.flush().await?;
                }
                Piece::Pause(millis) => sleep(Duration::from_millis(millis)).await,
                Piece::Close => return stream.shutdown().await,
                Piece::Echo => {
                    let (mut reader, mut writer) = tokio::io::split(stream);
                    return tokio::io::copy(&mut reader, &mut writer).await.map(drop);
                }
                Piece::AtEnd(bytes) => {
                    stream.read_to_end(&mut buffer).await?;
                    stream.write_all(&bytes).await?;
                    return stream.shutdown().await;
                }
            }
        }
    }
    Ok(())
}

async fn request(
    stream: &mut (impl AsyncReadExt + Unpin),
    buffer: &mut Vec<u8>,
    connection: usize,
) -> std::io::Result<Option<Seen>> {
    let end = loop {
        if let Some(at) = buffer.windows(4).position(|window| window == b"\r\n\r\n") {
            break at + 4;
        }
        if stream.read_buf(buffer).await? == 0 {
            return Ok(None);
        }
    };
    let head = String::from_utf8(buffer.drain(..end).collect()).unwrap();
    let mut seen = Seen { connection, head, body: Vec::new() };
    let length = seen.header("content-length").first().map_or(0, |length| length.parse().unwrap());
    let chunked = seen.header("transfer-encoding") == ["chunked"];
    loop {
        let is_whole = if chunked { buffer.ends_with(b"0\r\n\r\n") } else { buffer.len() >= length };
        if is_whole {
            let end = if chunked { buffer.len() } else { length };
            seen.body = buffer.drain(..end).collect();
            return Ok(Some(seen));
        }
        if stream.read_buf(buffer).await? == 0 {
            return Ok(None);
        }
    }
}

async fn gateway(routes: Arc<Routes>, client: Arc<Client>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let (routes, client) = (Arc::clone(&routes), Arc::clone(&client));
            let service = service_fn(move |request: Request<Incoming>| {
                let (routes, client) = (Arc::clone(&routes), Arc::clone(&client));
                async move {
                    Ok::<_, std::convert::Infallible>(match routes.serve(client, request).await {
                        Ok(Answer { response, relay, .. }) => {
                            relay.map(tokio::spawn);
                            response
                        }
                        Err(refusal) => {
                            let body = Full::from(format!("{refusal}\n"));
                            let mut answer = Response::new(body.map_err(|never| match never {}).boxed_unsync());
                            *answer.status_mut() = tenantd::gateway::status(refusal.rule);
                            answer
                        }
                    })
                }
            });
            tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service).with_upgrades());
        }
    });
    address
}
