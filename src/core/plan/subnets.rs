//! Which addresses each tenant's network gets out of the host's pool.

use std::collections::BTreeMap;

use ipnet::Ipv4Net;
use sha2::{Digest, Sha256};

use super::{desired_network::desired_network, found::Found};
use crate::model::{Desired, Host, Observed, SPEC_LABEL, Tenant, observed::ObservedNetwork};

/// Gives each declared tenant a subnet, or none once the pool is full.
///
/// A network that is as declared keeps its subnet, and who sleeps the one that is reserved. Every other tenant gets the first free one from a
/// place that its name's hash names: the same arguments give the same answer, so creation can be
/// repeated after a crash, and another tenant's coming and going moves nobody.
pub(super) fn allocate<'a>(
    desired: &'a Desired,
    host: &Host,
    observed: &Observed,
    found: &BTreeMap<&str, Found<'_>>,
) -> BTreeMap<&'a str, Ipv4Net> {
    let mut given = BTreeMap::new();
    let mut taken = Taken::default();
    let mut kept_networks = std::collections::BTreeSet::new();
    // Who is only contained gets no new one.
    for (name, tenant) in desired.tenants.iter().chain(&desired.held_back) {
        let own = found.get(name.as_str()).into_iter().flat_map(|found| &found.networks);
        if let Some((network, subnet)) = own.filter_map(|n| Some((n, kept(tenant, host, n)?))).next() {
            given.insert(name.as_str(), subnet);
            taken.insert(subnet);
            kept_networks.insert(network.id.as_str());
        }
    }
    let mut leaving = Leaving::default();
    for network in observed.networks.iter().filter(|network| !kept_networks.contains(network.id.as_str())) {
        let subnets = network.spec.ranges.iter().filter_map(|range| range.subnet.parse::<Ipv4Net>().ok());
        match network.tenant.as_deref().filter(|name| desired.tenants.contains_key(*name)) {
            Some(owner) => subnets.for_each(|subnet| leaving.insert(subnet, owner)),
            None => subnets.for_each(|subnet| taken.insert(subnet)),
        }
    }
    for (owner, &subnet) in &observed.powers.reserved {
        let is_of_pool = subnet.prefix_len() == host.prefix && host.pool.contains(&subnet);
        match desired.tenants.get_key_value(owner.as_str()) {
            Some((name, _)) if given.contains_key(name.as_str()) => {}
            Some((name, _)) if is_of_pool && !taken.overlaps(subnet) && !leaving.holds_back(subnet, owner) => {
                given.insert(name.as_str(), subnet);
                taken.insert(subnet);
            }
            Some(_) => {}
            None => taken.insert(subnet),
        }
    }
    let slots = 1u64 << host.prefix.saturating_sub(host.pool.prefix_len());
    for name in desired.tenants.keys() {
        if given.contains_key(name.as_str()) {
            continue;
        }
        let start = place(name.as_str()) % slots;
        let free = (0..slots)
            .filter_map(|step| slot(host, (start + step) % slots))
            .find(|subnet| !taken.overlaps(*subnet) && !leaving.holds_back(*subnet, name.as_str()));
        if let Some(subnet) = free {
            given.insert(name.as_str(), subnet);
            taken.insert(subnet);
        }
    }
    given
}

/// The subnet of a network that is as declared for that very subnet.
pub(super) fn kept(tenant: &Tenant, host: &Host, network: &ObservedNetwork) -> Option<Ipv4Net> {
    let [range] = network.spec.ranges.as_slice() else { return None };
    let subnet: Ipv4Net = range.subnet.parse().ok()?;
    if subnet.prefix_len() != host.prefix || !host.pool.contains(&subnet) {
        return None;
    }
    let declared = desired_network(tenant, subnet);
    (declared.labels.get(SPEC_LABEL) == network.spec.labels.get(SPEC_LABEL)).then_some(subnet)
}

fn place(name: &str) -> u64 {
    let digest = Sha256::digest(name.as_bytes());
    digest.iter().take(8).fold(0, |number, byte| (number << 8) | u64::from(*byte))
}

fn slot(host: &Host, index: u64) -> Option<Ipv4Net> {
    let size = 32 - u32::from(host.prefix);
    let base = u64::from(u32::from(host.pool.network()));
    let address = u32::try_from(base + (index << size)).ok()?;
    Ipv4Net::new(std::net::Ipv4Addr::from(address), host.prefix).ok()
}

/// Ranges of addresses in use: first address to last. They may overlap one another.
#[derive(Default)]
struct Taken(BTreeMap<u32, u32>);

impl Taken {
    fn insert(&mut self, subnet: Ipv4Net) {
        let (mut first, mut last) = (u32::from(subnet.network()), u32::from(subnet.broadcast()));
        while let Some((&other_first, &other_last)) = self.overlapping(first, last) {
            first = first.min(other_first);
            last = last.max(other_last);
            self.0.remove(&other_first);
        }
        self.0.insert(first, last);
    }

    fn overlaps(&self, subnet: Ipv4Net) -> bool {
        self.overlapping(u32::from(subnet.network()), u32::from(subnet.broadcast())).is_some()
    }

    fn overlapping(&self, first: u32, last: u32) -> Option<(&u32, &u32)> {
        self.0.range(..=last).next_back().filter(|(_, other_last)| **other_last >= first)
    }
}

/// Addresses of networks that their tenants are about to give up, and whose they are: free for that
/// tenant, which removes its network before it makes another, and not yet for those beside it.
#[derive(Default)]
struct Leaving<'a>(BTreeMap<u32, (u32, &'a str)>);

impl<'a> Leaving<'a> {
    fn insert(&mut self, subnet: Ipv4Net, owner: &'a str) {
        self.0.insert(u32::from(subnet.network()), (u32::from(subnet.broadcast()), owner));
    }

    fn holds_back(&self, subnet: Ipv4Net, name: &str) -> bool {
        let (first, last) = (u32::from(subnet.network()), u32::from(subnet.broadcast()));
        // An engine keeps its networks apart, so that the last of these begins and ends last.
        let overlapping = self.0.range(..=last).rev().take_while(|(_, (other_last, _))| *other_last >= first);
        overlapping.map(|(_, (_, owner))| *owner).any(|owner| owner != name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_that_a_tenant_gives_up_are_free_for_that_tenant_alone() -> Result<(), ipnet::AddrParseError> {
        let mut leaving = Leaving::default();
        leaving.insert("10.77.0.0/29".parse()?, "ant");
        leaving.insert("10.77.0.8/29".parse()?, "bee");
        assert!(!leaving.holds_back("10.77.0.0/29".parse()?, "ant"));
        assert!(leaving.holds_back("10.77.0.0/29".parse()?, "bee"));
        assert!(leaving.holds_back("10.77.0.0/28".parse()?, "ant"));
        assert!(leaving.holds_back("10.77.0.0/28".parse()?, "bee"));
        assert!(!leaving.holds_back("10.77.0.16/28".parse()?, "cat"));
        Ok(())
    }

    #[test]
    fn ranges_that_overlap_are_seen_from_either_side() -> Result<(), ipnet::AddrParseError> {
        let mut taken = Taken::default();
        taken.insert("10.77.1.0/24".parse()?);
        taken.insert("10.77.1.16/28".parse()?);
        taken.insert("10.76.0.0/15".parse()?);
        assert!(taken.overlaps("10.77.255.240/28".parse()?));
        assert!(taken.overlaps("10.0.0.0/8".parse()?));
        assert!(!taken.overlaps("10.78.0.0/28".parse()?));
        Ok(())
    }
}
