//! The files as people write them. Schemas and `docs/config.md` come from these types.

use schemars::JsonSchema;
use serde::Deserialize;

use super::{
    decode::{Located, LocatedMap},
    egress::files::{BudgetFile, CredentialFile, EgressFile},
    ingress::files::{ExposeFile, IngressFile},
    url::SourceUrl,
    values::{
        AbsolutePath, ApprovalAge, ArchiveName, BranchName, CommitId, EngineUrl, Factor, FilePath, FleetName,
        GroupName, HealthTime, JournalFileSize, LoopbackAddress, Number, Period, Pool, RemovalWindow, RepoFile,
        RepoFolder, RetryInitial, RetryMax, RulePath, RuntimeName, SchemaPath, SecretPlace, SignerName, SocketPath,
        SourceName, UserName, VariableName,
    },
};
use crate::model::{
    Access, Bytes, Cpus, Destination, DriftMode, ImageRef, Pids, RuntimeClass, SecretName, SignerKey, TenantName,
    TierName,
    egress::Sealed,
    files::Apply,
    host::{NotifyEvent, VerifyMode},
    policy::Loosening,
    quantity::Timespan,
    workspace::{BackendChoice, Unenforced},
};

/// The version of the files' format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
pub enum ApiVersion {
    /// The first.
    #[serde(rename = "tenantd/v1")]
    V1,
}

/// Says that a file declares a tenant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
pub enum TenantKind {
    /// The only value.
    Tenant,
}

/// Says that a file is the fleet's policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
pub enum FleetKind {
    /// The only value.
    Fleet,
}

/// Says that a file holds the tiers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
pub enum TiersKind {
    /// The only value.
    Tiers,
}

/// Says that a file holds a host's settings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
pub enum HostKind {
    /// The only value.
    Host,
}

/// One tenant: `tenants/NAME.yaml`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(title = "Tenant")]
pub struct TenantFile {
    /// The version of the format.
    pub api_version: Located<ApiVersion>,
    /// What this file is.
    pub kind: Located<TenantKind>,
    /// The tenant's name, the same as the file's without `.yaml`.
    pub tenant: Located<TenantName>,
    /// The tier, one of `tiers.yaml`. Default: that of `fleet.yaml`.
    pub tier: Option<Located<TierName>>,
    /// How strong a boundary it runs behind. Default: that of the tier. A stronger one may always be
    /// chosen, a weaker one only where the tier lists it.
    pub runtime: Option<Located<RuntimeClass>>,
    /// The image. Default: that of `fleet.yaml`.
    pub image: Option<Located<ImageRef>>,
    /// The command in place of the image's. Default: that of `fleet.yaml`, else the image's.
    pub command: Option<Located<Vec<Located<String>>>>,
    /// Variables beside those of the image and of `fleet.yaml`. Never a secret: this file is read by
    /// many.
    #[serde(default)]
    pub environment: LocatedMap<VariableName, String>,
    /// How much it may use. Default: what the tier gives.
    pub limits: Option<Located<LimitsFile>>,
    /// What it may reach: `host:port` or `*.domain:port`. Default: nothing.
    pub allowlist: Option<Located<Vec<Located<Destination>>>>,
    /// The ports that ingress lets requests in to, at most 32. Default: none.
    pub expose: Option<Located<Vec<Located<ExposeFile>>>>,
    /// Who may reach them: `token` for who has a token of this tenant, or `public` for everybody, where `ingress.access` of
    /// `host.yaml` allows it. Default: that of the tier.
    pub access: Option<Located<Access>>,
    /// What it finds read-only at /source, by a name of `sources` in `host.yaml`. Default: nothing.
    pub source: Option<Located<SourceName>>,
    /// Files of the repo that it finds read-only below /config, at most 64 and 1 MiB together. Never a secret.
    /// Default: none.
    pub files: Option<Located<Vec<Located<ConfigFileEntry>>>>,
    /// What becomes of workspaces of this tenant's name that are archived from an earlier time. Default: where there is
    /// one, the tenant is not made until this says.
    pub workspace: Option<Located<WorkspaceFile>>,
    /// Services that it reaches through the gateway, with keys that it never sees. Default: none.
    pub credentials: Option<Located<Vec<Located<CredentialFile>>>>,
    /// Secrets of `credentials` by name, each as `tenantd egress seal` prints it: encrypted to a host whose
    /// `host.yaml` says `sealed: true` of that name. Default: none.
    #[serde(default)]
    pub sealed: LocatedMap<SecretName, Sealed>,
    /// How many credits it may use. Default: no bound.
    pub budget: Option<Located<BudgetFile>>,
    /// What the daemon does about drift of this tenant. Default: that of `fleet.yaml`.
    pub drift_detection: Option<Located<DriftFile>>,
}

