//! Secrets that tenant files hold, encrypted with age to this host.

use std::io::{self, Read};

use age::{
    DecryptError, Decryptor, EncryptError, Encryptor, Identity,
    armor::{ArmoredReader, ArmoredWriter, Format},
    x25519,
};

use super::secret::{self, MAX_SECRET, SecretError, SecretText};
use crate::model::{SecretName, egress::Sealed, host::Secret};

/// Why a secret could not be encrypted or decrypted. No variant holds any of it.
#[derive(Debug, thiserror::Error)]
pub enum SealError {
    /// The host has no key.
    #[error("the secret {0} cannot be decrypted: host.yaml has no egress.identity")]
    NoIdentity(SecretName),
    /// The host's key cannot be read.
    #[error("the host's key cannot be read")]
    Unreadable(#[from] SecretError),
    /// The host's key is none.
    #[error("egress.identity holds no private key of age, which begins with AGE-SECRET-KEY-1")]
    NoKey,
    /// Somebody changed it, or it was encrypted to another key.
    #[error("the secret {name} cannot be decrypted; seal it anew with this host's public key")]
    Decrypt {
        /// Which.
        name: SecretName,
        /// What is wrong.
        source: DecryptError,
    },
    /// It was sealed as another secret.
    #[error("the secret {0} was sealed under another name; nobody can use a secret as another")]
    OtherName(SecretName),
    /// What was decrypted is no secret.
    #[error("the secret {name} {what}")]
    Unusable {
        /// Which.
        name: SecretName,
        /// What is wrong with it.
        what: &'static str,
    },
    /// The key to encrypt to is none.
    #[error("{0:?} is no public key of age, which begins with age1")]
    Recipient(String),
    /// It cannot be encrypted.
    #[error("cannot encrypt")]
    Encrypt(#[from] EncryptError),
    /// It cannot be encrypted.
    #[error("cannot encrypt")]
    Io(#[from] io::Error),
}

/// Encrypts a secret's value to a host's public key.
///
/// # Errors
/// The key is none, or the value is empty or longer than 64 KiB.
pub fn close(name: &SecretName, value: &str, recipient: &str) -> Result<Sealed, SealError> {
    check(name, value)?;
    let recipient: x25519::Recipient =
        recipient.parse().map_err(|_: &'static str| SealError::Recipient(recipient.to_owned()))?;
    let encryptor = Encryptor::with_recipients(std::iter::once(&recipient as &dyn age::Recipient))?;
    let mut text = Vec::new();
    let armor = ArmoredWriter::wrap_output(&mut text, Format::AsciiArmor)?;
    let mut writer = encryptor.wrap_output(armor)?;
    io::Write::write_all(&mut writer, format!("{name}\n{value}").as_bytes())?;
    writer.finish()?.finish()?;
    let text = String::from_utf8(text).map_err(io::Error::other)?;
    text.parse().map_err(|error: crate::model::Invalid| SealError::Io(io::Error::other(error.message)))
}

/// Decrypts a secret's value with the host's private key.
///
/// # Errors
/// There is no key, the text is not encrypted to it, or it was sealed under another name.
pub fn open(name: &SecretName, sealed: &Sealed, identity: Option<&Secret>) -> Result<SecretText, SealError> {
    let identity = identity.ok_or_else(|| SealError::NoIdentity(name.clone()))?;
    let keys = keys(secret::read(identity)?.as_str())?;
    let decrypt = |source| SealError::Decrypt { name: name.clone(), source };
    let decryptor = Decryptor::new(ArmoredReader::new(sealed.as_str().as_bytes())).map_err(decrypt)?;
    let reader = decryptor.decrypt(keys.iter().map(|key| key as &dyn Identity)).map_err(decrypt)?;
    let mut bytes = Vec::new();
    // The longest value, and the longest name.
    reader.take(MAX_SECRET + 1024).read_to_end(&mut bytes).map_err(|e| decrypt(DecryptError::Io(e)))?;
    let text = String::from_utf8(bytes).map_err(|_| unusable(name, "is not UTF-8"))?;
    let (first, value) = text.split_once('\n').unwrap_or((&text, ""));
    if first != name.as_str() {
        return Err(SealError::OtherName(name.clone()));
    }
    let value = value.strip_suffix('\n').unwrap_or(value);
    check(name, value)?;
    Ok(SecretText::new(value.to_owned()))
}

fn unusable(name: &SecretName, what: &'static str) -> SealError {
    SealError::Unusable { name: name.clone(), what }
}

fn check(name: &SecretName, value: &str) -> Result<(), SealError> {
    match value {
        "" => Err(unusable(name, "is empty")),
        value if value.len() as u64 > MAX_SECRET => Err(unusable(name, "is longer than 64 KiB")),
        _ => Ok(()),
    }
}

/// The keys of a file as `age-keygen` writes it: one in each line, between remarks.
fn keys(text: &str) -> Result<Vec<x25519::Identity>, SealError> {
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    let keys: Result<Vec<_>, _> = lines.map(str::parse).collect();
    match keys {
        Ok(keys) if !keys.is_empty() => Ok(keys),
        _ => Err(SealError::NoKey),
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt};

    use age::secrecy::ExposeSecret;

    use super::*;

    fn host_key(folder: &tempfile::TempDir, keys: &[&x25519::Identity]) -> Secret {
        let path = folder.path().join("identity");
        let lines: Vec<String> =
            keys.iter().map(|key| format!("# created\n{}", key.to_string().expose_secret())).collect();
        fs::write(&path, lines.join("\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        Secret::File(path)
    }

    #[test]
    fn a_secret_is_read_by_its_host_under_its_name_and_by_nobody_else() {
        let folder = tempfile::tempdir().unwrap();
        let (old, key, foreign) =
            (x25519::Identity::generate(), x25519::Identity::generate(), x25519::Identity::generate());
        let host = host_key(&folder, &[&old, &key]);
        let name: SecretName = "acme/crm".parse().unwrap();
        let sealed = close(&name, "s3cret", &key.to_public().to_string()).unwrap();
        assert!(!sealed.as_str().contains("s3cret"));
        assert_eq!(open(&name, &sealed, Some(&host)).unwrap().as_str(), "s3cret");

        let other = "globex/crm".parse().unwrap();
        assert!(
            matches!(open(&other, &sealed, Some(&host)), Err(SealError::OtherName(_))),
            "nobody uses it as another"
        );
        assert!(matches!(open(&name, &sealed, None), Err(SealError::NoIdentity(_))));
        let theirs = close(&name, "s3cret", &foreign.to_public().to_string()).unwrap();
        assert!(matches!(open(&name, &theirs, Some(&host)), Err(SealError::Decrypt { .. })));
        let changed = sealed.as_str().to_lowercase().replace("begin age encrypted file", "BEGIN AGE ENCRYPTED FILE");
        let changed = changed.replace("end age encrypted file", "END AGE ENCRYPTED FILE").parse().unwrap();
        assert!(matches!(open(&name, &changed, Some(&host)), Err(SealError::Decrypt { .. })));
        fs::write(folder.path().join("identity"), "s3cret").unwrap();
        assert!(matches!(open(&name, &sealed, Some(&host)), Err(SealError::NoKey)));
        assert!(matches!(close(&name, "", &key.to_public().to_string()), Err(SealError::Unusable { .. })));
        assert!(matches!(close(&name, "s3cret", "age1no"), Err(SealError::Recipient(_))));
    }
}
