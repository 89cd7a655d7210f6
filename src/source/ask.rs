//! What git is asked of a repository that libgit2 cannot open, or of which git's environment says more.
//!
//! Whoever may write the repository's configuration must not thereby have a program run: git is asked by commands that
//! write nothing and read neither a work tree nor an index, and may fetch nothing. What else could start something is
//! switched off, since what is given on the command line and by the environment goes before the repository's.

use std::{
    ffi::OsString,
    io,
    os::unix::ffi::{OsStrExt, OsStringExt},
    path::{Path, PathBuf},
    time::Duration,
};

use jiff::Timestamp;
use tokio::process::Command;

use super::{
    SourceError, environment, format,
    place::{self, Place},
    process::{self, Ended, RunError, wait_for},
    text::plain,
};

/// How long git may take for one answer.
const LIMIT: Duration = Duration::from_secs(60);

/// The most of an answer, in bytes.
const MAX_ANSWER: usize = 4 << 20;

/// The most moves of a branch that are read.
const MAX_MOVES: &str = "--max-count=10000";

/// What of a repository's configuration could start a program, switched off.
const OFF: [&str; 8] = [
    "core.fsmonitor=false",
    "core.hooksPath=/dev/null",
    "core.sshCommand=false",
    "core.pager=cat",
    "core.alternateRefsCommand=true",
    "credential.helper=",
    "protocol.allow=never",
    "log.showSignature=false",
];

/// Asks git about one repository.
#[derive(Debug)]
pub(super) struct Asked {
    /// Where git is started, and what it is configured with there for the repository.
    start: PathBuf,
    /// The repository's own folder, where git need not find it, nor ask whom it belongs to.
    folder: Option<PathBuf>,
    /// The environment is of this repository.
    in_environment: bool,
    shown: String,
}

/// Where the parts of a repository lie.
pub(super) struct Parts {
    pub(super) objects: PathBuf,
    /// The file that says where a shallow repository ends.
    pub(super) shallow: PathBuf,
}

impl Asked {
    /// Finds a repository as git does, and where its parts lie.
    ///
    /// # Errors
    /// It belongs to somebody else, has a format that is not read, or is none for git.
    pub(super) fn find(place: Place<'_>, in_environment: bool) -> Result<(Self, Parts), SourceError> {
        let shown = place.path.display().to_string();
        let mut asked = match in_environment && environment::names_folder() {
            true => Self { start: PathBuf::from("."), folder: None, in_environment, shown },
            false => {
                let start = place::root(place.path).unwrap_or_else(|| place.path.to_owned());
                let folder = place.is_followed().then(|| place::own_folder(&start)).flatten();
                let folder = folder.and_then(|folder| folder.canonicalize().ok());
                Self { start, folder, in_environment, shown }
            }
        };
        let query = ["rev-parse", "--show-object-format", "--absolute-git-dir", "--git-path", "objects"];
        let ended = asked.run(&[&query[..], &["--git-path", "shallow"]].concat())?;
        if !ended.success {
            return Err(asked.refused(&ended.complaint));
        }
        let lines: Vec<&str> = ended.output.trim_end_matches('\n').split('\n').collect();
        let [names, folder, objects, shallow] = lines.as_slice() else {
            return Err(asked.unreadable("its path has a line break"));
        };
        if *names != format::SHA1 {
            return Err(asked.unreadable(&format::of_names(names)));
        }
        let parts = Parts { objects: asked.start.join(objects), shallow: asked.start.join(shallow) };
        // From here on git needs not search, and has no doubts whom it belongs to.
        asked.folder = Some(PathBuf::from(folder));
        Ok((asked, parts))
    }

    /// The id of the commit that a revision names; what git says where it names none.
    ///
    /// # Errors
    /// git cannot be run.
    pub(super) fn commit(&self, rev: &str) -> Result<Result<String, String>, SourceError> {
        if rev.starts_with('-') || rev.contains('\0') {
            return Ok(Err("that is no revision".to_owned()));
        }
        let ended = self.run(&["rev-parse", "--verify", &format!("{rev}^{{commit}}")])?;
        Ok(if ended.success { Ok(ended.output.trim().to_owned()) } else { Err(plain(ended.complaint.trim())) })
    }

    /// The branch that a revision is by its name, if it is one.
    pub(super) fn branch(&self, rev: &str) -> Option<String> {
        if rev == "HEAD" {
            return self.line(&["symbolic-ref", "--quiet", "--short", "HEAD"]);
        }
        let name = format!("refs/heads/{rev}");
        let is_one =
            git2::Reference::is_valid_name(&name) && self.succeeds(&["show-ref", "--verify", "--quiet", &name]);
        is_one.then(|| rev.to_owned())
    }

    /// Where a branch was, newest first, with the time from which it was there.
    pub(super) fn moves(&self, rev: &str) -> Vec<(String, Timestamp)> {
        let name = (!rev.starts_with('-')).then(|| self.line(&["rev-parse", "--symbolic-full-name", rev])).flatten();
        let Some(name) = name.filter(|name| name.starts_with("refs/")) else { return Vec::new() };
        let options = ["log", "--walk-reflogs", MAX_MOVES, "--date=unix", "--format=%H %gd"];
        let plain = ["--no-show-signature", "--no-patch", "--no-notes", "--no-mailmap", "--no-color", &name, "--"];
        let ended = self.run(&[&options[..], &plain].concat()).ok().filter(|ended| ended.success);
        ended.map(|ended| moves(&ended.output)).unwrap_or_default()
    }

