//! Tenants that are paused or asleep because somebody asked, and what is left of that after a crash.

use std::{fs, thread::sleep, time::Duration};

use rustix::process::Signal;
use tenantd::model::{
    Entry, Power, PowerReason,
    status::{ConditionKind, Truth},
};

use super::{Daemon, condition, object, shown};

impl Daemon {
    /// Waits until a tenant's condition `Ready` has a reason.
    #[track_caller]
    fn ready_as(&self, tenant: &str, reason: &str) {
        self.wait(&format!("{tenant} is {reason}"), || {
            let status = self.status();
            let one = shown(&status, tenant)?;
            let ready = condition(&one.conditions, ConditionKind::Ready);
            (ready.reason.as_str() == reason
                && ready.status == Truth::True
                && condition(&one.conditions, ConditionKind::Reconciling).status == Truth::False)
                .then_some(())
        });
    }

    /// What was written down of a tenant's power.
    fn powers(&self, tenant: &str) -> Vec<(Power, PowerReason)> {
        let of = |record: tenantd::model::Record| match record.entry {
            Entry::Power { tenant: name, power, reason, .. } if name == tenant => Some((power, reason)),
            _ => None,
        };
        self.records().into_iter().filter_map(of).collect()
    }

    fn addresses(&self, tenant: &str) -> Option<String> {
        let networks = self.engine.networks();
        let network = networks.iter().find(|network| network["Name"] == object(tenant).as_str())?;
        network["IPAM"]["Config"][0]["Subnet"].as_str().map(str::to_owned)
    }
}

#[test]
fn a_tenant_is_paused_put_to_sleep_and_started() {
    let mut daemon = Daemon::running(&["ant", "bee"]);
    daemon.proved();
    let addresses = daemon.addresses("ant");
    let id = daemon.id(&object("ant"));

    daemon.ask(&["pause", "ant"]).with(0);
    daemon.ready_as("ant", "Paused");
    assert_eq!(daemon.state(&object("ant")), "paused");
    // Somebody thaws it, while the daemon runs and while it does not.
    for restart in [false, true] {
        if restart {
            daemon.end(Signal::KILL);
        }
        daemon.act("POST", &format!("/containers/{}/unpause", object("ant")), serde_json::Value::Null);
        if restart {
            daemon.start();
        }
        daemon.wait("it is frozen again", || (daemon.state(&object("ant")) == "paused").then_some(()));
    }
    daemon.ready_as("ant", "Paused");
    daemon.ask(&["start", "ant"]).with(0);
    daemon.runs("ant");
    daemon.settled();
    assert_eq!(daemon.id(&object("ant")), id);

    daemon.ask(&["sleep", "ant"]).with(0);
    daemon.ready_as("ant", "Asleep");
    daemon.wait("its network is gone", || daemon.addresses("ant").is_none().then_some(()));
    assert_eq!(daemon.state(&object("ant")), "");
    // What a commit changes is there when it wakes.
    daemon.tenant("ant", "environment: {A: b}\n");
    daemon.push();
    daemon.end(Signal::KILL);
    daemon.start();
    daemon.ready_as("ant", "Asleep");
    daemon.converged();
    assert_eq!(daemon.state(&object("ant")), "");
    daemon.ask(&["start", "ant"]).with(0);
    daemon.runs("ant");
    daemon.settled();
    daemon.converged();
    assert_eq!(daemon.addresses("ant"), addresses, "its own addresses");
    assert_eq!(daemon.state(&object("bee")), "running");

    let by = |powers: Vec<(Power, PowerReason)>| powers.into_iter().map(|(power, _)| power).collect::<Vec<_>>();
    assert_eq!(by(daemon.powers("ant")), [Power::Paused, Power::Running, Power::Asleep, Power::Running]);
    let error = daemon.ask(&["start", "bee"]).with(1).err;
    assert!(error.contains("neither paused nor asleep"), "{error}");
    let state = fs::read_to_string(daemon.host.data_root.join("state.json")).unwrap();
    assert!(!state.contains("powers"), "nothing is left to know: {state}");
}

