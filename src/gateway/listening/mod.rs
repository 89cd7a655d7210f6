//! What tenants come to: the sockets inside, whose a connection is, and what it begins with.

pub mod shared;

pub(crate) mod listeners;
pub mod namespace_worker;
pub(crate) mod tenants;

mod http;
mod name_server;
mod serve;
mod tunnel;
