//! The gateway's network namespace: pinned under /run/netns as `ip netns` does, and without an egress path.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    io,
    os::fd::AsRawFd,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
};

use nix::{
    sched::{CloneFlags, setns, unshare},
    sys::socket::{AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, send, socket},
};
use rustix::{
    io::Errno,
    mount::{MountPropagationFlags, mount_bind, mount_bind_recursive, mount_change},
    thread::CapabilitySet,
};

use super::modes;

/// Where namespaces are pinned.
const FOLDER: &str = "/run/netns";

/// What `statfs` says of a pinned namespace: NSFS_MAGIC of linux/magic.h.
const NSFS: u64 = 0x6e73_6673;

/// Sysctls under /proc/sys/net of the namespace, in the order in which they are set: forwarding comes
/// first, since the kernel puts others back to their defaults with it.
const SYSCTLS: [(&str, &str); 25] = [
    // Nothing goes from one tenant's link to another's.
    ("ipv4/ip_forward", "0"),
    // A packet counts as coming from a tenant only on that tenant's link.
    ("ipv4/conf/all/rp_filter", "1"),
    ("ipv4/conf/default/rp_filter", "1"),
    // A link answers for its own address alone, and asks with it.
    ("ipv4/conf/all/arp_ignore", "1"),
    ("ipv4/conf/default/arp_ignore", "1"),
    ("ipv4/conf/all/arp_announce", "2"),
    ("ipv4/conf/default/arp_announce", "2"),
    // Redirects never change where packets go.
    ("ipv4/conf/all/accept_redirects", "0"),
    ("ipv4/conf/default/accept_redirects", "0"),
    ("ipv4/conf/all/secure_redirects", "0"),
    ("ipv4/conf/default/secure_redirects", "0"),
    ("ipv4/conf/all/send_redirects", "0"),
    ("ipv4/conf/default/send_redirects", "0"),
    ("ipv4/conf/all/accept_source_route", "0"),
    ("ipv4/conf/default/accept_source_route", "0"),
    ("ipv4/conf/all/route_localnet", "0"),
    ("ipv4/conf/default/route_localnet", "0"),
    ("ipv4/icmp_echo_ignore_all", "1"),
    // The gateway listens on ports below 1024 and is not root by then.
    ("ipv4/ip_unprivileged_port_start", "0"),
    ("ipv4/tcp_syncookies", "1"),
    // What the kernel keeps for a tenant that does not read, and of one that is not read. Links inside have no
    // delay that would need more.
    ("ipv4/tcp_wmem", "4096\t16384\t262144"),
    ("ipv4/tcp_rmem", "4096\t131072\t524288"),
    ("ipv6/conf/all/disable_ipv6", "1"),
    ("ipv6/conf/default/disable_ipv6", "1"),
    ("ipv6/conf/lo/disable_ipv6", "1"),
];

/// Why the namespace is not there.
#[derive(Debug, thiserror::Error)]
pub enum NamespaceError {
    /// The name is a path.
    #[error("{0:?} is not the name of a network namespace")]
    Name(String),
    /// The kernel refuses.
    #[error("cannot {action} {path}", path = path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
}

impl NamespaceError {
    fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { action, path, source }
    }
}

/// The file that a namespace is pinned as.
///
/// # Errors
/// The name is empty or a path.
pub fn path(name: &str) -> Result<PathBuf, NamespaceError> {
    if name.is_empty() || name.starts_with('.') || name.contains('/') || name.contains('\0') {
        return Err(NamespaceError::Name(name.to_owned()));
    }
    Ok(Path::new(FOLDER).join(name))
}

/// Makes the namespace where it is missing, and sets those of its sysctls that are not as they must be.
/// To do it again writes nothing.
///
/// It needs root, and the host's own mount namespace for others to see what is made.
///
/// # Errors
/// The kernel refuses.
pub fn prepare(name: &str) -> Result<(), NamespaceError> {
    let path = path(name)?;
    if !is_there(&path) {
        pin_new(&path)?;
    }
    set_sysctls_of(&path)?;
    if let Err(error) = keep_neighbours_apart(&path) {
        tracing::warn!(
            error = crate::fault::chain(&error),
            "tenants can find out which addresses of others are in use; nothing else is open to them"
        );
    }
    Ok(())
}

