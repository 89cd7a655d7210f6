//! Whatever the documents give as an example is right.

use std::{fs, path::Path};

use serde_json::{Value, json};
use tenantd::{
    metrics::Notified,
    model::{
        Entry, Finding, Obstacle, Revision,
        host::NotifyEvent,
        record::{Verdict, Why},
        resource::Resource,
        status::{ConditionKind, Reason},
        tree::{SourceFile, Tree},
    },
    source::read_directory,
    spec::{self, schema::schemas},
    web::Refusal,
};

use crate::{
    cli::{bare, end},
    samples::samples,
};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The documents, by their names.
fn documents() -> Vec<(String, String)> {
    let mut found = vec![root().join("README.md")];
    found.extend(fs::read_dir(root().join("docs")).unwrap().map(|entry| entry.unwrap().path()));
    found.retain(|path| path.extension().is_some_and(|extension| extension == "md"));
    found.sort();
    found.iter().map(|path| (path.display().to_string(), fs::read_to_string(path).unwrap())).collect()
}

/// The blocks of a language in a document, each with its line and without what it is indented by.
pub fn blocks(text: &str, language: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    let mut lines = text.lines().zip(1..);
    while let Some((line, number)) = lines.next() {
        let fence = line.split_once("```").filter(|(_, after)| *after == language);
        let Some((indent, _)) = fence else { continue };
        let block = lines.by_ref().map(|(line, _)| line).take_while(|line| line.trim() != "```");
        let block = block.map(|line| format!("{}\n", line.strip_prefix(indent).unwrap_or(line.trim_start())));
        found.push((number, block.collect()));
    }
    found
}

/// The kinds of file, their schemas, and what an example of a part of one leaves out.
const KINDS: [(&str, &str, &[&str]); 4] = [
    ("Host", "host.json", &["source: {url: /srv/fleet.git}", SIGNERS]),
    ("Fleet", "fleet.json", &[]),
    ("Tiers", "tiers.json", &[]),
    ("Tenant", "tenant.json", &["tenant: city-law"]),
];
const SIGNERS: &str = "verify: {mode: all, signers: [\
    {name: ada, key: ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAILM+rvN+ot98qgEN796jTiQfZfG1KaT0PtFDJ/XFSqti}, \
    {name: bob, key: ecdsa-sha2-nistp256 AAAAE2VjZHNhLXNoYTItbmlzdHAyNTYAAAAIbmlzdHAyNTYAAABBBMh2fygK2wav0TFt1rcn/m7TBpRuoaxLO+PvTT8YaLNjlLKvDpm1OBWZtUILe+q5FFVwRVX08dS3RUCtUKP4hVc=}]}";

/// What a block is: the kind that it names, else the one that has all of its keys; and the whole file.
fn whole(block: &str) -> Option<(&'static str, String)> {
    let value: Value = serde_saphyr::from_str(block).ok()?;
    let keys = value.as_object()?;
    let has_all = |schema: &str| {
        let (_, schema) = schemas().into_iter().find(|(name, _)| *name == schema).unwrap();
        keys.keys().all(|key| schema["properties"].get(key).is_some())
    };
    let named = keys.get("kind").and_then(Value::as_str);
    let kind = KINDS.iter().find(|(kind, schema, _)| named.map_or_else(|| has_all(schema), |named| named == *kind));
    let (kind, _, more) = kind?;
    let mut text = block.to_owned();
    let header = ["apiVersion: tenantd/v1".to_owned(), format!("kind: {kind}")];
    for line in header.iter().map(String::as_str).chain(more.iter().copied()) {
        let key = line.split(':').next().unwrap();
        if !keys.contains_key(key) {
            text.push_str(&format!("{line}\n"));
        }
    }
    Some((kind, text))
}

/// What is wrong with a whole file, in the company of the example's others.
fn findings(kind: &str, text: &str) -> Vec<Finding> {
    if kind == "Host" {
        return spec::host("host.yaml", text.as_bytes()).err().unwrap_or_default();
    }
    let mut tree: Tree = read_directory(&root().join("example-repo")).unwrap();
    let value: Value = serde_saphyr::from_str(text).unwrap();
    let path = match kind {
        "Fleet" => "fleet.yaml".to_owned(),
        "Tiers" => "tiers.yaml".to_owned(),
        _ => format!("tenants/{}.yaml", value["tenant"].as_str().unwrap()),
    };
    tree.files.retain(|file| file.path != path);
    tree.files.push(SourceFile { path: path.clone(), bytes: text.as_bytes().to_vec() });
    tree.files.sort_by(|a, b| a.path.cmp(&b.path));
    let mut findings = spec::compile(&tree).findings;
    // What it says of others is not of the example.
    findings.retain(|finding| finding.file == path);
    findings
}

