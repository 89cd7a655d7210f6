//! YAML to what is desired: every error of every file at once, every default resolved. Pure.

pub mod decode;
pub mod egress;
pub mod files;
pub mod origin;
pub mod prune;
pub mod reference;
pub mod schema;

mod fleet;
mod host;
mod secrets;
mod tenant;
mod url;
mod values;
mod yaml;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

pub use host::{host, socket};

use crate::model::{
    Desired, Finding, Severity, Tenant, TenantName,
    tree::{SourceFile, Tree, tenant_of},
};
use decode::decode;
use fleet::Policy;
use tenant::Compiled;

/// The file with the policy for all tenants.
pub(crate) const FLEET: &str = "fleet.yaml";

/// The file with the tiers.
const TIERS: &str = "tiers.yaml";

/// What the path of each tenant file begins with.
pub(crate) const TENANTS: &str = "tenants/";

/// Compiles the files of a config repo.
///
/// A wrong tenant file holds its own tenant and no other. Where something else is wrong, the policy or
/// the folder of tenants itself, nobody's settings are known and nobody is known to be gone: every
/// tenant is held.
pub fn compile(tree: &Tree) -> Desired {
    let mut findings = tree.findings.clone();
    let mut policy = Policy::read(tree, &mut findings);
    let usable = !findings.iter().any(|f| f.severity == Severity::Error && !f.file.starts_with(TENANTS));
    policy.complete = usable;

    let files: Vec<&SourceFile> = tree.files.iter().filter(|file| stem(&file.path).is_some()).collect();
    let mut compiled: Vec<Compiled> = Vec::with_capacity(files.len());
    for file in files {
        let (content, mut found) = decode(&file.path, &file.bytes);
        findings.append(&mut found);
        if let Some(content) = content {
            compiled.push(tenant::compile(&file.path, &content, &policy, tree, &mut findings));
        }
    }
    report_collisions(&compiled, &mut findings);
    findings.sort();
    findings.dedup();

    let mut held = held_names(&findings, &compiled);
    if !usable {
        held.extend(compiled.iter().filter_map(|one| Some(one.claimed_name()?.to_string())));
    }
    let mut tenants: BTreeMap<TenantName, Arc<Tenant>> = BTreeMap::new();
    for tenant in compiled.into_iter().filter_map(|compiled| compiled.tenant) {
        if usable && !held.contains(tenant.name.as_str()) {
            tenants.insert(tenant.name.clone(), Arc::new(tenant));
        }
    }
    Desired { tenants, held, findings, policy_usable: usable, policy: policy.daemon }
}

/// A tenant file's name without its folder and ending.
fn stem(path: &str) -> Option<&str> {
    path.strip_prefix(TENANTS)?.strip_suffix(".yaml")
}

/// The names that a file with an error may stand for: by its own name, whatever its ending, and by
/// what it calls itself.
fn held_names(findings: &[Finding], compiled: &[Compiled]) -> BTreeSet<String> {
    let wrong: BTreeSet<&str> =
        findings.iter().filter(|f| f.severity == Severity::Error).map(|f| f.file.as_str()).collect();
    let by_file = wrong.iter().filter_map(|path| path.strip_prefix(TENANTS)).map(|path| tenant_of(path).to_owned());
    let by_content = compiled
        .iter()
        .filter(|c| wrong.contains(c.file.as_str()))
        .filter_map(|c| Some(c.claimed.as_ref()?.1.to_string()));
    by_file.chain(by_content).filter(|name| !name.is_empty()).collect()
}

/// Reports tenants that are declared twice, and those whose interfaces on the host would meet.
fn report_collisions(compiled: &[Compiled], findings: &mut Vec<Finding>) {
    let mut names: BTreeMap<&TenantName, Vec<&Compiled>> = BTreeMap::new();
    let mut interfaces: BTreeMap<String, Vec<&Compiled>> = BTreeMap::new();
    for one in compiled {
        if let Some((_, name)) = &one.claimed {
            names.entry(name).or_default().push(one);
            interfaces.entry(name.interface_name()).or_default().push(one);
        }
    }
    let mut report = |group: &[&Compiled], code, message: &dyn Fn(&str) -> String, help| {
        for one in group {
            let others: Vec<&str> =
                group.iter().filter(|other| other.file != one.file).map(|other| other.file.as_str()).collect();
            if let (Some((span, _)), false) = (&one.claimed, others.is_empty()) {
                findings.push(Finding::error(&one.file, *span, code, &message(&others.join(", ")), Some(help)));
            }
        }
    };
    for (name, group) in &names {
        let message = |others: &str| format!("the tenant {name} is declared in {others} as well");
        report(group, "duplicate-tenant", &message, "keep one of the files, or give each its own name");
    }
    for group in
        interfaces.values().filter(|group| group.iter().any(|one| one.claimed_name() != group[0].claimed_name()))
    {
        let message = |others: &str| format!("the shortened name of this tenant is the same as that of {others}");
        report(group, "name-collision", &message, "choose another name");
    }
}

#[cfg(test)]
mod tests;
