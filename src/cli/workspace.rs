//! `tenantd workspace`.

use std::io::{self, BufRead, IsTerminal};

use anyhow::{Context, bail};
use clap::Subcommand;
use serde_json::{Value, json};

use super::{
    EXIT_ERROR, EXIT_OK,
    args::{Global, PlanFormat},
    failure::Failure,
    output, setup,
};
use crate::{
    host::{Workspaces, users},
    model::{
        Bytes, Host, TenantName,
        finding::suggest,
        workspace::{
            Backend, FoundVolume, FoundWorkspace, ObservedWorkspaces, OperatorRequest, RequestedAction, VolumeState,
            WorkspaceCapability, WorkspacePath, owner_of,
        },
    },
    web::{Client, ClientError, operators::Reconcile},
};

#[derive(Debug, Subcommand)]
pub enum Workspace {
    /// Show all workspaces: what bounds them, how full they are, and what is archived
    List(WorkspaceList),
    /// Check whether a workspace is intact; changes nothing
    ///
    /// Exits with 0 where it is, with 1 where it is not.
    Check(OneWorkspace),
    /// Repair a damaged or removed workspace; a copy is archived
    ///
    /// The daemon does it at once, else the next apply does. The tenant is stopped for it and started again.
    Repair(OneWorkspace),
    /// Restore an archived workspace, for a tenant that has no other
    Restore(Restore),
    /// Delete an archived workspace for good
    Delete(Delete),
}

#[derive(Debug, clap::Args)]
pub struct Restore {
    /// The tenant
    tenant: String,
    /// The name that `tenantd workspace list` shows
    name: String,
}

#[derive(Debug, clap::Args)]
pub struct Delete {
    /// The name that `tenantd workspace list` shows
    name: String,
    /// Do not ask; needed where there is no terminal
    #[arg(long, short)]
    yes: bool,
}

#[derive(Debug, clap::Args)]
pub struct Capacity {
    /// The form of the answer
    #[arg(long, value_enum, default_value_t = PlanFormat::Text)]
    format: PlanFormat,
}

#[derive(Debug, clap::Args)]
pub struct WorkspaceList {
    /// The form of the answer
    #[arg(long, value_enum, default_value_t = PlanFormat::Text)]
    format: PlanFormat,
}

#[derive(Debug, clap::Args)]
pub struct OneWorkspace {
    /// The tenant
    tenant: String,
}

/// Runs one of the commands on workspaces.
pub fn run(command: &Workspace, global: &Global) -> anyhow::Result<u8> {
    let host = setup::host(global)?;
    setup::block_on(async {
        match command {
            Workspace::List(command) => list(command, &host).await,
            Workspace::Check(command) => check(command, &host).await,
            Workspace::Repair(command) => repair(command, &host).await,
            Workspace::Restore(command) => restore(command, &host).await,
            Workspace::Delete(command) => delete(command, &host).await,
        }
    })
}

/// One line of the list.
struct Row {
    tenant: String,
    backend: &'static str,
    state: String,
    limit: Option<u64>,
    used: Option<u64>,
    on_disk: Option<u64>,
}

impl Row {
    fn of(tenant: &str, found: &FoundWorkspace) -> Self {
        let row = Self {
            tenant: tenant.to_owned(),
            backend: Backend::Folder.as_str(),
            state: "unenforced".to_owned(),
            limit: None,
            used: None,
            on_disk: None,
        };
        let Some(volume) = &found.volume else {
            let state = if matches!(found.place, WorkspacePath::Folder(_)) {
                row.state.clone()
            } else {
                "not a folder".to_owned()
            };
            return Self { state, ..row };
        };
        let (limit, used) = match &volume.state {
            VolumeState::Mounted(mounted) => (mounted.limit, Some(mounted.used)),
            _ => (None, None),
        };
        let (backend, on_disk) = (volume.backend.as_str(), Some(volume.allocated));
        Self { backend, state: state(volume), limit, used, on_disk, ..row }
    }

    fn json(&self) -> Value {
        let Self { tenant, backend, state, limit, used, on_disk } = self;
        json!({"tenant": tenant, "backend": backend, "state": state, "limit": limit, "used": used, "on_disk": on_disk})
    }
}

fn state(volume: &FoundVolume) -> String {
    match &volume.state {
        VolumeState::Gone { .. } => "gone".to_owned(),
        VolumeState::Unmounted { .. } => "not mounted".to_owned(),
        VolumeState::Damaged { .. } => "damaged".to_owned(),
        VolumeState::Mounted(_) => "mounted".to_owned(),
    }
}

