//! Where a setting of a tenant stands: in its own file, in its tier, in the fleet's policy, or nowhere.

use std::{cell::RefCell, collections::BTreeMap};

use serde_json::Value;

use super::{
    paths::{FLEET, RULES, TENANTS, TIERS},
    yaml::{Node, NodeKind, parse},
};
use crate::model::{
    Desired, TierName,
    finding::{Location, Span},
    tree::Tree,
};

/// Finds settings in the files of a repo.
pub struct Origins<'a> {
    lines: Lines<'a>,
    desired: &'a Desired,
}

impl<'a> Origins<'a> {
    /// Those of a tree and of what it declares.
    pub fn new(tree: &'a Tree, desired: &'a Desired) -> Self {
        Self { lines: Lines::new(tree), desired }
    }

    /// Where a setting of a tenant, or of the fleet without one, stands: `limits.memory`, `allowlist`. Of a list's entry
    /// its value says which. What stands nowhere is at the beginning of the file that it would stand in.
    pub fn locate(&self, tenant: Option<&str>, field: &str, value: &Value) -> Location {
        let of = tenant.filter(|_| !field.starts_with("rules."));
        let beginning = || Location {
            file: of.map_or(FLEET.to_owned(), |tenant| format!("{TENANTS}{tenant}.yaml")),
            span: Span { line: 1, column: 1, length: 0 },
        };
        self.written(tenant, field, value).unwrap_or_else(beginning)
    }

    /// The same for what is written somewhere.
    pub fn written(&self, tenant: Option<&str>, field: &str, value: &Value) -> Option<Location> {
        let Some(tenant) = tenant else { return self.lines.first(&[(FLEET.to_owned(), keys(field))], value) };
        let tier = self.desired.tenants.get(tenant).map(|tenant| &tenant.tier);
        self.lines.written(tenant, tier, field, value)
    }
}

/// Finds what is written in the files of a repo. Each file is parsed once.
pub(super) struct Lines<'a> {
    tree: &'a Tree,
    parsed: RefCell<BTreeMap<String, Option<Node>>>,
}

impl<'a> Lines<'a> {
    pub(super) fn new(tree: &'a Tree) -> Self {
        Self { tree, parsed: RefCell::default() }
    }

    /// Where a setting of a tenant of a tier is written: in its own file, in its tier, or in the fleet's policy.
    pub(super) fn written(
        &self,
        tenant: &str,
        tier: Option<&TierName>,
        field: &str,
        value: &Value,
    ) -> Option<Location> {
        let file = format!("{TENANTS}{tenant}.yaml");
        let mut places = vec![(file, keys(field))];
        let (first, rest) = field.split_once('.').unwrap_or((field, ""));
        if let Some(tier) = tier.filter(|_| matches!(first, "limits" | "runtime" | "sessions" | "access")) {
            let key = if rest.is_empty() { first } else { rest };
            places.push((TIERS.to_owned(), vec!["tiers", tier.as_str(), key]));
        }
        places.push((
            FLEET.to_owned(),
            match first {
                "tier" | "image" | "command" | "environment" => [vec!["defaults"], keys(field)].concat(),
                _ => keys(field),
            },
        ));
        self.first(&places, value)
    }

    /// The first of some places that is written.
    fn first(&self, places: &[(String, Vec<&str>)], value: &Value) -> Option<Location> {
        places.iter().find_map(|(file, keys)| {
            let span = self.with(file, |root| find(root, keys, value))?;
            Some(Location { file: file.clone(), span })
        })
    }

    fn with(&self, file: &str, look: impl FnOnce(&Node) -> Option<Span>) -> Option<Span> {
        let mut parsed = self.parsed.borrow_mut();
        let node = parsed.entry(file.to_owned()).or_insert_with(|| parse(file, &self.tree.file(file)?.bytes).0);
        node.as_ref().and_then(look)
    }
}

/// A field as keys: `credentials`, `files` and `rules` are lists whose entries are found by what they name.
fn keys(field: &str) -> Vec<&str> {
    match field.split_once('.') {
        // What these hold is named by people, with dots of its own.
        Some((first @ ("credentials" | "files" | "environment" | "sealed" | "rules"), entry)) => vec![first, entry],
        _ => field.split('.').collect(),
    }
}

fn find(node: &Node, keys: &[&str], value: &Value) -> Option<Span> {
    let Some((key, rest)) = keys.split_first() else { return Some(entry(node, value).unwrap_or(node.span)) };
    match &node.kind {
        NodeKind::Map(entries) => {
            let (name, below) = entries.iter().find(|(name, _)| name.text == *key)?;
            match find(below, rest, value) {
                // A list lacks the entry that is gone: then the list's own key is meant.
                None if matches!(below.kind, NodeKind::Seq(_)) => Some(name.span),
                found => found,
            }
        }
        NodeKind::Seq(items) => items.iter().find(|item| names(item, key)).map(|item| item.span),
        NodeKind::Scalar { .. } | NodeKind::Null { .. } => None,
    }
}

/// The entry of a list that is a value.
fn entry(node: &Node, value: &Value) -> Option<Span> {
    let NodeKind::Seq(items) = &node.kind else { return None };
    if let Some(wanted) = value.as_u64().map(|port| port.to_string()) {
        return items.iter().find(|item| port(item) == Some(wanted.as_str())).map(|item| item.span);
    }
    let wanted = value.as_str()?;
    items.iter().find(|item| text(item).is_some_and(|text| text.eq_ignore_ascii_case(wanted))).map(|item| item.span)
}

/// The port by which an entry of `expose` is known.
fn port(item: &Node) -> Option<&str> {
    let NodeKind::Map(entries) = &item.kind else { return None };
    entries.iter().find(|(key, _)| key.text == "port").and_then(|(_, value)| text(value))
}

/// Whether an entry of `credentials`, `expose`, `files` or `rules` has a name: a route, with or without its slashes, a port,
/// or a path, of a rule below `rules/`.
fn names(item: &Node, name: &str) -> bool {
    if let Some(port) = port(item) {
        return port == name;
    }
    let NodeKind::Map(entries) = &item.kind else {
        return text(item).and_then(|text| text.strip_prefix(RULES)) == Some(name);
    };
    // Paths begin with no slash, and routes hold no dot.
    let name = name.strip_prefix('/').map_or(name, |route| route.split('.').next().unwrap_or(route)).trim_matches('/');
    entries
        .iter()
        .filter(|(key, _)| matches!(key.text.as_str(), "route" | "path"))
        .any(|(_, value)| text(value).is_some_and(|text| text.trim_matches('/') == name))
}

fn text(node: &Node) -> Option<&str> {
    match &node.kind {
        NodeKind::Scalar { text, .. } => Some(text),
        _ => None,
    }
}
