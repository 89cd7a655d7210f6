//! One tenant file, checked against its tier.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Display,
};

use super::{
    carried::problem,
    decode::Located,
    egress,
    files::{ConfigFileEntry, LimitsFile, TenantFile},
    fleet::{Policy, Tier, command, drift, environment, known_tier, value},
    ingress,
    origin::Lines,
    rules, secrets, stem,
    validation::{Checks, Schemas, is_readable},
    values::{RepoFile, SchemaPath},
};
use crate::model::{
    Destination, Finding, Severity, Span, Tenant, TenantName,
    desired::Limits,
    files::{ConfigFile, Content},
    tree::{Carried, Tree},
    workspace::{Restore, owner_of},
};

/// The least memory that leaves room for an init and an agent. The engine's own floor is 6 MiB.
const LEAST_MEMORY: u64 = 16 << 20;

/// The most entries of one allowlist.
const MAX_ALLOWLIST: usize = 1_000;

/// The most config files of one tenant, and their bytes together.
const MAX_FILES: usize = 64;
const MAX_FILES_SIZE: usize = 1 << 20;

/// The folder below `files/` that every tenant may name.
const SHARED: &str = "shared";

/// What came of one file.
pub(super) struct Compiled {
    pub(super) file: String,
    /// The name that the file gives itself, and where.
    pub(super) claimed: Option<(Span, TenantName)>,
    /// The tenant, where everything that it needs could be read. The file may still have findings.
    pub(super) tenant: Option<Tenant>,
    /// Whether anything that the file declares is wrong, in whatever file that stands.
    pub(super) is_wrong: bool,
}

impl Compiled {
    pub(super) fn claimed_name(&self) -> Option<&TenantName> {
        self.claimed.as_ref().map(|(_, name)| name)
    }
}

pub(super) fn compile(
    path: &str,
    file: &TenantFile,
    policy: &Policy,
    given: &mut Given<'_>,
    findings: &mut Vec<Finding>,
) -> Compiled {
    let claimed = file.tenant.get().map(|name| (file.tenant.span, name.clone()));
    let tenant = Check { path, file, policy, given, findings }.tenant();
    let is_error = |finding: &Finding| finding.severity == Severity::Error;
    // What is wrong already may be other settings than were meant.
    if let Some(tenant) = tenant.as_ref().filter(|_| !findings.iter().any(is_error)) {
        rules::check(&policy.rules, (path, tenant, file), &given.lines, &mut given.checks, findings);
    }
    let is_wrong = findings.iter().any(is_error);
    Compiled { file: path.to_owned(), claimed, tenant, is_wrong }
}

/// The paths in the repo that a file names, as many as are looked at.
pub(super) fn named(file: &TenantFile) -> Vec<String> {
    let entries: &[Located<ConfigFileEntry>] =
        file.files.as_ref().and_then(|field| field.get()).map_or(&[], Vec::as_slice);
    let froms = entries.iter().take(MAX_FILES).filter_map(|entry| entry.get()?.from.get());
    froms.map(|path| path.0.clone()).collect()
}

/// What was found in a file that a tenant names: its content, or the line and kind of what looks like a secret in it.
type Searched = Result<Content, (usize, &'static str)>;

/// What lies under `files/`. Each file that tenants name is looked through once.
pub(super) struct Given<'t> {
    carried: &'t BTreeMap<String, Carried>,
    searched: BTreeMap<&'t str, Searched>,
    checks: Checks<'t>,
    lines: Lines<'t>,
}

impl<'t> Given<'t> {
    pub(super) fn new(tree: &'t Tree, schemas: &'t mut Schemas) -> Self {
        let carried = &tree.carried;
        Self { carried, searched: BTreeMap::new(), checks: Checks::new(carried, schemas), lines: Lines::new(tree) }
    }

    /// What lies at a path, and what was found in it if it is a file.
    fn at(&mut self, path: &str) -> Option<(&'t Carried, Option<Searched>)> {
        let (path, carried) = self.carried.get_key_value(path)?;
        let Carried::File(bytes) = carried else { return Some((carried, None)) };
        let search = || secrets::within(bytes).map_or_else(|| Ok(Content::new(bytes.clone())), Err);
        Some((carried, Some(self.searched.entry(path).or_insert_with(search).clone())))
    }
}

