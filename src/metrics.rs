//! What the daemon counts, in the form that Prometheus reads.
//!
//! Every label has a handful of values that are known beforehand. No tenant's name is one: a fleet of
//! thousands would make as many series of each metric.

use std::{fs, sync::Arc, time::Duration};

use prometheus_client::{
    encoding::text::{encode_eof, encode_registry},
    metrics::{
        counter::{ConstCounter, Counter},
        family::Family,
        gauge::{ConstGauge, Gauge},
        histogram::Histogram,
        info::Info,
    },
    registry::Registry,
};
use rustix::param::clock_ticks_per_second;

use crate::model::{
    Status,
    record::{StepResult, Verdict, Why},
    resource::Resource,
    status::{ConditionKind, MemoryStatus, TenantStatus, Truth},
};

type Labels<const N: usize> = [(&'static str, &'static str); N];
type Counters<const N: usize> = Family<Labels<N>, Counter>;
type Gauges<const N: usize> = Family<Labels<N>, Gauge>;

/// The kinds of engine events that are distinguished; the last stands for all others.
const EVENTS: [&str; 5] = ["container", "network", "image", "daemon", "other"];

/// Upper bounds of the buckets, in seconds: a repair takes tenths of a second, a start seconds.
const BUCKETS: [f64; 14] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0];

/// What became of a notification.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Notified {
    /// The webhook took it.
    Sent,
    /// The webhook refused it, or did not take it for an hour.
    Failed,
    /// It was the oldest of too many that waited.
    Dropped,
    /// The same was posted a short time ago.
    Merged,
}

impl Notified {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Sent, Self::Failed, Self::Dropped, Self::Merged];

    /// The word in metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Sent => "sent",
            Self::Failed => "failed",
            Self::Dropped => "dropped",
            Self::Merged => "merged",
        }
    }
}

/// The daemon's counters. Clones count into the same ones.
#[derive(Clone, Debug)]
pub struct Metrics {
    registry: Arc<Registry>,
    reconciled: Histogram,
    full_pass: Histogram,
    drift: Counters<1>,
    corrections: Counters<2>,
    engine_events: Counters<1>,
    fetches: Counters<1>,
    revisions: Counters<1>,
    journal_records: Counter,
    journal_errors: Counter,
    evictions: Counter,
    refused_wakes: Counter,
    notifications: Counters<1>,
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// Counters that all stand at zero.
    pub fn new() -> Self {
        let mut registry = Registry::default();
        let info = Info::new([("version", env!("CARGO_PKG_VERSION"))]);
        registry.register("tenantd_build", "The program that runs", info);
        let mut histogram = |name: &str, help: &str| {
            let histogram = Histogram::new(BUCKETS);
            registry.register(name, help, histogram.clone());
            histogram
        };
        let reconciled =
            histogram("tenantd_reconcile_duration_seconds", "From the trigger to the end of a tenant's steps");
        let full_pass = histogram("tenantd_full_pass_duration_seconds", "A full scan, and planning");
        let mut counter = |name: &str, help: &str| {
            let counter = Counter::default();
            registry.register(name, help, counter.clone());
            counter
        };
        let journal_records = counter("tenantd_journal_records", "Records that were written");
        let journal_errors = counter("tenantd_journal_errors", "Writes of the journal that failed");

        let evictions =
            counter("tenantd_power_evictions", "Tenants that were put to sleep to make room in memory for another one");
        let refused_wakes =
            counter("tenantd_power_refused_wakes", "Wakes that were refused because power.memory left no room");

        let corrections = Why::ALL.iter().flat_map(|why| StepResult::ALL.map(|result| correction(*why, result)));
        let r = &mut registry;
        Self {
            drift: counters(
                r,
                "tenantd_drift",
                "Drift that was seen",
                Resource::ALL.map(|kind| [("kind", kind.as_str())]),
            ),
            corrections: counters(
                r,
                "tenantd_corrections",
                "Tenants that were made as declared, or could not be",
                corrections,
            ),
            engine_events: counters(
                r,
                "tenantd_engine_events",
                "Events of the engine",
                EVENTS.map(|kind| [("type", kind)]),
            ),
            fetches: counters(r, "tenantd_source_fetches", "Fetches of the config repo", [true, false].map(fetch)),
            revisions: counters(r, "tenantd_revisions", "Commits that were judged", Verdict::ALL.map(verdict)),
            notifications: counters(
                r,
                "tenantd_notifications",
                "Notifications to the webhook",
                Notified::ALL.map(notified),
            ),
            registry: Arc::new(registry),
            reconciled,
            full_pass,
            journal_records,
            journal_errors,
            evictions,
            refused_wakes,
        }
    }

