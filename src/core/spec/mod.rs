//! YAML to what is desired: every error of every file at once, every default resolved. Pure.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

pub mod decode;
pub mod egress;
pub mod files;
pub mod ingress;
pub mod origin;
pub mod prune;
pub mod reference;
pub mod schema;
pub mod settings;

mod budget;
mod carried;
mod fleet;
mod host;
mod paths;
mod rules;
mod secrets;
mod tenant;
mod url;
mod validation;
mod values;
mod yaml;

use std::{
    borrow::Borrow,
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

pub use host::{host, socket};
pub use paths::{FLEET, TENANTS};

use crate::model::{
    Desired, Finding, Severity, Tenant, TenantName,
    tree::{Carried, SourceFile, Tree, tenant_of},
};
use budget::Room;
use decode::decode;
use files::TenantFile;
use fleet::Policy;
use paths::{RULES, SCHEMAS, stem};
use tenant::{Compiled, Given};
use validation::Schemas;

/// Compiles the files of a config repo.
///
/// A wrong tenant file holds its own tenant and no other. Where something else is wrong, the policy or
/// the folder of tenants itself, nobody's settings are known and nobody is known to be gone: every
/// tenant is held. So it is where the files declare more than the bound.
pub fn compile(tree: &Tree) -> Desired {
    let files = tree.files.iter().filter(|file| stem(&file.path).is_some());
    let mut schemas = Schemas::default();
    compile_with(tree, policy(tree, &mut schemas), files.map(TenantSource::read), &mut schemas)
}

/// A tenant's file as far as it can be understood by itself, whatever holds for all tenants.
#[derive(Debug)]
pub struct TenantSource {
    path: String,
    content: Option<TenantFile>,
    findings: Vec<Finding>,
}

impl TenantSource {
    /// Reads a file under `tenants/`.
    pub fn read(file: &SourceFile) -> Self {
        let (content, findings) = decode(&file.path, &file.bytes);
        Self { path: file.path.clone(), content, findings }
    }
}

/// Compiles what changes little from one time to the next: what holds for all tenants is read anew only where it is
/// another text.
#[derive(Debug, Default)]
pub struct Compiler {
    last: Option<Last>,
    schemas: Schemas,
}

impl Compiler {
    /// What [`compile`] would make of a tree if it had these tenants' files beside its own, in the order of their paths.
    pub fn compile(&mut self, tree: &Tree, tenants: &[Arc<TenantSource>]) -> Desired {
        // What is wrong with the tree itself has a say in what is missing.
        if !tree.findings.is_empty() {
            let read = policy(tree, &mut self.schemas);
            return compile_with(tree, read, tenants.iter().map(Arc::clone), &mut self.schemas);
        }
        self.schemas.begin();
        let known = self.last.as_ref().filter(|last| last.is_of(tree)).map(|last| Arc::clone(&last.read));
        let read = known.unwrap_or_else(|| {
            let read = Arc::new(policy(tree, &mut self.schemas));
            let (files, carried) = (tree.files.clone(), Arc::clone(&tree.carried));
            self.last = Some(Last { files, carried, read: Arc::clone(&read) });
            read
        });
        compile_with(tree, PolicyRead::clone(&read), tenants.iter().map(Arc::clone), &mut self.schemas)
    }
}

/// What holds for all tenants, and what it was read from.
#[derive(Debug)]
struct Last {
    files: Vec<SourceFile>,
    carried: Arc<BTreeMap<String, Carried>>,
    read: Arc<PolicyRead>,
}

impl Last {
    /// Whether a tree says the same to all tenants.
    fn is_of(&self, tree: &Tree) -> bool {
        self.files == tree.files
            && (Arc::ptr_eq(&self.carried, &tree.carried) || schemas_of(&self.carried).eq(schemas_of(&tree.carried)))
    }
}

/// What lies below `rules/` and `schemas/`.
fn schemas_of(carried: &BTreeMap<String, Carried>) -> impl Iterator<Item = (&String, &Carried)> {
    let below =
        |folder: &'static str| carried.range(folder.to_owned()..).take_while(move |(path, _)| path.starts_with(folder));
    below(RULES).chain(below(SCHEMAS))
}

/// What holds for all tenants, with what was found where it stands.
#[derive(Clone, Debug)]
struct PolicyRead {
    policy: Arc<Policy>,
    /// Those of the tree, and those of the policy.
    findings: Vec<Finding>,
    is_usable: bool,
}

fn policy(tree: &Tree, schemas: &mut Schemas) -> PolicyRead {
    schemas.begin();
    let mut findings = tree.findings.clone();
    let of_tree = findings.len();
    let mut policy = Policy::read(tree, schemas, &mut findings);
    let of_policy = findings.split_off(of_tree);
    budget::list(FLEET, of_policy, &mut findings);
    let is_usable = !findings.iter().any(|f| f.severity == Severity::Error && !f.file.starts_with(TENANTS));
    policy.complete = is_usable;
    PolicyRead { policy: Arc::new(policy), findings, is_usable }
}

fn compile_with(
    tree: &Tree,
    read: PolicyRead,
    tenants: impl Iterator<Item: Borrow<TenantSource>>,
    schemas: &mut Schemas,
) -> Desired {
    let PolicyRead { policy, mut findings, is_usable: mut usable } = read;
    let mut compiled: Vec<Compiled> = Vec::new();
    let (mut room, mut given) = (Room::new(), Given::new(tree, schemas));
    for source in tenants {
        let TenantSource { path, content, findings: found } = source.borrow();
        let mut found = found.clone();
        let one = content.as_ref().map(|content| tenant::compile(path, content, &policy, &mut given, &mut found));
        budget::list(path, found, &mut findings);
        let taken = one.as_ref().and_then(|one| one.tenant.as_ref()).map_or(Ok(()), |tenant| room.take(tenant));
        compiled.extend(one);
        if let Err(beyond) = taken {
            findings.push(beyond);
            usable = false;
            break;
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
    Desired { tenants, held, held_back: BTreeMap::new(), findings, policy_usable: usable, policy: policy.daemon }
}

/// The paths under `files/` that tenants' files name, whether they may or not.
pub fn named(tree: &Tree) -> BTreeSet<String> {
    let files = tree.files.iter().filter(|file| stem(&file.path).is_some());
    files.filter_map(|file| decode(&file.path, &file.bytes).0).flat_map(|content| tenant::named(&content)).collect()
}

/// The names that a file with an error may stand for: by its own name, whatever its ending, and by
/// what it calls itself.
fn held_names(findings: &[Finding], compiled: &[Compiled]) -> BTreeSet<String> {
    let wrong: BTreeSet<&str> =
        findings.iter().filter(|f| f.severity == Severity::Error).map(|f| f.file.as_str()).collect();
    let by_file = wrong.iter().filter_map(|path| path.strip_prefix(TENANTS)).map(|path| tenant_of(path).to_owned());
    let is_wrong = |one: &&Compiled| one.is_wrong || wrong.contains(one.file.as_str());
    let by_content = compiled.iter().filter(is_wrong).filter_map(|one| Some(one.claimed_name()?.to_string()));
    // What it names may be wrong, and not the file itself.
    let by_name = compiled.iter().filter(|one| one.is_wrong).map(|one| tenant_of(&one.file).to_owned());
    by_file.chain(by_name).chain(by_content).filter(|name| !name.is_empty()).collect()
}

/// How many other files are named where one collides with them.
const NAMED: usize = 3;

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
            let others = group.iter().filter(|other| other.file != one.file).map(|other| other.file.as_str());
            let mut others: Vec<&str> = others.take(NAMED + 1).collect();
            if others.len() > NAMED {
                others.truncate(NAMED);
                others.push("others");
            }
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
