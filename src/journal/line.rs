//! One line of the journal: a record, the hash of the one before it, and its own.
//!
//! `{"v":1,"seq":7,…,"prev":"<64 hex>","hash":"<64 hex>"}`. The hash is SHA-256 over the line's bytes
//! up to, and without, `,"hash":"`. How a line ends is the same in every version of the format, so
//! that the chain of a newer journal can be distinguished from damage.

use std::{borrow::Cow, fmt, io::Write, str::FromStr};

use jiff::Timestamp;
use serde::Deserialize;

use crate::model::{
    Entry,
    files::digest,
    record::{FieldChange, RECORD_VERSION},
};

/// The longest line, in bytes, without its newline. A longer one is not read.
pub(super) const MAX_LINE: usize = 1 << 20;

/// What a line may hold beside its entry: number, time, two hashes.
const ENVELOPE: usize = 512;

/// What stands for the hash before the first record of all.
const GENESIS: &str = "0000000000000000000000000000000000000000000000000000000000000000";

const PREV: &[u8] = b",\"prev\":\"";
const HASH: &[u8] = b",\"hash\":\"";
const HEX: usize = 64;

/// A record's number and hash, and which record the journal began with then. Kept elsewhere, it shows later whether the
/// journal was cut off, at its end or at its beginning.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Anchor {
    /// The first record that was there, where that is known.
    pub first: Option<u64>,
    /// The record's number; 0 before the first record of all.
    pub seq: u64,
    /// Its hash, 64 hexadecimal digits.
    pub hash: String,
}

impl Anchor {
    /// What the first record of all follows.
    pub(super) fn genesis() -> Self {
        Self { first: None, seq: 0, hash: GENESIS.to_owned() }
    }

    pub(super) fn is_genesis(&self) -> bool {
        self.seq == 0 && self.hash == GENESIS
    }

    /// The number of the record after.
    pub(super) fn next(&self) -> u64 {
        self.seq.saturating_add(1)
    }

    /// Whether a record with this number and hash before it comes right after.
    pub(super) fn is_followed_by(&self, seq: u64, prev: &str) -> bool {
        self.next() == seq && self.hash == prev
    }
}

/// Shows `FIRST..SEQ:HASH`, or `SEQ:HASH`.
impl fmt::Display for Anchor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(first) = self.first {
            write!(f, "{first}..")?;
        }
        write!(f, "{}:{}", self.seq, self.hash)
    }
}

/// The text is neither `FIRST..SEQ:HASH` nor `SEQ:HASH`.
#[derive(Debug, thiserror::Error)]
#[error(
    "{0:?} is not an anchor; one is FIRST..SEQ:HASH, two numbers of records and 64 hexadecimal digits, or SEQ:HASH"
)]
pub struct NotAnAnchor(String);

impl FromStr for Anchor {
    type Err = NotAnAnchor;

    fn from_str(text: &str) -> Result<Self, NotAnAnchor> {
        let wrong = || NotAnAnchor(text.to_owned());
        let (records, hash) = text.trim().split_once(':').ok_or_else(wrong)?;
        let number = |text: &str| text.parse::<u64>().ok().filter(|number| *number > 0).ok_or_else(wrong);
        let (first, seq) = match records.split_once("..") {
            Some((first, seq)) => (Some(number(first)?), number(seq)?),
            None => (None, number(records)?),
        };
        if first.is_some_and(|first| first > seq) || !is_hash(hash.as_bytes()) {
            return Err(wrong());
        }
        Ok(Self { first, seq, hash: hash.to_owned() })
    }
}

/// An entry in the form that a line takes in, without the braces around it.
#[derive(Debug)]
pub(super) struct Body(Vec<u8>);

