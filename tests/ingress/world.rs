//! Ingresses, the daemon that each hears, and tenants with apps.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::{Read, Write},
    net::{Ipv4Addr, TcpListener, TcpStream},
    os::unix::net::UnixStream,
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::{
        Arc, Mutex, OnceLock,
        atomic::{AtomicU16, AtomicU32, Ordering},
    },
    thread,
    time::{Duration, SystemTime},
};

use rustls::{ClientConnection, StreamOwned, pki_types::ServerName};
use tenantd::model::{
    Access, Power, Token, TokenId,
    ingress::{Expose, Reachable, StateContent},
    token::{Right, SigningKey},
};

use crate::{
    app,
    namespaces::authority::Authority,
    net::{connect, eventually, ip, read_all, read_answer, within},
    peer::Peer,
};

pub const DOMAIN: &str = "agents.example.com";

/// The port that tenants expose.
pub const PORT: u16 = 8080;

/// The namespace in which the networks of all tenants end.
const TENANTS: &str = "tenants";

/// Over TLS.
pub type TlsClient = StreamOwned<ClientConnection, TcpStream>;

pub struct World {
    pub authority: Authority,
    /// Serves in the clear, with the limits that are the defaults.
    pub ingress: Ingress,
    /// Serves over TLS, with the same.
    pub tls: Ingress,
}

/// The world, made when it is first asked for.
pub fn world() -> &'static World {
    static WORLD: OnceLock<World> = OnceLock::new();
    WORLD.get_or_init(|| {
        ip(&format!("netns add {TENANTS}"));
        // As the gateway has it: what a socket may receive that nobody reads.
        within(TENANTS, || fs::write("/proc/sys/net/ipv4/tcp_rmem", "4096 131072 524288")).unwrap();
        let authority = Authority::new();
        let tls = Ingress::start_with("tls", "", "", Some(&authority));
        World { authority, ingress: Ingress::start_with("main", "", "", None), tls }
    })
}

/// What signs the tokens of all daemons here.
pub fn key() -> SigningKey {
    SigningKey::from_seed(&[7; 32])
}

/// An ingress, its daemon, and folders of their own.
pub struct Ingress {
    port: u16,
    folder: PathBuf,
    child: Mutex<Child>,
    pub daemon: Peer,
}

impl Ingress {
    /// Starts one; `limits` are keys of `ingress.limits`, `more` are lines of `ingress`.
    pub fn start(name: &str, limits: &str, more: &str) -> Self {
        world();
        Self::start_with(name, limits, more, None)
    }

    /// Starts one that speaks TLS.
    pub fn start_tls(name: &str, limits: &str) -> Self {
        Self::start_with(name, limits, "", Some(&world().authority))
    }

    fn start_with(name: &str, limits: &str, more: &str, authority: Option<&Authority>) -> Self {
        static PORTS: AtomicU16 = AtomicU16::new(18_000);
        let (folder, port) = (PathBuf::from(format!("/run/ingress-{name}")), PORTS.fetch_add(1, Ordering::Relaxed));
        for part in ["peer", "tls"] {
            fs::create_dir_all(folder.join(part)).unwrap();
        }
        let at = folder.display();
        let tls = authority
            .map_or(String::new(), |_| format!("  tls: {{certificate: {at}/tls/cert.pem, key: {at}/tls/key.pem}}\n"));
        let settings = format!(
            "apiVersion: tenantd/v1\nkind: Host\ndataRoot: {at}/data\negress:\n  namespace: {TENANTS}\ningress:\n  \
             listen: ['127.0.0.1:{port}']\n  domain: {DOMAIN}\n  access: public\n  user: nobody\n  state: {at}/state\n  \
             socket: {at}/peer/daemon.sock\n  limits: {{{limits}}}\n{tls}{more}"
        );
        fs::write(folder.join("host.yaml"), settings).unwrap();
        let content = StateContent {
            key: key().public(),
            revoked: BTreeSet::new(),
            waiting_page: false,
            tenants: BTreeMap::new(),
        };
        let daemon = Peer::start(folder.join("peer/daemon.sock"), content);
        if let Some(authority) = authority {
            certify(&folder, authority);
        }
        let child = Mutex::new(spawn(&folder));
        let ingress = Self { port, folder, child, daemon };
        eventually("the start of the ingress", Duration::from_secs(10), || {
            let ended = ingress.child.lock().unwrap().try_wait().unwrap();
            assert!(ended.is_none(), "the ingress ended: {}", ingress.log());
            ingress.ask_control("/healthz").is_some_and(|answer| answer.contains("200 OK"))
        });
        ingress
    }

