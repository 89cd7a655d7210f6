//! A request as its destination gets it.

use std::sync::Arc;

use hyper::{
    Request, Uri,
    body::{Body, Incoming},
    header::{self, HeaderValue},
};

use super::{headers, metered::Metered};
use crate::accounting::usage::Use;

/// A client's request as a destination gets it: what is between two neighbours is removed, and the body counted.
/// `target` is its path with the query, `host` is what it names, and `is_websocket` says whether it offers one.
///
/// `None` where `target` or `host` cannot stand in a request.
pub fn outbound(
    request: Request<Incoming>,
    target: &str,
    host: &str,
    is_websocket: bool,
    counts: &Arc<Use>,
) -> Option<Request<Metered<Incoming>>> {
    let (parts, body) = request.into_parts();
    let uri: Uri = target.parse().ok()?;
    let mut headers = parts.headers;
    let trailers = headers.get(header::TE).is_some_and(|te| te.as_bytes().eq_ignore_ascii_case(b"trailers"));
    headers::strip(&mut headers);
    // hyper has told the client to go on by the time that the body is read.
    headers.remove(header::EXPECT);
    headers.insert(header::HOST, HeaderValue::from_str(host).ok()?);
    if trailers {
        headers.insert(header::TE, HeaderValue::from_static("trailers"));
    }
    if is_websocket {
        headers::upgrade(&mut headers);
    }
    // hyper leaves a body of unknown length out of a request of a method that commonly has none, such as GET.
    if !body.is_end_stream() && body.size_hint().exact().is_none() {
        headers.insert(header::TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
    }
    let mut request = Request::new(Metered::sent(body, Arc::clone(counts)));
    *request.method_mut() = parts.method;
    *request.uri_mut() = uri;
    *request.headers_mut() = headers;
    Some(request)
}
