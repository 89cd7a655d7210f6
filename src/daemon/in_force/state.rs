//! What the daemon must know again after a restart and cannot read from the engine: which commit is
//! in force, which tenants stand at an older one, and whom an operator asked to leave alone.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{approved::Spent, declaration::Composition, removals::Removals, waits::Waits};
use crate::{
    host,
    model::{PowerHold, Powers, Revision, TokenId, quantity::Timespan, status::Suspension},
};

/// The version of the file's format. The first one had no powers: who reads no more than it would start those that sleep.
const VERSION: u32 = 2;

/// The largest file that is written and read, in bytes: some hundred thousand tenants.
const MAX_STATE: u64 = 64 << 20;

/// The file's content.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(in crate::daemon) struct State {
    version: u32,
    /// The commit in force.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(in crate::daemon) accepted: Option<Accepted>,
    /// Tenants that may have to stand at another commit than the one in force.
    #[serde(default)]
    pub(in crate::daemon) pins: BTreeMap<String, Pin>,
    /// Tenants that are gone, and the commits whose declaration was the last in force: one that comes back is judged by
    /// it.
    #[serde(default, alias = "departed", skip_serializing_if = "BTreeMap::is_empty")]
    pub(in crate::daemon) removed: BTreeMap<String, Composition>,
    /// Which tenants came and went lately.
    #[serde(default, skip_serializing_if = "Removals::is_empty")]
    pub(in crate::daemon) removals: Removals,
    /// Approvals that were used, or came with a commit that was accepted: none of them counts again.
    #[serde(default, skip_serializing_if = "Spent::is_empty")]
    pub(in crate::daemon) spent: Spent,
    /// Tenants that are left alone.
    #[serde(default)]
    pub(in crate::daemon) suspended: BTreeMap<String, Suspension>,
    /// Tenants that were asked to be anything but running.
    #[serde(default, skip_serializing_if = "Powers::is_empty")]
    pub(in crate::daemon) powers: Arc<Powers>,
    /// Whom requests woke, and who waits for memory.
    #[serde(default, skip_serializing_if = "Wakes::is_empty")]
    pub(in crate::daemon) wakes: Wakes,
    /// Tokens that count no more, and from when on none of their age counts anyway.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(in crate::daemon) revoked_tokens: BTreeMap<TokenId, Timestamp>,
}

/// Whom requests woke, and who waits for memory to be woken.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::daemon) struct Wakes {
    /// Tenants that run since a request came, and when it did: nobody else has said since what they are to do.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(in crate::daemon) woken: BTreeMap<String, Timestamp>,
    /// Tenants that sleep, and the power that they get as soon as there is memory for them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(in crate::daemon) waiting: BTreeMap<String, PowerHold>,
}

impl Wakes {
    /// Whether there is nothing to know.
    pub(in crate::daemon) fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// A commit that was accepted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::daemon) struct Accepted {
    pub(in crate::daemon) revision: Revision,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(in crate::daemon) signer: Option<String>,
}

/// A tenant whose declaration in force was not confirmed healthy yet, is known to be bad, waits for an approval, or cannot
/// be read.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::daemon) struct Pin {
    /// The commits whose declaration last ran well; `None` for a tenant that never did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(in crate::daemon) good: Option<Composition>,
    /// The commits whose declaration is in force in the place of the newest one, if another is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(in crate::daemon) stands: Option<Composition>,
    /// What is wrong with the declaration in force, if it is known to be bad.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(in crate::daemon) bad: Option<Bad>,
    /// What the declaration in the commit in force waits for, if it is not carried out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(in crate::daemon) waits: Option<Waits>,
    /// How long the tenant must run well at most, as was settled when its trial began: a later commit can only make it
    /// less.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(in crate::daemon) healthy_after: Option<Timespan>,
}

/// A declaration that a tenant did not run well with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::daemon) struct Bad {
    /// The commit that it came with.
    pub(in crate::daemon) revision: Revision,
    /// Its hash: another declaration is given another chance.
    pub(in crate::daemon) declaration: String,
    /// What went wrong.
    pub(in crate::daemon) reason: String,
}

