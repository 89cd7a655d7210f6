//! The schemas that editors use, tried with a validator that is not ours.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use jsonschema::Validator;
use serde_json::Value;
use tenantd::{spec, web};

use crate::samples::{rule, samples};

/// Those of the files, and of the daemon's sockets.
fn schemas() -> impl Iterator<Item = (&'static str, Value)> {
    spec::schema::schemas().into_iter().chain(web::schemas())
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// A validator for each kind of file.
fn validators() -> BTreeMap<String, Validator> {
    let folder = fs::read_dir(root().join("schema")).unwrap();
    folder
        .map(|entry| {
            let path = entry.unwrap().path();
            let schema: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
            jsonschema::meta::validate(&schema).unwrap();
            let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
            (name, jsonschema::draft202012::new(&schema).unwrap())
        })
        .collect()
}

/// The YAML files of a config repo that a schema applies to, with the schema's name.
fn files(repo: &Path) -> Vec<(&'static str, PathBuf)> {
    let mut files = Vec::new();
    for (schema, name) in [("fleet", "fleet.yaml"), ("tiers", "tiers.yaml")] {
        files.extend(Some((schema, repo.join(name))).filter(|(_, path)| path.exists()));
    }
    let tenants = fs::read_dir(repo.join("tenants")).into_iter().flatten().map(|entry| entry.unwrap().path());
    files.extend(tenants.filter(|path| path.extension().is_some_and(|e| e == "yaml")).map(|path| ("tenant", path)));
    files
}

/// A file as an editor's YAML reader hands it to the validator; `None` where that refuses it already.
fn json(path: &Path) -> Option<Value> {
    let text = String::from_utf8(fs::read(path).unwrap()).ok()?;
    serde_saphyr::from_str(text.trim_start_matches('\u{feff}')).ok()
}

#[test]
fn the_schemas_in_the_repository_are_those_of_the_types() {
    let made: BTreeSet<&str> = schemas().map(|(name, _)| name).collect();
    let found: BTreeSet<String> = fs::read_dir(root().join("schema"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    assert!(made.iter().eq(&found), "{found:?}");
    for (name, schema) in schemas() {
        let text = fs::read_to_string(root().join("schema").join(name)).unwrap();
        assert!(text == format!("{schema:#}\n"), "schema/{name} is stale; `make schema` makes it anew");
    }
}

#[test]
fn every_key_is_explained() {
    fn unexplained(path: &str, schema: &Value, found: &mut Vec<String>) {
        match schema {
            Value::Object(fields) => {
                for (key, value) in fields {
                    let path = format!("{path}/{key}");
                    if key == "properties" {
                        for (name, property) in value.as_object().into_iter().flatten() {
                            // A tag has one value, which what it tags explains.
                            let explains = if property.get("const").is_some() { schema } else { property };
                            if explains["description"].as_str().is_none_or(str::is_empty) {
                                found.push(format!("{path}/{name}"));
                            }
                        }
                    }
                    unexplained(&path, value, found);
                }
            }
            Value::Array(items) => items.iter().for_each(|item| unexplained(path, item, found)),
            _ => {}
        }
    }
    let mut found = Vec::new();
    for (name, schema) in schemas() {
        unexplained(name, &schema, &mut found);
    }
    assert_eq!(found, Vec::<String>::new());
}

#[test]
fn the_example_and_the_valid_samples_pass() {
    let validators = validators();
    let mut repos = samples("valid");
    repos.push(root().join("example-repo"));
    let mut passed = 0;
    for (schema, path) in repos.iter().flat_map(|repo| files(repo)) {
        let value = json(&path).unwrap();
        let errors: Vec<String> =
            validators[schema].iter_errors(&value).map(|e| format!("{}: {e}", e.instance_path())).collect();
        assert!(errors.is_empty(), "{}: {errors:?}", path.display());
        passed += 1;
    }
    assert!(passed > 12, "{passed} files");
    for path in samples("valid-hosts") {
        assert!(validators["host"].is_valid(&json(&path).unwrap()), "{}", path.display());
    }
}

/// Rules that say more than a schema can: they need another file, the bytes, or arithmetic.
const BEYOND: [&str; 40] = [
    "alias",
    "anchor",
    "bad-entry",
    "bad-permit",
    "bad-pool",
    "bad-schema",
    "clear-text",
    "control-character",
    "duplicate-destination",
    "duplicate-key",
    "duplicate-path",
    "duplicate-route",
    "duplicate-signer",
    "duplicate-tenant",
    "empty-file",
    "file-missing",
    "file-name",
    "limit-above-tier",
    "merge-key",
    "missing-file",
    "multiple-documents",
    "no-identity",
    "no-signers",
    "no-tiers",
    "not-a-file",
    "not-utf8",
    "permit-overlaps",
    "raise-below-tier",
    "reserved-name",
    "rule",
    "runtime-not-allowed",
    "schema",
    "schema-format",
    "schema-work",
    "secret",
    "syntax",
    "tag",
    "unknown-tier",
    "unused-key",
    "unused-secret",
];

/// Samples of other rules that are beyond a schema all the same.
const BEYOND_SAMPLES: [&str; 9] = [
    "missing-key--image",
    "not-its-own--file",
    "out-of-range",
    "out-of-range--retry",
    "out-of-range--times",
    "bad-signer--cut",
    "empty-list--approvals",
    "empty-list--resolvers",
    "unknown-signer",
];

#[test]
fn the_invalid_samples_that_a_schema_can_refuse_are_refused() {
    let validators = validators();
    let refused = |schema: &str, path: &Path| json(path).is_none_or(|value| !validators[schema].is_valid(&value));
    let mut passed = Vec::new();
    for sample in samples("invalid") {
        let name = sample.file_name().unwrap().to_str().unwrap().to_owned();
        let any_refused = files(&sample).iter().any(|(schema, path)| refused(schema, path));
        if !any_refused && !BEYOND.contains(&rule(&sample).as_str()) {
            passed.push(name);
        }
    }
    for sample in samples("invalid-hosts") {
        if !refused("host", &sample) && !BEYOND.contains(&rule(&sample).as_str()) {
            passed.push(sample.file_stem().unwrap().to_str().unwrap().to_owned());
        }
    }
    assert_eq!(passed, BEYOND_SAMPLES);
}
