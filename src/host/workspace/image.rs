//! Images: an ext4 file system in a sparse file, mounted.
//!
//! The file system has room for more than `limits.disk`. What is beyond it is taken by a file that the tenant does not
//! see and that nothing was ever written to: it takes blocks of the file system and none of the host's disk. So the
//! limit grows and shrinks while the tenant runs.

use std::{
    fs::{self, File, OpenOptions},
    io,
    os::{
        fd::OwnedFd,
        unix::fs::{MetadataExt, OpenOptionsExt},
    },
    path::{Path, PathBuf},
};

use rustix::{
    fs::{AtFlags, FallocateFlags, Mode, OFlags, StatFs, chownat, fallocate, fstatfs, ftruncate, major, minor, statat},
    io::Errno,
};

use super::{
    WorkspaceError, Workspaces,
    mount_table::MountEntry,
    paths::{self, canonical_file, gone, sync_folder},
    program, superblock,
    volume::{Measured, Volume},
};
use crate::{
    model::workspace::{BLOCK, Backend, VolumeSpec},
    replace,
};

/// What takes the blocks that the tenant may not have, beside what it sees.
const BALLAST: &str = ".ballast";

/// The kernel's number of loop devices.
const LOOP: u32 = 7;

/// How far a device reads ahead, in KiB.
const READ_AHEAD_KIB: &str = "8192";

/// A tenant's image.
#[derive(Debug)]
pub(super) struct Image<'a> {
    workspaces: &'a Workspaces,
    tenant: &'a str,
}

impl<'a> Image<'a> {
    pub(super) fn new(workspaces: &'a Workspaces, tenant: &'a str) -> Self {
        Self { workspaces, tenant }
    }
}

impl Volume for Image<'_> {
    fn backend(&self) -> Backend {
        Backend::Image
    }

    fn path(&self) -> PathBuf {
        self.workspaces.image(self.tenant)
    }

    fn make(&self, spec: &VolumeSpec) -> Result<(), WorkspaceError> {
        make(self.workspaces, self.tenant, spec)
    }

    fn is(&self, entry: &MountEntry) -> bool {
        let Some(file) = backing(entry).filter(|_| entry.kind == "ext4") else { return false };
        let path = self.path();
        file == path || {
            let own = canonical_file(&path);
            // What was opened in another namespace is named from that namespace's root on, which in a chroot lies further up.
            file.ends_with(own.strip_prefix("/").unwrap_or(&own)) || is_cut_short(&file, &own, &entry.source)
        }
    }

    fn mount(&self, place: &Path, spec: &VolumeSpec) -> Result<(), WorkspaceError> {
        mount_image(self.workspaces, self.tenant, place, spec.noexec)
    }

    fn set_limit(&self, root: &OwnedFd, spec: &VolumeSpec) -> Result<(), WorkspaceError> {
        set_limit(root, &self.workspaces.mount_point(self.tenant), &self.path(), spec)
    }

    fn release(&self) -> Result<(), WorkspaceError> {
        // One that was cut off while it mounted may have left the device open.
        if let Some((device, false)) = device_of(&self.path()) {
            let _gone_meanwhile = program::run("losetup", ["-d".as_ref(), device.as_os_str()])?;
        }
        Ok(())
    }

    fn size(&self) -> Result<(Option<u64>, u64), WorkspaceError> {
        let path = self.path();
        match fs::symlink_metadata(&path) {
            Ok(found) if found.is_file() => Ok((Some(found.len()), found.blocks() * 512)),
            Ok(_) => Err(WorkspaceError::io("use", &path)(io::Error::other("it is no file"))),
            Err(e) => Err(WorkspaceError::io("look at", &path)(e)),
        }
    }

    fn damage(&self, mounted: Option<&MountEntry>) -> Result<Option<String>, WorkspaceError> {
        let path = self.path();
        match (fs::read_to_string(self.workspaces.mark_of_damage(self.tenant)), mounted) {
            (Ok(reason), _) => Ok(Some(reason.trim().to_owned())),
            (Err(_), Some(entry)) => Ok(errors(entry)),
            (Err(_), None) => superblock::damage(&path).map_err(WorkspaceError::io("read", &path)),
        }
    }

    fn measure(&self, root: &OwnedFd) -> Result<Measured, Errno> {
        let space = fstatfs(root)?;
        let length =
            fs::metadata(self.path()).map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))?.len();
        let ballast = match statat(root, BALLAST, AtFlags::SYMLINK_NOFOLLOW) {
            // Blocks that it does not have are the tenant's.
            Ok(found) => u64::try_from(found.st_size.min(found.st_blocks.saturating_mul(512))).unwrap_or_default(),
            Err(Errno::NOENT) => 0,
            Err(e) => return Err(e),
        };
        let capacity = capacity(&space, length);
        Ok(Measured {
            capacity: Some(capacity),
            limit: Some(capacity.saturating_sub(ballast)),
            used: bytes(space.f_blocks.saturating_sub(space.f_bfree)).saturating_sub(ballast),
        })
    }
}

