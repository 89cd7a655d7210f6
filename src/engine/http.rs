//! HTTP/1.1 on a unix socket, with connections kept for the next call.
//!
//! All calls go this way: those that are read here, and those that bollard makes (`commands.rs`).

use std::{
    error::Error,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
    time::Duration,
};

use bollard::BollardRequest;
use http_body_util::BodyExt;
use hyper::{
    HeaderMap, Method, Request, Response,
    body::{Bytes, Incoming},
    header::{self, HeaderValue},
};
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::net::UnixStream;

use super::{
    connection::{self, Connection},
    rows::Rows,
};

/// The largest answer to a question, in bytes: a list of some hundred thousand containers.
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
        source: Box<dyn Error + Send + Sync>,
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
    /// What is to be made has a value that the engine's API does not have. Nothing was sent.
    #[error("the engine's API has no {what} {value:?}")]
    Unnamed {
        /// What the value is of.
        what: &'static str,
        /// The value.
        value: String,
    },
}

pub(super) struct Http {
    socket: PathBuf,
    idle: Mutex<Vec<Connection>>,
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
        self.exchange(method, path, body, deadline).await.map(|(_, body)| body)
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
        let exchange = async {
            let (connection, answer) = self.ask(Method::GET, path, None, &call).await?;
            let (head, mut body) = answer.into_parts();
            let status = head.status.as_u16();
            if status != 200 {
                return Err(self.refused(connection, status, body, &call, MAX_ANSWER).await);
            }
            let mut rows = Rows::default();
            while let Some(frame) = body.frame().await {
                let frame = frame.map_err(|error| broken(&call, error, MAX_ANSWER))?;
                if let Some(piece) = frame.data_ref() {
                    rows.push(piece, |row| parse(&call, row).map(&mut take))?;
                }
            }
            self.keep_ready(connection).await;
            let detail = "it is no whole list".to_owned();
            if rows.is_complete() { Ok(()) } else { Err(CallError::Malformed { call: call.clone(), detail }) }
        };
        within(deadline, &call, exchange).await
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
        body: Option<&Value>,
        deadline: Duration,
    ) -> Result<(HeaderMap, Bytes), CallError> {
        let call = format!("{method} {path}");
        let exchange = async {
            let (connection, answer) = self.ask(method, path, body, &call).await?;
            let (head, body) = answer.into_parts();
            let status = head.status.as_u16();
            if !is_done(status) {
                return Err(self.refused(connection, status, body, &call, MAX_ANSWER).await);
            }
            let body = read(body, &call, MAX_ANSWER).await?;
            self.keep_ready(connection).await;
            Ok((head.headers, body))
        };
        within(deadline, &call, exchange).await
    }

    /// Makes one call and hands over its answer as it comes, without a bound. Only the answer's beginning has a deadline.
    pub(super) async fn stream(&self, path: &str, deadline: Duration) -> Result<Incoming, CallError> {
        let call = format!("GET {path}");
        let exchange = async {
            let (connection, answer) = self.ask(Method::GET, path, None, &call).await?;
            match answer.status().as_u16() {
                200 => {
                    connection.allow(usize::MAX);
                    Ok(answer.into_body())
                }
                status => Err(self.refused(connection, status, answer.into_body(), &call, MAX_ANSWER).await),
            }
        };
        within(deadline, &call, exchange).await
    }

    /// Makes a call of bollard's and hands over its answer, whose length in bytes has a bound, head and all. An answer that
    /// the engine will not is an error.
    pub(super) async fn forward(
        &self,
        request: BollardRequest,
        max_answer: usize,
    ) -> Result<Response<Incoming>, CallError> {
        let call = format!("{} {}", request.method(), request.uri().path());
        let (connection, answer) = self.send(request, max_answer, &call).await?;
        let status = answer.status().as_u16();
        if !is_done(status) {
            return Err(self.refused(connection, status, answer.into_body(), &call, max_answer).await);
        }
        self.keep(connection);
        Ok(answer)
    }

    /// What the engine says of why it will not, read to its end.
    async fn refused(
        &self,
        connection: Connection,
        status: u16,
        body: Incoming,
        call: &str,
        max_answer: usize,
    ) -> CallError {
        match read(body, call, max_answer).await {
            Ok(body) => {
                self.keep_ready(connection).await;
                CallError::Refused { status, message: message(status, &body) }
            }
            Err(error) => error,
        }
    }

    async fn ask(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
        call: &str,
    ) -> Result<(Connection, Response<Incoming>), CallError> {
        let mut request = Request::builder().method(method).uri(path);
        if body.is_some() {
            request = request.header(header::CONTENT_TYPE, "application/json");
        }
        let body = body.map(|body| Bytes::from(body.to_string())).unwrap_or_default();
        let request = request
            .body(bollard::body_full(body))
            .map_err(|e| CallError::Malformed { call: call.to_owned(), detail: e.to_string() })?;
        self.send(request, MAX_ANSWER, call).await
    }

    async fn send(
        &self,
        mut request: BollardRequest,
        max_answer: usize,
        call: &str,
    ) -> Result<(Connection, Response<Incoming>), CallError> {
        request.headers_mut().insert(header::HOST, HeaderValue::from_static("docker"));
        let mut connection = match self.idle_connection() {
            Some(connection) => connection,
            None => self.connect(call).await?,
        };
        connection.allow(max_answer);
        let answer = connection.send(request).await.map_err(|error| broken(call, error, max_answer))?;
        Ok((connection, answer))
    }

    async fn connect(&self, call: &str) -> Result<Connection, CallError> {
        let stream = UnixStream::connect(&self.socket)
            .await
            .map_err(|source| CallError::Unreachable { socket: self.socket.clone(), source })?;
        connection::open(stream)
            .await
            .map_err(|source| CallError::Broken { call: call.to_owned(), source: source.into() })
    }

    /// Keeps a connection whose answer was read for the next call.
    async fn keep_ready(&self, mut connection: Connection) {
        if connection.ready().await {
            self.keep(connection);
        }
    }

    /// Keeps a connection for the next call once its answer was read, where not enough are kept already.
    fn keep(&self, connection: Connection) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.retain(|connection| !connection.is_closed());
        if idle.len() < IDLE {
            idle.push(connection);
        }
    }

    fn idle_connection(&self) -> Option<Connection> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let ready = idle.iter().rposition(Connection::is_ready)?;
        Some(idle.swap_remove(ready))
    }
}

