//! Connections as they come in: who it is, what it speaks, where it wants to.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use rustix::net::sockopt::{set_tcp_nodelay, set_tcp_user_timeout};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    time::{sleep, timeout},
};

use super::{http, name_server, shared::Shared, tenants::Caller, tunnel};
use crate::{
    accounting::{account::Account, buffers},
    client::Client,
    policy::{
        Refusal, Rule,
        authority::{Authority, shown},
        decide::decide,
        in_force::InForce,
    },
    protocols::{
        client_hello::{self, MAX_BYTES},
        http_head,
    },
    proxy::{
        answer::{self, Language, say_and_drain},
        gathered::Gathered,
        relay::{End, Session},
        revocation::revoked,
    },
};

/// The port of name servers.
pub(crate) const NAMES: u16 = 53;

/// How long is waited where a connection cannot be accepted, as without a free descriptor.
const PAUSE: Duration = Duration::from_millis(50);

/// How much longer than `limits.stallTimeout` the kernel keeps what a client does not take: what the gateway sees waiting, it cuts
/// and counts itself.
const UNSEEN: Duration = Duration::from_secs(10);

/// How much is made room for at once, in bytes.
const PIECE: usize = 2 << 10;

/// Sets what each connection of a listener begins with: the kernel hands it on, without a call for each.
pub(crate) fn bound(listener: &TcpListener, stall: Duration) {
    // Small answers must not wait for one another.
    let _ = set_tcp_nodelay(listener, true);
    // What fits into the kernel's buffer waits there unseen: the kernel itself ends it.
    let unseen = u32::try_from((stall + UNSEEN).as_millis()).unwrap_or(u32::MAX);
    let _ = set_tcp_user_timeout(listener, unseen);
}

/// Accepts connections to a port until the end of the process, whatever goes wrong.
pub(crate) async fn accept(gateway: Arc<Shared>, listener: Arc<TcpListener>, port: u16) {
    loop {
        match listener.accept().await {
            Ok((stream, SocketAddr::V4(peer))) => admit(&gateway, stream, *peer.ip(), port),
            Ok(_) => {}
            Err(error) => {
                tracing::warn!(port, %error, "cannot accept a connection");
                sleep(PAUSE).await;
            }
        }
    }
}

/// Serves a connection on a task of its own, if it is a tenant's that has not too many.
fn admit(gateway: &Arc<Shared>, stream: TcpStream, peer: Ipv4Addr, port: u16) {
    let Ok(SocketAddr::V4(local)) = stream.local_addr() else { return };
    // Nobody's: it gets no answer.
    let Some(caller) = gateway.tenants.find(*local.ip(), peer) else { return };
    gateway.counters.accepted.inc();
    let client = match caller {
        Caller::Tenant(client) => client,
        Caller::Foreign(client) => {
            let tenant = client.name().clone();
            let destination = format!("a connection from {peer} to port {port}");
            return turn_away(gateway, &Refusal { tenant, destination, rule: Rule::ForeignAddress }, &stream, port);
        }
    };
    let limit = gateway.settings().limits.connections;
    let Some(place) = gateway.pools.connections.enter(client.name(), limit) else {
        let (tenant, destination) = (client.name().clone(), format!("a connection to port {port}"));
        return turn_away(gateway, &Refusal { tenant, destination, rule: Rule::OverLimit }, &stream, port);
    };
    let gateway = Arc::clone(gateway);
    let local = *local.ip();
    tokio::spawn(async move {
        let served = async {
            if port == NAMES {
                name_server::serve_stream(&gateway, &client, stream, local).await;
            } else {
                connection(Arc::clone(&gateway), client, stream, port).await;
            }
        };
        tokio::select! {
            () = served => {}
            () = place.called_back() => {
                gateway.counters.called_back.inc();
            }
        }
    });
}

/// Says why a connection is not served, as far as that goes without waiting.
fn turn_away(gateway: &Shared, refusal: &Refusal, stream: &TcpStream, port: u16) {
    gateway.refusals.note(refusal);
    let is_http = port == 80 || port == gateway.settings().proxy_port;
    let words = answer::bytes(refusal, if is_http { Language::Http } else { Language::Tls });
    if port != NAMES {
        let _ = stream.try_write(&words);
    }
}

/// What a connection begins with.
enum Beginning {
    Tls(Authority),
    Tunnel { to: Authority, after: Vec<u8> },
    Http(Gathered),
}

/// Why a connection goes no further.
struct Stop {
    language: Language,
    /// What is refused; `None` where the client went away.
    refused: Option<(Rule, String)>,
}

