//! What each setting of the engine's `daemon.json` does to tenants. One table says it for every setting.

use crate::model::{Container, EngineDefaults, Obstacle, plan::Blocked};

/// What a setting does to tenants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Effect {
    /// Nothing: each container and network is sent a value of its own, or has no part in it.
    None,
    /// It reaches them, and weakens nothing whatever its value is: it is neither drift nor an obstacle.
    Allowed,
    /// The same, but for values that weaken or that nobody can judge: those block.
    Judged,
    /// Nothing can be made as declared with it.
    Blocks,
}

impl Effect {
    const fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Allowed => "allowed",
            Self::Judged => "depends",
            Self::Blocks => "blocks",
        }
    }
}

/// The settings, by what they do, and why. Those of one row are alike.
const SETTINGS: &[(&[&str], Effect, &str)] = &[
    (
        &["default-ulimits"],
        Effect::Judged,
        "the engine adds limits of names that tenants are not sent (`core` and `nofile` are). Allowed are `as`, `cpu`, `data`, \
         `fsize`, `locks`, `memlock`, `msgqueue`, `nproc`, `rss`, `rttime`, `stack`, which the limits of a tenant bound; `rtprio` \
         above 0, `nice` above 20, `sigpending` without a bound and what is not known weaken",
    ),
    (
        &["log-opts"],
        Effect::Allowed,
        "the engine adds options of names that tenants are not sent (`max-file` and `max-size` are). With `compress` it \
         starts no tenant whose policy keeps one file (`logs`): such a one is not made",
    ),
    (
        &["default-network-opts"],
        Effect::Judged,
        "the engine adds options of names that networks are not sent (the bridge's name and `inhibit_ipv4` are). Allowed are the MTU, \
         the name of the interface inside, masquerading, the address of published ports and what says that IPv6 is off; what opens a \
         network or cuts the gateway off, and what is not known, blocks",
    ),
    (
        &["seccomp-profile"],
        Effect::Judged,
        "`unconfined` weakens. What a file lets through cannot be judged from outside: it blocks unless `host.yaml` names it \
         (`seccompProfile`)",
    ),
    (
        &["userns-remap"],
        Effect::Judged,
        "tenants of the class `container` work, and their workspaces belong to the mapped owner. Those of other classes are blocked \
         with `runtime-not-remapped`: their runtimes do not start with other users, or pass them over",
    ),
    (
        &["selinux-enabled"],
        Effect::Blocks,
        "workspaces and config files have no label that a confined container may use",
    ),
    (&["rootless"], Effect::Blocks, "nobody can tell which users of the host those of containers are"),
    (
        &[
            "cgroup-parent",
            "cpu-rt-period",
            "cpu-rt-runtime",
            "exec-opts",
            "dns-opts",
            "init-path",
            "live-restore",
            "storage-opts",
            "authorization-plugins",
            "no-new-privileges",
        ],
        Effect::Allowed,
        "where control groups lie, how names are asked for, how storage is laid out: nothing that isolates gets weaker. What a plugin \
         refuses is reported in its words",
    ),
    (
        &[
            "default-cgroupns-mode",
            "default-ipc-mode",
            "default-runtime",
            "default-shm-size",
            "dns",
            "dns-search",
            "init",
            "log-driver",
            "resolv-conf",
        ],
        Effect::None,
        "each container is sent its own",
    ),
    (&["runtimes"], Effect::None, "a tenant gets the one that `host.yaml` names for its class, or none"),
    (
        &[
            "allow-direct-routing",
            "bip",
            "bip6",
            "bridge",
            "default-address-pools",
            "default-gateway",
            "default-gateway-v6",
            "fixed-cidr",
            "fixed-cidr-v6",
            "host-gateway-ip",
            "host-gateway-ips",
            "icc",
            "ip",
            "ip-masq",
            "ipv6",
            "mtu",
            "userland-proxy",
            "userland-proxy-path",
        ],
        Effect::None,
        "they are of the engine's own bridge, of published ports or of addresses that the engine chooses; tenants have none of them",
    ),
    (
        &["bridge-accept-fwmark", "firewall-backend", "ip-forward", "ip-forward-no-drop", "ip6tables", "iptables"],
        Effect::None,
        "what keeps a tenant in is that there is no path for a packet, with and without rules of a firewall",
    ),
    (
        &[
            "allow-nondistributable-artifacts",
            "api-cors-header",
            "builder",
            "cdi-spec-dirs",
            "containerd",
            "containerd-namespace",
            "containerd-plugin-namespace",
            "cri-containerd",
            "data-root",
            "debug",
            "exec-root",
            "experimental",
            "features",
            "group",
            "hosts",
            "http-proxy",
            "https-proxy",
            "insecure-registries",
            "labels",
            "log-format",
            "log-level",
            "max-concurrent-downloads",
            "max-concurrent-uploads",
            "max-download-attempts",
            "metrics-addr",
            "network-control-plane-mtu",
            "no-proxy",
            "node-generic-resources",
            "oom-score-adjust",
            "pidfile",
            "proxies",
            "raw-logs",
            "registry-mirrors",
            "shutdown-timeout",
            "storage-driver",
            "swarm-default-advertise-addr",
            "swarm-raft-election-tick",
            "swarm-raft-heartbeat-tick",
            "tls",
            "tlscacert",
            "tlscert",
            "tlskey",
            "tlsverify",
        ],
        Effect::None,
        "they are of the engine itself. Proxies in a client's `~/.docker/config.json` reach what that client makes",
    ),
];

