//! The paths, and what is answered on each.

use std::{
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
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Value, json};
use tokio::sync::Notify;

use super::{
    guard,
    rates::Rates,
    refusal::{Refusal, RefusalKind},
    request::Handle,
    settings::Settings,
};
use crate::{
    host::{
        secret::{self, SecretError, SecretText},
        users::user_name,
    },
    metrics::Metrics,
    model::{
        Power, Status,
        finding::is_invisible,
        host::Secret,
        status::{ConditionKind, Truth},
    },
};

/// The longest body of a request, and of one to the hook, in bytes: forges send up to 25 MiB. That one is not kept.
const MAX_BODY: u64 = 64 << 10;
const MAX_HOOK_BODY: u64 = 25 << 20;

/// How long the daemon may take to say that it lives.
const HEALTH: Duration = Duration::from_secs(2);

/// The longest reason of a suspension, in characters.
const MAX_REASON: usize = 500;

/// The longest suspension.
const MAX_SUSPENSION: SignedDuration = SignedDuration::from_hours(30 * 24);

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

/// What is served on the unix socket.
pub(super) fn on_socket(app: App) -> Router {
    // Whatever changes something, has it written down, or has everything looked at.
    let changing = Router::new()
        .route("/v1/tenants/{tenant}/suspend", post(suspend))
        .route("/v1/tenants/{tenant}/resume", post(resume))
        .route("/v1/tenants/{tenant}/power", post(power))
        .route("/v1/approve/{plan}", post(approve))
        .route("/v1/reconcile", post(reconcile_all))
        .route("/v1/reconcile/{tenant}", post(reconcile))
        .route_layer(middleware::from_fn_with_state(app.clone(), pace));
    reading()
        .merge(changing)
        .route("/hooks/git", post(hook))
        .fallback(not_found)
        .method_not_allowed_fallback(wrong_method)
        .with_state(app)
}

/// What is served over TCP.
pub(super) fn on_loopback(app: App) -> Router {
    // A route that is forgotten here is not found, so it changes nothing either.
    let mut guarded = reading();
    for path in [
        "/v1/tenants/{tenant}/suspend",
        "/v1/tenants/{tenant}/resume",
        "/v1/tenants/{tenant}/power",
        "/v1/approve/{plan}",
        "/v1/reconcile",
        "/v1/reconcile/{tenant}",
    ] {
        guarded = guarded.route(path, any(socket_only));
    }
    guarded
        .fallback(not_found)
        .method_not_allowed_fallback(wrong_method)
        .layer(middleware::from_fn_with_state(app.clone(), admit))
        .route("/hooks/git", post(hook).fallback(wrong_method))
        .with_state(app)
}

