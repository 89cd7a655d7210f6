//! Whose commits count: real signatures, each rule with the commit that breaks it.

use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use tempfile::TempDir;
use tenantd::{
    model::host::{Signer, Verify, VerifyMode},
    source::{Fault, Mirror, Relation, VerifyError},
};

use crate::{
    origin::{Origin, fetch, git, git_at, of_url},
    world::chain,
};

/// An SSH key pair in a folder.
pub struct Key {
    file: PathBuf,
}

impl Key {
    pub fn new(folder: &Path, name: &str, kind: &[&str]) -> Self {
        let file = folder.join(name);
        let made =
            Command::new("ssh-keygen").args(["-q", "-N", "", "-C", name, "-f"]).arg(&file).args(kind).status().unwrap();
        assert!(made.success());
        Self { file }
    }

    pub fn public(&self) -> String {
        fs::read_to_string(self.file.with_extension("pub")).unwrap().trim_end().to_owned()
    }

    /// git's options to sign with it.
    pub fn options(&self) -> Vec<String> {
        let key = format!("user.signingkey={}", self.file.display());
        ["-c", "gpg.format=ssh", "-c", &key, "-c", "commit.gpgsign=true"].map(str::to_owned).into()
    }

    /// Signs bytes for a purpose.
    fn sign(&self, namespace: &str, content: &[u8]) -> String {
        let mut signing = Command::new("ssh-keygen")
            .args(["-q", "-Y", "sign", "-n", namespace, "-f"])
            .arg(&self.file)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        signing.stdin.take().unwrap().write_all(content).unwrap();
        String::from_utf8(signing.wait_with_output().unwrap().stdout).unwrap()
    }
}

/// A source, Ada whose key counts, and Eve whose key does not.
struct Signed {
    origin: Origin,
    ada: Key,
    eve: Key,
    mirror: Mirror,
}

impl Signed {
    fn new() -> Self {
        let origin = Origin::new();
        let ada = Key::new(origin.folder(), "ada", &["-t", "ed25519"]);
        let eve = Key::new(origin.folder(), "eve", &["-t", "ed25519"]);
        let mirror = origin.mirror();
        Self { origin, ada, eve, mirror }
    }

    fn verify(&self, mode: VerifyMode) -> Verify {
        Verify { mode, signers: vec![signer("ada", &self.ada)], gnupg_home: None, since: None }
    }

    /// Commits and pushes a file, signed or not.
    fn push(&self, text: &str, key: Option<&Key>) -> String {
        let options = key.map(Key::options).unwrap_or_default();
        let commit = self.origin.commit("fleet.yaml", text, &options.iter().map(String::as_str).collect::<Vec<_>>());
        self.origin.push();
        commit
    }

    /// Makes a commit of a raw object the head.
    fn push_raw(&self, raw: &[u8]) -> String {
        fs::write(self.origin.folder().join("raw"), raw).unwrap();
        let commit = git(&self.origin.bare, &["hash-object", "-t", "commit", "-w", "../raw"]);
        git(&self.origin.bare, &["update-ref", "refs/heads/main", &commit]);
        commit
    }

    fn raw(&self, commit: &str) -> String {
        let text = git(&self.origin.bare, &["cat-file", "commit", commit]);
        format!("{text}\n")
    }

    /// Fetches the head and verifies it in a mode.
    fn judge(&self, mode: VerifyMode, accepted: Option<&str>) -> Result<Option<String>, VerifyError> {
        self.judge_by(&self.verify(mode), accepted)
    }

    fn judge_by(&self, verify: &Verify, accepted: Option<&str>) -> Result<Option<String>, VerifyError> {
        let head = fetch(&self.mirror).unwrap();
        self.mirror.verify(verify, accepted, &head)
    }

    /// What is wrong with the head alone.
    fn fault(&self) -> Fault {
        match self.judge(VerifyMode::Head, None) {
            Err(VerifyError::Commit { fault, .. }) => fault,
            other => panic!("{other:?}"),
        }
    }
}

