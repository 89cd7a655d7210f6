//! Routes with credentials: `http://gateway.internal/NAME/…` and `http://NAME.gateway.internal/…`.
//!
//! A request for a route is sent on to the route's upstream over TLS, with the key that the caller
//! never sees; whatever comes back is rid of the key. Nothing is kept of either but counts.

mod body;
mod frames;
mod inject;
mod meter;
mod redact;
mod sent;
mod stream_detection;
mod target;
mod upstream;

use std::sync::{Arc, atomic::Ordering};

use http_body_util::BodyExt;
use hyper::{
    HeaderMap, Request, Response, StatusCode, Version,
    body::{Body as _, Bytes, Incoming},
    header::{CONTENT_ENCODING, HOST, HeaderValue, LOCATION, SEC_WEBSOCKET_EXTENSIONS},
    http::{request, response},
    upgrade::OnUpgrade,
};
use jiff::Timestamp;
use rustls::ClientConfig;

use self::{
    body::{Received, Watch},
    frames::Frames,
    inject::Injection,
    meter::Meter,
    sent::Sent,
    target::{Called, Wrong},
    upstream::{Connector, Key},
};
use crate::{
    accounting::{
        account::Account,
        ledger::{Ledger, Reservation, ReserveError},
        usage::Usage,
    },
    client::Client,
    model::{
        egress::{Route, StreamMode},
        finding::printable,
        host::{Egress, EgressLimits},
    },
    policy::{Refusal, Rule, in_force::InForce},
    proxy::{
        answer::Body,
        metered::Metered,
        revocation::{Revoked, revoked},
        server::{Answer, Relay},
        upgrade,
        upstreams::{Failed, Upstreams, exchange},
    },
};

pub use upstream::{Connect, Connecting, TlsError, tls};

/// Everything that serves routes.
pub struct Routes {
    connector: Connector,
    kept: Arc<Upstreams<Key, Metered<Sent>>>,
    usage: Usage,
    ledger: Ledger,
    limits: EgressLimits,
}

impl Routes {
    /// Serves routes with these settings, and TLS as [`tls`] makes it of them. `connect` opens connections
    /// to upstreams.
    pub fn new(settings: &Egress, tls: ClientConfig, connect: Connect, usage: Usage, ledger: Ledger) -> Self {
        Self {
            connector: Connector::new(connect, tls, settings.limits.stall.get()),
            kept: Upstreams::new(),
            usage,
            ledger,
            limits: settings.limits,
        }
    }

    /// Answers a request to `gateway.internal` or a name below it.
    ///
    /// # Errors
    /// It is refused; [`status`](crate::status) says with which status.
    pub async fn serve(&self, client: Arc<Client>, request: Request<Incoming>) -> Result<Answer, Refusal> {
        let authority = authority(&request).unwrap_or_default();
        let refused = |destination: &str, rule| Refusal {
            tenant: client.name().clone(),
            destination: printable(&destination.chars().take(MAX_SHOWN).collect::<String>()),
            rule,
        };
        let called = target::called(&authority, request.uri()).map_err(|wrong| match wrong {
            Wrong::NoRoute => refused(&authority, Rule::NoRoute),
            Wrong::Path => refused(&authority, Rule::MalformedPath),
        })?;
        let destination = format!("route:{}", called.name);
        let in_force = client.now();
        let route = in_force.policy.routes.iter().find(|route| route.name.as_str() == called.name);
        let route = route.ok_or_else(|| refused(&destination, Rule::NoRoute))?;
        let injection =
            Injection::new(route, &in_force.secrets).ok_or_else(|| refused(&destination, Rule::NoSecret))?;
        let answer = self.forward(&client, route, &called, injection, request).await;
        answer.map_err(|rule| refused(&destination, rule))
    }

