//! A history that is read commit by commit, only what differs of each and several at once, tells what a plain reading of
//! every whole commit tells.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::Write,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Stdio,
};

use serde_json::{Value, json};
use tenantd::{
    model::Desired,
    review::history::{Against, InForce},
    source::{SourceError, read_commit_below},
    spec,
};

use crate::{
    cli::{Cli, Ended, FLEET, file},
    origin::{command, git},
};

/// The tenants that may be there.
const TENANTS: [&str; 6] = ["ant", "ant-hill", "bee", "cat", "dog", "elk"];

/// A repository in the making, as `git fast-import` takes it.
struct Stream {
    random: fastrand::Rng,
    text: Vec<u8>,
    below: &'static str,
    commits: usize,
    /// The branches, each with the mark of its newest commit.
    tips: Vec<(String, usize)>,
}

impl Stream {
    fn new(seed: u64, below: &'static str) -> Self {
        let text = b"feature done\n".to_vec();
        Self { random: fastrand::Rng::with_seed(seed), text, below, commits: 0, tips: Vec::new() }
    }

    fn put(&mut self, mode: &str, path: &str, content: &str) {
        let below = self.below;
        let head = format!("M {mode} inline \"{below}{path}\"\ndata {}\n{content}\n", content.len());
        self.text.extend_from_slice(head.as_bytes());
    }

    fn delete(&mut self, path: &str) {
        self.text.extend_from_slice(format!("D \"{}{path}\"\n", self.below).as_bytes());
    }

    /// Begins a commit, and returns its mark.
    fn commit(&mut self, branch: &str, parents: &[usize]) -> usize {
        self.commits += 1;
        let mark = self.commits;
        let time = 1_700_000_000 + mark * 60;
        let mut head = format!(
            "commit refs/heads/{branch}\nmark :{mark}\ncommitter test <test@example.com> {time} +0000\ndata 6\nchange\n"
        );
        for (number, parent) in parents.iter().enumerate() {
            head += &format!("{} :{parent}\n", if number == 0 { "from" } else { "merge" });
        }
        self.text.extend_from_slice(head.as_bytes());
        mark
    }

    fn tenant(&mut self, name: &str) {
        let mut more = match self.random.u8(..10) {
            0 => "limits: {memory: plenty}\n".to_owned(),
            1..6 => format!("limits: {{memory: {}MiB}}\n", self.random.u32(64..512)),
            _ => String::new(),
        };
        if self.random.bool() {
            more += &format!("allowlist: [\"a.example.com:{}\"]\n", self.random.u16(1000..1003));
        }
        if self.random.u8(..5) == 0 {
            more += &format!("files: [{{path: x, from: files/shared/{}}}]\n", self.random.u8(..3));
        }
        self.put("100644", &format!("tenants/{name}.yaml"), &file(name, &more));
    }

    fn first(&mut self) {
        let mark = self.commit("main", &[]);
        self.tips.push(("main".to_owned(), mark));
        self.put("100644", "fleet.yaml", FLEET);
        TENANTS[..4].iter().for_each(|name| self.tenant(name));
    }

    /// A commit on any branch, or one that begins or merges one.
    fn next(&mut self) {
        let at = self.random.usize(..self.tips.len());
        let (branch, tip) = self.tips[at].clone();
        let name = TENANTS[self.random.usize(..TENANTS.len())];
        match self.random.u8(..20) {
            0 if self.tips.len() < 4 => {
                let branch = format!("side-{}", self.commits);
                let mark = self.commit(&branch, &[tip]);
                self.tips.push((branch, mark));
                self.tenant(name);
            }
            1..4 if self.tips.len() > 1 => {
                let mut others: Vec<usize> =
                    self.tips.iter().map(|(_, mark)| *mark).filter(|mark| *mark != tip).collect();
                others.truncate(self.random.usize(1..3));
                let mark = self.commit(&branch, &[&[tip], others.as_slice()].concat());
                self.tips[at].1 = mark;
                if self.random.bool() {
                    self.tenant(name);
                }
            }
            _ => {
                self.tips[at].1 = self.commit(&branch, &[tip]);
                self.change(name);
            }
        }
    }

