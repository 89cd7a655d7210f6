//! What the daemon says of tenants, and how it is asked to wake one.
//!
//! What was last heard stays in force while the daemon is away: a restart of it cuts nobody.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    ops::Deref,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use http_body_util::{BodyExt, Full, Limited};
use hyper::{
    Method, Request, StatusCode,
    body::Bytes,
    client::conn::http1::{SendRequest, handshake},
    header::HOST,
};
use hyper_util::rt::TokioIo;
use serde::{Deserialize, Serialize};
use tokio::{
    net::UnixStream,
    sync::watch,
    time::{sleep, timeout},
};

use crate::model::{
    Power, TenantName,
    ingress::{IngressState, MAX_NAMED, Reachable, StateContent},
};

/// The longest answer that is read, in bytes: some 10,000 tenants.
const MAX_ANSWER: usize = 16 << 20;

/// How long an answer is waited for. The daemon holds a question for news for up to three seconds.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long to wait before it is tried again, at first and at most.
const RETRY: Duration = Duration::from_millis(50);
const MAX_RETRY: Duration = Duration::from_secs(1);

/// How often it is looked which tenants have requests in hand, and how old what the daemon was told of that may become.
const CHECK: Duration = Duration::from_millis(500);
const REPORT: Duration = Duration::from_secs(2);

/// The tenants that have requests in hand.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct BusyTenants {
    /// Which; `None` where that is nothing to the daemon, or where they are too many to be named.
    #[serde(skip_serializing_if = "Option::is_none")]
    in_hand: Option<BTreeSet<TenantName>>,
}

impl BusyTenants {
    /// These tenants.
    pub fn new(names: BTreeSet<TenantName>) -> Self {
        Self { in_hand: Some(names).filter(|names| names.len() <= MAX_NAMED) }
    }
}

/// The daemon's socket for the ingress.
#[derive(Debug)]
pub struct Daemon {
    socket: PathBuf,
    known: watch::Sender<Option<Arc<Known>>>,
}

/// What the daemon last said, and what can only be seen by what it said before.
#[derive(Debug)]
pub struct Known {
    content: StateContent,
    /// How often each tenant was seen to stop running.
    stops: BTreeMap<TenantName, u64>,
}

impl Known {
    /// What follows from what was known before.
    fn after(before: Option<&Self>, content: StateContent) -> Self {
        let stops = content.tenants.iter().map(|(name, now)| {
            let stops = before.map_or(0, |before| before.stops(name));
            let ran = before.and_then(|before| before.tenants.get(name)).is_some_and(is_running);
            (name.clone(), stops + u64::from(ran && !is_running(now)))
        });
        Self { stops: stops.collect(), content }
    }

    /// How often a tenant was seen to stop running: what was opened to it before the last time may be dead at its end.
    pub fn stops(&self, tenant: &TenantName) -> u64 {
        self.stops.get(tenant).copied().unwrap_or_default()
    }
}

impl Deref for Known {
    type Target = StateContent;

    fn deref(&self) -> &StateContent {
        &self.content
    }
}

/// Whether a tenant runs, and is meant to.
pub fn is_running(found: &Reachable) -> bool {
    found.running && found.power == Power::Running
}

/// Why the daemon does not wake a tenant.
#[derive(Clone, Debug, thiserror::Error)]
pub enum NotWoken {
    /// It says why not.
    #[error("the daemon does not wake the tenant: {0}")]
    Refused(String),
    /// The host has no memory for it, as it says.
    #[error("the daemon does not wake the tenant: {0}")]
    Capacity(String),
    /// It does not answer.
    #[error("the daemon does not answer: {0}")]
    Unavailable(String),
}

