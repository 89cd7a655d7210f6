//! What a tenant comes to have, and whom an error holds.

use super::*;
use crate::model::{
    Access, Bytes, DriftMode, Expose, Host, RuntimeClass,
    desired::Sandbox,
    host::{
        Domain, Ingress, IngressLimits, JournalLimits, NotifyEvent, Overcommit, Secret, Tls, VerifyMode,
        WorkspaceSettings,
    },
    policy::{Guards, Policy as Daemon, Retry},
    quantity::Timespan,
    workspace::{BackendChoice, Unenforced},
};

const FLEET_FILE: &str = "\
apiVersion: tenantd/v1
kind: Fleet
defaults:
  tier: small
  image: agency/agent:1
  command: [/agent]
  environment: {MODE: fast, LEVEL: info}
hardening: {tmpSize: 32MiB, openFiles: 1024, init: false}
logs: {maxFiles: 7}
";

const TIERS_FILE: &str = "\
apiVersion: tenantd/v1
kind: Tiers
tiers:
  small: {cpus: 0.5, memory: 256MiB, disk: 1GiB, sessions: 1}
  large: {cpus: 4, memory: 8GiB, disk: 20GiB, pids: 512, sessions: 9, runtime: gvisor, mayRaise: {memory: 16GiB}}
  any: {cpus: 1, memory: 1GiB, disk: 1GiB, sessions: 2, runtime: gvisor, allowedRuntimes: [container, gvisor]}
";

/// Paths and texts, or files and rules.
type Pairs<'a> = &'a [(&'a str, &'a str)];

fn tree(files: Pairs<'_>) -> Tree {
    let files = files.iter().map(|(path, text)| SourceFile { path: (*path).into(), bytes: (*text).into() });
    let mut files: Vec<SourceFile> = files.collect();
    files.sort_by(|a, b| a.path.cmp(&b.path));
    Tree { files, ..Tree::default() }
}

fn file(name: &str, more: &str) -> String {
    format!("apiVersion: tenantd/v1\nkind: Tenant\ntenant: {name}\n{more}")
}

/// One tenant file beside the policy above.
fn one(more: &str) -> Desired {
    compile(&tree(&[("fleet.yaml", FLEET_FILE), ("tiers.yaml", TIERS_FILE), ("tenants/ant.yaml", &file("ant", more))]))
}

fn tenant(more: &str) -> Arc<Tenant> {
    let desired = one(more);
    assert_eq!(desired.findings, [], "{more}");
    desired.tenants["ant"].clone()
}

fn codes(desired: &Desired) -> Vec<(&str, &str)> {
    desired.findings.iter().map(|f| (f.file.as_str(), f.code)).collect()
}

fn held(desired: &Desired) -> Vec<&str> {
    desired.held.iter().map(String::as_str).collect()
}

fn names(desired: &Desired) -> Vec<&str> {
    desired.tenants.keys().map(TenantName::as_str).collect()
}

#[test]
fn a_tenant_that_says_nothing_has_what_fleet_and_tier_give() {
    let ant = tenant("");
    assert_eq!((ant.tier.as_str(), ant.class, ant.sessions), ("small", RuntimeClass::Container, 1));
    assert_eq!((ant.image.as_str(), ant.command.clone()), ("agency/agent:1", Some(vec!["/agent".to_owned()])));
    let limits = ant.limits;
    let shown = [limits.cpus.to_string(), limits.memory.to_string(), limits.pids.to_string(), limits.disk.to_string()];
    assert_eq!(shown, ["0.5", "256MiB", "256", "1GiB"]);
    assert_eq!(ant.disk_room, limits.disk);
    assert_eq!(
        ant.environment.clone().into_iter().collect::<Vec<_>>(),
        [("LEVEL".to_owned(), "info".to_owned()), ("MODE".to_owned(), "fast".to_owned())]
    );
    assert!(ant.allowlist.is_empty());
    let Sandbox { tmp_size, shm_size, open_files, init, log_size, log_files, log_compress, workspace_noexec } =
        ant.sandbox;
    assert!(!workspace_noexec && !log_compress);
    assert_eq!((tmp_size.to_string().as_str(), shm_size), ("32MiB", Sandbox::default().shm_size));
    assert_eq!((open_files, init, log_size, log_files), (1024, false, Sandbox::default().log_size, 7));
}

