//! The ingress beside other reverse proxies: throughput, round trips, connections per second. How soon it has a tenant
//! awake is in `wakes`.
//!
//! Everything runs in namespaces of its own: the clients and the proxies, the app, and the namespace in which the ingress
//! makes its sockets. A link of its own leads to the app from there, and one from where the other proxies are. One load
//! generator drives them all, and they take turns.

mod app;
mod daemon;
mod load;
mod proxies;
pub mod wakes;

use std::{
    fs,
    net::Ipv4Addr,
    path::Path,
    process::{Child, Command, Stdio},
};

use anyhow::Context;

pub use load::main as load;

use crate::{
    egress::{load::Measured, must, wait},
    setting,
    table::{Table, verdict},
};
use load::{Load, Way};

/// The app, on the ingress' link and on that of the others.
const APP: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 2);
const APP_OF_OTHERS: Ipv4Addr = Ipv4Addr::new(10, 88, 0, 2);

/// Below this name tenants have theirs.
const DOMAIN: &str = "agents.example.com";

/// Where the ingress listens.
const PORT: u16 = 8081;

/// How much of the better of the others the ingress should have at least.
const SHARE: f64 = 0.9;

/// What the ingress is compared with.
const OTHERS: [&str; 2] = ["nginx", "haproxy"];

pub fn main(folder: &Path) -> anyhow::Result<()> {
    let folder = folder.join("ingress");
    fs::create_dir_all(&folder)?;
    must("mount -t tmpfs -o mode=755 tmpfs /run")?;
    let _ingress = Ingress::start(&folder)?;
    let _others = proxies::start(&folder)?;
    let token = daemon::token()?;
    let way = |port: u16, tenant: &str, token: Option<String>| Way {
        address: (Ipv4Addr::LOCALHOST, port).into(),
        host: format!("{tenant}.{DOMAIN}"),
        token,
    };
    let direct = Way { address: (APP_OF_OTHERS, app::PORT).into(), ..way(0, daemon::PUBLIC, None) };
    compare(&[
        ("direct", direct),
        ("tenantd", way(PORT, daemon::PUBLIC, None)),
        ("tenantd, with a token", way(PORT, daemon::GUARDED, Some(token))),
        (OTHERS[0], way(proxies::NGINX, daemon::PUBLIC, None)),
        (OTHERS[1], way(proxies::HAPROXY, daemon::PUBLIC, None)),
    ])
}

/// Measures all in turn, round by round, and prints the medians, and how they are to the better of the others.
fn compare(contenders: &[(&str, Way)]) -> anyhow::Result<()> {
    let rounds: usize = setting("BENCH_ROUNDS", 3)?;
    let seconds: u64 = setting("BENCH_LOAD", 2)?;
    let loads = [
        ("MiB/s, 1", Load::Stream { connections: 1, seconds }),
        ("MiB/s, 64", Load::Stream { connections: 64, seconds }),
        ("round trip, 1", Load::Ask { connections: 1, seconds }),
        ("round trip, 64", Load::Ask { connections: 64, seconds }),
        ("new in a second", Load::Open { at_once: 64, seconds }),
    ];
    let mut found = vec![vec![Vec::new(); loads.len()]; contenders.len()];
    for _ in 0..rounds {
        for (column, (_, load)) in loads.iter().enumerate() {
            for (row, (name, way)) in contenders.iter().enumerate() {
                let measured = load::run(way, load).with_context(|| format!("{name}: {load:?}"))?;
                found[row][column].push(measured);
            }
        }
    }
    let header: Vec<&str> = std::iter::once("").chain(loads.iter().map(|(name, _)| *name)).collect();
    let mut table = Table::new(
        format!("Reverse proxies: medians of {rounds} rounds of {seconds} s, one app on the same machine"),
        &header,
    );
    for ((name, _), columns) in contenders.iter().zip(&found) {
        let cells = columns.iter().map(|measured| Measured::median(measured.clone()));
        table.row(std::iter::once((*name).to_owned()).chain(cells));
    }
    table.print();

    let mut goals = Table::new("The ingress to the better of the others", &["", "goal", "measured", ""]);
    for (column, (what, load)) in loads.iter().enumerate() {
        let speed = |row: &Vec<Vec<Measured>>| {
            let median = Measured::middle_number(row.get(column).cloned().unwrap_or_default());
            if matches!(load, Load::Ask { .. }) { 1.0 / median } else { median }
        };
        let of = |names: &[&str]| {
            let all = contenders.iter().zip(&found).filter(|((name, _), _)| names.contains(name));
            all.map(|(_, row)| speed(row)).fold(0.0, f64::max)
        };
        for name in ["tenantd", "tenantd, with a token"] {
            let share = of(&[name]) / of(&OTHERS);
            let cells =
                [format!("{name}: {what}"), format!("≥ {SHARE:.2}"), format!("{share:.2}"), verdict(SHARE, share)];
            goals.row(cells);
        }
    }
    goals.print();
    Ok(())
}

