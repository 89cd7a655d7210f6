//! A config repo as a commit has it. No work tree is read or written.

use std::path::Path;

use git2::{ErrorCode, ObjectType, Repository, Tree as GitTree};

use super::{
    Kind, MAX_FILE, MAX_FILES, SourceError, TENANTS, Verdict, directory::not_utf8_name, is_looked_into, judge,
    too_large,
};
use crate::model::tree::{SourceFile, Tree};

/// Reads the tree of a commit out of a repository, bare or not.
///
/// # Errors
/// There is no repository, the revision names no commit, or there are more files than the bound. A
/// single entry that cannot be used is a finding.
pub fn read_commit(path: &Path, rev: &str) -> Result<Tree, SourceError> {
    let shown = path.display().to_string();
    let repository = Repository::open(path).map_err(|source| match source.code() {
        ErrorCode::NotFound => SourceError::NotARepository(shown.clone()),
        _ => SourceError::Repository { path: shown.clone(), source },
    })?;
    let damaged = |source| SourceError::Repository { path: shown.clone(), source };
    let commit = repository
        .revparse_single(rev)
        .and_then(|object| object.peel_to_commit())
        .map_err(|source| SourceError::Revision { rev: rev.to_owned(), path: shown.clone(), source })?;
    let root = commit.tree().map_err(damaged)?;
    read_root(&repository, &root, revision(&repository, rev, commit.id()))
}

/// Reads the tree that holds fleet.yaml.
pub(super) fn read_root(repository: &Repository, root: &GitTree<'_>, revision: String) -> Result<Tree, SourceError> {
    let damaged = |source| SourceError::Repository { path: repository.path().display().to_string(), source };
    let mut tree = Tree { revision, ..Tree::default() };
    read_tree(repository, root, "", &mut tree)?;
    if let Some(entry) = root.get_name(TENANTS).filter(|entry| entry.kind() == Some(ObjectType::Tree)) {
        let tenants = repository.find_tree(entry.id()).map_err(damaged)?;
        read_tree(repository, &tenants, "tenants/", &mut tree)?;
    }
    tree.files.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(tree)
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

fn read_tree(repository: &Repository, folder: &GitTree<'_>, prefix: &str, tree: &mut Tree) -> Result<(), SourceError> {
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
        let path = format!("{prefix}{name}");
        let kind = match (entry.kind(), entry.filemode()) {
            (Some(ObjectType::Blob), 0o120_000) => Kind::Link,
            (Some(ObjectType::Blob), _) => Kind::File,
            (Some(ObjectType::Tree), _) => Kind::Folder,
            _ => Kind::Other,
        };
        match judge(&path, kind) {
            Verdict::Pass => {}
            Verdict::Wrong(finding) => {
                tree.findings.push(finding);
                if is_looked_into(&path, kind) {
                    let below = repository.find_tree(entry.id()).map_err(damaged)?;
                    read_tree(repository, &below, &format!("{path}/"), tree)?;
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
        if tree.files.len() + tree.findings.len() > MAX_FILES {
            return Err(SourceError::TooManyFiles);
        }
    }
    Ok(())
}
