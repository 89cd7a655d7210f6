//! `fleet.yaml` and `tiers.yaml`: what a tenant has before its own file speaks.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    decode::{Located, LocatedMap, decode},
    files::{DriftFile, FleetFile, LimitsFile, RemovalsFile, RetryFile, TierFile, TiersFile},
    paths::{FLEET, TIERS},
    rules::{self, Rule},
    secrets,
    validation::Schemas,
    values::VariableName,
};
use crate::model::{
    Access, Bytes, Cpus, DriftMode, Finding, ImageRef, Pids, RuntimeClass, Span, TierName,
    desired::{Limits, Sandbox},
    host::Ceilings,
    policy::{Guards, Retry},
    tree::{TOO_LARGE, Tree, UNPARSED},
};

/// What holds for all tenants.
#[derive(Debug, Default)]
pub(super) struct Policy {
    pub(super) tier: Option<TierName>,
    pub(super) image: Option<ImageRef>,
    pub(super) command: Option<Vec<String>>,
    pub(super) environment: BTreeMap<String, String>,
    pub(super) sandbox: Sandbox,
    pub(super) drift: DriftMode,
    pub(super) daemon: crate::model::Policy,
    /// Each tier by its name; `None` where what it gives is wrong, which is reported already.
    pub(super) tiers: BTreeMap<TierName, Option<Tier>>,
    pub(super) rules: Vec<Rule>,
    /// Whether all of it could be read: else what is missing here may only be misspelt there.
    pub(super) complete: bool,
}

/// What a tier gives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Tier {
    pub(super) limits: Limits,
    pub(super) sessions: u32,
    pub(super) access: Access,
    pub(super) runtime: RuntimeClass,
    pub(super) allowed: BTreeSet<RuntimeClass>,
    pub(super) may_raise: Ceilings,
}

/// Processes and threads where a tier names no number.
const PIDS: Pids = Pids::new(256);

impl Policy {
    pub(super) fn read(tree: &Tree, schemas: &mut Schemas, findings: &mut Vec<Finding>) -> Self {
        let mut policy = Self::default();
        match tree.file(TIERS) {
            Some(file) => {
                let (content, mut found) = decode::<TiersFile>(TIERS, &file.bytes);
                findings.append(&mut found);
                policy.tiers = content.map(|content| tiers(&content, findings)).unwrap_or_default();
            }
            None => policy.tiers = built_in(),
        }
        match tree.file(FLEET) {
            Some(file) => {
                let (content, mut found) = decode::<FleetFile>(FLEET, &file.bytes);
                findings.append(&mut found);
                if let Some(content) = content {
                    policy.take(&content, findings);
                    let rules = content.rules.as_ref();
                    policy.rules = rules.map_or_else(Vec::new, |rules| rules::read(rules, tree, schemas, findings));
                }
            }
            None if findings
                .iter()
                .any(|finding| finding.file == FLEET || [TOO_LARGE, UNPARSED].contains(&finding.code)) => {}
            None => findings.push(Finding::on_file(
                FLEET,
                "missing-file",
                "the config repo has no fleet.yaml",
                "add one; at the least `apiVersion: tenantd/v1` and `kind: Fleet`",
            )),
        }
        policy
    }

    fn take(&mut self, file: &FleetFile, findings: &mut Vec<Finding>) {
        if let Some(defaults) = value(file.defaults.as_ref()) {
            if let Some(tier) = &defaults.tier {
                self.tier = known_tier(FLEET, tier, &self.tiers, findings);
            }
            self.image = value(defaults.image.as_ref()).cloned();
            self.command = command(defaults.command.as_ref());
            self.environment = environment(FLEET, &defaults.environment, findings);
        }
        let sandbox = &mut self.sandbox;
        if let Some(hardening) = value(file.hardening.as_ref()) {
            set(&mut sandbox.tmp_size, hardening.tmp_size.as_ref());
            set(&mut sandbox.shm_size, hardening.shm_size.as_ref());
            set(&mut sandbox.init, hardening.init.as_ref());
            set(&mut sandbox.workspace_noexec, hardening.workspace_noexec.as_ref());
            if let Some(open_files) = value(hardening.open_files.as_ref()) {
                sandbox.open_files = open_files.0;
            }
        }
        if let Some(logs) = value(file.logs.as_ref()) {
            set(&mut sandbox.log_size, logs.max_size.as_ref());
            set(&mut sandbox.log_compress, logs.compress.as_ref());
            if let Some(files) = value(logs.max_files.as_ref()) {
                sandbox.log_files = files.0;
            }
        }
        self.drift = drift(file.drift_detection.as_ref()).unwrap_or_default();
        let daemon = &mut self.daemon;
        if let Some(guards) = value(file.guards.as_ref()) {
            daemon.guards = removals(guards.removals.as_ref(), daemon.guards);
        }
        if let Some(health) = value(file.health.as_ref())
            && let Some(after) = value(health.trial_period.as_ref())
        {
            daemon.healthy_after = after.0;
        }
        if let Some(ingress) = value(file.ingress.as_ref()) {
            set(&mut daemon.waiting_page, ingress.waiting_page.as_ref());
        }
        if let Some(field) = &file.retry {
            daemon.retry = retry(field, daemon.retry, findings);
        }
    }
}

