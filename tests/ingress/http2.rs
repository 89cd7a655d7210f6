//! HTTP/2: what passes, and how it arrives. A tenant is spoken to in HTTP/1.1.

use std::{
    io::{Read, Write},
    sync::Arc,
    time::Duration,
};

use http_body_util::{BodyExt, Empty, Full, StreamBody, combinators::BoxBody};
use hyper::{
    HeaderMap, Request, Response,
    body::{Bytes, Frame, Incoming},
    client::conn::http2::{SendRequest, handshake},
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::ServerName;
use tokio::runtime::Runtime;
use tokio_rustls::TlsConnector;

use crate::{
    app::{self, Valve, bytes_at, head, header},
    resident,
    world::{Ingress, Tenant, world},
};

crate::trials![
    requests_of_one_connection_are_answered_side_by_side,
    what_a_tenant_sees_is_a_request_of_http1,
    bodies_and_trailers_pass_in_both_directions,
    an_answer_without_a_body_has_none,
    many_mib_wait_for_who_takes_them_and_arrive_whole,
    events_come_one_by_one_beside_other_requests,
    an_answer_comes_back_before_the_body_was_sent,
];

type Body = BoxBody<Bytes, std::io::Error>;

/// A client over one connection.
struct Client<'a> {
    tenant: &'a Tenant<'a>,
    runtime: Runtime,
    sender: SendRequest<Body>,
}

impl<'a> Client<'a> {
    fn new(tenant: &'a Tenant<'a>) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let stream = tenant.ingress.connect();
        stream.set_nonblocking(true).unwrap();
        let sender = runtime.block_on(async {
            let connector = TlsConnector::from(Arc::new(world().authority.client(&["h2"])));
            let stream = tokio::net::TcpStream::from_std(stream).unwrap();
            let stream = connector.connect(ServerName::try_from(tenant.host()).unwrap(), stream).await.unwrap();
            let (sender, connection) = handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
            tokio::spawn(connection);
            sender
        });
        Self { tenant, runtime, sender }
    }

    fn request(&self, method: &str, path: &str, body: Body) -> Request<Body> {
        Request::builder()
            .method(method)
            .uri(format!("https://{}{path}", self.tenant.host()))
            .header("authorization", format!("Bearer {}", self.tenant.token()))
            .body(body)
            .unwrap()
    }

    async fn send(&self, request: Request<Body>) -> Response<Incoming> {
        let mut sender = self.sender.clone();
        sender.ready().await.unwrap();
        sender.send_request(request).await.unwrap()
    }

    /// The status and the body of an answer.
    fn ask(&self, method: &str, path: &str, body: Body) -> (u16, String) {
        self.runtime.block_on(async {
            let answer = self.send(self.request(method, path, body)).await;
            let status = answer.status().as_u16();
            (status, String::from_utf8(answer.into_body().collect().await.unwrap().to_bytes().to_vec()).unwrap())
        })
    }
}

fn nothing() -> Body {
    Empty::new().map_err(|never| match never {}).boxed()
}

fn text(text: &str) -> Body {
    Full::new(Bytes::from(text.to_owned())).map_err(|never| match never {}).boxed()
}

/// A body of unknown length, in pieces.
fn pieces(frames: Vec<Frame<Bytes>>) -> Body {
    StreamBody::new(futures_util::stream::iter(frames.into_iter().map(Ok))).boxed()
}

fn requests_of_one_connection_are_answered_side_by_side() {
    let valve = Valve::closed();
    let waits = Arc::clone(&valve);
    let tenant = world().tls.public("side-by-side", move |mut stream| {
        let mut first = head(&mut stream);
        while !first.is_empty() {
            if first.starts_with("GET /waits ") {
                waits.pass();
            }
            app::answer(&mut stream, first.as_bytes()).unwrap();
            first = head(&mut stream);
        }
    });
    let client = Client::new(&tenant);
    client.runtime.block_on(async {
        let waiting = client.send(client.request("GET", "/waits", nothing()));
        let mut waiting = std::pin::pin!(waiting);
        for number in 0..50 {
            let other = client.send(client.request("GET", &format!("/{number}"), nothing()));
            tokio::select! {
                biased;
                _ = &mut waiting => panic!("it is answered before its tenant answers"),
                answer = other => assert_eq!(answer.status(), 200),
            }
        }
        valve.open();
        assert_eq!(waiting.await.status(), 200);
    });
}

