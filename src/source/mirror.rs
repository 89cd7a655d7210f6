//! A repository of our own that holds what was fetched.

use std::{
    ffi::OsString,
    fs::{self, DirBuilder},
    io,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use git2::{
    Commit, ErrorCode, ObjectType, Oid, Repository, RepositoryInitOptions, RepositoryOpenFlags, Tree as GitTree,
};

use super::{
    FetchError, SourceError,
    fetch::{self, Git, HEAD, Order, SETTINGS},
    git::read_root,
    settings,
};
use crate::{
    host::secret::{self, SecretError},
    model::{Revision, host::Source, tree::Tree},
};

/// How the head of a branch relates to one that was seen before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Relation {
    /// They are the same commit.
    Same,
    /// The new one descends from the old one.
    Forward,
    /// It does not: the branch was rewritten, goes back, or the old commit is not known any more.
    Rewound,
}

/// A bare repository into which one branch of the source is fetched.
///
/// What was fetched once stays readable, whatever becomes of the source: rewritten, damaged or gone.
/// It is closed to everyone but its owner. Everything but [`Mirror::fetch`] blocks, and asks nobody.
/// Clones share one folder.
#[derive(Clone, Debug)]
pub struct Mirror {
    folder: PathBuf,
    source: Source,
    /// What git is told about the source.
    settings: String,
    program: PathBuf,
    /// Held while something is fetched. It counts the new heads.
    fetching: Arc<tokio::sync::Mutex<u32>>,
}

/// After so many new heads git looks whether it should pack what came with them.
const HEADS_UNTIL_PACKED: u32 = 64;

impl Mirror {
    /// Opens the mirror of a source, and makes it where there is none.
    ///
    /// A mirror that cannot be read is put aside under its name and `.damaged-` with the time, in the
    /// place of one that was put aside before, and is made anew. The caller holds the data root's
    /// lock: no other process may fetch into the mirror.
    ///
    /// # Errors
    /// A setting of the source cannot be used, or the folder cannot be made.
    pub fn open(folder: &Path, source: &Source) -> Result<Self, SourceError> {
        let mirror = Self {
            folder: folder.to_owned(),
            source: source.clone(),
            settings: settings::compose(source)?,
            program: PathBuf::from("git"),
            fetching: Arc::default(),
        };
        if !folder.exists() {
            mirror.make()?;
        } else if mirror.is_sound() {
            fs::write(folder.join(SETTINGS), &mirror.settings).map_err(|e| mirror.unkept(e))?;
        } else {
            mirror.renew()?;
        }
        Ok(mirror)
    }

    /// Fetches the branch and returns its head, 40 hexadecimal digits.
    ///
    /// It takes no longer than `source.timeout` and the packing that follows now and then; when it is
    /// dropped, or takes longer, git ends with all that it started. A mirror that turns out to be
    /// damaged is made anew.
    ///
    /// # Errors
    /// As the kinds of [`FetchError`] say. The head that was fetched last stays readable.
    pub async fn fetch(&self) -> Result<String, FetchError> {
        let mut heads = self.fetching.lock().await;
        self.check_password()?;
        let before = self.head().ok();
        let head = match self.fetch_once().await {
            Err(e @ (FetchError::Failed { .. } | FetchError::Corrupt { .. } | FetchError::Mirror(_))) => {
                let mirror = self.clone();
                // A check that could not end tells nothing against the mirror.
                if tokio::task::spawn_blocking(move || mirror.is_sound()).await.unwrap_or(true) {
                    return Err(e);
                }
                self.renew()?;
                self.fetch_once().await?
            }
            result => result?,
        };
        if before.as_ref() != Some(&head) {
            *heads += 1;
            if *heads >= HEADS_UNTIL_PACKED {
                *heads = 0;
                fetch::maintain(&self.git(), self.source.timeout.get()).await;
            }
        }
        Ok(head)
    }

