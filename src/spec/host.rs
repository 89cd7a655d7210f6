//! `host.yaml`: the host's own settings.

use std::path::PathBuf;

use super::{
    decode::{Located, decode},
    files::{EngineUrl, HostFile},
    fleet::value,
};
use crate::model::{Finding, Host, Invalid, RuntimeClass, Severity, host::Ceilings};

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
    if let Some(deadlines) = value(file.deadlines.as_ref()) {
        set(&mut host.deadlines.call, deadlines.call.as_ref());
        set(&mut host.deadlines.start, deadlines.start.as_ref());
        set(&mut host.deadlines.stop, deadlines.stop.as_ref());
        set(&mut host.deadlines.settle, deadlines.settle.as_ref());
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
    host
}

fn set<T: Copy>(place: &mut T, field: Option<&Located<T>>) {
    if let Some(value) = value(field) {
        *place = *value;
    }
}
