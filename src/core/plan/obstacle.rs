//! What keeps a tenant from being made as declared, and what to do about it.

use std::path::Path;

use ipnet::Ipv4Net;

use super::{daemon_settings, found::Found};
use crate::model::{
    Container, Host, Observed, Obstacle, RuntimeClass, Tenant,
    container::SHARED,
    observed::{EngineFacts, ImageFacts, UserNamespace},
    plan::Blocked,
    shown::short_id,
};

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
    if let Some((kind, id)) = found.name_conflict {
        let short = short_id(id);
        return blocked(
            Obstacle::NameTaken,
            match found.lookalikes.iter().any(|lookalike| lookalike.id == id) {
                true => {
                    format!("the {kind} {name} ({short}) exists, and has this tenant's labels from its image alone")
                }
                false => format!("the {kind} {name} ({short}) exists and does not carry this tenant's label"),
            },
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
            Obstacle::RuntimeNotOffered,
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
            Obstacle::RuntimeNotRegistered,
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
    if let Some(reason) = observed.engine.failing_runtimes.get(runtime) {
        return blocked(
            Obstacle::RuntimeFails,
            format!("the runtime {runtime} cannot start anything on this engine: {reason}"),
            format!(
                "put {runtime} or the engine right (docker run --runtime {runtime} shows the same), which is found by itself; \
                 no weaker runtime is used instead"
            ),
        );
    }
    if !observed.engine.missing_limits.is_empty() {
        let missing: Vec<&str> = observed.engine.missing_limits.iter().map(AsRef::as_ref).collect();
        return blocked(
            Obstacle::LimitUnsupported,
            format!("the engine cannot enforce a limit on {}", missing.join(", ")),
            "enable the kernel's control groups for it and restart the engine".to_owned(),
        );
    }
    if let Some(setting) = engine_setting(tenant, host, &observed.engine, found) {
        return Some(setting);
    }
    if let Some((what, ceiling)) = above_ceiling(tenant, host) {
        return blocked(
            Obstacle::AboveCeiling,
            format!("{what} is above this host's ceiling of {ceiling}"),
            "ask for less in the tenant's file, or raise ceilings in host.yaml".to_owned(),
        );
    }
    if let Some(ingress) = &host.ingress
        && tenant.access > ingress.access
        && !tenant.expose.is_empty()
    {
        return blocked(
            Obstacle::AccessNotAllowed,
            format!(
                "the access to its ports is {}, and host.yaml says ingress.access: {}",
                tenant.access, ingress.access
            ),
            format!("write access: {} in the tenant's file, or allow more in host.yaml", ingress.access),
        );
    }
    if let Some(name) = &tenant.source {
        // In the same words, whether it is not offered or not there: what a host has is nobody's business.
        let is_there = host.sources.contains_key(name) && observed.workspaces.sources.contains(name);
        if !is_there {
            return blocked(
                Obstacle::SourceNotOffered,
                format!("this host offers no shared folder {name}"),
                "name a folder that is there in host.yaml under sources".to_owned(),
            );
        }
    }
    if subnet.is_none() {
        return blocked(
            Obstacle::PoolExhausted,
            format!("no free subnet of /{} is left in {}", host.prefix, host.pool),
            "widen network.pool in host.yaml, or lengthen network.prefix".to_owned(),
        );
    }
    None
}

/// The first setting of the engine's own configuration that weakens a tenant or keeps it from working.
fn engine_setting(tenant: &Tenant, host: &Host, engine: &EngineFacts, found: &Found<'_>) -> Option<Blocked> {
    if !engine.seccomp {
        return Some(daemon_settings::without_seccomp());
    }
    if let Some(profile) = &engine.seccomp_profile
        && host.seccomp_profile.as_ref().is_none_or(|accepted| accepted != Path::new(profile))
    {
        return Some(daemon_settings::with_own_seccomp(profile));
    }
    if engine.selinux {
        return Some(daemon_settings::with_selinux());
    }
    if let Some(users) = remapped_users(engine.userns, tenant.class) {
        return Some(users);
    }
    // A network that is there keeps what it was made with.
    let network = || found.networks.is_empty().then(|| daemon_settings::weakened_network(&engine.defaults)).flatten();
    daemon_settings::weakened_container(&engine.defaults).or_else(network)
}

/// Why a tenant cannot run with other users of the host than its own, if so. gVisor's sandbox ends at its start with them, and
/// guests of Kata pass them over.
fn remapped_users(userns: UserNamespace, class: RuntimeClass) -> Option<Blocked> {
    match (userns, class) {
        (UserNamespace::Host, _) | (UserNamespace::Remapped(_), RuntimeClass::Container) => None,
        (UserNamespace::Remapped(_), RuntimeClass::Gvisor | RuntimeClass::Microvm) => Some(Blocked {
            code: Obstacle::RuntimeNotRemapped,
            reason: format!(
                "userns-remap in the engine's daemon.json gives containers other users, with which no runtime of the class {class} works"
            ),
            help: "take userns-remap out of daemon.json, or place the tenant on another host; no weaker class is used instead".to_owned(),
        }),
        (UserNamespace::Unknown, _) => Some(Blocked {
            code: Obstacle::EngineSetting,
            reason: "the engine gives containers other users of the host and does not say which, so nobody knows who must own a \
                     workspace"
                .to_owned(),
            help: "let userns-remap in daemon.json name a user that the engine finds, and run the engine as root".to_owned(),
        }),
    }
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

/// The first folder of the host that the engine would refuse to bind.
///
/// It refuses what is private and lies within the folder of its own data, or has that folder within. It compares the texts
/// of both paths for that, and so takes `/srv/dataroot` for a part of `/srv/data`.
pub(super) fn mount_refused(container: &Container, engine_root: &str) -> Option<Blocked> {
    let is_refused = |source: &str| source.starts_with(engine_root) || engine_root.starts_with(source);
    let mount = container.mounts.iter().find(|mount| !engine_root.is_empty() && is_refused(&mount.source))?;
    let setting = if mount.target == SHARED { "another folder under sources" } else { "another dataRoot" };
    Some(Blocked {
        code: Obstacle::MountRefused,
        reason: format!(
            "the engine binds no folder whose path begins as that of its own data does, {engine_root}, and {} would be bound as {}",
            mount.source, mount.target
        ),
        help: format!(
            "name {setting} in host.yaml, whose path begins with other letters, or another data-root in the engine's daemon.json"
        ),
    })
}

pub(super) fn unobserved(object: &str, reason: &str) -> Blocked {
    Blocked {
        code: Obstacle::Unobserved,
        reason: format!("{object} could not be observed: {reason}"),
        help: "nothing of this tenant is changed until it can be; read the engine's log".to_owned(),
    }
}

pub(super) fn image_missing(tenant: &Tenant) -> Blocked {
    Blocked {
        code: Obstacle::ImageMissing,
        reason: format!("the engine does not have the image {}", tenant.image),
        help: "load or pull it on the host".to_owned(),
    }
}

pub(super) fn image_unknown(tenant: &Tenant, reason: &str) -> Blocked {
    Blocked {
        code: Obstacle::Unobserved,
        reason: format!("the image {} could not be observed: {reason}", tenant.image),
        help: "read the engine's log".to_owned(),
    }
}

/// An image's volumes would be writable folders on the host's disk that no limit bounds.
pub(super) fn image_volumes(tenant: &Tenant, facts: &ImageFacts) -> Option<Blocked> {
    (!facts.volumes.is_empty()).then(|| Blocked {
        code: Obstacle::ImageVolumes,
        reason: format!(
            "the image {} declares volumes ({}), which would be writable without a limit",
            tenant.image,
            facts.volumes.join(", ")
        ),
        help: "build it without VOLUME; what must last belongs in /workspace".to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Mount;

    #[test]
    fn a_path_that_shares_its_first_letters_with_the_engines_is_refused() {
        for (root, source, target, expected) in [
            ("/srv/data", "/srv/dataroot/mounts/ant/files", "/workspace", Some("another dataRoot")),
            ("/srv/data", "/srv/dataroot/files/ant", "/config", Some("another dataRoot")),
            ("/srv/data", "/srv/data/tenantd/mounts/ant/files", "/workspace", Some("another dataRoot")),
            ("/srv/data", "/srv/data-shared", SHARED, Some("another folder under sources")),
            ("/srv/data", "/srv", SHARED, Some("another folder under sources")),
            ("/srv/data", "/srv/da", SHARED, Some("another folder under sources")),
            // The engine compares with what is bound, and that lies below the data root.
            ("/srv/dataroot", "/srv/data/mounts/ant/files", "/workspace", None),
            ("/var/lib/docker", "/var/lib/tenantd/mounts/ant/files", "/workspace", None),
            ("", "/srv/data", SHARED, None),
        ] {
            let mount = Mount {
                target: target.to_owned(),
                kind: "bind".to_owned(),
                source: source.to_owned(),
                writable: false,
                propagation: "rprivate".to_owned(),
            };
            let container = Container { mounts: vec![mount], ..Container::default() };
            let blocked = mount_refused(&container, root);
            assert_eq!(blocked.is_some(), expected.is_some(), "{root} and {source}");
            if let (Some(blocked), Some(expected)) = (blocked, expected) {
                assert!(blocked.help.contains(expected) && blocked.reason.contains(source), "{blocked:?}");
            }
        }
    }
}
