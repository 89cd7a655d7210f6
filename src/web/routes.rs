//! The paths, and what is answered on each.

use std::{
    collections::BTreeMap,
    mem,
    sync::Arc,
    time::{Duration, Instant},
};

use axum::{
    Extension, Json, Router,
    body::{Body, Bytes, HttpBody},
    extract::{Path, Request, State},
    http::{HeaderMap, Method, StatusCode, header},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::{any, get, post},
};
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tokio::sync::Notify;

use super::{
    authentication,
    call::{Call, Calls, Effect, PeerKind, Visitor, decode},
    ingress::IngressPeer,
    operators::{Operator, ReadStatus},
    rates::Rates,
    refusal::{Refusal, RefusalKind},
    request::{self, Handle},
    settings::Settings,
    socket::Admitted,
};
use crate::{
    host::{
        secret::{self, SecretError, SecretText},
        users::user_name,
    },
    metrics::Metrics,
    model::{
        host::Secret,
        status::{ConditionKind, Truth},
    },
};

/// The longest body of a request, and of one to the hook, in bytes: forges send up to 25 MiB. That one is not kept.
const MAX_BODY: u64 = 64 << 10;
const MAX_HOOK_BODY: u64 = 25 << 20;

/// How long the daemon may take to say that it lives.
const HEALTH: Duration = Duration::from_secs(2);

/// What every handler needs.
#[derive(Clone)]
pub(super) struct App {
    pub(super) handle: Handle,
    pub(super) metrics: Metrics,
    pub(super) settings: Settings,
    /// How often each user may have something changed.
    pub(super) rates: Arc<Rates>,
    /// Told when the source is to be asked for news.
    pub(super) news: Arc<Notify>,
}

/// The user at the other end of the unix socket, by number.
#[derive(Clone, Copy)]
pub(super) struct Peer(pub(super) u32);

/// What is served on the socket of operators.
pub(super) fn on_operators_socket(app: App, admitted: Admitted) -> Router {
    let others = probes().route("/hooks/git", post(hook));
    on_socket::<Operator>(app, admitted, others)
}

/// What is served on the socket of ingress.
pub(super) fn on_ingress_socket(app: App, admitted: Admitted) -> Router {
    on_socket::<IngressPeer>(app, admitted, Router::new())
}

/// What is served on the socket of a kind of peer: its calls, and others beside them.
fn on_socket<K: PeerKind>(app: App, admitted: Admitted, others: Router<App>) -> Router
where
    request::Request: From<K>,
{
    let mut calls = CallRoutes { app: app.clone(), over_tcp: false, router: others };
    K::each(&mut calls);
    calls
        .router
        .fallback(not_found)
        .method_not_allowed_fallback(wrong_method)
        .layer(middleware::from_fn_with_state(admitted, admit_user))
        .with_state(app)
}

/// What is served over TCP: the calls of operators that change nothing.
pub(super) fn on_loopback(app: App) -> Router {
    let mut calls = CallRoutes { app: app.clone(), over_tcp: true, router: probes() };
    Operator::each(&mut calls);
    calls
        .router
        .fallback(not_found)
        .method_not_allowed_fallback(wrong_method)
        .layer(middleware::from_fn_with_state(app.clone(), admit))
        .route("/hooks/git", post(hook).fallback(wrong_method))
        .with_state(app)
}

/// What programs read that know no calls.
fn probes() -> Router<App> {
    Router::new().route("/metrics", get(metrics)).route("/healthz", get(healthz)).route("/readyz", get(readyz))
}

/// Takes the paths of calls into a router.
struct CallRoutes {
    app: App,
    over_tcp: bool,
    router: Router<App>,
}

