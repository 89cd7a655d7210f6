//! The agent that tests and the demo run as a tenant. It does by word what a real agent may try:
//! serve, write, fill a disk, use memory, start processes, connect, and look for a way out.
//!
//! It needs nothing but the standard library and is built without Cargo; see `build-image`.

use std::cell::RefCell;
use std::ffi::{CString, c_char, c_int, c_ulong, c_void};
use std::fmt::Write as _;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, ToSocketAddrs, UdpSocket};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

const USAGE: &str = "\
agent [COMMAND]
  serve                     HTTP on port 8080: hostname and uptime, or GET /log (the default)
  sleep [SECONDS]           sleep, without SECONDS for ever
  env                       print the environment
  id                        print user, groups, capabilities and seccomp state
  mounts                    print the mounts
  write PATH TEXT           write a file
  cat PATH                  print a file
  fill PATH BYTES           write that many zeros to a file
  eat-memory BYTES [SECONDS]  use memory, and hold it for SECONDS
  fork N                    start N sleeping children, print how many started, end them
  connect HOST:PORT [MS]    connected, refused, timed out or unreachable; default 2000 ms
  lookup NAME               ask the name server of /etc/resolv.conf
  send tcp|udp HOST:PORT HEX [MS]  send bytes, print what comes back, for people and as text
  hold HOST:PORT N SECONDS  open N connections, say how many, and keep them
  get URL [HEADER...]       HTTP without TLS by the name in the URL, or by http_proxy; print the answer
  names ADDRESS NAME=ADDRESS...  a name server on port 53 that knows these names and no other
  upstream PORT             HTTP that answers with the headers that it was sent, and prints them
  ping ADDRESS [MS]         an ICMP echo: answered, or why not
  spoof SOURCE ADDRESS:PORT HEX  a UDP packet with another's address as its source; needs NET_RAW
  claim ADDRESS             tell the network by ARP that an address is here; needs NET_RAW
  script PATH               run each line of a file as a command, and print `= CODE` and its output
  print BYTES               print that many bytes
  escape [ADDRESS...]       try the ways out; status 0 when all of them are refused";

/// Where `serve` keeps a line per request.
const LOG: &str = "/workspace/log";

/// Set by the handler of SIGTERM and SIGINT.
static STOP: AtomicBool = AtomicBool::new(false);

/// The few calls that the standard library lacks.
mod system {
    use super::{c_char, c_int, c_ulong, c_void};

    unsafe extern "C" {
        pub fn signal(number: c_int, handler: extern "C" fn(c_int)) -> usize;
        pub fn setuid(uid: u32) -> c_int;
        pub fn setgid(gid: u32) -> c_int;
        pub fn chroot(path: *const c_char) -> c_int;
        pub fn mknod(path: *const c_char, mode: u32, device: u64) -> c_int;
        pub fn mount(
            source: *const c_char,
            target: *const c_char,
            kind: *const c_char,
            flags: c_ulong,
            data: *const c_void,
        ) -> c_int;
        pub fn socket(domain: c_int, kind: c_int, protocol: c_int) -> c_int;
        pub fn sendto(
            socket: c_int,
            bytes: *const c_void,
            length: usize,
            flags: c_int,
            address: *const c_void,
            size: u32,
        ) -> isize;
        pub fn recv(socket: c_int, bytes: *mut c_void, length: usize, flags: c_int) -> isize;
    }
}

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    ExitCode::from(run(&words))
}

