//! What is known of each attribute of a resource. One table for each kind of resource says all of it: comparing, repairing,
//! rendering, recording and showing it on the line of a tenant's file ask here.

use std::fmt;

use super::resource::Resource;

/// An attribute of a resource. There is one value of each, so that two are equal only where they are the same one.
pub struct Attribute {
    /// Its name in plans as data, in records, and in the canonical form where it is part of that.
    pub name: &'static str,
    /// Its name for people: the engine counts billionths of a processor, they do not.
    pub label: &'static str,
    /// What a number of it counts.
    pub unit: Unit,
    /// The setting of a tenant's file that it is made from, such as `limits.memory`.
    pub setting: Option<&'static str>,
    /// How a difference is put right.
    pub repair: Repair,
    /// When an actual value isolates less than the declared one.
    pub weakens: Weakens,
    /// Whether a commit or the host's settings may change it. A difference that comes from there asks for less, and weakens
    /// nothing that was declared.
    pub settable: bool,
    /// Whether it tells one object from another; the rest is the same for all tenants. Records of objects that are made
    /// or removed have these.
    pub tells: bool,
    /// The attribute that says the same, where few words must do.
    pub told_by: Option<&'static str>,
    /// Whether it is part of the canonical form. Of the others the planner judges each difference where it finds it.
    pub is_of_form: bool,
}

/// What a number counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Things, or nothing that has a unit.
    Number,
    /// Bytes.
    Bytes,
    /// Billionths of a processor.
    Cpus,
}

/// How an attribute of a container that differs is put right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Repair {
    /// By `update`, where the runtime class can; else by a new container. It is a limit, of which zero is none, and is no part
    /// of the fingerprint: that stands in a label, which cannot follow it.
    Limit,
    /// By `update`, where the runtime class can; else by a new container.
    Update,
    /// By `rename`.
    Rename,
    /// By a new container.
    Replace,
}

/// When an actual value isolates less than the declared one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Weakens {
    /// Whatever it is.
    Always,
    /// When it is a higher limit, or none.
    Higher,
    /// Never: it changes what runs, not how it is contained.
    Never,
}

impl PartialEq for Attribute {
    fn eq(&self, other: &Self) -> bool {
        std::ptr::eq(self, other)
    }
}

impl fmt::Debug for Attribute {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

impl Attribute {
    /// One of which nothing else is said is put right by a new object and counts as weaker: an attribute that is added to the
    /// canonical form errs on the safe side.
    const fn new(name: &'static str) -> Self {
        Self {
            name,
            label: name,
            unit: Unit::Number,
            setting: None,
            repair: Repair::Replace,
            weakens: Weakens::Always,
            settable: false,
            tells: false,
            told_by: None,
            is_of_form: true,
        }
    }

    const fn label(self, label: &'static str) -> Self {
        Self { label, ..self }
    }

    const fn unit(self, unit: Unit) -> Self {
        Self { unit, ..self }
    }

    const fn setting(self, setting: &'static str) -> Self {
        Self { setting: Some(setting), ..self }
    }

    const fn repair(self, repair: Repair) -> Self {
        Self { repair, ..self }
    }

    const fn weakens(self, weakens: Weakens) -> Self {
        Self { weakens, ..self }
    }

    const fn limit(self, unit: Unit) -> Self {
        Self { unit, repair: Repair::Limit, weakens: Weakens::Higher, settable: true, ..self }
    }

    const fn settable(self) -> Self {
        Self { settable: true, ..self }
    }

    const fn tells(self) -> Self {
        Self { tells: true, ..self }
    }

    const fn told_by(self, other: &'static str) -> Self {
        Self { told_by: Some(other), ..self }
    }

    const fn judged(self) -> Self {
        Self { is_of_form: false, ..self }
    }

    /// Whether it is a limit that can change on a container that lives.
    pub fn is_limit(&self) -> bool {
        self.repair == Repair::Limit
    }

    /// Whether the engine's update of a container puts it right.
    pub fn is_updated(&self) -> bool {
        matches!(self.repair, Repair::Limit | Repair::Update)
    }
}

/// One that is in no table. It weakens and replaces.
pub static FORGOTTEN: Attribute = Attribute::new("unknown");

/// All attributes of a kind of resource. Those that tell one object from another come first, in the order of records.
pub fn of(resource: Resource) -> &'static [&'static Attribute] {
    match resource {
        Resource::Container => container::ALL,
        Resource::Network => network::ALL,
        Resource::Workspace => workspace::ALL,
        Resource::Files => files::ALL,
        Resource::Egress => egress::ALL,
        Resource::Aside => &[],
    }
}

