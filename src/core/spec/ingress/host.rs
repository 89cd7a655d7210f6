//! The host's settings of ingress.

use std::path::{Path, PathBuf};

use super::files::{IngressFile, IngressLimitsFile, TlsFile};
use crate::{
    model::{
        Finding, Host,
        host::{Ingress, IngressLimits, Tls},
    },
    spec::{decode::Located, fleet::value, values::AbsolutePath},
};

/// The most addresses that ingress listens on.
const MAX_LISTEN: usize = 8;

/// The settings that a file names, with defaults for all others; `None` where what it must name is wrong.
pub(in crate::spec) fn settings(file: &IngressFile) -> Option<Ingress> {
    let listen = file.listen.get()?.iter().filter_map(|address| address.get().map(|address| address.0)).collect();
    let mut ingress = Ingress::new(listen, file.domain.get()?.clone());
    if let Some(access) = value(file.access.as_ref()) {
        ingress.access = *access;
    }
    ingress.tls = value(file.tls.as_ref()).and_then(tls);
    ingress.tls_terminated = value(file.tls_terminated.as_ref()).copied().unwrap_or_default();
    let origins = value(file.origins.as_ref()).into_iter().flatten().filter_map(Located::get).cloned();
    ingress.origins = origins.collect();
    if let Some(user) = value(file.user.as_ref()) {
        ingress.user.clone_from(&user.0);
    }
    if let Some(state) = value(file.state.as_ref()) {
        ingress.state = PathBuf::from(&state.0);
    }
    if let Some(socket) = value(file.socket.as_ref()) {
        ingress.socket = PathBuf::from(&socket.0);
    }
    if let Some(time) = value(file.wake_timeout.as_ref()) {
        ingress.wake_timeout = time.0;
    }
    if let Some(limits) = value(file.limits.as_ref()) {
        ingress.limits = self::limits(limits, ingress.limits);
    }
    Some(ingress)
}

fn tls(file: &TlsFile) -> Option<Tls> {
    let path = |field: &Located<AbsolutePath>| field.get().map(|path| PathBuf::from(&path.0));
    Some(Tls { certificate: path(&file.certificate)?, key: path(&file.key)? })
}

fn limits(file: &IngressLimitsFile, default: IngressLimits) -> IngressLimits {
    IngressLimits {
        connections: value(file.connections.as_ref()).map_or(default.connections, |number| number.0),
        requests_per_tenant: value(file.requests_per_tenant.as_ref())
            .map_or(default.requests_per_tenant, |number| number.0),
        held_per_tenant: value(file.held_per_tenant.as_ref()).map_or(default.held_per_tenant, |number| number.0),
        held: value(file.held.as_ref()).map_or(default.held, |number| number.0),
        public_wakes: value(file.public_wakes_per_minute.as_ref()).map_or(default.public_wakes, |number| number.0),
        head: value(file.max_header_size.as_ref()).map_or(default.head, |size| size.0),
        hello: value(file.handshake_timeout.as_ref()).map_or(default.hello, |time| time.0),
        idle: value(file.idle_timeout.as_ref()).map_or(default.idle, |time| time.0),
        stall: value(file.stall_timeout.as_ref()).map_or(default.stall, |time| time.0),
    }
}

/// Reports what no single value shows: addresses that cannot be listened on, and what would give ingress the powers of
/// another process.
pub(in crate::spec) fn check(file: &str, field: &Located<IngressFile>, host: &Host, findings: &mut Vec<Finding>) {
    let (Some(content), Some(ingress)) = (field.get(), &host.ingress) else { return };
    check_listen(file, content, host, findings);
    // Where a value is a default, the mapping itself is what clashes.
    let mut report = |span, code, message: &str, help: &str| {
        findings.push(Finding::error(file, span, code, message, Some(help)));
    };
    if let Some(field) = content.tls_terminated.as_ref().filter(|_| ingress.tls_terminated && ingress.tls.is_some()) {
        let message = "ingress terminates TLS itself, by `tls`";
        report(field.span, "unused-key", message, "remove one of the two");
    }
    if ingress.user == host.egress.user {
        let message = format!("{} is the gateway's user, which may read the secrets of tenants", ingress.user);
        let span = content.user.as_ref().map_or(field.span, |user| user.span);
        report(span, "shared-user", &message, "give ingress a user of its own, such as tenantd-ingress");
    }
    let folder = ingress.socket.parent();
    if folder == host.socket.parent() || folder == Some(Path::new("/")) {
        let message = "ingress sees all of the folder that its socket is in, and this one is not its own";
        let span = content.socket.as_ref().map_or(field.span, |socket| socket.span);
        report(span, "bad-path", message, "give it one of its own, such as /run/tenantd/ingress/daemon.sock");
    }
    let overlaps = |other: &Path| ingress.state.starts_with(other) || other.starts_with(&ingress.state);
    let others = [("the data root", &host.data_root), ("the gateway's own folder", &host.egress.state)];
    for (what, _) in others.into_iter().filter(|(_, other)| overlaps(other)) {
        let message = format!("ingress may write all of it, and it is {what}, lies in it or holds it");
        let span = content.state.as_ref().map_or(field.span, |state| state.span);
        report(span, "bad-path", &message, "give ingress a folder of its own, such as /var/lib/tenantd-ingress");
    }
}

fn check_listen(file: &str, content: &IngressFile, host: &Host, findings: &mut Vec<Finding>) {
    let listen = content.listen.get().map_or(&[][..], Vec::as_slice);
    if content.listen.get().is_some_and(Vec::is_empty) {
        let help = "list one, such as 127.0.0.1:8080, or remove `ingress`";
        findings.push(content.listen.error(file, "empty-list", "it would listen nowhere", Some(help)));
    }
    if listen.len() > MAX_LISTEN {
        let message = format!("there are {} addresses", listen.len());
        let help = format!("keep them to {MAX_LISTEN}; [::]:PORT and 0.0.0.0:PORT are all of the host's");
        findings.push(content.listen.error(file, "out-of-range", &message, Some(&help)));
    }
    let mut known = host.listen.iter().map(|listen| listen.address).collect::<Vec<_>>();
    for entry in listen {
        let Some(address) = entry.get().map(|address| address.0) else { continue };
        if known.contains(&address) {
            let message = format!("{address} is listened on already");
            findings.push(entry.error(file, "duplicate-address", &message, Some("choose another address or port")));
        }
        known.push(address);
    }
}
