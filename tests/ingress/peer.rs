//! What says what the daemon would say on the socket of the ingress, and can be stopped and started as the daemon is.

use std::{
    fs,
    io::Write,
    os::unix::{fs::PermissionsExt, net::UnixListener, net::UnixStream},
    path::PathBuf,
    sync::{
        Arc, Condvar, Mutex, MutexGuard,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use serde::Serialize;
use tenantd::{
    model::ingress::{IngressState, StateContent, Waking},
    web::{
        Call,
        ingress::{ReadState, Wake},
    },
};

use crate::net::read_until;

/// How long a question for news is held.
const NEWS: Duration = Duration::from_secs(3);

/// How long the ingress may take to hear something.
const HEARD: Duration = Duration::from_secs(10);

pub struct Peer {
    socket: PathBuf,
    said: Arc<Said>,
    is_stopped: Mutex<Arc<AtomicBool>>,
}

/// What is said, to whoever listens.
struct Said {
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    version: u64,
    /// The version that the ingress has: it has asked what is newer.
    heard: u64,
    content: StateContent,
    woken: Vec<String>,
    connections: Vec<UnixStream>,
}

impl Peer {
    /// Says this from now on.
    pub fn start(socket: PathBuf, content: StateContent) -> Self {
        let state = State { version: 1, heard: 0, content, woken: Vec::new(), connections: Vec::new() };
        let said = Arc::new(Said { state: Mutex::new(state), changed: Condvar::new() });
        let peer = Self { socket, said, is_stopped: Mutex::default() };
        peer.restart();
        peer
    }

    /// Says something else from now on, and waits until that was heard.
    pub fn say(&self, change: impl FnOnce(&mut StateContent)) {
        let mut state = self.said.lock();
        change(&mut state.content);
        state.version += 1;
        self.said.changed.notify_all();
        let is_unheard = |state: &mut State| state.heard < state.version;
        let (state, _) = self.said.changed.wait_timeout_while(state, HEARD, is_unheard).unwrap();
        assert!(state.heard >= state.version, "the ingress does not hear its daemon");
    }

    /// Whom it was asked to wake.
    pub fn woken(&self) -> Vec<String> {
        self.said.lock().woken.clone()
    }

    /// Is there no more, and breaks off what it was saying.
    pub fn stop(&self) {
        self.is_stopped.lock().unwrap().store(true, Ordering::Relaxed);
        // Whoever accepts sees that it has ended.
        drop(UnixStream::connect(&self.socket));
        let _ = fs::remove_file(&self.socket);
        for stream in self.said.lock().connections.drain(..) {
            let _ = stream.shutdown(std::net::Shutdown::Both);
        }
    }

    /// Is there again.
    pub fn restart(&self) {
        let listener = UnixListener::bind(&self.socket).unwrap();
        fs::set_permissions(&self.socket, fs::Permissions::from_mode(0o666)).unwrap();
        let (said, is_stopped) = (Arc::clone(&self.said), Arc::new(AtomicBool::new(false)));
        *self.is_stopped.lock().unwrap() = Arc::clone(&is_stopped);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if is_stopped.load(Ordering::Relaxed) {
                    return;
                }
                let mut state = said.lock();
                state.connections.retain(|stream| stream.peer_addr().is_ok());
                state.connections.push(stream.try_clone().unwrap());
                drop(state);
                let said = Arc::clone(&said);
                thread::spawn(move || said.answer(stream));
            }
        });
    }
}

/// What a path of a call names; `None` where it is another call's.
fn named<'a>(paths: &[&str], asked: &'a str) -> Option<Option<&'a str>> {
    paths.iter().find_map(|path| match path.split_once('{') {
        None => (*path == asked).then_some(None),
        Some((before, rest)) => {
            let after = rest.split_once('}').unwrap().1;
            let name = asked.strip_prefix(before)?.strip_suffix(after)?;
            (!name.is_empty() && !name.contains('/')).then_some(Some(name))
        }
    })
}

impl Said {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// Answers one question. Whoever has asked may be gone.
    fn answer(&self, mut stream: UnixStream) {
        let head = read_until(&mut stream, "\r\n\r\n");
        let mut words = head.split(' ');
        let (Some(method), Some(path)) = (words.next(), words.next()) else { return };
        let answer = match (method, named(ReadState::PATHS, path), named(Wake::PATHS, path)) {
            ("GET", Some(after), _) => json(&self.news(after)),
            ("POST", _, Some(Some(tenant))) => {
                self.lock().woken.push(tenant.to_owned());
                json(&Waking { tenant: tenant.parse().unwrap() })
            }
            _ => "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".to_owned(),
        };
        let _ = stream.write_all(answer.as_bytes());
    }

    fn news(&self, after: Option<&str>) -> IngressState {
        let is_old = |state: &mut State| Some(state.version.to_string().as_str()) == after;
        let mut state = self.lock();
        if is_old(&mut state) {
            state.heard = state.version;
            self.changed.notify_all();
        }
        let (state, _) = self.changed.wait_timeout_while(state, NEWS, is_old).unwrap();
        let version = state.version.to_string();
        let content = (Some(version.as_str()) != after).then(|| state.content.clone());
        IngressState { version, content }
    }
}

fn json(answer: &impl Serialize) -> String {
    let body = serde_json::to_string(answer).unwrap();
    let length = body.len();
    format!(
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
    )
}
