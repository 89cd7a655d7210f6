//! What the daemon makes of the states that a source can be in.

use std::{
    collections::BTreeSet,
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{Arc, Mutex},
    time::Duration,
};

use tenantd::{
    model::{
        host::{Secret, Source},
        quantity::Timespan,
    },
    source::{FetchError, Mirror, Relation, SourceError, Watch},
};

use crate::{
    origin::{Origin, command, fetch, git, of_url, text, wait},
    world::chain,
};

#[test]
fn a_push_is_fetched_and_read_at_its_commit() {
    let (origin, first) = Origin::with_a_commit();
    let mirror = origin.mirror();
    assert_eq!(fetch(&mirror).unwrap(), first);
    let second = origin.push_file("fleet.yaml", "two\n");
    // What is not committed is not there, and what is not pushed neither.
    fs::write(origin.work.join("fleet.yaml"), "three\n").unwrap();
    assert_eq!(fetch(&mirror).unwrap(), second);
    assert_eq!(text(&mirror, &first, "fleet.yaml"), "one\n");
    assert_eq!(text(&mirror, &second, "fleet.yaml"), "two\n");
    assert_eq!(mirror.read(&second).unwrap().revision, format!("main@sha1:{second}"));
    assert_eq!(mirror.relation(&first, &second).unwrap(), Relation::Forward);
    assert_eq!(mirror.relation(&second, &second).unwrap(), Relation::Same);
    assert_eq!(mirror.relation(&second, &first).unwrap(), Relation::NonFastForward);
    assert_eq!(mirror.relation(&"0".repeat(40), &second).unwrap(), Relation::NonFastForward);
    assert!(matches!(mirror.read(&"0".repeat(40)), Err(SourceError::Revision { .. })));
    assert!(matches!(mirror.read("main"), Err(SourceError::Revision { .. })));
}

#[test]
fn the_mirror_is_closed_to_others_and_opens_again() {
    let (origin, first) = Origin::with_a_commit();
    assert_eq!(fetch(&origin.mirror()).unwrap(), first);
    let mode = fs::metadata(origin.mirror_folder()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o700);
    fs::remove_dir_all(&origin.bare).unwrap();
    assert_eq!(text(&origin.mirror(), &first, "fleet.yaml"), "one\n");
    assert_eq!(fs::read_dir(origin.mirror_folder().parent().unwrap()).unwrap().count(), 1);
}

#[test]
fn a_repository_of_another_user_is_followed() {
    let (origin, first) = Origin::with_a_commit();
    let owned = Command::new("chown").args(["-R", "nobody"]).arg(&origin.bare).status().unwrap();
    assert!(owned.success());
    assert_eq!(fetch(&origin.mirror()).unwrap(), first);
}

#[test]
fn a_work_tree_is_followed_by_its_commits() {
    let (origin, first) = Origin::with_a_commit();
    fs::write(origin.work.join("fleet.yaml"), "not committed\n").unwrap();
    let mirror = origin.mirror_of(&of_url(origin.work.to_str().unwrap()));
    assert_eq!(fetch(&mirror).unwrap(), first);
    assert_eq!(text(&mirror, &first, "fleet.yaml"), "one\n");
}

#[test]
fn a_rewritten_branch_is_fetched_and_distinguished() {
    let (origin, _) = Origin::with_a_commit();
    let second = origin.push_file("fleet.yaml", "two\n");
    let mirror = origin.mirror();
    assert_eq!(fetch(&mirror).unwrap(), second);
    git(&origin.work, &["reset", "--quiet", "--hard", "HEAD~1"]);
    let other = origin.push_file("fleet.yaml", "other\n");
    // The source forgets what it had.
    git(&origin.bare, &["reflog", "expire", "--expire=now", "--all"]);
    git(&origin.bare, &["gc", "--quiet", "--prune=now"]);
    assert_eq!(fetch(&mirror).unwrap(), other);
    assert_eq!(mirror.relation(&second, &other).unwrap(), Relation::NonFastForward);
    assert_eq!(text(&mirror, &second, "fleet.yaml"), "two\n");
}

#[test]
fn a_branch_that_is_deleted_is_missed_until_it_is_back() {
    let (origin, first) = Origin::with_a_commit();
    let mirror = origin.mirror();
    assert_eq!(fetch(&mirror).unwrap(), first);
    git(&origin.bare, &["branch", "--move", "main", "trunk"]);
    let error = fetch(&mirror).unwrap_err();
    assert!(matches!(&error, FetchError::BranchMissing { branches, .. } if branches == &["trunk"]), "{error:?}");
    assert!(error.to_string().ends_with("has no branch \"main\"; it has trunk"), "{error}");
    assert_eq!(text(&mirror, &first, "fleet.yaml"), "one\n");
    origin.push();
    assert_eq!(fetch(&mirror).unwrap(), first);
}

#[test]
fn a_branch_may_have_any_name_and_change_it() {
    let (origin, first) = Origin::with_a_commit();
    git(&origin.work, &["push", "--quiet", "origin", "main:team", "main:x/team/a"]);
    for branch in ["team", "x/team/a", "main"] {
        let mirror = origin.mirror_of(&Source { branch: branch.to_owned(), ..origin.source() });
        assert_eq!(fetch(&mirror).unwrap(), first);
        assert_eq!(mirror.read(&first).unwrap().revision, format!("{branch}@sha1:{first}"));
    }
}

