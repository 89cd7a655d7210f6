//! A workspace while all goes well: made, filled, resized, kept.

use std::{
    fs,
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::PathBuf,
};

use serde_json::json;

use super::{agent, devices, is_full, is_mounted};
use crate::{
    engine::{said, text},
    fleet::{Fleet, attribute, case, names, run},
};

pub(super) const RUNC: &str = "acme";
pub(super) const RUNSC: &str = "beta";
pub(super) const NEIGHBOUR: &str = "quiet";

pub(super) const MIB: u64 = 1 << 20;

#[test]
fn a_workspace_has_the_size_that_is_declared() {
    let fleet = Fleet::start("disk");
    fleet.declare(RUNC, "limits: {disk: 64MiB}\n");
    fleet.declare(RUNSC, &format!("{}limits: {{disk: 64MiB}}\n", fleet.gvisor()));
    fleet.declare(NEIGHBOUR, "limits: {disk: 32MiB}\n");
    fleet.converge();
    fleet.cases(vec![
        case("it is made as the plan says", made),
        case("whoever fills it is refused, and the neighbour writes on", filled),
        case("files are bounded as well", inodes),
        case("its mount gives nothing away", options),
        case("the image takes what is used", sparse),
        case("it grows and shrinks while the tenant runs", resized),
        case("it does not shrink below what is used", shrunk_too_far),
        case("it grows beyond its image with the tenant stopped", outgrown),
        case("a limit that was changed by hand is drift", ballast_removed),
        case("it outlives its container", outlives),
        case("programs in it can be forbidden", noexec),
        case("a folder of an earlier version moves in", migrated),
        case("a host without enforcement blocks, or says so", unenforced),
        case("nothing that a tenant does to its files leads elsewhere", odd),
        case("a shared folder is read and not written", shared),
        case("what limits commit is reported", commitments),
        case("it is archived with its tenant gone, and restored", |fleet: &Fleet| archived_and_restored(fleet, ".img")),
    ]);
    let data = fleet.data();
    fleet.end();
    assert_eq!(devices(&data), Vec::<String>::new(), "no loop device is left");
}

pub(super) fn workspace(fleet: &Fleet, tenant: &str) -> PathBuf {
    fleet.data().join("workspaces").join(tenant)
}

fn image(fleet: &Fleet, tenant: &str) -> PathBuf {
    fleet.data().join("images").join(format!("{tenant}.img"))
}

/// Writes as much as fits, and returns how many bytes that was.
pub(super) fn fill(fleet: &Fleet, tenant: &str) -> u64 {
    let (written, printed) = agent(&fleet.engine, tenant, &["fill", "/workspace/big", "1073741824"]);
    assert!(!written && is_full(&printed), "{tenant} is refused: {printed}");
    fs::metadata(workspace(fleet, tenant).join("big")).unwrap().len()
}

/// Gives back what [`fill`] took, from inside: gVisor keeps files open that somebody else removes.
pub(super) fn empty(fleet: &Fleet, tenant: &str) {
    let (removed, printed) = agent(&fleet.engine, tenant, &["remove", "/workspace/big"]);
    assert!(removed, "{printed}");
    // What btrfs takes off an account it writes down first.
    rustix::fs::syncfs(fs::File::open(fleet.data()).unwrap()).unwrap();
}

pub(super) fn made(fleet: &Fleet) {
    for tenant in [RUNC, RUNSC, NEIGHBOUR] {
        let inspected = fleet.engine.inspect(&format!("tenantd-{tenant}"));
        let mut mounts = inspected["Mounts"].as_array().unwrap().iter();
        let mount = mounts.find(|mount| mount["Destination"] == "/workspace").expect("it has a workspace");
        let source = text(&mount["Source"]);
        assert_eq!(PathBuf::from(&source), fleet.data().join("mounts").join(tenant).join("files"), "below the mount");
        let folder = fs::metadata(workspace(fleet, tenant)).unwrap();
        assert_eq!((folder.uid(), folder.mode() & 0o7777), (1000, 0o700), "it is the tenant's alone");
        assert_eq!(fs::read_dir(workspace(fleet, tenant)).unwrap().count(), 0, "and holds nothing, no lost+found");
        assert!(is_mounted(&fleet.data().join("mounts").join(tenant)), "it is a mount");
    }
}