#[test]
fn what_a_tenant_says_goes_before_what_is_given() {
    let ant = tenant("command: [/own, --flag]\nimage: agency/own:2\nenvironment: {MODE: slow, OWN: \"\"}\n");
    assert_eq!((ant.image.as_str(), ant.command.as_ref().unwrap().len()), ("agency/own:2", 2));
    let environment: Vec<String> = ant.environment.iter().map(|(key, value)| format!("{key}={value}")).collect();
    assert_eq!(environment, ["LEVEL=info", "MODE=slow", "OWN="]);

    let ant = tenant(
        "tier: large\nlimits: {cpus: 0.25, memory: 12GiB, pids: 16}\nallowlist: [B.example.com:443, a.example.com:80]\n",
    );
    let limits = ant.limits;
    let shown = [limits.cpus.to_string(), limits.memory.to_string(), limits.pids.to_string(), limits.disk.to_string()];
    assert_eq!(shown, ["0.25", "12GiB", "16", "20GiB"]);
    let allowed: Vec<String> = ant.allowlist.iter().map(ToString::to_string).collect();
    assert_eq!(allowed, ["a.example.com:80", "b.example.com:443"]);
}

#[test]
fn a_runtime_is_the_tiers_own_or_one_that_it_allows() {
    for (more, class) in [
        ("", Some(RuntimeClass::Container)),
        ("runtime: microvm\n", Some(RuntimeClass::Microvm)),
        ("tier: large\n", Some(RuntimeClass::Gvisor)),
        ("tier: large\nruntime: microvm\n", Some(RuntimeClass::Microvm)),
        // A weaker one than the tier's only where the tier lists it.
        ("tier: large\nruntime: container\n", None),
        ("tier: any\nruntime: container\n", Some(RuntimeClass::Container)),
        ("tier: any\nruntime: microvm\n", None),
    ] {
        let desired = one(more);
        assert_eq!(desired.tenants.get("ant").map(|ant| ant.class), class, "{more}");
        assert_eq!(desired.findings.iter().any(|f| f.code == "runtime-not-allowed"), class.is_none(), "{more}");
    }
}

#[test]
fn a_limit_goes_up_to_what_the_tier_lets_it_be_raised_to() {
    for (more, is_allowed) in [
        ("limits: {memory: 256MiB}\n", true),
        ("limits: {memory: 257MiB}\n", false),
        ("tier: large\nlimits: {memory: 16GiB}\n", true),
        ("tier: large\nlimits: {memory: 16385MiB}\n", false),
        ("tier: large\nlimits: {cpus: 4.1}\n", false),
        ("limits: {pids: 256}\n", true),
        ("limits: {pids: 257}\n", false),
        ("limits: {disk: 1025MiB}\n", false),
        ("limits: {cpus: 0.51}\n", false),
    ] {
        let desired = one(more);
        let expected: &[_] = if is_allowed { &[] } else { &[("tenants/ant.yaml", "limit-above-tier")] };
        assert_eq!(codes(&desired), expected, "{more}");
        assert_eq!(held(&desired).is_empty(), is_allowed, "{more}");
    }
}