#[test]
fn a_source_that_is_not_there_or_empty_is_distinguished() {
    let origin = Origin::new();
    let mirror = origin.mirror();
    let error = fetch(&mirror).unwrap_err();
    assert!(matches!(error, FetchError::Empty { .. }), "{error:?}");
    let commit = origin.push_file("fleet.yaml", "one\n");
    assert_eq!(fetch(&mirror).unwrap(), commit);

    let aside = origin.folder().join("aside.git");
    fs::rename(&origin.bare, &aside).unwrap();
    let error = fetch(&mirror).unwrap_err();
    assert!(matches!(error, FetchError::Failed { .. }), "{error:?}");
    assert!(error.to_string().contains("does not appear to be a git repository"), "{error}");
    assert_eq!(text(&mirror, &commit, "fleet.yaml"), "one\n");
    fs::rename(&aside, &origin.bare).unwrap();
    assert_eq!(fetch(&mirror).unwrap(), commit);

    let port = unused_port();
    let error = fetch(&origin.mirror_of(&of_url(&format!("http://ada:s3cret@127.0.0.1:{port}/x")))).unwrap_err();
    assert!(matches!(error, FetchError::Failed { .. }), "{error:?}");
    assert!(error.to_string().contains(&format!("http://127.0.0.1:{port}")), "{error}");
    assert!(!chain(&error).contains("s3cret"), "{error}");
}

/// Cuts off what each object of a repository holds.
fn truncate_objects(repository: &Path) {
    for folder in fs::read_dir(repository.join("objects")).unwrap() {
        for object in fs::read_dir(folder.unwrap().path()).unwrap() {
            let path = object.unwrap().path();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
            let bytes = fs::read(&path).unwrap();
            fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
        }
    }
}

#[test]
fn a_damaged_source_leaves_the_last_commit_in_force() {
    let (origin, first) = Origin::with_a_commit();
    let mirror = origin.mirror();
    assert_eq!(fetch(&mirror).unwrap(), first);
    origin.push_file("fleet.yaml", "two\n");
    truncate_objects(&origin.bare);
    let error = fetch(&mirror).unwrap_err();
    assert!(matches!(error, FetchError::Corrupt { .. }), "{error:?}");
    assert_eq!(text(&mirror, &first, "fleet.yaml"), "one\n");
    // It is not the mirror that is moved away.
    assert_eq!(fs::read_dir(origin.mirror_folder().parent().unwrap()).unwrap().count(), 1);
}

#[test]
fn a_damaged_mirror_is_made_anew() {
    type Damage = fn(&Path);
    let damages: [Damage; 6] = [
        truncate_objects,
        |mirror| fs::write(mirror.join("config"), "[core").unwrap(),
        |mirror| fs::remove_file(mirror.join("HEAD")).unwrap(),
        |mirror| fs::write(mirror.join("refs/tenantd/source"), "what\n").unwrap(),
        |mirror| fs::write(mirror.join("refs/tenantd/source"), format!("{}\n", "1".repeat(40))).unwrap(),
        |mirror| fs::remove_dir_all(mirror.join("objects")).unwrap(),
    ];
    for (case, damage) in damages.into_iter().enumerate() {
        let (origin, first) = Origin::with_a_commit();
        assert_eq!(fetch(&origin.mirror()).unwrap(), first);
        // When it is opened, twice,
        for _ in 0..2 {
            damage(&origin.mirror_folder());
            let mirror = origin.mirror();
            assert_eq!(fetch(&mirror).unwrap(), first, "case {case}");
        }
        // and while it is open.
        let mirror = origin.mirror();
        damage(&origin.mirror_folder());
        let second = origin.push_file("fleet.yaml", "two\n");
        assert_eq!(fetch(&mirror).unwrap(), second, "case {case}");
        assert_eq!(text(&mirror, &first, "fleet.yaml"), "one\n", "case {case}");
        // One is kept for a person to look at.
        let names: Vec<String> = fs::read_dir(origin.mirror_folder().parent().unwrap())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        assert_eq!(names.len(), 2, "case {case}: {names:?}");
        assert!(names.iter().any(|name| name.starts_with("source.git.damaged-")), "case {case}: {names:?}");
    }
}

#[test]
fn what_a_killed_fetch_left_behind_holds_nothing_up() {
    let (origin, _) = Origin::with_a_commit();
    let mirror = origin.mirror();
    fetch(&mirror).unwrap();
    let second = origin.push_file("fleet.yaml", "two\n");
    let folder = origin.mirror_folder();
    let half = folder.join("objects/pack/tmp_pack_half");
    for path in ["refs/tenantd/source.lock", "packed-refs.lock", "shallow.lock", "objects/pack/tmp_pack_half"] {
        fs::create_dir_all(folder.join(path).parent().unwrap()).unwrap();
        fs::write(folder.join(path), "").unwrap();
    }
    assert_eq!(fetch(&mirror).unwrap(), second);
    assert!(!half.exists());
}

