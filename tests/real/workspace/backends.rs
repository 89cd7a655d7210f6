//! Workspaces on btrfs: subvolumes, each with a quota group, seen through an overlay.

use std::{fs, path::PathBuf, process::Command};

use serde_json::{Value, json};

use super::{
    agent, devices, is_full, is_mounted, life,
    life::{MIB, NEIGHBOUR, RUNC, RUNSC},
    lost, unmount,
};
use crate::{
    engine::{said, succeed, text},
    fleet::{Fleet, attribute, case, names, run},
};

pub(super) const ON_BTRFS: &str = "workspaces: {backend: btrfs}\n";

#[test]
fn a_workspace_on_btrfs_has_the_size_that_is_declared() {
    let fleet = on_btrfs("btrfs");
    fleet.declare(RUNC, "limits: {disk: 64MiB}\n");
    fleet.declare(RUNSC, &format!("{}limits: {{disk: 64MiB}}\n", fleet.gvisor()));
    fleet.declare(NEIGHBOUR, "limits: {disk: 32MiB}\n");
    fleet.cases(vec![
        case("it is chosen where quotas are on, and where host.yaml says so", chosen),
        case("it is made as the plan says", made),
        case("whoever fills it is refused, and the neighbour writes on", life::filled),
        case("files are bounded as well", inodes),
        case("no subvolume can be made in it, which would have no limit", nested),
        case("its mount gives nothing away", life::options),
        case("it grows and shrinks while the tenant runs", life::resized),
        case("it grows beyond what an image of its tier would have", grows_on),
        case("it does not shrink below what is used", life::shrunk_too_far),
        case("a limit that was changed by hand is drift", limit_changed),
        case("it outlives its container", life::outlives),
        case("programs in it can be forbidden", life::noexec),
        case("a folder of an earlier version moves in", life::migrated),
        case("a lost mount is contained, mounted and given anew", lost::lost_mount),
        case("a full one is mounted again, and has no more than before", full_and_lost),
        case("a start without it is refused by the engine", lost::no_empty_folder),
        case("something that lies over it is taken off", lost::covered),
        case("options that were changed are put back", lost::remounted),
        case("a subvolume that is gone blocks its tenant alone", gone),
        case("a folder in place of a subvolume is not used", replaced),
        case("a host that restarts finds it", restarted),
        case("the daemon's unit may do all that", lost::confined),
        case("it is archived with its tenant gone, and restored", |fleet| {
            life::archived_and_restored(fleet, ".subvol")
        }),
        case("what is archived is deleted, with its quota group", deleted),
    ]);
    let data = fleet.engine.dir().to_owned();
    fleet.end();
    assert_eq!(devices(&data), Vec::<String>::new(), "no loop device is left");
}

/// A fleet whose data root is a btrfs in a file. Its quotas are off.
pub(super) fn on_btrfs(name: &str) -> Fleet {
    let fleet = Fleet::start(name);
    fs::create_dir_all(fleet.data()).unwrap();
    let disk = fleet.engine.dir().join("btrfs.img");
    fs::File::create(&disk).unwrap().set_len(4 << 30).unwrap();
    let mut command = Command::new("mkfs.btrfs");
    command.arg("--quiet").arg(&disk);
    succeed(command);
    mount(&fleet);
    fleet
}

/// Mounts the disk as the data root, as the host would when it starts.
fn mount(fleet: &Fleet) {
    let mut command = Command::new("mount");
    command.args(["-o", "loop"]).arg(fleet.engine.dir().join("btrfs.img")).arg(fleet.data());
    succeed(command);
}

fn subvolume(fleet: &Fleet, tenant: &str) -> PathBuf {
    fleet.data().join("subvolumes").join(tenant)
}

/// What btrfs itself says, by words that end in a path.
fn btrfs(words: &[&str], path: PathBuf) -> String {
    let mut command = Command::new("btrfs");
    command.args(words).arg(path);
    succeed(command)
}

/// The limit of a tenant's quota group, as btrfs itself says it.
fn limit(fleet: &Fleet, tenant: &str) -> String {
    let id = format!("0/{}", btrfs(&["inspect-internal", "rootid"], subvolume(fleet, tenant)).trim());
    let groups = btrfs(&["qgroup", "show", "--raw", "-r"], fleet.data());
    let line = groups.lines().find(|line| line.split_whitespace().next() == Some(&*id)).unwrap_or_default();
    line.split_whitespace().nth(3).unwrap_or_default().to_owned()
}

/// How new workspaces are made, and why.
fn new(fleet: &Fleet) -> (String, String) {
    let answer = said(&run(fleet.tenantd(&["workspace", "list", "--format", "json"])));
    let answer: Value = serde_json::from_str(&answer).unwrap();
    (text(&answer["new"]["backend"]), text(&answer["new"]["why"]))
}