/// A file of the repo that a tenant finds below /config.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ConfigFileEntry {
    /// Where the tenant finds it, from /config on.
    pub path: Located<FilePath>,
    /// Where it lies in the repo: below `files/` and the tenant's name, or below `files/shared/`.
    pub from: Located<RepoFile>,
    /// The JSON Schema that it must satisfy, below `schemas/` of the repo; then it is JSON or YAML, by its name. Default: none.
    pub schema: Option<Located<SchemaPath>>,
    /// How a change of it reaches the tenant: `restart` makes the container anew, `inPlace` puts it into
    /// its place while the tenant runs. Default: restart.
    pub apply: Option<Located<Apply>>,
}

/// What becomes of archived workspaces.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct WorkspaceFile {
    /// The name that `tenantd workspace list` shows, to take it back while the tenant has no other; `none` to begin
    /// with an empty one.
    pub restore: Located<ArchiveName>,
}

/// What the daemon does about what someone changed behind its back.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DriftFile {
    /// `enabled` repairs it, `warn` records and shows it, `disabled` does not look for it.
    pub mode: Located<DriftMode>,
}

/// Limits of one tenant. Each is at most what its tier gives, or lets it raise.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct LimitsFile {
    /// Processors, such as 0.5.
    pub cpus: Option<Located<Cpus>>,
    /// Memory, with no swap beside it, such as 1536MiB.
    pub memory: Option<Located<Bytes>>,
    /// Processes and threads at once.
    pub pids: Option<Located<Pids>>,
    /// Size of /workspace, such as 5GiB.
    pub disk: Option<Located<Bytes>>,
}

/// Policy for all tenants: `fleet.yaml`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(title = "Fleet")]
pub struct FleetFile {
    /// The version of the format.
    pub api_version: Located<ApiVersion>,
    /// What this file is.
    pub kind: Located<FleetKind>,
    /// What a tenant has that says nothing else.
    pub defaults: Option<Located<DefaultsFile>>,
    /// Settings of every sandbox. What isolates is not among them: it is the same for all, always.
    pub hardening: Option<Located<HardeningFile>>,
    /// How much of what tenants print is kept on the host.
    pub logs: Option<Located<LogsFile>>,
    /// What the daemon does about drift. Default: {mode: enabled}.
    pub drift_detection: Option<Located<DriftFile>>,
    /// JSON Schemas of the repo, below `rules/`, that the settings of every tenant must satisfy after its tier and this file
    /// gave what its own does not say; schema/settings.json has their form. At most 64. Default: none.
    pub rules: Option<Located<Vec<Located<RulePath>>>>,
    /// When a commit is held until a person agrees. `host.yaml` has floors that go before it.
    pub guards: Option<Located<GuardsFile>>,
    /// How long the daemon waits before it tries a tenant again that failed.
    pub retry: Option<Located<RetryFile>>,
    /// When a commit counts as good for a tenant that it changed.
    pub health: Option<Located<HealthFile>>,
    /// What who comes from outside sees.
    pub ingress: Option<Located<FleetIngressFile>>,
}

