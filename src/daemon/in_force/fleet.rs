//! What is in force for each tenant: the newest accepted commit, except where its declaration is wrong, known to be bad
//! or not approved. What was in force stays in force then, or an older one takes its place, as far as they are not looser
//! than the newest that can be used. Pure.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use super::{
    declaration::{Composition, Declaration},
    state::{Bad, Pin},
    waits::Waits,
};
use crate::{
    model::{
        Desired, DriftMode, Revision, Tenant, TenantName,
        approval::{declaration, line},
        host::Approvals,
        policy::Guards,
    },
    review::{approval, render::words},
};

/// What is in force.
#[derive(Clone, Debug)]
pub(in crate::daemon) struct Fleet {
    /// The commit.
    pub(in crate::daemon) revision: Revision,
    /// What the commit declares, with the errors in it.
    pub(in crate::daemon) declared: Arc<Desired>,
    /// What is carried out: as declared, with others in the place of declarations that are not carried out.
    pub(in crate::daemon) effective: Arc<Desired>,
    /// Declarations that last ran well, of the tenants that are pinned.
    good: BTreeMap<String, Declaration>,
    /// Declarations that are in force in the place of the commit's.
    stands: BTreeMap<String, Declaration>,
}

/// What a new commit changes for the tenants.
pub(in crate::daemon) struct FleetChange {
    pub(in crate::daemon) fleet: Fleet,
    pub(in crate::daemon) pins: BTreeMap<String, Pin>,
    /// The tenants whose declaration in force is another one now, or is there for the first time, or
    /// no more.
    pub(in crate::daemon) changed: BTreeSet<String>,
}

/// How many digits of a declaration's hash are in a state file that 0.1.0 wrote before it kept them all.
const SHORT_HASH: usize = 12;

/// The hash by which a declaration is known again: all of a SHA-256, because who writes declarations may look for two
/// with one hash.
pub(in crate::daemon) fn declaration_hash(tenant: &Tenant) -> String {
    declaration(tenant)
}

/// Whether a hash of the state file is that of a declaration. A short one counts, so that what was held stays held.
fn is_hash_of(kept: &str, tenant: &Tenant) -> bool {
    let whole = declaration_hash(tenant);
    kept == whole || (kept.len() == SHORT_HASH && whole.starts_with(kept))
}

impl Fleet {
    /// What a commit puts in force, as the pins say.
    pub(in crate::daemon) fn new(
        revision: Revision,
        declared: Arc<Desired>,
        pins: &BTreeMap<String, Pin>,
        good: BTreeMap<String, Declaration>,
        mut stands: BTreeMap<String, Declaration>,
    ) -> Self {
        let mut effective = Desired { findings: Vec::new(), ..(*declared).clone() };
        let is_held_back =
            |(name, pin): &(&String, &Pin)| declared.tenants.get(name.as_str()).is_some_and(|one| pin.holds_back(one));
        let held_back = pins.iter().filter(is_held_back).map(|(name, _)| name);
        let not_carried_out: BTreeSet<&String> = declared.held.iter().chain(held_back).collect();
        stands.retain(|name, _| not_carried_out.contains(name));
        for name in not_carried_out {
            match stands.get(name) {
                Some(one) => {
                    effective.held.remove(name);
                    effective.tenants.insert(one.tenant.name.clone(), one.tenant.clone());
                }
                // Nothing is known that may run: it is left as it is, and contained by what is known.
                None => {
                    effective.held_back.extend(effective.tenants.remove_entry(name.as_str()));
                    effective.held.insert(name.clone());
                }
            }
        }
        Self { revision, declared, effective: Arc::new(effective), good, stands }
    }

    /// What was in force before a restart, out of what the pins name. A state file of an earlier version does not say
    /// what stands in the place of the newest declaration.
    pub(in crate::daemon) fn restored(
        revision: Revision,
        declared: Arc<Desired>,
        pins: &BTreeMap<String, Pin>,
        good: BTreeMap<String, Declaration>,
        mut stands: BTreeMap<String, Declaration>,
    ) -> Self {
        for (name, pin) in pins {
            if pin.healthy_after.is_some() || pin.stands_at().is_some() {
                continue;
            }
            let Some(good) = good.get(name) else { continue };
            let newest = declared.tenants.get(name.as_str());
            let newest = newest.map(|tenant| Declaration::new(revision.clone(), tenant.clone()));
            stands.insert(name.clone(), newest.map_or_else(|| good.clone(), |newest| good.narrowed(&newest)));
        }
        Self::new(revision, declared, pins, good, stands)
    }