    /// A commit that changes tenants' files and nothing else.
    fn tenants_alone(&mut self) {
        let mark = self.commit("main", &[self.tips[0].1]);
        self.tips[0].1 = mark;
        let name = TENANTS[mark % TENANTS.len()];
        self.put(
            "100644",
            &format!("tenants/{name}.yaml"),
            &file(name, &format!("limits: {{memory: {}MiB}}\n", 100 + mark)),
        );
    }

    fn change(&mut self, name: &str) {
        let path = format!("tenants/{name}.yaml");
        match self.random.u8(..38) {
            0..12 => self.tenant(name),
            12 => TENANTS.iter().for_each(|name| self.tenant(name)),
            13 | 14 => self.delete(&path),
            15 => {
                self.delete(&path);
                self.tenant(TENANTS[0]);
            }
            16 => {
                let sessions = self.random.u8(1..3);
                let tier = format!("{{cpus: 1, memory: 512MiB, disk: 2GiB, sessions: {sessions}}}");
                let tiers = format!("apiVersion: tenantd/v1\nkind: Tiers\ntiers: {{free: {tier}}}\n");
                self.put("100644", "tiers.yaml", &tiers);
            }
            17 => self.delete("tiers.yaml"),
            18 => self.put("100644", "fleet.yaml", "nonsense\n"),
            19..21 => self.put("100644", "fleet.yaml", &format!("{FLEET}# {}\n", self.commits)),
            21 => {
                let (number, content) = (self.random.u8(..3), self.commits.to_string());
                self.put("100644", &format!("files/shared/{number}"), &content);
            }
            22 => self.delete("files/shared/1"),
            23 => self.put("100644", &format!("tenants/{name}.yml"), "x"),
            24 => self.delete(&format!("tenants/{name}.yml")),
            25 => self.delete("tenants"),
            26 => self.put("100644", &path, &"#".repeat(300_000)),
            27 => self.put("120000", &path, "elsewhere"),
            28 => self.put("100755", &path, &file(name, "")),
            29 => self.delete("fleet.yaml"),
            30 => self.put("100644", "fleet.yml", FLEET),
            31..36 => self.delete("fleet.yml"),
            _ => {
                self.put("100644", "README.md", &self.commits.to_string());
                self.put("100644", "tenants/README.md", &self.commits.to_string());
            }
        }
    }

    fn into_repository(mut self, folder: &Path) {
        self.text.extend_from_slice(b"done\n");
        git(
            folder.parent().unwrap(),
            &["init", "--quiet", "--bare", "--initial-branch=main", folder.to_str().unwrap()],
        );
        let mut import = command(folder, &["fast-import", "--quiet"]).stdin(Stdio::piped()).spawn().unwrap();
        import.stdin.take().unwrap().write_all(&self.text).unwrap();
        assert!(import.wait().unwrap().success());
    }
}

