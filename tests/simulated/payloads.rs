//! Config files held against JSON Schemas of the repo: as a person is told of it, and in the way of whoever writes schemas to
//! keep a processor at work.

use std::{collections::BTreeMap, sync::Arc};

use serde_json::{Value, json};
use tenantd::{
    model::{
        Desired,
        tree::{Carried, SourceFile, Tree},
    },
    spec,
};

use crate::cli::Cli;

const SCHEMA: &str =
    r#"{"type": "object", "properties": {"port": {"type": "integer"}}, "additionalProperties": false}"#;
const ENTRY: &str = "files: [{path: a.json, from: files/ant/a.json, schema: schemas/a.json}]\n";

fn cli(payload: &str) -> Cli {
    let cli = Cli::uncommitted(&["bee"]);
    cli.tenant("ant", ENTRY);
    cli.write("schemas/a.json", SCHEMA);
    cli.write("files/ant/a.json", payload);
    cli
}

#[test]
fn an_error_is_shown_on_the_line_of_the_config_file() {
    let cli = cli("{\n  \"port\": \"80\",\n  \"prot\": 80\n}\n");
    let printed = cli.on_repo("validate", &[]).with(1).err;
    let expected = "files/ant/a.json:2:11: error[schema]: this is not of type \"integer\"\n    \
                    2 |   \"port\": \"80\",\n      |           ^^^^\n      = help: schemas/a.json asks for it at /properties/port/type\n\
                    files/ant/a.json:3:3: error[schema]: the key `prot` is not known here\n    \
                    3 |   \"prot\": 80\n      |   ^^^^^^\n      = help: schemas/a.json asks for it at /additionalProperties\n";
    assert_eq!(printed, expected);
    let json: Value = serde_json::from_str(&cli.on_repo("validate", &["--format", "json"]).with(1).out).unwrap();
    assert_eq!((&json["held"], &json["tenants"]), (&json!(["ant"]), &json!(["bee"])));
}

