//! Values with the place where they stand.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;
use std::slice;
use std::vec;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde::ser::{Serialize, SerializeMap, Serializer};

use crate::model::finding::{Finding, Span};

/// The newtype name by which the deserializer knows a [`Located`].
pub(super) const LOCATED: &str = "$tenantd::Located";

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

/// The default value of `T`, written in no file (not: no value).
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