/// Does what the words say, and returns the exit code.
fn run(words: &[&str]) -> u8 {
    let outcome = match words {
        [] | ["serve"] => serve(),
        ["sleep"] => sleep(None),
        ["sleep", seconds] => number(seconds).and_then(|n| sleep(Some(n))),
        ["env"] => env(),
        ["id"] => id(),
        ["mounts"] => cat("/proc/self/mounts"),
        ["write", path, text] => fs::write(path, text),
        ["cat", path] => cat(path),
        ["fill", path, bytes] => number(bytes).and_then(|n| fill(path, n)),
        ["eat-memory", bytes] => number(bytes).and_then(|n| eat_memory(n, 0)),
        ["eat-memory", bytes, seconds] => number(bytes).and_then(|n| number(seconds).and_then(|s| eat_memory(n, s))),
        ["fork", count] => number(count).and_then(fork),
        ["connect", address] => connect(address, 2000),
        ["connect", address, limit] => number(limit).and_then(|limit| connect(address, limit)),
        ["lookup", name] => lookup(name),
        ["send", kind, address, hex] => send(kind, address, hex, 1500),
        ["send", kind, address, hex, limit] => number(limit).and_then(|limit| send(kind, address, hex, limit)),
        ["hold", address, count, seconds] => {
            number(count).and_then(|count| number(seconds).and_then(|seconds| hold(address, count, seconds)))
        }
        ["get", url, headers @ ..] => get(url, headers),
        ["names", address, names @ ..] => names_server(address, names),
        ["upstream", port] => number(port).and_then(upstream),
        ["ping", address] => ping(address, 1000),
        ["ping", address, limit] => number(limit).and_then(|limit| ping(address, limit)),
        ["spoof", source, address, hex] => spoof(source, address, hex),
        ["claim", address] => claim(address),
        ["script", path] => script(path),
        ["print", bytes] => number(bytes).and_then(print),
        ["escape", addresses @ ..] => return escape(addresses),
        ["help" | "--help"] => say(USAGE),
        _ => {
            eprintln!("{USAGE}");
            return 2;
        }
    };
    match outcome {
        Ok(()) => 0,
        Err(error) => {
            let line = format!("agent: {}: {error}", words.first().unwrap_or(&"serve"));
            if !keep(&line) {
                eprintln!("{line}");
            }
            1
        }
    }
}

thread_local! {
    /// What this thread says, where it is kept for another to print.
    static SAID: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Keeps a line, if this thread's are kept.
fn keep(line: &str) -> bool {
    SAID.with_borrow_mut(|said| said.as_mut().map(|said| said.extend([line, "\n"])).is_some())
}

/// Prints a line. A reader that has gone is an error, not a panic.
fn say(line: &str) -> io::Result<()> {
    if keep(line) { Ok(()) } else { writeln!(io::stdout(), "{line}") }
}

/// Parses a decimal number.
fn number(text: &str) -> io::Result<u64> {
    text.parse().map_err(|_| io::Error::new(ErrorKind::InvalidInput, format!("{text:?} is no number")))
}

/// Makes SIGTERM and SIGINT set [`STOP`], since they do nothing by default to process 1.
fn handle_signals() {
    extern "C" fn stop(_: c_int) {
        STOP.store(true, Ordering::SeqCst);
    }
    const SIGINT: c_int = 2;
    const SIGTERM: c_int = 15;
    // SAFETY: the handler only stores to an atomic.
    unsafe {
        system::signal(SIGINT, stop);
        system::signal(SIGTERM, stop);
    }
}

fn hostname() -> String {
    fs::read_to_string("/proc/sys/kernel/hostname")
        .or_else(|_| fs::read_to_string("/etc/hostname"))
        .map_or_else(|_| String::from("unknown"), |name| name.trim().to_owned())
}

/// Answers HTTP until SIGTERM, and says on stdout every `AGENT_INTERVAL` seconds that it lives.
fn serve() -> io::Result<()> {
    handle_signals();
    let interval = match std::env::var("AGENT_INTERVAL") {
        Ok(text) => Duration::from_secs(number(&text)?.max(1)),
        Err(_) => Duration::from_secs(10),
    };
    let started = Instant::now();
    let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 8080))?;
    let variant = std::env::var("AGENT_VARIANT").map_or_else(|_| String::new(), |v| format!(" {v}"));
    say(&format!("agent{variant} on {} serves port 8080", hostname()))?;
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            thread::spawn(move || {
                // A client that goes away in the middle harms nobody else.
                let _ = answer(stream, started);
            });
        }
    });
    let mut next = started + interval;
    while !STOP.load(Ordering::SeqCst) {
        thread::sleep(Duration::from_millis(100));
        if Instant::now() >= next {
            next += interval;
            say(&format!("agent is up {} s", started.elapsed().as_secs()))?;
        }
    }
    say("agent stops")
}

/// Answers one HTTP request and appends a line to [`LOG`].
fn answer(mut stream: TcpStream, started: Instant) -> io::Result<()> {
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    let peer = stream.peer_addr()?;
    let mut lines = BufReader::new(stream.try_clone()?.take(16 << 10)).lines();
    let request = lines.next().transpose()?.unwrap_or_default();
    for line in lines {
        if line?.is_empty() {
            break;
        }
    }
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let logged = OpenOptions::new()
        .append(true)
        .create(true)
        .open(LOG)
        .and_then(|mut log| writeln!(log, "{seconds} {} {request}", peer.ip()));
    let mut body = if request.split(' ').nth(1) == Some("/log") {
        fs::read_to_string(LOG).unwrap_or_default()
    } else {
        let uptime = started.elapsed().as_secs();
        format!("hostname {}\nuptime {uptime}\n", hostname())
    };
    if let Err(error) = logged {
        let _ = writeln!(body, "log {error}");
    }
    write!(
        stream,
        "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {}\r\n\
         Connection: close\r\n\r\n{body}",
        body.len()
    )
}