struct Check<'a, 't> {
    path: &'a str,
    file: &'a TenantFile,
    policy: &'a Policy,
    given: &'a mut Given<'t>,
    findings: &'a mut Vec<Finding>,
}

impl Check<'_, '_> {
    fn tenant(mut self) -> Option<Tenant> {
        let file = self.file;
        let name = self.name();
        let tier = self.tier();
        let image = self.image();
        let allowlist = self.allowlist();
        let expose = ingress::expose(self.path, file.expose.as_ref(), self.findings);
        let routes = egress::routes(self.path, file.credentials.as_ref(), self.findings);
        let environment = self.environment();
        let restore = self.restore();
        let files = self.files();
        let tier_values = tier.as_ref().and_then(|tier| self.policy.tiers.get(tier)?.as_ref());
        if file.tier.is_none() && self.has_unknown_key() {
            // The slip may be the tier's own key: what the default tier allows says nothing then.
            return None;
        }
        let limits = tier_values.map(|values| self.limits(tier.as_ref().map_or("", |t| t.as_str()), values));
        let class = tier_values.and_then(|values| self.runtime(values));
        let command = command(file.command.as_ref()).or_else(|| self.policy.command.clone());
        Some(Tenant {
            name: name?,
            tier: tier?,
            class: class?,
            image: image?,
            command,
            environment,
            limits: limits?,
            disk_room: {
                let tier = tier_values?;
                tier.may_raise.disk.unwrap_or(tier.limits.disk).max(tier.limits.disk)
            },
            source: value(file.source.as_ref()).map(|name| name.0.clone()),
            files,
            restore,
            sessions: tier_values?.sessions,
            allowlist,
            expose,
            access: value(file.access.as_ref()).copied().unwrap_or(tier_values?.access),
            sealed: egress::sealed(self.path, &file.sealed, &routes, self.findings),
            routes,
            budget: egress::budget(file.budget.as_ref()),
            sandbox: self.policy.sandbox,
            drift: drift(file.drift_detection.as_ref()).unwrap_or(self.policy.drift),
            rules: rules::held(&self.policy.rules),
        })
    }

    fn has_unknown_key(&self) -> bool {
        self.findings.iter().any(|finding| finding.file == self.path && finding.code == "unknown-key")
    }

    fn report(&mut self, span: Span, code: &'static str, message: &str, help: &str) {
        self.findings.push(Finding::error(self.path, span, code, message, Some(help)));
    }

    fn name(&mut self) -> Option<TenantName> {
        let name = self.file.tenant.get()?;
        let stem = stem(self.path).unwrap_or_default();
        if name.as_str() != stem {
            self.report(
                self.file.tenant.span,
                "file-name",
                &format!("the file is named {stem}.yaml and declares the tenant {name}"),
                &format!("write tenant: {stem}, or rename the file to {name}.yaml"),
            );
        }
        if let Some(kept_for) = name.reserved_for() {
            self.report(
                self.file.tenant.span,
                "reserved-name",
                &format!("names such as {name} are kept for {kept_for}"),
                "choose another name, such as one with the client's name in front",
            );
        }
        Some(name.clone())
    }

    fn tier(&mut self) -> Option<crate::model::TierName> {
        match &self.file.tier {
            Some(tier) => known_tier(self.path, tier, &self.policy.tiers, self.findings),
            None if self.policy.tier.is_none() && self.policy.complete => {
                self.report(
                    self.file.tenant.span,
                    "missing-key",
                    "neither this file nor fleet.yaml names a tier",
                    "add `tier:` here, or `defaults: {tier: …}` to fleet.yaml",
                );
                None
            }
            None => self.policy.tier.clone(),
        }
    }

