//! A workspace that is lost, covered, removed or damaged.

use std::{
    fs,
    os::unix::fs::{FileExt, MetadataExt},
    path::PathBuf,
    process::Command,
};

use serde_json::json;

use super::{agent, devices, is_full, is_mounted, unmount};
use crate::{
    engine::{clock, repository, said, succeed},
    fleet::{Fleet, attribute, case, code, eventually, names, run},
};

const TENANT: &str = "acme";
const OTHER: &str = "beta";

#[test]
fn a_workspace_is_found_again() {
    let fleet = Fleet::start("lost");
    fleet.declare(TENANT, "limits: {disk: 64MiB}\n");
    fleet.declare(OTHER, &format!("{}limits: {{disk: 64MiB}}\n", fleet.gvisor()));
    fleet.converge();
    for tenant in [TENANT, OTHER] {
        let (written, printed) = agent(&fleet.engine, tenant, &["write", "/workspace/kept.txt", "kept"]);
        assert!(written, "{printed}");
    }
    fleet.cases(vec![
        case("a lost mount is contained, mounted and given anew", lost_mount),
        case("a start without it is refused by the engine", no_empty_folder),
        case("one that a process mounted whose namespace is gone is known", namespace_gone),
        case("a second device of its image is not taken", second_device),
        case("something that lies over it is taken off", covered),
        case("options that were changed are put back", remounted),
        case("an engine that restarts finds it", engine_restarted),
        case("an image that was removed blocks its tenant alone", image_removed),
        case("a damaged image blocks its tenant alone", damaged),
        case("a damaged image is repaired, with a copy kept", repaired),
        case("a deleted image is written back", rescued),
        case("errors that the kernel finds stop the tenant", errors_found),
        case("the daemon's unit may do all that", confined),
    ]);
    let data = fleet.data();
    fleet.end();
    assert_eq!(devices(&data), Vec::<String>::new(), "no loop device is left");
}

pub(super) fn point(fleet: &Fleet, tenant: &str) -> PathBuf {
    fleet.data().join("mounts").join(tenant)
}

pub(super) fn kept(fleet: &Fleet, tenant: &str) {
    let (read, printed) = agent(&fleet.engine, tenant, &["cat", "/workspace/kept.txt"]);
    assert!(read && printed.trim() == "kept", "{tenant} finds its file: {printed}");
}

pub(super) fn lost_mount(fleet: &Fleet) {
    for tenant in [TENANT, OTHER] {
        unmount(fleet, tenant);
        let plan = fleet.plan();
        let mount = attribute(plan.change(&format!("workspace.{tenant}")), "mount").clone();
        assert_eq!((&mount["before"], &mount["cause"]), (&json!("missing"), &json!("drift")));
        let (_, printed) = fleet.plan_text();
        assert!(printed.contains("# contained first: paused"), "{printed}");
        let start = clock();
        fleet.converge();
        let events = fleet.engine.events(start);
        let actions: Vec<_> = events.iter().filter_map(|event| event["Action"].as_str()).collect();
        let at = |name: &str| actions.iter().position(|action| *action == name);
        assert!(at("pause").is_some() && at("pause") < at("start"), "it is contained first: {actions:?}");
        assert!(is_mounted(&point(fleet, tenant)));
        kept(fleet, tenant);
    }
}

pub(super) fn no_empty_folder(fleet: &Fleet) {
    fleet.engine.must("POST", "/containers/tenantd-acme/stop?t=1", None);
    unmount(fleet, TENANT);
    let below = fs::symlink_metadata(point(fleet, TENANT)).unwrap();
    assert_eq!((below.uid(), below.mode() & 0o7777), (0, 0), "the folder below is closed");
    assert_eq!(fs::read_dir(point(fleet, TENANT)).unwrap().count(), 0, "and empty");
    let (status, answer) = fleet.engine.call("POST", "/containers/tenantd-acme/start", None);
    assert!(status >= 400, "the engine starts nothing without it: {answer}");
    assert_eq!(fs::read_dir(point(fleet, TENANT)).unwrap().count(), 0, "nothing was made in its place");
    fleet.converge();
    kept(fleet, TENANT);
}

/// A service has a mount namespace of its own, which ends with it. A device that it made stays, and the kernel names the
/// image from the mount on that it lay in.
fn namespace_gone(fleet: &Fleet) {
    let images = fleet.data().join("images");
    fleet.engine.must("POST", "/containers/tenantd-acme/stop?t=1", None);
    unmount(fleet, TENANT);
    eventually("the kernel lets go of the device", || devices(&images.join("acme.img")).is_empty());
    let mut alone = Command::new("unshare");
    alone.args([
        "--mount",
        "--propagation",
        "private",
        "sh",
        "-ec",
        "mount --bind \"$0\" \"$0\"; losetup --find --show \"$0\"/acme.img",
    ]);
    alone.arg(&images);
    let device = succeed(alone).trim().to_owned();
    let name = device.trim_start_matches("/dev/");
    let named = || fs::read_to_string(format!("/sys/block/{name}/loop/backing_file")).unwrap();
    assert_eq!(named().trim(), "/acme.img", "the name is cut short");
    fleet.converge();
    assert_eq!((mounted_from(fleet), named().trim()), (device.clone(), "/acme.img"), "it is the one that is mounted");
    kept(fleet, TENANT);
}

