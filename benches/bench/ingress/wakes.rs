//! How soon a request to a tenant that is paused or asleep has its first byte, beside the engine's own part of that.
//!
//! All of it runs in the engine's namespaces. The bare client makes the calls of the engine that wake the very container,
//! and asks it directly, from where the ingress does. While it has its turn, the daemon is stopped.

use std::{
    collections::{BTreeMap, BTreeSet},
    env,
    fs::File,
    io::{Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpStream},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::Barrier,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, anyhow, ensure};
use jiff::{SignedDuration, Timestamp};
use nix::sched::{CloneFlags, setns};
use serde_json::Value;
use tenantd::{
    model::{Power, token::Right},
    web::{
        Client,
        operators::{MintToken, SetPower},
    },
};

use super::DOMAIN;
use crate::{
    bare::Call,
    daemon::Daemon,
    egress::must,
    fleet::{Fleet, Member},
    measure::quantile,
    real, setting,
    table::{Table, time, verdict},
    world::{self, FOLDERS, World},
};

/// Where the ingress listens.
const INGRESS: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 8084);

/// Where the tenants' app does.
const PORT: u16 = 8080;

/// What a wake may take beyond the engine's own part of it, at the median and at most of a hundred, in milliseconds.
const MORE: f64 = 10.0;
const MORE_AT_MOST: f64 = 30.0;

/// What the daemon, the ingress and the engine get after each turn, so that the next finds them at rest.
const REST: Duration = Duration::from_millis(150);

/// How long anything may take.
const TIMEOUT: Duration = Duration::from_secs(60);

/// The tenants that are woken one at a time, by the runtime that they have.
const ALONE: [(&str, &str); 2] = [("runc", ""), ("runsc", "runtime: gvisor\n")];

pub fn main(folder: &Path) -> anyhow::Result<()> {
    let url = env::var("DOCKER_HOST").context("DOCKER_HOST names no engine")?;
    let socket = PathBuf::from(url.trim_start_matches("unix://"));
    real::build_image(&socket)?;
    let herd: usize = setting("BENCH_HERD", 100)?;
    let folder = folder.join("wakes");
    let show = folder.display();
    let settings = format!(
        "{FOLDERS}egress: {{policies: {show}/egress, state: {show}/gateway, user: daemon}}\n\
         ingress:\n  listen: [\"{INGRESS}\"]\n  domain: {DOMAIN}\n  user: nobody\n  state: {show}/ingress\n  \
         socket: {show}/ingress-daemon/daemon.sock\n"
    );
    let expose = format!("expose: [{{port: {PORT}}}]\n");
    let file = |name: &str, more: &str| {
        (name.to_owned(), format!("apiVersion: tenantd/v1\nkind: Tenant\ntenant: {name}\n{expose}{more}"))
    };
    let alone = ALONE.map(|(name, class)| file(name, class));
    let herd: Vec<String> = (0..herd).map(|number| format!("herd-{number:03}")).collect();
    let files = alone.into_iter().chain(herd.iter().map(|name| file(name, "")));
    let world = World::declaring(&folder, &socket, real::IMAGE, files, &settings)?;
    let host = world.host();
    must(&format!("{} gateway --prepare --host {}", env!("CARGO_BIN_EXE_tenantd"), host.display()))?;
    let fleet = Fleet::of(&world)?;
    let daemon = Daemon::start(&world, fleet.members.len())?;
    let lab = Lab::new(&world, &fleet, &daemon, &socket)?;
    let ingress = Ingress::start(&host, &folder.join("ingress.log"))?;
    lab.ready()?;
    lab.alone()?;
    lab.herd(&herd)?;
    drop(ingress);
    Ok(())
}

/// `tenantd ingress`, which ends when this is dropped.
struct Ingress(Child);

impl Ingress {
    fn start(host: &Path, log: &Path) -> anyhow::Result<Self> {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tenantd"));
        command.args(["ingress", "--host"]).arg(host).stdin(Stdio::null()).stdout(Stdio::null());
        Ok(Self(command.stderr(File::create(log)?).spawn().context("tenantd ingress")?))
    }
}

