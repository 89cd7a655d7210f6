//! A config repo as a commit has it. No work tree is read or written.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use git2::{ObjectType, Oid, Repository, Tree as GitTree, TreeEntry};

use super::{
    Bound, MAX_FILE, Opened, Place, SourceError,
    bound::MAX_FOLDER,
    budget::{self, Budget},
    carrier::Carrier,
    directory::not_utf8_name,
    entries::{EntryKind, GIVEN, MAX_GIVEN_DEPTH, SCHEMAS, TENANTS, Verdict, is_looked_into, judge, too_large},
    objects,
};
use crate::model::tree::{Carried, SourceFile, Tree, tenant_of};

/// Reads the tree of a commit out of a repository, bare or not.
///
/// # Errors
/// There is no repository, or the revision names no commit. A single entry that cannot be used is a finding, and so
/// is a tree that is larger than the bounds.
pub fn read_commit<'a>(place: impl Into<Place<'a>>, rev: &str) -> Result<Tree, SourceError> {
    read_commit_below(place, rev, "")
}

/// [`read_commit`] of a folder of the repository.
///
/// # Errors
/// As of [`read_commit`], or the commit has no such folder.
pub fn read_commit_below<'a>(place: impl Into<Place<'a>>, rev: &str, folder: &str) -> Result<Tree, SourceError> {
    let opened = Opened::open(place.into())?;
    read_opened(&opened, rev, folder).map_err(|e| opened.explain(e))
}

fn read_opened(opened: &Opened, rev: &str, folder: &str) -> Result<Tree, SourceError> {
    let (repository, commit) = (opened.objects(), opened.commit(rev)?);
    let revision = match opened.branch(rev) {
        Some(branch) => format!("{branch}@sha1:{}", commit.id()),
        None => format!("sha1:{}", commit.id()),
    };
    let root = match below(commit.tree_id(), folder, |id| self::folder(repository, id)) {
        Ok(root) => root,
        Err(error) => return budget::within(revision, Err(error)),
    };
    let missing = || SourceError::PathMissing { path: folder.to_owned(), commit: commit.id().to_string() };
    read_root(repository, root.ok_or_else(missing)?, revision)
}

/// The folder of a tree that is named by a path with `/` between its parts, if there is one. `open` reads the names in a
/// folder.
pub(super) fn below<'r, E>(
    root: Oid,
    path: &str,
    open: impl Fn(Oid) -> Result<GitTree<'r>, E>,
) -> Result<Option<Oid>, E> {
    let mut tree = root;
    for part in path.split('/').filter(|part| !matches!(*part, "" | ".")) {
        let names = open(tree)?;
        let Some(entry) = names.get_name(part).filter(|entry| entry.kind() == Some(ObjectType::Tree)) else {
            return Ok(None);
        };
        tree = entry.id();
    }
    Ok(Some(tree))
}

/// A folder, whose names are read only if they are not too many.
pub(super) fn folder(repository: &Repository, id: Oid) -> Result<GitTree<'_>, SourceError> {
    let damaged = |source| SourceError::Repository { path: repository.path().display().to_string(), source };
    let objects = repository.odb().map_err(damaged)?;
    let (size, _) = objects.read_header(id).map_err(damaged)?;
    if size as u64 > MAX_FOLDER {
        return Err(SourceError::TooLarge(Bound::Folder));
    }
    objects::check(&objects, id).map_err(damaged)?;
    repository.find_tree(id).map_err(|e| unparsed(repository, id, e).unwrap_or_else(damaged))
}

/// What it means that an object could not be taken for what it should be: it is there, and says something else.
///
/// # Errors
/// It is the error given where the object itself cannot be read.
pub(super) fn unparsed(repository: &Repository, id: Oid, error: git2::Error) -> Result<SourceError, git2::Error> {
    match repository.odb().and_then(|objects| objects.read(id).map(drop)) {
        Ok(()) => Ok(SourceError::Unparsed { id: id.to_string(), source: error }),
        Err(_) => Err(error),
    }
}

/// Reads the tree that holds fleet.yaml.
pub(super) fn read_root(repository: &Repository, root: Oid, revision: String) -> Result<Tree, SourceError> {
    let read = folder(repository, root).and_then(|root| {
        let tree = read_some(repository, &root, revision.clone(), None)?;
        Ok(Tree { carried: carried(repository, &root, None)?, ..tree })
    });
    budget::within(revision, read)
}

