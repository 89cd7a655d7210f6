//! The programs that make, check and mount file systems: those of e2fsprogs and util-linux.

use std::{
    env,
    ffi::OsStr,
    os::unix::process::ExitStatusExt,
    path::PathBuf,
    process::{Command, Output, Stdio},
};

use super::WorkspaceError;

/// Those that an image needs to be made and used.
pub(super) const NEEDED: [&str; 3] = ["mke2fs", "losetup", "mount"];

/// Where programs for root lie, beside those of PATH.
const FOLDERS: [&str; 4] = ["/usr/local/sbin", "/usr/sbin", "/sbin", "/usr/bin"];

/// Where a program lies.
pub(super) fn find(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let folders = env::split_paths(&path).chain(FOLDERS.map(PathBuf::from));
    folders.map(|folder| folder.join(name)).find(|path| path.is_absolute() && path.is_file())
}

/// Runs a program to its end. The exit code is for the caller to judge.
///
/// # Errors
/// It is not there, or cannot be run.
pub(super) fn run(
    name: &'static str,
    words: impl IntoIterator<Item = impl AsRef<OsStr>>,
) -> Result<Output, WorkspaceError> {
    let path = find(name).ok_or(WorkspaceError::NoProgram(name))?;
    let mut command = Command::new(&path);
    command.args(words).env("LC_ALL", "C").stdin(Stdio::null());
    command.output().map_err(WorkspaceError::io("run", &path))
}

/// The same, for a program that must succeed.
///
/// # Errors
/// As those of [`run`], and it failed.
pub(super) fn succeed(
    name: &'static str,
    words: impl IntoIterator<Item = impl AsRef<OsStr>>,
) -> Result<Output, WorkspaceError> {
    let output = run(name, words)?;
    if output.status.success() { Ok(output) } else { Err(failure(name, &output)) }
}

/// A program's failure, with what it said.
pub(super) fn failure(name: &'static str, output: &Output) -> WorkspaceError {
    let said: Vec<String> = [&output.stderr, &output.stdout]
        .into_iter()
        .flat_map(|stream| String::from_utf8_lossy(stream).lines().map(str::to_owned).collect::<Vec<_>>())
        .map(|line| line.trim().to_owned())
        .filter(|line| !line.is_empty())
        .take(4)
        .collect();
    let end = match (output.status.code(), output.status.signal()) {
        (Some(code), _) => format!("exit code {code}"),
        (None, Some(signal)) => format!("signal {signal}"),
        (None, None) => "no exit code".to_owned(),
    };
    WorkspaceError::Program { name, end, said: said.join("; ") }
}
