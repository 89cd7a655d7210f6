//! A policy that changes while connections live.

use std::{
    io::Write,
    thread,
    time::{Duration, Instant},
};

use crate::{
    dns::Say,
    net::{echoes, eventually, read_all, read_until},
    world::{HTTP, PROXY, PUBLIC, Tenant, world},
};

crate::trials![
    what_shrinks_is_cut_within_a_second_and_nothing_else,
    what_grows_applies_and_cuts_nothing,
    a_policy_that_is_gone_or_broken_closes_its_tenant_alone,
    a_port_that_is_listed_later_is_served,
    only_the_address_of_the_container_is_served,
];

const SECOND: Duration = Duration::from_secs(1);

fn second_name() {
    world().resolver.say("second.example.com", Say::Addresses(vec![PUBLIC], 60));
}

fn is_cut(stream: &mut impl std::io::Read, since: Instant) {
    read_all(stream);
    assert!(since.elapsed() < SECOND, "cut after {:?}", since.elapsed());
}

fn what_shrinks_is_cut_within_a_second_and_nothing_else() {
    second_name();
    let gateway = &world().gateway;
    let tenant = gateway.tenant("shrinks", &["api.example.com:7000", "second.example.com:7000", "api.example.com:80"]);
    let neighbour = gateway.tenant("beside", &["api.example.com:7000"]);
    let mut cut = tenant.echo("api.example.com:7000");
    let mut kept = tenant.echo("second.example.com:7000");
    let mut beside = neighbour.echo("api.example.com:7000");
    let mut stream = tenant.connect(HTTP).unwrap();
    stream.write_all(b"GET /slow HTTP/1.1\r\nHost: api.example.com\r\n\r\n").unwrap();
    read_until(&mut stream, "data: 2\n\n");
    let mut upgraded = tenant.connect(HTTP).unwrap();
    let upgrade = "GET / HTTP/1.1\r\nHost: api.example.com\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
    upgraded.write_all(upgrade.as_bytes()).unwrap();
    read_until(&mut upgraded, "\r\n\r\n");

    tenant.allow(&["second.example.com:7000"]);
    let since = Instant::now();
    is_cut(&mut cut, since);
    is_cut(&mut upgraded, since);
    is_cut(&mut stream, since);
    assert!(echoes(&mut kept, "still here") && echoes(&mut beside, "still here"));
    assert!(tenant.tunnel("api.example.com:7000").unwrap_err().contains("(not-listed)"));
    assert!(gateway.metric("tenantd_gateway_cut_total") >= 3);
}

fn what_grows_applies_and_cuts_nothing() {
    second_name();
    let tenant = world().gateway.tenant("grows", &["api.example.com:7000"]);
    let mut kept = tenant.echo("api.example.com:7000");
    assert!(tenant.tunnel("second.example.com:7000").is_err());
    tenant.allow(&["api.example.com:7000", "second.example.com:7000"]);
    eventually("the larger policy", SECOND, || tenant.tunnel("second.example.com:7000").is_ok());
    assert!(echoes(&mut kept, "still here"));
    thread::sleep(Duration::from_millis(300));
    assert!(echoes(&mut kept, "still here"));
}

fn closed(tenant: &Tenant) -> bool {
    tenant.connect(PROXY).is_ok_and(|mut stream| {
        let _ = stream.write_all(b"CONNECT api.example.com:7000 HTTP/1.1\r\n\r\n");
        read_all(&mut stream).is_empty()
    })
}

fn a_policy_that_is_gone_or_broken_closes_its_tenant_alone() {
    let gateway = &world().gateway;
    let neighbour = gateway.tenant("unharmed", &["api.example.com:7000"]);
    let mut beside = neighbour.echo("api.example.com:7000");
    for what in ["gone", "broken", "newer", "anothers"] {
        let tenant = gateway.tenant(what, &["api.example.com:7000"]);
        let mut stream = tenant.echo("api.example.com:7000");
        match what {
            "gone" => tenant.remove_policy(),
            "broken" => tenant.write("{"),
            "newer" => tenant.write(&tenant.policy(r#""allow":[]"#).replace(r#""v":2"#, r#""v":9"#)),
            _ => tenant.write(&tenant.policy(r#""allow":[]"#).replace("anothers", "unharmed")),
        }
        is_cut(&mut stream, Instant::now());
        eventually("the end of service", SECOND, || closed(&tenant));
        tenant.allow(&["api.example.com:7000"]);
        eventually("service again", SECOND, || tenant.tunnel("api.example.com:7000").is_ok());
    }
    assert!(echoes(&mut beside, "still here"));
}

fn a_port_that_is_listed_later_is_served() {
    let tenant = world().gateway.tenant("ports", &["api.example.com:443"]);
    assert!(tenant.connect(8081).is_err());
    tenant.allow(&["api.example.com:443", "api.example.com:8081"]);
    eventually("the port", SECOND, || tenant.connect(8081).is_ok());
    tenant.allow(&["api.example.com:443"]);
    eventually("the end of the port", SECOND, || tenant.connect(8081).is_err());
}

/// Another container on the tenant's network is refused in words, in the counters and on record, and the tenant is served
/// beside it.
fn only_the_address_of_the_container_is_served() {
    const REFUSED: &str = "tenantd_gateway_refusals_total{tenant=\"one-address\",rule=\"foreign-address\"}";
    let gateway = &world().gateway;
    let tenant = gateway.tenant("one-address", &["api.example.com:7000"]);
    let mut own = tenant.echo("api.example.com:7000");
    let other = tenant.move_to((u32::from(tenant.address) + 1).into());
    for port in [HTTP, PROXY, 7000] {
        let said = String::from_utf8_lossy(&read_all(&mut other.connect(port).unwrap())).into_owned();
        assert!(!said.contains("200"), "{port}: {said}");
        let words = format!("a connection from {} to port {port} is not from the address", other.address);
        assert!(port == 7000 || (said.starts_with("HTTP/1.1 403 ") && said.contains(&words)), "{port}: {said}");
    }
    let (code, _) = other.look_up("api.example.com", 1).unwrap();
    assert_eq!(code, 5, "names are refused as well");
    assert_eq!(gateway.metric(REFUSED), 4);
    assert!(echoes(&mut own, "still here"));
    // The container itself comes back with that address: its former one is nobody's now.
    other.allow(&["api.example.com:7000"]);
    eventually("the other address", SECOND, || other.tunnel("api.example.com:7000").is_ok());
    assert!(read_all(&mut own).is_empty(), "what came from the former one is cut");
    assert_eq!(tenant.look_up("api.example.com", 1).unwrap().0, 5);
}