    /// Gives it another certificate.
    pub fn renew_certificate(&self) {
        certify(&self.folder, &world().authority);
    }

    /// Writes something in the place of its certificate that is none.
    pub fn spoil_certificate(&self) {
        fs::write(self.folder.join("tls/cert.pem"), "none").unwrap();
    }

    /// What it has logged.
    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.join("log")).unwrap_or_default()
    }

    pub fn pid(&self) -> u32 {
        self.child.lock().unwrap().id()
    }

    fn ask_control(&self, path: &str) -> Option<String> {
        let mut stream = UnixStream::connect(self.folder.join("state/ingress.sock")).ok()?;
        stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes()).ok()?;
        Some(String::from_utf8_lossy(&read_all(&mut stream)).into_owned())
    }

    /// The value of a metric.
    pub fn metric(&self, name: &str) -> u64 {
        let metrics = self.ask_control("/metrics").unwrap();
        let value = metrics.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        value.and_then(|value| value.parse().ok()).unwrap_or(0)
    }

    /// A connection in the clear.
    pub fn connect(&self) -> TcpStream {
        connect("host", (Ipv4Addr::LOCALHOST, self.port)).unwrap()
    }

    /// A connection over TLS for a tenant's name, with one of these protocols.
    pub fn connect_tls(&self, tenant: &str, protocols: &[&str]) -> TlsClient {
        let config = Arc::new(world().authority.client(protocols));
        let name = ServerName::try_from(format!("{tenant}.{DOMAIN}")).unwrap();
        let mut stream = StreamOwned::new(ClientConnection::new(config, name).unwrap(), self.connect());
        while stream.conn.is_handshaking() {
            stream.conn.complete_io(&mut stream.sock).unwrap();
        }
        stream
    }

    /// Sends bytes, and reads all that comes back until it is closed.
    pub fn send(&self, bytes: impl AsRef<[u8]>) -> String {
        let mut stream = self.connect();
        // Whoever is refused early may be cut off while it sends.
        let _ = stream.write_all(bytes.as_ref());
        String::from_utf8_lossy(&read_all(&mut stream)).into_owned()
    }

    /// Sends a request, and reads one answer.
    pub fn ask(&self, request: &str) -> String {
        let mut stream = self.connect();
        stream.write_all(request.as_bytes()).unwrap();
        read_answer(&mut stream)
    }

    /// A tenant that everybody may reach on a port, where this app answers each connection.
    pub fn public(&self, name: &str, app: impl Fn(TcpStream) + Send + Sync + 'static) -> Tenant<'_> {
        self.tenant(name, Access::Public, app)
    }

    /// A tenant whose port is reached with a token, where all that is asked comes back.
    pub fn private(&self, name: &str) -> Tenant<'_> {
        self.tenant(name, Access::Token, app::mirror)
    }

    pub fn tenant(&self, name: &str, access: Access, app: impl Fn(TcpStream) + Send + Sync + 'static) -> Tenant<'_> {
        /// Makes each tenant's network another one.
        static NEXT: AtomicU32 = AtomicU32::new(1);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let base = u32::from(Ipv4Addr::new(10, 77, 0, 0)) + 16 * number;
        let (gateway, address) = (Ipv4Addr::from(base + 1), Ipv4Addr::from(base + 2));
        let namespace = format!("t-{number}");
        ip(&format!("netns add {namespace}"));
        ip(&format!("link add l{number} netns {TENANTS} type veth peer name eth0 netns {namespace}"));
        ip(&format!("-n {TENANTS} addr add {gateway}/28 dev l{number}"));
        ip(&format!("-n {TENANTS} link set l{number} up"));
        ip(&format!("-n {namespace} addr add {address}/28 dev eth0"));
        ip(&format!("-n {namespace} link set lo up"));
        ip(&format!("-n {namespace} link set eth0 up"));
        let arrivals = Arc::new(AtomicU32::new(0));
        let tenant = Tenant { ingress: self, name: name.to_owned(), namespace, arrivals };
        tenant.serve(PORT, app);
        self.daemon.say(|content| {
            let reachable = Reachable {
                access,
                ports: [(PORT, Expose::default())].into(),
                address: Some(address),
                container: Some(format!("{name}-1")),
                power: Power::Running,
                running: true,
                waits_for_memory: false,
                closed: None,
            };
            content.tenants.insert(name.parse().unwrap(), reachable);
        });
        tenant
    }
}

impl Drop for Ingress {
    fn drop(&mut self) {
        let mut child = self.child.lock().unwrap();
        let _ = child.kill();
        let _ = child.wait();
    }
}

