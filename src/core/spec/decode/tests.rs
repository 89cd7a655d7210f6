//! What a person sees about a file, shown on small ones.

use std::collections::BTreeMap;
use std::fmt;

use proptest::prelude::*;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize, de};

use super::scalar::are_digits;
use super::*;
use crate::model::{
    Invalid,
    finding::{Span, rule},
};

/// A text with rules of its own, decoded from the text of any scalar.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
struct Memory(String);

impl<'de> Deserialize<'de> for Memory {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::checked(text).map_err(Invalid::into_serde)
    }
}

impl Memory {
    fn checked(text: String) -> Result<Self, Invalid> {
        if text.strip_suffix("MiB").is_some_and(are_digits) {
            return Ok(Self(text));
        }
        Err(Invalid::new("out-of-range", format!("`{text}` is no amount of memory"), "write `1536MiB`"))
    }
}

/// A number or a string.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
struct Cpus(f64);

impl<'de> Deserialize<'de> for Cpus {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct CpusVisitor;
        impl Visitor<'_> for CpusVisitor {
            type Value = Cpus;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number of processors such as 0.5")
            }
            fn visit_u64<E: de::Error>(self, number: u64) -> Result<Cpus, E> {
                u32::try_from(number).map(|number| Cpus(number.into())).map_err(|_| E::custom("too many processors"))
            }
            fn visit_f64<E: de::Error>(self, number: f64) -> Result<Cpus, E> {
                Ok(Cpus(number))
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Cpus, E> {
                let number = text.parse();
                number.map(Cpus).map_err(|_| {
                    Invalid::new("invalid-value", "this is no number of processors", "write 0.5").into_serde()
                })
            }
        }
        deserializer.deserialize_any(CpusVisitor)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
enum Restart {
    Always,
    OnFailure,
    Backoff(u32),
}

#[derive(Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Tier {
    memory_max: Located<Memory>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    cpus: Option<Located<Cpus>>,
    tasks: Located<u16>,
}

#[derive(Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Tenant {
    #[serde(rename = "tenant")]
    name: Located<String>,
    enabled: Located<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    restart: Option<Located<Restart>>,
    #[serde(default)]
    tiers: Located<LocatedMap<String, Tier>>,
    #[serde(default)]
    domains: Located<Vec<Located<String>>>,
    #[serde(default)]
    environment: LocatedMap<String, String>,
    #[serde(default)]
    ports: Vec<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    weight: Option<f64>,
}

const GOOD: &str = "\
tenant: größe
enabled: true
restart: on-failure
tiers:
  free: {memoryMax: 512MiB, tasks: 100}
  paid:
    memoryMax: 1536MiB
    cpus: 1.5
    tasks: 200
domains:
  - a.example
  - 'b.example'
environment:
  VERSION: 1.10
  ON: yes
ports: [80, 443]
weight: 2
";

/// Decodes a tenant file that lacks nothing, with the given lines added to its first two.
fn with(lines: &str) -> (Option<Tenant>, Vec<String>) {
    findings_of(&format!("tenant: acme\nenabled: true\n{lines}"))
}

/// Findings as `line:column+length code: message (help)`.
fn findings_of<T: DeserializeOwned>(text: &str) -> (Option<T>, Vec<String>) {
    let (value, findings) = decode("t.yaml", text.as_bytes());
    let show = |f: &Finding| {
        let help = f.help.as_deref().unwrap_or_default();
        let (line, column, length) = (f.line, f.column, f.length);
        format!("{line}:{column}+{length} {}: {} ({help})", f.code, f.message)
    };
    (value, findings.iter().map(show).collect())
}