impl<K: PeerKind> Visitor<K> for CallRoutes
where
    request::Request: From<K>,
{
    fn call<C: Call<Peer = K>>(&mut self) {
        let route = match (C::EFFECT, self.over_tcp) {
            (Effect::Reads, _) => get(call::<C>),
            (Effect::Changes | Effect::Begins, true) => any(socket_only),
            (Effect::Changes | Effect::Begins, false) if !C::IS_PACED => post(call::<C>),
            (Effect::Changes | Effect::Begins, false) => {
                post(call::<C>).route_layer(middleware::from_fn_with_state(self.app.clone(), pace))
            }
        };
        for path in C::PATHS {
            self.router = mem::take(&mut self.router).route(path, route.clone());
        }
    }
}

type Answer<T> = Result<T, Refusal>;

/// Has a request that changes something wait for its user's turn.
async fn pace(
    State(app): State<App>,
    Extension(Peer(user)): Extension<Peer>,
    request: Request,
    next: Next,
) -> Answer<Response> {
    let wait = app.rates.wait(user, Instant::now()).map_err(Refusal::too_often)?;
    if !wait.is_zero() {
        tokio::time::sleep(wait).await;
    }
    Ok(next.run(request).await)
}

/// Lets in who may make the calls of a socket. The user is the one that the kernel named as the connection was made.
async fn admit_user(
    State(admitted): State<Admitted>,
    Extension(Peer(user)): Extension<Peer>,
    request: Request,
    next: Next,
) -> Answer<Response> {
    if admitted.admit(user) {
        return Ok(next.run(request).await);
    }
    let whose = match admitted {
        Admitted::Root | Admitted::Group(_) => "this socket is root's alone",
        Admitted::User { .. } => "this socket is root's and one other user's",
    };
    Err(Refusal::new(RefusalKind::Forbidden, whose))
}

/// Lets in who names this host as it is and has the token.
async fn admit(State(app): State<App>, request: Request, next: Next) -> Answer<Response> {
    if !authentication::names_loopback(request.headers(), request.uri()) {
        return Err(Refusal::new(RefusalKind::Forbidden, "the Host header must name localhost or a loopback address"));
    }
    let token = app.settings.token().ok_or_else(no_token)?;
    if !authentication::has_token(request.headers(), open(&token).await?.as_str()) {
        return Err(no_token());
    }
    Ok(next.run(request).await)
}

fn no_token() -> Refusal {
    Refusal::new(RefusalKind::Unauthenticated, "the token is missing or wrong: Authorization: Bearer TOKEN")
}

/// Reads a secret. What is wrong with it is for the log, not for who asks.
async fn open(secret: &Secret) -> Answer<SecretText> {
    let secret = secret.clone();
    let read = tokio::task::spawn_blocking(move || secret::read(&secret)).await;
    let unreadable = || Refusal::unavailable("a secret of the daemon cannot be read");
    read.map_err(|_| unreadable())?.map_err(|error: SecretError| {
        tracing::warn!(error = &error as &dyn std::error::Error, "a request is refused");
        unreadable()
    })
}

async fn not_found() -> Refusal {
    Refusal::not_found("there is nothing under this path")
}

async fn wrong_method(method: Method) -> Refusal {
    Refusal::new(RefusalKind::MethodNotAllowed, format!("{method} is not served under this path"))
}

async fn socket_only() -> Refusal {
    Refusal::new(RefusalKind::Forbidden, "what changes something is served on the daemon's unix socket alone")
}

/// Makes a call for whoever is at the other end.
async fn call<C: Call>(
    State(app): State<App>,
    peer: Option<Extension<Peer>>,
    Path(named): Path<BTreeMap<String, String>>,
    request: Request,
) -> Answer<(StatusCode, Json<C::Answer>)>
where
    request::Request: From<C::Peer>,
{
    let (status, body) = match C::EFFECT {
        Effect::Reads => (StatusCode::OK, Vec::new()),
        Effect::Changes => (StatusCode::OK, read(request.into_body(), MAX_BODY).await?),
        Effect::Begins => (StatusCode::ACCEPTED, read(request.into_body(), MAX_BODY).await?),
    };
    let asked: C = decode(named, &body)?;
    let by = peer.map_or_else(String::new, |Extension(Peer(user))| user_name(user));
    Ok((status, Json(app.handle.call(asked, by).await?)))
}