    async fn forward(
        &self,
        client: &Arc<Client>,
        route: &Route,
        called: &Called,
        injection: Injection,
        mut request: Request<Incoming>,
    ) -> Result<Answer, Rule> {
        let upgrade = upgrade::offered(&mut request);
        let limit = self.limits.body.get();
        let (head, mut body) = request.into_parts();
        if !inject::is_sendable(&head.method) {
            return Err(Rule::UnsupportedMethod);
        }
        if body.size_hint().lower() > limit {
            return Err(Rule::TooLarge);
        }
        let read =
            if refuses_streams(route) { asked(&client.account, &head.headers, &mut body).await? } else { Bytes::new() };
        let mut reservation = self.reserve(client, route).await?;
        let usage = Arc::new(self.usage.begin(client.name(), &format!("route:{}", route.name)));
        let sent = Sent::new(read, body, limit);
        let too_long = sent.too_long();
        let sent = Metered::sent(sent, Arc::clone(&usage));
        let outgoing =
            outgoing(head, route, called, &injection, upgrade.is_some(), sent).ok_or(Rule::MalformedRequest)?;
        let key = Key { tenant: client.name().clone(), route: route.name.clone(), upstream: route.upstream.clone() };
        let idle = self.limits.idle.get();
        let begins = || reservation.iter_mut().for_each(Reservation::begin);
        let open = self.connector.open(client, &route.upstream);
        let (answer, connection) = match exchange(|| self.kept.take(&key), open, outgoing, Some(idle), begins).await {
            Ok(answered) => answered,
            Err(Failed { rule, unsent }) => {
                if let (Some(_), Some(reservation)) = (unsent, reservation) {
                    reservation.refund();
                }
                return Err(if too_long.load(Ordering::Relaxed) { Rule::TooLarge } else { rule });
            }
        };
        let from = connection.seen();
        let revoked = still_leads_there(client, route);
        if answer.status() == StatusCode::SWITCHING_PROTOCOLS {
            let (response, client, destination) = switched(answer, upgrade, &injection)?;
            let relay: Relay = Box::pin(async move {
                // It lives as long as its bytes are relayed.
                let _connection = connection;
                let mut frames = Frames::new(injection.keys);
                let filter = move |bytes| frames.push(bytes);
                upgrade::relay_filtered(client, destination, usage, idle, filter, revoked).await
            });
            return Ok(Answer { response, from, account: None, relay: Some(relay) });
        }
        let (mut head, body) = answer.into_parts();
        // What answers HEAD, 204 and 304 have no body that could hide anything, whatever their headers say of one.
        if !body.is_end_stream() {
            if is_encoded(&head.headers) {
                return Err(Rule::HiddenAnswer);
            }
            if refuses_streams(route) && meter::is_stream(&head.headers) {
                return Err(Rule::NoStreams);
            }
        }
        let pointer = route.cost.as_ref().and_then(|cost| cost.settle.as_deref());
        let meter = reservation.map(|reservation| Meter::new(&client.account, reservation, pointer, &head.headers));
        clean(&mut head, route, called, &injection);
        let body = self.kept.answered(Metered::received(body, usage), &client.account, key, connection);
        let received = Received::new(body, injection, Watch { meter, revoked, idle });
        Ok(Answer { response: Response::from_parts(head, received.boxed_unsync()), from, account: None, relay: None })
    }

    /// Reserves what a request costs, if it costs anything.
    async fn reserve(&self, client: &Client, route: &Route) -> Result<Option<Reservation>, Rule> {
        let Some(cost) = &route.cost else { return Ok(None) };
        let budget = client.now().policy.budget;
        let reserved = self.ledger.reserve(client.name(), &route.name, cost.reserve, budget, Timestamp::now()).await;
        reserved.map(Some).map_err(|error| match error {
            ReserveError::OverBudget => Rule::OverBudget,
            ReserveError::Ledger(error) => {
                tracing::error!(error = &error as &dyn std::error::Error, "a request cannot be recorded");
                Rule::NoLedger
            }
        })
    }
}

