//! A tenant's egress path: what may be open, what is, and the steps between them.

use std::collections::BTreeSet;

use ipnet::Ipv4Net;
use serde_json::{Value, json};

use super::peer::Peer;
use crate::model::{
    Destination, EgressPolicy, Host, Observed, Obstacle, PlannedStep, SecretName, Step, Tenant, TenantPlan,
    attribute::{Attribute, egress as table},
    change::{Action, AttributeChange, Change, Object},
    egress::{
        Budget, Cost, EgressCapability, EgressPath, Filed, Fingerprint, FoundFiles, FoundLink, FoundSecrets,
        ObservedEgress, POLICY_VERSION, Route,
    },
    host::SecretPlace,
    plan::Blocked,
    record::Why,
    resource::Resource,
    step::{ChangeId, DeclaredEgress, LeftSecrets},
};

/// What was found of one tenant's egress path.
#[derive(Clone, Copy, Default)]
pub(super) struct FoundEgress<'a> {
    link: Option<&'a FoundLink>,
    files: Option<&'a FoundFiles>,
}

impl<'a> FoundEgress<'a> {
    fn of(tenant: &str, link: &str, observed: &'a ObservedEgress) -> Self {
        Self { link: observed.links.get(link), files: observed.files.get(tenant) }
    }

    fn is_nothing(&self) -> bool {
        self.link.is_none() && self.files.is_none()
    }

    fn policy(&self) -> Option<&'a EgressPolicy> {
        self.files.and_then(|files| files.policy.present())
    }
}

/// Plans the egress path of a declared tenant. `subnet` is that of its network, where it has one or may get one, and `peer` what
/// is known of its container's address there.
///
/// A blocked tenant keeps of its egress path what is declared and granted, and no more.
pub(super) fn converge(
    tenant: &Tenant,
    host: &Host,
    observed: &Observed,
    subnet: Option<Ipv4Net>,
    peer: Peer,
    plan: &mut TenantPlan,
) {
    let link = tenant.name.link_name();
    let found = FoundEgress::of(tenant.name.as_str(), &link, &observed.egress);
    if !tenant.has_egress() {
        if !found.is_nothing() {
            let change = plan.add_change(closed(&plan.tenant, &link, found));
            plan.push_containment(change, close(&plan.tenant, &link));
        }
        return;
    }
    if plan.blocked.is_none() {
        plan.blocked = obstacle(tenant, host, &observed.egress);
    }
    let Some(subnet) = subnet else {
        if !found.is_nothing() {
            plan.push_containment(None, close(&plan.tenant, &link));
        }
        return;
    };
    let in_force = found.policy().and_then(|policy| policy.address);
    let policy = EgressPolicy { address: peer.declared(in_force), ..entitled(tenant, host, subnet) };
    let secrets: BTreeSet<SecretName> = secrets_of(&policy.routes).cloned().collect();
    let is_ours = |name: &SecretName| secrets.contains(name) && comes_sealed(name, host);
    let sealed = tenant.sealed.iter().filter(|(name, _)| is_ours(name));
    let sealed = sealed.map(|(name, text)| (name.clone(), text.clone())).collect();
    let bridge = tenant.name.interface_name();
    let declared = DesiredEgress { egress: DeclaredEgress { link, bridge, policy, secrets, sealed }, peer };
    let contain = declared.contain(found, &observed.egress, &plan.tenant);
    let change = declared.differs(found, &observed.egress, plan);
    for step in contain {
        plan.push_containment(change, step);
    }
    declared.open(found, change, plan);
}

/// Plans the end of the egress path of a tenant that nobody declares. A tenant that is named as a link is, is that link's
/// owner.
pub(super) fn remove(name: &str, observed: &ObservedEgress, plan: &mut TenantPlan) {
    let link = match name.parse::<crate::model::TenantName>() {
        Ok(_) if observed.links.contains_key(name) => name.to_owned(),
        Ok(tenant) => tenant.link_name(),
        Err(_) => return,
    };
    let found = FoundEgress::of(name, &link, observed);
    if !found.is_nothing() {
        let change = plan.add_change(closed(name, &link, found));
        plan.push_containment(change, close(name, &link));
    }
}

