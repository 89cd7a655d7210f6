//! Which call goes where.

use std::collections::HashMap;

use hyper::body::Bytes;
use serde::{Serialize, Serializer};
use serde_json::{Value, json};
use tokio::sync::mpsc::UnboundedReceiver;

use crate::options::api_number;
use crate::state::{Outcome, Refusal, State, refuse};
use crate::{Call, containers, create, events, networks, system};

/// What the engine answers.
pub(crate) enum Answer {
    /// A status and JSON text.
    Json(u16, Vec<u8>),
    /// A status alone.
    Empty(u16),
    /// Something that is not JSON.
    Text { status: u16, kind: &'static str, body: Vec<u8> },
    /// Lines for as long as the connection lives.
    Stream(UnboundedReceiver<Bytes>),
    /// Nothing yet: the call waits on a container whose start hangs.
    Stuck,
}

pub(crate) fn json_answer(status: u16, value: &impl Serialize) -> Outcome {
    Ok(Answer::Json(status, serde_json::to_vec(value).expect("a document is JSON")))
}

/// A document with one of its fields changed as it is sent.
pub(crate) struct With<'a> {
    pub doc: &'a Value,
    pub key: &'static str,
    pub value: &'a Value,
}

impl Serialize for With<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let fields = self.doc.as_object().into_iter().flatten();
        serializer.collect_map(fields.map(|(key, value)| (key, if key == self.key { self.value } else { value })))
    }
}

/// A document that comes with the crate.
pub(crate) fn template(text: &str) -> Value {
    serde_json::from_str(text).expect("the template is JSON")
}

/// Answers one call; when it changed something, counts it.
pub(crate) fn route(state: &mut State, call: &Call, body: &[u8]) -> Answer {
    let outcome = check_version(state, call).and_then(|()| dispatch(state, call, body));
    state.mutations += u64::from(std::mem::take(&mut state.changed));
    outcome.unwrap_or_else(|Refusal(status, message)| error(status, &message))
}

pub(crate) fn error(status: u16, message: &str) -> Answer {
    let mut text = json!({"message": message}).to_string().into_bytes();
    text.push(b'\n');
    Answer::Json(status, text)
}

fn check_version(state: &State, call: &Call) -> Result<(), Refusal> {
    let Some(asked) = call.version.as_deref() else {
        return Ok(());
    };
    let (min, max) = (state.options.min_api_version(), state.options.api_version());
    if api_number(asked) < api_number(min) {
        return refuse(
            400,
            format!(
                "client version {asked} is too old. Minimum supported API version is {min}, please upgrade your client to a newer version"
            ),
        );
    }
    if api_number(asked) > api_number(max) {
        return refuse(400, format!("client version {asked} is too new. Maximum supported API version is {max}"));
    }
    Ok(())
}

fn dispatch(state: &mut State, call: &Call, body: &[u8]) -> Outcome {
    let path: Vec<&str> = call.path.split('/').skip(1).collect();
    match (call.method.as_str(), path.as_slice()) {
        ("GET" | "HEAD", ["_ping"]) => {
            Ok(Answer::Text { status: 200, kind: "text/plain; charset=utf-8", body: b"OK".to_vec() })
        }
        ("GET", ["version"]) => json_answer(200, &state.options.version),
        ("GET", ["info"]) => system::info(state),
        ("GET", ["events"]) => events::open(state, call),
        ("GET", ["images", "json"]) => system::images(state),
        ("GET", ["images", name @ .., "json"]) => system::image(state, &name.join("/")),
        ("POST", ["images", "create"]) if state.options.imports => system::import(state, call),
        ("DELETE", ["images", name @ ..]) => system::remove_image(state, &name.join("/")),
        ("GET", ["containers", "json"]) => containers::list(state, call),
        ("POST", ["containers", "create"]) => create::create(state, call, &parse(body)?),
        ("GET", ["networks"]) => networks::list(state, call),
        ("POST", ["networks", "create"]) => networks::create(state, &parse(body)?),
        ("GET", ["networks", id]) => networks::inspect(state, id),
        ("DELETE", ["networks", id]) => networks::remove(state, id),
        ("POST", ["networks", id, "connect"]) => networks::connect(state, id, &parse(body)?),
        ("POST", ["networks", id, "disconnect"]) => networks::disconnect(state, id, &parse(body)?),
        (method, ["containers", term, action @ ..]) => {
            let id = state.find_container(term)?;
            if state.is_held(&id) && !matches!(action, ["start" | "restart"]) {
                return Ok(Answer::Stuck);
            }
            match (method, action) {
                ("GET", ["json"]) => json_answer(200, &containers::shown(state, &id)),
                ("GET", ["logs"]) => containers::logs(state, call, &id),
                ("POST", ["wait"]) => containers::wait(state, &id),
                ("POST", ["start"]) => containers::start(state, &id),
                ("POST", ["stop"]) => containers::stop(state, &id),
                ("POST", ["restart"]) => containers::restart(state, &id),
                ("POST", ["kill"]) => containers::kill(state, call, term, &id),
                ("POST", ["pause"]) => containers::pause(state, &id),
                ("POST", ["unpause"]) => containers::unpause(state, &id),
                ("POST", ["update"]) => containers::update(state, &id, &parse(body)?),
                ("POST", ["rename"]) => containers::rename(state, call, &id),
                ("DELETE", []) => containers::remove(state, call, &id),
                _ => refuse(404, "page not found"),
            }
        }
        _ => refuse(404, "page not found"),
    }
}

fn parse(body: &[u8]) -> Result<Value, Refusal> {
    if body.is_empty() {
        return refuse(500, "EOF");
    }
    serde_json::from_slice(body).or_else(|error| refuse(500, error.to_string()))
}

/// The filters of a list, in either of the two forms that the API knows.
pub(crate) fn filters(call: &Call) -> Result<HashMap<String, Vec<String>>, Refusal> {
    let Some(text) = call.parameter("filters").filter(|text| !text.is_empty()) else {
        return Ok(HashMap::new());
    };
    let parsed: HashMap<String, Value> = serde_json::from_str(&text).or_else(|error| refuse(500, error.to_string()))?;
    let terms = |value: Value| match value {
        Value::Object(map) => map.into_iter().map(|(term, _)| term).collect(),
        Value::Array(list) => list.iter().filter_map(|term| term.as_str().map(str::to_owned)).collect(),
        _ => Vec::new(),
    };
    Ok(parsed.into_iter().map(|(key, value)| (key, terms(value))).collect())
}

/// Whether the labels have every one of `key` or `key=value`.
pub(crate) fn has_labels(labels: &Value, wanted: &[String]) -> bool {
    wanted.iter().all(|term| match term.split_once('=') {
        Some((key, value)) => labels.get(key).is_some_and(|found| found == value),
        None => labels.get(term.as_str()).is_some(),
    })
}

/// Whether a query parameter is set to something that the API takes for true.
pub(crate) fn is_set(call: &Call, name: &str) -> bool {
    call.parameter(name)
        .is_some_and(|value| !matches!(value.to_lowercase().as_str(), "" | "0" | "no" | "false" | "none"))
}
