//! Lists and tables that do not grow without bound, whatever the journal holds, and say what they left out.

use std::collections::{BTreeMap, VecDeque};

use schemars::JsonSchema;
use serde::Serialize;

/// How many single things of one kind are kept.
pub const KEPT: usize = 10_000;

/// The newest of a kind, and how many older ones are left out.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Newest<T> {
    /// How many are left out.
    pub left_out: u64,
    /// The others, oldest first.
    pub kept: VecDeque<T>,
}

impl<T> Default for Newest<T> {
    fn default() -> Self {
        Self { left_out: 0, kept: VecDeque::new() }
    }
}

impl<T> Newest<T> {
    /// Adds one, in place of the oldest where there are too many.
    pub fn push(&mut self, one: T) {
        if self.kept.len() >= KEPT {
            self.kept.pop_front();
            self.left_out = self.left_out.saturating_add(1);
        }
        self.kept.push_back(one);
    }

    /// How many there were.
    pub fn total(&self) -> u64 {
        self.left_out.saturating_add(self.kept.len() as u64)
    }

    /// Takes in those of another list, in the order of a key.
    pub fn merge<K: Ord>(&mut self, other: Self, key: impl Fn(&T) -> K) {
        self.left_out = self.left_out.saturating_add(other.left_out);
        let mut all: Vec<T> = std::mem::take(&mut self.kept).into_iter().chain(other.kept).collect();
        all.sort_by_key(key);
        for one in all {
            self.push(one);
        }
    }
}

/// Something for each key, and what belongs to keys beyond the bound in one.
#[derive(Clone, Debug)]
pub struct Table<K, V> {
    /// By key.
    pub rows: BTreeMap<K, V>,
    /// Of all other keys together.
    pub rest: Option<V>,
}

impl<K, V> Default for Table<K, V> {
    fn default() -> Self {
        Self { rows: BTreeMap::new(), rest: None }
    }
}

impl<K: Ord + Clone, V: Default> Table<K, V> {
    /// What belongs to a key.
    pub fn of(&mut self, key: &K) -> &mut V {
        if self.rows.len() >= KEPT && !self.rows.contains_key(key) {
            return self.rest.get_or_insert_default();
        }
        self.rows.entry(key.clone()).or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_beyond_the_bound_is_counted() {
        let mut newest = Newest::default();
        let mut table: Table<usize, usize> = Table::default();
        for number in 0..KEPT + 5 {
            newest.push(number);
            *table.of(&number) += 1;
        }
        assert_eq!((newest.left_out, newest.total()), (5, KEPT as u64 + 5));
        assert_eq!(newest.kept.front(), Some(&5));
        assert_eq!((table.rows.len(), table.rest), (KEPT, Some(5)));
        let mut other = Newest::default();
        other.push(0);
        newest.merge(other, |number| *number);
        assert_eq!((newest.left_out, newest.total()), (6, KEPT as u64 + 6));
    }
}
