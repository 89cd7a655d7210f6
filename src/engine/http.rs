//! HTTP/1.1 on a unix socket, with connections kept for the next call.

use std::{
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
    time::Duration,
};

use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::{
    HeaderMap, Method, Request, Response,
    body::{Bytes, Incoming},
    client::conn::http1::{self, SendRequest},
    header::{self, HeaderValue},
};
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::net::UnixStream;

use super::rows::Rows;

/// The largest answer that is read: a list of some hundred thousand containers.
const MAX_ANSWER: usize = 512 << 20;

/// How many connections are kept for the next calls: what a full scan has under way, and
/// as many again beside it. More are opened where they are needed, and closed after that.
const IDLE: usize = 16;

/// Why a call to the engine has no result.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// Nothing listens on the socket.
    #[error("no Docker Engine answers on {socket}")]
    Unreachable {
        /// The socket.
        socket: PathBuf,
        /// What the kernel said.
        source: std::io::Error,
    },
    /// The connection ended within the call. Whether the call took effect is unknown.
    #[error("the connection to the engine broke during {call}")]
    Broken {
        /// Method and path.
        call: String,
        /// What was seen.
        source: hyper::Error,
    },
    /// The deadline passed. The call may still take effect.
    #[error("the engine did not answer {call} within {} s", deadline.as_secs_f32())]
    TimedOut {
        /// Method and path.
        call: String,
        /// The deadline.
        deadline: Duration,
    },
    /// The engine answered that it will not.
    #[error("{message}")]
    Refused {
        /// The HTTP status.
        status: u16,
        /// The engine's own words.
        message: String,
    },
    /// The engine's answer is not one that it documents.
    #[error("the engine's answer to {call} is not understood: {detail}")]
    Malformed {
        /// Method and path.
        call: String,
        /// What is wrong with it.
        detail: String,
    },
}