#[test]
fn a_right_file_gives_its_value_with_places() {
    let (tenant, findings) = findings_of::<Tenant>(GOOD);
    assert_eq!(findings, [""; 0]);
    let tenant = tenant.unwrap();
    let span = |line, column, length| Span { line, column, length };
    assert_eq!(tenant.name.get().unwrap(), "größe");
    assert_eq!(tenant.name.span, span(1, 9, 5));
    let (name, paid) = tenant.tiers.get().unwrap().iter().nth(1).unwrap();
    assert_eq!((name.get().unwrap().as_str(), name.span), ("paid", span(6, 3, 4)));
    let cpus = paid.get().unwrap().cpus.as_ref().unwrap();
    assert_eq!((cpus.get(), cpus.span), (Some(&Cpus(1.5)), span(8, 11, 3)));
    // A text is as it is written, whatever it looks like.
    assert_eq!(tenant.environment.get("VERSION").unwrap().get().unwrap(), "1.10");
    assert_eq!(tenant.environment.get("ON").unwrap().get().unwrap(), "yes");
    assert_eq!((tenant.ports, tenant.weight), (vec![80, 443], Some(2.0)));
}

#[test]
fn all_errors_of_a_file_are_found_at_once() {
    let (tenant, findings) = findings_of::<Tenant>(
        "\
tenat: acme
enabled: yes
restart: onFailure
tiers:
  free: {memoryMax: 512MB, tasks: 70000}
  paid:
    memory-max: 1MiB
    cpus: fast
domains: [a, {b: c}, [d]]
environment:
  A:
  B: [x]
ports: [80, https]
weight: heavy
colour: red
",
    );
    assert_eq!(
        findings,
        [
            "1:1+5 unknown-key: unknown key `tenat` (did you mean `tenant`?)",
            "2:10+3 wrong-type: expected true or false, found the string `yes` (write `true`, without quotes)",
            "3:10+9 unknown-value: unknown value `onFailure` (did you mean `on-failure`? known values: `always`, `on-failure`, `backoff`)",
            "5:21+5 out-of-range: `512MB` is no amount of memory (write `1536MiB`)",
            "5:35+5 out-of-range: `70000` is too large: 65535 is the most (write a whole number from 0 to 65535)",
            "7:5+10 missing-key: missing key `tasks` in `paid` (add `tasks:` with its value)",
            "7:5+10 unknown-key: unknown key `memory-max` (did you mean `memoryMax`?)",
            "8:11+4 invalid-value: this is no number of processors (write 0.5)",
            "9:14+6 wrong-type: expected a string, found a mapping (text that contains `: ` or begins with `{` goes in quotes)",
            "9:22+3 wrong-type: expected a string, found a list (text that begins with `- ` or `[` goes in quotes)",
            "11:3+1 null-value: `A:` has no value (write a string)",
            "12:6+3 wrong-type: expected a string, found a list (text that begins with `- ` or `[` goes in quotes)",
            "13:13+5 wrong-type: expected a whole number, found the string `https` (write a whole number from 0 to 65535)",
            "14:9+5 wrong-type: expected a number, found the string `heavy` (write a number such as `2` or `0.5`)",
            "15:1+6 unknown-key: unknown key `colour` (known keys: `tenant`, `enabled`, `restart`, `tiers`, `domains`, `environment`, `ports`, `weight`)",
        ]
    );
    // The value is there for further checks, as far as it is right.
    let tenant = tenant.unwrap();
    assert_eq!(tenant.name.get(), None);
    assert_eq!(tenant.domains.get().unwrap().len(), 3);
    assert_eq!(tenant.tiers.get().unwrap().len(), 2);
    assert_eq!(tenant.ports, [0; 0]);
}