/// Why the state cannot be kept.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// The kernel refuses.
    #[error("cannot read or write {path}", path = path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// It would be larger than is read again.
    #[error(
        "{path} would be larger than {} MiB, which is not read again: too much is remembered of too many tenants",
        MAX_STATE >> 20, path = path.display()
    )]
    TooMuch {
        /// The file.
        path: PathBuf,
    },
    /// It is larger than is read.
    #[error(
        "{path} has {size} bytes, and no more than {} MiB are read; nothing is done without it: it says which commit is in \
         force and which approvals were used, so look into what made it so large before you move it away",
        MAX_STATE >> 20, path = path.display()
    )]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// Its size in bytes.
        size: u64,
    },
    /// A newer version of the program wrote it.
    #[error(
        "{path} has the format {found} of a newer tenantd; this one knows formats up to {VERSION}. Use that tenantd or a later \
         one, and leave the file where it is: it says which commit is in force and who sleeps",
        path = path.display()
    )]
    Newer {
        /// The file.
        path: PathBuf,
        /// The version of its format.
        found: u32,
    },
}

/// Where the mirror of the config repo lies.
pub(in crate::daemon) fn mirror(data_root: &Path) -> PathBuf {
    data_root.join("source.git")
}

/// Where the state lies.
pub(in crate::daemon) fn path(data_root: &Path) -> PathBuf {
    data_root.join("state.json")
}

/// What tenants were asked to do, as the daemon that keeps this data root last noted it.
///
/// # Errors
/// As those of a daemon's start; of a damaged file nothing is known, and it is left where it is.
pub(in crate::daemon) fn powers(data_root: &Path) -> Result<Arc<Powers>, StateError> {
    Ok(State::read(data_root)?.state(data_root).powers)
}

/// What every version of the file has.
#[derive(Deserialize)]
struct Versioned {
    version: u32,
}

/// What was found of the file.
enum Read {
    State(Box<State>),
    Nothing,
    Damaged,
}

impl Read {
    /// The state, as far as it is known. Where a daemon ran before and what it kept is not there, the powers are lost: it made
    /// its mirror of the config repo before anything else.
    fn state(self, data_root: &Path) -> State {
        let lost = match self {
            Self::State(state) => return *state,
            Self::Nothing => mirror(data_root).exists(),
            Self::Damaged => true,
        };
        State { powers: Arc::new(Powers { lost, ..Powers::default() }), ..State::default() }
    }
}

impl State {
    /// Reads the state; an empty one where there is none. A damaged file is kept under the name
    /// that is returned with it. One of an earlier version is written anew, so that an older program refuses it from then on.
    ///
    /// # Errors
    /// The file cannot be read or written, is larger than any that is written, or was written by a newer version.
    pub(in crate::daemon) fn load(data_root: &Path) -> Result<(Self, Option<PathBuf>), StateError> {
        let read = Self::read(data_root)?;
        let moved_to = matches!(read, Read::Damaged)
            .then(|| data_root.join(format!("state.json.damaged-{}", Timestamp::now().as_second())));
        if let Some(moved_to) = &moved_to {
            let path = path(data_root);
            fs::rename(&path, moved_to).map_err(|source| StateError::Io { path, source })?;
        }
        let state = match read {
            Read::State(earlier) if earlier.version < VERSION => {
                let mut state = *earlier;
                state.save(data_root)?;
                state
            }
            read => read.state(data_root),
        };
        Ok((state, moved_to))
    }