#[test]
fn a_shallow_source_is_read_and_deepens_with_it() {
    let (origin, first) = Origin::with_a_commit();
    let second = origin.push_file("fleet.yaml", "two\n");
    let shallow = origin.folder().join("shallow.git");
    let url = format!("file://{}", origin.bare.display());
    git(origin.folder(), &["clone", "--quiet", "--bare", "--depth=1", &url, "shallow.git"]);
    let mirror = origin.mirror_of(&of_url(shallow.to_str().unwrap()));
    for _ in 0..2 {
        assert_eq!(fetch(&mirror).unwrap(), second);
        assert_eq!(text(&mirror, &second, "fleet.yaml"), "two\n");
        assert_eq!(mirror.relation(&first, &second).unwrap(), Relation::NonFastForward);
    }
    git(&shallow, &["fetch", "--quiet", "--unshallow", &url, "main"]);
    assert_eq!(fetch(&mirror).unwrap(), second);
    assert_eq!(mirror.relation(&first, &second).unwrap(), Relation::Forward);
}

#[test]
fn a_submodule_is_named_and_never_fetched() {
    let (origin, _) = Origin::with_a_commit();
    let (other, _) = Origin::with_a_commit();
    git(&origin.work, &["submodule", "--quiet", "add", other.bare.to_str().unwrap(), "tenants/other"]);
    let commit = origin.push_file("tenants/a.yaml", "a\n");
    fs::remove_dir_all(&other.bare).unwrap();
    let mirror = origin.mirror();
    assert_eq!(fetch(&mirror).unwrap(), commit);
    let tree = mirror.read(&commit).unwrap();
    assert!(tree.file("tenants/a.yaml").is_some());
    let findings: Vec<String> = tree.findings.iter().map(ToString::to_string).collect();
    assert_eq!(findings.len(), 1, "{findings:?}");
    assert!(findings[0].contains("tenants/other is neither a file nor a folder"), "{findings:?}");
}

#[test]
fn a_folder_of_a_larger_repository_is_read_alone() {
    let (origin, first) = Origin::with_a_commit();
    let second = origin.push_file("deploy/fleet/tenants/a.yaml", "a\n");
    let mirror = origin.mirror_of(&Source { path: "deploy/fleet".to_owned(), ..origin.source() });
    assert_eq!(fetch(&mirror).unwrap(), second);
    let tree = mirror.read(&second).unwrap();
    let paths: Vec<&str> = tree.files.iter().map(|file| file.path.as_str()).collect();
    assert_eq!(paths, ["tenants/a.yaml"]);
    let error = mirror.read(&first).unwrap_err();
    assert!(matches!(error, SourceError::PathMissing { .. }), "{error:?}");
    assert!(error.to_string().contains("\"deploy/fleet\"") && error.to_string().contains(&first), "{error}");
    for (path, is_there) in [(".", true), ("./deploy/", true), ("fleet.yaml", false), ("deploy/..", false)] {
        let mirror = origin.mirror_of(&Source { path: path.to_owned(), ..origin.source() });
        assert_eq!(mirror.read(&second).is_ok(), is_there, "{path}");
    }
}

#[test]
fn what_is_wrong_in_itself_is_not_taken_in() {
    let (origin, first) = Origin::with_a_commit();
    let mirror = origin.mirror();
    assert_eq!(fetch(&mirror).unwrap(), first);
    let tree = git(&origin.work, &["rev-parse", "HEAD^{tree}"]);
    let raw = format!("tree {tree}\nparent {first}\nauthor nobody\ncommitter nobody\n\nwrong\n");
    fs::write(origin.folder().join("raw"), raw).unwrap();
    let wrong = git(&origin.bare, &["hash-object", "-t", "commit", "-w", "--literally", "../raw"]);
    git(&origin.bare, &["update-ref", "refs/heads/main", &wrong]);
    let error = fetch(&mirror).unwrap_err();
    assert!(matches!(error, FetchError::Corrupt { .. }), "{error:?}");
    assert!(mirror.read(&wrong).is_err());
    assert_eq!(text(&mirror, &first, "fleet.yaml"), "one\n");
}

/// Writes an object as it stands, whatever is wrong with it, and returns its id.
fn raw_object(origin: &Origin, kind: &str, bytes: &[u8]) -> String {
    fs::write(origin.folder().join("raw"), bytes).unwrap();
    git(&origin.bare, &["hash-object", "-t", kind, "-w", "--literally", "../raw"])
}

/// A tree of entries as they stand: mode, name, id.
fn raw_entries(origin: &Origin, entries: &[(&str, &[u8], &str)]) -> String {
    let entry = |(mode, name, id): &(&str, &[u8], &str)| {
        let id = (0..20).map(|at| u8::from_str_radix(&id[2 * at..2 * at + 2], 16).unwrap());
        [mode.as_bytes(), b" ", name, b"\0"].concat().into_iter().chain(id).collect::<Vec<u8>>()
    };
    raw_object(origin, "tree", &entries.iter().flat_map(entry).collect::<Vec<u8>>())
}

