//! Waking tenants within `power.memory`: who sleeps for whom, and who is not woken.

use std::{
    io::{Read, Write},
    os::unix::net::UnixStream,
};

use rustix::process::Signal;
use tenantd::{
    model::{Entry, Power, PowerReason, record::StepRecord},
    web::{ClientError, RefusalKind},
};

use super::{
    Daemon,
    ingress::{EXPOSE, is_in_a_network_of_its_own, unique},
    object,
};

/// Each tenant may hold 100 MiB, and two of them find room.
const MEMORY: &str = "power: {memory: 250MiB}";

impl Daemon {
    /// Why tenants got their power, in order.
    fn reasons(&self, tenant: &str) -> Vec<(Power, PowerReason)> {
        let of = |record: tenantd::model::Record| match record.entry {
            Entry::Power { tenant: name, power, reason, .. } if name == tenant => Some((power, reason)),
            _ => None,
        };
        self.records().into_iter().filter_map(of).collect()
    }

    /// Puts tenants to sleep that nobody needs.
    fn asleep(&self, tenants: &[&str]) {
        for tenant in tenants {
            self.ask(&["sleep", tenant]).with(0);
        }
        for tenant in tenants {
            self.wait(&format!("nothing of {tenant} is left"), || {
                self.status_of(tenant).filter(|reason| reason == "Asleep")
            });
        }
    }

    /// The numbers of the steps of a tenant after a record.
    fn intents(&self, tenant: &str, after: u64, is_wanted: impl Fn(&StepRecord) -> bool) -> Vec<u64> {
        let steps = self.steps(tenant, after).into_iter().filter(|(step, _)| is_wanted(step));
        steps.filter_map(|(_, outcome)| Some(outcome?.intent)).collect()
    }

    /// Waits until a tenant runs as it should.
    #[track_caller]
    fn as_declared(&self, tenant: &str) {
        self.wait("it is as declared", || (self.reason(tenant) == "ReconciliationSucceeded").then_some(()));
    }

    fn status_of(&self, tenant: &str) -> Option<String> {
        let reason = self.reason(tenant);
        (self.state(&object(tenant)).is_empty() && self.networks(tenant).is_empty()).then_some(reason)
    }

    /// Wakes a tenant by a request while these have some in hand, and waits until it runs.
    #[track_caller]
    fn woken(&self, tenant: &str, in_hand: &[&str]) {
        self.wake_beside(tenant, Some(in_hand)).unwrap();
        self.reachable_as(tenant, |one| one.running);
    }

    /// Why there is no room for a tenant.
    #[track_caller]
    fn not_woken_for_memory(&self, tenant: &str, in_hand: Option<&[&str]>) -> String {
        let Err(ClientError::Refused(refusal)) = self.wake_beside(tenant, in_hand) else { panic!("{tenant} is woken") };
        assert_eq!(refusal.kind, RefusalKind::Capacity, "{refusal:?}");
        refusal.message
    }

    fn metric(&self, name: &str) -> f64 {
        let mut stream = UnixStream::connect(self.folder().join("socket")).unwrap();
        stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok());
        line.unwrap_or_else(|| panic!("there is no {name} in\n{text}"))
    }
}

fn lines() -> String {
    format!("{EXPOSE}limits: {{memory: 100MiB}}\n")
}

#[test]
fn the_one_that_nobody_used_the_longest_sleeps_for_another() {
    if !is_in_a_network_of_its_own() {
        return;
    }
    let names = ["ant", "bee", "cat", "dog"].map(unique);
    let [ant, bee, cat, dog] = names.each_ref().map(String::as_str);
    let (daemon, _kernel) = Daemon::exposing(&[ant, bee, cat, dog], &[ant, bee, cat, dog], &lines(), MEMORY);
    assert_eq!(daemon.state(&object(dog)), "running", "what is declared runs, whatever the bound");
    daemon.asleep(&[ant, bee, cat, dog]);
    daemon.woken(ant, &[ant]);
    daemon.woken(bee, &[bee]);
    let before = daemon.head();
    daemon.woken(cat, &[bee, cat]);
    daemon.wait("ant sleeps", || daemon.status_of(ant));
    assert_eq!(daemon.reasons(ant).pop(), Some((Power::Asleep, PowerReason::MadeRoom { woken: cat.to_owned() })));
    assert_eq!(daemon.state(&object(bee)), "running");
    // One has gone before the other comes, so that there is never more than fits.
    let last = daemon.intents(ant, before, |step| step.resource == "container").into_iter().max();
    let first = daemon.intents(cat, before, |_| true).into_iter().min();
    assert!(last.is_some() && last < first, "{last:?} {first:?}");

    // The last request for bee ends before that for cat.
    daemon.wake_beside(cat, Some(&[cat])).unwrap();
    daemon.woken(ant, &[ant]);
    assert_eq!(daemon.reasons(bee).pop(), Some((Power::Asleep, PowerReason::MadeRoom { woken: ant.to_owned() })));
    assert_eq!(daemon.reasons(cat).last().map(|(power, _)| *power), Some(Power::Running));
    // An operator's start makes room as well.
    daemon.ask(&["start", dog]).with(0);
    daemon.runs(dog);
    daemon.wait("another sleeps", || [ant, cat].iter().find_map(|one| daemon.status_of(one)));

    let events = daemon.ask(&["events", "--tenant", ant]).with(0).out;
    assert!(events.contains(&format!("asleep, to make room in memory for {cat}")), "{events}");
    assert_eq!(daemon.metric("tenantd_power_evictions_total"), 3.0);
    assert_eq!(daemon.metric("tenantd_power_memory_limit_bytes"), 250.0 * 1024.0 * 1024.0);
    daemon.wait("two of them hold memory", || {
        let status = daemon.status().memory?;
        (status.held == 200 << 20 && status.limit == 250 << 20).then_some(())
    });
    let status = daemon.ask(&["status"]).with(0).out;
    assert!(status.contains("200MiB of 250MiB are held"), "{status}");
    daemon.converged();
}

