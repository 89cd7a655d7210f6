//! `kill -9` while workspaces are made, resized, grown, archived and restored, and a data root that is full.

use std::{
    fs,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use super::{agent, backends, devices};
use crate::fleet::{Fleet, run};

const TENANT: &str = "acme";

/// How often each change is killed: at a random moment of each so manieth part of the time that it takes when it is left
/// alone.
const KILLS: u8 = 4;

#[test]
fn an_apply_that_was_killed_leaves_each_workspace_whole() {
    killed(Fleet::start("killed"), &CHANGES);
}

#[test]
fn an_apply_that_was_killed_leaves_each_subvolume_whole() {
    let fleet = backends::on_btrfs("killed-btrfs");
    fleet.host(backends::ON_BTRFS);
    killed(fleet, &CHANGES.into_iter().filter(|(what, ..)| *what != BEYOND).collect::<Vec<_>>());
}

/// Applies each change, and kills that at every moment.
fn killed(fleet: Fleet, changes: &[(&str, Change, Change)]) {
    let begin = |fleet: &Fleet| {
        fleet.declare(TENANT, "limits: {disk: 32MiB}\n");
        fleet.converge();
        let (written, printed) = agent(&fleet.engine, TENANT, &["write", "/workspace/kept.txt", "kept"]);
        assert!(written, "{printed}");
    };
    begin(&fleet);
    for (what, prepare, change) in changes {
        // How long it takes when it is left alone.
        prepare(&fleet);
        let begun = Instant::now();
        change(&fleet);
        fleet.converge();
        let whole = begun.elapsed();
        back(&fleet);
        for part in 0..KILLS {
            let moment = (f32::from(part) + fastrand::f32()) / f32::from(KILLS);
            prepare(&fleet);
            change(&fleet);
            let mut apply = fleet.tenantd_itself(&["apply", "--yes", "--worktree", "fleet"]);
            let mut apply = apply.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
            std::thread::sleep(Duration::from_secs_f32(whole.as_secs_f32() * moment));
            apply.kill().unwrap();
            apply.wait().unwrap();
            fleet.carried_on(&format!("{what}, killed at {moment}"));
            back(&fleet);
            let (read, printed) = agent(&fleet.engine, TENANT, &["cat", "/workspace/kept.txt"]);
            assert!(read && printed.trim() == "kept", "{what}, killed at {moment}: the file is there: {printed}");
        }
        println!("{what}: {KILLS} kills");
    }
    let folder = fleet.engine.dir().to_owned();
    fleet.end();
    assert_eq!(devices(&folder), Vec::<String>::new(), "no loop device is left");
}

type Change = fn(&Fleet);

/// What only an image needs.
const BEYOND: &str = "grow beyond the image";

/// What is changed in one apply, and what goes before it.
const CHANGES: [(&str, Change, Change); 7] = [
    ("create", nothing, |fleet| fleet.declare("newcomer", "limits: {disk: 32MiB}\n")),
    ("grow", nothing, |fleet| fleet.declare(TENANT, "limits: {disk: 512MiB}\n")),
    (BEYOND, nothing, |fleet| {
        // A larger tier makes room for one GiB more than the image has.
        let size = (fs::metadata(fleet.data().join("images/acme.img")).unwrap().len() >> 30) + 1;
        let tier = format!("{{cpus: 1, memory: 512MiB, disk: {size}GiB, sessions: 1}}");
        let tiers = format!("apiVersion: tenantd/v1\nkind: Tiers\ntiers: {{free: {tier}}}\n");
        fs::write(fleet.repo().join("tiers.yaml"), tiers).unwrap();
        fleet.declare(TENANT, &format!("limits: {{disk: {size}GiB}}\n"));
    }),
    ("shrink", |fleet| grown(fleet), |fleet| fleet.declare(TENANT, "limits: {disk: 24MiB}\n")),
    ("archived", nothing, |fleet| fleet.undeclare(TENANT)),
    (
        "taken back",
        |fleet| {
            fleet.undeclare(TENANT);
            fleet.converge();
        },
        |fleet| {
            fleet.declare_bare(TENANT, &format!("limits: {{disk: 32MiB}}\nworkspace: {{restore: {}}}\n", last(fleet)))
        },
    ),
    ("lost and mounted again", nothing, |fleet| super::unmount(fleet, TENANT)),
];

fn nothing(_: &Fleet) {}

fn grown(fleet: &Fleet) {
    fleet.declare(TENANT, "limits: {disk: 48MiB}\n");
    fleet.converge();
}

/// What is archived of the tenant, the newest.
fn last(fleet: &Fleet) -> String {
    let archived = fs::read_dir(fleet.data().join("archive")).unwrap().flatten();
    let archived = archived.map(|entry| entry.file_name().to_string_lossy().into_owned());
    archived.filter(|name| name.starts_with("acme.")).max().unwrap()
}

/// What was before, by way of a shrink, or of what is archived.
fn back(fleet: &Fleet) {
    if fleet.repo().join("tenants/newcomer.yaml").exists() {
        fleet.undeclare("newcomer");
    }
    let lines = "limits: {disk: 32MiB}\n";
    match fleet.repo().join("tenants/acme.yaml").exists() {
        true => fleet.declare(TENANT, lines),
        false => {
            fleet.declare_bare(TENANT, &format!("{lines}workspace: {{restore: {}}}\n", last(fleet)));
        }
    }
    fleet.converge();
}

/// Two that apply at once, while others look: one waits or is refused, and nothing is done twice.
#[test]
fn two_at_once_do_no_harm() {
    let fleet = Fleet::start("two");
    fleet.declare(TENANT, "limits: {disk: 32MiB}\n");
    fleet.converge();
    let (written, printed) = agent(&fleet.engine, TENANT, &["write", "/workspace/kept.txt", "kept"]);
    assert!(written, "{printed}");
    for round in 0..6 {
        match round % 3 {
            0 => fleet.declare(TENANT, "limits: {disk: 64MiB}\n"),
            1 => super::unmount(&fleet, TENANT),
            _ => fleet.declare(TENANT, &format!("limits: {{disk: {}MiB}}\n", 32 + round)),
        }
        fleet.declare("newcomer", &format!("limits: {{disk: {}MiB}}\n", 20 + round));
        let words = ["apply", "--yes", "--worktree", "fleet"];
        let start =
            |words: &[&str]| fleet.tenantd_itself(words).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let both = [start(&words), start(&words), start(&["plan", "--worktree", "fleet"])];
        let ended = both.map(|one| one.wait_with_output().unwrap());
        assert!(ended[..2].iter().any(|one| one.status.success()), "{round}: one of them applies: {ended:?}");
        for refused in ended[..2].iter().filter(|one| !one.status.success()) {
            let printed = String::from_utf8_lossy(&refused.stderr).into_owned();
            assert!(printed.contains("another tenantd holds"), "{round}: the other one says why not: {printed}");
        }
        assert!(ended[2].status.success(), "{round}: a plan needs no turn: {:?}", ended[2]);
        fleet.in_order();
        let (read, printed) = agent(&fleet.engine, TENANT, &["cat", "/workspace/kept.txt"]);
        assert!(read && printed.trim() == "kept", "{round}: the file is there: {printed}");
        assert_eq!(devices(&fleet.data()).len(), 2, "{round}: each image has one device");
    }
    let data = fleet.data();
    fleet.end();
    assert_eq!(devices(&data), Vec::<String>::new(), "no loop device is left");
}

#[test]
fn a_full_data_root_stops_who_wrote_and_nobody_else() {
    let fleet = Fleet::start("full");
    let small = fleet.engine.dir().join("small.img");
    fs::create_dir_all(fleet.data()).unwrap();
    let shell = |script: &str| {
        let mut command = Command::new("sh");
        command.args(["-euc", script, "sh"]).arg(&small).arg(fleet.data());
        assert!(run(command).status.success(), "{script}");
    };
    shell("truncate -s 160M \"$1\" && mkfs.ext4 -q -m 0 \"$1\" && mount -o loop \"$1\" \"$2\"");
    fleet.declare("quiet", "limits: {disk: 16MiB}\n");
    fleet.declare("greedy", "limits: {disk: 512MiB}\n");
    fleet.converge();
    let (written, printed) = agent(&fleet.engine, "quiet", &["write", "/workspace/note", "there"]);
    assert!(written, "{printed}");
    let (written, printed) = agent(&fleet.engine, "greedy", &["fill", "/workspace/big", "1073741824"]);
    assert!(!written, "there is no room for it: {printed}");
    let (read, printed) = agent(&fleet.engine, "quiet", &["cat", "/workspace/note"]);
    assert!(read && printed.trim() == "there", "the neighbour goes on: {printed}");
    let plan = fleet.plan();
    let blocked = plan.json["blocked"].as_array().unwrap().iter().any(|blocked| blocked["tenant"] == "greedy");
    println!("the kernel {}", if blocked { "found errors: the tenant is blocked" } else { "printed the tenant alone" });
    assert!(!plan.json["blocked"].to_string().contains("quiet"), "the neighbour is not: {:#}", plan.json["blocked"]);
    shell("umount --lazy \"$2\"/mounts/greedy \"$2\"/mounts/quiet; true");
    fleet.engine.remove("tenantd-greedy");
    fleet.engine.remove("tenantd-quiet");
    shell("umount \"$2\" || umount --lazy \"$2\"");
}
