//! Every attribute of a network, tampered with one at a time, and who is on it.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use tenantd::model::Network;

use crate::{
    engine::{clock, text},
    fleet::{Case, Fleet, attribute, case, names},
};

const TENANT: &str = "acme";
const OURS: &str = "tenantd-acme";

/// One attribute of a network, the change of the create body that tampers with it, and what comes with that.
struct Drift {
    attribute: &'static str,
    what: &'static str,
    also: &'static [&'static str],
    tamper: fn(&mut Value),
    /// A text that the actual value holds.
    actual: &'static str,
}

fn all() -> Vec<Drift> {
    const INHIBIT: &str = "com.docker.network.bridge.inhibit_ipv4";
    fn drift(attribute: &'static str, what: &'static str, actual: &'static str, tamper: fn(&mut Value)) -> Drift {
        Drift { attribute, what, also: &[], tamper, actual }
    }
    /// A network that is only a template for others has no driver of its own, and takes any.
    fn template(body: &mut Value) {
        for key in ["Driver", "Internal", "Attachable", "Ingress"] {
            body.as_object_mut().unwrap().remove(key);
        }
        body["ConfigOnly"] = json!(true);
    }
    vec![
        drift("internal", "off", "false", |body| body["Internal"] = json!(false)),
        drift("attachable", "on", "true", |body| body["Attachable"] = json!(true)),
        drift("ranges", "another subnet", "10.99.0.0/28", |body| {
            body["IPAM"]["Config"] = json!([{"Subnet": "10.99.0.0/28", "Gateway": "10.99.0.1"}]);
        }),
        drift("ranges", "another gateway", ".14", |body| {
            let gateway = text(&body["IPAM"]["Config"][0]["Gateway"]);
            let other = format!("{}.14", gateway.rsplit_once('.').unwrap().0);
            body["IPAM"]["Config"][0]["Subnet"] = json!(format!("{}.0/28", gateway.rsplit_once('.').unwrap().0));
            body["IPAM"]["Config"][0]["Gateway"] = json!(other);
        }),
        drift("ranges", "only a part is handed out", "/30", |body| {
            let subnet = text(&body["IPAM"]["Config"][0]["Subnet"]);
            body["IPAM"]["Config"][0]["IPRange"] = json!(subnet.replace("/28", "/30"));
        }),
        Drift {
            also: &["ranges"],
            ..drift("ipv6", "on", "true", |body| {
                body["EnableIPv6"] = json!(true);
                body["IPAM"]["Config"].as_array_mut().unwrap().push(json!({"Subnet": "fd00:77::/64"}));
            })
        },
        drift("options", "an address on the host", "\"false\"", |body| {
            body["Options"][INHIBIT] = json!("false");
        }),
        drift("options", "one more", "enable_icc", |body| {
            body["Options"]["com.docker.network.bridge.enable_icc"] = json!("true");
        }),
        drift("options", "another interface", "td-other", |body| {
            body["Options"]["com.docker.network.bridge.name"] = json!("td-other");
        }),
        drift("ipam_options", "one", "serial", |body| body["IPAM"]["Options"] = json!({"serial": "true"})),
        drift("labels", "one more", "mallory", |body| body["Labels"]["owner"] = json!("mallory")),
        drift("name", "another", "hidden", |body| body["Name"] = json!("hidden")),
        Drift { also: &["config_only", "internal"], ..drift("driver", "none", "null", template) },
        Drift { also: &["driver", "internal"], ..drift("config_only", "on", "true", template) },
        Drift {
            also: &["config_only", "driver", "internal"],
            ..drift("ipam_driver", "another", "null", |body| {
                template(body);
                body["IPAM"]["Driver"] = json!("null");
            })
        },
        // Of these a swarm has exactly one, and without a swarm there is none.
        Drift {
            also: &["driver", "internal", "ipam_driver", "options", "ranges"],
            ..drift("ingress", "on", "true", |body| {
                body["Driver"] = json!("overlay");
                body["Ingress"] = json!(true);
                body["Internal"] = json!(false);
                body["Options"] = json!({});
            })
        },
    ]
}

