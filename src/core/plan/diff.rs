//! Which attributes differ, and what each difference means by the table of attributes.

use std::collections::BTreeSet;

use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::model::{
    Container, LIMITS_LABEL, Network, RuntimeClass, SPEC_LABEL,
    attribute::{self, Repair, Weakens, container},
    change::AttributeChange,
    container::variable_name,
    record::Why,
    resource::Resource,
};

/// Compares a container with its declaration, attribute by attribute. Empty where they are equal.
///
/// Actual values of variables are hidden unless they are as declared: whoever set them by hand may have
/// put a key there.
pub fn compare_containers(declared: &Container, actual: &Container, class: RuntimeClass) -> Vec<AttributeChange> {
    if equal_but_for_limits_label(declared, actual) {
        return Vec::new();
    }
    let spec = |container: &Container| container.labels.get(SPEC_LABEL).cloned();
    let same_spec = spec(declared) == spec(actual);
    // One that carries no hash was not made by a declaration at all.
    let redeclared = !same_spec && spec(actual).is_some();
    let limits_changed = declared.labels.get(LIMITS_LABEL) != actual.labels.get(LIMITS_LABEL);
    let at_creation = actual.labels.get(LIMITS_LABEL) == Some(&actual.limits_label());
    let (declared_shown, actual_shown) = (shown(declared, declared), shown(actual, declared));
    let mut changes: Vec<AttributeChange> = differing(&declared_shown, &actual_shown)
        .map(|(name, after, before)| {
            let attribute = attribute::find(Resource::Container, name);
            let live = match attribute.repair {
                Repair::Limit | Repair::Update => class.changes_live(),
                Repair::Rename => true,
                Repair::Replace => false,
            };
            let intent = if attribute.is_limit() { limits_changed && at_creation } else { redeclared };
            AttributeChange {
                attribute,
                weakens: weakens_now(attribute.weakens, before, after) && !(intent && attribute.settable),
                forces_replacement: !live,
                why: Why::drift_if(!intent),
                remark: (*attribute == container::IMAGE_ID && declared.image == actual.image)
                    .then_some("the reference now means another image"),
                before: before.clone(),
                after: after.clone(),
            }
        })
        .collect();
    let explained = changes.iter().any(|change| change.forces_replacement);
    if !same_spec && !explained {
        changes.push(AttributeChange {
            attribute: &container::DECLARATION,
            before: json!(spec(actual)),
            after: json!(spec(declared)),
            forces_replacement: true,
            weakens: false,
            why: Why::drift_if(!redeclared),
            remark: None,
        });
    }
    changes
}

/// Compares a network with its declaration. Networks have no part that can change in place.
pub(super) fn compare_networks(declared: &Network, actual: &Network) -> Vec<AttributeChange> {
    if declared == actual {
        return Vec::new();
    }
    let spec = |network: &Network| network.labels.get(SPEC_LABEL).cloned();
    // One that carries no hash was not made by a declaration at all.
    let redeclared = spec(actual).is_some_and(|hash| Some(hash) != spec(declared));
    let (declared, actual) = (attributes(declared), attributes(actual));
    differing(&declared, &actual)
        .map(|(name, after, before)| {
            let attribute = attribute::find(Resource::Network, name);
            AttributeChange {
                attribute,
                before: before.clone(),
                after: after.clone(),
                forces_replacement: true,
                weakens: weakens_now(attribute.weakens, before, after) && !(redeclared && attribute.settable),
                why: Why::drift_if(!redeclared),
                remark: None,
            }
        })
        .collect()
}

/// Labels that only explain are left out of the comparison.
fn equal_but_for_limits_label(declared: &Container, actual: &Container) -> bool {
    if declared.labels.get(LIMITS_LABEL) == actual.labels.get(LIMITS_LABEL) {
        return declared == actual;
    }
    let strip = |container: &Container| {
        let mut container = container.clone();
        container.labels.remove(LIMITS_LABEL);
        container
    };
    strip(declared) == strip(actual)
}

