//! What a tenant can do from inside, as the kernel's own values and refusals say, with runc and runsc.

use std::{
    fs,
    io::ErrorKind,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6, TcpListener, TcpStream, UdpSocket},
    os::{fd::AsFd, unix::fs::MetadataExt},
    process::Stdio,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use serde_json::json;

use crate::{
    engine::{IMAGE, PrivateEngine, text},
    fleet::{Fleet, case, eventually, names, run},
};

/// One tenant with runc, one with runsc, and a neighbour of both.
const RUNC: &str = "acme";
const RUNSC: &str = "zeta";
const BOTH: [&str; 2] = [RUNC, RUNSC];
const NEIGHBOUR: &str = "beta";

#[test]
fn tenants_are_isolated_inside() {
    let fleet = Fleet::start("inside");
    fleet.declare(RUNC, "");
    fleet.declare(RUNSC, fleet.gvisor());
    fleet.declare(NEIGHBOUR, "");
    fleet.converge();
    fleet.cases(vec![
        case("user, capabilities and filters", privileges),
        case("limits as the kernel has them", kernel_limits),
        case("files and calls that lead out", escapes),
        case("mounts", mounts),
        case("the workspace outlives the container", workspace),
        case("no network leads out", no_egress),
        case("no name is resolved", no_names),
        case("a fork bomb", fork_bomb),
        case("a memory bomb", memory_bomb),
    ]);
    fleet.end();
}

/// What the agent prints, when it must succeed.
fn agent(fleet: &Fleet, tenant: &str, words: &[&str]) -> String {
    let (succeeded, printed) = fleet.engine.agent(tenant, words);
    assert!(succeeded, "in {tenant} the agent can {words:?}: {printed}");
    printed
}

/// The agent must not succeed.
fn refused(fleet: &Fleet, tenant: &str, words: &[&str]) -> String {
    let (succeeded, printed) = fleet.engine.agent(tenant, words);
    assert!(!succeeded, "in {tenant} the agent cannot {words:?}: {printed}");
    printed
}

fn privileges(fleet: &Fleet) {
    for tenant in BOTH {
        let printed = agent(fleet, tenant, &["id"]);
        let value = |name: &str| {
            let line = printed.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
            line.unwrap_or_else(|| panic!("{tenant}: the kernel reports {name}:\n{printed}"))
        };
        assert_eq!(value("Uid"), "1000 1000 1000 1000", "{tenant} runs as user 1000");
        assert_eq!(value("Gid"), "1000 1000 1000 1000", "{tenant} runs as group 1000");
        assert!(["", "1000"].contains(&value("Groups")), "{tenant} is in no other group:\n{printed}");
        for set in ["CapInh", "CapPrm", "CapEff", "CapBnd"] {
            assert_eq!(value(set), "0000000000000000", "{tenant} has no capability in {set}");
        }
        if tenant == RUNC {
            assert_eq!(value("CapAmb"), "0000000000000000", "{tenant} has no ambient capability");
            assert_eq!(value("NoNewPrivs"), "1", "{tenant} can gain no privilege");
            assert_eq!(value("Seccomp"), "2", "{tenant} has its system calls filtered");
        }
    }
}

/// What the control group of a container says, for both versions of control groups.
fn kernel_limits(fleet: &Fleet) {
    let value = |v1: &str, v2: &str| {
        let (found, printed) = fleet.engine.agent(RUNC, &["cat", &format!("/sys/fs/cgroup/{v1}")]);
        if found {
            printed.trim().to_owned()
        } else {
            agent(fleet, RUNC, &["cat", &format!("/sys/fs/cgroup/{v2}")]).trim().to_owned()
        }
    };
    let look = |pids: &str| {
        assert_eq!(value("memory/memory.limit_in_bytes", "memory.max"), "536870912", "the kernel has the memory limit");
        let swap = value("memory/memory.memsw.limit_in_bytes", "memory.swap.max");
        assert!(["536870912", "0"].contains(&swap.as_str()), "the kernel allows no swap: {swap}");
        assert_eq!(value("pids/pids.max", "pids.max"), pids, "the kernel has the limit of processes");
        let cpu = value("cpu/cpu.cfs_quota_us", "cpu.max");
        assert!(cpu.starts_with("100000"), "the kernel has the limit of processors: {cpu}");
    };
    look("256");
    // A repair in place reaches the kernel too, and is not just written down.
    let update = json!({"PidsLimit": -1, "Memory": 1 << 30, "MemorySwap": 1 << 30, "NanoCpus": 2_000_000_000_i64});
    fleet.engine.must("POST", &format!("/containers/tenantd-{RUNC}/update"), Some(&update));
    fleet.converge();
    look("256");
    assert_eq!(
        fleet.engine.agent(RUNC, &["cat", "/proc/sys/net/ipv6/conf/all/disable_ipv6"]).1.trim(),
        "1",
        "IPv6 is off"
    );
}

