//! Over any history, what is in force is not looser than the newest declaration.

use std::{collections::BTreeMap, sync::Arc};

use proptest::{prelude::*, sample::select};

use super::*;
use crate::{
    model::quantity::Timespan,
    review::{Mark, review},
};

// The generator of declarations belongs to the tests of two crates.
#[path = "../../../core/review/arbitrary.rs"]
mod arbitrary;

/// The most commits that a declaration may be made of: as many as there are limits, after those that are tried first, and
/// that of the tier.
const BOUND: usize = 25;

/// What happens to one tenant.
#[derive(Clone, Debug)]
enum Act {
    /// A commit declares it.
    Declare(Box<Tenant>),
    /// A commit declares again what one of the last ones did.
    Revert(usize),
    /// A commit's file is wrong.
    Break,
    /// A commit removes it.
    Remove,
    /// A commit leaves it as it is, and approves it.
    Approve,
    /// A commit edits `health.trialPeriod`.
    Watch(u64),
    /// Its container ends, or is refused three times.
    Fail,
    /// It runs well for long enough.
    Prove,
    /// The daemon ends and starts.
    Restart,
    /// The same, with its state lost.
    Lose,
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        6 => arbitrary::tenant().prop_map(|tenant| Act::Declare(Box::new(tenant))),
        2 => (0..4usize).prop_map(Act::Revert),
        2 => Just(Act::Break),
        1 => Just(Act::Remove),
        2 => Just(Act::Approve),
        1 => select(vec![1u64, 60, 3600]).prop_map(Act::Watch),
        6 => Just(Act::Fail),
        3 => Just(Act::Prove),
        3 => Just(Act::Restart),
        1 => Just(Act::Lose),
    ]
}

/// A fleet of one tenant, and what is remembered of it.
#[derive(Default)]
struct World {
    commits: Vec<(Revision, Arc<Desired>)>,
    fleet: Option<Fleet>,
    pins: BTreeMap<String, Pin>,
    /// Whether what loosens needs an approval.
    guarded: bool,
}

fn loosens(before: &Tenant, after: &Tenant) -> Vec<String> {
    let fleet = |tenant: &Tenant| Desired {
        tenants: BTreeMap::from([(tenant.name.clone(), Arc::new(tenant.clone()))]),
        policy_usable: true,
        ..Desired::default()
    };
    let review = review(&fleet(before), &fleet(after), &|_, _, _| Default::default());
    let marked = review.effects().filter(|(_, effect)| effect.mark == Mark::Loosens);
    marked.map(|(_, effect)| format!("{effect:?}")).collect()
}

impl World {
    fn newest(&self) -> Desired {
        self.commits.last().map(|(_, desired)| Desired::clone(desired)).unwrap_or_default()
    }

    /// What the newest commit declares whose file is right, of those since the tenant was there last.
    fn usable(&self) -> Option<Arc<Tenant>> {
        let since = self.commits.iter().rev().take_while(|(_, desired)| desired.mentions("ant"));
        since.filter_map(|(_, desired)| desired.tenants.get("ant").cloned()).next()
    }

    fn in_force(&self) -> Option<Arc<Tenant>> {
        Some(self.fleet.as_ref()?.in_force("ant")?.tenant)
    }

    fn commit(&mut self, desired: Desired, approved: bool) {
        let revision = Revision { branch: "main".to_owned(), commit: format!("{:040}", self.commits.len()) };
        let desired = Arc::new(desired);
        self.commits.push((revision.clone(), Arc::clone(&desired)));
        let before = self.in_force();
        let needs = before.zip(desired.tenants.get("ant")).filter(|(before, next)| !loosens(before, next).is_empty());
        let waits = needs
            .filter(|_| self.guarded && !approved)
            .map(|(_, next)| Waits { declaration: declaration_hash(next), ..Waits::default() });
        let waiting = waits.into_iter().map(|waits| ("ant".to_owned(), waits)).collect();
        let change = Fleet::succeed(self.fleet.as_ref(), revision, desired, &self.pins, waiting);
        (self.fleet, self.pins) = (Some(change.fleet), change.pins);
    }

    fn declare(&mut self, tenant: Arc<Tenant>) {
        let tenants = BTreeMap::from([(tenant.name.clone(), tenant)]);
        self.commit(Desired { tenants, held: BTreeSet::new(), ..self.newest() }, false);
    }

    fn restart(&mut self) {
        let Some(fleet) = &self.fleet else { return };
        let text = serde_json::to_string(&self.pins).unwrap();
        self.pins = serde_json::from_str(&text).unwrap();
        let declared = Arc::clone(&fleet.declared);
        let read = |composition: Option<Composition>| {
            let declares = |revision: &Revision| {
                let (_, desired) = self.commits.iter().find(|(commit, _)| commit == revision)?;
                desired.tenants.get("ant").cloned()
            };
            let read = composition.map(|composition| Declaration::read(&composition, declares).unwrap());
            read.into_iter().map(|one| ("ant".to_owned(), one)).collect::<BTreeMap<_, _>>()
        };
        let pin = self.pins.get("ant").cloned().unwrap_or_default();
        let (good, stands) = (read(pin.good.clone()), read(pin.stands_at()));
        self.fleet = Some(Fleet::restored(fleet.revision.clone(), declared, &self.pins, good, stands));
    }

