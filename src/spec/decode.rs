//! Decodes the nodes of a YAML file into Rust types, and goes on after an error.
//!
//! A serde deserializer stops at its first error; a person wants all of them at once. So the
//! types of a file wrap each field in [`Located`], which takes an error in as "no value" while
//! the deserializer writes down the [`Finding`]:
//!
//! ```text
//! #[derive(Deserialize, JsonSchema)]
//! #[serde(rename_all = "camelCase", deny_unknown_fields)]
//! struct Limits {
//!     memory_max: Located<Memory>,      // required
//!     cpus: Option<Located<Cpus>>,      // optional
//!     #[serde(default)]
//!     environment: LocatedMap<VariableName, String>,
//! }
//! let (limits, findings) = decode::<Limits>("limits.yaml", bytes);
//! ```
//!
//! An error in a field that is not wrapped is reported too, and the field then counts as not
//! written: it is `None` or has its `#[serde(default)]`, and a required one takes the nearest
//! `Located` (or the whole file) around it along. In a list or map, wrap the entries.
//!
//! What serde decodes through a buffer (`flatten`, `untagged`, enums with an inner `tag`) is
//! decoded without spans and stops at its first error, and `flatten` also turns off the search
//! for unknown keys.

use std::borrow::Cow;
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::marker::PhantomData;
use std::slice;
use std::vec;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::de::value::StrDeserializer;
use serde::de::{
    self, Deserialize, DeserializeOwned, DeserializeSeed, Deserializer, EnumAccess, Expected, IntoDeserializer,
    MapAccess, SeqAccess, Unexpected, VariantAccess, Visitor,
};
use serde::ser::{Serialize, SerializeMap, Serializer};

use crate::model::finding::{Finding, Span, rule, suggest};
use crate::model::invalid::SEPARATOR;

use super::yaml::{Key, Node, NodeKind, Style, parse};

/// Reads a YAML file into a value: everything wrong with the file comes with it, sorted.
///
/// `file` is the name that findings carry. The value is there if one could be built at all; its
/// [`Located`] fields are without value where the file is wrong, so use it for further checks,
/// and for more only if no finding is an error. The caller limits the size of `bytes`.
#[must_use]
pub fn decode<T: DeserializeOwned>(file: &str, bytes: &[u8]) -> (Option<T>, Vec<Finding>) {
    let (root, mut findings) = parse(file, bytes);
    let value = root.and_then(|root| decode_node(file, &root, &mut findings));
    (value, findings)
}

/// Decodes a node that [`parse`] gave, adds what is wrong to the findings and sorts them.
///
/// This is the second half of [`decode`], for a caller that first looks at the node to choose the
/// type.
#[must_use]
pub fn decode_node<T: DeserializeOwned>(file: &str, node: &Node, findings: &mut Vec<Finding>) -> Option<T> {
    let context = Context {
        file,
        findings: RefCell::new(Vec::new()),
        missing: RefCell::new(BTreeSet::new()),
        skipped: RefCell::new(BTreeMap::new()),
    };
    let de = De { node, context: &context, name: None };
    let value = loop {
        match context.attempt(PhantomData::<T>, de, 0) {
            Attempt::Value(value) => break Some(value),
            Attempt::Again => {}
            Attempt::Failed => break None,
        }
    };
    findings.append(&mut context.findings.into_inner());
    findings.sort();
    findings.dedup();
    value
}

// ---------------------------------------------------------------------------------------------
// Located

/// The newtype name by which the deserializer knows a [`Located`].
const LOCATED: &str = "$tenantd::Located";

/// A value and the place where it stands; without a value where the file has a wrong one, which
/// is then reported already.
///
/// Decoded from anything but a YAML file (by `serde_json`, say) it is as transparent as a newtype,
/// has the default [`Span`], and errors fail as usual. An optional field is an
/// `Option<Located<T>>`, not a `Located<Option<T>>`, whose key is required.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Located<T> {
    /// The value, if there is a right one.
    pub value: Option<T>,
    /// Where it stands; for a missing key, where its mapping does.
    pub span: Span,
}

impl<T> Located<T> {
    /// Makes a value that stands in no file.
    pub fn new(value: T) -> Self {
        Self { value: Some(value), span: Span::default() }
    }

    /// Returns the value, if there is a right one.
    pub const fn get(&self) -> Option<&T> {
        self.value.as_ref()
    }

    /// Makes an error about this value; see [`Finding::error`].
    pub fn error(&self, file: &str, code: &'static str, message: &str, help: Option<&str>) -> Finding {
        Finding::error(file, self.span, code, message, help)
    }
}

/// The default value of `T`, standing in no file (not: no value).
impl<T: Default> Default for Located<T> {
    fn default() -> Self {
        Self::new(T::default())
    }
}

impl<T> From<T> for Located<T> {
    fn from(value: T) -> Self {
        Self::new(value)
    }
}

/// Serializes as the value does; as `null` without one.
impl<T: Serialize> Serialize for Located<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match &self.value {
            Some(value) => value.serialize(serializer),
            None => serializer.serialize_none(),
        }
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Located<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_newtype_struct(LOCATED, LocatedVisitor(PhantomData))
    }
}

