//! `tenantd egress`.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{self, Read},
    path::{Path, PathBuf},
};

use anyhow::Context;
use clap::Subcommand;
use git2::{BlameOptions, Commit, Oid};
use jiff::Timestamp;
use similar::TextDiff;

use super::{
    EXIT_OK,
    args::{Global, Source},
    failure::Failure,
    output,
    setup::{self, Layout},
    time, usage,
};
use crate::{
    gateway::accounting::usage::{Count, counted_since, folder},
    host::seal,
    model::{
        Desired, Destination, SecretName, TenantName,
        host::Egress as Settings,
        tree::{SourceFile, Tree},
    },
    source::Opened,
    spec::{compile, prune},
};

#[derive(Debug, Subcommand)]
pub enum Egress {
    /// Show when each entry of each allowlist was last used
    Review(Review),
    /// Encrypt a secret, read from standard input, for the file of a tenant
    Seal(Seal),
}

#[derive(Debug, clap::Args)]
pub struct Seal {
    /// The secret's name, as `credentials` and host.yaml have it, such as acme/crm
    name: SecretName,
    /// The host's public key, which `age-keygen -y` prints
    #[arg(long, value_name = "KEY")]
    to: String,
}

#[derive(Debug, clap::Args)]
pub struct Review {
    #[command(flatten)]
    source: Source,
    /// Only what was not used for so long, and was in the repo for so long, such as 90d
    #[arg(long, value_name = "TIME", value_parser = time::since)]
    unused_for: Option<Timestamp>,
    /// Print a patch for `git apply` that removes these entries
    #[arg(long, requires = "unused_for")]
    patch: bool,
}

/// How many commits are gone back through in search of one that is old enough.
const MAX_COMMITS: usize = 100_000;

/// How much of standard input is read for a secret, in bytes: more than the longest.
const MAX_INPUT: u64 = 128 << 10;

pub fn run(command: &Egress, global: &Global) -> anyhow::Result<u8> {
    match command {
        Egress::Seal(command) => output::print(&seal(command)?)?,
        Egress::Review(command) => {
            let layout = Layout::of(&command.source.which.path, global);
            output::print_as(!command.patch, &review(command, &layout, &setup::host(global)?.egress)?)?;
        }
    }
    Ok(EXIT_OK)
}

/// What belongs into a tenant's file.
fn seal(command: &Seal) -> anyhow::Result<String> {
    let mut value = String::new();
    io::stdin().lock().take(MAX_INPUT).read_to_string(&mut value).context("the secret is no text")?;
    let value = value.strip_suffix('\n').unwrap_or(&value);
    let sealed = seal::close(&command.name, value, &command.to)?;
    let lines: String = sealed.as_str().lines().map(|line| format!("    {line}\n")).collect();
    Ok(format!("sealed:\n  {}: |\n{lines}", command.name))
}

/// One entry of an allowlist, or one route.
struct AllowlistEntry {
    tenant: TenantName,
    destination: String,
    count: Count,
    /// What of an allowlist it is, and in which file and line.
    listed: Option<(Destination, String, u32)>,
}

fn review(command: &Review, layout: &Layout, settings: &Settings) -> anyhow::Result<String> {
    let Source { repo, which } = &command.source;
    let tree = setup::read(&command.source, layout)?;
    let desired = compile(&tree);
    let counts = usage::counts(settings, ..)?;
    let mut entries = entries(&tree, &desired, &counts);
    if let Some(name) = &which.tenant {
        entries.retain(|entry| entry.tenant.as_str() == name);
        if !desired.tenants.keys().any(|tenant| tenant.as_str() == name) {
            return Err(setup::unknown(format!("no tenant {name:?} is declared"), name, &desired).into());
        }
    }
    let worktree = setup::worktree(repo, &which.path);
    if let Some(cutoff) = command.unused_for {
        match counted_since(&folder(&settings.state))? {
            Some(begun) if begun <= cutoff => {}
            Some(begun) => {
                let what = format!("the gateway counts since {} only: what was used before is not known", day(begun));
                return Err(Failure::host(what).hint("let --unused-for reach no further back").into());
            }
            None => {
                let what = "the gateway has counted nothing yet: what is used is not known";
                return Err(Failure::host(what)
                    .hint("is `tenantd gateway` running? `systemctl status tenantd-gateway` shows it")
                    .into());
            }
        }
        let ages = match which.worktree {
            true => Ages::of_folder(&worktree, cutoff)?,
            false => {
                let (opened, folder) = layout.open(repo)?;
                Ages::new(opened, &which.rev, folder, cutoff)?
            }
        };
        entries.retain(|entry| entry.count.last.is_none_or(|last| last < cutoff));
        let files: BTreeMap<&str, &SourceFile> = tree.files.iter().map(|file| (file.path.as_str(), file)).collect();
        entries.retain(|entry| {
            entry
                .listed
                .as_ref()
                .is_none_or(|(_, path, line)| files.get(path.as_str()).is_some_and(|file| ages.is_old(file, *line)))
        });
    }
    if command.patch {
        let folder = match which.worktree {
            true => folder_in_repository(&worktree),
            false => layout.open(repo)?.1,
        };
        return patch(&folder, &tree.files, &entries);
    }
    Ok(table(&entries))
}

