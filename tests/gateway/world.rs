//! The host, the world and the tenants, and gateways between them.

use std::{
    fs,
    io::{Read, Write},
    net::{Ipv4Addr, TcpStream, UdpSocket},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        Mutex, OnceLock,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use rustls::{ClientConnection, StreamOwned};

use crate::{
    dns::{Resolver, Say},
    keeper::Keeper,
    net::{connect, eventually, ip, read_all, read_answer, run, within},
    servers::{Arrivals, Tls, echo, http, pour, serve, tls, websocket},
};

/// A public address with servers.
pub const PUBLIC: [u8; 4] = [93, 184, 216, 34];
/// A public address of the host itself, with a server.
pub const HOSTS_OWN: [u8; 4] = [93, 184, 216, 99];

/// What else has servers: nothing of it may ever be reached unless it is listed.
pub const OTHERS: [[u8; 4]; 9] = [
    [93, 184, 216, 66],
    [8, 8, 8, 8],
    [10, 20, 0, 5],
    [10, 77, 200, 5],
    [100, 64, 0, 9],
    [100, 100, 100, 200],
    [169, 254, 169, 254],
    [172, 16, 0, 9],
    [192, 168, 1, 1],
];

const RESOLVER: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 53);

/// The ports on which all addresses of the world answer: HTTP, TLS, and echoes.
pub const HTTP: u16 = 80;
pub const TLS: u16 = 443;
pub const ECHO: u16 = 7000;
pub const GREETING: u16 = 5432;
pub const POUR: u16 = 9000;
pub const WEBSOCKETS: u16 = 8443;
pub const PROXY: u16 = 3128;

/// The authority of the servers that speak TLS.
const AUTHORITIES: &str = "/run/authorities.pem";

pub struct World {
    pub arrivals: Arrivals,
    pub at_host: Arrivals,
    pub resolver: Resolver,
    pub tls: Tls,
    pub gateway: Gateway,
}

/// The world, made when it is first asked for.
pub fn world() -> &'static World {
    static WORLD: OnceLock<World> = OnceLock::new();
    WORLD.get_or_init(World::new)
}

impl World {
    fn new() -> Self {
        ip("netns add world");
        ip("link add up0 type veth peer name up1 netns world");
        ip("addr add 192.0.2.1/24 dev up0");
        ip("link set up0 up");
        ip("-n world addr add 192.0.2.2/24 dev up1");
        ip("-n world link set up1 up");
        ip("-n world link set lo up");
        ip("route add default via 192.0.2.2");
        ip(&format!("addr add {}/32 dev lo", Ipv4Addr::from(HOSTS_OWN)));
        for address in OTHERS.into_iter().chain([PUBLIC, RESOLVER.octets()]) {
            ip(&format!("-n world addr add {}/32 dev lo", Ipv4Addr::from(address)));
        }
        let (arrivals, at_host) = (Arrivals::default(), Arrivals::default());
        let certificate = Tls::new(&["api.example.com", "*.example.com", "other.example.org"]);
        for port in [HTTP, 8080] {
            serve("world", port, &arrivals, http);
        }
        let config = certificate.server.clone();
        serve("world", TLS, &arrivals, move |stream| tls(stream, &config));
        let config = certificate.server.clone();
        serve("world", WEBSOCKETS, &arrivals, move |stream| websocket(stream, &config));
        fs::write(AUTHORITIES, &certificate.authorities).unwrap();
        serve("world", ECHO, &arrivals, |stream| echo(stream, b""));
        serve("world", POUR, &arrivals, pour);
        serve("world", GREETING, &arrivals, |stream| echo(stream, b"greetings\n"));
        for port in [HTTP, TLS, 22] {
            serve("host", port, &at_host, http);
        }
        let resolver = Resolver::serve("world", RESOLVER);
        resolver.say("api.example.com", Say::Addresses(vec![PUBLIC], 60));
        let gateway = Gateway::start("main", "");
        Self { arrivals, at_host, resolver, tls: certificate, gateway }
    }
}

