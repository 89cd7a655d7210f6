//! A config repo as it lies in a folder.

use std::{
    fs::{self, DirEntry, File, FileType},
    io::{self, Read},
    os::unix::fs::OpenOptionsExt,
    path::Path,
};

use super::{
    MAX_FILE, SourceError,
    budget::{self, Budget},
    carrier::Carrier,
    entries::{EntryKind, GIVEN, MAX_GIVEN_DEPTH, TENANTS, Verdict, is_looked_into, judge, too_large},
};
use crate::model::{
    Finding,
    tree::{Carried, SourceFile, Tree},
};

/// Reads a folder that need not be committed, nor be a repository.
///
/// # Errors
/// The folder cannot be read. A single file that cannot be read is a finding, and so is a folder that is larger than
/// the bounds.
pub fn read_directory(root: &Path) -> Result<Tree, SourceError> {
    let revision = format!("{} (not committed)", root.display());
    budget::within(revision.clone(), read_all(root, revision))
}

fn read_all(root: &Path, revision: String) -> Result<Tree, SourceError> {
    let mut tree = Tree { revision, ..Tree::default() };
    let mut budget = Budget::new();
    read_folder(root, "", &mut tree, &mut budget)?;
    let tenants = root.join(TENANTS);
    if fs::symlink_metadata(&tenants).is_ok_and(|metadata| metadata.is_dir()) {
        read_folder(&tenants, "tenants/", &mut tree, &mut budget)?;
    }
    let (mut carrier, mut budget) = (Carrier::new(), Budget::new());
    for name in GIVEN {
        let folder = root.join(name);
        if fs::symlink_metadata(&folder).is_ok_and(|metadata| metadata.is_dir()) {
            carry(&folder, name, MAX_GIVEN_DEPTH, &mut carrier, &mut budget)?;
        }
    }
    tree.carried = carrier.end();
    tree.files.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(tree)
}

/// Takes everything in a folder, by the order of the names. What no YAML file can name is passed over.
fn carry(
    folder: &Path,
    path: &str,
    depth: usize,
    carrier: &mut Carrier,
    budget: &mut Budget,
) -> Result<(), SourceError> {
    let failed = |source| SourceError::Folder { path: folder.display().to_string(), source };
    let entries = fs::read_dir(folder).map_err(failed)?;
    let mut names: Vec<DirEntry> = Vec::new();
    for entry in entries {
        let entry = entry.map_err(failed)?;
        budget.name(path.len() + 1 + entry.file_name().len())?;
        names.push(entry);
    }
    names.sort_by_key(DirEntry::file_name);
    for entry in names {
        let Ok(name) = entry.file_name().into_string() else { continue };
        let path = format!("{path}/{name}");
        match kind(entry.file_type().map_err(failed)?) {
            EntryKind::File => {
                let size = entry.metadata().map_err(failed)?.len();
                carrier.file(path, size, || read_file(&entry.path()).map(Into::into))?;
            }
            EntryKind::Folder if depth > 0 => {
                carrier.note(path.clone(), Carried::Folder)?;
                carry(&entry.path(), &path, depth - 1, carrier, budget)?;
            }
            EntryKind::Folder => carrier.note(path, Carried::Folder)?,
            EntryKind::Link => carrier.note(path, Carried::Link)?,
            EntryKind::Other => carrier.note(path, Carried::Unreadable)?,
        }
    }
    Ok(())
}

fn kind(of: FileType) -> EntryKind {
    match of {
        kind if kind.is_symlink() => EntryKind::Link,
        kind if kind.is_dir() => EntryKind::Folder,
        kind if kind.is_file() => EntryKind::File,
        _ => EntryKind::Other,
    }
}

fn read_folder(folder: &Path, prefix: &str, tree: &mut Tree, budget: &mut Budget) -> Result<(), SourceError> {
    let failed = |source| SourceError::Folder { path: folder.display().to_string(), source };
    for entry in fs::read_dir(folder).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        budget.name(prefix.len() + entry.file_name().len())?;
        let path = match entry.file_name().into_string() {
            Ok(name) => format!("{prefix}{name}"),
            Err(name) if !prefix.is_empty() => {
                let shown = format!("{prefix}{}", name.to_string_lossy());
                tree.findings.push(not_utf8_name(&shown));
                continue;
            }
            Err(_) => continue,
        };
        let kind = kind(entry.file_type().map_err(failed)?);
        match judge(&path, kind) {
            Verdict::Pass => {}
            Verdict::Wrong(finding) => {
                tree.findings.push(finding);
                if is_looked_into(&path, kind) {
                    read_folder(&entry.path(), &format!("{path}/"), tree, budget)?;
                }
            }
            Verdict::Read => match read_file(&entry.path()) {
                Ok(bytes) if bytes.len() as u64 > MAX_FILE => {
                    let size = entry.metadata().map_or(bytes.len() as u64, |metadata| metadata.len());
                    tree.findings.push(too_large(&path, size));
                }
                Ok(bytes) => {
                    budget.file(bytes.len() as u64)?;
                    tree.files.push(SourceFile { path, bytes });
                }
                Err(e) => tree.findings.push(Finding::on_file(
                    path,
                    "unreadable",
                    format!("the file cannot be read: {e}"),
                    "check its permissions",
                )),
            },
        }
        budget::is_within_bounds(tree, 0)?;
    }
    Ok(())
}

/// Reads one byte more than the bound at most, and never through a link that took the file's place.
fn read_file(path: &Path) -> io::Result<Vec<u8>> {
    let flags = rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK;
    let flags = i32::try_from(flags.bits()).unwrap_or_default();
    let file = File::options().read(true).custom_flags(flags).open(path)?;
    let mut bytes = Vec::new();
    file.take(MAX_FILE + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

pub(super) fn not_utf8_name(shown: &str) -> Finding {
    Finding::on_file(shown, "not-utf8", "the file's name is not UTF-8", "give it the tenant's name and .yaml")
}