/// What a plain reading tells of each commit that led to a branch: whatever it changed, as the command's JSON has it.
fn plain(folder: &Path, below: &str) -> BTreeMap<String, Value> {
    let repository = git2::Repository::open(folder).unwrap();
    let read = |commit: &str| match read_commit_below(folder, commit, below) {
        Ok(tree) => Some(tree),
        Err(SourceError::PathMissing { .. }) => None,
        Err(e) => panic!("{commit}: {e}"),
    };
    let declared = |commit: &str| read(commit).as_ref().map_or_else(Desired::default, spec::compile);
    let mut states: BTreeMap<String, InForce> = BTreeMap::new();
    let mut printed = BTreeMap::new();
    for line in git(folder, &["rev-list", "--topo-order", "--reverse", "--parents", "main"]).lines() {
        let words: Vec<&str> = line.split(' ').collect();
        let (commit, parents) = (words[0], &words[1..]);
        let mut own = parents.first().map_or_else(InForce::default, |first| states[*first].clone());
        let brought = match read(commit) {
            Some(tree) => own.take(None, spec::compile(&tree)),
            None => own.miss(),
        };
        let others: BTreeSet<&str> = parents.iter().skip(1).filter(|parent| *parent != &parents[0]).copied().collect();
        let mut against = Vec::new();
        for parent in &others {
            let base = |other: &str| {
                let ids = [*parent, other].map(|id| git2::Oid::from_str(id).unwrap());
                repository
                    .merge_base(ids[0], ids[1])
                    .map_or_else(|_| Desired::default(), |id| declared(&id.to_string()))
            };
            let sides = parents.iter().filter(|other| *other != parent).map(|other| (&states[*other], base(other)));
            let review = own.taken_back(&states[*parent], &sides.collect::<Vec<_>>());
            against.extend((!review.is_empty()).then(|| Against { commit: (*parent).to_owned(), review }));
        }
        if !brought.review.is_empty() || brought.breaks || !against.is_empty() {
            against.sort_by(|one, other| one.commit.cmp(&other.commit));
            printed.insert(
                commit.to_owned(),
                json!({
                    "fleet": brought.review.fleet, "tenants": brought.review.tenants, "broken": brought.is_broken,
                    "missing": brought.is_missing, "renamed": brought.renamed, "returned": brought.returned,
                    "against": against,
                }),
            );
        }
        states.insert(commit.to_owned(), own);
    }
    printed
}

/// What a command says of all commits that led to a revision.
fn says(cli: &Cli, command: &[&str], folder: &Path, rev: &str, below: &str) -> Ended {
    let below = if below.is_empty() { "." } else { below };
    let repo = folder.to_str().unwrap();
    cli.run(&[command, &["--repo", repo, "--rev", rev, "--path", below, "--format", "json"]].concat())
}

/// What the history says of all commits that led to a branch.
fn said(cli: &Cli, folder: &Path, below: &str) -> Ended {
    says(cli, &["history"], folder, "main", below)
}

/// The same as [`plain`] tells it.
fn printed(said: &str) -> BTreeMap<String, Value> {
    let answer: Value = serde_json::from_str(said).unwrap();
    let fields = ["fleet", "tenants", "broken", "missing", "renamed", "returned", "against"];
    let one = |commit: &Value| {
        let mut printed: BTreeMap<&str, Value> = fields.iter().map(|field| (*field, commit[field].clone())).collect();
        let by_commit = |one: &Value| one["commit"].as_str().unwrap().to_owned();
        printed.get_mut("against").unwrap().as_array_mut().unwrap().sort_by_key(by_commit);
        (commit["commit"].as_str().unwrap().to_owned(), json!(printed))
    };
    answer["commits"].as_array().unwrap().iter().map(one).collect()
}

#[test]
fn what_is_read_piece_by_piece_is_what_a_plain_reading_tells() {
    let cli = Cli::uncommitted(&[]);
    let mut changes = 0;
    for seed in 0..16 {
        let below = if seed % 4 == 3 { "fleets/eu/" } else { "" };
        let folder = cli.world.folder().join(format!("{seed}.git"));
        let mut stream = Stream::new(seed, below);
        stream.first();
        (0..120).for_each(|_| stream.next());
        stream.into_repository(&folder);
        let expected = plain(&folder, below);
        changes += expected.len();
        let first = said(&cli, &folder, below).with(0).out;
        assert_eq!(said(&cli, &folder, below).with(0).out, first, "seed {seed}");
        let found = printed(&first);
        for (commit, expected) in &expected {
            assert_eq!(found.get(commit), Some(expected), "seed {seed}, {commit}");
        }
        assert_eq!(found.len(), expected.len(), "seed {seed}");
    }
    assert!(changes > 160, "{changes}");
}

