//! A plan of many tenants that finds nothing to do, on the simulated engine.
//!
//! The engine's own time is that of the bare client with the very calls that tenantd was seen to
//! make. What is beyond it is tenantd's.

use std::path::Path;

use tenantd_test_support::{Call as Seen, Options, SimEngine};

use crate::{
    bare::{self, Call, Received, Script},
    measure::{Run, median, peak},
    reads::{self, Reads},
    setting,
    table::{Table, as_mebibytes, mebibytes, time, verdict},
    world::World,
};

/// How many calls the daemon has under way at once in a look.
pub const AT_ONCE: usize = 8;

/// The image that the simulated engine has.
pub const IMAGE: &str = "tenantd/test:1";

/// The goals for a plan of 10,000 tenants: seconds beyond the engine's own time, and memory in MiB.
const GOAL: (usize, f64, f64) = (10_000, 1.0, 100.0);

pub fn main(folder: &Path) -> anyhow::Result<()> {
    let sizes: String = setting("BENCH_SIMULATED", "1000,10000".to_owned())?;
    let rounds: usize = setting("BENCH_ROUNDS", 3)?;
    let mut table = Table::new(
        "Plan without a change, simulated engine on a socket",
        &["tenants", "plan", "engine's own", "beyond it", "goal", "", "calls", "received", "peak memory", "goal", ""],
    );
    let mut readers = reads::table();
    for size in sizes.split(',') {
        let size: usize = size.trim().parse()?;
        let Measured { plans, bares, received, reads } = measure(&folder.join(size.to_string()), size, rounds)?;
        reads.add_to(&mut readers, size);
        let (plan, bare) = (median(&plans), median(&bares));
        let beyond = plan.saturating_sub(bare);
        let (tenants, most, memory) = GOAL;
        let goal = |text: String| if size == tenants { text } else { String::new() };
        table.row([
            size.to_string(),
            time(plan),
            time(bare),
            time(beyond),
            goal(format!("< {most} s")),
            goal(verdict(beyond.as_secs_f64(), most)),
            received.calls.to_string(),
            format!("{} KiB", received.bytes >> 10),
            mebibytes(peak(&plans)),
            goal(format!("< {memory} MiB")),
            goal(verdict(as_mebibytes(peak(&plans)), memory)),
        ]);
    }
    table.print();
    readers.print();
    Ok(())
}

struct Measured {
    plans: Vec<Run>,
    bares: Vec<Run>,
    received: Received,
    reads: Reads,
}

fn measure(folder: &Path, tenants: usize, rounds: usize) -> anyhow::Result<Measured> {
    let engine = SimEngine::start(Options::default());
    let world = World::new(folder, engine.socket(), IMAGE, tenants)?;
    world.tenantd(&["apply", "--yes"])?;
    drop(engine.take_calls());
    let plan = || world.tenantd(&["plan", "--detailed-exitcode"]);
    plan()?;
    let script = replay(&engine.take_calls());
    let mut measured =
        Measured { plans: Vec::new(), bares: Vec::new(), received: Received::default(), reads: Reads::default() };
    for _ in 0..rounds {
        let (bare, received) = bare::measured(&script, engine.socket(), folder)?;
        measured.bares.push(bare);
        measured.received = received;
        measured.plans.push(plan()?);
        measured.reads.measure(engine.socket(), folder)?;
    }
    Ok(measured)
}

/// The calls that were seen: what came first in its order, and the inspections side by side.
pub fn replay(seen: &[Seen]) -> Script {
    let call = |seen: &Seen| {
        let version = seen.version.as_ref().map(|version| format!("/v{version}")).unwrap_or_default();
        let query = if seen.query.is_empty() { String::new() } else { format!("?{}", seen.query) };
        Call::new(&seen.method, format!("{version}{}{query}", seen.path), None)
    };
    let is_inspection = |seen: &&Seen| seen.path.starts_with("/containers/") && seen.path != "/containers/json";
    let (inspections, others): (Vec<&Seen>, Vec<&Seen>) = seen.iter().partition(is_inspection);
    Script {
        at_once: AT_ONCE,
        stages: vec![
            vec![others.into_iter().map(call).collect()],
            inspections.into_iter().map(|seen| vec![call(seen)]).collect(),
        ],
    }
}
