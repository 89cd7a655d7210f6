//! Config repos as people push to them: a work tree, the bare repository that it pushes to, and the
//! mirror that the daemon would keep. They are handled with git itself.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use tempfile::TempDir;
use tenantd::{
    model::host::Source,
    source::{FetchError, Mirror},
};

/// A repository with a work tree, and a bare one that it pushes to.
pub struct Origin {
    pub work: PathBuf,
    pub bare: PathBuf,
    folder: TempDir,
}

/// Runs git as nobody in particular, and returns what it wrote.
pub fn git(folder: &Path, arguments: &[&str]) -> String {
    let output = command(folder, arguments).output().unwrap();
    assert!(output.status.success(), "git {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim_end().to_owned()
}

/// The same at a time of its own.
pub fn git_at(folder: &Path, date: &str, arguments: &[&str]) -> String {
    let output =
        command(folder, arguments).env("GIT_AUTHOR_DATE", date).env("GIT_COMMITTER_DATE", date).output().unwrap();
    assert!(output.status.success(), "git {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim_end().to_owned()
}

/// git without anyone's settings.
pub fn command(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new("git");
    command.current_dir(folder).args(["-c", "protocol.file.allow=always"]).args(arguments);
    for (name, value) in [
        ("GIT_CONFIG_GLOBAL", "/dev/null"),
        ("GIT_CONFIG_NOSYSTEM", "1"),
        ("GIT_AUTHOR_NAME", "test"),
        ("GIT_AUTHOR_EMAIL", "test@example.com"),
        ("GIT_COMMITTER_NAME", "test"),
        ("GIT_COMMITTER_EMAIL", "test@example.com"),
    ] {
        command.env(name, value);
    }
    command
}

impl Origin {
    /// Two repositories without a commit, on the branch `main`.
    pub fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (work, bare) = (folder.path().join("work"), folder.path().join("fleet.git"));
        git(folder.path(), &["init", "--quiet", "--bare", "--initial-branch=main", "fleet.git"]);
        git(folder.path(), &["init", "--quiet", "--initial-branch=main", "work"]);
        git(&work, &["remote", "add", "origin", bare.to_str().unwrap()]);
        Self { work, bare, folder }
    }

    /// With one commit that was pushed.
    pub fn with_a_commit() -> (Self, String) {
        let origin = Self::new();
        let commit = origin.push_file("fleet.yaml", "one\n");
        (origin, commit)
    }

    /// A folder of this test alone.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Commits one file, and returns the commit.
    pub fn commit(&self, path: &str, text: &str, options: &[&str]) -> String {
        let file = self.work.join(path);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, text).unwrap();
        git(&self.work, &["add", "--all"]);
        let mut arguments = options.to_vec();
        let subject = format!("{path}: {}", text.trim());
        arguments.extend(["commit", "--quiet", "--message", &subject]);
        git(&self.work, &arguments);
        self.head()
    }

    /// Commits one file and pushes it, and returns the commit.
    pub fn push_file(&self, path: &str, text: &str) -> String {
        let commit = self.commit(path, text, &[]);
        self.push();
        commit
    }

    /// Pushes `main` as it is, whatever it was.
    pub fn push(&self) {
        git(&self.work, &["push", "--quiet", "--force", "origin", "main"]);
    }

    /// The commit that the work tree is at.
    pub fn head(&self) -> String {
        git(&self.work, &["rev-parse", "HEAD"])
    }

    /// The settings that follow the bare repository.
    pub fn source(&self) -> Source {
        of_url(self.bare.to_str().unwrap())
    }

    /// Where the mirror lies.
    pub fn mirror_folder(&self) -> PathBuf {
        self.folder().join("data/source.git")
    }

    /// The mirror of the bare repository.
    pub fn mirror(&self) -> Mirror {
        self.mirror_of(&self.source())
    }

    /// The mirror of any source.
    pub fn mirror_of(&self, source: &Source) -> Mirror {
        Mirror::open(&self.mirror_folder(), source).unwrap()
    }
}

/// The settings that follow `main` of a URL.
pub fn of_url(url: &str) -> Source {
    Source::new(url)
}

/// Runs a future to its end.
pub fn wait<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

/// Fetches once.
pub fn fetch(mirror: &Mirror) -> Result<String, FetchError> {
    wait(mirror.fetch())
}

/// The text of a file as the mirror reads it.
pub fn text(mirror: &Mirror, commit: &str, path: &str) -> String {
    let tree = mirror.read(commit).unwrap();
    String::from_utf8(tree.file(path).unwrap_or_else(|| panic!("{path} is not there")).bytes.clone()).unwrap()
}
