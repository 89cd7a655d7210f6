//! Which setting of a tenant's file a plan speaks of, for whoever shows it on that line.

use serde_json::Value;

use crate::model::{
    Obstacle,
    attribute::container,
    change::{AttributeChange, Change},
};

/// A setting by the name that files give it, such as `limits.memory`; in a list the value says which entry.
pub type Setting = (String, Value);

/// The settings that what differs of a resource is made from, as far as it is made from any.
pub fn of_change(change: &Change) -> impl Iterator<Item = Setting> {
    change.attributes.iter().filter_map(of_attribute)
}

fn of_attribute(change: &AttributeChange) -> Option<Setting> {
    let field = change.attribute.setting?;
    let value = new_entry(&change.before, &change.after);
    // Of variables the entry says which one it is.
    let entry = value.as_str().filter(|_| *change.attribute == container::ENVIRONMENT);
    let field = match entry.and_then(|entry| entry.split_once('=')) {
        Some((name, _)) => format!("{field}.{name}"),
        None => field.to_owned(),
    };
    Some((field, value))
}

/// The setting that a blocked tenant is blocked for.
pub fn of_obstacle(code: Obstacle) -> Option<Setting> {
    code.setting().map(|field| (field.to_owned(), Value::Null))
}

/// Of two lists the first entry that only the declared one has; else the declared value.
fn new_entry(before: &Value, after: &Value) -> Value {
    let (Value::Array(before), Value::Array(entries)) = (before, after) else { return after.clone() };
    entries.iter().find(|entry| !before.contains(entry)).cloned().unwrap_or(Value::Null)
}
