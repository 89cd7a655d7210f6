//! What a proxy's process gives up before it reads the first byte of a tenant or of a client.
//!
//! It begins as root, because it must enter a network namespace. Then it moves into a root of its own, an
//! empty file system in memory with the few folders that it needs, becomes another user in all of its
//! threads, can gain no privilege any more, and is refused the system calls that it never makes.

use std::{
    collections::BTreeMap,
    fs::{self, File, OpenOptions},
    io,
    os::{
        fd::{AsFd, AsRawFd},
        unix::fs::{OpenOptionsExt, PermissionsExt, chown},
    },
    path::{Path, PathBuf},
};

use nix::{
    mount::{MntFlags, MsFlags, mount, umount2},
    sched::{CloneFlags, unshare},
    unistd::{Gid, Uid, setgroups, setresgid, setresuid},
};
use rustix::process::{
    DumpableBehavior, Resource, Rlimit, chdir, getrlimit, pivot_root, set_dumpable_behavior, setrlimit,
};
use seccompiler::{BpfProgram, SeccompAction, SeccompFilter};

use crate::host::{modes, users::user_ids};

/// What could not be given up; each step is needed, so that a failure ends the process.
#[derive(Debug, thiserror::Error)]
pub enum PrivilegeError {
    /// It was not started by root.
    #[error("this must be started by root; it becomes {0} once it has begun")]
    NotRoot(String),
    /// The user is not known.
    #[error("there is no user {0:?} on this host; make one with `useradd --system {0}`, or name another as {1}")]
    NoUser(String, &'static str),
    /// The user is root.
    #[error("{0} is root: nothing would be given up")]
    Root(&'static str),
    /// The kernel or the file system refused something.
    #[error("cannot {0}")]
    Refused(String, #[source] io::Error),
    /// The filter of system calls could not be put in force.
    #[error("cannot filter system calls")]
    Filter(#[source] Box<dyn std::error::Error + Send + Sync>),
}

fn refused<E: Into<io::Error>>(what: impl Into<String>) -> impl FnOnce(E) -> PrivilegeError {
    let what = what.into();
    move |error| PrivilegeError::Refused(what, error.into())
}

/// A user that is known and is not root.
#[derive(Clone, Copy, Debug)]
pub struct User {
    uid: Uid,
    gid: Gid,
}

impl User {
    /// Looks a user up that `setting` of the host's settings names.
    ///
    /// # Errors
    /// This process is not root's, or the user is not known or is root itself.
    pub fn of(name: &str, setting: &'static str) -> Result<Self, PrivilegeError> {
        if !Uid::effective().is_root() {
            return Err(PrivilegeError::NotRoot(name.to_owned()));
        }
        let ids = user_ids(name).map_err(refused("read /etc/passwd"))?;
        let (uid, gid) = ids.ok_or_else(|| PrivilegeError::NoUser(name.to_owned(), setting))?;
        if uid == 0 {
            return Err(PrivilegeError::Root(setting));
        }
        Ok(Self { uid: Uid::from_raw(uid), gid: Gid::from_raw(gid) })
    }
}

/// Who writes to a folder that is made for a process. Its user's group may read it, and nobody else.
#[derive(Clone, Copy, Debug)]
pub enum Writer {
    /// Root.
    Root,
    /// The process itself.
    Process,
}

/// Makes a folder, if it is missing, and has it belong to who writes to it.
///
/// # Errors
/// The file system refuses.
pub fn give(folder: &Path, writer: Writer, user: User) -> Result<(), PrivilegeError> {
    if let Some(parent) = folder.parent() {
        make_folder(parent, 0o755)?;
    }
    make_folder(folder, 0o750)?;
    let owner = match writer {
        Writer::Root => None,
        Writer::Process => Some(user.uid.as_raw()),
    };
    let given = chown(folder, owner, Some(user.gid.as_raw()))
        .and_then(|()| fs::set_permissions(folder, fs::Permissions::from_mode(0o750)));
    given.map_err(refused(format!("give {} away", folder.display())))
}

/// Moves this thread, and all that it starts later, into a root of its own. Call it before there are
/// others.
///
/// In it stand, at the paths that they have on the host: `own`, the process's own folder, which alone can be written,
/// what is `readable`, systemd's socket, and `settings`, the file with the host's settings, if there is one.
///
/// # Errors
/// Something cannot be made or mounted. The process must end then: it may stand between two roots.
pub fn enter(own: &Path, readable: &[&Path], settings: Option<&Path>) -> Result<(), PrivilegeError> {
    let notify = std::env::var_os("NOTIFY_SOCKET").map(PathBuf::from).filter(|path| path.is_absolute());

    unshare(CloneFlags::CLONE_NEWNS).map_err(refused("make a mount namespace"))?;
    let none = None::<&str>;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).map_err(refused("keep mounts apart"))?;
    // Opened in this namespace, and before the new root hides some of them.
    let mut binds = vec![Bind::new(own, true)?];
    for path in readable {
        binds.push(Bind::new(path, false)?);
    }
    // As a folder, so that a file that takes the place of the settings is seen.
    if let Some(folder) = settings.and_then(Path::parent).filter(|folder| *folder != Path::new("/")) {
        binds.push(Bind::new(folder, false)?);
    }
    if let Some(socket) = &notify {
        binds.push(Bind::new(socket, true)?);
    }
    // What lies in another one comes after it, so that neither hides the other.
    binds.sort_by(|one, other| one.path.cmp(&other.path));
    let root = own;
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    mount(Some("tmpfs"), root, Some("tmpfs"), flags, Some("mode=755,size=64k")).map_err(refused("make a root"))?;
    for bind in &binds {
        bind.mount_below(root)?;
    }
    let remount = flags | MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY;
    mount(none, root, none, remount, none).map_err(refused("close the root"))?;
    chdir(root).map_err(refused("enter the root"))?;
    // The old root comes to lie over the new one, and is taken away.
    pivot_root(".", ".").map_err(refused("change the root"))?;
    umount2(".", MntFlags::MNT_DETACH).map_err(refused("leave the old root"))?;
    chdir("/").map_err(refused("enter the root"))
}

fn make_folder(path: &Path, mode: u32) -> Result<(), PrivilegeError> {
    modes::make(path, mode).map_err(refused(format!("make {}", path.display())))
}

/// Something of the host that stays in sight, at its own path.
struct Bind {
    source: File,
    path: PathBuf,
    is_folder: bool,
    writable: bool,
}

impl Bind {
    fn new(path: &Path, writable: bool) -> Result<Self, PrivilegeError> {
        let source = open(path)?;
        let is_folder = source.metadata().map_err(refused(format!("look at {}", path.display())))?.is_dir();
        let path = path.strip_prefix("/").unwrap_or(path).to_owned();
        Ok(Self { source, path, is_folder, writable })
    }

    fn mount_below(&self, root: &Path) -> Result<(), PrivilegeError> {
        let target = root.join(&self.path);
        if self.is_folder {
            make_folder(&target, 0o755)?;
        } else if !target.exists() {
            make_folder(target.parent().unwrap_or(root), 0o755)?;
            File::create(&target).map_err(refused(format!("make {}", target.display())))?;
        }
        let source = format!("/proc/self/fd/{}", self.source.as_fd().as_raw_fd());
        let shown = || format!("mount /{}", self.path.display());
        let none = None::<&str>;
        mount(Some(source.as_str()), &target, none, MsFlags::MS_BIND, none).map_err(refused(shown()))?;
        let mut flags = MsFlags::MS_BIND | MsFlags::MS_REMOUNT | MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
        flags |= MsFlags::MS_NOEXEC;
        if !self.writable {
            flags |= MsFlags::MS_RDONLY;
        }
        mount(none, &target, none, flags, none).map_err(refused(shown()))
    }
}

fn open(path: &Path) -> Result<File, PrivilegeError> {
    let flags = i32::try_from(rustix::fs::OFlags::PATH.bits()).unwrap_or_default();
    let opened = OpenOptions::new().read(true).custom_flags(flags).open(path);
    opened.map_err(refused(format!("open {}", path.display())))
}

/// Becomes the process's own user in all threads that run, with no capability and no way to any, and filters
/// the system calls of all of them.
///
/// # Errors
/// The kernel refuses a step. The process must end then.
pub fn become_user(user: User) -> Result<(), PrivilegeError> {
    let most = getrlimit(Resource::Nofile).maximum;
    // As many descriptors as it may have, and no image of its memory on any disk.
    setrlimit(Resource::Nofile, Rlimit { current: most, maximum: most }).map_err(refused("take all descriptors"))?;
    setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) }).map_err(refused("forbid core dumps"))?;
    // The C library has every thread make these calls. Capabilities go with the last of them.
    setgroups(&[]).map_err(refused("leave all groups"))?;
    setresgid(user.gid, user.gid, user.gid).map_err(refused("change the group"))?;
    setresuid(user.uid, user.uid, user.uid).map_err(refused("change the user"))?;
    set_dumpable_behavior(DumpableBehavior::NotDumpable).map_err(refused("forbid traces"))?;
    filter().map_err(PrivilegeError::Filter)
}

