//! A tenant's workspace: what it must be, what there is, and the steps between them.

mod archive;
mod declared;

use std::path::PathBuf;

pub(super) use archive::deletes;
pub(super) use declared::WorkspaceOutcome;

use archive::Restoration;
use declared::{DesiredWorkspace, shown};

use crate::model::{
    Host, Obstacle, Step, Tenant, TenantPlan,
    change::{Action, Change},
    plan::Blocked,
    resource::Resource,
    workspace::{
        Backend, Folder, FoundVolume, FoundWorkspace, ObservedWorkspaces, Owner, VolumeSpec, VolumeState,
        WorkspaceCapability, WorkspacePath,
    },
};

/// How a tenant's workspace is or will be bounded. What exists stays what it is, except that a plain folder becomes a
/// volume where the host makes volumes.
pub(super) fn backend(capability: &WorkspaceCapability, found: Option<&FoundWorkspace>) -> Backend {
    match found {
        Some(FoundWorkspace { volume: Some(volume), .. }) => volume.backend,
        // The link leads to where all volumes are mounted.
        Some(FoundWorkspace { place: WorkspacePath::Link, .. }) if capability.backend == Backend::Folder => {
            Backend::Image
        }
        _ => capability.backend,
    }
}

/// The same once what is to be taken back is there.
fn declared_backend(tenant: &Tenant, observed: &ObservedWorkspaces, found: Option<&FoundWorkspace>) -> Backend {
    match archive::restoration(tenant, observed, found) {
        Restoration::Entry { name, .. } if Backend::of_archived(&name) != Backend::Folder => {
            Backend::of_archived(&name)
        }
        _ => backend(&observed.capability, found),
    }
}

/// Where the container of a declared tenant finds it on the host.
pub(super) fn declared_path(
    tenant: &Tenant,
    host: &Host,
    observed: &ObservedWorkspaces,
    found: Option<&FoundWorkspace>,
) -> PathBuf {
    host.workspace(tenant.name.as_str(), declared_backend(tenant, observed, found))
}

/// Plans the workspace of a declared tenant.
pub(super) fn converge(
    tenant: &Tenant,
    host: &Host,
    observed: &ObservedWorkspaces,
    owner: Owner,
    found: Option<&FoundWorkspace>,
    plan: &mut TenantPlan,
) -> WorkspaceOutcome {
    let capability = &observed.capability;
    let spec = VolumeSpec {
        backend: declared_backend(tenant, observed, found),
        limit: tenant.limits.disk,
        room: host.ceilings.disk.map_or(tenant.disk_room, |most| tenant.disk_room.min(most)),
        noexec: tenant.sandbox.workspace_noexec,
        owner,
    };
    let path = host.workspace(tenant.name.as_str(), spec.backend);
    let repair = found.and_then(FoundWorkspace::repair);
    let declared = DesiredWorkspace { name: tenant.name.as_str(), host, capability, path: &path, spec, repair };
    archive::delete(&declared.tenant(), found, plan);
    let place = found.map_or(WorkspacePath::Nothing, |found| found.place);
    if place == WorkspacePath::Other {
        let path = host.workspace(tenant.name.as_str(), Backend::Folder);
        plan.blocked.get_or_insert(Blocked {
            code: Obstacle::WorkspaceNotAFolder,
            reason: format!("{} is not a folder", path.display()),
            help: "move it away; a link or file in its place could lead the tenant elsewhere on the host".to_owned(),
        });
        return WorkspaceOutcome::default();
    }
    if let Some(outcome) = archive::converge(tenant, observed, found, &declared, plan) {
        return outcome;
    }
    match (found.and_then(|found| found.volume.as_ref()), spec.backend) {
        (Some(volume), _) => declared.volume(volume, place, plan),
        (None, Backend::Image | Backend::Btrfs) => match place {
            WorkspacePath::Folder(folder) => declared.migrate(folder, true, plan),
            WorkspacePath::Link => declared.gone(false, plan),
            WorkspacePath::Nothing | WorkspacePath::Other => {
                let change = plan.add_change(declared.change(Action::Create, Vec::new(), None));
                plan.push_step(change, declared.make());
                plan.push_step(change, declared.mount());
                WorkspaceOutcome::lost("missing", "what runs has no workspace that would last")
            }
        },
        (None, Backend::Folder) => declared.folder(place, plan),
    }
}

/// Plans that the workspace of a tenant that sleeps is mounted nowhere. All else waits until it is used again.
pub(super) fn asleep(tenant: &Tenant, found: &FoundWorkspace, plan: &mut TenantPlan) {
    archive::delete(tenant.name.as_str(), Some(found), plan);
    if matches!(found.volume, Some(FoundVolume { state: VolumeState::Mounted(_), .. })) {
        plan.push_step(None, Step::UnmountVolume { tenant: tenant.name.to_string() });
    }
}

/// Plans that the workspace of a tenant that nobody declares is archived.
pub(super) fn remove(
    name: &str,
    host: &Host,
    capability: &WorkspaceCapability,
    found: &FoundWorkspace,
    plan: &mut TenantPlan,
) {
    archive::delete(name, Some(found), plan);
    if !found.exists() {
        return;
    }
    let backend = backend(capability, Some(found));
    let path = host.workspace(name, backend);
    let (limit, folder) = match (&found.volume, found.place) {
        (Some(FoundVolume { state: VolumeState::Mounted(mounted), .. }), _) => (mounted.limit, mounted.files),
        (_, WorkspacePath::Folder(folder)) => (None, Some(folder)),
        _ => (None, None),
    };
    let change = plan.add_change(Change {
        resource: Resource::Workspace,
        name: name.to_owned(),
        action: Action::Delete,
        attributes: Vec::new(),
        before: Some(shown(&path, backend, limit, folder.unwrap_or(Folder::proper(Owner::TENANT)))),
        after: None,
    });
    plan.push_step(change, Step::ArchiveWorkspace { tenant: name.to_owned() });
}
