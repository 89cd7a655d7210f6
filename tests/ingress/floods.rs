//! Clients that come in great numbers or slowly, and what is left for others.

use std::{
    io::Write,
    net::TcpStream,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use tenantd::model::{Access, Power};

use crate::{
    app::{self, Valve, answer, head},
    net::{echoes, eventually, read_answer, read_until},
    resident,
    world::{Ingress, Tenant, ends},
};

crate::trials![
    connections_that_ask_nothing_make_place_for_others,
    connections_that_have_asked_keep_their_place_while_they_are_answered,
    slow_heads_and_handshakes_are_cut_off,
    slow_bodies_hold_up_their_own_tenant_alone,
    who_sends_nothing_more_of_a_body_is_cut_off,
    one_tenants_requests_leave_places_for_anothers,
    requests_that_wait_for_a_tenant_are_so_many,
    a_flood_of_requests_without_a_token_leaves_others_served,
    heads_that_never_end_fill_no_more_memory_than_there_is_for_them,
];

const SOON: Duration = Duration::from_secs(10);

/// Connections that say this and no more, as many as can be made.
fn many(ingress: &Ingress, count: usize, say: &[u8]) -> Vec<TcpStream> {
    let made = (0..count).map(|_| {
        let mut stream = ingress.connect();
        // It may be closed for another one already.
        let _ = stream.write_all(say);
        stream
    });
    made.collect()
}

fn connections_that_ask_nothing_make_place_for_others() {
    let ingress = Ingress::start("crowded", "connections: 32, handshakeTimeout: 2m, idleTimeout: 10m", "");
    let tenant = ingress.private("crowded");
    let mut socket = tenant.websocket(&tenant.token());
    for say in [&b""[..], b"GET / HTTP/1.1\r\nHost: x\r\n", tenant.head("GET /kept", "").as_bytes()] {
        let held = many(&ingress, 100, say);
        assert!(tenant.is_served(), "{say:?}");
        assert!(ingress.metric("tenantd_ingress_connections") <= 32);
        assert!(echoes(&mut socket, "still here"), "who is served keeps its place");
        drop(held);
    }
    assert!(ingress.metric("tenantd_ingress_called_back_connections_total") >= 100);
    let tls = Ingress::start_tls("crowded-tls", "connections: 32, handshakeTimeout: 2m, idleTimeout: 10m");
    let tenant = tls.private("crowded");
    for say in [&b""[..], b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"] {
        let held = many(&tls, 100, say);
        let mut stream = tls.connect_tls("crowded", &["http/1.1"]);
        stream.write_all(tenant.head("GET /", "").as_bytes()).unwrap();
        assert!(read_answer(&mut stream).starts_with("HTTP/1.1 200 "), "{say:?}");
        drop(held);
    }
}

fn connections_that_have_asked_keep_their_place_while_they_are_answered() {
    let ingress = Ingress::start("keeps", "connections: 4", "");
    let valve = Valve::closed();
    let waits = Arc::clone(&valve);
    let tenant = ingress.public("keeps", move |mut stream| {
        let first = head(&mut stream);
        if first.starts_with("GET /waits ") {
            waits.went(1);
            waits.pass();
        }
        app::mirror_after(stream, first);
    });
    let mut waiting = many(&ingress, 3, tenant.head("GET /waits", "").as_bytes());
    eventually("all have arrived", SOON, || valve.gone() == 3);
    for _ in 0..20 {
        assert!(tenant.is_served());
    }
    valve.open();
    assert!(waiting.iter_mut().all(|stream| read_answer(stream).contains("GET /waits ")));
}

fn slow_heads_and_handshakes_are_cut_off() {
    let ingress = Ingress::start("slow", "handshakeTimeout: 1s", "");
    let tenant = ingress.private("slow");
    let tls = Ingress::start_tls("slow-tls", "handshakeTimeout: 1s");
    let secure = tls.private("slow");
    let between = format!("{}GET / HT", tenant.head("GET /", ""));
    for (ingress, begun) in [
        (&ingress, &b""[..]),
        (&ingress, b"GET / HTTP/1.1\r\nHost: x\r\nX: "),
        (&ingress, between.as_bytes()),
        (&tls, b""),
        (&tls, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"),
    ] {
        let mut stream = ingress.connect();
        stream.write_all(begun).unwrap();
        // Drop by drop, so that it is never idle.
        let (is_over, mut writing) = (Arc::new(AtomicBool::new(false)), stream.try_clone().unwrap());
        let ends_by = Arc::clone(&is_over);
        let drips = !begun.is_empty();
        let dripping = thread::spawn(move || {
            while drips && !ends_by.load(Ordering::Relaxed) && writing.write_all(b"x").is_ok() {
                thread::sleep(Duration::from_millis(100));
            }
        });
        assert!(ends(&mut stream), "{begun:?}");
        is_over.store(true, Ordering::Relaxed);
        dripping.join().unwrap();
        assert!(tenant.is_served());
    }
    // Over HTTP/2 without a request.
    let mut silent = tls.connect_tls("slow", &["h2"]);
    silent.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").unwrap();
    assert!(ends(&mut silent));
    let mut served = tls.connect_tls("slow", &["http/1.1"]);
    served.write_all(secure.head("GET /", "").as_bytes()).unwrap();
    assert!(read_answer(&mut served).starts_with("HTTP/1.1 200 "));
}

fn slow_bodies_hold_up_their_own_tenant_alone() {
    let ingress = Ingress::start("slow-bodies", "requestsPerTenant: 8", "");
    let [slow, other] = ["slow", "other"].map(|name| ingress.private(name));
    let begun = format!("{}x", slow.head("POST /", "Content-Length: 1000000\r\n"));
    let held = many(&ingress, 8, begun.as_bytes());
    eventually("all have arrived", SOON, || slow.arrivals() == 8);
    let refused = slow.get("/");
    assert!(refused.starts_with("HTTP/1.1 429 "), "{refused}");
    assert!((0..20).all(|_| other.is_served()));
    // Who may not come in takes no place, whatever it sends.
    let stranger = format!("POST / HTTP/1.1\r\nHost: {}\r\nContent-Length: 1000000\r\n\r\nx", other.host());
    let strangers = many(&ingress, 50, stranger.as_bytes());
    assert!(other.is_served());
    drop((held, strangers));
    eventually("they are free again", SOON, || slow.is_served());
}

fn who_sends_nothing_more_of_a_body_is_cut_off() {
    let ingress = Ingress::start("idle", "idleTimeout: 1s", "");
    let tenant = ingress.private("idle");
    let mut idle =
        many(&ingress, 1, format!("{}x", tenant.head("POST /", "Content-Length: 10\r\n")).as_bytes()).remove(0);
    let mut idle_socket = tenant.websocket(&tenant.token());
    let mut busy = tenant.websocket(&tenant.token());
    let (is_over, mut writing) = (AtomicBool::new(false), busy.try_clone().unwrap());
    thread::scope(|scope| {
        scope.spawn(|| {
            while !is_over.load(Ordering::Relaxed) {
                writing.write_all(b"x").unwrap();
                thread::sleep(Duration::from_millis(100));
            }
        });
        assert!(ends(&mut idle) && ends(&mut idle_socket));
        is_over.store(true, Ordering::Relaxed);
    });
    busy.write_all(b"!").unwrap();
    assert!(read_until(&mut busy, "!").ends_with('!'), "who sends now and then goes on");
}

fn one_tenants_requests_leave_places_for_anothers() {
    let ingress = Ingress::start("places", "requestsPerTenant: 4, connections: 64", "");
    let valve = Valve::closed();
    let waits = Arc::clone(&valve);
    let greedy = ingress.public("greedy", move |mut stream| {
        head(&mut stream);
        waits.went(1);
        waits.pass();
        let _ = answer(&mut stream, b"here");
    });
    let modest = ingress.private("modest");
    let mut held = many(&ingress, 4, greedy.head("GET /", "").as_bytes());
    eventually("all have arrived", SOON, || valve.gone() == 4);
    let refused: Vec<String> = (0..50).map(|_| greedy.get("/")).collect();
    assert!(
        refused.iter().all(|answer| answer.starts_with("HTTP/1.1 429 ") && answer.contains("retry-after: 1")),
        "{refused:?}"
    );
    assert!(modest.is_served());
    assert_eq!(valve.gone(), 4, "no more have arrived");
    valve.open();
    assert!(held.iter_mut().all(|stream| read_answer(stream).ends_with("here")));
    eventually("a place is free", SOON, || greedy.is_served());
}

fn requests_that_wait_for_a_tenant_are_so_many() {
    let ingress = Ingress::start("held", "heldPerTenant: 4, held: 6", "");
    let [first, second, awake] = ["first", "second", "awake"].map(|name| ingress.private(name));
    let power =
        |tenant: &Tenant, power| tenant.say(|found| (found.power, found.running) = (power, power == Power::Running));
    power(&first, Power::Paused);
    power(&second, Power::Paused);
    let mut held = many(&ingress, 4, first.head("GET /held", "").as_bytes());
    eventually("they are held", SOON, || ingress.metric("tenantd_ingress_held_requests") == 4);
    assert!(first.get("/").starts_with("HTTP/1.1 503 "));
    held.extend(many(&ingress, 2, second.head("GET /held", "").as_bytes()));
    eventually("they are held", SOON, || ingress.metric("tenantd_ingress_held_requests") == 6);
    let answer = second.get("/");
    assert!(answer.starts_with("HTTP/1.1 503 ") && answer.contains("retry-after: "), "{answer}");
    assert!(awake.is_served());
    // Who goes away leaves its place.
    drop(held.pop());
    power(&first, Power::Running);
    power(&second, Power::Running);
    assert!(held.iter_mut().all(|stream| read_answer(stream).contains("GET /held ")));
    eventually("nobody waits", SOON, || ingress.metric("tenantd_ingress_held_requests") == 0);
}

fn a_flood_of_requests_without_a_token_leaves_others_served() {
    let ingress = Ingress::start("flooded", "connections: 1024", "");
    let tenant = ingress.tenant("flooded", Access::Token, app::mirror);
    let (arrivals, is_over) = (tenant.arrivals(), AtomicBool::new(false));
    let before = resident(ingress.pid());
    thread::scope(|scope| {
        for number in 0..4 {
            let (is_over, ingress) = (&is_over, &ingress);
            scope.spawn(move || {
                // Made-up names, made-up tokens, and connections that are not read from.
                let request = format!("GET /{number} HTTP/1.1\r\nHost: n{number}.agents.example.com\r\nAuthorization: Bearer tdt_e30.AAAA\r\n\r\n");
                while !is_over.load(Ordering::Relaxed) {
                    let mut stream = ingress.connect();
                    for _ in 0..50 {
                        if stream.write_all(request.as_bytes()).is_err() {
                            break;
                        }
                    }
                }
            });
        }
        let served = (0..100).filter(|_| tenant.is_served()).count();
        is_over.store(true, Ordering::Relaxed);
        assert_eq!(served, 100);
    });
    assert!(ingress.metric("tenantd_ingress_requests_total{result=\"unauthenticated\"}") > 100);
    assert!(tenant.arrivals() > arrivals && ingress.daemon.woken().is_empty());
    let taken = resident(ingress.pid()).saturating_sub(before);
    assert!(taken < 128, "{taken} MiB");
}

fn heads_that_never_end_fill_no_more_memory_than_there_is_for_them() {
    let ingress = Ingress::start("heads", "connections: 10000, handshakeTimeout: 1m, maxHeaderSize: 1MiB", "");
    let tenant = ingress.private("heads");
    let before = resident(ingress.pid());
    let begun = format!("GET / HTTP/1.1\r\nHost: x\r\nX: {}", "y".repeat(1_000_000));
    let held = many(&ingress, 320, begun.as_bytes());
    let refused = || ingress.metric("tenantd_ingress_requests_total{result=\"over-limit\"}");
    eventually("some are refused", SOON, || refused() > 0);
    let taken = resident(ingress.pid()).saturating_sub(before);
    assert!(taken < 320, "{taken} MiB");
    assert!(tenant.is_served());
    drop(held);
}
