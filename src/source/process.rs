//! Running git: with a time limit, with bounded output, and with nothing left behind.

use std::{future::Future, io, pin::pin, process::Stdio, time::Duration};

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::{
    io::{AsyncRead, AsyncReadExt},
    process::{Child, Command},
};

/// How much of each output is kept, in bytes: its end.
const KEPT: usize = 8 << 10;

/// How long a killed process is waited for. The kernel needs a moment to take it away, and for ever
/// where it hangs in a dead file system.
const BURIAL: Duration = Duration::from_secs(2);

/// How a command ended.
pub(super) struct Ended {
    pub(super) success: bool,
    /// The end of what it wrote.
    pub(super) output: String,
    /// The end of what it complained.
    pub(super) complaint: String,
}

/// Why a command did not end by itself.
#[derive(Debug, thiserror::Error)]
pub(super) enum RunError {
    #[error("the command does not exist")]
    Missing,
    #[error("it took too long")]
    TimedOut,
    #[error("the command cannot be run")]
    Io(#[from] io::Error),
}

/// The process and all that it started, which end when this is dropped.
struct Group {
    leader: Child,
    id: Option<Pid>,
}

impl Group {
    /// Ends the group. The leader must not have been waited for, since its number would be free.
    fn kill(&mut self) {
        if let Some(id) = self.id.take() {
            // It fails only where all of them are gone.
            let _ = kill_process_group(id, Signal::KILL);
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Runs a command to its end. The outputs are read until all who hold them are gone, so that nothing
/// which it started outlives this call.
///
/// # Errors
/// There is no such command, or it is not done when `limit` has passed; then it is killed with all
/// that it started. The same happens when the future is dropped.
pub(super) async fn run(command: Command, limit: Duration) -> Result<Ended, RunError> {
    run_keeping(KEPT, command, limit).await
}

/// [`run`], keeping more of what the command writes: its last `kept` bytes.
///
/// # Errors
/// As of [`run`].
pub(super) async fn run_keeping(kept: usize, mut command: Command, limit: Duration) -> Result<Ended, RunError> {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0).kill_on_drop(true);
    let mut leader = command.spawn().map_err(|e| match e.kind() {
        io::ErrorKind::NotFound => RunError::Missing,
        _ => RunError::Io(e),
    })?;
    let (output, complaint) = (leader.stdout.take(), leader.stderr.take());
    let id = leader.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
    let mut group = Group { leader, id };
    let mut outputs = pin!(async { tokio::join!(read_end(output, kept), read_end(complaint, KEPT)) });
    let ended = async {
        let (output, complaint) = outputs.as_mut().await;
        let status = group.leader.wait().await?;
        group.id = None;
        Ok(Ended { success: status.success(), output: output?, complaint: complaint? })
    };
    match tokio::time::timeout(limit, ended).await {
        Ok(ended) => ended,
        Err(_) => {
            group.kill();
            let _ = tokio::time::timeout(BURIAL, async { tokio::join!(outputs, group.leader.wait()) }).await;
            Err(RunError::TimedOut)
        }
    }
}

/// Waits for a future outside of any runtime that this thread may belong to.
pub(super) fn wait_for<T: Send>(work: impl Future<Output = T> + Send) -> io::Result<T> {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            Ok(runtime.block_on(work))
        });
        thread.join().unwrap_or_else(|_| Err(io::Error::other("the thread that ran a command ended early")))
    })
}

/// Reads all and keeps the end.
async fn read_end(from: Option<impl AsyncRead + Unpin>, most: usize) -> io::Result<String> {
    let mut kept = Vec::new();
    if let Some(mut from) = from {
        let mut buffer = vec![0; KEPT];
        loop {
            let count = from.read(&mut buffer).await?;
            if count == 0 {
                break;
            }
            kept.extend_from_slice(buffer.get(..count).unwrap_or_default());
            kept.drain(..kept.len().saturating_sub(most));
        }
    }
    Ok(String::from_utf8_lossy(&kept).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    #[tokio::test]
    async fn the_end_of_a_long_output_is_kept() -> Result<(), RunError> {
        let ended = run(shell("seq 100000; echo last >&2; exit 3"), Duration::from_secs(60)).await?;
        assert!(!ended.success && ended.output.ends_with("\n99999\n100000\n") && ended.output.len() <= KEPT);
        assert_eq!(ended.complaint, "last\n");
        Ok(())
    }

    #[tokio::test]
    async fn what_takes_too_long_ends_with_all_that_it_started() -> io::Result<()> {
        let folder = tempfile::tempdir()?;
        let pids = folder.path().join("pids");
        let script = format!("sh -c 'echo $$ >> {0}; sleep 600' & echo $$ >> {0}; wait", pids.display());
        let error = run(shell(&script), Duration::from_millis(500)).await.err();
        assert!(matches!(error, Some(RunError::TimedOut)));
        let pids = std::fs::read_to_string(pids)?;
        assert_eq!(pids.lines().count(), 2);
        for pid in pids.lines() {
            // The orphan is taken away by whoever inherits it.
            while std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z ")) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
        Ok(())
    }

    #[tokio::test]
    async fn a_command_that_is_not_there_is_told_apart() {
        let error = run(Command::new("/nonexistent/git"), Duration::from_secs(1)).await.err();
        assert!(matches!(error, Some(RunError::Missing)));
    }
}