fn signer(name: &str, key: &Key) -> Signer {
    Signer { name: name.to_owned(), key: key.public().parse().unwrap() }
}

fn ada() -> Option<String> {
    Some("ada".to_owned())
}

#[test]
fn a_head_that_a_signer_signed_counts() {
    let signed = Signed::new();
    let first = signed.push("one\n", Some(&signed.ada));
    assert_eq!(signed.judge(VerifyMode::All, None).unwrap(), ada());
    signed.push("two\n", Some(&signed.ada));
    for mode in [VerifyMode::Head, VerifyMode::All] {
        assert_eq!(signed.judge(mode, None).unwrap(), ada());
        assert_eq!(signed.judge(mode, Some(&first)).unwrap(), ada());
    }
    assert_eq!(signed.judge(VerifyMode::None, None).unwrap(), None);
}

#[test]
fn every_kind_of_key_that_is_taken_counts() {
    let signed = Signed::new();
    let p256 = Key::new(signed.origin.folder(), "p256", &["-t", "ecdsa", "-b", "256"]);
    signed.push("one\n", Some(&p256));
    let verify = Verify { signers: vec![signer("p256", &p256)], ..signed.verify(VerifyMode::All) };
    assert_eq!(signed.judge_by(&verify, None).unwrap().as_deref(), Some("p256"));
}

#[test]
fn a_head_that_is_not_signed_is_refused_with_its_name() {
    let signed = Signed::new();
    let first = signed.push("one\n", Some(&signed.ada));
    let second = signed.push("two \u{1b}[31m\n", None);
    for mode in [VerifyMode::Head, VerifyMode::All] {
        let error = signed.judge(mode, Some(&first)).unwrap_err();
        let text = chain(&error);
        assert_eq!(text, format!("the commit {} (\"fleet.yaml: two \\u{{1b}}[31m\") is not signed", &second[..12]));
    }
    assert_eq!(signed.judge(VerifyMode::None, Some(&first)).unwrap(), None);
}

#[test]
fn an_unknown_key_is_refused_with_its_fingerprint() {
    let signed = Signed::new();
    signed.push("one\n", Some(&signed.eve));
    let fingerprint = signer("eve", &signed.eve).key.fingerprint();
    assert_eq!(signed.fault(), Fault::UnknownKey(format!("ssh-ed25519 {fingerprint}")));
    let rsa = Key::new(signed.origin.folder(), "rsa", &["-t", "rsa"]);
    signed.push("two\n", Some(&rsa));
    assert!(matches!(signed.fault(), Fault::UnknownKey(key) if key.starts_with("ssh-rsa SHA256:")));
}

#[test]
fn a_key_that_the_repository_brings_never_counts() {
    let signed = Signed::new();
    let allowed = format!("* {}\n", signed.eve.public());
    signed.origin.commit("allowed_signers", &allowed, &[]);
    signed.push("signers:\n", Some(&signed.eve));
    for (key, value) in [("gpg.ssh.allowedSignersFile", "allowed_signers"), ("user.signingkey", &signed.eve.public())] {
        git(&signed.origin.bare, &["config", key, value]);
    }
    assert!(matches!(signed.fault(), Fault::UnknownKey(_)));
    // Nor does one that names itself after a signer.
    let unknown = Key::new(&signed.origin.work, "ada", &["-t", "ed25519"]);
    signed.push("two\n", Some(&unknown));
    assert!(matches!(signed.fault(), Fault::UnknownKey(_)));
}

