//! The life of a fleet on a real engine: first up, nothing to do, healing, an audit.
//!
//! tenantd, a bare client of the same calls and docker-compose do the same work on one engine, in
//! turns. What tenantd and the bare client make is the same to the byte, so that each heals and
//! looks at what the other has made, and tenantd's plan must be empty after both.

use std::{
    env,
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::Duration,
};

use anyhow::{Context, bail};

use tenantd::{
    host::{ArchiveStamp, Workspaces},
    model::Host,
};

use crate::{
    bare::{self, Chains, Received, Script},
    compose::Compose,
    fleet::{self, Fleet},
    measure::{Run, median, peak},
    setting,
    table::{Table, as_mebibytes, mebibytes, ratio, time, verdict},
    world::{self, World},
};

pub const IMAGE: &str = "tenantd-bench:1";

/// How many calls the bare client is tried with at once; the best counts.
const AT_ONCE: [usize; 4] = [1, 2, 4, 8];

/// How often a look and a healing are measured.
const LOOKS: usize = 15;
const HEALINGS: usize = 7;

/// What the engine gets after a removal to end what it does of it in the background.
const REST: Duration = Duration::from_millis(300);

const APPLY: [&str; 2] = ["apply", "--yes"];
pub const PLAN: [&str; 2] = ["plan", "--detailed-exitcode"];

/// Runs beside the engine that `DOCKER_HOST` names, which has nothing else to do.
pub fn main(folder: &Path) -> anyhow::Result<()> {
    let url = env::var("DOCKER_HOST").context("DOCKER_HOST names no engine")?;
    let socket = PathBuf::from(url.trim_start_matches("unix://"));
    build_image(&socket)?;
    life(&Lab::new(&folder.join("life"), &socket, setting("BENCH_TENANTS", 30)?)?)?;
    audit(&Lab::new(&folder.join("audit"), &socket, setting("BENCH_AUDIT", 300)?)?)
}

