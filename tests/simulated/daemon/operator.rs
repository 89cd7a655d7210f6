//! What a person asks of the daemon, and settings that are read again.

use std::{fs, thread::sleep, time::Duration};

use rustix::process::Signal;
use tenantd::model::{
    Entry,
    status::{ConditionKind, Reason},
};

use super::{Daemon, condition, object, shown};

#[test]
fn a_suspended_tenant_is_left_alone_until_its_time_is_over() {
    let mut daemon = Daemon::running(&["ant", "bee"]);
    daemon.proved();
    daemon.ask(&["suspend", "ant", "--reason", "disk check", "--until", "1h"]).with(0);
    daemon.ask(&["suspend", "nobody", "--reason", "x", "--until", "1h"]).with(1);
    let mistyped = daemon.ask(&["suspend", "ants", "--reason", "x", "--until", "1h"]).with(1);
    assert_eq!(mistyped.err, "error: there is no tenant \"ants\"\nhint: did you mean ant?\n");
    daemon.update("ant", 64 << 20);
    daemon.tenant("ant", "environment: {A: b}\n");
    daemon.tenant("bee", "limits: {memory: 256MiB}\n");
    daemon.push();
    for restart in [false, true] {
        if restart {
            daemon.end(Signal::KILL);
            daemon.start();
        }
        daemon.wait("bee follows", || (daemon.limit("bee", "Memory") == 256 << 20).then_some(()));
        daemon.ask(&["reconcile", "ant"]).with(0);
        sleep(Duration::from_millis(300));
        assert_eq!(daemon.limit("ant", "Memory"), 64 << 20);
        let status = daemon.status();
        let ant = shown(&status, "ant").unwrap();
        let ready = condition(&ant.conditions, ConditionKind::Ready);
        let suspension = ant.suspended.as_ref().map(|suspension| suspension.reason.as_str());
        assert_eq!((ready.reason, suspension), (Reason::Suspended, Some("disk check")));
        assert!(ready.message.contains("disk check"), "{ready:?}");
    }
    let suspended = daemon.records().into_iter().find_map(|record| match record.entry {
        Entry::Suspended { tenant, reason, by, .. } => Some((tenant, reason, by)),
        _ => None,
    });
    let (tenant, reason, by) = suspended.unwrap();
    assert_eq!((tenant.as_str(), reason.as_str(), by.is_empty()), ("ant", "disk check", false));
    daemon.ask(&["resume", "ant"]).with(0);
    daemon.settled();
    daemon.converged();

    // A time that passes ends it as well, and one that passes while nobody runs.
    for restart in [false, true] {
        daemon.ask(&["suspend", "ant", "--reason", "short", "--until", "2s"]).with(0);
        daemon.remove("ant");
        if restart {
            daemon.stop();
            sleep(Duration::from_secs(2));
            daemon.start();
        }
        daemon.runs("ant");
        daemon.settled();
        let resumed = |record: &tenantd::model::Record| matches!(&record.entry, Entry::Resumed { tenant, by } if tenant == "ant" && by == "expiry");
        assert_eq!(daemon.records().iter().filter(|record| resumed(record)).count(), 1 + usize::from(restart));
    }
}

#[test]
fn settings_are_read_again_and_wrong_ones_refused() {
    let daemon = Daemon::running_with(&["ant"], "ceilings: {memory: 1GiB}");
    let reloads = || {
        let of = |record: tenantd::model::Record| match record.entry {
            Entry::Reloaded { error } => Some(error),
            _ => None,
        };
        daemon.records().into_iter().filter_map(of).collect::<Vec<_>>()
    };
    let reload = |count: usize| {
        daemon.signal(Signal::HUP);
        daemon.wait("it is on record", || (reloads().len() == count).then_some(()));
        reloads().pop().unwrap()
    };
    daemon.settings("ceilings: {memory: 256MiB}");
    assert_eq!(reload(1), None);
    daemon.wait("the ceiling blocks ant", || (daemon.reason("ant") == "Blocked").then_some(()));
    // Wrong, and in need of a restart: the settings before stay in force.
    daemon.settings("ceilings: {memory: much}");
    assert!(reload(2).unwrap().contains("not valid"));
    daemon.settings("parallelism: 2\njournal: {files: 7}");
    assert!(reload(3).unwrap().contains("restart"));
    daemon.ask(&["reconcile"]).with(0);
    sleep(Duration::from_millis(300));
    assert_eq!(daemon.reason("ant"), "Blocked");
    daemon.settings("");
    assert_eq!(reload(4), None);
    daemon.settled();
    assert_eq!(daemon.state(&object("ant")), "running");
}

#[test]
fn another_repo_is_followed_after_a_reload() {
    let daemon = Daemon::running(&["ant"]);
    let other = daemon.folder().join("other.git");
    daemon.git(&["clone", "--quiet", "--bare", ".", other.to_str().unwrap()]);
    daemon.tenant("bee", "");
    daemon.cli.commit();
    daemon.git(&["push", "--quiet", other.to_str().unwrap(), "HEAD:refs/heads/main"]);
    daemon.settings(&format!("source: {{url: {}, interval: 1h}}", other.display()));
    daemon.signal(Signal::HUP);
    daemon.runs("bee");
    assert_eq!(daemon.status().source.url, other.to_str().unwrap());
    fs::remove_dir_all(&other).unwrap();
}
