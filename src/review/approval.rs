//! Which loosenings need a person who agrees.

use super::{Effect, Mark, marks};
use crate::model::{Tenant, host::Approvals};

/// The effects of a change of one tenant that need an approval; `before` is what is in force.
pub fn needing(before: Option<&Tenant>, after: &Tenant, approvals: &Approvals) -> Vec<Effect> {
    if before == Some(after) {
        return Vec::new();
    }
    let tiers = [before.map(|before| &before.tier), Some(&after.tier)];
    let is_needed = |effect: &Effect| {
        approvals.needed.iter().any(|needed| {
            let of_kind = needed.loosenings.iter().any(|kind| kind.as_str() == effect.rule);
            let of_tier =
                needed.tiers.as_ref().is_none_or(|some| tiers.iter().flatten().any(|tier| some.contains(*tier)));
            of_kind && of_tier
        })
    };
    let mut effects = marks::tenant(before, Some(after));
    effects.retain(|effect| effect.mark == Mark::Loosens && is_needed(effect));
    effects
}

#[cfg(test)]
mod tests {
    use crate::{model::policy::Loosening, review::RULES};

    #[test]
    fn every_kind_that_can_be_named_is_a_rule() {
        for kind in Loosening::ALL {
            assert!(RULES.iter().any(|(name, _)| *name == kind.as_str()), "{kind:?}");
            assert_eq!(serde_json::to_value(kind).ok(), Some(kind.as_str().into()));
        }
    }
}
