//! Ends and starts never touch a running tenant.

use std::{thread::sleep, time::Duration};

use rustix::process::Signal;

use super::Daemon;
use crate::cli;

#[test]
fn ends_and_starts_touch_no_tenant() {
    let mut daemon = Daemon::running(&["ant", "bee", "cat"]);
    daemon.proved();
    let (ids, mutations) = (daemon.ids(), daemon.engine.mutations());
    for signal in [Signal::TERM, Signal::KILL, Signal::INT, Signal::KILL] {
        daemon.end(signal);
        daemon.start();
        daemon.settled();
    }
    // Killed before it has looked around.
    for pause in [0, 20, 50, 100] {
        daemon.end(Signal::KILL);
        daemon.start();
        sleep(Duration::from_millis(pause));
    }
    daemon.settled();
    assert_eq!((daemon.ids(), daemon.engine.mutations()), (ids, mutations));
    daemon.converged();
    daemon.verified();
}

#[test]
fn an_end_during_a_slow_step_leaves_what_the_next_start_goes_on_with() {
    let mut daemon = Daemon::running(&["ant", "bee"]);
    daemon.proved();
    for signal in [Signal::TERM, Signal::KILL] {
        daemon.engine.slow(|call| call.mutates(), Duration::from_millis(700));
        let before = daemon.engine.calls().len();
        daemon.remove("ant");
        daemon.wait("a step is on its way", || {
            daemon.engine.calls()[before..].iter().any(|call| call.mutates()).then_some(())
        });
        let status = daemon.end(signal);
        if signal == Signal::TERM {
            assert_eq!(status.code(), Some(0));
            let intents = daemon.steps("ant", 0);
            assert!(intents.iter().all(|(_, outcome)| outcome.is_some()), "the step in hand was finished");
        }
        daemon.engine.heal();
        daemon.start();
        daemon.runs("ant");
        daemon.settled();
        daemon.converged();
        daemon.verified();
    }
}

#[test]
fn a_start_that_never_returns_does_not_hold_up_the_end() {
    let mut daemon = Daemon::running(&["ant"]);
    daemon.engine.hang(|call| call.mutates());
    daemon.remove("ant");
    daemon.wait("a step hangs", || daemon.engine.calls().last().is_some_and(|call| call.mutates()).then_some(()));
    // A second signal ends the waiting.
    daemon.signal(Signal::TERM);
    sleep(Duration::from_millis(300));
    let status = daemon.end(Signal::TERM);
    assert_eq!(status.code(), Some(0));
    daemon.engine.heal();
    daemon.start();
    daemon.runs("ant");
    daemon.settled();
}

#[test]
fn one_data_root_has_one_master() {
    let daemon = Daemon::running(&["ant"]);
    for command in [vec!["run"], vec!["apply", daemon.bare().to_str().unwrap(), "--rev", "main", "--yes"]] {
        let ended = cli::end(daemon.cli.command(&command));
        assert_eq!(ended.code, 1, "{command:?}");
        assert!(ended.err.contains(&format!("process {}", daemon.pid())), "{}", ended.err);
    }
    assert_eq!(daemon.status().tenants.len(), 1);
}