#[test]
fn what_old_programs_wrote_is_accepted_where_it_concerns_no_name() {
    let (origin, first) = Origin::with_a_commit();
    let mirror = origin.mirror();
    assert_eq!(fetch(&mirror).unwrap(), first);
    let blob = git(&origin.bare, &["rev-parse", "main:fleet.yaml"]);
    let tenants = raw_entries(&origin, &[("0100644", b"ant.yaml", &blob)]);
    let padded = raw_entries(&origin, &[("0100644", b"fleet.yaml", &blob), ("040000", b"tenants", &tenants)]);
    let attributes = raw_object(&origin, "blob", format!("* {}\n", "x".repeat(3_000)).as_bytes());
    let long = raw_entries(&origin, &[("100644", b".gitattributes", &attributes), ("100644", b"fleet.yaml", &blob)]);
    let plain = git(&origin.bare, &["rev-parse", "main^{tree}"]);
    let (who, time) = ("A U Thor <author@example.com>", "1100000000 +0000");
    let ordinary = format!("author {who} {time}\ncommitter {who} {time}\n\nold\n");
    for (tree, rest) in [
        (&padded, ordinary.clone()),
        (&long, ordinary.clone()),
        (&plain, ordinary.replace("1100000000", "01100000000")),
        (&plain, ordinary.replace("+0000", "+-700")),
        (&plain, ordinary.replace("Thor <", "Thor<")),
        (&plain, ordinary.replace("A U Thor <", "<")),
        (&plain, ordinary.replace("committer", &format!("author {who} {time}\ncommitter"))),
        (&plain, ordinary.replace("old", "old\0er")),
        (&plain, ordinary.replace("\n\n", "\nencoding ISO-8859-1\nunknown x\n\n")),
    ] {
        let commit = raw_object(&origin, "commit", format!("tree {tree}\nparent {first}\n{rest}").as_bytes());
        fs::write(origin.bare.join("refs/heads/main"), format!("{commit}\n")).unwrap();
        assert_eq!(fetch(&mirror).map_err(|e| format!("{rest}{}", chain(&e))), Ok(commit.clone()));
        assert_eq!(text(&mirror, &commit, "fleet.yaml"), "one\n");
        if tree == &padded {
            assert_eq!(text(&mirror, &commit, "tenants/ant.yaml"), "one\n");
        }
    }
}

#[test]
fn what_makes_a_name_doubtful_is_refused_by_object_and_kind() {
    let (origin, first) = Origin::with_a_commit();
    let mirror = origin.mirror();
    assert_eq!(fetch(&mirror).unwrap(), first);
    let blob = git(&origin.bare, &["rev-parse", "main:fleet.yaml"]);
    let folder = git(&origin.bare, &["rev-parse", "main^{tree}"]);
    let file = |name: &'static [u8]| vec![("100644", name, blob.as_str())];
    for (entries, kind) in [
        (vec![("40000", &b"."[..], folder.as_str())], "hasDot"),
        (vec![("40000", b"..", &folder)], "hasDotdot"),
        (vec![("40000", b".git", &folder)], "hasDotgit"),
        (vec![("40000", b".GIT", &folder)], "hasDotgit"),
        (file(b"tenants/ant.yaml"), "fullPathname"),
        ([file(b"fleet.yaml"), file(b"fleet.yaml")].concat(), "duplicateEntries"),
        ([file(b"tiers.yaml"), file(b"fleet.yaml")].concat(), "treeNotSorted"),
        // Beside what is accepted, the rest still counts.
        (vec![("040000", b".git", &folder)], "hasDotgit"),
    ] {
        let tree = raw_entries(&origin, &entries);
        let commit = git(&origin.bare, &["commit-tree", &tree, "-p", &first, "-m", "wrong"]);
        fs::write(origin.bare.join("refs/heads/main"), format!("{commit}\n")).unwrap();
        let error = fetch(&mirror).unwrap_err();
        let words = format!("the object {tree} has the fault {kind} (");
        assert!(matches!(error, FetchError::Corrupt { .. }) && error.to_string().contains(&words), "{kind}: {error}");
        assert_eq!(text(&mirror, &first, "fleet.yaml"), "one\n");
    }
}

#[test]
fn a_mirror_that_took_many_pushes_is_packed() {
    let (origin, first) = Origin::with_a_commit();
    let mirror = origin.mirror();
    let mut last = first.clone();
    for count in 0..70 {
        let tree = format!("{first}^{{tree}}");
        last = git(&origin.bare, &["commit-tree", &tree, "-p", &last, "-m", &count.to_string()]);
        git(&origin.bare, &["update-ref", "refs/heads/main", &last]);
        assert_eq!(fetch(&mirror).unwrap(), last);
        assert_eq!(wait(mirror.maintain(BTreeSet::new())), count == 63);
    }
    assert_eq!(packs(&origin).iter().filter(|(path, _)| path.extension().is_some_and(|it| it == "pack")).count(), 7);
    assert_eq!(mirror.relation(&first, &last).unwrap(), Relation::Forward);
    assert_eq!(text(&mirror, &first, "fleet.yaml"), "one\n");
}

/// The files of the mirror's packs, with their sizes.
fn packs(origin: &Origin) -> Vec<(PathBuf, u64)> {
    let entries = fs::read_dir(origin.mirror_folder().join("objects/pack")).unwrap().map(|entry| entry.unwrap());
    entries.map(|entry| (entry.path(), entry.metadata().unwrap().len())).collect()
}

