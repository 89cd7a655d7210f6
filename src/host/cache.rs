//! Files that spare work and nothing else: what is missing, or could be somebody else's, is made anew.
//!
//! They lie in a folder of their own that their owner alone may enter, in one that nobody else may write to.

use std::{
    fs, io,
    io::{Read, Write},
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
    time::SystemTime,
};

use rustix::fs::OFlags;

use super::modes;

/// How many files are kept in one folder.
const FILES: usize = 8;

/// A folder of such files.
#[derive(Clone, Debug)]
pub struct Cache {
    folder: PathBuf,
}

impl Cache {
    /// The folder of this name in another one. `None` where that is not this user's, or others may write to it.
    pub fn within(folder: &Path, name: &str) -> Option<Self> {
        let found = fs::metadata(folder).ok()?;
        let is_ours = found.is_dir() && found.uid() == own_uid() && found.mode() & 0o022 == 0;
        is_ours.then(|| Self { folder: folder.join(name) })
    }

    /// What a file holds, if it is there, is this user's alone, and has no more bytes than `most`.
    pub fn read(&self, name: &str, most: u64) -> Option<Vec<u8>> {
        let folder = fs::symlink_metadata(&self.folder).ok()?;
        if !folder.is_dir() || folder.uid() != own_uid() || folder.mode() & 0o077 != 0 {
            return None;
        }
        let flags = i32::try_from((OFlags::NOFOLLOW | OFlags::NONBLOCK).bits()).ok()?;
        let file = fs::File::options().read(true).custom_flags(flags).open(self.folder.join(name)).ok()?;
        let found = file.metadata().ok()?;
        let is_ours = found.is_file() && found.nlink() == 1 && found.uid() == own_uid() && found.mode() & 0o077 == 0;
        if !is_ours || found.len() > most {
            return None;
        }
        let mut bytes = Vec::with_capacity(usize::try_from(found.len()).ok()?);
        file.take(most).read_to_end(&mut bytes).ok()?;
        Some(bytes)
    }

    /// Keeps a file in place of one of the same name, and removes the oldest where there are too many. It is not waited
    /// until it is on the disk: whoever reads it sees whether it is whole.
    ///
    /// # Errors
    /// The folder is another user's, or cannot be written to.
    pub fn keep(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        modes::folder(&self.folder, modes::FOLDER)?;
        let new = self.folder.join(format!("{name}.{}.new", std::process::id()));
        let written = modes::create(&new).and_then(|mut file| file.write_all(bytes));
        if let Err(e) = written.and_then(|()| fs::rename(&new, self.folder.join(name))) {
            fs::remove_file(&new)?;
            return Err(e);
        }
        let mut files: Vec<(SystemTime, PathBuf)> = Vec::new();
        for entry in fs::read_dir(&self.folder)? {
            let entry = entry?;
            files.push((entry.metadata()?.modified()?, entry.path()));
        }
        files.sort();
        let surplus = files.len().saturating_sub(FILES);
        files.iter().take(surplus).try_for_each(|(_, path)| fs::remove_file(path))
    }
}

fn own_uid() -> u32 {
    rustix::process::geteuid().as_raw()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    fn set(path: &Path, mode: u32) {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn a_file_is_read_while_nobody_else_can_have_written_it() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::within(folder.path(), "kept").unwrap();
        assert_eq!(cache.read("a", 10), None);
        cache.keep("a", b"text").unwrap();
        let read = || cache.read("a", 10);
        assert_eq!((read().as_deref(), cache.read("a", 3)), (Some(b"text".as_slice()), None));
        let (kept, file) = (folder.path().join("kept"), folder.path().join("kept/a"));
        assert_eq!(fs::metadata(&file).unwrap().mode() & 0o777, 0o600);
        for (path, open, closed) in [(&file, 0o620, 0o600), (&file, 0o604, 0o600), (&kept, 0o770, 0o700)] {
            set(path, open);
            assert_eq!(read(), None, "{open:o}");
            set(path, closed);
            assert!(read().is_some());
        }
        fs::hard_link(&file, folder.path().join("second")).unwrap();
        assert_eq!(read(), None, "it has a second name");
        fs::rename(folder.path().join("second"), &file).unwrap();
        fs::remove_file(folder.path().join("second")).unwrap();
        assert!(read().is_some());
        symlink(&file, kept.join("b")).unwrap();
        assert_eq!(cache.read("b", 10), None, "a link");
        set(folder.path(), 0o777);
        assert!(Cache::within(folder.path(), "kept").is_none(), "anybody may write beside it");
    }

    #[test]
    fn few_files_are_kept() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::within(folder.path(), "kept").unwrap();
        (0..10).for_each(|number| cache.keep(&number.to_string(), b"x").unwrap());
        assert_eq!(fs::read_dir(folder.path().join("kept")).unwrap().count(), FILES);
        cache.keep("9", b"y").unwrap();
        assert_eq!(cache.read("9", 10).as_deref(), Some(b"y".as_slice()));
    }
}
