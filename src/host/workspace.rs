//! Workspaces: a folder for each tenant under the data root.
//!
//! The folder that holds them is closed to everyone but root, so that no tenant's user on the host
//! reaches another's. Nothing in a workspace is ever followed, opened or removed here.

use std::{
    collections::BTreeMap,
    fs, io,
    os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt, lchown},
    path::{Path, PathBuf},
};

use crate::model::{TenantName, observed::Workspace};

/// The user and group that owns every workspace, the one that tenants run as.
const OWNER: u32 = 1000;

/// The folders of all tenants on one host.
#[derive(Clone, Debug)]
pub struct Workspaces {
    data_root: PathBuf,
}

/// Why a workspace could not be read or made.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action} {path}", path = path.display())]
pub struct WorkspaceError {
    action: &'static str,
    path: PathBuf,
    source: io::Error,
}

impl Workspaces {
    /// The workspaces under a data root.
    pub fn new(data_root: &Path) -> Self {
        Self { data_root: data_root.to_owned() }
    }

    fn folder(&self) -> PathBuf {
        self.data_root.join("workspaces")
    }

    /// All workspaces by their folder's name. None where the data root does not exist yet.
    ///
    /// # Errors
    /// The folder exists and cannot be read.
    pub fn list(&self) -> Result<BTreeMap<String, Workspace>, WorkspaceError> {
        let folder = self.folder();
        let failed = |source| WorkspaceError { action: "read", path: folder.clone(), source };
        let entries = match fs::read_dir(&folder) {
            Ok(entries) => entries,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(BTreeMap::new()),
            Err(e) => return Err(failed(e)),
        };
        let mut found = BTreeMap::new();
        for entry in entries {
            let entry = entry.map_err(failed)?;
            let metadata = entry.metadata().map_err(failed)?;
            if let Ok(name) = entry.file_name().into_string() {
                found.insert(name, workspace(&metadata));
            }
        }
        Ok(found)
    }

    /// One tenant's workspace under its folder's name, if it is there.
    ///
    /// # Errors
    /// It cannot be looked at.
    pub fn look(&self, tenant: &str) -> Result<BTreeMap<String, Workspace>, WorkspaceError> {
        let path = self.folder().join(tenant);
        match fs::symlink_metadata(&path) {
            Ok(metadata) => Ok(BTreeMap::from([(tenant.to_owned(), workspace(&metadata))])),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(BTreeMap::new()),
            Err(source) => Err(WorkspaceError { action: "look at", path, source }),
        }
    }

    /// Makes a tenant's folder, or corrects its owner and mode. Its content is left as it is.
    ///
    /// # Errors
    /// The folder cannot be made or is no folder.
    pub fn prepare(&self, tenant: &TenantName) -> Result<(), WorkspaceError> {
        let folder = self.folder();
        make_folder(&folder)?;
        let path = folder.join(tenant.as_str());
        let failed = |source| WorkspaceError { action: "prepare", path: path.clone(), source };
        make_folder(&path)?;
        let metadata = fs::symlink_metadata(&path).map_err(failed)?;
        if !metadata.is_dir() {
            return Err(failed(io::Error::from(io::ErrorKind::NotADirectory)));
        }
        lchown(&path, Some(OWNER), Some(OWNER)).map_err(failed)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o700)).map_err(failed)
    }

    /// Whether a tenant's folder is there to be mounted.
    pub fn is_ready(&self, tenant: &TenantName) -> bool {
        fs::symlink_metadata(self.folder().join(tenant.as_str())).is_ok_and(|metadata| metadata.is_dir())
    }

    /// Moves a tenant's folder aside, under a name with the time in UTC. One that is gone is no error.
    ///
    /// Returns where it lies now.
    ///
    /// # Errors
    /// It cannot be moved.
    pub fn set_aside(&self, tenant: &TenantName, time: jiff::Timestamp) -> Result<PathBuf, WorkspaceError> {
        let aside = self.data_root.join("aside");
        make_folder(&aside)?;
        let from = self.folder().join(tenant.as_str());
        let stamp = time.strftime("%Y%m%dT%H%M%S%.3fZ");
        let to = aside.join(format!("{tenant}.{stamp}"));
        match fs::rename(&from, &to) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => {
                Err(WorkspaceError { action: "set aside", path: from, source: e })
            }
            _ => Ok(to),
        }
    }
}

fn workspace(metadata: &fs::Metadata) -> Workspace {
    Workspace { is_folder: metadata.is_dir(), uid: metadata.uid(), mode: metadata.mode() & 0o7777 }
}

/// Makes a folder, and its parents, for its owner alone.
fn make_folder(path: &Path) -> Result<(), WorkspaceError> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(|source| WorkspaceError {
        action: "make",
        path: path.to_owned(),
        source,
    })
}
