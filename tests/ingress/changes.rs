//! What changes while clients are connected: tokens, tenants, the daemon, the certificate.

use std::{
    collections::BTreeSet,
    io::{Read, Write},
    net::TcpStream,
    sync::{Arc, mpsc},
    time::Duration,
};

use tenantd::model::{Access, Expose, Power, ingress::Reachable};

use crate::{
    app::{self, Valve, answer, bytes_at, head},
    frames::Frames,
    net::{echoes, eventually, read_answer, read_until},
    world::{Ingress, Tenant, ends, world},
};

crate::trials![
    a_token_that_is_revoked_ends_what_it_opened,
    a_token_that_expires_ends_what_it_opened,
    who_takes_nothing_is_cut_with_its_token,
    what_is_not_exposed_any_more_ends,
    what_was_public_ends_with_that,
    a_restart_of_the_daemon_cuts_nobody,
    another_certificate_is_used_and_nobody_is_cut,
    a_request_goes_over_no_connection_from_before_its_tenant_stopped,
    a_container_that_is_gone_takes_its_answers_with_it,
];

/// How long what must end may take: less than any time after which it would end by itself.
const SOON: Duration = Duration::from_secs(10);

/// Answers with the beginning of a body that never ends, or agrees to a WebSocket.
fn endless(mut stream: TcpStream) {
    let head = head(&mut stream);
    if app::header(&head, "upgrade").is_some() || head.starts_with("GET /still-there") {
        return app::mirror_after(stream, head);
    }
    if stream.write_all(b"HTTP/1.1 200 OK\r\n\r\nhello").is_ok() {
        // Until it is cut.
        let _ = stream.set_read_timeout(None);
        let _ = std::io::copy(&mut stream, &mut std::io::sink());
    }
}

/// A download that has begun and goes on.
fn download(tenant: &Tenant, token: &str) -> TcpStream {
    let mut stream = tenant.ingress.connect();
    let head = format!("GET / HTTP/1.1\r\nHost: {}\r\nAuthorization: Bearer {token}\r\n\r\n", tenant.host());
    stream.write_all(head.as_bytes()).unwrap();
    let begun = read_until(&mut stream, "hello");
    assert!(begun.starts_with("HTTP/1.1 200 ") && begun.ends_with("hello"), "{begun}");
    stream
}

/// An upload that has begun and goes on.
fn upload(tenant: &Tenant, token: &str) -> TcpStream {
    let mut stream = tenant.ingress.connect();
    let host = tenant.host();
    let head =
        format!("POST / HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {token}\r\nContent-Length: 1000000\r\n\r\nx");
    stream.write_all(head.as_bytes()).unwrap();
    let begun = read_until(&mut stream, "hello");
    assert!(begun.starts_with("HTTP/1.1 200 ") && begun.ends_with("hello"), "{begun}");
    stream
}

/// What a token opened ends by this, and what another opened goes on.
fn ends_by(tenant: &Tenant, token: &str, end: impl FnOnce()) {
    let other = tenant.token();
    let (mut kept, mut kept_socket) = (download(tenant, &other), tenant.websocket(&other));
    let (mut download, mut upload, mut socket) =
        (download(tenant, token), upload(tenant, token), tenant.websocket(token));
    assert!(echoes(&mut socket, "before"));
    end();
    assert!(ends(&mut download) && ends(&mut upload) && ends(&mut socket));
    assert!(echoes(&mut kept_socket, "still here"));
    kept.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    assert!(!ends(&mut kept), "another token's download goes on");
    let head = format!("GET / HTTP/1.1\r\nHost: {}\r\nAuthorization: Bearer {token}\r\n\r\n", tenant.host());
    assert!(tenant.ingress.ask(&head).starts_with("HTTP/1.1 401 "));
}

fn a_token_that_is_revoked_ends_what_it_opened() {
    let ingress = &world().ingress;
    let tenant = ingress.tenant("revoked", Access::Token, endless);
    let (id, token) = tenant.token_for(Duration::from_secs(3600));
    ends_by(&tenant, &token, || {
        ingress.daemon.say(|content| {
            content.revoked.insert(id);
        })
    });
    // Over HTTP/2 the stream ends, and its connection goes on.
    let tenant = world().tls.tenant("revoked", Access::Token, endless);
    let (id, token) = tenant.token_for(Duration::from_secs(3600));
    let mut client = Frames::open(&tenant, &[]);
    client.request(1, &tenant, "/", &token, true);
    client.request(3, &tenant, "/", &tenant.token(), true);
    let mut begun = BTreeSet::new();
    while begun.len() < 2 {
        begun.insert(client.until(|frame| frame.is_data(frame.stream)).stream);
    }
    world().tls.daemon.say(|content| {
        content.revoked.insert(id);
    });
    client.until(|frame| frame.is_reset(1));
    client.request(5, &tenant, "/", &tenant.token(), true);
    client.until(|frame| frame.is_data(5));
}