/// The table in Markdown, as the documentation has it.
pub fn table() -> String {
    let rows = SETTINGS.iter().map(|(names, effect, why)| {
        let names: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
        format!("| {} | {} | {why} |\n", names.join(", "), effect.as_str())
    });
    format!("| setting | effect | why |\n| --- | --- | --- |\n{}", rows.collect::<String>())
}

/// What of the engine's share of a container weakens it, as a reason to make none.
pub fn weakened_container(defaults: &EngineDefaults) -> Option<Blocked> {
    let found = defaults.ulimits.iter().find_map(|limit| Some((limit, weakening_limit(limit)?)));
    found.map(|(limit, why)| blocked("default-ulimits", &format!("gives each container the limit {limit}"), why))
}

/// What of the engine's share of a network weakens it, as a reason to make none.
pub fn weakened_network(defaults: &EngineDefaults) -> Option<Blocked> {
    let found =
        defaults.network_options.iter().find_map(|(name, value)| Some((name, value, weakening_option(name, value)?)));
    found.map(|(name, value, why)| {
        blocked("default-network-opts", &format!("gives each network the option {name}={value}"), why)
    })
}

/// What of the engine's share does not go with a declared container, so that the engine would not start it.
pub fn conflict(defaults: &EngineDefaults, declared: &Container) -> Option<Blocked> {
    let is_on = |value: &String| value == "true";
    let one_file = declared.log_options.get("max-file").is_some_and(|files| files == "1");
    (one_file && defaults.log_options.get("compress").is_some_and(is_on)).then(|| {
        blocked(
            "log-opts",
            "gives each container the option compress=true",
            "with which it starts no tenant whose policy keeps one log file",
        )
    })
}

/// The engine refuses even a container that asks for nothing.
pub fn makes_nothing(message: &str) -> Blocked {
    Blocked {
        code: Obstacle::EngineSetting,
        reason: format!("the engine refuses even a container of the image that asks for nothing: {message}"),
        help: "see what `docker create` of the image says; no commit changes that".to_owned(),
    }
}

/// A reason that names the setting: it is the engine's and no commit's.
fn blocked(setting: &str, does: &str, why: &str) -> Blocked {
    Blocked {
        code: Obstacle::EngineSetting,
        reason: format!("{setting} in the engine's daemon.json {does}, {why}"),
        help: "change it in daemon.json and restart the engine; what runs is left as it is".to_owned(),
    }
}

/// The engine runs containers without a profile of system calls.
pub(super) fn without_seccomp() -> Blocked {
    Blocked {
        code: Obstacle::SeccompUnsupported,
        reason: "the engine does not filter system calls (no default seccomp profile)".to_owned(),
        help: "take seccomp-profile: unconfined out of the engine's daemon.json, or enable seccomp in the kernel, and restart the engine; \
               what runs is left as it is"
            .to_owned(),
    }
}

/// The engine has a profile of system calls of its own, of which nobody knows what it lets through.
pub(super) fn with_own_seccomp(profile: &str) -> Blocked {
    let why = "and nobody can tell from outside what that lets through";
    Blocked {
        help: format!(
            "take it out and restart the engine, or write seccompProfile: {profile} in host.yaml; what runs is left as it is"
        ),
        ..blocked("seccomp-profile", &format!("has containers confined by {profile}"), why)
    }
}

/// The engine confines containers by SELinux, for which workspaces have no labels.
pub(super) fn with_selinux() -> Blocked {
    blocked(
        "selinux-enabled",
        "confines each container by a label",
        "and neither workspaces nor config files have one that a confined container may use",
    )
}

