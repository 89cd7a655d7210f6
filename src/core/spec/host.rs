//! `host.yaml`: the host's own settings.

use std::path::PathBuf;

use super::{
    decode::{Located, decode},
    egress,
    files::{ApprovalsFile, HostFile, ListenFile, NeededFile, NotifyFile, SourceFile, VerifyFile},
    fleet::{drift, removals, value},
    ingress,
    url::Transport,
    values::EngineUrl,
};
use crate::model::{
    Finding, Host, Invalid, RuntimeClass, Severity, SignerKey,
    host::{
        Approvals, Ceilings, Listen, NeedsApproval, Notify, NotifyEvent, Signer, SnapshotSettings, Source, Verify,
        VerifyMode,
    },
    policy::Loosening,
};

/// Reads the host's settings. `file` is the name that findings carry.
///
/// # Errors
/// Everything that is wrong with the file: no setting of a wrong file is used.
pub fn host(file: &str, bytes: &[u8]) -> Result<Host, Vec<Finding>> {
    let (content, mut findings) = decode::<HostFile>(file, bytes);
    let host = content.map(|content| {
        let host = settings(&content);
        if host.prefix <= host.pool.prefix_len()
            && let Some(network) = &content.network
        {
            findings.push(network.error(
                file,
                "bad-pool",
                &format!("no network of /{} fits into {}", host.prefix, host.pool),
                Some("lengthen prefix, or widen pool"),
            ));
        }
        if let Some(source) = value(content.source.as_ref()) {
            check_source(file, source, &mut findings);
        }
        if let Some(egress) = value(content.egress.as_ref()) {
            egress::check(file, egress, host.pool, &mut findings);
        }
        if let Some(ingress) = &content.ingress {
            ingress::check(file, ingress, &host, &mut findings);
        }
        for (_, path) in &content.sources {
            let Some(folder) = path.get().map(|path| std::path::Path::new(&path.0)) else { continue };
            if folder.starts_with(&host.data_root) || host.data_root.starts_with(folder) {
                let message = "it holds the data root, or lies in it: tenants would read each other's files";
                findings.push(path.error(file, "bad-path", message, Some("offer a folder elsewhere")));
            }
        }
        if let Some(approvals) = value(content.approvals.as_ref()) {
            check_approvals(file, approvals, &host, &mut findings);
        }
        if let Some(verify) = &content.verify {
            check_verify(file, verify, &mut findings);
        }
        if let Some(events) = value(content.notify.as_ref()).and_then(|notify| notify.events.as_ref())
            && events.get().is_some_and(Vec::is_empty)
        {
            let help = "list what is reported, or remove `notify`";
            findings.push(events.error(file, "empty-list", "nothing would ever be reported", Some(help)));
        }
        host
    });
    match host {
        Some(host) if !findings.iter().any(|finding| finding.severity == Severity::Error) => Ok(host),
        _ => Err(findings),
    }
}

/// The path of an engine's socket out of its URL.
///
/// # Errors
/// The URL is not `unix://` and an absolute path.
pub fn socket(url: &str) -> Result<PathBuf, Invalid> {
    url.parse::<EngineUrl>().map(|url| path(&url))
}

fn path(url: &EngineUrl) -> PathBuf {
    PathBuf::from(url.0.trim_start_matches("unix://"))
}

