//! The stretch of time that a report is about.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::Serialize;

/// A stretch of time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Period {
    /// Its begin.
    pub from: Timestamp,
    /// Its end.
    pub to: Timestamp,
}

impl Period {
    /// Whether a time lies in it.
    pub fn contains(&self, time: Timestamp) -> bool {
        (self.from..=self.to).contains(&time)
    }
}
