//! Routes with credentials: `http://gateway.internal/NAME/…` and `http://NAME.gateway.internal/…`.

use http_body_util::combinators::UnsyncBoxBody;
use hyper::body::Bytes;

/// The body of an answer.
pub type Body = UnsyncBoxBody<Bytes, std::io::Error>;
