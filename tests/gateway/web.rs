//! HTTP in the clear, through the proxy and by Host.

use std::io::{Read, Write};

use crate::{
    dns::Say,
    net::{echoes, read_all, read_answer, read_until},
    world::{HTTP, PROXY, PUBLIC, world},
};

crate::trials![
    a_request_arrives_by_host_and_by_absolute_form,
    bodies_of_every_framing_pass,
    requests_of_one_connection_are_decided_one_by_one,
    another_protocol_is_agreed_upon_and_passes,
    what_follows_a_protocol_that_was_not_agreed_upon_is_never_a_request,
    an_offer_of_another_protocol_than_websocket_is_dropped_and_the_request_answered,
    a_stream_is_passed_on_as_it_comes,
    headers_between_neighbours_go_no_further,
    a_refusal_names_tenant_destination_and_rule,
    the_gateways_own_name_has_no_routes_that_were_not_given,
];

fn a_request_arrives_by_host_and_by_absolute_form() {
    let tenant = world().gateway.tenant("web", &["api.example.com:80", "api.example.com:8080"]);
    let answer = tenant.ask(HTTP, "GET /by-host?x=1 HTTP/1.1\r\nHost: API.example.com\r\nX-Mine: 1\r\n\r\n");
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.contains("x-server: world"), "{answer}");
    assert!(
        answer.contains("GET /by-host?x=1 HTTP/1.1\r\n") && answer.contains("host: api.example.com\r\n"),
        "{answer}"
    );
    assert!(answer.contains("x-mine: 1\r\n") && !answer.contains("via:") && !answer.contains("forwarded"), "{answer}");
    let answer = tenant.ask(PROXY, "GET http://api.example.com/absolute HTTP/1.1\r\nHost: api.example.com\r\n\r\n");
    assert!(answer.contains("GET /absolute HTTP/1.1\r\n"), "{answer}");
    let answer = tenant.ask(PROXY, "GET http://api.example.com:8080/ HTTP/1.1\r\nHost: api.example.com:8080\r\n\r\n");
    assert!(answer.contains("host: api.example.com:8080\r\n"), "{answer}");
    let answer = tenant.ask(8080, "GET /port HTTP/1.1\r\nHost: api.example.com:8080\r\n\r\n");
    assert!(answer.contains("GET /port HTTP/1.1\r\n"), "{answer}");
    let answer = tenant.ask(PROXY, "GET http://api.example.com/old HTTP/1.0\r\n\r\n");
    assert!(answer.contains("GET /old HTTP/1.1\r\n"), "{answer}");
}

fn bodies_of_every_framing_pass() {
    let tenant = world().gateway.tenant("bodies", &["api.example.com:80"]);
    let answer = tenant.ask(HTTP, "POST / HTTP/1.1\r\nHost: api.example.com\r\nContent-Length: 5\r\n\r\nhello");
    assert!(answer.ends_with("hello"), "{answer}");
    let chunked = "POST / HTTP/1.1\r\nHost: api.example.com\r\nTransfer-Encoding: chunked\r\n\r\n\
                   5\r\nhello\r\n6;x=y\r\n world\r\n0\r\n\r\n";
    let answer = tenant.ask(HTTP, chunked);
    assert!(
        answer.contains("transfer-encoding: chunked") && answer.contains("hello") && answer.contains(" world"),
        "{answer}"
    );
    let trailers = tenant
        .send(HTTP, "GET /trailers HTTP/1.1\r\nHost: api.example.com\r\nTE: trailers\r\nConnection: close, TE\r\n\r\n");
    assert!(trailers.contains("2\r\nhi\r\n") && trailers.contains("sum: 42\r\n"), "{trailers}");

    let mut stream = tenant.connect(HTTP).unwrap();
    let head = "POST / HTTP/1.1\r\nHost: api.example.com\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n";
    stream.write_all(head.as_bytes()).unwrap();
    assert!(read_until(&mut stream, "\r\n\r\n").starts_with("HTTP/1.1 100 "));
    stream.write_all(b"later").unwrap();
    assert!(read_answer(&mut stream).ends_with("later"));
}