/// Sleeps until the time is over or SIGTERM comes.
fn sleep(seconds: Option<u64>) -> io::Result<()> {
    handle_signals();
    let end = seconds.map(|n| Instant::now() + Duration::from_secs(n));
    while !STOP.load(Ordering::SeqCst) && end.is_none_or(|end| Instant::now() < end) {
        thread::sleep(Duration::from_millis(100));
    }
    Ok(())
}

fn env() -> io::Result<()> {
    let mut variables: Vec<_> = std::env::vars_os().collect();
    variables.sort();
    for (name, value) in variables {
        say(&format!("{}={}", name.display(), value.display()))?;
    }
    Ok(())
}

/// Prints what the kernel says of this process; `-` stands for what it does not say.
fn id() -> io::Result<()> {
    let status = fs::read_to_string("/proc/self/status")?;
    for name in ["Uid", "Gid", "Groups", "CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb", "NoNewPrivs", "Seccomp"] {
        let value = status
            .lines()
            .filter_map(|line| line.split_once(':'))
            .find(|(key, _)| *key == name)
            .map_or("-", |(_, value)| value.trim());
        say(&format!("{name} {}", value.replace('\t', " ")))?;
    }
    Ok(())
}

fn cat(path: &str) -> io::Result<()> {
    io::copy(&mut File::open(path)?, &mut io::stdout()).map(drop)
}

/// Writes zeros, and says how many of them the disk took even when it took not all.
fn fill(path: &str, bytes: u64) -> io::Result<()> {
    let mut file = File::create(path)?;
    let zeros = [0; 1 << 16];
    let mut written = 0;
    let outcome = loop {
        let want = (bytes - written).min(zeros.len() as u64) as usize;
        if want == 0 {
            break file.sync_all();
        }
        match file.write(&zeros[..want]) {
            Ok(count) => written += count as u64,
            Err(error) => break Err(error),
        }
    };
    say(&format!("wrote {written}"))?;
    outcome
}

/// Touches memory one MiB at a time, then holds it.
fn eat_memory(bytes: u64, seconds: u64) -> io::Result<()> {
    const STEP: u64 = 1 << 20;
    let mut eaten = Vec::new();
    let mut left = bytes;
    while left > 0 {
        let step = left.min(STEP);
        // Not zeros: those would be pages that exist only once.
        eaten.push(std::hint::black_box(vec![1_u8; step as usize]));
        left -= step;
    }
    say(&format!("ate {bytes}"))?;
    let outcome = sleep(Some(seconds));
    drop(std::hint::black_box(eaten));
    outcome
}

/// Starts children up to the first failure, prints their number, and ends them.
fn fork(count: u64) -> io::Result<()> {
    let program = std::env::current_exe()?;
    let mut children: Vec<Child> = Vec::new();
    let mut failure = None;
    while (children.len() as u64) < count && failure.is_none() {
        match Command::new(&program).arg("sleep").stdin(Stdio::null()).spawn() {
            Ok(child) => children.push(child),
            Err(error) => failure = Some(error),
        }
    }
    let why = failure.map_or_else(String::new, |error| format!(": {error}"));
    say(&format!("started {} of {count}{why}", children.len()))?;
    for child in &mut children {
        child.kill()?;
        child.wait()?;
    }
    Ok(())
}

/// Tries a TCP connection; `Err` holds the word for what came instead.
fn dial(address: &str, limit: u64) -> Result<(), String> {
    let limit = Duration::from_millis(limit.max(1));
    let address = resolve(address).map_err(|error| error.to_string())?;
    match TcpStream::connect_timeout(&address, limit) {
        Ok(_) => Ok(()),
        Err(error) => Err(match error.kind() {
            ErrorKind::ConnectionRefused => "refused".into(),
            ErrorKind::TimedOut | ErrorKind::WouldBlock => "timed out".into(),
            ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable | ErrorKind::AddrNotAvailable => {
                "unreachable".into()
            }
            _ => error.to_string(),
        }),
    }
}

