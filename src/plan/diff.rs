//! Which attributes differ, and what each difference means. One table says it for every attribute.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use serde_json::{Map, Value, json};

use super::realize;
use crate::model::{
    Container, LIMITS_LABEL, Network, RuntimeClass, SPEC_LABEL,
    plan::{AttributeChange, Cause},
};

/// How an attribute of a container that differs is put right.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Repair {
    /// By `update`, where the runtime class can; else by a new container.
    Update,
    /// By `rename`.
    Rename,
    /// By a new container.
    Replace,
}

/// When an actual value isolates less than the declared one.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Weakens {
    /// Whatever it is.
    Always,
    /// When it is a higher limit, or none.
    Higher,
    /// Never: it changes what runs, not how it is contained.
    Never,
}

/// One row for each attribute that is not simply replaced and weakening.
///
/// What has no row is put right by a new container and counts as weaker: an attribute that is added
/// and forgotten here errs on the safe side.
const CONTAINER: &[(&str, Repair, Weakens)] = &[
    ("auto_remove", Repair::Replace, Weakens::Never),
    ("command", Repair::Replace, Weakens::Never),
    ("cpu_shares", Repair::Replace, Weakens::Never),
    ("cpuset_cpus", Repair::Replace, Weakens::Never),
    ("cpuset_mems", Repair::Replace, Weakens::Never),
    ("cpu_period", Repair::Replace, Weakens::Never),
    ("cpu_quota", Repair::Replace, Weakens::Never),
    ("blkio_weight", Repair::Replace, Weakens::Never),
    ("domainname", Repair::Replace, Weakens::Never),
    ("entrypoint", Repair::Replace, Weakens::Never),
    ("environment", Repair::Replace, Weakens::Never),
    ("hostname", Repair::Replace, Weakens::Never),
    ("image", Repair::Replace, Weakens::Never),
    ("image_id", Repair::Replace, Weakens::Never),
    ("init", Repair::Replace, Weakens::Never),
    ("labels", Repair::Replace, Weakens::Never),
    ("log_driver", Repair::Replace, Weakens::Never),
    ("log_options", Repair::Replace, Weakens::Never),
    ("memory", Repair::Update, Weakens::Higher),
    ("memory_reservation", Repair::Replace, Weakens::Never),
    ("memory_swap", Repair::Update, Weakens::Higher),
    ("name", Repair::Rename, Weakens::Never),
    ("nano_cpus", Repair::Update, Weakens::Higher),
    ("pids_limit", Repair::Update, Weakens::Higher),
    ("restart_policy", Repair::Update, Weakens::Never),
    ("shm_size", Repair::Replace, Weakens::Higher),
    ("working_dir", Repair::Replace, Weakens::Never),
];

/// What a commit or the host's settings may change. A difference that comes from there asks for less,
/// and weakens nothing that was declared.
const SETTINGS: [&str; 9] =
    ["dns", "memory", "memory_swap", "mounts", "nano_cpus", "pids_limit", "shm_size", "tmpfs", "ulimits"];

fn rule(name: &str) -> (Repair, Weakens) {
    CONTAINER
        .iter()
        .find(|(attribute, ..)| *attribute == name)
        .map_or((Repair::Replace, Weakens::Always), |(_, repair, weakens)| (*repair, *weakens))
}

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
    let at_creation = actual.labels.get(LIMITS_LABEL) == Some(&realize::limits_label(actual));
    let (declared_shown, actual_shown) = (shown(declared, declared), shown(actual, declared));
    let mut changes: Vec<AttributeChange> = differing(&declared_shown, &actual_shown)
        .map(|(name, after, before)| {
            let (repair, weakens) = rule(name);
            let live = match repair {
                Repair::Update => class.changes_live(),
                Repair::Rename => true,
                Repair::Replace => false,
            };
            let intent = if realize::LIVE.contains(&name) { limits_changed && at_creation } else { redeclared };
            AttributeChange {
                name: intern(name),
                weakens: weakens_now(weakens, before, after) && !(intent && SETTINGS.contains(&name)),
                forces_replacement: !live,
                cause: if intent { Cause::Intent } else { Cause::Drift },
                remark: (name == "image_id" && declared.image == actual.image)
                    .then_some("the reference now means another image"),
                before: before.clone(),
                after: after.clone(),
            }
        })
        .collect();
    let explained = changes.iter().any(|change| change.forces_replacement);
    if !same_spec && !explained {
        changes.push(AttributeChange {
            name: "declaration",
            before: json!(spec(actual)),
            after: json!(spec(declared)),
            forces_replacement: true,
            weakens: false,
            cause: if redeclared { Cause::Intent } else { Cause::Drift },
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
        .map(|(name, after, before)| AttributeChange {
            name: intern(name),
            before: before.clone(),
            after: after.clone(),
            forces_replacement: true,
            weakens: name != "labels" && !(redeclared && name == "ranges"),
            cause: if redeclared { Cause::Intent } else { Cause::Drift },
            remark: None,
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
        false => format!("{}=(hidden)", realize::variable_name(entry)),
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

/// The attribute's name with the program's lifetime: the names are those of struct fields.
fn intern(name: &str) -> &'static str {
    static NAMES: std::sync::LazyLock<BTreeMap<String, &'static str>> = std::sync::LazyLock::new(|| {
        let names = attributes(&Container::default()).into_iter().chain(attributes(&Network::default()));
        names.map(|(name, _)| (name.clone(), &*name.leak())).collect()
    });
    NAMES.get(name).copied().unwrap_or("unknown")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_of_the_table_names_an_attribute() {
        let known = attributes(&Container::default());
        for (name, ..) in CONTAINER {
            assert!(known.contains_key(*name), "{name}");
        }
    }

    #[test]
    fn what_has_no_row_is_weaker_and_replaces() {
        let declared = Container::default();
        let actual = Container { privileged: true, ..Container::default() };
        let changes = compare_containers(&declared, &actual, RuntimeClass::Container);
        assert_eq!(changes.len(), 1);
        assert!(changes.iter().all(|c| c.name == "privileged" && c.weakens && c.forces_replacement));
    }

    #[test]
    fn only_a_higher_limit_weakens_and_none_is_the_highest() {
        let declared = Container { memory: 512, ..Container::default() };
        for (memory, weakens) in [(1024, true), (0, true), (256, false)] {
            let actual = Container { memory, ..declared.clone() };
            let changes = compare_containers(&declared, &actual, RuntimeClass::Container);
            assert!(changes.iter().all(|c| c.name == "memory" && c.weakens == weakens && !c.forces_replacement));
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
