//! What a tenant reads of others in the kernel's files: it walks all of /proc and /sys, with runc and runsc.

use std::{
    fs,
    path::{Path, PathBuf},
};

use crate::{
    engine::PrivateEngine,
    fleet::{Fleet, case},
};

const RUNC: &str = "acme";
const RUNSC: &str = "zeta";

/// Another tenant, with a name that nothing else has.
const NEIGHBOUR: &str = "xylophone-quartet";

#[test]
fn no_file_of_the_kernel_tells_of_another_tenant() {
    let fleet = Fleet::start("others");
    fleet.declare(RUNC, "limits: {disk: 32MiB}\n");
    fleet.declare(RUNSC, &format!("{}limits: {{disk: 32MiB}}\n", fleet.gvisor()));
    fleet.declare(NEIGHBOUR, "limits: {disk: 64MiB}\n");
    fleet.converge();
    fleet.cases(vec![
        case("the walk finds what there is to find", control),
        case("no name, image, device or container of a neighbour", names),
        case("no activity of disks", activity),
        case("what ordinary programs read is there", needed),
    ]);
    fleet.end();
}

/// Walks below a folder inside a tenant: what can be read, and what of it shows which word.
fn walk(engine: &PrivateEngine, tenant: &str, folder: &str, words: &[&str]) -> (Vec<PathBuf>, Vec<String>) {
    let backwards: Vec<String> = words.iter().map(|word| word.chars().rev().collect()).collect();
    let words: Vec<&str> = ["walk", folder].into_iter().chain(backwards.iter().map(String::as_str)).collect();
    let (walked, printed) = engine.agent(tenant, &words);
    assert!(walked, "{tenant} walks {folder}: {printed}");
    let read = printed.lines().filter_map(|line| line.strip_prefix("read ")).map(PathBuf::from).collect();
    let shows = printed.lines().filter_map(|line| line.strip_prefix("shows ")).map(str::to_owned).collect();
    (read, shows)
}

/// The loop device of a tenant's image, as the host names it.
fn device(fleet: &Fleet, tenant: &str) -> String {
    let image = fleet.data().join("images").join(format!("{tenant}.img"));
    let devices = fs::read_dir("/sys/block").unwrap().flatten();
    let found = devices.into_iter().find(|device| {
        let file = fs::read_to_string(device.path().join("loop/backing_file")).unwrap_or_default();
        Path::new(file.trim_end()) == image
    });
    found.expect("the image has a device").file_name().to_string_lossy().into_owned()
}

/// A walk that finds nothing proves nothing: each tenant is found by itself.
fn control(fleet: &Fleet) {
    for tenant in [RUNC, RUNSC] {
        let (read, shows) = walk(&fleet.engine, tenant, "/proc", &[tenant]);
        assert!(read.len() > 50, "{tenant} reads {}", read.len());
        assert!(shows.iter().any(|line| line.ends_with("/proc/sys/kernel/hostname")), "{tenant}: {shows:?}");
    }
    let (_, shows) = walk(&fleet.engine, RUNC, "/proc", &[&device(fleet, RUNC)]);
    assert!(shows.iter().any(|line| line.ends_with("/mountinfo")), "its own device is in its table: {shows:?}");
}

fn names(fleet: &Fleet) {
    let id = fleet.engine.identity(&format!("tenantd-{NEIGHBOUR}")).0;
    let (device, images) = (device(fleet, NEIGHBOUR), fleet.data().join("images").display().to_string());
    for tenant in [RUNC, RUNSC] {
        for folder in ["/proc", "/sys"] {
            let (_, shows) = walk(&fleet.engine, tenant, folder, &[NEIGHBOUR, &id, &device, &images]);
            assert_eq!(shows, Vec::<String>::new(), "{tenant} finds nothing of its neighbour below {folder}");
        }
    }
}

fn activity(fleet: &Fleet) {
    let (written, printed) = fleet.engine.agent(NEIGHBOUR, &["fill", "/workspace/big", "33554432"]);
    assert!(written, "the neighbour writes: {printed}");
    for tenant in [RUNC, RUNSC] {
        for folder in ["/proc", "/sys"] {
            // What counts the pages that all disks wrote.
            let (read, shows) = walk(&fleet.engine, tenant, folder, &["pgpgout", "nr_written"]);
            let of_others: Vec<&String> = shows.iter().filter(|line| !is_known(line)).collect();
            assert!(of_others.is_empty(), "{tenant} sees what disks do: {of_others:?}");
            let printed: Vec<&PathBuf> = read.iter().filter(|path| tells_of_disks(path)).collect();
            assert!(printed.is_empty(), "{tenant} reads of disks: {printed:?}");
        }
    }
}

/// A container's own control group, what a memory node says of the whole host, and the names of the kernel's types.
fn is_known(line: &str) -> bool {
    ["/sys/fs/cgroup/", "/sys/devices/system/node/", "/sys/kernel/btf/"].iter().any(|folder| line.contains(folder))
}

fn tells_of_disks(path: &Path) -> bool {
    const FILES: [&str; 5] =
        ["/proc/diskstats", "/proc/partitions", "/proc/vmstat", "/proc/interrupts", "/proc/softirqs"];
    let in_block = !path.starts_with("/sys/module")
        && path.components().any(|part| ["block", "bdi"].iter().any(|name| part.as_os_str() == *name));
    let of_file_systems = path.starts_with("/proc/fs")
        || path.starts_with("/proc/pressure")
        || (path.starts_with("/sys/fs") && !path.starts_with("/sys/fs/cgroup"));
    in_block || of_file_systems || FILES.iter().any(|file| path == Path::new(file))
}

fn needed(fleet: &Fleet) {
    for path in
        ["/proc/stat", "/proc/meminfo", "/proc/loadavg", "/proc/cpuinfo", "/proc/uptime", "/proc/self/mountinfo"]
    {
        for tenant in [RUNC, RUNSC] {
            let (read, printed) = fleet.engine.agent(tenant, &["cat", path]);
            assert!(read && !printed.is_empty(), "{tenant} reads {path}: {printed}");
        }
    }
    let (read, _) = walk(&fleet.engine, RUNC, "/sys", &[]);
    for start in ["/sys/fs/cgroup/", "/sys/devices/system/cpu/", "/sys/devices/virtual/net/", "/sys/kernel/mm/"] {
        assert!(read.iter().any(|path| path.to_string_lossy().starts_with(start)), "something below {start}");
    }
}
