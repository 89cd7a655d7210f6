//! Commits that arrive, and changes that people make by hand.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    fs,
    process::Stdio,
    thread,
    time::Duration,
};

use serde_json::Value;

use super::Identities;
use crate::{
    daemon::Service,
    engine::{succeed, text},
    fleet::{Fleet, run},
};

/// What is declared for all: no guard that counts over time, since tenants go in many rounds.
pub const POLICY: &str = "guards: {removals: {window: 0s}}\n";

/// A network that is nobody's.
const FOREIGN: &str = "outside";

/// How many commits one push of a burst has.
const PUSH: usize = 50;

/// What a tenant declares.
#[derive(Clone, Debug, PartialEq)]
struct Wanted {
    memory: u64,
    pids: u64,
    /// In thousandths.
    cpus: u64,
    gvisor: bool,
}

impl Wanted {
    fn some(random: &mut fastrand::Rng, gvisor: bool) -> Self {
        // The sandbox itself takes some of what a tenant of gVisor may have.
        let (memory, pids) = if gvisor { (256, 128) } else { (64, 32) };
        let more = random.u64(..32);
        Self { memory: memory + more, pids: pids + more, cpus: random.u64(10..50) * 10, gvisor }
    }

    fn lines(&self) -> String {
        let Self { memory, pids, cpus, gvisor } = self;
        let runtime = if *gvisor { "runtime: gvisor\n" } else { "" };
        format!("{runtime}limits: {{memory: {memory}MiB, pids: {pids}, cpus: 0.{cpus:03}}}\n")
    }
}

pub struct Churn {
    random: fastrand::Rng,
    tenants: BTreeMap<String, Wanted>,
    /// How many tenants there ever were: names are not used twice.
    names: usize,
    counts: Counts,
}

/// What was done.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counts {
    pub commits: usize,
    pub drifts: usize,
}

impl Churn {
    /// Declares eight tenants, one of which has the other runtime.
    pub fn new(random: fastrand::Rng, fleet: &Fleet) -> Self {
        let mut churn = Self { random, tenants: BTreeMap::new(), names: 0, counts: Counts::default() };
        for n in 0..8 {
            churn.add(fleet, n == 0 && fleet.engine.tests_gvisor());
        }
        succeed(fleet.engine.docker(&["network", "create", FOREIGN]));
        churn
    }

    pub fn counts(&self) -> Counts {
        self.counts
    }

    fn add(&mut self, fleet: &Fleet, gvisor: bool) -> String {
        self.names += 1;
        let name = format!("t{:03}", self.names);
        let wanted = Wanted::some(&mut self.random, gvisor);
        fleet.declare(&name, &wanted.lines());
        self.tenants.insert(name.clone(), wanted);
        name
    }

    fn any(&mut self) -> String {
        let nth = self.random.usize(..self.tenants.len());
        self.tenants.keys().nth(nth).expect("there are tenants").clone()
    }

    /// Some commits and some changes by hand. Returns the tenants that they are about.
    pub fn disturb(&mut self, service: &Service, commits: bool) -> BTreeSet<String> {
        let mut touched = BTreeSet::new();
        // Two removals at once could be held.
        let mut may_remove = true;
        for _ in 0..self.random.usize(2..6) {
            thread::sleep(Duration::from_millis(self.random.u64(0..500)));
            let tenant = if commits && self.random.bool() {
                self.commit(service, &mut may_remove)
            } else {
                Some(self.drift(&service.fleet))
            };
            touched.extend(tenant);
        }
        touched
    }

    /// Pushes a commit. Returns the tenant that it changes, if it does.
    fn commit(&mut self, service: &Service, may_remove: &mut bool) -> Option<String> {
        let fleet = &service.fleet;
        let tenant = self.any();
        let changed = match self.random.u8(..100) {
            0..12 if self.tenants.len() < 10 => Some(self.add(fleet, false)),
            12..24 if self.tenants.len() > 6 && *may_remove => {
                *may_remove = false;
                self.tenants.remove(&tenant);
                fleet.undeclare(&tenant);
                Some(tenant)
            }
            24..34 => {
                fleet.declare(&tenant, "limits: {memory: plenty}\n");
                None
            }
            34..40 => {
                fleet.policy("nonsense: true\n");
                None
            }
            _ => {
                let wanted = Wanted::some(&mut self.random, self.tenants[&tenant].gvisor);
                fleet.declare(&tenant, &wanted.lines());
                self.tenants.insert(tenant.clone(), wanted);
                Some(tenant)
            }
        };
        service.push();
        self.counts.commits += 1;
        changed
    }

    /// Changes something by hand. The engine may be away: then nothing is changed.
    fn drift(&mut self, fleet: &Fleet) -> String {
        let tenant = self.any();
        let container = format!("tenantd-{tenant}");
        let elsewhere = format!("renamed-{tenant}");
        let words: &[&str] = match self.random.u8(..11) {
            0 => &["rm", "--force", &container],
            1 => &["update", "--memory", "256m", "--memory-swap", "256m", &container],
            2 => &["update", "--pids-limit", "999", &container],
            3 => &["update", "--cpus", "0.9", &container],
            4 => &["stop", "--time", "1", &container],
            5 => &["kill", &container],
            6 => &["pause", &container],
            7 => &["network", "disconnect", "--force", &container, &container],
            8 => &["network", "connect", FOREIGN, &container],
            9 => &["rename", &container, &elsewhere],
            _ => &["restart", "--time", "0", &container],
        };
        if run(fleet.engine.docker(words)).status.success() {
            self.counts.drifts += 1;
        }
        tenant
    }

