//! A plan as data, in the shape of Terraform's plan JSON, so that policies written for that port.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use crate::model::{
    Finding, Observed, Plan, Severity, TenantPlan,
    change::{Action, Change, Object},
    record::Why,
};

/// The version of this document's shape. A change that could break a reader raises the first number.
const FORMAT_VERSION: &str = "1.0";

/// The whole plan. It holds no time and no path of the process, so that equal plans are equal texts.
pub fn json(plan: &Plan, revision: &str, observed: &Observed, findings: &[Finding]) -> Value {
    let changing = || plan.tenants.iter().flat_map(|tenant| tenant.changes.iter().map(move |change| (tenant, change)));
    let errored = findings.iter().any(|finding| finding.severity == Severity::Error);
    let notes: BTreeMap<&str, _> = plan
        .tenants
        .iter()
        .filter(|tenant| !tenant.notes.is_empty())
        .map(|tenant| (tenant.tenant.as_str(), &tenant.notes))
        .collect();
    let blocked: Vec<Value> = plan
        .blocked()
        .map(|(tenant, blocked)| json!({"tenant": tenant, "code": blocked.code, "reason": blocked.reason, "help": blocked.help}))
        .collect();
    json!({
        "format_version": FORMAT_VERSION,
        "tenantd_version": env!("CARGO_PKG_VERSION"),
        "revision": revision,
        "engine": observed.engine,
        "resource_changes": changing().map(|(tenant, change)| resource_change(tenant, change)).collect::<Vec<_>>(),
        "resource_drift": changing().filter_map(|(tenant, change)| resource_drift(tenant, change)).collect::<Vec<_>>(),
        "blocked": blocked,
        "unobserved": observed.unobserved,
        "notes": notes,
        "lookalikes": plan.tenants.iter().flat_map(|tenant| &tenant.lookalikes).collect::<Vec<_>>(),
        "findings": findings,
        "totals": plan.totals(),
        "applyable": !plan.is_empty(),
        "complete": !errored && blocked.is_empty(),
        "errored": errored,
    })
}

fn resource_change(tenant: &TenantPlan, change: &Change) -> Value {
    let actions = match change.action {
        _ if tenant.is_stopped() => json!(["no-op"]),
        Action::Create => json!(["create"]),
        Action::Update => json!(["update"]),
        Action::Replace => json!(["delete", "create"]),
        Action::Delete => json!(["delete"]),
    };
    let replace_paths: Vec<Value> =
        change.attributes.iter().filter(|a| a.forces_replacement).map(|a| json!([a.attribute.name])).collect();
    let attributes: Vec<Value> = change
        .attributes
        .iter()
        .map(|a| {
            json!({
                "name": a.attribute.name,
                "before": a.before,
                "after": a.after,
                "cause": a.why,
                "weakens": a.weakens,
                "forces_replacement": a.forces_replacement,
            })
        })
        .collect();
    let mut body =
        json!({"actions": actions, "before": change.before, "after": change.after, "attributes": attributes});
    if let Some(body) = body.as_object_mut().filter(|_| !replace_paths.is_empty()) {
        body.insert("replace_paths".to_owned(), Value::Array(replace_paths));
    }
    resource(tenant, change, body)
}

/// What changed behind tenantd's back: from the declared values to the actual ones.
fn resource_drift(tenant: &TenantPlan, change: &Change) -> Option<Value> {
    let drifted: Vec<_> = change.attributes.iter().filter(|a| a.why == Why::Drift).collect();
    if drifted.is_empty() {
        return None;
    }
    let side = |pick: fn(&crate::model::change::AttributeChange) -> &Value| -> Map<String, Value> {
        drifted.iter().map(|a| (a.attribute.name.to_owned(), pick(a).clone())).collect()
    };
    let body = json!({"actions": ["update"], "before": side(|a| &a.after), "after": side(|a| &a.before)});
    Some(resource(tenant, change, body))
}

fn resource(tenant: &TenantPlan, change: &Change, body: Value) -> Value {
    let address = format!("{}.{}", change.resource.as_str(), change.name);
    let id = match &change.before {
        Some(Object::Container(container)) => json!(container.name),
        Some(Object::Network(network)) => json!(network.name),
        _ => Value::Null,
    };
    json!({
        "address": address,
        "mode": "managed",
        "type": change.resource,
        "name": change.name,
        "tenant": tenant.tenant,
        "object": id,
        "change": body,
    })
}
