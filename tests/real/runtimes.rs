//! A runtime of a real engine that can start nothing: found out, named, and found out when it works again.

use std::fs;

use crate::{daemon::Service, failures::register, fleet::eventually};

const BROKEN: &str = "#!/bin/sh\nexit 2\n";
const WORKS: &str = "#!/bin/sh\nexec runc \"$@\"\n";

#[test]
fn a_runtime_that_can_start_nothing_blocks_its_tenants_until_it_works() {
    let service =
        Service::new("runtimes", "runtimes: {container: runc, gvisor: broken}\nresync: 1h\ndeadlines: {stop: 1s}\n");
    let fleet = &service.fleet;
    register(fleet, "broken", BROKEN);
    fleet.declare("acme", "");
    fleet.declare("zeta", "runtime: gvisor\n");
    let commit = service.push();
    service.start();
    let ready = |tenant: &str| service.condition(tenant, "Ready").unwrap_or_default();
    service.wait("the tenant of the broken runtime is blocked", || ready("zeta").1 == "Blocked");
    let (_, _, message) = ready("zeta");
    assert!(message.starts_with("runtime-fails: the runtime broken cannot start anything on this engine"), "{message}");
    service.wait("the tenant of another runtime runs", || ready("acme").0 == "True");
    assert!(service.records().iter().all(|record| record["type"] != "bad"), "no commit is blamed");
    // It is put right, and nobody says so.
    fs::write(fleet.engine.dir().join("broken-runtime"), WORKS).unwrap();
    service.wait_until_in_order(&commit);
    eventually("nothing of the tests is left", || {
        let all = [fleet.engine.get("/containers/json?all=1"), fleet.engine.get("/images/json")];
        all.iter().all(|list| !list.to_string().contains("selftest"))
    });
    let log = service.log();
    assert!(log.contains("the runtime works again"), "{}", service.last_words());
    println!("{}", log.lines().filter(|line| line.contains("the runtime")).collect::<Vec<_>>().join("\n"));
    fleet.undeclare("zeta");
    let commit = service.push();
    service.wait_until_in_order(&commit);
    service.end();
}
