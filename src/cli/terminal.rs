//! What others wrote, made harmless for a terminal.
//!
//! Tenants choose what they print and the hosts that they ask for, committers choose subjects and names, engines and git
//! choose words of errors. None of them may move the cursor, set the title, hide text or turn it around. What would is shown
//! as an escape, such as `\u{1b}`.

use std::{
    borrow::Cow,
    io::{self, Write},
};

use crate::model::finding::is_invisible;

/// The colours that tenantd itself paints with; those of the log's lines are among them. None of them hides anything.
const COLOURS: [&str; 10] = ["0", "1", "2", "3", "31", "32", "33", "34", "35", "36"];

/// A text of several lines for people; `coloured` where tenantd painted parts of it.
pub fn readable(text: &str, coloured: bool) -> Cow<'_, str> {
    if !text.chars().any(is_escaped) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 16);
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let length = if coloured { colour(rest) } else { None };
        let (now, later) = rest.split_at(length.unwrap_or(c.len_utf8()));
        if length.is_some() {
            out.push_str(now);
        } else {
            push(&mut out, c);
        }
        rest = later;
    }
    Cow::Owned(out)
}

/// Whether a character is shown as an escape. Lines end, and tabs stand.
fn is_escaped(c: char) -> bool {
    is_invisible(c) && !matches!(c, '\n' | '\t')
}

fn push(out: &mut String, c: char) {
    if is_escaped(c) { out.extend(c.escape_default()) } else { out.push(c) }
}

/// The length of the colour that a text begins with.
fn colour(text: &str) -> Option<usize> {
    let code = text.strip_prefix("\x1b[")?.split_once('m')?.0;
    COLOURS.contains(&code).then_some(code.len() + 3)
}

/// A stream for people: bytes come in pieces that may end anywhere, and go on escaped.
#[derive(Debug)]
pub struct Readable<W> {
    inner: W,
    /// The beginning of a character whose end has not come yet.
    partial: Vec<u8>,
    /// Whether a carriage return waits for what it belongs to.
    returned: bool,
}

impl<W: Write> Readable<W> {
    pub fn new(inner: W) -> Self {
        Self { inner, partial: Vec::new(), returned: false }
    }

    /// Writes what waited for more.
    ///
    /// # Errors
    /// Nobody reads any more.
    pub fn finish(mut self) -> io::Result<()> {
        let mut out = String::new();
        self.settle_return(&mut out, '\0');
        escape_bytes(&mut out, &self.partial);
        self.inner.write_all(out.as_bytes())?;
        self.inner.flush()
    }

    fn text(&mut self, out: &mut String, text: &str) {
        for c in text.chars() {
            self.settle_return(out, c);
            if c == '\r' {
                self.returned = true;
            } else {
                push(out, c);
            }
        }
    }

    /// A carriage return at the end of a line is part of it. Any other one would write over what stands there.
    fn settle_return(&mut self, out: &mut String, next: char) {
        if std::mem::take(&mut self.returned) && next != '\n' {
            out.push_str("\\r");
        }
    }
}

impl<W: Write> Write for Readable<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut all = std::mem::take(&mut self.partial);
        all.extend_from_slice(bytes);
        let mut out = String::with_capacity(all.len());
        for chunk in all.utf8_chunks() {
            self.text(&mut out, chunk.valid());
            let invalid = chunk.invalid();
            let is_last = chunk_ends(&all, invalid);
            if is_last && std::str::from_utf8(invalid).is_err_and(|error| error.error_len().is_none()) {
                self.partial = invalid.to_vec();
            } else if !invalid.is_empty() {
                self.settle_return(&mut out, '\0');
                escape_bytes(&mut out, invalid);
            }
        }
        self.inner.write_all(out.as_bytes())?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

/// Whether a part of some bytes is their end.
fn chunk_ends(all: &[u8], part: &[u8]) -> bool {
    !part.is_empty() && all.as_ptr_range().end == part.as_ptr_range().end
}

/// Bytes that are no text.
fn escape_bytes(out: &mut String, bytes: &[u8]) {
    bytes.iter().for_each(|byte| out.push_str(&format!("\\x{byte:02x}")));
}

/// Where lines of the log go: standard error, each in one line whatever is in it.
#[derive(Clone, Copy, Debug)]
pub struct LogLines;

