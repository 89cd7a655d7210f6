//! A network in the one canonical form that both the declared and the observed are brought to.

use serde::{Deserialize, Serialize};

use super::Pairs;

/// Everything about a network that tenantd owns.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Network {
    /// Name.
    pub name: String,
    /// Driver.
    pub driver: String,
    /// Whether it has no way out.
    pub internal: bool,
    /// Whether containers outside of the engine's own services may join.
    pub attachable: bool,
    /// Whether it is a swarm's ingress network.
    pub ingress: bool,
    /// Whether it is only a template for others.
    pub config_only: bool,
    /// Whether it carries IPv6.
    pub ipv6: bool,
    /// Address ranges: `subnet gateway range`, sorted.
    pub ranges: Vec<Range>,
    /// The driver that hands out addresses.
    pub ipam_driver: String,
    /// That driver's options.
    pub ipam_options: Pairs,
    /// The network driver's options.
    pub options: Pairs,
    /// Labels.
    pub labels: Pairs,
}

/// One address range of a network; what is not set is empty.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Range {
    /// All addresses, such as `10.77.0.16/28`.
    pub subnet: String,
    /// The address that the tenant's default route leads to.
    pub gateway: String,
    /// The part that addresses are handed out of.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub range: String,
}
