//! The daemon: how soon it repairs, how soon a push is carried out, and what it costs at rest.
//!
//! All times end with the engine's own event of the repair. While the bare client has its turn, the
//! daemon is stopped.

use std::{
    env,
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use anyhow::Context;
use jiff::Timestamp;
use serde_json::{Value, json};
use tenantd::{engine::EngineEvent, model::NAME_PREFIX};

use crate::{
    bare::{self, Call, Script},
    daemon::Daemon,
    events::Listener,
    fleet::{self, Fleet, Member},
    measure::quantile,
    proxy, real,
    rest::{self, Costs},
    setting,
    simulated::AT_ONCE,
    table::{Table, ratio, time, verdict},
    world::{Clone, FOLDERS, World, with_limits},
};

/// What a repair may take beyond the engine's own time.
const BEYOND: Duration = Duration::from_millis(100);

/// What the daemon and the engine get after each turn, so that the next finds them at rest.
const REST: Duration = Duration::from_millis(700);

/// A network of nobody's.
const OTHER: &str = "tenantd-bench-other";

/// How often the daemon scans everything while its events are cut, in seconds.
const RESYNC: u64 = 5;

/// How many tenants a commit changes.
const CHANGED: [usize; 2] = [1, 20];

pub fn main(folder: &Path) -> anyhow::Result<()> {
    let url = env::var("DOCKER_HOST").context("DOCKER_HOST names no engine")?;
    let socket = PathBuf::from(url.trim_start_matches("unix://"));
    real::build_image(&socket)?;
    let world = World::new(&folder.join("following"), &socket, real::IMAGE, setting("BENCH_FOLLOWED", 100)?)?;
    let fleet = Fleet::of(&world)?;
    let mut costs = Costs::default();
    {
        let daemon = Daemon::start(&world, fleet.members.len())?;
        let lab = Lab { listener: Listener::begin(&socket)?, world: &world, fleet: &fleet, daemon: &daemon };
        lab.drift()?;
        lab.pushes()?;
        costs.real(&world, &fleet, &daemon)?;
    }
    without_events(&world, &fleet)?;
    // The bare client and the daemon were to do the same.
    world.tenantd(&real::PLAN)?;
    fleet::clean(&socket)?;
    rest::simulated(&folder.join("rest"), &mut costs)?;
    costs.print();
    Ok(())
}

/// Something that somebody does by hand, and what undoes it.
struct Drift {
    name: &'static str,
    drift: Call,
    repair: Vec<Call>,
    /// The event that the repair ends with: kind and action.
    ends: [&'static str; 2],
}

const DRIFTS: [fn(&Fleet, &Member) -> Drift; 3] = [
    |fleet, member| Drift {
        name: "docker rm -f",
        drift: fleet.removal(member),
        repair: fleet.container(member).collect(),
        ends: ["container", "start"],
    },
    |fleet, member| Drift {
        name: "docker update --memory",
        drift: fleet.update(member, Some(member.container.memory + (16 << 20))),
        repair: vec![fleet.update(member, None)],
        ends: ["container", "update"],
    },
    |fleet, member| {
        let call = |verb: &str, more: Value| {
            let mut body = json!({"Container": member.container.name});
            body.as_object_mut()
                .into_iter()
                .for_each(|body| body.extend(more.as_object().cloned().unwrap_or_default()));
            fleet.post(&format!("/networks/{OTHER}/{verb}"), Some(body))
        };
        Drift {
            name: "docker network connect",
            drift: call("connect", json!({})),
            repair: vec![call("disconnect", json!({"Force": true}))],
            ends: ["network", "disconnect"],
        }
    },
];

/// What the daemon and the bare client took.
#[derive(Default)]
struct Turns {
    daemon: Vec<Duration>,
    bare: Vec<Duration>,
}

impl Turns {
    fn at(&self, percent: usize) -> [Duration; 2] {
        [&self.daemon, &self.bare].map(|times| quantile(times.iter().copied(), percent))
    }
}

/// An engine with a fleet that a daemon looks after.
struct Lab<'a> {
    listener: Listener,
    world: &'a World,
    fleet: &'a Fleet,
    daemon: &'a Daemon,
}

impl Lab<'_> {
    fn engine(&self) -> &Path {
        self.world.engine()
    }

    fn drift(&self) -> anyhow::Result<()> {
        let rounds: usize = setting("BENCH_DRIFTS", 21)?;
        bare::make(self.engine(), vec![self.fleet.post("/networks/create", Some(json!({"Name": OTHER})))])?;
        let mut table = Table::new(
            format!("Drift to repaired, {} tenants, real engine, runc, {rounds} times each", self.fleet.members.len()),
            &["by hand", "daemon", "p95", "bare repair", "p95", "ratio", "beyond it", "goal", ""],
        );
        for (kind, of) in DRIFTS.into_iter().enumerate() {
            let mut turns = Turns::default();
            let mut name = "";
            for member in self.fleet.members.iter().cycle().skip(kind * rounds).take(rounds) {
                let Drift { name: what, drift, repair, ends } = of(self.fleet, member);
                name = what;
                turns.daemon.push(self.turn(member, drift.clone(), Vec::new(), ends)?);
                thread::sleep(REST);
                let bare = || self.turn(member, drift, repair, ends);
                turns.bare.push(self.daemon.without(bare, REST)?);
            }
            let ([daemon, bare], [daemon_p95, bare_p95]) = (turns.at(50), turns.at(95));
            let beyond = daemon.saturating_sub(bare);
            let times = [daemon, daemon_p95, bare, bare_p95].map(time);
            let goal = [time(beyond), format!("< {}", time(BEYOND)), within(beyond, BEYOND)];
            let cells = std::iter::once(name.to_owned()).chain(times).chain([format!("{:.2} ×", ratio(daemon, bare))]);
            table.row(cells.chain(goal));
        }
        table.print();
        bare::make(self.engine(), vec![self.fleet.call("DELETE", &format!("/networks/{OTHER}"))])
    }

    /// From the return of a call that tampers with something to the event of its repair.
    fn turn(&self, member: &Member, drift: Call, repair: Vec<Call>, ends: [&str; 2]) -> anyhow::Result<Duration> {
        // A network's events tell the container's id alone.
        let id = inspect(self.engine(), self.fleet, member)?;
        self.listener.forget();
        bare::make(self.engine(), vec![drift])?;
        let begun = Timestamp::now();
        bare::make(self.engine(), repair)?;
        let repaired = self.listener.wait(|event| {
            let is_its = is_of(event, member) || event.container.as_ref() == Some(&id);
            is_its && event.time > begun && [event.kind.as_str(), &event.action] == ends
        })?;
        Ok(between(begun, repaired.time))
    }

    fn pushes(&self) -> anyhow::Result<()> {
        let rounds: usize = setting("BENCH_PUSHES", 7)?;
        let clone = Clone::of(self.world)?;
        let mut table = Table::new(
            format!("Push to converged, {} tenants, {rounds} pushes each", self.fleet.members.len()),
            &["tenants changed", "daemon", "longest", "bare updates", "longest", "ratio", "beyond them"],
        );
        for changed in CHANGED.into_iter().filter(|changed| changed * 2 <= self.fleet.members.len()) {
            let mut turns = Turns::default();
            let members: Vec<&Member> = with_limits(changed).filter_map(|n| self.fleet.members.get(n)).collect();
            for round in 0..rounds {
                // The last one is as it was, however many there are.
                let extra = ((rounds - 1 - round) % 8) as i64;
                clone.commit(changed, &format!("{}MiB", 256 + extra))?;
                turns.daemon.push(self.updates(&members, || clone.push())?);
                thread::sleep(REST);
                turns.bare.extend(self.daemon.without(|| self.bare_updates(&members, extra), REST)?);
            }
            let ([daemon, bare], [daemon_longest, bare_longest]) = (turns.at(50), turns.at(100));
            let cells = [daemon, daemon_longest, bare, bare_longest].map(time);
            let beyond = [format!("{:.2} ×", ratio(daemon, bare)), time(daemon.saturating_sub(bare))];
            table.row(std::iter::once(changed.to_string()).chain(cells).chain(beyond));
        }
        table.print();
        println!("\n  From the return of `git push` to the last container's update; no goal is set.");
        Ok(())
    }

    /// The bare client's updates, there and back.
    fn bare_updates(&self, members: &[&Member], extra: i64) -> anyhow::Result<[Duration; 2]> {
        let turn = |extra: i64| {
            let call = |member: &&Member| vec![self.fleet.update(member, Some((256 + extra) << 20))];
            let script = Script { at_once: AT_ONCE, stages: vec![members.iter().map(call).collect()] };
            let begun = Timestamp::now();
            self.updates_since(members, begun, || crate::world::runtime()?.block_on(bare::play(script, self.engine())))
        };
        Ok([turn(extra + 32)?, turn(extra)?])
    }

    fn updates(&self, members: &[&Member], push: impl FnOnce() -> anyhow::Result<()>) -> anyhow::Result<Duration> {
        self.listener.forget();
        push()?;
        self.updates_since(members, Timestamp::now(), || Ok(()))
    }

    /// Waits until each of some containers was updated.
    fn updates_since<T>(
        &self,
        members: &[&Member],
        begun: Timestamp,
        work: impl FnOnce() -> anyhow::Result<T>,
    ) -> anyhow::Result<Duration> {
        work()?;
        let mut left: Vec<&str> = members.iter().map(|member| tenant(member)).collect();
        let mut last = begun;
        while !left.is_empty() {
            let event = self.listener.wait(|event| event.kind == "container" && event.action == "update")?;
            left.retain(|tenant| event.tenant.as_deref() != Some(*tenant));
            last = last.max(event.time);
        }
        Ok(between(begun, last))
    }
}

