//! What a tenant has in the end, as the rules of a fleet are given it: each key as a tenant's file, a tier or `fleet.yaml`
//! writes it, sizes as numbers of bytes, so that a rule can compare them.

use std::collections::{BTreeMap, BTreeSet};

use schemars::JsonSchema;
use serde::Serialize;

use super::files::{ConfigFileEntry, TenantFile};
use crate::model::{
    Access, Destination, DriftMode, Expose, ImageRef, RuntimeClass, SecretName, Tenant, TenantName, TierName,
    egress::{Inject, Route, StreamMode},
    files::Apply,
    ingress::HealthPath,
    workspace::Restore,
};

/// What a tenant has after its tier and `fleet.yaml` gave what its own file does not say. Of what is not set there is no key.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(title = "Settings")]
pub struct Settings<'t> {
    /// The tenant's name.
    tenant: &'t TenantName,
    /// The tier.
    tier: &'t TierName,
    /// The class of its runtime.
    runtime: RuntimeClass,
    /// The image.
    image: &'t ImageRef,
    /// The command, where it is not the image's.
    #[serde(skip_serializing_if = "Option::is_none")]
    command: Option<&'t [String]>,
    /// Variables beside those of the image.
    environment: &'t BTreeMap<String, String>,
    /// How much it may use.
    limits: Limits,
    /// Sessions at once.
    sessions: u32,
    /// What it may reach.
    allowlist: &'t BTreeSet<Destination>,
    /// The ports that ingress lets requests in to.
    expose: Vec<Exposed<'t>>,
    /// Who may reach them.
    access: Access,
    /// Services that it reaches through the gateway, with keys that it never sees.
    credentials: Vec<Credential<'t>>,
    /// How many credits it may use.
    budget: Budget,
    /// The shared folder at /source.
    #[serde(skip_serializing_if = "Option::is_none")]
    source: Option<&'t str>,
    /// Config files.
    files: Vec<File<'t>>,
    /// What becomes of archived workspaces, where the tenant's file says so.
    #[serde(skip_serializing_if = "Option::is_none")]
    workspace: Option<Workspace<'t>>,
    /// Settings of the sandbox.
    hardening: Hardening,
    /// How much of what it prints is kept.
    logs: Logs,
    /// What is done about drift.
    drift_detection: Drift,
}

/// How much a tenant may use.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(rename = "SettingsLimits")]
struct Limits {
    /// Processors.
    cpus: f64,
    /// Memory, in bytes.
    memory: u64,
    /// Processes and threads at once.
    pids: u32,
    /// Size of /workspace, in bytes.
    disk: u64,
}

/// A port that ingress lets requests in to.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(rename = "SettingsExposed")]
struct Exposed<'t> {
    /// The port.
    port: u16,
    /// The path that is asked whether the tenant is ready.
    #[serde(skip_serializing_if = "Option::is_none")]
    path: Option<&'t HealthPath>,
}

/// A service that a tenant reaches through the gateway.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(rename = "SettingsCredential")]
struct Credential<'t> {
    /// Its name inside, between two slashes.
    route: String,
    /// Where it leads.
    upstream: &'t crate::model::egress::Upstream,
    /// Where the key is added.
    place: SecretLocation,
    /// The secrets that the key is made of.
    secrets: BTreeSet<&'t SecretName>,
    /// What a request costs.
    #[serde(skip_serializing_if = "Option::is_none")]
    cost: Option<Cost<'t>>,
}

/// Where a key is added to a request.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "SettingsPlace")]
enum SecretLocation {
    /// In a header.
    Header,
    /// In a parameter of the query.
    Query,
    /// As the password of basic authentication.
    Basic,
}

/// What a request costs.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(rename = "SettingsCost")]
struct Cost<'t> {
    /// Credits that are reserved before it is sent.
    reserve: u64,
    /// Where the answer says what it really cost.
    #[serde(skip_serializing_if = "Option::is_none")]
    settle: Option<&'t str>,
    /// What is done with answers that come as a stream.
    stream: StreamMode,
}

/// How many credits a tenant may use.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(rename = "SettingsBudget")]
struct Budget {
    /// In a day of UTC.
    #[serde(skip_serializing_if = "Option::is_none")]
    day: Option<u64>,
    /// In a month of UTC.
    #[serde(skip_serializing_if = "Option::is_none")]
    month: Option<u64>,
}

/// A config file.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(rename = "SettingsFile")]
struct File<'t> {
    /// Where the tenant finds it, from /config on.
    path: &'t str,
    /// Where it lies in the repo.
    #[serde(skip_serializing_if = "Option::is_none")]
    from: Option<&'t str>,
    /// The JSON Schema that it satisfies.
    #[serde(skip_serializing_if = "Option::is_none")]
    schema: Option<&'t str>,
    /// How a change of it reaches the tenant.
    apply: Apply,
    /// Its SHA-256, in 64 hexadecimal digits.
    sha256: &'t str,
    /// Its size, in bytes.
    size: usize,
}

