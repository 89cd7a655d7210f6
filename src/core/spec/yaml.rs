//! Reads the text of a YAML file into nodes that know where they stand.
//!
//! What is read is a plain part of YAML 1.2: one document of mappings, lists and scalars. Anchors,
//! aliases, tags and merge keys are refused, each with a finding, so that a file says what it says
//! in one place and cannot grow when it is read. The tree is built from the events of
//! [`granit_parser`] with a stack of its own, never by recursion.

use std::borrow::Cow;
use std::collections::BTreeMap;

use granit_parser::{ErrorKind, Event, Marker, Parser, ScalarStyle, ScanError, StructureStyle};

use crate::model::finding::{Finding, Span, is_invisible};

/// How deep mappings and lists may be nested.
pub const MAX_DEPTH: usize = 16;
/// How many nodes (mappings, lists, scalars; keys count too) a file may hold.
pub const MAX_NODES: usize = 20_000;
/// After how many control characters the rest of them is no longer reported one by one.
const MAX_CONTROL_CHARACTERS: usize = 20;

/// One node of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// Where it stands. A block mapping or list stands where its first entry does; a value that
    /// is not written stands at its key.
    pub span: Span,
    /// What it is.
    pub kind: NodeKind,
    /// A part of it was refused and reported when it was read: for `Null` the whole node, for a
    /// mapping some keys. That it lacks something is then no further error.
    pub refused: bool,
}

/// What a [`Node`] is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NodeKind {
    /// No value.
    Null {
        /// What is written, such as `~` or `null`; empty where nothing is.
        text: String,
    },
    /// A single value.
    Scalar {
        /// The text: as written if plain, unescaped if quoted.
        text: String,
        /// How it is written.
        style: Style,
    },
    /// A list.
    Seq(Vec<Node>),
    /// A mapping, in the order of the file, no key twice.
    Map(Vec<(Key, Node)>),
}

/// How a scalar is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    /// Without quotes: it may be a number, `true` or `false`, or text.
    Plain,
    /// In quotes or as a block (`|`, `>`): it is always text.
    Quoted,
}

/// A key of a mapping.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Key {
    /// Where it stands.
    pub span: Span,
    /// Its text, unescaped.
    pub text: String,
}

impl Node {
    const fn is_nothing(&self) -> bool {
        matches!(self.kind, NodeKind::Null { .. }) && !self.refused
    }

    const fn refused(span: Span) -> Self {
        let kind = NodeKind::Null { text: String::new() };
        Self { span, kind, refused: true }
    }
}

/// Reads a file: the node at its root, and everything wrong with it, sorted.
///
/// `file` is the name that findings carry. The root is `None` if there is none that could be
/// looked into further: the file is empty, no YAML (nothing after a syntax error is read), or too
/// large. With a root there can still be findings. The caller limits the size of `bytes`.
#[must_use]
pub fn parse(file: &str, bytes: &[u8]) -> (Option<Node>, Vec<Finding>) {
    let mut findings = Vec::new();
    let root = text_of(file, bytes, &mut findings).and_then(|text| {
        let text = without_control_characters(file, &text, &mut findings);
        let mut builder = Builder::new(file, &text, &mut findings);
        builder.run();
        builder.root.filter(|root| builder.whole && !root.is_nothing())
    });
    findings.sort();
    findings.dedup();
    (root, findings)
}

/// Decodes UTF-8 and takes the byte order mark away; `None` if the bytes are no text at all.
pub(super) fn text_of<'a>(file: &str, bytes: &'a [u8], findings: &mut Vec<Finding>) -> Option<Cow<'a, str>> {
    let bytes = bytes.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(bytes);
    let error = match std::str::from_utf8(bytes) {
        Ok(text) => return Some(Cow::Borrowed(text)),
        Err(error) => error,
    };
    let (good, bad) = bytes.split_at_checked(error.valid_up_to()).unwrap_or_default();
    let utf16 = bytes.starts_with(b"\xFF\xFE") || bytes.starts_with(b"\xFE\xFF");
    let message = format!("the byte 0x{:02X} is not part of UTF-8 text", bad.first().copied().unwrap_or_default());
    let help = if utf16 { "the file seems to be UTF-16: save it as UTF-8" } else { "save the file as UTF-8" };
    let span = position(&String::from_utf8_lossy(good));
    findings.push(Finding::error(file, span, "not-utf8", &message, Some(help)));
    // Text in another encoding is read on, with every foreign character replaced.
    (!utf16 && !bytes.contains(&0)).then(|| String::from_utf8_lossy(bytes))
}