fn requests_of_one_connection_are_decided_one_by_one() {
    let world = world();
    world.resolver.say("second.example.com", Say::Addresses(vec![PUBLIC], 60));
    let tenant = world.gateway.tenant("one-by-one", &["api.example.com:80", "second.example.com:80"]);
    let mut stream = tenant.connect(PROXY).unwrap();
    for (name, status) in [("api", 200), ("second", 200), ("third", 403), ("api", 200)] {
        let request = format!("GET http://{name}.example.com/ HTTP/1.1\r\nHost: {name}.example.com\r\n\r\n");
        stream.write_all(request.as_bytes()).unwrap();
        let answer = read_answer(&mut stream);
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{name}: {answer}");
    }
    // Two at once.
    let one = "GET /1 HTTP/1.1\r\nHost: api.example.com\r\n\r\n";
    let two = "GET /2 HTTP/1.1\r\nHost: evil.example.com\r\n\r\n";
    let mut stream = tenant.connect(HTTP).unwrap();
    stream.write_all(format!("{one}{two}").as_bytes()).unwrap();
    assert!(read_answer(&mut stream).contains("GET /1 "));
    assert!(read_answer(&mut stream).contains("evil.example.com:80 is not on the tenant's allowlist"));
}

fn another_protocol_is_agreed_upon_and_passes() {
    let tenant = world().gateway.tenant("upgrade", &["api.example.com:80"]);
    let mut stream = tenant.connect(HTTP).unwrap();
    let request = "GET /ws HTTP/1.1\r\nHost: api.example.com\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
    stream.write_all(request.as_bytes()).unwrap();
    let head = read_until(&mut stream, "\r\n\r\n");
    assert!(head.starts_with("HTTP/1.1 101 ") && head.contains("upgrade: websocket\r\n"), "{head}");
    assert!(echoes(&mut stream, "\0any bytes\r\n\r\n"));
    assert!(echoes(&mut stream, "GET / HTTP/1.1\r\nHost: evil.example\r\n\r\n"));

    // As the second request of a connection, and with its own bytes right behind it.
    let mut stream = tenant.connect(HTTP).unwrap();
    let before = "GET /before HTTP/1.1\r\nHost: api.example.com\r\n\r\n";
    stream.write_all(format!("{before}{request}early").as_bytes()).unwrap();
    let first = read_answer(&mut stream);
    assert!(first.contains("GET /before ") && !first.contains("connection: close"), "{first}");
    assert!(read_until(&mut stream, "\r\n\r\n").starts_with("HTTP/1.1 101 "));
    assert_eq!(read_until(&mut stream, "early"), "early");
    assert!(echoes(&mut stream, "and more"));

    // Where nobody agrees, nothing that follows is taken for a request.
    let mut stream = tenant.connect(HTTP).unwrap();
    let refused = "GET /no HTTP/1.1\r\nHost: api.example.com\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
    stream.write_all(format!("{refused}GET /smuggled HTTP/1.1\r\nHost: api.example.com\r\n\r\n").as_bytes()).unwrap();
    let first = read_answer(&mut stream);
    assert!(first.starts_with("HTTP/1.1 200 ") && first.contains("connection: close"), "{first}");
    assert_eq!(read_answer(&mut stream), "");
}