fn reading() -> Router<App> {
    Router::new()
        .route("/v1/status", get(status))
        .route("/v1/status/{tenant}", get(status_of))
        .route("/metrics", get(metrics))
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
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

/// Lets in who names this host as it is and has the token.
async fn admit(State(app): State<App>, request: Request, next: Next) -> Answer<Response> {
    if !guard::names_loopback(request.headers(), request.uri()) {
        return Err(Refusal::new(RefusalKind::Forbidden, "the Host header must name localhost or a loopback address"));
    }
    let token = app.settings.token().ok_or_else(no_token)?;
    if !guard::has_token(request.headers(), open(&token).await?.as_str()) {
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

async fn status(State(app): State<App>) -> Answer<Json<Status>> {
    Ok(Json(app.handle.status(None).await?))
}

async fn status_of(State(app): State<App>, Path(tenant): Path<String>) -> Answer<Json<Status>> {
    Ok(Json(app.handle.status(Some(tenant)).await?))
}

async fn metrics(State(app): State<App>) -> Answer<Response> {
    // Without an answer of the daemon its own numbers are left out, and the others are told.
    let status = app.handle.status(None).await.ok();
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

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Suspend {
    reason: String,
    until: Timestamp,
}

async fn suspend(
    State(app): State<App>,
    Extension(peer): Extension<Peer>,
    Path(tenant): Path<String>,
    request: Request,
) -> Answer<Json<Value>> {
    let Suspend { reason, until } = parsed(request, r#"{"reason": …, "until": …}"#).await?;
    check(&reason, until)?;
    let by = user_name(peer.0);
    app.handle.suspend(tenant.clone(), reason.clone(), until, by.clone()).await?;
    Ok(Json(json!({"tenant": tenant, "reason": reason, "until": until, "by": by})))
}

fn check(reason: &str, until: Timestamp) -> Result<(), Refusal> {
    if reason.trim().is_empty() {
        return Err(Refusal::invalid("a reason is needed"));
    }
    if reason.chars().count() > MAX_REASON {
        return Err(Refusal::invalid(format!("the reason is longer than {MAX_REASON} characters")));
    }
    if reason.chars().any(is_invisible) {
        return Err(Refusal::invalid("the reason holds a control or invisible character; write one line of text"));
    }
    let length = until.duration_since(Timestamp::now());
    if !length.is_positive() {
        return Err(Refusal::invalid(format!("{until} is over")));
    }
    if length > MAX_SUSPENSION {
        return Err(Refusal::invalid("a tenant is suspended for 30 days at most"));
    }
    Ok(())
}

async fn resume(
    State(app): State<App>,
    Extension(peer): Extension<Peer>,
    Path(tenant): Path<String>,
) -> Answer<Json<Value>> {
    let by = user_name(peer.0);
    app.handle.resume(tenant.clone(), by.clone()).await?;
    Ok(Json(json!({"tenant": tenant, "by": by})))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SetPower {
    power: Power,
    #[serde(default)]
    until: Option<Timestamp>,
}

async fn power(
    State(app): State<App>,
    Extension(peer): Extension<Peer>,
    Path(tenant): Path<String>,
    request: Request,
) -> Answer<Json<Value>> {
    let SetPower { power, until } = parsed(request, r#"{"power": "running|paused|asleep", "until": …}"#).await?;
    let by = user_name(peer.0);
    app.handle.set_power(tenant.clone(), power, until, by.clone()).await?;
    Ok(Json(json!({"tenant": tenant, "power": power, "until": until, "by": by})))
}

async fn approve(
    State(app): State<App>,
    Extension(peer): Extension<Peer>,
    Path(plan): Path<String>,
) -> Answer<Json<Value>> {
    let by = user_name(peer.0);
    let revision = app.handle.approve(plan.clone(), by.clone()).await?;
    Ok(Json(json!({"plan": plan, "revision": revision, "by": by})))
}

async fn reconcile_all(State(app): State<App>, Extension(peer): Extension<Peer>) -> Answer<(StatusCode, Json<Value>)> {
    app.handle.reconcile(None, user_name(peer.0)).await?;
    Ok((StatusCode::ACCEPTED, Json(json!({}))))
}

async fn reconcile(
    State(app): State<App>,
    Extension(peer): Extension<Peer>,
    Path(tenant): Path<String>,
) -> Answer<(StatusCode, Json<Value>)> {
    app.handle.reconcile(Some(tenant.clone()), user_name(peer.0)).await?;
    Ok((StatusCode::ACCEPTED, Json(json!({"tenant": tenant}))))
}

/// Has the source asked for news. Nothing of what the caller sends is used.
async fn hook(State(app): State<App>, headers: HeaderMap, body: Body) -> Answer<(StatusCode, Json<Value>)> {
    let Some(secret) = app.settings.webhook_secret() else { return Err(not_found().await) };
    let mut proof = guard::Proof::of(&headers, open(&secret).await?.as_str());
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

/// A request's body as what it says, which is shown to whoever sends something else.
async fn parsed<T: DeserializeOwned>(request: Request, form: &str) -> Answer<T> {
    let body = read(request.into_body(), MAX_BODY).await?;
    Ok(serde_json::from_slice(&body).map_err(|e| Refusal::invalid(format!("the body is not {form}: {e}")))?)
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