/// Those whose links exist although none of the known tenants has them: by the name that the link has, else by
/// the link's own.
pub(super) fn undeclared(observed: &ObservedEgress, known: &BTreeSet<String>) -> Vec<String> {
    if observed.links.is_empty() {
        return Vec::new();
    }
    let link_of = |name: &str| name.parse::<crate::model::TenantName>().ok().map(|tenant| tenant.link_name());
    let claimed: BTreeSet<String> = known.iter().filter_map(|name| link_of(name)).collect();
    let undeclared = observed.links.iter().filter(|(link, _)| !claimed.contains(*link));
    undeclared
        .map(
            |(link, found)| {
                if link_of(&found.alias).as_ref() == Some(link) { found.alias.clone() } else { link.clone() }
            },
        )
        .collect()
}

/// The first thing that keeps an egress path from being opened.
fn obstacle(tenant: &Tenant, host: &Host, observed: &ObservedEgress) -> Option<Blocked> {
    let blocked = |code, reason: String, help: &str| Some(Blocked { code, reason, help: help.to_owned() });
    for route in &tenant.routes {
        // Whether there is such a secret at all is nobody's business who may not use it.
        if let Some(secret) = route.inject.template().secrets().find(|secret| !is_granted(tenant, secret, host)) {
            return blocked(
                Obstacle::SecretNotGranted,
                format!(
                    "the route /{}/ names the secret {secret}, which this host does not grant to the tenant",
                    route.name
                ),
                "host.yaml says under egress.secrets which tenants a secret may serve",
            );
        }
        let elsewhere = |secret: &&SecretName| !may_go_to(secret, route, host);
        if let Some(secret) = route.inject.template().secrets().find(elsewhere) {
            return blocked(
                Obstacle::SecretNotGranted,
                format!("the route /{}/ would send the secret {secret} to {}", route.name, route.upstream.host()),
                "host.yaml says under egress.secrets to which upstreams a secret may be sent",
            );
        }
    }
    if let Some(destination) = tenant.allowlist.iter().find(|destination| !is_permitted(destination, host)) {
        return blocked(
            Obstacle::DestinationNotPermitted,
            format!("{destination} is a range, or an address that is not public, and this host permits no such"),
            "name a host instead, or add the range to egress.permittedRanges in host.yaml",
        );
    }
    let what = if tenant.allowlist.is_empty() && tenant.routes.is_empty() { "exposes ports" } else { "has egress" };
    match &observed.capability {
        EgressCapability::Ready => {}
        EgressCapability::EngineElsewhere => {
            return blocked(
                Obstacle::EngineElsewhere,
                format!("the tenant {what}, and the engine's networks are not on this host"),
                "run tenantd on the engine's own host, in the same network namespace",
            );
        }
        EgressCapability::GatewayMissing => {
            return blocked(
                Obstacle::GatewayMissing,
                format!("the tenant {what}, and the gateway's network namespace does not exist"),
                "start the gateway: systemctl start tenantd-gateway, or tenantd gateway",
            );
        }
        EgressCapability::Taken(reason) => {
            return blocked(
                Obstacle::EgressTaken,
                reason.clone(),
                "what is another data root's is left alone, and this tenant as well until host.yaml names other places",
            );
        }
        EgressCapability::Unknown(reason) => {
            return blocked(
                Obstacle::Unobserved,
                format!("the egress of this host could not be observed: {reason}"),
                "nothing of this tenant is changed until they can be",
            );
        }
    }
    for secret in secrets_of(&tenant.routes) {
        match (comes_sealed(secret, host), tenant.sealed.contains_key(secret)) {
            (true, false) => {
                return blocked(
                    Obstacle::SecretMissing,
                    format!("this host takes the secret {secret} from the tenant's file, which does not have it"),
                    "add to `sealed` what `tenantd egress seal` prints",
                );
            }
            (false, true) => {
                return blocked(
                    Obstacle::SecretNotSealed,
                    format!("the tenant's file holds the secret {secret}, which this host keeps itself"),
                    "remove it from `sealed`, or write `sealed: true` under egress.secrets in host.yaml",
                );
            }
            _ => {}
        }
        if let Some(Err(reason)) = observed.secrets.get(secret) {
            return blocked(
                Obstacle::SecretMissing,
                format!("the secret {secret} cannot be read: {reason}"),
                "put it where host.yaml says under egress.secrets",
            );
        }
    }
    None
}