/// Returns the place (of length 1) that follows a text.
fn position(before: &str) -> Span {
    let mut span = Span { line: 1, column: 1, length: 1 };
    let mut previous = ' ';
    for c in before.chars() {
        match c {
            '\n' if previous == '\r' => {}
            '\n' | '\r' => {
                span.line = span.line.saturating_add(1);
                span.column = 1;
            }
            _ => span.column = span.column.saturating_add(1),
        }
        previous = c;
    }
    span
}

/// Reports characters that a person cannot see, and replaces each by one that YAML accepts.
fn without_control_characters<'a>(file: &str, text: &'a str, findings: &mut Vec<Finding>) -> Cow<'a, str> {
    let bad = |c: char| is_invisible(c) && !matches!(c, '\t' | '\n' | '\r');
    if !text.contains(bad) {
        return Cow::Borrowed(text);
    }
    for (found, (at, c)) in text.char_indices().filter(|(_, c)| bad(*c)).enumerate() {
        let (before, _) = text.split_at_checked(at).unwrap_or_default();
        let (what, help) = match c {
            '\0' => ("a NUL character", "remove it"),
            '\u{FEFF}' => ("a byte order mark after the start", "remove it"),
            '\u{2028}' | '\u{2029}' | '\u{85}' => ("a Unicode line break", "use a plain line break"),
            '\u{202A}'..='\u{202E}' | '\u{2066}'..='\u{2069}' => (
                "an invisible character that changes the direction of text",
                "remove it, or write it as an escape in double quotes",
            ),
            _ if c.is_control() => ("a control character", "remove it, or write it as an escape in double quotes"),
            _ => ("an invisible character", "remove it, or write it as an escape in double quotes"),
        };
        let message = if found + 1 == MAX_CONTROL_CHARACTERS {
            "more control characters; the rest of them is not listed".to_owned()
        } else {
            format!("{what} (U+{:04X})", u32::from(c))
        };
        findings.push(Finding::error(file, position(before), "control-character", &message, Some(help)));
        if found + 1 == MAX_CONTROL_CHARACTERS {
            break;
        }
    }
    Cow::Owned(text.replace(bad, "\u{FFFD}"))
}

/// A mapping or list that is being read.
struct Open {
    start: granit_parser::Span,
    flow: bool,
    refused: bool,
    items: Items,
}

enum Items {
    Seq(Vec<Node>),
    Map {
        entries: Vec<(Key, Node)>,
        /// The key that waits for its value.
        pending: Option<Pending>,
        /// The line of each key.
        lines: BTreeMap<String, u32>,
    },
}

enum Pending {
    Keep(Key),
    /// The key was refused: its value is read and dropped.
    Drop,
    /// As `Drop`; an alias as the value goes without a finding of its own.
    DropMerge,
}

struct Builder<'a> {
    file: &'a str,
    text: &'a str,
    findings: &'a mut Vec<Finding>,
    stack: Vec<Open>,
    root: Option<Node>,
    /// The document was read to its end.
    whole: bool,
    nodes: usize,
    /// How many collections below the depth limit are open.
    skipping: usize,
    skipped: Span,
    deep: bool,
    /// The lines of the scalar that was read last.
    last_scalar: (usize, usize),
}

impl<'a> Builder<'a> {
    fn new(file: &'a str, text: &'a str, findings: &'a mut Vec<Finding>) -> Self {
        Self {
            file,
            text,
            findings,
            stack: Vec::new(),
            root: None,
            whole: false,
            nodes: 0,
            skipping: 0,
            skipped: Span::default(),
            deep: false,
            last_scalar: (0, 0),
        }
    }