struct LocatedVisitor<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for LocatedVisitor<T> {
    type Value = Located<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    /// Any other format.
    fn visit_newtype_struct<D: Deserializer<'de>>(self, d: D) -> Result<Self::Value, D::Error> {
        T::deserialize(d).map(Located::new)
    }

    /// A YAML file, see [`LocatedAccess`].
    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        let line = seq.next_element()?.unwrap_or_default();
        let column = seq.next_element()?.unwrap_or_default();
        let length = seq.next_element()?.unwrap_or_default();
        let span = Span { line, column, length };
        loop {
            let value = seq.next_element()?;
            if value.is_some() || seq.size_hint() == Some(0) {
                return Ok(Located { value, span });
            }
        }
    }
}

/// The schema is that of the value.
impl<T: JsonSchema> JsonSchema for Located<T> {
    fn inline_schema() -> bool {
        T::inline_schema()
    }

    fn schema_name() -> Cow<'static, str> {
        T::schema_name()
    }

    fn schema_id() -> Cow<'static, str> {
        T::schema_id()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        T::json_schema(generator)
    }
}

/// A mapping whose keys and values know where they stand, in the order of the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LocatedMap<K, V> {
    /// The keys and values. A wrong key or value is there without its value.
    pub entries: Vec<(Located<K>, Located<V>)>,
}

impl<K, V> LocatedMap<K, V> {
    /// Returns the value of a key, located, or `None` if the key is not there.
    pub fn get<Q: ?Sized>(&self, key: &Q) -> Option<&Located<V>>
    where
        K: PartialEq<Q>,
    {
        self.iter().find(|(known, _)| known.get().is_some_and(|known| known == key)).map(|(_, value)| value)
    }

    /// Goes through keys and values in the order of the file.
    pub fn iter(&self) -> slice::Iter<'_, (Located<K>, Located<V>)> {
        self.entries.iter()
    }

    /// Returns the number of entries, wrong ones included.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.entries.len()
    }

    /// Says whether there are no entries.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}

impl<K, V> Default for LocatedMap<K, V> {
    fn default() -> Self {
        Self { entries: Vec::new() }
    }
}

impl<'a, K, V> IntoIterator for &'a LocatedMap<K, V> {
    type Item = &'a (Located<K>, Located<V>);
    type IntoIter = slice::Iter<'a, (Located<K>, Located<V>)>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl<K, V> IntoIterator for LocatedMap<K, V> {
    type Item = (Located<K>, Located<V>);
    type IntoIter = vec::IntoIter<(Located<K>, Located<V>)>;

    fn into_iter(self) -> Self::IntoIter {
        self.entries.into_iter()
    }
}

impl<K, V> FromIterator<(K, V)> for LocatedMap<K, V> {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(entries: I) -> Self {
        let located = |(key, value)| (Located::new(key), Located::new(value));
        Self { entries: entries.into_iter().map(located).collect() }
    }
}

/// Serializes as a map; entries without a right key are left out.
impl<K: Serialize, V: Serialize> Serialize for LocatedMap<K, V> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        for (key, value) in self {
            if let Some(key) = key.get() {
                map.serialize_entry(key, value)?;
            }
        }
        map.end()
    }
}

impl<'de, K: Deserialize<'de>, V: Deserialize<'de>> Deserialize<'de> for LocatedMap<K, V> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(LocatedMapVisitor(PhantomData))
    }
}

struct LocatedMapVisitor<K, V>(PhantomData<(K, V)>);

impl<'de, K: Deserialize<'de>, V: Deserialize<'de>> Visitor<'de> for LocatedMapVisitor<K, V> {
    type Value = LocatedMap<K, V>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a mapping")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut entries = Vec::new();
        while let Some(entry) = map.next_entry()? {
            entries.push(entry);
        }
        Ok(LocatedMap { entries })
    }
}

/// The schema is that of a `BTreeMap<K, V>`.
impl<K: JsonSchema, V: JsonSchema> JsonSchema for LocatedMap<K, V> {
    fn inline_schema() -> bool {
        <BTreeMap<K, V>>::inline_schema()
    }

    fn schema_name() -> Cow<'static, str> {
        <BTreeMap<K, V>>::schema_name()
    }

    fn schema_id() -> Cow<'static, str> {
        <BTreeMap<K, V>>::schema_id()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        <BTreeMap<K, V>>::json_schema(generator)
    }
}

// ---------------------------------------------------------------------------------------------
// Errors of newtypes

/// An error on its way to the nearest [`Located`].
#[derive(Debug)]
struct Error(Box<Reason>);

