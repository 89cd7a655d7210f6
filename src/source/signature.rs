//! The signature in a commit, and whether one of the signers made it.
//!
//! The commit is taken apart here and not by libgit2, which looks for the signature in the message as
//! well, and leaves out of what is signed the beginning of any line that begins like it.

use ssh_key::{Algorithm, HashAlg, LineEnding, PublicKey, SshSig};

use super::text::plain;
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
    UnknownKey(String),
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
    #[error(
        "has a signature of a kind that is not read; that of one SSH key counts, or of GnuPG, but no certificate's"
    )]
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
    /// It has no signature, more than one, one that is not text, or one that is not the last header, where it is
    /// written: elsewhere it would make another commit by the same signature.
    pub(super) fn of(commit: &[u8]) -> Result<Self, Fault> {
        let mut signature: Option<Vec<u8>> = None;
        let mut content = Vec::with_capacity(commit.len());
        let mut rest = commit;
        let mut inside = false;
        let mut is_last = false;
        // The headers end with an empty line.
        while !rest.is_empty() && !rest.starts_with(b"\n") {
            let end = rest.iter().position(|byte| *byte == b'\n').map_or(rest.len(), |at| at + 1);
            let (line, after) = rest.split_at(end);
            rest = after;
            if inside && let Some(more) = line.strip_prefix(b" ") {
                signature.get_or_insert_default().extend_from_slice(more);
                continue;
            }
            (inside, is_last) = (false, false);
            match line.strip_prefix(HEADER) {
                Some(value) if value.first() == Some(&b' ') && signature.is_none() => {
                    signature = Some(value.get(1..).unwrap_or_default().to_vec());
                    (inside, is_last) = (true, true);
                }
                // A second one, or one for another kind of repository.
                Some(_) => return Err(Fault::Unreadable),
                None => content.extend_from_slice(line),
            }
        }
        content.extend_from_slice(rest);
        let signature = signature.ok_or(Fault::Unsigned)?;
        if !is_last {
            return Err(Fault::Unreadable);
        }
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
        let shown = || format!("{} {}", kind.as_str(), made_by.fingerprint(HashAlg::Sha256));
        let signer = signers
            .iter()
            .find(|signer| signer.key.get().key_data() == made_by)
            .ok_or_else(|| Fault::UnknownKey(shown()))?;
        if signature.namespace() != NAMESPACE {
            return Err(Fault::Namespace(plain(signature.namespace())));
        }
        PublicKey::from(made_by.clone())
            .verify(NAMESPACE, &self.content, &signature)
            .map_err(|_| Fault::Mismatch(shown()))?;
        if matches!(kind, Algorithm::SkEd25519 | Algorithm::SkEcdsaSha2NistP256) && !is_touched(&signature) {
            return Err(Fault::Untouched);
        }
        Ok(signer)
    }

    /// The signature, where it is written in the one way that programs write it: in lines of one of a few lengths, and
    /// nothing else. What says the same otherwise would be another commit by the same signature.
    fn ssh_signature(&self) -> Option<SshSig> {
        const BEGIN: &str = "-----BEGIN SSH SIGNATURE-----\n";
        const END: &str = "-----END SSH SIGNATURE-----\n";
        let body = self.signature.strip_prefix(BEGIN)?.strip_suffix(END)?;
        let base64: String = body.lines().collect();
        let signature = SshSig::from_pem(wrapped(BEGIN, &base64, LINES[0], END)).ok()?;
        let bytes: Vec<u8> = signature.to_pem(LineEnding::LF).ok()?.into_bytes();
        let same = LINES.into_iter().any(|length| self.signature == wrapped(BEGIN, &base64, length, END));
        // What decodes to the same bytes may be written in several ways as well.
        let canonical = bytes == wrapped(BEGIN, &base64, LINES[0], END).into_bytes();
        (same && canonical).then_some(signature)
    }
}

/// The lengths of lines: of `ssh-keygen`, of PEM and of MIME, which other programs keep to.
const LINES: [usize; 3] = [70, 64, 76];

/// Text in lines, between two others.
fn wrapped(begin: &str, text: &str, length: usize, end: &str) -> String {
    let mut armour = begin.to_owned();
    for (at, character) in text.chars().enumerate() {
        if at > 0 && at % length == 0 {
            armour.push('\n');
        }
        armour.push(character);
    }
    armour + "\n" + end
}

/// A security key signs a byte of flags and a counter of four bytes, which come after the signature.
fn is_touched(signature: &SshSig) -> bool {
    let bytes = signature.signature_bytes();
    bytes.len().checked_sub(5).and_then(|at| bytes.get(at)).is_some_and(|flags| flags & USER_PRESENT != 0)
}

#[cfg(test)]
mod tests {
    use sha2::{Digest, Sha256};
    use ssh_key::{
        PrivateKey, Signature, SigningKey,
        private::Ed25519Keypair,
        public::{KeyData, SkEd25519},
    };

    use super::*;

    const HEADERS: &str = "tree 0\nparent 1\nauthor a\ncommitter c\n";

    fn taken_apart(commit: &str) -> Result<(String, String), Fault> {
        Signed::of(commit.as_bytes()).map(|s| (s.signature, String::from_utf8_lossy(&s.content).into_owned()))
    }

    #[test]
    fn all_but_the_signature_is_what_it_signs() {
        let commit = format!("{HEADERS}encoding x\ngpgsig a\n b\n  c\n\nmessage\n\n gpgsig z\ngpgsig y\n");
        let content = format!("{HEADERS}encoding x\n\nmessage\n\n gpgsig z\ngpgsig y\n");
        assert_eq!(taken_apart(&commit), Ok(("a\nb\n c\n".to_owned(), content)));
    }

