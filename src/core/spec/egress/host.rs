//! The host's settings of egress.

use std::path::PathBuf;

use super::files::{EgressFile, EgressLimitsFile, SecretFile};
use crate::{
    model::{
        Finding,
        host::{Egress, EgressLimits, Secret, SecretGrant, SecretPlace},
    },
    spec::{decode::Located, fleet::value},
};

/// The settings that a file names, with defaults for all others.
pub(in crate::spec) fn settings(file: &EgressFile) -> Egress {
    let default = Egress::default();
    let path =
        |field: Option<&Located<crate::spec::values::AbsolutePath>>| value(field).map(|path| PathBuf::from(&path.0));
    Egress {
        resolvers: list(file.resolvers.as_ref(), |resolver| resolver.0),
        proxy_port: value(file.proxy_port.as_ref())
            .and_then(|port| u16::try_from(port.0).ok())
            .unwrap_or(default.proxy_port),
        permit: list(file.permitted_ranges.as_ref(), |range| range.0),
        policies: path(file.policies.as_ref()).unwrap_or(default.policies),
        state: path(file.state.as_ref()).unwrap_or(default.state),
        user: value(file.user.as_ref()).map_or(default.user, |user| user.0.clone()),
        namespace: value(file.namespace.as_ref()).map_or(default.namespace, |name| name.0.clone()),
        authorities: path(file.ca_bundle.as_ref()),
        encrypted_hello: list(file.encrypted_client_hello.as_ref(), Clone::clone).into_iter().collect(),
        secrets: file
            .secrets
            .iter()
            .filter_map(|(name, secret)| Some((name.get()?.clone(), grant(secret.get()?)?)))
            .collect(),
        identity: value(file.identity.as_ref()).map(|place| place.0.clone()),
        limits: value(file.limits.as_ref()).map_or(default.limits, |limits| self::limits(limits, default.limits)),
    }
}

fn list<T, U>(field: Option<&Located<Vec<Located<T>>>>, take: impl Fn(&T) -> U) -> Vec<U> {
    value(field).into_iter().flatten().filter_map(|entry| entry.get().map(&take)).collect()
}

fn grant(file: &SecretFile) -> Option<SecretGrant> {
    let file_place = value(file.file.as_ref()).map(|path| SecretPlace::Host(Secret::File(PathBuf::from(&path.0))));
    let credential = value(file.credential.as_ref()).map(|name| SecretPlace::Host(Secret::Credential(name.0.clone())));
    let sealed = is_sealed(file).then_some(SecretPlace::Sealed);
    Some(SecretGrant {
        place: file_place.or(credential).or(sealed)?,
        tenants: list(Some(&file.tenants), Clone::clone).into_iter().collect(),
        upstreams: list(Some(&file.upstreams), |host| host.0.clone()).into_iter().collect(),
    })
}

fn is_sealed(file: &SecretFile) -> bool {
    value(file.sealed.as_ref()) == Some(&true)
}

fn limits(file: &EgressLimitsFile, default: EgressLimits) -> EgressLimits {
    EgressLimits {
        connections: value(file.connections.as_ref()).map_or(default.connections, |number| number.0),
        bandwidth: value(file.bandwidth.as_ref()).map(|size| size.0).or(default.bandwidth),
        lookups: value(file.lookups_per_second.as_ref()).map_or(default.lookups, |number| number.0),
        head: value(file.max_header_size.as_ref()).map_or(default.head, |size| size.0),
        body: value(file.max_body_size.as_ref()).map_or(default.body, |size| size.0),
        handshake_timeout: value(file.handshake_timeout.as_ref()).map_or(default.handshake_timeout, |time| time.0),
        idle: value(file.idle_timeout.as_ref()).map_or(default.idle, |time| time.0),
        stall: value(file.stall_timeout.as_ref()).map_or(default.stall, |time| time.0),
    }
}

/// Reports what no single value shows: permits that would open tenants to one another, and secrets
/// that lie nowhere or everywhere, or serve nobody.
pub(in crate::spec) fn check(file: &str, egress: &EgressFile, pool: ipnet::Ipv4Net, findings: &mut Vec<Finding>) {
    for entry in value(egress.permitted_ranges.as_ref()).into_iter().flatten() {
        let Some(range) = entry.get().map(|range| range.0) else { continue };
        if range.contains(&pool) || pool.contains(&range) {
            let message = format!("{range} holds addresses of tenant networks, which are cut from {pool}");
            let help = "permit a range beside network.pool; no tenant reaches another";
            findings.push(entry.error(file, "permit-overlaps", &message, Some(help)));
        }
    }
    if value(egress.resolvers.as_ref()).is_some_and(Vec::is_empty)
        && let Some(resolvers) = &egress.resolvers
    {
        let help = "list one, or remove `resolvers` for those of /etc/resolv.conf";
        findings.push(resolvers.error(file, "empty-list", "nobody would be asked for names", Some(help)));
    }
    for (name, secret) in &egress.secrets {
        if let (Some(name), Some(content)) = (name.get(), secret.get()) {
            check_secret(file, name.as_str(), secret, content, egress, findings);
        }
    }
}

fn check_secret(
    file: &str,
    name: &str,
    entry: &Located<SecretFile>,
    secret: &SecretFile,
    egress: &EgressFile,
    findings: &mut Vec<Finding>,
) {
    let places = [secret.file.is_some(), secret.credential.is_some(), is_sealed(secret)];
    let count = places.into_iter().filter(|is_named| *is_named).count();
    if count != 1 {
        let message = match count {
            0 => format!("the secret {name} lies nowhere"),
            _ => format!("the secret {name} lies in one place, and {count} are named"),
        };
        findings.push(entry.error(
            file,
            "secret-place",
            &message,
            Some("write one of file: PATH, credential: NAME and sealed: true"),
        ));
    }
    if let (Some(sealed), None) = (secret.sealed.as_ref().filter(|_| is_sealed(secret)), &egress.identity) {
        let help = "add egress.identity: {file: PATH}, the private key that it is encrypted to";
        findings.push(sealed.error(file, "no-identity", "nothing here can decrypt a sealed secret", Some(help)));
    }
    let tenants = secret.tenants.get().is_some_and(Vec::is_empty).then_some(&secret.tenants.span);
    let upstreams = secret.upstreams.get().is_some_and(Vec::is_empty).then_some(&secret.upstreams.span);
    for span in tenants.into_iter().chain(upstreams) {
        let message = format!("the secret {name} could serve nobody");
        findings.push(Finding::error(file, *span, "empty-list", &message, Some("list one, or remove the secret")));
    }
}