#[test]
fn every_attribute_of_a_network_has_a_case() {
    let known = serde_json::to_value(Network::default()).unwrap();
    let known: BTreeSet<&str> = known.as_object().unwrap().keys().map(String::as_str).collect();
    let cases = all();
    let covered: BTreeSet<&str> = cases.iter().map(|case| case.attribute).collect();
    let missing: Vec<&&str> = known.difference(&covered).collect();
    assert!(missing.is_empty(), "these attributes have no case that tampers with them on a real engine: {missing:?}");
}

#[test]
fn networks_are_found_and_repaired() {
    let fleet = Fleet::start("network");
    fleet.declare(TENANT, "");
    fleet.converge();
    let tampered = all();
    let mut cases: Vec<Case<'_>> = tampered
        .iter()
        .map(|drift| case(&format!("{}: {}", drift.attribute, drift.what), |fleet| drift.run(fleet)))
        .collect();
    cases.extend([
        case("the network is gone", gone),
        case("on a second network", second_network),
        case("off its own network", off_its_own),
        case("stopped and on a second network", stopped_on_second),
        case("on another network in place of its own", moved),
        case("on the host's network", host_network),
        case("a foreign container on the network", foreign),
        case("a stopped foreign container on the network", stopped_foreign),
        case("a foreign container on a network that is made anew", foreign_on_tampered),
        case("a second network with the tenant's label", surplus),
    ]);
    fleet.cases(cases);
    fleet.end();
}

impl Drift {
    fn run(&self, fleet: &Fleet) {
        let ingress = self.attribute == "ingress";
        if ingress {
            let body = json!({"ListenAddr": "127.0.0.1:2377", "AdvertiseAddr": "127.0.0.1"});
            fleet.engine.must("POST", "/swarm/init", Some(&body));
            crate::fleet::eventually("the swarm has its own ingress network", || {
                fleet.engine.call("DELETE", "/networks/ingress", None).0 == 204
            });
        }
        let declared = fleet.engine.network(OURS).expect("the tenant has a network");
        fleet.recreate_network(TENANT, self.tamper);

        let plan = fleet.plan();
        assert_eq!(plan.code, 2, "a plan that finds drift exits with 2: {:#}", plan.json);
        assert_eq!(plan.addresses(), ["network.acme", "container.acme"], "both are made anew");
        let change = plan.change("network.acme");
        let named: Vec<&str> = names(change).into_iter().filter(|name| !self.also.contains(name)).collect();
        assert_eq!(named, [self.attribute], "the plan names what was tampered with, and nothing else");
        let found = attribute(change, self.attribute);
        assert!(found["before"].to_string().contains(self.actual), "the plan has the actual value: {found}");
        assert!(!found["after"].to_string().contains(self.actual), "the plan has the declared value: {found}");
        assert_eq!(found["cause"], "drift", "the plan says why");
        assert_eq!(found["weakens"], self.attribute != "labels", "the plan says what weakens");
        assert_eq!(change["actions"], json!(["delete", "create"]), "the plan says what will be done");
        assert_eq!(names(plan.change("container.acme")), ["networks"], "the container differs in its network alone");
        let (_, printed) = fleet.plan_text();
        assert!(printed.contains("# network.acme must be replaced"), "the plan says so to people:\n{printed}");
        let line = printed.lines().find(|line| line.trim_start().starts_with(&format!("~ {} ", self.attribute)));
        assert!(
            line.is_some_and(|line| line.contains("drift")),
            "the plan has a line for {}:\n{printed}",
            self.attribute
        );

        fleet.converge();
        let repaired = fleet.engine.network(OURS).expect("the tenant has a network again");
        for key in ["Driver", "Internal", "Attachable", "EnableIPv6", "IPAM", "Options", "Labels"] {
            assert_eq!(repaired[key], declared[key], "the network is as it was: {key}");
        }
        if ingress {
            fleet.engine.must("POST", "/swarm/leave?force=1", None);
        }
    }
}

/// The networks that the tenant's container is on.
fn networks(fleet: &Fleet) -> Vec<String> {
    let container = fleet.engine.inspect(OURS);
    container["NetworkSettings"]["Networks"].as_object().unwrap().keys().cloned().collect()
}