async fn metrics(State(app): State<App>) -> Answer<Response> {
    // Without an answer of the daemon its own numbers are left out, and the others are shown.
    let status = app.handle.call(ReadStatus { tenant: None }, String::new()).await.ok();
    let text = app.metrics.render(status.as_ref());
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    Ok(([(header::CONTENT_TYPE, kind)], text).into_response())
}

async fn healthz(State(app): State<App>) -> Answer<Json<Value>> {
    app.handle.health(HEALTH).await?;
    Ok(Json(json!({"healthy": true})))
}

async fn readyz(State(app): State<App>) -> Answer<Json<Value>> {
    let conditions = app.handle.health(HEALTH).await?;
    match conditions.iter().find(|condition| condition.kind == ConditionKind::Ready) {
        Some(ready) if ready.status == Truth::True => Ok(Json(json!({"ready": true}))),
        Some(ready) => {
            let reason = format!("{}: {}", ready.reason, ready.message);
            Err(Refusal::unavailable(reason))
        }
        None => Err(Refusal::unavailable("the daemon does not know yet")),
    }
}

/// Has the source asked for news. Nothing of what the caller sends is used.
async fn hook(State(app): State<App>, headers: HeaderMap, body: Body) -> Answer<(StatusCode, Json<Value>)> {
    let Some(secret) = app.settings.webhook_secret() else { return Err(not_found().await) };
    let mut proof = authentication::Proof::of(&headers, open(&secret).await?.as_str());
    each_part(body, MAX_HOOK_BODY, |part| proof.update(&part)).await?;
    if !proof.holds() {
        return Err(Refusal::new(
            RefusalKind::Unauthenticated,
            "X-Hub-Signature-256 or X-Gitlab-Token is missing or wrong",
        ));
    }
    app.news.notify_one();
    Ok((StatusCode::ACCEPTED, Json(json!({}))))
}

async fn read(body: Body, limit: u64) -> Answer<Vec<u8>> {
    let mut whole = Vec::new();
    each_part(body, limit, |part| whole.extend_from_slice(&part)).await?;
    Ok(whole)
}

/// Gives each part of a body to `take` as it comes.
async fn each_part(mut body: Body, limit: u64, mut take: impl FnMut(Bytes)) -> Answer<()> {
    let too_long = || Refusal::new(RefusalKind::TooLarge, format!("the body is longer than {limit} bytes"));
    if body.size_hint().lower() > limit {
        return Err(too_long());
    }
    let mut left = limit;
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| Refusal::new(RefusalKind::Malformed, "the body cannot be read"))?;
        // Trailers are not used.
        let Ok(part) = frame.into_data() else { continue };
        left = left.checked_sub(part.len() as u64).ok_or_else(too_long)?;
        take(part);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use futures_util::stream;

    use super::*;

    /// A part of a body that is counted while somebody holds it.
    struct Part(Arc<AtomicUsize>);

    impl AsRef<[u8]> for Part {
        fn as_ref(&self) -> &[u8] {
            &[b'x'; 1 << 10]
        }
    }

    impl Drop for Part {
        fn drop(&mut self) {
            self.0.fetch_sub(1, Ordering::Relaxed);
        }
    }

    #[tokio::test]
    async fn of_a_body_that_is_hashed_one_part_is_kept_at_a_time() {
        let held = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&held);
        let parts = std::iter::repeat_with(move || {
            counter.fetch_add(1, Ordering::Relaxed);
            Ok::<_, std::io::Error>(Bytes::from_owner(Part(Arc::clone(&counter))))
        });
        let body = Body::from_stream(stream::iter(parts.take(1_000)));
        let (mut most, mut length) = (0, 0);
        let read = each_part(body, 1_000 << 10, |part| {
            most = most.max(held.load(Ordering::Relaxed));
            length += part.len();
        });
        assert!(read.await.is_ok());
        assert_eq!((most, length), (1, 1_000 << 10));
    }
}
