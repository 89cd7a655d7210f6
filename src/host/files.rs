//! Config files on the host: `files/NAME` under the data root, which a tenant gets read-only as /config.
//!
//! The folder belongs to root, and so does all in it. Each file takes the place of the one before it at once, so that
//! no tenant ever reads half of one. `files/NAME.sha256` says what was last written, in the form of `sha256sum`.
//! Nothing that lies there is followed: neither a link nor what somebody has mounted.

use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::{CStr, CString},
    fs::File,
    io::{self, Read, Write},
    os::fd::{AsFd, OwnedFd},
    path::{Path, PathBuf},
};

use rustix::{
    fs::{AtFlags, Dir, FileType, Gid, Mode, OFlags, ResolveFlags, Stat, Uid},
    io::Errno,
    path::Arg,
};

use super::modes;
use crate::model::{
    TenantName,
    files::{ConfigFile, FoundFiles, digest},
    tree::MAX_FILE,
};

/// How much is looked at. There is never more unless somebody put it there by hand.
const MAX_ENTRIES: usize = 2_000;
const MAX_DEPTH: usize = 32;

/// What files and folders are, so that tenants may read them and nobody but root may write to them.
const FILE_MODE: u32 = 0o444;
const FOLDER_MODE: u32 = 0o755;

/// Why config files could not be observed or written.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action} {path}", path = path.display())]
pub struct FilesError {
    action: &'static str,
    path: PathBuf,
    source: io::Error,
}

fn failed<E: Into<io::Error>>(action: &'static str, path: &Path) -> impl FnOnce(E) -> FilesError {
    let path = path.to_owned();
    move |source| {
        let source: io::Error = source.into();
        let source = match source.kind() {
            io::ErrorKind::CrossesDevices | io::ErrorKind::ResourceBusy => {
                io::Error::other("something is mounted there; unmount it")
            }
            _ => source,
        };
        FilesError { action, path, source }
    }
}

/// The config files of all tenants on one host.
#[derive(Clone, Debug)]
pub struct ConfigFiles {
    folder: PathBuf,
}

impl ConfigFiles {
    /// Those under a data root.
    pub fn new(data_root: &Path) -> Self {
        Self { folder: data_root.join("files") }
    }

    /// What lies there, by the tenant's name.
    ///
    /// # Errors
    /// The folder exists and cannot be read.
    pub async fn list(&self) -> Result<BTreeMap<String, FoundFiles>, FilesError> {
        self.work(Self::list_now).await
    }

    /// What lies there of one tenant, if anything.
    ///
    /// # Errors
    /// It exists and cannot be read.
    pub async fn observe_tenant(&self, tenant: &str) -> Result<Option<FoundFiles>, FilesError> {
        let tenant = tenant.to_owned();
        self.work(move |files| files.open()?.map_or(Ok(None), |root| files.observe(&root, &tenant))).await
    }

    /// Makes a tenant's folder hold these files and nothing else.
    ///
    /// # Errors
    /// The disk is full, or something is mounted there.
    pub async fn write(&self, tenant: &TenantName, content: &[ConfigFile]) -> Result<(), FilesError> {
        let (tenant, content) = (tenant.clone(), content.to_vec());
        self.work(move |files| files.write_now(&tenant, &content)).await
    }

    /// Removes a tenant's folder with all that lies in it. One that is gone is no error.
    ///
    /// # Errors
    /// Something is mounted there.
    pub async fn remove(&self, tenant: &TenantName) -> Result<(), FilesError> {
        let tenant = tenant.clone();
        self.work(move |files| files.remove_now(&tenant)).await
    }

