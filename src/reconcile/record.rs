//! What the journal is told of each step: first the intent, then what became of it.

use std::time::Duration;

use serde_json::{Value, json};

use crate::{
    fault::chain,
    journal::{Journal, JournalError},
    model::{
        Entry, Step, TenantPlan,
        plan::{Action, AttributeChange, Cause, Change, Object, Resource, Target},
        record::{FieldChange, OutcomeRecord, StepRecord, StepResult, Trigger, Why},
    },
    plan::{LIVE, render::label},
};

use super::apply::{Failure, describe};

/// Why a tenant is worked on: goes into each record and decides nothing.
#[derive(Clone, Debug)]
pub struct Context {
    /// What led to looking.
    pub trigger: Trigger,
    /// Why something is made or removed that has no attribute to tell by.
    pub why: Why,
    /// Why limits are changed in place, where that is known: the engine's labels cannot follow such a
    /// change, and tell it from a commit only once.
    pub live: Option<Why>,
    /// The commit that declares the tenant, or another word for what was read.
    pub revision: Option<String>,
    /// Who signed it.
    pub signer: Option<String>,
    /// The plan that the steps are part of.
    pub plan: String,
}

/// Writes steps to the journal.
///
/// Without a record nothing is changed, except that what weakens isolation is contained: the journal
/// counts what it could not write, and tells of the gap as soon as it can be written again.
#[derive(Debug)]
pub struct Recorder {
    journal: Journal,
}

/// An intent on record. `None` for a containment that could not be recorded.
pub(super) type Ticket = Option<u64>;

impl Recorder {
    /// Writes to a journal.
    pub fn new(journal: Journal) -> Self {
        Self { journal }
    }

    pub(super) async fn intent(
        &self,
        tenant: &TenantPlan,
        step: &Step,
        context: &Context,
        made: Option<&str>,
        contains: bool,
    ) -> Result<Ticket, JournalError> {
        match self.journal.append(Entry::Intent(step_record(tenant, step, context, made))).await {
            Ok(seq) => Ok(Some(seq)),
            Err(_) if contains => Ok(None),
            Err(e) => Err(e),
        }
    }

    pub(super) async fn outcome(&self, tenant: &str, ticket: Ticket, result: &Result<(), Failure>, took: Duration) {
        let Some(intent) = ticket else { return };
        let outcome = OutcomeRecord {
            intent,
            tenant: tenant.to_owned(),
            result: if result.is_ok() { StepResult::Done } else { StepResult::Failed },
            error: result.as_ref().err().map(chain),
            took_ms: u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
        };
        // An intent without an outcome says that it is unknown; the gap that is told later says why.
        let _ = self.journal.append(Entry::Outcome(outcome)).await;
    }
}

/// Whether a tenant's plan carries out a declaration that changed, or repairs what did.
///
/// `fallback` is for what is made or removed as a whole.
pub fn why(plan: &TenantPlan, fallback: Why) -> Why {
    let attributes = || plan.changes.iter().flat_map(|change| &change.attributes);
    if attributes().any(|attribute| attribute.cause == Cause::Intent) {
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
        _ if plan.blocked.is_some() => format!("contained: {}", differences(plan).join(", ")),
        [] => "nothing".to_owned(),
        [_, _, ..] if all(Action::Create) => "created".to_owned(),
        [_, _, ..] if all(Action::Delete) => "removed".to_owned(),
        changes => changes.iter().map(put_right).collect::<Vec<_>>().join("; "),
    }
}

fn put_right(change: &Change) -> String {
    let resource = change.resource.as_str();
    let names: Vec<&str> = change.attributes.iter().map(|attribute| attribute.name).collect();
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

/// Some attributes by name, and how many more there are. Memory stands for memory and swap.
fn named(names: &[&str]) -> String {
    let names: Vec<&str> =
        names.iter().copied().filter(|name| *name != "memory_swap" || !names.contains(&"memory")).collect();
    let shown: Vec<&str> = names.iter().take(NAMED).map(|name| label(name)).collect();
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
                change.attributes.iter().map(|attribute| format!("{resource}.{}", attribute.name)).collect()
            }
        }
    };
    plan.changes.iter().flat_map(of).collect()
}

/// What differs, resource by resource, for a record of drift that is left as it is.
pub fn drift_fields(plan: &TenantPlan) -> Vec<(Resource, Vec<FieldChange>)> {
    plan.changes.iter().map(|change| (change.resource, fields(change, |_| true))).collect()
}