/// What who comes from outside sees.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct FleetIngressFile {
    /// Whether a browser that goes to a tenant which does not run sees a page that says how its start goes on, and lands on
    /// what it asked for. Without it, and for programs, the request waits. Default: false.
    pub waiting_page: Option<Located<bool>>,
}

/// When a commit is held until a person agrees.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct GuardsFile {
    /// A commit is held that removes tenants, where with it `atLeast` and more than `percent` of them are removed within
    /// `window`.
    pub removals: Option<Located<RemovalsFile>>,
}

/// How many tenants commits may remove within a time.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RemovalsFile {
    /// The share of the tenants that may be removed within the window, in percent. Default: 10; in host.yaml 50.
    pub percent: Option<Located<Number<0, 100>>>,
    /// The number of removals below which no commit is held. Default: 2; in host.yaml 10.
    pub at_least: Option<Located<Number<1, 100_000>>>,
    /// How long the removals of a commit that was accepted count, 0s to 168h; with 0s each commit is judged by itself.
    /// Default: 24h; in host.yaml 1h.
    pub window: Option<Located<RemovalWindow>>,
}

/// How long the daemon waits before it tries a tenant again that failed.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RetryFile {
    /// After the first failure, 100ms to 1h; it doubles with each further one. Default: 1s.
    pub initial: Option<Located<RetryInitial>>,
    /// At most, 100ms to 24h. Default: 5m.
    pub max: Option<Located<RetryMax>>,
}

/// When a commit counts as good for a tenant that it changed.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct HealthFile {
    /// How long the tenant must have run without ending, 0s to 10m. Default: 10s.
    pub trial_period: Option<Located<HealthTime>>,
}

/// What a tenant has that says nothing else.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DefaultsFile {
    /// The tier. Default: each tenant names its own.
    pub tier: Option<Located<TierName>>,
    /// The image. Default: each tenant names its own.
    pub image: Option<Located<ImageRef>>,
    /// The command in place of the image's.
    pub command: Option<Located<Vec<Located<String>>>>,
    /// Variables beside the image's. A tenant's own go before these. Never a secret.
    #[serde(default)]
    pub environment: LocatedMap<VariableName, String>,
}

/// Settings of every sandbox.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct HardeningFile {
    /// Size of /tmp, which counts as the tenant's memory. Default: 64MiB.
    pub tmp_size: Option<Located<Bytes>>,
    /// Size of /dev/shm, which counts as the tenant's memory. Default: 64MiB.
    pub shm_size: Option<Located<Bytes>>,
    /// Open files for each process. Default: 16384. An engine cannot give more than it has itself.
    pub open_files: Option<Located<Number<64, 1_048_576>>>,
    /// Whether a small init reaps processes and forwards signals. Default: true.
    pub init: Option<Located<bool>>,
    /// Whether programs that lie in /workspace cannot be run. Default: false.
    pub workspace_noexec: Option<Located<bool>>,
}

/// How much of what a tenant prints is kept on the host.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct LogsFile {
    /// The size at which a log file is rotated. Default: 10MiB.
    pub max_size: Option<Located<Bytes>>,
    /// How many log files are kept for each tenant. Default: 3.
    pub max_files: Option<Located<Number<1, 100>>>,
    /// Whether log files that were rotated are compressed. Default: false, unless the engine's own `log-opts` say so.
    pub compress: Option<Located<bool>>,
}

/// The tiers: `tiers.yaml`. Without this file the built-in free, pro, team and enterprise apply.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(title = "Tiers")]
pub struct TiersFile {
    /// The version of the format.
    pub api_version: Located<ApiVersion>,
    /// What this file is.
    pub kind: Located<TiersKind>,
    /// Each tier by its name.
    pub tiers: Located<LocatedMap<TierName, TierFile>>,
}

