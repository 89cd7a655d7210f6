//! The daemon's unix socket: never open wider than meant, never taken from a daemon that lives.

use std::{
    fs, io,
    os::{
        fd::OwnedFd,
        unix::{
            fs::{FileTypeExt, MetadataExt, PermissionsExt, chown},
            net::UnixListener,
        },
    },
    path::{Path, PathBuf},
};

use rustix::{
    io::Errno,
    net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, connect, listen, socket_with},
};

use super::call::Callers;
use crate::host::{
    modes,
    users::{group_id, user_ids},
};

/// How many connections the kernel keeps until they are accepted.
const BACKLOG: i32 = 128;

/// Why the socket cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// A daemon answers on it.
    #[error("another tenantd already listens on {path}; a second one on a host needs another socket in host.yaml", path = .0.display())]
    Live(PathBuf),
    /// Something else has the name.
    #[error("{path} is in the way: it is not a socket", path = .0.display())]
    NotASocket(PathBuf),
    /// There is no such group.
    #[error("there is no group {0:?} on this host")]
    NoSuchGroup(String),
    /// There is no such user.
    #[error("there is no user {0:?} on this host")]
    NoSuchUser(String),
    /// The path is relative, or longer than the kernel allows for a socket.
    #[error("{path} cannot be a socket's path: it must be absolute and at most 100 bytes long", path = .0.display())]
    Path(PathBuf),
    /// The kernel refuses.
    #[error("cannot {action} {path}", path = path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// With what.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
}

/// Who may make the calls of a socket, by number, as the kernel names who connects.
#[derive(Clone, Copy, Debug)]
pub(super) enum Admitted {
    Root,
    /// All whom the kernel lets in, who are root and this group.
    Group(u32),
    /// Root and this user; the group is that user's.
    User {
        user: u32,
        group: u32,
    },
}

impl Admitted {
    /// Looks up who is meant.
    ///
    /// # Errors
    /// There is no such user or group.
    pub(super) fn of(callers: &Callers) -> Result<Self, SocketError> {
        match callers {
            Callers::Root => Ok(Self::Root),
            Callers::Group(name) => {
                let group = group_id(name).map_err(|e| unreadable("/etc/group", e))?;
                group.map(Self::Group).ok_or_else(|| SocketError::NoSuchGroup(name.clone()))
            }
            Callers::User(name) => {
                let ids = user_ids(name).map_err(|e| unreadable("/etc/passwd", e))?;
                let admitted = ids.map(|(user, group)| Self::User { user, group });
                admitted.ok_or_else(|| SocketError::NoSuchUser(name.clone()))
            }
        }
    }

    /// The group, if any, that may open the socket.
    fn group(self) -> Option<u32> {
        match self {
            Self::Root => None,
            Self::Group(group) | Self::User { group, .. } => Some(group),
        }
    }

    /// Whether a user that could open the socket may make a call.
    pub(super) fn admit(self, user: u32) -> bool {
        match self {
            Self::Root => user == 0,
            Self::Group(_) => true,
            Self::User { user: one, .. } => user == 0 || user == one,
        }
    }
}

fn unreadable(path: &str, source: io::Error) -> SocketError {
    SocketError::Io { action: "read", path: PathBuf::from(path), source }
}

/// A listening socket, whose name goes when this is dropped.
#[derive(Debug)]
pub struct Socket {
    path: PathBuf,
    /// The device and inode that the name led to at first.
    identity: (u64, u64),
    listener: UnixListener,
}