#[test]
fn a_commit_that_was_changed_after_it_was_signed_is_refused() {
    let signed = Signed::new();
    let commit = signed.push("one\n", Some(&signed.ada));
    let raw = signed.raw(&commit);
    signed.push_raw(raw.replace("fleet.yaml: one", "fleet.yaml: two").as_bytes());
    assert!(matches!(signed.fault(), Fault::Mismatch(_)));
    // A signature of one commit on another one.
    let signature = &raw[raw.find("gpgsig ").unwrap()..raw.find("\n\n").unwrap()];
    let other = signed.push("two\n", None);
    signed.push_raw(signed.raw(&other).replacen("\n\n", &format!("\n{signature}\n\n"), 1).as_bytes());
    assert!(matches!(signed.fault(), Fault::Mismatch(_)));
    // A second signature, and one that is hidden in the message.
    let twice = raw.replacen("gpgsig ", &format!("{signature}\ngpgsig "), 1);
    let unsigned = raw.replacen(&format!("{signature}\n"), "", 1);
    let hidden = format!("{unsigned}\n{signature}\n");
    for (raw, fault) in [(twice, Fault::Unreadable), (hidden, Fault::Unsigned)] {
        signed.push_raw(raw.as_bytes());
        assert_eq!(signed.fault(), fault);
    }
}

/// Puts a signature into a raw commit, as git does.
fn with_signature(raw: &str, signature: &str) -> String {
    let header = signature.trim_end().replace('\n', "\n ");
    raw.replacen("\n\n", &format!("\ngpgsig {header}\n\n"), 1)
}

#[test]
fn a_signature_for_another_purpose_is_refused() {
    let signed = Signed::new();
    let commit = signed.push("one\n", None);
    let raw = signed.raw(&commit);
    signed.push_raw(with_signature(&raw, &signed.ada.sign("git", raw.as_bytes())).as_bytes());
    assert_eq!(signed.judge(VerifyMode::Head, None).unwrap(), ada());
    signed.push_raw(with_signature(&raw, &signed.ada.sign("file", raw.as_bytes())).as_bytes());
    assert_eq!(signed.fault(), Fault::Namespace("file".to_owned()));
    signed
        .push_raw(with_signature(&raw, "-----BEGIN SSH SIGNATURE-----\nAAAA\n-----END SSH SIGNATURE-----").as_bytes());
    assert_eq!(signed.fault(), Fault::Unreadable);
    signed.push_raw(
        with_signature(&raw, "-----BEGIN SIGNED MESSAGE-----\nAAAA\n-----END SIGNED MESSAGE-----").as_bytes(),
    );
    assert_eq!(signed.fault(), Fault::Unreadable);
}

#[test]
fn a_certificate_does_not_count() {
    let signed = Signed::new();
    let certified = Command::new("ssh-keygen")
        .args(["-q", "-I", "ada", "-n", "ada", "-s"])
        .arg(&signed.eve.file)
        .arg(signed.ada.file.with_extension("pub"))
        .status()
        .unwrap();
    assert!(certified.success());
    let commit = signed.push("one\n", None);
    let raw = signed.raw(&commit);
    let certificate = Key { file: signed.origin.folder().join("ada-cert.pub") };
    fs::copy(&signed.ada.file, signed.origin.folder().join("ada-cert")).unwrap();
    let signature = certificate.sign("git", raw.as_bytes());
    assert!(signature.contains("SSH SIGNATURE"), "{signature}");
    signed.push_raw(with_signature(&raw, &signature).as_bytes());
    assert_eq!(signed.fault(), Fault::Unreadable);
}

#[test]
fn each_commit_since_the_accepted_one_counts() {
    let signed = Signed::new();
    let first = signed.push("one\n", Some(&signed.ada));
    let unsigned = signed.push("two\n", None);
    let head = signed.push("three\n", Some(&signed.ada));
    let error = signed.judge(VerifyMode::All, Some(&first)).unwrap_err();
    assert!(chain(&error).starts_with(&format!("the commit {} ", &unsigned[..12])), "{error}");
    // What was accepted, and all before it, is not looked at again.
    assert_eq!(signed.judge(VerifyMode::All, Some(&unsigned)).unwrap(), ada());
    assert_eq!(signed.judge(VerifyMode::All, Some(&head)).unwrap(), ada());
    assert_eq!(signed.judge(VerifyMode::Head, Some(&first)).unwrap(), ada());
}

