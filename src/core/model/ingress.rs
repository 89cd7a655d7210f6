//! What comes in to tenants: the ports that they expose, who may reach those, and what the daemon says of it.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    net::Ipv4Addr,
    str::FromStr,
};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    Invalid, Power, TenantName,
    token::{TokenId, TokenKey},
};

/// Who may reach what a tenant exposes. The later one lets more in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Access {
    /// Who has a token for the tenant.
    #[default]
    Token,
    /// Everybody.
    Public,
}

impl Access {
    /// Whether it is what a tenant has whose file says nothing.
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

impl fmt::Display for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Token => "token",
            Self::Public => "public",
        })
    }
}

/// What is said of a port that a tenant exposes.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub struct Expose {
    /// The tenant counts as ready when a GET of it is answered with 2xx or 3xx; `None` for when the port accepts a
    /// connection.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<HealthPath>,
}

/// A path with its query, as the first line of a request has it: `/` and up to 255 visible characters of ASCII.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct HealthPath(String);

impl HealthPath {
    /// The path as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for HealthPath {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let is_plain = text.len() <= 256 && text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#');
        // What begins with two slashes names a host to some.
        if is_plain && text.starts_with('/') && !text.starts_with("//") {
            return Ok(Self(text.to_owned()));
        }
        let help = "write it from / on, of visible ASCII without #, such as /healthz";
        Err(Invalid::new("bad-path", format!("{text:?} is not the path of a request"), help))
    }
}

crate::text_value!(HealthPath, "HealthPath", {
    "type": "string",
    "pattern": "^/([!\"$-.0-~][!\"$-~]*)?$",
    "maxLength": 256,
    "examples": ["/healthz"]
});

/// What the daemon reports to ingress of the tenants that expose something.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct IngressState {
    /// It differs from that of any other content, of an earlier run of the daemon too.
    pub version: String,
    /// `None` where it is what the asker has already.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content: Option<StateContent>,
}

/// The tenants that expose something, and whose tokens count.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct StateContent {
    /// By which tokens are verified.
    pub key: TokenKey,
    /// Tokens that do not count any more, though they have not expired.
    pub revoked: BTreeSet<TokenId>,
    /// Whether a browser sees a page while a tenant is started for it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub waiting_page: bool,
    /// Every tenant that exposes a port.
    pub tenants: BTreeMap<TenantName, Reachable>,
}

/// A tenant that exposes a port.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Reachable {
    /// Who may reach it.
    pub access: Access,
    /// What it exposes.
    pub ports: BTreeMap<u16, Expose>,
    /// The address of its container that is there now, running or frozen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<Ipv4Addr>,
    /// The id of that container. With another one, connections to the former have nobody at their other end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container: Option<String>,
    /// What it is to do now.
    pub power: Power,
    /// Whether its container was last found running, since it was last woken: neither frozen nor contained, whatever else may
    /// differ.
    pub running: bool,
    /// Whether it sleeps until there is memory for it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub waits_for_memory: bool,
    /// Why no request wakes it, if so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub closed: Option<Closed>,
}

/// Why a tenant is not woken, whatever comes in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Closed {
    /// It cannot be made as declared on this host.
    Blocked,
    /// An operator suspended it.
    Suspended,
    /// Its declaration is wrong or not approved.
    Held,
}

impl fmt::Display for Closed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Blocked => "blocked",
            Self::Suspended => "suspended",
            Self::Held => "held",
        })
    }
}

/// The most tenants that one message names as those with requests in hand.
pub const MAX_NAMED: usize = 1_000;

/// A tenant that is being woken, or runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Waking {
    /// Which.
    pub tenant: TenantName,
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_health_path_stands_in_the_first_line_of_a_request() {
        let longest = format!("/{}", "a".repeat(255));
        for good in ["/", "/healthz", "/a//b?c=d&e=%20", "/~a/!$'()*+,;=:@", &longest] {
            assert_eq!(good.parse::<HealthPath>().as_ref().map(HealthPath::as_str), Ok(good));
        }
        for bad in
            ["", "healthz", "//evil.example.com/", "/a b", "/a#b", "/a\r\nHost: b", "/é", "http://a/", &(longest + "a")]
        {
            assert_eq!(bad.parse::<HealthPath>().map_err(|e| e.code), Err("bad-path"), "{bad:?}");
        }
    }

    #[test]
    fn what_ingress_reads_is_what_the_daemon_wrote() -> Result<(), serde_json::Error> {
        let written = json!({"version": "a-1", "content": {
            "key": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo",
            "revoked": ["abcdefghijkl"],
            "waiting_page": true,
            "tenants": {
                "ant": {
                    "access": "public", "ports": {"80": {}, "8080": {"path": "/healthz"}}, "address": "10.77.0.14",
                    "power": "asleep", "running": false, "waits_for_memory": true, "closed": "suspended",
                },
                "bee": {"access": "token", "ports": {"80": {}}, "power": "running", "running": true},
            },
        }});
        let state: IngressState = serde_json::from_str(&written.to_string())?;
        assert_eq!(serde_json::to_value(&state)?, written);
        for unknown in [r#"{"version":"a-1","more":1}"#, r#"{"version":"a-1","content":{}}"#] {
            assert!(serde_json::from_str::<IngressState>(unknown).is_err(), "{unknown}");
        }
        Ok(())
    }

    #[test]
    fn public_is_wider_than_token() {
        assert!(Access::Public > Access::Token && Access::default() == Access::Token);
    }
}