/// One tier.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TierFile {
    /// Processors.
    pub cpus: Located<Cpus>,
    /// Memory, with no swap beside it.
    pub memory: Located<Bytes>,
    /// Size of /workspace.
    pub disk: Located<Bytes>,
    /// Processes and threads at once. Default: 256.
    pub pids: Option<Located<Pids>>,
    /// Sessions at once.
    pub sessions: Located<Number<1, 10_000>>,
    /// Who may reach the ports that its tenants expose, where their files do not say: `token` or `public`. Default: token.
    pub access: Option<Located<Access>>,
    /// The runtime class of tenants that choose none. Default: container.
    pub runtime: Option<Located<RuntimeClass>>,
    /// Runtime classes that a tenant may choose. Default: `runtime` and every stronger one.
    pub allowed_runtimes: Option<Located<Vec<Located<RuntimeClass>>>>,
    /// Limits that a tenant may raise above the tier's, and up to what. Default: none.
    pub may_raise: Option<Located<LimitsFile>>,
}

/// What this host offers and where it draws the line: `host.yaml`, never in the config repo.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(title = "Host")]
pub struct HostFile {
    /// The version of the format.
    pub api_version: Located<ApiVersion>,
    /// What this file is.
    pub kind: Located<HostKind>,
    /// The engine's socket. Default: unix:///var/run/docker.sock. `--engine` and DOCKER_HOST go
    /// before it.
    pub engine: Option<Located<EngineUrl>>,
    /// The folder for workspaces, the journal, the mirror of the config repo and what the daemon must know
    /// after a restart. Default: /var/lib/tenantd.
    pub data_root: Option<Located<AbsolutePath>>,
    /// Where tenant networks get their addresses.
    pub network: Option<Located<NetworkFile>>,
    /// The engine's runtime for each class that this host offers. A class that is missing here is
    /// not offered. Default: {container: runc, gvisor: runsc}.
    pub runtimes: Option<Located<RuntimesFile>>,
    /// The file of the engine's own profile of system calls (`seccomp-profile` in daemon.json), where it is not the default
    /// one and this host takes it for as good. Default: with another profile than the default one no tenant is made.
    pub seccomp_profile: Option<Located<AbsolutePath>>,
    /// How long things may take.
    pub deadlines: Option<Located<DeadlinesFile>>,
    /// What no tenant may exceed on this host, whatever a commit says. Default: no ceiling.
    pub ceilings: Option<Located<LimitsFile>>,
    /// How many tenants are worked on at once. Default: 8.
    pub parallelism: Option<Located<Number<1, 64>>>,
    /// The config repo that the daemon follows. `tenantd run` needs it.
    pub source: Option<Located<SourceFile>>,
    /// Whose signatures count. Default: no commit need be signed.
    pub verify: Option<Located<VerifyFile>>,
    /// The daemon's socket, at most 100 bytes long. Default: /run/tenantd/tenantd.sock.
    pub socket: Option<Located<SocketPath>>,
    /// The group that may use the socket beside root. Default: none.
    pub socket_group: Option<Located<GroupName>>,
    /// Where the daemon listens beside its socket. Default: nowhere.
    pub listen: Option<Located<ListenFile>>,
    /// Where the daemon reports what needs a person. Default: nowhere.
    pub notify: Option<Located<NotifyFile>>,
    /// How much of the journal is kept.
    pub journal: Option<Located<JournalFile>>,
    /// How often the daemon scans everything, whatever the engine reported, at least 1s. Default: 60s.
    pub resync: Option<Located<Period>>,
    /// What no commit can loosen.
    pub guards: Option<Located<HostGuardsFile>>,
    /// The egress of tenants.
    pub egress: Option<Located<EgressFile>>,
    /// How tenants are reached from outside. Default: not at all.
    pub ingress: Option<Located<IngressFile>>,
    /// How much of this host tenants that are awake may take.
    pub power: Option<Located<PowerFile>>,
    /// How workspaces are made, and what bounds them.
    pub workspaces: Option<Located<WorkspacesFile>>,
    /// Folders of this host that tenants may share read-only, each by a name. Default: none.
    #[serde(default)]
    pub sources: LocatedMap<SourceName, AbsolutePath>,
    /// What is written for those who plan elsewhere.
    pub snapshot: Option<Located<SnapshotFile>>,
    /// Which loosenings need a person who agrees. Default: none.
    pub approvals: Option<Located<ApprovalsFile>>,
}

