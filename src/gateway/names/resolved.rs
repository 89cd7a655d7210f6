//! What was looked up for a tenant.

use std::{
    collections::HashMap,
    net::Ipv4Addr,
    sync::{Arc, Mutex, PoisonError},
    time::Instant,
};

use tokio::sync::OnceCell;

/// How many names of one tenant are remembered.
const MAX_NAMES: usize = 256;

/// The names that were looked up for a tenant.
#[derive(Debug, Default)]
pub struct Names(Mutex<HashMap<String, Slot>>);

/// An answer that is there, or on its way for all who asked for it.
pub(crate) type Slot = Arc<OnceCell<Answer>>;

#[derive(Clone, Debug)]
pub(crate) struct Answer {
    /// Of those that were asked, none may have said anything.
    pub(crate) addresses: Option<Vec<Ipv4Addr>>,
    pub(crate) until: Instant,
}

impl Names {
    /// The answer for a name: there, or to be waited for.
    pub(crate) fn slot(&self, name: &str) -> Slot {
        let mut names = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let is_over = |slot: &Slot| slot.get().is_some_and(|answer| answer.until <= now);
        if let Some(slot) = names.get(name)
            && !is_over(slot)
        {
            return Arc::clone(slot);
        }
        if names.len() >= MAX_NAMES {
            names.retain(|_, slot| !is_over(slot));
        }
        if names.len() >= MAX_NAMES {
            let oldest = names.iter().min_by_key(|(_, slot)| slot.get().map(|answer| answer.until));
            if let Some(oldest) = oldest.map(|(name, _)| name.clone()) {
                names.remove(&oldest);
            }
        }
        let slot = Slot::default();
        names.insert(name.to_owned(), Arc::clone(&slot));
        slot
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_tenants_memory_is_bounded_and_forgets_what_is_over() {
        let names = Names::default();
        for number in 0..2 * MAX_NAMES {
            let until = Instant::now() + Duration::from_secs(60);
            names.slot(&number.to_string()).set(Answer { addresses: None, until }).unwrap();
        }
        assert_eq!(names.0.lock().unwrap().len(), MAX_NAMES);
        names.slot("over").set(Answer { addresses: None, until: Instant::now() }).unwrap();
        assert!(names.slot("over").get().is_none());
    }
}
