//! What is counted for all tenants together.

use prometheus_client::{metrics::counter::Counter, registry::Registry};

/// Counts for all tenants together, which begin at zero with each process.
#[derive(Debug)]
pub struct Counters {
    registry: Registry,
    /// Connections that were accepted.
    pub accepted: Counter,
    /// Questions that were asked of the name server inside.
    pub questions: Counter,
    /// Connections that were cut because of a change of what is in force.
    pub cut: Counter,
    /// Connections that were cut because another tenant needed the place that they were lent.
    pub called_back: Counter,
}

impl Default for Counters {
    fn default() -> Self {
        let mut registry = Registry::default();
        let mut counter = |name: &str, help: &str| {
            let counter = Counter::default();
            registry.register(name, help, counter.clone());
            counter
        };
        Self {
            accepted: counter("tenantd_gateway_accepted_connections", "Connections that came in"),
            questions: counter("tenantd_gateway_questions", "Questions to the name server inside"),
            cut: counter("tenantd_gateway_cut", "Connections cut by a change of policy"),
            called_back: counter(
                "tenantd_gateway_called_back",
                "Connections cut because another tenant needed their place",
            ),
            registry,
        }
    }
}

impl Counters {
    /// All of them, by their names.
    pub fn registry(&self) -> &Registry {
        &self.registry
    }
}
