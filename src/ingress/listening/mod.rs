//! The sockets that clients come to, and what a connection is before its first request is known.

mod accept;
mod http2;

pub mod sockets;
pub mod tls;

pub use accept::accept;
