//! Repositories as they are: in a hook, of other owners, in linked work trees, in newer forms. What the daemon follows,
//! the commands read.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
};

use tenantd::source::{FetchError, Mirror};

use crate::{
    cli::{Cli, Ended, end, file},
    daemon::Daemon,
    origin::{command, fetch, git, of_url},
};

/// A fleet that is committed in a work tree, and pushed to a bare repository.
struct Pushed {
    cli: Cli,
    bare: PathBuf,
}

impl Pushed {
    fn new() -> Self {
        let cli = Cli::new(&["ant", "bee"]);
        let bare = cli.world.folder().join("fleet.git");
        git(cli.world.folder(), &["init", "--quiet", "--bare", "--initial-branch=main", "fleet.git"]);
        let pushed = Self { cli, bare };
        pushed.push().with(0);
        git(&pushed.bare, &["config", "uploadpack.allowFilter", "true"]);
        pushed
    }

    fn folder(&self) -> &Path {
        self.cli.world.folder()
    }

    fn head(&self) -> String {
        git(&self.cli.repo, &["rev-parse", "HEAD"])
    }

    /// Pushes what is committed, through the hook of the bare repository if it has one.
    fn push(&self) -> Ended {
        self.push_to(&self.bare)
    }

    fn push_to(&self, repository: &Path) -> Ended {
        let mut push =
            command(&self.cli.repo, &["push", "--quiet", repository.to_str().unwrap(), "HEAD:refs/heads/main"]);
        let program = Path::new(env!("CARGO_BIN_EXE_tenantd")).parent().unwrap().display();
        push.env("PATH", format!("{program}:{}", std::env::var("PATH").unwrap()));
        end(push)
    }

    fn hook(&self, repository: &Path, text: &str) {
        let hook = repository.join("hooks/pre-receive");
        fs::create_dir_all(hook.parent().unwrap()).unwrap();
        fs::write(&hook, text).unwrap();
        fs::set_permissions(&hook, fs::Permissions::from_mode(0o755)).unwrap();
    }

    /// Another repository with the newest commit in it, made by git from the bare one.
    fn cloned(&self, name: &str, options: &[&str]) -> PathBuf {
        let source = format!("file://{}", self.bare.display());
        git(self.folder(), &[&["clone", "--quiet"], options, &[&source, name]].concat());
        self.folder().join(name)
    }

    /// Every command that reads a commit of a repository, with a part of what it says.
    fn commands(&self, repository: &str, rev: &str) -> Vec<(Vec<String>, &'static str)> {
        let all: [(&[&str], &str); 7] = [
            (&["plan", repository, "--rev", rev], "bee"),
            (&["plan", repository, "--base", rev, "--rev", rev], "No changes. Both sides"),
            (&["history", "--repo", repository, "--rev", rev], "ant"),
            (&["explain", "bee", "--repo", repository, "--rev", rev], "limits.memory"),
            (&["audit", "report", "--repo", repository, "--rev", rev, "--from", "20000d"], "1 commit"),
            (&["apply", repository, "--rev", rev, "--yes"], "bee"),
            (&["plan", repository, "--rev", rev], "No changes"),
        ];
        all.map(|(words, says)| (words.iter().map(|word| (*word).to_owned()).collect(), says)).into()
    }

    /// Runs them all, by the environment that `prepare` makes.
    #[track_caller]
    fn all_read(&self, repository: &Path, rev: &str, prepare: impl Fn(&mut Command)) {
        for (words, says) in self.commands(repository.to_str().unwrap(), rev) {
            let ended = self.run(&words.iter().map(String::as_str).collect::<Vec<_>>(), &prepare);
            assert!(ended.code == 0 && ended.out.contains(says), "{words:?}\n{}\n{}", ended.out, ended.err);
        }
    }

    fn run(&self, words: &[&str], prepare: &impl Fn(&mut Command)) -> Ended {
        let mut command = self.cli.command(words);
        // A cleared environment takes the user's settings away.
        command.env("PATH", std::env::var("PATH").unwrap()).env("HOME", self.folder().join("home"));
        prepare(&mut command);
        end(command)
    }

