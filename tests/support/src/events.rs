//! The event stream: the last 256 events, and whoever listens.

use std::collections::VecDeque;

use hyper::body::Bytes;
use serde_json::{Value, json};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use crate::Call;
use crate::routes::Answer;
use crate::state::{Outcome, State, refuse};

/// As many as the real engine replays.
const KEPT: usize = 256;

/// The kinds of objects that a listener asked for; none means all.
type Kinds = Vec<String>;

#[derive(Default)]
pub(crate) struct Events {
    past: VecDeque<(u64, &'static str, Bytes)>,
    listeners: Vec<(Kinds, UnboundedSender<Bytes>)>,
    /// Whether what happens is told to nobody.
    silent: bool,
}

impl Events {
    fn emit(&mut self, at: u64, kind: &'static str, event: &Value) {
        if self.silent {
            return;
        }
        let line = Bytes::from(format!("{event}\n"));
        self.listeners.retain(|(kinds, listener)| {
            !wanted(kinds, kind) && !listener.is_closed() || listener.send(line.clone()).is_ok()
        });
        if self.past.len() == KEPT {
            self.past.pop_front();
        }
        self.past.push_back((at, kind, line));
    }

    /// Closes all streams.
    pub fn hang_up(&mut self) {
        self.listeners.clear();
    }

    fn listen(&mut self, kinds: Kinds, since: Option<u64>, keep: bool) -> UnboundedReceiver<Bytes> {
        let (sender, receiver) = unbounded_channel();
        let from = since.unwrap_or(u64::MAX);
        for (_, _, line) in self.past.iter().filter(|(at, kind, _)| *at >= from && wanted(&kinds, kind)) {
            sender.send(line.clone()).expect("the receiver is held here");
        }
        if keep {
            self.listeners.push((kinds, sender));
        }
        receiver
    }
}

fn wanted(kinds: &Kinds, kind: &str) -> bool {
    kinds.is_empty() || kinds.iter().any(|wanted| wanted == kind)
}

/// `GET /events`. With `until` the stream ends after what is past.
pub(crate) fn open(state: &mut State, call: &Call) -> Outcome {
    let filters = crate::routes::filters(call)?;
    let kinds = filters.get("type").cloned().unwrap_or_default();
    let since = match call.parameter("since") {
        None => None,
        Some(text) => match nanoseconds(&text) {
            Some(since) => Some(since),
            None => {
                return refuse(400, format!("failed to parse value as time or duration: {text:?}"));
            }
        },
    };
    let keep = call.parameter("until").is_none();
    Ok(Answer::Stream(state.events.listen(kinds, since, keep)))
}

/// Seconds with up to nine decimals.
fn nanoseconds(text: &str) -> Option<u64> {
    let (seconds, fraction) = text.split_once('.').unwrap_or((text, ""));
    let fraction: u64 = format!("{fraction:0<9}").get(..9)?.parse().ok()?;
    seconds.parse::<u64>().ok()?.checked_mul(1_000_000_000)?.checked_add(fraction)
}

impl State {
    /// Has the event streams stay open and tell nothing of what happens, or tell it again.
    pub fn silence_events(&mut self, silent: bool) {
        self.events.silent = silent;
    }

    /// Tells that the engine read its configuration again.
    pub fn reload_event(&mut self) {
        let (id, attributes) = (self.options.id.clone(), json!({"name": "engine", "debug": "false"}));
        self.finish_event(&mut json!({}), "daemon", "reload", &id, attributes);
    }

    pub(crate) fn image_event(&mut self, id: &str, action: &str, reference: &str) {
        let mut event = json!({"status": action, "id": reference});
        let attributes = json!({"name": reference});
        self.finish_event(&mut event, "image", action, id, attributes);
    }

    pub(crate) fn container_event(&mut self, id: &str, action: &str, extra: &[(&str, &str)]) {
        let doc = &self.containers[id].doc;
        let image = &doc["Config"]["Image"];
        let mut attributes = doc["Config"]["Labels"].as_object().cloned().unwrap_or_default();
        attributes.insert("image".into(), image.clone());
        attributes.insert("name".into(), doc["Name"].as_str().unwrap_or_default().trim_start_matches('/').into());
        attributes.extend(extra.iter().map(|(key, value)| ((*key).to_owned(), Value::from(*value))));
        let mut event = json!({"status": action, "id": id, "from": image});
        self.finish_event(&mut event, "container", action, id, attributes.into());
    }

    pub(crate) fn network_event(&mut self, id: &str, action: &str, container: Option<&str>) {
        let doc = &self.networks[id].doc;
        let mut attributes = json!({"name": doc["Name"], "type": doc["Driver"]});
        if let Some(container) = container {
            attributes["container"] = container.into();
        }
        self.finish_event(&mut json!({}), "network", action, id, attributes);
    }

    fn finish_event(&mut self, event: &mut Value, kind: &'static str, action: &str, id: &str, attributes: Value) {
        let at = self.tick();
        event["Type"] = kind.into();
        event["Action"] = action.into();
        event["Actor"] = json!({"ID": id, "Attributes": attributes});
        event["scope"] = "local".into();
        event["time"] = (at / 1_000_000_000).into();
        event["timeNano"] = at.into();
        self.events.emit(at, kind, event);
    }
}
