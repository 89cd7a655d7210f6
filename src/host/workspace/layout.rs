//! Where everything of workspaces lies under the data root.

use std::{collections::BTreeMap, path::PathBuf};

use crate::model::{Host, host::WorkspaceSettings};

/// What the tenant sees: a folder right below the mount.
pub(super) const FILES: &str = "files";

/// The workspaces of all tenants on one host.
#[derive(Clone, Debug)]
pub struct Workspaces {
    pub(super) engine: PathBuf,
    pub(super) data_root: PathBuf,
    pub(super) settings: WorkspaceSettings,
    pub(super) sources: BTreeMap<String, PathBuf>,
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

    pub(super) fn folder(&self) -> PathBuf {
        self.data_root.join("workspaces")
    }

    pub(super) fn images(&self) -> PathBuf {
        self.data_root.join("images")
    }

    pub(super) fn subvolumes(&self) -> PathBuf {
        self.data_root.join("subvolumes")
    }

    pub(super) fn mounts(&self) -> PathBuf {
        self.data_root.join("mounts")
    }

    pub(super) fn archives(&self) -> PathBuf {
        self.data_root.join("archive")
    }

    pub(super) fn image(&self, tenant: &str) -> PathBuf {
        self.images().join(format!("{tenant}.img"))
    }

    /// Where an image is written before it takes its place.
    pub(super) fn new_image(&self, tenant: &str) -> PathBuf {
        self.images().join(format!(".{tenant}.new"))
    }

    pub(super) fn mark_of_damage(&self, tenant: &str) -> PathBuf {
        self.images().join(format!("{tenant}.damaged"))
    }

    pub(super) fn requests(&self) -> PathBuf {
        self.data_root.join("requests")
    }

    pub(super) fn request_of(&self, tenant: &str) -> PathBuf {
        self.requests().join(tenant)
    }

    pub(super) fn mount_point(&self, tenant: &str) -> PathBuf {
        self.mounts().join(tenant)
    }
}
