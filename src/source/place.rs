//! Where a repository lies that is named by a path, as git finds it.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// The longest file that is taken for a pointer to a folder, in bytes.
const LONGEST: u64 = 8 << 10;

/// A repository as a command names it.
#[derive(Clone, Copy, Debug)]
pub struct Place<'a> {
    /// Its path.
    pub path: &'a Path,
    /// The repository on this host that the daemon follows, if any. Whoever it belongs to, its owner is trusted: the
    /// host's settings name it.
    pub followed: Option<&'a Path>,
}

impl<'a, P: AsRef<Path> + ?Sized> From<&'a P> for Place<'a> {
    fn from(path: &'a P) -> Self {
        Self { path: path.as_ref(), followed: None }
    }
}

impl Place<'_> {
    /// Whether it is the repository that the daemon follows.
    pub(super) fn is_followed(&self) -> bool {
        let folder = |path: &Path| common_folder(path)?.canonicalize().ok();
        self.followed.and_then(folder).is_some_and(|followed| folder(self.path) == Some(followed))
    }
}

/// The path that leads to the repository, with the suffix `.git` where that was left out; `None` where there is none.
pub(super) fn root(path: &Path) -> Option<PathBuf> {
    candidates(path).into_iter().find(|root| folder_of(root).is_some())
}

/// Whether a repository lies at this very path.
pub(super) fn is_root(path: &Path) -> bool {
    folder_of(path).is_some()
}

/// The repository's own folder, which is not the one with its branches for a further work tree of another repository.
pub(super) fn own_folder(path: &Path) -> Option<PathBuf> {
    folder_of(&root(path)?)
}

/// Where a repository keeps its branches: bare, with a work tree, or a further work tree of another one.
pub(super) fn common_folder(path: &Path) -> Option<PathBuf> {
    let folder = own_folder(path)?;
    Some(pointer(&folder.join("commondir"), None).unwrap_or(folder))
}

/// A path as it is, and with the suffix.
fn candidates(path: &Path) -> [PathBuf; 2] {
    let mut with_suffix = path.as_os_str().to_owned();
    with_suffix.push(".git");
    [path.to_owned(), PathBuf::from(with_suffix)]
}

fn folder_of(root: &Path) -> Option<PathBuf> {
    [root.join(".git"), root.to_owned()].into_iter().find_map(|candidate| {
        let folder = pointer(&candidate, Some("gitdir: ")).unwrap_or(candidate);
        let has_objects = folder.join("objects").is_dir() || folder.join("commondir").is_file();
        (has_objects && folder.join("HEAD").is_file()).then_some(folder)
    })
}

/// The folder that a small file names, counted from the file's own.
fn pointer(file: &Path, prefix: Option<&str>) -> Option<PathBuf> {
    let metadata = fs::metadata(file).ok()?;
    if !metadata.is_file() || metadata.len() > LONGEST {
        return None;
    }
    let text = fs::read_to_string(file).ok()?;
    let target = prefix.map_or(Some(text.as_str()), |prefix| text.strip_prefix(prefix))?;
    Some(file.parent()?.join(target.trim_end_matches(['\n', '\r'])))
}