fn size(origin: &Origin) -> u64 {
    packs(origin).iter().map(|(_, size)| size).sum()
}

/// A commit on top of another, of a tree with one file more.
fn commit_with(origin: &Origin, parent: &str, name: &str, bytes: &[u8], message: &str) -> String {
    let at = |arguments: &[&str]| git(&origin.bare, arguments);
    let (file, words) = (origin.folder().join("bytes"), origin.folder().join("words"));
    fs::write(&file, bytes).unwrap();
    fs::write(&words, message).unwrap();
    let blob = at(&["hash-object", "-w", file.to_str().unwrap()]);
    let index = origin.folder().join("index");
    let with_index = |arguments: &[&str]| {
        let output = command(&origin.bare, arguments).env("GIT_INDEX_FILE", &index).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim_end().to_owned()
    };
    with_index(&["read-tree", parent]);
    with_index(&["update-index", "--add", "--cacheinfo", &format!("100644,{blob},{name}")]);
    let tree = with_index(&["write-tree"]);
    let commit = at(&["commit-tree", &tree, "-p", parent, "-F", words.to_str().unwrap()]);
    at(&["update-ref", "refs/heads/main", &commit]);
    commit
}

/// Bytes that cannot be packed, another row for each seed.
fn noise(seed: u64, count: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    std::iter::repeat_with(next).flatten().take(count).collect()
}

#[test]
fn what_is_small_to_push_and_large_to_read_is_thrown_out() {
    let (origin, first) = Origin::with_a_commit();
    let mirror = origin.mirror();
    assert_eq!(fetch(&mirror).unwrap(), first);
    let before = size(&origin);
    let too_large = |what: &str| {
        let error = fetch(&mirror).unwrap_err();
        assert!(matches!(&error, FetchError::TooLarge { what: said, .. } if said.contains(what)), "{error:?}");
        assert_eq!((size(&origin), text(&mirror, &first, "fleet.yaml").as_str()), (before, "one\n"));
    };
    // Some kilobytes each.
    commit_with(&origin, &first, "large", &vec![0; 70 << 20], "a file");
    too_large("the file");
    too_large("the file");
    commit_with(&origin, &first, "small", b"x", &"x".repeat(2 << 20));
    too_large("the commit");
    // Large once, and never again: it stays on the way to the head.
    let commit = commit_with(&origin, &first, "large", &vec![0; 70 << 20], "a file");
    commit_with(&origin, &commit, "large", b"", "it is gone");
    too_large("the file");
    // One that was cut off after it came in is looked at by the next one.
    fs::write(origin.mirror_folder().join("tenantd.fetching"), {
        let names = packs(&origin).into_iter().filter(|(path, _)| path.extension().is_some_and(|it| it == "idx"));
        names.map(|(path, _)| path.file_name().unwrap().to_str().unwrap().to_owned()).collect::<Vec<_>>().join("\n")
    })
    .unwrap();
    git(
        &origin.mirror_folder(),
        &["-c", "fetch.unpackLimit=1", "fetch", "--quiet", origin.bare.to_str().unwrap(), "main"],
    );
    assert!(size(&origin) > before);
    too_large("the file");
    let good = commit_with(&origin, &first, "fleet.yaml", b"two\n", "good");
    assert_eq!(fetch(&mirror).unwrap(), good);
    assert_eq!(text(&mirror, &good, "fleet.yaml"), "two\n");
}

/// Takes room in the mirror until so many bytes are left of it.
fn leave(origin: &Origin, bytes: u64) {
    let file = fs::File::create(origin.mirror_folder().join("objects/pack/pack-full.pack")).unwrap();
    file.set_len((1 << 30) - bytes - size(origin)).unwrap();
}

#[test]
fn what_does_not_fit_leaves_room_for_what_comes_after() {
    let (origin, first) = Origin::with_a_commit();
    let mirror = origin.mirror();
    assert_eq!(fetch(&mirror).unwrap(), first);
    leave(&origin, 12 << 20);
    let before = packs(&origin);
    commit_with(&origin, &first, "noise", &noise(1, 20 << 20), "git is ended while it writes this");
    for _ in 0..2 {
        let error = fetch(&mirror).unwrap_err();
        assert!(matches!(error, FetchError::TooLarge { .. }), "{error:?}");
        assert_eq!(packs(&origin), before);
    }
    // As it was left by a daemon that was killed then, or while git packed.
    for name in ["tmp_pack_half", ".tmp-1-pack-half.pack"] {
        let half = origin.mirror_folder().join("objects/pack").join(name);
        fs::File::create(&half).unwrap().set_len(1 << 30).unwrap();
        let mirror = origin.mirror();
        let good = commit_with(&origin, &first, "fleet.yaml", name.as_bytes(), "good");
        assert_eq!(fetch(&mirror).unwrap(), good);
        assert!(!half.exists());
    }
    // Here the pack fits, and would not with its index: of many small objects that is as large.
    leave(&origin, 2 << 20);
    let before = packs(&origin);
    commit_with(&origin, &first, "noise", &noise(2, (2 << 20) - 1_500), "the index does not fit");
    let error = fetch(&mirror).unwrap_err();
    assert!(matches!(error, FetchError::TooLarge { .. }), "{error:?}");
    assert_eq!(packs(&origin), before);
    let good = commit_with(&origin, &first, "fleet.yaml", b"two\n", "good");
    assert_eq!(fetch(&mirror).unwrap(), good);
}