    async fn fetch_once(&self) -> Result<String, FetchError> {
        let shown = settings::shown_url(&self.source.url);
        let order = Order {
            url: &self.source.url,
            shown: &shown,
            branch: &self.source.branch,
            limit: self.source.timeout.get(),
        };
        fetch::fetch(&self.git(), &order).await?;
        Ok(self.head()?)
    }

    /// Reads the tree of a commit below `source.path`.
    ///
    /// # Errors
    /// The commit is not known, has no such folder, or holds more files than the bound. A single entry
    /// that cannot be used is a finding.
    pub fn read(&self, commit: &str) -> Result<Tree, SourceError> {
        let repository = self.repository()?;
        let found = self.commit(&repository, commit)?;
        let root = found.tree().map_err(|e| self.damaged(e))?;
        let root = self.below(&repository, root, &found)?;
        let revision = Revision { branch: self.source.branch.clone(), commit: found.id().to_string() };
        read_root(&repository, &root, revision.to_string())
    }

    /// How a head relates to an older one.
    ///
    /// # Errors
    /// The new one is not known, or the mirror is damaged.
    pub fn relation(&self, old: &str, new: &str) -> Result<Relation, SourceError> {
        let repository = self.repository()?;
        let new = self.commit(&repository, new)?.id();
        let old = match self.commit(&repository, old) {
            Ok(commit) => commit.id(),
            Err(SourceError::Revision { .. }) => return Ok(Relation::Rewound),
            Err(e) => return Err(e),
        };
        if old == new {
            return Ok(Relation::Same);
        }
        match repository.graph_descendant_of(new, old).map_err(|e| self.damaged(e))? {
            true => Ok(Relation::Forward),
            false => Ok(Relation::Rewound),
        }
    }

    /// The mirror as git2 sees it now. Only this way of opening it looks where a shallow one ends.
    pub(super) fn repository(&self) -> Result<Repository, SourceError> {
        let flags = RepositoryOpenFlags::BARE | RepositoryOpenFlags::NO_SEARCH | RepositoryOpenFlags::NO_DOTGIT;
        Repository::open_ext(&self.folder, flags, &[] as &[&Path]).map_err(|e| self.damaged(e))
    }

