//! The pages that a browser sees in the place of a tenant's: that it is being started, and where a token is asked for. They are whole
//! by themselves: nothing else is loaded, and of the request nothing is in them but a path to go back to.

use std::{fmt::Write as _, sync::LazyLock};

use base64ct::{Base64, Encoding as _};
use http_body_util::{BodyExt as _, Full};
use hyper::{
    Response, StatusCode,
    body::Bytes,
    header::{self, HeaderMap, HeaderValue},
};
use sha2::{Digest as _, Sha256};

use crate::{gateway::proxy::answer::Body, model::TenantName};

const STYLE: &str = include_str!("page/page.css");
const SCRIPT: &str = include_str!("page/starting.js");

/// How often a browser without scripts looks again, in seconds.
pub const LOOK_AGAIN: u64 = 2;

/// What each page may load and do: its own style, its own script, and calls of its own host.
static OF_STARTING: LazyLock<HeaderValue> = LazyLock::new(|| {
    let (style, script) = (hash(STYLE), hash(SCRIPT));
    policy(&format!("style-src '{style}'; script-src '{script}'; connect-src 'self'; form-action 'none'"))
});
static OF_SIGN_IN: LazyLock<HeaderValue> =
    LazyLock::new(|| policy(&format!("style-src '{}'; form-action 'self'; frame-ancestors 'none'", hash(STYLE))));

fn hash(text: &str) -> String {
    format!("sha256-{}", Base64::encode_string(&Sha256::digest(text)))
}

fn policy(allows: &str) -> HeaderValue {
    let policy = format!("default-src 'none'; base-uri 'none'; {allows}");
    HeaderValue::from_str(&policy).unwrap_or(HeaderValue::from_static("default-src 'none'"))
}

/// A tenant is being started, and the browser lands on what it asked for when it is.
pub fn starting(tenant: &TenantName) -> Response<Body> {
    let title = format!("Starting {tenant}");
    let head = format!("<noscript><meta http-equiv=\"refresh\" content=\"{LOOK_AGAIN}\"></noscript>");
    let steps = [("creating", "Creating"), ("starting", "Starting"), ("ready", "Ready")];
    let steps: String = steps.iter().fold(String::new(), |mut all, (step, name)| {
        let _ = write!(all, "<li data-step=\"{step}\">{name}</li>");
        all
    });
    let body = format!(
        "<h1>{title}</h1>\n<p id=\"state\" role=\"status\">This page goes on by itself as soon as it runs.</p>\n\
         <ol>{steps}</ol>\n<script>{SCRIPT}</script>"
    );
    response(StatusCode::SERVICE_UNAVAILABLE, &OF_STARTING, &title, &head, &body)
}

/// Asks for a token, after which the browser goes `to` a path of this host. `says` is what was wrong with the last one.
pub fn sign_in(status: StatusCode, to: &str, says: Option<&str>) -> Response<Body> {
    let says = says.map(|says| format!("<p role=\"alert\">{}</p>\n", escaped(says))).unwrap_or_default();
    let body = format!(
        "<h1>Sign in</h1>\n<p>This address is open to those who have a token for it.</p>\n{says}\
         <form method=\"post\" action=\"/.tenantd/session\">\n<input type=\"hidden\" name=\"to\" value=\"{}\">\n\
         <label for=\"token\">Token</label>\n\
         <input id=\"token\" name=\"token\" type=\"password\" autocomplete=\"off\" spellcheck=\"false\" required autofocus>\n\
         <button>Continue</button>\n</form>",
        escaped(to)
    );
    response(status, &OF_SIGN_IN, "Sign in", "", &body)
}

fn response(status: StatusCode, policy: &HeaderValue, title: &str, head: &str, body: &str) -> Response<Body> {
    let page = format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<meta name=\"robots\" content=\"noindex\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n<title>{title}</title>\n{head}<style>{STYLE}</style>\n</head>\n\
         <body>\n<main>\n{body}\n</main>\n</body>\n</html>\n"
    );
    let mut response = Response::new(Full::new(Bytes::from(page)).map_err(|never| match never {}).boxed_unsync());
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
    headers.insert(header::CONTENT_SECURITY_POLICY, policy.clone());
    guard(headers);
    response
}

/// What every answer of the ingress's own says: it is kept nowhere, taken for nothing else, and its address goes to no other host.
pub fn guard(headers: &mut HeaderMap) {
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    // Not `no-referrer`: with that a form would be sent with the origin `null`.
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("same-origin"));
}

/// A text as it stands in HTML, between tags or in quotes.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            other => escaped.push(other),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn text(response: Response<Body>) -> Result<String, Box<dyn std::error::Error>> {
        let body = response.into_body().collect().await?.to_bytes();
        Ok(String::from_utf8(body.to_vec())?)
    }

    #[tokio::test]
    async fn a_page_loads_nothing_and_runs_nothing_but_its_own() -> Result<(), Box<dyn std::error::Error>> {
        let tenant: TenantName = "ant".parse()?;
        for response in [starting(&tenant), sign_in(StatusCode::UNAUTHORIZED, "/", None)] {
            let headers = response.headers().clone();
            let policy = headers[header::CONTENT_SECURITY_POLICY].to_str()?.to_owned();
            assert!(
                policy.starts_with("default-src 'none'; base-uri 'none'; ") && !policy.contains("unsafe"),
                "{policy}"
            );
            assert_eq!(headers[header::CACHE_CONTROL], "no-store");
            let page = text(response).await?;
            for (tag, end) in [("<style>", "</style>"), ("<script>", "</script>")] {
                for part in page.split(tag).skip(1) {
                    let part = part.split(end).next().unwrap_or_default();
                    assert!(policy.contains(&hash(part)), "{tag} is not of {policy}");
                }
            }
            for foreign in ["http:", "https:", "src=", "style=", "onclick=", "onload=", "url("] {
                assert!(!page.contains(foreign), "{foreign} in {page}");
            }
        }
        Ok(())
    }

    #[tokio::test]
    async fn what_a_request_brings_is_escaped() -> Result<(), Box<dyn std::error::Error>> {
        let page = text(sign_in(StatusCode::OK, "/a?b=\"><script>&'", Some("<b>"))).await?;
        assert!(
            page.contains("value=\"/a?b=&quot;&gt;&lt;script&gt;&amp;&#39;\"") && page.contains("&lt;b&gt;"),
            "{page}"
        );
        assert!(!page.contains("<script") && !page.contains("<b>"), "{page}");
        Ok(())
    }
}
