//! Who may ask: tokens, signatures, and names that a browser cannot be talked into.

use std::net::IpAddr;

use axum::http::{HeaderMap, HeaderValue, Uri, header, uri::Authority};
use data_encoding::HEXLOWER_PERMISSIVE;
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

/// Whether the request carries the token as `Authorization: Bearer TOKEN`.
pub(super) fn has_token(headers: &HeaderMap, token: &str) -> bool {
    let sent = headers.get(header::AUTHORIZATION).map(HeaderValue::as_bytes).and_then(|value| {
        let (scheme, sent) = value.split_at_checked(7)?;
        scheme.eq_ignore_ascii_case(b"bearer ").then_some(sent)
    });
    sent.is_some_and(|sent| same(sent, token.as_bytes()))
}

/// What shows that a forge sent a body: it is signed with the secret as GitHub does, or the secret is sent as GitLab does.
/// The body is hashed as it comes, and need not be kept.
pub(super) enum Proof {
    /// The signature, and the code of what came so far. One that is there must be right, whatever else is sent.
    Signature(Option<([u8; 32], Box<Hmac<Sha256>>)>),
    /// Whether the token is right.
    Token(bool),
}

impl Proof {
    pub(super) fn of(headers: &HeaderMap, secret: &str) -> Self {
        match headers.get("x-hub-signature-256") {
            Some(signature) => Self::Signature(signed(signature.as_bytes(), secret)),
            None => {
                let token = headers.get("x-gitlab-token");
                Self::Token(token.is_some_and(|token| same(token.as_bytes(), secret.as_bytes())))
            }
        }
    }

    /// Takes a part of the body.
    pub(super) fn update(&mut self, part: &[u8]) {
        if let Self::Signature(Some((_, code))) = self {
            code.update(part);
        }
    }

    /// Whether a forge sent all that was taken.
    pub(super) fn holds(self) -> bool {
        match self {
            // Compares in a time that does not depend on what differs.
            Self::Signature(signature) => signature.is_some_and(|(sent, code)| code.verify_slice(&sent).is_ok()),
            Self::Token(is_right) => is_right,
        }
    }
}

/// Whether the request names this host as one that is on it does. A page that a browser was led to
/// under a foreign name, which then came to mean this host, does not.
pub(super) fn names_loopback(headers: &HeaderMap, uri: &Uri) -> bool {
    let mut hosts = headers.get_all(header::HOST).iter();
    let (Some(host), None) = (hosts.next(), hosts.next()) else { return false };
    let named = host.to_str().ok().and_then(|host| host.parse::<Authority>().ok());
    named.is_some_and(|host| is_loopback(&host)) && uri.authority().is_none_or(is_loopback)
}

fn is_loopback(authority: &Authority) -> bool {
    let host = authority.host();
    let address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    host.eq_ignore_ascii_case("localhost") || address.is_ok_and(|address| address.is_loopback())
}

/// Compares in a time that does not depend on where the two differ, nor how long the right one is.
fn same(sent: &[u8], right: &[u8]) -> bool {
    Sha256::digest(sent).as_slice().ct_eq(Sha256::digest(right).as_slice()).into()
}

fn signed(signature: &[u8], secret: &str) -> Option<([u8; 32], Box<Hmac<Sha256>>)> {
    let sent = HEXLOWER_PERMISSIVE.decode(signature.strip_prefix(b"sha256=")?).ok()?.try_into().ok()?;
    Some((sent, Box::new(Hmac::new_from_slice(secret.as_bytes()).ok()?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, HeaderValue::from_str(value).unwrap());
        }
        headers
    }

    #[test]
    fn a_token_is_taken_whole_or_not_at_all() {
        for (value, holds) in [
            ("Bearer s3cret", true),
            ("bearer s3cret", true),
            ("Bearer s3cre", false),
            ("Bearer s3cret2", false),
            ("Bearer ", false),
            ("Basic s3cret", false),
            ("s3cret", false),
            ("", false),
        ] {
            assert_eq!(has_token(&headers(&[("authorization", value)]), "s3cret"), holds, "{value:?}");
        }
        assert!(!has_token(&HeaderMap::new(), "s3cret"));
    }

    /// The body may come in any parts.
    fn is_from_forge(headers: &HeaderMap, body: &[u8], secret: &str) -> bool {
        let of = |length: usize| {
            let mut proof = Proof::of(headers, secret);
            body.chunks(length).for_each(|part| proof.update(part));
            proof.holds()
        };
        let [whole, parts] = [body.len(), 3].map(of);
        assert_eq!(whole, parts);
        whole
    }

    #[test]
    fn a_signature_is_that_of_the_bytes() {
        // The example of GitHub's documentation.
        let (secret, body) = ("It's a Secret to Everybody", b"Hello, World!");
        let right = "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17";
        let signed = |signature: &str| headers(&[("x-hub-signature-256", signature)]);
        assert!(is_from_forge(&signed(right), body, secret));
        assert!(is_from_forge(&signed(&right.to_uppercase().replace("SHA", "sha")), body, secret));
        assert!(!is_from_forge(&signed(right), b"Hello, World?", secret));
        assert!(!is_from_forge(&signed(right), body, "another"));
        for wrong in ["", "sha256=", &right[7..], &right[..70], "sha1=757107ea", "sha256=zz"] {
            assert!(!is_from_forge(&signed(wrong), body, secret), "{wrong}");
        }
        assert!(is_from_forge(&headers(&[("x-gitlab-token", secret)]), body, secret));
        assert!(!is_from_forge(&headers(&[("x-gitlab-token", "guess")]), body, secret));
        let both = headers(&[("x-hub-signature-256", "sha256=00"), ("x-gitlab-token", secret)]);
        assert!(!is_from_forge(&both, body, secret), "a wrong signature counts");
        assert!(!is_from_forge(&HeaderMap::new(), body, secret));
    }

    #[test]
    fn only_names_of_this_host_are_its_names() {
        let here = Uri::from_static("/metrics");
        for host in ["localhost", "LOCALHOST:9469", "127.0.0.1:9469", "127.8.9.1", "[::1]:80", "[::1]"] {
            assert!(names_loopback(&headers(&[("host", host)]), &here), "{host}");
        }
        for host in ["", "example.com", "localhost.example.com", "10.0.0.1", "127.0.0.1.nip.io", "[::2]", "a@b@c"] {
            assert!(!names_loopback(&headers(&[("host", host)]), &here), "{host}");
        }
        assert!(!names_loopback(&HeaderMap::new(), &here));
        assert!(!names_loopback(&headers(&[("host", "localhost"), ("host", "example.com")]), &here));
        let elsewhere = Uri::from_static("http://example.com/metrics");
        assert!(!names_loopback(&headers(&[("host", "localhost")]), &elsewhere));
    }
}
