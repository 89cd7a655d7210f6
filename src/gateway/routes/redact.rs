//! Takes keys out of what an upstream answers, as it streams by.

use std::ops::Range;

use aho_corasick::{AhoCorasick, AhoCorasickKind, MatchKind};
use hyper::body::Bytes;

/// What stands in the place of a key's characters, if no key holds it itself.
const MASKS: &[u8] = b"*#x-_~.:0Zq";

/// Bytes at which a token ends. What comes after the last of them is held back until it is known to be
/// no key, whatever it is: to hold back only what begins like the key would show a tenant that can have
/// its own words echoed how the key begins.
const ENDS: &[u8] = b" \"'{}<>,";

/// What is looked for. It can be shared.
#[derive(Clone)]
pub(super) struct Keys {
    search: AhoCorasick,
    longest: usize,
    mask: u8,
    ends: [bool; 256],
}

impl Keys {
    /// Looks for these, none of which is empty or holds control characters.
    ///
    /// # Errors
    /// They are too long to be searched for.
    pub(super) fn new(keys: &[Vec<u8>]) -> Result<Self, aho_corasick::BuildError> {
        let search = AhoCorasick::builder()
            .match_kind(MatchKind::Standard)
            .kind(Some(AhoCorasickKind::ContiguousNFA))
            .build(keys)?;
        let holds = |byte: u8| keys.iter().any(|key| key.contains(&byte));
        let mask = MASKS.iter().copied().find(|byte| !holds(*byte)).unwrap_or(0);
        let mut ends = [false; 256];
        for (byte, is_end) in (0..=u8::MAX).zip(&mut ends) {
            *is_end = byte.is_ascii_control() || (ENDS.contains(&byte) && !holds(byte));
        }
        Ok(Self { longest: keys.iter().map(Vec::len).max().unwrap_or(0), search, mask, ends })
    }

    /// Whether any key stands in it.
    pub(super) fn are_in(&self, bytes: &[u8]) -> bool {
        self.search.is_match(bytes)
    }

    /// The same number of bytes with every key, and every piece of overlapping ones, masked. `None`
    /// where there is none.
    pub(super) fn masked(&self, bytes: &[u8]) -> Option<Vec<u8>> {
        let mut masked = None;
        for found in self.found(bytes) {
            let masked = masked.get_or_insert_with(|| bytes.to_vec());
            masked.get_mut(found).unwrap_or_default().fill(self.mask);
        }
        masked
    }

    /// Where keys stand. The quick search comes first: there hardly ever is one.
    fn found(&self, bytes: &[u8]) -> impl Iterator<Item = Range<usize>> {
        let first = self.search.find(bytes);
        first.into_iter().flat_map(move |_| self.search.find_overlapping_iter(bytes)).map(|found| found.range())
    }

    /// Where what must be held back begins.
    fn cut(&self, bytes: &[u8]) -> usize {
        let from = bytes.len().saturating_sub(self.longest.saturating_sub(1));
        let tail = bytes.get(from..).unwrap_or_default();
        let end = tail.iter().rposition(|byte| self.ends.get(usize::from(*byte)).is_some_and(|is_end| *is_end));
        from + end.map_or(0, |end| end + 1)
    }
}

/// One stream. It gives out as many bytes as it takes.
pub(super) struct Redactor {
    keys: Keys,
    /// What is held back, as it came and as it will go.
    raw: Vec<u8>,
    out: Vec<u8>,
}

impl Redactor {
    /// A stream in which these are looked for.
    pub(super) fn new(keys: Keys) -> Self {
        Self { keys, raw: Vec::new(), out: Vec::new() }
    }

    /// Takes more, and returns what can be given out: all but less than the longest key's length.
    pub(super) fn push(&mut self, chunk: Bytes) -> Bytes {
        if self.raw.is_empty() && !self.keys.are_in(&chunk) {
            let cut = self.keys.cut(&chunk);
            self.raw.extend_from_slice(chunk.get(cut..).unwrap_or_default());
            self.out.clone_from(&self.raw);
            return chunk.slice(..cut);
        }
        self.raw.extend_from_slice(&chunk);
        self.out.extend_from_slice(&chunk);
        for found in self.keys.found(&self.raw) {
            self.out.get_mut(found).unwrap_or_default().fill(self.keys.mask);
        }
        let cut = self.keys.cut(&self.raw);
        self.raw.drain(..cut);
        let rest = self.out.split_off(cut);
        Bytes::from(std::mem::replace(&mut self.out, rest))
    }