    /// Does something on a thread that may wait for the disk.
    async fn work<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Self) -> Result<T, FilesError> + Send + 'static,
    ) -> Result<T, FilesError> {
        let files = self.clone();
        let done = tokio::task::spawn_blocking(move || work(&files)).await;
        done.unwrap_or_else(|e| Err(FilesError { action: "look after", path: self.folder.clone(), source: e.into() }))
    }

    fn list_now(&self) -> Result<BTreeMap<String, FoundFiles>, FilesError> {
        let mut all = BTreeMap::new();
        let Some(root) = self.open()? else { return Ok(all) };
        for name in names(&root).map_err(failed("read", &self.folder))? {
            let name = name.to_str().map(|name| name.strip_suffix(MANIFEST).unwrap_or(name)).unwrap_or_default();
            if name.parse::<TenantName>().is_ok()
                && !all.contains_key(name)
                && let Some(found) = self.observe(&root, name)?
            {
                all.insert(name.to_owned(), found);
            }
        }
        Ok(all)
    }

    fn write_now(&self, tenant: &TenantName, files: &[ConfigFile]) -> Result<(), FilesError> {
        modes::make(&self.folder, modes::FOLDER).map_err(failed("make", &self.folder))?;
        let missing = || failed("open", &self.folder)(Errno::NOENT);
        let root = self.open()?.ok_or_else(missing)?;
        let path = self.folder.join(tenant.as_str());
        let own = folder(&root, tenant.as_str()).map_err(failed("prepare", &path))?;
        let wanted = files.iter().map(|file| file.path.as_str()).collect();
        clear(&own, "", &wanted).map_err(failed("clear", &path))?;
        let found = self.observe(&root, tenant.as_str())?.unwrap_or_default();
        let new = format!(".{tenant}.new");
        let is_there = |file: &&ConfigFile| {
            found.files.get(&file.path) == Some(&file.content.digest) && !found.foreign.contains_key(&file.path)
        };
        for file in files.iter().filter(|file| !is_there(file)) {
            let placed = write_new(&root, &new, &file.content.bytes).and_then(|()| put(&root, &new, &own, &file.path));
            placed.map_err(failed("write", &path.join(&file.path)))?;
        }
        let manifest = files.iter().map(|file| format!("{}  {tenant}/{}\n", file.content.digest, file.path));
        let manifest: String = manifest.collect();
        let place = format!("{tenant}{MANIFEST}");
        let placed = write_new(&root, &new, manifest.as_bytes()).and_then(|()| put(&root, &new, &root, &place));
        placed.map_err(failed("write", &self.folder.join(place)))
    }

    fn remove_now(&self, tenant: &TenantName) -> Result<(), FilesError> {
        let Some(root) = self.open()? else { return Ok(()) };
        for name in [tenant.to_string(), format!("{tenant}{MANIFEST}"), format!(".{tenant}.new")] {
            let path = self.folder.join(&name);
            let name = CString::new(name).map_err(failed("remove", &path))?;
            remove(&root, &name, 0).map_err(failed("remove", &path))?;
        }
        Ok(())
    }

    /// The folder of all, unless it does not exist yet.
    fn open(&self) -> Result<Option<OwnedFd>, FilesError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        match rustix::fs::open(&self.folder, flags, Mode::empty()) {
            Ok(root) => Ok(Some(root)),
            Err(Errno::NOENT) => Ok(None),
            Err(e) => Err(failed("open", &self.folder)(e)),
        }
    }

    fn observe(&self, root: &OwnedFd, tenant: &str) -> Result<Option<FoundFiles>, FilesError> {
        let path = self.folder.join(tenant);
        let noted = noted(root, tenant).map_err(failed("read what was noted of", &path))?;
        let mut walk = Walk { found: FoundFiles { noted, ..FoundFiles::default() }, entries: 0 };
        match open_folder(root, tenant) {
            Ok(folder) => {
                let status = rustix::fs::fstat(&folder).map_err(failed("look at", &path))?;
                walk.found.foreign.extend(improper(&status, FOLDER_MODE).map(|why| (".".to_owned(), why.into())));
                walk.folder(&folder, "", 0).map_err(failed("read", &path))?;
            }
            Err(Errno::NOENT) if walk.found.noted.is_empty() => return Ok(None),
            Err(Errno::NOENT) => {}
            Err(errno) => {
                let why = refusal(errno).ok_or(errno).map_err(failed("open", &path))?;
                walk.found.foreign.insert(".".to_owned(), why.into());
            }
        }
        Ok(Some(walk.found))
    }
}

