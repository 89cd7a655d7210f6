//! The gateway beside other proxies: throughput, added latency, connections per second, memory.
//!
//! Everything runs in namespaces of its own: the world with the upstream, the host, a tenant, and between these
//! two the gateway's namespace or, for the others and for the direct way, one link. One load generator drives
//! them all, and they take turns.

mod commits;
mod injection;
pub mod load;
mod proxies;
mod secured;
pub mod upstream;

use std::{
    fs::{self, Permissions},
    net::Ipv4Addr,
    os::unix::fs::{PermissionsExt, chown},
    path::Path,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};

pub use load::main as load;

use crate::{
    daemon, setting,
    table::{Table, mebibytes},
};
use load::{Load, Measured, Way};
use proxies::Proxy;

/// A public address, of the upstream alone.
const UPSTREAM: Ipv4Addr = Ipv4Addr::new(93, 184, 216, 34);
/// The name that leads there.
const NAME: &str = "upstream.example";
/// The tenant's gateway, and the host's end of the other link.
const GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 1);
const LINK: Ipv4Addr = Ipv4Addr::new(10, 88, 0, 1);

/// The group that the gateway's user has everywhere on Debian: nogroup.
const NOBODY: u32 = 65_534;

/// How many connections are open at once.
const CONNECTIONS: [usize; 3] = [1, 64, 1000];

/// Tenants for the memory of each.
const TENANTS: u32 = 1000;

pub fn main(folder: &Path) -> anyhow::Result<()> {
    let folder = folder.join("egress");
    fs::create_dir_all(&folder)?;
    build_network(&folder)?;
    upstream::start(UPSTREAM)?;
    injection::start(&folder)?;
    let gateway = Gateway::start(&folder)?;
    let others = proxies::start(&folder, LINK, UPSTREAM)?;
    compare("CONNECT, or the nearest", &contenders(&others, false))?;
    compare("TLS by server name", &contenders(&others, true))?;
    drop(others);
    injection::compare(&folder)?;
    gateway.memory(&folder)?;
    gateway.cuts(&folder)?;
    commits::enforced(&folder, &egress_settings(&folder), &folder.join("gateway.log"))
}

/// The gateway's settings in host.yaml.
fn egress_settings(folder: &Path) -> String {
    let show = folder.display();
    format!(
        "egress:\n  resolvers: ['{}:53']\n  policies: {show}/policies\n  state: {show}/state\n  user: nobody\n  \
         caBundle: {show}/authority.pem\n  limits: {{connections: 4096}}\n",
        upstream::RESOLVER
    )
}

/// One way to the upstream, by name.
type Contender<'a> = (&'a str, Way);

fn contenders(others: &[Proxy], by_name: bool) -> Vec<Contender<'_>> {
    let mut all = vec![("direct", Way::Direct { address: (UPSTREAM, upstream::PORT).into(), by_name })];
    let gateway = match by_name {
        true => Way::Direct { address: (GATEWAY, upstream::PORT).into(), by_name },
        false => Way::Connect { proxy: (GATEWAY, 3128).into() },
    };
    all.push(("tenantd", gateway));
    all.extend(others.iter().filter_map(|proxy| Some((proxy.name, proxy.way(by_name)?))));
    all
}

