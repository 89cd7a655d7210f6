//! What the ingress answers by itself on the names of tenants: how a start goes on, and the cookie that lets a browser in.

use std::{
    convert::Infallible,
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::{
    Method, Request, Response, StatusCode,
    body::{Body as HttpBody, Bytes, Frame, Incoming},
    header::{self, HeaderMap, HeaderValue},
};
use jiff::Timestamp;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::mpsc,
    time::{interval, timeout},
};

use crate::{
    answer::Refused,
    daemon::Known,
    deciding::{
        admission::{Admitted, Asked, Denied, Shown, admit, may_go_on},
        browser::{OwnPath, field, is_of_own_page, wants_page, way_back},
        credential::{self, Credential},
        target::{Form, Target},
    },
    gateway::{policy::Rule, protocols::websocket, proxy::answer::Body},
    model::{Power, TenantName},
    page,
    requests::{Held, Requests, expired, host_of},
    waking::{Destination, Step},
};

/// The largest form that is read, in bytes: a token, and a path to go back to.
const MAX_FORM: usize = 16 << 10;

/// How often who waits for a start hears something, so that nothing on the way takes the connection for dead.
const ALIVE: Duration = Duration::from_secs(10);

/// How many events wait for a browser that does not take them; there are no more of one start.
const EVENTS: usize = 16;

/// A browser that goes to an address of a tenant's own name, to show what comes.
#[derive(Clone, Debug)]
pub struct Visitor {
    tenant: TenantName,
    /// The path that it asks for.
    to: String,
}

/// What a request asks of the ingress itself.
pub struct Own {
    path: OwnPath,
    host: String,
    target: Target,
}