/// The hashes that were last written of a tenant.
fn noted(root: &OwnedFd, tenant: &str) -> io::Result<BTreeMap<String, String>> {
    let bytes = match read(root, format!("{tenant}{MANIFEST}")) {
        Ok(bytes) => bytes,
        Err(Errno::NOENT) => return Ok(BTreeMap::new()),
        Err(e) => return Err(e.into()),
    };
    let prefix = format!("{tenant}/");
    let line = |line: &str| {
        let (digest, path) = line.split_once("  ")?;
        Some((path.strip_prefix(&prefix)?.to_owned(), digest.to_owned()))
    };
    // A line that cannot be read was not written by this program.
    Ok(String::from_utf8_lossy(&bytes).lines().filter_map(line).collect())
}

/// What the name of the file ends with that says what was last written. The dot is in no tenant's name.
const MANIFEST: &str = ".sha256";

struct Walk {
    found: FoundFiles,
    entries: usize,
}

impl Walk {
    fn folder(&mut self, folder: &OwnedFd, prefix: &str, depth: usize) -> io::Result<()> {
        for name in names(folder)? {
            let name = name.as_c_str();
            self.entries += 1;
            let path = format!("{prefix}{}", name.to_string_lossy());
            if self.entries > MAX_ENTRIES || depth > MAX_DEPTH {
                self.found.foreign.insert(path, "there is more than is looked at".into());
                return Ok(());
            }
            let status = rustix::fs::statat(folder, name, AtFlags::SYMLINK_NOFOLLOW)?;
            let kind = FileType::from_raw_mode(status.st_mode);
            let why = match kind {
                FileType::RegularFile => match read(folder, name) {
                    Ok(bytes) => {
                        self.found.files.insert(path.clone(), digest(&bytes));
                        improper(&status, FILE_MODE)
                            .or((bytes.len() as u64 > MAX_FILE).then_some("it is larger than config files are"))
                    }
                    Err(errno) => Some(refusal(errno).ok_or(errno)?),
                },
                FileType::Directory => match open_folder(folder, name) {
                    Ok(below) => {
                        self.folder(&below, &format!("{path}/"), depth + 1)?;
                        improper(&status, FOLDER_MODE)
                    }
                    Err(errno) => Some(refusal(errno).ok_or(errno)?),
                },
                FileType::Symlink => Some("it is a symbolic link"),
                _ => Some("it is a device, a pipe or a socket"),
            };
            if let Some(why) = why {
                self.found.foreign.insert(path, why.into());
            }
        }
        Ok(())
    }
}

/// Why a file or folder is not as this program makes them.
fn improper(status: &Stat, mode: u32) -> Option<&'static str> {
    if status.st_uid != 0 || status.st_gid != 0 {
        Some("it does not belong to root")
    } else if status.st_mode & 0o7777 != mode {
        Some("others than tenantd have set its mode")
    } else if mode == FILE_MODE && status.st_nlink != 1 {
        Some("it has another name elsewhere on the host")
    } else {
        None
    }
}

/// What the kernel says of a place that is not gone into.
fn refusal(errno: Errno) -> Option<&'static str> {
    match errno {
        Errno::XDEV => Some("something is mounted there"),
        Errno::LOOP => Some("it is a symbolic link"),
        Errno::NOTDIR => Some("it is a link or a file in place of a folder"),
        _ => None,
    }
}

/// Opens what is right below a folder, unless it is a link or something is mounted on it.
fn open(parent: impl AsFd, name: impl Arg, flags: OFlags) -> Result<OwnedFd, Errno> {
    let flags = flags | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let resolve = ResolveFlags::NO_XDEV | ResolveFlags::NO_SYMLINKS | ResolveFlags::BENEATH;
    rustix::fs::openat2(parent, name, flags, Mode::empty(), resolve)
}

fn open_folder(parent: impl AsFd, name: impl Arg) -> Result<OwnedFd, Errno> {
    open(parent, name, OFlags::RDONLY | OFlags::DIRECTORY)
}

/// The bytes of a file, and one more than the bound at most.
fn read(parent: impl AsFd, name: impl Arg) -> Result<Vec<u8>, Errno> {
    let mut bytes = Vec::new();
    let file = File::from(open(parent, name, OFlags::RDONLY)?);
    match file.take(MAX_FILE + 1).read_to_end(&mut bytes) {
        Ok(_) => Ok(bytes),
        Err(e) => Err(Errno::from_io_error(&e).unwrap_or(Errno::IO)),
    }
}