/// The longest name of a destination in a refusal, in characters.
const MAX_SHOWN: usize = 300;

/// The host that a request names, with its port where there is one.
fn authority(request: &Request<Incoming>) -> Option<String> {
    match request.uri().authority() {
        Some(authority) => Some(authority.as_str().to_owned()),
        None => request.headers().get(HOST)?.to_str().ok().map(str::to_owned),
    }
}

fn refuses_streams(route: &Route) -> bool {
    route.cost.as_ref().is_some_and(|cost| cost.stream == StreamMode::Refuse)
}

/// Refuses a request for a stream. Returns what was read of its body.
async fn asked(account: &Account, headers: &HeaderMap, body: &mut Incoming) -> Result<Bytes, Rule> {
    if stream_detection::in_headers(headers) {
        return Err(Rule::NoStreams);
    }
    match stream_detection::in_body(account, body).await? {
        (_, true) => Err(Rule::NoStreams),
        (read, false) => Ok(read),
    }
}

/// The request that the upstream gets.
fn outgoing(
    mut head: request::Parts,
    route: &Route,
    called: &Called,
    injection: &Injection,
    is_websocket: bool,
    body: Metered<Sent>,
) -> Option<Request<Metered<Sent>>> {
    injection.headers(&mut head.headers, route, is_websocket);
    let mut request = Request::new(body);
    *request.uri_mut() = injection.target(route, called).parse().ok()?;
    *request.method_mut() = head.method;
    *request.headers_mut() = head.headers;
    Some(request)
}

/// Whether an answer is encoded, though it was asked not to be.
fn is_encoded(headers: &HeaderMap) -> bool {
    let encodings = headers.get_all(CONTENT_ENCODING).into_iter();
    encodings
        .map(|value| value.as_bytes().trim_ascii())
        .any(|value| !value.is_empty() && !value.eq_ignore_ascii_case(b"identity"))
}

/// Makes the head of an answer the one that the caller gets.
fn clean(head: &mut response::Parts, route: &Route, called: &Called, injection: &Injection) {
    inject::strip_answer(&mut head.headers);
    let location = head.headers.get(LOCATION).and_then(|value| value.to_str().ok());
    let rewritten = location.and_then(|location| target::location(route, &called.base, location));
    if let Some(value) = rewritten.and_then(|location| HeaderValue::from_str(&location).ok()) {
        head.headers.insert(LOCATION, value);
    }
    body::redact_headers(&mut head.headers, injection);
    // A reason phrase is text of the upstream's as well.
    head.extensions.clear();
    head.version = Version::HTTP_11;
}

/// The answer that makes a WebSocket of the connection, and both sides of that. It costs what was reserved.
fn switched(
    mut answer: Response<Incoming>,
    upgrade: Option<OnUpgrade>,
    injection: &Injection,
) -> Result<(Response<Body>, OnUpgrade, OnUpgrade), Rule> {
    let (Some(client), Some(destination)) = (upgrade, upgrade::agreed(&mut answer)) else {
        return Err(Rule::BadAnswer);
    };
    if answer.headers().contains_key(SEC_WEBSOCKET_EXTENSIONS) {
        return Err(Rule::HiddenAnswer);
    }
    let mut headers = std::mem::take(answer.headers_mut());
    inject::strip_answer(&mut headers);
    body::redact_headers(&mut headers, injection);
    Ok((upgrade::switching(headers), client, destination))
}

/// Ends when the route is taken from the tenant, or leads elsewhere. A new value of its secret ends
/// nothing.
fn still_leads_there(client: &Client, route: &Route) -> Revoked {
    let route = route.clone();
    let is_same =
        move |now: &Route| now.name == route.name && now.upstream == route.upstream && now.inject == route.inject;
    Box::pin(revoked(client.in_force.changes(), move |in_force: &InForce| in_force.policy.routes.iter().any(&is_same)))
}