impl<S: AsyncRead + AsyncWrite + Unpin + Send + 'static> Requests<S> {
    /// Who asks, if a page may be the answer.
    pub(crate) fn visitor(&self, request: &Request<Incoming>) -> Option<Visitor> {
        if !wants_page(request.method(), request.headers(), websocket::is_offered_by(request)) {
            return None;
        }
        let target = self.target(&host_of(request).ok()?, request.uri().path())?;
        let to = request.uri().path_and_query().map_or("/", |path| path.as_str());
        (target.form == Form::Host).then(|| Visitor { tenant: target.tenant, to: way_back(to).to_owned() })
    }

    /// What a visitor sees in the place of a refusal, if that is a page.
    pub(crate) fn page(&self, visitor: &Visitor, refused: &Refused) -> Option<Response<Body>> {
        let page = if *refused == Refused::Starting {
            page::starting(&visitor.tenant)
        } else if *refused == Refused::Denied(Denied::Unauthenticated) && self.is_secure() {
            page::sign_in(StatusCode::UNAUTHORIZED, &visitor.to, None)
        } else {
            return None;
        };
        Some(refused.with_headers(page))
    }

    /// Has a tenant started for a visitor who gets a page meanwhile, if the fleet says so and it does not run.
    ///
    /// # Errors
    /// It is being started, or is not to be.
    pub(crate) async fn start_for_visitor(&self, to: &Destination) -> Result<(), Refused> {
        let ingress = self.ingress();
        let known = ingress.daemon.now().ok_or(Refused::DaemonUnavailable)?;
        let found = known.tenants.get(&to.tenant).ok_or(Refused::Revoked)?;
        if !known.waiting_page || ingress.waker.found(to).is_some() {
            return Ok(());
        }
        if let Some(closed) = found.closed {
            return Err(Refused::Closed(closed));
        }
        if found.power != Power::Running && !found.waits_for_memory {
            match ingress.waker.wake(to, &ingress.settings).await {
                // The page asks again.
                Ok(()) | Err(Refused::DaemonUnavailable) => {}
                Err(refused) => return Err(refused),
            }
        }
        Err(Refused::Starting)
    }

    /// What a request asks of the ingress itself; `None` for one that is its tenant's.
    pub(crate) fn own(&self, request: &Request<Incoming>) -> Option<Own> {
        let path = OwnPath::of(request.uri().path())?;
        let host = host_of(request).ok()?;
        let target = self.target(&host, request.uri().path())?;
        (target.form == Form::Host).then_some(Own { path, host, target })
    }

    /// Answers a request for a path of the ingress's own.
    pub(crate) async fn answer_own(
        &self,
        Own { path, host, target }: Own,
        request: Request<Incoming>,
    ) -> Response<Body> {
        let answered = match path {
            OwnPath::Wake => self.follow_start(&request),
            OwnPath::Session => self.session(request, &host, &target).await,
            OwnPath::Unknown => Err(Refused::NothingThere),
        };
        let counters = &self.ingress().counters;
        match answered {
            Ok(mut response) => {
                counters.request("own");
                page::guard(response.headers_mut());
                response
            }
            Err(refused) => {
                counters.request(refused.as_str());
                refused.response()
            }
        }
    }

    fn target(&self, host: &str, path: &str) -> Option<Target> {
        Target::of(host, path, self.ingress().settings.domain.as_str())
    }

    /// Reports how a start goes on, event by event, and ends with it. It is held as a request that waits is.
    fn follow_start(&self, request: &Request<Incoming>) -> Result<Response<Body>, Refused> {
        if request.method() != Method::GET {
            return Err(Refused::MethodNotAllowed("GET"));
        }
        let ingress = Arc::clone(self.ingress());
        let admission = self.admit(request)?;
        if !ingress.daemon.now().is_some_and(|known| known.waiting_page) {
            return Err(Refused::NothingThere);
        }
        let (target, admitted, held) = admission.into_parts();
        let to =
            Destination { tenant: target.tenant.clone(), port: admitted.port, is_public: admitted.token.is_none() };
        let (sender, events) = mpsc::channel(EVENTS);
        tokio::spawn(async move {
            let say = |event: &str, data: &str| {
                // A browser that takes nothing hears of the end by the end of the stream.
                let _ = sender.try_send(Bytes::from(format!("event: {event}\ndata: {data}\n\n")));
            };
            let report = |step: Step| say("step", step.as_str());
            let reached = ingress.waker.wait(&to, &ingress.settings, &report);
            let mut changes = ingress.daemon.changes();
            let revoked = async {
                let may = |now: &Known| may_go_on(now, &target, &admitted, Timestamp::now());
                let _ = changes.wait_for(|now| now.as_deref().is_some_and(|now| !may(now))).await;
            };
            let mut reached = pin!(reached);
            let mut revoked = pin!(revoked);
            let mut alive = interval(ALIVE);
            let refused = loop {
                tokio::select! {
                    biased;
                    () = sender.closed() => return,
                    () = ingress.ends() => return,
                    () = &mut revoked => break Refused::Revoked,
                    () = expired(&admitted) => break Refused::Revoked,
                    reached = &mut reached => match reached {
                        Ok(()) => return,
                        Err(refused) => break refused,
                    },
                    _ = alive.tick() => drop(sender.try_send(Bytes::from_static(b":\n\n"))),
                }
            };
            say("refused", &refused.reason());
        });
        let mut response = Response::new(Events { events, _held: held }.map_err(|never| match never {}).boxed_unsync());
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
        // nginx would gather them.
        headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
        Ok(response)
    }

    /// Sets the cookie that lets a browser in, or takes it away.
    async fn session(
        &self,
        request: Request<Incoming>,
        host: &str,
        target: &Target,
    ) -> Result<Response<Body>, Refused> {
        if !self.is_secure() {
            return Err(Refused::NotSecure);
        }
        match *request.method() {
            Method::GET | Method::HEAD => return Ok(page::sign_in(StatusCode::OK, "/", None)),
            Method::POST | Method::DELETE => {}
            _ => return Err(Refused::MethodNotAllowed("GET, HEAD, POST, DELETE")),
        }
        if !is_of_own_page(request.headers(), host) {
            return Err(Refused::Denied(Denied::ForeignOrigin));
        }
        if request.method() == Method::DELETE {
            return Ok(with_cookie(empty(StatusCode::NO_CONTENT), "", 0));
        }
        let (parts, body) = request.into_parts();
        if let Credential::Bearer(token) = Credential::of(&parts.headers, &target.form) {
            let shown = self.judge(&token, &parts.headers, host, target)?;
            return Ok(with_cookie(empty(StatusCode::NO_CONTENT), &token, left(&shown)));
        }
        if !is_form(&parts.headers) {
            return Err(Refused::Denied(Denied::Unauthenticated));
        }
        let form = self.read_form(body).await?;
        let to = field(&form, "to").unwrap_or_default();
        let to = way_back(&to);
        let token = field(&form, "token").unwrap_or_default();
        let token = token.trim();
        match self.judge(token, &parts.headers, host, target) {
            Ok(shown) => {
                let mut response = with_cookie(empty(StatusCode::SEE_OTHER), token, left(&shown));
                let location = HeaderValue::from_str(to).unwrap_or(HeaderValue::from_static("/"));
                response.headers_mut().insert(header::LOCATION, location);
                Ok(response)
            }
            Err(refused @ Refused::Denied(Denied::Unauthenticated)) => {
                let says = "That token does not count for this address.";
                Ok(refused.with_headers(page::sign_in(StatusCode::UNAUTHORIZED, to, Some(says))))
            }
            Err(refused) => Err(refused),
        }
    }

    /// Whether a token lets its bearer in to a tenant, by the same judgement as a request.
    fn judge(&self, token: &str, headers: &HeaderMap, host: &str, target: &Target) -> Result<Shown, Refused> {
        let known = self.ingress().daemon.now().ok_or(Refused::DaemonUnavailable)?;
        let credential = Credential::Bearer(token.to_owned());
        let asked = Asked { target, credential: &credential, method: &Method::GET, is_websocket: false, headers, host };
        let verify = |text: &str, key: &_| self.ingress().verified.token(text, key);
        let admitted = admit(&known, asked, &self.ingress().settings.origins, Timestamp::now(), verify);
        let Admitted { token, .. } = admitted.map_err(Refused::Denied)?;
        // Whoever is public lets everybody in, and a cookie for nothing would say that it counts.
        token.ok_or(Refused::Denied(Denied::Unauthenticated))
    }

    async fn read_form(&self, body: Incoming) -> Result<Bytes, Refused> {
        let limits = self.ingress().limits();
        let read = timeout(limits.head_time, Limited::new(body, MAX_FORM).collect()).await;
        let read = read.map_err(|_| Refused::Malformed(Rule::TooLate))?;
        Ok(read.map_err(|_| Refused::Malformed(Rule::TooLarge))?.to_bytes())
    }
}

