//! What is in force for each tenant: the newest accepted commit, except where its declaration is
//! wrong, known to be bad or not approved, and an older one stands in for it. Pure.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use super::state::{Bad, Pin, Waits};
use crate::{
    model::{Desired, DriftMode, Revision, Tenant, TenantName, host::Approvals, policy::Guards},
    plan::guard::short_hash,
    review::{approval, render::words},
};

/// A tenant's declaration and the commit that it stands in.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Declaration {
    pub(super) tenant: Arc<Tenant>,
    pub(super) revision: Revision,
}

/// What is in force.
#[derive(Clone, Debug)]
pub(super) struct Fleet {
    /// The commit.
    pub(super) revision: Revision,
    /// What the commit declares, with the errors in it.
    pub(super) declared: Arc<Desired>,
    /// What is carried out: as declared, with older declarations in the place of wrong ones.
    pub(super) effective: Arc<Desired>,
    /// The tenants that stand at an older commit, and at which.
    pub(super) older: BTreeMap<String, Revision>,
    /// Declarations to go back to, of the tenants that are pinned.
    pub(super) good: BTreeMap<String, Declaration>,
    /// Declarations that stay in force, of the tenants that wait for an approval.
    pub(super) kept: BTreeMap<String, Declaration>,
}

/// What a new commit changes for the tenants.
pub(super) struct Change {
    pub(super) fleet: Fleet,
    pub(super) pins: BTreeMap<String, Pin>,
    /// The tenants whose declaration in force is another one now, or is there for the first time, or
    /// no more.
    pub(super) changed: BTreeSet<String>,
}

/// The hash by which a declaration is known again.
pub(super) fn declaration_hash(tenant: &Tenant) -> String {
    short_hash(&serde_json::to_string(tenant).unwrap_or_default())
}

impl Fleet {
    /// What a commit puts in force, as the pins say.
    pub(super) fn new(
        revision: Revision,
        declared: Arc<Desired>,
        pins: &BTreeMap<String, Pin>,
        good: BTreeMap<String, Declaration>,
        kept: BTreeMap<String, Declaration>,
    ) -> Self {
        let mut effective = Desired { findings: Vec::new(), ..(*declared).clone() };
        let mut older = BTreeMap::new();
        let mut stand_in = |effective: &mut Desired, name: &str, by: Option<&Declaration>| match by {
            Some(one) => {
                effective.held.remove(name);
                effective.tenants.insert(one.tenant.name.clone(), one.tenant.clone());
                older.insert(name.to_owned(), one.revision.clone());
            }
            // Nothing is known that may run: it is left as it is.
            None => {
                effective.tenants.remove(name);
                effective.held.insert(name.to_owned());
            }
        };
        for name in &declared.held {
            stand_in(&mut effective, name, kept.get(name).or_else(|| good.get(name)));
        }
        for (name, pin) in pins {
            if let (Some(waits), Some(tenant)) = (&pin.waits, declared.tenants.get(name.as_str()))
                && declaration_hash(tenant) == waits.declaration
            {
                stand_in(&mut effective, name, kept.get(name));
                continue;
            }
            if let (Some(bad), Some(tenant)) = (&pin.bad, declared.tenants.get(name.as_str()))
                && declaration_hash(tenant) == bad.declaration
                && good.get(name).is_none_or(|good| may_stand_in(&good.tenant, tenant))
            {
                stand_in(&mut effective, name, good.get(name));
            }
        }
        Self { revision, declared, effective: Arc::new(effective), older, good, kept }
    }