/// Which loosenings of a tenant are held until somebody on the list approves them, by a signed commit with the trailer
/// `Tenantd-Approve:` that `tenantd status` shows.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ApprovalsFile {
    /// The name by which an approval means the fleet of this host, the same on all hosts that follow one repo. An
    /// approval for another fleet counts for nothing here, so give each a name of its own.
    pub fleet: Located<FleetName>,
    /// Who may approve: names of `verify.signers`.
    pub approvers: Located<Vec<Located<SignerName>>>,
    /// What needs an approval: what any of these says.
    pub needed: Located<Vec<Located<NeededFile>>>,
    /// How old an approval may be, by the time that is signed with it, 1m to 8760h. Default: 720h, 30 days.
    pub max_age: Option<Located<ApprovalAge>>,
}

/// Loosenings that need an approval.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NeededFile {
    /// The kinds of change, by the rules of docs/reviewing.md. Default: all of them.
    pub loosenings: Option<Located<Vec<Located<Loosening>>>>,
    /// The tiers; a tenant counts that is of one before the change or after it, and to leave them needs an approval as
    /// well. A tier that the repo adds later is none of them. Default: all.
    pub tiers: Option<Located<Vec<Located<TierName>>>>,
    /// Tiers that do not count. A tier that the repo adds later is none of them, so that its tenants count. Default: none.
    pub except_tiers: Option<Located<Vec<Located<TierName>>>>,
}

/// What is written for those who plan elsewhere.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SnapshotFile {
    /// How often the daemon writes one, at least 1s. Default: never.
    pub every: Option<Located<Period>>,
    /// Where to. Default: `snapshot` below the data root.
    pub file: Option<Located<AbsolutePath>>,
    /// Where the private key lies that signs it: an Ed25519 key of OpenSSH, without a passphrase.
    /// Default: `host.key` below the data root, which is made when it is first needed.
    pub key: Option<Located<SecretPlace>>,
}

/// How much of this host tenants that are awake may take.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PowerFile {
    /// The memory that tenants which run or are paused may hold together, each counted by its `limits.memory`. Who is woken
    /// beyond that first puts to sleep tenants that a request woke and that nobody uses, and is refused where that is not
    /// enough. Default: no bound.
    pub memory: Option<Located<Bytes>>,
}

/// How workspaces are made, and what bounds them.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct WorkspacesFile {
    /// What new ones are kept in. `btrfs` is a subvolume with a quota group, where the data root is on btrfs; its quotas
    /// are turned on if they are off. `image` is a mounted file with an ext4 file system of its own. `folder` is a plain
    /// folder, whose size nothing bounds. `auto` is `btrfs` where its quotas are on, else `image`, else `folder`.
    /// Default: auto.
    pub backend: Option<Located<BackendChoice>>,
    /// What becomes of a tenant whose `limits.disk` this host cannot enforce: `refuse` blocks it, `accept` makes it
    /// all the same, and plans say `unenforced`. Default: refuse.
    pub unenforced: Option<Located<Unenforced>>,
    /// How many times the data root's disk all `limits.disk` together may commit before plans say so, 0.1 to 1000.
    /// Default: 1.
    pub overcommit: Option<Located<Factor>>,
}

