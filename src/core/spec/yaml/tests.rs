//! Where nodes stand, and what a file must not hold.

use super::*;

/// The findings of a file as `line:column+length code`.
fn places(bytes: &[u8]) -> Vec<String> {
    let (_, findings) = parse("t.yaml", bytes);
    let place = |f: &Finding| format!("{}:{}+{} {}", f.line, f.column, f.length, f.code);
    findings.iter().map(place).collect()
}

/// A node as `line:column+length kind`, with all below it.
fn outline(node: &Node) -> String {
    let Span { line, column, length } = node.span;
    let kind = match &node.kind {
        NodeKind::Null { text } => format!("null({text})"),
        NodeKind::Scalar { text, style } => format!("{style:?}({text})"),
        NodeKind::Seq(nodes) => {
            let nodes: Vec<_> = nodes.iter().map(outline).collect();
            format!("[{}]", nodes.join(" "))
        }
        NodeKind::Map(entries) => {
            let entry = |(key, node): &(Key, Node)| {
                let Span { line, column, .. } = key.span;
                format!("{line}:{column} {} = {}", key.text, outline(node))
            };
            let entries: Vec<_> = entries.iter().map(entry).collect();
            format!("{{{}}}", entries.join(" "))
        }
    };
    let refused = if node.refused { "!" } else { "" };
    format!("{line}:{column}+{length} {refused}{kind}")
}

#[test]
fn nodes_know_where_they_stand() {
    #[rustfmt::skip]
        let cases = [
            ("a: 1", "1:1+1 {1:1 a = 1:4+1 Plain(1)}"),
            ("a: 'ö'  # x\n", "1:1+1 {1:1 a = 1:4+3 Quoted(ö)}"),
            // Columns count characters, and a byte order mark is none.
            (
                "\u{feff}größe: {ä: ß, b: [1]}\n",
                "1:1+5 {1:1 größe = 1:8+14 {1:9 ä = 1:12+1 Plain(ß) 1:15 b = 1:18+3 [1:19+1 Plain(1)]}}",
            ),
            // What is not written stands at its key; what is, where it is.
            (
                "a:\nb: ~\nc: null\nd: 'null'\n",
                "1:1+1 {1:1 a = 1:1+1 null() 2:1 b = 2:4+1 null(~) 3:1 c = 3:4+4 null(null) \
                 4:1 d = 4:4+6 Quoted(null)}",
            ),
            // A block stands where its first entry does. All line breaks count.
            (
                "a:\r\n  - x\r  - y\n",
                "1:1+1 {1:1 a = 2:3+3 [2:5+1 Plain(x) 3:5+1 Plain(y)]}",
            ),
            (
                "a: |\n  one\n  two\nb: [1,\n  2]\n",
                "1:1+1 {1:1 a = 2:3+3 Quoted(one\ntwo\n) 4:1 b = 4:4+3 [4:5+1 Plain(1) 5:3+1 Plain(2)]}",
            ),
            ("---\nx\n...\n", "2:1+1 Plain(x)"),
        ];
    for (text, expected) in cases {
        let (root, _) = parse("t.yaml", text.as_bytes());
        let outline = root.as_ref().map(outline).unwrap_or_default();
        assert_eq!(outline, expected, "{text}");
    }
}

