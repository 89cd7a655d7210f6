//! Routes with credentials: what a tenant calls at the gateway, and what is added on the way.

use std::{fmt, str::FromStr};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::name;
use crate::model::Invalid;

/// A service that a tenant reaches as `http://gateway.internal/NAME/…` or
/// `http://NAME.gateway.internal/…`, with a key that it never sees.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Route {
    /// Its name: the first part of the path.
    pub name: RouteName,
    /// Where it leads.
    pub upstream: Upstream,
    /// What is added to each request.
    pub inject: Inject,
    /// What a request costs, if anything.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cost: Option<Cost>,
}

/// The name of a route: a label of a host name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct RouteName(String);

impl RouteName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for RouteName {
    type Err = Invalid;

    /// Takes `/ghl/`, as the files have it, and `ghl`.
    fn from_str(text: &str) -> Result<Self, Invalid> {
        let label = text.strip_prefix('/').and_then(|rest| rest.strip_suffix('/')).unwrap_or(text);
        if label.contains('.') || name::check(label).is_err() {
            return Err(Invalid::new(
                "bad-route",
                format!("{text:?} is not a route"),
                "write one part between two slashes, of a-z, 0-9 and -, such as /crm/",
            ));
        }
        Ok(Self(label.to_owned()))
    }
}

impl fmt::Display for RouteName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

crate::text_value!(RouteName, "RouteName", {
    "type": "string",
    "pattern": "^/?[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?/?$",
    "examples": ["/crm/"]
});

/// Where a route leads: `https://host`, with a port and a path where they are given.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(into = "String")]
pub struct Upstream {
    host: String,
    port: u16,
    path: String,
}

impl Upstream {
    /// The host name, in lower case.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// What the path of each request begins with: empty, or a path without a slash at its end.
    pub fn path(&self) -> &str {
        &self.path
    }
}

impl FromStr for Upstream {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let bad = |message: String| {
            Invalid::new("bad-upstream", message, "write https://host, such as https://api.example.com")
        };
        let rest =
            text.strip_prefix("https://").ok_or_else(|| bad(format!("{text:?} does not begin with https://")))?;
        let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let path = path.trim_end_matches('/');
        let is_plain = |b: u8| b.is_ascii_alphanumeric() || b"/-._~".contains(&b);
        let has_dots = || path.split('/').skip(1).any(|part| part.is_empty() || part == "." || part == "..");
        if !path.bytes().all(is_plain) || has_dots() {
            return Err(bad(format!("the path {path:?} holds more than plain names")));
        }
        let (host, port) = match authority.split_once(':') {
            None => (authority, Some(443)),
            Some((host, port)) => {
                (host, port.parse().ok().filter(|number: &u16| *number > 0 && number.to_string() == port))
            }
        };
        let host = host.to_ascii_lowercase();
        let port = port.ok_or_else(|| bad(format!("{authority:?} has no port from 1 to 65535")))?;
        if name::check(&host).is_err()
            || !host.contains('.')
            || name::is_like_an_address(&host)
            || name::is_private(&host)
        {
            return Err(bad(format!("{host:?} is not a public host name")));
        }
        Ok(Self { host, port, path: path.to_owned() })
    }
}

impl fmt::Display for Upstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "https://{}", self.host)?;
        if self.port != 443 {
            write!(f, ":{}", self.port)?;
        }
        f.write_str(&self.path)
    }
}

impl From<Upstream> for String {
    fn from(upstream: Upstream) -> Self {
        upstream.to_string()
    }
}

crate::text_value!(Upstream, "Upstream", {
    "type": "string",
    "pattern": "^https://([A-Za-z0-9-]+\\.)+[A-Za-z][A-Za-z0-9-]*(:[0-9]{1,5})?(/[A-Za-z0-9._~/-]*)?$",
    "examples": ["https://services.example.com"]
});

/// What is added to each request of a route.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Inject {
    /// A header; the caller's own of that name is removed.
    Header {
        /// Its name, in lower case.
        name: String,
        /// Its value.
        value: Template,
    },
    /// A parameter of the query; the caller's own of that name is removed.
    Query {
        /// Its name.
        name: String,
        /// Its value.
        value: Template,
    },
    /// Basic authentication.
    Basic {
        /// The user name.
        username: String,
        /// The password.
        password: Template,
    },
}

