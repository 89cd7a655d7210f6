//! What is listed gets through untouched: tunnels, and TLS by its server name.

use std::{
    io::{Read, Write},
    net::Shutdown,
    thread,
    time::{Duration, Instant},
};

use crate::{
    dns::Say,
    net::{echoes, read_all, read_until},
    world::{ECHO, PUBLIC, TLS, world},
};

crate::trials![
    a_tunnel_carries_any_bytes_and_each_side_ends_by_itself,
    a_server_that_speaks_first_is_heard_at_once,
    tls_goes_through_by_name_and_by_tunnel,
    an_address_is_reached_where_it_is_listed,
    a_private_range_is_reached_where_it_is_listed,
    what_the_first_piece_of_a_tunnel_holds_is_not_lost,
    a_wildcard_covers_names_below_and_not_the_domain_itself,
];

fn a_tunnel_carries_any_bytes_and_each_side_ends_by_itself() {
    let tenant = world().gateway.tenant("tunnel", &["api.example.com:7000"]);
    let mut stream = tenant.echo("api.example.com:7000");
    let sent: Vec<u8> = (0..8_000_000u32).map(|number| (number % 251) as u8).collect();
    let mut writing = stream.try_clone().unwrap();
    let bytes = sent.clone();
    let writer = thread::spawn(move || {
        writing.write_all(&bytes).unwrap();
        writing.shutdown(Shutdown::Write).unwrap();
    });
    let received = read_all(&mut stream);
    writer.join().unwrap();
    assert_eq!(received.len(), sent.len() + "[end]".len());
    assert!(received.starts_with(&sent) && received.ends_with(b"[end]"));
}

fn a_server_that_speaks_first_is_heard_at_once() {
    let tenant = world().gateway.tenant("greeting", &["api.example.com:5432"]);
    let mut stream = tenant.tunnel("api.example.com:5432").unwrap();
    assert_eq!(read_until(&mut stream, "\n"), "greetings\n");
    // As PostgreSQL begins.
    assert!(echoes(&mut stream, "\0\0\0\u{8}\u{4}\u{2}"));
}

fn tls_goes_through_by_name_and_by_tunnel() {
    let tenant = world().gateway.tenant("tls", &["api.example.com:443"]);
    let direct = tenant.connect(TLS).unwrap();
    assert_eq!(tenant.tls(direct, "api.example.com").unwrap(), "over TLS: hello\n");
    let tunnel = tenant.tunnel("API.example.com:443").unwrap();
    assert_eq!(tenant.tls(tunnel, "api.example.com").unwrap(), "over TLS: hello\n");
}

fn an_address_is_reached_where_it_is_listed() {
    let tenant = world().gateway.tenant("address", &["8.8.8.8:7000"]);
    tenant.echo("8.8.8.8:7000");
    assert!(tenant.tunnel("8.8.4.4:7000").unwrap_err().contains("(not-listed)"));
    assert!(tenant.tunnel("8.8.8.8:80").unwrap_err().contains("(not-listed)"));
}

fn a_private_range_is_reached_where_it_is_listed() {
    let world = world();
    world.resolver.say("db.corp.example", Say::Addresses(vec![[10, 20, 0, 5]], 60));
    let tenant = world.gateway.tenant("range", &["10.20.0.0/16:7000", "db.corp.example:7000", "db.corp.example:5432"]);
    tenant.echo("10.20.0.5:7000");
    tenant.echo("db.corp.example:7000");
    assert!(tenant.tunnel("db.corp.example:5432").unwrap_err().contains("(address-not-public)"));
}

fn what_the_first_piece_of_a_tunnel_holds_is_not_lost() {
    let tenant = world().gateway.tenant("early", &["api.example.com:7000"]);
    let mut stream = tenant.connect(crate::world::PROXY).unwrap();
    stream.write_all(b"CONNECT api.example.com:7000 HTTP/1.1\r\nHost: api.example.com:7000\r\n\r\nearly").unwrap();
    read_until(&mut stream, "\r\n\r\n");
    let mut early = [0; 5];
    stream.read_exact(&mut early).unwrap();
    assert_eq!(&early, b"early");
}

fn a_wildcard_covers_names_below_and_not_the_domain_itself() {
    let world = world();
    for name in ["a.wild.example", "a.b.wild.example", "wild.example"] {
        world.resolver.say(name, Say::Addresses(vec![PUBLIC], 60));
    }
    let tenant = world.gateway.tenant("wildcard", &["*.wild.example:7000"]);
    tenant.echo("a.wild.example:7000");
    tenant.echo("a.b.wild.example:7000");
    for name in ["wild.example", "evilwild.example", "a.wild.example.evil.example"] {
        let refused = tenant.tunnel(&format!("{name}:{ECHO}")).unwrap_err();
        assert!(refused.contains("(not-listed)"), "{name}: {refused}");
    }
    let begun = Instant::now();
    tenant.echo("a.wild.example:7000");
    assert!(begun.elapsed() < Duration::from_secs(1));
}