    fn run(&mut self) {
        let mut options = granit_parser::options! {
            disallow_directives: true,
            emit_unresolved_aliases: true,
            emit_anchor_events: true,
            flow_nesting_limit: 128,
            block_nesting_limit: 128,
        };
        options.set_emit_comments(false);
        for event in Parser::new_from_str_with_options(self.text, options) {
            match event {
                Ok((event, span)) => {
                    if !self.event(event, span) {
                        return;
                    }
                }
                Err(error) => {
                    self.whole = false;
                    self.syntax_error(&error);
                    return;
                }
            }
        }
        if self.root.as_ref().is_none_or(Node::is_nothing) {
            let span = Span { line: 1, column: 1, length: 0 };
            self.report(span, "empty-file", "the file holds no keys", "write the keys of the file, or remove the file");
        }
    }

    fn report(&mut self, span: Span, code: &'static str, message: &str, help: &str) {
        let finding = Finding::error(self.file, span, code, message, Some(help));
        self.findings.push(finding);
    }

    /// Handles one event. Returns false where reading ends early.
    fn event(&mut self, event: Event<'_>, span: granit_parser::Span) -> bool {
        let here = self.span(span);
        if event.is_node() {
            self.nodes += 1;
            if self.nodes > MAX_NODES {
                self.whole = false;
                self.report(
                    here,
                    "too-many-nodes",
                    &format!("the file holds more than {MAX_NODES} keys and values"),
                    "split the file",
                );
                return false;
            }
        }
        if event.is_node() && self.stack.last().is_none_or(|open| !open.flow) {
            self.check_indentation(span.start, here);
        }
        if self.skipping > 0 {
            match event {
                Event::SequenceStart(..) | Event::MappingStart(..) => self.skipping += 1,
                Event::SequenceEnd | Event::MappingEnd => {
                    self.skipping -= 1;
                    if self.skipping == 0 {
                        self.add(Node::refused(self.skipped));
                    }
                }
                _ => {}
            }
            return true;
        }
        if let Some(tag) = span.tag_span() {
            self.report(
                self.span(tag),
                "tag",
                "tags are not used here",
                "remove it; text that begins with `!` goes in quotes",
            );
        }
        match event {
            Event::DocumentStart(..) if self.root.is_some() => {
                self.report(
                    here,
                    "multiple-documents",
                    "a second document begins here",
                    "keep one document in the file",
                );
                return false;
            }
            Event::DocumentEnd => self.whole = true,
            Event::Scalar(text, style, ..) => {
                self.last_scalar = (span.start.line(), span.end.line());
                let source = span.slice(self.text).unwrap_or_default();
                let node = self.scalar(here, &text, style, source);
                self.add(node);
            }
            Event::Anchor(..) => self.report(
                here,
                "anchor",
                "anchors are not used here",
                "remove it; text that begins with `&` goes in quotes",
            ),
            Event::Alias(_) | Event::UnresolvedAlias(_) => {
                if !self.in_merge() {
                    self.report(
                        here,
                        "alias",
                        "aliases are not used here",
                        "write the value itself; text that begins with `*` goes in quotes",
                    );
                }
                self.add(Node::refused(here));
            }
            Event::SequenceStart(style, ..) => self.open(span, style, Items::Seq(Vec::new())),
            Event::MappingStart(style, ..) => {
                let items = Items::Map { entries: Vec::new(), pending: None, lines: BTreeMap::new() };
                self.open(span, style, items);
            }
            Event::SequenceEnd | Event::MappingEnd => self.close(span.end),
            _ => {}
        }
        true
    }

    fn scalar(&mut self, span: Span, text: &str, style: ScalarStyle, source: &str) -> Node {
        let plain = style == ScalarStyle::Plain;
        let kind = if plain && matches!(source, "" | "~" | "null" | "Null" | "NULL") {
            let text = source.to_owned();
            NodeKind::Null { text }
        } else {
            if text.contains('\0') {
                self.report(span, "control-character", "the text holds a NUL character", "remove the escape `\\0`");
            }
            let style = if plain { Style::Plain } else { Style::Quoted };
            let text = text.to_owned();
            NodeKind::Scalar { text, style }
        };
        let refused = false;
        Node { span, kind, refused }
    }

    fn open(&mut self, start: granit_parser::Span, style: StructureStyle, items: Items) {
        if self.stack.len() < MAX_DEPTH {
            self.stack.push(Open { start, flow: style == StructureStyle::Flow, refused: false, items });
            return;
        }
        self.skipping = 1;
        self.skipped = self.span(start);
        self.too_deep(self.skipped);
    }