/// What the report of a stretch of a history says, by the times of the commits, without when it was made.
fn reported(cli: &Cli, folder: &Path, below: &str, from: i64, to: i64) -> Value {
    let time = |commit: i64| jiff::Timestamp::from_second(1_700_000_000 + commit * 60).unwrap().to_string();
    let (from, to) = (time(from), time(to));
    let said = says(cli, &["audit", "report", "--from", &from, "--to", &to], folder, "main", below).with(0).out;
    let mut report: Value = serde_json::from_str(&said).unwrap();
    report.as_object_mut().unwrap().remove("made").unwrap();
    report
}

fn forget(folder: &Path) {
    fs::remove_dir_all(folder.join("tenantd")).unwrap();
}

#[test]
fn what_was_found_at_earlier_commits_says_the_same_of_later_ones() {
    let cli = Cli::uncommitted(&[]);
    for seed in 100..112 {
        let below = if seed % 4 == 3 { "fleets/eu/" } else { "" };
        let folder = cli.world.folder().join(format!("{seed}.git"));
        let mut stream = Stream::new(seed, below);
        stream.first();
        (0..120).for_each(|_| stream.next());
        let mut random = fastrand::Rng::with_seed(seed);
        stream.into_repository(&folder);
        let expected = said(&cli, &folder, below).with(0).out;
        let stretches: Vec<(i64, i64)> = (0..3).map(|_| random.i64(0..60)).map(|from| (from, from + 60)).collect();
        let anew = |(from, to): &(i64, i64)| {
            forget(&folder);
            reported(&cli, &folder, below, *from, *to)
        };
        let reports: Vec<Value> = stretches.iter().map(anew).collect();
        let tenants: Vec<Ended> =
            TENANTS.iter().map(|name| says(&cli, &["explain", name], &folder, "main", below)).collect();

        forget(&folder);
        let commits = git(&folder, &["rev-list", "--topo-order", "--reverse", "main"]);
        let commits: Vec<&str> = commits.lines().collect();
        for part in 1..6 {
            let commit = commits[random.usize(commits.len() * (part - 1) / 6..commits.len() * part / 6)];
            says(&cli, &["history"], &folder, commit, below).with(0);
            says(&cli, &["explain", TENANTS[part]], &folder, commit, below);
        }
        for ((from, to), expected) in stretches.iter().zip(&reports) {
            assert_eq!(&reported(&cli, &folder, below, *from, *to), expected, "seed {seed}, {from} to {to}");
        }
        assert_eq!(said(&cli, &folder, below).with(0).out, expected, "seed {seed}");
        for (name, expected) in TENANTS.iter().zip(tenants) {
            let found = says(&cli, &["explain", name], &folder, "main", below);
            assert_eq!((found.code, found.out), (expected.code, expected.out), "seed {seed}, {name}");
        }
    }
}

#[test]
fn new_commits_alone_are_read_where_those_before_them_were_found() {
    let cli = Cli::uncommitted(&[]);
    let folder = cli.world.folder().join("repo.git");
    let mut stream = Stream::new(7, "");
    stream.first();
    for _ in 0..40 {
        stream.tenants_alone();
    }
    stream.into_repository(&folder);
    let before = git(&folder, &["rev-parse", "main~3"]);
    let expected = said(&cli, &folder, "").with(0).out;
    forget(&folder);
    says(&cli, &["history"], &folder, &before, "").with(0);

    // All commits, and what lies at the last four of them.
    let new = git(&folder, &["rev-list", "main~4..main"]);
    let trees: Vec<String> =
        new.lines().map(|commit| git(&folder, &["ls-tree", "-rt", "--format=%(objectname)", commit])).collect();
    let roots: Vec<String> =
        new.lines().map(|commit| git(&folder, &["rev-parse", &format!("{commit}^{{tree}}")])).collect();
    let ids = [git(&folder, &["rev-list", "main"]), trees.join("\n"), roots.join("\n")].join("\n") + "\n";
    keep_objects(&folder, &ids);
    assert_eq!(said(&cli, &folder, "").with(0).out, expected);
    assert_eq!(said(&cli, &folder, "").with(0).out, expected);
    forget(&folder);
    said(&cli, &folder, "").with(1);
}

