//! Values that only egress has, or ingress as well.

use std::{net::SocketAddr, str::FromStr};

use ipnet::Ipv4Net;

use crate::{
    model::{
        Bytes, Invalid,
        egress::{address::forbidden_in, name},
        quantity::Timespan,
    },
    spec::values::{Number, bounded_time, checked_text},
};

/// The server that is asked for names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ResolverAddress(pub SocketAddr);

impl FromStr for ResolverAddress {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        match text.parse::<SocketAddr>() {
            Ok(address) if address.port() > 0 && !address.ip().is_unspecified() => Ok(Self(address)),
            _ => Err(Invalid::new(
                "bad-resolver",
                format!("{text:?} is not an address and a port"),
                "write both, such as 9.9.9.9:53 or \"[2620:fe::fe]:53\"",
            )),
        }
    }
}

crate::text_value!(ResolverAddress, "ResolverAddress", {
    "type": "string",
    "pattern": "^([0-9]{1,3}(\\.[0-9]{1,3}){3}|\\[[0-9a-fA-F:.]+\\]):[1-9][0-9]{0,4}$",
    "examples": ["9.9.9.9:53"]
});

/// A range that allowlists may name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PermitRange(pub Ipv4Net);

impl FromStr for PermitRange {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let bad = |message| Err(Invalid::new("bad-permit", message, "write a range such as 10.20.0.0/16"));
        let Ok(range) = text.parse::<Ipv4Net>() else {
            return bad(format!("{text:?} is not a range of IPv4 addresses"));
        };
        if range.network() != range.addr() {
            return bad(format!("{text} has bits behind its prefix; the range would be {}", range.trunc()));
        }
        if range.prefix_len() < 8 {
            return bad(format!("{text} is wider than /8"));
        }
        match forbidden_in(range) {
            Some(what) => bad(format!("{text} holds {what} addresses, which nobody can permit")),
            None => Ok(Self(range)),
        }
    }
}

crate::text_value!(PermitRange, "PermitRange", {
    "type": "string",
    "pattern": "^[0-9]{1,3}(\\.[0-9]{1,3}){3}/([89]|[12][0-9]|3[0-2])$",
    "not": {"pattern": "^(127|169\\.254|22[4-9]|2[345][0-9])\\."},
    "examples": ["10.20.0.0/16"]
});

checked_text!(
    /// A user of this host.
    LocalUser,
    {"type": "string", "pattern": "^[a-z_][a-z0-9_-]{0,31}$", "examples": ["tenantd-gateway"]},
    |text| {
        let ok = (1..=32).contains(&text.len())
            && text.starts_with(|c: char| c.is_ascii_lowercase() || c == '_')
            && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"_-".contains(&b));
        if ok && text != "root" { Ok(()) } else {
            Err(Invalid::new("bad-name", format!("{text:?} is not a user that a process of tenantd can become"), "write the name of a user of this host beside root"))
        }
    }
);

checked_text!(
    /// A network namespace's name under /run/netns.
    NamespaceName,
    {"type": "string", "pattern": "^[A-Za-z0-9_-][A-Za-z0-9_.-]{0,63}$", "examples": ["tenantd"]},
    |text| {
        let ok = (1..=64).contains(&text.len())
            && !text.starts_with('.')
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b));
        if ok { Ok(()) } else {
            Err(Invalid::new("bad-name", format!("{text:?} is not a namespace's name"), "write a name as `ip netns` lists it, such as tenantd"))
        }
    }
);

checked_text!(
    /// A host name that a secret may be sent to.
    UpstreamHost,
    {"type": "string", "pattern": "^[a-z0-9-]+(\\.[a-z0-9-]+)+$", "examples": ["services.example.com"]},
    |text| {
        let ok = name::check(text).is_ok() && text.contains('.') && !name::is_like_an_address(text) && !name::is_private(text);
        if ok { Ok(()) } else {
            Err(Invalid::new("bad-upstream", format!("{text:?} is not a public host name in lower case"), "write the host alone, such as services.example.com"))
        }
    }
);

/// Headers that say how a request travels. What is added there would change what it means.
const NOT_INJECTED: [&str; 20] = [
    "accept-encoding",
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "date",
    "expect",
    "forwarded",
    "host",
    "keep-alive",
    "max-forwards",
    "proxy-authorization",
    "proxy-connection",
    "range",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "via",
    "x-forwarded-for",
];