impl Body {
    /// Brings an entry into its form. One that is too long for a line goes without its fields, and
    /// says so.
    ///
    /// # Errors
    /// It is too long without them as well; the error is its length in bytes.
    pub(super) fn new(entry: &Entry) -> Result<Self, usize> {
        let limit = MAX_LINE - ENVELOPE;
        let bytes = inner(entry);
        if bytes.len() <= limit {
            return Ok(Self(bytes));
        }
        let shortened = without_fields(entry, bytes.len()).map(|entry| inner(&entry));
        shortened.filter(|short| short.len() <= limit).map(Self).ok_or(bytes.len())
    }

    /// In bytes.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }
}

fn inner(entry: &Entry) -> Vec<u8> {
    // An entry holds nothing that JSON cannot express.
    let json = serde_json::to_vec(entry).unwrap_or_default();
    json.strip_prefix(b"{").and_then(|json| json.strip_suffix(b"}")).unwrap_or_default().to_vec()
}

fn without_fields(entry: &Entry, bytes: usize) -> Option<Entry> {
    let mut entry = entry.clone();
    let fields = match &mut entry {
        Entry::Intent(step) => &mut step.fields,
        Entry::Drift(drift) => &mut drift.fields,
        _ => return None,
    };
    let note = format!("{} attributes are left out, a record of {bytes} bytes would be too long", fields.len());
    *fields = vec![FieldChange { name: "…".to_owned(), before: note.clone().into(), after: note.into() }];
    Some(entry)
}

/// Adds a line to `out`, with its newline, and returns the new head of the chain.
pub(super) fn write(out: &mut Vec<u8>, head: &Anchor, time: Timestamp, body: &Body) -> Anchor {
    let begin = out.len();
    let seq = head.next();
    // Writing to memory does not fail.
    let _ = write!(out, "{{\"v\":{RECORD_VERSION},\"seq\":{seq},\"time\":\"{time}\",");
    out.extend_from_slice(&body.0);
    let _ = write!(out, ",\"prev\":\"{}\"", head.hash);
    let hash = digest(out.get(begin..).unwrap_or_default());
    let _ = writeln!(out, ",\"hash\":\"{hash}\"}}");
    Anchor { first: None, seq, hash }
}

/// What every line says, whatever its entry.
#[derive(Debug)]
pub(super) struct Line<'a> {
    pub seq: u64,
    pub time: Option<Timestamp>,
    pub kind: Cow<'a, str>,
    pub prev: &'a str,
    pub hash: &'a str,
}

impl Line<'_> {
    pub(super) fn anchor(&self) -> Anchor {
        Anchor { first: None, seq: self.seq, hash: self.hash.to_owned() }
    }
}

/// Why a line is none of the journal's.
#[derive(Debug, thiserror::Error)]
pub(super) enum LineError {
    #[error("it does not end as a record does")]
    Shape,
    #[error("its hash does not match its bytes")]
    Hash,
    #[error("it is not a record")]
    Json(#[source] serde_json::Error),
    #[error("it is of version {0}, and only versions up to {RECORD_VERSION} can be read")]
    Newer(u32),
}

#[derive(Deserialize)]
struct Header<'a> {
    v: u32,
    #[serde(default)]
    seq: u64,
    time: Option<Timestamp>,
    #[serde(default, borrow, rename = "type")]
    kind: Cow<'a, str>,
}

/// Reads a line, given without its newline, and checks it against its own hash.
pub(super) fn parse(line: &[u8]) -> Result<Line<'_>, LineError> {
    let (hashed, prev, hash) = split(line).ok_or(LineError::Shape)?;
    if digest(hashed) != hash {
        return Err(LineError::Hash);
    }
    let header: Header<'_> = serde_json::from_slice(line).map_err(LineError::Json)?;
    if header.v > RECORD_VERSION {
        return Err(LineError::Newer(header.v));
    }
    Ok(Line { seq: header.seq, time: header.time, kind: header.kind, prev, hash })
}

