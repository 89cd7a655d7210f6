//! What an agent does in a network with the standard library alone.

use std::fmt::Write as _;
use std::fs;
use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, ToSocketAddrs, UdpSocket};
use std::thread;
use std::time::{Duration, Instant};

use super::{invalid, say, sleep};

/// Tries a TCP connection; `Err` holds the word for what came instead.
pub fn dial(address: &str, limit: u64) -> Result<(), String> {
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
pub fn resolve(address: &str) -> io::Result<SocketAddr> {
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

pub fn connect(address: &str, limit: u64) -> io::Result<()> {
    let outcome = dial(address, limit);
    say(outcome.as_ref().err().map_or("connected", String::as_str))?;
    outcome.map_err(io::Error::other)
}

pub fn lookup(name: &str) -> io::Result<()> {
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
pub enum Record {
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
pub fn ask(name: &str, record: Record) -> io::Result<Vec<IpAddr>> {
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
pub fn addresses(answer: &[u8], mut at: usize, record: Record) -> Option<io::Result<Vec<IpAddr>>> {
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
pub fn bytes_of(hex: &str) -> io::Result<Vec<u8>> {
    let digit = |byte: u8| char::from(byte).to_digit(16).map(|digit| digit as u8);
    let pairs = hex.as_bytes().chunks(2);
    let bytes: Option<Vec<u8>> = pairs.map(|pair| Some(digit(pair[0])? << 4 | digit(*pair.get(1)?)?)).collect();
    bytes.ok_or_else(|| io::Error::new(ErrorKind::InvalidInput, "no hexadecimal digits"))
}

/// Sends bytes, and prints what came back until the other side ends or nothing more comes in time.
pub fn send(kind: &str, address: &str, hex: &str, limit: u64) -> io::Result<()> {
    let (address, bytes) = (resolve(address)?, bytes_of(hex)?);
    let end = Instant::now() + Duration::from_millis(limit);
    let mut received = Vec::new();
    let how = match kind {
        "tcp" => {
            let mut stream = TcpStream::connect_timeout(&address, Duration::from_millis(limit.max(1)))?;
            stream.write_all(&bytes)?;
            stream.set_nonblocking(true)?;
            collect(|buffer| stream.read(buffer), end, &mut received)
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
            collect(|buffer| socket.recv(buffer), end, &mut received)
        }
    };
    let hex = received.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    });
    say(&format!("{how} after {} bytes\n{hex}\n{}", received.len(), String::from_utf8_lossy(&received)))
}

/// Reads on until the end, a failure or the time, and says which. Polled, as in [`ask`].
pub fn collect(mut read: impl FnMut(&mut [u8]) -> io::Result<usize>, end: Instant, received: &mut Vec<u8>) -> String {
    let mut buffer = [0; 4096];
    while received.len() < 1 << 16 {
        match read(&mut buffer) {
            Ok(0) => return "closed".to_owned(),
            Ok(length) => received.extend(&buffer[..length]),
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
pub fn get(url: &str, headers: &[&str]) -> io::Result<()> {
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
pub fn names_server(address: &str, names: &[&str]) -> io::Result<()> {
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
pub fn upstream(port: u64) -> io::Result<()> {
    let port = u16::try_from(port).map_err(invalid)?;
    for stream in TcpListener::bind((Ipv4Addr::LOCALHOST, port))?.incoming().flatten() {
        // A client that goes away in the middle harms nobody else.
        let _ = thread::spawn(move || echo_head(stream));
    }
    Ok(())
}

pub fn echo_head(mut stream: TcpStream) -> io::Result<()> {
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
pub fn hold(address: &str, count: u64, seconds: u64) -> io::Result<()> {
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
