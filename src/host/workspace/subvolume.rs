//! Subvolumes: parts of the data root's btrfs, each with a quota group that bounds what it refers to.
//!
//! A tenant sees its subvolume through an overlay, never by itself. Whoever may write to a folder of btrfs can make a
//! subvolume there, which has a quota group of its own without a limit. An overlay passes on no such call.

use std::{
    cell::OnceCell,
    ffi::{CString, OsStr},
    fs, io,
    os::{
        fd::OwnedFd,
        unix::{
            ffi::OsStrExt,
            fs::{DirBuilderExt, MetadataExt, PermissionsExt},
        },
    },
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use rustix::io::Errno;

use super::{
    WorkspaceError, Workspaces,
    mount_table::MountEntry,
    paths::{self, sync_folder},
    program,
    volume::{self, Measured, Volume},
};
use crate::model::workspace::{Backend, VolumeSpec};

/// What the overlay is made of. It keeps all files in the first; the others stay empty.
const UPPER: &str = "upper";
const WORK: &str = "work";
const LOWER: &str = "lower";

/// `BTRFS_SUPER_MAGIC`, and the inode number of every subvolume's root.
const MAGIC: rustix::fs::FsWord = 0x9123_683e;
const ROOT: u64 = 256;

/// Where the kernel reports each btrfs that is mounted, by its UUID.
const KERNEL: &str = "/sys/fs/btrfs";

/// The bit of `limit_flags` that says that what is referred to has a limit.
const REFERENCED: u64 = 1;

/// What a full subvolume has beyond its limit while its mount is prepared, in bytes: where all is used, not even an owner
/// can be set.
const ROOM: u64 = 16 << 20;

/// Held while a file system's accounts are opened: they are one for all of its subvolumes.
static ACCOUNTS: Mutex<()> = Mutex::new(());

/// A tenant's subvolume.
#[derive(Debug)]
pub(super) struct Subvolume<'a> {
    workspaces: &'a Workspaces,
    tenant: &'a str,
    /// Its group, once somebody asked for it.
    group: OnceCell<Group>,
}

impl<'a> Subvolume<'a> {
    pub(super) fn new(workspaces: &'a Workspaces, tenant: &'a str) -> Self {
        Self { workspaces, tenant, group: OnceCell::new() }
    }

    fn group(&self) -> io::Result<&Group> {
        if let Some(group) = self.group.get() {
            return Ok(group);
        }
        let group = Group::of(&self.path())?;
        Ok(self.group.get_or_init(|| group))
    }

    /// Its group, on a file system that accounts and keeps to limits.
    fn account(&self) -> Result<&Group, WorkspaceError> {
        let path = self.path();
        let failed = |source| WorkspaceError::io("account for", &path)(source);
        let group = self.group().map_err(failed)?;
        let _one_at_a_time = ACCOUNTS.lock().unwrap_or_else(PoisonError::into_inner);
        if !group.is_on() {
            btrfs(["quota", "enable"], &path)?;
        }
        if group.is_overridden() {
            fs::write(group.kernel.join("quota_override"), "0").map_err(failed)?;
        }
        if !group.folder().exists() {
            btrfs(["qgroup", "create", &group.name()], &path)?;
        }
        if group.is_inconsistent() {
            btrfs(["quota", "rescan", "-w"], &path)?;
        }
        Ok(group)
    }

    /// Makes this the limit, in bytes.
    fn allow(&self, group: &Group, limit: u64) -> Result<(), WorkspaceError> {
        if group.limit() == Some(limit) {
            return Ok(());
        }
        btrfs(["qgroup", "limit", &limit.to_string(), &group.name()], &self.path())
    }
}

