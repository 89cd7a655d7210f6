//! A commit that removes too much waits for a person.

use std::fs;

use rustix::process::Signal;
use tenantd::model::{
    record::Verdict,
    status::{ConditionKind, HeldRevision, Reason},
};

use super::{Daemon, at, condition};

fn names(count: usize) -> Vec<String> {
    (0..count).map(|n| format!("t{n:02}")).collect()
}

fn fleet(count: usize, settings: &str) -> Daemon {
    let names = names(count);
    Daemon::running_with(&names.iter().map(String::as_str).collect::<Vec<_>>(), settings)
}

/// Waits until a commit is held, and returns what is said of it.
#[track_caller]
fn held(daemon: &Daemon, commit: &str) -> HeldRevision {
    daemon.wait("it is held", || {
        let held = daemon.status().source.held?;
        (Some(&held.revision) == at(commit).as_ref() && held.plan.is_some()).then_some(held)
    })
}

fn plan(held: &HeldRevision) -> &str {
    held.plan.as_deref().unwrap()
}

fn count(daemon: &Daemon) -> usize {
    daemon.engine.containers().len()
}

#[test]
fn many_removals_are_held_until_somebody_agrees() {
    let mut daemon = fleet(12, "guards: {removals: {window: 0s}}");
    daemon.policy("guards: {removals: {window: 0s}}\n");
    daemon.push();
    daemon.settled();
    // Without a window one at a time passes, and what went before counts no more.
    for name in ["t00", "t01"] {
        daemon.without(name);
        daemon.push();
        daemon.wait("it goes", || (!daemon.ids().contains_key(name)).then_some(()));
        daemon.settled();
    }
    daemon.without("t02");
    daemon.without("t03");
    daemon.tenant("t04", "limits: {memory: 256MiB}\n");
    let first = daemon.push();
    let waiting = held(&daemon, &first);
    assert_eq!(waiting.tenants, ["t02", "t03"]);
    assert!(waiting.reason.contains("2 of 10"), "{waiting:?}");
    assert_eq!(condition(&daemon.status().conditions, ConditionKind::Stalled).reason, Reason::RevisionHeld);
    assert_eq!(daemon.verdicts().last().unwrap().verdict, Verdict::Held);

    // Nothing of it is done; drift is repaired meanwhile.
    daemon.remove("t02");
    daemon.runs("t02");
    assert_eq!((count(&daemon), daemon.limit("t04", "Memory")), (10, 512 << 20));
    let id = plan(&waiting);
    let (begin, hash) = id.split_once('-').unwrap();
    assert!(first.starts_with(begin) && begin.len() == 12 && hash.len() == 32, "{id}");
    // Less than the whole id lets nothing in, and what the id is stands only beside what it lets in.
    let other = format!("{begin}-{}", "0".repeat(32));
    for part in ["000000000000", begin, hash, &id[..id.len() - 1], &id[..20], &id.to_uppercase(), &other] {
        let refused = daemon.ask(&["approve", part]).with(1);
        assert!(refused.err.contains("not the whole id") && !refused.err.contains(id), "{part}: {}", refused.err);
    }
    assert_eq!(count(&daemon), 10);

    // It is held again after a restart, under the same id.
    daemon.restart();
    assert_eq!(plan(&held(&daemon, &first)), plan(&waiting));
    daemon.end(Signal::KILL);
    daemon.start();
    assert_eq!(plan(&held(&daemon, &first)), plan(&waiting));

    // A newer one takes its place.
    daemon.without("t05");
    let second = daemon.push();
    let newer = held(&daemon, &second);
    assert_ne!(plan(&newer), plan(&waiting));
    daemon.ask(&["approve", plan(&waiting)]).with(1);
    daemon.ask(&["approve", plan(&newer)]).with(0);
    daemon.settled();
    daemon.wait("they are gone", || (count(&daemon) == 7).then_some(()));
    assert_eq!(daemon.limit("t04", "Memory"), 256 << 20);
    let last = daemon.verdicts().pop().unwrap();
    assert_eq!((last.verdict, last.plan.as_deref()), (Verdict::Approved, Some(plan(&newer))));
    assert!(last.by.is_some());
    assert!(daemon.status().source.held.is_none());
    daemon.restart();
    daemon.settled();
    assert_eq!(count(&daemon), 7);
}