/// An attribute by its name. One that nobody thought of is [`Weakens::Always`] and [`Repair::Replace`].
pub fn find(resource: Resource, name: &str) -> &'static Attribute {
    of(resource).iter().copied().find(|attribute| attribute.name == name).unwrap_or(&FORGOTTEN)
}

/// An attribute by its name alone, as records have it: those of one name are shown alike in all tables.
pub fn named(name: &str) -> Option<&'static Attribute> {
    Resource::ALL.into_iter().flat_map(of).copied().find(|attribute| attribute.name == name)
}

macro_rules! table {
    ($(#[$doc:meta])* $table:ident { $($row:ident = $name:literal $(.$method:ident($($argument:expr),*))*;)* }) => {
        $(#[$doc])*
        #[expect(missing_docs, reason = "each row says what its attribute is")]
        pub mod $table {
            use super::*;

            $(pub static $row: Attribute = Attribute::new($name)$(.$method($($argument),*))*;)*

            /// All of them.
            pub static ALL: &[&Attribute] = &[$(&$row),*];
        }
    };
}

table! {
    /// Of a container: its canonical form, [`super::Container`], and what it has from beside.
    container {
        NAME = "name".weakens(Weakens::Never).repair(Repair::Rename).tells();
        IMAGE = "image".weakens(Weakens::Never).setting("image").tells();
        RUNTIME = "runtime".setting("runtime").tells();
        NANO_CPUS = "nano_cpus".label("cpus").limit(Unit::Cpus).setting("limits.cpus").tells();
        MEMORY = "memory".limit(Unit::Bytes).setting("limits.memory").tells();
        PIDS_LIMIT = "pids_limit".limit(Unit::Number).setting("limits.pids").tells();
        USER = "user".tells();
        READ_ONLY = "read_only".tells();
        IMAGE_ID = "image_id".weakens(Weakens::Never).setting("image");
        ENTRYPOINT = "entrypoint".weakens(Weakens::Never);
        COMMAND = "command".weakens(Weakens::Never).setting("command");
        ENVIRONMENT = "environment".weakens(Weakens::Never).setting("environment");
        WORKING_DIR = "working_dir".weakens(Weakens::Never);
        HOSTNAME = "hostname".weakens(Weakens::Never);
        DOMAINNAME = "domainname".weakens(Weakens::Never);
        LABELS = "labels".weakens(Weakens::Never);
        MEMORY_SWAP = "memory_swap".limit(Unit::Bytes).told_by("memory").setting("limits.memory");
        MEMORY_RESERVATION = "memory_reservation".weakens(Weakens::Never).unit(Unit::Bytes);
        CPU_QUOTA = "cpu_quota".weakens(Weakens::Never);
        CPU_PERIOD = "cpu_period".weakens(Weakens::Never);
        CPU_SHARES = "cpu_shares".weakens(Weakens::Never);
        CPUSET_CPUS = "cpuset_cpus".weakens(Weakens::Never);
        CPUSET_MEMS = "cpuset_mems".weakens(Weakens::Never);
        OOM_KILL_DISABLE = "oom_kill_disable";
        OOM_SCORE_ADJ = "oom_score_adj";
        BLKIO_WEIGHT = "blkio_weight".weakens(Weakens::Never);
        SHM_SIZE = "shm_size".unit(Unit::Bytes).weakens(Weakens::Higher).settable().setting("hardening.shmSize");
        ULIMITS = "ulimits".settable().setting("hardening.openFiles");
        PRIVILEGED = "privileged";
        CAP_ADD = "cap_add";
        CAP_DROP = "cap_drop";
        SECURITY_OPT = "security_opt";
        APPARMOR = "apparmor";
        MASKED_PATHS = "masked_paths";
        READONLY_PATHS = "readonly_paths";
        DEVICES = "devices";
        DEVICE_REQUESTS = "device_requests";
        DEVICE_CGROUP_RULES = "device_cgroup_rules";
        GROUP_ADD = "group_add";
        ANNOTATIONS = "annotations";
        IPC_MODE = "ipc_mode";
        PID_MODE = "pid_mode";
        UTS_MODE = "uts_mode";
        USERNS_MODE = "userns_mode";
        CGROUPNS_MODE = "cgroupns_mode";
        CGROUP_PARENT = "cgroup_parent";
        MOUNTS = "mounts".settable();
        TMPFS = "tmpfs".settable().setting("hardening.tmpSize");
        VOLUMES_FROM = "volumes_from";
        STORAGE_OPT = "storage_opt";
        NETWORK_MODE = "network_mode";
        PORTS = "ports";
        PUBLISH_ALL_PORTS = "publish_all_ports";
        DNS = "dns".settable();
        DNS_SEARCH = "dns_search";
        DNS_OPTIONS = "dns_options";
        EXTRA_HOSTS = "extra_hosts";
        LINKS = "links";
        SYSCTLS = "sysctls";
        RESTART_POLICY = "restart_policy".weakens(Weakens::Never).repair(Repair::Update);
        AUTO_REMOVE = "auto_remove".weakens(Weakens::Never);
        INIT = "init".weakens(Weakens::Never).setting("hardening.init");
        LOG_DRIVER = "log_driver".weakens(Weakens::Never);
        LOG_OPTIONS = "log_options".weakens(Weakens::Never).setting("logs");
        STATE = "state".judged();
        NETWORKS = "networks".judged();
        WORKSPACE = "workspace".judged();
        FILES = "files".judged().setting("files");
        DECLARATION = "declaration".judged();
    }
}

table! {
    /// Of a network: its canonical form, [`super::Network`], and who is on it.
    network {
        NAME = "name".tells();
        RANGES = "ranges".settable().tells();
        INTERNAL = "internal".tells();
        DRIVER = "driver";
        ATTACHABLE = "attachable";
        INGRESS = "ingress";
        CONFIG_ONLY = "config_only";
        IPV6 = "ipv6";
        IPAM_DRIVER = "ipam_driver";
        IPAM_OPTIONS = "ipam_options";
        OPTIONS = "options";
        LABELS = "labels".weakens(Weakens::Never);
        MEMBERS = "members".judged();
    }
}

table! {
    /// Of a workspace.
    workspace {
        PATH = "path".judged().tells();
        BACKEND = "backend".judged().tells();
        LIMIT = "limit".judged().unit(Unit::Bytes).setting("limits.disk").tells();
        IMAGE_SIZE = "image_size".judged().unit(Unit::Bytes).setting("limits.disk");
        UID = "uid".judged();
        MODE = "mode".judged();
        NOEXEC = "noexec".judged().setting("hardening.workspaceNoexec");
        OPTIONS = "options".judged();
        FOLDER = "folder".judged();
        LINK = "link".judged();
        MOUNT = "mount".judged();
        STATE = "state".judged();
        RESTORED = "restored".judged();
    }
}

table! {
    /// Of the files at /config.
    files {
        PATH = "path".judged().tells();
        CONTENT = "content".judged().setting("files").tells();
        FOREIGN = "foreign".judged();
        NOTED = "noted".judged();
    }
}

table! {
    /// Of a way out.
    egress {
        LINK = "link".judged().tells();
        BRIDGE = "bridge".judged().tells();
        SUBNET = "subnet".judged().tells();
        ALLOW = "allow".judged().setting("allowlist").tells();
        ROUTES = "routes".judged().setting("credentials").tells();
        BUDGET = "budget".judged().setting("budget").tells();
        SECRETS = "secrets".judged().setting("credentials").tells();
        ADDRESSES = "addresses".judged();
        HOST_SIDE = "host_side".judged();
        SWITCHES = "switches".judged();
        POLICY = "policy".judged();
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::{Value, json};

    use super::*;
    use crate::model::{Container, Network};

    fn names(resource: Resource, wanted: fn(&Attribute) -> bool) -> BTreeSet<&'static str> {
        of(resource).iter().filter(|attribute| wanted(attribute)).map(|attribute| attribute.name).collect()
    }

    #[test]
    fn the_tables_and_the_canonical_forms_have_the_same_attributes() {
        let forms =
            [(Resource::Container, json!(Container::default())), (Resource::Network, json!(Network::default()))];
        for (resource, form) in forms {
            let Value::Object(form) = form else { panic!("{form} has no attributes") };
            let form: BTreeSet<&str> = form.keys().map(String::as_str).collect();
            assert_eq!(names(resource, |attribute| attribute.is_of_form), form);
        }
        for resource in [Resource::Workspace, Resource::Files, Resource::Egress] {
            assert_eq!(names(resource, |attribute| attribute.is_of_form), BTreeSet::new());
        }
    }

    #[test]
    fn what_has_no_row_is_weaker_and_replaces() {
        let unknown = find(Resource::Container, "an attribute of a later version");
        assert_eq!((unknown.weakens, unknown.repair, unknown.settable), (Weakens::Always, Repair::Replace, false));
    }

    #[test]
    fn attributes_of_one_name_are_one_in_a_table_and_shown_alike_in_all() {
        for resource in Resource::ALL {
            assert_eq!(names(resource, |_| true).len(), of(resource).len(), "{resource:?}");
            for attribute in of(resource) {
                let shown = named(attribute.name).map(|first| (first.label, first.unit, first.told_by));
                assert_eq!(shown, Some((attribute.label, attribute.unit, attribute.told_by)), "{attribute:?}");
            }
        }
    }
}