    /// Puts another commit in force. A tenant whose declaration changes keeps the one that ran well
    /// until the new one has; an older stand-in stays where the commit gives nothing better.
    pub(super) fn succeed(
        former: Option<&Self>,
        revision: Revision,
        declared: Arc<Desired>,
        pins: &BTreeMap<String, Pin>,
        mut waiting: BTreeMap<String, Waits>,
    ) -> Change {
        let mut new_pins = BTreeMap::new();
        let (mut good, mut kept) = (BTreeMap::new(), BTreeMap::new());
        let mut names: BTreeSet<&str> = declared.tenants.keys().map(TenantName::as_str).collect();
        names.extend(declared.held.iter().map(String::as_str));
        for name in names {
            let next = declared.tenants.get(name);
            let pin = pins.get(name);
            let last_good = former.and_then(|former| former.proven(name, pin));
            let same = next.is_some() && next == former.and_then(|former| former.declared.tenants.get(name));
            let bad = pin.and_then(|pin| pin.bad.clone()).filter(|_| same);
            // A wrong file is no way around an approval.
            let waits = waiting.remove(name).or_else(|| pin?.waits.clone().filter(|_| next.is_none()));
            let settled = next.is_some() && pin.is_none() && same && waits.is_none();
            if settled {
                continue;
            }
            if waits.is_some()
                && let Some(one) = former.and_then(|former| former.in_force(name))
            {
                kept.insert(name.to_owned(), one);
            }
            let at = last_good.as_ref().map(|one| one.revision.clone());
            new_pins.insert(name.to_owned(), Pin { good: at, bad, waits });
            if let Some(one) = last_good {
                good.insert(name.to_owned(), one);
            }
        }
        let fleet = Self::new(revision, declared, &new_pins, good, kept);
        let before = |name: &str| former.and_then(|former| former.effective.tenants.get(name));
        let effective = &fleet.effective;
        let changes = effective.tenants.iter().filter(|(name, tenant)| before(name.as_str()) != Some(tenant));
        let mut changed: BTreeSet<String> = changes.map(|(name, _)| name.to_string()).collect();
        let former = former.into_iter().flat_map(|former| former.effective.tenants.keys());
        changed.extend(former.filter(|name| !effective.mentions(name.as_str())).map(TenantName::to_string));
        Change { fleet, pins: new_pins, changed }
    }

    /// The declaration of a tenant that last ran well: the one it is pinned to, else the one in force.
    fn proven(&self, name: &str, pin: Option<&Pin>) -> Option<Declaration> {
        match pin {
            Some(_) => self.good.get(name).cloned(),
            None => self.in_force(name),
        }
    }

    /// The declaration of a tenant that is carried out.
    fn in_force(&self, name: &str) -> Option<Declaration> {
        let tenant = self.effective.tenants.get(name)?.clone();
        Some(Declaration { tenant, revision: self.revision_of(name).clone() })
    }

    /// The tenants that a commit loosens, beyond what is in force, in ways that need an approval. `departed` are
    /// declarations that were the last in force of tenants that come back.
    pub(super) fn loosened(
        former: Option<&Self>,
        next: &Desired,
        approvals: &Approvals,
        departed: &BTreeMap<String, Declaration>,
    ) -> BTreeMap<String, Waits> {
        if approvals.needed.is_empty() {
            return BTreeMap::new();
        }
        let waiting = next.tenants.values().filter_map(|tenant| {
            let name = tenant.name.as_str();
            let before = former.and_then(|former| former.in_force(name));
            let known = before.as_ref().or_else(|| departed.get(name));
            let effects = approval::needing(known.map(|one| &*one.tenant), tenant, approvals);
            (!effects.is_empty()).then(|| {
                let waits = Waits {
                    declaration: declaration_hash(tenant),
                    at: before.map(|one| one.revision),
                    loosens: effects.iter().map(words).collect(),
                    approvers: approvals.approvers.iter().cloned().collect(),
                };
                (name.to_owned(), waits)
            })
        });
        waiting.collect()
    }

    /// The commit whose declaration is in force for a tenant.
    pub(super) fn revision_of(&self, tenant: &str) -> &Revision {
        self.older.get(tenant).unwrap_or(&self.revision)
    }

