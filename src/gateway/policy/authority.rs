//! Host and port in their one canonical form, whatever way they were asked for.
//!
//! What a resolver, a browser or a C library might read in more than one way is refused: user names,
//! percent signs, brackets, trailing dots, and addresses that are not four decimal numbers.

use std::{fmt, net::Ipv4Addr};

use super::Rule;
use crate::model::egress::name;

/// How much of a destination that was asked for is shown, in bytes.
const MAX_SHOWN: usize = 120;

/// Where a tenant wants to.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Authority {
    /// The host.
    pub host: Host,
    /// The port; never 0.
    pub port: u16,
}

/// A host.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Host {
    /// A name in lower case, without a dot at its end.
    Name(String),
    /// An address.
    Address(Ipv4Addr),
}

impl Authority {
    /// Reads `host:port`. Without a port it is `default`, where there is one.
    ///
    /// # Errors
    /// It is anything else than a plain host and port.
    pub fn parse(text: &str, default: Option<u16>) -> Result<Self, Rule> {
        let (host, port) = match text.split_once(':') {
            Some((host, port)) => (host, parse_port(port)?),
            None => (text, default.ok_or(Rule::Malformed)?),
        };
        Ok(Self { host: Host::parse(host)?, port })
    }
}

fn parse_port(text: &str) -> Result<u16, Rule> {
    if text.is_empty() || text.starts_with('0') || !text.bytes().all(|b| b.is_ascii_digit()) {
        return Err(Rule::Malformed);
    }
    text.parse().map_err(|_| Rule::Malformed)
}

impl Host {
    /// Reads a host name or an address.
    ///
    /// # Errors
    /// It is neither, or could be read as both.
    pub fn parse(text: &str) -> Result<Self, Rule> {
        let lower = text.to_ascii_lowercase();
        name::check(&lower).map_err(|_| Rule::Malformed)?;
        if !name::is_like_an_address(&lower) {
            return Ok(Self::Name(lower));
        }
        // Rust reads four decimal numbers without leading zeros, and nothing else.
        lower.parse().map(Self::Address).map_err(|_| Rule::Malformed)
    }

    /// The name, where it is one.
    pub fn name(&self) -> Option<&str> {
        match self {
            Self::Name(name) => Some(name),
            Self::Address(_) => None,
        }
    }
}

impl fmt::Display for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::Address(address) => write!(f, "{address}"),
        }
    }
}

/// What was asked for, safe to print and not too long.
pub fn shown(asked: &[u8]) -> String {
    let text: String =
        asked.iter().take(MAX_SHOWN).copied().flat_map(std::ascii::escape_default).map(char::from).collect();
    if asked.len() > MAX_SHOWN { format!("{text}…") } else { text }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn one_place_has_one_form() {
        for (text, canonical) in [
            ("API.Example.COM:443", "api.example.com:443"),
            ("xn--bcher-kva.example:8443", "xn--bcher-kva.example:8443"),
            ("8.8.8.8:53", "8.8.8.8:53"),
            ("a.example", "a.example:80"),
        ] {
            assert_eq!(Authority::parse(text, Some(80)).map(|a| a.to_string()), Ok(canonical.to_owned()));
        }
    }

    #[test]
    fn what_could_be_read_in_two_ways_is_refused() {
        for text in [
            "",
            ":",
            ":443",
            "a.example:",
            "a.example:0",
            "a.example:0443",
            "a.example:65536",
            "a.example:+443",
            "a.example:443:443",
            "a.example:443 ",
            "a.example.:443",
            "a..example:443",
            ".a.example:443",
            "u@a.example:443",
            "a.example%2eevil:443",
            "a.example/x:443",
            "a.example\0.evil:443",
            "a.example\r\n:443",
            "a_b.example:443",
            "-a.example:443",
            "bücher.example:443",
            "а.example:443",
            "[::1]:443",
            "::1:443",
            "0177.0.0.1:80",
            "0x7f.0.0.1:80",
            "0x7f000001:80",
            "2130706433:80",
            "127.1:80",
            "127.0.0.1.:80",
            "127.0.0.01:80",
            "1.2.3.4.5:80",
            "256.1.1.1:80",
            "a.1:80",
            "*.example:443",
        ] {
            assert_eq!(Authority::parse(text, Some(443)), Err(Rule::Malformed), "{text:?}");
        }
        let long = format!("{}.example", "a".repeat(64));
        assert_eq!(Host::parse(&long), Err(Rule::Malformed));
        assert_eq!(Host::parse(&"a.".repeat(130)), Err(Rule::Malformed));
    }

    #[test]
    fn what_is_shown_cannot_drive_a_terminal() {
        assert_eq!(shown(b"a\x1b[2J\r\nb"), "a\\x1b[2J\\r\\nb");
        assert!(shown(&[b'a'; 5000]).len() < 200);
    }

    proptest! {
        #[test]
        fn the_canonical_form_is_its_own(text in "\\PC{0,40}") {
            if let Ok(authority) = Authority::parse(&text, Some(443)) {
                prop_assert_eq!(Authority::parse(&authority.to_string(), None), Ok(authority.clone()));
                prop_assert_eq!(Authority::parse(&text.to_ascii_uppercase(), Some(443)), Ok(authority));
            }
        }

        #[test]
        fn nothing_that_a_name_cannot_hold_gets_in(host in "[a-zA-Z0-9.\\-]{0,20}", odd in "[^a-zA-Z0-9.\\-:]", at in 0usize..20) {
            let at = at.min(host.len());
            let text = format!("{}{odd}{}:80", &host[..at], &host[at..]);
            prop_assert_eq!(Authority::parse(&text, None), Err(Rule::Malformed));
        }
    }
}
