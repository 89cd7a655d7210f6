//! Whether the gateway answers.

use std::{
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::UnixStream,
    sync::watch,
    task::JoinHandle,
    time::{sleep, timeout},
};

use crate::{gateway::socket, model::status::GatewayStatus};

/// How often it is asked, and how long an answer may take.
const AGAIN: Duration = Duration::from_secs(5);
const REQUEST_TIMEOUT: Duration = Duration::from_secs(2);

/// Asks the gateway again and again, beside everything else.
pub(super) struct Gateway {
    status: watch::Receiver<GatewayStatus>,
    task: JoinHandle<()>,
}

impl Gateway {
    /// Begins to ask; `state` is the gateway's own folder.
    pub(super) fn begin(state: &Path) -> Self {
        let (sender, status) = watch::channel(GatewayStatus { error: Some("it was not asked yet".to_owned()) });
        let task = tokio::spawn(keep(socket(state), sender));
        Self { status, task }
    }

    /// How it stands.
    pub(super) fn status(&self) -> GatewayStatus {
        self.status.borrow().clone()
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn keep(socket: PathBuf, sender: watch::Sender<GatewayStatus>) {
    loop {
        let error = match timeout(REQUEST_TIMEOUT, ask(&socket)).await {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(format!("{}: {error}", socket.display())),
            Err(_) => Some(format!("{}: no answer within {} s", socket.display(), REQUEST_TIMEOUT.as_secs())),
        };
        sender.send_replace(GatewayStatus { error });
        sleep(AGAIN).await;
    }
}

async fn ask(socket: &Path) -> io::Result<()> {
    let mut stream = UnixStream::connect(socket).await?;
    stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: gateway\r\n\r\n").await?;
    let mut answer = [0; 12];
    stream.read_exact(&mut answer).await?;
    if answer == *b"HTTP/1.1 200" { Ok(()) } else { Err(io::Error::other("it answers with an error")) }
}
