//! What the daemon tells ingress, whom it wakes for it, and tokens.

use std::{
    env, fs,
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    os::{fd::AsRawFd, unix::fs::PermissionsExt},
    path::{Path, PathBuf},
    process::{self, Command},
    thread::{self, sleep},
    time::{Duration, Instant},
};

use rustix::{
    io::{FdFlags, fcntl_setfd},
    process::Signal,
};
use tenantd::{
    model::{
        Entry, Power, PowerReason, TenantName, Token,
        ingress::{Closed, IngressState, Reachable, StateContent},
        token::Right,
    },
    web::{
        Client, ClientError, RefusalKind,
        ingress::{ReadState, Wake},
    },
};

use super::{Daemon, object};
use crate::signatures::Key;

/// The file of a tenant that exposes a port.
pub(super) const EXPOSE: &str = "expose: [{port: 8080, path: /healthz}]\n";

/// How long a question waits for news.
const PARKED: Duration = Duration::from_secs(3);

/// The settings of a host with an ingress, whose tenants' networks end in a namespace of that name.
fn settings(daemon: &Daemon, namespace: &str, more: &str) -> String {
    let folder = daemon.folder().display();
    let ingress = format!(
        "listen: [\"127.0.0.1:8080\"], domain: agents.example.com, user: nobody, socket: {folder}/ingress-daemon/daemon.sock, state: {folder}/ingress"
    );
    let egress = format!("namespace: {namespace}, policies: {folder}/egress, state: {folder}/gateway, user: daemon");
    format!("ingress: {{{ingress}}}\negress: {{{egress}}}\n{more}")
}

/// What the kernel has of tenants' networks on a real host: the namespace that they end in, and their bridges. All goes at
/// the end.
pub(super) struct Kernel {
    namespace: String,
    bridges: Vec<String>,
}

impl Kernel {
    /// That of some tenants; the namespace has the name of the first one.
    fn with(daemon: &Daemon, tenants: &[&str]) -> Self {
        daemon.ask(&["gateway", "--prepare"]).with(0);
        let bridge = |tenant: &&str| {
            let bridge = tenant.parse::<TenantName>().unwrap().interface_name();
            ip(&["link", "add", &bridge, "type", "bridge"]);
            fs::write(format!("/proc/sys/net/ipv6/conf/{bridge}/disable_ipv6"), "1").unwrap();
            ip(&["link", "set", &bridge, "up"]);
            bridge
        };
        Self { namespace: tenants[0].to_owned(), bridges: tenants.iter().map(bridge).collect() }
    }
}

impl Drop for Kernel {
    fn drop(&mut self) {
        self.bridges.iter().for_each(|bridge| ip(&["link", "delete", bridge]));
        ip(&["netns", "delete", &self.namespace]);
    }
}