#[test]
fn every_block_of_yaml_is_valid() {
    let mut wrong = Vec::new();
    let mut count = 0;
    for (name, text) in documents() {
        for (line, block) in blocks(&text, "yaml") {
            count += 1;
            match whole(&block) {
                None => wrong.push(format!("{name}:{line}: of no kind of file")),
                Some((kind, text)) => {
                    wrong.extend(
                        findings(kind, &text).iter().map(|finding| format!("{name}:{line}: {kind}: {finding}")),
                    );
                }
            }
        }
    }
    assert_eq!(wrong, Vec::<String>::new());
    assert!(count >= 10, "{count} blocks");
}

/// The text between backticks in a document, each with its line; it may go on in the next line. Blocks are left out.
fn spans(text: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    let (mut is_block, mut inline) = (false, None::<(usize, String)>);
    for (line, number) in text.lines().zip(1..) {
        if line.trim_start().starts_with("```") {
            is_block = !is_block;
        } else if !is_block {
            for (part, is_first) in line.split('`').zip((0..).map(|at| at == 0)) {
                if !is_first {
                    match inline.take() {
                        None => inline = Some((number, String::new())),
                        Some(code) => found.push(code),
                    }
                }
                if let Some((_, code)) = &mut inline {
                    code.push_str(part);
                    code.push(' ');
                }
            }
        }
    }
    found
}

/// The commands in a document, each with its line: those of blocks, and those between backticks.
fn commands(text: &str) -> Vec<(usize, String)> {
    let mut found = spans(text);
    let mut is_block = false;
    for (line, number) in text.lines().zip(1..) {
        is_block ^= line.trim_start().starts_with("```");
        let typed = line.trim_start().split_once(['$', '#']).filter(|(host, _)| host.chars().all(char::is_alphabetic));
        let typed = typed.map_or(line, |(_, typed)| typed).trim_start();
        found.extend(is_block.then(|| (number, typed.to_owned())));
    }
    found.retain(|(_, code)| code.starts_with("tenantd "));
    found
}

/// The schemas of all keys with their paths, such as `egress.limits.idleTimeout`, in place of what they refer to: `[]` is any
/// item, `NAME` any key.
fn keys(root: &Value, of: &Value, prefix: &str, found: &mut Vec<(String, Value)>) {
    let mut take = |path: String, schema: &Value| {
        let name = schema["$ref"].as_str().and_then(|path| path.strip_prefix("#/$defs/"));
        let own = name.map_or_else(|| schema.clone(), |name| root["$defs"][name].clone());
        keys(root, &own, &format!("{path}."), found);
        found.push((path, own));
    };
    for (name, property) in of["properties"].as_object().into_iter().flatten() {
        take(format!("{prefix}{name}"), property);
    }
    for entries in of["patternProperties"].as_object().into_iter().flatten().map(|(_, entries)| entries) {
        take(format!("{prefix}NAME"), entries);
    }
    if let Some(items) = of.get("items") {
        take(format!("{prefix}[]"), items);
    }
}

/// Settings in the middle of a sentence, such as `workspaces: {backend: btrfs}`: some key has that name and takes that value.
#[test]
fn every_inline_setting_is_valid() {
    let mut all = Vec::new();
    for (_, schema) in schemas() {
        let first = all.len();
        keys(&schema, &schema, "", &mut all);
        all[first..].iter_mut().for_each(|(_, own)| own["$defs"] = schema["$defs"].clone());
    }
    let (mut wrong, mut count) = (Vec::new(), 0);
    for (name, text) in documents() {
        for (line, code) in spans(&text) {
            let code = code.replace("PATH", "/srv/file").replace("NAME", "name");
            let is_key = |key: &str| !key.is_empty() && key.chars().all(|c| c.is_ascii_alphanumeric() || c == '.');
            let (key, value) = match code.trim().split_once(": ") {
                Some((key, value)) if is_key(key) => (format!(".{key}"), value),
                Some((key, _)) if key.strip_prefix('{').is_some_and(is_key) => (String::new(), code.trim()),
                _ => continue,
            };
            count += 1;
            let value: Option<Value> = serde_saphyr::from_str(value).ok();
            let takes = |schema: &Value| {
                let schema = jsonschema::draft202012::new(schema).unwrap();
                value.as_ref().is_some_and(|value| schema.is_valid(value))
            };
            let named = all.iter().filter(|(path, _)| format!(".{path}").ends_with(&key));
            if !named.into_iter().any(|(_, schema)| takes(schema)) {
                wrong.push(format!("{name}:{line}: {code}"));
            }
        }
    }
    assert_eq!(wrong, Vec::<String>::new());
    assert!(count >= 10, "{count} settings");
}

