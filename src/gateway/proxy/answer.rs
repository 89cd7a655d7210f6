//! Refusals as those who are refused see them: a page, an alert of TLS.

use std::time::Duration;

use http_body_util::{BodyExt, Full, combinators::UnsyncBoxBody};
use hyper::{Response, StatusCode, body::Bytes, header};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

use crate::policy::{Refusal, Rule};

/// The body of an answer.
pub type Body = UnsyncBoxBody<Bytes, std::io::Error>;

/// How long somebody who is refused may take to read that, and how many bytes it may send meanwhile:
/// a socket that is closed with bytes unread takes the answer back.
pub(crate) const DRAIN_TIMEOUT: Duration = Duration::from_secs(2);
pub(crate) const MAX_DISCARDED: usize = 256 << 10;

/// What a connection is spoken to in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Language {
    /// TLS: its alerts.
    Tls,
    /// HTTP/1.
    Http,
    /// It said nothing that is understood.
    Unknown,
}

/// The status that a refusal is answered with.
pub fn status(rule: Rule) -> StatusCode {
    match rule {
        Rule::ForeignAddress | Rule::NotListed | Rule::AddressNotPublic | Rule::HiddenName => StatusCode::FORBIDDEN,
        Rule::Malformed
        | Rule::MalformedRequest
        | Rule::MalformedHello
        | Rule::MalformedPath
        | Rule::NameDiffers
        | Rule::PortDiffers
        | Rule::OtherScheme
        | Rule::LateTunnel
        | Rule::UnknownProtocol
        | Rule::NoStreams => StatusCode::BAD_REQUEST,
        Rule::OverBudget => StatusCode::PAYMENT_REQUIRED,
        Rule::NoRoute => StatusCode::NOT_FOUND,
        Rule::TooLate | Rule::IncompleteBody => StatusCode::REQUEST_TIMEOUT,
        Rule::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        Rule::OverLimit => StatusCode::TOO_MANY_REQUESTS,
        Rule::HeadTooLarge => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
        Rule::UnsupportedMethod => StatusCode::NOT_IMPLEMENTED,
        Rule::Unresolved | Rule::NoResolver | Rule::BadAnswer | Rule::NoTls | Rule::HiddenAnswer | Rule::Untrusted => {
            StatusCode::BAD_GATEWAY
        }
        Rule::NoSecret | Rule::NoLedger => StatusCode::SERVICE_UNAVAILABLE,
        Rule::Unreachable => StatusCode::GATEWAY_TIMEOUT,
    }
}

/// The error of RFC 9209.
fn proxy_error(rule: Rule) -> &'static str {
    match rule {
        Rule::AddressNotPublic => "destination_ip_prohibited",
        Rule::Malformed
        | Rule::MalformedRequest
        | Rule::MalformedHello
        | Rule::MalformedPath
        | Rule::HeadTooLarge
        | Rule::NameDiffers
        | Rule::PortDiffers
        | Rule::OtherScheme
        | Rule::LateTunnel
        | Rule::UnsupportedMethod
        | Rule::UnknownProtocol
        | Rule::TooLate
        | Rule::IncompleteBody => "http_request_error",
        Rule::Unresolved | Rule::NoResolver => "dns_error",
        Rule::Unreachable => "destination_unavailable",
        Rule::BadAnswer => "http_protocol_error",
        Rule::NoTls => "tls_protocol_error",
        Rule::Untrusted => "tls_certificate_error",
        Rule::NoSecret => "proxy_configuration_error",
        Rule::ForeignAddress
        | Rule::NotListed
        | Rule::HiddenName
        | Rule::OverLimit
        | Rule::NoRoute
        | Rule::OverBudget
        | Rule::NoStreams
        | Rule::TooLarge
        | Rule::HiddenAnswer
        | Rule::NoLedger => "http_request_denied",
    }
}

fn proxy_status(rule: Rule) -> String {
    format!("tenantd; error={}; details=\"{rule}\"", proxy_error(rule))
}

/// A refusal as an answer of HTTP.
pub fn response(refusal: &Refusal) -> Response<Body> {
    let text = Full::new(Bytes::from(format!("{refusal}\n"))).map_err(|never| match never {});
    let mut response = Response::new(text.boxed_unsync());
    *response.status_mut() = status(refusal.rule);
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, header::HeaderValue::from_static("text/plain; charset=utf-8"));
    if let Ok(value) = proxy_status(refusal.rule).parse() {
        headers.insert("proxy-status", value);
    }
    response
}

/// A refusal as bytes of a language.
pub fn bytes(refusal: &Refusal, language: Language) -> Vec<u8> {
    match language {
        Language::Tls => alert(refusal.rule).to_vec(),
        Language::Http => page(refusal),
        // Whoever says nothing that is understood may be a person with a terminal.
        Language::Unknown => format!("{refusal}\r\n").into_bytes(),
    }
}

fn page(refusal: &Refusal) -> Vec<u8> {
    let (status, body) = (status(refusal.rule), format!("{refusal}\n"));
    format!(
        "HTTP/1.1 {status}\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: {}\r\n\
         Proxy-Status: {}\r\nConnection: close\r\n\r\n{body}",
        body.len(),
        proxy_status(refusal.rule),
    )
    .into_bytes()
}

/// A fatal alert of TLS 1.2 and 1.3 in a record of its own: RFC 8446, section 6.
pub fn alert(rule: Rule) -> [u8; 7] {
    const ACCESS_DENIED: u8 = 49;
    const UNRECOGNIZED_NAME: u8 = 112;
    let description = if rule == Rule::NotListed { UNRECOGNIZED_NAME } else { ACCESS_DENIED };
    [21, 3, 3, 0, 2, 2, description]
}

/// Writes last words and reads what still comes, so that they arrive, and closes.
pub async fn say_and_drain(stream: &mut TcpStream, words: &[u8]) {
    let say = async {
        stream.write_all(words).await?;
        stream.shutdown().await?;
        let mut discarded = 0;
        let mut buffer = [0; 4096];
        while discarded < MAX_DISCARDED {
            match stream.read(&mut buffer).await? {
                0 => break,
                read => discarded += read,
            }
        }
        std::io::Result::Ok(())
    };
    // Whoever does not listen is not waited for.
    let _ = timeout(DRAIN_TIMEOUT, say).await;
}
