//! Workspaces: what each tenant gets as /workspace, and what bounds it.
//!
//! Under the data root:
//!
//! | path | what it is |
//! | --- | --- |
//! | `images/NAME.img` | a sparse file with an ext4 file system |
//! | `images/NAME.damaged` | why the image is not used: a person should look |
//! | `subvolumes/NAME` | on btrfs, in place of an image: a subvolume with a quota group |
//! | `requests/NAME` | what an operator asked for, and who that was, until it is done |
//! | `mounts/NAME` | where either is mounted; the folder below is closed and stays empty |
//! | `mounts/NAME/files` | what the tenant sees. It is not there unless the volume is mounted |
//! | `mounts/NAME/.ballast` | in an image, takes the blocks beyond `limits.disk` |
//! | `workspaces/NAME` | for people: a link to `files`, or the folder itself where nothing bounds it |
//! | `archive/` | workspaces of tenants that are gone |
//!
//! All of them are closed to everyone but root, so that no tenant's user on the host reaches another's. Nothing that a
//! tenant made is ever followed, opened or removed here.

mod archive;
mod error;
mod folder;
mod image;
mod kinds;
mod layout;
mod mount_table;
mod mounting;
mod observe;
mod paths;
mod program;
mod repair;
mod requests;
mod subvolume;
mod superblock;
mod tenant_files;
mod volume;
mod watch;

use crate::model::{
    TenantName,
    workspace::{FoundWorkspace, ObservedWorkspaces, OperatorRequest, Owner, VolumeSpec, VolumeState, WorkspacePath},
};

pub use archive::ArchiveStamp;
pub use error::WorkspaceError;
pub use layout::Workspaces;

use super::listener::listener;
use kinds::volume_of;
use mount_table::MountTable;
use paths::canonical;

impl Workspaces {
    /// All workspaces. None where the data root does not exist yet.
    ///
    /// # Errors
    /// A folder exists and cannot be read.
    pub async fn list(&self) -> Result<ObservedWorkspaces, WorkspaceError> {
        self.observe(None).await
    }

    /// One tenant's workspace, if there is any.
    ///
    /// # Errors
    /// It cannot be observed.
    pub async fn observe_tenant(&self, tenant: &str) -> Result<ObservedWorkspaces, WorkspaceError> {
        self.observe(Some(tenant.to_owned())).await
    }

    async fn observe(&self, only: Option<String>) -> Result<ObservedWorkspaces, WorkspaceError> {
        if ![self.images(), self.subvolumes()].iter().any(|folder| folder.exists()) {
            // Nothing is mounted, and so no namespace matters.
            let mount_table = MountTable::of(None, &self.mounts())?;
            return mount_table.within(|| observe::observe(self, &mount_table, only.as_deref()));
        }
        self.work(move |workspaces, mount_table| observe::observe(workspaces, mount_table, only.as_deref())).await
    }

    /// Makes a tenant's plain folder, or corrects its owner and mode. Where it was another user's, what that user has in it
    /// changes hands as well.
    ///
    /// # Errors
    /// The folder cannot be made or is no folder.
    pub fn prepare_folder(&self, tenant: &TenantName, owner: Owner) -> Result<(), WorkspaceError> {
        let mount_table = MountTable::of(None, &self.mounts())?;
        folder::prepare(&mount_table, &self.folder(), tenant.as_str(), owner)
    }

    /// Makes a tenant's volume, unless there is one. It appears under its name when it is whole.
    ///
    /// # Errors
    /// The host's disk is full, or a program is missing.
    pub async fn make(&self, tenant: &TenantName, spec: VolumeSpec) -> Result<(), WorkspaceError> {
        let tenant = tenant.clone();
        self.work(move |workspaces, mount_table| {
            mount_table.within(|| volume_of(workspaces, tenant.as_str(), spec.backend).make(&spec))
        })
        .await
    }

    /// Mounts a tenant's volume unless it is mounted, and sets its limit, its options, and owner and mode of what the
    /// tenant sees. To do it again changes nothing.
    ///
    /// # Errors
    /// The file system cannot be used, or the engine would not see it.
    pub async fn mount(&self, tenant: &TenantName, spec: VolumeSpec) -> Result<(), WorkspaceError> {
        let tenant = tenant.clone();
        self.work(move |workspaces, mount_table| mounting::mount(workspaces, mount_table, tenant.as_str(), &spec)).await
    }

    /// Unmounts a tenant's volume, with all that was written on disk. One that is not mounted is no error.
    ///
    /// # Errors
    /// It is in use.
    pub async fn unmount(&self, tenant: &TenantName) -> Result<(), WorkspaceError> {
        let tenant = tenant.clone();
        self.work(move |workspaces, mount_table| {
            mount_table.within(|| mounting::unmount(workspaces, mount_table, tenant.as_str()))
        })
        .await
    }

    /// Sets the limit of a mounted volume, while the tenant runs.
    ///
    /// # Errors
    /// More is used than that.
    pub async fn resize(&self, tenant: &TenantName, spec: VolumeSpec) -> Result<(), WorkspaceError> {
        let tenant = tenant.clone();
        self.work(move |workspaces, mount_table| {
            let volume = || volume_of(workspaces, tenant.as_str(), spec.backend);
            mount_table.within(|| mounting::settle(workspaces, mount_table, tenant.as_str(), &*volume(), &spec))
        })
        .await
    }

    /// Makes the file system of an image larger. Nothing may use it.
    ///
    /// # Errors
    /// It is in use, damaged, or the host's disk is full.
    pub async fn grow(&self, tenant: &TenantName, spec: VolumeSpec) -> Result<(), WorkspaceError> {
        let tenant = tenant.clone();
        self.work(move |workspaces, mount_table| {
            mount_table.within(|| {
                mounting::unmount(workspaces, mount_table, tenant.as_str())?;
                image::grow(workspaces, tenant.as_str(), &spec)
            })
        })
        .await
    }

