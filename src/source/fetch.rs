//! Bringing the branch into the mirror.

use std::{
    env,
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use tokio::process::Command;

use super::{
    SourceError,
    process::{self, Ended, RunError},
};
use crate::host::secret::SecretError;

/// Where the mirror keeps the head, whatever the branch is called.
pub(super) const HEAD: &str = "refs/tenantd/source";

/// The file in the mirror that git takes for the user's configuration.
pub(super) const SETTINGS: &str = "tenantd.gitconfig";

/// Why the branch could not be fetched. What was fetched before stays readable.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// There is no git.
    #[error("git is not installed, or not in PATH")]
    NoGit,
    /// The source cannot be reached, or lets nobody in.
    #[error("cannot fetch from {url}: {message}")]
    Failed {
        /// The source.
        url: String,
        /// What git said.
        message: String,
    },
    /// The source, or what it sent, is damaged.
    #[error("the repository {url} is damaged: {message}")]
    Corrupt {
        /// The source.
        url: String,
        /// What git said.
        message: String,
    },
    /// The branch was deleted, or never was.
    #[error("{url} has no branch {branch:?}; it has {}", list(.branches))]
    BranchMissing {
        /// The source.
        url: String,
        /// The branch that host.yaml names.
        branch: String,
        /// Some of those that it has.
        branches: Vec<String>,
    },
    /// Nothing was pushed yet.
    #[error("{url} has no branch yet; push {branch:?}")]
    Empty {
        /// The source.
        url: String,
        /// The branch that host.yaml names.
        branch: String,
    },
    /// It took too long.
    #[error("fetching from {url} took longer than {limit:?}")]
    TimedOut {
        /// The source.
        url: String,
        /// The time limit.
        limit: Duration,
    },
    /// The password cannot be used.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// The mirror cannot be read or made.
    #[error(transparent)]
    Mirror(#[from] SourceError),
    /// git cannot be run.
    #[error("cannot run git")]
    Run(#[source] std::io::Error),
}

/// How many branches are named to one who may have mistyped.
const BRANCHES: usize = 5;

fn list(branches: &[String]) -> String {
    branches.join(", ")
}

/// What git learns from this process's environment: where programs lie, and the way to the network.
const PASSED_ON: [&str; 11] = [
    "PATH",
    "http_proxy",
    "https_proxy",
    "HTTPS_PROXY",
    "all_proxy",
    "ALL_PROXY",
    "no_proxy",
    "NO_PROXY",
    "GIT_SSL_CAINFO",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
];

/// git on a mirror.
pub(super) struct Git<'a> {
    pub(super) program: &'a Path,
    pub(super) mirror: &'a Path,
}

impl Git<'_> {
    /// A command with an environment of its own: what it reads is the mirror's settings alone, it asks
    /// nobody, and it complains in English.
    pub(super) fn command<A: Into<OsString>>(&self, arguments: impl IntoIterator<Item = A>) -> Command {
        let mut command = Command::new(self.program);
        command.arg("--git-dir").arg(self.mirror).args(arguments.into_iter().map(Into::into)).current_dir(self.mirror);
        command.env_clear();
        for name in PASSED_ON {
            if let Some(value) = env::var_os(name) {
                command.env(name, value);
            }
        }
        command
            .env("HOME", "/nonexistent")
            .env("LC_ALL", "C")
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .env("GIT_CONFIG_GLOBAL", self.mirror.join(SETTINGS))
            .env("GIT_TERMINAL_PROMPT", "0")
            .env("GIT_ASKPASS", "/bin/false")
            .env("GIT_NO_LAZY_FETCH", "1")
            .env("GIT_NO_REPLACE_OBJECTS", "1");
        command
    }
}

/// What to fetch, from where, in what time.
pub(super) struct Order<'a> {
    pub(super) url: &'a str,
    /// The URL as it is shown.
    pub(super) shown: &'a str,
    pub(super) branch: &'a str,
    pub(super) limit: Duration,
}

/// Fetches a branch as it is, whatever it was. Submodules, tags and hooks are left out.
///
/// # Errors
/// As the kinds of [`FetchError`] say. The head that was fetched last stays.
pub(super) async fn fetch(git: &Git<'_>, order: &Order<'_>) -> Result<(), FetchError> {
    clear(git.mirror);
    let refspec = format!("+refs/heads/{}:{HEAD}", order.branch);
    let mut arguments = vec![
        "fetch",
        "--quiet",
        "--no-tags",
        "--no-recurse-submodules",
        "--no-write-fetch-head",
        "--no-auto-maintenance",
        "--update-shallow",
    ];
    if git.mirror.join("shallow").exists() {
        // A source that was shallow may know more by now.
        arguments.push("--unshallow");
    }
    arguments.extend(["--", order.url, &refspec]);
    let ended = run(git.command(arguments), order).await?;
    if ended.success {
        return Ok(());
    }
    let message = message(&ended.complaint, order);
    if ended.complaint.contains("couldn't find remote ref") {
        return Err(missing(git, order).await?);
    }
    let url = order.shown.to_owned();
    let corrupt = DAMAGE.iter().any(|words| ended.complaint.contains(words));
    Err(if corrupt { FetchError::Corrupt { url, message } } else { FetchError::Failed { url, message } })
}

