//! Destinations that a tenant may reach.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr},
    str::FromStr,
};

use ipnet::Ipv4Net;
use serde::Serialize;

use super::address::{AddressKind, kind};
use crate::model::Invalid;

/// One entry of an allowlist: `host:port`, `*.domain:port`, `address:port` or `range:port`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(into = "String")]
pub struct Destination {
    place: HostPattern,
    port: u16,
}

/// What stands before the port.
///
/// Host names are held in lower case, without a trailing dot.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum HostPattern {
    /// This host name.
    Name(String),
    /// Any name that ends with a dot and this domain, and never the bare domain.
    Below(String),
    /// IPv4 addresses; a single one is a range of /32.
    Range(Ipv4Net),
}

impl Destination {
    /// What stands before the port.
    pub fn place(&self) -> &HostPattern {
        &self.place
    }

    /// The TCP port, which an entry always names.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The addresses that only the host's owner can allow, where there are any: a range, or an address
    /// that is not public.
    pub fn needs_permit(&self) -> Option<Ipv4Net> {
        match self.place {
            HostPattern::Range(range)
                if range.prefix_len() < 32 || kind(IpAddr::V4(range.addr())) != AddressKind::Public =>
            {
                Some(range)
            }
            _ => None,
        }
    }
}

const FORM: &str = "write host:port or *.domain:port, such as api.example.com:443";

impl FromStr for Destination {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let bad = |message: String, help: String| Err(Invalid::new("bad-destination", message, help));
        if let Some((scheme, rest)) = text.split_once("://") {
            let port = match scheme {
                "http" | "ws" => 80,
                _ => 443,
            };
            let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
            let suggestion = if authority.contains(':') { authority.to_owned() } else { format!("{authority}:{port}") };
            return bad(format!("{text:?} is a URL"), format!("write {suggestion}"));
        }
        if text.contains('@') {
            return bad(format!("{text:?} holds a user name"), FORM.to_owned());
        }
        if text.starts_with('[') || text.matches(':').count() > 1 {
            return bad(
                format!("{text:?} is not host:port; IPv6 addresses cannot be reached from a tenant"),
                FORM.to_owned(),
            );
        }
        let Some((host, port)) = text.split_once(':') else {
            return bad(format!("{text:?} has no port"), format!("write {text}:443, or another port"));
        };
        let port_number = match port.parse::<u16>() {
            Ok(number) if number > 0 && port.bytes().all(|b| b.is_ascii_digit()) && !port.starts_with('0') => number,
            _ => return bad(format!("{port:?} is not a port"), "write a port from 1 to 65535".to_owned()),
        };
        let refused = |message| Invalid::new("bad-destination", message, FORM);
        let place = match host.split_once('/') {
            Some((address, prefix)) => range(address, prefix).map_err(refused)?,
            None => place(&host.to_ascii_lowercase()).map_err(refused)?,
        };
        Ok(Self { place, port: port_number })
    }
}

fn range(address: &str, prefix: &str) -> Result<HostPattern, String> {
    let (Ok(address), Ok(prefix)) = (address.parse::<Ipv4Addr>(), prefix.parse::<u8>()) else {
        return Err(format!("{address}/{prefix} is neither a host nor an IPv4 range"));
    };
    let Ok(range) = Ipv4Net::new(address, prefix) else {
        return Err(format!("no prefix is {prefix} bits long"));
    };
    if range.network() != address {
        return Err(format!("{address} is not where a range of /{prefix} begins; {range} means {}", range.trunc()));
    }
    if prefix < 8 {
        return Err(format!("{range} is wider than /8"));
    }
    reachable(range).map(HostPattern::Range)
}

/// Refuses what can never be reached, whoever permits it.
fn reachable(range: Ipv4Net) -> Result<Ipv4Net, String> {
    match super::address::forbidden_in(range) {
        Some(what) => Err(format!("{range} holds {what} addresses, which no tenant may reach")),
        None => Ok(range),
    }
}

fn place(host: &str) -> Result<HostPattern, String> {
    let (wildcard, name) = match host.strip_prefix("*.") {
        Some(name) => (true, name),
        None => (false, host),
    };
    if !host.is_ascii() {
        return Err(format!("the host {host:?} is not in ASCII; write its xn-- form"));
    }
    if host.ends_with('.') {
        return Err(format!("the host {host:?} ends with a dot"));
    }
    if name.contains('*') {
        return Err(format!("the host {host:?} has a * elsewhere than in front"));
    }
    check_name(name)?;
    if super::name::is_like_an_address(name) {
        return match (wildcard, name.parse::<Ipv4Addr>()) {
            (false, Ok(address)) => reachable(Ipv4Net::from(address)).map(HostPattern::Range),
            _ => Err(format!("the host {host:?} looks like an address and is none")),
        };
    }
    if !name.contains('.') {
        return Err(match wildcard {
            true => format!("{host:?} would allow a whole top-level domain"),
            false => format!("the host {host:?} has no domain"),
        });
    }
    if super::name::is_private(name) {
        return Err(format!("the host {host:?} is not a public name"));
    }
    if wildcard && tenantd_suffix::is_public(name) {
        return Err(format!("{host:?} would allow every domain that anyone can register below {name}"));
    }
    Ok(if wildcard { HostPattern::Below(name.to_owned()) } else { HostPattern::Name(name.to_owned()) })
}

