//! Hashes of what is declared, by which labels distinguish a changed declaration from drift.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::{Map, Value};

use super::diff;
use crate::model::files::short_digest;

/// The hash of what is declared. What is empty, zero or false is left out: an attribute that a later
/// version adds changes no hash until it is used, and so recreates nothing.
pub(super) fn fingerprint<T: Serialize>(object: &T) -> String {
    hash(&diff::attributes(object), &[])
}

/// The hash of attributes by their names, without some of them.
pub(super) fn hash(attributes: &Map<String, Value>, without: &[&str]) -> String {
    let hashed = attributes.iter().filter(|(name, value)| !without.contains(&name.as_str()) && !is_empty(value));
    let hashed: BTreeMap<_, _> = hashed.collect();
    let lines: String = hashed.into_iter().map(|(name, value)| format!("{name}={value}\n")).collect();
    short_digest(lines.as_bytes(), 32)
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(on) => !on,
        Value::Number(number) => number.as_i64() == Some(0),
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(entries) => entries.is_empty(),
    }
}
