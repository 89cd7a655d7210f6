//! What comes into the mirror: each object that a fetch brought is checked before anything else reads it, first its size
//! by its header, then, of a commit, tag or folder, that it can be parsed here: git accepts what libgit2 does not.
//!
//! What is read in this process is read whole, and so is what an object is kept as a difference to: a few hundred bytes
//! may be kept as a difference to a thousand million that take a megabyte. So no object may be large, read or not.

use std::{
    collections::BTreeSet,
    ffi::{OsStr, OsString},
    fs, io,
    path::{Path, PathBuf},
};

use git2::{ObjectType, Oid, Repository};

use super::bound::MAX_FOLDER;
use crate::host;

/// The largest commit or tag, in bytes. A message of a hundred lines has some thousand, a signature as many.
const MAX_COMMIT: u64 = 1 << 20;

/// The largest file, in bytes, whether it is read or not.
const MAX_BLOB: u64 = 64 << 20;

/// The most objects that one fetch brings.
const MAX_OBJECTS: u64 = 1_000_000;

/// The file in the mirror that lists the packs that were there before a fetch. It is there until what the fetch brought
/// was looked at, so that a fetch that was cut off is looked at by the next one.
const BEFORE: &str = "tenantd.fetching";

/// The end of the name of a pack's index.
const INDEX: &str = ".idx";

/// Why what came in is thrown out, in words.
pub(super) enum Unfit {
    TooLarge(String),
    Unreadable(String),
}

/// The packs that were in the mirror before something was fetched.
pub(super) struct Door<'a> {
    mirror: &'a Path,
    before: BTreeSet<OsString>,
}

impl<'a> Door<'a> {
    /// Notes what is there.
    pub(super) fn open(mirror: &'a Path) -> io::Result<Self> {
        let note = mirror.join(BEFORE);
        let before = match fs::read_to_string(&note) {
            Ok(text) => text.lines().map(OsString::from).collect(),
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                let before = packs(mirror)?;
                let lines: Vec<_> = before.iter().map(|name| name.to_string_lossy()).collect();
                host::replace(&note, lines.join("\n").as_bytes())?;
                before
            }
            Err(e) => return Err(e),
        };
        Ok(Self { mirror, before })
    }

    /// What came in that cannot stay; `None` where all is well.
    ///
    /// # Errors
    /// A pack cannot be read.
    pub(super) fn unfit(&self, repository: &Repository) -> io::Result<Option<Unfit>> {
        let objects = repository.odb().map_err(io::Error::other)?;
        let new: Vec<PathBuf> = self.new_packs()?;
        let mut count = 0;
        for pack in new {
            let ids = ids(&fs::read(pack)?)?;
            count += ids.len() as u64;
            if count > MAX_OBJECTS {
                return Ok(Some(Unfit::TooLarge(format!("more than {MAX_OBJECTS} objects came at once"))));
            }
            for id in ids {
                let (size, kind) = objects.read_header(id).map_err(io::Error::other)?;
                let (most, what) = match kind {
                    ObjectType::Tree => (MAX_FOLDER, "folder"),
                    ObjectType::Blob => (MAX_BLOB, "file"),
                    _ => (MAX_COMMIT, "commit or tag"),
                };
                if size as u64 > most {
                    let what = format!("the {what} {id} has {size} bytes, and {most} are the most");
                    return Ok(Some(Unfit::TooLarge(what)));
                }
                if let Err(error) = parse(repository, id, kind) {
                    // What cannot be read at all is damage of the mirror, not of what came.
                    objects.read(id).map_err(io::Error::other)?;
                    return Ok(Some(Unfit::Unreadable(format!("the {what} {id}: {}", error.message()))));
                }
            }
        }
        Ok(None)
    }

    /// Takes away what came in. Nothing that was there before needs it.
    pub(super) fn throw_out(self) -> io::Result<()> {
        for index in self.new_packs()? {
            // Without its index a pack is not there for git.
            fs::remove_file(&index)?;
            for ending in ["pack", "rev", "keep"] {
                match fs::remove_file(index.with_extension(ending)) {
                    Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
                    _ => {}
                }
            }
        }
        self.close()
    }

    /// Forgets what was there before: all is well.
    pub(super) fn close(self) -> io::Result<()> {
        fs::remove_file(self.mirror.join(BEFORE))
    }

    /// Whether nothing came in.
    pub(super) fn is_unused(&self) -> io::Result<bool> {
        Ok(self.new_packs()?.is_empty())
    }

    fn new_packs(&self) -> io::Result<Vec<PathBuf>> {
        let folder = folder(self.mirror);
        Ok(packs(self.mirror)?.difference(&self.before).map(|name| folder.join(name)).collect())
    }
}

