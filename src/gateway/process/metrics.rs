//! What the gateway counts, in the form that Prometheus reads.
//!
//! Labels are names of tenants, rules and entries of allowlists: what a tenant makes up adds no series.

use std::{sync::atomic::AtomicU64, time::Duration};

use jiff::Timestamp;
use prometheus_client::{
    encoding::text::{encode_eof, encode_registry},
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};

use crate::{accounting::usage::Count, client::Client, listening::shared::Shared};

type Labels<const N: usize> = [(&'static str, String); N];

/// Everything in the text form of OpenMetrics: what was counted, and how much is in use now.
pub(crate) fn render(shared: &Shared) -> String {
    let mut now = Registry::default();
    of_tenants(&mut now, shared);
    refusals(&mut now, shared);
    credits(&mut now, shared);
    usage(&mut now, shared);
    let mut text = String::new();
    // Writing into a string does not fail.
    let _ = encode_registry(&mut text, shared.counters.registry());
    let _ = encode_registry(&mut text, &now);
    let _ = encode_eof(&mut text);
    text
}

fn counters<const N: usize>(
    registry: &mut Registry,
    name: &str,
    help: &str,
    counts: impl IntoIterator<Item = (Labels<N>, u64)>,
) {
    let family = Family::<Labels<N>, Counter>::default();
    for (labels, count) in counts {
        family.get_or_create(&labels).inc_by(count);
    }
    registry.register(name, help, family);
}

fn gauges<const N: usize>(
    registry: &mut Registry,
    name: &str,
    help: &str,
    values: impl IntoIterator<Item = (Labels<N>, u64)>,
) {
    let family = Family::<Labels<N>, Gauge>::default();
    for (labels, value) in values {
        family.get_or_create(&labels).set(i64::try_from(value).unwrap_or(i64::MAX));
    }
    registry.register(name, help, family);
}

fn tenant(name: impl ToString) -> Labels<1> {
    [("tenant", name.to_string())]
}

fn of_tenants(registry: &mut Registry, shared: &Shared) {
    let tenants = shared.tenants.clients();
    let each = |value: &dyn Fn(&Client) -> u64| -> Vec<(Labels<1>, u64)> {
        tenants.iter().map(|client| (tenant(client.name()), value(client))).collect()
    };
    let served: Gauge = Gauge::default();
    served.set(i64::try_from(tenants.len()).unwrap_or(i64::MAX));
    registry.register("tenantd_gateway_tenants", "Tenants that are served", served);
    let open = each(&|client| shared.pools.connections.of(client.name()));
    gauges(registry, "tenantd_gateway_connections", "Open connections of a tenant", open);
    let memory = each(&|client| shared.pools.memory.of(client.name()));
    gauges(registry, "tenantd_gateway_memory_bytes", "Bytes that wait in memory for a tenant", memory);
    counters(
        registry,
        "tenantd_gateway_dropped_questions",
        "Questions of a tenant that got no answer because there were too many",
        each(&|client| client.account.load.dropped.get()),
    );
    counters(
        registry,
        "tenantd_gateway_stalled",
        "Connections cut because nobody took what waited, for too long or too much of it",
        each(&|client| client.account.load.stalled.get()),
    );
}

fn refusals(registry: &mut Registry, shared: &Shared) {
    let refused = shared.refusals.counts().into_iter();
    let refused =
        refused.map(|((name, rule), count)| ([("tenant", name.to_string()), ("rule", rule.to_string())], count));
    counters(registry, "tenantd_gateway_refusals", "What was refused, by tenant and rule", refused);
    counters(
        registry,
        "tenantd_gateway_unrecorded_refusals",
        "Refusals beyond what the journal keeps of a tenant, recorded as a sum",
        shared.refusals.unrecorded().into_iter().map(|(name, count)| (tenant(name), count)),
    );
}

fn credits(registry: &mut Registry, shared: &Shared) {
    let used = shared.ledger.book().credits(None).into_iter();
    let used = used.map(|((name, route), credits)| (to(name, format!("route:{route}")), credits));
    gauges(registry, "tenantd_egress_credits", "Credits that are used or reserved", used);
    let now = Timestamp::now();
    let left = shared.tenants.clients().into_iter().filter_map(|client| {
        let left = shared.ledger.left(client.name(), client.now().policy.budget, now)?;
        Some((tenant(client.name()), left))
    });
    gauges(registry, "tenantd_egress_credits_left", "Credits that a tenant's budget has left", left);
}

fn to(tenant: impl ToString, destination: impl ToString) -> Labels<2> {
    [("tenant", tenant.to_string()), ("destination", destination.to_string())]
}

fn usage(registry: &mut Registry, shared: &Shared) {
    let totals = shared.usage.totals();
    let mut each = |name: &str, help: &str, value: &dyn Fn(&Count) -> u64| {
        let counts = totals.iter().map(|((tenant, destination), count)| (to(tenant, destination), value(count)));
        counters(registry, name, help, counts);
    };
    each("tenantd_egress_requests", "Requests and connections", &|count| count.requests);
    each("tenantd_egress_sent_bytes", "Bytes towards a destination", &|count| count.sent);
    each("tenantd_egress_received_bytes", "Bytes from a destination", &|count| count.received);
    let took = Family::<Labels<2>, Counter<f64, AtomicU64>>::default();
    for ((tenant, destination), count) in &totals {
        took.get_or_create(&to(tenant, destination)).inc_by(Duration::from_millis(count.millis).as_secs_f64());
    }
    let name = "tenantd_egress_duration_seconds";
    registry.register(name, "How long requests and connections took", took);
}
