//! What a workspace must be, held against what there is of it: the steps between the two.

use std::path::Path;

use serde_json::{Value, json};

use crate::model::{
    Bytes, Host, Obstacle, PlannedStep, Step, TenantPlan,
    attribute::{Attribute, container, workspace as table},
    change::{Action, AttributeChange, Change, Object, ShownWorkspace},
    observed::RunState,
    plan::{Blocked, Note},
    record::Why,
    resource::Resource,
    workspace::{
        Backend, Folder, FoundVolume, Mounted, Unenforced, VolumeSpec, VolumeState, WorkspaceCapability, WorkspacePath,
    },
};

/// What the rest of a tenant's plan must know of its workspace.
#[derive(Default)]
pub(in crate::plan) struct WorkspaceOutcome {
    /// Steps for which nothing may use the workspace: they come after the old container is gone.
    pub(in crate::plan) offline: Vec<PlannedStep>,
    /// Why a container that has the workspace must be made anew.
    container: Option<Remake>,
    /// Why the limit cannot be as low as declared, if so. It holds up nothing else.
    pub(in crate::plan) in_use: Option<Blocked>,
}

/// Why a container must be made anew.
enum Remake {
    /// What it writes to is not the workspace that it would be given now, for this reason.
    Lost(&'static str, &'static str),
    /// The workspace is worked on while nobody uses it, or its mount changes: what is, and what will be.
    Changed(Value, Value, &'static str),
}

impl WorkspaceOutcome {
    /// How a container differs by its workspace. One that does not run is given it anew at its start.
    pub(in crate::plan) fn attribute(&self, state: RunState) -> Option<AttributeChange> {
        let runs = matches!(state, RunState::Running | RunState::Paused | RunState::Restarting);
        match self.container.as_ref()? {
            Remake::Lost(before, remark) if runs => Some(AttributeChange {
                forces_replacement: true,
                remark: Some(remark),
                ..drift(&container::WORKSPACE, json!(before), json!("present"), *before != "missing")
            }),
            Remake::Lost(..) => None,
            Remake::Changed(before, after, remark) => Some(AttributeChange {
                forces_replacement: true,
                remark: Some(remark),
                why: Why::Intent,
                ..drift(&container::WORKSPACE, before.clone(), after.clone(), false)
            }),
        }
    }

    pub(super) fn lost(before: &'static str, remark: &'static str) -> Self {
        Self { container: Some(Remake::Lost(before, remark)), ..Self::default() }
    }

    fn offline(steps: Vec<PlannedStep>, before: Value, after: Value, remark: &'static str) -> Self {
        Self { offline: steps, container: Some(Remake::Changed(before, after, remark)), in_use: None }
    }
}

/// Why this host cannot use what a workspace is kept in.
pub(super) fn why_not(capability: &WorkspaceCapability, backend: Backend) -> Option<&str> {
    capability.lacks.get(&backend).map(String::as_str)
}

/// What is declared of a workspace.
#[derive(Clone, Copy)]
pub(super) struct DesiredWorkspace<'a> {
    pub(super) name: &'a str,
    pub(super) host: &'a Host,
    pub(super) capability: &'a WorkspaceCapability,
    pub(super) path: &'a Path,
    pub(super) spec: VolumeSpec,
    /// Who asked for a repair, if somebody did.
    pub(super) repair: Option<&'a str>,
}