    /// The top of the work tree, if there is one.
    pub(super) fn top(&self) -> Option<PathBuf> {
        // A folder that is named has no work tree but the current folder.
        let searching = Self { folder: None, start: self.start.clone(), shown: self.shown.clone(), ..*self };
        let ended = searching.run(&["rev-parse", "--show-toplevel"]).ok().filter(|ended| ended.success)?;
        let line = ended.output.strip_suffix('\n')?;
        Some(PathBuf::from(OsString::from_vec(line.as_bytes().to_vec())))
    }

    /// Whether objects may be missing, which git would fetch when it needs them.
    pub(super) fn is_partial(&self) -> bool {
        self.succeeds(&["config", "--get", "extensions.partialClone"])
            || self.succeeds(&["config", "--get-regexp", r"^remote\..*\.promisor$", "^true$"])
    }

    fn line(&self, arguments: &[&str]) -> Option<String> {
        let ended = self.run(arguments).ok().filter(|ended| ended.success)?;
        Some(ended.output.trim_end().to_owned()).filter(|line| !line.is_empty())
    }

    fn succeeds(&self, arguments: &[&str]) -> bool {
        self.run(arguments).is_ok_and(|ended| ended.success)
    }

    fn run(&self, arguments: &[&str]) -> Result<Ended, SourceError> {
        self.end(self.command(arguments))
    }

    fn end(&self, command: Command) -> Result<Ended, SourceError> {
        let failed = |source| SourceError::Ask { path: self.shown.clone(), source };
        match wait_for(process::run_keeping(MAX_ANSWER, command, LIMIT)).map_err(failed)? {
            Ok(ended) => Ok(ended),
            Err(RunError::Missing) => Err(SourceError::NeedsGit(self.shown.clone())),
            Err(e @ RunError::TimedOut) => Err(failed(io::Error::other(e))),
            Err(RunError::Io(e)) => Err(failed(e)),
        }
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("git");
        command.args(["--no-pager", "--no-optional-locks", "--no-replace-objects"]);
        // Bare repositories are found as well: this one was named.
        for setting in ["safe.bareRepository=all"].iter().chain(&OFF) {
            command.args(["-c", setting]);
        }
        if !self.in_environment {
            for name in environment::LOCAL {
                command.env_remove(name);
            }
        }
        match &self.folder {
            Some(folder) => {
                command.arg("--git-dir").arg(folder);
            }
            // What lies above is another repository.
            None => {
                command.env("GIT_CEILING_DIRECTORIES", ceiling(&self.start));
            }
        }
        command.args(arguments).current_dir(&self.start);
        command
            .env("LC_ALL", "C")
            .env("GIT_TERMINAL_PROMPT", "0")
            .env("GIT_ASKPASS", "/bin/false")
            .env("GIT_SSH_COMMAND", "false")
            .env("GIT_ALLOW_PROTOCOL", "none")
            .env("GIT_NO_LAZY_FETCH", "1");
        command
    }

    /// Why git does not read a repository, in words that say what to do.
    fn refused(&self, complaint: &str) -> SourceError {
        let said: Vec<&str> = complaint.lines().map(str::trim).collect();
        let after = |words: &str| said.iter().find_map(|line| Some(line.split_once(words)?.1.trim()));
        if complaint.contains("dubious ownership") {
            return SourceError::Owner {
                path: self.shown.clone(),
                named: self.named_for_git(after("safe.directory ")),
            };
        }
        if let Some(why) = format::complaint(complaint) {
            return self.unreadable(&why);
        }
        let last = said.iter().rfind(|line| !line.is_empty()).copied().unwrap_or("git gave no reason");
        self.unreadable(&format!("git says: {}", plain(last)))
    }

    /// The path that git wants to see in `safe.directory`: the one that it names itself, where it does.
    fn named_for_git(&self, named: Option<&str>) -> String {
        let own = || self.start.canonicalize().unwrap_or_else(|_| self.start.clone()).display().to_string();
        named.map_or_else(own, |named| plain(named.trim_matches('\'')))
    }

    fn unreadable(&self, why: &str) -> SourceError {
        SourceError::Format { path: self.shown.clone(), why: why.to_owned() }
    }
}

/// The folder above, in the form in which git compares it. One with `:` in its path cannot be named.
fn ceiling(start: &Path) -> OsString {
    let above = start.canonicalize().ok().and_then(|start| start.parent().map(Path::to_owned));
    above.filter(|above| !above.as_os_str().as_bytes().contains(&b':')).unwrap_or_default().into_os_string()
}

/// Reads a log of a branch: a line for each commit, with the branch and the time.
fn moves(text: &str) -> Vec<(String, Timestamp)> {
    let read = |line: &str| {
        let (id, rest) = line.split_once(' ')?;
        let (_, time) = rest.strip_suffix('}')?.rsplit_once("@{")?;
        Some((id.to_owned(), Timestamp::from_second(time.parse().ok()?).ok()?))
    };
    text.lines().filter_map(read).collect()
}
