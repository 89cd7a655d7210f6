//! One POST, over http or https. Errors never hold the address.

use std::{error::Error, io, sync::Arc, time::Duration};

use http_body_util::Full;
use hyper::{Method, Request, StatusCode, Uri, body::Bytes, header};
use hyper_rustls::{ConfigBuilderExt, HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use rustls::{ClientConfig, RootCertStore, crypto::ring};
use tokio::time::timeout;

use crate::host::secret::SecretError;

/// How long one try may take.
const TRY: Duration = Duration::from_secs(10);

/// Why a message is not posted.
#[derive(Debug, thiserror::Error)]
pub(super) enum PostError {
    /// The settings name none any more.
    #[error("no webhook is set any more")]
    NoWebhook,
    /// The address cannot be read.
    #[error("cannot read the webhook's address")]
    Secret(#[from] SecretError),
    /// The address cannot be used.
    #[error("the webhook's address cannot be used: {0}")]
    Address(&'static str),
    /// The host's certificate authorities cannot be read.
    #[error("cannot read this host's certificate authorities")]
    Roots(#[source] io::Error),
    /// The webhook cannot be reached, or the connection broke.
    #[error("the webhook cannot be reached: {0}")]
    Broken(String),
    /// The webhook takes too long.
    #[error("the webhook did not answer within {} s", TRY.as_secs())]
    TimedOut,
    /// The webhook says no.
    #[error("the webhook answered {status}")]
    Refused {
        /// Its answer.
        status: StatusCode,
        /// When it wants to be asked again.
        after: Option<Duration>,
    },
}

impl PostError {
    /// Whether another try can end otherwise.
    pub(super) fn is_passing(&self) -> bool {
        match self {
            Self::NoWebhook => false,
            Self::Refused { status, .. } => {
                status.is_server_error()
                    || matches!(*status, StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS)
            }
            // The settings can be put right meanwhile.
            Self::Secret(_) | Self::Address(_) | Self::Roots(_) | Self::Broken(_) | Self::TimedOut => true,
        }
    }

    /// When the webhook wants to be asked again, if it says so.
    pub(super) fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Refused { after, .. } => *after,
            _ => None,
        }
    }
}

/// Posts to addresses of one scheme.
pub(super) struct Poster {
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    is_secure: bool,
}

impl Poster {
    /// Reads the host's certificate authorities, where the address needs them.
    pub(super) async fn new(url: &str) -> Result<Self, PostError> {
        let is_secure = is_secure(&address(url)?);
        let config = tokio::task::spawn_blocking(move || config(is_secure)).await;
        let config = config.map_err(|_| PostError::Broken("the work was cut off".to_owned()))??;
        let connector = HttpsConnectorBuilder::new().with_tls_config(config).https_or_http().enable_http1().build();
        let client = Client::builder(TokioExecutor::new()).pool_max_idle_per_host(0).build(connector);
        Ok(Self { client, is_secure })
    }

    /// Whether it can post to this address.
    pub(super) fn serves(&self, url: &str) -> bool {
        address(url).is_ok_and(|uri| is_secure(&uri) == self.is_secure)
    }

    /// Posts JSON. Redirects are not followed, and nothing of the answer's body is read.
    pub(super) async fn post(&self, url: &str, body: &[u8]) -> Result<(), PostError> {
        let request = Request::builder()
            .method(Method::POST)
            .uri(address(url)?)
            .header(header::CONTENT_TYPE, "application/json")
            .header(header::USER_AGENT, concat!("tenantd/", env!("CARGO_PKG_VERSION")))
            .body(Full::new(Bytes::copy_from_slice(body)))
            .map_err(|_| PostError::Address("it is no URL"))?;
        let answer = timeout(TRY, self.client.request(request)).await.map_err(|_| PostError::TimedOut)?;
        let answer = answer.map_err(|error| PostError::Broken(reason(&error)))?;
        let status = answer.status();
        if status.is_success() {
            return Ok(());
        }
        let after = answer.headers().get(header::RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
        Err(PostError::Refused { status, after: after.map(Duration::from_secs) })
    }
}

fn config(is_secure: bool) -> Result<ClientConfig, PostError> {
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| PostError::Roots(io::Error::other(error)))?;
    let builder = if is_secure {
        builder.with_native_roots().map_err(PostError::Roots)?
    } else {
        builder.with_root_certificates(RootCertStore::empty())
    };
    Ok(builder.with_no_client_auth())
}

fn is_secure(uri: &Uri) -> bool {
    uri.scheme_str() == Some("https")
}

fn address(url: &str) -> Result<Uri, PostError> {
    let uri: Uri = url.parse().map_err(|_| PostError::Address("it is no URL"))?;
    if !matches!(uri.scheme_str(), Some("http" | "https")) {
        return Err(PostError::Address("it does not begin with https:// or http://"));
    }
    match uri.authority() {
        Some(authority) if authority.as_str().contains('@') => Err(PostError::Address("it holds a user name")),
        _ => Ok(uri),
    }
}

/// What went wrong, without anything that could be part of the address.
fn reason(error: &(dyn Error + 'static)) -> String {
    let causes = std::iter::successors(Some(error), |&error| error.source());
    causes.filter_map(cause).last().unwrap_or_else(|| "the connection failed".to_owned())
}

fn cause(error: &(dyn Error + 'static)) -> Option<String> {
    let error = error.downcast_ref::<io::Error>()?;
    if let Some(tls) = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
        return Some(match tls {
            rustls::Error::InvalidCertificate(_) => "its certificate is not accepted".to_owned(),
            _ => "TLS failed".to_owned(),
        });
    }
    let text = error.to_string();
    (error.raw_os_error().is_some() || text.starts_with("failed to lookup address")).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_web_addresses_are_used() {
        for url in ["https://hooks.example.com/T0/s3cret", "http://127.0.0.1:8080/hook?x=1"] {
            assert!(address(url).is_ok(), "{url}");
        }
        for url in
            ["", "/hook", "file:///etc/passwd", "ftp://example.com", "https://a:s3cret@b/", "ht tp://x", "https://"]
        {
            let error = address(url).map(drop).map_err(|e| e.to_string());
            assert!(error.as_ref().is_err_and(|text| !text.contains("s3cret")), "{url}: {error:?}");
        }
    }

    #[test]
    fn what_the_webhook_will_never_take_is_not_tried_again() {
        let refused = |status| PostError::Refused { status, after: None };
        for (status, is_passing) in [
            (StatusCode::FOUND, false),
            (StatusCode::BAD_REQUEST, false),
            (StatusCode::GONE, false),
            (StatusCode::REQUEST_TIMEOUT, true),
            (StatusCode::TOO_MANY_REQUESTS, true),
            (StatusCode::BAD_GATEWAY, true),
        ] {
            assert_eq!(refused(status).is_passing(), is_passing, "{status}");
        }
    }
}
