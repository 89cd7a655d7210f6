//! Apps of tenants.

use std::{
    io::{Read, Write},
    net::{Shutdown, TcpStream},
    sync::{
        Arc, Condvar, LazyLock, Mutex,
        atomic::{AtomicU64, Ordering},
    },
};

use crate::net::read_until;

/// The head of a request, in which names are in lower case as the ingress sends them. Empty where the connection ends.
pub fn head(stream: &mut TcpStream) -> String {
    let head = read_until(stream, "\r\n\r\n");
    if head.ends_with("\r\n\r\n") { head } else { String::new() }
}

/// The value of a header of a head.
pub fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.lines().find_map(|line| {
        let (this, value) = line.split_once(':')?;
        this.eq_ignore_ascii_case(name).then_some(value.trim())
    })
}

/// The body of a request, and the trailers behind it as they stand there. `None` where it breaks off.
pub fn body(stream: &mut TcpStream, head: &str) -> Option<(Vec<u8>, String)> {
    let mut body = Vec::new();
    if let Some(length) = header(head, "content-length") {
        body.resize(length.parse().unwrap(), 0);
        stream.read_exact(&mut body).ok()?;
    } else if header(head, "transfer-encoding") == Some("chunked") {
        loop {
            let line = read_until(stream, "\r\n");
            let size = usize::from_str_radix(line.trim_end().split(';').next()?, 16).ok()?;
            if size == 0 {
                break;
            }
            let begun = body.len();
            body.resize(begun + size + 2, 0);
            stream.read_exact(&mut body[begun..]).ok()?;
            body.truncate(begun + size);
        }
        let mut trailers = read_until(stream, "\r\n");
        while trailers != "\r\n" && !trailers.ends_with("\r\n\r\n") {
            let line = read_until(stream, "\r\n");
            if line.is_empty() {
                return None;
            }
            trailers += &line;
        }
        return Some((body, trailers));
    }
    Some((body, String::new()))
}

/// Answers with a body of a length.
pub fn answer(stream: &mut TcpStream, body: &[u8]) -> std::io::Result<()> {
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nX-App: tenant\r\n\r\n", body.len());
    stream.write_all(&[head.as_bytes(), body].concat())
}

/// Answers each request with its head and its body, and sends back all that comes over a WebSocket.
pub fn mirror(mut stream: TcpStream) {
    let head = head(&mut stream);
    mirror_after(stream, head);
}

/// Does so where the first head was read already.
pub fn mirror_after(mut stream: TcpStream, mut first: String) {
    while !first.is_empty() {
        if header(&first, "upgrade").is_some() {
            let agreed = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nX-App: tenant\r\n\r\n";
            if stream.write_all(agreed.as_bytes()).is_ok() {
                echo(stream);
            }
            return;
        }
        let Some((body, trailers)) = body(&mut stream, &first) else { return };
        let seen = if first.starts_with("HEAD ") {
            Vec::new()
        } else {
            [first.as_bytes(), &body, trailers.as_bytes()].concat()
        };
        if answer(&mut stream, &seen).is_err() {
            return;
        }
        first = head(&mut stream);
    }
}

/// Refuses a request at its head, and reads what still comes of it.
pub fn refuses(mut stream: TcpStream) {
    head(&mut stream);
    let refusal = b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 8\r\nConnection: close\r\n\r\ntoo much";
    let _ = stream.write_all(refusal).and_then(|()| stream.shutdown(Shutdown::Write));
    let _ = std::io::copy(&mut stream, &mut std::io::sink());
}

/// Sends back whatever comes, until the other side ends.
fn echo(mut stream: TcpStream) {
    let mut piece = [0; 16 << 10];
    while let Ok(length @ 1..) = stream.read(&mut piece) {
        if stream.write_all(&piece[..length]).is_err() {
            return;
        }
    }
    let _ = stream.shutdown(Shutdown::Write);
}

/// So many bytes, from a place, of a body whose every byte says where it stands.
pub fn bytes_at(place: u64, length: usize) -> Vec<u8> {
    static PATTERN: LazyLock<Vec<u8>> = LazyLock::new(|| (0..=250).cycle().take(251 << 12).collect());
    let mut bytes = Vec::with_capacity(length);
    while bytes.len() < length {
        let from = ((place + bytes.len() as u64) % 251) as usize;
        let piece = &PATTERN[from..];
        bytes.extend_from_slice(&piece[..piece.len().min(length - bytes.len())]);
    }
    bytes
}

/// Counts what goes, and holds it up.
#[derive(Default)]
pub struct Valve {
    gone: AtomicU64,
    is_open: Mutex<bool>,
    opens: Condvar,
}

impl Valve {
    pub fn closed() -> Arc<Self> {
        Arc::default()
    }

    /// How much has gone.
    pub fn gone(&self) -> u64 {
        self.gone.load(Ordering::Relaxed)
    }

    pub fn went(&self, bytes: usize) {
        self.gone.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    pub fn open(&self) {
        *self.is_open.lock().unwrap() = true;
        self.opens.notify_all();
    }

    /// Waits until it is open.
    pub fn pass(&self) {
        drop(self.opens.wait_while(self.is_open.lock().unwrap(), |is_open| !*is_open).unwrap());
    }
}

/// Answers each request with a body of so many bytes, as fast as they are taken, and counts them.
pub fn pour(length: u64, valve: Arc<Valve>) -> impl Fn(TcpStream) + Send + Sync {
    move |mut stream| {
        while !head(&mut stream).is_empty() {
            let begun = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n");
            if stream.write_all(begun.as_bytes()).is_err() {
                return;
            }
            let mut sent = 0;
            while sent < length {
                let piece = bytes_at(sent, (length - sent).min(64 << 10) as usize);
                if stream.write_all(&piece).is_err() {
                    return;
                }
                sent += piece.len() as u64;
                valve.went(piece.len());
            }
        }
    }
}
