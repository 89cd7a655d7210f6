//! The settings of a tenant in one table: what files call each, how its value is shown, and what another value means for the
//! boundary around the tenant. Reviews, the stricter of two declarations and `explain` take them from here.

use std::fmt::Display;

use serde::Serialize;
use serde_json::{Value, json};

use super::effect::Mark;
use crate::model::{
    Bytes, Cpus, DriftMode, Expose, ImageRef, Pids, RuntimeClass, Tenant,
    desired::{Limits, Sandbox},
    egress::Budget,
    shown::short_id,
};

/// What is known of a setting that has one value.
pub(super) struct Setting<T> {
    /// The name that files give it.
    pub(super) field: &'static str,
    /// The rule that says what a change of it means, unless `judged` names another.
    pub(super) rule: &'static str,
    /// Where a declaration has it.
    pub(super) of: fn(&Tenant) -> &T,
    /// The same, to put another value there.
    pub(super) at: fn(&mut Tenant) -> &mut T,
    /// Its value as files have it.
    pub(super) shown: fn(&T) -> Value,
    /// What it means that a value becomes another, by the rule: the rule that says so, and the mark.
    pub(super) judged: fn(&'static str, &T, &T) -> (&'static str, Mark),
    /// The value that leaves a tenant least; `None` where none says anything of the boundary.
    pub(super) least: Option<T>,
}

/// A setting that has entries, or is compared with its absence; each is looked at in its own way.
#[derive(Clone, Copy)]
pub(super) enum Listed {
    Environment,
    Allowlist,
    Expose,
    Access,
    Routes,
    Sealed,
    Source,
    Files,
    Restore,
    Rules,
}

/// What does something with each setting.
pub(super) trait Visitor {
    fn setting<T: Clone + PartialEq>(&mut self, setting: &Setting<T>);

    fn listed(&mut self, setting: Listed);
}

/// A setting by its name, what a change of it means, and where a declaration has it.
macro_rules! setting {
    ($field:literal, $means:ident($($argument:expr),*), $($place:ident).+) => {
        &$means($field, |tenant| &tenant.$($place).+, |tenant| &mut tenant.$($place).+ $(, $argument)*)
    };
}

/// Goes through all settings, in the order of a tenant's file and then of `fleet.yaml`.
pub(super) fn visit(to: &mut impl Visitor) {
    let none = Bytes::new(0);
    to.setting(setting!("tier", neutral("tier"), tier));
    to.setting(setting!("runtime", less("runtime", RuntimeClass::Microvm), class));
    to.setting(setting!("image", image(), image));
    to.setting(setting!("command", neutral("content"), command));
    to.listed(Listed::Environment);
    to.setting(setting!("limits.cpus", more("limit", Cpus::from_nanos(0)), limits.cpus));
    to.setting(setting!("limits.memory", more("limit", none), limits.memory));
    to.setting(setting!("limits.pids", more("limit", Pids::new(0)), limits.pids));
    to.setting(setting!("limits.disk", more("limit", none), limits.disk));
    to.setting(setting!("sessions", more("limit", 0), sessions));
    to.listed(Listed::Allowlist);
    to.listed(Listed::Expose);
    to.listed(Listed::Access);
    to.listed(Listed::Routes);
    to.listed(Listed::Sealed);
    to.setting(setting!("budget.day", credits(), budget.day));
    to.setting(setting!("budget.month", credits(), budget.month));
    to.listed(Listed::Source);
    to.listed(Listed::Files);
    to.listed(Listed::Restore);
    to.setting(setting!("hardening.tmpSize", more("limit", none), sandbox.tmp_size));
    to.setting(setting!("hardening.shmSize", more("limit", none), sandbox.shm_size));
    to.setting(setting!("hardening.openFiles", more("limit", 0), sandbox.open_files));
    to.setting(setting!("hardening.init", less("hardening", true), sandbox.init));
    to.setting(setting!("hardening.workspaceNoexec", less("hardening", true), sandbox.workspace_noexec));
    to.setting(setting!("logs.maxSize", more("limit", none), sandbox.log_size));
    to.setting(setting!("logs.maxFiles", more("limit", 0), sandbox.log_files));
    to.setting(setting!("logs.compress", neutral("upkeep"), sandbox.log_compress));
    to.setting(setting!("driftDetection.mode", less("detection", DriftMode::Enabled), drift));
    to.listed(Listed::Rules);
}

/// A field that is added to a tenant does not compile before it is named here, and belongs into [`visit`] unless it follows
/// from others.
const _: fn(&Tenant) = |tenant| {
    let Tenant {
        name: _,
        tier: _,
        class: _,
        image: _,
        command: _,
        environment: _,
        limits: Limits { cpus: _, memory: _, pids: _, disk: _ },
        // It follows from the tier's limits.
        disk_room: _,
        source: _,
        files: _,
        restore: _,
        sessions: _,
        allowlist: _,
        expose: _,
        access: _,
        routes: _,
        sealed: _,
        budget: Budget { day: _, month: _ },
        sandbox:
            Sandbox {
                tmp_size: _,
                shm_size: _,
                open_files: _,
                init: _,
                log_size: _,
                log_files: _,
                log_compress: _,
                workspace_noexec: _,
            },
        drift: _,
        rules: _,
    } = tenant;
};

