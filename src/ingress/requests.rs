//! A request on its way: whose it is, whether it may go on, where to, and what comes back.

use std::{
    borrow::Cow,
    io,
    net::SocketAddr,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
    time::Instant,
};

use http_body_util::BodyExt;
use hyper::{
    Method, Request, Response, StatusCode, Version,
    body::{Bytes, Frame, Incoming, SizeHint},
    header,
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
        accounting::account::Account,
        policy::Rule,
        protocols::websocket,
        proxy::{
            answer::Body,
            headers,
            metered::Metered,
            outbound::outbound,
            relay::Session,
            server::{self, Answer, Relay, Service},
            upgrade,
            upstreams::{Connection, Failed, exchange},
            wire::Wire,
        },
    },
    in_flight::{Cut, Grant, Tracked, Unread},
    model::Power,
    places::{self, InHand},
    served::Place,
    shared::Shared,
    waking::{Destination, Reached},
};

/// How much of an answer HTTP/2 keeps that its client does not take, in bytes: what waits to be sent, and the part behind it.
const KEPT_BY_HTTP2: u64 = 128 << 10;

/// The requests of one connection of a client, over a stream of this kind.
pub struct Requests<S> {
    ingress: Arc<Shared>,
    client: SocketAddr,
    scheme: &'static str,
    place: Arc<places::Place>,
    /// Ends the connection, which over HTTP/1.1 has one request at a time.
    cut: Arc<Cut>,
    stream: std::marker::PhantomData<fn() -> S>,
}

/// An answer's head, the connection that it came over, and where that leads.
type Exchanged = (Response<Incoming>, Connection<Metered<Incoming>>, Reached);

/// What is known of a request that may go on.
pub(crate) struct Admission {
    target: Target,
    admitted: Admitted,
    host: String,
    account: Arc<Account>,
    held: Held,
}

/// What a request that may go on has until it is done: a place among those of its tenant, and its connection's place.
pub(crate) struct Held {
    _place: Place,
    _in_hand: InHand,
}

impl Admission {
    /// Where to, what let it in, and what it has until it is done.
    pub(crate) fn into_parts(self) -> (Target, Admitted, Held) {
        (self.target, self.admitted, self.held)
    }
}

impl<S> Requests<S> {
    /// Those of a client that speaks `http` or `https`, on a connection that has this place.
    pub fn new(ingress: Arc<Shared>, client: SocketAddr, scheme: &'static str, place: Arc<places::Place>) -> Self {
        let scheme = if ingress.settings.tls_terminated { "https" } else { scheme };
        Self { ingress, client, scheme, place, cut: Arc::default(), stream: std::marker::PhantomData }
    }

    /// What all connections share.
    pub(crate) fn ingress(&self) -> &Arc<Shared> {
        &self.ingress
    }