/// A gateway, with a namespace and folders of its own.
pub struct Gateway {
    pub namespace: String,
    folder: PathBuf,
    child: Mutex<Child>,
    descriptors: Option<u32>,
    keeper: Option<Keeper>,
    mask: &'static str,
}

/// Makes each tenant's network another one.
static NEXT: AtomicU32 = AtomicU32::new(1);

impl Gateway {
    /// Starts one; `limits` are keys of `egress.limits`.
    pub fn start(name: &str, limits: &str) -> Self {
        Self::start_with(name, limits, None)
    }

    /// Starts one whose sockets are kept while it is restarted.
    pub fn start_kept(name: &str, keeper: &Keeper) -> Self {
        Self::start_as(name, "", "", None, Some(keeper.clone()), "022")
    }

    /// Starts one that may have so many descriptors.
    pub fn start_with(name: &str, limits: &str, descriptors: Option<u32>) -> Self {
        Self::start_as(name, limits, "", descriptors, None, "022")
    }

    /// Starts one that trusts the servers of the world, as upstreams of routes.
    pub fn start_trusting(name: &str, limits: &str, descriptors: Option<u32>) -> Self {
        world();
        Self::start_as(name, limits, &format!("  caBundle: {AUTHORITIES}\n"), descriptors, None, "022")
    }

    /// Starts one whose host lets a tenant encrypt its hello of TLS.
    pub fn start_encrypting(name: &str, tenant: &str) -> Self {
        world();
        Self::start_as(name, "", &format!("  encryptedClientHello: [{tenant}]\n"), None, None, "022")
    }

    /// Starts one of whose journal so much is kept, as in `fileSize: 1MiB, files: 2`.
    pub fn start_keeping(name: &str, journal: &str) -> Self {
        Self::start_as(name, "", &format!("journal: {{{journal}}}\n"), None, None, "022")
    }

    /// Starts one whose process leaves these bits out of the modes of what it makes.
    pub fn start_under(name: &str, mask: &'static str) -> Self {
        Self::start_as(name, "", "", None, None, mask)
    }

    fn start_as(
        name: &str,
        limits: &str,
        more: &str,
        descriptors: Option<u32>,
        keeper: Option<Keeper>,
        mask: &'static str,
    ) -> Self {
        let folder = PathBuf::from(format!("/run/gateway-{name}"));
        for part in ["egress/policies", "egress/secrets", "data"] {
            fs::create_dir_all(folder.join(part)).unwrap();
        }
        let at = folder.display();
        let settings = format!(
            "apiVersion: tenantd/v1\nkind: Host\ndataRoot: {at}/data\negress:\n  resolvers: ['{RESOLVER}:53']\n  \
             policies: {at}/egress\n  state: {at}/state\n  user: nobody\n  namespace: gw-{name}\n  limits: {{{limits}}}\n{more}"
        );
        fs::write(folder.join("host.yaml"), settings).unwrap();
        let namespace = format!("gw-{name}");
        let child = Mutex::new(spawn(&folder, descriptors, keeper.as_ref(), mask));
        let gateway = Self { namespace, folder, child, descriptors, keeper, mask };
        gateway.wait();
        gateway
    }

    fn wait(&self) {
        eventually("the start of the gateway", Duration::from_secs(10), || {
            let ended = self.child.lock().unwrap().try_wait().unwrap();
            assert!(ended.is_none(), "the gateway ended: {}", self.log());
            self.ask_control("/healthz").is_some_and(|answer| answer.contains("200 OK"))
        });
    }

