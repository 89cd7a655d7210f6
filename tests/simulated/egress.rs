//! Who gets an egress path, and what is left of one that may not stay: plans, without an engine.

use std::collections::{BTreeMap, BTreeSet};

use proptest::{collection::btree_map, prelude::*};
use tenantd::{
    model::{
        Cpus, EgressPolicy, Host, Observed, Pairs, PlannedStep, Step, TENANT_LABEL, TenantPlan,
        egress::{EgressCapability, Filed, Fingerprint, FoundFiles, FoundLink, FoundSecrets, ObservedEgress, Sealed},
        observed::{ImageFacts, ImageState, Member, ObservedNetwork, Unobserved},
        record::Why,
        tree::{SourceFile, Tree},
    },
    plan, spec,
};

const HOST: &str = "apiVersion: tenantd/v1
kind: Host
egress:
  permittedRanges: [10.20.0.0/16]
  secrets:
    acme/crm: {file: /etc/tenantd/acme, tenants: [acme], upstreams: [services.example.com]}
    beta/crm: {file: /etc/tenantd/beta, tenants: [beta], upstreams: [services.example.com]}
    acme/erp: {sealed: true, tenants: [acme], upstreams: [services.example.com]}
  identity: {file: /etc/tenantd/identity}
";

const SEALED: &str = "-----BEGIN AGE ENCRYPTED FILE-----\nYWdl\n-----END AGE ENCRYPTED FILE-----\n";