fn parse(repository: &Repository, id: Oid, kind: ObjectType) -> Result<(), git2::Error> {
    match kind {
        ObjectType::Commit => repository.find_commit(id).map(drop),
        ObjectType::Tree => repository.find_tree(id).map(drop),
        ObjectType::Tag => repository.find_tag(id).map(drop),
        _ => Ok(()),
    }
}

/// Whether something may have come in that was not looked at.
pub(super) fn is_open(mirror: &Path) -> bool {
    mirror.join(BEFORE).exists()
}

fn folder(mirror: &Path) -> PathBuf {
    mirror.join("objects/pack")
}

/// The indexes of packs that are there.
fn packs(mirror: &Path) -> io::Result<BTreeSet<OsString>> {
    let entries = match fs::read_dir(folder(mirror)) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(BTreeSet::new()),
        entries => entries?,
    };
    let names = entries.map(|entry| entry.map(|entry| entry.file_name()));
    let is_index = |name: &OsString| name.as_encoded_bytes().ends_with(INDEX.as_bytes()) && !is_temporary(name);
    names.filter(|name| name.as_ref().map_or(true, is_index)).collect()
}

/// The ids in a pack's index of version 2: a head of 8 bytes, 256 counts, the ids.
fn ids(index: &[u8]) -> io::Result<Vec<Oid>> {
    const HEAD: &[u8] = b"\xfftOc\x00\x00\x00\x02";
    const IDS: usize = 8 + 256 * 4;
    let read = || -> Option<Vec<Oid>> {
        let last = index.strip_prefix(HEAD)?.get(255 * 4..256 * 4)?;
        let count = usize::try_from(u32::from_be_bytes(last.try_into().ok()?)).ok()?;
        let ids = index.get(IDS..IDS.checked_add(count.checked_mul(20)?)?)?;
        ids.chunks(20).map(|id| Oid::from_bytes(id).ok()).collect()
    };
    read().ok_or_else(|| io::Error::other("a pack's index cannot be read"))
}

/// Whether a file beside the packs is half of one, which a process of git left behind that was ended.
pub(super) fn is_temporary(name: &OsStr) -> bool {
    let name = name.as_encoded_bytes();
    name.starts_with(b"tmp_") || name.starts_with(b".tmp-")
}

/// The bytes of the largest temporary file.
pub(super) fn largest_temporary(mirror: &Path) -> u64 {
    let entries = fs::read_dir(folder(mirror)).into_iter().flatten().flatten();
    let entries = entries.filter(|entry| is_temporary(&entry.file_name()));
    entries.filter_map(|entry| entry.metadata().ok()).map(|metadata| metadata.len()).max().unwrap_or(0)
}

/// How many bytes lie in the mirror's packs.
pub(super) fn size(mirror: &Path) -> u64 {
    let entries = fs::read_dir(folder(mirror)).into_iter().flatten().flatten();
    let entries = entries.filter(|entry| !is_temporary(&entry.file_name()));
    entries.filter_map(|entry| entry.metadata().ok()).map(|metadata| metadata.len()).sum()
}