#[test]
fn removals_in_many_commits_count_as_one() {
    let mut daemon = fleet(6, "");
    // The first goes; from then on each one more is too many, whatever is done between.
    daemon.without("t00");
    daemon.push();
    daemon.settled();
    daemon.wait("it goes", || (count(&daemon) == 5).then_some(()));
    for (round, name) in ["t01", "t02", "t03", "t04"].into_iter().enumerate() {
        daemon.without(name);
        let commit = daemon.push();
        let waiting = held(&daemon, &commit);
        let gone: Vec<String> = names(6).into_iter().take(2 + round).collect();
        assert_eq!(waiting.tenants, gone);
        assert!(waiting.reason.contains("with the 1 that were removed within 24h"), "{waiting:?}");
        match round {
            0 => daemon.restart(),
            1 => {
                daemon.end(Signal::KILL);
                daemon.start();
            }
            _ => {}
        }
        held(&daemon, &commit);
        assert_eq!(count(&daemon), 5);
    }

    // A new name for an old one is a removal.
    for name in ["t02", "t03", "t04"] {
        daemon.tenant(name, "");
    }
    daemon.tenant("renamed", "");
    let commit = daemon.push();
    assert_eq!(held(&daemon, &commit).tenants, ["t00", "t01"]);

    // One that removes nobody passes always, and tenants that are added do not thin the others out.
    daemon.tenant("t01", "");
    for n in 1..20 {
        daemon.tenant(&format!("new{n:02}"), "");
    }
    daemon.push();
    daemon.settled();
    daemon.without("t01");
    let commit = daemon.push();
    let waiting = held(&daemon, &commit);
    assert_eq!(waiting.tenants, ["t00", "t01"]);
    assert!(waiting.reason.contains("2 of the 6 tenants"), "{waiting:?}");

    // What was agreed to counts no more.
    daemon.ask(&["approve", plan(&waiting)]).with(0);
    daemon.settled();
    daemon.wait("it goes", || (count(&daemon) == 24).then_some(()));
    daemon.without("t02");
    daemon.push();
    daemon.settled();
    daemon.without("t03");
    let commit = daemon.push();
    assert_eq!(held(&daemon, &commit).tenants, ["t02", "t03"]);
}

#[test]
fn a_wrong_file_in_the_place_of_a_removed_tenant_brings_nobody_back() {
    let mut daemon = fleet(6, "");
    daemon.without("t00");
    daemon.push();
    daemon.settled();
    daemon.wait("it goes", || (count(&daemon) == 5).then_some(()));
    daemon.tenant("t00", "wrong: key\n");
    daemon.without("t01");
    let commit = daemon.push();
    assert_eq!(held(&daemon, &commit).tenants, ["t00", "t01"]);
    // Nor does one that passes by itself, and a restart.
    daemon.tenant("t01", "");
    let commit = daemon.push();
    daemon.wait("it is in force", || (daemon.status().source.applied == at(&commit)).then_some(()));
    daemon.restart();
    daemon.without("t01");
    let commit = daemon.push();
    assert_eq!(held(&daemon, &commit).tenants, ["t00", "t01"]);
    assert_eq!(count(&daemon), 5);
    // Once it runs again, it is back.
    daemon.tenant("t00", "");
    daemon.push();
    daemon.wait("it goes", || (!daemon.ids().contains_key("t01")).then_some(()));
    daemon.wait("it is back", || (count(&daemon) == 5).then_some(()));
}

#[test]
fn one_that_came_back_counts_no_more() {
    let daemon = fleet(6, "");
    for _ in 0..3 {
        daemon.without("t00");
        daemon.push();
        daemon.settled();
        daemon.tenant("t00", "");
        daemon.push();
        daemon.settled();
    }
    daemon.without("t01");
    daemon.push();
    daemon.settled();
    daemon.wait("it goes", || (count(&daemon) == 5).then_some(()));
}

#[test]
fn a_window_that_is_over_counts_no_more() {
    let window = "guards: {removals: {window: 1s}}";
    let daemon = fleet(12, window);
    daemon.policy(&format!("{window}\n"));
    daemon.push();
    daemon.settled();
    for name in ["t00", "t01", "t02"] {
        daemon.without(name);
        daemon.push();
        daemon.settled();
        std::thread::sleep(std::time::Duration::from_millis(1100));
    }
    daemon.wait("they go", || (count(&daemon) == 9).then_some(()));
}

