//! What was refused: counted by tenant and rule.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
};

use super::{Refusal, Rule};
use crate::model::TenantName;

/// Counts for all tenants.
#[derive(Debug, Default)]
pub struct Refusals {
    counts: Mutex<BTreeMap<(TenantName, Rule), u64>>,
}

impl Refusals {
    /// Takes note of one.
    pub fn note(&self, refusal: &Refusal) {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        *counts.entry((refusal.tenant.clone(), refusal.rule)).or_default() += 1;
    }

    /// How many there were, by tenant and rule.
    pub fn counts(&self) -> BTreeMap<(TenantName, Rule), u64> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
