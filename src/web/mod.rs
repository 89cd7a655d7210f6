//! What the daemon serves: status and requests on a unix socket, and less on loopback.
//!
//! Whoever reaches the socket may change things; its mode and group say who that is. Over TCP there
//! is nothing that changes anything: status and metrics for who has the token, and a hook for a forge,
//! which is let in by its signature and does no more than to have the source asked for news.
//!
//! Each connection serves one request. Connections, headers, bodies and time are bounded, for each user by itself: who
//! asks without end waits for his own turn, and keeps nobody else from theirs.

mod guard;
mod rates;
mod refusal;
mod request;
mod routes;
mod server;
mod settings;
mod socket;

pub use refusal::{Refusal, RefusalKind};
pub use request::{Handle, Reply, Request, channel};
pub use server::{BindError, Server};
pub use settings::{Settings, SettingsError};
pub use socket::SocketError;