impl Drop for Ingress {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What tenantd and the bare client took.
#[derive(Default)]
struct Turns {
    ours: Vec<Duration>,
    bare: Vec<Duration>,
}

struct Lab<'a> {
    fleet: &'a Fleet,
    daemon: &'a Daemon,
    /// The daemon's socket, and the engine's.
    control: PathBuf,
    engine: PathBuf,
    /// By tenant, where it is and a token of it.
    tenants: BTreeMap<String, (Ipv4Addr, String)>,
}

impl<'a> Lab<'a> {
    fn new(world: &World, fleet: &'a Fleet, daemon: &'a Daemon, engine: &Path) -> anyhow::Result<Self> {
        let control = world.control();
        let mut tenants = BTreeMap::new();
        for member in &fleet.members {
            let name = tenant(member).to_owned();
            let expires = Timestamp::now() + SignedDuration::from_hours(24);
            let call = MintToken { tenant: name.clone(), may: BTreeSet::from([Right::Http]), expires };
            let minted = world::runtime()?.block_on(Client::new(&control).call(&call))?;
            let address = member.container.address.context("a tenant has an address")?;
            tenants.insert(name, (address, minted.token.0));
        }
        Ok(Self { fleet, daemon, control, engine: engine.to_owned(), tenants })
    }

    /// Waits until the ingress passes requests on.
    fn ready(&self) -> anyhow::Result<()> {
        let begun = Instant::now();
        for name in self.tenants.keys() {
            while let Err(error) = self.ask(name) {
                ensure!(begun.elapsed() < TIMEOUT, "{name}: {error:#}");
                thread::sleep(Duration::from_millis(20));
            }
        }
        Ok(())
    }

    fn member(&self, name: &str) -> anyhow::Result<&Member> {
        self.fleet.members.iter().find(|member| tenant(member) == name).context("the tenant is declared")
    }

    /// Asks a tenant through the ingress. Returns how long the first byte took.
    fn ask(&self, name: &str) -> anyhow::Result<Duration> {
        let (_, token) = self.tenants.get(name).context("the tenant has a token")?;
        let begun = Instant::now();
        first_byte(TcpStream::connect(INGRESS)?, &format!("{name}.{DOMAIN}"), token)?;
        Ok(begun.elapsed())
    }

    fn set_power(&self, name: &str, power: Power) -> anyhow::Result<()> {
        let call = SetPower { tenant: name.to_owned(), power, until: None };
        world::runtime()?.block_on(Client::new(&self.control).call(&call))?;
        Ok(())
    }

    /// Puts tenants to rest, and waits until they are.
    fn put(&self, names: &[String], power: Power) -> anyhow::Result<()> {
        for name in names {
            self.set_power(name, power)?;
        }
        let begun = Instant::now();
        for name in names {
            loop {
                let (status, found) = self.call("GET", &format!("/containers/tenantd-{name}/json"))?;
                let is_gone =
                    || Ok::<_, anyhow::Error>(self.call("GET", &format!("/networks/tenantd-{name}"))?.0 == 404);
                let is_there = match power {
                    Power::Asleep => status == 404 && is_gone()?,
                    Power::Paused | Power::Running => found["State"]["Status"] == power_word(power),
                };
                if is_there {
                    break;
                }
                ensure!(begun.elapsed() < TIMEOUT * 2, "{name} is not {}", power_word(power));
                thread::sleep(Duration::from_millis(10));
            }
        }
        thread::sleep(REST);
        Ok(())
    }

    fn call(&self, method: &str, path: &str) -> anyhow::Result<(u16, Value)> {
        call(&self.engine, &self.fleet.call(method, path))
    }

    /// A call that must succeed.
    fn must(&self, wanted: &Call) -> anyhow::Result<()> {
        let (status, answer) = call(&self.engine, wanted)?;
        ensure!((200..300).contains(&status), "{} {}: {status} {answer}", wanted.method, wanted.path);
        Ok(())
    }

    fn action(&self, name: &str, action: &str) -> Call {
        self.fleet.call("POST", &format!("/containers/tenantd-{name}/{action}"))
    }