#[test]
fn without_a_file_of_tiers_the_built_in_ones_apply() {
    let fleet = "apiVersion: tenantd/v1\nkind: Fleet\ndefaults: {image: a/b}\n";
    for (tier, cpus, memory, disk, sessions) in [
        ("free", "1", "512MiB", "2GiB", 1),
        ("pro", "2", "2GiB", "10GiB", 3),
        ("team", "4", "4GiB", "20GiB", 5),
        ("enterprise", "8", "16GiB", "100GiB", 10),
    ] {
        let text = file("ant", &format!("tier: {tier}\n"));
        let desired = compile(&tree(&[("fleet.yaml", fleet), ("tenants/ant.yaml", &text)]));
        let ant = &desired.tenants["ant"];
        let limits = ant.limits;
        assert_eq!([limits.cpus.to_string(), limits.memory.to_string(), limits.disk.to_string()], [cpus, memory, disk]);
        assert_eq!((limits.pids.get(), ant.sessions, ant.class), (256, sessions, RuntimeClass::Container));
    }
}

#[test]
fn an_error_holds_every_name_that_its_file_may_stand_for_and_nobody_else() {
    let good = file("good", "");
    let cases: [(Pairs<'_>, &[&str]); 8] = [
        (&[("tenants/ant.yaml", "no: yaml: at all")], &["ant"]),
        (&[("tenants/ant.yaml", &file("ant", "teir: small\n"))], &["ant"]),
        (&[("tenants/ant.yaml", &file("bee", ""))], &["ant", "bee"]),
        (&[("tenants/ant.yaml", &file("ant", "")), ("tenants/bee.yaml", &file("ant", ""))], &["ant", "bee"]),
        (&[("tenants/ant.yaml", &file("Ant", ""))], &["ant"]),
        (&[("tenants/Ant.yaml", &file("ant", ""))], &["Ant", "ant"]),
        (&[("tenants/ant.v2.yaml", &file("cow", ""))], &["ant", "cow"]),
        (&[("tenants/ant.yaml", "\u{1}")], &["ant"]),
    ];
    for (files, expected) in cases {
        let mut all =
            vec![("fleet.yaml", FLEET_FILE), ("tiers.yaml", TIERS_FILE), ("tenants/good.yaml", good.as_str())];
        all.extend(files);
        let desired = compile(&tree(&all));
        assert_eq!(held(&desired), expected, "{files:?}");
        assert_eq!(names(&desired), ["good"], "{files:?}");
        assert!(desired.policy_usable, "{files:?}");
    }
}

#[test]
fn what_a_source_could_not_read_holds_the_tenant_as_well() {
    let good = file("good", "");
    for (path, expected) in [
        ("tenants/ant.yaml", "ant"),
        ("tenants/ant.yml", "ant"),
        ("tenants/ant", "ant"),
        ("tenants/ant.yaml.orig", "ant"),
        ("tenants/eu/ant.yaml", "ant"),
    ] {
        let mut tree = tree(&[("fleet.yaml", FLEET_FILE), ("tiers.yaml", TIERS_FILE), ("tenants/good.yaml", &good)]);
        tree.findings.push(Finding::on_file(path, "symlink", "it is a link", "commit the file"));
        let desired = compile(&tree);
        assert_eq!((held(&desired), names(&desired)), (vec![expected], vec!["good"]), "{path}");
    }
}

#[test]
fn an_error_beside_the_tenant_files_holds_everybody_and_blames_nobody_else() {
    let good = file("good", "");
    let cases: [(Pairs<'_>, Pairs<'_>); 5] = [
        (&[], &[("fleet.yaml", "missing-file")]),
        (&[("fleet.yaml", "kind: Fleet\n")], &[("fleet.yaml", "missing-key")]),
        (&[("fleet.yaml", FLEET_FILE)], &[("fleet.yaml", "unknown-tier")]),
        (&[("fleet.yaml", FLEET_FILE), ("tiers.yaml", "- no tiers\n")], &[("tiers.yaml", "wrong-type")]),
        (
            &[("fleet.yaml", FLEET_FILE), ("tiers.yaml", &TIERS_FILE.replace("cpus: 0.5", "cpus: lots"))],
            &[("tiers.yaml", "wrong-unit")],
        ),
    ];
    for (files, expected) in cases {
        let mut all = vec![("tenants/good.yaml", good.as_str()), ("tenants/none.yaml", "{")];
        all.extend(files);
        let desired = compile(&tree(&all));
        let beside: Vec<_> = codes(&desired).into_iter().filter(|(file, _)| *file != "tenants/none.yaml").collect();
        assert_eq!(beside, expected, "{files:?}");
        assert_eq!((held(&desired), names(&desired)), (vec!["good", "none"], vec![]), "{files:?}");
        assert!(!desired.policy_usable, "{files:?}");
    }

    let mut tree = tree(&[("fleet.yaml", FLEET_FILE), ("tiers.yaml", TIERS_FILE)]);
    tree.findings.push(Finding::on_file("tenants", "symlink", "it is a link", "commit the folder"));
    assert!(!compile(&tree).policy_usable, "without the folder nobody is known to be gone");
}

#[test]
fn findings_come_sorted_and_each_once() {
    let bad = file("bad", "teir: small\nlimits: {memory: 1T, cpus: x}\nallowlist: [a]\n");
    let files = [("tenants/z.yaml", bad.as_str()), ("tenants/a.yaml", &bad), ("fleet.yaml", FLEET_FILE)];
    let desired = compile(&tree(&files));
    assert!(desired.findings.is_sorted());
    let mut once = desired.findings.clone();
    once.dedup();
    assert_eq!(once, desired.findings);
    assert_eq!(desired.findings.iter().filter(|f| f.code == "duplicate-tenant").count(), 2);
}

#[test]
fn what_the_daemon_decides_by_comes_from_the_fleet_and_each_tenants_drift_mode_from_itself() {
    let compiled = |more: &str| {
        let fleet = format!("{FLEET_FILE}{more}");
        let own = file("own", "driftDetection: {mode: disabled}\n");
        let files = [("fleet.yaml", fleet.as_str()), ("tiers.yaml", TIERS_FILE), ("tenants/own.yaml", own.as_str())];
        let desired = compile(&tree(&[&files[..], &[("tenants/ant.yaml", &file("ant", ""))]].concat()));
        assert_eq!(desired.findings, [], "{more}");
        (desired.policy, desired.tenants["ant"].drift, desired.tenants["own"].drift)
    };
    assert_eq!(compiled(""), (Daemon::default(), DriftMode::Enabled, DriftMode::Disabled));
    let all = "driftDetection: {mode: warn}\nguards: {removals: {percent: 0, atLeast: 9, window: 90s}}\n\
               retry: {initial: 2s, max: 1h}\nhealth: {trialPeriod: 0s}\ningress: {waitingPage: true}\n";
    let policy = Daemon {
        guards: Guards { percent: 0, at_least: 9, window: Timespan::seconds(90) },
        retry: Retry { initial: Timespan::seconds(2), max: Timespan::seconds(3_600) },
        healthy_after: Timespan::seconds(0),
        waiting_page: true,
    };
    assert_eq!(compiled(all), (policy, DriftMode::Warn, DriftMode::Disabled));
    // One number of a pair leaves the other at its default.
    let (policy, ..) = compiled("guards: {removals: {atLeast: 1}}\nretry: {max: 1s}\n");
    assert_eq!(policy.guards, Guards { at_least: 1, ..Guards::default() });
    assert_eq!(policy.retry, Retry { max: Timespan::seconds(1), ..Retry::default() });
}

fn settings(more: &str) -> Host {
    host("host.yaml", format!("apiVersion: tenantd/v1\nkind: Host\n{more}").as_bytes()).unwrap()
}

#[test]
fn a_host_that_says_nothing_follows_nothing_and_a_url_alone_is_enough() {
    assert_eq!(settings(""), Host::default());
    let source = settings("source: {url: /srv/fleet.git}\n").source.unwrap();
    assert_eq!((source.url.as_str(), source.branch.as_str(), source.path.as_str()), ("/srv/fleet.git", "main", ""));
    assert_eq!((source.interval, source.timeout), (Timespan::seconds(60), Timespan::seconds(60)));
    assert_eq!((source.username.as_str(), source.password, source.webhook_secret), ("git", None, None));
    assert_eq!(settings("source: {url: /srv/fleet.git, path: .}\n").source.unwrap().path, "");
}

#[test]
fn a_host_gets_what_its_file_says() {
    let every_key = include_str!("../../../tests/samples/valid-hosts/every-key.yaml");
    let host = host("host.yaml", every_key.as_bytes()).unwrap();
    let source = host.source.unwrap();
    assert_eq!(source.url, "https://git.example.com/ops/fleet.git");
    assert_eq!((source.branch.as_str(), source.path.as_str()), ("release/2026", "fleets/eu"));
    assert_eq!((source.interval, source.timeout), (Timespan::seconds(90), Timespan::milliseconds(1500)));
    assert_eq!(source.username, "tenantd");
    assert_eq!(source.password, Some(Secret::File("/etc/tenantd/token".into())));
    assert_eq!(source.webhook_secret, Some(Secret::Credential("webhook".to_owned())));
    let verify = host.verify;
    let names: Vec<&str> = verify.signers.iter().map(|signer| signer.name.as_str()).collect();
    assert_eq!((verify.mode, names), (VerifyMode::All, vec!["ada@example.com", "ada@example.com"]));
    assert_eq!(verify.gnupg_home, Some("/etc/tenantd/gnupg".into()));
    assert_eq!(verify.since.map(|commit| commit.len()), Some(40));
    assert_eq!((host.socket, host.socket_group.as_deref()), ("/run/tenantd/other.sock".into(), Some("ops")));
    let listen = host.listen.unwrap();
    assert_eq!(listen.address.to_string(), "[::1]:9477");
    assert_eq!(listen.token, Secret::Credential("token".to_owned()));
    let notify = host.notify.unwrap();
    assert_eq!(notify.url, Secret::File("/etc/tenantd/hook".into()));
    assert_eq!(notify.events, [NotifyEvent::Held, NotifyEvent::Failed].into());
    assert_eq!(host.journal, JournalLimits { file_size: Bytes::new(65_536), files: 2 });
    assert_eq!((host.resync, host.weakest_drift), (Timespan::seconds(1), DriftMode::Warn));
    assert_eq!(host.guards, Guards { percent: 0, at_least: 1, window: Timespan::seconds(604_800) });
    let workspaces = WorkspaceSettings {
        backend: BackendChoice::Image,
        unenforced: Unenforced::Accept,
        overcommit: Overcommit(150),
    };
    assert_eq!(host.workspaces, workspaces);
    assert_eq!(host.power.memory, Some(Bytes::mib(512)));
    let ingress = Ingress {
        listen: vec!["127.0.0.1:8080".parse().unwrap(), "[::]:443".parse().unwrap()],
        domain: "agents.example.com".parse().unwrap(),
        access: Access::Public,
        tls: Some(Tls { certificate: "/etc/tenantd/tls.pem".into(), key: "/etc/tenantd/tls.key".into() }),
        tls_terminated: false,
        origins: ["https://app.example.com", "http://localhost:3000"].map(|origin| origin.parse().unwrap()).into(),
        user: "ingress".to_owned(),
        state: "/srv/tenantd-ingress".into(),
        socket: "/run/tenantd/other-ingress/daemon.sock".into(),
        wake_timeout: Timespan::seconds(90),
        limits: IngressLimits {
            connections: 100,
            requests_per_tenant: 50,
            held_per_tenant: 5,
            held: 20,
            public_wakes: 1,
            head: Bytes::kib(16),
            hello: Timespan::seconds(5),
            idle: Timespan::seconds(600),
            stall: Timespan::seconds(120),
        },
    };
    assert_eq!(host.ingress, Some(ingress));

    let ssh = include_str!("../../../tests/samples/valid-hosts/ssh.yaml");
    let host = super::host("host.yaml", ssh.as_bytes()).unwrap();
    let source = host.source.unwrap();
    assert_eq!((source.path.as_str(), source.ssh_key), ("", Some("/etc/tenantd/id".into())));
    assert_eq!(source.known_hosts, Some("/etc/tenantd/known_hosts".into()));
    let notify = settings("notify: {url: {credential: hook}}\n").notify.unwrap();
    assert_eq!(notify.events, NotifyEvent::ALL.into(), "all of it, where nothing is listed");
}

#[test]
fn ingress_needs_an_address_and_a_domain_and_lets_nobody_in_without_a_token() {
    let ingress = settings("ingress: {listen: [\"127.0.0.1:8080\"], domain: agents.example.com}\n").ingress.unwrap();
    let domain: Domain = "agents.example.com".parse().unwrap();
    assert_eq!(ingress, Ingress::new(vec!["127.0.0.1:8080".parse().unwrap()], domain));
    assert_eq!((ingress.access, ingress.tls, ingress.user.as_str()), (Access::Token, None, "tenantd-ingress"));
}

#[test]
fn a_tenant_exposes_what_its_file_says_and_its_tier_says_to_whom() {
    let of = |tenant: &str, tier: &str| {
        let file = |path: &str, text: String| SourceFile { path: path.to_owned(), bytes: text.into() };
        let head = "apiVersion: tenantd/v1\nkind: ";
        let tier = format!("{{cpus: 1, memory: 1GiB, disk: 1GiB, sessions: 1{tier}}}");
        let files = vec![
            file("fleet.yaml", format!("{head}Fleet\ndefaults: {{tier: one, image: \"a:1\"}}\n")),
            file("tenants/ant.yaml", format!("{head}Tenant\ntenant: ant\n{tenant}")),
            file("tiers.yaml", format!("{head}Tiers\ntiers:\n  one: {tier}\n")),
        ];
        let desired = compile(&Tree { files, ..Tree::default() });
        assert_eq!(desired.findings, []);
        let ant = &desired.tenants["ant"];
        let path = |expose: &Expose| expose.path.as_ref().map(|path| path.as_str().to_owned());
        (ant.expose.iter().map(|(port, expose)| (*port, path(expose))).collect::<Vec<_>>(), ant.access)
    };
    let ports = "expose: [{port: 8080, path: /healthz}, {port: 80}]\n";
    assert_eq!(of("", ""), (vec![], Access::Token));
    assert_eq!(of(ports, "").0, [(80, None), (8080, Some("/healthz".to_owned()))]);
    assert_eq!(of(ports, ", access: public").1, Access::Public);
    assert_eq!(of("access: token\n", ", access: public").1, Access::Token);
    assert_eq!(of("access: public\n", ", access: token").1, Access::Public);
}

#[test]
fn a_branch_has_a_name_that_git_takes() {
    use super::values::BranchName;
    for name in ["main", "release/2026.1", "a", "user@site", "ünïcode"] {
        assert!(name.parse::<BranchName>().is_ok(), "{name}");
        assert!(git2::Branch::name_is_valid(name).unwrap(), "{name}");
    }
    for name in [
        "",
        "/main",
        "main/",
        "a//b",
        ".a",
        "a/.b",
        "a..b",
        "a.lock",
        "a.lock/b",
        "a b",
        "a~b",
        "a^b",
        "a:b",
        "a?b",
        "a*b",
        "a[b",
        "a\\b",
        "a@{b",
        "@",
        "a.",
        "-a",
        "HEAD",
        "refs/heads/main",
        "a\tb",
    ] {
        assert!(name.parse::<BranchName>().is_err(), "{name}");
    }
}