/// Somebody gave the image a second device, such as to look at it. Two that write would damage it.
fn second_device(fleet: &Fleet) {
    let own = mounted_from(fleet);
    let images = fleet.data().join("images");
    // Those with a lower and with a higher number than the tenant's.
    let others: Vec<_> = (0..4)
        .map(|_| {
            let mut attach = Command::new("losetup");
            attach.args(["--find", "--show"]).arg(images.join("acme.img"));
            succeed(attach).trim().to_owned()
        })
        .collect();
    unmount(fleet, TENANT);
    fleet.converge();
    let mounted = mounted_from(fleet);
    for device in others {
        let mut detach = Command::new("losetup");
        detach.args(["--detach", &device]);
        succeed(detach);
    }
    assert_eq!(mounted, own, "it is the one that the container has");
    kept(fleet, TENANT);
}

/// The device that the tenant's workspace is mounted from.
fn mounted_from(fleet: &Fleet) -> String {
    let mut mounted = Command::new("findmnt");
    mounted.args(["--noheadings", "--output", "SOURCE"]).arg(point(fleet, TENANT));
    succeed(mounted).trim().to_owned()
}

pub(super) fn covered(fleet: &Fleet) {
    let mut command = Command::new("mount");
    command.args(["-t", "tmpfs", "tmpfs"]).arg(point(fleet, TENANT));
    assert!(run(command).status.success());
    assert_eq!(names(fleet.plan().change("workspace.acme")), ["mount"]);
    fleet.converge();
    kept(fleet, TENANT);
}

pub(super) fn remounted(fleet: &Fleet) {
    let point = point(fleet, TENANT).display().to_string();
    assert!(run(fleet.engine.within(&["mount", "-o", "remount,bind,suid,dev", &point])).status.success());
    assert_eq!(names(fleet.plan().change("workspace.acme")), ["options"]);
    fleet.converge();
    kept(fleet, TENANT);
}

fn engine_restarted(fleet: &Fleet) {
    fleet.engine.stop();
    fleet.engine.up(&[]);
    assert!(!is_mounted(&point(fleet, TENANT)), "as after a restart of the host, nothing is mounted");
    fleet.converge();
    for tenant in [TENANT, OTHER] {
        kept(fleet, tenant);
    }
}

/// Blocked, paused, and the other tenant as before.
pub(super) fn blocked(fleet: &Fleet, code: &str) {
    let other = fleet.engine.identity("tenantd-beta");
    assert_eq!(fleet.plan().blocked(TENANT).0, code);
    let (ended, printed) = fleet.apply();
    assert_eq!(ended, 1, "{printed}");
    assert_eq!(fleet.engine.inspect("tenantd-acme")["State"]["Paused"], true, "it is contained");
    assert_eq!(fleet.engine.identity("tenantd-beta"), other, "the other one runs on");
    kept(fleet, OTHER);
}

fn image_removed(fleet: &Fleet) {
    let image = fleet.data().join("images/acme.img");
    let away = fleet.engine.dir().join("acme.img");
    fs::rename(&image, &away).unwrap();
    blocked(fleet, "workspace-gone");
    assert!(!image.exists(), "no empty one is made in its place");
    fs::rename(&away, &image).unwrap();
    fleet.converge();
    kept(fleet, TENANT);
}

fn damaged(fleet: &Fleet) {
    fleet.engine.must("POST", "/containers/tenantd-acme/stop?t=1", None);
    let mut command = Command::new("umount");
    command.arg(point(fleet, TENANT));
    assert!(run(command).status.success());
    let image = fleet.data().join("images/acme.img");
    let file = fs::File::options().read(true).write(true).open(&image).unwrap();
    let mut superblock = [0; 1024];
    file.read_exact_at(&mut superblock, 1024).unwrap();
    file.write_all_at(&[0; 1024], 1024).unwrap();
    let other = fleet.engine.identity("tenantd-beta");
    assert_eq!(fleet.plan().blocked(TENANT).0, "workspace-damaged");
    let (ended, printed) = fleet.apply();
    assert_eq!(ended, 1, "{printed}");
    assert!(image.exists() && !is_mounted(&point(fleet, TENANT)), "it is kept as it is");
    assert_eq!(fleet.engine.identity("tenantd-beta"), other, "the other one runs on");
    file.write_all_at(&superblock, 1024).unwrap();
    fleet.converge();
    kept(fleet, TENANT);
}

