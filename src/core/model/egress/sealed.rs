//! Secrets that lie in a tenant's file, encrypted to a host.

use std::str::FromStr;

use serde::Serialize;

use crate::model::Invalid;

/// What such a secret begins and ends with.
const FIRST: &str = "-----BEGIN AGE ENCRYPTED FILE-----";
const LAST: &str = "-----END AGE ENCRYPTED FILE-----";

/// The most that it may be long, in bytes: a value of 64 KiB, in base64.
const MAX_LENGTH: usize = 100 << 10;

/// A secret's value, encrypted with age to `egress.identity` of a host. What is encrypted begins with a line of the
/// secret's name, so that nobody can give it out as another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Sealed(String);

impl Sealed {
    /// The encrypted text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Sealed {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let text = text.trim();
        let is_body = |body: &str| body.bytes().all(|b| b.is_ascii_alphanumeric() || b"+/=\r\n".contains(&b));
        let body = text.strip_prefix(FIRST).and_then(|rest| rest.strip_suffix(LAST));
        if text.len() > MAX_LENGTH || !body.is_some_and(is_body) {
            return Err(Invalid::new(
                "bad-sealed",
                "this is no text that age has encrypted",
                "write what `tenantd egress seal NAME --to KEY` prints, all lines of it",
            ));
        }
        Ok(Self(format!("{text}\n")))
    }
}

crate::text_value!(Sealed, "Sealed", {
    "type": "string",
    "pattern": "^\\s*-----BEGIN AGE ENCRYPTED FILE-----[A-Za-z0-9+/=\\r\\n]*-----END AGE ENCRYPTED FILE-----\\s*$"
});

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_armoured_text_is_taken() {
        let whole = format!("\n{FIRST}\nYWdlLWVuY3J5cHRpb24=\n{LAST}\n\n");
        assert_eq!(whole.parse::<Sealed>().map(|sealed| sealed.0), Ok(whole.trim().to_owned() + "\n"));
        for wrong in
            ["", "s3cret", FIRST, &format!("{FIRST}\n<&>\n{LAST}"), &format!("{FIRST}{}{LAST}", "a".repeat(MAX_LENGTH))]
        {
            assert!(wrong.parse::<Sealed>().is_err(), "{wrong}");
        }
    }
}
