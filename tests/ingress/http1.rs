//! HTTP/1.1 and 1.0: what passes, and how it arrives.

use std::{
    io::{Read, Write},
    net::{Shutdown, TcpStream},
};

use crate::{
    app::{self, answer, body, head, header},
    net::{echoes, read_all, read_answer, read_until},
    world::{DOMAIN, PORT, ends, world},
};

crate::trials![
    a_request_arrives_as_it_was_sent_and_its_answer_comes_back,
    the_ingress_alone_says_where_a_request_comes_from,
    bodies_of_every_framing_arrive,
    answers_of_every_framing_come_back,
    trailers_pass_in_both_directions,
    a_client_is_told_to_go_on_before_it_sends_its_body,
    requests_that_come_at_once_are_answered_in_their_order,
    a_websocket_carries_both_ways_and_ends_on_one_side_first,
    what_follows_a_websocket_that_was_declined_is_no_request,
    another_protocol_than_websocket_is_not_offered_to_a_tenant,
    who_has_sent_its_request_and_ends_gets_the_answer,
    who_ends_in_the_middle_of_a_request_gets_none,
    an_answer_comes_back_while_the_body_is_still_sent,
    what_is_no_answer_of_http_is_not_passed_on,
];

fn a_request_arrives_as_it_was_sent_and_its_answer_comes_back() {
    let tenant = world().ingress.private("arrives");
    let answer = tenant.get("/by-host?x=1&y=%2F");
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.contains("x-app: tenant"), "{answer}");
    assert!(answer.contains("\r\n\r\nGET /by-host?x=1&y=%2F HTTP/1.1\r\n"), "{answer}");
    assert!(answer.contains(&format!("host: {}\r\n", tenant.host())), "{answer}");
    for (host, path, inner) in [
        (format!("{PORT}-arrives.{DOMAIN}"), "/a", "/a"),
        (format!("ARRIVES.{DOMAIN}.:443"), "/a", "/a"),
        ("127.0.0.1:9".to_owned(), "/t/arrives/8080/a?b=/t/", "/a?b=/t/"),
        ("other.example".to_owned(), "/t/arrives/8080", "/"),
    ] {
        let request =
            format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {}\r\n\r\n", tenant.token());
        let answer = world().ingress.ask(&request);
        assert!(answer.contains(&format!("\r\n\r\nGET {inner} HTTP/1.1\r\n")), "{host}{path}: {answer}");
        assert!(answer.contains(&format!("host: {}\r\n", host.to_lowercase())), "{host}{path}: {answer}");
    }
    let absolute = tenant.head(&format!("GET http://{}/absolute", tenant.host()), "");
    assert!(world().ingress.ask(&absolute).contains("\r\n\r\nGET /absolute HTTP/1.1\r\n"));
    let old = tenant.head("GET /old", "").replace("HTTP/1.1", "HTTP/1.0");
    let answer = world().ingress.send(old);
    assert!(answer.starts_with("HTTP/1.0 200 OK\r\n") && answer.contains("GET /old HTTP/1.1\r\n"), "{answer}");
    let many = tenant.head("DELETE /any-method", "");
    assert!(world().ingress.ask(&many).contains("DELETE /any-method HTTP/1.1\r\n"));
}

