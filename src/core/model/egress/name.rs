//! Host names: their form, and which of them mean something else.

/// Why a text is not a host name.
#[derive(Debug, PartialEq, Eq)]
pub enum Wrong<'a> {
    /// It is empty or longer than 253 characters.
    Length,
    /// This label cannot stand in one.
    Label(&'a str),
}

/// Whether a text in lower case, without a dot at its end, has the form of a host name.
///
/// # Errors
/// It has not.
pub fn check(name: &str) -> Result<(), Wrong<'_>> {
    if name.is_empty() || name.len() > 253 {
        return Err(Wrong::Length);
    }
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    name.split('.').find(|label| !is_label(label)).map_or(Ok(()), |label| Err(Wrong::Label(label)))
}

/// Whether some resolver would take a name for an address: its last label is a number.
pub fn is_like_an_address(name: &str) -> bool {
    name.rsplit('.').next().is_some_and(|label| {
        label.bytes().all(|b| b.is_ascii_digit())
            || label.strip_prefix("0x").is_some_and(|hex| hex.bytes().all(|b| b.is_ascii_hexdigit()))
    })
}

/// Whether a name belongs to no public domain: those of RFC 6761 and their like.
pub fn is_private(name: &str) -> bool {
    const PRIVATE: [&str; 6] = ["localhost", "local", "internal", "localdomain", "arpa", "onion"];
    name.rsplit('.').next().is_some_and(|last| PRIVATE.contains(&last))
}