fn tenantd(fleet: &Fleet, words: &[&str]) -> (i32, String) {
    let output = run(fleet.tenantd(words));
    (code(&output), said(&output))
}

fn repaired(fleet: &Fleet) {
    let (ended, printed) = tenantd(fleet, &["workspace", "check", TENANT]);
    assert_eq!(ended, 0, "what is in order is said to be: {printed}");
    let (ended, printed) = tenantd(fleet, &["workspace", "repair", TENANT]);
    assert!(ended == 1 && printed.contains("in order"), "and is not repaired: {printed}");
    fleet.engine.must("POST", "/containers/tenantd-acme/stop?t=1", None);
    let mut command = Command::new("umount");
    command.arg(point(fleet, TENANT));
    assert!(run(command).status.success());
    let image = fleet.data().join("images/acme.img");
    fs::File::options().write(true).open(&image).unwrap().write_all_at(&[0; 1024], 1024).unwrap();
    let (ended, printed) = tenantd(fleet, &["workspace", "check", TENANT]);
    assert!(ended == 1 && printed.contains("not in order"), "{printed}");
    let (ended, printed) = tenantd(fleet, &["workspace", "repair", TENANT]);
    assert!(ended == 0 && printed.contains("next `tenantd apply`"), "{printed}");
    let (_, printed) = fleet.plan_text();
    assert!(printed.contains("repaired, as "), "the plan says who asked:\n{printed}");
    fleet.converge();
    kept(fleet, TENANT);
    let (_, printed) = tenantd(fleet, &["workspace", "list"]);
    assert!(printed.contains("acme.") && printed.contains(".damaged.img"), "the copy is archived: {printed}");
}

fn rescued(fleet: &Fleet) {
    fs::remove_file(fleet.data().join("images/acme.img")).unwrap();
    blocked(fleet, "workspace-gone");
    let (ended, printed) = tenantd(fleet, &["workspace", "repair", TENANT]);
    assert_eq!(ended, 0, "{printed}");
    fleet.converge();
    kept(fleet, TENANT);
}

/// Says to the kernel that it found an error, as it would by itself.
fn errors_found(fleet: &Fleet) {
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let place = point(fleet, TENANT).display().to_string();
    let line = table.lines().find(|line| line.split(' ').nth(4) == Some(&*place)).unwrap();
    let device = line.split(" - ").nth(1).unwrap().split(' ').nth(1).unwrap().trim_start_matches("/dev/").to_owned();
    fs::write(format!("/sys/fs/ext4/{device}/trigger_fs_error"), "a test").unwrap();
    blocked(fleet, "workspace-damaged");
    let (ended, printed) = tenantd(fleet, &["workspace", "repair", TENANT]);
    assert_eq!(ended, 0, "{printed}");
    fleet.converge();
    kept(fleet, TENANT);
}

/// In a mount namespace of its own that the host's mounts reach and none leaves, with the capabilities of the unit.
pub(super) fn confined(fleet: &Fleet) {
    let unit = fs::read_to_string(repository("systemd/tenantd.service")).unwrap();
    let names = unit.lines().find_map(|line| line.strip_prefix("CapabilityBoundingSet=CAP_")).unwrap();
    let names = names.to_ascii_lowercase().replace(" cap_", ",+");
    let confined = |words: &[&str]| {
        let tenantd = fleet.tenantd_itself(words);
        let mut command = Command::new("unshare");
        command.args(["--mount", "--propagation", "slave", "setpriv", "--no-new-privs", "--inh-caps=-all"]);
        command.arg(format!("--bounding-set=-all,+{names}")).arg(tenantd.get_program()).args(tenantd.get_args());
        command.current_dir(fleet.engine.dir()).env_remove("DOCKER_HOST");
        let output = run(command);
        (code(&output), said(&output))
    };
    let apply = ["apply", "--yes", "--worktree", "fleet", "--tenant", "confined"];
    fleet.declare("confined", "limits: {disk: 32MiB}\n");
    let (ended, printed) = confined(&apply);
    assert_eq!(ended, 0, "{printed}");
    let (written, printed) = agent(&fleet.engine, "confined", &["fill", "/workspace/big", "1073741824"]);
    assert!(!written && is_full(&printed), "the engine sees what was mounted: {printed}");
    let (ended, printed) = confined(&["plan", "--worktree", "fleet", "--detailed-exitcode", "--tenant", "confined"]);
    assert_eq!(ended, 0, "and so does the next observation: {printed}");
    fleet.undeclare("confined");
    let (ended, printed) = confined(&apply);
    assert_eq!(ended, 0, "{printed}");
}
