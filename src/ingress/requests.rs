//! A request on its way: whose it is, whether it may go on, where to, and what comes back.

use std::{
    error::Error,
    io,
    net::SocketAddr,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
    time::Instant,
};

use http_body_util::BodyExt;
use hyper::{
    Method, Request, Response, StatusCode, Uri, Version,
    body::{Body as _, Bytes, Frame, Incoming, SizeHint},
    header::{self, HeaderValue},
    upgrade::OnUpgrade,
};
use jiff::Timestamp;
use tokio::io::{AsyncRead, AsyncWrite};

use crate::{
    answer::Refused,
    deciding::{
        admission::{Admitted, Asked, admit, may_go_on},
        credential::{self, Credential},
        headers::{forward, keep_tenants_apart},
        target::Target,
    },
    gateway::{
        accounting::{account::Account, usage::Use},
        policy::Rule,
        protocols::websocket,
        proxy::{
            answer::Body,
            headers,
            metered::Metered,
            relay::Session,
            revocation::Revoked,
            server::{Answer, Relay, Service},
            upgrade,
            upstreams::{Connection, Failed, exchange},
            wire::Wire,
        },
    },
    model::{Power, ingress::StateContent},
    shared::{Place, Shared},
    waking::{Destination, Reached},
};

/// The requests of one connection of a client, over a stream of this kind.
pub struct Requests<S> {
    ingress: Arc<Shared>,
    client: SocketAddr,
    scheme: &'static str,
    stream: std::marker::PhantomData<fn() -> S>,
}

/// An answer's head, the connection that it came over, and where that leads.
type Exchanged = (Response<Incoming>, Connection<Metered<Incoming>>, Reached);

/// What is known of a request that may go on.
struct Admission {
    target: Target,
    admitted: Admitted,
    host: String,
    account: Arc<Account>,
    place: Place,
}