fn check_name(name: &str) -> Result<(), String> {
    match super::name::check(name) {
        Ok(()) => Ok(()),
        Err(super::name::Wrong::Length) => Err(format!("the host {name:?} is empty or longer than 253 characters")),
        Err(super::name::Wrong::Label(label)) => {
            Err(format!("the host {name:?} has the label {label:?}, which no host name can have"))
        }
    }
}

impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.place, self.port)
    }
}

impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::Below(domain) => write!(f, "*.{domain}"),
            Self::Range(range) if range.prefix_len() == 32 => write!(f, "{}", range.addr()),
            Self::Range(range) => write!(f, "{range}"),
        }
    }
}

impl From<Destination> for String {
    fn from(destination: Destination) -> Self {
        destination.to_string()
    }
}

crate::text_value!(Destination, "Destination", {
    "type": "string",
    "pattern": "^[^:/@\\s]+(/[0-9]{1,2})?:[0-9]{1,5}$",
    "description": "host:port or *.domain:port, where * stands for one or more labels; an address or a range that is not public needs the host's permission",
    "examples": ["api.openai.com:443", "*.stripe.com:443"]
});

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn destinations_have_one_spelling() {
        for (text, shown) in [
            ("api.openai.com:443", "api.openai.com:443"),
            ("API.OpenAI.com:443", "api.openai.com:443"),
            ("*.stripe.com:443", "*.stripe.com:443"),
            ("xn--bcher-kva.example:8443", "xn--bcher-kva.example:8443"),
            ("8.8.8.8:53", "8.8.8.8:53"),
            ("8.8.8.8/32:53", "8.8.8.8:53"),
            ("10.1.2.3:80", "10.1.2.3:80"),
            ("10.20.0.0/16:5432", "10.20.0.0/16:5432"),
        ] {
            assert_eq!(text.parse::<Destination>().map(|d| d.to_string()), Ok(shown.to_owned()));
        }
    }

    #[test]
    fn what_could_mean_something_else_is_refused() {
        for bad in [
            "",
            ":",
            "a.com",
            "a.com:",
            ":443",
            "a.com:0",
            "a.com:65536",
            "a.com:+1",
            "a.com:0443",
            "a.com:https",
            "https://a.com",
            "u@a.com:443",
            "a.com/x:443",
            "10.0.0.1/8:443",
            "0.0.0.0/0:443",
            "169.254.0.0/16:80",
            "*.co.uk:443",
            "*.github.io:443",
            "[::1]:443",
            "::1:443",
            "a.com.:443",
            "*:443",
            "*.com:443",
            "a.*.com:443",
            "**.a.com:443",
            "localhost:443",
            "db:5432",
            "a..com:443",
            "-a.com:443",
            "a_b.com:443",
            "a b.com:443",
            "a.com:443 ",
            "bücher.de:443",
            "127.0.0.1:80",
            "169.254.169.254:80",
            "100.100.100.200:80",
            "192.0.0.192:80",
            "0177.0.0.1:80",
            "0x7f.1:80",
            "2130706433:80",
            "127.1:80",
            "1.2.3.4.5:80",
            "a.com:4\u{0}3",
            "metadata.google.internal:80",
            "printer.local:631",
        ] {
            assert!(bad.parse::<Destination>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn ranges_and_addresses_that_are_not_public_need_a_permit() -> Result<(), Invalid> {
        for (text, needs) in [
            ("8.8.8.8:53", false),
            ("8.8.8.0/24:53", true),
            ("10.1.2.3:80", true),
            ("a.example.com:80", false),
            ("*.example.com:80", false),
        ] {
            assert_eq!(text.parse::<Destination>()?.needs_permit().is_some(), needs, "{text}");
        }
        Ok(())
    }

    #[test]
    fn a_url_is_answered_with_what_to_write() {
        let help = |text: &str| text.parse::<Destination>().map_err(|e| e.help);
        assert_eq!(help("https://api.example.com/v1"), Err("write api.example.com:443".to_owned()));
        assert_eq!(help("api.example.com"), Err("write api.example.com:443, or another port".to_owned()));
    }
}
