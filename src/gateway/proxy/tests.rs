//! The core as an ingress would use it: a host name says whose a connection is, a switch whether it may go on, and no
//! address of a network has a say.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use http_body_util::BodyExt;
use hyper::{Request, Response, body::Incoming, header::HOST};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex},
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinHandle,
};

use super::{
    answer::{self, Body},
    gathered::Gathered,
    headers,
    limits::Limits,
    metered::Metered,
    relay::{End, Session},
    revocation::revoked,
    server::{Answer, Service, serve},
    upgrade,
    upstreams::{Connection, Upstreams, exchange},
    wire::Wire,
};
use crate::{
    accounting::{account::Account, limits::Pools, usage::Usage},
    model::TenantName,
    policy::{Refusal, Rule},
};

const LONG: Duration = Duration::from_secs(30);

fn limits(idle: Duration) -> Limits {
    Limits { head: 8 << 10, head_time: LONG, idle, stall: LONG, bandwidth: None }
}

/// A tenant's app: it says on which connection it was asked for what, or echoes what follows a WebSocket's head.
async fn app() -> (SocketAddr, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, heads) = (listener.local_addr().unwrap(), Arc::new(Mutex::new(Vec::new())));
    let log = Arc::clone(&heads);
    tokio::spawn(async move {
        for connection in 0.. {
            let (stream, _) = listener.accept().await.unwrap();
            tokio::spawn(answers(stream, connection, Arc::clone(&log)));
        }
    });
    (address, heads)
}

async fn answers(mut stream: TcpStream, connection: usize, log: Arc<Mutex<Vec<String>>>) {
    loop {
        let head = head(&mut stream).await;
        if head.is_empty() {
            return;
        }
        let is_websocket = head.contains("upgrade: websocket");
        log.lock().unwrap().push(head);
        if is_websocket {
            let agreed = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
            stream.write_all(agreed).await.unwrap();
            let (mut reader, mut writer) = stream.split();
            let _ = tokio::io::copy(&mut reader, &mut writer).await;
            return;
        }
        let answer = format!("HTTP/1.1 200 OK\r\nKeep-Alive: timeout=5\r\nContent-Length: 1\r\n\r\n{connection}");
        stream.write_all(answer.as_bytes()).await.unwrap();
    }
}

async fn head(stream: &mut (impl AsyncReadExt + Unpin)) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_) => break,
        }
    }
    String::from_utf8(head).unwrap()
}

/// Connections that are kept, by tenant and app.
type Kept = Arc<Upstreams<(TenantName, SocketAddr), Metered<Incoming>>>;

/// What answers on one connection, for one tenant.
struct Ingress {
    account: Arc<Account>,
    app: SocketAddr,
    is_open: watch::Receiver<Arc<bool>>,
    usage: Usage,
    kept: Kept,
    idle: Duration,
}

impl Ingress {
    async fn pass(&self, mut request: Request<Incoming>) -> Result<Answer, Rule> {
        let client = upgrade::offered(&mut request);
        let counts = Arc::new(self.usage.begin(self.account.tenant(), "app"));
        headers::strip(request.headers_mut());
        if client.is_some() {
            headers::upgrade(request.headers_mut());
        }
        let request = request.map(|body| Metered::sent(body, Arc::clone(&counts)));
        let open = async {
            let stream = TcpStream::connect(self.app).await.map_err(|_| Rule::Unreachable)?;
            let wire = Wire::new(stream, Arc::clone(&self.account), LONG);
            let seen = wire.seen();
            Connection::open(wire, seen, 8 << 10).await
        };
        let key = (self.account.tenant().clone(), self.app);
        let exchanged = exchange(|| self.kept.take(&key), open, request, Some(LONG), || {}).await;
        let (mut answer, connection) = exchanged.map_err(|failed| failed.rule)?;
        let from = connection.seen();
        if let (Some(client), Some(app)) = (client, upgrade::agreed(&mut answer)) {
            let session = Session { account: Arc::clone(&self.account), counts, limits: limits(self.idle) };
            let revoked = revoked(self.is_open.clone(), |is_open: &bool| *is_open);
            let relay = Box::pin(async move {
                let _connection = connection;
                upgrade::relay::<DuplexStream>(client, app, session, Box::pin(revoked)).await
            });
            let mut headers = answer.headers().clone();
            headers::strip(&mut headers);
            return Ok(Answer { response: upgrade::switching(headers), from, account: None, relay: Some(relay) });
        }
        let (mut head, body) = answer.into_parts();
        headers::strip(&mut head.headers);
        let body = self.kept.answered(Metered::received(body, counts), &self.account, key, connection);
        Ok(Answer { response: Response::from_parts(head, body.boxed_unsync()), from, account: None, relay: None })
    }
}

impl Service for Ingress {
    async fn answer(&self, request: Request<Incoming>) -> Answer {
        let host = request.headers().get(HOST).map(|host| host.as_bytes().to_vec()).unwrap_or_default();
        match self.pass(request).await {
            Ok(answer) => answer,
            Err(rule) => self.refuse(rule, &host).into(),
        }
    }

    fn refuse(&self, rule: Rule, line: &[u8]) -> Response<Body> {
        let destination = String::from_utf8_lossy(line).into_owned();
        answer::response(&Refusal { tenant: self.account.tenant().clone(), destination, rule })
    }

    async fn revoked(&self) {
        revoked(self.is_open.clone(), |is_open: &bool| *is_open).await;
    }
}