/// However an upgrade is declined, by the destination, by the gateway or by a route, and whether it is asked
/// for by Host or in absolute form, first or later, nothing that comes behind it is read as a request: neither
/// what a strict reader would refuse nor what it would pass.
fn what_follows_a_protocol_that_was_not_agreed_upon_is_never_a_request() {
    let tenant = world().gateway.tenant("declined", &["api.example.com:80"]);
    let asks = "Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
    let good = "GET /good HTTP/1.1\r\nHost: api.example.com\r\n\r\n";
    for (port, ask, status) in [
        (HTTP, "GET /no HTTP/1.1\r\nHost: api.example.com\r\n", 200),
        (HTTP, "GET /no HTTP/1.1\r\nHost: evil.example\r\n", 403),
        (HTTP, "GET /no HTTP/1.1\r\nHost: 127.0.0.1\r\n", 403),
        (HTTP, "GET /no HTTP/1.1\r\nHost: api.example.com:81\r\n", 400),
        (HTTP, "GET /crm/ HTTP/1.1\r\nHost: gateway.internal\r\n", 404),
        (PROXY, "GET http://api.example.com/no HTTP/1.1\r\nHost: api.example.com\r\n", 200),
        (PROXY, "GET http://evil.example/no HTTP/1.1\r\nHost: evil.example\r\n", 403),
        (PROXY, "GET http://crm.gateway.internal/ HTTP/1.1\r\nHost: crm.gateway.internal\r\n", 404),
    ] {
        for behind in [
            "GET /smuggled HTTP/1.1\r\nHost: api.example.com\r\n\r\n",
            "GET http://api.example.com/smuggled HTTP/1.1\r\nHost: api.example.com\r\n\r\n",
            "POST /smuggled HTTP/1.1\r\nHost: api.example.com\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            "POST /smuggled HTTP/1.1\nHost: api.example.com\nTransfer-Encoding: xchunked\n\n0\n\n",
            "GET /smuggled HTTP/1.1\r\nHost: evil.example\r\nHost: api.example.com\r\n\r\n",
        ] {
            for (is_second, at_once) in [(false, true), (false, false), (true, true), (true, false)] {
                let mut stream = tenant.connect(port).unwrap();
                let is_second = is_second && port == HTTP;
                if is_second {
                    stream.write_all(good.as_bytes()).unwrap();
                    assert!(read_answer(&mut stream).contains("GET /good "));
                }
                stream.write_all(format!("{ask}{asks}{}", if at_once { behind } else { "" }).as_bytes()).unwrap();
                let first = read_answer(&mut stream);
                assert!(first.starts_with(&format!("HTTP/1.1 {status} ")), "{ask:?} was answered {first:?}");
                assert!(first.to_ascii_lowercase().contains("connection: close"), "{ask:?} was answered {first:?}");
                if !at_once {
                    // It may be closed already.
                    let _ = stream.write_all(behind.as_bytes());
                }
                let rest = String::from_utf8_lossy(&read_all(&mut stream)).into_owned();
                assert_eq!(rest, "", "{ask:?} and {behind:?}");
            }
        }
    }
}

/// What curl sends with `--http2`, and Java's HttpClient with every request, with and without a body, and other
/// protocols: the destination sees a request without any offer, and the connection goes on.
fn an_offer_of_another_protocol_than_websocket_is_dropped_and_the_request_answered() {
    let tenant = world().gateway.tenant("offers", &["api.example.com:80"]);
    let (by_host, absolute) = ("/offer", "http://api.example.com/offer");
    for offer in [
        "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA\r\n",
        "Connection: Upgrade\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n",
        "Connection: Upgrade\r\nUpgrade: TLS/1.2, h2\r\n",
        "Connection: Upgrade\r\nUpgrade: tcp\r\nUpgrade: SPDY/3.1\r\n",
        "Upgrade: websocket\r\n",
    ] {
        for (port, target) in [(HTTP, by_host), (PROXY, absolute)] {
            for (method, body) in [("GET", ""), ("POST", "hello")] {
                let length = body.len();
                let request = format!(
                    "{method} {target} HTTP/1.1\r\nHost: api.example.com\r\n{offer}Content-Length: {length}\r\n\r\n{body}"
                );
                let mut stream = tenant.connect(port).unwrap();
                for _ in 0..2 {
                    stream.write_all(request.as_bytes()).unwrap();
                    let answer = read_answer(&mut stream);
                    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with(body), "{offer}: {answer}");
                    let lower = answer.to_ascii_lowercase();
                    let gone = ["upgrade", "http2-settings", "connection: close"];
                    assert!(gone.iter().all(|name| !lower.contains(name)), "{offer}: {answer}");
                }
            }
        }
    }
    // Beside a WebSocket the others go, and it is agreed to.
    let mut stream = tenant.connect(HTTP).unwrap();
    let both = "GET /ws HTTP/1.1\r\nHost: api.example.com\r\nConnection: Upgrade, HTTP2-Settings\r\n\
                Upgrade: h2c, websocket\r\nHTTP2-Settings: AAMAAABk\r\n\r\n";
    stream.write_all(both.as_bytes()).unwrap();
    assert!(read_until(&mut stream, "\r\n\r\n").starts_with("HTTP/1.1 101 "));
    assert!(echoes(&mut stream, "frames"));
}

