//! The ingress from end to end: a real process between clients and tenants, all of which are made here, with a peer that says
//! what the daemon would say.
//!
//! Clients are on the "host"; each tenant is a namespace with a link to the one in which all tenants' networks end.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod admission;
mod app;
mod changes;
mod floods;
mod frames;
mod heads;
mod http1;
mod http2;
mod http2_attacks;
mod peer;
mod stalls;
mod streams;
mod world;

#[path = "../namespaces/mod.rs"]
mod namespaces;

use namespaces::{net, resident, trials};

fn main() {
    namespaces::main(|| {
        let groups = [
            http1::trials(),
            http2::trials(),
            streams::trials(),
            changes::trials(),
            admission::trials(),
            heads::trials(),
            floods::trials(),
            stalls::trials(),
            http2_attacks::trials(),
        ];
        groups.into_iter().flatten().collect()
    });
}
