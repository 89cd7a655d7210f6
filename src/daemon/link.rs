//! The connection to the engine: tries until it answers, listens to its events, and says when it is
//! away.

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::sync::mpsc;

use crate::{
    engine::{CallError, Engine, EngineEvent},
    fault::chain,
};

/// How many events may wait for the daemon. More than that are as good as a full scan.
const QUEUE: usize = 4096;

/// The waits between two tries to reach an engine: the first, and the longest.
const FIRST_WAIT: Duration = Duration::from_millis(100);
const LONGEST_WAIT: Duration = Duration::from_secs(5);

/// What is reported of the engine.
pub(super) enum LinkNews {
    /// It answers, and its events arrive from now on: what happened before must be observed.
    Up(Arc<Engine>),
    /// It answers, and refuses to report its events: only full scans show what happens.
    EventsUnavailable(Arc<Engine>, String),
    /// It does not answer.
    Down(String),
    /// Something happened.
    Event(Box<EngineEvent>),
}

/// The receiving end. Events beyond the queue are dropped, and `take_overflow` says that some were.
pub(super) struct Link {
    pub(super) news: mpsc::Receiver<LinkNews>,
    overflow: Arc<AtomicBool>,
    task: tokio::task::JoinHandle<()>,
}

impl Link {
    /// Begins to reach for the engine on a socket; `call` is the deadline of each call.
    pub(super) fn begin(socket: PathBuf, call: Duration) -> Self {
        let (sender, news) = mpsc::channel(QUEUE);
        let overflow = Arc::new(AtomicBool::new(false));
        let task = tokio::spawn(keep(socket, call, sender, Arc::clone(&overflow)));
        Self { news, overflow, task }
    }

    /// Whether events were dropped since the last question.
    pub(super) fn take_overflow(&self) -> bool {
        self.overflow.swap(false, Ordering::Relaxed)
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn keep(socket: PathBuf, call: Duration, news: mpsc::Sender<LinkNews>, overflow: Arc<AtomicBool>) {
    let mut wait = FIRST_WAIT;
    loop {
        let end = listen(&socket, call, &news, &overflow, &mut wait).await.unwrap_or_else(LinkNews::Down);
        if news.send(end).await.is_err() {
            return;
        }
        // Spread, so that several daemons do not come back at one moment.
        tokio::time::sleep(wait.mul_f64(0.5 + fastrand::f64() / 2.0)).await;
        wait = (wait * 2).min(LONGEST_WAIT);
    }
}

/// Listens as long as that goes well, and returns what has become of it.
async fn listen(
    socket: &std::path::Path,
    call: Duration,
    news: &mpsc::Sender<LinkNews>,
    overflow: &AtomicBool,
    wait: &mut Duration,
) -> Result<LinkNews, String> {
    let ended = || LinkNews::Down("the engine ended its stream of events".to_owned());
    let engine = Engine::connect(socket, call).await.map_err(|e| chain(&e))?;
    // Listening begins before anything is observed, so that nothing is missed in between.
    let mut events = match engine.events().await {
        Ok(events) => events,
        Err(refused @ (CallError::Refused { .. } | CallError::TimedOut { .. })) => {
            return Ok(LinkNews::EventsUnavailable(Arc::new(engine), chain(&refused)));
        }
        Err(e) => return Err(chain(&e)),
    };
    if news.send(LinkNews::Up(Arc::new(engine))).await.is_err() {
        return Ok(ended());
    }
    while let Some(event) = events.next().await.map_err(|e| chain(&e))? {
        *wait = FIRST_WAIT;
        // A listener that stops reading slows the whole engine: what finds no room is dropped.
        match news.try_send(LinkNews::Event(Box::new(event))) {
            Ok(()) => {}
            Err(mpsc::error::TrySendError::Full(_)) => overflow.store(true, Ordering::Relaxed),
            Err(mpsc::error::TrySendError::Closed(_)) => break,
        }
    }
    Ok(ended())
}
