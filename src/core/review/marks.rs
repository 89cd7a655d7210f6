//! What each change means for the boundary around a tenant: one rule for each setting.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Display,
};

use serde::Serialize;
use serde_json::{Value, json};

use super::{
    Effect, Mark,
    settings::{Listed, Setting, Visitor, visit, written},
    variables,
};
use crate::model::{
    Access, Destination, Expose, Policy, SecretName, Tenant,
    desired::HeldRule,
    egress::{Cost, HostPattern, Route, Sealed},
    files::{Apply, ConfigFile},
    finding::Location,
    policy::Guards,
    shown::short_id,
    workspace::Restore,
};

/// The effects of a change of one tenant; `None` where it is not declared.
pub(super) fn tenant(before: Option<&Tenant>, after: Option<&Tenant>) -> Vec<Effect> {
    let mut effects = Effects::default();
    if let (Some(before), Some(after)) = (before, after) {
        effects.settings(before, after);
    }
    let nothing = Opened::default();
    let (before, after) = (before.map_or(nothing.clone(), Opened::of), after.map_or(nothing, Opened::of));
    effects.allowlist(before.allowlist, after.allowlist);
    effects.expose(&before.expose, &after.expose);
    effects.more("access", "ingress", &before.access, &after.access);
    effects.routes(&before.routes, &after.routes);
    effects.each("source", "source", before.source, after.source);
    effects.each("workspace.restore", "workspace", before.restore, after.restore);
    effects.0
}

/// What a tenant that is new has beyond nothing at all, whatever it was called before.
pub(super) fn new(after: &Tenant) -> Vec<Effect> {
    let nothing = Tenant { environment: BTreeMap::new(), sealed: BTreeMap::new(), ..after.clone() };
    let mut least = Least(nothing);
    visit(&mut least);
    let mut effects = Effects(tenant(None, Some(after)));
    effects.settings(&least.0, after);
    if !after.image.is_pinned() {
        effects.push("image".to_owned(), "image", Value::Null, json!(after.image), Mark::Loosens);
    }
    effects.0.iter_mut().for_each(|effect| effect.before = Value::Null);
    effects.0
}

/// The effects of a change of the fleet's own policy.
pub(super) fn fleet(before: &Policy, after: &Policy) -> Vec<Effect> {
    let mut effects = Effects::default();
    let Policy { guards: Guards { percent, at_least, window }, retry, healthy_after, waiting_page } = *before;
    effects.more("guards.removals.percent", "guard", &percent, &after.guards.percent);
    effects.more("guards.removals.atLeast", "guard", &at_least, &after.guards.at_least);
    effects.less("guards.removals.window", "guard", &window, &after.guards.window);
    effects.neutral("retry", "upkeep", &retry, &after.retry);
    effects.neutral("ingress.waitingPage", "upkeep", &waiting_page, &after.waiting_page);
    effects.more("health.trialPeriod", "guard", &healthy_after, &after.healthy_after);
    effects.0
}

/// What a tenant's file opens: of a tenant that is new or gone these are the effects.
#[derive(Clone, Default)]
struct Opened<'a> {
    allowlist: BTreeSet<&'a Destination>,
    expose: BTreeMap<u16, &'a Expose>,
    access: Access,
    routes: BTreeMap<&'a str, &'a Route>,
    source: BTreeSet<&'a str>,
    restore: BTreeSet<&'a str>,
}