pub(super) fn filled(fleet: &Fleet) {
    let before = rustix::fs::statvfs(fleet.data()).unwrap();
    for tenant in [RUNC, RUNSC] {
        let written = fill(fleet, tenant);
        assert!((60 * MIB..=64 * MIB).contains(&written), "{tenant} has its 64 MiB and no more: {written}");
        let (written, printed) = agent(&fleet.engine, NEIGHBOUR, &["write", "/workspace/note", tenant]);
        assert!(written, "the neighbour writes on: {printed}");
        fleet.in_order();
        empty(fleet, tenant);
    }
    let after = rustix::fs::statvfs(fleet.data()).unwrap();
    let gone = before.f_bfree.saturating_sub(after.f_bfree) * before.f_frsize;
    assert!(gone < 300 * MIB, "the host lost {gone} bytes");
}

fn inodes(fleet: &Fleet) {
    for tenant in [RUNC, RUNSC] {
        let found = rustix::fs::statvfs(workspace(fleet, tenant)).unwrap();
        let host = rustix::fs::statvfs(fleet.data()).unwrap();
        assert!(found.f_files > 1000 && found.f_files < host.f_files, "{tenant} has {} inodes", found.f_files);
    }
}

pub(super) fn options(fleet: &Fleet) {
    let (_, mounts) = agent(&fleet.engine, RUNC, &["mounts"]);
    let line = mounts.lines().find(|line| line.split(' ').nth(1) == Some("/workspace")).unwrap_or_default();
    assert!(line.contains("nosuid") && line.contains("nodev"), "{line}");
    let below = fleet.data().join("mounts").join(RUNC);
    assert_eq!(fs::metadata(below).unwrap().mode() & 0o7777, 0o700, "what is beside the tenant's folder is closed");
}

fn sparse(fleet: &Fleet) {
    for tenant in [RUNC, RUNSC, NEIGHBOUR] {
        let found = fs::metadata(image(fleet, tenant)).unwrap();
        assert!(found.len() > 2 << 30, "it has room for the most that its tier allows");
        assert_eq!(found.mode() & 0o777, 0o600, "it is root's alone");
    }
    let found = fs::metadata(image(fleet, NEIGHBOUR)).unwrap();
    assert!(found.blocks() * 512 < 24 * MIB, "an empty one takes {} bytes", found.blocks() * 512);
}

pub(super) fn resized(fleet: &Fleet) {
    for tenant in [RUNC, RUNSC] {
        let runtime = if tenant == RUNSC { fleet.gvisor() } else { "" };
        let before = fleet.engine.identity(&format!("tenantd-{tenant}"));
        for (limit, bytes) in [("128MiB", 128 * MIB), ("96MiB", 96 * MIB)] {
            fleet.declare(tenant, &format!("{runtime}limits: {{disk: {limit}}}\n"));
            let plan = fleet.plan();
            assert_eq!(plan.addresses(), [format!("workspace.{tenant}")], "a change of its own");
            let change = plan.change(&format!("workspace.{tenant}"));
            assert_eq!((&change["actions"], names(change)), (&json!(["update"]), vec!["limit"]));
            assert_eq!(attribute(change, "limit")["cause"], "intent");
            fleet.converge();
            assert_eq!(fleet.engine.identity(&format!("tenantd-{tenant}")), before, "id and start time stay");
            let written = fill(fleet, tenant);
            assert!((bytes - 4 * MIB..=bytes).contains(&written), "{tenant} has {limit}: {written}");
            empty(fleet, tenant);
        }
        fleet.declare(tenant, &format!("{runtime}limits: {{disk: 64MiB}}\n"));
        fleet.converge();
        assert_eq!(fleet.engine.identity(&format!("tenantd-{tenant}")), before, "and back again");
    }
}

pub(super) fn shrunk_too_far(fleet: &Fleet) {
    let (written, printed) = agent(&fleet.engine, RUNC, &["fill", "/workspace/big", &(40 * MIB).to_string()]);
    assert!(written, "{printed}");
    let before = fleet.engine.identity("tenantd-acme");
    fleet.declare(RUNC, "limits: {disk: 30MiB, pids: 40}\n");
    let (code, reason, _) = fleet.plan().blocked(RUNC);
    assert_eq!(code, "disk-in-use");
    assert!(reason.contains("MiB too many"), "it says by how much: {reason}");
    let (ended, printed) = fleet.apply();
    assert_eq!(ended, 1, "{printed}");
    assert_eq!(fleet.engine.identity("tenantd-acme"), before, "it runs on");
    let pids = fleet.engine.inspect("tenantd-acme")["HostConfig"]["PidsLimit"].clone();
    assert_eq!(pids, json!(40), "who fills its workspace holds up no other limit");
    empty(fleet, RUNC);
    fleet.converge();
    assert!(fill(fleet, RUNC) <= 30 * MIB, "with the files gone it shrinks");
    empty(fleet, RUNC);
    fleet.declare(RUNC, "limits: {disk: 64MiB}\n");
    fleet.converge();
}