/// What a file says about drift, if it says something.
pub(super) fn drift(field: Option<&Located<DriftFile>>) -> Option<DriftMode> {
    value(field)?.mode.get().copied()
}

/// The removals that a file lets pass, with the given numbers where it names none.
pub(super) fn removals(field: Option<&Located<RemovalsFile>>, mut guards: Guards) -> Guards {
    if let Some(file) = value(field) {
        guards.percent = value(file.percent.as_ref()).map_or(guards.percent, |percent| percent.0);
        guards.at_least = value(file.at_least.as_ref()).map_or(guards.at_least, |count| count.0);
        guards.window = value(file.window.as_ref()).map_or(guards.window, |window| window.0);
    }
    guards
}

fn retry(field: &Located<RetryFile>, mut retry: Retry, findings: &mut Vec<Finding>) -> Retry {
    let Some(file) = field.get() else { return retry };
    retry.initial = value(file.initial.as_ref()).map_or(retry.initial, |initial| initial.0);
    retry.max = value(file.max.as_ref()).map_or(retry.max, |max| max.0);
    if retry.max < retry.initial {
        let Retry { initial, max } = retry;
        let message = format!("the longest wait, {max}, is shorter than the first, {initial}");
        findings.push(field.error(FLEET, "out-of-range", &message, Some("lengthen max, or shorten initial")));
    }
    retry
}

/// The value of an optional key, if it is there and right.
pub(super) fn value<T>(field: Option<&Located<T>>) -> Option<&T> {
    field.and_then(Located::get)
}

fn set<T: Copy>(place: &mut T, field: Option<&Located<T>>) {
    if let Some(value) = value(field) {
        *place = *value;
    }
}

/// A command, if each of its words is right.
pub(super) fn command(field: Option<&Located<Vec<Located<String>>>>) -> Option<Vec<String>> {
    value(field)?.iter().map(|word| word.get().cloned()).collect()
}

/// Variables whose names and values are right. What looks like a secret is refused.
pub(super) fn environment(
    file: &str,
    variables: &LocatedMap<VariableName, String>,
    findings: &mut Vec<Finding>,
) -> BTreeMap<String, String> {
    let mut result = BTreeMap::new();
    for (name, text) in variables {
        let (Some(name), Some(value)) = (name.get(), text.get()) else { continue };
        if let Some(kind) = secrets::kind(value) {
            findings.push(text.error(
                file,
                "secret",
                &format!("the value of {} looks like {kind}", name.0),
                Some("never commit a secret; this file is read by many, and a variable by every process of the tenant"),
            ));
        }
        result.insert(name.0.clone(), value.clone());
    }
    result
}

/// How many tiers are looked through for the one that was meant. More are not written by hand.
const NAMED: usize = 100;

/// A tier's name, if there is such a tier.
pub(super) fn known_tier(
    file: &str,
    name: &Located<TierName>,
    tiers: &BTreeMap<TierName, Option<Tier>>,
    findings: &mut Vec<Finding>,
) -> Option<TierName> {
    let wanted = name.get()?;
    if tiers.contains_key(wanted) {
        return Some(wanted.clone());
    }
    // Without any tier, `tiers.yaml` is wrong and says so itself.
    if !tiers.is_empty() {
        let known: Vec<&str> = tiers.keys().map(TierName::as_str).take(NAMED).collect();
        let help = match crate::model::finding::suggest(wanted.as_str(), known.iter().copied()) {
            Some(meant) => format!("did you mean {meant}? the tiers are {}", known.join(", ")),
            None => format!("write one of {}", known.join(", ")),
        };
        findings.push(name.error(file, "unknown-tier", &format!("there is no tier {wanted}"), Some(&help)));
    }
    None
}

