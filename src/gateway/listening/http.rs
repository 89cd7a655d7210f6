//! HTTP/1 in the clear: each request of a connection is decided by itself.

use std::{
    convert::Infallible,
    io,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError, atomic::Ordering},
    task::{Context, Poll},
    time::Duration,
};

use http_body_util::BodyExt;
use hyper::{
    Request, Response, StatusCode, Uri, Version,
    body::{Bytes, Frame, Incoming, SizeHint},
    client::conn::http1::{self as upstream, SendRequest},
    header::{self, HeaderMap, HeaderName, HeaderValue},
    server::conn::http1 as downstream,
    service::service_fn,
    upgrade::OnUpgrade,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{net::TcpStream, task::JoinHandle, time::sleep};

use super::shared::Shared;
use crate::{
    accounting::usage::Use,
    client::Client,
    policy::{
        Refusal, Rule,
        authority::{Authority, shown},
        decide::decide,
        refusal::unanswered,
    },
    protocols::{dns::is_gateway, websocket},
    proxy::{
        answer::{self, Body},
        gathered::Gathered,
        relay::{Begun, End, Session},
        request_validator::{RequestValidator, Watched},
        waiting::Waiting,
        wire::{Seen, Wire},
    },
    routes::{Answer, Relay},
};

/// Headers that are between two neighbours: RFC 9110, section 7.6.1, and those of proxies before it.
const HOP_BY_HOP: [HeaderName; 9] = [
    header::CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    header::TE,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    websocket::HTTP2_SETTINGS,
];

/// The smallest buffer that hyper takes, in bytes.
const SMALLEST_BUFFER: usize = 8 << 10;

/// A connection that speaks HTTP/1.
struct Connection {
    gateway: Arc<Shared>,
    client: Arc<Client>,
    /// The port that it came to.
    port: u16,
    watched: Arc<Watched>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Where the last request went.
    to: Option<Authority>,
    /// The connection there, once it may be used again.
    far: Option<Far>,
    /// What is to be done when the client's side speaks HTTP no longer.
    switch: Option<Switch>,
}

/// A connection to a destination.
struct Far {
    to: Authority,
    /// The entry that lets it through.
    rule: String,
    sender: SendRequest<Metered>,
    seen: Seen,
    _driver: Driver,
}

/// The task that moves a destination's bytes. It ends with this.
struct Driver(JoinHandle<()>);

impl Drop for Driver {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// How a connection goes on in another protocol.
enum Switch {
    /// With a destination.
    Direct(Sides),
    /// Through a route.
    Route(Relay),
}

/// Both sides of a connection to a destination.
struct Sides {
    near: OnUpgrade,
    upgraded: OnUpgrade,
    far: Far,
}

/// Serves a connection of which `begun` was read already, until it ends.
pub(crate) async fn serve(gateway: Arc<Shared>, client: Arc<Client>, stream: TcpStream, begun: Gathered, port: u16) {
    let limits = gateway.settings().limits;
    let watched = Arc::new(Watched::default());
    let max_head = usize::try_from(limits.head.get()).unwrap_or(usize::MAX);
    let bandwidth = limits.bandwidth.map(|bytes| bytes.get());
    let waiting = Waiting::new(Arc::clone(&client), limits.stall.get());
    let guard =
        RequestValidator::new(stream, begun, waiting, Arc::clone(&client), bandwidth, max_head, Arc::clone(&watched));
    let state = Mutex::default();
    let connection = Arc::new(Connection { gateway, client, port, watched, state });
    let service = {
        let connection = Arc::clone(&connection);
        service_fn(move |request| {
            // Asked before anything else of the connection is read.
            let (refused, is_upgrade) = (connection.watched.refused(), connection.watched.is_upgrade_asked());
            let connection = Arc::clone(&connection);
            async move {
                let mut response = connection.answer(request, refused).await;
                if is_upgrade {
                    let agreed = response.status() == StatusCode::SWITCHING_PROTOCOLS;
                    connection.watched.answered(agreed);
                    if !agreed {
                        response.headers_mut().insert(header::CONNECTION, CLOSE);
                    }
                }
                Ok::<_, Infallible>(response)
            }
        })
    };
    let mut builder = downstream::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(limits.hello.get())
        // Who has sent its request and ends its sending side waits for the answer.
        .half_close(true)
        .max_buf_size(max_head.saturating_add(1).max(SMALLEST_BUFFER))
        .auto_date_header(false);
    let serving = builder.serve_connection(TokioIo::new(guard), service).with_upgrades();
    tokio::select! {
        // What goes wrong here is the client's affair, who is told by hyper.
        _ = serving => {}
        () = connection.revoked() => return connection.gateway.cut.add(),
        () = is_idle(&connection.watched, limits.idle.get()) => return,
    }
    let switch = connection.state().switch.take();
    match switch {
        Some(Switch::Direct(sides)) => connection.relay(sides).await,
        Some(Switch::Route(relay)) => relay.await,
        None => {}
    }
}

/// Ends when nothing went for the time that this may take, give or take a quarter.
async fn is_idle(watched: &Watched, idle: Duration) {
    let mut quiet = 0;
    while quiet < 4 {
        sleep(idle / 4).await;
        quiet = if watched.active.swap(false, Ordering::Relaxed) { 0 } else { quiet + 1 };
    }
}

impl Connection {
    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends when what the last request went to may not be reached any more, or nothing may.
    async fn revoked(&self) {
        let mut changes = self.client.changes();
        loop {
            if changes.has_changed().is_err() {
                return;
            }
            let in_force = Arc::clone(&changes.borrow_and_update());
            let may_go_on = self.state().to.as_ref().is_none_or(|to| decide(&in_force.policy, to).is_ok());
            if !may_go_on || changes.changed().await.is_err() {
                return;
            }
        }
    }

    async fn answer(&self, mut request: Request<Incoming>, refused: Option<(Rule, Vec<u8>)>) -> Response<Body> {
        let refused = refused.map_or_else(
            || destination(&request, self.port).map_err(|rule| (rule, asked(&request))),
            |(rule, line)| Err((rule, line)),
        );
        let to = match refused {
            Ok(to) => to,
            // Whoever writes requests of this kind is not listened to any more.
            Err((rule, asked)) => return self.refuse(&self.refusal(rule, shown(&asked)), true),
        };
        let ports = [80, self.gateway.settings().proxy_port];
        if is_gateway(&to.host) && ports.contains(&self.port) && ports.contains(&to.port) {
            self.state().to = None;
            request.extensions_mut().insert(Arc::clone(&self.watched));
            let served = self.gateway.routes.serve(Arc::clone(&self.client), request).await;
            return match served {
                Ok(Answer { response, relay }) => {
                    self.state().switch = relay.map(Switch::Route);
                    response
                }
                Err(refusal) => self.refuse(&refusal, false),
            };
        }
        match self.forward(request, &to).await {
            Ok(response) => response,
            Err(refusal) => self.refuse(&refusal, false),
        }
    }

    fn refusal(&self, rule: Rule, destination: String) -> Refusal {
        Refusal { tenant: self.client.name().clone(), destination, rule }
    }

    fn refuse(&self, refusal: &Refusal, is_last: bool) -> Response<Body> {
        self.gateway.refusals.note(refusal);
        let mut response = answer::response(refusal);
        if is_last {
            response.headers_mut().insert(header::CONNECTION, CLOSE);
        }
        response
    }

    async fn forward(&self, mut request: Request<Incoming>, to: &Authority) -> Result<Response<Body>, Refusal> {
        let near = websocket::is_offered_by(&request).then(|| hyper::upgrade::on(&mut request));
        let (reused, far) = match self.last(to).await {
            Some(far) => (true, far),
            None => (false, self.dial(to).await?),
        };
        let counts = Arc::new(self.gateway.usage.begin(self.client.name(), &far.rule));
        let request = outbound(request, to, near.is_some(), &counts)
            .ok_or_else(|| self.refusal(Rule::MalformedRequest, to.to_string()))?;
        let (response, far) = self.send(request, far, reused).await?;
        self.watched.reads_from(far.seen.clone());
        let is_switch = response.status() == StatusCode::SWITCHING_PROTOCOLS;
        match near {
            Some(near) if is_switch && websocket::is_agreed_to(response.headers()) => {
                Ok(self.switch(response, near, far))
            }
            _ if is_switch => Err(self.refusal(Rule::BadAnswer, to.to_string())),
            _ => {
                self.state().far = Some(far);
                Ok(inbound(response, counts))
            }
        }
    }

    /// The connection of the last request, where it leads to the same place and may still be used.
    async fn last(&self, to: &Authority) -> Option<Far> {
        let last = {
            let mut state = self.state();
            state.to = Some(to.clone());
            state.far.take()
        };
        let mut far = last.filter(|far| far.to == *to && decide(&self.client.now().policy, to).is_ok())?;
        far.sender.ready().await.ok().map(|()| far)
    }

    /// Sends a request. One that a connection of before did not take, because it ended meanwhile, goes
    /// over a new one.
    async fn send(
        &self,
        request: Request<Metered>,
        mut far: Far,
        reused: bool,
    ) -> Result<(Response<Incoming>, Far), Refusal> {
        let failed = |error: hyper::Error, to: &Authority| {
            tracing::debug!(tenant = %self.client.name(), destination = %to, %error, "a request got no answer");
            self.refusal(unanswered(&error), to.to_string())
        };
        match far.sender.try_send_request(request).await {
            Ok(response) => Ok((response, far)),
            Err(mut error) => match error.take_message().filter(|_| reused) {
                None => Err(failed(error.into_error(), &far.to)),
                Some(request) => {
                    let mut far = self.dial(&far.to).await?;
                    match far.sender.send_request(request).await {
                        Ok(response) => Ok((response, far)),
                        Err(error) => Err(failed(error, &far.to)),
                    }
                }
            },
        }
    }

    async fn dial(&self, to: &Authority) -> Result<Far, Refusal> {
        let (stream, rule) = self.gateway.dialer.dial(&self.client, to).await?;
        let limits = self.gateway.settings().limits;
        let max_head = usize::try_from(limits.head.get()).unwrap_or(usize::MAX).max(SMALLEST_BUFFER);
        let wire = Wire::new(stream, Arc::clone(&self.client), limits.stall.get());
        let seen = wire.seen();
        let handshake = upstream::Builder::new().max_buf_size(max_head).handshake(TokioIo::new(wire)).await;
        let (sender, connection) = handshake.map_err(|_| self.refusal(Rule::Unreachable, to.to_string()))?;
        let drive = async move {
            // What goes wrong shows in the answer.
            let _ = connection.with_upgrades().await;
        };
        Ok(Far { to: to.clone(), rule, sender, seen, _driver: Driver(tokio::spawn(drive)) })
    }

    /// Agrees to another protocol, which begins when hyper has let go of the client's side.
    fn switch(&self, mut response: Response<Incoming>, near: OnUpgrade, far: Far) -> Response<Body> {
        let upgraded = hyper::upgrade::on(&mut response);
        self.state().switch = Some(Switch::Direct(Sides { near, upgraded, far }));
        let (parts, _) = response.into_parts();
        let mut agreed = Response::new(http_body_util::Empty::new().map_err(|never| match never {}).boxed_unsync());
        *agreed.status_mut() = parts.status;
        *agreed.headers_mut() = without_hop_by_hop(parts.headers);
        agreed.headers_mut().insert(header::CONNECTION, UPGRADE);
        agreed.headers_mut().insert(header::UPGRADE, WEBSOCKET);
        agreed
    }

    async fn relay(&self, Sides { near, upgraded, far }: Sides) {
        let (Ok(near), Ok(upgraded)) = (near.await, upgraded.await) else { return };
        let (Ok(near), Ok(upgraded)) =
            (near.downcast::<TokioIo<RequestValidator>>(), upgraded.downcast::<TokioIo<Wire>>())
        else {
            return;
        };
        let (mut near_stream, held) = near.io.into_inner().into_parts();
        let Some(mut far_stream) = upgraded.io.into_inner().into_inner() else { return };
        let begun = Begun { near: [near.read_buf.as_ref(), &held].concat(), far: upgraded.read_buf.to_vec() };
        let limits = self.gateway.settings().limits;
        let session = Session {
            client: Arc::clone(&self.client),
            counts: self.gateway.usage.begin(self.client.name(), &far.rule),
            to: far.to.clone(),
            bandwidth: limits.bandwidth.map(|bytes| bytes.get()),
            idle: limits.idle.get(),
            stall: limits.stall.get(),
        };
        if session.relay(&mut near_stream, &mut far_stream, begun, None).await == End::Revoked {
            self.gateway.cut.add();
        }
    }
}

const CLOSE: HeaderValue = HeaderValue::from_static("close");
const UPGRADE: HeaderValue = HeaderValue::from_static("upgrade");
const WEBSOCKET: HeaderValue = HeaderValue::from_static("websocket");

/// Where a request that was judged wants to.
fn destination(request: &Request<Incoming>, port: u16) -> Result<Authority, Rule> {
    let host = match request.headers().get(header::HOST) {
        Some(host) => Some(host.to_str().map_err(|_| Rule::Malformed)?),
        None => None,
    };
    let uri = request.uri();
    let Some(authority) = uri.authority() else {
        let to = Authority::parse(host.ok_or(Rule::UnknownProtocol)?, Some(port))?;
        return if to.port == port { Ok(to) } else { Err(Rule::PortDiffers) };
    };
    match uri.scheme_str() {
        Some("http" | "ws") => {}
        Some(_) => return Err(Rule::OtherScheme),
        None => return Err(Rule::MalformedRequest),
    }
    let to = Authority::parse(authority.as_str(), Some(80))?;
    match host.map(|host| Authority::parse(host, Some(80))).transpose()? {
        Some(host) if host != to => Err(Rule::NameDiffers),
        _ => Ok(to),
    }
}

/// What a request asked for, as it stands there.
fn asked(request: &Request<Incoming>) -> Vec<u8> {
    let host = request.headers().get(header::HOST).map_or(&b""[..], HeaderValue::as_bytes);
    match request.uri().authority() {
        Some(authority) if authority.as_str().as_bytes() == host => host.to_vec(),
        Some(authority) => [authority.as_str().as_bytes(), b" (Host: ", host, b")"].concat(),
        // HTTP/1.0 may say nowhere where it wants to.
        None if host.is_empty() => format!("{} {}", request.method(), request.uri()).into_bytes(),
        None => host.to_vec(),
    }
}

/// A request as the destination gets it.
fn outbound(
    request: Request<Incoming>,
    to: &Authority,
    is_websocket: bool,
    counts: &Arc<Use>,
) -> Option<Request<Metered>> {
    let (parts, body) = request.into_parts();
    let path = parts.uri.path_and_query().map_or("/", |path| path.as_str());
    let uri: Uri = path.parse().ok()?;
    let trailers = parts.headers.get(header::TE).is_some_and(|te| te.as_bytes().eq_ignore_ascii_case(b"trailers"));
    let mut headers = without_hop_by_hop(parts.headers);
    // hyper has told the client to go on by the time that the body is read.
    headers.remove(header::EXPECT);
    let host = if to.port == 80 { to.host.to_string() } else { to.to_string() };
    headers.insert(header::HOST, host.parse().ok()?);
    if trailers {
        headers.insert(header::TE, HeaderValue::from_static("trailers"));
    }
    if is_websocket {
        headers.insert(header::CONNECTION, UPGRADE);
        headers.insert(header::UPGRADE, WEBSOCKET);
    }
    let mut request = Request::new(Metered { body, counts: Arc::clone(counts), count: Use::sent });
    *request.method_mut() = parts.method;
    *request.uri_mut() = uri;
    *request.headers_mut() = headers;
    Some(request)
}

/// An answer as the client gets it.
fn inbound(response: Response<Incoming>, counts: Arc<Use>) -> Response<Body> {
    let (mut parts, body) = response.into_parts();
    parts.headers = without_hop_by_hop(parts.headers);
    parts.version = Version::HTTP_11;
    Response::from_parts(parts, Metered { body, counts, count: Use::received }.boxed_unsync())
}

fn without_hop_by_hop(mut headers: HeaderMap) -> HeaderMap {
    let named: Vec<HeaderName> = headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| name.trim().parse().ok())
        // What frames or addresses a message is not for its sender to take away.
        .filter(|name| ![header::HOST, header::CONTENT_LENGTH].contains(name))
        .collect();
    for name in named.iter().chain(&HOP_BY_HOP) {
        headers.remove(name);
    }
    headers
}

/// A body that is counted as it goes.
struct Metered {
    body: Incoming,
    counts: Arc<Use>,
    count: fn(&Use, u64),
}

impl hyper::body::Body for Metered {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let frame = std::task::ready!(Pin::new(&mut self.body).poll_frame(cx));
        if let Some(data) = frame.as_ref().and_then(|frame| frame.as_ref().ok()?.data_ref()) {
            (self.count)(&self.counts, data.len() as u64);
        }
        Poll::Ready(frame.map(|frame| frame.map_err(io::Error::other)))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
