//! The host's own keys: by the one others know what this host wrote, the other signs tokens.

use std::{
    fs,
    io::{self, Write},
    path::{Path, PathBuf},
};

use ssh_key::{
    Algorithm, LineEnding, PrivateKey,
    private::{Ed25519Keypair, KeypairData},
};

use super::{
    modes,
    secret::{self, SecretError},
};
use crate::model::{Host, host::Secret, token::SigningKey};

/// Why a key of the host cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// It cannot be read.
    #[error("a key of the host cannot be read")]
    Secret(#[from] SecretError),
    /// It cannot be made.
    #[error("cannot make the key {path}", path = path.display())]
    Io {
        /// Where.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// It is no key, or one of a kind that cannot sign here.
    #[error(
        "{path} holds no key that can sign here: {why}; an Ed25519 key of OpenSSH without a passphrase can",
        path = path.display()
    )]
    Unusable {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: ssh_key::Error,
    },
}

/// The host's key: the one that `snapshot.key` names, else its own below the data root, which is made where there is
/// none.
///
/// # Errors
/// It cannot be read or made, or cannot sign.
pub fn open(host: &Host) -> Result<PrivateKey, KeyError> {
    match &host.snapshot.key {
        Some(place) => read(place),
        None => own(host.data_root.join("host.key")),
    }
}

/// Where the key is that signs tokens, below the data root.
pub fn token_key(data_root: &Path) -> PathBuf {
    data_root.join("ingress.key")
}

/// The key that signs tokens for ingress, below the data root. It is made where there is none; whoever takes it away ends all
/// tokens.
///
/// # Errors
/// It cannot be read or made, or cannot sign.
pub fn for_tokens(data_root: &Path) -> Result<SigningKey, KeyError> {
    let path = token_key(data_root);
    let key = own(path.clone())?;
    let ed25519 = key.key_data().ed25519().ok_or(KeyError::Unusable { path, why: ssh_key::Error::AlgorithmUnknown })?;
    Ok(SigningKey::from_seed(&ed25519.private.to_bytes()))
}

/// A key of the host's own, which is made where there is none.
fn own(path: PathBuf) -> Result<PrivateKey, KeyError> {
    make(&path).map_err(|source| KeyError::Io { path: path.clone(), source })?;
    read(&Secret::File(path))
}

fn read(place: &Secret) -> Result<PrivateKey, KeyError> {
    let path = secret::locate(place)?;
    let text = secret::read(place)?;
    let unusable = |why| KeyError::Unusable { path: path.clone(), why };
    let key = PrivateKey::from_openssh(text.as_str()).map_err(unusable)?;
    match key.algorithm() {
        _ if key.is_encrypted() => Err(unusable(ssh_key::Error::Encrypted)),
        Algorithm::Ed25519 => Ok(key),
        other => Err(unusable(ssh_key::Error::AlgorithmUnsupported { algorithm: other })),
    }
}

/// Makes a key, whole or not at all. One that is there stays.
fn make(path: &Path) -> io::Result<()> {
    if path.try_exists()? {
        return Ok(());
    }
    let mut seed = [0; 32];
    random(&mut seed)?;
    let key = KeypairData::from(Ed25519Keypair::from_seed(&seed));
    let key = PrivateKey::new(key, "tenantd").and_then(|key| key.to_openssh(LineEnding::LF));
    let key = key.map_err(|e| io::Error::other(e.to_string()))?;
    if let Some(folder) = path.parent() {
        modes::make(folder, modes::FOLDER)?;
    }
    let new = path.with_extension(format!("new-{}", std::process::id()));
    let mut file = modes::create(&new)?;
    file.write_all(key.as_bytes())?;
    file.sync_all()?;
    // Of two that begin at once, one is first.
    let linked = fs::hard_link(&new, path);
    fs::remove_file(&new)?;
    match linked {
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        linked => linked,
    }
}

/// Fills a place with bytes that nobody can guess.
///
/// # Errors
/// The kernel has none.
pub fn random(bytes: &mut [u8; 32]) -> io::Result<()> {
    let filled = rustix::rand::getrandom(&mut bytes[..], rustix::rand::GetRandomFlags::empty())?;
    if filled < bytes.len() {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(())
}