fn outgrown(fleet: &Fleet) {
    let (written, printed) = agent(&fleet.engine, RUNC, &["write", "/workspace/kept.txt", "kept"]);
    assert!(written, "{printed}");
    let before = fleet.engine.identity("tenantd-acme");
    fleet.declare(RUNC, "tier: pro\nlimits: {cpus: 1, memory: 512MiB, disk: 3GiB}\n");
    let plan = fleet.plan();
    assert_eq!(names(plan.change("workspace.acme")), ["limit", "image_size"]);
    assert_eq!(plan.change("container.acme")["actions"], json!(["delete", "create"]), "the plan says that it restarts");
    fleet.converge();
    assert_ne!(fleet.engine.identity("tenantd-acme"), before);
    assert_eq!(agent(&fleet.engine, RUNC, &["cat", "/workspace/kept.txt"]).1.trim(), "kept");
    let found = rustix::fs::statvfs(workspace(fleet, RUNC)).unwrap();
    assert!(found.f_bavail * found.f_frsize > 3 * 1000 * MIB, "there is room: {} blocks", found.f_bavail);
    fleet.declare(RUNC, "limits: {disk: 64MiB}\n");
    fleet.converge();
}

fn ballast_removed(fleet: &Fleet) {
    let before = fleet.engine.identity("tenantd-acme");
    fs::remove_file(fleet.data().join("mounts/acme/.ballast")).unwrap();
    let plan = fleet.plan();
    let limit = attribute(plan.change("workspace.acme"), "limit").clone();
    assert_eq!((&limit["cause"], &limit["weakens"]), (&json!("drift"), &json!(true)));
    fleet.converge();
    assert_eq!(fleet.engine.identity("tenantd-acme"), before);
    assert!(fill(fleet, RUNC) <= 64 * MIB);
    empty(fleet, RUNC);
}

pub(super) fn outlives(fleet: &Fleet) {
    for tenant in [RUNC, RUNSC] {
        let (written, printed) = agent(&fleet.engine, tenant, &["write", "/workspace/kept.txt", "kept"]);
        assert!(written, "{printed}");
        fleet.engine.remove(&format!("tenantd-{tenant}"));
        fleet.converge();
        assert_eq!(agent(&fleet.engine, tenant, &["cat", "/workspace/kept.txt"]).1.trim(), "kept");
    }
}

/// Whether a tenant can run a program that lies in its workspace.
fn runs(fleet: &Fleet, tenant: &str) -> bool {
    let (name, program) = (format!("tenantd-{tenant}"), workspace(fleet, tenant).join("program"));
    let copy = ["cp", &format!("{name}:/agent"), &program.display().to_string()];
    assert!(run(fleet.engine.docker(&copy)).status.success());
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    run(fleet.engine.docker(&["exec", &name, "/workspace/program", "id"])).status.success()
}

pub(super) fn noexec(fleet: &Fleet) {
    for tenant in [RUNC, RUNSC] {
        assert!(runs(fleet, tenant), "{tenant} may run what it likes, unless fleet.yaml says otherwise");
    }
    let policy = fleet.repo().join("fleet.yaml");
    let text = fs::read_to_string(&policy).unwrap();
    fs::write(&policy, text.replace("openFiles: 1024", "openFiles: 1024, workspaceNoexec: true")).unwrap();
    assert_eq!(names(fleet.plan().change("workspace.acme")), ["noexec"]);
    fleet.converge();
    let (_, mounts) = agent(&fleet.engine, RUNC, &["mounts"]);
    let line = mounts.lines().find(|line| line.split(' ').nth(1) == Some("/workspace")).unwrap_or_default();
    assert!(line.contains("noexec"), "{line}");
    for tenant in [RUNC, RUNSC] {
        assert!(!runs(fleet, tenant), "{tenant} runs no program of its own");
    }
    fs::write(&policy, text).unwrap();
    fleet.converge();
}

