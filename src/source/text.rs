//! Text of others: what people wrote into commits, in whatever encoding, and what programs say.

use encoding_rs::{Encoding, UTF_8, WINDOWS_1252};

use crate::model::finding::is_invisible;

/// Text as a commit's header `encoding` says that it is encoded, which git goes by as well. Without one it is UTF-8, and what is none is
/// taken for ISO-8859-1: so wrote most programs that named no encoding.
pub(super) fn decode(bytes: &[u8], encoding: Option<&str>) -> String {
    let named = encoding.and_then(|label| Encoding::for_label(label.trim().as_bytes()));
    // In one that is not, what looks like a name to git would be another here.
    let named = named.filter(|encoding| encoding.is_ascii_compatible() && *encoding != UTF_8);
    match (named, std::str::from_utf8(bytes)) {
        (Some(encoding), _) => encoding.decode_without_bom_handling(bytes).0.into_owned(),
        (None, Ok(text)) => text.to_owned(),
        (None, Err(_)) => WINDOWS_1252.decode_without_bom_handling(bytes).0.into_owned(),
    }
}

/// The encoding that a commit's header names.
pub(super) fn encoding_of(commit: &[u8]) -> Option<&str> {
    let headers = commit.split(|byte| *byte == b'\n').take_while(|line| !line.is_empty());
    let named = headers.filter_map(|line| line.strip_prefix(b"encoding ")).next()?;
    std::str::from_utf8(named).ok()
}

/// A text of someone else's in one short line, with what drives a terminal escaped.
pub(super) fn plain(text: &str) -> String {
    const LONGEST: usize = 300;
    let mut out = String::new();
    for (count, c) in text.chars().enumerate() {
        if count == LONGEST {
            out.push('…');
            break;
        }
        if is_invisible(c) { out.extend(c.escape_default()) } else { out.push(c) }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_read_as_its_commit_says() {
        for (bytes, encoding, text) in [
            (&b"Bj\xf6rn"[..], Some("ISO-8859-1"), "Björn"),
            (b"Bj\xf6rn", Some("latin1"), "Björn"),
            (b"Bj\xf6rn", None, "Björn"),
            (b"\xa4", Some("ISO-8859-15"), "€"),
            (b"\xe9\xd7\xc1\xce", Some("KOI8-R"), "Иван"),
            (b"\xa4\xb3", Some("EUC-JP"), "こ"),
            ("Björn".as_bytes(), None, "Björn"),
            ("Björn".as_bytes(), Some("UTF-8"), "Björn"),
            (b"Bj\xf6rn", Some("UTF-8"), "Björn"),
            (b"Bj\xf6rn", Some("no-such-encoding"), "Björn"),
            // A name in one that is not like ASCII is not made into another.
            (b"Ada", Some("UTF-16LE"), "Ada"),
            (b"Ada", Some("ISO-2022-JP"), "Ada"),
        ] {
            assert_eq!(decode(bytes, encoding), text, "{encoding:?}");
        }
    }

    #[test]
    fn the_encoding_stands_in_the_headers_alone() {
        assert_eq!(encoding_of(b"tree 0\nauthor a\nencoding ISO-8859-1\n\nencoding x\n"), Some("ISO-8859-1"));
        assert_eq!(encoding_of(b"tree 0\ngpgsig a\n encoding y\n\nencoding x\n"), None);
    }
}
