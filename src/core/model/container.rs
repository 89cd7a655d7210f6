//! A container in the one canonical form that both the declared and the observed are brought to.

use std::{fmt, net::Ipv4Addr};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{
    Pairs,
    attribute::{Attribute, Repair, Unit, Weakens, form},
};

form! {
    /// Everything about a container that tenantd owns.
    ///
    /// A value that the engine writes in several ways has one form here: nothing declared is an empty
    /// list, zero or `false`; lists without an order are sorted. Two equal values therefore isolate
    /// equally. The serialized field names are those that plans print.
    Container {
        /// Name, without the engine's slash.
        name: String = NAME.weakens(Weakens::Never).repair(Repair::Rename).identifies();
        /// Image reference as given at creation.
        image: String = IMAGE.weakens(Weakens::Never).setting("image").identifies();
        /// The engine's name of its runtime.
        runtime: String = RUNTIME.setting("runtime").identifies();
        /// Billionths of a processor; 0 is unlimited.
        nano_cpus: i64 = NANO_CPUS.label("cpus").limit(Unit::Cpus).setting("limits.cpus").identifies();
        /// Memory in bytes; 0 is unlimited.
        memory: i64 = MEMORY.limit(Unit::Bytes).setting("limits.memory").identifies();
        /// Processes and threads; 0 is unlimited.
        pids_limit: i64 = PIDS_LIMIT.limit(Unit::Number).setting("limits.pids").identifies();
        /// User and group.
        user: String = USER.identifies();
        /// Whether its root is read-only.
        read_only: bool = READ_ONLY.identifies();
        /// Id of the image that it was made from.
        image_id: String = IMAGE_ID.weakens(Weakens::Never).setting("image");
        /// Entry point.
        entrypoint: Vec<String> = ENTRYPOINT.weakens(Weakens::Never);
        /// Command.
        command: Vec<String> = COMMAND.weakens(Weakens::Never).setting("command");
        /// `KEY=value`, sorted.
        environment: Vec<String> = ENVIRONMENT.weakens(Weakens::Never).setting("environment");
        /// Working directory.
        working_dir: String = WORKING_DIR.weakens(Weakens::Never);
        /// Host name.
        hostname: String = HOSTNAME.weakens(Weakens::Never);
        /// Domain name.
        domainname: String = DOMAINNAME.weakens(Weakens::Never);
        /// Labels.
        labels: Pairs = LABELS.weakens(Weakens::Never);
        /// Memory and swap together in bytes; 0 or less is unlimited.
        memory_swap: i64 = MEMORY_SWAP.limit(Unit::Bytes).reported_by("memory").setting("limits.memory");
        /// Soft memory limit in bytes.
        memory_reservation: i64 = MEMORY_RESERVATION.weakens(Weakens::Never).unit(Unit::Bytes);
        /// CPU quota in microseconds a period.
        cpu_quota: i64 = CPU_QUOTA.weakens(Weakens::Never);
        /// CPU period in microseconds.
        cpu_period: i64 = CPU_PERIOD.weakens(Weakens::Never);
        /// CPU weight.
        cpu_shares: i64 = CPU_SHARES.weakens(Weakens::Never);
        /// Microseconds a period in which its real-time threads go before everybody else's; no limit of processors counts them.
        #[serde(default)]
        cpu_realtime_runtime: i64 = CPU_REALTIME_RUNTIME;
        /// Processors that it is bound to.
        cpuset_cpus: String = CPUSET_CPUS.weakens(Weakens::Never);
        /// Memory nodes that it is bound to.
        cpuset_mems: String = CPUSET_MEMS.weakens(Weakens::Never);
        /// Whether the kernel's out-of-memory killer passes it over.
        oom_kill_disable: bool = OOM_KILL_DISABLE;
        /// How the kernel ranks it when memory is out.
        oom_score_adj: i64 = OOM_SCORE_ADJ;
        /// Block I/O weight.
        blkio_weight: i64 = BLKIO_WEIGHT.weakens(Weakens::Never);
        /// Size of `/dev/shm` in bytes.
        shm_size: i64 = SHM_SIZE.unit(Unit::Bytes).weakens(Weakens::Higher).settable().setting("hardening.shmSize");
        /// `name=soft:hard`, sorted.
        ulimits: Vec<String> = ULIMITS.settable().setting("hardening.openFiles");
        /// Whether it has every power over the host.
        privileged: bool = PRIVILEGED;
        /// Added capabilities, sorted.
        cap_add: Vec<String> = CAP_ADD;
        /// Dropped capabilities, sorted.
        cap_drop: Vec<String> = CAP_DROP;
        /// Security options, sorted; `no-new-privileges` without a value.
        security_opt: Vec<String> = SECURITY_OPT;
        /// AppArmor profile; empty for the engine's own.
        apparmor: String = APPARMOR;
        /// Paths that it cannot read.
        masked_paths: PathSet = MASKED_PATHS;
        /// Paths that it cannot write.
        readonly_paths: PathSet = READONLY_PATHS;
        /// Host devices, as `host:container:permissions`.
        devices: Vec<String> = DEVICES;
        /// Devices asked of drivers.
        device_requests: Vec<String> = DEVICE_REQUESTS;
        /// Device control-group rules.
        device_cgroup_rules: Vec<String> = DEVICE_CGROUP_RULES;
        /// Further groups.
        group_add: Vec<String> = GROUP_ADD;
        /// What is handed to the runtime beside: gVisor can take settings of its sandbox from there.
        #[serde(default)]
        annotations: Pairs = ANNOTATIONS;
        /// IPC namespace.
        ipc_mode: String = IPC_MODE;
        /// PID namespace; empty for its own.
        pid_mode: String = PID_MODE;
        /// UTS namespace; empty for its own.
        uts_mode: String = UTS_MODE;
        /// User namespace; empty for the engine's own setting.
        userns_mode: String = USERNS_MODE;
        /// Control-group namespace.
        cgroupns_mode: String = CGROUPNS_MODE;
        /// Control group that its own is made in; empty for the engine's.
        cgroup_parent: String = CGROUP_PARENT;
        /// Mounts other than tmpfs, sorted by target.
        mounts: Vec<Mount> = MOUNTS.settable();
        /// tmpfs mounts: target to sorted options.
        tmpfs: Pairs = TMPFS.settable().setting("hardening.tmpSize");
        /// Containers whose volumes it shares.
        volumes_from: Vec<String> = VOLUMES_FROM;
        /// Storage options.
        storage_opt: Pairs = STORAGE_OPT;
        /// Network that it was created on.
        network_mode: String = NETWORK_MODE;
        /// The address that it has there whenever it runs; `None` for one that the engine hands out at each start.
        #[serde(default)]
        address: Option<Ipv4Addr> = ADDRESS.weakens(Weakens::Never);
        /// `container port/protocol -> host address:port`, sorted.
        ports: Vec<String> = PORTS;
        /// Whether each port of the image is published.
        publish_all_ports: bool = PUBLISH_ALL_PORTS;
        /// Name servers.
        dns: Vec<String> = DNS.settable();
        /// Search domains.
        dns_search: Vec<String> = DNS_SEARCH;
        /// Resolver options.
        dns_options: Vec<String> = DNS_OPTIONS;
        /// Further host names.
        extra_hosts: Vec<String> = EXTRA_HOSTS;
        /// Linked containers.
        links: Vec<String> = LINKS;
        /// Kernel settings of its namespaces.
        sysctls: Pairs = SYSCTLS;
        /// The engine's own restart policy, with its number of attempts where it has one.
        restart_policy: String = RESTART_POLICY.weakens(Weakens::Never).repair(Repair::Update);
        /// Whether the engine removes it when it ends.
        auto_remove: bool = AUTO_REMOVE.weakens(Weakens::Never);
        /// Whether a small init is its first process.
        init: bool = INIT.weakens(Weakens::Never).setting("hardening.init");
        /// Log driver.
        log_driver: String = LOG_DRIVER.weakens(Weakens::Never);
        /// Log options.
        log_options: Pairs = LOG_OPTIONS.weakens(Weakens::Never).setting("logs");
    }
    beside {
        STATE = "state";
        NETWORKS = "networks";
        WORKSPACE = "workspace";
        FILES = "files".setting("files");
        DECLARATION = "declaration";
    }
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

/// Kernel files that say something of the host or its other tenants: hidden in every container.
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