#[test]
fn a_signed_merge_carries_unsigned_commits_in_only_if_the_mode_says_so() {
    let signed = Signed::new();
    let first = signed.push("one\n", Some(&signed.ada));
    git(&signed.origin.work, &["checkout", "--quiet", "-b", "side"]);
    let side = signed.origin.commit("tenants/eve.yaml", "eve\n", &[]);
    git(&signed.origin.work, &["checkout", "--quiet", "main"]);
    let mut merge = signed.ada.options();
    merge.extend(["merge", "--quiet", "--no-ff", "--message", "merge", "side"].map(str::to_owned));
    git(&signed.origin.work, &merge.iter().map(String::as_str).collect::<Vec<_>>());
    signed.origin.push();
    assert_eq!(signed.judge(VerifyMode::Head, Some(&first)).unwrap(), ada());
    let error = signed.judge(VerifyMode::All, Some(&first)).unwrap_err();
    assert!(chain(&error).starts_with(&format!("the commit {} ", &side[..12])), "{error}");
}

#[test]
fn what_an_accepted_head_carried_in_may_not_become_the_head() {
    let signed = Signed::new();
    signed.push("one\n", Some(&signed.ada));
    let unsigned = signed.push("two\n", None);
    let accepted = signed.push("three\n", Some(&signed.ada));
    assert_eq!(signed.judge(VerifyMode::Head, None).unwrap(), ada());
    git(&signed.origin.bare, &["update-ref", "refs/heads/main", &unsigned]);
    assert_eq!(signed.fault(), Fault::Unsigned);
    let error = signed.judge(VerifyMode::Head, Some(&accepted)).unwrap_err();
    assert!(matches!(error, VerifyError::Commit { .. }), "{error:?}");
    // One that is in force already stays there when the mode changes.
    assert_eq!(signed.judge(VerifyMode::Head, Some(&unsigned)).unwrap(), None);
}

#[test]
fn history_before_the_first_accepted_commit_counts_up_to_since() {
    let signed = Signed::new();
    let unsigned = signed.push("one\n", None);
    let error = signed.judge(VerifyMode::All, None).unwrap_err();
    assert!(chain(&error).contains("verify.since can name"), "{error}");
    let since = Verify { since: Some(unsigned.clone()), ..signed.verify(VerifyMode::All) };
    // Nothing need be signed up to it, itself included.
    assert_eq!(signed.judge_by(&since, None).unwrap(), None);
    signed.push("two\n", Some(&signed.ada));
    assert!(signed.judge(VerifyMode::All, None).is_err());
    assert_eq!(signed.judge_by(&since, None).unwrap(), ada());
    signed.push("three\n", None);
    assert!(signed.judge_by(&since, None).is_err());
    let unknown = Verify { since: Some("1".repeat(40)), ..since };
    let error = signed.judge_by(&unknown, None).unwrap_err();
    assert!(chain(&error).contains("verify.since names a commit that the source does not have"), "{error}");
}

#[test]
fn an_old_head_that_is_shown_again_needs_an_operator() {
    let signed = Signed::new();
    let first = signed.push("one\n", Some(&signed.ada));
    let second = signed.push("two\n", Some(&signed.ada));
    fetch(&signed.mirror).unwrap();
    git(&signed.origin.bare, &["update-ref", "refs/heads/main", &first]);
    for mode in [VerifyMode::Head, VerifyMode::All] {
        let error = signed.judge(mode, Some(&second)).unwrap_err();
        assert!(matches!(&error, VerifyError::NonFastForward { signer: Some(name), .. } if name == "ada"), "{error:?}");
    }
    assert_eq!(signed.mirror.relation(&second, &first).unwrap(), Relation::NonFastForward);
    // A rewritten branch is one as well, once all of it is signed.
    git(&signed.origin.work, &["reset", "--quiet", "--hard", &first]);
    signed.push("unsigned\n", None);
    assert!(matches!(signed.judge(VerifyMode::All, Some(&second)), Err(VerifyError::Commit { .. })));
    git(&signed.origin.work, &["reset", "--quiet", "--hard", &first]);
    signed.push("other\n", Some(&signed.ada));
    assert!(matches!(signed.judge(VerifyMode::All, Some(&second)), Err(VerifyError::NonFastForward { .. })));
    // So is one after which the accepted commit is not known any more.
    assert!(matches!(signed.judge(VerifyMode::All, Some(&"1".repeat(40))), Err(VerifyError::NonFastForward { .. })));
}