impl DesiredWorkspace<'_> {
    pub(super) fn tenant(&self) -> String {
        self.name.to_owned()
    }

    pub(super) fn make(&self) -> Step {
        Step::MakeVolume { tenant: self.tenant(), spec: self.spec }
    }

    pub(super) fn mount(&self) -> Step {
        Step::MountVolume { tenant: self.tenant(), spec: self.spec }
    }

    fn grow(&self) -> Step {
        Step::GrowImage { tenant: self.tenant(), spec: self.spec }
    }

    pub(super) fn prepare(&self) -> Step {
        Step::PrepareWorkspace { tenant: self.tenant(), owner: self.spec.owner }
    }

    /// The folder that the tenant sees, as it must be.
    fn proper(&self) -> Folder {
        Folder::proper(self.spec.owner)
    }

    fn folder_changes(&self, actual: Folder) -> Vec<AttributeChange> {
        let proper = self.proper();
        let owner = drift(&table::UID, json!(actual.uid), json!(proper.uid), false);
        let mode = |mode: u32| json!(format!("{mode:04o}"));
        let mode = drift(&table::MODE, mode(actual.mode), mode(proper.mode), actual.mode & 0o077 != 0);
        [owner, mode].into_iter().filter(|a| a.before != a.after).collect()
    }

    pub(super) fn change(&self, action: Action, attributes: Vec<AttributeChange>, before: Option<Object>) -> Change {
        let backend = self.spec.backend;
        let limit = (backend != Backend::Folder).then(|| self.spec.limit_in_blocks());
        Change {
            resource: Resource::Workspace,
            name: self.tenant(),
            action,
            attributes,
            before,
            after: Some(shown(self.path, backend, limit, self.proper())),
        }
    }

    fn update(&self, attributes: Vec<AttributeChange>, limit: Option<u64>, folder: Option<Folder>) -> Change {
        let before = shown(self.path, self.spec.backend, limit, folder.unwrap_or(self.proper()));
        self.change(Action::Update, attributes, Some(before))
    }

    /// A plain folder, where the host makes no volumes.
    pub(super) fn folder(&self, place: WorkspacePath, plan: &mut TenantPlan) -> WorkspaceOutcome {
        match self.host.workspaces.unenforced {
            Unenforced::Accept => plan.notes.push(Note::DiskUnenforced),
            // Of a host that nobody observed at nothing is known.
            Unenforced::Refuse if self.capability.why.is_empty() => plan.notes.push(Note::DiskUnenforced),
            Unenforced::Refuse => {
                plan.blocked.get_or_insert(Blocked {
                    code: Obstacle::DiskUnenforced,
                    reason: format!("limits.disk cannot be enforced on this host: {}", self.capability.why),
                    help: "make it possible, or write workspaces: {unenforced: accept} in host.yaml".to_owned(),
                });
            }
        }
        let WorkspacePath::Folder(folder) = place else {
            let change = plan.add_change(self.change(Action::Create, Vec::new(), None));
            plan.push_step(change, self.prepare());
            return WorkspaceOutcome::lost("missing", "what runs still writes into the folder that is gone");
        };
        let attributes = self.folder_changes(folder);
        if !attributes.is_empty() {
            let before = shown(self.path, Backend::Folder, None, folder);
            let change = plan.add_change(self.change(Action::Update, attributes, Some(before)));
            plan.push_step(change, self.prepare());
        }
        WorkspaceOutcome::default()
    }

    /// A plain folder of an earlier version, or of earlier settings, becomes a volume.
    pub(super) fn migrate(&self, folder: Folder, make: bool, plan: &mut TenantPlan) -> WorkspaceOutcome {
        const REMARK: &str = "what it holds is copied while the tenant is stopped, and the folder is archived";
        let attribute = AttributeChange {
            why: Why::Intent,
            remark: Some(REMARK),
            ..drift(&table::BACKEND, json!(Backend::Folder), json!(self.spec.backend), false)
        };
        let old = self.host.workspace(self.name, Backend::Folder);
        let before = shown(&old, Backend::Folder, None, folder);
        let change = plan.add_change(self.change(Action::Update, vec![attribute], Some(before)));
        let move_in = [self.mount(), Step::MoveIntoVolume { tenant: self.tenant() }, self.mount()];
        let steps = make.then(|| self.make()).into_iter().chain(move_in);
        WorkspaceOutcome::offline(
            steps.map(|step| plan.planned(change, step)).collect(),
            json!(Backend::Folder),
            json!(self.spec.backend),
            "its workspace is moved while it is stopped",
        )
    }

    /// Plans the repair that somebody asked for, after a step that cannot wait for the container to end, if there is one.
    fn repair(&self, before: &'static str, by: &str, first: Option<Step>, plan: &mut TenantPlan) -> WorkspaceOutcome {
        let attribute = AttributeChange {
            why: Why::Intent,
            remark: Some("a copy of it is archived"),
            ..drift(&table::STATE, json!(before), json!(format!("repaired, as {by} asked")), false)
        };
        let change = plan.add_change(self.update(vec![attribute], None, None));
        if let Some(step) = first {
            plan.push_step(change, step);
        }
        let steps = [Step::RepairImage { tenant: self.tenant() }, self.mount()];
        let steps = steps.map(|step| plan.planned(change, step)).into();
        WorkspaceOutcome::offline(
            steps,
            json!(before),
            json!("repaired"),
            "its workspace is repaired while it is stopped",
        )
    }

    pub(super) fn gone(&self, attached: bool, plan: &mut TenantPlan) -> WorkspaceOutcome {
        if let (true, Some(by)) = (attached, self.repair) {
            // What holds it open may be the container: it is written back before anything ends.
            let rescue = Step::RescueImage { tenant: self.tenant() };
            return self.repair("gone", by, Some(rescue), plan);
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
            code: Obstacle::WorkspaceGone,
            reason: format!(
                "what the workspace was kept in is gone: in {} is neither images/{1}.img nor subvolumes/{1}",
                self.host.data_root.display(),
                self.name
            ),
            help,
        });
        WorkspaceOutcome::lost("gone", "what it writes to was removed")
    }

    pub(super) fn volume(&self, volume: &FoundVolume, place: WorkspacePath, plan: &mut TenantPlan) -> WorkspaceOutcome {
        match &volume.state {
            VolumeState::Gone { attached } => self.gone(*attached, plan),
            VolumeState::Damaged { reason, .. } => {
                if let Some(by) = self.repair.filter(|_| volume.backend == Backend::Image) {
                    return self.repair("damaged", by, None, plan);
                }
                plan.blocked = Some(Blocked {
                    code: Obstacle::WorkspaceDamaged,
                    reason: format!("the workspace is damaged, and kept as it is: {reason}"),
                    help: match volume.backend {
                        Backend::Btrfs => "examine it, or put it back from a backup".to_owned(),
                        _ => format!("tenantd workspace check {0}, then tenantd workspace repair {0}", self.name),
                    },
                });
                WorkspaceOutcome::lost("damaged", "its file system has errors")
            }
            VolumeState::Unmounted { covered } => {
                if let WorkspacePath::Folder(folder) = place {
                    return self.migrate(folder, false, plan);
                }
                let before =
                    covered.as_ref().map_or(json!("missing"), |other| json!(format!("{other} is in its place")));
                let mut attributes = vec![drift(&table::MOUNT, before, json!("present"), true)];
                let small = volume.length.filter(|length| *length < self.least_size());
                attributes.extend(small.map(|length| self.size_change(length)));
                let change = plan.add_change(self.update(attributes, None, None));
                if small.is_some() {
                    plan.push_step(change, self.grow());
                }
                plan.push_step(change, self.mount());
                WorkspaceOutcome::lost("not mounted", "what it writes to is not what the next one would get")
            }
            VolumeState::Mounted(mounted) => {
                if let WorkspacePath::Folder(folder) = place {
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
            why: Why::Intent,
            remark: Some("the file system is made larger while the tenant is stopped"),
            ..drift(&table::IMAGE_SIZE, json!(length), json!(after), false)
        }
    }

    fn mounted(
        &self,
        found: &Mounted,
        length: Option<u64>,
        place: WorkspacePath,
        plan: &mut TenantPlan,
    ) -> WorkspaceOutcome {
        let limit = self.spec.limit_in_blocks();
        // One that somebody changed by hand is put back below what is used as well, where any limit can be set.
        let is_lost = found.capacity.is_none() && found.declared.is_some_and(|noted| noted.limit == limit);
        if found.limit.is_none_or(|found| limit < found) && found.used > limit && !is_lost {
            let (used, over) = (Bytes::new(found.used), Bytes::new(found.used - limit));
            let in_use = Blocked {
                code: Obstacle::DiskInUse,
                reason: format!(
                    "limits.disk {} is less than the workspace holds: {} are used, {} too many",
                    self.spec.limit,
                    used.rounded(),
                    over.rounded()
                ),
                help: "remove files from /workspace first, or ask for more".to_owned(),
            };
            if let Some(kept) = found.limit {
                // Who fills its workspace holds up this limit and nothing else. A limit that somebody raised by hand is
                // not what is kept.
                let noted = found.declared.map(|noted| noted.limit).filter(|noted| *noted >= found.used);
                let kept = noted.map_or(kept, |noted| noted.min(kept));
                let spec = VolumeSpec { limit: Bytes::new(kept), ..self.spec };
                return WorkspaceOutcome {
                    in_use: Some(in_use),
                    ..Self { spec, ..*self }.mounted(found, length, place, plan)
                };
            }
            plan.blocked.get_or_insert(in_use);
        }
        let mut attributes = self.compare(found, place);
        if attributes.is_empty() {
            return WorkspaceOutcome::default();
        }
        let only_limit = attributes.iter().all(|attribute| *attribute.attribute == table::LIMIT);
        if let Some(length) = length.filter(|_| found.capacity.is_some_and(|capacity| capacity < limit)) {
            attributes.push(self.size_change(length));
            let change = plan.add_change(self.update(attributes, found.limit, found.files));
            let steps = [self.grow(), self.mount()].map(|step| plan.planned(change, step)).into();
            let (before, after) = (json!(length), json!(self.spec.image_size()));
            return WorkspaceOutcome::offline(
                steps,
                before,
                after,
                "its workspace grows beyond its image while it is stopped",
            );
        }
        let change = plan.add_change(self.update(attributes, found.limit, found.files));
        let step = match only_limit {
            true => Step::ResizeVolume { tenant: self.tenant(), spec: self.spec },
            false => self.mount(),
        };
        plan.push_step(change, step);
        if found.files.is_none() {
            return WorkspaceOutcome::lost("empty", "the folder that it writes to was removed");
        }
        if found.noexec != self.spec.noexec {
            let word = |noexec: bool| json!(if noexec { "noexec" } else { "exec" });
            let remark = "what may be run is settled when it is mounted";
            let why = Remake::Changed(word(found.noexec), word(self.spec.noexec), remark);
            return WorkspaceOutcome { container: Some(why), ..WorkspaceOutcome::default() };
        }
        WorkspaceOutcome::default()
    }

    /// What differs of a mounted volume, attribute by attribute.
    fn compare(&self, found: &Mounted, place: WorkspacePath) -> Vec<AttributeChange> {
        let limit = self.spec.limit_in_blocks();
        let mut changes = Vec::new();
        // What is noted distinguishes a limit that somebody changed behind tenantd's back from one that a commit changed.
        let noted = found.declared;
        if found.limit != Some(limit) || noted.is_none_or(|noted| noted.limit != limit) {
            let is_drift = noted.is_some_and(|noted| noted.limit == limit);
            changes.push(AttributeChange {
                why: Why::drift_if(is_drift),
                ..drift(
                    &table::LIMIT,
                    json!(found.limit),
                    json!(limit),
                    is_drift && found.limit.is_none_or(|found| found > limit),
                )
            });
        }
        if found.noexec != self.spec.noexec {
            let is_drift = noted.is_some_and(|noted| noted.noexec == self.spec.noexec);
            changes.push(AttributeChange {
                why: Why::drift_if(is_drift),
                ..drift(&table::NOEXEC, json!(found.noexec), json!(self.spec.noexec), is_drift && !found.noexec)
            });
        }
        if !found.confined {
            let before = json!("other options");
            changes.push(drift(&table::OPTIONS, before, json!("rw,nosuid,nodev"), true));
        }
        match found.files {
            None => changes.push(drift(&table::FOLDER, json!("missing"), json!("present"), false)),
            Some(folder) => changes.extend(self.folder_changes(folder)),
        }
        if place != WorkspacePath::Link {
            let link = self.host.workspace(self.name, Backend::Folder);
            changes.push(drift(&table::LINK, Value::Null, json!(link), false));
        }
        changes
    }
}

pub(super) fn shown(path: &Path, backend: Backend, limit: Option<u64>, folder: Folder) -> Object {
    Object::Workspace(ShownWorkspace {
        path: path.to_string_lossy().into_owned(),
        backend,
        limit: limit.map(Bytes::new),
        folder,
    })
}

pub(super) fn drift(attribute: &'static Attribute, before: Value, after: Value, weakens: bool) -> AttributeChange {
    AttributeChange { attribute, before, after, forces_replacement: false, weakens, why: Why::Drift, remark: None }
}
