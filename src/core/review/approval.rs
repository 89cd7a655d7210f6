//! Which loosenings need a person who agrees.

use serde_json::json;

use super::{Effect, Mark, marks};
use crate::model::{
    Tenant, TierName,
    finding::Location,
    host::{Approvals, NeedsApproval},
};

/// The effects of a change of one tenant that need an approval; `before` is what is in force, or was last.
///
/// A tenant that was never there is compared with nothing at all, so that another name opens nothing. One that moves
/// to a tier that the host's settings guard less needs an approval for that alone: what the tiers are called and what they
/// give is for the repo to say. The tier that the last accepted commit declares counts, too, whatever of it is in force.
pub fn needing(
    before: Option<&Tenant>,
    declared: Option<&TierName>,
    after: &Tenant,
    approvals: &Approvals,
) -> Vec<Effect> {
    if before == Some(after) {
        return Vec::new();
    }
    let former = before.map(|before| &before.tier).or(declared);
    let tiers = [former, declared, Some(&after.tier)];
    let is_needed = |effect: &Effect| {
        approvals.needed.iter().any(|needed| {
            let of_kind = needed.loosenings.iter().any(|kind| kind.as_str() == effect.rule);
            of_kind && tiers.iter().flatten().any(|tier| guards(needed, tier))
        })
    };
    let mut effects = before.map_or_else(|| marks::new(after), |before| marks::tenant(Some(before), Some(after)));
    effects.retain(|effect| effect.mark == Mark::Loosens && is_needed(effect));
    if let Some(former) = former
        && approvals.needed.iter().any(|needed| guards(needed, former) && !guards(needed, &after.tier))
    {
        let (field, at) = ("tier".to_owned(), Location::default());
        let (before, after) = (json!(former), json!(after.tier));
        effects.push(Effect { field, before, after, mark: Mark::Loosens, rule: "tier", at });
    }
    effects
}

/// Whether the host wants approvals of tenants of a tier.
fn guards(needed: &NeedsApproval, tier: &TierName) -> bool {
    needed.tiers.as_ref().is_none_or(|some| some.contains(tier)) && !needed.except_tiers.contains(tier)
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
