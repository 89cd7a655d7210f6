//! What is archived of a tenant: taken back, asked about, removed.

use serde_json::{Value, json};

use super::declared::{DesiredWorkspace, WorkspaceOutcome, drift, why_not};
use crate::model::{
    Obstacle, Step, Tenant, TenantPlan,
    attribute::workspace as table,
    change::{Action, AttributeChange, Change},
    plan::Blocked,
    record::Why,
    resource::Resource,
    workspace::{Backend, FoundWorkspace, ObservedWorkspaces, OperatorRequest, RequestedAction, Restore, owner_of},
};

/// What becomes of what is archived, for a tenant that has no workspace.
pub(super) enum Restoration {
    /// Nothing: there is none, or the tenant has a workspace, or its file says so.
    None,
    /// It is taken back, as its file or somebody says.
    Entry { name: String, by: Option<String> },
    /// What is to be taken back is not there.
    Missing(String),
    /// There is some, and nobody said what becomes of it.
    Open,
}

fn own_archived<'a>(tenant: &'a str, observed: &'a ObservedWorkspaces) -> impl Iterator<Item = &'a str> {
    // A copy that was made for a repair is no workspace of an earlier time.
    let of_tenant = observed.archived.iter().filter(move |name| owner_of(name) == tenant);
    of_tenant.map(String::as_str).filter(|name| !name.ends_with(".damaged.img"))
}

/// What becomes of what is archived.
pub(super) fn restoration(
    tenant: &Tenant,
    observed: &ObservedWorkspaces,
    found: Option<&FoundWorkspace>,
) -> Restoration {
    if found.is_some_and(FoundWorkspace::exists) {
        return Restoration::None;
    }
    if let Some((name, by)) = found.and_then(FoundWorkspace::restoration) {
        return Restoration::Entry { name: name.to_owned(), by: Some(by.to_owned()) };
    }
    let own = || own_archived(tenant.name.as_str(), observed);
    match &tenant.restore {
        Some(Restore::Nothing) => Restoration::None,
        Some(Restore::Entry(name)) if observed.archived.contains(name) => {
            Restoration::Entry { name: name.clone(), by: None }
        }
        Some(Restore::Entry(name)) => Restoration::Missing(name.clone()),
        None if own().next().is_some() => Restoration::Open,
        None => Restoration::None,
    }
}

/// Whether somebody asked that something of a tenant's that is archived be removed.
pub(in crate::plan) fn deletes(found: &FoundWorkspace) -> bool {
    matches!(found.request, Some(OperatorRequest { what: RequestedAction::Delete { .. }, .. }))
}

/// Plans what becomes of what is archived. `None` where it has no say in what the tenant gets.
pub(super) fn converge(
    tenant: &Tenant,
    observed: &ObservedWorkspaces,
    found: Option<&FoundWorkspace>,
    declared: &DesiredWorkspace<'_>,
    plan: &mut TenantPlan,
) -> Option<WorkspaceOutcome> {
    let reason = match restoration(tenant, observed, found) {
        Restoration::None => return None,
        Restoration::Entry { name, by } => return Some(declared.restore(name, by, plan)),
        Restoration::Missing(name) => format!("{name}, which is to be restored, is not archived"),
        Restoration::Open => "a workspace of this name is archived from an earlier time".to_owned(),
    };
    let there: Vec<&str> = own_archived(tenant.name.as_str(), observed).collect();
    Some(DesiredWorkspace::asks(reason, &there, plan))
}

/// Plans that something archived is deleted, where somebody asked for it.
pub(super) fn delete(tenant: &str, found: Option<&FoundWorkspace>, plan: &mut TenantPlan) {
    let Some(OperatorRequest { what: RequestedAction::Delete { name }, .. }) =
        found.and_then(|found| found.request.as_ref())
    else {
        return;
    };
    let change = plan.add_change(Change {
        resource: Resource::Archive,
        name: name.clone(),
        action: Action::Delete,
        attributes: Vec::new(),
        before: None,
        after: None,
    });
    plan.push_step(change, Step::DeleteArchived { tenant: tenant.to_owned(), name: name.clone() });
}

impl DesiredWorkspace<'_> {
    /// Asks what becomes of what is archived: nothing is made before somebody says.
    fn asks(reason: String, there: &[&str], plan: &mut TenantPlan) -> WorkspaceOutcome {
        let example = there.last().copied().unwrap_or("NAME");
        plan.blocked.get_or_insert(Blocked {
            code: Obstacle::WorkspaceArchived,
            reason: match there {
                [] => reason,
                _ => format!("{reason}: {}", there.join(", ")),
            },
            help: format!(
                "write `workspace: {{restore: {example}}}` in the tenant's file to take it back, or `workspace: \
                 {{restore: none}}` to begin with an empty one"
            ),
        });
        WorkspaceOutcome::default()
    }

    /// Plans that something archived is restored.
    fn restore(&self, name: String, by: Option<String>, plan: &mut TenantPlan) -> WorkspaceOutcome {
        let kept_in = Backend::of_archived(&name);
        if let Some(lack) = why_not(self.capability, kept_in) {
            plan.blocked.get_or_insert(Blocked {
                code: Obstacle::DiskUnenforced,
                reason: format!("{name} cannot be used on this host: {lack}"),
                help: "make it possible, or take a folder back".to_owned(),
            });
            return WorkspaceOutcome::default();
        }
        let attribute = AttributeChange {
            why: Why::Intent,
            remark: by.is_some().then_some("an operator asked for it"),
            ..drift(&table::RESTORED, Value::Null, json!(name), false)
        };
        let change = plan.add_change(self.change(Action::Update, vec![attribute], None));
        plan.push_step(change, Step::RestoreWorkspace { tenant: self.tenant(), name });
        let rest = match (kept_in, self.spec.backend) {
            (Backend::Folder, Backend::Folder) => vec![self.prepare()],
            (Backend::Folder, Backend::Image | Backend::Btrfs) => {
                let into = Step::MoveIntoVolume { tenant: self.tenant() };
                vec![self.make(), self.mount(), into, self.mount()]
            }
            (Backend::Image | Backend::Btrfs, _) => vec![self.mount()],
        };
        for step in rest {
            plan.push_step(change, step);
        }
        WorkspaceOutcome::lost("missing", "what runs has no workspace that would last")
    }
}
