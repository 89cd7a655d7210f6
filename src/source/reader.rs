//! What a commit of a history changed of another one, read by itself: several readers can be at work on threads of their own.
//!
//! What is out of the ordinary, anything but plain files under `tenants/` or a folder without end, is left to whoever reads
//! all of it.

use std::{
    collections::{BTreeSet, VecDeque},
    rc::Rc,
    sync::Arc,
};

use git2::{Error, ObjectType, Odb, Oid};
use serde::{Deserialize, Serialize};

use super::{
    bound::MAX_NAMES,
    entries::{EntryKind, FILES, GIVEN, PolicyEntry, TENANTS, Verdict, judge},
    names::{Middle, Names, differing},
    objects,
};
use crate::model::tree::{MAX_FILE, SourceFile, tenant_of};

/// The mode of a folder.
const FOLDER: &[u8] = b"40000";

/// How many folders and commits that were read last are kept: those of a few branches side by side.
const KEPT: usize = 8;

/// The most bytes of the folders of one commit. No entry takes less than 24, so that their names, and their paths as well,
/// are within what is read.
const MAX_FOLDERS: usize = 24 * MAX_NAMES;

/// The most bytes of a folder of which it is distinguished what is in it beside folders.
const MAX_TOP: usize = 4 << 10;

/// The most tenants whose files are read here for one commit, and the most bytes of those.
const MAX_CHANGED: usize = 2_000;
const MAX_CHANGED_SIZE: usize = 4 << 20;

/// Makes something of a tenant's file.
pub type Make<'m, T> = &'m (dyn Fn(&SourceFile) -> T + Sync);

/// What differs between a commit and the one before it.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub struct Changed {
    /// What holds for all tenants, schemas among it.
    pub policy: bool,
    /// Something that tenants' files name.
    pub files: bool,
    /// Tenants, by the names of their files.
    pub tenants: BTreeSet<String>,
}

/// A tenant's file, and what was made of it.
pub(super) struct Made<T> {
    pub(super) path: String,
    pub(super) id: Oid,
    pub(super) size: usize,
    pub(super) made: Arc<T>,
}

/// The names under `tenants/`, and where they differ from others, if that was looked at.
type Seen = (Rc<Names>, Option<Middle>);

/// What was read of a commit.
pub(super) struct Difference<T> {
    /// The folder with fleet.yaml in it, if the commit has one.
    pub(super) root: Option<Oid>,
    pub(super) changed: Changed,
    /// The folders of files that are given on.
    pub(super) given: [Option<Oid>; GIVEN.len()],
    /// What the entries at the top follow from, whatever lies in folders; `None` where that is much.
    pub(super) top: Option<Vec<u8>>,
    /// The files of the tenants that are other ones, by their paths; `None` where they are not read here.
    pub(super) files: Option<Vec<Made<T>>>,
}

impl<T> Difference<T> {
    /// About how many bytes it takes, with what is made of a file as ten times the file.
    pub(super) fn weight(&self) -> usize {
        let files = self.files.iter().flatten().map(|file| 1_000 + 10 * file.size).sum::<usize>();
        let names = self.changed.tenants.iter().map(|name| 64 + name.len()).sum::<usize>();
        files + names + self.top.as_ref().map_or(0, Vec::len)
    }
}

/// The folder with fleet.yaml in it.
#[derive(Clone, Default)]
struct Root {
    id: Option<Oid>,
    /// All entries without the ids of folders.
    entries: Option<Vec<u8>>,
    top: Vec<PolicyEntry>,
    given: [Option<Oid>; GIVEN.len()],
    tenants: Option<(bool, Oid)>,
    size: usize,
}

impl Root {
    fn difference<T>(&self, changed: Changed, files: Option<Vec<Made<T>>>) -> Difference<T> {
        Difference { root: self.id, changed, given: self.given, top: self.entries.clone(), files }
    }
}

/// Reads commits.
pub(super) struct Reader<'r> {
    objects: Odb<'r>,
    /// The folder with fleet.yaml in it.
    below: &'r str,
    roots: VecDeque<(Oid, Rc<Root>)>,
    folders: VecDeque<(Oid, Rc<Names>)>,
}

