//! Why a config repo could not be read.

use super::bound::Bound;
use crate::host::secret::SecretError;

/// Why a config repo could not be read.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// There is no repository, or it is damaged.
    #[error("cannot read the git repository {path}")]
    Repository {
        /// Where.
        path: String,
        /// What git said.
        source: git2::Error,
    },
    /// The repository belongs to somebody else, and nobody said that this one is trusted.
    #[error(
        "the repository {path} belongs to another user, whom git does not trust; `git config --global --add \
         safe.directory {named}` says that it may, as does a host.yaml whose source.url names it"
    )]
    Owner {
        /// Where.
        path: String,
        /// The same as git names it.
        named: String,
    },
    /// Neither libgit2 nor git can read it.
    #[error("cannot read the git repository {path}: {why}")]
    Format {
        /// Where.
        path: String,
        /// Why, and what to do.
        why: String,
    },
    /// libgit2 cannot open it, and there is no git that could be asked.
    #[error(
        "cannot read the git repository {0}: that takes git, which is not installed, or not in PATH, since it belongs to \
         another user, is of a newer format, or is meant by git's environment"
    )]
    NeedsGit(String),
    /// git was asked, and gave no answer.
    #[error("cannot ask git of the repository {path}")]
    Ask {
        /// Where.
        path: String,
        /// Why.
        source: std::io::Error,
    },
    /// What leads to its objects cannot be made.
    #[error("cannot make a folder from which to read the git repository {path}; TMPDIR names where")]
    Beside {
        /// Where.
        path: String,
        /// What the kernel said.
        source: std::io::Error,
    },
    /// It has not all objects, and git would fetch them.
    #[error(
        "the repository {path} is a partial clone that lacks what is to be read, and nothing is fetched for it; clone it \
         without --filter, or have `git fetch --refetch --no-filter` fetch all of it"
    )]
    Partial {
        /// Where.
        path: String,
        /// What libgit2 said.
        source: git2::Error,
    },
    /// The folder is not a repository.
    #[error("{0} is not a git repository")]
    NotARepository(String),
    /// The revision names no commit.
    #[error("the revision {rev:?} names no commit in {path}")]
    Revision {
        /// What was asked for.
        rev: String,
        /// Where.
        path: String,
        /// What git said.
        source: git2::Error,
    },
    /// The folder cannot be read.
    #[error("cannot read {path}")]
    Folder {
        /// Where.
        path: String,
        /// What the kernel said.
        source: std::io::Error,
    },
    /// A setting of the source cannot be used.
    #[error("source.{key} {why}")]
    Setting {
        /// Its key in host.yaml.
        key: &'static str,
        /// What is wrong with it.
        why: String,
    },
    /// The password cannot be used.
    #[error(transparent)]
    Secret(SecretError),
    /// The mirror cannot be made.
    #[error("cannot keep the mirror {path}")]
    Mirror {
        /// Where.
        path: String,
        /// What the kernel said.
        source: std::io::Error,
    },
    /// A commit has no folder of this name.
    #[error("there is no folder {path:?} in the commit {commit}; source.path of host.yaml or --path names it")]
    PathMissing {
        /// The folder that host.yaml names.
        path: String,
        /// The commit.
        commit: String,
    },
    /// An object is there, and cannot be parsed. Whoever reads a whole tree gets one that says so.
    #[error("the object {id} cannot be parsed")]
    Unparsed {
        /// Its id.
        id: String,
        /// What is wrong with it.
        source: git2::Error,
    },
    /// There is more to read than the bound. Whoever reads a whole tree gets one that says so.
    #[error("{0}")]
    TooLarge(Bound),
}