#[test]
fn each_error_says_what_is_wrong_and_what_to_write() {
    #[rustfmt::skip]
        let cases = [
            // Enums.
            ("restart: {on-failure: 1}", "3:10+15 wrong-type: `on-failure` is a value here, not a key (write `restart: on-failure`)"),
            ("restart: backoff", "3:10+7 wrong-type: `backoff` needs a value (write it as a key: `backoff: ...`)"),
            ("restart: {backoff: x}", "3:20+1 wrong-type: expected a whole number, found the string `x` (write a whole number from 0 to 4294967295)"),
            ("restart: {sometimes: x}", "3:11+9 unknown-value: unknown value `sometimes` (write one of `always`, `on-failure`, `backoff`)"),
            ("restart: []", "3:10+2 wrong-type: expected one of `always`, `on-failure`, `backoff`, found a list (write one of `always`, `on-failure`, `backoff`)"),
            // Nothing.
            ("restart:", "3:1+7 null-value: `restart:` has no value (write one, or remove the key)"),
            ("weight: ~", "3:9+1 null-value: `weight: ~` has no value (write one, or remove the key)"),
            ("tiers:", "3:1+5 null-value: `tiers:` has no value (write a mapping)"),
            ("domains:\n# - a", "3:1+7 null-value: `domains:` has no value (write a list)"),
            ("domains: [null]", "3:11+4 null-value: this entry has no value (write a string; if the word itself is meant, put it in quotes)"),
            ("tiers: {free: {memoryMax: 1MiB, tasks: 1, cpus: }}", "3:43+4 null-value: `cpus:` has no value (write one, or remove the key)"),
            // Numbers.
            ("ports: ['80']", "3:9+4 wrong-type: expected a whole number, found the string `80` in quotes (write `80`, without quotes)"),
            ("ports: [0x50]", "3:9+4 wrong-type: expected a whole number, found the string `0x50` (write a decimal number: `80`)"),
            ("ports: [1_000]", "3:9+5 wrong-type: expected a whole number, found the string `1_000` (write a decimal number: `1000`)"),
            ("ports: [080]", "3:9+3 wrong-type: expected a whole number, found the string `080` (write a whole number from 0 to 65535)"),
            ("ports: [80.0]", "3:9+4 wrong-type: expected a whole number, found the number `80.0` (write a whole number from 0 to 65535)"),
            ("ports: [-1]", "3:9+2 out-of-range: `-1` is too small: 0 is the least (write a whole number from 0 to 65535)"),
            ("ports: [99999999999999999999999999999999999999999999]", "3:9+44 out-of-range: `99999999999999999999999999999999999999999999` is too large: 65535 is the most (write a whole number from 0 to 65535)"),
            ("weight: .inf", "3:9+4 wrong-type: expected a number, found the string `.inf` (write a number such as `2` or `0.5`)"),
            ("weight: .5", "3:9+2 wrong-type: expected a number, found the string `.5` (write a decimal number: `0.5`)"),
            ("weight: 1e999", "3:9+5 out-of-range: `1e999` is too large (write a number such as `2` or `0.5`)"),
            // Lists and mappings.
            ("domains: a", "3:10+1 wrong-type: expected a list, found the string `a` (write `- a` on a line of its own)"),
            ("domains: {a: b}", "3:10+6 wrong-type: expected a list, found a mapping (begin each entry of the list with `- `)"),
            ("tiers: [free]", "3:8+6 wrong-type: expected a mapping, found a list (write `key: value` lines without `- `)"),
            ("tiers: true", "3:8+4 wrong-type: expected a mapping, found `true` (write `key: value` lines, indented, below `tiers:`)"),
            ("tiers: {free: memoryMax:1MiB}", "3:15+14 wrong-type: expected a mapping, found the string `memoryMax:1MiB` (put a space after the `:` of a key: `key: value`)"),
            ("environment: [A]", "3:14+3 wrong-type: expected a mapping, found a list (write `key: value` lines without `- `)"),
            // Newtypes.
            ("tiers: {free: {memoryMax: 1MiB, tasks: 1, cpus: []}}", "3:49+2 wrong-type: expected a number of processors such as 0.5, found a list (write a number of processors such as 0.5)"),
            ("tiers: {free: {memoryMax: 1MiB, tasks: 1, cpus: 5000000000}}", "3:49+10 invalid-value: too many processors ()"),
            // Read with the text: said once.
            ("ports: [1]\nports: [x]", "4:1+5 duplicate-key: the key `ports` is written twice, first in line 3 (keep one of the two; the first one was read)"),
            ("weight: *w", "3:9+2 alias: aliases are not used here (write the value itself; text that begins with `*` goes in quotes)"),
            ("tiers:\n  free: {<<: *x, tasks: 1}", "4:10+2 merge-key: merge keys are not used here (write the keys themselves)"),
        ];
    for (lines, expected) in cases {
        let (tenant, findings) = with(lines);
        assert_eq!(findings, [expected], "{lines}");
        assert!(tenant.is_some(), "{lines}");
    }
}