fn certify(folder: &std::path::Path, authority: &Authority) {
    let (certificate, key) = authority.certify(&[&format!("*.{DOMAIN}"), DOMAIN]);
    for (name, text) in [("key.pem", key), ("cert.pem", certificate)] {
        let path = folder.join("tls").join(name);
        fs::write(path.with_extension("new"), text).unwrap();
        fs::rename(path.with_extension("new"), path).unwrap();
    }
}

fn spawn(folder: &std::path::Path) -> Child {
    let log = fs::File::options().create(true).append(true).open(folder.join("log")).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_tenantd"));
    command.arg("ingress").arg("--host").arg(folder.join("host.yaml")).args(["--log-format", "text"]);
    command.stdin(Stdio::null()).stderr(log).stdout(Stdio::null()).env("RUST_LOG", "debug");
    command.spawn().unwrap()
}

/// A tenant of an ingress, in a network of its own.
pub struct Tenant<'a> {
    pub ingress: &'a Ingress,
    pub name: String,
    namespace: String,
    arrivals: Arc<AtomicU32>,
}

impl Tenant<'_> {
    /// Its host name.
    pub fn host(&self) -> String {
        format!("{}.{DOMAIN}", self.name)
    }

    /// Serves a port with an app, each connection on a thread of its own.
    pub fn serve(&self, port: u16, app: impl Fn(TcpStream) + Send + Sync + 'static) {
        let listener = within(&self.namespace, || TcpListener::bind((Ipv4Addr::UNSPECIFIED, port))).unwrap();
        let (arrivals, app) = (Arc::clone(&self.arrivals), Arc::new(app));
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                arrivals.fetch_add(1, Ordering::Relaxed);
                stream.set_nodelay(true).unwrap();
                let app = Arc::clone(&app);
                thread::Builder::new().stack_size(256 << 10).spawn(move || app(stream)).unwrap();
            }
        });
    }

    /// How many connections its apps had.
    pub fn arrivals(&self) -> u32 {
        self.arrivals.load(Ordering::Relaxed)
    }

    /// Has the daemon say something else of it.
    pub fn say(&self, change: impl FnOnce(&mut Reachable)) {
        self.ingress.daemon.say(|content| change(content.tenants.get_mut(self.name.as_str()).unwrap()));
    }

    /// A token for it that counts for an hour.
    pub fn token(&self) -> String {
        self.token_for(Duration::from_secs(3600)).1
    }

    /// A token for it that counts so long, with its id.
    pub fn token_for(&self, time: Duration) -> (TokenId, String) {
        static NEXT: AtomicU32 = AtomicU32::new(1);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let mut random = [0; 32];
        for (place, byte) in random.iter_mut().take(6).enumerate() {
            *byte = (number >> (5 * place)) as u8 & 31;
        }
        let id = TokenId::of_random(&random);
        let expires = (SystemTime::now() + time).try_into().unwrap();
        let token = Token { id: id.clone(), tenant: self.name.parse().unwrap(), may: Right::ALL.into(), expires };
        (id, token.sign(&key()))
    }

    /// The head of a request for it, which lets its bearer in, with these lines more.
    pub fn head(&self, line: &str, more: &str) -> String {
        format!("{line} HTTP/1.1\r\nHost: {}\r\nAuthorization: Bearer {}\r\n{more}\r\n", self.host(), self.token())
    }

    /// Sends a request for it, and reads one answer.
    pub fn get(&self, path: &str) -> String {
        self.ingress.ask(&self.head(&format!("GET {path}"), ""))
    }

    /// Whether it is served at this moment.
    pub fn is_served(&self) -> bool {
        self.get("/still-there").starts_with("HTTP/1.1 200 ")
    }

    /// A WebSocket whose other end sends back what it gets.
    pub fn websocket(&self, token: &str) -> TcpStream {
        let mut stream = self.ingress.connect();
        let head = format!(
            "GET /socket HTTP/1.1\r\nHost: {}\r\nAuthorization: Bearer {token}\r\nConnection: Upgrade\r\n\
             Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
            self.host()
        );
        stream.write_all(head.as_bytes()).unwrap();
        let answer = read_answer(&mut stream);
        assert!(answer.starts_with("HTTP/1.1 101 "), "{answer}");
        stream
    }
}

/// Whether a connection ends, and not because nobody says anything for ten seconds.
pub fn ends(stream: &mut impl Read) -> bool {
    let mut piece = [0; 64 << 10];
    loop {
        match stream.read(&mut piece) {
            Ok(0) => return true,
            Ok(_) => {}
            Err(error) => {
                return !matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut);
            }
        }
    }
}
