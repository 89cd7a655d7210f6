//! HTTP/1 with a client: each request is validated, answered by a service, and may become another protocol.

use std::{
    convert::Infallible,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
};

use hyper::{Request, Response, StatusCode, body::Incoming, server::conn::http1 as downstream, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};

use super::{
    answer::Body,
    gathered::Gathered,
    headers,
    limits::Limits,
    relay::End,
    request_validator::{RequestValidator, Watched},
    upstreams::SMALLEST_BUFFER,
    wire::Seen,
};
use crate::{accounting::account::Account, policy::Rule};

/// What answers the requests of one client's connection, and knows what the client may have.
pub trait Service: Send + Sync + 'static {
    /// Answers a request.
    fn answer(&self, request: Request<Incoming>) -> impl Future<Output = Answer> + Send;

    /// Answers a request that cannot be read in one way. Nothing more is read of the connection. `line` is how it began.
    fn refuse(&self, rule: Rule, line: &[u8]) -> Response<Body>;

    /// Ends when the connection must.
    fn revoked(&self) -> impl Future<Output = ()> + Send;
}

/// Moves the bytes of a connection that goes on in another protocol, until it ends or must.
pub type Relay = Pin<Box<dyn Future<Output = End> + Send>>;

/// An answer, and what is to be done with its connection afterwards.
pub struct Answer {
    /// What the client gets.
    pub response: Response<Body>,
    /// The connection that it comes from, if it comes from elsewhere.
    pub from: Seen,
    /// On whose account what the client does not take of it waits; `None` for the account of the client's connection.
    pub account: Option<Arc<Account>>,
    /// To be run by whoever serves the connection once it speaks HTTP no longer, as long as that has a
    /// place: nothing else moves a byte of it.
    pub relay: Option<Relay>,
}

impl From<Response<Body>> for Answer {
    fn from(response: Response<Body>) -> Self {
        Self { response, from: Seen::default(), account: None, relay: None }
    }
}

/// Serves a connection of which `begun` was read already, until it ends, on this account, but for answers that are on
/// another. Where a request becomes a
/// connection in another protocol, that is relayed to its end.
pub async fn serve(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    begun: Gathered,
    account: Arc<Account>,
    limits: Limits,
    service: Arc<impl Service>,
) -> End {
    let watched = Arc::new(Watched::default());
    let relay: Arc<Mutex<Option<Relay>>> = Arc::default();
    let validator = RequestValidator::new(stream, begun, account, &limits, Arc::clone(&watched));
    let answers = {
        let (service, watched, relay) = (Arc::clone(&service), Arc::clone(&watched), Arc::clone(&relay));
        service_fn(move |request| {
            // Asked before anything else of the connection is read.
            let (refused, is_upgrade) = (watched.refused(), watched.is_upgrade_asked());
            let (service, watched, relay) = (Arc::clone(&service), Arc::clone(&watched), Arc::clone(&relay));
            async move {
                let mut answer = match refused {
                    // Whoever writes requests of this kind is not listened to any more.
                    Some((rule, line)) => last(service.refuse(rule, &line)).into(),
                    None => service.answer(request).await,
                };
                watched.reads_from(answer.from, answer.account);
                if is_upgrade {
                    let agreed = answer.response.status() == StatusCode::SWITCHING_PROTOCOLS;
                    watched.answered(agreed);
                    if !agreed {
                        headers::close(answer.response.headers_mut());
                    }
                }
                *relay.lock().unwrap_or_else(PoisonError::into_inner) = answer.relay;
                Ok::<_, Infallible>(answer.response)
            }
        })
    };
    let mut builder = downstream::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(limits.head_time)
        // Who has sent its request and ends its sending side waits for the answer.
        .half_close(true)
        .max_buf_size(limits.head.saturating_add(1).max(SMALLEST_BUFFER))
        .auto_date_header(false);
    let serving = builder.serve_connection(TokioIo::new(validator), answers).with_upgrades();
    tokio::select! {
        // What goes wrong here is the client's affair, who is answered by hyper.
        _ = serving => {}
        () = service.revoked() => return End::Revoked,
        () = watched.activity.idle(limits.idle) => return End::Idle,
    }
    let relay = relay.lock().unwrap_or_else(PoisonError::into_inner).take();
    match relay {
        Some(relay) => relay.await,
        None => End::Closed,
    }
}

/// An answer behind which the connection ends.
pub fn last(mut response: Response<Body>) -> Response<Body> {
    headers::close(response.headers_mut());
    response
}
