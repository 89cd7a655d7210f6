//! Asking the daemon over its socket.

use std::{
    io,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use http_body_util::{BodyExt, Full, Limited};
use hyper::{Method, Request, StatusCode, body::Bytes, client::conn::http1, header};
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::{
    net::UnixStream,
    time::{sleep, timeout},
};

use crate::{model::Status, web::Refusal};

/// How long an answer is waited for. The daemon itself gives up before.
const PATIENCE: Duration = Duration::from_secs(15);

/// How long somebody who asks too often is patient.
const PERSISTENCE: Duration = Duration::from_secs(30);

/// The longest answer that is read, in bytes: a status of ten thousand tenants is 10 MB.
const MAX_ANSWER: usize = 256 << 20;

/// Why the daemon did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody listens.
    #[error("the daemon does not answer on {socket}", socket = socket.display())]
    Unreachable {
        /// The socket.
        socket: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// The socket is not for this user.
    #[error("{socket} is not for this user", socket = socket.display())]
    Forbidden {
        /// The socket.
        socket: PathBuf,
    },
    /// The connection broke.
    #[error("the connection to the daemon on {socket} broke", socket = socket.display())]
    Broken {
        /// The socket.
        socket: PathBuf,
        /// What was seen.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The daemon takes too long.
    #[error("the daemon did not answer on {socket} within {} s", PATIENCE.as_secs(), socket = socket.display())]
    TimedOut {
        /// The socket.
        socket: PathBuf,
    },
    /// The daemon says no.
    #[error(transparent)]
    Refused(Refusal),
    /// Something answers that is no daemon of this version.
    #[error("the daemon answered {status} without a reason")]
    Unexplained {
        /// The status of the answer.
        status: StatusCode,
    },
    /// The answer is not one of this version.
    #[error("the daemon's answer is not understood")]
    Malformed(#[source] serde_json::Error),
}

/// Asks the daemon that listens on one socket.
pub struct Client<'a> {
    socket: &'a Path,
}

impl<'a> Client<'a> {
    /// A client for the daemon on this socket.
    pub fn new(socket: &'a Path) -> Self {
        Self { socket }
    }

    /// How everything stands, or one tenant.
    pub async fn status(&self, tenant: Option<&str>) -> Result<Status, ClientError> {
        let path = tenant.map_or_else(|| "/v1/status".to_owned(), |tenant| format!("/v1/status/{}", escape(tenant)));
        parse(&self.send(Method::GET, &path, None).await?)
    }

    /// Has the daemon do something, and returns what it says. The words become a path, each escaped.
    pub async fn post(&self, path: &[&str], body: Option<&Value>) -> Result<Value, ClientError> {
        let words: Vec<_> = path.iter().map(|word| escape(word)).collect();
        parse(&self.send(Method::POST, &format!("/v1/{}", words.join("/")), body).await?)
    }

    /// Asks, and asks again for a while where the daemon says that this user asks too often.
    async fn send(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Bytes, ClientError> {
        let until = Instant::now() + PERSISTENCE;
        loop {
            let exchange = timeout(PATIENCE, self.exchange(method.clone(), path, body)).await;
            match exchange.unwrap_or_else(|_| Err(ClientError::TimedOut { socket: self.socket() })) {
                Err(ClientError::Refused(Refusal { retry_after: Some(seconds), .. }))
                    if Instant::now() + Duration::from_secs(seconds) < until =>
                {
                    sleep(Duration::from_secs(seconds)).await;
                }
                other => return other,
            }
        }
    }

    async fn exchange(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Bytes, ClientError> {
        let stream = UnixStream::connect(self.socket).await.map_err(|source| match source.kind() {
            io::ErrorKind::PermissionDenied => ClientError::Forbidden { socket: self.socket() },
            _ => ClientError::Unreachable { socket: self.socket(), source },
        })?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(|e| self.broken(e))?;
        // Its end shows in the answer.
        tokio::spawn(connection);
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, "tenantd")
            .header(header::CONTENT_TYPE, "application/json")
            .body(Full::new(Bytes::from(body.map(Value::to_string).unwrap_or_default())))
            .map_err(|e| self.broken(e))?;
        let (head, body) = sender.send_request(request).await.map_err(|e| self.broken(e))?.into_parts();
        let body = Limited::new(body, MAX_ANSWER).collect().await.map_err(|e| self.broken(e))?.to_bytes();
        if head.status.is_success() {
            return Ok(body);
        }
        let refused = serde_json::from_slice(&body).map(ClientError::Refused);
        Err(refused.unwrap_or(ClientError::Unexplained { status: head.status }))
    }

    fn socket(&self) -> PathBuf {
        self.socket.to_owned()
    }

    fn broken(&self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> ClientError {
        ClientError::Broken { socket: self.socket(), source: source.into() }
    }
}

fn parse<T: DeserializeOwned>(answer: &[u8]) -> Result<T, ClientError> {
    serde_json::from_slice(answer).map_err(ClientError::Malformed)
}

/// A word as one part of a path, whatever is in it.
fn escape(word: &str) -> String {
    let mut out = String::with_capacity(word.len());
    for byte in word.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' => out.push(char::from(byte)),
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}
