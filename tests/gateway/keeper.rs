//! What keeps a gateway's sockets while it is restarted, as systemd does for its unit.

use std::{
    collections::BTreeMap,
    fs,
    io::IoSliceMut,
    os::{
        fd::{AsRawFd, RawFd},
        unix::{fs::PermissionsExt, net::UnixDatagram},
    },
    path::PathBuf,
    process::Command,
    sync::{Arc, Mutex},
    thread,
};

use nix::sys::socket::{ControlMessageOwned, MsgFlags, UnixAddr, recvmsg};

/// It lives as long as the tests.
#[derive(Clone)]
pub struct Keeper {
    path: PathBuf,
    /// Descriptors of this process that others inherit, by name.
    kept: Arc<Mutex<BTreeMap<String, RawFd>>>,
}

impl Keeper {
    pub fn start(name: &str) -> Self {
        let path = PathBuf::from(format!("/run/{name}.sock"));
        let socket = UnixDatagram::bind(&path).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o777)).unwrap();
        let keeper = Self { path, kept: Arc::default() };
        let kept = Arc::clone(&keeper.kept);
        thread::spawn(move || {
            loop {
                receive(&socket, &kept);
            }
        });
        keeper
    }

    /// What is kept.
    pub fn names(&self) -> Vec<String> {
        self.kept.lock().unwrap().keys().cloned().collect()
    }

    /// A program that is given all that is kept.
    pub fn command(&self, program: &str) -> Command {
        let kept = self.kept.lock().unwrap();
        let (names, descriptors): (Vec<&str>, Vec<RawFd>) = kept.iter().map(|(name, fd)| (name.as_str(), *fd)).unzip();
        // First to where none of them is, then to where systemd puts them.
        let high: String =
            descriptors.iter().enumerate().map(|(at, fd)| format!("exec {}<&{fd}; ", 200 + at)).collect();
        let low: String = (0..descriptors.len()).map(|at| format!("exec {}<&{}; ", 3 + at, 200 + at)).collect();
        let script = format!("{high}{low}LISTEN_PID=$$ exec \"$0\" \"$@\"");
        let mut command = Command::new("bash");
        command.args(["-c", &script, program]).env("NOTIFY_SOCKET", &self.path);
        command.env("LISTEN_FDS", descriptors.len().to_string()).env("LISTEN_FDNAMES", names.join(":"));
        command
    }
}

/// Takes one message.
fn receive(socket: &UnixDatagram, kept: &Mutex<BTreeMap<String, RawFd>>) {
    let mut bytes = [0; 4096];
    let mut control = nix::cmsg_space!([RawFd; 4]);
    let mut parts = [IoSliceMut::new(&mut bytes)];
    let Ok(message) = recvmsg::<UnixAddr>(socket.as_raw_fd(), &mut parts, Some(&mut control), MsgFlags::empty()) else {
        return;
    };
    let received: Vec<RawFd> = message
        .cmsgs()
        .unwrap()
        .flat_map(|part| match part {
            ControlMessageOwned::ScmRights(descriptors) => descriptors,
            _ => Vec::new(),
        })
        .collect();
    let length = message.bytes;
    let text = String::from_utf8_lossy(&bytes[..length]).into_owned();
    let value = |key: &str| text.lines().find_map(|line| line.strip_prefix(key));
    let name = value("FDNAME=").unwrap_or_default().to_owned();
    let mut kept = kept.lock().unwrap();
    if value("FDSTOREREMOVE=1").is_some() {
        if let Some(descriptor) = kept.remove(&name) {
            nix::unistd::close(descriptor).unwrap();
        }
    } else if let Some(descriptor) = received.first() {
        kept.insert(name, *descriptor);
    }
}
