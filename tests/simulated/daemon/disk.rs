//! A disk without room for the journal.

use std::{
    fs,
    io::{Read, Write},
    os::unix::net::UnixStream,
    process::Command,
    thread::sleep,
    time::Duration,
};

use serde_json::json;
use tenantd::model::{
    Entry,
    status::{ConditionKind, Reason, Truth},
};

use super::{Daemon, condition};

/// The first line of the answer to `/readyz`.
fn readyz(daemon: &Daemon) -> String {
    let mut stream = UnixStream::connect(daemon.folder().join("socket")).unwrap();
    stream.write_all(b"GET /readyz HTTP/1.1\r\nHost: tenantd\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer.lines().next().unwrap().to_owned()
}

#[test]
fn without_a_journal_nothing_but_containment_is_done() {
    let mut daemon = Daemon::stopped(&["ant", "bee", "cat"], "");
    // The journal alone lies on a disk of its own, which nobody else sees.
    let folder = tenantd::journal::folder(&daemon.host.data_root);
    fs::create_dir_all(&folder).unwrap();
    let run = daemon.cli.command(&["run"]);
    let mut command = Command::new("unshare");
    command.args(["--mount", "--propagation", "private", "sh", "-c"]).env_clear();
    command.arg("mount -t tmpfs -o size=400k tmpfs \"$0\" && exec \"$@\"").arg(&folder);
    command.arg(run.get_program()).args(run.get_args());
    daemon.start_as(command);
    daemon.private = true;
    daemon.settled();
    daemon.proved();
    assert!(readyz(&daemon).contains("200"));

    let filler = daemon.journal().join("filler");
    let mut file = fs::File::create(&filler).unwrap();
    for size in [4096, 1] {
        while file.write_all(&vec![b'.'; size]).is_ok() {}
    }
    drop(file);
    // The last page of the journal's file has room for some records more.
    daemon.wait("it says so", || {
        daemon.ask(&["suspend", "cat", "--reason", "to write something", "--until", "1h"]);
        daemon.ask(&["resume", "cat"]);
        daemon.status().journal.error
    });
    daemon.ask(&["resume", "cat"]);
    let ant = daemon.id("tenantd-ant");
    daemon.tenant("ant", "limits: {memory: 256MiB}\nenvironment: {A: b}\n");
    daemon.push();
    daemon.wait("it is in force", || (daemon.reason("ant") != "ReconciliationSucceeded").then_some(()));
    let status = daemon.status();
    let ready = condition(&status.conditions, ConditionKind::Ready);
    assert_eq!((ready.status, ready.reason), (Truth::False, Reason::JournalUnavailable));
    assert!(readyz(&daemon).contains("503"));
    // Drift and what a commit changes wait, isolation and what a commit takes away do not.
    daemon.update("bee", 64 << 20);
    daemon.act("POST", "/networks/create", json!({"Name": "office"}));
    daemon.act("POST", "/networks/office/connect", json!({"Container": "tenantd-cat"}));
    daemon.wait("cat is taken off", || (daemon.networks("cat") == ["tenantd-cat"]).then_some(()));
    sleep(Duration::from_millis(500));
    assert_eq!((daemon.limit("ant", "Memory"), daemon.limit("bee", "Memory")), (256 << 20, 64 << 20));
    assert_eq!(daemon.id("tenantd-ant"), ant);

    fs::remove_file(&filler).unwrap();
    daemon.wait("it is ready", || readyz(&daemon).contains("200").then_some(()));
    daemon.settled();
    assert_eq!((daemon.limit("ant", "Memory"), daemon.limit("bee", "Memory")), (256 << 20, 512 << 20));
    assert_ne!(daemon.id("tenantd-ant"), ant);
    let lost = |record: &tenantd::model::Record| matches!(record.entry, Entry::Lost { records, .. } if records > 0);
    assert_eq!(daemon.records().iter().filter(|record| lost(record)).count(), 1);
    daemon.ask(&["audit", "verify", "--journal", daemon.journal().to_str().unwrap()]).with(0);
}