/// The bytes that the hash covers, the hash of the record before, and the hash.
fn split(line: &[u8]) -> Option<(&[u8], &str, &str)> {
    let (rest, hash) = hash_at_end(line.strip_suffix(b"\"}")?)?;
    let hashed = rest.strip_suffix(HASH)?;
    let (rest, prev) = hash_at_end(hashed.strip_suffix(b"\"")?)?;
    rest.strip_suffix(PREV)?;
    Some((hashed, prev, hash))
}

fn hash_at_end(bytes: &[u8]) -> Option<(&[u8], &str)> {
    let (rest, hash) = bytes.split_at_checked(bytes.len().checked_sub(HEX)?)?;
    is_hash(hash).then(|| std::str::from_utf8(hash).ok()).flatten().map(|hash| (rest, hash))
}

fn is_hash(text: &[u8]) -> bool {
    text.len() == HEX && text.iter().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{
        model::Record,
        tests::{step, stopped},
    };

    fn one(entry: &Entry) -> Vec<u8> {
        let mut out = Vec::new();
        let body = Body::new(entry).unwrap_or_else(|bytes| panic!("{bytes} bytes"));
        write(&mut out, &Anchor::genesis(), Timestamp::UNIX_EPOCH, &body);
        out
    }

    #[test]
    fn a_line_has_this_form() {
        let line = String::from_utf8(one(&stopped("daemon"))).unwrap_or_default();
        let hashed = format!(
            r#"{{"v":1,"seq":1,"time":"1970-01-01T00:00:00Z","type":"stopped","program":"daemon","prev":"{GENESIS}""#
        );
        assert_eq!(line, format!("{hashed},\"hash\":\"{}\"}}\n", digest(hashed.as_bytes())));
        assert_eq!(digest(b"abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    }

    #[test]
    fn a_line_is_read_as_it_was_written() -> Result<(), serde_json::Error> {
        let entry = Entry::Intent(step("ant"));
        let record: Record = serde_json::from_slice(&one(&entry))?;
        assert_eq!(record, Record { v: RECORD_VERSION, seq: 1, time: Timestamp::UNIX_EPOCH, entry });
        Ok(())
    }

    #[test]
    fn fields_that_are_too_long_are_left_out_and_said_to_be() -> Result<(), serde_json::Error> {
        let mut long = step("ant");
        let field =
            |after: String| FieldChange { name: "environment".to_owned(), before: json!(null), after: json!(after) };
        long.fields = vec![field("x".repeat(MAX_LINE)), field(String::new())];
        let record: Record = serde_json::from_slice(&one(&Entry::Intent(long.clone())))?;
        let Entry::Intent(kept) = record.entry else { panic!("{record:?}") };
        assert_eq!(kept.tenant, "ant");
        let note = kept.fields[0].after.as_str().unwrap_or_default();
        assert!(note.starts_with("2 attributes are left out"), "{note}");

        long.step = "x".repeat(MAX_LINE);
        assert!(Body::new(&Entry::Intent(long)).is_err_and(|bytes| bytes > 2 * MAX_LINE));
        assert!(Body::new(&stopped(&"x".repeat(MAX_LINE - ENVELOPE))).is_err());
        Ok(())
    }

    #[test]
    fn an_anchor_is_a_number_and_a_hash() -> Result<(), NotAnAnchor> {
        let text = format!("12:{}", digest(b""));
        for (begin, first) in [("", None), ("1..", Some(1)), ("12..", Some(12))] {
            let text = format!("{begin}{text}");
            let anchor = text.parse::<Anchor>()?;
            assert_eq!((anchor.to_string(), anchor.first, anchor.seq), (text, first, 12));
        }
        for wrong in [
            "",
            "12",
            ":",
            "12:abc",
            "x:0",
            &format!("0:{GENESIS}"),
            &format!("-1:{GENESIS}"),
            &text.to_uppercase(),
            &format!("{text}0"),
            &format!("0..{text}"),
            &format!("13..{text}"),
            &format!("..{text}"),
            &format!("1..2..{text}"),
        ] {
            assert!(wrong.parse::<Anchor>().is_err(), "{wrong}");
        }
        Ok(())
    }
}
