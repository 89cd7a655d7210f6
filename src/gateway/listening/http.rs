//! HTTP/1 in the clear: each request of a connection is decided by itself, and forwarded to where it wants to, or served
//! by a route.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use http_body_util::BodyExt;
use hyper::{
    Request, Response, StatusCode, Version,
    body::Incoming,
    header::{self, HeaderValue},
    upgrade::OnUpgrade,
};
use tokio::net::TcpStream;

use super::shared::Shared;
use crate::{
    accounting::usage::Use,
    client::Client,
    policy::{
        Refusal, Rule,
        authority::{Authority, shown},
        decide::decide,
        in_force::InForce,
    },
    protocols::dns::is_gateway,
    proxy::{
        answer::{self, Body},
        gathered::Gathered,
        headers,
        metered::Metered,
        outbound::outbound,
        relay::{End, Session},
        revocation::revoked,
        server::{self, Answer, Relay, Service},
        upgrade,
        upstreams::{Connection, exchange},
        wire::Wire,
    },
};

/// A tenant's connection that speaks HTTP/1.
struct Requests {
    gateway: Arc<Shared>,
    client: Arc<Client>,
    /// The port that it came to.
    port: u16,
    last: Mutex<Last>,
}

/// What the last request leaves for the next one.
#[derive(Default)]
struct Last {
    /// Where it went.
    to: Option<Authority>,
    /// The connection there, once it may be used again.
    far: Option<Far>,
}

/// A connection to a destination.
struct Far {
    to: Authority,
    /// The entry that lets it through.
    rule: String,
    connection: Connection<Metered<Incoming>>,
}

/// Serves a connection of which `begun` was read already, until it ends.
pub(crate) async fn serve(gateway: Arc<Shared>, client: Arc<Client>, stream: TcpStream, begun: Gathered, port: u16) {
    let (account, limits) = (Arc::clone(&client.account), gateway.limits());
    let requests = Arc::new(Requests { gateway, client, port, last: Mutex::default() });
    if server::serve(stream, begun, account, limits, Arc::clone(&requests)).await == End::Revoked {
        requests.gateway.counters.cut.inc();
    }
}

impl Service for Requests {
    async fn answer(&self, request: Request<Incoming>) -> Answer {
        let to = match destination(&request, self.port) {
            Ok(to) => to,
            Err(rule) => return server::last(self.refuse(rule, &asked(&request))).into(),
        };
        let ports = [80, self.gateway.settings().proxy_port];
        let answered = if is_gateway(&to.host) && ports.contains(&self.port) && ports.contains(&to.port) {
            self.last().to = None;
            self.gateway.routes.serve(Arc::clone(&self.client), request).await
        } else {
            self.forward(request, &to).await
        };
        answered.unwrap_or_else(|refusal| self.refused(&refusal).into())
    }

    fn refuse(&self, rule: Rule, line: &[u8]) -> Response<Body> {
        self.refused(&self.refusal(rule, shown(line)))
    }

    /// What the last request went to may not be reached any more, or nothing may.
    async fn revoked(&self) {
        let may_go_on = |now: &InForce| self.last().to.as_ref().is_none_or(|to| decide(&now.policy, to).is_ok());
        revoked(self.client.in_force.changes(), may_go_on).await;
    }
}

impl Requests {
    fn last(&self) -> MutexGuard<'_, Last> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn refusal(&self, rule: Rule, destination: String) -> Refusal {
        Refusal { tenant: self.client.name().clone(), destination, rule }
    }

    fn refused(&self, refusal: &Refusal) -> Response<Body> {
        self.gateway.refusals.note(refusal);
        answer::response(refusal)
    }

    async fn forward(&self, mut request: Request<Incoming>, to: &Authority) -> Result<Answer, Refusal> {
        let near = upgrade::offered(&mut request);
        let (rule, mut kept, new) = match self.last_to(to).await {
            Some(far) => (far.rule, Some(far.connection), None),
            None => {
                let far = self.dial(to).await?;
                (far.rule, None, Some(far.connection))
            }
        };
        let counts = Arc::new(self.gateway.usage.begin(self.client.name(), &rule));
        let target = request.uri().path_and_query().map_or("/", |path| path.as_str()).to_owned();
        let host = if to.port == 80 { to.host.to_string() } else { to.to_string() };
        let request = outbound(request, &target, &host, near.is_some(), &counts)
            .ok_or_else(|| self.refusal(Rule::MalformedRequest, to.to_string()))?;
        let open = async {
            match new {
                Some(connection) => Ok(connection),
                None => self.dial(to).await.map(|far| far.connection).map_err(|refusal| refusal.rule),
            }
        };
        let exchanged = exchange(|| kept.take(), open, request, None, || {}).await;
        let (mut response, connection) = exchanged.map_err(|failed| self.refusal(failed.rule, to.to_string()))?;
        let from = connection.seen();
        let far = Far { to: to.clone(), rule, connection };
        let is_switch = response.status() == StatusCode::SWITCHING_PROTOCOLS;
        let agreed = if is_switch { upgrade::agreed(&mut response) } else { None };
        match (near, agreed) {
            (Some(near), Some(agreed)) => {
                let (parts, _) = response.into_parts();
                let mut headers = parts.headers;
                headers::strip(&mut headers);
                let relay = Some(self.relay(near, agreed, far, counts));
                Ok(Answer { response: upgrade::switching(headers), from, account: None, relay })
            }
            _ if is_switch => Err(self.refusal(Rule::BadAnswer, to.to_string())),
            _ => {
                self.last().far = Some(far);
                Ok(Answer { response: inbound(response, counts), from, account: None, relay: None })
            }
        }
    }

    /// The connection of the last request, where it leads to the same place and may still be used.
    async fn last_to(&self, to: &Authority) -> Option<Far> {
        let last = {
            let mut last = self.last();
            last.to = Some(to.clone());
            last.far.take()
        };
        let far = last.filter(|far| far.to == *to && decide(&self.client.now().policy, to).is_ok())?;
        Some(Far { connection: far.connection.ready().await?, ..far })
    }

    async fn dial(&self, to: &Authority) -> Result<Far, Refusal> {
        let (stream, rule) = self.gateway.dial(&self.client, to).await?;
        let limits = self.gateway.limits();
        let wire = Wire::new(stream, Arc::clone(&self.client.account), limits.stall);
        let seen = wire.seen();
        let connection = Connection::open(wire, seen, limits.head).await;
        let connection = connection.map_err(|rule| self.refusal(rule, to.to_string()))?;
        Ok(Far { to: to.clone(), rule, connection })
    }

    /// Goes on in another protocol, for as long as its destination may be reached.
    fn relay(&self, near: OnUpgrade, agreed: OnUpgrade, far: Far, counts: Arc<Use>) -> Relay {
        let session = Session { account: Arc::clone(&self.client.account), counts, limits: self.gateway.limits() };
        let changes = self.client.in_force.changes();
        Box::pin(async move {
            let Far { to, connection: _connection, .. } = far;
            let may_go_on = move |now: &InForce| decide(&now.policy, &to).is_ok();
            upgrade::relay::<TcpStream>(near, agreed, session, Box::pin(revoked(changes, may_go_on))).await
        })
    }
}

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

/// An answer as the client gets it.
fn inbound(response: Response<Incoming>, counts: Arc<Use>) -> Response<Body> {
    let (mut parts, body) = response.into_parts();
    headers::strip(&mut parts.headers);
    parts.version = Version::HTTP_11;
    Response::from_parts(parts, Metered::received(body, counts).boxed_unsync())
}
