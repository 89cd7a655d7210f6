//! The gateway from end to end: a real process between tenants and a world that both are made here.
//!
//! The "host" has one link to the namespace `world`, where public and other addresses have real listeners, so that whatever
//! gets out arrives and is seen. Tenants are namespaces with a link to the gateway's, as a container's network would be.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod attacks;
mod changes;
mod database;
mod dns;
mod encrypted;
mod fairness;
mod half_close;
mod keeper;
mod limits;
mod names;
mod process;
mod refusals;
mod relays;
mod servers;
mod web;
mod world;

#[path = "../namespaces/mod.rs"]
mod namespaces;

use std::env;

use libtest_mimic::Trial;
use namespaces::{net, resident, trials};

fn main() {
    namespaces::main(|| {
        let groups = [
            relays::trials(),
            database::trials(),
            web::trials(),
            half_close::trials(),
            attacks::trials(),
            names::trials(),
            changes::trials(),
            limits::trials(),
            fairness::trials(),
            process::trials(),
            refusals::trials(),
            encrypted::trials(),
            vec![browser()],
        ];
        groups.into_iter().flatten().collect()
    });
}

/// The test with a real browser, which no machine has to have.
fn browser() -> Trial {
    let chromium = env::var("TENANTD_TEST_CHROMIUM").ok();
    let is_left_out = chromium.is_none();
    let test = move || {
        encrypted::a_real_browser_gets_a_page(chromium.as_deref().unwrap_or("chromium"));
        Ok(())
    };
    Trial::test("gateway::encrypted::a_real_browser_gets_a_page", test).with_ignored_flag(is_left_out)
}
