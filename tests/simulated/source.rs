//! What the daemon makes of the states that a source can be in.

use std::{
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
    origin::{Origin, fetch, git, of_url, text, wait},
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
    assert_eq!(mirror.relation(&second, &first).unwrap(), Relation::Rewound);
    assert_eq!(mirror.relation(&"0".repeat(40), &second).unwrap(), Relation::Rewound);
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
fn a_rewritten_branch_is_fetched_and_told_apart() {
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
    assert_eq!(mirror.relation(&second, &other).unwrap(), Relation::Rewound);
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
fn a_source_that_is_not_there_or_empty_is_told_apart() {
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
    // It is not the mirror that is put aside.
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
        assert_eq!(mirror.relation(&first, &second).unwrap(), Relation::Rewound);
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

#[test]
fn a_mirror_that_took_many_pushes_is_packed() {
    let (origin, first) = Origin::with_a_commit();
    let mirror = origin.mirror();
    let mut last = first.clone();
    fs::write(origin.mirror_folder().join("config"), "[core]\n\tbare = true\n[gc]\n\tauto = 1\n").unwrap();
    for count in 0..70 {
        let tree = format!("{first}^{{tree}}");
        last = git(&origin.bare, &["commit-tree", &tree, "-p", &last, "-m", &count.to_string()]);
        git(&origin.bare, &["update-ref", "refs/heads/main", &last]);
        assert_eq!(fetch(&mirror).unwrap(), last);
    }
    let packs = fs::read_dir(origin.mirror_folder().join("objects/pack")).unwrap().count();
    assert!(packs > 0);
    assert_eq!(mirror.relation(&first, &last).unwrap(), Relation::Forward);
    assert_eq!(text(&mirror, &first, "fleet.yaml"), "one\n");
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
async fn is_told(watch: &mut Watch) -> bool {
    tokio::time::timeout(Duration::from_secs(20), watch.changed()).await.is_ok()
}

/// Whether all is quiet, for ten times as long as a change takes to be told.
async fn is_quiet(watch: &mut Watch) -> bool {
    tokio::time::timeout(Duration::from_millis(300), watch.changed()).await.is_err()
}

/// Waits until what happened so far has been told, and returns in how many pieces.
async fn settle(watch: &mut Watch) -> usize {
    let mut told = 0;
    while !is_quiet(watch).await {
        told += 1;
    }
    told
}

#[test]
fn a_push_is_told_at_once_wherever_the_branch_is_kept() {
    let (origin, _) = Origin::with_a_commit();
    for repository in [&origin.bare, &origin.work] {
        wait(async {
            let mut watch = Watch::new(repository);
            watch.ensure().unwrap();
            assert!(is_quiet(&mut watch).await);
            origin.push_file("fleet.yaml", &format!("{}\n", repository.display()));
            assert!(is_told(&mut watch).await);
            settle(&mut watch).await;
            // A branch in a folder, which is there only now.
            git(repository, &["update-ref", "refs/heads/team/a", "main"]);
            assert!(is_told(&mut watch).await);
            settle(&mut watch).await;
            git(repository, &["pack-refs", "--all"]);
            assert!(is_told(&mut watch).await);
            settle(&mut watch).await;
            git(repository, &["update-ref", "-d", "refs/heads/team/a"]);
            assert!(is_told(&mut watch).await);
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
        assert!(is_told(&mut watch).await);
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
        assert!(is_told(&mut watch).await);
    });
}

#[test]
fn many_pushes_in_a_row_are_told_a_few_times() {
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
        let mut told = 0;
        while !pushes.is_finished() {
            told += settle(&mut watch).await;
        }
        told += settle(&mut watch).await;
        assert!((1..1_000).contains(&told), "{told}");
    });
}