/// What is sent with a call: its kind and its bytes.
type Payload = (&'static str, Bytes);

fn json(body: &Value) -> Payload {
    ("application/json", Bytes::from(body.to_string()))
}

pub(super) struct Http {
    socket: PathBuf,
    idle: Mutex<Vec<SendRequest<Full<Bytes>>>>,
}

impl Http {
    pub(super) fn new(socket: &Path) -> Self {
        Self { socket: socket.to_owned(), idle: Mutex::default() }
    }

    /// Makes one call and reads its whole answer within the deadline.
    pub(super) async fn call(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
        deadline: Duration,
    ) -> Result<Bytes, CallError> {
        self.exchange(method, path, body.map(json), deadline).await.map(|(_, body)| body)
    }

    /// Posts an archive and reads the whole answer within the deadline.
    pub(super) async fn upload(&self, path: &str, archive: Vec<u8>, deadline: Duration) -> Result<Bytes, CallError> {
        let payload = ("application/x-tar", Bytes::from(archive));
        self.exchange(Method::POST, path, Some(payload), deadline).await.map(|(_, body)| body)
    }

    /// Makes one call and hands over the elements of the array that it answers, as they arrive, all
    /// within the deadline.
    pub(super) async fn list<T: DeserializeOwned>(
        &self,
        path: &str,
        deadline: Duration,
        mut take: impl FnMut(T),
    ) -> Result<(), CallError> {
        let call = format!("GET {path}");
        let malformed = |detail: String| CallError::Malformed { call: call.clone(), detail };
        let exchange = async {
            let (connection, answer) = self.send(Method::GET, path, None, &call).await?;
            let (head, mut body) = answer.into_parts();
            let status = head.status.as_u16();
            if status != 200 {
                return Err(CallError::Refused { status, message: message(status, &read(body, &call).await?) });
            }
            let (mut rows, mut length) = (Rows::default(), 0);
            while let Some(frame) = body.frame().await {
                let frame = frame.map_err(|source| CallError::Broken { call: call.clone(), source })?;
                let Some(piece) = frame.data_ref() else { continue };
                length += piece.len();
                if length > MAX_ANSWER {
                    return Err(malformed(format!("longer than {MAX_ANSWER} bytes")));
                }
                rows.push(piece, |row| parse(&call, row).map(&mut take))?;
            }
            self.keep(connection).await;
            if rows.is_complete() { Ok(()) } else { Err(malformed("it is no whole list".to_owned())) }
        };
        match tokio::time::timeout(deadline, exchange).await {
            Ok(result) => result,
            Err(_) => Err(CallError::TimedOut { call: call.clone(), deadline }),
        }
    }

    /// Makes one call and returns a header of its answer, where it has that.
    pub(super) async fn header(&self, path: &str, name: &str, deadline: Duration) -> Result<Option<String>, CallError> {
        let (headers, _) = self.exchange(Method::GET, path, None, deadline).await?;
        Ok(headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned))
    }

    async fn exchange(
        &self,
        method: Method,
        path: &str,
        body: Option<Payload>,
        deadline: Duration,
    ) -> Result<(HeaderMap, Bytes), CallError> {
        let call = format!("{method} {path}");
        let exchange = async {
            let (connection, answer) = self.send(method, path, body, &call).await?;
            let (head, body) = answer.into_parts();
            let body = read(body, &call).await?;
            self.keep(connection).await;
            match head.status.as_u16() {
                200..=299 | 304 => Ok((head.headers, body)),
                status => Err(CallError::Refused { status, message: message(status, &body) }),
            }
        };
        match tokio::time::timeout(deadline, exchange).await {
            Ok(result) => result,
            Err(_) => Err(CallError::TimedOut { call, deadline }),
        }
    }

    /// Makes one call and hands over its answer as it comes. Only the answer's beginning has a deadline.
    pub(super) async fn stream(&self, path: &str, deadline: Duration) -> Result<Incoming, CallError> {
        let call = format!("GET {path}");
        let exchange = async {
            let (_, answer) = self.send(Method::GET, path, None, &call).await?;
            match answer.status().as_u16() {
                200 => Ok(answer.into_body()),
                status => {
                    let body = read(answer.into_body(), &call).await?;
                    Err(CallError::Refused { status, message: message(status, &body) })
                }
            }
        };
        match tokio::time::timeout(deadline, exchange).await {
            Ok(result) => result,
            Err(_) => Err(CallError::TimedOut { call, deadline }),
        }
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        body: Option<Payload>,
        call: &str,
    ) -> Result<(SendRequest<Full<Bytes>>, Response<Incoming>), CallError> {
        let broken = |source| CallError::Broken { call: call.to_owned(), source };
        let mut request = Request::builder().method(method).uri(path).header(header::HOST, "docker");
        let body = body.map(|(kind, bytes)| {
            request.headers_mut().map(|headers| headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind)));
            bytes
        });
        let request = request
            .body(Full::new(body.unwrap_or_default()))
            .map_err(|e| CallError::Malformed { call: call.to_owned(), detail: e.to_string() })?;
        let mut connection = match self.idle_connection() {
            Some(connection) => connection,
            None => self.connect(call).await?,
        };
        let answer = connection.send_request(request).await.map_err(broken)?;
        Ok((connection, answer))
    }

    /// Keeps a connection whose answer was read for the next call, where not enough are kept already.
    async fn keep(&self, mut connection: SendRequest<Full<Bytes>>) {
        if connection.ready().await.is_ok() {
            let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
            idle.retain(SendRequest::is_ready);
            if idle.len() < IDLE {
                idle.push(connection);
            }
        }
    }

    fn idle_connection(&self) -> Option<SendRequest<Full<Bytes>>> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        std::iter::from_fn(|| idle.pop()).find(|connection| connection.is_ready())
    }

    async fn connect(&self, call: &str) -> Result<SendRequest<Full<Bytes>>, CallError> {
        let stream = UnixStream::connect(&self.socket)
            .await
            .map_err(|source| CallError::Unreachable { socket: self.socket.clone(), source })?;
        let (sender, connection) = http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|source| CallError::Broken { call: call.to_owned(), source })?;
        // Its end shows on the next use of the sender.
        tokio::spawn(connection);
        Ok(sender)
    }
}

/// Reads JSON, and says which call answered otherwise.
pub(super) fn parse<T: DeserializeOwned>(call: &str, body: &[u8]) -> Result<T, CallError> {
    serde_json::from_slice(body).map_err(|e| CallError::Malformed { call: call.to_owned(), detail: e.to_string() })
}

async fn read(body: Incoming, call: &str) -> Result<Bytes, CallError> {
    match Limited::new(body, MAX_ANSWER).collect().await {
        Ok(body) => Ok(body.to_bytes()),
        Err(e) => Err(match e.downcast::<hyper::Error>() {
            Ok(source) => CallError::Broken { call: call.to_owned(), source: *source },
            Err(e) => {
                let too_long = e.is::<LengthLimitError>();
                let detail = if too_long { format!("longer than {MAX_ANSWER} bytes") } else { e.to_string() };
                CallError::Malformed { call: call.to_owned(), detail }
            }
        }),
    }
}

/// The engine's own words, or the status where it has none.
fn message(status: u16, body: &[u8]) -> String {
    #[derive(serde::Deserialize)]
    struct Answer {
        message: String,
    }
    serde_json::from_slice::<Answer>(body)
        .map_or_else(|_| format!("the engine answered {status}"), |answer| answer.message.trim().to_owned())
}

/// Escapes a name for a path or a query. Image references hold `/`, `:` and `@`, which may stand.
pub(super) fn query(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'/' | b':' | b'@' => {
                char::from(byte).to_string()
            }
            _ => format!("%{byte:02X}"),
        })
        .collect()
}