    /// Judges the declaration of a tenant as bad. Returns where the tenant goes back to, if anywhere.
    pub(super) fn condemn(
        &mut self,
        name: &str,
        reason: &str,
        pins: &mut BTreeMap<String, Pin>,
    ) -> Option<Option<Revision>> {
        let tenant = self.declared.tenants.get(name)?;
        let pin = pins.get_mut(name)?;
        let good = self.good.get(name);
        if good.is_some_and(|good| !may_stand_in(&good.tenant, tenant)) {
            return None;
        }
        pin.bad = Some(Bad {
            revision: self.revision.clone(),
            declaration: declaration_hash(tenant),
            reason: reason.to_owned(),
        });
        let back_to = good.map(|good| good.revision.clone());
        let (good, kept) = (std::mem::take(&mut self.good), std::mem::take(&mut self.kept));
        *self = Self::new(self.revision.clone(), Arc::clone(&self.declared), pins, good, kept);
        Some(back_to)
    }

    /// What is done about a tenant's drift: what it declares, and never less than the host wants.
    pub(super) fn drift_mode(&self, tenant: &str, weakest: DriftMode) -> DriftMode {
        self.effective.tenants.get(tenant).map_or(DriftMode::Enabled, |tenant| tenant.drift).max(weakest)
    }

    /// When a commit after this one is held: what this one says counts as well as what the new one
    /// says, so that no commit loosens the guard that it is judged by.
    pub(super) fn guards(former: Option<&Self>, next: &Desired, host: Guards) -> Guards {
        let guards = host.strictest(next.policy.guards);
        former.map_or(guards, |former| guards.strictest(former.declared.policy.guards))
    }
}

