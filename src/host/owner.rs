//! Whose the gateway's folder and namespace are: that of one data root, and no other's.
//!
//! Two tenantd on one host, each with an engine of its own, would take each other's links and policies for what nobody
//! declares. So each place carries a mark that names a data root: a file in the folder of policies, the alias of the
//! loopback interface in the namespace. The data root has a note of the places that it uses. A mark counts only while that
//! note has the place: where the data root is gone, or uses other places by now, whoever comes next takes the place. What
//! is gone after a restart of the host takes its mark with it.

use std::{
    fs::{self, File},
    io::{self, Read, Write},
    path::{Path, PathBuf},
};

use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};

use super::{
    link::{LinkError, Links},
    modes,
    namespace::{self, NamespaceError},
    replace,
};
use crate::model::Host;

/// The mark's name in the folder of policies.
const MARK: &str = "owner";

/// The note's name in the data root.
const NOTE: &str = "egress.json";

/// The most that is read of a mark or a note, in bytes.
const MAX_FILE: u64 = 16 << 10;

/// Why a place cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum OwnerError {
    /// It is another data root's.
    #[error(
        "the {what} {place} belongs to the tenantd with the data root {owner}: name another {setting} in host.yaml{rest}; \
         where that data root is used no more, remove {mark}",
        what = .0.what(), place = .0.place, owner = .0.owner.display(), setting = .0.setting(), rest = .0.rest(),
        mark = .0.mark
    )]
    Taken(Box<Taken>),
    /// The kernel refuses.
    #[error("cannot {action} {path}", path = path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// The namespace cannot be entered.
    #[error(transparent)]
    Namespace(#[from] NamespaceError),
    /// The namespace's mark cannot be read or set.
    #[error(transparent)]
    Link(#[from] LinkError),
}

/// A place that is another data root's.
#[derive(Debug)]
pub struct Taken {
    kind: TakenPlace,
    place: String,
    owner: PathBuf,
    /// Where it is marked, for a person who removes that.
    mark: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum TakenPlace {
    Policies,
    Namespace,
}

impl Taken {
    fn what(&self) -> &'static str {
        match self.kind {
            TakenPlace::Policies => "folder of policies",
            TakenPlace::Namespace => "network namespace",
        }
    }

    fn setting(&self) -> &'static str {
        match self.kind {
            TakenPlace::Policies => "egress.policies",
            TakenPlace::Namespace => "egress.namespace",
        }
    }

    /// The other settings that two gateways cannot share.
    fn rest(&self) -> &'static str {
        match self.kind {
            TakenPlace::Policies => ", and another egress.namespace and egress.state for a gateway of its own",
            TakenPlace::Namespace => ", and another egress.policies and egress.state for a gateway of its own",
        }
    }
}

/// The places that a data root uses.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Note {
    policies: PathBuf,
    namespace: String,
}

/// A data root, and the places that its settings name.
#[derive(Clone, Copy, Debug)]
pub struct Owner<'a> {
    data_root: &'a Path,
    policies: &'a Path,
    namespace: &'a str,
}

impl<'a> Owner<'a> {
    /// That of a host's settings.
    pub fn new(host: &'a Host) -> Self {
        Self { data_root: &host.data_root, policies: &host.egress.policies, namespace: &host.egress.namespace }
    }

    /// Fails where a place is another data root's.
    ///
    /// # Errors
    /// So it is, or that cannot be found out.
    pub async fn check(&self) -> Result<(), OwnerError> {
        self.checked().await.map(drop)
    }

    /// The same, and returns the links with the namespace, if it is there, for whoever goes on to look at them.
    pub(super) async fn checked(&self) -> Result<Option<Links>, OwnerError> {
        let marked = read(&self.policies.join(MARK))?.map(PathBuf::from);
        self.judge(TakenPlace::Policies, marked)?;
        let links = self.links()?;
        let marked = match &links {
            Some(links) => links.mark().await?,
            None => None,
        };
        self.judge(TakenPlace::Namespace, marked)?;
        Ok(links)
    }