fn the_ingress_alone_says_where_a_request_comes_from() {
    let tenant = world().ingress.private("forwarded");
    let forged = "X-Forwarded-For: 6.6.6.6\r\nX_Forwarded_For: 6.6.6.6\r\nX-Forwarded-Host: evil\r\nX-Forwarded-Proto: https\r\n\
                  X-Forwarded-Prefix: /evil\r\nForwarded: for=6.6.6.6\r\nX-Real-IP: 6.6.6.6\r\nX-Forwarded-User: root\r\n\
                  Connection: X-Forwarded-For, Host, X-Mine\r\nX-Mine: 1\r\nX-Other: 2\r\nKeep-Alive: timeout=5\r\n\
                  Proxy-Authorization: Basic c2VjcmV0\r\nProxy-Connection: keep-alive\r\n";
    let answer = world().ingress.ask(&tenant.head("GET /", forged));
    let (_, seen) = answer.split_once("\r\n\r\n").unwrap();
    let mut names: Vec<&str> =
        seen.lines().skip(1).filter_map(|line| line.split_once(':')).map(|(name, _)| name).collect();
    names.sort_unstable();
    assert_eq!(names, ["host", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto", "x-other"], "{seen}");
    assert_eq!(header(seen, "x-forwarded-for"), Some("127.0.0.1"));
    assert_eq!(header(seen, "x-forwarded-host"), Some(tenant.host().as_str()));
    assert_eq!(header(seen, "x-forwarded-proto"), Some("http"));
    let by_path = format!(
        "GET /t/forwarded/{PORT}/x HTTP/1.1\r\nHost: a.example\r\nAuthorization: Bearer {}\r\n{forged}\r\n",
        tenant.token()
    );
    let answer = world().ingress.ask(&by_path);
    assert!(answer.contains(&format!("x-forwarded-prefix: /t/forwarded/{PORT}\r\n")), "{answer}");
    assert!(answer.contains("x-forwarded-host: a.example\r\n") && !answer.contains("6.6.6.6"), "{answer}");
    let secure = world().tls.private("forwarded");
    let mut stream = world().tls.connect_tls("forwarded", &["http/1.1"]);
    stream.write_all(secure.head("GET /", forged).as_bytes()).unwrap();
    assert!(read_answer(&mut stream).contains("x-forwarded-proto: https\r\n"));
}

fn bodies_of_every_framing_arrive() {
    let tenant = world().ingress.private("bodies");
    let chunks = "5\r\nhello\r\n6;x=y;z=\"w\"\r\n world\r\n0\r\n\r\n";
    for (line, more, sent) in [
        ("POST /", "Content-Length: 11\r\n", "hello world"),
        ("PUT /", "Transfer-Encoding: chunked\r\n", chunks),
        ("PATCH /", "transfer-encoding: Chunked\r\n", chunks),
        // Methods that commonly have none.
        ("GET /", "Transfer-Encoding: chunked\r\n", chunks),
        ("DELETE /", "Content-Length: 11\r\n", "hello world"),
        ("OPTIONS /", "Transfer-Encoding: chunked\r\n", chunks),
    ] {
        let answer = world().ingress.ask(&format!("{}{sent}", tenant.head(line, more)));
        let (_, seen) = answer.split_once("\r\n\r\n").unwrap();
        let (_, body) = seen.split_once("\r\n\r\n").unwrap();
        assert!(body.starts_with("hello world"), "{line} {more:?}: {answer}");
        assert!(!seen.contains("x=y"), "{line}: what is between neighbours stays there: {answer}");
    }
    let empty = world().ingress.ask(&tenant.head("POST /", "Content-Length: 0\r\n"));
    assert!(empty.contains("content-length: 0\r\n"), "{empty}");
}

/// Answers each path in its own way.
fn answers(mut stream: TcpStream) {
    loop {
        let head = head(&mut stream);
        let path = head.split(' ').nth(1).unwrap_or_default();
        let (bytes, is_last) = match path {
            "" => return,
            "/chunks" => {
                ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2;a=b\r\nhi\r\n3\r\n ho\r\n0\r\n\r\n", false)
            }
            "/no-length" => ("HTTP/1.1 200 OK\r\n\r\nuntil the end", true),
            "/old" => ("HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nhi", true),
            "/none" => ("HTTP/1.1 204 No Content\r\nX-App: 1\r\n\r\n", false),
            "/same" => ("HTTP/1.1 304 Not Modified\r\nETag: \"a\"\r\nContent-Length: 5\r\n\r\n", false),
            "/head" => ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", false),
            "/early-hints" => {
                ("HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi", false)
            }
            "/odd" => ("HTTP/1.1 299 Whatever You Like\r\nContent-Length: 2\r\n\r\nhi", false),
            "/cut" => ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhi", true),
            _ => ("HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", false),
        };
        if stream.write_all(bytes.as_bytes()).is_err() || is_last {
            return;
        }
    }
}

fn answers_of_every_framing_come_back() {
    let tenant = world().ingress.public("answers", answers);
    let all = |method: &str, path: &str| {
        world().ingress.send(tenant.head(&format!("{method} {path}"), "Connection: close\r\n"))
    };
    let whole = |path: &str| {
        let answer = all("GET", path);
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head.to_lowercase(), body.to_owned())
    };
    let (head, body) = whole("/chunks");
    assert!(head.contains("transfer-encoding: chunked"), "{head}");
    assert_eq!(body.split("\r\n").filter(|part| part.contains('h')).collect::<String>(), "hi ho", "{body}");
    let (head, body) = whole("/no-length");
    assert!(head.contains("transfer-encoding: chunked") && body.contains("until the end"), "{head} {body}");
    assert!(body.ends_with("0\r\n\r\n"), "its end is told: {body}");
    assert_eq!(whole("/old").1, "hi");
    assert!(all("GET", "/none").starts_with("HTTP/1.1 204 No Content\r\nx-app: 1\r\n"));
    let same = all("GET", "/same");
    assert!(
        same.starts_with("HTTP/1.1 304 Not Modified\r\n") && same.contains("etag: \"a\"") && same.ends_with("\r\n\r\n")
    );
    let only_head = all("HEAD", "/head");
    assert!(only_head.contains("content-length: 5\r\n") && only_head.ends_with("\r\n\r\n"), "{only_head}");
    assert_eq!(whole("/early-hints").1, "hi");
    assert!(whole("/odd").0.starts_with("http/1.1 299 "));
    let cut = all("GET", "/cut");
    assert!(cut.split("\r\n\r\n").nth(1).is_none_or(|body| body.len() < 5), "what is missing is not made up: {cut}");
    // Nothing of all this ends a client's connection that did not ask for it.
    let mut stream = world().ingress.connect();
    for (path, status) in [("/none", 204), ("/same", 304), ("/no-such", 404), ("/none", 204)] {
        stream.write_all(tenant.head(&format!("GET {path}"), "").as_bytes()).unwrap();
        let answer = read_until(&mut stream, "\r\n\r\n");
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{path}: {answer}");
    }
}

fn trailers_pass_in_both_directions() {
    let tenant = world().ingress.public("trailers", |mut stream| {
        let head = head(&mut stream);
        let Some((body, trailers)) = body(&mut stream, &head) else { return };
        let seen = format!("{} {}", String::from_utf8_lossy(&body), trailers.trim());
        let length = seen.len();
        let answer = format!(
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: sum\r\n\r\n{length:x}\r\n{seen}\r\n0\r\nsum: 42\r\n\r\n"
        );
        let _ = stream.write_all(answer.as_bytes());
    });
    let more = "TE: trailers\r\nConnection: close, TE\r\nTransfer-Encoding: chunked\r\nTrailer: digest\r\n";
    let answer = world().ingress.send(format!("{}2\r\nhi\r\n0\r\ndigest: 7\r\n\r\n", tenant.head("POST /", more)));
    assert!(answer.contains("hi digest: 7\r\n") && answer.ends_with("0\r\nsum: 42\r\n\r\n"), "{answer}");
}

fn a_client_is_told_to_go_on_before_it_sends_its_body() {
    let tenant = world().ingress.private("continue");
    let mut stream = world().ingress.connect();
    let expecting = "Content-Length: 5\r\nExpect: 100-continue\r\n";
    stream.write_all(tenant.head("POST /", expecting).as_bytes()).unwrap();
    assert!(read_until(&mut stream, "\r\n\r\n").starts_with("HTTP/1.1 100 "));
    stream.write_all(b"later").unwrap();
    let answer = read_answer(&mut stream);
    assert!(answer.ends_with("later") && !answer.contains("expect:"), "{answer}");
    // Who may not come in is told that instead.
    let mut stream = world().ingress.connect();
    let request = format!("POST / HTTP/1.1\r\nHost: {}\r\n{expecting}\r\n", tenant.host());
    stream.write_all(request.as_bytes()).unwrap();
    assert!(read_answer(&mut stream).starts_with("HTTP/1.1 401 "));
}

fn requests_that_come_at_once_are_answered_in_their_order() {
    let tenant = world().ingress.private("pipeline");
    let mut stream = world().ingress.connect();
    let requests: String = (0..20)
        .map(|number| match number % 3 {
            0 => format!("{}hi", tenant.head(&format!("POST /{number}"), "Content-Length: 2\r\n")),
            1 => tenant.head(&format!("GET /{number}"), ""),
            _ => format!("{}0\r\n\r\n", tenant.head(&format!("POST /{number}"), "Transfer-Encoding: chunked\r\n")),
        })
        .collect();
    stream.write_all(requests.as_bytes()).unwrap();
    for number in 0..20 {
        let answer = read_answer(&mut stream);
        assert!(answer.contains(&format!(" /{number} HTTP/1.1\r\n")), "{number}: {answer}");
    }
}

fn a_websocket_carries_both_ways_and_ends_on_one_side_first() {
    let tenant = world().ingress.private("websocket");
    let mut stream = tenant.websocket(&tenant.token());
    for text in ["hello", "and more"] {
        assert!(echoes(&mut stream, text));
    }
    let much = vec![b'x'; 1 << 20];
    let mut writing = stream.try_clone().unwrap();
    let sent = much.clone();
    let sending = std::thread::spawn(move || writing.write_all(&sent).unwrap());
    let mut back = vec![0; much.len()];
    stream.read_exact(&mut back).unwrap();
    sending.join().unwrap();
    assert_eq!(back, much);
    // The client first, and what was on its way comes back.
    stream.write_all(b"last").unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    assert_eq!(read_all(&mut stream), b"last");
    // The tenant first.
    let (heard, hears) = std::sync::mpsc::channel();
    let tenant = world().ingress.public("ends-first", move |mut stream| {
        head(&mut stream);
        let agreed = b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\nall";
        stream.write_all(agreed).unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        heard.send(read_all(&mut stream)).unwrap();
    });
    let mut stream = tenant.websocket(&tenant.token());
    assert_eq!(read_all(&mut stream), b"all");
    stream.write_all(b"still here").unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    assert_eq!(hears.recv_timeout(std::time::Duration::from_secs(10)).unwrap(), b"still here");
    // Over TLS it is the same.
    let secure = world().tls.private("websocket");
    let mut stream = world().tls.connect_tls("websocket", &["http/1.1"]);
    stream.write_all(secure.head("GET /", "Connection: Upgrade\r\nUpgrade: websocket\r\n").as_bytes()).unwrap();
    assert!(read_until(&mut stream, "\r\n\r\n").starts_with("HTTP/1.1 101 "));
    stream.write_all(b"over TLS").unwrap();
    let mut back = [0; 8];
    stream.read_exact(&mut back).unwrap();
    assert_eq!(&back, b"over TLS");
}

const OFFER: &str = "Connection: Upgrade\r\nUpgrade: websocket\r\n";

fn what_follows_a_websocket_that_was_declined_is_no_request() {
    let declining = world()
        .ingress
        .public("declines", |mut stream| while !head(&mut stream).is_empty() && answer(&mut stream, b"no").is_ok() {});
    let private = world().ingress.private("declined");
    let smuggled = declining.head("GET /smuggled", "");
    for (ask, status) in [
        (declining.head("GET /no", OFFER), 200),
        (format!("GET / HTTP/1.1\r\nHost: {}\r\n{OFFER}\r\n", private.host()), 401),
        (format!("GET / HTTP/1.1\r\nHost: nobody.example\r\n{OFFER}\r\n"), 404),
    ] {
        let all = world().ingress.send(format!("{ask}{smuggled}"));
        assert!(all.starts_with(&format!("HTTP/1.1 {status} ")), "{ask:?} was answered {all}");
        assert_eq!(all.matches("HTTP/1.1 ").count(), 1, "{ask:?} was answered {all}");
        assert!(all.to_lowercase().contains("connection: close"), "{ask:?} was answered {all}");
    }
}

fn another_protocol_than_websocket_is_not_offered_to_a_tenant() {
    let tenant = world().ingress.private("offers");
    for offer in [
        "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA\r\n",
        "Connection: Upgrade\r\nUpgrade: TLS/1.2, h2\r\n",
        "Connection: Upgrade\r\nUpgrade: tcp\r\n",
        "Upgrade: websocket\r\n",
    ] {
        let mut stream = world().ingress.connect();
        for _ in 0..2 {
            stream.write_all(tenant.head("GET /", offer).as_bytes()).unwrap();
            let answer = read_answer(&mut stream).to_lowercase();
            assert!(answer.starts_with("http/1.1 200 ok\r\n"), "{offer:?} was answered {answer}");
            assert!(!answer.contains("upgrade") && !answer.contains("http2-settings"), "{offer:?}: {answer}");
        }
    }
}

fn who_has_sent_its_request_and_ends_gets_the_answer() {
    let tenant = world().ingress.private("says-all");
    let post = format!("{}hello", tenant.head("POST /x", "Content-Length: 5\r\n"));
    let chunks = format!("{}5\r\nhello\r\n0\r\n\r\n", tenant.head("POST /x", "Transfer-Encoding: chunked\r\n"));
    for request in [tenant.head("GET /x", ""), post.clone(), chunks] {
        let mut stream = world().ingress.connect();
        stream.write_all(request.as_bytes()).unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        let answer = String::from_utf8_lossy(&read_all(&mut stream)).into_owned();
        assert!(
            answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.contains(" /x HTTP/1.1\r\n"),
            "{request:?}: {answer}"
        );
    }
    let mut stream = world().ingress.connect();
    stream.write_all(post.repeat(2).as_bytes()).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let both = String::from_utf8_lossy(&read_all(&mut stream)).into_owned();
    assert_eq!(both.matches("HTTP/1.1 200 OK\r\n").count(), 2, "{both}");
}

fn who_ends_in_the_middle_of_a_request_gets_none() {
    let tenant = world().ingress.private("half-said");
    let head = tenant.head("GET /x", "");
    for half in [
        head[..head.len() - 2].to_owned(),
        format!("{}hel", tenant.head("POST /x", "Content-Length: 5\r\n")),
        format!("{}5\r\nhel", tenant.head("POST /x", "Transfer-Encoding: chunked\r\n")),
    ] {
        let mut stream = world().ingress.connect();
        stream.write_all(half.as_bytes()).unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        let answer = read_until(&mut stream, "\r\n");
        assert!(!answer.starts_with("HTTP/1.1 200 "), "{half:?} was answered {answer:?}");
        assert!(ends(&mut stream), "{half:?} is waited for");
    }
}

/// The answer arrives, whether the client reads while it sends or once it has sent all.
fn an_answer_comes_back_while_the_body_is_still_sent() {
    let tenant = world().ingress.public("too-large", app::refuses);
    let length = 8 << 20;
    let head = tenant.head("POST /", &format!("Content-Length: {length}\r\n"));
    let mut reads_first = world().ingress.connect();
    reads_first.write_all(format!("{head}the beginning").as_bytes()).unwrap();
    assert!(read_answer(&mut reads_first).ends_with("too much"));
    let mut sends_first = world().ingress.connect();
    sends_first.write_all(head.as_bytes()).unwrap();
    // It may be closed meanwhile.
    let _ = sends_first.write_all(&vec![b'x'; length]);
    let answer = read_answer(&mut sends_first);
    assert!(answer.starts_with("HTTP/1.1 413 ") && answer.ends_with("too much"), "{answer}");
    // Who may not come in is told so as well.
    let private = world().ingress.private("too-large-for");
    let mut stream = world().ingress.connect();
    let head = format!("POST / HTTP/1.1\r\nHost: {}\r\nContent-Length: {length}\r\n\r\n", private.host());
    stream.write_all(head.as_bytes()).unwrap();
    let _ = stream.write_all(&vec![b'x'; length]);
    let answer = read_answer(&mut stream);
    assert!(answer.starts_with("HTTP/1.1 401 "), "{answer}");
    assert!(ends(&mut stream), "nothing more is read of it");
}

fn what_is_no_answer_of_http_is_not_passed_on() {
    let tenant = world().ingress.public("no-http", |mut stream| {
        let head = head(&mut stream);
        let bytes: Vec<u8> = match head.split(' ').nth(1).unwrap_or_default() {
            "/nothing" => Vec::new(),
            "/other" => b"SSH-2.0-OpenSSH_9.6\r\n".to_vec(),
            "/half" => b"HTTP/1.1 200 OK\r\nContent-".to_vec(),
            "/split" => b"HTTP/1.1 200 OK\r\nX: a\rb\r\nContent-Length: 0\r\n\r\n".to_vec(),
            "/two-lengths" => b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nhi!".to_vec(),
            "/long" => format!("HTTP/1.1 200 OK\r\nX: {}\r\n\r\n", "y".repeat(1 << 20)).into_bytes(),
            "/unasked" => {
                b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n".to_vec()
            }
            path => panic!("{path}"),
        };
        let _ = stream.write_all(&bytes);
    });
    for path in ["/nothing", "/other", "/half", "/split", "/two-lengths", "/long", "/unasked"] {
        let answer = tenant.get(path);
        assert!(answer.starts_with("HTTP/1.1 502 ") && answer.contains("tenantd: "), "{path}: {answer}");
    }
    assert!(app::header(&tenant.get("/nothing"), "retry-after").is_none());
}