fn what_a_tenant_sees_is_a_request_of_http1() {
    let tenant = world().tls.private("translated");
    let client = Client::new(&tenant);
    let mut request = client.request("GET", "/a?b=c", nothing());
    let headers = request.headers_mut();
    for (name, value) in [
        ("cookie", "a=1"),
        ("cookie", "__Host-tenantd=tdt_x.y"),
        ("cookie", "b=2"),
        ("x-forwarded-for", "6.6.6.6"),
        ("te", "trailers"),
        ("x-mine", "1"),
    ] {
        headers.append(name, value.parse().unwrap());
    }
    let seen = client.runtime.block_on(async {
        let answer = client.send(request).await;
        String::from_utf8(answer.into_body().collect().await.unwrap().to_bytes().to_vec()).unwrap()
    });
    assert!(seen.starts_with("GET /a?b=c HTTP/1.1\r\n"), "{seen}");
    let host = tenant.host();
    let expected = [
        ("host", Some(host.as_str())),
        ("cookie", Some("a=1; b=2")),
        ("x-forwarded-for", Some("127.0.0.1")),
        ("x-forwarded-proto", Some("https")),
        ("te", Some("trailers")),
        ("x-mine", Some("1")),
        ("authorization", None),
        ("transfer-encoding", None),
        ("content-length", None),
    ];
    for (name, value) in expected {
        assert_eq!(header(&seen, name), value, "{name}: {seen}");
    }
    assert_eq!(client.ask("CONNECT", "", nothing()).0, 501, "nobody is a proxy here");
}

fn bodies_and_trailers_pass_in_both_directions() {
    let tenant = world().tls.private("bodies");
    let client = Client::new(&tenant);
    let (status, seen) = client.ask("POST", "/", text("hello"));
    assert!(status == 200 && seen.contains("content-length: 5\r\n") && seen.ends_with("\r\n\r\nhello"), "{seen}");
    let two = || pieces(vec![Frame::data(Bytes::from("hello ")), Frame::data(Bytes::from("world"))]);
    for method in ["POST", "GET"] {
        let (_, seen) = client.ask(method, "/", two());
        assert!(seen.contains("transfer-encoding: chunked\r\n") && seen.contains("hello world"), "{method}: {seen}");
    }
    let with_trailers = world().tls.public("trailers", |mut stream| {
        let head = head(&mut stream);
        let (body, trailers) = app::body(&mut stream, &head).unwrap();
        let seen = format!("{} {}", String::from_utf8_lossy(&body), trailers.trim());
        let length = seen.len();
        let answer = format!(
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: sum\r\n\r\n{length:x}\r\n{seen}\r\n0\r\nsum: 42\r\n\r\n"
        );
        stream.write_all(answer.as_bytes()).unwrap();
    });
    let client = Client::new(&with_trailers);
    let mut trailers = HeaderMap::new();
    trailers.insert("digest", "7".parse().unwrap());
    let mut request =
        client.request("POST", "/", pieces(vec![Frame::data(Bytes::from("hi")), Frame::trailers(trailers)]));
    request.headers_mut().insert("trailer", "digest".parse().unwrap());
    client.runtime.block_on(async {
        let answer = client.send(request).await.into_body().collect().await.unwrap();
        assert_eq!(answer.trailers().and_then(|trailers| trailers.get("sum")).unwrap(), "42");
        assert_eq!(answer.to_bytes(), "hi digest: 7");
    });
}

fn an_answer_without_a_body_has_none() {
    let tenant = world().tls.public("bodiless", |mut stream| {
        loop {
            let head = head(&mut stream);
            let answer: &[u8] = match head.split(' ').next().unwrap_or_default() {
                "" => return,
                "HEAD" => b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n",
                "GET" => b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n",
                _ => b"HTTP/1.1 204 No Content\r\n\r\n",
            };
            stream.write_all(answer).unwrap();
        }
    });
    let client = Client::new(&tenant);
    for (method, status) in [("HEAD", 200), ("GET", 304), ("DELETE", 204)] {
        assert_eq!(client.ask(method, "/", nothing()), (status, String::new()), "{method}");
    }
}

