//! Schemas of the repo, with what they refer to. They stay in the repo: nothing is asked of a network or of a host.

use std::{collections::BTreeMap, sync::Arc};

use jsonschema::{Draft, Retrieve, Uri};
use serde_json::{Map, Value};

use super::{
    json,
    place::{START, node_at},
};
use crate::{
    model::{
        files::digest,
        finding::{Finding, Span},
        tree::Carried,
    },
    spec::{
        carried,
        paths::{RULES, SCHEMAS},
        secrets,
        yaml::Node,
    },
};

/// The most files that one schema consists of, and bytes of them together.
const MAX_FILES: usize = 32;
const MAX_SIZE: usize = 1 << 20;

/// What each path in the repo is to the validator.
const BASE: &str = "repo:///";

/// Keywords that give a part of a schema another address than its place in its file.
const ADDRESSES: [&str; 6] = ["$id", "$anchor", "$dynamicAnchor", "$dynamicRef", "$recursiveAnchor", "$recursiveRef"];

/// A schema with all that it refers to.
#[derive(Clone, Debug)]
pub(super) struct Loaded {
    root: String,
    /// Without the `$id` at the top of each: what they refer to is found by path.
    files: Arc<BTreeMap<String, Value>>,
    /// The bytes that they were read from.
    bytes: BTreeMap<String, Arc<[u8]>>,
}

impl Loaded {
    /// Reads the schema at a path, and all that it refers to.
    ///
    /// # Errors
    /// One of them is not there, is no JSON, or cannot be used here.
    pub(super) fn read(root: &str, repo: &BTreeMap<String, Carried>) -> Result<Self, Vec<Finding>> {
        let mut reading =
            Reading { repo, files: BTreeMap::new(), bytes: BTreeMap::new(), waiting: vec![(root.to_owned(), None)] };
        while let Some((path, from)) = reading.waiting.pop() {
            if !reading.files.contains_key(&path) {
                reading.read(&path, from)?;
            }
        }
        let Reading { files, bytes, .. } = reading;
        let loaded = Self { root: root.to_owned(), files: files.into(), bytes };
        loaded.check_references()?;
        Ok(loaded)
    }

    /// The schema itself, and its path.
    pub(super) fn root(&self) -> (&str, &Value) {
        (&self.root, self.files.get(&self.root).unwrap_or(&Value::Null))
    }

    /// Where everything in one of the files stands.
    pub(super) fn node(&self, path: &str) -> Option<Node> {
        json::parse(path, self.bytes.get(path)?).ok().map(|(_, node)| node)
    }

    /// How many bytes it consists of.
    pub(super) fn bytes(&self) -> usize {
        self.bytes.values().map(|bytes| bytes.len()).sum()
    }

    /// What the validator calls the schema.
    pub(super) fn address(&self) -> String {
        format!("{BASE}{}", self.root)
    }

    /// What the validator reads the rest of the schema with.
    pub(super) fn retriever(&self) -> impl Retrieve + 'static {
        Files(Arc::clone(&self.files))
    }

    /// Whether a repo still has the very files.
    pub(super) fn is_of(&self, repo: &BTreeMap<String, Carried>) -> bool {
        self.bytes.iter().all(|(path, bytes)| matches!(repo.get(path), Some(Carried::File(other)) if other == bytes))
    }

    /// A hash of what the schema says, whatever its spaces and the order of its keys.
    pub(super) fn digest(&self) -> String {
        let said: Vec<String> = self.files.iter().map(|(path, value)| format!("{path}\n{value}\n")).collect();
        digest(said.concat().as_bytes())
    }

    /// What a schema in a file refers to, with the path of the file that it is in.
    pub(super) fn target(&self, file: &str, keywords: &Map<String, Value>) -> Option<(&str, &Value)> {
        let (path, pointer) = resolve(file, keywords.get("$ref")?.as_str()?).ok()?;
        let (path, value) = self.files.get_key_value(&path)?;
        Some((path, value.pointer(pointer)?))
    }

    fn check_references(&self) -> Result<(), Vec<Finding>> {
        let mut findings = Vec::new();
        for (path, value) in self.files.iter() {
            each(value, "", &mut |keywords, at| {
                if keywords.get("$ref").is_some_and(Value::is_string) && self.target(path, keywords).is_none() {
                    let what = "it refers to a place that is not there";
                    findings.push((path, format!("{at}/$ref"), what));
                }
            });
        }
        let findings: Vec<Finding> = findings
            .into_iter()
            .map(|(path, at, what)| {
                let span = self.node(path).map_or_else(Span::default, |node| node_at(&node, &at).span);
                refused(path, span, what, "correct it; what follows the # is a JSON pointer, such as #/$defs/name")
            })
            .collect();
        if findings.is_empty() { Ok(()) } else { Err(findings) }
    }
}