#[test]
fn what_a_shallow_source_leaves_out_is_not_taken_for_signed() {
    let signed = Signed::new();
    let first = signed.push("one\n", Some(&signed.ada));
    let second = signed.push("two\n", Some(&signed.ada));
    let third = signed.push("three\n", Some(&signed.ada));
    let url = format!("file://{}", signed.origin.bare.display());
    git(signed.origin.folder(), &["clone", "--quiet", "--bare", "--depth=2", &url, "shallow.git"]);
    let shallow = signed.origin.folder().join("shallow.git");
    let mirror = signed.origin.mirror_of(&of_url(shallow.to_str().unwrap()));
    assert_eq!(fetch(&mirror).unwrap(), third);
    let all = signed.verify(VerifyMode::All);
    for accepted in [None, Some(first.as_str())] {
        let error = mirror.verify(&all, accepted, &third).unwrap_err();
        assert!(matches!(&error, VerifyError::Shallow(cut) if *cut == second[..12]), "{error:?}");
    }
    assert_eq!(mirror.verify(&all, Some(&second), &third).unwrap(), ada());
    let head = signed.verify(VerifyMode::Head);
    assert_eq!(mirror.verify(&head, None, &third).unwrap(), ada());
    // Whether it continues what was accepted cannot be told.
    assert!(matches!(mirror.verify(&head, Some(&first), &third), Err(VerifyError::Shallow(_))));
}

/// A GnuPG folder with a key, whose agent ends with it.
pub struct Gpg {
    pub home: PathBuf,
    _folder: TempDir,
}

impl Gpg {
    /// Makes a key that expired long ago, or one that does not expire.
    pub fn new(user: &str, is_expired: bool) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let gpg = Self { home: folder.path().join("g"), _folder: folder };
        fs::create_dir(&gpg.home).unwrap();
        fs::set_permissions(&gpg.home, std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
        let time: &[&str] = if is_expired { &["--faked-system-time", "20200101T000000"] } else { &[] };
        let until = if is_expired { "1d" } else { "never" };
        let key = ["--batch", "--quiet", "--passphrase", "", "--quick-generate-key", user, "ed25519", "sign", until];
        gpg.run(&[time, &key].concat());
        gpg
    }

