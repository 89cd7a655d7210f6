//! Who may reach what tenantd makes: modes that do not depend on the process's mask, and are mended where they exist.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io,
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt},
    path::Path,
};

use rustix::fs::{Mode, OFlags};

/// A folder that its owner alone may enter.
pub const FOLDER: u32 = 0o700;

/// A file that its owner alone may read.
pub const FILE: u32 = 0o600;

/// Keeps what this process and the programs that it starts make from everybody else, whatever it began with.
pub fn keep_private() {
    rustix::process::umask(Mode::RWXG | Mode::RWXO);
}

/// Makes a folder with just this mode, and its missing parents with the same. One that is there stays as it is.
///
/// # Errors
/// The kernel refuses.
pub fn make(path: &Path, mode: u32) -> io::Result<()> {
    if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty())
        && !parent.is_dir()
    {
        make(parent, mode)?;
    }
    match DirBuilder::new().mode(mode).create(path) {
        // What the mask took away is given back, and nobody else could enter meanwhile.
        Ok(()) => open(path, OFlags::DIRECTORY)?.set_permissions(fs::Permissions::from_mode(mode)),
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => Ok(()),
        Err(e) => Err(e),
    }
}

/// Makes a folder, or takes from the one that is there what `mode` does not allow.
///
/// # Errors
/// It belongs to another user, who may have put anything there, or the kernel refuses.
pub fn folder(path: &Path, mode: u32) -> io::Result<()> {
    make(path, mode)?;
    tighten(&open_own(path)?, mode)
}

/// Makes the data root for its owner alone, or closes it and what lies in it. Its content is closed by that; modes of what
/// lies directly in it are mended for the day that somebody opens it.
///
/// # Errors
/// It belongs to another user, or the kernel refuses.
pub fn data_root(path: &Path) -> io::Result<()> {
    folder(path, FOLDER)?;
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        let mode = match entry.file_type()? {
            kind if kind.is_dir() => FOLDER,
            kind if kind.is_file() => FILE,
            _ => continue,
        };
        // What is gone by now, or became something else, needs no mode.
        let Ok(found) = open(&entry.path(), OFlags::empty()) else { continue };
        if found.metadata()?.uid() == own_uid() {
            tighten(&found, mode)?;
        }
    }
    Ok(())
}

/// Takes from everybody the right to put things into a folder of ours, or to replace them. One in which nobody can touch
/// what is others', as in `/tmp`, stays as it is.
///
/// # Errors
/// The kernel refuses.
pub fn close_to_writers(path: &Path) -> io::Result<()> {
    let folder = File::options().read(true).custom_flags(bits(OFlags::DIRECTORY)).open(path)?;
    let found = folder.metadata()?;
    let is_open = found.mode() & 0o1002 == 0o002 && found.uid() == own_uid();
    if is_open { tighten(&folder, 0o775) } else { Ok(()) }
}

/// Opens a file of ours to read and write, and makes it where there is none: with the mode 0600, whoever made it before.
///
/// # Errors
/// In its place is a link, a pipe, a second name of another file, or a file of another user's.
pub fn file(path: &Path) -> io::Result<File> {
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false).mode(FILE).custom_flags(bits(flags));
    let file = options.open(path)?;
    let found = file.metadata()?;
    if !found.is_file() {
        return Err(io::Error::other("it is not a file"));
    }
    if found.nlink() > 1 {
        return Err(io::Error::other("it has a second name, under which it is something else"));
    }
    is_ours(found.uid())?;
    tighten(&file, FILE)?;
    Ok(file)
}

/// Makes a new file with the mode 0600, to be moved to its place. What a process before left there is removed.
///
/// # Errors
/// The kernel refuses.
pub fn create(path: &Path) -> io::Result<File> {
    match fs::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
        _ => {}
    }
    let file = OpenOptions::new().write(true).create_new(true).mode(FILE).open(path)?;
    file.set_permissions(fs::Permissions::from_mode(FILE))?;
    Ok(file)
}

/// Takes away what `mode` does not allow, and gives nothing.
fn tighten(file: &File, mode: u32) -> io::Result<()> {
    let found = file.metadata()?.mode() & 0o7777;
    if found & 0o777 & !mode == 0 {
        return Ok(());
    }
    file.set_permissions(fs::Permissions::from_mode(found & (mode | 0o7000)))
}