/// Makes an image under a name of its own, and gives it its name when it is whole.
fn make(workspaces: &Workspaces, tenant: &str, spec: &VolumeSpec) -> Result<(), WorkspaceError> {
    let image = workspaces.image(tenant);
    if image.exists() {
        return Ok(());
    }
    paths::make(&workspaces.images())?;
    let new = workspaces.new_image(tenant);
    let failed = |source| WorkspaceError::io("make", &new)(source);
    gone(&new, fs::remove_file(&new))?;
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new).map_err(failed)?;
    file.set_len(spec.image_size()).map_err(failed)?;
    let journal = format!("size={}", spec.journal_mib());
    let words = ["-q", "-F", "-t", "ext4", "-m", "0", "-b", "4096", "-I", "256", "-i", "16384", "-J", &journal];
    // Nothing is reserved for root, and nothing is written that need not be.
    let rest = ["-O", "metadata_csum,64bit", "-E", "nodiscard,lazy_itable_init=1,lazy_journal_init=1,root_owner=0:0"];
    let words = words.into_iter().chain(rest).map(std::ffi::OsStr::new);
    program::succeed("mke2fs", words.chain([new.as_os_str()]))?;
    file.sync_all().map_err(failed)?;
    fs::rename(&new, &image).map_err(failed)?;
    sync_folder(&workspaces.images())
}

/// Mounts an image by a loop device, which the kernel lets go of with the last mount.
///
/// The device reads and writes the file directly: by way of the host's page cache everything is kept twice, and writing
/// takes twice as long. One that has the image open already is used again, since two would write over each other.
fn mount_image(workspaces: &Workspaces, tenant: &str, place: &Path, noexec: bool) -> Result<(), WorkspaceError> {
    let image = workspaces.image(tenant);
    let device = match device_of(&image) {
        Some((device, false)) => device,
        _ => attach(&image)?,
    };
    let mut options = "nosuid,nodev,noatime,discard,noinit_itable,errors=remount-ro".to_owned();
    if noexec {
        options.push_str(",noexec");
    }
    let words = ["-n", "-i", "-t", "ext4", "-o", &options, "--"].map(std::ffi::OsStr::new);
    let mounted = program::run("mount", words.into_iter().chain([device.as_os_str(), place.as_os_str()]));
    // From now on it is let go of with the last mount, and at once where there is none.
    let detached = program::succeed("losetup", ["-d".as_ref(), device.as_os_str()]);
    let output = mounted?;
    if output.status.success() {
        return detached.map(drop);
    }
    let failure = program::failure("mount", &output);
    let said = String::from_utf8_lossy(&output.stderr).to_lowercase();
    let of_the_image = ["bad superblock", "wrong fs type", "structure needs cleaning"];
    if of_the_image.iter().any(|words| said.contains(words)) {
        let reason = format!("it cannot be mounted: {failure}");
        mark_damaged(workspaces, tenant, &reason)?;
        return Err(WorkspaceError::Damaged(reason));
    }
    Err(failure)
}

/// Gives an image a loop device.
fn attach(image: &Path) -> Result<PathBuf, WorkspaceError> {
    let words = |direct: &'static str| ["--find", "--show", direct].map(std::ffi::OsStr::new).into_iter();
    let output = program::run("losetup", words("--direct-io=on").chain([image.as_os_str()]))?;
    let output = match output.status.success() {
        true => output,
        // Not every file system can.
        false => program::succeed("losetup", words("--direct-io=off").chain([image.as_os_str()]))?,
    };
    let device = PathBuf::from(String::from_utf8_lossy(&output.stdout).trim());
    if let Some(name) = device.file_name() {
        // It reads ahead less than a disk by itself. Where that cannot be changed it is only slower.
        let _slower = fs::write(Path::new("/sys/block").join(name).join("queue/read_ahead_kb"), READ_AHEAD_KIB);
    }
    Ok(device)
}