/// The attributes of a container as plans show them.
fn shown(container: &Container, declared: &Container) -> Map<String, Value> {
    let mut container = container.clone();
    container.environment = hide_undeclared(&container.environment, &declared.environment);
    container.labels.remove(LIMITS_LABEL);
    container.labels.remove(SPEC_LABEL);
    of_container(&container)
}

/// The attributes of a container, with each mount in a line.
pub(super) fn of_container(container: &Container) -> Map<String, Value> {
    let mut attributes = attributes(container);
    let mounts: Vec<String> = container.mounts.iter().map(ToString::to_string).collect();
    attributes.insert("mounts".to_owned(), json!(mounts));
    attributes
}

/// Hides the values of variables that are not as declared.
pub(super) fn hide_undeclared(actual: &[String], declared: &[String]) -> Vec<String> {
    let known: BTreeSet<&String> = declared.iter().collect();
    let hide = |entry: &String| match known.contains(entry) {
        true => entry.clone(),
        false => format!("{}=(hidden)", variable_name(entry)),
    };
    actual.iter().map(hide).collect()
}

pub(super) fn attributes<T: Serialize>(object: &T) -> Map<String, Value> {
    match serde_json::to_value(object) {
        Ok(Value::Object(attributes)) => attributes,
        _ => Map::new(),
    }
}

/// Pairs of values that differ, by name: declared, actual.
fn differing<'a>(
    declared: &'a Map<String, Value>,
    actual: &'a Map<String, Value>,
) -> impl Iterator<Item = (&'a str, &'a Value, &'a Value)> {
    declared.iter().filter_map(|(name, value)| {
        let other = actual.get(name).unwrap_or(&Value::Null);
        (other != value).then_some((name.as_str(), value, other))
    })
}

fn weakens_now(rule: Weakens, actual: &Value, declared: &Value) -> bool {
    match rule {
        Weakens::Always => true,
        Weakens::Never => false,
        Weakens::Higher => {
            let number = |value: &Value| value.as_i64().filter(|n| *n > 0).unwrap_or(i64::MAX);
            number(actual) > number(declared)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nothing_else_is_said_of_is_weaker_and_replaces() {
        let declared = Container::default();
        let actual = Container { privileged: true, ..Container::default() };
        let changes = compare_containers(&declared, &actual, RuntimeClass::Container);
        assert_eq!(changes.len(), 1);
        assert!(changes.iter().all(|c| c.attribute.name == "privileged" && c.weakens && c.forces_replacement));
    }

    #[test]
    fn only_a_higher_limit_weakens_and_none_is_the_highest() {
        let declared = Container { memory: 512, ..Container::default() };
        for (memory, weakens) in [(1024, true), (0, true), (256, false)] {
            let actual = Container { memory, ..declared.clone() };
            let changes = compare_containers(&declared, &actual, RuntimeClass::Container);
            assert!(
                changes.iter().all(|c| c.attribute.name == "memory" && c.weakens == weakens && !c.forces_replacement)
            );
            let changes = compare_containers(&declared, &actual, RuntimeClass::Gvisor);
            assert!(changes.iter().all(|c| c.forces_replacement));
        }
    }

    #[test]
    fn a_variable_that_is_not_as_declared_is_named_without_its_value() {
        let declared = Container { environment: vec!["A=1".to_owned(), "B=1".to_owned()], ..Container::default() };
        let actual = ["A=1", "B=2", "KEY=sk-1"].map(str::to_owned);
        let actual = Container { environment: actual.into(), ..Container::default() };
        let changes = compare_containers(&declared, &actual, RuntimeClass::Container);
        assert_eq!(changes.first().map(|c| &c.before), Some(&json!(["A=1", "B=(hidden)", "KEY=(hidden)"])));
    }
}