    /// A mirror as the daemon would keep it of a repository.
    fn mirror(&self, of: &Path) -> Mirror {
        let folder = self.folder().join("mirrors").join(of.file_name().unwrap());
        Mirror::open(&folder, &of_url(of.to_str().unwrap())).unwrap()
    }

    /// The daemon follows it, and the commands read it.
    #[track_caller]
    fn is_read_by_both(&self, repository: &Path, prepare: impl Fn(&mut Command)) {
        assert_eq!(fetch(&self.mirror(repository)).unwrap(), self.head(), "{}", repository.display());
        self.all_read(repository, "HEAD", prepare);
    }

    fn chown(&self, path: &Path) {
        assert!(Command::new("chown").args(["-R", "nobody"]).arg(path).status().unwrap().success());
    }
}

const EXAMPLE: &str = include_str!("../../example-repo/hooks/pre-receive");

fn nothing(_: &mut Command) {}

#[test]
fn the_example_hook_shows_what_a_push_changes_and_refuses_what_has_errors() {
    let pushed = Pushed::new();
    pushed.hook(&pushed.bare, EXAMPLE);
    let in_bare = || git(&pushed.bare, &["rev-parse", "main"]);
    pushed.cli.tenant("ant", "limits: {memory: 256MiB}\n");
    pushed.cli.tenant("cat", "");
    pushed.cli.commit();
    let shown = pushed.push().with(0);
    assert!(
        shown.err.contains("remote: ") && shown.err.contains("memory") && shown.err.contains("cat"),
        "{}",
        shown.err
    );
    assert_eq!(in_bare(), pushed.head());

    pushed.cli.tenant("ant", "limits: {memory: much}\n");
    pushed.cli.commit();
    let refused = pushed.push().with(1);
    assert!(refused.err.contains("tenants/ant.yaml") && refused.err.contains("much"), "{}", refused.err);
    assert_ne!(in_bare(), pushed.head());
    // Of another branch nothing is said.
    let aside = ["push", "--quiet", pushed.bare.to_str().unwrap(), "HEAD:refs/heads/aside"];
    assert!(end(command(&pushed.cli.repo, &aside)).with(0).err.is_empty());
    let removal = ["push", "--quiet", pushed.bare.to_str().unwrap(), ":refs/heads/main"];
    git(&pushed.bare, &["config", "receive.denyDeleteCurrent", "ignore"]);
    assert!(end(command(&pushed.cli.repo, &removal)).with(1).err.contains("must not be removed"));
}

#[test]
fn every_command_reads_what_is_in_quarantine() {
    let pushed = Pushed::new();
    let work = pushed.cloned("other", &["--branch=main"]);
    git(&work, &["config", "receive.denyCurrentBranch", "ignore"]);
    // Where the path has what separates folders in git's list, git quotes it.
    let colon = pushed.cloned("a:b \"c\".git", &["--bare"]);
    for (repository, folder) in
        [(&pushed.bare, pushed.bare.clone()), (&work, work.join(".git")), (&colon, colon.clone())]
    {
        pushed.cli.tenant("cat", &format!("# {}\n", folder.display()));
        pushed.cli.commit();
        let (out, host) = (pushed.folder().join("out"), pushed.cli.world.folder().join("host.yaml"));
        fs::write(&out, "").unwrap();
        let program = env!("CARGO_BIN_EXE_tenantd");
        let mut script = "#!/bin/sh\nread -r old new ref\nset -e\n".to_owned();
        // By the folder that the hook runs in, and by the path that names the same.
        for named in [".", folder.to_str().unwrap()] {
            for (words, _) in pushed.commands(named, "$new") {
                let words = words.iter().map(|word| format!("\"{}\"", word.replace('"', "\\\""))).collect::<Vec<_>>();
                let (words, host) = (words.join(" "), host.display());
                script += &format!("{program} {words} --host '{host}' >>'{}' 2>&1\n", out.display());
            }
        }
        pushed.hook(&folder, &script);
        let ended = pushed.push_to(repository);
        let text = fs::read_to_string(&out).unwrap();
        assert_eq!(ended.code, 0, "{}\n{text}", ended.err);
        assert_eq!(text.matches("Both sides declare the same").count(), 2, "{text}");
    }
}

