//! What stands in the world: servers that note who came to which address.

use std::{
    collections::BTreeMap,
    io::{Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    sync::{Arc, Mutex},
    thread,
    time::Duration,
};

use rustls::{
    ClientConfig, ServerConfig, ServerConnection, StreamOwned,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};

use crate::{
    namespaces::authority::Authority,
    net::{read_until, within},
};

/// How often each address and port was connected to.
#[derive(Clone, Default)]
pub struct Arrivals(Arc<Mutex<BTreeMap<SocketAddr, usize>>>);

impl Arrivals {
    pub fn at(&self, address: [u8; 4], port: u16) -> usize {
        let key = SocketAddr::from((address, port));
        self.0.lock().unwrap().get(&key).copied().unwrap_or(0)
    }

    fn note(&self, stream: &TcpStream) {
        *self.0.lock().unwrap().entry(stream.local_addr().unwrap()).or_default() += 1;
    }
}

/// Serves a port of all addresses of a namespace.
pub fn serve(namespace: &str, port: u16, arrivals: &Arrivals, serve: impl Fn(TcpStream) + Send + Sync + 'static) {
    let listener = within(namespace, || TcpListener::bind((Ipv4Addr::UNSPECIFIED, port))).unwrap();
    let (arrivals, serve) = (arrivals.clone(), Arc::new(serve));
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            arrivals.note(&stream);
            let serve = Arc::clone(&serve);
            thread::Builder::new().stack_size(256 << 10).spawn(move || serve(stream)).unwrap();
        }
    });
}

/// Sends back whatever comes, after a greeting.
pub fn echo(mut stream: TcpStream, greeting: &[u8]) {
    if stream.write_all(greeting).is_err() {
        return;
    }
    let mut piece = vec![0; 64 << 10];
    while let Ok(length @ 1..) = stream.read(&mut piece) {
        if stream.write_all(&piece[..length]).is_err() {
            return;
        }
    }
    // What comes after the end of what was sent shows that one side can end before the other.
    let _ = stream.write_all(b"[end]");
}

/// Sends without end.
pub fn pour(mut stream: TcpStream) {
    let piece = vec![b'x'; 64 << 10];
    while stream.write_all(&piece).is_ok() {}
}

/// Answers each request with the request itself. `/trailers` gets an answer in chunks with a trailer,
/// `/slow` one that never ends, `/pour` one that never ends and comes as fast as it can, and an offer of a WebSocket is agreed to, but
/// for `/no`; what is said then is an echo.
pub fn http(mut stream: TcpStream) {
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    loop {
        let head = read_until(&mut stream, "\r\n\r\n");
        if !head.ends_with("\r\n\r\n") {
            return;
        }
        let lower = head.to_ascii_lowercase();
        if lower.contains("\r\nupgrade: websocket\r\n") && !head.starts_with("GET /no ") {
            stream.write_all(b"HTTP/1.1 101 Go on\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n").unwrap();
            return echo(stream, b"");
        }
        let mut body = Vec::new();
        if let Some(length) = lower.split("\r\ncontent-length: ").nth(1) {
            body = vec![0; length.split("\r\n").next().unwrap().parse().unwrap()];
            if stream.read_exact(&mut body).is_err() {
                return;
            }
        } else if lower.contains("\r\ntransfer-encoding: chunked\r\n") {
            body = read_until(&mut stream, "0\r\n").into_bytes();
            body.extend(read_until(&mut stream, "\r\n").into_bytes());
            while !body.ends_with(b"\r\n\r\n") {
                body.extend(read_until(&mut stream, "\r\n").into_bytes());
            }
        }
        let answered = if head.starts_with("GET /trailers ") {
            stream.write_all(
                b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: sum\r\n\r\n2\r\nhi\r\n0\r\nsum: 42\r\n\r\n",
            )
        } else if head.starts_with("GET /pour ") {
            stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").unwrap();
            return pour(stream);
        } else if head.starts_with("GET /slow ") {
            let begun = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: 1\n\n");
            while stream.write_all(b"data: 2\n\n").is_ok() {
                thread::sleep(Duration::from_millis(20));
            }
            begun
        } else {
            let body = [head.as_bytes(), &body].concat();
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nX-Server: world\r\n\r\n", body.len());
            stream.write_all(&[head.as_bytes(), &body].concat())
        };
        if answered.is_err() {
            return;
        }
    }
}

/// An authority, and a server and a client that trust each other by it.
pub struct Tls {
    pub server: Arc<ServerConfig>,
    pub client: Arc<ClientConfig>,
    /// The authority's certificate, as PEM.
    pub authorities: String,
}

impl Tls {
    /// For these names.
    pub fn new(names: &[&str]) -> Self {
        let authority = Authority::new();
        let (certificate, key) = authority.certify(names);
        let chain = vec![CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap()];
        let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
        let server = ServerConfig::builder_with_provider(rustls::crypto::ring::default_provider().into())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .unwrap();
        Self { server: Arc::new(server), client: Arc::new(authority.client(&[])), authorities: authority.pem }
    }
}

/// Agrees to a WebSocket over TLS, and sends back whatever comes.
pub fn websocket(stream: TcpStream, config: &Arc<ServerConfig>) {
    let connection = ServerConnection::new(Arc::clone(config)).unwrap();
    let mut stream = StreamOwned::new(connection, stream);
    let agreed = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
    if !read_until(&mut stream, "\r\n\r\n").ends_with("\r\n\r\n") || stream.write_all(agreed).is_err() {
        return;
    }
    let mut piece = [0; 1024];
    while let Ok(length @ 1..) = stream.read(&mut piece) {
        if stream.write_all(&piece[..length]).is_err() {
            return;
        }
    }
}

/// Answers each request over TLS with its head.
pub fn https(stream: TcpStream, config: &Arc<ServerConfig>) {
    let connection = ServerConnection::new(Arc::clone(config)).unwrap();
    let mut stream = StreamOwned::new(connection, stream);
    loop {
        let head = read_until(&mut stream, "\r\n\r\n");
        let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{head}", head.len());
        if !head.ends_with("\r\n\r\n") || stream.write_all(answer.as_bytes()).is_err() {
            return;
        }
    }
}

/// Sends back each line that comes over TLS.
pub fn tls(stream: TcpStream, config: &Arc<ServerConfig>) {
    let connection = ServerConnection::new(Arc::clone(config)).unwrap();
    let mut stream = StreamOwned::new(connection, stream);
    loop {
        let line = read_until(&mut stream, "\n");
        if line.is_empty() || stream.write_all(format!("over TLS: {line}").as_bytes()).is_err() {
            return;
        }
    }
}