fn escapes(fleet: &Fleet) {
    for tenant in BOTH {
        let printed = agent(fleet, tenant, &["escape"]);
        assert!(!printed.contains("OPEN"), "{tenant}: every attempt is refused:\n{printed}");
        assert!(printed.contains("refused run a program in /tmp"), "{tenant}: nothing in /tmp can be run:\n{printed}");
        refused(fleet, tenant, &["write", "/root-is-read-only", "text"]);
        refused(fleet, tenant, &["write", "/agent", "text"]);
        agent(fleet, tenant, &["write", "/tmp/scratch", "text"]);
        agent(fleet, tenant, &["write", "/workspace/scratch", "text"]);
        // 64 MiB of /tmp, and no more.
        let printed = refused(fleet, tenant, &["fill", "/tmp/full", "99000000"]);
        assert!(printed.contains("wrote 6"), "{tenant}: /tmp is full at its size: {printed}");
    }
}

fn mounts(fleet: &Fleet) {
    for tenant in BOTH {
        let printed = agent(fleet, tenant, &["mounts"]);
        let options = |target: &str| {
            let line = printed.lines().find(|line| line.split(' ').nth(1) == Some(target));
            let line = line.unwrap_or_else(|| panic!("{tenant} has {target}:\n{printed}"));
            line.split(' ').nth(3).unwrap().split(',').map(str::to_owned).collect::<Vec<_>>()
        };
        assert!(options("/").contains(&"ro".to_owned()), "{tenant}: the root is read-only:\n{printed}");
        let tmp = options("/tmp");
        // gVisor tells only what it acts on: inside it there are no devices and no set-id programs.
        let words: &[&str] = if tenant == RUNC { &["noexec", "nosuid", "nodev"] } else { &["noexec"] };
        for word in words {
            assert!(tmp.iter().any(|option| option == word), "{tenant}: /tmp is {word}:\n{printed}");
        }
        assert!(options("/workspace").contains(&"rw".to_owned()), "{tenant}: the workspace can be written:\n{printed}");
        let own: Vec<&str> = printed.lines().filter_map(|line| line.split(' ').nth(1)).collect();
        for target in own {
            let known = ["/", "/proc", "/dev", "/sys", "/tmp", "/workspace", "/etc/", "/sbin/docker-init"];
            assert!(
                known.iter().any(|k| target == *k
                    || target.starts_with(&format!("{k}/"))
                    || (k.ends_with('/') && target.starts_with(k))),
                "{tenant}: {target} is none of the mounts that every tenant has:\n{printed}"
            );
        }
    }
}

fn workspace(fleet: &Fleet) {
    for tenant in BOTH {
        agent(fleet, tenant, &["write", "/workspace/kept.txt", "kept"]);
        let path = fleet.data().join("workspaces").join(tenant).join("kept.txt");
        assert_eq!(fs::read_to_string(&path).unwrap(), "kept", "{tenant}: the file lies on the host");
        assert_eq!(fs::metadata(&path).unwrap().uid(), 1000, "{tenant}: as the tenant's");
        let old = fleet.engine.identity(&format!("tenantd-{tenant}")).0;
        fleet.recreate(tenant, true, |body| body["User"] = json!("0:0"));
        fleet.converge();
        assert_ne!(fleet.engine.identity(&format!("tenantd-{tenant}")).0, old, "{tenant} has another container");
        assert_eq!(agent(fleet, tenant, &["cat", "/workspace/kept.txt"]), "kept", "{tenant} finds its file there");
    }
    let root = fleet.data().join("workspaces");
    assert_eq!(fs::metadata(&root).unwrap().mode() & 0o777, 0o700, "only root enters the folder of all workspaces");
}

/// Runs work on a thread in the engine's network namespace.
pub fn inside_network<T: Send>(engine: &PrivateEngine, work: impl FnOnce() -> T + Send) -> T {
    // A process that is there shows the way in.
    let mut guide = engine.in_network(&["sleep", "60"]).stdout(Stdio::null()).spawn().unwrap();
    let link = format!("/proc/{}/ns/net", guide.id());
    let own = fs::read_link("/proc/self/ns/net").unwrap();
    eventually("a process enters the engine's network", || fs::read_link(&link).is_ok_and(|found| found != own));
    let namespace = fs::File::open(link).unwrap();
    guide.kill().unwrap();
    guide.wait().unwrap();
    thread::scope(|scope| {
        let work = scope.spawn(|| {
            move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))
                .expect("a thread enters the engine's network");
            work()
        });
        work.join().expect("the work in the engine's network succeeds")
    })
}

