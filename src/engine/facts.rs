//! What an engine says of itself, and how long that holds.
//!
//! Nothing is as dear to ask: an engine runs the programs of its runtime to answer, which takes it as long as a list and
//! thirty inspections. So it is remembered while the engine's events are listened to, which tell when its configuration is
//! read again; another engine process ends them. What no event tells of is asked for again after [`AGE`]. Who does not
//! listen, as a command, asks each time.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::{Duration, Instant},
};

use super::{CallError, Engine, inspect};
use crate::model::{Cpus, observed::EngineFacts};

/// How long an answer is good for at most. Some of it changes without an event: Docker Engine 20.10 counts processors and looks for
/// the kernel's limit of swap at each answer.
const AGE: Duration = Duration::from_secs(60);

/// What the engine said of itself, as long as somebody listens to its events and holds this.
#[derive(Debug, Default)]
pub(super) struct Remembered(Mutex<Memory>);

#[derive(Debug, Default)]
struct Memory {
    facts: Option<(EngineFacts, Instant)>,
    /// How often it was forgotten: what was asked for before is not remembered after.
    forgotten: u64,
}

impl Remembered {
    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The engine's configuration may be another one.
    pub(super) fn forget(&self) {
        let mut memory = self.memory();
        memory.facts = None;
        memory.forgotten += 1;
    }

    /// What is still good, or how often it was forgotten until now.
    fn get(&self, now: Instant) -> Result<EngineFacts, u64> {
        let memory = self.memory();
        let good = memory.facts.as_ref().filter(|(_, asked)| now.saturating_duration_since(*asked) < AGE);
        good.map(|(facts, _)| facts.clone()).ok_or(memory.forgotten)
    }

    /// Remembers what was asked for then, unless it was forgotten meanwhile.
    fn put(&self, facts: &EngineFacts, asked: Instant, forgotten: u64) {
        let mut memory = self.memory();
        if memory.forgotten == forgotten {
            memory.facts = Some((facts.clone(), asked));
        }
    }
}

/// What an engine holds of it: nothing where nobody listens.
pub(super) type Listening = Mutex<Weak<Remembered>>;

impl Engine {
    /// Somebody listens to the engine's events from now on, for as long as the result is held.
    pub(super) fn remember_facts(&self) -> Arc<Remembered> {
        let remembered = Arc::default();
        *self.facts.lock().unwrap_or_else(PoisonError::into_inner) = Arc::downgrade(&remembered);
        remembered
    }

    fn remembered_facts(&self) -> Option<Arc<Remembered>> {
        self.facts.lock().unwrap_or_else(PoisonError::into_inner).upgrade()
    }

    /// Has the engine asked again what it is like, whatever its events told: it was seen to be otherwise.
    pub fn forget_facts(&self) {
        if let Some(remembered) = self.remembered_facts() {
            remembered.forget();
        }
    }

    /// What the engine says of itself.
    pub(super) async fn facts(&self) -> Result<EngineFacts, CallError> {
        let Some(remembered) = self.remembered_facts() else { return self.ask_facts().await };
        let now = Instant::now();
        let facts = match remembered.get(now) {
            Ok(facts) => facts,
            Err(forgotten) => {
                let facts = self.ask_facts().await?;
                remembered.put(&facts, now, forgotten);
                facts
            }
        };
        Ok(EngineFacts { defaults: self.defaults(), ..facts })
    }

    async fn ask_facts(&self) -> Result<EngineFacts, CallError> {
        let info: inspect::Info = self.get("/info").await?;
        let limits = [
            ("memory", info.memory_limit),
            ("swap", info.swap_limit),
            ("cpus", info.cpu_cfs_quota && info.cpu_cfs_period),
            ("pids", info.pids_limit),
        ];
        let seccomp = info.seccomp().map(str::to_owned);
        Ok(EngineFacts {
            userns: info.userns(),
            id: info.id,
            version: info.server_version,
            api_version: self.api.to_string(),
            cpus: Cpus::whole(info.cpus.max(1)),
            root: info.docker_root_dir,
            runtimes: info.runtimes.into_keys().collect(),
            failing_runtimes: BTreeMap::new(),
            missing_limits: limits.into_iter().filter(|(_, present)| !present).map(|(name, _)| name.into()).collect(),
            seccomp: seccomp.as_ref().is_some_and(|profile| profile != "unconfined"),
            seccomp_profile: seccomp.filter(|profile| !inspect::OWN_PROFILES.contains(&profile.as_str())),
            selinux: info.security_options.iter().any(|option| option == "name=selinux"),
            defaults: self.defaults(),
            // It cannot know.
            is_here: false,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(id: &str) -> EngineFacts {
        EngineFacts { id: id.to_owned(), ..EngineFacts::default() }
    }

    #[test]
    fn an_answer_is_good_until_it_is_old_or_forgotten() {
        let (remembered, asked) = (Remembered::default(), Instant::now());
        assert_eq!(remembered.get(asked), Err(0));
        remembered.put(&facts("a"), asked, 0);
        assert_eq!(remembered.get(asked + AGE - Duration::from_secs(1)), Ok(facts("a")));
        assert_eq!(remembered.get(asked + AGE), Err(0));
        remembered.forget();
        assert_eq!(remembered.get(asked), Err(1));
    }

    #[test]
    fn an_answer_that_was_under_way_when_the_configuration_changed_is_not_remembered() {
        let (remembered, asked) = (Remembered::default(), Instant::now());
        let Err(forgotten) = remembered.get(asked) else { panic!("nothing was asked yet") };
        remembered.forget();
        remembered.put(&facts("before"), asked, forgotten);
        assert_eq!(remembered.get(asked), Err(1));
    }
}
