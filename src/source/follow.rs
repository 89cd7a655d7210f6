//! Follows a history commit by commit, and reads of each what differs from the one before it.

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use git2::{ObjectType, Oid, Tree as GitTree, TreeEntry};

use super::{
    Changed, History, SourceError, ahead, budget,
    entries::{FILES, GIVEN, PolicyEntry, SCHEMAS, TENANTS},
    git::{self, Blob},
    history::Step,
    objects,
    reader::{Difference, Made, Make},
};
use crate::model::tree::{Carried, SourceFile, Tree, tenant_of};

/// About how many bytes of tenants' files are kept as what was made of them.
const MAX_KEPT: usize = 8 << 20;

/// What a tenant's file takes beside its text where it is kept, in the same bytes.
const FILE: usize = 64;

impl History {
    /// Follows commits by their places, each after those that it follows from. `visit` is called with each and may read the files
    /// of some tenants at it. What `make` makes of a tenant's file is kept for as long as there is room, since a file stays the
    /// same for many commits; it is called on threads of its own.
    ///
    /// # Errors
    /// The repository is damaged.
    pub fn follow<T: Send + Sync, E: From<SourceError>>(
        &self,
        places: &[usize],
        make: Make<'_, T>,
        mut visit: impl FnMut(At<'_, T>) -> Result<(), E>,
    ) -> Result<(), E> {
        let _hashed_here = objects::HashedHere::begin();
        let files = RefCell::new(Files { by_path: BTreeMap::new(), size: 0 });
        let kept = Kept { make, files, carried: RefCell::default(), top: RefCell::default() };
        let first = |step: &Step| Some(self.steps.get(*step.before.first()?)?.tree);
        let steps = || places.iter().filter_map(|place| Some((*place, self.steps.get(*place)?)));
        let pairs: Vec<ahead::Pair> = steps().map(|(_, step)| (step.tree, first(step))).collect();
        let mut steps = steps();
        ahead::each(
            &pairs,
            &self.below,
            || self.opened.again().ok(),
            Some(make),
            |difference| {
                let Some((place, step)) = steps.next() else { return Ok(()) };
                if let Some(files) = difference.as_ref().and_then(|difference| difference.files.as_ref()) {
                    kept.take(files);
                }
                let root = match &difference {
                    Some(difference) => difference.root,
                    None => self.root_of(step.id)?,
                };
                visit(At { history: self, kept: &kept, place, step, root, difference })
            },
        )
    }

    /// The folder with fleet.yaml in it at a commit, if it has one.
    fn root_of(&self, commit: Oid) -> Result<Option<Oid>, SourceError> {
        let damaged = |source| self.damaged(source);
        objects::check(&self.repository().odb().map_err(damaged)?, commit).map_err(damaged)?;
        let commit = self.repository().find_commit(commit).map_err(damaged)?;
        Ok(self.root(&commit)?.map(|root| root.id()))
    }

    /// What differs between two folders, whatever lies in them.
    fn changed(&self, before: Option<&GitTree<'_>>, after: &GitTree<'_>) -> Result<Changed, SourceError> {
        let id = |tree: Option<&GitTree<'_>>, name: &str| Some(tree?.get_name(name)?.id());
        let differs = |name: &&str| id(before, name) != id(Some(after), name);
        let mut changed = Changed {
            policy: before.is_none_or(|before| policy(before) != policy(after)) || SCHEMAS.iter().any(differs),
            files: differs(&FILES),
            tenants: BTreeSet::new(),
        };
        if !differs(&TENANTS) {
            return Ok(changed);
        }
        let folder = |tree: Option<&GitTree<'_>>| -> Result<Option<GitTree<'_>>, SourceError> {
            let entry = tree.and_then(|tree| tree.get_name(TENANTS).map(|entry| (entry.kind(), entry.id())));
            match entry {
                Some((Some(ObjectType::Tree), id)) => self.tree(id).map(Some),
                _ => Ok(None),
            }
        };
        let (old, new) = (folder(before)?, folder(Some(after))?);
        let diff = self.repository().diff_tree_to_tree(old.as_ref(), new.as_ref(), None);
        for delta in diff.map_err(|source| self.damaged(source))?.deltas() {
            for file in [delta.old_file(), delta.new_file()] {
                let path = file.path_bytes().map(String::from_utf8_lossy).unwrap_or_default();
                changed.tenants.insert(tenant_of(&path).to_owned());
            }
        }
        Ok(changed)
    }
}

/// The entries of a folder that have a say in what holds for all tenants.
fn policy(root: &GitTree<'_>) -> Vec<PolicyEntry> {
    let entry = |entry: TreeEntry<'_>| {
        PolicyEntry::of(std::str::from_utf8(entry.name_bytes()).ok()?, git::kind(&entry), entry.id())
    };
    root.iter().filter_map(entry).collect()
}

