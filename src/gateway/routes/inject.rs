//! What is added to a request and taken from it on the way to its upstream. Pure.

use std::fmt::Write;

use base64ct::{Base64, Base64UrlUnpadded, Encoding};
use hyper::{
    HeaderMap, Method,
    header::{
        ACCEPT_ENCODING, AUTHORIZATION, CONTENT_LENGTH, EXPECT, HOST, HeaderName, HeaderValue,
        SEC_WEBSOCKET_EXTENSIONS, TRAILER,
    },
};

use super::{
    redact::Keys,
    target::{self, Called},
};
use crate::{
    model::egress::{Inject, Part, Route, SecretValues, Template},
    proxy::headers,
};

/// Headers that are written anew, beside those that are hop by hop.
const OWN: [HeaderName; 4] = [EXPECT, HOST, CONTENT_LENGTH, ACCEPT_ENCODING];

/// Whether a header is not the caller's to choose.
fn is_own(name: &HeaderName) -> bool {
    headers::is_hop_by_hop(name) || OWN.contains(name)
}

/// A route's key, ready to be sent.
pub(super) struct Injection {
    place: InjectionPoint,
    /// The key, in every form in which the upstream could send it back.
    pub keys: Keys,
}

enum InjectionPoint {
    Header(HeaderName, HeaderValue),
    /// A name and a value, both percent-encoded, and the name as it is.
    Query(String, String),
}

impl Injection {
    /// Puts the secrets of a route in their place. `None` where one is not there or cannot be sent:
    /// it is empty or holds control characters.
    pub(super) fn new(route: &Route, secrets: &SecretValues) -> Option<Self> {
        let value = fill(route.inject.template(), secrets)?;
        let mut keys = Vec::new();
        for secret in route.inject.template().secrets() {
            let secret = secrets.get(secret)?;
            if secret.is_empty() || secret.bytes().any(|b| b.is_ascii_control()) {
                return None;
            }
            forms(secret, &mut keys);
        }
        let place = match &route.inject {
            Inject::Header { name, .. } => {
                let name = HeaderName::from_bytes(name.as_bytes()).ok().filter(|name| !is_own(name))?;
                InjectionPoint::Header(name, sensitive(&value)?)
            }
            Inject::Query { name, .. } => InjectionPoint::Query(name.clone(), escaped(&value)),
            Inject::Basic { username, .. } => {
                let pair = format!("{username}:{value}");
                let text = Base64::encode_string(pair.as_bytes());
                keys.push(text.trim_end_matches('=').as_bytes().to_vec());
                keys.push(Base64UrlUnpadded::encode_string(pair.as_bytes()).into_bytes());
                forms(&text, &mut keys);
                InjectionPoint::Header(AUTHORIZATION, sensitive(&format!("Basic {text}"))?)
            }
        };
        Some(Self { place, keys: Keys::new(&keys).ok()? })
    }

    /// The path and query that the upstream is asked for.
    pub(super) fn target(&self, route: &Route, called: &Called) -> String {
        let query = self.query(called.query.as_deref());
        target::path_and_query(&route.upstream, &called.path, query.as_deref())
    }

    /// A caller's query with the key, and without its own of that name.
    fn query(&self, query: Option<&str>) -> Option<String> {
        let InjectionPoint::Query(name, value) = &self.place else { return query.map(str::to_owned) };
        let rest = query.map_or_else(String::new, |query| target::without(query, name));
        let and = if rest.is_empty() { "" } else { "&" };
        Some(format!("{rest}{and}{}={value}", escaped(name)))
    }

    /// Makes a caller's headers those that the upstream gets.
    pub(super) fn headers(&self, headers: &mut HeaderMap, route: &Route, is_websocket: bool) {
        headers::strip(headers);
        for name in OWN.into_iter().chain([TRAILER]) {
            headers.remove(name);
        }
        if let Ok(host) = HeaderValue::from_str(&target::authority(&route.upstream)) {
            headers.insert(HOST, host);
        }
        // A key within a compressed answer would not be seen.
        headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        headers.remove(SEC_WEBSOCKET_EXTENSIONS);
        if is_websocket {
            headers::upgrade(headers);
        }
        if let InjectionPoint::Header(name, value) = &self.place {
            let same: Vec<HeaderName> = headers.keys().filter(|other| is_same(other, name)).cloned().collect();
            for other in same {
                headers.remove(other);
            }
            headers.insert(name, value.clone());
        }
    }
}

