//! The files as people write them. Schemas and `docs/config.md` come from these types.

use std::{borrow::Cow, str::FromStr};

use schemars::JsonSchema;
use serde::Deserialize;

use super::decode::{Located, LocatedMap};
use crate::model::{
    Bytes, Cpus, Destination, ImageRef, Invalid, Pids, RuntimeClass, TenantName, TierName,
    quantity::{Timespan, bounded},
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
    pub open_files: Option<Located<OpenFiles>>,
    /// Whether a small init reaps processes and forwards signals. Default: true.
    pub init: Option<Located<bool>>,
}

/// How much of what a tenant prints is kept on the host.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct LogsFile {
    /// The size at which a log file is rotated. Default: 10MiB.
    pub max_size: Option<Located<Bytes>>,
    /// How many log files are kept for each tenant. Default: 3.
    pub max_files: Option<Located<LogFiles>>,
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
    pub sessions: Located<Sessions>,
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
    /// The folder for workspaces and the lock. Default: /var/lib/tenantd.
    pub data_root: Option<Located<AbsolutePath>>,
    /// Where tenant networks get their addresses.
    pub network: Option<Located<NetworkFile>>,
    /// The engine's runtime for each class that this host offers. A class that is missing here is
    /// not offered. Default: {container: runc, gvisor: runsc}.
    pub runtimes: Option<Located<RuntimesFile>>,
    /// How long things may take.
    pub deadlines: Option<Located<DeadlinesFile>>,
    /// What no tenant may exceed on this host, whatever a commit says. Default: no ceiling.
    pub ceilings: Option<Located<LimitsFile>>,
    /// How many tenants are worked on at once. Default: 8.
    pub parallelism: Option<Located<Parallelism>>,
}

/// Where tenant networks get their addresses.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NetworkFile {
    /// The addresses that all tenant networks are cut from. Default: 10.77.0.0/16.
    pub pool: Option<Located<Pool>>,
    /// The length of each tenant network's prefix, 24 to 29. Default: 28.
    pub prefix: Option<Located<Prefix>>,
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
    /// How long a container that was started is watched before it counts as running. Default: 200ms.
    pub settle: Option<Located<Timespan>>,
}

/// Makes a newtype of text with a check.
macro_rules! checked_text {
    ($(#[$doc:meta])* $name:ident, $schema:tt, $check:expr) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub struct $name(pub String);

        impl FromStr for $name {
            type Err = Invalid;

            fn from_str(text: &str) -> Result<Self, Invalid> {
                let check: fn(&str) -> Result<(), Invalid> = $check;
                check(text)?;
                Ok(Self(text.to_owned()))
            }
        }

        crate::text_value!($name, stringify!($name), $schema);
    };
}

checked_text!(
    /// The name of a variable.
    VariableName,
    {"type": "string", "pattern": "^[A-Za-z_][A-Za-z0-9_]*$"},
    |text| {
        let ok = text.len() <= 128
            && text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
        if ok { Ok(()) } else {
            Err(Invalid::new("bad-name", format!("{text:?} is not a variable's name"), "write letters, digits and _, a digit not in front"))
        }
    }
);

checked_text!(
    /// The engine's name of a runtime.
    RuntimeName,
    {"type": "string", "pattern": "^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$", "examples": ["runc", "runsc"]},
    |text| {
        let ok = (1..=63).contains(&text.len())
            && text.starts_with(|c: char| c.is_ascii_alphanumeric())
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b));
        if ok { Ok(()) } else {
            Err(Invalid::new("bad-name", format!("{text:?} is not a runtime's name"), "write the name that `docker info` lists under Runtimes"))
        }
    }
);

checked_text!(
    /// A path from the root of the host.
    AbsolutePath,
    {"type": "string", "pattern": "^/"},
    |text| {
        let plain = text.starts_with('/') && !text.split('/').any(|part| part == "..");
        if plain && text.len() > 1 { Ok(()) } else {
            Err(Invalid::new("bad-path", format!("{text:?} is not an absolute path to a folder"), "write it from / on, without .."))
        }
    }
);

checked_text!(
    /// The engine's socket as a URL.
    EngineUrl,
    {"type": "string", "pattern": "^unix:///", "examples": ["unix:///var/run/docker.sock"]},
    |text| {
        if text.strip_prefix("unix://").is_some_and(|path| path.starts_with('/')) { Ok(()) } else {
            Err(Invalid::new("bad-engine", format!("{text:?} is not a unix socket"), "write unix:// and an absolute path; tenantd runs on the engine's own host"))
        }
    }
);

/// The addresses that tenant networks are cut from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pool(pub ipnet::Ipv4Net);

impl FromStr for Pool {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let bad = |message| {
            Err(Invalid::new(
                "bad-pool",
                message,
                "write a private range with a prefix of 8 to 24, such as 10.77.0.0/16",
            ))
        };
        let Ok(pool) = text.parse::<ipnet::Ipv4Net>() else {
            return bad(format!("{text:?} is not a range of IPv4 addresses"));
        };
        if pool.network() != pool.addr() {
            return bad(format!("{text} has bits behind its prefix; the range would be {}", pool.trunc()));
        }
        let shared = ipnet::Ipv4Net::new_assert(std::net::Ipv4Addr::new(100, 64, 0, 0), 10);
        let private = pool.network().is_private() && pool.broadcast().is_private() || shared.contains(&pool);
        if !private || !(8..=24).contains(&pool.prefix_len()) {
            return bad(format!("{text} is not a private range of a usable size"));
        }
        Ok(Self(pool))
    }
}

crate::text_value!(Pool, "Pool", {
    "type": "string",
    "pattern": "^[0-9]{1,3}(\\.[0-9]{1,3}){3}/[0-9]{1,2}$",
    "examples": ["10.77.0.0/16"]
});

/// Makes a newtype of a whole number within bounds.
macro_rules! bounded_number {
    ($(#[$doc:meta])* $name:ident, $min:literal, $max:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub struct $name(pub u32);

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                bounded(deserializer, $min, $max).map(Self)
            }
        }

        impl JsonSchema for $name {
            fn schema_name() -> Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                schemars::json_schema!({"type": "integer", "minimum": $min, "maximum": $max})
            }
        }
    };
}

bounded_number!(
    /// Open files for each process.
    OpenFiles, 64, 1_048_576
);
bounded_number!(
    /// Log files that are kept.
    LogFiles, 1, 100
);
bounded_number!(
    /// Sessions at once.
    Sessions, 1, 10_000
);
bounded_number!(
    /// Tenants that are worked on at once.
    Parallelism, 1, 64
);
bounded_number!(
    /// The length of a tenant network's prefix.
    Prefix, 24, 29
);
