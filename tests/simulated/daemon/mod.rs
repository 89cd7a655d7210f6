//! The daemon as a process, on a simulated engine and a real git repository.

mod approvals;
mod commits;
mod contain;
mod disk;
mod drift;
mod engine;
mod flood;
mod folder;
mod guards;
mod ingress;
mod memory;
mod operator;
mod pages;
mod power;
mod restart;
mod signed;
mod soak;
mod trial;

use std::{
    fs,
    ops::{ControlFlow, Deref},
    os::unix::process::ExitStatusExt,
    path::PathBuf,
    process::{Child, Command, ExitStatus},
    thread::sleep,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tenantd::{
    journal,
    model::{
        Entry, Record, Revision, Status,
        record::{OutcomeRecord, RevisionRecord, StepRecord},
        status::{Condition, ConditionKind, Reason, TenantStatus, Truth},
    },
};

use crate::{
    cli::{Cli, Ended},
    origin,
    world::World,
};

/// How long anything may take that is waited for.
const TIMEOUT: Duration = Duration::from_secs(30);

/// How often is looked whether it has come.
const POLL: Duration = Duration::from_millis(20);

/// What `fleet.yaml` says where a test says nothing else: short times, so that tests are short.
const POLICY: &str = "health: {trialPeriod: 400ms}\nretry: {initial: 200ms, max: 1s}\n";

/// A daemon that follows a bare repository, and everything around it. It is killed at the end.
pub struct Daemon {
    pub cli: Cli,
    child: Option<Child>,
    starts: u32,
    /// Whether its journal lies where only it sees it.
    private: bool,
}

impl Deref for Daemon {
    type Target = World;

    fn deref(&self) -> &World {
        &self.cli.world
    }
}

impl Daemon {
    /// A daemon that has made these tenants.
    pub fn running(tenants: &[&str]) -> Self {
        Self::running_with(tenants, "")
    }

    /// The same with further lines for `host.yaml`.
    pub fn running_with(tenants: &[&str], settings: &str) -> Self {
        let mut daemon = Self::stopped(tenants, settings);
        daemon.start();
        daemon.settled();
        daemon
    }

    /// One that does not run yet; the tenants are pushed.
    pub fn stopped(tenants: &[&str], settings: &str) -> Self {
        let daemon = Self { cli: Cli::uncommitted(tenants), child: None, starts: 0, private: false };
        daemon.settings(settings);
        daemon.policy("");
        origin::git(daemon.folder(), &["init", "--quiet", "--bare", "--initial-branch=main", "fleet.git"]);
        daemon.push();
        daemon
    }

    /// Writes `host.yaml`. Nothing is polled for within the time of a test unless it says so.
    pub fn settings(&self, more: &str) {
        let (engine, folder, repo) = (self.engine.url(), self.folder().display(), self.bare());
        let mut text = format!("engine: {engine}\nsocket: {folder}/socket\n{more}");
        if !more.contains("source:") {
            text += &format!("\nsource: {{url: {}, interval: 1h}}", repo.display());
        }
        if !more.contains("resync:") {
            text += "\nresync: 1h";
        }
        let root = self.host.data_root.display();
        let head = format!("apiVersion: tenantd/v1\nkind: Host\ndataRoot: {root}\n");
        let deadlines = "deadlines: {call: 10s, start: 30s, stop: 1s, minRunning: 100ms}\n\
             workspaces: {backend: folder, unenforced: accept}\n";
        fs::write(self.folder().join("host.yaml"), format!("{head}{deadlines}{text}\n")).unwrap();
    }

    /// Writes `fleet.yaml` with further lines, which may set other times.
    pub fn policy(&self, more: &str) {
        let defaults = "apiVersion: tenantd/v1\nkind: Fleet\ndefaults: {tier: free, image: tenantd/test:1}\n";
        let times = if more.contains("health:") { "" } else { POLICY };
        self.cli.write("fleet.yaml", &format!("{defaults}{times}{more}"));
    }

    /// Writes a tenant's file with further lines.
    pub fn tenant(&self, name: &str, more: &str) {
        self.cli.tenant(name, more);
    }

    /// Takes a tenant's file away.
    pub fn without(&self, name: &str) {
        fs::remove_file(self.cli.repo.join(format!("tenants/{name}.yaml"))).unwrap();
    }

    /// The repository that the daemon follows.
    pub fn bare(&self) -> PathBuf {
        self.folder().join("fleet.git")
    }

    /// Commits what was written and pushes it. Returns the commit.
    pub fn push(&self) -> String {
        let commit = self.cli.commit();
        self.push_ref("HEAD");
        commit
    }

    /// Makes a commit of the working repository the newest, whatever was.
    pub fn push_ref(&self, what: &str) {
        self.git(&["push", "--quiet", "--force", self.bare().to_str().unwrap(), &format!("{what}:refs/heads/main")]);
    }

    /// git on the working repository.
    pub fn git(&self, arguments: &[&str]) -> String {
        origin::git(&self.cli.repo, arguments)
    }

    /// The same at another time.
    pub fn git_at(&self, date: &str, arguments: &[&str]) -> String {
        origin::git_at(&self.cli.repo, date, arguments)
    }

    /// Begins to run. Its log goes into a file.
    pub fn start(&mut self) {
        self.start_as(self.cli.command(&["run"]));
    }

    /// Begins to run by a command that runs it in the end.
    pub fn start_as(&mut self, mut command: Command) {
        self.starts += 1;
        let log = fs::File::create(self.log_file()).unwrap();
        command.env("PATH", path()).env("RUST_LOG", "tenantd=debug").stderr(log);
        let mut child = command.spawn().unwrap();
        let deadline = Instant::now() + TIMEOUT;
        while self.ask(&["status"]).code != 0 {
            if child.try_wait().unwrap().is_some() || Instant::now() > deadline {
                let _ = child.kill();
                let _ = child.wait();
                panic!("the daemon does not answer\n{}", tail(&self.log()));
            }
            sleep(POLL);
        }
        self.child = Some(child);
    }

    fn log_file(&self) -> PathBuf {
        self.folder().join(format!("log.{}", self.starts))
    }

    /// Its log since the last start.
    pub fn log(&self) -> String {
        fs::read_to_string(self.log_file()).unwrap_or_default()
    }

    pub fn pid(&self) -> u32 {
        self.child.as_ref().unwrap().id()
    }

    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_raw(i32::try_from(self.pid()).unwrap()).unwrap(), signal).unwrap();
    }

    /// Ends it with a signal and waits for its end.
    pub fn end(&mut self, signal: Signal) -> ExitStatus {
        self.signal(signal);
        self.ended()
    }

    /// Waits for its end.
    pub fn ended(&mut self) -> ExitStatus {
        let mut child = self.child.take().unwrap();
        let deadline = Instant::now() + TIMEOUT;
        loop {
            if let Some(status) = child.try_wait().unwrap() {
                return status;
            }
            if Instant::now() > deadline {
                child.kill().unwrap();
                child.wait().unwrap();
                panic!("the daemon did not end\n{}", tail(&self.log()));
            }
            sleep(POLL);
        }
    }

    /// Stops it in good order.
    pub fn stop(&mut self) {
        let status = self.end(Signal::TERM);
        assert_eq!((status.code(), status.signal()), (Some(0), None), "{}", tail(&self.log()));
    }

    /// Stops it and starts it again.
    pub fn restart(&mut self) {
        self.stop();
        self.start();
    }

    /// A command of the same program.
    pub fn ask(&self, arguments: &[&str]) -> Ended {
        self.cli.run(arguments)
    }

    pub fn status(&self) -> Status {
        serde_json::from_str(&self.ask(&["status", "--format", "json"]).with(0).out).unwrap()
    }

    /// What `tenantd plan` says about the newest commit: 0 where nothing would change.
    pub fn plan(&self) -> Ended {
        self.ask(&["plan", self.bare().to_str().unwrap(), "--rev", "main", "--detailed-exitcode"])
    }

    /// The reason of a tenant's condition `Ready`; empty where it is not shown.
    pub fn reason(&self, tenant: &str) -> String {
        reason(&self.status(), tenant)
    }

    /// Waits until the newest commit is in force and all tenants are as it declares.
    #[track_caller]
    pub fn settled(&self) {
        self.settled_within(TIMEOUT, Duration::ZERO);
    }

    /// The same with more time, and pauses between the questions: a long status is work as well.
    #[track_caller]
    pub fn settled_within(&self, limit: Duration, pause: Duration) {
        let newest = self.git(&["--git-dir", self.bare().to_str().unwrap(), "rev-parse", "main"]);
        self.wait_as_long(limit, "the newest commit is in force everywhere", || {
            sleep(pause);
            let status = self.status();
            let all = status.tenants.iter().all(|tenant| {
                condition(&tenant.conditions, ConditionKind::Ready).reason == Reason::ReconciliationSucceeded
                    && condition(&tenant.conditions, ConditionKind::Reconciling).status == Truth::False
            });
            (status.source.applied == at(&newest) && !status.tenants.is_empty() && all).then_some(())
        });
    }

    /// Waits until the tenants' declarations have proved good.
    #[track_caller]
    pub fn proved(&self) {
        self.wait("the trial of all tenants is over", || {
            let healthy =
                |tenant: &TenantStatus| condition(&tenant.conditions, ConditionKind::Healthy).reason == Reason::Running;
            self.status().tenants.iter().all(healthy).then_some(())
        });
    }

    /// Waits until the next plan is empty, and stays so.
    #[track_caller]
    pub fn converged(&self) {
        self.wait("the plan is empty", || (self.plan().code == 0).then_some(()));
    }

    /// Waits for something to come.
    #[track_caller]
    pub fn wait<T>(&self, what: &str, look: impl FnMut() -> Option<T>) -> T {
        self.wait_as_long(TIMEOUT, what, look)
    }

    /// Waits for something that takes a busy machine a while.
    #[track_caller]
    pub fn wait_long<T>(&self, what: &str, look: impl FnMut() -> Option<T>) -> T {
        self.wait_as_long(TIMEOUT * 6, what, look)
    }

    #[track_caller]
    fn wait_as_long<T>(&self, limit: Duration, what: &str, mut look: impl FnMut() -> Option<T>) -> T {
        let deadline = Instant::now() + limit;
        loop {
            if let Some(found) = look() {
                return found;
            }
            if Instant::now() > deadline {
                let status = self.ask(&["status"]);
                panic!("{what}: it never came\n{}{}\n{}", status.out, status.err, tail(&self.log()));
            }
            sleep(POLL);
        }
    }

    /// The journal's folder.
    pub fn journal(&self) -> PathBuf {
        let folder = journal::folder(&self.host.data_root);
        match self.private {
            true => PathBuf::from(format!("/proc/{}/root{}", self.pid(), folder.display())),
            false => folder,
        }
    }

    /// Everything that is in the journal.
    pub fn records(&self) -> Vec<Record> {
        let mut records = Vec::new();
        let take = |record: &Record| {
            records.push(record.clone());
            ControlFlow::Continue(())
        };
        journal::read(&self.journal(), None, take).unwrap();
        records
    }

    /// The steps of a tenant after a record, with what became of them.
    pub fn steps(&self, tenant: &str, after: u64) -> Vec<(StepRecord, Option<OutcomeRecord>)> {
        let records = self.records();
        let outcome = |intent: u64| {
            records.iter().find_map(|record| match &record.entry {
                Entry::Outcome(outcome) if outcome.intent == intent => {
                    assert!(record.seq > intent, "an outcome comes after its intent");
                    Some(outcome.clone())
                }
                _ => None,
            })
        };
        let of = |record: &Record| match &record.entry {
            Entry::Intent(step) if step.tenant == tenant && record.seq > after => {
                Some((step.clone(), outcome(record.seq)))
            }
            _ => None,
        };
        records.iter().filter_map(of).collect()
    }

    /// What was decided about commits.
    pub fn verdicts(&self) -> Vec<RevisionRecord> {
        let verdict = |record: Record| match record.entry {
            Entry::Revision(revision) => Some(revision),
            _ => None,
        };
        self.records().into_iter().filter_map(verdict).collect()
    }

    /// The number of the last record.
    pub fn head(&self) -> u64 {
        self.records().last().map_or(0, |record| record.seq)
    }

    /// The journal's chain holds.
    #[track_caller]
    pub fn verified(&self) {
        self.ask(&["audit", "verify"]).with(0);
    }

    /// A limit of a tenant's container, as the engine has it.
    pub fn limit(&self, tenant: &str, name: &str) -> i64 {
        let limit = |doc: &Value| doc["HostConfig"][name].as_i64().unwrap_or_default();
        self.engine.with(|state| state.container(&object(tenant)).map(limit)).unwrap_or_default()
    }

    /// The networks that a tenant's container is on.
    pub fn networks(&self, tenant: &str) -> Vec<String> {
        let names = |doc: &Value| doc["NetworkSettings"]["Networks"].as_object().unwrap().keys().cloned().collect();
        self.engine.with(|state| state.container(&object(tenant)).map(names)).unwrap_or_default()
    }

    /// Takes a tenant's container away, as somebody with the docker command does.
    pub fn remove(&self, tenant: &str) {
        self.act("DELETE", &format!("/containers/{}?force=1", object(tenant)), Value::Null);
    }

    /// Gives a tenant's container other limits.
    pub fn update(&self, tenant: &str, memory: i64) {
        let body = json!({"Memory": memory, "MemorySwap": memory});
        self.act("POST", &format!("/containers/{}/update", object(tenant)), body);
    }

    /// Waits until a tenant's container runs.
    #[track_caller]
    pub fn runs(&self, tenant: &str) {
        self.wait(&format!("{tenant} runs"), || (self.state(&object(tenant)) == "running").then_some(()));
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// The name of a tenant's container and network.
pub fn object(tenant: &str) -> String {
    format!("tenantd-{tenant}")
}

pub fn condition(of: &[Condition], kind: ConditionKind) -> &Condition {
    of.iter().find(|condition| condition.kind == kind).unwrap()
}

/// A commit on the branch that is followed, as a status names it.
pub fn at(commit: &str) -> Option<Revision> {
    Some(Revision { branch: "main".to_owned(), commit: commit.to_owned() })
}

/// The reason of a tenant's condition `Ready` in a status; empty where the tenant is not shown.
pub fn reason(status: &Status, tenant: &str) -> String {
    let found = shown(status, tenant);
    found.map(|one| condition(&one.conditions, ConditionKind::Ready).reason.to_string()).unwrap_or_default()
}

/// A tenant in a status.
pub fn shown<'a>(status: &'a Status, tenant: &str) -> Option<&'a TenantStatus> {
    status.tenants.iter().find(|one| one.tenant == tenant)
}

fn path() -> std::ffi::OsString {
    std::env::var_os("PATH").unwrap_or_default()
}

/// The last lines of a log.
fn tail(log: &str) -> String {
    let lines: Vec<&str> = log.lines().collect();
    lines[lines.len().saturating_sub(60)..].join("\n")
}

/// Trigger of a step in one word, or the event's name.
pub fn cause(step: &StepRecord) -> String {
    use tenantd::model::record::Trigger;
    match &step.trigger {
        Trigger::Event { event, .. } => event.clone(),
        Trigger::Commit { .. } => "commit".to_owned(),
        Trigger::Start => "start".to_owned(),
        Trigger::FullPass => "full pass".to_owned(),
        Trigger::Retry => "retry".to_owned(),
        Trigger::Operator { .. } => "operator".to_owned(),
    }
}
