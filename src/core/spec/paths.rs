//! Where what is declared stands in a config repo.

/// The file with the policy for all tenants.
pub const FLEET: &str = "fleet.yaml";

/// The file with the tiers.
pub(super) const TIERS: &str = "tiers.yaml";

/// What the path of each tenant file begins with.
pub const TENANTS: &str = "tenants/";

/// A tenant file's name without its folder and ending.
pub(super) fn stem(path: &str) -> Option<&str> {
    path.strip_prefix(TENANTS)?.strip_suffix(".yaml")
}
