//! Signatures of GnuPG, which GnuPG judges.

use std::{
    env,
    fs::{self, DirBuilder},
    io,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
    time::Duration,
};

use tokio::process::Command;

use super::{
    process::{self, RunError, wait_for},
    signature::{Fault, Signed},
    text::plain,
};

/// How long one signature may take.
const LIMIT: Duration = Duration::from_secs(30);

/// The files of a keyring, in GnuPG's two forms.
const KEYRINGS: [&str; 2] = ["pubring.kbx", "pubring.gpg"];

/// The largest keyring, in bytes.
const MAX_KEYRING: u64 = 64 << 20;

/// What GnuPG says of a signature that does not count.
const REFUSALS: [(&str, &str); 8] = [
    ("BADSIG", "it does not match what the commit holds"),
    ("EXPSIG", "it has expired"),
    ("EXPKEYSIG", "its key has expired"),
    ("REVKEYSIG", "its key was revoked"),
    ("NO_PUBKEY", "its key is not in the keyring of verify.gnupgHome"),
    ("ERRSIG", "it cannot be checked"),
    ("NODATA", "it is not a signature"),
    ("FAILURE", "GnuPG failed"),
];

/// A copy of a keyring's public keys, which is gone when this is dropped.
///
/// GnuPG writes locks and a trust database into its folder, obeys the options that lie there, and can
/// start processes for it that stay. In the copy there is nothing but keys.
pub(super) struct Keyring {
    folder: PathBuf,
}

/// Why GnuPG could not be asked.
#[derive(Debug, thiserror::Error)]
pub enum GpgError {
    /// There is no keyring.
    #[error("{folder} holds neither pubring.kbx nor pubring.gpg", folder = .0.display())]
    NoKeyring(PathBuf),
    /// The keyring cannot be copied.
    #[error("cannot read the keyring in {folder}", folder = folder.display())]
    Io {
        /// The folder that host.yaml names.
        folder: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// GnuPG cannot be run.
    #[error("cannot run gpg")]
    Run(#[source] io::Error),
    /// It took too long.
    #[error("GnuPG took longer than {LIMIT:?} for one signature")]
    TimedOut,
}

impl Keyring {
    /// Copies the public keys of `home` into `folder`.
    ///
    /// # Errors
    /// There are none, or they cannot be copied.
    pub(super) fn copy(home: &Path, folder: PathBuf) -> Result<Self, GpgError> {
        let failed = |source| GpgError::Io { folder: home.to_owned(), source };
        match fs::remove_dir_all(&folder) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(failed(e)),
            _ => {}
        }
        DirBuilder::new().mode(0o700).create(&folder).map_err(failed)?;
        let keyring = Self { folder };
        let mut found = false;
        for name in KEYRINGS {
            match fs::metadata(home.join(name)) {
                Ok(metadata) if metadata.is_file() && metadata.len() <= MAX_KEYRING => {
                    fs::copy(home.join(name), keyring.folder.join(name)).map_err(failed)?;
                    found = true;
                }
                Ok(_) => return Err(failed(io::Error::other(format!("{name} is not a file of up to 64 MiB")))),
                Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                Err(e) => return Err(failed(e)),
            }
        }
        if found { Ok(keyring) } else { Err(GpgError::NoKeyring(home.to_owned())) }
    }

    /// Asks who made a signature: `Ok(Err(_))` where it does not count.
    ///
    /// # Errors
    /// GnuPG cannot be asked.
    pub(super) fn signer(&self, signed: &Signed) -> Result<Result<String, Fault>, GpgError> {
        let failed = |source| GpgError::Io { folder: self.folder.clone(), source };
        let [signature, content] = ["signature", "content"].map(|name| self.folder.join(name));
        fs::write(&signature, &signed.signature).map_err(failed)?;
        fs::write(&content, &signed.content).map_err(failed)?;
        let mut command = Command::new("gpg");
        command.env_clear().env("LC_ALL", "C").envs(env::var_os("PATH").map(|path| ("PATH", path)));
        // It reads nobody's settings, fetches no keys and starts nothing that stays.
        command.args(["--no-options", "--batch", "--no-tty", "--no-autostart", "--disable-dirmngr"]);
        command.args(["--no-auto-key-retrieve", "--status-fd", "1", "--homedir"]).arg(&self.folder);
        command.arg("--verify").args([signature, content]).current_dir(&self.folder);
        match wait_for(process::run(command, LIMIT)).map_err(GpgError::Run)? {
            Ok(ended) => Ok(judge(ended.success, &ended.output, &ended.complaint)),
            Err(RunError::TimedOut) => Err(GpgError::TimedOut),
            Err(RunError::Missing) => Err(GpgError::Run(io::ErrorKind::NotFound.into())),
            Err(RunError::Io(e)) => Err(GpgError::Run(e)),
        }
    }
}

impl Drop for Keyring {
    fn drop(&mut self) {
        // It holds public keys; the next copy takes its place.
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// Reads what GnuPG reports in lines that begin with `[GNUPG:]`: one good signature by a key that is
/// valid now, and nothing against it.
fn judge(success: bool, report: &str, complaint: &str) -> Result<String, Fault> {
    let lines: Vec<&str> = report.lines().filter_map(|line| line.strip_prefix("[GNUPG:] ")).collect();
    let all = |word: &str| {
        let of = |line: &&str| line.split(' ').next() == Some(word);
        lines.iter().copied().filter(of).collect::<Vec<_>>()
    };
    for (word, why) in REFUSALS {
        if !all(word).is_empty() {
            return Err(Fault::Gpg(why.to_owned()));
        }
    }
    match (success, all("GOODSIG").as_slice(), all("VALIDSIG").as_slice()) {
        (true, [good], [valid]) => {
            // `GOODSIG keyid user id`, and `VALIDSIG` with the main key's fingerprint at its end.
            let user = good.splitn(3, ' ').nth(2).unwrap_or_default();
            let fingerprint = valid.rsplit(' ').next().unwrap_or_default();
            Ok(plain(&format!("{user} {fingerprint}")))
        }
        _ => {
            let last = complaint.lines().map(str::trim).rfind(|line| !line.is_empty());
            Err(Fault::Gpg(plain(last.unwrap_or("GnuPG gave no reason"))))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "[GNUPG:] NEWSIG\n[GNUPG:] KEY_CONSIDERED AA 0\n[GNUPG:] GOODSIG 0123 Ada <ada@example.com>\n\
                        [GNUPG:] VALIDSIG BB 2026-01-01 1 0 4 0 22 8 00 AA\n[GNUPG:] TRUST_UNDEFINED 0 pgp\n";

    #[test]
    fn one_good_signature_counts_and_nothing_else_does() {
        assert_eq!(judge(true, GOOD, ""), Ok("Ada <ada@example.com> AA".to_owned()));
        for (success, report) in [
            (false, GOOD.to_owned()),
            (true, GOOD.repeat(2)),
            (true, GOOD.replace("VALIDSIG", "OTHER")),
            (true, GOOD.replace("GOODSIG", "EXPKEYSIG")),
            (true, GOOD.replace("GOODSIG", "REVKEYSIG")),
            (true, GOOD.replace("[GNUPG:] ", "")),
            (true, format!("{GOOD}[GNUPG:] BADSIG 0123 Eve\n")),
            (true, String::new()),
        ] {
            assert!(judge(success, &report, "").is_err(), "{report}");
        }
    }
}
