//! The real binary against the simulated engine: what it prints, and how it ends.

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use crate::{
    repo,
    world::{World, image},
};

pub const FLEET: &str = "\
apiVersion: tenantd/v1
kind: Fleet
defaults:
  tier: free
  image: tenantd/test:1
";

/// A tenant file, with further lines. What is archived from an earlier time stays there.
pub fn file(name: &str, more: &str) -> String {
    let answer = if more.is_empty() || more.ends_with('\n') { "workspace: {restore: none}\n" } else { "" };
    bare_file(name, &format!("{more}{answer}"))
}

/// A tenant file that says nothing of what is archived.
fn bare_file(name: &str, more: &str) -> String {
    format!("apiVersion: tenantd/v1\nkind: Tenant\ntenant: {name}\n{more}")
}

/// An engine, a host's settings that lead to it, and a config repo.
pub struct Cli {
    pub world: World,
    pub repo: PathBuf,
    host: PathBuf,
}

/// How a command ended.
#[derive(Debug)]
pub struct Ended {
    pub code: i32,
    pub out: String,
    pub err: String,
}

impl Ended {
    #[track_caller]
    pub fn with(self, code: i32) -> Self {
        assert_eq!(self.code, code, "{}\n{}", self.out, self.err);
        self
    }
}

impl Cli {
    /// A committed repo with these tenants.
    pub fn new(tenants: &[&str]) -> Self {
        let cli = Self::uncommitted(tenants);
        cli.commit();
        cli
    }

    pub fn uncommitted(tenants: &[&str]) -> Self {
        let world = World::new();
        let (repo, host) = (world.folder().join("repo"), world.folder().join("host.yaml"));
        let cli = Self { world, repo, host };
        cli.host_file(&format!("engine: {}\n", cli.world.engine.url()));
        cli.write("fleet.yaml", FLEET);
        for name in tenants {
            cli.tenant(name, "");
        }
        cli
    }

    /// Writes the host's settings, apart from its data root and deadlines.
    pub fn host_file(&self, settings: &str) {
        let root = self.world.host.data_root.display();
        let text = format!(
            "apiVersion: tenantd/v1\nkind: Host\ndataRoot: {root}\ndeadlines: {{call: 10s, start: 30s, stop: 1s}}\n\
             {settings}\nworkspaces: {{backend: folder, unenforced: accept}}\n"
        );
        fs::write(&self.host, text).unwrap();
    }

    pub fn write(&self, path: &str, text: &str) {
        repo::write(&self.repo, &[(path, text)]);
    }

    pub fn tenant(&self, name: &str, more: &str) {
        self.write(&format!("tenants/{name}.yaml"), &file(name, more));
    }

    pub fn commit(&self) -> String {
        repo::commit(&self.repo).to_string()
    }

    /// The command, with the host's settings and nothing of the tester's own environment.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = bare(arguments);
        command.arg("--host").arg(&self.host);
        command
    }

    pub fn run(&self, arguments: &[&str]) -> Ended {
        end(self.command(arguments))
    }

    /// A command about the repo.
    pub fn on_repo(&self, command: &str, options: &[&str]) -> Ended {
        let repo = self.repo.to_str().unwrap();
        self.run(&[&[command, repo], options].concat())
    }

    pub fn plan(&self) -> Ended {
        self.on_repo("plan", &["--detailed-exitcode"])
    }

    pub fn apply(&self) -> Ended {
        self.on_repo("apply", &["--yes"])
    }

    /// An apply that goes on beside the test.
    fn spawn_apply(&self, options: &[&str]) -> Child {
        let repo = self.repo.to_str().unwrap();
        let mut command = self.command(&[&["apply", repo, "--yes"], options].concat());
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    }

    fn json(&self) -> Value {
        serde_json::from_str(&self.on_repo("plan", &["--format", "json"]).out).unwrap()
    }

    /// What is printed, without what differs from run to run: folders, times, and ids, which are
    /// numbered in the order of their first appearance.
    pub fn golden(&self, text: &str) -> String {
        let text = text.replace(self.world.folder().to_str().unwrap(), "[FOLDER]");
        let mut ids: Vec<String> = Vec::new();
        let mut out = String::new();
        for line in text.split_inclusive('\n') {
            let mut rest = line;
            while let Some(start) = rest.find(|c: char| c.is_ascii_alphanumeric()) {
                let length = rest[start..].find(|c: char| !c.is_ascii_alphanumeric()).unwrap_or(rest.len() - start);
                let (before, word) = (&rest[..start], &rest[start..start + length]);
                out.push_str(before);
                let is_id = word.len() >= 12 && word.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
                if is_id {
                    let known = ids.iter().position(|id| id.starts_with(word) || word.starts_with(id.as_str()));
                    let number = known.unwrap_or_else(|| {
                        ids.push(word.to_owned());
                        ids.len() - 1
                    });
                    out.push_str(&format!("[ID {}]", number + 1));
                } else {
                    out.push_str(word);
                }
                rest = &rest[start + length..];
            }
            out.push_str(rest);
        }
        out
    }
}

