//! Requests that two readers could read differently, and heads that are too large: none of them reaches a tenant.

use std::io::Write;

use crate::{
    net::{read_all, read_answer},
    world::{ends, world},
};

crate::trials![
    requests_that_two_readers_read_differently_are_refused,
    chunks_that_two_readers_read_differently_end_the_request,
    what_follows_a_good_request_is_judged_as_well,
    heads_that_are_too_large_are_refused,
    what_is_no_http_is_refused,
];

fn requests_that_two_readers_read_differently_are_refused() {
    let tenant = world().ingress.private("smuggling");
    let smuggled = tenant.head("GET /smuggled", "");
    let arrivals = tenant.arrivals();
    for lines in [
        "Content-Length: 4\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: chunked\r\nContent-Length: 4",
        "Content-Length: 0\r\nContent-Length: 44",
        "Content-Length: 5\r\nContent-Length: 5",
        "Content-Length: 0, 44",
        "Content-Length: 5, 5",
        "Content-Length: +0",
        "Content-Length: -1",
        "Content-Length: 0x0",
        "Content-Length: 1e1",
        "Content-Length:",
        "Content-Length: 99999999999999999999",
        "Content-Length: 5 5",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: identity, chunked",
        "Transfer-Encoding: chunked, identity",
        "Transfer-Encoding: gzip, chunked",
        "Transfer-Encoding: chunked, chunked",
        "Transfer-Encoding: xchunked",
        "Transfer-Encoding: \"chunked\"",
        "Transfer-Encoding: chunked;q=1",
        "Transfer-Encoding:\u{b}chunked",
        "Transfer-Encoding: chunked\u{c}",
        "Transfer-Encoding:",
        "Transfer-Encoding : chunked",
        " Transfer-Encoding: chunked",
        "X: y\r\n Transfer-Encoding: chunked",
        "X: y\r\n\tTransfer-Encoding: chunked",
        "X: y\n Z: w",
        "X: y\nZ: w",
        "X: y\rZ: w",
        "X: y\r\r\nZ: w",
        "X\0: y",
        "X: \0",
        "X: \u{7f}",
        "X Y: z",
        "X",
        ": y",
        "\u{e9}: y",
        "Host: evil.example",
        "host: smuggling.agents.example.com",
    ] {
        let ask = format!("{}0\r\n\r\n{smuggled}", tenant.head("POST /first", &format!("{lines}\r\n")));
        let answer = tenant.ingress.send(&ask);
        assert!(answer.starts_with("HTTP/1.1 400 "), "{lines:?} was answered {answer:?}");
        assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{lines:?} was answered {answer:?}");
    }
    let host = tenant.host();
    let credential = format!("Authorization: Bearer {}\r\n\r\n", tenant.token());
    for line in [
        "GET  / HTTP/1.1",
        "GET / HTTP/1.1 ",
        "GET /\tHTTP/1.1",
        "GET /a b HTTP/1.1",
        "GET /\0 HTTP/1.1",
        "GET /é HTTP/1.1",
        "GET / HTTP/1.1\rX: y",
        "GET / HTTP/01.1",
        "GET / HTTP/1.2",
        "GET / HTTP/2.0",
        "GET / http/1.1",
        "GET /",
        "G(T / HTTP/1.1",
        " GET / HTTP/1.1",
        "GET evil HTTP/1.1",
        "GET http:/ HTTP/1.1",
        "PRI * HTTP/2.0",
    ] {
        let answer = tenant.ingress.send(format!("{line}\r\nHost: {host}\r\n{credential}{smuggled}"));
        assert!(!answer.contains("HTTP/1.1 200 "), "{line:?} was answered {answer:?}");
        assert!(answer.matches("HTTP/1.1 ").count() <= 1, "{line:?} was answered {answer:?}");
    }
    // Lines that end with a line feed alone.
    let feeds = tenant.head("GET /first", "").replace("\r\n", "\n");
    assert!(tenant.ingress.send(feeds).starts_with("HTTP/1.1 400 "));
    // HTTP/1.0 has no chunks, and its connection ends where that is not asked for.
    let old = tenant.head("POST /old", "Transfer-Encoding: chunked\r\n").replace("HTTP/1.1", "HTTP/1.0");
    assert!(tenant.ingress.send(format!("{old}0\r\n\r\n{smuggled}")).contains(" 400 "));
    assert_eq!(tenant.arrivals(), arrivals, "nothing of all that has arrived");
    let old = tenant.head("GET /old", "").replace("HTTP/1.1", "HTTP/1.0");
    let answer = tenant.ingress.send(format!("{old}{smuggled}"));
    assert!(answer.contains("GET /old ") && !answer.contains("/smuggled"), "{answer}");
}

