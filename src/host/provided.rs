//! The folder that every container gets read-only as `/run/tenantd`: for what tenantd brings along.
//!
//! It lies at `provided/run` under the data root, below a folder that only root may enter: tenants reach it by their mounts
//! alone. It belongs to root, everybody may read it, and nobody else may write to it.

use std::{
    fs, io,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use super::modes;

/// What it is: tenants read what lies there.
const MODE: u32 = 0o755;

/// Why it could not be made.
#[derive(Debug, thiserror::Error)]
#[error("cannot prepare {path}, which containers get as /run/tenantd", path = path.display())]
pub struct ProvidedError {
    path: PathBuf,
    source: io::Error,
}

/// Makes the folder, or puts the mode of the one that is there right. What lies in it stays.
///
/// # Errors
/// It belongs to another user, it is no folder, or the kernel refuses.
pub fn provide(path: &Path) -> Result<(), ProvidedError> {
    let prepare = || -> io::Result<()> {
        if let Some(closed) = path.parent() {
            modes::folder(closed, modes::FOLDER)?;
        }
        modes::folder(path, MODE)?;
        // It is ours by now, and so is the folder that it lies in.
        if fs::metadata(path)?.permissions().mode() & 0o777 != MODE {
            fs::set_permissions(path, fs::Permissions::from_mode(MODE))?;
        }
        Ok(())
    };
    prepare().map_err(|source| ProvidedError { path: path.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_made_and_put_right_whatever_was_made_of_it() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("provided/run");
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
        provide(&path).unwrap();
        assert_eq!((mode(&path), mode(path.parent().unwrap())), (0o755, 0o700));
        for wrong in [0o777, 0o700, 0o775, 0o000] {
            fs::set_permissions(&path, fs::Permissions::from_mode(wrong)).unwrap();
            provide(&path).unwrap();
            assert_eq!(mode(&path), 0o755, "{wrong:o}");
        }
        fs::remove_dir(&path).unwrap();
        fs::write(&path, "").unwrap();
        let refused = provide(&path).unwrap_err();
        assert!(refused.to_string().contains("/run/tenantd"), "{refused}");
    }
}