#[test]
fn what_is_not_plain_yaml_is_refused_where_it_stands() {
    #[rustfmt::skip]
        let cases = [
            (&b"a: 1\n"[..], &[][..]),
            // No text.
            (b"a: 1\nb: \xFCber\nc: 1\nc: 2\n", &["2:4+1 not-utf8", "4:1+1 duplicate-key"]),
            (b"\xFF\xFEa\0:\0", &["1:1+1 not-utf8"]),
            (b"a: \0\nb: \x1b\x07\n", &["1:4+1 control-character", "2:4+1 control-character", "2:5+1 control-character"]),
            (b"a: \"\\0\"\n", &["1:4+4 control-character"]),
            ("a: \u{202e}x\n".as_bytes(), &["1:4+1 control-character"]),
            ("a: \u{200b}x\n".as_bytes(), &["1:4+1 control-character"]),
            ("a: x\u{e0041}\n".as_bytes(), &["1:5+1 control-character"]),
            ("# x\u{2028}\n\u{feff}a: 1\n".as_bytes(), &["1:4+1 control-character", "2:1+1 control-character"]),
            // Nothing, or too much.
            (b"", &["1:1+0 empty-file"]),
            (b"# only a comment\n", &["1:1+0 empty-file"]),
            (b"---\n", &["1:1+0 empty-file"]),
            (b"null\n", &["1:1+0 empty-file"]),
            (b"a: 1\n---\nb: 2\n", &["2:1+3 multiple-documents"]),
            (b"a: 1\n...\nb: 2\n", &["3:1+0 multiple-documents"]),
            (b"---\n---\nb: 2\n", &["2:1+3 multiple-documents"]),
            // Things with which a file does not say what it says in one place.
            (b"a: &x 1\nb: *x\nc: *y\n", &["1:4+2 anchor", "2:4+2 alias", "3:4+2 alias"]),
            (b"host: *.example.com\n", &["1:7+13 alias"]),
            (b"a: !x 1\nb: !!str\nc: !!map {}\n", &["1:4+2 tag", "2:4+5 tag", "3:4+5 tag"]),
            (b"a: &x {}\nb:\n  <<: *x\n  '<<': 1\n", &["1:4+2 anchor", "3:3+2 merge-key"]),
            // Keys.
            (b"a: 1\nb: 2\na: 3\n'a': 4\n", &["3:1+1 duplicate-key", "4:1+3 duplicate-key"]),
            (b"a: {b: 1, c: {b: 2, b: 3}}\n", &["1:21+1 duplicate-key"]),
            (b"? [a]\n: 1\n{b: 1}: 2\n~: 3\n: 4\n'': 5\n", &["1:3+3 bad-key", "3:1+6 bad-key", "4:1+1 bad-key", "5:1+0 bad-key", "6:1+2 bad-key"]),
            (b"? |\n  a\n  b\n: 1\n", &["2:3+1 bad-key"]),
            (b"1: a\ntrue: b\n", &[]),
            // A syntax error ends the file; what stands before it is still reported.
            (b"a: 1\na: 2\nb: @x\nc: 1\nc: 2\n", &["2:1+1 duplicate-key", "3:4+1 syntax"]),
        ];
    for (text, expected) in cases {
        assert_eq!(places(text), expected, "{}", String::from_utf8_lossy(text));
    }
}

#[test]
fn syntax_errors_say_what_to_write_instead() {
    #[rustfmt::skip]
        let cases = [
            ("a: @x\n", (1, 4), "a value cannot begin with `@`", "in quotes"),
            ("a: %x\n", (1, 4), "a value cannot begin with `%`", "in quotes"),
            ("a: *\n", (1, 4), "cannot begin with `&` or `*`", "in quotes"),
            ("a: !<x 1\n", (1, 4), "cannot begin with `!`", "in quotes"),
            ("a: b: c\n", (1, 5), "a second `:`", "in quotes"),
            ("key\nb: 1\n", (2, 2), "a text that began in line 1", "indent this line"),
            ("a: 1\n  b: 2\n", (2, 4), "a text that began in line 1", "indent this line"),
            ("a: 1\nb\n", (2, 1), "a key without `:`", "`key: value`"),
            ("a:\n  b: 1\n c: 2\n", (3, 2), "does not line up", "indented as"),
            ("a:\n  - 1\n  b: 2\n", (3, 3), "does not line up", "`- `"),
            ("a: - b\n", (1, 4), "a list entry (`- `) cannot", "line below"),
            ("a: [1, 2\nb: 3\n", (2, 2), "a `:` inside a list", "`]`"),
            ("a: [1, 2\n", (1, 4), "`[` is never closed", "`]`"),
            ("a: {b: 1]\n", (1, 4), "`{` is closed by `]`", "`}`"),
            ("a: }\n", (1, 4), "a closing bracket", "in quotes"),
            ("a: 'x\nb: 2\n", (1, 4), "not closed", "closing quote"),
            ("a: \"x\n", (1, 4), "not closed", "closing quote"),
            ("a: 'it's'\n", (1, 8), "follows the closing quote", "''"),
            ("a: \"C:\\dir\"\n", (1, 4), "unknown escape", "single quotes"),
            ("a: 'x'#y\n", (1, 7), "a comment cannot begin", "space before `#`"),
            ("a: |x\n  y\n", (1, 4), "a text block", "next line"),
            ("%YAML 1.2\n---\na: 1\n", (1, 1), "a `%` directive", "remove"),
            ("a: 1\n... b\n", (2, 5), "the end of the document", "one mapping"),
            ("a:\n\t- x\n", (2, 1), "a tab", "two spaces"),
            ("a: x\n\ty\n", (2, 1), "a tab", "two spaces"),
        ];
    for (text, place, message, help) in cases {
        let (root, findings) = parse("t.yaml", text.as_bytes());
        assert_eq!(root, None, "{text}");
        let [finding] = findings.as_slice() else {
            panic!("{text}: {findings:?}");
        };
        assert_eq!(finding.code, "syntax", "{text}");
        assert_eq!((finding.line, finding.column), place, "{text}{finding}");
        assert!(finding.message.contains(message), "{text}{finding}");
        let given = finding.help.as_deref().unwrap_or_default();
        assert!(given.contains(help), "{text}{finding}");
    }
}

