//! Another build of the binary sees no change, because nothing of a build reaches the engine.

use std::{fs, process::Command};

use tenantd::{
    model::{
        Cpus, Host, Observed, SPEC_LABEL, Step,
        observed::{EngineFacts, ImageFacts, ImageState},
        tree::{SourceFile, Tree},
    },
    plan::plan,
    spec,
};

use crate::{
    engine::said,
    fleet::{Fleet, code, run},
};

#[test]
fn another_build_sees_no_change() {
    let fleet = Fleet::start("builds");
    fleet.declare("acme", "environment: {GREETING: hello}\n");
    fleet.declare("zeta", fleet.gvisor());
    fleet.converge();
    // Another place, another name, another environment and working directory.
    let copy = fleet.engine.dir().join("other-name");
    fs::copy(env!("CARGO_BIN_EXE_tenantd"), &copy).unwrap();
    let mut command = Command::new(&copy);
    command.env_clear().env("HOME", "/").env("LANG", "tr_TR.UTF-8").env("TZ", "Asia/Tokyo").current_dir("/");
    command.arg("--host").arg(fleet.engine.dir().join("host.yaml")).arg("plan").arg(fleet.repo());
    command.args(["--worktree", "--detailed-exitcode"]);
    let output = run(command);
    assert_eq!(code(&output), 0, "a copy elsewhere sees no change:\n{}", said(&output));
    for tenant in ["acme", "zeta"] {
        let labels = fleet.engine.inspect(&format!("tenantd-{tenant}"))["Config"]["Labels"].to_string();
        assert!(!labels.contains(env!("CARGO_PKG_VERSION")), "no label holds the version: {labels}");
    }
    fleet.end();
}

/// The label says what was declared, to this build and to every later one.
#[test]
fn the_label_of_a_declaration_stays_the_same() {
    let files = [
        ("fleet.yaml", "apiVersion: tenantd/v1\nkind: Fleet\ndefaults: {tier: free, image: 'agency/agent:1'}\n"),
        ("tenants/acme.yaml", "apiVersion: tenantd/v1\nkind: Tenant\ntenant: acme\nenvironment: {GREETING: hello}\n"),
    ];
    let files = files.map(|(path, text)| SourceFile { path: path.into(), bytes: text.into() });
    let desired = spec::compile(&Tree { files: files.into(), ..Tree::default() });
    assert_eq!(desired.findings, [], "the declaration holds");
    let host = Host::default();
    let image = ImageFacts { id: "sha256:0".to_owned(), ..ImageFacts::default() };
    let engine = EngineFacts {
        version: "20.10.24".to_owned(),
        cpus: Cpus::whole(2),
        runtimes: ["runc".to_owned()].into(),
        seccomp: true,
        ..EngineFacts::default()
    };
    let images = [("agency/agent:1".to_owned(), ImageState::Present(image))].into();
    let plan = plan(&desired, &host, &Observed { engine, images, ..Observed::default() });
    let labels: Vec<String> = plan.tenants[0]
        .steps
        .iter()
        .filter_map(|planned| match &planned.step {
            Step::CreateContainer { spec, .. } => spec.labels.get(SPEC_LABEL).cloned(),
            Step::CreateNetwork { spec } => spec.labels.get(SPEC_LABEL).cloned(),
            _ => None,
        })
        .collect();
    assert_eq!(
        labels,
        ["c1e00a8c169ea7d2e3378441d8b00f14", "30c708cd698043bd4c986a959d8ef903"],
        "with other labels this build would make every network and container of every user anew"
    );
}