impl Write for LogLines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        io::stderr().lock().write_all(log_line(&String::from_utf8_lossy(bytes)).as_bytes())?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

/// A line of the log. A newline in the middle would begin a line that nobody logged.
fn log_line(text: &str) -> String {
    let (line, end) = text.strip_suffix('\n').map_or((text, ""), |line| (line, "\n"));
    readable(line, true).replace('\n', "\\n") + end
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_drives_a_terminal_is_shown_and_not_done() {
        for (text, shown) in [
            ("plain ä 漢 😀\tx\n", "plain ä 漢 😀\tx\n"),
            ("\x1b]0;title\x07", "\\u{1b}]0;title\\u{7}"),
            ("\x1b[2J\x1b[8mhidden", "\\u{1b}[2J\\u{1b}[8mhidden"),
            ("\x1b[31mred\x1b[0m", "\\u{1b}[31mred\\u{1b}[0m"),
            ("a\rb\x08\x7f\0", "a\\rb\\u{8}\\u{7f}\\u{0}"),
            ("\u{9b}31m\u{85}", "\\u{9b}31m\\u{85}"),
            ("\u{202e}evil\u{2066}\u{2069}\u{200f}\u{61c}", "\\u{202e}evil\\u{2066}\\u{2069}\\u{200f}\\u{61c}"),
            ("a\u{200b}\u{200d}\u{2060}\u{feff}\u{ad}b", "a\\u{200b}\\u{200d}\\u{2060}\\u{feff}\\u{ad}b"),
            ("\u{e0041}\u{180e}\u{2028}", "\\u{e0041}\\u{180e}\\u{2028}"),
        ] {
            assert_eq!(readable(text, false), shown);
        }
    }

    #[test]
    fn of_colours_only_those_pass_that_hide_nothing() {
        assert_eq!(readable("\x1b[31mx\x1b[0m", true), "\x1b[31mx\x1b[0m");
        for text in ["\x1b[8mx", "\x1b[30;40mx", "\x1b[38;5;0mx", "\x1b[31;8mx", "\x1b[m", "\x1b[31", "\x1b[", "\x1b"] {
            assert!(!readable(&format!("{text}\r"), true).contains('\x1b'), "{text:?}");
        }
    }

    #[test]
    fn a_log_line_is_one_line() {
        assert_eq!(log_line("\x1b[2ma\x1b[0m b\nerror: c\r\n"), "\x1b[2ma\x1b[0m b\\nerror: c\\r\n");
        assert_eq!(log_line("a\x1b]0;x\x07"), "a\\u{1b}]0;x\\u{7}");
    }

    /// What comes out when these pieces go in.
    fn through(pieces: &[&[u8]]) -> String {
        let mut out = Vec::new();
        let mut stream = Readable::new(&mut out);
        pieces.iter().for_each(|piece| stream.write_all(piece).unwrap());
        stream.finish().unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_stream_is_escaped_wherever_it_is_cut() {
        let text = "ä\r\n50%\r100%\x1b[8m漢\u{202e}\u{9b}".as_bytes();
        let bytes = [text, b"\xff\xe2\x82", b"\rx\r"].concat();
        let whole = "ä\n50%\\r100%\\u{1b}[8m漢\\u{202e}\\u{9b}\\xff\\xe2\\x82\\rx\\r";
        for cut in 0..=bytes.len() {
            let (before, after) = bytes.split_at(cut);
            assert_eq!(through(&[before, after]), whole, "cut at {cut}");
        }
        let single: Vec<&[u8]> = bytes.chunks(1).collect();
        assert_eq!(through(&single), whole);
        // What is no more than a beginning is shown at the end.
        assert_eq!(through(&[b"a\xe2\x82"]), "a\\xe2\\x82");
    }

    proptest! {
        #[test]
        fn nothing_that_is_printed_drives_a_terminal(pieces in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..20), 0..8)) {
            let parts: Vec<&[u8]> = pieces.iter().map(Vec::as_slice).collect();
            let shown = through(&parts);
            prop_assert!(!shown.chars().any(is_escaped), "{shown:?}");
            prop_assert_eq!(&shown, &through(&[&pieces.concat()]));
        }
    }
}
