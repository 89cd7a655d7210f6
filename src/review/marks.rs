//! What each change means for the boundary around a tenant: one rule for each setting.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Display,
};

use serde::Serialize;
use serde_json::{Value, json};

use super::{Effect, Mark};
use crate::model::{
    Destination, Policy, Tenant,
    desired::{Limits, Sandbox},
    egress::{Budget, Place, Route},
    finding::Location,
    policy::Guards,
};

/// The rules by name, and what each says.
pub const RULES: [(&str, &str); 11] = [
    ("runtime", "a weaker class of runtime loosens; the order is container, gvisor, microvm"),
    ("limit", "a higher limit loosens"),
    ("allowlist", "a destination more loosens, unless an entry that stays covers it: a wildcard, a range"),
    ("credential", "a service more, or the same with another upstream or another key, loosens; one less tightens"),
    ("budget", "more credits, or no bound, loosen"),
    ("source", "a shared folder more loosens"),
    ("hardening", "programs in /workspace that may be run loosen"),
    ("detection", "drift that is only told, or not looked for, loosens"),
    ("guard", "a guard that lets more removals pass loosens"),
    (
        "content",
        "what runs, and with what settings of its own, is neutral: image, command, variables, files, sealed values",
    ),
    (
        "upkeep",
        "how the daemon tries again and when a commit counts as good is neutral, and so is the name of the tier",
    ),
];

/// The effects of a change of one tenant; `None` where it is not declared.
pub(super) fn tenant(before: Option<&Tenant>, after: Option<&Tenant>) -> Vec<Effect> {
    let mut effects = Effects::default();
    if let (Some(before), Some(after)) = (before, after) {
        effects.settings(before, after);
    }
    let nothing = Opened::default();
    let (before, after) = (before.map_or(nothing.clone(), Opened::of), after.map_or(nothing, Opened::of));
    effects.allowlist(before.allowlist, after.allowlist);
    effects.routes(&before.routes, &after.routes);
    effects.each("source", "source", before.source, after.source);
    effects.0
}

/// The effects of a change of the fleet's own policy.
pub(super) fn fleet(before: &Policy, after: &Policy) -> Vec<Effect> {
    let mut effects = Effects::default();
    let Policy { guards: Guards { percent, at_least }, retry, healthy_after } = *before;
    effects.more("guards.removals.percent", "guard", &percent, &after.guards.percent);
    effects.more("guards.removals.atLeast", "guard", &at_least, &after.guards.at_least);
    effects.neutral("retry", "upkeep", &retry, &after.retry);
    effects.neutral("health.after", "upkeep", &healthy_after, &after.healthy_after);
    effects.0
}

/// What a tenant's file opens: of a tenant that is new or gone these are the effects.
#[derive(Clone, Default)]
struct Opened<'a> {
    allowlist: BTreeSet<&'a Destination>,
    routes: BTreeMap<&'a str, &'a Route>,
    source: BTreeSet<&'a str>,
}

impl<'a> Opened<'a> {
    fn of(tenant: &'a Tenant) -> Self {
        Self {
            allowlist: tenant.allowlist.iter().collect(),
            routes: tenant.routes.iter().map(|route| (route.name.as_str(), route)).collect(),
            source: tenant.source.as_deref().into_iter().collect(),
        }
    }
}

#[derive(Default)]
struct Effects(Vec<Effect>);

impl Effects {
    fn push(&mut self, field: String, rule: &'static str, before: Value, after: Value, mark: Mark) {
        self.0.push(Effect { field, before, after, mark, rule, at: Location::default() });
    }

    /// A setting of which a larger value loosens.
    fn more<T: Ord + Display>(&mut self, field: &str, rule: &'static str, before: &T, after: &T) {
        let mark = if after > before { Mark::Loosens } else { Mark::Tightens };
        if before != after {
            self.push(field.to_owned(), rule, written(before), written(after), mark);
        }
    }

    /// A setting of which a smaller value loosens.
    fn less<T: Ord + Serialize>(&mut self, field: &str, rule: &'static str, before: &T, after: &T) {
        let mark = if after < before { Mark::Loosens } else { Mark::Tightens };
        if before != after {
            self.push(field.to_owned(), rule, json!(before), json!(after), mark);
        }
    }

    /// A setting that says nothing of the boundary.
    fn neutral<T: PartialEq + Serialize>(&mut self, field: &str, rule: &'static str, before: &T, after: &T) {
        if before != after {
            self.push(field.to_owned(), rule, json!(before), json!(after), Mark::Neutral);
        }
    }

    /// Entries of which each one more loosens.
    fn each(&mut self, field: &str, rule: &'static str, before: BTreeSet<&str>, after: BTreeSet<&str>) {
        for gone in before.difference(&after) {
            self.push(field.to_owned(), rule, json!(gone), Value::Null, Mark::Tightens);
        }
        for new in after.difference(&before) {
            self.push(field.to_owned(), rule, Value::Null, json!(new), Mark::Loosens);
        }
    }

    /// Entries by name that say nothing of the boundary.
    fn entries<T: PartialEq>(
        &mut self,
        field: &str,
        before: &BTreeMap<String, T>,
        after: &BTreeMap<String, T>,
        show: impl Fn(&T) -> Value,
    ) {
        let names: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
        for name in names {
            let (old, new) = (before.get(name), after.get(name));
            if old != new {
                let shown = |value: Option<&T>| value.map_or(Value::Null, &show);
                self.push(format!("{field}.{name}"), "content", shown(old), shown(new), Mark::Neutral);
            }
        }
    }

