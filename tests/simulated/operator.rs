//! The commands that ask the daemon, as an operator types them.

use std::{
    fs,
    io::{BufRead, BufReader},
    os::unix::fs::{PermissionsExt, chown},
    process::{Child, Command, Stdio},
};

use serde_json::Value;

use crate::{
    cli::{Ended, bare, end},
    statuses,
    web::{Daemon, NOBODY, host},
};

/// A command about the daemon.
fn command(daemon: &Daemon, arguments: &[&str]) -> Command {
    let file = daemon.folder.path().join("host.yaml");
    let socket = daemon.host.socket.display();
    fs::write(&file, format!("apiVersion: tenantd/v1\nkind: Host\nsocket: {socket}\n")).unwrap();
    let mut command = bare(arguments);
    command.arg("--host").arg(file);
    command
}

fn run(daemon: &Daemon, arguments: &[&str]) -> Ended {
    end(command(daemon, arguments))
}

#[test]
fn a_status_where_all_is_well() {
    let daemon = Daemon::new();
    insta::assert_snapshot!("status_fine", run(&daemon, &["status"]).with(0).out);
}

#[test]
fn a_status_with_everything_that_needs_a_person() {
    let daemon = Daemon::new();
    daemon.inner().status = statuses::troubled();
    insta::assert_snapshot!("status_troubled", run(&daemon, &["status"]).with(0).out);
    let mut each = String::new();
    for tenant in ["ant", "wasp", "dog"] {
        each.push_str(&run(&daemon, &["status", tenant]).with(0).out);
    }
    insta::assert_snapshot!("status_of_one", each);
}

#[test]
fn a_status_for_programs_is_the_daemons_answer() {
    let daemon = Daemon::new();
    daemon.inner().status = statuses::troubled();
    let shown: Value = serde_json::from_str(&run(&daemon, &["status", "--format", "json"]).with(0).out).unwrap();
    assert_eq!(shown, serde_json::to_value(statuses::troubled()).unwrap());
    let one: Value = serde_json::from_str(&run(&daemon, &["status", "cat", "--format", "json"]).with(0).out).unwrap();
    assert_eq!(one["tenants"].as_array().unwrap().len(), 1);
    let ended = run(&daemon, &["status", "\u{1b}[2J"]).with(1);
    assert_eq!(ended.err, "error: there is no tenant \"\\u{1b}[2J\"\n");
}

#[test]
fn a_tenant_is_suspended_and_resumed() {
    let daemon = Daemon::new();
    let ended = run(&daemon, &["suspend", "ant", "--reason", "disk is replaced", "--until", "2h"]).with(0);
    assert!(ended.out.starts_with("ant is left alone until 20"), "{ended:?}");
    assert!(ended.out.ends_with(": disk is replaced\n"), "{ended:?}");
    assert_eq!(run(&daemon, &["resume", "ant"]).with(0).out, "ant is reconciled again.\n");
    assert_eq!(run(&daemon, &["resume", "ant"]).with(1).err, "error: it is not suspended\n");
    for (until, error) in [
        ("31d", "error: a tenant is suspended for 30 days at most\n"),
        (
            "soon",
            "error: --until takes a time such as 2026-12-01T08:00:00Z or a duration such as 2h or 3d, not \"soon\"\n",
        ),
    ] {
        assert_eq!(run(&daemon, &["suspend", "ant", "--reason", "x", "--until", until]).with(1).err, error);
    }
    assert_eq!(
        run(&daemon, &["suspend", "ant", "--reason", "", "--until", "2h"]).with(1).err,
        "error: a reason is needed\n"
    );
    run(&daemon, &["suspend", "ant", "--until", "2h"]).with(2);
    run(&daemon, &["suspend", "ant", "--reason", "x"]).with(2);
    let ended = run(&daemon, &["suspend", "../approve/x", "--reason", "x", "--until", "1h"]).with(1);
    assert_eq!(ended.err, "error: there is no tenant \"../approve/x\"\n");
    assert_eq!(
        daemon.inner().asked,
        [
            "suspend ant by root: disk is replaced",
            "resume ant by root",
            "resume ant by root",
            "suspend ../approve/x by root: x"
        ]
    );
}

#[test]
fn a_held_commit_is_approved_with_what_status_says_to_type() {
    let daemon = Daemon::new();
    daemon.inner().status = statuses::troubled();
    let shown = run(&daemon, &["status"]).with(0).out;
    let line = shown.lines().find_map(|line| line.trim().strip_prefix("To bring it into force: tenantd ")).unwrap();
    let words: Vec<&str> = line.split(' ').collect();
    let revision = format!("main@sha1:{}", "b".repeat(40));
    assert_eq!(run(&daemon, &words).with(0).out, format!("Approved: {revision} is in force.\n"));
    assert_eq!(run(&daemon, &words).with(1).err, "error: no held commit has that plan\n");
}

#[test]
fn the_daemon_is_asked_to_look() {
    let daemon = Daemon::new();
    run(&daemon, &["reconcile"]).with(0);
    run(&daemon, &["reconcile", "ant"]).with(0);
    assert_eq!(daemon.inner().asked, ["reconcile all by root", "reconcile ant by root"]);
}

#[test]
fn a_daemon_that_is_not_there_or_not_for_this_user_is_explained() {
    let (folder, host) = host();
    let file = folder.path().join("host.yaml");
    fs::write(&file, format!("apiVersion: tenantd/v1\nkind: Host\nsocket: {}\n", host.socket.display())).unwrap();
    let mut command = bare(&["status"]);
    command.arg("--host").arg(&file);
    let ended = end(command).with(1);
    let expected = format!("error: the daemon does not answer on {}: ", host.socket.display());
    assert!(ended.err.starts_with(&expected), "{}", ended.err);

    let daemon = Daemon::new();
    chown(&daemon.host.socket, Some(NOBODY), Some(NOBODY)).unwrap();
    // The test's own binary may lie where only those can go whom no mode keeps out.
    let program = daemon.folder.path().join("tenantd");
    fs::copy(env!("CARGO_BIN_EXE_tenantd"), &program).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    // Root without capabilities is let in where root owns it, and nowhere else. Another user may be
    // let in nowhere at all, not even to the libraries.
    let mut command = Command::new("setpriv");
    command.args(["--bounding-set=-all", "--inh-caps=-all"]).arg(program);
    command.args(self::command(&daemon, &["status"]).get_args()).env_clear().stdin(Stdio::null());
    let ended = end(command).with(1);
    assert!(ended.err.contains("is not for this user"), "{}", ended.err);
}

/// A command that goes on until it is dropped.
struct Watching(Child);

impl Drop for Watching {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_watch_prints_what_changes() {
    let daemon = Daemon::new();
    let mut command = command(&daemon, &["status", "--watch", "--format", "json"]);
    let mut watching = Watching(command.stdout(Stdio::piped()).spawn().unwrap());
    let mut lines = BufReader::new(watching.0.stdout.take().unwrap()).lines();
    let mut next = || serde_json::from_str::<Value>(&lines.next().unwrap().unwrap()).unwrap();
    assert_eq!(next()["tenants"].as_array().unwrap().len(), 2);
    // Time that goes by is no change.
    daemon.inner().status.time += jiff::SignedDuration::from_secs(5);
    daemon.inner().status.tenants.pop();
    assert_eq!(next()["tenants"].as_array().unwrap().len(), 1);
    rustix::process::kill_process(rustix::process::Pid::from_child(&watching.0), rustix::process::Signal::INT).unwrap();
    assert_eq!(watching.0.wait().unwrap().code(), Some(0));
}
