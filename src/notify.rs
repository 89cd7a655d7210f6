//! Notifying a webhook of what needs a person.
//!
//! One task posts one message after the other. It waits for nothing but the webhook, and nothing waits
//! for it: what is posted goes into a short queue, whose oldest message gives way. The webhook's address is
//! a secret; it is read anew for each try, and never logged.

mod post;

use std::{
    collections::{HashMap, VecDeque, hash_map::RandomState},
    hash::BuildHasher,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use jiff::Timestamp;
use serde::Serialize;
use tokio::{
    sync::Notify as Wake,
    task::JoinHandle,
    time::{Instant, sleep, timeout},
};

use crate::{
    host::secret,
    metrics::{Metrics, Notified},
    model::{
        Revision,
        host::{Notify, NotifyEvent},
        shown::shortened,
    },
};
use post::{PostError, Poster};

/// How many messages wait.
const QUEUE: usize = 256;

/// How long a message is not posted again.
const MERGE: Duration = Duration::from_secs(10 * 60);

/// How many messages are remembered for that.
const REMEMBERED: usize = 4096;

/// How long a message is tried, from when it was queued.
const GIVE_UP_AFTER: Duration = Duration::from_secs(60 * 60);

/// The pause after the first failure, which doubles, and its bound.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(5 * 60);

/// How much of a message is posted, in characters.
const MAX_MESSAGE: usize = 2000;

/// Something that a person should know.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Notification {
    /// What kind of thing it is.
    pub event: NotifyEvent,
    /// The tenant, where it is about one.
    pub tenant: Option<String>,
    /// The commit, where it is about one.
    pub revision: Option<Revision>,
    /// What happened, for a person.
    pub message: String,
}

/// Takes messages, and has a task of its own post them. The task ends with it.
#[derive(Debug)]
pub struct Notifier {
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<NotifierState>,
    wake: Wake,
    metrics: Metrics,
}

#[derive(Debug, Default)]
struct NotifierState {
    settings: Option<Notify>,
    queue: VecDeque<Queued>,
    /// When each message was posted last, by its hash.
    posted: HashMap<u64, Instant>,
    hasher: RandomState,
    is_ending: bool,
}

#[derive(Debug)]
struct Queued {
    notification: Notification,
    time: Timestamp,
    since: Instant,
}

/// What is posted.
#[derive(Serialize)]
struct Message<'a> {
    #[serde(flatten)]
    notification: &'a Notification,
    time: Timestamp,
    host: &'a str,
}

impl Notifier {
    /// Begins, within an event loop. Without settings every message is dropped.
    pub fn start(settings: Option<Notify>, metrics: Metrics) -> Self {
        let state = Mutex::new(NotifierState { settings, ..NotifierState::default() });
        let shared = Arc::new(Shared { state, wake: Wake::new(), metrics });
        let task = tokio::spawn(work(Arc::clone(&shared)));
        Self { shared, task }
    }

    /// Takes new settings from now on, also for messages that wait.
    pub fn set(&self, settings: Option<Notify>) {
        self.shared.state().settings = settings;
    }

    /// Has a message posted, unless its kind is not wanted or the same was posted within ten minutes.
    pub fn notify(&self, mut notification: Notification) {
        let mut state = self.shared.state();
        if !state.settings.as_ref().is_some_and(|settings| settings.events.contains(&notification.event)) {
            return;
        }
        notification.message = shortened(&notification.message, MAX_MESSAGE).into_owned();
        let now = Instant::now();
        state.posted.retain(|_, posted| now.duration_since(*posted) < MERGE);
        let Notification { event, tenant, revision, message } = &notification;
        let hash = state.hasher.hash_one((*event as u8, tenant, revision, message));
        if state.posted.contains_key(&hash) {
            self.shared.metrics.notified(Notified::Merged);
            return;
        }
        if state.posted.len() < REMEMBERED {
            state.posted.insert(hash, now);
        }
        if state.queue.len() >= QUEUE {
            state.queue.pop_front();
            self.shared.metrics.notified(Notified::Dropped);
        }
        state.queue.push_back(Queued { notification, time: Timestamp::now(), since: now });
        drop(state);
        self.shared.wake.notify_one();
    }

    /// Ends when everything that waits is posted, at the latest after `drain_timeout`.
    pub async fn finish(mut self, drain_timeout: Duration) {
        self.shared.state().is_ending = true;
        self.shared.wake.notify_one();
        // What is not posted by now is lost with the process.
        let _ = timeout(drain_timeout, &mut self.task).await;
    }
}

impl Drop for Notifier {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, NotifierState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn work(shared: Arc<Shared>) {
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    loop {
        let next = shared.state().queue.pop_front();
        match next {
            Some(queued) => {
                let result = deliver(&shared, &host, &queued).await;
                shared.metrics.notified(result);
            }
            None if shared.state().is_ending => return,
            None => shared.wake.notified().await,
        }
    }
}

/// Posts one message, and tries again as long as it makes sense.
async fn deliver(shared: &Shared, host: &str, queued: &Queued) -> Notified {
    let message = Message { notification: &queued.notification, time: queued.time, host };
    // There is no map in it with keys that are no strings, which alone could fail.
    let body = serde_json::to_vec(&message).unwrap_or_default();
    let mut pause = FIRST_PAUSE;
    let mut poster = None;
    loop {
        let Err(error) = attempt(shared, &mut poster, &body).await else { return Notified::Sent };
        let wait = error.retry_after().unwrap_or_else(|| jitter(pause)).clamp(FIRST_PAUSE, LONGEST_PAUSE);
        let has_time = queued.since.elapsed() + wait < GIVE_UP_AFTER;
        let event = &queued.notification.event;
        if !error.is_passing() || !has_time {
            tracing::warn!(?event, error = &error as &dyn std::error::Error, "a notification is given up");
            return Notified::Failed;
        }
        tracing::info!(?event, error = &error as &dyn std::error::Error, "a notification is tried again in {wait:.1?}");
        sleep(wait).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

async fn attempt(shared: &Shared, poster: &mut Option<Poster>, body: &[u8]) -> Result<(), PostError> {
    let secret = shared.state().settings.as_ref().map(|settings| settings.url.clone());
    let secret = secret.ok_or(PostError::NoWebhook)?;
    let read = tokio::task::spawn_blocking(move || secret::read(&secret)).await;
    let url = read.map_err(|_| PostError::Broken("the work was cut off".to_owned()))??;
    let poster = match poster.take() {
        Some(ready) if ready.serves(url.as_str()) => poster.insert(ready),
        _ => poster.insert(Poster::new(url.as_str()).await?),
    };
    poster.post(url.as_str(), body).await
}

/// Between half the pause and all of it, so that many hosts do not come back at once.
fn jitter(pause: Duration) -> Duration {
    pause.mul_f64(0.5 + fastrand::f64() / 2.0)
}