    /// Puts another commit in force. What a tenant goes back to is what last ran well, until another declaration has.
    pub(in crate::daemon) fn succeed(
        former: Option<&Self>,
        revision: Revision,
        declared: Arc<Desired>,
        pins: &BTreeMap<String, Pin>,
        mut waiting: BTreeMap<String, Waits>,
    ) -> FleetChange {
        let mut new_pins = BTreeMap::new();
        let (mut good, mut stands) = (BTreeMap::new(), BTreeMap::new());
        let healthy_after = declared.policy.healthy_after;
        // No commit makes the trial longer that its own declarations are on.
        let healthy_after = former.map_or(healthy_after, |one| healthy_after.min(one.declared.policy.healthy_after));
        let mut names: BTreeSet<&str> = declared.tenants.keys().map(TenantName::as_str).collect();
        names.extend(declared.held.iter().map(String::as_str));
        for name in names {
            let next = declared.tenants.get(name);
            let pin = pins.get(name);
            let same = next.is_some() && next == former.and_then(|former| former.declared.tenants.get(name));
            if pin.is_none() && same && !waiting.contains_key(name) {
                continue;
            }
            let in_force = former.and_then(|former| former.in_force(name));
            let newest = next.map(|tenant| Declaration::new(revision.clone(), tenant.clone()));
            // A wrong file is no other chance, and no way around an approval.
            let bad = pin.and_then(|pin| pin.bad.clone()).filter(|bad| next.is_none_or(|next| bad.is_about(next)));
            let waits = waiting.remove(name).or_else(|| pin?.waits.clone().filter(|_| next.is_none()));
            let mut last_good = match pin {
                Some(_) => former.and_then(|former| former.good.get(name).cloned()),
                None => in_force.clone(),
            };
            let stands_at = match (&newest, &in_force) {
                (Some(newest), _) if bad.is_none() && waits.is_none() => {
                    // What is started with nothing else than what ran well has nothing to prove.
                    last_good = last_good.map(|good| match good.tenant.starts_like(&newest.tenant) {
                        true => newest.clone(),
                        false => good,
                    });
                    None
                }
                (Some(newest), Some(in_force)) => Some(in_force.narrowed(newest)),
                (None, Some(in_force)) => Some(in_force.clone()),
                (_, None) => None,
            };
            let now = stands_at.as_ref().or(newest.as_ref()).map(|one| &one.tenant);
            let goes_on = in_force.as_ref().map(|one| &one.tenant) == now;
            let begun = pin.and_then(|pin| pin.healthy_after).filter(|_| goes_on);
            new_pins.insert(
                name.to_owned(),
                Pin {
                    good: last_good.as_ref().map(Declaration::composition),
                    stands: stands_at.as_ref().map(Declaration::composition),
                    bad,
                    waits,
                    healthy_after: Some(begun.map_or(healthy_after, |begun| begun.min(healthy_after))),
                },
            );
            good.extend(last_good.map(|one| (name.to_owned(), one)));
            stands.extend(stands_at.map(|one| (name.to_owned(), one)));
        }
        let fleet = Self::new(revision, declared, &new_pins, good, stands);
        let before = |name: &str| former.and_then(|former| former.effective.tenants.get(name));
        let effective = &fleet.effective;
        let changes = effective.tenants.iter().filter(|(name, tenant)| before(name.as_str()) != Some(tenant));
        let mut changed: BTreeSet<String> = changes.map(|(name, _)| name.to_string()).collect();
        let former = former.into_iter().flat_map(|former| former.effective.tenants.keys());
        changed.extend(former.filter(|name| !effective.mentions(name.as_str())).map(TenantName::to_string));
        FleetChange { fleet, pins: new_pins, changed }
    }

    /// The declaration of a tenant that is carried out.
    pub(in crate::daemon) fn in_force(&self, name: &str) -> Option<Declaration> {
        let tenant = self.effective.tenants.get(name)?;
        let stands = self.stands.get(name).cloned();
        Some(stands.unwrap_or_else(|| Declaration::new(self.revision.clone(), tenant.clone())))
    }

    /// The commits whose declaration is in force for a tenant.
    pub(in crate::daemon) fn composition_of(&self, name: &str) -> Composition {
        self.stands.get(name).map_or_else(|| self.revision.clone().into(), Declaration::composition)
    }

    /// Whether what is in force for a tenant is not what the commit declares.
    pub(in crate::daemon) fn is_stand_in(&self, name: &str) -> bool {
        self.stands.contains_key(name)
    }

    /// Whether a tenant's declaration in force has its container started with something that was not confirmed healthy.
    pub(in crate::daemon) fn is_on_trial(&self, name: &str, pin: &Pin) -> bool {
        let in_force = self.effective.tenants.get(name);
        let is_new = |tenant: &Arc<Tenant>| self.good.get(name).is_none_or(|good| !good.tenant.starts_like(tenant));
        pin.bad.is_none() && in_force.is_some_and(is_new)
    }

