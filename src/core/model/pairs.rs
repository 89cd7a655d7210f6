//! A small map of text to text.

use std::{fmt, slice, vec};

use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{MapAccess, Visitor},
};

/// Names and their values, sorted by name, each name once.
///
/// Labels, options and the like: two or three entries, some of them in each of the many thousand
/// objects of one observation of an engine. A `BTreeMap` takes half a KiB for that, this only what is in it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pairs(Vec<(String, String)>);

impl Pairs {
    /// The value of a name.
    pub fn get(&self, name: &str) -> Option<&String> {
        self.find(name).ok().and_then(|place| self.0.get(place)).map(|(_, value)| value)
    }

    /// Sets the value of a name.
    pub fn insert(&mut self, name: String, value: String) {
        match self.find(&name) {
            Ok(place) => self.0[place].1 = value,
            Err(place) => self.0.insert(place, (name, value)),
        }
    }

    /// Removes a name and its value.
    pub fn remove(&mut self, name: &str) {
        if let Ok(place) = self.find(name) {
            self.0.remove(place);
        }
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// All names, in their order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|(name, _)| name.as_str())
    }

    /// All names and values, in the order of the names.
    pub fn iter(&self) -> slice::Iter<'_, (String, String)> {
        self.0.iter()
    }

    fn find(&self, name: &str) -> Result<usize, usize> {
        self.0.binary_search_by(|(other, _)| other.as_str().cmp(name))
    }
}

/// Of several values of one name the last counts.
impl FromIterator<(String, String)> for Pairs {
    fn from_iter<I: IntoIterator<Item = (String, String)>>(pairs: I) -> Self {
        let mut pairs: Vec<_> = pairs.into_iter().collect();
        pairs.sort_by(|a, b| a.0.cmp(&b.0));
        pairs.dedup_by(|later, kept| {
            let same = later.0 == kept.0;
            if same {
                std::mem::swap(later, kept);
            }
            same
        });
        pairs.shrink_to_fit();
        Self(pairs)
    }
}

impl<const N: usize> From<[(String, String); N]> for Pairs {
    fn from(pairs: [(String, String); N]) -> Self {
        pairs.into_iter().collect()
    }
}

impl Extend<(String, String)> for Pairs {
    fn extend<I: IntoIterator<Item = (String, String)>>(&mut self, pairs: I) {
        for (name, value) in pairs {
            self.insert(name, value);
        }
    }
}

impl IntoIterator for Pairs {
    type Item = (String, String);
    type IntoIter = vec::IntoIter<(String, String)>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

impl<'a> IntoIterator for &'a Pairs {
    type Item = &'a (String, String);
    type IntoIter = slice::Iter<'a, (String, String)>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl Serialize for Pairs {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.iter().map(|(name, value)| (name, value)))
    }
}

impl<'de> Deserialize<'de> for Pairs {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;

        impl<'de> Visitor<'de> for Reader {
            type Value = Pairs;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a map of text to text")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Pairs, A::Error> {
                std::iter::from_fn(|| map.next_entry().transpose()).collect()
            }
        }

        deserializer.deserialize_map(Reader)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_are_sorted_and_of_one_name_the_last_counts() -> serde_json::Result<()> {
        let pairs: Pairs = serde_json::from_str(r#"{"b": "1", "a": "2", "b": "3", "c": "4", "b": "5"}"#)?;
        assert_eq!(serde_json::to_string(&pairs)?, r#"{"a":"2","b":"5","c":"4"}"#);
        Ok(())
    }

    #[test]
    fn an_entry_is_set_in_its_place_and_removed() {
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let mut pairs = Pairs::from([pair("b", "1"), pair("d", "2")]);
        pairs.extend([pair("c", "3"), pair("b", "4")]);
        pairs.remove("d");
        pairs.remove("e");
        assert_eq!(pairs, Pairs::from([pair("b", "4"), pair("c", "3")]));
        assert_eq!(pairs.get("c"), Some(&"3".to_owned()));
        assert_eq!(pairs.get("d"), None);
    }
}
