//! The commits that changed what is in force, out of real repositories.

use std::{collections::BTreeSet, path::Path};

use serde_json::Value;

use crate::{
    cli::{Cli, file},
    origin::git,
    signatures::{Gpg, Key},
};

fn json(cli: &Cli, options: &[&str]) -> Value {
    let repo = cli.repo.to_str().unwrap();
    let ended = cli.run(&[&["history", "--repo", repo, "--format", "json"], options].concat()).with(0);
    serde_json::from_str(&ended.out).unwrap()
}

/// Each commit's first line with what it did to whom.
fn told(cli: &Cli, options: &[&str]) -> Vec<String> {
    let json = json(cli, options);
    let one = |commit: &Value| {
        let tenants = commit["tenants"].as_array().unwrap().iter().map(|tenant| {
            let effects = tenant["effects"].as_array().unwrap().iter();
            let effects: Vec<String> = effects
                .map(|effect| format!("{} {}", effect["mark"].as_str().unwrap(), effect["field"].as_str().unwrap()))
                .collect();
            format!(
                "{} {} [{}]",
                tenant["tenant"].as_str().unwrap(),
                tenant["change"].as_str().unwrap(),
                effects.join(", ")
            )
        });
        let tenants: Vec<String> = tenants.collect();
        let broken = if commit["broken"] == true { " broken" } else { "" };
        format!("{}{broken}: {}", commit["subject"].as_str().unwrap(), tenants.join("; "))
    };
    json["commits"].as_array().unwrap().iter().map(one).collect()
}

fn commit(cli: &Cli, subject: &str) -> String {
    git(&cli.repo, &["add", "--all", "."]);
    git(&cli.repo, &["commit", "--quiet", "--allow-empty", "--message", subject]);
    git(&cli.repo, &["rev-parse", "HEAD"]).trim().to_owned()
}

fn begin() -> Cli {
    let cli = Cli::uncommitted(&["ant", "bee"]);
    git(&cli.repo, &["init", "--quiet", "--initial-branch=main", "."]);
    commit(&cli, "first");
    cli
}

fn remove(path: &Path) {
    std::fs::remove_file(path).unwrap();
}

#[test]
fn each_commit_is_told_by_what_it_changed() {
    let cli = begin();
    cli.write("README.md", "words");
    commit(&cli, "words alone");
    cli.tenant("ant", "allowlist: [\"a.example.com:443\"]\n");
    commit(&cli, "out");
    cli.write("tenants/ant.yaml", &format!("# a remark\n{}", file("ant", "allowlist: [\"a.example.com:443\"]\n")));
    commit(&cli, "a remark");
    cli.tenant("bee", "limits: {memory: 256MiB}\n");
    cli.tenant("cat", "");
    commit(&cli, "less for bee");
    cli.tenant("cat", "limits: {memory: plenty}\n");
    commit(&cli, "wrong");
    cli.tenant("cat", "");
    commit(&cli, "right again");
    cli.write("fleet.yaml", "nonsense\n");
    cli.tenant("bee", "");
    commit(&cli, "broken");
    cli.write("fleet.yaml", "apiVersion: tenantd/v1\nkind: Fleet\ndefaults: {tier: free, image: \"tenantd/test:1\"}\n");
    commit(&cli, "mended");
    remove(&cli.repo.join("tenants/cat.yaml"));
    cli.tenant("dog", "");
    commit(&cli, "cat is dog now");

    assert_eq!(
        told(&cli, &[]),
        [
            "cat is dog now: cat removed []; dog added []",
            "mended: bee changed [loosens limits.memory]",
            "broken broken: ",
            "wrong: cat held []",
            "less for bee: bee changed [tightens limits.memory]; cat added []",
            "out: ant changed [loosens allowlist]",
            "first: ant added []; bee added []",
        ]
    );
    assert_eq!(told(&cli, &["ant"]), ["out: ant changed [loosens allowlist]", "first: ant added []"]);
    assert_eq!(
        told(&cli, &["--loosened"]),
        ["mended: bee changed [loosens limits.memory]", "out: ant changed [loosens allowlist]"]
    );
    assert_eq!(told(&cli, &["--field", "limits"]).len(), 2);
    assert_eq!(told(&cli, &["--field", "runtime"]), Vec::<String>::new());
    assert_eq!(told(&cli, &["--since", "1h"]).len(), 7);
    assert_eq!(told(&cli, &["--since", "2199-01-01T00:00:00Z"]), Vec::<String>::new());

    let repo = cli.repo.to_str().unwrap();
    let text = cli.run(&["history", "--repo", repo]).with(0).out;
    assert!(
        text.contains("dog is new, as cat was")
            && text.contains("its policy has errors: what was in force before stayed"),
        "{text}"
    );
    assert!(text.contains("  by test <test@example.com>, unsigned\n"), "{text}");
    assert!(text.contains("    loosens  ant: allowlist + a.example.com:443\n"), "{text}");
    let csv = cli.run(&["history", "--repo", repo, "--format", "csv", "--loosened"]).with(0).out;
    assert_eq!(csv.lines().count(), 3, "{csv}");
    assert!(csv.contains("\"ant\",\"changed\",\"allowlist\",\"none\",\"a.example.com:443\",\"loosens\"\r\n"), "{csv}");
}

