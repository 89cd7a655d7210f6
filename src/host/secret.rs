//! Secrets: where they lie, and reading them when they are needed.

use std::{
    env, fmt,
    fs::File,
    io::{self, Read},
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use crate::model::host::Secret;

/// The most that a secret may be long, in bytes.
pub(super) const MAX_SECRET: u64 = 64 << 10;

/// A secret in memory. It is never shown, not even for debugging.
pub struct SecretText(String);

impl SecretText {
    pub(super) fn new(text: String) -> Self {
        Self(text)
    }

    /// The secret itself.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for SecretText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(secret)")
    }
}

/// Why a secret cannot be used. No variant holds any of it.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// systemd handed no credentials over.
    #[error("the credential {0:?} is not there: CREDENTIALS_DIRECTORY is not set; systemd sets it for LoadCredential=")]
    NoCredentials(String),
    /// The credential's name is a path.
    #[error("the credential's name {0:?} is not a file name")]
    Name(String),
    /// The file cannot be read.
    #[error("cannot read the secret {path}", path = path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// The file is open to everyone.
    #[error("the secret {path} can be read by everyone; `chmod o-rwx` it", path = .0.display())]
    Exposed(PathBuf),
    /// The file holds no secret.
    #[error("the secret {path} {what}", path = path.display())]
    Unusable {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        what: &'static str,
    },
}

/// The file that a secret lies in.
///
/// # Errors
/// It is one of systemd's credentials, and systemd handed none over.
pub fn locate(secret: &Secret) -> Result<PathBuf, SecretError> {
    match secret {
        Secret::File(path) => Ok(path.clone()),
        Secret::Credential(name) if name.is_empty() || name.contains('/') || name == "." || name == ".." => {
            Err(SecretError::Name(name.clone()))
        }
        Secret::Credential(name) => env::var_os("CREDENTIALS_DIRECTORY")
            .map(|folder| Path::new(&folder).join(name))
            .ok_or_else(|| SecretError::NoCredentials(name.clone())),
    }
}

/// Reads a secret, without the line break at its end.
///
/// # Errors
/// The file cannot be read, is not a plain file, is open to everyone, is empty, is longer than
/// 64 KiB or is not UTF-8.
pub fn read(secret: &Secret) -> Result<SecretText, SecretError> {
    let path = locate(secret)?;
    let failed = |source| SecretError::Io { path: path.clone(), source };
    let unusable = |what| SecretError::Unusable { path: path.clone(), what };
    // A pipe in the file's place must not hold anything up.
    let flags = i32::try_from(rustix::fs::OFlags::NONBLOCK.bits()).unwrap_or_default();
    let file = File::options().read(true).custom_flags(flags).open(&path).map_err(failed)?;
    let metadata = file.metadata().map_err(failed)?;
    if !metadata.is_file() {
        return Err(unusable("is not a file"));
    }
    if metadata.mode() & 0o007 != 0 {
        return Err(SecretError::Exposed(path));
    }
    let mut bytes = Vec::new();
    file.take(MAX_SECRET + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > MAX_SECRET {
        return Err(unusable("is longer than 64 KiB"));
    }
    let mut text = String::from_utf8(bytes).map_err(|_| unusable("is not UTF-8"))?;
    if text.ends_with('\n') {
        text.pop();
    }
    if text.is_empty() {
        return Err(unusable("is empty"));
    }
    Ok(SecretText(text))
}

#[cfg(test)]
mod tests {
    use std::{error::Error, fs, os::unix::fs::PermissionsExt};

    use super::*;

    fn secret(folder: &tempfile::TempDir, bytes: &[u8], mode: u32) -> io::Result<Secret> {
        let path = folder.path().join("secret");
        fs::write(&path, bytes)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(mode))?;
        Ok(Secret::File(path))
    }

    #[test]
    fn a_secret_is_the_file_without_its_last_line_break() -> Result<(), Box<dyn Error>> {
        let folder = tempfile::tempdir()?;
        for (bytes, text) in [("s3cret\n", "s3cret"), ("s3cret", "s3cret"), (" a b \n\n", " a b \n")] {
            let read = read(&secret(&folder, bytes.as_bytes(), 0o600)?)?;
            assert_eq!(read.as_str(), text);
            assert_eq!(format!("{read:?}"), "(secret)");
        }
        Ok(())
    }

    #[test]
    fn a_refusal_names_the_file_and_none_of_its_content() -> Result<(), Box<dyn Error>> {
        let folder = tempfile::tempdir()?;
        let long = vec![b'x'; 65 << 10];
        for (bytes, mode, part) in [
            (&b"s3cret"[..], 0o644, "read by everyone"),
            (b"\n", 0o600, "is empty"),
            (b"s3cret\xff", 0o600, "not UTF-8"),
            (&long, 0o600, "longer than"),
        ] {
            let secret = secret(&folder, bytes, mode)?;
            let error = read(&secret).err().map(|e| e.to_string()).unwrap_or_default();
            assert!(error.contains(part) && error.contains("/secret") && !error.contains("s3cret"), "{error}");
        }
        let folder_itself = Secret::File(folder.path().to_owned());
        assert!(read(&folder_itself).is_err());
        assert!(locate(&Secret::Credential("../shadow".to_owned())).is_err());
        Ok(())
    }
}
