//! What the daemon serves, over real sockets: who is let in, what is answered, what is bounded.
//!
//! A small loop stands in for the daemon behind the server.

use std::{
    collections::BTreeSet,
    env, fs,
    io::{self, Read, Write},
    net::{SocketAddr, TcpStream},
    os::unix::{
        fs::{MetadataExt, PermissionsExt},
        net::{UnixListener, UnixStream},
    },
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard},
    thread,
    time::{Duration, Instant},
};

use hmac::{Hmac, KeyInit, Mac};
use nix::sched::{CloneFlags, unshare};
use rustix::{
    process::{Gid, Uid},
    thread::{set_thread_gid, set_thread_groups, set_thread_uid},
};
use serde_json::{Value, json};
use sha2::Sha256;
use tempfile::TempDir;
use tenantd::{
    metrics::Metrics,
    model::{
        Host, Power, Status,
        host::{Ingress, Listen, Secret, Source},
        ingress::{IngressState, Waking},
        status::Suspension,
    },
    web::{
        self, Asked, Call, Client, ClientError, Refusal, Request, Server, Settings,
        ingress::{InHandNoted, IngressPeer},
        operators::{
            Approve, Approved, MintToken, Minted, Operator, PowerSet, ReadStatus, Reconcile, Reconciling, Resume,
            Resumed, RevokeToken, Revoked, SetPower, Suspend, Suspended, TokenText,
        },
    },
};
use tokio::sync::{mpsc, oneshot};

use crate::statuses;

const TOKEN: &str = "a-long-token";
const SECRET: &str = "a-webhook-secret";

/// The user and group called nobody and nogroup on Debian.
pub const NOBODY: u32 = 65_534;

/// What the loop knows and was asked.
pub struct Inner {
    pub status: Status,
    pub asked: Vec<String>,
    /// It takes requests and answers none.
    pub is_mute: bool,
}

/// A server with a loop behind it, until it is dropped.
pub struct Daemon {
    pub folder: TempDir,
    pub host: Host,
    pub address: Option<SocketAddr>,
    pub settings: Settings,
    inner: Arc<Mutex<Inner>>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<thread::JoinHandle<()>>,
}

/// Settings with a socket in a folder that everybody may enter.
pub fn host() -> (TempDir, Host) {
    let folder = tempfile::tempdir().unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let host = Host { socket: folder.path().join("tenantd.sock"), ..Host::default() };
    (folder, host)
}

fn secret(folder: &TempDir, name: &str, text: &str) -> Secret {
    let path = folder.path().join(name);
    fs::write(&path, text).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    Secret::File(path)
}

fn source(webhook_secret: Option<Secret>) -> Source {
    Source { webhook_secret, ..Source::new("/srv/fleet.git") }
}

impl Daemon {
    /// On a socket alone.
    pub fn new() -> Self {
        let (folder, host) = host();
        Self::of(folder, host)
    }

    /// On loopback as well, with a webhook.
    fn on_loopback() -> Self {
        let (folder, mut host) = host();
        let token = secret(&folder, "token", &format!("{TOKEN}\n"));
        host.listen = Some(Listen { address: "127.0.0.1:0".parse().unwrap(), token });
        host.source = Some(source(Some(secret(&folder, "webhook", SECRET))));
        Self::of(folder, host)
    }

    fn of(folder: TempDir, host: Host) -> Self {
        let server = Server::bind(&host).unwrap();
        let (address, settings) = (server.address(), server.settings());
        let inner = Arc::new(Mutex::new(Inner { status: statuses::fine(), asked: Vec::new(), is_mute: false }));
        let (stop, stopped) = oneshot::channel();
        let loop_inner = Arc::clone(&inner);
        let thread = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let (handle, requests) = web::channel();
                let shutdown = async {
                    let _ = stopped.await;
                };
                let answering = tokio::spawn(answer(requests, loop_inner));
                server.run(handle, Metrics::new(), shutdown).await.unwrap();
                answering.abort();
            });
        });
        Self { folder, host, address, settings, inner, stop: Some(stop), thread: Some(thread) }
    }

    pub fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap()
    }

    fn connect(&self) -> UnixStream {
        UnixStream::connect(&self.host.socket).unwrap()
    }

    fn dial(&self) -> TcpStream {
        TcpStream::connect(self.address.unwrap()).unwrap()
    }

    fn get(&self, path: &str) -> Answer {
        exchange(self.connect(), &request("GET", path, &[], ""))
    }

    fn post(&self, path: &str, body: &Value) -> Answer {
        exchange(self.connect(), &request("POST", path, &[], &body.to_string()))
    }

    /// A request over TCP with these headers.
    fn over_tcp(&self, method: &str, path: &str, headers: &[(&str, &str)]) -> Answer {
        exchange(self.dial(), &request(method, path, headers, ""))
    }

    fn end(&mut self) {
        if let Some(stop) = self.stop.take() {
            let _ = stop.send(());
        }
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.end();
    }
}

async fn answer(mut requests: mpsc::Receiver<Request>, inner: Arc<Mutex<Inner>>) {
    let mut unanswered = Vec::new();
    while let Some(request) = requests.recv().await {
        let mut inner = inner.lock().unwrap();
        if inner.is_mute {
            unanswered.push(request);
            continue;
        }
        match request {
            Request::Operator(call) => answer_operator(call, &mut inner),
            Request::Ingress(IngressPeer::ReadState(Asked { call, reply, .. })) => {
                let version = call.after.unwrap_or_else(|| "e-1".to_owned());
                let _ = reply.send(Ok(IngressState { version, content: None }));
            }
            Request::Ingress(IngressPeer::Wake(Asked { call, by, reply })) => {
                inner.asked.push(format!("wake {} by {by}", call.tenant));
                let _ = reply.send(Ok(Waking { tenant: call.tenant.parse().unwrap() }));
            }
            Request::Ingress(IngressPeer::ReportInHand(Asked { call, by, reply })) => {
                let names = call.in_hand.iter().flatten().map(ToString::to_string).collect::<Vec<_>>().join(", ");
                inner.asked.push(format!("in hand {names} by {by}"));
                let _ = reply.send(Ok(InHandNoted {}));
            }
            Request::Health { reply } => drop(reply.send(Ok(inner.status.conditions.clone()))),
            Request::Fetch => inner.asked.push("fetch".to_owned()),
        }
    }
}