    /// Tenants that are woken one at a time.
    fn alone(&self) -> anyhow::Result<()> {
        let (wakes, sleeps): (usize, usize) = (setting("BENCH_WAKES", 100)?, setting("BENCH_SLEEPS", 20)?);
        let mut table = Table::new(
            format!("From a request to the first byte of its answer: {wakes} wakes from paused, {sleeps} from asleep"),
            &["", "tenantd", "engine", "more", "goal", "", "p99", "engine", "more", "goal", ""],
        );
        for (name, _) in ALONE {
            let mut paused = Turns::default();
            for _ in 0..wakes {
                self.put(&[name.to_owned()], Power::Paused)?;
                paused.ours.push(self.ask(name)?);
                thread::sleep(REST);
                paused.bare.push(self.daemon.without(|| self.bare_unpause(name), REST)?);
            }
            table.row(row(&format!("paused, {name}"), &paused));
            let mut asleep = Turns::default();
            for _ in 0..sleeps {
                self.put(&[name.to_owned()], Power::Asleep)?;
                asleep.ours.push(self.ask(name)?);
                thread::sleep(REST);
                self.put(&[name.to_owned()], Power::Asleep)?;
                asleep.bare.push(self.daemon.without(|| self.bare_start(name), REST)?);
            }
            table.row(row(&format!("asleep, {name}"), &asleep));
            self.set_power(name, Power::Running)?;
        }
        table.print();
        println!("\n  engine: unpause, or network, create and start, until the app answers");
        Ok(())
    }

    /// What the engine takes to have a container go on that is frozen.
    fn bare_unpause(&self, name: &str) -> anyhow::Result<Duration> {
        let (address, _) = self.tenants.get(name).context("the tenant has an address")?;
        self.must(&self.action(name, "pause"))?;
        beside_ingress(|| {
            let begun = Instant::now();
            self.must(&self.action(name, "unpause"))?;
            answers(*address)?;
            Ok(begun.elapsed())
        })
    }

    /// What the engine takes to make a network and a container, and to start that. Nothing of it stays.
    fn bare_start(&self, name: &str) -> anyhow::Result<Duration> {
        let (address, _) = self.tenants.get(name).context("the tenant has an address")?;
        let member = self.member(name)?;
        let bridge =
            member.network.options.get("com.docker.network.bridge.name").context("the network has a bridge")?;
        let begun = Instant::now();
        self.must(&self.fleet.network(member))?;
        let took = thread::scope(|scope| {
            // The host itself has an address on no tenant's network: the client is given one meanwhile.
            let join = scope.spawn(|| {
                let gateway = (u32::from(*address) & !7) | 1;
                must(&format!("ip address add {}/29 dev {bridge}", Ipv4Addr::from(gateway)))
            });
            for call in self.fleet.container(member) {
                self.must(&call)?;
            }
            join.join().map_err(|_| anyhow!("a thread has ended"))??;
            answers(*address)?;
            anyhow::Ok(begun.elapsed())
        })?;
        self.must(&self.fleet.removal(member))?;
        self.must(&self.fleet.call("DELETE", &format!("/networks/{}", member.network.name)))?;
        Ok(took)
    }

    /// Tenants that are all asked at once.
    fn herd(&self, names: &[String]) -> anyhow::Result<()> {
        let rounds: usize = setting("BENCH_ROUNDS", 3)?;
        let mut turns = Turns::default();
        for _ in 0..rounds {
            self.put(names, Power::Paused)?;
            turns.ours.push(all_at_once(names, |name| self.ask(name).map(drop))?);
            thread::sleep(REST * 10);
            let bare = || {
                for name in names {
                    self.must(&self.action(name, "pause"))?;
                }
                all_at_once(names, |name| {
                    let (address, _) = self.tenants.get(name).context("the tenant has an address")?;
                    self.must(&self.action(name, "unpause"))?;
                    beside_ingress(|| answers(*address))
                })
            };
            turns.bare.push(self.daemon.without(bare, REST * 20)?);
        }
        let mut table = Table::new(
            format!("{} paused tenants that are asked at once, until the last has answered", names.len()),
            &["", "median", "most"],
        );
        for (name, times) in [("tenantd", turns.ours), ("engine: unpause of each, as many at once", turns.bare)] {
            let [middle, most] = [50, 100].map(|percent| time(quantile(times.iter().copied(), percent)));
            table.row([name.to_owned(), middle, most]);
        }
        table.print();
        Ok(())
    }
}

