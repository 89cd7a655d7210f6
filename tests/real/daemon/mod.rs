//! `tenantd run` as a process of its own, with a config repo and a private engine.

mod approvals;
mod commits;
mod contain;
mod going_back;
mod images;
pub mod ingress;
mod manual_changes;
mod outages;
mod power;
mod ways;

use std::{
    fs,
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use serde_json::Value;

use crate::{
    engine::{PrivateEngine, succeed, text},
    fleet::{Fleet, eventually, run},
};

/// How long something may take that the daemon does by itself. Far more than it needs: the machine
/// may have other work.
pub const TIMEOUT: Duration = Duration::from_secs(60);

/// Something to try, and its name.
pub type Case<'a> = (String, Box<dyn Fn(&mut Service) + 'a>);

/// A case by its name.
pub fn case<'a>(name: &str, work: impl Fn(&mut Service) + 'a) -> Case<'a> {
    (name.to_owned(), Box::new(work))
}

/// A process that ends with its owner.
struct Process(Mutex<Option<Child>>);

impl Process {
    fn held(&self) -> MutexGuard<'_, Option<Child>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Some(mut child) = self.held().take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Settings with which events alone lead to repairs.
const HOST: &str = "resync: 1h\ndeadlines: {call: 3s, stop: 1s}\n";

#[test]
fn the_daemon_keeps_a_real_engine_as_declared() {
    let mut service = Service::new("daemon", HOST);
    commits::first(&mut service);
    let mut cases = manual_changes::cases(service.fleet.engine.tests_gvisor());
    cases.extend(commits::cases());
    cases.extend(outages::cases());
    service.cases(cases);
    service.end();
}

/// A daemon that follows a fleet's config repo.
pub struct Service {
    // Before the engine, since what is declared first is dropped first.
    daemon: Process,
    pub fleet: Fleet,
    binary: PathBuf,
    /// A command that it is started by, which becomes it.
    pub through: Vec<String>,
}

impl Service {
    /// A fleet whose declarations go through a bare repository. The daemon does not run yet.
    /// `further` are lines of host.yaml.
    pub fn new(name: &str, further: &str) -> Self {
        let fleet = Fleet::start(name);
        let service = Self {
            daemon: Process(Mutex::new(None)),
            fleet,
            binary: PathBuf::from(env!("CARGO_BIN_EXE_tenantd")),
            through: Vec::new(),
        };
        service.settings(further);
        succeed(service.git(&["init", "--quiet", "--bare", "--initial-branch=main", "../origin.git"]));
        // Whatever git would do later by itself could outlive the test.
        for key in ["receive.autoGC", "gc.auto"] {
            succeed(service.git(&["--git-dir=../origin.git", "config", key, "0"]));
        }
        succeed(service.git(&["init", "--quiet", "--initial-branch=main", "."]));
        succeed(service.git(&["remote", "add", "origin", "../origin.git"]));
        service
    }

    /// Has the daemon and all commands run in the engine's namespaces from now on.
    pub fn run_within(&mut self) {
        self.fleet.within = true;
        self.through = self.fleet.engine.enter();
    }

    /// Writes host.yaml with further lines.
    pub fn settings(&self, further: &str) {
        let dir = self.fleet.engine.dir().display();
        let own = format!("source: {{url: {dir}/origin.git, interval: 2s}}\nsocket: {dir}/tenantd.sock\n");
        self.fleet.host(&(own + further));
    }

    /// git in the work tree of the config repo.
    pub fn git(&self, words: &[&str]) -> Command {
        let mut command = Command::new("git");
        let who = ["-c", "user.name=test", "-c", "user.email=test@example.com", "-c", "commit.gpgSign=false"];
        command.args(who).args(["-c", "gc.auto=0"]).args(words).current_dir(self.fleet.repo());
        command.env("GIT_CONFIG_NOSYSTEM", "1").env("GIT_CONFIG_GLOBAL", "/dev/null");
        command
    }

