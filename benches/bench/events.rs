//! What an engine reports itself, to see when something happened by its own clock.

use std::{
    path::Path,
    sync::mpsc::{Receiver, channel},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, bail};
use tenantd::engine::{Engine, EngineEvent};

use crate::world;

/// How long an event may take that must come.
const TIMEOUT: Duration = Duration::from_secs(60);

/// The events of an engine from some moment on.
pub struct Listener {
    events: Receiver<EngineEvent>,
}

impl Listener {
    /// Listens when this returns, until the process ends.
    pub fn begin(socket: &Path) -> anyhow::Result<Self> {
        let (sender, events) = channel();
        let (ready, is_ready) = channel();
        let socket = socket.to_owned();
        let listen = move || -> anyhow::Result<()> {
            world::runtime()?.block_on(async {
                let engine = Engine::connect(&socket, TIMEOUT).await?;
                let mut stream = engine.events().await?;
                ready.send(())?;
                while let Some(event) = stream.next().await? {
                    sender.send(event)?;
                }
                Ok(())
            })
        };
        thread::spawn(listen);
        is_ready.recv().context("the engine tells no events")?;
        Ok(Self { events })
    }

    /// Forgets what happened so far.
    pub fn forget(&self) {
        while self.events.try_recv().is_ok() {}
    }

    /// Waits for an event.
    pub fn wait(&self, mut wanted: impl FnMut(&EngineEvent) -> bool) -> anyhow::Result<EngineEvent> {
        let begun = Instant::now();
        loop {
            match self.events.recv_timeout(TIMEOUT.saturating_sub(begun.elapsed())) {
                Ok(event) if wanted(&event) => return Ok(event),
                Ok(_) => {}
                Err(_) => bail!("nothing was repaired within {} s", TIMEOUT.as_secs()),
            }
        }
    }
}