/// The record of a step. `made` is the container that an earlier step made.
fn step_record(tenant: &TenantPlan, step: &Step, context: &Context, made: Option<&str>) -> StepRecord {
    let resource = resource(step);
    let change = change(tenant, step, resource);
    let fields = change.map(|change| step_fields(step, change)).unwrap_or_default();
    let drift = change.filter(|change| !change.attributes.is_empty()).map(|change| {
        if change.attributes.iter().any(|attribute| attribute.cause == Cause::Intent) {
            Why::Intent
        } else {
            Why::Drift
        }
    });
    StepRecord {
        tenant: tenant.tenant.clone(),
        resource: resource.as_str().to_owned(),
        step: describe(step).to_owned(),
        object: object(step, made),
        fields,
        why: match (step, context.live) {
            (Step::Update { .. }, Some(why)) => why,
            _ => drift.unwrap_or(context.why),
        },
        trigger: context.trigger.clone(),
        revision: context.revision.clone(),
        signer: context.signer.clone(),
        plan: context.plan.clone(),
    }
}

fn resource(step: &Step) -> Resource {
    match step {
        Step::PrepareWorkspace { .. }
        | Step::MakeVolume { .. }
        | Step::MountVolume { .. }
        | Step::ResizeVolume { .. }
        | Step::GrowImage { .. }
        | Step::RescueImage { .. }
        | Step::RepairImage { .. }
        | Step::MoveIntoVolume { .. }
        | Step::AdoptWorkspace { .. }
        | Step::SetAside { .. } => Resource::Workspace,
        Step::PurgeAside { .. } => Resource::Aside,
        Step::WriteFiles { .. } | Step::RemoveFiles { .. } => Resource::Files,
        Step::CreateNetwork { .. } | Step::RemoveNetwork { .. } => Resource::Network,
        Step::OpenEgress { .. } | Step::NarrowEgress { .. } | Step::GuardEgress { .. } | Step::CloseEgress { .. } => {
            Resource::Egress
        }
        _ => Resource::Container,
    }
}

/// The change that a step is part of.
fn change<'a>(tenant: &'a TenantPlan, step: &Step, resource: Resource) -> Option<&'a Change> {
    let has_attribute = |change: &&Change, name| change.attributes.iter().any(|a| a.name == name);
    match step {
        Step::Disconnect { .. } => {
            let strangers = tenant.changes.iter().find(|change| has_attribute(change, "members"));
            tenant.changes.iter().find(|change| has_attribute(change, "networks")).or(strangers)
        }
        _ => {
            let of_kind = || tenant.changes.iter().filter(|change| change.resource == resource);
            let removes = matches!(
                step,
                Step::Remove { .. }
                    | Step::RemoveNetwork { .. }
                    | Step::PurgeAside { .. }
                    | Step::SetAside { .. }
                    | Step::RemoveFiles { .. }
                    | Step::CloseEgress { .. }
            );
            let ends = of_kind().find(|change| matches!(change.action, Action::Delete) == removes);
            ends.or_else(|| of_kind().next())
        }
    }
}

/// Whether a step puts an attribute right.
fn concerns(step: &Step, attribute: &AttributeChange) -> bool {
    match step {
        Step::Update { .. } => LIVE.contains(&attribute.name) || attribute.name == "restart_policy",
        Step::Connect { .. } | Step::Disconnect { .. } => matches!(attribute.name, "networks" | "members"),
        Step::Rename { .. } => attribute.name == "name",
        Step::Start { .. } | Step::Unpause { .. } => attribute.name == "state",
        Step::Pause { .. } => attribute.weakens,
        Step::NarrowEgress { .. } => matches!(attribute.name, "allow" | "routes" | "budget"),
        Step::GuardEgress { .. } => matches!(attribute.name, "host_side" | "switches"),
        Step::CloseEgress { .. } => attribute.weakens,
        Step::Stop { .. } | Step::Remove { .. } | Step::RemoveNetwork { .. } => false,
        Step::ResizeVolume { .. } => attribute.name == "limit",
        Step::GrowImage { .. } => attribute.name == "image_size",
        Step::MoveIntoVolume { .. } => attribute.name == "backend",
        Step::AdoptWorkspace { .. } => attribute.name == "restored",
        Step::RescueImage { .. } | Step::RepairImage { .. } => attribute.name == "state",
        Step::MountVolume { .. } => !matches!(attribute.name, "image_size" | "backend" | "state" | "restored"),
        Step::PrepareWorkspace { .. }
        | Step::MakeVolume { .. }
        | Step::PurgeAside { .. }
        | Step::SetAside { .. }
        | Step::WriteFiles { .. }
        | Step::RemoveFiles { .. }
        | Step::CreateNetwork { .. }
        | Step::OpenEgress { .. }
        | Step::CreateContainer { .. } => true,
    }
}