#[test]
fn the_environment_of_one_repository_says_nothing_of_another() {
    let pushed = Pushed::new();
    let other = pushed.folder().join("other");
    git(pushed.folder(), &["init", "--quiet", "other"]);
    let of_other = |command: &mut Command| {
        command.env("GIT_DIR", other.join(".git")).env("GIT_WORK_TREE", &other);
        command.env("GIT_OBJECT_DIRECTORY", other.join(".git/objects")).env("GIT_INDEX_FILE", "/nonexistent");
    };
    pushed.all_read(&pushed.bare, "HEAD", of_other);
    // The current folder is what the environment says, as for git.
    let named = |command: &mut Command| {
        command.env("GIT_DIR", &pushed.bare).current_dir(&other);
    };
    pushed.all_read(Path::new("."), "main", named);
    let ended = pushed.run(&["plan", ".", "--rev", "main"], &|command| {
        of_other(command);
        command.current_dir(&pushed.bare);
    });
    assert!(ended.code == 1 && ended.err.contains("names no commit"), "{}", ended.err);
}

#[test]
fn the_daemon_takes_nothing_from_gits_environment() {
    let mut daemon = Daemon::stopped(&["ant"], "");
    let mut run = daemon.cli.command(&["run"]);
    let nowhere = daemon.folder().join("nowhere");
    for name in
        ["GIT_DIR", "GIT_OBJECT_DIRECTORY", "GIT_ALTERNATE_OBJECT_DIRECTORIES", "GIT_COMMON_DIR", "GIT_WORK_TREE"]
    {
        run.env(name, &nowhere);
    }
    for name in ["GIT_INDEX_FILE", "GIT_SHALLOW_FILE", "GIT_NAMESPACE", "GIT_QUARANTINE_PATH", "GIT_EXEC_PATH"] {
        run.env(name, &nowhere);
    }
    run.env("GIT_ALLOW_PROTOCOL", "none").env("GIT_CONFIG_COUNT", "1");
    run.env("GIT_CONFIG_KEY_0", "core.repositoryformatversion").env("GIT_CONFIG_VALUE_0", "9");
    daemon.start_as(run);
    daemon.settled();
    daemon.tenant("bee", "");
    daemon.push();
    daemon.settled();
    assert!(!nowhere.exists());
}

#[test]
fn a_repository_of_another_user_is_read_where_git_trusts_it() {
    let pushed = Pushed::new();
    pushed.chown(&pushed.bare);
    let path = pushed.bare.to_str().unwrap();
    let refused = pushed.run(&["plan", path], &nothing);
    let words = format!("git config --global --add safe.directory {path}");
    assert!(refused.code == 1 && refused.err.contains("belongs to another user"), "{}", refused.err);
    assert!(refused.err.contains(&words), "{}", refused.err);

    // Wherever git takes it from.
    let setting = format!("[safe]\n\tdirectory = {path}\n");
    let (home, there) = (pushed.folder().join("home"), pushed.folder().join("there"));
    fs::create_dir_all(home.join(".config/git")).unwrap();
    fs::write(&there, &setting).unwrap();
    let by_variable = |command: &mut Command| {
        command.env("GIT_CONFIG_COUNT", "1").env("GIT_CONFIG_KEY_0", "safe.directory").env("GIT_CONFIG_VALUE_0", "*");
    };
    pushed.is_read_by_both(&pushed.bare, by_variable);
    for name in ["GIT_CONFIG_GLOBAL", "GIT_CONFIG_SYSTEM"] {
        pushed.all_read(&pushed.bare, "HEAD", |command| {
            command.env(name, &there);
        });
    }
    for (file, text) in
        [(".gitconfig", setting.clone()), (".config/git/config", format!("[include]\n\tpath = {}\n", there.display()))]
    {
        fs::write(home.join(file), text).unwrap();
        pushed.all_read(&pushed.bare, "main", nothing);
        fs::remove_file(home.join(file)).unwrap();
    }
    // The repository itself has no say in it.
    git(pushed.folder(), &["config", "--file", &format!("{path}/config"), "safe.directory", "*"]);
    assert_eq!(pushed.run(&["plan", path], &nothing).code, 1);
    // That the host's settings name it is enough, as it is for the daemon.
    pushed.cli.host_file(&format!("engine: {}\nsource: {{url: {path}}}\n", pushed.cli.world.engine.url()));
    pushed.all_read(&pushed.bare, "HEAD", nothing);
}

