//! What images say of tenants, remembered.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use crate::model::Claim;

/// The most images whose labels are remembered.
const MOST_IMAGES: usize = 4_096;

/// What images say of tenants, by their ids: an id stands for the image's content, so that none ever says something else.
#[derive(Default)]
pub(super) struct ImageClaims(Mutex<BTreeMap<String, Arc<Claim>>>);

impl ImageClaims {
    /// What an image says, where that is known already.
    pub(super) fn get(&self, id: &str) -> Option<Arc<Claim>> {
        self.known().get(id).map(Arc::clone)
    }

    /// Remembers what an image says.
    pub(super) fn add(&self, id: &str, claim: &Arc<Claim>) {
        let mut known = self.known();
        if known.len() >= MOST_IMAGES {
            known.clear();
        }
        known.insert(id.to_owned(), Arc::clone(claim));
    }

    fn known(&self) -> MutexGuard<'_, BTreeMap<String, Arc<Claim>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