/// Turns `HOST:PORT` into an address; a scope such as `%eth0` may be an interface's name.
fn resolve(address: &str) -> io::Result<SocketAddr> {
    let mut address = address.to_owned();
    if let Some((start, rest)) = address.split_once('%')
        && let Some((scope, end)) = rest.split_once(']')
        && let Ok(index) = fs::read_to_string(format!("/sys/class/net/{scope}/ifindex"))
    {
        address = format!("{start}%{}]{end}", index.trim());
    }
    if let Ok(address) = address.parse() {
        return Ok(address);
    }
    let (host, port) = address.rsplit_once(':').ok_or(ErrorKind::InvalidInput)?;
    let port = port.parse().map_err(|_| ErrorKind::InvalidInput)?;
    let first = ask(host, Record::A)?.into_iter().next();
    let first = first.ok_or_else(|| io::Error::other("no address"))?;
    (first, port).to_socket_addrs()?.next().ok_or_else(|| io::Error::other("no address"))
}

fn connect(address: &str, limit: u64) -> io::Result<()> {
    let outcome = dial(address, limit);
    say(outcome.as_ref().err().map_or("connected", String::as_str))?;
    outcome.map_err(io::Error::other)
}

fn lookup(name: &str) -> io::Result<()> {
    let mut addresses = ask(name, Record::A)?;
    addresses.extend(ask(name, Record::Aaaa)?);
    if addresses.is_empty() {
        return say("no address");
    }
    for address in addresses {
        say(&address.to_string())?;
    }
    Ok(())
}

/// The types of record that `lookup` asks for.
#[derive(Clone, Copy, PartialEq)]
enum Record {
    A = 1,
    Aaaa = 28,
}

/// Asks the first name server of `/etc/resolv.conf`, and no hosts file, for addresses of a name.
///
/// A query of its own, since the C library of a static program may need files that the image
/// lacks.
///
/// # Errors
/// The server's refusal, silence for two seconds, or an answer that makes no sense.
fn ask(name: &str, record: Record) -> io::Result<Vec<IpAddr>> {
    let configuration = fs::read_to_string("/etc/resolv.conf")?;
    let server: IpAddr = configuration
        .lines()
        .find_map(|line| line.strip_prefix("nameserver "))
        .and_then(|address| address.trim().parse().ok())
        .ok_or_else(|| io::Error::other("no name server in /etc/resolv.conf"))?;
    let mut query = vec![0x74, record as u8, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in name.trim_end_matches('.').split('.') {
        let length = u8::try_from(label.len()).map_err(|_| ErrorKind::InvalidInput)?;
        query.push(length);
        query.extend(label.as_bytes());
    }
    query.extend([0, 0, record as u8, 0, 1]);
    let any: IpAddr = match server {
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((any, 0))?;
    // Polled, since gVisor on the host's network ignores a socket's read timeout.
    socket.set_nonblocking(true)?;
    socket.connect((server, 53))?;
    socket.send(&query)?;
    let end = Instant::now() + Duration::from_secs(2);
    let mut answer = [0; 4096];
    let length = loop {
        match socket.recv(&mut answer) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                if Instant::now() >= end {
                    return Err(io::Error::new(ErrorKind::TimedOut, "timed out"));
                }
                thread::sleep(Duration::from_millis(5));
            }
            outcome => break outcome?,
        }
    };
    addresses(&answer[..length], query.len(), record).ok_or_else(|| io::Error::from(ErrorKind::InvalidData))?
}

/// Reads the addresses out of a DNS answer whose question ends at `at`; `None` if it is cut short.
fn addresses(answer: &[u8], mut at: usize, record: Record) -> Option<io::Result<Vec<IpAddr>>> {
    let code = answer.get(3)? & 15;
    if code != 0 {
        let word = match code {
            2 => "SERVFAIL".to_owned(),
            3 => "NXDOMAIN".to_owned(),
            5 => "REFUSED".to_owned(),
            _ => format!("code {code}"),
        };
        return Some(Err(io::Error::other(word)));
    }
    let count = u16::from_be_bytes([*answer.get(6)?, *answer.get(7)?]);
    let mut found = Vec::new();
    for _ in 0..count {
        // A name is labels up to an empty one or up to a pointer.
        loop {
            let length = *answer.get(at)?;
            at += 1 + usize::from(length);
            if length == 0 {
                break;
            }
            if length >= 0xc0 {
                at = at - usize::from(length) + 1;
                break;
            }
        }
        let head = answer.get(at..at + 10)?;
        let length = usize::from(u16::from_be_bytes([head[8], head[9]]));
        let data = answer.get(at + 10..at + 10 + length)?;
        if head[..2] == [0, record as u8] {
            found.push(match record {
                Record::A => IpAddr::from(<[u8; 4]>::try_from(data).ok()?),
                Record::Aaaa => IpAddr::from(<[u8; 16]>::try_from(data).ok()?),
            });
        }
        at += 10 + length;
    }
    Some(Ok(found))
}

