//! What an answer says that it cost, read as it passes.

use std::sync::Arc;

use hyper::{HeaderMap, header::CONTENT_TYPE};
use serde_json::Value;

use crate::{
    accounting::{
        account::Account,
        ledger::{MAX_COST, Reservation},
    },
    proxy::gathered::Gathered,
};

/// The longest answer, or event of one, that is searched, in bytes. One that is longer costs what was
/// reserved, or what an earlier event said.
const MAX_SEARCHED: usize = 1 << 20;

/// Settles what a request costs when its answer has passed.
pub(super) struct Meter {
    account: Arc<Account>,
    reservation: Reservation,
    search: Option<(String, Search)>,
    cost: Option<u64>,
}

enum Search {
    /// One JSON text.
    Whole(Searched),
    /// Server-sent events: what the data of the one in hand is, and its line in hand.
    Events { data: Searched, line: Searched, after_return: bool },
}

/// Bytes up to a length; longer ones are no longer searched.
#[derive(Default)]
struct Searched {
    gathered: Gathered,
    is_too_long: bool,
}

impl Searched {
    /// Adds bytes. False where there is no memory for them.
    fn add(&mut self, account: &Account, bytes: &[u8]) -> bool {
        self.is_too_long |= self.bytes().len().saturating_add(bytes.len()) > MAX_SEARCHED;
        let is_kept = self.is_too_long || self.gathered.add(account, bytes);
        if self.is_too_long || !is_kept {
            *self = Self { gathered: Gathered::default(), is_too_long: true };
        }
        is_kept
    }

    fn bytes(&self) -> &[u8] {
        self.gathered.as_ref()
    }

    fn cost(&self, pointer: &str) -> Option<u64> {
        // The last part of the pointer is a key: text without it need not be read.
        let key = pointer.rsplit('/').next()?.as_bytes();
        let is_simple = !key.is_empty() && key.iter().all(u8::is_ascii_alphanumeric);
        if is_simple && !self.bytes().windows(key.len()).any(|window| window == key) {
            return None;
        }
        let value: Value = serde_json::from_slice(self.bytes()).ok()?;
        credits(value.pointer(pointer)?)
    }
}

/// A number of credits; fractions count as whole ones.
fn credits(value: &Value) -> Option<u64> {
    if let Some(whole) = value.as_u64() {
        return Some(whole.min(MAX_COST));
    }
    let number = match value {
        Value::Number(number) => number.as_f64()?,
        Value::String(text) => text.parse().ok()?,
        _ => return None,
    };
    // Within these bounds the conversion is exact.
    (0.0..=MAX_COST as f64).contains(&number).then(|| number.ceil() as u64)
}

/// Whether an answer comes as a stream of events.
pub(super) fn is_stream(headers: &HeaderMap) -> bool {
    has_type(headers, "text/event-stream")
}

fn has_type(headers: &HeaderMap, wanted: &str) -> bool {
    let value = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    value.split(';').next().is_some_and(|kind| kind.trim().eq_ignore_ascii_case(wanted))
}

impl Meter {
    /// Reads the cost of an answer with these headers.
    pub(super) fn new(
        account: &Arc<Account>,
        reservation: Reservation,
        pointer: Option<&str>,
        headers: &HeaderMap,
    ) -> Self {
        let search = pointer.map(|pointer| {
            let search = if is_stream(headers) {
                Search::Events { data: Searched::default(), line: Searched::default(), after_return: false }
            } else {
                Search::Whole(Searched::default())
            };
            (pointer.to_owned(), search)
        });
        Self { account: Arc::clone(account), reservation, search, cost: None }
    }

    /// Reads a piece. It says why the answer must not go on, if that is so: the budget is overdrawn by what
    /// the piece says, or there is no memory left to read what the answer costs.
    pub(super) fn observe(&mut self, data: &[u8]) -> Option<&'static str> {
        let (before, account) = (self.cost, &*self.account);
        let mut is_kept = true;
        match &mut self.search {
            Some((_, Search::Whole(searched))) => is_kept = searched.add(account, data),
            Some((pointer, Search::Events { data: event, line, after_return })) => {
                for piece in data.split_inclusive(|byte| matches!(byte, b'\r' | b'\n')) {
                    let (text, end) = match piece.split_last() {
                        Some((end @ (b'\r' | b'\n'), text)) => (text, Some(*end)),
                        _ => (piece, None),
                    };
                    let is_second_half = text.is_empty() && end == Some(b'\n') && *after_return;
                    *after_return = end == Some(b'\r');
                    if is_second_half {
                        continue;
                    }
                    is_kept &= line.add(account, text);
                    if end.is_some() {
                        let (cost, is_event_kept) = line_of(account, event, line, pointer);
                        self.cost = cost.or(self.cost);
                        is_kept &= is_event_kept;
                    }
                }
            }
            None => {}
        }
        match self.cost {
            Some(cost) if self.cost != before && self.reservation.observe(cost) => Some("the budget is used up"),
            _ => (!is_kept).then_some("the tenant's memory is used up"),
        }
    }

    /// The answer has passed to its end.
    pub(super) fn settle(mut self) {
        self.cost = match &mut self.search {
            Some((pointer, Search::Whole(searched))) => searched.cost(pointer),
            // A stream may end without an empty line.
            Some((pointer, Search::Events { data, line, .. })) => {
                let (last, _) = line_of(&self.account, data, line, pointer);
                data.cost(pointer).or(last).or(self.cost)
            }
            None => None,
        };
        if let Some(cost) = self.cost {
            self.reservation.settle(cost);
        }
    }
}

/// Takes a line of events; one that is empty ends an event, whose cost is returned. It says whether there
/// was memory for it.
fn line_of(account: &Account, event: &mut Searched, line: &mut Searched, pointer: &str) -> (Option<u64>, bool) {
    let line = std::mem::take(line);
    if line.bytes().is_empty() && !line.is_too_long {
        return (std::mem::take(event).cost(pointer), true);
    }
    if line.is_too_long {
        event.is_too_long = true;
    }
    let Some(data) = line.bytes().strip_prefix(b"data:") else { return (None, true) };
    let is_kept = event.add(account, data.strip_prefix(b" ").unwrap_or(data)) && event.add(account, b"\n");
    (None, is_kept)
}
