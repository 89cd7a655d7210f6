//! What a refusal says is true of what was asked for.

use std::{
    io::{Read, Write},
    thread,
};

use tenantd::gateway::Rule;

use crate::{
    attacks::hello,
    dns::Say,
    net::{read_all, read_answer},
    servers::serve,
    world::{Gateway, HTTP, PROXY, PUBLIC, TLS, world},
};

crate::trials![each_refusal_says_why, what_a_destination_did_is_said, a_beginning_without_an_end_is_too_late];

/// The sentence of a refusal, as it stands in answers.
fn sentence(tenant: &str, destination: &str, rule: Rule) -> String {
    format!("tenantd: refused for tenant {tenant}: {destination} {} ({rule})", rule.reason())
}

fn each_refusal_says_why() {
    let world = world();
    world.resolver.say("nowhere.reasons.example", Say::Addresses(Vec::new(), 60));
    world.resolver.say("failing.reasons.example", Say::Failure);
    world.resolver.say("private.reasons.example", Say::Addresses(vec![[10, 20, 0, 5]], 60));
    let tenant =
        world.gateway.tenant("reasons", &["api.example.com:80", "api.example.com:443", "*.reasons.example:80"]);
    let long = "y".repeat(100_000);
    for (port, ask, destination, rule, status) in [
        (HTTP, "GET / HTTP/1.1\r\nHost: evil.example\r\n\r\n".to_owned(), "evil.example:80", Rule::NotListed, 403),
        (
            HTTP,
            "GET / HTTP/1.1\r\nHost: private.reasons.example\r\n\r\n".into(),
            "private.reasons.example:80",
            Rule::AddressNotPublic,
            403,
        ),
        (
            HTTP,
            "GET / HTTP/1.1\r\nHost: nowhere.reasons.example\r\n\r\n".into(),
            "nowhere.reasons.example:80",
            Rule::Unresolved,
            502,
        ),
        (
            HTTP,
            "GET / HTTP/1.1\r\nHost: failing.reasons.example\r\n\r\n".into(),
            "failing.reasons.example:80",
            Rule::NoResolver,
            502,
        ),
        (HTTP, "GET / HTTP/1.1\r\nHost: 0x7f.1\r\n\r\n".into(), "0x7f.1", Rule::Malformed, 400),
        (
            HTTP,
            "GET / HTTP/1.1\r\nHost: api.example.com:81\r\n\r\n".into(),
            "api.example.com:81",
            Rule::PortDiffers,
            400,
        ),
        (HTTP, "GET /old HTTP/1.0\r\n\r\n".into(), "GET /old", Rule::UnknownProtocol, 400),
        (HTTP, "GET /x HTTP/1.1\r\n\r\n".into(), "GET /x HTTP/1.1", Rule::MalformedRequest, 400),
        (HTTP, "GET /x HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n".into(), "GET /x HTTP/1.1", Rule::MalformedRequest, 400),
        (
            HTTP,
            "GET /x HTTP/1.1\r\nHost: api.example.com\r\nX: y\r\r\n\r\n".into(),
            "GET /x HTTP/1.1",
            Rule::MalformedRequest,
            400,
        ),
        (
            HTTP,
            format!("GET /x HTTP/1.1\r\nHost: api.example.com\r\nX: {long}\r\n\r\n"),
            "GET /x HTTP/1.1",
            Rule::HeadTooLarge,
            431,
        ),
        (
            HTTP,
            format!("GET /x HTTP/1.1\r\nHost: api.example.com\r\n{}\r\n", "X: y\r\n".repeat(101)),
            "GET /x HTTP/1.1",
            Rule::HeadTooLarge,
            431,
        ),
        (HTTP, "GET /crm/ HTTP/1.1\r\nHost: gateway.internal\r\n\r\n".into(), "route:crm", Rule::NoRoute, 404),
        (
            HTTP,
            "GET /crm/../x HTTP/1.1\r\nHost: gateway.internal\r\n\r\n".into(),
            "gateway.internal",
            Rule::MalformedPath,
            400,
        ),
        (
            PROXY,
            "GET https://api.example.com/ HTTP/1.1\r\nHost: api.example.com\r\n\r\n".into(),
            "api.example.com",
            Rule::OtherScheme,
            400,
        ),
        (
            PROXY,
            "GET http://api.example.com/ HTTP/1.1\r\nHost: b.example\r\n\r\n".into(),
            "api.example.com (Host: b.example)",
            Rule::NameDiffers,
            400,
        ),
        (
            PROXY,
            "CONNECT api.example.com:80 HTTP/1.1\r\nHost: b.example:80\r\n\r\n".into(),
            "api.example.com:80 (Host: b.example:80)",
            Rule::NameDiffers,
            400,
        ),
        (PROXY, "CONNECT 0x7f.1:80 HTTP/1.1\r\nHost: 0x7f.1:80\r\n\r\n".into(), "0x7f.1:80", Rule::Malformed, 400),
    ] {
        let answer = tenant.ask(port, &ask);
        let ask: String = ask.chars().take(200).collect();
        assert_eq!(answer.split(' ').nth(1), Some(&*status.to_string()), "{ask:?} was answered {answer:?}");
        let expected = sentence("reasons", destination, rule);
        assert!(
            answer.ends_with(&format!("\r\n\r\n{expected}\n")),
            "{ask:?} was answered {answer:?}, not {expected:?}"
        );
    }
    let mut stream = tenant.connect(PROXY).unwrap();
    stream.write_all(b"GET http://api.example.com/ HTTP/1.1\r\nHost: api.example.com\r\n\r\n").unwrap();
    assert!(read_answer(&mut stream).starts_with("HTTP/1.1 200 "));
    stream.write_all(b"CONNECT api.example.com:443 HTTP/1.1\r\nHost: api.example.com:443\r\n\r\n").unwrap();
    let expected = sentence("reasons", "CONNECT api.example.com:443 HTTP/1.1", Rule::LateTunnel);
    assert!(read_answer(&mut stream).contains(&expected));
    // Who speaks neither TLS nor HTTP is told in plain text; what is asked for by TLS is told in an alert, and recorded.
    let expected = sentence("reasons", "a connection to port 80", Rule::UnknownProtocol);
    assert_eq!(tenant.send(HTTP, b"\0\0\0\x08"), format!("{expected}\r\n"));
    let mut tunnel = tenant.tunnel("api.example.com:443").unwrap();
    tunnel.write_all(&hello("other.example.org")).unwrap();
    read_all(&mut tunnel);
    let mut broken = hello("api.example.com");
    let at = broken.len() - 1;
    broken[at] ^= 0xff;
    broken.extend([0; 4]);
    broken[4] += 4;
    tenant.send(TLS, &broken);
    for (rule, count) in [("name-differs", 3), ("malformed-hello", 1)] {
        let metric = format!("tenantd_gateway_refusals_total{{tenant=\"reasons\",rule=\"{rule}\"}}");
        assert_eq!(world.gateway.metric(&metric), count, "{rule}");
    }
}