/// The parser lets some of them pass.
#[test]
fn tabs_are_no_indentation() {
    let cases = [
        ("\ta: 1\n", "1:1+1 syntax"),
        ("a:\n \tb: 1\n\tc: [1,\n\t2]\n", "2:2+1 syntax"),
        ("a:\n \t- b\n", "2:2+1 syntax"),
    ];
    for (text, expected) in cases {
        assert_eq!(places(text.as_bytes()).first().unwrap(), expected, "{text}");
    }
    assert_eq!(places(b"a: [1,\n\t2]\n# x\n\t# y\nb:\tc\td\n"), [""; 0]);
}

#[test]
fn the_first_of_two_equal_keys_is_named_and_read() {
    let (root, findings) = parse("t.yaml", b"a: 1\nb: 2\na: 3\n");
    assert_eq!(
        findings.first().map(ToString::to_string).unwrap_or_default(),
        "t.yaml:3:1: error[duplicate-key]: the key `a` is written twice, first in line 1\n  \
             help: keep one of the two; the first one was read"
    );
    assert_eq!(outline(&root.unwrap()), "1:1+1 {1:1 a = 1:4+1 Plain(1) 2:1 b = 2:4+1 Plain(2)}");
}

#[test]
fn what_was_refused_is_marked() {
    let (root, _) = parse("t.yaml", b"a: *x\nb: {<<: {}, c: 1}\n");
    assert_eq!(outline(&root.unwrap()), "1:1+1 {1:1 a = 1:4+2 !null() 2:1 b = 2:4+14 !{2:13 c = 2:16+1 Plain(1)}}");
}

#[test]
fn depth_is_limited() {
    let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
    assert_eq!(places(nested(MAX_DEPTH).as_bytes()), [""; 0]);
    for depth in [17, 100] {
        assert_eq!(places(nested(depth).as_bytes()), ["1:17+1 too-deep"]);
        let block = format!("{}x", "- ".repeat(depth));
        assert_eq!(places(block.as_bytes()), ["1:33+0 too-deep"]);
    }
    // Far too deep for the parser, too.
    for opening in ["[", "- ", "{a: ", "? "] {
        let (_, findings) = parse("t.yaml", opening.repeat(100_000).as_bytes());
        let codes: Vec<_> = findings.iter().map(|finding| finding.code).collect();
        assert_eq!(codes, ["too-deep"], "{opening}");
    }
    // What follows is still read.
    let text = format!("a: {}\na: 1\n", nested(20));
    assert_eq!(places(text.as_bytes()), ["1:19+1 too-deep", "2:1+1 duplicate-key"]);
}

#[test]
fn the_number_of_nodes_is_limited() {
    let list = |length: usize| "- x\n".repeat(length);
    assert_eq!(places(list(MAX_NODES - 1).as_bytes()), [""; 0]);
    assert_eq!(places(list(MAX_NODES).as_bytes()), ["20000:3+1 too-many-nodes"]);
}

#[test]
fn control_characters_are_listed_up_to_a_limit() {
    let places = places("a\u{1}".repeat(100).as_bytes());
    assert_eq!(places.len(), MAX_CONTROL_CHARACTERS);
    assert_eq!(places.last().unwrap(), "1:40+1 control-character");
}