/// A tree of one entry, whatever libgit2 makes of it.
fn raw_tree(origin: &Origin, mode: &str, name: &[u8]) -> String {
    let blob = git(&origin.bare, &["rev-parse", "main:fleet.yaml"]);
    raw_entries(origin, &[(mode, name, &blob)])
}

#[test]
fn what_only_git_can_read_costs_no_mirror() {
    let (origin, first) = Origin::with_a_commit();
    let mirror = origin.mirror();
    assert_eq!(fetch(&mirror).unwrap(), first);
    let before = packs(&origin);
    let is_alone = || fs::read_dir(origin.mirror_folder().parent().unwrap()).unwrap().count() == 1;
    let on_top = |tree: &str| git(&origin.bare, &["commit-tree", tree, "-p", &first, "-m", "wrong"]);
    let blob = git(&origin.bare, &["rev-parse", "main:fleet.yaml"]);
    let long = on_top(&raw_tree(&origin, "100644", &vec![b'x'; 70_000]));
    let mode = on_top(&raw_tree(&origin, "1100644", b"fleet.yaml"));
    for wrong in [&mode, &blob, &long] {
        // git lets nothing but a commit be a branch.
        fs::write(origin.bare.join("refs/heads/main"), format!("{wrong}\n")).unwrap();
        for _ in 0..2 {
            let error = fetch(&mirror).unwrap_err();
            // A newer git refuses the long name itself.
            let is_refused = match error {
                FetchError::Unreadable { .. } => true,
                FetchError::Corrupt { .. } => wrong == &long,
                _ => false,
            };
            assert!(is_refused, "{wrong}");
            assert_eq!(packs(&origin), before);
        }
        assert_eq!(text(&origin.mirror(), &first, "fleet.yaml"), "one\n");
        assert!(is_alone());
    }
    // A mirror that has one already is not damaged, and says what is wrong.
    git(&origin.mirror_folder(), &["fetch", "--quiet", origin.bare.to_str().unwrap(), &long]);
    git(&origin.mirror_folder(), &["update-ref", "refs/tenantd/source", &long]);
    let mirror = origin.mirror();
    assert!(is_alone());
    let findings = mirror.read(&long).unwrap().findings;
    assert!(findings.len() == 1 && findings[0].to_string().contains("cannot be parsed"), "{findings:?}");
    git(&origin.bare, &["update-ref", "refs/heads/main", &first]);
    assert_eq!(fetch(&mirror).unwrap(), first);
    assert_eq!(text(&mirror, &first, "fleet.yaml"), "one\n");
    assert!(is_alone());
}

#[test]
fn what_nobody_needs_is_dropped_after_a_while_and_what_is_needed_stays() {
    let (origin, first) = Origin::with_a_commit();
    let mirror = origin.mirror();
    assert_eq!(fetch(&mirror).unwrap(), first);
    assert!(!wait(mirror.maintain(BTreeSet::new())));
    let mut commits = Vec::new();
    for seed in 1..=5 {
        let name = format!("noise{seed}");
        commits.push(commit_with(&origin, &first, &name, &noise(seed, 20 << 20), "on top of the first"));
        assert_eq!(fetch(&mirror).unwrap(), commits[commits.len() - 1]);
    }
    let head = commit_with(&origin, &first, "fleet.yaml", b"two\n", "small");
    assert_eq!(fetch(&mirror).unwrap(), head);
    let full = size(&origin);
    assert!(full > 100 << 20);
    // Two hours later. One of them is pinned, and so is one that nobody has.
    for (path, _) in packs(&origin) {
        let earlier = std::time::SystemTime::now() - Duration::from_secs(7_200);
        fs::File::options().append(true).open(path).unwrap().set_modified(earlier).unwrap();
    }
    let needed = BTreeSet::from([commits[2].clone(), "1".repeat(40)]);
    assert!(wait(mirror.maintain(needed.clone())));
    let left = size(&origin);
    assert!(left < 45 << 20, "{left}");
    let is_there = |commit: &String| mirror.read(commit).is_ok();
    assert_eq!(text(&mirror, &head, "fleet.yaml"), "two\n");
    assert!(is_there(&commits[2]) && is_there(&first));
    assert_eq!(mirror.relation(&first, &commits[2]).unwrap(), Relation::Forward);
    assert!(!is_there(&commits[0]));

    // What has not lain there for long stays: it may wait to be judged.
    let fresh: Vec<String> = (6..=9)
        .map(|seed| {
            let commit = commit_with(&origin, &first, "noise", &noise(seed, 20 << 20), "on top of the first");
            assert_eq!(fetch(&mirror).unwrap(), commit);
            commit
        })
        .collect();
    git(&origin.bare, &["update-ref", "refs/heads/main", &head]);
    assert_eq!(fetch(&mirror).unwrap(), head);
    assert!(wait(mirror.maintain(needed)));
    assert!(fresh.iter().all(is_there) && is_there(&commits[2]));
    // It goes on as before.
    let next = commit_with(&origin, &head, "fleet.yaml", b"three\n", "next");
    assert_eq!(fetch(&mirror).unwrap(), next);
}

