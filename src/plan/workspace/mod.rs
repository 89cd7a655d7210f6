//! A tenant's workspace: what it must be, what there is, and the steps between them.

mod aside;

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

pub(super) use aside::purges;

use aside::Restoration;

use crate::model::{
    Bytes, Host, Step, Tenant, TenantPlan,
    observed::RunState,
    plan::{Action, AttributeChange, Blocked, Cause, Change, Note, Object, Resource, ShownWorkspace},
    workspace::{
        Backend, Folder, FoundVolume, FoundWorkspace, Mounted, ObservedWorkspaces, Place, Site, Unenforced, VolumeSpec,
        VolumeState,
    },
};

/// What the rest of a tenant's plan must know of its workspace.
#[derive(Default)]
pub(super) struct Fate {
    /// Steps for which nothing may use the workspace: they come after the old container is gone.
    pub(super) offline: Vec<Step>,
    /// Why a container that has the workspace must be made anew.
    container: Option<Why>,
}

/// Why a container must be made anew.
enum Why {
    /// What it writes to is not the workspace that it would be given now, for this reason.
    Lost(&'static str, &'static str),
    /// The workspace is worked on while nobody uses it, or its mount changes: what is, and what will be.
    Changed(Value, Value, &'static str),
}

impl Fate {
    /// How a container differs by its workspace. One that does not run is given it anew at its start.
    pub(super) fn attribute(&self, state: RunState) -> Option<AttributeChange> {
        let runs = matches!(state, RunState::Running | RunState::Paused | RunState::Restarting);
        match self.container.as_ref()? {
            Why::Lost(before, remark) if runs => Some(AttributeChange {
                forces_replacement: true,
                remark: Some(remark),
                ..drift("workspace", json!(before), json!("present"), *before != "missing")
            }),
            Why::Lost(..) => None,
            Why::Changed(before, after, remark) => Some(AttributeChange {
                forces_replacement: true,
                remark: Some(remark),
                cause: Cause::Intent,
                ..drift("workspace", before.clone(), after.clone(), false)
            }),
        }
    }

    fn lost(before: &'static str, remark: &'static str) -> Self {
        Self { container: Some(Why::Lost(before, remark)), ..Self::default() }
    }

    fn offline(steps: Vec<Step>, before: Value, after: Value, remark: &'static str) -> Self {
        Self { offline: steps, container: Some(Why::Changed(before, after, remark)) }
    }
}

/// How a tenant's workspace is or will be bounded. What exists stays what it is, except that a plain folder becomes a
/// volume where the host makes volumes.
pub(super) fn backend(site: &Site, found: Option<&FoundWorkspace>) -> Backend {
    match found {
        Some(FoundWorkspace { volume: Some(volume), .. }) => volume.backend,
        // The link leads to where all volumes are mounted.
        Some(FoundWorkspace { place: Place::Link, .. }) if site.backend == Backend::Folder => Backend::Image,
        _ => site.backend,
    }
}

/// The same once what is to be taken back is there.
fn declared_backend(tenant: &Tenant, observed: &ObservedWorkspaces, found: Option<&FoundWorkspace>) -> Backend {
    match aside::restoration(tenant, observed, found) {
        Restoration::Entry { name, .. } if Backend::of_aside(&name) != Backend::Folder => Backend::of_aside(&name),
        _ => backend(&observed.site, found),
    }
}

/// Why this host cannot use what a workspace is kept in.
fn why_not(site: &Site, backend: Backend) -> Option<&str> {
    site.lacks.get(&backend).map(String::as_str)
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
    found: Option<&FoundWorkspace>,
    plan: &mut TenantPlan,
) -> Fate {
    let site = &observed.site;
    let spec = VolumeSpec {
        backend: declared_backend(tenant, observed, found),
        limit: tenant.limits.disk,
        room: host.ceilings.disk.map_or(tenant.disk_room, |most| tenant.disk_room.min(most)),
        noexec: tenant.sandbox.workspace_noexec,
    };
    let path = host.workspace(tenant.name.as_str(), spec.backend);
    let repair = found.and_then(FoundWorkspace::repair);
    let declared = Declared { name: tenant.name.as_str(), host, site, path: &path, spec, repair };
    aside::purge(&declared.tenant(), found, plan);
    let place = found.map_or(Place::Nothing, |found| found.place);
    if place == Place::Other {
        let path = host.workspace(tenant.name.as_str(), Backend::Folder);
        plan.blocked.get_or_insert(Blocked {
            code: "workspace-not-a-folder",
            reason: format!("{} is not a folder", path.display()),
            help: "move it away; a link or file in its place could lead the tenant elsewhere on the host".to_owned(),
        });
        return Fate::default();
    }
    if let Some(fate) = aside::converge(tenant, observed, found, &declared, plan) {
        return fate;
    }
    match (found.and_then(|found| found.volume.as_ref()), spec.backend) {
        (Some(volume), _) => declared.volume(volume, place, plan),
        (None, Backend::Image | Backend::Btrfs) => match place {
            Place::Folder(folder) => declared.migrate(folder, true, plan),
            Place::Link => declared.gone(false, plan),
            Place::Nothing | Place::Other => {
                plan.changes.push(declared.change(Action::Create, Vec::new(), None));
                plan.steps.extend([declared.make(), declared.mount()]);
                Fate::lost("missing", "what runs has no workspace that would last")
            }
        },
        (None, Backend::Folder) => declared.folder(place, plan),
    }
}

/// Plans that the workspace of a tenant that nobody declares is kept aside.
pub(super) fn remove(name: &str, host: &Host, site: &Site, found: &FoundWorkspace, plan: &mut TenantPlan) {
    aside::purge(name, Some(found), plan);
    if !found.exists() {
        return;
    }
    let backend = backend(site, Some(found));
    let path = host.workspace(name, backend);
    let (limit, folder) = match (&found.volume, found.place) {
        (Some(FoundVolume { state: VolumeState::Mounted(mounted), .. }), _) => (mounted.limit, mounted.files),
        (_, Place::Folder(folder)) => (None, Some(folder)),
        _ => (None, None),
    };
    plan.changes.push(Change {
        resource: Resource::Workspace,
        name: name.to_owned(),
        action: Action::Delete,
        attributes: Vec::new(),
        before: Some(shown(&path, backend, limit, folder)),
        after: None,
    });
    plan.steps.push(Step::SetAside { tenant: name.to_owned() });
}

fn shown(path: &Path, backend: Backend, limit: Option<u64>, folder: Option<Folder>) -> Object {
    Object::Workspace(ShownWorkspace {
        path: path.to_string_lossy().into_owned(),
        backend,
        limit: limit.map(Bytes::new),
        folder: folder.unwrap_or(Folder::PROPER),
    })
}

/// What is declared of a workspace.
struct Declared<'a> {
    name: &'a str,
    host: &'a Host,
    site: &'a Site,
    path: &'a Path,
    spec: VolumeSpec,
    /// Who asked for a repair, if somebody did.
    repair: Option<&'a str>,
}

