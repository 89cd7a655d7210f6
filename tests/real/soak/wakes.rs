//! Requests and WebSockets to tenants that are paused and put to sleep, while their containers, the daemon and the ingress
//! are killed at random moments. None is lost that was not sent, none is received twice, none is answered by another
//! tenant.
//!
//! `make soak` runs it, and prints a table.
//!
//! `TENANTD_SOAK_WAKES` is how often tenants are woken, `TENANTD_SOAK_SEED` repeats the choices of a run.

mod client;
mod tenant;

use std::{
    fmt::Write as _,
    fs,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use tenantd::model::Power;

use super::number;
use crate::{
    daemon::{
        Service,
        ingress::{Ingress, settings},
    },
    engine::succeed,
    fleet::run,
    inside::inside_network,
};
use tenant::{Counts, Kill, Round, Span, Tenant};

/// How often tenants are woken in the short form.
const SHORT: usize = 300;

/// The tenants. Their names are of one length, so that one's answer in the place of another's is not taken for a part of it.
const TENANTS: [&str; 6] = ["ant", "bee", "cat", "dog", "elk", "fox"];

/// How many wakes there are for each from asleep, for each container that is killed, for each tenant that is asked while it
/// goes down, and for each kill of the daemon and of the ingress.
const PER_SLEEP: usize = 20;
const PER_KILL: usize = 12;
const PER_RACE: usize = 4;
const PER_PROCESS: usize = 60;

/// No wait for a repair after a container was killed.
const POLICY: &str = "health: {trialPeriod: 400ms}\nretry: {initial: 100ms, max: 1s}\n";

#[test]
#[ignore = "an answer that begins moments after its container was made is cut in most runs"]
fn no_request_is_lost_doubled_or_answered_by_another_tenant() {
    let wakes = number("TENANTD_SOAK_WAKES").map_or(SHORT, |wakes| usize::try_from(wakes).unwrap());
    let seed = number("TENANTD_SOAK_SEED").unwrap_or_else(|| fastrand::u64(..));
    println!("{wakes} wakes, TENANTD_SOAK_SEED={seed}");
    let service = service();
    let tokens = TENANTS.map(|tenant| {
        let output = run(service.fleet.tenantd(&["token", tenant, "--for", "24h", "--may", "http"]));
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    });
    let shared = Shared::new(&service);
    let begun = Instant::now();
    let (counts, wrong, killed) = inside_network(&service.fleet.engine, || {
        thread::scope(|scope| {
            let faults = scope.spawn(|| shared.kill_processes(wakes, fastrand::Rng::with_seed(seed)));
            let tenants: Vec<_> = (1..)
                .zip(TENANTS.into_iter().zip(tokens))
                .map(|(nth, (name, token))| {
                    let random = fastrand::Rng::with_seed(seed.wrapping_add(nth));
                    let shared = &shared;
                    scope.spawn(move || shared.tenant(name, token, random, wakes.div_ceil(TENANTS.len())))
                })
                .collect();
            let ended: Vec<_> = tenants.into_iter().map(|tenant| tenant.join()).collect();
            shared.stop.store(true, Ordering::SeqCst);
            let killed = faults.join();
            let failures = shared.failures();
            assert!(failures.is_empty(), "{}", failures.join("\n\n"));
            let killed = finished(killed);
            let (mut counts, mut wrong) = (Vec::new(), Vec::new());
            for tenant in ended {
                let (count, more) = finished(tenant);
                counts.push(count);
                wrong.extend(more);
            }
            (counts, wrong, killed)
        })
    });
    println!("{}", table(&counts, killed, wrong.len(), begun.elapsed()));
    assert!(wrong.is_empty(), "each request is received once:\n{}", wrong.join("\n"));
    let records = service.records();
    let recorded = records.iter().filter(|record| record.to_string().contains("\"wake\"")).count();
    assert!(recorded >= wakes, "every wake is on record: {recorded}");
    service.end();
}

/// What a thread returned. What it panicked with goes on.
fn finished<T>(result: thread::Result<T>) -> T {
    result.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// A daemon that has made the tenants, all of which it has found healthy.
fn service() -> Service {
    let mut service = Service::new("wakes", "");
    service.run_within();
    let file = "resync: 60s\ndeadlines: {call: 10s, stop: 1s}\n";
    service.settings(&format!("{file}{}", settings(service.fleet.engine.dir())));
    service.fleet.policy(POLICY);
    succeed(service.fleet.engine.within(&["ip", "netns", "add", "tenantd"]));
    let gvisor = service.fleet.gvisor();
    for (number, tenant) in TENANTS.into_iter().enumerate() {
        let path = if number % 2 == 0 { ", path: /ready" } else { "" };
        let class = if number % 3 == 2 { gvisor } else { "" };
        service.fleet.declare(tenant, &format!("expose: [{{port: 8080{path}}}]\n{class}"));
    }
    let commit = service.push();
    service.start();
    service.wait_until_in_order(&commit);
    for tenant in TENANTS {
        service.wait("it is healthy", || {
            service.condition(tenant, "Healthy").is_some_and(|(status, ..)| status == "True")
        });
    }
    service
}

/// What all tenants share.
struct Shared<'a> {
    service: &'a Service,
    ingress_kills: Mutex<Vec<Span>>,
    /// How often any of them was woken.
    woken: AtomicUsize,
    failures: Mutex<Vec<String>>,
    /// Set where nothing more is to happen.
    stop: AtomicBool,
}

/// How often the daemon and the ingress were killed.
#[derive(Clone, Copy, Debug, Default)]
struct Killed {
    daemon: usize,
    ingress: usize,
}

impl<'a> Shared<'a> {
    fn new(service: &'a Service) -> Self {
        Self {
            service,
            ingress_kills: Mutex::default(),
            woken: AtomicUsize::new(0),
            failures: Mutex::default(),
            stop: AtomicBool::new(false),
        }
    }

    fn ingress_kills(&self) -> Vec<Span> {
        self.ingress_kills.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn failures(&self) -> Vec<String> {
        self.failures.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Something is not as it must be. Everything ends.
    fn failed(&self, what: String) {
        let dir = self.service.fleet.engine.dir();
        let log = fs::read_to_string(dir.join("ingress.log")).unwrap_or_default();
        let last: Vec<&str> = log.lines().rev().take(10).collect();
        let last: String = last.into_iter().rev().map(|line| format!("  {line}\n")).collect();
        let daemon = self.service.last_words();
        let what = format!("{what}\nthe ingress says:\n{last}the daemon says:\n{daemon}");
        self.failures.lock().unwrap_or_else(PoisonError::into_inner).push(what);
        self.stop.store(true, Ordering::SeqCst);
    }

    fn is_over(&self) -> bool {
        self.stop.load(Ordering::SeqCst)
    }

    /// What becomes of one tenant. Returns what was counted, and what of its own notes is not as it must be.
    fn tenant(
        &self,
        name: &'static str,
        token: String,
        mut random: fastrand::Rng,
        wakes: usize,
    ) -> (Counts, Vec<String>) {
        let _others = StopOthers(self);
        let mut rounds = rounds(wakes);
        random.shuffle(&mut rounds);
        let mut tenant = Tenant::new(self, name, token, random);
        for round in rounds {
            if self.is_over() {
                break;
            }
            tenant.round(round);
            self.woken.fetch_add(usize::from(!round.is_raced), Ordering::SeqCst);
        }
        let wrong = tenant.look_back();
        (tenant.counts, wrong)
    }

    /// Kills the daemon and the ingress at random moments, and starts each again.
    fn kill_processes(&self, wakes: usize, mut random: fastrand::Rng) -> Killed {
        let _others = StopOthers(self);
        let mut ingress = Ingress::start(self.service);
        let count = (wakes / PER_PROCESS).max(1);
        let mut moments: Vec<(usize, bool)> = [false, true]
            .into_iter()
            .flat_map(|kind| vec![kind; count])
            .map(|kind| (random.usize(..wakes), kind))
            .collect();
        moments.sort_unstable();
        let mut killed = Killed::default();
        for (at, is_daemon) in moments {
            while self.woken.load(Ordering::SeqCst) < at && !self.is_over() {
                thread::sleep(Duration::from_millis(5));
            }
            if self.is_over() {
                break;
            }
            // At any moment of a round.
            thread::sleep(Duration::from_millis(random.u64(..100)));
            if is_daemon {
                self.service.kill();
                thread::sleep(Duration::from_millis(random.u64(..500)));
                self.service.start();
                self.service.wait("the daemon answers", || self.service.status().is_some());
                killed.daemon += 1;
            } else {
                let span = Span { from: Instant::now(), to: None };
                self.ingress_kills.lock().unwrap_or_else(PoisonError::into_inner).push(span);
                drop(ingress);
                let mut kills = self.ingress_kills.lock().unwrap_or_else(PoisonError::into_inner);
                kills.last_mut().unwrap().to = Some(Instant::now());
                drop(kills);
                ingress = Ingress::start(self.service);
                killed.ingress += 1;
            }
        }
        while !self.is_over() {
            thread::sleep(Duration::from_millis(5));
        }
        // It would be killed with the thread that started it.
        self.service.terminate();
        killed
    }
}

/// Has everything end where its owner panics.
struct StopOthers<'a>(&'a Shared<'a>);

impl Drop for StopOthers<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            self.0.stop.store(true, Ordering::SeqCst);
        }
    }
}