/// Blocks of JSON are parsed, and what they are is known; so is JSON in the middle of a sentence.
#[test]
fn every_json_is_what_the_program_reads_and_writes() {
    let operations = root().join("docs/operations.md").display().to_string();
    let (mut blocks_of, mut refusals) = (Vec::new(), 0);
    for (name, text) in documents() {
        for (line, block) in blocks(&text, "json") {
            let value: Value = serde_json::from_str(&block).unwrap_or_else(|e| panic!("{name}:{line}: {e}"));
            match name == operations {
                true => blocks_of.push((value, text.clone())),
                // A rule, or the schema of a config file.
                false => drop(jsonschema::draft202012::new(&value).unwrap_or_else(|e| panic!("{name}:{line}: {e}"))),
            }
        }
        for (line, code) in spans(&text).iter().filter(|(_, code)| code.starts_with("{\"")) {
            let refusal: Refusal = serde_json::from_str(code).unwrap_or_else(|e| panic!("{name}:{line}: {e}"));
            assert!(refusal.hint.is_some(), "{refusal:?}");
            refusals += 1;
        }
    }
    let [(daemon, text), (notification, _)] = &blocks_of[..] else { panic!("{blocks_of:?}") };
    for key in daemon.as_object().unwrap().keys() {
        assert!(text.contains(&format!("\n| `{key}` |")), "{key} is in the table of the engine's settings");
    }
    notification["event"].as_str().map(|event| serde_json::from_value::<NotifyEvent>(event.into()).unwrap()).unwrap();
    notification["revision"].as_str().unwrap().parse::<Revision>().unwrap();
    assert_eq!(refusals, 1);
}

/// What is typed can be: each command, its options and the form of their values. What a line does beside that is the shell's.
#[test]
fn every_command_is_one() {
    let mut wrong = Vec::new();
    let mut count = 0;
    for (name, text) in documents() {
        for (line, code) in commands(&text) {
            // What the program prints begins with its name as well.
            if code.starts_with(concat!("tenantd ", env!("CARGO_PKG_VERSION"))) {
                continue;
            }
            let anchor = format!("1..2:{}", "0".repeat(64));
            let words = code.split_whitespace().skip(1);
            let words = words.take_while(|word| !word.starts_with(['#', '|', '<', '>', '&']));
            let words: Vec<&str> =
                words.map(|word| if word == "FIRST..SEQ:HASH" { &anchor } else { word }).chain(["--help"]).collect();
            let ended = end(bare(&words));
            if ended.code != 0 {
                wrong.push(format!("{name}:{line}: {code}: {}", ended.err.lines().next().unwrap_or_default()));
            }
            count += 1;
        }
    }
    assert_eq!(wrong, Vec::<String>::new());
    assert!(count >= 100, "{count} commands");
}

/// Whether a document has a value under a path.
fn has(document: &Value, path: &[&str], value: &Value) -> bool {
    // Numbers are compared as such: 1 is 1.0.
    let same = || document == value || document.as_f64().zip(value.as_f64()).is_some_and(|(one, other)| one == other);
    match path {
        [] => same(),
        ["[]", rest @ ..] => document.as_array().into_iter().flatten().any(|item| has(item, rest, value)),
        ["NAME", rest @ ..] => document.as_object().into_iter().flatten().any(|(_, entry)| has(entry, rest, value)),
        [key, rest @ ..] => document.get(key).is_some_and(|entry| has(entry, rest, value)),
    }
}