#[derive(Debug)]
enum Reason {
    /// The findings have it.
    Reported,
    /// The nearest [`Located`] is to be decoded anew.
    Again,
    /// A struct lacks a key; known by the address of its node once that is known.
    Missing { field: &'static str, node: Option<usize> },
    /// The visitor wants something else than what is there; the node puts "found ..." to it.
    Expected { code: &'static str, expected: String },
    /// Anything else.
    Problem { span: Option<Span>, code: &'static str, message: String, help: Option<String> },
}

impl Error {
    fn reported() -> Self {
        Self(Box::new(Reason::Reported))
    }

    fn problem(code: &'static str, message: String, help: Option<String>) -> Self {
        Self(Box::new(Reason::Problem { span: None, code, message, help }))
    }

    /// Says of an error which node it is about, if that is not known yet.
    fn at(mut self, node: &Node) -> Self {
        match &mut *self.0 {
            Reason::Problem { span, .. } => {
                span.get_or_insert(node.span);
                self
            }
            Reason::Expected { code, expected } => {
                let message = format!("expected {expected}, found {}", found(node));
                let help = format!("write {expected}");
                Self::problem(code, message, Some(help)).at(node)
            }
            Reason::Reported | Reason::Again | Reason::Missing { .. } => self,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &*self.0 {
            Reason::Reported | Reason::Again => f.write_str("wrong, and reported"),
            Reason::Missing { field, .. } => write!(f, "missing key `{field}`"),
            Reason::Expected { expected, .. } => write!(f, "expected {expected}"),
            Reason::Problem { message, .. } => f.write_str(message),
        }
    }
}

impl std::error::Error for Error {}

impl de::Error for Error {
    fn custom<T: fmt::Display>(message: T) -> Self {
        let text = message.to_string();
        let mut parts = text.splitn(4, SEPARATOR);
        if let (Some(""), Some(code), Some(message)) = (parts.next(), parts.next(), parts.next()) {
            let code = rule(code).unwrap_or("invalid-value");
            Self::problem(code, message.to_owned(), parts.next().map(str::to_owned))
        } else {
            Self::problem("invalid-value", text, None)
        }
    }

    fn invalid_type(_: Unexpected<'_>, expected: &dyn Expected) -> Self {
        let (code, expected) = ("wrong-type", expected.to_string());
        Self(Box::new(Reason::Expected { code, expected }))
    }

    fn invalid_value(_: Unexpected<'_>, expected: &dyn Expected) -> Self {
        let (code, expected) = ("invalid-value", expected.to_string());
        Self(Box::new(Reason::Expected { code, expected }))
    }

    fn invalid_length(length: usize, expected: &dyn Expected) -> Self {
        let message = format!("expected {expected}, found {length} entries");
        Self::problem("wrong-type", message, None)
    }

    fn unknown_variant(variant: &str, expected: &'static [&'static str]) -> Self {
        unknown_value(variant, expected)
    }

    fn unknown_field(field: &str, expected: &'static [&'static str]) -> Self {
        let (message, help) = unknown_key(field, expected.iter().copied(), expected);
        Self::problem("unknown-key", message, Some(help))
    }

    fn missing_field(field: &'static str) -> Self {
        Self(Box::new(Reason::Missing { field, node: None }))
    }

    fn duplicate_field(field: &'static str) -> Self {
        let message = format!("the key `{field}` is written twice, under two names");
        let help = "keep one of the two".to_owned();
        Self::problem("duplicate-key", message, Some(help))
    }
}

fn list(words: &[&str]) -> String {
    let mut out = String::new();
    for word in words {
        let separator = if out.is_empty() { "" } else { ", " };
        out.extend([separator, "`", word, "`"]);
    }
    out
}

/// Returns message and help; `open` are the known keys that are not written yet.
fn unknown_key(key: &str, open: impl Iterator<Item = &'static str>, known: &[&str]) -> (String, String) {
    let help = match suggest(key, open) {
        Some(meant) => format!("did you mean `{meant}`?"),
        None if known.is_empty() => "remove it: no keys are known here".to_owned(),
        None => format!("known keys: {}", list(known)),
    };
    (format!("unknown key `{}`", short(key)), help)
}

fn unknown_value(value: &str, known: &'static [&'static str]) -> Error {
    let help = match suggest(value, known.iter().copied()) {
        Some(meant) => format!("did you mean `{meant}`? known values: {}", list(known)),
        None => format!("write one of {}", list(known)),
    };
    let message = format!("unknown value `{}`", short(value));
    Error::problem("unknown-value", message, Some(help))
}

// ---------------------------------------------------------------------------------------------
// The deserializer

/// What one file's decoding writes down.
struct Context<'a> {
    file: &'a str,
    findings: RefCell<Vec<Finding>>,
    /// The required keys found missing so far, by the address of the mapping that lacks them.
    ///
    /// A derived `Deserialize` gives up at the first of them. It is then tried anew, and this
    /// time given the key with a value that only a [`Located`] accepts.
    missing: RefCell<BTreeSet<(usize, &'static str)>>,
    /// The values of struct fields without a [`Located`] that were found wrong so far, by the
    /// address of the value, and what is wrong with them.
    ///
    /// A derived `Deserialize` gives up there, too, is tried anew, and this time goes without the
    /// key.
    skipped: RefCell<BTreeMap<usize, Vec<Finding>>>,
}

/// How many keys can be found missing, and values skipped, before decoding anew is given up.
const MAX_ATTEMPTS: usize = 1000;

enum Attempt<T> {
    Value(T),
    /// One more key is known to be missing, or to be skipped: try again.
    Again,
    Failed,
}

impl Context<'_> {
    fn report(&self, span: Span, code: &'static str, message: &str, help: Option<&str>) {
        let finding = Finding::error(self.file, span, code, message, help);
        self.findings.borrow_mut().push(finding);
    }