    fn run(&self, arguments: &[&str]) {
        let output = Command::new("gpg").arg("--homedir").arg(&self.home).args(arguments).output().unwrap();
        assert!(output.status.success(), "gpg {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    }

    /// What makes git sign a commit by it, at the time of an expired key if it is one.
    pub fn options(&self, is_expired: bool) -> Vec<String> {
        let program = self.home.join("sign");
        let time = if is_expired { "--faked-system-time 20200101T010000" } else { "" };
        fs::write(&program, format!("#!/bin/sh\nexec gpg --homedir {} {time} \"$@\"\n", self.home.display())).unwrap();
        fs::set_permissions(&program, std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
        let program = format!("gpg.program={}", program.display());
        ["-c", &program, "-c", "commit.gpgsign=true", "-c", "user.signingkey=Ada"].map(str::to_owned).into()
    }

    /// Commits and pushes a file with its signature.
    fn push(&self, origin: &Origin, text: &str, is_expired: bool) -> String {
        let options = self.options(is_expired);
        let options: Vec<&str> = options.iter().map(String::as_str).collect();
        let commit = origin.commit("fleet.yaml", text, &options);
        origin.push();
        commit
    }

    /// What the key's own revocation makes of the keyring.
    fn revoke(&self) {
        let folder = fs::read_dir(self.home.join("openpgp-revocs.d")).unwrap().next().unwrap().unwrap().path();
        let text = fs::read_to_string(&folder).unwrap().replace(":-----BEGIN", "-----BEGIN");
        let file = self.home.join("revocation");
        fs::write(&file, text).unwrap();
        self.run(&["--batch", "--quiet", "--import", file.to_str().unwrap()]);
    }

    /// The names and sizes of what lies in the folder.
    fn content(&self) -> Vec<(PathBuf, u64)> {
        let entries = fs::read_dir(&self.home).unwrap().map(|entry| entry.unwrap());
        let mut content: Vec<_> = entries.map(|entry| (entry.path(), entry.metadata().unwrap().len())).collect();
        content.sort();
        content
    }
}

impl Drop for Gpg {
    fn drop(&mut self) {
        let _ = Command::new("gpgconf").arg("--homedir").arg(&self.home).args(["--kill", "all"]).status();
    }
}

/// What is wrong with the head by the keys of a GnuPG folder.
fn gpg_fault(signed: &Signed, home: &Path) -> String {
    let verify = Verify { gnupg_home: Some(home.to_owned()), ..signed.verify(VerifyMode::Head) };
    match signed.judge_by(&verify, None) {
        Err(VerifyError::Commit { fault: Fault::Gpg(why), .. }) => why,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_gnupg_key_counts_while_it_is_good() {
    let signed = Signed::new();
    let gpg = Gpg::new("Ada <ada@example.com>", false);
    signed.push("one\n", Some(&signed.ada));
    let commit = gpg.push(&signed.origin, "two\n", false);
    let verify = Verify { gnupg_home: Some(gpg.home.clone()), ..signed.verify(VerifyMode::All) };
    let before = gpg.content();
    let name = signed.judge_by(&verify, None).unwrap().unwrap();
    let (user, fingerprint) = name.rsplit_once(' ').unwrap();
    assert_eq!(user, "Ada <ada@example.com>");
    assert!(fingerprint.len() == 40 && fingerprint.bytes().all(|byte| byte.is_ascii_hexdigit()), "{name}");
    // The keyring is left as it was, and the copy of it is gone.
    assert_eq!(gpg.content(), before);
    assert!(!signed.origin.mirror_folder().join("gnupg").exists());

    // A commit that was changed, a keyring without the key, none, and one that is not there.
    signed.push_raw(signed.raw(&commit).replace("fleet.yaml: two", "fleet.yaml: three").as_bytes());
    assert_eq!(gpg_fault(&signed, &gpg.home), "it does not match what the commit holds");
    git(&signed.origin.bare, &["update-ref", "refs/heads/main", &commit]);
    let other = Gpg::new("Ada <ada@example.com>", false);
    assert_eq!(gpg_fault(&signed, &other.home), "its key is not in the keyring of verify.gnupgHome");
    assert_eq!(signed.fault(), Fault::NoKeyring);
    let nowhere = Verify { gnupg_home: Some(PathBuf::from("/nonexistent")), ..verify };
    assert!(matches!(signed.judge_by(&nowhere, None), Err(VerifyError::Gpg { .. })));

    gpg.revoke();
    assert_eq!(gpg_fault(&signed, &gpg.home), "its key was revoked");
}

#[test]
fn a_gnupg_key_that_expired_does_not_count() {
    let signed = Signed::new();
    let gpg = Gpg::new("Ada <ada@example.com>", true);
    gpg.push(&signed.origin, "one\n", true);
    assert_eq!(gpg_fault(&signed, &gpg.home), "its key has expired");
}

/// What the mirror says was approved since a commit, by commit, and the approvals before that which are known.
fn approvals(signed: &Signed, accepted: Option<&str>, head: &str) -> (Vec<String>, Vec<String>, bool) {
    fetch(&signed.mirror).unwrap();
    let found = signed.mirror.approvals(&[signer("ada", &signed.ada)], accepted, head).unwrap();
    let [new, earlier] = [found.new, found.earlier].map(|some| some.into_iter().map(|one| one.commit).collect());
    (new, earlier, found.complete)
}

#[test]
fn what_was_approved_before_is_found_by_ancestry_and_not_by_dates() {
    let signed = Signed::new();
    let work = signed.origin.work.clone();
    let now = format!("{} +0000", jiff::Timestamp::now().as_second());
    let first = signed.push("one\n", None);
    // An approval on a branch, and on top of it commits that say that they are of 2004.
    git(&work, &["checkout", "--quiet", "-b", "side"]);
    let key = signed.ada.options();
    let message = ["commit", "--quiet", "--allow-empty", "-m", "Fine\n\nTenantd-Approve: ant@1; fleet=prod"];
    let words: Vec<&str> = key.iter().map(String::as_str).chain(message).collect();
    git_at(&work, &now, &words);
    let approval = git(&work, &["rev-parse", "HEAD"]);
    for _ in 0..20 {
        git_at(&work, "1072915200 +0000", &["commit", "--quiet", "--allow-empty", "-m", "old"]);
    }
    git(&work, &["checkout", "--quiet", "main"]);
    git_at(&work, &now, &["merge", "--quiet", "--no-ff", "-m", "merge", "side"]);
    signed.origin.push();
    let merged = git(&work, &["rev-parse", "HEAD"]);
    let since = |accepted: &str, head: &str| approvals(&signed, Some(accepted), head);
    assert_eq!(since(&first, &merged), (vec![approval.clone()], vec![], true));
    // The next head reaches it directly as well.
    let tree = git(&work, &["rev-parse", "HEAD^{tree}"]);
    let again = git_at(&work, &now, &["commit-tree", "-p", &merged, "-p", &approval, "-m", "again", &tree]);
    git(&work, &["reset", "--quiet", "--hard", &again]);
    signed.origin.push();
    assert_eq!(since(&merged, &again), (vec![], vec![approval.clone()], true));
    assert_eq!(since(&first, &again), (vec![approval.clone()], vec![], true));
    // Where it is unknown what was accepted, all others are old, and there may be more.
    assert_eq!(approvals(&signed, None, &again), (vec![], vec![approval.clone()], false));
    assert_eq!(approvals(&signed, None, &approval), (vec![approval.clone()], vec![], false));
    assert_eq!(since(&"1".repeat(40), &approval), (vec![], vec![approval], false));
}

#[test]
fn one_signature_in_another_form_does_not_count() {
    let signed = Signed::new();
    git(&signed.origin.work, &["config", "i18n.commitEncoding", "ISO-8859-1"]);
    let commit = signed.push("one\n", Some(&signed.ada));
    let raw = signed.raw(&commit);
    assert_eq!(signed.judge(VerifyMode::Head, None).unwrap(), ada());
    let begin = "-----BEGIN SSH SIGNATURE-----\n";
    let (head, body) = raw.split_once(begin).unwrap();
    let header = &raw[raw.find("gpgsig ").unwrap()..=raw.find("\n\n").unwrap()];
    for other in [
        // Two lines of the armour as one, an empty one more, blanks at the end of one.
        format!("{head}{begin}{}", body.replacen("\n ", "", 1)),
        format!("{head}{begin} \n{body}"),
        format!("{head}{begin}{}", body.replacen('\n', " \n", 1)),
        // The signature before another header.
        raw.replace(header, "").replacen("encoding ", &format!("{header}encoding "), 1),
    ] {
        assert_ne!(other, raw);
        let made = signed.push_raw(other.as_bytes());
        assert_ne!(made, commit);
        assert_eq!(signed.fault(), Fault::Unreadable, "{other}");
    }
}