/// Whether an older declaration may stand in for a newer one: never with a weaker runtime.
fn may_stand_in(older: &Tenant, newer: &Tenant) -> bool {
    older.class >= newer.class
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{
        RuntimeClass,
        tree::{SourceFile, Tree},
    };

    fn revision(n: u8) -> Revision {
        Revision { branch: "main".to_owned(), commit: format!("{n:040}") }
    }

    /// A fleet of tenants by name and memory; an empty one is a wrong file.
    fn declared(tenants: &[(&str, &str)]) -> Arc<Desired> {
        let fleet = "apiVersion: tenantd/v1\nkind: Fleet\ndefaults: {tier: free, image: agent:1}\n";
        let mut files = vec![SourceFile { path: "fleet.yaml".to_owned(), bytes: fleet.into() }];
        for (name, memory) in tenants {
            let limits =
                if memory.is_empty() { "wrong: key".to_owned() } else { format!("limits: {{memory: {memory}}}") };
            let text = format!("apiVersion: tenantd/v1\nkind: Tenant\ntenant: {name}\n{limits}\n");
            files.push(SourceFile { path: format!("tenants/{name}.yaml"), bytes: text.into() });
        }
        Arc::new(crate::spec::compile(&Tree { files, ..Tree::default() }))
    }

    /// Puts a commit in force, where nothing needs an approval.
    fn succeed(former: Option<&Fleet>, n: u8, declared: Arc<Desired>, pins: &BTreeMap<String, Pin>) -> Change {
        Fleet::succeed(former, revision(n), declared, pins, BTreeMap::new())
    }

    fn memory(fleet: &Fleet, name: &str) -> Option<String> {
        fleet.effective.tenants.get(name).map(|tenant| tenant.limits.memory.to_string())
    }

    /// A fleet in force whose tenants have all run well.
    fn settled(tenants: &[(&str, &str)]) -> Fleet {
        Fleet::new(revision(1), declared(tenants), &BTreeMap::new(), BTreeMap::new(), BTreeMap::new())
    }

    #[test]
    fn a_wrong_file_leaves_the_last_good_declaration_in_force() {
        let first = settled(&[("ant", "64MiB"), ("bee", "64MiB")]);
        let change = succeed(Some(&first), 2, declared(&[("ant", ""), ("bee", "32MiB")]), &BTreeMap::new());
        assert_eq!(memory(&change.fleet, "ant").as_deref(), Some("64MiB"));
        assert_eq!(memory(&change.fleet, "bee").as_deref(), Some("32MiB"));
        assert_eq!((change.fleet.revision_of("ant"), change.fleet.revision_of("bee")), (&revision(1), &revision(2)));
        assert_eq!(change.changed, BTreeSet::from(["bee".to_owned()]));
        // Another commit that leaves it wrong still goes back to the first.
        let again = succeed(Some(&change.fleet), 3, declared(&[("ant", ""), ("bee", "32MiB")]), &change.pins);
        assert_eq!(memory(&again.fleet, "ant").as_deref(), Some("64MiB"));
        assert_eq!(again.pins["ant"].good, Some(revision(1)));
    }

    #[test]
    fn a_bad_declaration_is_not_tried_again_until_it_changes() {
        let first = settled(&[("ant", "64MiB")]);
        let change = succeed(Some(&first), 2, declared(&[("ant", "32MiB")]), &BTreeMap::new());
        let (mut fleet, mut pins) = (change.fleet, change.pins);
        assert_eq!(fleet.condemn("ant", "it ended", &mut pins), Some(Some(revision(1))));
        assert_eq!(memory(&fleet, "ant").as_deref(), Some("64MiB"));
        let same = succeed(Some(&fleet), 3, declared(&[("ant", "32MiB"), ("bee", "64MiB")]), &pins);
        assert_eq!(memory(&same.fleet, "ant").as_deref(), Some("64MiB"));
        let other = succeed(Some(&same.fleet), 4, declared(&[("ant", "48MiB")]), &same.pins);
        assert_eq!(memory(&other.fleet, "ant").as_deref(), Some("48MiB"));
        assert_eq!(other.pins["ant"], Pin { good: Some(revision(1)), ..Pin::default() });
    }

    #[test]
    fn a_tenant_that_goes_changes_and_one_whose_file_is_wrong_does_not() {
        let first = settled(&[("ant", "64MiB"), ("bee", "64MiB"), ("cat", "64MiB")]);
        let change = succeed(Some(&first), 2, declared(&[("ant", ""), ("cat", "64MiB")]), &BTreeMap::new());
        assert_eq!(change.changed, BTreeSet::from(["bee".to_owned()]));
    }

    #[test]
    fn a_change_that_has_not_proved_good_is_not_what_is_gone_back_to() {
        let first = settled(&[("ant", "64MiB")]);
        let second = succeed(Some(&first), 2, declared(&[("ant", "32MiB")]), &BTreeMap::new());
        let third = succeed(Some(&second.fleet), 3, declared(&[("ant", "16MiB")]), &second.pins);
        let (mut fleet, mut pins) = (third.fleet, third.pins);
        assert_eq!(fleet.condemn("ant", "it ended", &mut pins), Some(Some(revision(1))));
        assert_eq!(memory(&fleet, "ant").as_deref(), Some("64MiB"));
    }

    #[test]
    fn a_new_tenant_that_never_ran_is_left_alone() {
        let change = succeed(None, 1, declared(&[("ant", "64MiB")]), &BTreeMap::new());
        let (mut fleet, mut pins) = (change.fleet, change.pins);
        assert_eq!(fleet.condemn("ant", "it ended", &mut pins), Some(None));
        assert!(fleet.effective.held.contains("ant") && fleet.effective.tenants.is_empty());
    }

    #[test]
    fn a_weaker_runtime_never_stands_in() {
        let first = settled(&[("ant", "64MiB")]);
        let mut next = (*declared(&[("ant", "64MiB")])).clone();
        if let Some(ant) = next.tenants.get_mut("ant").map(Arc::make_mut) {
            ant.class = RuntimeClass::Gvisor;
        }
        let change = succeed(Some(&first), 2, Arc::new(next), &BTreeMap::new());
        let (mut fleet, mut pins) = (change.fleet, change.pins);
        assert_eq!(fleet.condemn("ant", "it ended", &mut pins), None);
        assert_eq!(fleet.effective.tenants["ant"].class, RuntimeClass::Gvisor);
    }

    #[test]
    fn no_commit_loosens_the_guard_that_it_is_judged_by() {
        let first = settled(&[("ant", "64MiB")]);
        let mut next = (*declared(&[])).clone();
        next.policy.guards = Guards { percent: 100, at_least: 1000 };
        let host = Guards { percent: 50, at_least: 10 };
        assert_eq!(Fleet::guards(Some(&first), &next, host), Guards::default());
        assert_eq!(Fleet::guards(None, &next, host), host);
    }
}
