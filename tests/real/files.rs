//! Config files: what tenants find at /config, and that nothing in it leads elsewhere.

use std::{fs, os::unix::fs::symlink, path::PathBuf, process::Command};

use crate::{
    engine::{PrivateEngine, succeed, text},
    fleet::{Fleet, case},
};

const RUNC: &str = "acme";
const RUNSC: &str = "beta";

#[test]
fn config_files_are_given_changed_and_kept() {
    let fleet = Fleet::start("files");
    declare(&fleet, "one", "first");
    fleet.converge();
    fleet.cases(vec![
        case("they are read and not written", given),
        case("one takes the other's place while the tenant runs", in_place),
        case("one is applied by a restart", restarted),
        case("what is mounted over them is not given on", mounted),
        case("links of the host are not given on", linked),
        case("nothing of a folder of another tenant is", others),
        case("they go with their tenant", gone),
    ]);
    fleet.end();
}

/// Both tenants, with a file that is applied by a restart and one that is not.
fn declare(fleet: &Fleet, restart: &str, in_place: &str) {
    for (tenant, runtime) in [(RUNC, ""), (RUNSC, fleet.gvisor())] {
        let folder = fleet.repo().join("files").join(tenant);
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("openclaw.json"), format!("{{\"of\": \"{tenant} {restart}\"}}\n")).unwrap();
        let own = format!("{{path: openclaw.json, from: files/{tenant}/openclaw.json}}");
        let shared = "{path: agent/rules.md, from: files/shared/rules.md, apply: inPlace}";
        fleet.declare(tenant, &format!("{runtime}limits: {{disk: 32MiB}}\nfiles: [{own}, {shared}]\n"));
    }
    fs::create_dir_all(fleet.repo().join("files/shared")).unwrap();
    fs::write(fleet.repo().join("files/shared/rules.md"), in_place).unwrap();
}

fn folder(fleet: &Fleet, tenant: &str) -> PathBuf {
    fleet.data().join("files").join(tenant)
}

/// Both tenants read this, and nothing else lies there.
fn reads(engine: &PrivateEngine, restart: &str, in_place: &str) {
    for tenant in [RUNC, RUNSC] {
        let (read, printed) = engine.agent(tenant, &["cat", "/config/openclaw.json"]);
        assert!(read && printed.contains(&format!("{tenant} {restart}")), "{tenant}: {printed}");
        let (read, printed) = engine.agent(tenant, &["cat", "/config/agent/rules.md"]);
        assert!(read && printed.contains(in_place), "{tenant}: {printed}");
    }
}

fn given(fleet: &Fleet) {
    reads(&fleet.engine, "one", "first");
    for tenant in [RUNC, RUNSC] {
        for path in ["/config/new", "/config/openclaw.json", "/config/agent/new", "/config/agent/rules.md"] {
            let (written, printed) = fleet.engine.agent(tenant, &["write", path, "mine"]);
            assert!(!written, "{tenant} writes to {path}: {printed}");
        }
        let inspected = fleet.engine.inspect(&format!("tenantd-{tenant}"));
        let mounts = inspected["Mounts"].as_array().unwrap();
        let mount = mounts.iter().find(|mount| mount["Destination"] == "/config").unwrap();
        assert_eq!(
            (text(&mount["Source"]), mount["RW"].as_bool()),
            (folder(fleet, tenant).display().to_string(), Some(false))
        );
    }
    // What was written is what `sha256sum` says.
    let mut check = Command::new("sha256sum");
    check.args(["--check", "--strict", "acme.sha256", "beta.sha256"]).current_dir(fleet.data().join("files"));
    succeed(check);
}

fn in_place(fleet: &Fleet) {
    let before = [RUNC, RUNSC].map(|tenant| fleet.engine.identity(&format!("tenantd-{tenant}")));
    declare(fleet, "one", "second");
    fleet.converge();
    reads(&fleet.engine, "one", "second");
    assert_eq!([RUNC, RUNSC].map(|tenant| fleet.engine.identity(&format!("tenantd-{tenant}"))), before, "they run on");
}

