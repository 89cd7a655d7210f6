//! What people do by hand is undone, and on record: one case for each thing that they do.

use std::{fs, os::unix::fs::PermissionsExt, time::Duration};

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{Case, Service, case, signal};
use crate::engine::{IMAGE, succeed, text};

/// A network that is nobody's.
pub const FOREIGN: &str = "outside";

/// The tenants of these cases, with runc and with gVisor.
pub const RUNC: &str = "acme";
pub const GVISOR: &str = "zeta";

const MIB: u64 = 1 << 20;

/// By then the daemon has looked at whatever events reported.
const QUIET: Duration = Duration::from_secs(3);

/// Something that a person does by hand, and what must be on record about it.
struct ManualChange {
    what: &'static str,
    /// The docker command, in which `TENANT` is the tenant's name.
    words: &'static [&'static str],
    /// What the engine tells first; several where it may be any of them.
    events: &'static [&'static str],
    resource: &'static str,
    /// The attribute that differs; several where it may be any of them.
    fields: &'static [&'static str],
    /// Its value before and after the correction.
    values: Option<(Value, Value)>,
    /// Whether the container stays the same one.
    keeps: bool,
}

fn manual_changes() -> Vec<ManualChange> {
    let change = |what, words, events| ManualChange {
        what,
        words,
        events,
        resource: "container",
        fields: &["state"],
        values: None,
        keeps: true,
    };
    let limit = |what, words, fields, before: Value, after: Value| ManualChange {
        fields,
        values: Some((before, after)),
        ..change(what, words, &["container update"])
    };
    vec![
        ManualChange {
            // It may be seen while it is going.
            fields: &["name", "state"],
            keeps: false,
            ..change(
                "removes the container",
                &["rm", "--force", "tenantd-TENANT"],
                &["container kill", "container die", "container destroy", "network disconnect"],
            )
        },
        limit(
            "raises the memory",
            &["update", "--memory", "2g", "--memory-swap", "2g", "tenantd-TENANT"],
            &["memory"],
            json!(2048 * MIB),
            json!(256 * MIB),
        ),
        limit(
            "raises the processors",
            &["update", "--cpus", "1.5", "tenantd-TENANT"],
            &["nano_cpus"],
            json!(1_500_000_000_u64),
            json!(500_000_000),
        ),
        limit(
            "raises the processes",
            &["update", "--pids-limit", "4000", "tenantd-TENANT"],
            &["pids_limit"],
            json!(4000),
            json!(128),
        ),
        ManualChange {
            fields: &["networks"],
            ..change(
                "connects it to a foreign network",
                &["network", "connect", FOREIGN, "tenantd-TENANT"],
                &["network connect"],
            )
        },
        ManualChange {
            fields: &["networks"],
            ..change(
                "disconnects it from its network",
                &["network", "disconnect", "--force", "tenantd-TENANT", "tenantd-TENANT"],
                &["network disconnect"],
            )
        },
        change(
            "stops it",
            &["stop", "--time", "5", "tenantd-TENANT"],
            &["container kill", "container die", "container stop", "network disconnect"],
        ),
        change("kills it", &["kill", "tenantd-TENANT"], &["container kill", "container die", "network disconnect"]),
        change("pauses it", &["pause", "tenantd-TENANT"], &["container pause"]),
        ManualChange {
            fields: &["name"],
            values: Some((json!("mine"), json!("tenantd-acme"))),
            ..change("renames it", &["rename", "tenantd-TENANT", "mine"], &["container rename"])
        },
    ]
}

/// Those that gVisor answers in another way or that go through other code with it.
fn manual_changes_on_gvisor() -> Vec<ManualChange> {
    let of =
        |what: &str| manual_changes().into_iter().find(|change| change.what == what).expect("there is such a case");
    vec![
        of("removes the container"),
        of("pauses it"),
        ManualChange { keeps: false, ..of("disconnects it from its network") },
    ]
}