#[test]
fn linked_and_shortened_repositories_are_read_by_commands_and_daemon_alike() {
    let pushed = Pushed::new();
    pushed.cli.tenant("cat", "");
    pushed.cli.commit();
    pushed.push().with(0);
    let bare = &pushed.bare;
    git(bare, &["worktree", "add", "--quiet", "../linked", "main"]);
    let shallow = pushed.cloned("shallow", &["--depth=1", "--branch=main"]);
    git(&shallow, &["worktree", "add", "--quiet", "--detach", "../further", "HEAD"]);
    let super_repository = pushed.folder().join("super");
    git(pushed.folder(), &["init", "--quiet", "--initial-branch=main", "super"]);
    git(&super_repository, &["submodule", "--quiet", "add", "-b", "main", bare.to_str().unwrap(), "fleet"]);
    let separate = pushed.cloned("separate", &["--branch=main", "--separate-git-dir=elsewhere.git"]);
    let borrowed = pushed.cloned("borrowed.git", &["--bare", "--shared"]);
    for repository in [
        pushed.folder().join("linked"),
        shallow,
        super_repository.join("fleet"),
        separate,
        borrowed,
        // The suffix may be left out.
        pushed.folder().join("fleet"),
    ] {
        let reads = ["plan", repository.to_str().unwrap(), "--detailed-exitcode"];
        assert_eq!(fetch(&pushed.mirror(&repository)).unwrap(), pushed.head(), "{}", repository.display());
        assert_eq!(pushed.run(&reads, &nothing).with(2).err, "", "{}", repository.display());
    }
    // In a detached work tree the branch is elsewhere.
    let further = pushed.folder().join("further");
    for words in [vec!["plan"], vec!["history", "--repo"]] {
        pushed.run(&[&words[..], &[further.to_str().unwrap()]].concat(), &nothing).with(0);
    }
}

#[test]
fn repositories_of_newer_forms_are_read_by_commands_and_daemon_alike() {
    let pushed = Pushed::new();
    let reftable = pushed.cloned("reftable.git", &["--bare", "--ref-format=reftable"]);
    pushed.is_read_by_both(&reftable, nothing);
    let settings = pushed.cloned("settings", &["--branch=main"]);
    for (key, value) in [
        ("core.repositoryformatversion", "1"),
        ("extensions.worktreeConfig", "true"),
        ("extensions.preciousObjects", "true"),
        ("extensions.partialClone", "origin"),
        ("extensions.refStorage", "files"),
    ] {
        git(&settings, &["config", key, value]);
    }
    pushed.is_read_by_both(&settings, nothing);
    // A partial clone that has all that is read, and one that has not.
    let full = pushed.cloned("full", &["--branch=main", "--filter=blob:limit=1m"]);
    pushed.all_read(&full, "HEAD", nothing);
    let partial = pushed.cloned("partial.git", &["--bare", "--filter=blob:none"]);
    let said = pushed.run(&["plan", partial.to_str().unwrap()], &nothing).with(1).err;
    assert!(said.contains("is a partial clone") && said.contains("without --filter"), "{said}");
    assert!(fetch(&pushed.mirror(&partial)).is_err());
}

#[test]
fn a_form_that_neither_reads_is_reported_by_both_with_what_to_do() {
    let pushed = Pushed::new();
    let folder = pushed.folder();
    git(folder, &["init", "--quiet", "--object-format=sha256", "--initial-branch=main", "sha256"]);
    git(&folder.join("sha256"), &["commit", "--quiet", "--allow-empty", "--message=x"]);
    let unknown = pushed.cloned("unknown", &["--branch=main"]);
    git(&unknown, &["config", "core.repositoryformatversion", "1"]);
    git(&unknown, &["config", "extensions.teapot", "true"]);
    let newer = pushed.cloned("newer", &["--branch=main"]);
    git(&newer, &["config", "core.repositoryformatversion", "7"]);
    for (repository, words) in [
        (folder.join("sha256"), "--object-format=sha1"),
        (unknown, "extension \"teapot\"; a newer git may"),
        (newer, "install a newer git"),
    ] {
        let said = pushed.run(&["plan", repository.to_str().unwrap()], &nothing).with(1).err;
        assert!(said.contains(words), "{said}");
        let error = fetch(&pushed.mirror(&repository)).unwrap_err();
        assert!(matches!(error, FetchError::Format { .. }) && error.to_string().contains(words), "{error:?}");
    }
}

