//! Workspaces: what each tenant gets as /workspace, and what bounds it.
//!
//! Under the data root:
//!
//! | path | what it is |
//! | --- | --- |
//! | `images/NAME.img` | a sparse file with an ext4 file system |
//! | `images/NAME.damaged` | why the image is not used: a person should look |
//! | `subvolumes/NAME` | on btrfs, in place of an image: a subvolume with a quota group |
//! | `wishes/NAME` | what an operator asked for, and who that was, until it is done |
//! | `mounts/NAME` | where either is mounted; the folder below is closed and stays empty |
//! | `mounts/NAME/files` | what the tenant sees. It is not there unless the volume is mounted |
//! | `mounts/NAME/.ballast` | in an image, takes the blocks beyond `limits.disk` |
//! | `workspaces/NAME` | for people: a link to `files`, or the folder itself where nothing bounds it |
//! | `aside/` | workspaces of tenants that are gone |
//!
//! All of them are closed to everyone but root, so that no tenant's user on the host reaches another's. Nothing that a
//! tenant made is ever followed, opened or removed here.

mod aside;
mod folder;
mod ground;
mod image;
mod look;
mod program;
mod repair;
mod subvolume;
mod superblock;
mod volume;
mod watch;

use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
};

use crate::model::{
    Host, TenantName,
    host::WorkspaceSettings,
    workspace::{Backend, FoundWorkspace, ObservedWorkspaces, Place, VolumeSpec, VolumeState, Wish},
};

pub use aside::Mark;

use super::listener::listener;
use ground::Ground;
use image::Image;
use subvolume::Subvolume;
use volume::Volume;

/// The user and group that owns every workspace, the one that tenants run as.
const OWNER: u32 = 1000;

/// The workspaces of all tenants on one host.
#[derive(Clone, Debug)]
pub struct Workspaces {
    engine: PathBuf,
    data_root: PathBuf,
    settings: WorkspaceSettings,
    sources: BTreeMap<String, PathBuf>,
}

/// Why a workspace could not be read or made.
#[derive(Debug, thiserror::Error)]
pub enum WorkspaceError {
    /// The kernel refuses.
    #[error("cannot {action} {path}", path = path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// A program is missing.
    #[error("the program {0} is missing; images need e2fsprogs and util-linux, subvolumes btrfs-progs")]
    NoProgram(&'static str),
    /// A program failed.
    #[error("{name} failed with {end}: {said}")]
    Program {
        /// Its name.
        name: &'static str,
        /// How it ended.
        end: String,
        /// What it printed.
        said: String,
    },
    /// The file system cannot be used.
    #[error("the workspace's file system is damaged: {0}; look at it with `tenantd workspace check`")]
    Damaged(String),
    /// Something was written where the volume belongs.
    #[error("{path} is not empty although nothing is mounted there; move away what it holds", path = .0.display())]
    NotEmpty(PathBuf),
    /// Somebody uses it.
    #[error("{path} is still in use; end what uses it", path = .0.display())]
    Busy(PathBuf),
    /// Something is mounted in what is to be removed.
    #[error("something is mounted below {path}; unmount it first", path = .0.display())]
    Covered(PathBuf),
    /// The engine does not see what is mounted.
    #[error(
        "the engine does not see what is mounted at {path}: it has a mount namespace of its own, which mounts of the \
         host do not reach",
        path = .0.display()
    )]
    Unseen(PathBuf),
    /// The image or subvolume is not there.
    #[error("there is no {path}", path = .0.display())]
    NoVolume(PathBuf),
    /// Nothing of that name lies aside.
    #[error("nothing lies aside as {0}")]
    NotAside(String),
    /// The tenant has a workspace.
    #[error("the tenant has a workspace at {path}", path = .0.display())]
    Taken(PathBuf),
    /// The thread that did it ended.
    #[error("the work on the workspace ended early")]
    Ended,
}

impl WorkspaceError {
    fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { action, path, source }
    }
}

impl Workspaces {
    /// Those that the host's settings describe.
    pub fn new(host: &Host) -> Self {
        Self {
            engine: host.engine.clone(),
            data_root: host.data_root.clone(),
            settings: host.workspaces,
            sources: host.sources.clone(),
        }
    }

    /// All workspaces. None where the data root does not exist yet.
    ///
    /// # Errors
    /// A folder exists and cannot be read.
    pub async fn list(&self) -> Result<ObservedWorkspaces, WorkspaceError> {
        self.look(None).await
    }

    /// One tenant's workspace, if there is any.
    ///
    /// # Errors
    /// It cannot be looked at.
    pub async fn look_at(&self, tenant: &str) -> Result<ObservedWorkspaces, WorkspaceError> {
        self.look(Some(tenant.to_owned())).await
    }

