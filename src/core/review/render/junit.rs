//! For test reports: each tenant is a case, and fails where its file has errors.

use super::{Effect, Review, Sides, TenantChange, became, words};
use crate::{
    model::{Finding, Severity},
    plan::render::{Case, report, wrong},
};

/// The whole review as JUnit XML.
pub fn junit(review: &Review, sides: Sides<'_>, findings: &[Finding]) -> String {
    let errors = || findings.iter().filter(|finding| finding.severity == Severity::Error);
    // What is wrong beside the files of tenants fails as a case of its own.
    let beside: Vec<&Finding> = errors().filter(|finding| !finding.file.starts_with("tenants/")).collect();
    let mut cases = vec![Case { name: "fleet", failure: wrong(&beside), lines: lines("", &review.fleet) }];
    for one in &review.tenants {
        let file = format!("tenants/{}.", one.tenant);
        let own: Vec<&Finding> = match one.change {
            TenantChange::Held => errors().filter(|finding| finding.file.starts_with(&file)).collect(),
            _ => Vec::new(),
        };
        cases.push(Case { name: &one.tenant, failure: wrong(&own), lines: lines(became(one.change), &one.effects) });
    }
    report(&format!("tenantd plan {} {}", sides.base, sides.now), &cases)
}

fn lines(became: &str, effects: &[Effect]) -> Vec<String> {
    let effects = effects.iter().map(|effect| format!("{}: {}", effect.mark.as_str(), words(effect)));
    [became.to_owned()].into_iter().filter(|line| !line.is_empty()).chain(effects).collect()
}