/// Reads what holds for all of the tree that holds fleet.yaml, schemas among it, the files of some tenants alone, and of
/// what lies under `files/` only what those name.
pub(super) fn read_root_of(
    repository: &Repository,
    root: Oid,
    revision: String,
    only: &BTreeSet<String>,
    named: impl FnOnce(&Tree) -> BTreeSet<String>,
) -> Result<Tree, SourceError> {
    let read = folder(repository, root).and_then(|root| {
        let tree = read_some(repository, &root, revision.clone(), Some(only))?;
        let carried = carried(repository, &root, Some(&named(&tree)))?;
        Ok(Tree { carried, ..tree })
    });
    budget::within(revision, read)
}

/// What lies in a tree's folders of files that are given on: everything, or of `files/` some paths alone.
pub(super) fn carried(
    repository: &Repository,
    root: &GitTree<'_>,
    only: Option<&BTreeSet<String>>,
) -> Result<Arc<BTreeMap<String, Carried>>, SourceError> {
    let (carrier, budget, read) = (Carrier::new(), Budget::new(), BTreeMap::new());
    let mut carrying = Carrying { repository, only, carrier, budget, read };
    for name in GIVEN {
        let folder = root.get_name(name).filter(|entry| entry.kind() == Some(ObjectType::Tree));
        if let Some(entry) = folder.filter(|_| carrying.wants(name)) {
            carrying.carry(entry.id(), name, MAX_GIVEN_DEPTH)?;
        }
    }
    Ok(carrying.carrier.end())
}

/// The same but for what is given on, with the files of some tenants alone.
pub(super) fn read_some(
    repository: &Repository,
    root: &GitTree<'_>,
    revision: String,
    only: Option<&BTreeSet<String>>,
) -> Result<Tree, SourceError> {
    let Listed { mut tree, tenants } = list_some(repository, root, revision, only)?;
    let objects = repository.odb().map_err(|source| damaged(repository, source))?;
    for Blob { path, id } in tenants {
        let object = objects::read(&objects, id).map_err(|source| damaged(repository, source))?;
        tree.files.push(SourceFile { path, bytes: object.data().to_vec() });
    }
    tree.files.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(tree)
}

/// A file that is to be read.
pub(super) struct Blob {
    pub(super) path: String,
    pub(super) id: Oid,
}

/// What is at the top of a tree, and which tenants' files it has.
pub(super) struct Listed {
    pub(super) tree: Tree,
    pub(super) tenants: Vec<Blob>,
}

/// [`read_some`], with tenants' files by name alone.
pub(super) fn list_some(
    repository: &Repository,
    root: &GitTree<'_>,
    revision: String,
    only: Option<&BTreeSet<String>>,
) -> Result<Listed, SourceError> {
    let listed = Listed { tree: Tree { revision, ..Tree::default() }, tenants: Vec::new() };
    let mut reading = Reading { repository, budget: Budget::new(), listed };
    reading.read(root, "", None)?;
    if let Some(entry) = root.get_name(TENANTS).filter(|entry| entry.kind() == Some(ObjectType::Tree)) {
        reading.read(&folder(repository, entry.id())?, "tenants/", only)?;
    }
    let mut listed = reading.listed;
    listed.tree.files.sort_by(|a, b| a.path.cmp(&b.path));
    listed.tenants.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(listed)
}

/// [`list_some`] of no tenant, as if there were no folder of them.
pub(super) fn top(repository: &Repository, root: &GitTree<'_>) -> Result<Tree, SourceError> {
    let listed = Listed { tree: Tree::default(), tenants: Vec::new() };
    let mut reading = Reading { repository, budget: Budget::new(), listed };
    reading.read(root, "", None)?;
    let mut tree = reading.listed.tree;
    tree.files.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(tree)
}

pub(super) fn damaged(repository: &Repository, source: git2::Error) -> SourceError {
    SourceError::Repository { path: repository.path().display().to_string(), source }
}

/// What is taken of files that are given on.
struct Carrying<'r> {
    repository: &'r Repository,
    /// The paths under `files/` that are wanted, where it is not all.
    only: Option<&'r BTreeSet<String>>,
    carrier: Carrier,
    budget: Budget,
    /// What was read already. Names of one file share its bytes.
    read: BTreeMap<Oid, Arc<[u8]>>,
}