/// Packs what has come in since, where git finds that it is time.
pub(super) async fn maintain(git: &Git<'_>, limit: Duration) {
    // Without it the mirror is larger, and no less right.
    let _ = process::run(git.command(["gc", "--auto", "--quiet"]), limit).await;
}

async fn run(command: Command, order: &Order<'_>) -> Result<Ended, FetchError> {
    process::run(command, order.limit).await.map_err(|e| match e {
        RunError::Missing => FetchError::NoGit,
        RunError::TimedOut => FetchError::TimedOut { url: order.shown.to_owned(), limit: order.limit },
        RunError::Io(e) => FetchError::Run(e),
    })
}

/// The branch is not there: what is there instead?
async fn missing(git: &Git<'_>, order: &Order<'_>) -> Result<FetchError, FetchError> {
    let ended = run(git.command(["ls-remote", "--quiet", "--heads", "--", order.url]), order).await?;
    let (url, branch) = (order.shown.to_owned(), order.branch.to_owned());
    let branches: Vec<String> =
        ended.output.lines().filter_map(|line| line.split_once("\trefs/heads/")).map(|(_, name)| plain(name)).collect();
    if !ended.success {
        return Ok(FetchError::Failed { url, message: message(&ended.complaint, order) });
    }
    if branches.is_empty() {
        return Ok(FetchError::Empty { url, branch });
    }
    Ok(FetchError::BranchMissing { url, branch, branches: branches.into_iter().take(BRANCHES).collect() })
}

/// What git says where an object is damaged, missing or wrong.
const DAMAGE: [&str; 14] = [
    "index-pack failed",
    "unpack-objects failed",
    "fsck error",
    "bad object",
    "bad tree object",
    "did not send all necessary objects",
    "is corrupt",
    "is empty",
    "unable to unpack",
    "pack-objects died",
    "inflate: data stream error",
    "unable to parse",
    "does not point to a valid object",
    "invalid sha1 pointer",
];

/// Lines that git adds to every failure, or that say nothing.
fn is_noise(line: &str) -> bool {
    let noise = [
        "Please make sure you have the correct access rights",
        "and the repository exists.",
        "fatal: Could not read from remote repository.",
        "warning:",
        "hint:",
        "@@@@",
    ];
    line.is_empty() || noise.iter().any(|words| line.starts_with(words))
}

/// The last two lines of a complaint that say something, on one line.
fn message(complaint: &str, order: &Order<'_>) -> String {
    let lines: Vec<&str> = complaint.lines().map(str::trim).filter(|line| !is_noise(line)).collect();
    let last = lines.get(lines.len().saturating_sub(2)..).unwrap_or_default();
    let text = last.join("; ").replace(order.url, order.shown);
    if text.is_empty() { "git gave no reason".to_owned() } else { plain(&text) }
}

/// A text of someone else's in one short line, with what drives a terminal escaped.
pub(super) fn plain(text: &str) -> String {
    const LONGEST: usize = 300;
    let mut out = String::new();
    for (count, c) in text.chars().enumerate() {
        if count == LONGEST {
            out.push('…');
            break;
        }
        if crate::model::finding::is_invisible(c) { out.extend(c.escape_default()) } else { out.push(c) }
    }
    out
}

/// Takes away what a run that was killed left behind: locks that nobody holds, and half of a pack.
/// Only one process fetches into a mirror, the one that holds the data root's lock.
fn clear(mirror: &Path) {
    let mut left: Vec<PathBuf> =
        ["packed-refs.lock", "shallow.lock", "HEAD.lock", "config.lock"].map(|name| mirror.join(name)).into();
    left.push(mirror.join(format!("{HEAD}.lock")));
    for entry in fs::read_dir(mirror.join("objects/pack")).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if name.starts_with("tmp_") || name.ends_with(".keep") {
            left.push(entry.path());
        }
    }
    for path in left {
        // What cannot be removed fails the fetch, which then says so.
        let _ = fs::remove_file(path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_complaint_is_cut_down_to_what_matters() {
        let order = Order {
            url: "https://ada:s3cret@example.com/x",
            shown: "https://example.com/x",
            branch: "main",
            limit: Duration::from_secs(1),
        };
        let noise = "fatal: Could not read from remote repository.\n\nPlease make sure you have the correct access \
                     rights\nand the repository exists.\n";
        for (complaint, text) in [
            (
                format!("git@example.com: Permission denied (publickey).\n{noise}"),
                "git@example.com: Permission denied (publickey).",
            ),
            (
                "fatal: unable to access 'https://ada:s3cret@example.com/x/': no\n".to_owned(),
                "fatal: unable to access 'https://example.com/x/': no",
            ),
            ("remote: \u{1b}[2Jgone\n".to_owned(), "remote: \\u{1b}[2Jgone"),
            (noise.to_owned(), "git gave no reason"),
            ("a\nb\nc\n".to_owned(), "b; c"),
        ] {
            assert_eq!(message(&complaint, &order), text);
        }
    }
}
