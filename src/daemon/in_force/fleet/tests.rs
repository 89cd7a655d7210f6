//! What is in force after commits, ends and restarts, one by one.

use super::*;
use crate::model::{
    quantity::Timespan,
    tree::{SourceFile, Tree},
};

fn revision(n: u8) -> Revision {
    Revision { branch: "main".to_owned(), commit: format!("{n:040}") }
}

/// A fleet of tenants by name and memory, with an image where it is not the first; an empty one is a wrong file.
fn declared(tenants: &[(&str, &str)]) -> Arc<Desired> {
    declared_with("", tenants)
}

/// The same with further lines of `fleet.yaml`.
fn declared_with(policy: &str, tenants: &[(&str, &str)]) -> Arc<Desired> {
    let fleet = format!("apiVersion: tenantd/v1\nkind: Fleet\ndefaults: {{tier: free, image: agent:1}}\n{policy}");
    let mut files = vec![SourceFile { path: "fleet.yaml".to_owned(), bytes: fleet.into() }];
    for (name, what) in tenants {
        let (memory, image) = what.split_once(' ').unwrap_or((what, "agent:1"));
        let lines = match memory {
            "" => "wrong: key".to_owned(),
            memory => format!("image: {image}\nlimits: {{memory: {memory}}}"),
        };
        let text = format!("apiVersion: tenantd/v1\nkind: Tenant\ntenant: {name}\n{lines}\n");
        files.push(SourceFile { path: format!("tenants/{name}.yaml"), bytes: text.into() });
    }
    Arc::new(crate::spec::compile(&Tree { files, ..Tree::default() }))
}

/// Puts a commit in force, where nothing needs an approval.
fn succeed(former: Option<&Fleet>, n: u8, declared: Arc<Desired>, pins: &BTreeMap<String, Pin>) -> FleetChange {
    Fleet::succeed(former, revision(n), declared, pins, BTreeMap::new())
}

fn memory(fleet: &Fleet, name: &str) -> Option<String> {
    fleet.effective.tenants.get(name).map(|tenant| tenant.limits.memory.to_string())
}

fn image(fleet: &Fleet, name: &str) -> Option<String> {
    fleet.effective.tenants.get(name).map(|tenant| tenant.image.to_string())
}

fn at(n: u8) -> Composition {
    revision(n).into()
}

fn words(composition: &Composition) -> Vec<u8> {
    composition.revisions().map(|revision| revision.commit.parse().unwrap()).collect()
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
    assert_eq!((change.fleet.composition_of("ant"), change.fleet.composition_of("bee")), (at(1), at(2)));
    assert_eq!(change.changed, BTreeSet::from(["bee".to_owned()]));
    // Another commit that leaves it wrong still goes back to the first.
    let again = succeed(Some(&change.fleet), 3, declared(&[("ant", ""), ("bee", "32MiB")]), &change.pins);
    assert_eq!(memory(&again.fleet, "ant").as_deref(), Some("64MiB"));
    assert_eq!(again.pins["ant"].good, Some(at(1)));
}