/// What is kept of the commits that were read before.
struct Kept<'m, T> {
    make: Make<'m, T>,
    files: RefCell<Files<T>>,
    carried: RefCell<Option<Given>>,
    top: RefCell<Option<Top>>,
}

/// Tenants' files by their paths, as they were last.
struct Files<T> {
    by_path: BTreeMap<String, (Oid, Arc<T>)>,
    size: usize,
}

/// Files that are given on, and the folders that they are of.
struct Given {
    of: [Option<Oid>; GIVEN.len()],
    carried: Arc<BTreeMap<String, Carried>>,
}

/// What lies at the top, and all that it follows from.
struct Top {
    of: Vec<u8>,
    tree: Tree,
}

impl<T> Files<T> {
    fn keep(&mut self, path: String, id: Oid, size: usize, made: Arc<T>) {
        self.size += size + FILE;
        if self.size > MAX_KEPT {
            *self = Self { by_path: BTreeMap::new(), size: size + FILE };
        }
        self.by_path.insert(path, (id, made));
    }
}

impl<T> Kept<'_, T> {
    /// Keeps what was made elsewhere.
    fn take(&self, files: &[Made<T>]) {
        let mut kept = self.files.borrow_mut();
        for Made { path, id, size, made } in files {
            kept.keep(path.clone(), *id, *size, Arc::clone(made));
        }
    }

    /// What is made of a file, now or before.
    fn made(&self, objects: &git2::Odb<'_>, Blob { path, id }: Blob) -> Result<Arc<T>, git2::Error> {
        if let Some((_, made)) = self.files.borrow().by_path.get(&path).filter(|(of, _)| *of == id) {
            return Ok(Arc::clone(made));
        }
        let bytes = objects::read(objects, id)?.data().to_vec();
        let (size, file) = (bytes.len(), SourceFile { path, bytes });
        let made = Arc::new((self.make)(&file));
        self.files.borrow_mut().keep(file.path, id, size, Arc::clone(&made));
        Ok(made)
    }
}

/// What was read of a commit.
pub struct Read<T> {
    /// What holds for all tenants, what their files name, and what is wrong with how it lies there.
    pub tree: Tree,
    /// What was made of the tenants' files, by their paths.
    pub tenants: Vec<Arc<T>>,
}

/// One commit of a history.
pub struct At<'a, T> {
    history: &'a History,
    kept: &'a Kept<'a, T>,
    step: &'a Step,
    /// The folder with fleet.yaml in it.
    root: Option<Oid>,
    difference: Option<Difference<T>>,
    /// Its place in the history, counted from 0.
    pub place: usize,
}

