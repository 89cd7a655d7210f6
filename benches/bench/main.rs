//! What tenantd costs, beside what the same work costs without it: `make bench`.
//!
//! Prints tables and nothing else. Every contender runs as a process of its own, so that its time
//! holds its start and its memory is its own, and contenders take turns, so that a busy machine is
//! as unfair to one as to another. Medians are printed.
//!
//! | variable | default | |
//! |---|---|---|
//! | `BENCH_PARTS` | `history,simulated,workspaces,real,following,egress,ingress` | which parts run; `workspaces` needs root and loop devices, `real` and `following` need root and dockerd, `egress` root and other proxies, `ingress` all of these; `rest` is what `following` does without an engine |
//! | `BENCH_COMMITS`, `BENCH_HISTORY_TENANTS` | `10000`, `1000` | commits and tenants of the history |
//! | `BENCH_SIMULATED` | `1000,10000` | tenants on the simulated engine |
//! | `BENCH_TENANTS` | `30` | tenants on the real engine |
//! | `BENCH_AUDIT` | `300` | tenants of the audit on the real engine |
//! | `BENCH_WORKSPACES` | `300` | workspaces that are made |
//! | `BENCH_ROUNDS` | `3` | how often each slow thing is measured |
//! | `BENCH_FOLLOWED` | `100` | tenants of the daemon on the real engine |
//! | `BENCH_FOLLOWED_SIMULATED` | `5000` | tenants of the daemon on the simulated engine |
//! | `BENCH_DRIFTS`, `BENCH_PUSHES`, `BENCH_CUTS` | `21`, `7`, `7` | how often each drift, push, and drift without events is measured |
//! | `BENCH_LOAD` | `2` | seconds of each load on a proxy |
//! | `BENCH_WAKES`, `BENCH_SLEEPS` | `100`, `20` | how often a tenant is woken from paused and from asleep, with each runtime |
//! | `BENCH_HERD` | `100` | tenants that wake at once |
//! | `BENCH_REST` | `120` | seconds at rest, with each engine |

mod bare;
mod compose;
mod daemon;
mod egress;
mod events;
mod fleet;
mod following;
mod history;
mod ingress;
mod measure;
mod proxy;
mod reads;
mod real;
mod rest;
mod simulated;
mod table;
mod workspace;
mod world;

use std::{
    env,
    os::unix::process::CommandExt,
    process::{Command, ExitCode},
};

use anyhow::{Context, ensure};
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::signal::unix::{SignalKind, signal};

/// Starts an engine for a part.
const PRIVATE_ENGINE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/engine/private-engine");

fn main() -> ExitCode {
    // Cargo puts `--bench` in front.
    let words: Vec<String> = env::args().skip(1).filter(|word| word != "--bench").collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let result = match words.as_slice() {
        [] => everything(),
        ["measure", report, program @ ..] => return measure::supervise(report, program),
        ["simulated", folder] => simulated::main(folder.as_ref()),
        ["history", folder] => history::main(folder.as_ref()),
        ["bare", socket, script] => bare::main(socket, script),
        ["reads", reader, socket] => reads::main(reader, socket),
        ["real", folder] => real::main(folder.as_ref()),
        ["following", folder] => following::main(folder.as_ref()),
        ["rest", folder] => rest::main(folder.as_ref()),
        ["workspaces", folder] => workspace::main(folder.as_ref()),
        ["egress", folder] => egress::main(folder.as_ref()),
        ["load", way, load] => egress::load(way, load),
        ["ingress", folder] => ingress::main(folder.as_ref()),
        ["ask", way, load] => ingress::load(way, load),
        ["wakes", folder] => ingress::wakes::main(folder.as_ref()),
        other => Err(anyhow::anyhow!("unknown words: {other:?}")),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn everything() -> anyhow::Result<()> {
    let parts: String =
        setting("BENCH_PARTS", "history,simulated,workspaces,real,following,egress,ingress".to_owned())?;
    // On a disk, where an engine can keep its data.
    let folder = tempfile::Builder::new().prefix("tenantd-bench.").tempdir_in("/var/tmp")?;
    for name in ["history", "simulated", "rest", "workspaces"] {
        if parts.contains(name) {
            let mut part = Command::new(env::current_exe()?);
            part.arg(name).arg(folder.path());
            supervise(part)?;
        }
    }
    for name in ["egress", "ingress"] {
        if parts.contains(name) {
            let mut part = Command::new("unshare");
            part.args(["--mount", "--net", "--pid", "--fork", "--kill-child", "--mount-proc", "--"]);
            part.arg(env::current_exe()?).arg(name).arg(folder.path());
            supervise(part)?;
        }
    }
    let engine = folder.path().join("engine");
    let on_engine = || {
        let mut part = Command::new(PRIVATE_ENGINE);
        part.arg("with").arg(&engine).arg("--");
        part
    };
    for name in ["real", "following"] {
        if parts.contains(name) {
            let mut part = on_engine();
            part.arg(env::current_exe()?).arg(name).arg(folder.path());
            supervise(part)?;
        }
    }
    if parts.contains("ingress") {
        // Tenants' links are made in the engine's own namespaces.
        let mut part = on_engine();
        part.arg(PRIVATE_ENGINE).arg("enter").arg(&engine);
        part.arg(env::current_exe()?).arg("wakes").arg(folder.path());
        supervise(part)?;
    }
    Ok(())
}

/// Runs a part as a process group of its own, passes signals on, and outlives it to clean up.
fn supervise(mut part: Command) -> anyhow::Result<()> {
    let program = format!("{:?}", part.get_program());
    let status = world::runtime()?.block_on(async {
        let mut child = part.process_group(0).spawn().with_context(|| format!("cannot run {program}"))?;
        let group = i32::try_from(child.id()).ok().and_then(Pid::from_raw).context("a process has no id")?;
        let pass_on = |signal| {
            let _nobody_left = kill_process_group(group, signal);
        };
        let mut ended = tokio::task::spawn_blocking(move || child.wait());
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut terminate = signal(SignalKind::terminate())?;
        loop {
            tokio::select! {
                status = &mut ended => {
                    pass_on(Signal::KILL);
                    return anyhow::Ok(status??);
                }
                _ = interrupt.recv() => pass_on(Signal::INT),
                _ = terminate.recv() => pass_on(Signal::TERM),
            }
        }
    })?;
    ensure!(status.success(), "{program} was not finished: {status}");
    Ok(())
}

/// A setting from the environment.
fn setting<T: std::str::FromStr>(name: &str, default: T) -> anyhow::Result<T>
where
    T::Err: std::error::Error + Send + Sync + 'static,
{
    match env::var(name) {
        Ok(text) => text.parse().with_context(|| format!("{name}={text}")),
        Err(_) => Ok(default),
    }
}
