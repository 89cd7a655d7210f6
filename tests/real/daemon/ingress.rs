//! Requests from outside: to tenants that run, are frozen or sleep, on a real engine with a real daemon and a real ingress.

use std::{
    fs,
    io::{Read, Write},
    net::TcpStream,
    path::Path,
    process::{Child, Command, Stdio},
    thread,
    time::Duration,
};

use super::{HOST, Service, TIMEOUT, itself, signal};
use crate::{
    engine::{succeed, text},
    fleet::{eventually, run},
    inside::inside_network,
};

/// Where it listens.
pub const PORT: u16 = 8089;

/// How many times each tenant is woken.
const ROUNDS: usize = 5;

/// An ingress that ends with its owner.
pub struct Ingress(Child);

impl Ingress {
    /// Starts it in the engine's namespaces, and waits until it is open.
    pub fn start(service: &Service) -> Self {
        let dir = service.fleet.engine.dir();
        let log = fs::OpenOptions::new().create(true).append(true).open(dir.join("ingress.log")).unwrap();
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL"]).args(&service.through).arg(env!("CARGO_BIN_EXE_tenantd"));
        command.arg("--host").arg(dir.join("host.yaml")).args(["ingress", "--log-format", "json"]);
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn().unwrap();
        let ingress = Self(child);
        eventually("the ingress is open", || {
            inside_network(&service.fleet.engine, || TcpStream::connect(("127.0.0.1", PORT)).is_ok())
        });
        ingress
    }
}

impl Drop for Ingress {
    fn drop(&mut self) {
        signal("KILL", itself(self.0.id()));
        let _ = self.0.wait();
    }
}

/// An answer: its status and its body.
type Answer = (u16, String);

/// Asks once, from the host that the engine is on.
fn ask(host: &str, path: &str, token: Option<&str>) -> Answer {
    let mut stream = TcpStream::connect(("127.0.0.1", PORT)).unwrap();
    stream.set_read_timeout(Some(TIMEOUT)).unwrap();
    let credential = token.map(|token| format!("Authorization: Bearer {token}\r\n")).unwrap_or_default();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {host}\r\n{credential}Connection: close\r\n\r\n").unwrap();
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    let answer = String::from_utf8_lossy(&answer).into_owned();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or_default();
    (status, body.to_owned())
}

/// Further settings of a host with an ingress, whose daemon runs in the engine's namespaces.
pub fn settings(dir: &Path) -> String {
    let dir = dir.display();
    format!(
        "egress: {{policies: {dir}/egress, user: nobody}}\n\
         ingress:\n  listen: [\"127.0.0.1:{PORT}\"]\n  domain: agents.example.com\n  access: public\n  user: daemon\n  \
         state: {dir}/ingress\n  socket: {dir}/ingress-daemon/daemon.sock\n  wakeTimeout: 60s\n"
    )
}