/// Opens a folder that is ours. A link is followed where it is ours as well: an operator may have moved the folder.
fn open_own(path: &Path) -> io::Result<File> {
    let found = fs::symlink_metadata(path)?;
    is_ours(found.uid())?;
    let folder = match found.is_symlink() {
        true => File::options().read(true).custom_flags(bits(OFlags::DIRECTORY)).open(path)?,
        false => open(path, OFlags::DIRECTORY)?,
    };
    is_ours(folder.metadata()?.uid())?;
    Ok(folder)
}

/// Opens what lies at a path, and not where a link leads to. A pipe makes nobody wait.
fn open(path: &Path, further: OFlags) -> io::Result<File> {
    File::options().read(true).custom_flags(bits(further | OFlags::NOFOLLOW | OFlags::NONBLOCK)).open(path)
}

fn is_ours(uid: u32) -> io::Result<()> {
    if uid == own_uid() {
        return Ok(());
    }
    Err(io::Error::other(format!(
        "it belongs to user {uid}, who could put anything there; give it to user {}, or name another path",
        own_uid()
    )))
}

fn own_uid() -> u32 {
    rustix::process::geteuid().as_raw()
}

fn bits(flags: OFlags) -> i32 {
    i32::try_from(flags.bits()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{chown, symlink};

    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::symlink_metadata(path).unwrap().mode() & 0o7777
    }

    fn set(path: &Path, mode: u32) {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn what_is_open_is_closed_and_what_is_closed_stays_closed() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("a/data");
        data_root(&root).unwrap();
        assert_eq!((mode(&root), mode(root.parent().unwrap())), (0o700, 0o700));
        for (name, before, after) in
            [("lock", 0o644, 0o600), ("state.json", 0o666, 0o600), ("secret", 0o400, 0o400), ("set", 0o4755, 0o4600)]
        {
            fs::write(root.join(name), "x").unwrap();
            set(&root.join(name), before);
            data_root(&root).unwrap();
            assert_eq!(mode(&root.join(name)), after, "{name}");
        }
        for (before, after) in [(0o777, 0o700), (0o1777, 0o1700), (0o500, 0o500)] {
            set(&root, before);
            data_root(&root).unwrap();
            assert_eq!(mode(&root), after);
        }
    }

    #[test]
    fn a_folder_where_everybody_could_replace_a_socket_is_closed_to_writers() {
        let folder = tempfile::tempdir().unwrap();
        for (before, after) in [(0o777, 0o775), (0o755, 0o755), (0o1777, 0o1777), (0o770, 0o770)] {
            set(folder.path(), before);
            close_to_writers(folder.path()).unwrap();
            assert_eq!(mode(folder.path()), after, "{before:o}");
        }
    }

    #[test]
    fn links_are_not_followed_out_of_the_data_root() {
        let folder = tempfile::tempdir().unwrap();
        let (root, outside) = (folder.path().join("data"), folder.path().join("outside"));
        fs::create_dir(&root).unwrap();
        fs::write(&outside, "x").unwrap();
        set(&outside, 0o644);
        symlink(&outside, root.join("lock")).unwrap();
        data_root(&root).unwrap();
        assert_eq!(mode(&outside), 0o644);
        assert!(file(&root.join("lock")).is_err());
        // A second name of a file elsewhere is no lock.
        fs::hard_link(&outside, root.join("other")).unwrap();
        assert!(file(&root.join("other")).unwrap_err().to_string().contains("second name"));
    }

    #[test]
    fn what_belongs_to_another_user_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("data");
        fs::create_dir(&root).unwrap();
        chown(&root, Some(65_534), None).unwrap();
        assert!(data_root(&root).unwrap_err().to_string().contains("belongs to user 65534"));
        // A link of another user's leads where that user wants.
        let link = folder.path().join("link");
        let target = folder.path().join("target");
        fs::create_dir(&target).unwrap();
        set(&target, 0o755);
        symlink(&target, &link).unwrap();
        std::os::unix::fs::lchown(&link, Some(65_534), None).unwrap();
        assert!(data_root(&link).is_err());
        assert_eq!(mode(&target), 0o755);
        std::os::unix::fs::lchown(&link, Some(own_uid()), None).unwrap();
        data_root(&link).unwrap();
        assert_eq!(mode(&target), 0o700);
    }

    #[test]
    fn a_pipe_in_the_place_of_a_file_makes_nobody_wait() {
        let folder = tempfile::tempdir().unwrap();
        let pipe = folder.path().join("lock");
        let made = std::process::Command::new("mkfifo").arg(&pipe).status().unwrap();
        assert!(made.success());
        assert!(file(&pipe).unwrap_err().to_string().contains("not a file"));
    }
}
