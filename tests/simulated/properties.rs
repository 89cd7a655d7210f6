//! What holds for any fleet on any engine, however it was left.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt, fs,
    os::unix::fs::{PermissionsExt, symlink},
    sync::Arc,
};

use ipnet::Ipv4Net;
use jiff::Timestamp;
use proptest::{collection::vec, prelude::*, sample::subsequence};
use serde_json::{Value, json};
use tenantd::{
    model::{
        Desired, Observed, Plan, PlannedStep, Power, PowerHold, PowerReason, Powers, RuntimeClass, Step, TENANT_LABEL,
        Tenant, TenantPlan,
        change::Change,
        files::Apply,
        step::{LiveLimits, Target},
    },
    plan,
};
use tenantd_test_support::Options;

use crate::world::{IMAGE, World, config_file, fleet, image, tenant, text};

pub const NAMES: [&str; 5] = ["ant", "bee", "cat", "dog", "elk"];

/// Another image, which is not the one that the other tenants run.
const OTHER_IMAGE: &str = "tenantd/test:2";

/// Something that somebody does behind tenantd's back, to a tenant or beside it.
#[derive(Clone, Debug)]
pub enum Tampering {
    RemoveContainer,
    Stop,
    Pause,
    Exit,
    Rename,
    RenameToReplacement,
    /// Other limits, by the engine's own update.
    Update {
        memory: u32,
        pids: u32,
    },
    /// A field of the container's document.
    Set(&'static str, Value),
    Unlabel,
    ForgeSpec,
    ConnectToShared,
    ConnectToNeighbour,
    Disconnect,
    ForeignOnNetwork,
    NetworkSet(&'static str, Value),
    RemoveNetwork,
    /// A second container, or a network, that carries the tenant's label.
    Duplicate,
    DuplicateNetwork {
        third: u8,
    },
    LeftoverReplacement,
    /// Somebody else's object in the place of the tenant's own.
    TakeContainerName,
    TakeReplacementName,
    TakeNetworkName,
    /// An object that carries one tenant's label and another's name.
    CrossLabel,
    RemoveWorkspace,
    OpenWorkspace,
    LinkWorkspace,
    /// Something in the folder of config files that is not what was written there.
    WriteConfig(&'static str),
    LinkConfig(&'static str),
    RemoveConfig,
    /// A container and a network of nobody's.
    Beside,
    /// An object of a tenant that no file declares.
    Ghost,
}

pub fn tamper() -> impl Strategy<Value = Tampering> {
    let set = prop::sample::select(vec![
        ("Privileged", json!(true)),
        ("CapAdd", json!(["NET_ADMIN"])),
        ("PidMode", json!("host")),
        ("ReadonlyRootfs", json!(false)),
        ("SecurityOpt", Value::Null),
        ("RestartPolicy", json!({"Name": "always", "MaximumRetryCount": 0})),
        ("Memory", json!(0)),
        ("CpuShares", json!(2)),
        ("Dns", json!(["8.8.8.8"])),
    ]);
    let network = prop::sample::select(vec![
        ("Internal", json!(false)),
        ("EnableIPv6", json!(true)),
        ("Options", json!({})),
        ("Labels", json!({TENANT_LABEL: "ant"})),
    ]);
    prop_oneof![
        4 => prop::sample::select(vec![
            Tampering::RemoveContainer, Tampering::Stop, Tampering::Pause, Tampering::Exit, Tampering::Rename, Tampering::ConnectToShared,
            Tampering::ConnectToNeighbour, Tampering::Disconnect, Tampering::ForeignOnNetwork, Tampering::RemoveNetwork,
            Tampering::RenameToReplacement, Tampering::Duplicate, Tampering::LeftoverReplacement, Tampering::RemoveWorkspace,
            Tampering::OpenWorkspace, Tampering::Beside,
        ]),
        2 => (8u32..4096, 0u32..512).prop_map(|(memory, pids)| Tampering::Update { memory, pids }),
        2 => set.prop_map(|(key, value)| Tampering::Set(key, value)),
        2 => network.prop_map(|(key, value)| Tampering::NetworkSet(key, value)),
        2 => prop::sample::select(vec![
            Tampering::WriteConfig("a.json"), Tampering::WriteConfig("agent/b.json"), Tampering::WriteConfig("agent"),
            Tampering::LinkConfig("a.json"), Tampering::LinkConfig("agent"), Tampering::RemoveConfig,
        ]),
        2 => (0u8..4).prop_map(|third| Tampering::DuplicateNetwork { third }),
        1 => prop::sample::select(vec![
            Tampering::Unlabel, Tampering::ForgeSpec, Tampering::TakeContainerName, Tampering::TakeNetworkName, Tampering::TakeReplacementName,
            Tampering::CrossLabel,
            Tampering::LinkWorkspace, Tampering::Ghost,
        ]),
    ]
}

fn any_tenant(name: &'static str) -> impl Strategy<Value = Tenant> {
    let classes = prop::sample::select(vec![RuntimeClass::Container, RuntimeClass::Gvisor]);
    let image = prop::sample::select(vec![IMAGE, OTHER_IMAGE]);
    let applied = || prop::sample::select(vec![Apply::Restart, Apply::InPlace]);
    let file = |path: &'static str| prop::option::of((Just(path), prop::sample::select(vec!["a", "b"]), applied()));
    let files = (file("a.json"), file("agent/b.json"));
    let rest = (prop::option::of("[a-z]{0,3}"), any::<bool>(), files);
    (classes, image, 64u64..512, 1u64..8, 16u32..512, rest).prop_map(
        move |(class, image, memory, cpus, pids, (variable, command, files))| {
            let mut tenant = Tenant { class, image: image.parse().unwrap(), ..tenant(name) };
            tenant.limits.memory = tenantd::model::Bytes::mib(memory);
            tenant.limits.cpus = tenantd::model::Cpus::from_nanos(cpus * 250_000_000);
            tenant.limits.pids = tenantd::model::Pids::new(pids);
            tenant.environment.extend(variable.map(|value| ("VARIABLE".to_owned(), value)));
            let files = [files.0, files.1].into_iter().flatten();
            tenant.files = files.map(|(path, text, apply)| config_file(path, text, apply)).collect();
            tenant.command = command.then(|| vec!["/serve".to_owned()]);
            tenant
        },
    )
}

fn any_fleet() -> impl Strategy<Value = Desired> {
    let tenants = subsequence(NAMES.to_vec(), 2..=NAMES.len());
    let tenants = tenants.prop_flat_map(|names| names.into_iter().map(any_tenant).collect::<Vec<_>>());
    (tenants, prop::sample::select(vec![None, Some("bee"), Some("elk")])).prop_map(|(tenants, held)| {
        let mut desired = fleet(tenants);
        // One whose file has an error: what runs under its name is left as it is.
        if let Some(held) = held {
            desired.tenants.remove(held);
            desired.held.insert(held.to_owned());
        }
        desired
    })
}

/// A prior fleet, what happened to it, and what is declared now.
#[derive(Clone)]
pub struct Story {
    before: Desired,
    tamperings: Vec<(usize, Tampering)>,
    /// What tenants were asked to do, and whether they were found so since.
    powers: Vec<(usize, Power, bool)>,
    pub desired: Desired,
    /// The prefix of the pool: it has room for 4, 16 or 4,096 networks.
    pool: u8,
}

pub fn any_story() -> impl Strategy<Value = Story> {
    let pool = prop::sample::select(vec![26u8, 24, 24, 16]);
    let power = (0..NAMES.len(), prop::sample::select(Power::ALL.to_vec()), any::<bool>());
    (any_fleet(), vec((0..NAMES.len(), tamper()), 0..10), vec(power, 0..4), any_fleet(), pool)
        .prop_map(|(before, tamperings, powers, desired, pool)| Story { before, tamperings, powers, desired, pool })
}

/// In the few lines that tell one story from another.
impl fmt::Debug for Story {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fleet = |f: &mut fmt::Formatter<'_>, title: &str, desired: &Desired| {
            writeln!(f, "{title}: held {:?}", desired.held)?;
            desired.tenants.values().try_for_each(|tenant| {
                let Tenant { name, class, image, limits, environment, command, .. } = &**tenant;
                let (cpus, memory, pids) = (limits.cpus, limits.memory, limits.pids);
                let image = image.as_str();
                writeln!(f, "  {name}: {class} {image} {cpus} {memory} {pids} {environment:?} {command:?}")
            })
        };
        fleet(f, "before", &self.before)?;
        for (index, tamper) in &self.tamperings {
            writeln!(f, "  then {}: {tamper:?}", NAMES[*index])?;
        }
        for (index, power, reached) in &self.powers {
            writeln!(f, "  {} {power:?}, found so before: {reached}", NAMES[*index])?;
        }
        fleet(f, "desired", &self.desired)?;
        writeln!(f, "in a pool of /{}", self.pool)
    }
}

/// An engine on which a story has happened so far.
pub fn tampered(Story { before, tamperings, powers, pool, .. }: &Story) -> World {
    let mut options = Options::default();
    options.images.push(image(OTHER_IMAGE, "2"));
    let mut world = World::of(options);
    world.host.pool = ipnet::Ipv4Net::new_assert([10, 77, 0, 0].into(), *pool);
    let mut before = before.clone();
    before.held.clear();
    world.apply(&before);
    world.act("POST", "/networks/create", json!({"Name": "shared"}));
    for (number, (index, tamper)) in tamperings.iter().enumerate() {
        apply_tampering(&world, NAMES[*index], NAMES[(index + 1) % NAMES.len()], tamper, number);
    }
    let hold = |power, reached| PowerHold {
        power,
        reason: PowerReason::Operator { by: "ada".to_owned() },
        since: Timestamp::UNIX_EPOCH,
        until: None,
        reached,
    };
    let holds = powers.iter().map(|(index, power, reached)| (NAMES[*index].to_owned(), hold(*power, *reached)));
    world.powers = Arc::new(Powers { holds: holds.collect(), ..Powers::default() });
    world
}

/// Lets it happen as far as the engine lets it.
pub fn apply_tampering(world: &World, name: &str, neighbour: &str, tamper: &Tampering, number: usize) {
    let object = format!("tenantd-{name}");
    let act = |method: &str, path: String, body: Value| world.engine.act(method, &path, &body);
    let on = |action: &str| act("POST", format!("/containers/{object}/{action}"), Value::Null);
    let workspace = world.workspace(name);
    let exists = |name: &str| world.engine.with(|state| state.container(name).is_some());
    let network_exists = |name: &str| world.engine.with(|state| state.network(name).is_some());
    let labelled = |label: &str| json!({"Image": IMAGE, "Labels": {TENANT_LABEL: label}});
    let create = |name: &str, body: Value| act("POST", format!("/containers/create?name={name}"), body);
    let connect = |network: &str, container: &str| {
        act("POST", format!("/networks/{network}/connect"), json!({"Container": container}));
    };
    match tamper {
        Tampering::RemoveContainer => drop(act("DELETE", format!("/containers/{object}?force=1"), Value::Null)),
        Tampering::Stop => drop(on("stop")),
        Tampering::Pause => drop(on("pause")),
        Tampering::Exit => {
            if world.state(&object) == "running" {
                world.engine.with(|state| state.exit(&object, 3, true));
            }
        }
        Tampering::Rename => drop(on(&format!("rename?name=renamed-{number}"))),
        Tampering::RenameToReplacement => drop(on(&format!("rename?name={object}.new"))),
        Tampering::Update { memory, pids } => {
            let memory = u64::from(*memory) << 20;
            let body = json!({"Memory": memory, "MemorySwap": memory, "PidsLimit": pids});
            act("POST", format!("/containers/{object}/update"), body);
        }
        Tampering::Set(key, value) => {
            if exists(&object) {
                world.tamper(&object, |doc| doc["HostConfig"][*key] = value.clone());
            }
        }
        Tampering::Unlabel => {
            if exists(&object) {
                world.tamper(&object, |doc| doc["Config"]["Labels"] = json!({}));
            }
        }
        Tampering::ForgeSpec => {
            if exists(&object) {
                world.tamper(&object, |doc| doc["Config"]["Labels"]["io.tenantd.spec"] = json!("forged"));
            }
        }
        Tampering::ConnectToShared => connect("shared", &object),
        Tampering::ConnectToNeighbour => connect(&format!("tenantd-{neighbour}"), &object),
        Tampering::Disconnect => {
            act("POST", format!("/networks/{object}/disconnect"), json!({"Container": object, "Force": true}));
        }
        Tampering::ForeignOnNetwork => {
            let foreign = format!("foreign-{number}");
            create(&foreign, json!({"Image": IMAGE, "HostConfig": {"NetworkMode": "shared"}}));
            act("POST", format!("/containers/{foreign}/start"), Value::Null);
            connect(&object, &foreign);
        }
        Tampering::NetworkSet(key, value) => {
            if network_exists(&object) {
                world.engine.with(|state| state.network_mut(&object)[*key] = value.clone());
            }
        }
        Tampering::RemoveNetwork => {
            on("stop");
            act("DELETE", format!("/networks/{object}"), Value::Null);
        }
        Tampering::Duplicate => {
            let duplicate = format!("copy-{number}");
            create(&duplicate, labelled(name));
            act("POST", format!("/containers/{duplicate}/start"), Value::Null);
        }
        Tampering::DuplicateNetwork { third } => {
            let subnet = format!("10.77.0.{}/28", u32::from(*third) * 16);
            let labels = json!({TENANT_LABEL: name});
            let ipam = json!({"Config": [{"Subnet": subnet}]});
            let body = json!({"Name": format!("copy-net-{number}"), "IPAM": ipam, "Labels": labels});
            act("POST", "/networks/create".to_owned(), body);
            connect(&format!("copy-net-{number}"), &object);
        }
        Tampering::LeftoverReplacement => drop(create(&format!("{object}.new"), labelled(name))),
        Tampering::TakeContainerName => {
            act("DELETE", format!("/containers/{object}?force=1"), Value::Null);
            create(&object, json!({"Image": IMAGE}));
            on("start");
        }
        Tampering::TakeReplacementName => drop(create(&format!("{object}.new"), json!({"Image": IMAGE}))),
        Tampering::TakeNetworkName => {
            act("DELETE", format!("/containers/{object}?force=1"), Value::Null);
            act("DELETE", format!("/networks/{object}"), Value::Null);
            act("POST", "/networks/create".to_owned(), json!({"Name": object, "CheckDuplicate": true}));
        }
        Tampering::CrossLabel => {
            if exists(&object) {
                world.tamper(&object, |doc| doc["Config"]["Labels"][TENANT_LABEL] = json!(neighbour));
            }
        }
        Tampering::RemoveWorkspace => drop(fs::remove_dir_all(&workspace)),
        Tampering::OpenWorkspace => drop(fs::set_permissions(&workspace, fs::Permissions::from_mode(0o777))),
        Tampering::LinkWorkspace => {
            let _ = fs::remove_dir_all(&workspace);
            let _ = symlink("/etc", &workspace);
        }
        Tampering::WriteConfig(path) => {
            let place = world.host.files(name).join(path);
            let _ = fs::create_dir_all(place.parent().unwrap());
            let _ = fs::write(place, "by hand");
        }
        Tampering::LinkConfig(path) => {
            let place = world.host.files(name).join(path);
            let _ = fs::remove_dir_all(&place);
            let _ = fs::remove_file(&place);
            let _ = fs::create_dir_all(place.parent().unwrap());
            let _ = symlink("/etc", &place);
        }
        Tampering::RemoveConfig => drop(fs::remove_dir_all(world.host.files(name))),
        Tampering::Beside => {
            act("POST", "/networks/create".to_owned(), json!({"Name": format!("beside-net-{number}")}));
            world.foreign(&format!("beside-{number}"), &format!("beside-net-{number}"));
        }
        Tampering::Ghost => {
            create(&format!("ghost-{number}"), labelled("ghost"));
            act("POST", "/networks/create".to_owned(), json!({"Name": "ghost-net", "Labels": {TENANT_LABEL: "ghost"}}));
        }
    }
}

/// What is nobody's, with all that a client can see of it. That a foreign container is taken off a tenant's
/// network is the one thing that may happen to it.
fn not_ours(world: &World) -> Vec<Value> {
    let is_ours = |labels: &Value| labels.get(TENANT_LABEL).is_some();
    let networks = world.engine.networks();
    let foreign_networks: BTreeSet<&str> =
        networks.iter().filter(|doc| !is_ours(&doc["Labels"])).filter_map(|doc| doc["Name"].as_str()).collect();
    let containers = world.engine.containers();
    let foreign = containers.iter().filter(|doc| !is_ours(&doc["Config"]["Labels"])).map(|doc| {
        let mut doc = doc.clone();
        let mut endpoints = doc["NetworkSettings"]["Networks"].take();
        if let Some(endpoints) = endpoints.as_object_mut() {
            endpoints.retain(|name, _| foreign_networks.contains(name.as_str()));
        }
        doc["NetworkSettings"]["Networks"] = endpoints;
        doc
    });
    let members = |doc: &Value| {
        let mut doc = doc.clone();
        doc["Containers"] = Value::Null;
        doc
    };
    let networks = networks.iter().filter(|doc| !is_ours(&doc["Labels"])).map(members);
    foreign.chain(networks).collect()
}

/// What runs under a name whose file has an error.
fn of_held(world: &World, desired: &Desired) -> Vec<Value> {
    let is_held = |labels: &Value| labels[TENANT_LABEL].as_str().is_some_and(|name| desired.held.contains(name));
    let mut containers = world.engine.containers();
    containers.retain(|doc| is_held(&doc["Config"]["Labels"]));
    for doc in &mut containers {
        // Who leaves another tenant's network is that tenant's to say.
        doc["NetworkSettings"]["Networks"] = Value::Null;
    }
    containers
}

/// Every object that a step names belongs to the step's tenant, or is a foreign container that is taken off
/// that tenant's own network.
fn check_ownership(plan: &Plan, observed: &Observed) {
    let containers: BTreeMap<&str, Option<&str>> =
        observed.containers.iter().map(|c| (c.id.as_str(), c.tenant.as_deref())).collect();
    let networks: BTreeMap<&str, Option<&str>> =
        observed.networks.iter().map(|n| (n.id.as_str(), n.tenant.as_deref())).collect();
    for tenant in &plan.tenants {
        let name = tenant.tenant.as_str();
        let own_container = |id: &str| containers.get(id).copied().flatten() == Some(name);
        let own_network = |id: &str| networks.get(id).copied().flatten() == Some(name);
        let own_target = |target: &Target| match target {
            Target::Existing(id) => own_container(id),
            Target::Created => true,
        };
        let object = format!("tenantd-{name}");
        for step in tenant.all_steps() {
            let own = match step {
                Step::Disconnect { network, container } => own_network(network) || own_container(container),
                Step::Connect { network, container, .. } => own_network(network) && own_container(container),
                Step::Pause { container }
                | Step::Stop { container }
                | Step::Remove { container }
                | Step::Update { container, .. }
                | Step::Unpause { container } => own_container(container),
                Step::PrepareWorkspace { tenant, .. }
                | Step::MakeVolume { tenant, .. }
                | Step::MountVolume { tenant, .. }
                | Step::ResizeVolume { tenant, .. }
                | Step::GrowImage { tenant, .. }
                | Step::UnmountVolume { tenant }
                | Step::RescueImage { tenant }
                | Step::RepairImage { tenant }
                | Step::MoveIntoVolume { tenant }
                | Step::RestoreWorkspace { tenant, .. }
                | Step::DeleteArchived { tenant, .. }
                | Step::WriteFiles { tenant, .. }
                | Step::RemoveFiles { tenant }
                | Step::ArchiveWorkspace { tenant } => tenant == name,
                Step::CreateNetwork { spec } => {
                    spec.name == object && spec.labels.get(TENANT_LABEL).is_some_and(|label| label == name)
                }
                Step::RemoveNetwork { network } => own_network(network),
                Step::CreateContainer { spec, temporary_name } => {
                    spec.name == object
                        && spec.labels.get(TENANT_LABEL).is_some_and(|label| label == name)
                        && temporary_name.as_ref().is_none_or(|temporary| *temporary == format!("{object}.new"))
                }
                Step::Start { container } => own_target(container),
                Step::Rename { container, to } => own_target(container) && *to == object,
                Step::OpenEgress { egress } => egress.policy.tenant.as_str() == name,
                Step::NarrowEgress { tenant, policy, .. } => {
                    tenant.as_str() == name && policy.as_ref().is_none_or(|policy| policy.tenant == *tenant)
                }
                Step::GuardEgress { tenant, .. } | Step::CloseEgress { tenant, .. } => tenant == name,
            };
            assert!(own, "{name} touches what is not its own: {step:?}");
        }
        for PlannedStep { step, facts } in tenant.contain.iter().chain(&tenant.steps) {
            let change = tenant.changes().find(|(id, _)| Some(*id) == facts.change).map(|(_, change)| change);
            // What takes a container off a network is part of what differs of either.
            let is_own =
                |change: &Change| change.resource == step.def().resource || matches!(step, Step::Disconnect { .. });
            assert!(change.is_none_or(is_own), "{name}: {step:?} is part of another resource's change: {change:?}");
            assert!(change.is_some() || tenant.is_stopped() || facts.fields.is_empty(), "{name}: {step:?} {facts:?}");
        }
        for PlannedStep { step, .. } in &tenant.contain {
            assert!(step.def().contains.is_some(), "{name}: {step:?} is no step that only takes away");
            let closes =
                matches!(step, Step::NarrowEgress { .. } | Step::GuardEgress { .. } | Step::CloseEgress { .. });
            let stops = matches!(step, Step::Disconnect { .. } | Step::Pause { .. });
            let lowers = matches!(step, Step::Update { container, limits } if lowers(observed, container, limits));
            assert!(closes || stops || lowers, "{name}: {step:?} contains nothing");
        }
    }
}

/// Whether limits are nowhere above those of a container, and below them somewhere.
fn lowers(observed: &Observed, container: &str, limits: &LiveLimits) -> bool {
    let container = observed.containers.iter().find(|one| one.id == container).unwrap();
    let spec = container.spec.as_ref().unwrap();
    let pairs = [
        (limits.memory, spec.memory),
        (limits.memory, spec.memory_swap),
        (limits.nano_cpus, spec.nano_cpus),
        (limits.pids_limit, spec.pids_limit),
    ];
    // None of a limit is the highest of all.
    let height = |limit: i64| if limit > 0 { limit } else { i64::MAX };
    let all = pairs.iter().all(|(to, from)| height(*to) <= height(*from));
    all && pairs.iter().any(|(to, from)| height(*to) < height(*from))
}

/// Containment of all tenants runs before the first step of any.
fn check_order(plan: &Plan, steps: &[(String, Step)]) {
    let contain: usize = plan.tenants.iter().map(|tenant| tenant.contain.len()).sum();
    let (first, rest) = steps.split_at(contain.min(steps.len()));
    for (tenant, step) in first {
        let listed = plan.tenants.iter().any(|t| t.tenant == *tenant && t.contain.iter().any(|one| one.step == *step));
        assert!(listed, "{tenant}: {step:?} came before all was contained");
    }
    for tenant in &plan.tenants {
        let taken: Vec<&Step> = rest.iter().filter(|(name, _)| *name == tenant.tenant).map(|(_, step)| step).collect();
        assert_eq!(taken, tenant.steps.iter().map(|one| &one.step).collect::<Vec<_>>(), "{}", tenant.tenant);
    }
}

/// Two looks at what must not have changed.
fn same(before: &[Value], after: &[Value]) {
    let names = |documents: &[Value]| documents.iter().map(|doc| doc["Name"].to_string()).collect::<Vec<_>>();
    assert_eq!(names(before), names(after));
    for (before, after) in before.iter().zip(after) {
        assert_eq!(format!("{before:#}"), format!("{after:#}"));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { max_shrink_iters: 2_000, ..ProptestConfig::default() })]

    #[test]
    fn an_apply_ends_all_differences_and_touches_nothing_else(story in any_story()) {
        let (mut world, desired) = (tampered(&story), story.desired);
        let (foreign, held) = (not_ours(&world), of_held(&world, &desired));

        // Planning is deterministic, and a plan is no change.
        let mutations = world.engine.mutations();
        let (planned, observed) = world.try_plan(&desired).unwrap();
        prop_assert!(planned == plan::plan(&desired, &world.host, &observed), "another plan of the same");
        prop_assert!(planned == world.plan(&desired), "another plan after another observation");
        for at_a_time in [1, 2, 100] {
            prop_assert!(planned == world.survey(&desired, at_a_time), "another plan of {at_a_time} at a time");
        }
        let (host, seen) = world.snapshot().view(&desired);
        let elsewhere = plan::plan(&desired, &host, &seen);
        prop_assert!(planned == elsewhere, "another plan of a snapshot:\n{}\nand not\n{}", text(&elsewhere), text(&planned));
        prop_assert_eq!(world.engine.mutations(), mutations);

        check_ownership(&planned, &observed);
        let blocked = planned.blocked().count();
        let run = world.carry_out(planned).unwrap();
        prop_assert_eq!(run.failures(), Vec::<String>::new(), "{}", text(&run.plan));
        check_order(&run.plan, &run.steps);
        same(&foreign, &not_ours(&world));
        same(&held, &of_held(&world, &desired));

        // What kept one tenant back may have been another's, and is gone now: with labels that were
        // forged in a ring, one tenant more is free after each apply.
        let (mut blocked, mut next) = (blocked, world.plan(&desired));
        while next.blocked().count() < blocked {
            blocked = next.blocked().count();
            prop_assert_eq!(world.apply(&desired).failures(), Vec::<String>::new());
            next = world.plan(&desired);
        }
        prop_assert!(next.is_empty(), "the plan after is not empty:\n{}\nafter\n{}", text(&next), text(&run.plan));
        let of_fleet: BTreeMap<&str, &TenantPlan> = next.tenants.iter().map(|plan| (plan.tenant.as_str(), plan)).collect();
        let ids = world.ids();
        let has_own = |tenant: &str| ids.contains_key(tenant);
        for tenant in desired.tenants.keys() {
            let (plan, object) = (of_fleet[tenant.as_str()], tenant.object_name());
            match plan.power {
                _ if plan.blocked.is_some() => {}
                Power::Running => prop_assert_eq!(world.state(&object), "running"),
                // What cannot be frozen sleeps.
                Power::Paused if has_own(tenant.as_str()) => prop_assert_eq!(world.state(&object), "paused"),
                Power::Paused | Power::Asleep => prop_assert!(!has_own(tenant.as_str()), "{object} is still there"),
            }
        }

        // Once their addresses are reserved, the networks of those that sleep go, and nobody else gets the addresses.
        let reserved: BTreeMap<String, _> =
            next.tenants.iter().filter_map(|plan| Some((plan.tenant.clone(), plan.reserve?))).collect();
        let powers = Powers { reserved: reserved.clone(), ..Powers::clone(&world.powers) };
        world.powers = Arc::new(powers);
        prop_assert_eq!(world.apply(&desired).failures(), Vec::<String>::new());
        let next = world.plan(&desired);
        prop_assert!(next.is_empty(), "the plan after all addresses are reserved is not empty:
{}", text(&next));
        let observed = world.observe(&desired);
        for (owner, subnet) in &reserved {
            let holders = observed.networks.iter().filter(|network| {
                network.spec.ranges.iter().filter_map(|range| range.subnet.parse::<Ipv4Net>().ok()).any(|it| it.contains(subnet) || subnet.contains(&it))
            });
            prop_assert_eq!(holders.count(), 0, "the addresses of {}, which sleeps", owner);
        }
        // And who wakes has them again.
        world.powers = Arc::new(Powers { reserved: reserved.clone(), ..Powers::default() });
        let awake = world.apply(&desired);
        prop_assert_eq!(awake.failures(), Vec::<String>::new());
        let observed = world.observe(&desired);
        for (owner, subnet) in &reserved {
            if !awake.plan.blocked().any(|(name, _)| name == owner) {
                let mut own = observed.networks.iter().filter(|network| network.tenant.as_deref() == Some(owner));
                let subnet = subnet.to_string();
                prop_assert!(own.any(|network| network.spec.ranges.iter().any(|range| range.subnet == subnet)), "{}", owner);
            }
        }
    }
}
