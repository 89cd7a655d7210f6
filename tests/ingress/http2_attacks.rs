//! What HTTP/2 lets a client do to a server that others have fallen to: each has its end, and others are served meanwhile.

use std::time::Duration;

use crate::{
    app::{self, Valve},
    frames::{
        CONTINUATION, DATA, END_HEADERS, END_STREAM, Frames, HEADERS, PING, RESET, SETTINGS, WINDOW_UPDATE, field,
        fields, frame, head,
    },
    net::eventually,
    resident,
    world::{Ingress, Tenant, world},
};

crate::trials![
    streams_that_are_reset_at_once_end_their_connection_or_cost_nothing,
    heads_that_never_end_are_cut_off,
    heads_that_are_too_large_reach_nobody,
    answers_to_pings_and_settings_do_not_pile_up,
    what_breaks_the_rules_ends_the_connection,
    more_streams_than_there_may_be_are_refused,
    fields_that_http1_reads_differently_reach_nobody,
    a_body_of_another_length_than_was_said_reaches_nobody_whole,
];

/// Whether a client over a connection of its own is served.
fn is_served(tenant: &Tenant) -> bool {
    let mut client = Frames::open(tenant, &[]);
    client.request(1, tenant, "/still-there", &tenant.token(), true);
    client.comes(|frame| frame.is_ok(1))
}

fn streams_that_are_reset_at_once_end_their_connection_or_cost_nothing() {
    let ingress = Ingress::start_tls("resets", "requestsPerTenant: 64");
    let tenant = ingress.public("resets", app::mirror);
    let before = resident(ingress.pid());
    let block = head("GET", &tenant, "/reset", &tenant.token());
    for _ in 0..4 {
        let mut client = Frames::open(&tenant, &[]);
        for number in 0..5_000 {
            let stream = 1 + 2 * number;
            let both = [
                frame(HEADERS, END_HEADERS | END_STREAM, stream, &block),
                frame(RESET, 0, stream, &8_u32.to_be_bytes()),
            ];
            if client.write(&both.concat()).is_err() {
                break;
            }
        }
        assert!(is_served(&tenant));
    }
    let taken = resident(ingress.pid()).saturating_sub(before);
    assert!(taken < 64, "{taken} MiB");
    eventually("nothing is left of them", Duration::from_secs(10), || {
        ingress.metric("tenantd_ingress_connections") == 0 && is_served(&tenant)
    });
}

fn heads_that_never_end_are_cut_off() {
    let tenant = world().tls.private("continued");
    let block = head("GET", &tenant, "/continued", &tenant.token());
    let arrivals = tenant.arrivals();
    for piece in [field("x", &[b'y'; 8000]), Vec::new(), vec![0x20; 1000]] {
        let mut client = Frames::open(&tenant, &[]);
        client.send(HEADERS, END_STREAM, 1, &block).unwrap();
        let pieces = frame(CONTINUATION, 0, 1, &piece).repeat(16);
        let is_cut = (0..10_000).any(|_| client.write(&pieces).is_err());
        assert!(is_cut, "{} bytes each", piece.len());
        assert!(is_served(&tenant));
    }
    // Each other frame in between breaks it off.
    let mut client = Frames::open(&tenant, &[]);
    client.send(HEADERS, END_STREAM, 1, &block).unwrap();
    client.send(PING, 0, 0, &[0; 8]).unwrap();
    client.send(CONTINUATION, END_HEADERS, 1, &[]).unwrap();
    assert!(!client.comes(|frame| frame.is_ok(1)));
    assert!(tenant.arrivals() <= arrivals + 3, "none but the others' requests has arrived");
}

