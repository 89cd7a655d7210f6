//! The gateway from end to end: a real process between tenants and a world that both are made here.
//!
//! Everything happens in mount, network and process namespaces of the tests' own, which end with them:
//! nothing is left behind, and no packet can leave. The "host" has one link to the namespace `world`,
//! where public and other addresses have real listeners, so that whatever gets out arrives and is seen.
//! Tenants are namespaces with a link to the gateway's, as a container's network would be.

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
mod net;
mod process;
mod refusals;
mod relays;
mod servers;
mod web;
mod world;

use std::{env, process::Command};

use libtest_mimic::{Arguments, Conclusion, Trial};

/// Set where the namespaces are made already.
const INSIDE: &str = "TENANTD_GATEWAY_TEST_INSIDE";

fn main() {
    if env::var_os(INSIDE).is_some() {
        run().exit();
    }
    let mut command = Command::new("unshare");
    command.args(["--mount", "--net", "--pid", "--fork", "--kill-child", "--mount-proc"]);
    command.arg(env::current_exe().unwrap()).args(env::args_os().skip(1)).env(INSIDE, "1");
    let status = command.status().expect("unshare of util-linux is needed");
    std::process::exit(status.code().unwrap_or(101));
}

fn run() -> Conclusion {
    let arguments = Arguments::from_args();
    world::prepare();
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
    libtest_mimic::run(&arguments, groups.into_iter().flatten().collect())
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

/// A test by its name.
fn trial(name: &str, test: fn()) -> Trial {
    Trial::test(name, move || {
        test();
        Ok(())
    })
}

/// Tests by the names of their functions.
macro_rules! trials {
    ($($name:ident),* $(,)?) => {
        pub fn trials() -> Vec<libtest_mimic::Trial> {
            vec![$(crate::trial(concat!(module_path!(), "::", stringify!($name)), $name)),*]
        }
    };
}
use trials;
