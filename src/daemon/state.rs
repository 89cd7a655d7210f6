//! What the daemon must know again after a restart and cannot read from the engine: which commit is
//! in force, which tenants stand at an older one, and whom an operator asked to leave alone.

use std::{
    collections::BTreeMap,
    fmt,
    fs::{self, File},
    io,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use crate::{
    host,
    model::{Revision, status::Suspension},
    source::TRAILER,
};

/// The version of the file's format.
const VERSION: u32 = 1;

/// The largest file that is read, in bytes: some hundred thousand tenants.
const MAX_STATE: u64 = 64 << 20;

/// The file's content.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct State {
    version: u32,
    /// The commit in force.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) accepted: Option<Accepted>,
    /// Tenants that may have to stand at another commit than the one in force.
    #[serde(default)]
    pub(super) pins: BTreeMap<String, Pin>,
    /// Tenants that are gone, and the commit whose declaration was the last in force: one that comes back is judged by
    /// it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) departed: BTreeMap<String, Revision>,
    /// Tenants that are left alone.
    #[serde(default)]
    pub(super) suspended: BTreeMap<String, Suspension>,
}

/// A commit that was accepted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Accepted {
    pub(super) revision: Revision,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) signer: Option<String>,
}

/// A tenant whose declaration in force has not proved good yet, is known to be bad, waits for an approval, or cannot
/// be read.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Pin {
    /// The commit whose declaration last ran well; `None` for a tenant that never did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) good: Option<Revision>,
    /// What is wrong with the declaration in force, if it is known to be bad.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) bad: Option<Bad>,
    /// What the declaration in the commit in force waits for, if it is not carried out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) waits: Option<Waits>,
}

/// A declaration that loosens, and that nobody has approved yet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Waits {
    /// Its hash: another declaration is judged anew.
    pub(super) declaration: String,
    /// The commit whose declaration stays in force; `None` for a tenant that is new.
    pub(super) at: Option<Revision>,
    /// What loosens, each in a line.
    pub(super) loosens: Vec<String>,
    /// Who may approve it.
    pub(super) approvers: Vec<String>,
}

impl fmt::Display for Waits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { loosens, approvers, at, .. } = self;
        let stands =
            at.as_ref().map_or_else(|| "it is not made".to_owned(), |at| format!("it stands at {}", at.short()));
        write!(
            f,
            "it waits for an approval of {}, by a signed commit with the trailer {TRAILER}; {stands}; what loosens: {}",
            approvers.join(" or "),
            loosens.join(", ")
        )
    }
}

/// A declaration that a tenant did not run well with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Bad {
    /// The commit that it came with.
    pub(super) revision: Revision,
    /// Its hash: another declaration is given another chance.
    pub(super) declaration: String,
    /// What went wrong.
    pub(super) reason: String,
}

/// Why the state cannot be kept.
#[derive(Debug, thiserror::Error)]
pub(super) enum StateError {
    #[error("cannot read or write {path}", path = path.display())]
    Io { path: PathBuf, source: io::Error },
    #[error("{path} has the format {found} of a newer tenantd; this one knows {VERSION}", path = path.display())]
    Newer { path: PathBuf, found: u32 },
}

fn path(data_root: &Path) -> PathBuf {
    data_root.join("state.json")
}

impl State {
    /// Reads the state; an empty one where there is none. A damaged file is kept aside under the name
    /// that is returned with it.
    ///
    /// # Errors
    /// The file cannot be read, or was written by a newer version.
    pub(super) fn load(data_root: &Path) -> Result<(Self, Option<PathBuf>), StateError> {
        let path = path(data_root);
        let failed = |source| StateError::Io { path: path.clone(), source };
        let bytes = match fs::metadata(&path).map(|metadata| metadata.len()) {
            Ok(size) if size <= MAX_STATE => fs::read(&path).map_err(failed)?,
            Ok(_) => Vec::new(),
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok((Self::default(), None)),
            Err(e) => return Err(failed(e)),
        };
        #[derive(Deserialize)]
        struct Versioned {
            version: u32,
        }
        if let Ok(Versioned { version: found }) = serde_json::from_slice(&bytes)
            && found > VERSION
        {
            return Err(StateError::Newer { path, found });
        }
        match serde_json::from_slice(&bytes) {
            Ok(state) => Ok((state, None)),
            Err(_) => {
                let aside = data_root.join(format!("state.json.damaged-{}", jiff::Timestamp::now().as_second()));
                fs::rename(&path, &aside).map_err(failed)?;
                Ok((Self::default(), Some(aside)))
            }
        }
    }

    /// Writes the state, whole or not at all.
    ///
    /// # Errors
    /// It cannot be written; the former one stands.
    pub(super) fn save(&mut self, data_root: &Path) -> Result<(), StateError> {
        self.version = VERSION;
        let path = path(data_root);
        let write = || {
            host::replace(&path, &serde_json::to_vec(self).map_err(io::Error::other)?)?;
            File::open(data_root)?.sync_all()
        };
        write().map_err(|source| StateError::Io { path: path.clone(), source })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn some() -> State {
        let revision = Revision { branch: "main".to_owned(), commit: "a".repeat(40) };
        let bad = Bad { revision: revision.clone(), declaration: "d".to_owned(), reason: "it ended".to_owned() };
        State {
            accepted: Some(Accepted { revision: revision.clone(), signer: None }),
            pins: BTreeMap::from([("ant".to_owned(), Pin { good: Some(revision), bad: Some(bad), waits: None })]),
            ..State::default()
        }
    }

    #[test]
    fn what_is_saved_is_read_again() -> Result<(), Box<dyn std::error::Error>> {
        let folder = tempfile::tempdir()?;
        let mut state = some();
        state.save(folder.path())?;
        assert_eq!(State::load(folder.path())?, (state, None));
        Ok(())
    }

    #[test]
    fn a_damaged_file_is_kept_aside_and_a_newer_one_is_refused() -> Result<(), Box<dyn std::error::Error>> {
        let folder = tempfile::tempdir()?;
        fs::write(path(folder.path()), "{\"version\": 1, \"pins\": [")?;
        let (state, aside) = State::load(folder.path())?;
        assert_eq!(state, State::default());
        assert!(aside.is_some_and(|aside| aside.exists()));
        fs::write(path(folder.path()), "{\"version\": 2, \"other\": 1}")?;
        assert!(matches!(State::load(folder.path()), Err(StateError::Newer { found: 2, .. })));
        Ok(())
    }
}
