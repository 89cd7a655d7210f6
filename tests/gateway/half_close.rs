//! Sides that have said all and hear on, as TCP has it.

use std::{
    fs,
    io::{ErrorKind, Read, Write},
    net::{Shutdown, TcpStream},
    sync::mpsc,
    time::Duration,
};

use crate::{
    attacks::hello,
    net::{eventually, read_all, read_until},
    servers::{https, serve},
    world::{HTTP, PROXY, Tenant, world},
};

crate::trials![
    who_has_sent_its_request_and_ends_gets_the_answer,
    who_has_sent_a_request_to_a_route_and_ends_gets_the_answer,
    a_destination_that_ends_first_still_hears,
    tls_by_name_ends_on_one_side_alone,
    who_ends_in_the_middle_of_a_request_is_not_waited_for,
];

/// What `nc` does with its standard input: sends it, ends its sending side, and reads what comes back.
fn nc(tenant: &Tenant, port: u16, bytes: &[u8]) -> String {
    let mut stream = tenant.connect(port).unwrap();
    stream.write_all(bytes).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    String::from_utf8_lossy(&read_all(&mut stream)).into_owned()
}

fn who_has_sent_its_request_and_ends_gets_the_answer() {
    let tenant = world().gateway.tenant("says-all", &["api.example.com:80"]);
    let post = "POST /x HTTP/1.1\r\nHost: api.example.com\r\nContent-Length: 5\r\n\r\nhello";
    let chunks =
        "POST /x HTTP/1.1\r\nHost: api.example.com\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n";
    for (port, request, end) in [
        (HTTP, "GET /x HTTP/1.1\r\nHost: api.example.com\r\n\r\n", "\r\n\r\n"),
        (HTTP, "GET /x HTTP/1.0\r\nHost: api.example.com\r\n\r\n", "\r\n\r\n"),
        (HTTP, post, "\r\n\r\nhello"),
        (HTTP, chunks, "hello\r\n0\r\n\r\n"),
        (PROXY, "GET http://api.example.com/x HTTP/1.1\r\nHost: api.example.com\r\n\r\n", "\r\n\r\n"),
    ] {
        let answer = nc(&tenant, port, request.as_bytes());
        let version = if request.contains("HTTP/1.0") { "HTTP/1.0" } else { "HTTP/1.1" };
        assert!(answer.starts_with(&format!("{version} 200 OK\r\n")), "{request:?} was answered {answer:?}");
        assert!(answer.contains(" /x HTTP/1.1\r\n") && answer.ends_with(end), "{request:?} was answered {answer:?}");
    }
    let both = nc(&tenant, HTTP, post.repeat(2).as_bytes());
    assert_eq!(both.matches("HTTP/1.1 200 OK\r\n").count(), 2, "{both}");
    let refused = nc(&tenant, HTTP, b"GET / HTTP/1.1\r\nHost: evil.example\r\n\r\n");
    assert!(refused.contains("(not-listed)"), "{refused}");
    // A tunnel, with what goes through it in the same breath.
    let tenant = world().gateway.tenant("says-all-by-tunnel", &["api.example.com:7000"]);
    let head = "CONNECT api.example.com:7000 HTTP/1.1\r\nHost: api.example.com:7000\r\n\r\n";
    assert!(nc(&tenant, PROXY, format!("{head}hello").as_bytes()).ends_with("\r\n\r\nhello[end]"));
}

