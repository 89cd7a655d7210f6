//! Whether a runtime can start anything at all, so that no tenant and no commit is blamed for one that cannot.
//!
//! A runtime is tested once a start has failed, or a container has ended right after it: with an image of one program that
//! ends with a code of its own. A healthy host is never asked. One that fails blocks its tenants, and is tested again
//! until it works.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use super::removal::remove_hung;
use crate::{
    engine::{CallError, Engine, SELFTEST_CODE},
    fault::chain,
    host::reap,
    model::Host,
};

/// How long a runtime that fails is left alone between two tests.
const PAUSE: Duration = Duration::from_secs(15);

/// The most test images that are remembered.
const MOST_IMAGES: usize = 64;

/// What is known of an engine's runtimes.
#[derive(Debug, Default)]
pub struct Runtimes {
    known: Mutex<Known>,
    /// Held while a runtime is tested, so that many who ask have one test.
    turns: Mutex<BTreeMap<String, Arc<tokio::sync::Mutex<()>>>>,
}

#[derive(Debug, Default)]
struct Known {
    tested: BTreeMap<String, Tested>,
    images: BTreeSet<String>,
}

#[derive(Clone, Debug)]
struct Tested {
    at: Instant,
    /// Why it cannot start anything, if so.
    fails: Option<String>,
}

impl Runtimes {
    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The runtimes that cannot start anything, and why.
    pub fn failing(&self) -> BTreeMap<String, String> {
        let known = self.known();
        known.tested.iter().filter_map(|(name, tested)| Some((name.clone(), tested.fails.clone()?))).collect()
    }

    /// Those of them that may be tested again by now.
    pub fn due(&self) -> Vec<String> {
        let known = self.known();
        let is_due = |tested: &Tested| tested.fails.is_some() && tested.at.elapsed() >= PAUSE;
        known.tested.iter().filter(|(_, tested)| is_due(tested)).map(|(name, _)| name.clone()).collect()
    }

    /// Forgets everything: the engine was away, and may be another one.
    pub fn forget(&self) {
        self.known().tested.clear();
    }

    /// Whether an image, by its id or its name, is that of a test.
    pub fn is_image_of_test(&self, id: &str, name: &str) -> bool {
        name.starts_with(crate::engine::SELFTEST_IMAGE) || self.known().images.contains(id)
    }

    /// What a test since then said: why the runtime cannot start anything, or that it can. `None` where there was none.
    pub fn since(&self, runtime: &str, since: Instant) -> Option<Option<String>> {
        self.known().tested.get(runtime).filter(|tested| tested.at >= since).map(|tested| tested.fails.clone())
    }

    /// Tests a runtime, unless that was done since then, and says why it cannot start anything, if so. What cannot be
    /// tested counts as one that can.
    pub async fn test(&self, engine: &Engine, host: &Host, runtime: &str, since: Instant) -> Option<String> {
        let turn = {
            let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(turns.entry(runtime.to_owned()).or_default())
        };
        let _turn = turn.lock().await;
        if let Some(fails) = self.since(runtime, since) {
            return fails;
        }
        let begun = Instant::now();
        let fails = match self.run(engine, host, runtime).await {
            Ok(fails) => fails,
            Err(e) => {
                tracing::debug!(runtime, error = chain(&e), "the runtime could not be tested");
                None
            }
        };
        match &fails {
            Some(reason) => {
                tracing::warn!(runtime, reason, "the runtime cannot start anything; its tenants are blocked")
            }
            None => tracing::debug!(runtime, took_ms = begun.elapsed().as_millis(), "the runtime was tested"),
        }
        self.known().tested.insert(runtime.to_owned(), Tested { at: Instant::now(), fails: fails.clone() });
        fails
    }

    async fn run(&self, engine: &Engine, host: &Host, runtime: &str) -> Result<Option<String>, CallError> {
        // A tag has fewer characters than a runtime's name may have.
        let is_plain = |c: char| c.is_ascii_alphanumeric() || c == '.' || c == '-';
        let tag: String = runtime.chars().map(|c| if is_plain(c) { c } else { '_' }).take(100).collect();
        let tag = format!("for_{tag}");
        // What a test left that was cut off.
        for id in engine.selftests(runtime).await? {
            remove_hung(engine, &id).await?;
        }
        engine.remove_selftest_image(&tag).await?;
        let Some(image) = engine.make_selftest_image(&tag).await? else { return Ok(None) };
        {
            let mut known = self.known();
            if known.images.len() >= MOST_IMAGES {
                known.images.clear();
            }
            known.images.insert(image.clone());
        }
        let result = self.start(engine, host, &image, runtime).await;
        if let Err(e) = engine.remove_selftest_image(&tag).await {
            tracing::debug!(error = chain(&e), "the image of a test is left until the next one");
        }
        result
    }

    async fn start(
        &self,
        engine: &Engine,
        host: &Host,
        image: &str,
        runtime: &str,
    ) -> Result<Option<String>, CallError> {
        let id = engine.create_selftest(image, runtime).await?;
        let started = engine.start_container(&id, host.deadlines.start.get()).await;
        let fails = match started {
            Ok(()) => match engine.wait_container(&id, host.deadlines.start.get()).await {
                Ok(SELFTEST_CODE) => Ok(None),
                Ok(code) => Ok(Some(format!("a program that does nothing but end ended with exit code {code} in it"))),
                Err(CallError::TimedOut { deadline, .. }) => Ok(Some(format!(
                    "a program that does nothing but end did not end in it within {} s",
                    deadline.as_secs_f32()
                ))),
                Err(e) => Err(e),
            },
            Err(CallError::Refused { message, .. }) => Ok(Some(message)),
            Err(CallError::TimedOut { deadline, .. }) => {
                reap(&id).await;
                Ok(Some(format!("it started nothing within {} s", deadline.as_secs_f32())))
            }
            Err(e) => Err(e),
        };
        if let Err(e) = remove_hung(engine, &id).await {
            tracing::debug!(error = chain(&e), "the container of a test is left until the next one");
        }
        fails
    }
}
