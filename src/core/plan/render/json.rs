//! A plan as data, in the shape of Terraform's plan JSON, so that policies written for that port.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::{
    model::{
        Finding, Observed, Plan, Severity, TenantPlan,
        change::{Action, AttributeChange, Change, Object},
        observed::{EngineFacts, Unobserved},
        obstacle::Obstacle,
        plan::{Lookalike, Note, Totals},
        record::Why,
        resource::Resource,
    },
    plan::Commitment,
};

/// The version of this document's shape. A change that could break a reader raises the first number.
const FORMAT_VERSION: &str = "1.0";

/// A plan as data. Most of it has the shape of Terraform's plan JSON.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(title = "Plan")]
pub struct Document<'p> {
    /// The version of this shape.
    format_version: &'static str,
    /// The version of the program.
    tenantd_version: &'static str,
    /// What is declared: a commit, or a folder that is not committed.
    revision: &'p str,
    /// What the engine says of itself.
    #[schemars(with = "Map<String, Value>")]
    engine: &'p EngineFacts,
    /// What would be done to each object.
    resource_changes: Vec<ResourceChange<'p>>,
    /// What was changed behind tenantd's back.
    resource_drift: Vec<ResourceChange<'p>>,
    /// The tenants that cannot be made as declared.
    blocked: Vec<BlockedTenant<'p>>,
    /// What exists and could not be observed.
    unobserved: &'p [Unobserved],
    /// What a person should know beside, by tenant.
    #[schemars(with = "BTreeMap<String, Vec<String>>")]
    notes: BTreeMap<&'p str, &'p [Note]>,
    /// Containers that merely look like a tenant's.
    lookalikes: Vec<&'p Lookalike>,
    /// What is wrong in the files.
    findings: &'p [Finding],
    /// How much would be done.
    totals: Totals,
    /// Whether there is anything to do.
    applyable: bool,
    /// Whether every tenant can be made as declared.
    complete: bool,
    /// Whether a file has errors.
    errored: bool,
    /// What the limits of all tenants commit, where it is more than the host allows.
    #[serde(skip_serializing_if = "Option::is_none")]
    overcommitted: Option<Commitment>,
}

/// What would be done to one object, or what somebody did to it.
#[derive(Debug, Serialize, JsonSchema)]
struct ResourceChange<'p> {
    /// Kind and name.
    address: String,
    /// Always `managed`.
    mode: &'static str,
    /// What kind it is.
    #[serde(rename = "type")]
    kind: Resource,
    /// Its name.
    name: &'p str,
    /// The tenant that it is part of.
    tenant: &'p str,
    /// The engine's name of it, where it is there.
    object: Option<&'p str>,
    /// What changes.
    change: ChangeBody,
}

/// What changes of an object.
#[derive(Debug, Serialize, JsonSchema)]
struct ChangeBody {
    /// `no-op`, `create`, `update`, `delete`, or `delete` and `create`.
    actions: Vec<&'static str>,
    /// What it is; null where it is not there.
    before: Value,
    /// What it will be; null where it goes.
    after: Value,
    /// What differs; missing for drift.
    #[serde(skip_serializing_if = "Option::is_none")]
    attributes: Option<Vec<AttributeBody>>,
    /// The attributes that force a new object.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    replace_paths: Vec<[&'static str; 1]>,
}

/// An attribute that differs.
#[derive(Debug, Serialize, JsonSchema)]
struct AttributeBody {
    /// Its name.
    name: &'static str,
    /// What it is.
    before: Value,
    /// What it will be.
    after: Value,
    /// Why it differs.
    cause: Why,
    /// Whether what it is weakens isolation.
    weakens: bool,
    /// Whether it forces a new object.
    forces_replacement: bool,
}

/// A tenant that cannot be made as declared.
#[derive(Debug, Serialize, JsonSchema)]
struct BlockedTenant<'p> {
    /// Its name.
    tenant: &'p str,
    /// The rule.
    #[schemars(with = "String")]
    code: Obstacle,
    /// What is in the way.
    reason: &'p str,
    /// What to do.
    help: &'p str,
}