#[test]
fn all_missing_keys_are_found_and_nothing_twice() {
    let (tenant, findings) = findings_of::<Tenant>("colour: red\ntiers: {a: {}, b: {cpu: 1}}\n");
    let findings: Vec<_> = findings.iter().filter_map(|f| f.split(" (").next()).collect();
    assert_eq!(
        findings,
        [
            "1:1+6 missing-key: missing key `enabled`",
            "1:1+6 missing-key: missing key `tenant`",
            "1:1+6 unknown-key: unknown key `colour`",
            "2:12+2 missing-key: missing key `memoryMax` in `a`",
            "2:12+2 missing-key: missing key `tasks` in `a`",
            "2:19+8 missing-key: missing key `memoryMax` in `b`",
            "2:19+8 missing-key: missing key `tasks` in `b`",
            "2:20+3 unknown-key: unknown key `cpu`",
        ]
    );
    assert_eq!(tenant.unwrap().name.span.line, 1);
}

#[test]
fn a_file_that_is_no_mapping_has_no_value() {
    for (text, expected) in [
        (
            "a:b",
            "1:1+3 wrong-type: expected a mapping, found the string `a:b` (put a space after the `:` of a key: `key: value`)",
        ),
        ("- a", "1:1+3 wrong-type: expected a mapping, found a list (write `key: value` lines without `- `)"),
        ("", "1:1+0 empty-file: the file holds no keys (write the keys of the file, or remove the file)"),
    ] {
        let (tenant, findings) = findings_of::<Tenant>(text);
        assert_eq!(tenant, None, "{text}");
        assert_eq!(findings, [expected]);
    }
}

/// A required field without a `Located` takes the nearest one along, not more.
#[test]
fn bare_fields_fail_with_what_is_around_them() {
    #[derive(Debug, PartialEq, Deserialize)]
    struct Bare {
        a: u8,
        b: Option<u8>,
    }
    #[derive(Debug, PartialEq, Deserialize)]
    struct File {
        list: Located<Vec<Located<Bare>>>,
        last: Located<u8>,
    }
    let text = "list:\n- {a: 1, b: x}\n- {a: x, b: 2, c: 3}\n- {b: x}\nlast: x\n";
    let (file, findings) = findings_of::<File>(text);
    let findings: Vec<_> = findings.iter().filter_map(|f| f.split(": ").next()).collect();
    assert_eq!(
        findings,
        [
            "2:13+1 wrong-type",
            "3:7+1 wrong-type",
            "3:16+1 unknown-key",
            "4:3+6 missing-key",
            "4:7+1 wrong-type",
            "5:7+1 wrong-type",
        ]
    );
    let list = file.unwrap().list.value.unwrap();
    let values: Vec<_> = list.iter().map(Located::get).collect();
    assert_eq!(values, [Some(&Bare { a: 1, b: None }), None, None]);
}

#[test]
fn keys_are_values_too() {
    #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
    #[serde(rename_all = "lowercase")]
    enum Protocol {
        Tcp,
        Udp,
    }
    let text = "tcp: {80: a, x: b}\nupd: {}\n";
    let (map, findings) = findings_of::<LocatedMap<Protocol, LocatedMap<u16, String>>>(text);
    assert_eq!(
        findings,
        [
            "1:14+1 wrong-type: expected a whole number, found the string `x` (write a whole number from 0 to 65535)",
            "2:1+3 unknown-value: unknown value `upd` (did you mean `udp`? known values: `tcp`, `udp`)",
        ]
    );
    let map = map.unwrap();
    assert_eq!(map.len(), 2);
    let tcp = map.get(&Protocol::Tcp).unwrap().get().unwrap();
    assert_eq!(tcp.get(&80).unwrap().get().unwrap(), "a");
    assert!(map.get(&Protocol::Udp).is_none());
    let (map, _) = findings_of::<BTreeMap<u16, bool>>("1: true\n");
    assert_eq!(map.unwrap(), BTreeMap::from([(1, true)]));
}

#[test]
fn anything_is_decoded_by_the_looks_of_plain_scalars() {
    let text = "[1, -1, 1.5, 1e3, true, x, '1', yes, 0x1, 010, 18446744073709551616, +1, .5, {a: ~}]";
    let (value, _) = findings_of::<serde_json::Value>(text);
    let expected = serde_json::json!([
        1, -1, 1.5, 1000.0, true, "x", "1", "yes", "0x1", "010",
        "18446744073709551616", "+1", ".5", {"a": null}
    ]);
    assert_eq!(value.unwrap(), expected);
}