/// The config repo that the daemon follows.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SourceFile {
    /// A path on this host, a URL of ssh, https, http or git, or `user@host:path`. Never with a
    /// password.
    pub url: Located<SourceUrl>,
    /// The branch. Default: main.
    pub branch: Option<Located<BranchName>>,
    /// The folder of the repo with fleet.yaml in it. Default: `.`, the top.
    pub path: Option<Located<RepoFolder>>,
    /// How often it is asked for news, at least 1s. Default: 60s.
    pub interval: Option<Located<Period>>,
    /// How long one fetch may take, at least 1s. Default: 60s.
    pub timeout: Option<Located<Period>>,
    /// The private key for ssh. Default: those that ssh finds itself.
    pub ssh_key: Option<Located<AbsolutePath>>,
    /// The host keys for ssh. Default: those that ssh finds itself.
    pub known_hosts: Option<Located<AbsolutePath>>,
    /// The user name for https. Default: git, where a password is given.
    pub username: Option<Located<UserName>>,
    /// Where the password or token for https lies.
    pub password: Option<Located<SecretPlace>>,
    /// Where the secret lies that GitHub signs with, or GitLab sends, when it calls `/hooks/git`.
    /// Default: nobody may call.
    pub webhook_secret: Option<Located<SecretPlace>>,
}

/// Whose signatures count.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct VerifyFile {
    /// Which commits must be signed: `none`, `head` (the newest alone, so that a signed merge carries
    /// unsigned commits in) or `all` (each since the last accepted one).
    pub mode: Located<VerifyMode>,
    /// The SSH keys that count. Default: none.
    pub signers: Option<Located<Vec<Located<SignerFile>>>>,
    /// The GnuPG folder whose public keys count. Default: none.
    pub gnupg_home: Option<Located<AbsolutePath>>,
    /// A commit up to which nothing need be signed. Default: none.
    pub since: Option<Located<CommitId>>,
}

/// One who may sign.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SignerFile {
    /// How the journal names them.
    pub name: Located<SignerName>,
    /// Their public key.
    pub key: Located<SignerKey>,
}

/// A listener on loopback.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ListenFile {
    /// A loopback address and a port.
    pub address: Located<LoopbackAddress>,
    /// Where the token lies that a client must send.
    pub token: Located<SecretPlace>,
}

/// A webhook that is notified of what needs a person.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NotifyFile {
    /// Where the webhook's URL lies; such URLs often are secrets themselves.
    pub url: Located<SecretPlace>,
    /// What is posted. Default: all of it.
    #[schemars(length(min = 1))]
    pub events: Option<Located<Vec<Located<NotifyEvent>>>>,
}

/// How much of the journal is kept.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct JournalFile {
    /// The size at which a file is closed and the next begun, 64KiB to 1GiB. Default: 16MiB.
    pub file_size: Option<Located<JournalFileSize>>,
    /// How many files are kept. Default: 64.
    pub files: Option<Located<Number<2, 10_000>>>,
}

/// What no commit can loosen.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct HostGuardsFile {
    /// The loosest that `guards.removals` of `fleet.yaml` can be, number by number.
    pub removals: Option<Located<RemovalsFile>>,
    /// The weakest that any `driftDetection` of the repo can be. Default: {mode: disabled}.
    pub drift_detection: Option<Located<DriftFile>>,
}

/// Where tenant networks get their addresses.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NetworkFile {
    /// The addresses that all tenant networks are cut from. Default: 10.77.0.0/16.
    pub pool: Option<Located<Pool>>,
    /// The length of each tenant network's prefix, 24 to 29. Default: 28.
    pub prefix: Option<Located<Number<24, 29>>>,
}

/// The engine's runtime for each class.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RuntimesFile {
    /// For namespaces and control groups on the host's kernel.
    pub container: Option<Located<RuntimeName>>,
    /// For a kernel in user space.
    pub gvisor: Option<Located<RuntimeName>>,
    /// For a guest kernel on virtual hardware.
    pub microvm: Option<Located<RuntimeName>>,
}

/// How long things may take.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DeadlinesFile {
    /// One call to the engine. Default: 30s.
    pub call: Option<Located<Timespan>>,
    /// Starting a container. Default: 60s.
    pub start: Option<Located<Timespan>>,
    /// What a container is given between TERM and KILL. Default: 10s.
    pub stop: Option<Located<Timespan>>,
    /// How long a container must have run after its start before it counts as running. Default: 200ms.
    pub min_running: Option<Located<Timespan>>,
}