/// What goes wrong with a question.
#[derive(Debug, thiserror::Error)]
enum AskError {
    #[error("cannot reach the daemon's socket")]
    Io(#[from] io::Error),
    #[error("the daemon does not speak HTTP")]
    Http(#[from] hyper::Error),
    #[error("the daemon did not answer in time")]
    Late(#[from] tokio::time::error::Elapsed),
    #[error("the daemon's answer is not of the known form")]
    Form(#[from] serde_json::Error),
    #[error("the daemon's answer breaks off or is too long")]
    Body(#[source] Box<dyn std::error::Error + Send + Sync>),
    #[error("the daemon answers {0}: {1}")]
    Status(StatusCode, String),
}

impl Daemon {
    /// A daemon behind a socket. Nothing is known of it yet.
    pub fn new(socket: PathBuf) -> Self {
        Self { socket, known: watch::Sender::new(None) }
    }

    /// What is known now.
    pub fn now(&self) -> Option<Arc<Known>> {
        self.known.borrow().clone()
    }

    /// What is known, and each change of it.
    pub fn changes(&self) -> watch::Receiver<Option<Arc<Known>>> {
        self.known.subscribe()
    }

    /// Waits until something is known, for so long at most.
    pub async fn heard(&self, within: Duration) {
        let _ = timeout(within, self.changes().wait_for(Option::is_some)).await;
    }

    /// Keeps what is known as the daemon says, for ever.
    pub async fn follow(&self) {
        let (mut wait, mut is_reported) = (RETRY, false);
        let mut path = "/v1/state".to_owned();
        loop {
            let Err(error) = self.hear(&mut path).await else {
                (wait, is_reported) = (RETRY, false);
                continue;
            };
            // One that restarts is back within moments; one that stays away is worth a line.
            if wait == MAX_RETRY && !is_reported {
                is_reported = true;
                let error = &error as &dyn std::error::Error;
                tracing::warn!(error, "the daemon is away; what it last said stays in force");
            }
            sleep(wait).await;
            wait = (wait * 2).min(MAX_RETRY);
        }
    }

    /// Hears what is new since what the path names, which is then the newest. The daemon answers one question on each
    /// connection.
    async fn hear(&self, path: &mut String) -> Result<(), AskError> {
        let answer = ask(&mut connect(&self.socket).await?, Method::GET, path, Bytes::new()).await?;
        let IngressState { version, content } = serde_json::from_slice(&answer)?;
        if let Some(content) = content {
            let known = Known::after(self.now().as_deref(), content);
            self.known.send_replace(Some(Arc::new(known)));
        }
        *path = format!("/v1/state/{version}");
        Ok(())
    }

    /// Has the daemon wake a tenant. What becomes of it is heard as news. Of the tenants that have requests `in_hand` none sleeps
    /// for it.
    ///
    /// # Errors
    /// It refuses, or does not answer.
    pub async fn wake(&self, tenant: &TenantName, in_hand: &BusyTenants) -> Result<(), NotWoken> {
        #[derive(Default, Deserialize)]
        struct Refusal {
            kind: Option<String>,
            error: Option<String>,
        }
        let path = format!("/v1/tenants/{tenant}/wake");
        let (status, body) = match self.post(&path, in_hand).await {
            Ok(_) => return Ok(()),
            Err(AskError::Status(status, body)) => (status, body),
            Err(error) => return Err(NotWoken::Unavailable(error.to_string())),
        };
        let Refusal { kind, error } = serde_json::from_str(&body).unwrap_or_default();
        let said = error.unwrap_or_else(|| format!("it answers {status}: {body}"));
        if kind.as_deref() == Some("capacity") {
            Err(NotWoken::Capacity(said))
        } else if status.is_client_error() && status != StatusCode::TOO_MANY_REQUESTS {
            Err(NotWoken::Refused(said))
        } else {
            Err(NotWoken::Unavailable(said))
        }
    }

    /// Keeps the daemon told which tenants have requests in hand, for ever.
    pub async fn report(&self, in_hand: impl Fn() -> BusyTenants) {
        let mut told: Option<(BusyTenants, Instant)> = None;
        loop {
            let now = in_hand();
            let is_told = told.as_ref().is_some_and(|(told, at)| *told == now && at.elapsed() < REPORT);
            // One that is away hears it when it is back.
            if !is_told && self.post("/v1/in-hand", &now).await.is_ok() {
                told = Some((now, Instant::now()));
            }
            sleep(CHECK).await;
        }
    }

    async fn post(&self, path: &str, body: &impl Serialize) -> Result<Bytes, AskError> {
        let body = serde_json::to_vec(body)?;
        ask(&mut connect(&self.socket).await?, Method::POST, path, body.into()).await
    }
}

async fn connect(socket: &Path) -> Result<SendRequest<Full<Bytes>>, AskError> {
    let stream = timeout(PATIENCE, UnixStream::connect(socket)).await??;
    let (sender, connection) = timeout(PATIENCE, handshake(TokioIo::new(stream))).await??;
    // Whoever asks hears of its errors.
    tokio::spawn(async move { drop(connection.await) });
    Ok(sender)
}

async fn ask(
    sender: &mut SendRequest<Full<Bytes>>,
    method: Method,
    path: &str,
    body: Bytes,
) -> Result<Bytes, AskError> {
    let mut request = Request::new(Full::new(body));
    *request.method_mut() = method;
    *request.uri_mut() = path.parse().unwrap_or_default();
    request.headers_mut().insert(HOST, hyper::header::HeaderValue::from_static("tenantd"));
    let asked = async {
        sender.ready().await?;
        let answer = sender.send_request(request).await?;
        let status = answer.status();
        let body = Limited::new(answer.into_body(), MAX_ANSWER).collect().await.map_err(AskError::Body)?.to_bytes();
        if status.is_success() {
            Ok(body)
        } else {
            Err(AskError::Status(status, String::from_utf8_lossy(&body).into_owned()))
        }
    };
    timeout(PATIENCE, asked).await?
}
