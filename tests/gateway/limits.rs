//! Tenants that take too much, and what is left for the others.

use std::{
    io::{Read, Write},
    net::TcpStream,
    thread,
    time::{Duration, Instant},
};

use crate::{
    net::{eventually, read_all, read_until},
    world::{Gateway, HTTP, PROXY, TLS, world},
};

crate::trials![
    a_tenant_has_so_many_connections_and_others_have_theirs,
    who_says_nothing_or_too_slowly_is_cut_off,
    who_carries_nothing_for_long_is_cut_off,
    bandwidth_is_bounded_for_each_tenant,
    too_few_descriptors_are_survived,
];

fn a_tenant_has_so_many_connections_and_others_have_theirs() {
    let gateway = &world().gateway;
    let greedy = gateway.tenant("greedy", &["api.example.com:7000"]);
    let modest = gateway.tenant("modest", &["api.example.com:7000"]);
    let mut held: Vec<TcpStream> = Vec::new();
    for number in 0..2000 {
        let port = if number % 2 == 0 { PROXY } else { TLS };
        held.push(greedy.connect(port).unwrap());
    }
    let begun = Instant::now();
    modest.echo("api.example.com:7000");
    assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
    let refused = greedy.send(PROXY, "");
    assert!(refused.starts_with("HTTP/1.1 429 ") && refused.contains("(over-limit)"), "{refused}");
    assert!(gateway.metric("tenantd_gateway_connections{tenant=\"greedy\"}") <= 256);
    drop(held);
    eventually("a free place", Duration::from_secs(5), || greedy.tunnel("api.example.com:7000").is_ok());
}

fn who_says_nothing_or_too_slowly_is_cut_off() {
    let gateway = Gateway::start("hello", "handshakeTimeout: 500ms");
    let tenant = gateway.tenant("loris", &["api.example.com:80", "api.example.com:443"]);
    for (port, drop_by_drop) in [
        (PROXY, &b""[..]),
        (HTTP, b"GET / HTTP/1.1\r\nHost: api.example.com\r\nX-A: "),
        (TLS, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"),
        (53, b"\0"),
    ] {
        let mut stream = tenant.connect(port).unwrap();
        let begun = Instant::now();
        let mut writing = stream.try_clone().unwrap();
        let slowly = drop_by_drop.to_vec();
        thread::spawn(move || {
            for byte in slowly.iter().chain(&[b'x'; 100]).take(if slowly.is_empty() { 0 } else { 200 }) {
                thread::sleep(Duration::from_millis(50));
                if writing.write_all(&[*byte]).is_err() {
                    return;
                }
            }
        });
        read_all(&mut stream);
        assert!(begun.elapsed() < Duration::from_secs(4), "{port}: {:?}", begun.elapsed());
    }
    // Between two requests it is the same.
    let mut stream = tenant.connect(HTTP).unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nHost: api.example.com\r\n\r\nGET / HT").unwrap();
    let begun = Instant::now();
    read_all(&mut stream);
    assert!(begun.elapsed() < Duration::from_secs(4), "{:?}", begun.elapsed());
}

fn who_carries_nothing_for_long_is_cut_off() {
    let gateway = Gateway::start("idle", "idleTimeout: 1s");
    let tenant = gateway.tenant("idle", &["api.example.com:7000"]);
    let mut busy = tenant.echo("api.example.com:7000");
    let mut idle = tenant.echo("api.example.com:7000");
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_millis(2500) {
        assert!(crate::net::echoes(&mut busy, "x"));
        thread::sleep(Duration::from_millis(100));
    }
    idle.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    assert_eq!(idle.read(&mut [0]).ok(), Some(0));
}

fn bandwidth_is_bounded_for_each_tenant() {
    let gateway = Gateway::start("bandwidth", "bandwidth: 1MiB");
    let tenant = gateway.tenant("bandwidth", &["api.example.com:7000"]);
    let mut stream = tenant.echo("api.example.com:7000");
    let mut writing = stream.try_clone().unwrap();
    thread::spawn(move || {
        let _ = writing.write_all(&vec![b'x'; 1 << 20]);
        let _ = writing.shutdown(std::net::Shutdown::Write);
    });
    let begun = Instant::now();
    let received = read_all(&mut stream).len();
    // One MiB there and one back, of which one is in the bucket at first.
    assert_eq!(received, (1 << 20) + 5);
    assert!(begun.elapsed() > Duration::from_millis(700), "{:?}", begun.elapsed());
    assert!(begun.elapsed() < Duration::from_secs(6), "{:?}", begun.elapsed());
}

fn too_few_descriptors_are_survived() {
    let gateway = Gateway::start_with("descriptors", "connections: 10000", Some(128));
    let greedy = gateway.tenant("takes-all", &["api.example.com:7000"]);
    let modest = gateway.tenant("needs-one", &["api.example.com:7000"]);
    let held: Vec<_> = (0..400).map_while(|_| greedy.connect(PROXY).ok()).collect();
    assert!(gateway.is_running());
    modest.echo("api.example.com:7000");
    drop(held);
    eventually("service again", Duration::from_secs(5), || greedy.tunnel("api.example.com:7000").is_ok());
    let mut stream = greedy.connect(PROXY).unwrap();
    stream.write_all(b"CONNECT api.example.com:7000 HTTP/1.1\r\nHost: api.example.com:7000\r\n\r\n").unwrap();
    assert!(read_until(&mut stream, "\r\n").starts_with("HTTP/1.1 200"));
}