    /// What it has logged.
    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.join("log")).unwrap_or_default()
    }

    pub fn settings(&self) -> PathBuf {
        self.folder.join("host.yaml")
    }

    pub fn pid(&self) -> u32 {
        self.child.lock().unwrap().id()
    }

    pub fn is_running(&self) -> bool {
        self.child.lock().unwrap().try_wait().unwrap().is_none()
    }

    /// Ends it with a signal, and says how it ended.
    pub fn end(&self, signal: &str) -> std::process::ExitStatus {
        run("kill", &format!("-{signal} {}", self.pid()));
        self.child.lock().unwrap().wait().unwrap()
    }

    /// Starts it again.
    pub fn restart(&self) {
        *self.child.lock().unwrap() = spawn(&self.folder, self.descriptors, self.keeper.as_ref(), self.mask);
        self.wait();
    }

    fn ask_control(&self, path: &str) -> Option<String> {
        let mut stream = UnixStream::connect(self.folder.join("state/gateway.sock")).ok()?;
        stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes()).ok()?;
        Some(String::from_utf8_lossy(&read_all(&mut stream)).into_owned())
    }

    pub fn metrics(&self) -> String {
        self.ask_control("/metrics").unwrap()
    }

    /// The value of a metric.
    pub fn metric(&self, name: &str) -> u64 {
        let metrics = self.metrics();
        let value = metrics.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        value.and_then(|value| value.parse().ok()).unwrap_or(0)
    }

    /// A tenant with a link to it, which may reach what is listed.
    pub fn tenant(&self, name: &str, allow: &[&str]) -> Tenant {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let base = u32::from(Ipv4Addr::new(10, 77, 0, 0)) + 16 * number;
        let tenant = Tenant {
            name: name.to_owned(),
            namespace: format!("t-{number}"),
            subnet: format!("{}/28", Ipv4Addr::from(base)),
            gateway: Ipv4Addr::from(base + 1),
            address: Ipv4Addr::from(base + 2),
            policy: self.folder.join(format!("egress/policies/{name}.json")),
        };
        let (inside, gateways) = (&tenant.namespace, &self.namespace);
        ip(&format!("netns add {inside}"));
        ip(&format!("link add l{number} netns {gateways} type veth peer name eth0 netns {inside}"));
        ip(&format!("-n {gateways} addr add {}/28 dev l{number}", tenant.gateway));
        ip(&format!("-n {gateways} link set l{number} up"));
        ip(&format!("-n {inside} addr add {}/28 dev eth0", tenant.address));
        ip(&format!("-n {inside} link set lo up"));
        ip(&format!("-n {inside} link set eth0 up"));
        ip(&format!("-n {inside} route add default via {}", tenant.gateway));
        tenant.allow(allow);
        eventually("the policy", Duration::from_secs(5), || tenant.look_up("gateway.internal", 1).is_some());
        tenant
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        let mut child = self.child.lock().unwrap();
        let _ = child.kill();
        let _ = child.wait();
    }
}

fn spawn(folder: &Path, descriptors: Option<u32>, keeper: Option<&Keeper>, mask: &str) -> Child {
    let log = fs::File::options().create(true).append(true).open(folder.join("log")).unwrap();
    let tenantd = env!("CARGO_BIN_EXE_tenantd");
    let mut command = match (descriptors, keeper) {
        (None, None) => {
            let mut command = Command::new("sh");
            command.args(["-c", "umask \"$0\"; exec \"$@\"", mask, tenantd]);
            command
        }
        (None, Some(keeper)) => keeper.command(tenantd),
        (Some(number), _) => {
            let mut command = Command::new("prlimit");
            command.arg(format!("--nofile={number}:{number}")).arg(tenantd);
            command
        }
    };
    command.arg("gateway").arg("--host").arg(folder.join("host.yaml")).args(["--log-format", "text"]);
    command.stdin(Stdio::null()).stderr(log).stdout(Stdio::null()).env("RUST_LOG", "tenantd=debug");
    command.spawn().unwrap()
}

pub struct Tenant {
    pub name: String,
    pub namespace: String,
    pub subnet: String,
    pub gateway: Ipv4Addr,
    pub address: Ipv4Addr,
    policy: PathBuf,
}

impl Tenant {
    /// Writes another policy, as tenantd does it.
    pub fn allow(&self, entries: &[&str]) {
        let entries: Vec<String> = entries.iter().map(|entry| format!("{entry:?}")).collect();
        self.write(&self.policy(&format!("\"allow\":[{}]", entries.join(","))));
    }

