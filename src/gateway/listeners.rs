//! The sockets inside that tenants come to, and how they outlive a gateway.
//!
//! Where systemd is there, it keeps each of them while one gateway ends and the next begins: whoever
//! connects meanwhile waits and is served.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::File,
    io,
    net::{self, SocketAddr},
    os::fd::{AsFd, OwnedFd},
    sync::Arc,
};

use rustix::{
    fs::fstat,
    net::{SocketType, sockopt::socket_type},
};
use tokio::{
    net::{TcpListener, UdpSocket},
    task::JoinHandle,
};

use super::{
    Shared,
    inside::Inside,
    names,
    serve::{self, NAMES},
};
use crate::{
    host::namespace::{self, NamespaceError},
    signals,
};

/// Ports that always have a listener, beside the proxy's: those of names, HTTP and TLS.
const PORTS: [u16; 3] = [NAMES, 80, 443];

/// The sockets of a gateway before, which systemd kept.
#[derive(Default)]
pub(super) struct Inherited {
    listeners: BTreeMap<u16, net::TcpListener>,
    names: Option<net::UdpSocket>,
}

impl Inherited {
    /// Takes those that belong to this namespace. Others, of one that is gone, are given up.
    ///
    /// # Errors
    /// The namespace's sockets cannot be listed.
    pub fn take(namespace: &File) -> Result<Self, NamespaceError> {
        let kept =
            sd_listen_fds::get().inspect_err(|error| tracing::warn!(%error, "systemd's sockets cannot be taken"));
        let kept: Vec<_> = kept.unwrap_or_default();
        let mut inherited = Self::default();
        if kept.is_empty() {
            return Ok(inherited);
        }
        let ours = namespace::sockets(namespace)?;
        for (name, socket) in kept {
            let socket = socket.into_std();
            let is_ours = fstat(&socket).is_ok_and(|found| ours.contains(&found.st_ino));
            if !(is_ours && inherited.add(socket).is_ok()) {
                signals::forget(&name.unwrap_or_default());
            }
        }
        Ok(inherited)
    }

    fn add(&mut self, socket: OwnedFd) -> io::Result<()> {
        if socket_type(&socket)? == SocketType::DGRAM {
            let socket = net::UdpSocket::from(socket);
            socket.set_nonblocking(true)?;
            self.names = Some(socket);
        } else {
            let listener = net::TcpListener::from(socket);
            listener.set_nonblocking(true)?;
            let SocketAddr::V4(address) = listener.local_addr()? else {
                return Err(io::ErrorKind::InvalidInput.into());
            };
            self.listeners.insert(address.port(), listener);
        }
        Ok(())
    }
}

/// The listeners inside. When this is dropped, nobody is accepted any more.
pub(super) struct Listeners {
    inside: Inside,
    inherited: Inherited,
    names: Option<JoinHandle<()>>,
    tasks: BTreeMap<u16, JoinHandle<()>>,
}

impl Listeners {
    pub fn new(inside: Inside, inherited: Inherited) -> Self {
        Self { inside, inherited, names: None, tasks: BTreeMap::new() }
    }

    /// Answers questions for names.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn listen_for_names(&mut self, shared: &Arc<Shared>) -> io::Result<()> {
        let socket = match self.inherited.names.take() {
            Some(socket) => socket,
            None => {
                let socket = self.inside.datagrams(NAMES)?;
                signals::keep("names", socket.as_fd());
                socket
            }
        };
        names::tell_destination(&socket)?;
        let socket = UdpSocket::from_std(socket)?;
        self.names = Some(tokio::spawn(names::serve_datagrams(Arc::clone(shared), socket)));
        Ok(())
    }

    /// Listens on these ports and those that are always there, and on no others. True where one is
    /// missing.
    pub fn set(&mut self, shared: &Arc<Shared>, ports: &BTreeSet<u16>) -> bool {
        let mut ports = ports.clone();
        ports.extend(PORTS);
        ports.insert(shared.settings().proxy_port);
        self.tasks.retain(|port, task| {
            let is_wanted = ports.contains(port);
            if !is_wanted {
                task.abort();
                signals::forget(&kept_as(*port));
            }
            is_wanted
        });
        let mut is_missing = false;
        for port in &ports {
            if self.tasks.contains_key(port) {
                continue;
            }
            match self.listen(shared, *port) {
                Ok(task) => drop(self.tasks.insert(*port, task)),
                Err(error) => {
                    tracing::warn!(port, %error, "cannot listen inside");
                    is_missing = true;
                }
            }
        }
        for port in std::mem::take(&mut self.inherited.listeners).into_keys() {
            signals::forget(&kept_as(port));
        }
        is_missing
    }

    fn listen(&mut self, shared: &Arc<Shared>, port: u16) -> io::Result<JoinHandle<()>> {
        let listener = match self.inherited.listeners.remove(&port) {
            Some(listener) => listener,
            None => {
                let listener = self.inside.listen(port)?;
                signals::keep(&kept_as(port), listener.as_fd());
                listener
            }
        };
        let listener = TcpListener::from_std(listener)?;
        Ok(tokio::spawn(serve::accept(Arc::clone(shared), listener, port)))
    }
}

impl Drop for Listeners {
    fn drop(&mut self) {
        self.names.iter().chain(self.tasks.values()).for_each(JoinHandle::abort);
    }
}

/// The name by which systemd keeps the listener of a port.
fn kept_as(port: u16) -> String {
    format!("port-{port}")
}
