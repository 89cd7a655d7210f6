//! How much work a schema makes, before anybody does it: whoever may push writes both the schema and what it is held
//! against, and a few lines of either can mean more work than a processor has time for.

use std::ptr;

use serde_json::{Map, Value};

use super::documents::Loaded;

/// The most schemas that one holds when each reference is replaced by what it names, and how deep they lie in one another.
const MAX_SCHEMAS: usize = 20_000;
const MAX_DEPTH: usize = 64;

/// The most patterns among them. Each takes up to [`super::MAX_PATTERN`] when it is compiled.
const MAX_PATTERNS: usize = 200;

/// The most schemas that are applied within one another to one file.
const MAX_NESTED: usize = 192;

/// The most work for one file: about one for each schema that is applied to a value. It is less than a second's.
pub(super) const MAX_WORK: u64 = 250_000;

/// What there is too much of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Beyond {
    Schemas,
    Depth,
    Patterns,
    Work,
}

impl Beyond {
    /// The same in words, of a schema.
    pub(super) fn message(self) -> String {
        match self {
            Self::Schemas => {
                format!("it holds more than {MAX_SCHEMAS} schemas, counting each `$ref` as what it names")
            }
            Self::Depth => "its schemas lie too deep in one another".to_owned(),
            Self::Patterns => {
                format!("it holds more than {MAX_PATTERNS} patterns, counting each `$ref` as what it names")
            }
            Self::Work => "to hold the file against it takes too long".to_owned(),
        }
    }
}

/// What a schema within another one is applied to.
#[derive(Clone, Copy)]
enum To<'s> {
    /// The same value.
    Same,
    /// A member of it.
    Member(&'s str),
    /// All members, whichever are left over.
    Members,
    /// The names of its members.
    Names,
    /// An entry of it.
    Entry(usize),
    /// All entries, whichever are left over.
    Entries,
}

/// The schemas right within another one, and what each is applied to.
fn within(schema: &Map<String, Value>) -> impl Iterator<Item = (To<'_>, &Value)> {
    schema.iter().flat_map(|(key, value)| {
        let of_same = || list(value).map(|one| (To::Same, one)).collect();
        let found: Vec<(To<'_>, &Value)> = match key.as_str() {
            "allOf" | "anyOf" | "oneOf" => of_same(),
            "not" | "if" | "then" | "else" => vec![(To::Same, value)],
            "dependentSchemas" | "dependencies" => map(value).map(|(_, one)| (To::Same, one)).collect(),
            "properties" => map(value).map(|(name, one)| (To::Member(name), one)).collect(),
            "patternProperties" => map(value).map(|(_, one)| (To::Members, one)).collect(),
            "additionalProperties" | "unevaluatedProperties" => vec![(To::Members, value)],
            "propertyNames" => vec![(To::Names, value)],
            "prefixItems" => list(value).enumerate().map(|(at, one)| (To::Entry(at), one)).collect(),
            "items" if value.is_array() => list(value).enumerate().map(|(at, one)| (To::Entry(at), one)).collect(),
            "items" | "additionalItems" | "unevaluatedItems" | "contains" => vec![(To::Entries, value)],
            _ => Vec::new(),
        };
        found
    })
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn map(value: &Value) -> impl Iterator<Item = (&str, &Value)> {
    value.as_object().into_iter().flatten().map(|(name, one)| (name.as_str(), one))
}

/// How often what is within a schema is applied: what is left over is found by doing all of it again.
fn times(schema: &Map<String, Value>) -> usize {
    1 + ["unevaluatedProperties", "unevaluatedItems"].iter().filter(|key| schema.contains_key(**key)).count()
}

/// How large a schema is with every reference in it replaced by what it names, if that is not too much. One that leads
/// back to where it stands counts once, a pattern as much as two hundred schemas, and bytes to be read as well.
pub(super) fn size(loaded: &Loaded) -> Result<usize, Beyond> {
    let (file, schema) = loaded.root();
    let mut size = Size { loaded, schemas: 0, patterns: 0, open: Vec::new() };
    size.add(file, schema)?;
    Ok(size.schemas + 200 * size.patterns + loaded.bytes() / 64)
}

struct Size<'l> {
    loaded: &'l Loaded,
    schemas: usize,
    patterns: usize,
    /// Those that what is looked at lies in.
    open: Vec<&'l Value>,
}

