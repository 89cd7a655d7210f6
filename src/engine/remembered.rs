//! What an engine said of itself, and how long that holds.

use std::{
    sync::{Mutex, MutexGuard, PoisonError, Weak},
    time::{Duration, Instant},
};

use crate::model::observed::EngineFacts;

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
    pub(super) fn get(&self, now: Instant) -> Result<EngineFacts, u64> {
        let memory = self.memory();
        let good = memory.facts.as_ref().filter(|(_, asked)| now.saturating_duration_since(*asked) < AGE);
        good.map(|(facts, _)| facts.clone()).ok_or(memory.forgotten)
    }

    /// Remembers what was asked for then, unless it was forgotten meanwhile.
    pub(super) fn put(&self, facts: &EngineFacts, asked: Instant, forgotten: u64) {
        let mut memory = self.memory();
        if memory.forgotten == forgotten {
            memory.facts = Some((facts.clone(), asked));
        }
    }
}

/// What an engine holds of it: nothing where nobody listens.
pub(super) type Listening = Mutex<Weak<Remembered>>;

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