    /// A tenant's steps have ended, so long after what led to them.
    pub fn reconciled(&self, took: Duration) {
        self.reconciled.observe(took.as_secs_f64());
    }

    /// Everything was scanned, which took so long.
    pub fn full_pass(&self, took: Duration) {
        self.full_pass.observe(took.as_secs_f64());
    }

    /// Drift was seen on a resource.
    pub fn drifted(&self, resource: Resource) {
        self.drift.get_or_create(&[("kind", resource.as_str())]).inc();
    }

    /// A step was carried out.
    pub fn corrected(&self, why: Why, result: StepResult) {
        self.corrections.get_or_create(&correction(why, result)).inc();
    }

    /// The engine reported something: `container`, `network`, `image` or `daemon`.
    pub fn engine_event(&self, kind: &str) {
        self.engine_events.get_or_create(&[("type", known(&EVENTS, kind))]).inc();
    }

    /// The source was asked for news, and answered or not.
    pub fn fetched(&self, answered: bool) {
        self.fetches.get_or_create(&fetch(answered)).inc();
    }

    /// A commit was judged.
    pub fn judged(&self, of: Verdict) {
        self.revisions.get_or_create(&verdict(of)).inc();
    }

    /// So many records were written.
    pub fn journaled(&self, records: u64) {
        self.journal_records.inc_by(records);
    }

    /// The journal could not be written.
    pub fn journal_failed(&self) {
        self.journal_errors.inc();
    }

    /// A tenant was put to sleep to make room in memory for another one.
    pub fn evicted(&self) {
        self.evictions.inc();
    }

    /// A tenant was not woken because the host has no memory for it.
    pub fn wake_refused(&self) {
        self.refused_wakes.inc();
    }

    /// A notification has ended.
    pub fn notified(&self, result: Notified) {
        self.notifications.get_or_create(&notified(result)).inc();
    }

    /// Everything in the text form of OpenMetrics: what was counted, the process, and how things stand
    /// as far as the daemon says so.
    pub fn render(&self, status: Option<&Status>) -> String {
        let mut now = Registry::default();
        if let Some(status) = status {
            stand(&mut now, status);
        }
        process(&mut now);
        let mut text = String::new();
        // Writing into a string does not fail.
        let _ = encode_registry(&mut text, &self.registry);
        let _ = encode_registry(&mut text, &now);
        let _ = encode_eof(&mut text);
        text
    }
}

/// Counters that begin at zero for each set of labels, so that the first count shows as a rise.
fn counters<const N: usize>(
    registry: &mut Registry,
    name: &str,
    help: &str,
    labels: impl IntoIterator<Item = Labels<N>>,
) -> Counters<N> {
    let family = Counters::default();
    for labels in labels {
        drop(family.get_or_create(&labels));
    }
    registry.register(name, help, family.clone());
    family
}

