//! Declarations of tenants that older commits have, found again by what names the commits.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use super::declaration::{Composition, Declaration};
use crate::{
    model::{Desired, Revision, Tenant},
    source::{Mirror, SourceError},
    spec,
};

/// How many older commits are read at a start, and for one commit that brings tenants back: whoever may push makes them,
/// and the daemon does nothing else meanwhile.
pub(in crate::daemon) const AT_A_START: usize = 1_000;
pub(in crate::daemon) const RETURNING: usize = 32;

/// How many tenants a message names.
const NAMED: usize = 10;

/// Reads what a commit declares.
pub(in crate::daemon) fn read(mirror: &Mirror, commit: &str) -> Result<Desired, SourceError> {
    mirror.read(commit).map(|tree| spec::compile(&tree))
}

/// Reads what a commit declares of some tenants. Each that the whole commit declares is the very same; one that is held
/// there because of another's file may be declared here, so this is for what was in force once.
fn read_of(mirror: &Mirror, commit: &str, tenants: &BTreeSet<String>) -> Result<Desired, SourceError> {
    mirror.read_of(commit, tenants, spec::named).map(|tree| spec::compile(&tree))
}

/// Declarations by tenant, of no more than `most` commits, in each of the maps that are wanted. One that lacks a commit is
/// left out: without it the rest may be looser. Of each commit only those tenants are read that need it, and one is held at
/// a time.
pub(in crate::daemon) fn declarations<const N: usize>(
    mirror: &Mirror,
    wanted: &[BTreeMap<String, Composition>; N],
    most: usize,
) -> [BTreeMap<String, Declaration>; N] {
    let mut known: BTreeMap<(&str, String), Arc<Tenant>> = BTreeMap::new();
    for (commit, names) in commits(wanted, most) {
        let Ok(desired) = read_of(mirror, commit, &names) else { continue };
        let found = names.into_iter().filter_map(|name| {
            let tenant = desired.tenants.get(name.as_str())?.clone();
            Some(((commit, name), tenant))
        });
        known.extend(found);
    }
    let read = |(name, composition): (&String, &Composition)| {
        let declares = |revision: &Revision| known.get(&(revision.commit.as_str(), name.clone())).cloned();
        Some((name.clone(), Declaration::read(composition, declares)?))
    };
    wanted.each_ref().map(|wanted| wanted.iter().filter_map(read).collect())
}

/// The commits that are read, and which tenants of each. Where they would be too many, the first of the maps goes first, and
/// in it those that are made of few: who makes one tenant's many keeps no other's from being read.
fn commits(wanted: &[BTreeMap<String, Composition>], most: usize) -> BTreeMap<&str, BTreeSet<String>> {
    let all = wanted.iter().enumerate().flat_map(|(place, map)| map.iter().map(move |(name, of)| (place, name, of)));
    let mut all: Vec<(usize, &String, &Composition)> = all.collect();
    all.sort_by_key(|(place, name, of)| (*place, of.revisions().count(), *name));
    let mut chosen: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
    // Once more for those whose commits were chosen after them.
    for (_, name, of) in all.iter().chain(&all) {
        let commits: BTreeSet<&str> = of.revisions().map(|revision| revision.commit.as_str()).collect();
        let new = commits.iter().filter(|commit| !chosen.contains_key(**commit)).count();
        if chosen.len() + new <= most {
            for commit in commits {
                chosen.entry(commit).or_default().insert((*name).clone());
            }
        }
    }
    chosen
}

