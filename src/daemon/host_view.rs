//! What is known of the host beside the engine.

use super::gateway::Gateway;
use crate::{host::Changes, model::Host};

pub(super) struct HostView {
    /// What the kernel reports that the engine does not see.
    pub(super) changes: Changes,
    pub(super) gateway: Gateway,
}

impl HostView {
    pub(super) fn begin(host: &Host) -> Self {
        Self { changes: Changes::begin(host), gateway: Gateway::begin(&host.egress.state) }
    }
}