/// Something of the host that answers on every address of it, and counts who came.
struct Service {
    stop: Arc<AtomicBool>,
    visits: Arc<AtomicUsize>,
    thread: Option<JoinHandle<()>>,
}

impl Service {
    fn new(mut visit: impl FnMut() -> std::io::Result<()> + Send + 'static) -> Self {
        let (stop, visits) = (Arc::<AtomicBool>::default(), Arc::<AtomicUsize>::default());
        let (ended, count) = (stop.clone(), visits.clone());
        let thread = thread::spawn(move || {
            while !ended.load(Ordering::SeqCst) {
                match visit() {
                    Ok(()) => drop(count.fetch_add(1, Ordering::SeqCst)),
                    Err(e) if e.kind() == ErrorKind::WouldBlock => thread::sleep(Duration::from_millis(5)),
                    Err(e) => panic!("the service of the host breaks: {e}"),
                }
            }
        });
        Self { stop, visits, thread: Some(thread) }
    }

    /// TCP on every IPv4 and IPv6 address of the engine's network namespace.
    fn tcp(engine: &PrivateEngine, port: u16) -> Self {
        let listener = inside_network(engine, || TcpListener::bind((Ipv6Addr::UNSPECIFIED, port)).unwrap());
        listener.set_nonblocking(true).unwrap();
        Self::new(move || listener.accept().map(drop))
    }

