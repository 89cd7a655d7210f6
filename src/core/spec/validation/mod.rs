//! Config files of tenants held against JSON Schemas of the repo.
//!
//! Whoever may push writes both sides, so all of it is bounded before it is done: the size of a schema with what it refers
//! to, and the work of holding a file against it. Patterns are matched by an engine without backtracking.

mod cost;
mod documents;
mod json;
mod place;

use std::{collections::BTreeMap, sync::Arc};

use jsonschema::{PatternOptions, ValidationError, Validator, error::ValidationErrorKind};
use serde_json::Value;

use super::{
    decode::decode_value,
    yaml::{self, Node},
};
use crate::model::{Finding, tree::Carried};
use cost::Beyond;
use documents::{Loaded, refused};
pub(super) use place::{START, parts};
use place::{key, node_at};

/// The most bytes of a pattern as it is compiled.
const MAX_PATTERN: usize = 64 << 10;

/// The most findings of one file.
const MAX_FINDINGS: usize = 20;

/// The most work for all files of one moment of a repo together.
const MAX_WORK: u64 = 50_000_000;

/// The most that the schemas of one moment of a repo are together, as [`cost::size`] counts.
const MAX_SIZE: usize = 500_000;

/// A schema of the repo that can be used.
#[derive(Debug)]
pub(super) struct Schema {
    loaded: Loaded,
    validator: Validator,
    size: usize,
}

impl Schema {
    /// Reads the schema at a path, and takes its size from what is left for all.
    fn read(path: &str, repo: &BTreeMap<String, Carried>, left: &mut usize) -> Result<Self, Vec<Finding>> {
        let loaded = Loaded::read(path, repo)?;
        let help = "split it, and give each file the part that it needs";
        let size = cost::size(&loaded).map_err(|beyond| vec![refused(path, START, &beyond.message(), help)])?;
        *left = left.checked_sub(size).ok_or_else(|| {
            let message = "the schemas of the repo are too much together, counting each `$ref` as what it names";
            vec![refused(path, START, message, "let files share a schema, or give each fleet a repository of its own")]
        })?;
        let patterns = PatternOptions::regex().size_limit(MAX_PATTERN).dfa_size_limit(1 << 20);
        let options = jsonschema::options()
            .with_base_uri(loaded.address())
            .with_retriever(loaded.retriever())
            .with_pattern_options(patterns)
            .should_validate_formats(true);
        let validator = options.build(loaded.root().1).map_err(|error| {
            let place = loaded.node(path).map_or(START, |node| node_at(&node, error.instance_path().as_str()).span);
            let help = "correct it; patterns have neither look-around nor back-references here";
            vec![refused(path, place, &format!("this is not a schema: {error}"), help)]
        })?;
        Ok(Self { loaded, validator, size })
    }

    /// What it says of itself: its title and its description.
    pub(super) fn words(&self) -> Option<String> {
        let said = |key| self.loaded.root().1.get(key)?.as_str().map(str::trim).filter(|text| !text.is_empty());
        let words: Vec<&str> = ["title", "description"].into_iter().filter_map(said).collect();
        (!words.is_empty()).then(|| words.join(": "))
    }

    /// A hash of what it and what it refers to say, whatever their spaces and the order of their keys.
    pub(super) fn digest(&self) -> String {
        self.loaded.digest()
    }
}

/// The schemas of a repo, each read once and kept as long as its files are the same.
#[derive(Debug, Default)]
pub(super) struct Schemas {
    kept: BTreeMap<String, Arc<Schema>>,
    /// What may still be read of this moment of the repo.
    left: usize,
}

impl Schemas {
    /// Begins with another moment of a repo.
    pub(super) fn begin(&mut self) {
        self.left = MAX_SIZE;
        if self.kept.values().map(|schema| schema.size).sum::<usize>() > MAX_SIZE {
            self.kept.clear();
        }
    }

    /// The schema at a path.
    ///
    /// # Errors
    /// There is none that can be used.
    pub(super) fn get(&mut self, path: &str, repo: &BTreeMap<String, Carried>) -> Result<Arc<Schema>, Vec<Finding>> {
        if let Some(schema) = self.kept.get(path).filter(|schema| schema.loaded.is_of(repo)) {
            return Ok(Arc::clone(schema));
        }
        let schema = Arc::new(Schema::read(path, repo, &mut self.left)?);
        self.kept.insert(path.to_owned(), Arc::clone(&schema));
        Ok(schema)
    }
}

/// Holds values against schemas, and each config file against a schema once.
pub(super) struct Checks<'t> {
    repo: &'t BTreeMap<String, Carried>,
    schemas: &'t mut Schemas,
    checked: BTreeMap<(String, String), Vec<Finding>>,
    refused: BTreeMap<String, Vec<Finding>>,
    left: u64,
}

impl<'t> Checks<'t> {
    pub(super) const fn new(repo: &'t BTreeMap<String, Carried>, schemas: &'t mut Schemas) -> Self {
        Self { repo, schemas, checked: BTreeMap::new(), refused: BTreeMap::new(), left: MAX_WORK }
    }