/// The host's settings.
fn settings(folder: &Path) -> String {
    let show = folder.display();
    format!(
        "apiVersion: tenantd/v1\nkind: Host\nengine: unix://{show}/none.sock\n\
         egress: {{policies: {show}/policies, state: {show}/gateway, user: daemon}}\n\
         ingress:\n  listen: [\"127.0.0.1:{PORT}\"]\n  domain: {DOMAIN}\n  access: public\n  user: nobody\n  \
         state: {show}/state\n  socket: {show}/daemon/daemon.sock\n"
    )
}

/// `tenantd ingress`, which ends when this is dropped.
struct Ingress(Child);

impl Ingress {
    /// Starts it, with all that it has to do with: the namespaces, the app, a daemon that says where the app is.
    fn start(folder: &Path) -> anyhow::Result<Self> {
        let host = folder.join("host.yaml");
        fs::write(&host, settings(folder))?;
        must(&format!("{} gateway --prepare --host {}", env!("CARGO_BIN_EXE_tenantd"), host.display()))?;
        build_network()?;
        app::start()?;
        daemon::start(&folder.join("daemon"))?;
        let log = fs::File::create(folder.join("ingress.log"))?;
        let mut command = Command::new(env!("CARGO_BIN_EXE_tenantd"));
        command.args(["ingress", "--host"]).arg(&host).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        let ingress = Self(command.spawn().context("tenantd ingress")?);
        let way = Way {
            address: (Ipv4Addr::LOCALHOST, PORT).into(),
            host: format!("{}.{DOMAIN}", daemon::PUBLIC),
            token: None,
        };
        let mut last = String::new();
        wait("the ingress answers", || {
            let asked = load::run(&way, &Load::Ask { connections: 1, seconds: 0 });
            asked.map_err(|error| last = format!("{error:#}")).ok()
        })
        .with_context(|| last)?;
        Ok(ingress)
    }
}

impl Drop for Ingress {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The app's namespace, with a link to where the ingress makes its sockets and one to where the others are.
fn build_network() -> anyhow::Result<()> {
    must("ip link set lo up")?;
    must("ip netns add app")?;
    must("ip -n app link set lo up")?;
    must("ip link add in0 netns tenantd type veth peer name in0 netns app")?;
    must("ip -n tenantd address add 10.77.0.1/28 dev in0")?;
    must(&format!("ip -n app address add {APP}/28 dev in0"))?;
    must("ip link add link0 type veth peer name link0 netns app")?;
    must("ip address add 10.88.0.1/28 dev link0")?;
    must(&format!("ip -n app address add {APP_OF_OTHERS}/28 dev link0"))?;
    must("ip link set link0 up")?;
    must("ip -n tenantd link set in0 up")?;
    must("ip -n app link set in0 up")?;
    must("ip -n app link set link0 up")?;
    // Ports of connections that have ended are used again, or who comes later in a round would find few.
    for (switch, value) in [("tcp_tw_reuse", "1"), ("ip_local_port_range", "1024 65000")] {
        fs::write(format!("/proc/sys/net/ipv4/{switch}"), value)?;
    }
    must("ip netns exec tenantd sysctl -qw net.ipv4.tcp_tw_reuse=1 net.ipv4.ip_local_port_range=1024\t65000")
}
