//! YAML to what is desired: every error of every file at once, every default resolved. Pure.

pub mod decode;
pub mod files;
pub mod reference;
pub mod schema;

mod fleet;
mod host;
mod secrets;
mod tenant;
mod yaml;

use std::collections::{BTreeMap, BTreeSet};

pub use host::{host, socket};

use crate::model::{
    Desired, Finding, Severity, Tenant, TenantName,
    tree::{SourceFile, Tree},
};
use decode::decode;
use fleet::Policy;
use tenant::Compiled;

/// The file with the policy for all tenants.
const FLEET: &str = "fleet.yaml";

/// The file with the tiers.
const TIERS: &str = "tiers.yaml";

/// Compiles the files of a config repo.
///
/// A wrong tenant file holds its own tenant and no other. Without a usable `fleet.yaml` and
/// `tiers.yaml` nobody's settings are known, and every tenant is held.
pub fn compile(tree: &Tree) -> Desired {
    let mut findings = tree.findings.clone();
    let policy = Policy::read(tree, &mut findings);
    let usable = !findings.iter().any(|finding| is_error_in(finding, FLEET) || is_error_in(finding, TIERS));

    let files: Vec<&SourceFile> = tree.files.iter().filter(|file| stem(&file.path).is_some()).collect();
    let mut compiled: Vec<Compiled> = Vec::with_capacity(files.len());
    for file in files {
        let (content, mut found) = decode(&file.path, &file.bytes);
        findings.append(&mut found);
        if let Some(content) = content {
            compiled.push(tenant::compile(&file.path, &content, &policy, &mut findings));
        }
    }
    report_collisions(&compiled, &mut findings);
    findings.sort();
    findings.dedup();

    let mut held = held_names(&findings, &compiled);
    let mut tenants: BTreeMap<TenantName, Tenant> = BTreeMap::new();
    for tenant in compiled.into_iter().filter_map(|compiled| compiled.tenant) {
        if !usable {
            held.insert(tenant.name.to_string());
        } else if !held.contains(tenant.name.as_str()) {
            tenants.insert(tenant.name.clone(), tenant);
        }
    }
    Desired { tenants, held, findings, policy_usable: usable }
}

fn is_error_in(finding: &Finding, file: &str) -> bool {
    finding.severity == Severity::Error && finding.file == file
}

/// A tenant file's name without its folder and ending.
fn stem(path: &str) -> Option<&str> {
    path.strip_prefix("tenants/")?.strip_suffix(".yaml")
}

/// The names that a file with an error may stand for: by its own name, whatever its ending, and by
/// what it calls itself.
fn held_names(findings: &[Finding], compiled: &[Compiled]) -> BTreeSet<String> {
    let wrong: BTreeSet<&str> =
        findings.iter().filter(|f| f.severity == Severity::Error).map(|f| f.file.as_str()).collect();
    let by_file = wrong.iter().filter_map(|path| {
        let name = path.strip_prefix("tenants/")?;
        Some(name.split('.').next().unwrap_or(name).to_owned())
    });
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
