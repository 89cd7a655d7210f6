//! What was sent and received, as it is kept.

use std::collections::BTreeMap;

use jiff::{Timestamp, civil::Date};
use serde::{Deserialize, Serialize};

/// What went to a destination.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Count {
    /// Connections, or requests where they are distinguished.
    pub requests: u64,
    /// Bytes towards the destination.
    pub sent: u64,
    /// Bytes from it.
    pub received: u64,
    /// How long they took, added up, in milliseconds.
    pub millis: u64,
    /// When it was last used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last: Option<Timestamp>,
}

impl Count {
    /// Adds another one.
    pub fn add(&mut self, other: &Self) {
        self.requests = self.requests.saturating_add(other.requests);
        self.sent = self.sent.saturating_add(other.sent);
        self.received = self.received.saturating_add(other.received);
        self.millis = self.millis.saturating_add(other.millis);
        self.last = self.last.max(other.last);
    }
}

/// Counts by day and destination.
pub type Days = BTreeMap<Date, BTreeMap<String, Count>>;
