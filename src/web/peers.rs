//! The kinds of peers that are served.

use axum::Router;
use serde_json::Value;

use super::{
    call::{Callers, PeerKind},
    openapi::document,
    operators::Operator,
    routes::{self, App},
    socket::{Socket, SocketError},
};
use crate::model::Host;

/// The sockets of all kinds of peers.
///
/// # Errors
/// One of them cannot be had.
pub(super) fn sockets(host: &Host) -> Result<Vec<PeerSocket>, SocketError> {
    Ok(vec![PeerSocket::listen::<Operator>(host, routes::on_operators_socket)?])
}

/// Each kind's calls as an OpenAPI document, by the name of its file under `schema/`.
pub fn schemas() -> Vec<(&'static str, Value)> {
    vec![("operators.json", document::<Operator>("The calls of operators"))]
}

/// The socket of a kind of peer.
#[derive(Debug)]
pub(super) struct PeerSocket {
    pub(super) socket: Socket,
    pub(super) callers: Callers,
    /// What is served on it.
    pub(super) router: fn(App, Callers) -> Router,
}

impl PeerSocket {
    fn listen<K: PeerKind>(host: &Host, router: fn(App, Callers) -> Router) -> Result<Self, SocketError> {
        let (path, callers) = K::socket(host);
        Ok(Self { socket: Socket::listen(path, callers.group())?, callers, router })
    }
}