/// Notes that an image is not to be used, for the next observation.
pub(super) fn mark_damaged(workspaces: &Workspaces, tenant: &str, reason: &str) -> Result<(), WorkspaceError> {
    let mark = workspaces.mark_of_damage(tenant);
    replace(&mark, reason.as_bytes()).map_err(WorkspaceError::io("write", &mark))
}

/// Lets the ballast take what is beyond the limit.
fn set_limit(root: &OwnedFd, place: &Path, image: &Path, spec: &VolumeSpec) -> Result<(), WorkspaceError> {
    let failed = |source: Errno| WorkspaceError::io("set the limit of", place)(source.into());
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let ballast = rustix::fs::openat(root, BALLAST, flags, Mode::from_raw_mode(0o600)).map_err(failed)?;
    chownat(root, BALLAST, Some(rustix::fs::Uid::ROOT), Some(rustix::fs::Gid::ROOT), AtFlags::SYMLINK_NOFOLLOW)
        .map_err(failed)?;
    let size = fs::metadata(image).map_err(WorkspaceError::io("look at", image))?.len();
    let capacity = capacity(&rustix::fs::fstatfs(root).map_err(failed)?, size);
    let wanted = capacity.saturating_sub(spec.limit_in_blocks());
    let found = rustix::fs::fstat(&ballast).map_err(failed)?;
    let length = u64::try_from(found.st_size).unwrap_or_default();
    // Blocks are counted in 512 bytes; one that was written to, or has holes, is made anew.
    let is_whole = u64::try_from(found.st_blocks).unwrap_or_default() * 512 >= length;
    if length == wanted && is_whole {
        return Ok(());
    }
    if wanted < length {
        ftruncate(&ballast, wanted).map_err(failed)?;
    }
    if wanted > 0
        && (wanted > length || !is_whole)
        && let Err(refused) = fallocate(&ballast, FallocateFlags::empty(), 0, wanted)
    {
        // What the tenant may have stays as it was.
        ftruncate(&ballast, length.min(wanted)).map_err(failed)?;
        return Err(failed(refused));
    }
    rustix::fs::fsync(&ballast).map_err(failed)
}

/// The file behind a mount's loop device. One that was removed ends in ` (deleted)`.
fn backing(entry: &MountEntry) -> Option<PathBuf> {
    let (major, minor) = entry.device;
    let path = format!("/sys/dev/block/{major}:{minor}/loop/backing_file");
    let text = (major == LOOP).then(|| fs::read_to_string(path).ok())??;
    Some(PathBuf::from(text.trim_end_matches('\n')))
}

/// Whether the name of the file behind a loop device is what is left of this one's. Once the namespace is gone in which it
/// was opened, such as that of a service that was restarted, it is named from the mount on that it lies in.
fn is_cut_short(named: &Path, own: &Path, device: &str) -> bool {
    let [named, relative] = [named, own].map(|path| path.strip_prefix("/").unwrap_or(path));
    relative.ends_with(named) && is_open_as(device, own)
}

/// Whether a loop device has this very file open.
fn is_open_as(device: &str, file: &Path) -> bool {
    let Ok(own) = fs::symlink_metadata(file) else { return false };
    let words = ["--noheadings", "--output", "BACK-INO,BACK-MAJ:MIN", device];
    let Ok(listed) = program::run("losetup", words) else { return false };
    let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
    let expected = format!("{}:{}", major(own.dev()), minor(own.dev()));
    listed.split_whitespace().eq([own.ino().to_string(), expected])
}

/// What the kernel says is wrong with a mounted file system.
fn errors(entry: &MountEntry) -> Option<String> {
    let device = entry.source.strip_prefix("/dev/")?;
    let count = fs::read_to_string(format!("/sys/fs/ext4/{device}/errors_count")).unwrap_or_default();
    if let Some(stopped) = ["emergency_ro", "shutdown"].into_iter().find(|option| entry.is(option)) {
        return Some(format!("the kernel found errors in it and writes nothing more ({stopped})"));
    }
    match count.trim() {
        "" | "0" => None,
        count => Some(format!("the kernel found {count} errors in it")),
    }
}