    fn read(data_root: &Path) -> Result<Read, StateError> {
        let path = path(data_root);
        let failed = |source| StateError::Io { path: path.clone(), source };
        let bytes = match fs::metadata(&path).map(|metadata| metadata.len()) {
            Ok(size) if size <= MAX_STATE => fs::read(&path).map_err(failed)?,
            Ok(size) => return Err(StateError::TooLarge { path, size }),
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Read::Nothing),
            Err(e) => return Err(failed(e)),
        };
        if let Ok(Versioned { version: found }) = serde_json::from_slice(&bytes)
            && found > VERSION
        {
            return Err(StateError::Newer { path, found });
        }
        Ok(serde_json::from_slice(&bytes).map_or(Read::Damaged, |state| Read::State(Box::new(state))))
    }

    /// Writes the state, whole or not at all.
    ///
    /// # Errors
    /// It cannot be written, or would not be read again; the former one stands.
    pub(in crate::daemon) fn save(&mut self, data_root: &Path) -> Result<(), StateError> {
        self.version = VERSION;
        let path = path(data_root);
        let failed = |source| StateError::Io { path: path.clone(), source };
        let bytes = serde_json::to_vec(self).map_err(|e| failed(io::Error::other(e)))?;
        if bytes.len() as u64 > MAX_STATE {
            return Err(StateError::TooMuch { path });
        }
        let write = || {
            host::replace(&path, &bytes)?;
            File::open(data_root)?.sync_all()
        };
        write().map_err(failed)
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
            pins: BTreeMap::from([(
                "ant".to_owned(),
                Pin { good: Some(revision.into()), bad: Some(bad), ..Pin::default() },
            )]),
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
    fn nothing_is_written_that_would_not_be_read_and_nothing_large_is_put_away()
    -> Result<(), Box<dyn std::error::Error>> {
        let folder = tempfile::tempdir()?;
        let former = {
            let mut state = some();
            state.save(folder.path())?;
            state
        };
        let mut larger = former.clone();
        let waits = Waits { trailer: "x".repeat(1 << 20), ..Waits::default() };
        larger.pins.extend((0..64).map(|n| (format!("t{n}"), Pin { waits: Some(waits.clone()), ..Pin::default() })));
        assert!(matches!(larger.save(folder.path()), Err(StateError::TooMuch { .. })));
        assert_eq!(State::load(folder.path())?, (former, None));

        File::options().write(true).open(path(folder.path()))?.set_len(MAX_STATE + 1)?;
        let error = State::load(folder.path()).err().map(|e| e.to_string()).unwrap_or_default();
        assert!(error.contains("67108865 bytes") && error.contains("no more than 64 MiB"), "{error}");
        assert_eq!(fs::read_dir(folder.path())?.count(), 1);
        assert_eq!(fs::metadata(path(folder.path()))?.len(), MAX_STATE + 1);
        Ok(())
    }

    #[test]
    fn a_damaged_file_is_kept_beside_and_a_newer_one_is_refused() -> Result<(), Box<dyn std::error::Error>> {
        let folder = tempfile::tempdir()?;
        fs::write(path(folder.path()), "{\"version\": 1, \"pins\": [")?;
        let (state, moved_to) = State::load(folder.path())?;
        assert!(state.powers.lost && state.accepted.is_none());
        assert!(moved_to.is_some_and(|moved_to| moved_to.exists()));
        fs::write(path(folder.path()), "{\"version\": 3, \"other\": 1}")?;
        assert!(matches!(State::load(folder.path()), Err(StateError::Newer { found: 3, .. })));
        Ok(())
    }

    /// What a daemon of the first version left is the same to this one, wherever a kill cut its first start off.
    #[test]
    fn the_first_version_is_written_anew_at_a_start_and_safe_at_every_kill() -> Result<(), Box<dyn std::error::Error>> {
        let current = some();
        let mut first = serde_json::to_value(&current)?;
        first["version"] = 1.into();
        let (first, second) = (first.to_string(), serde_json::json!({"version": 2}).to_string());
        for (left, torn) in
            [(&first, None), (&first, Some("")), (&first, Some("{\"versi")), (&first, Some(second.as_str()))]
        {
            let folder = tempfile::tempdir()?;
            let file = path(folder.path());
            fs::write(&file, left)?;
            torn.map(|torn| fs::write(file.with_file_name("state.json.new"), torn)).transpose()?;
            assert_eq!(powers(folder.path())?, Arc::default(), "who only reads it changes nothing");
            assert_eq!(&fs::read_to_string(&file)?, left);
            for _ in 0..2 {
                let (state, moved_to) = State::load(folder.path())?;
                assert_eq!((state, moved_to), (State { version: VERSION, ..current.clone() }, None));
                let Versioned { version } = serde_json::from_slice(&fs::read(&file)?)?;
                assert_eq!(version, VERSION);
                assert_eq!(fs::read_dir(folder.path())?.count(), 1);
            }
        }
        Ok(())
    }
}
