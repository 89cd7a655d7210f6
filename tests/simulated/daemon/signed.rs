//! Whose commits come into force.

use super::{Daemon, condition};
use crate::signatures::Key;

#[test]
fn only_signed_commits_come_into_force_and_old_ones_only_with_a_person() {
    let mut daemon = Daemon::stopped(&["ant"], "");
    let ada = Key::new(daemon.folder(), "ada", &["-t", "ed25519"]);
    daemon.settings(&format!("verify: {{mode: all, signers: [{{name: ada, key: {:?}}}]}}", ada.public()));
    // The commit is made anew each time: signed, or not.
    let push = |daemon: &Daemon, memory: u32, signed: bool| {
        daemon.tenant("ant", &format!("limits: {{memory: {memory}MiB}}\n"));
        daemon.git(&["add", "--all"]);
        let mut options = if signed { ada.options() } else { Vec::new() };
        options.extend(["commit", "--quiet", "--allow-empty", "--amend", "-m", "limits"].map(str::to_owned));
        daemon.git(&options.iter().map(String::as_str).collect::<Vec<_>>());
        daemon.push_ref("HEAD");
        daemon.git(&["rev-parse", "HEAD"])
    };
    let next = |daemon: &Daemon| daemon.git(&["commit", "--quiet", "--allow-empty", "-m", "next"]);
    let held = |daemon: &Daemon, commit: &str| {
        daemon.wait("it waits", || {
            let source = daemon.status()["source"].clone();
            (source["held"]["revision"] == format!("main@sha1:{commit}")).then_some(source)
        })
    };

    daemon.start();
    let unsigned = daemon.git(&["rev-parse", "HEAD"]);
    assert!(held(&daemon, &unsigned)["applied"].is_null());
    assert_eq!(condition(&daemon.status(), "SourceVerified")["status"], "False");
    assert_eq!(daemon.engine.containers().len(), 0);

    let first = push(&daemon, 100, true);
    daemon.settled();
    assert_eq!(daemon.status()["source"]["signer"], "ada");
    assert_eq!(condition(&daemon.status(), "SourceVerified")["status"], "True");
    assert!(daemon.steps("ant", 0).iter().all(|(step, _)| step.signer.as_deref() == Some("ada")));

    // Neither an unsigned head, nor a signed one that would carry it in.
    next(&daemon);
    let wrong = push(&daemon, 200, false);
    held(&daemon, &wrong);
    next(&daemon);
    let carried = push(&daemon, 201, true);
    assert!(held(&daemon, &carried)["held"]["plan"].is_null());
    assert_eq!(daemon.limit("ant", "Memory"), 100 << 20);

    daemon.git(&["reset", "--quiet", "--hard", &first]);
    next(&daemon);
    let second = push(&daemon, 300, true);
    daemon.settled();
    assert_eq!(daemon.limit("ant", "Memory"), 300 << 20);

    // Somebody who cannot sign puts an old commit back.
    daemon.push_ref(&first);
    let waiting = held(&daemon, &first);
    assert_eq!(waiting["applied"], format!("main@sha1:{second}"));
    assert_eq!(daemon.limit("ant", "Memory"), 300 << 20);
    daemon.ask(&["approve", waiting["held"]["plan"].as_str().unwrap()]).with(0);
    daemon.settled();
    assert_eq!(daemon.limit("ant", "Memory"), 100 << 20);
}