    fn too_deep(&mut self, span: Span) {
        if !self.deep {
            self.deep = true;
            self.report(
                span,
                "too-deep",
                &format!("mappings and lists are nested more than {MAX_DEPTH} deep"),
                "nest less",
            );
        }
    }

    fn close(&mut self, end: Marker) {
        let Some(open) = self.stack.pop() else {
            return;
        };
        let mut span = self.span(open.start);
        let (kind, first) = match open.items {
            Items::Seq(nodes) => {
                let first = nodes.first().map(|node| node.span);
                (NodeKind::Seq(nodes), first)
            }
            Items::Map { entries, .. } => {
                let first = entries.first().map(|(key, _)| key.span);
                (NodeKind::Map(entries), first)
            }
        };
        if open.flow {
            span = self.span(granit_parser::Span::new(open.start.start, end));
        } else if let Some(first) = first.filter(|first| first.line == span.line) {
            let end = first.column.saturating_add(first.length);
            span.length = end.saturating_sub(span.column);
        }
        let refused = open.refused;
        self.add(Node { span, kind, refused });
    }

    fn in_merge(&self) -> bool {
        let items = self.stack.last().map(|open| &open.items);
        let Some(Items::Map { pending, .. }) = items else {
            return false;
        };
        matches!(pending, Some(Pending::DropMerge))
    }

    /// Puts a finished node where it belongs: the root, a list, a mapping as key or as value.
    fn add(&mut self, mut node: Node) {
        let Some(open) = self.stack.last_mut() else {
            self.root = Some(node);
            return;
        };
        match &mut open.items {
            Items::Seq(nodes) => nodes.push(node),
            Items::Map { entries, pending, .. } => match pending.take() {
                None => self.add_key(node),
                Some(Pending::Keep(key)) => {
                    if matches!(&node.kind, NodeKind::Null { text } if text.is_empty()) && !node.refused {
                        node.span = key.span;
                    }
                    entries.push((key, node));
                }
                Some(Pending::Drop | Pending::DropMerge) => {}
            },
        }
    }

    fn add_key(&mut self, node: Node) {
        let Some(open) = self.stack.last_mut() else {
            return;
        };
        let Items::Map { pending, lines, .. } = &mut open.items else {
            return;
        };
        *pending = Some(Pending::Drop);
        let span = node.span;
        let (text, style) = match node.kind {
            NodeKind::Scalar { text, style } => (text, style),
            kind => {
                open.refused = true;
                if !node.refused {
                    let (what, help) = match kind {
                        NodeKind::Null { text } if text.is_empty() => {
                            ("a key is missing before the `:`", "write `key: value`")
                        }
                        NodeKind::Null { .. } => {
                            ("a key cannot be nothing", "to use the word as a key, put it in quotes")
                        }
                        NodeKind::Map(_) => (
                            "a key must be one line of text, and this is a mapping",
                            "write `key: value`; text with braces goes in quotes",
                        ),
                        _ => (
                            "a key must be one line of text, and this is a list",
                            "write `key: value`; text with brackets goes in quotes",
                        ),
                    };
                    self.report(span, "bad-key", what, help);
                }
                return;
            }
        };
        if text == "<<" && style == Style::Plain {
            *pending = Some(Pending::DropMerge);
            open.refused = true;
            self.report(span, "merge-key", "merge keys are not used here", "write the keys themselves");
        } else if text.is_empty() || text.contains('\n') {
            open.refused = true;
            self.report(span, "bad-key", "a key must be one line of text", "write `key: value`");
        } else if let Some(first) = lines.get(&text) {
            let message = format!("the key `{text}` is written twice, first in line {first}");
            self.report(span, "duplicate-key", &message, "keep one of the two; the first one was read");
        } else {
            lines.insert(text.clone(), span.line);
            *pending = Some(Pending::Keep(Key { span, text }));
        }
    }

    /// Translates a span: columns from 1, the length within the first line.
    fn span(&self, span: granit_parser::Span) -> Span {
        let source = span.slice(self.text).unwrap_or_default();
        let length = source.chars().take_while(|c| !matches!(c, '\n' | '\r')).count();
        Span {
            line: saturate(span.start.line()),
            column: saturate(span.start.col().saturating_add(1)),
            length: saturate(length),
        }
    }