/// Leaves of a repository's objects only these.
fn keep_objects(folder: &Path, ids: &str) {
    let kept = folder.join("kept");
    fs::create_dir(&kept).unwrap();
    let mut packing = command(folder, &["pack-objects", "--quiet", "kept/pack"]).stdin(Stdio::piped()).spawn().unwrap();
    packing.stdin.take().unwrap().write_all(ids.as_bytes()).unwrap();
    assert!(packing.wait().unwrap().success());
    fs::remove_dir_all(folder.join("objects/pack")).unwrap();
    fs::rename(&kept, folder.join("objects/pack")).unwrap();
}

/// The files in which is kept what was found before.
fn kept(folder: &Path) -> Vec<PathBuf> {
    let files = fs::read_dir(folder.join("tenantd")).into_iter().flatten();
    files.map(|entry| entry.unwrap().path()).collect()
}

#[test]
fn what_was_found_before_is_used_while_it_is_whole_and_ours() {
    let cli = Cli::uncommitted(&[]);
    let folder = cli.world.folder().join("repo.git");
    let mut stream = Stream::new(5, "");
    stream.first();
    (0..80).for_each(|_| stream.next());
    stream.into_repository(&folder);
    let said = || said(&cli, &folder, "");
    let first = said().with(0).out;
    let is_of = |path: &PathBuf, kind: &str| path.file_name().unwrap().to_str().unwrap().starts_with(kind);
    let file = kept(&folder).into_iter().find(|path| is_of(path, "outcomes-")).unwrap();
    let whole = fs::read(&file).unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&file), mode(file.parent().unwrap())), (0o600, 0o700));
    // What others may write to is not used, and none that is not whole, of another format or of another program.
    let replaced = |from: &str, to: &str| {
        let at = whole.windows(from.len()).position(|bytes| bytes == from.as_bytes()).unwrap();
        [&whole[..at], to.as_bytes(), &whole[at + from.len()..]].concat()
    };
    let head = whole.iter().position(|byte| *byte == b'\n').unwrap() + 1;
    for wrong in [
        whole[..whole.len() - 1].to_vec(),
        replaced("\"ant", "\"cat"),
        whole[..head].to_vec(),
        replaced("commits 2", "commits 1"),
        Vec::new(),
        vec![0xff; 4096],
    ] {
        fs::write(&file, &wrong).unwrap();
        assert_eq!(said().with(0).out, first);
        assert_eq!(fs::read(&file).unwrap(), whole, "it is made anew");
    }
    fs::set_permissions(&file, fs::Permissions::from_mode(0o666)).unwrap();
    assert_eq!((said().with(0).out, mode(&file)), (first.clone(), 0o600));

    // Where nothing can be kept, everything is found anew.
    forget(&folder);
    fs::write(folder.join("tenantd"), "in the way").unwrap();
    assert_eq!(said().with(0).out, first);
    fs::remove_file(folder.join("tenantd")).unwrap();
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o777)).unwrap();
    assert_eq!(said().with(0).out, first);
    assert!(kept(&folder).is_empty(), "anybody may write there");
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o755)).unwrap();

    // With what was found, the commits alone are enough.
    assert_eq!(said().with(0).out, first);
    keep_objects(&folder, &(git(&folder, &["rev-list", "main"]) + "\n"));
    assert_eq!(said().with(0).out, first);
    forget(&folder);
    said().with(1);
}