fn chunks_that_two_readers_read_differently_end_the_request() {
    let tenant = world().ingress.private("chunks");
    let smuggled = tenant.head("GET /smuggled", "");
    let head = tenant.head("POST /first", "Transfer-Encoding: chunked\r\n");
    let long_line = format!("5;{}\r\nhello\r\n0\r\n\r\n", "x".repeat(1000));
    let long_trailers = format!("0\r\nx: {}\r\n\r\n", "y".repeat(20_000));
    for chunks in [
        "5\nhello\r\n0\r\n\r\n",
        "5\r\nhello\n0\r\n\r\n",
        "5\r\nhelloworld\r\n0\r\n\r\n",
        "5\r\nhel\r\n0\r\n\r\n",
        "-1\r\n",
        "+5\r\nhello\r\n0\r\n\r\n",
        "0x5\r\nhello\r\n0\r\n\r\n",
        " 5\r\nhello\r\n0\r\n\r\n",
        "5 \r\nhello\r\n0\r\n\r\n",
        "5;a\nb\r\nhello\r\n0\r\n\r\n",
        "fffffffffffffffff\r\n",
        "ffffffffffffffff\r\n",
        "10000000000000005\r\nhello\r\n0\r\n\r\n",
        "\r\n5\r\nhello\r\n0\r\n\r\n",
        "g\r\n",
        "0\n\r\n",
        "0\r\n\n",
        "0\r\nx\r\n\r\n",
        "0\r\nx : y\r\n\r\n",
        &long_line,
        &long_trailers,
    ] {
        let answer = tenant.ingress.send(format!("{head}{chunks}{smuggled}"));
        assert!(
            !answer.contains("HTTP/1.1 200 ") && !answer.contains("/smuggled"),
            "{chunks:?} was answered {answer:?}"
        );
    }
    let odd = "005;a=b;c=\"d\"\r\nhello\r\n000\r\n\r\n";
    let mut stream = tenant.ingress.connect();
    stream.write_all(format!("{head}{odd}{smuggled}").as_bytes()).unwrap();
    let first = read_answer(&mut stream);
    assert!(first.contains("POST /first ") && first.contains("hello") && !first.contains("/smuggled"), "{first}");
    assert!(read_answer(&mut stream).contains("GET /smuggled "), "what is well-formed is two requests to everybody");
}

fn what_follows_a_good_request_is_judged_as_well() {
    let tenant = world().ingress.private("judged");
    let other = world().ingress.private("judged-too");
    let arrivals = other.arrivals();
    for (second, status) in [
        (tenant.head("GET /second", "Host: b\r\n"), 400),
        (tenant.head("GET /second", "Content-Length: 1\r\nTransfer-Encoding: chunked\r\n"), 400),
        (format!("GET / HTTP/1.1\r\nHost: {}\r\n\r\n", tenant.host()), 401),
        (tenant.head("GET /second", "").replace("judged", "judged-too"), 401),
        (format!("CONNECT {}:80 HTTP/1.1\r\nHost: {0}:80\r\n\r\n", tenant.host()), 400),
    ] {
        let mut stream = tenant.ingress.connect();
        stream.write_all(format!("{}{second}", tenant.head("GET /first", "")).as_bytes()).unwrap();
        assert!(read_answer(&mut stream).contains("GET /first "));
        let answer = read_answer(&mut stream);
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{second:?} was answered {answer}");
        if status == 400 {
            assert!(ends(&mut stream), "nothing more is read of it");
        }
    }
    assert_eq!(other.arrivals(), arrivals);
    // One connection leads to each tenant that a request of it is let in to.
    let mut stream = tenant.ingress.connect();
    for one in [&tenant, &other, &tenant] {
        stream.write_all(one.head("GET /mine", "").as_bytes()).unwrap();
        let answer = read_answer(&mut stream);
        assert!(answer.contains(&format!("host: {}\r\n", one.host())), "{answer}");
    }
}

fn heads_that_are_too_large_are_refused() {
    let tenant = world().ingress.private("large");
    for head in [
        tenant.head("GET /", &format!("X: {}\r\n", "y".repeat(200_000))),
        tenant.head(&format!("GET /{}", "x".repeat(200_000)), ""),
        tenant.head(&format!("GET /?{}", "x".repeat(70_000)), ""),
        tenant.head("GET /", &"X: y\r\n".repeat(120)),
        tenant.head("GET /", &format!("{}: y\r\n", "X".repeat(70_000))),
        tenant.head("GET /", &format!("Cookie: {}\r\n", "a=1; ".repeat(20_000))),
        tenant.head(&format!("{} /", "G".repeat(70_000)), ""),
    ] {
        let answer = tenant.ingress.send(&head);
        let status = answer.split(' ').nth(1).unwrap_or_default();
        assert!(["400", "414", "431"].contains(&status), "{} bytes were answered {answer:?}", head.len());
    }
    let arrives = tenant.head(&format!("GET /{}", "x".repeat(20_000)), &format!("X: {}\r\n", "y".repeat(20_000)));
    assert!(tenant.ingress.ask(&arrives).starts_with("HTTP/1.1 200 "));
}

fn what_is_no_http_is_refused() {
    let tenant = world().ingress.private("no-http");
    for bytes in [
        &b"SSH-2.0-OpenSSH_9.6\r\n"[..],
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0",
        b"\x16\x03\x01\x00\x05\x02\0\0\x01\0",
        b"\x05\x01\x00",
        b"\0\0\0\x08\x04\xd2\x16\x2f",
        b"PROXY TCP4 6.6.6.6 127.0.0.1 1 80\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
        b"\r\n\r\n\r\n\x01",
        b"EHLO me\r\n",
    ] {
        let answer = tenant.ingress.send(bytes);
        assert!(!answer.contains(" 200 "), "{bytes:?} was answered {answer:?}");
    }
    // In the clear where TLS is spoken, and the other way round.
    let mut stream = world().tls.connect();
    stream.write_all(tenant.head("GET /", "").as_bytes()).unwrap();
    let said = read_all(&mut stream);
    assert!(!said.starts_with(b"HTTP/"), "{said:?}");
    assert!(tenant.is_served());
}
