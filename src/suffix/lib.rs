//! The list of public suffixes, compiled once.
//!
//! The list is some ten thousand small functions that are compiled anew in each crate that asks it. This one asks it
//! alone, so that no change of tenantd itself compiles them: that took four minutes of a processor each time.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

/// Whether anyone can register names below a name, as below `com`, `co.uk` and `github.io`.
///
/// The name is in lower case and does not end with a dot. Where no rule speaks of it, the last label counts.
#[inline(never)]
pub fn is_public(name: &str) -> bool {
    psl::suffix_str(name) == Some(name)
}

#[cfg(test)]
mod tests {
    use super::is_public;

    #[test]
    fn what_anyone_can_register_below_is_public() {
        for name in ["com", "co.uk", "github.io", "no-such-top-level"] {
            assert!(is_public(name), "{name}");
        }
        for name in ["example.com", "example.co.uk", "acme.github.io"] {
            assert!(!is_public(name), "{name}");
        }
    }
}