const CRM: &str = "credentials:
  - route: /crm/
    upstream: https://services.example.com
    inject: {header: Authorization, value: \"Bearer ${secret:acme/crm}\"}
";

fn host() -> Host {
    spec::host("host.yaml", HOST.as_bytes()).unwrap()
}

/// An engine on this host, with a gateway beside it.
fn ready() -> Observed {
    let mut observed = Observed::default();
    observed.engine.cpus = Cpus::whole(4);
    observed.engine.runtimes.insert("runc".to_owned());
    observed.engine.seccomp = true;
    observed
        .images
        .insert("a:1".to_owned(), ImageState::Present(ImageFacts { id: "sha256:1".to_owned(), ..Default::default() }));
    observed.egress.capability = EgressCapability::Ready;
    for (name, value) in [("acme/crm", "one"), ("beta/crm", "two")] {
        observed.egress.secrets.insert(name.parse().unwrap(), Ok(Fingerprint::of(value)));
    }
    observed
}

/// The plan for one tenant that is declared with these lines; for nobody without any.
fn plan_of(lines: Option<&str>, observed: &Observed) -> TenantPlan {
    let file = |path: &str, text: String| SourceFile { path: path.to_owned(), bytes: text.into_bytes() };
    let head = "apiVersion: tenantd/v1\n";
    let mut files = vec![file("fleet.yaml", format!("{head}kind: Fleet\ndefaults: {{tier: free, image: \"a:1\"}}\n"))];
    files.extend(lines.map(|lines| file("tenants/acme.yaml", format!("{head}kind: Tenant\ntenant: acme\n{lines}"))));
    let desired = spec::compile(&Tree { files, ..Tree::default() });
    assert_eq!(desired.findings, []);
    plan::plan(&desired, &host(), observed).tenants.into_iter().find(|plan| plan.tenant == "acme").unwrap()
}

fn code(plan: &TenantPlan) -> Option<&str> {
    plan.blocked.as_ref().map(|blocked| blocked.code.as_str())
}

/// The policy that would be written for a tenant.
fn opened(plan: &TenantPlan) -> EgressPolicy {
    let egress = plan.steps.iter().find_map(|planned| match &planned.step {
        Step::OpenEgress { egress } => Some(egress.policy.clone()),
        _ => None,
    });
    egress.unwrap_or_else(|| panic!("the egress path is opened: {plan:#?}"))
}

/// The same host, where a policy of the tenant is in force.
fn with_policy(policy: EgressPolicy) -> Observed {
    let mut observed = ready();
    let values = BTreeMap::from([("acme/crm".parse().unwrap(), Fingerprint::of("one"))]);
    let secrets = FoundSecrets { values, ..FoundSecrets::default() };
    let files = FoundFiles { policy: Filed::Present(policy), edited: false, secrets: Filed::Present(secrets) };
    observed.egress.files.insert("acme".to_owned(), files);
    observed
}

#[test]
fn egress_opens_only_where_the_host_grants_all_of_it() {
    let cases = [
        ("allowlist: [api.example.com:443]\n", None),
        ("allowlist: [8.8.8.8:53]\n", None),
        ("allowlist: [10.20.30.40:5432, \"10.20.0.0/24:5432\"]\n", None),
        ("allowlist: [10.30.0.1:5432]\n", Some("destination-not-permitted")),
        ("allowlist: [\"10.16.0.0/12:5432\"]\n", Some("destination-not-permitted")),
        ("allowlist: [\"8.8.8.0/24:53\"]\n", Some("destination-not-permitted")),
        ("allowlist: [10.77.0.1:80]\n", Some("destination-not-permitted")),
        (CRM, None),
        (&CRM.replace("acme/crm", "beta/crm"), Some("secret-not-granted")),
        (&CRM.replace("acme/crm", "no/such"), Some("secret-not-granted")),
        (&CRM.replace("services", "evil"), Some("secret-not-granted")),
        (&CRM.replace("${secret:acme/crm}", "${secret:acme/crm} ${secret:beta/crm}"), Some("secret-not-granted")),
    ];
    for (lines, expected) in cases {
        let plan = plan_of(Some(lines), &ready());
        assert_eq!(code(&plan), expected, "{lines}");
        let opens = plan.steps.iter().any(|planned| matches!(planned.step, Step::OpenEgress { .. }));
        assert_eq!(opens, expected.is_none(), "{lines}");
    }
}

/// Ingress comes to a tenant by its link, from the gateway's namespace; the tenant itself reaches nothing by it.
#[test]
fn a_tenant_that_exposes_a_port_has_a_link_with_an_empty_policy() {
    let lines = "expose: [{port: 8080}]\n";
    let plan = plan_of(Some(lines), &ready());
    assert_eq!(code(&plan), None);
    let policy = opened(&plan);
    assert_eq!((policy.allow.len(), policy.routes.len()), (0, 0));
    assert!(policy.address.is_some(), "{policy:?}");
    // Its last port gone, the link goes first of all.
    let plan = plan_of(Some(""), &with_policy(policy));
    assert!(matches!(plan.contain.as_slice(), [PlannedStep { step: Step::CloseEgress { .. }, .. }]), "{plan:#?}");

    let mut observed = ready();
    observed.egress.capability = EgressCapability::GatewayMissing;
    let blocked = plan_of(Some(lines), &observed).blocked.unwrap();
    assert!(blocked.reason.starts_with("the tenant exposes ports, and the gateway's"), "{}", blocked.reason);
}

/// The egress path that a plan opens, found as it was opened.
fn with_path(plan: &TenantPlan) -> Observed {
    let mut observed = with_policy(opened(plan));
    let opens = plan.steps.iter().find_map(|planned| match &planned.step {
        Step::OpenEgress { egress } => Some(egress.clone()),
        _ => None,
    });
    let egress = opens.unwrap();
    let subnet = egress.policy.subnet;
    let address = format!("{}/{}", subnet.hosts().next().unwrap(), subnet.prefix_len());
    let link = FoundLink {
        alias: "acme".to_owned(),
        joined: true,
        up: true,
        bridge: egress.bridge.clone(),
        addresses: BTreeSet::from([address]),
        ..FoundLink::default()
    };
    observed.egress.links.insert(egress.link.clone(), link);
    for files in observed.egress.files.values_mut() {
        files.secrets = Filed::Missing;
    }
    observed
}

proptest! {
    /// Whichever ports a tenant exposes, and to whomever: it reaches by that what its allowlist names and nothing else, it
    /// keeps that path whatever else of its ports changes, and loses it with the last of them.
    #[test]
    fn exposing_ports_opens_nothing_to_a_tenant(
        ports in btree_map(1_u16.., prop::option::of("/[a-z]{0,8}"), 0..4),
        is_public in any::<bool>(),
        is_listed in any::<bool>(),
    ) {
        let declared = |ports: &BTreeMap<u16, Option<String>>| {
            let port = |(port, path): (&u16, &Option<String>)| match path {
                Some(path) => format!("{{port: {port}, path: {path}}}"),
                None => format!("{{port: {port}}}"),
            };
            let list = if is_listed { "allowlist: [api.example.com:443]\n" } else { "" };
            let access = if is_public { "access: public\n" } else { "" };
            let exposed = ports.iter().map(port).collect::<Vec<_>>().join(", ");
            let exposed = if ports.is_empty() { String::new() } else { format!("expose: [{exposed}]\n") };
            format!("{list}{exposed}{access}")
        };
        let is_egress = |step: &Step| {
            matches!(step, Step::OpenEgress { .. } | Step::NarrowEgress { .. } | Step::GuardEgress { .. } | Step::CloseEgress { .. })
        };
        let plan = plan_of(Some(&declared(&ports)), &ready());
        prop_assert_eq!(code(&plan), None);
        if ports.is_empty() && !is_listed {
            prop_assert!(!plan.all_steps().any(is_egress), "{plan:#?}");
            return Ok(());
        }
        let policy = opened(&plan);
        prop_assert_eq!((policy.allow.len(), policy.routes.len()), (usize::from(is_listed), 0));
        prop_assert!(policy.address.is_some());
        let next = plan_of(Some(&declared(&ports)), &with_path(&plan));
        prop_assert!(!next.contain.iter().any(|planned| is_egress(&planned.step)), "{next:#?}");
        let other = plan_of(Some(&declared(&BTreeMap::from([(9, None)]))), &with_path(&plan));
        prop_assert!(!other.contain.iter().any(|planned| is_egress(&planned.step)), "{other:#?}");
        prop_assert_eq!((opened(&next), opened(&other)), (policy.clone(), policy));
        let none = plan_of(Some(&declared(&BTreeMap::new())), &with_path(&plan));
        let closes = none.contain.iter().any(|planned| matches!(planned.step, Step::CloseEgress { .. }));
        prop_assert_eq!(closes, !is_listed);
    }
}

#[test]
fn a_refusal_does_not_tell_whether_there_is_such_a_secret() {
    let reason = |secret: &str| {
        let plan = plan_of(Some(&CRM.replace("acme/crm", secret)), &ready());
        plan.blocked.unwrap().reason.replace(secret, "SECRET")
    };
    assert_eq!(reason("beta/crm"), reason("no/such"));
}

#[test]
fn a_sealed_secret_comes_from_the_tenants_file_and_from_nowhere_else() {
    let holds = |name: &str| format!("sealed:\n  {name}: |\n    {}\n", SEALED.trim().replace('\n', "\n    "));
    let erp = CRM.replace("acme/crm", "acme/erp");
    assert_eq!(code(&plan_of(Some(&erp), &ready())), Some("secret-missing"));
    assert_eq!(code(&plan_of(Some(&format!("{CRM}{}", holds("acme/crm"))), &ready())), Some("secret-not-sealed"));
    let declared = format!("{erp}{}", holds("acme/erp"));
    let plan = plan_of(Some(&declared), &ready());
    assert_eq!(code(&plan), None);

    let mut observed = with_policy(opened(&plan));
    let values = BTreeMap::from([("acme/erp".parse().unwrap(), Fingerprint::of("one"))]);
    let mut printed = |text: &str, edited| {
        let sealed = BTreeMap::from([("acme/erp".parse().unwrap(), Fingerprint::of(text))]);
        let secrets = FoundSecrets { values: values.clone(), sealed, edited };
        observed.egress.files.get_mut("acme").unwrap().secrets = Filed::Present(secrets);
        let plan = plan_of(Some(&declared), &observed);
        let attributes = plan.changes.iter().flat_map(|change| &change.attributes);
        attributes
            .filter(|attribute| attribute.attribute.name == "secrets")
            .map(|attribute| attribute.why)
            .collect::<Vec<_>>()
    };
    assert_eq!(printed(SEALED, false), []);
    assert_eq!(printed(&SEALED.replace('Y', "Z"), false), [Why::Intent], "it was sealed anew");
    assert_eq!(printed(SEALED, true), [Why::Drift]);
    assert!("s3cret".parse::<Sealed>().is_err());
}

#[test]
fn a_tenant_without_egress_needs_no_gateway() {
    for capability in [
        EgressCapability::EngineElsewhere,
        EgressCapability::GatewayMissing,
        EgressCapability::Unknown("no netlink".to_owned()),
    ] {
        let mut observed = ready();
        observed.egress.capability = capability.clone();
        assert_eq!(code(&plan_of(Some(""), &observed)), None);
        let expected = match capability {
            EgressCapability::EngineElsewhere => "engine-elsewhere",
            EgressCapability::GatewayMissing => "gateway-missing",
            _ => "unobserved",
        };
        let plan = plan_of(Some("allowlist: [api.example.com:443]\n"), &observed);
        assert_eq!((code(&plan), plan.steps.len()), (Some(expected), 0));
    }
}

#[test]
fn a_secret_that_cannot_be_read_blocks_and_is_named() {
    let mut observed = ready();
    observed.egress.secrets.insert("acme/crm".parse().unwrap(), Err("no such file".to_owned()));
    let plan = plan_of(Some(CRM), &observed);
    assert_eq!(code(&plan), Some("secret-missing"));
    assert!(plan.blocked.unwrap().reason.contains("acme/crm cannot be read: no such file"));
}

#[test]
fn egress_opens_between_its_network_and_its_container() {
    let plan = plan_of(Some("allowlist: [api.example.com:443]\n"), &ready());
    let at = |wanted: fn(&Step) -> bool| plan.steps.iter().position(|planned| wanted(&planned.step)).unwrap();
    let network = at(|step| matches!(step, Step::CreateNetwork { .. }));
    let egress = at(|step| matches!(step, Step::OpenEgress { .. }));
    let start = at(|step| matches!(step, Step::Start { .. }));
    assert!(network < egress && egress < start, "{plan:#?}");
}

/// A tenant keeps of its egress path what is declared and granted, whatever keeps it from being made as declared.
#[test]
fn what_a_blocked_tenant_may_not_keep_is_taken_away() {
    let whole = format!("allowlist: [api.example.com:443, mail.example.com:25]\n{CRM}budget: {{day: 100}}\n");
    let in_force = opened(&plan_of(Some(&whole), &ready()));
    let left = |lines: &str| {
        let plan = plan_of(Some(lines), &with_policy(in_force.clone()));
        assert!(plan.blocked.is_some() && plan.steps.is_empty(), "{plan:#?}");
        match plan.contain.as_slice() {
            [] => in_force.clone(),
            [PlannedStep { step: Step::NarrowEgress { policy: Some(policy), .. }, .. }] => (**policy).clone(),
            other => panic!("{other:#?}"),
        }
    };
    let narrowed = left(&whole.replace("mail.example.com:25", "10.30.0.1:25"));
    assert_eq!(narrowed.allow, ["api.example.com:443".parse().unwrap()].into());
    assert_eq!((&narrowed.routes, narrowed.budget), (&in_force.routes, in_force.budget));

    let narrowed = left(&whole.replace("acme/crm", "beta/crm"));
    assert_eq!((narrowed.routes.len(), &narrowed.allow), (0, &in_force.allow));

    let narrowed = left(&whole.replace("mail.example.com:25", "10.30.0.1:25").replace("day: 100", "day: 5, month: 50"));
    assert_eq!((narrowed.budget.day, narrowed.budget.month), (Some(5), Some(50)));
    let narrowed = left(&whole.replace("mail.example.com:25", "10.30.0.1:25").replace("budget: {day: 100}", ""));
    assert_eq!(narrowed.budget.day, Some(100), "nothing grows while it is blocked");
}

/// What the gateway has of a tenant's secrets, and what a plan leaves of them at once; `None` where it leaves all.
fn left_secrets(lines: &str, filed: Filed<FoundSecrets>) -> Option<Vec<String>> {
    let mut observed = with_policy(opened(&plan_of(Some(lines), &ready())));
    observed.egress.files.get_mut("acme").unwrap().secrets = filed;
    let plan = plan_of(Some(lines), &observed);
    match plan.contain.as_slice() {
        [] => None,
        [PlannedStep { step: Step::NarrowEgress { policy: None, secrets: Some(secrets), .. }, .. }] => {
            Some(secrets.names.iter().map(ToString::to_string).collect())
        }
        other => panic!("{other:#?}"),
    }
}

/// A value that the gateway must not have, or have no more, does not wait for the rest of the egress path.
#[test]
fn secrets_that_are_not_declared_any_more_go_at_once() {
    let filed = |values: &[(&str, &str)], edited| {
        let values = values.iter().map(|(name, value)| (name.parse().unwrap(), Fingerprint::of(value))).collect();
        Filed::Present(FoundSecrets { values, edited, ..FoundSecrets::default() })
    };
    let host_only = "allowlist: [api.example.com:443]\n";
    let one = || Some(vec!["acme/crm".to_owned()]);
    for (lines, found, left) in [
        (CRM, filed(&[("acme/crm", "one")], false), None),
        (CRM, Filed::Missing, None),
        (host_only, Filed::Missing, None),
        // Taken from the file, or from the host's grants.
        (host_only, filed(&[("acme/crm", "one")], false), Some(vec![])),
        (CRM, filed(&[("acme/crm", "one"), ("beta/crm", "two")], false), one()),
        (CRM, filed(&[("beta/crm", "two")], false), Some(vec![])),
        // Rotated, changed by hand, open to others.
        (CRM, filed(&[("acme/crm", "former")], false), one()),
        (CRM, filed(&[("acme/crm", "one")], true), one()),
        (CRM, Filed::Wrong("it is open to others".to_owned()), one()),
        (host_only, Filed::Wrong("it is open to others".to_owned()), Some(vec![])),
    ] {
        assert_eq!(left_secrets(lines, found.clone()), left, "{lines} {found:?}");
    }
}

/// One whose container cannot be observed, which a tenant may bring about, loses what is not its own all the same.
#[test]
fn a_container_that_cannot_be_looked_at_keeps_nothing_open() {
    let whole = "allowlist: [api.example.com:443, mail.example.com:25]\n";
    let mut observed = with_policy(opened(&plan_of(Some(whole), &ready())));
    let member = |id: &str, tenant: Option<&str>| Member {
        id: id.to_owned(),
        name: id.to_owned(),
        tenant: tenant.map(str::to_owned),
    };
    for (id, owner, members) in [
        ("own", Some("acme"), vec![member("c1", Some("acme")), member("foreign", None)]),
        ("office", None, vec![member("c1", Some("acme")), member("desk", None)]),
    ] {
        let mut network = ObservedNetwork { id: id.to_owned(), tenant: owner.map(str::to_owned), ..Default::default() };
        network.spec.name = owner.map_or_else(|| id.to_owned(), |name| format!("tenantd-{name}"));
        network.members = members;
        observed.networks.push(network);
    }
    observed.unobserved.push(Unobserved {
        tenant: "acme".to_owned(),
        object: "container tenantd-acme".to_owned(),
        reason: "no answer".to_owned(),
        listed: None,
    });
    for lines in [Some("allowlist: [api.example.com:443]\n"), None] {
        let plan = plan_of(lines, &observed);
        assert_eq!((code(&plan), plan.steps.len()), (Some("unobserved"), 0));
        let disconnects: Vec<(&str, &str)> = plan
            .contain
            .iter()
            .filter_map(|planned| match &planned.step {
                Step::Disconnect { network, container } => Some((network.as_str(), container.as_str())),
                _ => None,
            })
            .collect();
        assert_eq!(disconnects, [("own", "foreign"), ("office", "c1")], "{plan:#?}");
        let closes = plan.contain.iter().any(|PlannedStep { step, .. }| match lines {
            Some(_) => matches!(step, Step::NarrowEgress { .. } | Step::CloseEgress { .. }),
            None => matches!(step, Step::CloseEgress { .. }),
        });
        assert!(closes, "{plan:#?}");
    }
}

#[test]
fn places_of_another_data_root_block_who_needs_them_and_nothing_is_done_there() {
    let mut observed = ready();
    observed.egress = ObservedEgress {
        capability: EgressCapability::Taken("it is another's".to_owned()),
        ..ObservedEgress::default()
    };
    let plan = plan_of(Some("allowlist: [api.example.com:443]\n"), &observed);
    assert_eq!((code(&plan), plan.steps.len(), plan.contain.len()), (Some("egress-taken"), 0, 0), "{plan:#?}");
    let plan = plan_of(Some(""), &observed);
    let is_egress = |step: &Step| matches!(step, Step::OpenEgress { .. } | Step::CloseEgress { .. });
    assert!(code(&plan).is_none() && !plan.all_steps().any(is_egress), "{plan:#?}");
}

#[test]
fn a_policy_for_other_addresses_is_closed_at_once() {
    let lines = "allowlist: [api.example.com:443]\n";
    let mut policy = opened(&plan_of(Some(lines), &ready()));
    policy.subnet = "10.77.250.0/28".parse().unwrap();
    let plan = plan_of(Some(lines), &with_policy(policy));
    assert!(matches!(plan.contain.as_slice(), [PlannedStep { step: Step::CloseEgress { .. }, .. }]), "{plan:#?}");
}

#[test]
fn what_leads_out_is_closed_before_the_network_goes() {
    let mut observed = with_policy(opened(&plan_of(Some("allowlist: [api.example.com:443]\n"), &ready())));
    let mut network = ObservedNetwork { id: "n1".to_owned(), tenant: Some("acme".to_owned()), ..Default::default() };
    network.spec.name = "tenantd-acme".to_owned();
    network.spec.labels = Pairs::from([(TENANT_LABEL.to_owned(), "acme".to_owned())]);
    observed.networks.push(network);
    let plan = plan_of(None, &observed);
    assert!(matches!(plan.contain.as_slice(), [PlannedStep { step: Step::CloseEgress { .. }, .. }]), "{plan:#?}");
    assert!(plan.steps.iter().any(|planned| matches!(planned.step, Step::RemoveNetwork { .. })), "{plan:#?}");
}

#[test]
fn a_tenant_that_loses_its_allowlist_loses_its_egress_first_of_all() {
    let observed = with_policy(opened(&plan_of(Some("allowlist: [api.example.com:443]\n"), &ready())));
    let plan = plan_of(Some(""), &observed);
    assert!(matches!(plan.contain.as_slice(), [PlannedStep { step: Step::CloseEgress { .. }, .. }]), "{plan:#?}");
}

#[test]
fn a_link_that_nobody_declares_is_somebodys_to_remove() {
    let mut observed = ready();
    let name: tenantd::model::TenantName = "gone".parse().unwrap();
    let named = FoundLink { alias: "gone".to_owned(), ..FoundLink::default() };
    let lying = FoundLink { alias: "acme".to_owned(), ..FoundLink::default() };
    observed.egress.links.insert(name.link_name(), named);
    observed.egress.links.insert("tg-strange".to_owned(), lying);
    let desired = spec::compile(&Tree {
        files: vec![SourceFile {
            path: "fleet.yaml".to_owned(),
            bytes: b"apiVersion: tenantd/v1\nkind: Fleet\n".to_vec(),
        }],
        ..Tree::default()
    });
    let plan = plan::plan(&desired, &host(), &observed);
    let steps: Vec<(&str, Vec<&Step>)> = plan
        .tenants
        .iter()
        .map(|plan| (plan.tenant.as_str(), plan.contain.iter().map(|one| &one.step).collect()))
        .collect();
    let close = |tenant: &str, link: &str| Step::CloseEgress { tenant: tenant.to_owned(), link: link.to_owned() };
    let expected = [close("gone", &name.link_name()), close("tg-strange", "tg-strange")];
    assert_eq!(steps, [("gone", vec![&expected[0]]), ("tg-strange", vec![&expected[1]])]);
}
