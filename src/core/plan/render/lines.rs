//! A plan resource by resource, each in a line: what the shorter forms are made of.

use std::fmt;

use super::text::{becomes, comments, values};
use crate::model::{
    Plan, TenantPlan,
    change::{AttributeChange, Change},
    record::Why,
};

/// What is to be done about one resource, or is not.
pub struct Line<'a> {
    /// The tenant, by its name.
    pub tenant: &'a str,
    /// The resource, such as `container.acme`.
    pub address: String,
    /// What it is made of.
    pub change: &'a Change,
    /// What becomes of it, in words.
    pub becomes: &'static str,
    /// What differs, attribute by attribute.
    pub differs: Vec<String>,
    /// Whether something changed behind tenantd's back.
    pub drifted: bool,
    /// Whether it isolates less than it should.
    pub weakened: bool,
}

/// What becomes of it, and what differs.
impl fmt::Display for Line<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.address, self.becomes)?;
        match self.differs.is_empty() {
            true => Ok(()),
            false => write!(f, ": {}", self.differs.join("; ")),
        }
    }
}

/// All resources that differ, tenant by tenant.
pub fn lines(plan: &Plan) -> Vec<Line<'_>> {
    let changes = plan.tenants.iter().flat_map(|tenant| tenant.changes.iter().map(move |change| (tenant, change)));
    changes.map(|(tenant, change)| line(tenant, change)).collect()
}

fn line<'a>(tenant: &'a TenantPlan, change: &'a Change) -> Line<'a> {
    Line {
        tenant: &tenant.tenant,
        address: format!("{}.{}", change.resource.as_str(), change.name),
        becomes: becomes(tenant.is_stopped(), change),
        differs: change.attributes.iter().map(differs).collect(),
        change,
        drifted: change.attributes.iter().any(|attribute| attribute.why == Why::Drift),
        weakened: change.attributes.iter().any(|attribute| attribute.weakens),
    }
}

fn differs(attribute: &AttributeChange) -> String {
    let (before, after) = values(attribute.attribute, &attribute.before, &attribute.after);
    let comments = comments(attribute);
    let comment = if comments.is_empty() { String::new() } else { format!(" ({})", comments.join(", ")) };
    format!("{} {before} -> {after}{comment}", attribute.attribute.label)
}