    /// Writes down an error that ends at this node.
    fn report_error(&self, error: Error, node: &Node) {
        match *error.at(node).0 {
            Reason::Missing { field, .. } => {
                let message = format!("missing key `{field}`");
                self.report(node.span, "missing-key", &message, None);
            }
            Reason::Problem { span, code, message, help } => {
                let span = span.unwrap_or(node.span);
                self.report(span, code, &message, help.as_deref());
            }
            Reason::Reported | Reason::Again | Reason::Expected { .. } => {}
        }
    }

    fn may_try_again(&self) -> bool {
        self.missing.borrow().len() + self.skipped.borrow().len() < MAX_ATTEMPTS
    }

    /// Decodes a node. A try that is to be made again takes the findings it made (those from
    /// `mark` on) back.
    fn attempt<'de, S: DeserializeSeed<'de>>(&self, seed: S, de: De<'_>, mark: usize) -> Attempt<S::Value> {
        let error = match seed.deserialize(de) {
            Ok(value) => return Attempt::Value(value),
            Err(error) => error,
        };
        let again = match *error.0 {
            Reason::Again => true,
            Reason::Missing { field, node: Some(node) } => {
                self.may_try_again() && self.missing.borrow_mut().insert((node, field))
            }
            _ => false,
        };
        if again {
            self.findings.borrow_mut().truncate(mark);
            return Attempt::Again;
        }
        self.report_error(error, de.node);
        Attempt::Failed
    }

    /// Makes the next try go without a value that is wrong; returns the error that leads to it.
    fn skip(&self, error: Error, node: &Node, mark: usize) -> Error {
        if matches!(*error.0, Reason::Again | Reason::Missing { node: Some(_), .. }) {
            return error;
        }
        self.report_error(error, node);
        if !self.may_try_again() {
            return Error::reported();
        }
        let found = self.findings.borrow().iter().skip(mark).cloned().collect();
        self.skipped.borrow_mut().insert(address(node), found);
        Error(Box::new(Reason::Again))
    }

    /// Says whether a value is to be skipped, and reports it if so.
    fn skipped(&self, node: &Node) -> bool {
        let skipped = self.skipped.borrow();
        let found = skipped.get(&address(node));
        self.findings.borrow_mut().extend(found.into_iter().flatten().cloned());
        found.is_some()
    }
}

/// Deserializes one node. An error that it returns does not always say where it is about:
/// whoever hands a `De` to a seed calls [`Error::at`].
#[derive(Clone, Copy)]
struct De<'a> {
    node: &'a Node,
    context: &'a Context<'a>,
    /// The key it is the value of.
    name: Option<&'a str>,
}

impl<'a> De<'a> {
    /// Makes the error for a node of another type than expected.
    fn wrong(self, expected: &str, help: Option<String>) -> Error {
        match &self.node.kind {
            NodeKind::Null { .. } if self.node.refused => Error::reported(),
            NodeKind::Null { text } => {
                let message = self.no_value(text);
                let help = if text.is_empty() || expected != "a string" {
                    format!("write {expected}")
                } else {
                    "write a string; if the word itself is meant, put it in quotes".to_owned()
                };
                Error::problem("null-value", message, Some(help)).at(self.node)
            }
            _ => {
                let message = format!("expected {expected}, found {}", found(self.node));
                Error::problem("wrong-type", message, help).at(self.node)
            }
        }
    }

    fn no_value(self, written: &str) -> String {
        match self.name {
            Some(name) if written.is_empty() => format!("`{}:` has no value", short(name)),
            Some(name) => format!("`{}: {written}` has no value", short(name)),
            None => "this entry has no value".to_owned(),
        }
    }