pub fn build_image(socket: &Path) -> anyhow::Result<()> {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/agent/build-image");
    let output =
        Command::new(script).arg(socket).arg(IMAGE).output().with_context(|| format!("cannot run {script}"))?;
    if !output.status.success() {
        bail!("{script} failed: {}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(())
}

/// An engine and a fleet for it.
struct Lab {
    folder: PathBuf,
    socket: PathBuf,
    world: World,
    fleet: Fleet,
}

/// What tenantd and the bare client took for the same work.
struct Pair {
    ours: Vec<Run>,
    bare: Vec<Run>,
    /// The calls at once with which the bare client was fastest.
    at_once: usize,
    received: Received,
}

impl Pair {
    fn ratio(&self) -> f64 {
        ratio(median(&self.ours), median(&self.bare))
    }

    fn bare_cell(&self) -> String {
        format!("{} ({})", time(median(&self.bare)), self.at_once)
    }
}

impl Lab {
    fn new(folder: &Path, socket: &Path, tenants: usize) -> anyhow::Result<Self> {
        let world = World::new(folder, socket, IMAGE, tenants)?;
        let fleet = Fleet::of(&world)?;
        fleet.make_workspaces()?;
        Ok(Self { folder: folder.to_owned(), socket: socket.to_owned(), world, fleet })
    }

    fn clean(&self) -> anyhow::Result<()> {
        fleet::clean(&self.socket)
    }

    /// Lets tenantd apply. What it waits at the end, to see that what it started goes on, is left out.
    fn bring_up(&self) -> anyhow::Result<Run> {
        let mut run = self.world.tenantd(&APPLY)?;
        run.wall = run.wall.saturating_sub(Host::default().deadlines.min_running.get());
        Ok(run)
    }

    /// Lets tenantd and the bare client do the same, in turns, each after `before`.
    ///
    /// The bare client takes a turn with each number of calls at once in the first `trials` rounds,
    /// and in the others with the best alone.
    fn compare(
        &self,
        tenantd: &dyn Fn() -> anyhow::Result<Run>,
        script: &dyn Fn(usize) -> Vec<Chains>,
        (trials, rounds): (usize, usize),
        before: &dyn Fn(usize) -> anyhow::Result<()>,
    ) -> anyhow::Result<Pair> {
        let mut ours = Vec::new();
        let mut bare: Vec<(usize, Vec<Run>)> = AT_ONCE.into_iter().map(|at_once| (at_once, Vec::new())).collect();
        let mut received = Received::default();
        for round in 0..rounds {
            if round == trials {
                bare.sort_by_key(|(_, runs)| median(runs));
                bare.truncate(1);
            }
            before(round)?;
            ours.push(tenantd()?);
            for (at_once, runs) in &mut bare {
                before(round)?;
                let script = Script { at_once: *at_once, stages: script(round) };
                let (run, answers) = bare::measured(&script, &self.socket, &self.folder)?;
                runs.push(run);
                received = answers;
            }
        }
        let best = bare.into_iter().min_by_key(|(_, runs)| median(runs));
        let (at_once, bare) = best.context("no round was run")?;
        Ok(Pair { ours, bare, at_once, received })
    }

    /// Archives all workspaces.
    fn unmount(&self) -> anyhow::Result<()> {
        self.clean()?;
        let workspaces = Workspaces::new(&fleet::host(&self.world)?);
        world::runtime()?.block_on(async {
            for (name, _) in workspaces.list().await?.found {
                workspaces.archive(&name.parse().map_err(anyhow::Error::msg)?, ArchiveStamp::now(None)).await?;
            }
            anyhow::Ok(())
        })
    }

    fn first_up(&self) -> anyhow::Result<Pair> {
        let rounds = setting("BENCH_ROUNDS", 3)?;
        self.compare(&|| self.bring_up(), &|_| self.fleet.first_up(), (1, rounds), &|_| self.clean())
    }

    fn observe(&self, words: &[&str], script: &dyn Fn(&Fleet) -> Vec<Chains>) -> anyhow::Result<Pair> {
        self.compare(&|| self.world.tenantd(words), &|_| script(&self.fleet), (LOOKS, LOOKS), &|_| Ok(()))
    }

    fn heal(&self, count: usize) -> anyhow::Result<Pair> {
        let script = |round| self.fleet.heal(&self.fleet.pick(round, count));
        let remove = |round| {
            fleet::remove(&self.socket, &self.fleet.pick(round, count))?;
            thread::sleep(REST);
            Ok(())
        };
        // There is nothing to do at once for one.
        let trials = if count > 1 { 3 } else { 1 };
        self.compare(&|| self.bring_up(), &script, (trials, HEALINGS), &remove)
    }

    /// What docker-compose takes for first up, nothing to do, and healing of one and of three.
    fn compose(&self, compose: &Compose) -> anyhow::Result<[Run; 4]> {
        self.clean()?;
        let first_up = compose.up()?;
        let no_op = compose.up()?;
        fleet::remove(&self.socket, &self.fleet.pick(0, 1))?;
        thread::sleep(REST);
        let heal_one = compose.up()?;
        fleet::remove(&self.socket, &self.fleet.pick(0, 3))?;
        thread::sleep(REST);
        Ok([first_up, no_op, heal_one, compose.up()?])
    }
}

fn life(lab: &Lab) -> anyhow::Result<()> {
    let composes = Compose::all(&lab.fleet, &lab.folder)?;
    let mut others = Vec::new();
    for compose in &composes {
        others.push((compose.name.clone(), lab.compose(compose)?));
    }
    let first_up = lab.first_up()?;
    // The bare client was last. If this found a change, the two would not be doing the same.
    lab.world.tenantd(&PLAN)?;
    let pairs = [first_up, lab.observe(&APPLY, &Fleet::observe)?, lab.heal(1)?, lab.heal(3)?];
    let further = lab.observe(&APPLY, &Fleet::observe_further)?;
    lab.world.tenantd(&PLAN)?;
    lab.clean()?;

    let tenants = lab.fleet.members.len();
    let mut table = Table::new(
        format!("{tenants} hardened tenants, real engine, runc"),
        &["", "first up", "no-op", "heal 1", "heal 3", "peak memory"],
    );
    let memory = |runs: &dyn Fn(&Pair) -> i64| pairs.iter().map(runs).max().unwrap_or_default();
    let ours = memory(&|pair| peak(&pair.ours));
    let cells = pairs.iter().map(|pair| time(median(&pair.ours)));
    table.row(std::iter::once("tenantd apply".to_owned()).chain(cells).chain([mebibytes(ours)]));
    let cells = pairs.iter().map(Pair::bare_cell);
    let bare = mebibytes(memory(&|pair| peak(&pair.bare)));
    table.row(std::iter::once("bare client (calls at once)".to_owned()).chain(cells).chain([bare]));
    for (name, runs) in others {
        let cells = runs.iter().map(|run| time(run.wall));
        table.row(std::iter::once(name).chain(cells).chain([mebibytes(peak(&runs))]));
    }
    table.print();
    let watched = Host::default().deadlines.min_running.get().as_millis();
    println!(
        "\n  Not counted: {watched} ms (deadlines.minRunning) for which apply watches what it started, when all runs."
    );

    let mut goals = Table::new("Goals beside the bare client", &["", "goal", "measured", ""]);
    let [first_up, no_op, heal_one, heal_three] = &pairs;
    for (what, pair, goal) in [
        ("first up", first_up, Some(1.1)),
        ("no-op, every field compared", no_op, Some(2.0)),
        ("no-op, the bare client asking for /info and /networks too", &further, None),
        ("heal 1", heal_one, Some(1.1)),
        ("heal 3", heal_three, Some(1.1)),
    ] {
        let measured = pair.ratio();
        let goal_cell = goal.map(|goal| format!("≤ {goal:.2} ×")).unwrap_or_default();
        let verdict_cell = goal.map(|goal| verdict(measured, goal)).unwrap_or_default();
        goals.row([what.to_owned(), goal_cell, format!("{measured:.2} ×"), verdict_cell]);
    }
    let memory = as_mebibytes(ours);
    goals.row(["peak memory".to_owned(), "≤ 25 MiB".to_owned(), mebibytes(ours), verdict(memory, 25.0)]);
    goals.print();
    Ok(())
}

/// A plan of many running tenants, beside a list and an inspection of each: with plain folders, and then with workspaces
/// that are mounted.
fn audit(lab: &Lab) -> anyhow::Result<()> {
    let mut table = Table::new(
        format!("Audit of {} running containers, real engine", lab.fleet.members.len()),
        &["", "plan", "list + inspect all", "ratio", "goal", "", "received", "peak memory"],
    );
    let mut row = |what: &str, pair: &Pair| {
        let measured = pair.ratio();
        table.row([
            what.to_owned(),
            time(median(&pair.ours)),
            pair.bare_cell(),
            format!("{measured:.2} ×"),
            "≤ 1.70 ×".to_owned(),
            verdict(measured, 1.7),
            format!("{} KiB", pair.received.bytes >> 10),
            mebibytes(peak(&pair.ours)),
        ]);
        measured
    };
    lab.world.tenantd(&APPLY)?;
    let folders = row("workspaces are plain folders", &lab.observe(&PLAN, &Fleet::observe)?);
    lab.world.settings(&lab.socket, "")?;
    lab.world.tenantd(&APPLY)?;
    let mounted = lab.observe(&PLAN, &Fleet::observe).map(|pair| row("workspaces are mounted", &pair));
    lab.unmount()?;
    let slower = (mounted? / folders - 1.0) * 100.0;
    table.print();
    println!(
        "\n  Mounted workspaces make a plan {slower:.0} % slower, against its bare client; goal 10 %: {}.",
        verdict(slower, 10.0)
    );
    Ok(())
}