/// The whole plan. It holds no time and no path of the process, so that equal plans are equal texts.
pub fn json(
    plan: &Plan,
    revision: &str,
    observed: &Observed,
    findings: &[Finding],
    overcommitted: Option<Commitment>,
) -> Value {
    // Nothing can fail here: all of it has a form in JSON.
    serde_json::to_value(document(plan, revision, observed, findings, overcommitted)).unwrap_or_default()
}

fn document<'p>(
    plan: &'p Plan,
    revision: &'p str,
    observed: &'p Observed,
    findings: &'p [Finding],
    overcommitted: Option<Commitment>,
) -> Document<'p> {
    let changing = || plan.tenants.iter().flat_map(|tenant| tenant.changes.iter().map(move |change| (tenant, change)));
    let errored = findings.iter().any(|finding| finding.severity == Severity::Error);
    let noted = plan.tenants.iter().filter(|tenant| !tenant.notes.is_empty());
    let blocked: Vec<BlockedTenant<'_>> = plan
        .blocked()
        .map(|(tenant, blocked)| BlockedTenant {
            tenant,
            code: blocked.code,
            reason: &blocked.reason,
            help: &blocked.help,
        })
        .collect();
    Document {
        format_version: FORMAT_VERSION,
        tenantd_version: env!("CARGO_PKG_VERSION"),
        revision,
        engine: &observed.engine,
        resource_changes: changing().map(|(tenant, change)| resource_change(tenant, change)).collect(),
        resource_drift: changing().filter_map(|(tenant, change)| resource_drift(tenant, change)).collect(),
        unobserved: &observed.unobserved,
        notes: noted.map(|tenant| (tenant.tenant.as_str(), tenant.notes.as_slice())).collect(),
        lookalikes: plan.tenants.iter().flat_map(|tenant| &tenant.lookalikes).collect(),
        findings,
        totals: plan.totals(),
        applyable: !plan.is_empty(),
        complete: !errored && blocked.is_empty(),
        blocked,
        errored,
        overcommitted,
    }
}

fn resource_change<'p>(tenant: &'p TenantPlan, change: &'p Change) -> ResourceChange<'p> {
    let actions = match change.action {
        _ if tenant.is_stopped() => vec!["no-op"],
        Action::Create => vec!["create"],
        Action::Update => vec!["update"],
        Action::Replace => vec!["delete", "create"],
        Action::Delete => vec!["delete"],
    };
    let replaced = change.attributes.iter().filter(|a| a.forces_replacement);
    let attributes = change.attributes.iter().map(|a| AttributeBody {
        name: a.attribute.name,
        before: a.before.clone(),
        after: a.after.clone(),
        cause: a.why,
        weakens: a.weakens,
        forces_replacement: a.forces_replacement,
    });
    let body = ChangeBody {
        actions,
        before: json!(change.before),
        after: json!(change.after),
        attributes: Some(attributes.collect()),
        replace_paths: replaced.map(|a| [a.attribute.name]).collect(),
    };
    resource(tenant, change, body)
}

/// What changed behind tenantd's back: from the declared values to the actual ones.
fn resource_drift<'p>(tenant: &'p TenantPlan, change: &'p Change) -> Option<ResourceChange<'p>> {
    let drifted: Vec<_> = change.attributes.iter().filter(|a| a.why == Why::Drift).collect();
    if drifted.is_empty() {
        return None;
    }
    let side = |pick: fn(&AttributeChange) -> &Value| -> Value {
        drifted.iter().map(|a| (a.attribute.name.to_owned(), pick(a).clone())).collect()
    };
    let (before, after) = (side(|a| &a.after), side(|a| &a.before));
    let body = ChangeBody { actions: vec!["update"], before, after, attributes: None, replace_paths: Vec::new() };
    Some(resource(tenant, change, body))
}

fn resource<'p>(tenant: &'p TenantPlan, change: &'p Change, body: ChangeBody) -> ResourceChange<'p> {
    ResourceChange {
        address: format!("{}.{}", change.resource.as_str(), change.name),
        mode: "managed",
        kind: change.resource,
        name: &change.name,
        tenant: &tenant.tenant,
        object: match &change.before {
            Some(Object::Container(container)) => Some(&container.name),
            Some(Object::Network(network)) => Some(&network.name),
            _ => None,
        },
        change: body,
    }
}