/// Makes a network that is nobody's, and removes it after.
fn with_office(fleet: &Fleet, work: impl FnOnce()) {
    fleet.engine.must("POST", "/networks/create", Some(&json!({"Name": "office"})));
    work();
    fleet.engine.must("DELETE", "/networks/office", None);
}

fn gone(fleet: &Fleet) {
    fleet.engine.attach("disconnect", OURS, OURS);
    fleet.engine.must("DELETE", &format!("/networks/{OURS}"), None);
    let plan = fleet.plan();
    assert_eq!(plan.change("network.acme")["actions"], json!(["create"]), "the network is made");
    assert_eq!(names(plan.change("container.acme")), ["networks"], "the container differs in its network alone");
    fleet.converge();
    assert_eq!(networks(fleet), [OURS], "the container is on its network");
}

fn second_network(fleet: &Fleet) {
    with_office(fleet, || {
        let proper = fleet.engine.identity(OURS);
        fleet.engine.attach("connect", "office", OURS);
        let plan = fleet.plan();
        assert_eq!(plan.addresses(), ["container.acme"], "only the container differs");
        let change = plan.change("container.acme");
        assert_eq!(names(change), ["networks"], "the plan names the networks");
        let found = attribute(change, "networks");
        assert_eq!(found["before"], json!(["office", OURS]), "the plan has the actual networks");
        assert_eq!(found["after"], json!([OURS]), "the plan has the declared network");
        assert_eq!(
            (&found["cause"], &found["weakens"]),
            (&json!("drift"), &json!(true)),
            "the plan says what it means"
        );
        assert_eq!(change["actions"], json!(["update"]), "the plan says that the container stays");
        let (_, printed) = fleet.plan_text();
        assert!(printed.contains("will be updated in-place"), "people see it as well:\n{printed}");
        assert!(
            printed.contains("# contained first: disconnected"),
            "people are printed of the containment:\n{printed}"
        );
        fleet.converge();
        assert_eq!(fleet.engine.identity(OURS), proper, "id and start time stay");
        assert_eq!(networks(fleet), [OURS], "the container is on its own network alone");
    });
}

fn off_its_own(fleet: &Fleet) {
    let proper = fleet.engine.identity(OURS);
    fleet.engine.attach("disconnect", OURS, OURS);
    let plan = fleet.plan();
    let change = plan.change("container.acme");
    assert_eq!(names(change), ["networks"], "the plan names the networks");
    assert_eq!(attribute(change, "networks")["before"], json!([]), "the plan has the actual networks");
    assert_eq!(attribute(change, "networks")["weakens"], false, "a tenant that reaches less is not weaker");
    assert_eq!(change["actions"], json!(["update"]), "the plan says that the container stays");
    fleet.converge();
    assert_eq!(fleet.engine.identity(OURS), proper, "id and start time stay");
    assert_eq!(networks(fleet), [OURS], "the container is on its network again");
}

fn stopped_on_second(fleet: &Fleet) {
    with_office(fleet, || {
        fleet.engine.must("POST", &format!("/containers/{OURS}/stop?t=1"), None);
        fleet.engine.attach("connect", "office", OURS);
        let plan = fleet.plan();
        assert_eq!(names(plan.change("container.acme")), ["networks", "state"], "both are named");
        fleet.converge();
        assert_eq!(networks(fleet), [OURS], "the container is on its own network alone");
    });
}

fn moved(fleet: &Fleet) {
    with_office(fleet, || {
        let proper = fleet.engine.identity(OURS);
        fleet.engine.attach("disconnect", OURS, OURS);
        fleet.engine.attach("connect", "office", OURS);
        let plan = fleet.plan();
        let change = plan.change("container.acme");
        assert_eq!(attribute(change, "networks")["before"], json!(["office"]), "the plan has the actual network");
        let start = clock();
        fleet.converge();
        assert_eq!(fleet.engine.identity(OURS), proper, "id and start time stay");
        let order: Vec<String> = fleet
            .engine
            .events(start)
            .iter()
            .filter(|event| event["Type"] == "network")
            .map(|event| format!("{} {}", text(&event["Action"]), text(&event["Actor"]["Attributes"]["name"])))
            .collect();
        let (off, on) = ("disconnect office".to_owned(), format!("connect {OURS}"));
        let position = |what: &str| order.iter().position(|event| event == what);
        assert!(position(&off).is_some() && position(&off) < position(&on), "first off, then on: {order:?}");
    });
}

