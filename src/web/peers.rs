//! The kinds of peers that are served.

use axum::Router;
use serde_json::Value;

use super::{
    call::PeerKind,
    ingress::IngressPeer,
    openapi::document,
    operators::Operator,
    routes::{self, App},
    socket::{Admitted, Socket, SocketError},
};
use crate::model::Host;

/// The sockets of all kinds of peers.
///
/// # Errors
/// One of them cannot be had.
pub(super) fn sockets(host: &Host) -> Result<Vec<PeerSocket>, SocketError> {
    let operators = PeerSocket::listen::<Operator>(host, routes::on_operators_socket)?;
    let ingress = PeerSocket::listen::<IngressPeer>(host, routes::on_ingress_socket)?;
    Ok(operators.into_iter().chain(ingress).collect())
}

/// Each kind's calls as an OpenAPI document, by the name of its file under `schema/`.
pub fn schemas() -> Vec<(&'static str, Value)> {
    vec![
        ("ingress.json", document::<IngressPeer>("The calls of ingress")),
        ("operators.json", document::<Operator>("The calls of operators")),
    ]
}

/// The socket of a kind of peer.
#[derive(Debug)]
pub(super) struct PeerSocket {
    pub(super) socket: Socket,
    pub(super) admitted: Admitted,
    /// What is served on it.
    pub(super) router: fn(App, Admitted) -> Router,
}

impl PeerSocket {
    fn listen<K: PeerKind>(host: &Host, router: fn(App, Admitted) -> Router) -> Result<Option<Self>, SocketError> {
        let Some((path, callers)) = K::socket(host) else { return Ok(None) };
        let admitted = Admitted::of(&callers)?;
        Ok(Some(Self { socket: Socket::listen(path, admitted)?, admitted, router }))
    }
}