#[test]
fn a_commit_that_comes_back_needs_nobody() {
    let daemon = fleet(4, "");
    daemon.without("t00");
    daemon.without("t01");
    let commit = daemon.push();
    held(&daemon, &commit);
    daemon.tenant("t00", "");
    daemon.tenant("t01", "");
    daemon.push();
    daemon.settled();
    assert!(daemon.status().source.held.is_none());
    assert_eq!(count(&daemon), 4);
}

#[test]
fn an_emptied_and_a_moved_folder_are_held() {
    let daemon = fleet(1, "");
    daemon.without("t00");
    let commit = daemon.push();
    held(&daemon, &commit);
    daemon.tenant("t00", "");
    daemon.push();
    daemon.settled();
    let repo = &daemon.cli.repo;
    fs::rename(repo.join("tenants"), repo.join("people")).unwrap();
    let commit = daemon.push();
    held(&daemon, &commit);
    fs::create_dir(repo.join("moved")).unwrap();
    for name in ["people", "fleet.yaml"] {
        fs::rename(repo.join(name), repo.join("moved").join(name)).unwrap();
    }
    let commit = daemon.push();
    daemon.wait("it is not in force", || {
        (daemon.status().source.held.map(|held| held.revision) == at(&commit)).then_some(())
    });
    daemon.remove("t00");
    daemon.runs("t00");
}

#[test]
fn no_commit_loosens_the_guard_that_it_is_judged_by() {
    let daemon = fleet(10, "guards: {removals: {percent: 30, atLeast: 5}}");
    // The host has a window of an hour: what is let in below counts.
    daemon.policy("guards: {removals: {percent: 100, atLeast: 1000}}\n");
    daemon.without("t00");
    daemon.without("t01");
    let commit = daemon.push();
    held(&daemon, &commit);
    // Loosened first, the repo's guard is gone; the host's floor stays.
    daemon.tenant("t00", "");
    daemon.tenant("t01", "");
    daemon.push();
    daemon.settled();
    daemon.without("t00");
    daemon.without("t01");
    daemon.push();
    daemon.settled();
    daemon.wait("they are gone", || (count(&daemon) == 8).then_some(()));
    for name in ["t02", "t03"] {
        daemon.without(name);
        daemon.push();
        daemon.settled();
    }
    daemon.wait("they are gone", || (count(&daemon) == 6).then_some(()));
    daemon.without("t04");
    let commit = daemon.push();
    assert_eq!(held(&daemon, &commit).tenants.len(), 5);
    assert_eq!(count(&daemon), 6);
}

#[test]
fn a_first_start_removes_nobody_elses_tenants() {
    let mut other = Daemon::running(&["ant", "bee"]);
    other.stop();
    for name in ["ant", "bee"] {
        other.without(name);
    }
    other.tenant("cat", "");
    other.push();
    // Another daemon's folder of data: nothing is known of what ran here.
    fs::remove_dir_all(&other.host.data_root).unwrap();
    let commit = other.git(&["rev-parse", "HEAD"]);
    other.start();
    let waiting = held(&other, &commit);
    assert_eq!(waiting.tenants, ["ant", "bee"]);
    assert_eq!(count(&other), 2);
    other.ask(&["approve", plan(&waiting)]).with(0);
    other.settled();
    other.wait("they are gone", || (count(&other) == 1).then_some(()));
}

#[test]
fn many_tenants_that_go_at_once_keep_nobody_busy() {
    let daemon = fleet(40, "");
    for name in names(40).iter().skip(5) {
        daemon.without(name);
    }
    let commit = daemon.push();
    let waiting = held(&daemon, &commit);
    daemon.ask(&["approve", plan(&waiting)]).with(0);
    daemon.wait("they are gone", || (count(&daemon) == 5).then_some(()));
    daemon.settled();
    std::thread::sleep(std::time::Duration::from_millis(500));
    let _ = daemon.engine.take_calls();
    std::thread::sleep(std::time::Duration::from_secs(1));
    assert_eq!(daemon.engine.take_calls(), []);
    assert_eq!(daemon.status().tenants.len(), 5);
    daemon.remove("t01");
    daemon.runs("t01");
}
