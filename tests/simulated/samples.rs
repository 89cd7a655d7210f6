//! Config repos, valid and invalid: each invalid one breaks one rule, and is named after it.

use std::{collections::BTreeSet, fs, os::unix::fs::symlink, path::Path, path::PathBuf};

use tenantd::{
    model::{Desired, Severity, finding::RULES, tree::Tree},
    source::{MAX_FILE, read_commit, read_directory},
    spec,
};

use crate::repo;

pub fn samples(kind: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/samples").join(kind);
    let mut found: Vec<PathBuf> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    found.sort();
    assert!(!found.is_empty());
    found
}

/// The rule that a sample breaks: its name up to the two hyphens.
pub fn rule(sample: &Path) -> String {
    let name = sample.file_stem().unwrap().to_str().unwrap();
    name.split("--").next().unwrap().to_owned()
}

/// Samples that cannot break their rule without breaking another one beside it.
const BESIDE: [(&str, &str); 3] = [("alias", "anchor"), ("duplicate-tenant", "file-name"), ("too-deep", "wrong-type")];

fn codes(desired: &Desired) -> BTreeSet<&str> {
    desired.findings.iter().map(|finding| finding.code).collect()
}

fn report(desired: &Desired) -> String {
    let findings: String = desired.findings.iter().map(|finding| format!("{finding}\n")).collect();
    let names: Vec<&str> = desired.tenants.keys().map(|name| name.as_str()).collect();
    format!("{findings}valid: {names:?}, held: {:?}\n", desired.held)
}

#[test]
fn every_valid_sample_is_valid() {
    let mut example = samples("valid");
    example.push(Path::new(env!("CARGO_MANIFEST_DIR")).join("example-repo"));
    for sample in example {
        let desired = spec::compile(&read_directory(&sample).unwrap());
        assert_eq!(desired.findings, [], "{}", sample.display());
        assert!(desired.held.is_empty() && desired.policy_usable);
    }
    for sample in samples("valid-hosts") {
        assert!(spec::host("host.yaml", &fs::read(&sample).unwrap()).is_ok(), "{}", sample.display());
    }
}

#[test]
fn every_invalid_sample_breaks_its_rule_alone_and_leaves_the_other_tenant_valid() {
    let mut reports = String::new();
    for sample in samples("invalid") {
        let name = sample.file_name().unwrap().to_str().unwrap();
        let desired = spec::compile(&read_directory(&sample).unwrap());
        let rule = rule(&sample);
        let mut expected = BTreeSet::from([rule.as_str()]);
        expected.extend(BESIDE.iter().filter(|(one, _)| *one == rule).map(|(_, beside)| *beside));
        assert_eq!(codes(&desired), expected, "{name}:\n{}", report(&desired));

        // What is wrong in the policy, or with the folder of tenants, concerns everybody.
        let of_tenants = |file: &str| ["tenants/", "files/", "schemas/"].iter().any(|folder| file.starts_with(folder));
        // A rule refuses one tenant, though the line may be that of its tier.
        let concerns_all = desired.findings.iter().any(|one| one.code != "rule" && !of_tenants(&one.file));
        assert_eq!(desired.policy_usable, !concerns_all, "{name}");
        let good: Vec<&str> = desired.tenants.keys().map(|tenant| tenant.as_str()).collect();
        let good_is_held = desired.held.contains("good") || !sample.join("tenants/good.yaml").exists();
        assert_eq!(
            (good.as_slice(), good_is_held),
            if concerns_all { (&[][..], true) } else { (&["good"][..], false) }
        );
        assert!(concerns_all || !desired.held.is_empty(), "{name}: nobody is held");
        reports.push_str(&format!("== {name}\n{}\n", report(&desired)));
    }
    insta::assert_snapshot!(reports);
}

#[test]
fn every_invalid_hosts_file_is_refused_as_a_whole() {
    let mut reports = String::new();
    for sample in samples("invalid-hosts") {
        let findings = spec::host("host.yaml", &fs::read(&sample).unwrap()).unwrap_err();
        let codes: BTreeSet<&str> = findings.iter().map(|finding| finding.code).collect();
        assert_eq!(codes, BTreeSet::from([rule(&sample).as_str()]), "{}", sample.display());
        let name = sample.file_name().unwrap().to_str().unwrap();
        let findings: String = findings.iter().map(|finding| format!("{finding}\n")).collect();
        reports.push_str(&format!("== {name}\n{findings}\n"));
    }
    insta::assert_snapshot!(reports);
}

#[test]
fn every_rule_has_a_sample_that_breaks_it() {
    // Made while the test runs, or not to be had: no value of today's files is refused without a
    // rule of its own.
    let elsewhere = BTreeSet::from(["invalid-value", "too-many-nodes"]);
    let broken: BTreeSet<String> =
        samples("invalid").iter().chain(&samples("invalid-hosts")).map(|sample| rule(sample)).collect();
    for (code, _) in RULES {
        assert!(broken.contains(*code) || elsewhere.contains(code), "no sample breaks {code}");
    }
}

/// A bad tenant with a config file that something is the matter with.
fn config_file(root: &Path, make: impl FnOnce(&Path)) {
    let lines = "files: [{path: agent.json, from: files/bad/agent.json}]\n";
    repo::write(root, &[("tenants/bad.yaml", &format!("apiVersion: tenantd/v1\nkind: Tenant\ntenant: bad\n{lines}"))]);
    fs::create_dir_all(root.join("files/bad")).unwrap();
    make(&root.join("files/bad/agent.json"));
}