fn many_mib_wait_for_who_takes_them_and_arrive_whole() {
    const LENGTH: usize = 64 << 20;
    let ingress = Ingress::start_tls("http2-bodies", "");
    let valve = Valve::closed();
    let down = ingress.public("down", app::pour(LENGTH as u64, Arc::clone(&valve)));
    let before = resident(ingress.pid());
    let client = Client::new(&down);
    client.runtime.block_on(async {
        let answer = client.send(client.request("GET", "/", nothing())).await;
        // It is not read, and so its tenant cannot go on.
        let mut sent = u64::MAX;
        while sent != valve.gone() {
            sent = valve.gone();
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
        assert!(sent < LENGTH as u64 / 2, "{sent} bytes were sent to a client that reads nothing");
        let taken = resident(ingress.pid()).saturating_sub(before);
        assert!(taken < 16, "{taken} MiB");
        let mut body = answer.into_body();
        let mut place = 0;
        while let Some(frame) = body.frame().await {
            let data = frame.unwrap().into_data().unwrap();
            assert!(data == bytes_at(place, data.len()), "other bytes after {place}");
            place += data.len() as u64;
        }
        assert_eq!(place, LENGTH as u64);
    });
    let valve = Valve::closed();
    let waits = Arc::clone(&valve);
    let up = ingress.public("up", move |mut stream| {
        let head = head(&mut stream);
        assert_eq!(header(&head, "content-length"), Some(LENGTH.to_string().as_str()));
        waits.pass();
        let mut piece = vec![0; 1 << 20];
        for place in 0..LENGTH / piece.len() {
            stream.read_exact(&mut piece).unwrap();
            assert!(piece == bytes_at((place * piece.len()) as u64, piece.len()));
        }
        app::answer(&mut stream, b"all").unwrap();
    });
    let client = Client::new(&up);
    let before = resident(ingress.pid());
    client.runtime.block_on(async {
        let body = Full::new(Bytes::from(bytes_at(0, LENGTH))).map_err(|never| match never {}).boxed();
        let asking = client.send(client.request("POST", "/", body));
        let mut asking = std::pin::pin!(asking);
        tokio::select! {
            _ = &mut asking => panic!("it is answered before its tenant has read it"),
            () = tokio::time::sleep(Duration::from_secs(2)) => {}
        }
        let taken = resident(ingress.pid()).saturating_sub(before);
        assert!(taken < 16, "{taken} MiB");
        valve.open();
        assert_eq!(asking.await.into_body().collect().await.unwrap().to_bytes(), "all");
    });
}

fn events_come_one_by_one_beside_other_requests() {
    let (say, says) = std::sync::mpsc::channel::<String>();
    let says = std::sync::Mutex::new(says);
    let tenant = world().tls.public("events", move |mut stream| {
        while !head(&mut stream).is_empty() {
            let Ok(first) = says.try_lock() else {
                app::answer(&mut stream, b"other").unwrap();
                continue;
            };
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n").unwrap();
            for text in first.iter() {
                stream.write_all(format!("data: {text}\n\n").as_bytes()).unwrap();
            }
            return;
        }
    });
    let client = Client::new(&tenant);
    client.runtime.block_on(async {
        let mut events = client.send(client.request("GET", "/events", nothing())).await.into_body();
        for number in 0..5 {
            say.send(number.to_string()).unwrap();
            let event = events.frame().await.unwrap().unwrap().into_data().unwrap();
            assert_eq!(event, format!("data: {number}\n\n"));
            let other = client.send(client.request("GET", "/other", nothing())).await;
            assert_eq!(other.into_body().collect().await.unwrap().to_bytes(), "other");
        }
        drop(say);
        assert!(events.collect().await.unwrap().to_bytes().is_empty());
    });
}

fn an_answer_comes_back_before_the_body_was_sent() {
    let tenant = world().tls.public("too-large", app::refuses);
    let client = Client::new(&tenant);
    let body = Full::new(Bytes::from(vec![b'x'; 8 << 20])).map_err(|never| match never {}).boxed();
    assert_eq!(client.ask("POST", "/", body), (413, "too much".to_owned()));
    assert_eq!(client.ask("GET", "/", nothing()).0, 413, "the connection goes on");
}