    fn syntax_error(&mut self, error: &ScanError) {
        let marker = error.marker();
        let (_, rest) = marker.byte_offset().and_then(|at| self.text.split_at_checked(at)).unwrap_or_default();
        let mut span = Span {
            line: saturate(marker.line()),
            column: saturate(marker.col().saturating_add(1)),
            length: u32::from(!rest.is_empty() && !rest.starts_with(['\n', '\r'])),
        };
        let (first, last) = self.last_scalar;
        let (message, help): (Cow<'_, str>, &str) = match error.kind() {
            ErrorKind::RecursionLimitExceeded => {
                self.too_deep(span);
                return;
            }
            ErrorKind::TabNotAllowed
            | ErrorKind::TabInBlockIndentation
            | ErrorKind::TabInIndentation
            | ErrorKind::TabAtBlockScalarStart
            | ErrorKind::TabInPlainScalar => {
                span = self.tab_from(span.line).unwrap_or(span);
                (TAB.into(), TAB_HELP)
            }
            ErrorKind::MappingValueNotAllowed if first < last && last == marker.line() => (
                format!("a `:` inside a text that began in line {first}").into(),
                "end that line's key with `: `, or indent this line as the other keys",
            ),
            kind => explain_structure(kind).or_else(|| explain_text(kind)).unwrap_or_else(|| {
                (
                    format!("this is not YAML: {kind}").into(),
                    "check the indentation, the quotes and the brackets here and in the line above",
                )
            }),
        };
        self.report(span, "syntax", &message, help);
    }

    /// Returns the first tab among the spaces that a line begins with, in this line or below.
    fn tab_from(&self, line: u32) -> Option<Span> {
        let normal = self.text.replace("\r\n", "\n").replace('\r', "\n");
        (1..).zip(normal.split('\n')).skip_while(|(number, _)| *number < line).find_map(|(line, text)| {
            let column = tab_in_indentation(text)?;
            Some(Span { line, column, length: 1 })
        })
    }

    /// Reports a tab before a node of a block that is the first on its line.
    fn check_indentation(&mut self, at: Marker, span: Span) {
        let before = at
            .byte_offset()
            .and_then(|at| self.text.get(..at))
            .and_then(|before| before.rsplit(['\n', '\r']).next())
            .unwrap_or_default();
        if before.trim_start_matches([' ', '\t', '-', '?']).is_empty()
            && let Some(column) = tab_in_indentation(before)
        {
            let span = Span { column, length: 1, ..span };
            self.report(span, "syntax", TAB, TAB_HELP);
        }
    }
}

/// Explains errors in how a file is laid out.
fn explain_structure(kind: &ErrorKind) -> Option<(Cow<'static, str>, &'static str)> {
    Some(match kind {
        ErrorKind::MappingValueNotAllowed | ErrorKind::InvalidMappingValueWhitespace => (
            "a second `:` in a value, or a value that cannot have keys".into(),
            "put a value that contains `: ` in quotes, or correct the indentation",
        ),
        ErrorKind::InvalidColonPlacement => ("a `:` inside a list in brackets".into(), "close the list above with `]`"),
        ErrorKind::ExpectedBlockMappingKey => (
            "this does not line up with the keys above".into(),
            "write `key: value`, indented as the other keys of the mapping",
        ),
        ErrorKind::ExpectedBlockSequenceEntry => (
            "this does not line up with the list above".into(),
            "begin each entry with `- `, indented as the other entries",
        ),
        ErrorKind::BlockSequenceEntryNotAllowed | ErrorKind::BlockEntryInFlowCollection => (
            "a list entry (`- `) cannot begin here".into(),
            "begin the list on the line below its key; text that begins with `- ` goes in quotes",
        ),
        ErrorKind::InvalidIndentation | ErrorKind::InvalidFlowScalarIndent => {
            ("the indentation is wrong".into(), "indent the keys of one mapping by the same number of spaces")
        }
        ErrorKind::SimpleKeyExpected | ErrorKind::InvalidSimpleKey => {
            ("a key without `:`".into(), "write `key: value`, all of the key on one line")
        }
        ErrorKind::MisplacedFlowCollectionEnd => {
            ("a closing bracket without an opening one".into(), "remove it; text with brackets goes in quotes")
        }
        ErrorKind::MismatchedFlowCollectionEnd { open, close } => {
            (format!("`{open}` is closed by `{close}`").into(), "close `[` with `]` and `{` with `}`")
        }
        ErrorKind::UnclosedFlowCollection { open } => {
            (format!("`{open}` is never closed").into(), "close `[` with `]` and `{` with `}`")
        }
        ErrorKind::UnexpectedEofFlowSequence
        | ErrorKind::UnexpectedEofFlowMapping
        | ErrorKind::UnexpectedEofImplicitFlowMapping
        | ErrorKind::ExpectedFlowSequenceSeparator
        | ErrorKind::ExpectedFlowMappingSeparator => (
            "a list or mapping in brackets goes on wrongly here".into(),
            "put `,` between its entries, and close `[` with `]` and `{` with `}`",
        ),
        ErrorKind::ExpectedDocumentStart | ErrorKind::InvalidDocumentEnd => (
            "something follows the end of the document".into(),
            "keep one mapping in the file, its keys all at the start of their lines",
        ),
        ErrorKind::DirectiveDisallowed => ("a `%` directive is not used here".into(), "remove the line"),
        _ => return None,
    })
}

