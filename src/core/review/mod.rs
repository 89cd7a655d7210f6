//! What a commit changes for the tenants of a fleet, without an engine: two declarations compared. Pure.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

pub mod approval;
pub mod history;
pub mod render;

#[cfg(test)]
pub(crate) mod arbitrary;
mod effect;
mod files;
mod marks;
mod rules;
mod settings;
mod stricter;
mod variables;

use std::{cmp::Ordering, sync::Arc};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::model::{Desired, Tenant, TenantName, finding::Location};

pub use effect::{Effect, Mark};
pub use files::FileChange;
pub use rules::RULES;
pub use settings::settings;
pub use stricter::stricter;

/// What becomes of a tenant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum TenantChange {
    /// It is new.
    Added,
    /// It is gone.
    Removed,
    /// Something of it is another.
    Changed,
    /// Its file has errors: what runs is left as it is.
    Held,
}

impl TenantChange {
    /// The word in tables.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Added => "added",
            Self::Removed => "removed",
            Self::Changed => "changed",
            Self::Held => "held",
        }
    }
}

/// What changes for one tenant.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
pub struct TenantReview {
    /// Its name.
    pub tenant: String,
    /// What becomes of it.
    pub change: TenantChange,
    /// What changes of it, what loosens first. Of one that is new or gone, all that its file opens.
    pub effects: Vec<Effect>,
    /// What differs in the config files of one that goes on.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<FileChange>,
}

/// What changes for all.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
pub struct Review {
    /// What changes of the fleet's own policy.
    pub fleet: Vec<Effect>,
    /// The tenants for whom something changes, by name.
    pub tenants: Vec<TenantReview>,
}

impl Review {
    /// Whether nothing changes.
    pub fn is_empty(&self) -> bool {
        self.fleet.is_empty() && self.tenants.is_empty()
    }

    /// Every effect, with its tenant; `None` for the fleet's own policy.
    pub fn effects(&self) -> impl Iterator<Item = (Option<&TenantReview>, &Effect)> {
        let fleet = self.fleet.iter().map(|effect| (None, effect));
        fleet.chain(self.tenants.iter().flat_map(|one| one.effects.iter().map(move |effect| (Some(one), effect))))
    }

    /// How many tenants have an effect of a mark.
    pub fn count(&self, mark: Mark) -> usize {
        self.tenants.iter().filter(|one| one.effects.iter().any(|effect| effect.mark == mark)).count()
    }
}

/// Compares two declarations of a fleet. `locate` says where a setting of a tenant, or of the fleet where there is no
/// tenant, stands in the newer files.
pub fn review(base: &Desired, now: &Desired, locate: &dyn Fn(Option<&str>, &str, &Value) -> Location) -> Review {
    let held = now.held.iter().filter(|name| !base.held.contains(*name));
    let held = held.map(|name| TenantReview {
        tenant: name.clone(),
        change: TenantChange::Held,
        effects: Vec::new(),
        files: Vec::new(),
    });
    let mut tenants: Vec<TenantReview> = held.collect();
    for (name, before, after) in differing(base, now) {
        if now.held.contains(name.as_str()) {
            continue;
        }
        let change = match (before, after) {
            (None, _) => TenantChange::Added,
            (_, None) => TenantChange::Removed,
            _ => TenantChange::Changed,
        };
        let mut effects = marks::tenant(before.map(AsRef::as_ref), after.map(AsRef::as_ref));
        place(&mut effects, |field, value| locate(Some(name.as_str()), field, value));
        if change != TenantChange::Changed || !effects.is_empty() {
            let both = before.zip(after);
            let files = both.map_or_else(Vec::new, |(before, after)| files::changes(before, after));
            tenants.push(TenantReview { tenant: name.to_string(), change, effects, files });
        }
    }
    tenants.sort_by(|a, b| a.tenant.cmp(&b.tenant));
    let mut fleet = marks::fleet(&base.policy, &now.policy);
    place(&mut fleet, |field, value| locate(None, field, value));
    Review { fleet, tenants }
}

/// A tenant by its name, with what it was and what it is.
type Differing<'d> = (&'d TenantName, Option<&'d Arc<Tenant>>, Option<&'d Arc<Tenant>>);

/// The tenants that are not the same on both sides, by name.
fn differing<'d>(base: &'d Desired, now: &'d Desired) -> impl Iterator<Item = Differing<'d>> {
    let (mut old, mut new) = (base.tenants.iter().peekable(), now.tenants.iter().peekable());
    let both = std::iter::from_fn(move || {
        let order = match (old.peek(), new.peek()) {
            (Some((one, _)), Some((other, _))) => one.cmp(other),
            (Some(_), None) => Ordering::Less,
            (None, _) => Ordering::Greater,
        };
        let before = if order.is_le() { old.next() } else { None };
        let after = if order.is_ge() { new.next() } else { None };
        let (name, _) = before.or(after)?;
        Some((name, before.map(|(_, tenant)| tenant), after.map(|(_, tenant)| tenant)))
    });
    both.filter(|(_, before, after)| before != after)
}

fn place(effects: &mut [Effect], locate: impl Fn(&str, &Value) -> Location) {
    for effect in effects.iter_mut() {
        effect.at = locate(&effect.field, if effect.after.is_null() { &effect.before } else { &effect.after });
    }
    effects.sort_by(|a, b| (a.mark, &a.field).cmp(&(b.mark, &b.field)));
}