/// Names for a message: the first few, and how many more there are.
pub(in crate::daemon) fn some_of(names: &[String]) -> String {
    let shown = names.iter().take(NAMED).map(String::as_str).collect::<Vec<_>>().join(", ");
    match names.len().saturating_sub(NAMED) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, path::PathBuf};

    use git2::{IndexEntry, IndexTime, Oid, Repository, Signature};

    use super::*;
    use crate::model::host::Source;

    type Outcome = Result<(), Box<dyn std::error::Error>>;

    const FLEET: &str =
        "apiVersion: tenantd/v1\nkind: Fleet\ndefaults: {tier: free, image: agent:1, environment: {A: b}}\n";
    const TIERS: &str = "apiVersion: tenantd/v1\nkind: Tiers\ntiers: {free: {cpus: 1, memory: 64MiB, disk: 1GiB}}\n";

    fn tenant(name: &str, lines: &str) -> String {
        format!("apiVersion: tenantd/v1\nkind: Tenant\ntenant: {name}\n{lines}")
    }

    fn revision(commit: &str) -> Revision {
        Revision { branch: "main".to_owned(), commit: commit.to_owned() }
    }

    fn made_of(commits: &[&str]) -> Composition {
        let mut composition = Composition::from(revision(commits[0]));
        composition.narrowed_by = commits[1..].iter().map(|commit| revision(commit)).collect();
        composition
    }

    /// A mirror into which commits are written.
    struct World {
        folder: tempfile::TempDir,
        repository: Repository,
    }

    impl World {
        fn new() -> Result<Self, git2::Error> {
            let folder = tempfile::tempdir().unwrap();
            let repository = Repository::init_bare(folder.path().join("source.git"))?;
            Ok(Self { folder, repository })
        }

        /// A commit of these files; one whose path ends in `@` is a link.
        fn commit(&self, files: &[(&str, &[u8])]) -> Result<String, git2::Error> {
            let mut index = self.repository.index()?;
            index.clear()?;
            for (path, bytes) in files {
                let (path, mode) = path.strip_suffix('@').map_or((*path, 0o100_644), |path| (path, 0o120_000));
                let entry = IndexEntry {
                    ctime: IndexTime::new(0, 0),
                    mtime: IndexTime::new(0, 0),
                    dev: 0,
                    ino: 0,
                    mode,
                    uid: 0,
                    gid: 0,
                    file_size: 0,
                    id: Oid::ZERO_SHA1,
                    flags: 0,
                    flags_extended: 0,
                    path: path.into(),
                };
                index.add_frombuffer(&entry, bytes)?;
            }
            let tree = self.repository.find_tree(index.write_tree()?)?;
            let who = Signature::now("ann", "ann@example.org")?;
            Ok(self.repository.commit(None, &who, &who, "c", &tree, &[])?.to_string())
        }

        fn mirror(&self) -> Mirror {
            let source = Source::new("/srv/fleet.git");
            Mirror::open(&self.folder.path().join("source.git"), &source).unwrap()
        }

        /// Takes the bytes of a file out of the repository.
        fn lose(&self, bytes: &[u8]) -> Outcome {
            let id = Oid::hash_object(git2::ObjectType::Blob, bytes)?.to_string();
            let place: PathBuf = self.repository.path().join("objects").join(&id[..2]).join(&id[2..]);
            Ok(fs::remove_file(place)?)
        }
    }

    /// What a commit declares of a tenant is the same whether the others are read or not: all that is wrong in it, and all
    /// that may be named.
    #[test]
    fn what_is_read_of_a_tenant_alone_is_what_the_whole_commit_declares() -> Outcome {
        let world = World::new()?;
        let files = "files:\n  - {path: a.json, from: files/ant/deep/a.json}\n  - {path: s, from: files/shared/s}\n";
        let names = ["ant", "bee", "cat", "dog", "eel", "fox", "gnu", "hen", "ibis"];
        let ant = tenant("ant", &format!("limits: {{memory: 32MiB}}\nallowlist: [a.com:443]\n{files}"));
        let missing = tenant("bee", "files: [{path: a, from: files/bee/none}]\n");
        let folder = tenant("cat", "files: [{path: a, from: files/cat/sub}]\n");
        let link = tenant("dog", "files: [{path: a, from: files/dog/link}]\n");
        let foreign = tenant("eel", "files: [{path: a, from: files/ant/deep/a.json}]\n");
        let secret = tenant("fox", "files: [{path: a, from: files/fox/key}]\n");
        let large = tenant("ibis", "files: [{path: a, from: files/ibis/large}]\n");
        let key = "-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n-----END OPENSSH PRIVATE KEY-----\n";
        let too_large = vec![b'x'; 300 << 10];
        let twice = tenant("hen", "");
        let wrong = tenant("gnu", "wrong: key\n");
        let of_tenants: Vec<(&str, &[u8])> = vec![
            ("tenants/ant.yaml", ant.as_bytes()),
            ("tenants/bee.yaml", missing.as_bytes()),
            ("tenants/cat.yaml", folder.as_bytes()),
            ("tenants/dog.yaml", link.as_bytes()),
            ("tenants/eel.yaml", foreign.as_bytes()),
            ("tenants/fox.yaml", secret.as_bytes()),
            ("tenants/gnu.yaml", wrong.as_bytes()),
            ("tenants/hen.yaml", twice.as_bytes()),
            ("tenants/old/hen.yaml", twice.as_bytes()),
            ("tenants/ibis.yaml", large.as_bytes()),
            ("files/ant/deep/a.json", b"{}"),
            ("files/ant/deep/b.json", b"{\"b\": 1}"),
            ("files/ant/deeper", b"no"),
            ("files/cat/sub/c", b"c"),
            ("files/dog/link@", b"../ant/deep/a.json"),
            ("files/fox/key", key.as_bytes()),
            ("files/ibis/large", &too_large),
            ("files/shared/s", b"shared"),
        ];
        let no_tiers: Vec<(&str, &[u8])> = vec![("fleet.yaml", FLEET.as_bytes())];
        let with_tiers = [&no_tiers[..], &[("tiers.yaml", TIERS.as_bytes())]].concat();
        let wrong_policy: Vec<(&str, &[u8])> = vec![("fleet.yaml", b"kind: Fleet\nwrong: key\n")];
        let mut declared = 0;
        for policy in [no_tiers, with_tiers, wrong_policy, Vec::new()] {
            let commit = world.commit(&[policy, of_tenants.clone()].concat())?;
            let mirror = world.mirror();
            let whole = read(&mirror, &commit)?;
            for some in names.iter().map(|one| vec![*one]).chain([names[..4].to_vec(), names.to_vec()]) {
                let some: BTreeSet<String> = some.into_iter().map(str::to_owned).collect();
                let part = read_of(&mirror, &commit, &some)?;
                assert_eq!(part.policy_usable, whole.policy_usable);
                for name in &some {
                    assert_eq!(part.tenants.get(name.as_str()), whole.tenants.get(name.as_str()), "{name}");
                    assert_eq!(part.held.contains(name), whole.held.contains(name), "{name}");
                    declared += usize::from(part.tenants.contains_key(name.as_str()));
                }
            }
        }
        assert!(declared > 0, "some of them are declared");
        Ok(())
    }

    /// A hundred commits, of which each has a tree near the bounds, cost no more than what is wanted of them.
    #[test]
    fn nothing_is_read_that_no_wanted_tenant_needs() -> Outcome {
        let world = World::new()?;
        let ant = tenant("ant", "files: [{path: a, from: files/ant/a}]\n");
        let (bee, unnamed) = (tenant("bee", ""), b"nobody names this");
        let commit = world.commit(&[
            ("fleet.yaml", FLEET.as_bytes()),
            ("tenants/ant.yaml", ant.as_bytes()),
            ("tenants/bee.yaml", bee.as_bytes()),
            ("files/ant/a", b"named"),
            ("files/ant/b", unnamed),
        ])?;
        let mirror = world.mirror();
        let whole = read(&mirror, &commit)?;
        world.lose(bee.as_bytes())?;
        world.lose(unnamed)?;
        let wanted = [BTreeMap::from([("ant".to_owned(), made_of(&[&commit]))])];
        let [found] = declarations(&mirror, &wanted, 1);
        assert_eq!(found.get("ant").map(|one| &*one.tenant), whole.tenants.get("ant").map(|one| &**one));
        assert!(found.contains_key("ant"));
        let [none] = declarations(&mirror, &wanted, 0);
        assert!(none.is_empty(), "what is beyond the bound is left out");
        Ok(())
    }

    #[test]
    fn no_more_commits_are_chosen_than_the_bound_and_no_tenant_gets_half_of_its_own() {
        let map = |of: &[(&str, &[&str])]| -> BTreeMap<String, Composition> {
            of.iter().map(|(name, commits)| ((*name).to_owned(), made_of(commits))).collect()
        };
        let stands =
            map(&[("ant", &["a", "b", "c", "d"]), ("bee", &["e"]), ("cat", &["e", "f"]), ("dog", &["g", "g"])]);
        let good = map(&[("ant", &["e"]), ("bee", &["h"])]);
        let wanted = [stands, good];
        for (most, expected) in [
            (0, vec![]),
            (1, vec![("e", vec!["ant", "bee"])]),
            (2, vec![("e", vec!["ant", "bee", "cat"]), ("f", vec!["cat"])]),
            (3, vec![("e", vec!["ant", "bee", "cat"]), ("f", vec!["cat"]), ("g", vec!["dog"])]),
            (
                7,
                vec![
                    ("a", vec!["ant"]),
                    ("b", vec!["ant"]),
                    ("c", vec!["ant"]),
                    ("d", vec!["ant"]),
                    ("e", vec!["ant", "bee", "cat"]),
                    ("f", vec!["cat"]),
                    ("g", vec!["dog"]),
                ],
            ),
        ] {
            let chosen = commits(&wanted, most);
            let chosen: Vec<(&str, Vec<&str>)> =
                chosen.iter().map(|(commit, names)| (*commit, names.iter().map(String::as_str).collect())).collect();
            assert_eq!(chosen, expected, "of {most}");
        }
        assert!(commits(&wanted, 8).contains_key("h"), "what stands goes first");
    }

    #[test]
    fn a_message_names_the_first_few() {
        let names: Vec<String> = (0..12).map(|number| format!("t{number}")).collect();
        assert_eq!(some_of(&names[..2]), "t0, t1");
        assert!(some_of(&names).ends_with("t9 and 2 more"));
    }
}
