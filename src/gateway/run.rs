//! The process: from its start to its end.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::{Arc, mpsc},
    thread,
    time::Duration,
};

use jiff::Timestamp;
use notify::{RecommendedWatcher, RecursiveMode, Watcher};
use tokio::{
    net::TcpListener,
    sync::{oneshot, watch},
    task::JoinHandle,
    time::{sleep, timeout},
};

use super::{
    Shared, control,
    inside::Inside,
    ledger::{self, Ledger, LedgerError},
    names,
    privilege::{self, PrivilegeError, User},
    refusals,
    routes::{self, TlsError},
    serve::{self, NAMES},
    shared::Counted,
    tenants::Loader,
    usage::{self, Usage, UsageError},
};
use crate::{
    host::namespace::{self, NamespaceError},
    model::{Host, host::JournalLimits},
    signals::{self, Signal, Signals},
};

/// How often the policies are looked at without an event.
const POLL: Duration = Duration::from_secs(1);

/// How long events that come one after another are waited for: a policy and its secrets are two files.
const QUIET: Duration = Duration::from_millis(10);

/// How long a port that cannot be listened on is left alone.
const RETRY: Duration = Duration::from_secs(1);

/// How often systemd's watchdog is told at least.
const ALIVE: Duration = Duration::from_secs(5);

/// How long the last refusals may take to be written at the end.
const FAREWELL: Duration = Duration::from_secs(3);

/// Ports that always have a listener, beside the proxy's: those of names, HTTP and TLS.
const PORTS: [u16; 3] = [NAMES, 80, 443];