#[test]
fn what_holds_for_many_and_what_files_bring_is_told() {
    let cli = begin();
    cli.tenant("ant", "files: [{path: x, from: files/ant/x}]\n");
    cli.write("files/ant/x", "one");
    commit(&cli, "a file");
    cli.write("files/ant/x", "two");
    commit(&cli, "another content");
    cli.write("files/ant/y", "nobody's");
    commit(&cli, "a file of nobody");
    remove(&cli.repo.join("files/ant/x"));
    commit(&cli, "gone");
    cli.write("files/ant/x", "three");
    commit(&cli, "back");
    let tier = "apiVersion: tenantd/v1\nkind: Tiers\ntiers: {free: {cpus: 1, memory: 1GiB, disk: 2GiB, sessions: 1}}\n";
    cli.write("tiers.yaml", tier);
    commit(&cli, "a larger tier");
    assert_eq!(
        told(&cli, &[]),
        [
            "a larger tier: ant changed [loosens limits.memory]; bee changed [loosens limits.memory]",
            "back: ant changed [neutral files.x]",
            "gone: ant held []",
            "another content: ant changed [neutral files.x]",
            "a file: ant changed [neutral files.x]",
            "first: ant added []; bee added []",
        ]
    );
}

#[test]
fn merges_and_rewritten_branches_are_told() {
    let cli = begin();
    git(&cli.repo, &["checkout", "--quiet", "-b", "topic"]);
    cli.tenant("ant", "limits: {memory: 256MiB}\n");
    commit(&cli, "topic one");
    cli.tenant("ant", "limits: {memory: 384MiB}\n");
    commit(&cli, "topic two");
    git(&cli.repo, &["checkout", "--quiet", "main"]);
    cli.tenant("bee", "allowlist: [\"a.example.com:443\"]\n");
    let before = commit(&cli, "beside");
    git(&cli.repo, &["merge", "--quiet", "--no-ff", "--message", "merge the topic", "topic"]);
    assert_eq!(
        told(&cli, &[]),
        [
            "merge the topic: ant changed [tightens limits.memory]",
            "beside: bee changed [loosens allowlist]",
            "first: ant added []; bee added []",
        ]
    );
    assert_eq!(json(&cli, &[])["commits"][0]["merged"][0]["email"], "test@example.com");

    git(&cli.repo, &["reset", "--quiet", "--hard", "HEAD~1"]);
    cli.tenant("ant", "runtime: gvisor\n");
    commit(&cli, "otherwise");
    let json = json(&cli, &["--rev", "main"]);
    assert_eq!(json["rewritten"].as_array().unwrap().len(), 1, "{json:#}");
    assert_eq!(json["rewritten"][0]["to"], before);
    let repo = cli.repo.to_str().unwrap();
    assert!(cli.run(&["history", "--repo", repo, "--rev", "main"]).with(0).err.contains("the branch was rewritten at"));
}

#[test]
fn signatures_are_told_by_whom_the_host_knows() {
    let cli = begin();
    let (ada, eve) = (
        Key::new(cli.world.folder(), "ada", &["-t", "ed25519"]),
        Key::new(cli.world.folder(), "eve", &["-t", "ed25519"]),
    );
    for (number, key) in [&ada, &eve].into_iter().enumerate() {
        signed(&cli, number, &key.options());
    }
    let engine = cli.world.engine.url();
    cli.host_file(&format!(
        "engine: {engine}\nverify: {{mode: all, signers: [{{name: ada@example.com, key: {:?}}}]}}\n",
        ada.public()
    ));
    let json = json(&cli, &["ant"]);
    let signature = |commit: usize| json["commits"][commit]["signature"].clone();
    assert_eq!(signature(1), serde_json::json!({"kind": "by", "of": "ada@example.com"}));
    assert_eq!((signature(0)["kind"].clone(), signature(2)["kind"].clone()), ("bad".into(), "none".into()));
    let text = cli.run(&["history", "--repo", cli.repo.to_str().unwrap(), "ant"]).with(0).out;
    assert!(text.contains("signed by ada@example.com") && text.contains("signature does not count: it"), "{text}");
}

