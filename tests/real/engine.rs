//! A private engine for one group of cases, and what is done to it behind tenantd's back.

use std::{
    ffi::OsStr,
    fs,
    io::{Read, Write},
    net::Shutdown,
    os::unix::{fs::PermissionsExt, net::UnixStream},
    path::{Path, PathBuf},
    process::{Command, Output},
    sync::{Condvar, Mutex, OnceLock, PoisonError},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use serde_json::{Value, json};
use tempfile::TempDir;

/// How many engines run at once. Each takes some 100 MB and as much processor as it gets.
const AT_ONCE: usize = 3;

static RUNNING: Mutex<usize> = Mutex::new(0);
static ENDED: Condvar = Condvar::new();

/// The image that tenants of these tests run.
pub const IMAGE: &str = "tenantd-agent:1";

/// A Docker Engine with a data folder and namespaces of its own, removed with everything in it.
pub struct PrivateEngine {
    folder: TempDir,
}

impl PrivateEngine {
    /// Starts an engine that has the agent's image. `name` shows in the paths of a failure.
    pub fn start(name: &str, options: &[&str]) -> Self {
        let mut running = RUNNING.lock().unwrap_or_else(PoisonError::into_inner);
        while *running >= AT_ONCE {
            running = ENDED.wait(running).unwrap_or_else(PoisonError::into_inner);
        }
        *running += 1;
        drop(running);
        let base = base();
        fs::create_dir_all(&base).expect("the folder of TENANTD_TEST_DIR can be made");
        let folder = tempfile::Builder::new().prefix(&format!("td-{name}.")).tempdir_in(&base);
        let engine = Self { folder: folder.expect("a folder for the engine can be made") };
        if options.contains(&"--userns-remap") {
            engine.let_pass();
        }
        engine.up(options);
        engine.build_image(IMAGE, None);
        engine
    }

    /// Lets other users pass its folder, as an engine needs whose containers have users of their own.
    pub fn let_pass(&self) {
        fs::set_permissions(self.dir(), fs::Permissions::from_mode(0o711)).expect("the folder is ours");
    }

    /// Starts the engine, or starts it again after [`Self::stop`].
    pub fn up(&self, options: &[&str]) {
        let mut command = self.script("up");
        // A file takes what is said: the engine would keep a pipe open for as long as it runs.
        let said = self.dir().join("up.log");
        let log = fs::File::create(&said).expect("a log file can be made");
        let status = command.args(options).stdout(log.try_clone().expect("a file has a second handle")).stderr(log);
        assert!(
            status.status().is_ok_and(|status| status.success()),
            "private-engine up failed (tests/engine/install-packages installs what it needs): {}",
            fs::read_to_string(&said).unwrap_or_default()
        );
    }

    /// Kills the engine and its containers, and keeps its data.
    pub fn stop(&self) {
        succeed(self.script("stop"));
    }

    /// The folder that it lies in; what is made below is seen by the engine as well.
    pub fn dir(&self) -> &Path {
        self.folder.path()
    }

    /// Its socket.
    pub fn socket(&self) -> PathBuf {
        self.dir().join("docker.sock")
    }

    /// Makes the agent's image under a tag, and returns its id.
    pub fn build_image(&self, tag: &str, variant: Option<&str>) -> String {
        let mut command = Command::new(repository("tests/agent/build-image"));
        command.arg(self.socket()).arg(tag).args(variant.map(|text| ["--variant", text]).into_iter().flatten());
        succeed(command).trim().to_owned()
    }

    fn script(&self, verb: &str) -> Command {
        let mut command = Command::new(repository("tests/engine/private-engine"));
        command.arg(verb).arg(self.dir()).env_remove("pdeathsig");
        command
    }

    /// A command in the engine's network namespace, as the host of its containers sees the network.
    pub fn in_network<S: AsRef<OsStr>>(&self, words: &[S]) -> Command {
        let mut command = self.script("netns");
        command.args(words);
        command
    }

    /// A command in all of the engine's namespaces, as on its own machine.
    pub fn within<S: AsRef<OsStr>>(&self, words: &[S]) -> Command {
        let mut command = self.script("enter");
        command.args(words);
        command
    }

    /// The words before a command that has it run in all of the engine's namespaces, by which it becomes that command.
    pub fn enter(&self) -> Vec<String> {
        let command = self.script("enter");
        let words = std::iter::once(command.get_program()).chain(command.get_args());
        words.map(|word| word.to_string_lossy().into_owned()).collect()
    }

    /// The docker command on this engine.
    pub fn docker(&self, words: &[&str]) -> Command {
        // The engine never tells the end of some commands that its runtime has lost.
        let mut command = Command::new("timeout");
        command.args(["--kill-after=1", "60", "docker"]);
        for name in ["DOCKER_CONTEXT", "DOCKER_API_VERSION", "DOCKER_TLS_VERIFY"] {
            command.env_remove(name);
        }
        command.env("DOCKER_HOST", format!("unix://{}", self.socket().display())).args(words);
        command
    }

    /// Runs the agent inside a tenant's container, and returns what it printed and whether it succeeded.
    ///
    /// The engine may wait for ever for a command whose sandbox has ended: it is given twenty seconds.
    pub fn agent(&self, tenant: &str, words: &[&str]) -> (bool, String) {
        let name = format!("tenantd-{tenant}");
        let docker = self.docker(&[&["exec", &name, "/agent"], words].concat());
        let mut bounded = Command::new("timeout");
        bounded.args(["--kill-after=5", "20"]).arg(docker.get_program()).args(docker.get_args());
        for (name, value) in docker.get_envs() {
            match value {
                Some(value) => bounded.env(name, value),
                None => bounded.env_remove(name),
            };
        }
        let output = bounded.output().expect("docker exec runs");
        (output.status.success(), said(&output))
    }

    /// Whether gVisor can be tested here: its runtime starts something, which is found out once by trying. The runsc of Debian
    /// sid starts nothing. What a test leaves out for that is written down, and told at the end of `make test`.
    pub fn tests_gvisor(&self) -> bool {
        static STARTS: OnceLock<bool> = OnceLock::new();
        let starts = *STARTS.get_or_init(|| {
            let version = Command::new("runsc").arg("--version").status();
            assert!(
                version.is_ok_and(|status| status.success()),
                "runsc is missing: see tests/engine/install-packages"
            );
            let words = ["run", "--rm", "--network=none", "--runtime=runsc", IMAGE, "id"];
            self.docker(&words).status().is_ok_and(|status| status.success())
        });
        if !starts {
            let test = std::thread::current().name().unwrap_or("a test").to_owned();
            println!("left out: what {test} does with gVisor, since runsc starts nothing here");
            let list = fs::OpenOptions::new().create(true).append(true).open(base().join("left-out"));
            writeln!(list.expect("a list can be made"), "{test}").expect("a list can be written");
        }
        starts
    }

    /// One call to the engine's API: the status and the answer.
    pub fn call(&self, method: &str, path: &str, body: Option<&Value>) -> (u16, Value) {
        let mut stream = UnixStream::connect(self.socket()).expect("the engine's socket accepts a connection");
        stream.set_read_timeout(Some(Duration::from_secs(120))).expect("a socket takes a time limit");
        let body = body.map_or_else(String::new, Value::to_string);
        // HTTP/1.0: the answer comes as it is, without chunks, and ends with the connection.
        write!(
            stream,
            "{method} /v1.41{path} HTTP/1.0\r\nHost: docker\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\n\r\n{body}",
            body.len()
        )
        .expect("the engine reads a request");
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).expect("the engine answers in time");
        let _ = stream.shutdown(Shutdown::Both);
        let answer = String::from_utf8_lossy(&answer);
        let (head, body) = answer.split_once("\r\n\r\n").expect("the engine answers with HTTP");
        let status = head.split(' ').nth(1).and_then(|code| code.parse().ok()).expect("the answer has a status");
        (status, serde_json::from_str(body).unwrap_or_else(|_| json!(body)))
    }

    /// A call that must succeed.
    pub fn must(&self, method: &str, path: &str, body: Option<&Value>) -> Value {
        let (status, answer) = self.call(method, path, body);
        assert!(matches!(status, 200..=299 | 304), "{method} {path} is answered by {status} {answer}; sent: {body:?}");
        answer
    }

    /// A document of the engine.
    pub fn get(&self, path: &str) -> Value {
        self.must("GET", path, None)
    }

    /// A container's inspect document.
    pub fn inspect(&self, name: &str) -> Value {
        self.get(&format!("/containers/{name}/json"))
    }

    /// A container's full id and the time of its last start.
    pub fn identity(&self, name: &str) -> (String, String) {
        let container = self.inspect(name);
        (text(&container["Id"]), text(&container["State"]["StartedAt"]))
    }

    /// Makes a container, whatever warnings come with it; returns its id and the warnings.
    pub fn create(&self, name: &str, body: &Value) -> (String, Vec<String>) {
        let answer = self.must("POST", &format!("/containers/create?name={name}"), Some(body));
        let warnings = answer["Warnings"].as_array().into_iter().flatten().map(text).collect();
        (text(&answer["Id"]), warnings)
    }

    /// Makes and starts a container that is nobody's, on the network named.
    pub fn foreign(&self, name: &str, network: &str) -> String {
        let body = json!({"Image": IMAGE, "Cmd": ["sleep"], "HostConfig": {"NetworkMode": network}});
        let (id, _) = self.create(name, &body);
        self.must("POST", &format!("/containers/{id}/start"), None);
        id
    }

    /// Removes a container at once.
    pub fn remove(&self, name: &str) {
        self.must("DELETE", &format!("/containers/{name}?force=1&v=1"), None);
    }

    /// A network's document, if there is one of this name.
    pub fn network(&self, name: &str) -> Option<Value> {
        self.get("/networks").as_array()?.iter().find(|network| network["Name"] == name).cloned()
    }

    /// Puts a container on a network, or takes it off.
    pub fn attach(&self, verb: &str, network: &str, container: &str) {
        let body = json!({"Container": container, "Force": true});
        self.must("POST", &format!("/networks/{network}/{verb}"), Some(&body));
    }

    /// What happened since `start`, in its order.
    pub fn events(&self, start: Duration) -> Vec<Value> {
        let now = clock();
        let time = |at: Duration| format!("{}.{:09}", at.as_secs(), at.subsec_nanos());
        let (status, answer) = self.call("GET", &format!("/events?since={}&until={}", time(start), time(now)), None);
        assert_eq!(status, 200, "the engine reports its events");
        // One document is parsed by `call`, several are text.
        match answer {
            Value::String(lines) => lines.lines().filter_map(|line| serde_json::from_str(line).ok()).collect(),
            one => vec![one],
        }
    }

    /// Processes whose command line holds `word`, on the whole machine: pid and command line.
    pub fn processes(word: &str) -> Vec<(u32, String)> {
        let entries = fs::read_dir("/proc").expect("/proc can be read");
        entries
            .flatten()
            .filter_map(|entry| {
                let pid: u32 = entry.file_name().to_str()?.parse().ok()?;
                let line = fs::read(entry.path().join("cmdline")).ok()?;
                let line = String::from_utf8_lossy(&line).replace('\0', " ");
                (line.contains(word) && pid != std::process::id()).then_some((pid, line))
            })
            .collect()
    }
}

impl Drop for PrivateEngine {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = fs::read_to_string(self.dir().join("dockerd.log")).unwrap_or_default();
            let last: Vec<&str> = log.lines().rev().take(15).collect();
            println!("the engine's last words:");
            last.iter().rev().for_each(|line| println!("  {line}"));
        }
        let _ = self.script("down").status();
        *RUNNING.lock().unwrap_or_else(PoisonError::into_inner) -= 1;
        ENDED.notify_one();
    }
}

/// The time, in the form that the engine's events have.
pub fn clock() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("the clock is past 1970")
}

/// The folder in which engines get theirs.
fn base() -> PathBuf {
    std::env::var_os("TENANTD_TEST_DIR").map_or_else(|| PathBuf::from("/var/tmp"), PathBuf::from)
}

/// A path in the repository.
pub fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// A JSON string's text.
pub fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

/// Both streams of a command that has ended.
pub fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// Runs a command that must succeed, and returns what it printed.
pub fn succeed(mut command: Command) -> String {
    let output = command.output().unwrap_or_else(|e| panic!("{command:?} cannot be run: {e}"));
    assert!(output.status.success(), "{command:?} failed with {}: {}", output.status, said(&output));
    String::from_utf8_lossy(&output.stdout).into_owned()
}
