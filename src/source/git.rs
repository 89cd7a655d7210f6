//! A config repo as a commit has it. No work tree is read or written.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    sync::Arc,
};

use git2::{Commit, ErrorCode, ObjectType, Repository, Tree as GitTree, TreeEntry};

use super::{
    Carrier, FILES, Kind, MAX_FILE, MAX_FILES_DEPTH, SourceError, TENANTS, Verdict, directory::not_utf8_name,
    is_looked_into, judge, too_large,
};
use crate::model::tree::{Carried, SourceFile, Tree, tenant_of};

/// Reads the tree of a commit out of a repository, bare or not.
///
/// # Errors
/// There is no repository, the revision names no commit, or there are more files than the bound. A
/// single entry that cannot be used is a finding.
pub fn read_commit(path: &Path, rev: &str) -> Result<Tree, SourceError> {
    let shown = path.display().to_string();
    let repository = open(path)?;
    let commit = commit(&repository, rev, &shown)?;
    let root = commit.tree().map_err(|source| SourceError::Repository { path: shown, source })?;
    read_root(&repository, &root, revision(&repository, rev, commit.id()))
}

pub(super) fn open(path: &Path) -> Result<Repository, SourceError> {
    let shown = path.display().to_string();
    Repository::open(path).map_err(|source| match source.code() {
        ErrorCode::NotFound => SourceError::NotARepository(shown),
        _ => SourceError::Repository { path: shown, source },
    })
}

/// The commit that a revision of a repository names.
pub(super) fn commit<'r>(repository: &'r Repository, rev: &str, shown: &str) -> Result<Commit<'r>, SourceError> {
    let object = repository.revparse_single(rev).and_then(|object| object.peel_to_commit());
    object.map_err(|source| SourceError::Revision { rev: rev.to_owned(), path: shown.to_owned(), source })
}

/// Reads the tree that holds fleet.yaml.
pub(super) fn read_root(repository: &Repository, root: &GitTree<'_>, revision: String) -> Result<Tree, SourceError> {
    let tree = read_some(repository, root, revision, None)?;
    Ok(Tree { carried: carried(repository, root)?, ..tree })
}

/// What lies under `files/` of a tree.
pub(super) fn carried(
    repository: &Repository,
    root: &GitTree<'_>,
) -> Result<Arc<BTreeMap<String, Carried>>, SourceError> {
    let damaged = |source| SourceError::Repository { path: repository.path().display().to_string(), source };
    let mut carrier = Carrier::new();
    if let Some(entry) = root.get_name(FILES).filter(|entry| entry.kind() == Some(ObjectType::Tree)) {
        let files = repository.find_tree(entry.id()).map_err(damaged)?;
        carry(repository, &files, FILES, MAX_FILES_DEPTH, &mut carrier)?;
    }
    Ok(carrier.end())
}

/// The same but for what is given on, with the files of some tenants alone.
pub(super) fn read_some(
    repository: &Repository,
    root: &GitTree<'_>,
    revision: String,
    only: Option<&BTreeSet<String>>,
) -> Result<Tree, SourceError> {
    let damaged = |source| SourceError::Repository { path: repository.path().display().to_string(), source };
    let mut tree = Tree { revision, ..Tree::default() };
    read_tree(repository, root, "", None, &mut tree)?;
    if let Some(entry) = root.get_name(TENANTS).filter(|entry| entry.kind() == Some(ObjectType::Tree)) {
        let tenants = repository.find_tree(entry.id()).map_err(damaged)?;
        read_tree(repository, &tenants, "tenants/", only, &mut tree)?;
    }
    tree.files.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(tree)
}

/// Takes everything in a folder. What no YAML file can name is passed over.
fn carry(
    repository: &Repository,
    folder: &GitTree<'_>,
    path: &str,
    depth: usize,
    carrier: &mut Carrier,
) -> Result<(), SourceError> {
    let damaged = |source| SourceError::Repository { path: repository.path().display().to_string(), source };
    let objects = repository.odb().map_err(damaged)?;
    for entry in folder {
        let Ok(name) = std::str::from_utf8(entry.name_bytes()) else { continue };
        let path = format!("{path}/{name}");
        match kind(&entry) {
            Kind::File => {
                let (size, _) = objects.read_header(entry.id()).map_err(damaged)?;
                carrier.file(path, size as u64, || objects.read(entry.id()).map(|object| object.data().to_vec()))?;
            }
            Kind::Folder if depth > 0 => {
                carrier.note(path.clone(), Carried::Folder)?;
                let below = repository.find_tree(entry.id()).map_err(damaged)?;
                carry(repository, &below, &path, depth - 1, carrier)?;
            }
            Kind::Folder => carrier.note(path, Carried::Folder)?,
            Kind::Link => carrier.note(path, Carried::Link)?,
            Kind::Other => carrier.note(path, Carried::Unreadable)?,
        }
    }
    Ok(())
}

fn kind(entry: &TreeEntry<'_>) -> Kind {
    match (entry.kind(), entry.filemode()) {
        (Some(ObjectType::Blob), 0o120_000) => Kind::Link,
        (Some(ObjectType::Blob), _) => Kind::File,
        (Some(ObjectType::Tree), _) => Kind::Folder,
        _ => Kind::Other,
    }
}

/// The revision with its branch, where the name given is one.
fn revision(repository: &Repository, rev: &str, id: git2::Oid) -> String {
    let branch = match rev {
        "HEAD" => {
            repository.head().ok().filter(|head| head.is_branch()).and_then(|h| h.shorthand().ok().map(str::to_owned))
        }
        _ => repository.find_branch(rev, git2::BranchType::Local).ok().map(|_| rev.to_owned()),
    };
    match branch {
        Some(branch) => format!("{branch}@sha1:{id}"),
        None => format!("sha1:{id}"),
    }
}

fn read_tree(
    repository: &Repository,
    folder: &GitTree<'_>,
    prefix: &str,
    only: Option<&BTreeSet<String>>,
    tree: &mut Tree,
) -> Result<(), SourceError> {
    let damaged = |source| SourceError::Repository { path: repository.path().display().to_string(), source };
    let objects = repository.odb().map_err(damaged)?;
    for entry in folder {
        let name = match std::str::from_utf8(entry.name_bytes()) {
            Ok(name) => name,
            Err(_) if !prefix.is_empty() => {
                let shown = format!("{prefix}{}", String::from_utf8_lossy(entry.name_bytes()));
                tree.findings.push(not_utf8_name(&shown));
                continue;
            }
            Err(_) => continue,
        };
        if only.is_some_and(|only| entry.kind() != Some(ObjectType::Tree) && !only.contains(tenant_of(name))) {
            continue;
        }
        let path = format!("{prefix}{name}");
        let kind = kind(&entry);
        match judge(&path, kind) {
            Verdict::Pass => {}
            Verdict::Wrong(finding) => {
                tree.findings.push(finding);
                if is_looked_into(&path, kind) {
                    let below = repository.find_tree(entry.id()).map_err(damaged)?;
                    read_tree(repository, &below, &format!("{path}/"), only, tree)?;
                }
            }
            Verdict::Read => {
                let (size, _) = objects.read_header(entry.id()).map_err(damaged)?;
                if size as u64 > MAX_FILE {
                    tree.findings.push(too_large(&path, size as u64));
                } else {
                    let object = objects.read(entry.id()).map_err(damaged)?;
                    tree.files.push(SourceFile { path, bytes: object.data().to_vec() });
                }
            }
        }
        tree.is_within_bounds()?;
    }
    Ok(())
}
