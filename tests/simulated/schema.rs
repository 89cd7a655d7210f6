//! The schemas that editors use, tried with a validator that is not ours.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use jsonschema::Validator;
use serde_json::Value;
use tenantd::cli::documents::published;

use crate::{
    daemon::Daemon,
    samples::{rule, samples},
};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// What lies under `schema/`, by its path there.
fn found() -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    for folder in ["", "draft-07/"] {
        for entry in fs::read_dir(root().join("schema").join(folder)).unwrap().map(|entry| entry.unwrap()) {
            if entry.file_type().unwrap().is_file() {
                let name = format!("{folder}{}", entry.file_name().into_string().unwrap());
                found.insert(name, fs::read_to_string(entry.path()).unwrap());
            }
        }
    }
    found
}

/// A validator for each schema, by its path without the ending.
fn validators() -> BTreeMap<String, Validator> {
    let schemas = found().into_iter().map(|(path, text)| {
        let schema: Value = serde_json::from_str(&text).unwrap();
        jsonschema::meta::validate(&schema).unwrap();
        let validator = match path.strip_prefix("draft-07/") {
            Some(_) => jsonschema::draft7::new(&schema),
            None => jsonschema::draft202012::new(&schema),
        };
        (path.strip_suffix(".json").unwrap().to_owned(), validator.unwrap())
    });
    schemas.collect()
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
    let found = found();
    let published = published();
    assert!(
        published.iter().map(|(path, _)| path).collect::<BTreeSet<_>>().iter().copied().eq(found.keys()),
        "{:?}",
        found.keys()
    );
    let mut ids = BTreeSet::new();
    for (path, schema) in published {
        assert!(found[&path] == format!("{schema:#}\n"), "schema/{path} is stale; `make schema` makes it anew");
        assert!(
            ["ingress.json", "operators.json"].contains(&path.as_str())
                || ids.insert(schema["$id"].as_str().unwrap().to_owned()),
            "{path}"
        );
    }
}

#[test]
fn the_older_draft_says_the_same_of_every_sample() {
    let validators = validators();
    let mut compared = [0, 0];
    let mut same = |schema: &str, path: &Path| {
        let Some(value) = json(path) else { return };
        let is_valid = validators[schema].is_valid(&value);
        assert_eq!(validators[&format!("draft-07/{schema}")].is_valid(&value), is_valid, "{}", path.display());
        compared[usize::from(is_valid)] += 1;
    };
    for kind in ["valid", "invalid"] {
        samples(kind).iter().flat_map(|repo| files(repo)).for_each(|(schema, path)| same(schema, &path));
        samples(&format!("{kind}-hosts")).iter().for_each(|path| same("host", path));
    }
    assert!(compared.iter().all(|count| *count > 40), "{compared:?}");
}

#[test]
fn what_commands_print_for_programs_has_the_published_form() {
    let validators = validators();
    let fits = |schema: &str, text: &str| {
        let value: Value = serde_json::from_str(text).unwrap();
        for draft in ["", "draft-07/"] {
            let errors: Vec<String> = validators[&format!("{draft}{schema}")]
                .iter_errors(&value)
                .map(|error| format!("{} {error}", error.instance_path()))
                .collect();
            assert!(errors.is_empty(), "{draft}{schema}: {errors:#?}\n{value:#}");
        }
        value
    };
    let mut daemon = Daemon::stopped(&["ant", "bee"], "");
    daemon.start();
    daemon.settled();
    daemon.proved();
    daemon.remove("ant");
    daemon.runs("ant");
    daemon.tenant("ant", "limits: {memory: 256MiB}\nallowlist: [api.example.com:443]\n");
    daemon.tenant("bee", "limits: {memory: much}\n");
    let base = daemon.git(&["rev-parse", "HEAD"]);
    daemon.push();
    daemon.wait("bee is held", || (daemon.reason("bee") == "InvalidFile").then_some(()));
    fits("status", &daemon.ask(&["status", "--format", "json"]).with(0).out);
    let repo = daemon.folder().join("repo");
    let repo = repo.to_str().unwrap();
    let history = fits("history", &daemon.ask(&["history", "--repo", repo, "--all", "--format", "json"]).with(0).out);
    assert!(!history["commits"].as_array().unwrap().is_empty());
    let review = fits("review", &daemon.ask(&["plan", repo, "--base", &base, "--format", "json"]).with(1).out);
    assert!(!review["tenants"].as_array().unwrap().is_empty() && !review["findings"].as_array().unwrap().is_empty());
    let report = ["audit", "report", "--repo", repo, "--from", "2000-01-01T00:00:00Z", "--format", "json"];
    let report = fits("report", &daemon.ask(&report).out);
    assert!(!report["tenants"].as_array().unwrap().is_empty() && !report["changes"].as_array().unwrap().is_empty());
    daemon.stop();
    daemon.remove("ant");
    daemon.update("bee", 64 << 20);
    let plan = fits("plan", &daemon.ask(&["plan", repo, "--format", "json"]).out);
    let is_there = |list: &str| !plan[list].as_array().unwrap().is_empty();
    assert!(is_there("resource_changes") && is_there("findings"), "{plan:#}");
}

#[test]
fn every_key_is_explained() {
    fn unexplained(path: &str, schema: &Value, found: &mut Vec<String>) {
        match schema {
            Value::Object(fields) => {
                for (key, value) in fields {
                    let path = format!("{path}/{key}");
                    if key == "properties" {
                        // A tag has one value, which what it tags explains, and so is what it tags where that is all.
                        let is_tag = |property: &Value| property.get("const").is_some();
                        let properties = value.as_object().into_iter().flatten();
                        let is_pair = properties.clone().count() == 2 && properties.clone().any(|(_, one)| is_tag(one));
                        for (name, property) in properties {
                            let explains = if is_pair || is_tag(property) { schema } else { property };
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
    for (name, schema) in published() {
        unexplained(&name, &schema, &mut found);
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
const BEYOND: [&str; 43] = [
    "alias",
    "anchor",
    "bad-entry",
    "bad-permit",
    "bad-pool",
    "bad-schema",
    "clear-text",
    "control-character",
    "duplicate-address",
    "duplicate-destination",
    "duplicate-key",
    "duplicate-path",
    "duplicate-port",
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
    "shared-user",
    "syntax",
    "tag",
    "unknown-tier",
    "unused-key",
    "unused-secret",
];

/// Samples of other rules that are beyond a schema all the same.
const BEYOND_SAMPLES: [&str; 10] = [
    "missing-key--image",
    "not-its-own--file",
    "out-of-range",
    "out-of-range--retry",
    "out-of-range--times",
    "bad-path--ingress",
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