/// Waits for a call until its deadline.
pub(super) async fn within<T>(
    deadline: Duration,
    call: &str,
    exchange: impl Future<Output = Result<T, CallError>>,
) -> Result<T, CallError> {
    match tokio::time::timeout(deadline, exchange).await {
        Ok(result) => result,
        Err(_) => Err(CallError::TimedOut { call: call.to_owned(), deadline }),
    }
}

/// Reads JSON, and says which call answered otherwise.
pub(super) fn parse<T: DeserializeOwned>(call: &str, body: &[u8]) -> Result<T, CallError> {
    serde_json::from_slice(body).map_err(|e| CallError::Malformed { call: call.to_owned(), detail: e.to_string() })
}

/// Whether a status says that what was asked for is done, or was already.
fn is_done(status: u16) -> bool {
    matches!(status, 200..=299 | 304)
}

async fn read(body: Incoming, call: &str, max_answer: usize) -> Result<Bytes, CallError> {
    let body = body.collect().await.map_err(|error| broken(call, error, max_answer))?;
    Ok(body.to_bytes())
}

/// Why a connection ended within a call.
pub(super) fn broken(call: &str, error: hyper::Error, max_answer: usize) -> CallError {
    let call = call.to_owned();
    if connection::is_too_long(&error) {
        return CallError::Malformed { call, detail: format!("longer than {max_answer} bytes") };
    }
    CallError::Broken { call, source: error.into() }
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
