//! Destinations that a tenant may reach.

use std::{fmt, net::Ipv4Addr, str::FromStr};

use serde::Serialize;

use super::Invalid;

/// One entry of an allowlist: `host:port`, `*.domain:port`, or a public IPv4 address and port.
///
/// Host names are held in lower case, without a trailing dot. `*.` stands for one or more labels and
/// never for the bare domain.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(into = "String")]
pub struct Destination {
    host: String,
    port: u16,
}

impl Destination {
    /// The host, `*.domain` or address.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port.
    pub fn port(&self) -> u16 {
        self.port
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
        if text.contains('/') {
            return bad(
                format!("{text:?} holds a path or an address range"),
                "list single hosts; a range of addresses cannot be allowed".to_owned(),
            );
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
        let host = host.to_ascii_lowercase();
        check_host(&host).map_err(|message| Invalid::new("bad-destination", message, FORM))?;
        Ok(Self { host, port: port_number })
    }
}

fn check_host(host: &str) -> Result<(), String> {
    if !host.is_ascii() {
        return Err(format!("the host {host:?} is not in ASCII; write its xn-- form"));
    }
    if host.ends_with('.') {
        return Err(format!("the host {host:?} ends with a dot"));
    }
    let (wildcard, name) = match host.strip_prefix("*.") {
        Some(name) => (true, name),
        None => (false, host),
    };
    if name.contains('*') {
        return Err(format!("the host {host:?} has a * elsewhere than in front"));
    }
    if name.is_empty() || name.len() > 253 {
        return Err(format!("the host {host:?} is empty or longer than 253 characters"));
    }
    let labels: Vec<&str> = name.split('.').collect();
    for label in &labels {
        let ok = (1..=63).contains(&label.len())
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-');
        if !ok {
            return Err(format!("the host {host:?} has the label {label:?}, which no host name can have"));
        }
    }
    let last_is_number = labels.last().is_some_and(|label| {
        label.bytes().all(|b| b.is_ascii_digit())
            || label.strip_prefix("0x").is_some_and(|hex| hex.bytes().all(|b| b.is_ascii_hexdigit()))
    });
    if last_is_number {
        return match (wildcard, name.parse::<Ipv4Addr>()) {
            (false, Ok(address)) if is_public(address) => Ok(()),
            (false, Ok(address)) => Err(format!("the address {address} is not a public one")),
            _ => Err(format!("the host {host:?} looks like an address and is none")),
        };
    }
    if labels.len() < 2 {
        return Err(match wildcard {
            true => format!("{host:?} would allow a whole top-level domain"),
            false => format!("the host {host:?} has no domain"),
        });
    }
    for private in ["localhost", "local", "internal", "localdomain", "arpa", "onion"] {
        if labels.last() == Some(&private) {
            return Err(format!("the host {host:?} is not a public name"));
        }
    }
    Ok(())
}

/// Whether an address belongs to the public Internet (IANA's special-purpose registry, 2024).
fn is_public(address: Ipv4Addr) -> bool {
    let [a, b, c, _] = address.octets();
    !(address.is_private()
        || address.is_loopback()
        || address.is_link_local()
        || address.is_multicast()
        || address.is_broadcast()
        || address.is_documentation()
        || a == 0
        || a >= 240
        || (a == 100 && (64..128).contains(&b))
        || (a == 192 && b == 0 && c == 0)
        || (a == 192 && b == 88 && c == 99)
        || (a == 198 && (18..20).contains(&b)))
}

impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

impl From<Destination> for String {
    fn from(destination: Destination) -> Self {
        destination.to_string()
    }
}

crate::text_value!(Destination, "Destination", {
    "type": "string",
    "pattern": "^[^:/@\\s]+:[0-9]{1,5}$",
    "description": "host:port or *.domain:port; * stands for one or more labels",
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
            "10.0.0.0/8:443",
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
            "10.1.2.3:80",
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
    fn a_url_is_answered_with_what_to_write() {
        let help = |text: &str| text.parse::<Destination>().map_err(|e| e.help);
        assert_eq!(help("https://api.example.com/v1"), Err("write api.example.com:443".to_owned()));
        assert_eq!(help("api.example.com"), Err("write api.example.com:443, or another port".to_owned()));
    }
}
