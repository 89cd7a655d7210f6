//! A simulated Docker Engine that speaks the real HTTP API over a unix socket.
//!
//! The real client and the real binary are tested through it: the socket is the only seam. It holds
//! containers and networks as the documents that inspect answers, fills in what the real engine
//! fills in, refuses what it refuses with its words and statuses, and breaks on demand. Its answers
//! and events were compared with those of 20.10.24 over 131 calls.
//!
//! Not simulated: exec, attach, wait, stats, volumes as objects, builds, pulls, Swarm; processes
//! (a container runs until somebody ends it, see [`State::exit`], or ends
//! with the code of its variable `SIM_EXIT` right after its start); the age in a list's `Status`; and
//! that a listener who stops reading slows the engine down.
//!
//! ```
//! use tenantd_test_support::{Options, SimEngine, When};
//!
//! let engine = SimEngine::start(Options::engine("20.10"));
//! // … a client talks to engine.socket() …
//! engine.act("POST", "/containers/create?name=t-one", &serde_json::json!({"Image": "tenantd/test:1"}));
//! engine.with(|state| state.container_mut("t-one")["HostConfig"]["PidsLimit"] = 7.into());
//! engine.cut_after(3, When::AfterEffect);
//! assert_eq!(engine.mutations(), 0);
//! ```

mod containers;
mod create;
mod events;
mod faults;
mod networks;
mod options;
mod routes;
mod server;
mod state;
mod system;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;
use tokio::sync::oneshot;

pub use faults::{Call, When};
pub use options::{Image, Limits, Options, Runtime, recorded_engines};
pub use state::{Kept, State};

use server::Shared;

/// An engine that runs on a thread of its own until it is dropped.
pub struct SimEngine {
    shared: Arc<Shared>,
    socket: PathBuf,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
    _directory: TempDir,
}