pub(super) fn migrated(fleet: &Fleet) {
    fleet.host("workspaces: {backend: folder, unenforced: accept}\n");
    fleet.declare("older", "limits: {disk: 32MiB}\n");
    fleet.converge();
    let (written, printed) = agent(&fleet.engine, "older", &["write", "/workspace/kept.txt", "kept"]);
    assert!(written, "{printed}");
    std::os::unix::fs::symlink("/etc/passwd", workspace(fleet, "older").join("link")).unwrap();
    fleet.host("");
    let plan = fleet.plan();
    assert_eq!(names(plan.change("workspace.older")), ["backend"]);
    fleet.converge();
    assert_eq!(
        agent(&fleet.engine, "older", &["cat", "/workspace/kept.txt"]).1.trim(),
        "kept",
        "what it held is there"
    );
    let link = fs::read_link(fleet.data().join("mounts/older/files/link")).unwrap();
    assert_eq!(link, PathBuf::from("/etc/passwd"), "a link was copied and not followed");
    let archived = fs::read_dir(fleet.data().join("archive")).unwrap().flatten();
    let mut kept = archived.filter(|entry| entry.file_name().to_string_lossy().starts_with("older."));
    assert!(kept.any(|entry| entry.path().join("kept.txt").exists()), "the folder is archived");
    fleet.undeclare("older");
    fleet.converge();
}

fn unenforced(fleet: &Fleet) {
    fleet.host("workspaces: {backend: folder}\n");
    fleet.declare("free", "");
    let (code, reason, help) = fleet.plan().blocked("free");
    assert_eq!(code, "disk-unenforced");
    assert!(reason.contains("limits.disk") && help.contains("unenforced: accept"), "{reason} {help}");
    fleet.host("workspaces: {backend: folder, unenforced: accept}\n");
    let (_, printed) = fleet.plan_text();
    assert!(printed.contains("Note: free: limits.disk is unenforced"), "{printed}");
    fleet.undeclare("free");
    fleet.host("");
    fleet.converge();
}

pub(super) fn archived_and_restored(fleet: &Fleet, ending: &str) {
    let (written, printed) = agent(&fleet.engine, RUNC, &["write", "/workspace/kept.txt", "precious"]);
    assert!(written, "{printed}");
    fleet.undeclare(RUNC);
    let (_, printed) = fleet.plan_text();
    assert!(printed.contains("# workspace.acme will be archived"), "{printed}");
    fleet.converge();
    assert!(!is_mounted(&fleet.data().join("mounts/acme")) && !workspace(fleet, RUNC).exists());
    let archived = fs::read_dir(fleet.data().join("archive")).unwrap().flatten().map(|entry| entry.file_name());
    let archived: Vec<String> = archived.map(|name| name.to_string_lossy().into_owned()).collect();
    assert!(archived.iter().any(|name| name.starts_with("acme.") && name.ends_with(ending)), "{archived:?}");
    let archived = archived.into_iter().find(|name| name.starts_with("acme.") && name.ends_with(ending)).unwrap();

    fleet.declare_bare(RUNC, "limits: {disk: 64MiB}\n");
    let (code, reason, help) = fleet.plan().blocked(RUNC);
    assert_eq!(code, "workspace-archived");
    assert!(reason.contains(&archived) && help.contains("restore: none"), "the plan asks: {reason} {help}");
    fleet.declare(RUNC, "limits: {disk: 64MiB}\n");
    fleet.converge();
    assert_eq!(fs::read_dir(workspace(fleet, RUNC)).unwrap().count(), 0, "who comes anew begins with an empty one");
    fleet.undeclare(RUNC);
    fleet.converge();

    fleet.declare_bare(RUNC, &format!("limits: {{disk: 96MiB}}\nworkspace: {{restore: {archived}}}\n"));
    fleet.converge();
    assert_eq!(agent(&fleet.engine, RUNC, &["cat", "/workspace/kept.txt"]).1.trim(), "precious", "it is taken back");
    assert!((92 * MIB..=96 * MIB).contains(&fill(fleet, RUNC)), "with the limit that is declared now");
    empty(fleet, RUNC);
    fleet.undeclare(RUNC);
    fleet.converge();

    let lists = |words: &[&str]| said(&run(fleet.tenantd(words)));
    let list = lists(&["workspace", "list", "--format", "json"]);
    let list: serde_json::Value = serde_json::from_str(&list).unwrap();
    let last = list["archived"].as_array().unwrap().iter().filter_map(|entry| entry["name"].as_str());
    let last = last.filter(|name| name.starts_with("acme.")).max().unwrap().to_owned();
    let printed = lists(&["workspace", "restore", RUNC, &last]);
    assert!(printed.contains("the next `tenantd apply` does it"), "{printed}");
    fleet.declare_bare(RUNC, "limits: {disk: 64MiB}\n");
    fleet.converge();
    assert_eq!(agent(&fleet.engine, RUNC, &["cat", "/workspace/kept.txt"]).1.trim(), "precious", "an operator can too");
    let printed = lists(&["events", "--tenant", RUNC]);
    assert!(printed.contains("restore the workspace"), "it is on record:\n{printed}");
}