fn settings(file: &HostFile) -> Host {
    let mut host = Host::default();
    if let Some(url) = value(file.engine.as_ref()) {
        host.engine = path(url);
    }
    if let Some(root) = value(file.data_root.as_ref()) {
        host.data_root = PathBuf::from(&root.0);
    }
    if let Some(network) = value(file.network.as_ref()) {
        if let Some(pool) = value(network.pool.as_ref()) {
            host.pool = pool.0;
        }
        if let Some(prefix) = value(network.prefix.as_ref()) {
            host.prefix = u8::try_from(prefix.0).unwrap_or(host.prefix);
        }
    }
    if let Some(runtimes) = value(file.runtimes.as_ref()) {
        let classes = [
            (RuntimeClass::Container, &runtimes.container),
            (RuntimeClass::Gvisor, &runtimes.gvisor),
            (RuntimeClass::Microvm, &runtimes.microvm),
        ];
        host.runtimes =
            classes.into_iter().filter_map(|(class, name)| Some((class, value(name.as_ref())?.0.clone()))).collect();
    }
    host.seccomp_profile = value(file.seccomp_profile.as_ref()).map(|path| PathBuf::from(&path.0));
    if let Some(deadlines) = value(file.deadlines.as_ref()) {
        set(&mut host.deadlines.call, deadlines.call.as_ref());
        set(&mut host.deadlines.start, deadlines.start.as_ref());
        set(&mut host.deadlines.stop, deadlines.stop.as_ref());
        set(&mut host.deadlines.min_running, deadlines.min_running.as_ref());
    }
    if let Some(limits) = value(file.ceilings.as_ref()) {
        host.ceilings = Ceilings {
            cpus: value(limits.cpus.as_ref()).copied(),
            memory: value(limits.memory.as_ref()).copied(),
            pids: value(limits.pids.as_ref()).copied(),
            disk: value(limits.disk.as_ref()).copied(),
        };
    }
    if let Some(parallelism) = value(file.parallelism.as_ref()) {
        host.parallelism = usize::try_from(parallelism.0).unwrap_or(host.parallelism);
    }
    host.source = value(file.source.as_ref()).and_then(source);
    host.verify = value(file.verify.as_ref()).map(verify).unwrap_or_default();
    if let Some(socket) = value(file.socket.as_ref()) {
        host.socket = PathBuf::from(&socket.0);
    }
    host.socket_group = value(file.socket_group.as_ref()).map(|group| group.0.clone());
    host.listen = value(file.listen.as_ref()).and_then(listen);
    host.notify = value(file.notify.as_ref()).and_then(notify);
    if let Some(journal) = value(file.journal.as_ref()) {
        host.journal.file_size = value(journal.file_size.as_ref()).map_or(host.journal.file_size, |size| size.0);
        host.journal.files = value(journal.files.as_ref()).map_or(host.journal.files, |files| files.0);
    }
    host.egress = value(file.egress.as_ref()).map(egress::settings).unwrap_or_default();
    host.ingress = value(file.ingress.as_ref()).and_then(ingress::settings);
    host.power.memory = value(file.power.as_ref()).and_then(|power| value(power.memory.as_ref())).copied();
    if let Some(workspaces) = value(file.workspaces.as_ref()) {
        set(&mut host.workspaces.backend, workspaces.backend.as_ref());
        set(&mut host.workspaces.unenforced, workspaces.unenforced.as_ref());
        if let Some(factor) = value(workspaces.overcommit.as_ref()) {
            host.workspaces.overcommit = factor.0;
        }
    }
    let sources = file.sources.iter().filter_map(|(name, path)| Some((name.get()?, path.get()?)));
    host.sources = sources.map(|(name, path)| (name.0.clone(), PathBuf::from(&path.0))).collect();
    if let Some(snapshot) = value(file.snapshot.as_ref()) {
        host.snapshot = SnapshotSettings {
            every: value(snapshot.every.as_ref()).map(|period| period.0),
            file: value(snapshot.file.as_ref()).map(|path| PathBuf::from(&path.0)),
            key: value(snapshot.key.as_ref()).map(|place| place.0.clone()),
        };
    }
    host.approvals = value(file.approvals.as_ref()).map(approvals).unwrap_or_default();
    host.resync = value(file.resync.as_ref()).map_or(host.resync, |period| period.0);
    if let Some(guards) = value(file.guards.as_ref()) {
        host.guards = removals(guards.removals.as_ref(), host.guards);
        host.weakest_drift = drift(guards.drift_detection.as_ref()).unwrap_or(host.weakest_drift);
    }
    host
}

fn source(file: &SourceFile) -> Option<Source> {
    let default = Source::new(file.url.get()?.as_str());
    Some(Source {
        branch: value(file.branch.as_ref()).map_or(default.branch, |branch| branch.0.clone()),
        path: value(file.path.as_ref()).map(|path| path.0.clone()).filter(|path| path != ".").unwrap_or_default(),
        interval: value(file.interval.as_ref()).map_or(default.interval, |period| period.0),
        timeout: value(file.timeout.as_ref()).map_or(default.timeout, |period| period.0),
        ssh_key: value(file.ssh_key.as_ref()).map(|path| PathBuf::from(&path.0)),
        known_hosts: value(file.known_hosts.as_ref()).map(|path| PathBuf::from(&path.0)),
        username: value(file.username.as_ref()).map_or(default.username, |name| name.0.clone()),
        password: value(file.password.as_ref()).map(|place| place.0.clone()),
        webhook_secret: value(file.webhook_secret.as_ref()).map(|place| place.0.clone()),
        url: default.url,
    })
}

fn verify(file: &VerifyFile) -> Verify {
    let signers = value(file.signers.as_ref()).into_iter().flatten().filter_map(|signer| {
        let signer = signer.get()?;
        Some(Signer { name: signer.name.get()?.0.clone(), key: signer.key.get()?.clone() })
    });
    Verify {
        mode: file.mode.get().copied().unwrap_or_default(),
        signers: signers.collect(),
        gnupg_home: value(file.gnupg_home.as_ref()).map(|path| PathBuf::from(&path.0)),
        since: value(file.since.as_ref()).map(|commit| commit.0.clone()),
    }
}

fn approvals(file: &ApprovalsFile) -> Approvals {
    let needed = |file: &NeededFile| NeedsApproval {
        loosenings: match value(file.loosenings.as_ref()) {
            Some(some) => some.iter().filter_map(|one| one.get().copied()).collect(),
            None => Loosening::ALL.into(),
        },
        tiers: value(file.tiers.as_ref()).map(|some| some.iter().filter_map(|tier| tier.get().cloned()).collect()),
        except_tiers: value(file.except_tiers.as_ref())
            .into_iter()
            .flatten()
            .filter_map(|tier| tier.get().cloned())
            .collect(),
    };
    let approvers = file.approvers.get().into_iter().flatten().filter_map(|name| Some(name.get()?.0.clone()));
    let all = file.needed.get().into_iter().flatten().filter_map(|one| one.get().map(needed));
    Approvals {
        fleet: file.fleet.get().map(|name| name.0.clone()).unwrap_or_default(),
        max_age: value(file.max_age.as_ref()).map_or(Approvals::default().max_age, |age| age.0),
        approvers: approvers.collect(),
        needed: all.collect(),
    }
}

