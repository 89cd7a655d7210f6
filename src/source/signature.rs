//! The signature in a commit, and whether one of the signers made it.
//!
//! The commit is taken apart here and not by libgit2, which looks for the signature in the message as
//! well, and leaves out of what is signed the beginning of any line that begins like it.

use ssh_key::{Algorithm, HashAlg, PublicKey, SshSig};

use crate::model::host::Signer;

/// What git signs commits for. A signature that someone made for something else does not count.
const NAMESPACE: &str = "git";

/// The bit that a security key sets when a person touched it.
const USER_PRESENT: u8 = 1;

/// The header of a signature, and of one in a repository of SHA-256.
const HEADER: &[u8] = b"gpgsig";

/// What is wrong with a commit's signature.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// There is none.
    #[error("is not signed")]
    Unsigned,
    /// It is of a key that does not count.
    #[error("is signed with the key {0}, which is not among verify.signers")]
    Stranger(String),
    /// It is of a certificate.
    #[error("is signed with an SSH certificate; certificates do not count, a key in verify.signers does")]
    Certificate,
    /// It is not of what the commit holds.
    #[error("has a signature of {0} that does not match what it holds")]
    Mismatch(String),
    /// It was made for another purpose.
    #[error("has a signature that was made for {0:?} and not for git")]
    Namespace(String),
    /// Nobody touched the security key.
    #[error("is signed with a security key that nobody touched")]
    Untouched,
    /// It cannot be read.
    #[error("has a signature that cannot be read")]
    Unreadable,
    /// It is of GnuPG, and no keyring is named.
    #[error("is signed with GnuPG, and verify.gnupgHome names no keyring")]
    NoKeyring,
    /// GnuPG does not take it for a good one.
    #[error("has a GnuPG signature that does not count: {0}")]
    Gpg(String),
}

/// A commit's signature and all the rest, which is what it signs.
pub(super) struct Signed {
    pub(super) signature: String,
    pub(super) content: Vec<u8>,
}

impl Signed {
    /// Takes a commit apart.
    ///
    /// # Errors
    /// It has no signature, more than one, or one that is not text.
    pub(super) fn of(commit: &[u8]) -> Result<Self, Fault> {
        let mut signature: Option<Vec<u8>> = None;
        let mut content = Vec::with_capacity(commit.len());
        let mut rest = commit;
        let mut inside = false;
        // The headers end with an empty line.
        while !rest.is_empty() && !rest.starts_with(b"\n") {
            let end = rest.iter().position(|byte| *byte == b'\n').map_or(rest.len(), |at| at + 1);
            let (line, after) = rest.split_at(end);
            rest = after;
            if inside && let Some(more) = line.strip_prefix(b" ") {
                signature.get_or_insert_default().extend_from_slice(more);
                continue;
            }
            inside = false;
            match line.strip_prefix(HEADER) {
                Some(value) if value.first() == Some(&b' ') && signature.is_none() => {
                    signature = Some(value.get(1..).unwrap_or_default().to_vec());
                    inside = true;
                }
                // A second one, or one for another kind of repository.
                Some(_) => return Err(Fault::Unreadable),
                None => content.extend_from_slice(line),
            }
        }
        content.extend_from_slice(rest);
        let signature = signature.ok_or(Fault::Unsigned)?;
        Ok(Self { signature: String::from_utf8(signature).map_err(|_| Fault::Unreadable)?, content })
    }

    /// Whether GnuPG has to judge it.
    pub(super) fn is_pgp(&self) -> bool {
        self.signature.starts_with("-----BEGIN PGP ")
    }

    /// The signer whose SSH key made the signature.
    ///
    /// # Errors
    /// None of them did, or it does not match.
    pub(super) fn ssh_signer<'s>(&self, signers: &'s [Signer]) -> Result<&'s Signer, Fault> {
        let signature = self.ssh_signature().ok_or(Fault::Unreadable)?;
        let made_by = signature.public_key();
        let kind = made_by.algorithm();
        if kind.as_str().contains("-cert-v01@") {
            return Err(Fault::Certificate);
        }
        let shown = || format!("{} {}", kind.as_str(), made_by.fingerprint(HashAlg::Sha256));
        let signer = signers
            .iter()
            .find(|signer| signer.key.get().key_data() == made_by)
            .ok_or_else(|| Fault::Stranger(shown()))?;
        if signature.namespace() != NAMESPACE {
            return Err(Fault::Namespace(super::fetch::plain(signature.namespace())));
        }
        PublicKey::from(made_by.clone())
            .verify(NAMESPACE, &self.content, &signature)
            .map_err(|_| Fault::Mismatch(shown()))?;
        if matches!(kind, Algorithm::SkEd25519 | Algorithm::SkEcdsaSha2NistP256) && !is_touched(&signature) {
            return Err(Fault::Untouched);
        }
        Ok(signer)
    }

    /// The signature in its armour, whose lines may have any length.
    fn ssh_signature(&self) -> Option<SshSig> {
        const BEGIN: &str = "-----BEGIN SSH SIGNATURE-----";
        const END: &str = "-----END SSH SIGNATURE-----";
        const LINE: usize = 70;
        let body = self.signature.trim().strip_prefix(BEGIN)?.strip_suffix(END)?;
        let base64: Vec<u8> = body.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
        let mut armour = format!("{BEGIN}\n");
        for line in base64.chunks(LINE) {
            armour.push_str(std::str::from_utf8(line).ok()?);
            armour.push('\n');
        }
        armour.push_str(END);
        armour.push('\n');
        SshSig::from_pem(armour).ok()
    }
}

/// A security key signs a byte of flags and a counter of four bytes, which come after the signature.
fn is_touched(signature: &SshSig) -> bool {
    let bytes = signature.signature_bytes();
    bytes.len().checked_sub(5).and_then(|at| bytes.get(at)).is_some_and(|flags| flags & USER_PRESENT != 0)
}