fn answer_operator(call: Operator, inner: &mut Inner) {
    let unknown = |tenant: &str| Refusal::not_found(format!("there is no tenant {tenant:?}"));
    let position = |inner: &Inner, tenant: &str| inner.status.tenants.iter().position(|t| t.tenant == tenant);
    match call {
        Operator::ReadStatus(Asked { call, reply, .. }) => {
            let mut status = inner.status.clone();
            let found = call.tenant.map_or(Ok(()), |tenant| {
                status.tenants.retain(|t| t.tenant == tenant);
                if status.tenants.is_empty() { Err(unknown(&tenant)) } else { Ok(()) }
            });
            let _ = reply.send(found.map(|()| status));
        }
        Operator::Suspend(Asked { call: Suspend { tenant, reason, until }, by, reply }) => {
            inner.asked.push(format!("suspend {tenant} by {by}: {reason}"));
            let answer = match position(inner, &tenant) {
                Some(index) => {
                    let suspension = Suspension { reason: reason.clone(), until, by: by.clone() };
                    inner.status.tenants[index].suspended = Some(suspension);
                    Ok(Suspended { tenant, reason, until, by })
                }
                None => Err(unknown(&tenant)),
            };
            let _ = reply.send(answer);
        }
        Operator::Resume(Asked { call: Resume { tenant }, by, reply }) => {
            inner.asked.push(format!("resume {tenant} by {by}"));
            let suspended = position(inner, &tenant).and_then(|i| inner.status.tenants[i].suspended.take());
            let answer = suspended.map(|_| Resumed { tenant, by });
            let _ = reply.send(answer.ok_or_else(|| Refusal::conflict("it is not suspended")));
        }
        Operator::SetPower(Asked { call: SetPower { tenant, power, until }, by, reply }) => {
            let shown = until.map_or_else(String::new, |until| format!(" until {until}"));
            inner.asked.push(format!("{} {tenant}{shown} by {by}", power.as_str()));
            let answer = position(inner, &tenant).ok_or_else(|| unknown(&tenant));
            let _ = reply.send(answer.map(|_| PowerSet { tenant, power, until, by }));
        }
        Operator::Approve(Asked { call: Approve { plan }, by, reply }) => {
            inner.asked.push(format!("approve {plan} by {by}"));
            let held = inner.status.source.held.take_if(|held| held.plan.as_deref() == Some(&plan));
            let answer = held.map(|held| Approved { plan, revision: held.revision, by });
            let _ = reply.send(answer.ok_or_else(|| Refusal::not_found("no held commit has that plan")));
        }
        Operator::MintToken(Asked { call: MintToken { tenant, may, expires }, by, reply }) => {
            let (id, token) = ("k3q7wz2m5xab".parse().unwrap(), TokenText("tdt_x.y".to_owned()));
            let _ = reply.send(Ok(Minted { tenant, id, token, may, expires, by }));
        }
        Operator::RevokeToken(Asked { call: RevokeToken { tenant, id }, by, reply }) => {
            inner.asked.push(format!("revoke {id} by {by}"));
            let _ = reply.send(Ok(Revoked { tenant, id, by }));
        }
        Operator::Reconcile(Asked { call: Reconcile { tenant }, by, reply }) => {
            inner.asked.push(format!("reconcile {} by {by}", tenant.as_deref().unwrap_or("all")));
            let _ = reply.send(Ok(Reconciling { tenant }));
        }
    }
}

/// An answer as it came over the wire.
#[derive(Debug)]
struct Answer {
    status: u16,
    head: String,
    body: String,
}

impl Answer {
    #[track_caller]
    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|e| panic!("{e}: {self:?}"))
    }

    #[track_caller]
    fn error(&self) -> String {
        self.json()["error"].as_str().unwrap().to_owned()
    }
}

fn request(method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> String {
    let mut text = format!("{method} {path} HTTP/1.1\r\n");
    if !headers.iter().any(|(name, _)| *name == "Host") {
        text.push_str("Host: localhost\r\n");
    }
    for (name, value) in headers {
        text.push_str(&format!("{name}: {value}\r\n"));
    }
    text.push_str(&format!("Content-Length: {}\r\n\r\n{body}", body.len()));
    text
}

fn exchange(mut stream: impl Read + Write, request: &str) -> Answer {
    stream.write_all(request.as_bytes()).unwrap();
    read(stream)
}

/// Reads until the server closes, which it does after each answer.
#[track_caller]
fn read(mut stream: impl Read) -> Answer {
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).unwrap();
    let text = String::from_utf8(bytes).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no answer: {text:?}"));
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    Answer { status, head: head.to_ascii_lowercase(), body: body.to_owned() }
}

/// Connects as another user and does something with what comes of it, on a thread of its own.
///
/// It begins beside the socket's folder, whose mode then counts as it should: nobody but root may be
/// let through the folders above.
fn as_user<T: Send + 'static>(
    uid: u32,
    gid: u32,
    socket: &Path,
    work: impl FnOnce(io::Result<UnixStream>) -> T + Send + 'static,
) -> T {
    let outside = socket.parent().and_then(Path::parent).unwrap().to_owned();
    let socket = socket.strip_prefix(&outside).unwrap().to_owned();
    let thread = thread::spawn(move || {
        // So that the folder it works in is this thread's alone.
        unshare(CloneFlags::CLONE_FS).unwrap();
        env::set_current_dir(outside).unwrap();
        set_thread_groups(&[]).unwrap();
        set_thread_gid(Gid::from_raw(gid)).unwrap();
        set_thread_uid(Uid::from_raw(uid)).unwrap();
        work(UnixStream::connect(socket))
    });
    thread.join().unwrap()
}

fn connects_as(uid: u32, gid: u32, socket: &Path) -> bool {
    as_user(uid, gid, socket, |connected| connected.is_ok())
}

fn sign(secret: &str, body: &[u8]) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).unwrap();
    mac.update(body);
    let digest: String = mac.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256={digest}")
}

