//! Egress paths that are tampered with behind the engine's back: the kernel tells, and long before the next observation at
//! everything all is as declared.

use std::fs;

use super::{HOST, Service};
use crate::egress::{WAY_OUT, names_of, policy_file, secrets_and_settings, shell, values};

const TENANT: &str = "acme";
const OURS: &str = "tenantd-acme";

/// When the tenant's repair is tried again, if it waits.
fn next_try(service: &Service) -> Option<String> {
    let status = service.status()?;
    let next = status["tenants"].as_array()?.iter().find(|one| one["tenant"] == TENANT)?["next_try"].as_str()?;
    Some(next.to_owned())
}

#[test]
fn what_the_engine_does_not_see_is_healed_at_once() {
    let mut service = Service::new("ways", "");
    service.run_within();
    service.settings(&format!("{HOST}{}", secrets_and_settings(&service.fleet)));
    shell(&service.fleet, "ip netns add tenantd");
    service.fleet.declare(TENANT, WAY_OUT);
    // Repairs that failed wait for longer than this test takes. What ends during its trial would be the commit's fault.
    service.fleet.policy("retry: {initial: 1h, max: 1h}\nhealth: {trialPeriod: 1s}\n");
    let commit = service.push();
    service.start();
    service.wait_until_in_order(&commit);
    service.wait("its trial is over", || {
        service.condition(TENANT, "Healthy").is_some_and(|(_, reason, _)| reason == "Running")
    });

    let dir = service.fleet.engine.dir().display().to_string();
    let (link, bridge) = names_of(TENANT);
    let is_whole = |service: &Service| {
        let fleet = &service.fleet;
        let here = shell(fleet, &format!("ip -o link show dev {link} 2>&1 || true"));
        let inside = shell(fleet, &format!("ip -n tenantd -4 -o addr show dev {link} 2>&1 || true"));
        let host = shell(fleet, &format!("ip -o addr show dev {bridge}"));
        let allowed = policy_file(fleet, TENANT).map(|policy| policy["allow"].to_string()).unwrap_or_default();
        here.contains(&format!("master {bridge}"))
            && here.contains("LOWER_UP")
            && inside.contains("inet ")
            && host.is_empty()
            && allowed.contains("api.example.com")
            && !allowed.contains("evil")
    };
    assert!(is_whole(&service));
    for (what, tamper) in [
        ("the link is deleted", format!("ip link del {link}")),
        ("its end inside is deleted", format!("ip -n tenantd link del {link}")),
        ("its end inside is taken down", format!("ip -n tenantd link set {link} down")),
        ("it is taken off the bridge", format!("ip link set {link} nomaster")),
        ("its address inside is taken", format!("ip -n tenantd addr flush dev {link}")),
        ("the host takes an address", format!("ip addr add 10.99.0.1/24 dev {bridge}")),
        ("the policy is deleted", format!("rm {dir}/egress/policies/{TENANT}.json")),
        (
            "the policy is widened",
            format!("sed -i s/api.example.com/evil.example.com/ {dir}/egress/policies/{TENANT}.json"),
        ),
    ] {
        println!("case {what}");
        shell(&service.fleet, &tamper);
        service.wait(what, || is_whole(&service));
    }
    println!("case a secret is rotated");
    fs::write(service.fleet.engine.dir().join("crm"), "s3cret-next\n").unwrap();
    service.wait("a secret is rotated", || values(&service.fleet)["acme/crm"] == "s3cret-next");
    println!("case the tenant keeps its own repair waiting");
    while next_try(&service).is_none() {
        service.wait("it runs, or waits", || {
            let pid = service.fleet.engine.inspect(OURS)["State"]["Pid"].as_u64().unwrap_or_default();
            if pid > 0 {
                shell(&service.fleet, &format!("kill -KILL {pid} 2>/dev/null || true"));
            }
            pid > 0 || next_try(&service).is_some()
        });
    }
    fs::write(service.fleet.engine.dir().join("crm"), "s3cret-late\n").unwrap();
    service.wait("a secret is revoked all the same", || values(&service.fleet)["acme/crm"] == "s3cret-late");
    shell(&service.fleet, &format!("sed -i s/api.example.com/evil.example.com/ {dir}/egress/policies/{TENANT}.json"));
    service.wait("and a policy narrowed", || {
        policy_file(&service.fleet, TENANT).is_some_and(|policy| !policy["allow"].to_string().contains("evil"))
    });
    shell(&service.fleet, &format!("ip addr add 10.99.0.1/24 dev {bridge}"));
    service.wait("and the host's address taken", || {
        shell(&service.fleet, &format!("ip -o addr show dev {bridge}")).is_empty()
    });
    assert!(next_try(&service).is_some(), "the repair waits on");
    service.settings(&format!("{HOST}{}", secrets_and_settings(&service.fleet)));
    super::signal("HUP", super::itself(service.pid()));
    service.wait("settings that are read again end the waiting", || is_whole(&service));
    service.wait_until_in_order(&commit);

    println!("case a foreign link comes");
    shell(&service.fleet, "ip link add tg-strange type veth peer name tg-strange netns tenantd");
    service.wait("it goes", || !shell(&service.fleet, "ip -o link").contains("tg-strange"));
    service.end();
}
