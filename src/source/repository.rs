//! A repository that a command reads: whichever the daemon could follow.
//!
//! libgit2 reads the objects. It opens the repository as well, unless that belongs to another user, has an extension that
//! libgit2 does not know, or git's environment says more of it. Then git says where the objects lie and what names mean,
//! and libgit2 reads the objects from an empty repository beside, which is gone with this value.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use git2::{Commit, ErrorCode, Oid, Repository, RepositoryInitOptions, RepositoryOpenFlags};
use jiff::Timestamp;
use tempfile::TempDir;

use super::{
    SourceError,
    ask::{Asked, Parts},
    environment,
    place::{self, Place},
};
use crate::model::tree::Rewritten;

/// A repository that was opened.
pub struct Opened {
    objects: Repository,
    names: Names,
    shown: String,
}

/// Who says what names mean.
enum Names {
    Libgit2,
    /// git, and the folder of the repository that leads libgit2 to the objects.
    Git {
        asked: Asked,
        folder: TempDir,
        /// Where the objects lie.
        objects: Vec<PathBuf>,
    },
}

impl Opened {
    /// Opens the repository at a path, and none above it.
    ///
    /// # Errors
    /// There is none, or neither libgit2 nor git can read it.
    pub fn open(place: Place<'_>) -> Result<Self, SourceError> {
        let shown = place.path.display().to_string();
        if environment::speaks_of(place.path) {
            return Self::ask(place, true);
        }
        let root = place::root(place.path);
        match Repository::open(root.as_deref().unwrap_or(place.path)) {
            // libgit2 does not look where a shallow repository ends from a further work tree of it.
            Ok(objects) if !(objects.is_worktree() && objects.commondir().join("shallow").exists()) => {
                Ok(Self { objects, names: Names::Libgit2, shown })
            }
            Err(e) if e.code() == ErrorCode::NotFound && root.is_none() => Err(SourceError::NotARepository(shown)),
            _ => Self::ask(place, false),
        }
    }

    /// Opens the repository that a folder belongs to.
    ///
    /// # Errors
    /// There is none, or neither libgit2 nor git can read it.
    pub fn discover(folder: &Path) -> Result<Self, SourceError> {
        let above = folder
            .canonicalize()
            .ok()
            .into_iter()
            .flat_map(|folder| folder.ancestors().map(Path::to_owned).collect::<Vec<_>>());
        let top = above.into_iter().find(|folder| place::is_root(folder));
        Self::open((&top.unwrap_or_else(|| folder.to_owned())).into())
    }

