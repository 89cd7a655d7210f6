//! Sockets of the namespace where tenants' networks end, for a process that is not there itself.
//!
//! A thread enters the namespace while it may and stays. What it makes is used by all others: a socket
//! belongs to the namespace that it was made in.

use std::{
    fs::File,
    io,
    net::{Ipv4Addr, SocketAddrV4, TcpListener, TcpStream, UdpSocket},
    path::Path,
    sync::mpsc::{self, Sender},
    thread,
};

use rustix::{
    fd::OwnedFd,
    net::{AddressFamily, SocketFlags, SocketType, bind, listen, socket_with, sockopt},
};

use crate::host::namespace::{self, NamespaceError};

/// How many connections the kernel keeps until they are accepted; it takes the least of this and
/// net.core.somaxconn.
const BACKLOG: i32 = 4096;

type Work = Box<dyn FnOnce() + Send>;

/// The thread inside. It ends when this is dropped.
#[derive(Debug)]
pub struct NamespaceWorker(Sender<Work>);

impl NamespaceWorker {
    /// Enters a namespace.
    ///
    /// # Errors
    /// It is not there, or this process may not.
    pub fn enter(namespace: File) -> Result<Self, NamespaceError> {
        let (queue, works) = mpsc::channel::<Work>();
        let (sender, entered) = mpsc::channel();
        let stay = move || {
            let result = namespace::enter_open(namespace);
            let is_inside = result.is_ok();
            let _ = sender.send(result);
            if is_inside {
                works.into_iter().for_each(|work| work());
            }
        };
        let failed = |source| NamespaceError::Io { action: "work in", path: Path::new("/run/netns").into(), source };
        thread::Builder::new().name("inside".to_owned()).spawn(stay).map_err(failed)?;
        entered.recv().map_err(|_| failed(ended()))??;
        Ok(Self(queue))
    }

    /// Has the thread do something, and waits for it.
    ///
    /// # Errors
    /// The thread is gone.
    pub fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> io::Result<T> {
        let (sender, done) = mpsc::channel();
        let work = Box::new(move || {
            let _ = sender.send(work());
        });
        self.0.send(work).map_err(|_| ended())?;
        done.recv().map_err(|_| ended())
    }

    /// Listens on a port of all gateway addresses.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn listen(&self, port: u16) -> io::Result<TcpListener> {
        self.run(move || {
            let socket = bound(SocketType::STREAM, Ipv4Addr::UNSPECIFIED, port)?;
            listen(&socket, BACKLOG)?;
            Ok(socket.into())
        })?
    }

    /// A socket to connect with from inside, which is not connected yet and never blocks.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn stream(&self) -> io::Result<TcpStream> {
        self.run(|| {
            let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
            Ok(socket_with(AddressFamily::INET, SocketType::STREAM, flags, None)?.into())
        })?
    }

    /// Receives datagrams on a port of all gateway addresses.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn datagrams(&self, port: u16) -> io::Result<UdpSocket> {
        self.run(move || Ok(bound(SocketType::DGRAM, Ipv4Addr::UNSPECIFIED, port)?.into()))?
    }

    /// Receives datagrams on a port of one gateway address, which need not be there yet. Those that wait
    /// take so many bytes at most.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn datagrams_of(&self, address: Ipv4Addr, port: u16, waiting: usize) -> io::Result<UdpSocket> {
        self.run(move || {
            let socket = bound(SocketType::DGRAM, address, port)?;
            sockopt::set_socket_recv_buffer_size(&socket, waiting)?;
            Ok(socket.into())
        })?
    }
}

fn ended() -> io::Error {
    io::Error::other("the thread in the gateway's namespace has ended")
}

/// A socket that another gateway may share, so that the next one listens before this one ends.
fn bound(kind: SocketType, address: Ipv4Addr, port: u16) -> io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(AddressFamily::INET, kind, flags, None)?;
    sockopt::set_socket_reuseaddr(&socket, true)?;
    sockopt::set_socket_reuseport(&socket, true)?;
    sockopt::set_ip_freebind(&socket, true)?;
    bind(&socket, &SocketAddrV4::new(address, port))?;
    Ok(socket)
}