fn heads_that_are_too_large_reach_nobody() {
    let tenant = world().tls.private("large");
    let large = |more: &[u8]| [head("GET", &tenant, "/large", &tenant.token()), more.to_vec()].concat();
    let indexed = [vec![0x40, 1, b'x', 0x7f, 0xa1, 0x1e], vec![b'y'; 4000]].concat();
    for block in [
        large(&field("x", &[b'y'; 15_000]).repeat(6)),
        large(&field("cookie", b"a=1").repeat(3_000)),
        // What takes a byte each to say, and four thousand to hold.
        large(&[indexed, vec![0xbe; 12_000]].concat()),
    ] {
        let mut client = Frames::open(&tenant, &[]);
        let mut pieces = block.chunks(16_000);
        let mut kind = HEADERS;
        while let Some(piece) = pieces.next() {
            let flags = if pieces.len() == 0 { END_HEADERS } else { 0 } | if kind == HEADERS { END_STREAM } else { 0 };
            if client.send(kind, flags, 1, piece).is_err() {
                break;
            }
            kind = CONTINUATION;
        }
        assert!(!client.comes(|frame| frame.is_ok(1)), "{} bytes", block.len());
        assert!(is_served(&tenant));
    }
}

fn answers_to_pings_and_settings_do_not_pile_up() {
    let ingress = Ingress::start_tls("pings", "");
    let tenant = ingress.private("pings");
    for flood in [
        frame(PING, 0, 0, &[7; 8]),
        frame(SETTINGS, 0, 0, &[]),
        frame(SETTINGS, 0, 0, &[0, 4, 0, 0, 0, 1]),
        frame(DATA, 0, 1, &[]),
        frame(WINDOW_UPDATE, 0, 0, &1_u32.to_be_bytes()),
        frame(0x2a, 0, 0, &[0; 100]),
    ] {
        let before = resident(ingress.pid());
        let mut client = Frames::open(&tenant, &[]);
        client.request(1, &tenant, "/", &tenant.token(), false);
        client.without_waiting();
        let many = flood.repeat(1000);
        // Nothing is read of what comes back.
        let sent = (0..200).take_while(|_| client.write(&many).is_ok()).count();
        let taken = resident(ingress.pid()).saturating_sub(before);
        assert!(taken < 32, "{taken} MiB after {sent} times a thousand of {:?}", &flood[..9]);
        assert!(is_served(&tenant));
    }
}

fn what_breaks_the_rules_ends_the_connection() {
    let tenant = world().tls.private("rules");
    let block = head("GET", &tenant, "/", &tenant.token());
    let request = |stream| frame(HEADERS, END_HEADERS | END_STREAM, stream, &block);
    for (what, bytes) in [
        ("a stream of the server's", request(2)),
        ("stream 0", request(0)),
        ("a body before its head", frame(DATA, 0, 1, b"x")),
        ("a frame that is too long", frame(DATA, 0, 1, &[0; 17_000])),
        ("padding beyond the frame", frame(HEADERS, END_HEADERS | 8, 1, &[255, 0])),
        ("a window beyond its bound", frame(SETTINGS, 0, 0, &[0, 4, 255, 255, 255, 255])),
        ("a window that grows by nothing", frame(WINDOW_UPDATE, 0, 0, &[0; 4])),
        ("a ping of another length", frame(PING, 0, 0, &[0; 7])),
        ("settings of a stream", frame(SETTINGS, 0, 1, &[])),
        ("a continuation of nothing", frame(CONTINUATION, END_HEADERS, 1, &block)),
        ("an index of no table", frame(HEADERS, END_HEADERS | END_STREAM, 1, &[0xff, 0xff, 0xff, 0x7f])),
        ("a push", frame(5, END_HEADERS, 1, &[0, 0, 0, 2])),
    ] {
        let mut client = Frames::open(&tenant, &[]);
        // It may be cut while it sends.
        let _ = client.write(&bytes);
        assert!(!client.comes(|frame| frame.is_ok(1)), "{what}");
    }
    assert!(is_served(&tenant));
}

