//! Names of tenants and tiers.

use std::{borrow::Borrow, fmt, str::FromStr};

use serde::Serialize;
use sha2::{Digest, Sha256};

use super::{Invalid, NAME_PREFIX, REPLACEMENT_SUFFIX};

/// The longest tenant name, in characters.
///
/// `tenantd-` and 40 more stay within the 63 of a host name, so that no name is ever cut short and
/// no two tenants can meet in a cut one. A UUID fits.
pub const MAX_NAME: usize = 40;

/// What the name of each tenant's bridge starts with.
pub const BRIDGE_PREFIX: &str = "td-";

/// What the name of each link to the gateway starts with.
pub const LINK_PREFIX: &str = "tg-";

/// A tenant's name: 1 to 40 of `a-z`, `0-9` and `-`, neither starting nor ending with `-`.
///
/// It is safe as a path component, a host name, a label's value and part of an engine object's name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct TenantName(String);

impl TenantName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What this name is kept for, if it is. All that is addressed by name on a host shares one name space: tenants, the
    /// instances of pools, ports of tenants, and the host's own services.
    pub fn reserved_for(&self) -> Option<&'static str> {
        let port = self.0.split_once('-').map(|(digits, _)| digits);
        let is_port = |digits: &str| digits.len() <= 5 && digits.bytes().all(|byte| byte.is_ascii_digit());
        match self.0.as_str() {
            "api" | "www" => Some("the host's own services"),
            name if name.starts_with("pool-") => Some("instances of pools (pool-NAME-ID)"),
            _ if port.is_some_and(is_port) => Some("ports of tenants (PORT-NAME)"),
            _ => None,
        }
    }

    /// The name of the tenant's container and of its network.
    pub fn object_name(&self) -> String {
        format!("{NAME_PREFIX}{}", self.0)
    }

    /// The name that a container has between its creation and the removal of the one it replaces.
    pub fn replacement_name(&self) -> String {
        format!("{NAME_PREFIX}{}{REPLACEMENT_SUFFIX}", self.0)
    }

    /// The name of the tenant's bridge on the host: `td-` and 12 characters of a hash.
    ///
    /// The kernel allows 15 characters. 12 of base 32 are 60 bits; `spec` still refuses two tenants
    /// that would meet.
    pub fn interface_name(&self) -> String {
        self.short_name(BRIDGE_PREFIX)
    }

    /// The name of both ends of the link from the tenant's bridge to the gateway: `tg-` and the same hash.
    pub fn link_name(&self) -> String {
        self.short_name(LINK_PREFIX)
    }

    fn short_name(&self, prefix: &str) -> String {
        const ALPHABET: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
        let digest = Sha256::digest(self.0.as_bytes());
        let short: String = digest.iter().take(12).map(|byte| char::from(ALPHABET[usize::from(byte & 31)])).collect();
        format!("{prefix}{short}")
    }
}

impl FromStr for TenantName {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        check_name("tenant", text)?;
        Ok(Self(text.to_owned()))
    }
}

impl Borrow<str> for TenantName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for TenantName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

crate::text_value!(TenantName, "TenantName", {
    "type": "string",
    "pattern": "^[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?$",
    "description": "1 to 40 of a-z, 0-9 and -, neither starting nor ending with -"
});

/// A tier's name, of the same form as a tenant's.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct TierName(String);

impl TierName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for TierName {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        check_name("tier", text)?;
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for TierName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

crate::text_value!(TierName, "TierName", {
    "type": "string",
    "pattern": "^[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?$",
    "examples": ["free", "pro", "team", "enterprise"]
});

fn check_name(what: &str, text: &str) -> Result<(), Invalid> {
    let form = format!("write 1 to {MAX_NAME} of a-z, 0-9 and -, neither starting nor ending with -");
    let bad = |message: String| Err(Invalid::new("bad-name", message, form.clone()));
    if text.is_empty() {
        return bad(format!("the {what} name is empty"));
    }
    if let Some(character) = text.chars().find(|c| !matches!(c, 'a'..='z' | '0'..='9' | '-')) {
        return bad(format!("the {what} name {text:?} holds {character:?}"));
    }
    if text.len() > MAX_NAME {
        return bad(format!(
            "the {what} name is {} characters long; the engine's and the kernel's names made of it would have to be cut short, and two could collide",
            text.len()
        ));
    }
    if text.starts_with('-') || text.ends_with('-') {
        return bad(format!("the {what} name {text:?} starts or ends with a hyphen"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_other_things_are_kept_for_them() {
        for (name, is_reserved) in [
            ("api", true),
            ("www", true),
            ("pool-python-x7k2m9", true),
            ("pool-", false),
            ("0-acme", true),
            ("3000-acme", true),
            ("65535-a", true),
            ("123456-acme", false),
            ("3000", false),
            ("3a-acme", false),
            ("api2", false),
            ("pool", false),
            ("pools", false),
            ("123e4567-e89b-12d3-a456-426614174000", false),
        ] {
            let reserved = name.parse::<TenantName>().is_ok_and(|name| name.reserved_for().is_some());
            assert_eq!(reserved, is_reserved, "{name}");
        }
    }

    #[test]
    fn names_that_could_escape_collide_or_mislead_are_refused() {
        for bad in [
            "",
            ".",
            "..",
            "../etc",
            "a/b",
            "a\\b",
            "Acme",
            "acme_dental",
            "-acme",
            "acme-",
            "acme.new",
            "é",
            "a b",
            "acme\0",
            "a\n",
            &"a".repeat(41),
        ] {
            assert!(bad.parse::<TenantName>().is_err(), "{bad:?}");
        }
        for good in ["a", "7", "acme-dental", "123e4567-e89b-12d3-a456-426614174000", &"a".repeat(40)] {
            assert!(good.parse::<TenantName>().is_ok(), "{good:?}");
        }
    }

    #[test]
    fn names_made_of_a_name_fit_the_kernel_and_never_change() -> Result<(), Invalid> {
        let name: TenantName = "acme-dental".parse()?;
        assert_eq!(name.object_name(), "tenantd-acme-dental");
        assert_eq!(name.interface_name().len(), 15);
        assert_eq!(name.interface_name(), "td-obcv7735trd7");
        assert_eq!(name.link_name(), "tg-obcv7735trd7");
        Ok(())
    }
}