impl Inject {
    /// The template with the secret.
    pub fn template(&self) -> &Template {
        match self {
            Self::Header { value, .. } | Self::Query { value, .. } | Self::Basic { password: value, .. } => value,
        }
    }
}

/// As plans show it, the secrets by their names.
impl fmt::Display for Inject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Header { name, value } => write!(f, "header {name}: {value}"),
            Self::Query { name, value } => write!(f, "query {name}={value}"),
            Self::Basic { username, password } => write!(f, "basic {username}:{password}"),
        }
    }
}

/// A text with secrets by name: `Bearer ${secret:acme/crm}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(into = "String")]
pub struct Template {
    parts: Vec<Part>,
}

/// A piece of a template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    /// Text as it stands.
    Text(String),
    /// The secret of this name.
    Secret(SecretName),
}

impl Template {
    /// Its pieces, in order.
    pub fn parts(&self) -> &[Part] {
        &self.parts
    }

    /// The secrets that it names.
    pub fn secrets(&self) -> impl Iterator<Item = &SecretName> {
        self.parts.iter().filter_map(|part| match part {
            Part::Secret(name) => Some(name),
            Part::Text(_) => None,
        })
    }
}

impl FromStr for Template {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        const FORM: &str = "write ${secret:NAME} where the secret belongs, such as Bearer ${secret:acme/crm}";
        let bad = |message: String| Invalid::new("bad-template", message, FORM);
        if text.bytes().any(|b| !(b' '..=b'~').contains(&b)) {
            return Err(bad("the value holds more than visible ASCII".to_owned()));
        }
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some(at) = rest.find("${") {
            let (before, from) = rest.split_at(at);
            if !before.is_empty() {
                parts.push(Part::Text(before.to_owned()));
            }
            let name = from.strip_prefix("${secret:").and_then(|from| from.split_once('}'));
            let (name, after) = name.ok_or_else(|| bad("what follows `${` names no secret".to_owned()))?;
            parts.push(Part::Secret(name.parse()?));
            rest = after;
        }
        if !rest.is_empty() {
            parts.push(Part::Text(rest.to_owned()));
        }
        if !parts.iter().any(|part| matches!(part, Part::Secret(_))) {
            // It may be the secret itself, so that the line is not shown.
            return Err(Invalid::new("secret", "the value names no secret; this file is no place for one", FORM));
        }
        Ok(Self { parts })
    }
}

impl fmt::Display for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.parts.iter().try_for_each(|part| match part {
            Part::Text(text) => f.write_str(text),
            Part::Secret(name) => write!(f, "${{secret:{name}}}"),
        })
    }
}

impl From<Template> for String {
    fn from(template: Template) -> Self {
        template.to_string()
    }
}

crate::text_value!(Template, "Template", {
    "type": "string",
    "pattern": "\\$\\{secret:[^}]+\\}",
    "examples": ["Bearer ${secret:acme/crm}"]
});

/// The name of a secret on the host, such as `acme/crm`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct SecretName(String);

impl SecretName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for SecretName {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let is_part = |part: &str| {
            !part.is_empty()
                && !part.starts_with('.')
                && part.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
        };
        if text.len() > 128 || !text.split('/').all(is_part) {
            return Err(Invalid::new(
                "bad-name",
                "this is not a secret's name",
                "write letters, digits, -, _ and ., in parts between slashes, such as acme/crm",
            ));
        }
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for SecretName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

crate::text_value!(SecretName, "SecretName", {
    "type": "string",
    "pattern": "^[A-Za-z0-9_-][A-Za-z0-9_.-]*(/[A-Za-z0-9_-][A-Za-z0-9_.-]*)*$",
    "maxLength": 128,
    "examples": ["acme/crm"]
});

/// What a request through a route costs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cost {
    /// Credits that are reserved before it is sent.
    pub reserve: u64,
    /// Where the answer says what it really cost: a JSON pointer. Without one it costs what was
    /// reserved.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub settle: Option<String>,
    /// What is done with answers that come as a stream.
    #[serde(default)]
    pub stream: StreamMode,
}

/// What is done with answers that come as a stream.
///
/// Ordered: a later one is stricter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum StreamMode {
    /// They are metered as they go.
    #[default]
    Meter,
    /// A request for one is refused with 400.
    Refuse,
}
