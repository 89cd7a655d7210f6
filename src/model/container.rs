//! A container in the one canonical form that both the declared and the observed are brought to.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::Pairs;

/// Everything about a container that tenantd owns.
///
/// A value that the engine writes in several ways has one form here: nothing declared is an empty
/// list, zero or `false`; lists without an order are sorted. Two equal values therefore isolate
/// equally. The serialized field names are those that plans print.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Container {
    /// Name, without the engine's slash.
    pub name: String,
    /// Image reference as given at creation.
    pub image: String,
    /// Id of the image that it was made from.
    pub image_id: String,
    /// The engine's name of its runtime.
    pub runtime: String,
    /// Entry point.
    pub entrypoint: Vec<String>,
    /// Command.
    pub command: Vec<String>,
    /// `KEY=value`, sorted.
    pub environment: Vec<String>,
    /// User and group.
    pub user: String,
    /// Working directory.
    pub working_dir: String,
    /// Host name.
    pub hostname: String,
    /// Domain name.
    pub domainname: String,
    /// Labels.
    pub labels: Pairs,

    /// Memory in bytes; 0 is unlimited.
    pub memory: i64,
    /// Memory and swap together in bytes; 0 or less is unlimited.
    pub memory_swap: i64,
    /// Soft memory limit in bytes.
    pub memory_reservation: i64,
    /// Billionths of a processor; 0 is unlimited.
    pub nano_cpus: i64,
    /// CPU quota in microseconds a period.
    pub cpu_quota: i64,
    /// CPU period in microseconds.
    pub cpu_period: i64,
    /// CPU weight.
    pub cpu_shares: i64,
    /// Processors that it is bound to.
    pub cpuset_cpus: String,
    /// Memory nodes that it is bound to.
    pub cpuset_mems: String,
    /// Processes and threads; 0 is unlimited.
    pub pids_limit: i64,
    /// Whether the kernel's out-of-memory killer passes it over.
    pub oom_kill_disable: bool,
    /// How the kernel ranks it when memory is out.
    pub oom_score_adj: i64,
    /// Block I/O weight.
    pub blkio_weight: i64,
    /// Size of `/dev/shm` in bytes.
    pub shm_size: i64,
    /// `name=soft:hard`, sorted.
    pub ulimits: Vec<String>,

    /// Whether it has every power over the host.
    pub privileged: bool,
    /// Added capabilities, sorted.
    pub cap_add: Vec<String>,
    /// Dropped capabilities, sorted.
    pub cap_drop: Vec<String>,
    /// Security options, sorted; `no-new-privileges` without a value.
    pub security_opt: Vec<String>,
    /// AppArmor profile; empty for the engine's own.
    pub apparmor: String,
    /// Whether its root is read-only.
    pub read_only: bool,
    /// Paths that it cannot read.
    pub masked_paths: PathSet,
    /// Paths that it cannot write.
    pub readonly_paths: PathSet,
    /// Host devices, as `host:container:permissions`.
    pub devices: Vec<String>,
    /// Devices asked of drivers.
    pub device_requests: Vec<String>,
    /// Device control-group rules.
    pub device_cgroup_rules: Vec<String>,
    /// Further groups.
    pub group_add: Vec<String>,
    /// What is handed to the runtime beside: gVisor can take settings of its sandbox from there.
    #[serde(default)]
    pub annotations: Pairs,

    /// IPC namespace.
    pub ipc_mode: String,
    /// PID namespace; empty for its own.
    pub pid_mode: String,
    /// UTS namespace; empty for its own.
    pub uts_mode: String,
    /// User namespace; empty for the engine's own setting.
    pub userns_mode: String,
    /// Control-group namespace.
    pub cgroupns_mode: String,
    /// Control group that its own is made in; empty for the engine's.
    pub cgroup_parent: String,

    /// Mounts other than tmpfs, sorted by target.
    pub mounts: Vec<Mount>,
    /// tmpfs mounts: target to sorted options.
    pub tmpfs: Pairs,
    /// Containers whose volumes it shares.
    pub volumes_from: Vec<String>,
    /// Storage options.
    pub storage_opt: Pairs,

    /// Network that it was created on.
    pub network_mode: String,
    /// `container port/protocol -> host address:port`, sorted.
    pub ports: Vec<String>,
    /// Whether each port of the image is published.
    pub publish_all_ports: bool,
    /// Name servers.
    pub dns: Vec<String>,
    /// Search domains.
    pub dns_search: Vec<String>,
    /// Resolver options.
    pub dns_options: Vec<String>,
    /// Further host names.
    pub extra_hosts: Vec<String>,
    /// Linked containers.
    pub links: Vec<String>,
    /// Kernel settings of its namespaces.
    pub sysctls: Pairs,

    /// The engine's own restart policy, with its number of attempts where it has one.
    pub restart_policy: String,
    /// Whether the engine removes it when it ends.
    pub auto_remove: bool,
    /// Whether a small init is its first process.
    pub init: bool,
    /// Log driver.
    pub log_driver: String,
    /// Log options.
    pub log_options: Pairs,
}

impl Container {
    /// The limits, as the label has them that keeps those at creation.
    pub fn limits_label(&self) -> String {
        format!("memory={};nano_cpus={};pids={}", self.memory, self.nano_cpus, self.pids_limit)
    }
}

/// The name of a `KEY=value` entry.
pub fn variable_name(entry: &str) -> &str {
    entry.split('=').next().unwrap_or_default()
}

/// A list of kernel paths that is nearly always the standard one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum PathSet {
    /// The list that tenantd declares.
    #[default]
    Standard,
    /// Another one.
    Other(Vec<String>),
}

