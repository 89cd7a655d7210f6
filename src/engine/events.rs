//! What the engine reports by itself.

use std::sync::Arc;

use http_body_util::BodyExt;
use hyper::body::Incoming;
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::json;

use super::{CallError, Engine, query, remembered::Remembered};
use crate::model::{Pairs, TENANT_LABEL};

/// The longest event that is read, in bytes. One holds an object's labels.
const MAX_EVENT: usize = 1 << 20;

/// The kind of an event of the engine itself, such as that it read its configuration again.
const ENGINE: &str = "daemon";

/// Something that happened at the engine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EngineEvent {
    /// `container`, `network`, `image` or `daemon`.
    pub kind: String,
    /// What happened, such as `update` or `destroy`.
    pub action: String,
    /// The object's id; for an image also a reference.
    pub id: String,
    /// The object's name.
    pub name: String,
    /// The tenant that its label names. Events of networks carry no labels.
    pub tenant: Option<String>,
    /// The container that was put on a network or taken off it, by id.
    pub container: Option<String>,
    /// The code that a container ended with.
    pub exit_code: Option<i64>,
    /// When, by the engine's clock.
    pub time: Timestamp,
}

/// A stream of events. To let go of it ends it at the engine, too.
pub struct Events {
    body: Incoming,
    buffer: Vec<u8>,
    facts: Arc<Remembered>,
}

impl Engine {
    /// Listens to what happens to containers, networks, images and the engine itself from now on. While the result is held
    /// the engine is not asked again what it is like, until it reports another configuration or a minute has passed.
    ///
    /// # Errors
    /// The engine does not answer in time.
    pub async fn events(&self) -> Result<Events, CallError> {
        let filters = query(&json!({"type": ["container", "network", "image", "daemon"]}).to_string());
        let body = self.http.stream(&self.versioned(&format!("/events?filters={filters}")), self.call).await?;
        Ok(Events { body, buffer: Vec::new(), facts: self.remember_facts() })
    }
}

impl Events {
    /// The next event; `None` where the engine ended the stream. Safe to cancel.
    ///
    /// # Errors
    /// The stream breaks, or holds something else than events.
    pub async fn next(&mut self) -> Result<Option<EngineEvent>, CallError> {
        loop {
            if let Some(end) = self.buffer.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.buffer.drain(..=end).collect();
                if line.iter().all(u8::is_ascii_whitespace) {
                    continue;
                }
                let event = parse(&line).map_err(malformed)?;
                if event.kind == ENGINE {
                    self.facts.forget();
                }
                return Ok(Some(event));
            }
            if self.buffer.len() > MAX_EVENT {
                return Err(malformed(format!("an event is longer than {MAX_EVENT} bytes")));
            }
            match self.body.frame().await {
                None => return Ok(None),
                Some(Err(error)) => {
                    return Err(CallError::Broken { call: "GET /events".to_owned(), source: error.into() });
                }
                Some(Ok(frame)) => self.buffer.extend(frame.into_data().into_iter().flatten()),
            }
        }
    }
}

fn malformed(detail: String) -> CallError {
    CallError::Malformed { call: "GET /events".to_owned(), detail }
}

fn parse(line: &[u8]) -> Result<EngineEvent, String> {
    #[derive(Deserialize)]
    struct Wire {
        #[serde(rename = "Type", default)]
        kind: String,
        #[serde(rename = "Action", default)]
        action: String,
        #[serde(rename = "Actor")]
        actor: Actor,
        #[serde(rename = "timeNano", default)]
        time: i64,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Actor {
        #[serde(rename = "ID", default)]
        id: String,
        #[serde(default)]
        attributes: Pairs,
    }
    let Wire { kind, action, actor: Actor { id, attributes }, time } =
        serde_json::from_slice(line).map_err(|e| e.to_string())?;
    let attribute = |name: &str| attributes.get(name).cloned();
    Ok(EngineEvent {
        name: attribute("name").unwrap_or_default(),
        tenant: attribute(TENANT_LABEL),
        container: attribute("container").filter(|_| kind == "network"),
        exit_code: attribute("exitCode").and_then(|code| code.parse().ok()),
        time: Timestamp::from_nanosecond(i128::from(time)).unwrap_or_default(),
        kind,
        action,
        id,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_of_a_network_names_the_container() -> Result<(), String> {
        let line = br#"{"Type":"network","Action":"connect","Actor":{"ID":"n1","Attributes":{"container":"c1","name":"office","type":"bridge"}},"scope":"local","time":1700000000,"timeNano":1700000000123456789}"#;
        let event = parse(line)?;
        assert_eq!((event.kind.as_str(), event.action.as_str()), ("network", "connect"));
        assert_eq!((event.name.as_str(), event.container.as_deref()), ("office", Some("c1")));
        assert_eq!(event.time.to_string(), "2023-11-14T22:13:20.123456789Z");
        assert_eq!(event.tenant, None);
        Ok(())
    }

    #[test]
    fn what_is_unknown_is_kept_as_text_and_what_is_no_event_is_an_error() {
        let event = parse(br#"{"Type":"plugin","Action":"new-thing","Actor":{"ID":"p"},"extra":1}"#);
        assert_eq!(event.map(|e| e.kind), Ok("plugin".to_owned()));
        assert!(parse(b"[]").is_err());
        assert!(parse(b"{\"Actor\":1}").is_err());
    }
}