/// Measures all in turn, round by round, and prints the medians.
fn compare(title: &str, contenders: &[Contender<'_>]) -> anyhow::Result<()> {
    let rounds: usize = setting("BENCH_ROUNDS", 3)?;
    let seconds: u64 = setting("BENCH_LOAD", 2)?;
    let mut header = vec![String::new()];
    header.extend(CONNECTIONS.iter().map(|count| format!("MiB/s, {count}")));
    header.extend(["round trip, 1", "round trip, 64", "new in a second"].map(str::to_owned));
    let loads: Vec<Load> = CONNECTIONS
        .iter()
        .map(|count| Load::Stream { connections: *count, seconds })
        .chain([1, 64].map(|connections| Load::Echo { connections, seconds }))
        .chain([Load::Open { at_once: 64, seconds }])
        .collect();
    let mut found = vec![vec![Vec::new(); loads.len()]; contenders.len()];
    for _ in 0..rounds {
        for (column, load) in loads.iter().enumerate() {
            for (row, (name, way)) in contenders.iter().enumerate() {
                let measured = load::run(way, load).with_context(|| format!("{name}: {load:?}"))?;
                found[row][column].push(measured);
            }
        }
    }
    let header: Vec<&str> = header.iter().map(String::as_str).collect();
    let mut table = Table::new(
        format!("{title}: medians of {rounds} rounds of {seconds} s, one upstream on the same machine"),
        &header,
    );
    for ((name, _), columns) in contenders.iter().zip(found) {
        table.row(std::iter::once((*name).to_owned()).chain(columns.into_iter().map(Measured::median)));
    }
    table.print();
    Ok(())
}

/// Runs `ip` or another program that must succeed.
pub fn must(words: &str) -> anyhow::Result<()> {
    let mut words = words.split(' ');
    let mut command = Command::new(words.next().unwrap_or_default());
    let output = command.args(words).output().with_context(|| format!("{command:?}"))?;
    ensure!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

/// A world with the upstream's address and a name server, and a tenant on the other side of the host.
fn build_network(folder: &Path) -> anyhow::Result<()> {
    let hosts = folder.join("hosts");
    fs::write(&hosts, format!("127.0.0.1 localhost\n{UPSTREAM} {NAME}\n"))?;
    let resolv = folder.join("resolv.conf");
    fs::write(&resolv, format!("nameserver {}\n", upstream::RESOLVER))?;
    for (file, place) in [(hosts, "/etc/hosts"), (resolv, "/etc/resolv.conf")] {
        must(&format!("mount --bind {} {}", file.display(), fs::canonicalize(place)?.display()))?;
    }
    must("mount -t tmpfs -o mode=755 tmpfs /run")?;
    must("ip link set lo up")?;
    must("ip netns add world")?;
    must("ip link add up0 type veth peer name up1 netns world")?;
    must("ip address add 192.0.2.1/24 dev up0")?;
    must("ip link set up0 up")?;
    must("ip route add default via 192.0.2.2")?;
    must("ip -n world address add 192.0.2.2/24 dev up1")?;
    must("ip -n world link set up1 up")?;
    must("ip -n world link set lo up")?;
    must("ip -n world route add default via 192.0.2.1")?;
    for address in [UPSTREAM, upstream::RESOLVER] {
        must(&format!("ip -n world address add {address}/32 dev lo"))?;
    }
    // The direct way leads through the host. Ports of connections that have ended are used again, or who comes
    // later in a round would find few.
    fs::write("/proc/sys/net/ipv4/ip_forward", "1")?;
    for (switch, value) in [("tcp_tw_reuse", "1"), ("ip_local_port_range", "1024 65000")] {
        fs::write(format!("/proc/sys/net/ipv4/{switch}"), value)?;
    }
    must("ip netns add tenant")?;
    must("ip -n tenant link set lo up")?;
    must("ip netns exec tenant sysctl -qw net.ipv4.tcp_tw_reuse=1 net.ipv4.ip_local_port_range=1024\t65000")?;
    must("ip link add link0 type veth peer name link0 netns tenant")?;
    must(&format!("ip address add {LINK}/24 dev link0"))?;
    must("ip link set link0 up")?;
    must("ip -n tenant address add 10.88.0.2/24 dev link0")?;
    must("ip -n tenant link set link0 up")?;
    must(&format!("ip -n tenant route add {UPSTREAM}/32 via {LINK}"))
}

/// `tenantd gateway` for one tenant, and for many that do nothing.
struct Gateway(Child);

impl Gateway {
    fn start(folder: &Path) -> anyhow::Result<Self> {
        let host = folder.join("host.yaml");
        let (show, egress) = (folder.display(), egress_settings(folder));
        fs::write(&host, format!("apiVersion: tenantd/v1\nkind: Host\nengine: unix://{show}/none.sock\n{egress}"))?;
        for part in ["policies", "secrets"] {
            fs::create_dir_all(folder.join("policies").join(part))?;
        }
        let (_, secrets) = injection::route();
        let values = folder.join("policies/secrets/customer-0.json");
        fs::write(&values, secrets.to_string())?;
        chown(&values, None, Some(NOBODY))?;
        fs::set_permissions(&values, Permissions::from_mode(0o640))?;
        policy(folder, "customer-0", GATEWAY, true)?;
        let log = fs::File::create(folder.join("gateway.log"))?;
        let mut command = Command::new(env!("CARGO_BIN_EXE_tenantd"));
        command.args(["gateway", "--host"]).arg(&host).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        let gateway = Self(command.spawn()?);
        let link = || {
            must("ip link add gate0 netns tenant type veth peer name td0 netns tenantd")?;
            must(&format!("ip -n tenantd address add {GATEWAY}/28 dev td0"))?;
            must("ip -n tenantd link set td0 up")?;
            must("ip -n tenant address add 10.77.0.2/28 dev gate0")?;
            must("ip -n tenant link set gate0 up")
        };
        wait("the gateway makes its namespace", || Path::new("/run/netns/tenantd").exists().then_some(()))?;
        // The name is there a moment before the namespace is.
        wait("its namespace can be entered", || must("ip -n tenantd link show lo").is_ok().then_some(()))?;
        link()?;
        let probe = Load::Echo { connections: 1, seconds: 0 };
        let way = Way::Connect { proxy: (GATEWAY, 3128).into() };
        let mut last = String::new();
        wait("the gateway answers", || load::run(&way, &probe).map_err(|error| last = format!("{error:#}")).ok())
            .with_context(|| last)?;
        Ok(gateway)
    }

    fn resident(&self) -> anyhow::Result<i64> {
        daemon::memory(self.0.id(), "VmRSS")
    }

    /// What an idle connection and a tenant take.
    fn memory(&self, folder: &Path) -> anyhow::Result<()> {
        let rest = Duration::from_secs(3);
        let begin = self.resident()?;
        let way = Way::Connect { proxy: (GATEWAY, 3128).into() };
        let count = 1000;
        let mut idle = load::command(&way, &Load::Idle { connections: count, seconds: 8 });
        let mut idle = idle.stdout(Stdio::null()).spawn()?;
        thread::sleep(rest);
        let held = self.resident()?;
        idle.wait()?;
        thread::sleep(rest);
        let alone = self.resident()?;
        for number in 1..TENANTS {
            let gateway = Ipv4Addr::from(u32::from(GATEWAY) + number * 16);
            policy(folder, &format!("customer-{number}"), gateway, false)?;
        }
        thread::sleep(rest);
        let served = self.resident()?;
        let mut table = Table::new("Resident memory of the gateway", &["", "resident", "each"]);
        let each = |more: i64, of: usize| format!("{:.1} KiB", more.max(0) as f64 / of as f64);
        table.row(["after the load, one tenant".to_owned(), mebibytes(begin), String::new()]);
        table.row([format!("{count} idle tunnels more"), mebibytes(held), each(held - begin, count)]);
        table.row(["without them again".to_owned(), mebibytes(alone), String::new()]);
        table.row([format!("{TENANTS} tenants"), mebibytes(served), each(served - alone, TENANTS as usize)]);
        table.print();
        Ok(())
    }

    /// From a policy that was written to a tunnel that is cut.
    fn cuts(&self, folder: &Path) -> anyhow::Result<()> {
        let rounds: usize = setting("BENCH_CUTS", 7)?;
        let mut times = Vec::new();
        for _ in 0..rounds {
            let way = Way::Connect { proxy: (GATEWAY, 3128).into() };
            let mut idle = load::command(&way, &Load::Idle { connections: 1, seconds: 60 });
            let mut idle = idle.stdout(Stdio::null()).spawn()?;
            thread::sleep(Duration::from_millis(500));
            let begun = Instant::now();
            policy(folder, "customer-0", GATEWAY, false)?;
            // It ends as soon as its connection does.
            idle.wait()?;
            times.push(begun.elapsed());
            policy(folder, "customer-0", GATEWAY, true)?;
            thread::sleep(Duration::from_millis(1500));
        }
        let mut table =
            Table::new("From a policy file that shrinks to the tunnel that is cut", &["", "median", "most"]);
        let row = [crate::measure::quantile(times.iter().copied(), 50), crate::measure::quantile(times, 100)];
        table.row(std::iter::once("tenantd gateway".to_owned()).chain(row.map(crate::table::time)));
        table.print();
        Ok(())
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Writes what a tenant may reach, as `tenantd run` does.
fn policy(folder: &Path, tenant: &str, gateway: Ipv4Addr, open: bool) -> anyhow::Result<()> {
    let subnet = format!("{}/28", Ipv4Addr::from(u32::from(gateway) - 1));
    let ports: &[u16] = if open { &[upstream::PORT, secured::PORT] } else { &[] };
    let allow: Vec<String> = ports.iter().map(|port| format!("{NAME}:{port}")).collect();
    let (routes, _) = injection::route();
    let routes = if open { routes } else { serde_json::json!([]) };
    let address = Ipv4Addr::from(u32::from(gateway) + 1);
    let policy = serde_json::json!({
        "v": 2, "tenant": tenant, "subnet": subnet, "address": address, "allow": allow, "routes": routes,
    });
    let path = folder.join("policies/policies").join(format!("{tenant}.json"));
    let temporary = path.with_extension("tmp");
    fs::write(&temporary, policy.to_string())?;
    Ok(fs::rename(temporary, path)?)
}

pub fn wait<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> anyhow::Result<T> {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        if let Some(found) = look() {
            return Ok(found);
        }
        ensure!(Instant::now() < deadline, "{what}, within 20 s");
        thread::sleep(Duration::from_millis(20));
    }
}
