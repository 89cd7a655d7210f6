//! Which kind of volume a backend is.

use super::{image::Image, layout::Workspaces, subvolume::Subvolume, volume::Volume};
use crate::model::workspace::Backend;

/// What a tenant's workspace is or will be kept in. A plain folder is no volume: it becomes an image, if anything.
pub(super) fn volume_of<'a>(workspaces: &'a Workspaces, tenant: &'a str, backend: Backend) -> Box<dyn Volume + 'a> {
    match backend {
        Backend::Btrfs => Box::new(Subvolume::new(workspaces, tenant)),
        Backend::Image | Backend::Folder => Box::new(Image::new(workspaces, tenant)),
    }
}

/// All that it may be kept in.
pub(super) fn volumes_of<'a>(workspaces: &'a Workspaces, tenant: &'a str) -> [Box<dyn Volume + 'a>; 2] {
    [Backend::Image, Backend::Btrfs].map(|backend| volume_of(workspaces, tenant, backend))
}
