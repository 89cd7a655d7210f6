//! Everything that an attack may aim at: a network namespace without an uplink, in which every address
//! there is answers. Whatever gets out of a tenant arrives here and is seen.

use std::{
    collections::BTreeMap,
    io::{Read, Write},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    num::NonZeroU32,
    os::fd::OwnedFd,
    path::PathBuf,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use nix::sched::{CloneFlags, unshare};
use rustix::net::{AddressFamily, Protocol, SocketType, socket};

use crate::engine::{PrivateEngine, succeed};

/// The host's own address on the way to the world, and the world's on the way back.
pub const HOST: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 1);
const GATEWAY: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 2);

/// The name servers of the world. The gateway is told to ask the first.
pub const RESOLVER: Ipv4Addr = Ipv4Addr::new(9, 9, 9, 9);
pub const OTHER_RESOLVER: Ipv4Addr = Ipv4Addr::new(8, 8, 8, 8);

/// TCP ports on which every address of the world answers.
const PORTS: [u16; 10] = [22, 25, 53, 80, 443, 853, 3128, 5432, 8080, 8443];

/// How long a read waits before it looks whether the world has ended.
const TICK: Duration = Duration::from_millis(100);

/// Something that came out to the world.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Arrival {
    /// `tcp` for the first packet of a connection, `udp`, `icmp`, or a number.
    pub protocol: String,
    pub from: IpAddr,
    pub to: IpAddr,
    /// 0 where the protocol has none.
    pub port: u16,
    /// What a packet of UDP said.
    pub said: Vec<u8>,
}

/// Addresses by name; a name that is asked again gets the next of its answers, and the last for ever.
type Zone = BTreeMap<String, Vec<Vec<Ipv4Addr>>>;

#[derive(Default)]
struct Shared {
    arrivals: Mutex<Vec<Arrival>>,
    zone: Mutex<Zone>,
    stop: AtomicBool,
}

pub struct World {
    shared: Arc<Shared>,
    namespace: PathBuf,
    holder: Option<JoinHandle<()>>,
}

fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl World {
    /// Makes it, and the engine's host a way to it: its default route.
    pub fn new(engine: &PrivateEngine) -> Self {
        let shared = Arc::<Shared>::default();
        let (sender, receiver) = mpsc::channel();
        let (begin, begun) = mpsc::channel::<()>();
        let (ready, is_ready) = mpsc::channel();
        let of_holder = Arc::clone(&shared);
        let holder = thread::spawn(move || {
            unshare(CloneFlags::CLONE_NEWNET).expect("a network namespace can be made");
            let thread = rustix::thread::gettid().as_raw_nonzero();
            let path = format!("/proc/{}/task/{thread}/ns/net", std::process::id());
            sender.send(PathBuf::from(path)).unwrap();
            begun.recv().unwrap();
            // Threads that are made here live in this namespace.
            let servers = serve(&of_holder);
            ready.send(()).unwrap();
            servers.into_iter().for_each(|server| server.join().expect("a server of the world goes on"));
        });
        let namespace = receiver.recv().unwrap();
        let world = Self { shared, namespace, holder: Some(holder) };
        world.connect(engine);
        begin.send(()).unwrap();
        is_ready.recv().unwrap();
        world
    }

    fn connect(&self, engine: &PrivateEngine) {
        let path = self.namespace.display().to_string();
        let host = |words: &str| drop(succeed(engine.in_network(&words.split(' ').collect::<Vec<_>>())));
        host(&format!("ip link add world0 type veth peer name world1 netns {path}"));
        host(&format!("ip address add {HOST}/24 dev world0"));
        host("ip address add 2001:470::1/64 dev world0 nodad");
        host("ip link set world0 up");
        let world = |words: &str| {
            let mut command = std::process::Command::new("nsenter");
            command.arg(format!("--net={path}")).args(words.split(' '));
            succeed(command);
        };
        world("ip link set lo up");
        world(&format!("ip address add {GATEWAY}/24 dev world1"));
        world("ip address add 2001:470::2/64 dev world1 nodad");
        world("ip link set world1 up");
        // Every address is the world's own, but for those behind the host.
        world("ip route add local 0.0.0.0/0 dev lo table main");
        world(&format!("ip route add 10.77.0.0/16 via {HOST}"));
        world(&format!("ip route add 172.17.0.0/16 via {HOST}"));
        world("ip -6 route add local ::/0 dev lo table main");
        for switch in ["rp_filter=0", "accept_local=1"] {
            world(&format!("sysctl -q -w net.ipv4.conf.all.{switch} net.ipv4.conf.world1.{switch}"));
        }
        // Everybody may ask for an echo, as in a container.
        let ping = "echo 0 2147483647 >/proc/sys/net/ipv4/ping_group_range";
        succeed(engine.in_network(&["sh", "-c", ping]));
        host(&format!("ip route add default via {GATEWAY}"));
        host("ip -6 route add default via 2001:470::2");
    }

    /// Lets a name lead to addresses; each list is the answer to one question more.
    pub fn name(&self, name: &str, answers: &[&[Ipv4Addr]]) {
        locked(&self.shared.zone).insert(name.to_owned(), answers.iter().map(|answer| answer.to_vec()).collect());
    }

    /// What has arrived since this was last asked, packet by packet, each thing once.
    pub fn arrivals(&self) -> Vec<Arrival> {
        // What is on its way at this moment has arrived then.
        thread::sleep(TICK);
        let mut arrivals = std::mem::take(&mut *locked(&self.shared.arrivals));
        arrivals.sort();
        arrivals.dedup();
        arrivals
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        if let Some(holder) = self.holder.take() {
            let ended = holder.join();
            assert!(thread::panicking() || ended.is_ok(), "the world works until its end");
        }
    }
}