    /// Commits the declarations as they lie there and pushes them. Returns the commit.
    pub fn push(&self) -> String {
        succeed(self.git(&["add", "--all", "."]));
        succeed(self.git(&["commit", "--quiet", "--allow-empty", "--message", "declare"]));
        succeed(self.git(&["push", "--quiet", "origin", "main"]));
        self.head()
    }

    /// The commit of the work tree.
    pub fn head(&self) -> String {
        succeed(self.git(&["rev-parse", "HEAD"])).trim().to_owned()
    }

    /// What the daemon has said so far.
    pub fn log(&self) -> String {
        fs::read_to_string(self.log_file()).unwrap_or_default()
    }

    fn log_file(&self) -> PathBuf {
        self.fleet.engine.dir().join("tenantd.log")
    }

    /// Starts the daemon, and returns at once.
    pub fn start(&self) {
        let mut daemon = self.daemon.held();
        assert!(daemon.is_none(), "the daemon runs already");
        let log = fs::OpenOptions::new().create(true).append(true).open(self.log_file()).unwrap();
        // It ends with the test, however that ends.
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL"]).args(&self.through).arg(&self.binary);
        command.env_remove("DOCKER_HOST").current_dir(self.fleet.engine.dir());
        command.arg("--host").arg(self.fleet.engine.dir().join("host.yaml")).args(["run", "--log-format", "json"]);
        *daemon = Some(command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn().unwrap());
    }

    /// Starts another copy of the binary from now on.
    pub fn use_copy(&mut self) {
        let copy = self.fleet.engine.dir().join("tenantd-new");
        fs::copy(&self.binary, &copy).unwrap();
        self.binary = copy;
    }

    /// The daemon's process.
    pub fn pid(&self) -> u32 {
        self.daemon.held().as_ref().expect("the daemon runs").id()
    }

    /// Whether it runs, as far as its parent knows.
    pub fn is_running(&self) -> bool {
        self.daemon.held().as_mut().is_some_and(|child| child.try_wait().unwrap().is_none())
    }

    /// Kills it with `kill -9`.
    pub fn kill(&self) {
        let mut child = self.daemon.held().take().expect("the daemon runs");
        assert!(child.try_wait().unwrap().is_none(), "the daemon ran until it was killed:\n{}", self.last_words());
        signal("KILL", itself(child.id()));
        child.wait().unwrap();
    }

    /// Ends it with a TERM, and looks that it ends well.
    pub fn terminate(&self) {
        let mut child = self.daemon.held().take().expect("the daemon runs");
        eventually("the daemon hears signals", || hears(itself(child.id())));
        signal("TERM", itself(child.id()));
        let deadline = Instant::now() + TIMEOUT;
        let status = loop {
            match child.try_wait().unwrap() {
                Some(status) => break status,
                None if Instant::now() > deadline => {
                    let _ = child.kill();
                    panic!("the daemon ends after a TERM:\n{}", self.last_words());
                }
                None => std::thread::sleep(Duration::from_millis(20)),
            }
        };
        assert!(status.success(), "after a TERM the daemon ends with {status}:\n{}", self.last_words());
    }

    /// What the daemon says of itself, if it answers.
    pub fn status(&self) -> Option<Value> {
        let output = run(self.fleet.tenantd(&["status", "--format", "json"]));
        serde_json::from_slice(&output.stdout).ok()
    }

    /// A condition of a tenant, or of the daemon where the tenant is empty: status, reason, message.
    pub fn condition(&self, tenant: &str, kind: &str) -> Option<(String, String, String)> {
        let status = self.status()?;
        let of = match tenant {
            "" => &status,
            name => status["tenants"].as_array()?.iter().find(|one| one["tenant"] == name)?,
        };
        let condition = of["conditions"].as_array()?.iter().find(|condition| condition["type"] == kind)?;
        Some((text(&condition["status"]), text(&condition["reason"]), text(&condition["message"])))
    }

    /// Waits until something holds that the daemon brings about.
    pub fn wait(&self, what: &str, mut holds: impl FnMut() -> bool) {
        self.wait_until_none(what, || (!holds()).then(|| "it does not hold".to_owned()));
    }