    /// Notes what somebody wants done with a tenant's workspace: the next plan has it.
    ///
    /// # Errors
    /// The note cannot be written.
    pub fn request(&self, tenant: &TenantName, request: &OperatorRequest) -> Result<(), WorkspaceError> {
        requests::write(self, tenant.as_str(), request)
    }

    /// Restores something archived: it becomes the tenant's workspace, which has no other.
    ///
    /// # Errors
    /// It is not there, or the tenant has a workspace.
    pub async fn restore(&self, tenant: &TenantName, name: &str) -> Result<(), WorkspaceError> {
        let (tenant, name) = (tenant.clone(), name.to_owned());
        self.work(move |workspaces, mount_table| {
            mount_table.within(|| archive::restore(workspaces, tenant.as_str(), &name))
        })
        .await
    }

    /// Deletes something archived. One that is gone is no error.
    ///
    /// # Errors
    /// It cannot be removed.
    pub async fn delete(&self, tenant: &TenantName, name: &str) -> Result<(), WorkspaceError> {
        let (tenant, name) = (tenant.clone(), name.to_owned());
        self.work(move |workspaces, mount_table| {
            mount_table.within(|| archive::delete(workspaces, mount_table, tenant.as_str(), &name))
        })
        .await
    }

    /// Writes a removed image back from the device that has it open. Nothing may write to it meanwhile.
    ///
    /// # Errors
    /// No device has it open, or the host's disk is full.
    pub async fn rescue(&self, tenant: &TenantName) -> Result<(), WorkspaceError> {
        let tenant = tenant.clone();
        self.work(move |workspaces, mount_table| mount_table.within(|| repair::rescue(workspaces, tenant.as_str())))
            .await
    }

    /// Has a tenant's image checked and put right. It is archived as it was. Nothing may use it.
    ///
    /// # Errors
    /// It is in use, cannot be put right, or the host's disk has no room for the copy.
    pub async fn repair(&self, tenant: &TenantName, mark: ArchiveStamp) -> Result<(), WorkspaceError> {
        let tenant = tenant.clone();
        self.work(move |workspaces, mount_table| {
            mount_table.within(|| {
                mounting::unmount(workspaces, mount_table, tenant.as_str())?;
                repair::repair(workspaces, tenant.as_str(), &mark)
            })
        })
        .await
    }

    /// Checks a tenant's image and changes nothing: whether all is well, and what the check says. One that is mounted
    /// is not read; what the kernel found of it is part of an observation.
    ///
    /// # Errors
    /// It is not there, or the program is missing.
    pub async fn check(&self, tenant: &TenantName) -> Result<(bool, String), WorkspaceError> {
        let tenant = tenant.clone();
        self.work(move |workspaces, mount_table| {
            mount_table.within(|| repair::check(workspaces, mount_table, tenant.as_str()))
        })
        .await
    }

    /// Copies a tenant's plain folder into its mounted volume, and archives the folder. Nothing may use it.
    ///
    /// # Errors
    /// It does not fit. The folder is left as it is then.
    pub async fn move_in(&self, tenant: &TenantName, mark: ArchiveStamp) -> Result<(), WorkspaceError> {
        let tenant = tenant.clone();
        self.work(move |workspaces, mount_table| {
            mount_table.within(|| folder::move_in(workspaces, tenant.as_str(), &mark))
        })
        .await
    }

    /// Whether a tenant's workspace is there to be used, right now.
    ///
    /// # Errors
    /// It cannot be observed.
    pub async fn is_ready(&self, tenant: &TenantName) -> Result<bool, WorkspaceError> {
        let observed = self.observe_tenant(tenant.as_str()).await?;
        Ok(observed.found.get(tenant.as_str()).is_some_and(|found| match found {
            FoundWorkspace { volume: Some(volume), .. } => {
                matches!(&volume.state, VolumeState::Mounted(mounted) if mounted.files.is_some())
            }
            FoundWorkspace { volume: None, place, .. } => matches!(place, WorkspacePath::Folder(_)),
        }))
    }

    /// Archives a tenant's workspace under a name with the time in UTC and the commit. One that is gone is no
    /// error.
    ///
    /// # Errors
    /// It is in use, or cannot be moved.
    pub async fn archive(&self, tenant: &TenantName, mark: ArchiveStamp) -> Result<(), WorkspaceError> {
        let tenant = tenant.clone();
        self.work(move |workspaces, mount_table| {
            mount_table.within(|| {
                mounting::unmount(workspaces, mount_table, tenant.as_str())?;
                archive::archive(workspaces, tenant.as_str(), &mark)
            })
        })
        .await
    }

    /// What is archived, by name, and the bytes that each volume takes; `None` for folders.
    ///
    /// # Errors
    /// The folder cannot be read.
    pub fn archived(&self) -> Result<Vec<(String, Option<u64>)>, WorkspaceError> {
        archive::list(self)
    }

    /// Does something that may take a while, off the event loop.
    async fn work<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Self, &MountTable) -> Result<T, WorkspaceError> + Send + 'static,
    ) -> Result<T, WorkspaceError> {
        let engine = listener(&self.engine).await;
        let workspaces = self.clone();
        let done = tokio::task::spawn_blocking(move || {
            let mount_table = MountTable::of(engine, &canonical(&workspaces.mounts()))?;
            work(&workspaces, &mount_table)
        })
        .await;
        done.unwrap_or(Err(WorkspaceError::Ended))
    }
}