fn wait_for(mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !holds() {
        assert!(Instant::now() < deadline, "it never came to hold");
        thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn the_socket_is_for_root_alone_unless_a_group_is_named() {
    let daemon = Daemon::new();
    let metadata = fs::metadata(&daemon.host.socket).unwrap();
    assert_eq!((metadata.mode() & 0o7777, metadata.uid()), (0o600, 0));
    assert!(connects_as(0, 0, &daemon.host.socket));
    assert!(!connects_as(NOBODY, NOBODY, &daemon.host.socket));

    let (folder, mut host) = host();
    host.socket = folder.path().join("run/tenantd/tenantd.sock");
    host.socket_group = Some("nogroup".to_owned());
    let daemon = Daemon::of(folder, host);
    let made = fs::metadata(daemon.host.socket.parent().unwrap()).unwrap();
    assert_eq!((made.mode() & 0o7777, made.uid(), made.gid()), (0o750, 0, NOBODY));
    let metadata = fs::metadata(&daemon.host.socket).unwrap();
    assert_eq!((metadata.mode() & 0o7777, metadata.uid(), metadata.gid()), (0o660, 0, NOBODY));
    assert!(connects_as(NOBODY, NOBODY, &daemon.host.socket));
    assert!(!connects_as(NOBODY, 1, &daemon.host.socket), "it is not in the group");

    // Who asks is known by the kernel, whatever they say.
    let answer = as_user(NOBODY, NOBODY, &daemon.host.socket, |connected| {
        exchange(connected.unwrap(), &request("POST", "/v1/reconcile", &[], ""))
    });
    assert_eq!(answer.status, 202);
    assert_eq!(daemon.inner().asked, ["reconcile all by nobody"]);
}

#[test]
fn a_socket_without_a_group_is_roots_whatever_mode_somebody_gives_it() {
    let daemon = Daemon::new();
    fs::set_permissions(&daemon.host.socket, fs::Permissions::from_mode(0o666)).unwrap();
    for (method, path) in [("GET", "/v1/status"), ("POST", "/v1/reconcile"), ("GET", "/metrics"), ("GET", "/none")] {
        let answer = as_user(NOBODY, NOBODY, &daemon.host.socket, move |connected| {
            exchange(connected.unwrap(), &request(method, path, &[], ""))
        });
        assert_eq!((answer.status, answer.error()), (403, "this socket is root's alone".to_owned()), "{path}");
    }
    assert_eq!(daemon.get("/v1/status").status, 200);
    assert_eq!(daemon.inner().asked.len(), 0);
}

/// Settings with an ingress whose user is nobody.
fn host_with_ingress() -> (TempDir, Host) {
    let (folder, mut host) = host();
    let listen = vec!["127.0.0.1:8080".parse().unwrap()];
    host.ingress = Some(Ingress {
        user: "nobody".to_owned(),
        socket: folder.path().join("ingress.sock"),
        ..Ingress::new(listen, "agents.example.com".parse().unwrap())
    });
    (folder, host)
}

#[test]
fn ingress_has_calls_of_its_own_on_a_socket_that_only_its_user_and_root_may_use() {
    let (folder, host) = host_with_ingress();
    let daemon = Daemon::of(folder, host);
    let socket = daemon.host.ingress.as_ref().unwrap().socket.clone();
    let metadata = fs::metadata(&socket).unwrap();
    assert_eq!((metadata.mode() & 0o7777, metadata.uid(), metadata.gid()), (0o660, 0, NOBODY));
    let ask = |uid: u32, method: &'static str, path: &'static str| {
        as_user(uid, NOBODY, &socket, move |connected| exchange(connected.unwrap(), &request(method, path, &[], "")))
    };
    for uid in [NOBODY, 0] {
        for (method, path, sent) in [
            ("get", "/v1/state", "/v1/state"),
            ("get", "/v1/state/{after}", "/v1/state/e-7"),
            ("post", "/v1/tenants/{tenant}/wake", "/v1/tenants/ant/wake"),
        ] {
            let answer = ask(uid, if method == "get" { "GET" } else { "POST" }, sent).json();
            let place = ["paths", path, method, "responses", "200", "content", "application/json", "schema"];
            judge(&schema("ingress.json"), &place, &answer);
            assert!(
                ["e-1", "e-7"].map(Value::from).contains(&answer["version"]) || answer["tenant"] == "ant",
                "{answer}"
            );
        }
        for path in ["/v1/status", "/metrics", "/healthz"] {
            assert_eq!(ask(uid, "GET", path).status, 404, "{path}");
        }
        assert_eq!(ask(uid, "POST", "/v1/tenants/ant/tokens").status, 404);
        let in_hand = |body: &'static str| {
            let request = request("POST", "/v1/in-hand", &[], body);
            as_user(uid, NOBODY, &socket, move |connected| exchange(connected.unwrap(), &request))
        };
        assert_eq!(in_hand(r#"{"in_hand": ["ant", "bee"]}"#).json(), json!({}));
        assert_eq!(in_hand(r#"{"in_hand": ["Not a name"]}"#).status, 422);
    }
    // Another user of its group, and one of no group, whatever mode somebody gives it.
    for path in ["/v1/state", "/v1/none"] {
        assert_eq!(ask(1, "GET", path).status, 403, "{path}");
    }
    for path in ["/v1/tenants/ant/wake", "/v1/in-hand"] {
        assert_eq!(ask(1, "POST", path).status, 403, "{path}");
    }
    assert!(!connects_as(1, 1, &socket));
    let asked = ["wake ant by nobody", "in hand ant, bee by nobody", "wake ant by root", "in hand ant, bee by root"];
    assert_eq!(daemon.inner().asked, asked);
    for path in ["/v1/state", "/v1/tenants/ant/wake", "/v1/in-hand"] {
        assert_eq!(daemon.get(path).status, 404, "{path} is not for operators");
    }
}

#[test]
fn without_an_ingress_there_is_no_socket_for_it_and_without_its_user_there_is_no_daemon() {
    let (folder, mut host) = host_with_ingress();
    host.ingress.as_mut().unwrap().user = "no-such-user".to_owned();
    let error = Server::bind(&host).unwrap_err();
    assert_eq!(error.to_string(), "there is no user \"no-such-user\" on this host");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0, "nothing is left");
    host.ingress = None;
    let daemon = Daemon::of(folder, host);
    let left = fs::read_dir(daemon.folder.path()).unwrap().map(|entry| entry.unwrap().file_name());
    assert_eq!(left.collect::<Vec<_>>(), ["tenantd.sock"]);
}

#[test]
fn a_group_that_does_not_exist_is_an_error_and_leaves_nothing() {
    let (folder, mut host) = host();
    host.socket_group = Some("no-such-group".to_owned());
    let error = Server::bind(&host).unwrap_err();
    assert_eq!(error.to_string(), "there is no group \"no-such-group\" on this host");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn a_socket_is_taken_from_the_dead_and_never_from_the_living() {
    let (folder, host) = host();
    // What a killed daemon leaves: the name, and nobody behind it.
    drop(UnixListener::bind(&host.socket).unwrap());
    fs::write(folder.path().join("tenantd.sock.new"), "").unwrap();
    let mut daemon = Daemon::of(folder, host);
    assert_eq!(daemon.get("/healthz").status, 200);

    let error = Server::bind(&daemon.host).unwrap_err();
    let shown = daemon.host.socket.display().to_string();
    let expected =
        format!("another tenantd already listens on {shown}; a second one on a host needs another socket in host.yaml");
    assert_eq!(error.to_string(), expected);
    assert_eq!(daemon.get("/healthz").status, 200, "the first one is not touched");

    daemon.end();
    assert_eq!(fs::read_dir(daemon.folder.path()).unwrap().count(), 0, "nothing is left");

    fs::write(&daemon.host.socket, "a file").unwrap();
    let error = Server::bind(&daemon.host).unwrap_err();
    assert_eq!(error.to_string(), format!("{shown} is in the way: it is not a socket"));
    assert_eq!(fs::read_to_string(&daemon.host.socket).unwrap(), "a file");
}

#[test]
fn at_its_end_a_daemon_leaves_the_socket_of_its_successor() {
    let mut daemon = Daemon::new();
    fs::remove_file(&daemon.host.socket).unwrap();
    let successor = UnixListener::bind(&daemon.host.socket).unwrap();
    daemon.end();
    assert!(UnixStream::connect(&daemon.host.socket).is_ok());
    drop(successor);
}

#[test]
fn a_path_that_is_none_for_a_socket_is_refused() {
    let (folder, host) = host();
    for path in [PathBuf::from("tenantd.sock"), folder.path().join("x".repeat(100))] {
        let error = Server::bind(&Host { socket: path, ..host.clone() }).unwrap_err();
        assert!(error.to_string().contains("cannot be a socket's path"), "{error}");
    }
}

#[test]
fn each_request_reaches_the_daemon_and_its_refusals_come_back() {
    let daemon = Daemon::new();
    let all = daemon.get("/v1/status").json();
    assert_eq!(all["tenants"].as_array().unwrap().len(), 2);
    let one = daemon.get("/v1/status/ant").json();
    assert_eq!((one["tenants"].as_array().unwrap().len(), &one["tenants"][0]["tenant"]), (1, &json!("ant")));
    let none = daemon.get("/v1/status/c%20t");
    assert_eq!((none.status, none.error()), (404, "there is no tenant \"c t\"".to_owned()));
    assert_eq!((&none.json()["kind"], none.json().get("hint")), (&json!("not-found"), None));

    let until = jiff::Timestamp::now() + jiff::SignedDuration::from_hours(2);
    let answer = daemon.post("/v1/tenants/ant/suspend", &json!({"reason": "disk", "until": until}));
    assert_eq!((answer.status, &answer.json()["by"]), (200, &json!("root")));
    assert_eq!(daemon.get("/v1/status/ant").json()["tenants"][0]["suspended"]["reason"], "disk");
    assert_eq!(daemon.post("/v1/tenants/ant/resume", &Value::Null).status, 200);
    let asleep = daemon.post("/v1/tenants/ant/power", &json!({"power": "asleep", "until": until}));
    let expected = json!({"tenant": "ant", "power": "asleep", "until": until, "by": "root"});
    assert_eq!((asleep.status, asleep.json()), (200, expected));
    let again = daemon.post("/v1/tenants/ant/resume", &Value::Null);
    assert_eq!((again.status, again.error()), (409, "it is not suspended".to_owned()));
    assert_eq!(daemon.post("/v1/approve/none", &Value::Null).status, 404);
    daemon.inner().status = statuses::troubled();
    let approved = daemon.post("/v1/approve/4f2a9c1d", &Value::Null).json();
    assert_eq!(approved["revision"], format!("main@sha1:{}", "b".repeat(40)));
    assert_eq!(daemon.post("/v1/reconcile", &Value::Null).status, 202);
    assert_eq!(daemon.post("/v1/reconcile/ant", &Value::Null).status, 202);
    assert_eq!(
        daemon.inner().asked,
        [
            "suspend ant by root: disk",
            "resume ant by root",
            &format!("asleep ant until {until} by root"),
            "resume ant by root",
            "approve none by root",
            "approve 4f2a9c1d by root",
            "reconcile all by root",
            "reconcile ant by root",
        ]
    );
}

fn call<C: Call>(daemon: &Daemon, call: C) -> Result<C::Answer, ClientError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(Client::new(&daemon.host.socket).call(&call))
}

#[test]
fn the_client_makes_each_call_by_its_type() {
    let daemon = Daemon::new();
    daemon.inner().status = statuses::troubled();
    let until = jiff::Timestamp::now() + jiff::SignedDuration::from_hours(2);
    let (ant, reason, by) = ("ant".to_owned(), "disk: 100 % {full}".to_owned(), "root".to_owned());

    assert!(call(&daemon, ReadStatus { tenant: None }).unwrap().tenants.len() > 1);
    assert_eq!(call(&daemon, ReadStatus { tenant: Some(ant.clone()) }).unwrap().tenants.len(), 1);
    let suspended = call(&daemon, Suspend { tenant: ant.clone(), reason: reason.clone(), until }).unwrap();
    assert_eq!(suspended, Suspended { tenant: ant.clone(), reason, until, by: by.clone() });
    let resumed = call(&daemon, Resume { tenant: ant.clone() }).unwrap();
    assert_eq!(resumed, Resumed { tenant: ant.clone(), by: by.clone() });
    for until in [None, Some(until)] {
        let set = call(&daemon, SetPower { tenant: ant.clone(), power: Power::Paused, until }).unwrap();
        assert_eq!(set, PowerSet { tenant: ant.clone(), power: Power::Paused, until, by: by.clone() });
    }
    let approved = call(&daemon, Approve { plan: "4f2a9c1d".to_owned() }).unwrap();
    assert_eq!((approved.revision.commit, approved.by), ("b".repeat(40), by));
    for tenant in [None, Some("../c t/%2e?#{tenant}ä".to_owned())] {
        assert_eq!(call(&daemon, Reconcile { tenant: tenant.clone() }).unwrap(), Reconciling { tenant });
    }
    assert_eq!(daemon.inner().asked.last().unwrap(), "reconcile ../c t/%2e?#{tenant}ä by root");

    match call(&daemon, Resume { tenant: ant }).unwrap_err() {
        ClientError::Refused(refusal) => assert_eq!(refusal, Refusal::conflict("it is not suspended")),
        other => panic!("{other}"),
    }
}

/// Judges a value by the schema at a place of a document.
#[track_caller]
fn judge(document: &Value, place: &[&str], value: &Value) {
    let place: String = place.iter().map(|word| format!("/{}", word.replace('/', "~1"))).collect();
    let mut schema = document.pointer(&place).unwrap_or_else(|| panic!("nothing at {place}")).clone();
    schema["components"] = document["components"].clone();
    let validator = jsonschema::draft202012::new(&schema).unwrap();
    let errors: Vec<String> = validator.iter_errors(value).map(|e| format!("{}: {e}", e.instance_path())).collect();
    assert!(errors.is_empty(), "{place}: {errors:?}");
}

fn schema(name: &str) -> Value {
    web::schemas().into_iter().find_map(|(found, schema)| (found == name).then_some(schema)).unwrap()
}

#[test]
fn each_call_is_as_the_schema_says() {
    let document = schema("operators.json");
    let daemon = Daemon::new();
    daemon.inner().status = statuses::troubled();
    let until = jiff::Timestamp::now() + jiff::SignedDuration::from_hours(2);
    let suspension = json!({"reason": "disk", "until": until});
    let mut left: BTreeSet<&str> = document["paths"].as_object().unwrap().keys().map(String::as_str).collect();
    let content = ["content", "application/json", "schema"];
    for (method, path, status, body) in [
        ("get", "/v1/status", "200", &Value::Null),
        ("post", "/v1/tenants/{tenant}/suspend", "200", &suspension),
        ("get", "/v1/status/{tenant}", "200", &Value::Null),
        ("post", "/v1/tenants/{tenant}/resume", "200", &Value::Null),
        ("post", "/v1/tenants/{tenant}/power", "200", &json!({"power": "asleep"})),
        ("post", "/v1/tenants/{tenant}/tokens", "200", &json!({"may": ["http"], "expires": until})),
        ("post", "/v1/tenants/{tenant}/tokens/{id}/revoke", "200", &Value::Null),
        ("post", "/v1/approve/{plan}", "200", &Value::Null),
        ("post", "/v1/reconcile", "202", &Value::Null),
        ("post", "/v1/reconcile/{tenant}", "202", &Value::Null),
    ] {
        if !body.is_null() {
            judge(&document, &[&["paths", path, method, "requestBody"], &content[..]].concat(), body);
        }
        let sent = path.replace("{tenant}", "ant").replace("{plan}", "4f2a9c1d").replace("{id}", "k3q7wz2m5xab");
        let answer = exchange(daemon.connect(), &request(&method.to_uppercase(), &sent, &[], &body.to_string()));
        assert_eq!(answer.status.to_string(), status, "{path}: {answer:?}");
        judge(&document, &[&["paths", path, method, "responses", status], &content[..]].concat(), &answer.json());
        left.remove(path);
    }
    assert_eq!(left, BTreeSet::new(), "each call is tried");
    let refused = ["paths", "/v1/status/{tenant}", "get", "responses", "default"];
    judge(&document, &[&refused[..], &content[..]].concat(), &daemon.get("/v1/status/nobody").json());
}

#[test]
fn a_suspension_needs_a_reason_and_an_end_that_is_near() {
    let daemon = Daemon::new();
    let at = |hours: i64| (jiff::Timestamp::now() + jiff::SignedDuration::from_hours(hours)).to_string();
    for (body, error) in [
        (json!({"reason": "", "until": at(1)}), "a reason is needed"),
        (json!({"reason": " ", "until": at(1)}), "a reason is needed"),
        (json!({"reason": "x".repeat(501), "until": at(1)}), "longer than 500 characters"),
        (json!({"reason": "a\u{1b}[31m", "until": at(1)}), "control or invisible character"),
        (json!({"reason": "x", "until": at(-1)}), "is over"),
        (json!({"reason": "x", "until": at(24 * 31)}), "30 days at most"),
        (json!({"reason": "x"}), "missing field `until`"),
        (json!({"reason": "x", "until": "tomorrow"}), "the body is not"),
        (json!({"reason": "x", "until": at(1), "by": "someone"}), "unknown field `by`"),
        (json!({"reason": "x", "until": at(1), "tenant": "bee"}), "`tenant` is part of the path"),
        (json!("x"), "the body is not"),
    ] {
        let answer = daemon.post("/v1/tenants/ant/suspend", &body);
        assert_eq!(answer.status, 422, "{body}");
        assert!(answer.error().contains(error), "{answer:?}");
    }
    assert_eq!(daemon.inner().asked.len(), 0);
}

#[test]
fn what_is_not_served_is_an_error_in_json() {
    let daemon = Daemon::on_loopback();
    let token = format!("Bearer {TOKEN}");
    for path in ["/", "/v2/status", "/v1/statuses", "/v1/tenants/ant", "/../etc/passwd", "/%2e%2e/x"] {
        assert_eq!(daemon.get(path).error(), "there is nothing under this path", "{path}");
        let answer = daemon.over_tcp("GET", path, &[("Authorization", &token)]);
        assert_eq!((answer.status, answer.error().is_empty()), (404, false), "{path}");
    }
    for (method, path) in
        [("POST", "/v1/status"), ("GET", "/v1/reconcile"), ("DELETE", "/metrics"), ("GET", "/hooks/git")]
    {
        let answer = exchange(daemon.connect(), &request(method, path, &[], ""));
        assert_eq!((answer.status, answer.error().is_empty()), (405, false), "{method} {path}");
    }
}

#[test]
fn over_tcp_a_token_is_needed_and_nothing_can_be_changed() {
    let daemon = Daemon::on_loopback();
    let right = format!("Bearer {TOKEN}");
    let reading = ["/v1/status", "/v1/status/ant", "/metrics", "/healthz", "/readyz"];
    for path in reading {
        assert_eq!(daemon.over_tcp("GET", path, &[("Authorization", &right)]).status, 200, "{path}");
    }
    let changing = [
        "/v1/tenants/ant/suspend",
        "/v1/tenants/ant/resume",
        "/v1/tenants/ant/power",
        "/v1/approve/x",
        "/v1/reconcile",
        "/v1/reconcile/ant",
    ];
    for path in changing {
        let answer = daemon.over_tcp("POST", path, &[("Authorization", &right)]);
        assert_eq!(answer.status, 403, "{path}");
        assert!(answer.error().contains("unix socket alone"), "{answer:?}");
    }
    for path in reading.iter().chain(&changing).chain(&["/", "/no/such/path"]) {
        for wrong in ["", "Bearer", "Bearer ", "Bearer a-long-tokem", "Bearer a-long-token2", "Basic YTpi"] {
            for method in ["GET", "POST"] {
                let answer = daemon.over_tcp(method, path, &[("Authorization", wrong)]);
                assert_eq!(answer.status, 401, "{method} {path} {wrong:?}");
                assert!(answer.head.contains("www-authenticate: bearer"), "{answer:?}");
            }
        }
        assert_eq!(daemon.over_tcp("GET", path, &[]).status, 401, "{path}");
    }
    assert_eq!(daemon.inner().asked.len(), 0);
}

#[test]
fn over_tcp_only_names_of_this_host_are_answered() {
    let daemon = Daemon::on_loopback();
    let right = format!("Bearer {TOKEN}");
    for (host, status) in [
        ("localhost", 200),
        ("127.0.0.1:9469", 200),
        ("[::1]:9469", 200),
        ("rebound.example.com", 403),
        ("127.0.0.1.example.com", 403),
        ("192.168.0.1", 403),
        ("", 403),
    ] {
        let answer = daemon.over_tcp("GET", "/healthz", &[("Host", host), ("Authorization", &right)]);
        assert_eq!(answer.status, status, "{host:?}");
    }
    // The absolute form names a host as well.
    let answer = daemon.over_tcp("GET", "http://rebound.example.com/healthz", &[("Authorization", &right)]);
    assert_eq!(answer.status, 403);
}

#[test]
fn a_listener_that_others_could_reach_or_that_has_no_token_is_refused() {
    let (folder, host) = host();
    let of = |address: &str, token| {
        let listen = Some(Listen { address: address.parse().unwrap(), token });
        Server::bind(&Host { listen, ..host.clone() }).map(drop).unwrap_err().to_string()
    };
    let token = secret(&folder, "token", TOKEN);
    assert_eq!(of("0.0.0.0:0", token), "0.0.0.0:0 is not a loopback address");
    assert_eq!(of("127.0.0.1:0", secret(&folder, "empty", "\n")), "cannot use the token of listen");
    assert_eq!(of("127.0.0.1:0", Secret::File(folder.path().join("missing"))), "cannot use the token of listen");
    assert!(!host.socket.exists());
}

#[test]
fn new_secrets_count_from_the_next_request_on_and_unreadable_ones_never() {
    let daemon = Daemon::on_loopback();
    let status = |token: &str| {
        let bearer = format!("Bearer {token}");
        daemon.over_tcp("GET", "/healthz", &[("Authorization", &bearer)]).status
    };
    let mut host = daemon.host.clone();
    host.listen.as_mut().unwrap().token = secret(&daemon.folder, "next", "another-token");
    daemon.settings.update(&host).unwrap();
    assert_eq!((status(TOKEN), status("another-token")), (401, 200));

    host.listen.as_mut().unwrap().token = Secret::File(daemon.folder.path().join("missing"));
    daemon.settings.update(&host).unwrap_err();
    assert_eq!(status("another-token"), 200, "the former one stays in force");
    fs::remove_file(daemon.folder.path().join("next")).unwrap();
    assert_eq!((status("another-token"), status("")), (503, 503), "nobody is let in");

    host.listen = None;
    daemon.settings.update(&host).unwrap();
    assert_eq!((status("another-token"), status("")), (401, 401));
}

#[test]
fn the_hook_only_has_the_source_asked_for_news() {
    let daemon = Daemon::on_loopback();
    let body = "{\"ref\": \"refs/heads/main\", \"note\": \"häß\"}";
    let call = |headers: &[(&str, &str)], body: &str| {
        let [local, remote] =
            [request("POST", "/hooks/git", headers, body), request("POST", "/hooks/git", headers, body)];
        let answers = [exchange(daemon.connect(), &local).status, exchange(daemon.dial(), &remote).status];
        assert_eq!(answers[0], answers[1]);
        answers[0]
    };
    let right = sign(SECRET, body.as_bytes());
    for (headers, body) in [
        (vec![], body),
        (vec![("X-Hub-Signature-256", "sha256=00")], body),
        (vec![("X-Hub-Signature-256", right.as_str())], "{}"),
        (vec![("X-Hub-Signature-256", sign("guess", body.as_bytes()).leak())], body),
        (vec![("X-Gitlab-Token", "guess")], body),
        (vec![("X-Gitlab-Token", "")], body),
        (vec![("X-Hub-Signature-256", "sha256=00"), ("X-Gitlab-Token", SECRET)], body),
        (vec![("Authorization", "Bearer a-long-token")], body),
    ] {
        assert_eq!(call(&headers, body), 401, "{headers:?}");
    }
    thread::sleep(Duration::from_millis(50));
    assert_eq!(daemon.inner().asked.len(), 0);
    let calls = 20;
    for _ in 0..calls / 4 {
        assert_eq!(call(&[("X-Hub-Signature-256", &right)], body), 202);
        // Whatever name the forge calls it by, through a proxy.
        assert_eq!(call(&[("X-Gitlab-Token", SECRET), ("Host", "hooks.example.com")], "not json"), 202);
    }
    wait_for(|| !daemon.inner().asked.is_empty());
    let asked = daemon.inner().asked.clone();
    assert!(asked.iter().all(|request| request == "fetch"), "{asked:?}");
    assert!(asked.len() < calls, "calls that come together are merged: {asked:?}");
    // The last call is never lost: one that comes while the source was just asked is passed on later.
    let before = asked.len();
    assert_eq!(call(&[("X-Gitlab-Token", SECRET)], ""), 202);
    wait_for(|| daemon.inner().asked.len() > before);
}

#[test]
fn the_largest_call_of_a_forge_is_taken() {
    let daemon = Daemon::on_loopback();
    const LARGEST: usize = 25 << 20;
    let whole = |proof: &str, body: &str| {
        let length = body.len();
        format!("POST /hooks/git HTTP/1.1\r\nHost: localhost\r\n{proof}\r\nContent-Length: {length}\r\n\r\n{body}")
    };
    let chunked = |proof: &str, body: &str| {
        let mut text = format!("POST /hooks/git HTTP/1.1\r\nHost: x\r\n{proof}\r\nTransfer-Encoding: chunked\r\n\r\n");
        let mut left = body;
        while !left.is_empty() {
            let (part, rest) = left.split_at(left.len().min(1 << 20));
            text += &format!("{:x}\r\n{part}\r\n", part.len());
            left = rest;
        }
        text + "0\r\n\r\n"
    };
    let status = |text: &str| exchange(daemon.dial(), text).status;
    let body = "x".repeat(LARGEST + 1);
    let token = format!("X-Gitlab-Token: {SECRET}");
    assert_eq!(status(&whole(&token, &body[1..])), 202);
    assert_eq!(status(&chunked(&token, &body[1..])), 202);
    assert_eq!(status(&chunked(&token, &body)), 413);
    // A signature is of all that came, in whatever parts.
    let signed = &body[..3 << 20];
    let signature = format!("X-Hub-Signature-256: {}", sign(SECRET, signed.as_bytes()));
    assert_eq!(status(&whole(&signature, signed)), 202);
    assert_eq!(status(&chunked(&signature, signed)), 202);
    assert_eq!(status(&chunked(&signature, &signed[1..])), 401);
}

#[test]
fn without_a_secret_there_is_no_hook() {
    let daemon = Daemon::new();
    let signed = [("X-Hub-Signature-256", sign("", b"")), ("X-Gitlab-Token", String::new())];
    for (name, value) in signed {
        let answer = exchange(daemon.connect(), &request("POST", "/hooks/git", &[(name, &value)], ""));
        assert_eq!(answer.status, 404);
    }
}

#[test]
fn health_is_that_of_the_loop_and_readiness_that_of_its_work() {
    let daemon = Daemon::new();
    assert_eq!((daemon.get("/healthz").status, daemon.get("/readyz").status), (200, 200));
    daemon.inner().status = statuses::troubled();
    let ready = daemon.get("/readyz");
    assert_eq!((daemon.get("/healthz").status, ready.status), (200, 503));
    assert_eq!(ready.error(), "SourceUnavailable: the config repo has not answered for 12 minutes");
    daemon.inner().is_mute = true;
    let slow = thread::scope(|scope| {
        let asked = ["/healthz", "/readyz", "/v1/status", "/metrics"].map(|path| scope.spawn(|| daemon.get(path)));
        asked.map(|thread| thread.join().unwrap())
    });
    assert_eq!(slow.each_ref().map(|answer| answer.status), [503, 503, 503, 200]);
    assert_eq!(slow[0].error(), "the daemon did not answer within 2 s");
    assert!(slow[3].body.contains("tenantd_build_info"), "{slow:?}");
    assert!(!slow[3].body.contains("tenantd_tenants"), "what is not known is not printed");
}

#[test]
fn bodies_and_headers_are_bounded() {
    let daemon = Daemon::on_loopback();
    let large = "x".repeat(65 << 10);
    let announced = |path: &str, length: usize| {
        let head = format!("POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n\r\n");
        exchange(daemon.connect(), &head)
    };
    let chunked = format!(
        "POST /v1/tenants/ant/suspend HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n{:x}\r\n{large}\r\n",
        large.len()
    );
    for answer in [
        announced("/v1/tenants/ant/suspend", 100 << 10),
        exchange(daemon.connect(), &chunked),
        announced("/hooks/git", (25 << 20) + 1),
    ] {
        assert_eq!(answer.status, 413);
        assert!(answer.error().contains("the body is longer than"), "{answer:?}");
    }
    let many: Vec<(String, &str)> = (0..200).map(|number| (format!("X-{number}"), "y")).collect();
    let many: Vec<(&str, &str)> = many.iter().map(|(name, value)| (name.as_str(), *value)).collect();
    for headers in [&[("X-Long", large.as_str())][..], &many[..]] {
        assert_eq!(daemon.over_tcp("GET", "/healthz", headers).status, 431);
    }
    assert_eq!(daemon.get(&format!("/v1/status/{}", "x".repeat(20 << 10))).status, 431);
    assert_eq!(daemon.get("/healthz").status, 200);
}

#[test]
fn a_client_that_dawdles_is_let_go() {
    let daemon = Daemon::on_loopback();
    let dawdle = |begin: &'static str| {
        let mut stream = daemon.dial();
        move || {
            stream.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
            stream.write_all(begin.as_bytes()).unwrap();
            let mut answer = Vec::new();
            loop {
                // A byte now and then does not help.
                let gone = stream.write_all(b"x").is_err();
                let mut buffer = [0; 1024];
                match stream.read(&mut buffer) {
                    Ok(0) => return String::from_utf8(answer).unwrap(),
                    Ok(read) => answer.extend_from_slice(&buffer[..read]),
                    Err(e) if e.kind() == std::io::ErrorKind::WouldBlock && !gone => {}
                    Err(_) => return String::from_utf8(answer).unwrap(),
                }
            }
        }
    };
    let [nothing, headers, body] = [
        dawdle(""),
        dawdle("GET /healthz HTTP/1.1\r\nX-Slow: "),
        dawdle("POST /hooks/git HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100000\r\n\r\n"),
    ]
    .map(thread::spawn);
    let ends = [nothing, headers, body].map(|thread| thread.join().unwrap());
    assert!(!ends.iter().any(|end| end.contains(" 200 ") || end.contains(" 202 ")), "{ends:?}");
}

#[test]
fn two_hundred_at_once_are_all_served_and_nobody_is_kept_out_by_the_others() {
    let daemon = Daemon::on_loopback();
    // Idle clients on loopback hold up nobody on the socket.
    let idle: Vec<TcpStream> = (0..100).map(|_| daemon.dial()).collect();
    thread::scope(|scope| {
        let asked: Vec<_> = (0..200).map(|_| scope.spawn(|| daemon.get("/v1/status").status)).collect();
        assert!(asked.into_iter().all(|thread| thread.join().unwrap() == 200));
    });
    // Nor for long on loopback: their time is soon over.
    let right = format!("Bearer {TOKEN}");
    assert_eq!(daemon.over_tcp("GET", "/healthz", &[("Authorization", &right)]).status, 200);
    drop(idle);
}

/// Whatever one user's clients do, another user's are served.
#[test]
fn no_user_keeps_another_from_the_socket() {
    let (folder, mut host) = host();
    host.socket_group = Some("nogroup".to_owned());
    let daemon = Daemon::of(folder, host);
    let socket = daemon.host.socket.clone();
    let beside = socket.parent().unwrap().parent().unwrap().to_owned();
    let more = socket.strip_prefix(&beside).unwrap().to_owned();
    // More than are kept, none of which asks anything.
    let idle = as_user(NOBODY, NOBODY, &socket, move |first| {
        let others = (0..399).map_while(|_| UnixStream::connect(&more).ok());
        first.into_iter().chain(others).collect::<Vec<_>>()
    });
    assert!(idle.len() > 300, "{}", idle.len());
    for _ in 0..20 {
        assert_eq!(daemon.get("/v1/status").status, 200);
        assert_eq!(daemon.post("/v1/reconcile", &json!({})).status, 202);
    }
    // Those beyond what is kept are told.
    let printed = idle.into_iter().skip(256).take(20).map(|stream| {
        stream.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
        let mut text = String::new();
        let _ = (&stream).read_to_string(&mut text);
        text
    });
    let printed: Vec<String> = printed.filter(|text| !text.is_empty()).collect();
    assert!(
        printed.iter().any(|text| text.starts_with("HTTP/1.1 429") && text.contains("Retry-After: 1")),
        "{printed:?}"
    );
}

#[test]
fn the_end_waits_for_nobody_who_dawdles() {
    let mut daemon = Daemon::on_loopback();
    let (mut local, remote) = (daemon.connect(), daemon.dial());
    local.write_all(b"GET /healthz HTTP/1.1\r\n").unwrap();
    assert_eq!(daemon.get("/healthz").status, 200);
    daemon.end();
    assert!(!daemon.host.socket.exists());
    assert_eq!(local.read(&mut [0; 10]).unwrap_or(0), 0);
    drop(remote);
}

#[test]
fn metrics_are_openmetrics_and_name_no_tenant() {
    let daemon = Daemon::new();
    daemon.inner().status = statuses::troubled();
    let answer = daemon.get("/metrics");
    assert!(answer.head.contains("content-type: application/openmetrics-text; version=1.0.0"), "{answer:?}");
    let samples = openmetrics(&answer.body);
    let value = |name: &str| samples.iter().find(|(sample, _)| sample == name).map(|(_, value)| *value);
    for (name, expected) in [
        ("tenantd_tenants{state=\"ready\"}", 1.0),
        ("tenantd_tenants{state=\"suspended\"}", 1.0),
        ("tenantd_tenants{state=\"blocked\"}", 1.0),
        ("tenantd_tenants{state=\"drifted\"}", 1.0),
        ("tenantd_reconcile_condition{type=\"Ready\",status=\"True\"}", 2.0),
        ("tenantd_reconcile_condition{type=\"Ready\",status=\"Unknown\"}", 0.0),
        ("tenantd_engine_up", 1.0),
        ("tenantd_drift_total{kind=\"container\"}", 0.0),
        ("tenantd_corrections_total{why=\"drift\",result=\"failed\"}", 0.0),
        ("tenantd_engine_events_total{type=\"network\"}", 0.0),
        ("tenantd_source_fetches_total{result=\"failed\"}", 0.0),
        ("tenantd_revisions_total{verdict=\"held\"}", 0.0),
        ("tenantd_notifications_total{result=\"sent\"}", 0.0),
        ("tenantd_journal_records_total", 0.0),
        ("tenantd_journal_errors_total", 0.0),
        ("tenantd_reconcile_duration_seconds_count", 0.0),
        ("tenantd_full_pass_duration_seconds_bucket{le=\"+Inf\"}", 0.0),
    ] {
        assert_eq!(value(name), Some(expected), "{name}\n{}", answer.body);
    }
    for name in [
        "process_resident_memory_bytes",
        "process_open_fds",
        "process_start_time_seconds",
        "tenantd_source_last_fetch_timestamp_seconds",
    ] {
        assert!(value(name).is_some_and(|value| value > 0.0), "{name}");
    }
    assert!(value("process_cpu_seconds_total").is_some());
    let version = format!("tenantd_build_info{{version=\"{}\"}}", env!("CARGO_PKG_VERSION"));
    assert_eq!(value(&version), Some(1.0));
    for tenant in &statuses::troubled().tenants {
        assert!(!answer.body.contains(&format!("\"{}\"", tenant.tenant)), "{}", tenant.tenant);
    }
}

/// Reads the text form of OpenMetrics strictly: samples by their name and labels.
fn openmetrics(text: &str) -> Vec<(String, f64)> {
    let body = text.strip_suffix("# EOF\n").unwrap();
    let mut family = (String::new(), String::new());
    let mut families = Vec::new();
    let mut samples: Vec<(String, f64)> = Vec::new();
    for line in body.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            let name = rest.split_once(' ').unwrap().0.to_owned();
            assert!(!families.contains(&name), "{name} comes twice");
            families.push(name);
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').unwrap();
            assert_eq!(families.last().unwrap(), name);
            family = (name.to_owned(), kind.to_owned());
        } else {
            let (sample, value) = line.rsplit_once(' ').unwrap();
            let name = sample.split('{').next().unwrap();
            let suffix = name.strip_prefix(&family.0).unwrap_or_else(|| panic!("{line} is not of {family:?}"));
            let suffixes: &[&str] = match family.1.as_str() {
                "counter" => &["_total"],
                "gauge" => &[""],
                "info" => &["_info"],
                "histogram" => &["_bucket", "_count", "_sum"],
                other => panic!("{other}"),
            };
            assert!(suffixes.contains(&suffix), "{line}");
            assert!(!samples.iter().any(|(known, _)| known == sample), "{sample} comes twice");
            samples.push((sample.to_owned(), value.parse().unwrap()));
        }
    }
    samples
}
