//! How long a commit takes until the gateway lets by it: from `git push` by way of the daemon, beside the push alone.

use std::{fs, path::Path, thread, time::Instant};

use tenantd::model::TenantName;
use tenantd_test_support::{Options, SimEngine};

use super::must;
use crate::{
    daemon::Daemon,
    measure::quantile,
    setting, simulated,
    table::{Table, time},
    world::{Clone, FOLDERS, World, tenant_name},
};

/// Follows a repo of one tenant with a daemon beside the gateway; `egress` is the gateway's own settings.
pub fn enforced(folder: &Path, egress: &str, log: &Path) -> anyhow::Result<()> {
    let engine = SimEngine::start(Options::default());
    let world = World::new(&folder.join("fleet"), engine.socket(), simulated::IMAGE, 1)?;
    world.settings(world.engine(), &format!("{FOLDERS}{egress}"))?;
    let name = tenant_name(0);
    // The simulated engine makes no bridge.
    let bridge = name.parse::<TenantName>().map_err(|error| anyhow::anyhow!(error.message))?.interface_name();
    must(&format!("ip link add {bridge} type bridge"))?;
    must(&format!("ip link set {bridge} up"))?;
    let _daemon = Daemon::start(&world, 1)?;
    let clone = Clone::of(&world)?;
    let (mut pushes, mut all) = (Vec::new(), Vec::new());
    // The first one makes the link as well.
    for round in 0..=setting("BENCH_CUTS", 7)? {
        clone.allow(0, &format!("api-{round}.example.com:443"))?;
        let seen = in_force(log, &name);
        let begun = Instant::now();
        clone.push()?;
        let pushed = begun.elapsed();
        while in_force(log, &name) == seen {
            anyhow::ensure!(begun.elapsed().as_secs() < 20, "no commit came into force");
            thread::sleep(std::time::Duration::from_millis(1));
        }
        if round > 0 {
            pushes.push(pushed);
            all.push(begun.elapsed());
        }
    }
    let mut table =
        Table::new("From `git push` of an allowlist to the gateway that lets by it", &["", "median", "most"]);
    for (name, times) in [("git push alone", pushes), ("with tenantd run and the gateway", all)] {
        let row = [quantile(times.iter().copied(), 50), quantile(times, 100)].map(time);
        table.row(std::iter::once(name.to_owned()).chain(row));
    }
    table.print();
    Ok(())
}

/// How often the gateway has taken a policy of a tenant.
fn in_force(log: &Path, tenant: &str) -> usize {
    let text = fs::read_to_string(log).unwrap_or_default();
    text.lines().filter(|line| line.contains("policy is in force") && line.contains(tenant)).count()
}