/// Drift while the engine's events do not arrive.
fn without_events(world: &World, fleet: &Fleet) -> anyhow::Result<()> {
    let rounds: usize = setting("BENCH_CUTS", 7)?;
    let silent = world.folder().join("silent.sock");
    proxy::serve_without_events(world.engine(), &silent)?;
    world.settings(&silent, &format!("{FOLDERS}resync: {RESYNC}s\n"))?;
    let daemon = Daemon::start(world, fleet.members.len())?;
    let lab = Lab { listener: Listener::begin(world.engine())?, world, fleet, daemon: &daemon };
    let mut times = Vec::new();
    for (round, member) in fleet.members.iter().cycle().take(rounds).enumerate() {
        let Drift { drift, ends, .. } = DRIFTS[1](fleet, member);
        times.push(lab.turn(member, drift, Vec::new(), ends)?);
        // At another point of the interval each time.
        thread::sleep(Duration::from_millis(RESYNC * 1000 * (2 * round as u64 + 1) / (2 * rounds as u64)));
    }
    drop(daemon);
    world.settings(world.engine(), FOLDERS)?;
    let interval = Duration::from_secs(RESYNC);
    let mut table = Table::new(
        format!("Drift to repaired, {} tenants, no event arrives, {rounds} times", fleet.members.len()),
        &["by hand", "median", "longest", "goal: the full pass's interval", ""],
    );
    let [median, longest] = [50, 100].map(|percent| quantile(times.iter().copied(), percent));
    let goal = [time(longest), format!("≤ {}", time(interval)), within(longest, interval)];
    table.row(["docker update --memory".to_owned(), time(median)].into_iter().chain(goal));
    table.print();
    Ok(())
}

fn within(measured: Duration, goal: Duration) -> String {
    verdict(measured.as_secs_f64(), goal.as_secs_f64())
}

fn between(begun: Timestamp, ended: Timestamp) -> Duration {
    Duration::try_from(ended.duration_since(begun)).unwrap_or_default()
}

fn tenant(member: &Member) -> &str {
    member.container.name.trim_start_matches(NAME_PREFIX)
}

fn is_of(event: &EngineEvent, member: &Member) -> bool {
    event.tenant.as_deref() == Some(tenant(member))
}

/// The id of a member's container.
fn inspect(socket: &Path, fleet: &Fleet, member: &Member) -> anyhow::Result<String> {
    let answer = bare::ask(socket, &fleet.call("GET", &format!("/containers/{}/json", member.container.name)))?;
    let document: Value = serde_json::from_str(&answer)?;
    Ok(document["Id"].as_str().context("a container has no id")?.to_owned())
}
