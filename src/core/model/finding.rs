//! What a person sees about a file: where, what is wrong, what to write instead.

use std::cmp::Ordering;
use std::fmt;

use schemars::JsonSchema;
use serde::Serialize;

use super::shown::shortened;

/// Every rule id that a finding of this reader, or an [`Invalid`](super::Invalid) value,
/// can carry, with one line on what the rule asks. Kept sorted by id.
///
/// Other checks may use ids of their own; an id that travels through serde (in an `Invalid`) must
/// be listed here, else the finding falls back to `invalid-value`.
pub const RULES: &[(&str, &str)] = &[
    ("alias", "aliases (`*name`) are not used"),
    ("anchor", "anchors (`&name`) are not used"),
    ("bad-address", "what listens does so on an address and a port, the daemon on a loopback one"),
    ("bad-commit", "a commit is written as 40 hexadecimal digits"),
    ("bad-destination", "an allowlist entry is `host:port` or `*.domain:port`"),
    ("bad-domain", "tenants have names below a DNS name in lower case, of two labels at least"),
    ("bad-engine", "the engine is reached by a unix socket"),
    ("bad-header", "a credential goes into a header that services read keys from"),
    ("bad-image", "an image is a name with a digest or a tag, or an id"),
    ("bad-key", "a key is one line of text"),
    ("bad-name", "a name has the form of its kind"),
    ("bad-origin", "an origin is a scheme, a host and at most a port, as browsers send it"),
    ("bad-path", "a path is plain, absolute on a host and relative in the repo"),
    ("bad-permit", "a permitted range holds addresses that can be permitted"),
    ("bad-pointer", "a place within an answer is a JSON pointer"),
    ("bad-pool", "the pool is a private range of IPv4 addresses"),
    ("bad-resolver", "a resolver is an address and a port"),
    ("bad-route", "a route is one part between two slashes"),
    ("bad-sealed", "a sealed secret is text that age has encrypted"),
    ("bad-signer", "a signer's key is an SSH public key that can be verified"),
    ("bad-template", "a credential's value names its secrets as `${secret:NAME}`"),
    ("bad-upstream", "an upstream is a public host, reached by https"),
    ("bad-url", "the config repo is a path, or a URL of ssh, https, http or git"),
    ("control-character", "a file holds text only, no control or invisible direction characters"),
    ("duplicate-key", "a key is written once in its mapping"),
    ("empty-file", "a file holds a mapping"),
    ("invalid-value", "a value follows the rules of its key"),
    ("merge-key", "merge keys (`<<`) are not used"),
    ("missing-key", "every required key is written"),
    ("multiple-documents", "a file holds one document"),
    ("not-utf8", "a file is UTF-8 text"),
    ("null-value", "every key that is written has a value"),
    ("out-of-range", "a number lies in the range of its key"),
    ("secret", "none of these files may hold a secret itself"),
    ("syntax", "a file is YAML"),
    ("tag", "tags (`!name`) are not used"),
    ("too-deep", "mappings and lists are nested 16 deep at most"),
    ("too-many-nodes", "a file holds 20000 keys and values at most"),
    ("unknown-key", "only known keys are written"),
    ("unknown-value", "a value is one of the known ones"),
    ("wrong-type", "a value has the type of its key"),
    ("wrong-unit", "an amount has a unit that is known"),
];

/// Returns the listed, `'static` form of a rule id, or `None` for an id that [`RULES`] lacks.
#[must_use]
pub fn rule(id: &str) -> Option<&'static str> {
    RULES.iter().map(|(known, _)| *known).find(|known| *known == id)
}

/// A place in a file. The default (line 0) means "nowhere": a value that came from no file.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, JsonSchema)]
pub struct Span {
    /// The line, counted from 1.
    pub line: u32,
    /// The column in characters (not bytes), counted from 1; a byte order mark does not count.
    pub column: u32,
    /// The length in characters, up to the end of the line; 0 where nothing is written.
    pub length: u32,
}

/// A place in one of the files.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Location {
    /// The file's path in the repo.
    pub file: String,
    /// Where in it.
    #[serde(flatten)]
    pub span: Span,
}