    /// A policy that serves its address, with these entries.
    pub fn policy(&self, entries: &str) -> String {
        let Self { name, subnet, address, .. } = self;
        format!(r#"{{"v":2,"tenant":"{name}","subnet":"{subnet}","address":"{address}",{entries}}}"#)
    }

    /// Writes anything in the policy's place.
    pub fn write(&self, text: &str) {
        fs::write(self.policy.with_extension("new"), text).unwrap();
        fs::rename(self.policy.with_extension("new"), &self.policy).unwrap();
    }

    /// Whoever connects from its namespace comes from another address of its network from now on, and asks for names from
    /// there as what this returns.
    pub fn move_to(&self, address: Ipv4Addr) -> Self {
        let (inside, Self { name, subnet, gateway, .. }) = (&self.namespace, self);
        ip(&format!("-n {inside} addr add {address}/28 dev eth0"));
        ip(&format!("-n {inside} route replace {subnet} dev eth0 src {address}"));
        let (name, subnet, namespace) = (name.clone(), subnet.clone(), inside.clone());
        Self { name, subnet, namespace, gateway: *gateway, address, policy: self.policy.clone() }
    }

    pub fn remove_policy(&self) {
        fs::remove_file(&self.policy).unwrap();
    }

    /// A connection to a port of the gateway.
    pub fn connect(&self, port: u16) -> std::io::Result<TcpStream> {
        connect(&self.namespace, (self.gateway, port))
    }

    /// Sends bytes to a port of the gateway, and reads all that comes back until it closes.
    pub fn send(&self, port: u16, bytes: impl AsRef<[u8]>) -> String {
        let mut stream = self.connect(port).unwrap();
        // Whoever is refused early may be cut off while it sends.
        let _ = stream.write_all(bytes.as_ref());
        String::from_utf8_lossy(&read_all(&mut stream)).into_owned()
    }

    /// Sends a request, and reads one answer.
    pub fn ask(&self, port: u16, request: &str) -> String {
        let mut stream = self.connect(port).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        read_answer(&mut stream)
    }

    /// Opens a tunnel, or says how that was answered.
    pub fn tunnel(&self, to: &str) -> Result<TcpStream, String> {
        let mut stream = self.connect(PROXY).map_err(|e| e.to_string())?;
        stream.write_all(format!("CONNECT {to} HTTP/1.1\r\nHost: {to}\r\n\r\n").as_bytes()).unwrap();
        let answer = read_answer(&mut stream);
        if answer.starts_with("HTTP/1.1 200 ") { Ok(stream) } else { Err(answer) }
    }

    /// A tunnel to an echo that is known to work.
    pub fn echo(&self, to: &str) -> TcpStream {
        let mut stream = self.tunnel(to).unwrap();
        assert!(crate::net::echoes(&mut stream, "hello"), "{to}");
        stream
    }

    /// Asks the name server inside: the code of the answer and its packet.
    pub fn look_up(&self, name: &str, kind: u16) -> Option<(u8, Vec<u8>)> {
        let mut packet = vec![0, 7, 1, 0, 0, 1, 0, 0, 0, 0, 0, 1];
        for label in name.split('.') {
            packet.push(u8::try_from(label.len()).unwrap());
            packet.extend(label.as_bytes());
        }
        packet.push(0);
        packet.extend([kind.to_be_bytes(), 1u16.to_be_bytes()].concat());
        packet.extend([0, 0, 41, 4, 208, 0, 0, 0, 0, 0, 0]);
        let socket = within(&self.namespace, || UdpSocket::bind((self.address, 0))).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
        socket.connect((self.gateway, 53)).unwrap();
        socket.send(&packet).unwrap();
        let mut answer = [0; 2048];
        let length = socket.recv(&mut answer).ok()?;
        Some((answer[3] & 15, answer[..length].to_vec()))
    }

    /// Says hello over TLS to a name, through a stream, and reads a line back.
    pub fn tls(&self, stream: TcpStream, name: &str) -> std::io::Result<String> {
        let name = rustls::pki_types::ServerName::try_from(name.to_owned()).unwrap();
        let connection = ClientConnection::new(world().tls.client.clone(), name).unwrap();
        let mut stream = StreamOwned::new(connection, stream);
        stream.write_all(b"hello\n")?;
        let mut line = vec![0; "over TLS: hello\n".len()];
        stream.read_exact(&mut line)?;
        Ok(String::from_utf8_lossy(&line).into_owned())
    }
}
