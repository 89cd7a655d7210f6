//! What ingress works with, and where it draws the line.

use std::{collections::BTreeSet, fmt, net::SocketAddr, path::PathBuf, str::FromStr};

use serde::Serialize;

use crate::model::{Bytes, Invalid, egress::name, ingress::Access, quantity::Timespan};

/// What comes in: where ingress listens, and who may reach tenants through it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Ingress {
    /// Where it listens, at least one.
    pub listen: Vec<SocketAddr>,
    /// The domain below which every tenant has names of its own.
    pub domain: Domain,
    /// The widest access that a tenant's file may choose.
    pub access: Access,
    /// What it serves TLS with; `None` where clients come in the clear, from a proxy in front of it.
    pub tls: Option<Tls>,
    /// Whether clients come over TLS all the same, which a proxy in front of it terminates.
    pub tls_terminated: bool,
    /// Origins beside a tenant's own whose pages may use its cookie with a WebSocket or a method that changes something.
    pub origins: BTreeSet<Origin>,
    /// The user that it becomes once it has begun.
    pub user: String,
    /// Its own folder: the only one that it writes to.
    pub state: PathBuf,
    /// The daemon's socket for it.
    pub socket: PathBuf,
    /// How long a request waits for its tenant to be woken.
    pub wake_timeout: Timespan,
    /// What clients may use of it.
    pub limits: IngressLimits,
}

/// What ingress proves itself with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Tls {
    /// A PEM file of certificates, its own in front.
    pub certificate: PathBuf,
    /// A PEM file with the private key of the first one.
    pub key: PathBuf,
}

/// What clients may use of ingress at once, or in a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct IngressLimits {
    /// Connections of clients at once.
    pub connections: u32,
    /// Requests of one tenant that are under way at once.
    pub requests_per_tenant: u32,
    /// Requests that wait at once for one tenant to be woken.
    pub held_per_tenant: u32,
    /// Requests that wait at once for tenants to be woken.
    pub held: u32,
    /// How often in a minute requests without a token wake a tenant that is public.
    pub public_wakes: u32,
    /// The longest head of a request, in bytes.
    pub head: Bytes,
    /// How long a client may take for its TLS handshake, or for the head of a request.
    pub hello: Timespan,
    /// How long a connection may carry nothing in either direction.
    pub idle: Timespan,
    /// How long a client or a tenant may take nothing of what waits for it.
    pub stall: Timespan,
}

impl Ingress {
    /// What serves the names below a domain, with every default.
    pub fn new(listen: Vec<SocketAddr>, domain: Domain) -> Self {
        Self {
            listen,
            domain,
            access: Access::Token,
            tls: None,
            tls_terminated: false,
            origins: BTreeSet::new(),
            user: "tenantd-ingress".to_owned(),
            state: PathBuf::from("/var/lib/tenantd-ingress"),
            socket: PathBuf::from("/run/tenantd/ingress/daemon.sock"),
            wake_timeout: Timespan::seconds(60),
            limits: IngressLimits {
                connections: 4_096,
                requests_per_tenant: 512,
                held_per_tenant: 64,
                held: 1_024,
                public_wakes: 6,
                head: Bytes::kib(64),
                hello: Timespan::seconds(10),
                idle: Timespan::seconds(300),
                stall: Timespan::seconds(60),
            },
        }
    }
}

/// A DNS name in lower case, of two labels at least, below which `PORT-TENANT` still is one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Domain(String);

impl Domain {
    /// The longest one, in characters: `65535-`, a tenant's name and a dot make 253 of it.
    const LONGEST: usize = 206;

    /// The name as text, without a dot at its end.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Domain {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let is_name = name::check(text).is_ok() && text.contains('.') && !name::is_like_an_address(text);
        if is_name && text.len() <= Self::LONGEST {
            return Ok(Self(text.to_owned()));
        }
        let help = "write a DNS name in lower case of at least two labels, such as agents.example.com";
        Err(Invalid::new("bad-domain", format!("{text:?} is not a domain that tenants can have names below"), help))
    }
}

impl fmt::Display for Domain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