fn who_has_sent_a_request_to_a_route_and_ends_gets_the_answer() {
    const UPSTREAM: u16 = 8110;
    let gateway = crate::world::Gateway::start_trusting("half-close", "", None);
    let config = world().tls.server.clone();
    serve("world", UPSTREAM, &world().arrivals, move |stream| https(stream, &config));
    let tenant = gateway.tenant("says-all", &[]);
    let secrets = gateway.settings().with_file_name("egress/secrets/says-all.json");
    fs::write(secrets, r#"{"values":{"crm":"k3y"}}"#).unwrap();
    tenant.write(&tenant.policy(&format!(
        r#""allow":[],"routes":[{{"name":"crm",
            "upstream":"https://api.example.com:{UPSTREAM}",
            "inject":{{"header":{{"name":"authorization","value":"${{secret:crm}}"}}}}}}]"#
    )));
    let request = "GET /crm/x HTTP/1.1\r\nHost: gateway.internal\r\n";
    eventually("the route", Duration::from_secs(5), || {
        tenant.ask(HTTP, &format!("{request}\r\n")).starts_with("HTTP/1.1 200 ")
    });
    // The first is sent over a connection of before, the second opens one.
    for more in ["", "Connection: close\r\n", ""] {
        let answer = nc(&tenant, HTTP, format!("{request}{more}\r\n").as_bytes());
        assert!(
            answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.contains("\r\n\r\nGET /x HTTP/1.1\r\n"),
            "{answer}"
        );
    }
}

/// Says all at once and ends; what it hears afterwards is sent to the test.
fn ends_first(mut stream: TcpStream, heard: &mpsc::Sender<Vec<u8>>, waits_for: usize) {
    stream.read_exact(&mut vec![0; waits_for]).unwrap();
    stream.write_all(b"all\n").unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    heard.send(read_all(&mut stream)).unwrap();
}

fn a_destination_that_ends_first_still_hears() {
    const PORT: u16 = 8111;
    let (heard, hears) = mpsc::channel();
    serve("world", PORT, &world().arrivals, move |stream| ends_first(stream, &heard, 0));
    let tenant = world().gateway.tenant("hears", &["api.example.com:8111"]);
    let mut stream = tenant.tunnel("api.example.com:8111").unwrap();
    assert_eq!(read_all(&mut stream), b"all\n");
    stream.write_all(b"still here").unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    assert_eq!(hears.recv_timeout(Duration::from_secs(10)).unwrap(), b"still here");
}

fn tls_by_name_ends_on_one_side_alone() {
    const PORT: u16 = 8112;
    let bytes = hello("api.example.com");
    let (heard, hears) = mpsc::channel();
    let length = bytes.len();
    serve("world", PORT, &world().arrivals, move |stream| ends_first(stream, &heard, length));
    serve("world", PORT + 1, &world().arrivals, |mut stream| {
        let read = read_all(&mut stream).len();
        let _ = stream.write_all(format!("{read} bytes").as_bytes());
    });
    let tenant = world().gateway.tenant("tls-ends", &["api.example.com:8112", "api.example.com:8113"]);
    // The destination first.
    let mut stream = tenant.connect(PORT).unwrap();
    stream.write_all(&bytes).unwrap();
    assert_eq!(read_all(&mut stream), b"all\n");
    stream.write_all(b"still here").unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    assert_eq!(hears.recv_timeout(Duration::from_secs(10)).unwrap(), b"still here");
    // The tenant first.
    let mut stream = tenant.connect(PORT + 1).unwrap();
    stream.write_all(&bytes).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    assert_eq!(read_all(&mut stream), format!("{length} bytes").as_bytes());
}

fn who_ends_in_the_middle_of_a_request_is_not_waited_for() {
    let tenant = world().gateway.tenant("half-said", &["api.example.com:80"]);
    for half in [
        "GET /x HTTP/1.1\r\nHost: api.example.com\r\n",
        "POST /x HTTP/1.1\r\nHost: api.example.com\r\nContent-Length: 5\r\n\r\nhel",
        "POST /x HTTP/1.1\r\nHost: api.example.com\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhel",
    ] {
        let mut stream = tenant.connect(HTTP).unwrap();
        stream.write_all(half.as_bytes()).unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        let answer = read_until(&mut stream, "\r\n");
        assert!(!answer.starts_with("HTTP/1.1 200 "), "{half:?} was answered {answer:?}");
        // It is closed, and not when time is up.
        loop {
            match stream.read(&mut [0; 4096]) {
                Ok(0) => break,
                Ok(_) => {}
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::ConnectionReset, "{half:?}: {error}");
                    break;
                }
            }
        }
    }
}