/// The widest egress path: the engine refuses to disconnect from it, so the container is paused instead.
fn host_network(fleet: &Fleet) {
    fleet.recreate(TENANT, true, |body| {
        body["HostConfig"]["NetworkMode"] = json!("host");
        body["HostConfig"]["Sysctls"] = json!({});
    });
    let id = fleet.engine.identity(OURS).0;
    let plan = fleet.plan();
    let named = names(plan.change("container.acme"));
    for name in ["network_mode", "networks", "sysctls"] {
        assert!(named.contains(&name), "the plan names {name}: {named:?}");
    }
    let start = clock();
    fleet.converge();
    let actions: Vec<String> = fleet
        .engine
        .events(start)
        .iter()
        .filter(|event| event["Actor"]["ID"] == id.as_str())
        .map(|event| text(&event["Action"]))
        .collect();
    assert_eq!(actions.first().map(String::as_str), Some("pause"), "it is paused before anything else: {actions:?}");
}

fn foreign(fleet: &Fleet) {
    let proper = fleet.engine.identity(OURS);
    let id = fleet.engine.foreign("visitor", "bridge");
    fleet.engine.attach("connect", OURS, "visitor");
    let visitor = fleet.engine.identity("visitor");
    let plan = fleet.plan();
    assert_eq!(plan.addresses(), ["network.acme"], "only the network differs");
    let change = plan.change("network.acme");
    assert_eq!(names(change), ["members"], "the plan names who is on it");
    assert_eq!(attribute(change, "members")["before"], json!([OURS, "visitor"]), "by name");
    assert_eq!(change["actions"], json!(["update"]), "the network stays");
    fleet.converge();
    assert_eq!(fleet.engine.identity("visitor"), visitor, "the foreign container runs on as it did");
    let on: Value = fleet.engine.inspect("visitor")["NetworkSettings"]["Networks"].clone();
    assert_eq!(on.as_object().unwrap().keys().collect::<Vec<_>>(), ["bridge"], "it is off the tenant's network alone");
    assert_eq!(fleet.engine.identity(OURS), proper, "the tenant runs on as it did");
    fleet.engine.remove(&id);
}

fn stopped_foreign(fleet: &Fleet) {
    let id = fleet.engine.foreign("visitor", OURS);
    fleet.engine.must("POST", "/containers/visitor/kill", None);
    crate::fleet::eventually("the foreign container has ended", || {
        fleet.engine.inspect("visitor")["State"]["Status"] == "exited"
    });
    let plan = fleet.plan();
    assert_eq!(names(plan.change("network.acme")), ["members"], "one that could start there is named");
    fleet.converge();
    assert_eq!(fleet.engine.inspect("visitor")["Id"], id.as_str(), "the foreign container is still there");
    fleet.engine.remove(&id);
}

fn foreign_on_tampered(fleet: &Fleet) {
    fleet.recreate_network(TENANT, |body| body["Internal"] = json!(false));
    let id = fleet.engine.foreign("visitor", OURS);
    let visitor = fleet.engine.identity("visitor");
    let plan = fleet.plan();
    assert_eq!(names(plan.change("network.acme")), ["internal", "members"], "both are named");
    fleet.converge();
    assert_eq!(fleet.engine.identity("visitor"), visitor, "the foreign container runs on");
    fleet.engine.remove(&id);
}

fn surplus(fleet: &Fleet) {
    let body = json!({"Name": "copy", "Labels": {"io.tenantd.tenant": TENANT}});
    fleet.engine.must("POST", "/networks/create", Some(&body));
    fleet.engine.attach("connect", "copy", OURS);
    let proper = fleet.engine.identity(OURS);
    let plan = fleet.plan();
    assert_eq!(plan.change("network.copy")["actions"], json!(["delete"]), "the one too many is removed");
    fleet.converge();
    assert!(fleet.engine.network("copy").is_none(), "it is gone");
    assert_eq!(fleet.engine.identity(OURS), proper, "the tenant runs on as it did");
}