/// Opens a folder below another, and makes it or puts it right. What is no folder gives way.
fn folder(parent: impl AsFd, name: &str) -> io::Result<OwnedFd> {
    let parent = parent.as_fd();
    let found = match open_folder(parent, name) {
        Err(Errno::LOOP | Errno::NOTDIR) => {
            rustix::fs::unlinkat(parent, name, AtFlags::empty())?;
            Err(Errno::NOENT)
        }
        other => other,
    };
    let folder = match found {
        Err(Errno::NOENT) => {
            rustix::fs::mkdirat(parent, name, Mode::RWXU)?;
            open_folder(parent, name)?
        }
        other => other?,
    };
    rustix::fs::fchown(&folder, Some(Uid::ROOT), Some(Gid::ROOT))?;
    rustix::fs::fchmod(&folder, Mode::from_raw_mode(FOLDER_MODE))?;
    Ok(folder)
}

/// Puts a new file in the place of another.
fn put(root: &OwnedFd, new: &str, tenant: &OwnedFd, path: &str) -> io::Result<()> {
    let (above, name) = path.rsplit_once('/').map_or((None, path), |(above, name)| (Some(above), name));
    let mut parent = rustix::io::fcntl_dupfd_cloexec(tenant, 0)?;
    for part in above.into_iter().flat_map(|above| above.split('/')) {
        parent = folder(&parent, part)?;
    }
    rustix::fs::renameat(root, new, &parent, name)?;
    rustix::fs::fsync(&parent)?;
    Ok(())
}

/// Writes a file of root's that nobody may change.
fn write_new(root: &OwnedFd, name: &str, bytes: &[u8]) -> io::Result<()> {
    gone(rustix::fs::unlinkat(root, name, AtFlags::empty()))?;
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut file = File::from(rustix::fs::openat(root, name, flags, Mode::RUSR)?);
    file.write_all(bytes)?;
    rustix::fs::fchmod(&file, Mode::from_raw_mode(FILE_MODE))?;
    file.sync_all()
}

/// Removes all but what is wanted, and what stands where another kind is wanted.
fn clear(folder: &OwnedFd, prefix: &str, wanted: &BTreeSet<&str>) -> io::Result<()> {
    for name in names(folder)? {
        let path = name.to_str().ok().map(|name| format!("{prefix}{name}"));
        let below = path.as_ref().map(|path| format!("{path}/"));
        let is_folder = is_folder(folder, &name)?;
        let holds = below.filter(|below| is_folder && wanted.iter().any(|path| path.starts_with(below.as_str())));
        match (holds, path) {
            (Some(below), _) => clear(&open_folder(folder, &name)?, &below, wanted)?,
            (None, Some(path)) if !is_folder && wanted.contains(path.as_str()) => {}
            _ => remove(folder, &name, 0)?,
        }
    }
    Ok(())
}

/// Removes a file, or a folder with all in it, and goes into no mount.
fn remove(parent: &OwnedFd, name: &CStr, depth: usize) -> io::Result<()> {
    if !is_folder(parent, name)? {
        return gone(rustix::fs::unlinkat(parent, name, AtFlags::empty()));
    }
    if depth > MAX_DEPTH {
        return Err(io::Error::other("there are too many folders in one another"));
    }
    let folder = open_folder(parent, name)?;
    for name in names(&folder)? {
        remove(&folder, &name, depth + 1)?;
    }
    gone(rustix::fs::unlinkat(parent, name, AtFlags::REMOVEDIR))
}

/// What is gone already need not be removed.
fn gone(removed: Result<(), Errno>) -> io::Result<()> {
    match removed {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(e) => Err(e.into()),
    }
}

fn is_folder(parent: &OwnedFd, name: &CStr) -> io::Result<bool> {
    match rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(status) => Ok(FileType::from_raw_mode(status.st_mode) == FileType::Directory),
        Err(Errno::NOENT) => Ok(false),
        Err(e) => Err(e.into()),
    }
}

fn names(folder: &OwnedFd) -> io::Result<Vec<CString>> {
    let mut names = Vec::new();
    for entry in Dir::read_from(folder)? {
        let entry = entry?;
        if !matches!(entry.file_name().to_bytes(), b"." | b"..") {
            names.push(entry.file_name().to_owned());
        }
    }
    Ok(names)
}