/// Bytes out of hexadecimal digits.
fn bytes_of(hex: &str) -> io::Result<Vec<u8>> {
    let digit = |byte: u8| char::from(byte).to_digit(16).map(|digit| digit as u8);
    let pairs = hex.as_bytes().chunks(2);
    let bytes: Option<Vec<u8>> = pairs.map(|pair| Some(digit(pair[0])? << 4 | digit(*pair.get(1)?)?)).collect();
    bytes.ok_or_else(|| io::Error::new(ErrorKind::InvalidInput, "no hexadecimal digits"))
}

/// Sends bytes, and prints what came back until the other side ends or nothing more comes in time.
fn send(kind: &str, address: &str, hex: &str, limit: u64) -> io::Result<()> {
    let (address, bytes) = (resolve(address)?, bytes_of(hex)?);
    let end = Instant::now() + Duration::from_millis(limit);
    let mut told = Vec::new();
    let how = match kind {
        "tcp" => {
            let mut stream = TcpStream::connect_timeout(&address, Duration::from_millis(limit.max(1)))?;
            stream.write_all(&bytes)?;
            stream.set_nonblocking(true)?;
            collect(|buffer| stream.read(buffer), end, &mut told)
        }
        _ => {
            let any: IpAddr = match address {
                SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
                SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
            };
            let socket = UdpSocket::bind((any, 0))?;
            socket.connect(address)?;
            socket.send(&bytes)?;
            socket.set_nonblocking(true)?;
            collect(|buffer| socket.recv(buffer), end, &mut told)
        }
    };
    let hex = told.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    });
    say(&format!("{how} after {} bytes\n{hex}\n{}", told.len(), String::from_utf8_lossy(&told)))
}

/// Reads on until the end, a failure or the time, and says which. Polled, as in [`ask`].
fn collect(mut read: impl FnMut(&mut [u8]) -> io::Result<usize>, end: Instant, told: &mut Vec<u8>) -> String {
    let mut buffer = [0; 4096];
    while told.len() < 1 << 16 {
        match read(&mut buffer) {
            Ok(0) => return "closed".to_owned(),
            Ok(length) => told.extend(&buffer[..length]),
            Err(error) if error.kind() == ErrorKind::WouldBlock && Instant::now() < end => {
                thread::sleep(Duration::from_millis(2));
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => return "silent".to_owned(),
            Err(error) => return error.to_string(),
        }
    }
    "enough".to_owned()
}

/// Asks for a URL, by the proxy that `http_proxy` names if it is set. With `https://` it only opens the
/// tunnel.
fn get(url: &str, headers: &[&str]) -> io::Result<()> {
    let (scheme, rest) = url.split_once("://").ok_or(ErrorKind::InvalidInput)?;
    let (host, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let path = if path.is_empty() { "/" } else { path };
    let default = if scheme == "https" { 443 } else { 80 };
    let authority = if host.contains(':') { host.to_owned() } else { format!("{host}:{default}") };
    let (address, line) = match std::env::var("http_proxy") {
        Ok(proxy) if scheme == "https" => (proxy, format!("CONNECT {authority}")),
        Ok(proxy) => (proxy, format!("GET {url}")),
        Err(_) => (authority.clone(), format!("GET {path}")),
    };
    let host = if scheme == "https" { &authority } else { host };
    let mut stream = TcpStream::connect(resolve(address.trim_start_matches("http://").trim_end_matches('/'))?)?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    let further: String = headers.iter().map(|header| format!("{header}\r\n")).collect();
    write!(stream, "{line} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n{further}\r\n")?;
    let mut lines = BufReader::new(stream);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") && lines.read_line(&mut head)? > 0 {}
    say(head.lines().next().unwrap_or("no answer"))?;
    if line.starts_with("CONNECT") && head.contains(" 200 ") {
        return Ok(());
    }
    let length =
        head.lines().find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length:")?.trim().parse().ok());
    let mut body = String::new();
    lines.take(length.unwrap_or(1 << 20)).read_to_string(&mut body)?;
    say(body.trim_end())
}

/// Answers questions for addresses.
fn names_server(address: &str, names: &[&str]) -> io::Result<()> {
    let socket = UdpSocket::bind((address, 53))?;
    let mut query = [0; 1500];
    loop {
        let (length, from) = socket.recv_from(&mut query)?;
        let Some(end) = query[12..length].iter().position(|byte| *byte == 0).map(|at| 12 + at) else { continue };
        let mut name = String::new();
        let mut at = 12;
        while at < end {
            let length = usize::from(query[at]);
            let Some(label) = query.get(at + 1..at + 1 + length) else { break };
            name = format!("{name}{}.", String::from_utf8_lossy(label).to_lowercase());
            at += 1 + length;
        }
        let known = names.iter().filter_map(|pair| pair.split_once('='));
        let found = known.into_iter().find(|(known, _)| format!("{known}.") == name);
        let found = found.and_then(|(_, address)| address.parse::<Ipv4Addr>().ok());
        let is_address = query.get(end + 1..end + 3) == Some(&[0, 1]);
        let mut reply = query[..2].to_vec();
        let count = u8::from(found.is_some() && is_address);
        reply.extend([0x81, if found.is_some() { 0x80 } else { 0x83 }, 0, 1, 0, count, 0, 0, 0, 0]);
        reply.extend(query.get(12..end + 5).unwrap_or_default());
        if let Some(address) = found.filter(|_| is_address) {
            reply.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4]);
            reply.extend(address.octets());
        }
        socket.send_to(&reply, from)?;
    }
}