/// Why a limit isolates less than none of that name, if so.
fn weakening_limit(limit: &str) -> Option<&'static str> {
    /// How many signals may wait: their memory counts for no container on kernels before 5.15.
    const SIGNALS: u64 = 1 << 20;
    let (name, range) = limit.split_once('=')?;
    // -1 is no bound.
    let hard = range.split_once(':').and_then(|(_, hard)| hard.parse().ok()).unwrap_or(u64::MAX);
    match name {
        // Bounded by the limits of memory, processes and disk that each tenant has, or of no use without others.
        "as" | "cpu" | "data" | "fsize" | "locks" | "memlock" | "msgqueue" | "nproc" | "rss" | "rttime" | "stack" => {
            None
        }
        "sigpending" => (hard > SIGNALS).then_some("which takes memory of the host that counts for nobody"),
        "rtprio" => (hard > 0).then_some("which lets a tenant run before everything else on the host"),
        "nice" => (hard > 20).then_some("which lets a tenant go before others"),
        _ => Some("of which nobody knows whether it isolates less"),
    }
}

/// Why an option isolates less than none of that name, or keeps a tenant from working, if so.
pub(super) fn weakening_option(name: &str, value: &str) -> Option<&'static str> {
    let is_off = value == "false";
    match name {
        "com.docker.network.driver.mtu"
        | "com.docker.network.container_iface_prefix"
        | "com.docker.network.bridge.enable_ip_masquerade"
        | "com.docker.network.bridge.host_binding_ipv4"
        | "com.docker.network.bridge.host_binding_ipv6" => None,
        "com.docker.network.bridge.enable_icc" => is_off.then_some("which cuts a tenant off from the gateway"),
        "com.docker.network.enable_ipv6" => (!is_off).then_some("and tenants have no IPv6"),
        _ => Some("of which nobody knows whether it isolates less"),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn limits_that_a_tenants_own_limits_bound_are_allowed() {
        for (limit, weakens) in [
            ("nproc=4096:4096", false),
            ("nproc=-1:-1", false),
            ("memlock=-1:-1", false),
            ("stack=8388608:-1", false),
            ("rtprio=0:0", false),
            ("rtprio=0:1", true),
            ("rtprio=-1:-1", true),
            ("nice=20:20", false),
            ("nice=0:40", true),
            ("sigpending=4096:4096", false),
            ("sigpending=-1:-1", true),
            ("uclamp=1:1", true),
        ] {
            let defaults = EngineDefaults { ulimits: vec![limit.to_owned()], ..EngineDefaults::default() };
            let blocked = weakened_container(&defaults);
            assert_eq!(blocked.is_some(), weakens, "{limit}");
            let named = |blocked: &Blocked| blocked.reason.contains(limit) && blocked.reason.contains("daemon.json");
            assert!(blocked.is_none_or(|blocked| named(&blocked)), "{limit}");
        }
    }

    #[test]
    fn compressed_logs_need_a_second_file() {
        let pairs = |name: &str, value: &str| [(name.to_owned(), value.to_owned())].into_iter().collect();
        for (compress, files, refused) in [("true", "1", true), ("true", "2", false), ("false", "1", false)] {
            let defaults = EngineDefaults { log_options: pairs("compress", compress), ..EngineDefaults::default() };
            let declared = Container { log_options: pairs("max-file", files), ..Container::default() };
            assert_eq!(conflict(&defaults, &declared).is_some(), refused, "{compress} {files}");
        }
    }

    #[test]
    fn options_of_a_network_that_open_it_or_are_not_known_are_refused() {
        for (name, value, weakens) in [
            ("com.docker.network.driver.mtu", "1400", false),
            ("com.docker.network.bridge.enable_icc", "true", false),
            ("com.docker.network.bridge.enable_icc", "false", true),
            ("com.docker.network.enable_ipv6", "true", true),
            ("com.docker.network.bridge.gateway_mode_ipv4", "routed", true),
            ("com.docker.network.bridge.trusted_host_interfaces", "eth0", true),
        ] {
            let network_options = [(name.to_owned(), value.to_owned())].into_iter().collect();
            let defaults = EngineDefaults { network_options, ..EngineDefaults::default() };
            assert_eq!(weakened_network(&defaults).is_some(), weakens, "{name}");
        }
    }

    #[test]
    fn each_setting_stands_in_one_row_and_the_documentation_has_the_table() {
        let all: Vec<&str> = SETTINGS.iter().flat_map(|(names, ..)| *names).copied().collect();
        let different: BTreeSet<&str> = all.iter().copied().collect();
        assert_eq!(all.len(), different.len());
        let docs = include_str!("../../../docs/operations.md");
        assert!(docs.contains(&table()), "docs/operations.md has not this table:\n{}", table());
    }
}
