//! Why a request is not granted, as clients read it.

use std::time::Duration;

use axum::{
    Json,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A request that is not granted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error, JsonSchema)]
#[error("{message}")]
pub struct Refusal {
    /// What kind of reason it is.
    pub kind: RefusalKind,
    /// The reason, for a person.
    #[serde(rename = "error")]
    pub message: String,
    /// What to do next, for a person.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// After how many seconds it may be asked again, where that is all that is needed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after: Option<u64>,
}

/// What kind of reason a refusal has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum RefusalKind {
    /// The request cannot be read.
    Malformed,
    /// Nothing shows who asks: the token or the signature is missing or wrong.
    Unauthenticated,
    /// Whoever asks may not.
    Forbidden,
    /// What is meant does not exist.
    NotFound,
    /// The path is served by another method.
    MethodNotAllowed,
    /// The request did not arrive in time.
    TimedOut,
    /// It cannot be done in the present state.
    Conflict,
    /// The request is too long.
    TooLarge,
    /// The request makes no sense.
    Invalid,
    /// This user asks too often.
    TooOften,
    /// The daemon does not answer, or cannot do it now.
    Unavailable,
    /// The host has no room for it.
    Capacity,
}

impl RefusalKind {
    const fn status(self) -> StatusCode {
        match self {
            Self::Malformed => StatusCode::BAD_REQUEST,
            Self::Unauthenticated => StatusCode::UNAUTHORIZED,
            Self::Forbidden => StatusCode::FORBIDDEN,
            Self::NotFound => StatusCode::NOT_FOUND,
            Self::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            Self::TimedOut => StatusCode::REQUEST_TIMEOUT,
            Self::Conflict => StatusCode::CONFLICT,
            Self::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Invalid => StatusCode::UNPROCESSABLE_ENTITY,
            Self::TooOften => StatusCode::TOO_MANY_REQUESTS,
            Self::Unavailable | Self::Capacity => StatusCode::SERVICE_UNAVAILABLE,
        }
    }
}

impl Refusal {
    /// A refusal without a hint.
    pub fn new(kind: RefusalKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), hint: None, retry_after: None }
    }

    /// What is meant does not exist.
    pub fn not_found(message: impl Into<String>) -> Self {
        Self::new(RefusalKind::NotFound, message)
    }

    /// It cannot be done in the present state.
    pub fn conflict(message: impl Into<String>) -> Self {
        Self::new(RefusalKind::Conflict, message)
    }

    /// The request makes no sense.
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(RefusalKind::Invalid, message)
    }

    /// The daemon does not answer, or cannot do it now.
    pub fn unavailable(message: impl Into<String>) -> Self {
        Self::new(RefusalKind::Unavailable, message)
    }

    /// The host has no room for it.
    pub fn capacity(message: impl Into<String>) -> Self {
        Self::new(RefusalKind::Capacity, message)
    }

    /// Too many requests of one user; after `wait` there are fewer.
    pub(super) fn too_often(wait: Duration) -> Self {
        let seconds = wait.as_secs() + 1;
        let message = format!("this user asks too often; try again in {seconds} s");
        Self { retry_after: Some(seconds), ..Self::new(RefusalKind::TooOften, message) }
    }

    /// Too many connections of one user.
    pub(super) fn too_many_connections() -> Self {
        let message = "this user has too many connections; try again in a second";
        Self { retry_after: Some(1), ..Self::new(RefusalKind::TooOften, message) }
    }

    /// What to do next, as a sentence without an end.
    #[must_use]
    pub fn hint(self, hint: impl Into<String>) -> Self {
        Self { hint: Some(hint.into()), ..self }
    }

    /// The answer as it is sent where no request is read.
    pub(super) fn to_http(&self) -> String {
        let body = serde_json::to_string(self).unwrap_or_default();
        let retry = self.retry_after.map(|seconds| format!("Retry-After: {seconds}\r\n")).unwrap_or_default();
        format!(
            "HTTP/1.1 {}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n{retry}Connection: close\r\n\r\n{body}",
            self.kind.status(),
            body.len(),
        )
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let retry_after = self.retry_after;
        let mut response = (self.kind.status(), Json(&self)).into_response();
        if self.kind == RefusalKind::Unauthenticated {
            let challenge = HeaderValue::from_static("Bearer realm=\"tenantd\"");
            response.headers_mut().insert(header::WWW_AUTHENTICATE, challenge);
        }
        if let Some(seconds) = retry_after {
            response.headers_mut().insert(header::RETRY_AFTER, seconds.into());
        }
        response
    }
}