impl Socket {
    /// Listens on a path, for root and whoever else is admitted.
    ///
    /// A missing folder is made, for the same ones. The socket gets its owner and mode under another
    /// name, which accepts nobody yet, and then its own. One that a daemon left behind is replaced.
    ///
    /// # Errors
    /// A daemon listens there already, or the kernel refuses.
    pub(super) fn listen(path: &Path, admitted: Admitted) -> Result<Self, SocketError> {
        let parent = path.parent().filter(|_| path.is_absolute() && path.as_os_str().len() <= 100);
        let (Some(folder), Some(name)) = (parent, path.file_name()) else {
            return Err(SocketError::Path(path.to_owned()));
        };
        let failed = |action, path: &Path| {
            let path = path.to_owned();
            move |source: io::Error| SocketError::Io { action, path, source }
        };
        let gid = admitted.group();
        make_folder(folder, gid)?;
        refuse_taken(path)?;

        let mut new = name.to_owned();
        new.push(".new");
        let new = folder.join(new);
        match fs::remove_file(&new) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(failed("remove", &new)(e)),
            _ => {}
        }
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let opened = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None);
        let socket: OwnedFd = opened.map_err(io::Error::from).map_err(failed("make", path))?;
        let address = address(&new)?;
        bind(&socket, &address).map_err(io::Error::from).map_err(failed("make", &new))?;
        chown(&new, None, gid).map_err(failed("give a group to", &new))?;
        let mode = if gid.is_some() { 0o660 } else { 0o600 };
        fs::set_permissions(&new, fs::Permissions::from_mode(mode)).map_err(failed("set the mode of", &new))?;
        listen(&socket, BACKLOG).map_err(io::Error::from).map_err(failed("listen on", &new))?;
        fs::rename(&new, path).map_err(failed("put in place", path))?;
        let identity = identity(path).map_err(failed("look at", path))?;
        Ok(Self { path: path.to_owned(), identity, listener: UnixListener::from(socket) })
    }

    /// A listener for the event loop, which must be running.
    ///
    /// # Errors
    /// The event loop refuses it.
    pub(super) fn listener(&self) -> io::Result<tokio::net::UnixListener> {
        tokio::net::UnixListener::from_std(self.listener.try_clone()?)
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        // Another daemon may have the name by now.
        if identity(&self.path).is_ok_and(|now| now == self.identity) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn identity(path: &Path) -> io::Result<(u64, u64)> {
    fs::symlink_metadata(path).map(|metadata| (metadata.dev(), metadata.ino()))
}

fn address(path: &Path) -> Result<SocketAddrUnix, SocketError> {
    SocketAddrUnix::new(path).map_err(|_| SocketError::Path(path.to_owned()))
}

/// Makes the folder where it is missing. One that is there keeps its owner and mode, unless everybody could put another
/// socket into the place of the daemon's there.
fn make_folder(folder: &Path, gid: Option<u32>) -> Result<(), SocketError> {
    let failed = |source| SocketError::Io { action: "make", path: folder.to_owned(), source };
    if folder.is_dir() {
        return modes::close_to_writers(folder).map_err(failed);
    }
    if let Some(parent) = folder.parent() {
        // Whoever is to reach the socket must get there.
        modes::make(parent, 0o755).map_err(failed)?;
    }
    modes::make(folder, modes::FOLDER).map_err(failed)?;
    if gid.is_some() {
        chown(folder, None, gid).map_err(failed)?;
        fs::set_permissions(folder, fs::Permissions::from_mode(0o750)).map_err(failed)?;
    }
    Ok(())
}

/// Fails unless the path is free, or a socket on which nobody listens any more.
fn refuse_taken(path: &Path) -> Result<(), SocketError> {
    let failed = |source: io::Error| SocketError::Io { action: "look at", path: path.to_owned(), source };
    match fs::symlink_metadata(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(failed(e)),
        Ok(metadata) if !metadata.file_type().is_socket() => return Err(SocketError::NotASocket(path.to_owned())),
        Ok(_) => {}
    }
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let probe = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None).map_err(|e| failed(e.into()))?;
    match connect(&probe, &address(path)?) {
        Err(Errno::CONNREFUSED | Errno::NOENT) => Ok(()),
        // A full queue is that of a daemon that is busy.
        Ok(()) | Err(Errno::AGAIN) => Err(SocketError::Live(path.to_owned())),
        Err(e) => Err(failed(e.into())),
    }
}