    async fn look(&self, only: Option<String>) -> Result<ObservedWorkspaces, WorkspaceError> {
        if ![self.images(), self.subvolumes()].iter().any(|folder| folder.exists()) {
            // Nothing is mounted, and so no namespace matters.
            let ground = Ground::of(None, &self.mounts())?;
            return ground.within(|| look::look(self, &ground, only.as_deref()));
        }
        self.work(move |workspaces, ground| look::look(workspaces, ground, only.as_deref())).await
    }

    /// Makes a tenant's plain folder, or corrects its owner and mode. Its content is left as it is.
    ///
    /// # Errors
    /// The folder cannot be made or is no folder.
    pub fn prepare_folder(&self, tenant: &TenantName) -> Result<(), WorkspaceError> {
        folder::prepare(&self.folder(), tenant.as_str())
    }

    /// Makes a tenant's volume, unless there is one. It appears under its name when it is whole.
    ///
    /// # Errors
    /// The host's disk is full, or a program is missing.
    pub async fn make(&self, tenant: &TenantName, spec: VolumeSpec) -> Result<(), WorkspaceError> {
        let tenant = tenant.clone();
        self.work(move |workspaces, ground| {
            ground.within(|| workspaces.volume(tenant.as_str(), spec.backend).make(&spec))
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
        self.work(move |workspaces, ground| volume::mount(workspaces, ground, tenant.as_str(), &spec)).await
    }

    /// Sets the limit of a mounted volume, while the tenant runs.
    ///
    /// # Errors
    /// More is used than that.
    pub async fn resize(&self, tenant: &TenantName, spec: VolumeSpec) -> Result<(), WorkspaceError> {
        let tenant = tenant.clone();
        self.work(move |workspaces, ground| {
            let volume = || workspaces.volume(tenant.as_str(), spec.backend);
            ground.within(|| volume::settle(workspaces, ground, tenant.as_str(), &*volume(), &spec))
        })
        .await
    }

    /// Makes the file system of an image larger. Nothing may use it.
    ///
    /// # Errors
    /// It is in use, damaged, or the host's disk is full.
    pub async fn grow(&self, tenant: &TenantName, spec: VolumeSpec) -> Result<(), WorkspaceError> {
        let tenant = tenant.clone();
        self.work(move |workspaces, ground| {
            ground.within(|| {
                volume::unmount(workspaces, ground, tenant.as_str())?;
                image::grow(workspaces, tenant.as_str(), &spec)
            })
        })
        .await
    }

    /// Notes what somebody wants done with a tenant's workspace: the next plan has it.
    ///
    /// # Errors
    /// The note cannot be written.
    pub fn wish(&self, tenant: &TenantName, wish: &Wish) -> Result<(), WorkspaceError> {
        aside::write_wish(self, tenant.as_str(), wish)
    }

    /// Takes something back that lies aside: it becomes the tenant's workspace, which has no other.
    ///
    /// # Errors
    /// It is not there, or the tenant has a workspace.
    pub async fn adopt(&self, tenant: &TenantName, name: &str) -> Result<(), WorkspaceError> {
        let (tenant, name) = (tenant.clone(), name.to_owned());
        self.work(move |workspaces, ground| ground.within(|| aside::adopt(workspaces, tenant.as_str(), &name))).await
    }

    /// Removes something for good that lies aside. One that is gone is no error.
    ///
    /// # Errors
    /// It cannot be removed.
    pub async fn purge(&self, tenant: &TenantName, name: &str) -> Result<(), WorkspaceError> {
        let (tenant, name) = (tenant.clone(), name.to_owned());
        self.work(move |workspaces, ground| ground.within(|| aside::purge(workspaces, ground, tenant.as_str(), &name)))
            .await
    }

    /// Writes a removed image back from the device that has it open. Nothing may write to it meanwhile.
    ///
    /// # Errors
    /// No device has it open, or the host's disk is full.
    pub async fn rescue(&self, tenant: &TenantName) -> Result<(), WorkspaceError> {
        let tenant = tenant.clone();
        self.work(move |workspaces, ground| ground.within(|| repair::rescue(workspaces, tenant.as_str()))).await
    }

    /// Has a tenant's image checked and put right. It is kept aside as it was. Nothing may use it.
    ///
    /// # Errors
    /// It is in use, cannot be put right, or the host's disk has no room for the copy.
    pub async fn repair(&self, tenant: &TenantName, mark: Mark) -> Result<(), WorkspaceError> {
        let tenant = tenant.clone();
        self.work(move |workspaces, ground| {
            ground.within(|| {
                volume::unmount(workspaces, ground, tenant.as_str())?;
                repair::repair(workspaces, tenant.as_str(), &mark)
            })
        })
        .await
    }

    /// Checks a tenant's image and changes nothing: whether all is well, and what the check says. One that is mounted
    /// is not read; what the kernel found of it is told by a look.
    ///
    /// # Errors
    /// It is not there, or the program is missing.
    pub async fn check(&self, tenant: &TenantName) -> Result<(bool, String), WorkspaceError> {
        let tenant = tenant.clone();
        self.work(move |workspaces, ground| ground.within(|| repair::check(workspaces, ground, tenant.as_str()))).await
    }

    /// Copies a tenant's plain folder into its mounted volume, and keeps the folder aside. Nothing may use it.
    ///
    /// # Errors
    /// It does not fit. The folder is left as it is then.
    pub async fn move_in(&self, tenant: &TenantName, mark: Mark) -> Result<(), WorkspaceError> {
        let tenant = tenant.clone();
        self.work(move |workspaces, ground| ground.within(|| folder::move_in(workspaces, tenant.as_str(), &mark))).await
    }

    /// Whether a tenant's workspace is there to be used, right now.
    ///
    /// # Errors
    /// It cannot be looked at.
    pub async fn is_ready(&self, tenant: &TenantName) -> Result<bool, WorkspaceError> {
        let observed = self.look_at(tenant.as_str()).await?;
        Ok(observed.found.get(tenant.as_str()).is_some_and(|found| match found {
            FoundWorkspace { volume: Some(volume), .. } => {
                matches!(&volume.state, VolumeState::Mounted(mounted) if mounted.files.is_some())
            }
            FoundWorkspace { volume: None, place, .. } => matches!(place, Place::Folder(_)),
        }))
    }

    /// Moves a tenant's workspace aside, under a name with the time in UTC and the commit. One that is gone is no
    /// error.
    ///
    /// # Errors
    /// It is in use, or cannot be moved.
    pub async fn set_aside(&self, tenant: &TenantName, mark: Mark) -> Result<(), WorkspaceError> {
        let tenant = tenant.clone();
        self.work(move |workspaces, ground| {
            ground.within(|| {
                volume::unmount(workspaces, ground, tenant.as_str())?;
                aside::set_aside(workspaces, tenant.as_str(), &mark)
            })
        })
        .await
    }

    /// What lies aside, by name, and the bytes that each volume takes; `None` for folders.
    ///
    /// # Errors
    /// The folder cannot be read.
    pub fn aside_list(&self) -> Result<Vec<(String, Option<u64>)>, WorkspaceError> {
        aside::list(self)
    }

    /// Does something that may take a while, off the event loop.
    async fn work<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Self, &Ground) -> Result<T, WorkspaceError> + Send + 'static,
    ) -> Result<T, WorkspaceError> {
        let engine = listener(&self.engine).await;
        let workspaces = self.clone();
        let done = tokio::task::spawn_blocking(move || {
            let ground = Ground::of(engine, &look::canonical(&workspaces.mounts()))?;
            work(&workspaces, &ground)
        })
        .await;
        done.unwrap_or(Err(WorkspaceError::Ended))
    }