    fn image(&mut self) -> Option<crate::model::ImageRef> {
        match &self.file.image {
            Some(image) => image.get().cloned(),
            None if self.policy.image.is_none() && self.policy.complete => {
                self.report(
                    self.file.tenant.span,
                    "missing-key",
                    "neither this file nor fleet.yaml names an image",
                    "add `image:` here, or `defaults: {image: …}` to fleet.yaml",
                );
                None
            }
            None => self.policy.image.clone(),
        }
    }

    fn environment(&mut self) -> BTreeMap<String, String> {
        let mut variables = self.policy.environment.clone();
        variables.extend(environment(self.path, &self.file.environment, self.findings));
        variables
    }

    /// A commit gives no tenant what was another's: the name begins with the tenant's own.
    fn restore(&mut self) -> Option<Restore> {
        let field = &value(self.file.workspace.as_ref())?.restore;
        let name = field.get()?.0.as_str();
        if name == "none" {
            return Some(Restore::Nothing);
        }
        let tenant = self.file.tenant.get().map_or("", TenantName::as_str);
        if owner_of(name) != tenant {
            let help = format!("write one that begins with {tenant}. or none; an operator can say otherwise");
            self.report(field.span, "not-its-own", &format!("{name} was not a workspace of {tenant}"), &help);
        }
        Some(Restore::Entry(name.to_owned()))
    }

    /// A commit gives no tenant the files of another: they lie in a folder of its own name, or in the one for all.
    fn files(&mut self) -> Vec<ConfigFile> {
        let Some(field) = &self.file.files else { return Vec::new() };
        let entries: &[Located<ConfigFileEntry>] = field.get().map_or(&[], Vec::as_slice);
        let mut files: BTreeMap<&str, ConfigFile> = BTreeMap::new();
        // A longer list is refused as a whole.
        for entry in entries.iter().take(MAX_FILES) {
            let Some(ConfigFileEntry { path: at, from, schema, apply }) = entry.get() else { continue };
            let content = self.carried(from);
            let (Some(path), Some(content)) = (at.get(), content) else { continue };
            if let (Some(schema), Some(from)) = (schema, from.get()) {
                self.satisfies(&from.0, &content, schema);
            }
            let is_below = |one: &str, other: &str| one.strip_prefix(other).is_some_and(|rest| rest.starts_with('/'));
            let path = path.0.as_str();
            if let Some(other) =
                files.keys().find(|&&other| other == path || is_below(other, path) || is_below(path, other))
            {
                let message = match *other == path {
                    true => format!("{path} is listed twice"),
                    false => format!("{path} and {other} cannot both be there"),
                };
                self.report(at.span, "duplicate-path", &message, "give each file a path of its own");
                continue;
            }
            let apply = value(apply.as_ref()).copied().unwrap_or_default();
            files.insert(path, ConfigFile { path: path.to_owned(), content, apply });
        }
        let size: usize = files.values().map(|file| file.content.bytes.len()).sum();
        if entries.len() > MAX_FILES || size > MAX_FILES_SIZE {
            let message = format!("{} files of {size} bytes together are too many", entries.len());
            self.report(field.span, "out-of-range", &message, "keep them within 64 files and 1 MiB");
        }
        files.into_values().collect()
    }

    /// What lies in the repo where a file comes from.
    fn carried(&mut self, from: &Located<RepoFile>) -> Option<Content> {
        let path = from.get()?.0.as_str();
        let tenant = self.file.tenant.get().map_or("", TenantName::as_str);
        let is_own = |folder: &str| {
            path.strip_prefix("files/")
                .and_then(|rest| rest.strip_prefix(folder))
                .is_some_and(|rest| rest.starts_with('/'))
        };
        if !is_own(tenant) && !is_own(SHARED) {
            let help = format!("move it to files/{tenant}/, or to files/{SHARED}/ if all tenants may have it");
            self.report(from.span, "not-its-own", &format!("{path} is no file of {tenant}"), &help);
            return None;
        }
        let (code, message, help) = match self.given.at(path) {
            Some((_, Some(Ok(content)))) => return Some(content),
            Some((_, Some(Err((line, kind))))) => (
                "secret",
                format!("{path} holds what looks like {kind}, on line {line}"),
                "secrets stay out of the repo: let the gateway add it, with `credentials`",
            ),
            other => problem(path, other.map(|(carried, _)| carried)),
        };
        self.report(from.span, code, &message, help);
        None
    }