impl<'r> Reader<'r> {
    pub(super) const fn new(objects: Odb<'r>, below: &'r str) -> Self {
        Self { objects, below, roots: VecDeque::new(), folders: VecDeque::new() }
    }

    /// What a commit changed of another one, or of nothing; both are given by their top folders. `make` is given the file of each tenant that is another one;
    /// without it no file is read.
    /// `None` where something is out of the ordinary.
    ///
    /// # Errors
    /// The repository is damaged.
    pub(super) fn difference<T>(
        &mut self,
        tree: Oid,
        before: Option<Oid>,
        make: Option<Make<'_, T>>,
    ) -> Result<Option<Difference<T>>, Error> {
        let before = before.map(|before| self.root(before)).transpose()?;
        let Some(before) = before.unwrap_or_else(|| Some(Rc::default())) else { return Ok(None) };
        let Some(root) = self.root(tree)? else { return Ok(None) };
        let mut changed = Changed::default();
        if root.id.is_none() || root.id == before.id {
            return Ok(Some(root.difference(changed, Some(Vec::new()))));
        }
        changed.policy = before.id.is_none() || root.top != before.top;
        for ((name, old), new) in GIVEN.iter().zip(before.given).zip(root.given) {
            let of_kind = if *name == FILES { &mut changed.files } else { &mut changed.policy };
            *of_kind |= old != new;
        }
        let mut files = Some(Vec::new());
        if root.tenants.map(|(_, id)| id) != before.tenants.map(|(_, id)| id) {
            let Some((old, _)) = self.names(&before, &Names::default())? else { return Ok(None) };
            let Some((new, middle)) = self.names(&root, &old)? else { return Ok(None) };
            let names = differing(&old, &new, middle.unwrap_or_else(|| Names::middle(&old, &new)));
            changed.tenants = names.into_iter().map(|name| tenant_of(name).to_owned()).collect();
            files = make.map_or(Ok(None), |make| self.files(&new, &changed.tenants, make))?;
        }
        Ok(Some(root.difference(changed, files)))
    }

    /// The folder with fleet.yaml in it, below a commit's top folder. `None` where it cannot be taken apart.
    fn root(&mut self, tree: Oid) -> Result<Option<Rc<Root>>, Error> {
        if let Some((_, root)) = self.roots.iter().find(|(of, _)| *of == tree) {
            return Ok(Some(Rc::clone(root)));
        }
        let Some(root) = self.read_root(tree)? else { return Ok(None) };
        let root = Rc::new(root);
        keep(&mut self.roots, tree, &root);
        Ok(Some(root))
    }

    fn read_root(&self, tree: Oid) -> Result<Option<Root>, Error> {
        let mut id = tree;
        for part in self.below.split('/').filter(|part| !part.is_empty()) {
            let Some(folder) = self.folder(id)? else { return Ok(None) };
            let Some(entries) = entries(folder.data()) else { return Ok(None) };
            match entries.iter().find(|entry| entry.name == part.as_bytes()) {
                Some(entry) if entry.mode == FOLDER => id = entry.id,
                _ => return Ok(Some(Root::default())),
            }
        }
        let Some(folder) = self.folder(id)? else { return Ok(None) };
        let Some(entries) = entries(folder.data()) else { return Ok(None) };
        let named = |name: &str| entries.iter().find(|entry| entry.name == name.as_bytes());
        Ok(Some(Root {
            id: Some(id),
            entries: (folder.len() <= MAX_TOP).then(|| without_folders(&entries)),
            top: entries.iter().filter_map(FolderEntry::of_policy).collect(),
            given: GIVEN.map(|name| named(name).map(|entry| entry.id)),
            tenants: named(TENANTS).map(|entry| (entry.mode == FOLDER, entry.id)),
            size: folder.len(),
        }))
    }