fn a_stream_is_passed_on_as_it_comes() {
    let tenant = world().gateway.tenant("stream", &["api.example.com:80"]);
    let mut stream = tenant.connect(HTTP).unwrap();
    stream.write_all(b"GET /slow HTTP/1.1\r\nHost: api.example.com\r\n\r\n").unwrap();
    assert!(read_until(&mut stream, "data: 1\n\n").ends_with("data: 1\n\n"));
    for _ in 0..3 {
        assert!(read_until(&mut stream, "data: 2\n\n").ends_with("data: 2\n\n"));
    }
}

fn headers_between_neighbours_go_no_further() {
    let tenant = world().gateway.tenant("hops", &["api.example.com:80"]);
    let request = "GET http://api.example.com/ HTTP/1.1\r\nHost: api.example.com\r\nProxy-Connection: keep-alive\r\n\
                   Proxy-Authorization: Basic secret\r\nConnection: X-Mine\r\nX-Mine: 1\r\nX-Other: 2\r\n\r\n";
    let answer = tenant.ask(PROXY, request);
    assert!(answer.contains("x-other: 2\r\n"), "{answer}");
    assert!(!answer.contains("proxy-") && !answer.contains("x-mine") && !answer.contains("secret"), "{answer}");
}

fn a_refusal_names_tenant_destination_and_rule() {
    let tenant = world().gateway.tenant("refused", &["api.example.com:443"]);
    let expected =
        "tenantd: refused for tenant refused: other.example.org:80 is not on the tenant's allowlist (not-listed)";
    for (port, request) in [
        (HTTP, "GET / HTTP/1.1\r\nHost: other.example.org\r\n\r\n"),
        (PROXY, "GET http://other.example.org/ HTTP/1.1\r\nHost: other.example.org\r\n\r\n"),
        (PROXY, "CONNECT other.example.org:80 HTTP/1.1\r\nHost: other.example.org:80\r\n\r\n"),
    ] {
        let answer = tenant.ask(port, request);
        let lower = answer.to_ascii_lowercase();
        assert!(answer.starts_with("HTTP/1.1 403 ") && answer.ends_with(&format!("{expected}\n")), "{answer}");
        assert!(
            lower.contains("content-type: text/plain") && lower.contains("proxy-status: tenantd; error="),
            "{answer}"
        );
    }
}

fn the_gateways_own_name_has_no_routes_that_were_not_given() {
    let tenant = world().gateway.tenant("routes", &["api.example.com:443"]);
    for (port, request) in [
        (HTTP, "GET /ghl/x HTTP/1.1\r\nHost: gateway.internal\r\n\r\n"),
        (HTTP, "GET /x HTTP/1.1\r\nHost: ghl.gateway.internal\r\n\r\n"),
        (PROXY, "GET http://gateway.internal/ghl/ HTTP/1.1\r\nHost: gateway.internal\r\n\r\n"),
    ] {
        let answer = tenant.ask(port, request);
        assert!(answer.starts_with("HTTP/1.1 404 ") && answer.contains("(no-route)"), "{answer}");
    }
    let mut stream = tenant.connect(HTTP).unwrap();
    stream.write_all(b"CONNECT gateway.internal:80 HTTP/1.1\r\nHost: gateway.internal:80\r\n\r\n").unwrap();
    let mut answer = [0; 12];
    stream.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"HTTP/1.1 403");
}