    /// The tenants that a commit loosens, beyond what is in force, in ways that need an approval. `removed` are
    /// declarations that were the last in force of tenants that come back. What is bad for a tenant already needs none.
    pub(in crate::daemon) fn loosened(
        former: Option<&Self>,
        next: &Desired,
        approvals: &Approvals,
        removed: &BTreeMap<String, Declaration>,
        pins: &BTreeMap<String, Pin>,
    ) -> BTreeMap<String, Waits> {
        if approvals.needed.is_empty() {
            return BTreeMap::new();
        }
        let waiting = next.tenants.values().filter_map(|tenant| {
            let name = tenant.name.as_str();
            let pin = pins.get(name);
            if pin.is_some_and(|pin| pin.waits.is_none() && pin.bad.as_ref().is_some_and(|bad| bad.is_about(tenant))) {
                return None;
            }
            let before = former.and_then(|former| former.in_force(name));
            let known = before.as_ref().or_else(|| removed.get(name));
            let declared = former.and_then(|former| former.declared.tenants.get(name)).map(|declared| &declared.tier);
            let effects = approval::needing(known.map(|one| &*one.tenant), declared, tenant, approvals);
            (!effects.is_empty()).then(|| {
                let declaration = declaration_hash(tenant);
                let waits = Waits {
                    trailer: line(name, &declaration, &approvals.fleet),
                    refused: match pin.and_then(|pin| pin.waits.as_ref()) {
                        Some(waits) if waits.declaration == declaration => waits.refused.clone(),
                        _ => Vec::new(),
                    },
                    declaration,
                    at: before.map(|one| one.composition().base),
                    loosens: Waits::lines(effects.iter().map(words)),
                    approvers: approvals.approvers.iter().cloned().collect(),
                };
                (name.to_owned(), waits)
            })
        });
        waiting.collect()
    }

    /// Judges the declaration in force of a tenant as bad. Returns what the tenant goes back to: what last ran well, as
    /// far as it is not looser. `None` where that would have nothing else started, so that nothing is judged.
    pub(in crate::daemon) fn mark_failed(
        &mut self,
        name: &str,
        reason: &str,
        pins: &mut BTreeMap<String, Pin>,
    ) -> Option<Option<Composition>> {
        let in_force = self.in_force(name)?;
        let pin = pins.get_mut(name).filter(|pin| self.is_on_trial(name, pin))?;
        // It stays in its tier: approvals may guard that one, and who ends himself leaves nothing that is guarded.
        let back_to = self.good.get(name).map(|good| good.narrowed(&in_force).in_tier_of(&in_force));
        if back_to.as_ref().is_some_and(|one| one.tenant.starts_like(&in_force.tenant)) {
            return None;
        }
        pin.bad = Some(Bad {
            revision: in_force.composition().base,
            declaration: declaration_hash(&in_force.tenant),
            reason: reason.to_owned(),
        });
        let composition = back_to.as_ref().map(Declaration::composition);
        pin.stands.clone_from(&composition);
        let (good, mut stands) = (std::mem::take(&mut self.good), std::mem::take(&mut self.stands));
        stands.remove(name);
        stands.extend(back_to.map(|one| (name.to_owned(), one)));
        *self = Self::new(self.revision.clone(), Arc::clone(&self.declared), pins, good, stands);
        Some(composition)
    }

    /// Whether a tenant that runs well proves something: what is held back and starts nothing new stays as it is.
    pub(in crate::daemon) fn can_be_confirmed(&self, name: &str, pin: &Pin) -> bool {
        pin.bad.is_none()
            && self.effective.tenants.contains_key(name)
            && (self.is_on_trial(name, pin) || !self.is_stand_in(name))
    }

    /// Takes note that a tenant ran well with its declaration in force.
    pub(in crate::daemon) fn confirm_healthy(&mut self, name: &str, pins: &mut BTreeMap<String, Pin>) {
        match self.stands.get(name) {
            None => {
                pins.remove(name);
                self.good.remove(name);
            }
            Some(one) => {
                if let Some(pin) = pins.get_mut(name) {
                    pin.good = Some(one.composition());
                }
                self.good.insert(name.to_owned(), one.clone());
            }
        }
    }

    /// What is done about a tenant's drift: what it declares, and never less than the host wants.
    pub(in crate::daemon) fn drift_mode(&self, tenant: &str, weakest: DriftMode) -> DriftMode {
        let Desired { tenants, held_back, .. } = &*self.effective;
        let declared = tenants.get(tenant).or_else(|| held_back.get(tenant));
        declared.map_or(DriftMode::Enabled, |tenant| tenant.drift).max(weakest)
    }

    /// When a commit after this one is held: what this one says counts as well as what the new one
    /// says, so that no commit loosens the guard that it is judged by.
    pub(in crate::daemon) fn guards(former: Option<&Self>, next: &Desired, host: Guards) -> Guards {
        let guards = host.strictest(next.policy.guards);
        former.map_or(guards, |former| guards.strictest(former.declared.policy.guards))
    }
}

impl Pin {
    /// Whether the declaration of the newest commit is not carried out.
    fn holds_back(&self, declared: &Tenant) -> bool {
        self.waits.as_ref().is_some_and(|waits| is_hash_of(&waits.declaration, declared))
            || self.bad.as_ref().is_some_and(|bad| bad.is_about(declared))
    }

    /// The commits whose declaration is in force in the place of the newest.
    pub(in crate::daemon) fn stands_at(&self) -> Option<Composition> {
        let kept = || self.waits.as_ref()?.at.clone().map(Composition::from);
        self.stands.clone().or_else(kept)
    }
}

impl Bad {
    /// Whether this is the declaration that is bad.
    fn is_about(&self, declared: &Tenant) -> bool {
        is_hash_of(&self.declaration, declared)
    }
}

#[cfg(test)]
mod history;

#[cfg(test)]
mod tests;