impl PathSet {
    const STANDARD: &str = "standard";
}

impl Serialize for PathSet {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Standard => serializer.serialize_str(Self::STANDARD),
            Self::Other(paths) => paths.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for PathSet {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Either {
            Word(String),
            Paths(Vec<String>),
        }
        match Either::deserialize(deserializer)? {
            Either::Word(word) if word == Self::STANDARD => Ok(Self::Standard),
            Either::Word(word) => Err(serde::de::Error::custom(format!("{word:?} is no set of paths"))),
            Either::Paths(paths) => Ok(Self::Other(paths)),
        }
    }
}

/// Where a container finds the shared folder.
pub const SHARED: &str = "/source";

/// Kernel files that tell about the host or its other tenants: hidden in every container.
///
/// First of all what engines 20.10 to 28 hide by default, so that no version is weaker than another. Beyond that:
/// * what names others: the files behind loop devices (`/sys/block` and all that leads to block devices), the names of
///   other control groups (`/sys/kernel/slab` of older kernels), other mounted file systems (`/proc/fs`, `/sys/fs`);
/// * what counts what others do: disk activity (`/proc/diskstats`, `/proc/vmstat`, interrupts, journals), memory and
///   stalls (`/proc/zoneinfo`, `/proc/pressure`), locks and keys.
///
/// `/sys/fs` is hidden file system by file system, because runtimes such as Java's and Go's read their own limits from
/// `/sys/fs/cgroup`, which shows a container its own group alone. Sums over the whole host that ordinary programs need,
/// such as `/proc/stat` and `/proc/meminfo`, stay. Buses are named one by one, since a list has no patterns: those of usual
/// hosts with one socket or more. What a kernel does not have is passed over by the runtimes. Sorted.
pub const MASKED_PATHS: [&str; 83] = [
    "/proc/acpi",
    "/proc/allocinfo",
    "/proc/asound",
    "/proc/buddyinfo",
    "/proc/diskstats",
    "/proc/fs",
    "/proc/interrupts",
    "/proc/irq",
    "/proc/kcore",
    "/proc/key-users",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/locks",
    "/proc/mdstat",
    "/proc/pagetypeinfo",
    "/proc/partitions",
    "/proc/pressure",
    "/proc/sched_debug",
    "/proc/schedstat",
    "/proc/scsi",
    "/proc/slabinfo",
    "/proc/softirqs",
    "/proc/spl",
    "/proc/swaps",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/vmallocinfo",
    "/proc/vmstat",
    "/proc/zoneinfo",
    "/sys/block",
    "/sys/class/bdi",
    "/sys/class/block",
    "/sys/dev",
    "/sys/devices/LNXSYSTM:00",
    "/sys/devices/pci0000:00",
    "/sys/devices/pci0000:20",
    "/sys/devices/pci0000:40",
    "/sys/devices/pci0000:60",
    "/sys/devices/pci0000:80",
    "/sys/devices/pci0000:a0",
    "/sys/devices/pci0000:c0",
    "/sys/devices/pci0000:e0",
    "/sys/devices/pci0001:00",
    "/sys/devices/pci10000:00",
    "/sys/devices/platform",
    "/sys/devices/virtual/bdi",
    "/sys/devices/virtual/block",
    "/sys/devices/virtual/nvme-fabrics",
    "/sys/devices/virtual/nvme-subsystem",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
    "/sys/fs/bcachefs",
    "/sys/fs/bpf",
    "/sys/fs/btrfs",
    "/sys/fs/ecryptfs",
    "/sys/fs/erofs",
    "/sys/fs/ext4",
    "/sys/fs/f2fs",
    "/sys/fs/fuse",
    "/sys/fs/gfs2",
    "/sys/fs/lustre",
    "/sys/fs/nfs",
    "/sys/fs/nilfs2",
    "/sys/fs/o2cb",
    "/sys/fs/ocfs2",
    "/sys/fs/orangefs",
    "/sys/fs/pstore",
    "/sys/fs/resctrl",
    "/sys/fs/selinux",
    "/sys/fs/smackfs",
    "/sys/fs/squashfs",
    "/sys/fs/tmpfs",
    "/sys/fs/ubifs",
    "/sys/fs/virtiofs",
    "/sys/fs/xfs",
    "/sys/fs/zfs",
    "/sys/fs/zonefs",
    "/sys/kernel/debug",
    "/sys/kernel/irq",
    "/sys/kernel/mm/ksm",
    "/sys/kernel/slab",
    "/sys/kernel/tracing",
    "/sys/kernel/uevent_seqnum",
];

/// Where a container finds what tenantd brings along, read-only.
pub const PROVIDED: &str = "/run/tenantd";

/// The home of a tenant whose image names none that it can write.
pub const OWN_HOME: &str = "HOME=/workspace";

/// Kernel files that change the host: read-only in every container. The engines' own default.
pub const READONLY_PATHS: [&str; 5] = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// One mount of a container.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Mount {
    /// Where it appears inside.
    pub target: String,
    /// `bind`, `volume` and so on.
    pub kind: String,
    /// The host's path or the volume's name.
    pub source: String,
    /// Whether it can be written.
    pub writable: bool,
    /// How mounts made later pass between host and container.
    pub propagation: String,
}

/// In one line, as plans show that it differs.
impl fmt::Display for Mount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mode = if self.writable { "rw" } else { "ro" };
        let Self { target, kind, source, propagation, .. } = self;
        write!(f, "{kind} {source} -> {target} ({mode},{propagation})")
    }
}
