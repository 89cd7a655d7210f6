//! The end of runtimes that hang.

use std::{fs, time::Duration};

use rustix::process::{Pid, Signal, kill_process};

/// Programs that an engine runs for one container, by the beginning of their name.
///
/// The kernel cuts a process's name at 15 characters.
const RUNTIMES: [&str; 8] = ["containerd-shim", "runsc", "runc", "crun", "kata", "qemu", "firecracker", "exe"];

/// How often, and how far apart, processes are looked for: a killed one may have started another.
const ROUNDS: u32 = 10;
const PAUSE: Duration = Duration::from_millis(100);

/// Kills the processes of the runtime that belong to one container, as its full id on their command
/// line shows. Returns how many were killed.
///
/// Only for a container whose start failed or hangs: the engine has lost them, or waits for them for
/// ever. Processes of the container itself end with them.
pub async fn reap(id: &str) -> usize {
    let mut killed = 0;
    for _ in 0..ROUNDS {
        let processes = find(id);
        if processes.is_empty() {
            break;
        }
        killed += processes.into_iter().filter(|pid| kill_process(*pid, Signal::KILL).is_ok()).count();
        tokio::time::sleep(PAUSE).await;
    }
    killed
}

/// Whether a runtime, or its shim, is at work for a container. None is for one that does not run,
/// except while it starts.
pub fn runtime_works_on(id: &str) -> bool {
    !find(id).is_empty()
}

fn find(id: &str) -> Vec<Pid> {
    // Less than a full id could stand in the command line of another container.
    if id.len() != 64 || !id.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Vec::new();
    }
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    entries
        .flatten()
        .filter_map(|entry| {
            let pid = entry.file_name().to_str()?.parse::<i32>().ok()?;
            let name = fs::read_to_string(entry.path().join("comm")).ok()?;
            let command = fs::read(entry.path().join("cmdline")).ok()?;
            let of_container = command.windows(id.len()).any(|window| window == id.as_bytes());
            // What cleans up after a container is left to do so.
            let cleans = command.split(|byte| *byte == 0).any(|word| word == b"delete");
            (of_container && !cleans && RUNTIMES.iter().any(|runtime| name.starts_with(runtime)))
                .then(|| Pid::from_raw(pid))?
        })
        .collect()
}