    /// A name server that hears every question and answers none.
    fn dns(engine: &PrivateEngine) -> Self {
        let socket = inside_network(engine, || UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 53)).unwrap());
        socket.set_nonblocking(true).unwrap();
        Self::new(move || socket.recv(&mut [0; 512]).map(drop))
    }

    fn visits(&self) -> usize {
        self.visits.load(Ordering::SeqCst)
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

/// The link-local address of a tenant's bridge in the engine's namespace, and the interface's number.
fn link_local(fleet: &Fleet, tenant: &str) -> (Ipv6Addr, u32) {
    let network = fleet.engine.network(&format!("tenantd-{tenant}")).unwrap();
    let bridge = text(&network["Options"]["com.docker.network.bridge.name"]);
    let output = run(fleet.engine.in_network(&["ip", "-6", "-o", "address", "show", "dev", &bridge]));
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    let address = printed.split_whitespace().find_map(|word| word.strip_suffix("/64")?.parse::<Ipv6Addr>().ok());
    let index = printed.split(':').next().and_then(|index| index.trim().parse().ok());
    (address.unwrap_or_else(|| panic!("{bridge} has a link-local address: {printed}")), index.unwrap())
}

fn no_egress(fleet: &Fleet) {
    const PORT: u16 = 8091;
    // An address of the host that has nothing to do with Docker.
    let address = "10.200.0.1";
    crate::engine::succeed(fleet.engine.in_network(&["ip", "address", "add", &format!("{address}/32"), "dev", "lo"]));
    let service = Service::tcp(&fleet.engine, PORT);
    fleet.engine.foreign("visitor", "bridge");
    let docker0 = text(&fleet.engine.inspect("visitor")["NetworkSettings"]["Networks"]["bridge"]["Gateway"]);

    // The controls: the host itself reaches all of these, and a container that is no tenant some.
    let reached = |to: SocketAddr| {
        inside_network(&fleet.engine, || TcpStream::connect_timeout(&to, Duration::from_secs(2)).map(drop))
    };
    let v4 = |text: &str| SocketAddr::from((text.parse::<Ipv4Addr>().unwrap(), PORT));
    for text in [address, &docker0] {
        reached(v4(text)).unwrap_or_else(|e| panic!("the host itself reaches {text}: {e}"));
        let words = ["exec", "visitor", "/agent", "connect", &format!("{text}:{PORT}")];
        let printed = String::from_utf8_lossy(&run(fleet.engine.docker(&words)).stdout).into_owned();
        assert_eq!(printed.trim(), "connected", "a container that is no tenant reaches {text}");
    }
    for tenant in BOTH {
        let (local, index) = link_local(fleet, tenant);
        let to = SocketAddr::V6(SocketAddrV6::new(local, PORT, 0, index));
        reached(to).unwrap_or_else(|e| panic!("the host itself reaches {local}: {e}"));
    }
    let neighbour = fleet.engine.inspect(&format!("tenantd-{NEIGHBOUR}"));
    let own = format!("tenantd-{NEIGHBOUR}");
    let neighbour = text(&neighbour["NetworkSettings"]["Networks"][&own]["IPAddress"]);
    assert_eq!(agent(fleet, NEIGHBOUR, &["connect", &format!("{neighbour}:8080")]).trim(), "connected");

    let before = service.visits();
    for tenant in BOTH {
        let subnet = fleet.engine.network(&format!("tenantd-{tenant}")).unwrap()["IPAM"]["Config"][0].clone();
        let (local, _) = link_local(fleet, tenant);
        let visitor = text(&fleet.engine.inspect("visitor")["NetworkSettings"]["Networks"]["bridge"]["IPAddress"]);
        for to in [
            format!("{}:{PORT}", text(&subnet["Gateway"])),
            format!("{docker0}:{PORT}"),
            format!("{address}:{PORT}"),
            format!("{neighbour}:8080"),
            format!("{visitor}:8080"),
            "169.254.169.254:80".to_owned(),
            format!("[{local}%eth0]:{PORT}"),
            format!("[{local}]:{PORT}"),
        ] {
            let printed = refused(fleet, tenant, &["connect", &to, "300"]);
            assert!(!printed.contains("connected"), "{tenant} does not reach {to}: {printed}");
        }
    }
    assert_eq!(service.visits(), before, "nothing came to the host from a tenant");
    fleet.engine.remove("visitor");
}

fn no_names(fleet: &Fleet) {
    let service = Service::dns(&fleet.engine);
    let host = {
        fleet.engine.foreign("visitor", "bridge");
        let gateway = text(&fleet.engine.inspect("visitor")["NetworkSettings"]["Networks"]["bridge"]["Gateway"]);
        fleet.engine.remove("visitor");
        gateway
    };
    let body = json!({"Image": IMAGE, "Cmd": ["sleep"], "HostConfig": {"Dns": [host]}});
    let (visitor, _) = fleet.engine.create("visitor", &body);
    fleet.engine.must("POST", &format!("/containers/{visitor}/start"), None);
    run(fleet.engine.docker(&["exec", "visitor", "/agent", "lookup", "control.example"]));
    let before = service.visits();
    assert!(before > 0, "the control: a question of a container that is no tenant reaches the host's name server");
    for tenant in BOTH {
        for name in ["secret-data.attacker.example", "tenantd-beta"] {
            let printed = refused(fleet, tenant, &["lookup", name]);
            assert!(!printed.contains("10.77."), "{tenant} learns no address of {name}: {printed}");
        }
    }
    assert_eq!(service.visits(), before, "no question of a tenant came to the host");
    fleet.engine.remove("visitor");
}

fn fork_bomb(fleet: &Fleet) {
    let printed = agent(fleet, RUNC, &["fork", "300"]);
    let started: u32 = printed.split_whitespace().nth(1).unwrap().parse().unwrap();
    assert!((200..256).contains(&started), "the 256th process does not start: {printed}");
    bomb_in_gvisor(fleet, &["fork", "300"]);
}

/// What goes too far ends gVisor's whole sandbox. Nobody else feels it, and the next apply starts it again.
fn bomb_in_gvisor(fleet: &Fleet, words: &[&str]) {
    if !fleet.engine.tests_gvisor() {
        return;
    }
    let name = format!("tenantd-{RUNSC}");
    let other = fleet.engine.identity(&format!("tenantd-{NEIGHBOUR}"));
    // Detached: the engine never tells the end of a command whose sandbox ended under it.
    crate::engine::succeed(fleet.engine.docker(&[&["exec", "--detach", &name, "/agent"], words].concat()));
    eventually("gVisor's sandbox has ended", || fleet.engine.inspect(&name)["State"]["Status"] == "exited");
    assert_eq!(fleet.engine.identity(&format!("tenantd-{NEIGHBOUR}")), other, "a neighbour runs on");
    let plan = fleet.plan();
    assert_eq!(names(plan.change(&format!("container.{RUNSC}"))), ["state"], "the plan finds what has ended");
    fleet.converge();
}

fn memory_bomb(fleet: &Fleet) {
    for tenant in BOTH {
        agent(fleet, tenant, &["eat-memory", "100000000"]);
    }
    let proper = fleet.engine.identity(&format!("tenantd-{RUNC}"));
    refused(fleet, RUNC, &["eat-memory", "700000000", "5"]);
    assert_eq!(fleet.engine.identity(&format!("tenantd-{RUNC}")), proper, "what did not go too far runs on");
    bomb_in_gvisor(fleet, &["eat-memory", "700000000", "5"]);
}