fn more_streams_than_there_may_be_are_refused() {
    let valve = Valve::closed();
    let waits = std::sync::Arc::clone(&valve);
    let tenant = world().tls.public("many", move |mut stream| {
        if app::head(&mut stream).starts_with("GET /waits ") {
            waits.went(1);
            waits.pass();
        }
        let _ = app::answer(&mut stream, b"here");
    });
    let mut client = Frames::open(&tenant, &[]);
    let block = head("GET", &tenant, "/waits", &tenant.token());
    for number in 0..300 {
        client.send(HEADERS, END_HEADERS | END_STREAM, 1 + 2 * number, &block).unwrap();
    }
    client.until(|frame| frame.is_reset(1 + 2 * 128));
    eventually("so many have arrived", Duration::from_secs(10), || valve.gone() == 128);
    assert!(is_served(&tenant));
    valve.open();
    client.until(|frame| frame.is_last(1));
    assert_eq!(valve.gone(), 128);
}

fn fields_that_http1_reads_differently_reach_nobody() {
    let tenant = world().tls.private("fields");
    let arrivals = tenant.arrivals();
    let (host, credential) = (tenant.host(), format!("Bearer {}", tenant.token()));
    let plain = [
        (":method", "POST"),
        (":scheme", "https"),
        (":path", "/"),
        (":authority", host.as_str()),
        ("authorization", credential.as_str()),
    ];
    let with = |name: &'static str, value: &'static str| {
        let mut all = plain.to_vec();
        match all.iter_mut().find(|(this, _)| *this == name) {
            Some(found) => found.1 = value,
            None => all.push((name, value)),
        }
        fields(&all)
    };
    for (what, block) in [
        ("chunks", with("transfer-encoding", "chunked")),
        ("a connection", with("connection", "close")),
        ("an upgrade", with("upgrade", "websocket")),
        ("another te", with("te", "gzip")),
        ("a name in upper case", with("Content-Length", "0")),
        ("a name with a blank", with("x y", "z")),
        ("a name with a colon", with("x:y", "z")),
        ("a name with a line end", with("x\r\ny", "z")),
        ("a value with a line end", with("x", "y\r\nz: w")),
        ("a value with a line feed", with("x", "y\nz: w")),
        ("a value with NUL", with("x", "y\0z")),
        ("two lengths", with("content-length", "1, 2")),
        ("no length", with("content-length", "x")),
        ("a path with a blank", with(":path", "/ HTTP/1.1\r\nx: y")),
        ("a path with blanks", with(":path", "/a b")),
        ("no path", with(":path", "")),
        ("a path that is none", with(":path", "evil")),
        ("a method with a blank", with(":method", "GET /x HTTP/1.1\r\nx:")),
        ("an unknown pseudo-header", with(":evil", "x")),
        ("an answer's pseudo-header", with(":status", "200")),
        ("an authority with a path", with(":authority", "fields.agents.example.com/x")),
        ("a pseudo-header behind others", [fields(&plain[1..]), fields(&plain[..1])].concat()),
        ("a pseudo-header twice", [fields(&plain[..1]), fields(&plain)].concat()),
        ("no method", fields(&plain[1..])),
    ] {
        let mut client = Frames::open(&tenant, &[]);
        client.send(HEADERS, END_HEADERS | END_STREAM, 1, &block).unwrap();
        let answer = client.next_of(1);
        assert!(answer.is_none_or(|frame| !frame.is_ok(1)), "{what}");
    }
    assert_eq!(tenant.arrivals(), arrivals, "nothing of all that has arrived");
    assert!(is_served(&tenant));
}

fn a_body_of_another_length_than_was_said_reaches_nobody_whole() {
    let tenant = world().tls.private("lengths");
    for (said, sent) in [("5", &b"hell"[..]), ("5", b"hello!"), ("0", b"x"), ("18446744073709551615", b"hello")] {
        let block = [head("POST", &tenant, "/", &tenant.token()), field("content-length", said.as_bytes())].concat();
        let mut client = Frames::open(&tenant, &[]);
        client.send(HEADERS, END_HEADERS, 1, &block).unwrap();
        let _ = client.send(DATA, END_STREAM, 1, sent);
        let answer = client.next_of(1);
        assert!(answer.is_none_or(|frame| !frame.is_ok(1)), "{said} and {sent:?}");
    }
    assert!(is_served(&tenant));
}