impl SimEngine {
    /// Starts an engine on a socket in a temporary directory. It answers when this returns.
    ///
    /// # Panics
    ///
    /// When the machine has no room for a directory, a socket or a thread.
    #[must_use]
    pub fn start(options: Options) -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory for the engine's socket");
        let socket = directory.path().join("docker.sock");
        let listener = std::os::unix::net::UnixListener::bind(&socket).expect("the engine's socket");
        listener.set_nonblocking(true).expect("a socket can be made non-blocking");
        let shared = Arc::new(Shared::new(State::new(options)));
        let (stop, stopped) = oneshot::channel();
        let served = Arc::clone(&shared);
        let run = move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.expect("a runtime for the engine").block_on(async move {
                let listener = tokio::net::UnixListener::from_std(listener).expect("the runtime takes the socket");
                tokio::select! {
                    () = server::serve(listener, served) => {}
                    _ = stopped => {}
                }
            });
        };
        let thread = std::thread::Builder::new().name("sim-engine".into()).spawn(run).expect("a thread for the engine");
        Self { shared, socket, stop: Some(stop), thread: Some(thread), _directory: directory }
    }

    /// The socket's path.
    #[must_use]
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// The socket as `DOCKER_HOST` takes it.
    #[must_use]
    pub fn url(&self) -> String {
        format!("unix://{}", self.socket.display())
    }

    /// Looks at the state, or tampers with it behind everybody's back. No call is answered meanwhile.
    pub fn with<T>(&self, look: impl FnOnce(&mut State) -> T) -> T {
        look(&mut self.shared.state())
    }

    /// [`State::act`]: an API call as somebody else's.
    ///
    /// # Panics
    ///
    /// When the call would hang or stream.
    #[expect(clippy::must_use_candidate, reason = "it acts")]
    pub fn act(&self, method: &str, path_and_query: &str, body: &Value) -> (u16, Value) {
        self.with(|state| state.act(method, path_and_query, body))
    }

    /// Copies of all containers' inspect documents, sorted by name.
    #[must_use]
    pub fn containers(&self) -> Vec<Value> {
        by_name(self.with(|state| state.containers().cloned().collect()))
    }

    /// Copies of all networks' inspect documents, sorted by name; bridge, host and none are among
    /// them.
    #[must_use]
    pub fn networks(&self) -> Vec<Value> {
        by_name(self.with(|state| state.networks().cloned().collect()))
    }

    /// [`State::dump`]: the world as text that two engines can be compared by.
    #[must_use]
    pub fn dump(&self) -> String {
        self.with(|state| state.dump())
    }

    /// All calls that came in over the socket, in order, those that were cut among them.
    #[must_use]
    pub fn calls(&self) -> Vec<Call> {
        self.shared.traffic().calls.clone()
    }

    /// The calls since the last time that this was asked.
    #[must_use]
    pub fn take_calls(&self) -> Vec<Call> {
        std::mem::take(&mut self.shared.traffic().calls)
    }

    /// How many calls over the socket changed something.
    #[must_use]
    pub fn mutations(&self) -> u64 {
        self.with(|state| state.mutations)
    }

    /// Cuts the connection at the `calls`-th call from now, counted from one, and at every later one
    /// until [`heal`](Self::heal): no answer comes. Only the first of them may still take effect.
    /// Open event streams end with it.
    ///
    /// # Panics
    ///
    /// When `calls` is zero.
    pub fn cut_after(&self, calls: u64, when: When) {
        self.cut_after_matching(calls, when, |_| true);
    }

    /// The same, counting only the calls that match. Once cut, all calls are.
    ///
    /// # Panics
    ///
    /// When `calls` is zero.
    pub fn cut_after_matching(&self, calls: u64, when: When, counts: impl Fn(&Call) -> bool + Send + 'static) {
        self.shared.traffic().faults.cut(calls, when, Box::new(counts));
    }

    /// Whether a cut has happened and is not healed.
    #[must_use]
    pub fn is_cut(&self) -> bool {
        self.shared.traffic().faults.is_cut()
    }

    /// Calls that match get no answer until [`release`](Self::release); then they take effect, even
    /// those whose clients have gone.
    pub fn hang(&self, matches: impl Fn(&Call) -> bool + Send + 'static) {
        self.shared.traffic().faults.hang(Box::new(matches));
    }

    /// Calls that match take that much longer.
    pub fn slow(&self, matches: impl Fn(&Call) -> bool + Send + 'static, delay: Duration) {
        self.shared.traffic().faults.slow(Box::new(matches), delay);
    }

    /// Calls that match are refused and have no effect.
    pub fn fail(&self, matches: impl Fn(&Call) -> bool + Send + 'static, status: u16, message: &str) {
        self.shared.traffic().faults.fail(Box::new(matches), status, message.to_owned());
    }

    /// Frees what hangs: calls held by [`hang`](Self::hang), and containers whose start hangs.
    pub fn release(&self) {
        self.shared.traffic().faults.release();
        self.with(|state| {
            let stuck = std::mem::take(&mut state.stuck);
            state.freed.extend(stuck);
        });
        self.shared.wake.send_replace(());
    }

    /// Ends all faults; what hangs is [released](Self::release).
    pub fn heal(&self) {
        self.shared.traffic().faults = faults::Faults::default();
        self.release();
    }

    /// Takes the engine away, as a crash does: its socket is gone, and so are its connections. What
    /// it holds stays, and [`State::act`] still works on it.
    ///
    /// # Panics
    ///
    /// When it is away already.
    pub fn leave(&self) {
        std::fs::rename(&self.socket, self.aside()).expect("the engine's socket is there");
        self.shared.traffic().faults.cut_all();
        self.end_event_streams();
    }

    /// Brings the engine back; all other faults end as well.
    ///
    /// # Panics
    ///
    /// When it is not away.
    pub fn come_back(&self) {
        self.heal();
        std::fs::rename(self.aside(), &self.socket).expect("the engine's socket was set aside");
    }

    fn aside(&self) -> PathBuf {
        self.socket.with_extension("away")
    }

    /// The most calls that waited for their answers at once since the last time that this was asked.
    #[must_use]
    pub fn take_most_open(&self) -> u64 {
        let mut traffic = self.shared.traffic();
        let open = traffic.open;
        std::mem::replace(&mut traffic.most_open, open)
    }

    /// How many connections are open, whether calls are under way on them or not.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.shared.traffic().connections
    }

    /// Ends all open event streams, as a restart of the real engine does.
    pub fn end_event_streams(&self) {
        self.with(|state| state.events.hang_up());
    }
}

impl Drop for SimEngine {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // A panic of the engine's thread was printed when it happened.
            let _ = thread.join();
        }
    }
}

fn by_name(mut documents: Vec<Value>) -> Vec<Value> {
    documents.sort_by_cached_key(|doc| doc["Name"].as_str().unwrap_or_default().to_owned());
    documents
}