/// What of a repository's configuration names a program that git runs at one time or another.
const PROGRAMS: [&str; 20] = [
    "core.fsmonitor",
    "core.sshCommand",
    "core.pager",
    "core.editor",
    "core.askPass",
    "core.gitProxy",
    "core.alternateRefsCommand",
    "pager.rev-parse",
    "pager.rev-list",
    "pager.config",
    "gpg.program",
    "gpg.ssh.program",
    "credential.helper",
    "diff.external",
    "diff.all.textconv",
    "filter.all.clean",
    "filter.all.smudge",
    "filter.all.process",
    "uploadpack.packObjectsHook",
    "remote.origin.uploadpack",
];

#[test]
fn no_program_is_run_that_a_repository_names() {
    let pushed = Pushed::new();
    // Objects are missing, which git would fetch; git has to be asked; and the branch has a log that may be signed.
    let repository = pushed.cloned("hostile", &["--branch=main", "--filter=blob:none", "--no-checkout"]);
    let marks = pushed.folder().join("marks");
    let program = pushed.folder().join("program");
    fs::write(&program, format!("#!/bin/sh\necho \"$0 $*\" >> '{}'\nexit 1\n", marks.display())).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    let named = program.to_str().unwrap();
    let set = |key: &str, value: &str| drop(git(&repository, &["config", key, value]));
    for key in PROGRAMS {
        set(key, named);
    }
    for alias in ["rev-parse", "rev-list", "symbolic-ref", "show-ref", "config", "log"] {
        set(&format!("alias.{alias}"), &format!("!{named}"));
    }
    for (key, value) in [
        ("log.showSignature", "true"),
        ("protocol.ext.allow", "always"),
        ("protocol.allow", "always"),
        ("remote.origin.url", &format!("ext::{named}")),
        ("core.hooksPath", pushed.folder().join("hooks").to_str().unwrap()),
        ("extensions.refStorage", "files"),
        ("core.logAllRefUpdates", "always"),
    ] {
        set(key, value);
    }
    fs::create_dir(pushed.folder().join("hooks")).unwrap();
    for hook in ["pre-auto-gc", "post-index-change", "reference-transaction", "post-checkout", "fsmonitor-watchman"] {
        fs::copy(&program, pushed.folder().join("hooks").join(hook)).unwrap();
    }
    fs::write(repository.join(".gitattributes"), "* filter=all diff=all\n").unwrap();
    let _ = fs::remove_file(&marks);
    let trusted = |command: &mut Command| {
        command.env("GIT_CONFIG_COUNT", "1").env("GIT_CONFIG_KEY_0", "safe.directory").env("GIT_CONFIG_VALUE_0", "*");
    };
    let path = repository.to_str().unwrap();
    let tried = |prepare: &dyn Fn(&mut Command)| {
        for (words, _) in pushed.commands(path, "HEAD") {
            let ended = pushed.run(&words.iter().map(String::as_str).collect::<Vec<_>>(), &prepare);
            assert!(!marks.exists(), "{words:?} ran {}", fs::read_to_string(&marks).unwrap());
            assert!(ended.err.contains("is a partial clone") || ended.code == 0, "{words:?}: {}", ended.err);
        }
        pushed.run(&["egress", "review", "--worktree", path], &prepare);
        assert!(!marks.exists(), "egress ran {}", fs::read_to_string(&marks).unwrap());
    };
    tried(&nothing);
    tried(&|command| {
        command.env("GIT_DIR", repository.join(".git"));
    });
    let mut mirrored = vec![repository.clone()];
    pushed.chown(&repository);
    tried(&trusted);
    // The daemon reads it by git as well, which serves what is there.
    mirrored.push(pushed.bare.clone());
    for key in PROGRAMS {
        git(&pushed.bare, &["config", key, named]);
    }
    for repository in mirrored {
        let _ = fetch(&pushed.mirror(&repository));
        assert!(!marks.exists(), "the daemon ran {}", fs::read_to_string(&marks).unwrap());
    }
    assert_eq!(fetch(&pushed.mirror(&pushed.bare)).unwrap(), pushed.head());
}