#[test]
fn a_pull_request_that_breaks_a_config_file_fails_before_the_merge() {
    let cli = cli(r#"{"port": 80}"#);
    let base = cli.commit();
    cli.write("files/ant/a.json", r#"{"port": "80"}"#);
    cli.commit();
    let json = |options: &[&str]| -> Value {
        let ended = cli.on_repo("plan", &[&["--base", &base, "--format", "json"], options].concat()).with(1);
        serde_json::from_str(&ended.out).unwrap()
    };
    let review = json(&[]);
    let finding = &review["findings"][0];
    assert_eq!(
        (&finding["file"], &finding["line"], &finding["column"]),
        (&json!("files/ant/a.json"), &json!(1), &json!(10))
    );
    assert_eq!(review["tenants"][0]["change"], "held", "{review:#}");
    let sarif = cli.on_repo("plan", &["--base", &base, "--format", "sarif"]).with(1).out;
    assert!(sarif.contains("files/ant/a.json"), "{sarif}");

    // So is one that tightens the schema, and leaves the file as it is.
    cli.write("files/ant/a.json", r#"{"port": 80}"#);
    cli.write("schemas/a.json", &SCHEMA.replace(r#""integer""#, r#""integer", "minimum": 1024"#));
    cli.commit();
    let finding = json(&[])["findings"][0].clone();
    assert_eq!((&finding["message"], &finding["line"]), (&json!("this is less than the minimum of 1024"), &json!(1)));
}

/// A repo of these tenants, each with the same lines, and files that are given on.
fn compile(tenants: usize, lines: &str, carried: &[(&str, String)]) -> Desired {
    let head = "apiVersion: tenantd/v1\nkind: ";
    let mut files = vec![SourceFile {
        path: "fleet.yaml".into(),
        bytes: format!("{head}Fleet\ndefaults: {{tier: free, image: a:1}}\n").into(),
    }];
    files.extend((0..tenants).map(|n| SourceFile {
        path: format!("tenants/t{n:05}.yaml"),
        bytes: format!("{head}Tenant\ntenant: t{n:05}\n{lines}").into(),
    }));
    let carried: BTreeMap<String, Carried> =
        carried.iter().map(|(path, text)| ((*path).to_owned(), Carried::File(text.as_bytes().into()))).collect();
    spec::compile(&Tree { files, carried: Arc::new(carried), ..Tree::default() })
}

const SHARED: &str = "files: [{path: a.json, from: files/shared/a.json, schema: schemas/a.json}]\n";

/// What is told of one tenant whose config file is held against a schema.
fn printed(schema: &Value, payload: &Value) -> Vec<String> {
    let files = [("schemas/a.json", schema.to_string()), ("files/shared/a.json", payload.to_string())];
    let desired = compile(1, SHARED, &files);
    assert_eq!(desired.tenants.is_empty(), !desired.findings.is_empty());
    desired.findings.iter().map(|one| format!("{} {}", one.code, one.file)).collect()
}

/// Members of a chain of definitions, each of which names the next one twice.
fn doubling(applicator: &str, length: usize) -> Value {
    let next = |n: usize| json!({"$ref": format!("#/$defs/d{n}")});
    let mut defs: BTreeMap<String, Value> =
        (0..length).map(|n| (format!("d{n}"), json!({applicator: [next(n + 1), next(n + 1)]}))).collect();
    defs.insert(format!("d{length}"), json!({"type": "integer"}));
    json!({"$ref": "#/$defs/d0", "$defs": defs})
}

/// A value in itself, so often.
fn nested(depth: usize, wrap: impl Fn(Value) -> Value) -> Value {
    (0..depth).fold(json!({}), |inner, _| wrap(inner))
}

#[test]
fn schemas_that_are_made_to_take_long_are_refused() {
    let list = |count: usize| Value::from((0..count).map(|n| json!({"n": n})).collect::<Vec<_>>());
    let members = nested(30, |inner| json!({"a": inner}));
    let refused = [
        // In their size, once each reference is what it names.
        (doubling("allOf", 30), json!({})),
        (doubling("anyOf", 30), json!({})),
        (doubling("oneOf", 30), json!({})),
        (nested(20, |inner| json!({"allOf": [inner], "unevaluatedProperties": false})), json!({})),
        (json!({"allOf": vec![json!({"pattern": "a{100}"}); 300]}), json!("a")),
        (json!({"pattern": "((a{100}){100}){100}"}), json!("a")),
        // In their depth.
        (nested(100, |inner| json!({"not": inner})), json!({})),
        (json!({"allOf": [{"$ref": "#"}]}), json!({})),
        (json!({"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}}), json!({})),
        // In what they do with a file.
        (json!({"properties": {"a": {"anyOf": [{"$ref": "#"}, {"$ref": "#"}]}}}), members.clone()),
        (json!({"additionalProperties": {"oneOf": [{"$ref": "#"}, {"not": {"$ref": "#"}}]}}), members),
        (json!({"uniqueItems": true}), list(6_000)),
        (json!({"items": {"enum": list(300)}}), list(500)),
        (
            json!({"allOf": vec![json!({"items": {"$ref": "#/$defs/a"}}); 100], "$defs": {"a": {"properties": {"n": true}}}}),
            list(2_000),
        ),
        (json!({"allOf": vec![json!({"pattern": "(a|aa)+$"}); 20]}), json!("a".repeat(200_000))),
    ];
    for (schema, payload) in refused {
        let printed = printed(&schema, &payload);
        let [one] = &printed[..] else { panic!("{schema}: {printed:?}") };
        assert!(one.starts_with("bad-schema schemas/") || one.starts_with("schema-work files/"), "{schema}: {one}");
    }
}

#[test]
fn schemas_of_an_ordinary_size_are_used() {
    let tree = nested(9, |inner| json!({"name": "n", "children": [inner.clone(), inner]}));
    let of_tree = json!({
        "type": "object",
        "properties": {"name": {"type": "string"}, "children": {"type": "array", "items": {"$ref": "#"}}},
        "additionalProperties": false
    });
    let many: serde_json::Map<String, Value> =
        (0..1_000).map(|n| (format!("k{n}"), json!({"type": "integer"}))).collect();
    let set: serde_json::Map<String, Value> = (0..1_000).map(|n| (format!("k{n}"), json!(n))).collect();
    let patterns: serde_json::Map<String, Value> = (0..50).map(|n| (format!("^k{n}"), json!({"minimum": 0}))).collect();
    for (schema, payload) in [
        (of_tree, tree),
        (json!({"properties": many, "additionalProperties": false}), Value::from(set.clone())),
        (json!({"patternProperties": patterns, "unevaluatedProperties": false}), json!({"k1": 1, "k20": 2})),
        (
            json!({"$schema": "http://json-schema.org/draft-07/schema#", "dependencies": {"k1": ["k2"], "k2": {"required": ["k3"]}}}),
            Value::from(set),
        ),
        (doubling("anyOf", 8), json!(1)),
        (json!({"format": "password"}), json!("a word of no known form")),
    ] {
        assert_eq!(printed(&schema, &payload), Vec::<String>::new(), "{schema}");
    }
}

#[test]
fn files_that_many_share_are_checked_once_and_all_of_them_are_held() {
    // Each check is the most that is done for one file: twenty thousand of them would be no end.
    let payload = json!((0..15_000).map(|n| n.to_string()).collect::<Vec<_>>()).to_string();
    let schema = json!({"items": {"allOf": vec![json!({"type": "string"}); 10]}, "maxItems": 10}).to_string();
    let files = [("schemas/a.json", schema), ("files/shared/a.json", payload)];
    let desired = compile(20_000, SHARED, &files);
    assert_eq!((desired.held.len(), desired.findings.len(), desired.policy_usable), (20_000, 1, true));
}

#[test]
fn schemas_that_are_too_many_are_refused() {
    let patterns = Value::from((0..150).map(|n| json!({"pattern": format!("^{n}")})).collect::<Vec<_>>());
    let mut files = vec![("files/shared/a.json".to_owned(), "{}".to_owned())];
    files.extend(
        (0..30).map(|n| (format!("schemas/{n}.json"), json!({"anyOf": patterns, "title": n.to_string()}).to_string())),
    );
    let files: Vec<(&str, String)> = files.iter().map(|(path, text)| (path.as_str(), text.clone())).collect();
    let entry = |n: usize| format!("{{path: '{n}', from: files/shared/a.json, schema: schemas/{n}.json}}");
    let lines = format!("files: [{}]\n", (0..30).map(entry).collect::<Vec<_>>().join(", "));
    let desired = compile(1, &lines, &files);
    let codes: Vec<&str> = desired.findings.iter().map(|one| one.code).collect();
    assert!(codes.len() > 5 && codes.len() < 25 && codes.iter().all(|code| *code == "bad-schema"), "{codes:?}");
}

#[test]
fn a_rule_in_other_words_loosens_and_one_that_is_only_laid_out_anew_does_not() {
    let cli = Cli::uncommitted(&["ant", "bee"]);
    let fleet = std::fs::read_to_string(cli.repo.join("fleet.yaml")).unwrap();
    cli.write("fleet.yaml", &format!("{fleet}rules: [rules/house.json]\n"));
    cli.write("rules/house.json", r#"{"$ref": "/schemas/common.json", "title": "House"}"#);
    cli.write("schemas/common.json", r#"{"properties": {"sessions": {"maximum": 10}}}"#);
    let base = cli.commit();
    let effects = || -> Vec<String> {
        let ended = cli.on_repo("plan", &["--base", &base, "--worktree", "--format", "json"]).with(0);
        let review: Value = serde_json::from_str(&ended.out).unwrap();
        let mut printed = Vec::new();
        for tenant in review["tenants"].as_array().unwrap() {
            printed.extend(tenant["effects"].as_array().unwrap().iter().map(|effect| {
                let at = format!("{}:{}", effect["at"]["file"].as_str().unwrap(), effect["at"]["line"]);
                let word = |key: &str| effect[key].as_str().unwrap().to_owned();
                format!("{} {} {} {at}", tenant["tenant"].as_str().unwrap(), word("mark"), word("field"))
            }));
        }
        printed
    };
    cli.write("rules/house.json", "{\n  \"title\": \"House\",\n  \"$ref\": \"/schemas/common.json\"\n}\n");
    assert_eq!(effects(), Vec::<String>::new());
    // It is what it refers to that has other words.
    cli.write("schemas/common.json", r#"{"properties": {"sessions": {"maximum": 11}}}"#);
    let line = fleet.lines().count() + 1;
    let both = |tenant: &str| {
        ["loosens", "tightens"].map(|mark| format!("{tenant} {mark} rules.house.json fleet.yaml:{line}"))
    };
    assert_eq!(effects(), [both("ant"), both("bee")].concat());
    cli.write("fleet.yaml", &fleet);
    assert_eq!(effects(), ["ant", "bee"].map(|tenant| format!("{tenant} loosens rules.house.json fleet.yaml:1")));
}

#[test]
fn a_rule_is_given_all_settings_in_the_published_form() {
    let schema = tenantd::spec::schema::schemas().into_iter().find(|(name, _)| *name == "settings.json").unwrap().1;
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    // As a rule the schema itself: whoever has a setting that it does not know, or lacks one, is refused.
    let mut strict = schema;
    strict.as_object_mut().unwrap().remove("$id");
    for repo in ["tests/samples/valid/every-key", "tests/samples/valid/documented", "example-repo"] {
        let mut tree = tenantd::source::read_directory(&root.join(repo)).unwrap();
        let mut carried = BTreeMap::clone(&tree.carried);
        carried.insert("rules/settings.json".to_owned(), Carried::File(strict.to_string().as_bytes().into()));
        tree.carried = Arc::new(carried);
        let fleet = tree.files.iter_mut().find(|file| file.path == "fleet.yaml").unwrap();
        let text = String::from_utf8(fleet.bytes.clone()).unwrap();
        let others = text.lines().filter(|line| !line.starts_with("rules:") && !line.starts_with("  - rules/"));
        let others: String = others.map(|line| format!("{line}\n")).collect();
        fleet.bytes = format!("{others}rules: [rules/settings.json]\n").into();
        let desired = spec::compile(&tree);
        assert_eq!(desired.findings, [], "{repo}");
        assert!(desired.tenants.values().all(|tenant| tenant.rules.len() == 1));
    }
}
