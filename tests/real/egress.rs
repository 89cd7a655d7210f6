//! Egress paths on a real engine: every part of one tampered with behind tenantd's back, found and made right again.

use std::{collections::BTreeSet, fs, os::unix::fs::PermissionsExt};

use age::secrecy::ExposeSecret;
use serde_json::{Value, json};

use crate::{
    engine::{repository, said, succeed, text},
    fleet::{Case, Fleet, Plan, attribute, case, code, names, run},
};

const TENANT: &str = "acme";
const OURS: &str = "tenantd-acme";

/// What the tenant's link and bridge are called; the hash is that of its name.
pub fn names_of(tenant: &str) -> (String, String) {
    let name: tenantd::model::TenantName = tenant.parse().unwrap();
    (name.link_name(), name.interface_name())
}

/// A command in the engine's namespaces that must succeed.
pub fn shell(fleet: &Fleet, script: &str) -> String {
    succeed(fleet.engine.within(&["sh", "-euc", script]))
}

pub fn policy_file(fleet: &Fleet, tenant: &str) -> Option<Value> {
    let file = fleet.engine.dir().join(format!("egress/policies/{tenant}.json"));
    serde_json::from_slice(&fs::read(file).ok()?).ok()
}

/// The values of the tenant's secrets that the gateway is given.
pub fn values(fleet: &Fleet) -> Value {
    secrets_file(fleet, TENANT).unwrap()["values"].clone()
}

fn secrets_file(fleet: &Fleet, tenant: &str) -> Option<Value> {
    let file = fleet.engine.dir().join(format!("egress/secrets/{tenant}.json"));
    serde_json::from_slice(&fs::read(file).ok()?).ok()
}

