//! Rules of a fleet: JSON Schemas of the repo that the settings of every tenant must satisfy.

use std::{collections::BTreeSet, sync::Arc};

use serde_json::Value;

use super::{
    carried::problem,
    decode::Located,
    files::TenantFile,
    origin::Lines,
    paths::FLEET,
    settings::Settings,
    validation::{Checks, START, Said, Schema, Schemas, parts, said},
    values::RulePath,
};
use crate::model::{
    Finding, Tenant,
    desired::HeldRule,
    finding::Location,
    tree::{Carried, Tree},
};

/// The most rules of one fleet.
const MAX_RULES: usize = 64;

/// A rule of a fleet, by its path.
#[derive(Clone, Debug)]
pub(super) struct Rule {
    path: String,
    schema: Arc<Schema>,
}

/// The rules that `fleet.yaml` lists. A wrong one is an error of the fleet.
pub(super) fn read(
    field: &Located<Vec<Located<RulePath>>>,
    tree: &Tree,
    schemas: &mut Schemas,
    findings: &mut Vec<Finding>,
) -> Vec<Rule> {
    let entries = field.get().map_or(&[][..], Vec::as_slice);
    if entries.len() > MAX_RULES {
        let message = format!("{} rules are too many", entries.len());
        findings.push(field.error(
            FLEET,
            "out-of-range",
            &message,
            Some("keep them within 64, or let one refer to others"),
        ));
    }
    let mut rules = Vec::new();
    for entry in entries.iter().take(MAX_RULES) {
        let Some(RulePath(path)) = entry.get() else { continue };
        if !matches!(tree.carried.get(path), Some(Carried::File(_))) {
            let (code, message, help) = problem(path, tree.carried.get(path));
            findings.push(entry.error(FLEET, code, &message, Some(help)));
            continue;
        }
        match schemas.get(path, &tree.carried) {
            Ok(schema) => rules.push(Rule { path: path.clone(), schema }),
            Err(found) => findings.extend(found),
        }
    }
    rules
}

/// What a declaration keeps of the rules that it satisfies.
pub(super) fn held(rules: &[Rule]) -> BTreeSet<HeldRule> {
    rules.iter().map(|rule| HeldRule { path: rule.path.clone(), digest: rule.schema.digest() }).collect()
}

/// What rules refuse of a tenant's settings, each on the line that the setting comes from.
pub(super) fn check(
    rules: &[Rule],
    (path, tenant, file): (&str, &Tenant, &TenantFile),
    lines: &Lines<'_>,
    checks: &mut Checks<'_>,
    findings: &mut Vec<Finding>,
) {
    if rules.is_empty() {
        return;
    }
    // Nothing can fail here: settings have a form in JSON.
    let settings = serde_json::to_value(Settings::of(tenant, file)).unwrap_or_default();
    for Rule { path: rule, schema } in rules {
        let errors = match checks.errors(schema, &settings) {
            Ok(errors) => errors,
            Err(beyond) => {
                let message = format!("its settings cannot be held against {rule}: {beyond}");
                findings.push(Finding::on_file(path, "schema-work", message, "make the rule simpler"));
                continue;
            }
        };
        for error in &errors {
            for Said { key, what } in said(error) {
                let mut parts = parts(error.instance_path().as_str());
                parts.extend(key);
                let at = place(&parts, &settings, (path, tenant), lines);
                let text = schema.words().unwrap_or_else(|| what.clone());
                let message = if at.file == path { text } else { format!("{}: {text}", tenant.name) };
                let help = format!("{rule} asks for it at {}: {what}", error.evaluation_path());
                findings.push(Finding::error(&at.file, at.span, "rule", &message, Some(&help)));
            }
        }
    }
}

/// The line that a part of the settings comes from: its own, else that of what it is in, else the one with the tenant's
/// name.
fn place(parts: &[String], settings: &Value, (path, tenant): (&str, &Tenant), lines: &Lines<'_>) -> Location {
    let (field, value) = setting(parts, settings);
    let whole = parts.first().cloned().unwrap_or_default();
    let candidates = [(field, value), (whole, Value::Null), ("tenant".to_owned(), Value::Null)];
    let mut found = candidates
        .iter()
        .filter_map(|(field, value)| lines.written(tenant.name.as_str(), Some(&tenant.tier), field, value));
    found.next().unwrap_or_else(|| Location { file: path.to_owned(), span: START })
}

/// A part of the settings by the name that files give it, and the value by which an entry of a list is found.
fn setting(parts: &[String], settings: &Value) -> (String, Value) {
    let entry = |list: &str, index: &str| settings.get(list)?.get(index.parse::<usize>().ok()?).cloned();
    let named = |list: &str, index: &str, key: &str| {
        let name = entry(list, index)?.get(key)?.as_str()?.to_owned();
        Some((format!("{list}.{name}"), Value::Null))
    };
    let found = match parts {
        [list, index, ..] => match list.as_str() {
            "allowlist" | "command" => entry(list, index).map(|value| (list.clone(), value)),
            "expose" => entry(list, index).and_then(|entry| Some((list.clone(), entry.get("port")?.clone()))),
            "credentials" => named(list, index, "route"),
            "files" => named(list, index, "path"),
            _ => None,
        },
        [] | [_] => None,
    };
    found.unwrap_or_else(|| (parts.join("."), Value::Null))
}