pub fn cases<'a>(with_gvisor: bool) -> Vec<Case<'a>> {
    let of = |changes: Vec<ManualChange>, tenant: &'static str| {
        changes.into_iter().map(move |change| {
            let name = format!("someone {} ({tenant})", change.what);
            (name, Box::new(move |service: &mut Service| change.case(service, tenant)) as Box<dyn Fn(&mut Service)>)
        })
    };
    let mut cases: Vec<Case<'a>> = of(manual_changes(), RUNC).collect();
    if with_gvisor {
        cases.extend(of(manual_changes_on_gvisor(), GVISOR));
    }
    cases.extend([
        case("someone puts a foreign container on the network", foreign),
        case("someone removes the network", network_removed),
        case("someone moves the image's tag", tag_moved),
        case("someone removes the image", image_removed),
        case("someone unmounts the workspaces", unmounted),
        case("someone opens the workspace, which no event reports", workspace_opened),
    ]);
    cases
}

impl ManualChange {
    fn case(&self, service: &Service, tenant: &str) {
        let engine = &service.fleet.engine;
        let name = format!("tenantd-{tenant}");
        let (id, _) = engine.identity(&name);
        let mark = JournalPosition::now(service);
        let words: Vec<String> = self.words.iter().map(|word| word.replace("TENANT", tenant)).collect();
        succeed(engine.docker(&words.iter().map(String::as_str).collect::<Vec<_>>()));
        let record = mark.correction(service, tenant, self.resource, self.fields);
        mark.is_caused_by(&record, self.events);
        if let Some((before, after)) = &self.values {
            let field = field(&record, self.fields[0]);
            assert_eq!((&field["before"], &field["after"]), (before, after), "the record has both values: {record:#}");
        }
        service.wait_until_in_order(&service.head());
        assert_eq!(engine.identity(&name).0 == id, self.keeps, "whether the container stays the same one");
        proper(service, tenant);
        mark.nobody_else(service, tenant);
    }
}

/// A tenant's container runs as it is declared for these cases.
pub fn proper(service: &Service, tenant: &str) {
    let name = format!("tenantd-{tenant}");
    let container = service.fleet.engine.inspect(&name);
    let (host, state) = (&container["HostConfig"], &container["State"]);
    assert_eq!((&state["Running"], &state["Paused"]), (&json!(true), &json!(false)), "{name} runs: {state}");
    let limits = [&host["Memory"], &host["NanoCpus"], &host["PidsLimit"]];
    assert_eq!(limits, [&json!(256 * MIB), &json!(500_000_000), &json!(128)], "{name} has its limits");
    let networks: Vec<&String> = container["NetworkSettings"]["Networks"].as_object().unwrap().keys().collect();
    assert_eq!(networks, [&name], "{name} is on its network alone");
}

/// What the limits of these cases are.
pub const LIMITS: &str = "limits: {memory: 256MiB, cpus: 0.5, pids: 128}\n";

/// A moment, after which records are looked for.
pub struct JournalPosition {
    seq: u64,
    time: Timestamp,
}

impl JournalPosition {
    pub fn now(service: &Service) -> Self {
        let last = service.records().iter().filter_map(|record| record["seq"].as_u64()).max();
        Self { seq: last.unwrap_or(0), time: Timestamp::now() }
    }

    /// The records since.
    pub fn records(&self, service: &Service) -> Vec<Value> {
        let mut records = service.records();
        records.retain(|record| record["seq"].as_u64().is_some_and(|seq| seq > self.seq));
        records
    }

    /// Waits for a step that puts an attribute right because it drifted, and that was done.
    pub fn correction(&self, service: &Service, tenant: &str, resource: &str, attributes: &[&str]) -> Value {
        let mut found = None;
        service.wait_until_none(&format!("the correction of {attributes:?} of {tenant} is on record"), || {
            let records = self.records(service);
            found = records
                .iter()
                .find(|record| {
                    let is_done = |outcome: &&Value| {
                        outcome["type"] == "outcome"
                            && outcome["intent"] == record["seq"]
                            && outcome["result"] == "done"
                    };
                    record["type"] == "intent"
                        && record["tenant"] == tenant
                        && record["resource"] == resource
                        && record["why"] == "drift"
                        && record["fields"]
                            .as_array()
                            .is_some_and(|all| all.iter().any(|one| attributes.contains(&text(&one["name"]).as_str())))
                        && records.iter().any(|outcome| is_done(&outcome))
                })
                .cloned();
            found.is_none().then(|| format!("the records are {}", json!(records)))
        });
        let found = found.unwrap();
        assert_eq!(found["revision"], format!("main@sha1:{}", service.head()), "and the commit with it");
        found
    }