fn chosen(fleet: &Fleet) {
    let (backend, why) = new(fleet);
    assert!(backend == "image" && why.contains("quotas of the data root's btrfs are off"), "{backend}: {why}");
    fleet.host(ON_BTRFS);
    fleet.converge();
    assert_eq!(limit(fleet, RUNC), (64 * MIB).to_string(), "quotas are on now");
    fleet.host("");
    let (backend, why) = new(fleet);
    assert!(backend == "btrfs" && why.contains("its quotas are on"), "{backend}: {why}");
    fleet.in_order();
    fleet.host("workspaces: {backend: image}\n");
    fleet.in_order();
    fleet.host("");
    let printed = said(&run(fleet.tenantd(&["capacity"])));
    assert!(printed.contains("btrfs: the data root"), "{printed}");
}

fn made(fleet: &Fleet) {
    life::made(fleet);
    for (tenant, bytes) in [(RUNC, 64 * MIB), (RUNSC, 64 * MIB), (NEIGHBOUR, 32 * MIB)] {
        assert_eq!(limit(fleet, tenant), bytes.to_string(), "{tenant}");
        let shown = btrfs(&["subvolume", "show"], subvolume(fleet, tenant));
        assert!(shown.contains("Subvolume ID"), "{shown}");
    }
    assert!(!fleet.data().join("images").exists(), "there are no images");
}

/// A file without content takes of the limit what the file system writes down of it.
fn inodes(fleet: &Fleet) {
    let folder = life::workspace(fleet, NEIGHBOUR).join("many");
    fs::create_dir(&folder).unwrap();
    let made = |number: &u32| fs::File::create(folder.join(number.to_string()));
    let (last, refused) = (0..).find_map(|number| made(&number).err().map(|error| (number, error))).unwrap();
    assert_eq!(refused.kind(), std::io::ErrorKind::QuotaExceeded, "after {last} files: {refused}");
    println!("{last} files in 32 MiB");
    fs::remove_dir_all(&folder).unwrap();
}

fn nested(fleet: &Fleet) {
    for tenant in [RUNC, RUNSC] {
        let (done, printed) = agent(&fleet.engine, tenant, &["subvolume", "/workspace"]);
        assert!(!done && !printed.contains("made a subvolume"), "{tenant}: {printed}");
        let mut command = Command::new("btrfs");
        command.args(["subvolume", "create"]).arg(life::workspace(fleet, tenant).join("nested"));
        assert!(!run(command).status.success(), "not even by root");
    }
    let list = btrfs(&["subvolume", "list", "-o"], subvolume(fleet, RUNC));
    assert_eq!(list.trim(), "", "none is there");
}

fn grows_on(fleet: &Fleet) {
    let before = fleet.engine.identity("tenantd-acme");
    fleet.declare(RUNC, "tier: pro\nlimits: {disk: 3GiB}\n");
    let plan = fleet.plan();
    let change = plan.change("workspace.acme");
    assert_eq!((names(change), &change["actions"]), (vec!["limit"], &json!(["update"])));
    fleet.converge();
    assert_eq!(limit(fleet, RUNC), (3_u64 << 30).to_string());
    fleet.declare(RUNC, "limits: {disk: 64MiB}\n");
    fleet.converge();
    assert_eq!(fleet.engine.identity("tenantd-acme"), before, "id and start time stay");
}

fn limit_changed(fleet: &Fleet) {
    let before = [RUNC, RUNSC].map(|tenant| fleet.engine.identity(&format!("tenantd-{tenant}")));
    let id = format!("0/{}", btrfs(&["inspect-internal", "rootid"], subvolume(fleet, RUNC)).trim());
    btrfs(&["qgroup", "create", "1/1"], fleet.data());
    let ways: [&[&str]; 4] = [
        &["qgroup", "limit", "none"],
        &["qgroup", "limit", "1G"],
        // With what it shares with a copy its accounts are not right from here on.
        &["qgroup", "assign", "--no-rescan", &id, "1/1"],
        &["quota", "disable"],
    ];
    for words in ways {
        let (written, printed) = agent(&fleet.engine, RUNC, &["fill", "/workspace/big", &(40 * MIB).to_string()]);
        assert!(written, "{printed}");
        let copy = fleet.data().join("copy");
        btrfs(&["subvolume", "snapshot", &subvolume(fleet, RUNC).display().to_string()], copy.clone());
        btrfs(words, subvolume(fleet, RUNC));
        btrfs(&["subvolume", "delete"], copy);
        let plan = fleet.plan();
        let limit = attribute(plan.change("workspace.acme"), "limit").clone();
        assert_eq!((&limit["cause"], &limit["weakens"]), (&json!("drift"), &json!(true)), "{words:?}");
        // What it took meanwhile is no reason to leave it so.
        let (written, printed) = agent(&fleet.engine, RUNC, &["fill", "/workspace/big", &(80 * MIB).to_string()]);
        assert_eq!(written, words[1] != "assign", "{words:?}: {printed}");
        fleet.converge();
        assert_eq!(self::limit(fleet, RUNC), (64 * MIB).to_string(), "{words:?}");
        let (written, printed) = agent(&fleet.engine, RUNC, &["write", "/workspace/more", &"more".repeat(20_000)]);
        assert!(!written || words[1] == "assign", "{words:?}: it has more than its own: {printed}");
        life::empty(fleet, RUNC);
        assert!(life::fill(fleet, RUNC) <= 64 * MIB);
        life::empty(fleet, RUNC);
    }
    let after = [RUNC, RUNSC].map(|tenant| fleet.engine.identity(&format!("tenantd-{tenant}")));
    assert_eq!(before, after, "nobody was started anew");
}

