//! The inside of lists, mappings and enums, entry by entry.

use std::slice;
use std::vec;

use serde::de::value::StrDeserializer;
use serde::de::{
    DeserializeSeed, Deserializer, EnumAccess, IntoDeserializer, MapAccess, SeqAccess, VariantAccess, Visitor,
};

use super::super::yaml::{Key, Node, NodeKind, Style};
use super::context::{Attempt, De, address};
use super::error::{Error, unknown_key};
use super::located::LOCATED;
use super::scalar::short;
use crate::model::finding::{Span, suggest};

/// Gives a [`LocatedVisitor`] line, column and length, and then tries the value: `None` with a
/// size hint of 1 means "ask again", with 0 "there is none, and why is reported".
pub(super) struct LocatedAccess<'a> {
    span: vec::IntoIter<u32>,
    /// The node, and how many findings there were before it; `None` once it has failed.
    value: Option<(De<'a>, usize)>,
}

impl<'a> LocatedAccess<'a> {
    pub(super) fn new(de: De<'a>) -> Self {
        let mark = de.context.findings.borrow().len();
        Self { value: Some((de, mark)), ..Self::missing(de.node.span) }
    }

    pub(super) fn missing(span: Span) -> Self {
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
pub(super) struct Elements<'a> {
    de: De<'a>,
    nodes: slice::Iter<'a, Node>,
}

impl<'a> Elements<'a> {
    pub(super) fn new(de: De<'a>, nodes: &'a [Node]) -> Self {
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
pub(super) struct Entries<'a> {
    de: De<'a>,
    rest: slice::Iter<'a, (Key, Node)>,
    value: Option<De<'a>>,
}

impl<'a> Entries<'a> {
    pub(super) fn new(de: De<'a>, entries: &'a [(Key, Node)]) -> Self {
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
pub(super) struct Fields<'a> {
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
    pub(super) fn new(de: De<'a>, entries: &'a [(Key, Node)], known: &'static [&'static str]) -> Self {
        let from = (address(de.node), "");
        let missing = (de.context.missing.borrow().range(from..))
            .take_while(|(node, _)| *node == from.0)
            .map(|(_, field)| *field)
            .collect::<Vec<_>>();
        let written = |field: &str| entries.iter().any(|(key, _)| key.text == field);
        let open = known.iter().copied().filter(|field| !written(field)).collect();
        Self { de, known, open, entries, rest: entries.iter(), missing: missing.into_iter(), value: None }
    }

    /// Reports a missing key, unless another finding reports it: its value is wrong, a misspelt
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
pub(super) struct Missing(pub(super) Span);

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
pub(super) struct Variant<'a> {
    pub(super) de: De<'a>,
    pub(super) name: &'a str,
    pub(super) value: Option<De<'a>>,
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