async fn list(command: &WorkspaceList, host: &Host) -> anyhow::Result<u8> {
    let workspaces = Workspaces::new(host);
    let ObservedWorkspaces { found, capability, .. } =
        workspaces.list().await.context("cannot observe the workspaces")?;
    let rows: Vec<Row> = found.iter().map(|(tenant, found)| Row::of(tenant, found)).collect();
    let archived = workspaces.archived()?;
    if command.format == PlanFormat::Json {
        let rows: Vec<Value> = rows.iter().map(Row::json).collect();
        let archived: Vec<Value> = archived.iter().map(|(name, size)| json!({"name": name, "on_disk": size})).collect();
        output::print_data(&format!("{:#}\n", json!({"workspaces": rows, "archived": archived, "new": capability})))?;
        return Ok(EXIT_OK);
    }
    let titles = ["NAME", "BACKEND", "STATE", "LIMIT", "USED", "ON DISK"].map(str::to_owned);
    let lines = rows.iter().map(|row| {
        let state = row.state.clone();
        [row.tenant.clone(), row.backend.to_owned(), state, size(row.limit), size(row.used), size(row.on_disk)]
    });
    let lines: Vec<[String; 6]> = std::iter::once(titles).chain(lines).collect();
    let mut text = output::aligned(&lines);
    if !archived.is_empty() {
        text.push_str("\nArchived:\n");
        archived.iter().for_each(|(name, on_disk)| text.push_str(&format!("  {name}  {}\n", size(*on_disk))));
    }
    text.push_str(&format!("\nNew ones: {}\n", by(&capability)));
    output::print(&text)?;
    Ok(EXIT_OK)
}

/// How new workspaces are made, and why.
fn by(capability: &WorkspaceCapability) -> String {
    format!("{}: {}", capability.backend.as_str(), capability.why)
}

/// What there is of one tenant's workspace.
async fn find(command: &OneWorkspace, workspaces: &Workspaces) -> anyhow::Result<(TenantName, FoundVolume)> {
    let tenant: TenantName = command.tenant.parse().context("this is no tenant's name")?;
    let mut observed = workspaces.observe_tenant(tenant.as_str()).await.context("cannot observe the workspace")?;
    match observed.found.remove(tenant.as_str()) {
        Some(FoundWorkspace { volume: Some(volume), .. }) => Ok((tenant, volume)),
        Some(_) => {
            let what = format!("the workspace of {tenant} is a plain folder: the host's own file system holds it");
            Err(Failure::asked(what).hint("check that file system, by fsck or btrfs scrub").into())
        }
        None => {
            let what = format!("{tenant} has no workspace");
            Err(Failure::asked(what).hint("`tenantd workspace list` lists all that there are").into())
        }
    }
}

async fn check(command: &OneWorkspace, host: &Host) -> anyhow::Result<u8> {
    let workspaces = Workspaces::new(host);
    let (tenant, volume) = find(command, &workspaces).await?;
    let (is_fine, said) = match &volume.state {
        VolumeState::Gone { attached: true } => {
            (false, "its image was removed; the kernel still holds what was in it".to_owned())
        }
        VolumeState::Gone { attached: false } => (false, "its image or subvolume is gone".to_owned()),
        VolumeState::Damaged { reason, mounted: true } => (false, reason.clone()),
        VolumeState::Damaged { reason, .. } if volume.backend == Backend::Btrfs => (false, reason.clone()),
        _ if volume.backend == Backend::Btrfs => {
            (true, "it is a subvolume; `btrfs scrub` checks all of its file system".to_owned())
        }
        VolumeState::Damaged { reason, .. } => {
            let (_, said) = workspaces.check(&tenant).await?;
            (false, format!("{reason}\n{said}"))
        }
        _ => workspaces.check(&tenant).await?,
    };
    let word = if is_fine { "in order" } else { "not in order" };
    output::print(&format!("The workspace of {tenant} is {word}: {said}\n"))?;
    Ok(if is_fine { EXIT_OK } else { EXIT_ERROR })
}

async fn repair(command: &OneWorkspace, host: &Host) -> anyhow::Result<u8> {
    let workspaces = Workspaces::new(host);
    let (tenant, volume) = find(command, &workspaces).await?;
    match volume.state {
        VolumeState::Damaged { .. } if volume.backend == Backend::Btrfs => {
            let what = "a subvolume cannot be repaired by itself";
            return Err(Failure::host(what).hint(format!("put {tenant}'s back from a backup")).into());
        }
        VolumeState::Damaged { .. } | VolumeState::Gone { attached: true } => {}
        VolumeState::Gone { attached: false } => {
            return Err(Failure::host(format!("what {tenant} was kept in is gone"))
                .hint("put it back from a backup")
                .into());
        }
        VolumeState::Mounted(_) | VolumeState::Unmounted { .. } => {
            bail!("the workspace of {tenant} is in order; nothing was done")
        }
    }
    ask(&workspaces, host, &tenant, RequestedAction::Repair).await
}

async fn restore(command: &Restore, host: &Host) -> anyhow::Result<u8> {
    let workspaces = Workspaces::new(host);
    let tenant: TenantName = command.tenant.parse().context("this is no tenant's name")?;
    check_archived(&workspaces, &command.name)?;
    let observed = workspaces.observe_tenant(tenant.as_str()).await.context("cannot observe the workspace")?;
    if observed.found.get(tenant.as_str()).is_some_and(FoundWorkspace::exists) {
        let what = format!("{tenant} has a workspace");
        return Err(Failure::asked(what).hint("remove its file and let that be archived first").into());
    }
    ask(&workspaces, host, &tenant, RequestedAction::Restore { name: command.name.clone() }).await
}

