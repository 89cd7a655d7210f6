//! The line by which somebody approves: for which fleet, and for which declarations of which tenants.

use std::collections::BTreeMap;

use super::{Tenant, files::digest};

/// The trailer of an approval: `Tenantd-Approve: NAME@DECLARATION, NAME@DECLARATION; fleet=FLEET`.
pub const TRAILER: &str = "Tenantd-Approve";

/// The name that stands for all tenants that wait; the declaration beside it is then [`all`] of theirs.
pub const ALL: &str = "*";

/// What one entry of the trailer agrees to. What it lacks keeps it from counting.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Agreement {
    /// The tenant's name, or [`ALL`].
    pub tenant: String,
    /// The declaration, by its hash.
    pub declaration: Option<String>,
    /// The fleet, by the name that its hosts give it.
    pub fleet: Option<String>,
}

/// Reads a trailer's value.
pub fn read(value: &str) -> Vec<Agreement> {
    let mut parts = value.split(';').map(str::trim);
    let entries = parts.next().unwrap_or_default();
    let fleet = parts.find_map(|part| part.strip_prefix("fleet=")).filter(|name| !name.is_empty()).map(str::to_owned);
    let entries = entries.split(',').map(str::trim).filter(|entry| !entry.is_empty());
    let read = entries.map(|entry| {
        let (tenant, declaration) = entry.split_once('@').map_or((entry, None), |(name, hash)| (name, Some(hash)));
        Agreement { tenant: tenant.to_owned(), declaration: declaration.map(str::to_owned), fleet: fleet.clone() }
    });
    read.collect()
}

/// The line that approves a declaration.
pub fn line(tenant: &str, declaration: &str, fleet: &str) -> String {
    format!("{TRAILER}: {tenant}@{declaration}; fleet={fleet}")
}

/// One hash over the declarations of several tenants, by name.
pub fn all(declarations: &BTreeMap<String, String>) -> String {
    let lines: String = declarations.iter().map(|(name, declaration)| format!("{name}@{declaration}\n")).collect();
    digest(lines.as_bytes())
}

/// The hash by which a declaration is known again.
pub fn declaration(tenant: &Tenant) -> String {
    digest(&serde_json::to_vec(tenant).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_read_as_it_was_written() {
        let one = |tenant: &str, declaration: Option<&str>, fleet: Option<&str>| Agreement {
            tenant: tenant.to_owned(),
            declaration: declaration.map(str::to_owned),
            fleet: fleet.map(str::to_owned),
        };
        let written = line("ant", "00ff", "prod");
        let value = written.strip_prefix("Tenantd-Approve: ").unwrap_or_default();
        assert_eq!(read(value), [one("ant", Some("00ff"), Some("prod"))]);
        assert_eq!(
            read(" ant@1 ,bee@2 ;fleet=prod"),
            [one("ant", Some("1"), Some("prod")), one("bee", Some("2"), Some("prod"))]
        );
        assert_eq!(read("ant, *; fleet="), [one("ant", None, None), one("*", None, None)]);
        assert_eq!(read(""), []);
        assert_eq!(read(";fleet=prod"), []);
    }
}
