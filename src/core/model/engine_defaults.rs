//! What an engine's own configuration adds to the objects that it makes.

use serde::{Deserialize, Serialize};

use super::Pairs;

/// What a container or network that was just made has beyond what was sent for it, as far as `daemon.json` has settings
/// for that.
///
/// Limits follow the engine's configuration of today: an engine shows its own beside those of each container, whenever that
/// was made. Options are stored as the object is made, and stay what they were then.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct EngineDefaults {
    /// Limits of names that no container is sent (`default-ulimits`): `name=soft:hard`, sorted.
    pub ulimits: Vec<String>,
    /// Log options that no container is sent (`log-opts`).
    pub log_options: Pairs,
    /// Options that no network is sent (`default-network-opts`).
    pub network_options: Pairs,
}
