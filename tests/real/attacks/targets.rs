//! What an attack may aim at by address: the world, the host, the gateway's other ports, the neighbours.

use super::{Attempt, NEIGHBOUR, UNLISTED, address_of, attempt, forms, gateway_of, world};
use crate::{engine::text, fleet::Fleet};

/// Addresses that are not public, in every family of them.
pub const INSIDE: [&str; 14] = [
    "10.0.0.5",
    "10.77.1.1",
    "100.64.0.5",
    "100.100.100.200",
    "127.0.0.1",
    "168.63.129.16",
    "169.254.169.254",
    "169.254.1.1",
    "172.16.0.5",
    "192.0.0.192",
    "192.168.1.5",
    "198.18.0.5",
    "224.0.0.251",
    "0.0.0.0",
];

/// Everything that a tenant may aim at.
pub fn of(fleet: &Fleet, tenant: &str) -> Vec<Attempt> {
    let mut attempts = public();
    for inside in INSIDE {
        // Of these two a tenant has its own.
        if inside != "127.0.0.1" && inside != "0.0.0.0" {
            attempts.push(attempt(format!("{inside} by TCP"), format!("connect {inside}:80 400")));
            attempts.push(attempt(
                format!("{inside} by UDP"),
                format!("send udp {inside}:53 {} 400", forms::query("x.example", 1)),
            ));
        }
    }
    attempts.extend(neighbours(fleet, tenant));
    attempts.extend(host(fleet));
    attempts.extend(own_gateway(&gateway_of(fleet, tenant)));
    attempts
}

/// What is public, and not listed by address: it can be done from the host.
pub fn public() -> Vec<Attempt> {
    let (query, unlisted) = (forms::query("secret-data.unlisted.example", 1), UNLISTED);
    let http = forms::hex("GET / HTTP/1.1\r\nHost: unlisted.example\r\n\r\n");
    let mut attempts = vec![
        attempt("a public address by TLS's port", format!("connect {unlisted}:443 400")),
        attempt("a public address by HTTP", format!("send tcp {unlisted}:80 {http} 400")),
        attempt("a listed host's own address", format!("connect {}:443 400", super::LISTED)),
        attempt("ssh", format!("connect {unlisted}:22 400")),
        attempt("mail", format!("connect {unlisted}:25 400")),
        attempt("a proxy out there", format!("connect {unlisted}:3128 400")),
        attempt("a name server by UDP", format!("send udp {}:53 {query} 400", world::RESOLVER)),
        attempt("another name server by UDP", format!("send udp {}:53 {query} 400", world::OTHER_RESOLVER)),
        attempt(
            "a name server by TCP",
            format!("send tcp {}:53 {}{query} 400", world::OTHER_RESOLVER, forms::length(&query)),
        ),
        attempt("DNS over TLS", format!("connect {}:853 400", world::OTHER_RESOLVER)),
        attempt("DNS over HTTPS", format!("connect {}:443 400", world::OTHER_RESOLVER)),
        attempt("QUIC", format!("send udp {unlisted}:443 c00000000108 400")),
        attempt("UDP to any port", format!("send udp {unlisted}:4000 6f7574 400")),
        attempt("time", format!("send udp {unlisted}:123 1b 400")),
    ];
    for address in ["[2606:4700::1111]", "[2001:470::2]", "[::ffff:45.33.32.156]", "[64:ff9b::2d21:209c]"] {
        attempts.push(attempt(format!("{address} by TCP"), format!("connect {address}:443 400")));
    }
    attempts.push(attempt("an echo", format!("ping {unlisted} 400")));
    attempts
}

fn neighbours(fleet: &Fleet, tenant: &str) -> Vec<Attempt> {
    let mut attempts = Vec::new();
    for other in [super::RUNC, super::RUNSC, NEIGHBOUR].into_iter().filter(|other| *other != tenant) {
        let (address, gateway) = (address_of(fleet, other), gateway_of(fleet, other));
        attempts.push(attempt(format!("{other} by address"), format!("connect {address}:8080 400")));
        attempts.push(attempt(format!("{other} by echo"), format!("ping {address} 400")));
        attempts.push(attempt(format!("{other} by its container's name"), format!("connect tenantd-{other}:8080 400")));
        attempts.push(attempt(format!("{other} by its name"), format!("connect {other}:8080 400")));
        for port in [53, 80, 443] {
            let connect = forms::hex("GET / HTTP/1.1\r\nHost: web.listed.example\r\n\r\n");
            attempts.push(attempt(
                format!("the gateway of {other}, port {port}"),
                format!("send tcp {gateway}:{port} {connect} 400"),
            ));
        }
        let request = forms::hex("CONNECT beta.example:443 HTTP/1.1\r\nHost: beta.example:443\r\n\r\n");
        attempts.push(attempt(format!("the proxy of {other}"), format!("send tcp {gateway}:3128 {request} 400")));
    }
    attempts
}

fn host(fleet: &Fleet) -> Vec<Attempt> {
    let bridge = fleet.engine.network("bridge").expect("the engine has its own network");
    let docker0 = text(&bridge["IPAM"]["Config"][0]["Gateway"]);
    let mut attempts = Vec::new();
    for address in [world::HOST.to_string(), docker0] {
        for port in [22, 80, 2375, 3128, 8080] {
            attempts.push(attempt(format!("the host on {address}:{port}"), format!("connect {address}:{port} 300")));
        }
        attempts.push(attempt(format!("the host on {address} by echo"), format!("ping {address} 300")));
    }
    for address in ["[fe80::1%eth0]", "[ff02::1%eth0]", "[2001:470::1]"] {
        attempts.push(attempt(format!("the host on {address}"), format!("connect {address}:80 300")));
    }
    attempts
}

/// Ports of the gateway that serve nobody; it tells nothing of itself by echo either.
fn own_gateway(gateway: &str) -> Vec<Attempt> {
    let ports = [1, 21, 22, 25, 111, 2375, 3127, 3129, 6379, 8080, 9090, 9100, 65535];
    let mut attempts: Vec<Attempt> = ports
        .iter()
        .map(|port| attempt(format!("the gateway's port {port}"), format!("connect {gateway}:{port} 300")))
        .collect();
    attempts.push(attempt("the gateway by echo", format!("ping {gateway} 300")));
    attempts.push(attempt("the gateway by UDP", format!("send udp {gateway}:443 c00000000108 300")));
    attempts
}
