//! What is counted, in the form that Prometheus reads.
//!
//! Labels are names of results alone: what somebody outside makes up adds no series.

use std::time::Duration;

use prometheus_client::{
    encoding::text::encode,
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::Registry,
};

/// The bounds of the times of wakes, in seconds: from a frozen tenant to one whose image takes long.
const SECONDS: [f64; 10] = [0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0, 60.0];

type Labels = [(&'static str, &'static str); 1];

/// What came of a request's wait for a tenant that did not run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WakeResult {
    /// It was ready in time.
    Ready,
    /// It was not to be woken.
    Refused,
}

/// Why an answer on its way was cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CutReason {
    /// What let it in counts no more.
    Revoked,
    /// The container that it came from is gone.
    Gone,
    /// Its client took nothing of it for too long, or where too much waited. Of those over HTTP/2 alone.
    Stalled,
}

/// What is counted since the process began.
#[derive(Debug)]
pub struct Counters {
    registry: Registry,
    /// Connections of clients.
    pub accepted: Counter,
    /// Connections that are open.
    pub open: Gauge,
    /// Connections without a request in hand that were closed for new ones.
    pub called_back: Counter,
    /// Requests that wait for a tenant.
    pub held: Gauge,
    cut: Family<Labels, Counter>,
    requests: Family<Labels, Counter>,
    wakes: Family<Labels, Counter>,
    wake_seconds: Histogram,
}

impl Default for Counters {
    fn default() -> Self {
        let mut registry = Registry::default();
        let (accepted, open, held) = (Counter::default(), Gauge::default(), Gauge::default());
        let (requests, wakes) = (Family::<Labels, Counter>::default(), Family::<Labels, Counter>::default());
        let (called_back, cut) = (Counter::default(), Family::<Labels, Counter>::default());
        let wake_seconds = Histogram::new(SECONDS);
        registry.register("tenantd_ingress_accepted_connections", "Connections that came in", accepted.clone());
        registry.register("tenantd_ingress_connections", "Open connections", open.clone());
        registry.register(
            "tenantd_ingress_called_back_connections",
            "Connections without a request in hand that were closed for new ones",
            called_back.clone(),
        );
        registry.register("tenantd_ingress_cut_answers", "Answers that were cut on their way, by why", cut.clone());
        registry.register("tenantd_ingress_held_requests", "Requests that wait for a tenant to run", held.clone());
        registry.register("tenantd_ingress_requests", "Requests, by what became of them", requests.clone());
        registry.register(
            "tenantd_ingress_wakes",
            "Requests that had a tenant woken, by what became of it",
            wakes.clone(),
        );
        registry.register(
            "tenantd_ingress_wake_seconds",
            "From a request for a tenant that does not run until the tenant is ready",
            wake_seconds.clone(),
        );
        Self { registry, accepted, open, called_back, held, cut, requests, wakes, wake_seconds }
    }
}

impl Counters {
    /// A request was passed on, or refused for what `result` names.
    pub fn request(&self, result: &'static str) {
        self.requests.get_or_create(&[("result", result)]).inc();
    }

    /// An answer was cut on its way.
    pub fn cut(&self, reason: CutReason) {
        let name = match reason {
            CutReason::Revoked => "revoked",
            CutReason::Gone => "gone",
            CutReason::Stalled => "stalled",
        };
        self.cut.get_or_create(&[("reason", name)]).inc();
    }

    /// A request that had a tenant woken waits no longer.
    pub fn woken(&self, result: WakeResult, after: Duration) {
        let name = match result {
            WakeResult::Ready => "ready",
            WakeResult::Refused => "refused",
        };
        self.wakes.get_or_create(&[("result", name)]).inc();
        if result == WakeResult::Ready {
            self.wake_seconds.observe(after.as_secs_f64());
        }
    }

    /// All of it in the text form of OpenMetrics.
    pub fn render(&self) -> String {
        let mut text = String::new();
        // Writing into a string does not fail.
        let _ = encode(&mut text, &self.registry);
        text
    }
}
