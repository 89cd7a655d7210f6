//! Where the declarations come from: a commit's tree, or a folder that is not committed yet.
//!
//! The daemon reads neither a work tree nor someone else's repository: a [`Mirror`] of its own keeps
//! what was fetched, whatever becomes of the source.

mod approve;
mod blame;
mod directory;
mod fetch;
mod git;
mod gpg;
mod history;
mod keys;
mod mirror;
mod process;
mod settings;
mod signature;
mod verify;
mod watch;

pub use crate::model::tree::MAX_FILE;
pub use approve::{Approval, TRAILER};
pub use blame::{Blame, Line};
pub use directory::read_directory;
pub use fetch::FetchError;
pub use git::read_commit;
pub use gpg::GpgError;
pub use history::{At, Changed, History, Rewritten};
pub use keys::Keys;
pub use mirror::{Mirror, Relation};
pub use settings::{local_path, shown_url};
pub use signature::Fault;
pub use verify::VerifyError;
pub use watch::{Watch, WatchError};

use std::{collections::BTreeMap, sync::Arc};

use crate::{
    host::secret::SecretError,
    model::{
        Finding,
        tree::{Carried, Tree},
    },
};

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
    /// The folder is not a repository.
    #[error("{0} is not a git repository; `--worktree` reads a folder that is not committed")]
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
    #[error("there is no folder {path:?} in the commit {commit}; source.path names it")]
    PathMissing {
        /// The folder that host.yaml names.
        path: String,
        /// The commit.
        commit: String,
    },
    /// There are more files than the bound.
    #[error("there are more than {MAX_FILES} files under tenants/, or under files/")]
    TooManyFiles,
}

/// The most files that are read: ten times the fleet that was measured.
pub const MAX_FILES: usize = 100_000;

/// The files at the top of a config repo, and the folder of tenant files.
const TOP: [&str; 2] = ["fleet.yaml", "tiers.yaml"];
const TENANTS: &str = "tenants";

/// The folder of files that tenants' files name, how many folders lie in one another there, and the most bytes that
/// all of them may have.
const FILES: &str = "files";
const MAX_FILES_DEPTH: usize = 16;
const MAX_CARRIED: u64 = 64 << 20;

/// What an entry of a tree is, as far as it matters here.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    File,
    Folder,
    Link,
    Other,
}

/// Whether an entry is read, passed over, or wrong where it stands.
enum Verdict {
    Read,
    Pass,
    Wrong(Finding),
}

/// Judges an entry by its path alone.
///
/// A slip in a name must not be taken for a missing tenant, so that everything under `tenants/` that
/// is not a tenant file is an error, apart from what repositories keep beside.
fn judge(path: &str, kind: Kind) -> Verdict {
    let wrong = |code, message: String, help: String| Verdict::Wrong(Finding::on_file(path, code, message, help));
    let link = || wrong("symlink", "symbolic links are not followed".to_owned(), "commit the file itself".to_owned());
    let Some(name) = path.strip_prefix("tenants/") else {
        return match (TOP.contains(&path) || path == TENANTS, kind) {
            (true, Kind::Link) => link(),
            (true, Kind::File) if path == TENANTS => {
                wrong("bad-entry", "tenants is a file".to_owned(), "make it a folder of tenant files".to_owned())
            }
            (true, Kind::File) => Verdict::Read,
            (true, Kind::Folder) if path == TENANTS => Verdict::Pass,
            (true, _) => wrong("bad-entry", format!("{path} is not a file"), "commit a plain file".to_owned()),
            (false, _) => match near_miss(path) {
                Some(meant) => wrong("bad-entry", format!("{path} is not read"), format!("name it {meant}")),
                None => Verdict::Pass,
            },
        };
    };
    let last = name.rsplit('/').next().unwrap_or(name);
    if last.starts_with('.') || last == "README.md" {
        return Verdict::Pass;
    }
    match kind {
        Kind::Link => link(),
        Kind::File if name != last => {
            wrong("bad-entry", format!("{path} lies in a folder below tenants"), format!("move it to tenants/{last}"))
        }
        Kind::File if name.ends_with(".yaml") => Verdict::Read,
        Kind::File => {
            let stem = name.strip_suffix(".yml").or_else(|| name.strip_suffix(".json")).unwrap_or("NAME");
            wrong(
                "bad-entry",
                format!("{path} is not a tenant file"),
                format!("name it tenants/{stem}.yaml, or move it elsewhere"),
            )
        }
        Kind::Folder => {
            wrong("bad-entry", format!("{path} is a folder"), "put tenant files straight under tenants/".to_owned())
        }
        Kind::Other => wrong(
            "bad-entry",
            format!("{path} is neither a file nor a folder"),
            "remove it; submodules and devices are not read".to_owned(),
        ),
    }
}

/// How many folders below `tenants/` are looked into.
const MAX_DEPTH: usize = 8;

/// Whether a wrong entry is looked into as well. What lies in a folder below `tenants/` is not read,
/// and each file is named: the tenant that it was meant for must not be taken for one that is gone.
fn is_looked_into(path: &str, kind: Kind) -> bool {
    kind == Kind::Folder && path.starts_with("tenants/") && path.matches('/').count() <= MAX_DEPTH
}

/// The name that a file at the top was probably meant to have.
fn near_miss(path: &str) -> Option<&'static str> {
    match path {
        "fleet.yml" | "Fleet.yaml" | "fleets.yaml" => Some("fleet.yaml"),
        "tiers.yml" | "Tiers.yaml" | "tier.yaml" => Some("tiers.yaml"),
        "tenant" | "Tenants" => Some(TENANTS),
        _ => None,
    }
}

/// The files that are given on, as far as there is room.
struct Carrier {
    carried: BTreeMap<String, Carried>,
    left: u64,
}

impl Carrier {
    fn new() -> Self {
        Self { carried: BTreeMap::new(), left: MAX_CARRIED }
    }

    /// Takes an entry of which no bytes are read.
    fn note(&mut self, path: String, carried: Carried) -> Result<(), SourceError> {
        self.carried.insert(path, carried);
        if self.carried.len() > MAX_FILES { Err(SourceError::TooManyFiles) } else { Ok(()) }
    }

    /// Takes a file of so many bytes.
    fn file<E>(
        &mut self,
        path: String,
        size: u64,
        read: impl FnOnce() -> Result<Vec<u8>, E>,
    ) -> Result<(), SourceError> {
        let carried = if size > MAX_FILE {
            Carried::TooLarge(size)
        } else if size > self.left {
            Carried::Beyond
        } else {
            // One that became longer while it was read is cut, and so is none.
            read().map_or(Carried::Unreadable, |bytes| match bytes.len() as u64 {
                length if length > MAX_FILE => Carried::TooLarge(length),
                _ => Carried::File(bytes.into()),
            })
        };
        if matches!(carried, Carried::File(_)) {
            self.left -= size;
        }
        self.note(path, carried)
    }

    fn end(self) -> Arc<BTreeMap<String, Carried>> {
        Arc::new(self.carried)
    }
}

impl Tree {
    fn is_within_bounds(&self) -> Result<(), SourceError> {
        if self.files.len() + self.findings.len() > MAX_FILES { Err(SourceError::TooManyFiles) } else { Ok(()) }
    }
}

fn too_large(path: &str, size: u64) -> Finding {
    Finding::on_file(
        path,
        "file-too-large",
        format!("the file is {size} bytes long"),
        format!("keep it under {MAX_FILE} bytes"),
    )
}
