//! The names in a folder of tenants' files, as git keeps them, and what differs between two such folders.
//!
//! From one commit to the next a handful of a thousand names changes. What both sides begin and end with is skipped, and
//! nothing is made of names that nobody asks for.

use std::ops::Range;

use git2::Oid;

use super::objects::{BLOCK, Hashed, alike};

/// The bytes of an id.
const ID: usize = 20;

/// What an entry begins with that is a plain file.
const MODES: [&[u8]; 2] = [b"100644 ", b"100755 "];

/// A folder that holds nothing but plain files with names in UTF-8, in the order that git asks for.
pub(super) struct Names {
    bytes: Vec<u8>,
    /// Where each entry begins, and where the last one ends.
    bounds: Vec<usize>,
    /// The hashes of its beginnings.
    pub(super) hashed: Hashed,
}

impl Default for Names {
    fn default() -> Self {
        Self { bytes: Vec::new(), bounds: vec![0], hashed: Hashed::default() }
    }
}

impl Names {
    /// The names in a folder that was read, by what is known of one that is much like it, and where the two differ. `None`
    /// where the folder holds anything else than plain files.
    pub(super) fn after(old: &Self, bytes: Vec<u8>) -> Option<(Self, Middle)> {
        let first = old.entries_within(alike(&old.bytes, &bytes));
        let mut bounds = old.bounds.get(..=first)?.to_vec();
        let mut at = *bounds.last()?;
        let alike_at_end = alike_at_end(old.bytes.get(at..)?, bytes.get(at..)?);
        let mut previous = first.checked_sub(1).and_then(|last| old.name(last));
        let mut rest = old.len();
        while at < bytes.len() {
            // From here on both are the same, if an entry begins here there as well.
            let left = bytes.len() - at;
            if left <= alike_at_end
                && let Ok(found) = old.bounds.binary_search(&(old.bytes.len() - left))
            {
                rest = found;
                break;
            }
            let name = name_of(bytes.get(at..)?)?;
            at += MODES[0].len() + name.len() + 1 + ID;
            if previous.is_some_and(|previous| previous >= name) || at > bytes.len() {
                return None;
            }
            previous = Some(name);
            bounds.push(at);
        }
        if old.name(rest).is_some_and(|next| previous.is_some_and(|previous| previous >= next)) {
            return None;
        }
        let moved = |bound: &usize| bytes.len() - (old.bytes.len() - bound);
        let middle = Middle { old: first..rest, new: first..bounds.len() - 1 };
        bounds.extend(old.bounds.get(rest + 1..).unwrap_or_default().iter().map(moved));
        Some((Self { bytes, bounds, hashed: Hashed::default() }, middle))
    }

    /// The folder as git keeps it.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Where two folders differ at most.
    pub(super) fn middle(old: &Self, new: &Self) -> Middle {
        // Entries within what both begin with are at the same places in both.
        let first = old.entries_within(alike(&old.bytes, &new.bytes));
        let begin = old.bounds.get(first).copied().unwrap_or_default();
        let alike =
            alike_at_end(old.bytes.get(begin..).unwrap_or_default(), new.bytes.get(begin..).unwrap_or_default());
        // Where an entry begins in both, as many bytes before their ends, all that follows is the same.
        let together = (old.entries_within(old.bytes.len() - alike)..=old.len()).find_map(|at| {
            let left = old.bytes.len() - old.bounds.get(at)?;
            let other = new.bounds.binary_search(&new.bytes.len().checked_sub(left)?).ok()?;
            (left <= alike).then_some((at, other))
        });
        let (rest, new_rest) = together.unwrap_or((old.len(), new.len()));
        Middle { old: first..rest, new: first..new_rest }
    }

    /// How many entries end within so many bytes.
    fn entries_within(&self, bytes: usize) -> usize {
        self.bounds.partition_point(|bound| *bound <= bytes).saturating_sub(1)
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.bounds.len() - 1
    }

    fn entry(&self, at: usize) -> Option<&[u8]> {
        self.bytes.get(*self.bounds.get(at)?..*self.bounds.get(at + 1)?)
    }

    fn name(&self, at: usize) -> Option<&str> {
        name_of(self.entry(at)?)
    }

    /// The name at a place, and the file that it has.
    pub(super) fn get(&self, at: usize) -> Option<(&str, Oid)> {
        let entry = self.entry(at)?;
        let id = Oid::from_bytes(entry.get(entry.len() - ID..)?).ok()?;
        Some((name_of(entry)?, id))
    }

    /// The places of the names that are this one, or this one and an ending.
    pub(super) fn places(&self, stem: &str) -> impl Iterator<Item = usize> {
        let from = |text: &str| {
            let (mut low, mut high) = (0, self.len());
            while low < high {
                let middle = low.midpoint(high);
                if self.name(middle).is_some_and(|name| name < text) { low = middle + 1 } else { high = middle }
            }
            low
        };
        let exact = from(stem);
        let is_exact = self.name(exact) == Some(stem);
        let begin = format!("{stem}.");
        let with_ending = from(&begin)..self.len();
        let with_ending = with_ending.take_while(move |at| self.name(*at).is_some_and(|name| name.starts_with(&begin)));
        is_exact.then_some(exact).into_iter().chain(with_ending)
    }
}