fn a_token_that_expires_ends_what_it_opened() {
    let tenant = world().ingress.tenant("expires", Access::Token, endless);
    let (_, token) = tenant.token_for(Duration::from_secs(5));
    ends_by(&tenant, &token, || {});
}

/// Neither direction of an answer that its client does not take is gone on with.
fn who_takes_nothing_is_cut_with_its_token() {
    /// Sends without end, and reports when its connection ends.
    fn pours(ended: mpsc::Sender<()>) -> impl Fn(TcpStream) + Send + Sync {
        move |mut stream| {
            head(&mut stream);
            if stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").is_ok() {
                while stream.write_all(&bytes_at(0, 64 << 10)).is_ok() {}
            }
            ended.send(()).unwrap();
        }
    }
    let (ended, has_ended) = mpsc::channel();
    let tenant = world().ingress.tenant("takes-nothing", Access::Token, pours(ended));
    let (id, token) = tenant.token_for(Duration::from_secs(3600));
    let mut stream = world().ingress.connect();
    let request = format!("GET / HTTP/1.1\r\nHost: {}\r\nAuthorization: Bearer {token}\r\n\r\n", tenant.host());
    stream.write_all(request.as_bytes()).unwrap();
    assert!(has_ended.recv_timeout(Duration::from_secs(2)).is_err(), "it waits for its client");
    world().ingress.daemon.say(|content| {
        content.revoked.insert(id);
    });
    has_ended.recv_timeout(SOON).expect("the tenant's connection ends");
    assert!(ends(&mut stream));
    // Over HTTP/2 with a window that is used up.
    let (ended, has_ended) = mpsc::channel();
    let tenant = world().tls.tenant("takes-nothing", Access::Token, pours(ended));
    let (id, token) = tenant.token_for(Duration::from_secs(3600));
    let mut client = Frames::open(&tenant, &[]);
    client.request(1, &tenant, "/", &token, true);
    client.until(|frame| frame.is_data(1));
    assert!(has_ended.recv_timeout(Duration::from_secs(2)).is_err(), "it waits for its client");
    world().tls.daemon.say(|content| {
        content.revoked.insert(id);
    });
    has_ended.recv_timeout(SOON).expect("the tenant's connection ends");
    client.until(|frame| frame.is_reset(1));
}

fn what_is_not_exposed_any_more_ends() {
    let tenant = world().ingress.tenant("not-exposed", Access::Token, endless);
    let (mut download, mut socket) = (download(&tenant, &tenant.token()), tenant.websocket(&tenant.token()));
    tenant.say(|found| {
        found.ports.clear();
        found.ports.insert(81, Expose::default());
    });
    assert!(ends(&mut download) && ends(&mut socket));
}

fn what_was_public_ends_with_that() {
    let tenant = world().ingress.public("was-public", endless);
    let mut stream = world().ingress.connect();
    stream.write_all(format!("GET / HTTP/1.1\r\nHost: {}\r\n\r\n", tenant.host()).as_bytes()).unwrap();
    assert!(read_until(&mut stream, "hello").ends_with("hello"));
    let mut by_token = download(&tenant, &tenant.token());
    tenant.say(|found| found.access = Access::Token);
    assert!(ends(&mut stream));
    by_token.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    assert!(!ends(&mut by_token));
}

fn a_restart_of_the_daemon_cuts_nobody() {
    let ingress = Ingress::start("restarts", "", "");
    let tenant = ingress.tenant("restarts", Access::Token, endless);
    let (id, token) = tenant.token_for(Duration::from_secs(3600));
    let (mut download, mut socket) = (download(&tenant, &token), tenant.websocket(&token));
    ingress.daemon.stop();
    assert!(echoes(&mut socket, "while it is away"));
    assert!(tenant.is_served(), "what was said stays in force");
    ingress.daemon.restart();
    assert!(echoes(&mut socket, "when it is back") && tenant.is_served());
    download.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    assert!(!ends(&mut download));
    // It is heard again.
    ingress.daemon.say(|content| {
        content.revoked.insert(id);
    });
    assert!(ends(&mut socket));
}