    /// What is wrong with a value by a schema.
    ///
    /// # Errors
    /// To find that out is more work than is done, in words.
    pub(super) fn errors<'v>(
        &mut self,
        schema: &'v Schema,
        value: &'v Value,
    ) -> Result<Vec<ValidationError<'v>>, String> {
        self.left -= cost::work(&schema.loaded, value, self.left).map_err(Beyond::message)?;
        Ok(schema.validator.iter_errors(value).take(MAX_FINDINGS).collect())
    }

    /// What is wrong with a config file by a schema, or with the schema.
    pub(super) fn file(&mut self, path: &str, bytes: &[u8], schema: &str) -> Vec<Finding> {
        let pair = (path.to_owned(), schema.to_owned());
        if let Some(found) = self.checked.get(&pair).or_else(|| self.refused.get(schema)) {
            return found.clone();
        }
        let found = match self.schemas.get(schema, self.repo) {
            Ok(loaded) => self.findings(path, bytes, schema, &loaded).err().unwrap_or_default(),
            Err(found) => {
                self.refused.insert(schema.to_owned(), found.clone());
                return found;
            }
        };
        self.checked.insert(pair, found.clone());
        found
    }

    fn findings(&mut self, path: &str, bytes: &[u8], name: &str, schema: &Schema) -> Result<(), Vec<Finding>> {
        let (value, node) = read(path, bytes)?;
        let errors = self.errors(schema, &value).map_err(|beyond| {
            let message = format!("it cannot be held against {name}: {beyond}");
            let help = "make the file smaller, or the schema simpler";
            vec![Finding::error(path, START, "schema-work", &message, Some(help))]
        })?;
        let findings: Vec<Finding> = errors.iter().flat_map(|error| explain(path, name, &node, error)).collect();
        if findings.is_empty() { Ok(()) } else { Err(findings) }
    }
}

/// Whether a file is one that can be held against a schema, by its name.
pub(super) fn is_readable(path: &str) -> bool {
    [".json", ".yaml", ".yml"].iter().any(|ending| path.ends_with(ending))
}

/// A config file's value, and where everything of it stands.
fn read(path: &str, bytes: &[u8]) -> Result<(Value, Node), Vec<Finding>> {
    if path.ends_with(".json") {
        return json::parse(path, bytes);
    }
    let (node, mut findings) = yaml::parse(path, bytes);
    let value = node.as_ref().and_then(|node| decode_value(path, node, &mut findings));
    value.zip(node).filter(|_| findings.is_empty()).ok_or(findings)
}

/// An error of a config file as findings.
fn explain(path: &str, schema: &str, root: &Node, error: &ValidationError<'_>) -> Vec<Finding> {
    let node = node_at(root, error.instance_path().as_str());
    let help = format!("{schema} asks for it at {}", error.evaluation_path());
    let finding = |Said { key: name, what }: Said| {
        let span = name.and_then(|name| key(node, &name)).unwrap_or(node.span);
        Finding::error(path, span, "schema", &what, Some(&help))
    };
    said(error).into_iter().map(finding).collect()
}

/// What is wrong, in words.
pub(super) struct Said {
    /// The key of the value in question that it is about, if it is about one.
    pub(super) key: Option<String>,
    pub(super) what: String,
}

/// An error in words: once for each key that may not be there, else once. It quotes no value: who reads an error need not
/// be who may read the file.
pub(super) fn said(error: &ValidationError<'_>) -> Vec<Said> {
    let of = |name: &str, what: String| Said { key: Some(name.to_owned()), what };
    match error.kind() {
        ValidationErrorKind::AdditionalProperties { unexpected }
        | ValidationErrorKind::UnevaluatedProperties { unexpected } => {
            let names = unexpected.iter().take(MAX_FINDINGS);
            names.map(|name| of(name, format!("the key `{name}` is not known here"))).collect()
        }
        ValidationErrorKind::Required { property } => {
            let name = property.as_str().unwrap_or_default();
            vec![of(name, format!("missing key `{name}`"))]
        }
        _ => vec![Said { key: None, what: error.masked_with("this").to_string() }],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_all_files_together_take_is_bounded() {
        let file = |text: &str| Carried::File(text.as_bytes().into());
        let schema = r#"{"items": {"type": "integer"}}"#;
        let repo = BTreeMap::from([("schemas/a.json".to_owned(), file(schema))]);
        let mut schemas = Schemas::default();
        schemas.begin();
        let mut checks = Checks { left: 30, ..Checks::new(&repo, &mut schemas) };
        let mut rendered = |path: &str| {
            let found = checks.file(path, b"[1, 2, 3, 4, 5, 6, 7, 8, 9]", "schemas/a.json");
            found.iter().map(ToString::to_string).collect::<String>()
        };
        // Each takes ten: the schema itself, and what it says of the nine entries.
        let files = ["a.json", "b.json", "c.json", "a.json", "d.json", "a.json"];
        let refused: Vec<bool> = files.iter().map(|path| rendered(path).contains("schema-work")).collect();
        assert_eq!(refused, [false, false, false, false, true, false]);
    }
}