fn unused_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// The processes with a text in their command line.
fn processes_with(text: &str) -> Vec<String> {
    fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| fs::read(entry.ok()?.path().join("cmdline")).ok())
        .map(|line| String::from_utf8_lossy(&line).into_owned())
        .filter(|line| line.contains(text))
        .collect()
}

#[test]
fn a_source_that_never_answers_is_given_up_with_nothing_left() {
    for scheme in ["git", "http"] {
        let origin = Origin::new();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("{scheme}://127.0.0.1:{}/fleet.git", listener.local_addr().unwrap().port());
        let source = Source { timeout: Timespan::milliseconds(700), ..of_url(&url) };
        let mirror = origin.mirror_of(&source);
        let error = fetch(&mirror).unwrap_err();
        assert!(matches!(error, FetchError::TimedOut { .. }), "{error:?}");
        assert_eq!(processes_with(&url), Vec::<String>::new());

        // The same when nobody waits for it any more.
        let mirror = origin.mirror_of(&of_url(&url));
        wait(async {
            let fetching = tokio::time::timeout(Duration::from_millis(300), mirror.fetch()).await;
            assert!(fetching.is_err());
            while !processes_with(&url).is_empty() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        });
    }
}

/// A server that asks for a password and hands a repository out with git's own program.
struct HttpServer {
    url: String,
    /// What was found in the command lines and environments of all processes while git waited.
    leaks: Arc<Mutex<Vec<String>>>,
}

/// `ada:s3cret-7f3a` as HTTP carries it.
const AUTHORIZATION: &str = "authorization: basic ywrhonmzy3jldc03zjnh";
const PASSWORD: &str = "s3cret-7f3a";

impl HttpServer {
    fn start(root: &Path) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://127.0.0.1:{}/fleet.git", listener.local_addr().unwrap().port());
        let leaks = Arc::new(Mutex::new(Vec::new()));
        let (root, found) = (root.to_owned(), leaks.clone());
        // It ends with the test's process.
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let answer = answer(&stream, &root, &found);
                let _ = (&stream).write_all(&answer);
            }
        });
        Self { url, leaks }
    }
}

/// Answers one request, as a CGI server would.
fn answer(stream: &TcpStream, root: &Path, leaks: &Mutex<Vec<String>>) -> Vec<u8> {
    let mut reader = BufReader::new(stream);
    let mut headers = Vec::new();
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).unwrap_or(0) == 0 || line == "\r\n" {
            break;
        }
        headers.push(line.trim_end().to_owned());
    }
    let header = |name: &str| {
        headers.iter().find_map(|line| line.to_lowercase().strip_prefix(&format!("{name}: ")).map(str::to_owned))
    };
    if !headers.iter().any(|line| line.to_lowercase() == AUTHORIZATION) {
        return b"HTTP/1.1 401 No\r\nWWW-Authenticate: Basic realm=x\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
            .into();
    }
    leaks.lock().unwrap().extend(seen_by_others(PASSWORD));
    let mut body = vec![0; header("content-length").map_or(0, |length| length.parse().unwrap())];
    reader.read_exact(&mut body).unwrap();
    let mut request = headers.first().map(String::as_str).unwrap_or_default().split(' ');
    let (method, target) = (request.next().unwrap(), request.next().unwrap());
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let mut backend = Command::new("git")
        .arg("http-backend")
        .envs([("GIT_PROJECT_ROOT", root.to_str().unwrap()), ("GIT_HTTP_EXPORT_ALL", "1")])
        .envs([("PATH_INFO", path), ("QUERY_STRING", query), ("REQUEST_METHOD", method)])
        .env("CONTENT_TYPE", header("content-type").unwrap_or_default())
        .env("GIT_PROTOCOL", header("git-protocol").unwrap_or_default())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    backend.stdin.take().unwrap().write_all(&body).unwrap();
    let mut answer = b"HTTP/1.1 200 OK\r\nConnection: close\r\n".to_vec();
    answer.extend(backend.wait_with_output().unwrap().stdout);
    answer
}

/// Where a secret stands in a command line or an environment.
fn seen_by_others(secret: &str) -> Vec<String> {
    let mut seen = Vec::new();
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        for file in ["cmdline", "environ"] {
            let text = fs::read(entry.path().join(file)).unwrap_or_default();
            if text.windows(secret.len()).any(|window| window == secret.as_bytes()) {
                seen.push(format!("{file}: {}", String::from_utf8_lossy(&text)));
            }
        }
    }
    seen
}

