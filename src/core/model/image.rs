//! References to images.

use std::{fmt, str::FromStr};

use serde::Serialize;

use super::Invalid;

/// A reference to an image: `name@sha256:…`, `name:tag`, or an image id `sha256:…`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct ImageRef(String);

impl ImageRef {
    /// The reference as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it can only ever mean one image.
    pub fn is_pinned(&self) -> bool {
        // A repository may be named sha256, and has a tag then.
        self.0.contains('@') || self.0.starts_with("sha256:")
    }
}

impl FromStr for ImageRef {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let invalid = |message: String| {
            Invalid::new("bad-image", message, "write name@sha256:<64 hex>, name:tag, or the id sha256:<64 hex>")
        };
        let bad = |message: String| Err(invalid(message));
        if text.len() > 255 {
            return bad("the image reference is longer than 255 characters".to_owned());
        }
        let (name, digest) = match text.split_once('@') {
            Some((name, digest)) => (name, Some(digest)),
            None if text.starts_with("sha256:") => ("", Some(text)),
            None => (text, None),
        };
        if let Some(digest) = digest {
            let hex = digest.strip_prefix("sha256:").unwrap_or_default();
            if hex.len() != 64 || !hex.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
                return bad(format!("{digest:?} is not sha256: and 64 lower-case hex digits"));
            }
            if name.is_empty() && !text.starts_with("sha256:") {
                return bad(format!("{text:?} has no name before the digest"));
            }
        }
        if !name.is_empty() || digest.is_none() {
            check_repository(name, text).map_err(invalid)?;
        }
        Ok(Self(text.to_owned()))
    }
}

/// The form that engines accept: components of lower-case letters, digits and single separators,
/// after an optional registry host, before an optional tag.
fn check_repository(name: &str, whole: &str) -> Result<(), String> {
    let (path, tag) = match name.rsplit_once(':') {
        Some((path, tag)) if !tag.contains('/') => (path, Some(tag)),
        _ => (name, None),
    };
    if let Some(tag) = tag {
        let ok = (1..=128).contains(&tag.len())
            && tag.bytes().all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b))
            && !tag.starts_with(['.', '-']);
        if !ok {
            return Err(format!("{tag:?} is not a tag"));
        }
    }
    let mut components = path.split('/').peekable();
    let first = path.split('/').next().unwrap_or_default();
    let has_registry = path.contains('/') && (first.contains(['.', ':']) || first == "localhost");
    if has_registry {
        components.next();
        let (host, port) = first.split_once(':').unwrap_or((first, "0"));
        let ok = host.starts_with(|c: char| c.is_ascii_alphanumeric())
            && host.ends_with(|c: char| c.is_ascii_alphanumeric())
            && host.bytes().all(|b| b.is_ascii_alphanumeric() || b".-".contains(&b))
            && port.parse::<u16>().is_ok();
        if !ok {
            return Err(format!("{first:?} is not a registry's host"));
        }
    }
    for component in components {
        let ok = component.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'_' | b'-'))
            && component.starts_with(|c: char| c.is_ascii_alphanumeric())
            && component.ends_with(|c: char| c.is_ascii_alphanumeric());
        if !ok {
            return Err(format!("{whole:?} is not an image reference"));
        }
    }
    Ok(())
}

impl fmt::Display for ImageRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

crate::text_value!(ImageRef, "ImageRef", {
    "type": "string",
    "minLength": 1,
    "maxLength": 255,
    "pattern": "^(sha256:[0-9a-f]{64}|([A-Za-z0-9][A-Za-z0-9.-]*(:[0-9]+)?/)?[a-z0-9][a-z0-9._-]*(/[a-z0-9][a-z0-9._-]*)*(:[A-Za-z0-9_][A-Za-z0-9_.-]{0,127})?(@sha256:[0-9a-f]{64})?)$",
    "description": "name@sha256:<64 hex> (pinned), name:tag, or an image id sha256:<64 hex>",
    "examples": ["agency/agent:1.4"]
});

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_are_checked_before_the_engine_sees_them() {
        let digest = "a".repeat(64);
        for good in ["agent", "agent:1", "agency/agent:1.4", "localhost:5000/a/b", "r.example.com/a:t", "a/sha256:1"] {
            assert!(good.parse::<ImageRef>().is_ok_and(|i| !i.is_pinned()), "{good}");
        }
        for good in
            [format!("agency/agent@sha256:{digest}"), format!("a:1@sha256:{digest}"), format!("sha256:{digest}")]
        {
            assert!(good.parse::<ImageRef>().is_ok_and(|i| i.is_pinned()), "{good}");
        }
        for bad in [
            "",
            ":",
            "a:",
            "A/b",
            "a//b",
            "/a",
            "a/",
            "../a",
            "a b",
            "a@sha256:12",
            "@sha256:",
            "a?x=1",
            "a\n",
            "-a",
            "a:b:c/d",
        ] {
            assert!(bad.parse::<ImageRef>().is_err(), "{bad:?}");
        }
    }
}
