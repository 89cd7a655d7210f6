//! The sockets inside that tenants come to, and how they outlive a gateway.
//!
//! Where systemd is there, it keeps each of them while one gateway ends and the next begins: whoever
//! connects meanwhile waits and is served.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::File,
    io,
    net::{self, Ipv4Addr, SocketAddr},
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
    name_server,
    namespace_worker::NamespaceWorker,
    serve::{self, NAMES},
    shared::Shared,
    tenants::Listening,
};
use crate::host::{
    namespace::{self, NamespaceError},
    signals,
};

/// Ports that always have a listener, beside the proxy's: those of names, HTTP and TLS.
const PORTS: [u16; 3] = [NAMES, 80, 443];

/// The sockets of a gateway before, which systemd kept.
#[derive(Default)]
pub(crate) struct Inherited {
    listeners: BTreeMap<u16, net::TcpListener>,
    names: Option<net::UdpSocket>,
}

impl Inherited {
    /// Takes those that belong to this namespace. Others, of one that is gone, are given up.
    ///
    /// # Errors
    /// The namespace's sockets cannot be listed.
    pub fn take(namespace: &File) -> Result<Self, NamespaceError> {
        let kept = signals::passed();
        let mut inherited = Self::default();
        if kept.is_empty() {
            return Ok(inherited);
        }
        let ours = namespace::sockets(namespace)?;
        for (name, socket) in kept {
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
pub(crate) struct Listeners {
    inside: NamespaceWorker,
    inherited: Inherited,
    names: Option<JoinHandle<()>>,
    /// Who answers each tenant's questions, by the gateway's address in its network.
    names_of: BTreeMap<Ipv4Addr, JoinHandle<()>>,
    accepting: BTreeMap<u16, Accepting>,
}

/// A port that connections are accepted on.
struct Accepting {
    listener: Arc<TcpListener>,
    task: JoinHandle<()>,
}

/// What the kernel keeps of one tenant's questions until they are read, in bytes: about a hundred of them.
const QUESTIONS: usize = 64 << 10;

impl Listeners {
    pub fn new(inside: NamespaceWorker, inherited: Inherited) -> Self {
        Self { inside, inherited, names: None, names_of: BTreeMap::new(), accepting: BTreeMap::new() }
    }

    /// Answers questions for names at all addresses. It is the socket that systemd keeps, and serves those
    /// whose own is not there yet.
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
        name_server::report_destination(&socket)?;
        let socket = UdpSocket::from_std(socket)?;
        self.names = Some(tokio::spawn(name_server::serve_datagrams(Arc::clone(shared), socket)));
        Ok(())
    }

    /// Listens as it is wanted, on the ports that are always there, and nowhere else. True where something
    /// is missing.
    pub fn set(&mut self, shared: &Arc<Shared>, wanted: &Listening) -> bool {
        let is_missing = self.set_ports(shared, wanted.ports.clone());
        self.set_names(shared, &wanted.addresses) || is_missing
    }

    /// Each tenant's questions wait in a queue of their own, and are answered in turn with those of the
    /// others: who floods its queue loses its own questions.
    fn set_names(&mut self, shared: &Arc<Shared>, addresses: &BTreeSet<Ipv4Addr>) -> bool {
        self.names_of.retain(|address, task| {
            let is_wanted = addresses.contains(address);
            if !is_wanted {
                task.abort();
            }
            is_wanted
        });
        let mut is_missing = false;
        for address in addresses {
            if self.names_of.contains_key(address) {
                continue;
            }
            match self.names_of(shared, *address) {
                Ok(task) => drop(self.names_of.insert(*address, task)),
                Err(error) => {
                    tracing::warn!(%address, %error, "a tenant's questions wait together with those of others");
                    is_missing = true;
                }
            }
        }
        is_missing
    }

    fn names_of(&self, shared: &Arc<Shared>, address: Ipv4Addr) -> io::Result<JoinHandle<()>> {
        let socket = self.inside.datagrams_of(address, NAMES, QUESTIONS)?;
        name_server::report_destination(&socket)?;
        let socket = UdpSocket::from_std(socket)?;
        Ok(tokio::spawn(name_server::serve_datagrams(Arc::clone(shared), socket)))
    }

    fn set_ports(&mut self, shared: &Arc<Shared>, mut ports: BTreeSet<u16>) -> bool {
        ports.extend(PORTS);
        ports.insert(shared.settings().proxy_port);
        self.accepting.retain(|port, accepting| {
            let is_wanted = ports.contains(port);
            if !is_wanted {
                accepting.task.abort();
                signals::forget(&kept_as(*port));
            }
            is_wanted
        });
        let mut is_missing = false;
        for port in &ports {
            if self.accepting.contains_key(port) {
                continue;
            }
            match self.listen(shared, *port) {
                Ok(accepting) => drop(self.accepting.insert(*port, accepting)),
                Err(error) => {
                    tracing::warn!(port, %error, "cannot listen inside");
                    is_missing = true;
                }
            }
        }
        let stall = shared.settings().limits.stall.get();
        for accepting in self.accepting.values() {
            serve::bound(&accepting.listener, stall);
        }
        for port in std::mem::take(&mut self.inherited.listeners).into_keys() {
            signals::forget(&kept_as(port));
        }
        is_missing
    }

    fn listen(&mut self, shared: &Arc<Shared>, port: u16) -> io::Result<Accepting> {
        let listener = match self.inherited.listeners.remove(&port) {
            Some(listener) => listener,
            None => {
                let listener = self.inside.listen(port)?;
                signals::keep(&kept_as(port), listener.as_fd());
                listener
            }
        };
        let listener = Arc::new(TcpListener::from_std(listener)?);
        serve::bound(&listener, shared.settings().limits.stall.get());
        let task = tokio::spawn(serve::accept(Arc::clone(shared), Arc::clone(&listener), port));
        Ok(Accepting { listener, task })
    }
}

impl Drop for Listeners {
    fn drop(&mut self) {
        let accepting = self.accepting.values().map(|accepting| &accepting.task);
        self.names.iter().chain(self.names_of.values()).chain(accepting).for_each(JoinHandle::abort);
    }
}

/// The name by which systemd keeps the listener of a port.
fn kept_as(port: u16) -> String {
    format!("port-{port}")
}
