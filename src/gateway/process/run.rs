//! The process: from its start to its end.

use std::{
    io,
    path::{Path, PathBuf},
    sync::{Arc, mpsc},
    thread,
    time::Duration,
};

use jiff::Timestamp;
use tokio::{
    sync::{oneshot, watch},
    time::{sleep, timeout},
};

use super::{
    control, metrics,
    privilege::{self, PrivilegeError, User, Writer},
    recording,
};
use crate::{
    accounting::{
        ledger::{self, Ledger, LedgerError},
        usage::{self, Usage, UsageError},
    },
    fault::chain,
    host::{
        namespace::{self, NamespaceError},
        signals::{self, Signal, Signals},
        watch::FolderWatch,
    },
    listening::{
        listeners::{Inherited, Listeners},
        namespace_worker::NamespaceWorker,
        shared::{Counted, Shared},
        tenants::{Listening, Loader},
    },
    model::Host,
    routes::{self, TlsError},
};

/// How often the policies are looked at without an event.
const POLL: Duration = Duration::from_secs(1);

/// How long events that come one after another are waited for: a policy and its secrets are two files.
const QUIET: Duration = Duration::from_millis(10);

/// How long a port that cannot be listened on is left alone.
const RETRY: Duration = Duration::from_secs(1);

/// How long connections may take to be cut at the end.
const END: Duration = Duration::from_secs(1);

/// How often systemd's watchdog is notified at least.
const ALIVE: Duration = Duration::from_secs(5);

/// How long the last refusals may take to be written at the end.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(3);

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

/// Where the gateway's own socket is, by its folder.
pub fn socket(state: &Path) -> PathBuf {
    state.join("gateway.sock")
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
    let user = User::of(&egress.user, "egress.user")?;
    let namespace = namespace::open(&egress.namespace)?;
    let inherited = Inherited::take(&namespace)?;
    // What is read of the host's own files is read before they are out of sight.
    let upstreams = routes::tls(egress)?;
    privilege::give(&egress.policies, Writer::Root, user)?;
    privilege::give(&egress.state, Writer::Process, user)?;
    privilege::enter(&egress.state, &[&egress.policies, Path::new("/etc/resolv.conf")], settings)?;
    let inside = NamespaceWorker::enter(namespace)?;
    privilege::become_user(user)?;
    let counted = Counted {
        usage: Usage::open(&usage::folder(&egress.state))?,
        ledger: Ledger::open(&ledger::folder(&egress.state))?,
    };
    let shared = Arc::new(Shared::new(host, upstreams, counted, privilege::descriptors()));
    let runtime =
        tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(cannot("start the event loop"))?;
    let ledger = shared.ledger.clone();
    let result = runtime.block_on(serve(shared, Listeners::new(inside, inherited), reload));
    // Whoever is cut off now may still be given back what was reserved.
    runtime.shutdown_timeout(END);
    if let Err(error) = ledger.finish() {
        tracing::warn!(error = chain(&error), "what requests in hand have cost could not be recorded");
    }
    tracing::info!("the gateway ends");
    result
}

async fn serve(
    shared: Arc<Shared>,
    mut listeners: Listeners,
    reload: impl Fn() -> anyhow::Result<Host> + Send + 'static,
) -> Result<(), RunError> {
    let mut signals = Signals::listen().map_err(cannot("hear signals"))?;
    let mut wanted = follow(Arc::clone(&shared)).map_err(cannot("follow the policies"))?;
    listeners.listen_for_names(&shared).map_err(cannot("listen for names"))?;
    listeners.set(&shared, &wanted.borrow().clone());
    let state = shared.settings().state.clone();
    let control = control::listen(&socket(&state)).map_err(cannot("listen on the gateway's socket"))?;
    let counted = Arc::clone(&shared);
    tokio::spawn(control::serve(control, move || metrics::render(&counted)));
    let counting = tokio::spawn(count(shared.usage.clone(), usage::folder(&state)));
    let (end, ended) = oneshot::channel();
    let recording = tokio::spawn(recording::record(Arc::clone(&shared), state, ended));
    signals::ready();
    tracing::info!(
        namespace = shared.settings().namespace,
        connections = shared.pools.connections.most(),
        "the gateway is open"
    );
    loop {
        signals.alive();
        let is_missing = listeners.set(&shared, &wanted.borrow_and_update().clone());
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
    // Who comes from now on waits for the next gateway, where systemd keeps the sockets for it.
    drop(listeners);
    // What is refused from now on is not recorded; who is served meanwhile is cut off.
    drop(end);
    let _ = timeout(DRAIN_TIMEOUT, recording).await;
    counting.abort();
    write_counts(&shared.usage, &usage::folder(&shared.settings().state)).await;
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
        tracing::warn!(error = chain(&error), "counts could not be written; they are tried again");
    }
}

/// Keeps what is in force as the folder of policies says, on a thread of its own. It reports what is
/// to be listened on.
fn follow(shared: Arc<Shared>) -> io::Result<watch::Receiver<Listening>> {
    let mut loader = Loader::new(&shared.settings().policies);
    let (sender, listening) = watch::channel(Listening::default());
    let (wake, woken) = mpsc::sync_channel(1);
    let mut watch = FolderWatch::new(loader.folders().into(), move |_| {
        // A full queue is woken already.
        let _ = wake.try_send(());
    });
    let mut load = move || {
        watch.ensure();
        match loader.load(&shared.tenants) {
            Ok(found) => drop(sender.send_if_modified(|known| {
                let is_new = *known != found;
                known.clone_from(&found);
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
    Ok(listening)
}