    /// A folder, unless it is too large.
    fn folder(&self, id: Oid) -> Result<Option<git2::OdbObject<'_>>, Error> {
        let folder = objects::read(&self.objects, id)?;
        Ok((folder.kind() == ObjectType::Tree && folder.len() <= MAX_FOLDERS).then_some(folder))
    }

    /// The names under `tenants/` of a folder. `None` where anything else than plain files lies there.
    fn names(&mut self, root: &Root, like: &Names) -> Result<Option<Seen>, Error> {
        let Some((true, id)) = root.tenants else { return Ok(Some((Rc::default(), None))) };
        if let Some((_, names)) = self.folders.iter().find(|(of, _)| *of == id) {
            return Ok(Some((Rc::clone(names), None)));
        }
        let (folder, hashed) = objects::read_after(&self.objects, id, like.bytes(), &like.hashed)?;
        let is_read = folder.kind() == ObjectType::Tree && folder.len() + root.size <= MAX_FOLDERS;
        let bytes = is_read.then(|| folder.data().to_vec());
        let Some((mut names, middle)) = bytes.and_then(|bytes| Names::after(like, bytes)) else { return Ok(None) };
        names.hashed = hashed;
        let names = Rc::new(names);
        keep(&mut self.folders, id, &names);
        Ok(Some((names, Some(middle))))
    }

    /// The files of some tenants, and what was made of them.
    fn files<T>(
        &self,
        names: &Names,
        tenants: &BTreeSet<String>,
        make: Make<'_, T>,
    ) -> Result<Option<Vec<Made<T>>>, Error> {
        let (mut files, mut read) = (Vec::new(), 0);
        if tenants.len() > MAX_CHANGED {
            return Ok(None);
        }
        for (name, id) in tenants.iter().flat_map(|tenant| names.places(tenant)).filter_map(|at| names.get(at)) {
            let path = format!("{TENANTS}/{name}");
            match judge(&path, EntryKind::File) {
                Verdict::Pass => continue,
                Verdict::Wrong(_) => return Ok(None),
                Verdict::Read => {}
            }
            let (size, kind) = self.objects.read_header(id)?;
            read += size;
            if kind != ObjectType::Blob || size as u64 > MAX_FILE || read > MAX_CHANGED_SIZE {
                return Ok(None);
            }
            let file = SourceFile { path, bytes: objects::read(&self.objects, id)?.data().to_vec() };
            let made = Arc::new(make(&file));
            files.push(Made { path: file.path, id, size, made });
        }
        files.sort_by(|one, other| one.path.cmp(&other.path));
        Ok(Some(files))
    }
}

/// Keeps what was read, and forgets what was read long before.
fn keep<T>(kept: &mut VecDeque<(Oid, Rc<T>)>, id: Oid, read: &Rc<T>) {
    if kept.len() == KEPT {
        kept.pop_front();
    }
    kept.push_back((id, Rc::clone(read)));
}

/// One entry of a folder.
struct FolderEntry<'f> {
    mode: &'f [u8],
    name: &'f [u8],
    id: Oid,
}

impl FolderEntry<'_> {
    fn of_policy(&self) -> Option<PolicyEntry> {
        let kind = match self.mode {
            FOLDER => EntryKind::Folder,
            b"120000" => EntryKind::Link,
            b"160000" => EntryKind::Other,
            _ => EntryKind::File,
        };
        PolicyEntry::of(std::str::from_utf8(self.name).ok()?, kind, self.id)
    }
}

/// The entries of a folder, without the ids of folders in it.
fn without_folders(entries: &[FolderEntry<'_>]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for FolderEntry { mode, name, id } in entries {
        bytes.extend_from_slice(mode);
        bytes.extend_from_slice(name);
        bytes.push(0);
        if *mode != FOLDER {
            bytes.extend_from_slice(id.as_bytes());
        }
    }
    bytes
}

/// The entries of a folder. `None` where it is not written as git writes them.
fn entries(folder: &[u8]) -> Option<Vec<FolderEntry<'_>>> {
    let mut entries = Vec::new();
    let mut rest = folder;
    while !rest.is_empty() {
        let space = rest.iter().position(|byte| *byte == b' ')?;
        let end = rest.iter().position(|byte| *byte == 0)?;
        let (mode, name) = (rest.get(..space)?, rest.get(space + 1..end)?);
        let id = Oid::from_bytes(rest.get(end + 1..end + 21)?).ok()?;
        if !matches!(mode, FOLDER | b"100644" | b"100755" | b"120000" | b"160000") {
            return None;
        }
        entries.push(FolderEntry { mode, name, id });
        rest = rest.get(end + 21..)?;
    }
    Some(entries)
}