/// The events of a start, as long as its place is held.
struct Events {
    events: mpsc::Receiver<Bytes>,
    _held: Held,
}

impl HttpBody for Events {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.events.poll_recv(cx).map(|event| event.map(|event| Ok(Frame::data(event))))
    }
}

fn is_form(headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    kind.split(';').next().is_some_and(|kind| kind.trim().eq_ignore_ascii_case("application/x-www-form-urlencoded"))
}

fn empty(status: StatusCode) -> Response<Body> {
    let mut response = Response::new(Empty::new().map_err(|never| match never {}).boxed_unsync());
    *response.status_mut() = status;
    response
}

/// For how long a token counts, in seconds.
fn left(shown: &Shown) -> i64 {
    shown.expires.duration_since(Timestamp::now()).as_secs().max(0)
}

/// Sets the cookie: for this very host, over TLS alone, out of reach of pages' scripts, and sent from elsewhere only as somebody
/// follows a link.
fn with_cookie(mut response: Response<Body>, token: &str, seconds: i64) -> Response<Body> {
    let cookie = format!("{}={token}; Path=/; Secure; HttpOnly; SameSite=Lax; Max-Age={seconds}", credential::NAME);
    if let Ok(cookie) = HeaderValue::from_str(&cookie) {
        response.headers_mut().insert(header::SET_COOKIE, cookie);
    }
    response
}