#[test]
fn a_bad_declaration_is_not_tried_again_until_it_changes() {
    let first = settled(&[("ant", "64MiB")]);
    let next = [("ant", "32MiB agent:2")];
    let change = succeed(Some(&first), 2, declared(&next), &BTreeMap::new());
    let (mut fleet, mut pins) = (change.fleet, change.pins);
    let back_to = fleet.mark_failed("ant", "it ended", &mut pins).unwrap().unwrap();
    // What it is started with is the older one's, and its limit the newer one's.
    assert_eq!(words(&back_to), [1, 2]);
    let stands = |fleet: &Fleet| (memory(fleet, "ant").unwrap(), image(fleet, "ant").unwrap());
    assert_eq!(stands(&fleet), ("32MiB".to_owned(), "agent:1".to_owned()));
    // Its end says nothing more: there is nothing else to go back to.
    assert_eq!(fleet.mark_failed("ant", "it ended", &mut pins), None);
    // Another tenant's change, a wrong file and the same again are no other chance.
    let same = succeed(Some(&fleet), 3, declared(&[next[0], ("bee", "64MiB")]), &pins);
    let wrong = succeed(Some(&same.fleet), 4, declared(&[("ant", "")]), &same.pins);
    let again = succeed(Some(&wrong.fleet), 5, declared(&next), &wrong.pins);
    for fleet in [&same.fleet, &wrong.fleet, &again.fleet] {
        assert_eq!(stands(fleet), ("32MiB".to_owned(), "agent:1".to_owned()));
    }
    let other = succeed(Some(&again.fleet), 6, declared(&[("ant", "48MiB agent:2")]), &again.pins);
    assert_eq!(stands(&other.fleet), ("48MiB".to_owned(), "agent:2".to_owned()));
    let pin = &other.pins["ant"];
    assert_eq!((pin.good.clone(), pin.stands.clone(), pin.bad.clone()), (Some(at(1)), None, None));
}

#[test]
fn what_a_container_is_not_started_with_is_not_on_trial() {
    let first = settled(&[("ant", "64MiB")]);
    for memory_now in ["32MiB", "128MiB"] {
        let change = succeed(Some(&first), 2, declared(&[("ant", memory_now)]), &BTreeMap::new());
        let (mut fleet, mut pins) = (change.fleet, change.pins);
        assert!(!fleet.is_on_trial("ant", &pins["ant"]));
        assert_eq!(fleet.mark_failed("ant", "it ended", &mut pins), None);
        assert_eq!(memory(&fleet, "ant").as_deref(), Some(memory_now));
        // It counts as what ran well at once: a later bad one does not lead behind it.
        let next = succeed(Some(&fleet), 3, declared(&[("ant", "256MiB agent:2")]), &pins);
        let (mut fleet, mut pins) = (next.fleet, next.pins);
        assert_eq!(fleet.mark_failed("ant", "it ended", &mut pins), Some(Some(at(2))));
    }
}

#[test]
fn a_wrong_file_keeps_what_was_on_trial_and_its_trial() {
    let first = settled(&[("ant", "256MiB")]);
    let second = succeed(Some(&first), 2, declared(&[("ant", "64MiB agent:2")]), &BTreeMap::new());
    let wrong = succeed(Some(&second.fleet), 3, declared(&[("ant", "")]), &second.pins);
    let (mut fleet, mut pins) = (wrong.fleet, wrong.pins);
    assert_eq!(fleet.in_force("ant"), second.fleet.in_force("ant"));
    assert!(wrong.changed.is_empty());
    assert!(fleet.is_on_trial("ant", &pins["ant"]));
    let back_to = fleet.mark_failed("ant", "it ended", &mut pins).unwrap().unwrap();
    assert_eq!(words(&back_to), [1, 2]);
    assert_eq!((memory(&fleet, "ant").as_deref(), image(&fleet, "ant").as_deref()), (Some("64MiB"), Some("agent:1")));
}