/// What becomes of archived workspaces.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(rename = "SettingsWorkspace")]
struct Workspace<'t> {
    /// The one that is taken back, or `none`.
    restore: &'t str,
}

/// Settings of the sandbox.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(rename = "SettingsHardening")]
struct Hardening {
    /// Size of /tmp, in bytes.
    tmp_size: u64,
    /// Size of /dev/shm, in bytes.
    shm_size: u64,
    /// Open files for each process.
    open_files: u32,
    /// Whether a small init reaps processes and forwards signals.
    init: bool,
    /// Whether programs in /workspace cannot be run.
    workspace_noexec: bool,
}

/// How much of what a tenant prints is kept.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(rename = "SettingsLogs")]
struct Logs {
    /// The size at which a log file is rotated, in bytes.
    max_size: u64,
    /// How many log files are kept.
    max_files: u32,
    /// Whether log files that were rotated are compressed.
    compress: bool,
}

/// What is done about drift.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(rename = "SettingsDrift")]
struct Drift {
    /// How it is treated.
    mode: DriftMode,
}

impl<'t> Settings<'t> {
    /// Those of a tenant, with what only its file says.
    pub(super) fn of(tenant: &'t Tenant, file: &'t TenantFile) -> Self {
        let Tenant {
            name,
            tier,
            class,
            image,
            command,
            environment,
            limits,
            disk_room: _,
            source,
            files,
            restore,
            sessions,
            allowlist,
            expose,
            access,
            routes,
            sealed: _,
            budget,
            sandbox,
            drift,
            rules: _,
        } = tenant;
        let entries: Vec<&ConfigFileEntry> =
            file.files.iter().flat_map(|list| list.get()).flatten().filter_map(|entry| entry.get()).collect();
        let files = files.iter().map(|file| {
            let entry = entries.iter().find(|entry| entry.path.get().is_some_and(|path| path.0 == file.path));
            File {
                path: &file.path,
                from: entry.and_then(|entry| entry.from.get()).map(|from| from.0.as_str()),
                schema: entry.and_then(|entry| entry.schema.as_ref()?.get()).map(|schema| schema.0.as_str()),
                apply: file.apply,
                sha256: &file.content.digest,
                size: file.content.bytes.len(),
            }
        });
        let restore = restore.as_ref().map(|restore| match restore {
            Restore::Entry(name) => name.as_str(),
            Restore::Nothing => "none",
        });
        Self {
            tenant: name,
            tier,
            runtime: *class,
            image,
            command: command.as_deref(),
            environment,
            limits: Limits {
                cpus: cpus(limits.cpus.nanos()),
                memory: limits.memory.get(),
                pids: limits.pids.get(),
                disk: limits.disk.get(),
            },
            sessions: *sessions,
            allowlist,
            expose: expose.iter().map(|(port, Expose { path })| Exposed { port: *port, path: path.as_ref() }).collect(),
            access: *access,
            credentials: routes.iter().map(credential).collect(),
            budget: Budget { day: budget.day, month: budget.month },
            source: source.as_deref(),
            files: files.collect(),
            workspace: restore.map(|restore| Workspace { restore }),
            hardening: Hardening {
                tmp_size: sandbox.tmp_size.get(),
                shm_size: sandbox.shm_size.get(),
                open_files: sandbox.open_files,
                init: sandbox.init,
                workspace_noexec: sandbox.workspace_noexec,
            },
            logs: Logs {
                max_size: sandbox.log_size.get(),
                max_files: sandbox.log_files,
                compress: sandbox.log_compress,
            },
            drift_detection: Drift { mode: *drift },
        }
    }
}

/// Processors as files write them: the decimal number itself, which a division of billionths is not always.
fn cpus(nanos: u64) -> f64 {
    format!("{}.{:09}", nanos / 1_000_000_000, nanos % 1_000_000_000).parse().unwrap_or_default()
}

fn credential(route: &Route) -> Credential<'_> {
    Credential {
        route: format!("/{}/", route.name.as_str()),
        upstream: &route.upstream,
        place: match route.inject {
            Inject::Header { .. } => SecretLocation::Header,
            Inject::Query { .. } => SecretLocation::Query,
            Inject::Basic { .. } => SecretLocation::Basic,
        },
        secrets: route.inject.template().secrets().collect(),
        cost: route.cost.as_ref().map(|cost| Cost {
            reserve: cost.reserve,
            settle: cost.settle.as_deref(),
            stream: cost.stream,
        }),
    }
}