impl<'a> Opened<'a> {
    fn of(tenant: &'a Tenant) -> Self {
        Self {
            allowlist: tenant.allowlist.iter().collect(),
            expose: tenant.expose.iter().map(|(port, expose)| (*port, expose)).collect(),
            access: tenant.access,
            routes: tenant.routes.iter().map(|route| (route.name.as_str(), route)).collect(),
            source: tenant.source.as_deref().into_iter().collect(),
            restore: match &tenant.restore {
                Some(Restore::Entry(name)) => BTreeSet::from([name.as_str()]),
                Some(Restore::Nothing) | None => BTreeSet::new(),
            },
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

    /// Entries by name of which some loosen where they are another thing: the old one is gone, and a new one is there.
    /// The others say nothing of the boundary.
    fn entries<T: PartialEq>(
        &mut self,
        before: &BTreeMap<&str, T>,
        after: &BTreeMap<&str, T>,
        show: impl Fn(&T) -> Value,
        field: &str,
        loosens: impl Fn(&str) -> Option<&'static str>,
    ) {
        let names: BTreeSet<&&str> = before.keys().chain(after.keys()).collect();
        for name in names {
            let (old, new) = (before.get(*name), after.get(*name));
            if old == new {
                continue;
            }
            let shown = |value: Option<&T>| value.map_or(Value::Null, &show);
            let field = format!("{field}.{name}");
            match loosens(name) {
                None => self.push(field, "content", shown(old), shown(new), Mark::Neutral),
                Some(rule) => self.replaced(&field, rule, shown(old), shown(new)),
            }
        }
    }

    /// A setting of which any other value may loosen.
    fn replaced(&mut self, field: &str, rule: &'static str, before: Value, after: Value) {
        if !before.is_null() {
            self.push(field.to_owned(), rule, before, Value::Null, Mark::Tightens);
        }
        if !after.is_null() {
            self.push(field.to_owned(), rule, Value::Null, after, Mark::Loosens);
        }
    }

    fn variables(&mut self, before: &BTreeMap<String, String>, after: &BTreeMap<String, String>) {
        fn by_name(all: &BTreeMap<String, String>) -> BTreeMap<&str, &String> {
            all.iter().map(|(name, value)| (name.as_str(), value)).collect()
        }
        let loosens = |name: &str| variables::steers(name).then_some("variable");
        self.entries(&by_name(before), &by_name(after), |value| json!(value), "environment", loosens);
    }

    /// What a rule with other words refuses cannot be known: the old one is gone, and a new one is there.
    fn rules(&mut self, before: &BTreeSet<HeldRule>, after: &BTreeSet<HeldRule>) {
        let parts = |rule: &HeldRule| (format!("rules.{}", rule.name()), json!(rule.digest.get(..12)));
        for (field, gone) in before.difference(after).map(parts) {
            self.push(field, "rule", gone, Value::Null, Mark::Loosens);
        }
        for (field, new) in after.difference(before).map(parts) {
            self.push(field, "rule", Value::Null, new, Mark::Tightens);
        }
    }

    /// Whose key another text holds cannot be read from it.
    fn sealed(&mut self, before: &BTreeMap<SecretName, Sealed>, after: &BTreeMap<SecretName, Sealed>) {
        fn by_name(all: &BTreeMap<SecretName, Sealed>) -> BTreeMap<&str, &Sealed> {
            all.iter().map(|(name, value)| (name.as_str(), value)).collect()
        }
        self.entries(&by_name(before), &by_name(after), |_| json!("(sealed)"), "sealed", |_| Some("credential"));
    }

    fn files(&mut self, before: &[ConfigFile], after: &[ConfigFile]) {
        fn by_path(files: &[ConfigFile]) -> BTreeMap<&str, (&str, Apply)> {
            files.iter().map(|file| (file.path.as_str(), (file.content.digest.as_str(), file.apply))).collect()
        }
        self.entries(&by_path(before), &by_path(after), |(digest, _)| json!(short_id(digest)), "files", |_| None);
    }

    /// Every setting that both sides have.
    fn settings(&mut self, before: &Tenant, after: &Tenant) {
        visit(&mut Compared { effects: self, before, after });
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

    /// A port more lets more in; which path says that the tenant is ready lets nobody in.
    fn expose(&mut self, before: &BTreeMap<u16, &Expose>, after: &BTreeMap<u16, &Expose>) {
        for (port, gone) in before {
            match after.get(port) {
                None => self.push("expose".to_owned(), "ingress", json!(port), Value::Null, Mark::Tightens),
                Some(stays) => self.neutral(&format!("expose.{port}.path"), "content", &gone.path, &stays.path),
            }
        }
        for port in after.keys().filter(|port| !before.contains_key(port)) {
            self.push("expose".to_owned(), "ingress", Value::Null, json!(port), Mark::Loosens);
        }
    }

    fn routes(&mut self, before: &BTreeMap<&str, &Route>, after: &BTreeMap<&str, &Route>) {
        let names: BTreeSet<&&str> = before.keys().chain(after.keys()).collect();
        let shown = |route: &&Route| json!({"upstream": route.upstream, "inject": route.inject});
        for name in names {
            let (old, new) = (before.get(*name), after.get(*name));
            let field = format!("credentials./{name}/");
            let (was, is) = (old.map_or(Value::Null, shown), new.map_or(Value::Null, shown));
            if was != is {
                self.replaced(&field, "credential", was, is);
            }
            match (old, new) {
                (Some(old), Some(new)) => self.cost(&field, old.cost.as_ref(), new.cost.as_ref()),
                // A second way to the same service may not be cheaper than the ways that there were.
                (None, Some(new)) => {
                    if let Some(other) = cheaper(new, before.values()) {
                        self.push(field + ".cost", "budget", json!(other.cost), json!(new.cost), Mark::Loosens);
                    }
                }
                (Some(old), None) => {
                    if let Some(other) = cheaper(old, after.values()) {
                        self.push(field + ".cost", "budget", json!(old.cost), json!(other.cost), Mark::Tightens);
                    }
                }
                (None, None) => {}
            }
        }
    }

    /// What requests of a route cost on both sides.
    fn cost(&mut self, route: &str, before: Option<&Cost>, after: Option<&Cost>) {
        match (before, after) {
            (None, None) => {}
            (Some(gone), None) => self.push(format!("{route}.cost"), "budget", json!(gone), Value::Null, Mark::Loosens),
            (None, Some(new)) => self.push(format!("{route}.cost"), "budget", Value::Null, json!(new), Mark::Tightens),
            (Some(Cost { reserve, settle, stream }), Some(after)) => {
                self.less(&format!("{route}.cost.reserve"), "budget", reserve, &after.reserve);
                if *settle != after.settle {
                    // Which part of an answer holds the larger number, or whether it is larger than what is reserved,
                    // cannot be known.
                    let by = |settle: &Option<String>| settle.as_ref().map_or(json!("reserve"), |part| json!(part));
                    self.replaced(&format!("{route}.cost.settle"), "budget", by(settle), by(&after.settle));
                }
                self.less(&format!("{route}.cost.stream"), "budget", stream, &after.stream);
            }
        }
    }
}

/// Two declarations, setting by setting.
struct Compared<'a> {
    effects: &'a mut Effects,
    before: &'a Tenant,
    after: &'a Tenant,
}

impl Visitor for Compared<'_> {
    fn setting<T: Clone + PartialEq>(&mut self, setting: &Setting<T>) {
        let (before, after) = ((setting.of)(self.before), (setting.of)(self.after));
        if before != after {
            let (rule, mark) = (setting.judged)(setting.rule, before, after);
            let (before, after) = ((setting.shown)(before), (setting.shown)(after));
            self.effects.push(setting.field.to_owned(), rule, before, after, mark);
        }
    }

    fn listed(&mut self, setting: Listed) {
        match setting {
            Listed::Environment => self.effects.variables(&self.before.environment, &self.after.environment),
            Listed::Files => self.effects.files(&self.before.files, &self.after.files),
            Listed::Sealed => self.effects.sealed(&self.before.sealed, &self.after.sealed),
            Listed::Rules => self.effects.rules(&self.before.rules, &self.after.rules),
            // These are compared of a tenant that is new or gone as well.
            Listed::Allowlist | Listed::Expose | Listed::Access | Listed::Routes | Listed::Source | Listed::Restore => {
            }
        }
    }
}

/// A declaration that becomes the one that leaves a tenant least.
struct Least(Tenant);

impl Visitor for Least {
    fn setting<T: Clone + PartialEq>(&mut self, setting: &Setting<T>) {
        if let Some(least) = &setting.least {
            (setting.at)(&mut self.0).clone_from(least);
        }
    }