/// What a tenant goes through that is woken so often.
fn rounds(wakes: usize) -> Vec<Round> {
    let sleeps = wakes.div_ceil(PER_SLEEP);
    let power = |number: usize, of: usize| if number < of { Power::Asleep } else { Power::Paused };
    let woken = (0..wakes).map(|number| {
        let kill = match number % (2 * PER_KILL) {
            0 => Some(Kill::Engine),
            PER_KILL => Some(Kill::Process),
            _ => None,
        };
        Round { power: power(number, sleeps), is_raced: false, kill }
    });
    let races = wakes / PER_RACE;
    let raced = (0..races).map(|number| Round { power: power(number, races / PER_SLEEP), is_raced: true, kill: None });
    woken.chain(raced).collect()
}

/// The run as a table. What is lost or answered by another tenant ends it before.
fn table(counts: &[Counts], killed: Killed, doubled: usize, took: Duration) -> String {
    let mut table = String::from("\n");
    let mut row = |name: &str, value: String| writeln!(table, "{name:<34} {value}").unwrap();
    let sum = |of: fn(&Counts) -> usize| counts.iter().map(of).sum::<usize>().to_string();
    for (name, power) in [("wakes from paused", Power::Paused), ("wakes from asleep", Power::Asleep)] {
        row(
            name,
            counts.iter().map(|count| count.wakes.get(&power).copied().unwrap_or_default()).sum::<usize>().to_string(),
        );
    }
    row("asked while they went down", sum(|count| count.raced));
    for (name, kill) in [("containers killed by the engine", Kill::Engine), ("main processes killed", Kill::Process)] {
        row(name, counts.iter().filter_map(|count| count.killed.get(&kill)).sum::<usize>().to_string());
    }
    row("daemon killed", killed.daemon.to_string());
    row("ingress killed", killed.ingress.to_string());
    row("requests", sum(|count| count.requests));
    row("WebSockets", sum(|count| count.websockets));
    row("answered", sum(|count| count.answered));
    row("502 as their container ended", sum(|count| count.unanswered));
    row("cut as container or ingress ended", sum(|count| count.cut));
    row("doubled", doubled.to_string());
    row("lost", "0".to_owned());
    row("answered by another tenant", "0".to_owned());
    for (name, power) in [("paused", Power::Paused), ("asleep", Power::Asleep)] {
        let mut times: Vec<Duration> =
            counts.iter().filter_map(|count| count.times.get(&power)).flatten().copied().collect();
        times.sort();
        if let Some(last) = times.last() {
            let middle = times[times.len() / 2];
            row(
                &format!("first answer from {name}: median, max"),
                format!("{} ms, {} ms", middle.as_millis(), last.as_millis()),
            );
        }
    }
    row("took", format!("{:.0} s", took.as_secs_f32()));
    table
}