    /// Takes both places, as far as they are there. Whoever has them already writes nothing.
    ///
    /// The note comes first: a mark without it would count for nothing.
    ///
    /// # Errors
    /// A place is another data root's, or the kernel refuses.
    pub async fn claim(&self) -> Result<(), OwnerError> {
        let links = self.checked().await?;
        self.note()?;
        self.mark_policies()?;
        let Some(links) = links else { return Ok(()) };
        let own = self.own();
        if links.mark().await?.as_deref() != Some(own.as_path()) {
            links.set_mark(&own).await?;
            // Another one may have done the same.
            self.judge(TakenPlace::Namespace, links.mark().await?)?;
        }
        Ok(())
    }

    /// The data root by the one path that leads to it without links.
    fn own(&self) -> PathBuf {
        canonical(self.data_root)
    }

    /// Links with the namespace, if it is there.
    fn links(&self) -> Result<Option<Links>, OwnerError> {
        let path = namespace::path(self.namespace)?;
        if !namespace::is_there(&path) {
            return Ok(None);
        }
        Ok(Some(Links::open(Some(&path))?))
    }

    /// Whether a mark lets this data root use a place.
    fn judge(&self, kind: TakenPlace, marked: Option<PathBuf>) -> Result<(), OwnerError> {
        let Some(owner) = marked.filter(|owner| owner.is_absolute() && *owner != self.own()) else { return Ok(()) };
        let path = owner.join(NOTE);
        let note: Option<Note> = read(&path)?.and_then(|text| serde_json::from_str(&text).ok());
        let counts = note.is_some_and(|note| match kind {
            TakenPlace::Policies => canonical(&note.policies) == canonical(self.policies),
            TakenPlace::Namespace => note.namespace == self.namespace,
        });
        if !counts {
            return Ok(());
        }
        let (place, mark) = match kind {
            TakenPlace::Policies => (self.policies.display().to_string(), self.policies.join(MARK)),
            TakenPlace::Namespace => (self.namespace.to_owned(), path),
        };
        Err(OwnerError::Taken(Box::new(Taken { kind, place, owner, mark: mark.display().to_string() })))
    }

    fn note(&self) -> Result<(), OwnerError> {
        let path = self.data_root.join(NOTE);
        let note = Note { policies: self.policies.to_owned(), namespace: self.namespace.to_owned() };
        if read(&path)?.and_then(|text| serde_json::from_str(&text).ok()).as_ref() == Some(&note) {
            return Ok(());
        }
        let failed = |source| OwnerError::Io { action: "write", path: path.clone(), source };
        let text = serde_json::to_vec(&note).map_err(io::Error::from).map_err(failed)?;
        replace(&path, &text).map_err(failed)
    }

    /// Writes the mark of the folder of policies, one process at a time.
    fn mark_policies(&self) -> Result<(), OwnerError> {
        let (path, own) = (self.policies.join(MARK), self.own());
        if read(&path)?.is_some_and(|marked| Path::new(&marked) == own) {
            return Ok(());
        }
        let failed = |source| OwnerError::Io { action: "write", path: path.clone(), source };
        if let Some(parent) = self.policies.parent() {
            // The gateway has to get there.
            modes::make(parent, 0o755).map_err(failed)?;
        }
        modes::make(self.policies, modes::FOLDER).map_err(failed)?;
        let mut file = modes::file(&path).map_err(failed)?;
        flock(&file, FlockOperation::LockExclusive).map_err(io::Error::from).map_err(failed)?;
        self.judge(TakenPlace::Policies, text_of(&mut file).map_err(failed)?.map(PathBuf::from))?;
        file.set_len(0).and_then(|()| io::Seek::rewind(&mut file)).map_err(failed)?;
        writeln!(file, "{}", own.display()).and_then(|()| file.sync_all()).map_err(failed)
    }
}

