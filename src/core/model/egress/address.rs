//! What kind of address one is: what is not public is refused, whatever name it came from.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{Ipv4Net, Ipv6Net};

/// What an address is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AddressKind {
    /// The public Internet.
    Public,
    /// A network that is somebody's own: the host's owner may permit it.
    Private,
    /// The host itself, a link, metadata, a group, a way into another family: nobody can permit it.
    Forbidden(&'static str),
}

/// IANA's special-purpose registry for IPv4 (2024), and addresses at which clouds give out keys.
const V4: [(Ipv4Net, AddressKind); 19] = [
    (v4(0, 0, 0, 0, 8), AddressKind::Forbidden("this network's")),
    (v4(10, 0, 0, 0, 8), AddressKind::Private),
    (v4(100, 100, 100, 200, 32), AddressKind::Forbidden("metadata")),
    (v4(100, 64, 0, 0, 10), AddressKind::Private),
    (v4(127, 0, 0, 0, 8), AddressKind::Forbidden("loopback")),
    (v4(168, 63, 129, 16, 32), AddressKind::Forbidden("metadata")),
    (v4(169, 254, 0, 0, 16), AddressKind::Forbidden("link-local")),
    (v4(172, 16, 0, 0, 12), AddressKind::Private),
    (v4(192, 0, 0, 0, 24), AddressKind::Forbidden("protocol")),
    (v4(192, 0, 2, 0, 24), AddressKind::Private),
    (v4(192, 31, 196, 0, 24), AddressKind::Private),
    (v4(192, 52, 193, 0, 24), AddressKind::Private),
    (v4(192, 88, 99, 0, 24), AddressKind::Forbidden("6to4")),
    (v4(192, 168, 0, 0, 16), AddressKind::Private),
    (v4(198, 18, 0, 0, 15), AddressKind::Private),
    (v4(198, 51, 100, 0, 24), AddressKind::Private),
    (v4(203, 0, 113, 0, 24), AddressKind::Private),
    (v4(224, 0, 0, 0, 4), AddressKind::Forbidden("multicast")),
    (v4(240, 0, 0, 0, 4), AddressKind::Forbidden("reserved")),
];

/// The one range of IPv6 that is public; what of it is not comes after.
const V6_PUBLIC: Ipv6Net = v6([0x2000, 0], 3);

/// What of it leads elsewhere: Teredo, benchmarks, ORCHID, documentation, 6to4.
const V6_SPECIAL: [Ipv6Net; 4] =
    [v6([0x2001, 0], 23), v6([0x2001, 0xdb8], 32), v6([0x2002, 0], 16), v6([0x3fff, 0], 20)];

const fn v4(a: u8, b: u8, c: u8, d: u8, prefix: u8) -> Ipv4Net {
    Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, d), prefix)
}

const fn v6([a, b]: [u16; 2], prefix: u8) -> Ipv6Net {
    Ipv6Net::new_assert(Ipv6Addr::new(a, b, 0, 0, 0, 0, 0, 0), prefix)
}

/// What kind of address one is. An IPv4 address in IPv6's clothes is forbidden, whatever it maps.
pub fn kind(address: IpAddr) -> AddressKind {
    match address {
        // More special ones come before the ranges that hold them.
        IpAddr::V4(address) => {
            V4.iter().find(|(range, _)| range.contains(&address)).map_or(AddressKind::Public, |(_, kind)| *kind)
        }
        IpAddr::V6(address) if !V6_PUBLIC.contains(&address) => AddressKind::Forbidden("not public IPv6"),
        IpAddr::V6(address) if V6_SPECIAL.iter().any(|range| range.contains(&address)) => {
            AddressKind::Forbidden("special IPv6")
        }
        IpAddr::V6(_) => AddressKind::Public,
    }
}

/// What a range holds that nobody can permit, if anything.
pub fn forbidden_in(range: Ipv4Net) -> Option<&'static str> {
    V4.iter().find_map(|(special, kind)| match kind {
        // A single address within a wide range is refused when it is dialled.
        AddressKind::Forbidden(what)
            if special.contains(&range) || (range.contains(special) && special.prefix_len() < 32) =>
        {
            Some(*what)
        }
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_public_is_known_in_every_family() -> Result<(), std::net::AddrParseError> {
        for (text, expected) in [
            ("8.8.8.8", AddressKind::Public),
            ("9.255.255.255", AddressKind::Public),
            ("11.0.0.0", AddressKind::Public),
            ("10.1.2.3", AddressKind::Private),
            ("100.64.0.1", AddressKind::Private),
            ("172.31.255.255", AddressKind::Private),
            ("172.32.0.0", AddressKind::Public),
            ("192.168.1.1", AddressKind::Private),
            ("198.19.0.1", AddressKind::Private),
            ("2606:4700::1111", AddressKind::Public),
        ] {
            assert_eq!(kind(text.parse()?), expected, "{text}");
        }
        for text in [
            "0.0.0.0",
            "127.0.0.1",
            "169.254.169.254",
            "100.100.100.200",
            "168.63.129.16",
            "192.0.0.192",
            "192.88.99.1",
            "224.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::ffff:8.8.8.8",
            "::8.8.8.8",
            "64:ff9b::808:808",
            "64:ff9b:1::1",
            "100::1",
            "2001::1",
            "2001:db8::1",
            "2002:808:808::1",
            "fc00::1",
            "fd00:ec2::254",
            "fe80::1",
            "fec0::1",
            "ff02::1",
        ] {
            assert!(matches!(kind(text.parse()?), AddressKind::Forbidden(_)), "{text}");
        }
        Ok(())
    }

    #[test]
    fn a_range_cannot_hold_what_nobody_can_permit() -> Result<(), ipnet::AddrParseError> {
        for text in ["127.0.0.1/32", "169.254.0.0/24", "192.0.0.0/16", "100.100.100.200/32", "224.0.0.0/8"] {
            assert!(forbidden_in(text.parse()?).is_some(), "{text}");
        }
        for text in ["10.0.0.0/8", "100.64.0.0/10", "8.8.8.0/24"] {
            assert_eq!(forbidden_in(text.parse()?), None, "{text}");
        }
        Ok(())
    }
}