checked_text!(
    /// The name of a header that a credential is put into.
    HeaderName,
    {
        "type": "string",
        "pattern": "^[A-Za-z0-9_-]{1,64}$",
        "not": {"pattern": "^([Aa]ccept-[Ee]ncoding|[Cc]onnection|[Cc]ontent-[A-Za-z]+|[Ee]xpect|[Hh]ost|[Tt][Ee]|[Tt]railer|[Tt]ransfer-[Ee]ncoding|[Uu]pgrade)$"},
        "examples": ["Authorization"]
    },
    |text| {
        let ok = (1..=64).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b));
        if !ok {
            return Err(Invalid::new("bad-header", format!("{text:?} is not a header's name"), "write letters, digits and -, such as Authorization"));
        }
        let lower = text.to_ascii_lowercase();
        if NOT_INJECTED.contains(&lower.as_str()) || lower.starts_with("sec-websocket-") {
            return Err(Invalid::new("bad-header", format!("the header {text} says how a request travels, and cannot hold a credential"), "write the header that the service reads its key from, such as Authorization"));
        }
        Ok(())
    }
);

checked_text!(
    /// The name of a parameter of a query.
    ParameterName,
    {"type": "string", "pattern": "^[A-Za-z0-9_.-]{1,64}$", "examples": ["api_key"]},
    |text| {
        let ok = (1..=64).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b));
        if ok { Ok(()) } else {
            Err(Invalid::new("bad-name", format!("{text:?} is not a parameter's name"), "write letters, digits, `_`, `.` and `-`, such as api_key"))
        }
    }
);

checked_text!(
    /// The user name of basic authentication.
    BasicName,
    {"type": "string", "pattern": "^[!-9;-~]{1,128}$", "examples": ["acme"]},
    |text| {
        let ok = (1..=128).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic() && b != b':');
        if ok { Ok(()) } else {
            Err(Invalid::new("bad-name", format!("{text:?} is not a user name"), "write visible ASCII without a colon"))
        }
    }
);

checked_text!(
    /// A place within a JSON document, as RFC 6901 writes it.
    JsonPointer,
    {"type": "string", "pattern": "^/", "maxLength": 256, "examples": ["/usage/credits"]},
    |text| {
        let escapes = text.split('~').skip(1).all(|rest| rest.starts_with(['0', '1']));
        let ok = text.starts_with('/') && text.len() <= 256 && escapes && !text.contains(char::is_control);
        if ok { Ok(()) } else {
            Err(Invalid::new("bad-pointer", format!("{text:?} is not a JSON pointer"), "write the keys down to the number, each after a slash, such as /usage/credits"))
        }
    }
);

/// Credits.
pub type Credits = Number<0, 1_000_000_000>;

bounded_time!(
    /// How long a client may take to say where it wants to.
    HelloTime, Timespan::milliseconds(100), Timespan::seconds(120),
    {"type": "string", "pattern": "^[0-9]+(ms|s|m)$", "examples": ["10s"]}
);
bounded_time!(
    /// How long a connection may carry nothing.
    IdleTime, Timespan::seconds(1), Timespan::seconds(86_400),
    {"type": "string", "pattern": "^0*([1-9][0-9]{3,}ms|[1-9][0-9]*(s|m|h))$", "examples": ["1h"]}
);

/// Makes a newtype of an amount of bytes within bounds.
macro_rules! bounded_size {
    ($(#[$doc:meta])* $name:ident, $least:expr, $most:expr, $example:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub struct $name(pub Bytes);

        impl FromStr for $name {
            type Err = Invalid;

            fn from_str(text: &str) -> Result<Self, Invalid> {
                let size: Bytes = text.parse()?;
                if ($least..=$most).contains(&size) {
                    return Ok(Self(size));
                }
                let help = format!("write {} to {}", $least, $most);
                Err(Invalid::new("out-of-range", format!("{size} is out of range"), help))
            }
        }

        crate::text_value!($name, stringify!($name), {
            "type": "string",
            "pattern": "^[0-9]+(KiB|MiB|GiB)$",
            "examples": [$example]
        });
    };
}

bounded_size!(
    /// Bytes in a second.
    Bandwidth, Bytes::kib(16), Bytes::gib(100), "10MiB"
);
bounded_size!(
    /// The longest head of a request.
    HeadSize, Bytes::kib(4), Bytes::mib(1), "64KiB"
);
bounded_size!(
    /// The longest body of a request.
    BodySize, Bytes::kib(1), Bytes::gib(16), "64MiB"
);