fn canonical(path: &Path) -> PathBuf {
    fs::canonicalize(path).unwrap_or_else(|_| path.to_owned())
}

/// A file's text; `None` where there is none, or nothing in it.
fn read(path: &Path) -> Result<Option<String>, OwnerError> {
    let result = match File::open(path) {
        Ok(mut file) => text_of(&mut file),
        Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => return Ok(None),
        Err(e) => Err(e),
    };
    result.map_err(|source| OwnerError::Io { action: "read", path: path.to_owned(), source })
}

fn text_of(file: &mut File) -> io::Result<Option<String>> {
    let mut bytes = Vec::new();
    file.take(MAX_FILE).read_to_end(&mut bytes)?;
    let text = String::from_utf8_lossy(&bytes).trim_end_matches('\n').to_owned();
    Ok(Some(text).filter(|text| !text.is_empty()))
}

#[cfg(test)]
mod tests {
    use std::error::Error;

    use super::*;

    /// A host whose namespace is not there.
    fn host(folder: &Path, name: &str) -> io::Result<Host> {
        let mut host = Host { data_root: folder.join(name), ..Host::default() };
        fs::create_dir_all(&host.data_root)?;
        host.egress.policies = folder.join("egress");
        host.egress.namespace = "td-no-such-namespace".to_owned();
        Ok(host)
    }

    fn claims(host: &Host) -> Result<(), String> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|e| e.to_string())?;
        runtime.block_on(Owner::new(host).claim()).map_err(|e| e.to_string())
    }

    #[test]
    fn a_folder_is_one_data_roots_as_long_as_that_is_there_and_uses_it() -> Result<(), Box<dyn Error>> {
        let folder = tempfile::tempdir()?;
        let (mut one, two) = (host(folder.path(), "one")?, host(folder.path(), "two")?);
        for _ in 0..2 {
            claims(&one)?;
            let refused = claims(&two).err().ok_or("it is another's")?;
            for part in ["one", "egress.policies", "egress.namespace", "egress.state", "egress/owner"] {
                assert!(refused.contains(part), "{part}: {refused}");
            }
            assert!(!two.data_root.join(NOTE).exists(), "who is refused leaves nothing");
        }
        // By another path it is the same.
        std::os::unix::fs::symlink(&one.data_root, folder.path().join("link"))?;
        claims(&Host { data_root: folder.path().join("link"), ..one.clone() })?;

        // It uses another folder by now.
        one.egress.policies = folder.path().join("elsewhere");
        claims(&one)?;
        claims(&two)?;
        assert!(claims(&host(folder.path(), "one")?).is_err());
        // It is gone, or was restored without its note.
        fs::remove_dir_all(&two.data_root)?;
        claims(&host(folder.path(), "one")?)?;
        fs::remove_file(one.data_root.join(NOTE))?;
        let three = host(folder.path(), "three")?;
        claims(&three)?;
        assert!(claims(&host(folder.path(), "one")?).is_err());
        Ok(())
    }

    #[test]
    fn what_is_no_mark_or_was_cut_off_keeps_nobody_out() -> Result<(), Box<dyn Error>> {
        let folder = tempfile::tempdir()?;
        let (one, two) = (host(folder.path(), "one")?, host(folder.path(), "two")?);
        for text in ["", "\n", "garbage", "relative/path", "\0\0", "/no/such/data/root"] {
            fs::create_dir_all(&one.egress.policies)?;
            fs::write(one.egress.policies.join(MARK), text)?;
            claims(&two).map_err(|e| format!("{text:?}: {e}"))?;
            fs::remove_dir_all(&one.egress.policies)?;
        }
        // A note that cannot be read counts for nothing, and is written anew by whose it is.
        claims(&one)?;
        fs::write(one.data_root.join(NOTE), "{\"poli")?;
        claims(&two)?;
        fs::remove_file(two.data_root.join(NOTE))?;
        claims(&one)?;
        assert!(claims(&two).is_err());
        Ok(())
    }
}