    /// Every setting that both sides have. A field that is added to a tenant does not compile without a rule here.
    fn settings(&mut self, before: &Tenant, after: &Tenant) {
        let Tenant {
            name: _,
            tier,
            class,
            image,
            command,
            environment,
            limits: Limits { cpus, memory, pids, disk },
            // What the tier would allow is told by the tier's own limits.
            disk_room: _,
            // These three are told entry by entry.
            source: _,
            allowlist: _,
            routes: _,
            files,
            restore,
            sessions,
            sealed,
            budget: Budget { day, month },
            sandbox,
            drift,
        } = before;
        self.neutral("tier", "upkeep", tier, &after.tier);
        self.less("runtime", "runtime", class, &after.class);
        self.neutral("image", "content", image, &after.image);
        self.neutral("command", "content", command, &after.command);
        self.entries("environment", environment, &after.environment, |value| json!(value));
        self.more("limits.cpus", "limit", cpus, &after.limits.cpus);
        self.more("limits.memory", "limit", memory, &after.limits.memory);
        self.more("limits.pids", "limit", pids, &after.limits.pids);
        self.more("limits.disk", "limit", disk, &after.limits.disk);
        let by_path = |tenant: &Tenant| {
            let files = tenant.files.iter().map(|file| (file.path.clone(), (file.content.digest.clone(), file.apply)));
            files.collect::<BTreeMap<_, _>>()
        };
        if *files != after.files {
            self.entries("files", &by_path(before), &by_path(after), |(digest, _)| json!(digest.get(..12)));
        }
        self.neutral("workspace.restore", "content", restore, &after.restore);
        self.more("sessions", "limit", sessions, &after.sessions);
        let by_name = |tenant: &Tenant| {
            let sealed = tenant.sealed.iter().map(|(name, value)| (name.as_str().to_owned(), value.clone()));
            sealed.collect::<BTreeMap<_, _>>()
        };
        if *sealed != after.sealed {
            self.entries("sealed", &by_name(before), &by_name(after), |_| json!("(sealed)"));
        }
        let bound = |credits: Option<u64>| credits.unwrap_or(u64::MAX);
        for (field, before, after) in
            [("budget.day", *day, after.budget.day), ("budget.month", *month, after.budget.month)]
        {
            let mark = if bound(after) > bound(before) { Mark::Loosens } else { Mark::Tightens };
            if before != after {
                self.push(field.to_owned(), "budget", json!(before), json!(after), mark);
            }
        }
        self.sandbox(sandbox, &after.sandbox);
        self.less("driftDetection.mode", "detection", drift, &after.drift);
    }

    fn sandbox(&mut self, before: &Sandbox, after: &Sandbox) {
        let Sandbox { tmp_size, shm_size, open_files, init, log_size, log_files, workspace_noexec } = before;
        self.more("hardening.tmpSize", "limit", tmp_size, &after.tmp_size);
        self.more("hardening.shmSize", "limit", shm_size, &after.shm_size);
        self.more("hardening.openFiles", "limit", open_files, &after.open_files);
        self.neutral("hardening.init", "content", init, &after.init);
        self.more("logs.maxSize", "limit", log_size, &after.log_size);
        self.more("logs.maxFiles", "limit", log_files, &after.log_files);
        self.less("hardening.workspaceNoexec", "hardening", workspace_noexec, &after.workspace_noexec);
    }

    fn allowlist(&mut self, before: BTreeSet<&Destination>, after: BTreeSet<&Destination>) {
        let covered = |one: &Destination, by: &BTreeSet<&Destination>| by.iter().any(|other| covers(other, one));
        for gone in before.difference(&after) {
            let mark = if covered(gone, &after) { Mark::Neutral } else { Mark::Tightens };
            self.push("allowlist".to_owned(), "allowlist", json!(gone), Value::Null, mark);
        }
        for new in after.difference(&before) {
            let mark = if covered(new, &before) { Mark::Neutral } else { Mark::Loosens };
            self.push("allowlist".to_owned(), "allowlist", Value::Null, json!(new), mark);
        }
    }

    fn routes(&mut self, before: &BTreeMap<&str, &Route>, after: &BTreeMap<&str, &Route>) {
        let names: BTreeSet<&&str> = before.keys().chain(after.keys()).collect();
        let shown = |route: &Route| json!({"upstream": route.upstream, "inject": route.inject});
        for name in names {
            let (old, new) = (before.get(*name), after.get(*name));
            let field = format!("credentials./{name}/");
            let is_same = old.map(|route| shown(route)) == new.map(|route| shown(route));
            if is_same {
                let cost = |route: Option<&&Route>| json!(route.and_then(|route| route.cost.as_ref()));
                self.neutral(&format!("{field}.cost"), "content", &cost(old), &cost(new));
                continue;
            }
            if let Some(old) = old {
                self.push(field.clone(), "credential", shown(old), Value::Null, Mark::Tightens);
            }
            if let Some(new) = new {
                self.push(field, "credential", Value::Null, shown(new), Mark::Loosens);
            }
        }
    }
}

/// A value as files have it: a number, or a number with its unit.
pub(super) fn written(value: &impl Display) -> Value {
    let text = value.to_string();
    text.parse::<u64>().map_or_else(|_| json!(text), |number| json!(number))
}

/// Whether all that one entry lets a tenant reach is let by another.
fn covers(wide: &Destination, narrow: &Destination) -> bool {
    let is_below = |name: &str, domain: &str| name.strip_suffix(domain).is_some_and(|rest| rest.ends_with('.'));
    wide.port() == narrow.port()
        && match (wide.place(), narrow.place()) {
            (Place::Below(domain), Place::Name(name)) => is_below(name, domain),
            (Place::Below(domain), Place::Below(name)) => name == domain || is_below(name, domain),
            (Place::Range(wide), Place::Range(narrow)) => wide.contains(narrow),
            (wide, narrow) => wide == narrow,
        }
}
