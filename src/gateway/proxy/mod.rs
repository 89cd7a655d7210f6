//! The proxy's core: it moves bytes between a client and a destination, whoever they are.
//!
//! It owns what every proxy must get right once: headers that go no further (`headers.rs`), validation of requests
//! (`request_validator.rs`), metering of bytes (`metered.rs`, `relay.rs`) and of what waits (`waiting.rs`, `gathered.rs`),
//! idle time (`activity.rs`), revocation (`revocation.rs`), connections that become another protocol (`upgrade.rs`) and
//! connections that are kept (`upstreams.rs`).
//!
//! Who a connection is for is an input: an [`Account`](crate::accounting::account::Account), whoever recognized the tenant and
//! by what, an address of its network, a host name or a token. What may go on is another: a future that ends when it may
//! not. So the core knows no network, no allowlist and no route.

pub mod answer;
pub mod server;
pub mod wire;

pub(crate) mod gathered;
pub(crate) mod headers;
pub(crate) mod limits;
pub(crate) mod metered;
pub(crate) mod relay;
pub(crate) mod request_validator;
pub(crate) mod revocation;
pub(crate) mod upgrade;
pub(crate) mod upstreams;
pub(crate) mod waiting;

mod activity;

#[cfg(test)]
mod tests;
