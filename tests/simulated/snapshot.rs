//! Plans that are made of a snapshot, where neither the engine nor the host can be reached.

use std::{fs, os::unix::fs::PermissionsExt, path::PathBuf, process::Command, time::Duration};

use serde_json::{Value, json};
use tenantd::model::TENANT_LABEL;

use crate::{
    cli::{Cli, Ended, bare, end},
    daemon::Daemon,
    lookalikes,
    world::{IMAGE, image},
};

/// A key that somebody put into a tenant's environment by hand.
const KEY: &str = "sk-live-4f9a8b7c6d5e";

impl Cli {
    fn snapshot_path(&self) -> PathBuf {
        self.world.folder().join("host.snapshot")
    }

    /// Takes a snapshot, and returns its text.
    fn take(&self) -> String {
        let path = self.snapshot_path();
        let ended = self.run(&["snapshot", "--out", path.to_str().unwrap()]).with(0);
        assert_eq!((ended.out.as_str(), ended.err.as_str()), ("", ""));
        fs::read_to_string(path).unwrap()
    }

    /// Plans out of the snapshot alone, as someone does who has the repo and the file.
    fn plan_elsewhere(&self, options: &[&str]) -> Ended {
        let (repo, path) = (self.repo.to_str().unwrap(), self.snapshot_path());
        end(bare(&[&["plan", repo, "--snapshot", path.to_str().unwrap()], options].concat()))
    }

    fn key(&self) -> String {
        self.run(&["snapshot", "--public-key"]).with(0).out.trim().to_owned()
    }

    #[track_caller]
    fn same_plan(&self) -> String {
        let text = self.take();
        let mut shown = String::new();
        for options in [&["--format", "text"][..], &["--format", "json"], &["--tenant", "ant", "--detailed-exitcode"]] {
            let (here, elsewhere) = (self.on_repo("plan", options), self.plan_elsewhere(options));
            assert_eq!((here.code, &here.out), (elsewhere.code, &elsewhere.out), "{}\n{}", here.err, elsewhere.err);
            shown += &here.out;
        }
        assert!(!text.contains(KEY) && !shown.contains(KEY));
        shown
    }
}

#[test]
fn a_plan_of_a_snapshot_is_the_hosts_own_byte_for_byte() {
    let cli = Cli::new(&["ant", "bee", "cat"]);
    assert!(cli.same_plan().contains("container.ant will be created"));
    cli.apply().with(0);
    assert!(cli.same_plan().contains("No changes."));

    // What a pull request may bring: variables, limits, an image that no tenant has yet, one that there is not.
    cli.world.engine.with(|state| state.tag_image(image("tenantd/test:2", "2")));
    cli.tenant("ant", "environment: {MODE: fast}\nlimits: {memory: 64MiB}\n");
    cli.tenant("bee", "image: tenantd/test:2\n");
    cli.tenant("cat", "image: docker.io/tenantd/nowhere:7\n");
    cli.tenant("dog", "image: docker.io/tenantd/test\n");
    cli.tenant("elk", "runtime: microvm\n");
    cli.commit();
    let shown = cli.same_plan();
    for expected in ["container.ant must be replaced", "Blocked: cat", "Blocked: dog", "Blocked: elk"] {
        assert!(shown.contains(expected), "{expected}: {shown}");
    }

    // What somebody did by hand.
    let world = &cli.world;
    lookalikes::commit(world, "tenantd-ant", "x:1");
    lookalikes::run(world, "mydebug", "x:1", "tenantd-cat", json!({}));
    world.tamper("tenantd-ant", |doc| {
        doc["Config"]["Env"].as_array_mut().unwrap().push(json!(format!("TOKEN={KEY}")));
        doc["HostConfig"]["Privileged"] = json!(true);
        doc["HostConfig"]["Binds"] = json!(["/etc:/host:rw"]);
    });
    world.tamper("tenantd-bee", |doc| doc["HostConfig"]["Memory"] = json!(0));
    world.act("POST", "/networks/create", json!({"Name": "beside"}));
    world.foreign("foreign", "beside");
    let ghost = json!({"Image": IMAGE, "Env": [format!("TOKEN={KEY}")], "Labels": {TENANT_LABEL: "ghost"}});
    world.act("POST", "/containers/create?name=left", ghost);
    let shown = cli.same_plan();
    assert!(shown.contains("the container mydebug ("), "{shown}");
    assert!(shown.contains("TOKEN=(hidden)") && shown.contains("container.left will be destroyed"), "{shown}");
}

#[test]
fn a_variable_is_compared_without_its_value() {
    let cli = Cli::uncommitted(&[]);
    cli.tenant("ant", "environment: {MODE: fast, PLACE: here}\n");
    cli.commit();
    cli.apply().with(0);
    let text = cli.take();
    assert!(!text.contains("MODE=fast") && text.contains("MODE=(salted hash "), "{text}");
    assert!(cli.same_plan().contains("No changes."));
    // Another salt each time: hashes of two snapshots cannot be compared.
    let hash = |text: &str| text.split("MODE=(salted hash ").nth(1).map(|rest| rest[..32].to_owned());
    assert_ne!(hash(&text), hash(&cli.take()));

    cli.tenant("ant", "environment: {MODE: slow, PLACE: here}\n");
    cli.commit();
    assert!(cli.same_plan().contains("MODE=(hidden)"));
    // A value that is not declared any more is not shown either.
    cli.world.tamper("tenantd-ant", |doc| doc["Config"]["Env"] = json!(["PATH=/bin", "MODE=by-hand", "PLACE=here"]));
    let shown = cli.same_plan();
    assert!(!shown.contains("by-hand") && shown.contains("MODE=slow"), "{shown}");
}