#[test]
fn no_commit_makes_a_trial_longer() {
    let with = |after: &str, n: u8| {
        let policy = format!("health: {{trialPeriod: {after}}}\n");
        declared_with(&policy, &[("ant", &format!("64MiB agent:{n}"))])
    };
    let after = |pins: &BTreeMap<String, Pin>| pins["ant"].healthy_after.unwrap().to_string();
    let first = Fleet::new(revision(1), with("10s", 1), &BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
    let own = succeed(Some(&first), 2, with("5m", 2), &BTreeMap::new());
    assert_eq!(after(&own.pins), "10s");
    let edit = succeed(Some(&own.fleet), 3, with("9m", 2), &own.pins);
    assert_eq!(after(&edit.pins), "10s");
    let shorter = succeed(Some(&edit.fleet), 4, with("5s", 2), &edit.pins);
    assert_eq!(after(&shorter.pins), "5s");
    // The next trial has what was in force before it.
    let longer = succeed(Some(&shorter.fleet), 5, with("5m", 2), &shorter.pins);
    let next = succeed(Some(&longer.fleet), 6, with("5m", 3), &longer.pins);
    assert_eq!((after(&longer.pins), after(&next.pins)), ("5s".to_owned(), "5m".to_owned()));
}

#[test]
fn what_an_older_state_file_holds_by_a_short_hash_stays_held() {
    let first = settled(&[("ant", "64MiB")]);
    let next = declared(&[("ant", "32MiB agent:2")]);
    let whole = declaration_hash(&next.tenants["ant"]);
    assert_eq!(whole.len(), 64);
    let hashes = [
        (whole.clone(), "64MiB"),
        (whole[..12].to_owned(), "64MiB"),
        // No other length is one that was ever written, and no other hash is of this declaration.
        (whole[..11].to_owned(), "32MiB"),
        (String::new(), "32MiB"),
        ("0".repeat(64), "32MiB"),
    ];
    for (declaration, stands) in hashes {
        let good = BTreeMap::from([("ant".to_owned(), first.in_force("ant").unwrap())]);
        let (revision, at) = (revision(2), Some(revision(1)));
        let bad = Bad { revision: revision.clone(), declaration: declaration.clone(), reason: String::new() };
        let waits = Waits { declaration, at, ..Waits::default() };
        let held_back = if stands == "64MiB" { "agent:1" } else { "agent:2" };
        for pin in [Pin { bad: Some(bad), ..Pin::default() }, Pin { waits: Some(waits), ..Pin::default() }] {
            let pins = BTreeMap::from([("ant".to_owned(), pin.clone())]);
            // Such a file does not say what stands in its place: what ran well, and no looser.
            let kept = if pin.waits.is_some() { good.clone() } else { BTreeMap::new() };
            let fleet = Fleet::restored(revision.clone(), Arc::clone(&next), &pins, good.clone(), kept);
            let expected = if pin.waits.is_some() { stands } else { "32MiB" };
            assert_eq!(memory(&fleet, "ant").as_deref(), Some(expected), "{pin:?}");
            assert_eq!(image(&fleet, "ant").as_deref(), Some(held_back), "{pin:?}");
        }
    }
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
    let second = succeed(Some(&first), 2, declared(&[("ant", "64MiB agent:2")]), &BTreeMap::new());
    let third = succeed(Some(&second.fleet), 3, declared(&[("ant", "64MiB agent:3")]), &second.pins);
    let (mut fleet, mut pins) = (third.fleet, third.pins);
    assert_eq!(fleet.mark_failed("ant", "it ended", &mut pins), Some(Some(at(1))));
    assert_eq!(image(&fleet, "ant").as_deref(), Some("agent:1"));
}

#[test]
fn a_new_tenant_that_never_ran_is_left_alone() {
    let change = succeed(None, 1, declared(&[("ant", "64MiB")]), &BTreeMap::new());
    let (mut fleet, mut pins) = (change.fleet, change.pins);
    assert_eq!(fleet.mark_failed("ant", "it ended", &mut pins), Some(None));
    assert!(fleet.effective.held.contains("ant") && fleet.effective.tenants.is_empty());
}

#[test]
fn no_commit_loosens_the_guard_that_it_is_judged_by() {
    let first = settled(&[("ant", "64MiB")]);
    let mut next = (*declared(&[])).clone();
    next.policy.guards = Guards { percent: 100, at_least: 1000, window: Timespan::seconds(0) };
    let host = Guards { percent: 50, at_least: 10, window: Timespan::seconds(172_800) };
    let strictest = Guards { window: host.window, ..Guards::default() };
    assert_eq!(Fleet::guards(Some(&first), &next, host), strictest);
    assert_eq!(Fleet::guards(None, &next, host), host);
}
