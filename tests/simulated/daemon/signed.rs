//! Whose commits come into force.

use std::{fs, os::unix::fs::PermissionsExt, process::Command};

use tenantd::model::status::{ConditionKind, Truth};

use super::{Daemon, at, condition};
use crate::signatures::{Gpg, Key};

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
            let source = daemon.status().source;
            (source.held.as_ref().map(|held| &held.revision) == at(commit).as_ref()).then_some(source)
        })
    };

    daemon.start();
    let unsigned = daemon.git(&["rev-parse", "HEAD"]);
    assert!(held(&daemon, &unsigned).applied.is_none());
    assert_eq!(condition(&daemon.status().conditions, ConditionKind::SourceVerified).status, Truth::False);
    assert_eq!(daemon.engine.containers().len(), 0);

    let first = push(&daemon, 100, true);
    daemon.settled();
    assert_eq!(daemon.status().source.signer.as_deref(), Some("ada"));
    assert_eq!(condition(&daemon.status().conditions, ConditionKind::SourceVerified).status, Truth::True);
    assert!(daemon.steps("ant", 0).iter().all(|(step, _)| step.signer.as_deref() == Some("ada")));

    // Neither an unsigned head, nor a signed one that would carry it in.
    next(&daemon);
    let wrong = push(&daemon, 200, false);
    held(&daemon, &wrong);
    next(&daemon);
    let carried = push(&daemon, 201, true);
    assert!(held(&daemon, &carried).held.unwrap().plan.is_none());
    assert_eq!(daemon.limit("ant", "Memory"), 100 << 20);

    daemon.git(&["reset", "--quiet", "--hard", &first]);
    next(&daemon);
    let second = push(&daemon, 300, true);
    daemon.settled();
    assert_eq!(daemon.limit("ant", "Memory"), 300 << 20);

    // Somebody who cannot sign puts an old commit back.
    daemon.push_ref(&first);
    let waiting = held(&daemon, &first);
    assert_eq!(waiting.applied, at(&second));
    assert_eq!(daemon.limit("ant", "Memory"), 300 << 20);
    daemon.ask(&["approve", waiting.held.unwrap().plan.as_deref().unwrap()]).with(0);
    daemon.settled();
    assert_eq!(daemon.limit("ant", "Memory"), 100 << 20);
}

/// A head whose judging takes long, while an operator lets another commit in: it is decided by what is in force then.
#[test]
fn a_head_is_judged_by_what_is_in_force_when_it_is_decided() {
    let mut daemon = Daemon::stopped(&["ant", "bee", "cat", "dog"], "");
    let ada = Key::new(daemon.folder(), "ada", &["-t", "ed25519"]);
    let gpg = Gpg::new("Ada <ada@example.com>", false);
    let (key, home) = (ada.public(), gpg.home.display());
    daemon.settings(&format!("verify: {{mode: all, signers: [{{name: ada, key: {key:?}}}], gnupgHome: {home}}}"));
    let commit = |daemon: &Daemon, options: Vec<String>, words: &[&str]| {
        daemon.git(&["add", "--all"]);
        let options = options.iter().map(String::as_str);
        daemon.git(
            &options.chain(["commit", "--quiet", "-m", "change"]).chain(words.iter().copied()).collect::<Vec<_>>(),
        );
        daemon.push_ref("HEAD");
        daemon.git(&["rev-parse", "HEAD"])
    };
    let first = commit(&daemon, ada.options(), &["--amend"]);

    // GnuPG takes as long as the test wants.
    let [bin, hold, asked] = ["bin", "hold", "asked"].map(|name| daemon.folder().join(name));
    fs::create_dir(&bin).unwrap();
    let wait = format!("touch {}\nwhile [ -e {} ]; do sleep 0.05; done", asked.display(), hold.display());
    let program = format!("#!/bin/sh\n{wait}\nPATH=\"${{PATH#*:}}\" exec gpg \"$@\"\n");
    fs::write(bin.join("gpg"), program).unwrap();
    fs::set_permissions(bin.join("gpg"), fs::Permissions::from_mode(0o755)).unwrap();
    let run = daemon.cli.command(&["run"]);
    let mut command = Command::new("sh");
    command.args(["-c", "PATH=\"$0:$PATH\" exec \"$@\""]).env_clear();
    command.arg(&bin).arg(run.get_program()).args(run.get_args());
    daemon.start_as(command);
    daemon.settled();

    daemon.without("bee");
    daemon.without("cat");
    let second = commit(&daemon, ada.options(), &[]);
    let held = |daemon: &Daemon, commit: &str| {
        daemon.wait("it is held", || {
            let source = daemon.status().source;
            (source.held.as_ref().map(|held| &held.revision) == at(commit).as_ref()).then_some(source)
        })
    };
    let plan = held(&daemon, &second).held.unwrap().plan.unwrap();

    fs::write(&hold, "").unwrap();
    daemon.git(&["reset", "--quiet", "--hard", &first]);
    daemon.tenant("ant", "limits: {memory: 256MiB}\n");
    let beside = commit(&daemon, gpg.options(false), &[]);
    daemon.wait("it is being judged", || asked.exists().then_some(()));
    daemon.ask(&["approve", &plan]).with(0);
    assert_eq!(daemon.status().source.applied, at(&second));
    fs::remove_file(&hold).unwrap();

    let source = held(&daemon, &beside);
    assert_eq!(source.applied, at(&second), "it does not descend from what is in force");
    assert_eq!(daemon.limit("ant", "Memory"), 512 << 20);
}
