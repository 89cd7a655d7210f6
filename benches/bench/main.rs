//! What tenantd costs, beside what the same work costs without it: `make bench`.
//!
//! Prints tables and nothing else. Every contender runs as a process of its own, so that its time
//! holds its start and its memory is its own, and contenders take turns, so that a busy machine is
//! as unfair to one as to another. Medians are printed.
//!
//! | variable | default | |
//! |---|---|---|
//! | `BENCH_PARTS` | `simulated,real` | which parts run; `real` needs root and dockerd |
//! | `BENCH_SIMULATED` | `1000,10000` | tenants on the simulated engine |
//! | `BENCH_TENANTS` | `30` | tenants on the real engine |
//! | `BENCH_AUDIT` | `300` | tenants of the audit on the real engine |
//! | `BENCH_ROUNDS` | `3` | how often each slow thing is measured |

mod bare;
mod compose;
mod fleet;
mod measure;
mod real;
mod simulated;
mod table;
mod world;

use std::{
    env,
    process::{Command, ExitCode},
};

use anyhow::{Context, bail};

fn main() -> ExitCode {
    // Cargo puts `--bench` in front.
    let words: Vec<String> = env::args().skip(1).filter(|word| word != "--bench").collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let result = match words.as_slice() {
        [] => everything(),
        ["measure", report, program @ ..] => return measure::supervise(report, program),
        ["bare", socket, script] => bare::main(socket, script),
        ["real", folder] => real::main(folder.as_ref()),
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
    let parts: String = setting("BENCH_PARTS", "simulated,real".to_owned())?;
    if parts.contains("simulated") {
        simulated::main()?;
    }
    if parts.contains("real") {
        on_private_engine()?;
    }
    Ok(())
}

/// Runs the second part beside an engine that ends with it, however it ends.
fn on_private_engine() -> anyhow::Result<()> {
    let folder = tempfile::Builder::new().prefix("tenantd-bench.").tempdir_in("/var/tmp")?;
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/engine/private-engine");
    let mut command = Command::new(script);
    command.arg("with").arg(folder.path().join("engine")).arg("--").arg(env::current_exe()?);
    command.arg("real").arg(folder.path());
    // An interrupt from the terminal reaches the script as well, which then cleans up.
    let status = world::runtime()?.block_on(async {
        let mut ended = tokio::task::spawn_blocking(move || command.status());
        loop {
            tokio::select! {
                status = &mut ended => return status?.with_context(|| format!("cannot run {script}")),
                interrupt = tokio::signal::ctrl_c() => interrupt?,
            }
        }
    })?;
    if !status.success() {
        bail!("the part on a real engine failed: {status}");
    }
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