#[test]
fn other_formats_see_nothing_of_the_places() {
    let (tenant, _) = findings_of::<Tenant>(GOOD);
    let json = serde_json::to_value(tenant.unwrap()).unwrap();
    assert_eq!(json["tiers"]["paid"]["cpus"], 1.5);
    assert_eq!(json["domains"], serde_json::json!(["a.example", "b.example"]));
    let again: Tenant = serde_json::from_value(json.clone()).unwrap();
    assert_eq!(again.name, Located::new("größe".to_owned()));
    assert_eq!(serde_json::to_value(again).unwrap(), json);
    assert!(serde_json::from_str::<Located<Memory>>("\"1\"").is_err());

    let schema = schemars::schema_for!(Tenant);
    let schema = schema.as_value();
    assert_eq!(schema["properties"]["tenant"]["type"], "string");
    assert_eq!(schema["properties"]["domains"]["items"]["type"], "string");
    let environment = &schema["properties"]["environment"];
    assert_eq!(environment["additionalProperties"]["type"], "string");
    assert_eq!(schema["required"], serde_json::json!(["tenant", "enabled"]));
    assert_eq!(schema["additionalProperties"], false);
}

/// Everything a file can be decoded into here.
fn decode_all(bytes: &[u8]) -> Vec<Finding> {
    let (_, mut findings) = decode::<Tenant>("t.yaml", bytes);
    findings.extend(decode::<serde_json::Value>("t.yaml", bytes).1);
    findings.extend(decode::<LocatedMap<Cpus, Vec<(u8, Restart)>>>("t.yaml", bytes).1);
    findings
}

/// Checks that each finding lies in the file, its end included.
fn check_places(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
    let text = text.replace("\r\n", "\n").replace('\r', "\n");
    let lines: Vec<_> = text.split('\n').map(|line| line.chars().count()).collect();
    for finding in decode_all(bytes) {
        let (column, length) = (finding.column as usize, finding.length as usize);
        let line = lines.get((finding.line as usize).wrapping_sub(1));
        let inside = line.is_some_and(|chars| column >= 1 && column + length <= chars + 1);
        assert!(inside, "{finding:?} is not in {text:?}");
        let known = rule(finding.code).is_some();
        assert!(known && !finding.message.is_empty(), "{finding:?}");
    }
}

/// Pieces that a mutation puts into a file.
const PIECES: &[&str] = &[
    "",
    " ",
    "  ",
    "\n",
    "\r",
    "\t",
    ":",
    ": ",
    "- ",
    "? ",
    "[",
    "]",
    "{",
    "}",
    ",",
    "&a ",
    "*a",
    "!t ",
    "!!str ",
    "<<: *a",
    "'",
    "\"",
    "|\n",
    ">-\n",
    "#",
    " #",
    "---\n",
    "...\n",
    "%",
    "@",
    "\\",
    "\"\\0\"",
    "\0",
    "\u{feff}",
    "\u{85}",
    "\u{2028}",
    "ß",
    "~",
    "null",
    "tiers:\n",
    "  paid: {}\n",
    "[[[[[[[[[[[[[[[[[[",
    "x",
    "1",
    "-",
    ".",
];

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_bytes_panic(bytes: Vec<u8>) {
        check_places(&bytes);
    }

    #[test]
    fn no_text_panics(text in "[ \\-:?\\[\\]{},&*!|>'\"%@#~\t\n\r\\\\aAß0.\u{feff}]{0,60}") {
        check_places(text.as_bytes());
    }

    #[test]
    fn no_mutation_panics(
        cuts in prop::collection::vec(
            (0..GOOD.len(), 0..12_usize, prop::sample::select(PIECES)),
            1..6,
        ),
    ) {
        let mut bytes = GOOD.as_bytes().to_vec();
        for (at, cut, piece) in cuts {
            let at = at.min(bytes.len());
            let end = (at + cut).min(bytes.len());
            bytes.splice(at..end, piece.bytes());
        }
        check_places(&bytes);
    }
}