    /// Commits that come quickly, each of which changes one tenant's limits. Returns the tenant.
    pub fn burst(&mut self, service: &Service, commits: usize) -> String {
        let tenant = self.any();
        let gvisor = self.tenants[&tenant].gvisor;
        let mut left = commits;
        while left > 0 {
            let mut stream = String::from("feature done\n");
            for _ in 0..left.min(PUSH) {
                let wanted = Wanted::some(&mut self.random, gvisor);
                let lines = wanted.lines();
                let file = format!(
                    "apiVersion: tenantd/v1\nkind: Tenant\ntenant: {tenant}\n{lines}workspace: {{restore: none}}\n"
                );
                let from = if stream.contains("commit") { "" } else { "from refs/heads/main^0\n" };
                write!(
                    stream,
                    "commit refs/heads/main\ncommitter test <test@example.com> now\ndata 0\n{from}\
                     M 100644 inline tenants/{tenant}.yaml\ndata {}\n{file}\n",
                    file.len()
                )
                .unwrap();
                self.tenants.insert(tenant.clone(), wanted);
            }
            stream.push_str("done\n");
            let file = service.fleet.engine.dir().join("burst");
            fs::write(&file, stream).unwrap();
            let mut import = service.git(&["--git-dir=../origin.git", "fast-import", "--quiet", "--date-format=now"]);
            import.stdin(Stdio::from(fs::File::open(&file).unwrap()));
            succeed(import);
            left -= left.min(PUSH);
        }
        succeed(service.git(&["fetch", "--quiet", "origin"]));
        succeed(service.git(&["reset", "--quiet", "--hard", "origin/main"]));
        self.counts.commits += commits;
        tenant
    }

    /// Puts wrong files right, and pushes that. Returns the commit.
    pub fn settle(&mut self, service: &Service) -> String {
        service.fleet.policy(POLICY);
        for (name, wanted) in &self.tenants {
            service.fleet.declare(name, &wanted.lines());
        }
        self.counts.commits += 1;
        service.push()
    }

    /// The first thing in which the engine differs from what is declared.
    pub fn differs(&self, fleet: &Fleet) -> Option<String> {
        let Some(containers) = containers(fleet) else { return Some("the engine does not answer".to_owned()) };
        let names: BTreeSet<String> = containers.iter().map(|container| text(&container["Name"])).collect();
        let declared: BTreeSet<String> = self.tenants.keys().map(|tenant| format!("/tenantd-{tenant}")).collect();
        if names != declared || containers.len() != declared.len() {
            return Some(format!("the containers are {names:?}, and {declared:?} are declared"));
        }
        let listed = run(fleet.engine.docker(&["network", "ls", "--format", "{{.Name}}"]));
        let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
        let networks: BTreeSet<String> =
            listed.lines().filter(|name| name.starts_with("tenantd-")).map(|name| format!("/{name}")).collect();
        if networks != declared || listed.lines().filter(|name| name.starts_with("tenantd-")).count() != declared.len()
        {
            return Some(format!("the networks are {networks:?}, and {declared:?} are declared"));
        }
        containers.iter().find_map(|container| {
            let name = text(&container["Name"]);
            let wanted = &self.tenants[name.trim_start_matches("/tenantd-")];
            let host = &container["HostConfig"];
            let state = &container["State"];
            let on: Vec<&String> = container["NetworkSettings"]["Networks"].as_object()?.keys().collect();
            let is_as_declared = host["Memory"] == wanted.memory << 20
                && host["PidsLimit"] == wanted.pids
                && host["NanoCpus"] == wanted.cpus * 1_000_000
                && state["Running"] == true
                && state["Paused"] == false
                && on == [name.trim_start_matches('/')];
            let limits = [&host["Memory"], &host["PidsLimit"], &host["NanoCpus"]];
            (!is_as_declared)
                .then(|| format!("{name} is {state} on {on:?} with {limits:?}, and {wanted:?} is declared"))
        })
    }
}

/// The container and the last start of each tenant.
pub fn identities(fleet: &Fleet) -> Identities {
    let containers = containers(fleet).expect("the engine answers");
    let of = |container: &Value| {
        let tenant = text(&container["Config"]["Labels"]["io.tenantd.tenant"]);
        (tenant, (text(&container["Id"]), text(&container["State"]["StartedAt"])))
    };
    containers.iter().map(of).collect()
}

/// Every container of the engine, if it answers.
fn containers(fleet: &Fleet) -> Option<Vec<Value>> {
    let listed = run(fleet.engine.docker(&["ps", "--all", "--quiet", "--no-trunc"]));
    let ids = String::from_utf8_lossy(&listed.stdout).into_owned();
    let words: Vec<&str> = ["inspect"].into_iter().chain(ids.lines()).collect();
    if words.len() == 1 {
        return listed.status.success().then(Vec::new);
    }
    let inspected = run(fleet.engine.docker(&words));
    serde_json::from_slice(&inspected.stdout).ok().filter(|_| inspected.status.success())
}
