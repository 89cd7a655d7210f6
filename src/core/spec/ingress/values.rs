//! Values that only ingress has.

use std::{net::SocketAddr, str::FromStr};

use crate::{
    model::{Invalid, quantity::Timespan},
    spec::{
        egress::values::LocalUser,
        values::{bounded_time, checked_text},
    },
};

/// Where ingress listens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IngressAddress(pub SocketAddr);

impl FromStr for IngressAddress {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        match text.parse::<SocketAddr>() {
            Ok(address) if address.port() > 0 => Ok(Self(address)),
            _ => Err(Invalid::new(
                "bad-address",
                format!("{text:?} is not an address and a port"),
                "write both, such as 127.0.0.1:8080 or \"[::]:443\"",
            )),
        }
    }
}

crate::text_value!(IngressAddress, "IngressAddress", {
    "type": "string",
    "pattern": "^([0-9]{1,3}(\\.[0-9]{1,3}){3}|\\[[0-9a-fA-F:.]+\\]):[1-9][0-9]{0,4}$",
    "examples": ["127.0.0.1:8080"]
});

checked_text!(
    /// A user of this host, by another example.
    IngressUser,
    {"type": "string", "pattern": "^[a-z_][a-z0-9_-]{0,31}$", "examples": ["tenantd-ingress"]},
    |text| text.parse::<LocalUser>().map(drop)
);

bounded_time!(
    /// How long a request waits for its tenant to be woken.
    WakeTime, Timespan::seconds(1), Timespan::seconds(600),
    {"type": "string", "pattern": "^0*([1-9][0-9]{3,}ms|[1-9][0-9]*(s|m))$", "examples": ["60s"]}
);