/// What tenants and ballast can have of a file system, in bytes: all but its own tables, and the fiftieth, at most
/// 4,096 blocks, that ext4 keeps for itself.
fn capacity(found: &StatFs, image: u64) -> u64 {
    let kept = (image / bytes(1) / 50).min(4096);
    bytes(found.f_blocks.saturating_sub(kept))
}

/// Why this host can mount no images.
pub(super) fn lack() -> Option<String> {
    match program::NEEDED.into_iter().find(|name| program::find(name).is_none()) {
        Some(name) => Some(format!("the program {name} is missing")),
        None if !Path::new("/dev/loop-control").exists() => Some("the kernel has no loop devices".to_owned()),
        None => None,
    }
}

/// The device that has an image open, and whether the file was removed meanwhile. Of several it is the one that is mounted
/// somewhere, such as in the container: what is written by another would be lost with it.
pub(super) fn device_of(image: &Path) -> Option<(PathBuf, bool)> {
    let image = canonical_file(image);
    let devices = fs::read_dir("/sys/block").into_iter().flatten().flatten();
    let found = devices.filter_map(|device| {
        let backing = fs::read_to_string(device.path().join("loop/backing_file")).ok()?;
        let backing = backing.trim_end_matches('\n');
        let (file, is_removed) = match backing.strip_suffix(" (deleted)") {
            Some(file) => (Path::new(file), true),
            None => (Path::new(backing), false),
        };
        let path = Path::new("/dev").join(device.file_name());
        let is_it =
            file == image || (!is_removed && file.is_absolute() && is_cut_short(file, &image, &path.to_string_lossy()));
        is_it.then(|| (path, is_removed, Path::new("/sys/fs/ext4").join(device.file_name()).exists()))
    });
    found
        .min_by_key(|(_, is_removed, is_mounted)| (*is_removed, !is_mounted))
        .map(|(path, is_removed, _)| (path, is_removed))
}

/// Makes an image and its file system larger: a copy of it, which then takes its place. Whoever is cut off meanwhile, or
/// still has the image open, does it no harm.
pub(super) fn grow(workspaces: &Workspaces, tenant: &str, spec: &VolumeSpec) -> Result<(), WorkspaceError> {
    let image = workspaces.image(tenant);
    let new = workspaces.new_image(tenant);
    copy(&image, &new)?;
    enlarge(workspaces, tenant, &new, spec)?;
    fs::rename(&new, &image).map_err(WorkspaceError::io("put into place", &image))?;
    sync_folder(&workspaces.images())
}

fn enlarge(workspaces: &Workspaces, tenant: &str, image: &Path, spec: &VolumeSpec) -> Result<(), WorkspaceError> {
    let failed = |source| WorkspaceError::io("grow", image)(source);
    let file = OpenOptions::new().write(true).open(image).map_err(failed)?;
    let size = spec.image_size().max(file.metadata().map_err(failed)?.len());
    file.set_len(size).map_err(failed)?;
    file.sync_all().map_err(failed)?;
    let check = program::run("e2fsck", [std::ffi::OsStr::new("-f"), "-p".as_ref(), image.as_os_str()])?;
    // 1 says that something was put right.
    if !matches!(check.status.code(), Some(0 | 1)) {
        let reason = program::failure("e2fsck", &check).to_string();
        mark_damaged(workspaces, tenant, &reason)?;
        return Err(WorkspaceError::Damaged(reason));
    }
    program::succeed("resize2fs", [image.as_os_str()])?;
    file.sync_all().map_err(failed)
}

/// Copies what a device or file holds into a sparse file, in place of what is there.
pub(super) fn copy(from: &Path, to: &Path) -> Result<(), WorkspaceError> {
    gone(to, fs::remove_file(to))?;
    let words = ["--sparse=always", "--reflink=auto", "--"].map(std::ffi::OsStr::new);
    program::succeed("cp", words.into_iter().chain([from.as_os_str(), to.as_os_str()]))?;
    let file = File::open(to).map_err(WorkspaceError::io("open", to))?;
    file.sync_all().map_err(WorkspaceError::io("write", to))
}

/// The size of a limit in blocks of the file system.
const fn bytes(blocks: u64) -> u64 {
    blocks * BLOCK
}