/// Whether some upstream takes two names for one: those that hand headers to programs as variables do
/// not distinguish `-` from `_`.
fn is_same(a: &HeaderName, b: &HeaderName) -> bool {
    a.as_str().len() == b.as_str().len()
        && a.as_str().bytes().zip(b.as_str().bytes()).all(|(a, b)| a == b || (b"-_".contains(&a) && b"-_".contains(&b)))
}

/// Removes what is for one connection alone from an answer.
pub(super) fn strip_answer(headers: &mut HeaderMap) {
    headers::strip(headers);
    for name in OWN.into_iter().filter(|name| *name != CONTENT_LENGTH) {
        headers.remove(name);
    }
}

/// Whether a request can be sent on: what echoes the request or opens a tunnel cannot.
pub(super) fn is_sendable(method: &Method) -> bool {
    !matches!(*method, Method::TRACE | Method::CONNECT)
}

fn fill(template: &Template, secrets: &SecretValues) -> Option<String> {
    template.parts().iter().try_fold(String::new(), |mut text, part| {
        text.push_str(match part {
            Part::Text(text) => text,
            Part::Secret(name) => secrets.get(name)?,
        });
        Some(text)
    })
}

fn sensitive(value: &str) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_str(value).ok()?;
    value.set_sensitive(true);
    Some(value)
}

/// Percent-encodes all but what RFC 3986 calls unreserved.
fn escaped(text: &str) -> String {
    encoded(text, |byte| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte))
}

fn encoded(text: &str, stays: impl Fn(u8) -> bool) -> String {
    text.bytes().fold(String::new(), |mut encoded, byte| {
        if stays(byte) {
            encoded.push(char::from(byte));
        } else {
            // Writing to a string does not fail.
            let _ = write!(encoded, "%{byte:02X}");
        }
        encoded
    })
}