fn known<const N: usize>(names: &[&'static str; N], name: &str) -> &'static str {
    names.iter().find(|known| **known == name).unwrap_or(&"other")
}

fn correction(why: Why, result: StepResult) -> Labels<2> {
    [("why", why.as_str()), ("result", result.as_str())]
}

fn fetch(answered: bool) -> Labels<1> {
    [("result", if answered { "done" } else { "failed" })]
}

fn verdict(verdict: Verdict) -> Labels<1> {
    [("verdict", verdict.as_str())]
}

fn notified(result: Notified) -> Labels<1> {
    [("result", result.as_str())]
}

/// How things stand, as the daemon says.
fn stand(registry: &mut Registry, status: &Status) {
    let conditions = Gauges::default();
    for kind in ConditionKind::ALL.into_iter().filter(|kind| kind.is_of_tenants()) {
        for truth in Truth::ALL {
            let holds = |tenant: &&TenantStatus| tenant.condition(kind).is_some_and(|c| c.status == truth);
            let count = status.tenants.iter().filter(holds).count();
            let labels = [("type", kind.as_str()), ("status", truth.as_str())];
            conditions.get_or_create(&labels).set(count as i64);
        }
    }
    registry.register("tenantd_reconcile_condition", "Tenants by condition", conditions);

    let states = Gauges::default();
    for state in TenantState::ALL {
        let count = status.tenants.iter().filter(|tenant| TenantState::of(tenant) == state).count();
        states.get_or_create(&[("state", state.as_str())]).set(count as i64);
    }
    registry.register("tenantd_tenants", "Tenants, each in one state", states);

    let up = i64::from(status.engine.up);
    registry.register("tenantd_engine_up", "Whether the engine answers", ConstGauge::new(up));
    if let Some(gateway) = &status.gateway {
        let up = i64::from(gateway.error.is_none());
        registry.register("tenantd_gateway_up", "Whether the gateway answers", ConstGauge::new(up));
    }
    if let Some(MemoryStatus { limit, held }) = status.memory {
        for (name, help, bytes) in [
            ("tenantd_power_memory_limit_bytes", "Beyond this no tenant is woken", limit),
            ("tenantd_power_memory_held_bytes", "What tenants that run or are paused may hold", held),
        ] {
            registry.register(name, help, ConstGauge::new(i64::try_from(bytes).unwrap_or(i64::MAX)));
        }
    }
    if let Some(fetched) = status.source.fetched {
        let seconds = fetched.as_millisecond() as f64 / 1000.0;
        let help = "When the config repo last answered";
        registry.register("tenantd_source_last_fetch_timestamp_seconds", help, ConstGauge::new(seconds));
    }
}

/// What a tenant can be counted as, once.
#[derive(Clone, Copy, PartialEq, Eq)]
enum TenantState {
    Ready,
    Suspended,
    Blocked,
    Drifted,
    Reconciling,
    Unready,
}

impl TenantState {
    const ALL: [Self; 6] =
        [Self::Ready, Self::Suspended, Self::Blocked, Self::Drifted, Self::Reconciling, Self::Unready];

    const fn as_str(self) -> &'static str {
        match self {
            Self::Ready => "ready",
            Self::Suspended => "suspended",
            Self::Blocked => "blocked",
            Self::Drifted => "drifted",
            Self::Reconciling => "reconciling",
            Self::Unready => "unready",
        }
    }

    /// The first that holds. A suspended tenant counts as that, whatever else is the matter.
    fn of(tenant: &TenantStatus) -> Self {
        let holds = |kind| tenant.condition(kind).is_some_and(|condition| condition.status == Truth::True);
        if tenant.suspended.is_some() {
            Self::Suspended
        } else if holds(ConditionKind::Stalled) {
            Self::Blocked
        } else if holds(ConditionKind::Drifted) {
            Self::Drifted
        } else if holds(ConditionKind::Ready) {
            Self::Ready
        } else if holds(ConditionKind::Reconciling) {
            Self::Reconciling
        } else {
            Self::Unready
        }
    }
}

/// What the kernel knows about this process, under the names that every Prometheus client uses. What
/// cannot be read is left out.
fn process(registry: &mut Registry) {
    if let Some(bytes) = resident() {
        registry.register("process_resident_memory_bytes", "Memory in use", ConstGauge::new(bytes));
    }
    if let Ok(open) = fs::read_dir("/proc/self/fd") {
        // The folder itself is open while it is read.
        let count = open.count().saturating_sub(1) as i64;
        registry.register("process_open_fds", "Open descriptors", ConstGauge::new(count));
    }
    let Some((cpu, started)) = times() else { return };
    registry.register("process_cpu_seconds", "Processor time", ConstCounter::new(cpu));
    if let Some(booted) = boot_time() {
        let help = "When the process began";
        registry.register("process_start_time_seconds", help, ConstGauge::new(booted + started));
    }
}

fn resident() -> Option<i64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().strip_suffix(" kB")?.trim().parse::<i64>().ok()?.checked_mul(1024)
}

/// Processor time, and the time from the boot to the beginning of this process, in seconds.
fn times() -> Option<(f64, f64)> {
    let stat = fs::read_to_string("/proc/self/stat").ok()?;
    // The name, in brackets, may hold anything.
    let fields: Vec<&str> = stat.rsplit_once(") ")?.1.split(' ').collect();
    let seconds = |index: usize| -> Option<f64> {
        Some(fields.get(index)?.parse::<u64>().ok()? as f64 / clock_ticks_per_second() as f64)
    };
    // Fields 14, 15 and 22 of proc_pid_stat(5); the first one here is its third.
    Some((seconds(11)? + seconds(12)?, seconds(19)?))
}

fn boot_time() -> Option<f64> {
    let stat = fs::read_to_string("/proc/stat").ok()?;
    stat.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()
}
