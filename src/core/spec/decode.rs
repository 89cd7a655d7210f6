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
mod context;
mod error;
mod located;
mod scalar;

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::marker::PhantomData;

use serde::de::{DeserializeOwned, Deserializer, Visitor};

use super::yaml::{Node, NodeKind, Style, parse};
use crate::model::finding::Finding;

use access::{Elements, Entries, Fields, LocatedAccess, Variant};
use context::{Attempt, Context, De, address};
use error::{Error, Reason, list, unknown_value};
use located::LOCATED;
pub use located::{Located, LocatedMap};
use scalar::{is_integer, is_number};

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

/// A node as it would be read by somebody who expects nothing of it; what is wrong with it is added to the findings.
pub(super) fn decode_value(file: &str, node: &Node, findings: &mut Vec<Finding>) -> Option<serde_json::Value> {
    decode_node(file, node, findings)
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