    /// Looks that a record names the event of the engine that led to it, and its time.
    fn is_caused_by(&self, record: &Value, events: &[&str]) {
        let trigger = &record["trigger"];
        let event = text(&trigger["event"]);
        assert!(trigger["kind"] == "event" && events.contains(&event.as_str()), "one of {events:?} led to {record:#}");
        let time: Timestamp = text(&trigger["time"]).parse().unwrap();
        assert!(self.time <= time && time <= Timestamp::now(), "the event's time is its own: {record:#}");
    }

    /// Looks that nothing was done to any other tenant.
    fn nobody_else(&self, service: &Service, tenant: &str) {
        let records = self.records(service);
        let other = |record: &&Value| record["type"] == "intent" && record["tenant"] != tenant;
        let others: Vec<&Value> = records.iter().filter(other).collect();
        assert!(others.is_empty(), "only {tenant} is put right: {others:#?}");
    }
}

fn field<'a>(record: &'a Value, name: &str) -> &'a Value {
    let fields = record["fields"].as_array().unwrap();
    fields.iter().find(|field| field["name"] == name).unwrap_or_else(|| panic!("{name} is in {record:#}"))
}

fn foreign(service: &mut Service) {
    let engine = &service.fleet.engine;
    let before = engine.identity("tenantd-acme");
    let mark = JournalPosition::now(service);
    let id = engine.foreign("foreign", "tenantd-acme");
    let record = mark.correction(service, RUNC, "container", &["members"]);
    mark.is_caused_by(&record, &["network connect"]);
    assert_eq!(record["object"], id, "it is the foreign container that is taken off: {record:#}");
    service.wait_until_in_order(&service.head());
    assert_eq!(engine.identity("tenantd-acme"), before, "the tenant is not touched");
    assert_eq!(engine.inspect("foreign")["State"]["Running"], true, "and the foreign container goes on elsewhere");
    mark.nobody_else(service, RUNC);
    engine.remove("foreign");
}

fn network_removed(service: &mut Service) {
    let engine = &service.fleet.engine;
    let mark = JournalPosition::now(service);
    // The daemon may connect the container again in between.
    service.wait("the network is removed", || {
        engine.attach("disconnect", "tenantd-acme", "tenantd-acme");
        engine.call("DELETE", "/networks/tenantd-acme", None).0 == 204
    });
    let record = mark.correction(service, RUNC, "network", &["name"]);
    // A try to connect the container to the network may have failed in between.
    if record["trigger"]["kind"] != "retry" {
        mark.is_caused_by(&record, &["network disconnect", "network destroy"]);
    }
    service.wait_until_in_order(&service.head());
    proper(service, RUNC);
    mark.nobody_else(service, RUNC);
}

fn tag_moved(service: &mut Service) {
    let engine = &service.fleet.engine;
    let (before, _) = engine.identity("tenantd-acme");
    let mark = JournalPosition::now(service);
    let moved = engine.build_image(IMAGE, Some("moved"));
    let record = mark.correction(service, RUNC, "container", &["image_id"]);
    let trigger = text(&record["trigger"]["event"]);
    assert!(trigger.starts_with("image "), "an event of an image led to {record:#}");
    assert_eq!(field(&record, "image_id")["after"], moved, "the record names the new image: {record:#}");
    // Between two containers there may be none of the name.
    let runs =
        |tenant: &str| engine.call("GET", &format!("/containers/tenantd-{tenant}/json"), None).1["Image"] == moved;
    service.wait("the containers run the new image", || runs(RUNC) && runs(GVISOR));
    service.wait_until_in_order(&service.head());
    assert_ne!(engine.identity("tenantd-acme").0, before);
    engine.build_image(IMAGE, None);
    service.wait("and the former one again", || !runs(RUNC) && !runs(GVISOR));
    service.wait_until_in_order(&service.head());
    proper(service, RUNC);
    proper(service, GVISOR);
}

