//! What the daemon costs while nothing changes, and what a full scan costs.

use std::{
    path::Path,
    thread,
    time::{Duration, Instant},
};

use nix::sys::resource::{UsageWho, getrusage};
use tenantd_test_support::{Options, SimEngine};

use crate::{
    bare::{self, Script},
    daemon::{self, Daemon},
    fleet::Fleet,
    setting,
    simulated::{self, AT_ONCE, replay},
    table::{Table, as_mebibytes, mebibytes, ratio, time, verdict},
    world::{FOLDERS, World},
};

/// The goals at rest: MiB, and hundredths of a core.
const MEMORY: f64 = 40.0;
const CORE: f64 = 1.0;

/// What was counted with one engine.
struct Cost {
    engine: String,
    resident: i64,
    peak: i64,
    first_up: i64,
    /// Hundredths of a core, of the daemon and of the engine.
    shares: [f64; 2],
    /// One full scan: its length, processor time of the daemon and of the engine.
    pass: [Duration; 3],
    /// The same by a bare client.
    bare: [Duration; 2],
}

/// What was counted with all engines.
#[derive(Default)]
pub struct Costs(Vec<Cost>);

impl Costs {
    pub fn real(&mut self, world: &World, fleet: &Fleet, daemon: &Daemon) -> anyhow::Result<()> {
        let id = daemon::engine_of(world.engine())?;
        let engine = Engine { name: format!("{} tenants, real", fleet.members.len()), used: &|| daemon::processor(id) };
        let observation = Script { at_once: AT_ONCE, stages: fleet.observe_further() };
        self.0.push(cost(world, daemon, &engine, 2, || Ok(observation))?);
        Ok(())
    }

    pub fn print(&self) {
        let seconds = seconds().unwrap_or_default();
        let mut table = Table::new(
            format!("At rest for {seconds} s, events and a full pass every 60 s"),
            &["", "resident", "goal", "", "most", "since its start", "of a core", "goal", "", "the engine's"],
        );
        for cost in &self.0 {
            let [share, engine] = cost.shares;
            let memory = as_mebibytes(cost.peak);
            table.row([
                cost.engine.clone(),
                mebibytes(cost.resident),
                format!("< {MEMORY} MiB"),
                verdict(memory, MEMORY),
                mebibytes(cost.peak),
                mebibytes(cost.first_up),
                format!("{share:.2} %"),
                format!("< {CORE} %"),
                verdict(share, CORE),
                format!("{engine:.2} %"),
            ]);
        }
        table.print();
        println!(
            "\n  The goal of memory is held against the most at rest. Since its start the daemon made all tenants."
        );
        let mut table = Table::new(
            "One full pass without a change",
            &["", "daemon", "its CPU", "engine's CPU", "bare list + inspect all", "engine's CPU", "ratio", "CPU ratio"],
        );
        for cost in &self.0 {
            let ([pass, _, engine], [bare, bare_engine]) = (cost.pass, cost.bare);
            let ratios = [ratio(pass, bare), ratio(engine, bare_engine)].map(|ratio| format!("{ratio:.2} ×"));
            let times = cost.pass.into_iter().chain(cost.bare).map(time);
            table.row(std::iter::once(cost.engine.clone()).chain(times).chain(ratios));
        }
        table.print();
    }
}

/// An engine, and the processor time that it has used so far.
struct Engine<'a> {
    name: String,
    used: &'a dyn Fn() -> anyhow::Result<Duration>,
}

/// What can be counted without a real engine.
pub fn main(folder: &Path) -> anyhow::Result<()> {
    let mut costs = Costs::default();
    simulated(&folder.join("rest"), &mut costs)?;
    costs.print();
    Ok(())
}

pub fn simulated(folder: &Path, costs: &mut Costs) -> anyhow::Result<()> {
    let tenants: usize = setting("BENCH_FOLLOWED_SIMULATED", 5000)?;
    let engine = SimEngine::start(Options::default());
    let world = World::new(folder, engine.socket(), simulated::IMAGE, tenants)?;
    let mut daemon = Daemon::start(&world, tenants)?;
    drop(engine.take_calls());
    daemon.pass()?;
    let calls = engine.take_calls();
    let used = || {
        let usage = getrusage(UsageWho::RUSAGE_SELF)?;
        let parts = [usage.user_time(), usage.system_time()];
        Ok(parts.iter().map(|part| Duration::new(part.tv_sec() as u64, part.tv_usec() as u32 * 1000)).sum())
    };
    let subject = Engine { name: format!("{tenants} tenants, simulated"), used: &used };
    costs.0.push(cost(&world, &daemon, &subject, 5, || Ok(replay(&calls)))?);
    Ok(())
}

/// How long nothing is done.
fn seconds() -> anyhow::Result<u64> {
    setting("BENCH_REST", 120)
}

/// Counts at rest, then with a full scan as often as every so many seconds.
fn cost(
    world: &World,
    daemon: &Daemon,
    engine: &Engine<'_>,
    every: u64,
    observe: impl FnOnce() -> anyhow::Result<Script>,
) -> anyhow::Result<Cost> {
    let used = || anyhow::Ok([daemon::processor(daemon.id())?, (engine.used)()?]);
    let since = |before: [Duration; 2]| {
        let now = used()?;
        anyhow::Ok([now[0].saturating_sub(before[0]), now[1].saturating_sub(before[1])])
    };
    let first_up = daemon::memory(daemon.id(), "VmHWM")?;
    daemon::forget_peak(daemon.id())?;
    let (before, begun) = (used()?, Instant::now());
    let mut resident = Vec::new();
    for _ in 0..seconds()? {
        thread::sleep(Duration::from_secs(1));
        resident.push(daemon::memory(daemon.id(), "VmRSS")?);
    }
    let wall = begun.elapsed().as_secs_f64();
    let shares = since(before)?.map(|used| used.as_secs_f64() / wall * 100.0);
    let peak = daemon::memory(daemon.id(), "VmHWM")?;
    resident.sort_unstable();

    world.settings(world.engine(), &format!("{FOLDERS}resync: {every}s\n"))?;
    daemon.reload();
    thread::sleep(Duration::from_secs(every));
    let (count, sum) = daemon.passes()?;
    let before = used()?;
    thread::sleep(Duration::from_secs(every * 8));
    let [ours, theirs] = since(before)?;
    let (more, longer) = daemon.passes()?;
    let passes = (more - count).max(1.0);
    let pass = [longer.saturating_sub(sum), ours, theirs].map(|time| time.div_f64(passes));
    world.settings(world.engine(), FOLDERS)?;
    daemon.reload();
    thread::sleep(Duration::from_secs(every));

    let script = observe()?;
    let bare = daemon.without(
        || {
            let (before, rounds) = (used()?, 8);
            let mut wall = Duration::ZERO;
            for _ in 0..rounds {
                wall += bare::measured(&script, world.engine(), world.folder())?.0.wall;
            }
            Ok([wall / rounds, since(before)?[1] / rounds])
        },
        Duration::ZERO,
    )?;
    let resident = resident.get(resident.len() / 2).copied().unwrap_or_default();
    Ok(Cost { engine: engine.name.clone(), resident, peak, first_up, shares, pass, bare })
}