impl<S> Requests<S> {
    /// Those of a client that speaks `http` or `https`.
    pub fn new(ingress: Arc<Shared>, client: SocketAddr, scheme: &'static str) -> Self {
        Self { ingress, client, scheme, stream: std::marker::PhantomData }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin + Send + 'static> Service for Requests<S> {
    async fn answer(&self, request: Request<Incoming>) -> Answer {
        match self.pass(request).await {
            Ok(answer) => {
                self.ingress.counters.request("passed");
                answer
            }
            Err(refused) => self.refused(&refused).into(),
        }
    }

    fn refuse(&self, rule: Rule, _line: &[u8]) -> Response<Body> {
        self.refused(&Refused::Malformed(rule))
    }

    async fn revoked(&self) {
        self.ingress.ends().await;
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin + Send + 'static> Requests<S> {
    fn refused(&self, refused: &Refused) -> Response<Body> {
        self.ingress.counters.request(refused.as_str());
        refused.response()
    }

    /// Passes a request on to its tenant, which is woken if it must be.
    async fn pass(&self, mut request: Request<Incoming>) -> Result<Answer, Refused> {
        let Admission { target, admitted, host, account, place } = self.admit(&request)?;
        let client = upgrade::offered(&mut request);
        let to =
            Destination { tenant: target.tenant.clone(), port: admitted.port, is_public: admitted.token.is_none() };
        let counts = Arc::new(self.ingress.usage.begin(&to.tenant, &format!("port:{}", to.port)));
        let mut request = outbound(request, &target, &host, client.is_some(), &counts)?;
        credential::strip(request.headers_mut(), &target.form);
        forward(request.headers_mut(), self.client.ip(), self.scheme, &host, &target.form);
        let (mut answer, connection, reached) = self.exchange(&to, &account, request, &target, &admitted).await?;
        let from = connection.seen();
        let revoked = self.until_revoked(target.clone(), admitted, reached.container.clone());
        if answer.status() == StatusCode::SWITCHING_PROTOCOLS {
            let (Some(client), Some(app)) = (client, upgrade::agreed(&mut answer)) else {
                return Err(Refused::BadAnswer);
            };
            let mut headers = answer.headers().clone();
            headers::strip(&mut headers);
            keep_tenants_apart(&mut headers, &target.form);
            let relay = self.relay(client, app, connection, (account, counts), revoked, place);
            return Ok(Answer { response: upgrade::switching(headers), from, relay: Some(relay) });
        }
        let (mut head, body) = answer.into_parts();
        headers::strip(&mut head.headers);
        keep_tenants_apart(&mut head.headers, &target.form);
        head.version = Version::HTTP_11;
        let body = Metered::received(body, counts);
        let body = self.ingress.kept.answered(body, &account, (to.tenant, reached), connection);
        let body = Passing { body, revoked, _place: place };
        Ok(Answer { response: Response::from_parts(head, body.boxed_unsync()), from, relay: None })
    }

    /// Whose a request is, and whether it may go on.
    fn admit(&self, request: &Request<Incoming>) -> Result<Admission, Refused> {
        if request.method() == Method::CONNECT {
            return Err(Refused::Malformed(Rule::UnsupportedMethod));
        }
        let host = host_of(request)?;
        let settings = &self.ingress.settings;
        let target = Target::of(&host, request.uri().path(), settings.domain.as_str()).ok_or(Refused::NamesNobody)?;
        let credential = Credential::of(request.headers(), &target.form);
        let known = self.ingress.daemon.now().ok_or(Refused::DaemonUnavailable)?;
        let asked = Asked {
            target: &target,
            credential: &credential,
            method: request.method(),
            is_websocket: websocket::is_offered_by(request),
            headers: request.headers(),
            host: &host,
        };
        let admitted = admit(&known, asked, &settings.origins, Timestamp::now());
        let admitted = admitted.map_err(Refused::Denied)?;
        let (account, place) = self.ingress.enter(&target.tenant)?;
        Ok(Admission { target, admitted, host, account, place })
    }

    /// Sends a request to a tenant once, and waits for the head of the answer. Only what cannot have been seen of it is
    /// tried again, for as long as a tenant may take to be ready.
    async fn exchange(
        &self,
        to: &Destination,
        account: &Arc<Account>,
        mut request: Request<Metered<Incoming>>,
        target: &Target,
        admitted: &Admitted,
    ) -> Result<Exchanged, Refused> {
        let patience = self.ingress.settings.wake_timeout.get();
        let deadline = Instant::now() + patience;
        loop {
            match self.exchange_once(to, account, request, target, admitted).await {
                Ok(exchanged) => return Ok(exchanged),
                Err((refused, None)) => return Err(refused),
                Err((_, Some(unsent))) if Instant::now() < deadline => request = *unsent,
                Err((_, Some(_))) => return Err(Refused::NotReady(patience)),
            }
        }
    }

    /// Sends a request once. It comes back with what went wrong, where it was not sent and may be again.
    async fn exchange_once(
        &self,
        to: &Destination,
        account: &Arc<Account>,
        request: Request<Metered<Incoming>>,
        target: &Target,
        admitted: &Admitted,
    ) -> Result<Exchanged, (Refused, Option<Box<Request<Metered<Incoming>>>>)> {
        let ingress = &self.ingress;
        let found = ingress.waker.found(to);
        // Where bytes of the request may go, from the moment on that they may.
        let reached = Mutex::new(None);
        let kept = || {
            let at = found.clone()?;
            let connection = ingress.kept.take(&(to.tenant.clone(), at.clone()))?;
            set(&reached, Some(at));
            Some(connection)
        };
        let refused = Mutex::new(None);
        let limits = ingress.limits();
        let open = async {
            set(&reached, None);
            match ingress.waker.connect(to, &ingress.settings).await {
                Ok((stream, at)) => {
                    set(&reached, Some(at));
                    let wire = Wire::new(stream, Arc::clone(account), limits.stall);
                    let seen = wire.seen();
                    Connection::open(wire, seen, limits.head).await
                }
                Err(error) => {
                    set(&refused, Some(error));
                    Err(Rule::Unreachable)
                }
            }
        };
        let exchanging = exchange(kept, open, request, None, || {});
        let container = || get(&reached).map(|reached: Reached| reached.container);
        let exchanged = tokio::select! {
            biased;
            ended = self.until_unanswerable(to, target, admitted, container) => return Err((ended, None)),
            exchanged = exchanging => exchanged,
        };
        match exchanged {
            Ok((answer, connection)) => {
                let reached = get(&reached).ok_or((Refused::Unanswered, None))?;
                Ok((answer, connection, reached))
            }
            Err(Failed { rule, unsent }) => Err(match (get(&refused), unsent) {
                (Some(refused), _) => (refused, None),
                (None, Some(unsent)) => (Refused::Unanswered, Some(unsent)),
                (None, None) if rule == Rule::BadAnswer => (Refused::BadAnswer, None),
                (None, None) if rule == Rule::IncompleteBody => (Refused::Malformed(rule), None),
                (None, None) => (Refused::Unanswered, None),
            }),
        }
    }

    /// Ends when a request will get no answer: what is in force does not let it go on, or its container is gone. One that is
    /// frozen meanwhile is woken again.
    async fn until_unanswerable(
        &self,
        to: &Destination,
        target: &Target,
        admitted: &Admitted,
        container: impl Fn() -> Option<String>,
    ) -> Refused {
        let mut changes = self.ingress.daemon.changes();
        loop {
            let known = changes.borrow_and_update().clone();
            let mut is_frozen = false;
            if let Some(known) = known {
                if !may_go_on(&known, target, admitted, Timestamp::now()) {
                    return Refused::Revoked;
                }
                // Before the tenant is reached, whoever reaches it knows what to do.
                if let (Some(at), Some(found)) = (container(), known.tenants.get(&target.tenant)) {
                    let is_gone = match &found.container {
                        Some(now) => *now != at,
                        None => found.power == Power::Asleep,
                    };
                    match (is_gone, found.power, found.closed) {
                        (true, _, _) => return Refused::Unanswered,
                        (false, Power::Paused, Some(closed)) => return Refused::Closed(closed),
                        (false, Power::Paused, None) => is_frozen = true,
                        (false, Power::Running | Power::Asleep, _) => {}
                    }
                }
            }
            let wake = async {
                if is_frozen {
                    // What comes of it is heard as news.
                    drop(self.ingress.waker.wake(to, &self.ingress.settings).await);
                }
                std::future::pending::<()>().await;
            };
            tokio::select! {
                changed = changes.changed() => if changed.is_err() { return Refused::Unanswered },
                () = expired(admitted) => return Refused::Revoked,
                () = wake => {}
            }
        }
    }

    /// Ends when an answer, or a WebSocket, must not go on, or cannot: its container is gone.
    fn until_revoked(&self, target: Target, admitted: Admitted, container: String) -> Revoked {
        let mut changes = self.ingress.daemon.changes();
        let expiring = admitted.clone();
        let ends = Arc::clone(&self.ingress);
        let may = move |known: &StateContent| {
            let is_there =
                known.tenants.get(&target.tenant).is_some_and(|found| found.container.as_ref() == Some(&container));
            is_there && may_go_on(known, &target, &admitted, Timestamp::now())
        };
        let changed = async move {
            let _ = changes.wait_for(|known| known.as_deref().is_some_and(|known| !may(known))).await;
        };
        Box::pin(async move {
            tokio::select! {
                () = changed => {}
                () = expired(&expiring) => {}
                () = ends.ends() => {}
            }
        })
    }

    /// Goes on as a WebSocket.
    fn relay(
        &self,
        client: OnUpgrade,
        app: OnUpgrade,
        connection: Connection<Metered<Incoming>>,
        (account, counts): (Arc<Account>, Arc<Use>),
        revoked: Revoked,
        place: Place,
    ) -> Relay {
        let session = Session { account, counts, limits: self.ingress.limits() };
        Box::pin(async move {
            let _held = (connection, place);
            upgrade::relay::<S>(client, app, session, revoked).await
        })
    }
}

/// Ends when the token of a request counts no more by its time.
async fn expired(admitted: &Admitted) {
    match admitted.token.as_ref().map(|token| token.expires.duration_since(Timestamp::now())) {
        Some(left) => tokio::time::sleep(left.try_into().unwrap_or_default()).await,
        None => std::future::pending().await,
    }
}

fn set<T>(place: &Mutex<Option<T>>, value: Option<T>) {
    *place.lock().unwrap_or_else(PoisonError::into_inner) = value;
}

fn get<T: Clone>(place: &Mutex<Option<T>>) -> Option<T> {
    place.lock().unwrap_or_else(PoisonError::into_inner).clone()
}

/// The host that a request names: in its target, as HTTP/2 has it, or in its header. Both must be the same.
fn host_of<T>(request: &Request<T>) -> Result<String, Refused> {
    let malformed = || Refused::Malformed(Rule::MalformedRequest);
    let mut named = request.headers().get_all(header::HOST).into_iter();
    let header = match (named.next(), named.next()) {
        (Some(host), None) => Some(host.to_str().map_err(|_| malformed())?),
        (None, None) => None,
        _ => return Err(malformed()),
    };
    let target = request.uri().authority().map(hyper::http::uri::Authority::as_str);
    match (target, header) {
        (Some(target), Some(host)) if !target.eq_ignore_ascii_case(host) => Err(Refused::Malformed(Rule::NameDiffers)),
        (Some(host), _) | (None, Some(host)) if !host.contains('@') => Ok(host.to_ascii_lowercase()),
        _ => Err(malformed()),
    }
}

/// A request as the tenant gets it.
fn outbound(
    request: Request<Incoming>,
    target: &Target,
    host: &str,
    is_websocket: bool,
    counts: &Arc<Use>,
) -> Result<Request<Metered<Incoming>>, Refused> {
    let malformed = || Refused::Malformed(Rule::MalformedRequest);
    let (parts, body) = request.into_parts();
    let path = parts.uri.path_and_query().map_or("/", |path| path.as_str());
    let uri: Uri = target.inner_path(path).parse().map_err(|_| malformed())?;
    let trailers = parts.headers.get(header::TE).is_some_and(|te| te.as_bytes().eq_ignore_ascii_case(b"trailers"));
    let mut headers = parts.headers;
    headers::strip(&mut headers);
    // The client was told to go on by the time that the body is read.
    headers.remove(header::EXPECT);
    headers.insert(header::HOST, HeaderValue::from_str(host).map_err(|_| malformed())?);
    if trailers {
        headers.insert(header::TE, HeaderValue::from_static("trailers"));
    }
    if is_websocket {
        headers::upgrade(&mut headers);
    }
    // Of a request that commonly has no body, one of unknown length would be left out.
    if !body.is_end_stream() && body.size_hint().exact().is_none() {
        headers.insert(header::TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
    }
    let mut request = Request::new(Metered::sent(body, Arc::clone(counts)));
    *request.method_mut() = parts.method;
    *request.uri_mut() = uri;
    *request.headers_mut() = headers;
    Ok(request)
}

/// An answer's body, for as long as it may go on.
struct Passing<B> {
    body: B,
    revoked: Revoked,
    _place: Place,
}

impl<B> hyper::body::Body for Passing<B>
where
    B: hyper::body::Body<Data = Bytes, Error: Into<Box<dyn Error + Send + Sync>>> + Unpin,
{
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        if self.revoked.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Some(Err(io::ErrorKind::ConnectionAborted.into())));
        }
        let frame = Pin::new(&mut self.body).poll_frame(cx);
        frame.map(|frame| frame.map(|frame| frame.map_err(io::Error::other)))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