impl<'l> Size<'l> {
    fn add(&mut self, file: &'l str, schema: &'l Value) -> Result<(), Beyond> {
        self.schemas += 1;
        if self.schemas > MAX_SCHEMAS {
            return Err(Beyond::Schemas);
        }
        let Value::Object(keywords) = schema else { return Ok(()) };
        if self.open.iter().any(|open| ptr::eq(*open, schema)) {
            return Ok(());
        }
        if self.open.len() == MAX_DEPTH {
            return Err(Beyond::Depth);
        }
        self.patterns += usize::from(keywords.contains_key("pattern"));
        self.patterns += keywords.get("patternProperties").and_then(Value::as_object).map_or(0, Map::len);
        if self.patterns > MAX_PATTERNS {
            return Err(Beyond::Patterns);
        }
        self.open.push(schema);
        for _ in 0..times(keywords) {
            if let Some((file, target)) = self.loaded.target(file, keywords) {
                self.add(file, target)?;
            }
            for (_, inner) in within(keywords) {
                self.add(file, inner)?;
            }
        }
        self.open.pop();
        Ok(())
    }
}

/// How much work it is to hold a value against a schema, if that is not more than there is left.
pub(super) fn work(loaded: &Loaded, instance: &Value, left: u64) -> Result<u64, Beyond> {
    let (file, schema) = loaded.root();
    let mut work = Work { loaded, done: 0, left: left.min(MAX_WORK) };
    work.apply(file, schema, instance, 0)?;
    Ok(work.done)
}

/// Goes the ways that a validator could go, whatever it finds on them.
struct Work<'l> {
    loaded: &'l Loaded,
    done: u64,
    left: u64,
}

impl<'l> Work<'l> {
    fn take(&mut self, work: usize) -> Result<(), Beyond> {
        self.done += work as u64;
        if self.done > self.left { Err(Beyond::Work) } else { Ok(()) }
    }

    fn apply(&mut self, file: &'l str, schema: &'l Value, instance: &Value, nested: usize) -> Result<(), Beyond> {
        self.take(1)?;
        let Value::Object(keywords) = schema else { return Ok(()) };
        if nested == MAX_NESTED {
            return Err(Beyond::Depth);
        }
        self.own(keywords, instance)?;
        for _ in 0..times(keywords) {
            if let Some((file, target)) = self.loaded.target(file, keywords) {
                self.apply(file, target, instance, nested + 1)?;
            }
            for (to, inner) in within(keywords) {
                self.inner(file, inner, to, instance, nested + 1)?;
            }
        }
        Ok(())
    }

    fn inner(
        &mut self,
        file: &'l str,
        schema: &'l Value,
        to: To<'_>,
        instance: &Value,
        nested: usize,
    ) -> Result<(), Beyond> {
        match to {
            To::Same => self.apply(file, schema, instance, nested),
            To::Member(name) => instance.get(name).map_or(Ok(()), |one| self.apply(file, schema, one, nested)),
            To::Members => map(instance).try_for_each(|(name, one)| {
                self.take(text_work(name))?;
                self.apply(file, schema, one, nested)
            }),
            To::Names => map(instance).try_for_each(|(name, _)| {
                self.take(text_work(name))?;
                self.apply(file, schema, &Value::from(name), nested)
            }),
            To::Entry(at) => instance.get(at).map_or(Ok(()), |one| self.apply(file, schema, one, nested)),
            To::Entries => list(instance).try_for_each(|one| self.apply(file, schema, one, nested)),
        }
    }

    /// The work of a schema beside what is within it.
    fn own(&mut self, keywords: &Map<String, Value>, instance: &Value) -> Result<(), Beyond> {
        for (key, value) in keywords {
            match key.as_str() {
                "enum" | "const" => self.take(values(value))?,
                "required" | "dependentRequired" | "dependencies" | "properties" => {
                    self.take(value.as_array().map_or_else(|| value.as_object().map_or(0, Map::len), Vec::len))?;
                }
                "uniqueItems" if instance.is_array() => self.take(16 * values(instance))?,
                "pattern" | "format" | "contentEncoding" | "contentMediaType" => {
                    self.take(instance.as_str().map_or(0, text_work))?;
                }
                _ => {}
            }
        }
        Ok(())
    }
}

/// The work of going through a text once with a pattern.
const fn text_work(text: &str) -> usize {
    text.len() / 8
}

/// How many values there are in one.
fn values(value: &Value) -> usize {
    1 + list(value).map(values).sum::<usize>() + map(value).map(|(_, one)| 1 + values(one)).sum::<usize>()
}
