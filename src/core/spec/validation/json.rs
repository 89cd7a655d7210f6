//! Reads JSON into the nodes that YAML is read into, so that each of its values has a place.

use std::collections::BTreeMap;

use serde_json::Value;

use super::super::yaml::{Key, MAX_NODES, Node, NodeKind, Style, text_of};
use crate::model::finding::{Finding, Span};

/// Reads a file: its value, and where everything of it stands.
///
/// # Errors
/// It is no JSON, has a key twice, so that readers differ in what it says, or has more than [`MAX_NODES`] keys and values.
pub(super) fn parse(file: &str, bytes: &[u8]) -> Result<(Value, Node), Vec<Finding>> {
    let mut findings = Vec::new();
    let Some(text) = text_of(file, bytes, &mut findings).filter(|_| findings.is_empty()) else { return Err(findings) };
    let value = serde_json::from_str(&text).map_err(|error| vec![syntax(file, &text, &error)])?;
    let mut scan = Scan { file, rest: &text, line: 1, column: 1, nodes: 0, findings: Vec::new() };
    match scan.value() {
        Some(node) if scan.findings.is_empty() => Ok((value, node)),
        Some(_) => Err(scan.findings),
        None => {
            let message = format!("the file holds more than {MAX_NODES} keys and values");
            Err(vec![Finding::error(file, scan.here(0), "too-many-nodes", &message, Some("split the file"))])
        }
    }
}

fn syntax(file: &str, text: &str, error: &serde_json::Error) -> Finding {
    let line = text.lines().nth(error.line().saturating_sub(1)).unwrap_or_default();
    // The reader counts bytes, up to and with the one that it did not expect.
    let before = line.get(..error.column().saturating_sub(1)).map_or(0, |before| before.chars().count());
    let span = Span { line: saturate(error.line().max(1)), column: saturate(before + 1), length: 1 };
    let message = error.to_string();
    let what = message.split(" at line ").next().unwrap_or_default();
    let help = "check the quotes, the commas and the brackets here and in the line above";
    Finding::error(file, span, "syntax", &format!("this is not JSON: {what}"), Some(help))
}

/// Goes over a text that is known to be JSON.
struct Scan<'t> {
    file: &'t str,
    rest: &'t str,
    line: u32,
    column: u32,
    nodes: usize,
    findings: Vec<Finding>,
}

impl<'t> Scan<'t> {
    fn here(&self, length: u32) -> Span {
        Span { line: self.line, column: self.column, length }
    }

    /// Takes so many bytes.
    fn take(&mut self, bytes: usize) -> &'t str {
        let (taken, rest) = self.rest.split_at_checked(bytes).unwrap_or((self.rest, ""));
        for character in taken.chars() {
            if character == '\n' {
                self.line = self.line.saturating_add(1);
                self.column = 1;
            } else {
                self.column = self.column.saturating_add(1);
            }
        }
        self.rest = rest;
        taken
    }

    /// Passes over space, and takes a character if it is the next one.
    fn next_is(&mut self, wanted: char) -> bool {
        let space = self.rest.len() - self.rest.trim_start_matches([' ', '\t', '\n', '\r']).len();
        self.take(space);
        let is_next = self.rest.starts_with(wanted);
        if is_next {
            self.take(1);
        }
        is_next
    }

    /// The value that comes next; `None` where there are too many. It is nested no deeper than `serde_json` reads.
    fn value(&mut self) -> Option<Node> {
        self.nodes += 1;
        if self.nodes > MAX_NODES {
            return None;
        }
        let is_map = self.next_is('{');
        if is_map || self.next_is('[') {
            let span = Span { column: self.column.saturating_sub(1), ..self.here(1) };
            let kind = if is_map { self.map()? } else { self.list()? };
            return Some(Node { span, kind, refused: false });
        }
        let (text, style, span) = self.scalar();
        let kind = match (style, text.as_str()) {
            (Style::Plain, "null") => NodeKind::Null { text },
            _ => NodeKind::Scalar { text, style },
        };
        Some(Node { span, kind, refused: false })
    }

    fn list(&mut self) -> Option<NodeKind> {
        let mut items = Vec::new();
        while !self.next_is(']') {
            items.push(self.value()?);
            self.next_is(',');
        }
        Some(NodeKind::Seq(items))
    }

    fn map(&mut self) -> Option<NodeKind> {
        let mut entries = Vec::new();
        let mut lines: BTreeMap<String, u32> = BTreeMap::new();
        while !self.next_is('}') {
            self.nodes += 1;
            let (text, _, span) = self.scalar();
            if let Some(first) = lines.get(&text) {
                let message = format!("the key `{text}` is written twice, first in line {first}");
                let help = "keep one of the two: which of them counts depends on who reads it";
                self.findings.push(Finding::error(self.file, span, "duplicate-key", &message, Some(help)));
            }
            lines.insert(text.clone(), span.line);
            self.next_is(':');
            entries.push((Key { span, text }, self.value()?));
            self.next_is(',');
        }
        Some(NodeKind::Map(entries))
    }

    /// A text in quotes without them, or a number or word as it is written.
    fn scalar(&mut self) -> (String, Style, Span) {
        let length = match self.rest.strip_prefix('"') {
            Some(inner) => {
                let mut is_escaped = false;
                let end = inner.find(|c| {
                    let is_end = c == '"' && !is_escaped;
                    is_escaped = c == '\\' && !is_escaped;
                    is_end
                });
                end.map_or(self.rest.len(), |end| end + 2)
            }
            None => self.rest.find([',', ']', '}', ' ', '\t', '\n', '\r']).unwrap_or(self.rest.len()),
        };
        let begin = self.here(0);
        // What is no value takes nothing: a step further it would be no end.
        let written = self.take(length.max(1));
        let span = Span { length: saturate(written.chars().count()), ..begin };
        match serde_json::from_str(written) {
            Ok(Value::String(text)) => (text, Style::Quoted, span),
            _ => (written.to_owned(), Style::Plain, span),
        }
    }
}