fn listen(file: &ListenFile) -> Option<Listen> {
    Some(Listen { address: file.address.get()?.0, token: file.token.get()?.0.clone() })
}

fn notify(file: &NotifyFile) -> Option<Notify> {
    let events = match &file.events {
        None => NotifyEvent::ALL.into(),
        Some(events) => events.get()?.iter().filter_map(|event| event.get().copied()).collect(),
    };
    Some(Notify { url: file.url.get()?.0.clone(), events })
}

/// Reports keys that do not go with the URL: whoever wrote them counts on something that is not so.
fn check_source(file: &str, source: &SourceFile, findings: &mut Vec<Finding>) {
    let Some(transport) = source.url.get().map(|url| url.transport()) else { return };
    let is_http = matches!(transport, Transport::Http | Transport::Https);
    let keys = [
        ("sshKey", source.ssh_key.as_ref().map(|field| field.span), transport == Transport::Ssh, "ssh"),
        ("knownHosts", source.known_hosts.as_ref().map(|field| field.span), transport == Transport::Ssh, "ssh"),
        ("username", source.username.as_ref().map(|field| field.span), is_http, "https"),
        ("password", source.password.as_ref().map(|field| field.span), is_http, "https"),
    ];
    for (key, span, is_used, wanted) in keys {
        if let (Some(span), false) = (span, is_used) {
            let message = format!("`{key}` goes with {wanted}, and the URL is of another kind");
            let help = format!("remove it, or write a URL of {wanted}");
            findings.push(Finding::error(file, span, "unused-key", &message, Some(&help)));
        }
    }
    if let (Some(password), Transport::Http) = (&source.password, transport) {
        let help = "write a URL of https";
        findings.push(password.error(file, "clear-text", "the password would be sent in the clear", Some(help)));
    }
}

/// Reports a check of signatures that nobody can pass, and a key that stands for two.
fn check_verify(file: &str, field: &Located<VerifyFile>, findings: &mut Vec<Finding>) {
    let Some(verify) = field.get() else { return };
    let signers = value(verify.signers.as_ref()).map_or(&[][..], Vec::as_slice);
    let is_wanted = verify.mode.get().is_some_and(|mode| *mode != VerifyMode::None);
    if is_wanted && signers.is_empty() && verify.gnupg_home.is_none() {
        let help = "add `signers` or `gnupgHome`, or write mode: none";
        findings.push(field.error(file, "no-signers", "no signature would ever count", Some(help)));
    }
    let mut known: Vec<&SignerKey> = Vec::with_capacity(signers.len());
    for field in signers.iter().filter_map(|signer| Some(&signer.get()?.key)) {
        let Some(key) = field.get() else { continue };
        if known.iter().any(|other| other.get().key_data() == key.get().key_data()) {
            let help = "keep one of the two";
            findings.push(field.error(file, "duplicate-signer", "the key is listed twice", Some(help)));
        }
        known.push(key);
    }
}

/// Reports approvers whom nobody knows, and lists that say nothing.
fn check_approvals(file: &str, approvals: &ApprovalsFile, host: &Host, findings: &mut Vec<Finding>) {
    let known: Vec<&str> = host.verify.signers.iter().map(|signer| signer.name.as_str()).collect();
    let approvers = approvals.approvers.get().map_or(&[][..], Vec::as_slice);
    for approver in approvers {
        if let Some(name) = approver.get().filter(|name| !known.contains(&name.0.as_str())) {
            let message = format!("{:?} is no name of verify.signers, so that nobody could approve by it", name.0);
            findings.push(approver.error(
                file,
                "unknown-signer",
                &message,
                Some("add the signer's key to verify.signers"),
            ));
        }
    }
    let mut empty = |field: Option<Finding>| findings.extend(field);
    let help = "list at least one, or remove the key";
    let nothing = "the list is empty";
    if approvers.is_empty() {
        empty(Some(approvals.approvers.error(file, "empty-list", nothing, Some(help))));
    }
    for needed in approvals.needed.get().into_iter().flatten().filter_map(Located::get) {
        let kinds = needed.loosenings.as_ref().filter(|list| list.get().is_some_and(Vec::is_empty));
        let tiers = needed.tiers.as_ref().filter(|list| list.get().is_some_and(Vec::is_empty));
        empty(kinds.map(|list| list.error(file, "empty-list", nothing, Some(help))));
        empty(tiers.map(|list| list.error(file, "empty-list", nothing, Some(help))));
    }
}

fn set<T: Copy>(place: &mut T, field: Option<&Located<T>>) {
    if let Some(value) = value(field) {
        *place = *value;
    }
}