    fn string(self) -> Result<&'a str, Error> {
        match &self.node.kind {
            NodeKind::Scalar { text, .. } => Ok(text),
            NodeKind::Map(_) => {
                let help = "text that contains `: ` or begins with `{` goes in quotes";
                Err(self.wrong("a string", Some(help.to_owned())))
            }
            _ => {
                let help = "text that begins with `- ` or `[` goes in quotes";
                Err(self.wrong("a string", Some(help.to_owned())))
            }
        }
    }

    fn seq(self) -> Result<&'a [Node], Error> {
        match &self.node.kind {
            NodeKind::Seq(nodes) => Ok(nodes),
            NodeKind::Map(_) => {
                let help = "begin each entry of the list with `- `";
                Err(self.wrong("a list", Some(help.to_owned())))
            }
            NodeKind::Scalar { text, .. } => {
                let help = format!("write `- {}` on a line of its own", short(text));
                Err(self.wrong("a list", Some(help)))
            }
            NodeKind::Null { .. } => Err(self.wrong("a list", None)),
        }
    }

    fn map(self) -> Result<&'a [(Key, Node)], Error> {
        match &self.node.kind {
            NodeKind::Map(entries) => Ok(entries),
            NodeKind::Scalar { text, style: Style::Plain } if text.contains(':') => {
                let help = "put a space after the `:` of a key: `key: value`";
                Err(self.wrong("a mapping", Some(help.to_owned())))
            }
            NodeKind::Seq(_) => {
                let help = "write `key: value` lines without `- `";
                Err(self.wrong("a mapping", Some(help.to_owned())))
            }
            _ => {
                let help = match self.name {
                    Some(name) => format!("write `key: value` lines, indented, below `{}:`", short(name)),
                    None => "write `key: value` lines".to_owned(),
                };
                Err(self.wrong("a mapping", Some(help)))
            }
        }
    }

    fn boolean(self) -> Result<bool, Error> {
        let expected = "true or false";
        let NodeKind::Scalar { text, style } = &self.node.kind else {
            return Err(self.wrong(expected, Some(format!("write {expected}"))));
        };
        let meant = match text.to_ascii_lowercase().as_str() {
            "true" | "yes" | "on" | "y" => "true",
            "false" | "no" | "off" | "n" => "false",
            _ => return Err(self.wrong(expected, Some(format!("write {expected}")))),
        };
        if *style == Style::Plain && text == meant {
            return Ok(meant == "true");
        }
        let help = format!("write `{meant}`, without quotes");
        Err(self.wrong(expected, Some(help)))
    }

    /// Returns the text of a number, after `shape` has said that it is one. `help` says what to
    /// write if there is no better guess.
    fn number(self, expected: &str, shape: fn(&str) -> bool, help: &str) -> Result<&'a str, Error> {
        let NodeKind::Scalar { text, style } = &self.node.kind else {
            return Err(self.wrong(expected, Some(help.to_owned())));
        };
        if *style == Style::Plain && shape(text) {
            return Ok(text);
        }
        let guess = decimal(text).filter(|decimal| shape(decimal));
        let help = match guess {
            _ if shape(text) => format!("write `{}`, without quotes", short(text)),
            Some(guess) => format!("write a decimal number: `{}`", short(&guess)),
            None => help.to_owned(),
        };
        Err(self.wrong(expected, Some(help)))
    }

    fn integer<I: TryFrom<i128>>(self, min: i128, max: i128) -> Result<I, Error> {
        let help = format!("write a whole number from {min} to {max}");
        let text = self.number("a whole number", is_integer, &help)?;
        // What i128 cannot hold is out of the range of all smaller types, too.
        let number = text.parse::<i128>().ok();
        if let Some(number) = number.and_then(|number| I::try_from(number).ok()) {
            return Ok(number);
        }
        let message = if text.starts_with('-') {
            format!("`{}` is too small: {min} is the least", short(text))
        } else {
            format!("`{}` is too large: {max} is the most", short(text))
        };
        Err(Error::problem("out-of-range", message, Some(help)).at(self.node))
    }

    fn float(self) -> Result<f64, Error> {
        let help = "write a number such as `2` or `0.5`";
        let text = self.number("a number", is_number, help)?;
        text.parse().ok().filter(|number: &f64| number.is_finite()).ok_or_else(|| {
            let message = format!("`{}` is too large", short(text));
            Error::problem("out-of-range", message, Some(help.to_owned())).at(self.node)
        })
    }
}

/// Names what a node is, in the words of a YAML file.
fn found(node: &Node) -> String {
    match &node.kind {
        NodeKind::Null { .. } => "nothing".to_owned(),
        NodeKind::Seq(_) => "a list".to_owned(),
        NodeKind::Map(_) => "a mapping".to_owned(),
        NodeKind::Scalar { text, style } => match style {
            Style::Plain if matches!(text.as_str(), "true" | "false") => format!("`{text}`"),
            Style::Plain if is_number(text) => format!("the number `{}`", short(text)),
            Style::Plain => format!("the string `{}`", short(text)),
            Style::Quoted => format!("the string `{}` in quotes", short(text)),
        },
    }
}

/// Shortens a text for a message.
fn short(text: &str) -> Cow<'_, str> {
    const MAX: usize = 60;
    match text.char_indices().nth(MAX) {
        Some((at, _)) => {
            let (start, _) = text.split_at_checked(at).unwrap_or_default();
            format!("{start}...").into()
        }
        None => text.into(),
    }
}

/// Says whether a text is a whole decimal number: no `+`, no leading zeros.
fn is_integer(text: &str) -> bool {
    let digits = text.strip_prefix('-').unwrap_or(text);
    are_digits(digits) && (digits == "0" || !digits.starts_with('0'))
}

/// Says whether a text is a decimal number: `1`, `-0.5`, `2e9`.
fn is_number(text: &str) -> bool {
    let (mantissa, exponent) = match text.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, exponent.strip_prefix(['+', '-']).unwrap_or(exponent)),
        None => (text, "0"),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, "0"));
    is_integer(whole) && are_digits(fraction) && are_digits(exponent)
}