/// Writes two secrets of a host, one of them for the tenant. Returns the lines of host.yaml.
pub fn secrets_and_settings(fleet: &Fleet) -> String {
    let dir = fleet.engine.dir();
    for (name, value) in [("crm", "s3cret-one"), ("beta", "s3cret-beta")] {
        let path = dir.join(name);
        fs::write(&path, format!("{value}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    }
    let dir = dir.display();
    format!(
        "egress:\n  policies: {dir}/egress\n  user: nobody\n  permittedRanges: [10.20.0.0/16]\n  secrets:\n    \
         acme/crm: {{file: {dir}/crm, tenants: [acme], upstreams: [services.example.com]}}\n    \
         beta/crm: {{file: {dir}/beta, tenants: [beta], upstreams: [services.example.com]}}\n    \
         acme/erp: {{sealed: true, tenants: [acme], upstreams: [services.example.com]}}\n  \
         identity: {{file: {dir}/identity}}\n"
    )
}

pub const WAY_OUT: &str = "allowlist: [\"api.example.com:443\", \"10.20.0.0/24:5432\"]
credentials:
  - route: /crm/
    upstream: https://services.example.com
    inject: {header: Authorization, value: \"Bearer ${secret:acme/crm}\"}
budget: {day: 100}
";

/// One thing tampered with, the attribute that tells of it, and whether more is open than was declared.
struct Drift {
    attribute: &'static str,
    what: &'static str,
    /// A script in the engine's namespaces; LINK, BRIDGE and DIR stand for the tenant's.
    tamper: &'static str,
    actual: &'static str,
    weakens: bool,
    contained: Option<&'static str>,
    also: &'static [&'static str],
}

fn all() -> Vec<Drift> {
    fn drift(attribute: &'static str, what: &'static str, tamper: &'static str, actual: &'static str) -> Drift {
        Drift { attribute, what, tamper, actual, weakens: true, contained: None, also: &[] }
    }
    let (closed, guarded, narrowed) = (Some("close-egress"), Some("guard-egress"), Some("narrow-egress"));
    vec![
        Drift { weakens: false, ..drift("link", "deleted", "ip link del LINK", "null") },
        Drift { weakens: false, ..drift("link", "down", "ip link set LINK down", "is down") },
        Drift { weakens: false, ..drift("link", "down inside", "ip -n tenantd link set LINK down", "is down") },
        Drift {
            contained: closed,
            also: &["host_side"],
            ..drift(
                "link",
                "another pair in its place",
                "ip link del LINK; ip link add LINK type veth peer name other; ip link set LINK master BRIDGE up",
                "does not lead to the gateway",
            )
        },
        Drift {
            contained: closed,
            also: &["host_side"],
            ..drift("bridge", "another one", "ip link add evil type bridge; ip link set LINK master evil", "evil")
        },
        Drift { weakens: false, ..drift("bridge", "none", "ip link set LINK nomaster", "null") },
        Drift {
            contained: closed,
            ..drift("addresses", "one more", "ip -n tenantd addr add 10.99.0.1/24 dev LINK", "10.99.0.1/24")
        },
        Drift { weakens: false, ..drift("addresses", "none", "ip -n tenantd addr flush dev LINK", "[]") },
        Drift {
            contained: guarded,
            ..drift(
                "host_side",
                "IPv6 on the bridge",
                "sysctl -qw net.ipv6.conf.BRIDGE.disable_ipv6=0",
                "disable_ipv6 on td-",
            )
        },
        Drift {
            contained: guarded,
            ..drift(
                "host_side",
                "an address on the bridge",
                "ip addr add 10.98.0.1/24 dev BRIDGE",
                "10.98.0.1/24 on td-",
            )
        },
        Drift {
            contained: guarded,
            ..drift(
                "host_side",
                "no check of reverse paths",
                "sysctl -qw net.ipv4.conf.LINK.rp_filter=0",
                "rp_filter on tg-",
            )
        },
        Drift {
            contained: guarded,
            ..drift(
                "sysctls",
                "forwarding on the link alone",
                "ip netns exec tenantd sysctl -qw net.ipv4.conf.LINK.forwarding=1",
                "forwarding on tg-",
            )
        },
        Drift {
            contained: guarded,
            ..drift("sysctls", "forwarding", "ip netns exec tenantd sysctl -qw net.ipv4.ip_forward=1", "ip_forward = 1")
        },
        Drift { weakens: false, ..drift("policy", "gone", "rm DIR/egress/policies/acme.json", "null") },
        Drift {
            weakens: false,
            ..drift("policy", "not a policy", "echo '{' >DIR/egress/policies/acme.json", "not a policy")
        },
        Drift {
            weakens: false,
            ..drift("policy", "open to others", "chmod 666 DIR/egress/policies/acme.json", "open to others")
        },
        Drift {
            contained: narrowed,
            ..drift(
                "allow",
                "one more",
                "sed -i 's/\"api.example.com:443\"/\"api.example.com:443\",\"evil.example.com:443\"/' DIR/egress/policies/acme.json",
                "evil.example.com:443",
            )
        },
        Drift {
            contained: narrowed,
            ..drift(
                "routes",
                "to another upstream",
                "sed -i 's|https://services.example.com|https://evil.example.com|' DIR/egress/policies/acme.json",
                "https://evil.example.com",
            )
        },
        Drift {
            contained: narrowed,
            ..drift(
                "budget",
                "more",
                "sed -i 's/\"day\":100/\"day\":100000/' DIR/egress/policies/acme.json",
                "100000 a day",
            )
        },
        Drift {
            contained: closed,
            ..drift(
                "subnet",
                "another tenant's",
                "sed -i 's|\"subnet\":\"[^\"]*\"|\"subnet\":\"10.77.200.0/28\"|' DIR/egress/policies/acme.json",
                "10.77.200.0/28",
            )
        },
        Drift {
            contained: narrowed,
            ..drift(
                "address",
                "another container's",
                "sed -i 's|\"address\":\"\\([0-9.]*\\)[.][0-9]*\"|\"address\":\"\\1.9\"|' DIR/egress/policies/acme.json",
                ".9, which another container may have",
            )
        },
        Drift {
            weakens: false,
            ..drift(
                "secrets",
                "changed",
                "sed -i s/s3cret-one/s3cret-two/ DIR/egress/secrets/acme.json",
                "(another value)",
            )
        },
        Drift { weakens: false, ..drift("secrets", "gone", "rm DIR/egress/secrets/acme.json", "[]") },
        drift("secrets", "open to others", "chmod 644 DIR/egress/secrets/acme.json", "open to others"),
    ]
}

impl Drift {
    fn run(&self, fleet: &Fleet) {
        let (link, bridge) = names_of(TENANT);
        let before = fleet.engine.identity(OURS);
        let dir = fleet.engine.dir().display().to_string();
        shell(fleet, &self.tamper.replace("LINK", &link).replace("BRIDGE", &bridge).replace("DIR", &dir));

        let plan = fleet.plan();
        assert_eq!(plan.addresses(), ["egress.acme"], "{:#}", plan.json);
        let change = plan.change("egress.acme");
        let mut found: BTreeSet<&str> = names(change).into_iter().collect();
        assert!(found.remove(self.attribute), "{change:#}");
        assert_eq!(found, self.also.iter().copied().collect(), "{change:#}");
        let tampered = attribute(change, self.attribute);
        assert!(tampered["before"].to_string().contains(self.actual), "{tampered:#}");
        assert_eq!((&tampered["weakens"], &tampered["cause"]), (&json!(self.weakens), &json!("drift")), "{tampered:#}");
        assert!(!plan.json.to_string().contains("s3cret"), "no secret is shown: {:#}", plan.json);

        let (code, printed) = fleet.apply();
        assert_eq!(code, 0, "{printed}");
        if let Some(step) = self.contained {
            let words = match step {
                "close-egress" => "close egress",
                "guard-egress" => "guard egress",
                _ => "narrow egress",
            };
            let at = |words: &str| printed.find(words).unwrap_or_else(|| panic!("{words}: {printed}"));
            assert!(at(words) < at("open egress"), "{printed}");
        }
        assert!(!printed.contains("s3cret"), "{printed}");
        assert_eq!(fleet.plan().code, 0);
        assert_eq!(fleet.engine.identity(OURS), before, "the container runs on");
        let _ = fleet.engine.within(&["sh", "-c", "ip link del evil; ip link del other"]).output();
    }
}

#[test]
fn every_attribute_of_egress_has_a_case() {
    let cases = all();
    let covered: BTreeSet<&str> = cases.iter().map(|case| case.attribute).collect();
    let known = BTreeSet::from([
        "address",
        "addresses",
        "allow",
        "bridge",
        "budget",
        "host_side",
        "link",
        "policy",
        "routes",
        "secrets",
        "subnet",
        "sysctls",
    ]);
    assert_eq!(covered, known);
}

#[test]
fn egress_paths_are_made_found_repaired_and_removed() {
    let mut fleet = Fleet::start("egress");
    fleet.within = true;
    fleet.host(&secrets_and_settings(&fleet));
    fleet.declare(TENANT, WAY_OUT);
    without_a_gateway(&fleet);
    shell(&fleet, "ip netns add tenantd");
    fleet.converge();
    made_as_declared(&fleet);
    let tampered = all();
    let mut cases: Vec<Case<'_>> = tampered
        .iter()
        .map(|drift| case(&format!("{}: {}", drift.attribute, drift.what), |fleet| drift.run(fleet)))
        .collect();
    cases.extend([
        case("an edit of the allowlist", edited),
        case("a secret that its owner rotates", rotated),
        case("a secret that the tenant's file holds", sealed),
        case("another's secret", another_secret),
        case("a range that nobody permits", not_permitted),
        case("the network made anew", network_anew),
        case("a link that is nobody's", strange_link),
        case("a policy that is nobody's", strange_policy),
        case("with the capabilities of the unit alone", capabilities),
        case("outside of the engine's network", elsewhere),
        case("a second tenantd with the same places", second_tenantd),
        case("no allowlist any more", no_egress),
    ]);
    fleet.cases(cases);

    fleet.undeclare(TENANT);
    fleet.declare("beta", "allowlist: [api.example.com:443]\n");
    fleet.converge();
    assert!(policy_file(&fleet, TENANT).is_none() && policy_file(&fleet, "beta").is_some());
    fleet.undeclare("beta");
    fleet.converge();
    let links = shell(&fleet, "ip -o link; ip -n tenantd -o link");
    assert!(!links.contains(": tg-") && !links.contains(": td-"), "nothing is left:\n{links}");
    let files = shell(&fleet, &format!("find {}/egress -type f ! -name owner", fleet.engine.dir().display()));
    assert_eq!(files, "");
    fleet.end();
}

fn without_a_gateway(fleet: &Fleet) {
    let plan = fleet.plan();
    let (code, reason, help) = plan.blocked(TENANT);
    assert_eq!(code, "gateway-missing", "{reason}");
    assert!(help.contains("tenantd gateway"), "{help}");
    let (code, printed) = fleet.apply();
    assert_ne!(code, 0, "{printed}");
    assert!(fleet.engine.network(OURS).is_none() && policy_file(fleet, TENANT).is_none());
}

fn made_as_declared(fleet: &Fleet) {
    let (link, bridge) = names_of(TENANT);
    let subnet = text(&fleet.engine.network(OURS).unwrap()["IPAM"]["Config"][0]["Subnet"]);
    let gateway = text(&fleet.engine.network(OURS).unwrap()["IPAM"]["Config"][0]["Gateway"]);
    let policy = policy_file(fleet, TENANT).unwrap();
    assert_eq!((&policy["subnet"], &policy["v"]), (&json!(subnet), &json!(2)));
    let own = &fleet.engine.inspect(OURS)["NetworkSettings"]["Networks"][OURS];
    assert!(own["IPAddress"].is_string() && own["IPAddress"] == own["IPAMConfig"]["IPv4Address"], "{own:#}");
    assert_eq!(policy["address"], own["IPAddress"], "the policy serves the container's own address");
    assert_eq!(policy["allow"], json!(["api.example.com:443", "10.20.0.0/24:5432"]));
    assert_eq!(policy["routes"][0]["upstream"], "https://services.example.com");
    let secret = fs::read_to_string(fleet.engine.dir().join("crm")).unwrap();
    assert_eq!(values(fleet), json!({"acme/crm": secret.trim()}));
    assert!(!policy.to_string().contains("s3cret"));
    let modes = shell(
        fleet,
        &format!("cd {}/egress; stat -c '%a %U' . policies policies/* secrets secrets/*", fleet.engine.dir().display()),
    );
    assert_eq!(modes, "750 root\n750 root\n640 root\n750 root\n640 root\n");

    let inner = shell(fleet, &format!("ip -n tenantd -4 -o addr show dev {link}"));
    assert!(inner.contains(&format!("inet {gateway}/28 ")), "{inner}");
    let here = shell(fleet, &format!("ip -o link show dev {link}"));
    assert!(here.contains(&format!("master {bridge}")) && here.contains("LOWER_UP"), "{here}");
    for port in [&link, &bridge] {
        let addresses = shell(fleet, &format!("ip -o addr show dev {port}"));
        assert_eq!(addresses, "", "the host has no address on {port}");
    }
    let routes = shell(fleet, "ip -n tenantd route; ip -n tenantd -6 route");
    assert_eq!(routes.lines().count(), 1, "the gateway's namespace has no egress path:\n{routes}");
    let sysctl =
        shell(fleet, "ip netns exec tenantd cat /proc/sys/net/ipv4/ip_forward /proc/sys/net/ipv4/conf/all/rp_filter");
    assert_eq!(sysctl, "0\n1\n");
}

fn edited(fleet: &Fleet) {
    let before = fleet.engine.identity(OURS);
    fleet.declare(TENANT, &WAY_OUT.replace("api.example.com:443\"", "api.example.org:443\""));
    let plan = fleet.plan();
    let change = plan.change("egress.acme");
    assert_eq!((names(change), &attribute(change, "allow")["cause"]), (vec!["allow"], &json!("intent")));
    assert_eq!(attribute(change, "allow")["weakens"], json!(false));
    fleet.converge();
    assert_eq!(policy_file(fleet, TENANT).unwrap()["allow"], json!(["api.example.org:443", "10.20.0.0/24:5432"]));
    fleet.declare(TENANT, WAY_OUT);
    fleet.converge();
    assert_eq!(fleet.engine.identity(OURS), before, "the container runs on");
}

fn rotated(fleet: &Fleet) {
    let before = fleet.engine.identity(OURS);
    fs::write(fleet.engine.dir().join("crm"), "s3cret-next\n").unwrap();
    let plan = fleet.plan();
    let secrets = attribute(plan.change("egress.acme"), "secrets");
    assert_eq!((&secrets["cause"], &secrets["weakens"]), (&json!("intent"), &json!(false)), "{secrets:#}");
    assert!(!plan.json.to_string().contains("s3cret"));
    fleet.converge();
    assert_eq!(values(fleet), json!({"acme/crm": "s3cret-next"}));
    assert_eq!(fleet.engine.identity(OURS), before, "the container runs on");
}

fn sealed(fleet: &Fleet) {
    let keys = [age::x25519::Identity::generate(), age::x25519::Identity::generate()];
    let path = fleet.engine.dir().join("identity");
    fs::write(&path, keys[0].to_string().expose_secret()).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    let declare = |name: &str, key: &age::x25519::Identity| {
        let tenantd = env!("CARGO_BIN_EXE_tenantd");
        let seal = format!("echo s3cret-sealed | {tenantd} egress seal {name} --to {}", key.to_public());
        let lines = WAY_OUT.replace("acme/crm", "acme/erp") + &shell(fleet, &seal).replace(name, "acme/erp");
        assert!(lines.contains("BEGIN AGE") && !lines.contains("s3cret-sealed"), "{lines}");
        fleet.declare(TENANT, &lines);
    };
    declare("acme/erp", &keys[0]);
    fleet.converge();
    assert_eq!(values(fleet), json!({"acme/erp": "s3cret-sealed"}));
    assert_eq!(fleet.plan().addresses(), [""; 0]);
    for (name, key, part) in [("acme/other", &keys[0], "another name"), ("acme/erp", &keys[1], "cannot be decrypted")] {
        declare(name, key);
        let (code, printed) = fleet.apply();
        assert!(code != 0 && printed.contains(part) && !printed.contains("s3cret-sealed"), "{printed}");
        assert_eq!(values(fleet), json!({"acme/erp": "s3cret-sealed"}), "the former one stays in force");
    }
    fleet.declare(TENANT, WAY_OUT);
    fleet.converge();
    assert_eq!(values(fleet), json!({"acme/crm": "s3cret-next"}));
}

fn another_secret(fleet: &Fleet) {
    fleet.declare(TENANT, &WAY_OUT.replace("acme/crm", "beta/crm"));
    let (code, reason, _) = fleet.plan().blocked(TENANT);
    assert_eq!(code, "secret-not-granted");
    assert!(reason.contains("beta/crm") && !reason.contains("acme/crm"), "{reason}");
    let unknown = WAY_OUT.replace("acme/crm", "no/such");
    fleet.declare(TENANT, &unknown);
    let same = fleet.plan().blocked(TENANT).1.replace("no/such", "beta/crm");
    assert_eq!(same, reason, "whether there is such a secret is not shown");

    let before = fleet.engine.identity(OURS);
    let (code, printed) = fleet.apply();
    assert_ne!(code, 0, "{printed}");
    let policy = policy_file(fleet, TENANT).unwrap();
    assert_eq!(policy["routes"], Value::Null, "what is not declared any more is closed: {policy:#}");
    assert_eq!(policy["allow"], json!(["api.example.com:443", "10.20.0.0/24:5432"]), "the rest stays open");
    assert_eq!(fleet.engine.identity(OURS), before);

    fleet.declare(TENANT, &WAY_OUT.replace("services.example.com", "evil.example.com"));
    let (code, reason, _) = fleet.plan().blocked(TENANT);
    assert_eq!(code, "secret-not-granted");
    assert!(reason.contains("evil.example.com"), "{reason}");
    fleet.declare(TENANT, WAY_OUT);
    fleet.converge();
}

fn not_permitted(fleet: &Fleet) {
    fleet.declare(TENANT, &WAY_OUT.replace("10.20.0.0/24", "10.30.0.0/24"));
    assert_eq!(fleet.plan().blocked(TENANT).0, "destination-not-permitted");
    fleet.apply();
    assert_eq!(policy_file(fleet, TENANT).unwrap()["allow"], json!(["api.example.com:443"]));
    fleet.declare(TENANT, WAY_OUT);
    fleet.converge();
}

fn network_anew(fleet: &Fleet) {
    fleet.recreate_network(TENANT, |body| body["Internal"] = json!(false));
    fleet.converge();
    made_as_declared(fleet);
}

fn strange_link(fleet: &Fleet) {
    shell(fleet, "ip link add tg-strange type veth peer name tg-strange netns tenantd");
    let plan = fleet.plan();
    assert_eq!(plan.addresses(), ["egress.tg-strange"], "{:#}", plan.json);
    fleet.converge();
    let links = shell(fleet, "ip -o link; ip -n tenantd -o link");
    assert!(!links.contains("tg-strange"), "{links}");
}

fn strange_policy(fleet: &Fleet) {
    let dir = fleet.engine.dir().display();
    shell(fleet, &format!("cd {dir}/egress/policies; sed s/acme/mallory/ acme.json >mallory.json"));
    assert_eq!(fleet.plan().addresses(), ["egress.mallory"]);
    fleet.converge();
    assert!(policy_file(fleet, "mallory").is_none());
}

/// What the unit grants is enough to make a link, and none of it is too much.
fn capabilities(fleet: &Fleet) {
    let unit = fs::read_to_string(repository("systemd/tenantd.service")).unwrap();
    let granted = unit.lines().find_map(|line| line.strip_prefix("CapabilityBoundingSet=")).unwrap();
    let all: Vec<String> = granted.split(' ').map(|name| name.replace("CAP_", "").to_ascii_lowercase()).collect();
    let works_with = |names: &[&String]| {
        shell(fleet, &format!("ip link del {} 2>/dev/null || true", names_of(TENANT).0));
        let mut bounds = "-all".to_owned();
        bounds.extend(names.iter().map(|name| format!(",+{name}")));
        let dir = fleet.engine.dir().display();
        let script = format!(
            "setpriv --no-new-privs --inh-caps=-all --bounding-set={bounds} {} --host {dir}/host.yaml apply --yes --worktree {dir}/fleet",
            env!("CARGO_BIN_EXE_tenantd")
        );
        run(fleet.engine.within(&["env", "-u", "DOCKER_HOST", "sh", "-c", &script])).status.success()
    };
    assert!(works_with(&all.iter().collect::<Vec<_>>()), "{granted} is enough");
    for left_out in ["net_admin", "sys_admin"] {
        let rest: Vec<&String> = all.iter().filter(|name| *name != left_out).collect();
        assert!(rest.len() < all.len() && !works_with(&rest), "{left_out} is needed");
    }
    fleet.converge();
}

/// The engine's socket can be reached from other namespaces; its networks cannot.
fn elsewhere(fleet: &Fleet) {
    let words = ["plan", "--worktree", "fleet", "--detailed-exitcode", "--format", "json"];
    let plan = Plan::of(&run(fleet.tenantd_itself(&words)));
    assert_eq!(plan.blocked(TENANT).0, "engine-elsewhere");
}

/// Another data root on the same host: nothing of the first one's is touched, whatever the second shares with it.
fn second_tenantd(fleet: &Fleet) {
    let dir = fleet.engine.dir().display().to_string();
    let (link, _) = names_of(TENANT);
    let state =
        || shell(fleet, &format!("cat {dir}/egress/policies/*; ip -o link show dev {link}; ip -n tenantd -o link"));
    let before = state();
    fs::create_dir_all(fleet.engine.dir().join("empty/tenants")).unwrap();
    fs::copy(fleet.repo().join("fleet.yaml"), fleet.engine.dir().join("empty/fleet.yaml")).unwrap();
    fs::copy(fleet.repo().join("tiers.yaml"), fleet.engine.dir().join("empty/tiers.yaml")).ok();
    let second = |root: &str, egress: &str, words: &[&str]| {
        let text = format!(
            "apiVersion: tenantd/v1\nkind: Host\nengine: unix://{dir}/docker.sock\ndataRoot: {dir}/{root}\n\
             workspaces: {{backend: folder, unenforced: accept}}\negress: {{user: nobody, {egress}}}\n"
        );
        fs::write(fleet.engine.dir().join("second.yaml"), text).unwrap();
        let own = ["env", "-C", dir.as_str(), "timeout", "60", env!("CARGO_BIN_EXE_tenantd"), "--host", "second.yaml"];
        let ended = run(fleet.engine.within(&[&own, words].concat()));
        (code(&ended), said(&ended))
    };
    let apply = ["apply", "--yes", "--worktree", "empty"];
    let (policies, namespace) = (format!("policies: {dir}/egress"), "namespace: tenantd");
    let (apart, other) = (format!("policies: {dir}/egress-two"), "namespace: tenantd-two");
    for (egress, setting) in [
        (format!("{policies}, {namespace}"), "egress.policies"),
        (format!("{policies}, {other}"), "egress.policies"),
        (format!("{apart}, {namespace}"), "egress.namespace"),
    ] {
        for words in [&apply[..], &["gateway", "--prepare"]] {
            let (ended, printed) = second("data-two", &egress, words);
            assert_eq!(ended, 1, "{words:?} is refused: {printed}");
            let owner = format!("belongs to the tenantd with the data root {}", fleet.data().display());
            assert!(printed.contains(&owner) && printed.contains(&format!("another {setting}")), "{printed}");
        }
        // A plan is made, and finds nothing of the other's there.
        let (_, printed) = second("data-two", &egress, &["plan", "--worktree", "empty"]);
        assert!(!printed.contains("egress.acme") && !printed.contains("tg-"), "{printed}");
    }
    let (ended, printed) = second("data-two", &format!("{apart}, {other}"), &["gateway", "--prepare"]);
    assert_eq!(ended, 0, "with places of its own it may: {printed}");
    shell(fleet, "ip netns del tenantd-two");
    assert_eq!(state(), before);
    assert_eq!(shell(fleet, "ip -n tenantd -o link show lo").matches(&fleet.data().display().to_string()).count(), 1);
    fleet.in_order();
    for name in ["empty", "data-two"] {
        let _ = fs::remove_dir_all(fleet.engine.dir().join(name));
    }
}

fn no_egress(fleet: &Fleet) {
    let before = fleet.engine.identity(OURS);
    fleet.declare(TENANT, "");
    let plan = fleet.plan();
    assert_eq!(plan.addresses(), ["egress.acme"]);
    assert_eq!(plan.change("egress.acme")["actions"], json!(["delete"]));
    fleet.converge();
    assert!(policy_file(fleet, TENANT).is_none() && secrets_file(fleet, TENANT).is_none());
    let links = shell(fleet, "ip -o link; ip -n tenantd -o link");
    assert!(!links.contains("tg-"), "{links}");
    assert_eq!(fleet.engine.identity(OURS), before, "the container runs on");
}