impl<T> At<'_, T> {
    /// The places of the commits that it follows from, the first parent first.
    pub fn before(&self) -> &[usize] {
        &self.step.before
    }

    /// Whether it has no folder of the name that holds fleet.yaml.
    pub const fn is_missing(&self) -> bool {
        self.root.is_none()
    }

    /// What differs from the first commit that it follows from; from nothing where there is none.
    ///
    /// # Errors
    /// The repository is damaged.
    pub fn changed(&self) -> Result<Changed, SourceError> {
        if let Some(difference) = &self.difference {
            return Ok(difference.changed.clone());
        }
        let before = self.step.before.first().and_then(|place| self.history.steps.get(*place));
        let before = before.map(|step| self.history.root_of(step.id)).transpose()?.flatten();
        match self.root {
            Some(root) if before != Some(root) => {
                let before = before.map(|before| self.history.tree(before)).transpose()?;
                self.history.changed(before.as_ref(), &self.history.tree(root)?)
            }
            _ => Ok(Changed::default()),
        }
    }

    /// Reads what holds for all tenants, and the files of some, or of all.
    ///
    /// # Errors
    /// The repository is damaged, or has no such folder.
    pub fn read(&self, only: Option<&BTreeSet<String>>) -> Result<Read<T>, SourceError> {
        let commit = self.step.id;
        let Some(root) = self.root else {
            return Err(SourceError::PathMissing { path: self.history.below.clone(), commit: commit.to_string() });
        };
        let revision = format!("sha1:{commit}");
        let mut tenants = Vec::new();
        let tree = budget::within(revision, self.read_root(root, only, &mut tenants));
        let tree = tree.map_err(|e| self.history.opened.explain(e))?;
        Ok(Read { tree, tenants })
    }

    fn read_root(
        &self,
        root: Oid,
        only: Option<&BTreeSet<String>>,
        tenants: &mut Vec<Arc<T>>,
    ) -> Result<Tree, SourceError> {
        let (repository, revision) = (self.history.repository(), format!("sha1:{}", self.step.id));
        // Which is what was read already, as a rule.
        if let Some(Difference { changed, top: Some(top), files: Some(files), .. }) = &self.difference
            && only == Some(&changed.tenants)
        {
            let tree = Tree { revision, carried: self.carried(root)?, ..self.top(root, top)? };
            tenants.extend(files.iter().map(|file| Arc::clone(&file.made)));
            return Ok(tree);
        }
        let listed = git::list_some(repository, &self.history.tree(root)?, revision, only)?;
        let tree = Tree { carried: self.carried(root)?, ..listed.tree };
        let damaged = |source| git::damaged(repository, source);
        let objects = repository.odb().map_err(damaged)?;
        let made = listed.tenants.into_iter().map(|blob| self.kept.made(&objects, blob));
        tenants.extend(made.collect::<Result<Vec<_>, _>>().map_err(damaged)?);
        Ok(tree)
    }

    /// What lies at the top, which follows from these bytes.
    fn top(&self, root: Oid, of: &[u8]) -> Result<Tree, SourceError> {
        if let Some(top) = self.kept.top.borrow().as_ref().filter(|top| top.of == of) {
            return Ok(top.tree.clone());
        }
        let tree = git::top(self.history.repository(), &self.history.tree(root)?)?;
        *self.kept.top.borrow_mut() = Some(Top { of: of.to_vec(), tree: tree.clone() });
        Ok(tree)
    }

    fn carried(&self, root: Oid) -> Result<Arc<BTreeMap<String, Carried>>, SourceError> {
        let id = match &self.difference {
            Some(difference) => difference.given,
            None => {
                let root = self.history.tree(root)?;
                GIVEN.map(|name| root.get_name(name).map(|entry| entry.id()))
            }
        };
        let mut last = self.kept.carried.borrow_mut();
        if let Some(given) = last.as_ref().filter(|given| given.of == id) {
            return Ok(Arc::clone(&given.carried));
        }
        let carried = git::carried(self.history.repository(), &self.history.tree(root)?, None)?;
        *last = Some(Given { of: id, carried: Arc::clone(&carried) });
        Ok(carried)
    }
}