struct World {
    app: SocketAddr,
    heads: Arc<Mutex<Vec<String>>>,
    pools: Arc<Pools>,
    usage: Usage,
    kept: Kept,
    open: watch::Sender<Arc<bool>>,
}

impl World {
    async fn new() -> Self {
        let (app, heads) = app().await;
        let pools = Arc::new(Pools::new(1 << 14));
        pools.serve(&["ant", "bee"].into_iter().map(|name| name.parse().unwrap()).collect());
        let (usage, kept, (open, _)) = (Usage::default(), Upstreams::new(), watch::channel(Arc::new(true)));
        Self { app, heads, pools, usage, kept, open }
    }

    /// A connection that begins with this, for the tenant that the first label of its host names.
    async fn connect(&self, begun: &str, idle: Duration) -> (DuplexStream, JoinHandle<End>) {
        let tenant = begun.split("Host: ").nth(1).and_then(|rest| rest.split('.').next()).unwrap();
        let account = Arc::new(Account::new(tenant.parse().unwrap(), Arc::clone(&self.pools)));
        let (near, far) = duplex(1 << 16);
        let mut gathered = Gathered::default();
        assert!(gathered.add(&account, begun.as_bytes()));
        let ingress = Ingress {
            account: Arc::clone(&account),
            app: self.app,
            is_open: self.open.subscribe(),
            usage: self.usage.clone(),
            kept: Arc::clone(&self.kept),
            idle,
        };
        (near, tokio::spawn(serve(far, gathered, account, limits(idle), Arc::new(ingress))))
    }

    /// Asks once on a connection of its own. Returns the head of the answer, and on which connection the app was asked.
    async fn ask(&self, host: &str) -> (String, String) {
        let request = format!("GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close, x-mine\r\nX-Mine: 1\r\n\r\n");
        let (mut client, served) = self.connect(&request, LONG).await;
        let head = head(&mut client).await;
        let mut body = String::new();
        client.read_to_string(&mut body).await.unwrap();
        assert_eq!(served.await.unwrap(), End::Closed);
        (head, body)
    }
}

fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async { tokio::time::timeout(LONG, test).await.unwrap() });
}

const WEBSOCKET: &str = "GET / HTTP/1.1\r\nHost: ant.example\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";

#[test]
fn a_host_name_leads_to_an_account_and_no_tenant_gets_anothers_connection() {
    run(async {
        let world = World::new().await;
        let (head, first) = world.ask("ant.example").await;
        assert!(head.starts_with("HTTP/1.1 200") && !head.contains("eep-"), "{head}");
        let (_, again) = world.ask("ant.example").await;
        let (_, other) = world.ask("bee.example").await;
        assert_eq!([first, again, other], ["0", "0", "1"], "which of the app's connections");
        for head in world.heads.lock().unwrap().iter() {
            assert!(!head.contains("x-mine") && !head.contains("close"), "{head}");
        }
        let totals = world.usage.totals();
        let counted = totals.iter().map(|((tenant, _), count)| (tenant.as_str(), count.requests, count.received));
        assert_eq!(counted.collect::<Vec<_>>(), [("ant", 2, 2), ("bee", 1, 1)]);
    });
}

#[test]
fn a_connection_in_another_protocol_is_metered_and_cut_when_it_may_not_go_on() {
    run(async {
        let world = World::new().await;
        let (mut client, served) = world.connect(WEBSOCKET, LONG).await;
        assert!(head(&mut client).await.starts_with("HTTP/1.1 101"));
        client.write_all(b"hello").await.unwrap();
        let mut echoed = [0; 5];
        client.read_exact(&mut echoed).await.unwrap();
        assert_eq!(&echoed, b"hello");
        world.open.send_replace(Arc::new(false));
        assert_eq!(client.read(&mut echoed).await.unwrap(), 0);
        assert_eq!(served.await.unwrap(), End::Revoked);
        let totals = world.usage.totals().into_values().map(|count| (count.requests, count.sent, count.received));
        assert_eq!(totals.collect::<Vec<_>>(), [(1, 5, 5)]);
    });
}

#[test]
fn a_request_that_waits_is_cut_when_it_may_not_go_on() {
    run(async {
        let world = World::new().await;
        let (mut client, served) = world.connect("GET / HTTP/1.1\r\nHost: ant.example\r\n\r\n", LONG).await;
        assert!(head(&mut client).await.starts_with("HTTP/1.1 200"));
        world.open.send_replace(Arc::new(false));
        assert_eq!(served.await.unwrap(), End::Revoked);
    });
}

#[test]
fn what_carries_nothing_ends_before_and_after_an_upgrade() {
    run(async {
        let world = World::new().await;
        for begun in ["GET / HTTP/1.1\r\nHost: ant.example\r\n\r\n", WEBSOCKET] {
            let (mut client, served) = world.connect(begun, Duration::from_millis(500)).await;
            assert!(head(&mut client).await.starts_with("HTTP/1.1 "));
            assert_eq!(served.await.unwrap(), End::Idle, "{begun}");
        }
    });
}

#[test]
fn a_request_that_can_be_read_in_two_ways_never_reaches_a_service() {
    run(async {
        let world = World::new().await;
        let begun = "GET / HTTP/1.1\r\nHost: ant.example\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n";
        let (mut client, _served) = world.connect(begun, LONG).await;
        assert!(head(&mut client).await.starts_with("HTTP/1.1 400"));
        assert!(world.heads.lock().unwrap().is_empty());
    });
}