/// How many descriptors this process may have.
pub fn descriptors() -> u64 {
    getrlimit(Resource::Nofile).current.unwrap_or(1 << 20)
}

/// The system calls that a proxy never makes, and an intruder would: other programs, other
/// processes, mounts, namespaces, the kernel itself.
const NEVER: &[nix::libc::c_long] = &[
    nix::libc::SYS_acct,
    nix::libc::SYS_add_key,
    nix::libc::SYS_bpf,
    nix::libc::SYS_chroot,
    nix::libc::SYS_clock_settime,
    nix::libc::SYS_delete_module,
    nix::libc::SYS_execve,
    nix::libc::SYS_execveat,
    nix::libc::SYS_finit_module,
    nix::libc::SYS_fsmount,
    nix::libc::SYS_fsopen,
    nix::libc::SYS_init_module,
    nix::libc::SYS_io_uring_setup,
    nix::libc::SYS_kexec_load,
    nix::libc::SYS_keyctl,
    nix::libc::SYS_mount,
    nix::libc::SYS_mount_setattr,
    nix::libc::SYS_move_mount,
    nix::libc::SYS_name_to_handle_at,
    nix::libc::SYS_open_by_handle_at,
    nix::libc::SYS_open_tree,
    nix::libc::SYS_perf_event_open,
    nix::libc::SYS_personality,
    nix::libc::SYS_pidfd_getfd,
    nix::libc::SYS_pivot_root,
    nix::libc::SYS_process_vm_readv,
    nix::libc::SYS_process_vm_writev,
    nix::libc::SYS_ptrace,
    nix::libc::SYS_quotactl,
    nix::libc::SYS_reboot,
    nix::libc::SYS_request_key,
    nix::libc::SYS_setdomainname,
    nix::libc::SYS_sethostname,
    nix::libc::SYS_setns,
    nix::libc::SYS_settimeofday,
    nix::libc::SYS_swapoff,
    nix::libc::SYS_swapon,
    nix::libc::SYS_syslog,
    nix::libc::SYS_umount2,
    nix::libc::SYS_unshare,
    nix::libc::SYS_userfaultfd,
];

/// Puts the filter in force for all threads; with it comes that no privilege can be gained.
fn filter() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let rules: BTreeMap<i64, Vec<_>> = NEVER.iter().map(|call| (*call, Vec::new())).collect();
    let refuse = SeccompAction::Errno(u32::try_from(nix::libc::EPERM)?);
    let filter = SeccompFilter::new(rules, SeccompAction::Allow, refuse, std::env::consts::ARCH.try_into()?)?;
    let program: BpfProgram = filter.try_into()?;
    Ok(seccompiler::apply_filter_all_threads(&program)?)
}