    #[test]
    fn only_one_signature_in_the_headers_is_one() {
        for (commit, fault) in [
            (String::new(), Fault::Unsigned),
            (HEADERS.to_owned(), Fault::Unsigned),
            (format!("{HEADERS}\ngpgsig a\n"), Fault::Unsigned),
            (format!("{HEADERS}gpgsig a\n b\nencoding x\n\n"), Fault::Unreadable),
            (format!("gpgsig a\n{HEADERS}\n"), Fault::Unreadable),
            (format!("{HEADERS}mergetag x\n gpgsig a\n\n"), Fault::Unsigned),
            (format!("{HEADERS}gpgsig a\ngpgsig b\n\n"), Fault::Unreadable),
            (format!("{HEADERS}gpgsig a\ngpgsig-sha256 b\n\n"), Fault::Unreadable),
            // libgit2 would leave the word out of what is signed, and so cut the parent off.
            (format!("{HEADERS}gpgsig a\n\n").replace("parent", "gpgsigparent"), Fault::Unreadable),
        ] {
            assert_eq!(taken_apart(&commit), Err(fault), "{commit}");
        }
    }

    /// The bytes of a plain signature.
    fn sign(key: &impl SigningKey, message: &[u8]) -> Option<Vec<u8>> {
        key.try_sign(message).ok().map(|signature| signature.as_bytes().to_vec())
    }

    /// A commit that a security key signed, whether someone touched it or not. The key is made up.
    fn signed_by_security_key(flags: u8) -> Option<(Signed, Signer)> {
        let pair = Ed25519Keypair::from_seed(&[7; 32]);
        let public = KeyData::SkEd25519(SkEd25519::new(pair.public, "ssh:"));
        let content = format!("{HEADERS}\nmessage\n").into_bytes();
        let counter = [0, 0, 0, 9];
        let inner = SshSig::signed_data(NAMESPACE, HashAlg::Sha512, &content).ok()?;
        let message = [&Sha256::digest(b"ssh:")[..], &[flags], &counter, &Sha256::digest(inner)].concat();
        let bytes = [&sign(&PrivateKey::from(pair), &message)?[..], &[flags], &counter].concat();
        let signature = Signature::new(Algorithm::SkEd25519, bytes).ok()?;
        let signature = SshSig::new(public.clone(), NAMESPACE, HashAlg::Sha512, signature).ok()?;
        let signed = Signed { signature: signature.to_pem(LineEnding::LF).ok()?, content };
        let key = PublicKey::from(public).to_openssh().ok()?.parse().ok()?;
        Some((signed, Signer { name: "ada".to_owned(), key }))
    }

    fn ada(signed: &Signed, signer: &Signer) -> Result<String, Fault> {
        signed.ssh_signer(std::slice::from_ref(signer)).map(|signer| signer.name.clone())
    }

    #[test]
    fn a_security_key_counts_when_someone_touched_it() -> Result<(), &'static str> {
        let (signed, signer) = signed_by_security_key(USER_PRESENT).ok_or("cannot sign")?;
        assert_eq!(ada(&signed, &signer), Ok("ada".to_owned()));
        let (mut signed, signer) = signed_by_security_key(0).ok_or("cannot sign")?;
        assert_eq!(ada(&signed, &signer), Err(Fault::Untouched));
        signed.content.push(b'x');
        assert!(matches!(ada(&signed, &signer), Err(Fault::Mismatch(_))));
        Ok(())
    }

    #[test]
    fn a_signature_counts_as_programs_write_it_and_in_no_other_form() -> Result<(), &'static str> {
        let (mut signed, signer) = signed_by_security_key(USER_PRESENT).ok_or("cannot sign")?;
        let written = signed.signature.clone();
        let lines: Vec<&str> = written.lines().collect();
        let [first, body @ .., last] = lines.as_slice() else { return Err("no armour") };
        let (base64, joined) = (body.concat(), |body: &str| format!("{first}\n{body}\n{last}\n"));
        for length in LINES {
            signed.signature = wrapped(&format!("{first}\n"), &base64, length, &format!("{last}\n"));
            assert_eq!(ada(&signed, &signer), Ok("ada".to_owned()), "{length}");
        }
        let two_joined = format!("{}{}\n{}", body[0], body[1], body[2..].join("\n"));
        let loose = base64.strip_suffix("==").or(base64.strip_suffix('=')).map(|text| {
            // The last character before the padding has bits that say nothing.
            let (head, end) = text.split_at(text.len() - 1);
            const ALPHABET: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
            let at = ALPHABET.find(end).unwrap_or_default();
            format!("{head}{}{}", &ALPHABET[at + 1..at + 2], &base64[text.len()..])
        });
        let mut other_forms = vec![
            joined(&two_joined),
            joined(&base64),
            joined(&body.join("\r\n")),
            joined(&format!("{}\n", body.join("\n"))),
            joined(&format!(" {}", body.join("\n"))),
            joined(&format!("{}=", body.join("\n"))),
            written.trim_end().to_owned(),
            format!("{written}\n"),
            format!("\n{written}"),
            written.replace("\n", "\r\n"),
        ];
        other_forms.extend(loose.map(|text| wrapped(&format!("{first}\n"), &text, LINES[0], &format!("{last}\n"))));
        for form in other_forms {
            assert_ne!(form, written);
            signed.signature.clone_from(&form);
            assert_eq!(ada(&signed, &signer), Err(Fault::Unreadable), "{form:?}");
        }
        Ok(())
    }
}
