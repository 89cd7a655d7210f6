//! What the host offers and where it draws the line. Set by who owns the host, never by a commit.

mod ingress;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    path::PathBuf,
};

use ipnet::Ipv4Net;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use ingress::{Domain, Ingress, IngressLimits, Origin, Tls};

use super::{
    Bytes, Cpus, DriftMode, Pids, RuntimeClass, SecretName, SignerKey, TenantName, TierName,
    policy::{Guards, Loosening},
    quantity::Timespan,
    workspace::{Backend, BackendChoice, Unenforced},
};

/// The host's settings with every default filled in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Host {
    /// The engine's socket.
    pub engine: PathBuf,
    /// The folder for workspaces, the journal, the mirror of the config repo and the state.
    pub data_root: PathBuf,
    /// The addresses that tenant networks are cut from.
    pub pool: Ipv4Net,
    /// The length of each tenant network's prefix.
    pub prefix: u8,
    /// The engine's runtime for each class that this host offers.
    pub runtimes: BTreeMap<RuntimeClass, String>,
    /// The engine's own profile of system calls, where it is accepted in the place of the default one.
    pub seccomp_profile: Option<PathBuf>,
    /// How long each thing may take.
    pub deadlines: Deadlines,
    /// What no tenant may exceed, whatever a commit says.
    pub ceilings: Ceilings,
    /// How many tenants are worked on at once.
    pub parallelism: usize,
    /// The config repo that the daemon follows, if one is named.
    pub source: Option<Source>,
    /// Whose signatures count.
    pub verify: Verify,
    /// The daemon's socket.
    pub socket: PathBuf,
    /// The group that may use the socket beside root.
    pub socket_group: Option<String>,
    /// Where the daemon listens on loopback as well, if anywhere.
    pub listen: Option<Listen>,
    /// Where the daemon reports what needs a person, if anywhere.
    pub notify: Option<Notify>,
    /// How much of the journal is kept.
    pub journal: JournalLimits,
    /// How often everything is scanned, whatever the engine reported.
    pub resync: Timespan,
    /// What no commit can loosen.
    pub guards: Guards,
    /// The weakest drift mode that a commit can choose.
    pub weakest_drift: DriftMode,
    /// Egress.
    pub egress: Egress,
    /// What comes in, if anything does.
    pub ingress: Option<Ingress>,
    /// How much of the host tenants that are awake may take.
    pub power: PowerSettings,
    /// How workspaces are made.
    pub workspaces: WorkspaceSettings,
    /// Folders that tenants may share read-only, by name.
    pub sources: BTreeMap<String, PathBuf>,
    /// What is written for those who plan elsewhere.
    pub snapshot: SnapshotSettings,
    /// Which loosenings need a person who agrees.
    pub approvals: Approvals,
}

/// Which loosenings of a tenant need a person who agrees, and who that may be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Approvals {
    /// The name by which approvals mean what this host follows; one for another fleet counts for nothing here.
    pub fleet: String,
    /// How old an approval may be.
    pub max_age: Timespan,
    /// Names of signers.
    pub approvers: BTreeSet<String>,
    /// What needs one of them: what any of these says.
    pub needed: Vec<NeedsApproval>,
}

impl Default for Approvals {
    fn default() -> Self {
        let max_age = Timespan::seconds(30 * 24 * 3_600);
        Self { fleet: String::new(), max_age, approvers: BTreeSet::new(), needed: Vec::new() }
    }
}

/// Loosenings that need an approval.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct NeedsApproval {
    /// Of these kinds.
    pub loosenings: BTreeSet<Loosening>,
    /// Of tenants of these tiers, before the change or after it; `None` for all.
    pub tiers: Option<BTreeSet<TierName>>,
    /// And not of tenants of these, before the change or after it.
    pub except_tiers: BTreeSet<TierName>,
}

/// What is written for those who plan elsewhere.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct SnapshotSettings {
    /// How often the daemon writes one; `None` for never.
    pub every: Option<Timespan>,
    /// Where to; `None` for `snapshot` below the data root.
    pub file: Option<PathBuf>,
    /// The private key that signs it; `None` for the host's own below the data root.
    pub key: Option<Secret>,
}

/// How much of the host tenants that are awake may take.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct PowerSettings {
    /// The memory that all tenants which run or are paused may hold, by their `limits.memory`, before no other one is woken;
    /// `None` for no bound.
    pub memory: Option<Bytes>,
}

/// How workspaces are made and bounded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct WorkspaceSettings {
    /// What is asked for.
    pub backend: BackendChoice,
    /// What becomes of a tenant whose `limits.disk` cannot be enforced.
    pub unenforced: Unenforced,
    /// How many times the disk all limits together may commit before plans say so.
    pub overcommit: Overcommit,
}

/// A factor, in hundredths.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Overcommit(pub u64);

impl Default for Overcommit {
    fn default() -> Self {
        Self(100)
    }
}

impl Overcommit {
    /// What may be committed of so many bytes.
    pub fn of(self, bytes: u64) -> u64 {
        u64::try_from(u128::from(bytes) * u128::from(self.0) / 100).unwrap_or(u64::MAX)
    }
}