    /// What a tenant's workspace is or will be kept in. A plain folder is no volume: it becomes an image, if anything.
    fn volume<'a>(&'a self, tenant: &'a str, backend: Backend) -> Box<dyn Volume + 'a> {
        match backend {
            Backend::Btrfs => Box::new(Subvolume::new(self, tenant)),
            Backend::Image | Backend::Folder => Box::new(Image::new(self, tenant)),
        }
    }

    /// All that it may be kept in.
    fn volumes<'a>(&'a self, tenant: &'a str) -> [Box<dyn Volume + 'a>; 2] {
        [Backend::Image, Backend::Btrfs].map(|backend| self.volume(tenant, backend))
    }

    fn folder(&self) -> PathBuf {
        self.data_root.join("workspaces")
    }

    fn images(&self) -> PathBuf {
        self.data_root.join("images")
    }

    fn subvolumes(&self) -> PathBuf {
        self.data_root.join("subvolumes")
    }

    fn mounts(&self) -> PathBuf {
        self.data_root.join("mounts")
    }

    fn aside(&self) -> PathBuf {
        self.data_root.join("aside")
    }

    fn image(&self, tenant: &str) -> PathBuf {
        self.images().join(format!("{tenant}.img"))
    }

    /// Where an image is written before it takes its place.
    fn new_image(&self, tenant: &str) -> PathBuf {
        self.images().join(format!(".{tenant}.new"))
    }

    fn mark_of_damage(&self, tenant: &str) -> PathBuf {
        self.images().join(format!("{tenant}.damaged"))
    }

    fn wishes(&self) -> PathBuf {
        self.data_root.join("wishes")
    }

    fn wish_of(&self, tenant: &str) -> PathBuf {
        self.wishes().join(tenant)
    }

    fn mount_point(&self, tenant: &str) -> PathBuf {
        self.mounts().join(tenant)
    }
}