fn saturate(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn places(node: &Node, path: &str, found: &mut Vec<String>) {
        let Span { line, column, length } = node.span;
        found.push(format!("{path} {line}:{column}+{length}"));
        match &node.kind {
            NodeKind::Map(entries) => {
                entries.iter().for_each(|(key, node)| places(node, &format!("{path}/{}", key.text), found));
            }
            NodeKind::Seq(items) => {
                items.iter().enumerate().for_each(|(at, node)| places(node, &format!("{path}/{at}"), found));
            }
            NodeKind::Scalar { .. } | NodeKind::Null { .. } => {}
        }
    }

    /// What a node says.
    fn said(node: &Node) -> Value {
        match &node.kind {
            NodeKind::Map(entries) => entries.iter().map(|(key, node)| (key.text.clone(), said(node))).collect(),
            NodeKind::Seq(items) => items.iter().map(said).collect(),
            NodeKind::Scalar { text, style: Style::Quoted } => json!(text),
            NodeKind::Scalar { text, .. } | NodeKind::Null { text } => serde_json::from_str(text).unwrap(),
        }
    }

    #[test]
    fn every_value_has_its_place() {
        let text = "{\n\t\"a\": [1, {\"ä\\\"b\": null}],\r\n  \"c\" :true,\"d\":\"x\\\\\"}\n";
        let (value, node) = parse("a.json", text.as_bytes()).unwrap();
        let mut found = Vec::new();
        places(&node, "", &mut found);
        let expected = [" 1:1+1", "/a 2:7+1", "/a/0 2:8+1", "/a/1 2:11+1", "/a/1/ä\"b 2:20+4", "/c 3:8+4", "/d 3:17+5"];
        assert_eq!(found, expected);
        assert_eq!(said(&node), value);
    }

    #[test]
    fn what_is_not_json_is_told_where_it_is() {
        for (text, expected) in [
            ("", "a.json:1:1: error[syntax]: this is not JSON: EOF while parsing a value"),
            ("{\"ä\": 1,}", "a.json:1:9: error[syntax]: this is not JSON: trailing comma"),
            ("{\n  'a': 1\n}", "a.json:2:3: error[syntax]: this is not JSON: key must be a string"),
            (
                "{\"a\": 1, \"b\": {\"a\": 2},\n \"a\": 3}",
                "a.json:2:2: error[duplicate-key]: the key `a` is written twice, first in line 1",
            ),
            ("[] []", "a.json:1:4: error[syntax]: this is not JSON: trailing characters"),
        ] {
            let findings = parse("a.json", text.as_bytes()).unwrap_err();
            let shown: Vec<String> = findings.iter().map(ToString::to_string).collect();
            assert_eq!(shown.iter().map(|one| one.split('\n').next().unwrap()).collect::<Vec<_>>(), [expected]);
        }
        let long = format!("[{}1]", "1,".repeat(MAX_NODES));
        assert_eq!(parse("a.json", long.as_bytes()).unwrap_err()[0].code, "too-many-nodes");
        let deep = "[".repeat(10_000);
        assert_eq!(parse("a.json", deep.as_bytes()).unwrap_err()[0].code, "syntax");
        assert_eq!(parse("a.json", b"\"\xff\"").unwrap_err()[0].code, "not-utf8");
    }

    fn any_json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<String>().prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 40, 5, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
                prop::collection::btree_map(any::<String>(), inner, 0..5).prop_map(|map| map.into_iter().collect()),
            ]
        })
    }

    proptest! {
        #[test]
        fn the_nodes_say_what_the_text_says(value in any_json(), pretty in any::<bool>()) {
            let text = if pretty { format!("{value:#}") } else { value.to_string() };
            let (read, node) = parse("a.json", text.as_bytes()).unwrap();
            prop_assert_eq!(&said(&node), &read);
            prop_assert_eq!(read, value);
        }
    }
}