/// The forms in which a text comes back: as it is, as a part of a URL, of a form, of JSON, of HTML.
fn forms(text: &str, keys: &mut Vec<Vec<u8>>) {
    let json = text.replace('\\', "\\\\").replace('"', "\\\"");
    let html = text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    let strict = escaped(text);
    let component = encoded(text, |byte| byte.is_ascii_alphanumeric() || b"-._~!*'()".contains(&byte));
    let path = encoded(text, |byte| byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:@/".contains(&byte));
    for form in [
        text.to_owned(),
        json.replace('/', "\\/"),
        json,
        html.replace('"', "&quot;").replace('\'', "&#39;"),
        html.replace('"', "&#34;").replace('\'', "&#39;"),
        html.replace('"', "&quot;").replace('\'', "&#x27;"),
        html,
        strict.replace("%20", "+"),
        component.replace("%20", "+"),
        lower(&strict),
        lower(&component),
        lower(&path),
        strict,
        component,
        path,
    ] {
        if !keys.iter().any(|key| key == form.as_bytes()) {
            keys.push(form.into_bytes());
        }
    }
}

/// The same with the digits of its escapes in lower case.
fn lower(escaped: &str) -> String {
    let mut parts = escaped.split('%');
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |mut text, part| {
        let (digits, rest) = part.split_at(part.len().min(2));
        text.push('%');
        text.push_str(&digits.to_ascii_lowercase());
        text.push_str(rest);
        text
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::model::egress::Upstream;

    type Result<T = ()> = std::result::Result<T, Box<dyn std::error::Error>>;

    fn route(inject: Inject) -> Result<Route> {
        let upstream: Upstream = "https://api.example.com/v1".parse()?;
        Ok(Route { name: "crm".parse()?, upstream, inject, cost: None })
    }

    fn injection(inject: Inject, secret: &str) -> Result<(Route, Option<Injection>)> {
        let secrets = BTreeMap::from([("acme/crm".parse()?, secret.to_owned())]);
        let route = route(inject)?;
        let injection = Injection::new(&route, &secrets);
        Ok((route, injection))
    }

    fn header(name: &str) -> Result<Inject> {
        Ok(Inject::Header { name: name.to_owned(), value: "Bearer ${secret:acme/crm}".parse()? })
    }

    #[test]
    fn the_callers_own_header_goes_in_every_spelling() -> Result {
        let (route, injection) = injection(header("x-api-key")?, "k3y")?;
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("host", "gateway.internal"),
            ("x-api-key", "mine"),
            ("x-api-key", "mine too"),
            ("x_api_key", "mine"),
            ("x-api_key", "mine"),
            ("connection", "x-api-key, close,x-mine"),
            ("x-mine", "1"),
            ("trailer", "x-api-key"),
            ("upgrade", "h2c"),
            ("http2-settings", "AAMAAABk"),
            ("te", "trailers"),
            ("accept-encoding", "gzip"),
            ("proxy-authorization", "Basic x"),
            ("authorization", "Bearer the tenant's own"),
            ("cookie", "a=b"),
            ("x-api-key-id", "stays"),
        ] {
            headers.append(HeaderName::from_bytes(name.as_bytes())?, HeaderValue::from_str(value)?);
        }
        injection.ok_or("no injection")?.headers(&mut headers, &route, false);
        let mut left: Vec<String> =
            headers.iter().map(|(name, value)| format!("{name}: {}", value.to_str().unwrap_or_default())).collect();
        left.sort();
        assert_eq!(
            left,
            [
                "accept-encoding: identity",
                "authorization: Bearer the tenant's own",
                "cookie: a=b",
                "host: api.example.com",
                "x-api-key-id: stays",
                "x-api-key: Bearer k3y",
            ]
        );
        assert!(!format!("{headers:?}").contains("k3y"));
        Ok(())
    }

    #[test]
    fn a_query_and_a_password_are_encoded_and_known_in_every_form() -> Result {
        let (_, query) = injection(
            Inject::Query { name: "api key".to_owned(), value: "${secret:acme/crm}".parse()? },
            "a b/c+d&\"",
        )?;
        let query = query.ok_or("no injection")?;
        assert_eq!(query.query(Some("x=1&api_key=2")).as_deref(), Some("x=1&api%20key=a%20b%2Fc%2Bd%26%22"));
        assert_eq!(query.query(None).as_deref(), Some("api%20key=a%20b%2Fc%2Bd%26%22"));
        for form in [
            "a b/c+d&\"",
            "a%20b%2Fc%2Bd%26%22",
            "a%20b%2fc%2bd%26%22",
            "a+b%2Fc%2Bd%26%22",
            "a b/c+d&\\\"",
            "a b\\/c+d&\\\"",
            "a b/c+d&amp;&quot;",
            "a%20b/c+d&%22",
        ] {
            assert_eq!(query.keys.masked(form.as_bytes()), Some(vec![b'*'; form.len()]), "{form}");
        }

        let (route, basic) =
            injection(Inject::Basic { username: "u".to_owned(), password: "${secret:acme/crm}".parse()? }, "p>?p")?;
        let basic = basic.ok_or("no injection")?;
        let mut headers = HeaderMap::new();
        headers.insert("authorization", HeaderValue::from_static("Bearer mine"));
        basic.headers(&mut headers, &route, false);
        assert_eq!(headers.get_all("authorization").iter().collect::<Vec<_>>(), ["Basic dTpwPj9w"]);
        for form in ["dTpwPj9w", "p>?p", "p%3E%3Fp"] {
            assert_eq!(basic.keys.masked(form.as_bytes()), Some(vec![b'*'; form.len()]), "{form}");
        }
        Ok(())
    }

    #[test]
    fn without_a_secret_that_can_be_sent_nothing_is() -> Result {
        for bad in ["", "a\nb", "a\r\nx: y", "a\0"] {
            assert!(injection(header("authorization")?, bad)?.1.is_none(), "{bad:?}");
        }
        for own in ["host", "transfer-encoding", "connection", "not a name"] {
            assert!(injection(header(own)?, "k3y")?.1.is_none(), "{own}");
        }
        assert!(Injection::new(&route(header("authorization")?)?, &BTreeMap::new()).is_none());
        Ok(())
    }
}
