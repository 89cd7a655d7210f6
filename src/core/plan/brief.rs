//! What a tenant's plan is for and what it does, in a few words: for records, messages and the daemon's status.

use crate::model::{
    TenantPlan, attribute,
    change::{Action, Change},
    record::{FieldChange, StepRecord, Why},
    resource::Resource,
};

/// Whether a tenant's plan carries out a declaration that changed, or repairs what did.
///
/// `fallback` is for what is made or removed as a whole.
pub fn why(plan: &TenantPlan, fallback: Why) -> Why {
    let attributes = || plan.changes.iter().flat_map(|change| &change.attributes);
    if attributes().any(|attribute| attribute.why == Why::Intent) {
        Why::Intent
    } else if attributes().next().is_some() && plan.changes.iter().all(|change| !change.attributes.is_empty()) {
        Why::Drift
    } else {
        fallback
    }
}

/// How many attributes are named where a few words must do.
const NAMED: usize = 3;

/// What carrying out a plan does, in a few words: `created`, or `corrected memory, pids_limit`.
pub fn correction(plan: &TenantPlan) -> String {
    let all = |action: Action| plan.changes.iter().all(|change| change.action == action);
    match plan.changes.as_slice() {
        _ if plan.is_stopped() => containment(plan),
        [] => "nothing".to_owned(),
        [_, _, ..] if all(Action::Create) => "created".to_owned(),
        [_, _, ..] if all(Action::Delete) => "removed".to_owned(),
        changes => changes.iter().map(put_right).collect::<Vec<_>>().join("; "),
    }
}

/// What the containment of a tenant was for, in a few words.
pub fn containment(plan: &TenantPlan) -> String {
    format!("contained: {}", differences(plan).join(", "))
}

fn put_right(change: &Change) -> String {
    let resource = change.resource.as_str();
    let names: Vec<&str> = change.attributes.iter().map(|change| change.attribute.name).collect();
    match change.action {
        Action::Create => format!("created the {resource}"),
        Action::Delete => format!("removed the {resource} {}", change.name),
        Action::Replace if change.resource == Resource::Container => format!("replaced: {}", named(&names)),
        Action::Replace => format!("replaced the {resource}: {}", named(&names)),
        Action::Update if change.resource == Resource::Container => format!("corrected {}", named(&names)),
        Action::Update => format!("corrected the {resource}: {}", named(&names)),
    }
}

/// What a step did, as the journal has it, in a few words.
pub fn correction_of(step: &StepRecord) -> String {
    let names: Vec<&str> = step.fields.iter().map(|field| field.name.as_str()).collect();
    match step.fields.as_slice() {
        [] => step.step.clone(),
        // The start of a new container is the last step of making it.
        fields if fields.iter().all(|field| field.before.is_null()) => "created".to_owned(),
        _ => format!("corrected {}", named(&names)),
    }
}

/// Some attributes by name, and how many more there are.
fn named(names: &[&str]) -> String {
    // Records of another version may name others.
    let known = |name: &str| attribute::named(name);
    let is_reported =
        |name: &&str| known(name).and_then(|one| one.reported_by).is_some_and(|other| names.contains(&other));
    let names: Vec<&str> = names.iter().copied().filter(|name| !is_reported(name)).collect();
    let shown: Vec<&str> = names.iter().take(NAMED).map(|name| known(name).map_or(*name, |one| one.label)).collect();
    match names.len().saturating_sub(NAMED) {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}

/// What differs in a plan, such as `container.memory`; a resource alone where it is missing or too much.
pub fn differences(plan: &TenantPlan) -> Vec<String> {
    let of = |change: &Change| -> Vec<String> {
        let resource = change.resource.as_str();
        match change.action {
            Action::Create => vec![format!("{resource} missing")],
            Action::Delete => vec![format!("{resource} {} not declared", change.name)],
            Action::Update | Action::Replace => {
                change.attributes.iter().map(|change| format!("{resource}.{}", change.attribute.name)).collect()
            }
        }
    };
    plan.changes.iter().flat_map(of).collect()
}

/// What differs, resource by resource, for a record of drift that is left as it is.
pub fn drift_fields(plan: &TenantPlan) -> Vec<(Resource, Vec<FieldChange>)> {
    plan.changes.iter().map(|change| (change.resource, change.fields())).collect()
}
