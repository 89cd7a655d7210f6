//! Whether a request asks for a stream.

use std::{fmt, time::Duration};

use http_body_util::BodyExt;
use hyper::{
    HeaderMap,
    body::{Body, Bytes, Incoming},
    header::ACCEPT,
};
use serde::{
    Deserialize, Deserializer,
    de::{IgnoredAny, MapAccess, Visitor},
};
use serde_json::Value;
use tokio::time::timeout;

use crate::{accounting::account::Account, policy::Rule, proxy::gathered::Gathered};

/// How much of a body is read before it is sent on, in bytes, and how long that may take. Of a longer
/// one only the answer shows.
const MAX_READ: usize = 1 << 20;
const READ: Duration = Duration::from_secs(30);

/// Whether the headers ask for events.
pub(super) fn in_headers(headers: &HeaderMap) -> bool {
    let values = headers.get_all(ACCEPT).into_iter().filter_map(|value| value.to_str().ok());
    values
        .flat_map(|value| value.split(','))
        .any(|kind| kind.split(';').next().is_some_and(|kind| kind.trim().eq_ignore_ascii_case("text/event-stream")))
}

/// Reads the beginning of a body, and says whether it is JSON that asks for a stream.
///
/// # Errors
/// It breaks off or takes too long, or more of the tenant's bytes wait than are its own or nobody's.
pub(super) async fn in_body(account: &Account, body: &mut Incoming) -> Result<(Bytes, bool), Rule> {
    let read = timeout(READ, beginning(account, body)).await.map_err(|_| Rule::IncompleteBody)??;
    let asks = serde_json::from_slice::<Wanted>(read.as_ref()).is_ok_and(|wanted| wanted.0);
    // What was reserved for it is free when the last of it was sent.
    Ok((Bytes::from_owner(read), asks))
}

async fn beginning(account: &Account, body: &mut Incoming) -> Result<Gathered, Rule> {
    let mut read = Gathered::default();
    while read.as_ref().len() < MAX_READ && !body.is_end_stream() {
        let Some(frame) = body.frame().await else { break };
        if let Ok(data) = frame.map_err(|_| Rule::IncompleteBody)?.into_data()
            && !read.add(account, &data)
        {
            return Err(Rule::OverLimit);
        }
    }
    Ok(read)
}

/// Whether any `stream` of an object is set: which of several counts is for the upstream to say.
struct Wanted(bool);

impl<'de> Deserialize<'de> for Wanted {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Keys)
    }
}

struct Keys;

impl<'de> Visitor<'de> for Keys {
    type Value = Wanted;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Wanted, M::Error> {
        let mut wanted = false;
        while let Some(key) = map.next_key::<String>()? {
            if key.eq_ignore_ascii_case("stream") {
                wanted |= !matches!(map.next_value::<Value>()?, Value::Null | Value::Bool(false));
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(Wanted(wanted))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_stream_that_is_set_counts() {
        for (text, expected) in [
            (r#"{"stream":true}"#, true),
            (r#"{"stream":false}"#, false),
            (r#"{"stream":null}"#, false),
            (r#"{"stream":true,"stream":false}"#, true),
            (r#"{"a":{"stream":true}}"#, false),
            (r#"{"str\u0065am": 1}"#, true),
            (r#"{"Stream":"yes"}"#, true),
            ("{}", false),
        ] {
            assert_eq!(serde_json::from_str::<Wanted>(text).map(|wanted| wanted.0).ok(), Some(expected), "{text}");
        }
        assert!(serde_json::from_str::<Wanted>("[1]").is_err());
    }
}