fn secrets_of(routes: &[Route]) -> impl Iterator<Item = &SecretName> {
    routes.iter().flat_map(|route| route.inject.template().secrets())
}

fn is_granted(tenant: &Tenant, secret: &SecretName, host: &Host) -> bool {
    host.egress.secrets.get(secret).is_some_and(|grant| grant.tenants.contains(&tenant.name))
}

fn comes_sealed(secret: &SecretName, host: &Host) -> bool {
    host.egress.secrets.get(secret).is_some_and(|grant| grant.place == SecretPlace::Sealed)
}

fn may_go_to(secret: &SecretName, route: &Route, host: &Host) -> bool {
    host.egress.secrets.get(secret).is_some_and(|grant| grant.upstreams.contains(route.upstream.host()))
}

fn is_permitted(destination: &Destination, host: &Host) -> bool {
    let permitted = |range: Ipv4Net| host.egress.permit.iter().any(|permit| permit.contains(&range));
    destination.needs_permit().is_none_or(permitted)
}

/// What is declared, without what the host does not grant. It serves nobody yet.
fn entitled(tenant: &Tenant, host: &Host, subnet: Ipv4Net) -> EgressPolicy {
    let is_rightful = |route: &&Route| {
        let mut secrets = route.inject.template().secrets();
        secrets.all(|secret| is_granted(tenant, secret, host) && may_go_to(secret, route, host))
    };
    EgressPolicy {
        v: POLICY_VERSION,
        tenant: tenant.name.clone(),
        subnet,
        address: None,
        allow: tenant.allowlist.iter().filter(|destination| is_permitted(destination, host)).cloned().collect(),
        routes: tenant.routes.iter().filter(is_rightful).cloned().collect(),
        budget: tenant.budget,
    }
}

struct DesiredEgress {
    egress: DeclaredEgress,
    peer: Peer,
}

impl DesiredEgress {
    /// What cannot wait: whatever is open beyond the declaration is closed first.
    fn contain(&self, found: FoundEgress<'_>, observed: &ObservedEgress, tenant: &str) -> Vec<Step> {
        let egress = &self.egress;
        let mut steps = Vec::new();
        let is_strange = |link: &FoundLink| {
            let elsewhere = !link.bridge.is_empty() && (link.bridge != egress.bridge || !link.joined);
            elsewhere || link.addresses.iter().any(|address| *address != self.address())
        };
        let is_ready = observed.capability == EgressCapability::Ready;
        let moved = found.policy().is_some_and(|policy| policy.subnet != egress.policy.subnet);
        if moved || (is_ready && found.link.is_some_and(is_strange)) {
            steps.push(close(tenant, &egress.link));
        } else {
            let policy = found.policy().map(|policy| (policy, self.narrowed(policy)));
            let policy = policy.filter(|(found, left)| *found != left).map(|(_, left)| Box::new(left));
            let secrets = self.left_secrets(found, observed);
            if policy.is_some() || secrets.is_some() {
                steps.push(Step::NarrowEgress { tenant: egress.policy.tenant.clone(), policy, secrets });
            }
        }
        let is_loose = |link: &FoundLink| !(link.host_side.is_empty() && link.sysctls.is_empty());
        let is_open = !observed.sysctls.is_empty() || found.link.is_some_and(is_loose);
        if is_ready && is_open {
            steps.push(Step::GuardEgress {
                tenant: tenant.to_owned(),
                link: egress.link.clone(),
                bridge: egress.bridge.clone(),
            });
        }
        steps
    }

    /// What is left of a policy where only what is declared may stay.
    fn narrowed(&self, found: &EgressPolicy) -> EgressPolicy {
        let declared = &self.egress.policy;
        let (v, address) = self.peer.left_of(found);
        EgressPolicy {
            v,
            tenant: declared.tenant.clone(),
            subnet: declared.subnet,
            address,
            allow: found.allow.intersection(&declared.allow).cloned().collect(),
            routes: found.routes.iter().filter(|route| declared.routes.contains(route)).cloned().collect(),
            budget: strictest(found.budget, declared.budget),
        }
    }