#[test]
fn a_request_wakes_its_tenant_once_and_is_delivered_once() {
    let mut service = Service::new("ingress", "");
    service.run_within();
    service.settings(&format!("{HOST}{}", settings(service.fleet.engine.dir())));
    succeed(service.fleet.engine.within(&["ip", "netns", "add", "tenantd"]));
    let gvisor = service.fleet.gvisor();
    service.fleet.declare("acme", "expose: [{port: 8080, path: /ready}]\n");
    service.fleet.declare("open", "expose: [{port: 8080}]\naccess: public\n");
    service.fleet.declare("zeta", &format!("expose: [{{port: 8080}}]\n{gvisor}"));
    service.fleet.declare("closed", "");
    let commit = service.push();
    service.start();
    service.wait_until_in_order(&commit);
    let ingress = Ingress::start(&service);
    let fleet = &service.fleet;

    let tenantd = |words: &[&str]| {
        let output = run(fleet.tenantd(words));
        assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    };
    let get = |host: &str, path: &str, token: Option<&str>| inside_network(&fleet.engine, || ask(host, path, token));
    let token = |tenant: &str| tenantd(&["token", tenant, "--for", "1h", "--may", "http"]);
    let ready = |tenant: &str| service.condition(tenant, "Ready").unwrap_or_default().1;
    let (acme, zeta) = (token("acme"), token("zeta"));

    println!("case who may come in");
    let greeting = |(status, body): Answer, tenant: &str| {
        assert_eq!(status, 200, "{tenant}: {body}");
        assert!(body.contains("hostname"), "{tenant}: {body}");
    };
    service.wait("the ingress knows its tenants", || get("acme.agents.example.com", "/", Some(&acme)).0 == 200);
    greeting(get("8080-acme.agents.example.com", "/", Some(&acme)), "by its port");
    greeting(get("127.0.0.1", "/t/acme/8080/", Some(&acme)), "by a path");
    greeting(get("open.agents.example.com", "/", None), "public");
    let wrong = get("acme.agents.example.com", "/", None);
    assert_eq!(wrong.0, 401, "{}", wrong.1);
    for (host, token) in [
        ("acme.agents.example.com", Some(zeta.as_str())),
        ("acme.agents.example.com", Some("tdt_e30.AAAA")),
        ("closed.agents.example.com", Some(acme.as_str())),
        ("nobody.agents.example.com", Some(acme.as_str())),
        ("nobody.agents.example.com", None),
    ] {
        assert_eq!(get(host, "/", token), wrong, "{host}: nobody learns which tenants there are");
    }
    assert_eq!(get("22-acme.agents.example.com", "/", Some(&acme)).0, 404, "a port that is not exposed");
    assert_eq!(get("agents.example.com", "/", Some(&acme)).0, 404, "no tenant's name");

    println!("case wakes");
    for (tenant, token) in [("acme", Some(&acme)), ("zeta", Some(&zeta)), ("open", None)] {
        let (host, name) = (format!("{tenant}.agents.example.com"), format!("tenantd-{tenant}"));
        let mut asked = 0;
        let mut delivered = Vec::new();
        for round in 0..ROUNDS {
            let (word, reason) = if round % 2 == 0 { ("pause", "Paused") } else { ("sleep", "Asleep") };
            tenantd(&[word, tenant]);
            // Every other time the request comes while the tenant still goes down.
            if round < 2 {
                service.wait(word, || ready(tenant) == reason);
            }
            let paths: Vec<String> = (0..8).map(|number| format!("/{word}-{}", asked + number)).collect();
            asked += paths.len();
            let answers = inside_network(&fleet.engine, || {
                thread::scope(|scope| {
                    let host = host.as_str();
                    let asking: Vec<_> = paths
                        .iter()
                        .map(|path| scope.spawn(move || ask(host, path, token.map(String::as_str))))
                        .collect();
                    asking.into_iter().map(|answer| answer.join().unwrap()).collect::<Vec<_>>()
                })
            });
            for (path, (status, body)) in paths.into_iter().zip(answers) {
                assert!(status == 200 || (status == 502 && round >= 2), "{tenant} {path}: {status} {body}");
                if status == 200 {
                    delivered.push(path);
                }
            }
            service.wait("it runs", || ready(tenant) == "ReconciliationSucceeded");
            assert_eq!(fleet.engine.inspect(&name)["State"]["Status"], "running");
        }
        let log = get(&host, "/log", token.map(String::as_str)).1;
        for path in delivered {
            let times = log.lines().filter(|line| line.contains(&format!("GET {path} "))).count();
            assert_eq!(times, 1, "{tenant} was asked {path} once:\n{log}");
        }
        for other in ["acme", "zeta", "open"].into_iter().filter(|other| *other != tenant) {
            assert!(!log.contains(other), "{tenant} sees nothing of {other}");
        }
    }
    let wakes = service.records().into_iter().filter(|record| record.to_string().contains("\"wake\"")).count();
    assert!((3..=3 * ROUNDS).contains(&wakes), "each sleep ends by one wake on record: {wakes}");

    println!("case a tenant that an operator suspended is not woken");
    tenantd(&["sleep", "open"]);
    service.wait("it sleeps", || ready("open") == "Asleep");
    tenantd(&["suspend", "open", "--until", "1h", "--reason", "audit"]);
    service.wait("a request is told so", || {
        let (status, body) = get("open.agents.example.com", "/", None);
        status == 503 && body.contains("suspended")
    });
    tenantd(&["resume", "open"]);
    service.wait("it is woken afterwards", || get("open.agents.example.com", "/", None).0 == 200);

    println!("case the daemon is away");
    service.kill();
    greeting(get("acme.agents.example.com", "/", Some(&acme)), "without a daemon");
    service.start();
    service.wait_until_in_order(&commit);
    tenantd(&["sleep", "acme"]);
    greeting(get("acme.agents.example.com", "/", Some(&acme)), "woken by the next daemon");

    println!("case the ingress is killed");
    drop(ingress);
    let ingress = Ingress::start(&service);
    service.wait("the next one knows its tenants", || get("acme.agents.example.com", "/", Some(&acme)).0 == 200);

    println!("case a token is revoked");
    let minted = tenantd(&["token", "acme", "--for", "1h", "--format", "json"]);
    let minted: serde_json::Value = serde_json::from_str(&minted).unwrap();
    let (short, id) = (text(&minted["token"]), text(&minted["id"]));
    greeting(get("acme.agents.example.com", "/", Some(&short)), "a new token");
    tenantd(&["token", "acme", "--revoke", &id]);
    thread::sleep(Duration::from_secs(1));
    assert_eq!(get("acme.agents.example.com", "/", Some(&short)), wrong, "a second later it counts for nothing");
    greeting(get("acme.agents.example.com", "/", Some(&acme)), "another token");

    println!("case nothing of a token is written down");
    let log = fs::read_to_string(fleet.engine.dir().join("ingress.log")).unwrap() + &service.log();
    for token in [&acme, &zeta, &short] {
        let secret = token.rsplit('.').next().unwrap();
        assert!(!log.contains(secret) && !service.records().iter().any(|record| record.to_string().contains(secret)));
    }
    drop(ingress);
    service.end();
}
