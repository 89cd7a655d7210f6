//! Ways around the gateway, tried from inside real tenants, with runc and with runsc.
//!
//! The engine's machine has one egress path: to a namespace of the test's own in which every address there is
//! answers. What gets past the gateway arrives there and is seen; a control shows that it would be. Not
//! one packet leaves these namespaces.

mod forms;
mod targets;
mod world;

use std::{
    cell::RefCell,
    fs::{self, OpenOptions},
    net::{Ipv4Addr, SocketAddr},
    os::unix::fs::PermissionsExt,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use crate::{
    engine::{PrivateEngine, said, text},
    fleet::{Case, Fleet, case, eventually, run},
};
use world::{Arrival, World, is_for};

const RUNC: &str = "acme";
const RUNSC: &str = "zeta";
const BOTH: [&str; 2] = [RUNC, RUNSC];
/// A tenant that may reach something that the others may not.
const NEIGHBOUR: &str = "beta";
/// A tenant that may reach nothing.
const CLOSED: &str = "gamma";

/// Where listed names lead to.
const LISTED: Ipv4Addr = Ipv4Addr::new(93, 184, 216, 34);
/// A public address that nobody lists.
const UNLISTED: Ipv4Addr = Ipv4Addr::new(45, 33, 32, 156);

const ALLOWLIST: &str = "allowlist:
  - api.listed.example:443
  - web.listed.example:80
  - db.listed.example:5432
  - '*.wild.example:443'
  - moving.listed.example:443
  - inside.listed.example:443
";

#[test]
fn nothing_gets_around_the_gateway() {
    let fleet = Fleet::start("attacks");
    let gvisor = fleet.gvisor();
    attacked(fleet, gvisor, |attack| {
        vec![
            case("what is listed is reached, in every way", |fleet| attack.listed(fleet)),
            case("addresses, ports and protocols", |fleet| attack.addresses(fleet)),
            case("spellings of the proxy's language", |fleet| attack.spellings(fleet)),
            case("names", |fleet| attack.names(fleet)),
            case("names that lead inside", |fleet| attack.names_that_lead_inside(fleet)),
            case("thousands of connections that say nothing", |fleet| attack.flood(fleet)),
            case("forged addresses", |fleet| attack.forged(fleet)),
            case("a list that shrinks and grows", |fleet| attack.live(fleet)),
            case("the gateway dead, and back", |fleet| attack.dead(fleet)),
            // The last: an engine makes no network any more without its own chains.
            case("every rule of the firewall flushed", |fleet| attack.flushed(fleet)),
        ]
    });
}

/// The users of a container are others of the host then: the gateway, its link and its checks are what they were.
#[test]
fn remapped_users_change_nothing_about_egress() {
    attacked(Fleet::on(PrivateEngine::start("remapped-way", &["--userns-remap"])), "", |attack| {
        vec![
            case("what is listed is reached, in every way", |fleet| attack.listed(fleet)),
            case("addresses, ports and protocols", |fleet| attack.addresses(fleet)),
        ]
    });
}

#[test]
fn only_the_tenants_own_container_is_served() {
    let fleet = Fleet::start("peers");
    let gvisor = fleet.gvisor();
    attacked(fleet, gvisor, |attack| {
        vec![
            case("a container joined by hand", |fleet| attack.joined(fleet)),
            case("a container of an earlier version", |fleet| attack.made_before(fleet)),
        ]
    });
}

/// Runs cases against a gateway in a world around an engine, with a tenant of each kind. `second` is what the second of
/// those that are attacked from says of its class.
fn attacked(fleet: Fleet, second: &str, cases: impl for<'a> FnOnce(&'a Attack<'a>) -> Vec<Case<'a>>) {
    let (fleet, world, gateway) = begin(fleet);
    fleet.declare(RUNC, ALLOWLIST);
    fleet.declare(RUNSC, &format!("{second}{ALLOWLIST}"));
    fleet.declare(NEIGHBOUR, "allowlist: ['beta.example:443', 'api.listed.example:443']\n");
    fleet.declare(CLOSED, "");
    fleet.converge();
    fleet.cases(cases(&Attack { world: &world, gateway: &gateway }));
    gateway.kill(&fleet);
    fleet.end();
}

/// A world around an engine, and a gateway that runs.
fn begin(mut fleet: Fleet) -> (Fleet, World, Gateway) {
    fleet.within = true;
    let world = World::new(&fleet.engine);
    for name in ["api.listed.example", "web.listed.example", "db.listed.example", "a.wild.example", "a.b.wild.example"]
    {
        world.name(name, &[&[LISTED]]);
    }
    for name in ["unlisted.example", "wild.example", "beta.example", "data.api.listed.example"] {
        world.name(name, &[&[UNLISTED]]);
    }
    let dir = fleet.engine.dir().display().to_string();
    fleet.host(&format!(
        "egress:\n  resolvers: ['{}:53']\n  policies: {dir}/egress\n  state: {dir}/gateway\n  user: nobody\n",
        world::RESOLVER
    ));
    let gateway = Gateway::default();
    gateway.start(&fleet);
    (fleet, world, gateway)
}

/// `tenantd gateway` on the engine's machine.
#[derive(Default)]
struct Gateway(RefCell<Option<Child>>);

impl Gateway {
    /// Starts it, and waits until it listens.
    fn start(&self, fleet: &Fleet) {
        let dir = fleet.engine.dir();
        let log = OpenOptions::new().create(true).append(true).open(dir.join("gateway.log")).unwrap();
        let host = dir.join("host.yaml").display().to_string();
        let mut command = fleet.engine.within(&[env!("CARGO_BIN_EXE_tenantd"), "gateway", "--host", &host]);
        command.env_remove("DOCKER_HOST").stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        *self.0.borrow_mut() = Some(command.spawn().expect("the gateway can be started"));
        let listens = || {
            // 3128 in the kernel's digits.
            let words = ["ip", "netns", "exec", "tenantd", "cat", "/proc/net/tcp"];
            said(&run(fleet.engine.within(&words))).contains(":0C38 ")
        };
        let deadline = Instant::now() + Duration::from_secs(20);
        while !listens() {
            let log = || fs::read_to_string(dir.join("gateway.log")).unwrap_or_default();
            assert!(Instant::now() < deadline, "the gateway listens:\n{}", log());
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Kills it with `kill -9`.
    fn kill(&self, fleet: &Fleet) {
        let dir = fleet.engine.dir().display().to_string();
        let pids = || {
            let all = PrivateEngine::processes(&dir).into_iter();
            all.filter(|(_, line)| line.contains("tenantd gateway ")).map(|(pid, _)| pid).collect::<Vec<u32>>()
        };
        assert!(!pids().is_empty(), "the gateway ran until it was killed");
        for pid in pids() {
            // The one that entered the namespaces ends with the one that it waits for.
            let _ = Command::new("kill").args(["-KILL", &pid.to_string()]).output();
        }
        if let Some(mut child) = self.0.borrow_mut().take() {
            let _ = child.wait();
        }
        eventually("the gateway is gone", || pids().is_empty());
    }
}

/// Something to try from inside: its name, and the agent's words.
pub struct Attempt {
    pub name: String,
    pub words: String,
}

pub fn attempt(name: impl Into<String>, words: impl Into<String>) -> Attempt {
    Attempt { name: name.into(), words: words.into() }
}

/// What came of an attempt.
struct Result {
    code: i32,
    printed: String,
}

struct Attack<'a> {
    world: &'a World,
    gateway: &'a Gateway,
}

/// The gateway's address in a tenant's network.
fn gateway_of(fleet: &Fleet, tenant: &str) -> String {
    let network = fleet.engine.network(&format!("tenantd-{tenant}")).expect("the tenant has a network");
    text(&network["IPAM"]["Config"][0]["Gateway"])
}

fn address_of(fleet: &Fleet, tenant: &str) -> String {
    let name = format!("tenantd-{tenant}");
    text(&fleet.engine.inspect(&name)["NetworkSettings"]["Networks"][&name]["IPAddress"])
}

/// Runs attempts inside a tenant, side by side.
fn inside(fleet: &Fleet, tenant: &str, attempts: &[Attempt]) -> Vec<Result> {
    let script: String = attempts.iter().map(|attempt| format!("{}\n", attempt.words)).collect();
    let path = fleet.data().join("workspaces").join(tenant).join("script");
    fs::write(&path, script).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    let words = ["exec", &format!("tenantd-{tenant}"), "/agent", "script", "/workspace/script"];
    let printed = said(&run(fleet.engine.docker(&words)));
    let results: Vec<Result> = printed
        .split("\n= ")
        .filter_map(|one| {
            let (code, printed) = one.trim_start_matches("= ").split_once('\n')?;
            Some(Result { code: code.trim().parse().ok()?, printed: printed.to_owned() })
        })
        .collect();
    assert_eq!(results.len(), attempts.len(), "{tenant} tries everything:\n{printed}");
    results
}

/// Runs attempts on the engine's machine itself, which has an egress path.
fn outside(fleet: &Fleet, attempt: &Attempt) -> Result {
    let agent = std::env::var_os("CARGO_TARGET_DIR")
        .map_or_else(|| crate::engine::repository("target"), Into::into)
        .join("agent/agent");
    let mut words = vec![agent.display().to_string()];
    words.extend(attempt.words.split(' ').map(str::to_owned));
    let output = run(fleet.engine.in_network(&words));
    Result { code: output.status.code().unwrap_or(-1), printed: said(&output) }
}

impl Attack<'_> {
    /// Tries everything in both kinds of tenant; nothing may be answered by the world, and nothing may
    /// arrive there.
    fn all_refused(&self, fleet: &Fleet, attempts: &dyn Fn(&str) -> Vec<Attempt>) {
        for tenant in BOTH {
            self.world.arrivals();
            let attempts = attempts(tenant);
            let results = inside(fleet, tenant, &attempts);
            let got_through: Vec<String> = attempts
                .iter()
                .zip(&results)
                .filter(|(_, result)| {
                    ["WORLD", "connected", "answered"].iter().any(|word| result.printed.contains(word))
                })
                .map(|(attempt, result)| format!("{}: {}", attempt.name, result.printed))
                .collect();
            assert!(got_through.is_empty(), "{tenant}: these got through: {got_through:#?}");
            let arrived = self.strange(&[]);
            assert!(arrived.is_empty(), "{tenant}: this arrived in the world: {arrived:#?}");
        }
    }

    /// What has arrived, without what the gateway asks its name server about listed names, and without
    /// what was meant to arrive.
    fn strange(&self, meant: &[SocketAddr]) -> Vec<Arrival> {
        const ASKED: [&str; 8] = [
            "api.listed.example",
            "web.listed.example",
            "db.listed.example",
            "inside.listed.example",
            "moving.listed.example",
            "a.wild.example",
            "a.b.wild.example",
            "beta.example",
        ];
        let asks_for_listed = |arrival: &Arrival| {
            let is_resolver = arrival.to == world::RESOLVER && arrival.port == 53 && arrival.from == world::HOST;
            let name = world::question(&arrival.said);
            is_resolver && name.is_some_and(|name| ASKED.contains(&name.as_str()))
        };
        let all = self.world.arrivals();
        all.into_iter().filter(|arrival| !asks_for_listed(arrival) && !is_for(arrival, meant)).collect()
    }

    fn listed(&self, fleet: &Fleet) {
        for tenant in BOTH {
            self.world.arrivals();
            let (attempts, to) = forms::listed(&gateway_of(fleet, tenant));
            let results = inside(fleet, tenant, &attempts);
            for (attempt, result) in attempts.iter().zip(&results) {
                let wanted = format!("WORLD [::ffff:{LISTED}]");
                let is_lookup = attempt.words.starts_with("lookup");
                let wanted = if is_lookup { gateway_of(fleet, tenant) } else { wanted };
                assert!(result.printed.contains(&wanted), "{tenant}, {}: {}", attempt.name, result.printed);
            }
            let strange = self.strange(&to);
            assert!(strange.is_empty(), "{tenant}: nothing else arrived: {strange:#?}");
        }
    }

    fn addresses(&self, fleet: &Fleet) {
        let targets = |tenant: &str| targets::of(fleet, tenant);
        self.controls(fleet);
        self.all_refused(fleet, &targets);
        let closed = inside(fleet, CLOSED, &targets(CLOSED));
        assert!(closed.iter().all(|result| result.code != 0 || result.printed.contains("silent")), "a closed tenant");
        assert_eq!(self.strange(&[]), [], "nothing of a closed tenant arrived");
    }

    /// The host itself reaches all that tenants must not, and so does a container that is no tenant.
    fn controls(&self, fleet: &Fleet) {
        self.world.arrivals();
        for attempt in targets::public() {
            let result = outside(fleet, &attempt);
            let answered = ["WORLD", "connected", "answered", "silent", "refused"]
                .iter()
                .any(|word| result.printed.contains(word));
            assert!(answered, "the host itself can do this: {}: {}", attempt.name, result.printed);
        }
        let seen = self.world.arrivals();
        assert!(seen.len() >= targets::public().len() / 2, "what the host does arrives: {seen:#?}");
        fleet.engine.foreign("visitor", "bridge");
        let words = ["exec", "visitor", "/agent", "connect", &format!("{UNLISTED}:443")];
        assert!(
            said(&run(fleet.engine.docker(&words))).contains("connected"),
            "a container that is no tenant gets out"
        );
        fleet.engine.remove("visitor");
        self.world.arrivals();
    }

    fn spellings(&self, fleet: &Fleet) {
        self.all_refused(fleet, &|tenant| forms::refused(&gateway_of(fleet, tenant)));
        for tenant in BOTH {
            for result in inside(fleet, tenant, &forms::within_tunnels(&gateway_of(fleet, tenant))) {
                assert!(!result.printed.contains("WORLD"), "{tenant}: the greeting went through: {}", result.printed);
            }
            assert_eq!(self.strange(&[SocketAddr::from((LISTED, 443))]), [], "{tenant}: nothing else arrived");
        }
        // What is refused says who refuses, for whom, what and why.
        let gateway = gateway_of(fleet, RUNC);
        let asked = forms::connect(&gateway, "unlisted.example:443");
        let printed = &inside(fleet, RUNC, &[asked])[0].printed;
        for part in ["403", "tenantd", RUNC, "unlisted.example:443", "not-listed"] {
            assert!(printed.contains(part), "the answer holds {part}: {printed}");
        }
        // And it is on record.
        let recorded = || {
            let output = run(fleet.tenantd(&["events", "--tenant", RUNC]));
            let printed = said(&output);
            printed.contains("unlisted.example:443") && printed.contains("not-listed")
        };
        eventually("the refusal is among the events", recorded);
    }

    fn names(&self, fleet: &Fleet) {
        self.all_refused(fleet, &|tenant| forms::names(&gateway_of(fleet, tenant)));
    }

    fn names_that_lead_inside(&self, fleet: &Fleet) {
        let inside_addresses: Vec<Ipv4Addr> = targets::INSIDE.iter().map(|text| text.parse().unwrap()).collect();
        for address in inside_addresses {
            self.world.name("inside.listed.example", &[&[address]]);
            // The answer that the gateway keeps is a second old at most.
            std::thread::sleep(Duration::from_millis(1_300));
            self.all_refused(fleet, &|tenant| forms::towards(&gateway_of(fleet, tenant), "inside.listed.example"));
        }
        // A name that is public when it is checked, and is not when it is asked for again.
        let metadata = Ipv4Addr::new(169, 254, 169, 254);
        self.world.name("moving.listed.example", &[&[LISTED], &[metadata]]);
        for _ in 0..3 {
            for tenant in BOTH {
                inside(fleet, tenant, &forms::towards(&gateway_of(fleet, tenant), "moving.listed.example"));
                let strange = self.strange(&[SocketAddr::from((LISTED, 443))]);
                assert!(strange.is_empty(), "{tenant}: only the address that was checked is dialled: {strange:#?}");
            }
            std::thread::sleep(Duration::from_millis(1_300));
        }
    }

    fn flood(&self, fleet: &Fleet) {
        let gateway = gateway_of(fleet, RUNC);
        let holding: Vec<Attempt> =
            (0..8).map(|n| attempt(format!("hold {n}"), format!("hold {gateway}:3128 500 8"))).collect();
        std::thread::scope(|scope| {
            let flood = scope.spawn(|| inside(fleet, RUNC, &holding));
            std::thread::sleep(Duration::from_secs(3));
            let begun = Instant::now();
            let printed =
                &inside(fleet, NEIGHBOUR, &[forms::connect(&gateway_of(fleet, NEIGHBOUR), "api.listed.example:443")])
                    [0]
                .printed;
            assert!(printed.contains("200"), "the neighbour is served: {printed}");
            assert!(begun.elapsed() < Duration::from_secs(5), "and soon");
            flood.join().expect("the flood ends");
        });
        let printed = || inside(fleet, RUNC, &[forms::connect(&gateway, "api.listed.example:443")])[0].printed.clone();
        eventually("after the flood the tenant is served again", || printed().contains("200"));
    }

    /// A container that someone gave NET_RAW by hand, for as long as nobody has repaired it.
    fn forged(&self, fleet: &Fleet) {
        fleet.recreate(NEIGHBOUR, true, |body| {
            body["User"] = "0:0".into();
            body["HostConfig"]["CapAdd"] = serde_json::json!(["NET_RAW"]);
        });
        self.world.arrivals();
        let (own, victim) = (gateway_of(fleet, NEIGHBOUR), gateway_of(fleet, RUNC));
        let source = address_of(fleet, RUNC);
        let query = forms::query("api.listed.example", 1);
        let attempts = [
            attempt("a packet in the name of another tenant", format!("spoof {source} {victim}:53 {query}")),
            attempt("the same to the own gateway", format!("spoof {source} {own}:53 {query}")),
            attempt("a packet in the name of the host", format!("spoof {} {own}:53 {query}", world::HOST)),
            attempt("a packet to the world in another name", format!("spoof {source} {UNLISTED}:53 {query}")),
            attempt("another tenant's address by ARP", format!("claim {source}")),
            attempt("another tenant's gateway by ARP", format!("claim {victim}")),
        ];
        for attempt in attempts {
            // Without its capabilities its root cannot read a script in the workspace.
            let (sent, printed) = fleet.engine.agent(NEIGHBOUR, &attempt.words.split(' ').collect::<Vec<_>>());
            // Later engines give internal networks no default route: then there is nowhere to send it.
            assert!(sent || printed.contains("unreachable"), "with NET_RAW it can send {}: {printed}", attempt.name);
        }
        let printed = &inside(fleet, RUNC, &[forms::connect(&victim, "api.listed.example:443")])[0].printed;
        assert!(printed.contains("200"), "the other tenant is served as before: {printed}");
        let strange = self.strange(&[SocketAddr::from((LISTED, 443))]);
        assert!(strange.is_empty(), "nothing arrived: {strange:#?}");
        fleet.converge();
    }

    /// Whoever is put on a tenant's network gets nothing, whether the tenant runs beside it or not, and the tenant is served.
    fn joined(&self, fleet: &Fleet) {
        const FOREIGN: &str = "foreign";
        for tenant in BOTH {
            let (name, gateway) = (format!("tenantd-{tenant}"), gateway_of(fleet, tenant));
            let own = address_of(fleet, tenant);
            let refused = |when: &str| {
                self.world.arrivals();
                let (attempts, _) = forms::listed(&gateway);
                let question = forms::query("api.listed.example", 1);
                let question = attempt("a question", format!("send udp {gateway}:53 {question} 700"));
                let lookups = |attempt: &Attempt| attempt.words.starts_with("lookup");
                for attempt in attempts.into_iter().filter(|attempt| !lookups(attempt)).chain([question]) {
                    let words = ["exec", FOREIGN, "/agent"].into_iter().chain(attempt.words.split(' '));
                    let printed = said(&run(fleet.engine.docker(&words.collect::<Vec<_>>())));
                    assert!(
                        !printed.contains("WORLD") && !printed.contains(" 200 "),
                        "{when}, {}: {printed}",
                        attempt.name
                    );
                }
                assert_eq!(self.strange(&[]), [], "{tenant}: nothing of the foreign container arrives {when}");
            };
            let served = || {
                let printed = &inside(fleet, tenant, &[forms::connect(&gateway, "api.listed.example:443")])[0].printed;
                assert!(printed.contains("200"), "{tenant} is served: {printed}");
            };
            fleet.engine.foreign(FOREIGN, &name);
            refused("beside the tenant");
            served();
            fleet.engine.must("POST", &format!("/containers/{name}/stop?t=0"), None);
            refused("in the tenant's absence");
            fleet.engine.remove(FOREIGN);
            fleet.engine.foreign(FOREIGN, &name);
            refused("as one that came then");
            fleet.converge();
            assert_eq!(address_of(fleet, tenant), own, "the tenant has its address back");
            served();
            fleet.engine.remove(FOREIGN);
            let recorded = || {
                let printed = said(&run(fleet.tenantd(&["events", "--tenant", tenant])));
                printed.contains("foreign-address") && printed.contains("to port 3128")
            };
            eventually("the refusals are among the events", recorded);
        }
    }

    /// A container whose address the engine hands out keeps its egress path as long as it has that address, and is not replaced.
    fn made_before(&self, fleet: &Fleet) {
        for tenant in BOTH {
            let (name, gateway) = (format!("tenantd-{tenant}"), gateway_of(fleet, tenant));
            fleet.recreate(tenant, false, |body| drop(body.as_object_mut().unwrap().remove("NetworkingConfig")));
            fleet.engine.must("POST", &format!("/containers/{name}/start"), None);
            let (id, handed_out) = (fleet.engine.identity(&name).0, address_of(fleet, tenant));
            let tunnel =
                || inside(fleet, tenant, &[forms::connect(&gateway, "api.listed.example:443")])[0].printed.clone();
            assert!(tunnel().contains("foreign-address"), "{tenant}: the policy names another address");
            fleet.converge();
            eventually("the policy names the container's address", || tunnel().contains(" 200 "));
            assert_eq!((&fleet.engine.identity(&name).0, address_of(fleet, tenant)), (&id, handed_out.clone()));
            // It gets one of its own when tenantd starts it.
            fleet.engine.must("POST", &format!("/containers/{name}/stop?t=0"), None);
            fleet.converge();
            assert_eq!(fleet.engine.identity(&name).0, id, "{tenant} is not replaced");
            assert_ne!(address_of(fleet, tenant), handed_out);
            eventually("the policy names the new address", || tunnel().contains(" 200 "));
        }
    }

    fn flushed(&self, fleet: &Fleet) {
        for words in [
            &["iptables", "-F"][..],
            &["iptables", "-t", "nat", "-F"],
            &["iptables", "-X"],
            &["iptables", "-P", "FORWARD", "ACCEPT"],
        ] {
            // A chain that another one names cannot be removed, and need not be.
            let _ = run(fleet.engine.within(words));
        }
        let _ = run(fleet.engine.within(&["nft", "flush", "ruleset"]));
        let left = said(&run(fleet.engine.within(&["iptables", "-S"])));
        assert!(!left.contains("-A "), "no rule is left:\n{left}");
        self.all_refused(fleet, &|tenant| targets::of(fleet, tenant));
        self.listed(fleet);
    }

    fn live(&self, fleet: &Fleet) {
        let gateway = gateway_of(fleet, RUNC);
        // Two tunnels that say something each half second.
        let long = |host: &str| {
            let name = format!("tenantd-{RUNC}");
            let request = forms::hex(&format!("CONNECT {host} HTTP/1.1\r\nHost: {host}\r\n\r\n"));
            let words = ["exec", &name, "/agent", "send", "tcp", &format!("{gateway}:3128"), &request, "15000"];
            let mut command = fleet.engine.docker(&words);
            (Instant::now(), command.stdout(Stdio::piped()).spawn().unwrap())
        };
        let (begun, mut cut) = long("db.listed.example:5432");
        let (_, mut kept) = long("api.listed.example:443");
        std::thread::sleep(Duration::from_secs(2));
        let id = fleet.engine.identity(&format!("tenantd-{RUNC}"));
        fleet.declare(RUNC, &ALLOWLIST.replace("  - db.listed.example:5432\n", "  - more.listed.example:443\n"));
        fleet.converge();
        let shrunk = Instant::now();
        let status = cut.wait().unwrap();
        assert!(status.success() && shrunk.elapsed() < Duration::from_secs(2), "the tunnel is cut at once");
        assert!(begun.elapsed() < Duration::from_secs(14), "and not by its own end");
        assert!(kept.try_wait().unwrap().is_none(), "the other one lives on");
        assert_eq!(fleet.engine.identity(&format!("tenantd-{RUNC}")), id, "the container is the same, and ran on");
        let printed = &inside(fleet, RUNC, &[forms::connect(&gateway, "db.listed.example:5432")])[0].printed;
        assert!(printed.contains("403"), "what is no longer listed is refused: {printed}");
        kept.kill().unwrap();
        kept.wait().unwrap();
        fleet.declare(RUNC, ALLOWLIST);
        fleet.converge();
    }

    fn dead(&self, fleet: &Fleet) {
        self.gateway.kill(fleet);
        self.all_refused(fleet, &|tenant| targets::of(fleet, tenant));
        self.all_refused(fleet, &|tenant| {
            let (attempts, _) = forms::listed(&gateway_of(fleet, tenant));
            attempts.into_iter().filter(|attempt| !attempt.words.starts_with("lookup")).collect()
        });
        self.gateway.start(fleet);
        self.listed(fleet);
    }
}