impl Declared<'_> {
    fn tenant(&self) -> String {
        self.name.to_owned()
    }

    fn make(&self) -> Step {
        Step::MakeVolume { tenant: self.tenant(), spec: self.spec }
    }

    fn mount(&self) -> Step {
        Step::MountVolume { tenant: self.tenant(), spec: self.spec }
    }

    fn change(&self, action: Action, attributes: Vec<AttributeChange>, before: Option<Object>) -> Change {
        let backend = self.spec.backend;
        let limit = (backend != Backend::Folder).then(|| self.spec.limit_in_blocks());
        Change {
            resource: Resource::Workspace,
            name: self.tenant(),
            action,
            attributes,
            before,
            after: Some(shown(self.path, backend, limit, None)),
        }
    }

    fn update(&self, attributes: Vec<AttributeChange>, limit: Option<u64>, folder: Option<Folder>) -> Change {
        let before = shown(self.path, self.spec.backend, limit, folder);
        self.change(Action::Update, attributes, Some(before))
    }

    /// A plain folder, where the host makes no volumes.
    fn folder(&self, place: Place, plan: &mut TenantPlan) -> Fate {
        match self.host.workspaces.unenforced {
            Unenforced::Accept => plan.notes.push(Note::DiskUnenforced),
            // Of a host that nobody looked at nothing is known.
            Unenforced::Refuse if self.site.why.is_empty() => plan.notes.push(Note::DiskUnenforced),
            Unenforced::Refuse => {
                plan.blocked.get_or_insert(Blocked {
                    code: "disk-unenforced",
                    reason: format!("limits.disk cannot be enforced on this host: {}", self.site.why),
                    help: "make it possible, or write workspaces: {unenforced: accept} in host.yaml".to_owned(),
                });
            }
        }
        let Place::Folder(folder) = place else {
            plan.changes.push(self.change(Action::Create, Vec::new(), None));
            plan.steps.push(Step::PrepareWorkspace { tenant: self.tenant() });
            return Fate::lost("missing", "what runs still writes into the folder that is gone");
        };
        let attributes = folder_changes(folder);
        if !attributes.is_empty() {
            let before = shown(self.path, Backend::Folder, None, Some(folder));
            plan.changes.push(self.change(Action::Update, attributes, Some(before)));
            plan.steps.push(Step::PrepareWorkspace { tenant: self.tenant() });
        }
        Fate::default()
    }

    /// A plain folder of an earlier version, or of earlier settings, becomes a volume.
    fn migrate(&self, folder: Folder, make: bool, plan: &mut TenantPlan) -> Fate {
        const REMARK: &str = "what it holds is copied while the tenant is stopped, and the folder is kept aside";
        let attribute = AttributeChange {
            cause: Cause::Intent,
            remark: Some(REMARK),
            ..drift("backend", json!(Backend::Folder), json!(self.spec.backend), false)
        };
        let old = self.host.workspace(self.name, Backend::Folder);
        let before = shown(&old, Backend::Folder, None, Some(folder));
        plan.changes.push(self.change(Action::Update, vec![attribute], Some(before)));
        let mut steps = vec![self.mount(), Step::MoveIntoVolume { tenant: self.tenant() }, self.mount()];
        if make {
            steps.insert(0, self.make());
        }
        Fate::offline(
            steps,
            json!(Backend::Folder),
            json!(self.spec.backend),
            "its workspace is moved while it is stopped",
        )
    }

    /// Plans the repair that somebody asked for.
    fn repair(&self, before: &'static str, by: &str, plan: &mut TenantPlan) -> Fate {
        let attribute = AttributeChange {
            cause: Cause::Intent,
            remark: Some("a copy of it is kept aside"),
            ..drift("state", json!(before), json!(format!("repaired, as {by} asked")), false)
        };
        plan.changes.push(self.update(vec![attribute], None, None));
        let steps = vec![Step::RepairImage { tenant: self.tenant() }, self.mount()];
        Fate::offline(steps, json!(before), json!("repaired"), "its workspace is repaired while it is stopped")
    }

    fn gone(&self, attached: bool, plan: &mut TenantPlan) -> Fate {
        if let (true, Some(by)) = (attached, self.repair) {
            // What holds it open may be the container: it is written back before anything ends.
            plan.steps.push(Step::RescueImage { tenant: self.tenant() });
            return self.repair("gone", by, plan);
        }
        let help = if attached {
            format!("the kernel still holds what was in it: tenantd workspace repair {} writes it back", self.name)
        } else {
            let (mounts, links) = (self.host.data_root.join("mounts"), self.host.data_root.join("workspaces"));
            format!(
                "put it back from a backup; for an empty one instead, remove {} and {}",
                mounts.join(self.name).display(),
                links.join(self.name).display()
            )
        };
        plan.blocked = Some(Blocked {
            code: "workspace-gone",
            reason: format!(
                "what the workspace was kept in is gone: in {} is neither images/{1}.img nor subvolumes/{1}",
                self.host.data_root.display(),
                self.name
            ),
            help,
        });
        Fate::lost("gone", "what it writes to was removed")
    }

    fn volume(&self, volume: &FoundVolume, place: Place, plan: &mut TenantPlan) -> Fate {
        match &volume.state {
            VolumeState::Gone { attached } => self.gone(*attached, plan),
            VolumeState::Damaged { reason, .. } => {
                if let Some(by) = self.repair.filter(|_| volume.backend == Backend::Image) {
                    return self.repair("damaged", by, plan);
                }
                plan.blocked = Some(Blocked {
                    code: "workspace-damaged",
                    reason: format!("the workspace is damaged, and kept as it is: {reason}"),
                    help: match volume.backend {
                        Backend::Btrfs => "look at it, or put it back from a backup".to_owned(),
                        _ => format!("tenantd workspace check {0}, then tenantd workspace repair {0}", self.name),
                    },
                });
                Fate::lost("damaged", "its file system has errors")
            }
            VolumeState::Unmounted { covered } => {
                if let Place::Folder(folder) = place {
                    return self.migrate(folder, false, plan);
                }
                let before =
                    covered.as_ref().map_or(json!("missing"), |other| json!(format!("{other} is in its place")));
                let mut attributes = vec![drift("mount", before, json!("present"), true)];
                if let Some(length) = volume.length.filter(|length| *length < self.least_size()) {
                    attributes.push(self.size_change(length));
                    plan.steps.push(Step::GrowImage { tenant: self.tenant(), spec: self.spec });
                }
                plan.changes.push(self.update(attributes, None, None));
                plan.steps.push(self.mount());
                Fate::lost("not mounted", "what it writes to is not what the next one would get")
            }
            VolumeState::Mounted(mounted) => {
                if let Place::Folder(folder) = place {
                    return self.migrate(folder, false, plan);
                }
                self.mounted(mounted, volume.length, place, plan)
            }
        }
    }

    /// The length of an image that holds the limit alone.
    fn least_size(&self) -> u64 {
        self.spec.limit_in_blocks()
    }

    fn size_change(&self, length: u64) -> AttributeChange {
        let after = self.spec.image_size();
        AttributeChange {
            cause: Cause::Intent,
            remark: Some("the file system is made larger while the tenant is stopped"),
            ..drift("image_size", json!(length), json!(after), false)
        }
    }

    fn mounted(&self, found: &Mounted, length: Option<u64>, place: Place, plan: &mut TenantPlan) -> Fate {
        let limit = self.spec.limit_in_blocks();
        // One that somebody changed by hand is put back below what is used as well, where any limit can be set.
        let is_lost = found.capacity.is_none() && found.declared.is_some_and(|noted| noted.limit == limit);
        if found.limit.is_none_or(|found| limit < found) && found.used > limit && !is_lost {
            let (used, over) = (Bytes::new(found.used), Bytes::new(found.used - limit));
            plan.blocked.get_or_insert(Blocked {
                code: "disk-in-use",
                reason: format!(
                    "limits.disk {} is less than the workspace holds: {} are used, {} too many",
                    self.spec.limit,
                    used.rounded(),
                    over.rounded()
                ),
                help: "remove files from /workspace first, or ask for more".to_owned(),
            });
        }
        let mut attributes = self.compare(found, place);
        if attributes.is_empty() {
            return Fate::default();
        }
        let only_limit = attributes.iter().all(|attribute| attribute.name == "limit");
        if let Some(length) = length.filter(|_| found.capacity.is_some_and(|capacity| capacity < limit)) {
            attributes.push(self.size_change(length));
            plan.changes.push(self.update(attributes, found.limit, found.files));
            let steps = vec![Step::GrowImage { tenant: self.tenant(), spec: self.spec }, self.mount()];
            let (before, after) = (json!(length), json!(self.spec.image_size()));
            return Fate::offline(steps, before, after, "its workspace grows beyond its image while it is stopped");
        }
        plan.changes.push(self.update(attributes, found.limit, found.files));
        plan.steps.push(match only_limit {
            true => Step::ResizeVolume { tenant: self.tenant(), spec: self.spec },
            false => self.mount(),
        });
        if found.files.is_none() {
            return Fate::lost("empty", "the folder that it writes to was removed");
        }
        if found.noexec != self.spec.noexec {
            let word = |noexec: bool| json!(if noexec { "noexec" } else { "exec" });
            let remark = "what may be run is settled when it is mounted";
            let why = Why::Changed(word(found.noexec), word(self.spec.noexec), remark);
            return Fate { container: Some(why), ..Fate::default() };
        }
        Fate::default()
    }

    /// What differs of a mounted volume, attribute by attribute.
    fn compare(&self, found: &Mounted, place: Place) -> Vec<AttributeChange> {
        let limit = self.spec.limit_in_blocks();
        let mut changes = Vec::new();
        // What is noted tells a limit that somebody changed behind tenantd's back from one that a commit changed.
        let noted = found.declared;
        if found.limit != Some(limit) || noted.is_none_or(|noted| noted.limit != limit) {
            let is_drift = noted.is_some_and(|noted| noted.limit == limit);
            changes.push(AttributeChange {
                cause: if is_drift { Cause::Drift } else { Cause::Intent },
                ..drift(
                    "limit",
                    json!(found.limit),
                    json!(limit),
                    is_drift && found.limit.is_none_or(|found| found > limit),
                )
            });
        }
        if found.noexec != self.spec.noexec {
            let is_drift = noted.is_some_and(|noted| noted.noexec == self.spec.noexec);
            changes.push(AttributeChange {
                cause: if is_drift { Cause::Drift } else { Cause::Intent },
                ..drift("noexec", json!(found.noexec), json!(self.spec.noexec), is_drift && !found.noexec)
            });
        }
        if !found.confined {
            let before = json!("other options");
            changes.push(drift("options", before, json!("rw,nosuid,nodev"), true));
        }
        match found.files {
            None => changes.push(drift("folder", json!("missing"), json!("present"), false)),
            Some(folder) => changes.extend(folder_changes(folder)),
        }
        if place != Place::Link {
            let link = self.host.workspace(self.name, Backend::Folder);
            changes.push(drift("link", Value::Null, json!(link), false));
        }
        changes
    }
}

fn drift(name: &'static str, before: Value, after: Value, weakens: bool) -> AttributeChange {
    AttributeChange { name, before, after, forces_replacement: false, weakens, cause: Cause::Drift, remark: None }
}

fn folder_changes(actual: Folder) -> Vec<AttributeChange> {
    let owner = drift("uid", json!(actual.uid), json!(Folder::PROPER.uid), false);
    let mode = |mode: u32| json!(format!("{mode:04o}"));
    let mode = drift("mode", mode(actual.mode), mode(Folder::PROPER.mode), actual.mode & 0o077 != 0);
    [owner, mode].into_iter().filter(|a| a.before != a.after).collect()
}
