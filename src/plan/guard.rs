//! When a commit removes so much that a person should agree first.

use std::collections::BTreeSet;

use sha2::{Digest, Sha256};

use crate::model::{Desired, TenantPlan, policy::Guards};

/// Why a commit is held, and what it would remove.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hold {
    /// Why, in one line.
    pub reason: String,
    /// The tenants that it would remove, sorted.
    pub removed: Vec<String>,
}

/// Judges what a commit removes: `known` are the tenants that are declared so far or found on the
/// engine. One whose file is wrong is not removed.
///
/// A commit without any tenant is always held where there were some: a moved or emptied folder is
/// more likely than a fleet that ends.
pub fn hold(known: &BTreeSet<String>, next: &Desired, guards: Guards) -> Option<Hold> {
    let removed: Vec<String> = known.iter().filter(|name| !next.mentions(name)).cloned().collect();
    if removed.is_empty() {
        return None;
    }
    let (count, all) = (removed.len(), known.len());
    let emptied = next.tenants.is_empty() && next.held.is_empty();
    let many = count >= guards.at_least as usize && count * 100 > all * guards.percent as usize;
    let reason = match (emptied, many) {
        (true, _) => format!("it declares no tenant at all, where there are {all}"),
        (false, true) => format!(
            "it removes {count} of {all} tenants; {} or more, and more than {} %, are held",
            guards.at_least, guards.percent
        ),
        (false, false) => return None,
    };
    Some(Hold { reason, removed })
}

/// The id by which a held commit is approved: another commit, or another list, is another id.
pub fn hold_id(commit: &str, hold: &Hold) -> String {
    let text = format!("{commit}\n{}", hold.removed.join("\n"));
    short_hash(&text)
}

/// The id of what is done to tenants: the same steps for the same revision have the same id.
pub fn plan_id<'a>(revision: Option<&str>, plans: impl IntoIterator<Item = &'a TenantPlan>) -> String {
    let steps: Vec<_> = plans.into_iter().map(|plan| (&plan.tenant, &plan.contain, &plan.steps)).collect();
    short_hash(&serde_json::to_string(&(revision, steps)).unwrap_or_default())
}

/// The first twelve hexadecimal digits of a text's SHA-256.
pub fn short_hash(text: &str) -> String {
    Sha256::digest(text.as_bytes()).iter().take(6).map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(known: usize, left: usize, wrong: usize) -> Option<(String, usize)> {
        let names: BTreeSet<String> = (0..known).map(|n| format!("t{n:03}")).collect();
        let held: BTreeSet<String> = names.iter().take(left + wrong).cloned().collect();
        let next = Desired { held, ..Desired::default() };
        hold(&names, &next, Guards::default()).map(|hold| (hold.reason, hold.removed.len()))
    }

    #[test]
    fn one_removal_passes_and_more_than_a_tenth_is_held() {
        for (known, left, is_held) in [
            (0, 0, false),
            (1, 1, false),
            (1, 0, true),
            (3, 2, false),
            (3, 1, true),
            (20, 18, false),
            (20, 17, true),
            (100, 90, false),
            (100, 89, true),
        ] {
            assert_eq!(judged(known, left, 0).is_some(), is_held, "{known} tenants, {left} left");
        }
    }

    #[test]
    fn a_tenant_whose_file_is_wrong_is_not_removed() {
        assert_eq!(judged(10, 0, 10), None);
    }

    #[test]
    fn the_id_follows_the_commit_and_the_list() {
        let hold =
            |names: &[&str]| Hold { reason: String::new(), removed: names.iter().map(|n| (*n).to_owned()).collect() };
        let ids: BTreeSet<String> =
            [hold_id("a", &hold(&["x"])), hold_id("b", &hold(&["x"])), hold_id("a", &hold(&["x", "y"]))].into();
        assert_eq!(ids.len(), 3);
    }
}