    /// What is left of the secrets that the gateway has: those that are declared, with the values that they have now.
    /// `None` where it has no other.
    fn left_secrets(&self, found: FoundEgress<'_>, observed: &ObservedEgress) -> Option<LeftSecrets> {
        let declared = &self.egress.secrets;
        let names = match found.files.map(|files| &files.secrets)? {
            Filed::Missing => return None,
            // Others can read or write the file: what is declared is written anew.
            Filed::Wrong(_) => declared.clone(),
            Filed::Present(filed) => {
                let names: BTreeSet<SecretName> = filed.values.keys().cloned().collect();
                let left: BTreeSet<SecretName> = names.intersection(declared).cloned().collect();
                // A sealed text may not be one that can be opened: until it was, the former value stays.
                let is_hosts = |name: &SecretName| filed.edited || !self.egress.sealed.contains_key(name);
                if left == names && !self.stale(filed, observed).iter().any(is_hosts) {
                    return None;
                }
                left
            }
        };
        let sealed = self.egress.sealed.iter().filter(|(name, _)| names.contains(*name));
        let sealed = sealed.map(|(name, text)| (name.clone(), text.clone())).collect();
        Some(LeftSecrets { names, sealed })
    }

    /// The declared secrets of which the gateway has another value than the one that they have now.
    fn stale(&self, filed: &FoundSecrets, observed: &ObservedEgress) -> Vec<SecretName> {
        let is_stale = |name: &SecretName| match self.egress.sealed.get(name) {
            Some(sealed) => filed.sealed.get(name) != Some(&Fingerprint::of(sealed.as_str())),
            // One that cannot be read now blocks its tenant, and the former value stays.
            None => observed
                .secrets
                .get(name)
                .is_some_and(|now| now.as_ref().is_ok_and(|now| filed.values.get(name) != Some(now))),
        };
        let declared = self.egress.secrets.iter().filter(|name| filed.values.contains_key(*name));
        declared.filter(|name| filed.edited || is_stale(name)).cloned().collect()
    }

    /// Notes what differs, if anything does.
    fn differs(&self, found: FoundEgress<'_>, observed: &ObservedEgress, plan: &mut TenantPlan) -> Option<ChangeId> {
        if found.is_nothing() {
            return Some(plan.add_change(self.change(&plan.tenant, Action::Create, Vec::new(), None)));
        }
        let attributes = self.compare(found, observed);
        let before = || Some(shown(&self.egress.link, found));
        let change = (!attributes.is_empty()).then(|| self.change(&plan.tenant, Action::Update, attributes, before()));
        change.map(|change| plan.add_change(change))
    }

    /// Plans the egress path as it is declared: after its network is there, before its container starts. Where another address
    /// is in use until then, not before the container that has it is gone.
    fn open(self, found: FoundEgress<'_>, change: Option<ChangeId>, plan: &mut TenantPlan) {
        let place = |wanted: fn(&Step) -> bool| move |planned: &PlannedStep| wanted(&planned.step);
        let created = plan.steps.iter().rposition(place(|step| matches!(step, Step::CreateNetwork { .. })));
        let removed = plan.steps.iter().position(place(|step| matches!(step, Step::RemoveNetwork { .. })));
        if change.is_some() || created.is_some() {
            let close = plan.planned(change, close(&plan.tenant, &self.egress.link));
            let moves = self.peer.moves();
            let step = plan.planned(change, Step::OpenEgress { egress: Box::new(self.egress) });
            let start = plan.steps.iter().rposition(place(|step| matches!(step, Step::Start { .. })));
            let at = created.map(|at| at + 1).or(start.filter(|_| moves)).unwrap_or_default();
            plan.steps.insert(at, step);
            if let Some(at) = removed.filter(|_| created.is_some() && !found.is_nothing()) {
                plan.steps.insert(at, close);
            }
        }
    }

    fn change(
        &self,
        tenant: &str,
        action: Action,
        attributes: Vec<AttributeChange>,
        before: Option<EgressPath>,
    ) -> Change {
        let policy = &self.egress.policy;
        let after = EgressPath {
            link: self.egress.link.clone(),
            bridge: self.egress.bridge.clone(),
            addresses: BTreeSet::from([self.address()]),
            secrets: self.egress.secrets.clone(),
            ..shown_policy(policy)
        };
        let object = |egress| Object::Egress(Box::new(egress));
        Change {
            resource: Resource::Egress,
            name: tenant.to_owned(),
            action,
            attributes,
            before: before.map(object),
            after: Some(object(after)),
        }
    }

