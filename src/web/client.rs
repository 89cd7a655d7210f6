//! The client of the daemon's sockets.

use std::{
    io,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use http_body_util::{BodyExt, Full, Limited};
use hyper::{Method, Request, StatusCode, body::Bytes, client::conn::http1, header};
use hyper_util::rt::TokioIo;
use tokio::{
    net::UnixStream,
    time::{sleep, timeout},
};

use super::{
    call::{Call, Effect, encode},
    refusal::Refusal,
};

/// How long an answer is waited for. The daemon itself gives up before.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(15);

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
        /// Where the daemon was to listen.
        socket: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// The socket is not for this user.
    #[error("{socket} is not for this user", socket = socket.display())]
    Forbidden {
        /// Where the daemon was to listen.
        socket: PathBuf,
    },
    /// The connection broke.
    #[error("the connection to the daemon on {socket} broke", socket = socket.display())]
    Broken {
        /// Where the daemon was to listen.
        socket: PathBuf,
        /// What was seen.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The daemon takes too long.
    #[error("the daemon did not answer on {socket} within {} s", REQUEST_TIMEOUT.as_secs(), socket = socket.display())]
    TimedOut {
        /// Where the daemon was to listen.
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

    /// Makes a call, and makes it again for a while where the daemon says that this user asks too often.
    ///
    /// # Errors
    /// The daemon refuses, or does not answer; it may still do then what it was asked.
    pub async fn call<C: Call>(&self, call: &C) -> Result<C::Answer, ClientError> {
        let (path, body) = encode(call).map_err(|e| self.broken(e))?;
        let method = match C::EFFECT {
            Effect::Reads => Method::GET,
            Effect::Changes | Effect::Begins => Method::POST,
        };
        let answer = self.send(&method, &path, &body).await?;
        serde_json::from_slice(&answer).map_err(ClientError::Malformed)
    }

    async fn send(&self, method: &Method, path: &str, body: &str) -> Result<Bytes, ClientError> {
        let until = Instant::now() + PERSISTENCE;
        loop {
            let exchange = timeout(REQUEST_TIMEOUT, self.exchange(method, path, body)).await;
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

    async fn exchange(&self, method: &Method, path: &str, body: &str) -> Result<Bytes, ClientError> {
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
            .body(Full::new(Bytes::copy_from_slice(body.as_bytes())))
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
