//! `tenantd egress`.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

use anyhow::{Context, bail};
use git2::{BlameOptions, Commit, Repository};
use jiff::Timestamp;
use similar::TextDiff;

use super::{
    EXIT_OK,
    args::{Egress, Global, Review},
    output, setup, usage,
};
use crate::{
    gateway::usage::{Count, counted_since, folder},
    model::{Destination, TenantName, tree::SourceFile},
    source::read_directory,
    spec::{compile, prune},
};

/// How many commits are gone back through in search of one that is old enough.
const MAX_COMMITS: usize = 100_000;

pub fn run(command: &Egress, global: &Global) -> anyhow::Result<u8> {
    match command {
        Egress::Review(command) => review(command, global),
    }
}

/// One entry of an allowlist, or one route.
struct Entry {
    tenant: TenantName,
    destination: String,
    count: Count,
    /// What of an allowlist it is, and in which file and line.
    listed: Option<(Destination, String, u32)>,
}

fn review(command: &Review, global: &Global) -> anyhow::Result<u8> {
    let settings = setup::host(global)?.egress;
    let tree = read_directory(&command.repo)?;
    let counts = usage::counts(&settings, None)?;
    let mut entries = entries(&tree, &counts);
    if let Some(cutoff) = command.unused_for {
        match counted_since(&folder(&settings.state))? {
            Some(begun) if begun <= cutoff => {}
            Some(begun) => bail!("the gateway counts since {} only: what was used before is not known", day(begun)),
            None => bail!("the gateway has counted nothing yet: what is used is not known"),
        }
        let ages = Ages::new(&command.repo, cutoff)?;
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
        return patch(&tree.files, &entries);
    }
    output::print(&table(&entries))?;
    Ok(EXIT_OK)
}

/// All entries and routes of the repo's tenants, with what was counted of each.
fn entries(tree: &crate::model::tree::Tree, counts: &BTreeMap<TenantName, BTreeMap<String, Count>>) -> Vec<Entry> {
    let count = |tenant: &TenantName, destination: &str| {
        counts.get(tenant).and_then(|counts| counts.get(destination)).copied().unwrap_or_default()
    };
    let mut entries = Vec::new();
    for (name, tenant) in &compile(tree).tenants {
        let path = format!("tenants/{name}.yaml");
        let listed = tree.file(&path).map(|file| prune::allowlist(&path, &file.bytes)).unwrap_or_default();
        for (listed, line) in listed {
            let destination = listed.to_string();
            let count = count(name, &destination);
            entries.push(Entry {
                tenant: name.clone(),
                destination,
                count,
                listed: Some((listed, path.clone(), line)),
            });
        }
        for route in &tenant.routes {
            let destination = format!("route:{}", route.name);
            let count = count(name, &destination);
            entries.push(Entry { tenant: name.clone(), destination, count, listed: None });
        }
    }
    entries
}

fn table(entries: &[Entry]) -> String {
    if entries.is_empty() {
        return "No entry.\n".to_owned();
    }
    let mut rows = vec![["TENANT", "ENTRY", "USED", "LAST USED"].map(str::to_owned)];
    rows.extend(entries.iter().map(|Entry { tenant, destination, count, .. }| {
        let last = count.last.map_or_else(|| "never".to_owned(), day);
        [tenant.to_string(), destination.clone(), count.requests.to_string(), last]
    }));
    usage::aligned(&rows)
}

fn day(time: Timestamp) -> String {
    time.strftime("%Y-%m-%d").to_string()
}

/// Prints what removes these entries, and tells what somebody has to remove by hand.
fn patch(files: &[SourceFile], entries: &[Entry]) -> anyhow::Result<u8> {
    let mut removed: BTreeMap<&str, BTreeSet<Destination>> = BTreeMap::new();
    for entry in entries {
        match &entry.listed {
            Some((destination, path, _)) => drop(removed.entry(path).or_default().insert(destination.clone())),
            None => output::tell(&format!(
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
            Some(after) => text.push_str(&diff(&file.path, before, &after)),
            None => output::tell(&format!("note: the unused entries of {} have to be removed by hand", file.path)),
        }
    }
    output::print(&text)?;
    Ok(EXIT_OK)
}

fn diff(path: &str, before: &str, after: &str) -> String {
    let diff = TextDiff::from_lines(before, after);
    let hunks = diff.unified_diff().header(&format!("a/{path}"), &format!("b/{path}")).to_string();
    format!("diff --git a/{path} b/{path}\n{hunks}")
}

/// How long lines have been in a repo.
struct Ages {
    repo: Repository,
    /// The config repo's folder within it.
    folder: PathBuf,
    cutoff: Timestamp,
    /// The newest commit on the branch that is not newer than that.
    old: Option<git2::Oid>,
}

impl Ages {
    fn new(folder: &Path, cutoff: Timestamp) -> anyhow::Result<Self> {
        let repo = Repository::discover(folder).with_context(|| {
            format!("{} is no git repository: how old its entries are is not known", folder.display())
        })?;
        let top = repo.workdir().context("the repository has no work tree")?.canonicalize()?;
        let folder = folder.canonicalize()?.strip_prefix(&top)?.to_owned();
        let head = repo.head().and_then(|head| head.peel_to_commit()).context("the repository has no commit")?;
        let commits = std::iter::successors(Some(head), |commit: &Commit<'_>| commit.parent(0).ok());
        let old = commits.take(MAX_COMMITS).find(|commit| commit.time().seconds() <= cutoff.as_second());
        let old = old.map(|commit| commit.id());
        Ok(Self { repo, folder, cutoff, old })
    }

    /// Whether a line, counted from 1, has been there since the cutoff. What cannot be told is not.
    fn is_old(&self, file: &SourceFile, line: u32) -> bool {
        self.added(file, line).is_some_and(|added| added <= self.cutoff.as_second())
    }

    /// When a line was added, in seconds since 1970. All that is older than the cutoff counts as of its
    /// last commit.
    fn added(&self, file: &SourceFile, line: u32) -> Option<i64> {
        let mut options = BlameOptions::new();
        options.first_parent(true).oldest_commit(self.old?);
        let blame = self.repo.blame_file(&self.folder.join(&file.path), Some(&mut options)).ok()?;
        let blame = blame.blame_buffer(&file.bytes).ok()?;
        let hunk = blame.get_line(usize::try_from(line).ok()?)?;
        // What is not committed yet has no commit.
        self.repo.find_commit(hunk.final_commit_id()).ok().map(|commit| commit.time().seconds())
    }
}