pub(super) fn ip(words: &[&str]) {
    let output = Command::new("ip").args(words).output().unwrap();
    assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// Set where a test runs in a network namespace of its own.
const INSIDE: &str = "TENANTD_TEST_OWN_NETWORK";

/// Whether this is so for the test that asks. It is run there, to its end, where not: its bridges and links would be seen by
/// the daemons of all other tests, who take away what is none of theirs.
pub(super) fn is_in_a_network_of_its_own() -> bool {
    if env::var_os(INSIDE).is_some() {
        return true;
    }
    let name = thread::current().name().unwrap().to_owned();
    let mut command = Command::new("unshare");
    command.args(["--net", "--mount", "--"]).arg(env::current_exe().unwrap()).args(["--exact", &name, "--nocapture"]);
    let status = command.env(INSIDE, "1").status().unwrap();
    assert!(status.success(), "{name} fails in a network of its own");
    false
}

/// A name that no other test uses, since names of namespaces are the whole machine's.
pub(super) fn unique(name: &str) -> String {
    format!("{name}-{}", process::id())
}

impl Daemon {
    /// One with an ingress, which has made these tenants; the first one exposes a port.
    fn with_ingress(tenants: &[&str], more: &str) -> (Self, Kernel) {
        Self::exposing(tenants, &tenants[..1], EXPOSE, more)
    }

    /// One with an ingress, which has made these tenants, some of which have further lines.
    pub(super) fn exposing(tenants: &[&str], exposed: &[&str], lines: &str, more: &str) -> (Self, Kernel) {
        let mut daemon = Self::stopped(tenants, "");
        daemon.settings(&settings(&daemon, tenants[0], more));
        let kernel = Kernel::with(&daemon, exposed);
        exposed.iter().for_each(|tenant| daemon.tenant(tenant, lines));
        daemon.push();
        daemon.start();
        daemon.settled();
        (daemon, kernel)
    }

    fn ingress_socket(&self) -> PathBuf {
        self.folder().join("ingress-daemon/daemon.sock")
    }

    /// What ingress is told that has this version.
    fn told(&self, after: Option<&str>) -> IngressState {
        told(&self.ingress_socket(), after).unwrap()
    }

    pub(super) fn content(&self) -> StateContent {
        self.told(None).content.unwrap()
    }

    fn reachable(&self, tenant: &str) -> Reachable {
        self.content().tenants[tenant].clone()
    }

    /// Waits until what is told of a tenant is so, and returns it.
    #[track_caller]
    pub(super) fn reachable_as(&self, tenant: &str, is_so: impl Fn(&Reachable) -> bool) -> Reachable {
        self.wait(&format!("{tenant} is told otherwise"), || Some(self.reachable(tenant)).filter(&is_so))
    }

    fn wake(&self, tenant: &str) -> Result<(), ClientError> {
        self.wake_beside(tenant, None)
    }

    /// The same, while other tenants have requests in hand.
    pub(super) fn wake_beside(&self, tenant: &str, in_hand: Option<&[&str]>) -> Result<(), ClientError> {
        let in_hand = in_hand.map(|names| names.iter().map(|name| name.parse().unwrap()).collect());
        let (socket, call) = (self.ingress_socket(), Wake { tenant: tenant.to_owned(), in_hand });
        runtime().block_on(async { Client::new(&socket).call(&call).await.map(drop) })
    }

    /// Why a tenant is not woken.
    #[track_caller]
    fn not_woken(&self, tenant: &str, kind: RefusalKind) -> String {
        let Err(ClientError::Refused(refusal)) = self.wake(tenant) else { panic!("{tenant} is woken") };
        assert_eq!(refusal.kind, kind, "{refusal:?}");
        refusal.message
    }

    pub(super) fn power_records(&self, tenant: &str) -> Vec<(Power, bool)> {
        let of = |record: tenantd::model::Record| match record.entry {
            Entry::Power { tenant: name, power, reason, .. } if name == tenant => {
                Some((power, reason == PowerReason::Wake))
            }
            _ => None,
        };
        self.records().into_iter().filter_map(of).collect()
    }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

fn told(socket: &Path, after: Option<&str>) -> Result<IngressState, ClientError> {
    let call = ReadState { after: after.map(str::to_owned) };
    runtime().block_on(async { Client::new(socket).call(&call).await })
}

#[test]
fn a_request_wakes_who_is_paused_or_asleep_once_however_many_ask() {
    if !is_in_a_network_of_its_own() {
        return;
    }
    let (ant, bee) = (unique("wake"), unique("other"));
    let (daemon, _kernel) = Daemon::with_ingress(&[&ant, &bee], "");
    let first = daemon.reachable_as(&ant, |one| one.running);
    assert_eq!(daemon.content().tenants.len(), 1, "who exposes nothing is not told of");
    assert_eq!(first.ports[&8080].path.as_ref().unwrap().as_str(), "/healthz");
    assert_eq!((first.power, first.closed), (Power::Running, None));
    assert_eq!(first.container.as_deref(), Some(daemon.id(&object(&ant)).as_str()));
    let head = daemon.head();
    daemon.wake(&ant).unwrap();
    assert_eq!(daemon.head(), head, "one that runs is left as it is");

    for (put, power) in [("pause", Power::Paused), ("sleep", Power::Asleep)] {
        daemon.ask(&[put, &ant]).with(0);
        let is_there = power == Power::Paused;
        let resting = daemon.reachable_as(&ant, |one| !one.running && one.address.is_some() == is_there);
        assert_eq!(resting.power, power);
        if is_there {
            daemon.wait("it is frozen", || (daemon.state(&object(&ant)) == "paused").then_some(()));
        }
        thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| daemon.wake(&ant).unwrap());
            }
        });
        let woken = daemon.reachable_as(&ant, |one| one.running);
        assert_eq!((daemon.state(&object(&ant)).as_str(), woken.power), ("running", Power::Running));
        assert_eq!(woken.address, first.address, "its own address");
        assert_eq!(woken.container == first.container, is_there, "a new container after it was asleep");
        daemon.settled();
    }
    let (asked, woken) = (false, true);
    let expected = [(Power::Paused, asked), (Power::Running, woken), (Power::Asleep, asked), (Power::Running, woken)];
    assert_eq!(daemon.power_records(&ant), expected);
    let events = daemon.ask(&["events", "--tenant", &ant]).with(0).out;
    assert!(events.contains("running, since a request came for it"), "{events}");
    daemon.converged();
}

