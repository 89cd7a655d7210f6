//! Long answers, and routes that go away.

use std::{sync::Arc, time::Instant};

use tenantd::gateway::InForce;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::timeout,
};

use crate::world::{Piece, SECRET, Seen, TIMEOUT, in_force, policy, read_until, run, text};

fn endless() -> Vec<Piece> {
    let mut pieces = text("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n6\r\nfirst\n\r\n");
    pieces.push(Piece::Pause(3_600_000));
    pieces
}

#[test]
fn a_route_that_is_taken_away_cuts_what_streams_through_it() {
    run(
        |_, _| (),
        |_| endless(),
        |world| async move {
            let mut stream = world.open("GET /crm/ HTTP/1.1\r\nHost: gateway.internal\r\n\r\n").await;
            read_until(&mut stream, b"first\n").await;
            // A new key, or another route beside it, cuts nothing.
            let mut routes = world.in_force.borrow().policy.routes.clone();
            let mut other = routes[0].clone();
            other.name = "other".parse().unwrap();
            routes.push(other);
            world.in_force.send_replace(in_force(&routes, "the-next-one"));
            let mut byte = [0; 16];
            let more = timeout(std::time::Duration::from_millis(300), stream.read(&mut byte)).await;
            assert!(more.is_err() || more.unwrap().is_ok_and(|read| read > 0), "it was cut");
            let begun = Instant::now();
            let none = InForce { policy: policy("ant", &[], Default::default()), secrets: Default::default() };
            world.in_force.send_replace(Arc::new(none));
            let mut rest = Vec::new();
            let _ = timeout(TIMEOUT, stream.read_to_end(&mut rest)).await.unwrap();
            assert!(!rest.ends_with(b"0\r\n\r\n"), "it does not look whole");
            assert!(begun.elapsed().as_millis() < 1000, "{:?}", begun.elapsed());
        },
    );
}

#[test]
fn a_caller_that_goes_away_takes_the_upstream_along() {
    run(
        |_, _| (),
        |_| vec![Piece::Write(b"HTTP/1.1 200 OK\r\n\r\nx\n".to_vec()), Piece::Echo],
        |world| async move {
            let mut stream = world.open("GET /crm/ HTTP/1.1\r\nHost: gateway.internal\r\n\r\n").await;
            read_until(&mut stream, b"x\n").await;
            drop(stream);
        },
    );
}

#[test]
fn a_websocket_passes_both_ways_without_the_key() {
    let script = |_: &Seen| {
        let mut pieces = text("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n");
        let mut frame = vec![0x81, u8::try_from(SECRET.len() + 4).unwrap()];
        frame.extend_from_slice(format!("key={SECRET}").as_bytes());
        let (first, second) = frame.split_at(12);
        pieces.extend([Piece::Write(first.to_vec()), Piece::Pause(50), Piece::Write(second.to_vec()), Piece::Echo]);
        pieces
    };
    run(
        |_, _| (),
        script,
        |world| async move {
            let request = "GET /crm/live HTTP/1.1\r\nHost: gateway.internal\r\nConnection: keep-alive, Upgrade\r\n\
                       Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: x\r\n\
                       Sec-WebSocket-Extensions: permessage-deflate\r\n\r\n";
            let mut stream = world.open(request).await;
            let masked = format!("key={}", "*".repeat(SECRET.len()));
            let got = String::from_utf8_lossy(&read_until(&mut stream, masked.as_bytes()).await).into_owned();
            assert!(got.starts_with("HTTP/1.1 101 ") && !got.contains(SECRET), "{got}");
            let seen = world.seen().remove(0);
            assert_eq!(seen.header("authorization"), [format!("Bearer {SECRET}")]);
            assert_eq!(seen.header("upgrade"), ["websocket"]);
            assert!(seen.header("sec-websocket-extensions").is_empty());
            // The upstream sends back what it gets: a frame without a mask, as a server's.
            stream.write_all(b"\x82\x04ping").await.unwrap();
            read_until(&mut stream, b"\x82\x04ping").await;
            let none = InForce { policy: policy("ant", &[], Default::default()), secrets: Default::default() };
            world.in_force.send_replace(Arc::new(none));
            let mut rest = Vec::new();
            let _ = timeout(std::time::Duration::from_secs(1), stream.read_to_end(&mut rest)).await.unwrap();
        },
    );
}

#[test]
fn a_websocket_whose_caller_has_said_all_still_hears() {
    let script = |_: &Seen| {
        let mut pieces = text("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n");
        pieces.push(Piece::AtEnd(b"\x82\x04last".to_vec()));
        pieces
    };
    run(
        |_, _| (),
        script,
        |world| async move {
            let request =
                "GET /crm/live HTTP/1.1\r\nHost: gateway.internal\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
            let mut stream = world.open(request).await;
            read_until(&mut stream, b"\r\n\r\n").await;
            stream.write_all(b"\x82\x84\0\0\0\0ping").await.unwrap();
            stream.shutdown().await.unwrap();
            let mut rest = Vec::new();
            timeout(TIMEOUT, stream.read_to_end(&mut rest)).await.unwrap().unwrap();
            assert_eq!(rest, b"\x82\x04last");
        },
    );
}
