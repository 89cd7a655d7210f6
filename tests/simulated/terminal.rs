//! What tenants and committers wrote, shown on a real terminal, in a pipe, and in files for programs.

use std::{
    fs,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use serde_json::json;

use crate::{
    cli::{Cli, bare, end},
    daemon::Daemon,
    origin::{command as git_command, git},
    report::Written,
    statuses, web,
};

/// A title, a hidden text, a text that is turned around, a C1 control and one without width.
const HOSTILE: &str = "x\u{1b}]0;t\u{7}\u{1b}[8mh\u{202e}\u{9b}31m\u{200b}";

/// What it becomes.
const SHOWN: &str = "x\\u{1b}]0;t\\u{7}\\u{1b}[8mh\\u{202e}\\u{9b}31m\\u{200b}";

/// Runs a command on a terminal of its own, and returns all that the terminal gets.
fn on_terminal(command: &Command) -> Vec<u8> {
    let quoted = |word: &std::ffi::OsStr| format!("'{}'", word.to_str().unwrap().replace('\'', "'\\''"));
    let words: Vec<String> = std::iter::once(command.get_program()).chain(command.get_args()).map(quoted).collect();
    let mut script = Command::new("script");
    script.args(["--quiet", "--command", &words.join(" "), "/dev/null"]);
    script.env_clear().env("PATH", "/usr/bin:/bin").env("TERM", "xterm").env("SHELL", "/bin/sh");
    let output = script.stdin(Stdio::null()).output().unwrap();
    output.stdout
}

/// Fails where anything but tenantd's own colours drives the terminal. Returns the text without them.
#[track_caller]
fn harmless(what: &str, bytes: &[u8]) -> String {
    let mut text = String::from_utf8(bytes.to_vec()).unwrap_or_else(|e| panic!("{what}: {e}"));
    // The terminal's own ends of lines, and what the terminal shows of the end of input.
    text = text.replace("\r\n", "\n").replace("^D\u{8}\u{8}", "");
    for colour in ["0", "1", "2", "3", "31", "32", "33", "34", "35"] {
        text = text.replace(&format!("\u{1b}[{colour}m"), "");
    }
    let drives = |c: char| {
        (c.is_control() && c != '\n' && c != '\t')
            || matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
    };
    let bad: Vec<char> = text.chars().filter(|c| drives(*c)).collect();
    assert!(bad.is_empty(), "{what}: {bad:?} in {text:?}");
    text
}

#[test]
fn logs_are_escaped_on_a_terminal_and_raw_in_a_pipe() {
    let cli = Cli::new(&["ant"]);
    cli.apply().with(0);
    let bytes = [HOSTILE.as_bytes(), b"\r\n50%\r99%\n\xff\xe6\xbc"].concat();
    cli.world.engine.with(|state| {
        // Frames end within a character and within a sequence.
        state.printed = bytes.chunks(5).map(|part| (1, part.to_vec())).collect();
        state.printed.push((2, b"\x1b[2Jerr\n".to_vec()));
    });
    let shown = harmless("logs", &on_terminal(&cli.command(&["logs", "ant"])));
    assert!(shown.contains(&format!("{SHOWN}\n50%\\r99%\n")), "{shown:?}");
    assert!(shown.contains("\\u{1b}[2Jerr\n") && shown.contains("\\xff\\xe6\\xbc"), "{shown:?}");
    let piped = cli.command(&["logs", "ant"]).output().unwrap();
    assert_eq!(piped.stdout, [b"output of tenantd-ant\n", bytes.as_slice()].concat());
    assert_eq!(piped.stderr, b"\x1b[2Jerr\n");
}

/// A repo with a commit whose author and subject are hostile, and a journal with hostile records.
fn world() -> (Cli, String) {
    let cli = Cli::uncommitted(&["ant"]);
    git(&cli.repo, &["init", "--quiet", "--initial-branch=main", "."]);
    let commit = |subject: &str, time: &str| {
        git(&cli.repo, &["add", "--all", "."]);
        let mut command = git_command(&cli.repo, &["commit", "--quiet", "--message", subject]);
        command.env("GIT_COMMITTER_DATE", time).env("GIT_AUTHOR_DATE", time).env("GIT_AUTHOR_NAME", HOSTILE);
        assert!(command.status().unwrap().success());
    };
    commit("first", "2026-09-01T00:00:00Z");
    cli.tenant("ant", "limits: {memory: 256MiB}\n");
    commit(HOSTILE, "2026-10-05T10:00:00Z");
    let mut journal = Written::new("2026-10-03T00:00:00Z");
    journal.step("2026-10-04T00:00:00Z", "ant", "drift", "failed");
    journal.step("2026-10-04T00:00:00Z", HOSTILE, "drift", "failed");
    let suspended = json!({"type": "suspended", "tenant": "ant", "reason": HOSTILE, "until": "2026-12-01T00:00:00Z", "by": HOSTILE});
    journal.add("2026-10-05T00:00:00Z", suspended);
    let refused = json!({"type": "refused", "tenant": "ant", "destination": HOSTILE, "rule": "not-listed", "count": 3});
    journal.add("2026-10-06T00:00:00Z", refused);
    journal.add("2026-10-07T00:00:00Z", json!({"type": "lost", "records": 1, "reason": HOSTILE}));
    let journal = journal.into_folder(cli.world.folder().join("copy")).display().to_string();
    (cli, journal)
}

#[test]
fn no_text_of_others_drives_a_terminal_whatever_shows_it() {
    let (cli, journal) = world();
    let repo = cli.repo.to_str().unwrap();
    let period = ["--from", "2026-10-01T00:00:00Z", "--to", "2026-10-31T00:00:00Z"];
    let report = |format| {
        [&["audit", "report", "--repo", repo, "--journal", &journal, "--format", format], &period[..]].concat()
    };
    fs::create_dir_all(cli.world.host.data_root.join("archive")).unwrap();
    fs::create_dir_all(cli.world.host.data_root.join(format!("archive/ant.{HOSTILE}"))).unwrap();
    for (words, shows) in [
        (vec!["history", "--repo", repo], true),
        (vec!["history", "--repo", repo, "--format", "json"], false),
        (vec!["history", "--repo", repo, "--format", "csv"], true),
        (vec!["explain", "ant", "--repo", repo, "--journal", &journal], true),
        (vec!["events", "--journal", &journal], true),
        (vec!["events", "--journal", &journal, "--format", "json"], false),
        (report("text"), true),
        (report("md"), true),
        (report("html"), true),
        (report("json"), false),
        (report("csv"), true),
        (vec!["workspace", "list"], true),
    ] {
        let command = cli.command(&words);
        let shown = harmless(&words.join(" "), &on_terminal(&command));
        assert!(!shows || shown.contains("\\u{202e}\\u{9b}31m\\u{200b}"), "{words:?} shows it: {shown}");
        // What is for people is the same in a pipe.
        let piped = cli.command(&words).output().unwrap();
        let is_text = !words.iter().any(|word| ["json", "csv"].contains(word));
        if is_text {
            harmless(&format!("{words:?} in a pipe"), &piped.stdout);
        }
        harmless(&format!("{words:?}, errors"), &piped.stderr);
    }
}

#[test]
fn csv_in_a_pipe_keeps_the_bytes_and_has_no_formula() {
    let (cli, _) = world();
    let piped = cli.run(&["history", "--repo", cli.repo.to_str().unwrap(), "--format", "csv"]).with(0).out;
    assert!(piped.contains(HOSTILE), "{piped:?}");
    assert!(!piped.contains(",\"=") && !piped.contains(",\"@"), "{piped}");
}

#[test]
fn a_status_and_errors_of_the_daemon_are_readable() {
    let daemon = web::Daemon::new();
    daemon.inner().status = statuses::troubled();
    let file = daemon.folder.path().join("host.yaml");
    fs::write(&file, format!("apiVersion: tenantd/v1\nkind: Host\nsocket: {}\n", daemon.host.socket.display()))
        .unwrap();
    for words in [vec!["status"], vec!["status", "ant"], vec!["status", "wasp"], vec!["status", "--format", "json"]] {
        let mut command = bare(&words);
        command.arg("--host").arg(&file);
        harmless(&words.join(" "), &on_terminal(&command));
    }
}

#[test]
fn names_and_lines_of_files_and_words_of_git_are_readable() {
    let cli = Cli::new(&["ant"]);
    cli.write(&format!("tenants/{HOSTILE}.yaml"), &format!("{HOSTILE}\n"));
    cli.write(
        "tenants/bee.yaml",
        &format!("apiVersion: tenantd/v1\nkind: Tenant\ntenant: bee\n# {HOSTILE}\nteir: x\n"),
    );
    let repo = cli.repo.to_str().unwrap();
    for format in ["text", "json", "sarif", "github"] {
        let command = cli.command(&["validate", repo, "--format", format]);
        harmless(format, &on_terminal(&command));
    }
    for format in ["text", "json", "markdown", "junit", "sarif", "github"] {
        let command = cli.command(&["plan", "--worktree", repo, "--format", format]);
        harmless(format, &on_terminal(&command));
    }
    for words in [vec!["logs", HOSTILE], vec!["plan", repo, "--rev", HOSTILE]] {
        let command = cli.command(&words);
        harmless(&format!("{words:?}"), &on_terminal(&command));
        harmless(&format!("{words:?} in a pipe"), end(command).err.as_bytes());
    }
}

#[test]
fn the_daemons_log_is_one_harmless_line_for_each_event() {
    let mut daemon = Daemon::stopped(&["ant"], "");
    // The engine's own words come into the log.
    let words = format!("{HOSTILE}\n2026-11-29T00:00:00Z  INFO forged");
    daemon.engine.fail(|call| call.path.ends_with("/containers/create"), 500, &words);
    daemon.start_as(daemon.cli.command(&["run", "--log-format", "text"]));
    let deadline = Instant::now() + Duration::from_secs(30);
    while !daemon.log().contains("forged") {
        assert!(Instant::now() < deadline, "the engine's words are logged: {}", daemon.log());
        std::thread::sleep(Duration::from_millis(20));
    }
    let log = harmless("the log", daemon.log().as_bytes());
    assert!(log.contains("\\u{202e}"), "{log}");
    assert!(!log.lines().any(|line| line.starts_with("2026-11-29T00:00:00Z  INFO forged")), "{log}");
}
