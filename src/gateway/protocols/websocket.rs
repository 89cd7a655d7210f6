//! Which offers of another protocol are taken: a WebSocket's, and no other. Pure.
//!
//! RFC 9110, section 7.8, leaves it to a server to answer a request as if nothing had been offered. That is
//! done with HTTP/2 in the clear and all else, whose bytes nobody here could judge; such an offer goes no
//! further than the gateway. Whoever reads a head, the validator, the proxy or a route, asks here.

use hyper::{
    HeaderMap, Method, Request, Version,
    header::{CONNECTION, HeaderName, UPGRADE},
};

/// The name of the protocol: RFC 6455, section 4.1.
const NAME: &[u8] = b"websocket";

/// Goes with an offer of HTTP/2 in the clear and means nothing without it: RFC 7540, section 3.2.1.
pub const HTTP2_SETTINGS: HeaderName = HeaderName::from_static("http2-settings");

/// Whether a request of this method, not of HTTP/1.0, offers a WebSocket among the protocols of `upgrade`, all
/// values of `Upgrade`, and says so in `connection`, all values of `Connection`.
pub fn is_offered<'a>(
    method: &str,
    mut connection: impl Iterator<Item = &'a [u8]>,
    mut upgrade: impl Iterator<Item = &'a [u8]>,
) -> bool {
    method == "GET" && connection.any(|value| has(value, b"upgrade")) && upgrade.any(|value| has(value, NAME))
}

/// [`is_offered`] for a request.
pub fn is_offered_by<T>(request: &Request<T>) -> bool {
    let values = |name: HeaderName| request.headers().get_all(name).into_iter().map(|value| value.as_bytes());
    request.version() == Version::HTTP_11
        && *request.method() == Method::GET
        && is_offered(Method::GET.as_str(), values(CONNECTION), values(UPGRADE))
}

/// Whether an answer agrees to a WebSocket: with 101 and nothing else is agreed to.
pub fn is_agreed_to(headers: &HeaderMap) -> bool {
    let mut protocols = headers.get_all(UPGRADE).into_iter();
    let is_named = protocols.next().is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(NAME));
    let connection = headers.get_all(CONNECTION).into_iter();
    is_named && protocols.next().is_none() && connection.into_iter().any(|value| has(value.as_bytes(), b"upgrade"))
}

/// Whether a list of a header holds a word.
fn has(list: &[u8], word: &[u8]) -> bool {
    list.split(|b| *b == b',').any(|member| member.trim_ascii().eq_ignore_ascii_case(word))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_websocket_is_taken_and_nothing_else() -> Result<(), Box<dyn std::error::Error>> {
        for (method, version, connection, upgrade, is_taken) in [
            ("GET", Version::HTTP_11, "Upgrade", &["websocket"][..], true),
            ("GET", Version::HTTP_11, "keep-alive, upgrade", &["WebSocket"], true),
            ("GET", Version::HTTP_11, "Upgrade", &["h2c, websocket"], true),
            ("GET", Version::HTTP_11, "Upgrade", &["h2c", "websocket"], true),
            ("GET", Version::HTTP_11, "Upgrade, HTTP2-Settings", &["h2c"], false),
            ("GET", Version::HTTP_11, "Upgrade", &["websocket/13"], false),
            ("GET", Version::HTTP_11, "Upgrade", &["websockets"], false),
            ("GET", Version::HTTP_11, "Upgrade", &["TLS/1.2"], false),
            ("GET", Version::HTTP_11, "Upgrade", &[], false),
            ("GET", Version::HTTP_11, "keep-alive", &["websocket"], false),
            ("GET", Version::HTTP_10, "Upgrade", &["websocket"], false),
            ("POST", Version::HTTP_11, "Upgrade", &["websocket"], false),
        ] {
            let mut request = Request::builder().method(method).version(version).header(CONNECTION, connection);
            for value in upgrade {
                request = request.header(UPGRADE, *value);
            }
            assert_eq!(is_offered_by(&request.body(())?), is_taken, "{method} {version:?} {connection} {upgrade:?}");
        }
        for (connection, upgrade, is_agreed) in [
            ("Upgrade", &["websocket"][..], true),
            ("keep-alive, upgrade", &["WebSocket"], true),
            ("Upgrade", &["h2c"], false),
            ("Upgrade", &["websocket, h2c"], false),
            ("Upgrade", &["websocket", "h2c"], false),
            ("Upgrade", &[], false),
            ("close", &["websocket"], false),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(CONNECTION, connection.parse()?);
            for value in upgrade {
                headers.append(UPGRADE, value.parse()?);
            }
            assert_eq!(is_agreed_to(&headers), is_agreed, "{connection} {upgrade:?}");
        }
        Ok(())
    }
}