/// A setting of which a larger value loosens.
fn more<T: Ord + Display>(
    field: &'static str,
    of: fn(&Tenant) -> &T,
    at: fn(&mut Tenant) -> &mut T,
    rule: &'static str,
    least: T,
) -> Setting<T> {
    let judged = |rule, before: &T, after: &T| (rule, if after > before { Mark::Loosens } else { Mark::Tightens });
    Setting { field, rule, of, at, shown: |value| written(value), judged, least: Some(least) }
}

/// A setting of which a smaller value loosens.
fn less<T: Ord + Serialize>(
    field: &'static str,
    of: fn(&Tenant) -> &T,
    at: fn(&mut Tenant) -> &mut T,
    rule: &'static str,
    least: T,
) -> Setting<T> {
    let judged = |rule, before: &T, after: &T| (rule, if after < before { Mark::Loosens } else { Mark::Tightens });
    Setting { field, rule, of, at, shown: |value| json!(value), judged, least: Some(least) }
}

/// A setting that says nothing of the boundary.
fn neutral<T: Serialize>(
    field: &'static str,
    of: fn(&Tenant) -> &T,
    at: fn(&mut Tenant) -> &mut T,
    rule: &'static str,
) -> Setting<T> {
    Setting {
        field,
        rule,
        of,
        at,
        shown: |value| json!(value),
        judged: |rule, _, _| (rule, Mark::Neutral),
        least: None,
    }
}

/// The image, of which only matters whether a tag may move.
fn image(field: &'static str, of: fn(&Tenant) -> &ImageRef, at: fn(&mut Tenant) -> &mut ImageRef) -> Setting<ImageRef> {
    let judged = |rule, before: &ImageRef, after: &ImageRef| match (before.is_pinned(), after.is_pinned()) {
        (true, false) => (rule, Mark::Loosens),
        (false, true) => (rule, Mark::Tightens),
        (true, true) | (false, false) => ("content", Mark::Neutral),
    };
    Setting { field, rule: "image", of, at, shown: |value| json!(value), judged, least: None }
}

/// A number of credits, of which none is no bound.
fn credits(
    field: &'static str,
    of: fn(&Tenant) -> &Option<u64>,
    at: fn(&mut Tenant) -> &mut Option<u64>,
) -> Setting<Option<u64>> {
    let judged = |rule, before: &Option<u64>, after: &Option<u64>| {
        let is_more = after.unwrap_or(u64::MAX) > before.unwrap_or(u64::MAX);
        (rule, if is_more { Mark::Loosens } else { Mark::Tightens })
    };
    Setting { field, rule: "budget", of, at, shown: |value| json!(value), judged, least: Some(Some(0)) }
}

/// A value as files have it: a number, or a number with its unit.
pub(super) fn written(value: &impl Display) -> Value {
    let text = value.to_string();
    text.parse::<u64>().map_or_else(|_| json!(text), |number| json!(number))
}

/// The settings of a tenant by the names that files give them, in the order of a tenant's file; a list entry by entry.
/// What is not set at all is null.
pub fn settings(tenant: &Tenant) -> Vec<(String, Value)> {
    let mut all = All { tenant, settings: Vec::new() };
    visit(&mut all);
    all.settings
}

/// Every setting with its value.
struct All<'a> {
    tenant: &'a Tenant,
    settings: Vec<(String, Value)>,
}

impl All<'_> {
    fn add(&mut self, field: &str, value: Value) {
        self.settings.push((field.to_owned(), value));
    }
}

impl Visitor for All<'_> {
    fn setting<T: Clone + PartialEq>(&mut self, setting: &Setting<T>) {
        self.add(setting.field, (setting.shown)((setting.of)(self.tenant)));
    }

    fn listed(&mut self, setting: Listed) {
        let Tenant { environment, allowlist, expose, access, routes, sealed, source, files, restore, rules, .. } =
            self.tenant;
        match setting {
            Listed::Environment => {
                environment.iter().for_each(|(name, value)| self.add(&format!("environment.{name}"), json!(value)));
            }
            Listed::Allowlist if allowlist.is_empty() => self.add("allowlist", Value::Null),
            Listed::Allowlist => allowlist.iter().for_each(|one| self.add("allowlist", json!(one))),
            Listed::Expose if expose.is_empty() => self.add("expose", Value::Null),
            Listed::Expose => expose.iter().for_each(|(port, Expose { path })| {
                self.add("expose", json!(port));
                path.iter().for_each(|path| self.add(&format!("expose.{port}.path"), json!(path)));
            }),
            Listed::Access => self.add("access", json!(access)),
            Listed::Routes => routes.iter().for_each(|route| {
                self.add(&format!("credentials./{}/", route.name.as_str()), json!(route.upstream));
            }),
            Listed::Sealed => {
                sealed.keys().for_each(|name| self.add(&format!("sealed.{}", name.as_str()), json!("(sealed)")));
            }
            Listed::Source => self.add("source", json!(source)),
            Listed::Files => files.iter().for_each(|file| {
                self.add(&format!("files.{}", file.path), json!(short_id(&file.content.digest)));
            }),
            Listed::Restore => self.add("workspace.restore", json!(restore)),
            Listed::Rules => rules.iter().for_each(|rule| {
                self.add(&format!("rules.{}", rule.name()), json!(rule.digest.get(..12)));
            }),
        }
    }
}