fn tiers(file: &TiersFile, findings: &mut Vec<Finding>) -> BTreeMap<TierName, Option<Tier>> {
    let Some(entries) = file.tiers.get() else { return BTreeMap::new() };
    if entries.is_empty() {
        findings.push(file.tiers.error(
            TIERS,
            "no-tiers",
            "no tier is declared",
            Some("declare one, or remove the file for the built-in ones"),
        ));
    }
    let named = entries.iter().filter_map(|(name, entry)| Some((name.get()?.clone(), tier(entry, findings))));
    named.collect()
}

fn tier(entry: &Located<TierFile>, findings: &mut Vec<Finding>) -> Option<Tier> {
    let file = entry.get()?;
    let limits = Limits {
        cpus: *file.cpus.get()?,
        memory: *file.memory.get()?,
        disk: *file.disk.get()?,
        pids: value(file.pids.as_ref()).copied().unwrap_or(PIDS),
    };
    let runtime = value(file.runtime.as_ref()).copied().unwrap_or(RuntimeClass::Container);
    let allowed = match &file.allowed_runtimes {
        None => RuntimeClass::ALL.into_iter().filter(|class| *class >= runtime).collect(),
        Some(list) => {
            let allowed: BTreeSet<RuntimeClass> = list.get()?.iter().filter_map(|class| class.get().copied()).collect();
            if !allowed.contains(&runtime) {
                findings.push(list.error(
                    TIERS,
                    "runtime-not-allowed",
                    &format!("the tier's own runtime {runtime} is not among those allowed"),
                    Some("list it, or choose one of the list"),
                ));
            }
            allowed
        }
    };
    let may_raise = value(file.may_raise.as_ref()).map(|raise| may_raise(&limits, raise, findings)).unwrap_or_default();
    let access = value(file.access.as_ref()).copied().unwrap_or_default();
    Some(Tier { limits, sessions: file.sessions.get()?.0, access, runtime, allowed, may_raise })
}

/// Up to where a tier lets each limit be raised. Below the tier's own number it would mean nothing.
fn may_raise(limits: &Limits, file: &LimitsFile, findings: &mut Vec<Finding>) -> Ceilings {
    let mut below = |span: Span, what: &str, own: String| {
        let message = format!("{what} may be raised to less than the tier gives ({own})");
        findings.push(Finding::error(
            TIERS,
            span,
            "raise-below-tier",
            &message,
            Some("write more than the tier's number, or remove the key"),
        ));
    };
    let cpus: Option<Cpus> = value(file.cpus.as_ref()).copied();
    let memory: Option<Bytes> = value(file.memory.as_ref()).copied();
    let pids: Option<Pids> = value(file.pids.as_ref()).copied();
    let disk: Option<Bytes> = value(file.disk.as_ref()).copied();
    if let (Some(field), Some(most)) = (&file.cpus, cpus)
        && most < limits.cpus
    {
        below(field.span, "cpus", limits.cpus.to_string());
    }
    if let (Some(field), Some(most)) = (&file.memory, memory)
        && most < limits.memory
    {
        below(field.span, "memory", limits.memory.to_string());
    }
    if let (Some(field), Some(most)) = (&file.pids, pids)
        && most < limits.pids
    {
        below(field.span, "pids", limits.pids.to_string());
    }
    if let (Some(field), Some(most)) = (&file.disk, disk)
        && most < limits.disk
    {
        below(field.span, "disk", limits.disk.to_string());
    }
    Ceilings { cpus, memory, pids, disk }
}

/// The tiers that apply without `tiers.yaml`.
fn built_in() -> BTreeMap<TierName, Option<Tier>> {
    let rows = [
        ("free", 1, Bytes::mib(512), Bytes::gib(2), 1),
        ("pro", 2, Bytes::gib(2), Bytes::gib(10), 3),
        ("team", 4, Bytes::gib(4), Bytes::gib(20), 5),
        ("enterprise", 8, Bytes::gib(16), Bytes::gib(100), 10),
    ];
    rows.into_iter()
        .filter_map(|(name, cpus, memory, disk, sessions)| {
            let tier = Tier {
                limits: Limits { cpus: Cpus::whole(cpus), memory, disk, pids: PIDS },
                sessions,
                access: Access::default(),
                runtime: RuntimeClass::Container,
                allowed: RuntimeClass::ALL.into(),
                may_raise: Ceilings::default(),
            };
            Some((name.parse().ok()?, Some(tier)))
        })
        .collect()
}