fn serve(shared: &Arc<Shared>) -> Vec<JoinHandle<()>> {
    let mut servers = Vec::new();
    let mut run = |work: Box<dyn Fn(&Shared) + Send>| {
        let shared = Arc::clone(shared);
        servers.push(thread::spawn(move || {
            while !shared.stop.load(Ordering::SeqCst) {
                work(&shared);
            }
        }));
    };
    // The number of ETH_P_ALL in the order of the network.
    let everything = NonZeroU32::new(u32::from(3_u16.to_be())).map(Protocol::from_raw);
    let capture = socket(AddressFamily::PACKET, SocketType::RAW, everything).expect("packets can be captured");
    rustix::net::sockopt::set_socket_timeout(&capture, rustix::net::sockopt::Timeout::Recv, Some(TICK)).unwrap();
    run(Box::new(move |shared| watch(&capture, shared)));
    for port in PORTS {
        let listener = TcpListener::bind((Ipv6Addr::UNSPECIFIED, port)).expect("a port of the world is free");
        listener.set_nonblocking(true).unwrap();
        run(Box::new(move |_| match listener.accept() {
            Ok((stream, _)) => drop(thread::spawn(move || answer(stream))),
            Err(_) => thread::sleep(TICK / 10),
        }));
    }
    for address in [RESOLVER, OTHER_RESOLVER] {
        let server = UdpSocket::bind((address, 53)).expect("the world's name server begins");
        server.set_read_timeout(Some(TICK)).unwrap();
        run(Box::new(move |shared| resolve(&server, shared)));
    }
    servers
}

/// Says who it is, and goes on to repeat what it hears; HTTP gets an answer of HTTP.
fn answer(mut stream: TcpStream) {
    let own = stream.local_addr().map(|address| address.to_string()).unwrap_or_default();
    let _ = stream.set_nonblocking(false);
    let _ = stream.set_read_timeout(Some(Duration::from_secs(20)));
    let mut buffer = [0; 16 << 10];
    while let Ok(length @ 1..) = stream.read(&mut buffer) {
        let heard = String::from_utf8_lossy(&buffer[..length]).into_owned();
        let reply = if heard.contains(" HTTP/1.") {
            let body = format!("WORLD {own}\n{heard}");
            format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len())
        } else {
            format!("WORLD {own}\n{heard}")
        };
        if stream.write_all(reply.as_bytes()).is_err() {
            return;
        }
    }
}

fn resolve(server: &UdpSocket, shared: &Shared) {
    let mut query = [0; 1500];
    let Ok((length, from)) = server.recv_from(&mut query) else { return };
    if let Some(reply) = reply(&query[..length], &mut locked(&shared.zone)) {
        let _ = server.send_to(&reply, from);
    }
}

