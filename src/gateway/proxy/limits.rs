//! What bounds a connection.

use std::time::Duration;

/// What bounds a connection, and what goes over it.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// The longest head of a message, in bytes.
    pub head: usize,
    /// How long a request's head may take.
    pub head_time: Duration,
    /// How long nothing may go.
    pub idle: Duration,
    /// How long a side may take nothing of what waits for it.
    pub stall: Duration,
    /// How many bytes the tenant may have in a second, if that is bounded.
    pub bandwidth: Option<u64>,
}