/// Why the gateway does not run.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The namespace cannot be had.
    #[error(transparent)]
    Namespace(#[from] NamespaceError),
    /// What it must not have cannot be given up.
    #[error(transparent)]
    Privilege(#[from] PrivilegeError),
    /// What was counted cannot be read.
    #[error(transparent)]
    Usage(#[from] UsageError),
    /// The credits cannot be read, or another gateway has them.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// Upstreams cannot be trusted.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// Something else that is needed from the start.
    #[error("cannot {action}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
}

fn cannot(action: &'static str) -> impl FnOnce(io::Error) -> RunError {
    move |source| RunError::Io { action, source }
}

/// Makes the gateway's namespace, and nothing else.
///
/// # Errors
/// The kernel refuses.
pub fn prepare(host: &Host) -> Result<(), RunError> {
    Ok(namespace::prepare(&host.egress.namespace)?)
}

/// Runs until a signal ends it. `settings` is the file with the host's settings, and `reload` reads it
/// anew.
///
/// # Errors
/// Something that is needed from the start cannot be had, or could not be given up.
pub fn run(
    host: &Host,
    settings: Option<&Path>,
    reload: impl Fn() -> anyhow::Result<Host> + Send + 'static,
) -> Result<(), RunError> {
    let egress = &host.egress;
    let user = User::of(egress)?;
    let namespace = namespace::open(&egress.namespace)?;
    // What is read of the host's own files is read before they are out of sight.
    let upstreams = routes::tls(egress)?;
    privilege::enter(egress, settings, user)?;
    let inside = Inside::enter(namespace)?;
    privilege::become_user(user)?;
    let counted = Counted {
        usage: Usage::open(&usage::folder(&egress.state))?,
        ledger: Ledger::open(&ledger::folder(&egress.state))?,
    };
    let shared = Arc::new(Shared::new(host, upstreams, counted, descriptors()));
    let runtime =
        tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(cannot("start the event loop"))?;
    runtime.block_on(serve(shared, inside, host.journal, reload))
}

/// How many descriptors this process may have.
fn descriptors() -> u64 {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    limit.current.unwrap_or(1 << 20)
}

async fn serve(
    shared: Arc<Shared>,
    inside: Inside,
    journal: JournalLimits,
    reload: impl Fn() -> anyhow::Result<Host> + Send + 'static,
) -> Result<(), RunError> {
    let mut signals = Signals::listen().map_err(cannot("hear signals"))?;
    let mut wanted = follow(Arc::clone(&shared)).map_err(cannot("follow the policies"))?;
    let mut listeners = Listeners { shared: Arc::clone(&shared), inside, tasks: BTreeMap::new() };
    listeners.listen_for_names().map_err(cannot("listen for names"))?;
    listeners.set(&wanted.borrow().clone());
    let state = shared.settings().state.clone();
    let control = control::listen(&state).map_err(cannot("listen on the gateway's socket"))?;
    tokio::spawn(control::serve(Arc::clone(&shared), control));
    let counting = tokio::spawn(count(shared.usage.clone(), usage::folder(&state)));
    let (end, ended) = oneshot::channel();
    let recording = tokio::spawn(refusals::record(Arc::clone(&shared.refusals), state, journal, ended));
    signals::ready();
    tracing::info!(
        namespace = shared.settings().namespace,
        connections = shared.connections.most(),
        "the gateway is open"
    );
    loop {
        signals.alive();
        let is_missing = listeners.set(&wanted.borrow_and_update().clone());
        tokio::select! {
            changed = wanted.changed() => if changed.is_err() {
                return Err(cannot("follow the policies")(io::Error::other("the thread that reads them has ended")));
            },
            () = sleep(if is_missing { RETRY } else { ALIVE }) => {}
            signal = signals.next() => match signal {
                Signal::End => break,
                Signal::Reload => match reload() {
                    Ok(host) => {
                        shared.reload(&host);
                        tracing::info!("the host's settings were read again");
                    }
                    Err(error) => tracing::error!(error = format!("{error:#}"), "the former settings stay in force"),
                },
            },
        }
    }
    signals::stopping();
    // What is refused from now on is not recorded; who is served meanwhile is cut off.
    drop(end);
    let _ = timeout(FAREWELL, recording).await;
    counting.abort();
    write_counts(&shared.usage, &usage::folder(&shared.settings().state)).await;
    tracing::info!("the gateway ends");
    Ok(())
}

/// Writes what is counted, again and again.
async fn count(usage: Usage, folder: PathBuf) {
    loop {
        sleep(usage::WRITTEN_EVERY).await;
        write_counts(&usage, &folder).await;
    }
}

async fn write_counts(usage: &Usage, folder: &Path) {
    let (usage, folder) = (usage.clone(), folder.to_owned());
    let written = tokio::task::spawn_blocking(move || usage.write(&folder, Timestamp::now())).await;
    if let Ok(Err(error)) = written {
        tracing::warn!(error = crate::reconcile::chain(&error), "counts could not be written; they are tried again");
    }
}

/// The listeners inside.
struct Listeners {
    shared: Arc<Shared>,
    inside: Inside,
    tasks: BTreeMap<u16, JoinHandle<()>>,
}

impl Listeners {
    fn listen_for_names(&self) -> io::Result<()> {
        let socket = self.inside.datagrams(NAMES)?;
        names::tell_destination(&socket)?;
        let socket = tokio::net::UdpSocket::from_std(socket)?;
        tokio::spawn(names::serve_datagrams(Arc::clone(&self.shared), socket));
        Ok(())
    }

    /// Listens on these ports and those that are always there, and on no others. True where one is
    /// missing.
    fn set(&mut self, ports: &BTreeSet<u16>) -> bool {
        let mut ports = ports.clone();
        ports.extend(PORTS);
        ports.insert(self.shared.settings().proxy_port);
        self.tasks.retain(|port, task| {
            let is_wanted = ports.contains(port);
            if !is_wanted {
                task.abort();
            }
            is_wanted
        });
        let mut is_missing = false;
        for port in ports {
            if self.tasks.contains_key(&port) {
                continue;
            }
            match self.listen(port) {
                Ok(task) => drop(self.tasks.insert(port, task)),
                Err(error) => {
                    tracing::warn!(port, %error, "cannot listen inside");
                    is_missing = true;
                }
            }
        }
        is_missing
    }

    fn listen(&self, port: u16) -> io::Result<JoinHandle<()>> {
        let listener = TcpListener::from_std(self.inside.listen(port)?)?;
        Ok(tokio::spawn(serve::accept(Arc::clone(&self.shared), listener, port)))
    }
}

/// Keeps what is in force as the folder of policies says, on a thread of its own. It tells which ports
/// the tenants may go to.
fn follow(shared: Arc<Shared>) -> io::Result<watch::Receiver<BTreeSet<u16>>> {
    let mut loader = Loader::new(&shared.settings().policies);
    let (told, ports) = watch::channel(BTreeSet::new());
    let (wake, woken) = mpsc::sync_channel(1);
    let mut watching = Watching { folders: loader.folders(), wake, begun: None };
    let mut load = move || {
        watching.ensure();
        match loader.load(&shared.tenants) {
            Ok(ports) => drop(told.send_if_modified(|known| {
                let is_new = *known != ports;
                known.clone_from(&ports);
                is_new
            })),
            Err(error) => tracing::debug!(%error, "the policies cannot be read"),
        }
    };
    load();
    let follow = move || {
        loop {
            // The end of the sender is that of the process.
            let _ = woken.recv_timeout(POLL);
            thread::sleep(QUIET);
            let _ = woken.try_recv();
            load();
        }
    };
    thread::Builder::new().name("policies".to_owned()).spawn(follow)?;
    Ok(ports)
}

/// File events of the folders, as long as they can be had: a poll goes on beside.
struct Watching {
    folders: [PathBuf; 2],
    wake: mpsc::SyncSender<()>,
    /// The watcher, and the folders' inodes when it began.
    begun: Option<(RecommendedWatcher, [Option<u64>; 2])>,
}

impl Watching {
    /// Begins to watch, or begins anew where a folder came or was replaced since.
    fn ensure(&mut self) {
        let inodes = self.folders.each_ref().map(|folder| fs::metadata(folder).ok().map(|found| found.ino()));
        if self.begun.as_ref().is_some_and(|(_, begun)| *begun == inodes) {
            return;
        }
        let wake = self.wake.clone();
        let tell = move |_: notify::Result<notify::Event>| {
            // A full queue is woken already.
            let _ = wake.try_send(());
        };
        let watcher = notify::recommended_watcher(tell).inspect_err(|error| {
            tracing::warn!(%error, "file events cannot be had; changes of policies show within a second");
        });
        self.begun = watcher.ok().map(|mut watcher| {
            for folder in &self.folders {
                // One that is not there yet is watched once it is.
                let _ = watcher.watch(folder, RecursiveMode::NonRecursive);
            }
            (watcher, inodes)
        });
    }
}