/// A repository of one good tenant, in a folder of its own.
fn good() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    repo::write(
        folder.path(),
        &[
            ("fleet.yaml", "apiVersion: tenantd/v1\nkind: Fleet\ndefaults: {tier: free, image: \"agency/agent:1\"}\n"),
            ("tenants/good.yaml", "apiVersion: tenantd/v1\nkind: Tenant\ntenant: good\n"),
        ],
    );
    folder
}

#[test]
fn what_cannot_lie_in_a_sample_is_refused_as_well() {
    type Tampering = fn(&Path);
    let cases: [(&str, &str, Tampering); 10] = [
        ("tenants/bad.yaml", "symlink", |root| symlink("good.yaml", root.join("tenants/bad.yaml")).unwrap()),
        ("tenants/bad.yaml", "symlink", |root| symlink("/etc/passwd", root.join("tenants/bad.yaml")).unwrap()),
        ("tenants/bad", "symlink", |root| symlink("/etc", root.join("tenants/bad")).unwrap()),
        ("tenants/bad.yaml", "file-too-large", |root| {
            fs::write(root.join("tenants/bad.yaml"), "#".repeat(usize::try_from(MAX_FILE).unwrap() + 1)).unwrap();
        }),
        ("tenants/bad.yaml", "too-many-nodes", |root| {
            let head = "apiVersion: tenantd/v1\nkind: Tenant\ntenant: bad\ncommand: [";
            fs::write(root.join("tenants/bad.yaml"), format!("{head}{}]\n", "a,".repeat(20_000))).unwrap();
        }),
        ("fleet.yaml", "symlink", |root| {
            fs::rename(root.join("fleet.yaml"), root.join("policy.yaml")).unwrap();
            symlink("policy.yaml", root.join("fleet.yaml")).unwrap();
        }),
        ("tenants/bad.yaml", "symlink", |root| {
            config_file(root, |file| symlink("/etc/passwd", file).unwrap());
        }),
        ("tenants/bad.yaml", "file-missing", |root| {
            config_file(root, |file| {
                symlink("/etc", file.parent().unwrap().join("passwd")).unwrap();
                let tenant = root.join("tenants/bad.yaml");
                let text = fs::read_to_string(&tenant).unwrap();
                fs::write(tenant, text.replace("agent.json", "passwd/passwd")).unwrap();
            });
        }),
        ("tenants/bad.yaml", "file-too-large", |root| {
            config_file(root, |file| fs::write(file, "#".repeat(usize::try_from(MAX_FILE).unwrap() + 1)).unwrap());
        }),
        ("tenants", "symlink", |root| {
            fs::rename(root.join("tenants"), root.join("people")).unwrap();
            symlink("people", root.join("tenants")).unwrap();
        }),
    ];
    for (file, code, tamper) in cases {
        let folder = good();
        tamper(folder.path());
        let desired = spec::compile(&read_directory(folder.path()).unwrap());
        let found: Vec<(&str, &str)> = desired.findings.iter().map(|f| (f.file.as_str(), f.code)).collect();
        assert_eq!(found, [(file, code)]);
        assert_eq!(desired.findings[0].severity, Severity::Error);
        let concerns_all = !file.starts_with("tenants/");
        assert_eq!(desired.tenants.is_empty(), concerns_all, "{file} {code}");
        assert_eq!(desired.held.contains("bad"), !concerns_all, "{file} {code}");

        // A commit says the same.
        repo::commit(folder.path());
        assert_eq!(desired.findings, spec::compile(&read_commit(folder.path(), "HEAD").unwrap()).findings);
    }
}

#[test]
fn a_socket_or_pipe_is_never_opened() {
    let folder = good();
    let _socket = std::os::unix::net::UnixListener::bind(folder.path().join("tenants/bad.yaml")).unwrap();
    let desired = spec::compile(&read_directory(folder.path()).unwrap());
    assert_eq!(codes(&desired), BTreeSet::from(["bad-entry"]));
    assert_eq!(desired.tenants.len(), 1);

    let folder = good();
    let mut socket = None;
    config_file(folder.path(), |file| socket = Some(std::os::unix::net::UnixListener::bind(file).unwrap()));
    let desired = spec::compile(&read_directory(folder.path()).unwrap());
    assert_eq!(codes(&desired), BTreeSet::from(["not-a-file"]));
    assert_eq!(desired.tenants.len(), 1);
}

#[test]
fn a_file_just_within_the_bound_is_read() {
    let folder = good();
    let path = folder.path().join("tenants/good.yaml");
    let mut text = fs::read_to_string(&path).unwrap();
    text.push_str(&"#".repeat(usize::try_from(MAX_FILE).unwrap() - text.len()));
    fs::write(&path, text).unwrap();
    assert_eq!(spec::compile(&read_directory(folder.path()).unwrap()).findings, []);
}

#[test]
fn a_commit_and_a_folder_of_the_same_files_declare_the_same() {
    for sample in samples("valid").into_iter().chain(samples("invalid")) {
        let folder = tempfile::tempdir().unwrap();
        repo::copy(&sample, folder.path());
        repo::commit(folder.path());
        let (worktree, commit): (Tree, Tree) =
            (read_directory(folder.path()).unwrap(), read_commit(folder.path(), "HEAD").unwrap());
        let (worktree, commit) = (spec::compile(&worktree), spec::compile(&commit));
        assert_eq!(worktree.findings, commit.findings, "{}", sample.display());
        assert_eq!((worktree.tenants, worktree.held), (commit.tenants, commit.held), "{}", sample.display());
    }
}
