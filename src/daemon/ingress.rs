//! What ingress asks: which tenants expose a port and can be reached, and that one is woken.

use std::{collections::BTreeMap, time::Instant};

use jiff::Timestamp;

use super::{Daemon, board::Stale, in_force::InForce, ingress_view::IngressView, tenants::Tenants, workers::WAKE};
use crate::{
    model::{
        Access, Host, Power, PowerHold, PowerReason, TenantName,
        ingress::{Closed, Reachable, Waking},
        record::Trigger,
    },
    web::{
        Asked, Calls as _, Refusal,
        ingress::{InHandNoted, IngressPeer, Wake},
    },
};

impl Daemon {
    pub(super) async fn answer_ingress(&mut self, call: IngressPeer) {
        if call.is_given_up() {
            return;
        }
        match call {
            IngressPeer::ReadState(Asked { call, reply, .. }) => match &mut self.ingress {
                Some(ingress) => ingress.board.ask(call.after, reply, Instant::now()),
                None => drop(reply.send(Err(no_ingress()))),
            },
            IngressPeer::Wake(Asked { call, reply, .. }) => drop(reply.send(self.wake(call).await)),
            IngressPeer::ReportInHand(Asked { call, reply, .. }) => {
                self.demand.report(call.in_hand, Instant::now(), Timestamp::now());
                drop(reply.send(Ok(InHandNoted {})));
            }
        }
    }

    /// Tells ingress what is otherwise by now.
    pub(super) fn tell_ingress(&mut self) {
        let Self { ingress: Some(IngressView { board, has_revoked, .. }), host, in_force, tenants, scan, .. } = self
        else {
            return;
        };
        let now = Instant::now();
        let exposed = Exposed { widest: widest(host), in_force, tenants };
        board.declared(in_force.effective());
        match board.take_stale(now) {
            Some(Stale::All) => {
                let waiting_page = in_force.fleet.as_ref().is_some_and(|fleet| fleet.declared.policy.waiting_page);
                board.set_all(in_force.revoked_tokens().cloned().collect(), waiting_page, exposed.all());
            }
            Some(Stale::Tenants(names)) => {
                let names = names.iter().filter_map(|name| name.parse::<TenantName>().ok());
                board.set_some(names.map(|name| (name.clone(), exposed.one(name.as_str()))));
            }
            None => {}
        }
        if *has_revoked || (scan.is_complete() && in_force.fleet.is_some()) {
            board.known();
        }
        board.time_passed(now);
    }

    /// Has a tenant run that is paused or asleep: once, however many requests ask for that.
    async fn wake(&mut self, Wake { tenant, in_hand }: Wake) -> Result<Waking, Refusal> {
        if in_hand.is_some() {
            self.demand.report(in_hand, Instant::now(), Timestamp::now());
        }
        let exposed = Exposed { widest: widest(&self.host), in_force: &self.in_force, tenants: &self.tenants };
        let (name, one) = tenant.parse().ok().zip(exposed.one(&tenant)).ok_or_else(|| {
            // Nobody learns here which tenants there are.
            Refusal::not_found(format!("there is no tenant {tenant:?} that exposes a port"))
        })?;
        if let Some(closed) = one.closed {
            let why = self.why_closed(&tenant).map_or_else(String::new, |why| format!(": {why}"));
            return Err(Refusal::conflict(format!("{tenant} is {closed}{why}")));
        }
        let powers = self.in_force.powers();
        if powers.lost && !powers.holds.contains_key(&tenant) {
            return Err(Refusal::unavailable("what tenants are to do is not known yet").hint("ask again"));
        }
        if one.power != Power::Running {
            let now = Timestamp::now();
            let reason = PowerReason::Wake;
            let hold = PowerHold { power: Power::Running, reason, since: now, until: None, reached: false };
            let trigger = Trigger::Event { event: WAKE.to_owned(), object: tenant.clone(), time: now };
            self.wake_within_memory(&tenant, hold, trigger).await?;
        }
        Ok(Waking { tenant: name })
    }

    /// Why a tenant is not woken, for a person.
    fn why_closed(&self, tenant: &str) -> Option<String> {
        match self.in_force.suspension(tenant) {
            Some(suspension) => Some(format!("it is left alone until {}", suspension.until)),
            None => {
                let blocked = self.tenants.get(tenant)?.blocked.as_ref()?;
                Some(format!("{}: {}", blocked.code, blocked.reason))
            }
        }
    }
}

/// This host has no ingress.
pub(super) fn no_ingress() -> Refusal {
    Refusal::conflict("this host has no ingress").hint("write `ingress` into host.yaml, and restart the daemon")
}

/// The most that a tenant's file may choose.
fn widest(host: &Host) -> Access {
    host.ingress.as_ref().map_or(Access::Token, |ingress| ingress.access)
}

/// What is known of tenants that expose a port.
struct Exposed<'a> {
    widest: Access,
    in_force: &'a InForce,
    tenants: &'a Tenants,
}

impl Exposed<'_> {
    /// All of them.
    fn all(&self) -> BTreeMap<TenantName, Reachable> {
        let declared = self.in_force.effective().into_iter();
        let names = declared.flat_map(|desired| desired.tenants.keys().chain(desired.held_back.keys()));
        names.filter_map(|name| Some((name.clone(), self.one(name.as_str())?))).collect()
    }

    /// One of them; `None` where it exposes none.
    fn one(&self, name: &str) -> Option<Reachable> {
        let desired = self.in_force.effective()?;
        let carried_out = desired.tenants.get(name);
        let tenant = carried_out.or_else(|| desired.held_back.get(name)).filter(|tenant| !tenant.expose.is_empty())?;
        let runtime = self.tenants.get(name);
        let power = self.in_force.powers().holds.get(name).map(|hold| hold.power).unwrap_or_default();
        let located = runtime.and_then(|runtime| runtime.located.as_ref());
        let closed = if self.in_force.suspension(name).is_some() {
            Some(Closed::Suspended)
        } else if carried_out.is_none() {
            Some(Closed::Held)
        } else {
            runtime.and_then(|runtime| runtime.blocked.as_ref()).map(|_| Closed::Blocked)
        };
        Some(Reachable {
            // Of a tenant that asks for more, and is blocked for it, what runs is left as it is.
            access: tenant.access.min(self.widest),
            ports: tenant.expose.clone(),
            address: located.map(|located| located.address),
            container: located.map(|located| located.container.clone()),
            power,
            running: power == Power::Running && located.is_some_and(|located| located.runs),
            waits_for_memory: self.in_force.wakes().waiting.contains_key(name),
            closed,
        })
    }
}