    /// The address of the link's end inside, with its prefix.
    fn address(&self) -> String {
        let subnet = self.egress.policy.subnet;
        format!("{}/{}", super::desired_network::gateway(subnet), subnet.prefix_len())
    }

    /// What differs, attribute by attribute.
    fn compare(&self, found: FoundEgress<'_>, observed: &ObservedEgress) -> Vec<AttributeChange> {
        let mut changes = Vec::new();
        if observed.capability == EgressCapability::Ready {
            self.compare_link(found.link, &mut changes);
            let own = found.link.into_iter().flat_map(|link| &link.sysctls);
            let sysctls: Vec<&String> = observed.sysctls.iter().chain(own).collect();
            if !sysctls.is_empty() {
                changes.push(drift(&table::SYSCTLS, json!(sysctls), json!([]), true));
            }
        }
        let why = if found.files.is_some_and(|files| files.edited) { Why::Drift } else { Why::Intent };
        let missing = Filed::Missing;
        match found.files.map_or(&missing, |files| &files.policy) {
            Filed::Missing => changes.push(drift(&table::POLICY, Value::Null, json!("present"), false)),
            Filed::Wrong(reason) => changes.push(drift(&table::POLICY, json!(reason), json!("present"), false)),
            Filed::Present(policy) => self.compare_policy(policy, why, &mut changes),
        }
        self.compare_secrets(found, observed, &mut changes);
        changes
    }

    fn compare_link(&self, link: Option<&FoundLink>, changes: &mut Vec<AttributeChange>) {
        let egress = &self.egress;
        let Some(link) = link else {
            changes.push(drift(&table::LINK, Value::Null, json!(egress.link), false));
            return;
        };
        if !link.joined {
            let before = format!("{} does not lead to the gateway", egress.link);
            changes.push(drift(&table::LINK, json!(before), json!(egress.link), !link.bridge.is_empty()));
        } else if !link.up {
            changes.push(drift(&table::LINK, json!(format!("{} is down", egress.link)), json!(egress.link), false));
        }
        if link.bridge != egress.bridge {
            let before = if link.bridge.is_empty() { Value::Null } else { json!(link.bridge) };
            changes.push(drift(&table::BRIDGE, before, json!(egress.bridge), !link.bridge.is_empty()));
        }
        let address = self.address();
        if link.joined && !link.addresses.iter().eq([&address]) {
            let weakens = link.addresses.iter().any(|other| *other != address);
            changes.push(drift(&table::ADDRESSES, json!(link.addresses), json!([address]), weakens));
        }
        if !link.host_side.is_empty() {
            changes.push(drift(&table::HOST_SIDE, json!(link.host_side), json!([]), true));
        }
    }

    fn compare_policy(&self, policy: &EgressPolicy, why: Why, changes: &mut Vec<AttributeChange>) {
        let (before, after) = (shown_policy(policy), shown_policy(&self.egress.policy));
        let is_drift = why == Why::Drift;
        let mut add = |attribute, before: Value, after: Value, wider: bool| {
            if before != after {
                changes.push(AttributeChange { why, ..drift(attribute, before, after, wider && is_drift) });
            }
        };
        add(&table::POLICY, json!({"version": policy.v}), json!({"version": POLICY_VERSION}), false);
        add(&table::SUBNET, json!(before.subnet), json!(after.subnet), true);
        let is_own = policy.address.is_none_or(|address| self.peer.is_own(address));
        let former = policy.address.map(|address| format!("{address}, which another container may have"));
        let address = if is_own { json!(before.address) } else { json!(former) };
        add(&table::ADDRESS, address, json!(after.address), true);
        let more = |these: &[String], those: &[String]| these.iter().any(|entry| !those.contains(entry));
        add(&table::ALLOW, json!(before.allow), json!(after.allow), more(&before.allow, &after.allow));
        add(&table::ROUTES, json!(before.routes), json!(after.routes), more(&before.routes, &after.routes));
        let looser = strictest(policy.budget, self.egress.policy.budget) != policy.budget;
        add(&table::BUDGET, json!(before.budget), json!(after.budget), looser);
    }

