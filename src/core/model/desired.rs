//! What the repo at one commit asks for, every default resolved.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use serde::Serialize;

use super::{
    Access, Bytes, Cpus, Destination, DriftMode, Expose, Finding, ImageRef, Pids, Policy, RuntimeClass, SecretName,
    TenantName, TierName,
    egress::{Budget, Route, Sealed},
    files::{Apply, ConfigFile},
    workspace::Restore,
};

/// All tenants of a fleet as declared.
#[derive(Clone, Debug, Default)]
pub struct Desired {
    /// The tenants whose declaration holds, shared by all that hold them.
    pub tenants: BTreeMap<TenantName, Arc<Tenant>>,
    /// Names of which nothing can be carried out: what runs under them is left as it is.
    pub held: BTreeSet<String>,
    /// Of those, the declarations that can be read, and are known to be bad or not approved: by these their tenants are
    /// contained, and no more.
    pub held_back: BTreeMap<TenantName, Arc<Tenant>>,
    /// What was found in the files, errors and warnings.
    pub findings: Vec<Finding>,
    /// Whether the policy for all tenants could be read. Without it every tenant is held.
    pub policy_usable: bool,
    /// What the fleet says about the daemon.
    pub policy: Policy,
}

impl Desired {
    /// Whether the repo speaks of a tenant, rightly or with errors. One that it does not is to go.
    pub fn mentions(&self, tenant: &str) -> bool {
        self.tenants.contains_key(tenant) || self.held.contains(tenant)
    }
}

/// One tenant as declared.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Tenant {
    /// Its name.
    pub name: TenantName,
    /// Its tier.
    pub tier: TierName,
    /// How strong a boundary it runs behind.
    pub class: RuntimeClass,
    /// What runs in it.
    pub image: ImageRef,
    /// The command in place of the image's, if one is declared.
    pub command: Option<Vec<String>>,
    /// Variables beside the image's own.
    pub environment: BTreeMap<String, String>,
    /// How much it may use.
    pub limits: Limits,
    /// The most that its tier lets `limits.disk` become.
    pub disk_room: Bytes,
    /// The shared folder that it finds at /source, by its name on the host.
    pub source: Option<String>,
    /// What it finds read-only at /config, sorted by path.
    pub files: Vec<ConfigFile>,
    /// What becomes of workspaces of its name that are archived. `None` where its file does not say.
    pub restore: Option<Restore>,
    /// How many sessions it may have at once.
    pub sessions: u32,
    /// What it may reach.
    pub allowlist: BTreeSet<Destination>,
    /// The ports that it exposes to ingress.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub expose: BTreeMap<u16, Expose>,
    /// Who may reach them.
    #[serde(skip_serializing_if = "Access::is_default")]
    pub access: Access,
    /// The services that it reaches with keys that it never sees.
    pub routes: Vec<Route>,
    /// The secrets of its routes that its file holds, encrypted.
    pub sealed: BTreeMap<SecretName, Sealed>,
    /// How many credits it may use.
    pub budget: Budget,
    /// Fleet-wide settings of the sandbox.
    pub sandbox: Sandbox,
    /// What is done about drift.
    pub drift: DriftMode,
    /// The rules of its fleet, which it satisfies.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub rules: BTreeSet<HeldRule>,
}

/// A rule of a fleet that a declaration satisfies.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct HeldRule {
    /// Its path in the repo.
    pub path: String,
    /// A hash of what it says, with all that it refers to.
    pub digest: String,
}

impl Tenant {
    /// Its own variables as `KEY=value`, sorted.
    pub fn variables(&self) -> impl Iterator<Item = String> {
        self.environment.iter().map(|(name, value)| format!("{name}={value}"))
    }

    /// Whether its container is started with the same as another declaration's. All other settings are changed around a
    /// container, or in place: how a container ends says nothing of them.
    pub fn starts_like(&self, other: &Self) -> bool {
        let Self {
            name: _,
            tier: _,
            class,
            image,
            command,
            environment,
            // In place, or for a stronger class with a new container that differs in nothing else.
            limits: _,
            disk_room: _,
            source,
            files,
            restore: _,
            sessions: _,
            allowlist: _,
            expose: _,
            access: _,
            routes: _,
            sealed: _,
            budget: _,
            sandbox:
                Sandbox {
                    tmp_size,
                    shm_size,
                    open_files,
                    init,
                    log_size: _,
                    log_files: _,
                    log_compress: _,
                    workspace_noexec,
                },
            drift: _,
            rules: _,
        } = self;
        fn read_at_start(files: &[ConfigFile]) -> impl Iterator<Item = &ConfigFile> {
            files.iter().filter(|file| file.apply == Apply::Restart)
        }
        (class, image, command, environment, source)
            == (&other.class, &other.image, &other.command, &other.environment, &other.source)
            && read_at_start(files).eq(read_at_start(&other.files))
            && files.is_empty() == other.files.is_empty()
            && (tmp_size, shm_size, open_files, init, workspace_noexec)
                == (
                    &other.sandbox.tmp_size,
                    &other.sandbox.shm_size,
                    &other.sandbox.open_files,
                    &other.sandbox.init,
                    &other.sandbox.workspace_noexec,
                )
    }

    /// Whether anything at all is open to it, or it to ingress, so that it needs an egress path.
    pub fn has_egress(&self) -> bool {
        !(self.allowlist.is_empty() && self.routes.is_empty() && self.expose.is_empty())
    }
}

impl HeldRule {
    /// Its path below `rules/`.
    pub fn name(&self) -> &str {
        self.path.strip_prefix("rules/").unwrap_or(&self.path)
    }
}

/// How much a tenant may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Limits {
    /// Processors.
    pub cpus: Cpus,
    /// Memory, without swap.
    pub memory: Bytes,
    /// Processes and threads.
    pub pids: Pids,
    /// Workspace.
    pub disk: Bytes,
}

/// What the fleet sets for every sandbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Sandbox {
    /// Size of `/tmp`, which counts as memory.
    pub tmp_size: Bytes,
    /// Size of `/dev/shm`, which counts as memory.
    pub shm_size: Bytes,
    /// Open files for each process.
    pub open_files: u32,
    /// Whether a small init reaps processes and forwards signals.
    pub init: bool,
    /// The size at which a log file is rotated.
    pub log_size: Bytes,
    /// How many log files are kept.
    pub log_files: u32,
    /// Whether those that were rotated are compressed.
    pub log_compress: bool,
    /// Whether programs in /workspace cannot be run.
    pub workspace_noexec: bool,
}

impl Default for Sandbox {
    fn default() -> Self {
        Self {
            tmp_size: Bytes::mib(64),
            shm_size: Bytes::mib(64),
            open_files: 16_384,
            init: true,
            log_size: Bytes::mib(10),
            log_files: 3,
            log_compress: false,
            workspace_noexec: false,
        }
    }
}