crate::text_value!(Domain, "Domain", {
    "type": "string",
    "pattern": "^([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\\.)+[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$",
    "not": {"pattern": "\\.(0x[0-9a-f]*|[0-9]+)$"},
    "maxLength": 206,
    "examples": ["agents.example.com"]
});

/// An origin as browsers send it: `https://` or `http://`, a host in lower case, and its port where that is not the usual
/// one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Origin(String);

impl Origin {
    /// The origin as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Origin {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let bad = |message: &str| {
            let help = "write it as browsers send it, such as https://app.example.com";
            Err(Invalid::new("bad-origin", message, help))
        };
        let (scheme, authority) = text.split_once("://").unwrap_or(("", text));
        let usual = match scheme {
            "https" => "443",
            "http" => "80",
            _ => return bad("an origin begins with https:// or http://"),
        };
        let (host, port) = authority.split_once(':').map_or((authority, None), |(host, port)| (host, Some(port)));
        let is_address = host.parse::<std::net::Ipv4Addr>().is_ok();
        if name::check(host).is_err() || name::is_like_an_address(host) && !is_address {
            return bad("an origin has a host name in lower case, and nothing behind its port");
        }
        match port {
            None => {}
            Some(port) if port == usual => return bad("an origin leaves out the usual port of its scheme"),
            Some(port) if port.starts_with(['0', '+']) || port.parse::<u16>().is_err() => {
                return bad("an origin's port is a number from 1 to 65535");
            }
            Some(_) => {}
        }
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

crate::text_value!(Origin, "Origin", {
    "type": "string",
    "pattern": "^https?://[a-z0-9-]+(\\.[a-z0-9-]+)*(:[1-9][0-9]{0,4})?$",
    "examples": ["https://app.example.com"]
});

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn below_a_domain_every_tenant_has_a_name() -> Result<(), Invalid> {
        let longest = format!("{}.{}.{}.{}", "a".repeat(63), "b".repeat(63), "c".repeat(63), "d".repeat(14));
        for good in ["agents.example.com", "tenants.localhost", "a.b", "xn--bcher-kva.example", &longest] {
            let domain: Domain = good.parse()?;
            assert_eq!(domain.as_str(), good);
            let name = format!("65535-{}.{domain}", "t".repeat(crate::model::name::MAX_NAME));
            assert_eq!(name::check(&name), Ok(()), "{name}");
        }
        for bad in [
            "",
            "localhost",
            "Agents.example.com",
            "agents.example.com.",
            ".example.com",
            "a..b",
            "*.example.com",
            "-a.example.com",
            "a_b.example.com",
            "bücher.example",
            "127.0.0.1",
            "a.0x7f",
            "a.b:8080",
            "a.b/c",
            &format!("{longest}d"),
        ] {
            assert_eq!(bad.parse::<Domain>().map_err(|e| e.code), Err("bad-domain"), "{bad:?}");
        }
        Ok(())
    }

    #[test]
    fn an_origin_is_what_a_browser_would_send() {
        for good in [
            "https://app.example.com",
            "https://app.example.com:8443",
            "http://localhost:3000",
            "http://127.0.0.1:3000",
            "https://app.example.com:80",
        ] {
            assert_eq!(good.parse::<Origin>().map(|origin| origin.to_string()).as_deref(), Ok(good));
        }
        for bad in [
            "",
            "*",
            "null",
            "app.example.com",
            "ftp://app.example.com",
            "https://",
            "https://App.example.com",
            "https://app.example.com/",
            "https://app.example.com?a",
            "https://user@app.example.com",
            "https://*.example.com",
            "https://app.example.com:443",
            "http://app.example.com:80",
            "https://app.example.com:",
            "https://app.example.com:0",
            "https://app.example.com:+1",
            "https://app.example.com:08443",
            "https://app.example.com:65536",
            "https://app.example.com:1:2",
            "https://1.2.3",
            "https://app.example.com ",
        ] {
            assert_eq!(bad.parse::<Origin>().map_err(|e| e.code), Err("bad-origin"), "{bad:?}");
        }
    }
}