    /// Holds a config file against its schema. What is wrong stands in either of the two, and holds this tenant.
    fn satisfies(&mut self, from: &str, content: &Content, schema: &Located<SchemaPath>) {
        let Some(SchemaPath(path)) = schema.get() else { return };
        if !is_readable(from) {
            let message = format!("{from} is neither JSON nor YAML by its name");
            self.report(
                schema.span,
                "schema-format",
                &message,
                "let its name end in .json or .yaml, or leave out the schema",
            );
            return;
        }
        match self.given.carried.get(path) {
            Some(Carried::File(_)) => self.findings.append(&mut self.given.checks.file(from, &content.bytes, path)),
            other => {
                let (code, message, help) = problem(path, other);
                self.report(schema.span, code, &message, help);
            }
        }
    }

    fn allowlist(&mut self) -> BTreeSet<Destination> {
        let Some(field) = &self.file.allowlist else { return BTreeSet::new() };
        let mut destinations = BTreeSet::new();
        let entries: &[Located<Destination>] = field.get().map_or(&[], Vec::as_slice);
        if entries.len() > MAX_ALLOWLIST {
            self.report(
                field.span,
                "out-of-range",
                &format!("the allowlist has {} entries", entries.len()),
                "keep it under 1000; use *.domain entries",
            );
        }
        for entry in entries {
            if let Some(destination) = entry.get()
                && !destinations.insert(destination.clone())
            {
                self.report(
                    entry.span,
                    "duplicate-destination",
                    &format!("{destination} is listed twice"),
                    "remove one",
                );
            }
        }
        destinations
    }

    fn runtime(&mut self, tier: &Tier) -> Option<crate::model::RuntimeClass> {
        let Some(field) = &self.file.runtime else { return Some(tier.runtime) };
        let class = *field.get()?;
        if !tier.allowed.contains(&class) {
            let allowed: Vec<&str> = tier.allowed.iter().map(|class| class.as_str()).collect();
            self.report(
                field.span,
                "runtime-not-allowed",
                &format!("the tier does not allow the runtime {class}"),
                &format!("write one of {}", allowed.join(", ")),
            );
        }
        Some(class)
    }

    fn limits(&mut self, tier_name: &str, tier: &Tier) -> Limits {
        let mut limits = tier.limits;
        let Some(LimitsFile { cpus, memory, pids, disk }) = value(self.file.limits.as_ref()) else { return limits };
        let raise = &tier.may_raise;
        let name = tier_name;
        limits.cpus = self.limit("cpus", name, cpus.as_ref(), limits.cpus, raise.cpus);
        limits.memory = self.limit("memory", name, memory.as_ref(), limits.memory, raise.memory);
        limits.pids = self.limit("pids", name, pids.as_ref(), limits.pids, raise.pids);
        limits.disk = self.limit("disk", name, disk.as_ref(), limits.disk, raise.disk);
        if let Some(field) = memory
            && limits.memory.get() < LEAST_MEMORY
        {
            self.report(
                field.span,
                "out-of-range",
                &format!("{} of memory is too little to start in", limits.memory),
                "write at least 16MiB",
            );
        }
        limits
    }

    fn limit<T: Copy + Ord + Display>(
        &mut self,
        what: &str,
        tier_name: &str,
        asked: Option<&Located<T>>,
        given: T,
        raise: Option<T>,
    ) -> T {
        let Some(field) = asked else { return given };
        let Some(&asked) = field.get() else { return given };
        let most = raise.map_or(given, |raise| raise.max(given));
        if asked > most {
            let message = format!("{what} {asked} is above what the tier {tier_name} allows");
            self.report(
                field.span,
                "limit-above-tier",
                &message,
                &format!("write at most {most}, or choose a higher tier"),
            );
        }
        asked
    }
}
