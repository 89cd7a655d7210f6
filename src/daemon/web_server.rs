//! The daemon's socket, served beside the loop.

use std::io;

use tokio::{
    sync::{mpsc, oneshot},
    task::JoinHandle,
};

use crate::{
    metrics::Metrics,
    model::Host,
    web::{self, Request, Server},
};

pub(super) struct WebServer {
    /// What it is asked.
    pub(super) requests: mpsc::Receiver<Request>,
    pub(super) settings: web::Settings,
    running: Option<(oneshot::Sender<()>, JoinHandle<io::Result<()>>)>,
}

impl WebServer {
    /// Begins to serve.
    ///
    /// # Errors
    /// The socket cannot be used.
    pub(super) fn begin(host: &Host, metrics: Metrics) -> anyhow::Result<Self> {
        let server = Server::bind(host)?;
        let settings = server.settings();
        let (handle, requests) = web::channel();
        let (end, ending) = oneshot::channel();
        let task = tokio::task::spawn_local(server.run(handle, metrics, async move { drop(ending.await) }));
        Ok(Self { requests, settings, running: Some((end, task)) })
    }

    /// Ends. Who asks now is answered that the daemon is ending.
    pub(super) async fn end(&mut self) {
        if let Some((end, task)) = self.running.take() {
            drop(end);
            self.requests.close();
            let _ = task.await;
        }
    }
}
