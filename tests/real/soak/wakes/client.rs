//! A client that asks once, and says what it saw.

use std::{
    fmt,
    io::{ErrorKind, Read, Write},
    net::TcpStream,
    thread,
    time::{Duration, Instant},
};

use crate::daemon::{TIMEOUT, ingress::PORT};

/// How long an answer may take: what the ingress lets a request wait, and then some.
const PATIENCE: Duration = Duration::from_secs(90);

/// The mask of a WebSocket's frames.
const MASK: [u8; 4] = [1, 2, 3, 4];

/// What is asked.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    /// A request that is answered after so many milliseconds with so many bytes.
    Get { wait: u64, bytes: usize },
    /// A request with a body of so many bytes.
    Post { body: usize },
    /// A WebSocket with so many messages that are echoed, and as many milliseconds between two of them.
    WebSocket { messages: usize, pause: u64 },
}

/// A request, by an id that no other one has.
#[derive(Clone, Debug)]
pub struct Request {
    pub tenant: &'static str,
    pub id: String,
    pub kind: Kind,
}

/// What became of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// All of what was asked for, by the tenant that was asked.
    Answered,
    /// 502 with its reason: the tenant went away after it may have received the request.
    Unanswered,
    /// The connection broke off.
    Cut(String),
    /// Somebody else answered, or something else was answered.
    Foreign(String),
    /// Anything else.
    Failed(String),
}

/// A request that was made.
pub struct Asked {
    pub request: Request,
    /// From when on something of it was under way.
    pub from: Instant,
    pub to: Instant,
    pub outcome: Outcome,
}

impl fmt::Display for Asked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { request: Request { tenant, id, kind }, from, to, outcome } = self;
        write!(f, "{tenant} {id} {kind:?}: {outcome:?} after {:?}", to.duration_since(*from))
    }
}

/// Makes a request, once. An ingress that does not listen is waited for: nothing was sent.
pub fn ask(request: Request, token: &str) -> Asked {
    let mut stream = connected();
    let from = Instant::now();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let outcome = exchange(&mut stream, &request, token).unwrap_or_else(|outcome| outcome);
    Asked { request, from, to: Instant::now(), outcome }
}

fn connected() -> TcpStream {
    let begun = Instant::now();
    loop {
        match TcpStream::connect(("127.0.0.1", PORT)) {
            Ok(stream) => return stream,
            Err(error) if begun.elapsed() < TIMEOUT => drop(error),
            Err(error) => panic!("the ingress listens within {TIMEOUT:?}: {error}"),
        }
        thread::sleep(Duration::from_millis(10));
    }
}

fn exchange(stream: &mut TcpStream, request: &Request, token: &str) -> Result<Outcome, Outcome> {
    let Request { tenant, id, kind } = request;
    let head = |method: &str, query: &str, more: &str| {
        format!(
            "{method} /work?id={id}{query} HTTP/1.1\r\nHost: {tenant}.agents.example.com\r\nAuthorization: Bearer {token}\r\n{more}\r\n"
        )
    };
    let mut sent = match kind {
        Kind::Get { wait, bytes } => {
            head("GET", &format!("&wait={wait}&bytes={bytes}"), "Connection: close\r\n").into_bytes()
        }
        Kind::Post { body } => {
            head("POST", "", &format!("Connection: close\r\nContent-Length: {body}\r\n")).into_bytes()
        }
        Kind::WebSocket { .. } => {
            let more = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
            head("GET", "", more).into_bytes()
        }
    };
    if let Kind::Post { body } = kind {
        sent.resize(sent.len() + body, b'y');
    }
    // One that is refused may be answered before it is read.
    let _ = stream.write_all(&sent);
    let head = read_head(stream)?;
    let status = head.split(' ').nth(1).unwrap_or_default();
    match (status, kind) {
        ("101", Kind::WebSocket { messages, pause }) => echo(stream, request, *messages, *pause),
        ("200", Kind::Get { bytes, .. }) => answered(stream, request, &head, 0, *bytes),
        ("200", Kind::Post { body }) => answered(stream, request, &head, *body, 0),
        (status, _) => {
            let mut said = Vec::new();
            let _ = stream.read_to_end(&mut said);
            let said = String::from_utf8_lossy(&said);
            let is_reasoned = said.contains("tenantd: the tenant ended the connection without an answer");
            match status {
                "502" if is_reasoned => Ok(Outcome::Unanswered),
                _ => Ok(Outcome::Failed(format!("{head}{said}"))),
            }
        }
    }
}

/// Looks at a body: who answers, and whether all of it came.
fn answered(
    stream: &mut TcpStream,
    Request { tenant, id, .. }: &Request,
    head: &str,
    sent: usize,
    bytes: usize,
) -> Result<Outcome, Outcome> {
    let expected = format!("tenant {tenant}\nid {id}\nsent {sent}\n");
    let whole = expected.len() + bytes;
    let mut body = vec![0; whole.min(expected.len())];
    read(stream, &mut body)?;
    if body != expected.as_bytes() {
        return Ok(Outcome::Foreign(format!("{head}{}", String::from_utf8_lossy(&body))));
    }
    let mut rest = vec![0; bytes];
    read(stream, &mut rest)?;
    let mut more = Vec::new();
    let _ = stream.read_to_end(&mut more);
    match more.is_empty() && rest.iter().all(|byte| *byte == b'x') {
        true => Ok(Outcome::Answered),
        false => Ok(Outcome::Foreign(format!("{head}{} more bytes, or others", more.len()))),
    }
}

/// Sends messages, and looks at what comes back.
fn echo(
    stream: &mut TcpStream,
    Request { tenant, id, .. }: &Request,
    messages: usize,
    pause: u64,
) -> Result<Outcome, Outcome> {
    for number in 0..messages {
        let text = format!("message {number}");
        let length = u8::try_from(text.len()).unwrap();
        let mut frame = vec![0x81, 0x80 | length];
        frame.extend(MASK);
        frame.extend(text.bytes().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask));
        stream.write_all(&frame).map_err(|error| Outcome::Cut(format!("{error} at message {number}")))?;
        let mut head = [0; 4];
        read(stream, &mut head)?;
        let mut answer = vec![0; usize::from(u16::from_be_bytes([head[2], head[3]]))];
        read(stream, &mut answer)?;
        if answer != format!("{tenant} {id} {text}").as_bytes() {
            return Ok(Outcome::Foreign(format!("{head:?} {}", String::from_utf8_lossy(&answer))));
        }
        thread::sleep(Duration::from_millis(pause));
    }
    // What is left of it is not needed any more.
    let _ = stream.write_all(&[&[0x88, 0x80], MASK.as_slice()].concat());
    Ok(Outcome::Answered)
}

/// Reads the head of an answer, with the empty line at its end.
fn read_head(stream: &mut TcpStream) -> Result<String, Outcome> {
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") {
        read(stream, &mut byte).map_err(|outcome| match outcome {
            Outcome::Cut(error) => Outcome::Cut(format!("{error} in the head {:?}", String::from_utf8_lossy(&head))),
            other => other,
        })?;
        head.extend(byte);
    }
    Ok(String::from_utf8_lossy(&head).into_owned())
}

fn read(stream: &mut TcpStream, bytes: &mut [u8]) -> Result<(), Outcome> {
    stream.read_exact(bytes).map_err(|error| match error.kind() {
        ErrorKind::WouldBlock | ErrorKind::TimedOut => Outcome::Failed(format!("no answer within {PATIENCE:?}")),
        _ => Outcome::Cut(error.to_string()),
    })
}