/// The command alone.
pub fn bare(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tenantd"));
    command.args(arguments).env_clear().stdin(Stdio::null());
    command
}

pub fn end(mut command: Command) -> Ended {
    let output = command.output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Ended { code: output.status.code().unwrap(), out: text(output.stdout), err: text(output.stderr) }
}

fn wait_for(mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !holds() {
        assert!(Instant::now() < deadline, "it never came to hold");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn validate_ends_with_0_or_1() {
    let cli = Cli::uncommitted(&["ant", "bee"]);
    let ended = cli.on_repo("validate", &[]).with(0);
    assert_eq!((ended.out.as_str(), ended.err.as_str()), ("2 tenants valid.\n", ""));
    cli.tenant("bee", "teir: pro\n");
    let ended = cli.on_repo("validate", &[]).with(1);
    assert_eq!(ended.out, "1 error; 1 valid, 1 held.\n");
    assert!(ended.err.contains("tenants/bee.yaml:4:1: error[unknown-key]"), "{}", ended.err);
    let ended = cli.run(&["validate", "/no/such/folder"]).with(1);
    assert!(ended.err.starts_with("error: cannot read /no/such/folder"), "{}", ended.err);
}

#[test]
fn plan_and_apply_end_as_documented() {
    let cli = Cli::new(&["ant", "bee"]);
    cli.on_repo("plan", &[]).with(0);
    cli.plan().with(2);
    let ended = cli.apply().with(0);
    assert!(ended.out.ends_with("\nApply complete: 2 tenants converged, 0 failed, 0 blocked.\n"), "{}", ended.out);
    let ended = cli.plan().with(0);
    assert!(ended.out.ends_with("No changes. The engine matches the configuration.\n"), "{}", ended.out);
    cli.apply().with(0);

    // Blocked: 1 where there are changes beside, and where there are none.
    cli.tenant("cat", "runtime: microvm\n");
    cli.tenant("dog", "");
    cli.commit();
    cli.plan().with(1);
    cli.on_repo("plan", &[]).with(1);
    let ended = cli.apply().with(1);
    assert!(ended.out.ends_with("Apply incomplete: 1 tenant converged, 0 failed, 1 blocked.\n"), "{}", ended.out);
    assert!(cli.plan().with(1).out.ends_with("No changes. 1 tenant blocked.\n"));

    // Failed.
    cli.world.engine.fail(|call| call.path.ends_with("/start"), 500, "no space left on device");
    cli.tenant("elk", "");
    cli.commit();
    let ended = cli.apply().with(1);
    for printed in [&ended.out, &ended.err] {
        let line = printed.lines().find(|line| line.contains("elk: failed after ")).unwrap();
        assert!(line.ends_with("s: could not start the container: no space left on device"), "{line}");
    }
    // What is wrong with the command line is for its parser to say.
    cli.run(&["plan", "--no-such-option"]).with(2);
}

#[test]
fn a_plan_changes_nothing() {
    let cli = Cli::new(&["ant", "bee"]);
    let before = cli.world.engine.dump();
    cli.plan().with(2);
    cli.json();
    assert_eq!((cli.world.engine.mutations(), cli.world.engine.dump()), (0, before));
    assert!(cli.world.engine.calls().iter().all(|call| call.method == "GET"));
    assert!(!cli.world.host.data_root.exists(), "not even a folder");
}

#[test]
fn a_plan_without_a_change_asks_each_thing_once() {
    let cli = Cli::new(&["ant", "bee", "cat"]);
    cli.apply().with(0);
    let mut inspections: Vec<String> = ["ant", "bee", "cat"]
        .map(|tenant| format!("GET /containers/{}/json", cli.world.id(&format!("tenantd-{tenant}"))))
        .into();
    let _ = cli.world.engine.take_calls();
    cli.plan().with(0);
    let mut calls: Vec<String> =
        cli.world.engine.take_calls().iter().map(|call| format!("{} {}", call.method, call.path)).collect();
    let image = cli.world.engine.with(|state| state.options.images[0].id());
    let reference = "tenantd/test:1";
    inspections.extend(["/_ping", "/info", "/networks", "/containers/json"].map(|path| format!("GET {path}")));
    // By the reference that is declared, and by the id that the containers have.
    inspections.extend([reference, image.as_str()].map(|image| format!("GET /images/{image}/json")));
    calls.sort();
    inspections.sort();
    assert_eq!(calls, inspections);
}

#[test]
fn a_data_root_that_a_newer_tenantd_keeps_is_left_alone_and_said() {
    let cli = Cli::new(&["ant"]);
    cli.apply().with(0);
    let root = &cli.world.host.data_root;
    assert_eq!(fs::read_to_string(root.join("version")).unwrap(), "2\n");
    fs::write(root.join("version"), "3\n").unwrap();
    cli.tenant("ant", "environment: {A: b}\n");
    let (calls, refused) = (cli.world.engine.mutations(), cli.apply().with(1));
    let words = format!(
        "error: {} is kept by a newer tenantd: it has version 3, and this one knows versions up to 2; nothing was changed there\n\
         hint: use the tenantd that keeps it, or a later one; an older one would misread what lies there\n",
        root.display()
    );
    assert!(refused.err.ends_with(&words), "{}", refused.err);
    assert_eq!(cli.world.engine.mutations(), calls);
    fs::write(root.join("version"), "1\n").unwrap();
    cli.apply().with(0);
}

#[test]
fn without_a_terminal_an_apply_needs_yes_and_says_so() {
    let cli = Cli::new(&["ant"]);
    let ended = cli.on_repo("apply", &[]).with(1);
    assert!(ended.out.contains("# container.ant will be created"), "{}", ended.out);
    assert_eq!(ended.err, "error: there is no terminal to ask on\nhint: --yes applies without asking\n");
    assert_eq!(cli.world.engine.mutations(), 0);
    // With nothing to do there is nothing to ask.
    cli.apply().with(0);
    cli.on_repo("apply", &[]).with(0);
}

#[test]
fn on_a_terminal_an_apply_asks() {
    let cli = Cli::new(&["ant"]);
    let on_a_terminal = |answer: &str| {
        let host = cli.world.folder().join("host.yaml");
        let program = env!("CARGO_BIN_EXE_tenantd");
        let line = format!("{program} apply {} --host {}", cli.repo.display(), host.display());
        let mut child = Command::new("script")
            .args(["-qefc", &line, "/dev/null"])
            .env("TERM", "xterm")
            .env_remove("DOCKER_HOST")
            .env_remove("NO_COLOR")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(answer.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        (output.status.code().unwrap(), String::from_utf8(output.stdout).unwrap())
    };
    let (code, out) = on_a_terminal("y\n");
    assert!(out.contains("Only \"yes\" is accepted") && out.contains("Apply cancelled; nothing was changed."), "{out}");
    assert_eq!((code, cli.world.engine.mutations()), (1, 0), "{out}");
    let (code, out) = on_a_terminal("yes\n");
    assert!(code == 0 && out.contains("Apply complete: 1 tenant converged"), "{out}");
    assert!(out.contains("\u{1b}[32m+\u{1b}[0m"), "in colour: {out}");
    cli.plan().with(0);
}

#[test]
fn one_tenant_can_be_planned_and_applied_alone() {
    let cli = Cli::new(&["ant", "bee"]);
    let ended = cli.on_repo("plan", &["--tenant", "ant"]).with(0);
    assert!(ended.out.contains("container.ant") && !ended.out.contains("bee"), "{}", ended.out);
    cli.on_repo("apply", &["--yes", "--tenant", "ant"]).with(0);
    assert_eq!(cli.world.ids().into_keys().collect::<Vec<_>>(), ["ant"]);
    cli.on_repo("plan", &["--tenant", "ant", "--detailed-exitcode"]).with(0);
    cli.on_repo("plan", &["--tenant", "bee", "--detailed-exitcode"]).with(2);
    let ended = cli.on_repo("plan", &["--tenant", "bea"]).with(1);
    assert_eq!(ended.err, "error: there is no tenant \"bea\", declared or running\nhint: did you mean bee?\n");

    // Another tenant's error is not this one's.
    cli.tenant("bee", "teir: pro\n");
    cli.commit();
    cli.on_repo("apply", &["--yes", "--tenant", "ant"]).with(0);
    cli.on_repo("plan", &["--tenant", "bee"]).with(1);
}

#[test]
fn a_revision_is_read_as_it_was_committed() {
    let cli = Cli::new(&["ant"]);
    let first = cli.commit();
    cli.tenant("bee", "");
    let second = cli.commit();
    let repository = git2::Repository::open(&cli.repo).unwrap();
    let object = repository.revparse_single(&first).unwrap();
    repository.tag_lightweight("v1", &object, false).unwrap();
    repository.branch("old", &object.peel_to_commit().unwrap(), false).unwrap();
    // What is not committed is not read.
    cli.tenant("cat", "");

    let summary = |options: &[&str]| {
        let out = cli.on_repo("plan", options).with(0).out;
        let added = out.lines().last().unwrap().split(" to add").next().unwrap().to_owned();
        (out.lines().next().unwrap().to_owned(), added)
    };
    assert_eq!(summary(&[]), (format!("Declared: main@sha1:{second}"), "Plan: 6".to_owned()));
    assert_eq!(summary(&["--rev", "main"]).0, format!("Declared: main@sha1:{second}"));
    for rev in ["v1", "HEAD~1", &first, &first[..12]] {
        assert_eq!(summary(&["--rev", rev]), (format!("Declared: sha1:{first}"), "Plan: 3".to_owned()), "{rev}");
    }
    assert_eq!(summary(&["--rev", "old"]).0, format!("Declared: old@sha1:{first}"));
    assert_eq!(summary(&["--worktree"]).1, "Plan: 9");

    let shown = cli.repo.display();
    for rev in ["nope", "HEAD~9", ""] {
        let ended = cli.on_repo("plan", &["--rev", rev]).with(1);
        assert!(
            ended.err.starts_with(&format!("error: the revision {rev:?} names no commit in {shown}")),
            "{}",
            ended.err
        );
    }
    cli.on_repo("plan", &["--rev", "main", "--worktree"]).with(2);
}

#[test]
fn a_bare_repository_will_do_and_a_plain_folder_only_with_worktree() {
    let cli = Cli::new(&["ant"]);
    let bare = cli.world.folder().join("bare.git");
    git2::build::RepoBuilder::new().bare(true).clone(cli.repo.to_str().unwrap(), &bare).unwrap();
    let ended = cli.run(&["plan", bare.to_str().unwrap()]).with(0);
    assert!(ended.out.starts_with("Declared: main@sha1:"), "{}", ended.out);

    fs::remove_dir_all(cli.repo.join(".git")).unwrap();
    let ended = cli.on_repo("plan", &[]).with(1);
    let shown = cli.repo.display();
    let error = format!(
        "error: {shown} is not a git repository\nhint: name a clone of the config repo, or read a folder that is not committed by --worktree\n"
    );
    assert_eq!(ended.err, error);
    let ended = cli.on_repo("plan", &["--worktree"]).with(0);
    assert!(ended.out.starts_with(&format!("Declared: {shown} (not committed)\n")), "{}", ended.out);

    git2::Repository::init(&cli.repo).unwrap();
    let ended = cli.on_repo("plan", &[]).with(1);
    assert!(ended.err.starts_with("error: the revision \"HEAD\" names no commit in"), "{}", ended.err);
}

#[test]
fn the_engine_is_that_of_the_option_then_the_environment_then_the_hosts_file() {
    let cli = Cli::new(&["ant"]);
    let (of_option, of_environment) = (World::new(), World::new());
    let asked = |world: &World| !world.engine.take_calls().is_empty();
    let run = |with_option: bool, with_environment: bool| {
        let mut command = cli.command(&["plan", cli.repo.to_str().unwrap()]);
        if with_option {
            command.args(["--engine", &of_option.engine.url()]);
        }
        if with_environment {
            command.env("DOCKER_HOST", of_environment.engine.url());
        }
        end(command).with(0);
        [asked(&of_option), asked(&of_environment), asked(&cli.world)]
    };
    assert_eq!(run(true, true), [true, false, false]);
    assert_eq!(run(false, true), [false, true, false]);
    assert_eq!(run(false, false), [false, false, true]);

    for url in ["tcp://127.0.0.1:2375", "ssh://host", "unix://relative", "/var/run/docker.sock"] {
        let ended = cli.on_repo("plan", &["--engine", url]).with(1);
        let error = format!("error: cannot use the engine of --engine: {url:?} is not a unix socket");
        assert!(ended.err.starts_with(&error), "{}", ended.err);
    }
    let with_variable = |url: &str| {
        let mut command = cli.command(&["plan", cli.repo.to_str().unwrap()]);
        command.env("DOCKER_HOST", url);
        end(command)
    };
    let ended = with_variable("tcp://127.0.0.1:2375").with(1);
    assert!(ended.err.starts_with("error: cannot use the engine of DOCKER_HOST: "), "{}", ended.err);
    // An empty variable is the same as none, as it is to docker; an empty option is a slip.
    with_variable("").with(0);
    cli.on_repo("plan", &["--engine", ""]).with(1);

    let ended = cli.on_repo("plan", &["--engine", "unix:///no/such.sock"]).with(1);
    let error = "error: cannot use the engine on /no/such.sock: no Docker Engine answers on /no/such.sock: ";
    assert!(ended.err.starts_with(error), "{}", ended.err);
}

#[test]
fn a_hosts_file_with_an_error_is_refused_with_its_place() {
    let cli = Cli::new(&["ant"]);
    cli.host_file("network: {pool: 8.8.0.0/16}\nparalellism: 3\n");
    let ended = cli.on_repo("plan", &[]).with(1);
    let file = cli.world.folder().join("host.yaml");
    assert!(ended.err.contains(&format!("{}:5:17: error[bad-pool]", file.display())), "{}", ended.err);
    assert!(ended.err.contains(&format!("{}:6:1: error[unknown-key]", file.display())), "{}", ended.err);
    assert!(ended.err.contains("did you mean `parallelism`?"), "{}", ended.err);
    assert!(ended.err.contains("host.yaml is not valid, and no setting of it is used\nhint: "), "{}", ended.err);
    assert_eq!(cli.world.engine.calls().len(), 0);

    // One that was named and is not there is not passed over.
    fs::remove_file(file).unwrap();
    let ended = cli.on_repo("plan", &[]).with(1);
    assert!(ended.err.starts_with("error: cannot read "), "{}", ended.err);
}

#[test]
fn a_hosts_file_is_checked_before_anything_reads_it() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("host.yaml");
    let path = file.to_str().unwrap();
    fs::write(&file, "apiVersion: tenantd/v1\nkind: Host\nresync: 30s\n").unwrap();
    assert_eq!(end(bare(&["validate-host", path])).with(0).out, format!("{path} is valid.\n"));
    fs::write(&file, "apiVersion: tenantd/v1\nkind: Host\nresync: 30\ndataRoot: here\n").unwrap();
    for words in [&["validate-host", path][..], &["validate-host", "--host", path]] {
        let ended = end(bare(words)).with(1);
        let printed = |place: &str| ended.err.contains(&format!("{path}:{place}"));
        assert!(printed("3:") && printed("4:") && ended.out == "2 errors.\n", "{ended:?}");
    }
    let report: Value =
        serde_json::from_str(&end(bare(&["validate-host", path, "--format", "json"])).with(1).out).unwrap();
    let lines: Vec<&Value> = report["findings"].as_array().unwrap().iter().map(|finding| &finding["line"]).collect();
    assert_eq!((&report["valid"], lines), (&json!(false), vec![&json!(3), &json!(4)]));
    let sarif: Value =
        serde_json::from_str(&end(bare(&["validate-host", path, "--format", "sarif"])).with(1).out).unwrap();
    assert_eq!(sarif["runs"][0]["results"].as_array().map(Vec::len), Some(2), "{sarif:#}");
    assert!(end(bare(&["validate-host", path, "--format", "github"])).with(1).out.contains("line=4"));
    let ended = end(bare(&["validate-host", folder.path().join("other.yaml").to_str().unwrap()])).with(1);
    assert!(ended.err.starts_with("error: cannot read ") && ended.out.is_empty(), "{ended:?}");
}

#[test]
fn a_policy_with_an_error_plans_nothing_at_all() {
    let cli = Cli::new(&["ant"]);
    cli.apply().with(0);
    for (path, text) in [("fleet.yaml", "kind: Fleet\n"), ("tiers.yaml", "tiers: {}\n"), ("Tenants/x.yaml", "")] {
        let cli = Cli::new(&["ant"]);
        cli.apply().with(0);
        let mutations = cli.world.engine.mutations();
        cli.write(path, text);
        if path.starts_with("Tenants") {
            fs::remove_dir_all(cli.repo.join("tenants")).unwrap();
        }
        cli.commit();
        let ended = cli.apply().with(1);
        assert!(ended.err.contains("nothing is planned"), "{}", ended.err);
        assert_eq!((cli.world.state("tenantd-ant"), cli.world.engine.mutations()), ("running".into(), mutations));
    }
}

#[test]
fn of_two_applies_the_second_is_refused_and_names_the_first_or_waits() {
    let cli = Cli::new(&["ant"]);
    cli.world.engine.hang(|call| call.path.ends_with("/start"));
    let first = cli.spawn_apply(&[]);
    wait_for(|| cli.world.engine.calls().iter().any(|call| call.path.ends_with("/start")));

    let refused = cli.apply().with(1);
    let lock = cli.world.host.data_root.join("lock");
    let expected = format!(
        "error: refused to apply beside another: another tenantd holds {}: process {}\nhint: let the other one end first; --lock-timeout waits for it\n",
        lock.display(),
        first.id()
    );
    assert_eq!(refused.err, expected);
    let refused = cli.on_repo("apply", &["--yes", "--lock-timeout", "200ms"]).with(1);
    assert!(refused.err.starts_with("waiting: another tenantd holds"), "{}", refused.err);
    // A plan needs no lock.
    cli.on_repo("plan", &[]).with(0);

    let mut second = cli.spawn_apply(&["--lock-timeout", "30s"]);
    let mut said = BufReader::new(second.stderr.take().unwrap());
    let mut line = String::new();
    said.read_line(&mut line).unwrap();
    assert!(line.starts_with("waiting: another tenantd holds"), "{line}");
    cli.world.engine.heal();
    assert!(first.wait_with_output().unwrap().status.success());
    let waited = second.wait_with_output().unwrap();
    let out = String::from_utf8(waited.stdout).unwrap();
    assert!(waited.status.success() && out.ends_with("No changes. The engine matches the configuration.\n"), "{out}");

    let ended = cli.on_repo("apply", &["--yes", "--lock-timeout", "soon"]).with(1);
    assert!(ended.err.starts_with("error: --lock-timeout: \"soon\" is not a length of time"), "{}", ended.err);
}

#[test]
fn an_apply_that_was_killed_holds_no_lock_and_is_finished_by_the_next() {
    let cli = Cli::new(&["ant", "bee"]);
    for at in ["/networks/create", "/containers/create", "/start"] {
        cli.world.engine.hang(move |call| call.path.ends_with(at));
        let mut first = cli.spawn_apply(&[]);
        wait_for(|| cli.world.engine.take_calls().iter().any(|call| call.path.ends_with(at)));
        first.kill().unwrap();
        first.wait().unwrap();
        cli.world.engine.heal();
    }
    // The calls of the killed ones take effect all the same, some of them later than this.
    wait_for(|| cli.world.try_plan(&crate::world::named(&[])).is_ok());
    wait_for(|| cli.apply().code == 0);
    cli.plan().with(0);
    assert_eq!(cli.world.ids().values().map(Vec::len).collect::<Vec<_>>(), [1, 1]);
    assert_eq!(cli.world.network_ids().values().map(Vec::len).collect::<Vec<_>>(), [1, 1]);
}

#[test]
fn a_removed_tenant_leaves_its_workspace_archived() {
    let cli = Cli::new(&["ant", "bee"]);
    cli.apply().with(0);
    fs::write(cli.world.workspace("ant").join("report.txt"), "of last month").unwrap();
    fs::remove_file(cli.repo.join("tenants/ant.yaml")).unwrap();
    cli.commit();
    let ended = cli.apply().with(0);
    assert!(ended.out.contains("# workspace.ant will be archived"), "{}", ended.out);
    assert!(!cli.world.workspace("ant").exists() && cli.world.workspace("bee").exists());
    let [archived] = &cli.world.archived()[..] else { panic!("{:?}", cli.world.archived()) };
    let report = cli.world.host.data_root.join("archive").join(archived).join("report.txt");
    let commit = crate::origin::git(&cli.repo, &["rev-parse", "HEAD"]);
    assert!(archived.starts_with("ant.2") && archived.ends_with(&format!("Z.{}", &commit[..12])), "{archived}");
    assert_eq!(fs::read_to_string(report).unwrap(), "of last month");
    assert_eq!(cli.world.ids().into_keys().collect::<Vec<_>>(), ["bee"]);
    assert_eq!(cli.world.network_ids().into_keys().collect::<Vec<_>>(), ["bee"]);

    // Declared again, it is not made before somebody says what becomes of that.
    cli.write("tenants/ant.yaml", &bare_file("ant", ""));
    cli.commit();
    let ended = cli.apply().with(1);
    assert!(ended.out.contains("Blocked: ant (workspace-archived)"), "{}", ended.out);
    assert!(ended.out.contains(&format!("`workspace: {{restore: {archived}}}`")), "{}", ended.out);
    assert!(!cli.world.workspace("ant").exists());

    // With `none` it begins with an empty one, which is archived in its turn.
    cli.tenant("ant", "");
    cli.commit();
    cli.apply().with(0);
    assert_eq!(fs::read_dir(cli.world.workspace("ant")).unwrap().count(), 0);
    assert_eq!(cli.world.archived().len(), 1);
    fs::remove_file(cli.repo.join("tenants/ant.yaml")).unwrap();
    cli.commit();
    cli.apply().with(0);

    // By its name it is taken back.
    cli.write("tenants/ant.yaml", &bare_file("ant", &format!("workspace: {{restore: {archived}}}\n")));
    cli.commit();
    cli.apply().with(0);
    assert_eq!(fs::read_to_string(cli.world.workspace("ant").join("report.txt")).unwrap(), "of last month");
    assert_eq!(cli.plan().with(0).err, "");

    // What is left is removed when somebody asks, and nothing of anybody else's is given by a commit.
    let [left] = &cli.world.archived()[..] else { panic!("{:?}", cli.world.archived()) };
    cli.run(&["workspace", "delete", left]).with(1);
    cli.run(&["workspace", "delete", left, "--yes"]).with(0);
    assert!(cli.plan().with(2).out.contains(&format!("# archive.{left} will be destroyed")));
    cli.apply().with(0);
    assert_eq!(cli.world.archived().len(), 0);
    cli.tenant("bee", "");
    cli.write("tenants/bee.yaml", &bare_file("bee", &format!("workspace: {{restore: {left}}}\n")));
    cli.commit();
    assert!(cli.plan().with(1).err.contains("error[not-its-own]"));
}

#[test]
fn a_tenant_whose_file_is_wrong_or_lies_elsewhere_is_left_as_it_is() {
    let tamperings: [fn(&Cli); 6] = [
        |cli| cli.tenant("ant", "limits: {pids: 4096}\n"),
        |cli| cli.write("tenants/ant.yaml", ""),
        |cli| cli.write("tenants/ant.yaml", &file("cow", "")),
        |cli| fs::rename(cli.repo.join("tenants/ant.yaml"), cli.repo.join("tenants/ant.yml")).unwrap(),
        |cli| {
            fs::create_dir(cli.repo.join("tenants/eu")).unwrap();
            fs::rename(cli.repo.join("tenants/ant.yaml"), cli.repo.join("tenants/eu/ant.yaml")).unwrap();
        },
        |cli| {
            fs::remove_file(cli.repo.join("tenants/ant.yaml")).unwrap();
            std::os::unix::fs::symlink("../fleet.yaml", cli.repo.join("tenants/ant.yaml")).unwrap();
        },
    ];
    for tamper in tamperings {
        let cli = Cli::new(&["ant", "bee"]);
        cli.apply().with(0);
        let ant = cli.world.id("tenantd-ant");
        tamper(&cli);
        cli.tenant("bee", "limits: {pids: 99}\n");
        cli.commit();
        let ended = cli.apply().with(1);
        assert!(ended.err.contains("error[") && ended.out.contains("Note: ant: held as it is"), "{ended:?}");
        assert_eq!((cli.world.id("tenantd-ant"), cli.world.state("tenantd-ant")), (ant, "running".into()));
        let bee = |state: &mut tenantd_test_support::State| {
            state.container("tenantd-bee").unwrap()["HostConfig"]["PidsLimit"].clone()
        };
        assert_eq!(cli.world.engine.with(bee), 99);
    }
}

#[test]
fn a_tag_that_now_means_another_image_is_a_change_that_names_both() {
    let cli = Cli::new(&["ant"]);
    cli.apply().with(0);
    let id = |cli: &Cli| cli.world.engine.with(|state| state.options.images[0].id());
    let before = id(&cli);
    cli.world.engine.with(|state| state.options.images[0] = image("tenantd/test:1", "rebuilt"));
    let after = id(&cli);
    let ended = cli.plan().with(2);
    let line = ended.out.lines().find(|line| line.contains("image_id")).unwrap();
    assert!(line.contains(&format!("\"{before}\" -> \"{after}\"")), "{line}");
    assert!(line.contains("the reference now means another image, forces replacement"), "{line}");
    cli.apply().with(0);
    cli.plan().with(0);
}

#[test]
fn a_plan_as_json_has_the_shape_that_policies_for_terraform_read() {
    let cli = Cli::new(&["ant"]);
    let plan = cli.json();
    assert_eq!(plan["format_version"], "1.0");
    assert_eq!((&plan["applyable"], &plan["complete"], &plan["errored"]), (&json!(true), &json!(true), &json!(false)));
    let addresses: Vec<&str> =
        plan["resource_changes"].as_array().unwrap().iter().map(|c| c["address"].as_str().unwrap()).collect();
    assert_eq!(addresses, ["workspace.ant", "network.ant", "container.ant"]);
    for change in plan["resource_changes"].as_array().unwrap() {
        assert_eq!(change["change"]["actions"], json!(["create"]));
        assert!(change["change"]["before"].is_null() && change["change"]["after"].is_object());
        assert!(change["change"].get("replace_paths").is_none());
    }
    assert_eq!(plan["resource_drift"], json!([]));

    cli.apply().with(0);
    let plan = cli.json();
    assert_eq!((&plan["applyable"], &plan["complete"]), (&json!(false), &json!(true)));
    assert_eq!((&plan["resource_changes"], &plan["resource_drift"]), (&json!([]), &json!([])));

    // Drift in place, and a replacement by a commit.
    cli.world.act("POST", "/containers/tenantd-ant/update", json!({"PidsLimit": 4096}));
    let plan = cli.json();
    let (change, drift) = (&plan["resource_changes"][0]["change"], &plan["resource_drift"][0]["change"]);
    assert_eq!(change["actions"], json!(["update"]));
    assert_eq!((&change["before"]["pids_limit"], &change["after"]["pids_limit"]), (&json!(4096), &json!(256)));
    assert!(change.get("replace_paths").is_none());
    assert_eq!((&drift["before"], &drift["after"]), (&json!({"pids_limit": 256}), &json!({"pids_limit": 4096})));

    cli.tenant("ant", "command: [/serve]\n");
    cli.commit();
    let plan = cli.json();
    let change = &plan["resource_changes"][0]["change"];
    assert_eq!(change["actions"], json!(["delete", "create"]));
    assert_eq!(change["replace_paths"], json!([["command"]]));

    // Removed.
    fs::remove_file(cli.repo.join("tenants/ant.yaml")).unwrap();
    cli.tenant("bee", "teir: pro\n");
    cli.commit();
    let plan = cli.json();
    let actions: Vec<&Value> =
        plan["resource_changes"].as_array().unwrap().iter().map(|c| &c["change"]["actions"]).collect();
    assert_eq!(actions, [&json!(["delete"]), &json!(["delete"]), &json!(["delete"])]);
    assert_eq!((&plan["errored"], &plan["complete"]), (&json!(true), &json!(false)));

    // Blocked: nothing is done, and it says why.
    let cli = Cli::new(&["ant"]);
    cli.world.foreign("tenantd-ant", "bridge");
    let plan = cli.json();
    assert_eq!((&plan["applyable"], &plan["complete"]), (&json!(false), &json!(false)));
    assert_eq!((&plan["blocked"][0]["tenant"], &plan["blocked"][0]["code"]), (&json!("ant"), &json!("name-taken")));
    let changes = plan["resource_changes"].as_array().unwrap();
    assert!(changes.iter().all(|change| change["change"]["actions"] == json!(["no-op"])));
}

#[test]
fn equal_plans_are_equal_texts() {
    let cli = Cli::new(&["ant", "bee"]);
    let print = || (cli.plan().out, cli.on_repo("plan", &["--format", "json"]).out);
    assert_eq!(print(), print());
}

#[test]
fn a_variable_that_nobody_declared_is_never_shown() {
    const SECRET: &str = "sk-proj-of-somebody";
    let cli = Cli::new(&["ant", "bee"]);
    cli.apply().with(0);
    let set_by_hand = |name: &str| {
        cli.world.tamper(name, |doc| {
            doc["Config"]["Env"].as_array_mut().unwrap().push(format!("KEY={SECRET}").into());
            doc["HostConfig"]["PidsLimit"] = 4096.into();
        });
    };
    set_by_hand("tenantd-ant");
    set_by_hand("tenantd-bee");
    let hidden = |what: &str| {
        for ended in [cli.on_repo("plan", &[]), cli.on_repo("plan", &["--format", "json"])] {
            assert!(!ended.out.contains(SECRET) && !ended.err.contains(SECRET), "{what}: {}", ended.out);
        }
    };
    let text = cli.on_repo("plan", &[]).out;
    assert!(text.contains("\"KEY=(hidden)\""), "{text}");
    hidden("drift");

    // The image that would say which variables are its own is gone.
    cli.world.engine.with(|state| state.options.images.clear());
    hidden("drift without the image");
    cli.tenant("bee", "environment: {MODE: quiet}\n");
    cli.commit();
    hidden("a commit without the image");

    fs::remove_file(cli.repo.join("tenants/ant.yaml")).unwrap();
    cli.commit();
    hidden("removal");
    cli.world.act("POST", "/containers/tenantd-bee/rename?name=elsewhere", Value::Null);
    let copy = json!({
        "Image": "x", "Env": [format!("KEY={SECRET}")], "Labels": {"io.tenantd.tenant": "bee"}
    });
    cli.world.engine.with(|state| state.options.images.push(image("x", "1")));
    cli.world.act("POST", "/containers/create?name=tenantd-bee", copy);
    hidden("a second container");
    let ended = cli.apply();
    assert!(!ended.out.contains(SECRET) && !ended.err.contains(SECRET), "{ended:?}");
}

#[test]
fn logs_are_those_of_the_tenants_container() {
    let cli = Cli::new(&["ant"]);
    cli.apply().with(0);
    assert_eq!(cli.run(&["logs", "ant"]).with(0).out, "output of tenantd-ant\n");
    assert_eq!(
        cli.run(&["logs", "bee"]).with(1).err,
        "error: the tenant bee has no container\nhint: `tenantd status bee` says why\n"
    );
    let ended = cli.run(&["logs", "../ant"]).with(1);
    assert!(ended.err.starts_with("error: cannot show logs: the tenant name \"../ant\" holds"), "{}", ended.err);
}

#[test]
fn a_secret_in_a_file_is_refused_and_not_repeated() {
    let samples = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/samples");
    for sample in ["secret", "secret--value"] {
        let file = samples.join("invalid-hosts").join(sample).with_extension("yaml");
        let ended = end(bare(&["plan", "--host", file.to_str().unwrap()])).with(1);
        assert!(ended.err.contains("error[secret]") && !ended.err.contains("hunter2"), "{}", ended.err);
    }
    let repo = samples.join("invalid/secret");
    let secret = fs::read_to_string(repo.join("tenants/bad.yaml")).unwrap();
    let secret = secret.lines().last().unwrap().rsplit(' ').next().unwrap().trim_matches(['"', '}']);
    let ended = end(bare(&["validate", repo.to_str().unwrap()])).with(1);
    assert!(ended.err.contains("error[secret]") && !ended.err.contains(secret), "{}", ended.err);
}

#[test]
fn the_schemas_of_the_repository_are_up_to_date_and_a_stale_one_is_reported() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let schema = root.join("schema");
    let mut command = bare(&["schema", "--check", "schema", "--reference", "docs/config.md"]);
    command.current_dir(root);
    end(command).with(0);

    let folder = tempfile::tempdir().unwrap();
    let copy = folder.path().to_str().unwrap();
    repo::copy(&schema, folder.path());
    end(bare(&["schema", "--check", copy])).with(0);
    fs::write(folder.path().join("tenant.json"), "{}\n").unwrap();
    fs::remove_file(folder.path().join("host.json")).unwrap();
    let ended = end(bare(&["schema", "--check", copy])).with(1);
    assert!(
        ended.err.contains("host.json") && ended.err.contains("tenant.json") && !ended.err.contains("fleet.json"),
        "{}",
        ended.err
    );
    end(bare(&["schema", "--write", copy])).with(0);
    end(bare(&["schema", "--check", copy])).with(0);
    let printed = end(bare(&["schema", "fleet"])).with(0).out;
    assert_eq!(printed, fs::read_to_string(schema.join("fleet.json")).unwrap());
}