impl Carrying<'_> {
    /// Takes everything in a folder. What no YAML file can name is passed over.
    fn carry(&mut self, id: Oid, path: &str, depth: usize) -> Result<(), SourceError> {
        let repository = self.repository;
        let damaged = |source| SourceError::Repository { path: repository.path().display().to_string(), source };
        let objects = repository.odb().map_err(damaged)?;
        for entry in &folder(repository, id)? {
            self.budget.name(path.len() + 1 + entry.name_bytes().len())?;
            let Ok(name) = std::str::from_utf8(entry.name_bytes()) else { continue };
            let path = format!("{path}/{name}");
            if !self.wants(&path) {
                continue;
            }
            match kind(&entry) {
                EntryKind::File => {
                    let (size, _) = objects.read_header(entry.id()).map_err(damaged)?;
                    let read = &mut self.read;
                    self.carrier.file(path, size as u64, || match read.get(&entry.id()) {
                        Some(bytes) => Ok(Arc::clone(bytes)),
                        None => objects::read(&objects, entry.id()).map(|object| {
                            let bytes: Arc<[u8]> = object.data().into();
                            read.insert(entry.id(), Arc::clone(&bytes));
                            bytes
                        }),
                    })?;
                }
                EntryKind::Folder if depth > 0 => {
                    self.carrier.note(path.clone(), Carried::Folder)?;
                    self.carry(entry.id(), &path, depth - 1)?;
                }
                EntryKind::Folder => self.carrier.note(path, Carried::Folder)?,
                EntryKind::Link => self.carrier.note(path, Carried::Link)?,
                EntryKind::Other => self.carrier.note(path, Carried::Unreadable)?,
            }
        }
        Ok(())
    }

    /// Whether a path is wanted, or one below it.
    fn wants(&self, path: &str) -> bool {
        let folder = path.split('/').next().unwrap_or_default();
        self.only.is_none_or(|only| {
            let below = format!("{path}/");
            SCHEMAS.contains(&folder)
                || only.contains(path)
                || only.range(below.clone()..).next().is_some_and(|next| next.starts_with(&below))
        })
    }
}

pub(super) fn kind(entry: &TreeEntry<'_>) -> EntryKind {
    match (entry.kind(), entry.filemode()) {
        (Some(ObjectType::Blob), 0o120_000) => EntryKind::Link,
        (Some(ObjectType::Blob), _) => EntryKind::File,
        (Some(ObjectType::Tree), _) => EntryKind::Folder,
        _ => EntryKind::Other,
    }
}

/// What is read of the top and of `tenants/`.
struct Reading<'r> {
    repository: &'r Repository,
    budget: Budget,
    listed: Listed,
}

impl Reading<'_> {
    fn read(&mut self, of: &GitTree<'_>, prefix: &str, only: Option<&BTreeSet<String>>) -> Result<(), SourceError> {
        let repository = self.repository;
        let damaged = |source| damaged(repository, source);
        let objects = repository.odb().map_err(damaged)?;
        for entry in of {
            self.budget.name(prefix.len() + entry.name_bytes().len())?;
            let name = match std::str::from_utf8(entry.name_bytes()) {
                Ok(name) => name,
                Err(_) if !prefix.is_empty() => {
                    let shown = format!("{prefix}{}", String::from_utf8_lossy(entry.name_bytes()));
                    self.listed.tree.findings.push(not_utf8_name(&shown));
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
                    self.listed.tree.findings.push(finding);
                    if is_looked_into(&path, kind) {
                        self.read(&folder(repository, entry.id())?, &format!("{path}/"), only)?;
                    }
                }
                Verdict::Read => {
                    let (size, _) = objects.read_header(entry.id()).map_err(damaged)?;
                    if size as u64 > MAX_FILE {
                        self.listed.tree.findings.push(too_large(&path, size as u64));
                    } else {
                        self.budget.file(size as u64)?;
                        if prefix.is_empty() {
                            let object = objects::read(&objects, entry.id()).map_err(damaged)?;
                            self.listed.tree.files.push(SourceFile { path, bytes: object.data().to_vec() });
                        } else {
                            self.listed.tenants.push(Blob { path, id: entry.id() });
                        }
                    }
                }
            }
            budget::is_within_bounds(&self.listed.tree, self.listed.tenants.len())?;
        }
        Ok(())
    }
}