fn are_digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit())
}

/// Guesses the decimal number meant by another way of writing one.
fn decimal(text: &str) -> Option<String> {
    let plain = text.replace('_', "");
    let (sign, digits) = match plain.strip_prefix('-') {
        Some(digits) => ("-", digits),
        None => ("", plain.strip_prefix('+').unwrap_or(&plain)),
    };
    let radix = |radix, digits| u64::from_str_radix(digits, radix).ok();
    let number = match digits.get(..2) {
        Some("0x" | "0X") => radix(16, digits.get(2..)?)?.to_string(),
        Some("0o") => radix(8, digits.get(2..)?)?.to_string(),
        Some("0b") => radix(2, digits.get(2..)?)?.to_string(),
        _ if digits.starts_with('.') => format!("0{digits}"),
        _ if digits.ends_with('.') => format!("{digits}0"),
        // `010` may mean 8 or 10: no guess.
        _ => digits.to_owned(),
    };
    Some(format!("{sign}{number}"))
}

macro_rules! integers {
    ($($method:ident $visit:ident $type:ty),*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
            let number = self.integer(<$type>::MIN.into(), <$type>::MAX.into())?;
            visitor.$visit(number)
        }
    )*};
}

impl<'de> Deserializer<'de> for De<'_> {
    type Error = Error;

    /// Follows YAML 1.2, more strictly: numbers are decimal, only `true` and `false` are that.
    /// What looks like a number and is none, or fits no 64 bits, is a string.
    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match &self.node.kind {
            NodeKind::Null { .. } if self.node.refused => Err(Error::reported()),
            NodeKind::Null { .. } => visitor.visit_unit().map_err(|error: Error| match &*error.0 {
                Reason::Expected { expected, .. } => self.wrong(expected, None),
                _ => error,
            }),
            NodeKind::Seq(nodes) => visitor.visit_seq(Elements::new(self, nodes)),
            NodeKind::Map(entries) => visitor.visit_map(Entries::new(self, entries)),
            NodeKind::Scalar { text, style: Style::Plain } => {
                if text == "true" || text == "false" {
                    return visitor.visit_bool(text == "true");
                }
                if is_integer(text) {
                    if let Ok(number) = text.parse() {
                        return visitor.visit_u64(number);
                    }
                    if let Ok(number) = text.parse() {
                        return visitor.visit_i64(number);
                    }
                } else if is_number(text)
                    && let Ok(number) = text.parse::<f64>()
                    && number.is_finite()
                {
                    return visitor.visit_f64(number);
                }
                visitor.visit_str(text)
            }
            NodeKind::Scalar { text, .. } => visitor.visit_str(text),
        }
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_bool(self.boolean()?)
    }

    integers! {
        deserialize_i8 visit_i8 i8, deserialize_i16 visit_i16 i16,
        deserialize_i32 visit_i32 i32, deserialize_i64 visit_i64 i64,
        deserialize_u8 visit_u8 u8, deserialize_u16 visit_u16 u16,
        deserialize_u32 visit_u32 u32, deserialize_u64 visit_u64 u64
    }

    fn deserialize_f32<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_f64(self.float()?)
    }

    fn deserialize_f64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_f64(self.float()?)
    }

    fn deserialize_char<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_str(self.string()?)
    }

    /// Gives the text of any scalar, plain or quoted, as it is written: `1.10` is `"1.10"`.
    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_str(self.string()?)
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_str(self.string()?)
    }

    fn deserialize_identifier<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_str(self.string()?)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match &self.node.kind {
            NodeKind::Null { text } => {
                if !self.node.refused {
                    let help = match self.name {
                        Some(_) => "write one, or remove the key",
                        None => "write one, or remove the entry",
                    };
                    let message = self.no_value(text);
                    self.context.report(self.node.span, "null-value", &message, Some(help));
                }
                visitor.visit_none()
            }
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_unit<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match &self.node.kind {
            NodeKind::Null { .. } if !self.node.refused => visitor.visit_unit(),
            _ => Err(self.wrong("nothing", Some("remove the value".to_owned()))),
        }
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_unit(visitor)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, name: &'static str, visitor: V) -> Result<V::Value, Error> {
        if name == LOCATED { visitor.visit_seq(LocatedAccess::new(self)) } else { visitor.visit_newtype_struct(self) }
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_seq(Elements::new(self, self.seq()?))
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, length: usize, visitor: V) -> Result<V::Value, Error> {
        let nodes = self.seq()?;
        if nodes.len() != length {
            let message = format!("expected a list of {length} entries, found {}", nodes.len());
            return Err(Error::problem("wrong-type", message, None).at(self.node));
        }
        visitor.visit_seq(Elements::new(self, nodes))
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        length: usize,
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.deserialize_tuple(length, visitor)
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_map(Entries::new(self, self.map()?))
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        let fields = Fields::new(self, self.map()?, fields);
        visitor.visit_map(fields).map_err(|mut error| {
            if let Reason::Missing { node, .. } = &mut *error.0 {
                node.get_or_insert(address(self.node));
            }
            error.at(self.node)
        })
    }

    /// A scalar is the name of a variant; a mapping of one key is a variant with a value.
    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        let (variant, value, span) = match &self.node.kind {
            NodeKind::Scalar { text, .. } => (text, None, self.node.span),
            NodeKind::Map(entries) if let [(key, value)] = entries.as_slice() => (&key.text, Some(value), key.span),
            _ => {
                let expected = format!("one of {}", list(variants));
                return Err(self.wrong(&expected, Some(format!("write {expected}"))));
            }
        };
        if !variants.contains(&variant.as_str()) {
            let mut error = unknown_value(variant, variants);
            if let Reason::Problem { span: place, .. } = &mut *error.0 {
                *place = Some(span);
            }
            return Err(error);
        }
        let value = value.map(|node| De { node, context: self.context, name: Some(variant) });
        visitor.visit_enum(Variant { de: self, name: variant, value })
    }

    fn deserialize_bytes<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_str(self.string()?)
    }

    fn deserialize_byte_buf<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_str(self.string()?)
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_unit()
    }
}

