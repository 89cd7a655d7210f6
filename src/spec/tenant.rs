//! One tenant file, checked against its tier.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Display,
};

use super::{
    decode::Located,
    egress,
    files::{LimitsFile, TenantFile},
    fleet::{Policy, Tier, command, drift, environment, known_tier, value},
    stem,
};
use crate::model::{Destination, Finding, Span, Tenant, TenantName, desired::Limits};

/// The least memory that leaves room for an init and an agent. The engine's own floor is 6 MiB.
const LEAST_MEMORY: u64 = 16 << 20;

/// The most entries of one allowlist.
const MAX_ALLOWLIST: usize = 1_000;

/// What came of one file.
pub(super) struct Compiled {
    pub(super) file: String,
    /// The name that the file gives itself, and where.
    pub(super) claimed: Option<(Span, TenantName)>,
    /// The tenant, where everything that it needs could be read. The file may still have findings.
    pub(super) tenant: Option<Tenant>,
}

impl Compiled {
    pub(super) fn claimed_name(&self) -> Option<&TenantName> {
        self.claimed.as_ref().map(|(_, name)| name)
    }
}

pub(super) fn compile(path: &str, file: &TenantFile, policy: &Policy, findings: &mut Vec<Finding>) -> Compiled {
    let claimed = file.tenant.get().map(|name| (file.tenant.span, name.clone()));
    let tenant = Check { path, file, policy, findings }.tenant();
    Compiled { file: path.to_owned(), claimed, tenant }
}

struct Check<'a> {
    path: &'a str,
    file: &'a TenantFile,
    policy: &'a Policy,
    findings: &'a mut Vec<Finding>,
}

impl Check<'_> {
    fn tenant(mut self) -> Option<Tenant> {
        let file = self.file;
        let name = self.name();
        let tier = self.tier();
        let image = self.image();
        let allowlist = self.allowlist();
        let routes = egress::routes(self.path, file.credentials.as_ref(), self.findings);
        let environment = self.environment();
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
            sessions: tier_values?.sessions,
            allowlist,
            routes,
            budget: egress::budget(file.budget.as_ref()),
            sandbox: self.policy.sandbox,
            drift: drift(file.drift_detection.as_ref()).unwrap_or(self.policy.drift),
        })
    }

    fn has_unknown_key(&self) -> bool {
        // Those of this file were found last.
        let mut own = self.findings.iter().rev().take_while(|finding| finding.file == self.path);
        own.any(|finding| finding.code == "unknown-key")
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