/// How much a finding weighs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// The file is refused.
    Error,
    /// The file is accepted, but its author should look at this.
    Warning,
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Error => "error",
            Self::Warning => "warning",
        })
    }
}

/// One thing wrong (or doubtful) in a file. Findings sort by file, line, column and rule id.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Finding {
    /// The file, as the caller named it.
    pub file: String,
    /// The line, counted from 1.
    pub line: u32,
    /// The column in characters, counted from 1.
    pub column: u32,
    /// The number of characters to underline; 0 where nothing is written.
    pub length: u32,
    /// How much it weighs.
    pub severity: Severity,
    /// The rule, in kebab case: `unknown-key`.
    pub code: &'static str,
    /// What is wrong.
    pub message: String,
    /// What to write instead.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub help: Option<String>,
}

impl Finding {
    /// Makes a finding of severity [`Severity::Error`].
    ///
    /// Control characters in the texts are escaped, so that text quoted from a file cannot drive
    /// the terminal which shows it.
    #[must_use]
    pub fn error(file: &str, span: Span, code: &'static str, message: &str, help: Option<&str>) -> Self {
        Self {
            file: file.to_owned(),
            line: span.line,
            column: span.column,
            length: span.length,
            severity: Severity::Error,
            code,
            message: fitting(message),
            help: help.map(fitting),
        }
    }

    /// Makes a finding of severity [`Severity::Warning`]; else as [`Finding::error`].
    #[must_use]
    pub fn warning(file: &str, span: Span, code: &'static str, message: &str, help: Option<&str>) -> Self {
        Self { severity: Severity::Warning, ..Self::error(file, span, code, message, help) }
    }

    /// Makes an error about a file as a whole.
    pub fn on_file(file: impl AsRef<str>, code: &'static str, message: impl AsRef<str>, help: impl AsRef<str>) -> Self {
        let start = Span { line: 1, column: 1, length: 0 };
        Self::error(file.as_ref(), start, code, message.as_ref(), Some(help.as_ref()))
    }

    /// Returns the place the finding is about.
    #[must_use]
    pub const fn span(&self) -> Span {
        Span { line: self.line, column: self.column, length: self.length }
    }
}

impl Ord for Finding {
    fn cmp(&self, other: &Self) -> Ordering {
        let place = |f: &Self| (f.line, f.column, f.code);
        let rest = |f: &Self| (f.length, f.severity);
        (self.file.cmp(&other.file))
            .then_with(|| place(self).cmp(&place(other)))
            .then_with(|| rest(self).cmp(&rest(other)))
            .then_with(|| self.message.cmp(&other.message))
            .then_with(|| self.help.cmp(&other.help))
    }
}

impl PartialOrd for Finding {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// Shows `file:line:column: error[code]: message`, and the help on a second line.
impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}: {}[{}]: {}", self.file, self.line, self.column, self.severity, self.code, self.message)?;
        match &self.help {
            Some(help) => write!(f, "\n  help: {help}"),
            None => Ok(()),
        }
    }
}

/// Says whether a character is one that a person cannot see but a terminal, an editor or a program obeys:
/// control characters (tab and line breaks among them), line separators, overrides and marks of direction,
/// joiners and spaces without width, tags, a byte order mark.
pub fn is_invisible(c: char) -> bool {
    if c.is_ascii() {
        return c.is_ascii_control();
    }
    c.is_control()
        || matches!(
            c,
            // Soft hyphens, joiners, fillers and marks of direction.
            '\u{AD}' | '\u{34F}' | '\u{61C}' | '\u{115F}' | '\u{1160}' | '\u{17B4}' | '\u{17B5}'
                | '\u{180B}'..='\u{180F}' | '\u{200B}'..='\u{200F}' | '\u{2028}'..='\u{202E}'
                | '\u{2060}'..='\u{206F}' | '\u{3164}' | '\u{FEFF}' | '\u{FFA0}'
                // Selectors of variants, but for the two of common symbols.
                | '\u{FE00}'..='\u{FE0D}' | '\u{E0100}'..='\u{E01EF}'
                // What is no character, and tags, which spell hidden text.
                | '\u{FFF0}'..='\u{FFFB}' | '\u{FFFE}' | '\u{FFFF}' | '\u{1BCA0}'..='\u{1BCA3}'
                | '\u{1D173}'..='\u{1D17A}' | '\u{E0000}'..='\u{E00FF}' | '\u{E01F0}'..='\u{E0FFF}'
        )
}

