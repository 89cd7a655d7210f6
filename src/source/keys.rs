//! The keys that count on a host, of SSH and of GnuPG.

use std::{cell::OnceCell, env, path::PathBuf, process};

use super::{
    gpg::{GpgError, Keyring},
    signature::{Fault, Signed},
};
use crate::model::host::Verify;

/// What `verify` in `host.yaml` names. GnuPG's keyring is copied for the first signature that needs it.
pub struct Keys {
    verify: Verify,
    folder: PathBuf,
    keyring: OnceCell<Keyring>,
}

impl Keys {
    /// The keys of a host, for a command that checks signatures.
    pub fn new(verify: Verify) -> Self {
        Self::beside(verify, env::temp_dir().join(format!("tenantd-keys-{}", process::id())))
    }

    /// The same, with a place for the copy.
    pub(super) fn beside(verify: Verify, folder: PathBuf) -> Self {
        Self { verify, folder, keyring: OnceCell::new() }
    }

    /// Whether any key is known that a signature could be of.
    pub(super) fn may_know(&self, signed: &Signed) -> bool {
        match signed.is_pgp() {
            true => self.verify.gnupg_home.is_some(),
            false => !self.verify.signers.is_empty(),
        }
    }

    /// Who made a signature: `Ok(Err(_))` where it does not count.
    ///
    /// It blocks, for GnuPG some ten milliseconds.
    ///
    /// # Errors
    /// GnuPG cannot be asked.
    pub(super) fn signer(&self, signed: &Signed) -> Result<Result<String, Fault>, GpgError> {
        if !signed.is_pgp() {
            return Ok(signed.ssh_signer(&self.verify.signers).map(|signer| signer.name.clone()));
        }
        let keyring = match (self.keyring.get(), &self.verify.gnupg_home) {
            (Some(keyring), _) => keyring,
            (None, None) => return Ok(Err(Fault::NoKeyring)),
            (None, Some(home)) => {
                let copied = Keyring::copy(home, self.folder.clone())?;
                self.keyring.get_or_init(|| copied)
            }
        };
        keyring.signer(signed)
    }
}