/// An error about a schema.
pub(super) fn refused(path: &str, span: Span, message: &str, help: &str) -> Finding {
    Finding::error(path, span, "bad-schema", message, Some(help))
}

/// Gives the validator files that were read already, and nothing else.
struct Files(Arc<BTreeMap<String, Value>>);

impl Retrieve for Files {
    fn retrieve(&self, uri: &Uri<String>) -> Result<Value, Box<dyn std::error::Error + Send + Sync>> {
        let path = uri.as_str().strip_prefix(BASE).unwrap_or_default();
        self.0.get(path).cloned().ok_or_else(|| format!("{uri} is no schema of the repo").into())
    }
}

struct Reading<'r> {
    repo: &'r BTreeMap<String, Carried>,
    files: BTreeMap<String, Value>,
    bytes: BTreeMap<String, Arc<[u8]>>,
    /// What is referred to and not read yet, and where it is.
    waiting: Vec<(String, Option<(String, Span)>)>,
}

impl Reading<'_> {
    fn read(&mut self, path: &str, from: Option<(String, Span)>) -> Result<(), Vec<Finding>> {
        let bytes = match self.repo.get(path) {
            Some(Carried::File(bytes)) => bytes,
            other => {
                let (code, message, help) = carried::problem(path, other);
                let (file, span) = from.unwrap_or_else(|| (path.to_owned(), START));
                return Err(vec![Finding::error(&file, span, code, &message, Some(help))]);
            }
        };
        if let Some((line, kind)) = secrets::within(bytes) {
            let span = Span { line: u32::try_from(line).unwrap_or(u32::MAX), column: 1, length: 0 };
            let message = format!("the line holds what looks like {kind}");
            return Err(vec![Finding::error(path, span, "secret", &message, Some("secrets stay out of the repo"))]);
        }
        let size = self.bytes.values().map(|bytes| bytes.len()).sum::<usize>() + bytes.len();
        if self.files.len() == MAX_FILES || size > MAX_SIZE {
            let message =
                format!("with what refers to it, it is more than {MAX_FILES} files or {} MiB", MAX_SIZE >> 20);
            return Err(vec![refused(path, START, &message, "refer to less")]);
        }
        let (mut value, node) = json::parse(path, bytes)?;
        if let Value::Object(keywords) = &mut value {
            keywords.remove("$id");
        }
        let mut wrong: Vec<(String, String, &str)> = Vec::new();
        if let Some(draft) = value.get("$schema")
            && !draft.as_str().is_some_and(is_known)
        {
            let what = format!("{draft} is no draft that is known here");
            wrong.push((
                "/$schema".to_owned(),
                what,
                "write https://json-schema.org/draft/2020-12/schema or http://json-schema.org/draft-07/schema#",
            ));
        }
        each(&value, "", &mut |keywords, at| {
            for key in ADDRESSES.iter().filter(|key| keywords.get(**key).is_some_and(|value| !value.is_object())) {
                let what = format!("{key} is not used here");
                wrong.push((format!("{at}/{key}"), what, "refer to a part by its place: $ref: \"#/$defs/name\""));
            }
            if let Some(Value::String(reference)) = keywords.get("$ref") {
                match resolve(path, reference) {
                    Ok((file, _)) => {
                        let span = node_at(&node, &format!("{at}/$ref")).span;
                        self.waiting.push((file, Some((path.to_owned(), span))));
                    }
                    Err(what) => {
                        let help = "name a file by its path: schemas/common.json is common.json from its own folder, or \
                                    /schemas/common.json from anywhere";
                        wrong.push((format!("{at}/$ref"), format!("{reference:?} {what}"), help));
                    }
                }
            }
        });
        if !wrong.is_empty() {
            let of = |(at, what, help): (String, String, &str)| refused(path, node_at(&node, &at).span, &what, help);
            return Err(wrong.into_iter().map(of).collect());
        }
        self.bytes.insert(path.to_owned(), Arc::clone(bytes));
        self.files.insert(path.to_owned(), value);
        Ok(())
    }
}