/// The certificate that a connection is spoken to with.
fn certificate(tenant: &Tenant) -> Vec<u8> {
    let stream = tenant.ingress.connect_tls(&tenant.name, &[]);
    stream.conn.peer_certificates().unwrap()[0].to_vec()
}

fn another_certificate_is_used_and_nobody_is_cut() {
    let ingress = Ingress::start_tls("renews", "");
    let tenant = ingress.private("renews");
    let mut before = ingress.connect_tls(&tenant.name, &["http/1.1"]);
    let first = certificate(&tenant);
    assert_eq!(certificate(&tenant), first);
    ingress.renew_certificate();
    eventually("another certificate", SOON, || certificate(&tenant) != first);
    before.write_all(tenant.head("GET /", "").as_bytes()).unwrap();
    assert!(read_answer(&mut before).starts_with("HTTP/1.1 200 "));
    // One that cannot be used leaves the last in force.
    let second = certificate(&tenant);
    ingress.spoil_certificate();
    eventually("it is noticed", SOON, || ingress.log().contains("the former certificate stays in use"));
    assert_eq!(certificate(&tenant), second);
    ingress.renew_certificate();
    eventually("a third certificate", SOON, || certificate(&tenant) != second);
}

/// The app ends each connection on which it is asked a second time, as one whose time for idle connections has passed while it
/// was frozen.
fn a_request_goes_over_no_connection_from_before_its_tenant_stopped() {
    let ingress = Ingress::start("thaws", "", "");
    for (name, is_woken, stop) in [
        ("thaws", true, (|found: &mut Reachable| found.power = Power::Paused) as fn(&mut Reachable)),
        ("contained", false, |found: &mut Reachable| found.running = false),
    ] {
        let tenant = ingress.public(name, |mut stream| {
            if !head(&mut stream).is_empty() && answer(&mut stream, b"first").is_ok() {
                head(&mut stream);
            }
        });
        assert!(tenant.get("/").ends_with("first"));
        assert_eq!(tenant.arrivals(), 1);
        tenant.say(stop);
        let mut held = ingress.connect();
        held.write_all(tenant.head("GET /held", "").as_bytes()).unwrap();
        eventually("it is held", SOON, || ingress.metric("tenantd_ingress_held_requests") == 1);
        eventually("the daemon is asked", SOON, || !is_woken || ingress.daemon.woken() == [name]);
        tenant.say(|found| (found.power, found.running) = (Power::Running, true));
        let answer = read_answer(&mut held);
        assert!(answer.ends_with("first"), "{name}: {answer}");
        assert_eq!(tenant.arrivals(), 2, "{name}: over a connection of its own");
    }
    assert_eq!(ingress.daemon.woken(), ["thaws"], "who is meant to run is not woken");
}

fn a_container_that_is_gone_takes_its_answers_with_it() {
    let valve = Valve::closed();
    let waits = Arc::clone(&valve);
    let tenant = world().ingress.public("replaced", move |mut stream| {
        let head = head(&mut stream);
        if head.starts_with("GET /waits ") {
            waits.went(1);
            waits.pass();
        } else if head.starts_with("GET /begun ") {
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n\r\nhello");
            let _ = stream.read(&mut [0; 1]);
        }
        let _ = answer(&mut stream, b"second");
    });
    let mut waiting = world().ingress.connect();
    waiting.write_all(tenant.head("GET /waits", "").as_bytes()).unwrap();
    let mut begun = world().ingress.connect();
    begun.write_all(tenant.head("GET /begun", "").as_bytes()).unwrap();
    assert!(read_until(&mut begun, "hello").ends_with("hello"));
    eventually("the request has arrived", SOON, || valve.gone() == 1);
    tenant.say(|found| found.container = Some("replaced-2".to_owned()));
    let answer = read_answer(&mut waiting);
    assert!(answer.starts_with("HTTP/1.1 502 ") && answer.contains("which is not sent again"), "{answer}");
    assert!(ends(&mut begun));
    valve.open();
    assert!(tenant.get("/").ends_with("second"));
    assert_eq!(valve.gone(), 1, "it was asked once");
}