fn what_a_destination_did_is_said() {
    let world = world();
    for (port, answer) in [
        (8101, &b"SSH-2.0-OpenSSH_9.6\r\n\r\n"[..]),
        (8102, b"HTTP/1.1 101 Go on\r\nConnection: upgrade\r\nUpgrade: h2c\r\n\r\n"),
        (8103, b""),
    ] {
        serve("world", port, &world.arrivals, move |mut stream| {
            let _ = stream.read(&mut [0; 1024]);
            let _ = stream.write_all(answer);
        });
    }
    let tenant = world.gateway.tenant(
        "answers",
        &["93.184.216.34:8101", "93.184.216.34:8102", "93.184.216.34:8103", "93.184.216.34:8104", "93.184.216.34:8080"],
    );
    let offer = "Connection: Upgrade\r\nUpgrade: websocket\r\n";
    for (port, offer, rule, status) in [
        (8101, "", Rule::BadAnswer, 502),
        (8102, "", Rule::BadAnswer, 502),
        (8102, offer, Rule::BadAnswer, 502),
        (8103, "", Rule::Unreachable, 504),
        (8104, "", Rule::Unreachable, 504),
    ] {
        let host = format!("{}:{port}", std::net::Ipv4Addr::from(PUBLIC));
        let answer = tenant.ask(PROXY, &format!("GET http://{host}/ HTTP/1.1\r\nHost: {host}\r\n{offer}\r\n"));
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{port}: {answer}");
        assert!(answer.contains(&sentence("answers", &host, rule)), "{port}: {answer}");
    }
}

fn a_beginning_without_an_end_is_too_late() {
    let gateway = Gateway::start("late", "handshakeTimeout: 300ms");
    let tenant = gateway.tenant("late", &["api.example.com:80"]);
    let expected = sentence("late", "a connection to port 80", Rule::TooLate);
    let answer = tenant.send(HTTP, "GET / HTTP/1.1\r\nHost: api.exa");
    assert!(answer.starts_with("HTTP/1.1 408 ") && answer.contains(&expected), "{answer}");
    // Whoever says nothing is refused nothing.
    let waits = thread::spawn({
        let mut stream = tenant.connect(HTTP).unwrap();
        move || read_all(&mut stream)
    });
    assert_eq!(waits.join().unwrap(), b"");
}