/// Answers every request with what it was sent.
fn upstream(port: u64) -> io::Result<()> {
    let port = u16::try_from(port).map_err(invalid)?;
    for stream in TcpListener::bind((Ipv4Addr::LOCALHOST, port))?.incoming().flatten() {
        // A client that goes away in the middle harms nobody else.
        let _ = thread::spawn(move || echo_head(stream));
    }
    Ok(())
}

fn echo_head(mut stream: TcpStream) -> io::Result<()> {
    stream.set_read_timeout(Some(Duration::from_secs(60)))?;
    let mut lines = BufReader::new(stream.try_clone()?);
    loop {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            if lines.read_line(&mut head)? == 0 {
                return Ok(());
            }
        }
        say(head.trim_end())?;
        let body = format!("The upstream was sent:\n{}\n", head.trim_end());
        write!(stream, "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {}\r\n\r\n{body}", body.len())?;
    }
}

/// Opens connections that say nothing.
fn hold(address: &str, count: u64, seconds: u64) -> io::Result<()> {
    let address = resolve(address)?;
    let limit = Duration::from_secs(2);
    let mut held = Vec::new();
    for _ in 0..count {
        match TcpStream::connect_timeout(&address, limit) {
            Ok(stream) => held.push(stream),
            Err(_) => break,
        }
    }
    say(&format!("holds {}", held.len()))?;
    sleep(Some(seconds))
}

/// The last failed call's error, where a call failed.
fn checked(result: isize) -> io::Result<usize> {
    usize::try_from(result).map_err(|_| io::Error::last_os_error())
}

/// The kernel's form of an IPv4 address and a port.
fn socket_address(address: Ipv4Addr, port: u16) -> [u8; 16] {
    let mut form = [0; 16];
    form[..2].copy_from_slice(&2_u16.to_ne_bytes());
    form[2..4].copy_from_slice(&port.to_be_bytes());
    form[4..8].copy_from_slice(&address.octets());
    form
}

/// Makes a socket, or says why not.
fn raw_socket(domain: c_int, kind: c_int, protocol: c_int) -> io::Result<c_int> {
    // SAFETY: the call takes no memory.
    let socket = unsafe { system::socket(domain, kind, protocol) };
    if socket < 0 { Err(io::Error::last_os_error()) } else { Ok(socket) }
}

fn send_to(socket: c_int, bytes: &[u8], address: &[u8]) -> io::Result<usize> {
    // SAFETY: both slices outlive the call, which reads no further than their lengths.
    checked(unsafe {
        system::sendto(socket, bytes.as_ptr().cast(), bytes.len(), 0, address.as_ptr().cast(), address.len() as u32)
    })
}

fn checksum(bytes: &[u8]) -> u16 {
    let words = bytes.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0)));
    let sum: u32 = words.sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    !((folded & 0xffff) + (folded >> 16)) as u16
}

fn invalid<E>(_: E) -> io::Error {
    io::Error::from(ErrorKind::InvalidInput)
}

