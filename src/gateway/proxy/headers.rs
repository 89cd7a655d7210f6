//! Headers that are between two neighbours, and go no further. Pure.

use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};

use crate::protocols::websocket::HTTP2_SETTINGS;

/// RFC 9110, section 7.6.1, and those of proxies before it.
const HOP_BY_HOP: [HeaderName; 9] = [
    header::CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    header::TE,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    HTTP2_SETTINGS,
];

/// What frames or addresses a message: its sender cannot have that taken away by naming it in `Connection`.
const ESSENTIAL: [HeaderName; 2] = [header::HOST, header::CONTENT_LENGTH];

/// Whether a header is between two neighbours by its name.
pub fn is_hop_by_hop(name: &HeaderName) -> bool {
    HOP_BY_HOP.contains(name)
}

/// Removes what is between two neighbours: by its name, or because `Connection` says so.
pub fn strip(headers: &mut HeaderMap) {
    let listed = headers.get_all(header::CONNECTION).into_iter();
    let listed = listed.flat_map(|value| value.as_bytes().split(|b| *b == b','));
    let listed = listed.filter_map(|name| HeaderName::from_bytes(name.trim_ascii()).ok());
    let listed: Vec<HeaderName> = listed.filter(|name| !ESSENTIAL.contains(name)).collect();
    for name in listed.iter().chain(&HOP_BY_HOP) {
        headers.remove(name);
    }
}

/// Says that the connection ends behind this message.
pub fn close(headers: &mut HeaderMap) {
    headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
}

/// Offers a WebSocket, or agrees to one.
pub fn upgrade(headers: &mut HeaderMap) {
    headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_between_neighbours_goes_and_what_frames_a_message_stays() -> Result<(), Box<dyn std::error::Error>> {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("connection", &b"x-mine, close,host"[..]),
            ("connection", b"content-length, X-Other,\xff"),
            ("x-mine", b"1"),
            ("x-other", b"1"),
            ("keep-alive", b"timeout=5"),
            ("transfer-encoding", b"chunked"),
            ("http2-settings", b"AAMAAABk"),
            ("host", b"a.example"),
            ("content-length", b"5"),
            ("x-stays", b"1"),
        ] {
            headers.append(HeaderName::from_static(name), HeaderValue::from_bytes(value)?);
        }
        strip(&mut headers);
        let mut left: Vec<&str> = headers.keys().map(HeaderName::as_str).collect();
        left.sort_unstable();
        assert_eq!(left, ["content-length", "host", "x-stays"]);
        Ok(())
    }
}