/// Identifies a node while its tree lives.
fn address(node: &Node) -> usize {
    std::ptr::from_ref(node).addr()
}

/// Gives a [`LocatedVisitor`] line, column and length, and then tries the value: `None` with a
/// size hint of 1 means "ask again", with 0 "there is none, and why is reported".
struct LocatedAccess<'a> {
    span: vec::IntoIter<u32>,
    /// The node, and how many findings there were before it; `None` once it has failed.
    value: Option<(De<'a>, usize)>,
}

impl<'a> LocatedAccess<'a> {
    fn new(de: De<'a>) -> Self {
        let mark = de.context.findings.borrow().len();
        Self { value: Some((de, mark)), ..Self::missing(de.node.span) }
    }

    fn missing(span: Span) -> Self {
        Self { span: vec![span.line, span.column, span.length].into_iter(), value: None }
    }
}

impl<'de> SeqAccess<'de> for LocatedAccess<'_> {
    type Error = Error;

    fn next_element_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, Error> {
        if let Some(number) = self.span.next() {
            return seed.deserialize(number.into_deserializer()).map(Some);
        }
        let Some((de, mark)) = self.value else {
            return Ok(None);
        };
        match de.context.attempt(seed, de, mark) {
            Attempt::Value(value) => return Ok(Some(value)),
            Attempt::Again => {}
            Attempt::Failed => self.value = None,
        }
        Ok(None)
    }

    fn size_hint(&self) -> Option<usize> {
        Some(usize::from(self.value.is_some()))
    }
}

/// The entries of a list.
struct Elements<'a> {
    de: De<'a>,
    nodes: slice::Iter<'a, Node>,
}

impl<'a> Elements<'a> {
    fn new(de: De<'a>, nodes: &'a [Node]) -> Self {
        let nodes = nodes.iter();
        Self { de, nodes }
    }
}

impl<'de> SeqAccess<'de> for Elements<'_> {
    type Error = Error;

    fn next_element_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, Error> {
        let Some(node) = self.nodes.next() else {
            return Ok(None);
        };
        let de = De { node, name: None, ..self.de };
        seed.deserialize(de).map(Some).map_err(|error| error.at(node))
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.nodes.len())
    }
}

/// The entries of a mapping whose keys are not known beforehand.
struct Entries<'a> {
    de: De<'a>,
    rest: slice::Iter<'a, (Key, Node)>,
    value: Option<De<'a>>,
}

impl<'a> Entries<'a> {
    fn new(de: De<'a>, entries: &'a [(Key, Node)]) -> Self {
        Self { de, rest: entries.iter(), value: None }
    }
}

impl<'de> MapAccess<'de> for Entries<'_> {
    type Error = Error;

    fn next_key_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, Error> {
        let Some((key, node)) = self.rest.next() else {
            return Ok(None);
        };
        self.value = Some(De { node, name: Some(&key.text), ..self.de });
        // A key is decoded as a plain scalar, so that it can be a number or an enum.
        let node = Node {
            span: key.span,
            kind: NodeKind::Scalar { text: key.text.clone(), style: Style::Plain },
            refused: false,
        };
        let key = De { node: &node, context: self.de.context, name: None };
        seed.deserialize(key).map(Some).map_err(|error| error.at(&node))
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, Error> {
        let Some(de) = self.value.take() else {
            return Err(Error::reported());
        };
        seed.deserialize(de).map_err(|error| error.at(de.node))
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.rest.len())
    }
}

/// The entries of a mapping that becomes a struct. Unknown keys are reported and passed over; in
/// the end come the keys known to be missing.
struct Fields<'a> {
    de: De<'a>,
    known: &'static [&'static str],
    /// The known keys that are not written.
    open: Vec<&'static str>,
    entries: &'a [(Key, Node)],
    rest: slice::Iter<'a, (Key, Node)>,
    missing: vec::IntoIter<&'static str>,
    /// `None` for the value of a missing key.
    value: Option<De<'a>>,
}

