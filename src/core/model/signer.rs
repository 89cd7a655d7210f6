//! The public key of one who may sign commits.

use std::{fmt, str::FromStr};

use serde::{Serialize, Serializer};
use ssh_key::{Algorithm, EcdsaCurve, HashAlg, PublicKey};

use super::Invalid;

/// An SSH public key in OpenSSH's form, `ssh-ed25519 AAAA… comment`, of a kind that can be verified:
/// Ed25519 or ECDSA on P-256, in a file or on a security key.
///
/// RSA is left out: the library that would verify it has an open advisory. A certificate is no key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignerKey(PublicKey);

impl SignerKey {
    /// The key itself.
    pub fn get(&self) -> &PublicKey {
        &self.0
    }

    /// What people distinguish keys by, `SHA256:` and 43 characters, as `ssh-keygen -l` shows it.
    pub fn fingerprint(&self) -> String {
        self.0.fingerprint(HashAlg::Sha256).to_string()
    }
}

impl FromStr for SignerKey {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let help = "write the public key's one line, such as ssh-ed25519 and its base64 text";
        let bad = |message: String| Invalid::new("bad-signer", message, help);
        if text.chars().any(char::is_control) {
            return Err(bad("a key is one line without control characters".to_owned()));
        }
        if text.contains("PRIVATE KEY") {
            return Err(bad("this is a private key".to_owned()));
        }
        let kind = text.split(' ').next().unwrap_or(text);
        let unsupported = |kind: &str| {
            Invalid::new(
                "bad-signer",
                format!("signatures of {kind} keys cannot be verified"),
                "sign with ssh-ed25519, ecdsa-sha2-nistp256 or their sk- forms, or with GnuPG",
            )
        };
        if matches!(kind, "ssh-rsa" | "ssh-dss") || kind.contains("-cert-v01@") {
            return Err(unsupported(kind));
        }
        // The error is left out: it would say no more than that.
        let key = PublicKey::from_openssh(text).map_err(|_| bad("this is not an SSH public key".to_owned()))?;
        match key.algorithm() {
            Algorithm::Ed25519
            | Algorithm::SkEd25519
            | Algorithm::SkEcdsaSha2NistP256
            | Algorithm::Ecdsa { curve: EcdsaCurve::NistP256 } => Ok(Self(key)),
            other => Err(unsupported(other.as_str())),
        }
    }
}

impl fmt::Display for SignerKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.to_openssh().map_err(|_| fmt::Error)?)
    }
}

impl Serialize for SignerKey {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

crate::text_value!(SignerKey, "SignerKey", {
    "type": "string",
    "pattern": "^(sk-)?(ssh-ed25519|ecdsa-sha2-nistp256)(@openssh\\.com)? [A-Za-z0-9+/=]+( .*)?$",
    "description": "an SSH public key in one line: ssh-ed25519, ecdsa-sha2-nistp256 or their sk- forms",
    "examples": ["ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAILM+rvN+ot98qgEN796jTiQfZfG1KaT0PtFDJ/XFSqti ada@example.com"]
});

#[cfg(test)]
mod tests {
    use super::*;

    const ED25519: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAILM+rvN+ot98qgEN796jTiQfZfG1KaT0PtFDJ/XFSqti";

    #[test]
    fn a_key_is_read_with_or_without_its_comment() -> Result<(), Invalid> {
        let bare: SignerKey = ED25519.parse()?;
        let commented: SignerKey = format!("{ED25519} ada@example.com").parse()?;
        assert_eq!(bare.get().key_data(), commented.get().key_data());
        assert_eq!(bare.fingerprint(), "SHA256:UCUiLr7Pjs9wFFJMDByLgc3NrtdU344OgUM45wZPcIQ");
        assert_eq!(commented.to_string(), format!("{ED25519} ada@example.com"));
        Ok(())
    }

    #[test]
    fn what_cannot_be_verified_is_refused_with_its_kind() {
        for (text, part) in [
            ("", "not an SSH public key"),
            ("ssh-ed25519", "not an SSH public key"),
            ("ssh-ed25519 AAAA", "not an SSH public key"),
            ("ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAAB", "ssh-rsa keys cannot"),
            ("ssh-ed25519-cert-v01@openssh.com AAAA", "cert-v01@openssh.com keys cannot"),
            ("-----BEGIN OPENSSH PRIVATE KEY-----", "private key"),
            (&format!("{ED25519}\n{ED25519}"), "one line"),
            // The text says one kind and the key is of another.
            (&ED25519.replacen("ssh-ed25519", "ecdsa-sha2-nistp256", 1), "not an SSH public key"),
            (
                "ecdsa-sha2-nistp384 AAAAE2VjZHNhLXNoYTItbmlzdHAzODQAAAAIbmlzdHAzODQAAABhBEqzDQpaf57UrvW9aasd1T1zT+dQZ1WiC51d\
                 jZQxbf0LdRaLJUeocgS9gG1zG8AO/vXm3h6YchWbBb2NX7h5OAcLsuYtOmByb8+qsGL3B+gltewFy2GSJoluL8vKFUItrw==",
                "ecdsa-sha2-nistp384 keys cannot",
            ),
        ] {
            let refused = text.parse::<SignerKey>().map(|key| key.to_string());
            assert!(refused.as_ref().is_err_and(|e| e.message.contains(part)), "{text}: {refused:?}");
        }
    }
}