fn commitments(fleet: &Fleet) {
    let printed = said(&run(fleet.tenantd(&["capacity"])));
    assert!(printed.contains("Committed") && printed.contains("Free"), "{printed}");
    let answer = said(&run(fleet.tenantd(&["capacity", "--format", "json"])));
    let answer: serde_json::Value = serde_json::from_str(&answer).unwrap();
    assert_eq!(answer["committed"].as_u64(), Some((64 + 64 + 32) * MIB), "{answer}");
    assert!(answer["on_disk"].as_u64().unwrap() < answer["committed"].as_u64().unwrap(), "{answer}");
    let (_, printed) = fleet.plan_text();
    assert!(!printed.contains("Warning"), "{printed}");
    fleet.declare("giant", "tier: enterprise\n");
    fleet.host("workspaces: {overcommit: 0.1}\n");
    let (_, printed) = fleet.plan_text();
    assert!(printed.contains("Warning: limits.disk commits") && printed.contains("workspaces.overcommit"), "{printed}");
    assert!(fleet.plan().json["overcommitted"]["committed"].as_u64().unwrap() > 100 << 30);
    fleet.host("");
    fleet.undeclare("giant");
}

fn shared(fleet: &Fleet) {
    let folder = fleet.engine.dir().join("handbook");
    fs::create_dir_all(folder.join("below")).unwrap();
    fs::write(folder.join("rules.txt"), "be kind").unwrap();
    fs::write(fleet.data().join("secret"), "of the host").unwrap();
    std::os::unix::fs::symlink(fleet.data().join("secret"), folder.join("link")).unwrap();
    fleet.declare(RUNC, "limits: {disk: 64MiB}\nsource: handbook\n");
    fleet.declare(RUNSC, &format!("{}limits: {{disk: 64MiB}}\nsource: handbook\n", fleet.gvisor()));
    assert_eq!(fleet.plan().blocked(RUNC).0, "source-not-offered", "what the host does not offer is not there");
    fleet.host(&format!("sources: {{handbook: {}}}\n", folder.display()));
    // What is mounted there by itself, and could be written to, is not part of it.
    let mut command = std::process::Command::new("mount");
    command.args(["-t", "tmpfs", "-o", "mode=777", "tmpfs"]).arg(folder.join("below"));
    assert!(run(command).status.success());
    fleet.converge();
    for tenant in [RUNC, RUNSC] {
        assert_eq!(
            agent(&fleet.engine, tenant, &["cat", "/source/rules.txt"]).1.trim(),
            "be kind",
            "{tenant} reads it"
        );
        for path in ["/source/new", "/source/rules.txt", "/source/below/new"] {
            let (written, printed) = agent(&fleet.engine, tenant, &["write", path, "mine"]);
            assert!(!written, "{tenant} writes to {path}: {printed}");
        }
        let (read, printed) = agent(&fleet.engine, tenant, &["cat", "/source/link"]);
        assert!(!read, "{tenant} follows a link out of it: {printed}");
    }
    let mut command = std::process::Command::new("umount");
    command.arg(folder.join("below"));
    assert!(run(command).status.success());
    fleet.declare(RUNC, "limits: {disk: 64MiB}\n");
    fleet.declare(RUNSC, &format!("{}limits: {{disk: 64MiB}}\n", fleet.gvisor()));
    fleet.converge();
    fleet.host("");
}

