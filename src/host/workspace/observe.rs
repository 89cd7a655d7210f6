//! What there is of workspaces: one read of the table of mounts, one list of each folder, a few calls for each volume.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    os::unix::fs::MetadataExt,
    path::Path,
};

use rustix::{
    fs::{AtFlags, FileType, fstat, major, minor, statat},
    io::Errno,
};

use super::{
    WorkspaceError, Workspaces,
    folder::link_target,
    image,
    kinds::volumes_of,
    layout::FILES,
    mount_table::{MountEntry, MountTable},
    paths::{canonical, names, open_folder},
    requests, subvolume,
    volume::{Measured, NOTE, Volume, noted},
};
use crate::{
    fault::chain,
    model::workspace::{
        Backend, BackendChoice, Disk, Folder, FoundVolume, FoundWorkspace, Mounted, ObservedWorkspaces, VolumeState,
        WorkspaceCapability, WorkspacePath, owner_of,
    },
};

/// Observes everything, or one tenant.
pub(super) fn observe(
    workspaces: &Workspaces,
    mount_table: &MountTable,
    only: Option<&str>,
) -> Result<ObservedWorkspaces, WorkspaceError> {
    mount_table.within(|| {
        let capability = capability(workspaces);
        let mounted = mount_table.seen(&canonical(&workspaces.mounts()))?;
        let listed = Listed::of(workspaces, only)?;
        let mut found = BTreeMap::new();
        for name in listed.names() {
            let place = if listed.places.contains(name) { place(workspaces, name)? } else { WorkspacePath::Nothing };
            let entry = mounted.get(name);
            let has_one = listed.volumes.contains(name) || listed.mounts.contains(name) || entry.is_some();
            let volume = if has_one { volume(workspaces, name, entry) } else { None };
            let request = listed.requests.contains(name).then(|| requests::read(workspaces, name)).flatten();
            let found_here = FoundWorkspace { place, volume, request };
            if found_here.exists() || found_here.request.is_some() {
                found.insert(name.clone(), found_here);
            }
        }
        let mut archived = names(&workspaces.archives())?;
        archived.retain(|name| only.is_none_or(|tenant| owner_of(name) == tenant) && !name.starts_with('.'));
        archived.sort();
        let is_there = |path: &Path| fs::symlink_metadata(path).is_ok_and(|found| found.is_dir());
        let sources = workspaces.sources.iter().filter(|(_, path)| is_there(path)).map(|(name, _)| name.clone());
        Ok(ObservedWorkspaces { capability, found, archived, sources: sources.collect(), disk: disk(workspaces) })
    })
}

/// The tenants' names in each folder; those of one tenant that is observed alone are as if they were all there.
struct Listed {
    places: BTreeSet<String>,
    volumes: BTreeSet<String>,
    mounts: BTreeSet<String>,
    requests: BTreeSet<String>,
}

impl Listed {
    fn of(workspaces: &Workspaces, only: Option<&str>) -> Result<Self, WorkspaceError> {
        if let Some(tenant) = only {
            let alone = || BTreeSet::from([tenant.to_owned()]);
            return Ok(Self { places: alone(), volumes: alone(), mounts: alone(), requests: alone() });
        }
        let list = |folder: &Path| -> Result<BTreeSet<String>, WorkspaceError> {
            Ok(names(folder)?.into_iter().filter(|name| !name.starts_with('.')).collect())
        };
        let mut volumes = list(&workspaces.subvolumes())?;
        let images = list(&workspaces.images())?;
        volumes.extend(images.iter().filter_map(|name| name.strip_suffix(".img").map(str::to_owned)));
        Ok(Self {
            places: list(&workspaces.folder())?,
            volumes,
            mounts: list(&workspaces.mounts())?,
            requests: list(&workspaces.requests())?,
        })
    }

    fn names(&self) -> BTreeSet<&String> {
        [&self.places, &self.volumes, &self.mounts, &self.requests].into_iter().flatten().collect()
    }
}

/// The file system of the data root, or of the folder that it will be made in.
fn disk(workspaces: &Workspaces) -> Option<Disk> {
    let found = workspaces.data_root.ancestors().find_map(|folder| rustix::fs::statvfs(folder).ok())?;
    Some(Disk { size: found.f_blocks * found.f_frsize, free: found.f_bavail * found.f_frsize })
}

/// How new workspaces are made, and why.
fn capability(workspaces: &Workspaces) -> WorkspaceCapability {
    let lacks = [(Backend::Btrfs, subvolume::lack(&workspaces.data_root)), (Backend::Image, image::lack())];
    let lacks: BTreeMap<Backend, String> =
        lacks.into_iter().filter_map(|(backend, lack)| Some((backend, lack?))).collect();
    let chosen = || "host.yaml says so".to_owned();
    let no_quotas = "the quotas of the data root's btrfs are off";
    let (btrfs, image) = (lacks.get(&Backend::Btrfs), lacks.get(&Backend::Image));
    let (backend, why) = match (workspaces.settings.backend, btrfs, image) {
        (BackendChoice::Folder, ..) => (Backend::Folder, chosen()),
        (BackendChoice::Btrfs, None, _) => (Backend::Btrfs, chosen()),
        (BackendChoice::Btrfs, Some(lack), _) => (Backend::Folder, format!("subvolumes cannot be made: {lack}")),
        (BackendChoice::Image, _, None) => (Backend::Image, chosen()),
        (BackendChoice::Image, _, Some(lack)) => (Backend::Folder, format!("images cannot be mounted: {lack}")),
        (BackendChoice::Auto, None, _) if subvolume::has_quotas(&workspaces.data_root) => {
            (Backend::Btrfs, "the data root is on btrfs, and its quotas are on".to_owned())
        }
        (BackendChoice::Auto, btrfs, image) => {
            let btrfs = btrfs.map_or(no_quotas, String::as_str);
            match image {
                None => (Backend::Image, format!("mounted images work on any file system; {btrfs}")),
                Some(lack) => (Backend::Folder, format!("images cannot be mounted: {lack}; {btrfs}")),
            }
        }
    };
    WorkspaceCapability { backend, why, lacks }
}

