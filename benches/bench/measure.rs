//! How long a program takes and how much memory it needs.

use std::{
    env, fs,
    path::Path,
    process::{Command, ExitCode, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, bail};
use nix::sys::{
    resource::{UsageWho, getrusage},
    time::{TimeVal, TimeValLike},
};
use serde::{Deserialize, Serialize};

/// What one run of a program took.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Run {
    /// From before it was started until it had ended.
    pub wall: Duration,
    /// How long processors worked on it.
    pub processor: Duration,
    /// The most memory that was resident at once, in KiB, as the kernel counts it; of several
    /// processes that of the largest.
    pub peak: i64,
    /// Its exit code.
    code: i32,
    /// What it printed, where that is kept.
    #[serde(skip)]
    pub output: String,
}

/// Runs a program to its end. Any exit code but 0 is an error that says what the program said.
///
/// Between this process and the program stands another one of its own kind: the kernel counts
/// memory of the parent to a child that it forks, and that one is small.
pub fn run(command: &Command, folder: &Path) -> anyhow::Result<Run> {
    let report = folder.join("run.json");
    let mut supervisor = Command::new(env::current_exe()?);
    supervisor.arg("measure").arg(&report).arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => supervisor.env(name, value),
            None => supervisor.env_remove(name),
        };
    }
    let output = supervisor.stdin(Stdio::null()).stderr(Stdio::piped()).stdout(Stdio::piped()).output()?;
    let shown = format!("{:?}", command.get_program());
    let text = fs::read(&report).with_context(|| format!("{shown} was cut off"))?;
    let mut run: Run = serde_json::from_slice(&text)?;
    fs::remove_file(&report)?;
    run.output = String::from_utf8_lossy(&output.stdout).into_owned();
    if run.code != 0 {
        let said = String::from_utf8_lossy(&output.stderr);
        let tail: Vec<&str> = said.lines().chain(run.output.lines()).rev().take(12).collect();
        bail!("{shown} ended with {}: {}", run.code, tail.into_iter().rev().collect::<Vec<_>>().join("\n"));
    }
    Ok(run)
}

/// The process in between.
pub fn supervise(report: &str, program: &[&str]) -> ExitCode {
    let Some((program, arguments)) = program.split_first() else { return ExitCode::FAILURE };
    let begun = Instant::now();
    let status = Command::new(program).args(arguments).status();
    let wall = begun.elapsed();
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN);
    let peak = usage.map_or(0, |usage| usage.max_rss());
    let processor = usage.map_or(Duration::ZERO, |usage| duration(usage.user_time()) + duration(usage.system_time()));
    let code = status.ok().and_then(|status| status.code()).unwrap_or(-1);
    let run = Run { wall, processor, peak, code, output: String::new() };
    match serde_json::to_vec(&run).map(|text| fs::write(report, text)) {
        Ok(Ok(())) => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    }
}

fn duration(time: TimeVal) -> Duration {
    Duration::from_micros(u64::try_from(time.num_microseconds()).unwrap_or_default())
}

/// The run of median length.
pub fn median(runs: &[Run]) -> Duration {
    quantile(runs.iter().map(|run| run.wall), 50)
}

/// The time that so many of a hundred are not above.
pub fn quantile(times: impl IntoIterator<Item = Duration>, percent: usize) -> Duration {
    let mut times: Vec<Duration> = times.into_iter().collect();
    times.sort();
    times.get((times.len() * percent / 100).min(times.len().saturating_sub(1))).copied().unwrap_or_default()
}

/// The highest peak, in KiB.
pub fn peak(runs: &[Run]) -> i64 {
    runs.iter().map(|run| run.peak).max().unwrap_or_default()
}