/// Links, deep paths, odd names, holes and many inodes, as a tenant could make them: no command of ours follows them,
/// and none breaks.
fn odd(fleet: &Fleet) {
    fleet.host("workspaces: {backend: folder, unenforced: accept}\n");
    fleet.declare("odd", "limits: {disk: 64MiB}\n");
    fleet.converge();
    let victim = fleet.engine.dir().join("victim");
    fs::create_dir_all(&victim).unwrap();
    fs::write(victim.join("precious"), "precious").unwrap();
    let folder = workspace(fleet, "odd");
    for (name, target) in [("host", PathBuf::from("/")), ("victim", victim.clone()), ("data", fleet.data())] {
        std::os::unix::fs::symlink(target, folder.join(name)).unwrap();
    }
    std::os::unix::fs::symlink("loop", folder.join("loop")).unwrap();
    fs::hard_link(folder.join("host"), folder.join("hard")).unwrap();
    // Something mounted there must outlive what is done to the tenant's files; a device must open nothing.
    let mut mount = std::process::Command::new("sh");
    mount.args(["-euc", "mkdir \"$1\"/mounted && mount --bind \"$2\" \"$1\"/mounted && mknod \"$1\"/zero c 1 5", "sh"]);
    assert!(
        run({
            mount.arg(&folder).arg(&victim);
            mount
        })
        .status
        .success()
    );
    fs::write(folder.join("new\nline \t*$(touch x)"), "odd").unwrap();
    fs::write(folder.join("-rf"), "odd").unwrap();
    fs::File::create(folder.join("hole")).unwrap().set_len(1 << 40).unwrap();
    let mut script = std::process::Command::new("sh");
    script
        .current_dir(&folder)
        .args(["-euc", "mkfifo pipe; for i in $(seq 300); do mkdir -p deep && cd -P deep; done"]);
    assert!(run(script).status.success());
    for number in 0..3000 {
        fs::write(folder.join(format!("inode-{number}")), "").unwrap();
    }
    // It moves into an image, is resized, listed, archived, restored, and removed at last.
    fleet.host("");
    fleet.converge();
    let moved = fleet.data().join("mounts/odd/files");
    assert_eq!(fs::read_link(moved.join("victim")).unwrap(), victim, "a link is moved as a link");
    assert_eq!(fs::metadata(moved.join("hole")).unwrap().len(), 1 << 40, "a hole stays one");
    let (read, printed) = agent(&fleet.engine, "odd", &["cat", "/workspace/zero"]);
    assert!(!read && printed.contains("Permission denied"), "a device opens nothing: {printed}");
    fleet.declare("odd", "limits: {disk: 128MiB}\n");
    fleet.converge();
    for words in [&["workspace", "list"][..], &["workspace", "check", "odd"], &["capacity"]] {
        let output = run(fleet.tenantd(words));
        assert!(output.status.success(), "{words:?}: {}", said(&output));
    }
    fleet.undeclare("odd");
    fleet.converge();
    let names = || -> Vec<String> {
        let archived = fs::read_dir(fleet.data().join("archive")).unwrap().flatten();
        let archived = archived.map(|entry| entry.file_name().to_string_lossy().into_owned());
        archived.filter(|name| name.starts_with("odd.")).collect()
    };
    assert_eq!(names().len(), 2, "the folder and the image are kept: {:?}", names());
    for name in names() {
        assert!(run(fleet.tenantd(&["workspace", "delete", &name, "--yes"])).status.success());
        let mounted = fleet.data().join("archive").join(&name).join("mounted");
        if is_mounted(&mounted) {
            let (ended, printed) = fleet.apply();
            assert!(ended == 1 && printed.contains("something is mounted below"), "it is not gone into: {printed}");
            let mut unmount = std::process::Command::new("umount");
            unmount.arg(&mounted);
            assert!(run(unmount).status.success());
        }
        fleet.converge();
    }
    assert_eq!(names(), Vec::<String>::new(), "what was deleted is gone");
    for bad in ["../state.json", "/etc", "..", ""] {
        assert!(
            !run(fleet.tenantd(&["workspace", "delete", bad, "--yes"])).status.success(),
            "{bad} is no archived name"
        );
    }
    assert_eq!(fs::read_to_string(victim.join("precious")).unwrap(), "precious", "nothing was followed");
    assert!(fs::metadata("/etc").is_ok() && fleet.data().join("images").exists());
}