/// Asks for an echo with the kind of socket that needs no privilege.
fn ping(address: &str, limit: u64) -> io::Result<()> {
    const MSG_DONTWAIT: c_int = 0x40;
    let address: Ipv4Addr = address.parse().map_err(invalid)?;
    let socket = raw_socket(2, 2, 1)?;
    let mut echo = [8, 0, 0, 0, 0, 1, 0, 1, b'o', b'u', b't', b'?'];
    let sum = checksum(&echo);
    echo[2..4].copy_from_slice(&sum.to_be_bytes());
    send_to(socket, &echo, &socket_address(address, 0))?;
    let end = Instant::now() + Duration::from_millis(limit);
    let mut buffer = [0_u8; 256];
    loop {
        // SAFETY: the kernel writes no further than the buffer's length.
        let read = checked(unsafe { system::recv(socket, buffer.as_mut_ptr().cast(), buffer.len(), MSG_DONTWAIT) });
        match read {
            Ok(_) => return say("answered"),
            Err(error) if error.kind() == ErrorKind::WouldBlock && Instant::now() < end => {
                thread::sleep(Duration::from_millis(2));
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                return Err(io::Error::new(ErrorKind::TimedOut, "timed out"));
            }
            Err(error) => return Err(error),
        }
    }
}

/// Sends a UDP packet with a source that is not ours.
fn spoof(source: &str, address: &str, hex: &str) -> io::Result<()> {
    let source: Ipv4Addr = source.parse().map_err(invalid)?;
    let SocketAddr::V4(to) = address.parse().map_err(invalid)? else { return Err(invalid(())) };
    let bytes = bytes_of(hex)?;
    let length = u16::try_from(28 + bytes.len()).map_err(invalid)?;
    let mut packet = vec![0x45, 0];
    packet.extend(length.to_be_bytes());
    packet.extend([0, 1, 0, 0, 64, 17, 0, 0]);
    packet.extend(source.octets());
    packet.extend(to.ip().octets());
    packet.extend(53_001_u16.to_be_bytes());
    packet.extend(to.port().to_be_bytes());
    packet.extend((length - 20).to_be_bytes());
    packet.extend([0, 0]);
    packet.extend(&bytes);
    let socket = raw_socket(2, 3, 255)?;
    send_to(socket, &packet, &socket_address(*to.ip(), 0))?;
    say("sent")
}

/// Tells everybody on the network that an address is at our interface, by request and by answer.
fn claim(address: &str) -> io::Result<()> {
    const ETH_P_ARP: u16 = 0x0806;
    let address: Ipv4Addr = address.parse().map_err(invalid)?;
    let text = |name: &str| fs::read_to_string(format!("/sys/class/net/eth0/{name}"));
    let own = bytes_of(&text("address")?.trim().replace(':', ""))?;
    let index: u32 = text("ifindex")?.trim().parse().map_err(invalid)?;
    let socket = raw_socket(17, 3, c_int::from(ETH_P_ARP.to_be()))?;
    let mut to = [0_u8; 20];
    to[..2].copy_from_slice(&17_u16.to_ne_bytes());
    to[2..4].copy_from_slice(&ETH_P_ARP.to_be_bytes());
    to[4..8].copy_from_slice(&index.to_ne_bytes());
    to[11] = 6;
    to[12..18].fill(0xff);
    for kind in [1, 2] {
        let mut frame = vec![0xff; 6];
        frame.extend(&own);
        frame.extend(ETH_P_ARP.to_be_bytes());
        frame.extend([0, 1, 8, 0, 6, 4, 0, kind]);
        frame.extend(&own);
        frame.extend(address.octets());
        frame.extend([0xff; 6]);
        frame.extend(address.octets());
        send_to(socket, &frame, &to)?;
    }
    say("claimed")
}

/// How many commands of a script run at once.
const AT_ONCE: usize = 8;

/// Runs the commands of a file, each on a thread of its own, and prints what became of them in their
/// order.
fn script(path: &str) -> io::Result<()> {
    let text = fs::read_to_string(path)?;
    let lines: Vec<String> = text.lines().map(str::to_owned).collect();
    for some in lines.chunks(AT_ONCE) {
        let run = |line: String| {
            SAID.set(Some(String::new()));
            let code = run(&line.split(' ').collect::<Vec<_>>());
            (code, SAID.take().unwrap_or_default())
        };
        let threads: Vec<_> = some.iter().cloned().map(|line| thread::spawn(move || run(line))).collect();
        for thread in threads {
            let (code, said) = thread.join().map_err(|_| io::Error::other("a command broke"))?;
            write!(io::stdout(), "= {code}\n{said}")?;
        }
    }
    Ok(())
}