#[test]
fn the_password_opens_an_http_source_and_is_seen_by_nobody() {
    let (origin, first) = Origin::with_a_commit();
    let server = HttpServer::start(origin.folder());
    let file = origin.folder().join("password");
    fs::write(&file, format!("{PASSWORD}\n")).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    let source =
        Source { username: "ada".to_owned(), password: Some(Secret::File(file.clone())), ..of_url(&server.url) };
    let mirror = origin.mirror_of(&source);
    assert_eq!(fetch(&mirror).unwrap(), first);
    let second = origin.push_file("fleet.yaml", "two\n");
    assert_eq!(fetch(&mirror).unwrap(), second);
    assert_eq!(*server.leaks.lock().unwrap(), Vec::<String>::new());

    fs::write(&file, "wrong-9c1e\n").unwrap();
    let error = fetch(&mirror).unwrap_err();
    assert!(matches!(error, FetchError::Failed { .. }), "{error:?}");
    assert!(!chain(&error).contains("wrong-9c1e"), "{error}");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
    assert!(matches!(fetch(&mirror), Err(FetchError::Secret(_))));
    // Without a password nobody is asked for one.
    let error = fetch(&origin.mirror_of(&of_url(&server.url))).unwrap_err();
    assert!(matches!(error, FetchError::Failed { .. }), "{error:?}");
}

/// Whether something is told within a few seconds.
async fn is_notified(watch: &mut Watch) -> bool {
    tokio::time::timeout(Duration::from_secs(20), watch.changed()).await.is_ok()
}

/// Whether all is quiet, for ten times as long as a change takes to be told.
async fn is_quiet(watch: &mut Watch) -> bool {
    tokio::time::timeout(Duration::from_millis(300), watch.changed()).await.is_err()
}

/// Waits until what happened so far has been told, and returns in how many pieces.
async fn settle(watch: &mut Watch) -> usize {
    let mut printed = 0;
    while !is_quiet(watch).await {
        printed += 1;
    }
    printed
}

#[test]
fn a_push_is_reported_at_once_wherever_the_branch_is_kept() {
    let (origin, _) = Origin::with_a_commit();
    for repository in [&origin.bare, &origin.work] {
        wait(async {
            let mut watch = Watch::new(repository);
            watch.ensure().unwrap();
            assert!(is_quiet(&mut watch).await);
            origin.push_file("fleet.yaml", &format!("{}\n", repository.display()));
            assert!(is_notified(&mut watch).await);
            settle(&mut watch).await;
            // A branch in a folder, which is there only now.
            git(repository, &["update-ref", "refs/heads/team/a", "main"]);
            assert!(is_notified(&mut watch).await);
            settle(&mut watch).await;
            git(repository, &["pack-refs", "--all"]);
            assert!(is_notified(&mut watch).await);
            settle(&mut watch).await;
            git(repository, &["update-ref", "-d", "refs/heads/team/a"]);
            assert!(is_notified(&mut watch).await);
            settle(&mut watch).await;
            watch.ensure().unwrap();
            // Reading it is no change, and what does not touch a branch neither.
            let mirror: Mirror = origin.mirror_of(&of_url(repository.to_str().unwrap()));
            mirror.fetch().await.unwrap();
            git(
                repository,
                &["status", "--short"].map(|word| if repository == &origin.bare { "version" } else { word }),
            );
            git(repository, &["hash-object", "-w", "/etc/hostname"]);
            assert!(is_quiet(&mut watch).await);
        });
    }
}

#[test]
fn a_further_work_tree_leads_to_the_branches() {
    let (origin, _) = Origin::with_a_commit();
    let further = origin.folder().join("further");
    git(&origin.work, &["worktree", "add", "--quiet", "--detach", further.to_str().unwrap()]);
    wait(async {
        let mut watch = Watch::new(&further);
        watch.ensure().unwrap();
        git(&origin.work, &["update-ref", "refs/heads/other", "main"]);
        assert!(is_notified(&mut watch).await);
    });
}

#[test]
fn a_repository_that_comes_goes_and_is_replaced_is_watched_again() {
    let (origin, first) = Origin::with_a_commit();
    let aside: PathBuf = origin.folder().join("aside.git");
    wait(async {
        let mut watch = Watch::new(&origin.bare);
        fs::rename(&origin.bare, &aside).unwrap();
        assert!(watch.ensure().is_err());
        fs::rename(&aside, &origin.bare).unwrap();
        watch.ensure().unwrap();
        // Another takes its place.
        fs::rename(&origin.bare, &aside).unwrap();
        git(origin.folder(), &["clone", "--quiet", "--bare", "aside.git", "fleet.git"]);
        watch.ensure().unwrap();
        settle(&mut watch).await;
        git(&origin.bare, &["update-ref", "refs/heads/other", &first]);
        assert!(is_notified(&mut watch).await);
    });
}

#[test]
fn many_pushes_in_a_row_are_reported_a_few_times() {
    let (origin, first) = Origin::with_a_commit();
    wait(async {
        let mut watch = Watch::new(&origin.bare);
        watch.ensure().unwrap();
        let branch = origin.bare.join("refs/heads/main");
        let pushes = tokio::task::spawn_blocking(move || {
            for _ in 0..5_000 {
                let lock = branch.with_extension("lock");
                fs::write(&lock, format!("{first}\n")).unwrap();
                fs::rename(&lock, &branch).unwrap();
            }
        });
        let mut printed = 0;
        while !pushes.is_finished() {
            printed += settle(&mut watch).await;
        }
        printed += settle(&mut watch).await;
        assert!((1..1_000).contains(&printed), "{printed}");
    });
}