fn image_removed(service: &mut Service) {
    let engine = &service.fleet.engine;
    let mark = JournalPosition::now(service);
    let others = engine.identity("tenantd-zeta");
    let id = text(&engine.get(&format!("/images/{IMAGE}/json"))["Id"]);
    // Another name keeps its data.
    succeed(engine.docker(&["tag", IMAGE, "kept:1"]));
    succeed(engine.docker(&["rmi", "--force", IMAGE]));
    succeed(engine.docker(&["rm", "--force", "tenantd-acme"]));
    service.wait("the daemon says that the image is missing", || {
        service.condition(RUNC, "Ready").is_some_and(|(status, reason, message)| {
            status == "False" && reason == "Blocked" && message.contains("image-missing") && message.contains(IMAGE)
        })
    });
    succeed(engine.docker(&["tag", &id, IMAGE]));
    let record = mark.correction(service, RUNC, "container", &["name"]);
    mark.is_caused_by(&record, &["image tag"]);
    service.wait_until_in_order(&service.head());
    proper(service, RUNC);
    assert_eq!(engine.identity("tenantd-zeta"), others, "what runs goes on without its image's name");
    mark.nobody_else(service, RUNC);
    succeed(engine.docker(&["rmi", "kept:1"]));
}

fn unmounted(service: &mut Service) {
    for tenant in [RUNC, GVISOR] {
        let mount = service.fleet.data().join("mounts").join(tenant);
        let (before, _) = service.fleet.engine.identity(&format!("tenantd-{tenant}"));
        // A look that something before has led to would find it as well.
        std::thread::sleep(QUIET);
        let mark = JournalPosition::now(service);
        let mut command = std::process::Command::new("umount");
        command.arg("--lazy").arg(&mount);
        succeed(command);
        let record = mark.correction(service, tenant, "workspace", &["mount"]);
        mark.is_caused_by(&record, &["workspace mount"]);
        service.wait_until_in_order(&service.head());
        assert!(mount.join("files").is_dir(), "it is mounted again");
        assert_ne!(service.fleet.engine.identity(&format!("tenantd-{tenant}")).0, before, "and the tenant has it");
        mark.nobody_else(service, tenant);
    }
}

fn workspace_opened(service: &mut Service) {
    let workspace = service.fleet.data().join("workspaces/acme");
    let mark = JournalPosition::now(service);
    service.settings("resync: 3s\n");
    signal("HUP", service.pid());
    service.wait("the settings are read again", || {
        mark.records(service).iter().any(|record| record["type"] == "reloaded" && record["error"].is_null())
    });
    service.wait("everything was looked at because of that", || {
        let full_pass = service.status().map(|status| text(&status["engine"]["full_pass"]));
        full_pass.and_then(|time| time.parse::<Timestamp>().ok()).is_some_and(|time| time > mark.time)
    });
    let proper = fs::metadata(&workspace).unwrap().permissions();
    fs::set_permissions(&workspace, fs::Permissions::from_mode(0o777)).unwrap();
    let record = mark.correction(service, RUNC, "workspace", &["mode"]);
    // The look that the settings led to may be under way still.
    let kind = text(&record["trigger"]["kind"]);
    assert!(kind == "full-pass" || kind == "start", "no event led to {record:#}");
    service.wait_until_in_order(&service.head());
    assert_eq!(fs::metadata(&workspace).unwrap().permissions(), proper, "the mode is as before");
    service.settings(super::HOST);
    signal("HUP", service.pid());
    service.wait("the former settings are in force again", || {
        let reloaded = mark.records(service).iter().filter(|record| record["type"] == "reloaded").count();
        reloaded == 2
    });
}