/// Explains errors in how a single value is written.
fn explain_text(kind: &ErrorKind) -> Option<(Cow<'static, str>, &'static str)> {
    let quote = "text that begins with a special character goes in quotes";
    Some(match kind {
        ErrorKind::UnexpectedCharacter { character } => {
            (format!("a value cannot begin with `{character}`").into(), quote)
        }
        ErrorKind::MissingAnchorOrAliasName => ("a value cannot begin with `&` or `*`".into(), quote),
        ErrorKind::UnclosedQuotedScalar
        | ErrorKind::InvalidQuotedScalarIndent
        | ErrorKind::DocumentIndicatorInQuotedScalar => (
            "a text in quotes is not closed".into(),
            "add the closing quote; text in quotes that goes on in the next line is indented",
        ),
        ErrorKind::InvalidTrailingSingleQuotedScalar | ErrorKind::InvalidTrailingDoubleQuotedScalar => (
            "something follows the closing quote".into(),
            "write a quote inside '...' as '', and inside \"...\" as \\\"",
        ),
        ErrorKind::UnknownQuotedScalarEscape
        | ErrorKind::InvalidQuotedScalarHexEscape
        | ErrorKind::InvalidLowSurrogateHexEscape
        | ErrorKind::InvalidLowSurrogate
        | ErrorKind::MissingLowSurrogate
        | ErrorKind::UnpairedLowSurrogate
        | ErrorKind::InvalidUnicodeEscape => {
            ("an unknown escape after `\\`".into(), "write `\\\\` for a backslash, or use single quotes")
        }
        ErrorKind::CommentNotSeparated | ErrorKind::CommentInterceptedScalar => {
            ("a comment cannot begin here".into(), "put a space before `#`; text with ` #` goes in quotes")
        }
        ErrorKind::InvalidBlockScalarHeader
        | ErrorKind::ZeroBlockScalarIndent
        | ErrorKind::InvalidBlockScalarIndent => (
            "a text block (`|` or `>`) is written wrongly".into(),
            "begin its text on the next line, indented by two spaces more than its key",
        ),
        ErrorKind::ExpectedTagBang
        | ErrorKind::UndeclaredTagHandle
        | ErrorKind::InvalidGlobalTagCharacter
        | ErrorKind::InvalidTagTerminator
        | ErrorKind::MissingTagUri
        | ErrorKind::UnclosedVerbatimTag
        | ErrorKind::InvalidTagEscape
        | ErrorKind::InvalidTagUtf8LeadingByte
        | ErrorKind::InvalidTagUtf8TrailingByte
        | ErrorKind::InvalidTagUtf8 => ("a value cannot begin with `!`".into(), quote),
        _ => return None,
    })
}

const TAB: &str = "a tab is used as indentation";
const TAB_HELP: &str = "indent with spaces only: replace each tab by two spaces";

/// Returns the column of the first tab among the spaces that a line begins with.
fn tab_in_indentation(line: &str) -> Option<u32> {
    let rest = line.trim_start_matches(' ');
    rest.starts_with('\t').then(|| saturate(line.len().saturating_sub(rest.len()).saturating_add(1)))
}

fn saturate(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests;