/// The config repo that the daemon follows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Source {
    /// A path on this host, or a URL of ssh, https, http or git. It never holds credentials.
    pub url: String,
    /// The branch.
    pub branch: String,
    /// The folder with fleet.yaml in it; empty for the top.
    pub path: String,
    /// How often it is asked for news.
    pub interval: Timespan,
    /// How long one fetch may take.
    pub timeout: Timespan,
    /// The private key for ssh.
    pub ssh_key: Option<PathBuf>,
    /// The host keys for ssh.
    pub known_hosts: Option<PathBuf>,
    /// The user name for http, where there is a password. Hosts that take tokens ignore it.
    pub username: String,
    /// The password or token for http.
    pub password: Option<Secret>,
    /// What GitHub signs, or GitLab sends, when it calls `/hooks/git`. Without it nobody may call.
    pub webhook_secret: Option<Secret>,
}

impl Source {
    /// `main` of a repository, from its top, asked each minute and without credentials.
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            branch: "main".to_owned(),
            path: String::new(),
            interval: Timespan::seconds(60),
            timeout: Timespan::seconds(60),
            ssh_key: None,
            known_hosts: None,
            username: "git".to_owned(),
            password: None,
            webhook_secret: None,
        }
    }
}

/// Where a secret lies. The secret itself is read when it is needed, and kept nowhere.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Secret {
    /// In a file.
    File(PathBuf),
    /// In the folder that systemd hands over, under this name.
    Credential(String),
}

/// Whose signatures count.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Verify {
    /// Which commits must be signed.
    pub mode: VerifyMode,
    /// The SSH keys that count.
    pub signers: Vec<Signer>,
    /// The GnuPG folder whose public keys count.
    pub gnupg_home: Option<PathBuf>,
    /// A commit, 40 hexadecimal digits, up to which nothing need be signed.
    pub since: Option<String>,
}

/// Which commits must be signed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum VerifyMode {
    /// None.
    #[default]
    None,
    /// The newest alone: a signed merge carries unsigned commits in.
    Head,
    /// Each since the last accepted one.
    All,
}

/// One who may sign.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Signer {
    /// How the journal names them.
    pub name: String,
    /// Their public key.
    pub key: SignerKey,
}

/// A listener on loopback.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Listen {
    /// A loopback address and a port.
    pub address: SocketAddr,
    /// What a client must send as a bearer token.
    pub token: Secret,
}

/// A webhook that is notified of what needs a person.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Notify {
    /// Where its URL lies; such URLs often are secrets themselves.
    pub url: Secret,
    /// What is posted.
    pub events: BTreeSet<NotifyEvent>,
}

/// What a webhook can be notified of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[expect(missing_docs, reason = "docs/config.md has the table")]
pub enum NotifyEvent {
    Drift,
    Blocked,
    Held,
    Failed,
}

impl NotifyEvent {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Drift, Self::Blocked, Self::Held, Self::Failed];
}

/// How much of the journal is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct JournalLimits {
    /// The size at which a file is closed and the next begun.
    pub file_size: Bytes,
    /// How many files are kept.
    pub files: u32,
}

/// How long each call to the engine may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Deadlines {
    /// One call that reads or changes something.
    pub call: Timespan,
    /// Starting a container.
    pub start: Timespan,
    /// What a container is given between TERM and KILL.
    pub stop: Timespan,
    /// How long a container must have run after its start before it counts as running.
    pub min_running: Timespan,
}

/// The most that one tenant may have on this host; `None` leaves it to the tiers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Ceilings {
    /// Processors.
    pub cpus: Option<Cpus>,
    /// Memory.
    pub memory: Option<Bytes>,
    /// Processes and threads.
    pub pids: Option<Pids>,
    /// Workspace.
    pub disk: Option<Bytes>,
}

impl Default for Host {
    fn default() -> Self {
        Self {
            engine: PathBuf::from("/var/run/docker.sock"),
            data_root: PathBuf::from("/var/lib/tenantd"),
            pool: Ipv4Net::new_assert(std::net::Ipv4Addr::new(10, 77, 0, 0), 16),
            prefix: 28,
            runtimes: BTreeMap::from([
                (RuntimeClass::Container, "runc".to_owned()),
                (RuntimeClass::Gvisor, "runsc".to_owned()),
            ]),
            seccomp_profile: None,
            deadlines: Deadlines {
                call: Timespan::seconds(30),
                start: Timespan::seconds(60),
                stop: Timespan::seconds(10),
                // A command that does not exist ended 16 to 66 ms after the engine's answer with runc,
                // and 60 to 106 ms with runsc, on an idle machine.
                min_running: Timespan::milliseconds(200),
            },
            ceilings: Ceilings::default(),
            parallelism: 8,
            source: None,
            verify: Verify::default(),
            socket: PathBuf::from("/run/tenantd/tenantd.sock"),
            socket_group: None,
            listen: None,
            notify: None,
            journal: JournalLimits { file_size: Bytes::mib(16), files: 64 },
            resync: Timespan::seconds(60),
            // Below these no fleet.yaml can go: half of the tenants, or ten, within an hour.
            guards: Guards { percent: 50, at_least: 10, window: Timespan::seconds(3_600) },
            weakest_drift: DriftMode::Disabled,
            egress: Egress::default(),
            ingress: None,
            power: PowerSettings::default(),
            workspaces: WorkspaceSettings::default(),
            sources: BTreeMap::new(),
            snapshot: SnapshotSettings::default(),
            approvals: Approvals::default(),
        }
    }
}