    fn lose(&mut self) {
        (self.fleet, self.pins) = (None, BTreeMap::new());
        if let Some((revision, desired)) = self.commits.last().cloned() {
            let change = Fleet::succeed(None, revision, desired, &self.pins, BTreeMap::new());
            (self.fleet, self.pins) = (Some(change.fleet), change.pins);
        }
    }

    fn act(&mut self, act: Act) {
        match act {
            Act::Declare(tenant) => self.declare(Arc::from(tenant)),
            Act::Revert(back) => {
                let mut older = self.commits.iter().rev().filter_map(|(_, desired)| desired.tenants.get("ant"));
                if let Some(tenant) = older.nth(back).cloned() {
                    self.declare(tenant);
                }
            }
            Act::Break => {
                let held = BTreeSet::from(["ant".to_owned()]);
                self.commit(Desired { tenants: BTreeMap::new(), held, ..self.newest() }, false);
            }
            Act::Remove => {
                self.commit(Desired { tenants: BTreeMap::new(), held: BTreeSet::new(), ..self.newest() }, false);
            }
            Act::Approve => self.commit(self.newest(), true),
            Act::Watch(seconds) => {
                let mut desired = self.newest();
                desired.policy.healthy_after = Timespan::seconds(seconds);
                self.commit(desired, false);
            }
            Act::Fail => {
                let Some(fleet) = &mut self.fleet else { return };
                fleet.mark_failed("ant", "it ended", &mut self.pins);
            }
            Act::Prove => {
                let Some(fleet) = &mut self.fleet else { return };
                if self.pins.get("ant").is_some_and(|pin| fleet.can_be_confirmed("ant", pin)) {
                    fleet.confirm_healthy("ant", &mut self.pins);
                }
            }
            Act::Restart => self.restart(),
            Act::Lose => self.lose(),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn what_is_in_force_is_never_looser(
        guarded in any::<bool>(),
        acts in proptest::collection::vec(act(), 1..24),
    ) {
        let mut world = World { guarded, ..World::default() };
        for act in acts {
            let before = world.in_force();
            let (shown, gives) = (format!("{act:?}"), matches!(act, Act::Declare(_) | Act::Revert(_) | Act::Approve));
            let (lost, removed) = (matches!(act, Act::Lose), matches!(act, Act::Remove));
            let wrong = matches!(act, Act::Break);
            world.act(act);
            let now = world.in_force();
            let (Some(now), Some(usable)) = (&now, world.usable()) else { continue };
            let beyond = loosens(&usable, now);
            prop_assert!(beyond.is_empty(), "{shown}: {beyond:?}");
            let pin = world.pins.get("ant").cloned().unwrap_or_default();
            for composition in [pin.good, pin.stands].into_iter().flatten() {
                prop_assert!(composition.revisions().count() <= BOUND);
            }
            let Some(before) = before.filter(|_| !lost && !removed) else { continue };
            // Only what a commit declares may be looser than what was in force, and only where nobody has to approve it.
            if !gives || pin.waits.is_some() {
                let beyond = loosens(&before, now);
                prop_assert!(beyond.is_empty(), "{shown}: {beyond:?}");
                // Approvals go by the tier, so that nothing else moves a tenant out of it.
                prop_assert_eq!(&before.tier, &now.tier, "{}", shown);
            }
            if wrong {
                prop_assert_eq!(&before, now);
            }
        }
    }

    /// Whatever happened, the very same is in force after a restart.
    #[test]
    fn a_restart_changes_nothing(guarded in any::<bool>(), acts in proptest::collection::vec(act(), 1..24)) {
        let mut world = World { guarded, ..World::default() };
        for act in acts {
            world.act(act);
            let Some(before) = world.fleet.clone() else { continue };
            world.restart();
            let after = world.fleet.as_ref().unwrap();
            prop_assert_eq!(&before.effective.tenants, &after.effective.tenants);
            prop_assert_eq!(&before.effective.held, &after.effective.held);
            prop_assert_eq!(&before.good, &after.good);
            prop_assert_eq!(&before.stands, &after.stands);
        }
    }

    /// However many commits narrow a tenant that waits, what is remembered of it is bounded.
    #[test]
    fn what_is_narrowed_again_and_again_stays_bounded(
        tenants in proptest::collection::vec(arbitrary::tenant(), 20..60),
    ) {
        let mut world = World { guarded: true, ..World::default() };
        for tenant in tenants {
            world.act(Act::Declare(Box::new(tenant)));
            let stands = world.pins.get("ant").and_then(|pin| pin.stands.clone());
            prop_assert!(stands.is_none_or(|stands| stands.revisions().count() <= BOUND));
            let beyond = loosens(&world.usable().unwrap(), &world.in_force().unwrap());
            prop_assert!(beyond.is_empty(), "{beyond:?}");
        }
    }
}