fn full_and_lost(fleet: &Fleet) {
    for tenant in [RUNC, RUNSC] {
        life::fill(fleet, tenant);
        unmount(fleet, tenant);
        fleet.converge();
        assert_eq!(limit(fleet, tenant), (64 * MIB).to_string());
        let (written, printed) = agent(&fleet.engine, tenant, &["fill", "/workspace/more", &MIB.to_string()]);
        assert!(!written && is_full(&printed), "{tenant}: {printed}");
        let (_there, _) = agent(&fleet.engine, tenant, &["remove", "/workspace/more"]);
        life::empty(fleet, tenant);
        lost::kept(fleet, tenant);
    }
}

fn gone(fleet: &Fleet) {
    let (from, to) = (subvolume(fleet, RUNC), fleet.data().join("elsewhere"));
    fs::rename(&from, &to).unwrap();
    lost::blocked(fleet, "workspace-gone");
    assert!(!from.exists(), "no empty one is made in its place");
    fs::rename(&to, &from).unwrap();
    fleet.converge();
    lost::kept(fleet, RUNC);
}

fn replaced(fleet: &Fleet) {
    let (from, to) = (subvolume(fleet, RUNC), fleet.data().join("elsewhere"));
    fs::rename(&from, &to).unwrap();
    fs::create_dir(&from).unwrap();
    lost::blocked(fleet, "workspace-damaged");
    let (_, reason, _) = fleet.plan().blocked(RUNC);
    assert!(reason.contains("it is no subvolume"), "{reason}");
    fs::remove_dir(&from).unwrap();
    // Another one in its place, such as a copy, has another number: it is mounted anew, with a limit of its own.
    btrfs(&["subvolume", "snapshot", &to.display().to_string()], from.clone());
    assert_eq!(names(fleet.plan().change("workspace.acme")), ["mount"]);
    fleet.converge();
    assert_eq!(limit(fleet, RUNC), (64 * MIB).to_string());
    lost::kept(fleet, RUNC);
    btrfs(&["subvolume", "delete"], to);
}

fn restarted(fleet: &Fleet) {
    fleet.engine.stop();
    fleet.engine.up(&[]);
    assert!(!is_mounted(&fleet.data()), "nothing is mounted");
    mount(fleet);
    fleet.converge();
    for tenant in [RUNC, RUNSC] {
        lost::kept(fleet, tenant);
        assert_eq!(limit(fleet, tenant), (64 * MIB).to_string(), "limits are still there");
    }
}

fn deleted(fleet: &Fleet) {
    fleet.undeclare(RUNC);
    fleet.converge();
    let archived = || -> Vec<PathBuf> {
        let archived = fs::read_dir(fleet.data().join("archive")).unwrap().flatten().map(|entry| entry.path());
        archived.filter(|path| path.file_name().unwrap().to_string_lossy().starts_with("acme.")).collect()
    };
    let groups = || {
        let groups = btrfs(&["qgroup", "show", "--raw"], fleet.data());
        groups.lines().filter(|line| line.starts_with("0/")).count()
    };
    let (there, before) = (archived(), groups());
    assert!(!there.is_empty(), "some are archived");
    for path in &there {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        assert!(run(fleet.tenantd(&["workspace", "delete", &name, "--yes"])).status.success());
        fleet.converge();
    }
    assert_eq!(archived(), Vec::<PathBuf>::new(), "what was deleted is gone");
    assert!(groups() + there.len() <= before, "and its quota groups: {before} before, {} after", groups());
}