/// All entries and routes of the repo's tenants, with what was counted of each.
fn entries(
    tree: &Tree,
    desired: &Desired,
    counts: &BTreeMap<TenantName, BTreeMap<String, Count>>,
) -> Vec<AllowlistEntry> {
    let count = |tenant: &TenantName, destination: &str| {
        counts.get(tenant).and_then(|counts| counts.get(destination)).copied().unwrap_or_default()
    };
    let mut entries = Vec::new();
    for (name, tenant) in &desired.tenants {
        let path = format!("tenants/{name}.yaml");
        let listed = tree.file(&path).map(|file| prune::allowlist(&path, &file.bytes)).unwrap_or_default();
        for (listed, line) in listed {
            let destination = listed.to_string();
            let count = count(name, &destination);
            entries.push(AllowlistEntry {
                tenant: name.clone(),
                destination,
                count,
                listed: Some((listed, path.clone(), line)),
            });
        }
        for route in &tenant.routes {
            let destination = format!("route:{}", route.name);
            let count = count(name, &destination);
            entries.push(AllowlistEntry { tenant: name.clone(), destination, count, listed: None });
        }
    }
    entries
}

fn table(entries: &[AllowlistEntry]) -> String {
    if entries.is_empty() {
        return "No entry.\n".to_owned();
    }
    let mut rows = vec![["TENANT", "ENTRY", "USED", "LAST USED"].map(str::to_owned)];
    rows.extend(entries.iter().map(|AllowlistEntry { tenant, destination, count, .. }| {
        let last = count.last.map_or_else(|| "never".to_owned(), day);
        [tenant.to_string(), destination.clone(), count.requests.to_string(), last]
    }));
    output::aligned(&rows)
}

fn day(time: Timestamp) -> String {
    time.strftime("%Y-%m-%d").to_string()
}

/// What removes these entries. What somebody has to remove by hand is named on standard error.
/// Paths in it begin at the top of the repository, as `git apply` reads them; `folder` is the config repo's below that.
fn patch(folder: &Path, files: &[SourceFile], entries: &[AllowlistEntry]) -> anyhow::Result<String> {
    let mut removed: BTreeMap<&str, BTreeSet<Destination>> = BTreeMap::new();
    for entry in entries {
        match &entry.listed {
            Some((destination, path, _)) => drop(removed.entry(path).or_default().insert(destination.clone())),
            None => output::message(&format!(
                "note: the credential {} of {} is unused as well; remove it by hand",
                entry.destination, entry.tenant
            )),
        }
    }
    let mut text = String::new();
    for file in files {
        let Some(removed) = removed.get(file.path.as_str()) else { continue };
        let before = std::str::from_utf8(&file.bytes).with_context(|| format!("{} is not UTF-8", file.path))?;
        match prune::without(&file.path, before, removed) {
            Some(after) => text.push_str(&diff(&folder.join(&file.path).display().to_string(), before, &after)),
            None => output::message(&format!("note: the unused entries of {} have to be removed by hand", file.path)),
        }
    }
    Ok(text)
}

/// The folder of a config repo within the repository that it is part of; empty where it is the whole.
fn folder_in_repository(folder: &Path) -> PathBuf {
    let top = Opened::discover(folder).ok().and_then(|repo| repo.top());
    let within = top.and_then(|top| Some(folder.canonicalize().ok()?.strip_prefix(top).ok()?.to_owned()));
    within.unwrap_or_default()
}

