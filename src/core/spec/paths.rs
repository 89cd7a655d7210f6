//! Where what is declared stands in a config repo.

/// The file with the policy for all tenants.
pub const FLEET: &str = "fleet.yaml";

/// The file with the tiers.
pub(super) const TIERS: &str = "tiers.yaml";

/// What the path of each tenant file begins with.
pub const TENANTS: &str = "tenants/";

/// What the path of each schema begins with that config files are held against.
pub(crate) const SCHEMAS: &str = "schemas/";

/// What the path of each schema begins with that tenants' settings are held against.
pub(crate) const RULES: &str = "rules/";

/// A tenant file's name without its folder and ending.
pub(super) fn stem(path: &str) -> Option<&str> {
    path.strip_prefix(TENANTS)?.strip_suffix(".yaml")
}