/// Has the kernel answer on a link for that link's own address alone, as if no other were there.
///
/// Which link a packet came by has no say in routes. The engine needs `iptables` and this match as well. A process
/// that may not, as the gateway's unit once it has been prepared, leaves it as it is.
fn keep_neighbours_apart(path: &Path) -> Result<(), NamespaceError> {
    const RULE: &str = "INPUT -m addrtype ! --dst-type LOCAL --limit-iface-in -j DROP";
    if !rustix::thread::capabilities(None).is_ok_and(|held| held.effective.contains(CapabilitySet::NET_ADMIN)) {
        return Ok(());
    }
    let iptables = |verb: &str| {
        let mut command = Command::new("iptables");
        command.args(["--wait", "5", verb]).args(RULE.split(' ')).stdin(Stdio::null()).output()
    };
    within(path, "filter what comes in with iptables in", || {
        if iptables("--check")?.status.success() {
            return Ok(());
        }
        let output = iptables("--append")?;
        let said = String::from_utf8_lossy(&output.stderr);
        if output.status.success() { Ok(()) } else { Err(io::Error::other(said.trim().to_owned())) }
    })
}

/// Runs something on a thread of its own inside a pinned namespace, and waits for its end. The caller
/// stays where it is.
///
/// # Errors
/// The namespace cannot be entered, or what runs inside fails; `action` says what that was.
pub fn within<T: Send>(
    path: &Path,
    action: &'static str,
    work: impl FnOnce() -> io::Result<T> + Send,
) -> Result<T, NamespaceError> {
    let inside = || {
        enter(path)?;
        work().map_err(NamespaceError::io(action, path))
    };
    on_thread(inside, path)
}

/// Opens a pinned namespace.
///
/// # Errors
/// The name is a path, or there is no such namespace.
pub fn open(name: &str) -> Result<File, NamespaceError> {
    let path = path(name)?;
    File::open(&path).map_err(NamespaceError::io("open the network namespace", &path))
}

/// The sockets of a namespace that TCP and UDP know, by their inodes.
///
/// # Errors
/// The namespace cannot be entered, or the kernel does not list them.
pub fn sockets(namespace: &File) -> Result<BTreeSet<u64>, NamespaceError> {
    let path = Path::new("/proc/thread-self/net");
    let failed = NamespaceError::io("list the sockets under", path);
    let namespace =
        namespace.try_clone().map_err(NamespaceError::io("open the network namespace in", Path::new(FOLDER)))?;
    let list = || {
        enter_open(namespace)?;
        let lists = ["tcp", "udp"].map(|kind| fs::read_to_string(path.join(kind)));
        let [tcp, udp] = lists;
        let text = tcp.and_then(|tcp| Ok(tcp + &udp?)).map_err(failed)?;
        // The inode is the tenth column.
        Ok(text.lines().filter_map(|line| line.split_whitespace().nth(9)?.parse().ok()).collect())
    };
    on_thread(list, path)
}

/// Moves the calling thread, and it alone, into a pinned namespace.
///
/// # Errors
/// It is not there, or the thread may not.
pub fn enter(path: &Path) -> Result<(), NamespaceError> {
    enter_open(File::open(path).map_err(NamespaceError::io("open the network namespace", path))?)
}

/// The same with one that was opened before.
///
/// # Errors
/// The thread may not.
pub fn enter_open(namespace: File) -> Result<(), NamespaceError> {
    let entered = setns(namespace, CloneFlags::CLONE_NEWNET).map_err(io::Error::from);
    entered.map_err(NamespaceError::io("enter the network namespace in", Path::new(FOLDER)))
}

fn on_thread<T: Send>(
    work: impl FnOnce() -> Result<T, NamespaceError> + Send,
    path: &Path,
) -> Result<T, NamespaceError> {
    let failed = NamespaceError::io("work in", path);
    thread::scope(|scope| match thread::Builder::new().name("namespace".to_owned()).spawn_scoped(scope, work) {
        Ok(thread) => thread.join().unwrap_or_else(|_| Err(failed(io::Error::other("the thread ended early")))),
        Err(source) => Err(failed(source)),
    })
}

/// Whether a namespace is pinned there; a plain file is what a restart of the host leaves at most.
pub fn is_there(path: &Path) -> bool {
    rustix::fs::statfs(path).is_ok_and(|found| u64::try_from(found.f_type) == Ok(NSFS))
}

fn pin_new(path: &Path) -> Result<(), NamespaceError> {
    let folder = Path::new(FOLDER);
    modes::make(folder, 0o755).map_err(NamespaceError::io("make", folder))?;
    share(folder)?;
    File::options().write(true).create(true).truncate(false).open(path).map_err(NamespaceError::io("make", path))?;
    let pin = || {
        unshare(CloneFlags::CLONE_NEWNET)
            .map_err(io::Error::from)
            .map_err(NamespaceError::io("make the network namespace", path))?;
        mount_bind("/proc/thread-self/ns/net", path)
            .map_err(io::Error::from)
            .map_err(NamespaceError::io("pin a network namespace as", path))
    };
    on_thread(pin, path)
}

