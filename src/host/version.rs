//! The version of a folder that one process at a time keeps: an older tenantd leaves alone what a newer one keeps there.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use super::replace;

/// The version of the names and forms of all that lies below a data root. What has a version of its own, such as the state and
/// the journal, has it beside this one.
pub const DATA_VERSION: u32 = 2;

/// The file that says it.
const NAME: &str = "version";

/// Folders that had another name before version 2, and their name now.
const RENAMED: [(&str, &str); 2] = [("aside", "archive"), ("wishes", "requests")];

/// Why a folder is left alone.
#[derive(Debug, thiserror::Error)]
pub enum VersionError {
    /// A newer program keeps it.
    #[error(
        "{folder} is kept by a newer tenantd: it has version {found}, and this one knows versions up to {DATA_VERSION}; nothing \
         was changed there",
        folder = folder.display()
    )]
    Newer {
        /// The data root.
        folder: PathBuf,
        /// Its version.
        found: u32,
    },
    /// It says something else.
    #[error("{path} holds no version", path = .0.display())]
    Unknown(PathBuf),
    /// It cannot be read or written.
    #[error("cannot read or write {path}", path = path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
}

/// Renames what an earlier version names otherwise, then writes the version into a folder that has none or an earlier one.
/// Whoever calls holds the folder's lock. To be killed at any point is safe: the file has the former version or this one, and
/// what was renamed already is left.
///
/// # Errors
/// A newer program keeps the folder, or it cannot be found out.
pub(super) fn claim(folder: &Path) -> Result<(), VersionError> {
    let path = folder.join(NAME);
    let failed = |source| VersionError::Io { path: path.clone(), source };
    match fs::read_to_string(&path) {
        Ok(text) => match text.trim().parse::<u32>() {
            Ok(found) if found > DATA_VERSION => return Err(VersionError::Newer { folder: folder.to_owned(), found }),
            Ok(DATA_VERSION) => return Ok(()),
            Ok(_) => {}
            Err(_) => return Err(VersionError::Unknown(path)),
        },
        Err(e) if e.kind() == io::ErrorKind::NotFound => {}
        Err(e) => return Err(failed(e)),
    }
    for (before, now) in RENAMED {
        match fs::rename(folder.join(before), folder.join(now)) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => {
                return Err(VersionError::Io { path: folder.join(before), source });
            }
            _ => {}
        }
    }
    replace(&path, format!("{DATA_VERSION}\n").as_bytes()).map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Lock, LockError};

    #[test]
    fn what_a_newer_program_keeps_is_left_alone() -> Result<(), Box<dyn std::error::Error>> {
        let folder = tempfile::tempdir()?;
        let (path, root) = (folder.path().join(NAME), folder.path());
        drop(Lock::take(root)?);
        assert_eq!(fs::read_to_string(&path)?, "2\n");
        fs::write(&path, "3\n")?;
        let refused = Lock::take(root).err().map(|e| e.to_string()).unwrap_or_default();
        assert!(refused.contains("a newer tenantd") && refused.contains("version 3"), "{refused}");
        fs::write(&path, "two")?;
        assert!(matches!(Lock::take(root), Err(LockError::Version(VersionError::Unknown(_)))));
        assert_eq!(fs::read_to_string(&path)?, "two");
        Ok(())
    }

    #[test]
    fn a_kill_while_it_is_written_changes_nothing_about_the_end() -> Result<(), Box<dyn std::error::Error>> {
        for before in [None, Some("1\n")] {
            for torn in [None, Some(""), Some("9")] {
                let folder = tempfile::tempdir()?;
                for (name, text) in [(NAME, before), ("version.new", torn)] {
                    text.map(|text| fs::write(folder.path().join(name), text)).transpose()?;
                }
                drop(Lock::take(folder.path())?);
                assert_eq!(fs::read_to_string(folder.path().join(NAME))?, "2\n");
                assert!(!folder.path().join("version.new").exists());
            }
        }
        Ok(())
    }

    #[test]
    fn folders_of_an_earlier_version_are_renamed_with_what_is_in_them() -> Result<(), Box<dyn std::error::Error>> {
        for renamed_before in [false, true] {
            let folder = tempfile::tempdir()?;
            let root = folder.path();
            fs::write(root.join(NAME), "1\n")?;
            fs::create_dir(root.join(if renamed_before { "archive" } else { "aside" }))?;
            fs::create_dir(root.join("wishes"))?;
            fs::write(root.join("wishes/acme"), "{}")?;
            drop(Lock::take(root)?);
            assert_eq!(fs::read_to_string(root.join("requests/acme"))?, "{}");
            assert!(root.join("archive").is_dir() && !root.join("aside").exists() && !root.join("wishes").exists());
        }
        Ok(())
    }
}
