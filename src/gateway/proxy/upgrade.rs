//! Connections that become another protocol: a WebSocket, which both sides agreed to.

use std::{io, sync::Arc, time::Duration};

use http_body_util::{BodyExt, Empty};
use hyper::{
    HeaderMap, Request, Response, StatusCode,
    body::{Bytes, Incoming},
    upgrade::{OnUpgrade, Upgraded},
};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadHalf, WriteHalf, split},
    time::timeout,
};

use super::{
    activity::Activity,
    answer::Body,
    headers,
    relay::{End, Session},
    request_validator::RequestValidator,
    revocation::Revoked,
    wire::Wire,
};
use crate::{accounting::usage::Use, protocols::websocket};

/// How long both sides may take to become what they agreed on.
const AGREED: Duration = Duration::from_secs(10);

/// How much is read at once, in bytes.
const BUFFER: usize = 16 << 10;

/// The client's side of what a request becomes, if it offers a WebSocket.
pub fn offered(request: &mut Request<Incoming>) -> Option<OnUpgrade> {
    websocket::is_offered_by(request).then(|| hyper::upgrade::on(request))
}

/// The destination's side of what a request becomes, if the answer agrees to that.
pub fn agreed(answer: &mut Response<Incoming>) -> Option<OnUpgrade> {
    websocket::is_agreed_to(answer.headers()).then(|| hyper::upgrade::on(answer))
}

/// The answer that agrees to a WebSocket with the client. `headers` are those of the destination's answer, without
/// what is hop by hop.
pub fn switching(mut headers: HeaderMap) -> Response<Body> {
    headers::upgrade(&mut headers);
    let mut response = Response::new(Empty::new().map_err(|never| match never {}).boxed_unsync());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    *response.headers_mut() = headers;
    response
}

async fn both(client: OnUpgrade, destination: OnUpgrade) -> Option<(Upgraded, Upgraded)> {
    let both = async { tokio::try_join!(client, destination) };
    timeout(AGREED, both).await.ok()?.ok()
}

/// Relays bytes as they are between both sides of a WebSocket, the client's over a stream of this kind and the
/// destination's over a wire.
pub async fn relay<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
    client: OnUpgrade,
    destination: OnUpgrade,
    session: Session,
    revoked: Revoked,
) -> End {
    let Some((client, destination)) = both(client, destination).await else { return End::Broken };
    let (Ok(near), Ok(far)) =
        (client.downcast::<TokioIo<RequestValidator<S>>>(), destination.downcast::<TokioIo<Wire>>())
    else {
        return End::Broken;
    };
    let (stream, held) = near.io.into_inner().into_parts();
    let Some(mut far_stream) = far.io.into_inner().into_inner() else { return End::Broken };
    let begun = [near.read_buf.as_ref(), &held].concat();
    let (from_client, to_client) = split(stream);
    let from_client = async { Ok((from_client, begun)) };
    session.relay(from_client, to_client, &mut far_stream, far.read_buf.to_vec(), revoked).await
}

/// Relays between both sides of a WebSocket, over streams of any kind. What the client sends passes as it is; of what
/// comes back, `filter` says what goes on.
pub async fn relay_filtered(
    client: OnUpgrade,
    destination: OnUpgrade,
    counts: Arc<Use>,
    idle: Duration,
    filter: impl FnMut(Bytes) -> io::Result<Vec<u8>>,
    revoked: Revoked,
) -> End {
    let Some((client, destination)) = both(client, destination).await else { return End::Broken };
    let (from_client, to_client) = split(TokioIo::new(client));
    let (from_destination, to_destination) = split(TokioIo::new(destination));
    let activity = Activity::default();
    let out = pass(from_client, to_destination, &activity, |bytes: Bytes| {
        counts.sent(bytes.len() as u64);
        Ok(bytes)
    });
    let mut filter = filter;
    let back = pass(from_destination, to_client, &activity, |bytes: Bytes| {
        counts.received(bytes.len() as u64);
        filter(bytes)
    });
    tokio::select! {
        // What goes wrong ends both.
        passed = async { tokio::try_join!(out, back) } => if passed.is_ok() { End::Closed } else { End::Broken },
        () = activity.idle(idle) => End::Idle,
        () = revoked => End::Revoked,
    }
}

/// One direction. A side that has said all hears on.
async fn pass<B: AsRef<[u8]>>(
    mut from: ReadHalf<TokioIo<Upgraded>>,
    mut to: WriteHalf<TokioIo<Upgraded>>,
    activity: &Activity,
    mut filter: impl FnMut(Bytes) -> io::Result<B>,
) -> io::Result<()> {
    loop {
        let mut buffer = Vec::with_capacity(BUFFER);
        if from.read_buf(&mut buffer).await? == 0 {
            return to.shutdown().await;
        }
        activity.note();
        to.write_all(filter(Bytes::from(buffer))?.as_ref()).await?;
        to.flush().await?;
    }
}
