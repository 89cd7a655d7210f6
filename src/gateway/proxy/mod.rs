//! The proxy's core: it moves bytes between a client and a destination, whoever they are.
//!
//! It owns what every proxy must get right once: headers that go no further (`headers.rs`), validation of requests
//! (`request_validator.rs`), requests as destinations get them (`outbound.rs`), metering of bytes (`metered.rs`, `relay.rs`) and of what waits (`waiting.rs`, `gathered.rs`),
//! idle time (`activity.rs`), revocation (`revocation.rs`), connections that become another protocol (`upgrade.rs`) and
//! connections that are kept (`upstreams.rs`).
//!
//! Who a connection is for is an input: an [`Account`](crate::accounting::account::Account), whoever recognized the tenant and
//! by what, an address of its network, a host name or a token. What may go on is another: a future that ends when it may
//! not. So the core knows no network, no allowlist and no route.

pub mod activity;
pub mod answer;
pub mod gathered;
pub mod headers;
pub mod limits;
pub mod metered;
pub mod outbound;
pub mod relay;
pub mod revocation;
pub mod server;
pub mod upgrade;
pub mod upstreams;
pub mod waiting;
pub mod wire;

pub(crate) mod request_validator;

#[cfg(test)]
mod tests;