#[test]
fn without_git_what_libgit2_opens_is_read_and_the_rest_says_what_is_missing() {
    let pushed = Pushed::new();
    let without = |command: &mut Command| {
        command.env("PATH", "/nonexistent");
    };
    pushed.all_read(&pushed.bare, "HEAD", without);
    pushed.chown(&pushed.bare);
    let said = pushed.run(&["plan", pushed.bare.to_str().unwrap()], &without).with(1).err;
    assert!(said.contains("that takes git, which is not installed"), "{said}");
}

#[test]
fn the_log_of_a_branch_tells_the_same_however_it_is_read() {
    let pushed = Pushed::new();
    pushed.cli.write("tenants/ant.yaml", &file("ant", "limits: {memory: 256MiB}\n"));
    pushed.cli.commit();
    pushed.push().with(0);
    let plain = pushed.cloned("plain", &["--branch=main"]);
    let reftable = pushed.cloned("reftable", &["--branch=main", "--ref-format=reftable"]);
    let printed = [&plain, &reftable].map(|repository| {
        git(repository, &["reset", "--quiet", "--hard", "HEAD~1"]);
        let ended =
            pushed.run(&["history", "--repo", repository.to_str().unwrap(), "--format", "json"], &nothing).with(0);
        let mut answer: serde_json::Value = serde_json::from_str(&ended.out).unwrap();
        let rewritten = answer["rewritten"].as_array_mut().unwrap();
        assert_eq!(rewritten.len(), 1, "{ended:?}");
        assert!(rewritten[0].as_object_mut().unwrap().remove("time").is_some());
        answer
    });
    assert_eq!(printed[0], printed[1]);
}

#[test]
fn names_are_read_in_the_encoding_that_a_commit_names() {
    let pushed = Pushed::new();
    let repo = &pushed.cli.repo;
    let tree = git(repo, &["rev-parse", "HEAD^{tree}"]);
    let commit = |name: &[u8], header: &str| {
        let (begin, when) = (format!("tree {tree}\nauthor "), " <ada@example.com> 1700000000 +0000\n");
        let rest = format!("{when}{header}\n");
        let parts = [begin.as_bytes(), name, when.as_bytes(), b"committer ", name, rest.as_bytes(), name, b"\n"];
        let raw = pushed.folder().join("raw");
        fs::write(&raw, parts.concat()).unwrap();
        git(repo, &["hash-object", "-t", "commit", "-w", raw.to_str().unwrap()])
    };
    for (name, header, expected) in [
        (&b"Bj\xf6rn \xc5berg"[..], "encoding ISO-8859-1\n", "Björn Åberg"),
        (b"Bj\xf6rn \xc5berg", "", "Björn Åberg"),
        (b"\xe9\xd7\xc1\xce", "encoding KOI8-R\n", "Иван"),
        ("Björn Åberg".as_bytes(), "", "Björn Åberg"),
    ] {
        let rev = commit(name, header);
        let path = repo.to_str().unwrap();
        let printed = pushed.run(&["history", "--repo", path, "--rev", &rev, "--format", "json"], &nothing).with(0);
        let answer: serde_json::Value = serde_json::from_str(&printed.out).unwrap();
        let shown = &answer["commits"][0];
        assert_eq!(shown["author"]["name"], expected);
        assert_eq!((&shown["committer"]["name"], &shown["subject"]), (&expected.into(), &expected.into()));
        let explained = pushed.run(&["explain", "ant", "--repo", path, "--rev", &rev], &nothing).with(0);
        assert!(explained.out.contains(expected), "{}", explained.out);
    }
}
