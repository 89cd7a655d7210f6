//! Workspaces: their hard size, how it changes, and how they are found again.

mod backends;
mod faults;
mod life;
mod lost;

use std::{fs, path::Path};

use crate::{
    engine::PrivateEngine,
    fleet::{Fleet, run},
};

/// Runs a line of shell inside a tenant, as its user. Returns whether it succeeded, and what it said.
fn agent(engine: &PrivateEngine, tenant: &str, words: &[&str]) -> (bool, String) {
    engine.agent(tenant, words)
}

/// Whether a tenant was told that there is no more room.
fn is_full(printed: &str) -> bool {
    ["No space left on device", "uota exceeded"].iter().any(|words| printed.contains(words))
}

/// Whether the mounts of this machine name a path.
fn is_mounted(path: &Path) -> bool {
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap();
    table.lines().any(|line| line.split(' ').nth(4).is_some_and(|place| Path::new(place) == path))
}

/// The loop devices whose file lies below a path, by their name.
fn devices(below: &Path) -> Vec<String> {
    let devices = fs::read_dir("/sys/block").unwrap().flatten();
    devices
        .filter(|device| {
            let file = fs::read_to_string(device.path().join("loop/backing_file")).unwrap_or_default();
            file.starts_with(&*below.to_string_lossy())
        })
        .map(|device| device.file_name().to_string_lossy().into_owned())
        .collect()
}

/// Unmounts a tenant's workspace on the host, as somebody would by hand.
fn unmount(fleet: &Fleet, tenant: &str) {
    let mut command = std::process::Command::new("umount");
    command.arg("--lazy").arg(fleet.data().join("mounts").join(tenant));
    assert!(run(command).status.success(), "the workspace of {tenant} can be unmounted");
}