#[test]
fn nobody_is_woken_for_whom_there_is_no_memory() {
    if !is_in_a_network_of_its_own() {
        return;
    }
    let names = ["ant", "bee", "cat", "dog"].map(unique);
    let [ant, bee, cat, dog] = names.each_ref().map(String::as_str);
    let (daemon, _kernel) = Daemon::exposing(&[ant, bee, cat, dog], &[ant, bee, cat], &lines(), MEMORY);
    daemon.asleep(&[ant, bee, cat, dog]);
    daemon.woken(ant, &[ant]);
    // One of the two was started by an operator, the other one is used.
    daemon.ask(&["start", bee]).with(0);
    daemon.as_declared(bee);
    for _ in 0..3 {
        let message = daemon.not_woken_for_memory(cat, Some(&[ant, cat]));
        assert!(
            message.contains("may hold 100MiB") && message.contains("power.memory of this host (250MiB)"),
            "{message}"
        );
    }
    let error = daemon.ask(&["start", cat]).with(1).err;
    assert!(error.contains("leaves no room for it"), "{error}");
    assert_eq!(daemon.reasons(cat)[1..], [(Power::Asleep, PowerReason::NoRoom)], "once");
    let status = daemon.ask(&["status", cat]).with(0).out;
    assert!(status.contains("since power.memory of this host leaves no room for it"), "{status}");
    assert_eq!(daemon.metric("tenantd_power_refused_wakes_total"), 4.0);
    assert_eq!((daemon.state(&object(ant)), daemon.state(&object(bee))), ("running".to_owned(), "running".to_owned()));

    // Paused it holds its memory: who is woken from there needs none.
    daemon.ask(&["pause", ant]).with(0);
    daemon.wait("it is frozen", || (daemon.state(&object(ant)) == "paused").then_some(()));
    daemon.not_woken_for_memory(cat, Some(&[cat]));
    daemon.woken(ant, &[ant]);
    // It is not used any more, and was woken by a request.
    daemon.woken(cat, &[cat]);
    daemon.wait("ant sleeps", || daemon.status_of(ant));
    assert_eq!(daemon.state(&object(bee)), "running", "an operator started it");
    daemon.not_woken_for_memory(ant, Some(&[ant, cat]));
    // Who waits for a time that is over waits for room, too.
    daemon.ask(&["sleep", ant, "--until", "3s"]).with(0);
    daemon.wait("there is no room for it", || {
        // It runs: this says that it is used.
        daemon.wake_beside(cat, Some(&[cat])).unwrap();
        let last = daemon.reasons(ant).pop()?;
        (last == (Power::Asleep, PowerReason::NoRoom)).then_some(())
    });
    daemon.ask(&["sleep", bee]).with(0);
    daemon.runs(ant);
    assert_eq!(daemon.reasons(ant).pop(), Some((Power::Running, PowerReason::TimeUp)));
}

#[test]
fn a_kill_between_putting_one_to_sleep_and_waking_the_other_loses_neither() {
    if !is_in_a_network_of_its_own() {
        return;
    }
    let names = ["ant", "bee", "cat"].map(unique);
    let [ant, bee, cat] = names.each_ref().map(String::as_str);
    let (mut daemon, _kernel) = Daemon::exposing(&[ant, bee, cat], &[ant, bee, cat], &lines(), MEMORY);
    daemon.asleep(&[ant, bee, cat]);
    daemon.woken(ant, &[ant]);
    daemon.woken(bee, &[bee]);
    let container = daemon.id(&object(ant));
    daemon.engine.hang(move |call| call.mutates() && call.path.contains(&container));
    daemon.wake_beside(cat, Some(&[bee, cat])).unwrap();
    daemon.wake_beside(cat, Some(&[bee, cat])).unwrap();
    assert_eq!(daemon.reasons(cat).pop().map(|(power, _)| power), Some(Power::Asleep), "it waits");
    daemon.end(Signal::KILL);
    daemon.engine.heal();
    daemon.start();
    daemon.reachable_as(cat, |one| one.running);
    daemon.wait("ant sleeps", || daemon.status_of(ant));
    daemon.as_declared(cat);
    assert_eq!(daemon.state(&object(bee)), "running");
    assert_eq!(daemon.reasons(cat).pop(), Some((Power::Running, PowerReason::Wake)));
    let asleep = (Power::Asleep, PowerReason::MadeRoom { woken: cat.to_owned() });
    assert_eq!(daemon.reasons(ant).pop(), Some(asleep), "once, and it does not come back");
    daemon.converged();
}
