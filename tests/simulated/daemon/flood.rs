//! Who asks without end: members of the socket's group have their say, and keep nobody else from theirs.

use std::{
    io::{Read, Write},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    thread,
    time::{Duration, Instant},
};

use serde_json::json;
use tenantd::model::Entry;

use super::Daemon;

/// How many clients ask at once.
const CLIENTS: usize = 24;

/// One request. Returns the status, if there is an answer.
fn ask(socket: &Path, method: &str, path: &str, body: &str) -> Option<u16> {
    let mut stream = UnixStream::connect(socket).ok()?;
    let head = format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n\r\n", body.len());
    stream.write_all(format!("{head}{body}").as_bytes()).ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    answer.split(' ').nth(1)?.parse().ok()
}

fn suspension(reason: &str) -> String {
    json!({"reason": reason, "until": (jiff::Timestamp::now() + jiff::SignedDuration::from_hours(2)).to_string()})
        .to_string()
}

fn suspensions(daemon: &Daemon) -> usize {
    daemon.records().iter().filter(|record| matches!(record.entry, Entry::Suspended { .. })).count()
}

#[test]
fn clients_that_ask_without_end_keep_nobody_from_their_turn() {
    let daemon = Daemon::running(&["ant", "bee", "cat"]);
    daemon.proved();
    let socket: PathBuf = daemon.folder().join("socket");
    let (stop, asked) = (AtomicBool::new(false), AtomicU64::new(0));
    let begun = Instant::now();
    thread::scope(|scope| {
        for client in 0..CLIENTS {
            let (socket, stop, asked) = (&socket, &stop, &asked);
            scope.spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    let number = asked.fetch_add(1, Ordering::Relaxed);
                    // Half of them have something changed each time, the others have everything shown.
                    match client % 2 {
                        0 => ask(socket, "POST", "/v1/tenants/ant/suspend", &suspension(&format!("n{number}"))),
                        _ => ask(socket, "GET", "/v1/status", ""),
                    };
                }
            });
        }
        let finish = Finish(&stop);
        for _ in 0..3 {
            daemon.remove("bee");
            daemon.runs("bee");
        }
        daemon.tenant("cat", "limits: {memory: 256MiB}\n");
        daemon.push();
        daemon.wait("a commit is carried out", || (daemon.limit("cat", "Memory") == 256 << 20).then_some(()));
        // One command of a person, as whatever user.
        daemon.ask(&["suspend", "cat", "--reason", "by hand", "--until", "1h"]).with(0);
        daemon.ask(&["resume", "cat"]).with(0);
        drop(finish);
    });
    // Fifty at once, then ten a second, whoever many clients they are.
    let most = 52 + begun.elapsed().as_secs() * 10 + 10;
    let written = u64::try_from(suspensions(&daemon)).unwrap();
    let asked = asked.load(Ordering::Relaxed);
    assert!(written <= most, "{written} of {asked} in {:?}", begun.elapsed());
    daemon.verified();
}

/// Ends the clients, however the test ends.
struct Finish<'a>(&'a AtomicBool);

impl Drop for Finish<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn what_changes_nothing_is_not_written_down() {
    let daemon = Daemon::running(&["ant"]);
    let socket = daemon.folder().join("socket");
    let body = suspension("the same");
    for _ in 0..20 {
        assert_eq!(ask(&socket, "POST", "/v1/tenants/ant/suspend", &body), Some(200));
    }
    assert_eq!(suspensions(&daemon), 1);
    assert_eq!(ask(&socket, "POST", "/v1/tenants/ant/suspend", &suspension("another")), Some(200));
    assert_eq!(suspensions(&daemon), 2);
}

#[test]
fn who_asks_too_often_is_reported_when_to_come_again() {
    let daemon = Daemon::running(&["ant"]);
    let socket = daemon.folder().join("socket");
    // More than wait for their turn.
    let answers: Vec<Option<u16>> = thread::scope(|scope| {
        let asked: Vec<_> = (0..150)
            .map(|number| {
                let socket = &socket;
                scope.spawn(move || {
                    // Held up by nobody's body: each has its place at once.
                    thread::sleep(Duration::from_millis(number / 10));
                    ask(socket, "POST", "/v1/reconcile/ant", "")
                })
            })
            .collect();
        asked.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let with = |status| answers.iter().filter(|answer| **answer == Some(status)).count();
    assert!(with(202) >= 50 && with(429) > 0, "{answers:?}");
    // A command asks again by itself.
    daemon.ask(&["reconcile", "ant"]).with(0);
}
