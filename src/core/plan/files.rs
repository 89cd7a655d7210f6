//! A tenant's config files: what they must be, what there is, and the step between.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use crate::model::{
    Host, PlannedStep, Step, Tenant, TenantPlan,
    attribute::{container, files as table},
    change::{Action, AttributeChange, Change, Object, ShownFiles},
    files::{Apply, FoundFiles},
    record::Why,
    resource::Resource,
};

/// Files that change while no container has them: after the old one is gone, before the new one is made.
pub(super) struct FilesUpdate {
    pub(super) step: PlannedStep,
    /// How the container differs by them.
    pub(super) attribute: AttributeChange,
}

/// Plans the config files of a declared tenant. What may change in place is among the plan's steps, the rest is returned.
pub(super) fn converge(
    tenant: &Tenant,
    host: &Host,
    found: Option<&FoundFiles>,
    plan: &mut TenantPlan,
) -> Option<FilesUpdate> {
    let name = tenant.name.as_str();
    let wanted: BTreeMap<String, String> =
        tenant.files.iter().map(|file| (file.path.clone(), file.content.digest.clone())).collect();
    let nothing = FoundFiles::default();
    let actual = found.unwrap_or(&nothing);
    let is_as_declared = actual.files == wanted && actual.noted == wanted && actual.foreign.is_empty();
    if is_as_declared && found.is_some() != wanted.is_empty() {
        return None;
    }
    if wanted.is_empty() {
        let step = removal(name, host, actual, plan);
        return Some(FilesUpdate { step, attribute: updated(json!(actual.files), json!({}), Why::Intent) });
    }
    let changed = changed(&actual.files, &wanted);
    let differing: BTreeSet<&str> = changed.iter().copied().chain(actual.foreign.keys().map(String::as_str)).collect();
    // One that is no longer declared says nothing of how it was applied: it goes like the others.
    let in_place = |path: &&str| match tenant.files.iter().find(|file| file.path == *path) {
        Some(file) => file.apply == Apply::InPlace,
        None => tenant.files.iter().all(|file| file.apply == Apply::InPlace),
    };
    let why = if actual.noted == wanted { Why::Drift } else { Why::Intent };
    let attributes = attributes(actual, &wanted, &changed, why);
    let action = if found.is_some() { Action::Update } else { Action::Create };
    let change = plan.add_change(Change {
        resource: Resource::Files,
        name: name.to_owned(),
        action,
        attributes: if found.is_some() { attributes } else { Vec::new() },
        before: found.map(|found| shown(name, host, found.files.clone())),
        after: Some(shown(name, host, wanted.clone())),
    });
    let step = plan.planned(change, Step::WriteFiles { tenant: name.to_owned(), files: tenant.files.clone() });
    if differing.iter().all(in_place) {
        plan.steps.push(step);
        return None;
    }
    let only = |of: &BTreeMap<String, String>| {
        let of = of.iter().filter(|(path, _)| differing.contains(path.as_str()));
        json!(of.map(|(path, digest)| (path.clone(), digest.clone())).collect::<BTreeMap<_, _>>())
    };
    Some(FilesUpdate { step, attribute: updated(only(&actual.files), only(&wanted), why) })
}

/// Plans that nothing is left of the config files of a tenant.
pub(super) fn remove(name: &str, host: &Host, found: &FoundFiles, plan: &mut TenantPlan) {
    let step = removal(name, host, found, plan);
    plan.steps.push(step);
}

fn removal(name: &str, host: &Host, found: &FoundFiles, plan: &mut TenantPlan) -> PlannedStep {
    let change = plan.add_change(Change {
        resource: Resource::Files,
        name: name.to_owned(),
        action: Action::Delete,
        attributes: Vec::new(),
        before: Some(shown(name, host, found.files.clone())),
        after: None,
    });
    plan.planned(change, Step::RemoveFiles { tenant: name.to_owned() })
}

/// The paths whose content differs, is missing, or is not declared.
fn changed<'a>(actual: &'a BTreeMap<String, String>, wanted: &'a BTreeMap<String, String>) -> BTreeSet<&'a str> {
    let paths = actual.keys().chain(wanted.keys()).map(String::as_str);
    paths.filter(|path| actual.get(*path) != wanted.get(*path)).collect()
}

fn attributes(
    actual: &FoundFiles,
    wanted: &BTreeMap<String, String>,
    changed: &BTreeSet<&str>,
    why: Why,
) -> Vec<AttributeChange> {
    let attribute = |attribute, before: Value, after: Value, weakens, why| AttributeChange {
        attribute,
        before,
        after,
        forces_replacement: false,
        weakens,
        why,
        remark: None,
    };
    let mut attributes = Vec::new();
    if !changed.is_empty() {
        attributes.push(attribute(&table::CONTENT, json!(actual.files), json!(wanted), false, why));
    }
    if !actual.foreign.is_empty() {
        attributes.push(attribute(&table::FOREIGN, json!(actual.foreign), json!({}), true, Why::Drift));
    }
    if attributes.is_empty() {
        attributes.push(attribute(&table::NOTED, json!(actual.noted), json!(wanted), false, Why::Intent));
    }
    attributes
}

/// How a container differs that must be made anew with other files.
fn updated(before: Value, after: Value, why: Why) -> AttributeChange {
    AttributeChange {
        attribute: &container::FILES,
        before,
        after,
        forces_replacement: true,
        weakens: false,
        why,
        remark: Some("changed files are applied by a restart"),
    }
}

fn shown(name: &str, host: &Host, content: BTreeMap<String, String>) -> Object {
    Object::Files(ShownFiles { path: host.files(name).to_string_lossy().into_owned(), content })
}