/// The samples are valid, as another test says; so each example that the reference gives is in one of them.
#[test]
fn every_example_of_the_reference_is_in_a_valid_sample() {
    let read = |path: &Path| serde_saphyr::from_str::<Value>(&fs::read_to_string(path).unwrap()).ok();
    let repo =
        |name: &str| samples("valid").iter().filter_map(|repo| read_if_there(&repo.join(name))).collect::<Vec<_>>();
    let mut missing = Vec::new();
    // Nobody writes what rules are given.
    for (name, schema) in schemas().into_iter().filter(|(name, _)| *name != "settings.json") {
        let documents: Vec<Value> = match name {
            "host.json" => samples("valid-hosts").iter().filter_map(|path| read(path)).collect(),
            "fleet.json" => repo("fleet.yaml"),
            "tiers.json" => repo("tiers.yaml"),
            _ => {
                let folders = samples("valid").into_iter().filter_map(|repo| fs::read_dir(repo.join("tenants")).ok());
                folders.flatten().filter_map(|entry| read(&entry.unwrap().path())).collect()
            }
        };
        let mut all = Vec::new();
        keys(&schema, &schema, "", &mut all);
        let examples = all.iter().filter_map(|(path, own)| Some((path, own["examples"].get(0)?)));
        let examples: Vec<_> = examples.collect();
        assert!(!examples.is_empty(), "{name}");
        for (path, example) in examples {
            let parts: Vec<&str> = path.split('.').collect();
            if !documents.iter().any(|document| has(document, &parts, example)) {
                missing.push(format!("{name}: {path}: {example}"));
            }
        }
    }
    assert_eq!(missing, Vec::<String>::new());
}

fn read_if_there(path: &Path) -> Option<Value> {
    serde_saphyr::from_str(&fs::read_to_string(path).ok()?).ok()
}

#[test]
fn the_kinds_of_drift_are_documented_as_they_are_counted() {
    let text = fs::read_to_string(root().join("docs/operations.md")).unwrap();
    let row = text.lines().find(|line| line.starts_with("| `tenantd_drift_total{kind}`")).unwrap();
    let printed: Vec<&str> = row.split('`').skip(3).step_by(2).collect();
    assert_eq!(printed, Resource::ALL.map(Resource::as_str));
}

#[test]
fn the_values_of_labels_are_documented_as_they_are_counted() {
    let text = fs::read_to_string(root().join("docs/operations.md")).unwrap();
    let printed = |metric: &str| -> Vec<String> {
        let row = text.lines().find(|line| line.starts_with(&format!("| `{metric}`"))).unwrap();
        row.split('`').skip(3).step_by(2).map(str::to_owned).collect()
    };
    assert_eq!(printed("tenantd_revisions_total{verdict}"), Verdict::ALL.map(Verdict::as_str));
    assert_eq!(printed("tenantd_notifications_total{result}"), Notified::ALL.map(Notified::as_str));
    assert_eq!(printed("tenantd_corrections_total{why,result}")[..2], Why::ALL.map(Why::as_str));
}

/// Whatever keeps a tenant from being made, operators can look up.
#[test]
fn each_obstacle_is_in_the_table() {
    let text = fs::read_to_string(root().join("docs/operations.md")).unwrap();
    let (_, table) = text.split_once("\n## When a tenant is blocked\n").unwrap();
    let (table, _) = table.split_once("\n## ").unwrap();
    let missing: Vec<&Obstacle> = Obstacle::ALL.iter().filter(|one| !table.contains(&format!("`{one}`"))).collect();
    assert_eq!(missing, Vec::<&Obstacle>::new());
}

#[test]
fn each_type_of_record_is_in_the_table() {
    // Serde names all that there are to whoever asks for another.
    let all = serde_json::from_value::<Entry>(json!({"type": "?"})).unwrap_err().to_string();
    let all: Vec<&str> = all.split('`').skip(3).step_by(2).collect();
    assert!(all.contains(&"intent") && all.contains(&"refused"), "{all:?}");
    let text = fs::read_to_string(root().join("docs/operations.md")).unwrap();
    let row = text.lines().find(|line| line.starts_with("| `type` |")).unwrap();
    let missing: Vec<&&str> = all.iter().filter(|one| !row.contains(&format!("`{one}`"))).collect();
    assert_eq!(missing, Vec::<&&str>::new());
}

/// Whatever `tenantd status` may show as a condition or its reason, operators can look up.
#[test]
fn each_condition_and_reason_is_in_the_table() {
    let text = fs::read_to_string(root().join("docs/operations.md")).unwrap();
    let (_, table) = text.split_once("\n## Conditions\n").unwrap();
    let (table, _) = table.split_once("\n## ").unwrap();
    for kind in ConditionKind::ALL {
        assert!(table.contains(&format!("| {kind} |")), "{kind} is in no table");
    }
    for reason in Reason::ALL {
        assert!(table.contains(&format!("`{reason}`")), "{reason} is in no table");
    }
}