fn restarted(fleet: &Fleet) {
    let before = [RUNC, RUNSC].map(|tenant| fleet.engine.identity(&format!("tenantd-{tenant}")));
    declare(fleet, "two", "second");
    let (_, printed) = fleet.plan_text();
    assert!(printed.contains("changed files are applied by a restart"), "{printed}");
    fleet.converge();
    reads(&fleet.engine, "two", "second");
    let after = [RUNC, RUNSC].map(|tenant| fleet.engine.identity(&format!("tenantd-{tenant}")));
    assert!(before.iter().zip(&after).all(|(before, after)| before != after), "they are made anew");
}

/// Something that is mounted there could be written to, and is not of the repo.
fn mounted(fleet: &Fleet) {
    let victim = fleet.engine.dir().join("victim");
    fs::create_dir_all(&victim).unwrap();
    fs::write(victim.join("precious"), "precious").unwrap();
    for (what, place) in [("victim", "agent"), ("victim/precious", "openclaw.json"), ("victim", "more")] {
        let place = folder(fleet, RUNC).join(place);
        if what == "victim" {
            fs::create_dir_all(&place).unwrap();
        }
        let mut mount = Command::new("mount");
        succeed({
            mount.arg("--bind").arg(fleet.engine.dir().join(what)).arg(&place);
            mount
        });
        fleet.engine.remove("tenantd-acme");
        let (_, plan) = fleet.plan_text();
        let (ended, printed) = fleet.apply();
        let is_refused = ended == 1 && printed.contains("something is mounted there; unmount it");
        let runs = fleet.engine.call("GET", "/containers/tenantd-acme/json", None).0 == 200;
        let kept = fs::read_to_string(victim.join("precious")).unwrap();
        let mut unmount = Command::new("umount");
        unmount.arg(&place);
        succeed(unmount);
        assert!(plan.contains("something is mounted there"), "{}:\n{plan}", place.display());
        assert!(is_refused && !runs, "{} is not given on:\n{printed}", place.display());
        assert_eq!(kept, "precious", "what is mounted is not touched");
        fleet.converge();
        reads(&fleet.engine, "two", "second");
    }
}

fn linked(fleet: &Fleet) {
    let secret = fleet.data().join("secret");
    fs::write(&secret, "of the host").unwrap();
    for (name, link) in [("openclaw.json", &secret), ("agent", &fleet.data()), ("more", &PathBuf::from("/"))] {
        let place = folder(fleet, RUNSC).join(name);
        let _ = fs::remove_file(&place).or_else(|_| fs::remove_dir_all(&place));
        symlink(link, &place).unwrap();
        let (_, plan) = fleet.plan_text();
        assert!(plan.contains("it is a symbolic link") && plan.contains("weakens isolation"), "{name}:\n{plan}");
        fleet.converge();
        reads(&fleet.engine, "two", "second");
    }
    assert_eq!(fs::read_to_string(&secret).unwrap(), "of the host");
}

fn others(fleet: &Fleet) {
    let before = fleet.engine.identity("tenantd-acme");
    let lines = |from: &str| format!("limits: {{disk: 32MiB}}\nfiles: [{{path: openclaw.json, from: {from}}}]\n");
    symlink("/etc/passwd", fleet.repo().join("files/acme/link")).unwrap();
    for (from, rule) in [
        ("files/beta/openclaw.json", "not-its-own"),
        ("files/acme/../beta/openclaw.json", "bad-path"),
        ("tenants/beta.yaml", "not-its-own"),
        ("files/acme/link", "symlink"),
        ("files/acme", "not-its-own"),
        ("files/acme/gone.json", "file-missing"),
    ] {
        fleet.declare(RUNC, &lines(from));
        let (ended, printed) = fleet.apply();
        assert!(ended == 1 && printed.contains(rule) && printed.contains("tenants/acme.yaml:5:"), "{from}:\n{printed}");
        assert_eq!(fleet.engine.identity("tenantd-acme"), before, "it is left as it is");
    }
    fs::remove_file(fleet.repo().join("files/acme/link")).unwrap();
    declare(fleet, "two", "second");
    fleet.converge();
}

fn gone(fleet: &Fleet) {
    fleet.declare(RUNC, "limits: {disk: 32MiB}\n");
    fleet.undeclare(RUNSC);
    fleet.converge();
    let (read, printed) = fleet.engine.agent(RUNC, &["cat", "/config/openclaw.json"]);
    assert!(!read, "{printed}");
    assert_eq!(fs::read_dir(fleet.data().join("files")).unwrap().count(), 0, "nothing is left on the host");
}
