//! A weaker runtime that a commit asks for waits for somebody on the host's list, on a real engine with real signatures.

use std::{fs, path::PathBuf, process::Command};

use super::{HOST, Service};
use crate::engine::succeed;

const TENANT: &str = "acme";

/// An SSH key in the engine's folder: its public half.
fn key(service: &Service, name: &str) -> String {
    let file = file(service, name);
    let mut make = Command::new("ssh-keygen");
    make.args(["-q", "-t", "ed25519", "-N", "", "-C", name, "-f"]).arg(&file);
    succeed(make);
    fs::read_to_string(file.with_extension("pub")).unwrap().trim().to_owned()
}

fn file(service: &Service, name: &str) -> PathBuf {
    service.fleet.engine.dir().join(name)
}

/// Pushes an empty commit that approves by a line, signed by somebody or by nobody.
fn approve(service: &Service, line: &str, signer: Option<&str>) {
    let signing = signer.map(|name| format!("user.signingkey={}", file(service, name).display()));
    let mut words: Vec<&str> = Vec::new();
    if let Some(signing) = &signing {
        words.extend(["-c", "gpg.format=ssh", "-c", signing, "-c", "commit.gpgSign=true"]);
    }
    let message = format!("Agree\n\n{line}");
    words.extend(["commit", "--quiet", "--allow-empty", "-m", &message]);
    succeed(service.git(&words));
    succeed(service.git(&["push", "--quiet", "origin", "main"]));
}

#[test]
fn a_weaker_runtime_waits_for_an_approval() {
    let service = Service::new("approvals", "");
    if !service.fleet.engine.tests_gvisor() {
        return;
    }
    let [ada, eve] = ["ada", "eve"].map(|name| key(&service, name));
    let signers = format!("[{{name: ada, key: {ada}}}, {{name: eve, key: {eve}}}]");
    let approvals = "approvals: {fleet: prod, approvers: [ada], needed: [{loosenings: [runtime]}]}";
    service.fleet.declare(TENANT, "runtime: gvisor\n");
    service.fleet.declare("beta", "");
    let first = service.push();
    service.start();
    service.wait_until_in_order(&first);
    // What is in force by then is what later commits are compared with.
    service.settings(&format!("{HOST}verify: {{mode: none, signers: {signers}}}\n{approvals}\n"));
    service.terminate();
    service.start();
    service.wait_until_in_order(&first);

    let runtime = |service: &Service| {
        let container = service.fleet.engine.inspect("tenantd-acme");
        container["HostConfig"]["Runtime"].as_str().unwrap().to_owned()
    };
    let waits = |service: &Service| {
        service.condition(TENANT, "Ready").filter(|(_, reason, _)| reason == "ApprovalNeeded").map(|(_, _, why)| why)
    };
    let identity = service.fleet.engine.identity("tenantd-acme");
    service.fleet.declare(TENANT, "runtime: container\n");
    service.fleet.declare("beta", "limits: {memory: 128MiB}\n");
    service.push();
    service.wait("it waits", || waits(&service).is_some());
    service.wait("the other follows", || {
        service.fleet.engine.inspect("tenantd-beta")["HostConfig"]["Memory"] == 128 << 20
    });
    let line = waits(&service).and_then(|why| Some(why.split('`').nth(1)?.to_owned())).unwrap();
    let elsewhere = line.replace("fleet=prod", "fleet=test");
    for (line, signer) in [(&line, None), (&line, Some("eve")), (&elsewhere, Some("ada"))] {
        approve(&service, line, signer);
        let head = service.head();
        let applied = |service: &Service| service.status().map(|status| status["source"]["applied"].to_string());
        service.wait("the commit is in force", || applied(&service).is_some_and(|applied| applied.contains(&head)));
        assert!(waits(&service).is_some_and(|why| why.contains("ada")), "{signer:?}: nobody else's word counts");
    }
    assert_eq!((runtime(&service).as_str(), service.fleet.engine.identity("tenantd-acme")), ("runsc", identity));

    approve(&service, &line, Some("ada"));
    let head = service.head();
    service.wait_until_in_order(&head);
    assert_eq!(runtime(&service), "runc");
    service.end();
}