    fn ask(place: Place<'_>, in_environment: bool) -> Result<Self, SourceError> {
        let (asked, Parts { objects, shallow }) = Asked::find(place, in_environment)?;
        let shown = place.path.display().to_string();
        let failed = |source| SourceError::Beside { path: shown.clone(), source };
        let folder = tempfile::Builder::new().prefix("tenantd-").tempdir().map_err(failed)?;
        let mut options = RepositoryInitOptions::new();
        options.bare(true).external_template(false).no_reinit(true);
        Repository::init_opts(folder.path(), &options).map_err(|e| failed(io::Error::other(e)))?;
        match fs::copy(&shallow, folder.path().join("shallow")) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(failed(e)),
            _ => {}
        }
        let beside = open_bare(folder.path()).map_err(|e| failed(io::Error::other(e)))?;
        let mut folders = vec![objects];
        if in_environment {
            folders.extend(environment::alternates());
        }
        lead_to(&beside, &folders).map_err(|source| SourceError::Repository { path: shown.clone(), source })?;
        Ok(Self { objects: beside, names: Names::Git { asked, folder, objects: folders }, shown })
    }

    /// The objects, for whoever knows their ids.
    pub fn objects(&self) -> &Repository {
        &self.objects
    }

    /// The objects once more, for a thread of its own.
    pub(super) fn again(&self) -> Result<Repository, git2::Error> {
        match &self.names {
            Names::Libgit2 => open_bare(self.objects.commondir()),
            Names::Git { folder, objects, .. } => {
                let beside = open_bare(folder.path())?;
                lead_to(&beside, objects)?;
                Ok(beside)
            }
        }
    }

    /// The repository's own folder, which its work trees share, to keep there what was found of its commits. `None` where
    /// git says where that is, and where what a commit follows from is not what its id says.
    pub(super) fn folder_of_kept(&self) -> Option<PathBuf> {
        let folder = self.objects.commondir();
        let is_whole = !self.objects.is_shallow() && !folder.join("info/grafts").exists();
        (is_whole && matches!(self.names, Names::Libgit2)).then(|| folder.to_owned())
    }

    /// The commit that a revision names.
    ///
    /// # Errors
    /// It names none, or git cannot be asked.
    pub fn commit(&self, rev: &str) -> Result<Commit<'_>, SourceError> {
        let unknown = |source| SourceError::Revision { rev: rev.to_owned(), path: self.shown.clone(), source };
        match &self.names {
            Names::Libgit2 => {
                let object = self.objects.revparse_single(rev).and_then(|object| object.peel_to_commit());
                object.map_err(unknown)
            }
            Names::Git { asked, .. } => {
                let id = asked.commit(rev)?.map_err(|said| unknown(git2::Error::from_str(&said)))?;
                let found = Oid::from_str(&id).and_then(|id| self.objects.find_commit(id));
                found.map_err(|e| self.explain(self.damaged(e)))
            }
        }
    }

    /// The branch that a revision is by its name, if it is one.
    pub(super) fn branch(&self, rev: &str) -> Option<String> {
        match &self.names {
            Names::Libgit2 if rev == "HEAD" => {
                let head = self.objects.head().ok().filter(|head| head.is_branch());
                head.and_then(|head| head.shorthand().ok().map(str::to_owned))
            }
            Names::Libgit2 => self.objects.find_branch(rev, git2::BranchType::Local).ok().map(|_| rev.to_owned()),
            Names::Git { asked, .. } => asked.branch(rev),
        }
    }

    /// When the branch that a revision names was set to a commit that does not descend from the one before, newest first,
    /// as far as its log shows. A repository that keeps none shows nothing.
    pub(super) fn rewritten(&self, rev: &str) -> Vec<Rewritten> {
        let moves: Vec<(Oid, Oid, jiff::Timestamp)> = match &self.names {
            Names::Libgit2 => {
                let reference = self.objects.resolve_reference_from_short_name(rev).and_then(|named| named.resolve());
                let name = reference.ok().and_then(|reference| reference.name().ok().map(str::to_owned));
                let log = name.and_then(|name| self.objects.reflog(&name).ok());
                let all = |log: git2::Reflog| {
                    log.iter().map(|one| (one.id_old(), one.id_new(), time(one.committer().when()))).collect()
                };
                log.map(all).unwrap_or_default()
            }
            Names::Git { asked, .. } => {
                let stood = asked.moves(rev);
                let before = stood.iter().skip(1);
                let pairs = stood.iter().zip(before).filter_map(|((to, time), (from, _))| {
                    Some((Oid::from_str(from).ok()?, Oid::from_str(to).ok()?, *time))
                });
                pairs.collect()
            }
        };
        let non_fast_forward = moves.into_iter().filter(|(from, to, _)| {
            let descends = from == to || self.objects.graph_descendant_of(*to, *from).unwrap_or(false);
            !from.is_zero() && !to.is_zero() && !descends
        });
        non_fast_forward
            .map(|(from, to, time)| Rewritten { time, from: from.to_string(), to: to.to_string() })
            .collect()
    }

    /// The top of the work tree, if it has one.
    pub fn top(&self) -> Option<PathBuf> {
        let top = match &self.names {
            Names::Libgit2 => self.objects.workdir().map(Path::to_owned),
            Names::Git { asked, .. } => asked.top(),
        };
        top?.canonicalize().ok()
    }

    pub(super) fn damaged(&self, source: git2::Error) -> SourceError {
        SourceError::Repository { path: self.shown.clone(), source }
    }

    /// An error with the repository's own path, and with what to do where the repository has not all objects.
    pub(super) fn explain(&self, error: SourceError) -> SourceError {
        match error {
            SourceError::Repository { source, .. } if source.code() == ErrorCode::NotFound && self.is_partial() => {
                SourceError::Partial { path: self.shown.clone(), source }
            }
            SourceError::Repository { source, .. } => self.damaged(source),
            error => error,
        }
    }

    /// Whether objects may be missing, which git would fetch when it needs them.
    fn is_partial(&self) -> bool {
        match &self.names {
            Names::Libgit2 => {
                let has_promisor = |config: &git2::Config| {
                    let mut found = false;
                    let entries = config.entries(Some(r"^remote\..*\.promisor$"))?;
                    entries.for_each(|entry| {
                        found |= !entry.has_value() || entry.value().is_ok_and(|value| value == "true")
                    })?;
                    Ok::<_, git2::Error>(found)
                };
                self.objects.config().and_then(|config| has_promisor(&config)).unwrap_or(false)
            }
            Names::Git { asked, .. } => asked.is_partial(),
        }
    }
}

/// Opens a repository's own folder, whatever lies above or beside it.
fn open_bare(folder: &Path) -> Result<Repository, git2::Error> {
    let flags = RepositoryOpenFlags::BARE | RepositoryOpenFlags::NO_SEARCH | RepositoryOpenFlags::NO_DOTGIT;
    Repository::open_ext(folder, flags, &[] as &[&Path])
}

/// Has a repository find its objects in these folders.
fn lead_to(repository: &Repository, folders: &[PathBuf]) -> Result<(), git2::Error> {
    let objects = repository.odb()?;
    folders.iter().try_for_each(|folder| {
        let path = folder.to_str().ok_or_else(|| git2::Error::from_str("a folder of objects is not named in UTF-8"))?;
        objects.add_disk_alternate(path)
    })
}

/// A time as git has it. One that no calendar has is as good as none.
pub(super) fn time(of: git2::Time) -> Timestamp {
    Timestamp::from_second(of.seconds()).unwrap_or_default()
}