    /// Gives out the rest: the stream, or a message of it, has ended.
    pub(super) fn finish(&mut self) -> Bytes {
        self.raw.clear();
        Bytes::from(std::mem::take(&mut self.out))
    }
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*, sample::Index};

    use super::*;

    fn run(keys: &[&[u8]], chunks: &[&[u8]]) -> Vec<Vec<u8>> {
        let keys: Vec<Vec<u8>> = keys.iter().map(|key| key.to_vec()).collect();
        let Ok(keys) = Keys::new(&keys) else { return Vec::new() };
        let mut redactor = Redactor::new(keys);
        let mut out: Vec<Vec<u8>> = chunks.iter().map(|c| redactor.push(Bytes::copy_from_slice(c)).to_vec()).collect();
        out.push(redactor.finish().to_vec());
        out
    }

    #[test]
    fn a_key_across_chunks_is_masked() {
        assert_eq!(run(&[b"s3cret"], &[b"a s3", b"cr", b"et b"]).concat(), b"a ****** b");
        assert_eq!(run(&[b"s3cret"], &[b"key=s3cre"]).concat(), b"key=s3cre");
        assert_eq!(run(&[b"abab"], &[b"xababab", b"ab"]).concat(), b"x********");
        assert_eq!(run(&[b"a*b"], &[b"_a*b_"]).concat(), b"_###_");
    }

    #[test]
    fn an_event_is_passed_on_at_once() {
        let out = run(&[b"s3cret-that-is-rather-long"], &[b"data: {\"x\":1}\n\n", b"data: s3c\n\n", b"{\"a\":1}"]);
        assert_eq!(out[0], b"data: {\"x\":1}\n\n");
        assert_eq!(out[1], b"data: s3c\n\n");
        assert_eq!(out[2], b"{\"a\":1}");
    }

    #[test]
    fn what_is_held_back_does_not_tell_how_the_key_begins() {
        let lengths = |echo: &[u8]| run(&[b"s3cret"], &[echo, b"zzzzzz"]).iter().map(Vec::len).collect::<Vec<_>>();
        assert_eq!(lengths(b"echo s3cre"), lengths(b"echo wrong"));
    }

    proptest! {
        /// Small alphabets make keys overlap, repeat and begin within one another.
        #[test]
        fn no_key_gets_through_and_nothing_else_changes(
            keys in vec(vec(prop_oneof![Just(b'a'), Just(b'b'), Just(b'*'), Just(b' '), Just(b'"')], 1..7), 1..4),
            mut body in vec(prop_oneof![Just(b'a'), Just(b'b'), Just(b'*'), Just(b' '), Just(b'\n'), any::<u8>()], 0..300),
            at in vec((any::<Index>(), any::<Index>()), 0..6),
            cuts in vec(any::<Index>(), 0..40),
        ) {
            for (place, key) in &at {
                if !body.is_empty() {
                    let place = place.index(body.len());
                    body.splice(place..place, key.get(&keys).clone());
                }
            }
            let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(body.len() + 1)).collect();
            cuts.sort_unstable();
            let mut chunks = Vec::new();
            let mut from = 0;
            for cut in cuts.into_iter().chain([body.len()]) {
                chunks.push(&body[from..cut]);
                from = cut;
            }
            let texts: Vec<&[u8]> = keys.iter().map(Vec::as_slice).collect();
            let pieces = run(&texts, &chunks);
            let longest = keys.iter().map(Vec::len).max().unwrap_or(0);
            let (mut taken, mut given) = (0, 0);
            for (chunk, piece) in chunks.iter().zip(&pieces) {
                taken += chunk.len();
                given += piece.len();
                prop_assert!(taken - given < longest.max(1));
            }
            let out = pieces.concat();
            prop_assert_eq!(out.len(), body.len());
            let mut inside = vec![false; body.len()];
            for key in &keys {
                prop_assert!(!out.windows(key.len()).any(|window| window == key.as_slice()));
                for at in 0..body.len() {
                    if body[at..].starts_with(key) {
                        inside[at..at + key.len()].fill(true);
                    }
                }
            }
            for at in 0..body.len() {
                prop_assert!(inside[at] || out[at] == body[at]);
            }
        }
    }
}
