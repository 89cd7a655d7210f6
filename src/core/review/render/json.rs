//! For programs.

use serde_json::{Value, json};

use super::{Mark, Review, Sides};
use crate::model::Finding;

/// The version of this document's shape. A change that could break a reader raises the first number.
const FORMAT_VERSION: &str = "1.0";

/// The whole review, with what is wrong in the newer files.
pub fn json(review: &Review, sides: Sides<'_>, findings: &[Finding]) -> Value {
    let totals: serde_json::Map<String, Value> =
        Mark::ALL.iter().map(|mark| (mark.as_str().to_owned(), json!(review.count(*mark)))).collect();
    json!({
        "format_version": FORMAT_VERSION,
        "tenantd_version": env!("CARGO_PKG_VERSION"),
        "base": sides.base,
        "revision": sides.now,
        "fleet": review.fleet,
        "tenants": review.tenants,
        "totals": totals,
        "findings": findings,
    })
}