#[test]
fn who_is_suspended_blocked_or_exposes_nothing_is_not_woken() {
    if !is_in_a_network_of_its_own() {
        return;
    }
    let (ant, bee) = (unique("closed"), unique("plain"));
    let (daemon, _kernel) = Daemon::with_ingress(&[&ant, &bee], "ceilings: {memory: 1GiB}");
    daemon.ask(&["pause", &ant]).with(0);
    daemon.reachable_as(&ant, |one| one.power == Power::Paused && !one.running);
    daemon.wait("it is frozen", || (daemon.state(&object(&ant)) == "paused").then_some(()));
    daemon.ask(&["suspend", &ant, "--reason", "look", "--until", "1h"]).with(0);
    assert_eq!(daemon.reachable_as(&ant, |one| one.closed.is_some()).closed, Some(Closed::Suspended));
    assert!(daemon.not_woken(&ant, RefusalKind::Conflict).contains("is suspended"));
    daemon.ask(&["resume", &ant]).with(0);
    daemon.reachable_as(&ant, |one| one.closed.is_none());

    daemon.settings(&settings(&daemon, &ant, "ceilings: {memory: 1MiB}"));
    daemon.signal(Signal::HUP);
    daemon.reachable_as(&ant, |one| one.closed == Some(Closed::Blocked));
    assert!(daemon.not_woken(&ant, RefusalKind::Conflict).contains("is blocked: above-ceiling"));
    for other in [&bee, "nobody", "Not a name"] {
        daemon.not_woken(other, RefusalKind::NotFound);
    }
    sleep(Duration::from_millis(300));
    assert_eq!(daemon.state(&object(&ant)), "paused");
    assert_eq!(daemon.power_records(&ant).len(), 1);
}

/// A new tenant whose limits nobody has approved.
#[test]
fn who_waits_for_an_approval_is_held_and_not_woken() {
    if !is_in_a_network_of_its_own() {
        return;
    }
    let (ant, bee) = (unique("held"), unique("new"));
    let (mut daemon, _kernel) = Daemon::with_ingress(&[&ant], "");
    let ada = Key::new(daemon.folder(), "ada", &["-t", "ed25519"]).public();
    let approvals = format!(
        "verify: {{mode: none, signers: [{{name: ada, key: {ada:?}}}]}}\n\
         approvals: {{fleet: prod, approvers: [ada], needed: [{{loosenings: [limit]}}]}}\n"
    );
    daemon.settings(&settings(&daemon, &ant, &approvals));
    daemon.restart();
    daemon.settled();
    daemon.tenant(&bee, &format!("limits: {{memory: 400MiB}}\n{EXPOSE}"));
    daemon.push();
    let is_closed = |one: &&Reachable| one.closed.is_some();
    let held = daemon.wait("it is held", || daemon.content().tenants.get(bee.as_str()).filter(is_closed).cloned());
    assert_eq!((held.closed, held.running, held.container), (Some(Closed::Held), false, None));
    assert!(daemon.not_woken(&bee, RefusalKind::Conflict).contains("is held"));
    daemon.ask(&["sleep", &bee]).with(0);
    daemon.reachable_as(&bee, |one| one.power == Power::Asleep && one.closed == Some(Closed::Held));
    assert!(daemon.not_woken(&bee, RefusalKind::Conflict).contains("is held"));
    assert_eq!(daemon.power_records(&bee), [(Power::Asleep, false)]);
    assert_eq!(daemon.state(&object(&bee)), "", "nothing of it was made");

    // Nobody has to approve it any more.
    daemon.settings(&settings(&daemon, &ant, ""));
    daemon.restart();
    daemon.wait("it is held no more", || {
        let content = told(&daemon.ingress_socket(), None).ok()?.content?;
        content.tenants.get(bee.as_str()).filter(|one| one.closed.is_none()).map(drop)
    });
    daemon.wake(&bee).unwrap();
    daemon.reachable_as(&bee, |one| one.power == Power::Running);
    assert_eq!(daemon.power_records(&bee).last(), Some(&(Power::Running, true)));
}

