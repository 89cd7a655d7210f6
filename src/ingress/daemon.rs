//! What the daemon says of tenants, and how it is asked to wake one.
//!
//! What was last heard stays in force while the daemon is away: a restart of it cuts nobody.

use std::{
    collections::BTreeMap,
    io,
    ops::Deref,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use http_body_util::{BodyExt, Empty, Limited};
use hyper::{
    Method, Request, StatusCode,
    body::Bytes,
    client::conn::http1::{SendRequest, handshake},
    header::HOST,
};
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use tokio::{
    net::UnixStream,
    sync::watch,
    time::{sleep, timeout},
};

use crate::model::{
    Power, TenantName,
    ingress::{IngressState, Reachable, StateContent},
};

/// The longest answer that is read, in bytes: some 10,000 tenants.
const MAX_ANSWER: usize = 16 << 20;

/// How long an answer is waited for. The daemon holds a question for news for up to three seconds.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long to wait before it is tried again, at first and at most.
const RETRY: Duration = Duration::from_millis(50);
const MAX_RETRY: Duration = Duration::from_secs(1);

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
        let answer = ask(&mut connect(&self.socket).await?, Method::GET, path).await?;
        let IngressState { version, content } = serde_json::from_slice(&answer)?;
        if let Some(content) = content {
            let known = Known::after(self.now().as_deref(), content);
            self.known.send_replace(Some(Arc::new(known)));
        }
        *path = format!("/v1/state/{version}");
        Ok(())
    }

    /// Has the daemon wake a tenant. What becomes of it is heard as news.
    ///
    /// # Errors
    /// It refuses, or does not answer.
    pub async fn wake(&self, tenant: &TenantName) -> Result<(), NotWoken> {
        #[derive(Deserialize)]
        struct Refusal {
            error: Option<String>,
        }
        let asked = async {
            let mut sender = connect(&self.socket).await?;
            ask(&mut sender, Method::POST, &format!("/v1/tenants/{tenant}/wake")).await
        };
        match asked.await {
            Ok(_) => Ok(()),
            Err(AskError::Status(status, body))
                if status.is_client_error() && status != StatusCode::TOO_MANY_REQUESTS =>
            {
                let said = serde_json::from_str::<Refusal>(&body).ok().and_then(|refusal| refusal.error);
                Err(NotWoken::Refused(said.unwrap_or(body)))
            }
            Err(error) => Err(NotWoken::Unavailable(error.to_string())),
        }
    }
}

async fn connect(socket: &Path) -> Result<SendRequest<Empty<Bytes>>, AskError> {
    let stream = timeout(PATIENCE, UnixStream::connect(socket)).await??;
    let (sender, connection) = timeout(PATIENCE, handshake(TokioIo::new(stream))).await??;
    // Whoever asks hears of its errors.
    tokio::spawn(async move { drop(connection.await) });
    Ok(sender)
}

async fn ask(sender: &mut SendRequest<Empty<Bytes>>, method: Method, path: &str) -> Result<Bytes, AskError> {
    let mut request = Request::new(Empty::new());
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