/// Prints lines of 64 bytes, the last one cut to length.
fn print(bytes: u64) -> io::Result<()> {
    let line = [b"0123456789abcdef".repeat(4)[..63].to_vec(), vec![b'\n']].concat();
    let mut out = io::stdout().lock();
    for _ in 0..bytes / 64 {
        out.write_all(&line)?;
    }
    out.write_all(&line[64 - (bytes % 64) as usize..])?;
    out.flush()
}

/// Tries the ways out, one line each, and fails when one of them is open.
///
/// What it makes on a success stays: that it was possible is the finding.
fn escape(addresses: &[&str]) -> u8 {
    let mut open = 0;
    let mut tell = |what: &str, outcome: Result<(), String>| match outcome {
        Ok(()) => {
            open += 1;
            println!("OPEN    {what}");
        }
        Err(why) => println!("refused {what}: {why}"),
    };
    let text = |error: io::Error| error.to_string();
    for path in [
        "/escape",
        "/etc/escape",
        "/source/escape",
        "/proc/sys/kernel/core_pattern",
        "/proc/sysrq-trigger",
        "/sys/kernel/uevent_helper",
        "/sys/fs/cgroup/escape",
        "/sys/fs/cgroup/cgroup.procs",
        "/sys/fs/cgroup/memory/memory.limit_in_bytes",
    ] {
        let file = OpenOptions::new().write(true).create(true).truncate(false).open(path);
        tell(&format!("write {path}"), file.map(drop).map_err(text));
    }
    for path in ["/proc/kcore", "/dev/mem", "/dev/kmsg", "/dev/sda", "/dev/vda", "/dev/kvm"] {
        tell(&format!("read {path}"), read_one(path).map_err(text));
    }
    for path in ["/var/run/docker.sock", "/run/docker.sock", "/run/containerd/containerd.sock"] {
        tell(&format!("connect {path}"), UnixStream::connect(path).map(drop).map_err(text));
    }
    tell("run a program in /tmp", run_copy("/tmp/escape").map_err(text));
    for (what, outcome) in privileged() {
        tell(what, outcome.map_err(text));
    }
    for address in addresses {
        tell(&format!("connect {address}"), dial(address, 1000));
    }
    u8::from(open > 0)
}

/// Reads one byte; an empty file counts as refused, since a masked one is empty.
fn read_one(path: &str) -> io::Result<()> {
    match File::open(path)?.read(&mut [0])? {
        0 => Err(io::Error::other("empty")),
        _ => Ok(()),
    }
}

/// The calls that only a privileged process may make.
fn privileged() -> Vec<(&'static str, io::Result<()>)> {
    const S_IFBLK: u32 = 0o060_000;
    const AF_INET: c_int = 2;
    const AF_PACKET: c_int = 17;
    const SOCK_RAW: c_int = 3;
    const IPPROTO_ICMP: c_int = 1;
    let path = |text: &str| CString::new(text).unwrap_or_default();
    let (tmp, node, tmpfs) = (path("/tmp"), path("/tmp/disk"), path("tmpfs"));
    let check = |result: c_int| {
        if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    };
    // SAFETY: the strings end in NUL and outlive the calls, which keep none of them.
    unsafe {
        vec![
            ("setuid 0", check(system::setuid(0))),
            ("setgid 0", check(system::setgid(0))),
            ("chroot /tmp", check(system::chroot(tmp.as_ptr()))),
            (
                "make and read a block device",
                check(system::mknod(node.as_ptr(), S_IFBLK | 0o600, 0x0800)).and_then(|()| read_one("/tmp/disk")),
            ),
            ("mount a tmpfs", check(system::mount(tmpfs.as_ptr(), tmp.as_ptr(), tmpfs.as_ptr(), 0, std::ptr::null()))),
            ("open a packet socket", check(system::socket(AF_PACKET, SOCK_RAW, 0))),
            ("open a raw socket", check(system::socket(AF_INET, SOCK_RAW, IPPROTO_ICMP))),
        ]
    }
}

/// Runs a copy of this program from `path`.
fn run_copy(path: &str) -> io::Result<()> {
    fs::copy(std::env::current_exe()?, path)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o700))?;
    let status = Command::new(path).arg("help").stdout(Stdio::null()).status();
    let _ = fs::remove_file(path);
    status.map(drop)
}