#[test]
fn who_has_the_newest_state_waits_for_another_one() {
    if !is_in_a_network_of_its_own() {
        return;
    }
    let ant = unique("park");
    let (mut daemon, _kernel) = Daemon::with_ingress(&[&ant], "");
    daemon.reachable_as(&ant, |one| one.running);
    daemon.proved();
    let version = daemon.told(None).version;
    let begun = Instant::now();
    let same = daemon.told(Some(&version));
    assert_eq!((same.version.as_str(), same.content), (version.as_str(), None));
    assert!(begun.elapsed() >= PARKED && begun.elapsed() < PARKED * 2, "{:?}", begun.elapsed());

    let socket = daemon.ingress_socket();
    let waits = thread::spawn({
        let version = version.clone();
        move || (told(&socket, Some(&version)).unwrap(), Instant::now())
    });
    sleep(Duration::from_millis(300));
    daemon.remove(&ant);
    let gone = Instant::now();
    let (news, came) = waits.join().unwrap();
    assert!(news.version != version && news.content.is_some());
    assert!(came.saturating_duration_since(gone) < Duration::from_secs(2), "{:?}", came - gone);
    daemon.reachable_as(&ant, |one| one.running);

    // A daemon that has begun anew says nothing before it knows, and what it says is another version.
    daemon.end(Signal::KILL);
    daemon.start();
    let state = daemon.wait("it knows", || told(&daemon.ingress_socket(), Some(&version)).ok());
    assert_ne!(state.version.split('-').next(), version.split('-').next());
    daemon.reachable_as(&ant, |one| one.running);
    daemon.stop();
}

#[test]
fn a_token_is_made_shown_once_and_revoked() {
    let mut daemon = Daemon::stopped(&["ant", "bee"], "");
    daemon.settings(&settings(&daemon, &unique("tokens"), ""));
    daemon.tenant("ant", EXPOSE);
    daemon.push();
    daemon.start();
    let content = daemon.wait("ant exposes a port", || {
        let content = told(&daemon.ingress_socket(), None).ok()?.content?;
        content.tenants.contains_key("ant").then_some(content)
    });

    let made = daemon.ask(&["token", "ant", "--for", "1h", "--may", "http"]).with(0);
    let text = made.out.strip_suffix('\n').unwrap();
    assert!(!text.contains(char::is_whitespace), "the token alone: {text:?}");
    let token = Token::verify(text, &content.key).unwrap();
    assert_eq!((token.tenant.as_str(), token.may.iter().collect::<Vec<_>>()), ("ant", vec![&Right::Http]));
    let id = token.id.as_str();
    assert!(made.err.contains(id) && made.err.contains(&token.expires.to_string()), "{}", made.err);
    let json = daemon.ask(&["token", "ant", "--for", "1h", "--format", "json"]).with(0).out;
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    let other = Token::verify(json["token"].as_str().unwrap(), &content.key).unwrap();
    assert_eq!(json["id"], other.id.as_str());
    assert_ne!(other.id, token.id);
    assert!(!content.revoked.contains(&token.id));

    let refused = |arguments: &[&str], part: &str| {
        let error = daemon.ask(arguments).with(1).err;
        assert!(error.contains(part), "{error}");
    };
    refused(&["token", "bee", "--for", "1h"], "exposes no port");
    refused(&["token", "cat", "--for", "1h"], "there is no tenant");
    refused(&["token", "ant", "--for", "31d"], "30 days at most");
    refused(&["token", "ant", "--for", "soon"], "--for takes a time");

    daemon.ask(&["token", "ant", "--revoke", id]).with(0);
    let revoked = Instant::now();
    daemon.wait("it counts no more", || daemon.content().revoked.contains(&token.id).then_some(()));
    assert!(revoked.elapsed() < Duration::from_secs(1), "{:?}", revoked.elapsed());
    assert!(!daemon.content().revoked.contains(&other.id));
    daemon.ask(&["token", "ant", "--revoke", id]).with(0);
    let is_revoked = |record: &tenantd::model::Record| matches!(record.entry, Entry::TokenRevoked { .. });
    assert_eq!(daemon.records().iter().filter(|record| is_revoked(record)).count(), 1, "it was revoked already");
    let key = daemon.host.data_root.join("ingress.key");
    assert_eq!(fs::metadata(&key).unwrap().permissions().mode() & 0o777, 0o600);

    let events = daemon.ask(&["events", "--tenant", "ant"]).with(0).out;
    assert!(events.contains(&format!("{id} made for http until")), "{events}");
    assert!(events.contains(&format!("{id} revoked (by")), "{events}");
    // Nothing that could be used is kept anywhere: neither what is signed nor the signature.
    let (claims, signature) = text.strip_prefix("tdt_").unwrap().split_once('.').unwrap();
    let mut kept = vec![daemon.log(), fs::read_to_string(daemon.host.data_root.join("state.json")).unwrap()];
    for file in fs::read_dir(daemon.journal()).unwrap() {
        kept.push(fs::read_to_string(file.unwrap().path()).unwrap());
    }
    assert!(kept.iter().any(|text| text.contains(id)));
    assert!(!kept.iter().any(|text| text.contains(claims) || text.contains(signature)));

    for signal in [Signal::KILL, Signal::TERM] {
        daemon.end(signal);
        daemon.start();
        let content = daemon.wait("it knows", || told(&daemon.ingress_socket(), None).ok()?.content);
        assert!(content.revoked.contains(&token.id) && !content.revoked.contains(&other.id));
        assert_eq!(Token::verify(text, &content.key), Ok(token.clone()), "the key is the same");
    }
    daemon.verified();
}