    /// Whether nobody on the way reads what goes over the connection.
    pub(crate) fn is_secure(&self) -> bool {
        self.scheme == "https"
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin + Send + 'static> Service for Requests<S> {
    async fn answer(&self, request: Request<Incoming>) -> Answer {
        let is_http1 = request.version() != Version::HTTP_2;
        if let Some(own) = self.own(&request) {
            return self.answer_own(own, request).await.into();
        }
        let visitor = self.visitor(&request);
        match self.pass(request, visitor.is_some()).await {
            Ok(answer) => {
                self.ingress.counters.request("passed");
                answer
            }
            // What follows on the connection may be read in more than one way as well.
            Err(refused @ Refused::Malformed(_)) if is_http1 => server::last(self.refused(&refused)).into(),
            Err(refused) => {
                let page = visitor.and_then(|visitor| self.page(&visitor, &refused));
                self.ingress.counters.request(refused.as_str());
                page.unwrap_or_else(|| refused.response()).into()
            }
        }
    }

    fn refuse(&self, rule: Rule, _line: &[u8]) -> Response<Body> {
        self.refused(&Refused::Malformed(rule))
    }

    async fn revoked(&self) {
        tokio::select! {
            () = self.cut.wait() => {}
            () = self.ingress.ends() => {}
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin + Send + 'static> Requests<S> {
    fn refused(&self, refused: &Refused) -> Response<Body> {
        self.ingress.counters.request(refused.as_str());
        refused.response()
    }

    /// Passes a request on to its tenant, which is woken if it must be; a visitor sees a page meanwhile, where the fleet says so.
    async fn pass(&self, mut request: Request<Incoming>, is_visitor: bool) -> Result<Answer, Refused> {
        let Admission { target, admitted, host, account, held } = self.admit(&request)?;
        let client = upgrade::offered(&mut request);
        // Over HTTP/2 an answer is cut by itself.
        let reset = request.extensions_mut().remove::<Arc<Cut>>();
        let to =
            Destination { tenant: target.tenant.clone(), port: admitted.port, is_public: admitted.token.is_none() };
        if is_visitor {
            self.start_for_visitor(&to).await?;
        }
        let counts = Arc::new(self.ingress.usage.begin(&to.tenant, &format!("port:{}", to.port)));
        let path = target.inner_path(&path_of(&request)?).into_owned();
        let mut request = outbound(request, &path, &host, client.is_some(), &counts)
            .ok_or(Refused::Malformed(Rule::MalformedRequest))?;
        credential::strip(request.headers_mut(), &target.form);
        forward(request.headers_mut(), self.client.ip(), self.scheme, &host, &target.form);
        let (mut answer, connection, reached) = self.exchange(&to, &account, request, &target, &admitted).await?;
        let from = connection.seen();
        let form = target.form.clone();
        let grant = Grant { target, admitted, container: reached.container.clone() };
        let unread =
            reset.as_ref().map(|_| Unread { account: Arc::clone(&account), from: from.clone(), buffer: KEPT_BY_HTTP2 });
        let cut = reset.unwrap_or_else(|| Arc::clone(&self.cut));
        if answer.status() == StatusCode::SWITCHING_PROTOCOLS {
            let (Some(client), Some(app)) = (client, upgrade::agreed(&mut answer)) else {
                return Err(Refused::BadAnswer);
            };
            let mut headers = answer.headers().clone();
            headers::strip(&mut headers);
            keep_tenants_apart(&mut headers, &form);
            let tracked = self.ingress.in_flight.add(grant, Arc::clone(&cut), unread);
            let session = Session { account: Arc::clone(&account), counts, limits: self.ingress.limits() };
            let relay = self.relay((client, app), session, cut, (connection, tracked, held));
            return Ok(Answer {
                response: upgrade::switching(headers),
                from,
                account: Some(account),
                relay: Some(relay),
            });
        }
        let (mut head, body) = answer.into_parts();
        headers::strip(&mut head.headers);
        keep_tenants_apart(&mut head.headers, &form);
        head.version = Version::HTTP_11;
        let body = Metered::received(body, counts);
        let body = self.ingress.kept.answered(body, &account, (to.tenant, reached), connection);
        let body = Passing { body, tracked: self.ingress.in_flight.add(grant, cut, unread), _held: held };
        let response = Response::from_parts(head, body.boxed_unsync());
        Ok(Answer { response, from, account: Some(account), relay: None })
    }

    /// Whose a request is, and whether it may go on.
    pub(crate) fn admit(&self, request: &Request<Incoming>) -> Result<Admission, Refused> {
        if request.method() == Method::CONNECT {
            return Err(Refused::Malformed(Rule::UnsupportedMethod));
        }
        let (host, path) = (host_of(request)?, path_of(request)?);
        let path = path.split('?').next().unwrap_or_default();
        let settings = &self.ingress.settings;
        let target = Target::of(&host, path, settings.domain.as_str()).ok_or(Refused::NamesNobody)?;
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
        let verify = |text: &str, key: &_| self.ingress.verified.token(text, key);
        let admitted = admit(&known, asked, &settings.origins, Timestamp::now(), verify);
        let admitted = admitted.map_err(Refused::Denied)?;
        let (account, place) = self.ingress.served.enter(&target.tenant)?;
        let held = Held { _place: place, _in_hand: self.place.begin() };
        Ok(Admission { target, admitted, host, account, held })
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

    /// Goes on as a WebSocket until `cut` ends it, and holds what it needs until then.
    fn relay(
        &self,
        (client, app): (OnUpgrade, OnUpgrade),
        session: Session,
        cut: Arc<Cut>,
        held: (Connection<Metered<Incoming>>, Tracked, Held),
    ) -> Relay {
        let ingress = Arc::clone(&self.ingress);
        let ends = async move {
            tokio::select! {
                () = cut.wait() => {}
                () = ingress.ends() => {}
            }
        };
        Box::pin(async move {
            let _held = held;
            upgrade::relay::<S>(client, app, session, Box::pin(ends)).await
        })
    }
}

/// Ends when the token of a request counts no more by its time.
pub(crate) async fn expired(admitted: &Admitted) {
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
pub(crate) fn host_of<T>(request: &Request<T>) -> Result<String, Refused> {
    let malformed = || Refused::Malformed(Rule::MalformedRequest);
    let mut named = request.headers().get_all(header::HOST).into_iter();
    let header = match (named.next(), named.next()) {
        (Some(host), None) => Some(host.to_str().map_err(|_| malformed())?),
        (None, None) => None,
        _ => return Err(malformed()),
    };
    let uri = request.uri();
    // A name without a scheme is what CONNECT asks for.
    if uri.authority().is_some() && !matches!(uri.scheme_str(), Some("http" | "https")) {
        return Err(malformed());
    }
    let target = uri.authority().map(hyper::http::uri::Authority::as_str);
    match (target, header) {
        (Some(target), Some(host)) if !target.eq_ignore_ascii_case(host) => Err(Refused::Malformed(Rule::NameDiffers)),
        (Some(host), _) | (None, Some(host)) if !host.contains('@') => Ok(host.to_ascii_lowercase()),
        _ => Err(malformed()),
    }
}

/// The path and the query that a request asks for.
fn path_of<T>(request: &Request<T>) -> Result<Cow<'_, str>, Refused> {
    match request.uri().path_and_query().map_or("/", |path| path.as_str()) {
        path if path.starts_with('/') || path == "*" => Ok(path.into()),
        // As in `http://HOST?QUERY`.
        query if query.starts_with('?') => Ok(format!("/{query}").into()),
        _ => Err(Refused::Malformed(Rule::MalformedRequest)),
    }
}

/// An answer's body, of which is known whether its client takes it.
struct Passing<B> {
    body: B,
    tracked: Tracked,
    _held: Held,
}

impl<B> hyper::body::Body for Passing<B>
where
    B: hyper::body::Body<Data = Bytes, Error = io::Error> + Unpin,
{
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let frame = Pin::new(&mut self.body).poll_frame(cx);
        match frame {
            Poll::Ready(_) => self.tracked.flow().handed_on(),
            Poll::Pending => self.tracked.flow().waits_for_tenant(),
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