fn diff(path: &str, before: &str, after: &str) -> String {
    let diff = TextDiff::from_lines(before, after);
    let hunks = diff.unified_diff().header(&format!("a/{path}"), &format!("b/{path}")).to_string();
    format!("diff --git a/{path} b/{path}\n{hunks}")
}

/// How long lines have been in a repo.
struct Ages {
    repo: Opened,
    /// The newest commit that counts.
    head: Oid,
    /// The config repo's folder within it.
    folder: PathBuf,
    cutoff: Timestamp,
    /// The newest commit on the branch that is not newer than that.
    old: Option<Oid>,
}

impl Ages {
    /// Of the files in a folder of a work tree, committed or not.
    fn of_folder(folder: &Path, cutoff: Timestamp) -> anyhow::Result<Self> {
        let repo = Opened::discover(folder)
            .with_context(|| format!("how old the entries of {} are is not known", folder.display()))?;
        let top = repo.top().context("the repository has no work tree")?;
        let folder = folder.canonicalize()?.strip_prefix(&top)?.to_owned();
        Self::new(repo, "HEAD", folder, cutoff)
    }

    /// Of the files of a commit.
    fn new(repo: Opened, rev: &str, folder: PathBuf, cutoff: Timestamp) -> anyhow::Result<Self> {
        let head = repo.commit(rev)?;
        let newest = head.id();
        let commits = std::iter::successors(Some(head), |commit: &Commit<'_>| commit.parent(0).ok());
        let old = commits.take(MAX_COMMITS).find(|commit| commit.time().seconds() <= cutoff.as_second());
        let old = old.map(|commit| commit.id());
        Ok(Self { repo, head: newest, folder, cutoff, old })
    }

    /// Whether a line, counted from 1, has been there since the cutoff. What cannot be known is not.
    fn is_old(&self, file: &SourceFile, line: u32) -> bool {
        self.added(file, line).is_some_and(|added| added <= self.cutoff.as_second())
    }

    /// When a line was added, in seconds since 1970. All that is older than the cutoff counts as of its
    /// last commit.
    fn added(&self, file: &SourceFile, line: u32) -> Option<i64> {
        let mut options = BlameOptions::new();
        options.first_parent(true).newest_commit(self.head).oldest_commit(self.old?);
        let blame = self.repo.objects().blame_file(&self.folder.join(&file.path), Some(&mut options)).ok()?;
        let blame = blame.blame_buffer(&file.bytes).ok()?;
        let hunk = blame.get_line(usize::try_from(line).ok()?)?;
        // What is not committed yet has no commit.
        self.repo.objects().find_commit(hunk.final_commit_id()).ok().map(|commit| commit.time().seconds())
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, process::Command};

    use super::{
        super::args::{ConfigPath, Which},
        *,
    };
    use crate::{gateway::accounting::usage::Usage, source::read_directory};

    type Result<T = ()> = std::result::Result<T, Box<dyn std::error::Error>>;

    fn git(folder: &Path, date: &str, args: &[&str]) -> Result {
        let identity = ["-c", "user.name=T", "-c", "user.email=t@example.com", "-c", "init.defaultBranch=main"];
        let status = Command::new("git")
            .current_dir(folder)
            .args(identity)
            .args(args)
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .env("GIT_CONFIG_SYSTEM", "/dev/null")
            .env("GIT_AUTHOR_DATE", date)
            .env("GIT_COMMITTER_DATE", date)
            .status()?;
        if status.success() { Ok(()) } else { Err(format!("git {args:?}: {status}").into()) }
    }

    fn commit(folder: &Path, date: &str) -> Result {
        git(folder, date, &["add", "."])?;
        git(folder, date, &["commit", "-qm", "x"])
    }

    const FLEET: &str = "apiVersion: tenantd/v1\nkind: Fleet\n\
        defaults:\n  tier: small\n  image: registry.example.com/agent@sha256:";
    const TIERS: &str = "apiVersion: tenantd/v1\nkind: Tiers\ntiers:\n  \
        small: {cpus: 1, memory: 512MiB, disk: 1GiB, sessions: 1}\n";
    const ANT: &str = "apiVersion: tenantd/v1\nkind: Tenant\ntenant: ant\n# what it needs\nallowlist:\n  \
        - used.example.com:443\n  - unused.example.com:443 # an experiment\n";
    const BEE: &str = "apiVersion: tenantd/v1\nkind: Tenant\ntenant: bee\n\
        allowlist: [used.example.com:443, unused.example.com:443]\n";

    #[test]
    fn the_patch_applies_and_removes_what_is_old_and_unused() -> Result {
        let folder = tempfile::tempdir()?;
        // The config repo is a folder of a larger one.
        let repo = folder.path().join("git/config");
        let tenants = repo.join("tenants");
        fs::create_dir_all(&tenants)?;
        fs::write(repo.join("fleet.yaml"), format!("{FLEET}{}\n", "a".repeat(64)))?;
        fs::write(repo.join("tiers.yaml"), TIERS)?;
        fs::write(tenants.join("ant.yaml"), ANT)?;
        fs::write(tenants.join("bee.yaml"), BEE)?;
        git(&folder.path().join("git"), "2026-01-01T00:00:00Z", &["init", "-q"])?;
        commit(&repo, "2026-01-01T00:00:00Z")?;
        // One that was added since, and one that is not committed.
        fs::write(tenants.join("ant.yaml"), format!("{ANT}  - new.example.com:443\n"))?;
        commit(&repo, "2026-05-01T00:00:00Z")?;
        fs::write(tenants.join("ant.yaml"), format!("{ANT}  - new.example.com:443\n  - newer.example.com:443\n"))?;

        let settings = Settings { state: folder.path().join("state"), ..Settings::default() };
        let usage = Usage::open(&super::folder(&settings.state))?;
        for tenant in ["ant", "bee"] {
            drop(usage.begin(&tenant.parse()?, "used.example.com:443"));
        }
        usage.write(&super::folder(&settings.state), Timestamp::now())?;
        let cutoff: Timestamp = "2026-04-01T00:00:00Z".parse()?;
        let mut which = Which { rev: "HEAD".to_owned(), worktree: true, tenant: None, path: ConfigPath::default() };
        let source = Source { repo: repo.clone(), which: which.clone() };
        let mut command = Review { source, unused_for: Some(cutoff), patch: true };
        let of =
            |path: &str| Layout::of(&ConfigPath { path: Some(path.to_owned()) }, &Global { host: None, engine: None });
        let layout = of("");
        let error = review(&command, &layout, &settings).err().map(|e| e.to_string()).unwrap_or_default();
        assert!(error.contains("is not known"), "{error}");
        fs::write(super::folder(&settings.state).join(".since"), "2026-01-01T00:00:00Z")?;

        let text = review(&command, &layout, &settings)?;
        // That of a commit is the same, also where there is no work tree.
        let bare = folder.path().join("bare");
        let paths = [folder.path().join("git"), bare.clone()].map(|path| path.display().to_string());
        git(folder.path(), "2026-06-01T00:00:00Z", &["clone", "-q", "--bare", &paths[0], &paths[1]])?;
        which.worktree = false;
        let source = Source { repo: bare, which: which.clone() };
        let committed = Review { source, unused_for: Some(cutoff), patch: true };
        let patch = review(&committed, &of("config"), &settings)?;
        assert!(patch.contains("--- a/config/tenants/ant.yaml\n") && !patch.contains("newer"), "{patch}");
        let removed = |text: &str| -> Vec<String> {
            text.lines().filter(|line| line.starts_with('-')).map(str::to_owned).collect()
        };
        assert_eq!(removed(&patch), removed(&text));
        let file = folder.path().join("patch");
        fs::write(&file, &text)?;
        git(&repo, "2026-06-01T00:00:00Z", &["apply", &file.display().to_string()])?;
        let read = |name: &str| fs::read_to_string(tenants.join(name));
        let expected = ANT.replace("  - unused.example.com:443 # an experiment\n", "");
        assert_eq!(read("ant.yaml")?, format!("{expected}  - new.example.com:443\n  - newer.example.com:443\n"));
        assert_eq!(read("bee.yaml")?, BEE.replace(", unused.example.com:443", ""));
        let desired = compile(&read_directory(&repo)?);
        assert_eq!((desired.tenants.len(), desired.findings.len()), (2, 0), "{:?}", desired.findings);

        (command.unused_for, command.patch) = (None, false);
        let all = review(&command, &layout, &settings)?;
        assert!(all.contains("new.example.com:443") && all.contains("never"), "{all}");
        command.source.which.tenant = Some("bee".to_owned());
        let bee = review(&command, &layout, &settings)?;
        assert!(bee.contains("bee ") && !bee.contains("ant "), "{bee}");
        Ok(())
    }
}