#[test]
fn a_snapshot_says_its_age_and_its_signer() {
    let cli = Cli::new(&["ant"]);
    let text = cli.take();
    let mode = fs::metadata(cli.snapshot_path()).unwrap().permissions().mode();
    let key_mode = fs::metadata(cli.world.host.data_root.join("host.key")).unwrap().permissions().mode();
    assert_eq!((mode & 0o777, key_mode & 0o777), (0o600, 0o600));
    assert!(!text.contains("PRIVATE KEY"));

    let key = cli.key();
    let ended = cli.plan_elsewhere(&["--host-key", &key]).with(0);
    assert!(ended.err.starts_with("snapshot of 20") && ended.err.contains("s old, signed by the host's key SHA256:"));
    let ended = cli.plan_elsewhere(&[]).with(0);
    assert!(ended.err.contains("--host-key names nobody whose signature counts"), "{}", ended.err);
    let file = cli.world.folder().join("host.pub");
    fs::write(&file, format!("{key}\n")).unwrap();
    cli.plan_elsewhere(&["--host-key", file.to_str().unwrap()]).with(0);

    // It is an ordinary signature of SSH.
    let (line, signature) = text.split_once('\n').unwrap();
    let folder = cli.world.folder();
    fs::write(folder.join("line"), line).unwrap();
    fs::write(folder.join("line.sig"), signature).unwrap();
    fs::write(folder.join("allowed"), format!("host {key}\n")).unwrap();
    let mut verify = Command::new("ssh-keygen");
    verify.args(["-Y", "verify", "-f", "allowed", "-I", "host", "-n", "tenantd-snapshot", "-s", "line.sig"]);
    let verified = verify.current_dir(folder).stdin(fs::File::open(folder.join("line")).unwrap()).output().unwrap();
    assert!(verified.status.success(), "{verified:?}");

    // Old, of another key, changed, cut, or something else.
    std::thread::sleep(Duration::from_millis(1100));
    let ended = cli.plan_elsewhere(&["--max-age", "1s"]).with(1);
    assert!(ended.err.contains("is older than 1s") && ended.out.is_empty(), "{}", ended.err);
    let other = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f";
    let ended = cli.plan_elsewhere(&["--host-key", other]).with(1);
    assert!(ended.err.contains("is signed by SHA256:") && ended.err.contains("and not by"), "{}", ended.err);
    let bad = |bytes: &[u8], why: &str| {
        fs::write(cli.snapshot_path(), bytes).unwrap();
        let ended = cli.plan_elsewhere(&[]).with(1);
        assert!(ended.err.contains(why) && ended.out.is_empty(), "{why}: {}", ended.err);
    };
    bad(
        text.replace("\"privileged\":false", "\"privileged\":true")
            .replace("\"version\":3", "\"version\":9")
            .as_bytes(),
        "it was changed",
    );
    bad(text.replacen("runc", "runx", 1).as_bytes(), "it was changed after it was signed");
    bad(line.as_bytes(), "it is no snapshot");
    bad(b"", "it is no snapshot");
    bad(b"\xff\xfe\n", "cannot read");
    bad(&text.as_bytes()[..text.len() - 60], "the signature cannot be");
    bad(format!("{}\n{signature}", "[".repeat(100_000)).as_bytes(), "it was changed");
}

#[test]
fn another_key_can_sign_and_a_wrong_one_is_reported() {
    let cli = Cli::new(&["ant"]);
    let path = cli.world.folder().join("key");
    let settings = |place: &str| format!("engine: {}\nsnapshot: {{key: {{file: {place}}}}}\n", cli.world.engine.url());
    cli.host_file(&settings(path.to_str().unwrap()));
    let ended = cli.run(&["snapshot"]).with(1);
    assert!(ended.err.contains("cannot read the secret"), "{}", ended.err);
    for (kind, passphrase, why) in [
        ("ed25519", "", None),
        ("ed25519", "secret", Some("private key is encrypted")),
        ("ecdsa", "", Some("can sign here")),
    ] {
        let _ = fs::remove_file(&path);
        let mut make = Command::new("ssh-keygen");
        make.args(["-q", "-t", kind, "-N", passphrase, "-f"]).arg(&path);
        assert!(make.status().unwrap().success());
        let ended = cli.run(&["snapshot"]);
        match why {
            None => assert_eq!(ended.code, 0, "{}", ended.err),
            Some(why) => assert!(ended.code == 1 && ended.err.contains(why), "{}", ended.err),
        }
    }
}

#[test]
fn the_daemon_writes_one_on_its_schedule() {
    let daemon = Daemon::running_with(&["ant", "bee"], "snapshot: {every: 1s}\n");
    let path = daemon.host.data_root.join("snapshot");
    let taken = || -> Option<String> {
        let text = fs::read_to_string(&path).ok()?;
        let line: Value = serde_json::from_str(text.lines().next()?).unwrap();
        Some(line["taken"].as_str()?.to_owned())
    };
    let first = daemon.wait("the first snapshot", taken);
    daemon.wait("another one", || taken().filter(|time| *time != first));
    let repo = daemon.folder().join("repo");
    let ended =
        end(bare(&["plan", repo.to_str().unwrap(), "--worktree", "--snapshot", path.to_str().unwrap()])).with(0);
    assert!(ended.out.ends_with("No changes. The engine matches the configuration.\n"), "{}", ended.out);
}
