//! Connections of clients, from the first byte to the protocol that they speak.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use rustls::ServerConfig;
use tokio::{
    net::{TcpListener, TcpStream},
    time::{sleep, timeout},
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

use super::http2;
use crate::{
    gateway::proxy::{gathered::Gathered, server, wire},
    places::Place,
    requests::Requests,
    shared::Shared,
};

/// How long to wait where a connection cannot be accepted.
const PAUSE: Duration = Duration::from_millis(100);

/// How long it waits at the start until something is known of tenants: whoever comes meanwhile is not turned away.
const FIRST_NEWS: Duration = Duration::from_secs(5);

/// Accepts connections for ever, as many at a time as there are places; others wait in the kernel.
pub async fn accept(ingress: Arc<Shared>, listener: TcpListener, tls: Option<Arc<ServerConfig>>) {
    let tls = tls.map(TlsAcceptor::from);
    ingress.daemon.heard(FIRST_NEWS).await;
    loop {
        let (stream, client) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                sleep(PAUSE).await;
                continue;
            }
        };
        let calls_back = || {
            ingress.counters.called_back.inc();
        };
        let Some(place) = ingress.places.enter(calls_back).await else { return };
        let (ingress, tls) = (Arc::clone(&ingress), tls.clone());
        ingress.counters.accepted.inc();
        ingress.counters.open.inc();
        tokio::spawn(async move {
            // A client that is gone needs no answer.
            let _ = stream.set_nodelay(true).and_then(|()| wire::bound(&stream));
            let served = async {
                match tls {
                    Some(tls) => serve_tls(&ingress, &tls, stream, client, &place).await,
                    None => serve_clear(&ingress, stream, client, &place).await,
                }
            };
            tokio::select! {
                () = served => {}
                () = place.called_back() => {}
            }
            ingress.counters.open.dec();
        });
    }
}

async fn serve_clear(ingress: &Arc<Shared>, stream: TcpStream, client: SocketAddr, place: &Arc<Place>) {
    let requests = Arc::new(Requests::<TcpStream>::new(Arc::clone(ingress), client, "http", Arc::clone(place)));
    let account = Arc::clone(&ingress.strangers);
    server::serve(stream, Gathered::default(), account, ingress.limits(), requests).await;
}

async fn serve_tls(
    ingress: &Arc<Shared>,
    tls: &TlsAcceptor,
    stream: TcpStream,
    client: SocketAddr,
    place: &Arc<Place>,
) {
    let limits = ingress.limits();
    let Ok(Ok(stream)) = timeout(limits.head_time, tls.accept(stream)).await else { return };
    let (shared, place) = (Arc::clone(ingress), Arc::clone(place));
    let requests = Arc::new(Requests::<TlsStream<TcpStream>>::new(shared, client, "https", place));
    if stream.get_ref().1.alpn_protocol() == Some(b"h2") {
        http2::serve(stream, &ingress.strangers, limits, requests).await;
    } else {
        let account = Arc::clone(&ingress.strangers);
        server::serve(stream, Gathered::default(), account, limits, requests).await;
    }
}