/// What a step changes. What is made or removed as a whole is told by the step that does so.
fn step_fields(step: &Step, change: &Change) -> Vec<FieldChange> {
    match step {
        _ if !change.attributes.is_empty() => fields(change, |attribute| concerns(step, attribute)),
        Step::Start { .. } => {
            vec![FieldChange { name: "state".to_owned(), before: Value::Null, after: json!("running") }]
        }
        Step::CreateContainer { .. }
        | Step::CreateNetwork { .. }
        | Step::PrepareWorkspace { .. }
        | Step::MakeVolume { .. }
        | Step::AdoptWorkspace { .. }
        | Step::PurgeAside { .. }
        | Step::OpenEgress { .. }
        | Step::CloseEgress { .. }
        | Step::Remove { .. }
        | Step::RemoveNetwork { .. }
        | Step::WriteFiles { .. }
        | Step::RemoveFiles { .. }
        | Step::SetAside { .. } => whole(change),
        _ => Vec::new(),
    }
}

fn fields(change: &Change, wanted: impl Fn(&AttributeChange) -> bool) -> Vec<FieldChange> {
    if change.attributes.is_empty() {
        return whole(change);
    }
    let field = |attribute: &AttributeChange| FieldChange {
        name: attribute.name.to_owned(),
        before: attribute.before.clone(),
        after: attribute.after.clone(),
    };
    change.attributes.iter().filter(|attribute| wanted(attribute)).map(field).collect()
}

/// What tells one object from another; the rest is the same for all tenants.
const TELLING: [&str; 21] = [
    "name",
    "image",
    "runtime",
    "nano_cpus",
    "memory",
    "pids_limit",
    "user",
    "read_only",
    "ranges",
    "internal",
    "path",
    "backend",
    "limit",
    "content",
    "link",
    "bridge",
    "subnet",
    "allow",
    "routes",
    "budget",
    "secrets",
];

fn whole(change: &Change) -> Vec<FieldChange> {
    let values = |object: Option<&Object>| object.and_then(|object| serde_json::to_value(object).ok());
    let (before, after) = (values(change.before.as_ref()), values(change.after.as_ref()));
    let value =
        |of: &Option<Value>, name: &str| of.as_ref().and_then(|of| of.get(name)).cloned().unwrap_or(json!(null));
    TELLING
        .iter()
        .map(|name| FieldChange { name: (*name).to_owned(), before: value(&before, name), after: value(&after, name) })
        .filter(|field| field.before != field.after)
        .collect()
}

/// The object of a step: the engine's id, or a name where it has none yet.
fn object(step: &Step, made: Option<&str>) -> String {
    let target = |target: &Target| match target {
        Target::Existing(id) => id.clone(),
        Target::Created => made.unwrap_or("(created)").to_owned(),
    };
    match step {
        Step::Disconnect { container, .. }
        | Step::Connect { container, .. }
        | Step::Pause { container }
        | Step::Unpause { container }
        | Step::Stop { container }
        | Step::Remove { container }
        | Step::Update { container, .. } => container.clone(),
        Step::PrepareWorkspace { tenant }
        | Step::MakeVolume { tenant, .. }
        | Step::MountVolume { tenant, .. }
        | Step::ResizeVolume { tenant, .. }
        | Step::GrowImage { tenant, .. }
        | Step::RescueImage { tenant }
        | Step::RepairImage { tenant }
        | Step::MoveIntoVolume { tenant }
        | Step::SetAside { tenant }
        | Step::WriteFiles { tenant, .. }
        | Step::RemoveFiles { tenant } => tenant.clone(),
        Step::AdoptWorkspace { name, .. } | Step::PurgeAside { name, .. } => name.clone(),
        Step::OpenEgress { way } => way.link.clone(),
        Step::NarrowEgress { policy } => policy.tenant.link_name(),
        Step::GuardEgress { link, .. } | Step::CloseEgress { link, .. } => link.clone(),
        Step::CreateNetwork { spec } => spec.name.clone(),
        Step::RemoveNetwork { network } => network.clone(),
        Step::CreateContainer { spec, temporary_name } => temporary_name.clone().unwrap_or_else(|| spec.name.clone()),
        Step::Start { container } | Step::Rename { container, .. } => target(container),
    }
}
