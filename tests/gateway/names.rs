//! Looking names up: inside, and at resolvers that are slow, wrong or lying.

use std::{
    io::Write,
    thread,
    time::{Duration, Instant},
};

use crate::{
    dns::Say,
    net::{echoes, read_answer},
    world::{Gateway, HTTP, PROXY, PUBLIC, world},
};

crate::trials![
    listed_names_lead_to_the_gateway_and_others_nowhere,
    a_lie_is_not_believed,
    an_answer_too_long_for_a_datagram_comes_by_stream,
    aliases_are_followed_and_times_kept,
    a_resolver_that_says_nothing_holds_up_only_who_asked,
    one_look_up_serves_all_who_ask_at_once,
    a_tenant_looks_up_only_so_many_names,
    dead_addresses_hold_nobody_up_and_only_judged_ones_are_tried,
];

fn listed_names_lead_to_the_gateway_and_others_nowhere() {
    let tenant = world().gateway.tenant("names", &["api.example.com:443", "*.stripe.com:443"]);
    for name in ["api.example.com", "API.Example.Com", "a.stripe.com", "gateway.internal", "ghl.gateway.internal"] {
        let (code, packet) = tenant.look_up(name, 1).unwrap();
        assert_eq!(code, 0, "{name}");
        assert!(packet.windows(4).any(|octets| octets == tenant.gateway.octets()), "{name}");
        let (code, packet) = tenant.look_up(name, 28).unwrap();
        assert_eq!((code, u16::from_be_bytes([packet[6], packet[7]])), (0, 0), "{name}");
    }
    let (code, packet) = tenant.look_up("evil.example", 1).unwrap();
    assert_eq!(code, 3);
    let text = String::from_utf8_lossy(&packet).into_owned();
    assert!(text.contains("tenantd: refused for tenant names: evil.example is not on"), "{text:?}");
}

fn a_lie_is_not_believed() {
    let world = world();
    world.resolver.say("lied-about.example", Say::AfterLies(PUBLIC));
    let tenant = world.gateway.tenant("lies", &["lied-about.example:7000"]);
    tenant.echo("lied-about.example:7000");
    assert_eq!(world.arrivals.at([93, 184, 216, 66], 7000), 0);
}

fn an_answer_too_long_for_a_datagram_comes_by_stream() {
    let world = world();
    world.resolver.say("long.example.net", Say::ByStream(PUBLIC));
    world.gateway.tenant("long", &["long.example.net:7000"]).echo("long.example.net:7000");
}

fn aliases_are_followed_and_times_kept() {
    let world = world();
    world.resolver.say("alias.example.net", Say::Alias("target.example.net", PUBLIC));
    world.resolver.say("bad-alias.example.net", Say::Alias("target.example.net", [169, 254, 169, 254]));
    world.resolver.say("short.example.net", Say::Addresses(vec![PUBLIC], 1));
    let tenant = world.gateway.tenant("alias", &["*.example.net:7000"]);
    for _ in 0..3 {
        tenant.echo("alias.example.net:7000");
    }
    assert_eq!(world.resolver.asked("alias.example.net"), 1);
    assert!(tenant.tunnel("bad-alias.example.net:7000").unwrap_err().contains("(address-not-public)"));
    tenant.echo("short.example.net:7000");
    thread::sleep(Duration::from_millis(1200));
    tenant.echo("short.example.net:7000");
    assert_eq!(world.resolver.asked("short.example.net"), 2);
    let refused = tenant.tunnel("missing.example.net:7000").unwrap_err();
    assert!(refused.starts_with("HTTP/1.1 502 ") && refused.contains("(unresolved)"), "{refused}");
}

fn a_resolver_that_says_nothing_holds_up_only_who_asked() {
    let world = world();
    world.resolver.say("silent.example.net", Say::Nothing);
    world.resolver.say("failing.example.net", Say::Failure);
    let slow = world.gateway.tenant("slow-names", &["silent.example.net:7000", "failing.example.net:7000"]);
    let quick = world.gateway.tenant("quick-names", &["api.example.com:7000"]);
    thread::scope(|scope| {
        let waiting = scope.spawn(|| {
            let begun = Instant::now();
            let refused = slow.tunnel("silent.example.net:7000").unwrap_err();
            (begun.elapsed(), refused)
        });
        for _ in 0..20 {
            let begun = Instant::now();
            quick.echo("api.example.com:7000");
            assert!(begun.elapsed() < Duration::from_millis(800), "{:?}", begun.elapsed());
        }
        let (took, refused) = waiting.join().unwrap();
        assert!(took < Duration::from_secs(6) && refused.contains("(no-resolver)"), "{took:?}: {refused}");
    });
    assert!(slow.tunnel("failing.example.net:7000").unwrap_err().contains("(no-resolver)"));
}

fn one_look_up_serves_all_who_ask_at_once() {
    let world = world();
    world.resolver.say("asked-once.example.net", Say::Addresses(vec![PUBLIC], 60));
    let tenant = world.gateway.tenant("at-once", &["asked-once.example.net:7000"]);
    thread::scope(|scope| {
        for _ in 0..16 {
            scope.spawn(|| tenant.echo("asked-once.example.net:7000"));
        }
    });
    assert_eq!(world.resolver.asked("asked-once.example.net"), 1);
}

fn a_tenant_looks_up_only_so_many_names() {
    world();
    let gateway = Gateway::start("lookups", "lookupsPerSecond: 2");
    let tenant = gateway.tenant("many-names", &["*.many.example.net:7000"]);
    let answers: Vec<String> =
        (0..80).map(|number| tenant.tunnel(&format!("n{number}.many.example.net:7000")).unwrap_err()).collect();
    let limited = answers.iter().filter(|answer| answer.starts_with("HTTP/1.1 429 ")).count();
    let unknown = answers.iter().filter(|answer| answer.contains("(unresolved)")).count();
    assert!(unknown >= 2 && limited > 0 && unknown + limited == 80, "{unknown} unknown, {limited} limited");
}

/// The world drops what is sent to an address that nobody has. Three of those one after the other took 8.75 s, each
/// half of what was left of ten.
fn dead_addresses_hold_nobody_up_and_only_judged_ones_are_tried() {
    let world = world();
    let dead = |last| [93, 184, 216, last];
    let private = [10, 20, 0, 5];
    let addresses = vec![dead(201), private, dead(202), [169, 254, 169, 254], dead(203), PUBLIC];
    world.resolver.say("half-dead.example.net", Say::Addresses(addresses, 60));
    let tenant = world.gateway.tenant("dead-first", &["half-dead.example.net:7000", "half-dead.example.net:80"]);
    let before = world.arrivals.at(private, 7000);
    let mut stream = tenant.connect(PROXY).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(8))).unwrap();
    stream
        .write_all(b"CONNECT half-dead.example.net:7000 HTTP/1.1\r\nHost: half-dead.example.net:7000\r\n\r\n")
        .unwrap();
    assert!(read_answer(&mut stream).starts_with("HTTP/1.1 200 "));
    assert!(echoes(&mut stream, "hello"));
    // What worked is taken first from then on, and by Host as well.
    for _ in 0..2 {
        tenant.echo("half-dead.example.net:7000");
    }
    let answer = tenant.ask(HTTP, "GET /x HTTP/1.1\r\nHost: half-dead.example.net\r\n\r\n");
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    assert_eq!(world.arrivals.at(private, 7000), before);
    assert_eq!(world.arrivals.at([169, 254, 169, 254], 7000), 0);
}