    /// A commit by its whole id.
    pub(super) fn commit<'r>(&self, repository: &'r Repository, id: &str) -> Result<Commit<'r>, SourceError> {
        let unknown = |source| SourceError::Revision { rev: id.to_owned(), path: self.shown(), source };
        let whole = if id.len() == 40 { id } else { "" };
        let id = Oid::from_str(whole).map_err(unknown)?;
        repository.find_commit(id).map_err(|e| match e.code() {
            ErrorCode::NotFound => unknown(e),
            _ => self.damaged(e),
        })
    }

    pub(super) fn git(&self) -> Git<'_> {
        Git { program: &self.program, mirror: &self.folder }
    }

    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    pub(super) fn damaged(&self, source: git2::Error) -> SourceError {
        SourceError::Repository { path: self.shown(), source }
    }

    fn unkept(&self, source: io::Error) -> SourceError {
        SourceError::Mirror { path: self.shown(), source }
    }

    fn shown(&self) -> String {
        self.folder.display().to_string()
    }

    /// The head that was fetched last.
    fn head(&self) -> Result<String, SourceError> {
        let repository = self.repository()?;
        let id = repository.refname_to_id(HEAD).map_err(|e| self.damaged(e))?;
        // It is whatever the source calls a branch.
        repository.find_commit(id).map_err(|e| self.damaged(e))?;
        Ok(id.to_string())
    }

    /// The folder with fleet.yaml in it.
    fn below<'r>(
        &self,
        repository: &'r Repository,
        root: GitTree<'r>,
        commit: &Commit<'_>,
    ) -> Result<GitTree<'r>, SourceError> {
        let mut tree = root;
        for part in self.source.path.split('/').filter(|part| !matches!(*part, "" | ".")) {
            let id = tree.get_name(part).filter(|entry| entry.kind() == Some(ObjectType::Tree)).map(|entry| entry.id());
            let id = id.ok_or_else(|| SourceError::PathMissing {
                path: self.source.path.clone(),
                commit: commit.id().to_string(),
            })?;
            tree = repository.find_tree(id).map_err(|e| self.damaged(e))?;
        }
        Ok(tree)
    }

    /// Whether the mirror can be opened, and what it fetched last can be read.
    fn is_sound(&self) -> bool {
        let Ok(repository) = self.repository() else { return false };
        match repository.refname_to_id(HEAD) {
            Ok(id) => !matches!(
                self.read(&id.to_string()),
                Err(SourceError::Repository { .. } | SourceError::Revision { .. })
            ),
            Err(e) => e.code() == ErrorCode::NotFound,
        }
    }

    /// Makes the mirror beside its place, so that half of one is never found there.
    fn make(&self) -> Result<(), SourceError> {
        let new = self.beside(".new");
        let made = || -> io::Result<()> {
            remove(&new)?;
            DirBuilder::new().recursive(true).mode(0o700).create(&new)?;
            let mut options = RepositoryInitOptions::new();
            options.bare(true).external_template(false).no_reinit(true);
            Repository::init_opts(&new, &options).map_err(io::Error::other)?;
            fs::write(new.join(SETTINGS), &self.settings)?;
            fs::rename(&new, &self.folder)
        };
        made().map_err(|e| self.unkept(e))
    }

    /// Puts the mirror aside and makes another.
    fn renew(&self) -> Result<(), SourceError> {
        let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs());
        let aside = self.beside(&format!(".damaged-{seconds}"));
        tracing::warn!(mirror = %self.shown(), aside = %aside.display(), "the mirror is damaged and is made anew");
        let moved = || -> io::Result<()> {
            for old in self.put_aside()? {
                remove(&old)?;
            }
            match fs::rename(&self.folder, &aside) {
                Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
                result => result,
            }
        };
        moved().map_err(|e| self.unkept(e))?;
        self.make()
    }

    /// What was put aside before. One is kept, for a person to look at.
    fn put_aside(&self) -> io::Result<Vec<PathBuf>> {
        let prefix = self.beside(".damaged-").into_os_string();
        let parent = self.folder.parent().unwrap_or(Path::new("/"));
        let entries = fs::read_dir(parent)?.collect::<Result<Vec<_>, _>>()?;
        let is_ours = |path: &PathBuf| path.as_os_str().as_encoded_bytes().starts_with(prefix.as_encoded_bytes());
        Ok(entries.into_iter().map(|entry| entry.path()).filter(is_ours).collect())
    }

    fn beside(&self, suffix: &str) -> PathBuf {
        let mut path: OsString = self.folder.clone().into_os_string();
        path.push(suffix);
        PathBuf::from(path)
    }

    /// git reads one line of the file, and could only say that the password is wrong.
    fn check_password(&self) -> Result<(), SecretError> {
        let Some(password) = self.source.password.as_ref().filter(|_| self.source.url.starts_with("http")) else {
            return Ok(());
        };
        match secret::read(password)?.as_str().contains('\n') {
            true => Err(SecretError::Unusable { path: secret::locate(password)?, what: "has more than one line" }),
            false => Ok(()),
        }
    }
}

/// Removes a file or a folder, if it is there.
fn remove(path: &Path) -> io::Result<()> {
    let removed = match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(e) => Err(e),
    };
    match removed {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_host_without_git_is_told_so() -> Result<(), Box<dyn std::error::Error>> {
        let folder = tempfile::tempdir()?;
        let source = Source::new("/srv/fleet.git");
        let mut mirror = Mirror::open(&folder.path().join("source.git"), &source)?;
        mirror.program = PathBuf::from("/nonexistent/git");
        assert!(matches!(mirror.fetch().await, Err(FetchError::NoGit)));
        Ok(())
    }
}