/// The places between what two folders begin and end with alike.
pub(super) struct Middle {
    old: Range<usize>,
    new: Range<usize>,
}

/// The names that only one of two folders has, or that have another file or mode there.
pub(super) fn differing<'n>(old: &'n Names, new: &'n Names, middle: Middle) -> Vec<&'n str> {
    let (mut of_old, mut of_new) = (middle.old.peekable(), middle.new.peekable());
    let mut differing = Vec::new();
    loop {
        let one = of_old.peek().and_then(|at| Some((old.name(*at)?, old.entry(*at))));
        let other = of_new.peek().and_then(|at| Some((new.name(*at)?, new.entry(*at))));
        let order = match (one, other) {
            (None, None) => return differing,
            (Some((name, _)), None) => {
                differing.push(name);
                std::cmp::Ordering::Less
            }
            (None, Some((name, _))) => {
                differing.push(name);
                std::cmp::Ordering::Greater
            }
            (Some((one, was)), Some((other, is))) => {
                let order = one.cmp(other);
                if order.is_ne() || was != is {
                    differing.push(one.min(other));
                }
                order
            }
        };
        if order.is_le() {
            of_old.next();
        }
        if order.is_ge() {
            of_new.next();
        }
    }
}

/// The name of the plain file that an entry begins with.
fn name_of(entry: &[u8]) -> Option<&str> {
    let name = MODES.iter().find_map(|mode| entry.strip_prefix(*mode))?;
    let name = name.get(..name.iter().position(|byte| *byte == 0)?)?;
    std::str::from_utf8(name).ok().filter(|name| !name.is_empty())
}

/// How many bytes two texts end with alike.
fn alike_at_end(one: &[u8], other: &[u8]) -> usize {
    let blocks = one.rchunks(BLOCK).zip(other.rchunks(BLOCK)).take_while(|(one, other)| one == other).count();
    let done = (blocks * BLOCK).min(one.len()).min(other.len());
    let left = |text: &'_ [u8]| text.len() - done;
    let rest = one[..left(one)].iter().rev().zip(other[..left(other)].iter().rev());
    done + rest.take_while(|(one, other)| one == other).count()
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::*;

    type Folder = BTreeMap<String, (bool, u8)>;

    fn written(folder: &Folder) -> Vec<u8> {
        let entry = |(name, (is_program, id)): (&String, &(bool, u8))| {
            let mode = if *is_program { "100755" } else { "100644" };
            // Ids in which there may be what looks like the beginning of an entry.
            let mut bytes = [format!("{mode} {name}\0").into_bytes(), b"\x00100644 a".repeat(2)].concat();
            bytes.push(*id);
            bytes.push(0);
            bytes
        };
        folder.iter().flat_map(entry).collect()
    }

    fn names(folder: &Folder) -> Names {
        Names::after(&Names::default(), written(folder)).unwrap().0
    }

    #[test]
    fn what_differs_is_found_whatever_lies_around_it() {
        let mut random = fastrand::Rng::with_seed(3);
        let mut change = |folder: &mut Folder| {
            let name = format!("{}{}", ["a", "b", "a.yaml", "é"][random.usize(..4)], random.u8(..20));
            match random.u8(..4) {
                0 => drop(folder.remove(&name)),
                _ => drop(folder.insert(name, (random.u8(..5) == 0, random.u8(..3)))),
            }
        };
        let mut old = Folder::new();
        for round in 0..4_000 {
            let mut new = if round % 100 == 0 { Folder::new() } else { old.clone() };
            (0..round % 4).for_each(|_| change(&mut new));
            let (was, bytes) = (names(&old), written(&new));
            let (is, middle) = Names::after(&was, bytes.clone()).unwrap();
            assert_eq!((is.bounds.clone(), &is.bytes), (names(&new).bounds, &bytes));
            let all: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
            let expected: Vec<&str> =
                all.into_iter().filter(|name| old.get(*name) != new.get(*name)).map(String::as_str).collect();
            assert_eq!(differing(&was, &is, middle), expected);
            assert_eq!(differing(&was, &is, Names::middle(&was, &is)), expected);
            for stem in ["a", "a1", "b", "", "é3", "a.yaml4"] {
                let found: Vec<&str> = is.places(stem).filter_map(|at| is.name(at)).collect();
                let begin = format!("{stem}.");
                let wanted = new.keys().filter(|name| *name == stem || name.starts_with(&begin));
                assert_eq!(found, wanted.map(String::as_str).collect::<Vec<_>>(), "{stem}");
            }
            old = new;
        }
    }

    #[test]
    fn what_is_no_folder_of_plain_files_is_not_read() {
        let id = "x".repeat(20);
        for wrong in [
            format!("40000 a\0{id}"),
            format!("120000 a\0{id}"),
            format!("100644 \0{id}"),
            format!("100644 a\0{}", &id[1..]),
            format!("100644 b\0{id}100644 a\0{id}"),
            format!("100644 a\0{id}100644 a\0{id}"),
            "100644 a".to_owned(),
        ] {
            assert!(Names::after(&Names::default(), wrong.clone().into_bytes()).is_none(), "{wrong:?}");
        }
        assert!(Names::after(&Names::default(), [b"100644 \xff\0", id.as_bytes()].concat()).is_none());
    }
}