/// Egress: what the gateway works with, and what no allowlist can open.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Egress {
    /// Who is asked for names; empty for those of /etc/resolv.conf.
    pub resolvers: Vec<SocketAddr>,
    /// The port of the proxy, inside.
    pub proxy_port: u16,
    /// Ranges that are not public, or whole, and that a tenant may list all the same.
    pub permit: Vec<Ipv4Net>,
    /// The folder in which the gateway finds what each tenant may reach. Its owner is root.
    pub policies: PathBuf,
    /// The gateway's own folder: the only one that it writes to.
    pub state: PathBuf,
    /// The user that the gateway becomes once it has begun.
    pub user: String,
    /// The gateway's network namespace, by its name under /run/netns.
    pub namespace: String,
    /// Certificates of authorities that upstreams of credentials may have beside the host's own.
    pub authorities: Option<PathBuf>,
    /// The tenants whose TLS may carry an encrypted client hello, which hides whom it is really for.
    pub encrypted_hello: BTreeSet<TenantName>,
    /// The secrets that this host keeps, by name, and whom each may serve.
    pub secrets: BTreeMap<SecretName, SecretGrant>,
    /// The key that secrets in tenant files are encrypted to.
    pub identity: Option<Secret>,
    /// What one tenant may use of the gateway.
    pub limits: EgressLimits,
}

/// A secret, and whom it may serve.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SecretGrant {
    /// Where it lies.
    pub place: SecretPlace,
    /// The tenants that may name it.
    pub tenants: BTreeSet<TenantName>,
    /// The upstreams, by host name, that it may be sent to.
    pub upstreams: BTreeSet<String>,
}

/// Where a tenant's secret lies.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum SecretPlace {
    /// On this host.
    Host(Secret),
    /// In the files of its tenants, encrypted to `egress.identity`.
    Sealed,
}

/// What one tenant may use of the gateway at once, or in a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct EgressLimits {
    /// Connections at once.
    pub connections: u32,
    /// Bytes in a second, both directions together; `None` for no bound.
    pub bandwidth: Option<Bytes>,
    /// Names looked up in a second.
    pub lookups: u32,
    /// The longest head of a request, in bytes.
    pub head: Bytes,
    /// The longest body of a request that goes through a credential's route, in bytes.
    pub body: Bytes,
    /// How long a client may take to say where it wants to.
    pub handshake_timeout: Timespan,
    /// How long a connection may carry nothing in either direction.
    pub idle: Timespan,
    /// How long a client or a destination may take nothing of what waits for it.
    pub stall: Timespan,
}

impl Default for Egress {
    fn default() -> Self {
        Self {
            resolvers: Vec::new(),
            proxy_port: 3128,
            permit: Vec::new(),
            policies: PathBuf::from("/run/tenantd/egress"),
            state: PathBuf::from("/var/lib/tenantd-gateway"),
            user: "tenantd-gateway".to_owned(),
            namespace: "tenantd".to_owned(),
            authorities: None,
            encrypted_hello: BTreeSet::new(),
            secrets: BTreeMap::new(),
            identity: None,
            limits: EgressLimits {
                connections: 256,
                bandwidth: None,
                lookups: 50,
                head: Bytes::kib(64),
                body: Bytes::mib(64),
                handshake_timeout: Timespan::seconds(10),
                idle: Timespan::seconds(3600),
                stall: Timespan::seconds(300),
            },
        }
    }
}

impl Host {
    /// Where the daemon writes its snapshot.
    pub fn snapshot_file(&self) -> PathBuf {
        self.snapshot.file.clone().unwrap_or_else(|| self.data_root.join("snapshot"))
    }

    /// Where a tenant's config files lie: what its container gets as /config.
    pub fn files(&self, tenant: &str) -> PathBuf {
        self.data_root.join("files").join(tenant)
    }

    /// What every container gets as /run/tenantd: a folder below one that only root may enter.
    pub fn provided(&self) -> PathBuf {
        self.data_root.join("provided").join("run")
    }

    /// Where a tenant's workspace lies: what its container gets as /workspace.
    ///
    /// That of a volume is a folder below the mount, so that it does not exist unless the volume is mounted. For people,
    /// `workspaces/NAME` leads there as well.
    pub fn workspace(&self, tenant: &str, backend: Backend) -> PathBuf {
        match backend {
            Backend::Image | Backend::Btrfs => self.data_root.join("mounts").join(tenant).join("files"),
            Backend::Folder => self.data_root.join("workspaces").join(tenant),
        }
    }
}
