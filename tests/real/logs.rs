//! What tenants print: shown per tenant, followed, and bounded on disk.

use std::{
    fs,
    io::{BufRead, BufReader},
    process::Stdio,
    sync::mpsc,
    thread,
    time::Duration,
};

use serde_json::json;

use crate::{
    engine::said,
    fleet::{Fleet, case, code, eventually, run},
};

#[test]
fn logs_are_shown_followed_and_bounded() {
    let fleet = Fleet::start("logs");
    fleet.policy("logs: {maxSize: 64KiB, maxFiles: 2}\n");
    fleet.declare("acme", "environment: {AGENT_INTERVAL: '1'}\n");
    fleet.declare("beta", "");
    fleet.converge();
    fleet.cases(vec![
        case("only the tenant's own lines", own_lines),
        case("followed", followed),
        case("what went to standard error apart", apart),
        case("rotated by size", rotated),
        case("compressed once rotated", compressed),
        case("a tenant that is none", nobody),
    ]);
    fleet.end();
}

fn own_lines(fleet: &Fleet) {
    for (tenant, other) in [("acme", "beta"), ("beta", "acme")] {
        eventually("the agent has begun", || said(&run(fleet.tenantd(&["logs", tenant]))).contains("serves port"));
        let output = run(fleet.tenantd(&["logs", tenant]));
        let printed = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(
            printed.contains(&format!("agent on {tenant} serves port 8080")),
            "{tenant}'s line is shown:\n{printed}"
        );
        assert!(!printed.contains(&format!("on {other} ")), "none of {other}'s is:\n{printed}");
        assert!(output.stderr.is_empty(), "nothing went to standard error: {}", said(&output));
    }
    let printed = said(&run(fleet.tenantd(&["logs", "beta", "--tail", "1", "--timestamps"])));
    assert_eq!(printed.lines().count(), 1, "so many lines as were asked for:\n{printed}");
    assert!(printed.starts_with("20") && printed.contains('T'), "with the time:\n{printed}");
}

fn followed(fleet: &Fleet) {
    let mut follower =
        fleet.tenantd_itself(&["logs", "acme", "-f", "--tail", "0"]).stdout(Stdio::piped()).spawn().unwrap();
    let lines = BufReader::new(follower.stdout.take().unwrap()).lines();
    let (sender, receiver) = mpsc::channel();
    let reader = thread::spawn(move || lines.map_while(Result::ok).for_each(|line| drop(sender.send(line))));
    let mut seen = Vec::new();
    for _ in 0..2 {
        let line = receiver.recv_timeout(Duration::from_secs(10)).expect("a new line comes while it is followed");
        assert!(line.starts_with("agent is up "), "it is the tenant's: {line}");
        assert!(!seen.contains(&line), "each line comes once: {seen:?} {line}");
        seen.push(line);
    }
    // The follower ends with the container.
    fleet.engine.must("POST", "/containers/tenantd-acme/stop?t=5", None);
    eventually("the follower has ended", || follower.try_wait().unwrap().is_some());
    assert!(follower.wait().unwrap().success(), "without an error");
    reader.join().unwrap();
    let last = receiver.try_iter().last().unwrap_or_default();
    assert_eq!(last, "agent stops", "the last line is there");
    fleet.converge();
}

fn apart(fleet: &Fleet) {
    fleet.declare("loud", "command: [no-such-word]\n");
    assert_eq!(fleet.apply().0, 1, "the agent knows no such word, and ends");
    let output = run(fleet.tenantd(&["logs", "loud"]));
    assert!(String::from_utf8_lossy(&output.stderr).contains("agent [COMMAND]"), "standard error: {}", said(&output));
    assert!(output.stdout.is_empty(), "standard output is empty: {}", said(&output));
    fleet.undeclare("loud");
    fleet.converge();
}

fn rotated(fleet: &Fleet) {
    // Some 40 times the bound.
    fleet.declare("loud", "command: [print, '1500000']\n");
    fleet.apply();
    let id = fleet.engine.identity("tenantd-loud").0;
    eventually("the agent has ended", || fleet.engine.inspect(&id)["State"]["Status"] == "exited");
    let folder = fleet.engine.dir().join(format!("engine/data/containers/{id}"));
    let files: Vec<(String, u64)> = fs::read_dir(folder)
        .unwrap()
        .flatten()
        .map(|entry| (entry.file_name().to_string_lossy().into_owned(), entry.metadata().unwrap().len()))
        .filter(|(name, _)| name.contains("-json.log"))
        .collect();
    let total: u64 = files.iter().map(|(_, size)| size).sum();
    assert!(files.len() <= 2, "so many files as the policy says: {files:?}");
    assert!(total < 200 << 10, "of the size that it says: {files:?}");
    let printed = run(fleet.tenantd(&["logs", "loud"]));
    assert_eq!(code(&printed), 0, "what is left can be shown");
    let lines = String::from_utf8_lossy(&printed.stdout).into_owned();
    assert!(lines.lines().count() > 100, "the last lines are there: {}", lines.lines().count());
    fleet.undeclare("loud");
    fleet.converge();
}

fn compressed(fleet: &Fleet) {
    fleet.policy("logs: {maxSize: 64KiB, maxFiles: 2, compress: true}\n");
    fleet.converge();
    let options = fleet.engine.inspect("tenantd-beta")["HostConfig"]["LogConfig"]["Config"].clone();
    assert_eq!(options, json!({"compress": "true", "max-file": "2", "max-size": "65536"}), "for those that ran, too");
    fleet.declare("loud", "command: [print, '1500000']\n");
    fleet.apply();
    let id = fleet.engine.identity("tenantd-loud").0;
    eventually("the agent has ended", || fleet.engine.inspect(&id)["State"]["Status"] == "exited");
    let rotated = fleet.engine.dir().join(format!("engine/data/containers/{id}/{id}-json.log.1.gz"));
    eventually("the rotated file is compressed", || rotated.exists());
    let printed = run(fleet.tenantd(&["logs", "loud"]));
    assert_eq!(code(&printed), 0, "it is shown all the same: {}", said(&printed));
    assert!(String::from_utf8_lossy(&printed.stdout).lines().count() > 100, "with the lines that were compressed");
    fleet.undeclare("loud");
    fleet.policy("logs: {maxSize: 64KiB, maxFiles: 2}\n");
    fleet.converge();
}

fn nobody(fleet: &Fleet) {
    let output = run(fleet.tenantd(&["logs", "nobody"]));
    assert_eq!(code(&output), 1, "a tenant that has no container has no logs");
    assert!(said(&output).contains("nobody"), "which is said: {}", said(&output));
}
