//! What those are told whose request is not passed on.

use std::time::Duration;

use http_body_util::{BodyExt, Full};
use hyper::{
    Response, StatusCode,
    body::Bytes,
    header::{self, HeaderValue},
};

use crate::{
    deciding::admission::Denied,
    gateway::{
        policy::Rule,
        proxy::answer::{self, Body},
    },
    model::ingress::Closed,
    page::LOOK_AGAIN,
};

/// Why a request is not passed on, or not answered by its tenant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refused {
    /// It can be read in more than one way, or is too large.
    Malformed(Rule),
    /// Neither its host nor its path names a tenant.
    NamesNobody,
    /// Who comes may not reach the tenant so.
    Denied(Denied),
    /// The tenant has as many requests as it may have at once.
    TooMany,
    /// As many requests wait for tenants as may.
    TooManyHeld,
    /// The tenant was woken too often by those who need no token.
    TooManyWakes(Duration),
    /// The tenant is not woken.
    Closed(Closed),
    /// The host has no memory left for it.
    Capacity,
    /// It is being started, and whoever asks for a page gets one that says so.
    Starting,
    /// It was not ready in time.
    NotReady(Duration),
    /// Nothing is known of tenants yet, or the daemon could not be asked to wake one.
    DaemonUnavailable,
    /// It ended the connection, or went away, after it may have received the request.
    Unanswered,
    /// Its answer is none of HTTP.
    BadAnswer,
    /// It may no longer be reached.
    Revoked,
    /// The ingress itself has nothing at this path.
    NothingThere,
    /// The ingress itself has something at this path for other methods alone: these.
    MethodNotAllowed(&'static str),
    /// A cookie is set over TLS alone.
    NotSecure,
}

impl Refused {
    /// The name in metrics and logs.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Malformed(rule) => rule.as_str(),
            Self::NamesNobody => "names-nobody",
            Self::Denied(Denied::Unauthenticated) => "unauthenticated",
            Self::Denied(Denied::NoSuchPort) => "no-such-port",
            Self::Denied(Denied::ForeignOrigin) => "foreign-origin",
            Self::TooMany => "too-many-requests",
            Self::TooManyHeld => "too-many-held",
            Self::TooManyWakes(_) => "too-many-wakes",
            Self::Closed(_) => "closed",
            Self::Capacity => "capacity",
            Self::Starting => "starting",
            Self::NotReady(_) => "not-ready",
            Self::DaemonUnavailable => "daemon-unavailable",
            Self::Unanswered => "unanswered",
            Self::BadAnswer => "bad-answer",
            Self::Revoked => "revoked",
            Self::NothingThere => "nothing-there",
            Self::MethodNotAllowed(_) => "method-not-allowed",
            Self::NotSecure => "not-secure",
        }
    }

    fn status(&self) -> StatusCode {
        match self {
            Self::Malformed(rule) => answer::status(*rule),
            Self::NamesNobody | Self::NothingThere | Self::Denied(Denied::NoSuchPort) => StatusCode::NOT_FOUND,
            Self::MethodNotAllowed(_) => StatusCode::METHOD_NOT_ALLOWED,
            Self::Denied(Denied::Unauthenticated) | Self::Revoked => StatusCode::UNAUTHORIZED,
            Self::Denied(Denied::ForeignOrigin) | Self::NotSecure => StatusCode::FORBIDDEN,
            Self::TooMany | Self::TooManyWakes(_) => StatusCode::TOO_MANY_REQUESTS,
            Self::TooManyHeld
            | Self::Capacity
            | Self::Starting
            | Self::Closed(_)
            | Self::NotReady(_)
            | Self::DaemonUnavailable => StatusCode::SERVICE_UNAVAILABLE,
            Self::Unanswered | Self::BadAnswer => StatusCode::BAD_GATEWAY,
        }
    }

    /// Why, for a person, in one line.
    pub fn reason(&self) -> String {
        match self {
            Self::Malformed(rule) => format!("the request {} ({rule})", rule.reason()),
            Self::NamesNobody => "no tenant has this address: it is TENANT.DOMAIN, PORT-TENANT.DOMAIN or /t/TENANT/PORT/".into(),
            Self::Denied(Denied::Unauthenticated) => "a token for this tenant is needed: Authorization: Bearer TOKEN".into(),
            Self::Denied(Denied::NoSuchPort) => "the tenant does not expose this port".into(),
            Self::Denied(Denied::ForeignOrigin) => {
                "a page of another origin cannot use this cookie for a WebSocket or a request that changes something".into()
            }
            Self::TooMany => "the tenant has as many requests at once as it may have".into(),
            Self::TooManyHeld => "as many requests wait for tenants to start as may".into(),
            Self::TooManyWakes(_) => "the tenant was started too often without a token".into(),
            Self::Closed(closed) => format!("the tenant does not run and is not started: it is {closed}"),
            Self::Capacity => "the tenant does not run, and the host has no memory left to start it: capacity".into(),
            Self::Starting => "the tenant is being started".into(),
            Self::NotReady(after) => format!("the tenant was not ready within {} s", after.as_secs()),
            Self::DaemonUnavailable => "tenants cannot be started at this moment".into(),
            Self::Unanswered => {
                "the tenant ended the connection without an answer; it may have received the request, which is not sent again".into()
            }
            Self::BadAnswer => "the tenant's answer is not HTTP".into(),
            Self::Revoked => "the token does not count any more".into(),
            Self::NothingThere => "paths below /.tenantd/ are the ingress's own, and there is nothing at this one".into(),
            Self::MethodNotAllowed(allowed) => format!("this path takes {allowed}"),
            Self::NotSecure => "a cookie is set over TLS alone".into(),
        }
    }

    /// When it may be worth asking again.
    fn retry_after(&self) -> Option<u64> {
        match self {
            Self::TooMany | Self::TooManyHeld | Self::DaemonUnavailable => Some(1),
            Self::TooManyWakes(wait) => Some(wait.as_secs().max(1)),
            Self::NotReady(_) => Some(5),
            Self::Capacity => Some(10),
            Self::Starting => Some(LOOK_AGAIN),
            Self::Closed(_) => Some(30),
            Self::Malformed(_)
            | Self::NamesNobody
            | Self::Denied(_)
            | Self::Unanswered
            | Self::BadAnswer
            | Self::Revoked
            | Self::NothingThere
            | Self::MethodNotAllowed(_)
            | Self::NotSecure => None,
        }
    }

    /// The answer of HTTP.
    pub fn response(&self) -> Response<Body> {
        let text = Full::new(Bytes::from(format!("tenantd: {}\n", self.reason()))).map_err(|never| match never {});
        let mut response = Response::new(text.boxed_unsync());
        *response.status_mut() = self.status();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        self.with_headers(response)
    }

    /// Another answer with what its headers say of this.
    pub fn with_headers(&self, mut response: Response<Body>) -> Response<Body> {
        let headers = response.headers_mut();
        if self.status() == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"tenantd\""));
        }
        if let Some(seconds) = self.retry_after() {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if let Self::MethodNotAllowed(allowed) = self {
            headers.insert(header::ALLOW, HeaderValue::from_static(allowed));
        }
        if let Ok(value) = format!("tenantd; error=http_request_denied; details=\"{}\"", self.as_str()).parse() {
            headers.insert("proxy-status", value);
        }
        response
    }
}
