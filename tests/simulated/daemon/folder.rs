//! The folder of the repo that the host names, and commits that have none there.

use std::{
    io::Write,
    process::{Command, Stdio},
};

use super::{Daemon, at};
use crate::signatures::Key;

const MIB: i64 = 1 << 20;

/// Commits a tree with one entry, signed, on top of another. Nothing is pushed.
fn commit(daemon: &Daemon, key: &Key, entry: &str, parent: Option<&str>) -> String {
    let mut git = Command::new("git");
    git.current_dir(&daemon.cli.repo).args(["mktree", "--missing"]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = git.spawn().unwrap();
    child.stdin.take().unwrap().write_all(entry.as_bytes()).unwrap();
    let tree = String::from_utf8(child.wait_with_output().unwrap().stdout).unwrap();
    let mut arguments = key.options();
    arguments.extend(
        ["commit-tree", "-S", tree.trim(), "-m", "A commit\n\nTenantd-Approve: *@0; fleet=prod"].map(str::to_owned),
    );
    arguments.extend(parent.into_iter().flat_map(|parent| ["-p".to_owned(), parent.to_owned()]));
    daemon.git(&arguments.iter().map(String::as_str).collect::<Vec<_>>())
}

/// The fleet as it lies in the work tree, in the folder that the host names, with so much memory for its tenant.
fn fleet(daemon: &Daemon, memory: i64) -> String {
    daemon.tenant("ant", &format!("limits: {{memory: {memory}MiB}}\n"));
    daemon.git(&["add", "--all"]);
    format!("040000 tree {}\tfleet\n", daemon.git(&["write-tree"]))
}

#[test]
fn a_commit_without_the_folder_is_refused_and_holds_up_no_other() {
    let mut daemon = Daemon::stopped(&["ant"], "");
    let ada = Key::new(daemon.folder(), "ada", &["-t", "ed25519"]);
    daemon.settings(&format!(
        "verify: {{mode: all, signers: [{{name: ada, key: {:?}}}]}}\napprovals: {{fleet: prod, approvers: [ada], needed: [{{loosenings: [allowlist]}}]}}\n\
         source: {{url: {}, path: fleet, interval: 1h}}",
        ada.public(),
        daemon.bare().display()
    ));
    let mut last = commit(&daemon, &ada, &fleet(&daemon, 200), None);
    daemon.push_ref(&last);
    daemon.start();
    daemon.settled();
    let blob = daemon.git(&["hash-object", "-w", ".git/HEAD"]);
    let without = [
        format!("100644 blob {blob}\tother\n"),
        format!("100644 blob {blob}\tfleet\n"),
        format!("120000 blob {blob}\tfleet\n"),
        format!("160000 commit {last}\tfleet\n"),
    ];
    for (round, entry) in (0..).zip(&without) {
        // As the head it is refused in words, and what is in force is looked after.
        let wrong = commit(&daemon, &ada, entry, Some(&last));
        daemon.push_ref(&wrong);
        let reason = daemon.wait("it is refused", || {
            let held = daemon.status().source.held?;
            (Some(held.revision) == at(&wrong)).then_some(held.reason)
        });
        assert!(reason.contains("there is no folder \"fleet\""), "{reason}");
        assert!(daemon.status().source.error.is_none());
        daemon.remove("ant");
        daemon.runs("ant");
        // On the way to a good one it holds nothing up, whether it was the head before or not.
        let memory = 190 - 20 * round;
        last = commit(&daemon, &ada, &fleet(&daemon, memory), Some(&wrong));
        daemon.push_ref(&last);
        daemon.settled();
        assert_eq!(daemon.limit("ant", "Memory"), memory * MIB);
        let between = commit(&daemon, &ada, entry, Some(&last));
        last = commit(&daemon, &ada, &fleet(&daemon, memory - 10), Some(&between));
        daemon.push_ref(&last);
        daemon.settled();
        assert_eq!(daemon.limit("ant", "Memory"), (memory - 10) * MIB);
    }
}