impl Stop {
    fn new(language: Language, rule: Rule, asked: &[u8]) -> Self {
        Self { language, refused: Some((rule, shown(asked))) }
    }

    fn gone() -> Self {
        Self { language: Language::Unknown, refused: None }
    }
}

async fn connection(gateway: Arc<Shared>, client: Arc<Client>, mut stream: TcpStream, port: u16) {
    let settings = gateway.settings();
    let (limits, may_be_encrypted) = (settings.limits, settings.encrypted_hello.contains(client.name()));
    let max_head = usize::try_from(limits.head.get()).unwrap_or(usize::MAX);
    let mut read = Read { account: Arc::clone(&client.account), bytes: Gathered::default() };
    let begun =
        timeout(limits.handshake_timeout.get(), begin(&mut stream, &mut read, port, max_head, may_be_encrypted)).await;
    let Read { bytes, .. } = &mut read;
    let late = || match language_of(bytes.as_ref()) {
        // Whoever asks for nothing is refused nothing.
        _ if bytes.as_ref().is_empty() => Err(Stop::gone()),
        language => Err(Stop::new(language, Rule::TooLate, format!("a connection to port {port}").as_bytes())),
    };
    let (to, begun, language) = match begun.unwrap_or_else(|_| late()) {
        Err(Stop { refused: None, .. }) => return,
        Err(Stop { refused: Some((rule, destination)), language }) => {
            let refusal = Refusal { tenant: client.name().clone(), destination, rule };
            return refuse(&gateway, &mut stream, &refusal, language).await;
        }
        Ok(Beginning::Http(begun)) => {
            let Some(_memory) = client.account.memory(buffers::HTTP) else {
                let destination = format!("a connection to port {port}");
                let refusal = Refusal { tenant: client.name().clone(), destination, rule: Rule::OverLimit };
                return refuse(&gateway, &mut stream, &refusal, Language::Http).await;
            };
            return http::serve(gateway, client, stream, begun, port).await;
        }
        Ok(Beginning::Tls(to)) => (to, std::mem::take(bytes.bytes()), Language::Tls),
        Ok(Beginning::Tunnel { to, after }) => (to, after, Language::Http),
    };
    match gateway.dial(&client, &to).await {
        Err(refusal) => refuse(&gateway, &mut stream, &refusal, language).await,
        Ok((far, rule)) => {
            let counts = Arc::new(gateway.usage.begin(client.name(), &rule));
            let session = Session { account: Arc::clone(&client.account), counts, limits: gateway.limits() };
            let admission = tunnel::Admission { time: limits.handshake_timeout.get(), may_be_encrypted };
            let admission = (language == Language::Http).then_some(admission);
            relay(&gateway, &client, to, &session, (stream, begun), far, admission).await;
        }
    }
}

async fn relay(
    gateway: &Shared,
    client: &Client,
    to: Authority,
    session: &Session,
    (mut near, mut begun): (TcpStream, Vec<u8>),
    mut far: TcpStream,
    admission: Option<tunnel::Admission>,
) {
    const ESTABLISHED: &[u8] = b"HTTP/1.1 200 Connection established\r\n\r\n";
    if admission.is_some() && near.write_all(ESTABLISHED).await.is_err() {
        return;
    }
    let (mut from_client, to_client) = near.split();
    let first = async {
        if let Some(admission) = admission {
            admission.admit(&mut from_client, &mut begun, &to.host).await?;
        }
        Ok((from_client, begun))
    };
    let revoked = revoked(client.in_force.changes(), |now: &InForce| decide(&now.policy, &to).is_ok());
    match session.relay(first, to_client, &mut far, Vec::new(), revoked).await {
        End::Revoked => {
            gateway.counters.cut.inc();
        }
        End::Refused(rule) => {
            let refusal = Refusal { tenant: client.name().clone(), destination: to.to_string(), rule };
            refuse(gateway, &mut near, &refusal, Language::Tls).await;
        }
        End::Closed | End::Broken | End::Idle | End::Stalled => {}
    }
}

async fn refuse(gateway: &Shared, stream: &mut TcpStream, refusal: &Refusal, language: Language) {
    gateway.refusals.note(refusal);
    say_and_drain(stream, &answer::bytes(refusal, language)).await;
}

/// What bytes look like, for an answer.
fn language_of(bytes: &[u8]) -> Language {
    match bytes.first() {
        Some(_) if client_hello::looks_like_tls(bytes) => Language::Tls,
        Some(first) if first.is_ascii_uppercase() => Language::Http,
        _ => Language::Unknown,
    }
}

