//! `tenantd run` as a process of its own, and what the kernel counts of it.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, bail};
use rustix::{
    param::clock_ticks_per_second,
    process::{Pid, Signal, kill_process},
};

use tenantd::web::{Client, operators::Reconcile};

use crate::{
    bare::{self, Call},
    world::{self, World},
};

/// How long the daemon may take for anything that is waited for.
const TIMEOUT: Duration = Duration::from_secs(300);

/// A daemon that ends when this is dropped.
pub struct Daemon {
    child: Child,
    socket: PathBuf,
    log: PathBuf,
}

impl Daemon {
    /// Starts it, and waits until all tenants have run well for as long as a commit is on trial.
    pub fn start(world: &World, tenants: usize) -> anyhow::Result<Self> {
        let log = world.folder().join("daemon.log");
        let mut command = Command::new(env!("CARGO_BIN_EXE_tenantd"));
        command.args(["run", "--log-format", "json", "--host"]).arg(world.host());
        command.env_remove("DOCKER_HOST").env_remove("NOTIFY_SOCKET").stdin(Stdio::null());
        let child = command.stderr(File::create(&log)?).stdout(Stdio::null()).spawn().context("tenantd run")?;
        let mut daemon = Self { child, socket: world.control(), log };
        daemon.wait(|daemon| {
            // Nobody answers before the socket is there.
            let text = daemon.metrics().unwrap_or_default();
            value(&text, "tenantd_reconcile_condition{type=\"Healthy\",status=\"True\"}") == Some(tenants as f64)
        })?;
        Ok(daemon)
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// How many full scans there were, and how long they took all in all.
    pub fn passes(&self) -> anyhow::Result<(f64, Duration)> {
        let text = self.metrics()?;
        let metric = |what: &str| value(&text, &format!("tenantd_full_pass_duration_seconds_{what}"));
        let (count, sum) = metric("count").zip(metric("sum")).context("the daemon does not count its passes")?;
        Ok((count, Duration::from_secs_f64(sum)))
    }

    /// Has it scan everything, and waits until it has.
    pub fn pass(&mut self) -> anyhow::Result<()> {
        let (before, _) = self.passes()?;
        world::runtime()?.block_on(Client::new(&self.socket).call(&Reconcile { tenant: None }))?;
        self.wait(|daemon| daemon.passes().is_ok_and(|(count, _)| count > before))
    }

    /// Runs something while the daemon is stopped, and gives it time to take in what happened.
    pub fn without<T>(&self, work: impl FnOnce() -> anyhow::Result<T>, rest: Duration) -> anyhow::Result<T> {
        self.signal(Signal::STOP);
        let result = work();
        self.signal(Signal::CONT);
        thread::sleep(rest);
        result
    }

    /// Has it read its settings again.
    pub fn reload(&self) {
        self.signal(Signal::HUP);
    }

    fn metrics(&self) -> anyhow::Result<String> {
        bare::ask(&self.socket, &Call::get("/metrics"))
    }

    fn wait(&mut self, mut done: impl FnMut(&Self) -> bool) -> anyhow::Result<()> {
        let begun = Instant::now();
        while !done(self) {
            if let Some(status) = self.child.try_wait()? {
                bail!("tenantd run ended with {status}: {}", self.said());
            }
            if begun.elapsed() > TIMEOUT {
                bail!("tenantd run is not done after {} s: {}", TIMEOUT.as_secs(), self.said());
            }
            thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    fn said(&self) -> String {
        let text = fs::read_to_string(&self.log).unwrap_or_default();
        let tail: Vec<&str> = text.lines().rev().take(12).collect();
        tail.into_iter().rev().collect::<Vec<_>>().join("\n")
    }

    fn signal(&self, signal: Signal) {
        if let Some(id) = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw) {
            let _ended = kill_process(id, signal);
        }
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.signal(Signal::TERM);
        self.signal(Signal::CONT);
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_secs(30) {
            if !matches!(self.child.try_wait(), Ok(None)) {
                return;
            }
            thread::sleep(Duration::from_millis(20));
        }
        let _ended = self.child.kill();
        let _reaped = self.child.wait();
    }
}

/// What a line of the Prometheus format says.
fn value(text: &str, metric: &str) -> Option<f64> {
    text.lines().find_map(|line| line.strip_prefix(metric)?.trim().parse().ok())
}

/// Processor time of a process.
pub fn processor(id: u32) -> anyhow::Result<Duration> {
    let stat = fs::read_to_string(format!("/proc/{id}/stat"))?;
    // The name, in brackets, may hold anything. Fields 14 and 15 of proc_pid_stat(5) are wanted.
    let (_, rest) = stat.rsplit_once(") ").context("/proc has another form")?;
    let ticks: u64 = rest.split(' ').skip(11).take(2).filter_map(|field| field.parse::<u64>().ok()).sum();
    Ok(Duration::from_secs_f64(ticks as f64 / clock_ticks_per_second() as f64))
}

/// Resident memory of a process in KiB: now, or the most since [`forget_peak`].
pub fn memory(id: u32, which: &str) -> anyhow::Result<i64> {
    let status = fs::read_to_string(format!("/proc/{id}/status"))?;
    let value = status.lines().find_map(|line| line.strip_prefix(which)?.strip_prefix(':')?.strip_suffix(" kB"));
    value.and_then(|value| value.trim().parse().ok()).with_context(|| format!("/proc does not tell {which}"))
}

/// Has the kernel begin anew to count the most memory of a process.
pub fn forget_peak(id: u32) -> anyhow::Result<()> {
    Ok(fs::write(format!("/proc/{id}/clear_refs"), "5")?)
}

/// The process that serves an engine's socket.
pub fn engine_of(socket: &Path) -> anyhow::Result<u32> {
    let address = format!("unix://{}", socket.display());
    for entry in fs::read_dir("/proc")? {
        let Some(id) = entry?.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
        let words = fs::read(format!("/proc/{id}/cmdline")).unwrap_or_default();
        let mut words = words.split(|byte| *byte == 0);
        let is_engine = words.next().is_some_and(|program| program.ends_with(b"dockerd"));
        if is_engine && words.any(|word| word == address.as_bytes()) {
            return Ok(id);
        }
    }
    bail!("no dockerd serves {}", socket.display())
}
