//! The file of a snapshot: a line of JSON, and below it the signature of that line, as `ssh-keygen -Y sign` writes one.

use ssh_key::{HashAlg, LineEnding, PrivateKey, SshSig, public::PublicKey};

use super::{Snapshot, VERSION};

/// What the key signs here. A signature that was made for something else does not count.
pub const NAMESPACE: &str = "tenantd-snapshot";

/// Why a snapshot cannot be made or used.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// The text is no snapshot.
    #[error("it is no snapshot: it must be one line of JSON, and an SSH signature below")]
    Form,
    /// The line holds something else.
    #[error("it is no snapshot that is known here")]
    Json(#[from] serde_json::Error),
    /// It is of another version.
    #[error("it is a snapshot of version {0}, and this tenantd reads version {VERSION}")]
    Version(u32),
    /// It cannot be signed, or its signature is not one.
    #[error("the signature cannot be made or read: {0}")]
    Signature(ssh_key::Error),
    /// Somebody changed it.
    #[error("it was changed after it was signed")]
    Changed,
}

/// The text of a snapshot's file.
///
/// # Errors
/// The key cannot sign.
pub fn sign(snapshot: &Snapshot, key: &PrivateKey) -> Result<String, SnapshotError> {
    let line = serde_json::to_string(snapshot)?;
    let signature = key.sign(NAMESPACE, HashAlg::Sha512, line.as_bytes());
    let signature =
        signature.and_then(|signature| signature.to_pem(LineEnding::LF)).map_err(SnapshotError::Signature)?;
    Ok(format!("{line}\n{signature}"))
}

/// Reads a snapshot's file, and checks that nobody changed it since it was signed. By whom is for the caller to judge,
/// by the key that is returned.
///
/// # Errors
/// It is no snapshot, is of another version, or was changed.
pub fn read(text: &str) -> Result<(Snapshot, PublicKey), SnapshotError> {
    #[derive(serde::Deserialize)]
    struct Versioned {
        version: u32,
    }
    let (line, signature) = text.split_once('\n').ok_or(SnapshotError::Form)?;
    if !signature.starts_with("-----BEGIN SSH SIGNATURE-----") {
        return Err(SnapshotError::Form);
    }
    let signature = SshSig::from_pem(signature).map_err(SnapshotError::Signature)?;
    let key = PublicKey::from(signature.public_key().clone());
    key.verify(NAMESPACE, line.as_bytes(), &signature).map_err(|_| SnapshotError::Changed)?;
    let Versioned { version } = serde_json::from_str(line)?;
    if version != VERSION {
        return Err(SnapshotError::Version(version));
    }
    Ok((serde_json::from_str(line)?, key))
}
