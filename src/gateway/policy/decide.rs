//! The decision: whether a tenant may go somewhere. Pure; everything that lets bytes through asks here.

use std::net::{IpAddr, Ipv4Addr};

use super::{
    Rule,
    authority::{Authority, Host},
};
use crate::model::{
    Destination, EgressPolicy,
    egress::{
        HostPattern,
        address::{AddressKind, kind},
    },
};

/// The entry of the allowlist that lets a tenant through.
///
/// # Errors
/// None does.
pub fn decide<'a>(policy: &'a EgressPolicy, to: &Authority) -> Result<&'a Destination, Rule> {
    let entry = policy.allow.iter().find(|entry| entry.port() == to.port && covers(entry.place(), &to.host));
    entry.ok_or(Rule::NotListed)
}

/// Whether a name is on the allowlist with any port: what is answered to a look-up inside.
pub fn is_listed(policy: &EgressPolicy, host: &Host) -> bool {
    policy.allow.iter().any(|entry| covers(entry.place(), host))
}

/// Whether an address may be dialled for a destination that was let through.
///
/// `is_own` says that it is the host's, and `is_pool` that tenants' networks are cut from there. What is
/// not public needs an entry for it; what is the host's own needs one for just that address, and what is
/// forbidden or a tenant's cannot be had at all.
///
/// # Errors
/// It may not.
pub fn may_dial(policy: &EgressPolicy, address: Ipv4Addr, port: u16, is_own: bool, is_pool: bool) -> Result<(), Rule> {
    let ranges = || {
        policy.allow.iter().filter(|entry| entry.port() == port).filter_map(|entry| match entry.place() {
            HostPattern::Range(range) => Some(range),
            HostPattern::Name(_) | HostPattern::Below(_) => None,
        })
    };
    let allowed = match kind(IpAddr::V4(address)) {
        AddressKind::Forbidden(_) => false,
        _ if is_pool => false,
        _ if is_own => ranges().any(|range| range.prefix_len() == 32 && range.contains(&address)),
        AddressKind::Public => true,
        AddressKind::Private => ranges().any(|range| range.contains(&address)),
    };
    if allowed { Ok(()) } else { Err(Rule::AddressNotPublic) }
}

fn covers(place: &HostPattern, host: &Host) -> bool {
    match (place, host) {
        (HostPattern::Name(listed), Host::Name(name)) => listed == name,
        (HostPattern::Below(domain), Host::Name(name)) => {
            name.strip_suffix(domain.as_str()).and_then(|front| front.strip_suffix('.')).is_some_and(|f| !f.is_empty())
        }
        (HostPattern::Range(range), Host::Address(address)) => range.contains(address),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use std::error::Error;

    use proptest::prelude::*;

    use super::*;
    use crate::model::egress::{Budget, POLICY_VERSION};

    fn policy(allow: &[&str]) -> Result<EgressPolicy, Box<dyn Error>> {
        Ok(EgressPolicy {
            v: POLICY_VERSION,
            tenant: "acme".parse().map_err(|_| "name")?,
            subnet: "10.77.0.0/28".parse()?,
            address: Some([10, 77, 0, 2].into()),
            allow: allow.iter().map(|entry| entry.parse().map_err(|_| "entry")).collect::<Result<_, _>>()?,
            routes: Vec::new(),
            budget: Budget::default(),
        })
    }

    #[test]
    fn only_what_an_entry_covers_is_let_through() -> Result<(), Box<dyn Error>> {
        let policy = policy(&["api.example.com:443", "*.stripe.com:443", "8.8.8.8:53", "10.20.0.0/16:5432"])?;
        for (to, by) in [
            ("api.example.com:443", Some("api.example.com:443")),
            ("API.example.com:443", Some("api.example.com:443")),
            ("api.example.com:80", None),
            ("x.api.example.com:443", None),
            ("example.com:443", None),
            ("a.stripe.com:443", Some("*.stripe.com:443")),
            ("a.b.stripe.com:443", Some("*.stripe.com:443")),
            ("stripe.com:443", None),
            ("evilstripe.com:443", None),
            ("a.stripe.com.evil.example:443", None),
            ("8.8.8.8:53", Some("8.8.8.8:53")),
            ("8.8.4.4:53", None),
            ("10.20.3.4:5432", Some("10.20.0.0/16:5432")),
            ("10.21.3.4:5432", None),
            ("gateway.internal:80", None),
        ] {
            let found = decide(&policy, &Authority::parse(to, None).map_err(|_| to)?).map(ToString::to_string);
            assert_eq!(found.ok().as_deref(), by, "{to}");
        }
        Ok(())
    }

    #[test]
    fn an_address_is_judged_whatever_name_led_to_it() -> Result<(), Box<dyn Error>> {
        let policy = policy(&["a.example.com:443", "10.20.0.0/16:5432", "10.30.0.1:80", "192.168.1.1:80"])?;
        for (address, port, is_own, is_pool, may) in [
            ("93.184.216.34", 443, false, false, true),
            ("93.184.216.34", 443, true, false, false),
            ("10.20.0.5", 5432, false, false, true),
            ("10.20.0.5", 443, false, false, false),
            ("10.20.0.5", 5432, true, false, false),
            ("10.20.0.5", 5432, false, true, false),
            ("10.30.0.1", 80, true, false, true),
            ("10.9.9.9", 443, false, false, false),
            ("127.0.0.1", 443, true, false, false),
            ("169.254.169.254", 80, false, false, false),
            ("0.0.0.0", 443, false, false, false),
            ("255.255.255.255", 443, false, false, false),
        ] {
            let judged = may_dial(&policy, address.parse()?, port, is_own, is_pool);
            assert_eq!(judged.is_ok(), may, "{address}:{port}");
        }
        Ok(())
    }

    proptest! {
        #[test]
        fn nothing_is_let_through_without_an_entry_for_it(name in "([a-c]{1,2}\\.){1,4}(com|org)", port in 440u16..446) {
            let entries = ["a.com:443", "*.b.com:443", "*.a.b.org:444"];
            let policy = policy(&entries).unwrap();
            let to = Authority::parse(&format!("{name}:{port}"), None).unwrap();
            let expected = match port {
                443 => name == "a.com" || (name.ends_with(".b.com") && name.len() > 6),
                444 => name.ends_with(".a.b.org") && name.len() > 8,
                _ => false,
            };
            prop_assert_eq!(decide(&policy, &to).is_ok(), expected);
        }

        #[test]
        fn no_private_address_is_dialled_without_an_entry(bits in any::<u32>(), port in any::<u16>()) {
            let policy = policy(&["a.example.com:443"]).unwrap();
            let address = Ipv4Addr::from(bits);
            let public = kind(IpAddr::V4(address)) == AddressKind::Public;
            prop_assert_eq!(may_dial(&policy, address, port, false, false).is_ok(), public);
            prop_assert!(may_dial(&policy, address, port, true, false).is_err());
            prop_assert!(may_dial(&policy, address, port, false, true).is_err());
        }
    }
}