#[test]
fn who_is_frozen_and_cannot_be_kept_sleeps_and_that_is_said() {
    let daemon = Daemon::running(&["ant", "bee"]);
    daemon.proved();
    daemon.ask(&["pause", "ant"]).with(0);
    daemon.ready_as("ant", "Paused");
    daemon.tenant("ant", "environment: {A: b}\n");
    daemon.push();
    daemon.ready_as("ant", "Asleep");
    daemon.wait("nothing of it is left", || daemon.addresses("ant").is_none().then_some(()));
    let status = daemon.status();
    let ready = condition(&shown(&status, "ant").unwrap().conditions, ConditionKind::Ready);
    assert!(ready.message.contains("could not be kept"), "{ready:?}");
    assert_eq!(daemon.powers("ant").pop(), Some((Power::Asleep, PowerReason::NotKept)));
    daemon.ask(&["start", "ant"]).with(0);
    daemon.runs("ant");
    daemon.settled();
    daemon.converged();
}

#[test]
fn a_power_ends_when_its_time_is_over() {
    let mut daemon = Daemon::running(&["ant", "bee"]);
    daemon.proved();
    for restart in [false, true] {
        daemon.ask(&["sleep", "ant", "--until", "3s"]).with(0);
        daemon.wait("it sleeps", || daemon.state(&object("ant")).is_empty().then_some(()));
        if restart {
            daemon.stop();
            sleep(Duration::from_secs(3));
            daemon.start();
        }
        daemon.runs("ant");
        daemon.settled();
        let over = daemon.powers("ant").into_iter().filter(|(_, reason)| *reason == PowerReason::TimeUp).count();
        assert_eq!(over, 1 + usize::from(restart));
    }
    let error = daemon.ask(&["pause", "ant", "--until", "tomorrow"]).with(1).err;
    assert!(error.contains("--until takes a time"), "{error}");
}

#[test]
fn who_is_suspended_or_blocked_is_not_started() {
    let daemon = Daemon::running_with(&["ant", "bee"], "ceilings: {memory: 1GiB}");
    daemon.proved();
    daemon.ask(&["suspend", "ant", "--reason", "look", "--until", "1h"]).with(0);
    daemon.act("POST", &format!("/containers/{}/stop", object("ant")), serde_json::Value::Null);
    for power in ["start", "pause", "sleep"] {
        let error = daemon.ask(&[power, "ant"]).with(1).err;
        assert!(error.contains("tenantd resume ant"), "{error}");
    }
    assert_eq!(daemon.state(&object("ant")), "exited");

    daemon.ask(&["pause", "bee"]).with(0);
    daemon.ready_as("bee", "Paused");
    daemon.settings("ceilings: {memory: 1MiB}");
    daemon.signal(Signal::HUP);
    daemon.wait("the ceiling blocks bee", || (daemon.reason("bee") == "Blocked").then_some(()));
    daemon.ask(&["start", "bee"]).with(0);
    daemon.ask(&["reconcile", "bee"]).with(0);
    sleep(Duration::from_millis(300));
    assert_eq!(daemon.state(&object("bee")), "paused");
}

#[test]
fn where_the_state_is_lost_what_does_not_run_sleeps() {
    let damaged: fn(&std::path::Path) = |path| fs::write(path, "{\"version\": 2, \"powers\": [").unwrap();
    let removed: fn(&std::path::Path) = |path| fs::remove_file(path).unwrap();
    for lose in [damaged, removed] {
        let mut daemon = Daemon::running(&["ant", "bee", "cat"]);
        daemon.proved();
        daemon.ask(&["sleep", "ant"]).with(0);
        daemon.ask(&["pause", "bee"]).with(0);
        daemon.ready_as("ant", "Asleep");
        daemon.ready_as("bee", "Paused");
        daemon.end(Signal::KILL);
        lose(&daemon.host.data_root.join("state.json"));
        daemon.start();
        daemon.ready_as("ant", "Asleep");
        daemon.ready_as("bee", "Paused");
        daemon.runs("cat");
        assert_eq!(daemon.powers("ant").pop(), Some((Power::Asleep, PowerReason::StateLost)));
        assert_eq!((daemon.state(&object("ant")), daemon.state(&object("bee"))), (String::new(), "paused".to_owned()));
        // From then on it is as ever: who is new runs, and who falls over is started again.
        daemon.tenant("new", "");
        daemon.push();
        daemon.runs("new");
        daemon.remove("cat");
        daemon.runs("cat");
        daemon.ask(&["start", "ant"]).with(0);
        daemon.runs("ant");
    }
}
