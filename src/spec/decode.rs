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

mod access;
mod error;
mod located;
mod scalar;

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::marker::PhantomData;

use serde::de::{DeserializeOwned, DeserializeSeed, Deserializer, Visitor};

use super::yaml::{Key, Node, NodeKind, Style, parse};
use crate::model::finding::{Finding, Span};

use access::{Elements, Entries, Fields, LocatedAccess, Variant, address};
use error::{Error, Reason, list, unknown_value};
use located::LOCATED;
pub use located::{Located, LocatedMap};
use scalar::{decimal, found, is_integer, is_number, short};

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

/// Decodes a node, adds what is wrong to the findings and sorts them.
fn decode_node<T: DeserializeOwned>(file: &str, node: &Node, findings: &mut Vec<Finding>) -> Option<T> {
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

#[cfg(test)]
mod tests;
