//! What keeps a tenant from being made as declared, and what to do about it.

use ipnet::Ipv4Net;

use super::Found;
use crate::model::{Host, Observed, Tenant, observed::ImageFacts, plan::Blocked};

/// The first thing that keeps a tenant from being made as declared, apart from its image.
pub(super) fn obstacle(
    tenant: &Tenant,
    host: &Host,
    observed: &Observed,
    found: &Found<'_>,
    subnet: Option<Ipv4Net>,
) -> Option<Blocked> {
    let name = tenant.name.object_name();
    let blocked = |code, reason: String, help: String| Some(Blocked { code, reason, help });
    if let Some((kind, id)) = found.squatter {
        let short = id.get(..12).unwrap_or(id);
        return blocked(
            "name-taken",
            format!("the {kind} {name} ({short}) exists and does not carry this tenant's label"),
            match kind {
                "container" => {
                    format!("if it is not needed, remove it; otherwise rename it: docker rename {short} other-name")
                }
                _ => format!("remove it if it is not needed: docker network rm {short}"),
            },
        );
    }
    let Some(runtime) = host.runtimes.get(&tenant.class) else {
        return blocked(
            "runtime-not-offered",
            format!("this host offers no runtime of the class {}", tenant.class),
            format!(
                "map it in host.yaml under runtimes, or place the tenant elsewhere; no weaker class is used instead of {}",
                tenant.class
            ),
        );
    };
    if !observed.engine.runtimes.contains(runtime) {
        let known: Vec<&str> = observed.engine.runtimes.iter().map(String::as_str).collect();
        return blocked(
            "runtime-not-registered",
            format!(
                "the engine has not registered the runtime {runtime}, which host.yaml names for the class {}",
                tenant.class
            ),
            format!(
                "register it in the engine's daemon.json (it has: {}); no weaker runtime is used instead",
                known.join(", ")
            ),
        );
    }
    if !observed.engine.missing_limits.is_empty() {
        let missing: Vec<&str> = observed.engine.missing_limits.iter().map(AsRef::as_ref).collect();
        return blocked(
            "limit-unsupported",
            format!("the engine cannot enforce a limit on {}", missing.join(", ")),
            "enable the kernel's control groups for it and restart the engine".to_owned(),
        );
    }
    if !observed.engine.seccomp {
        return blocked(
            "seccomp-unsupported",
            "the engine does not filter system calls (no default seccomp profile)".to_owned(),
            "enable seccomp in the kernel and the engine's default profile".to_owned(),
        );
    }
    if let Some((what, ceiling)) = above_ceiling(tenant, host) {
        return blocked(
            "above-ceiling",
            format!("{what} is above this host's ceiling of {ceiling}"),
            "ask for less in the tenant's file, or raise ceilings in host.yaml".to_owned(),
        );
    }
    if let Some(name) = &tenant.source {
        // In the same words, whether it is not offered or not there: what a host has is nobody's business.
        let is_there = host.sources.contains_key(name) && observed.workspaces.sources.contains(name);
        if !is_there {
            return blocked(
                "source-not-offered",
                format!("this host offers no shared folder {name}"),
                "name a folder that is there in host.yaml under sources".to_owned(),
            );
        }
    }
    if subnet.is_none() {
        return blocked(
            "pool-exhausted",
            format!("no free subnet of /{} is left in {}", host.prefix, host.pool),
            "widen network.pool in host.yaml, or lengthen network.prefix".to_owned(),
        );
    }
    None
}

/// The first limit that exceeds what the host allows, with that ceiling.
fn above_ceiling(tenant: &Tenant, host: &Host) -> Option<(String, String)> {
    let (limits, most) = (&tenant.limits, &host.ceilings);
    fn above<T: Ord + std::fmt::Display>(name: &str, asked: T, most: Option<T>) -> Option<(String, String)> {
        most.filter(|most| asked > *most).map(|most| (format!("{name} {asked}"), most.to_string()))
    }
    above("cpus", limits.cpus, most.cpus)
        .or_else(|| above("memory", limits.memory, most.memory))
        .or_else(|| above("pids", limits.pids, most.pids))
        .or_else(|| above("disk", limits.disk, most.disk))
}

pub(super) fn unobserved(object: &str, reason: &str) -> Blocked {
    Blocked {
        code: "unobserved",
        reason: format!("{object} could not be observed: {reason}"),
        help: "nothing of this tenant is changed until it can be; look at the engine's log".to_owned(),
    }
}

pub(super) fn image_missing(tenant: &Tenant) -> Blocked {
    Blocked {
        code: "image-missing",
        reason: format!("the engine does not have the image {}", tenant.image),
        help: "load or pull it on the host".to_owned(),
    }
}

pub(super) fn image_unknown(tenant: &Tenant, reason: &str) -> Blocked {
    Blocked {
        code: "unobserved",
        reason: format!("the image {} could not be observed: {reason}", tenant.image),
        help: "look at the engine's log".to_owned(),
    }
}

/// An image's volumes would be writable folders on the host's disk that no limit bounds.
pub(super) fn image_volumes(tenant: &Tenant, facts: &ImageFacts) -> Option<Blocked> {
    (!facts.volumes.is_empty()).then(|| Blocked {
        code: "image-volumes",
        reason: format!(
            "the image {} declares volumes ({}), which would be writable without a limit",
            tenant.image,
            facts.volumes.join(", ")
        ),
        help: "build it without VOLUME; what must last belongs in /workspace".to_owned(),
    })
}