/// Lets mount namespaces that were made before see what is pinned from now on.
fn share(folder: &Path) -> Result<(), NamespaceError> {
    let shared = MountPropagationFlags::SHARED | MountPropagationFlags::REC;
    let failed = |e: Errno| NamespaceError::io("share", folder)(e.into());
    match mount_change(folder, shared) {
        Ok(()) => return Ok(()),
        // It is no mount of its own yet.
        Err(Errno::INVAL) => {}
        Err(e) => return Err(failed(e)),
    }
    mount_bind_recursive(folder, folder).map_err(failed)?;
    mount_change(folder, shared).map_err(failed)
}

/// The sysctls of a pinned namespace that are not as they must be, such as `ipv4/ip_forward = 1`.
///
/// # Errors
/// The namespace cannot be entered, or a sysctl cannot be read.
pub fn open_sysctls(path: &Path) -> Result<Vec<String>, NamespaceError> {
    within(path, "read the sysctls of", || {
        let mut open = Vec::new();
        for (name, value) in SYSCTLS {
            match fs::read_to_string(Path::new("/proc/sys/net").join(name)) {
                // What a kernel does not have cannot be open.
                Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                Err(e) => return Err(e),
                Ok(found) if found.trim() == value => {}
                Ok(found) => open.push(format!("{name} = {}", found.trim())),
            }
        }
        Ok(open)
    })
}

/// Sets the sysctls of a pinned namespace, those that are not as they must be.
///
/// # Errors
/// The namespace cannot be entered, or the kernel refuses.
pub fn set_sysctls_of(path: &Path) -> Result<(), NamespaceError> {
    if open_sysctls(path)?.is_empty() { Ok(()) } else { within(path, "set the sysctls of", set_sysctls) }
}

fn set_sysctls() -> io::Result<()> {
    for (name, value) in SYSCTLS {
        let path = Path::new("/proc/sys/net").join(name);
        match fs::write(&path, value) {
            // A kernel without IPv6 has nothing to switch off.
            Err(e) if e.kind() == io::ErrorKind::NotFound && name.starts_with("ipv6/") => {}
            Err(e) => return Err(io::Error::new(e.kind(), format!("{}: {e}", path.display()))),
            Ok(()) => {}
        }
    }
    bring_up_loopback()
}

/// Sets IFF_UP on interface 1, which is `lo` in each namespace: one RTM_NEWLINK by netlink.
fn bring_up_loopback() -> io::Result<()> {
    const LENGTH: u32 = 32;
    const RTM_NEWLINK: u16 = 16;
    const REQUEST_AND_ACKNOWLEDGE: u16 = 5;
    const LOOPBACK: i32 = 1;
    const IFF_UP: u32 = 1;
    let mut message = Vec::new();
    // struct nlmsghdr
    message.extend(LENGTH.to_ne_bytes());
    message.extend(RTM_NEWLINK.to_ne_bytes());
    message.extend(REQUEST_AND_ACKNOWLEDGE.to_ne_bytes());
    message.extend(1u32.to_ne_bytes());
    message.extend(0u32.to_ne_bytes());
    // struct ifinfomsg: family and type, index, flags, mask of what changes
    message.extend([0u8; 4]);
    message.extend(LOOPBACK.to_ne_bytes());
    message.extend(IFF_UP.to_ne_bytes());
    message.extend(IFF_UP.to_ne_bytes());

    let flags = SockFlag::SOCK_CLOEXEC;
    let netlink = socket(AddressFamily::Netlink, SockType::Raw, flags, SockProtocol::NetlinkRoute)?;
    send(netlink.as_raw_fd(), &message, MsgFlags::empty())?;
    let mut answer = [0u8; 64];
    let length = recv(netlink.as_raw_fd(), &mut answer, MsgFlags::empty())?;
    // struct nlmsgerr: a negative errno, or zero for done.
    let code = answer.get(16..20).filter(|_| length >= 20).and_then(|bytes| bytes.try_into().ok());
    match code.map(i32::from_ne_bytes) {
        Some(0) => Ok(()),
        Some(code) => Err(io::Error::from_raw_os_error(-code)),
        None => Err(io::Error::other("netlink's answer is too short")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_no_path() {
        for bad in ["", ".", "..", "a/b", ".hidden", "a\0b"] {
            assert!(path(bad).is_err(), "{bad:?}");
        }
        assert!(path("tenantd").is_ok_and(|path| path == Path::new("/run/netns/tenantd")));
    }
}