/// The name that a message of DNS asks for, in lower case.
pub fn question(message: &[u8]) -> Option<String> {
    let mut labels = Vec::new();
    let mut rest = message.get(12..)?;
    loop {
        let (length, after) = rest.split_first()?;
        match usize::from(*length) {
            0 => return Some(labels.join(".")),
            length => labels.push(String::from_utf8_lossy(after.get(..length)?).to_lowercase()),
        }
        rest = after.get(usize::from(*length)..)?;
    }
}

/// The answer to a question; a name that nobody knows does not exist.
fn reply(query: &[u8], zone: &mut Zone) -> Option<Vec<u8>> {
    let name = question(query)?;
    // Behind the labels and their lengths stand the kind and the class.
    let end = 12 + name.len() + 2;
    let (kind, question) = (query.get(end..end + 2)?, query.get(12..end + 4)?);
    let known = zone.get_mut(&name);
    let code = if known.is_some() { 0 } else { 3 };
    let addresses = match known {
        Some(answers) if kind == [0, 1] && answers.len() > 1 => answers.remove(0),
        Some(answers) if kind == [0, 1] => answers.first().cloned().unwrap_or_default(),
        _ => Vec::new(),
    };
    let mut reply = query.get(..2)?.to_vec();
    reply.extend([0x81, 0x80 | code, 0, 1, 0, u8::try_from(addresses.len()).ok()?, 0, 0, 0, 0]);
    reply.extend(question);
    for address in addresses {
        // The name of the question, A, IN, one second, four bytes.
        reply.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 1, 0, 4]);
        reply.extend(address.octets());
    }
    Some(reply)
}

/// Takes one packet, and writes down what came from the host's side.
fn watch(capture: &OwnedFd, shared: &Shared) {
    let mut frame = [0; 2048];
    let Ok(length) = rustix::io::read(capture, &mut frame) else { return };
    let arrival = arrival(&frame[..length]);
    let is_ours = |address: IpAddr| match address {
        IpAddr::V4(address) => address == HOST || matches!(address.octets(), [10, 77, ..] | [172, 17, ..] | [127, ..]),
        IpAddr::V6(address) => {
            matches!(address.segments()[0], 0xfe80..=0xfebf | 0xff00..)
                || address.is_loopback()
                || address == Ipv6Addr::new(0x2001, 0x470, 0, 0, 0, 0, 0, 1)
        }
    };
    // What the world itself sends goes to the host or to who is behind it.
    if let Some(arrival) = arrival.filter(|arrival| !is_ours(arrival.to)) {
        locked(&shared.arrivals).push(arrival);
    }
}

fn arrival(frame: &[u8]) -> Option<Arrival> {
    let (from, to, protocol, rest): (IpAddr, IpAddr, u8, &[u8]) = match frame.get(12..14)? {
        [0x08, 0x00] => {
            let header = usize::from(frame.get(14)? & 15) * 4;
            let address = |at: usize| Some(Ipv4Addr::from(<[u8; 4]>::try_from(frame.get(at..at + 4)?).ok()?));
            (address(26)?.into(), address(30)?.into(), *frame.get(23)?, frame.get(14 + header..)?)
        }
        [0x86, 0xdd] => {
            let address = |at: usize| Some(Ipv6Addr::from(<[u8; 16]>::try_from(frame.get(at..at + 16)?).ok()?));
            (address(22)?.into(), address(38)?.into(), *frame.get(20)?, frame.get(54..)?)
        }
        _ => return None,
    };
    let port = || rest.get(2..4).map_or(0, |port| u16::from_be_bytes([port[0], port[1]]));
    let (protocol, port, said) = match protocol {
        // Only what opens a connection.
        6 if rest.get(13)? & 0x12 == 0x02 => ("tcp".to_owned(), port(), Vec::new()),
        6 => return None,
        17 => ("udp".to_owned(), port(), rest.get(8..).unwrap_or_default().to_vec()),
        // What the world itself has to say about neighbours of IPv6.
        58 if matches!(rest.first(), Some(133..=137 | 143)) => return None,
        1 | 58 => ("icmp".to_owned(), 0, Vec::new()),
        0 if to.is_multicast() => return None,
        other => (other.to_string(), 0, Vec::new()),
    };
    Some(Arrival { protocol, from, to, port, said })
}

/// Whether an arrival is one of those that a listed destination explains.
pub fn is_for(arrival: &Arrival, to: &[SocketAddr]) -> bool {
    arrival.protocol == "tcp" && to.contains(&SocketAddr::new(arrival.to, arrival.port))
}
