//! What tenants and resolvers say, read byte by byte, before anything is done about it. Pure.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

pub mod client_hello;
pub mod dns;
pub mod http_head;
pub mod reply;

pub mod websocket;