impl Volume for Subvolume<'_> {
    fn backend(&self) -> Backend {
        Backend::Btrfs
    }

    fn path(&self) -> PathBuf {
        self.workspaces.subvolumes().join(self.tenant)
    }

    fn make(&self, _: &VolumeSpec) -> Result<(), WorkspaceError> {
        let (path, parent) = (self.path(), self.workspaces.subvolumes());
        if path.exists() {
            return Ok(());
        }
        paths::make(&parent)?;
        let new = parent.join(format!(".{}.new", self.tenant));
        delete(&new)?;
        btrfs(["subvolume", "create"], &new)?;
        let failed = |source| WorkspaceError::io("make", &new)(source);
        for layer in [UPPER, WORK, LOWER] {
            fs::DirBuilder::new().mode(0o700).create(new.join(layer)).map_err(failed)?;
        }
        fs::set_permissions(&new, fs::Permissions::from_mode(0o700)).map_err(failed)?;
        sync_folder(&new)?;
        fs::rename(&new, &path).map_err(failed)?;
        sync_folder(&parent)
    }

    fn is(&self, entry: &MountEntry) -> bool {
        // One that could not be prepared is read-only for good.
        let is_whole = entry.kind == "overlay" && !entry.is("ro");
        is_whole && self.group().is_ok_and(|group| group.source() == entry.source)
    }

    fn mount(&self, place: &Path, spec: &VolumeSpec) -> Result<(), WorkspaceError> {
        let failed = |source| WorkspaceError::io("mount", place)(source);
        let group = self.account()?;
        // An overlay writes to what it is made of.
        self.allow(group, with_room(group, spec))?;
        let mut data = b"index=off".to_vec();
        for (option, layer) in [("lowerdir", LOWER), ("upperdir", UPPER), ("workdir", WORK)] {
            data.extend_from_slice(format!(",{option}=").as_bytes());
            data.extend_from_slice(&escaped(self.path().join(layer).as_os_str()));
        }
        let data = CString::new(data).map_err(io::Error::from).map_err(failed)?;
        rustix::mount::mount(group.source(), place, "overlay", volume::flags(spec.noexec), &*data)
            .map_err(io::Error::from)
            .map_err(failed)
    }

    fn set_limit(&self, _: &OwnedFd, spec: &VolumeSpec) -> Result<(), WorkspaceError> {
        let group = self.account()?;
        self.allow(group, with_room(group, spec))
    }

    fn finish(&self, spec: &VolumeSpec) -> Result<(), WorkspaceError> {
        self.allow(self.account()?, spec.limit_in_blocks())
    }

    fn size(&self) -> Result<(Option<u64>, u64), WorkspaceError> {
        let path = self.path();
        let group = self.group().map_err(WorkspaceError::io("look at", &path));
        group.map(|group| (None, group.used()))
    }

    fn damage(&self, _: Option<&MountEntry>) -> Result<Option<String>, WorkspaceError> {
        // Errors of the file system are everybody's: it is the data root's.
        Ok(None)
    }

    fn measure(&self, _: &OwnedFd) -> Result<Measured, Errno> {
        let group = self.group().map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))?;
        Ok(Measured { capacity: None, limit: group.limit(), used: group.used() })
    }
}

/// The limit with which a mount can be prepared.
fn with_room(group: &Group, spec: &VolumeSpec) -> u64 {
    let (used, limit) = (group.used(), spec.limit_in_blocks());
    if used.saturating_add(ROOM) > limit { used.max(limit).saturating_add(ROOM) } else { limit }
}

/// A subvolume's quota group, which has its number, as the kernel reports it.
#[derive(Debug)]
struct Group {
    id: u64,
    /// What the kernel reports the file system.
    kernel: PathBuf,
}

impl Group {
    /// That of a subvolume.
    ///
    /// # Errors
    /// It is no subvolume, or cannot be observed.
    fn of(path: &Path) -> io::Result<Self> {
        let found = fs::symlink_metadata(path)?;
        let group = (found.is_dir() && found.ino() == ROOT).then(|| Self::around(path)).transpose()?;
        group.flatten().ok_or_else(|| io::Error::other("it is no subvolume"))
    }

    /// That of the subvolume that a folder lies in; `None` where it is not on btrfs.
    fn around(folder: &Path) -> io::Result<Option<Self>> {
        if rustix::fs::statfs(folder)?.f_type != MAGIC {
            return Ok(None);
        }
        let found = rustix::fs::statvfs(folder)?.f_fsid;
        let systems = fs::read_dir(KERNEL)?.filter_map(Result::ok);
        Ok(systems.into_iter().find_map(|system| {
            let id = subvolume(found, system.file_name().to_str()?)?;
            Some(Self { id, kernel: system.path() })
        }))
    }

    /// What its mount is called.
    fn source(&self) -> String {
        format!("subvolume:{}", self.id)
    }

    /// What `btrfs` calls it.
    fn name(&self) -> String {
        format!("0/{}", self.id)
    }

    fn folder(&self) -> PathBuf {
        self.kernel.join(format!("qgroups/0_{}", self.id))
    }

    fn text(path: &Path) -> String {
        fs::read_to_string(path).unwrap_or_default().trim().to_owned()
    }

    fn number(&self, name: &str) -> u64 {
        Self::text(&self.folder().join(name)).parse().unwrap_or_default()
    }

    fn is_on(&self) -> bool {
        Self::text(&self.kernel.join("qgroups/enabled")) == "1"
    }

    /// Whether the accounts are not kept up. Removing a snapshot of something large can make them so.
    fn is_inconsistent(&self) -> bool {
        Self::text(&self.kernel.join("qgroups/inconsistent")) == "1"
    }

