//! A declared tenant's network, in the engine's terms.

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;

use super::fingerprint::fingerprint;
use crate::model::{Network, Pairs, SPEC_LABEL, TENANT_LABEL, Tenant, network::Range};

/// The option that keeps the engine from giving the bridge an address on the host.
const INHIBIT_IPV4: &str = "com.docker.network.bridge.inhibit_ipv4";

/// The option that names the bridge's interface on the host.
const BRIDGE_NAME: &str = "com.docker.network.bridge.name";

/// The first address of a tenant's network, where its default route leads.
pub(super) fn gateway(subnet: Ipv4Net) -> String {
    subnet.hosts().next().unwrap_or_else(|| subnet.network()).to_string()
}

/// The address of a tenant's container: the network's last one, because engines hand out from the first on. So nobody who is
/// put on the network by hand is given it while the container does not run.
pub(super) fn own_address(subnet: Ipv4Net) -> Option<Ipv4Addr> {
    subnet.hosts().last().filter(|last| subnet.hosts().next() != Some(*last))
}

/// The tenant's network: no egress path, no address of the host on it, no IPv6.
pub(super) fn desired_network(tenant: &Tenant, subnet: Ipv4Net) -> Network {
    let mut network = Network {
        name: tenant.name.object_name(),
        driver: "bridge".to_owned(),
        internal: true,
        ranges: vec![Range { subnet: subnet.to_string(), gateway: gateway(subnet), range: String::new() }],
        ipam_driver: "default".to_owned(),
        options: Pairs::from([
            (INHIBIT_IPV4.to_owned(), "true".to_owned()),
            (BRIDGE_NAME.to_owned(), tenant.name.interface_name()),
        ]),
        ..Network::default()
    };
    let spec = fingerprint(&network);
    network.labels = Pairs::from([(TENANT_LABEL.to_owned(), tenant.name.to_string()), (SPEC_LABEL.to_owned(), spec)]);
    network
}