#[test]
fn without_an_ingress_there_are_no_tokens() {
    let daemon = Daemon::running(&["ant"]);
    let error = daemon.ask(&["token", "ant", "--for", "1h"]).with(1).err;
    assert!(error.contains("this host has no ingress"), "{error}");
    assert!(!daemon.host.data_root.join("ingress.key").exists() && !daemon.ingress_socket().exists());
}

/// An ingress that begins with a socket that systemd would hold for it.
pub(super) fn activated(daemon: &Daemon, listener: &TcpListener) -> Command {
    fcntl_setfd(listener, FdFlags::empty()).unwrap();
    let itself = daemon.cli.command(&["ingress"]);
    let script = format!("exec 3<&{}; LISTEN_PID=$$ exec \"$0\" \"$@\"", listener.as_raw_fd());
    let mut command = Command::new("bash");
    command.args(["-c", &script]).arg(itself.get_program()).args(itself.get_args()).env("LISTEN_FDS", "1");
    command.stderr(fs::File::create(daemon.folder().join("ingress.log")).unwrap());
    command
}

#[test]
fn whoever_connects_while_the_ingress_restarts_is_served_by_the_next_one() {
    if !is_in_a_network_of_its_own() {
        return;
    }
    ip(&["link", "set", "lo", "up"]);
    let ant = unique("restart");
    let daemon = Daemon::stopped(&[&ant], "");
    daemon.settings(&settings(&daemon, &ant, ""));
    let _kernel = Kernel::with(&daemon, &[&ant]);
    let listener = TcpListener::bind("127.0.0.1:8080").unwrap();
    let ask = || {
        let mut stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        stream.write_all(b"GET / HTTP/1.1\r\nHost: x.agents.example.com\r\nConnection: close\r\n\r\n").unwrap();
        stream
    };
    let answered = |mut stream: TcpStream| {
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        // There is no daemon; it is the ingress that says so.
        assert!(answer.starts_with("HTTP/1.1 503 ") && answer.contains("daemon-unavailable"), "{answer}");
    };
    for _ in 0..3 {
        // It comes while nobody is there.
        let early = ask();
        let mut ingress = activated(&daemon, &listener).spawn().unwrap();
        answered(early);
        answered(ask());
        ingress.kill().unwrap();
        ingress.wait().unwrap();
    }
    let other = TcpListener::bind("127.0.0.1:0").unwrap();
    let ended = activated(&daemon, &other).status().unwrap();
    let log = fs::read_to_string(daemon.folder().join("ingress.log")).unwrap();
    assert!(!ended.success() && log.contains("which ingress.listen does not have"), "{log}");
}
