//! The process: from its start to its end.

use std::{
    io, net,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use tokio::{net::TcpListener, time::sleep};

use crate::{
    gateway::{
        listening::namespace_worker::NamespaceWorker,
        process::{
            control,
            privilege::{self, PrivilegeError, User, Writer},
        },
    },
    host::{
        modes,
        namespace::{self, NamespaceError},
        signals::{self, Signal, Signals},
    },
    listening::{
        accept,
        sockets::{self, ListenError},
        tls::{Certificate, TlsError},
    },
    model::{Host, Invalid, host::Ingress},
    shared::Shared,
};

/// How often systemd's watchdog is told, and the certificate looked at.
const ALIVE: Duration = Duration::from_secs(2);

/// How long connections may take to be cut at the end.
const END: Duration = Duration::from_secs(1);

/// On whose account clients are before it is known for which tenant they come. No tenant has this name.
const STRANGERS: &str = "www";

/// Why the ingress does not run.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The host's settings have none.
    #[error("the host's settings have no ingress")]
    NotDeclared,
    /// The namespace of tenants cannot be had.
    #[error(transparent)]
    Namespace(#[from] NamespaceError),
    /// What it must not have cannot be given up.
    #[error(transparent)]
    Privilege(#[from] PrivilegeError),
    /// The host's certificate cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The library of TLS refuses its own defaults.
    #[error("cannot speak TLS")]
    Library(#[from] rustls::Error),
    /// An address cannot be listened on.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// Something else that is needed from the start.
    #[error("cannot {action}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
    /// A name that is part of this program is none.
    #[error(transparent)]
    Name(#[from] Invalid),
}

fn cannot(action: &'static str) -> impl FnOnce(io::Error) -> RunError {
    move |source| RunError::Io { action, source }
}

/// Where the ingress's own socket is, by its folder.
pub fn socket(state: &Path) -> PathBuf {
    state.join("ingress.sock")
}

/// Runs until a signal ends it. `settings` is the file with the host's settings.
///
/// # Errors
/// Something that is needed from the start cannot be had, or could not be given up.
pub fn run(host: &Host, settings: Option<&Path>) -> Result<(), RunError> {
    let ingress = host.ingress.clone().ok_or(RunError::NotDeclared)?;
    let user = User::of(&ingress.user, "ingress.user")?;
    let namespace = namespace::open(&host.egress.namespace)?;
    // Ports below 1024 are root's.
    let passed = signals::passed().into_iter().map(|(_, socket)| socket).collect();
    let listeners = sockets::listen(&ingress.listen, passed)?;
    privilege::give(&ingress.state, Writer::Process, user)?;
    if let Some(folder) = ingress.socket.parent() {
        // The daemon may come later.
        modes::make(folder, 0o755).map_err(cannot("make the folder of ingress.socket"))?;
    }
    let readable = readable(&ingress);
    let readable: Vec<&Path> = readable.iter().map(PathBuf::as_path).collect();
    privilege::enter(&ingress.state, &readable, settings)?;
    let inside = NamespaceWorker::enter(namespace)?;
    privilege::become_user(user)?;
    // As it will be read again: with no more rights than the process has from now on.
    let certificate = ingress.tls.clone().map(Certificate::read).transpose()?;
    let is_told = host.power.memory.is_some();
    let shared = Arc::new(Shared::new(ingress, inside, STRANGERS.parse()?, privilege::descriptors(), is_told));
    let runtime =
        tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(cannot("start the event loop"))?;
    let result = runtime.block_on(serve(Arc::clone(&shared), listeners, certificate, is_told));
    runtime.shutdown_timeout(END);
    tracing::info!("the ingress ends");
    result
}

/// The folders that it reads: that of the daemon's socket, which comes anew with each daemon, and those of the certificate.
fn readable(ingress: &Ingress) -> Vec<PathBuf> {
    let files = ingress.tls.iter().flat_map(|tls| [&tls.certificate, &tls.key]).chain([&ingress.socket]);
    // A file at the top is seen alone, and not when another one takes its place.
    let folder = |path: &PathBuf| path.parent().filter(|folder| *folder != Path::new("/")).unwrap_or(path).to_owned();
    let mut folders: Vec<PathBuf> = files.map(folder).collect();
    folders.sort();
    folders.dedup();
    folders
}

async fn serve(
    shared: Arc<Shared>,
    listeners: Vec<net::TcpListener>,
    certificate: Option<Arc<Certificate>>,
    is_told: bool,
) -> Result<(), RunError> {
    let mut signals = Signals::listen().map_err(cannot("hear signals"))?;
    let control = control::listen(&socket(&shared.settings.state)).map_err(cannot("listen on its own socket"))?;
    let counters = Arc::clone(&shared.counters);
    tokio::spawn(control::serve(control, move || counters.render()));
    let daemon = Arc::clone(&shared.daemon);
    tokio::spawn(async move { daemon.follow().await });
    let watching = Arc::clone(&shared);
    tokio::spawn(async move { watching.watch().await });
    if is_told {
        let (daemon, served) = (Arc::clone(&shared.daemon), Arc::clone(&shared.served));
        tokio::spawn(async move { daemon.report(|| served.in_hand()).await });
    }
    let tls = certificate.as_ref().map(Certificate::config).transpose()?;
    let mut accepting = Vec::new();
    for listener in listeners {
        let listener = TcpListener::from_std(listener).map_err(cannot("listen"))?;
        accepting.push(tokio::spawn(accept(Arc::clone(&shared), listener, tls.clone())));
    }
    signals::ready();
    tracing::info!(domain = %shared.settings.domain, "the ingress is open");
    loop {
        signals.alive();
        tokio::select! {
            () = sleep(ALIVE) => {}
            signal = signals.next() => if signal == Signal::End { break },
        }
        if let Some(certificate) = &certificate {
            match certificate.renew() {
                Ok(true) => tracing::info!("another certificate is in use"),
                Ok(false) => {}
                Err(error) => {
                    let error: &dyn std::error::Error = &error;
                    tracing::error!(error, "the former certificate stays in use");
                }
            }
        }
    }
    signals::stopping();
    for task in accepting {
        task.abort();
    }
    shared.ending.send_replace(true);
    Ok(())
}