    fn compare_secrets(&self, found: FoundEgress<'_>, observed: &ObservedEgress, changes: &mut Vec<AttributeChange>) {
        let declared = &self.egress.secrets;
        let missing = Filed::Missing;
        let filed = match found.files.map_or(&missing, |files| &files.secrets) {
            Filed::Wrong(reason) => {
                changes.push(drift(&table::SECRETS, json!(reason), json!(declared), true));
                return;
            }
            filed => filed.present(),
        };
        let names: BTreeSet<SecretName> = filed.into_iter().flat_map(|filed| filed.values.keys().cloned()).collect();
        // Somebody else took the file away where the policy at hand names what was in it.
        let referenced = || found.policy().into_iter().flat_map(|policy| secrets_of(&policy.routes));
        let is_drift = filed.map_or_else(|| referenced().eq(declared.iter()), |filed| filed.edited);
        let why = Why::drift_if(is_drift);
        if names != *declared {
            let weakens = is_drift && !names.is_subset(declared);
            changes.push(AttributeChange { why, ..drift(&table::SECRETS, json!(names), json!(declared), weakens) });
            return;
        }
        let Some(filed) = filed else { return };
        let stale = self.stale(filed, observed);
        if !stale.is_empty() {
            let values = |what: &str| Value::Object(stale.iter().map(|name| (name.to_string(), json!(what))).collect());
            let (before, after) = (values("(another value)"), values("(the value as it is now)"));
            changes.push(AttributeChange { why, ..drift(&table::SECRETS, before, after, false) });
        }
    }
}

fn drift(attribute: &'static Attribute, before: Value, after: Value, weakens: bool) -> AttributeChange {
    AttributeChange { attribute, before, after, forces_replacement: false, weakens, why: Why::Drift, remark: None }
}

fn strictest(one: Budget, other: Budget) -> Budget {
    let least = |one: Option<u64>, other: Option<u64>| one.into_iter().chain(other).min();
    Budget { day: least(one.day, other.day), month: least(one.month, other.month) }
}

fn close(tenant: &str, link: &str) -> Step {
    Step::CloseEgress { tenant: tenant.to_owned(), link: link.to_owned() }
}

fn closed(tenant: &str, link: &str, found: FoundEgress<'_>) -> Change {
    Change {
        resource: Resource::Egress,
        name: tenant.to_owned(),
        action: Action::Delete,
        attributes: Vec::new(),
        before: Some(Object::Egress(Box::new(shown(link, found)))),
        after: None,
    }
}

/// What was found, in the form that plans show.
fn shown(link: &str, found: FoundEgress<'_>) -> EgressPath {
    let mut egress = found.policy().map(shown_policy).unwrap_or_default();
    if let Some(found) = found.link {
        egress.link = link.to_owned();
        egress.bridge.clone_from(&found.bridge);
        egress.addresses.clone_from(&found.addresses);
    }
    let secrets = found.files.and_then(|files| files.secrets.present());
    egress.secrets = secrets.into_iter().flat_map(|secrets| secrets.values.keys().cloned()).collect();
    egress
}

/// What a policy allows, in the form that plans show.
fn shown_policy(policy: &EgressPolicy) -> EgressPath {
    let per = |credits: Option<u64>, time: &str| credits.map(|credits| format!("{credits} a {time}"));
    EgressPath {
        subnet: Some(policy.subnet),
        address: policy.address,
        allow: policy.allow.iter().map(ToString::to_string).collect(),
        routes: policy.routes.iter().map(route).collect(),
        budget: per(policy.budget.day, "day").into_iter().chain(per(policy.budget.month, "month")).collect(),
        ..EgressPath::default()
    }
}

fn route(route: &Route) -> String {
    let cost = route.cost.as_ref().map(|Cost { reserve, settle, stream }| {
        let settle = settle.as_ref().map_or_else(String::new, |settle| format!(" settled at {settle}"));
        let stream = match stream {
            crate::model::egress::StreamMode::Meter => "",
            crate::model::egress::StreamMode::Refuse => ", no streams",
        };
        format!("; {reserve} credits{settle}{stream}")
    });
    format!("/{}/ -> {} with {}{}", route.name, route.upstream, route.inject, cost.unwrap_or_default())
}