    /// Whether limits are let go for who may change them: an overlay writes with the rights of who mounted it.
    fn is_overridden(&self) -> bool {
        Self::text(&self.kernel.join("quota_override")) == "1"
    }

    /// The limit in force, in bytes. There is none where what is written is not accounted for.
    fn limit(&self) -> Option<u64> {
        let accounts = self.is_on() && !self.is_inconsistent() && !self.is_overridden();
        let is_set = accounts && self.number("limit_flags") & REFERENCED != 0;
        is_set.then(|| self.number("max_referenced"))
    }

    /// What is used, and what is about to be, in bytes.
    fn used(&self) -> u64 {
        self.number("referenced").saturating_add(self.number("rsv_data"))
    }
}

/// The number of the subvolume that `statvfs` gave, if it is of the file system with this UUID: the kernel makes an
/// `f_fsid` of the UUID's four words and the subvolume's number. Those beyond 32 bits are not known.
fn subvolume(fsid: u64, uuid: &str) -> Option<u64> {
    let uuid = u128::from_str_radix(&uuid.replace('-', ""), 16).ok()?.to_be_bytes();
    let word = |at: usize| uuid.get(at..at + 4)?.try_into().ok().map(u32::from_be_bytes).map(u64::from);
    let (high, low) = (fsid & u64::from(u32::MAX), fsid >> 32);
    (high == word(0)? ^ word(8)?).then_some(low ^ word(4)? ^ word(12)?)
}

/// What a subvolume takes, in bytes, where that is known.
pub(super) fn used(path: &Path) -> Option<u64> {
    Group::of(path).ok().map(|group| group.used())
}

/// Why the data root, or the folder that it will be made in, can have no subvolumes.
pub(super) fn lack(data_root: &Path) -> Option<String> {
    match group_around(data_root) {
        None => Some("the data root is not on btrfs".to_owned()),
        Some(_) if program::find("btrfs").is_none() => Some("the program btrfs is missing".to_owned()),
        Some(_) => None,
    }
}

/// Whether quotas are on where the data root lies.
pub(super) fn has_quotas(data_root: &Path) -> bool {
    group_around(data_root).is_some_and(|group| group.is_on())
}

fn group_around(data_root: &Path) -> Option<Group> {
    let folder = data_root.ancestors().find(|folder| folder.exists())?;
    Group::around(folder).ok().flatten()
}

/// Removes a subvolume with all that it holds, and its quota group. One that is gone is no error.
pub(super) fn delete(path: &Path) -> Result<(), WorkspaceError> {
    if fs::symlink_metadata(path).is_err() {
        return Ok(());
    }
    let group = Group::of(path).map_err(WorkspaceError::io("remove", path))?;
    btrfs(["subvolume", "delete", "--commit-after"], path)?;
    let parent = path.parent().unwrap_or(Path::new("."));
    let id = group.id.to_string();
    program::succeed("btrfs", [OsStr::new("subvolume"), "sync".as_ref(), parent.as_os_str(), id.as_ref()])?;
    if group.folder().exists() {
        // Later kernels do so by themselves, at some time.
        let _gone_meanwhile = btrfs(["qgroup", "destroy", &group.name()], parent);
    }
    Ok(())
}

fn btrfs<const N: usize>(words: [&str; N], path: &Path) -> Result<(), WorkspaceError> {
    let words = words.into_iter().map(OsStr::new).chain([path.as_os_str()]);
    program::succeed("btrfs", words).map(drop)
}

/// A path as a value among a mount's options.
fn escaped(path: &OsStr) -> Vec<u8> {
    let escape = |byte: &u8| if b"\\,:".contains(byte) { vec![b'\\', *byte] } else { vec![*byte] };
    path.as_bytes().iter().flat_map(escape).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subvolume_is_known_by_what_statvfs_tells() {
        let uuid = "a44a238c-db24-4b26-ac25-68ed094ab054";
        let (high, low) = (0xa44a_238c_u64 ^ 0xac25_68ed, 0xdb24_4b26_u64 ^ 0x094a_b054);
        for id in [5, 256, 70_000] {
            assert_eq!(subvolume(high | (low ^ id) << 32, uuid), Some(id));
        }
        assert_eq!(subvolume(high ^ 1, uuid), None, "of another file system");
        assert_eq!(subvolume(0, "features"), None, "what else lies there");
    }

    #[test]
    fn a_path_is_one_value_of_a_mount() {
        assert_eq!(escaped(OsStr::new("/a b/c,d:e\\")), b"/a b/c\\,d\\:e\\\\");
    }
}