    fn listed(&mut self, _: Listed) {}
}

/// One of the routes to the same service, where all of them cost more than this one or are settled otherwise.
fn cheaper<'a>(one: &Route, others: impl Iterator<Item = &'a &'a Route>) -> Option<&'a Route> {
    let is_cheaper = |other: &Route| match (&one.cost, &other.cost) {
        (_, None) => false,
        (None, Some(_)) => true,
        (Some(one), Some(other)) => {
            one.reserve < other.reserve || one.settle != other.settle || one.stream < other.stream
        }
    };
    let service = |route: &Route| (route.upstream.host().to_owned(), route.upstream.port());
    let same: Vec<&Route> = others.copied().filter(|other| service(other) == service(one)).collect();
    same.iter().all(|other| is_cheaper(other)).then(|| same.first().copied()).flatten()
}

/// Whether all that one entry lets a tenant reach is let by another.
pub(super) fn covers(wide: &Destination, narrow: &Destination) -> bool {
    let is_below = |name: &str, domain: &str| name.strip_suffix(domain).is_some_and(|rest| rest.ends_with('.'));
    wide.port() == narrow.port()
        && match (wide.place(), narrow.place()) {
            (HostPattern::Below(domain), HostPattern::Name(name)) => is_below(name, domain),
            (HostPattern::Below(domain), HostPattern::Below(name)) => name == domain || is_below(name, domain),
            (HostPattern::Range(wide), HostPattern::Range(narrow)) => wide.contains(narrow),
            (wide, narrow) => wide == narrow,
        }
}
