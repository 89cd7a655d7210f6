//! What requests cost, and what happens when a tenant has no more.

use std::sync::Arc;

use jiff::Timestamp;
use tenantd::{
    gateway::{InForce, accounting::ledger},
    model::egress::{Budget, Cost, StreamMode},
};

use crate::world::{Piece, World, answer, policy, run, text};

fn cost(reserve: u64, settle: Option<&str>, stream: StreamMode) -> Option<Cost> {
    Some(Cost { reserve, settle: settle.map(str::to_owned), stream })
}

/// Bounds what the tenant may use in a day.
fn bound(world: &World, credits: u64) {
    let now = world.in_force.borrow().clone();
    let budget = Budget { day: Some(credits), month: None };
    let policy = policy("ant", &now.policy.routes, budget);
    world.in_force.send_replace(Arc::new(InForce { policy, secrets: now.secrets.clone() }));
}

fn used(world: &World) -> u64 {
    world.ledger.book().used_in(&"ant".parse().unwrap(), ledger::day(Timestamp::now())).0
}

fn post(body: &str, headers: &str) -> String {
    let length = body.len();
    format!(
        "POST /crm/ HTTP/1.1\r\nHost: gateway.internal\r\nConnection: close\r\nContent-Length: {length}\r\n{headers}\r\n{body}"
    )
}

fn events(events: &[&str]) -> Vec<Piece> {
    let mut pieces = text("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n");
    for event in events {
        pieces.extend(text(&format!("{:x}\r\n{event}\r\n", event.len())));
        pieces.push(Piece::Pause(50));
    }
    pieces.extend(text("0\r\n\r\n"));
    pieces
}

#[test]
fn an_answer_says_what_it_cost_and_the_rest_is_given_back() {
    run(
        |_, routes| routes[0].cost = cost(10, Some("/usage/credits"), StreamMode::Meter),
        |seen| answer("200 OK", if seen.line().contains("free") { "{}" } else { r#"{"usage":{"credits":3.2}}"# }),
        |world| async move {
            bound(&world, 24);
            assert!(world.get("/crm/", "").await.starts_with("HTTP/1.1 200 "));
            assert_eq!(used(&world), 4);
            assert!(world.get("/crm/free", "").await.starts_with("HTTP/1.1 200 "));
            assert_eq!(used(&world), 14, "an answer that does not say costs what was reserved");
            assert!(world.get("/crm/", "").await.starts_with("HTTP/1.1 200 "));
            let got = world.get("/crm/", "").await;
            assert!(
                got.starts_with("HTTP/1.1 402 ") && got.contains("tenant ant") && got.contains("(over-budget)"),
                "{got}"
            );
            assert_eq!((used(&world), world.seen().len()), (18, 3));
        },
    );
}

#[test]
fn a_request_that_never_reached_the_upstream_costs_nothing() {
    run(
        |_, routes| {
            routes[0].upstream = "https://other.example.com".parse().unwrap();
            routes[0].cost = cost(10, None, StreamMode::Meter);
        },
        |_| answer("200 OK", ""),
        |world| async move {
            assert!(world.get("/crm/", "").await.starts_with("HTTP/1.1 502 "));
            assert_eq!(used(&world), 0);
        },
    );
}

#[test]
fn one_that_the_upstream_broke_off_costs_what_was_reserved() {
    run(
        |_, routes| routes[0].cost = cost(10, Some("/cost"), StreamMode::Meter),
        |_| vec![Piece::Close],
        |world| async move {
            assert!(world.get("/crm/", "").await.starts_with("HTTP/1.1 504 "));
            assert_eq!(used(&world), 10);
        },
    );
}

#[test]
fn the_last_event_of_a_stream_settles_it() {
    run(
        |_, routes| routes[0].cost = cost(10, Some("/cost"), StreamMode::Meter),
        |_| events(&["data: {\"x\":1}\n\n", "data: {\"cost\":\ndata: 2}\r\n\r\n", "event: end\ndata: {\"cost\": 5}"]),
        |world| async move {
            let got = world.get("/crm/", "").await;
            assert!(got.ends_with("0\r\n\r\n") && got.contains("\"cost\": 5"), "{got}");
            assert_eq!(used(&world), 5);
        },
    );
}

#[test]
fn a_stream_that_passes_the_budget_is_cut_at_one_chunk_over() {
    run(
        |_, routes| routes[0].cost = cost(10, Some("/cost"), StreamMode::Meter),
        |_| {
            events(&[
                "data: {\"cost\":12}\n\n",
                "data: {\"cost\":24}\n\n",
                "data: {\"cost\":36}\n\n",
                "data: {\"cost\":48}\n\n",
            ])
        },
        |world| async move {
            bound(&world, 20);
            let got = world.get("/crm/", "").await;
            // The chunk that goes beyond is the last that may get through.
            assert!(got.contains("\"cost\":12}\n\n") && !got.contains("\"cost\":36"), "{got}");
            assert!(!got.ends_with("0\r\n\r\n"), "it does not look whole: {got}");
            assert_eq!(used(&world), 24);
            assert!(world.get("/crm/", "").await.starts_with("HTTP/1.1 402 "));
            let budget = Budget { day: Some(20), month: None };
            assert_eq!(world.ledger.left(&"ant".parse().unwrap(), budget, Timestamp::now()), Some(0));
        },
    );
}

#[test]
fn a_route_may_take_no_streams() {
    run(
        |_, routes| routes[0].cost = cost(10, None, StreamMode::Refuse),
        |seen| if seen.line().contains("events") { events(&["data: 1\n\n"]) } else { answer("200 OK", "") },
        |world| async move {
            for request in [
                post(r#"{"model":"x","stream":true}"#, "Content-Type: application/json\r\n"),
                post("", "Accept: application/json, text/event-stream;q=0.5\r\n"),
            ] {
                let got = world.call(&request).await;
                assert!(got.starts_with("HTTP/1.1 400 ") && got.contains("(no-streams)"), "{got}");
            }
            assert!(world.seen().is_empty());
            assert_eq!(used(&world), 0);
            let body = r#"{"model":"x","stream":false}"#;
            assert!(world.call(&post(body, "")).await.starts_with("HTTP/1.1 200 "));
            assert_eq!(world.seen()[0].body, body.as_bytes());
            let got = world.get("/crm/events", "").await;
            assert!(got.starts_with("HTTP/1.1 400 ") && !got.contains("data: 1"), "{got}");
        },
    );
}
