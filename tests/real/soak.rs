//! Faults at random moments while commits arrive and people change things by hand. At the end of each
//! round everything is as declared, and at the end of all nothing is left over.
//!
//! `make test` runs a short form. `make soak` runs the long one and prints a table. The first part
//! kills the daemon in each round; in the second one and the same daemon lives through the others, so
//! that what it takes of memory, descriptors and threads can be compared.
//!
//! `TENANTD_SOAK_ROUNDS` is the number of kills, `TENANTD_SOAK_SEED` repeats the choices of a run.

mod churn;
pub mod faults;
mod measure;
mod wakes;

use std::{
    collections::{BTreeMap, BTreeSet},
    thread,
    time::{Duration, Instant},
};

use crate::daemon::Service;
use churn::{Churn, POLICY};
use faults::{Fault, Journal};
use measure::{Measure, Sample};

/// The kills of the short form.
const SHORT: usize = 8;

/// From how many kills on the burst of commits is the large one, and how large both are.
const LONG: usize = 100;
const BURST: usize = 500;
const LARGE_BURST: usize = 10_000;

/// The settings of the host: small files, so that the journal goes on in many, and the window of [`POLICY`].
const HOST: &str = "journal: {fileSize: 256KiB, files: 1000}\nresync: 60s\ndeadlines: {call: 10s, stop: 1s}\n\
                    guards: {removals: {window: 0s}}\n";

#[test]
fn everything_ends_as_declared_whatever_fails() {
    let rounds = number("TENANTD_SOAK_ROUNDS").map_or(SHORT, |rounds| usize::try_from(rounds).unwrap());
    let seed = number("TENANTD_SOAK_SEED").unwrap_or_else(|| fastrand::u64(..));
    println!("{rounds} kills, TENANTD_SOAK_SEED={seed}");

    let mut service = Service::new("soak", HOST);
    service.fleet.policy(POLICY);
    let journal = Journal::small(&service.fleet);
    service.through = faults::clock(&service.fleet);
    faults::step_clock(&service.fleet, 0);
    let mut soak = Soak {
        churn: Churn::new(fastrand::Rng::with_seed(seed), &service.fleet),
        service,
        journal,
        random: fastrand::Rng::with_seed(seed ^ 1),
        measure: Measure::default(),
    };
    soak.begin();
    soak.kills(rounds);
    soak.others(rounds);
    soak.end();
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name} is a number, not {text:?}")))
}

struct Soak {
    // Before the service, since what is declared first is dropped first: it is a mount.
    journal: Journal,
    service: Service,
    churn: Churn,
    random: fastrand::Rng,
    measure: Measure,
}

impl Soak {
    fn begin(&mut self) {
        let commit = self.service.push();
        self.service.start();
        self.converge("the start", &commit, Instant::now());
    }

    /// The first part.
    fn kills(&mut self, rounds: usize) {
        for round in 1..=rounds {
            let mut faults = vec![Fault::DaemonKilled];
            match self.random.u8(..) {
                0..40 => faults.push(Fault::DaemonEnded),
                40..80 => faults.push(Fault::DaemonKilled),
                80..110 => faults.push(Fault::EngineKilled),
                _ => {}
            }
            self.random.shuffle(&mut faults);
            self.round(&format!("{round}/{rounds}"), &faults);
        }
    }

    /// The second part, with a daemon that is not restarted.
    fn others(&mut self, rounds: usize) {
        self.service.terminate();
        self.service.start();
        let burst = if rounds < LONG { BURST } else { LARGE_BURST };
        let mut kinds =
            [Fault::EngineKilled, Fault::EngineStopped, Fault::JournalFull, Fault::ClockSteps, Fault::Burst(BURST)];
        let pid = self.service.pid();
        for series in 0..(rounds / 20).max(1) {
            self.random.shuffle(&mut kinds);
            for kind in kinds {
                let kind = if kind == Fault::Burst(BURST) && series == 0 { Fault::Burst(burst) } else { kind };
                self.round("same daemon", &[kind]);
                assert_eq!(self.service.pid(), pid, "it is the same daemon");
                self.measure.samples.push(Sample::of(pid));
            }
        }
    }

    /// Commits and changes by hand, and faults at random moments between them.
    fn round(&mut self, name: &str, faults: &[Fault]) {
        let before = churn::identities(&self.service.fleet);
        let (service, churn, journal) = (&self.service, &mut self.churn, &self.journal);
        let mut random = self.random.fork();
        let bursts = faults.iter().any(|fault| matches!(fault, Fault::Burst(_)));
        let mut touched: BTreeSet<String> = thread::scope(|scope| {
            let changes = scope.spawn(|| churn.disturb(service, !bursts));
            for fault in faults {
                thread::sleep(Duration::from_millis(random.u64(0..1500)));
                fault.inject(service, journal, &mut random);
            }
            changes.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        });
        for fault in faults {
            if let Fault::Burst(commits) = fault {
                touched.insert(self.churn.burst(&self.service, *commits));
            }
        }
        let commit = self.churn.settle(&self.service);
        let took = self.converge(&format!("round {name} with {faults:?}"), &commit, Instant::now());
        println!("round {name}: {faults:?}, converged after {:.1} s", took.as_secs_f32());
        for fault in faults {
            *self.measure.faults.entry(fault.name()).or_default() += 1;
        }
        self.undisturbed(&before, &touched, faults);
    }

    /// Waits until the daemon and the engine say that everything is as declared.
    fn converge(&mut self, when: &str, commit: &str, since: Instant) -> Duration {
        let (service, churn) = (&self.service, &self.churn);
        service.wait_until_none(&format!("after {when} everything is as declared"), || {
            assert!(service.is_running(), "{when}: the daemon runs:\n{}", service.last_words());
            churn.differs(&service.fleet).or_else(|| service.not_in_order(commit))
        });
        let took = since.elapsed();
        self.measure.converged.push(took);
        took
    }

    /// Looks that a tenant that nobody changed has the container that it had.
    fn undisturbed(&self, before: &Identities, touched: &BTreeSet<String>, faults: &[Fault]) {
        let after = churn::identities(&self.service.fleet);
        let restarted = faults.contains(&Fault::EngineKilled);
        for (tenant, (id, start)) in before.iter().filter(|(tenant, _)| !touched.contains(*tenant)) {
            let (now, started) = after.get(tenant).unwrap_or_else(|| panic!("{tenant} is still there: {after:?}"));
            assert_eq!(now, id, "{tenant} keeps its container, whatever is done to others");
            assert!(restarted || started == start, "{tenant} is not restarted: {start}, then {started}");
        }
    }

    fn end(self) {
        let Self { journal, service, churn, measure, .. } = self;
        service.terminate();
        service.fleet.in_order();
        assert_eq!(churn.differs(&service.fleet), None, "without the daemon everything stays as declared");
        let verified = tenantd::journal::verify(&service.fleet.data().join("journal"), None);
        let verified = verified.unwrap_or_else(|broken| panic!("the journal's chain holds: {broken}"));
        assert_eq!(verified.tail, None, "after the end of the daemon no torn record is left");
        println!("{}", measure.table(&service.records(), &verified, churn.counts()));
        measure.bounded();
        drop(journal);
        service.end();
    }
}

/// The container's id and the time of its last start, by tenant.
type Identities = BTreeMap<String, (String, String)>;