fn tenant(member: &Member) -> &str {
    member.container.name.trim_start_matches("tenantd-")
}

fn power_word(power: Power) -> &'static str {
    match power {
        Power::Running => "running",
        Power::Paused => "paused",
        Power::Asleep => "asleep",
    }
}

fn row(name: &str, turns: &Turns) -> Vec<String> {
    let mut cells = vec![name.to_owned()];
    for (percent, goal) in [(50, MORE), (99, MORE_AT_MOST)] {
        let [ours, bare] = [&turns.ours, &turns.bare].map(|times| quantile(times.iter().copied(), percent));
        let more = (ours.as_secs_f64() - bare.as_secs_f64()) * 1e3;
        cells.extend([time(ours), time(bare), format!("{more:.1} ms"), format!("{goal:.0} ms"), verdict(more, goal)]);
    }
    cells
}

/// Does the same for all, each on a thread of its own, and returns how long the last took.
fn all_at_once(names: &[String], work: impl Fn(&str) -> anyhow::Result<()> + Sync) -> anyhow::Result<Duration> {
    let (barrier, work) = (Barrier::new(names.len() + 1), &work);
    thread::scope(|scope| {
        let barrier = &barrier;
        let begin = |name: &String| {
            let name = name.clone();
            scope.spawn(move || {
                barrier.wait();
                work(&name)
            })
        };
        let working: Vec<_> = names.iter().map(begin).collect();
        barrier.wait();
        let begun = Instant::now();
        for one in working {
            one.join().map_err(|_| anyhow!("a thread has ended"))??;
        }
        Ok(begun.elapsed())
    })
}

/// Works on a thread in the namespace in which the ingress makes its sockets.
fn beside_ingress<T: Send>(work: impl FnOnce() -> anyhow::Result<T> + Send) -> anyhow::Result<T> {
    let inside = File::open("/run/netns/tenantd")?;
    thread::scope(|scope| {
        let work = scope.spawn(|| {
            setns(inside, CloneFlags::CLONE_NEWNET)?;
            work()
        });
        work.join().map_err(|_| anyhow!("a thread has ended"))?
    })
}

/// Asks a tenant's app until it answers.
fn answers(address: Ipv4Addr) -> anyhow::Result<()> {
    let begun = Instant::now();
    loop {
        let asked = TcpStream::connect_timeout(&(address, PORT).into(), Duration::from_secs(1));
        let error = match asked.map_err(anyhow::Error::from).and_then(|stream| first_byte(stream, "app", "")) {
            Ok(()) => return Ok(()),
            Err(error) => error,
        };
        ensure!(begun.elapsed() < TIMEOUT, "{address}: {error:#}");
        thread::sleep(Duration::from_millis(1));
    }
}

/// Asks, and waits for the first byte of an answer that all is well.
fn first_byte(mut stream: TcpStream, host: &str, token: &str) -> anyhow::Result<()> {
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.set_nodelay(true)?;
    let head = format!(
        "GET /work?id=bench HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {token}\r\nConnection: close\r\n\r\n"
    );
    stream.write_all(head.as_bytes())?;
    let mut answer = [0; 12];
    stream.read_exact(&mut answer)?;
    ensure!(answer.ends_with(b"200"), "{}", String::from_utf8_lossy(&answer));
    Ok(())
}

/// One call of the engine, over a connection of its own.
fn call(engine: &Path, Call { method, path, body }: &Call) -> anyhow::Result<(u16, Value)> {
    let mut stream = UnixStream::connect(engine)?;
    let body = body.as_ref().map(Value::to_string).unwrap_or_default();
    let kind = "Host: docker\r\nContent-Type: application/json";
    write!(stream, "{method} {path} HTTP/1.0\r\n{kind}\r\nContent-Length: {}\r\n\r\n{body}", body.len())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (head, body) = answer.split_once("\r\n\r\n").context("the engine answers with HTTP")?;
    let status = head.get(9..12).and_then(|status| status.parse().ok()).context("the answer has a status")?;
    Ok((status, serde_json::from_str(body).unwrap_or_default()))
}