fn place(workspaces: &Workspaces, tenant: &str) -> Result<WorkspacePath, WorkspaceError> {
    let path = workspaces.folder().join(tenant);
    match fs::symlink_metadata(&path) {
        Ok(found) if found.is_dir() => {
            Ok(WorkspacePath::Folder(Folder { uid: found.uid(), mode: found.mode() & 0o7777 }))
        }
        Ok(found) if found.is_symlink() && fs::read_link(&path).is_ok_and(|to| to == link_target(tenant)) => {
            Ok(WorkspacePath::Link)
        }
        Ok(_) => Ok(WorkspacePath::Other),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(WorkspacePath::Nothing),
        Err(e) => Err(WorkspaceError::io("look at", &path)(e)),
    }
}

/// What a workspace is kept in, if there is or was such a thing. One that cannot be observed is that tenant's trouble
/// alone.
fn volume(workspaces: &Workspaces, tenant: &str, entry: Option<&MountEntry>) -> Option<FoundVolume> {
    let volumes = volumes_of(workspaces, tenant).into_iter();
    let mut there = volumes.filter(|volume| fs::symlink_metadata(volume.path()).is_ok());
    let Some(volume) = there.next() else {
        // The folder that volumes are mounted over stays, and shows that there was one.
        let had_one = entry.is_some() || fs::symlink_metadata(workspaces.mount_point(tenant)).is_ok();
        let attached = had_one && image::device_of(&workspaces.image(tenant)).is_some();
        let is_overlay = entry.is_some_and(|entry| entry.kind == "overlay");
        let backend = if is_overlay { Backend::Btrfs } else { Backend::Image };
        let state = VolumeState::Gone { attached };
        return had_one.then_some(FoundVolume { backend, length: None, allocated: 0, state });
    };
    let ours = entry.filter(|entry| volume.is(entry));
    let unusable = |reason| VolumeState::Damaged { reason, mounted: ours.is_some() };
    let (length, allocated, state) = match (there.next(), found(workspaces, tenant, &*volume, ours, entry)) {
        (Some(other), _) => {
            let [first, second] = [volume.path(), other.path()].map(|path| path.display().to_string());
            (None, 0, unusable(format!("there are both {first} and {second}; move one of them away")))
        }
        (None, Ok(found)) => found,
        (None, Err(error)) => (None, 0, unusable(chain(&error))),
    };
    Some(FoundVolume { backend: volume.backend(), length, allocated, state })
}

/// The length of a volume's file, what it takes, and its state.
fn found(
    workspaces: &Workspaces,
    tenant: &str,
    volume: &dyn Volume,
    ours: Option<&MountEntry>,
    entry: Option<&MountEntry>,
) -> Result<(Option<u64>, u64, VolumeState), WorkspaceError> {
    let (length, allocated) = volume.size()?;
    let state = match (volume.damage(ours)?, ours) {
        (Some(reason), ours) => VolumeState::Damaged { reason, mounted: ours.is_some() },
        (None, Some(ours)) => mounted(workspaces, tenant, volume, ours)?,
        (None, None) => VolumeState::Unmounted { covered: entry.map(|entry| entry.source.clone()) },
    };
    Ok((length, allocated, state))
}

/// A mounted volume, as it is seen from here. Where only the engine sees it, it counts as not mounted.
fn mounted(
    workspaces: &Workspaces,
    tenant: &str,
    volume: &dyn Volume,
    entry: &MountEntry,
) -> Result<VolumeState, WorkspaceError> {
    let place = workspaces.mount_point(tenant);
    let failed = |source: Errno| WorkspaceError::io("look at", &place)(source.into());
    let root = open_folder(&place).map_err(failed)?;
    let found = fstat(&root).map_err(failed)?;
    if (major(found.st_dev), minor(found.st_dev)) != entry.device {
        return Ok(VolumeState::Unmounted { covered: None });
    }
    let files = match statat(&root, FILES, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(found) if FileType::from_raw_mode(found.st_mode) == FileType::Directory => {
            Some(Folder { uid: found.st_uid, mode: found.st_mode & 0o7777 })
        }
        Ok(_) | Err(Errno::NOENT) => None,
        Err(e) => return Err(failed(e)),
    };
    let mut note = [0; 64];
    let length = rustix::fs::fgetxattr(&root, NOTE, &mut note[..]).unwrap_or_default();
    let declared = note.get(..length).and_then(|note| std::str::from_utf8(note).ok()).and_then(noted);
    let Measured { capacity, limit, used } = volume.measure(&root).map_err(failed)?;
    Ok(VolumeState::Mounted(Mounted {
        capacity,
        limit,
        used,
        declared,
        noexec: entry.has("noexec"),
        confined: entry.is_confined() && !entry.is("ro"),
        files,
    }))
}
