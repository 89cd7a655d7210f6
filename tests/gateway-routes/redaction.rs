//! A key that the upstream sends back.

use tenantd::model::egress::{Cost, StreamMode};

use crate::world::{Piece, SECRET, answer, read_until, run, text};

fn masked() -> String {
    "*".repeat(SECRET.len())
}

#[test]
fn a_key_in_headers_body_and_reason_is_masked_and_lengths_stay_true() {
    run(
        |_, _| (),
        |_| answer(&format!("418 {SECRET}\r\nX-Echo: Bearer {SECRET}; {SECRET}"), &format!("<{SECRET}>{SECRET}")),
        |world| async move {
            let got = world.get("/crm/", "").await;
            assert!(!got.contains(SECRET) && got.starts_with("HTTP/1.1 418 I'm a teapot\r\n"), "{got}");
            assert!(got.contains(&format!("x-echo: Bearer {0}; {0}\r\n", masked())), "{got}");
            assert!(got.ends_with(&format!("\r\n\r\n<{0}>{0}", masked())), "{got}");
            assert!(got.contains(&format!("content-length: {}\r\n", 2 * SECRET.len() + 2)), "{got}");
        },
    );
}

#[test]
fn a_key_across_chunks_and_in_trailers_is_masked() {
    run(
        |_, _| (),
        |_| {
            let mut pieces = text("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n");
            for byte in format!("a {SECRET} b").bytes() {
                pieces.push(Piece::Write(vec![b'1', b'\r', b'\n', byte, b'\r', b'\n']));
                pieces.push(Piece::Pause(2));
            }
            pieces.extend(text(&format!("0\r\nX-Sum: {SECRET}\r\n\r\n")));
            pieces
        },
        |world| async move {
            let got = world.get("/crm/", "TE: trailers\r\n").await;
            let body: String = got.split("\r\n\r\n").nth(1).unwrap().lines().skip(1).step_by(2).collect();
            assert!(body.starts_with(&format!("a {} b", masked())), "{got}");
            assert!(got.contains(&format!("x-sum: {}\r\n", masked())), "{got}");
            assert!(!got.contains("s3cret"), "{got}");
        },
    );
}

#[test]
fn an_answer_that_is_encoded_all_the_same_is_not_passed_on() {
    run(
        |_, _| (),
        |_| answer("200 OK\r\nContent-Encoding: gzip", "zipped"),
        |world| async move {
            let got = world.get("/crm/", "").await;
            assert!(got.starts_with("HTTP/1.1 502 ") && got.contains("(hidden-answer)"), "{got}");
            assert!(!got.contains("zipped"), "{got}");
        },
    );
}

/// An answer without a body has nothing to hide, whatever its headers say of the body that it stands for: answers to
/// HEAD, 204 and 304, after a 103 as well, and an empty one.
#[test]
fn an_answer_without_a_body_is_passed_on_whatever_its_encoding() {
    run(
        |_, routes| routes[0].cost = Some(Cost { reserve: 1, settle: None, stream: StreamMode::Refuse }),
        |seen| {
            let status = match seen.line().split(' ').nth(1).unwrap().trim_start_matches("/v1/") {
                "head" => "200 OK\r\nContent-Length: 42",
                "unchanged" => "304 Not Modified\r\nContent-Length: 42\r\nETag: \"x\"",
                "nothing" => "204 No Content",
                "hints" => "103 Early Hints\r\nLink: </x>\r\n\r\nHTTP/1.1 304 Not Modified",
                _ => "200 OK\r\nContent-Length: 0",
            };
            text(&format!("HTTP/1.1 {status}\r\nContent-Encoding: gzip\r\nContent-Type: text/event-stream\r\n\r\n"))
        },
        |world| async move {
            for (method, path, status) in [
                ("HEAD", "head", 200),
                ("GET", "unchanged", 304),
                ("HEAD", "unchanged", 304),
                ("GET", "nothing", 204),
                ("DELETE", "nothing", 204),
                ("GET", "hints", 304),
                ("GET", "empty", 200),
            ] {
                let request =
                    format!("{method} /crm/{path} HTTP/1.1\r\nHost: gateway.internal\r\nConnection: close\r\n\r\n");
                let got = world.call(&request).await;
                assert!(got.starts_with(&format!("HTTP/1.1 {status} ")), "{method} {path}: {got}");
                assert!(
                    got.contains("content-encoding: gzip\r\n") && got.ends_with("\r\n\r\n"),
                    "{method} {path}: {got}"
                );
                assert!(method == "GET" || path != "head" || got.contains("content-length: 42\r\n"), "{got}");
            }
            assert!(world.seen().iter().all(|seen| seen.connection == 0), "the connection is used again");
        },
    );
}

#[test]
fn an_event_arrives_before_the_next_one_is_sent() {
    run(
        |_, _| (),
        |_| {
            let head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";
            let mut pieces = text(head);
            pieces.extend(text("f\r\ndata: {\"n\":1}\n\n\r\n"));
            pieces.push(Piece::Pause(3_600_000));
            pieces
        },
        |world| async move {
            let mut stream = world.open("GET /crm/ HTTP/1.1\r\nHost: gateway.internal\r\n\r\n").await;
            read_until(&mut stream, b"data: {\"n\":1}\n\n").await;
        },
    );
}
