//! For programs.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;

use super::{Mark, Review, Sides};
use crate::model::Finding;

/// The version of this document's shape. A change that could break a reader raises the first number.
const FORMAT_VERSION: &str = "1.0";

/// A review as data, with what is wrong in the newer files.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(title = "Review")]
pub struct Document<'r> {
    /// The version of this shape.
    format_version: &'static str,
    /// The version of the program.
    tenantd_version: &'static str,
    /// The older side: a commit.
    base: &'r str,
    /// The newer side: a commit, or a folder that is not committed.
    revision: &'r str,
    /// What was changed.
    #[serde(flatten)]
    review: &'r Review,
    /// How many tenants have an effect of each mark.
    totals: BTreeMap<&'static str, usize>,
    /// What is wrong in the newer files.
    findings: &'r [Finding],
}

/// The whole review, with what is wrong in the newer files.
pub fn json(review: &Review, sides: Sides<'_>, findings: &[Finding]) -> Value {
    let document = Document {
        format_version: FORMAT_VERSION,
        tenantd_version: env!("CARGO_PKG_VERSION"),
        base: sides.base,
        revision: sides.now,
        review,
        totals: Mark::ALL.iter().map(|mark| (mark.as_str(), review.count(*mark))).collect(),
        findings,
    };
    // Nothing can fail here: all of it has a form in JSON.
    serde_json::to_value(document).unwrap_or_default()
}
