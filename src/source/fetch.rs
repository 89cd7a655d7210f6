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
    SourceError, door, format,
    process::{self, Ended, RunError},
    text::plain,
};
use crate::host::secret::SecretError;

/// Where the mirror keeps the head, whatever the branch is called.
pub(super) const HEAD: &str = "refs/tenantd/source";

/// Where a head waits until what came with it was looked at.
pub(super) const FETCHED: &str = "refs/tenantd/fetched";

/// Where the mirror keeps commits that the branch does not lead to any more.
pub(super) const KEPT: &str = "refs/tenantd/kept/";

/// The most memory that a process of git may take, in KiB. It bounds what must be held whole to be checked.
const MEMORY: u64 = 256 << 10;

/// The most bytes that all packs of the mirror may have. Ten thousand commits of the fleet that was measured have a
/// hundredth of that.
pub(super) const MAX_MIRROR: u64 = 1 << 30;

/// How much of that no head may take for what it leads to. So what replaces a branch that became too large finds room.
pub(super) const RESERVE: u64 = 64 << 20;

/// The most bytes of a file that a fetch may write where the mirror is full. Notes and references need some.
pub(super) const LEAST_ROOM: u64 = 1 << 20;

/// How long what nobody needs stays: as long as a head may wait to be judged, and less where the reserve is in use.
pub(super) const GRACE: &str = "--prune=1.hour.ago";
pub(super) const SHORT_GRACE: &str = "--prune=10.minutes.ago";

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
    /// The source is of a form that is not read.
    #[error("cannot read the git repository {url}: {why}")]
    Format {
        /// The source.
        url: String,
        /// Why, and what to do.
        why: String,
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
    /// What came is larger than the bounds. It is thrown away.
    #[error("what {url} sent is too large: {what}; the last commit stays in force until the branch leads to less")]
    TooLarge {
        /// The source.
        url: String,
        /// What is too large, and the bound.
        what: String,
    },
    /// git takes what came, and this program cannot read it. It is thrown away.
    #[error("what {url} sent cannot be read: {what}; the last commit stays in force until the branch leads past it")]
    Unreadable {
        /// The source.
        url: String,
        /// What cannot be read, and why.
        what: String,
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
    /// The most bytes that a file may have which it writes; `None` for any.
    pub(super) room: Option<u64>,
}

/// Sets the bounds of what follows, in units of 1 KiB of memory and of 512 bytes of a file.
const BOUNDED: &str = "ulimit -d \"$1\" && ulimit -f \"$2\" && shift 2 && exec \"$@\"";

impl Git<'_> {
    /// A command with an environment of its own: what it reads is the mirror's settings alone, it asks
    /// nobody, and it complains in English.
    pub(super) fn command<A: Into<OsString>>(&self, arguments: impl IntoIterator<Item = A>) -> Command {
        let room = self.room.map_or_else(|| "unlimited".to_owned(), |bytes| bytes.div_ceil(512).to_string());
        let mut command = Command::new("sh");
        command.args(["-c", BOUNDED, "sh", &MEMORY.to_string(), &room]).arg(self.program);
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

/// Whether a program can be run: at its path, or by its name.
fn is_there(program: &Path) -> bool {
    let named = || env::split_paths(&env::var_os("PATH")?).any(|folder| folder.join(program).is_file()).then_some(());
    if program.components().count() > 1 { program.is_file() } else { named().is_some() }
}

/// What to fetch, from where, in what time.
pub(super) struct FetchRequest<'a> {
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
pub(super) async fn fetch(git: &Git<'_>, request: &FetchRequest<'_>) -> Result<(), FetchError> {
    let refspec = format!("+refs/heads/{}:{FETCHED}", request.branch);
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
    arguments.extend(["--", request.url, &refspec]);
    let ended = run(git, git.command(arguments), request).await?;
    if ended.success {
        return Ok(());
    }
    let message = message(&ended.complaint, request);
    if ended.complaint.contains("couldn't find remote ref") {
        return Err(missing(git, request).await?);
    }
    let url = request.shown.to_owned();
    if let Some(why) = format::complaint(&ended.complaint) {
        return Err(FetchError::Format { url, why });
    }
    if let Some((_, what)) = BEYOND.iter().find(|(words, _)| ended.complaint.contains(words)) {
        return Err(FetchError::TooLarge { url, what: (*what).to_owned() });
    }
    // git may not say that what it started was ended.
    if git.room.is_some_and(|room| door::largest_temporary(git.mirror) >= room) {
        return Err(FetchError::TooLarge { url, what: DOES_NOT_FIT.to_owned() });
    }
    if let Some(message) = refused_object(&ended.complaint) {
        return Err(FetchError::Corrupt { url, message });
    }
    let corrupt = DAMAGE.iter().any(|words| ended.complaint.contains(words));
    Err(if corrupt { FetchError::Corrupt { url, message } } else { FetchError::Failed { url, message } })
}

/// Packs what is needed, and drops what is not and has lain there for a while. What it says where it fails.
pub(super) async fn maintain(git: &Git<'_>, limit: Duration, grace: &str) -> Result<(), String> {
    clear(git.mirror);
    match process::run(git.command(["gc", "--quiet", grace]), limit).await {
        Ok(ended) if ended.success => Ok(()),
        Ok(ended) => Err(plain(ended.complaint.trim())),
        Err(e) => Err(e.to_string()),
    }
}

/// How many bytes of the packs belong to what was fetched and all that led to it.
///
/// # Errors
/// As of [`fetch`].
pub(super) async fn needed_by_fetched(git: &Git<'_>, request: &FetchRequest<'_>) -> Result<u64, FetchError> {
    let ended = run(git, git.command(["rev-list", "--objects", "--disk-usage", FETCHED]), request).await?;
    ended.output.trim().parse().ok().filter(|_| ended.success).ok_or_else(|| FetchError::Failed {
        url: request.shown.to_owned(),
        message: message(&ended.complaint, request),
    })
}

async fn run(git: &Git<'_>, command: Command, request: &FetchRequest<'_>) -> Result<Ended, FetchError> {
    if !is_there(git.program) {
        return Err(FetchError::NoGit);
    }
    process::run(command, request.limit).await.map_err(|e| match e {
        RunError::Missing => FetchError::NoGit,
        RunError::TimedOut => FetchError::TimedOut { url: request.shown.to_owned(), limit: request.limit },
        RunError::Io(e) => FetchError::Run(e),
    })
}

/// The branch is not there: what is there instead?
async fn missing(git: &Git<'_>, request: &FetchRequest<'_>) -> Result<FetchError, FetchError> {
    let ended = run(git, git.command(["ls-remote", "--quiet", "--heads", "--", request.url]), request).await?;
    let (url, branch) = (request.shown.to_owned(), request.branch.to_owned());
    let branches: Vec<String> =
        ended.output.lines().filter_map(|line| line.split_once("\trefs/heads/")).map(|(_, name)| plain(name)).collect();
    if !ended.success {
        return Ok(FetchError::Failed { url, message: message(&ended.complaint, request) });
    }
    if branches.is_empty() {
        return Ok(FetchError::Empty { url, branch });
    }
    Ok(FetchError::BranchMissing { url, branch, branches: branches.into_iter().take(BRANCHES).collect() })
}

const DOES_NOT_FIT: &str = "it does not fit into the 1 GiB that the mirror may take";

/// What git says where a bound ended it, and which one that was.
const BEYOND: [(&str, &str); 4] = [
    ("died of signal 25", DOES_NOT_FIT),
    ("File too large", DOES_NOT_FIT),
    ("ut of memory", "an object in it does not fit into memory"),
    ("unable to create thread", "an object in it does not fit into memory"),
];

/// Which object git refuses, and what kind of fault it has; `None` where it refuses none.
fn refused_object(complaint: &str) -> Option<String> {
    let refusal = |line: &str| {
        let (id, fault) = line.trim().strip_prefix("error: object ")?.split_once(": ")?;
        let (kind, words) = fault.split_once(": ")?;
        let is_id = id.len() >= 40 && id.bytes().all(|byte| byte.is_ascii_hexdigit());
        let is_kind = kind.bytes().all(|byte| byte.is_ascii_alphanumeric());
        (is_id && is_kind).then(|| format!("the object {id} has the fault {kind} ({}); {REFUSED_HELP}", plain(words)))
    };
    complaint.lines().find_map(refusal)
}

/// What to do then.
const REFUSED_HELP: &str = "`git fsck --strict` names all such objects, and the history has to be written anew without \
     them; the last commit stays in force";

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
fn message(complaint: &str, request: &FetchRequest<'_>) -> String {
    let lines: Vec<&str> = complaint.lines().map(str::trim).filter(|line| !is_noise(line)).collect();
    let last = lines.get(lines.len().saturating_sub(2)..).unwrap_or_default();
    let text = last.join("; ").replace(request.url, request.shown);
    if text.is_empty() { "git gave no reason".to_owned() } else { plain(&text) }
}

/// Takes away what a run that was killed left behind: locks that nobody holds, and half of a pack.
/// Only one process fetches into a mirror, the one that holds the data root's lock.
pub(super) fn clear(mirror: &Path) {
    let locks = ["packed-refs.lock", "shallow.lock", "HEAD.lock", "config.lock", "gc.pid", "gc.pid.lock"];
    let mut left: Vec<PathBuf> = locks.map(|name| mirror.join(name)).into();
    left.extend([HEAD, FETCHED].map(|name| mirror.join(format!("{name}.lock"))));
    for entry in fs::read_dir(mirror.join("objects/pack")).into_iter().flatten().flatten() {
        let name = entry.file_name();
        if door::is_temporary(&name) || name.as_encoded_bytes().ends_with(b".keep") {
            left.push(entry.path());
        }
    }
    for entry in fs::read_dir(mirror.join(KEPT)).into_iter().flatten().flatten() {
        if entry.file_name().as_encoded_bytes().ends_with(b".lock") {
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
    fn a_refused_object_is_named_with_its_fault() {
        let id = "0123456789".repeat(4);
        let complaint =
            format!("remote: x\nerror: object {id}: hasDot: contains '.'\nfatal: fsck error in packed object\n");
        let message = refused_object(&complaint).unwrap_or_default();
        assert!(message.starts_with(&format!("the object {id} has the fault hasDot (contains '.'); ")), "{message}");
        assert_eq!(refused_object("error: object x: y: z\nfatal: object 1: bad\n"), None);
    }

    #[test]
    fn a_complaint_is_cut_down_to_what_matters() {
        let request = FetchRequest {
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
            assert_eq!(message(&complaint, &request), text);
        }
    }
}