/// Escapes what [`is_invisible`].
pub fn printable(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if is_invisible(c) {
            out.extend(c.escape_default());
        } else {
            out.push(c);
        }
    }
    out
}

/// The longest text of a finding, in characters: what it quotes may be as long as a file.
const LONGEST: usize = 1_000;

/// A text that fits on a screen, with what [`is_invisible`] escaped.
fn fitting(text: &str) -> String {
    printable(&shortened(text, LONGEST))
}

/// Finds the candidate that a person most likely meant by `word`.
///
/// Case, `-` and `_` are looked past (`api_version` means `apiVersion`); else the nearest
/// candidate by Damerau-Levenshtein distance is returned, if no more than a third of the word
/// (at least one character) is wrong. The first of equally near candidates wins.
#[must_use]
pub fn suggest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let folded = fold(word);
    let length = folded.chars().count();
    let limit = (length / 3).max(1);
    let mut best: Option<(usize, &'a str)> = None;
    for candidate in candidates {
        let other = fold(candidate);
        if other == folded {
            return Some(candidate);
        }
        if length < 2 || other.chars().count().abs_diff(length) > limit {
            continue;
        }
        let distance = strsim::damerau_levenshtein(&folded, &other);
        if distance <= limit && best.is_none_or(|(nearest, _)| distance < nearest) {
            best = Some((distance, candidate));
        }
    }
    best.map(|(_, candidate)| candidate)
}

fn fold(word: &str) -> String {
    word.chars().filter(|c| !matches!(c, '-' | '_')).flat_map(char::to_lowercase).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_candidate_is_suggested() {
        let keys = ["apiVersion", "memoryMax", "cpus", "tenant", "tier", "tiers"];
        for (word, expected) in [
            ("api_version", Some("apiVersion")),
            ("memory-max", Some("memoryMax")),
            ("MEMORYMAX", Some("memoryMax")),
            ("memroyMax", Some("memoryMax")),
            ("cpu", Some("cpus")),
            ("tenat", Some("tenant")),
            ("teir", Some("tier")),
            ("tiers", Some("tiers")),
            ("network", None),
            ("x", None),
            ("", None),
            ("ténant", Some("tenant")),
        ] {
            assert_eq!(suggest(word, keys), expected, "{word}");
        }
    }

    #[test]
    fn findings_sort_by_place_and_rule() {
        let at = |line, column, code| {
            let span = Span { line, column, length: 9 };
            Finding::error("a.yaml", span, code, "z", None)
        };
        let mut findings = [at(2, 1, "tag"), at(1, 9, "tag"), at(1, 9, "anchor")];
        findings.sort();
        let places: Vec<_> = findings.iter().map(|f| (f.line, f.column, f.code)).collect();
        assert_eq!(places, [(1, 9, "anchor"), (1, 9, "tag"), (2, 1, "tag")]);
    }

    #[test]
    fn a_finding_shows_on_one_line_and_cannot_drive_the_terminal() {
        let span = Span { line: 3, column: 7, length: 1 };
        let finding = Finding::error("t.yaml", span, "syntax", "odd \u{1b}[31m", Some("go\non"));
        assert_eq!(finding.to_string(), "t.yaml:3:7: error[syntax]: odd \\u{1b}[31m\n  help: go\\non");
    }

    #[test]
    fn the_rules_are_sorted_and_unique() {
        assert!(RULES.is_sorted_by(|(a, _), (b, _)| a < b), "keep RULES sorted");
        assert_eq!(rule("tag"), Some("tag"));
        assert_eq!(rule("no-such-rule"), None);
    }
}
