//! Who listens on a socket.

use std::{path::Path, time::Duration};

use tokio::{net::UnixStream, time::timeout};

/// How long a socket may take to be connected to.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// The process that listens on an engine's socket, if the kernel says so.
pub(super) async fn listener(socket: &Path) -> Option<i32> {
    let stream = timeout(CONNECT_TIMEOUT, UnixStream::connect(socket)).await.ok()?.ok()?;
    stream.peer_cred().ok()?.pid().filter(|pid| *pid > 0)
}