    /// Waits until nothing stands against what the daemon brings about.
    pub fn wait_until_none(&self, what: &str, mut against: impl FnMut() -> Option<String>) {
        let deadline = Instant::now() + TIMEOUT;
        while let Some(against) = against() {
            if Instant::now() > deadline {
                let status = self.status().map_or_else(|| "no answer".to_owned(), |status| status.to_string());
                panic!("{what}, within {TIMEOUT:?}: {against}\nthe daemon says:\n{}\n{status}", self.last_words());
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Waits until a commit is in force and everything is as it declares.
    pub fn wait_until_in_order(&self, commit: &str) {
        self.wait_until_none("everything is as declared", || self.not_in_order(commit));
    }

    /// Why not: a commit is in force, and the daemon says of itself and of each tenant that it is ready.
    pub fn not_in_order(&self, commit: &str) -> Option<String> {
        let Some(status) = self.status() else { return Some("the daemon does not answer".to_owned()) };
        if status["source"]["applied"] != format!("main@sha1:{commit}") {
            return Some(format!("{commit} is not in force: {}", status["source"]));
        }
        let holds = |of: &Value, kind: &str, wanted: &str| {
            let conditions = of["conditions"].as_array();
            conditions.is_some_and(|all| all.iter().any(|one| one["type"] == kind && one["status"] == wanted))
        };
        if !holds(&status, "Ready", "True") {
            return Some(status["conditions"].to_string());
        }
        let is_ready = |one: &&Value| holds(one, "Ready", "True") && holds(one, "Reconciling", "False");
        let mut tenants = status["tenants"].as_array()?.iter();
        tenants.find(|one| !is_ready(one)).map(Value::to_string)
    }

    /// The whole records of the journal.
    pub fn records(&self) -> Vec<Value> {
        let folder = self.fleet.data().join("journal");
        let mut files: Vec<PathBuf> = fs::read_dir(folder).unwrap().flatten().map(|entry| entry.path()).collect();
        files.retain(|file| file.extension().is_some_and(|extension| extension == "jsonl"));
        files.sort();
        let text: String = files.iter().map(|file| fs::read_to_string(file).unwrap()).collect();
        text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    /// Runs cases one after the other, up to the first that fails: each begins where all is in order.
    pub fn cases(&mut self, cases: Vec<Case<'_>>) {
        for (name, case) in cases {
            println!("case {name}");
            let begun = Instant::now();
            case(self);
            println!("case {name}: ok, {:.1} s", begun.elapsed().as_secs_f32());
        }
    }

    /// Ends the daemon, and looks that nothing of the tenants and of the daemon is left.
    pub fn end(self) {
        if self.daemon.held().is_some() {
            self.terminate();
        }
        let socket = self.fleet.engine.dir().join("tenantd.sock");
        assert!(!socket.exists(), "the socket goes with the daemon");
        let left = PrivateEngine::processes(&self.fleet.engine.dir().join("host.yaml").display().to_string());
        assert!(left.is_empty(), "no process of the daemon is left: {left:?}");
        self.fleet.end();
    }

    /// The end of the log, for a person who reads a failure.
    pub fn last_words(&self) -> String {
        let log = self.log();
        let lines: Vec<&str> = log.lines().rev().take(25).collect();
        lines.into_iter().rev().map(|line| format!("  {line}\n")).collect()
    }
}

/// Sends a process a signal.
pub fn signal(name: &str, pid: u32) {
    let mut command = Command::new("kill");
    command.args(["-s", name, &pid.to_string()]);
    succeed(command);
}

/// The daemon, where whoever enters namespaces of processes for it waits for its end.
fn itself(pid: u32) -> u32 {
    let read = |file: &str| fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap_or_default();
    let children = read(&format!("task/{pid}/children"));
    let first = children.split_whitespace().next().and_then(|child| child.parse().ok());
    first.filter(|_| read("comm").trim() == "nsenter").unwrap_or(pid)
}

/// Whether a process does something of its own about a TERM: one that has only begun does not.
fn hears(pid: u32) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:"));
    caught.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).is_some_and(|mask| mask & (1 << 14) != 0)
}
