//! What the daemon serves: calls on unix sockets, and less on loopback.
//!
//! Each kind of peer has a socket and a list of calls of its own, such as [`operators`] and [`ingress`]: types of requests and answers, which
//! server and [`Client`] share. Over TCP there is nothing that changes anything: status and metrics for who has the token, and a
//! hook for a forge, which is let in by its signature and does no more than to have the source asked for news.
//!
//! Each connection serves one request. Connections, headers, bodies and time are bounded, for each user by itself: who
//! asks without end waits for his own turn, and keeps nobody else from theirs.

mod authentication;
mod call;
mod client;
pub mod ingress;
mod openapi;
pub mod operators;
mod peers;
mod rates;
mod refusal;
mod request;
mod routes;
mod server;
mod settings;
mod socket;

pub use call::{Asked, Call, Callers, Calls, Effect, PeerKind, Reply, Visitor};
pub use client::{Client, ClientError};
pub use peers::schemas;
pub use refusal::{Refusal, RefusalKind};
pub use request::{Handle, Request, channel};
pub use server::{BindError, Server};
pub use settings::{Settings, SettingsError};
pub use socket::SocketError;