/// What was read of a tenant's connection.
struct Read {
    account: Arc<Account>,
    bytes: Gathered,
}

impl Read {
    fn bytes(&self) -> &[u8] {
        self.bytes.as_ref()
    }

    async fn more(&mut self, stream: &mut TcpStream) -> Result<(), Stop> {
        if !self.bytes.make_room(&self.account, PIECE) {
            let line = self.bytes().split(|b| matches!(b, b'\r' | b'\n')).next().unwrap_or_default();
            return Err(Stop::new(language_of(self.bytes()), Rule::OverLimit, line));
        }
        match stream.read_buf(self.bytes.bytes()).await {
            Ok(0) | Err(_) => Err(Stop::gone()),
            Ok(_) => Ok(()),
        }
    }
}

/// Reads until it is clear what a connection is.
async fn begin(
    stream: &mut TcpStream,
    read: &mut Read,
    port: u16,
    max_head: usize,
    may_be_encrypted: bool,
) -> Result<Beginning, Stop> {
    // Nothing is reserved for a connection that says nothing.
    stream.readable().await.map_err(|_| Stop::gone())?;
    read.more(stream).await?;
    match language_of(read.bytes()) {
        Language::Tls => read_hello(stream, read, port, may_be_encrypted).await,
        Language::Http => read_head(stream, read, max_head).await,
        Language::Unknown => {
            Err(Stop::new(Language::Unknown, Rule::UnknownProtocol, format!("a connection to port {port}").as_bytes()))
        }
    }
}

async fn read_hello(
    stream: &mut TcpStream,
    read: &mut Read,
    port: u16,
    may_be_encrypted: bool,
) -> Result<Beginning, Stop> {
    let stop = |rule| Stop::new(Language::Tls, rule, format!("TLS on port {port}").as_bytes());
    loop {
        match client_hello::parse(read.bytes()).map_err(stop)? {
            Some(hello) => {
                let name = hello.judged_name(may_be_encrypted).map_err(stop)?;
                let host = name.ok_or_else(|| stop(Rule::UnknownProtocol))?;
                return Ok(Beginning::Tls(Authority { host, port }));
            }
            None if read.bytes().len() >= MAX_BYTES => return Err(stop(Rule::MalformedHello)),
            None => read.more(stream).await?,
        }
    }
}

/// Reads the first head, and lets all of HTTP but tunnels be read by who serves it.
async fn read_head(stream: &mut TcpStream, read: &mut Read, max_head: usize) -> Result<Beginning, Stop> {
    let mut looked_at = 0;
    let length = loop {
        let bytes = read.bytes();
        let line = || bytes.split(|b| matches!(b, b'\r' | b'\n')).next().unwrap_or_default();
        match http_head::end(bytes, looked_at).map_err(|rule| Stop::new(Language::Http, rule, line()))? {
            Some(length) => break length,
            None if bytes.len() > max_head => return Err(Stop::new(Language::Http, Rule::HeadTooLarge, line())),
            None => {}
        }
        looked_at = bytes.len();
        read.more(stream).await?;
    };
    let bytes = read.bytes.bytes();
    if !bytes.starts_with(b"CONNECT ") {
        return Ok(Beginning::Http(std::mem::take(&mut read.bytes)));
    }
    let after = bytes.split_off(length);
    let to = tunnel(bytes).map_err(|(rule, asked)| Stop::new(Language::Http, rule, &asked))?;
    Ok(Beginning::Tunnel { to, after })
}

/// Where a request for a tunnel wants to. Its Host must say the same.
fn tunnel(bytes: &[u8]) -> Result<Authority, (Rule, Vec<u8>)> {
    let line = bytes.split(|b| *b == b'\r').next().unwrap_or_default().to_vec();
    let head = http_head::parse(bytes).map_err(|rule| (rule, line))?;
    let to = Authority::parse(&head.target, None).map_err(|rule| (rule, head.target.clone().into_bytes()))?;
    let host = head.host.as_deref().map(|host| Authority::parse(host, Some(to.port))).transpose();
    match host {
        Ok(host) if host.as_ref().is_none_or(|host| *host == to) => Ok(to),
        Ok(_) => Err((Rule::NameDiffers, format!("{to} (Host: {})", head.host.unwrap_or_default()).into_bytes())),
        Err(rule) => Err((rule, head.host.unwrap_or_default().into_bytes())),
    }
}