async fn delete(command: &Delete, host: &Host) -> anyhow::Result<u8> {
    let workspaces = Workspaces::new(host);
    check_archived(&workspaces, &command.name)?;
    if !command.yes && !confirmed(&command.name)? {
        output::print("Nothing was asked for.\n")?;
        return Ok(EXIT_ERROR);
    }
    let tenant = owner_of(&command.name).parse().context("its name does not begin with a tenant's")?;
    ask(&workspaces, host, &tenant, RequestedAction::Delete { name: command.name.clone() }).await
}

fn check_archived(workspaces: &Workspaces, name: &str) -> anyhow::Result<()> {
    let archived = workspaces.archived()?;
    if archived.iter().any(|(found, _)| found == name) {
        return Ok(());
    }
    let meant = suggest(name, archived.iter().map(|(name, _)| name.as_str()));
    Err(Failure::asked(format!("nothing is archived as {name:?}"))
        .hint(match meant {
            Some(meant) => format!("did you mean {meant}?"),
            None => "`tenantd workspace list` lists what is archived".to_owned(),
        })
        .into())
}

fn confirmed(name: &str) -> anyhow::Result<bool> {
    if !io::stdin().is_terminal() {
        return Err(Failure::asked("there is no terminal to ask on").hint("--yes removes without asking").into());
    }
    output::print(&format!("{name} and all that is in it will be gone for good. Only \"yes\" is accepted: "))?;
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer)?;
    Ok(answer.trim() == "yes")
}

/// Notes what somebody wants, and has the daemon look.
async fn ask(workspaces: &Workspaces, host: &Host, tenant: &TenantName, what: RequestedAction) -> anyhow::Result<u8> {
    workspaces.request(tenant, &OperatorRequest { what, by: users::current() })?;
    // Of a tenant that nobody declares the daemon knows nothing before its next full scan.
    let answer = Client::new(&host.socket).call(&Reconcile { tenant: None }).await;
    let who = match answer {
        Ok(_) => "the daemon does it now; `tenantd status` and `tenantd events` show what becomes of it",
        Err(ClientError::Unreachable { .. }) => "no daemon runs: the next `tenantd apply` does it",
        Err(error) => return Err(error).context("the request is kept, and the daemon could not be notified"),
    };
    output::print(&format!("Asked for: {who}.\n"))?;
    Ok(EXIT_OK)
}

/// Shows what is committed, what is taken and what is free.
pub fn capacity(command: &Capacity, global: &Global) -> anyhow::Result<u8> {
    let host = setup::host(global)?;
    let workspaces = Workspaces::new(&host);
    let observed = setup::block_on(async { workspaces.list().await.context("cannot observe the workspaces") })?;
    let volumes = || observed.found.values().filter_map(|found| found.volume.as_ref());
    let mounted = || {
        volumes().filter_map(|volume| match &volume.state {
            VolumeState::Mounted(mounted) => Some(mounted),
            _ => None,
        })
    };
    let disk = observed.disk.unwrap_or_default();
    let committed: u64 = mounted().filter_map(|mounted| mounted.limit).sum();
    let used: u64 = mounted().map(|mounted| mounted.used).sum();
    let taken: u64 = volumes().map(|volume| volume.allocated).sum();
    let archived: u64 = workspaces.archived()?.iter().filter_map(|(_, size)| *size).sum();
    let allowed = host.workspaces.overcommit.of(disk.free.saturating_add(taken));
    let (all, unknown) = (observed.found.len(), observed.found.len() - mounted().count());
    if command.format == PlanFormat::Json {
        let answer = json!({
            "workspaces": all, "unknown": unknown, "committed": committed, "used": used, "on_disk": taken, "archived": archived,
            "disk": disk, "allowed": allowed, "new": observed.capability,
        });
        output::print_data(&format!("{answer:#}\n"))?;
        return Ok(EXIT_OK);
    }
    let known = if unknown == 0 { String::new() } else { format!(", of {unknown} the limit is not known") };
    let rows = [
        ("Workspaces", format!("{all}{known}")),
        ("New ones", by(&observed.capability)),
        ("Committed", format!("{} of the {} that host.yaml allows", size(Some(committed)), size(Some(allowed)))),
        ("Used", format!("{} by tenants, {} on disk", size(Some(used)), size(Some(taken)))),
        ("Archived", size(Some(archived))),
        ("Free", format!("{} of {}", size(Some(disk.free)), size(Some(disk.size)))),
    ];
    let text: String = rows.iter().map(|(name, value)| format!("{name:<12} {value}\n")).collect();
    output::print(&text)?;
    Ok(EXIT_OK)
}

/// An amount for people.
fn size(bytes: Option<u64>) -> String {
    bytes.map_or("-".to_owned(), |bytes| Bytes::new(bytes).rounded().to_string())
}