/// Commits something of the tenant's, signed.
fn signed(cli: &Cli, number: usize, options: &[String]) {
    cli.tenant("ant", &format!("limits: {{memory: {}MiB}}\n", 100 + number));
    let mut words: Vec<&str> = options.iter().map(String::as_str).collect();
    words.extend(["commit", "--quiet", "--all", "--message", "signed"]);
    git(&cli.repo, &words);
}

#[test]
fn signatures_of_gnupg_are_told_by_the_keyring_of_the_host() {
    let cli = begin();
    let [ada, eve] = ["Ada <ada@example.com>", "Ada <eve@example.com>"].map(|user| Gpg::new(user, false));
    signed(&cli, 0, &ada.options(false));
    signed(&cli, 1, &eve.options(false));
    let engine = cli.world.engine.url();
    let told = || {
        let json = json(&cli, &["ant"]);
        let one = |commit: usize| {
            let signature = &json["commits"][commit]["signature"];
            (signature["kind"].as_str().unwrap().to_owned(), signature["of"].as_str().unwrap_or_default().to_owned())
        };
        [one(1), one(0)]
    };
    let unknown = ("unknown".to_owned(), "GnuPG".to_owned());
    assert_eq!(told(), [unknown.clone(), unknown], "nobody's keys are known");

    cli.host_file(&format!("engine: {engine}\nverify: {{mode: all, gnupgHome: {:?}}}\n", ada.home));
    let [by_ada, by_eve] = told();
    assert!(by_ada.0 == "by" && by_ada.1.starts_with("Ada <ada@example.com> "), "{by_ada:?}");
    assert!(by_eve.0 == "bad" && by_eve.1.contains("its key is not in the keyring"), "{by_eve:?}");
    let own = |entry: &std::fs::DirEntry| entry.file_name().to_string_lossy().starts_with("tenantd-keys-");
    let left = std::fs::read_dir(std::env::temp_dir()).unwrap().flatten().filter(own).count();
    assert_eq!(left, 0, "the copy of the keyring is gone");

    cli.host_file(&format!("engine: {engine}\nverify: {{mode: all, gnupgHome: /nonexistent}}\n"));
    let [one, _] = told();
    assert!(one.0 == "unknown" && one.1.contains("neither pubring.kbx nor pubring.gpg"), "{one:?}");
}

/// What is told commit by commit is what two readings of the whole tell.
#[test]
fn a_long_history_adds_up_to_what_is_declared() {
    let cli = begin();
    let mut random = fastrand::Rng::with_seed(7);
    let names = ["ant", "bee", "cat", "dog", "elk"];
    let memory = ["128MiB", "256MiB", "384MiB", "512MiB", "plenty"];
    for number in 0..60 {
        let name = names[random.usize(..names.len())];
        match random.u8(..10) {
            0 => drop(std::fs::remove_file(cli.repo.join(format!("tenants/{name}.yaml")))),
            1 => cli.write("fleet.yaml", if random.bool() { "nonsense\n" } else { crate::cli::FLEET }),
            2 => cli.write("tenants/odd.yml", "x"),
            3 => drop(std::fs::remove_file(cli.repo.join("tenants/odd.yml"))),
            _ => cli.tenant(name, &format!("limits: {{memory: {}}}\n", memory[random.usize(..memory.len())])),
        }
        commit(&cli, &format!("change {number}"));
    }
    cli.write("fleet.yaml", crate::cli::FLEET);
    commit(&cli, "last");
    let history = json(&cli, &[]);
    let mut declared = BTreeSet::new();
    for commit in history["commits"].as_array().unwrap().iter().rev() {
        for tenant in commit["tenants"].as_array().unwrap() {
            let name = tenant["tenant"].as_str().unwrap().to_owned();
            match tenant["change"].as_str().unwrap() {
                "added" => assert!(declared.insert(name.clone()), "{name} was not there: {commit:#}"),
                "removed" => assert!(declared.remove(&name), "{name} was there: {commit:#}"),
                _ => {}
            }
        }
    }
    let tree = tenantd::source::read_commit(&cli.repo, "HEAD").unwrap();
    let now = tenantd::spec::compile(&tree);
    let valid = now.tenants.keys().map(ToString::to_string).collect::<BTreeSet<_>>();
    let held = declared.difference(&valid).all(|name| now.held.contains(name));
    assert!(held && valid.is_subset(&declared), "{declared:?} {valid:?} {:?}", now.held);
}