impl<'a> Fields<'a> {
    fn new(de: De<'a>, entries: &'a [(Key, Node)], known: &'static [&'static str]) -> Self {
        let from = (address(de.node), "");
        let missing = (de.context.missing.borrow().range(from..))
            .take_while(|(node, _)| *node == from.0)
            .map(|(_, field)| *field)
            .collect::<Vec<_>>();
        let written = |field: &str| entries.iter().any(|(key, _)| key.text == field);
        let open = known.iter().copied().filter(|field| !written(field)).collect();
        Self { de, known, open, entries, rest: entries.iter(), missing: missing.into_iter(), value: None }
    }

    /// Reports a missing key, unless another finding tells of it: its value is wrong, a misspelt
    /// key means it, or keys could not be read.
    fn report_missing(&self, field: &str) {
        let misspelt = |(key, _): &(Key, Node)| {
            !self.known.contains(&key.text.as_str()) && suggest(&key.text, self.open.iter().copied()) == Some(field)
        };
        let written = !self.open.contains(&field);
        if written || self.de.node.refused || self.entries.iter().any(misspelt) {
            return;
        }
        let message = match self.de.name {
            Some(name) => format!("missing key `{field}` in `{}`", short(name)),
            None => format!("missing key `{field}`"),
        };
        let help = format!("add `{field}:` with its value");
        self.de.context.report(self.de.node.span, "missing-key", &message, Some(&help));
    }
}

impl<'de> MapAccess<'de> for Fields<'_> {
    type Error = Error;

    fn next_key_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, Error> {
        for (key, node) in self.rest.by_ref() {
            if self.de.context.skipped(node) {
                continue;
            }
            if self.known.contains(&key.text.as_str()) {
                self.value = Some(De { node, name: Some(&key.text), ..self.de });
                let key: StrDeserializer<'_, Error> = key.text.as_str().into_deserializer();
                return seed.deserialize(key).map(Some);
            }
            let (message, help) = unknown_key(&key.text, self.open.iter().copied(), self.known);
            self.de.context.report(key.span, "unknown-key", &message, Some(&help));
        }
        let Some(field) = self.missing.next() else {
            return Ok(None);
        };
        self.report_missing(field);
        let key: StrDeserializer<'_, Error> = field.into_deserializer();
        seed.deserialize(key).map(Some)
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, Error> {
        let Some(de) = self.value.take() else {
            return seed.deserialize(Missing(self.de.node.span));
        };
        let mark = de.context.findings.borrow().len();
        seed.deserialize(de).map_err(|error| de.context.skip(error, de.node, mark))
    }
}

/// The value of a key that is missing, and reported so. Only a [`Located`] can be had of it.
struct Missing(Span);

impl<'de> Deserializer<'de> for Missing {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Error> {
        Err(Error::reported())
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_none()
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, name: &'static str, visitor: V) -> Result<V::Value, Error> {
        if name == LOCATED {
            visitor.visit_seq(LocatedAccess::missing(self.0))
        } else {
            visitor.visit_newtype_struct(self)
        }
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit
        unit_struct seq tuple tuple_struct map struct enum identifier ignored_any
    }
}

/// A variant of an enum, and the value that goes with it.
struct Variant<'a> {
    de: De<'a>,
    name: &'a str,
    value: Option<De<'a>>,
}

impl<'de> EnumAccess<'de> for Variant<'_> {
    type Error = Error;
    type Variant = Self;

    fn variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<(S::Value, Self), Error> {
        let name: StrDeserializer<'_, Error> = self.name.into_deserializer();
        Ok((seed.deserialize(name)?, self))
    }
}

impl Variant<'_> {
    fn needs_value(&self) -> Error {
        let variant = self.name;
        let message = format!("`{variant}` needs a value");
        let help = format!("write it as a key: `{variant}: ...`");
        Error::problem("wrong-type", message, Some(help)).at(self.de.node)
    }
}

impl<'de> VariantAccess<'de> for Variant<'_> {
    type Error = Error;

    fn unit_variant(self) -> Result<(), Error> {
        if self.value.is_none() {
            return Ok(());
        }
        let variant = self.name;
        let message = format!("`{variant}` is a value here, not a key");
        let help = match self.de.name {
            Some(name) => format!("write `{}: {variant}`", short(name)),
            None => format!("write `{variant}` without `:`"),
        };
        Err(Error::problem("wrong-type", message, Some(help)).at(self.de.node))
    }

    fn newtype_variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<S::Value, Error> {
        let de = self.value.ok_or_else(|| self.needs_value())?;
        seed.deserialize(de).map_err(|error| error.at(de.node))
    }

    fn tuple_variant<V: Visitor<'de>>(self, length: usize, visitor: V) -> Result<V::Value, Error> {
        let de = self.value.ok_or_else(|| self.needs_value())?;
        de.deserialize_tuple(length, visitor)
    }

    fn struct_variant<V: Visitor<'de>>(self, fields: &'static [&'static str], visitor: V) -> Result<V::Value, Error> {
        let de = self.value.ok_or_else(|| self.needs_value())?;
        de.deserialize_struct("", fields, visitor)
    }
}

#[cfg(test)]
mod tests;