fn is_known(draft: &str) -> bool {
    let known = [Draft::Draft6, Draft::Draft7, Draft::Draft201909, Draft::Draft202012];
    known.contains(&Draft::Draft202012.detect(&serde_json::json!({"$schema": draft})))
}

/// Calls `visit` with each object of a value and its JSON pointer.
fn each(value: &Value, at: &str, visit: &mut impl FnMut(&Map<String, Value>, &str)) {
    match value {
        Value::Object(map) => {
            visit(map, at);
            for (key, value) in map {
                each(value, &format!("{at}/{}", key.replace('~', "~0").replace('/', "~1")), visit);
            }
        }
        Value::Array(items) => {
            items.iter().enumerate().for_each(|(index, value)| each(value, &format!("{at}/{index}"), visit));
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// The file that a reference in a file names, and the place in it as a JSON pointer.
///
/// # Errors
/// It leads out of the repo's schemas, or cannot be followed, in words.
fn resolve<'r>(file: &str, reference: &'r str) -> Result<(String, &'r str), &'static str> {
    let (path, pointer) = reference.split_once('#').unwrap_or((reference, ""));
    if !(pointer.is_empty() || pointer.starts_with('/')) || reference.contains('%') {
        return Err("names no place by a JSON pointer");
    }
    let path = match (path, path.strip_prefix('/')) {
        ("", _) => file.to_owned(),
        (_, Some(path)) => path.to_owned(),
        (_, None) => file.rsplit_once('/').map_or_else(|| path.to_owned(), |(folder, _)| format!("{folder}/{path}")),
    };
    let is_plain = |part: &str| !matches!(part, "" | "." | "..");
    let is_fine = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-' | '/');
    if path.contains("..") || !path.chars().all(is_fine) || !path.split('/').all(is_plain) {
        return Err("is not the path of a file in the repo");
    }
    if !(path.starts_with(SCHEMAS) || path.starts_with(RULES)) {
        return Err("leads to a file that is neither below schemas/ nor below rules/");
    }
    Ok((path, pointer))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_stay_among_the_schemas() {
        for (reference, expected) in [
            ("#", Ok(("schemas/a/b.json", ""))),
            ("#/$defs/x", Ok(("schemas/a/b.json", "/$defs/x"))),
            ("c.json", Ok(("schemas/a/c.json", ""))),
            ("c/d.json#/x", Ok(("schemas/a/c/d.json", "/x"))),
            ("/rules/c.json", Ok(("rules/c.json", ""))),
            ("../c.json", Err(())),
            ("/schemas/../../etc/passwd", Err(())),
            ("./c.json", Err(())),
            ("//host/c.json", Err(())),
            ("/files/a.json", Err(())),
            ("/etc/passwd", Err(())),
            ("file:///schemas/c.json", Err(())),
            ("https://example.com/schemas/c.json", Err(())),
            ("repo:///schemas/c.json", Err(())),
            ("c%2ejson", Err(())),
            ("#anchor", Err(())),
            ("c.json?x", Err(())),
        ] {
            let found = resolve("schemas/a/b.json", reference);
            let found = found.as_ref().map(|(path, pointer)| (path.as_str(), *pointer)).map_err(|_| ());
            assert_eq!(found, expected, "{reference}");
        }
    }
}
