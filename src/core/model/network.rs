//! A network in the one canonical form that both the declared and the observed are brought to.

use serde::{Deserialize, Serialize};

use super::{
    Pairs,
    attribute::{Attribute, Weakens, form},
};

form! {
    /// Everything about a network that tenantd owns.
    Network {
        /// Its name in the engine.
        name: String = NAME.identifies();
        /// Address ranges: `subnet gateway range`, sorted.
        ranges: Vec<Range> = RANGES.settable().identifies();
        /// Whether it has no egress path.
        internal: bool = INTERNAL.identifies();
        /// Driver.
        driver: String = DRIVER;
        /// Whether containers outside of the engine's own services may join.
        attachable: bool = ATTACHABLE;
        /// Whether it is a swarm's ingress network.
        ingress: bool = INGRESS;
        /// Whether it is only a template for others.
        config_only: bool = CONFIG_ONLY;
        /// Whether it carries IPv6.
        ipv6: bool = IPV6;
        /// The driver that hands out addresses.
        ipam_driver: String = IPAM_DRIVER;
        /// That driver's options.
        ipam_options: Pairs = IPAM_OPTIONS;
        /// The network driver's options.
        options: Pairs = OPTIONS;
        /// Labels.
        labels: Pairs = LABELS.weakens(Weakens::Never);
    }
    beside {
        MEMBERS = "members";
    }
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
